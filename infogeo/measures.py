"""Measures between distributions: functions of two members of one family that know their own properties."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from infogeo._arrays import Array, equal, is_tensor
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.families import Family, Gaussian

Kernel = Callable[[Any, Any], Array]
"""Value of a measure for two batches of one family whose batch shapes broadcast."""


@dataclass(frozen=True)
class BlockKernel:
    """A way to compute a whole block of a matrix at once, cheaper than pair by pair."""

    prepare: Callable[[Any], Any]
    """Turns a batch of shape (n,) into what every block needs, once."""
    evaluate: Callable[[Any, slice, slice, float], Array]
    """(prepared, rows, columns, memory) to the values of the block; memory bounds extra temporaries, in bytes.

    The next call of the same thread may overwrite them. The diagonal of the matrix need not be right, nor what lies
    below it in a square block (rows == columns) of a symmetric measure."""
    scratch: int
    """Temporaries per entry of a block, counted in float64 numbers."""
    tile: tuple[int, int] | None = None
    """Height and width at which NumPy is fastest, for a kernel that works entry by entry in the cache; None for a
    matrix product, which is faster the larger the block."""


@dataclass(frozen=True)
class Registration:
    """What a measure knows about one family."""

    kernel: Kernel
    metric: bool
    """True if the measure satisfies the axioms of a metric on this family."""
    scratch: int
    """Temporaries of the kernel per pair, in multiples of the size of a member."""
    block: BlockKernel | None
    partial: bool = False
    """True if only some pairs of the family have a value, as normals of one dimension do."""


class Measure:
    """A function of two distributions of one family, dispatched on the exact family.

    Call it as ``measure(p, q)``: batch shapes broadcast, and the values have the broadcast shape. Kernels are added
    with :meth:`register`, one for each family.

    Parameters
    ----------
    name : str
    symmetric : bool
        Whether ``measure(p, q) == measure(q, p)``.
    metric : bool
        Whether it satisfies the axioms of a metric, the triangle inequality among them. A family can say otherwise.
    doc : str
        Docstring of the measure.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian, fisher_rao_distance, kl_divergence
    >>> fisher_rao_distance.symmetric, fisher_rao_distance.is_metric(DiagonalGaussian)
    (True, True)
    >>> kl_divergence.symmetric, kl_divergence.is_metric(DiagonalGaussian)
    (False, False)
    """

    def __init__(self, name: str, *, symmetric: bool, metric: bool, doc: str = "") -> None:
        if metric and not symmetric:
            raise ArgumentError(f"{name}: a metric is symmetric; found symmetric=False, metric=True")
        self.name = name
        self.symmetric = symmetric
        self._metric = metric
        self._registered: dict[type[Family], Registration] = {}
        self._refused: dict[type[Family], str] = {}
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc

    @property
    def families(self) -> tuple[type[Family], ...]:
        """Families of which every pair has a value, in alphabetical order."""
        whole = (family for family, known in self._registered.items() if not known.partial)
        return tuple(sorted(whole, key=lambda family: family.__name__))

    def is_metric(self, family: type[Family]) -> bool:
        """Whether the measure is a metric on a family.

        Raises
        ------
        UnsupportedFamilyError
            If the family has no kernel.
        """
        return self.registration(family).metric

    def register(
        self,
        family: type[Family],
        *,
        scratch: int,
        metric: bool | None = None,
        block: BlockKernel | None = None,
        partial: bool = False,
    ) -> Callable[[Kernel], Kernel]:
        """Decorator that adds the kernel of a family.

        Parameters
        ----------
        family : type
            Looked up exactly: a subclass needs a kernel of its own.
        scratch : int
            Temporaries of the kernel per pair, in multiples of :attr:`Family.member_size`; :func:`pairwise` keeps to
            its memory with it.
        metric : bool, optional
            Whether the measure is a metric on this family, where that differs from the measure at large.
        block : BlockKernel, optional
            A way to compute whole blocks of pairs.
        partial : bool
            Whether only some pairs of the family have a value; the kernel raises a DomainError for the others.

        Raises
        ------
        ArgumentError
            If the family has a kernel already.
        """
        if family in self._registered:
            raise ArgumentError(f"{self.name} has a kernel for {family.__name__} already; a second one is refused")
        is_metric = self._metric if metric is None else metric

        def add(kernel: Kernel) -> Kernel:
            self._registered[family] = Registration(kernel, is_metric, scratch, block, partial)
            self._refused.pop(family, None)
            return kernel

        return add

    def refuse(self, family: type[Family], reason: str) -> None:
        """Say why a family has no kernel, and what to use in its place; the reason is part of the error."""
        self._refused[family] = reason

    def registration(self, family: type[Family]) -> Registration:
        """What is known about a family.

        Raises
        ------
        UnsupportedFamilyError
            If the family has no kernel; the message lists those that have.
        """
        if family not in self._registered:
            reason = self._refused.get(family)
            raise UnsupportedFamilyError(
                f"{self.name} is not defined for {family.__name__}{'' if reason is None else f': {reason}'}. "
                f"{self._list_families()}"
            )
        return self._registered[family]

    def __call__(self, p: Family, q: Family) -> Array:
        """The measure of two batches of one family, of the shape their batch shapes broadcast to.

        Of families made of tensors a float64 tensor on their device, with gradients recorded; otherwise an array of
        NumPy. At coincident members the gradient of a distance is taken to be zero. Second derivatives hold where the
        formula is recorded; where the gradient is given in closed form (the exact distance of full normals, the Bures
        distance) they are refused by a DomainError.

        Raises
        ------
        UnsupportedFamilyError
            If the two are of different families, or of one that has no kernel.
        ShapeError
            If the dimensions differ or the batch shapes do not broadcast.
        DomainError
            If the pair lies outside the domain of the kernel, as normals with unequal shared covariances do, or one is
            made of tensors and the other of arrays of NumPy, or of tensors on another device.
        """
        for side in (p, q):
            if not isinstance(side, Family):
                raise UnsupportedFamilyError(
                    f"{self.name} compares distributions, found {type(side).__name__}; wrap plain vectors as "
                    f"PointMass(vectors). {self._list_families()}"
                )
        check_pair(self.name, p, q, listed=self._list_families())
        kernel = self.registration(type(p)).kernel
        value = kernel(p, q)
        return value if is_tensor(value) else np.asarray(value, dtype=np.float64)

    def __repr__(self) -> str:
        return f"<measure {self.name}>"

    def __reduce__(self) -> str:
        return self.name

    def _list_families(self) -> str:
        return f"Registered families: {', '.join(f.__name__ for f in self.families) or 'none'}"


def check_family(name: str, p: object, *, listed: str = "") -> None:
    """Raise unless the argument is a batch of a family; ``listed`` ends the message."""
    if not isinstance(p, Family):
        raise UnsupportedFamilyError(f"{name} takes distributions, found {type(p).__name__}. {listed}".rstrip())


def check_pair(name: str, p: Family, q: object, *, listed: str = "") -> None:
    """Raise unless two batches are of one family and dimension, broadcast, and share what each batch shares.

    Raises
    ------
    UnsupportedFamilyError
        If the families differ; ``listed`` ends the message.
    ShapeError
        If dimensions or batch shapes do not fit.
    DomainError
        If what all members of a batch share (a covariance, a number of trials) differs, or the two are not made of
        arrays of one library and device.
    """
    check_family(name, p, listed=listed)
    if type(p) is not type(q):
        normal = all(isinstance(side, Gaussian) or hasattr(side, "to_full") for side in (p, q))
        hint = "; to_full() turns normals into Gaussian" if normal else ""
        raise UnsupportedFamilyError(
            f"{name} needs two distributions of one family, found {type(p).__name__} and "
            f"{type(q).__name__}{hint}. {listed}".rstrip()
        )
    if p.dimension != q.dimension:
        raise ShapeError(f"{name}: found dimensions {p.dimension} and {q.dimension}, wanted equal ones")
    try:
        np.broadcast_shapes(p.batch_shape, q.batch_shape)
    except ValueError:
        raise ShapeError(
            f"{name}: batch shapes {p.batch_shape} and {q.batch_shape} do not broadcast; for all pairs use pairwise"
        ) from None
    places = [_place(side) for side in (p, q)]
    if places[0] != places[1]:
        raise DomainError(
            f"{name}: found a {type(p).__name__} of {places[0]} and one of {places[1]}, wanted both of one library and "
            "device; build both from tensors on one device, or both from arrays of NumPy"
        )
    for field in dataclasses.fields(p):  # type: ignore[arg-type]
        if field.name in p.event_axes:
            continue
        a, b = getattr(p, field.name), getattr(q, field.name)
        if a is b or equal(a, b):
            continue
        if field.name == "cov":
            raise DomainError(
                f"{name}: the two {type(p).__name__} batches have different covariances; build both with one "
                "covariance, or turn them into Gaussian with to_full()"
            )
        raise DomainError(
            f"{name}: found {field.name} {a} and {b}, wanted the same for both batches of {type(p).__name__}"
        )


def _place(p: Family) -> str:
    """Where the parameters of a batch are, in words."""
    parameter = getattr(p, next(iter(p.event_axes)))
    return f"tensors on {parameter.device}" if is_tensor(parameter) else "arrays of NumPy"


_TABLE: dict[str, Measure] = {}

MEASURES: Mapping[str, Measure] = MappingProxyType(_TABLE)
"""All measures of infogeo by name, for command lines and tests that go through every one."""


def measure(*, symmetric: bool, metric: bool) -> Callable[[Callable[[Any, Any], Array]], Measure]:
    """Decorator that turns a documented, empty function into a :class:`Measure` of its name, listed in ``MEASURES``.

    Raises
    ------
    ArgumentError
        If a measure of that name exists.
    """

    def make(function: Callable[[Any, Any], Array]) -> Measure:
        name = function.__name__
        if name in _TABLE:
            raise ArgumentError(f"a measure named {name} exists already")
        made = Measure(name, symmetric=symmetric, metric=metric)
        functools.update_wrapper(made, function)
        _TABLE[name] = made
        return made

    return make
