"""Formulas of the exponential, log-normal, Weibull and inverse Gaussian families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo import _kernels
from infogeo._checks import FloatArray
from infogeo._terms import log_ratio, root_difference
from infogeo.dispatch._lines import Line, register_line
from infogeo.dispatch._planes import Plane, register_plane
from infogeo.distances import fisher_rao_distance, hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.families._parameters import known
from infogeo.families.positive import Exponential, InverseGaussian, LogNormal, Weibull
from infogeo.geometry import (
    EXPONENTIAL_MAP,
    FISHER_INFORMATION,
    GEODESIC,
    LOGARITHM_MAP,
    exponential_map,
    fisher_information,
    geodesic,
    logarithm_map,
)
from infogeo.measures import Measure

# ----------------------------------------------------------------------------------------------------- exponential


def _move_exponential(p: Exponential, step: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        rate = p.rate * np.exp(step)
    return np.where((rate > 0) & (rate < np.inf), rate, np.nan)


register_line(
    Exponential,
    Line(gap=lambda p, q: log_ratio(q.rate, p.rate), speed=lambda p: _inverse(p.rate), move=_move_exponential),
    scratch=10,
)


@kl_divergence.register(Exponential, scratch=10)
def _kl_exponential(p: Exponential, q: Exponential) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(_kernels.expm1_excess(log_ratio(q.rate, p.rate)))


@jeffreys_divergence.register(Exponential, scratch=10)
def _jeffreys_exponential(p: Exponential, q: Exponential) -> FloatArray:
    return _two_sinh_squared(log_ratio(q.rate, p.rate))


def _bhattacharyya_exponential(p: Exponential, q: Exponential) -> FloatArray:
    return _log_cosh(log_ratio(q.rate, p.rate) / 2)


# ------------------------------------------------------------------------------------------------------ log-normal


def _of_logarithms(measure: Measure) -> Callable[[LogNormal, LogNormal], FloatArray]:
    def kernel(p: LogNormal, q: LogNormal) -> FloatArray:
        return np.asarray(measure(p.of_logarithm(), q.of_logarithm()))

    return kernel


for _measure in (
    fisher_rao_distance, kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance
):  # fmt: skip
    _measure.register(LogNormal, scratch=8)(_of_logarithms(_measure))


@FISHER_INFORMATION.register(LogNormal)
def _information_log_normal(p: LogNormal) -> FloatArray:
    return fisher_information(p.of_logarithm())


@EXPONENTIAL_MAP.register(LogNormal)
def _exponential_map_log_normal(p: LogNormal, velocity: FloatArray) -> LogNormal:
    return p.with_coordinates(exponential_map(p.of_logarithm(), velocity).coordinates())


@LOGARITHM_MAP.register(LogNormal)
def _logarithm_map_log_normal(p: LogNormal, q: LogNormal) -> FloatArray:
    return logarithm_map(p.of_logarithm(), q.of_logarithm())


@GEODESIC.register(LogNormal)
def _geodesic_log_normal(p: LogNormal, q: LogNormal, t: FloatArray) -> LogNormal:
    return p.with_coordinates(geodesic(p.of_logarithm(), q.of_logarithm(), t).coordinates())


# --------------------------------------------------------------------------------------------------------- Weibull
#
# With mu = log(scale) and sigma = 1 / shape the Fisher metric is ((dmu + A dsigma)^2 + B^2 dsigma^2) / sigma^2, from
# the moments of log E, E^1 and E^2 of a standard exponential E. So m = sqrt(2) (mu + A sigma), s = B sigma.

_A = 1.0 - np.euler_gamma
_B = np.pi / 6**0.5


def _inverse(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / x)


def _gap_weibull(p: Weibull, q: Weibull) -> tuple[FloatArray, FloatArray]:
    spread = (p.shape - q.shape) / p.shape / q.shape
    return np.asarray(2**0.5 * (log_ratio(q.scale, p.scale) + _A * spread)), np.asarray(_B * spread)


def _rates_weibull(p: Weibull, velocity: FloatArray) -> FloatArray:
    widening = -velocity[..., 0] / p.shape  # rate of sigma over sigma
    shift = velocity[..., 1] / p.scale * p.shape  # rate of mu over sigma
    return np.stack(np.broadcast_arrays(2**0.5 / _B * (shift + _A * widening), widening), axis=-1)


def _unrates_weibull(p: Weibull, rates: FloatArray) -> FloatArray:
    widening = rates[..., 1]
    shift = _B / 2**0.5 * rates[..., 0] - _A * widening
    return np.stack(np.broadcast_arrays(-widening * p.shape, shift / p.shape * p.scale), axis=-1)


def _move_weibull(p: Weibull, across: FloatArray, growth: FloatArray) -> FloatArray:
    shift = (_B / 2**0.5 * across - _A * (growth - 1)) / p.shape
    with np.errstate(over="ignore", under="ignore"):
        end = np.stack(np.broadcast_arrays(p.shape / growth, p.scale * np.exp(shift)), axis=-1)
    return np.where((end > 0) & (end < np.inf), end, np.nan)


register_plane(
    Weibull,
    Plane(
        factor=_B / 2**0.5, height=lambda p: _B * _inverse(p.shape), gap=_gap_weibull, rates=_rates_weibull,
        unrates=_unrates_weibull, move=_move_weibull,
    ),
    scratch=10,
)


@kl_divergence.register(Weibull, scratch=10)
def _kl_weibull(p: Weibull, q: Weibull) -> FloatArray:
    # With r the quotient of the shapes and w = shape_q log(scale_p / scale_q) + log Gamma(1 + r) it is
    # (e^w - 1 - w) + (log Gamma(r) + gamma (r - 1)): two terms that are never negative.
    from scipy.special import gammaln

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        t, r, log = (q.shape - p.shape) / p.shape, q.shape / p.shape, log_ratio(q.shape, p.shape)
        near = np.abs(t) < 0.2
        excess = np.where(near, _log_gamma_excess(np.where(near, t, 0.0)), 0.0)
        # log Gamma(r) is -log(r) below 1e-17, where r may underflow
        apart = np.where(r < 1e-17, -log, gammaln(np.where(near | (r < 1e-17), 1.0, r))) + np.euler_gamma * t
        log_gamma = np.where(near, excess - np.euler_gamma * t + log, gammaln(1 + r))
        w = q.shape * log_ratio(p.scale, q.scale) + log_gamma
        value = _kernels.expm1_excess(np.minimum(w, 1e6)) + np.where(near, excess, apart)
    return known("Weibull", value)


@jeffreys_divergence.register(Weibull, scratch=10)
def _jeffreys_weibull(p: Weibull, q: Weibull) -> FloatArray:
    return np.asarray(_kl_weibull(p, q) + _kl_weibull(q, p))


for _measure in (bhattacharyya_distance, hellinger_distance):
    _measure.refuse(
        Weibull, "the integral of sqrt(pq) has no closed form where the shapes differ; use kl_divergence"
    )


def _log_gamma_excess(t: FloatArray) -> FloatArray:
    r""":math:`\log\Gamma(1 + t) + \gamma t` for sizes of t up to 0.2; near :math:`\pi^2 t^2 / 12`."""
    from scipy.special import zeta

    series = np.zeros_like(t)
    for k in range(24, 1, -1):  # the first term left out is 0.2^23 / 25 of the sum
        series = zeta(k) / k * (-1) ** k + t * series
    return np.asarray(t * t * series)




# ------------------------------------------------------------------------------------------------ inverse Gaussian
#
# With the mean mu and the shape l the metric is l/mu^3 dmu^2 + dl^2/(2 l^2); m = 2/sqrt(mu), s = 1/sqrt(l) have
# dm^2 = dmu^2/mu^3 and 2 ds^2 = dl^2/(2 l^3).


def _gap_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> tuple[FloatArray, FloatArray]:
    across = 2 * root_difference(p.mean, q.mean) / np.sqrt(p.mean) / np.sqrt(q.mean)
    return across, np.asarray(root_difference(p.shape, q.shape) / np.sqrt(p.shape) / np.sqrt(q.shape))


def _rates_inverse_gaussian(p: InverseGaussian, velocity: FloatArray) -> FloatArray:
    across = -velocity[..., 0] / p.mean * np.sqrt(p.shape / p.mean)
    return np.stack(np.broadcast_arrays(across, -0.5 * velocity[..., 1] / p.shape), axis=-1)


def _unrates_inverse_gaussian(p: InverseGaussian, rates: FloatArray) -> FloatArray:
    mean = -rates[..., 0] / np.sqrt(p.shape / p.mean) * p.mean
    return np.stack(np.broadcast_arrays(mean, -2 * rates[..., 1] * p.shape), axis=-1)


def _move_inverse_gaussian(p: InverseGaussian, across: FloatArray, growth: FloatArray) -> FloatArray:
    stretch = 1 + 0.5 * across * np.sqrt(p.mean / p.shape)  # quotient of 2/sqrt(mean) there and here
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        mean = p.mean / np.where(stretch > 0, stretch, np.nan) ** 2
        end = np.stack(np.broadcast_arrays(mean, p.shape / growth**2), axis=-1)
    return np.where((end > 0) & (end < np.inf), end, np.nan)


register_plane(
    InverseGaussian,
    Plane(
        factor=1.0, height=lambda p: 1 / np.sqrt(p.shape), gap=_gap_inverse_gaussian, rates=_rates_inverse_gaussian,
        unrates=_unrates_inverse_gaussian, move=_move_inverse_gaussian,
    ),
    scratch=10,
)


@kl_divergence.register(InverseGaussian, scratch=8)
def _kl_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(0.5 * (_kernels.expm1_excess(log_ratio(q.shape, p.shape)) + _shift(p, q)))


@jeffreys_divergence.register(InverseGaussian, scratch=8)
def _jeffreys_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(0.5 * (_two_sinh_squared(log_ratio(q.shape, p.shape)) + _shift(p, q) + _shift(q, p)))


def _shift(p: InverseGaussian, q: InverseGaussian) -> FloatArray:
    """shape_q (mean_p - mean_q)^2 / (mean_p mean_q^2), by fourth roots, which neither overflow nor underflow."""
    with np.errstate(over="ignore", under="ignore"):
        quarter = np.sqrt(np.abs(p.mean - q.mean)) / np.sqrt(q.mean) * (q.shape**0.25 / p.mean**0.25)
        return np.asarray(quarter**4)


def _bhattacharyya_inverse_gaussian(p: InverseGaussian, q: InverseGaussian) -> FloatArray:
    # with a = shape/mean^2 and b = shape: half of log((b + b')/2) - log(b b')/2, and half of
    # sqrt((a + a')(b + b')) - sqrt(a b) - sqrt(a' b'), by the identity of Lagrange without cancellation
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        cross = np.sqrt(p.shape) * np.sqrt(q.shape) * ((p.mean - q.mean) / p.mean / q.mean)
        along = p.shape / p.mean + q.shape / q.mean
        bend = np.where(along < np.inf, cross / (np.hypot(along, cross) + along) * cross, np.nan)
        value = 0.5 * (_log_cosh(log_ratio(q.shape, p.shape) / 2) + bend)
    return known("InverseGaussian", value)


for _family, _kernel in ((Exponential, _bhattacharyya_exponential), (InverseGaussian, _bhattacharyya_inverse_gaussian)):

    def _hellinger(p: Any, q: Any, kernel: Callable[[Any, Any], FloatArray] = _kernel) -> FloatArray:
        return np.asarray(np.sqrt(-np.expm1(-kernel(p, q))))

    bhattacharyya_distance.register(_family, scratch=10)(_kernel)
    hellinger_distance.register(_family, scratch=10)(_hellinger)


def _log_cosh(x: FloatArray) -> FloatArray:
    """log(cosh(x)), near x^2 / 2, without overflow."""
    size = np.abs(x)
    near = size < 1
    close = np.log1p(2 * np.sinh(np.where(near, size, 0.0) / 2) ** 2)
    return np.where(near, close, size + np.log1p(np.exp(-2 * size)) - np.log(2.0))


def _two_sinh_squared(x: FloatArray) -> FloatArray:
    """e^x + e^-x - 2."""
    with np.errstate(over="ignore"):
        return np.asarray(4 * np.sinh(x / 2) ** 2)
