"""Words as probability distributions, and the distances between them: the middle of the path."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray, IntArray, as_float_array, as_int_array, check_count, check_shape, sealed
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source

if TYPE_CHECKING:
    from infogeo.families import Family

Level = Literal["occurrence", "type"]


@dataclass(frozen=True, eq=False, kw_only=True)
class WordDistributions(Result):
    """One distribution per word: the points whose distances say how words relate."""

    words: tuple[str, ...]
    distribution: Family
    """A batch of n members of one family."""
    observations: IntArray
    """(n,) how many numbers or occurrences stand behind each distribution."""
    level: Level
    """Whether a word is an occurrence in a text or a type with many occurrences."""
    layer: int
    """0 is the embedding output, l is after block l."""
    construction: str
    """Name of the function that made them."""
    details: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """What the construction chose or estimated on the way, such as a shrinkage intensity."""
    source: Source

    def __post_init__(self) -> None:
        if self.distribution.batch_shape != (len(self.words),):
            raise ShapeError(
                f"distribution: found batch shape {self.distribution.batch_shape}, wanted ({len(self.words)},), "
                "one member per word"
            )
        observations = as_int_array("observations", self.observations)
        check_shape("observations", observations, (len(self.words),))
        if self.level == "type" and len(set(self.words)) != len(self.words):
            raise DomainError("words: a type appears twice; word types must be unique")
        object.__setattr__(self, "observations", sealed(observations))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns, parameters = self.distribution.parameter_rows()
        table = zip(self.words, self.observations.tolist(), parameters, strict=True)
        return ("word", "observations", *columns), [(w, n, *p) for w, n, p in table]

    def summary(self) -> str:
        return (
            f"{len(self.words)} word {self.level}{'' if len(self.words) == 1 else 's'} "
            f"as {type(self.distribution).__name__} "
            f"({self.construction}, layer {self.layer})"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceMatrix(Result):
    """All-pairs values of one measure, with the words they belong to."""

    values: FloatArray
    """(n, n), row = first argument of the measure; zero diagonal."""
    words: tuple[str, ...]
    measure: str
    """Name of the measure, for example ``fisher_rao_distance``."""
    symmetric: bool
    metric: bool
    """True if the measure satisfies the triangle inequality for this family."""
    level: Level = "occurrence"
    layer: int | None = None
    construction: str = ""
    """What the words were: the construction of the distributions, or the vectors."""
    source: Source

    def __post_init__(self) -> None:
        n = len(self.words)
        values = as_float_array("values", self.values, finite=False)
        check_shape("values", values, (n, n))
        if not np.isfinite(values).all():
            i, j = (int(v) for v in np.argwhere(~np.isfinite(values))[0])
            pair = f"{self.words[i]!r} and {self.words[j]!r}"
            raise DomainError(f"values: {self.measure} of {pair} is {values[i, j]}")
        if (values < 0).any() or np.diagonal(values).any():
            raise DomainError("values: a distance must be non-negative and zero from a word to itself")
        if self.symmetric and not np.array_equal(values, values.T):
            raise DomainError(f"values: {self.measure} is symmetric, but the matrix is not")
        object.__setattr__(self, "values", sealed(values))

    def index(self, word: str | int) -> int:
        """Position of a word given by position or by text; a text that stands at several places is refused."""
        if not isinstance(word, str):
            try:
                position = operator.index(word)
            except TypeError as error:
                raise ArgumentError(f"word: found {word!r}, wanted its text or its position") from error
            if isinstance(word, bool) or not -len(self.words) <= position < len(self.words):
                raise ArgumentError(f"word {word} does not exist: there are {len(self.words)} words")
            return position % len(self.words)
        places = [i for i, w in enumerate(self.words) if w == word]
        if len(places) != 1:
            found = f"stands at positions {places}; give one of them" if places else "is not among the words"
            raise ArgumentError(f"word {word!r} {found}")
        return places[0]

    def nearest(self, word: str | int, k: int = 5) -> list[tuple[str, float]]:
        """The k words nearest to one, with their distances, nearest first."""
        i, k = self.index(word), check_count("k", k, 0)
        order = [int(j) for j in np.argsort(self.values[i], kind="stable") if j != i]
        return [(self.words[j], float(self.values[i, j])) for j in order[:k]]

    def symmetrized(self) -> DistanceMatrix:
        """The mean of the matrix and its transpose (of the KL divergence: half the Jeffreys divergence)."""
        if self.symmetric:
            return self
        return DistanceMatrix(
            values=self.values / 2 + self.values.T / 2, words=self.words, measure=f"{self.measure}, symmetrized",
            symmetric=True, metric=self.metric, level=self.level, layer=self.layer, construction=self.construction,
            source=self.source,
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = [(w, *row) for w, row in zip(self.words, self.values.tolist(), strict=True)]
        return ("from", *self.words), table

    def summary(self) -> str:
        return f"DistanceMatrix of {len(self.words)} words: {self.measure} ({self.construction}, layer {self.layer})"
