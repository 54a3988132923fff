"""What the divergences with an order know about each family: its kernel of T (see infogeo._skew) and its extremes.

A kernel takes (p, q, lam, mu) with ``lam >= 1/2``, an extreme (p, q) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo import _kernels, _skew
from infogeo._arrays import Array, cholesky, detached, namespace
from infogeo._checks import FloatArray
from infogeo._skew_exponential import exponential_overlap
from infogeo._spd import joint_spectrum, log_ratios
from infogeo._terms import log_ratio
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

Kernel = Callable[[Any, Any, float, float], Array]
Extreme = Callable[[Any, Any], Array]

KERNELS: dict[type[Family], tuple[Kernel, int]] = {}
"""Kernel, and its temporaries in multiples of the size of a member; SharedCovarianceGaussian is served elsewhere."""
ZERO: dict[type[Family], Extreme] = {}
"""Rényi divergence of order zero; that of a family that is not here is zero, since its members have one support."""
LARGEST: dict[type[Family], Extreme] = {}
"""Rényi divergence of infinite order, the logarithm of the largest ratio of the densities."""
REFUSED: dict[type[Family], str] = {
    LowRankGaussian: "turn both into Gaussian with to_full()",
    PointMass: "a point mass has no density; for plain vectors use euclidean_distance",
    Weibull: "two Weibull distributions of different shape have no closed form of the integral of powers; "
    "kl_divergence has one",
}


# ------------------------------------------------------------------------------------------ normals, each coordinate


def _log_variances(a: Array, b: Array) -> Array:
    """log(a / b), from the difference where that is more exact."""
    xp = namespace(a, b)
    relative = (a - b) / b
    near = abs(detached(relative)) < 0.5
    return xp.where(near, xp.log1p(xp.where(near, relative, 0.0)), xp.log(a) - xp.log(b))


def _coordinates(mean: Array, var_p: Array, var_q: Array, lam: float, mu: float) -> tuple[Array, Array]:
    """Of the difference of the means, and of the variances: what each coordinate adds to T."""
    xp = namespace(mean, var_p, var_q)
    with np.errstate(over="ignore", under="ignore"):
        middle = lam * var_q + mu * var_p
        invalid = detached(middle) <= 0
        shift = (mean / xp.sqrt(xp.where(invalid, 1.0, middle))) ** 2  # the square of a mean may overflow
    return xp.where(invalid, np.inf, shift) / 2, _skew.ratio_terms(_log_variances(var_p, var_q), lam, mu) / 2


def _diagonal(p: DiagonalGaussian, q: DiagonalGaussian, lam: float, mu: float) -> Array:
    shift, spread = _coordinates(p.mean - q.mean, p.var, q.var, lam, mu)
    return (shift + spread).sum(axis=-1)


def _isotropic(p: IsotropicGaussian, q: IsotropicGaussian, lam: float, mu: float) -> Array:
    shift, spread = _coordinates(p.mean - q.mean, p.var[..., None], q.var[..., None], lam, mu)
    return shift.sum(axis=-1) + p.dimension * spread[..., 0]


def _log_normal(p: LogNormal, q: LogNormal, lam: float, mu: float) -> Array:
    shift, spread = _coordinates(p.mean - q.mean, p.var, q.var, lam, mu)
    return shift + spread


def _coordinate_maxima(mean: Array, var_p: Array, var_q: Array) -> Array:
    """Largest logarithm of the ratio of two univariate normals; infinite unless q is wider, or the two are the same."""
    xp = namespace(mean, var_p, var_q)
    wider = detached(var_q) > detached(var_p)
    gap = xp.where(wider, var_q - var_p, 1.0)
    with np.errstate(over="ignore", under="ignore"):
        value = (mean / xp.sqrt(gap)) ** 2 / 2 - _log_variances(var_p, var_q) / 2
    same = (detached(var_q) == detached(var_p)) & (detached(mean) == 0)
    return xp.where(wider, value, xp.where(same, mean * 0, np.inf))


def _maximum_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    return _coordinate_maxima(p.mean - q.mean, p.var, q.var).sum(axis=-1)


def _maximum_isotropic(p: IsotropicGaussian, q: IsotropicGaussian) -> Array:
    return _coordinate_maxima(p.mean - q.mean, p.var[..., None], q.var[..., None]).sum(axis=-1)


def _maximum_log_normal(p: LogNormal, q: LogNormal) -> Array:
    return _coordinate_maxima(p.mean - q.mean, p.var, q.var)


KERNELS |= {DiagonalGaussian: (_diagonal, 12), IsotropicGaussian: (_isotropic, 12), LogNormal: (_log_normal, 24)}
LARGEST |= {
    DiagonalGaussian: _maximum_diagonal, IsotropicGaussian: _maximum_isotropic, LogNormal: _maximum_log_normal,
}


# ---------------------------------------------------------------------------------------------------- full normals


def _full(p: Gaussian, q: Gaussian, lam: float, mu: float) -> Array:
    return _of_covariances(p, q, p.mean - q.mean, lam, mu)


def _centered(p: CenteredGaussian, q: CenteredGaussian, lam: float, mu: float) -> Array:
    return _of_covariances(p, q, None, lam, mu)


def _of_covariances(p: Any, q: Any, mean: Array | None, lam: float, mu: float) -> Array:
    xp = namespace(p.cov, q.cov)
    spread = _skew.ratio_terms(log_ratios(q.cov, q.cholesky, p.cov, p.cholesky), lam, mu).sum(axis=-1)
    if mean is None:
        return spread / 2
    invalid = xp.isinf(detached(spread))
    middle = xp.where(invalid[..., None, None], q.cov + 0 * p.cov, lam * q.cov + mu * p.cov)
    factor = cholesky(middle)
    if factor is not None:
        shift = (solve_lower(factor, mean) ** 2).sum(axis=-1)
    else:  # positive definite by a hair: as the basis in which both covariances are diagonal sees it
        found = joint_spectrum(q.cov, q.cholesky, p.cov, p.cholesky)
        turned = xp.linalg.solve(found.basis, mean[..., None])[..., 0]
        weights = xp.where(invalid[..., None], 1.0, 1 + mu * xp.expm1(xp.where(invalid[..., None], 0.0, found.logs)))
        shift = (turned**2 / weights).sum(axis=-1)
    return (xp.where(invalid, np.inf, shift) + spread) / 2


def _maximum_full(p: Gaussian, q: Gaussian) -> Array:
    return _maximum_of_covariances(p, q, p.mean - q.mean)


def _maximum_centered(p: CenteredGaussian, q: CenteredGaussian) -> Array:
    return _maximum_of_covariances(p, q, None)


def _maximum_of_covariances(p: Any, q: Any, mean: Array | None) -> Array:
    """Infinite unless q is wider in every direction, or the two are the same."""
    xp = namespace(p.cov, q.cov)
    logs = log_ratios(q.cov, q.cholesky, p.cov, p.cholesky)
    wider = xp.max(detached(logs), axis=-1) < 0
    value = -logs.sum(axis=-1) / 2
    equal = xp.all(detached(p.cov) == detached(q.cov), axis=(-2, -1))
    if mean is not None:
        gap = xp.where(wider[..., None, None], q.cov - p.cov, q.cov + 0 * p.cov)
        factor = cholesky(gap)
        if factor is None:  # the difference is singular to working precision
            found = joint_spectrum(q.cov, q.cholesky, p.cov, p.cholesky)
            turned = xp.linalg.solve(found.basis, mean[..., None])[..., 0]
            value = value + (turned**2 / -xp.expm1(xp.where(wider[..., None], found.logs, -1.0))).sum(axis=-1) / 2
        else:
            value = value + (solve_lower(factor, mean) ** 2).sum(axis=-1) / 2
        equal = equal & xp.all(detached(mean) == 0, axis=-1)
    return xp.where(wider, value, xp.where(equal, value * 0, np.inf))


KERNELS |= {Gaussian: (_full, 24), CenteredGaussian: (_centered, 24)}
LARGEST |= {Gaussian: _maximum_full, CenteredGaussian: _maximum_centered}


# -------------------------------------------------------------------------------------------------- a few outcomes


def _outcomes(p: Any, q: Any) -> tuple[Array, Array, Array]:
    """Logarithms of the probabilities of each outcome under p and q, and the logarithms of their ratios."""
    if hasattr(p, "log_probs"):
        return p.log_probs, q.log_probs, _kernels.log_gaps(p.log_probs, q.log_probs)
    difference = p.prob - q.prob
    gap = np.stack([log_ratio(p.prob, q.prob, difference), log_ratio(1 - p.prob, 1 - q.prob, -difference)], axis=-1)
    with np.errstate(divide="ignore"):
        logs = [np.stack([np.log(x.prob), np.log1p(-x.prob)], axis=-1) for x in (p, q)]
    return logs[0], logs[1], gap


def _trials(p: Any) -> int:
    return int(getattr(p, "trials", 1))


def _of_outcomes(p: Any, q: Any, lam: float, mu: float) -> Array:
    return _trials(p) * _skew.overlap(*_outcomes(p, q), lam, mu)


def _excluded_by_p(p: Any, q: Any) -> Array:
    log_p, log_q, _ = _outcomes(p, q)
    xp = namespace(log_p, log_q)
    hidden = xp.isinf(log_p)
    lost = xp.where(hidden, xp.exp(log_q), 0.0).sum(axis=-1)
    kept = xp.where(hidden, 0.0, xp.exp(log_q)).sum(axis=-1)
    near = detached(lost) < 0.5
    nothing = detached(kept) == 0
    far = xp.where(nothing, np.inf, -xp.log(xp.where(nothing | near, 1.0, kept)))
    return _trials(p) * xp.where(near, -xp.log1p(-xp.where(near, lost, 0.0)), far)


def _largest_of_outcomes(p: Any, q: Any) -> Array:
    log_p, log_q, gap = _outcomes(p, q)
    xp = namespace(log_p, log_q)
    return _trials(p) * xp.max(xp.where(xp.isinf(log_p), -np.inf, gap), axis=-1)


KERNELS |= dict.fromkeys((Categorical, Multinomial), (_of_outcomes, 24))
KERNELS |= dict.fromkeys((Bernoulli, Binomial), (_of_outcomes, 64))
ZERO |= dict.fromkeys((Categorical, Multinomial, Bernoulli, Binomial), _excluded_by_p)
LARGEST |= dict.fromkeys((Categorical, Multinomial, Bernoulli, Binomial), _largest_of_outcomes)


# -------------------------------------------------------------------------------- one rate, one probability of success


def _poisson(p: Poisson, q: Poisson, lam: float, mu: float) -> Array:
    return _skew.outcome_terms(p.rate, q.rate, log_ratio(p.rate, q.rate), lam, mu)


def _exponential(p: Exponential, q: Exponential, lam: float, mu: float) -> Array:
    return _skew.ratio_terms(log_ratio(q.rate, p.rate), lam, mu)


def _geometric(p: Geometric, q: Geometric, lam: float, mu: float) -> Array:
    # one less the integral's denominator, 1 - u^lam w^mu with failures u and w, is lam a + mu b + lam mu (outcome term)
    a, b, gap = p.prob, q.prob, q.prob - p.prob
    failures = _skew.outcome_terms(1 - a, 1 - b, log_ratio(1 - a, 1 - b, gap), lam, mu)
    successes = _skew.ratio_terms(log_ratio(b, a, gap), lam, mu)
    if mu == 0:
        return np.asarray(successes + failures / a)
    inner = np.where(np.isinf(successes), 1.0, lam * a + mu * b)
    with np.errstate(over="ignore"):
        share = lam * mu * failures / inner
    invalid = np.isinf(successes) | (share <= -1)
    return np.where(invalid, np.inf, successes + np.log1p(np.where(invalid, 0.0, share)) / (lam * mu))


def _largest_poisson(p: Poisson, q: Poisson) -> FloatArray:
    return np.where(p.rate > q.rate, np.inf, q.rate - p.rate)


def _largest_exponential(p: Exponential, q: Exponential) -> FloatArray:
    return np.where(p.rate < q.rate, np.inf, log_ratio(p.rate, q.rate))


def _largest_geometric(p: Geometric, q: Geometric) -> FloatArray:
    return np.where(p.prob < q.prob, np.inf, log_ratio(p.prob, q.prob))


def _zero_geometric(p: Geometric, q: Geometric) -> FloatArray:
    """Only a certain first success excludes anything."""
    with np.errstate(divide="ignore"):
        return np.where(p.prob == 1, -np.log(q.prob), 0.0 * q.prob)


KERNELS |= {Poisson: (_poisson, 32), Exponential: (_exponential, 32), Geometric: (_geometric, 64)}
ZERO[Geometric] = _zero_geometric
LARGEST |= {Poisson: _largest_poisson, Exponential: _largest_exponential, Geometric: _largest_geometric}


# ----------------------------------------------------------------------------- the rest, by their cumulant functions

KERNELS |= dict.fromkeys((Gamma, Beta, Dirichlet, InverseGaussian, VonMisesFisher), (exponential_overlap, 64))
