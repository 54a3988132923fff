r"""Divergences and Fisher information of von Mises-Fisher distributions.

A divergence splits into one of the concentrations, an integral of :math:`A'` or :math:`A` with a positive weight, and
one of the directions, a multiple of their squared chord: nothing cancels for close members or for large concentrations.
"""

from __future__ import annotations

import numpy as np

from infogeo import _bessel
from infogeo._checks import FloatArray
from infogeo.dispatch._rounds import in_rounds
from infogeo.distances import hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.families.von_mises_fisher import VonMisesFisher
from infogeo.geometry import FISHER_INFORMATION, INNER_PRODUCT

ROUND = 128
"""Pairs whose integrals are computed at a time, from 128 nodes each."""


def _chord(p: VonMisesFisher, q: VonMisesFisher) -> FloatArray:
    """1 - cos of the angle between the mean directions."""
    return np.asarray(((p.mean_direction - q.mean_direction) ** 2).sum(axis=-1) / 2)


def _kl(p: VonMisesFisher, q: VonMisesFisher) -> FloatArray:
    d, kappa_p, kappa_q = p.dimension, p.concentration, q.concentration
    rule = _bessel.panels(d, np.minimum(kappa_p, kappa_q), np.maximum(kappa_p, kappa_q))
    gap = np.where((kappa_q > kappa_p)[..., None], rule.below, rule.above)
    radial = (_bessel.resultant(d, rule.at).slope * gap * rule.weights).sum(axis=-1)
    return np.asarray(radial + kappa_q * p.resultant_length() * _chord(p, q))


def _jeffreys(p: VonMisesFisher, q: VonMisesFisher) -> FloatArray:
    d, kappa_p, kappa_q = p.dimension, p.concentration, q.concentration
    rule = _bessel.panels(d, np.minimum(kappa_p, kappa_q), np.maximum(kappa_p, kappa_q))
    radial = np.abs(kappa_p - kappa_q) * (_bessel.resultant(d, rule.at).slope * rule.weights).sum(axis=-1)
    lengths = kappa_q * p.resultant_length() + kappa_p * q.resultant_length()
    return np.asarray(radial + lengths * _chord(p, q))


def _bhattacharyya(p: VonMisesFisher, q: VonMisesFisher) -> FloatArray:
    d, kappa_p, kappa_q = p.dimension, p.concentration, q.concentration
    low, high = np.minimum(kappa_p, kappa_q), np.maximum(kappa_p, kappa_q)
    middle = low / 2 + high / 2
    # half the gap of the convex function between its values and that in the middle
    inner, outer = _bessel.panels(d, low, middle), _bessel.panels(d, middle, high)
    value = (_bessel.resultant(d, inner.at).slope * inner.above * inner.weights).sum(axis=-1)
    value = 0.5 * (value + (_bessel.resultant(d, outer.at).slope * outer.below * outer.weights).sum(axis=-1))
    # from the middle in to the length of half the sum of the natural parameters
    end = np.linalg.norm(p.natural_parameter / 2 + q.natural_parameter / 2, axis=-1)
    together = middle + end
    short = kappa_p * kappa_q * _chord(p, q) / 2 / np.where(together > 0, together, 1.0)
    near = short < 0.1 * middle
    y, w = np.polynomial.legendre.leggauss(12)
    at = middle[..., None] - np.where(near, short, 0.0)[..., None] * (y + 1) / 2
    close = np.where(near, short, 0.0) * (_bessel.resultant(d, at).scaled * at * w / 2).sum(axis=-1)
    rule = _bessel.panels(d, np.where(near, middle, end), middle)
    far = (_bessel.resultant(d, rule.at).scaled * rule.at * rule.weights).sum(axis=-1)
    return np.asarray(value + np.where(near, close, far))


def _hellinger(p: VonMisesFisher, q: VonMisesFisher) -> FloatArray:
    return np.asarray(np.sqrt(-np.expm1(-_bhattacharyya(p, q))))


for _measure, _kernel in (
    (kl_divergence, _kl), (jeffreys_divergence, _jeffreys), (bhattacharyya_distance, _bhattacharyya),
    (hellinger_distance, _hellinger),
):  # fmt: skip
    _measure.register(VonMisesFisher, scratch=8)(in_rounds(_kernel, ROUND))


@FISHER_INFORMATION.register(VonMisesFisher)
def _information(p: VonMisesFisher) -> FloatArray:
    at = _bessel.resultant(p.dimension, p.concentration)
    mu = p.mean_direction
    outer = mu[..., :, None] * mu[..., None, :]
    tangential = np.eye(p.dimension) - outer
    return np.asarray(at.slope[..., None, None] * outer + at.scaled[..., None, None] * tangential)


@INNER_PRODUCT.register(VonMisesFisher)
def _inner(p: VonMisesFisher, v: FloatArray, w: FloatArray) -> FloatArray:
    at = _bessel.resultant(p.dimension, p.concentration)
    mu = p.mean_direction
    along_v, along_w = (v * mu).sum(axis=-1), (w * mu).sum(axis=-1)
    across = ((v - along_v[..., None] * mu) * (w - along_w[..., None] * mu)).sum(axis=-1)
    return np.asarray(at.slope * along_v * along_w + at.scaled * across)
