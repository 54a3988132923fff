"""Dependency trees of sentences and treebanks of them: the gold standard that word graphs are scored against."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import IntArray, as_int_array, check_count, check_shape, sealed
from infogeo._trees import path_lengths
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source

ROOT = -1
"""The head of the word that has none."""
NO_TAG = ("", "_")
"""What stands for a part of speech that is not given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DependencyTree(Result):
    """A sentence with the head of each of its words (Universal Dependencies: the basic tree, without enhancements).

    Exactly one word has no head, and following the heads from any word leads to it.

    Raises
    ------
    DomainError
        If a head lies outside the sentence, there is no root or more than one, or heads run in a circle; if a span is
        not where its word stands in the text.
    ShapeError
        If there is no word, or not one head, relation, tag and span for each.

    References
    ----------
    .. [1] de Marneffe, Manning, Nivre and Zeman, "Universal Dependencies", Computational Linguistics 47, 2021.

    Examples
    --------
    >>> tree = DependencyTree.from_words(("She", "reads", "books", "."), [1, -1, 1, 1], tags=("PRON", "VERB", "NOUN",
    ...                                                                                      "PUNCT"))
    >>> tree.edges().tolist()
    [[0, 1], [2, 1], [3, 1]]
    >>> tree.distances()[0].tolist()
    [0, 1, 2, 2]
    >>> tree.punctuation.tolist()
    [False, False, False, True]
    """

    words: tuple[str, ...]
    """Forms of the n words as they stand in the text."""
    heads: IntArray
    """(n,) index of each word's head, counted from 0; -1 for the root."""
    relations: tuple[str, ...]
    """Name of the relation of each word to its head, with its subtype, for example ``nsubj:pass``."""
    tags: tuple[str, ...]
    """Universal part of speech of each word; ``_`` where none is given."""
    text: str
    spans: IntArray
    """(n, 2) first character of each word in the text, and the one after its last."""
    name: str
    """Identifier of the sentence in its file, or ``sentence K``."""
    line: int
    """Line of the file where the sentence begins, counted from 1."""

    def __post_init__(self) -> None:
        for name in ("words", "relations", "tags"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        heads, spans = as_int_array("heads", self.heads), as_int_array("spans", self.spans)
        n = len(self.words)
        if n == 0:
            raise ShapeError("words: found none, wanted at least one")
        check_shape("heads", heads, (n,))
        check_shape("spans", spans, (n, 2))
        for name in ("relations", "tags"):
            if len(getattr(self, name)) != n:
                raise ShapeError(f"{name}: found {len(getattr(self, name))}, wanted {n}, one for each word")
        check_count("line", self.line, 1)
        _check_heads(heads, self.words)
        _check_spans(spans, self.words, self.text)
        object.__setattr__(self, "heads", sealed(heads))
        object.__setattr__(self, "spans", sealed(spans))

    @classmethod
    def from_words(
        cls,
        words: Sequence[str],
        heads: ArrayLike,
        *,
        relations: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        name: str = "sentence 1",
        line: int = 1,
    ) -> DependencyTree:
        """A tree without a file: the text is the words with one space between.

        Parameters
        ----------
        words : sequence of str
            n forms.
        heads : array_like of int, shape (n,)
            Index of each word's head from 0; -1 for the root.
        relations : sequence of str, optional
            ``root`` and ``dep`` if not given.
        tags : sequence of str, optional
            ``_``, not given, if not given.
        name : str
        line : int
            Place of the sentence among those of a :class:`Treebank`, which wants them in rising order.

        Returns
        -------
        DependencyTree
        """
        words = tuple(words)
        ends = np.cumsum([len(word) + 1 for word in words], dtype=np.int64) - 1
        heads = as_int_array("heads", heads)
        spans = np.stack([ends - [len(word) for word in words], ends], axis=1) if words else np.empty((0, 2), np.int64)
        named = ["root" if head == ROOT else "dep" for head in heads.reshape(-1)] if relations is None else relations
        return cls(
            words=words, heads=heads, relations=tuple(named), tags=("_",) * len(words) if tags is None else tuple(tags),
            text=" ".join(words), spans=spans, name=name, line=line,
        )

    def __len__(self) -> int:
        return len(self.words)

    @property
    def root(self) -> int:
        """Index of the word without a head."""
        return int(np.flatnonzero(self.heads == ROOT)[0])

    @property
    def punctuation(self) -> NDArray[np.bool_]:
        """(n,) whether a word is punctuation: tagged PUNCT or, where it has no tag, related by ``punct``."""
        return np.array([
            relation.partition(":")[0] == "punct" if tag in NO_TAG else tag == "PUNCT"
            for tag, relation in zip(self.tags, self.relations, strict=True)
        ], dtype=np.bool_)

    def edges(self) -> IntArray:
        """(n - 1, 2) pairs (dependent, head) in the order of the dependents; the root has none."""
        dependents = np.flatnonzero(self.heads != ROOT)
        return np.stack([dependents, self.heads[dependents]], axis=1).astype(np.int64)

    def distances(self) -> IntArray:
        """(n, n) number of relations on the path between each two words, whichever way they point."""
        return np.asarray(path_lengths(self.edges()[None], len(self.words))[0])

    def skipped(self, reason: str) -> SkippedSentence:
        """The sentence as one that is left out, for :meth:`Treebank.with_skipped`."""
        return SkippedSentence(name=self.name, line=self.line, reason=reason)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = zip(self.words, self.tags, self.heads.tolist(), self.relations, strict=True)
        return (
            ("index", "word", "tag", "head", "head_word", "relation"),
            [(i, w, t, h, None if h == ROOT else self.words[h], r) for i, (w, t, h, r) in enumerate(table)],
        )

    def summary(self) -> str:
        return f"DependencyTree of {len(self.words)} words: {self.name}, line {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedSentence(Result):
    """A sentence that is left out, and why."""

    name: str
    """Identifier of the sentence in its file, or ``sentence K``."""
    line: int
    """Line of the file where the sentence begins, counted from 1."""
    reason: str

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return ("sentence", "line", "reason"), [(self.name, self.line, self.reason)]

    def summary(self) -> str:
        return f"{self.name} (line {self.line}) skipped: {self.reason}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Treebank(Result):
    """Sentences with their trees in the order of the file, and those that were left out, each with its reason.

    Raises
    ------
    DomainError
        If there is no tree, the trees do not stand in the order of their lines, or two sentences begin in one line.

    Examples
    --------
    >>> trees = [DependencyTree.from_words(("dogs", "bark"), [1, -1], name=f"s{k}", line=k) for k in (1, 2, 3)]
    >>> treebank = Treebank(trees=trees, source=Source()).with_skipped([trees[2].skipped("too long")])
    >>> len(treebank), [s.name for s in treebank.skipped]
    (2, ['s3'])
    >>> [[tree.name for tree in half] for half in treebank.halves()]
    [['s1'], ['s2']]
    """

    trees: tuple[DependencyTree, ...]
    skipped: tuple[SkippedSentence, ...] = ()
    source: Source

    def __post_init__(self) -> None:
        trees = tuple(self.trees)
        skipped = tuple(sorted(self.skipped, key=lambda s: s.line))
        if not trees:
            why = f"; {skipped[0].summary()}" if skipped else ""
            raise DomainError(f"trees: found none, with {_sentences(len(skipped))} skipped{why}")
        lines = [tree.line for tree in trees]
        for before, after in itertools.pairwise(trees):
            if after.line <= before.line:
                raise DomainError(
                    f"trees: {after.name} at line {after.line} comes after {before.name} at line {before.line}, wanted "
                    "rising lines; give each tree its own line, in the order of the treebank"
                )
        taken = [s.line for s in skipped]
        if len(set(lines + taken)) != len(lines) + len(taken):
            twice = next(line for line in sorted(taken) if (lines + taken).count(line) > 1)
            raise DomainError(f"skipped: more than one sentence begins in line {twice}; name each sentence once")
        object.__setattr__(self, "trees", trees)
        object.__setattr__(self, "skipped", skipped)

    def __len__(self) -> int:
        return len(self.trees)

    def __iter__(self) -> Iterator[DependencyTree]:
        return iter(self.trees)

    def halves(self) -> tuple[Treebank, Treebank]:
        """The first and the second half of the sentences, to choose on one and report on the other.

        Of N sentences, skipped ones counted, the first half has those among the first floor(N / 2): where the
        treebank is cut does not depend on which sentences were skipped, so that two models that skip different ones
        share their halves.

        Returns
        -------
        tuple of two Treebank

        Raises
        ------
        DomainError
            If a half has no sentence left.
        """
        lines = sorted([s.line for s in self.skipped] + [tree.line for tree in self.trees])
        cut = lines[len(lines) // 2]
        parts = []
        for which, first in (("first", True), ("second", False)):
            trees = tuple(tree for tree in self.trees if (tree.line < cut) == first)
            skipped = tuple(s for s in self.skipped if (s.line < cut) == first)
            if not trees:
                raise DomainError(
                    f"the {which} half of {_sentences(len(self.trees))}, with {len(self.skipped)} skipped, is empty; "
                    "a treebank that is cut in two to choose and to report needs at least four that can be used"
                )
            of_half = f"{which} of {before}" if (before := self.source.options.get("half")) else which
            parts.append(Treebank(trees=trees, skipped=skipped, source=self.source.with_options(half=of_half)))
        return parts[0], parts[1]

    def with_skipped(self, skipped: Iterable[SkippedSentence]) -> Treebank:
        """The same treebank without some of its sentences, which are listed as skipped.

        Parameters
        ----------
        skipped : iterable of SkippedSentence
            Each found by its line; :meth:`DependencyTree.skipped` makes them.

        Returns
        -------
        Treebank

        Raises
        ------
        ArgumentError
            If no tree of the treebank begins in the line of a skipped sentence.
        DomainError
            If no sentence is left.
        """
        more = tuple(skipped)
        there = {tree.line for tree in self.trees}
        for sentence in more:
            if sentence.line not in there:
                raise ArgumentError(
                    f"skipped: found {sentence.name} at line {sentence.line}, where no sentence of the treebank begins"
                )
        gone = {sentence.line for sentence in more}
        kept = tuple(tree for tree in self.trees if tree.line not in gone)
        return dataclasses.replace(self, trees=kept, skipped=self.skipped + more)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table: list[tuple[Any, ...]] = [(t.name, t.line, len(t.words), t.text, None) for t in self.trees]
        table += [(s.name, s.line, None, None, s.reason) for s in self.skipped]
        return ("sentence", "line", "words", "text", "skipped"), sorted(table, key=lambda row: row[1])

    def summary(self) -> str:
        words = sum(len(tree.words) for tree in self.trees)
        size = f"{_sentences(len(self.trees))} and {words} word{'' if words == 1 else 's'}"
        return f"Treebank of {size}, {_sentences(len(self.skipped))} skipped"


def _sentences(count: int) -> str:
    return f"{count} sentence{'' if count == 1 else 's'}"


def _check_heads(heads: IntArray, words: tuple[str, ...]) -> None:
    n = len(heads)
    if (outside := (heads < ROOT) | (heads >= n)).any():
        i = int(np.flatnonzero(outside)[0])
        raise DomainError(f"heads: word {i} ({words[i]!r}) has head {heads[i]}, wanted 0 to {n - 1}, or -1 (root)")
    roots = np.flatnonzero(heads == ROOT)
    if len(roots) != 1:
        named = ", ".join(f"{i} ({words[i]!r})" for i in roots[:5])
        found = f"{len(roots)} roots: words {named}" if len(roots) else "no root"
        raise DomainError(f"heads: found {found}; wanted exactly one word without a head")
    reached = np.where(heads == ROOT, np.arange(n), heads)
    for _ in range(n.bit_length()):  # each round doubles how many steps up a word is followed
        reached = reached[reached]
    if (lost := reached != roots[0]).any():
        path = [int(np.flatnonzero(lost)[0])]
        while (head := int(heads[path[-1]])) not in path:
            path.append(head)
        circle = " -> ".join(f"{i} ({words[i]!r})" for i in [*path[path.index(head):], head])
        raise DomainError(f"heads: found a cycle: {circle}; wanted a tree")


def _check_spans(spans: IntArray, words: tuple[str, ...], text: str) -> None:
    before = 0
    for i, ((start, end), word) in enumerate(zip(spans.tolist(), words, strict=True)):
        if not before <= start < end <= len(text):
            raise DomainError(
                f"spans: word {i} ({word!r}) has characters {start} to {end}, wanted at least one character of the "
                f"{len(text)} of the text, from {before} on, where the word before it ends"
            )
        if text[start:end] != word:
            found = f"{text[start:end]!r} at characters {start} to {end}"
            raise DomainError(f"spans: found {found}, wanted word {i}, {word!r}")
        before = end
