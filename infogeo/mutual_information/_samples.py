"""Samples as the estimators take them: read, checked, without constant columns, on comparable scales."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, as_float_array, check_count, check_number, random_generator
from infogeo.errors import ArgumentError, ShapeError
from infogeo.estimates import EstimateWarning

Transform = Literal["standardize", "normal_scores"]
"""What is done to each column before distances are taken; mutual information does not change by it."""

EPSILON = float(np.finfo(np.float64).eps)


def read_samples(name: str, value: ArrayLike) -> FloatArray:
    """Samples of one variable as an array (n, d), or an error that names the argument."""
    array = as_float_array(name, value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (n,) or (n, d): one row for each sample")
    if array.size == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, which holds no sample; wanted (n,) or (n, d)")
    return array


def read_together(**values: ArrayLike) -> tuple[FloatArray, ...]:
    """Samples of several variables, of which row i was observed together."""
    arrays = {name: read_samples(name, value) for name, value in values.items()}
    check_lengths(**arrays)
    return tuple(arrays.values())


def check_lengths(**arrays: NDArray[Any]) -> None:
    """Raise unless all have the same number of samples."""
    if len({len(array) for array in arrays.values()}) > 1:
        listed = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ShapeError(f"numbers of samples differ: {listed}; row i of each must come from the same observation")


def check_neighbors(k: int, n: int) -> int:
    """The number of neighbors, which must leave each sample enough others."""
    k = check_count("k", k, 1)
    if k >= n:
        raise ArgumentError(
            f"k: found {k} with {n} samples; a sample has only {n - 1} others, so give more samples or k below {n}"
        )
    return k


def check_options(transform: Any, search: Any) -> None:
    """Raise unless the two are known, whatever the data; the error that a search or a scale would raise later."""
    if transform not in (*get_args(Transform), None):
        raise ArgumentError(f"transform: found {transform!r}, wanted 'standardize', 'normal_scores' or None")
    if search not in ("tree", "pairs", None):
        raise ArgumentError(f"search: found {search!r}, wanted 'tree', 'pairs' or None")


def without_constants(x: FloatArray) -> FloatArray:
    """The columns that take more than one value; a constant column tells nothing and is told nothing."""
    return np.ascontiguousarray(x[:, (x != x[:1]).any(axis=0)])


def say_constant(**arrays: FloatArray) -> bool:
    """Whether one of the variables has no column left, which is said as a warning: its information is zero."""
    for name, array in arrays.items():
        if array.shape[1] == 0:
            warnings.warn(
                f"{name}: all samples are equal, and a constant carries no information: the estimate is 0",
                EstimateWarning,
                stacklevel=3,
            )
            return True
    return False


def standardized(x: FloatArray, *, scale: bool = True) -> tuple[FloatArray, FloatArray]:
    """Columns centered near zero, with standard deviation one if asked; and how coarsely each entry is known.

    The center is a sample, so that numbers far from zero lose no digit; powers of two keep the squares in range. The
    second array holds, for each sample, the rounding of its coordinates in the units of the first (the largest over
    the columns), twice, since distances are differences.
    """
    power = np.frexp(np.abs(x).max(axis=0))[1]
    x = np.ldexp(x, -power)
    middle = np.partition(x, len(x) // 2, axis=0)[len(x) // 2]
    size = np.abs(x).max(axis=1, keepdims=True) if scale else np.abs(x)
    z = x - middle
    if scale:
        spread = z.std(axis=0)
        size = np.abs(x) / spread
        z = z / spread
    else:
        z, size = np.ldexp(z, power), np.ldexp(size, power)
    rounding = 4 * EPSILON * np.maximum(size, np.abs(z)).max(axis=1)
    return np.ascontiguousarray(z), rounding


def ranks(x: FloatArray) -> FloatArray:
    """Ranks 1 to n of each column, equal numbers at the mean of their ranks."""
    found = np.empty(x.shape[::-1])
    places = np.arange(1.0, len(x) + 1)
    for column, out in zip(np.ascontiguousarray(x.T), found, strict=True):
        order = np.argsort(column)
        ordered = column[order]
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        if len(first) == len(x):
            out[order] = places
        else:
            lengths = np.diff(np.append(first, len(x)))
            out[order] = np.repeat(first + (lengths + 1) / 2, lengths)
    return np.ascontiguousarray(found.T)


def normal_scores(x: FloatArray) -> FloatArray:
    """Each column through its ranks to a standard normal one: the quantile of rank / (n + 1)."""
    from scipy.special import ndtri

    return np.asarray(ndtri(ranks(x) / (len(x) + 1)))


def on_one_scale(x: FloatArray, transform: Transform | None) -> tuple[FloatArray, FloatArray]:
    """Columns as distances are taken between them, and the rounding of each sample's coordinates."""
    if transform == "standardize":
        return standardized(x)
    if transform == "normal_scores":
        return standardized(normal_scores(x))
    return standardized(x, scale=False)


def with_noise(x: FloatArray, jitter: float | None, rng: Any) -> FloatArray:
    """Columns that hold equal numbers with normal noise of ``jitter`` standard deviations; others as they are."""
    if jitter is None:
        return x
    size = check_number("jitter", jitter)
    if not 0 < size < 1:
        raise ArgumentError(f"jitter: found {jitter}, wanted a share of the standard deviation between 0 and 1")
    generator = random_generator(rng)
    x = x.copy()
    for column in x.T:
        ordered = np.sort(column)
        if (ordered[1:] == ordered[:-1]).any():
            top = np.abs(column).max()
            column += size * top * np.std(column / top) * generator.standard_normal(len(column))
    return x
