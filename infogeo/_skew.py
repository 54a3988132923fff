r"""Array kernels of the divergences with an order: the skewed overlap of two distributions.

With weights :math:`\lambda + \mu = 1` the divergences of Rényi and Amari are functions of

.. math:: T_\lambda(p, q) = \frac{-\log \int p^\lambda q^\mu}{\lambda \mu},

which is :math:`D(p\,\|\,q)` at :math:`\lambda = 1` and :math:`D(q\,\|\,p)` at :math:`\lambda = 0`, and near
:math:`d^2/2` for close members whatever the order. Everything here computes T, or terms of it, without subtracting
nearly equal numbers. Since :math:`T_\lambda(p, q) = T_\mu(q, p)`, the kernels take :math:`\lambda \ge 1/2` only; for
:math:`\lambda > 1` the integral may diverge, and T is infinite. The weights are given both, since a caller knows the
smaller one to more digits than one less the larger has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import _kernels
from infogeo._arrays import Array, detached, namespace

NEAR = 0.5
"""Logarithms of ratios below this are near: there differences of excesses are taken, not of the functions."""

LARGE = 600.0
"""Exponentials of numbers above this are not formed."""


def ratio_terms(x: Array, lam: float, mu: float) -> Array:
    r""":math:`(\log(\lambda + \mu e^x) - \mu x) / (\lambda\mu)`, infinite where the logarithm does not exist.

    It is near :math:`x^2/2`; for normals x is the logarithm of the ratio of the variances of p and q, for exponential
    distributions that of the rates of q and p.
    """
    if mu == 0:
        return _kernels.expm1_excess(x)
    xp = namespace(x)
    at = detached(x)
    invalid = at >= np.log1p(-1 / mu) if mu < 0 else at != at
    x = xp.where(invalid, 0.0, x)
    near = abs(detached(x)) < NEAR
    y = xp.where(near, x, 0.0)
    close = _kernels.expm1_excess(y) - _kernels.log1p_excess(mu * xp.expm1(y)) / mu
    far = xp.where(near, -1.0, x)
    if mu > 0:
        large = detached(far) > LARGE
        log = xp.where(
            large, xp.logaddexp(xp.zeros_like(far), float(np.log(mu)) + far),
            xp.log1p(mu * xp.expm1(xp.where(large, 1.0, far))),
        )
    else:
        log = xp.log1p(mu * xp.expm1(far))
    value = xp.where(near, close, log / mu - far) / lam
    return xp.where(invalid, np.inf, value)


def outcome_terms(p: Array, q: Array, gap: Array, lam: float, mu: float) -> Array:
    r""":math:`(\lambda p + \mu q - p^\lambda q^\mu) / (\lambda\mu)` of non-negative numbers, never negative.

    ``gap`` is log(p / q), of either infinity where one of them is zero, and zero where both are. Infinite where the
    power is, for q = 0 < p and an order above one.
    """
    xp = namespace(p, q, gap)
    if mu == 0:
        infinite = xp.isinf(gap)
        near = abs(detached(gap)) < 1
        close = p * _kernels.expm1_excess(-xp.where(near, gap, 0.0))
        far = p * xp.where(near | infinite, 0.0, gap) - p + q
        return xp.where(near, close, xp.where(infinite & (p > 0), np.inf, far))
    infinite = xp.isinf(gap)
    near = abs(detached(gap)) < 1
    g = xp.where(near, gap, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        close = p * (_kernels.expm1_excess(-g) - _kernels.expm1_excess(-mu * g) / mu)
        h = xp.where(near | infinite, 0.0, gap)
        large = detached(-mu * h) > LARGE  # for an order above one; the power is then formed with p inside
        power = p * xp.expm1(xp.where(large, 0.0, -mu * h))
        if mu < 0:
            inside = xp.where(large & (p > 0), p, 1.0)
            power = xp.where(large, xp.exp(xp.log(inside) - mu * xp.where(large, h, 0.0)), power)
        far = q - p - power / mu
        alone = xp.where(p > 0, lam * p / mu if mu > 0 else np.inf, q)
    return xp.where(near, close, xp.where(infinite, alone, far)) / lam


def overlap(log_p: Array, log_q: Array, gap: Array, lam: float, mu: float) -> Array:
    """T of distributions over the outcomes on the last axis, from logarithms of probabilities and their differences."""
    xp = namespace(log_p, log_q, gap)
    total = outcome_terms(xp.exp(log_p), xp.exp(log_q), gap, lam, mu).sum(axis=-1)
    if mu == 0:
        return total
    weight = lam * mu
    near = abs(weight * detached(total)) < NEAR
    close = -xp.log1p(-weight * xp.where(near, total, 0.0)) / weight
    infinite = xp.isinf(detached(gap))
    # outcomes that one of the two excludes add nothing, or (order above one, excluded by q) everything
    excluded = xp.isinf(detached(log_p)) | xp.isinf(detached(log_q))
    exponents = xp.where(excluded, -np.inf, lam * xp.where(excluded, 0.0, log_p) + mu * xp.where(excluded, 0.0, log_q))
    top = xp.max(detached(exponents), axis=-1)
    disjoint = xp.isinf(top)
    top = xp.where(disjoint, 0.0, top)
    mass = xp.exp(exponents - top[..., None]).sum(axis=-1)
    far = -(xp.log(xp.where(disjoint, 1.0, mass)) + top) / weight
    if mu < 0:
        everything = xp.any(infinite & (detached(gap) > 0), axis=-1)
        far = xp.where(everything, np.inf, far)
    far = xp.where(disjoint, np.inf, far)
    return xp.where(near, close, far)


def alpha_of(t: Array, lam: float, mu: float) -> Array:
    r"""Amari's divergence :math:`(1 - e^{-\lambda\mu T}) / (\lambda\mu)` from T."""
    weight = lam * mu
    if abs(weight) < np.finfo(np.float64).tiny:
        return t
    with np.errstate(over="ignore"):
        return -namespace(t).expm1(-weight * t) / weight


def swapped(p: Any, q: Any, lam: float, mu: float) -> tuple[Any, Any, float, float]:
    """Both sides and their weights, turned round if need be so that the first weight is the larger."""
    return (p, q, lam, mu) if lam >= mu else (q, p, mu, lam)
