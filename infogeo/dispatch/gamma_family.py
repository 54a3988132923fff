r"""Divergences and Fisher information of gamma, beta and Dirichlet distributions.

With :math:`\log\Gamma(x) = x \log x - x + \beta(x)` each divergence splits into one of :math:`\beta`, which stays
small, and one of the entropies, which is formed from differences: the digits hold for close members and for large
parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import _gamma_functions, _kernels
from infogeo._checks import FloatArray
from infogeo._terms import log_ratio
from infogeo.dispatch import _charts
from infogeo.distances import hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.errors import DomainError
from infogeo.families.gamma_family import Beta, Dirichlet, Gamma
from infogeo.geometry import FISHER_INFORMATION, INNER_PRODUCT

# ----------------------------------------------------------------------------------------------------------- gamma


@kl_divergence.register(Gamma, scratch=40)
def _kl_gamma(p: Gamma, q: Gamma) -> FloatArray:
    rise = log_ratio(q.shape, p.shape)
    fall = log_ratio(q.rate, p.rate) - rise  # logarithm of the ratio of the means, p over q
    with np.errstate(over="ignore"):
        return np.asarray(_gamma_functions.bregman(q.shape, p.shape, rise) + q.shape * _kernels.expm1_excess(fall))


@jeffreys_divergence.register(Gamma, scratch=40)
def _jeffreys_gamma(p: Gamma, q: Gamma) -> FloatArray:
    return np.asarray(_kl_gamma(p, q) + _kl_gamma(q, p))


@bhattacharyya_distance.register(Gamma, scratch=60)
def _bhattacharyya_gamma(p: Gamma, q: Gamma) -> FloatArray:
    total = p.shape + q.shape
    weight_p, weight_q = p.shape / total, q.shape / total
    gap = log_ratio(q.rate, p.rate) - log_ratio(q.shape, p.shape)  # log of mean of p over mean of q
    # log(sum w e^y) where sum w y = 0, y = -weight_q gap and weight_p gap
    with np.errstate(over="ignore"):
        bulge = weight_p * _kernels.expm1_excess(-weight_q * gap) + weight_q * _kernels.expm1_excess(weight_p * gap)
    far = np.logaddexp(np.log(weight_p) - weight_q * gap, np.log(weight_q) + weight_p * gap)
    near = bulge < 1
    convex = np.where(near, np.log1p(np.where(near, bulge, 0.0)), far)
    return np.asarray(_gamma_functions.jensen(q.shape, p.shape) + total / 2 * convex)


@FISHER_INFORMATION.register(Gamma)
def _information_gamma(p: Gamma) -> FloatArray:
    k, r = p.shape, p.rate
    with np.errstate(over="ignore"):
        entries = [[(_gamma_functions.excess(k) / k + 1) / k, -1 / r], [-1 / r, k / r / r]]
    matrix = np.stack([np.stack(row, axis=-1) for row in entries], axis=-2)
    if not np.isfinite(matrix).all():
        raise DomainError(
            "Gamma: the Fisher information is too large for float64; choose a larger unit, so that rates grow"
        )
    return matrix


@INNER_PRODUCT.register(Gamma)
def _inner_gamma(p: Gamma, v: FloatArray, w: FloatArray) -> FloatArray:
    def chart(x: FloatArray) -> FloatArray:
        rise = x[..., 0] / p.shape
        return np.stack([rise, rise - x[..., 1] / p.rate], axis=-1)

    return _charts.GAMMA.inner(np.log(p.shape)[..., None], chart(v), chart(w))


# ------------------------------------------------------------------------------------------------ beta, Dirichlet


def _totals(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Totals of two sets of parameters, and the logarithms of the ratios b / a of totals and of parameters."""
    total_a, total_b = a.sum(axis=-1), b.sum(axis=-1)
    relative = (b - a).sum(axis=-1) / total_a
    near = np.abs(relative) < 0.5
    rise = np.where(near, np.log1p(np.where(near, relative, 0.0)), np.log(total_b) - np.log(total_a))
    return total_a, total_b, rise, log_ratio(b, a)


@kl_divergence.register(Dirichlet, scratch=40)
@kl_divergence.register(Beta, scratch=40)
def _kl_dirichlet(p: Any, q: Any) -> FloatArray:
    a, b = p.concentration, q.concentration
    total_a, total_b, rise, rises = _totals(a, b)
    shares = (b * _kernels.expm1_excess(rise[..., None] - rises)).sum(axis=-1)
    own = _gamma_functions.bregman(b, a, rises).sum(axis=-1)
    return np.asarray(own - _gamma_functions.bregman(total_b, total_a, rise) + shares)


@jeffreys_divergence.register(Dirichlet, scratch=40)
@jeffreys_divergence.register(Beta, scratch=40)
def _jeffreys_dirichlet(p: Any, q: Any) -> FloatArray:
    return np.asarray(_kl_dirichlet(p, q) + _kl_dirichlet(q, p))


@bhattacharyya_distance.register(Dirichlet, scratch=60)
@bhattacharyya_distance.register(Beta, scratch=60)
def _bhattacharyya_dirichlet(p: Any, q: Any) -> FloatArray:
    a, b = p.concentration, q.concentration
    total_a, total_b, _, _ = _totals(a, b)
    own = _gamma_functions.jensen(b, a).sum(axis=-1) - _gamma_functions.jensen(total_b, total_a)
    middle = a / 2 + b / 2
    shares = np.zeros_like(own)
    for side in (a, b):
        _, _, rise, rises = _totals(side, middle)
        # half the divergence of the shares from those of the middle, from non-negative terms
        shares = shares + 0.5 * (side * _kernels.expm1_excess(rises - rise[..., None])).sum(axis=-1)
    return np.asarray(own + shares)


@FISHER_INFORMATION.register(Dirichlet, Beta)
def _information_dirichlet(p: Any) -> FloatArray:
    a = p.concentration
    total = a.sum(axis=-1)[..., None, None]
    own = (_gamma_functions.excess(a) / a + 1) / a
    return np.asarray(own[..., None] * np.eye(a.shape[-1]) - (_gamma_functions.excess(total) / total + 1) / total)


@INNER_PRODUCT.register(Dirichlet, Beta)
def _inner_dirichlet(p: Any, v: FloatArray, w: FloatArray) -> FloatArray:
    a = p.concentration
    metric = _charts.dirichlet(np.ones(a.shape[-1]))
    return metric.inner(np.log(a), v / a, w / a)


def _hellinger(distance: Any) -> Any:
    def kernel(p: Any, q: Any) -> FloatArray:
        return np.asarray(np.sqrt(-np.expm1(-distance(p, q))))

    return kernel


hellinger_distance.register(Gamma, scratch=60)(_hellinger(_bhattacharyya_gamma))
for _family in (Beta, Dirichlet):
    hellinger_distance.register(_family, scratch=60)(_hellinger(_bhattacharyya_dirichlet))
