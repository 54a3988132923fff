"""Arrays of NumPy and of torch through one interface, the array-API standard; a leaf of the import graph.

torch is never imported here: what a tensor needs is reached through the tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

Array = Any
"""An array of NumPy or a torch tensor."""


def namespace(*arrays: Array) -> Any:
    """The array-API namespace that all the arrays belong to."""
    return array_namespace(*arrays)


def is_tensor(x: object) -> bool:
    """Whether ``x`` is a torch tensor."""
    return bool(is_torch_array(x))


def requires_gradient(*arrays: Array) -> bool:
    """Whether one of the arrays is a tensor that records a gradient."""
    return any(is_tensor(x) and x.requires_grad for x in arrays)


def detached(x: Array) -> Array:
    """The same values without a record of gradients; a NumPy array as it is."""
    return x.detach() if is_tensor(x) else x


def to_numpy(x: Array) -> NDArray[Any]:
    """The values as a NumPy array on the host, without a record of gradients."""
    return np.asarray(x.detach().cpu().numpy() if is_tensor(x) else x)


def like(x: NDArray[Any], other: Array) -> Array:
    """A NumPy array moved to the library and device of ``other``, in its own dtype."""
    if not is_tensor(other):
        return x
    xp = namespace(other)
    return xp.asarray(np.ascontiguousarray(x), device=other.device)


def length(x: Array, *, axis: int = -1) -> Array:
    """Euclidean length along an axis; its gradient at zero is zero (the least of the subgradients), not NaN."""
    xp = namespace(x)
    if not requires_gradient(x):
        return xp.linalg.vector_norm(x, axis=axis)
    top = xp.max(xp.abs(detached(x)), axis=axis, keepdims=True)
    nothing = top == 0
    safe = xp.where(nothing, xp.ones_like(x), x) / xp.where(nothing, xp.ones_like(top), top)
    root = xp.sqrt(xp.sum(safe * safe, axis=axis))
    return root * xp.squeeze(top, axis=axis)


def with_gradients(value: Array, *parts: tuple[Array, Array]) -> Array:
    """A value of shape (...,) whose gradient to each parameter is given rather than recorded.

    Each part is a parameter of shape ``(..., *event)`` and the gradient of the value to it, of a shape that broadcasts
    to ``(*value.shape, *event)``. Only first derivatives are carried. NumPy arrays come back as they are.
    """
    result = detached(value)
    for parameter, gradient in parts:
        if not requires_gradient(parameter):
            continue
        xp = namespace(parameter)
        change = (parameter - parameter.detach()) * gradient.detach()
        axes = tuple(range(result.ndim - change.ndim, 0))
        result = result + (xp.sum(change, axis=axes) if axes else change)
    return result
