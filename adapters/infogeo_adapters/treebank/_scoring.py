"""Closeness turned into scores batch by batch, and the scores in a store turned into a table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray
from infogeo.errors import DomainError, ShapeError
from infogeo.tree_comparison import FamilyVariants, ScoreTable
from infogeo.tree_scores import Decoder, SentenceScores, score_closeness
from infogeo_adapters.treebank.store import Entry

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.treebank.runner import Plan
    from infogeo_adapters.treebank.store import ScoreStore

HELD = 64e6
"""Bytes of closeness above which it is scored before the next family is asked."""
ROUNDING = 1e-9
"""Difference of a closeness from its transpose, in parts of its largest value, that is let pass."""
LABEL = "label"
"""Name of the array that says what a fitted family has learned."""


@dataclass
class Scorer:
    """Closeness from several families, scored together: a few large steps are faster than many small ones."""

    trees: Sequence[DependencyTree]
    decoders: Sequence[Decoder]
    seconds: float = 0.0
    """What the scoring itself took so far."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _held: list[tuple[FamilyVariants, list[NDArray[Any]], float]] = field(default_factory=list)
    _bytes: float = 0.0

    def add(self, family: FamilyVariants, closeness: Sequence[Any], seconds: float) -> None:
        """Take what a family gave in some seconds, after a look at its shapes."""
        count = len(family.variants)
        arrays = []
        for tree, values in zip(self.trees, closeness, strict=True):
            array = np.asarray(values)
            if array.shape != (count, len(tree), len(tree)) or array.dtype.kind not in "fiub":
                raise ShapeError(
                    f"family {family.name!r}, {place_of(tree)}: its closeness is {array.dtype} of shape {array.shape}, "
                    f"wanted real numbers ({count}, {len(tree)}, {len(tree)}), one matrix for each of its variants"
                )
            arrays.append(array)
            self._bytes += 8 * array.size
        self._held.append((family, arrays, seconds))
        if self._bytes > HELD:
            self._score()

    def finish(self) -> dict[str, Entry]:
        """Entries of all families by name."""
        self._score()
        return self._entries

    def _score(self) -> None:
        if not self._held:
            return
        start = time.perf_counter()
        ends = np.cumsum([0, *(len(family.variants) for family, _, _ in self._held)])
        scores: dict[Decoder, list[SentenceScores]] = {decoder: [] for decoder in self.decoders}
        for s, tree in enumerate(self.trees):
            together = np.concatenate([arrays[s] for _, arrays, _ in self._held], dtype=np.float64)
            self._check(together, tree, ends)
            for decoder, found in scores.items():
                found.append(score_closeness(together, tree, decoder=decoder))
        for (family, _, seconds), first, end in zip(self._held, ends[:-1], ends[1:], strict=True):
            arrays: dict[str, NDArray[Any]] = {}
            for decoder, found in scores.items():
                arrays[f"hits {decoder}"] = np.concatenate([x.hits[first:end] for x in found], axis=1)
                arrays[f"kept hits {decoder}"] = np.concatenate(
                    [x.hits_without_punctuation[first:end] for x in found], axis=1
                )
            arrays["correlation"] = np.stack([x.correlation[first:end] for x in scores[self.decoders[0]]], axis=1)
            self._entries[family.name] = Entry(arrays=arrays, seconds=seconds)
        self._held, self._bytes = [], 0.0
        self.seconds += time.perf_counter() - start

    def _check(self, values: FloatArray, tree: DependencyTree, ends: NDArray[np.int64]) -> None:
        """Raise unless the closeness is finite and symmetric outside the diagonal."""
        n = len(tree)
        values[:, np.arange(n), np.arange(n)] = 0.0
        finite = np.isfinite(values)
        if not finite.all():
            k, i, j = (int(v) for v in np.argwhere(~finite)[0])
            found = f"{values[k, i, j]} for words {i} ({tree.words[i]!r}) and {j} ({tree.words[j]!r})"
            where = f"{self._variant(k, ends)}, {place_of(tree)}"
            raise DomainError(f"{where}: closeness is {found}, wanted finite numbers")
        turned = values.swapaxes(1, 2)
        if np.array_equal(values, turned):
            return
        off = np.abs(values - turned).max(axis=(1, 2))
        bad = off > ROUNDING * np.abs(values).max(axis=(1, 2))
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise DomainError(
                f"{self._variant(k, ends)}, {place_of(tree)}: closeness differs from its transpose by {off[k]:.3g}, "
                "wanted a symmetric matrix, such as the mean of both directions"
            )

    def _variant(self, k: int, ends: NDArray[np.int64]) -> str:
        f = int(np.searchsorted(ends, k, side="right")) - 1
        family = self._held[f][0]
        return f"family {family.name!r}, variant {family.variants[k - int(ends[f])]!r}"


# What came of it


@dataclass(frozen=True, eq=False, kw_only=True)
class Column:
    """A family in a table, and under which names a store keeps its scores."""

    family: FamilyVariants
    entry: str
    """Of all sentences, or of those of the first part."""
    entry_of_rest: str | None = None
    """Of the sentences after the first part, where it is another."""


def table_of(
    plan: Plan, store: ScoreStore, columns: Sequence[Column], *, decoders: Sequence[Decoder], first: int = 0
) -> ScoreTable:
    """The scores of all sentences, in their order, of the families side by side.

    Parameters
    ----------
    plan : Plan
    store : ScoreStore
        With all that the columns name.
    columns : sequence of Column
    decoders : sequence of {"spanning", "projective"}
    first : int
        How many sentences the first part has.

    Returns
    -------
    ScoreTable
    """
    every = tuple(f"{c.family.name}: {v}" for c in columns for v in c.family.variants)
    one = FamilyVariants(name="all", kind="baseline", variants=every)
    tables = []
    for b, batch in enumerate(plan.batches):
        trees = plan.trees(b)
        ends = np.cumsum([0, *(len(tree) - 1 for tree in trees)])
        in_first = np.array([i < first for i in batch])
        of_edge = np.repeat(in_first, np.diff(ends))
        parts = [_columns_of(store, b, column, of_edge, in_first) for column in columns]
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        tables.append(ScoreTable.collect(
            [
                [
                    _scores(tree, decoder, values[f"hits {decoder}"][:, start:end],
                            values[f"kept hits {decoder}"][:, start:end], values["correlation"][:, s])
                    for decoder in decoders
                ]
                for s, (tree, start, end) in enumerate(zip(trees, ends[:-1], ends[1:], strict=True))
            ],
            [one],
        ))
    table = ScoreTable.concatenate(tables).take(np.argsort([i for batch in plan.batches for i in batch]))
    return dataclasses.replace(table, families=tuple(column.family for column in columns))


def _columns_of(
    store: ScoreStore, batch: int, column: Column, of_edge: NDArray[np.bool_], of_sentence: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    found = store.get(batch, column.entry).arrays
    if column.entry_of_rest is None:
        return {name: values for name, values in found.items() if name != LABEL}
    rest = store.get(batch, column.entry_of_rest).arrays
    return {
        name: np.where(of_sentence if name == "correlation" else of_edge, values, rest[name])
        for name, values in found.items() if name != LABEL
    }


def _scores(
    tree: DependencyTree, decoder: Decoder, hits: NDArray[np.bool_], kept_hits: NDArray[np.bool_],
    correlation: FloatArray,
) -> SentenceScores:
    edges = tree.edges()
    return SentenceScores(
        name=tree.name, n_words=len(tree), edges=edges, relations=tuple(tree.relations[i] for i in edges[:, 0]),
        lengths=np.abs(edges[:, 0] - edges[:, 1]), kept=np.logical_not(tree.punctuation[edges].any(axis=1)), hits=hits,
        hits_without_punctuation=kept_hits, correlation=correlation, decoder=decoder,
    )


def seconds_of(plan: Plan, store: ScoreStore) -> dict[str, float]:
    """How long each entry took, over all batches and with the time to prepare."""
    seconds = dict(store.prepared())
    for b in range(len(plan.batches)):
        for name, took in store.seconds(b).items():
            seconds[name] = seconds.get(name, 0.0) + took
    return seconds


def place_of(tree: DependencyTree) -> str:
    """How an error names a sentence."""
    return f"sentence {tree.name!r} (line {tree.line})"
