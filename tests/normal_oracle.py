"""The Fisher-Rao distance of full normals in extended precision, by routes the library does not take.

``fibre_distance`` minimizes half the norm of the logarithm of the lifted matrix of order 2k + 1 over the fibre, as the
definition has it, with eigenvalue decompositions in mpmath; ``shot`` makes a pair whose distance is known, by the
matrix exponential of Eriksen 1987. Both are slow.
"""

from __future__ import annotations

import itertools
from typing import Any

import mpmath as mp
import numpy as np

DIGITS = 80

MAX_WELLS = 3
"""Far apart the energy has several minima; all combinations of the two starts are tried for so many unknowns."""


def matrix(values: Any) -> Any:
    return mp.matrix([[mp.mpf(float(v)) for v in row] for row in np.atleast_2d(values)])


def column(values: Any) -> Any:
    return mp.matrix([mp.mpf(float(v)) for v in np.ravel(values)])


def fibre_distance(mean_p: Any, cov_p: Any, mean_q: Any, cov_q: Any, *, digits: int = DIGITS) -> Any:
    """Distance of one pair, whose float64 numbers are taken as exact."""
    with mp.workdps(digits):
        factor = mp.cholesky(matrix(cov_p))
        inverse = factor**-1
        s = inverse * matrix(cov_q) * inverse.T
        ell, vectors = mp.eigsy((s + s.T) / 2)
        m = vectors.T * inverse * (column(mean_q) - column(mean_p))
        d = len(m)
        ratios = [mp.log(x) for x in ell]
        spots = [(i, j) for i in range(d) for j in range(i)]

        def logarithm(y: list[Any]) -> tuple[Any, Any]:
            order = 2 * d + 1
            lift = mp.eye(order)
            for i in range(d):
                lift[d, i], lift[d + 1 + i, d] = m[i], -m[i]
                for j in range(d):
                    lift[d + 1 + i, j] = -m[i] * m[j] / 2
            for (i, j), value in zip(spots, y, strict=True):
                lift[d + 1 + i, j] += value
                lift[d + 1 + j, i] -= value
            middle = mp.diag([mp.exp(-x) for x in ratios] + [mp.mpf(1)] + [mp.exp(x) for x in ratios])
            g = lift * middle * lift.T
            values, q = mp.eigsy((g + g.T) / 2)
            logs = [mp.log(v) for v in values]
            whole = q * mp.diag(logs) * q.T
            return mp.fsum(x * x for x in logs) / 4, [whole[d + 1 + i, j] - whole[d + 1 + j, i] for i, j in spots]

        def descend(y: list[Any]) -> Any:
            step = mp.mpf(10) ** (-digits // 3)
            for _ in range(100):
                energy, slope = logarithm(y)
                hessian = mp.matrix(len(spots))
                for c in range(len(spots)):
                    size = step * (1 + abs(y[c]))
                    ahead = logarithm([v + size * (i == c) for i, v in enumerate(y)])[1]
                    for r in range(len(spots)):
                        hessian[r, c] = (ahead[r] - slope[r]) / size
                move = mp.lu_solve(hessian, -mp.matrix(slope))
                gain = -mp.fsum(a * b for a, b in zip(move, slope, strict=True))
                if 0 <= gain < mp.mpf(10) ** -28 * energy:
                    return energy
                move = -move if gain < 0 else move
                size = mp.mpf(2) ** 20 if gain < 0 else mp.mpf(1)
                while logarithm([v + size * w for v, w in zip(y, move, strict=True)])[0] > energy:
                    size /= 2
                    if size < mp.mpf(2) ** -80:
                        raise ArithmeticError("the minimization stopped before it reached the minimum")
                y = [v + size * w for v, w in zip(y, move, strict=True)]
            raise ArithmeticError("the minimization did not end")

        if not spots:
            return mp.sqrt(logarithm([])[0])
        tilted = [m[i] * m[j] / 2 * mp.tanh((ratios[j] - ratios[i]) / 2) for i, j in spots]
        wells = list(itertools.product((0, 1), repeat=len(spots)))[: 2**MAX_WELLS]
        found = [descend([a * b for a, b in zip(tilted, well, strict=True)]) for well in wells]
        return mp.sqrt(min(found))


def shot(x: Any, b: Any, *, digits: int = DIGITS) -> tuple[Any, Any, Any]:
    """Mean, covariance and distance from N(0, I) of the end of the geodesic with velocity (x, b), as mpmath numbers."""
    with mp.workdps(digits):
        x, b = column(x), matrix(b)
        d = len(x)
        a = mp.zeros(2 * d + 1)
        for i in range(d):
            a[i, d] = a[d, i] = x[i]
            a[d, d + 1 + i] = a[d + 1 + i, d] = -x[i]
            for j in range(d):
                a[i, j], a[d + 1 + i, d + 1 + j] = -b[i, j], b[i, j]
        values, q = mp.eigsy(a)
        g = q * mp.diag([mp.exp(v) for v in values]) * q.T
        precision, natural = g[:d, :d], g[:d, d]
        cov = precision**-1
        length = mp.sqrt(mp.fsum(v * v for v in x) + mp.fsum(b[i, j] ** 2 for i in range(d) for j in range(d)) / 2)
        return cov * natural, (cov + cov.T) / 2, length


def rounded(mean: Any, cov: Any) -> tuple[np.ndarray, np.ndarray]:
    """Float64 arrays from mpmath ones."""
    d = len(mean)
    low = np.array([[float(cov[i, j]) for j in range(d)] for i in range(d)])
    return np.array([float(v) for v in mean]), (low + low.T) / 2
