"""Checks that the families computed with NumPy alone have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, IntArray, as_array, as_float_array, check_broadcast, check_count, sealed
from infogeo.errors import ArgumentError, DomainError
from infogeo.families.base import check_batch


def set_parameters(member: Any, **values: ArrayLike) -> None:
    """Check scalar parameters of a family, broadcast them to one batch shape and set them, read-only.

    Raises
    ------
    ShapeError
        If they do not broadcast, or the batch is empty.
    DomainError
        If an entry is not finite.
    """
    family = type(member).__name__
    arrays = {name: as_float_array(name, value) for name, value in values.items()}
    check_broadcast(**arrays)
    shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    check_batch(family, shape)
    for name, array in arrays.items():
        whole = array if array.shape == shape else np.array(np.broadcast_to(array, shape))
        object.__setattr__(member, name, sealed(whole))


def check_entries(name: str, array: FloatArray, bad: NDArray[np.bool_], wanted: str) -> None:
    """Raise if an entry is marked as bad; the message names the first one."""
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        which = f"entry {where} is" if where else "found"
        raise DomainError(f"{name}: {which} {array[where]}, wanted {wanted}")


def check_positive(member: Any, *names: str) -> None:
    """Raise unless all entries of the parameters are positive."""
    for name in names:
        array = getattr(member, name)
        check_entries(name, array, ~(array > 0), "a positive number")


def check_trials(trials: int) -> int:
    """A number of trials that int64 holds, at least one."""
    number = check_count("trials", trials, least=1)
    if number > np.iinfo(np.int64).max:
        raise ArgumentError(f"trials: found {number}, wanted at most 2**63 - 1")
    return number


def counts(x: ArrayLike) -> IntArray:
    """Whole numbers at which a discrete family is asked for its probability."""
    array = as_array("x", x)
    if array.dtype.kind not in "iu":
        raise DomainError(f"x: found dtype {array.dtype}, wanted integers, since the outcomes are counts")
    return array.astype(np.int64)


def known(family: str, value: FloatArray) -> FloatArray:
    """The value, unless steps on the way to it left the range of float64 in both directions."""
    if np.isnan(value).any():
        raise DomainError(f"{family}: parameters or points are too extreme for float64; choose other units")
    return np.asarray(value)


def in_range(family: str, draws: FloatArray) -> FloatArray:
    """The draws, unless one of them is too large for float64."""
    if not np.isfinite(draws).all():
        raise DomainError(f"{family}: a draw is too large for float64; choose a unit in which the numbers are smaller")
    return draws
