"""Checks of arguments, shared by all modules; a leaf of the import graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo.errors import DomainError, ShapeError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_float_array(name: str, value: ArrayLike) -> FloatArray:
    """A float64 array of finite numbers, or an error that names the argument and the first bad entry."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: rows have different lengths ({error}); give a rectangular array") from error
    if array.dtype.kind not in "fiub":
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted real numbers")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DomainError(f"{name}: entry {where} is {array[where]}; all entries must be finite")
    return array


def check_shape(name: str, array: NDArray[Any], wanted: tuple[int | None, ...]) -> None:
    """Raise unless the shape equals ``wanted``; None stands for any length."""
    if array.ndim != len(wanted) or any(w is not None and w != s for w, s in zip(wanted, array.shape, strict=True)):
        shown = "(" + ", ".join("any" if w is None else str(w) for w in wanted) + ")"
        raise ShapeError(f"{name}: found shape {array.shape}, wanted {shown}")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, set read-only (a copy if it is a view into somebody else's data)."""
    array = array if array.base is None and array.flags.owndata else array.copy()
    array.setflags(write=False)
    return array
