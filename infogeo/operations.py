"""Operations on one family: functions dispatched on the exact class, like measures, but of other shapes of result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from infogeo._arrays import requires_gradient
from infogeo.errors import ArgumentError, DomainError, UnsupportedFamilyError
from infogeo.families import Family


class Operation:
    """A function whose first argument is a batch of a family, dispatched on the exact family.

    Implementations are added with :meth:`register`, one for each family; :meth:`refuse` says why a family has none.
    The public function checks the arguments that all families have in common and calls :meth:`find`.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._registered: dict[type[Family], Callable[..., Any]] = {}
        self._refused: dict[type[Family], str] = {}
        _TABLE[name] = self

    @property
    def families(self) -> tuple[type[Family], ...]:
        """Families that have an implementation, in alphabetical order."""
        return tuple(sorted(self._registered, key=lambda family: family.__name__))

    def register(self, *families: type[Family]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that adds the implementation for one or more families.

        Raises
        ------
        ArgumentError
            If a family has one already.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            for family in families:
                if family in self._registered:
                    raise ArgumentError(f"{self.name} has an implementation for {family.__name__} already")
                self._registered[family] = function
                self._refused.pop(family, None)
            return function

        return add

    def refuse(self, family: type[Family], reason: str) -> None:
        """Say why a family has no implementation, and what to use in its place; the reason is part of the error."""
        self._refused[family] = reason

    def find(self, p: object, *, caller: str | None = None) -> Callable[..., Any]:
        """The implementation for the family of ``p``; ``caller`` stands in the error in place of the own name.

        Raises
        ------
        UnsupportedFamilyError
            If ``p`` is no family, or of one that has no implementation; the message lists those that have.
        """
        name = self.name if caller is None else caller
        listed = f"Registered families: {', '.join(f.__name__ for f in self.families) or 'none'}"
        if not isinstance(p, Family):
            raise UnsupportedFamilyError(f"{name} takes distributions, found {type(p).__name__}. {listed}")
        if type(p) not in self._registered:
            reason = self._refused.get(type(p))
            because = "" if reason is None else f": {reason}"
            raise UnsupportedFamilyError(f"{name} is not defined for {type(p).__name__}{because}. {listed}")
        check_no_gradient(caller or self.name, p)
        return self._registered[type(p)]

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


_TABLE: dict[str, Operation] = {}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(_TABLE)
"""All operations of infogeo by name, for tests that go through every one."""


def check_no_gradient(name: str, *batches: Family) -> None:
    """Raise if a batch holds tensors that record a gradient, which NumPy would drop.

    Raises
    ------
    DomainError
        If one does.
    """
    for batch in batches:
        if requires_gradient(*(getattr(batch, field) for field in batch.event_axes)):
            raise DomainError(
                f"{name}: found parameters that record gradients, but this is computed with NumPy; give a batch of "
                "detached parameters (distances and divergences do carry gradients)"
            )
