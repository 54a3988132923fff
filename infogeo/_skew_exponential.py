"""The skewed overlap of two members of an exponential family, from its cumulant function alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo._exponential import ExponentialFamily, regular, structure

NODES = (12, 24)
"""Points of the two Gauss-Legendre rules; their difference says how good the second one is."""

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Relative error of a value of the cumulant function."""

PORTION = 4e6
"""Bytes that the metrics along the segments of the pairs done at one time may take."""


def exponential_overlap(p: Any, q: Any, lam: float, mu: float) -> FloatArray:
    r"""T of two batches, :math:`(\lambda\psi(\theta_p) + \mu\psi(\theta_q) - \psi(\theta)) / (\lambda\mu)`.

    Here :math:`\theta = \lambda\theta_p + \mu\theta_q`; outside the natural domain T is infinite. For close members
    the three terms cancel. There the same number is integrated from the metric :math:`\psi''` [1]_ along the segment
    between the two, :math:`\delta = \theta_p - \theta_q`:

    .. math:: T = \mu \int_0^1 s\,\delta^\top \psi''(\theta_p - \mu s \delta)\,\delta\,ds
                + \lambda \int_0^1 s\,\delta^\top \psi''(\theta_q + \lambda s \delta)\,\delta\,ds .

    Of the two the one with the smaller estimate of its error is taken.

    References
    ----------
    .. [1] F. Nielsen, S. Boltz, The Burbea-Rao and Bhattacharyya centroids, IEEE Transactions on Information Theory 57
       (2011) 5455-5466 (the skewed Jensen difference; the integral is Taylor's formula).
    """
    p, record = structure(p, "renyi_divergence")
    q, _ = structure(q, "renyi_divergence")
    for side in (p, q):
        regular(side, record, "renyi_divergence")
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    theta_p, theta_q = (np.broadcast_to(record.natural(x), (*shape, p.coordinate_size)) for x in (p, q))
    psi_p, psi_q = (np.broadcast_to(record.log_partition(x), shape) for x in (p, q))
    theta = lam * theta_p + mu * theta_q
    inside = np.asarray(record.natural_domain(p, theta)) & np.isfinite(theta).all(axis=-1)
    safe = np.where(inside[..., None], theta, theta_p)
    weight = lam * mu
    if mu == 0:
        slope = ((theta_q - theta_p) * record.expectation(p)).sum(axis=-1)
        parts = (psi_q, -psi_p, -slope)
    else:
        parts = (psi_p / mu, psi_q / lam, -record.log_partition(record.from_natural(p, safe)) / weight)
    direct = np.asarray(sum(parts))
    error = ROUNDING * np.asarray(sum(np.abs(x) for x in parts))
    value, doubtful = direct, inside & (error > 1e-14 * np.abs(direct))
    if doubtful.any():
        smooth, off = _integrals(record, p, theta_p[doubtful], theta_q[doubtful], lam, mu)
        better = off <= error[doubtful]
        value = direct.copy()
        value[doubtful] = np.where(better, smooth, direct[doubtful])
    return np.where(inside, value, np.inf)


def _integrals(
    record: ExponentialFamily, like: Any, theta_p: FloatArray, theta_q: FloatArray, lam: float, mu: float
) -> tuple[FloatArray, FloatArray]:
    """Values (pairs,) by the finer rule, and how far the coarser one is from it with what rounding adds."""
    pairs, n = theta_p.shape
    step = max(1, int(PORTION // (8 * 3 * 2 * NODES[-1] * n * n)))
    values, errors = np.empty(pairs), np.empty(pairs)
    for start in range(0, pairs, step):
        rows = slice(start, start + step)
        a, b = theta_p[rows, None], theta_q[rows, None]
        delta = a - b
        found = []
        for nodes in NODES:
            x, w = np.polynomial.legendre.leggauss(nodes)
            s, w = (1 + x) / 2, w / 2
            total = np.zeros(len(delta))
            for factor, points in ((mu, a - mu * s[:, None] * delta), (lam, b + lam * s[:, None] * delta)):
                if factor == 0:
                    continue
                metric = record.metric(record.from_natural(like, points))
                curved = np.einsum("ksi,ksij,ksj->ks", np.broadcast_to(delta, points.shape), metric,
                                   np.broadcast_to(delta, points.shape))
                total += factor * (curved * (s * w)).sum(axis=-1)
            found.append(total)
        values[rows] = found[-1]
        errors[rows] = np.abs(found[-1] - found[0]) + ROUNDING * np.abs(found[-1])
    return values, errors
