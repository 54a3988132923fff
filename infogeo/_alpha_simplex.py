r"""Alpha-geodesics of categorical distributions, by one quadrature.

In the alpha-representation :math:`x_k = m_k^b`, :math:`b = (1 - \alpha)/2`, the alpha-geodesics of positive measures
are straight lines run through evenly (Amari, Nagaoka, Methods of Information Geometry, section 2.6). The connection of
the simplex is the projection along the radius, its normal, so that its geodesics obey :math:`x'' = -\lambda x`: they
stay in the plane of their ends, :math:`x = \rho\,((1 - \tau) x_p + \tau x_q)` with the factor rho that gives total
mass one. As curves they are therefore scaled straight lines, but not at even speed in :math:`\tau`: the two
coefficients have the same :math:`\lambda`, hence a constant Wronskian :math:`\rho^2 \tau'`, and

.. math:: t \propto \int_0^\tau N(s)^{-2b}\,ds, \qquad N(s) = \sum_k ((1 - s) p_k^b + s q_k^b)^{1/b}.

For alpha = -1 (N = 1) and alpha = 1 (b = 0: the geometric mixture) tau and t agree.
"""

from __future__ import annotations

import itertools

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import DomainError
from infogeo.families.categorical import logsumexp

PANEL = 1.5
"""Width of the panels of the quadrature, in units of log tau/(1 - tau)."""


def geodesics(log_p: FloatArray, log_q: FloatArray, t: FloatArray, alpha: float) -> FloatArray:
    """Log-probabilities (..., T, V) at times (T,), for ends (..., V) whose leading axes broadcast.

    Raises
    ------
    DomainError
        If a probability is zero and alpha is 1 or more: such ends are infinitely far away.
    """
    if alpha >= 1 and not (np.isfinite(log_p).all() and np.isfinite(log_q).all()):
        raise DomainError(
            f"alpha_geodesic: found a probability of 0, wanted all positive for alpha = {alpha:g}; with alpha of 1 or "
            "more, members at the border of the family cannot be reached"
        )
    log_p, log_q = np.broadcast_arrays(log_p, log_q)
    shape = log_p.shape
    pairs = zip(log_p.reshape(-1, shape[-1]), log_q.reshape(-1, shape[-1]), strict=True)
    rows = [_geodesic(a, b, t, (1 - alpha) / 2) for a, b in pairs]
    return np.array(rows).reshape(*shape[:-1], len(t), shape[-1])


def _geodesic(a: FloatArray, b: FloatArray, t: FloatArray, power: float) -> FloatArray:
    out = np.empty((len(t), len(a)))
    for row, time in zip(out, t, strict=True):
        if time in (0.0, 1.0):
            row[:] = b if time else a
    inner = (t > 0) & (t < 1)
    times = t[inner]
    if power == 0 or power == 1:
        u = np.log(times) - np.log1p(-times)
    else:
        u = np.array(_clock(a, b, times, power))
    lines = _line(a, b, u, power)
    out[inner] = lines - logsumexp(lines)[:, None]
    return out


def _line(a: FloatArray, b: FloatArray, u: FloatArray, power: float) -> FloatArray:
    """Logarithm (U, V) of the masses on the straight line at log tau/(1 - tau) = u."""
    log_tau, log_rest = -np.logaddexp(0.0, -u)[:, None], -np.logaddexp(0.0, u)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):  # 0 log 0, and what np.where leaves out
        if power == 0:
            return np.asarray(np.exp(log_rest) * a + np.exp(log_tau) * b)
        near = (np.abs(power * a) < 0.5) & (np.abs(power * b) < 0.5)
        change = np.exp(log_rest) * np.expm1(power * a) + np.exp(log_tau) * np.expm1(power * b)
        whole = np.logaddexp(log_rest + power * a, log_tau + power * b)
        return np.asarray(np.where(near, np.log1p(np.where(near, change, 0.0)), whole) / power)


def _clock(a: FloatArray, b: FloatArray, times: FloatArray, power: float) -> list[float]:
    """Log tau/(1 - tau) at times strictly between 0 and 1."""
    from scipy.optimize import brentq

    nodes, weights = np.polynomial.legendre.leggauss(16)

    def log_integrand(u: FloatArray) -> FloatArray:  # N^(-2b) dtau, with dtau = tau (1 - tau) du
        log_step = -np.abs(u) - 2 * np.log1p(np.exp(-np.abs(u)))
        return np.asarray(log_step - 2 * power * logsumexp(_line(a, b, u, power)))

    def piece(low: float, high: float) -> float:
        u = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        return float(0.5 * (high - low) * weights @ np.exp(log_integrand(u) - top))

    gaps = np.abs(a - b)[np.isfinite(a) & np.isfinite(b)]
    reach = 40.0 + abs(power) * float(gaps.max(initial=0.0))
    if reach > 1e5:
        raise DomainError(f"alpha_geodesic: alpha {1 - 2 * power:g} is too large for probabilities so unequal")
    edges = np.linspace(-reach, reach, 2 * int(np.ceil(reach / PANEL)) + 1)
    top = float(np.max([log_integrand(edges[k : k + 1]) for k in range(len(edges))]))  # the whole may be below 1e-308
    tail = float(np.exp(-reach - top))  # N is 1 beyond: the ends have mass one
    parts = [piece(low, high) for low, high in itertools.pairwise(edges)]
    reached = tail + np.cumsum([0.0, *parts])
    total = reached[-1] + tail
    found = []
    for time in times:
        wanted = time * total
        k = int(np.clip(np.searchsorted(reached, wanted) - 1, 0, len(parts) - 1))
        low, high, left = float(edges[k]), float(edges[k + 1]), float(wanted - reached[k])
        if left <= 0:
            found.append(low)
        elif left >= parts[k]:
            found.append(high)
        else:
            found.append(float(brentq(lambda u, low=low, left=left: piece(low, u) - left, low, high, xtol=1e-14)))
    return found
