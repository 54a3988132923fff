"""Arguments of the information plane: states, labels or vectors, groups, blocks that are left out in turn."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo._checks import FloatArray, IntArray, as_array, as_float_array, check_count, check_number
from infogeo._plane_estimators import Variable
from infogeo.errors import ArgumentError, DomainError, ShapeError

LARGEST = 1e140
"""Sums of squares of numbers up to it are in the range of float64."""


def read_layers(layers: Any) -> list[FloatArray]:
    """States of each layer (n, d) as fresh float64 arrays, or an error that names the layer."""
    single = not isinstance(layers, list | tuple)
    if single and as_array("layers", layers).ndim != 3:
        raise ShapeError(f"layers: found shape {as_array('layers', layers).shape}, wanted (layers, samples, "
                         "components), or a list of arrays (samples, components)")
    states = [as_float_array(f"layers[{i}]", t) for i, t in enumerate(layers)]
    if not states:
        raise ShapeError("layers: found no layer, wanted at least one")
    for i, t in enumerate(states):
        if t.ndim != 2 or t.shape[1] == 0:
            raise ShapeError(f"layers[{i}]: found shape {t.shape}, wanted (samples, components)")
        if len(t) != len(states[0]):
            raise ShapeError(f"layers[{i}]: found {len(t)} samples, wanted {len(states[0])} as in layers[0]")
        size = float(np.abs(t).max(initial=0.0))
        if size > LARGEST or 0 < size < 1 / LARGEST:
            raise DomainError(f"layers[{i}]: found numbers up to {size:.3g}, whose squares are out of the range of "
                              "float64; choose other units")
    if len(states[0]) < 4:
        raise ShapeError(f"layers: found {len(states[0])} samples, wanted at least 4")
    return states


def read_variable(value: Any, name: str, n: int) -> Variable:
    """Labels as numbers, vectors as float64 (n, p), or neither for None."""
    if value is None:
        return Variable(name)
    array = as_array(name, value)
    if array.ndim not in (1, 2) or len(array) != n:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted ({n},) labels or ({n}, p) vectors")
    if array.ndim == 1 and array.dtype.kind != "f":
        if array.dtype.kind not in "iubUSO":
            raise DomainError(f"{name}: found dtype {array.dtype}, wanted whole numbers or strings as labels")
        try:
            codes = np.unique(array, return_inverse=True)[1]
        except TypeError as error:
            raise DomainError(f"{name}: the labels cannot be compared with each other ({error})") from error
        return Variable(name, codes.astype(np.int64))
    vectors = as_float_array(name, array)
    if vectors.ndim == 1 and (vectors == np.rint(vectors)).all() and 2 * len(np.unique(vectors)) <= n:
        raise ArgumentError(
            f"{name}: found whole numbers as {array.dtype}; give {name}.astype(int) if they are labels, or "
            f"{name}.reshape(-1, 1) if they are vectors of one component"
        )
    return Variable(name, None, vectors.reshape(n, -1))


def read_blocks(
    group_of: IntArray, most: int, level: float | None, rng: np.random.Generator
) -> IntArray | None:
    """The block of each sample: groups dealt at random, whole, in blocks of nearly equal numbers of groups."""
    most = check_count("blocks", most, 2)
    if level is None:
        return None
    if not 0 < check_number("level", level) < 1:
        raise ArgumentError(f"level: found {level}, wanted a number between 0 and 1, or None")
    n_groups = int(group_of.max()) + 1
    if n_groups < 3:
        raise ArgumentError(
            f"groups: found {n_groups}, wanted at least 3 for an interval; give more texts or level=None"
        )
    return np.asarray(rng.permutation(np.arange(n_groups) % min(most, n_groups))[group_of])


def leading(t: FloatArray, components: int, layer: int) -> FloatArray:
    """The states on their leading principal directions (n, count)."""
    count = check_count("components", components, 1)
    if count > min(t.shape):
        raise ArgumentError(f"components: found {count}, but layer {layer} has shape {t.shape}")
    centered = t - t.mean(axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    return np.asarray(centered @ vectors[:, np.argsort(values)[::-1][:count]])
