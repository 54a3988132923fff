"""Total variation distance, where it has a closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import _statistics
from infogeo._arrays import (
    Array,
    as_result,
    detached,
    is_tensor,
    length,
    like,
    namespace,
    requires_gradient,
    to_numpy,
    with_gradients,
)
from infogeo._checks import FloatArray
from infogeo._kernels import log_gaps
from infogeo._terms import log_ratio
from infogeo.errors import DomainError
from infogeo.families import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Family,
    Gamma,
    Gaussian,
    Geometric,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    LowRankGaussian,
    Multinomial,
    PointMass,
    Poisson,
    VonMisesFisher,
    Weibull,
)
from infogeo.families.gaussian import solve_lower
from infogeo.measures import measure

NODES = 16
"""Points of the Gauss-Legendre rule for differences of distribution functions at near arguments."""

BOUNDS = "hellinger_distance h bounds it, h^2 <= TV <= h sqrt(2 - h^2), and so does kl_divergence D, TV <= sqrt(D / 2)"


@measure(symmetric=True, metric=True)
def total_variation_distance(p: Family, q: Family) -> Array:
    r"""Total variation distance :math:`\tfrac12\int|p - q|`, between 0 and 1. A metric, without unit.

    It is the largest difference of the probabilities that p and q give to one event, which is the event
    :math:`\{p > q\}`, and one less twice the error of the best guess which of the two a sample is from [1]_. Where that
    event is one or two intervals it has a closed form:

    * :class:`Categorical`, :class:`Bernoulli`: half the sum of the differences;
    * :class:`SharedCovarianceGaussian`: :math:`\mathrm{erf}(\Delta / (2\sqrt2))` with the Mahalanobis distance;
    * univariate normals, as :class:`DiagonalGaussian`, :class:`IsotropicGaussian`, :class:`Gaussian` or
      :class:`CenteredGaussian` of dimension 1, and :class:`LogNormal`: from the two points where the densities cross.
      In more dimensions these families have one for pairs with equal covariances only;
    * :class:`Binomial`, :class:`Geometric`, :class:`Poisson`, :class:`Exponential`: from the one point where the
      likelihood ratio crosses one.

    Differences of distribution functions at near arguments are integrated, so that close neighbors keep their digits.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        For families without a closed form.
    DomainError
        For normals of more than one dimension with different covariances; the message names bounds.

    References
    ----------
    .. [1] E. L. Lehmann, J. P. Romano, Testing Statistical Hypotheses, 3rd edition, Springer 2005, section 16.1.

    Examples
    --------
    >>> from infogeo import Categorical, DiagonalGaussian
    >>> p, q = Categorical.from_probs([0.5, 0.5, 0.0]), Categorical.from_probs([0.25, 0.5, 0.25])
    >>> float(total_variation_distance(p, q))
    0.25
    >>> total_variation_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([2.0], [1.0])).round(6).item()
    0.682689
    """


for _family in (Beta, Dirichlet, Gamma, InverseGaussian, Multinomial, VonMisesFisher, Weibull):
    total_variation_distance.refuse(_family, f"it has no closed form there; {BOUNDS}")
total_variation_distance.refuse(
    LowRankGaussian, f"it has a closed form for equal covariances only, as SharedCovarianceGaussian; {BOUNDS}"
)
total_variation_distance.refuse(PointMass, "it is 1 for any two different points; use euclidean_distance")


# -------------------------------------------------------------------------------------------------------- outcomes


@total_variation_distance.register(Categorical, scratch=12)
def _categorical(p: Categorical, q: Categorical) -> Array:
    xp = namespace(p.log_probs, q.log_probs)
    gap = abs(log_gaps(p.log_probs, q.log_probs))
    infinite = xp.isinf(detached(gap))
    relative = xp.where(infinite, 1.0, -xp.expm1(-xp.where(infinite, 0.0, gap)))
    return (xp.exp(xp.maximum(p.log_probs, q.log_probs)) * relative).sum(axis=-1) / 2


@total_variation_distance.register(Bernoulli, scratch=4)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> FloatArray:
    return np.abs(p.prob - q.prob)


@total_variation_distance.register(Binomial, scratch=80)
def _binomial(p: Binomial, q: Binomial) -> FloatArray:
    from scipy.special import betainc, betaln, xlog1py, xlogy

    n = p.trials
    low, high = np.minimum(p.prob, q.prob), np.maximum(p.prob, q.prob)
    failures = log_ratio(1 - low, 1 - high, high - low)
    with np.errstate(invalid="ignore"):
        last = np.floor(n * failures / (log_ratio(high, low) + failures))  # the last count that the lower one favors
    last = np.where(low == 0, 0.0, np.where(high == 1, n - 1.0, np.where(high == low, 0.0, last)))
    a = np.clip(last, 0, n - 1) + 1
    b = n - a + 1

    def density(t: FloatArray) -> FloatArray:
        logs = xlogy(a[..., None] - 1, t) + xlog1py(b[..., None] - 1, -t) - betaln(a, b)[..., None]
        return np.asarray(np.exp(logs))

    return _difference(betainc(a, b, high) - betainc(a, b, low), density, low, high)


@total_variation_distance.register(Poisson, scratch=64)
def _poisson(p: Poisson, q: Poisson) -> FloatArray:
    from scipy.special import gammainc, gammaln, xlogy

    low, high = np.minimum(p.rate, q.rate), np.maximum(p.rate, q.rate)
    same = high == low
    last = np.where(same, 0.0, np.floor((high - low) / np.where(same, 1.0, log_ratio(high, low))))

    def density(t: FloatArray) -> FloatArray:
        k = last[..., None]
        return np.asarray(np.exp(xlogy(k, t) - t - gammaln(k + 1)))

    return _difference(gammainc(last + 1, high) - gammainc(last + 1, low), density, low, high)


@total_variation_distance.register(Geometric, scratch=16)
def _geometric(p: Geometric, q: Geometric) -> FloatArray:
    low, high = np.minimum(p.prob, q.prob), np.maximum(p.prob, q.prob)
    failures = log_ratio(1 - low, 1 - high, high - low)
    same = high == low
    count = np.where(same, 1.0, np.floor(log_ratio(high, low) / np.where(same, 1.0, failures)) + 1)
    beyond = np.exp(count * np.log1p(-np.where(same, 0.5, low)))  # what the lower one gives to more failures
    return np.where(same, 0.0, beyond * -np.expm1(-count * np.where(same, 0.0, failures)))


@total_variation_distance.register(Exponential, scratch=12)
def _exponential(p: Exponential, q: Exponential) -> FloatArray:
    low, high = np.minimum(p.rate, q.rate), np.maximum(p.rate, q.rate)
    same = high == low
    # at the point where the densities cross; the product of the lower rate and that point tends to one for equal rates
    place = np.where(same, 1.0, low * log_ratio(high, low) / np.where(same, 1.0, high - low))
    return np.asarray(np.exp(-place) * ((high - low) / high))


def _difference(direct: Any, density: Any, low: FloatArray, high: FloatArray) -> FloatArray:
    """The integral of a density between two arguments: the difference of its integrals if that is large."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    points = low[..., None] + (high - low)[..., None] * (1 + x) / 2
    return np.where(np.asarray(direct) > 0.1, direct, (density(points) * w).sum(axis=-1) * (high - low) / 2)


# --------------------------------------------------------------------------------------------------------- normals


def _phi(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi))


def _between(a: FloatArray, width: FloatArray) -> FloatArray:
    """Standard normal probability of the interval from a to a + width."""
    from scipy.special import ndtr

    b = a + width
    turned = a > 0
    low, high = np.where(turned, -b, a), np.where(turned, -a, b)
    x, w = np.polynomial.legendre.leggauss(NODES)
    near = width < 1
    start = np.where(near & np.isfinite(a), a, 0.0)
    short = np.where(near, width, 0.0)
    points = start[..., None] + short[..., None] * (1 + x) / 2
    smooth = np.where(np.isfinite(a), (_phi(points) * w).sum(axis=-1) * short / 2, 0.0)
    return np.where(near, smooth, ndtr(high) - ndtr(low))


def _univariate(mean_p: Array, var_p: Array, mean_q: Array, var_q: Array) -> Array:
    """Univariate normals with parameters that broadcast; the gradients hold the event still on which p > q."""
    parameters = (mean_p, var_p, mean_q, var_q)
    m1, v1, m2, v2 = np.broadcast_arrays(*map(to_numpy, parameters))
    swap = v2 > v1  # the wider normal first, its mean not below that of the other
    wide_mean, wide, narrow_mean, narrow = (np.where(swap, x, y) for x, y in ((m2, m1), (v2, v1), (m1, m2), (v1, v2)))
    sign = np.where(wide_mean >= narrow_mean, 1.0, -1.0)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        m = np.abs(wide_mean - narrow_mean) / np.sqrt(narrow)
        # one of them so wide, or the means so far apart, that what they share is below 1e-19: taken as a pair like it
        apart = (np.sqrt(wide) / np.sqrt(narrow) > 1e20) | (m > 1e22)
        wide, narrow = np.where(apart, 1.0, wide), np.where(apart, 1.0, narrow)
        m = np.where(apart, 100.0, m)
        r, excess = np.sqrt(wide / narrow), (wide - narrow) / narrow
        logs = log_ratio(wide, narrow, wide - narrow) / 2
        root = np.hypot(m, np.sqrt(2 * excess * logs))
        total = m + r * root
        same = total == 0
        safe = np.where(same, 1.0, total)
        # crossing points in units of the narrower normal; and how far they move in units of the wider one
        upper = m * (m / safe) + 2 * r * (logs / safe) * r
        lower = np.where(excess == 0, -np.inf, -total / np.where(excess == 0, 1.0, excess))
        shift_up = (excess / (r + 1) * upper + m) / r
        shift_down = 2 * excess * logs / ((r + 1) * np.where(same, 1.0, root + m))
        value = _between(upper - shift_up, shift_up) + _between(lower, shift_down)
    value = np.where(same, 0.0, np.minimum(value, 1.0))
    if not requires_gradient(*parameters):
        return like(value, next((x for x in parameters if is_tensor(x)), value))
    at = {
        "narrow": (upper, np.where(np.isinf(lower), -40.0, lower)),
        "wide": (upper - shift_up, np.where(np.isinf(lower), -40.0, lower + shift_down)),
    }
    slopes = {}
    for name, factor in (("narrow", -1.0), ("wide", 1.0)):
        (b, a), scale = at[name], narrow if name == "narrow" else wide
        mean_slope = factor * (_phi(b) - _phi(a)) / np.sqrt(scale) * sign
        var_slope = factor * (b * _phi(b) - a * _phi(a)) / scale / 2
        slopes[name] = np.where(same, 0.0, mean_slope), np.where(same, 0.0, var_slope)
    found = [np.where(swap, slopes["narrow"][i], slopes["wide"][i]) for i in (0, 1)]
    found += [np.where(swap, slopes["wide"][i], slopes["narrow"][i]) for i in (0, 1)]
    reference = next(x for x in parameters if requires_gradient(x))
    pairs = [(x, like(g, reference)) for x, g in zip(parameters, found, strict=True)]
    return with_gradients(like(value, reference), *pairs)


def _erf(delta: Array) -> Array:
    """Of normals with one covariance, from their Mahalanobis distance."""
    from scipy.special import erf

    plain = to_numpy(delta)
    value = like(np.asarray(erf(plain / 8**0.5)), delta)
    return with_gradients(value, (delta, like(np.asarray(_phi(plain / 2)), delta)))


def _refuse_unequal(name: str, p: Any, unequal: bool) -> None:
    if unequal:
        raise DomainError(
            f"total_variation_distance: found {name}s of dimension {p.dimension} with different covariances, which "
            f"have no closed form (those of dimension 1, or with equal covariances, have one); {BOUNDS}"
        )


@total_variation_distance.register(DiagonalGaussian, scratch=64, partial=True)
def _diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    if p.dimension == 1:
        return _univariate(p.mean[..., 0], p.var[..., 0], q.mean[..., 0], q.var[..., 0])
    _refuse_unequal("DiagonalGaussian", p, bool((detached(p.var) != detached(q.var)).any()))
    return _erf(_length_in_units(p.mean - q.mean, namespace(p.var).sqrt(p.var)))


def _length_in_units(shift: Array, std: Array) -> Array:
    with np.errstate(over="ignore"):
        return length(shift / std)


@total_variation_distance.register(IsotropicGaussian, scratch=64, partial=True)
def _isotropic(p: IsotropicGaussian, q: IsotropicGaussian) -> Array:
    if p.dimension == 1:
        return _univariate(p.mean[..., 0], p.var, q.mean[..., 0], q.var)
    _refuse_unequal("IsotropicGaussian", p, bool((detached(p.var) != detached(q.var)).any()))
    return _erf(_length_in_units(p.mean - q.mean, namespace(p.var).sqrt(p.var)[..., None]))


@total_variation_distance.register(Gaussian, scratch=64, partial=True)
def _full(p: Gaussian, q: Gaussian) -> Array:
    if p.dimension == 1:
        return _univariate(p.mean[..., 0], p.cov[..., 0, 0], q.mean[..., 0], q.cov[..., 0, 0])
    _refuse_unequal("Gaussian", p, bool((detached(p.cov) != detached(q.cov)).any()))
    with np.errstate(over="ignore"):
        return _erf(length(solve_lower(p.cholesky, p.mean - q.mean)))


@total_variation_distance.register(CenteredGaussian, scratch=64, partial=True)
def _centered(p: CenteredGaussian, q: CenteredGaussian) -> Array:
    var_p, var_q = p.cov[..., 0, 0], q.cov[..., 0, 0]
    if p.dimension > 1:
        _refuse_unequal("CenteredGaussian", p, bool((detached(p.cov) != detached(q.cov)).any()))
    return _univariate(0 * var_p, var_p, 0 * var_q, var_q)


@total_variation_distance.register(LogNormal, scratch=64)
def _log_normal(p: LogNormal, q: LogNormal) -> Array:
    return _univariate(p.mean, p.var, q.mean, q.var)


_statistics.MAHALANOBIS.register(total_variation_distance, lambda delta: as_result(_erf(delta)))
