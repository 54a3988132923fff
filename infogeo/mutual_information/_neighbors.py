"""Nearest neighbors in the maximum norm, and how many samples lie nearer in some of the variables.

Distances that differ by no more than the rounding of the coordinates are equal, so that ties come out the same in any
unit. Ties are resolved as a small noise would on average, without noise: of a shell of J samples at the radius, j of
which are needed to make k neighbors, the k-th is any of them with equal probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._arrays import Array
from infogeo._checks import FloatArray, IntArray, check_count
from infogeo.mutual_information._samples import EPSILON

Search = Literal["tree", "pairs"]
"""Where neighbors are looked for: in a k-d tree, or among all pairs."""

TREE_DIMENSIONS = 6
"""Above as many joint columns a tree visits so many leaves that all pairs are faster, with some 10,000 samples."""

LIST_ROWS = 1024
"""Samples whose neighbors are listed at once."""


@dataclass(frozen=True)
class Neighborhoods:
    """What is counted around each sample, up to its k-th neighbor, without the sample itself."""

    radius: FloatArray
    """(n,) joint distance to the k-th neighbor."""
    slack: FloatArray
    """(n,) within how much of the radius a distance equals it."""
    tied: NDArray[np.bool_]
    """(n,) whether a further sample is as near as the k-th neighbor, or the radius is zero."""
    joint: IntArray
    """(n,) the argument of the digamma: k; where the radius is zero, samples at the same place with the sample."""
    counts: tuple[FloatArray, ...]
    """For each marginal (n,): samples strictly nearer than the radius, tied ones in expectation; where the radius is
    zero, samples at the same place."""
    rectangle: tuple[IntArray, ...]
    """For each marginal (n,): samples no farther than the farthest of the k neighbors is in it, if asked for."""
    flat: NDArray[np.bool_]
    """(n,) whether all k neighbors equal the sample in one of the marginals, if rectangles are asked for."""
    share: FloatArray
    """(n,) which share of the samples at the radius is nearer than the k-th neighbor, in expectation."""
    size: IntArray
    """(n,) samples at the radius in the joint space."""
    ahead: IntArray
    """(n,) how many of these come before the k-th neighbor."""


@dataclass(frozen=True)
class Found:
    """What a search hands over, before ties are resolved."""

    radius: FloatArray
    """(n,) joint distance to the k-th neighbor."""
    following: FloatArray
    """(n,) joint distance to the one after, infinite if there is none."""
    nearest: IntArray
    """(n, k) the neighbors."""
    strict: tuple[IntArray, ...]
    """For each marginal (n,): samples nearer than the radius."""
    closed: tuple[IntArray, ...]
    """For each marginal (n,): samples no farther; empty if there is no tie."""
    shell: tuple[IntArray, IntArray]
    """Pairs (sample, other): all others no farther than the radius, for the tied samples of positive radius."""
    places: IntArray
    """(n,) others at the same place in the joint space, for samples of radius zero."""
    rectangle: tuple[IntArray, ...]


def search_for(search: Search | None, dimensions: int) -> Search:
    """The way of searching: as asked, or by the number of joint columns."""
    if search is None:
        return "tree" if dimensions <= TREE_DIMENSIONS else "pairs"
    return search


def neighborhoods(
    blocks: Sequence[FloatArray],
    marginals: Sequence[Sequence[int]],
    rounding: FloatArray,
    *,
    k: int,
    rectangles: bool = False,
    search: Search | None = None,
    threads: int = 1,
    where: Array | None = None,
) -> Neighborhoods:
    """Joint radius of k neighbors, and counts in marginals that are made of some of the blocks of columns.

    With ``rectangles`` there are also the counts of the second algorithm of Kraskov et al.: each marginal has a radius
    of its own, the largest distance to one of the k neighbors in it, and the count includes what lies on it. With
    ``where``, a tensor, distances are taken on its device, whatever the search.
    """
    threads = check_count("threads", threads, 1)
    way = search_for(search, sum(block.shape[1] for block in blocks))
    if where is not None:
        from infogeo.mutual_information._tensors import by_tensors

        found = by_tensors(blocks, marginals, rounding, k, rectangles, where)
    elif way == "tree":
        found = by_tree(blocks, marginals, rounding, k, rectangles, threads)
    else:
        from infogeo.mutual_information._pairs import by_pairs

        found = by_pairs(blocks, marginals, rounding, k, rectangles, threads)
    return resolved(found, blocks, marginals, rounding, k)


def by_tree(
    blocks: Sequence[FloatArray],
    marginals: Sequence[Sequence[int]],
    rounding: FloatArray,
    k: int,
    rectangles: bool,
    threads: int,
) -> Found:
    """Search in a k-d tree of all columns, and count in sorted columns or trees of the marginals."""
    from scipy.spatial import cKDTree

    joint = np.hstack(blocks)
    n = len(joint)
    tree = cKDTree(joint)
    distance, index = (np.asarray(part) for part in tree.query(joint, k=k + 2, p=np.inf, workers=threads))
    radius, following = distance[:, k], distance[:, k + 1]
    slack = slack_of(radius, rounding)
    zero = radius <= slack
    tied = (following - radius <= slack) | zero
    places = np.zeros(n, dtype=np.int64)
    if zero.any():
        same = tree.query_ball_point(joint[zero], (radius + slack)[zero], p=np.inf, workers=threads, return_length=True)
        places[zero] = np.asarray(same) - 1
    shell: list[tuple[IntArray, IntArray]] = [(np.zeros(0, dtype=np.int64),) * 2]
    listed = np.flatnonzero(tied & ~zero)
    for rows in np.split(listed, range(LIST_ROWS, len(listed), LIST_ROWS)):
        lists: Any = tree.query_ball_point(joint[rows], (radius + slack)[rows], p=np.inf, workers=threads)
        who = np.repeat(rows, [len(each) for each in lists])
        others = np.array([j for each in lists for j in each], dtype=np.int64)
        shell.append((who[who != others], others[who != others]))
    strict, closed, rectangle = [], [], []
    for marginal in marginals:
        points = columns_of(blocks, marginal)
        strict.append(count_within(points, radius - slack, threads=threads))
        if tied.any():
            closed.append(count_within(points, radius + slack, threads=threads))
        if rectangles:
            own = np.abs(points[index[:, : k + 1]] - points[:, None, :]).max(axis=(1, 2))
            rectangle.append(count_within(points, own + slack_of(own, rounding), threads=threads))
    pairs = (np.concatenate([a for a, _ in shell]), np.concatenate([b for _, b in shell]))
    nearest = index[:, 1 : k + 1]
    return Found(radius, following, nearest, tuple(strict), tuple(closed), pairs, places, tuple(rectangle))


def columns_of(blocks: Sequence[FloatArray], marginal: Sequence[int]) -> FloatArray:
    """The columns of some blocks, side by side."""
    return blocks[marginal[0]] if len(marginal) == 1 else np.hstack([blocks[b] for b in marginal])


def slack_of(radius: FloatArray, rounding: FloatArray) -> FloatArray:
    """Within how much of the radius a distance equals it."""
    return rounding + 4 * EPSILON * radius


def resolved(
    found: Found, blocks: Sequence[FloatArray], marginals: Sequence[Sequence[int]], rounding: FloatArray, k: int
) -> Neighborhoods:
    """Counts with ties resolved in expectation."""
    n, radius = len(found.radius), found.radius
    slack = slack_of(radius, rounding)
    zero = radius <= slack
    tied = (found.following - radius <= slack) | zero
    strict = tuple(count.astype(np.float64) for count in found.strict)
    joint = np.full(n, k, dtype=np.int64)
    flat = np.zeros(n, dtype=np.bool_)
    for marginal in marginals if found.rectangle else ():
        points = columns_of(blocks, marginal)
        own = np.abs(points[found.nearest] - points[:, None, :]).max(axis=(1, 2))
        flat |= own <= slack_of(own, rounding)
    if not tied.any():
        half, one = np.full(n, 0.5), np.ones(n, dtype=np.int64)
        return Neighborhoods(radius, slack, tied, joint, strict, found.rectangle, flat, half, one, one - 1)
    joint[zero] = found.places[zero] + 1
    alone = np.flatnonzero(~tied)
    who = np.concatenate((found.shell[0], np.repeat(alone, k)))
    other = np.concatenate((found.shell[1], found.nearest[alone].ravel()))
    near = (radius - slack)[who]
    # For each pair and block of columns, whether the two are as far apart in it as the radius.
    edges = np.array([distances_of_pairs(block, who, other) > near for block in blocks])
    on = edges.any(axis=0)
    rank = k - np.bincount(who[~on], minlength=n)
    rank = np.maximum(rank, 1)
    shell = Shell(who[on], edges[:, on], rank)
    counts = tuple(
        np.where(zero, high, shell.expected_count(low, high, marginal))
        for marginal, low, high in zip(marginals, found.strict, found.closed, strict=True)
    )
    return Neighborhoods(radius, slack, tied, joint, counts, found.rectangle, flat, shell.share, shell.size, rank - 1)


class Shell:
    """Samples at the radius around each sample, in all orders in which a small noise may put them.

    A pair that is at the radius in c blocks of columns is within a share f of the noise with probability f to the c;
    f is such that as many as are needed for k neighbors are within it.
    """

    def __init__(self, who: IntArray, edges: NDArray[np.bool_], rank: IntArray) -> None:
        n = len(rank)
        self.who, self.edges, self.n = who, edges, n
        self.sides = edges.sum(axis=0)
        number = np.array([np.bincount(who[self.sides == c], minlength=n) for c in range(1, len(edges) + 1)])
        self.size = np.maximum(number.sum(axis=0), 1)
        self.share = _solve_share(number, rank * self.size / (self.size + 1))
        powers = np.arange(1, len(edges) + 1)[:, None]
        f, c = self.share[who], self.sides
        self.within = f**c
        before = (rank - 1) / np.maximum((number * self.share**powers).sum(axis=0), 1e-300)
        last = np.maximum((number * powers * self.share ** (powers - 1)).sum(axis=0), 1e-300)
        self.before = self.within * before[who]
        """Probability that the other comes before the k-th neighbor."""
        self.last = c * f ** (c - 1) / last[who]
        """Probability that it is the k-th neighbor."""

    def expected_count(self, low: IntArray, high: IntArray, marginal: Sequence[int]) -> FloatArray:
        """(n,) samples strictly nearer in one marginal than the k-th neighbor in the joint space, in expectation.

        ``low`` and ``high`` leave out and include those at the radius. Those that are not at the radius in the joint
        space, being farther in another block, are within the share of the noise.
        """
        here = self.edges[list(marginal)].sum(axis=0)
        f, c = self.share[self.who], self.sides
        other_side = (f**here - self.within) / np.maximum(1 - self.within, 1e-300)
        inside = self.before + self.last * (c - here) / c + np.maximum(1 - self.before - self.last, 0) * other_side
        at = here > 0
        expected = np.bincount(self.who[at], weights=inside[at], minlength=self.n)
        alone = high - low - np.bincount(self.who[at], minlength=self.n)
        return np.asarray(low + expected + alone * self.share)


def _solve_share(number: IntArray, wanted: FloatArray) -> FloatArray:
    """(n,) the f between 0 and 1 at which the sum over c of number of c times f to the c is as wanted."""
    if not number[1:].any():
        return np.asarray(wanted / np.maximum(number[0], 1))
    low, high = np.zeros_like(wanted), np.ones_like(wanted)
    for _ in range(53):
        middle = (low + high) / 2
        value = np.zeros_like(wanted)
        for of_power in number[::-1]:
            value = (value + of_power) * middle
        below = value < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def distances_of_pairs(points: FloatArray, who: IntArray, other: IntArray) -> FloatArray:
    """Maximum-norm distances of pairs, column by column, so that little is held at once."""
    apart = np.zeros(len(who))
    for column in points.T:
        np.maximum(apart, np.abs(column[who] - column[other]), out=apart)
    return apart


def count_within(points: FloatArray, reach: FloatArray, *, search: Search = "tree", threads: int = 1) -> IntArray:
    """(n,) for each point how many others are no farther than its reach, in the maximum norm."""
    if points.shape[1] == 1:
        return _count_on_line(points[:, 0], reach)
    if search == "pairs":
        from infogeo.mutual_information._pairs import count_by_pairs

        return count_by_pairs(points, reach, threads)
    from scipy.spatial import cKDTree

    tree = cKDTree(points, leafsize=32)
    found = tree.query_ball_point(points, reach, p=np.inf, workers=threads, return_length=True)
    return np.asarray(found, dtype=np.int64) - (reach >= 0)


def _count_on_line(line: FloatArray, reach: FloatArray) -> IntArray:
    """Counts by sorting; the queries are sorted too, which keeps what they read together."""
    order = np.argsort(line)
    ordered = line[order]
    far = reach[order]
    high = np.searchsorted(ordered, ordered + far, side="right")
    low = np.searchsorted(ordered, ordered - far, side="left")
    counts = np.empty(len(line), dtype=np.int64)
    counts[order] = np.maximum(high - low, 0) - (far >= 0)
    return counts
