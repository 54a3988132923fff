"""Families of word graphs that need no model: neighbors in a chain, random trees, random edges of gold lengths.

What is random depends on the words of a sentence and a seed, never on the order or the grouping of sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_count
from infogeo._trees import path_lengths, random_projective_trees, random_trees
from infogeo.errors import ArgumentError

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading


@dataclass(frozen=True, eq=False)
class AdjacentWords:
    r"""Words are as close as they stand: closeness :math:`-|i - j|`, whose spanning tree joins neighbors.

    The baseline of Hewitt and Manning 2019 ("Linear", Table 1). Where punctuation is left out, neighbors are the words
    on both sides of it.
    """

    name: str = field(default="adjacent words", init=False)
    kind: FamilyKind = field(default="baseline", init=False)
    variants: tuple[str, ...] = field(default=("chain",), init=False)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (1, n, n)."""
        return [-_linear_distances(len(r.tree.words))[None] for r in readings]


@dataclass(frozen=True, eq=False)
class RandomTrees:
    """A tree drawn at random over the words, all trees being equally likely; closeness is minus the path length in it.

    Parameters
    ----------
    projective : bool
        Whether only trees are drawn of which no two edges cross.
    seed : int
        Another seed gives other trees; a sentence gets the same tree wherever it stands.

    Raises
    ------
    ArgumentError
        ``seed`` is no whole number, or negative.
    """

    projective: bool = False
    seed: int = 0
    kind: FamilyKind = field(default="baseline", init=False)
    variants: tuple[str, ...] = field(default=("tree",), init=False)

    def __post_init__(self) -> None:
        check_count("seed", self.seed, 0)

    @property
    def name(self) -> str:
        """``random projective tree`` or ``random tree``."""
        return "random projective tree" if self.projective else "random tree"

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (1, n, n)."""
        draw = random_projective_trees if self.projective else random_trees
        found = []
        for reading in readings:
            words = reading.tree.words
            edges = draw(len(words), 1, _generator(self.name, self.seed, words))
            found.append(-path_lengths(edges, len(words)).astype(np.float64))
        return found


@dataclass(frozen=True, eq=False)
class RandomEdges:
    r"""Edges drawn at random, as long as those of gold trees: labels are used, but only how long edges are.

    .. math:: c_{ij} = \log r(|i - j|) - \log E_{ij}

    with :math:`r(\ell)` the share of pairs of words at distance :math:`\ell` that an edge joins in the trees it is
    fitted to, and :math:`E_{ij}` independent and exponential. In order of :math:`c` pairs then come as if drawn one
    after the other with chances in proportion to :math:`r`. It tells how much of a score is owed to the lengths of
    edges alone.

    Parameters
    ----------
    seed : int

    Raises
    ------
    ArgumentError
        ``seed`` is no whole number, or negative; in :meth:`fit`, if no tree has an edge.
    """

    seed: int = 0
    name: str = field(default="random edges of gold lengths", init=False)
    kind: FamilyKind = field(default="baseline", init=False)

    def __post_init__(self) -> None:
        check_count("seed", self.seed, 0)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def features(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence the random part, (1, n, n) and symmetric."""
        found = []
        for reading in readings:
            words = reading.tree.words
            draws = -np.log(_generator(self.name, self.seed, words).standard_exponential((len(words), len(words))))
            upper = np.triu(draws, 1)
            found.append((upper + upper.T)[None])
        return found

    def fit(self, features: Sequence[FloatArray], trees: Sequence[DependencyTree]) -> EdgeLengths:
        """How likely pairs are joined at each distance in the trees."""
        longest = max((len(tree.words) for tree in trees), default=0)
        joined, pairs = np.zeros(longest), np.zeros(longest)
        for tree in trees:
            n = len(tree.words)
            lengths = np.abs(np.diff(tree.edges(), axis=1))[:, 0]
            joined += np.bincount(lengths, minlength=longest)[:longest]
            pairs[1:n] += n - np.arange(1, n)
        if not joined.any():
            raise ArgumentError("trees: found none with two words, wanted gold trees to count the lengths of edges in")
        return EdgeLengths(joined=joined.astype(np.int64), pairs=pairs.astype(np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class EdgeLengths:
    """How often pairs of words are joined at each distance, as :class:`RandomEdges` counted it."""

    joined: IntArray
    """Edges by length, the first entry being length zero."""
    pairs: IntArray
    """Pairs of words by distance."""

    @property
    def label(self) -> str:
        """What was fitted, in short."""
        return f"lengths of {int(self.joined.sum())} edges"

    def closeness(self, features: Sequence[FloatArray]) -> list[FloatArray]:
        """For each sentence (1, n, n).

        One edge of every length is added to those counted, so that no pair is impossible; at distances that no tree
        had, it is the share of the longest there was.
        """
        share = (self.joined[1:] + 1) / (self.pairs[1:] + 1)
        found = []
        for noise in features:
            distances = _linear_distances(noise.shape[-1]).astype(np.int64)
            rate = share[np.clip(distances, 1, len(share)) - 1]
            found.append(np.log(rate) + noise)
        return found


def _linear_distances(n: int) -> FloatArray:
    places = np.arange(n, dtype=np.float64)
    return np.abs(places[:, None] - places)


def _generator(name: str, seed: int, words: Sequence[str]) -> np.random.Generator:
    """A generator of its own for each family, seed and sentence."""
    said = "\x00".join((name, str(seed), *words)).encode("utf-8", "surrogatepass")
    return np.random.default_rng(int.from_bytes(hashlib.sha256(said).digest()[:16], "little"))
