"""Measures: accuracy against independent answers, the properties their flags claim, and what they refuse."""

from __future__ import annotations

import itertools
import pickle
import warnings

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import (
    MAKERS,
    WIDTH,
    categorical_distance,
    categorical_length,
    categorical_probs,
    categoricals_at,
    curve_length,
    diagonal_distance,
    diagonal_length,
    exact,
    half_plane_curve,
    half_plane_length,
    half_plane_metric,
    normals_at,
    random_batch,
    random_covariance,
    shared_at,
    shared_distance,
    shared_length,
)

from infogeo import (
    MEASURES,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    LogNormal,
    Measure,
    PointMass,
    SharedCovarianceGaussian,
    bhattacharyya_distance,
    bures_wasserstein_distance,
    cosine_distance,
    euclidean_distance,
    fisher_rao_distance,
    hellinger_distance,
    jeffreys_divergence,
    jensen_shannon_distance,
    kl_divergence,
    pairwise,
    renyi_divergence,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.measures import measure

RNG = np.random.default_rng
CASES = [
    pytest.param(m, f, id=f"{m.name}-{f.__name__}") for m in MEASURES.values() for f in m.families if f in MAKERS
]  # the other families are put through their paces in test_family_geometry.py
METRICS = [c for c in CASES if c.values[0].is_metric(c.values[1])]
NOT_METRICS = [c for c in CASES if not c.values[0].is_metric(c.values[1])]
SYMMETRIC = [c for c in CASES if c.values[0].symmetric]
NOT_SYMMETRIC = [c for c in CASES if not c.values[0].symmetric]
RATIOS = (kl_divergence, jeffreys_divergence, hellinger_distance, bhattacharyya_distance)
DENSITIES = (DiagonalGaussian, SharedCovarianceGaussian, Gaussian, Categorical)
SCALES = [10.0**k for k in range(-8, 2)]


def relative_error(value, truth) -> float:
    return float(abs(mp.mpf(float(value)) - truth) / truth)


# ------------------------------------------------------------------------------- Fisher-Rao against 60 digits


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("d", [1, 4])
def test_fisher_rao_of_diagonal_normals_near_and_far(scale, d):
    rng = RNG(d)
    for offset, spread in itertools.product((0.0, 1e3), (1e-4, 1.0, 1e4)):
        mean, var = offset + rng.standard_normal(d), spread * np.exp(rng.standard_normal(d))
        p = DiagonalGaussian(mean, var)
        step = scale * rng.standard_normal((2, d))
        q = DiagonalGaussian(mean + np.sqrt(var) * step[0], var * np.exp(step[1]))
        assert relative_error(fisher_rao_distance(p, q), diagonal_distance(p, q)) < 1e-14


@pytest.mark.parametrize(
    ("mean1", "std1", "mean2", "std2", "expected"),
    [  # the extremes where peers lose all digits or a fifth of the distance
        (0.0, 1.0, 1e-9, 1.0, 1e-9),
        (0.0, 1.0, 1e-7, 1.0, 1e-7),
        (0.0, 1e-8, 1.0, 1e-8, 51.1213),
        (0.0, 1e-8, 1e8, 1e8, 52.6750),
    ],
)
def test_fisher_rao_of_univariate_extremes(mean1, std1, mean2, std2, expected):
    p, q = DiagonalGaussian([mean1], [std1**2]), DiagonalGaussian([mean2], [std2**2])
    assert relative_error(fisher_rao_distance(p, q), diagonal_distance(p, q)) < 1e-14
    assert float(fisher_rao_distance(p, q)) == pytest.approx(expected, rel=1e-5)


def test_fisher_rao_of_variances_one_unit_in_the_last_place_apart():
    v = 1.0 + 2.0**-52
    d = fisher_rao_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([0.0], [v]))
    assert float(d) == pytest.approx(2.0**-52 / 2**0.5, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("d", [1, 6])
def test_fisher_rao_of_shared_covariance_near_and_far(scale, d):
    rng = RNG(d)
    cov = random_covariance(d, rng)
    for offset in (0.0, 1e3):
        mean = offset + rng.standard_normal(d)
        p = SharedCovarianceGaussian(mean, cov)
        q = SharedCovarianceGaussian(mean + scale * rng.standard_normal(d), cov)
        assert relative_error(fisher_rao_distance(p, q), shared_distance(p, q)) < 1e-12


def test_fisher_rao_of_shared_covariance_at_distance_fifty():
    p, q = SharedCovarianceGaussian([0.0], [[1.0]]), SharedCovarianceGaussian([1e8], [[1.0]])
    q = SharedCovarianceGaussian([2 * 2**0.5 * np.sinh(50 / 2**1.5)], [[1.0]])
    assert float(fisher_rao_distance(p, q)) == pytest.approx(50.0, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("outcomes", [2, 5, 300])
def test_fisher_rao_of_categoricals_near_and_far(scale, outcomes):
    rng = RNG(outcomes)
    for peaked in (0.0, 3.0):
        logits = peaked * rng.standard_normal(outcomes)
        p = Categorical.from_logits(logits)
        q = Categorical.from_logits(logits + 4 * scale * rng.standard_normal(outcomes))
        truth = categorical_distance(p, q)
        assert truth > 1e-9
        assert relative_error(fisher_rao_distance(p, q), truth) < 1e-12


def test_fisher_rao_of_categoricals_a_step_of_1e_minus_8_apart():
    """2 arccos of the sum of roots is 47 % off here."""
    p, q = Categorical.from_probs([0.5, 0.5]), Categorical.from_probs([0.5 + 1e-8, 0.5 - 1e-8])
    assert relative_error(fisher_rao_distance(p, q), categorical_distance(p, q)) < 1e-12
    assert float(fisher_rao_distance(p, q)) == pytest.approx(2e-8, rel=1e-7)


def test_fisher_rao_of_categoricals_is_at_most_pi():
    disjoint = fisher_rao_distance(Categorical.from_probs([0.5, 0.5, 0, 0]), Categorical.from_probs([0, 0, 0.3, 0.7]))
    assert float(disjoint) == pytest.approx(np.pi, rel=1e-15)
    p, q = Categorical.from_probs([1 - 1e-12, 1e-12]), Categorical.from_probs([1e-12, 1 - 1e-12])
    assert relative_error(fisher_rao_distance(p, q), categorical_distance(p, q)) < 1e-14
    assert float(fisher_rao_distance(Categorical.from_probs([1.0]), Categorical.from_probs([1.0]))) == 0.0


# ----------------------------------------------------------------------------- Fisher-Rao as a length of curves


DISTANCES = [1e-8, 1e-4, 1.0, 10.0, 50.0]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_fisher_rao_of_diagonal_normals_is_the_length_of_the_shortest_curve(distance, d):
    p, q = normals_at(distance, d, RNG(d))
    length = diagonal_length(p, q)
    assert float(length) == pytest.approx(distance, rel=1e-6)
    assert relative_error(fisher_rao_distance(p, q), length) < 1e-10
    assert diagonal_length(p, q, detour=WIDTH * min(distance, 1.0)) > length * (1 + 1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("equal", ["means", "variances"])
def test_fisher_rao_of_univariate_normals_along_the_axes(distance, equal):
    """Straight up the half-plane sqrt(2) log(s2 / s1), and between equal variances 2 sqrt2 arsinh(t / 2 sqrt2)."""
    p = DiagonalGaussian([0.0], [1.0])
    if equal == "means":
        q = DiagonalGaussian([0.0], [np.exp(2**0.5 * distance)])
    else:
        q = DiagonalGaussian([2 * 2**0.5 * np.sinh(distance / (2 * 2**0.5))], [1.0])
    length = diagonal_length(p, q)
    assert float(length) == pytest.approx(distance, rel=1e-6)
    assert relative_error(fisher_rao_distance(p, q), length) < 1e-10


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("d", [1, 3])
def test_fisher_rao_of_shared_covariance_is_the_length_of_a_curve_of_all_normals(distance, d):
    p, q = shared_at(distance, d, RNG(d))
    length = shared_length(p, q)
    assert float(length) == pytest.approx(distance, rel=1e-6)
    assert relative_error(fisher_rao_distance(p, q), length) < 1e-10
    assert shared_length(p, q, detour=WIDTH * min(distance, 1.0)) > length * (1 + 1e-5)


@pytest.mark.parametrize("distance", [1e-8, 1e-4, 1.0, 3.0])
def test_fisher_rao_of_categoricals_is_the_length_of_a_great_circle(distance):
    p, q = categoricals_at(distance, RNG(3))
    ends = categorical_probs(p), categorical_probs(q)
    length = categorical_length(*ends)
    assert float(length) == pytest.approx(distance, rel=1e-6)
    assert relative_error(fisher_rao_distance(p, q), length) < 1e-10
    assert categorical_length(*ends, detour=WIDTH * min(distance, 1.0)) > length * (1 + 1e-5)


def test_the_oracle_of_lengths_notices_a_wrong_metric():
    curve = half_plane_curve(mp.mpf(0), mp.mpf(1), mp.mpf(2), mp.mpf(3))
    right = curve_length(curve, half_plane_metric)
    wrong = curve_length(curve, lambda x, dx: (dx[0] ** 2 + dx[1] ** 2) / x[1] ** 2)
    assert relative_error(half_plane_length(0.0, 1.0, 2.0, 3.0), right) < 1e-15
    assert relative_error(wrong, right) > 0.1


@pytest.mark.parametrize(
    ("mean1", "std1", "mean2", "std2"),
    [
        (0.0, 1e-150, 1e200, 1e-150), (0.0, 2.0**-537, 1.7e308, 1e-160), (-1.7e308, 1e-150, 1.7e308, 1e-150),
        (1e308, 1e150, -1e308, 1e-150), (0.0, 1e-150, 0.0, 1e150), (0.0, 1e140, 1e120, 1e140),
        (1e-160, 1e-150, -1e-160, 1e-150), (1e300, 1e150, 1.1e300, 1.1e150), (0.0, 1e150, 0.0, 1.0000001e150),
    ],
)  # fmt: skip
def test_fisher_rao_of_normals_at_the_ends_of_float64(mean1, std1, mean2, std2):
    """Right to 1e-13, without a warning (which would be an error), and in a batch as alone."""
    p, q = DiagonalGaussian([mean1], [std1**2]), DiagonalGaussian([mean2], [std2**2])
    truth = diagonal_distance(p, q)
    for value in (fisher_rao_distance(p, q), fisher_rao_distance(q, p)):
        assert relative_error(value, truth) < 1e-13
    batch = DiagonalGaussian([[mean1], [mean2], [0.0]], [[std1**2], [std2**2], [1.0]])
    values = fisher_rao_distance(batch[:, None], batch[None])
    assert values[0, 1] == fisher_rao_distance(p, q)
    assert not np.diagonal(values).any()
    assert np.isfinite(values).all()


@pytest.mark.parametrize("spread", [0.03, 0.3, 1.0, 3.0])
def test_fisher_rao_agrees_with_geomstats(spread):
    """At scales where geomstats keeps its digits: it loses them below about 1e-4, and beyond about 20."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("geomstats", reason="needs the extra: pip install 'infogeo[geomstats]'")
        from geomstats.information_geometry.categorical import CategoricalDistributions
        from geomstats.information_geometry.normal import NormalDistributions
    rng, n = RNG(4), 10
    half_plane = NormalDistributions(sample_dim=1).metric.dist
    x = random_batch(DiagonalGaussian, 2 * n, rng, d=1, spread=spread)
    points = np.concatenate([x.mean, np.sqrt(x.var)], axis=-1)
    np.testing.assert_allclose(fisher_rao_distance(x[:n], x[n:]), half_plane(points[:n], points[n:]), rtol=1e-9)
    x = random_batch(DiagonalGaussian, 2 * n, rng, d=3, spread=spread)
    points = np.concatenate([x.mean, x.var], axis=-1)
    diagonal = NormalDistributions(sample_dim=3, distribution_type="diagonal").metric.dist
    np.testing.assert_allclose(fisher_rao_distance(x[:n], x[n:]), diagonal(points[:n], points[n:]), rtol=1e-9)
    x = random_batch(Categorical, 2 * n, rng, d=3, spread=spread)
    sphere = CategoricalDistributions(4).metric.dist
    np.testing.assert_allclose(fisher_rao_distance(x[:n], x[n:]), sphere(x[:n].probs, x[n:].probs), rtol=1e-9)
    # with one covariance: univariate normals of variance one whose means are a Mahalanobis distance apart
    x = random_batch(SharedCovarianceGaussian, 2 * n, rng, d=3, spread=spread)
    shift = x.mean[:n] - x.mean[n:]
    apart = np.sqrt(np.einsum("ni,ij,nj->n", shift, np.linalg.inv(x.cov), shift))
    ends = np.stack([apart, np.ones(n)], axis=-1)
    np.testing.assert_allclose(fisher_rao_distance(x[:n], x[n:]), half_plane(np.array([0.0, 1.0]), ends), rtol=1e-9)


# --------------------------------------------------------------------------------- the other measures, 60 digits


@pytest.mark.parametrize("scale", SCALES)
def test_measures_of_diagonal_normals_in_60_digits(scale):
    rng = RNG(5)
    mean, var = rng.standard_normal(3), np.exp(rng.standard_normal(3))
    p = DiagonalGaussian(mean, var)
    q = DiagonalGaussian(mean + scale * rng.standard_normal(3), var * np.exp(scale * rng.standard_normal(3)))
    with mp.workdps(60):
        rows = list(zip(exact(p.mean), exact(p.var), exact(q.mean), exact(q.var), strict=True))
        kl = mp.fsum(v / w - 1 - mp.log(v / w) + (m - n) ** 2 / w for m, v, n, w in rows) / 2
        back = mp.fsum(w / v - 1 - mp.log(w / v) + (m - n) ** 2 / v for m, v, n, w in rows) / 2
        bhattacharyya = mp.fsum(
            mp.log((v + w) / (2 * mp.sqrt(v * w))) / 2 + (m - n) ** 2 / (4 * (v + w)) for m, v, n, w in rows
        )
        wasserstein = mp.sqrt(mp.fsum((m - n) ** 2 + (mp.sqrt(v) - mp.sqrt(w)) ** 2 for m, v, n, w in rows))
        hellinger = mp.sqrt(-mp.expm1(-bhattacharyya))
    for f, truth in (
        (kl_divergence, kl),
        (jeffreys_divergence, kl + back),
        (bhattacharyya_distance, bhattacharyya),
        (hellinger_distance, hellinger),
        (bures_wasserstein_distance, wasserstein),
    ):
        assert relative_error(f(p, q), truth) < 1e-13, f.name


@pytest.mark.parametrize("scale", SCALES)
def test_measures_of_categoricals_in_60_digits(scale):
    rng = RNG(6)
    logits = rng.standard_normal(6)
    p, q = Categorical.from_logits(logits), Categorical.from_logits(logits + scale * rng.standard_normal(6))
    with mp.workdps(60):
        rows = list(zip(categorical_probs(p), categorical_probs(q), strict=True))
        kl = mp.fsum(a * mp.log(a / b) for a, b in rows)
        jeffreys = mp.fsum((a - b) * mp.log(a / b) for a, b in rows)
        js = mp.fsum(a * mp.log(2 * a / (a + b)) + b * mp.log(2 * b / (a + b)) for a, b in rows) / 2
        affinity = mp.fsum(mp.sqrt(a * b) for a, b in rows)
        truths = (kl, jeffreys, mp.sqrt(js), -mp.log(affinity), mp.sqrt(1 - affinity))
    functions = (
        kl_divergence, jeffreys_divergence, jensen_shannon_distance, bhattacharyya_distance, hellinger_distance,
    )  # fmt: skip
    for f, truth in zip(functions, truths, strict=True):
        # a sum of 6 rounded probabilities is off from one by 1e-16, which a divergence of 1e-16 feels
        assert relative_error(f(p, q), truth) < max(1e-12, 1e-16 / float(truth) * (f is kl_divergence)), f.name


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 0.1, 1.0, 10.0])
def test_measures_of_full_normals_in_60_digits(scale):
    rng = RNG(7)
    base = random_covariance(4, rng)
    mean = rng.standard_normal(4)
    p = Gaussian(mean, base)
    q = Gaussian(mean + scale * rng.standard_normal(4), base + scale * random_covariance(4, rng))
    with mp.workdps(60):
        a, b = (mp.matrix([exact(row) for row in x.cov]) for x in (p, q))
        shift = mp.matrix([s - t for s, t in zip(exact(p.mean), exact(q.mean), strict=True)])
        middle = (a + b) / 2
        inverse = b**-1
        kl = (mp.fsum((inverse * a)[i, i] for i in range(4)) - 4 + (shift.T * inverse * shift)[0]) / 2
        kl += mp.log(mp.det(b) / mp.det(a)) / 2
        bhattacharyya = (shift.T * mp.lu_solve(middle, shift))[0] / 8
        bhattacharyya += mp.log(mp.det(middle) / mp.sqrt(mp.det(a) * mp.det(b))) / 2
        roots = mp.eigsy(a)
        half = roots[1] * mp.diag([mp.sqrt(v) for v in roots[0]]) * roots[1].T
        cross = mp.fsum(mp.sqrt(v) for v in mp.eigsy(half * b * half, eigvals_only=True))
        traces = mp.fsum(a[i, i] + b[i, i] for i in range(4))
        wasserstein = mp.sqrt((shift.T * shift)[0] + traces - 2 * cross)
    assert relative_error(kl_divergence(p, q), kl) < 1e-12
    assert relative_error(bhattacharyya_distance(p, q), bhattacharyya) < 1e-12
    assert relative_error(hellinger_distance(p, q), mp.sqrt(-mp.expm1(-bhattacharyya))) < 1e-12
    assert relative_error(bures_wasserstein_distance(p, q), wasserstein) < 1e-11
    assert float(jeffreys_divergence(p, q)) == float(kl_divergence(p, q) + kl_divergence(q, p))


@pytest.mark.parametrize("scale", SCALES)
def test_cosine_distance_in_60_digits(scale):
    rng = RNG(8)
    u = rng.standard_normal(5)
    v = 3.0 * (u + scale * rng.standard_normal(5))
    with mp.workdps(60):
        a, b = exact(u), exact(v)
        lengths = mp.sqrt(mp.fsum(x * x for x in a) * mp.fsum(x * x for x in b))
        truth = 1 - mp.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths
    value = cosine_distance(PointMass(u), PointMass(v))
    # u and v are not close, their directions are: rounding of v alone turns it by 1e-16
    assert abs(float(mp.sqrt(mp.mpf(float(value))) - mp.sqrt(truth))) < 1e-15 + 1e-13 * float(mp.sqrt(truth))
    near = PointMass(u * (1 + 0 * scale)), PointMass(u + scale * (v - u))
    with mp.workdps(60):
        a, b = exact(near[0].location), exact(near[1].location)
        lengths = mp.sqrt(mp.fsum(x * x for x in a) * mp.fsum(x * x for x in b))
        truth = 1 - mp.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths
    if scale < 1:
        assert relative_error(cosine_distance(*near), truth) < 1e-6
    assert float(cosine_distance(PointMass([1.0, 0.0]), PointMass([-2.0, 0.0]))) == 2.0


@pytest.mark.parametrize("factor", [1e-200, 1e-12, 1e12, 1e200])
def test_cosine_distance_of_vectors_of_very_different_length(factor):
    u, v = RNG(3).standard_normal((2, 4, 5))
    wanted = cosine_distance(PointMass(u), PointMass(v))
    np.testing.assert_allclose(cosine_distance(PointMass(factor * u), PointMass(v)), wanted, rtol=1e-14)
    np.testing.assert_allclose(cosine_distance(PointMass(u), PointMass(factor * v)), wanted, rtol=1e-14)


@pytest.mark.parametrize("family", [DiagonalGaussian, SharedCovarianceGaussian])
@pytest.mark.parametrize("f", [*RATIOS, bures_wasserstein_distance], ids=lambda f: f.name)
def test_special_normals_agree_with_full_ones(family, f):
    x = random_batch(family, 5, RNG(9))
    full = x.to_full()
    np.testing.assert_allclose(f(x[:, None], x[None]), f(full[:, None], full[None]), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("family", DENSITIES)
def test_kl_is_the_mean_of_the_log_ratio(family):
    x = random_batch(family, 2, RNG(10), spread=0.7)
    at = x[0].sample(11, shape=(100_000,))
    ratio = x[0].log_prob(at) - x[1].log_prob(at)
    assert abs(ratio.mean() - float(kl_divergence(x[0], x[1]))) < 5 * ratio.std() / 100_000**0.5


@pytest.mark.parametrize("family", DENSITIES)
def test_hellinger_is_one_less_the_mean_of_the_root_of_the_ratio(family):
    x = random_batch(family, 2, RNG(12), spread=0.5)
    at = x[0].sample(13, shape=(100_000,))
    root = np.exp((x[1].log_prob(at) - x[0].log_prob(at)) / 2)
    assert abs(root.mean() - (1 - float(hellinger_distance(x[0], x[1])) ** 2)) < 5 * root.std() / 100_000**0.5


# ------------------------------------------------------------------------------------- properties, from the flags


@pytest.mark.parametrize(("m", "family"), CASES)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-6, 0.1, 1.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_every_measure_is_zero_at_home_and_positive_elsewhere(m, family, seed, spread):
    x = random_batch(family, 6, RNG(seed), spread=spread)
    assert (m(x, x) == 0).all()
    off_diagonal = m(x[:, None], x[None])[~np.eye(6, dtype=bool)]
    assert (off_diagonal > 0).all()
    assert np.isfinite(off_diagonal).all()


@pytest.mark.parametrize(("m", "family"), SYMMETRIC)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-6, 0.1, 1.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_symmetry(m, family, seed, spread):
    x = random_batch(family, 6, RNG(seed), spread=spread)
    values = m(x[:, None], x[None])
    np.testing.assert_allclose(values, values.T, rtol=1e-12 if spread > 1e-3 else 1e-8)


@pytest.mark.parametrize(("m", "family"), NOT_SYMMETRIC)
def test_what_is_not_called_symmetric_is_not(m, family):
    x = random_batch(family, 200, RNG(0))
    differs = bool((np.abs(m(x[:100], x[100:]) - m(x[100:], x[:100])) > 1e-3).any())
    # with one covariance the Kullback-Leibler divergence happens to be half the squared Mahalanobis distance
    assert differs == (family is not SharedCovarianceGaussian)


@pytest.mark.parametrize(("m", "family"), METRICS)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 1.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_triangle_inequality(m, family, seed, spread):
    x = random_batch(family, 60, RNG(seed), spread=spread)
    a, b, c = x[:20], x[20:40], x[40:]
    assert (m(a, b) <= (m(a, c) + m(c, b)) * (1 + 1e-12)).all()


@pytest.mark.parametrize(("m", "family"), NOT_METRICS)
def test_what_is_not_called_a_metric_breaks_the_triangle_inequality(m, family):
    x = random_batch(family, 600, RNG(0), d=2)
    a, b, c = x[:200], x[200:400], x[400:]
    assert (m(a, b) > m(a, c) + m(c, b)).any()


@pytest.mark.parametrize("family", [f for f in fisher_rao_distance.families if f in MAKERS])
@pytest.mark.parametrize("spread", [1e-3, 1e-5, 1e-7])
def test_all_densities_measures_have_the_fisher_metric_as_their_limit(family, spread):
    """d^2 = 2 KL = Jeffreys = 8 Bhattacharyya = 8 Hellinger^2 to third order, by Taylor's formula."""
    x = random_batch(family, 40, RNG(14), spread=spread)
    p, q = x[:20], x[20:]
    d2 = fisher_rao_distance(p, q) ** 2
    for value in (
        2 * kl_divergence(p, q), jeffreys_divergence(p, q), 8 * bhattacharyya_distance(p, q),
        8 * hellinger_distance(p, q) ** 2,
    ):  # fmt: skip
        np.testing.assert_allclose(value, d2, rtol=max(20 * spread, 1e-4 if spread < 1e-6 else 0))
    if family is Categorical:
        np.testing.assert_allclose(8 * jensen_shannon_distance(p, q) ** 2, d2, rtol=20 * spread)


@pytest.mark.parametrize("family", [f for f in fisher_rao_distance.families if f in MAKERS])
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 1.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_fisher_rao_is_at_most_the_root_of_jeffreys_and_at_least_the_hellinger_chord(family, seed, spread):
    x = random_batch(family, 40, RNG(seed), spread=spread)
    p, q = x[:20], x[20:]
    d = fisher_rao_distance(p, q)
    assert (d <= np.sqrt(jeffreys_divergence(p, q)) * (1 + 1e-9)).all()
    # the square roots of densities lie on a sphere: the arc is at least twice the angle between its ends
    angle = 2 * np.arcsin(hellinger_distance(p, q) / 2**0.5)
    assert (d >= 2 * angle * (1 - 1e-9)).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("f", [fisher_rao_distance, *RATIOS], ids=lambda f: f.name)
def test_an_affine_map_of_the_samples_changes_nothing(f, seed):
    """All but the Wasserstein distance depend on densities' ratios alone (Amari and Nagaoka 2000)."""
    rng = RNG(seed)
    shift, scale = 10 * rng.standard_normal(3), np.exp(rng.standard_normal(3)) * rng.choice([-1, 1], 3)
    matrix = rng.standard_normal((3, 3)) + 3 * np.eye(3)
    assume(np.linalg.cond(matrix) < 100)
    x = random_batch(DiagonalGaussian, 4, rng)
    moved = DiagonalGaussian(x.mean * scale + shift, x.var * scale**2)
    np.testing.assert_allclose(f(moved[:, None], moved[None]), f(x[:, None], x[None]), rtol=1e-9, atol=1e-12)
    x = random_batch(SharedCovarianceGaussian, 4, rng)
    moved = SharedCovarianceGaussian(x.mean @ matrix.T + shift, matrix @ x.cov @ matrix.T)
    np.testing.assert_allclose(f(moved[:, None], moved[None]), f(x[:, None], x[None]), rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("m", [m for m in MEASURES.values() if Categorical in m.families], ids=lambda m: m.name)
def test_merging_outcomes_never_increases_a_measure(m, seed):
    """Monotone under coarse graining (Cencov 1982), and unchanged by splitting outcomes in equal shares."""
    p, q = random_batch(Categorical, 2, RNG(seed), d=4)
    merged = [Categorical.from_counts([a[0] + a[1], *a[2:]]) for a in (p.probs, q.probs)]
    assert float(m(*merged)) <= float(m(p, q)) * (1 + 1e-9)
    split = [Categorical.from_probs(np.repeat(a / 2, 2)) for a in (p.probs, q.probs)]
    assert float(m(*split)) == pytest.approx(float(m(p, q)), rel=1e-9)


def test_diagonal_distance_is_not_that_among_all_normals():
    """The docstring says so: with one covariance, the distance among all normals is smaller."""
    mean = np.array([[0.0, 0.0], [3.0, 3.0]])
    diagonal = fisher_rao_distance(*DiagonalGaussian(mean, np.ones((2, 2))))
    among_all = fisher_rao_distance(*SharedCovarianceGaussian(mean, np.eye(2)))
    assert float(diagonal) > float(among_all) + 0.1


# ------------------------------------------------------------------------------------------ zero probabilities


def test_disjoint_supports():
    p, q = Categorical.from_probs([0.5, 0.5, 0.0]), Categorical.from_probs([0.0, 0.0, 1.0])
    assert float(kl_divergence(p, q)) == np.inf
    assert float(jeffreys_divergence(p, q)) == np.inf
    assert float(bhattacharyya_distance(p, q)) == np.inf
    assert float(hellinger_distance(p, q)) == 1.0
    assert float(jensen_shannon_distance(p, q)) == pytest.approx(np.log(2) ** 0.5, rel=1e-15)


def test_partly_overlapping_supports():
    p, q = Categorical.from_probs([0.5, 0.5, 0.0]), Categorical.from_probs([0.25, 0.25, 0.5])
    assert float(kl_divergence(p, q)) == pytest.approx(np.log(2), rel=1e-15)
    assert float(kl_divergence(q, p)) == np.inf
    assert float(kl_divergence(p, p)) == 0.0
    assert float(bhattacharyya_distance(p, q)) == pytest.approx(-np.log(2 * 0.125**0.5), rel=1e-14)
    js = 0.5 * np.log(0.5 / 0.375) + 0.25 * np.log(0.25 / 0.375) + 0.25 * np.log(2)
    assert float(jensen_shannon_distance(p, q)) ** 2 == pytest.approx(js, rel=1e-14)


def test_probabilities_too_small_for_float64_are_handled_by_their_logarithms():
    p, q = Categorical([0.0, -1000.0]), Categorical([-np.inf, 0.0])
    for m in (m for m in MEASURES.values() if Categorical in m.families):
        assert not np.isnan(m(p, q)), m.name
        assert not np.isnan(m(q, p)), m.name


def test_kl_beyond_float64_is_infinite_without_a_warning():
    p, q = DiagonalGaussian([0.0], [1e300]), DiagonalGaussian([0.0], [1e-300])
    assert float(kl_divergence(p, q)) == np.inf
    assert float(jeffreys_divergence(p, q)) == np.inf
    assert np.isfinite(kl_divergence(q, p))
    assert float(fisher_rao_distance(p, q)) == pytest.approx(2**0.5 * np.log(1e300), rel=1e-14)


IN_UNITS = {
    "mean": 1, "location": 1, "factor": 1, "var": 2, "cov": 2, "diagonal": 2,
}  # fmt: skip
"""Parameters of families of vectors, and the power of the unit that they have."""


def in_unit(x, unit):
    """The same distributions with every vector multiplied by a number."""
    return type(x)(**{name: getattr(x, name) * unit ** IN_UNITS[name] for name in vars(x) if name in IN_UNITS})


OF_VECTORS = [c for c in CASES if c.values[1] is not Categorical]


@pytest.mark.parametrize("power", [-500, -300, 300, 500])
@pytest.mark.parametrize(("m", "family"), OF_VECTORS)
def test_the_unit_of_the_vectors_changes_nothing_however_large_or_small(m, family, power):
    """Squares of means, and products of two covariances, leave the range of float64; the answers do not."""
    unit = 2.0**power
    x = random_batch(family, 6, RNG(3))
    y = in_unit(x, unit)
    wanted = m(x[:, None], x[None]) * (unit if m in (bures_wasserstein_distance, euclidean_distance) else 1.0)
    for values in (m(y[:, None], y[None]), pairwise(m, y)):
        off = ~np.eye(6, dtype=bool)
        np.testing.assert_allclose(values[off], wanted[off], rtol=1e-9)


LARGE = [0.0, 1e-300, 1.0, -1e20, 1e160, -1e300]
POSITIVE = [1e-300, 1e-160, 1e-20, 1.0, 1e20, 1e160, 1e300]
ENDS_OF_FLOAT64 = {
    DiagonalGaussian: lambda m, v: DiagonalGaussian(m[:, None], v[:, None]),
    IsotropicGaussian: lambda m, v: IsotropicGaussian(np.stack([m, 0 * m], axis=1), v),
    Gaussian: lambda m, v: Gaussian(m[:, None], v[:, None, None]),
    CenteredGaussian: lambda m, v: CenteredGaussian(v[m == 0][:, None, None]),
    SharedCovarianceGaussian: lambda m, v: SharedCovarianceGaussian(m[v == 1][:, None], [[1e-300]]),
    PointMass: lambda m, v: PointMass(np.stack([m, m / 2 + v / 4], axis=1)),
}


def makes_one_standard(m, family):
    """Whether a measure sees one normal in units of the other, which for some pairs leaves float64: an error there."""
    return family is Gaussian and m.name in ("fisher_rao_distance", "calvo_oller_distance")


@pytest.mark.parametrize("name", ["fisher_rao_distance", "calvo_oller_distance"])
def test_full_normals_at_the_ends_of_float64_have_an_answer_or_an_error(name):
    x, y = (ENDS_OF_FLOAT64[f](*np.array(list(itertools.product(LARGE, POSITIVE))).T)[::3] for f in (
        Gaussian, DiagonalGaussian))  # fmt: skip
    exact, answers = fisher_rao_distance(y[:, None], y[None]), 0
    for i, j in itertools.product(range(len(x)), repeat=2):
        try:
            value = float(MEASURES[name](x[i], x[j]))
        except DomainError as error:
            assert "too far apart for float64" in str(error)  # noqa: PT017
            assert exact[i, j] > 200
            continue
        answers += 1
        if name == "fisher_rao_distance":
            assert value == pytest.approx(exact[i, j], rel=1e-9)
        else:
            assert 0.9 * exact[i, j] / 2**0.5 < value + 1e-300 <= exact[i, j] * (1 + 1e-9) + 1e-300
    assert answers > 50


@pytest.mark.parametrize(
    ("m", "family"), [c for c in CASES if c.values[1] in ENDS_OF_FLOAT64 and not makes_one_standard(*c.values)]
)
def test_at_the_ends_of_float64_there_is_an_answer_and_no_warning(m, family):
    """Every pair of a grid of means and variances; what exceeds 1e308 is infinite, what is bounded stays so."""
    x = ENDS_OF_FLOAT64[family](*np.array(list(itertools.product(LARGE, POSITIVE))).T)
    if m.name == "total_variation_distance" and family is IsotropicGaussian:  # closed in one dimension only
        x = IsotropicGaussian(x.mean[:, :1], x.var)
    values = m(x[:, None], x[None])
    assert (values >= 0).all()
    if m.symmetric:
        np.testing.assert_allclose(values, values.T, rtol=1e-12)
    if m in (fisher_rao_distance, bhattacharyya_distance) and family is CenteredGaussian:
        assert np.isfinite(values).all()
    if m.name in ("hellinger_distance", "total_variation_distance"):
        assert values.max() == 1.0
    blocks = pairwise(m, x)
    far = ~np.eye(len(x), dtype=bool)
    np.testing.assert_allclose(blocks[far], values[far], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("family", [DiagonalGaussian, IsotropicGaussian, SharedCovarianceGaussian, Gaussian])
def test_means_whose_squares_leave_float64_are_compared_in_standard_deviations(family):
    full = family in (SharedCovarianceGaussian, Gaussian)
    for size, std in ((1e160, 1e150), (1e-160, 1e-150)):
        spread = np.float64(std * std) if family is IsotropicGaussian else [std * std]
        p, q = (family([m], [spread] if full else spread) for m in (0.0, size))
        delta = size / std
        for value, wanted in (
            (kl_divergence(p, q), delta**2 / 2), (jeffreys_divergence(p, q), delta**2),
            (bhattacharyya_distance(p, q), delta**2 / 8), (renyi_divergence(p, q, order=2), delta**2),
            (fisher_rao_distance(p, q), 2 * 2**0.5 * np.arcsinh(delta / 8**0.5)),
            (bures_wasserstein_distance(p, q), size),
        ):  # fmt: skip
            assert float(value) == pytest.approx(wanted, rel=1e-9)
    p, q = (LogNormal(m, 1e300) for m in (0.0, 1e160))  # once infinite, as the KL of normals
    assert float(kl_divergence(p, q)) == pytest.approx(5e19, rel=1e-12)


@pytest.mark.parametrize("gap", [1e-140, 1e-200, 1e-300])
def test_distances_whose_squares_underflow_are_not_zero(gap):
    for family in (DiagonalGaussian, IsotropicGaussian):
        x = family([[0.0, 0.0], [3 * gap, 4 * gap], [0.0, 0.0]], [1.0, 1.0, 1.0] if family is IsotropicGaussian
                   else np.ones((3, 2)))  # fmt: skip
        for values in (fisher_rao_distance(x[:, None], x[None]), pairwise(fisher_rao_distance, x)):
            np.testing.assert_allclose(values, 5 * gap * (1 - np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])), rtol=1e-14)
        if family is DiagonalGaussian:
            t = family(*(torch_tensor(v) for v in (x.mean, x.var)))
            value = fisher_rao_distance(t[0], t[1])
            assert float(value) == pytest.approx(5 * gap, rel=1e-14)


def torch_tensor(values):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    return torch.tensor(np.array(values))


def test_log_densities_of_large_and_small_units():
    rng = RNG(0)
    for family in (f for f in MAKERS if f not in (Categorical, PointMass)):
        x = random_batch(family, 3, rng)
        at = rng.standard_normal((3, 3))
        for power in (-500, 500):
            shift = 3 * power * np.log(2.0)
            found = in_unit(x, 2.0**power).log_prob(at * 2.0**power)
            np.testing.assert_allclose(found, x.log_prob(at) - shift, rtol=1e-12, atol=1e-10)


# ------------------------------------------------------------------------------------------ measures as objects


def test_mixed_families_are_refused_with_the_list_of_those_supported():
    p, q = DiagonalGaussian([0.0], [1.0]), Gaussian([0.0], [[1.0]])
    with pytest.raises(
        UnsupportedFamilyError,
        match=r"found DiagonalGaussian and Gaussian; to_full\(\) .* Registered families: .*Categorical, .*DiagonalG",
    ):
        kl_divergence(p, q)
    with pytest.raises(UnsupportedFamilyError, match=r"found Categorical and DiagonalGaussian\. Registered"):
        fisher_rao_distance(Categorical.from_probs([1.0]), p)


def test_unsupported_families_are_told_what_to_use():
    with pytest.raises(UnsupportedFamilyError, match="point mass has no density; for plain vectors use euclidean"):
        fisher_rao_distance(PointMass([0.0]), PointMass([1.0]))
    with pytest.raises(UnsupportedFamilyError, match="distance between the outcomes"):
        bures_wasserstein_distance(Categorical.from_probs([1.0]), Categorical.from_probs([1.0]))
    with pytest.raises(UnsupportedFamilyError, match=r"not defined for DiagonalGaussian\. .* families: PointMass"):
        cosine_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([0.0], [1.0]))


def test_plain_arrays_are_refused_with_the_wrapper_to_use():
    with pytest.raises(UnsupportedFamilyError, match=r"found ndarray; wrap plain vectors as PointMass"):
        cosine_distance(np.zeros(3), np.ones(3))


def test_a_subclass_needs_a_kernel_of_its_own():
    class Special(DiagonalGaussian):
        pass

    with pytest.raises(UnsupportedFamilyError, match="not defined for Special"):
        fisher_rao_distance(Special([0.0], [1.0]), Special([0.0], [1.0]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="dimensions 2 and 3"):
        euclidean_distance(PointMass([0.0, 0.0]), PointMass([0.0, 0.0, 0.0]))
    with pytest.raises(ShapeError, match=r"shapes \(2,\) and \(3,\) do not broadcast; for all pairs use pairwise"):
        euclidean_distance(PointMass([[0.0]] * 2), PointMass([[0.0]] * 3))


def test_two_shared_covariances_must_be_one():
    p, q = (SharedCovarianceGaussian([0.0, 0.0], c * np.eye(2)) for c in (1.0, 2.0))
    with pytest.raises(DomainError, match=r"different covariances.*to_full\(\)"):
        fisher_rao_distance(p, q)
    same = SharedCovarianceGaussian([1.0, 0.0], np.eye(2))
    assert float(kl_divergence(p, same)) == pytest.approx(0.5)


def test_zero_vectors_have_no_cosine():
    with pytest.raises(DomainError, match="vector 1 of the second argument is zero"):
        cosine_distance(PointMass([[1.0, 0.0]] * 2), PointMass([[1.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize(("m", "family"), CASES)
def test_batches_broadcast(m, family):
    x = random_batch(family, 6, RNG(0))
    p, q = x[:4][:, None], x[4:][None]
    values = m(p, q)
    assert values.shape == (4, 2)
    assert values.dtype == np.float64
    for i, j in itertools.product(range(4), range(2)):
        assert float(m(x[i], x[4 + j])) == pytest.approx(values[i, j], rel=1e-12)
    assert m(x[0], x[1]).shape == ()


def test_a_second_kernel_or_measure_of_one_name_is_refused():
    with pytest.raises(ArgumentError, match="has a kernel for Categorical already"):
        fisher_rao_distance.register(Categorical, scratch=1)
    with pytest.raises(ArgumentError, match="kl_divergence exists already"):
        measure(symmetric=False, metric=False)(kl_divergence)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="a metric is symmetric"):
        Measure("odd", symmetric=False, metric=True)


def test_a_family_can_say_otherwise_about_the_metric():
    odd = Measure("odd", symmetric=True, metric=True)
    odd.register(PointMass, scratch=1)(lambda p, q: np.abs(p.location - q.location).sum(axis=-1))
    odd.register(Categorical, scratch=1, metric=False)(lambda p, q: np.abs(p.probs - q.probs).sum(axis=-1) ** 2)
    assert odd.is_metric(PointMass)
    assert not odd.is_metric(Categorical)
    assert float(odd(PointMass([0.0, 0.0]), PointMass([1.0, 2.0]))) == 3.0
    assert odd.families == (Categorical, PointMass)
    assert "odd" not in MEASURES


def test_the_table_holds_every_measure_and_cannot_be_changed():
    assert set(MEASURES) >= {
        "bhattacharyya_distance", "bures_wasserstein_distance", "cosine_distance", "euclidean_distance",
        "fisher_rao_distance", "hellinger_distance", "jeffreys_divergence", "jensen_shannon_distance", "kl_divergence",
    }  # fmt: skip
    assert all(m.name == name == m.__name__ and m.__doc__ for name, m in MEASURES.items())
    with pytest.raises(TypeError):
        MEASURES["x"] = kl_divergence  # type: ignore[index]


@pytest.mark.parametrize("m", MEASURES.values(), ids=lambda m: m.name)
def test_measures_show_and_pickle_by_name(m):
    assert repr(m) == f"<measure {m.name}>"
    assert pickle.loads(pickle.dumps(m)) is m


def test_what_is_called_a_distance_but_is_no_metric_says_so_in_its_first_line():
    for name, m in MEASURES.items():
        if name.endswith("distance") and not all(m.is_metric(f) for f in m.families):
            assert "not a metric" in m.__doc__.lstrip().splitlines()[0].lower(), name


def test_array_kernels_take_torch_tensors():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    from infogeo import _kernels

    rng = RNG(0)
    a, b = (np.log(rng.dirichlet(np.ones(5), size=3)) for _ in range(2))
    a[0, 0] = b[0, 0] = b[1, 1] = -np.inf
    x, y = rng.standard_normal((2, 3, 5))
    for kernel, arguments in (
        (_kernels.root_differences, (a, b)), (_kernels.kl_terms, (a, b)), (_kernels.jensen_shannon_terms, (a, b)),
        (_kernels.half_plane_distances, (x, y, np.exp(x), np.exp(y), np.exp(x) - np.exp(y))),
        (_kernels.half_plane_distances, (1e300 * x, y, np.exp(x), 1e-200 * np.exp(y), np.exp(x))),
        (_kernels.cosine_complements, (x, y)),
        (_kernels.log1p_excess, (np.exp(x),)),
    ):  # fmt: skip
        tensors = [torch.from_numpy(v.copy()) for v in arguments]
        np.testing.assert_allclose(kernel(*tensors).numpy(), kernel(*arguments), rtol=1e-12)
