"""How well two descriptions of the same words agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infogeo.results import Result, Source


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """One number that compares two matrices or graphs, with what it takes to believe it."""

    statistic: str
    """For example ``spearman``, ``kendall``, ``mantel``, ``edge_jaccard``, ``spanning_tree_overlap``."""
    value: float
    interval: tuple[float, float] | None = None
    """Bootstrap interval, None where one sentence gives none."""
    level: float | None = None
    """Coverage of the interval, for example 0.95."""
    p_value: float | None = None
    n: int
    """Sample size: word pairs, edges or sentences, as ``unit`` says."""
    unit: str
    left: str
    """What is compared."""
    reference: str
    """What it is compared with."""
    layer: int | None = None
    head: int | None = None
    source: Source

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return Comparisons((self,)).rows()


@dataclass(frozen=True)
class Comparisons(Result):
    """A table of comparisons."""

    items: tuple[Comparison, ...]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("statistic", "value", "low", "high", "p_value", "n", "unit", "left", "reference", "layer", "head")
        table = []
        for c in self.items:
            low, high = c.interval if c.interval is not None else (None, None)
            table.append((c.statistic, c.value, low, high, c.p_value, c.n, c.unit, c.left, c.reference, c.layer, c.head))
        return columns, table

    def summary(self) -> str:
        return f"{len(self.items)} comparisons"
