"""Kernels behind matrix entropies and spectrum metrics: matrices checked and scaled, entropies of their spectra."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from infogeo._arrays import Array, detached, is_tensor, namespace, to_numpy
from infogeo._checks import as_floats, check_number
from infogeo.errors import ArgumentError, DomainError, ShapeError

CONSTANT = 1e-14
"""What is left of a matrix without its mean row is rounding below this fraction of its largest entry."""

EPSILON = float(np.finfo(np.float64).eps)

NEAR_ONE = 0.1
"""Orders closer to one than this are computed by a formula in which nothing cancels there."""


def check_order(alpha: float) -> float:
    """The order of a Rényi entropy, positive, infinity allowed."""
    order = check_number("alpha", alpha)
    if order <= 0:
        raise ArgumentError(f"alpha: found {order:g}, wanted a positive order (1 is von Neumann's entropy)")
    return order


def matrices(name: str, value: Any, *, rows: int = 1) -> Array:
    """Matrices (..., n, d) of finite float64 numbers with at least so many rows and one column."""
    array = as_floats(name, value)
    if array.ndim < 2:
        raise ShapeError(
            f"{name}: found shape {tuple(array.shape)}, wanted (..., n, d): one row for each sample; for a single "
            f"vector give {name}[None, :]"
        )
    if 0 in array.shape:
        raise ShapeError(f"{name}: found shape {tuple(array.shape)}, wanted at least one matrix, row and column")
    if array.shape[-2] < rows:
        raise ShapeError(f"{name}: found shape {tuple(array.shape)}, wanted at least {rows} rows (samples)")
    return array


def first_bad(bad: Array) -> tuple[int, ...]:
    """Indices of the first True."""
    return tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])


def which_matrix(name: str, where: tuple[int, ...]) -> str:
    """``x``, or ``x: matrix (0, 2)`` of a batch."""
    return f"{name}: matrix {where}" if where else f"{name}: the matrix"


def scaled(name: str, x: Array, *, problem: str = "is zero everywhere, and has no spectrum to share out") -> Array:
    """Each matrix divided by its largest entry, for quantities that do not depend on the scale."""
    xp = namespace(x)
    top = xp.max(xp.abs(detached(x)), axis=(-2, -1), keepdims=True)
    nothing = top[..., 0, 0] == 0
    if nothing.any():
        raise DomainError(f"{which_matrix(name, first_bad(nothing))} {problem}; leave it out")
    return x / top


def centered(name: str, x: Array) -> Array:
    """Each matrix less its mean row, then divided by its largest entry; refused where all rows are equal."""
    xp = namespace(x)
    small = scaled(name, x, problem="is zero everywhere, so that no variance is left to share out")
    left = small - xp.mean(small, axis=-2, keepdims=True)
    constant = xp.max(xp.abs(detached(left)), axis=(-2, -1)) <= CONSTANT
    if constant.any():
        where = which_matrix(name, first_bad(constant))
        raise DomainError(f"{where} has equal rows, so that no variance is left to share out; leave it out")
    return scaled(name, left)


def unit_rows(name: str, x: Array, *, reason: str) -> Array:
    """Each row divided by its length; a row of zeros is refused."""
    xp = namespace(x)
    top = xp.max(xp.abs(detached(x)), axis=-1, keepdims=True)
    nothing = top[..., 0] == 0
    if nothing.any():
        where = first_bad(nothing)
        row = f"row {where[0] if len(where) == 1 else where}"
        raise DomainError(f"{name}: {row} {reason}, and has no direction; leave it out")
    x = x / top
    return x / xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def small_gram(x: Array) -> Array:
    """The smaller of x xᵀ and xᵀ x, which have the same eigenvalues but for zeros."""
    xp = namespace(x)
    turned = xp.matrix_transpose(x)
    return x @ turned if x.shape[-2] <= x.shape[-1] else turned @ x


def trace(x: Array) -> Array:
    """Sum of the diagonal of matrices (..., n, n)."""
    return namespace(x).linalg.trace(x)


def entr(p: Array) -> Array:
    """-p log p, zero (and with gradient zero) where p is not positive."""
    xp = namespace(p)
    positive = p > 0
    return xp.where(positive, -p * xp.log(xp.where(positive, p, xp.ones_like(p))), xp.zeros_like(p))


def renyi_of_weights(weights: Array, alpha: float) -> Array:
    """Rényi entropy (...,) of weights (..., m) that are scaled to sum one; those not above zero count as zero."""
    xp = namespace(weights)
    kept = xp.where(weights > 0, weights, xp.zeros_like(weights))
    p = kept / xp.sum(kept, axis=-1, keepdims=True)
    if alpha == 1:
        return xp.sum(entr(p), axis=-1)
    top = xp.max(p, axis=-1, keepdims=True)
    if math.isinf(alpha):
        return -xp.log(top[..., 0])
    positive = p > 0
    safe = xp.where(positive, p, xp.ones_like(p))
    if abs(alpha - 1) < NEAR_ONE:  # log sum p^alpha = log1p(sum p (p^(alpha-1) - 1)), where nothing cancels
        excess = xp.where(positive, p * xp.expm1((alpha - 1) * xp.log(safe)), xp.zeros_like(p))
        return xp.log1p(xp.sum(excess, axis=-1)) / (1 - alpha)
    powers = xp.where(positive, (safe / top) ** alpha, xp.zeros_like(p))
    return (alpha * xp.log(top[..., 0]) + xp.log(xp.sum(powers, axis=-1))) / (1 - alpha)


def renyi_of_eigenvalues(values: Array, alpha: float) -> Array:
    """As :func:`renyi_of_weights`, of eigenvalues of matrices of their number, the least first.

    Those within what the solver rounds, m times 2.2e-16 of the largest, are zeros: below order one they would count.
    """
    xp = namespace(values)
    rounding = values.shape[-1] * EPSILON * detached(values)[..., -1:]
    return renyi_of_weights(xp.where(values > rounding, values, xp.zeros_like(values)), alpha)


def collision_entropy(gram: Array) -> Array:
    """Rényi entropy of order two of matrices of trace one, by the Frobenius norm."""
    xp = namespace(gram)
    return -xp.log(xp.sum(gram * gram, axis=(-2, -1)))


def identity(x: Array) -> Array:
    """The identity of the size, library and device of matrices (..., n, n)."""
    xp = namespace(x)
    device = {"device": x.device} if is_tensor(x) else {}
    return xp.eye(x.shape[-1], dtype=xp.float64, **device)


def positive_number(name: str, value: float, *, zero: bool = False) -> float:
    """A finite number above zero, or with ``zero`` at least zero."""
    number = check_number(name, value)
    if number < 0 or (number == 0 and not zero) or math.isinf(number):
        wanted = "a number of at least 0" if zero else "a positive number"
        raise ArgumentError(f"{name}: found {number:g}, wanted {wanted}")
    return number
