"""Linear algebra beyond double precision, for the few matrices whose digits would not suffice otherwise.

Where NumPy's long double has 64 bits of mantissa or more it is used; elsewhere it is the double, and the error
estimates of the callers say that digits are missing. All functions are batched over the first axis; they are loops of
array operations over the order of the matrix, slower than LAPACK by two orders of magnitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray

Extended = NDArray[Any]
"""An array of ``np.longdouble``."""

EPS = float(np.finfo(np.longdouble).eps)
"""Rounding unit of the extended precision."""

SPLITTER = 2.0**27 + 1.0
MAX_SWEEPS = 60


def pivoted_cholesky(cov: FloatArray) -> tuple[FloatArray, IntArray]:
    """Lower factors (n, d, d), rounded to double, and orders (n, d), with ``cov[order][:, order] = L L'`` nearly.

    The largest remaining variance comes first, so that the columns of the factor are graded and what is left of its
    condition, its columns scaled to length one, is moderate. Worked in extended precision.
    """
    work = cov.astype(np.longdouble)
    n, d = work.shape[:2]
    rows = np.arange(n)
    order = np.tile(np.arange(d), (n, 1))
    factor = np.zeros_like(work)
    for j in range(d):
        remaining = np.diagonal(work, axis1=1, axis2=2)[:, j:]
        pivot = j + np.argmax(remaining, axis=1)
        for array in (work, factor):
            held = array[rows, pivot].copy()
            array[rows, pivot] = array[:, j]
            array[:, j] = held
        held = work[rows, :, pivot].copy()
        work[rows, :, pivot] = work[:, :, j]
        work[:, :, j] = held
        moved = order[rows, pivot].copy()
        order[rows, pivot] = order[:, j]
        order[:, j] = moved
        root = np.sqrt(np.maximum(work[:, j, j], np.finfo(np.float64).tiny))
        column = work[:, j:, j] / root[:, None]
        factor[:, j:, j] = column
        work[:, j:, j:] -= column[:, :, None] * column[:, None, :]
    return factor.astype(np.float64), order


def _two_products(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Product and its rounding error (Dekker)."""
    product = a * b
    halves = []
    for x in (a, b):
        shifted = SPLITTER * x
        upper = shifted - (shifted - x)
        halves.append((upper, x - upper))
    (a1, a2), (b1, b2) = halves
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def factor_residual(cov: FloatArray, factor: FloatArray) -> FloatArray:
    """``cov - factor @ factor'`` with the products and their sum in twice the working precision."""
    high, low = cov.copy(), np.zeros_like(cov)
    for r in range(factor.shape[-1]):
        product, error = _two_products(factor[:, :, r, None], factor[:, None, :, r])
        high, lost = two_sum(high, -product)
        low += lost - error
    return high + low


def solve_lower(factor: FloatArray, high: FloatArray, low: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Solve ``factor @ y = high + low`` for lower triangular (n, d, d), in twice the working precision.

    The right-hand sides (n, d, m) and the answer are sums of two float64 arrays.
    """
    high = high.copy()
    low = np.zeros_like(high) if low is None else low.copy()
    for j in range(factor.shape[-1]):
        pivot = factor[:, j, j, None]
        quotient = high[:, j] / pivot
        product, error = _two_products(quotient, np.broadcast_to(pivot, quotient.shape))
        rest = (((high[:, j] - product) - error) + low[:, j]) / pivot
        high[:, j], low[:, j] = two_sum(quotient, rest)
        column = factor[:, j + 1 :, j, None]
        product, error = _two_products(column, high[:, None, j])
        high[:, j + 1 :], lost = two_sum(high[:, j + 1 :], -product)
        low[:, j + 1 :] += lost - error - column * low[:, None, j]
    return high, low


def solve_unit(factor: Extended, x: Extended) -> Extended:
    """Solve ``factor @ y = x`` for lower triangular factors near the identity, (n, d, d) and (n, d, m)."""
    y = x.copy()
    for j in range(factor.shape[-1]):
        y[:, j] /= factor[:, j, j, None]
        y[:, j + 1 :] -= factor[:, j + 1 :, j, None] * y[:, None, j]
    return y


def cholesky(x: Extended) -> Extended:
    """Lower factors of matrices near the identity, (n, d, d)."""
    work, factor = x.copy(), np.zeros_like(x)
    for j in range(x.shape[-1]):
        column = work[:, j:, j] / np.sqrt(work[:, j, j])[:, None]
        factor[:, j:, j] = column
        work[:, j:, j:] -= column[:, :, None] * column[:, None, :]
    return factor


def jacobi(x: Extended) -> tuple[Extended, Extended]:
    """Right singular vectors J (n, c, c) and ``x @ J`` (n, r, c), whose columns are orthogonal and fall in length.

    One-sided Jacobi rotations (Hestenes): small singular values of matrices with graded columns keep their relative
    accuracy (Demmel and Veselic 1992). The rotations of a round are of disjoint columns, and done at once.
    """
    work = x.copy()
    n, _, c = work.shape
    basis = np.broadcast_to(np.eye(c, dtype=work.dtype), (n, c, c)).copy()
    rounds = _rounds(c)
    for _ in range(MAX_SWEEPS):
        largest = 0.0
        order = np.argsort(-(work * work).sum(axis=1), axis=1, kind="stable")[:, None, :]
        work, basis = np.take_along_axis(work, order, axis=2), np.take_along_axis(basis, order, axis=2)
        for p, q in rounds:
            a, b = work[:, :, p], work[:, :, q]
            aa, bb, ab = (a * a).sum(axis=1), (b * b).sum(axis=1), (a * b).sum(axis=1)
            size = np.sqrt(aa) * np.sqrt(bb)
            angle = np.abs(ab) / np.where(size > 0, size, 1)
            needed = angle > c * EPS
            largest = max(largest, float(angle.max()))
            safe = np.where(needed, ab, 1)
            zeta = (bb - aa) / (2 * safe)
            tangent = np.where(needed, np.copysign(1, zeta) / (np.abs(zeta) + np.hypot(1, zeta)), 0)
            cosine = 1 / np.hypot(1, tangent)
            sine = cosine * tangent
            for array in (work, basis):
                u, v = array[:, :, p], array[:, :, q]
                array[:, :, p], array[:, :, q] = (
                    cosine[:, None] * u - sine[:, None] * v,
                    sine[:, None] * u + cosine[:, None] * v,
                )
        if largest <= c * EPS:
            break
    order = np.argsort(-(work * work).sum(axis=1), axis=1, kind="stable")[:, None, :]
    return np.take_along_axis(basis, order, axis=2), np.take_along_axis(work, order, axis=2)


def wide_svd(x: Extended) -> tuple[Extended, Extended, Extended]:
    """Singular value decomposition of matrices (n, k, k + 1): U, singular values, V transposed with the null row."""
    left, images = jacobi(np.swapaxes(x, 1, 2))
    singular = np.sqrt((images * images).sum(axis=1))
    units = images / np.where(singular > 0, singular, 1)[:, None, :]
    whole = np.linalg.qr(units.astype(np.float64), mode="complete")[0].astype(x.dtype)[:, :, -1:]
    for _ in range(2):
        whole -= units @ (np.swapaxes(units, 1, 2) @ whole)
        whole /= np.sqrt((whole * whole).sum(axis=1, keepdims=True))
    return left, singular, np.swapaxes(np.concatenate([units, whole], axis=2), 1, 2)


def _rounds(c: int) -> list[tuple[IntArray, IntArray]]:
    """All pairs of c columns in rounds of disjoint pairs, as in a tournament."""
    players = list(range(c + c % 2))
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        pairs = [sorted((players[i], players[-1 - i])) for i in range(half)]
        pairs = [pair for pair in pairs if pair[1] < c]
        if pairs:
            first, second = np.array(pairs, dtype=np.int64).T
            rounds.append((first, second))
        players = [players[0], players[-1], *players[1:-1]]
    return rounds
