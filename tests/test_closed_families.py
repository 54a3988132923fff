"""Families with closed forms: accuracy near, far and at extreme scales against mpmath, ends of manifolds, guards."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import univariate_distance

from infogeo import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    Geometric,
    InverseGaussian,
    LogNormal,
    Multinomial,
    Poisson,
    Weibull,
    bhattacharyya_distance,
    exponential_map,
    fisher_information,
    fisher_rao_distance,
    geodesic,
    hellinger_distance,
    inner_product,
    jeffreys_divergence,
    jensen_shannon_distance,
    kl_divergence,
    logarithm_map,
    pairwise,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng
DIGITS = 60
SCALES = [1e-9, 1e-7, 1e-4, 1e-2, 1.0, 5.0]


def relative_error(value: Any, truth: Any) -> float:
    if truth == 0:
        return abs(float(value))
    return float(abs(mp.mpf(float(value)) / truth - 1))


# -------------------------------------------------------------------------------------- closed forms in 60 digits


def hyperbolic(u: Any, y: Any, v: Any, z: Any) -> Any:
    """Distance in the half-plane of curvature -1, by arcosh."""
    return mp.acosh(1 + ((u - v) ** 2 + (y - z) ** 2) / (2 * y * z))


def bernoulli_distance(p: Any, q: Any) -> Any:
    return 2 * abs(mp.asin(mp.sqrt(p)) - mp.asin(mp.sqrt(q)))


def geometric_distance(p: Any, q: Any) -> Any:
    """The integral of dp / (p sqrt(1 - p)) is -2 log((1 + sqrt(1 - p)) / sqrt p)."""
    a, b = (2 * mp.log((1 + mp.sqrt(1 - x)) / mp.sqrt(x)) for x in (p, q))
    return abs(a - b)


def weibull_distance(k: Any, scale: Any, other: Any, unlike: Any) -> Any:
    """pi / sqrt 6 times the hyperbolic distance in (log scale + (1 - gamma) / k, pi / (sqrt 6 k))."""
    lift, factor = 1 - mp.euler, mp.pi / mp.sqrt(6)
    return factor * hyperbolic(mp.log(scale) + lift / k, factor / k, mp.log(unlike) + lift / other, factor / other)


def inverse_gaussian_distance(m: Any, shape: Any, n: Any, other: Any) -> Any:
    root = mp.sqrt(2)
    return root * hyperbolic(root / mp.sqrt(m), 1 / mp.sqrt(shape), root / mp.sqrt(n), 1 / mp.sqrt(other))


def two_outcomes(p: Any, q: Any) -> Any:
    return p * mp.log(p / q) + (1 - p) * mp.log((1 - p) / (1 - q))


def weibull_kl(k: Any, scale: Any, other: Any, unlike: Any) -> Any:
    """Bauckhage, Computing the Kullback-Leibler divergence between two Weibull distributions (2013), eq. (2)."""
    return (
        mp.log(k / scale**k) - mp.log(other / unlike**other) + (k - other) * (mp.log(scale) - mp.euler / k)
        + (scale / unlike) ** other * mp.gamma(other / k + 1) - 1
    )  # fmt: skip


def inverse_gaussian_affinity(m: Any, shape: Any, n: Any, other: Any) -> Any:
    """-log of the integral of sqrt(pq), from the log-partition -log(b) / 2 - sqrt(a b)."""

    def partition(a: Any, b: Any) -> Any:
        return -mp.log(b) / 2 - mp.sqrt(a * b)

    a, c = shape / m**2, other / n**2
    return (partition(a, shape) + partition(c, other)) / 2 - partition((a + c) / 2, (shape + other) / 2)


DISTANCE = {
    Bernoulli: bernoulli_distance,
    Geometric: geometric_distance,
    Poisson: lambda a, b: 2 * abs(mp.sqrt(a) - mp.sqrt(b)),
    Exponential: lambda a, b: abs(mp.log(a / b)),
    LogNormal: univariate_distance,
    Weibull: weibull_distance,
    InverseGaussian: inverse_gaussian_distance,
}
KL = {
    Bernoulli: two_outcomes,
    Geometric: lambda p, q: two_outcomes(p, q) / p,
    Poisson: lambda a, b: a * mp.log(a / b) - a + b,
    Exponential: lambda a, b: mp.log(a / b) + b / a - 1,
    LogNormal: lambda m, v, n, w: (mp.log(w / v) + v / w - 1 + (m - n) ** 2 / w) / 2,
    Weibull: weibull_kl,
    InverseGaussian: lambda m, s, n, t: (mp.log(s / t) + t / s - 1 + t * (m - n) ** 2 / (m * n**2)) / 2,
}
BHATTACHARYYA = {
    Bernoulli: lambda p, q: -mp.log(mp.sqrt(p * q) + mp.sqrt((1 - p) * (1 - q))),
    Geometric: lambda p, q: -mp.log(mp.sqrt(p * q) / (1 - mp.sqrt((1 - p) * (1 - q)))),
    Poisson: lambda a, b: (mp.sqrt(a) - mp.sqrt(b)) ** 2 / 2,
    Exponential: lambda a, b: mp.log((a + b) / (2 * mp.sqrt(a * b))),
    LogNormal: lambda m, v, n, w: (m - n) ** 2 / (4 * (v + w)) + mp.log((v + w) / (2 * mp.sqrt(v * w))) / 2,
    InverseGaussian: inverse_gaussian_affinity,
}
STARTS: dict[type, list[tuple[float, ...]]] = {
    Bernoulli: [(1e-12,), (0.01,), (0.5,), (0.999,)],
    Geometric: [(1e-100,), (1e-6,), (0.3,), (0.999,)],
    Poisson: [(1e-200,), (1e-3,), (1.0,), (1e6,), (1e200,)],
    Exponential: [(1e-200,), (1.0,), (37.5,), (1e200,)],
    LogNormal: [(0.0, 1.0), (-3.0, 1e-20), (50.0, 1e20)],
    Weibull: [(1.0, 1.0), (0.01, 1e100), (30.0, 1e-50)],
    InverseGaussian: [(1.0, 1.0), (1e-60, 1e-50), (1e80, 1e40), (3.0, 1e6)],
}


def neighbor(family: type, start: tuple[float, ...], scale: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Parameters a Fisher length of about ``scale`` away."""
    steps = scale * rng.choice([-1, 1], len(start)) * rng.uniform(0.3, 1.0, len(start))
    if family is Bernoulli:
        p = start[0]
        odds = p / (1 - p) * np.exp(np.clip(steps[0] / np.sqrt(p * (1 - p)), -3, 3))
        return (float(odds / (1 + odds)),)
    if family is Geometric:
        return (float(start[0] * np.exp(-abs(steps[0]) * np.sqrt(1 - start[0]))),)
    if family is Poisson:
        return (float((np.sqrt(start[0]) * np.exp(steps[0])) ** 2),)
    if family is LogNormal:
        return (float(start[0] + np.sqrt(start[1]) * steps[0]), float(start[1] * np.exp(steps[1])))
    if family is Weibull:
        return (float(start[0] * np.exp(steps[0] / 2)), float(start[1] * np.exp(steps[1] / start[0])))
    if family is InverseGaussian:
        root = 1 / np.sqrt(start[0]) * max(1 + np.sqrt(start[0] / start[1]) * steps[0] / 2, 0.1)
        return (float(root**-2), float(start[1] * np.exp(steps[1])))
    return tuple(float(a * np.exp(b)) for a, b in zip(start, steps, strict=True))


def near_and_far(family: type, scale: float) -> list[tuple[Any, Any, list[Any]]]:
    """Pairs of members, with their parameters in 60 digits."""
    rng, pairs = RNG(7), []
    for start in STARTS[family]:
        for _ in range(3):
            end = neighbor(family, start, scale, rng)
            pairs.append((family(*start), family(*end), [mp.mpf(x) for x in (*start, *end)]))
    return pairs


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", DISTANCE, ids=lambda f: f.__name__)
def test_distance_near_and_far(family: type, scale: float) -> None:
    for p, q, parameters in near_and_far(family, scale):
        with mp.workdps(DIGITS):
            truth = DISTANCE[family](*parameters)
        assert relative_error(fisher_rao_distance(p, q), truth) < 1e-13
        v = logarithm_map(p, q)
        assert relative_error(np.sqrt(inner_product(p, v, v)), truth) < 1e-13


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", KL, ids=lambda f: f.__name__)
def test_divergences_near_and_far(family: type, scale: float) -> None:
    for p, q, parameters in near_and_far(family, scale):
        half = len(parameters) // 2
        with mp.workdps(2 * DIGITS):
            forward = KL[family](*parameters)
            both = forward + KL[family](*parameters[half:], *parameters[:half])
        assert relative_error(kl_divergence(p, q), forward) < 1e-11
        assert relative_error(jeffreys_divergence(p, q), both) < 1e-11


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", BHATTACHARYYA, ids=lambda f: f.__name__)
def test_affinities_near_and_far(family: type, scale: float) -> None:
    for p, q, parameters in near_and_far(family, scale):
        with mp.workdps(4 * DIGITS):
            truth = BHATTACHARYYA[family](*parameters)
            root = mp.sqrt(-mp.expm1(-truth))
        assert relative_error(bhattacharyya_distance(p, q), truth) < 1e-12
        assert relative_error(hellinger_distance(p, q), root) < 1e-12


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 5.0])
@pytest.mark.parametrize("family", DISTANCE, ids=lambda f: f.__name__)
def test_exponential_undoes_the_logarithm_near_and_far(family: type, scale: float) -> None:
    for p, q, _ in near_and_far(family, scale):
        reached, d = exponential_map(p, logarithm_map(p, q)), fisher_rao_distance(p, q)
        # a part of 1e-8 of the distance, or what a unit in the last place of the parameters is
        unit = family(**{name: getattr(q, name) * (1 + 4e-16) for name in q.event_axes})
        assert fisher_rao_distance(reached, q) <= 1e-8 * d + 8 * fisher_rao_distance(unit, q)


@pytest.mark.parametrize("family", DISTANCE, ids=lambda f: f.__name__)
def test_a_unit_in_the_last_place_is_a_distance(family: type) -> None:
    start = STARTS[family][-1]
    p, q = family(*start), family(*start[:-1], start[-1] * (1 + 2.0**-52))
    with mp.workdps(DIGITS):
        truth = DISTANCE[family](*[mp.mpf(float(getattr(side, n))) for side in (p, q) for n in p.event_axes])
    assert truth > 0
    assert relative_error(fisher_rao_distance(p, q), truth) < 1e-13


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        (Bernoulli(0.0), Bernoulli(1.0), math.pi),
        (Bernoulli(1e-300), Bernoulli(0.0), 2e-150),
        (Binomial(0.5, 100), Binomial(1.0, 100), 5 * math.pi),
        (Geometric(1.0), Geometric(0.5), 2 * math.log(1 + 2**0.5)),
        (Geometric(1e-300), Geometric(1.0), 300 * math.log(10) + 2 * math.log(2)),
        (Geometric(1 - 2.0**-53), Geometric(1.0), 2.0**-25.5),
        (Poisson(0.0), Poisson(4.0), 4.0),
        (Poisson(0.0), Poisson(1e-300), 2e-150),
        (Poisson(1e300), Poisson(0.0), 2e150),
        (Exponential(1e-300), Exponential(1e300), 600 * math.log(10)),
        (Exponential(5e-324), Exponential(1.7e308), math.log(1.7e308) + 1074 * math.log(2)),
        (Multinomial.from_probs([1.0, 0.0], 9), Multinomial.from_probs([0.0, 1.0], 9), 3 * math.pi),
        (Weibull(1e-150, 1.0), Weibull(1e150, 1.0), None),
        (InverseGaussian(1e100, 1e-100), InverseGaussian(1e-100, 1e100), None),
        (LogNormal(0.0, 1e-300), LogNormal(0.0, 1e300), 300 * math.log(10) * 2**0.5),
    ],
    ids=str,
)
def test_ends_of_manifolds_and_of_float64(p: Any, q: Any, expected: float | None) -> None:
    d = fisher_rao_distance(p, q)
    assert fisher_rao_distance(q, p) == d
    assert fisher_rao_distance(p, p) == fisher_rao_distance(q, q) == 0
    if expected is None:
        with mp.workdps(800):
            expected = DISTANCE[type(p)](*[mp.mpf(float(getattr(s, n))) for s in (p, q) for n in p.event_axes])
    assert relative_error(d, mp.mpf(expected)) < 1e-13
    for m in (kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance):
        if type(p) in m.families:
            assert m(p, q) > 0
            assert m(p, p) == m(q, q) == 0


EXTREME = [5e-324, 1e-310, 2.3e-308, 1e-200, 1e-20, 1.0, 3.7, 1e20, 1e200, 1.7e308]
EXTREME_PROBABILITIES = [5e-324, 1e-310, 1e-200, 1e-20, 0.3, 0.5, 1 - 1e-10, 1 - 2.0**-53]


@pytest.mark.parametrize(
    "family", [Bernoulli, Geometric, Poisson, Exponential, Weibull, InverseGaussian], ids=lambda f: f.__name__
)
def test_all_of_float64_gives_the_right_answer_or_an_error(family: Any) -> None:
    """Right where it is a number, refused where it is not; a line is never refused. Warnings are errors."""
    rng, answered = RNG(11), 0
    values = EXTREME_PROBABILITIES if family in (Bernoulli, Geometric) else EXTREME
    for _ in range(25):
        p, q = (family(*rng.choice(values, len(family.event_axes))) for _ in range(2))
        for table, m in ((DISTANCE, fisher_rao_distance), (KL, kl_divergence)):
            with mp.workdps(700):
                truth = table[family](*[mp.mpf(float(getattr(side, n))) for side in (p, q) for n in p.event_axes])
            try:
                value = float(m(p, q))
            except DomainError:
                assert family in (Weibull, InverseGaussian)
                continue
            answered += 1
            if value == np.inf:
                assert truth > mp.mpf(10) ** 308
            elif truth > 1e-290:
                assert relative_error(value, truth) < 1e-11
            else:
                assert value < 1e-289
        for call in (
            lambda p, q: exponential_map(p, logarithm_map(p, q)), lambda p, q: geodesic(p, q, [0.0, 0.3, 1.0]),
            lambda p, q: fisher_information(p), lambda p, q: p.sample(0, shape=(3,)),
        ):  # fmt: skip
            with contextlib.suppress(DomainError):
                call(p, q)
        assert not np.isnan(p.entropy())
    assert answered > 20


# ------------------------------------------------------------------------------------------- where manifolds end


@pytest.mark.parametrize("p", [Bernoulli([0.5, 0.0]), Bernoulli(1.0), Binomial(0.0, 3), Geometric(1.0), Poisson(0.0)])
def test_the_metric_is_infinite_at_an_end(p: Any) -> None:
    for call in (
        lambda: fisher_information(p), lambda: inner_product(p, [1.0], [1.0]), lambda: exponential_map(p, [0.1]),
        lambda: logarithm_map(p, p),
    ):  # fmt: skip
        with pytest.raises(DomainError, match="infinite"):
            call()


def test_geodesics_reach_the_ends() -> None:
    path = geodesic(Bernoulli(0.0), Bernoulli(1.0), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(path.prob, [0.0, 0.5, 1.0], atol=1e-16)
    np.testing.assert_allclose(geodesic(Poisson(0.0), Poisson(4.0), [0.0, 0.25, 0.5, 1.0]).rate, [0, 0.25, 1, 4])
    p, end = Geometric(0.01), Geometric(1.0)
    path = geodesic(p, end, [0.0, 0.3, 0.8, 1.0])
    np.testing.assert_allclose(fisher_rao_distance(path, end), [1, 0.7, 0.2, 0] * fisher_rao_distance(p, end))
    for start, goal in ((Geometric(0.3), end), (Poisson(3.0), Poisson(0.0)), (Bernoulli(0.3), Bernoulli(1.0))):
        reached = exponential_map(start, logarithm_map(start, goal))
        assert fisher_rao_distance(reached, goal) < 1e-5  # the square root of a rounding error, at an end


@pytest.mark.parametrize(
    ("p", "velocity"),
    [
        (Poisson(4.0), -8.1), (Bernoulli(0.5), math.pi / 4 * 1.01), (Bernoulli(0.5), -math.pi / 4 * 1.01),
        (Bernoulli(0.5), 3.0), (Binomial(0.5, 4), math.pi / 4 * 1.01), (Geometric(0.5), 1.0), (Geometric(0.5), -500.0),
        (Exponential(1.0), 1000.0), (Exponential(1.0), -1000.0), (Exponential(1.0), 1e300), (Poisson(1e-300), 1e200),
    ],
)  # fmt: skip
def test_the_exponential_map_refuses_to_leave_a_line(p: Any, velocity: float) -> None:
    with pytest.raises(DomainError, match=r"velocity: the geodesic leaves the manifold of|infinite|range of float64"):
        exponential_map(p, [velocity])


def test_the_exponential_map_goes_as_far_as_a_line_does() -> None:
    assert float(exponential_map(Poisson(4.0), [-8.0]).rate) == 0.0
    assert float(exponential_map(Bernoulli(0.5), [math.pi / 4]).prob) == 1.0
    assert float(exponential_map(Binomial(0.5, 4), [-math.pi / 4]).prob) == pytest.approx(0.0, abs=1e-30)
    speed = 0.5 * 0.5**0.5
    assert float(exponential_map(Geometric(0.5), [2 * math.log(1 + 2**0.5) * speed]).prob) == pytest.approx(1.0)


def test_inverse_gaussian_geodesics_that_leave_are_refused() -> None:
    with pytest.raises(DomainError, match="leaves the manifold of InverseGaussian"):
        exponential_map(InverseGaussian(100.0, 1.0), [1e4, 0.0])  # the mean grows beyond all bounds in finite time
    p = InverseGaussian(1.0, 1.0)
    assert float(exponential_map(p, [-1.0, 0.0]).mean) < 1
    with pytest.raises(DomainError, match="range of float64"):
        exponential_map(p, [0.0, 1e5])
    with pytest.raises(DomainError, match="range of float64"):
        exponential_map(Weibull(1.0, 1.0), [-1e5, 0.0])


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.01, 1.0, 10.0]))
@settings(max_examples=30, deadline=None)
def test_inverse_gaussian_geodesics_between_members_stay_inside(seed: int, spread: float) -> None:
    rng = RNG(seed)
    mean, shape = np.exp(spread * rng.standard_normal((2, 10)))
    x = InverseGaussian(mean, shape)
    path = geodesic(x[:5], x[5:], np.linspace(0, 1, 9))
    assert (path.mean > 0).all()
    assert (path.mean <= np.maximum(x.mean[:5], x.mean[5:])[:, None] * (1 + 1e-9)).all()
    d = fisher_rao_distance(x[:5], x[5:])[:, None]
    np.testing.assert_allclose(fisher_rao_distance(path[:, 1:], path[:, :-1]), np.repeat(d / 8, 8, axis=1), rtol=1e-6)


def test_metrics_out_of_range_are_refused() -> None:
    for p in (Exponential(1e-200), Exponential(1e200), InverseGaussian(1e-150, 1.0), Weibull(1.0, 1e-200)):
        with pytest.raises(DomainError, match="range of float64"):
            fisher_information(p)
    v = logarithm_map(Exponential(1e-200), Exponential(2e-200))
    assert float(inner_product(Exponential(1e-200), v, v)) == pytest.approx(math.log(2) ** 2)


# ------------------------------------------------------------------------- how the families are related to each other


def test_binomial_and_bernoulli_are_multinomial() -> None:
    prob, other = RNG(0).uniform(0.05, 0.95, (2, 6))
    for n in (1, 7):
        a, b = Binomial(prob, n), Binomial(other, n)
        c, d = (Multinomial.from_probs(np.stack([x, 1 - x], axis=-1), n) for x in (prob, other))
        for m in (fisher_rao_distance, kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance):
            np.testing.assert_allclose(m(a, b), m(c, d), rtol=1e-12)
        np.testing.assert_allclose(fisher_information(a), fisher_information(c), rtol=1e-12)
        np.testing.assert_allclose(a.entropy(), c.entropy(), rtol=1e-12)
        x = a.sample(RNG(1), shape=(4,))
        np.testing.assert_allclose(a.log_prob(x), c.log_prob(np.stack([x, n - x], axis=-1)), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        2 * fisher_rao_distance(Bernoulli(prob), Bernoulli(other)),
        fisher_rao_distance(Binomial(prob, 4), Binomial(other, 4)), rtol=1e-14,
    )  # fmt: skip


def test_a_multinomial_of_one_trial_is_categorical() -> None:
    logits = RNG(1).standard_normal((2, 4, 5))
    p, q = (Multinomial.from_logits(x, 1) for x in logits)
    a, b = (Categorical.from_logits(x) for x in logits)
    np.testing.assert_allclose(p.entropy(), a.entropy(), rtol=1e-12)
    np.testing.assert_allclose(fisher_rao_distance(p, q), fisher_rao_distance(a, b))
    np.testing.assert_allclose(p.log_prob(np.eye(5, dtype=int)[:4]), a.log_prob(np.arange(4)), rtol=1e-12)
    np.testing.assert_allclose(geodesic(p, q, 0.3).probs, geodesic(a, b, 0.3).probs)
    assert geodesic(p, q, 0.3).trials == 1
    np.testing.assert_allclose(Multinomial.from_counts([3, 1, 0], 8, pseudocount=1.0).probs, [4 / 7, 2 / 7, 1 / 7])


def test_weibull_of_one_shape_is_exponential() -> None:
    """With the shape held at one the family is exponential, and a subset of curves gives no shorter distances."""
    a, b = Exponential([0.5, 2.0]), Exponential([3.0, 2.1])
    p, q = Weibull(1.0, 1 / a.rate), Weibull(1.0, 1 / b.rate)
    np.testing.assert_allclose(kl_divergence(p, q), kl_divergence(a, b), rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), a.entropy(), rtol=1e-12)
    np.testing.assert_allclose(p.log_prob(0.7), a.log_prob(0.7), rtol=1e-12)
    assert (fisher_rao_distance(p, q) < fisher_rao_distance(a, b)).all()


def test_powers_and_scales_leave_weibull_distances() -> None:
    """x -> c x^a is one to one, so no distance changes; (k, scale) becomes (k / a, c scale^a)."""
    k, scale = np.exp(RNG(2).standard_normal((2, 8)))
    p, moved = Weibull(k, scale), Weibull(k / 3, 5 * scale**3)
    for m in (fisher_rao_distance, kl_divergence, jeffreys_divergence):
        np.testing.assert_allclose(m(p[:4], p[4:]), m(moved[:4], moved[4:]), rtol=1e-10)


def test_scales_leave_inverse_gaussian_distances() -> None:
    mean, shape = np.exp(RNG(3).standard_normal((2, 8)))
    p, moved = InverseGaussian(mean, shape), InverseGaussian(1e50 * mean, 1e50 * shape)
    for m in (fisher_rao_distance, kl_divergence, jeffreys_divergence, bhattacharyya_distance):
        np.testing.assert_allclose(m(p[:4], p[4:]), m(moved[:4], moved[4:]), rtol=1e-10)


def test_distances_agree_with_geomstats() -> None:
    """At moderate distances, where geomstats keeps its digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("geomstats", reason="needs the extra: pip install 'infogeo[geomstats]'")
        from geomstats.information_geometry import binomial, exponential, geometric, poisson

        spaces = {
            Poisson: poisson.PoissonDistributions(), Exponential: exponential.ExponentialDistributions(),
            Geometric: geometric.GeometricDistributions(), Binomial: binomial.BinomialDistributions(5),
        }  # fmt: skip
        for family, space in spaces.items():
            x, y = RNG(4).uniform(0.05, 0.95, (2, 8))
            shared = {"trials": 5} if family is Binomial else {}
            ours = fisher_rao_distance(family(x, **shared), family(y, **shared))
            np.testing.assert_allclose(ours, space.metric.dist(x[:, None], y[:, None]), rtol=1e-10)


# ------------------------------------------------------------------------------- log_prob, entropy and samples


@pytest.mark.parametrize(
    ("p", "x", "expected"),
    [
        (Exponential(2.0), [-1.0, 0.0, 3.0], [-np.inf, math.log(2), math.log(2) - 6]),
        (Weibull(2.0, 1.0), [-1.0, 0.0], [-np.inf, -np.inf]),
        (Weibull(0.5, 1.0), [-1.0, 0.0], [-np.inf, np.inf]),
        (Weibull(1.0, 4.0), [0.0, 1e300], [-math.log(4), -1e300 / 4]),
        (LogNormal(0.0, 1.0), [-1.0, 0.0], [-np.inf, -np.inf]),
        (InverseGaussian(1.0, 1.0), [-1.0, 0.0, 1e-320], [-np.inf, -np.inf, -np.inf]),
        (Bernoulli(0.0), [-1, 0, 1, 2], [-np.inf, 0.0, -np.inf, -np.inf]),
        (Binomial(1.0, 3), [-1, 2, 3, 4], [-np.inf, -np.inf, 0.0, -np.inf]),
        (Geometric(1.0), [-1, 0, 1], [-np.inf, 0.0, -np.inf]),
        (Poisson(0.0), [-1, 0, 1], [-np.inf, 0.0, -np.inf]),
        (Multinomial.from_probs([0.5, 0.5, 0.0], 2), [[1, 1, 0], [1, 0, 1], [1, 1, 1], [3, -1, 0]],
         [math.log(0.5), -np.inf, -np.inf, -np.inf]),
    ],
)  # fmt: skip
def test_log_prob_at_the_borders_of_the_support(p: Any, x: Any, expected: Any) -> None:
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("k", [0, 1, 15, 16, 40, 10**6, 10**12])
@pytest.mark.parametrize("rate", [1e-300, 0.3, 20.0, 1e6 + 0.5, 1e12])
def test_poisson_log_prob_of_large_counts(k: int, rate: float) -> None:
    with mp.workdps(DIGITS):
        truth = k * mp.log(mp.mpf(rate)) - mp.mpf(rate) - mp.loggamma(k + 1)
    assert abs(float(Poisson(rate).log_prob(k)) - truth) <= 1e-13 * max(1, abs(truth))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (30, 4), (10**6, 500_300), (10**12, 10**12 - 5), (10**15, 10), (50, 0)])
@pytest.mark.parametrize("prob", [1e-20, 1e-14, 0.5, 1 - 2.0**-40])
def test_binomial_log_prob_of_large_counts(n: int, k: int, prob: float) -> None:
    with mp.workdps(DIGITS):
        p = mp.mpf(prob)
        ways = mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
        truth = ways + k * mp.log(p) + (n - k) * mp.log1p(-p)
    assert abs(float(Binomial(prob, n).log_prob(k)) - truth) <= 1e-13 * max(1, abs(truth))


@pytest.mark.parametrize("rate", [1e-300, 1e-8, 0.7, 30.0, 999.0])
def test_poisson_entropy_is_the_sum(rate: float) -> None:
    with mp.workdps(30):
        r = mp.mpf(rate)
        width = int(20 * rate**0.5 + 60)
        terms = []
        for k in range(max(0, int(rate) - width), int(rate) + width):
            log = k * mp.log(r) - r - mp.loggamma(k + 1)
            terms.append(-mp.exp(log) * log)
        truth = mp.fsum(terms)
    assert relative_error(Poisson(rate).entropy(), truth) < 1e-12


def test_entropies_continue_smoothly_into_their_series() -> None:
    """Both sides of the seam, against the difference that the derivative of log(variance) / 2 makes."""
    a, b = Poisson([1e3, 1e3 * (1 + 1e-9)]).entropy()
    assert b - a == pytest.approx(0.5e-9, abs=1e-13)
    n = 4 * 10**6
    a, b = Binomial([0.5 - 1e-12, 0.5], n + 10).entropy()[0], Binomial(0.5, n - 10).entropy()
    assert a - b == pytest.approx(0.5 * math.log((n + 10) / (n - 10)), abs=1e-12)
    a, b = (Binomial(0.1, m).entropy() for m in (11111000, 11111222))  # variances just below and above a million
    assert b - a == pytest.approx(0.5 * math.log(11111222 / 11111000), abs=1e-11)
    assert float(Poisson(1e300).entropy()) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 1e300), rel=1e-15)
    assert float(Poisson(0.0).entropy()) == float(Binomial(1.0, 9).entropy()) == float(Geometric(1.0).entropy()) == 0
    assert float(Multinomial.from_probs([1.0, 0.0], 50).entropy()) == pytest.approx(0.0, abs=1e-14)


def test_multinomial_entropy_is_the_sum() -> None:
    counts = np.array([(i, j, 6 - i - j) for i in range(7) for j in range(7 - i)])
    p = Multinomial.from_probs([[0.2, 0.3, 0.5], [0.0, 0.01, 0.99]], 6)
    log = p[:, None].log_prob(counts)
    np.testing.assert_allclose(p.entropy(), -(np.exp(log) * np.where(log > -np.inf, log, 0)).sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log).sum(axis=-1), 1.0, rtol=1e-13)
    with pytest.raises(DomainError, match=r"variance 2.5e\+11"):
        Multinomial.from_probs([0.5, 0.5], 10**12).entropy()
    with pytest.raises(DomainError, match=r"2\*\*50 trials"):
        Multinomial.from_probs([1.0, 0.0], 2**51).entropy()
    rare = Binomial([2.0**-50, 1 - 2.0**-50], 2**60)  # counts that float64 does not hold
    assert rare.entropy()[0] == rare.entropy()[1] == pytest.approx(float(Poisson(2.0**10).entropy()), abs=1e-11)
    many = Multinomial.from_probs([0.5, 0.5], 2 * 10**6)
    assert float(many.entropy()) == pytest.approx(float(Binomial(0.5, 2 * 10**6).entropy()), abs=1e-11)


@pytest.mark.parametrize(
    ("mean", "shape"), [(1.0, 1.0), (1.0, 24.9), (1.0, 25.1), (1e-5, 1e5), (1e200, 1e-200), (3.0, 1e-6)]
)
def test_inverse_gaussian_entropy_at_all_scales(mean: float, shape: float) -> None:
    with mp.workdps(40):
        m, s = mp.mpf(mean), mp.mpf(shape)
        z = 2 * s / m
        scaled = mp.hyperu(1, 1, z) if z < 1e6 else 1 / z - 1 / z**2 + 2 / z**3
        truth = mp.log(2 * mp.pi * mp.e / s) / 2 + 1.5 * (mp.log(m) - scaled)
    assert abs(float(InverseGaussian(mean, shape).entropy()) - truth) < 1e-13 * max(1, abs(truth))


def test_samples_have_the_moments_of_the_family() -> None:
    """Mean and variance within five standard errors, for parameters beyond those of the generic tests."""
    n = 40_000
    for p, mean, var in (
        (InverseGaussian(1e-3, 1e3), 1e-3, 1e-12), (InverseGaussian(2.0, 30.0), 2.0, 8 / 30),
        (Geometric(1e-9), 1e9, 1e18),
        (Poisson(1e12), 1e12, 1e12), (Binomial(1e-9, 10**12), 1e3, 1e3), (Weibull(0.5, 1.0), 2.0, 20.0),
        (Exponential(1e-300), 1e300, None), (LogNormal(-100.0, 1e-6), math.exp(-100), math.exp(-200) * 1e-6),
    ):  # fmt: skip
        x = p.sample(RNG(5), shape=(n,)) / mean
        assert abs(x.mean() - 1) < 5 * x.std() / n**0.5
        if var is not None:
            spread = (x - 1) ** 2
            assert abs(spread.mean() - var / mean**2) < 5 * spread.std() / n**0.5 + 1e-5 * var / mean**2


def test_impossible_outcomes_are_never_drawn() -> None:
    assert not Bernoulli(0.0).sample(RNG(0), shape=(1000,)).any()
    assert Bernoulli(1.0).sample(RNG(0), shape=(1000,)).all()
    assert not Geometric(1.0).sample(RNG(0), shape=(1000,)).any()
    assert not Poisson(0.0).sample(RNG(0), shape=(1000,)).any()
    drawn = Multinomial.from_counts([[1, 3, 0], [0, 7, 3], [0.1, 0.2, 0]], 50).sample(RNG(0), shape=(2000,))
    assert drawn.shape == (2000, 3, 3)
    assert (drawn.sum(axis=-1) == 50).all()
    assert not drawn[:, 0, 2].any()
    assert not drawn[:, 1, 0].any()
    assert not drawn[:, 2, 2].any()


def test_one_seed_gives_one_sample() -> None:
    for p in (Exponential(1.0), LogNormal(0.0, 1.0), Weibull(1.0, 1.0), InverseGaussian(1.0, 1.0), Bernoulli(0.5),
              Binomial(0.5, 9), Geometric(0.1), Poisson(3.0), Multinomial.from_probs([0.5, 0.5], 9)):  # fmt: skip
        np.testing.assert_array_equal(p.sample(3, shape=(5,)), p.sample(RNG(3), shape=(5,)))
        assert p.sample(3).shape == ((2,) if isinstance(p, Multinomial) else ())


@pytest.mark.parametrize(
    "p", [Geometric(1e-300), Poisson(1e19), LogNormal(0.0, 1e10), Weibull(1e-5, 1.0), Exponential(1e-320)]
)
def test_draws_out_of_range_are_refused(p: Any) -> None:
    with pytest.raises(DomainError, match="too large"):
        p.sample(0, shape=(200,))


# ---------------------------------------------------------------------------------------------------------- guards


POSITIVE = [(Exponential, {"rate": 1.0}), (Weibull, {"shape": 1.0, "scale": 1.0}),
            (InverseGaussian, {"mean": 1.0, "shape": 1.0})]  # fmt: skip


@pytest.mark.parametrize(("family", "good"), POSITIVE)
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_parameters_that_are_not_positive_are_refused(family: Any, good: dict[str, float], bad: float) -> None:
    for name in good:
        with pytest.raises(DomainError, match=rf"{name}: entry \(1,\) is {bad}, wanted a positive number"):
            family(**{**good, name: [1.0, bad, bad]})
        with pytest.raises(DomainError, match=rf"{name}: found {bad}, wanted"):
            family(**{**good, name: bad})


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        (Bernoulli, "prob", -0.1), (Bernoulli, "prob", 1.1), (Binomial, "prob", 1.1), (Geometric, "prob", 0.0),
        (Geometric, "prob", 1.1), (Poisson, "rate", -1e-300), (LogNormal, "var", 0.0),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(family: Any, name: str, value: float) -> None:
    others: dict[str, Any] = {Binomial: {"trials": 3}, LogNormal: {"mean": 0.0}}.get(family, {})
    with pytest.raises(DomainError, match=rf"{name}: found {value}, wanted"):
        family(**{name: value}, **others)


ALL: list[tuple[Any, dict[str, Any]]] = [
    *POSITIVE, (LogNormal, {"mean": 0.0, "var": 1.0}), (Bernoulli, {"prob": 0.5}), (Geometric, {"prob": 0.5}),
    (Poisson, {"rate": 1.0}), (Binomial, {"prob": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "good"), ALL)
def test_what_is_no_array_of_numbers_is_refused(family: Any, good: dict[str, Any]) -> None:
    shared = {"trials": 3} if family is Binomial else {}
    name = next(iter(good))
    for bad, match in ((np.nan, "is nan"), ([0.5, np.inf], "is inf"), ("a", "dtype"), (0.5j, "dtype"), (None, "dtype")):
        with pytest.raises(DomainError, match=match):
            family(**{**good, name: bad}, **shared)
    with pytest.raises(ShapeError, match="no members"):
        family(**{**good, name: []}, **shared)
    with pytest.raises(ShapeError, match="different lengths"):
        family(**{**good, name: [[0.5], [0.5, 0.5]]}, **shared)
    if len(good) == 2:
        with pytest.raises(ShapeError, match="do not broadcast"):
            family(**{key: np.full(k, 0.5) for k, key in enumerate(good, start=2)})
        other = list(good)[1]
        both = family(**{name: np.full((3, 1), 0.5), other: np.ones(2)})
        assert both.batch_shape == (3, 2)
    for dtype in (np.float16, np.float32, np.int8):
        member = family(**{key: np.ones(2, dtype=dtype) for key in good}, **shared)
        assert getattr(member, name).dtype == np.float64
    given_ = np.full(2, 0.5)
    member = family(**{**good, name: given_}, **shared)
    given_[:] = 7.0
    assert (getattr(member, name) == 0.5).all()
    with pytest.raises(ValueError, match="read-only"):
        getattr(member, name)[0] = 1.0
    with pytest.raises(DomainError, match="x: entry"):
        member.with_coordinates([np.nan] * len(good))
    with pytest.raises(ShapeError, match="coordinates"):
        member.with_coordinates(np.ones(len(good) + 1))


@pytest.mark.parametrize(("family", "good"), ALL)
def test_tensors_are_read_or_refused(family: Any, good: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[torch]'")
    shared = {"trials": 3} if family is Binomial else {}
    name = next(iter(good))
    member = family(**{**good, name: torch.tensor([0.5, 0.25])}, **shared)
    np.testing.assert_array_equal(getattr(member, name), [0.5, 0.25])
    with pytest.raises(DomainError, match=r"gradient.*detach"):
        family(**{**good, name: torch.tensor([0.5, 0.25], requires_grad=True)}, **shared)
    logits = torch.tensor([0.0, 1.0], requires_grad=True)
    with pytest.raises(DomainError, match=r"gradient.*detach"):
        Multinomial.from_logits(logits, 3)
    assert isinstance(Multinomial.from_logits(logits.detach(), 3).log_probs, np.ndarray)


@pytest.mark.parametrize("make", [lambda n: Binomial(0.5, n), lambda n: Multinomial.from_probs([0.5, 0.5], n)])
def test_trials_are_a_positive_whole_number(make: Any) -> None:
    for bad, match in ((0, "at least 1"), (-1, "at least 1"), (2.0, "whole number"), ("3", "whole number"),
                       (None, "whole number"), ([3, 4], "whole number"), (2**63, "at most")):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"trials: found .*{match}"):
            make(bad)
    assert make(np.int32(4)).trials == 4
    assert type(make(np.int32(4)).trials) is int
    with pytest.raises(DomainError, match="found trials 3 and 4, wanted the same"):
        fisher_rao_distance(make(3), make(4))
    with pytest.raises(DomainError, match="found trials 3 and 4, wanted the same"):
        logarithm_map(make(3), make(4))


def test_indices_keep_the_trials() -> None:
    p = Binomial([0.1, 0.2, 0.3], 5)
    assert p[1:].trials == p[0].trials == 5
    assert p[1:].batch_shape == (2,)
    assert [q.trials for q in p] == [5, 5, 5]
    q = Multinomial.from_probs(np.full((4, 3), 1 / 3), 6)[None, 1:]
    assert q.trials == 6
    assert q.batch_shape == (1, 3)
    assert q.coordinates().shape == (1, 3, 2)
    assert pairwise(fisher_rao_distance, p).shape == (3, 3)
    np.testing.assert_allclose(Multinomial.from_probs([0.2, 0.8], 3)[...].categorical.probs, [0.2, 0.8])


@pytest.mark.parametrize("p", [Bernoulli(0.5), Binomial(0.5, 3), Geometric(0.5), Poisson(1.0),
                               Multinomial.from_probs([0.5, 0.5], 2)])  # fmt: skip
def test_counts_are_integers(p: Any) -> None:
    for bad in (0.0, [1.0, 1.0], "a", True):
        with pytest.raises(DomainError, match="wanted integers"):
            p.log_prob(bad)


def test_points_are_finite_numbers() -> None:
    for p in (Exponential(1.0), LogNormal(0.0, 1.0), Weibull(1.0, 1.0), InverseGaussian(1.0, 1.0)):
        with pytest.raises(DomainError, match="x: entry"):
            p.log_prob(np.nan)
    with pytest.raises(ShapeError, match=r"found shape \(3,\), wanted \(\.\.\., 2\)"):
        Multinomial.from_probs([0.5, 0.5], 2).log_prob([1, 1, 0])


def test_multinomial_checks_what_categorical_checks() -> None:
    with pytest.raises(DomainError, match="sum to"):
        Multinomial.from_probs([0.5, 0.6], 2)
    with pytest.raises(DomainError, match="must not be negative"):
        Multinomial.from_probs([1.5, -0.5], 2)
    with pytest.raises(ShapeError):
        Multinomial([], 2)
    with pytest.raises(ShapeError):
        Multinomial(0.0, 2)
    with pytest.raises(ShapeError, match="dimensions 2 and 3"):
        fisher_rao_distance(Multinomial.from_probs([0.5, 0.5], 2), Multinomial.from_probs([0.5, 0.25, 0.25], 2))
    with pytest.raises(DomainError):
        fisher_information(Multinomial.from_probs([1.0, 0.0], 2))


@pytest.mark.parametrize("scale", SCALES)
def test_jensen_shannon_of_two_outcomes_in_60_digits(scale: float) -> None:
    rng = RNG(7)
    for p in (0.4, 1e-12, 1 - 1e-12, 1 - 2.0**-40):
        q = 1 / (1 + (1 - p) / p * np.exp(-scale * rng.uniform(0.5, 1.5)))
        if q in (p, 1.0):
            continue
        with mp.workdps(DIGITS):
            a, b = mp.mpf(float(p)), mp.mpf(float(q))
            sides = [(x, y, (x + y) / 2) for x, y in ((a, b), (1 - a, 1 - b))]
            truth = mp.sqrt(mp.fsum(x * mp.log(x / m) + y * mp.log(y / m) for x, y, m in sides) / 2)
        assert relative_error(jensen_shannon_distance(Bernoulli(p), Bernoulli(q)), truth) < 1e-10
        assert relative_error(jensen_shannon_distance(Bernoulli(q), Bernoulli(p)), truth) < 1e-10
    assert float(jensen_shannon_distance(Bernoulli(0.0), Bernoulli(1.0))) == pytest.approx(np.log(2) ** 0.5, rel=1e-15)
    assert float(jensen_shannon_distance(Bernoulli(1.0), Bernoulli(1.0))) == 0.0
    x = Bernoulli([0.0, 0.2, 0.9, 1.0])
    same = Categorical.from_probs(np.stack([x.prob, 1 - x.prob], axis=-1))
    np.testing.assert_allclose(
        jensen_shannon_distance(x[:, None], x[None]), jensen_shannon_distance(same[:, None], same[None]), atol=1e-15
    )


def test_every_family_without_a_jensen_shannon_distance_says_why() -> None:
    x = Binomial([0.2, 0.5], 7)
    with pytest.raises(UnsupportedFamilyError, match=r"sum over all counts: use Categorical.from_logits"):
        jensen_shannon_distance(x[0], x[1])
    p, q = (Categorical.from_logits(x[i][..., None].log_prob(range(8))) for i in range(2))
    m = (p.probs + q.probs) / 2
    expected = (p.probs * np.log(p.probs / m) + q.probs * np.log(q.probs / m)).sum() / 2
    assert float(jensen_shannon_distance(p, q)) == pytest.approx(expected**0.5, rel=1e-12)
    for family in fisher_rao_distance.families:
        if family not in jensen_shannon_distance.families:
            with pytest.raises(UnsupportedFamilyError, match=f"is not defined for {family.__name__}: "):
                jensen_shannon_distance.registration(family)


def test_weibull_says_why_it_has_no_affinity() -> None:
    for m in (bhattacharyya_distance, hellinger_distance):
        with pytest.raises(UnsupportedFamilyError, match="no closed form where the shapes differ"):
            m(Weibull(1.0, 1.0), Weibull(2.0, 1.0))


def test_pairs_too_extreme_for_float64_are_refused_rather_than_guessed() -> None:
    p, q = InverseGaussian(1e300, 1e-300), InverseGaussian(1e-300, 1e300)
    with pytest.raises(DomainError, match="too extreme for float64"):
        bhattacharyya_distance(p, q)
    assert kl_divergence(p, q) == np.inf
    with mp.workdps(700):
        truth = KL[InverseGaussian](*[mp.mpf(float(x)) for x in (q.mean, q.shape, p.mean, p.shape)])
    assert relative_error(kl_divergence(q, p), truth) < 1e-13
    with pytest.raises(DomainError, match="too extreme for float64"):
        kl_divergence(Weibull(1.0, 1e-300), Weibull(1.7e308, 1e300))


def test_rows_of_tables_name_the_parameters() -> None:
    assert Weibull([1.0, 2.0], 3.0).parameter_rows() == (("shape", "scale"), [(1.0, 3.0), (2.0, 3.0)])
    assert Poisson(2.0).parameter_rows() == (("rate",), [(2.0,)])
    names, rows = Multinomial.from_probs([0.25, 0.75], 4).parameter_rows()
    assert names[:2] == ("trials", "outcomes")
    assert rows[0][:2] == (4, 2)
