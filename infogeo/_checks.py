"""Checks of arguments, shared by all modules; imports nothing but the arrays and the errors."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._arrays import Array, detached, is_tensor, like, namespace, to_numpy
from infogeo.errors import ArgumentError, DomainError, ShapeError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Found = TypeVar("Found")


def as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """An array of any dtype, the given one if it is an array already; ragged rows are refused.

    A plain tensor on the host is read as an array; one that records a gradient, or lives on a device, is refused.
    """
    if is_tensor(value):
        return _read_tensor(name, value)
    if np.ma.is_masked(value):
        raise DomainError(f"{name}: found a masked array with masked entries; give all entries, or leave those out")
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


def _read_tensor(name: str, tensor: Array) -> NDArray[Any]:
    check_tensor(name, tensor)
    found = None
    if tensor.requires_grad:
        found = "a tensor that records a gradient"
    elif tensor.device.type != "cpu":
        found = f"a tensor on {tensor.device}"
    if found is not None:
        raise DomainError(
            f"{name}: found {found}, but this is computed with NumPy; give {name}.detach().cpu() if no gradient is "
            "needed (normals, Categorical and PointMass made of tensors compute with torch)"
        )
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not know
        return np.asarray(tensor.float().numpy())
    return np.asarray(tensor.numpy())


def check_tensor(name: str, tensor: Array) -> None:
    """Raise unless a tensor holds real numbers, in the plain layout."""
    if tensor.device.type == "meta":
        raise DomainError(f"{name}: found a tensor on the meta device, which holds no numbers; give one with values")
    if str(tensor.layout) != "torch.strided" or tensor.is_nested:
        raise DomainError(f"{name}: found a sparse or nested tensor, wanted a dense one; give {name}.to_dense()")
    if tensor.dtype.is_complex or tensor.is_quantized:
        raise DomainError(f"{name}: found dtype {tensor.dtype}, wanted real numbers")


def as_floats(name: str, value: Any, *, finite: bool = True) -> Array:
    """As :func:`as_float_array`, but a tensor stays one: a fresh float64 tensor where it was, gradients recorded."""
    if not is_tensor(value):
        return as_float_array(name, value, finite=finite)
    check_tensor(name, value)
    xp = namespace(value)
    array = xp.astype(value, xp.float64)
    if finite and not xp.isfinite(detached(array)).all():
        given = to_numpy(array)
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
        raise DomainError(f"{name}: entry {where} is {given[where]}; all entries must be finite")
    return array


def together(**values: Any) -> tuple[Any, ...]:
    """Parameters in one library: beside a tensor, everything else is turned into float64 tensors on its device.

    Without a tensor the values come back as they are. Tensors on several devices are refused.
    """
    tensors = {name: value for name, value in values.items() if is_tensor(value)}
    if not tensors or len(tensors) == len(values) == 1:
        return tuple(values.values())
    devices = {name: value.device for name, value in tensors.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise DomainError(f"found tensors on several devices: {listed}; move all to one")
    first = next(iter(tensors.values()))
    if first.device.type == "meta":
        return tuple(values.values())
    return tuple(
        value if name in tensors else like(as_float_array(name, value, finite=False), first)
        for name, value in values.items()
    )


def beside(name: str, value: Any, other: Array) -> Array:
    """An argument as float64 numbers in the library, and on the device, of a parameter."""
    if not is_tensor(other):
        return as_float_array(name, value)
    return as_floats(name, together(parameters=other, **{name: value})[1])


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


def check_flag(name: str, value: Any) -> bool:
    """True or False, or an error that names the argument; nothing else is taken for either."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name}: found {value!r}, wanted True or False")
    return bool(value)


def check_memory(name: str, value: Any) -> float:
    """A finite, positive number of bytes, or an error that names the argument."""
    number = check_number(name, value)
    if not 0 < number < np.inf:
        raise ArgumentError(f"{name}: found {number}, wanted a finite, positive number of bytes")
    return number


def check_progress(progress: Any) -> None:
    """Raise unless there is no progress to be told, or something to call with two numbers."""
    if progress is not None and not callable(progress):
        raise ArgumentError(
            f"progress: found {type(progress).__name__}, wanted a function of (done, total), such as progress_bar gives"
        )


def group_numbers(groups: Any, n: int) -> IntArray:
    """(n,) groups of samples as numbers from 0, without gaps; each sample by itself if there are none."""
    if groups is None:
        return np.arange(n)
    named = as_array("groups", groups)
    if named.shape != (n,):
        raise ShapeError(f"groups: found shape {named.shape}, wanted ({n},), one for each sample")
    if named.dtype.kind not in "iubfSU":
        raise DomainError(f"groups: found dtype {named.dtype}, wanted whole numbers or strings")
    if named.dtype.kind == "f" and (named != np.floor(named)).any():
        odd = named[np.flatnonzero(named != np.floor(named))[0]]
        raise DomainError(f"groups: found {odd}, which names no group; wanted whole numbers or strings")
    return np.asarray(np.unique(named, return_inverse=True)[1], dtype=np.int64)


def check_number(name: str, value: Any) -> float:
    """One real number, not NaN, or an error that names the argument."""
    array = as_array(name, value)
    if array.ndim > 0 or array.dtype.kind not in "fiu":
        raise ArgumentError(f"{name}: found {value!r}, wanted a number")
    if np.isnan(array):
        raise ArgumentError(f"{name}: found NaN, wanted a number")
    return float(array)


def check_points(x: Found, batch_shape: tuple[int, ...], axes: int = 0) -> Found:
    """The points of a ``log_prob``, unless their shape before the last ``axes`` axes does not fit the batch."""
    shape: tuple[int, ...] = tuple(x.shape)  # type: ignore[attr-defined]
    try:
        np.broadcast_shapes(shape[: len(shape) - axes], batch_shape)
    except ValueError:
        raise ShapeError(
            f"x: shape {shape} does not broadcast against the batch shape {batch_shape}; for every point at every "
            f"member give x with {len(batch_shape)} axes of length 1 after its own"
        ) from None
    return x


def random_generator(rng: Any, shape: Any = ()) -> np.random.Generator:
    """The generator of a ``sample``, whose ``shape`` is a tuple of lengths, or an error that names the argument."""
    if not isinstance(shape, tuple | list):
        raise ArgumentError(f"shape: found {shape!r}, wanted a tuple of whole numbers, such as (1000,)")
    for length in shape:
        check_count("shape", length, 0)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"rng: found {rng!r}, wanted None, a whole number of at least 0, or a numpy.random.Generator"
        ) from error


def apart_from_data(generator: np.random.Generator) -> np.random.Generator:
    """A generator for noise whose numbers are none of those that the same seed gave the caller.

    Data and noise that are both drawn from ``default_rng(0)`` would be the same numbers, and the noise no noise.
    """
    return np.random.default_rng(generator.integers(2**63, size=4))


def within_range(caller: str, compute: Callable[[], Found]) -> Found:
    """The array, or batch, that a computation gives, or an error if it left the range of float64 on the way."""
    with np.errstate(all="ignore"):
        try:
            result = compute()
        except np.linalg.LinAlgError:
            finite = False
        else:
            if is_dataclass(result):
                parts = (getattr(result, field.name) for field in fields(result))
                values = [to_numpy(part) for part in parts if is_tensor(part) or isinstance(part, np.ndarray)]
                finite = not any((np.isnan(v) | (v == np.inf)).any() for v in values)
            else:
                finite = bool(np.isfinite(to_numpy(result)).all())
    if not finite:
        raise DomainError(
            f"{caller}: a number on the way to the result is out of the range of float64, or no digit of it is left; "
            "choose other units, so that parameters and velocities are nearer to 1"
        )
    return result


def check_broadcast(**arrays: Array) -> None:
    """Raise unless the shapes broadcast; the message names the arrays."""
    try:
        np.broadcast_shapes(*(tuple(a.shape) for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in arrays.items())
        raise ShapeError(f"shapes do not broadcast: {shapes}") from None


def sum_tolerance(dtype: np.dtype[Any]) -> float:
    """How far from one probabilities of a dtype may sum by rounding alone.

    1e-9, or 32 machine epsilons if that is coarser, but no more than 0.008, which is one rounding error of a float16
    logarithm between -16 and -32.
    """
    return rounding_of_sums(float(np.finfo(dtype).eps)) if dtype.kind == "f" else 1e-9


def rounding_of_sums(epsilon: float) -> float:
    """The tolerance of :func:`sum_tolerance` for a machine epsilon."""
    return min(max(1e-9, 32 * epsilon), 0.008)


def input_tolerance(value: Any) -> float:
    """The tolerance of :func:`sum_tolerance` for the number format of what was given, an array or a tensor."""
    if not is_tensor(value):
        return sum_tolerance(np.asarray(value).dtype)
    floating = value.dtype.is_floating_point
    return rounding_of_sums(float(namespace(value).finfo(value.dtype).eps)) if floating else 1e-9


def check_sums(name: str, total: Array, tolerance: float, *, logarithms: str = "Categorical.from_logits") -> None:
    """Raise unless all sums are one; the message names the row, its sum and what normalizes on purpose."""
    total = detached(total) if is_tensor(total) else np.asarray(total)
    bad = ~(abs(total - 1.0) <= tolerance)
    if bad.any():
        total = to_numpy(total)
        where = tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])
        which = f"row {where[0] if len(where) == 1 else where}" if where else "the row"
        raise DomainError(
            f"{name}: the probabilities of {which} sum to {total[where]:.12g}, wanted 1 within {tolerance:.2g}; "
            f"to normalize on purpose, use Categorical.from_counts (weights) or {logarithms} (logarithms)"
        )


def check_shape(name: str, array: Array, wanted: tuple[int | None, ...]) -> None:
    """Raise unless the shape equals ``wanted``; None stands for any length."""
    if array.ndim != len(wanted) or any(w is not None and w != s for w, s in zip(wanted, array.shape, strict=True)):
        shown = "(" + ", ".join("any" if w is None else str(w) for w in wanted) + ")"
        raise ShapeError(f"{name}: found shape {tuple(array.shape)}, wanted {shown}")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy; the array that was given stays as it was, and no view of it reaches the copy."""
    copy: NDArray[Any] = sealed(array.copy())
    return copy


def sealed(array: Array) -> Array:
    """The same array, set read-only; only for an array that the caller has just made and gave to nobody else.

    A tensor cannot be set read-only, and comes back as it is.
    """
    if not is_tensor(array):
        array.setflags(write=False)
    return array
