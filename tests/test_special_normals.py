"""Isotropic and centered normals, and the geometry of those with one covariance: against closed forms and each other.

What holds for every family (metric against KL and Monte Carlo, exp against log, batches) is in test_family_geometry.py.
"""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact, random_batch, random_covariance, univariate_distance

from infogeo import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    PointMass,
    SharedCovarianceGaussian,
    bhattacharyya_distance,
    bures_wasserstein_distance,
    exponential_map,
    fisher_information,
    fisher_rao_distance,
    geodesic,
    hellinger_distance,
    inner_product,
    jeffreys_divergence,
    kl_divergence,
    logarithm_map,
    mahalanobis_distance,
    pairwise,
)
from infogeo.errors import DomainError, ShapeError, UnsupportedFamilyError
from infogeo.manifolds import simplex

RNG = np.random.default_rng
MEASURES = (
    fisher_rao_distance, kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance,
    bures_wasserstein_distance,
)  # fmt: skip
RATIOS = MEASURES[1:]
SCALES = [1e-9, 1e-6, 1e-3, 0.1, 1.0, 10.0]


def relative_error(value, truth) -> float:
    return float(abs(mp.mpf(float(value)) - truth) / truth)


def isotropic_distance(p: IsotropicGaussian, q: IsotropicGaussian):
    """Sqrt(2 d) arcosh(1 + (|dm|^2 / 2d + ds^2) / 2 s1 s2), the hyperbolic distance, in 60 digits."""
    with mp.workdps(60):
        d = p.dimension
        gap = mp.fsum((a - b) ** 2 for a, b in zip(exact(p.mean), exact(q.mean), strict=True))
        (s1,), (s2,) = ([mp.sqrt(v) for v in exact(x.var)] for x in (p, q))
        return mp.sqrt(2 * d) * mp.acosh(1 + (gap / (2 * d) + (s1 - s2) ** 2) / (2 * s1 * s2))


def matrix(x: np.ndarray):
    return mp.matrix([exact(row) for row in x])


def centered_eigenvalues(p: CenteredGaussian, q: CenteredGaussian):
    """Eigenvalues of S^-1 T in 90 digits."""
    whitening = mp.cholesky(matrix(p.cov)) ** -1
    whitened = whitening * matrix(q.cov) * whitening.T
    return list(mp.eigsy((whitened + whitened.T) / 2, eigvals_only=True))


def isotropic_pair(scale: float, d: int, rng: np.random.Generator) -> tuple[IsotropicGaussian, IsotropicGaussian]:
    mean, var = rng.standard_normal(d), float(np.exp(rng.standard_normal()))
    p = IsotropicGaussian(mean, var)
    grown = var * np.exp(min(scale, 3.0) * rng.uniform(0.3, 1))
    return p, IsotropicGaussian(mean + scale * rng.standard_normal(d), grown)


def centered_pair(scale: float, d: int, rng: np.random.Generator) -> tuple[CenteredGaussian, CenteredGaussian]:
    cov = random_covariance(d, rng)
    low, step = np.linalg.cholesky(cov), rng.standard_normal((d, d))
    values, basis = np.linalg.eigh(step + step.T)
    change = basis * np.expm1(min(scale, 3.0) * values) @ basis.T
    return CenteredGaussian(cov), CenteredGaussian(cov + low @ change @ low.T)


# ------------------------------------------------------------------------------------------------------ the families


def test_isotropic_parameters_broadcast():
    p = IsotropicGaussian(np.zeros((4, 3)), 2.0)
    assert p.batch_shape == (4,)
    assert p.var.tolist() == [2.0] * 4
    q = IsotropicGaussian(np.zeros(3), [[1.0], [2.0]])
    assert q.batch_shape == (2, 1)
    assert q.mean.shape == (2, 1, 3)
    assert IsotropicGaussian(np.zeros(3), 1.0).batch_shape == ()
    assert (q[1].var, q[..., 0][1].var.shape) == (2.0, ())
    assert not p.mean.flags.writeable
    assert not p.var.flags.writeable
    assert p.coordinate_size == 4
    np.testing.assert_array_equal(p.coordinates()[0], [0, 0, 0, 2])


def test_special_normals_say_the_same_as_full_ones():
    rng = RNG(0)
    for p in (random_batch(IsotropicGaussian, 4, rng), random_batch(CenteredGaussian, 4, rng)):
        full, x = p.to_full(), rng.standard_normal((7, 1, 3))
        np.testing.assert_allclose(p.log_prob(x), full.log_prob(x), rtol=1e-12)
        np.testing.assert_allclose(p.entropy(), full.entropy(), rtol=1e-12)
        np.testing.assert_allclose(p.sample(3, shape=(5,)), full.sample(3, shape=(5,)), atol=1e-12)
        assert p[2].sample(1).shape == (3,)
        header, rows = p.parameter_rows()
        assert len(rows) == 4
        assert len(header) == len(rows[0])
    wide = random_batch(IsotropicGaussian, 4, rng)
    np.testing.assert_array_equal(wide.to_diagonal().var, np.repeat(wide.var[:, None], 3, axis=1))
    np.testing.assert_array_equal(wide.to_diagonal().mean, wide.mean)
    assert IsotropicGaussian([[1.0], [2.0]], 4.0).parameter_rows() == (("mean", "variance"), [(1.0, 4.0), (2.0, 4.0)])


def test_samples_have_the_moments_of_the_parameters():
    rng, n = RNG(1), 40_000
    p, q = random_batch(IsotropicGaussian, 2, rng), random_batch(CenteredGaussian, 2, rng)
    x, y = p.sample(2, shape=(n,)), q.sample(2, shape=(n,))
    assert (np.abs(x.mean(axis=0) - p.mean) < 5 * np.sqrt(p.var / n)[:, None]).all()
    assert (np.abs(x.var(axis=0) / p.var[:, None] - 1) < 5 * (2 / n) ** 0.5).all()
    spread = np.einsum("nbi,nbj->bij", y, y) / n
    size = np.sqrt(np.einsum("bii,bjj->bij", q.cov, q.cov))
    assert (np.abs(spread - q.cov) < 7 * size / n**0.5).all()


def test_other_number_types_are_read_as_float64():
    p = IsotropicGaussian(np.zeros(2, dtype=np.float16), np.int64(3))
    q = CenteredGaussian(np.array([[2, 1], [1, 2]]))
    assert p.mean.dtype == p.var.dtype == q.cov.dtype == np.float64
    np.testing.assert_array_equal(CenteredGaussian([[1.0, 1e-10], [0.0, 1.0]]).cov[0, 1], 5e-11)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: IsotropicGaussian(np.zeros(2), 0.0), DomainError, "var: the variance is 0.0; variances must be"),
        (lambda: IsotropicGaussian(np.zeros(2), [1.0, -1.0]), DomainError, r"var: entry \(1,\) is -1.0"),
        (lambda: IsotropicGaussian([0.0, np.nan], 1.0), DomainError, r"mean: entry \(1,\) is nan"),
        (lambda: IsotropicGaussian([0.0], np.inf), DomainError, r"var: entry \(\) is inf"),
        (lambda: IsotropicGaussian(np.zeros((2, 3)), np.ones(3)), ShapeError, "do not broadcast"),
        (lambda: IsotropicGaussian(0.0, 1.0), ShapeError, "wanted .*d at least 1"),
        (lambda: IsotropicGaussian(np.zeros((0, 3)), 1.0), ShapeError, "holds no members"),
        (lambda: IsotropicGaussian(np.zeros(3), np.ones(0)), ShapeError, "holds no members"),
        (lambda: IsotropicGaussian(np.zeros(2), 1.0).log_prob(np.zeros(3)), ShapeError, r"x: found shape \(3,\)"),
        (lambda: CenteredGaussian(np.ones((2, 3))), ShapeError, r"cov: found shape \(2, 3\), wanted \(..., d, d\)"),
        (lambda: CenteredGaussian(1.0), ShapeError, r"cov: found shape \(\)"),
        (lambda: CenteredGaussian(np.zeros((0, 2, 2))), ShapeError, "holds no members"),
        (lambda: CenteredGaussian([[1.0, 0.5], [0.4, 1.0]]), DomainError, "cov: not symmetric"),
        (lambda: CenteredGaussian(np.ones((2, 2))), DomainError, "cov: not positive definite"),
        (lambda: CenteredGaussian([np.eye(2), -np.eye(2)]), DomainError, r"cov\[1\]: not positive definite"),
        (lambda: CenteredGaussian([[1.0, np.inf], [np.inf, 1.0]]), DomainError, r"cov: entry \(0, 1\) is inf"),
        (lambda: CenteredGaussian(np.eye(2)).with_coordinates([1.0, 0.0]), ShapeError, r"wanted \(..., 3\)"),
        (lambda: CenteredGaussian(np.eye(2)).log_prob(np.zeros(3)), ShapeError, r"x: found shape \(3,\)"),
    ],
)
def test_bad_parameters_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


# ------------------------------------------------------------------------------------------------- isotropic normals


@pytest.mark.parametrize("scale", [*SCALES, 1e3, 1e8])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_distance_of_isotropic_normals_near_and_far(scale, d):
    for seed in range(3):
        p, q = isotropic_pair(scale, d, RNG(seed))
        assert relative_error(fisher_rao_distance(p, q), isotropic_distance(p, q)) < 1e-14


def test_distance_of_isotropic_normals_along_the_axes_and_at_the_ends_of_float64():
    d, apart = 4, 40.0
    up = IsotropicGaussian(np.zeros(d), np.exp(2 * apart / (2 * d) ** 0.5))
    assert float(fisher_rao_distance(IsotropicGaussian(np.zeros(d), 1.0), up)) == pytest.approx(apart, rel=1e-14)
    across = IsotropicGaussian([2 * (2 * d) ** 0.5 * np.sinh(apart / (2 * (2 * d) ** 0.5)), 0, 0, 0], 1.0)
    assert float(fisher_rao_distance(IsotropicGaussian(np.zeros(d), 1.0), across)) == pytest.approx(apart, rel=1e-14)
    p, q = IsotropicGaussian([0.0, 1e200], 1e-300), IsotropicGaussian([1e200, 0.0], 1e300)
    assert relative_error(fisher_rao_distance(p, q), isotropic_distance(p, q)) < 1e-14


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_isotropic_normals_in_one_dimension_are_univariate(measure):
    x = random_batch(IsotropicGaussian, 8, RNG(3), d=1)
    y = x.to_diagonal()
    np.testing.assert_allclose(measure(x[:, None], x[None]), measure(y[:, None], y[None]), rtol=1e-13)


@pytest.mark.parametrize("measure", RATIOS, ids=lambda m: m.name)
@pytest.mark.parametrize("scale", SCALES)
def test_measures_of_isotropic_normals_are_those_of_diagonal_ones(measure, scale):
    """The measures that look at two densities alone, not at curves between them."""
    p, q = isotropic_pair(scale, 5, RNG(4))
    np.testing.assert_allclose(measure(p, q), measure(p.to_diagonal(), q.to_diagonal()), rtol=1e-13)
    np.testing.assert_allclose(measure(q, p), measure(q.to_diagonal(), p.to_diagonal()), rtol=1e-13)


def test_operations_on_isotropic_normals_in_one_dimension_are_univariate():
    p, q = (random_batch(IsotropicGaussian, 5, RNG(i), d=1) for i in (5, 6))
    a, b = p.to_diagonal(), q.to_diagonal()
    np.testing.assert_allclose(logarithm_map(p, q), logarithm_map(a, b), rtol=1e-13)
    np.testing.assert_allclose(fisher_information(p), fisher_information(a), rtol=1e-14)
    t = [0.0, 0.3, 0.8]
    np.testing.assert_allclose(geodesic(p, q, t).coordinates(), geodesic(a, b, t).coordinates(), rtol=1e-12, atol=1e-14)
    v = RNG(7).standard_normal((5, 2))
    np.testing.assert_allclose(exponential_map(p, v).coordinates(), exponential_map(a, v).coordinates(), rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-9, 1e-7, 1e-4])
def test_the_logarithm_of_close_neighbors_has_the_digits_of_the_distance(scale):
    rng = RNG(8)
    mean, var = rng.standard_normal((6, 3)), np.exp(rng.standard_normal(6))
    shifted, grown = mean + scale * rng.standard_normal((6, 3)), var * (1 + scale * rng.standard_normal(6))
    p, q = IsotropicGaussian(mean, var), IsotropicGaussian(shifted, grown)
    for a, b in ((p, q), (p.to_diagonal(), q.to_diagonal())):
        v = logarithm_map(a, b)
        np.testing.assert_allclose(np.sqrt(inner_product(a, v, v)), fisher_rao_distance(a, b), rtol=1e-13)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_whole_blocks_of_isotropic_normals_keep_the_digits_of_close_neighbors(measure):
    """Far from the origin, and with neighbors 1e-8 apart, where a matrix product alone has none."""
    rng = RNG(24)
    mean, var = 1e6 + rng.standard_normal((30, 3)), np.exp(rng.standard_normal(30))
    near = mean + 1e-8 * rng.standard_normal((30, 3))
    x = IsotropicGaussian(np.concatenate([mean, near]), np.concatenate([var, var * (1 + 1e-8)]))
    expected = measure(x[:, None], x[None])
    np.testing.assert_allclose(pairwise(measure, x), expected, rtol=1e-10)
    np.testing.assert_allclose(pairwise(measure, x, memory=1e5), expected, rtol=1e-10)


# -------------------------------------------------------------------------------------------------- centered normals


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_measures_of_centered_normals_in_90_digits(scale, d):
    p, q = centered_pair(scale, d, RNG(d))
    with mp.workdps(90):
        values = centered_eigenvalues(p, q)
        distance = mp.sqrt(mp.fsum(mp.log(x) ** 2 for x in values) / 2)
        kl = mp.fsum(1 / x - 1 + mp.log(x) for x in values) / 2
        jeffreys = mp.fsum(x + 1 / x - 2 for x in values) / 2
        bhattacharyya = mp.fsum(mp.log((1 + x) / (2 * mp.sqrt(x))) for x in values) / 2
        root = mp.eigsy(matrix(p.cov))
        half = root[1] * mp.diag([mp.sqrt(v) for v in root[0]]) * root[1].T
        cross = mp.eigsy(half * matrix(q.cov) * half, eigvals_only=True)
        traces = mp.fsum(matrix(p.cov)[i, i] + matrix(q.cov)[i, i] for i in range(d))
        wasserstein = mp.sqrt(traces - 2 * mp.fsum(mp.sqrt(v) for v in cross))
    assert relative_error(fisher_rao_distance(p, q), distance) < 1e-12
    rounding = 1e-15 * max(np.linalg.cond(x.cov) for x in (p, q)) + 1e-12  # of the Cholesky factors
    assert relative_error(kl_divergence(p, q), kl) < rounding
    assert relative_error(jeffreys_divergence(p, q), jeffreys) < rounding
    assert relative_error(bhattacharyya_distance(p, q), bhattacharyya) < rounding
    assert relative_error(hellinger_distance(p, q), mp.sqrt(-mp.expm1(-bhattacharyya))) < rounding
    assert relative_error(bures_wasserstein_distance(p, q), wasserstein) < rounding


@pytest.mark.parametrize("ratio", [1 + 2.0**-52, 1 + 1e-9, 0.5, 1e-3, np.exp(40 * 2**0.5)])
def test_centered_normals_in_one_dimension_differ_by_a_logarithm(ratio):
    p, q = CenteredGaussian([[3.0]]), CenteredGaussian([[3.0 * ratio]])
    with mp.workdps(60):
        truth = abs(mp.log(exact(q.cov)[0] / 3)) / mp.sqrt(2)
    assert relative_error(fisher_rao_distance(p, q), truth) < 1e-14
    a, b = DiagonalGaussian([0.0], p.cov[0]), DiagonalGaussian([0.0], q.cov[0])
    assert float(fisher_rao_distance(p, q)) == pytest.approx(float(fisher_rao_distance(a, b)), rel=1e-14)


def test_centered_normals_with_diagonal_covariances_are_diagonal_normals():
    """The one case where the smaller manifold gives the same distance: diagonal matrices are totally geodesic."""
    var = np.exp(RNG(9).standard_normal((6, 3)))
    x, y = CenteredGaussian(var[..., None] * np.eye(3)), DiagonalGaussian(np.zeros((6, 3)), var)
    for measure in MEASURES:
        np.testing.assert_allclose(measure(x[:3], x[3:]), measure(y[:3], y[3:]), rtol=1e-12)
    middle, expected = geodesic(x[:3], x[3:], 0.5), geodesic(y[:3], y[3:], 0.5)
    np.testing.assert_allclose(middle.cov, expected.to_full().cov, rtol=1e-12, atol=1e-14)


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-6, 0.3, 3.0]))
@settings(max_examples=12, deadline=None)
def test_the_distance_of_centered_normals_is_affine_invariant(seed, spread):
    rng = RNG(seed)
    x = random_batch(CenteredGaussian, 6, rng, spread=spread)
    a = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    y = CenteredGaussian(a @ x.cov @ a.T)
    z = CenteredGaussian(np.linalg.inv(x.cov))
    d = fisher_rao_distance(x[:3], x[3:])
    np.testing.assert_allclose(fisher_rao_distance(y[:3], y[3:]), d, rtol=1e-9, atol=1e-12 * np.linalg.cond(a) ** 2)
    np.testing.assert_allclose(fisher_rao_distance(z[:3], z[3:]), d, rtol=1e-9, atol=1e-12)


def test_geomstats_agrees_where_it_is_right():
    reason = "geomstats is an oracle among others; pip install 'infogeo[geomstats]' to use it"
    spd = pytest.importorskip("geomstats.geometry.spd_matrices", reason=reason)
    x, y = random_batch(CenteredGaussian, 8, RNG(10)), random_batch(CenteredGaussian, 8, RNG(11))
    space = spd.SPDMatrices(3, equip=False)
    space.equip_with_metric(spd.SPDAffineMetric)
    np.testing.assert_allclose(fisher_rao_distance(x, y), space.metric.dist(x.cov, y.cov) / 2**0.5, rtol=1e-10)
    velocity = x.split(logarithm_map(x, y))["cov"]
    np.testing.assert_allclose(velocity, space.metric.log(y.cov, x.cov), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(
        geodesic(x, y, 0.3).cov, space.metric.geodesic(x.cov, y.cov)(0.3)[:, 0], rtol=1e-8, atol=1e-10
    )


# ------------------------------------------------------------------------------------- the order of the manifolds


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 0.5, 2.0, 8.0]), d=st.integers(2, 5))
@settings(max_examples=12, deadline=None)
def test_a_smaller_manifold_gives_a_longer_distance(seed, spread, d):
    rng = RNG(seed)
    x = random_batch(IsotropicGaussian, 8, rng, d=d, spread=spread)
    isotropic = fisher_rao_distance(x[:4], x[4:])
    diagonal = fisher_rao_distance(x[:4].to_diagonal(), x[4:].to_diagonal())
    assert (isotropic >= diagonal * (1 - 1e-12)).all()
    y = random_batch(SharedCovarianceGaussian, 8, rng, d=d, spread=spread)
    held, free = mahalanobis_distance(y[:4], y[4:]), fisher_rao_distance(y[:4], y[4:])
    assert (held >= free * (1 - 1e-12)).all()
    assert (held > free).all() or spread < 0.1
    z = random_batch(DiagonalGaussian, 8, rng, d=d, spread=min(spread, 2.0))
    small = x if spread < 5 else random_batch(IsotropicGaussian, 8, rng, d=d, spread=2.0)
    for batch in (small, z):
        within, among = (fisher_rao_distance(b[:4], b[4:]) for b in (batch, batch.to_full()))
        assert (within >= among * (1 - 1e-9)).all()
    # two that are totally geodesic: centered normals, and a pair of one covariance
    for batch in (random_batch(CenteredGaussian, 8, rng, d=d), y):
        within, among = (fisher_rao_distance(b[:4], b[4:]) for b in (batch, batch.to_full()))
        np.testing.assert_allclose(within, among, rtol=1e-8)


def test_the_order_of_the_manifolds_is_strict():
    p, q = IsotropicGaussian([0.0, 0.0], 1.0), IsotropicGaussian([3.0, 3.0], 2.0)
    diagonal = fisher_rao_distance(p.to_diagonal(), q.to_diagonal())
    assert float(fisher_rao_distance(p, q)) == pytest.approx(float(diagonal), rel=1e-12)  # along the diagonal: the same
    q = IsotropicGaussian([3.0, 0.0], 2.0)
    assert fisher_rao_distance(p, q) > 1.005 * fisher_rao_distance(p.to_diagonal(), q.to_diagonal())


# -------------------------------------------------------------------------------------------- Mahalanobis distance


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_mahalanobis_distance_in_60_digits(scale):
    rng = RNG(12)
    cov, mean = random_covariance(4, rng), rng.standard_normal(4)
    p = SharedCovarianceGaussian([mean, mean + scale * rng.standard_normal(4)], cov)
    with mp.workdps(60):
        shift = mp.matrix([a - b for a, b in zip(*(exact(row) for row in p.mean), strict=True)])
        truth = mp.sqrt((shift.T * mp.lu_solve(matrix(p.cov), shift))[0])
    assert relative_error(mahalanobis_distance(p[0], p[1]), truth) < 1e-13


def test_mahalanobis_distance_is_flat_and_pairwise_agrees():
    rng = RNG(13)
    x = random_batch(SharedCovarianceGaussian, 30, rng)
    line = SharedCovarianceGaussian(x.mean[0] + np.outer([0.0, 1.0, 3.0], x.mean[1] - x.mean[0]), x.cov)
    a, b, whole = (mahalanobis_distance(line[i], line[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert float(a + b) == pytest.approx(float(whole), rel=1e-13)
    table = mahalanobis_distance(x[:, None], x[None])
    np.testing.assert_allclose(pairwise(mahalanobis_distance, x), table, rtol=1e-9, atol=1e-14)
    assert mahalanobis_distance.is_metric(SharedCovarianceGaussian)
    # the distance among all normals is that of univariate normals this far apart
    univariate = univariate_distance(0, 1, mp.mpf(float(table[0, 1])), 1)
    assert float(fisher_rao_distance(x[0], x[1])) == pytest.approx(float(univariate), rel=1e-12)


@pytest.mark.parametrize(("family", "match"), [
    (Gaussian, "each of these normals has a covariance of its own"),
    (DiagonalGaussian, "variances of its own"),
    (PointMass, "use euclidean_distance"),
])  # fmt: skip
def test_mahalanobis_distance_says_why_it_refuses(family, match):
    x = random_batch(family, 2, RNG(0))
    with pytest.raises(UnsupportedFamilyError, match=match):
        mahalanobis_distance(x[0], x[1])
    y = random_batch(SharedCovarianceGaussian, 2, RNG(1))
    with pytest.raises(DomainError, match="different covariances"):
        mahalanobis_distance(y[0], SharedCovarianceGaussian(y.mean[1], 2 * y.cov))


# --------------------------------------------------------------------- one covariance: geodesics among all normals


def path_of(p, q, t):
    x = geodesic(p, q, t)
    assert type(x) is Gaussian
    return x.mean, x.cov


def speed(mean_rate, cov_rate, cov) -> float:
    """Length of a velocity among all normals, from the matrix form of the metric."""
    moved = np.linalg.solve(cov, cov_rate)
    return float(np.sqrt(mean_rate @ np.linalg.solve(cov, mean_rate) + np.trace(moved @ moved) / 2))


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_geodesics_of_one_covariance_solve_the_geodesic_equation_of_all_normals(spread):
    """m'' = S' S^-1 m' and S'' = S' S^-1 S' - m' m'^T (Skovgaard 1984), at the speed of the distance."""
    x = random_batch(SharedCovarianceGaussian, 2, RNG(14), spread=spread)
    p, q, h = x[0], x[1], 1e-3
    d = float(fisher_rao_distance(p, q))
    for t in (0.2, 0.5, 0.7):
        points = [path_of(p, q, t + k * h) for k in (-2, -1, 0, 1, 2)]
        (dm, ds), (ddm, dds) = (
            [sum(c * point[i] for c, point in zip(weights, points, strict=True)) / scale for i in (0, 1)]
            for weights, scale in (((1, -8, 0, 8, -1), 12 * h), ((-1, 16, -30, 16, -1), 12 * h**2))
        )
        cov = points[2][1]
        assert speed(dm, ds, cov) == pytest.approx(d, rel=1e-7)
        np.testing.assert_allclose(ddm, ds @ np.linalg.solve(cov, dm), atol=1e-5 * (1 + d**2))
        np.testing.assert_allclose(dds, ds @ np.linalg.solve(cov, ds) - np.outer(dm, dm), atol=1e-5 * (1 + d**2))


def test_geodesics_of_one_covariance_meet_their_ends_and_are_the_same_backwards():
    x = random_batch(SharedCovarianceGaussian, 6, RNG(15), spread=30.0)
    p, q = x[:3], x[3:]
    t = np.linspace(0, 1, 5)
    mean, cov = path_of(p, q, t)
    assert mean.shape == (3, 5, 3)
    np.testing.assert_array_equal(mean[:, 0], p.mean)
    np.testing.assert_array_equal(mean[:, -1], q.mean)
    np.testing.assert_allclose(cov[:, 0], np.broadcast_to(x.cov, (3, 3, 3)), atol=1e-10)
    back, cov_back = path_of(q, p, 1 - t)
    np.testing.assert_allclose(back, mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(cov_back, cov, rtol=1e-8, atol=1e-8)
    # half way the variance along the shift has grown to 1 + Delta^2 / 8 times, across it stays
    shift, delta = q.mean - p.mean, mahalanobis_distance(p, q)
    grown = x.cov + np.einsum("ni,nj->nij", shift, shift) / 8
    np.testing.assert_allclose(cov[:, 2], grown, rtol=1e-9)
    np.testing.assert_allclose(mean[:, 2], (p.mean + q.mean) / 2, rtol=1e-9, atol=1e-9)
    assert (delta > 10).all()
    still_mean, still_cov = path_of(p, p, t)
    np.testing.assert_array_equal(still_mean[:, 3], p.mean)
    np.testing.assert_array_equal(still_cov, np.broadcast_to(x.cov, (3, 5, 3, 3)))


def test_the_logarithm_of_one_covariance_is_the_velocity_of_the_geodesic():
    x = random_batch(SharedCovarianceGaussian, 6, RNG(16))
    p, q, h = x[:3], x[3:], 1e-3
    full, v = p.to_full(), logarithm_map(p, q)
    assert v.shape == (3, full.coordinate_size)
    parts = full.split(v)
    lengths = [speed(m, s, x.cov) for m, s in zip(parts["mean"], parts["cov"], strict=True)]
    np.testing.assert_allclose(lengths, fisher_rao_distance(p, q), rtol=1e-12)
    ahead = [geodesic(p, q, k * h).coordinates() for k in range(5)]
    slope = sum(c * y for c, y in zip((-25, 48, -36, 16, -3), ahead, strict=True)) / (12 * h)
    np.testing.assert_allclose(v, slope, atol=1e-7)
    np.testing.assert_array_equal(logarithm_map(p, p), 0.0)


def test_the_exponential_map_of_one_covariance_leaves_with_the_velocity_and_runs_its_length():
    rng = RNG(17)
    p = random_batch(SharedCovarianceGaussian, 3, rng)
    v = rng.standard_normal((3, 3))
    length = np.sqrt(inner_product(p, v, v))
    np.testing.assert_allclose(length**2, np.einsum("ni,nij,nj->n", v, fisher_information(p), v), rtol=1e-12)
    np.testing.assert_allclose(fisher_information(p)[1], np.linalg.inv(p.cov), rtol=1e-10)
    end = exponential_map(p, v)
    assert type(end) is Gaussian
    # in the univariate half-plane of the direction: from (0, 1) level, to sqrt2 tanh and 1 / cosh of length / sqrt2
    along = 2**0.5 * np.tanh(length / 2**0.5) / length
    np.testing.assert_allclose(end.mean, p.mean + along[:, None] * v, rtol=1e-12)
    lost = (1 / np.cosh(length / 2**0.5) ** 2 - 1) / length**2
    np.testing.assert_allclose(end.cov, p.cov + lost[:, None, None] * np.einsum("ni,nj->nij", v, v), rtol=1e-10)
    still = exponential_map(p, np.zeros(3))
    np.testing.assert_array_equal(still.mean, p.mean)
    np.testing.assert_array_equal(still.cov[2], p.cov)
    many = exponential_map(p[0], v)
    np.testing.assert_allclose(many.mean[0], end.mean[0])
    with pytest.raises(ShapeError, match=r"velocity: found shape \(9,\), wanted \(..., 3\)"):
        exponential_map(p, np.zeros(9))


def test_closed_forms_of_the_special_normals_agree_with_the_solver_of_all_normals():
    rng = RNG(23)
    t = np.array([0.0, 0.4, 1.0])
    for p, q in (
        [random_batch(CenteredGaussian, 3, rng) for _ in range(2)],
        (lambda x: (x[:3], x[3:]))(random_batch(SharedCovarianceGaussian, 6, rng)),
    ):
        full = p.to_full(), q.to_full()
        special, among = geodesic(p, q, t), geodesic(*full, t)
        cov = special.cov
        np.testing.assert_allclose(cov, among.cov, rtol=1e-7, atol=1e-8)
        v = logarithm_map(p, q)
        if isinstance(p, CenteredGaussian):
            v = full[0].join(mean=np.zeros((3, 3)), cov=p.split(v)["cov"])
            assert (np.abs(among.mean) < 1e-9).all()
        else:
            np.testing.assert_allclose(special.mean, among.mean, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(v, logarithm_map(*full), rtol=1e-7, atol=1e-8)
    v = rng.standard_normal((3, 3))
    level = full[0].join(mean=v, cov=np.zeros((3, 3, 3)))
    ends = exponential_map(p, v), exponential_map(full[0], level)
    np.testing.assert_allclose(ends[0].mean, ends[1].mean, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ends[0].cov, ends[1].cov, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(inner_product(p, v, v), inner_product(full[0], level, level), rtol=1e-10)


# ------------------------------------------------------------------------------------------------------ categoricals


def test_operations_on_categoricals_are_those_of_the_simplex():
    p, q = (random_batch(Categorical, 4, RNG(i)) for i in (18, 19))
    a, b = p.probs, q.probs
    v = logarithm_map(p, q)
    np.testing.assert_allclose(v, simplex.log(a, b)[:, :-1], rtol=1e-13)
    np.testing.assert_allclose(np.sqrt(inner_product(p, v, v)), fisher_rao_distance(p, q), rtol=1e-12)
    np.testing.assert_allclose(exponential_map(p, v).probs, b, rtol=1e-12)
    np.testing.assert_allclose(geodesic(p, q, [0.2, 0.6]).probs, simplex.geodesic(a, b, [0.2, 0.6]), rtol=1e-13)
    # the metric matrix diag(1 / p) + 1 / p_V, inverse to the covariance diag(p) - p p'
    inner = a[:, :-1]
    cov = inner[..., None] * np.eye(4) - inner[..., None] * inner[:, None]
    np.testing.assert_allclose(fisher_information(p) @ cov, np.broadcast_to(np.eye(4), (4, 4, 4)), atol=1e-12)


def test_at_the_border_of_the_simplex_there_are_geodesics_but_no_metric():
    p, q = Categorical.from_probs([1.0, 0.0, 0.0]), Categorical.from_probs([0.0, 0.5, 0.5])
    np.testing.assert_allclose(geodesic(p, q, 0.5).probs, [0.5, 0.25, 0.25], atol=1e-15)
    inside = Categorical.from_probs([0.2, 0.3, 0.5])
    np.testing.assert_allclose(exponential_map(inside, logarithm_map(inside, p)).probs, p.probs, atol=1e-14)
    for call in (
        lambda: fisher_information(p), lambda: inner_product(p, [0.0, 0.0], [0.0, 0.0]), lambda: logarithm_map(p, q),
        lambda: exponential_map(p, [0.0, 0.0]),
    ):  # fmt: skip
        with pytest.raises(DomainError, match=r"the probability of outcome \(1\) is zero; at the border"):
            call()
    with pytest.raises(DomainError, match="meets the border of the simplex"):
        exponential_map(inside, [-0.5, 0.4])
    with pytest.raises(DomainError, match="its inverse too large"):
        fisher_information(Categorical([0.0, -710.0]))
    assert fisher_information(Categorical([0.0])).shape == (0, 0)


# --------------------------------------------------------------------------------------------------- range of float64


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fisher_information(DiagonalGaussian([0.0], [1e-200])), "fisher_information: the result leaves"),
        (lambda: fisher_information(IsotropicGaussian([0.0], 1e-200)), "fisher_information: the result leaves"),
        (lambda: fisher_information(CenteredGaussian([[1e-200]])), "fisher_information: the result leaves"),
        (lambda: logarithm_map(*DiagonalGaussian([[-1e308], [1e308]], [[1.0], [1.0]])), "difference is too large"),
        (lambda: logarithm_map(*IsotropicGaussian([[-1e308], [1e308]], 1.0)), "difference is too large"),
        (lambda: geodesic(*IsotropicGaussian([[0.0], [1e305]], 1.0), 0.5), "geodesic: the result leaves"),
        (lambda: exponential_map(DiagonalGaussian([0.0], [1.0]), [0.0, 800.0]), "exponential_map: the result leaves"),
        (lambda: exponential_map(IsotropicGaussian([0.0], 1.0), [0.0, -800.0]), "exponential_map: the result leaves"),
        (lambda: exponential_map(IsotropicGaussian([0.0], 1.0), [0.0, 2000.0]), "leaves the range of float64"),
        (lambda: exponential_map(CenteredGaussian(np.eye(2)), [800.0, 0.0, 0.0]), "leaves the range of float64"),
    ],
)
def test_results_out_of_the_range_of_float64_are_errors(call, match):
    with pytest.raises(DomainError, match=match):
        call()


def test_inner_products_hold_where_the_matrix_does_not():
    v = [0.0, 1e-200]
    assert float(inner_product(DiagonalGaussian([0.0], [1e-200]), v, v)) == pytest.approx(0.5)
    assert float(inner_product(IsotropicGaussian([0.0], 1e-200), v, v)) == pytest.approx(0.5)
    assert float(inner_product(CenteredGaussian([[1e-200]]), [1e-200], [1e-200])) == pytest.approx(0.5)


# ------------------------------------------------------------------------------------------------------------- torch

TORCH = "torch computes the gradients; pip install 'infogeo[transformers]'"


def gradients_by_differences(value, arrays, h=1e-5):
    """Central differences of fourth order of a sum over the members, for each entry of each array."""
    found = []
    for k, array in enumerate(arrays):
        slope = np.zeros_like(array)
        for i in np.ndindex(array.shape):
            for step, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
                moved = [a.copy() for a in arrays]
                moved[k][i] += step * h
                slope[i] += weight * value(*moved) / (12 * h)
        found.append(slope)
    return found


def isotropic_value(measure):
    return lambda m, v, n, w: measure(IsotropicGaussian(m, v), IsotropicGaussian(n, w)).sum()


def centered_value(measure):
    """Of the symmetric part, so that single entries can be moved."""

    def value(a, b):
        parts = [(x + x.swapaxes(-1, -2)) / 2 for x in (a, b)]
        return measure(*(CenteredGaussian(x) for x in parts)).sum()

    return value


def isotropic_arrays(rng):
    means = rng.standard_normal((3, 2)), rng.standard_normal(2)
    return [means[0], np.exp(rng.standard_normal(3)), means[1], np.exp(rng.uniform(0, 1, 3))]


def centered_arrays(rng):
    """Pairs of random covariances, and of such that differ by a factor and have all eigenvalues equal."""
    covs = np.stack([random_covariance(2, rng) for _ in range(2)])
    same = np.broadcast_to(np.eye(2), (3, 2, 2)).copy()
    return [np.concatenate([covs, same]), np.concatenate([covs[::-1], same * [[[2.0]], [[1.001]], [[1e3]]]])]


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
@pytest.mark.parametrize(("value", "arrays"), [(isotropic_value, isotropic_arrays), (centered_value, centered_arrays)])
def test_gradients_are_those_of_differences(measure, value, arrays):
    torch = pytest.importorskip("torch", reason=TORCH)
    parts = arrays(RNG(20))
    tensors = [torch.tensor(a, requires_grad=True) for a in parts]
    total = value(measure)(*tensors)
    assert float(total.detach()) == pytest.approx(float(value(measure)(*parts)), rel=1e-13)
    total.backward()
    for tensor, slope in zip(tensors, gradients_by_differences(value(measure), parts), strict=True):
        size = np.abs(slope).max()
        np.testing.assert_allclose(tensor.grad.numpy(), slope, rtol=1e-6, atol=1e-7 * size)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_gradients_at_equal_arguments_are_zero(measure):
    torch = pytest.importorskip("torch", reason=TORCH)
    covs = np.stack([np.eye(3), np.diag([1.0, 2.0, 2.0])])
    for value, parts in ((isotropic_value, [np.zeros((2, 3)), np.ones(2)]), (centered_value, [covs])):
        tensors = [torch.tensor(a, requires_grad=True) for a in parts + parts]
        total = value(measure)(*tensors)
        total.backward()
        assert float(total.detach()) == 0.0
        for tensor in tensors:
            assert (tensor.grad == 0).all()


def test_the_gradient_of_the_distance_has_length_one():
    """|grad d| = 1 in the metric: the derivative along a unit velocity v away from q is 1."""
    torch = pytest.importorskip("torch", reason=TORCH)
    for scale in (1e-8, 1e-3, 1.0):
        p, q = centered_pair(scale, 3, RNG(21))
        cov = torch.tensor(p.cov, requires_grad=True)
        fisher_rao_distance(CenteredGaussian(cov), CenteredGaussian(torch.tensor(q.cov))).backward()
        v = p.split(logarithm_map(p, q))["cov"] / float(fisher_rao_distance(p, q))
        assert float((cov.grad.numpy() * v).sum()) == pytest.approx(-1.0, rel=1e-7)
        dual = p.cov @ cov.grad.numpy() @ p.cov * 2  # the gradient, turned into a velocity
        np.testing.assert_allclose(dual, -v, rtol=1e-6, atol=1e-7)


def test_tensors_come_back_as_tensors_and_operations_refuse_gradients():
    torch = pytest.importorskip("torch", reason=TORCH)
    p = IsotropicGaussian(torch.zeros(4, 2, requires_grad=True), 1.0)
    assert p.var.dtype == p.mean.dtype == torch.float64
    assert fisher_rao_distance(p[:2], p[2:]).shape == (2,)
    assert p.log_prob(torch.zeros(2)).requires_grad
    assert torch.is_tensor(CenteredGaussian(torch.eye(2)).entropy())
    with pytest.raises(DomainError, match="record"):
        logarithm_map(p, p)
    c = CenteredGaussian(torch.eye(2, dtype=torch.float64, requires_grad=True))
    for call in (
        lambda: geodesic(c, c, 0.5), lambda: fisher_information(c), lambda: exponential_map(c, np.zeros(3)),
        lambda: inner_product(c, np.zeros(3), np.zeros(3)),
    ):  # fmt: skip
        with pytest.raises(DomainError, match="record"):
            call()
    plain = CenteredGaussian(torch.eye(2))
    np.testing.assert_allclose(geodesic(plain, CenteredGaussian(4 * torch.eye(2)), 0.5).cov, 2 * np.eye(2))
    log_probs = torch.log(torch.tensor([0.5, 0.5], dtype=torch.float64)).requires_grad_()
    with pytest.raises(DomainError, match="record"):
        fisher_information(Categorical(log_probs))


def test_ill_conditioned_tensors_are_measured_as_arrays_are():
    torch = pytest.importorskip("torch", reason=TORCH)
    rng = RNG(22)
    basis = np.linalg.qr(rng.standard_normal((2, 4, 4)))[0]
    cov = basis * np.array([1e-5, 1e-2, 1.0, 1e5]) @ basis.swapaxes(-1, -2)
    cov = (cov + cov.swapaxes(-1, -2)) / 2
    expected = fisher_rao_distance(CenteredGaussian(cov[0]), CenteredGaussian(cov[1]))
    tensors = [CenteredGaussian(torch.tensor(c)) for c in cov]
    assert float(fisher_rao_distance(*tensors)) == pytest.approx(float(expected), rel=1e-12)
