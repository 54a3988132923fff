"""The scores of all variants of word graphs over the sentences of a treebank, compact enough to keep and to save."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, check_count
from infogeo._tree_arrays import (
    ARRAYS,
    blocks_of_sentences,
    checked_arrays,
    fields_of_concatenated,
    fields_of_neighbors,
    sums_of_sentences,
)
from infogeo._tree_families import ALL, BIN_STARTS, BINS, LONG, FamilyVariants, NamedFamily, fields_of_sentence
from infogeo.errors import ArgumentError, DomainError, FormatError
from infogeo.results import Result
from infogeo.tree_scores import SentenceScores


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreTable(Result):
    """Which gold relations every variant of every family of word graphs finds, over the sentences of a treebank.

    The relations of all S sentences stand one below the other (E of them), the V variants of all families side by
    side, one bit for each hit: 2,000 sentences and 600 variants take 4 MB for each decoder, beside 10 MB for the
    correlations.

    Raises
    ------
    ShapeError
        If an array does not fit the others.
    DomainError
        If a number does not fit the format that it is kept in, or there is no such relation.
    ArgumentError
        If two families have one name, or there is no family or decoder.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree, FamilyVariants, score_closeness
    >>> tree = DependencyTree.from_words(("old", "dogs", "bark"), [1, 2, -1], relations=("amod", "nsubj", "root"))
    >>> near = -np.abs(np.subtract.outer(np.arange(3.0), np.arange(3.0)))
    >>> table = ScoreTable.collect(
    ...     [[score_closeness([near, -near], tree)]],
    ...     [FamilyVariants(name="word order", kind="baseline", variants=("near", "far"))],
    ... )
    >>> table.counts("all").tolist(), table.totals("all").tolist()
    ([[2, 1]], [2])
    """

    families: tuple[FamilyVariants, ...]
    decoders: tuple[str, ...]
    sentences: tuple[str, ...]
    """Name of each sentence."""
    n_words: IntArray
    """(S,) length of each sentence in words, punctuation counted."""
    edge_counts: IntArray
    """(S,) how many relations each sentence has."""
    relations: tuple[str, ...]
    """The universal relations that there are, in alphabetical order, without subtypes."""
    edge_relations: NDArray[np.uint8]
    """(E,) index of each edge's relation."""
    edge_offsets: NDArray[np.int16]
    """(E,) place of the head less the place of the dependent; its size is the distance."""
    edge_kept: NDArray[np.bool_]
    """(E,) False where the dependent or the head is punctuation."""
    hits: NDArray[np.uint8]
    """(D, 2, E, ceil(V / 8)) packed bits: for each decoder, without and with punctuation."""
    correlations: FloatArray
    """(S, V) rank correlation of distances in each sentence (DSpr), NaN where undefined."""

    def __post_init__(self) -> None:
        names = [family.name for family in self.families]
        if not names or not self.decoders or len(set(names)) < len(names) or not all(f.variants for f in self.families):
            raise ArgumentError(
                f"found families {', '.join(names) or 'none'} and decoders {', '.join(self.decoders) or 'none'}; "
                "wanted at least one of each, families of different names, and a variant in each"
            )
        if taken := {ALL, LONG, *BINS}.intersection(self.relations):
            raise ArgumentError(f"relations: found {', '.join(sorted(taken))}, which names a category of its own")
        s, e = len(self.sentences), int(np.sum(self.edge_counts))
        v = self.n_variants
        shapes = {
            "n_words": (s,), "edge_counts": (s,), "edge_relations": (e,), "edge_offsets": (e,), "edge_kept": (e,),
            "hits": (len(self.decoders), 2, e, -(-v // 8)), "correlations": (s, v),
        }
        given = {name: getattr(self, name) for name in ARRAYS}
        for name, array in checked_arrays(given, shapes).items():
            object.__setattr__(self, name, array)
        if e and int(self.edge_relations.max()) >= len(self.relations):
            raise DomainError(f"edge_relations: found {self.edge_relations.max()} of {len(self.relations)} relations")

    @classmethod
    def collect(cls, scores: Iterable[Iterable[SentenceScores]], families: Sequence[NamedFamily]) -> ScoreTable:
        """A table of the scores of sentences, as they come.

        Parameters
        ----------
        scores : iterable of iterables of SentenceScores
            For each sentence the scores of every family, in the order of ``families``; where there are two decoders,
            those of both, mixed or one after the other. All sentences have the same decoders. A generator will do:
            one sentence is held at a time.
        families : sequence
            Whatever has a ``name``, a ``kind`` and ``variants``, such as :class:`FamilyVariants` or a ``GraphFamily``.

        Returns
        -------
        ScoreTable

        Raises
        ------
        ArgumentError
            If a sentence lacks a family or a decoder, its scores are of different trees, or their number of variants
            is not that of the family; if there is no sentence or no family.
        """
        named = tuple(
            FamilyVariants(name=str(f.name), kind=str(f.kind), variants=tuple(map(str, f.variants))) for f in families
        )
        if not named:
            raise ArgumentError("families: found none, wanted at least one")
        found = [cls(**fields_of_sentence(position, tuple(row), named)) for position, row in enumerate(scores)]
        if not found:
            raise ArgumentError("scores: found no sentence, wanted at least one")
        return cls.concatenate(found)

    @classmethod
    def concatenate(cls, tables: Sequence[ScoreTable]) -> ScoreTable:
        """The sentences of several tables, one after the other; the families and decoders must be the same.

        Parameters
        ----------
        tables : sequence of ScoreTable

        Returns
        -------
        ScoreTable

        Raises
        ------
        ArgumentError
            If there is no table, or families, variants or decoders differ.
        """
        return cls(**fields_of_concatenated(tables))

    @classmethod
    def beside(cls, tables: Sequence[ScoreTable]) -> ScoreTable:
        """The families of several tables of the same sentences, side by side.

        Parameters
        ----------
        tables : sequence of ScoreTable
            Of the same trees in the same order, with the same decoders, and no family in two of them.

        Returns
        -------
        ScoreTable

        Raises
        ------
        ArgumentError
            If there is no table, sentences, relations or decoders differ, or a family is in two of them.
        """
        return cls(**fields_of_neighbors(tables))

    def take(self, sentences: IntArray) -> ScoreTable:
        """Some of the sentences, in the order given.

        Parameters
        ----------
        sentences : array of int
            Their places, counted from 0.

        Returns
        -------
        ScoreTable
        """
        rows = np.arange(len(self))[np.asarray(sentences, dtype=np.int64)]
        counts = self.edge_counts[rows]
        before = np.cumsum(self.edge_counts) - self.edge_counts
        edges = np.arange(counts.sum()) + np.repeat(before[rows] - (np.cumsum(counts) - counts), counts)
        return ScoreTable(
            families=self.families, decoders=self.decoders, sentences=tuple(self.sentences[i] for i in rows),
            n_words=self.n_words[rows], edge_counts=counts, relations=self.relations,
            edge_relations=self.edge_relations[edges], edge_offsets=self.edge_offsets[edges],
            edge_kept=self.edge_kept[edges], hits=self.hits[:, :, edges], correlations=self.correlations[rows],
        )

    def parts(self, first: int | None = None) -> tuple[ScoreTable, ScoreTable]:
        """The first sentences and the rest, to choose on one part and report on the other.

        Parameters
        ----------
        first : int, optional
            How many sentences the first part has; half of them, rounded down, if not given. Where sentences of a
            treebank were skipped, the length of the first of :meth:`Treebank.halves`.

        Returns
        -------
        tuple of two ScoreTable

        Raises
        ------
        ArgumentError
            If a part has no sentence.
        """
        cut = len(self) // 2 if first is None else check_count("first", first)
        if not 0 < cut < len(self):
            raise ArgumentError(
                f"first: found {cut} of {len(self)} sentences, wanted at least one in each of the two parts"
            )
        rows = np.arange(len(self))
        return self.take(rows[:cut]), self.take(rows[cut:])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays of numbers, and one of text, that ``numpy.savez`` writes without pickling.

        Returns
        -------
        dict of str to array
        """
        names = {
            "families": [[f.name, f.kind, list(f.variants)] for f in self.families], "decoders": self.decoders,
            "sentences": self.sentences, "relations": self.relations,
        }
        return {"names": np.array(json.dumps(names, ensure_ascii=False)), **{n: getattr(self, n) for n in ARRAYS}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ScoreTable:
        """The table that :meth:`to_arrays` wrote; an open ``.npz`` file will do.

        Parameters
        ----------
        arrays : mapping of str to array

        Returns
        -------
        ScoreTable

        Raises
        ------
        FormatError
            If something is missing.
        """
        missing = [name for name in ("names", *ARRAYS) if name not in arrays]
        if missing:
            raise FormatError(f"arrays: {', '.join(missing)} missing; wanted what ScoreTable.to_arrays gives")
        names = json.loads(str(arrays["names"]))
        return cls(
            families=tuple(FamilyVariants(name=n, kind=k, variants=tuple(v)) for n, k, v in names["families"]),
            decoders=tuple(names["decoders"]), sentences=tuple(names["sentences"]),
            relations=tuple(names["relations"]), **{name: np.array(arrays[name]) for name in ARRAYS},
        )

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def n_variants(self) -> int:
        """V, over all families."""
        return sum(len(family.variants) for family in self.families)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the variants of each family stand among all."""
        ends = np.cumsum([0, *(len(family.variants) for family in self.families)]).tolist()
        return tuple(slice(start, stop) for start, stop in itertools.pairwise(ends))

    @property
    def categories(self) -> tuple[str, ...]:
        """``all``, ``long``, the distances and the relations."""
        return (ALL, LONG, *BINS, *self.relations)

    def members(self, category: str, *, punctuation: bool = False) -> NDArray[np.bool_]:
        """(E,) which relations of the treebank a category has.

        Parameters
        ----------
        category : str
            One of ``categories``.
        punctuation : bool
            Whether relations of punctuation count.

        Returns
        -------
        array of bool

        Raises
        ------
        ArgumentError
            If there is no such category.
        """
        inside = np.ones(len(self.edge_kept), dtype=np.bool_) if punctuation else self.edge_kept
        which = np.searchsorted(BIN_STARTS, np.abs(self.edge_offsets), side="right") - 1
        if category == ALL:
            return inside.copy()
        if category == LONG:
            return np.asarray(inside & (which >= 2))
        if category in BINS:
            return np.asarray(inside & (which == BINS.index(category)))
        if category not in self.relations:
            raise ArgumentError(f"category: found {category!r}, wanted one of {', '.join(self.categories)}")
        return np.asarray(inside & (self.edge_relations == self.relations.index(category)))

    def found(
        self, variants: IntArray, *, decoder: str | None = None, punctuation: bool = False
    ) -> NDArray[np.bool_]:
        """(E, k) whether some of the variants find each relation, and only relations that count.

        Parameters
        ----------
        variants : array of int, shape (k,)
            Indices among the V.
        decoder : str, optional
            The first if not given.
        punctuation : bool

        Returns
        -------
        array of bool
        """
        packed = self.hits[self._decoder(decoder), int(punctuation)]
        bits = packed[:, variants >> 3] >> (7 - (variants & 7)).astype(np.uint8)
        return np.asarray((bits & 1).astype(np.bool_))

    def totals(self, category: str = ALL, *, punctuation: bool = False) -> IntArray:
        """(S,) how many relations of a category each sentence has.

        Parameters
        ----------
        category : str
        punctuation : bool

        Returns
        -------
        array of int
        """
        return self.by_sentence(self.members(category, punctuation=punctuation)[:, None])[:, 0]

    def counts(
        self, category: str = ALL, *, decoder: str | None = None, punctuation: bool = False, memory: float = 64e6
    ) -> IntArray:
        """(S, V) how many relations of a category each variant finds in each sentence.

        Parameters
        ----------
        category : str
        decoder : str, optional
            The first if not given.
        punctuation : bool
        memory : float
            Bytes of bits that are unpacked at once.

        Returns
        -------
        array of int
        """
        packed = self.hits[self._decoder(decoder), int(punctuation)]
        inside = self.members(category, punctuation=punctuation)
        result = np.empty((len(self), self.n_variants), dtype=np.int64)
        for rows, edges in blocks_of_sentences(self.edge_counts, int(memory // (9 * self.n_variants)) + 1):
            bits = np.unpackbits(packed[edges], axis=1, count=self.n_variants)
            bits[~inside[edges]] = 0
            result[rows] = sums_of_sentences(bits, self.edge_counts[rows])
        return result

    def by_sentence(self, values: NDArray[Any]) -> IntArray:
        """(S, k) sums over the relations of each sentence of truth values or whole numbers (E, k).

        Parameters
        ----------
        values : array of bool or int, shape (E, k)
            One row for each relation of the treebank.

        Returns
        -------
        array of int
        """
        return sums_of_sentences(values, self.edge_counts)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        totals, table = int(self.totals().sum()), []
        for decoder in self.decoders:
            hits = self.counts(decoder=decoder).sum(axis=0)
            for family, part in zip(self.families, self.slices, strict=True):
                for variant, n in zip(family.variants, hits[part].tolist(), strict=True):
                    table.append((family.name, family.kind, decoder, variant, n / totals if totals else None, totals))
        return ("family", "kind", "decoder", "variant", "uuas", "n_edges"), table

    def summary(self) -> str:
        return (
            f"ScoreTable of {len(self)} sentences, {len(self.families)} families and {self.n_variants} variants, "
            f"decoded as {' and '.join(self.decoders)} trees"
        )

    def _decoder(self, decoder: str | None) -> int:
        if decoder is None:
            return 0
        if decoder not in self.decoders:
            raise ArgumentError(f"decoder: found {decoder!r}, wanted one of {', '.join(self.decoders)}")
        return self.decoders.index(decoder)
