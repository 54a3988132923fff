r"""Exponential families of positive numbers, of shares and of directions.

With a statistic T(x) and a measure that does not depend on the parameters, the density is
:math:`\exp(\theta\cdot T(x) - \psi(\theta))` with respect to that measure. The formulas of each family are in one
record; the docstring of :func:`infogeo.natural_parameters` lists the statistics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import _bessel
from infogeo._checks import FloatArray
from infogeo._exponential import EXPONENTIAL_FAMILY, ExponentialFamily
from infogeo.dispatch.exponential_discrete import anything, cube, last, negative, positive, square
from infogeo.families import Exponential, InverseGaussian, Weibull
from infogeo.families.categorical import logsumexp
from infogeo.families.gamma_family import Beta, Dirichlet, Gamma
from infogeo.families.von_mises_fisher import VonMisesFisher

EXPONENTIAL = ExponentialFamily(
    natural=lambda p: last(-p.rate),
    expectation=lambda p: last(1 / p.rate),
    log_partition=lambda p: -np.log(p.rate),
    metric=lambda p: square(1 / p.rate**2),
    cubic=lambda p: cube(2 / p.rate**3),
    from_natural=lambda like, x: Exponential(-x[..., 0]),
    natural_domain=negative,
    natural_wanted="minus the rate, a negative number",
    from_expectation=lambda like, y: Exponential(1 / y[..., 0]),
    expectation_domain=positive,
    expectation_wanted="a positive mean",
    standardize=lambda p, q: (
        Exponential(np.ones(())), Exponential(q.rate / p.rate), lambda x: Exponential(x.rate * p.rate),
    ),
)


# ------------------------------------------------------------------------------------------------- inverse Gaussian


def _symmetric_2(entries: list[list[FloatArray]]) -> FloatArray:
    return np.moveaxis(np.array(entries), (0, 1), (-2, -1))


def _inverse_gaussian_metric(p: InverseGaussian) -> FloatArray:
    m, s = np.broadcast_arrays(p.mean, p.shape)
    mixed = -1 / s
    return _symmetric_2([[m**3 / s, mixed * m], [mixed * m, 1 / (m * s) + 2 / s**2]])


def _inverse_gaussian_cubic(p: InverseGaussian) -> FloatArray:
    m, s = np.broadcast_arrays(p.mean, p.shape)
    one, two, three, four = 3 * m**5 / s**2, -(m**3) / s**2, -m / s**2, 3 / (m * s**2) + 8 / s**3
    entries = [[[one, two], [two, three]], [[two, three], [three, four]]]
    return np.moveaxis(np.array(entries), (0, 1, 2), (-3, -2, -1))


INVERSE_GAUSSIAN = ExponentialFamily(
    natural=lambda p: np.stack(np.broadcast_arrays(-0.5 * p.shape / p.mean**2, -0.5 * p.shape), axis=-1),
    expectation=lambda p: np.stack(np.broadcast_arrays(p.mean, 1 / p.mean + 1 / p.shape), axis=-1),
    log_partition=lambda p: -p.shape / p.mean - 0.5 * np.log(p.shape),
    metric=_inverse_gaussian_metric,
    cubic=_inverse_gaussian_cubic,
    from_natural=lambda like, x: InverseGaussian(np.sqrt(x[..., 1] / x[..., 0]), -2 * x[..., 1]),
    natural_domain=lambda like, x: (x < 0).all(axis=-1),
    natural_wanted="(-shape / (2 mean^2), -shape / 2), two negative numbers",
    from_expectation=lambda like, y: InverseGaussian(y[..., 0], 1 / (y[..., 1] - 1 / y[..., 0])),
    expectation_domain=lambda like, y: (y[..., 0] > 0) & (y[..., 0] * y[..., 1] > 1),
    expectation_wanted="(E x, E 1/x), positive numbers whose product exceeds 1",
    standardize=lambda p, q: (
        InverseGaussian(np.ones(()), p.shape / p.mean), InverseGaussian(q.mean / p.mean, q.shape / p.mean),
        lambda x: InverseGaussian(x.mean * p.mean, x.shape * p.mean),
    ),
)


# --------------------------------------------------------------------------------------------- gamma, beta, Dirichlet


def _polygamma(order: int, x: FloatArray) -> FloatArray:
    from scipy.special import digamma, polygamma

    return np.asarray(digamma(x) if order == 0 else polygamma(order, x))


def _gammaln(x: FloatArray) -> FloatArray:
    from scipy.special import gammaln

    return np.asarray(gammaln(x))


def _gamma_metric(p: Gamma) -> FloatArray:
    a, r = np.broadcast_arrays(p.shape, p.rate)
    return _symmetric_2([[_polygamma(1, a), 1 / r], [1 / r, a / r**2]])


def _gamma_cubic(p: Gamma) -> FloatArray:
    a, r = np.broadcast_arrays(p.shape, p.rate)
    zero, one, two = np.zeros_like(a), 1 / r**2, 2 * a / r**3
    entries = [[[_polygamma(2, a), zero], [zero, one]], [[zero, one], [one, two]]]
    return np.moveaxis(np.array(entries), (0, 1, 2), (-3, -2, -1))


def _gamma_gap(y: FloatArray) -> FloatArray:
    """Log E x - E log x, which is log a - digamma(a)."""
    return np.asarray(np.log(y[..., 1]) - y[..., 0])


def _gamma_start(like: Gamma, y: FloatArray) -> FloatArray:
    # within 1.5 % of the root: T. P. Minka, Estimating a Gamma distribution, 2002, from log a - digamma(a) ~ 1/(2a)
    gap = _gamma_gap(y)
    shape = (3 - gap + np.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    return np.stack([shape, -shape / y[..., 1]], axis=-1)


def _gamma_reachable(like: Gamma, y: FloatArray) -> Any:
    positive = y[..., 1] > 0
    return positive & (np.log(np.where(positive, y[..., 1], 1.0)) > y[..., 0])


GAMMA = ExponentialFamily(
    natural=lambda p: np.stack(np.broadcast_arrays(p.shape, -p.rate), axis=-1),
    expectation=lambda p: np.stack(
        np.broadcast_arrays(_polygamma(0, p.shape) - np.log(p.rate), p.shape / p.rate), axis=-1
    ),
    log_partition=lambda p: _gammaln(p.shape) - p.shape * np.log(p.rate),
    metric=_gamma_metric,
    cubic=_gamma_cubic,
    from_natural=lambda like, x: Gamma(x[..., 0], -x[..., 1]),
    natural_domain=lambda like, x: (x[..., 0] > 0) & (x[..., 1] < 0),
    natural_wanted="(shape, -rate), a positive and a negative number",
    start=_gamma_start,
    expectation_domain=_gamma_reachable,
    expectation_wanted="(E log x, E x) with E x positive and log E x above E log x",
    standardize=lambda p, q: (
        Gamma(p.shape, np.ones(())), Gamma(q.shape, q.rate / p.rate), lambda x: Gamma(x.shape, x.rate * p.rate),
    ),
)


def _dirichlet_metric(a: FloatArray) -> FloatArray:
    identity = np.eye(a.shape[-1])
    return np.asarray(_polygamma(1, a)[..., None] * identity - square(_polygamma(1, a.sum(axis=-1))))


def _dirichlet_cubic(a: FloatArray) -> FloatArray:
    identity = np.eye(a.shape[-1])
    corner = identity[:, :, None] * identity[None, :, :]
    return np.asarray(_polygamma(2, a)[..., None, None] * corner - cube(_polygamma(2, a.sum(axis=-1))))


def _inverse_digamma(y: FloatArray) -> FloatArray:
    # T. P. Minka, Estimating a Dirichlet distribution, 2000, appendix C: five steps give 14 digits
    x = np.where(y >= -2.22, np.exp(np.minimum(y, 600.0)) + 0.5, -1 / np.minimum(y + np.euler_gamma, -1e-300))
    for _ in range(5):
        x = x - (_polygamma(0, x) - y) / _polygamma(1, x)
    return np.asarray(x)


def _dirichlet_start(like: Any, y: FloatArray) -> FloatArray:
    # each mean exp(y_i) falls short of its share m_i by about (1 - m_i) / (2 total), which gives the total
    log_sum = logsumexp(y)[..., None]
    a = np.exp(y - log_sum) * np.maximum((y.shape[-1] - 1) / 2 / -log_sum, 1e-3)
    a = np.maximum(a, 1e-6)
    for _ in range(3):  # Minka's fixed point, eq. (9)
        a = _inverse_digamma(y + _polygamma(0, a.sum(axis=-1, keepdims=True)))
    return np.asarray(a)


def _dirichlet_like(concentration: Any, make: Any) -> ExponentialFamily:
    def log_means(p: Any) -> FloatArray:
        a = concentration(p)
        return np.asarray(_polygamma(0, a) - _polygamma(0, a.sum(axis=-1, keepdims=True)))

    return ExponentialFamily(
        natural=lambda p: concentration(p).copy(),
        expectation=log_means,
        log_partition=lambda p: _gammaln(concentration(p)).sum(axis=-1) - _gammaln(concentration(p).sum(axis=-1)),
        metric=lambda p: _dirichlet_metric(concentration(p)),
        cubic=lambda p: _dirichlet_cubic(concentration(p)),
        from_natural=lambda like, x: make(x),
        natural_domain=positive,
        natural_wanted="the concentrations, positive numbers",
        start=_dirichlet_start,
        expectation_domain=lambda like, y: np.exp(np.minimum(y, 1.0)).sum(axis=-1) < 1,
        expectation_wanted="E log x, whose exponentials have a sum below 1",
    )


DIRICHLET = _dirichlet_like(lambda p: p.concentration, lambda x: Dirichlet(x))
BETA = _dirichlet_like(
    lambda p: np.stack(np.broadcast_arrays(p.alpha, p.beta), axis=-1), lambda x: Beta(x[..., 0], x[..., 1])
)


# ------------------------------------------------------------------------------------------------- von Mises-Fisher


def _log_partition_directions(p: VonMisesFisher) -> FloatArray:
    from scipy.special import gammaln

    d = p.dimension
    area = np.log(2.0) + d / 2 * np.log(np.pi) - gammaln(d / 2)
    return np.asarray(area + p.concentration - _bessel.integral_of_deficit(d, p.concentration))


def _radial(p: VonMisesFisher) -> tuple[_bessel.Resultant, FloatArray, FloatArray]:
    """A and its derivatives, the direction u, and the projection off it."""
    u = p.mean_direction
    across = np.eye(p.dimension) - u[..., :, None] * u[..., None, :]
    return _bessel.resultant(p.dimension, p.concentration), u, across


def _direction_metric(p: VonMisesFisher) -> FloatArray:
    a, u, across = _radial(p)
    return np.asarray(square(a.slope) * u[..., :, None] * u[..., None, :] + square(a.scaled) * across)


def _direction_cubic(p: VonMisesFisher) -> FloatArray:
    a, u, across = _radial(p)
    turn = -p.concentration * a.scaled * a.drop  # (A / kappa)'
    one = u[..., :, None, None] * across[..., None, :, :]
    pairs = one + np.swapaxes(one, -3, -2) + np.swapaxes(one, -3, -1)
    along = u[..., :, None, None] * u[..., None, :, None] * u[..., None, None, :]
    return np.asarray(cube(p.concentration * a.bend) * along + cube(turn) * pairs)


def _direction_start(like: VonMisesFisher, y: FloatArray) -> FloatArray:
    # A. Banerjee et al., Clustering on the unit hypersphere using von Mises-Fisher distributions, 2005, eq. (4.4)
    square = (y**2).sum(axis=-1, keepdims=True)
    return np.asarray(y * (like.dimension - square) / (1 - square))


VON_MISES_FISHER = ExponentialFamily(
    natural=lambda p: p.natural_parameter,
    expectation=lambda p: last(_bessel.resultant(p.dimension, p.concentration).scaled) * p.natural_parameter,
    log_partition=_log_partition_directions,
    metric=_direction_metric,
    cubic=_direction_cubic,
    from_natural=lambda like, x: like.with_coordinates(x),
    natural_domain=anything,
    natural_wanted="any vector",
    start=_direction_start,
    expectation_domain=lambda like, y: (y**2).sum(axis=-1) < 1,
    expectation_wanted="a mean vector of length below 1",
)

for _family, _record in (
    (Exponential, EXPONENTIAL),
    (InverseGaussian, INVERSE_GAUSSIAN),
    (Gamma, GAMMA),
    (Beta, BETA),
    (Dirichlet, DIRICHLET),
    (VonMisesFisher, VON_MISES_FISHER),
):
    EXPONENTIAL_FAMILY.register(_family)(lambda p, record=_record: record)

EXPONENTIAL_FAMILY.refuse(
    Weibull,
    "its density is not of the form exp(theta T(x) - psi) with one statistic T for all shapes; with the shape k held "
    "fixed, x^k is exponential with the rate 1/scale^k: use Exponential",
)
