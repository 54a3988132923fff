r"""The best mixture of columns, which is what Blahut's rate-distortion problem comes to at a fixed slope.

For weights :math:`p_x > 0` and a matrix :math:`A_{xy} \ge 0` the program is

.. math:: \max_q \sum_x p_x \log (Aq)_x, \qquad q_y \ge 0, \; \sum_y q_y = 1 .

With :math:`c_y = \sum_x p_x A_{xy} / (Aq)_x`, which averages to one under q, no mixture does better than q by more than
:math:`\log \max_y c_y` (Jensen's inequality), and q is best if no c exceeds one. Blahut's step is :math:`q_y \leftarrow
q_y c_y`; it is slow on columns that end up with no weight, and where columns are nearly alike. The interior-point
method here takes some ten to thirty Newton steps. The sum need not be constrained: the program with
:math:`- \sum q` in the objective has the same optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from infogeo._checks import FloatArray

TO_BOUNDARY = 0.99
"""Part of the way to the boundary that a step may go."""

STALLED = 15
"""Newton steps without a smaller gap after which the method gives up."""

HALVINGS = 40

POLISH = 3
"""Steps of Blahut's that are tried from each iterate."""


class Mixture(NamedTuple):
    """A mixture and how far it may be from the best."""

    q: FloatArray
    value: float
    """Sum of p log(Aq)."""
    gap: float
    """No mixture reaches more than ``value + gap``."""
    iterations: int


def blahut(p: FloatArray, a: FloatArray, *, tol: float, max_iter: int) -> Mixture:
    """Plain iterations from the uniform mixture."""
    q = np.full(a.shape[1], 1 / a.shape[1])
    for step in range(max_iter + 1):
        mixed = a @ q
        c = a.T @ (p / mixed)
        gap = float(np.log(c.max()))
        if gap <= tol or step == max_iter:
            break
        q = q * c
        q /= q.sum()
    return Mixture(q, float(p @ np.log(mixed)), max(gap, 0.0), step)


def newton(p: FloatArray, a: FloatArray, *, tol: float, max_iter: int) -> Mixture:
    """Primal-dual interior-point method; the best mixture met comes back."""
    q = np.full(a.shape[1], 1 / a.shape[1])
    mixed = a @ q
    c = a.T @ (p / mixed)
    z = np.maximum(1 - c, 0.0) + 0.1
    best = _measured(p, a, q, 0)
    idle = step = 0
    while step < max_iter and best.gap > tol and idle < STALLED:
        step += 1
        q, z = _step(p, a, q, z, 0.1 * tol / len(q))
        found = _measured(p, a, q, step, polish=POLISH)
        improved = found.gap < best.gap
        best = found if improved else best
        idle = 0 if improved else idle + 1
    return best._replace(iterations=step)


def _measured(p: FloatArray, a: FloatArray, q: FloatArray, step: int, *, polish: int = 0) -> Mixture:
    """The mixture and its gap; the best of those that Blahut's steps make of it.

    Columns that matter only to letters of tiny probability are right after one such step, where the interior-point
    method takes many.
    """
    best = Mixture(q, -np.inf, np.inf, step)
    for _ in range(polish + 1):
        q = q / q.sum()
        mixed = a @ q
        c = a.T @ (p / mixed)
        gap = max(float(np.log(c.max())), 0.0)
        if gap < best.gap:
            best = Mixture(q, float(p @ np.log(mixed)), gap, step)
        q = q * c
    return best


def _step(
    p: FloatArray, a: FloatArray, q: FloatArray, z: FloatArray, least: float
) -> tuple[FloatArray, FloatArray]:
    """One predictor and corrector, in the variables dq / sqrt(q), in which the matrix is bounded by one plus z.

    The products q z are aimed at ``least`` and no lower: what is smaller than the tolerance needs only loses digits.
    """
    mixed = a @ q
    c = a.T @ (p / mixed)
    root = np.sqrt(q)
    rows = (np.sqrt(p) / mixed)[:, None] * a * root
    solve = _solver(rows, z)
    dual = 1 - c - z
    mu = float(q @ z) / len(q)

    def direction(target: float, second: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        # H dq - dz = -dual,  z dq + q dz = target - q z - second
        complement = (target - second) / q - z
        dq = root * solve(root * (complement - dual))
        return dq, complement - z / q * dq

    dq, dz = direction(0.0, 0.0)
    one, other = min(_reach(q, dq), 1.0), min(_reach(z, dz), 1.0)
    ahead = float((q + one * dq) @ (z + other * dz)) / len(q)
    sigma = min(max(ahead / mu, 0.0) ** 3, 1.0)
    dq, dz = direction(max(sigma * mu, least), dq * dz)
    length = min(TO_BOUNDARY * min(_reach(q, dq), _reach(z, dz)), 1.0)
    before = np.abs(dual).max() + mu
    for _ in range(HALVINGS):
        new_q, new_z = q + length * dq, z + length * dz
        new_dual = 1 - a.T @ (p / (a @ new_q)) - new_z
        if np.abs(new_dual).max() + float(new_q @ new_z) / len(q) <= 2 * before:
            break
        length /= 2
    return new_q, new_z


def _solver(rows: FloatArray, z: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Solves with :math:`B^T B + diag(z)` through the smaller side of B; one step of refinement."""
    from scipy import linalg

    n, m = rows.shape
    if m <= n:
        gram = rows.T @ rows
        gram[np.diag_indices(m)] += z
    else:
        gram = (rows / z) @ rows.T
        gram[np.diag_indices(n)] += 1.0
    ridge = 0.0
    while True:
        try:
            factor = linalg.cho_factor(gram, lower=True, check_finite=False)
            break
        except linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-16 * float(np.trace(gram)))
            gram[np.diag_indices(len(gram))] += ridge

    def once(right: FloatArray) -> FloatArray:
        if m <= n:
            return np.asarray(linalg.cho_solve(factor, right, check_finite=False))
        scaled = right / z
        return np.asarray(scaled - (rows.T @ linalg.cho_solve(factor, rows @ scaled, check_finite=False)) / z)

    def solve(right: FloatArray) -> FloatArray:
        found = once(right)
        return found + once(right - rows.T @ (rows @ found) - z * found)

    return solve


def _reach(x: FloatArray, dx: FloatArray) -> float:
    """How far along dx the numbers x stay positive."""
    falls = dx < 0
    return float((x[falls] / -dx[falls]).min(initial=np.inf))
