"""Checks of arguments, shared by all modules; a leaf of the import graph."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo.errors import ArgumentError, DomainError, ShapeError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """An array of any dtype, the given one if it is an array already; ragged rows are refused."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: rows have different lengths ({error}); give a rectangular array") from error


def as_float_array(name: str, value: ArrayLike, *, finite: bool = True) -> FloatArray:
    """A fresh float64 array of finite numbers, or an error that names the argument and the first bad entry.

    With ``finite=False`` NaN and infinity pass, for callers that say more about them than their place.
    """
    array = as_array(name, value)
    if array.dtype.kind not in "fiub":
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted real numbers")
    array = array.astype(np.float64)
    if finite and not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DomainError(f"{name}: entry {where} is {array[where]}; all entries must be finite")
    return array


def as_int_array(name: str, value: ArrayLike) -> IntArray:
    """A fresh int64 array, or an error; floats are refused, whole or not (an empty list has no dtype, and passes)."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu" and array.size:
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted whole numbers")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise DomainError(f"{name}: found {array.max()}, which int64 cannot hold")
    return array.astype(np.int64)


def as_bool_array(name: str, value: ArrayLike) -> NDArray[np.bool_]:
    """A fresh array of truth values, or an error (an empty list has no dtype, and passes)."""
    array = as_array(name, value)
    if array.dtype.kind != "b" and array.size:
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted True or False")
    return array.astype(np.bool_)


def check_count(name: str, value: SupportsIndex, least: int | None = None) -> int:
    """A whole number of at least ``least``, or an error that names the argument."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"{name}: found {value!r}, wanted a whole number") from error
    if least is not None and number < least:
        raise ArgumentError(f"{name}: found {number}, wanted at least {least}")
    return number


def check_broadcast(**arrays: NDArray[Any]) -> None:
    """Raise unless the shapes broadcast; the message names the arrays."""
    try:
        np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"shapes do not broadcast: {shapes}") from None


def sum_tolerance(dtype: np.dtype[Any]) -> float:
    """How far from one probabilities of a dtype may sum by rounding alone.

    1e-9, or 32 machine epsilons if that is coarser, but no more than 0.008, which is one rounding error of a float16
    logarithm between -16 and -32.
    """
    return min(max(1e-9, 32 * float(np.finfo(dtype).eps)), 0.008) if dtype.kind == "f" else 1e-9


def check_sums(
    name: str, total: FloatArray, tolerance: float, *, logarithms: str = "Categorical.from_logits"
) -> None:
    """Raise unless all sums are one; the message names the row, its sum and what normalizes on purpose."""
    total = np.asarray(total)
    bad = ~(np.abs(total - 1.0) <= tolerance)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        which = f"row {where[0] if len(where) == 1 else where}" if where else "the row"
        raise DomainError(
            f"{name}: the probabilities of {which} sum to {total[where]:.12g}, wanted 1 within {tolerance:.2g}; "
            f"to normalize on purpose, use Categorical.from_counts (weights) or {logarithms} (logarithms)"
        )


def check_shape(name: str, array: NDArray[Any], wanted: tuple[int | None, ...]) -> None:
    """Raise unless the shape equals ``wanted``; None stands for any length."""
    if array.ndim != len(wanted) or any(w is not None and w != s for w, s in zip(wanted, array.shape, strict=True)):
        shown = "(" + ", ".join("any" if w is None else str(w) for w in wanted) + ")"
        raise ShapeError(f"{name}: found shape {array.shape}, wanted {shown}")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy; the array that was given stays as it was, and no view of it reaches the copy."""
    return sealed(array.copy())


def sealed(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, set read-only; only for an array that the caller has just made and gave to nobody else."""
    array.setflags(write=False)
    return array
