"""The Fisher information of a softmax, with and without its matrix, and metrics pulled back along a map."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from infogeo import (
    Categorical,
    DiagonalGaussian,
    Gaussian,
    PointMass,
    SoftmaxFisher,
    fisher_information,
    pullback_metric,
    softmax_fisher_information,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng


def dense(logits):
    """diag(p) - p p^T in 60 digits, for one row of logits."""
    with mp.workdps(60):
        weights = [mp.exp(mp.mpf(float(z))) if np.isfinite(z) else mp.mpf(0) for z in logits]
        p = [w / mp.fsum(weights) for w in weights]
        return np.array([[(a if i == j else 0) - a * b for j, b in enumerate(p)] for i, a in enumerate(p)])


@pytest.mark.parametrize("logits", [[0.3, -1.0, 2.0, 0.0], [60.0, 0.0, 1.0, -3.0], [0.0, -np.inf, 1.0, 1.0]])
def test_every_form_has_the_digits_of_the_matrix(logits):
    exact = dense(logits)
    truth = exact.astype(float)
    fisher = SoftmaxFisher(logits)
    np.testing.assert_allclose(softmax_fisher_information(logits), truth, rtol=1e-14)
    np.testing.assert_allclose(fisher.diagonal(), np.diag(truth), rtol=1e-14)
    assert float(fisher.trace()) == pytest.approx(np.trace(truth), rel=1e-14)
    v, w = np.array([0.5, -2.0, 1.0, 3.0]), np.array([1.0, 1.5, -1.0, 0.5])
    np.testing.assert_allclose(fisher.matvec(v), (exact @ v).astype(float), rtol=1e-13)
    assert float(fisher.inner_product(v, w)) == pytest.approx(float(v @ exact @ w), rel=1e-13)
    factor = np.stack([fisher.factor_matvec(e) for e in np.eye(4)], axis=1)
    np.testing.assert_allclose(factor @ factor.T, truth, rtol=1e-13, atol=1e-16 * np.trace(truth))
    np.testing.assert_allclose(fisher.factor_rmatvec(v), factor.T @ v, rtol=1e-13, atol=1e-16)


def test_it_is_the_covariance_of_the_score_and_the_hessian_of_the_cross_entropy():
    logits = np.array([0.2, -0.7, 1.1])
    p = np.exp(Categorical.from_logits(logits).log_probs)
    scores = np.eye(3) - p
    np.testing.assert_allclose(softmax_fisher_information(logits), np.einsum("y,yi,yj->ij", p, scores, scores))
    loss = lambda z: -Categorical.from_logits(z).log_probs[1]  # noqa: E731
    h, e = 1e-4, np.eye(3)
    hessian = [[(loss(logits + h * (a + b)) - loss(logits + h * (a - b)) - loss(logits - h * (a - b))
                 + loss(logits - h * (a + b))) / (4 * h * h) for a in e] for b in e]
    np.testing.assert_allclose(softmax_fisher_information(logits), hessian, atol=1e-7)


def test_symmetric_to_the_last_bit_singular_and_batched():
    logits = 3 * RNG(0).standard_normal((2, 5, 7))
    f = softmax_fisher_information(logits)
    assert f.shape == (2, 5, 7, 7)
    assert (f == np.swapaxes(f, -1, -2)).all()
    np.testing.assert_allclose(f.sum(axis=-1), 0, atol=1e-16)
    np.testing.assert_array_equal(SoftmaxFisher(logits).matvec(np.ones(7)), np.zeros((2, 5, 7)))
    for i in np.ndindex(2, 5):
        np.testing.assert_array_equal(f[i], softmax_fisher_information(logits[i]))
        np.testing.assert_array_equal(SoftmaxFisher(logits).matvec(np.arange(7.0))[i],
                                      SoftmaxFisher(logits[i]).matvec(np.arange(7.0)))


@pytest.mark.parametrize("k", [1, 3, 6])
def test_eigenpairs_of_a_batch_against_a_dense_solver(k):
    logits = 2 * RNG(1).standard_normal((4, 6))
    found = SoftmaxFisher(logits).eigenpairs(k)
    values = np.linalg.eigvalsh(softmax_fisher_information(logits))[:, ::-1]
    np.testing.assert_allclose(found.values, values[:, :k], atol=1e-15)
    assert found.vectors.shape == (4, 6, k)
    assert found.converged
    assert (found.residual <= 1e-15).all()
    np.testing.assert_allclose(np.swapaxes(found.vectors, 1, 2) @ found.vectors, np.broadcast_to(np.eye(k), (4, k, k)),
                               atol=1e-13)


def test_eigenpairs_with_ties_zeros_and_a_certain_outcome():
    found = SoftmaxFisher([0.0, 1.0, 1.0, 1.0, -np.inf, 0.0]).eigenpairs(6)
    values = np.linalg.eigvalsh(softmax_fisher_information([0.0, 1.0, 1.0, 1.0, -np.inf, 0.0]))[::-1]
    np.testing.assert_allclose(found.values, values, atol=1e-15)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(6), atol=1e-14)
    certain = SoftmaxFisher([50.0, 0.0])  # eigenvalue 2 p (1 - p), from a difference 16 digits below one
    assert float(certain.eigenpairs().values[0]) == pytest.approx(2 * np.exp(-50) / (1 + np.exp(-50)) ** 2, rel=1e-13)
    np.testing.assert_allclose(SoftmaxFisher(np.zeros(5)).eigenpairs(4).values, 0.2, rtol=1e-15)


def test_a_large_vocabulary_is_never_squared():
    fisher = SoftmaxFisher(3 * RNG(2).standard_normal(40_000))
    v = RNG(3).standard_normal(40_000)
    p = fisher.probs
    np.testing.assert_allclose(fisher.matvec(v), p * v - p * (p @ v), rtol=1e-9, atol=1e-18)
    pairs = fisher.eigenpairs(2)
    assert (pairs.residual <= 1e-14).all()
    assert pairs.values[0] <= p.max()
    assert float(pairs.values.sum()) < float(fisher.trace())
    with pytest.raises(ArgumentError, match="use SoftmaxFisher, which never forms them"):
        softmax_fisher_information(fisher.logits)


# ---------------------------------------------------------------------------------------------------- pulled back


def test_pullback_of_an_array_is_the_product_and_symmetric_to_the_last_bit():
    rng = RNG(4)
    jacobian, root = rng.standard_normal((3, 1, 4, 5)), rng.standard_normal((2, 4, 4))
    metric = root @ np.swapaxes(root, -1, -2)
    found = pullback_metric(jacobian, metric)
    assert found.shape == (3, 2, 5, 5)
    assert (found == np.swapaxes(found, -1, -2)).all()
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(found[i, j], jacobian[i, 0].T @ metric[j] @ jacobian[i, 0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("make", [
    lambda: DiagonalGaussian([[0.0, 1.0], [2.0, 1.0]], [[1.0, 2.0], [0.5, 3.0]]),
    lambda: Categorical.from_logits(RNG(5).standard_normal((2, 5))),
    lambda: Gaussian([[0.0, 1.0], [2.0, 1.0]], [np.eye(2), [[2.0, 0.5], [0.5, 1.0]]]),
])
def test_pullback_of_a_family_is_that_of_its_fisher_information(make):
    p = make()
    jacobian = RNG(6).standard_normal((2, p.coordinate_size, 3))
    found = pullback_metric(jacobian, p)
    wanted = np.swapaxes(jacobian, -1, -2) @ fisher_information(p) @ jacobian
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert (found == np.swapaxes(found, -1, -2)).all()


def test_pullback_of_a_softmax_is_the_fisher_information_of_logistic_regression():
    rng = RNG(7)
    x, weights = rng.standard_normal(3), rng.standard_normal((4, 3))
    jacobian = np.kron(np.eye(4), x)  # logits = W x, in the entries of W
    found = pullback_metric(jacobian, SoftmaxFisher(weights @ x))
    wanted = np.kron(softmax_fisher_information(weights @ x), np.outer(x, x))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
    batch = pullback_metric(jacobian[None], SoftmaxFisher(np.stack([weights @ x, weights @ -x])))
    np.testing.assert_allclose(batch[0], found, rtol=1e-14)


def test_reparametrisation_by_an_invertible_map_keeps_lengths():
    p = DiagonalGaussian([0.3], [2.0])
    to_log = np.diag([1.0, 2.0])  # d var / d log var = var
    v = np.array([0.7, -0.2])
    assert float(v @ pullback_metric(to_log, p) @ v) == pytest.approx(0.7**2 / 2 + 0.2**2 / 2, rel=1e-14)


# ---------------------------------------------------------------------------------------------------------- torch


def test_torch_gets_the_same_numbers_and_gradients():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    rng = RNG(8)
    logits, v, jacobian = rng.standard_normal((2, 4)), rng.standard_normal((2, 4)), rng.standard_normal((2, 4, 3))
    z, u, j = (torch.tensor(a, requires_grad=True) for a in (logits, v, jacobian))
    np.testing.assert_allclose(softmax_fisher_information(z).detach(), softmax_fisher_information(logits), rtol=1e-14)
    np.testing.assert_allclose(
        pullback_metric(j, SoftmaxFisher(z)).detach(), pullback_metric(jacobian, SoftmaxFisher(logits)), rtol=1e-13)
    check = torch.autograd.gradcheck
    assert check(softmax_fisher_information, (z,))
    assert check(lambda a, b: SoftmaxFisher(a).matvec(b), (z, u))
    assert check(lambda a, b: SoftmaxFisher(a).factor_matvec(b), (z, u))
    assert check(lambda a: SoftmaxFisher(a).trace(), (z,))
    assert check(lambda a, b: pullback_metric(a, SoftmaxFisher(b)), (j, z))
    assert check(lambda a: pullback_metric(a, DiagonalGaussian([[0.0, 1.0]], [[1.0, 2.0]])), (j,))
    assert SoftmaxFisher(z).eigenpairs(2).values == pytest.approx(SoftmaxFisher(logits).eigenpairs(2).values)
    assert softmax_fisher_information(z.float().detach()).dtype == torch.float64
    mixed = SoftmaxFisher(torch.tensor([0.0, 1.0])).matvec([1.0, 0.0])
    assert isinstance(mixed, torch.Tensor)


# --------------------------------------------------------------------------------------------------------- guards


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: SoftmaxFisher(1.0), ShapeError, r"wanted \(\.\.\., V\)"),
    (lambda: SoftmaxFisher(np.empty((0, 3))), ShapeError, "at least one outcome"),
    (lambda: SoftmaxFisher([0.0, np.nan]), DomainError, r"entry \(1,\) is nan"),
    (lambda: SoftmaxFisher([0.0, np.inf]), DomainError, r"entry \(1,\) is inf"),
    (lambda: SoftmaxFisher([[0.0, 1.0], [-np.inf, -np.inf]]), DomainError, r"row \(1,\) are minus infinity"),
    (lambda: SoftmaxFisher(["a"]), DomainError, "wanted real numbers"),
    (lambda: SoftmaxFisher([0.0, 1.0]).matvec([1.0]), ShapeError, r"wanted \(\.\.\., 2\)"),
    (lambda: SoftmaxFisher([[0.0, 1.0]] * 2).matvec([[1.0, 2.0]] * 3), ShapeError, "do not broadcast"),
    (lambda: SoftmaxFisher([0.0, 1.0]).matvec([1.0, np.inf]), DomainError, "must be finite"),
    (lambda: SoftmaxFisher([0.0, 1.0]).eigenpairs(3), ArgumentError, "at most 2"),
    (lambda: SoftmaxFisher([0.0, 1.0]).eigenpairs(0), ArgumentError, "at least 1"),
    (lambda: pullback_metric([1.0, 2.0], np.eye(2)), ShapeError, r"wanted \(\.\.\., m, n\)"),
    (lambda: pullback_metric(np.eye(2), np.ones((2, 3))), ShapeError, r"wanted \(\.\.\., m, m\)"),
    (lambda: pullback_metric(np.ones((3, 1)), np.eye(2)), ShapeError, "a row for each of the rows of the metric"),
    (lambda: pullback_metric(np.ones((2, 2, 1)), np.ones((3, 2, 2))), ShapeError, "do not broadcast"),
    (lambda: pullback_metric(np.eye(2), [[1.0, 0.5], [0.0, 1.0]]), DomainError, "not symmetric"),
    (lambda: pullback_metric([[np.nan]], [[1.0]]), DomainError, "must be finite"),
    (lambda: pullback_metric(np.ones((3, 1)), SoftmaxFisher([0.0, 1.0])), ShapeError, "logits of the softmax"),
    (lambda: pullback_metric(np.ones((3, 1)), DiagonalGaussian([0.0], [1.0])), ShapeError, "coordinates of Diagonal"),
    (lambda: pullback_metric(np.ones((1, 1)), PointMass([0.0])), UnsupportedFamilyError, "PointMass"),
])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
