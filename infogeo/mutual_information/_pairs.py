"""Neighbors among all pairs of samples, in blocks of bounded memory, for many columns.

Coordinates are rounded to 16-bit whole numbers, whose differences bound the distances from both sides; pairs that the
bounds leave open, a few for each sample, are measured again. So the result is that of float64, several times faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo.mutual_information._neighbors import Found, columns_of, slack_of

Coarse = NDArray[np.int16]

TOP = 16383
"""Coordinates lie between minus and plus this, so that differences fit into 16 bits."""

BLOCK_NUMBERS = 1 << 18
"""Differences held at once for each variable: half a megabyte, which a cache holds."""

MEASURED = 1 << 16
"""Pairs measured at once."""

DENSE = 16
"""All pairs of a block are measured if more than one of so many is asked for, as with columns of few values."""


@dataclass(frozen=True)
class Rounded:
    """Samples in 16 bits, those first that lie within the range."""

    order: IntArray
    """(n,) places of the samples in the given arrays."""
    inside: int
    """The first so many samples lie within the range; the coordinates of the others are clipped to it."""
    scale: float
    """Steps per unit."""
    blocks: list[FloatArray]
    """(n, d) the samples, in this order."""
    coarse: list[Coarse]
    """(d, n) the same as whole numbers."""

    def runs(self) -> list[tuple[int, int]]:
        """Ranges of samples that are worked on together: all within the range, or none."""
        n = len(self.order)
        size = max(4, min(256, BLOCK_NUMBERS // n))
        starts = [*range(0, self.inside, size), *range(self.inside, n, size)]
        return list(zip(starts, [*starts[1:], n], strict=True))

    def apart(self, block: int, start: int, stop: int) -> Coarse:
        """(stop - start, n) coarse maximum-norm distances, the largest number for a sample and itself."""
        coarse = self.coarse[block]
        found = np.zeros((stop - start, coarse.shape[1]), dtype=np.int16)
        step = np.empty_like(found)
        for column in coarse:
            np.subtract(column[start:stop, None], column[None, :], out=step)
            np.abs(step, out=step)
            np.maximum(found, step, out=found)
        found[np.arange(stop - start), np.arange(start, stop)] = np.iinfo(np.int16).max
        return found

    def most(self, reach: FloatArray) -> Coarse:
        """Coarse distances above it are farther than the reach, clipped or not."""
        return np.clip(np.ceil(reach * self.scale) + 2, -1, 2 * TOP).astype(np.int16)

    def least(self, reach: FloatArray) -> Coarse:
        """Coarse distances up to it are within the reach, unless one of the two samples is clipped."""
        return np.clip(np.floor(reach * self.scale) - 2, -1, 2 * TOP).astype(np.int16)


def rounded(blocks: Sequence[FloatArray], k: int) -> Rounded:
    """The samples in 16 bits, with steps that are small beside the distances of neighbors."""
    together = np.hstack(blocks)
    size = np.abs(together)
    rows = together[:: max(1, len(together) // 16)][:16]
    near = np.array([np.partition(np.abs(together - row).max(axis=1), k)[k] for row in rows])
    usual = np.partition(size, int(0.999 * size.size), axis=None)[int(0.999 * size.size)] if size.size else 1.0
    limit = min(float(size.max()), max(float(usual), 16 * float(np.median(near))))
    scale = TOP / limit if limit > 0 else 1.0
    clipped = (size > limit).any(axis=1)
    order = np.concatenate((np.flatnonzero(~clipped), np.flatnonzero(clipped)))
    arranged = [np.ascontiguousarray(block[order]) for block in blocks]
    coarse = [np.ascontiguousarray(np.clip(np.rint(block * scale), -TOP, TOP).astype(np.int16).T) for block in arranged]
    return Rounded(order, int((~clipped).sum()), scale, arranged, coarse)


def by_pairs(
    blocks: Sequence[FloatArray],
    marginals: Sequence[Sequence[int]],
    rounding: FloatArray,
    k: int,
    rectangles: bool,
    threads: int,
) -> Found:
    """Search among all pairs; the same result as that of a tree."""
    samples = rounded(blocks, k)
    n = len(samples.order)
    rough = rounding[samples.order]
    joint = np.hstack(samples.blocks)
    sides = [columns_of(samples.blocks, marginal) for marginal in marginals]
    radius, following = np.empty(n), np.empty(n)
    nearest = np.empty((n, k), dtype=np.int64)
    places = np.zeros(n, dtype=np.int64)
    strict, closed, rectangle = (np.zeros((len(marginals), n), dtype=np.int64) for _ in range(3))

    def fill(start: int, stop: int) -> tuple[IntArray, IntArray]:
        rows, here = np.arange(start, stop), slice(start, stop)
        apart = [samples.apart(block, start, stop) for block in range(len(blocks))]
        whole = _together(apart)
        who, other, distance = _candidates(samples, joint, whole, rough[here], start, k)
        order = np.lexsort((distance, who))
        who, other, distance = who[order], other[order], distance[order]
        first = np.searchsorted(who, rows)
        radius[here] = distance[first + k - 1]
        following[here] = distance[np.minimum(first + k, len(who) - 1)] if n > k + 1 else np.inf
        nearest[here] = other[first[:, None] + np.arange(k)]
        slack = slack_of(radius[here], rough[here])
        low, high = radius[here] - slack, radius[here] + slack
        within = distance <= high[who - start]
        zero = radius[here] <= slack
        places[here] = np.bincount(who[within] - start, minlength=len(rows))
        for m, (marginal, side) in enumerate(zip(marginals, sides, strict=True)):
            coarse = _together([apart[b] for b in marginal])
            strict[m, here], closed[m, here] = _count(samples, side, coarse, start, (low, high))
            if rectangles:
                own = np.abs(side[nearest[here]] - side[here][:, None, :]).max(axis=(1, 2))
                far = own + slack_of(own, rough[here])
                rectangle[m, here] = _count(samples, side, coarse, start, (far, far))[1]
        listed = within & ((following[here] - radius[here] <= slack) & ~zero)[who - start]
        return who[listed], other[listed]

    shells = over_blocks(fill, samples.runs(), threads)
    given = samples.order

    def back(values: Any) -> Any:
        arranged = np.empty_like(values)
        arranged[..., given] = values
        return arranged

    neighbors = np.empty_like(nearest)
    neighbors[given] = given[nearest]
    shell = tuple(given[np.concatenate([pair[side] for pair in shells])] for side in (0, 1))
    return Found(
        back(radius), back(following), neighbors, tuple(back(strict)), tuple(back(closed)), (shell[0], shell[1]),
        back(places), tuple(back(rectangle)) if rectangles else (),
    )  # fmt: skip


def _together(apart: Sequence[Coarse]) -> Coarse:
    """Distances over several blocks of columns."""
    if len(apart) == 1:
        return apart[0]
    found = np.maximum(apart[0], apart[1])
    for other in apart[2:]:
        np.maximum(found, other, out=found)
    return found


def _candidates(
    samples: Rounded, joint: FloatArray, whole: Coarse, rough: FloatArray, start: int, k: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """All pairs, with their distances, that may be among the k + 1 nearest of a row, or as near as these."""
    count = min(k + 1, whole.shape[1] - 1)
    least = np.partition(whole, count - 1, axis=1)[:, count - 1]
    who, other = _nonzero(whole <= least[:, None])
    first = np.searchsorted(who, np.arange(len(whole)))
    some = (first[:, None] + np.arange(count)).ravel()
    # The farthest of so many samples, whichever they are, is no nearer than the last of the nearest.
    bound = _measure(joint, who[some] + start, other[some]).reshape(-1, count).max(axis=1)
    bound = bound + slack_of(bound, rough)
    who, other = _nonzero(whole <= np.maximum(least, samples.most(bound))[:, None])
    return who + start, other, _measure(joint, who + start, other)


def _count(
    samples: Rounded, points: FloatArray, coarse: Coarse, start: int, reaches: tuple[FloatArray, FloatArray]
) -> tuple[IntArray, IntArray]:
    """For each row how many others are no farther than either of two reaches that are next to each other."""
    low, high = reaches
    maybe = coarse <= samples.most(high)[:, None]
    sure = np.zeros(len(coarse), dtype=np.int64)
    if start < samples.inside:
        known = coarse[:, : samples.inside] <= samples.least(low)[:, None]
        sure = np.count_nonzero(known, axis=1)
        maybe[:, : samples.inside] ^= known
    who, other = _nonzero(maybe)
    distance = _measure(points, who + start, other)
    below, upto = (
        sure + np.bincount(who[distance <= reach[who]], minlength=len(coarse)) for reach in (low, high)
    )  # fmt: skip
    return below, upto


def _nonzero(mask: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Rows and columns of the entries that are true, in order; faster than NumPy's where few are."""
    places = np.flatnonzero(mask)
    who, other = np.divmod(places, mask.shape[1])
    return who, other


def _measure(points: FloatArray, who: IntArray, other: IntArray) -> FloatArray:
    """Distances of pairs in float64; those of a sample and others stand together, in the order of the samples."""
    if not len(who):
        return np.empty(0)
    low, high = int(who[0]), int(who[-1]) + 1
    if len(who) * DENSE > (high - low) * len(points):
        apart, step = np.zeros((high - low, len(points))), np.empty((high - low, len(points)))
        for column in points.T:
            np.subtract(column[low:high, None], column[None, :], out=step)
            np.maximum(apart, np.abs(step, out=step), out=apart)
        return np.asarray(apart[who - low, other])
    found = np.empty(len(who))
    for start in range(0, len(who), MEASURED):
        part = slice(start, start + MEASURED)
        step = points[who[part]] - points[other[part]]
        found[part] = np.abs(step, out=step).max(axis=1)
    return found


def count_by_pairs(points: FloatArray, reach: FloatArray, threads: int) -> IntArray:
    """(n,) for each point how many others are no farther than its reach."""
    samples = rounded([points], min(8, len(points) - 1))
    counts = np.empty(len(points), dtype=np.int64)

    def fill(start: int, stop: int) -> None:
        far = reach[samples.order[start:stop]]
        found = _count(samples, samples.blocks[0], samples.apart(0, start, stop), start, (far, far))
        counts[samples.order[start:stop]] = found[1]

    over_blocks(fill, samples.runs(), threads)
    return counts


def over_blocks(fill: Callable[[int, int], Any], runs: Sequence[tuple[int, int]], threads: int) -> list[Any]:
    """What a function returns for ranges of samples, on several threads if asked (NumPy lets go of the lock)."""
    if threads == 1:
        return [fill(*run) for run in runs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda run: fill(*run), runs))
