"""The embedding of Calvo and Oller and the bounds of the Fisher-Rao distance."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import oracles
import pytest
from family_cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from infogeo import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    PointMass,
    SharedCovarianceGaussian,
    Weibull,
    calvo_oller_distance,
    fisher_rao_bounds,
    fisher_rao_distance,
    hellinger_distance,
    jeffreys_divergence,
    pairwise,
)
from infogeo.errors import ShapeError, UnsupportedFamilyError

SLACK = 1e-12
"""Relative rounding that a bound may show."""


def definition(mean_p, cov_p, mean_q, cov_q) -> float:
    """The distance from generalised eigenvalues of the embeddings, in 60 digits."""
    with mp.workdps(oracles.DIGITS):

        def embedding(mean, cov):
            m = mp.matrix(oracles.exact(mean))
            d = len(m)
            s = mp.matrix([oracles.exact(row) for row in cov])
            whole = mp.matrix(d + 1, d + 1)
            whole[:d, :d] = s + m * m.T
            whole[:d, d], whole[d, :d], whole[d, d] = m, m.T, 1
            return whole

        inverse = mp.cholesky(embedding(mean_p, cov_p)) ** -1
        values = mp.eigsy(inverse * embedding(mean_q, cov_q) * inverse.T, eigvals_only=True)
        return mp.sqrt(mp.fsum(mp.log(v) ** 2 for v in values) / 2)


def random_normal(rng, d, *, spread, shift, batch=()) -> Gaussian:
    """Normals whose log-eigenvalues lie within +-spread, with means of size shift."""
    basis = np.linalg.qr(rng.standard_normal((*batch, d, d)))[0]
    logs = rng.uniform(-spread, spread, (*batch, d))
    cov = (basis * np.exp(logs)[..., None, :]) @ np.swapaxes(basis, -1, -2)
    return Gaussian(shift * rng.standard_normal((*batch, d)), (cov + np.swapaxes(cov, -1, -2)) / 2)


# --------------------------------------------------------------------------------------------------- Calvo and Oller


def test_published_values():
    """The univariate value in closed form, and a pair of the literature."""
    p, q = Gaussian([0.0], [[1.0]]), Gaussian([2.0], [[4.0]])
    log, size = np.log(2.0), 2 * np.arcsinh(np.sqrt(5 / 8))
    np.testing.assert_allclose(calvo_oller_distance(p, q), np.hypot(log, size), rtol=1e-14)
    # Han and Park 2014, after Nielsen 2023: the distance is 3.1329
    p = Gaussian([0.0, 0.0], np.diag([1.0, 0.1]))
    q = Gaussian([1.0, 1.0], np.diag([0.1, 1.0]))
    bounds = fisher_rao_bounds(p, q)
    assert bounds.lower == pytest.approx(3.0471, abs=1e-4)
    assert bounds.lower < 3.1329 < bounds.upper < 3.16


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("distance", [1e-9, 1e-6, 1e-3, 0.1, 0.4, 1.0, 3.0])
def test_near_and_middling_pairs_against_the_definition(d, distance):
    rng = np.random.default_rng(d)
    p = random_normal(rng, d, spread=1, shift=1)
    change = rng.standard_normal((d, d)) / d
    q = Gaussian(p.mean + distance * rng.standard_normal(d) / d, p.cov + min(distance, 0.3) * (change @ change.T))
    wanted = definition(p.mean, p.cov, q.mean, q.cov)
    assert abs(calvo_oller_distance(p, q) / wanted - 1) < 1e-10
    assert calvo_oller_distance(q, p) == pytest.approx(float(wanted), rel=1e-10)


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("size", [1e2, 1e5, 1e8])
def test_far_means_and_bad_condition_against_the_definition(d, size):
    """Distances up to 40 and condition numbers up to 1e12; the variances differ from coordinate to coordinate."""
    rng = np.random.default_rng(d)
    for _ in range(3):
        scale = 10.0 ** rng.uniform(-3, 3, (2, d))
        lower = np.tril(0.3 * rng.standard_normal((2, d, d)), -1) + np.eye(d)
        factor = scale[..., None] * lower
        cov = factor @ np.swapaxes(factor, -1, -2)
        mean = size * rng.standard_normal((2, d)) * scale[0]
        p, q = Gaussian(mean[0], cov[0]), Gaussian(mean[1], cov[1])
        wanted = definition(p.mean, p.cov, q.mean, q.cov)
        assert wanted > 5
        assert abs(calvo_oller_distance(p, q) / wanted - 1) < (1e-10 if wanted < 40 else 1e-9)


@pytest.mark.parametrize("spread", [7.0, 14.0])
def test_turned_covariances_of_bad_condition_against_the_definition(spread):
    """Condition numbers up to 1e12 in no particular basis, where rounding of a Cholesky factor alone costs 1e-4."""
    rng = np.random.default_rng(10)
    for d in (2, 5):
        for _ in range(2):
            p, q = random_normal(rng, d, spread=spread, shift=1), random_normal(rng, d, spread=spread, shift=1)
            wanted = definition(p.mean, p.cov, q.mean, q.cov)
            assert abs(calvo_oller_distance(p, q) / wanted - 1) < 1e-11
            bounds = fisher_rao_bounds(p, q)
            assert wanted * (1 - 1e-11) < bounds.lower < bounds.upper
            logs = 2 * np.log(np.linalg.svdvals(np.linalg.solve(p.cholesky, q.cholesky)))
            same = fisher_rao_bounds(Gaussian(0 * p.mean, p.cov), Gaussian(0 * p.mean, q.cov))
            np.testing.assert_allclose([same.lower, same.upper], np.linalg.norm(logs) / 2**0.5, rtol=1e-5)
            assert same.upper == pytest.approx(same.lower, rel=1e-9)


def test_forty_apart():
    q = Gaussian([np.exp(20.0), 0.0], np.diag([1.0, 5.0]))
    p = Gaussian([0.0, 0.0], np.diag([1.0, 1e-3]))
    wanted = definition(p.mean, p.cov, q.mean, q.cov)
    assert wanted > 40
    assert abs(calvo_oller_distance(p, q) / wanted - 1) < 1e-12


def test_sizes_at_the_ends_of_float64():
    small, large = Gaussian([0.0, 0.0], 1e-200 * np.eye(2)), Gaussian([1e100, 0.0], 1e200 * np.eye(2))
    # standard deviations 1e-100 and 1e100: one eigenvalue 1e400, two 1e200 exp(+-a) with sinh(a / 2)^2 = 1e200 / 2
    wanted = np.sqrt(3 * (200 * np.log(10)) ** 2 + (2 * np.arcsinh(1e100 / 2**0.5)) ** 2)
    np.testing.assert_allclose(calvo_oller_distance(small, large), wanted, rtol=1e-12)
    np.testing.assert_allclose(calvo_oller_distance(large, small), wanted, rtol=1e-12)
    bounds = fisher_rao_bounds(small, large)
    assert bounds.lower == calvo_oller_distance(small, large) < bounds.upper < 1.5 * bounds.lower


def test_families_agree():
    rng = np.random.default_rng(3)
    shared = oracles.random_batch(SharedCovarianceGaussian, 6, rng)
    centered = CenteredGaussian(np.array([oracles.random_covariance(3, rng) for _ in range(6)]))
    wide = IsotropicGaussian(rng.standard_normal((6, 3)), np.exp(2 * rng.standard_normal(6)))
    close = IsotropicGaussian(1e-6 * rng.standard_normal((6, 3)), 1 + 1e-6 * rng.standard_normal(6))
    for x in (shared, centered, wide, close):
        narrow, full = pairwise(calvo_oller_distance, x), pairwise(calvo_oller_distance, x.to_full())
        np.testing.assert_allclose(narrow, full, rtol=1e-9 if x is close else 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 6]), st.floats(1e-6, 3.0), st.floats(0.0, 100.0))
def test_it_is_a_metric_that_affine_maps_leave_alone(seed, d, spread, shift):
    rng = np.random.default_rng(seed)
    x = random_normal(rng, d, spread=spread, shift=shift, batch=(3,))
    values = pairwise(calvo_oller_distance, x)
    a, b, c = values[0, 1], values[1, 2], values[0, 2]
    assert a + b >= c * (1 - 1e-12)
    np.testing.assert_allclose(values, [[calvo_oller_distance(x[i], x[j]) for i in range(3)] for j in range(3)],
                               rtol=1e-9, atol=1e-13)  # fmt: skip
    assert (np.diagonal(values) == 0).all()
    assert calvo_oller_distance(x[0], x[0]) < 1e-12
    assert (values[~np.eye(3, dtype=bool)] > 0).all()
    # rotated, stretched by up to e, rotated: the map itself costs no digits
    first, second = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    turn = first * np.exp(rng.uniform(-1, 1, d)) @ second
    cov = turn @ x.cov @ turn.T
    moved = Gaussian(x.mean @ turn.T + 1, (cov + np.swapaxes(cov, -1, -2)) / 2)
    np.testing.assert_allclose(pairwise(calvo_oller_distance, moved), values, rtol=1e-5 if spread < 0.01 else 1e-8)


def test_families_without_it():
    with pytest.raises(UnsupportedFamilyError, match=r"to_full\(\)"):
        calvo_oller_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([0.0], [1.0]))
    with pytest.raises(UnsupportedFamilyError, match="euclidean_distance"):
        calvo_oller_distance(PointMass([1.0]), PointMass([2.0]))
    with pytest.raises(UnsupportedFamilyError, match="fisher_rao_distance"):
        calvo_oller_distance(Categorical.from_probs([0.5, 0.5]), Categorical.from_probs([0.5, 0.5]))


# ---------------------------------------------------------------------------------------------------------- gradients


def gaussian_inputs(torch, rng, d, distance):
    base = rng.standard_normal((d, d)) / d**0.5
    cov_p = base @ base.T + np.eye(d)
    step = rng.standard_normal((d, d))
    cov_q = cov_p + distance * (step @ step.T) / d
    mean_p = rng.standard_normal(d)
    mean_q = mean_p + distance * rng.standard_normal(d)
    return [torch.tensor(x, requires_grad=True) for x in (mean_p, cov_p, mean_q, cov_q)]


@pytest.mark.parametrize("distance", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("d", [1, 3])
def test_gradients_of_full_normals_against_finite_differences(d, distance):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    inputs = gaussian_inputs(torch, np.random.default_rng(5), d, distance)

    def value(mean_p, cov_p, mean_q, cov_q):
        even = [(c + c.T) / 2 for c in (cov_p, cov_q)]
        return calvo_oller_distance(Gaussian(mean_p, even[0]), Gaussian(mean_q, even[1]))

    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_gradients_of_the_special_normals(scale):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    rng = np.random.default_rng(6)
    means = rng.standard_normal((1, 3)), scale * rng.standard_normal((3, 3))
    inputs = [torch.tensor(x, requires_grad=True) for x in means]
    cov = oracles.random_covariance(3, rng)
    assert torch.autograd.gradcheck(
        lambda a, b: calvo_oller_distance(SharedCovarianceGaussian(a, cov), SharedCovarianceGaussian(b, cov)),
        inputs, eps=1e-6,
    )  # fmt: skip
    single = [torch.tensor(np.exp(rng.standard_normal(3)), requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda a, v, b, w: calvo_oller_distance(IsotropicGaussian(a, v), IsotropicGaussian(b, w)),
        [inputs[0], single[0], inputs[1], single[1]], eps=1e-6,
    )  # fmt: skip


def test_gradients_where_eigenvalues_coincide():
    """Equal members have the gradient zero, equal eigenvalues the right one, and neither is NaN."""
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    mean, cov = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for x in (mean, cov, mean, cov)]
    value = calvo_oller_distance(Gaussian(*inputs[:2]), Gaussian(*inputs[2:]))
    value.backward()
    assert value == 0
    assert all((x.grad == 0).all() for x in inputs)
    inputs = [x.clone().requires_grad_() for x in (mean, cov, mean, 2 * cov)]
    value = calvo_oller_distance(Gaussian(*inputs[:2]), Gaussian(*inputs[2:]))
    value.backward()
    log = np.log(2.0)
    even = [x.clone().requires_grad_() for x in (mean, 1 + mean[0], mean, 1 + mean[0])]
    calvo_oller_distance(IsotropicGaussian(*even[:2]), IsotropicGaussian(*even[2:])).backward()
    assert all((x.grad == 0).all() for x in even)
    np.testing.assert_allclose(value.item(), (3 / 2) ** 0.5 * log, rtol=1e-14)
    # d/dc of sqrt(1/2 sum log^2 c_i) at c = 2 I is log 2 / (2 c) / value on the diagonal
    np.testing.assert_allclose(inputs[3].grad, np.eye(3) * log / 2 / (2 * value.item()), atol=1e-14)


# ------------------------------------------------------------------------------------------------------------- bounds


def exact_cases(rng, n):
    """Full normals in batches of n whose exact distance has a closed form, with that distance."""
    for d in (1, 2, 4):
        spread, shift = rng.choice([0.01, 0.3, 1.0, 3.0]), rng.choice([0.01, 0.3, 3.0, 100.0])
        p = random_normal(rng, d, spread=spread, shift=0, batch=(n,))
        q = random_normal(rng, d, spread=spread, shift=0, batch=(n,))
        half = np.linalg.solve(p.cholesky, q.cholesky)
        logs = 2 * np.log(np.linalg.svdvals(half))
        yield p, q, np.sqrt((logs**2).sum(axis=-1) / 2)  # equal means
        ratio = np.exp(spread * rng.uniform(-1, 1, n))
        q = Gaussian(shift * rng.standard_normal((n, d)), ratio[:, None, None] * p.cov)
        size = np.linalg.norm(np.linalg.solve(p.cholesky, q.mean[..., None])[..., 0], axis=-1)
        plane = fisher_rao_distance(
            DiagonalGaussian(np.zeros((n, 1)), np.ones((n, 1))), DiagonalGaussian(size[:, None], ratio[:, None])
        )
        yield p, q, np.sqrt(plane**2 + (d - 1) / 2 * np.log(ratio) ** 2)  # proportional covariances


def test_bounds_hold_and_are_exact_in_the_cases_with_closed_forms():
    rng = np.random.default_rng(7)
    for _ in range(20):
        for p, q, wanted in exact_cases(rng, 30):
            bounds = fisher_rao_bounds(p, q)
            assert (bounds.lower <= wanted * (1 + SLACK) + 1e-15).all()
            assert (bounds.upper >= wanted * (1 - SLACK) - 1e-15).all()
            far = wanted > 0.02
            np.testing.assert_allclose(bounds.upper[far], wanted[far], rtol=1e-11)
            np.testing.assert_allclose(bounds.upper, wanted, rtol=2e-4)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 6]), st.floats(1e-3, 4.0), st.floats(0.0, 50.0))
def test_the_bounds_are_in_order_and_do_not_depend_on_the_order_of_the_pair(seed, d, spread, shift):
    rng = np.random.default_rng(seed)
    p, q = (random_normal(rng, d, spread=spread, shift=shift, batch=(20,)) for _ in range(2))
    there, back = fisher_rao_bounds(p, q), fisher_rao_bounds(q, p)
    assert (there.lower <= there.upper * (1 + SLACK)).all()
    np.testing.assert_allclose(there.lower, back.lower, rtol=1e-9)
    np.testing.assert_allclose(there.upper, back.upper, rtol=1e-9)
    assert (there.lower >= calvo_oller_distance(p, q)).all()
    assert (there.upper <= np.sqrt(jeffreys_divergence(p, q))).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 6]), st.floats(1e-3, 3.0), st.floats(1e-3, 50.0))
def test_bounds_enclose_the_exact_distance_of_full_normals(seed, d, spread, shift):
    """In 19,200 pairs of d = 2 to 10 the upper bound was at most 5.7 percent high, and the lower 26 percent low."""
    rng = np.random.default_rng(seed)
    p, q = (random_normal(rng, d, spread=spread, shift=shift, batch=(40,)) for _ in range(2))
    bounds, exact = fisher_rao_bounds(p, q), fisher_rao_distance(p, q)
    assert (0.7 * exact < bounds.lower).all()
    assert (bounds.lower <= exact * (1 + SLACK)).all()
    assert (exact <= bounds.upper * (1 + SLACK)).all()
    assert (bounds.upper < 1.1 * exact).all()


@pytest.mark.parametrize("speed", [0.05, 0.3, 1.0, 2.0])
def test_bounds_hold_the_length_of_geodesics_from_the_exponential_map(speed):
    """Eriksen's exponential map: the geodesic from (0, I) with velocity (x, B) has length sqrt(x'x + tr B^2 / 2).

    In the matrix exponential of [[-B, x, 0], [x', 0, -x'], [0, -x, B]] the first block is the inverse covariance, and
    the block beside it that times the mean. Up to the cut locus, and none is known, this is the distance.
    """
    from scipy.linalg import expm

    rng = np.random.default_rng(8)
    for d in (1, 2, 3, 5):
        for _ in range(20):
            x, b = rng.standard_normal(d), rng.standard_normal((d, d))
            b = (b + b.T) / 2
            length = np.sqrt(x @ x + (b * b).sum() / 2)
            x, b = speed * x / length, speed * b / length
            lift = np.block([
                [-b, x[:, None], np.zeros((d, d))],
                [x[None], np.zeros((1, 1)), -x[None]],
                [np.zeros((d, d)), -x[:, None], b],
            ])
            whole = expm(lift)
            cov = np.linalg.inv(whole[:d, :d])
            q = Gaussian(cov @ whole[:d, d], (cov + cov.T) / 2)
            bounds = fisher_rao_bounds(Gaussian(np.zeros(d), np.eye(d)), q)
            assert bounds.lower <= speed * (1 + SLACK)
            assert bounds.upper >= speed * (1 - SLACK)
            assert bounds.upper <= speed * (1 + 0.005 * speed**2)  # the lift is never far off


def test_close_pairs_keep_their_digits():
    p = Gaussian([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]])
    for step in (1e-9, 1e-6, 1e-3):
        q = Gaussian([1.0 + step, 2.0], [[2.0 + step, 0.5], [0.5, 1.0]])
        bounds = fisher_rao_bounds(p, q)
        wanted = float(definition(p.mean, p.cov, q.mean, q.cov))
        np.testing.assert_allclose([bounds.lower, bounds.upper], wanted, rtol=1e-9 + step**2)


def test_methods_are_named_for_each_pair():
    p = Gaussian(np.zeros(2), np.eye(2))
    q = Gaussian([[0.0, 0.0], [1.0, 0.0], [1e-4, 0.0]], [np.diag([1.0, 4.0]), [[2.0, 1.0], [1.0, 2.0]], np.eye(2)])
    bounds = fisher_rao_bounds(p, q)
    assert bounds.upper_method.shape == bounds.lower_method.shape == (3,)
    assert bounds.lower_method[0] == "calvo_oller"
    assert bounds.upper_method[1] == "fibre"
    single = fisher_rao_bounds(p, q[1])
    assert single.upper == bounds.upper[1]
    assert str(single.upper_method) == "fibre"


@pytest.mark.parametrize("family", [DiagonalGaussian, SharedCovarianceGaussian, Categorical])
def test_bounds_of_other_families_enclose_their_closed_forms(family):
    rng = np.random.default_rng(9)
    for spread in (1e-3, 0.3, 2.0):
        x = oracles.random_batch(family, 30, rng, spread=spread)
        exact = fisher_rao_distance(x[:, None], x[None])
        bounds = fisher_rao_bounds(x[:, None], x[None])
        assert (bounds.lower <= exact * (1 + SLACK) + 1e-15).all()
        assert (bounds.upper >= exact * (1 - SLACK) - 1e-15).all()
        if family is Categorical:  # the sphere itself
            np.testing.assert_allclose(bounds.lower, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.family.__name__)
def test_every_family_has_bounds_or_says_why_not(case):
    p, q = case.pairs(6, 11, spread=case.spread / 3)
    if case.family is Weibull:
        with pytest.raises(UnsupportedFamilyError, match="no exponential family"):
            fisher_rao_bounds(p, q)
        return
    if not all(case.family in measure.families for measure in (hellinger_distance, jeffreys_divergence)):
        with pytest.raises(UnsupportedFamilyError, match=case.family.__name__):
            fisher_rao_bounds(p, q)
        return
    bounds, exact = fisher_rao_bounds(p, q), fisher_rao_distance(p, q)
    assert (bounds.lower <= exact * (1 + case.accuracy)).all()
    assert (exact <= bounds.upper * (1 + case.accuracy)).all()
    assert (bounds.upper < 1.5 * exact).all()


def test_tensors_are_read_as_arrays():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    mean, cov = torch.zeros(2, dtype=torch.float64, requires_grad=True), 2 * torch.eye(2, dtype=torch.float64)
    p, q = Gaussian(mean, cov), Gaussian(mean + 1, cov)
    bounds = fisher_rao_bounds(p, q)
    assert isinstance(bounds.lower, np.ndarray)
    assert bounds.upper == fisher_rao_bounds(Gaussian([0.0, 0.0], cov.numpy()), Gaussian([1.0, 1.0], cov.numpy())).upper


def test_what_has_no_bounds():
    with pytest.raises(UnsupportedFamilyError, match="PointMass"):
        fisher_rao_bounds(PointMass([1.0]), PointMass([2.0]))
    with pytest.raises(UnsupportedFamilyError, match="one family"):
        fisher_rao_bounds(DiagonalGaussian([0.0], [1.0]), Gaussian([0.0], [[1.0]]))
    with pytest.raises(ShapeError, match="dimensions"):
        fisher_rao_bounds(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([0.0, 0.0], [1.0, 1.0]))
