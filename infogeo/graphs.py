"""Word graphs from distances and from affinities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_shape, frozen
from infogeo.errors import DomainError
from infogeo.results import Result, Source
from infogeo.words import Level


@dataclass(frozen=True, eq=False, kw_only=True)
class WordGraph(Result):
    """Words and weighted edges between them.

    Each edge carries both a ``distance`` (a length: add along paths) and a ``weight`` (a strength: larger is
    closer), since graph algorithms mean one or the other. A distance of zero is an edge like any other.
    """

    words: tuple[str, ...]
    edges: IntArray
    """(m, 2) indices of words; first < second in an undirected graph; no self-loops, no repeats."""
    distance: FloatArray
    """(m,) non-negative lengths."""
    weight: FloatArray
    """(m,) positive strengths."""
    directed: bool
    construction: str
    """How the edges were chosen, for example ``nearest_neighbor_graph(k=3)``."""
    measure: str
    """What the lengths or strengths are, for example ``fisher_rao_distance``."""
    level: Level = "occurrence"
    source: Source

    def __post_init__(self) -> None:
        m, n = len(self.edges), len(self.words)
        check_shape("edges", self.edges, (None, 2))
        check_shape("distance", self.distance, (m,))
        check_shape("weight", self.weight, (m,))
        if m and (self.edges.min() < 0 or self.edges.max() >= n):
            raise DomainError(f"edges: an index lies outside the {n} words")
        if (self.edges[:, 0] == self.edges[:, 1]).any():
            raise DomainError("edges: a word is joined to itself")
        if not self.directed and (self.edges[:, 0] > self.edges[:, 1]).any():
            raise DomainError("edges: an undirected edge is given as (smaller, larger) index")
        if len(np.unique(self.edges, axis=0)) != m:
            raise DomainError("edges: an edge is given twice")
        if not (np.isfinite(self.distance).all() and (self.distance >= 0).all()):
            raise DomainError("distance: lengths must be finite and non-negative")
        if not (np.isfinite(self.weight).all() and (self.weight > 0).all()):
            raise DomainError("weight: strengths must be finite and positive")
        for name in ("edges", "distance", "weight"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.edges)

    def edge_set(self) -> frozenset[tuple[int, int]]:
        """The edges as pairs of word indices."""
        return frozenset((int(i), int(j)) for i, j in self.edges)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = zip(self.edges.tolist(), self.distance.tolist(), self.weight.tolist(), strict=True)
        return (
            ("from", "to", "from_word", "to_word", "distance", "weight"),
            [(i, j, self.words[i], self.words[j], d, w) for (i, j), d, w in table],
        )

    def summary(self) -> str:
        kind = "directed" if self.directed else "undirected"
        return f"{kind} WordGraph of {len(self.words)} word {self.level}s, {self.n_edges} edges: {self.construction} on {self.measure}"
