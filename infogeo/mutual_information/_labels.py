"""Labels of any kind as whole numbers, and the table of two of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from infogeo._arrays import is_tensor
from infogeo._checks import IntArray, as_array
from infogeo.errors import DomainError, ShapeError


def as_codes(name: str, labels: Any) -> IntArray:
    """(n,) a whole number from 0 for each label; equal labels get equal numbers.

    Labels are numbers, strings or any hashable things, in a sequence of length n; the rows of an array (n, d) are
    labels too.
    """
    array = _as_labels(name, labels)
    if array.ndim not in (1, 2):
        raise ShapeError(
            f"{name}: found shape {array.shape}, wanted (n,) or (n, d): one label, or row, for each sample"
        )
    if array.size == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, which holds no label")
    if array.dtype.kind in "fcmM":
        missing = np.isnat(array) if array.dtype.kind in "mM" else np.isnan(array)
        if missing.any():
            where = tuple(int(i) for i in np.argwhere(missing)[0])
            shown = "NaT" if array.dtype.kind in "mM" else "NaN"
            raise DomainError(f"{name}: entry {where} is {shown}, which is no label; leave those samples out")
    if array.dtype.kind == "O":
        return _codes_of_things(name, array)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    codes = np.unique(array, axis=0 if array.ndim == 2 else None, return_inverse=True)[1]
    return np.asarray(codes, dtype=np.int64).reshape(-1)


def _as_labels(name: str, labels: Any) -> np.ndarray[Any, Any]:
    """An array of the labels that keeps apart what NumPy would make equal, such as 1 and "1" in one list."""
    if isinstance(labels, list | tuple) and labels:
        kinds = {type(label) for label in labels}
        plain = kinds <= {int, bool} or kinds <= {int, float} or kinds <= {str}
        if not plain and not all(issubclass(kind, np.generic | np.ndarray | list) for kind in kinds):
            things = np.empty(len(labels), dtype=object)
            things[:] = [tuple(label) if isinstance(label, list) else label for label in labels]
            return things
    if isinstance(labels, str | bytes):
        raise ShapeError(f"{name}: found one string, wanted a sequence of labels; for its characters give list({name})")
    if isinstance(labels, set | frozenset | dict):
        raise ShapeError(f"{name}: found a {type(labels).__name__}, whose labels have no order; give a list or array")
    if not is_tensor(labels) and not isinstance(labels, list | tuple | np.ndarray) and hasattr(labels, "__iter__"):
        labels = labels if hasattr(labels, "__array__") else list(labels)
    return as_array(name, labels)


def _codes_of_things(name: str, array: np.ndarray[Any, Any]) -> IntArray:
    things: list[Hashable] = array.tolist() if array.ndim == 1 else [tuple(row) for row in array.tolist()]
    numbers: dict[Hashable, int] = {}
    try:
        codes = [numbers.setdefault(thing, len(numbers)) for thing in things]
    except TypeError as error:
        raise DomainError(f"{name}: a label is not hashable ({error}); give numbers, strings or tuples") from error
    for thing in numbers:
        if thing is None or thing != thing:
            raise DomainError(f"{name}: found {thing!r}, which is no label; leave those samples out")
    return np.array(codes, dtype=np.int64)


def pair_counts(a: IntArray, b: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """How often each number occurs in a, in b, and each pair in both; only those that occur."""
    a = np.unique(a, return_inverse=True)[1]
    b, width = np.unique(b, return_inverse=True)[1], int(b.max()) + 1
    joint = np.unique(a.astype(np.int64) * width + b, return_counts=True)[1]
    return np.bincount(a), np.bincount(b), np.asarray(joint, dtype=np.int64)
