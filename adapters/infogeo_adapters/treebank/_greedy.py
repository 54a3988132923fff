"""Measurements that are chosen together with labels: one after the other, whichever finds most gold relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo._trees import adjacency, spanning_trees
from infogeo.errors import ArgumentError, ShapeError
from infogeo.evidence import log_offsets

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree

MEMORY = 32e6
"""Bytes of closeness whose spanning trees are found at once."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensemble:
    """What was chosen, in the order in which it was."""

    members: tuple[int, ...]
    exponent: float
    """Of the prior by distance, zero where there is none."""
    scores: tuple[float, ...]
    """Share of gold relations (UUAS without punctuation) after each was added."""


def choose_members(
    features: Sequence[NDArray[Any]], trees: Sequence[DependencyTree], *, most: int,
    exponents: Sequence[float] | None = None,
) -> Ensemble:
    """Add measurements one by one while their mean finds more gold relations.

    Of equal ones the first is taken, and of equal exponents the first, so that the same sentences give the same
    ensemble.

    Parameters
    ----------
    features : sequence of array, shape (K, n, n)
        Measurements of each sentence, symmetric.
    trees : sequence of DependencyTree
        Of the same sentences.
    most : int
        Most measurements.
    exponents : sequence of float, optional
        Exponents of a prior by distance to choose from, which is subtracted from the mean; none by default.

    Returns
    -------
    Ensemble

    Raises
    ------
    ArgumentError
        There is no relation between words that are no punctuation.
    ShapeError
        There is not one array for each tree with one row for each word.
    """
    if len(features) != len(trees):
        raise ShapeError(f"features: found {len(features)} arrays for {len(trees)} trees, wanted one for each")
    sentences = [Kept.of(maps, tree) for maps, tree in zip(features, trees, strict=True)]
    total = sum(len(s.gold) for s in sentences)
    if not total:
        raise ArgumentError("trees: found no relation between words that are no punctuation, wanted gold trees")
    sentences = [s for s in sentences if len(s.gold)]
    count = len(sentences[0].maps)
    chosen: list[int] = []
    scores: list[float] = []
    exponent = 0.0
    while len(chosen) < min(most, count):
        found = np.sum([s.hits(chosen, exponents) for s in sentences], axis=0) / total
        found[:, chosen] = -1.0
        tried, member = (int(place) for place in np.unravel_index(int(found.argmax()), found.shape))
        if scores and found[tried, member] <= scores[-1]:
            break
        chosen.append(member)
        scores.append(float(found[tried, member]))
        exponent = 0.0 if exponents is None else float(exponents[tried])
    return Ensemble(members=tuple(chosen), exponent=exponent, scores=tuple(scores))


@dataclass(frozen=True, eq=False)
class Kept:
    """Measurements of a sentence between the words that are no punctuation, and the gold relations between these."""

    maps: NDArray[Any]
    """(K, m, m)"""
    gold: IntArray
    """(r, 2) places among the words."""
    offsets: FloatArray
    """(m, m) logarithms of how far the words stand apart."""

    @classmethod
    def of(cls, maps: NDArray[Any], tree: DependencyTree) -> Kept:
        """Those of a tree, after a look at the shape."""
        if maps.ndim != 3 or maps.shape[1:] != (len(tree), len(tree)):
            raise ShapeError(
                f"features of {tree.name!r}: found shape {maps.shape}, wanted (K, {len(tree)}, {len(tree)})"
            )
        there = np.logical_not(tree.punctuation)
        words = np.flatnonzero(there)
        edges = tree.edges()
        place = np.cumsum(there) - 1
        gold = place[edges[there[edges].all(axis=1)]]
        among = (words[:, None], words)
        return cls(maps[:, among[0], among[1]], gold, log_offsets(len(tree))[among])

    def hits(self, chosen: Sequence[int], exponents: Sequence[float] | None) -> IntArray:
        """How many gold relations the spanning trees have (E, K), of the means of the chosen ones with each of all."""
        count, n = self.maps.shape[:2]
        priors = None if exponents is None else np.multiply.outer(np.asarray(exponents), self.offsets)
        before = np.zeros((n, n))
        for member in chosen:
            before = before + self.maps[member]
        step = max(1, int(MEMORY // (8 * n * n * (1 if priors is None else len(priors)))))
        found = []
        for start in range(0, count, step):
            sums = before + self.maps[start : start + step]
            tried = sums[None] if priors is None else (sums / (len(chosen) + 1)) - priors[:, None]
            joined = adjacency(spanning_trees(tried.reshape(-1, n, n)), n)
            hits = joined[:, self.gold[:, 0], self.gold[:, 1]].sum(axis=1)
            found.append(hits.reshape(len(tried), -1))
        return np.asarray(np.concatenate(found, axis=1), dtype=np.int64)
