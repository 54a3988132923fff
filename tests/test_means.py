"""Frechet means: closed forms, an independent search, and what the certificate promises."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from family_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

import infogeo
from infogeo import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Exponential,
    Gaussian,
    IsotropicGaussian,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    fisher_rao_distance,
    frechet_mean,
)
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.geometry import exponential_map, fisher_information, geodesic
from infogeo.means import UNIQUE

RNG = np.random.default_rng
BY_NAME = [pytest.param(case, id=case.family.__name__) for case in CASES]


def variance(mean, x, weights=None) -> float:
    return float(np.average(fisher_rao_distance(mean, x) ** 2, weights=weights))


# ------------------------------------------------------------------------------------------------------- all families


@pytest.mark.parametrize("case", BY_NAME)
def test_no_step_from_the_mean_lowers_the_variance(case):
    rng = RNG(0)
    x, weights = case.random(4, rng, case.spread), rng.random(4)
    tol = 1e-9 if case.closed else 1e-6
    found = frechet_mean(x, weights=weights, tol=tol)
    assert found.converged
    assert found.gradient_norm <= found.tolerance
    assert found.mean.batch_shape == ()
    assert found.variance == pytest.approx(variance(found.mean, x, weights), rel=1e-6)
    root = np.linalg.cholesky(fisher_information(found.mean))
    steps = rng.standard_normal((4, x.coordinate_size))
    steps = np.linalg.solve(root.T, (steps / np.linalg.norm(steps, axis=1, keepdims=True)).T).T  # of length one
    for size in (1e-3, 0.1):
        around = exponential_map(found.mean, size * np.stack([steps, -steps]))
        values = fisher_rao_distance(around[..., None], x[None, None]) ** 2 @ weights / weights.sum()
        assert values.min() > found.variance - 1e-9
        # at a mean the variance rises with the square of the step, in both directions
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=4 * size**3 * (1 + found.variance) + 1e-6)


@pytest.mark.parametrize("case", BY_NAME)
def test_two_members_are_divided_along_their_geodesic(case):
    p, q = case.pairs(1, 1)
    x = type(p).with_coordinates(p[0], np.stack([p[0].coordinates(), q[0].coordinates()]))
    found = frechet_mean(x, weights=[1.0, 3.0], tol=1e-9 if case.closed else 1e-5)
    wanted = geodesic(p[0], q[0], 0.75)
    distance = float(fisher_rao_distance(p[0], q[0]))
    assert float(fisher_rao_distance(found.mean, wanted)) < 1e-6 * distance
    assert found.variance == pytest.approx(3 / 16 * distance**2, rel=1e-6)


@pytest.mark.parametrize("case", BY_NAME)
def test_one_member_is_its_own_mean(case):
    p, _ = case.pairs(1, 2)
    for x in (p, p[0]):
        found = frechet_mean(x)
        np.testing.assert_array_equal(found.mean.coordinates(), p[0].coordinates())
        assert found.converged
        assert found.variance == found.gradient_norm == found.iterations == 0


@pytest.mark.parametrize("case", BY_NAME)
def test_whether_the_mean_is_unique_is_said_for_every_family(case):
    p, _ = case.pairs(1, 3)
    found = frechet_mean(p)
    name = case.family.__name__
    known = name in UNIQUE
    assert (found.unique, found.theorem) == ((True, UNIQUE[name]) if known else (None, ""))
    assert known or name in ("Gaussian", "VonMisesFisher")


def test_the_table_of_theorems_names_families_that_exist():
    assert all(issubclass(getattr(infogeo, name), infogeo.Family) for name in UNIQUE)


# ------------------------------------------------------------------------------------------------------ closed forms


def test_families_of_one_parameter_average_their_arc_length():
    values, weights = np.array([0.5, 2.0, 7.0]), np.array([1.0, 2.0, 1.0])
    share = weights / weights.sum()
    found = frechet_mean(Poisson(values), weights=weights)
    np.testing.assert_allclose(found.mean.rate, (share @ np.sqrt(values)) ** 2, rtol=1e-12)
    found = frechet_mean(Exponential(values), weights=weights)
    np.testing.assert_allclose(found.mean.rate, np.exp(share @ np.log(values)), rtol=1e-12)
    prob = values / 8
    found = frechet_mean(infogeo.Bernoulli(prob), weights=weights)
    np.testing.assert_allclose(found.mean.prob, np.sin(share @ np.arcsin(np.sqrt(prob))) ** 2, rtol=1e-12)


def test_covariances_that_commute_have_their_geometric_mean():
    rng = RNG(4)
    basis, logs = np.linalg.qr(rng.standard_normal((3, 3)))[0], 2 * rng.standard_normal((5, 3))
    x = CenteredGaussian((basis * np.exp(logs)[:, None, :]) @ basis.T)
    found = frechet_mean(x)
    np.testing.assert_allclose(found.mean.cov, (basis * np.exp(logs.mean(axis=0))) @ basis.T, rtol=1e-9)


def test_isotropic_normals_on_a_vertical_line():
    found = frechet_mean(IsotropicGaussian(np.ones((3, 2)), [0.1, 2.0, 30.0]))
    np.testing.assert_allclose(found.mean.var, np.exp(np.log([0.1, 2.0, 30.0]).mean()), rtol=1e-9)
    np.testing.assert_allclose(found.mean.mean, [1.0, 1.0], rtol=1e-9)


def test_diagonal_normals_are_averaged_by_coordinate():
    x = oracles.random_batch(DiagonalGaussian, 6, RNG(5))
    whole = frechet_mean(x).mean
    for i in range(3):
        part = frechet_mean(DiagonalGaussian(x.mean[:, [i]], x.var[:, [i]])).mean
        np.testing.assert_allclose([part.mean[0], part.var[0]], [whole.mean[i], whole.var[i]], rtol=1e-8)


def test_categoricals_against_a_fixed_point_on_the_sphere():
    """On the unit sphere of square roots y the mean is where the sum of (angle / sine) y_i points along itself."""
    x = Categorical.from_logits(1.5 * RNG(6).standard_normal((7, 5)))
    roots = np.exp(x.log_probs / 2)
    y = roots.mean(axis=0) / np.linalg.norm(roots.mean(axis=0))
    for _ in range(2000):
        cosine = roots @ y
        angle = np.arccos(cosine)
        y = y + (angle / np.sin(angle)) @ (roots - cosine[:, None] * y) / len(roots)
        y /= np.linalg.norm(y)
    found = frechet_mean(x)
    np.testing.assert_allclose(np.exp(found.mean.log_probs), y**2, rtol=1e-8)


def test_diagonal_normals_against_an_independent_minimiser():
    from scipy.optimize import minimize

    x = oracles.random_batch(DiagonalGaussian, 5, RNG(7), d=2)
    weights = np.array([1.0, 2.0, 0.0, 0.5, 3.0])

    def value(u):
        return variance(DiagonalGaussian(u[:2], np.exp(u[2:])), x, weights)

    best = minimize(value, np.zeros(4), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000})
    found = frechet_mean(x, weights=weights)
    assert found.variance == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(found.mean.mean, best.x[:2], atol=1e-5)
    np.testing.assert_allclose(found.mean.var, np.exp(best.x[2:]), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- full normals


def random_normals(n, d, rng, *, spread=1.0) -> Gaussian:
    cov = [oracles.random_covariance(d, rng) for _ in range(n)]
    return Gaussian(spread * rng.standard_normal((n, d)), cov)


def test_full_normals_of_one_dimension_are_the_diagonal_ones():
    x = oracles.random_batch(DiagonalGaussian, 5, RNG(8), d=1)
    full, diagonal = frechet_mean(x.to_full()), frechet_mean(x)
    np.testing.assert_allclose(full.mean.mean, diagonal.mean.mean, rtol=1e-8)
    np.testing.assert_allclose(full.mean.cov[..., 0], diagonal.mean.var, rtol=1e-8)
    assert full.unique is True
    assert frechet_mean(random_normals(2, 2, RNG(8))).unique is None


def test_full_normals_follow_affine_maps():
    x, rng = random_normals(6, 3, RNG(9)), RNG(10)
    turn = rng.standard_normal((3, 3))
    moved = turn @ x.cov @ turn.T
    mapped = Gaussian(x.mean @ turn.T + 2.0, (moved + np.swapaxes(moved, -1, -2)) / 2)
    there, here = frechet_mean(mapped), frechet_mean(x)
    assert there.variance == pytest.approx(here.variance, rel=1e-10)
    np.testing.assert_allclose(there.mean.mean, turn @ here.mean.mean + 2.0, rtol=1e-6)
    np.testing.assert_allclose(there.mean.cov, turn @ here.mean.cov @ turn.T, rtol=1e-6)


def test_one_covariance_for_all_has_a_mean_with_another():
    x = SharedCovarianceGaussian([[-1.0, 0.0], [1.0, 0.0]], np.eye(2))
    found = frechet_mean(x)
    assert isinstance(found.mean, Gaussian)
    np.testing.assert_allclose(found.mean.mean, [0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.mean.cov, np.diag([1.5, 1.0]), rtol=1e-10, atol=1e-12)


def test_full_normals_have_a_lower_variance_than_diagonal_ones():
    """The larger manifold has shorter curves, so its best point is at least as good."""
    x = oracles.random_batch(DiagonalGaussian, 5, RNG(11), d=2)
    assert frechet_mean(x.to_full()).variance < frechet_mean(x).variance


# ------------------------------------------------------------------------------------------------------- certificate


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 10]), st.floats(1e-8, 6.0))
def test_it_converges_near_and_far(seed, n, spread):
    rng = RNG(seed)
    for x in (
        oracles.random_batch(DiagonalGaussian, n, rng, spread=spread),
        oracles.random_batch(Categorical, n, rng, spread=spread),
        IsotropicGaussian(spread * rng.standard_normal((n, 2)), np.exp(spread * rng.standard_normal(n))),
    ):
        found = frechet_mean(x)
        assert found.gradient_norm <= found.tolerance
        assert found.iterations < 100


def test_where_plain_steps_of_length_one_go_astray():
    """Far apart on a hyperbolic plane the second derivative exceeds two, and a full step overshoots for good."""
    x = DiagonalGaussian([[-1e6], [1e6], [3e6]], [[1.0], [1.0], [1.0]])
    p = x.with_coordinates(x.coordinates().mean(axis=0))
    lengths = []
    for _ in range(30):
        step = infogeo.geometry.logarithm_map(p, x).mean(axis=0)
        lengths.append(float(np.sqrt(infogeo.geometry.inner_product(p, step, step))))
        p = exponential_map(p, step)
    assert min(lengths) > 1
    found = frechet_mean(x)
    assert found.converged
    assert found.iterations < 60


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_without_positive_curvature_the_gradient_bounds_the_distance_to_the_mean(seed):
    x = oracles.random_batch(DiagonalGaussian, 6, RNG(seed), spread=2.0)
    true = frechet_mean(x, tol=1e-12).mean
    for steps in (1, 2, 3):
        rough = frechet_mean(x, max_iter=steps, strict=False)
        assert fisher_rao_distance(rough.mean, true) <= rough.gradient_norm * (1 + 1e-9) + 1e-9


def test_missing_the_tolerance_is_an_error_that_carries_the_result():
    x = oracles.random_batch(DiagonalGaussian, 6, RNG(12), spread=2.0)
    with pytest.raises(ConvergenceError, match="after 1 steps the mean logarithm has length") as caught:
        frechet_mean(x, max_iter=1)
    found = caught.value.result
    assert not found.converged
    assert found.iterations == 1
    assert found.gradient_norm > found.tolerance
    assert frechet_mean(x, max_iter=1, strict=False).gradient_norm == found.gradient_norm


def test_a_search_that_finds_nothing_better_ends(monkeypatch):
    """A logarithm with noise never reaches the tolerance; the steps run out and the result says so."""
    from infogeo import means

    rng, exact = RNG(13), means.logarithm_map
    monkeypatch.setattr(means, "HALVINGS", 5)
    monkeypatch.setattr(means, "logarithm_map", lambda p, q: exact(p, q) + 1e-3 * rng.standard_normal((len(q), 6)))
    x = oracles.random_batch(DiagonalGaussian, 3, RNG(14))
    found = frechet_mean(x, max_iter=40, strict=False)
    assert not found.converged


# ------------------------------------------------------------------------------------------------ weights and borders


def test_weights_count_as_repetitions():
    x = oracles.random_batch(DiagonalGaussian, 3, RNG(15))
    many = frechet_mean(x[[0, 0, 1, 2, 2, 2]])
    for scale in (1.0, 1e-300, 1e300):
        found = frechet_mean(x, weights=scale * np.array([2.0, 1.0, 3.0]))
        np.testing.assert_allclose(found.mean.coordinates(), many.mean.coordinates(), rtol=1e-8)
        assert found.variance == pytest.approx(many.variance, rel=1e-12)
    np.testing.assert_array_equal(frechet_mean(x, weights=[0, 1, 0]).mean.mean, x[1].mean)


def test_outcomes_that_nobody_allows_stay_impossible():
    probs = np.array([[0.5, 0.0, 0.3, 0.2], [0.1, 0.0, 0.0, 0.9], [0.2, 0.0, 0.7, 0.1]])
    found = frechet_mean(Categorical.from_probs(probs))
    small = frechet_mean(Categorical.from_probs(probs[:, [0, 2, 3]]))
    assert found.converged
    assert np.isneginf(found.mean.log_probs[1])
    np.testing.assert_allclose(found.mean.log_probs[[0, 2, 3]], small.mean.log_probs)
    many = frechet_mean(Multinomial(np.log(np.maximum(probs, 1e-300)), 4))
    np.testing.assert_allclose(np.exp(many.mean.log_probs), np.exp(found.mean.log_probs), atol=1e-9)
    assert many.mean.trials == 4
    sure = frechet_mean(Categorical.from_probs([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(np.exp(sure.mean.log_probs), [0.0, 1.0])
    assert sure.variance == 0
    apart = frechet_mean(Categorical.from_probs([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(np.exp(apart.mean.log_probs), [0.5, 0.5])


def test_tensors_are_read_as_arrays():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    x = oracles.random_batch(DiagonalGaussian, 4, RNG(16))
    with pytest.raises(DomainError, match="record gradients"):
        frechet_mean(DiagonalGaussian(torch.tensor(x.mean, requires_grad=True), torch.tensor(x.var)))
    found = frechet_mean(DiagonalGaussian(torch.tensor(x.mean), torch.tensor(x.var)))
    assert isinstance(found.mean.mean, np.ndarray)
    np.testing.assert_array_equal(found.mean.mean, frechet_mean(x).mean.mean)


# ------------------------------------------------------------------------------------------------------------ guards


def test_guards():
    x = oracles.random_batch(DiagonalGaussian, 4, RNG(17))
    with pytest.raises(UnsupportedFamilyError, match="frechet_mean is not defined for PointMass"):
        frechet_mean(PointMass([[1.0], [2.0]]))
    with pytest.raises(UnsupportedFamilyError, match="takes distributions, found list"):
        frechet_mean([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"batch shape \(2, 2\), wanted \(n,\)"):
        frechet_mean(x[np.arange(4).reshape(2, 2)])
    with pytest.raises(ShapeError, match=r"weights: found shape \(3,\)"):
        frechet_mean(x, weights=[1, 1, 1])
    with pytest.raises(DomainError, match=r"weights: entry 2 is -1\.0"):
        frechet_mean(x, weights=[1, 1, -1, 1])
    with pytest.raises(DomainError, match="all are zero"):
        frechet_mean(x, weights=np.zeros(4))
    with pytest.raises(DomainError, match="finite"):
        frechet_mean(x, weights=[1, np.nan, 1, 1])
    for tol in (0.0, -1.0, np.nan):
        with pytest.raises(ArgumentError, match="tol: found"):
            frechet_mean(x, tol=tol)
    with pytest.raises(ArgumentError, match="max_iter"):
        frechet_mean(x, max_iter=0)
