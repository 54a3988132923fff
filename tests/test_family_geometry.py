"""Each family's geometry against answers found another way; the families are the rows of tests/family_cases.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from family_cases import CASES, FamilyCase, shortest_path_length

from infogeo import (
    exponential_map,
    fisher_information,
    fisher_rao_distance,
    geodesic,
    inner_product,
    jeffreys_divergence,
    kl_divergence,
    logarithm_map,
)

RNG = np.random.default_rng
ROWS = [pytest.param(case, id=case.family.__name__) for case in CASES]
WITH_SCIPY = [pytest.param(case, id=case.family.__name__) for case in CASES if case.scipy]
UNIVARIATE = [pytest.param(case, id=case.family.__name__) for case in CASES if case.scipy and case.univariate]
WITH_TOTAL = [pytest.param(case, id=case.family.__name__) for case in CASES if case.total]
DRAWS = 20_000


def unit_steps(p: Any) -> np.ndarray:
    """Steps of the coordinates of one member that have length one each."""
    return 1 / np.sqrt(np.diagonal(fisher_information(p)))


def hessian_of_kl(p: Any, at: np.ndarray, steps: np.ndarray, back: Any) -> np.ndarray:
    """Hessian of y -> KL(p, member of the coordinates back(y)) at p, in units of the steps.

    Second differences at three step sizes, extrapolated twice: with steps of 0.02, 0.01, 0.005 Fisher lengths the
    error of the extrapolation is of the order 0.02^6 / 64 = 1e-12 (1e-7 where coordinates are correlated, and both move
    into the same corner), and an absolute error of 1e-15 of KL becomes 4e-11.
    """
    n = len(at)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    directions = np.array([np.eye(n)[i] + (np.eye(n)[j] if j != i else 0.0) for i, j in pairs])
    sizes = 0.02 / 2.0 ** np.arange(3)
    moves = sizes[:, None, None] * directions
    y = at + steps * np.stack([moves, -moves])
    values = kl_divergence(p, p.with_coordinates(back(y)))
    s = values.sum(axis=0) / sizes[:, None] ** 2
    r = (4 * s[1:] - s[:-1]) / 3
    quadratic = (16 * r[1] - r[0]) / 15
    result = np.diag(quadratic[[k for k, (i, j) in enumerate(pairs) if i == j]])
    for k, (i, j) in enumerate(pairs):
        if i != j:
            result[i, j] = result[j, i] = (quadratic[k] - result[i, i] - result[j, j]) / 2
    return result


def jacobian(f: Any, y: np.ndarray) -> np.ndarray:
    """Derivatives (n, n) of a chart, fourth order differences: error 1e-12 for maps that vary over lengths of one."""
    h = 1e-3
    e = h * np.eye(len(y))
    return ((8 * (f(y + e) - f(y - e)) - (f(y + 2 * e) - f(y - 2 * e))) / (12 * h)).T


def scores(p: Any, x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n, draws): derivatives of log_prob by central differences, in units of the steps."""
    h, n = 1e-3, len(steps)
    moved = p.coordinates() + h * np.concatenate([np.diag(steps), -np.diag(steps)])
    values = p.with_coordinates(moved)[:, None].log_prob(x)
    return (values[:n] - values[n:]) / (2 * h)


def assert_mean(samples: np.ndarray, expected: Any, *, slack: float = 1e-5) -> None:
    """The mean along the last axis lies within five standard errors of what is expected."""
    error = samples.std(axis=-1) / np.sqrt(samples.shape[-1])
    off = np.abs(samples.mean(axis=-1) - expected)
    assert (off < 5 * error + slack).all(), f"off by {off}, standard error {error}"


# ----------------------------------------------------------------------------------------------------- coordinates


@pytest.mark.parametrize("case", ROWS)
def test_coordinates_and_back(case: FamilyCase) -> None:
    p, _ = case.pairs(4, 0)
    x = p.coordinates()
    assert x.shape == (4, p.coordinate_size)
    back = p.with_coordinates(x)
    assert type(back) is case.family
    np.testing.assert_allclose(back.coordinates(), x, rtol=1e-13)
    np.testing.assert_allclose(p.join(**p.split(x)), x)
    np.testing.assert_allclose(case.chart.back(case.chart.to(x)), x, rtol=1e-11)
    np.testing.assert_allclose(fisher_rao_distance(p, back), 0.0, atol=1e-7)


# --------------------------------------------------------------------------------------------------------- metric


@pytest.mark.parametrize("case", ROWS)
def test_fisher_information_is_the_hessian_of_kl(case: FamilyCase) -> None:
    for p in case.pairs(3, 1)[0]:
        steps = unit_steps(p)
        scaled = fisher_information(p) * np.outer(steps, steps)
        found = hessian_of_kl(p, p.coordinates(), steps, lambda x: x)
        np.testing.assert_allclose(scaled, found, atol=1e-6)


@pytest.mark.parametrize("case", ROWS)
def test_fisher_information_in_another_chart_follows_by_the_chain_rule(case: FamilyCase) -> None:
    for p in case.pairs(3, 2)[0]:
        y = case.chart.to(p.coordinates())
        change = jacobian(case.chart.back, y)
        expected = change.T @ fisher_information(p) @ change
        steps = 1 / np.sqrt(np.diagonal(expected))
        found = hessian_of_kl(p, y, steps, case.chart.back)
        np.testing.assert_allclose(expected * np.outer(steps, steps), found, atol=1e-6)


@pytest.mark.parametrize("case", ROWS)
def test_fisher_information_is_the_covariance_of_the_score(case: FamilyCase) -> None:
    p = case.pairs(1, 3)[0][0]
    steps = unit_steps(p)
    g = scores(p, p.sample(RNG(3), shape=(DRAWS,)), steps)
    assert_mean(g, 0.0)
    assert_mean(g[:, None] * g[None], fisher_information(p) * np.outer(steps, steps))


@pytest.mark.parametrize("case", ROWS)
def test_inner_product_is_that_of_the_matrix(case: FamilyCase) -> None:
    p, _ = case.pairs(5, 4)
    v, w = RNG(4).standard_normal((2, 5, p.coordinate_size))
    matrix = fisher_information(p)
    assert matrix.shape == (5, p.coordinate_size, p.coordinate_size)
    np.testing.assert_array_equal(matrix, np.swapaxes(matrix, -1, -2))
    assert (np.linalg.eigvalsh(matrix) > 0).all()
    expected = np.einsum("ni,nij,nj->n", v, matrix, w)
    size = np.sqrt(np.einsum("ni,nij,nj->n", v, matrix, v) * np.einsum("ni,nij,nj->n", w, matrix, w))
    assert (np.abs(inner_product(p, v, w) - expected) <= 1e-12 * size).all()


# ------------------------------------------------------------------------------------------------------- distance


@pytest.mark.parametrize("case", ROWS)
def test_distance_is_the_length_of_the_shortest_path(case: FamilyCase) -> None:
    for p, q in zip(*case.pairs(2, 5), strict=True):
        d, length = float(fisher_rao_distance(p, q)), shortest_path_length(p, q, case.chart)
        assert d > 0.05, "the members are too close for the test to say much"
        # from below only by the errors of quadrature, differences and, if there is one, of the iteration
        assert d * (1 - 1e-7 - case.accuracy) <= length <= d * (1 + case.path_tolerance)


@pytest.mark.parametrize("case", ROWS)
def test_small_distances_are_those_of_kl(case: FamilyCase) -> None:
    """d^2 = 2 KL (1 + O(d)) = Jeffreys (1 + O(d^2)); the factors in O are skewness and curvature, below ten here."""
    p, q = case.pairs(5, 6, spread=1e-4)
    d = fisher_rao_distance(p, q)
    assert (d > 1e-6).all()
    assert (d < 1e-2).all()
    assert (np.abs(2 * kl_divergence(p, q) / d**2 - 1) < 10 * d + 1e-8).all()
    assert (np.abs(jeffreys_divergence(p, q) / d**2 - 1) < 10 * d**2 + 1e-8).all()


@pytest.mark.parametrize("case", ROWS)
def test_distance_is_symmetric_and_zero_only_for_equals(case: FamilyCase) -> None:
    p, q = case.pairs(5, 7)
    np.testing.assert_allclose(fisher_rao_distance(p, q), fisher_rao_distance(q, p), rtol=max(1e-12, case.accuracy))
    np.testing.assert_allclose(fisher_rao_distance(p, p), 0.0, atol=1e-12)
    assert (fisher_rao_distance(p, q) > 0).all()


# ------------------------------------------------------------------------------------------------------- geodesics


@pytest.mark.parametrize("spread", [1e-5, 1e-2, None])
@pytest.mark.parametrize("case", ROWS)
def test_exponential_and_logarithm_undo_each_other(case: FamilyCase, spread: float | None) -> None:
    p, q = case.pairs(5 if case.closed else 2, 8, spread=spread)
    v, d = logarithm_map(p, q), fisher_rao_distance(p, q)
    tolerance = max(1e-8, case.accuracy)
    reached = exponential_map(p, v)
    assert type(reached) is case.family
    assert (fisher_rao_distance(reached, q) <= tolerance * np.maximum(d, 1e-6)).all()
    np.testing.assert_allclose(np.sqrt(inner_product(p, v, v)), d, rtol=tolerance)
    again = logarithm_map(p, reached) - v
    assert (np.sqrt(inner_product(p, again, again)) <= tolerance * np.maximum(d, 1e-6)).all()
    still = exponential_map(p, np.zeros_like(v))
    np.testing.assert_allclose(still.coordinates(), p.coordinates(), rtol=1e-12)
    np.testing.assert_allclose(logarithm_map(p, p), 0.0, atol=1e-12)


@pytest.mark.parametrize("case", ROWS)
def test_geodesics_run_at_constant_speed_and_meet_their_ends(case: FamilyCase) -> None:
    p, q = case.pairs(3 if case.closed else 2, 9)
    t = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    path, d = geodesic(p, q, t), fisher_rao_distance(p, q)[:, None]
    assert path.batch_shape == (*p.batch_shape, 5)
    tolerance = max(1e-8, case.accuracy)
    np.testing.assert_allclose(fisher_rao_distance(p[:, None], path), t * d, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(fisher_rao_distance(path, q[:, None]), (1 - t) * d, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(path[:, 0].coordinates(), p.coordinates(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(path[:, -1].coordinates(), q.coordinates(), rtol=1e-8, atol=1e-10)
    middle = geodesic(p, q, 0.5)
    assert middle.batch_shape == p.batch_shape
    np.testing.assert_allclose(middle.coordinates(), path[:, 2].coordinates(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", ROWS)
def test_geodesics_start_with_the_velocity_of_the_logarithm(case: FamilyCase) -> None:
    p, q = case.pairs(3, 10)
    h = 1e-2
    ahead = [geodesic(p, q, k * h).coordinates() - p.coordinates() for k in (1, 2, 4)]
    first = [2 * ahead[0] - ahead[1] / 2, 2 * ahead[1] / 2 - ahead[2] / 4]
    slope = (4 * first[0] - first[1]) / 3 / h  # error of the order h^3
    off = slope - logarithm_map(p, q)
    assert (np.sqrt(inner_product(p, off, off)) < 1e-3 * fisher_rao_distance(p, q)).all()


# --------------------------------------------------------------------------------------- divergence, density, samples


@pytest.mark.parametrize("case", ROWS)
def test_kl_is_the_mean_of_the_log_ratio(case: FamilyCase) -> None:
    p, q = (side[0] for side in case.pairs(1, 11, spread=0.4))
    x = p.sample(RNG(11), shape=(DRAWS,))
    assert_mean(p.log_prob(x) - q.log_prob(x), kl_divergence(p, q))
    assert_mean(-p.log_prob(x), p.entropy())
    both = kl_divergence(p, q) + kl_divergence(q, p)
    np.testing.assert_allclose(jeffreys_divergence(p, q), both, rtol=1e-9)


@pytest.mark.parametrize("case", WITH_SCIPY)
def test_log_prob_and_entropy_are_those_of_scipy(case: FamilyCase) -> None:
    assert case.scipy is not None
    for p in case.pairs(3, 12)[0]:
        known = case.scipy(p)
        x = p.sample(RNG(12), shape=(50,))
        expected = known.logpmf(x) if hasattr(known, "logpmf") and case.discrete else known.logpdf(x)
        np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(p.entropy(), known.entropy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", UNIVARIATE)
def test_samples_follow_the_distribution_function(case: FamilyCase) -> None:
    from scipy import stats

    assert case.scipy is not None
    for p in case.pairs(2, 13)[0]:
        known, x = case.scipy(p), p.sample(RNG(13), shape=(5000,))
        if not case.discrete:
            assert stats.kstest(x, known.cdf).pvalue > 1e-5
            continue
        assert x.dtype.kind == "i"
        values = np.arange(x.min(), x.max() + 1)
        expected = len(x) * known.pmf(values)
        common = expected >= 5
        observed = np.array([(x == v).sum() for v in values[common]])
        observed = np.append(observed, len(x) - observed.sum())
        wanted = np.append(expected[common], len(x) - expected[common].sum())
        kept = wanted > 1e-6 * len(x)  # nothing is left over where all outcomes are common
        assert observed[~kept].sum() == 0
        assert kept.sum() > 1
        assert stats.chi2.sf(((observed - wanted)[kept] ** 2 / wanted[kept]).sum(), kept.sum() - 1) > 1e-5


@pytest.mark.parametrize("case", UNIVARIATE)
def test_probabilities_sum_to_one(case: FamilyCase) -> None:
    from scipy import integrate

    assert case.scipy is not None
    for p in case.pairs(2, 14)[0]:
        known = case.scipy(p)
        if case.discrete:
            values = np.arange(int(known.ppf(0)) + 1, int(known.isf(1e-15)) + 2)
            values = values[(values >= known.support()[0]) & (values <= known.support()[1])]
            total = np.exp(p.log_prob(values)).sum()
        else:
            ends = [known.ppf(u) for u in (1e-13, 0.01, 0.2, 0.5, 0.8, 0.99)] + [known.isf(1e-13)]
            parts = [integrate.quad(lambda x: float(np.exp(p.log_prob(x))), a, b) for a, b in zip(ends, ends[1:])]  # noqa: B023, B905, RUF007
            total = sum(part[0] for part in parts)
        assert total == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("case", WITH_TOTAL)
def test_the_total_probability_is_one(case: FamilyCase) -> None:
    assert case.total is not None
    for p in case.pairs(2, 15)[0]:
        assert case.total(p) == pytest.approx(1.0, abs=1e-8)


# ---------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("case", ROWS)
def test_a_batch_gives_what_its_members_give(case: FamilyCase) -> None:
    n = 4 if case.closed else 2
    p, q = case.pairs(n, 16)
    x = p.sample(RNG(16))
    v = 0.1 * logarithm_map(p, q)
    whole = [
        fisher_information(p), inner_product(p, v, v), fisher_rao_distance(p, q), kl_divergence(p, q),
        jeffreys_divergence(p, q), logarithm_map(p, q), exponential_map(p, v).coordinates(),
        geodesic(p, q, [0.25, 0.5]).coordinates(), p.log_prob(x), p.entropy(), p.coordinates(),
    ]  # fmt: skip
    for i in range(n):
        a, b = p[i], q[i]
        one = [
            fisher_information(a), inner_product(a, v[i], v[i]), fisher_rao_distance(a, b), kl_divergence(a, b),
            jeffreys_divergence(a, b), logarithm_map(a, b), exponential_map(a, v[i]).coordinates(),
            geodesic(a, b, [0.25, 0.5]).coordinates(), a.log_prob(x[i]), a.entropy(), a.coordinates(),
        ]  # fmt: skip
        for left, right in zip(whole, one, strict=True):
            np.testing.assert_allclose(left[i], right, rtol=max(1e-12, case.accuracy), atol=1e-13)


@pytest.mark.parametrize("case", ROWS)
def test_batches_broadcast(case: FamilyCase) -> None:
    p, q = case.pairs(3 if case.closed else 2, 17)
    n = len(p)
    table = fisher_rao_distance(p[:, None], q[None, :2])
    assert table.shape == (n, 2)
    np.testing.assert_allclose(table[-1, 1], fisher_rao_distance(p[-1], q[1]), rtol=max(1e-12, case.accuracy))
    assert logarithm_map(p[:, None], q[None, :2]).shape == (n, 2, p.coordinate_size)
    assert geodesic(p[:, None], q[None, :2], [0.1, 0.2, 0.3, 0.4]).batch_shape == (n, 2, 4)
    many = exponential_map(p[0], 0.1 * logarithm_map(p[0], q))
    assert many.batch_shape == (n,)
    assert p.sample(RNG(0), shape=(7,)).shape[:2] == (7, n)
    assert len(p.parameter_rows()[1]) == n
