"""What every family offers: a batch of members, cut by indexing, with density, entropy and samples."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._arrays import Array, is_tensor, namespace, to_numpy
from infogeo._checks import as_floats, check_broadcast, sealed, together
from infogeo.errors import ArgumentError, ShapeError

RandomState = np.random.Generator | int | None
"""A generator, a seed, or None for fresh entropy."""


class Family(ABC):
    """A batch of members of one family of probability distributions.

    A subclass is a frozen dataclass of read-only float64 arrays. Parameters have shape ``(*batch_shape, ...)``; the
    batch shape may be empty (one member), but no axis of it may have length zero. What concerns one distribution is
    a method; what concerns two is a :class:`~infogeo.measures.Measure`, looked up by the exact class.

    Parameters of the normal families, of :class:`Categorical` and of :class:`PointMass` may be torch tensors. They are
    kept as float64 tensors on their device with their gradients recorded; densities, entropies, samples and measures
    of them are tensors. A list or an array of NumPy beside a tensor is moved to its device. Checks look at the values
    alone. Geometry beyond distances (geodesics, Fisher information, curvature, dual coordinates) is computed with
    NumPy: it reads plain tensors on the host as arrays, and refuses those that record a gradient. The other families
    do so in everything.
    """

    event_axes: ClassVar[Mapping[str, int]]
    """Fields that carry the batch, each with the number of its trailing axes that belong to one member."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, ``()`` for a single member."""
        name, axes = next(iter(self.event_axes.items()))
        shape: tuple[int, ...] = tuple(getattr(self, name).shape)
        return shape[: len(shape) - axes]

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a sample vector, or the number of outcomes of a discrete family."""

    coordinate_axes: ClassVar[Mapping[str, int]] = {}
    """Parts of the coordinates in order, each with its number of trailing axes; the event axes unless stated."""

    symmetric_parts: ClassVar[tuple[str, ...]] = ()
    """Parts that are symmetric matrices; their coordinates are the lower triangle, row by row."""

    @property
    def coordinate_size(self) -> int:
        """Number n of coordinates, the dimension of the manifold that the family is."""
        return sum(size for _, size in self._coordinate_parts().values())

    def coordinates(self) -> Array:
        """Coordinates (..., n) of the members: their parameters in the order of the fields, each flattened.

        Of a symmetric matrix the lower triangle is taken row by row: entries (0, 0), (1, 0), (1, 1), (2, 0), ...
        """
        return self.join(**{name: getattr(self, name) for name in self._coordinate_parts()})

    def with_coordinates(self, x: ArrayLike) -> Self:
        """Members that have the coordinates ``x`` (..., n), and what all members of this batch share.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length n, or there is no such member.
        """
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.name not in self.event_axes
        }
        return type(self)(**self.parameters_at(x), **shared)

    def parameters_at(self, x: ArrayLike) -> dict[str, Array]:
        """Parameters that the coordinates ``x`` (..., n) stand for, by name; the inverse of :meth:`coordinates`.

        The same as :meth:`split` unless the coordinates leave out what follows from the others
        (:class:`Categorical`). Whether there is a member with these parameters is not checked.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length n, or an entry is not finite.
        """
        return self.split(x)

    def split(self, x: ArrayLike) -> dict[str, Array]:
        """Rates of change of the coordinates (..., n) as rates of the named parameters, in the shapes of those.

        A linear map. The rate of an off-diagonal coordinate of a symmetric matrix moves both mirror entries.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length n, or an entry is not finite.
        """
        array = as_floats("x", x)
        n = self.coordinate_size
        if array.ndim == 0 or array.shape[-1] != n:
            raise ShapeError(
                f"x: found shape {tuple(array.shape)}, wanted (..., {n}), the coordinates of {type(self).__name__}"
            )
        parts, start = {}, 0
        for name, (shape, size) in self._coordinate_parts().items():
            part = array[..., start : start + size]
            if name in self.symmetric_parts:
                parts[name] = part[..., _mirrored(shape[-1])]
            else:
                parts[name] = part.reshape((*array.shape[:-1], *shape))
            start += size
        return parts

    def join(self, **parts: ArrayLike) -> Array:
        """The inverse of :meth:`split`: named parameters, or their rates of change, as one array (..., n).

        Of a symmetric matrix only the lower triangle is read.

        Raises
        ------
        ArgumentError
            If a part is missing, or there is no such part.
        ShapeError, DomainError
            If a part has not the shape of its parameter, or an entry is not finite.
        """
        wanted = self._coordinate_parts()
        if set(parts) != set(wanted):
            raise ArgumentError(f"join: found parts {sorted(parts)}, wanted {sorted(wanted)}")
        arrays = together(**{name: parts[name] for name in wanted})
        flat = []
        for (name, (shape, size)), value in zip(wanted.items(), arrays, strict=True):
            array = as_floats(name, value)
            lead = array.ndim - len(shape)
            if lead < 0 or tuple(array.shape[lead:]) != shape:
                listed = ", ".join(["...", *map(str, shape)])
                raise ShapeError(f"{name}: found shape {tuple(array.shape)}, wanted ({listed})")
            if name in self.symmetric_parts:
                rows, columns = np.tril_indices(shape[-1])
                flat.append(array[..., rows, columns])
            else:
                flat.append(array.reshape((*array.shape[:lead], size)))
        xp = namespace(*flat)
        check_broadcast(**{name: array[..., 0] for name, array in zip(wanted, flat, strict=True)})
        shape = np.broadcast_shapes(*(tuple(a.shape[:-1]) for a in flat))
        return xp.concat([xp.broadcast_to(a, (*shape, a.shape[-1])) for a in flat], axis=-1)

    def _coordinate_parts(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """Shape of each part of one member, and the number of its coordinates."""
        parts = {}
        for name, axes in (self.coordinate_axes or self.event_axes).items():
            whole = tuple(getattr(self, name).shape)
            shape = whole[len(whole) - axes :]
            size = math.prod(shape)
            parts[name] = shape, shape[-1] * (shape[-1] + 1) // 2 if name in self.symmetric_parts else size
        return parts

    @property
    def member_size(self) -> int:
        """How many numbers describe one member of the batch."""
        parameters = [getattr(self, name) for name in self.event_axes]
        shapes = (a.shape[a.ndim - k :] for a, k in zip(parameters, self.event_axes.values(), strict=True))
        return sum(math.prod(shape) for shape in shapes)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError(f"a single {type(self).__name__} has no length; a batch has")
        return self.batch_shape[0]

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Self:
        """Members of the batch, by any index NumPy knows (numbers, slices, lists, masks, None, Ellipsis).

        Basic indices give views. An index that selects no member is refused.
        """
        try:
            values = {name: cut(getattr(self, name), index, axes) for name, axes in self.event_axes.items()}
        except IndexError as error:
            raise IndexError(f"{type(self).__name__} of batch shape {self.batch_shape}: {error}") from None
        except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors that NumPy cannot read
            raise ArgumentError(f"index: found {index!r}, wanted one that NumPy knows ({error})") from error
        chosen = object.__new__(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = sealed(values[field.name]) if field.name in values else getattr(self, field.name)
            object.__setattr__(chosen, field.name, value)
        check_batch(type(self).__name__, chosen.batch_shape)
        return chosen

    @abstractmethod
    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density or log-probability at ``x`` in nats; ``x`` broadcasts against the batch."""

    @abstractmethod
    def entropy(self) -> Array:
        """Entropy in nats, of the batch shape; differential entropy for a density."""

    @abstractmethod
    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Independent draws of shape ``(*shape, *batch_shape)``, with the vector axis last if samples are vectors.

        The random numbers are those of NumPy, moved to the device of the parameters: one seed gives the same draws
        in every library. Draws of normals are a differentiable function of tensors they are drawn with.
        """

    @abstractmethod
    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and one short row per member, for tables."""


def cut(array: Array, index: Any, axes: int) -> Array:
    """Index the leading axes of an array, and leave its last ``axes`` axes whole."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    if is_tensor(array):
        lead = tuple(array.shape[: array.ndim - axes])
        if any(isinstance(part, slice) and part.step is not None and part.step < 0 for part in parts):
            # torch has no negative steps: look up the places
            places = np.ascontiguousarray(np.arange(math.prod(lead)).reshape(lead)[parts])
            return array.reshape(-1, *array.shape[len(lead) :])[places]
        parts = tuple(np.asarray(part) if isinstance(part, list) else part for part in parts)
    return array[parts + (slice(None),) * axes]


def check_batch(name: str, shape: tuple[int, ...]) -> None:
    """Raise if a batch has no members."""
    if 0 in shape:
        raise ShapeError(f"{name}: batch shape {tuple(shape)} holds no members; give at least one distribution")


def table(**columns: Array) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Column names and rows from arrays of one batch shape."""
    return tuple(columns), list(zip(*(np.ravel(to_numpy(c)).tolist() for c in columns.values()), strict=True))


def _mirrored(d: int) -> NDArray[np.int64]:
    """For each entry of a symmetric matrix (d, d) its place in the lower triangle, counted row by row."""
    i, j = np.indices((d, d))
    large, small = np.maximum(i, j), np.minimum(i, j)
    return np.asarray(large * (large + 1) // 2 + small, dtype=np.int64)
