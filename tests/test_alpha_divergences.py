"""Divergences of Rényi and Amari, and total variation: closed forms, sums, quadrature, limits and guards."""

from __future__ import annotations

import itertools
import pickle

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from infogeo import (
    MEASURES,
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Gamma,
    Gaussian,
    Geometric,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    VonMisesFisher,
    Weibull,
    _skew,
    alpha_divergence,
    alpha_measure,
    bhattacharyya_distance,
    hellinger_distance,
    kl_divergence,
    pairwise,
    renyi_divergence,
    renyi_measure,
    total_variation_distance,
)
from infogeo.errors import ArgumentError, DomainError, UnsupportedFamilyError

RNG = np.random.default_rng
INF = float("inf")
COVS = [[[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.3], [-0.3, 1.5]]]
PAIRS = {
    "diagonal": (DiagonalGaussian([[0.0, 1.0]], [[1.0, 2.0]]), DiagonalGaussian([[0.5, 0.8]], [[1.5, 1.2]])),
    "isotropic": (IsotropicGaussian([[0.0, 1.0]], [1.2]), IsotropicGaussian([[0.5, 0.8]], [1.5])),
    "shared": tuple(SharedCovarianceGaussian([m], COVS[0]) for m in ([0.0, 1.0], [0.5, 0.2])),
    "centered": tuple(CenteredGaussian([c]) for c in COVS),
    "full": (Gaussian([[0.0, 1.0]], COVS[:1]), Gaussian([[0.5, 0.2]], COVS[1:])),
    "log_normal": (LogNormal([0.1], [0.4]), LogNormal([0.3], [0.7])),
    "categorical": (Categorical.from_probs([[0.2, 0.3, 0.5]]), Categorical.from_probs([[0.4, 0.35, 0.25]])),
    "multinomial": tuple(Multinomial.from_probs([p], 3) for p in ([0.2, 0.3, 0.5], [0.4, 0.35, 0.25])),
    "bernoulli": (Bernoulli([0.3]), Bernoulli([0.6])),
    "binomial": (Binomial([0.3], 7), Binomial([0.6], 7)),
    "geometric": (Geometric([0.45]), Geometric([0.3])),
    "poisson": (Poisson([3.0]), Poisson([4.5])),
    "exponential": (Exponential([1.5]), Exponential([0.9])),
    "gamma": (Gamma([2.0], [3.0]), Gamma([2.5], [2.0])),
    "beta": (Beta([2.0], [3.0]), Beta([2.5], [1.4])),
    "dirichlet": (Dirichlet([[2.0, 3.0, 1.5]]), Dirichlet([[2.5, 1.4, 2.0]])),
    "inverse_gaussian": (InverseGaussian([1.0], [2.0]), InverseGaussian([1.3], [1.5])),
    "von_mises_fisher": (VonMisesFisher([[0.6, 0.8]], [2.0]), VonMisesFisher([[1.0, 0.0]], [3.0])),
}
GIVEN = pytest.mark.parametrize("name", PAIRS)
SUPPORT = {"log_normal": (0, INF), "exponential": (0, INF), "gamma": (0, INF), "beta": (0, 1),
           "inverse_gaussian": (0, INF)}  # fmt: skip
COUNTS = ("bernoulli", "binomial", "geometric", "poisson")


def integral(name, order):
    """Of p^order q^(1 - order), by another route: quadrature, or the sum over counts or outcomes."""
    p, q = PAIRS[name]
    power = lambda x: np.exp(order * p.log_prob(x) + (1 - order) * q.log_prob(x))  # noqa: E731
    if name in COUNTS:
        last = {"bernoulli": 1, "binomial": 7}.get(name, 400)
        return float(sum(power(np.array(k))[0] for k in range(last + 1)))
    if name in SUPPORT:
        return integrate.quad(lambda x: power(x)[0], *SUPPORT[name], epsabs=0, epsrel=1e-11, limit=300)[0]
    if name in ("categorical", "multinomial"):
        return float((p.probs**order * q.probs ** (1 - order)).sum() ** (3 if name == "multinomial" else 1))
    if name == "dirichlet":  # by the double exponential rule, since the density has roots at the border
        t = np.linspace(-2.6, 2.6, 81)
        u, du = (1 + np.tanh(np.pi / 2 * np.sinh(t))) / 2, np.pi / 4 * np.cosh(t) / np.cosh(np.pi / 2 * np.sinh(t)) ** 2
        x, share = (g.ravel() for g in np.meshgrid(u, u))
        values = power(np.stack([x, (1 - x) * share, (1 - x) * (1 - share)], axis=-1)) * (1 - x)
        return float((values * np.outer(du, du).ravel()).sum() * (t[1] - t[0]) ** 2)
    if name == "von_mises_fisher":
        return integrate.quad(lambda a: power(np.array([[np.cos(a), np.sin(a)]]))[0], 0, 2 * np.pi, epsrel=1e-11)[0]
    x, w = np.polynomial.hermite_e.hermegauss(80)  # normals: around q, in standard deviations of q
    wide = q.to_full() if hasattr(q, "to_full") else q
    points = np.stack([a.ravel() for a in np.meshgrid(x, x)], axis=-1) * 1.3
    weights = np.outer(w, w).ravel() * 1.69 * np.exp((points / 1.3) ** 2 / 2).prod(axis=-1)
    at = wide.mean + points @ np.swapaxes(wide.cholesky[0], 0, 1)
    volume = np.sqrt(np.linalg.det(wide.cov[0]))
    return float((power(at[:, None])[:, 0] * weights).sum() * volume)


@pytest.mark.parametrize("order", [0.2, 0.5, 0.9, 1.3])
@GIVEN
def test_against_the_integral(name, order):
    p, q = PAIRS[name]
    whole = integral(name, order)
    assert renyi_divergence(p, q, order=order).shape == (1,)
    tolerance = 1e-7 if name == "dirichlet" else 1e-9
    assert float(renyi_divergence(p, q, order=order)[0]) == pytest.approx(np.log(whole) / (order - 1), rel=tolerance)
    alpha = 1 - 2 * order
    assert float(alpha_divergence(p, q, alpha=alpha)[0]) == pytest.approx(
        4 / (1 - alpha**2) * (1 - whole), rel=tolerance)


@GIVEN
def test_limits_dualities_and_growth_with_the_order(name):
    p, q = PAIRS[name]
    kl, back = kl_divergence(p, q), kl_divergence(q, p)
    np.testing.assert_allclose(renyi_divergence(p, q, order=1), kl, rtol=1e-12)
    np.testing.assert_allclose(alpha_divergence(p, q, alpha=-1), kl, rtol=1e-12)
    np.testing.assert_allclose(alpha_divergence(p, q, alpha=1), back, rtol=1e-12)
    for h in (1e-6, -1e-6):
        np.testing.assert_allclose(renyi_divergence(p, q, order=1 + h), kl, rtol=1e-5)
        np.testing.assert_allclose(alpha_divergence(p, q, alpha=1 + h), back, rtol=1e-5)
    np.testing.assert_array_equal(renyi_divergence(p, q, order=0), [0.0])
    np.testing.assert_allclose(renyi_divergence(p, q, order=0.5), 2 * bhattacharyya_distance(p, q), rtol=1e-11)
    np.testing.assert_allclose(alpha_divergence(p, q, alpha=0), 4 * hellinger_distance(p, q) ** 2, rtol=1e-11)
    for alpha in (-2.0, -0.7, 0.3, 1.0):
        np.testing.assert_allclose(
            alpha_divergence(p, q, alpha=alpha), alpha_divergence(q, p, alpha=-alpha), rtol=1e-13)
    skew = renyi_divergence(q, p, order=0.7) * 0.3 / 0.7  # (1 - t) R_t(p, q) = t R_(1-t)(q, p)
    np.testing.assert_allclose(renyi_divergence(p, q, order=0.3), skew, rtol=1e-13)
    grown = [float(renyi_divergence(p, q, order=t)[0]) for t in (0, 1e-3, 0.3, 0.5, 0.99, 1, 1.01, 1.2, 3)]
    assert all(a < b or a == b == INF for a, b in itertools.pairwise(grown))


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("order", [0.1, 0.5, 1 - 1e-9, 1.0, 1.5])
@GIVEN
def test_close_neighbors_keep_their_digits(name, order, spread):
    """2 R / order and 2 A tend to the squared length of the step in the Fisher metric: here to kl_divergence's."""
    p, q = PAIRS[name]
    x, y = p.coordinates(), q.coordinates()
    near = p.with_coordinates(x + spread * (y - x))
    whole = p.with_coordinates(x)
    step = 2 * kl_divergence(whole, near)
    rough = 5 * spread + 1e-6  # kl_divergence and these differ at third order
    np.testing.assert_allclose(2 * renyi_divergence(whole, near, order=order) / order, step, rtol=rough)
    np.testing.assert_allclose(2 * alpha_divergence(whole, near, alpha=1 - 2 * order), step, rtol=rough)
    assert float(renyi_divergence(whole, whole, order=order)[0]) == 0


@pytest.mark.parametrize("weight", [0.5, 0.8, 1 - 1e-9, 1.0, 1 + 1e-9, 2.0, 50.0])
def test_kernels_against_60_digits(weight):
    x = np.concatenate([s * 10.0 ** np.linspace(-9, 2.8, 40) for s in (1, -1)])
    mu = 1 - weight
    with mp.workdps(80):
        m = mp.mpf(mu)
        for v, found in zip(x, _skew.ratio_terms(x, weight, mu), strict=True):
            y = mp.mpf(float(v))
            if m == 0:
                truth = mp.expm1(y) - y
            elif 1 + m * mp.expm1(y) <= 0:
                truth = mp.inf
            else:
                truth = (mp.log1p(m * mp.expm1(y)) - m * y) / (m * (1 - m))
            assert found == pytest.approx(float(truth), rel=1e-13)
        p = np.exp(-np.abs(x) / 100)
        for a, v, found in zip(p, x, _skew.outcome_terms(p, p * np.exp(-x), x, weight, mu), strict=True):
            y, a = mp.mpf(float(v)), mp.mpf(float(a))
            b = a * mp.exp(-y)
            power = a * mp.exp(-m * y)
            truth = a * y - a + b if m == 0 else ((1 - m) * a + m * b - power) / (m * (1 - m))
            assert found == pytest.approx(float(truth), rel=1e-12)


# ------------------------------------------------------------------------------------------- supports and tails


def test_normals_whose_tails_are_too_light():
    wide, narrow = DiagonalGaussian([[0.0]], [[2.0]]), DiagonalGaussian([[0.0]], [[1.0]])
    for order, finite in ((1.9, True), (1.999999, True), (2.0, False), (5.0, False)):
        assert np.isfinite(renyi_divergence(wide, narrow, order=order)).all() == finite
        assert np.isfinite(alpha_divergence(wide, narrow, alpha=1 - 2 * order)).all() == finite
        assert np.isfinite(renyi_divergence(wide.to_full(), narrow.to_full(), order=order)).all() == finite
        assert np.isfinite(renyi_divergence(narrow, wide, order=order)).all()
    tilted = Gaussian([[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    round_ = Gaussian([[0.1, 0.0]], [np.eye(2)])
    limit = 1.9 / 0.9  # order I + (1 - order) S is singular where order = 1.9 / 0.9, by the eigenvalue 1.9 of S
    assert np.isfinite(renyi_divergence(tilted, round_, order=limit - 1e-3))
    assert renyi_divergence(tilted, round_, order=limit + 1e-3) == INF
    assert renyi_divergence(Gamma([2.0], [1.0]), Gamma([2.0], [3.0]), order=1.5) == INF  # rate 1.5 - 0.5 * 3 = 0
    assert renyi_divergence(Exponential([1.0]), Exponential([3.0]), order=1.5) == INF
    assert np.isfinite(renyi_divergence(Exponential([1.0]), Exponential([3.0]), order=1.49))
    assert renyi_divergence(Geometric([0.3]), Geometric([0.45]), order=5) == INF  # 0.7^5 > 0.55^4
    assert np.isfinite(renyi_divergence(Geometric([0.3]), Geometric([0.45]), order=2))
    assert renyi_divergence(Beta([1.0], [1.0]), Beta([3.0], [1.0]), order=1.6) == INF


def test_outcomes_that_one_side_excludes():
    p, q = Categorical.from_probs([0.5, 0.5, 0.0]), Categorical.from_probs([0.0, 0.25, 0.75])
    affinity = np.sqrt(0.125)
    assert float(renyi_divergence(p, q, order=0.5)) == pytest.approx(-2 * np.log(affinity))
    assert float(renyi_divergence(p, q, order=0)) == pytest.approx(np.log(4))
    assert float(renyi_divergence(q, p, order=0)) == pytest.approx(np.log(2))
    assert [float(renyi_divergence(p, q, order=t)) for t in (1, 1.5, INF)] == [INF] * 3
    assert float(alpha_divergence(p, q, alpha=0)) == pytest.approx(4 * (1 - affinity))
    assert [float(alpha_divergence(p, q, alpha=a)) for a in (-3, -1, 1, 2)] == [INF] * 4
    r = Categorical.from_probs([1.0, 0.0, 0.0])
    s = Categorical.from_probs([0.0, 0.0, 1.0])
    assert [float(renyi_divergence(r, s, order=t)) for t in (0, 0.5, 1, 2, INF)] == [INF] * 5
    assert float(alpha_divergence(r, s, alpha=0.5)) == pytest.approx(4 / 0.75)
    a, b = np.array([0.5, 0.499, 0.001]), np.array([0.5, 0.5, 0.0])  # a little mass that the other side excludes
    for t in (0.2, 0.4, 0.6, 0.9):
        for x, y in ((a, b), (b, a)):
            value = renyi_divergence(Categorical.from_probs(x), Categorical.from_probs(y), order=t)
            assert float(value) == pytest.approx(np.log((x**t * y ** (1 - t)).sum()) / (t - 1), rel=1e-11)
    for t in (0.3, 1, 2, INF):  # q allows more than p: finite
        u = Categorical.from_probs([0.25, 0.5, 0.25])
        assert float(renyi_divergence(p, u, order=t)) > 0
        assert np.isfinite(renyi_divergence(p, u, order=t))
    assert float(renyi_divergence(Bernoulli(0.0), Bernoulli(0.5), order=0)) == pytest.approx(np.log(2))
    assert float(renyi_divergence(Geometric(1.0), Geometric(0.5), order=0)) == pytest.approx(np.log(2))
    assert float(renyi_divergence(Geometric(1.0), Geometric(0.5), order=2)) == pytest.approx(np.log(2))


@GIVEN
def test_the_infinite_order_is_what_large_orders_tend_to(name):
    p, q = PAIRS[name]
    if name in ("gamma", "beta", "dirichlet", "inverse_gaussian", "von_mises_fisher"):
        with pytest.raises(UnsupportedFamilyError, match="use a finite order"):
            renyi_divergence(p, q, order=INF)
        return
    for a, b in ((p, q), (q, p)):
        top, late = renyi_divergence(a, b, order=INF), renyi_divergence(a, b, order=1e7)
        np.testing.assert_allclose(np.where(late > 1e5, INF, late), top, rtol=1e-4)
        assert (renyi_divergence(a, a, order=INF) == 0).all()
    if name == "categorical":
        assert float(renyi_divergence(p, q, order=INF)[0]) == pytest.approx(np.log(2), rel=1e-14)


def test_infinite_order_of_a_normal_inside_a_wider_one():
    p, q = Gaussian([[0.5, 0.0]], [np.eye(2)]), Gaussian([[0.0, 0.0]], [4 * np.eye(2)])
    wanted = np.log(4) + 0.25 / 6  # log of the ratio of determinants, half; shift^2 / (2 (4 - 1))
    for a, b in ((p, q), (DiagonalGaussian([[0.5, 0.0]], [[1.0, 1.0]]), DiagonalGaussian([[0.0] * 2], [[4.0] * 2]))):
        assert float(renyi_divergence(a, b, order=INF)[0]) == pytest.approx(wanted, rel=1e-13)
        assert renyi_divergence(b, a, order=INF) == INF


# --------------------------------------------------------------------------------------------------- batches, pairs


@GIVEN
def test_broadcasts_and_equals_the_loop(name):
    p, q = PAIRS[name]
    x, y = p.coordinates(), q.coordinates()
    batch = p.with_coordinates(np.concatenate([x + t * (y - x) for t in (0.0, 0.3, 1.0)]))
    for measure in (renyi_measure(0.7), renyi_measure(1.4), alpha_measure(0.4)):
        values = measure(batch[:, None], batch[None])
        assert values.shape == (3, 3)
        for i, j in np.ndindex(3, 3):
            np.testing.assert_allclose(values[i, j], measure(batch[i], batch[j]), rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(pairwise(measure, batch), values, rtol=1e-9, atol=1e-15)


def test_measures_of_one_order_say_what_they_are():
    half, two = renyi_measure(0.5), renyi_measure(2)
    assert half.symmetric
    assert not two.symmetric
    assert alpha_measure(0).symmetric
    assert not half.is_metric(Categorical)
    assert two.name == "renyi_divergence(order=2.0)"
    assert alpha_measure(-1).name == "alpha_divergence(alpha=-1.0)"
    assert renyi_measure(2.0) is two
    assert pickle.loads(pickle.dumps(two)) is two
    assert two.name not in MEASURES
    assert "total_variation_distance" in MEASURES


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.floats(0, 5), spread=st.sampled_from([1e-7, 1e-2, 1.0, 30.0]))
def test_never_negative_and_pinsker(seed, order, spread):
    rng = RNG(seed)
    base = rng.standard_normal(6)
    p, q = (Categorical.from_logits(base + spread * rng.standard_normal(6)) for _ in range(2))
    value = float(renyi_divergence(p, q, order=order))
    assert value >= 0
    half = min(order, 1.0) / 2 * (2 * float(total_variation_distance(p, q))) ** 2  # Gilardoni 2010
    assert value >= half * (1 - 1e-9)


# ----------------------------------------------------------------------------------------------------------- torch


def test_gradients_in_torch():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    check, rng = torch.autograd.gradcheck, RNG(3)
    leaf = lambda a: torch.tensor(a, requires_grad=True)  # noqa: E731
    mean, other = leaf(rng.standard_normal((2, 2))), leaf(rng.standard_normal((2, 2)))
    var, wide = leaf(np.exp(rng.standard_normal((2, 2)) / 4)), leaf(3 + rng.uniform(size=(2, 2)))
    root, root2 = leaf(rng.standard_normal((2, 2, 2))), leaf(rng.standard_normal((2, 2, 2)))
    cov = lambda a, s: a @ a.mT + s * torch.eye(2, dtype=torch.float64)  # noqa: E731
    logits = leaf(rng.standard_normal((2, 4))), leaf(rng.standard_normal((2, 4)))
    for measure in (renyi_measure(0.3), renyi_measure(1), renyi_measure(1.2), alpha_measure(0.4), renyi_measure(INF)):
        assert check(lambda a, b, c, d, m=measure: m(DiagonalGaussian(a, b), DiagonalGaussian(c, d)),
                     (mean, var, other, wide))
        assert check(lambda a, b, m=measure: m(Categorical.from_logits(a), Categorical.from_logits(b)), logits)
        assert check(lambda a, b, c, d, m=measure: m(Gaussian(a, cov(b, 1)), Gaussian(c, cov(d, 20))),
                     (mean, root, other, root2))
    assert check(lambda a, b: renyi_divergence(SharedCovarianceGaussian(a, np.eye(2)),
                                               SharedCovarianceGaussian(b, np.eye(2)), order=0.4), (mean, other))
    one = [leaf(a.detach().numpy()[:, :1]) for a in (mean, var, other, wide)]
    assert check(lambda a, b, c, d: total_variation_distance(DiagonalGaussian(a, b), DiagonalGaussian(c, d)), one)
    assert check(lambda a, b, c, d: total_variation_distance(DiagonalGaussian(c, d), DiagonalGaussian(a, b)), one)
    same = renyi_divergence(Gaussian(mean, cov(root, 1)), Gaussian(mean.detach(), cov(root, 1).detach()), order=0.7)
    for gradient in torch.autograd.grad(same.sum(), (mean, root)):
        assert torch.isfinite(gradient).all()
    with pytest.raises(DomainError):
        renyi_divergence(Gamma(leaf(np.ones(1)), np.ones(1)), Gamma(np.ones(1), np.ones(1)), order=2)


# -------------------------------------------------------------------------------------------------- total variation


def normal_overlap(m1, v1, m2, v2):
    """Total variation of two normals in 40 digits, from the roots of the quadratic equation of the crossings."""
    with mp.workdps(40):
        m1, v1, m2, v2 = (mp.mpf(float(x)) for x in (m1, v1, m2, v2))
        a, b = 1 / (2 * v1) - 1 / (2 * v2), m2 / v2 - m1 / v1
        c = m1**2 / (2 * v1) - m2**2 / (2 * v2) + mp.log(v1 / v2) / 2
        root = mp.sqrt(b * b - 4 * a * c)
        places = sorted([(-b - root) / (2 * a), (-b + root) / (2 * a)]) if a else [-c / b]
        cuts = [-mp.inf, *places, mp.inf]
        mass = lambda x, m, v: mp.ncdf((x - m) / mp.sqrt(v))  # noqa: E731
        return float(sum(abs(mass(t, m1, v1) - mass(s, m1, v1) - mass(t, m2, v2) + mass(s, m2, v2))
                         for s, t in itertools.pairwise(cuts)) / 2)


@pytest.mark.parametrize("spread", [1e-10, 1e-5, 1e-2, 1.0, 4.0])
def test_total_variation_of_univariate_normals(spread):
    rng = RNG(5)
    for k in range(12):
        m, v = rng.standard_normal(), np.exp(rng.standard_normal())
        other = m if k == 0 else m + spread * rng.standard_normal()
        var = v if k % 4 == 1 else v * np.exp(spread * rng.standard_normal())
        truth = normal_overlap(m, v, other, var)
        p, q = DiagonalGaussian([m], [v]), DiagonalGaussian([other], [var])
        assert float(total_variation_distance(p, q)) == pytest.approx(truth, rel=1e-12)
        assert float(total_variation_distance(q, p)) == pytest.approx(truth, rel=1e-12)
        assert float(total_variation_distance(p.to_full(), q.to_full())) == pytest.approx(truth, rel=1e-12)
        positive = total_variation_distance(LogNormal(m, v), LogNormal(other, var))
        assert float(positive) == pytest.approx(truth, rel=1e-12)
    far = DiagonalGaussian([[0.0]] * 3, [[1.0], [1e-30], [1.0]]), DiagonalGaussian([[1e200], [0.0], [0.0]], [[1.0]] * 3)
    np.testing.assert_allclose(total_variation_distance(*far), [1.0, 1.0, 0.0], rtol=1e-12)


@pytest.mark.parametrize(("p", "q"), [
    (Binomial(0.3, 7), Binomial(0.6, 7)), (Binomial(0.0, 7), Binomial(0.6, 7)), (Binomial(1.0, 7), Binomial(0.6, 7)),
    (Binomial(0.0, 4), Binomial(1.0, 4)), (Binomial(0.3, 700), Binomial(0.3001, 700)), (Bernoulli(0.2), Bernoulli(0.9)),
    (Poisson(3.0), Poisson(4.5)), (Poisson(30.0), Poisson(30.001)), (Poisson(0.01), Poisson(50.0)),
    (Geometric(0.3), Geometric(0.5)), (Geometric(1.0), Geometric(0.5)), (Geometric(0.05), Geometric(0.050001)),
])
def test_total_variation_of_counts_is_half_the_sum(p, q):
    k = np.arange(2 if isinstance(p, Bernoulli) else 1000)
    wanted = np.abs(np.exp(p.log_prob(k)) - np.exp(q.log_prob(k))).sum() / 2
    assert float(total_variation_distance(p, q)) == pytest.approx(wanted, rel=1e-9)
    assert float(total_variation_distance(q, p)) == pytest.approx(wanted, rel=1e-9)
    assert float(total_variation_distance(p, p)) == 0


def test_total_variation_of_exponentials_categoricals_and_one_covariance():
    p, q = Exponential(1.5), Exponential(0.2)
    place = np.log(7.5) / 1.3
    wanted = np.exp(-0.2 * place) - np.exp(-1.5 * place)
    assert float(total_variation_distance(p, q)) == pytest.approx(wanted, rel=1e-13)
    near = float(total_variation_distance(Exponential(1.0), Exponential(1.0 + 1e-9)))
    assert near == pytest.approx(1e-9 / np.e, rel=1e-6)
    assert float(total_variation_distance(p, p)) == 0
    a, b = RNG(6).dirichlet(np.ones(5), size=2)
    value = total_variation_distance(Categorical.from_probs(a), Categorical.from_probs(b))
    assert float(value) == pytest.approx(np.abs(a - b).sum() / 2, rel=1e-13)
    one, two = SharedCovarianceGaussian([0.0, 0.0], np.eye(2)), SharedCovarianceGaussian([1.2, 1.6], np.eye(2))
    by_one_coordinate = normal_overlap(0, 1, 2, 1)
    for family in (lambda x: x, lambda x: x.to_full(), lambda x: DiagonalGaussian(x.mean, np.ones(2)),
                   lambda x: IsotropicGaussian(x.mean, 1.0)):
        value = total_variation_distance(family(one), family(two))
        assert float(value) == pytest.approx(by_one_coordinate, rel=1e-13)


# ---------------------------------------------------------------------------------------------------------- guards


NORMAL = DiagonalGaussian([[0.0, 0.0]], [[1.0, 1.0]])


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: renyi_measure(-0.1), ArgumentError, "at least 0"),
    (lambda: renyi_measure(float("nan")), ArgumentError, "NaN"),
    (lambda: renyi_measure("two"), ArgumentError, "order: found 'two', wanted"),
    (lambda: alpha_measure(INF), ArgumentError, "finite"),
    (lambda: alpha_measure(None), ArgumentError, "alpha: found None, wanted"),
    (lambda: renyi_divergence(PointMass([0.0]), PointMass([1.0]), order=2), UnsupportedFamilyError, "no density"),
    (lambda: alpha_divergence(Weibull(1.0, 1.0), Weibull(2.0, 1.0), alpha=0), UnsupportedFamilyError, "Weibull"),
    (lambda: renyi_divergence(NORMAL, Poisson(1.0), order=2), UnsupportedFamilyError, "one family"),
    (lambda: total_variation_distance(NORMAL, DiagonalGaussian([[0.0, 0.0]], [[1.0, 2.0]])), DomainError,
     r"dimension 2 with different covariances.*hellinger_distance"),
    (lambda: total_variation_distance(Gamma(1.0, 1.0), Gamma(2.0, 1.0)), UnsupportedFamilyError, "hellinger"),
    (lambda: total_variation_distance(PointMass([0.0]), PointMass([1.0])), UnsupportedFamilyError, "euclidean"),
])
def test_what_has_no_value_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_orders_without_digits_and_parameters_at_the_ends_of_float64():
    p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([1.0], [1.0])
    assert float(renyi_divergence(p, q, order=1e15)) == pytest.approx(5e14)
    with pytest.raises(ArgumentError, match=r"order: found 1e\+16, wanted at most 1e\+15"):
        renyi_divergence(p, q, order=1e16)
    with pytest.raises(ArgumentError, match=r"alpha: found -1e\+200"):
        alpha_divergence(p, q, alpha=-1e200)
    far = Gaussian([1e160, 0.0], np.eye(2)), Gaussian([0.0, 0.0], np.eye(2))
    assert np.isinf(renyi_divergence(*far, order=2.0))  # beyond 1e308
