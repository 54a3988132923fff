"""The exact distance and geodesics of full normals: against other routes, at the limits of float64, and their laws."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normal_oracle import column, fibre_distance, matrix, rounded, shot

from infogeo import (
    DiagonalGaussian,
    Gaussian,
    SharedCovarianceGaussian,
    _normal_fibre,
    _normal_pairs,
    calvo_oller_distance,
    exponential_map,
    fisher_information,
    fisher_rao_bounds,
    fisher_rao_distance,
    geodesic,
    inner_product,
    jeffreys_divergence,
    kl_divergence,
    logarithm_map,
    normal_geodesic,
    normal_geodesics,
    pairwise,
)
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.manifolds import gaussian as manifold

RNG = np.random.default_rng
REFERENCE = os.environ.get("INFOGEO_REFERENCE")


def covariance(rng, d, *, condition=None, n=None):
    """Random covariances; with a condition number exactly that, and eigenvectors in general position."""
    shape = () if n is None else (n,)
    if condition is None:
        a = rng.normal(size=(*shape, d, 2 * d))
        return a @ np.swapaxes(a, -1, -2) / (2 * d)
    q = np.linalg.qr(rng.normal(size=(*shape, d, d)))[0]
    half = np.log(condition) / 2
    logs = rng.uniform(-half, half, size=(*shape, d))
    logs[..., 0], logs[..., -1] = half, -half
    s = q * np.exp(logs)[..., None, :] @ np.swapaxes(q, -1, -2)
    return (s + np.swapaxes(s, -1, -2)) / 2


def normals(rng, n, d, *, spread=1.0, condition=None):
    return Gaussian(spread * rng.normal(size=(n, d)), covariance(rng, d, n=n, condition=condition))


def moved(p, a, b):
    """The normals of a x + b."""
    cov = a @ p.cov @ a.T
    return Gaussian(p.mean @ a.T + b, (cov + np.swapaxes(cov, -1, -2)) / 2)


# ------------------------------------------------------------------------------------------ published and known values

# Means and covariances, the distance, and where the pair comes from. All values agree between the submersion in 60
# digits and shooting of the geodesic equation; what the sources print are their leading digits.
I2 = [[1.0, 0.0], [0.0, 1.0]]
PUBLISHED = [
    pytest.param(([0], [[1]]), ([2], [[4]]), 1.6388053279384853, id="univariate"),
    pytest.param(([0, 0], I2), ([0.5, 0.5], I2), 0.69994085230524, id="Strapasson, Porto, Costa 2015, fig. 4"),
    pytest.param(
        ([-1, 0], [[1.1, 0.9], [0.9, 1.1]]), ([6, 3], [[1.1, 0.9], [0.9, 1.1]]), 5.006483034546877,
        id="Pinele, Strapasson, Costa 2020, example 1",
    ),
    pytest.param(([0, 0], [[1, 0], [0, 0.1]]), ([1, 1], [[0.1, 0], [0, 1]]), 3.132931671067161, id="Han, Park 2014"),
    pytest.param(([0, 0], I2), ([1, 0], [[1, -1], [-1, 2]]), 1.4683798160885437, id="Nielsen 2023, mean 1"),
    pytest.param(([0, 0], I2), ([5, 0], [[1, -1], [-1, 2]]), 4.238933989511904, id="Nielsen 2023, mean 5"),
    pytest.param(
        ([-1, 0], [[0.55, -0.45], [-0.45, 0.55]]), ([1, 0], [[0.55, 0.45], [0.45, 0.55]]), 3.670271765252148,
        id="mirrored covariances, mean 1",
    ),
    pytest.param(
        ([-10, 0], [[0.55, -0.45], [-0.45, 0.55]]), ([10, 0], [[0.55, 0.45], [0.45, 0.55]]), 9.880088383202931,
        id="mirrored covariances, mean 10",
    ),
    pytest.param(
        ([1, 1], [[1, 0.3], [0.3, 0.5]]), ([1, 1], [[2, -0.8], [-0.8, 0.9]]), 1.254457696507922, id="equal means"
    ),
    pytest.param(
        ([0, 0], [[1, 0.3], [0.3, 0.5]]), ([0.001, -0.002], [[1.001, 0.3], [0.3, 0.4995]]), 0.003889243945973398,
        id="near",
    ),
    pytest.param(
        ([0, 0, 0], np.diag([1.7, 0.3, 0.3])), ([2, 0, 0], np.diag([0.3, 1.7, 0.3])), 2.6856844682350376,
        id="diffusion tensors",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("x", "y", "distance"), PUBLISHED)
def test_published_values(x, y, distance):
    p, q = Gaussian(*x), Gaussian(*y)
    assert float(fisher_rao_distance(p, q)) == pytest.approx(distance, rel=1e-12)
    assert float(fisher_rao_distance(q, p)) == pytest.approx(distance, rel=1e-12)
    assert float(manifold.distance(x, y)) == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("name", ["mvn_fisher_rao.json", "mvn_by_shooting.json"])
def test_reference_files(name):
    if REFERENCE is None:
        pytest.skip("set INFOGEO_REFERENCE to the folder with the reference files of the project to run this")
    found = json.loads((Path(REFERENCE) / name).read_text(encoding="utf-8"))
    pairs = found["pairs"] if isinstance(found, dict) else found
    assert len(pairs) > 20
    for pair in pairs:
        p = Gaussian(np.atleast_1d(pair["mean1"]), np.atleast_2d(pair["cov1"]))
        q = Gaussian(np.atleast_1d(pair["mean2"]), np.atleast_2d(pair["cov2"]))
        assert float(fisher_rao_distance(p, q)) == pytest.approx(float(pair["distance"]), rel=1e-10)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 16])
@pytest.mark.parametrize("length", [1e-6, 0.3, 3.0, 8.0])
def test_the_matrix_exponential_leads_to_a_known_distance(d, length):
    rng = RNG(d)
    b = rng.normal(size=(d, d))
    x, b = rng.normal(size=d), (b + b.T) / 2
    size = np.sqrt(x @ x + (b * b).sum() / 2)
    mean, cov, known = shot(length * x / size, length * b / size)
    mean, low = rounded(mean, cov)
    p, q = Gaussian(np.zeros(d), np.eye(d)), Gaussian(mean, low)
    # rounding the end point moves it by about the condition of its covariance, in units of rounding
    slack = 1e-13 + 8e-16 * np.linalg.cond(low) / length
    assert float(fisher_rao_distance(p, q)) == pytest.approx(float(known), rel=slack)
    rate = np.concatenate([x, b[np.tril_indices(d)]]) * length / size
    np.testing.assert_allclose(logarithm_map(p, q), rate, atol=slack * np.abs(rate).max() * 100)


@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("conditions", [(2.0, 9.0), (1e12, 1.0), (1e6, 1e6), (1e12, 1e12)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 30.0])
def test_far_and_ill_conditioned_pairs_in_extended_precision(d, conditions, shift):
    rng = RNG(17)
    p = normals(rng, 1, d, condition=conditions[0])[0]
    q = Gaussian(p.mean + shift * rng.normal(size=d), covariance(rng, d, condition=conditions[1]))
    known = fibre_distance(p.mean, p.cov, q.mean, q.cov)
    found = normal_geodesic(p, q)
    assert 0.5 < found.distance < 45
    error = abs(float(found.distance / known - 1))
    assert error < 1e-9
    assert error < 3 * float(found.relative_error) + 1e-14


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e12])
@pytest.mark.parametrize("apart", [1e-2, 1e-6, 1e-9])
def test_near_pairs_in_extended_precision(condition, apart):
    rng = RNG(3)
    p = normals(rng, 1, 3, condition=condition)[0]
    e = rng.normal(size=(3, 3))
    cov = p.cov + apart * p.cholesky @ (e + e.T) @ p.cholesky.T
    q = Gaussian(p.mean + apart * p.cholesky @ rng.normal(size=3), (cov + cov.T) / 2)
    known = fibre_distance(p.mean, p.cov, q.mean, q.cov)
    assert abs(float(normal_geodesic(p, q).distance / known - 1)) < 1e-9


@pytest.mark.exhaustive
def test_many_far_and_ill_conditioned_pairs_in_extended_precision():
    rng = RNG(5)
    for _ in range(60):
        a, b = 10 ** rng.uniform(0, 12, 2)
        p = Gaussian(np.zeros(2), covariance(rng, 2, condition=a))
        q = Gaussian(10 ** rng.uniform(-3, 4) * rng.normal(size=2), covariance(rng, 2, condition=b))
        found = normal_geodesic(p, q, strict=False)
        known = fibre_distance(p.mean, p.cov, q.mean, q.cov, digits=100)
        # the slow route may end in a minimum that is not the least
        assert float(found.distance / known - 1) < 1e-8
        assert float(found.distance) >= float(found.lower)


# -------------------------------------------------------------------------------------------------------- reduction


def reduced(p, q):
    found = normal_geodesic(p, q)
    return int(found.reduced_dimension), int(found.iterations)


def test_equal_means_are_the_distance_of_the_covariances_without_iteration():
    rng = RNG(0)
    mean, a, b = rng.normal(size=4), covariance(rng, 4), covariance(rng, 4)
    p, q = Gaussian(mean, a), Gaussian(mean, b)
    assert reduced(p, q) == (0, 0)
    logs = np.log(np.linalg.eigvals(np.linalg.solve(a, b)).real)
    assert float(fisher_rao_distance(p, q)) == pytest.approx(np.sqrt((logs**2).sum() / 2), rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 3.7])
def test_equal_or_proportional_covariances_are_one_dimension_without_iteration(factor):
    rng = RNG(1)
    s, m = covariance(rng, 6), rng.normal(size=6)
    p, q = Gaussian(np.zeros(6), s), Gaussian(m, factor * s)
    assert reduced(p, q) == (1, 0)
    delta = np.sqrt(m @ np.linalg.solve(s, m))
    line = fisher_rao_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([delta], [factor]))
    rest = 5 * np.log(factor) ** 2 / 2
    assert float(fisher_rao_distance(p, q)) == pytest.approx(np.sqrt(float(line) ** 2 + rest), rel=1e-12)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_a_difference_of_rank_r_leaves_r_plus_one_dimensions(r):
    rng = RNG(2)
    d = 40
    s, w = covariance(rng, d), rng.normal(size=(d, r))
    p, q = Gaussian(np.zeros(d), s), Gaussian(rng.normal(size=d), s + w @ w.T)
    assert reduced(p, q)[0] == r + 1
    # the same pair in the few dimensions that matter
    factor = np.linalg.cholesky(s)
    inside = np.linalg.solve(factor, np.concatenate([w, q.mean[:, None]], axis=1))
    parts = np.linalg.qr(inside)[1]
    small = Gaussian(parts[:, -1], np.eye(r + 1) + parts[:, :r] @ parts[:, :r].T)
    known = fisher_rao_distance(Gaussian(np.zeros(r + 1), np.eye(r + 1)), small)
    assert float(fisher_rao_distance(p, q)) == pytest.approx(float(known), rel=1e-11)


# ------------------------------------------------------------------------------------------- several geodesics: far out


def far_problem():
    """A pair about 13.8 apart that two geodesics join."""
    return np.array([[6.0, -6.0]]), np.array([[200.0, 10.0]])


def two_minima():
    ell, m = far_problem()
    problem = _normal_fibre._Problem(ell, m, _normal_fibre.full_svd)
    runs = [_normal_fibre._descend(problem, start, 100) for start in problem.starts()]
    return ell, m, [problem.result(run) for run in runs]


def test_the_minimum_over_the_fibre_is_not_unique_and_the_least_one_is_taken():
    ell, m, found = two_minima()
    lengths = [float(np.sqrt(2 * fibre.energy[0])) for fibre in found]
    assert all(fibre.residual[0] < 1e-11 and fibre.converged[0] for fibre in found)
    assert lengths[0] - lengths[1] > 0.05  # the start without a skew part leads to the longer one
    p, q = Gaussian(np.zeros(2), np.eye(2)), Gaussian(m[0], np.diag(np.exp(ell[0])))
    assert float(fisher_rao_distance(p, q)) == pytest.approx(min(lengths), rel=1e-12)
    assert float(fisher_rao_distance(q, p)) == pytest.approx(min(lengths), rel=1e-12)
    known = fibre_distance(p.mean, p.cov, q.mean, q.cov, digits=60)
    assert float(known) == pytest.approx(min(lengths), rel=1e-12)


def test_the_closest_pair_known_with_two_geodesics():
    ell, m = np.array([[5.39104684, -4.73929525]]), np.array([[107.73063533, 8.15169144]])
    problem = _normal_fibre._Problem(ell, m, _normal_fibre.full_svd)
    runs = [_normal_fibre._descend(problem, start, 100) for start in problem.starts()]
    first, second = (float(np.sqrt(2 * run.state.energy[0])) for run in runs)
    assert abs(runs[0].unknown[0, 0] / runs[1].unknown[0, 0] - 1) > 1e-3  # two points of the fibre, both minima
    assert all(run.converged[0] for run in runs)
    assert first == pytest.approx(11.758, abs=1e-3)
    assert second == pytest.approx(first, rel=1e-4)


def test_both_minima_are_geodesics_between_the_same_two_normals():
    ell, m, found = two_minima()
    ends = []
    for fibre in found:
        rates = fibre.initial_rates[0]
        mean, cov, length = shot(rates[:, 2] / 2**0.5, -(rates[:, :2] + rates[:, :2].T) / 2)
        assert float(length) == pytest.approx(float(np.sqrt(2 * fibre.energy[0])), rel=1e-9)
        ends.append(rounded(mean, cov))
    for mean, cov in ends:  # a rounding error at the start is some 1e6 times as large at the end
        np.testing.assert_allclose(mean, m[0], rtol=1e-5)
        np.testing.assert_allclose(np.diagonal(cov), np.exp(ell[0]), rtol=1e-5)
    assert np.abs(found[0].initial_rates - found[1].initial_rates).max() > 0.1


def test_no_combination_of_starts_finds_less():
    rng = RNG(3)
    n, k = 200, 3
    ell = -np.sort(-rng.uniform(-8, 8, size=(n, k)), axis=1)
    m = np.exp(rng.uniform(-3, 8, size=(n, k)))
    found = _normal_fibre.minimize(ell, m, max_iter=100)
    problem = _normal_fibre._Problem(ell, m, _normal_fibre.full_svd)
    plain, squares = problem.starts()[:2]
    for number in range(8):
        chosen = np.array([(number >> bit) & 1 for bit in range(3)])
        rival = _normal_fibre._descend(problem, np.where(chosen, plain, squares), 100)
        assert (found.energy <= rival.state.energy * (1 + 1e-8)).all()


def test_the_least_minimum_may_lie_between_the_starts():
    # from two of the three starts a longer geodesic is found, of length 16.1745
    ell = np.array([[6.910186522635818, 4.121847296523142, -4.121847296523142, -6.910186522635818]])
    m = np.array([[358.679150237376, 38.740303653160616, 6.620857711746819, 11.317041984551993]])
    found = _normal_fibre.minimize(ell, m, max_iter=100)
    assert found.converged[0]
    assert float(np.sqrt(2 * found.energy[0])) == pytest.approx(16.0598681717, rel=1e-9)


def test_a_minimum_at_the_end_of_a_flat_valley_is_reached_and_soon(monkeypatch):
    # the preconditioned Hessian spans more than thirteen digits: conjugate gradients alone ended at 48.952990
    rng = RNG(3)
    covs = []
    for _ in range(2):
        q = np.linalg.qr(rng.normal(size=(16, 16)))[0]
        cov = (q * np.exp(np.sort(rng.uniform(-0.5, 0.5, 16) * np.log(1e10)))) @ q.T
        covs.append((cov + cov.T) / 2)
    p, q = Gaussian(np.zeros(16), covs[0]), Gaussian(1e4 * rng.normal(size=16), covs[1])
    counted, plain = [], _normal_pairs._extended.wide_svd
    monkeypatch.setattr(_normal_pairs._extended, "wide_svd", lambda x: (counted.append(len(x)), plain(x))[1])
    found = normal_geodesic(p, q)
    assert float(found.distance) == pytest.approx(48.952904138, rel=1e-7)
    assert found.relative_error < 1e-9
    assert len(counted) < 60  # once 3000


def test_the_condition_of_a_covariance_is_seen_in_any_order_of_its_coordinates():
    rng = RNG(8)
    for d in (2, 3, 6):
        cov = covariance(rng, d, condition=1e9)
        seen = []
        for _ in range(5):
            order = rng.permutation(d)
            turned = cov[np.ix_(order, order)][None]
            seen.append(float(_normal_pairs._unexplained(np.linalg.cholesky(turned), turned)[0]))
        np.testing.assert_allclose(seen, 1 / (np.diagonal(np.linalg.inv(cov)) * np.diagonal(cov)).max(), rtol=1e-4)


def test_the_estimate_covers_the_order_of_the_coordinates():
    rng = RNG(9)
    for d, condition in ((2, 1e11), (3, 1e11), (6, 1e9), (12, 1e7)):
        p, q = (normals(rng, 12, d, condition=condition) for _ in range(2))
        order = rng.permutation(d)
        a, b = (Gaussian(x.mean[:, order], x.cov[:, order][:, :, order]) for x in (p, q))
        one, other = normal_geodesic(p, q, strict=False), normal_geodesic(b, a, strict=False)
        allowed = one.relative_error + other.relative_error + 1e-15
        assert (np.abs(one.distance / other.distance - 1)[one.converged] < allowed[one.converged]).all()
        assert one.converged.any()


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize(("spread", "condition"), [(1.0, 4.0), (100.0, 100.0), (1.0, 1e10)])
def test_temporaries_keep_to_the_memory(d, spread, condition):
    n = {2: 60, 5: 8}[d] if condition < 1e9 else {2: 12, 5: 5}[d]
    memory = 4e5
    x = normals(RNG(0), n, d, spread=spread, condition=condition)
    pairwise(fisher_rao_distance, x[:2], memory=memory)  # imports are not counted
    tracemalloc.start()
    values = pairwise(fisher_rao_distance, x, memory=memory, threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < memory + values.nbytes + 60_000


# ------------------------------------------------------------------------------------------------------------- laws


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 4), spread=st.sampled_from([1e-3, 1.0, 20.0]))
def test_symmetric_invariant_and_between_its_bounds(seed, d, spread):
    rng = RNG(seed)
    p, q = normals(rng, 40, d, spread=spread), normals(rng, 40, d, spread=spread)
    distance = fisher_rao_distance(p, q)
    np.testing.assert_allclose(fisher_rao_distance(q, p), distance, rtol=1e-12)
    a, b = rng.normal(size=(d, d)) + 2 * np.eye(d), rng.normal(size=d)
    if np.linalg.cond(a) < 1e2:
        np.testing.assert_allclose(fisher_rao_distance(moved(p, a, b), moved(q, a, b)), distance, rtol=1e-10)
    assert (calvo_oller_distance(p, q) <= distance * (1 + 1e-12)).all()
    assert (distance <= np.sqrt(jeffreys_divergence(p, q)) * (1 + 1e-12)).all()
    bounds = fisher_rao_bounds(p, q)
    assert (bounds.lower <= distance * (1 + 1e-12)).all()
    assert (distance <= bounds.upper * (1 + 1e-12)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 4), spread=st.sampled_from([0.1, 1.0, 10.0]))
def test_triangle_inequality(seed, d, spread):
    rng = RNG(seed)
    a, b, c = (normals(rng, 100, d, spread=spread) for _ in range(3))
    assert (fisher_rao_distance(a, c) <= (fisher_rao_distance(a, b) + fisher_rao_distance(b, c)) * (1 + 1e-12)).all()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_twice_the_divergence_is_the_squared_distance_of_close_normals(d):
    rng = RNG(d)
    p = normals(rng, 50, d, condition=4.0)
    step = 1e-5 * rng.normal(size=(50, p.coordinate_size))
    q = p.with_coordinates(p.coordinates() + step)
    np.testing.assert_allclose(fisher_rao_distance(p, q) ** 2, 2 * kl_divergence(p, q), rtol=1e-3)


def test_smaller_families_give_longer_distances():
    rng = RNG(0)
    mean, var = rng.normal(size=(2, 200, 3)), np.exp(rng.normal(size=(2, 200, 3)))
    p, q = (DiagonalGaussian(m, v) for m, v in zip(mean, var, strict=True))
    gap = fisher_rao_distance(p, q) / fisher_rao_distance(p.to_full(), q.to_full())
    assert (gap >= 1 - 1e-12).all()
    assert gap.max() > 1.01
    shared = SharedCovarianceGaussian(mean[0], covariance(rng, 3))
    full = shared.to_full()
    np.testing.assert_allclose(
        fisher_rao_distance(shared[:-1], shared[1:]), fisher_rao_distance(full[:-1], full[1:]), rtol=1e-12
    )


# ------------------------------------------------------------------------------------------------ geodesics and maps


@pytest.mark.parametrize(("d", "spread"), [(1, 1.0), (2, 1.0), (3, 5.0), (6, 1.0), (20, 1.0)])
def test_exponential_and_logarithm_are_inverse(d, spread):
    rng = RNG(d)
    p, q = normals(rng, 20, d, spread=spread), normals(rng, 20, d, spread=spread)
    velocity = logarithm_map(p, q)
    end = exponential_map(p, velocity)
    np.testing.assert_allclose(end.mean, q.mean, atol=1e-8)
    np.testing.assert_allclose(end.cov, q.cov, atol=1e-8)
    np.testing.assert_allclose(logarithm_map(p, end), velocity, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(inner_product(p, velocity, velocity)), fisher_rao_distance(p, q), rtol=1e-12)
    matrix_ = fisher_information(p)
    np.testing.assert_allclose(
        np.einsum("ni,nij,nj->n", velocity, matrix_, velocity), fisher_rao_distance(p, q) ** 2, rtol=1e-10
    )


@pytest.mark.parametrize("d", [1, 2, 4])
def test_geodesics_have_constant_speed_and_meet_their_ends(d):
    rng = RNG(d)
    p, q = normals(rng, 5, d, spread=4.0), normals(rng, 5, d, spread=4.0)
    times = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
    points = geodesic(p, q, times)
    assert points.batch_shape == (5, 5)
    whole = fisher_rao_distance(p, q)[:, None]
    np.testing.assert_allclose(fisher_rao_distance(p[:, None], points), whole * times, atol=1e-9)
    np.testing.assert_allclose(fisher_rao_distance(points, q[:, None]), whole * (1 - times), atol=1e-9)
    np.testing.assert_allclose(points.cov[:, 0], p.cov, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(points.mean[:, -1], q.mean, rtol=1e-12, atol=1e-12)
    middle = geodesic(p, q, 0.5)
    np.testing.assert_array_equal(middle.cov, points.cov[:, 2])


def test_the_geodesic_solves_the_geodesic_equation():
    # m'' = S' S^-1 m',  S'' = S' S^-1 S' - m' m'^T (Skovgaard 1984), by central differences on the geodesic
    rng = RNG(4)
    p, q = normals(rng, 1, 3)[0], normals(rng, 1, 3)[0]
    h = 1e-3
    points = geodesic(p, q, [0.3 - h, 0.3, 0.3 + h])
    mean, cov = points.mean, points.cov
    m1, s1 = (mean[2] - mean[0]) / (2 * h), (cov[2] - cov[0]) / (2 * h)
    m2, s2 = (mean[2] - 2 * mean[1] + mean[0]) / h**2, (cov[2] - 2 * cov[1] + cov[0]) / h**2
    inverse = np.linalg.inv(cov[1])
    np.testing.assert_allclose(m2, s1 @ inverse @ m1, atol=1e-4)
    np.testing.assert_allclose(s2, s1 @ inverse @ s1 - np.outer(m1, m1), atol=1e-4)


def test_exponential_map_against_the_matrix_exponential_in_extended_precision():
    x, b = np.array([1.5, -0.3, 0.7]), np.array([[1.0, 0.5, 0.0], [0.5, -2.0, 0.3], [0.0, 0.3, 0.4]])
    mean, cov, length = shot(x, b)
    found = manifold.exp((np.zeros(3), np.eye(3)), (x, b))
    np.testing.assert_allclose(found[0], rounded(mean, cov)[0], rtol=1e-13)
    np.testing.assert_allclose(found[1], rounded(mean, cov)[1], rtol=1e-12, atol=1e-14)
    assert float(manifold.norm((np.zeros(3), np.eye(3)), (x, b))) == pytest.approx(float(length), rel=1e-14)


# ------------------------------------------------------------------------------------------- certificate and precision


def test_the_certificate_brackets_the_distance_and_says_what_was_done():
    rng = RNG(0)
    p, q = normals(rng, 30, 4), normals(rng, 30, 4)
    found = normal_geodesic(p, q)
    assert found.distance.shape == found.iterations.shape == (30,)
    assert (found.lower < found.distance).all()
    assert (found.distance <= found.upper).all()
    assert (found.upper / found.distance - 1 < 1e-8).all()
    assert (found.residual < 1e-9).all()
    assert found.converged.all()
    assert (found.reduced_dimension == 4).all()
    assert (found.iterations > 0).all()
    assert (found.iterations < 10).all()
    np.testing.assert_array_equal(found.distance, fisher_rao_distance(p, q))


def test_an_iteration_cut_short_is_an_error_that_carries_the_result():
    rng = RNG(0)
    p, q = normals(rng, 3, 4, spread=3.0), normals(rng, 3, 4, spread=3.0)
    message = r"3 of 3 pairs miss the relative error 1e-08, the first is pair \(0,\)"
    with pytest.raises(ConvergenceError, match=message) as caught:
        normal_geodesic(p, q, max_iter=0)
    assert not caught.value.result.converged.any()
    partial = normal_geodesic(p, q, max_iter=0, strict=False)
    assert (partial.distance > normal_geodesic(p, q).distance).all()  # any point of the fibre is an upper bound
    assert (partial.residual > 1e-6).all()


def test_normals_too_far_apart_for_float64_are_an_error_that_says_so():
    p = Gaussian(np.zeros(3), np.eye(3))
    q = Gaussian([1e9, -1e12, 3e10], np.diag([1e-12, 1.0, 1e12]))
    with pytest.raises(ConvergenceError, match="need more digits than float64 input holds"):
        fisher_rao_distance(p, q)
    found = normal_geodesic(p, q, strict=False)
    assert not found.converged
    assert found.relative_error > 1e-8
    assert found.lower < found.distance


def test_extended_precision_agrees_with_double_precision_where_that_suffices():
    rng = RNG(1)
    p, q = normals(rng, 20, 4), normals(rng, 20, 4)
    (pairs,) = normal_geodesics.chunks(p, q)
    wanted = {"max_iter": 100, "lower": True, "rates": True, "gradients": True}
    plain = _normal_pairs.solve(pairs, tolerance=1.0, **wanted)
    extended = _normal_pairs.solve(pairs, tolerance=0.0, **wanted)
    np.testing.assert_allclose(extended.distance, plain.distance, rtol=1e-13)
    np.testing.assert_allclose(extended.lower, plain.lower, rtol=1e-13)
    for a, b in zip((*extended.rates, *extended.gradients), (*plain.rates, *plain.gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert (extended.relative_error < plain.relative_error).all()


@pytest.mark.parametrize("condition", [None, 1e12])
def test_a_pair_and_its_mirror_image_have_the_same_distance_to_the_last_bit(condition):
    rng = RNG(8)
    p, q = normals(rng, 30, 3, spread=5.0, condition=condition), normals(rng, 30, 3, condition=condition)
    same = Gaussian(q.mean + 1.0, q.cov)
    for a, b in ((p, q), (q, same), (p, p)):
        np.testing.assert_array_equal(fisher_rao_distance(a, b), fisher_rao_distance(b, a))


def test_batches_portions_and_broadcasting_equal_the_loop(monkeypatch):
    rng = RNG(2)
    p, q = normals(rng, 4, 3), normals(rng, 3, 3)
    loop = np.array([[float(fisher_rao_distance(a, b)) for b in q] for a in p])
    np.testing.assert_allclose(fisher_rao_distance(p[:, None], q[None]), loop, rtol=1e-13)
    np.testing.assert_allclose(pairwise(fisher_rao_distance, p)[1:, 0], fisher_rao_distance(p[1:], p[0]), rtol=1e-13)
    monkeypatch.setattr(normal_geodesics, "CHUNK_BYTES", 1.0)
    np.testing.assert_allclose(fisher_rao_distance(p[:, None], q[None]), loop, rtol=1e-13)
    assert fisher_rao_distance(p[0], q[0]).shape == ()
    assert (np.diagonal(fisher_rao_distance(p[:, None], p[None])) == 0).all()


# -------------------------------------------------------------------------------------------------------------- torch


def test_gradients_are_the_first_variation():
    torch = pytest.importorskip("torch", reason="tensors need torch: pip install 'infogeo[transformers]'")
    rng = RNG(0)
    p, q = normals(rng, 2, 3), normals(rng, 2, 3)
    leaves = [torch.tensor(x, requires_grad=True) for x in (p.mean, p.cov, q.mean, q.cov)]

    def distance(a, b, c, e):
        return fisher_rao_distance(Gaussian(a, (b + b.mT) / 2), Gaussian(c, (e + e.mT) / 2))

    assert torch.autograd.gradcheck(distance, leaves)
    distance(*leaves).sum().backward()
    # a step against the gradient at p, of the length of the distance in the metric, leads to q
    velocity = logarithm_map(p, q)
    slope = p.join(mean=leaves[0].grad.numpy(), cov=leaves[1].grad.numpy())
    slope[:, 3:] *= np.where(np.equal(*np.tril_indices(3)), 1, 2)  # two entries of the matrix for one coordinate
    lowered = np.einsum("nij,nj->ni", fisher_information(p), velocity) / fisher_rao_distance(p, q)[:, None]
    np.testing.assert_allclose(slope, -lowered, rtol=1e-8, atol=1e-10)


def test_gradients_of_equal_normals_and_repeated_eigenvalues_are_finite():
    torch = pytest.importorskip("torch", reason="tensors need torch: pip install 'infogeo[transformers]'")
    mean, cov = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    for other in (cov, 2 * cov):
        leaves = [x.clone().requires_grad_() for x in (mean, cov, mean, other)]
        fisher_rao_distance(Gaussian(*leaves[:2]), Gaussian(*leaves[2:])).backward()
        assert all(torch.isfinite(x.grad).all() for x in leaves)
        assert (leaves[3].grad == 0).all() == (other is cov)


def test_the_solver_runs_on_tensors_as_on_arrays():
    # on a GPU the tensors stay there; on the host they are read as arrays, so the solver is called itself here
    torch = pytest.importorskip("torch", reason="tensors need torch: pip install 'infogeo[transformers]'")
    rng = RNG(0)
    p, q = normals(rng, 10, 4), normals(rng, 10, 4)
    (pairs,) = normal_geodesics.chunks(p, q)
    tensors = _normal_pairs.Pairs(*(torch.tensor(getattr(pairs, f)) for f in pairs.__dataclass_fields__))
    wanted = {"max_iter": 100, "lower": True, "rates": True, "gradients": True}
    for tolerance in (1.0, 0.0):
        a = _normal_pairs.solve(pairs, tolerance=tolerance, **wanted)
        b = _normal_pairs.solve(tensors, tolerance=tolerance, **wanted)
        np.testing.assert_allclose(b.distance.numpy(), a.distance, rtol=1e-13)
        np.testing.assert_allclose(b.lower.numpy(), a.lower, rtol=1e-13)
        for x, y in zip((*b.rates, *b.gradients), (*a.rates, *a.gradients), strict=True):
            np.testing.assert_allclose(x.numpy(), y, atol=1e-10)


# ------------------------------------------------------------------------------------------------------------- guards


def test_what_the_functions_refuse():
    p, q = Gaussian(np.zeros(2), np.eye(2)), Gaussian(np.ones(2), np.eye(2))
    with pytest.raises(ArgumentError, match="tol: found 1e-20"):
        normal_geodesic(p, q, tol=1e-20)
    with pytest.raises(ArgumentError, match="max_iter"):
        normal_geodesic(p, q, max_iter=-1)
    with pytest.raises(UnsupportedFamilyError, match="one family"):
        normal_geodesic(p, DiagonalGaussian([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(ShapeError, match="dimensions 2 and 3"):
        normal_geodesic(p, Gaussian(np.zeros(3), np.eye(3)))
    with pytest.raises(ShapeError, match="dimensions 2 and 3"):
        manifold.distance((np.zeros(2), np.eye(2)), (np.zeros(3), np.eye(3)))
    x = (np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
    with pytest.raises(ShapeError, match="do not broadcast"):
        manifold.log(x, (np.zeros((3, 2)), np.stack([np.eye(2)] * 3)))
    with pytest.raises(ShapeError, match="one time"):
        manifold.geodesic(x, x, [[0.5]])
    with pytest.raises(ShapeError, match=r"wanted \(\.\.\., 2\)"):
        manifold.exp(x, (np.zeros(3), np.eye(3)))
    with pytest.raises(ShapeError, match="do not broadcast against the batch shape"):
        manifold.norm(x, (np.zeros((3, 2)), np.zeros((3, 2, 2))))
    with pytest.raises(DomainError, match="not symmetric"):
        manifold.exp(x, (np.zeros(2), np.array([[0.0, 1.0], [0.0, 0.0]])))
    with pytest.raises(DomainError, match="range of float64"):
        manifold.exp(x, (np.zeros(2), 1e4 * np.eye(2)))
    with pytest.raises(DomainError, match="positive definite"):
        manifold.distance((np.zeros(2), np.eye(2)), (np.zeros(2), -np.eye(2)))


@pytest.mark.parametrize("scale", [1e-140, 1e-8, 1e8, 1e140])
def test_the_scale_of_the_coordinates_does_not_matter(scale):
    rng = RNG(6)
    p, q = normals(rng, 5, 3), normals(rng, 5, 3)
    a, b = (Gaussian(scale * x.mean, scale**2 * x.cov) for x in (p, q))
    np.testing.assert_allclose(fisher_rao_distance(a, b), fisher_rao_distance(p, q), rtol=1e-12)


def test_the_oracle_finds_the_closed_form():
    with mp.workdps(40):
        known = mp.sqrt(2) * mp.acosh(1 + (mp.mpf(2) ** 2 / 2 + 1) / 4)
        assert abs(fibre_distance([0.0], [[1.0]], [2.0], [[4.0]]) - known) < mp.mpf(10) ** -30
        assert matrix([[1.0]])[0, 0] == column([1.0])[0] == 1
