r"""Two covariances seen from each other: the eigenvalues of :math:`S^{-1}T` with all the digits that can be had.

Written against the array-API standard, for NumPy arrays and torch tensors on any device. ``left`` and ``right`` are the
two covariances, each with its lower Cholesky factor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infogeo._arrays import Array, detached, namespace

NEAR = 0.5
"""Eigenvalues of :math:`S^{-1}T - 1` up to this size are taken from the difference of the matrices."""

PLAIN = 1e-2
"""Smallest pivot of a Cholesky factor of unit diagonal up to which its rounding errors are left as they are."""

WIDE = 5.0
"""Spread of the logarithms of the eigenvalues up to which all are taken from one decomposition."""


class Spectrum(NamedTuple):
    r"""A joint diagonalization :math:`S = B B^\top`, :math:`T = B\,\mathrm{diag}(e^{w})\,B^\top`."""

    basis: Array
    """B, (..., d, d)"""
    logs: Array
    """w, (..., d): logarithms of the eigenvalues of :math:`S^{-1} T`"""


def transposed(x: Array) -> Array:
    """The matrices with their last two axes exchanged."""
    return namespace(x).matrix_transpose(x)


def log_ratios(left: Array, left_factor: Array, right: Array, right_factor: Array) -> Array:
    r"""Logarithms of the eigenvalues of :math:`S^{-1}T`, (..., d), in no order that is fixed."""
    return _solve(left, left_factor, right, right_factor, basis=False).logs


def joint_spectrum(left: Array, left_factor: Array, right: Array, right_factor: Array) -> Spectrum:
    """Joint diagonalization of two covariances."""
    return _solve(left, left_factor, right, right_factor, basis=True)


def _solve(left: Array, left_factor: Array, right: Array, right_factor: Array, *, basis: bool) -> Spectrum:
    xp = namespace(left, right)
    solve = xp.linalg.solve
    fine = min(_least_pivot(left_factor), _least_pivot(right_factor)) < PLAIN
    if fine:
        left_change, right_change = _factor_change(left, left_factor), _factor_change(right, right_factor)

    # Close to each other: scaled by powers of two to a diagonal near one (exact), whitened from the difference.
    scale = _scales(left_factor)
    variances = xp.linalg.diagonal(left), xp.linalg.diagonal(right)
    unlike = xp.max(xp.abs(xp.log2(variances[0]) - xp.log2(variances[1])), axis=-1, keepdims=True) > 2
    compared = _scaled(xp.where(unlike[..., None], left, right), scale)
    left = _scaled(left, scale)
    low, difference = left_factor / scale[..., None], compared - left
    half = _quotient(low, difference, fine=fine)
    if fine:
        half = half + solve(low, _lost(compared, left, difference))
    whitened = _quotient(low, transposed(half), fine=fine)
    if fine:
        whitened = solve(left_change, transposed(solve(left_change, whitened)))
    excess, rotation = xp.linalg.eigh((whitened + transposed(whitened)) / 2)
    near = (xp.max(xp.abs(excess), axis=-1, keepdims=True) < NEAR) & ~unlike
    logs = xp.log1p(xp.where(near, excess, xp.zeros_like(excess)))

    if not bool(xp.all(near)):
        quotient = _quotient(left_factor, right_factor, fine=fine)
        if fine:
            quotient = solve(left_change, quotient @ right_change)
        if basis:
            turned, singular, _ = xp.linalg.svd(quotient)
            rotation = xp.where(near[..., None], rotation, turned)
        else:
            singular = xp.linalg.svdvals(quotient)
        far = _twice_log(singular)
        if fine or float(xp.max(detached(far[..., 0] - far[..., -1]))) > WIDE:
            # an SVD knows singular values to an error relative to the largest: the small ones are large in the inverse
            back = _quotient(right_factor, left_factor, fine=fine)
            if fine:
                back = solve(right_change, back @ left_change)
            other = -xp.flip(_twice_log(xp.linalg.svdvals(back)), axis=-1)
            far = xp.where(far > (far[..., :1] + other[..., -1:]) / 2, far, other)
        logs = xp.where(near, logs, far)
    if fine:
        rotation = left_change @ rotation
    return Spectrum(left_factor @ rotation, logs)


def _twice_log(x: Array) -> Array:
    xp = namespace(x)
    return 2 * xp.log(xp.where(x > 0, x, xp.full_like(x, 1e-300)))


def _scales(factor: Array) -> Array:
    """Standard deviations of the components, rounded to powers of two."""
    return _power_of_two(namespace(factor).linalg.vector_norm(factor, axis=-1))


def _scaled(matrix: Array, scale: Array) -> Array:
    """Entries divided by the scales of their row and their column, one after the other: a product could overflow."""
    return matrix / scale[..., :, None] / scale[..., None, :]


def _power_of_two(x: Array) -> Array:
    xp = namespace(x)
    return xp.exp2(xp.round(xp.log2(x)))


def _least_pivot(factor: Array) -> float:
    """Least pivot of any of the factors, relative to the length of its row."""
    xp, factor = namespace(factor), detached(factor)
    return float(xp.min(xp.linalg.diagonal(factor) / xp.linalg.vector_norm(factor, axis=-1)))


def _factor_change(matrix: Array, factor: Array) -> Array:
    r"""The K near one with :math:`A = L K K^\top L^\top` for a rounded Cholesky factor L of A."""
    xp = namespace(matrix)
    scale = _scales(factor)
    matrix, factor = _scaled(matrix, scale), factor / scale[..., None]
    rest = _residual(matrix, factor, transposed(factor))
    change = xp.linalg.solve(factor, transposed(xp.linalg.solve(factor, rest)))
    one = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return xp.linalg.cholesky(one + (change + transposed(change)) / 2)


def _quotient(factor: Array, right: Array, *, fine: bool) -> Array:
    """The inverse of a lower triangular factor times a matrix; if fine, with one step of refinement."""
    xp = namespace(factor, right)
    scale = _scales(factor)[..., None]
    factor, right = factor / scale, right / scale
    first = xp.linalg.solve(factor, right)
    return first + xp.linalg.solve(factor, _residual(right, factor, first)) if fine else first


def _lost(a: Array, b: Array, difference: Array) -> Array:
    """What rounding took from ``difference = a - b``, exactly (Knuth's two-sum)."""
    back = difference - a
    return (a - (difference - back)) - (b + back)


def _residual(target: Array, a: Array, b: Array) -> Array:
    """``target - a @ b`` as if computed in more than twice the precision.

    The factors are cut into three slices of so few bits that the products of two slices are exact, whatever the order
    in which a matrix product sums (Ozaki, Ogita, Oishi, Rump, Numerical Algorithms 59 (2012) 95-118).
    """
    bits = (52 - int(np.ceil(np.log2(a.shape[-1])))) // 2
    left, right = _slices(a, bits, axis=-1), _slices(b, bits, axis=-2)
    rest = target - left[0] @ right[0]
    for order in range(1, 5):
        for i in range(max(0, order - 2), min(order, 2) + 1):
            rest = rest - left[i] @ right[order - i]
    return rest


def _slices(x: Array, bits: int, *, axis: int) -> tuple[Array, Array, Array]:
    """Three summands of x, each a multiple of a power of two and at most 2**bits times it, along the axis."""
    xp = namespace(x)
    parts, rest = [], x
    for _ in range(3):
        top = xp.max(xp.abs(rest), axis=axis, keepdims=True)
        unit = xp.exp2(xp.ceil(xp.log2(xp.where(top > 0, top, xp.ones_like(top)))) + (52 - bits)) * 1.5
        parts.append((rest + unit) - unit)
        rest = rest - parts[-1]
    return parts[0], parts[1], parts[2]
