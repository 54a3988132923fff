"""Arrays of NumPy and of torch through one interface, the array-API standard; a leaf of the import graph.

torch is never imported here: what a tensor needs is reached through the tensor.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from infogeo.errors import DomainError

Array = Any
"""An array of NumPy or a torch tensor."""

OF_NUMPY = (np.ndarray, np.generic)
"""What NumPy calls an array or a scalar; looked for first, since most arrays are."""


SMALL = 1e-130
"""The squares of numbers above it, and of numbers below its inverse, are normal numbers of float64."""


def namespace(*arrays: Array) -> Any:
    """The array-API namespace that all the arrays belong to."""
    for x in arrays:
        if not isinstance(x, OF_NUMPY):
            return array_namespace(*arrays)
    return numpy_namespace


def is_tensor(x: object) -> bool:
    """Whether ``x`` is a torch tensor."""
    return not isinstance(x, OF_NUMPY) and bool(is_torch_array(x))


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
    """A NumPy array in the library and on the device of ``other``, in its own dtype; a tensor of it is a copy."""
    if not is_tensor(other):
        return x
    xp = namespace(other)
    return xp.asarray(np.array(x, order="C"), device=other.device)


def as_result(x: Array) -> Array:
    """The same values as an array of at least no axes; what NumPy made a scalar is an array again."""
    return x if is_tensor(x) else np.asarray(x)


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays have the same shape and values, compared where they are if they are of one library."""
    if is_tensor(a) and is_tensor(b) and a.device == b.device:
        return tuple(a.shape) == tuple(b.shape) and bool((a.detach() == b.detach()).all())
    return bool(np.array_equal(to_numpy(a), to_numpy(b)))


def cholesky(x: Array) -> Array | None:
    """Lower triangular factors of symmetric matrices (..., d, d); None if one is not positive definite."""
    try:
        return namespace(x).linalg.cholesky(x)
    except (ValueError, RuntimeError) as error:
        if "LinAlgError" not in type(error).__name__:
            raise
        return None


def solve_triangular(factor: Array, right: Array, *, overwrite: bool = False) -> Array:
    """Solve ``factor @ y = right`` for lower triangular factors (..., d, d) and matrices (..., d, k), which broadcast.

    With ``overwrite`` the memory of ``right`` may be used for the answer.
    """
    xp = namespace(factor, right)
    if is_tensor(right):
        return xp.linalg.solve_triangular(factor, right, upper=False)
    if factor.ndim == right.ndim == 2:
        from scipy import linalg

        return linalg.solve_triangular(factor, right, lower=True, overwrite_b=overwrite, check_finite=False)
    return xp.linalg.solve(factor, right)


def root(x: Array) -> Array:
    """Square root of non-negative numbers; its gradient at zero is zero, not infinite."""
    xp = namespace(x)
    if not requires_gradient(x):
        return xp.sqrt(x)
    nothing = x == 0
    return xp.where(nothing, 0.0, xp.sqrt(xp.where(nothing, 1.0, x)))


def hypotenuse(a: Array, b: Array) -> Array:
    """Root of the sum of two squares without overflow; its gradient where both are zero is zero."""
    xp = namespace(a, b)
    if not requires_gradient(a, b):
        return xp.hypot(a, b)
    a, b = xp.broadcast_arrays(a, b)
    return length(xp.stack([a, b], axis=-1))


def applied(shift: Array, where: Array) -> Array:
    """A correction where it is called for and zero elsewhere; the gradient is that of the correction everywhere."""
    xp = namespace(shift)
    if not requires_gradient(shift):
        return xp.where(where, shift, 0.0)
    return xp.where(where, shift, shift - shift.detach())


def length(x: Array, *, axis: int = -1) -> Array:
    """Euclidean length along an axis, right also where the squares leave the range of float64.

    Its gradient at zero is zero (the least of the subgradients), not NaN.
    """
    xp = namespace(x)
    if not is_tensor(x):
        return _length(x, axis)
    top = xp.max(xp.abs(detached(x)), axis=axis, keepdims=True)
    if not requires_gradient(x):
        top = xp.where(top > 0, top, xp.ones_like(top))
        return xp.linalg.vector_norm(x / top, axis=axis) * xp.squeeze(top, axis=axis)
    nothing = top == 0
    safe = xp.where(nothing, xp.ones_like(x), x) / xp.where(nothing, xp.ones_like(top), top)
    root = xp.sqrt(xp.sum(safe * safe, axis=axis))
    return root * xp.squeeze(top, axis=axis)


def _length(x: NDArray[Any], axis: int) -> Array:
    """Lengths of NumPy's vectors: by squares, and again by scaled ones where those were too large or too small."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        plain: Array = numpy_namespace.linalg.vector_norm(x, axis=axis)
    lost = ~((plain > SMALL) & (plain < 1 / SMALL))
    if not lost.any():
        return plain
    rows = np.moveaxis(x, axis, -1)[lost]
    top = np.abs(rows).max(axis=-1, keepdims=True)
    known = (top > 0) & np.isfinite(top)
    with np.errstate(over="ignore"):
        scaled = np.linalg.norm(rows / np.where(known, top, 1.0), axis=-1) * np.where(known, top, 1.0)[..., 0]
    if np.ndim(plain) == 0:
        return scaled[0]
    plain[lost] = scaled
    return plain


def with_gradients(value: Array, *parts: tuple[Array, Array]) -> Array:
    """A value of shape (...,) whose gradient to each parameter is given rather than recorded.

    Each part is a parameter of shape ``(..., *event)`` and the gradient of the value to it, of a shape that broadcasts
    to ``(*value.shape, *event)``. Only first derivatives are carried: a second one raises a DomainError rather than
    coming out wrong. NumPy arrays come back as they are.
    """
    result = detached(value)
    for parameter, gradient in parts:
        if not requires_gradient(parameter):
            continue
        xp = namespace(parameter)
        nothing = parameter - parameter.detach()
        slope = gradient.detach() + nothing
        if slope.requires_grad:
            slope.register_hook(_refuse_second_derivative)
        change = nothing * slope
        axes = tuple(range(result.ndim - change.ndim, 0))
        result = result + (xp.sum(change, axis=axes) if axes else change)
    return result


def _refuse_second_derivative(gradient: Array) -> None:
    """Hook of a slope, which a first derivative multiplies by zero."""
    if gradient is None:
        return
    try:
        second = bool((abs(gradient) > 0).any())
    except RuntimeError:  # torch.vmap, which lets nobody look at values
        return
    if second:
        raise DomainError(
            "found a second derivative of a value whose first one is given in closed form and not recorded; take it "
            "by differences of the first"
        )
