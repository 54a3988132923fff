"""Matrix entropies, spectrum metrics, attention entropy: closed forms, slow twins, invariances claimed and not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

from infogeo.attention_entropies import (
    attention_entropy,
    attention_entropy_lower_bound,
    attention_logit_norm,
    extremal_attention_logits,
    mean_attention_entropy,
)
from infogeo.coding import coding_rate, rate_reduction
from infogeo.entropy import entropy_of_logits, shannon_entropy
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.matrix_entropy import (
    gaussian_gram,
    linear_gram,
    matrix_conditional_entropy,
    matrix_joint_entropy,
    matrix_mutual_information,
    matrix_renyi_entropy,
)
from infogeo.prompts import dataset_entropy, prompt_entropy
from infogeo.spectrum import (
    anisotropy,
    effective_rank,
    lidar,
    participation_ratio,
    rankme,
    stable_rank,
    top_component_share,
)

ORDERS = (0.3, 0.95, 1.0, 1.0 + 1e-9, 1.05, 2.0, 3.0, 50.0, math.inf)


def sample(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def renyi(p, alpha):
    """The obvious formula, in extended precision near order one."""
    p = np.asarray(p, dtype=np.longdouble)
    p = p[p > 0]
    if alpha == 1:
        return float(-(p * np.log(p)).sum())
    if math.isinf(alpha):
        return float(-np.log(p.max()))
    return float(np.log((p**alpha).sum()) / (1 - np.longdouble(alpha)))


def label_gram(labels):
    """Gram matrix of the kernel that is one for equal labels; its spectrum is that of the frequencies."""
    return (labels[:, None] == labels[None, :]).astype(float)


# Matrix entropies


@pytest.mark.parametrize("alpha", ORDERS)
def test_entropy_of_a_known_spectrum(alpha):
    p = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    rotation = np.linalg.qr(sample(5, 5))[0]
    gram = 7.3 * rotation @ np.diag(p) @ rotation.T
    tolerance = 1e-6 if 0 < abs(alpha - 1) < 1e-6 else 1e-12  # of the reference formula, which cancels there
    assert float(matrix_renyi_entropy(gram, alpha=alpha)) == pytest.approx(renyi(p, alpha), rel=tolerance)
    bits = matrix_renyi_entropy(gram, alpha=alpha, unit="bits")
    assert float(bits) == pytest.approx(float(matrix_renyi_entropy(gram, alpha=alpha)) / math.log(2), rel=1e-14)


def test_nothing_cancels_near_order_one():
    gram = np.diag([0.5, 0.3, 0.2])
    p = np.array([0.5, 0.3, 0.2])
    slope = -float((p * np.log(p) ** 2).sum() - (p * np.log(p)).sum() ** 2) / 2  # of the entropy in its order, at one
    for step in (1e-3, 1e-6, 1e-9, 1e-12):
        difference = float(matrix_renyi_entropy(gram, alpha=1 + step) - matrix_renyi_entropy(gram))
        assert difference == pytest.approx(slope * step, rel=2e-2, abs=5e-16)


@pytest.mark.parametrize("alpha", ORDERS)
def test_entropy_ends_at_zero_and_log_n(alpha):
    assert float(matrix_renyi_entropy(np.ones((6, 6)), alpha=alpha)) == pytest.approx(0, abs=1e-12)
    assert float(matrix_renyi_entropy(3 * np.eye(6), alpha=alpha)) == pytest.approx(math.log(6), rel=1e-12)


@given(st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=6), st.tuples(st.floats(0.05, 9), st.floats(0.05, 9)))
def test_entropy_falls_with_the_order(weights, orders):
    low, high = (float(matrix_renyi_entropy(np.diag(weights), alpha=alpha)) for alpha in sorted(orders))
    assert low >= high - 1e-12


def test_published_code_clamps_entries_of_the_gram_matrix_and_ours_does_not():
    low_rank = linear_gram(unit(sample(64, 8) @ sample(8, 256, seed=1)))
    exact = np.linalg.svd(unit(sample(64, 8) @ sample(8, 256, seed=1)), compute_uv=False) ** 2 / 64
    assert float(matrix_renyi_entropy(low_rank)) == pytest.approx(renyi(exact[:8], 1), rel=1e-9)
    assert 1.9 < float(matrix_renyi_entropy(low_rank)) < math.log(8)
    clamped = np.clip(low_rank, 0, None)
    values = np.clip(np.linalg.eigvalsh(clamped / 64), 0, None)
    assert renyi(values / values.sum(), 1) > 3  # one nat too many, and above log 8
    with pytest.raises(DomainError, match=r"gram: the matrix has the eigenvalue -0.00.* never clamp entries"):
        matrix_renyi_entropy(clamped)
    with pytest.raises(DomainError, match="never clamp entries"):
        matrix_renyi_entropy(clamped, alpha=2)


def test_order_two_of_a_raw_linear_gram_matrix_is_scaled_by_its_trace():
    gram = linear_gram(sample(64, 256))
    assumed = -math.log((gram**2).sum() / 64**2)  # what code that takes a unit diagonal for granted computes
    assert assumed == pytest.approx(-7.19, abs=0.1)
    assert float(matrix_renyi_entropy(gram, alpha=2)) == pytest.approx(3.94, abs=0.02)
    p = np.linalg.eigvalsh(gram / np.trace(gram))
    assert float(matrix_renyi_entropy(gram, alpha=2)) == pytest.approx(renyi(p, 2), rel=1e-12)


def test_rounding_below_zero_counts_as_zero():
    x = (sample(40, 3) @ sample(3, 40, seed=1)).astype(np.float32)
    gram = x @ x.T
    assert np.linalg.eigvalsh(gram.astype(float))[0] < 0
    p = np.linalg.svd(x.astype(float), compute_uv=False)[:3] ** 2
    assert float(matrix_renyi_entropy(gram)) == pytest.approx(renyi(p / p.sum(), 1), abs=1e-4)
    assert float(matrix_renyi_entropy(gram, alpha=2)) == pytest.approx(renyi(p / p.sum(), 2), abs=1e-4)


def test_mirror_entries_that_differ_by_rounding_are_averaged():
    gram = linear_gram(sample(5, 9)).astype(np.float32)
    gram[np.triu_indices(5, 1)] *= 1 + np.float32(1e-6)
    assert (gram != gram.T).any()
    for alpha in (1.0, 2.0):
        turned = float(matrix_renyi_entropy(gram.T, alpha=alpha))
        assert float(matrix_renyi_entropy(gram, alpha=alpha)) == pytest.approx(turned, rel=1e-14)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.0])
@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=2, max_size=25))
def test_with_the_kernel_of_equal_labels_it_is_the_entropy_of_frequencies(alpha, pairs):
    x, y = np.array(pairs).T
    frequency = [np.unique(v, return_counts=True, axis=0)[1] / len(pairs) for v in (x, y, np.array(pairs))]
    h = [renyi(p, alpha) for p in frequency]
    grams = label_gram(x), label_gram(y)
    assert float(matrix_renyi_entropy(grams[0], alpha=alpha)) == pytest.approx(h[0], abs=1e-9)
    assert float(matrix_joint_entropy(*grams, alpha=alpha)) == pytest.approx(h[2], abs=1e-9)
    assert float(matrix_conditional_entropy(*grams, alpha=alpha)) == pytest.approx(h[2] - h[1], abs=1e-9)
    assert float(matrix_mutual_information(*grams, alpha=alpha)) == pytest.approx(h[0] + h[1] - h[2], abs=1e-9)


@pytest.mark.parametrize(("alpha", "counts"), [(2.0, [[0, 1], [1, 3]]), (0.5, [[1, 2], [2, 11]])])
def test_matrix_information_may_be_negative_at_other_orders_than_one_and_is_not_clipped(alpha, counts):
    x, y = np.repeat(np.argwhere(np.ones((2, 2))), np.ravel(counts), axis=0).T
    p = np.array(counts) / np.sum(counts)
    exact = renyi(p.sum(axis=0), alpha) + renyi(p.sum(axis=1), alpha) - renyi(p.ravel(), alpha)
    assert exact < -0.005
    assert float(matrix_mutual_information(label_gram(x), label_gram(y), alpha=alpha)) == pytest.approx(exact, rel=1e-9)
    assert float(matrix_mutual_information(label_gram(x), label_gram(y))) > 0


def test_conditional_entropy_may_be_negative_where_the_diagonal_is_not_constant():
    assert float(matrix_conditional_entropy(np.diag([1.0, 0.0]), np.eye(2), unit="bits")) == pytest.approx(-1)


@settings(max_examples=40)
@given(st.integers(2, 12), st.floats(0.1, 5), st.integers(0, 1000))
def test_joint_entropy_is_at_least_each_and_information_not_negative_at_order_one(n, width, seed):
    x, y = sample(n, 2, seed=seed), sample(n, 3, seed=seed + 1)
    grams = gaussian_gram(x, width=width), gaussian_gram(y, width=1.0)
    for alpha in (0.5, 1.0, 2.0):
        assert float(matrix_conditional_entropy(*grams, alpha=alpha)) > -1e-9
    assert float(matrix_mutual_information(*grams)) > -1e-9


def test_joint_entropy_takes_any_number_of_matrices():
    grams = [gaussian_gram(sample(9, 1, seed=s), width=1.0) for s in range(40)]
    together = grams[0] * grams[1] * grams[2]
    assert float(matrix_joint_entropy(*grams[:3])) == pytest.approx(float(matrix_renyi_entropy(together)), rel=1e-12)
    assert float(matrix_joint_entropy(*grams)) == pytest.approx(math.log(9), rel=1e-3)
    assert float(matrix_joint_entropy(*[label_gram(np.arange(9) % 3)] * 400)) == pytest.approx(math.log(3), rel=1e-9)
    with pytest.raises(ArgumentError, match="found none"):
        matrix_joint_entropy()
    with pytest.raises(DomainError, match="no sample is non-zero in all"):
        matrix_joint_entropy(np.diag([1.0, 0.0]), np.diag([0.0, 1.0]))


def test_gaussian_kernel():
    x = sample(2, 7, 3)
    twin = np.exp(-((x[:, :, None] - x[:, None]) ** 2).sum(-1) / (2 * 0.7**2))
    np.testing.assert_allclose(gaussian_gram(x, width=0.7), twin, rtol=1e-12)
    np.testing.assert_allclose(gaussian_gram(x + 1e3, width=0.7), twin, rtol=1e-9)
    assert (np.diagonal(gaussian_gram(1e8 + x, width=0.7), axis1=1, axis2=2) == 1).all()
    assert float(matrix_renyi_entropy(gaussian_gram(x[0], width=1e-3))) == pytest.approx(math.log(7))
    assert float(matrix_renyi_entropy(gaussian_gram(x[0], width=1e4))) == pytest.approx(0, abs=1e-6)
    for width in (0.0, -1.0, math.inf):
        with pytest.raises(ArgumentError, match="width: found"):
            gaussian_gram(x, width=width)
    with pytest.raises(DomainError, match="choose another width"):
        gaussian_gram(x, width=1e-200)


def test_batches_of_matrices_equal_loops():
    grams, others = linear_gram(sample(2, 3, 6, 4)), gaussian_gram(sample(3, 6, 2), width=1.0)
    for alpha in (0.5, 1.0, 2.0, math.inf):
        both = matrix_mutual_information(grams, others, alpha=alpha)
        assert both.shape == (2, 3)
        for i, j in np.ndindex(2, 3):
            alone = matrix_mutual_information(grams[i, j], others[j], alpha=alpha)
            assert isinstance(alone, float)
            assert both[i, j] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("gram", "error", "message"),
    [
        (np.ones((2, 3)), ShapeError, "wanted square matrices"),
        (np.ones(3), ShapeError, r"wanted \(..., n, d\)"),
        (np.ones((0, 0)), ShapeError, "at least one matrix"),
        (np.zeros((3, 3)), DomainError, "gram: the matrix has trace zero"),
        (np.stack([np.eye(2), np.zeros((2, 2))]), DomainError, r"gram: matrix \(1,\) has trace zero"),
        ([[1.0, 0.5], [0.4, 1.0]], DomainError, r"entry \(0, 1\) and its mirror differ"),
        ([[1.0, 2.0], [2.0, 1.0]], DomainError, "eigenvalue -0.5 of its trace, below zero"),
        ([[-1.0, 0.0], [0.0, 2.0]], DomainError, r"diagonal entry \(0,\) is negative"),
        ([[1.0, np.nan], [np.nan, 1.0]], DomainError, r"entry \(0, 1\) is nan"),
        ([[1.0, np.inf], [np.inf, 1.0]], DomainError, "is inf"),
    ],
)
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_what_is_no_gram_matrix_is_refused(gram, error, message, alpha):
    with pytest.raises(error, match=message):
        matrix_renyi_entropy(gram, alpha=alpha)
    with pytest.raises(error):
        matrix_joint_entropy(gram, gram, alpha=alpha)


def test_rounding_of_the_solver_does_not_count_at_low_orders():
    x = sample(30, 3)
    p = np.linalg.svd(x, compute_uv=False) ** 2
    assert float(matrix_renyi_entropy(linear_gram(x), alpha=0.1)) == pytest.approx(renyi(p / p.sum(), 0.1), rel=1e-12)


def test_orders_units_and_sizes_that_do_not_exist():
    for alpha in (0, -1.0):
        with pytest.raises(ArgumentError, match="wanted a positive order"):
            matrix_renyi_entropy(np.eye(2), alpha=alpha)
    with pytest.raises(ArgumentError, match="found NaN"):
        matrix_renyi_entropy(np.eye(2), alpha=math.nan)
    with pytest.raises(ArgumentError, match="wanted 'nats' or 'bits'"):
        matrix_renyi_entropy(np.eye(2), unit="dits")
    with pytest.raises(ShapeError, match=r"different numbers of samples: gram_x .* gram_y"):
        matrix_mutual_information(np.eye(2), np.eye(3))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.01, 2.0, 3.0])
def test_gradients_of_matrix_entropies(alpha):
    torch = pytest.importorskip("torch")
    x = torch.tensor(sample(5, 7), requires_grad=True)
    y = torch.tensor(sample(5, 2, seed=1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: matrix_renyi_entropy(linear_gram(a), alpha=alpha), (x,))
    assert torch.autograd.gradcheck(
        lambda a, b: matrix_mutual_information(linear_gram(a), gaussian_gram(b, width=1.0), alpha=alpha), (x, y)
    )
    value = matrix_renyi_entropy(linear_gram(x), alpha=alpha)
    plain = float(matrix_renyi_entropy(linear_gram(sample(5, 7)), alpha=alpha))
    assert float(value.detach()) == pytest.approx(plain, rel=1e-13)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_gradient_is_finite_at_repeated_and_at_zero_eigenvalues(alpha):
    torch = pytest.importorskip("torch")
    repeated = torch.eye(4, dtype=torch.float64, requires_grad=True)
    matrix_renyi_entropy(repeated, alpha=alpha).backward()
    np.testing.assert_allclose(repeated.grad, np.zeros((4, 4)), atol=1e-12)  # the largest entropy there is
    low_rank = torch.tensor(sample(6, 2), requires_grad=True)
    matrix_renyi_entropy(linear_gram(low_rank), alpha=alpha).backward()
    assert torch.isfinite(low_rank.grad).all()


# Spectrum metrics


def covariance_spectrum(x):
    return np.clip(np.linalg.eigvalsh(np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1])), 0, None)


def directions(x):
    return unit(x - x.mean(axis=0))


def slow_anisotropy(x):
    cosines = unit(x) @ unit(x).T
    return cosines[~np.eye(len(x), dtype=bool)].mean()


def slow_rankme(x, epsilon=1e-7):
    s = np.linalg.svd(x, compute_uv=False)
    p = s / s.sum() + epsilon
    return np.exp(-(p * np.log(p)).sum())


SLOW = {
    effective_rank: lambda x: np.exp(renyi(np.linalg.svd(x, compute_uv=False) / np.linalg.norm(x, "nuc"), 1)),
    rankme: slow_rankme,
    participation_ratio: lambda x: covariance_spectrum(x).sum() ** 2 / (covariance_spectrum(x) ** 2).sum(),
    stable_rank: lambda x: (np.linalg.norm(x) / np.linalg.norm(x, 2)) ** 2,
    top_component_share: lambda x: covariance_spectrum(x).max() / covariance_spectrum(x).sum(),
    anisotropy: slow_anisotropy,
    prompt_entropy: lambda x: float(matrix_renyi_entropy(linear_gram(directions(x)))),
}
MANY = tuple(SLOW)
CENTERED = {participation_ratio, top_component_share, prompt_entropy}


@pytest.mark.parametrize("metric", MANY)
@pytest.mark.parametrize("shape", [(30, 4), (4, 30), (7, 7), (2, 3), (5, 1)])
def test_metrics_equal_their_slow_twins(metric, shape):
    if metric is prompt_entropy and shape == (5, 1):
        assert float(metric(sample(*shape))) == pytest.approx(0, abs=1e-12)
        return
    x = sample(*shape) * np.linspace(0.5, 3, shape[1]) + 0.3
    assert float(metric(x)) == pytest.approx(SLOW[metric](x), rel=1e-9)


@pytest.mark.parametrize("metric", MANY)
def test_batches_of_metrics_equal_loops(metric):
    x = sample(2, 3, 6, 4) + 0.5
    value = metric(x)
    assert value.shape == (2, 3)
    assert isinstance(metric(x[0, 0]), float)
    for i, j in np.ndindex(2, 3):
        assert value[i, j] == pytest.approx(metric(x[i, j]), rel=1e-12)


@pytest.mark.parametrize("metric", MANY)
@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(3, 9), st.integers(2, 9)), seed=st.integers(0, 999), scale=st.floats(1e-150, 1e150)
)
def test_metrics_do_not_change_with_scale_rotation_and_order(metric, shape, seed, scale):
    x = sample(*shape, seed=seed) + 0.2
    value = float(metric(x))
    rotation = np.linalg.qr(sample(shape[1], shape[1], seed=seed + 1))[0]
    assert float(metric(scale * x)) == pytest.approx(value, rel=1e-9)
    assert float(metric(x @ rotation)) == pytest.approx(value, rel=1e-9)
    assert float(metric(x[np.random.default_rng(seed).permutation(shape[0])])) == pytest.approx(value, rel=1e-9)
    most = min(shape[0] - (metric in CENTERED), shape[1])
    low, high = {
        top_component_share: (1 / most, 1), anisotropy: (-1 / (shape[0] - 1), 1), prompt_entropy: (0, math.log(most)),
    }.get(metric, (1, most))  # fmt: skip
    assert low - 1e-9 <= value <= high + 1e-4 * (metric is rankme) + 1e-9


@pytest.mark.parametrize("metric", MANY)
def test_only_centered_metrics_do_not_change_when_all_is_moved(metric):
    x = sample(8, 5)
    same = float(metric(x + 10.0)) == pytest.approx(float(metric(x)), rel=1e-9)
    assert same is (metric in CENTERED)


@pytest.mark.parametrize("metric", MANY)
def test_only_anisotropy_does_not_change_when_single_rows_are_scaled(metric):
    x = sample(8, 5)
    rows = np.logspace(-200, 0, 8)[:, None] if metric is anisotropy else np.linspace(0.1, 10, 8)[:, None]
    same = float(metric(rows * x)) == pytest.approx(float(metric(x)), rel=1e-9)
    assert same is (metric is anisotropy)


@pytest.mark.parametrize("metric", MANY)
def test_gradients_of_metrics(metric):
    torch = pytest.importorskip("torch")
    x = sample(2, 4, 3) + 0.5
    recorded = torch.tensor(x, requires_grad=True)
    assert torch.autograd.gradcheck(metric, (recorded,))
    np.testing.assert_allclose(metric(recorded).detach().numpy(), metric(x), rtol=1e-12)
    alike = torch.eye(5, dtype=torch.float64, requires_grad=True)  # singular values that coincide
    metric(alike).backward()
    assert torch.isfinite(alike.grad).all()
    assert metric(torch.tensor(x, dtype=torch.bfloat16)).dtype == torch.float64


@pytest.mark.parametrize("metric", MANY)
def test_bad_matrices_are_refused(metric):
    x = sample(4, 3)
    for entry in (np.nan, np.inf):
        with pytest.raises(DomainError, match=r"x: entry \(1, 2\)"):
            metric(np.where(np.arange(12).reshape(4, 3) == 5, entry, x))
    with pytest.raises(DomainError, match=r"x: matrix \(1,\) is zero everywhere"):
        metric(np.stack([x, 0 * x]))
    with pytest.raises(ShapeError, match=r"give x\[None, :\]"):
        metric(x[0])
    for shape in ((0, 3), (3, 0), (0, 3, 3)):
        with pytest.raises(ShapeError, match="at least one matrix, row and column"):
            metric(np.empty(shape))
    with pytest.raises(ShapeError, match="different lengths"):
        metric([[1.0], [1.0, 2.0]])
    with pytest.raises(DomainError, match="wanted real numbers"):
        metric(x + 1j)


def test_one_row_and_constant_columns():
    assert float(effective_rank([[3.0, 4.0]])) == pytest.approx(1, abs=1e-12)
    assert float(stable_rank([[3.0, 4.0]])) == pytest.approx(1)
    for metric in (*CENTERED, anisotropy):
        with pytest.raises(ShapeError, match="at least 2 rows"):
            metric([[3.0, 4.0]])
    for metric in CENTERED:
        with pytest.raises(DomainError, match="x: the matrix has equal rows"):
            metric(np.full((7, 3), 0.1))
        assert float(metric(np.c_[sample(9, 2), np.full(9, 1 / 3)])) == pytest.approx(float(metric(sample(9, 2))))
    with pytest.raises(DomainError, match="row 2 is zero, and has no direction"):
        anisotropy([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    with pytest.raises(DomainError, match="row 1 is the mean of the rows"):
        prompt_entropy([[1.0, 0.1], [0.0, 0.1], [-1.0, 0.1]])


def test_singular_values_below_half_the_digits_count():
    x = np.diag([1.0, 1e-9])
    s = np.array([1.0, 1e-9]) / (1 + 1e-9)
    assert float(effective_rank(x)) - 1 == pytest.approx(math.expm1(renyi(s, 1)), rel=1e-6)


def test_rankme_adds_the_published_number_and_says_so():
    x = np.diag([1.0, 1.0, 0.0])
    p = np.array([0.5 + 1e-7, 0.5 + 1e-7, 1e-7])
    assert float(rankme(x)) == pytest.approx(float(np.exp(-(p * np.log(p)).sum())), rel=1e-14)
    assert float(rankme(x)) > 2 + 1e-6
    assert float(rankme(x, epsilon=0)) == float(effective_rank(x))
    with pytest.raises(ArgumentError, match="epsilon: found -1, wanted a number of at least 0"):
        rankme(x, epsilon=-1)


def slow_lidar(x, delta=1e-4):
    n, q, d = x.shape
    means = x.mean(axis=1)
    between = sum(np.outer(m - means.mean(axis=0), m - means.mean(axis=0)) for m in means) / n
    within = sum(np.outer(x[i, j] - means[i], x[i, j] - means[i]) for i in range(n) for j in range(q)) / (n * q)
    root = fractional_matrix_power(within + delta * np.eye(d), -0.5)
    values = np.clip(np.linalg.eigvalsh(root @ between @ root), 0, None)
    return np.exp(renyi(values / values.sum(), 1))


@pytest.mark.parametrize(("n", "d"), [(20, 4), (5, 12)])
def test_lidar_equals_its_definition_and_moves_but_does_not_scale(n, d):
    x = sample(n, 1, d) * np.linspace(1, 3, d) + 0.2 * sample(n, 6, d, seed=1)
    assert float(lidar(x)) == pytest.approx(slow_lidar(x), rel=1e-8)
    assert float(lidar(x, delta=0.3)) == pytest.approx(slow_lidar(x, 0.3), rel=1e-8)
    assert float(lidar(x + 5)) == pytest.approx(float(lidar(x)), rel=1e-9)
    assert float(lidar(0.01 * x)) != pytest.approx(float(lidar(x)), rel=1e-3)  # delta does not scale with x
    np.testing.assert_allclose(lidar(np.stack([x, x[::-1]])), [lidar(x)] * 2, rtol=1e-9)
    assert 1 <= float(lidar(x)) <= min(n - 1, d)
    torch = pytest.importorskip("torch")
    assert torch.autograd.gradcheck(lidar, (torch.tensor(x[:4], requires_grad=True),))


def test_lidar_of_what_has_no_objects():
    with pytest.raises(ShapeError, match="two objects and two views"):
        lidar(sample(4, 3))
    with pytest.raises(ShapeError, match="two objects and two views"):
        lidar(sample(4, 1, 3))
    with pytest.raises(DomainError, match="means of the objects: the matrix has equal rows"):
        lidar(np.tile(sample(1, 5, 3), (4, 1, 1)))
    with pytest.raises(ArgumentError, match="delta: found 0, wanted a positive number"):
        lidar(sample(4, 3, 2), delta=0)


def test_prompt_entropy_by_order_share_and_length():
    x = sample(2, 12, 5)
    for alpha in (0.5, 2.0, 3.0):
        twin = [float(matrix_renyi_entropy(linear_gram(directions(m)), alpha=alpha)) for m in x]
        np.testing.assert_allclose(prompt_entropy(x, alpha=alpha), twin, rtol=1e-9)
    np.testing.assert_allclose(prompt_entropy(x, relative=True), prompt_entropy(x) / math.log(5), rtol=1e-12)
    np.testing.assert_allclose(prompt_entropy(x, unit="bits"), prompt_entropy(x) / math.log(2), rtol=1e-12)
    with pytest.raises(ShapeError, match="relative=True needs"):
        prompt_entropy(x[..., :1], relative=True)


def test_dataset_entropy_is_that_of_the_means():
    prompts = [sample(3, t, 4, seed=t) for t in (5, 2, 9, 1, 7)]
    means = np.stack([p.mean(axis=1) for p in prompts], axis=1)
    np.testing.assert_allclose(dataset_entropy(prompts), prompt_entropy(means), rtol=1e-12)
    torch = pytest.importorskip("torch")
    value = dataset_entropy([torch.tensor(prompts[0], requires_grad=True), *prompts[1:]], relative=True)
    np.testing.assert_allclose(value.detach().numpy(), dataset_entropy(prompts, relative=True), rtol=1e-12)
    for bad in ([prompts[0]], [prompts[0], prompts[1][..., :2]], [prompts[0], prompts[1][0]]):
        with pytest.raises(ShapeError, match="at least two of shape"):
            dataset_entropy(bad)
    with pytest.raises(DomainError, match=r"prompt 1: entry \(0, 0\) is nan"):
        dataset_entropy([[[0.0]], [[np.nan]]])


@pytest.mark.parametrize("shape", [(20, 3), (3, 20), (1, 4)])
def test_coding_rate(shape):
    n, d = shape
    x = sample(*shape)
    twin = np.linalg.slogdet(np.eye(d) + d / (n * 0.25) * x.T @ x)[1] / 2
    assert float(coding_rate(x, epsilon=0.5)) == pytest.approx(twin, rel=1e-12)
    assert float(coding_rate(x, epsilon=0.5, unit="bits")) == pytest.approx(twin / math.log(2), rel=1e-12)
    assert float(coding_rate(0 * x, epsilon=0.5)) == 0
    rotation = np.linalg.qr(sample(d, d, seed=1))[0]
    assert float(coding_rate(x @ rotation, epsilon=0.5)) == pytest.approx(twin, rel=1e-12)
    assert float(coding_rate(2 * x, epsilon=1.0)) == pytest.approx(twin, rel=1e-12)
    assert float(coding_rate(2 * x, epsilon=0.5)) > twin + 0.1  # it grows with scale
    assert float(coding_rate(x + 3, epsilon=0.5)) != pytest.approx(twin, rel=1e-3)  # and is not centered
    torch = pytest.importorskip("torch")
    assert torch.autograd.gradcheck(lambda t: coding_rate(t, epsilon=0.5), (torch.tensor(x, requires_grad=True),))


def test_coding_rate_of_few_strong_directions():
    # against one singular value of sqrt(15) t the identity has no digit left in the determinant
    for size in (1e3, 1e6, 1e9):
        exact = math.log1p(9 * size**2) / 2
        assert float(coding_rate(size * np.ones((5, 3)), epsilon=1.0)) == pytest.approx(exact, rel=1e-14)
    x = sample(20, 2) @ sample(2, 8, seed=1)
    small = np.linalg.svd(x, compute_uv=False)[:2]
    exact = np.log1p((small * 1e6) ** 2 * 8 / 20).sum() / 2
    assert float(coding_rate(x, epsilon=1e-6)) == pytest.approx(exact, rel=1e-13)
    assert float(coding_rate(1e-9 * np.eye(2), epsilon=1.0)) == pytest.approx(1e-18, rel=1e-12)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_rate_reduction_is_not_negative(labels, seed):
    x = sample(2, len(labels), 3, seed=seed)
    value = rate_reduction(x, labels, epsilon=0.3)
    assert (value >= -1e-12).all()
    if len(set(labels)) == 1:
        np.testing.assert_allclose(value, 0, atol=1e-12)


def test_rate_reduction_of_classes_apart_and_bad_input():
    x = np.kron(np.eye(2), np.ones((3, 1)))
    apart = rate_reduction(x, [0, 0, 0, 1, 1, 1], epsilon=0.1)
    mixed = rate_reduction(x, [0, 1, 0, 1, 0, 1], epsilon=0.1)
    assert float(apart) > 1.5
    assert float(mixed) < 0.2
    alone = [float(coding_rate(x[3 * k : 3 * k + 3], epsilon=0.1)) for k in range(2)]
    assert float(apart) == pytest.approx(float(coding_rate(x, epsilon=0.1)) - np.mean(alone), rel=1e-12)
    for labels, error, message in (([0, 1], ShapeError, r"wanted \(6,\)"), ([0.5] * 6, DomainError, "whole numbers")):
        with pytest.raises(error, match=message):
            rate_reduction(x, labels, epsilon=0.1)
    with pytest.raises(ArgumentError, match="epsilon: found 0"):
        rate_reduction(x, [0] * 6, epsilon=0)
    with pytest.raises(DomainError, match="scale x down"):
        coding_rate(1e200 * x, epsilon=0.1)


def test_numbers_at_the_end_of_the_range_are_refused_or_right():
    assert float(matrix_renyi_entropy(1e308 * np.eye(3))) == pytest.approx(math.log(3), rel=1e-15)
    assert float(matrix_renyi_entropy(1e-310 * np.eye(3))) == pytest.approx(math.log(3), rel=1e-15)
    with pytest.raises(DomainError, match="inner products leave the range"):
        linear_gram(1e200 * np.eye(2))
    views = sample(3, 2, 40)
    for x, delta in ((1e200 * views, 1e-4), (1e10 * views, 1e-4), (1e6 * views, 1e-4), (views, 1e-300)):
        with pytest.raises(DomainError, match="lost in rounding"):
            lidar(x, delta=delta)
    with pytest.raises(DomainError, match="out of the range of float64"):
        attention_logit_norm(1e200 * np.eye(3), np.eye(3), 1e200 * np.eye(3))
    with pytest.raises(ShapeError, match="do not broadcast: x"):
        attention_logit_norm(np.ones((2, 3, 3)), np.eye(3), np.eye(3), context=np.ones((3, 4, 3)))
    with pytest.raises(ShapeError, match="do not broadcast: sigma"):
        attention_entropy_lower_bound([1.0, 2.0, 3.0], [2, 3])
    with pytest.raises(ShapeError, match="wanted a sequence of arrays"):
        dataset_entropy(3)


# Attention


def softmax(logits):
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def causal_map(*shape, seed=0):
    t, k = shape[-2:]
    later = np.arange(k) > np.arange(t)[:, None] + k - t
    return softmax(np.where(later, -np.inf, sample(*shape, seed=seed)))


def test_attention_entropy_is_shannon_entropy_of_each_row():
    maps = softmax(3 * sample(2, 4, 5, 7))
    np.testing.assert_allclose(attention_entropy(maps), shannon_entropy(maps), rtol=1e-12)
    np.testing.assert_allclose(mean_attention_entropy(maps), shannon_entropy(maps).mean(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(attention_entropy(maps, relative=True), shannon_entropy(maps) / math.log(7), rtol=1e-12)
    np.testing.assert_allclose(attention_entropy(maps, unit="bits"), shannon_entropy(maps) / math.log(2), rtol=1e-12)


def test_a_long_context_has_no_bias():
    k = 100_000
    uniform = np.full((1, k), 1 / k)
    assert float(mean_attention_entropy(uniform)) == pytest.approx(math.log(k), rel=1e-12)
    assert -(uniform * np.log(uniform + 1e-6)).sum() < math.log(k) - 0.09  # with a small number in the logarithm


@pytest.mark.parametrize(("t", "k"), [(5, 5), (3, 8), (1, 4)])
def test_causal_attention_is_compared_with_the_keys_visible(t, k):
    maps = causal_map(2, t, k)
    seen = k - t + 1 + np.arange(t)
    shares = attention_entropy(maps, causal=True, relative=True)
    free = seen > 1
    np.testing.assert_allclose(shares[:, free], (shannon_entropy(maps) / np.log(np.maximum(seen, 2)))[:, free])
    assert np.isnan(shares[:, ~free]).all()
    np.testing.assert_allclose(mean_attention_entropy(maps, causal=True, relative=True), shares[:, free].mean(axis=1))
    uniform = (np.arange(k) < seen[:, None]) / seen[:, None]
    assert float(mean_attention_entropy(uniform, causal=True, relative=True)) == pytest.approx(1, rel=1e-12)


def test_bad_attention_is_refused():
    maps = causal_map(2, 3, 3)
    with pytest.raises(DomainError, match=r"the weights of row \(1, 2\) sum to 1.1, wanted 1 within 1e-09"):
        attention_entropy(maps + 0.1 * (np.arange(18).reshape(2, 3, 3) == 15))
    with pytest.raises(DomainError, match=r"row 1 sum to 0.98"):
        attention_entropy([[0.5, 0.5], [0.5, 0.48]])
    with pytest.raises(DomainError, match=r"entry \(0, 1\) is -0.5; a weight is not negative"):
        attention_entropy([[1.5, -0.5]])
    with pytest.raises(DomainError, match=r"entry \(0, 1\) is 0.3, weight on a key after the query"):
        attention_entropy([[0.7, 0.3], [0.5, 0.5]], causal=True)
    with pytest.raises(ShapeError, match="a causal mask needs at least as many keys"):
        attention_entropy(softmax(sample(3, 2)), causal=True)
    with pytest.raises(ShapeError, match="none of which sees two"):
        mean_attention_entropy([[1.0]], causal=True, relative=True)
    with pytest.raises(ShapeError, match="none of which sees two"):
        mean_attention_entropy([[1.0], [1.0]], relative=True)
    with pytest.raises(DomainError, match=r"entry \(0, 0\) is nan"):
        attention_entropy([[np.nan, 1.0]])
    assert attention_entropy(maps.astype(np.float32)).dtype == np.float64  # single precision sums are accepted


def test_gradients_of_attention_entropy():
    torch = pytest.importorskip("torch")
    logits = torch.tensor(sample(2, 4, 4), requires_grad=True)
    later = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)

    def shares(scores):
        maps = torch.where(later, -torch.inf, scores).softmax(dim=-1)
        return mean_attention_entropy(maps, causal=True, relative=True)

    assert torch.autograd.gradcheck(shares, (logits,))
    shares(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("t", [2, 8, 64])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0, 20.0])
def test_lower_bound_is_attained(t, sigma):
    logits = extremal_attention_logits(sigma, t)
    assert np.linalg.norm(logits) == pytest.approx(sigma, rel=1e-14)
    bound = float(attention_entropy_lower_bound(sigma, t))
    assert float(entropy_of_logits(logits)) == pytest.approx(bound, rel=1e-13, abs=1e-15)
    other = sample(200, t, seed=t)
    other *= sigma / np.linalg.norm(other, axis=1, keepdims=True)
    assert (entropy_of_logits(other) >= bound - 1e-14).all()


def test_lower_bound_at_its_ends():
    np.testing.assert_allclose(attention_entropy_lower_bound(0.0, [1, 2, 50]), np.log([1, 2, 50]), rtol=1e-15)
    np.testing.assert_array_equal(attention_entropy_lower_bound([1.0, 1e308], [1, 10**6]), [0, 0])
    falling = attention_entropy_lower_bound(np.linspace(0, 30, 100), 16)
    assert (np.diff(falling) < 0).all()
    assert extremal_attention_logits(3.0, 1).tolist() == [0]
    for sigma, keys, message in ((-1.0, 2, "a norm is not negative"), (1.0, 0, "at least 1"), (np.nan, 2, "nan")):
        with pytest.raises(DomainError, match=message):
            attention_entropy_lower_bound(sigma, keys)
    with pytest.raises(DomainError, match="whole numbers"):
        attention_entropy_lower_bound(1.0, 2.5)
    with pytest.raises(ShapeError, match="single numbers"):
        extremal_attention_logits([1.0, 2.0], 3)
    torch = pytest.importorskip("torch")
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: attention_entropy_lower_bound(s, 7), (sigma,))


def test_random_heads_never_fall_below_the_bound():
    rng = np.random.default_rng(3)
    for _ in range(40):
        t, d, h = rng.integers(2, 20), rng.integers(1, 9), rng.integers(1, 5)
        x = rng.normal(size=(50, t, d)) * rng.choice([0.1, 0.5, 1.0])
        query, key = rng.normal(size=(2, 50, d, h)) * rng.choice([0.1, 0.5, 1.0])
        sigma = attention_logit_norm(x, query, key)
        logits = (x @ query) @ np.swapaxes(x @ key, -1, -2) / math.sqrt(h)
        assert (np.linalg.norm(logits, axis=-1) <= sigma[:, None] * (1 + 1e-12)).all()
        bound = attention_entropy_lower_bound(sigma, t)
        assert (attention_entropy(softmax(logits)) >= bound[:, None] - 1e-12).all()
        seen = np.arange(t) + 1
        masked = softmax(np.where(np.arange(t) >= seen[:, None], -np.inf, logits))
        by_query = attention_entropy_lower_bound(sigma[:, None], seen)
        assert (attention_entropy(masked, causal=True) >= by_query - 1e-12).all()


def test_norm_of_logits():
    x, context, query, key = sample(5, 4), sample(7, 3, seed=1), sample(4, 2, seed=2), sample(3, 2, seed=3)
    twin = np.linalg.norm(query @ key.T, 2) * np.linalg.norm(x, 2) * np.linalg.norm(context, 2)
    assert float(attention_logit_norm(x, query, key, context=context)) == pytest.approx(twin / math.sqrt(2), rel=1e-12)
    assert float(attention_logit_norm(x, query, key, context=context, scale=1.0)) == pytest.approx(twin, rel=1e-12)
    same = np.linalg.norm(query @ query.T, 2) * np.linalg.norm(x @ x.T, 2) / math.sqrt(2)
    assert float(attention_logit_norm(x, query, query)) == pytest.approx(same, rel=1e-12)
    with pytest.raises(ShapeError, match="torch Linear must be transposed"):
        attention_logit_norm(x, query.T, key.T, context=context)
    with pytest.raises(ArgumentError, match="scale: found 0"):
        attention_logit_norm(x, query, query, scale=0.0)
    torch = pytest.importorskip("torch")
    weights = torch.tensor(query, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: attention_logit_norm(x, w, w), (weights,))
