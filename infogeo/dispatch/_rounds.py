"""Batches of pairs, flat and in portions, for kernels that need much memory for a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo._checks import FloatArray


def pairs(p: Any, q: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """Both batches flat, repeated to the shape that their batch shapes broadcast to, and that shape."""
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    return flat(p, shape), flat(q, shape), shape


def flat(p: Any, shape: tuple[int, ...]) -> Any:
    """The members repeated to a batch shape, as a batch with one axis."""
    parameters = {}
    for name, axes in p.event_axes.items():
        array = getattr(p, name)
        event = array.shape[array.ndim - axes :]
        parameters[name] = np.broadcast_to(array, (*shape, *event)).reshape(-1, *event)
    return type(p)(**parameters)


def shaped(p: Any, shape: tuple[int, ...]) -> Any:
    """The members of any batch with as many of them, in another batch shape."""
    lead = len(p.batch_shape)
    arrays = {name: getattr(p, name) for name in p.event_axes}
    return type(p)(**{name: array.reshape((*shape, *array.shape[lead:])) for name, array in arrays.items()})


def in_rounds(kernel: Callable[[Any, Any], FloatArray], size: int) -> Callable[[Any, Any], FloatArray]:
    """The kernel on so many pairs at a time: what it holds beside the pairs themselves does not grow with them."""

    def whole(p: Any, q: Any) -> FloatArray:
        one, two, shape = pairs(p, q)
        values = np.empty(len(one))
        for i in range(0, len(values), size):
            rows = slice(i, i + size)
            values[rows] = kernel(one[rows], two[rows])
        return values.reshape(shape)

    return whole
