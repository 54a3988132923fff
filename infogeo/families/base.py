"""What every family offers: a batch of members, cut by indexing, with density, entropy and samples."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, as_float_array
from infogeo.errors import ArgumentError, ShapeError

RandomState = np.random.Generator | int | None
"""A generator, a seed, or None for fresh entropy."""


class Family(ABC):
    """A batch of members of one family of probability distributions.

    A subclass is a frozen dataclass of read-only float64 arrays. Parameters have shape ``(*batch_shape, ...)``; the
    batch shape may be empty (one member), but no axis of it may have length zero. What concerns one distribution is
    a method; what concerns two is a :class:`~infogeo.measures.Measure`, looked up by the exact class.
    """

    event_axes: ClassVar[Mapping[str, int]]
    """Fields that carry the batch, each with the number of its trailing axes that belong to one member."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, ``()`` for a single member."""
        name, axes = next(iter(self.event_axes.items()))
        shape: tuple[int, ...] = getattr(self, name).shape
        return shape[: len(shape) - axes]

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a sample vector, or the number of outcomes of a discrete family."""

    coordinate_axes: ClassVar[Mapping[str, int]] = {}
    """Parts of the coordinates in order, each with its number of trailing axes; the event axes unless stated."""

    @property
    def coordinate_size(self) -> int:
        """Number n of coordinates, the dimension of the manifold that the family is."""
        axes = self.coordinate_axes or self.event_axes
        shapes = [(getattr(self, name).shape, k) for name, k in axes.items()]
        return sum(int(np.prod(shape[len(shape) - k :])) for shape, k in shapes)

    def coordinates(self) -> FloatArray:
        """Coordinates (..., n) of the members: their parameters in the order of the fields, each flattened."""
        return self.join(**{name: getattr(self, name) for name in self.coordinate_axes or self.event_axes})

    def with_coordinates(self, x: ArrayLike) -> Self:
        """Members that have the coordinates ``x`` (..., n), and what all members of this batch share.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length n, or there is no such member.
        """
        parts = self.split(x)
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.name not in self.event_axes
        }
        return type(self)(**parts, **shared)

    def split(self, x: ArrayLike) -> dict[str, FloatArray]:
        """Coordinates, or rates of change of coordinates, (..., n) as named parts in the shapes of the parameters."""
        array = as_float_array("x", x)
        n = self.coordinate_size
        if array.ndim == 0 or array.shape[-1] != n:
            raise ShapeError(
                f"x: found shape {array.shape}, wanted (..., {n}), the coordinates of {type(self).__name__}"
            )
        parts, start = {}, 0
        for name, axes in (self.coordinate_axes or self.event_axes).items():
            whole = getattr(self, name).shape
            shape = whole[len(whole) - axes :]
            stop = start + int(np.prod(shape))
            parts[name] = array[..., start:stop].reshape(*array.shape[:-1], *shape)
            start = stop
        return parts

    def join(self, **parts: ArrayLike) -> FloatArray:
        """The inverse of :meth:`split`: named parts, parameters or their rates of change, as one array (..., n)."""
        axes = self.coordinate_axes or self.event_axes
        if set(parts) != set(axes):
            raise ArgumentError(f"join: found parts {sorted(parts)}, wanted {sorted(axes)}")
        flat = []
        for name, k in axes.items():
            array = as_float_array(name, parts[name])
            flat.append(array.reshape(*array.shape[: array.ndim - k], -1))
        shape = np.broadcast_shapes(*(a.shape[:-1] for a in flat))
        return np.concatenate([np.broadcast_to(a, (*shape, a.shape[-1])) for a in flat], axis=-1)

    @property
    def member_size(self) -> int:
        """How many numbers describe one member of the batch."""
        parameters: list[NDArray[Any]] = [getattr(self, name) for name in self.event_axes]
        shapes = (a.shape[a.ndim - k :] for a, k in zip(parameters, self.event_axes.values(), strict=True))
        return sum(int(np.prod(shape)) for shape in shapes)

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
        chosen = object.__new__(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = values.get(field.name, getattr(self, field.name))
            value.setflags(write=False)
            object.__setattr__(chosen, field.name, value)
        check_batch(type(self).__name__, chosen.batch_shape)
        return chosen

    @abstractmethod
    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density or log-probability at ``x`` in nats; ``x`` broadcasts against the batch."""

    @abstractmethod
    def entropy(self) -> FloatArray:
        """Entropy in nats, of the batch shape; differential entropy for a density."""

    @abstractmethod
    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> NDArray[Any]:
        """Independent draws of shape ``(*shape, *batch_shape)``, with the vector axis last if samples are vectors."""

    @abstractmethod
    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and one short row per member, for tables."""


def cut(array: NDArray[Any], index: Any, axes: int) -> NDArray[Any]:
    """Index the leading axes of an array, and leave its last ``axes`` axes whole."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    chosen: NDArray[Any] = array[parts + (slice(None),) * axes]
    return chosen


def check_batch(name: str, shape: tuple[int, ...]) -> None:
    """Raise if a batch has no members."""
    if 0 in shape:
        raise ShapeError(f"{name}: batch shape {shape} holds no members; give at least one distribution")


def table(**columns: NDArray[Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Column names and rows from arrays of one batch shape."""
    return tuple(columns), list(zip(*(np.ravel(c).tolist() for c in columns.values()), strict=True))
