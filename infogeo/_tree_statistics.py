"""Array kernels behind comparisons of word graphs over a treebank: bootstrap of sentences, sign flips, corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray

SMALLEST_P_VALUE = 1e-12
"""Below this the p-values of :func:`sign_flip_p_value` are rounding; it gives this instead."""
LENGTHS = range(5, 51)
"""Sentence lengths over which Hewitt and Manning average DSpr."""


class Statistic(Protocol):
    """A number for each of F families that depends on how often each sentence counts."""

    @property
    def families(self) -> int:
        """F."""

    def evaluate(self, weights: NDArray[Any]) -> FloatArray:
        """(F, b) under weights (S, b) of the sentences; NaN where undefined."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """Weighted sum of what the families reach in each sentence, over the weighted sum of what there is to reach."""

    rows: IntArray
    """(k,) sentences where there is anything."""
    reached: FloatArray
    """(F + 1, k) by the families, and in the last row what there is."""

    @classmethod
    def of(cls, reached: NDArray[Any], there: NDArray[Any]) -> Ratio:
        """From sentences (S, F) and (S,)."""
        rows = np.flatnonzero(there)
        return cls(rows, np.vstack([reached[rows].T, there[rows]]).astype(np.float64))

    @property
    def families(self) -> int:
        """F."""
        return len(self.reached) - 1

    def evaluate(self, weights: NDArray[Any]) -> FloatArray:
        """(F, b) ratios; sums are taken in the format of the weights."""
        drawn = weights if len(self.rows) == len(weights) else weights[self.rows]
        sums = (self.reached.astype(drawn.dtype) @ drawn).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[:-1] / sums[-1])


@dataclass(frozen=True, eq=False)
class MeanByLength:
    """Mean of the sentences of each length, then mean over the lengths 5 to 50 that there are [Hewitt, Manning 2019].

    Sentences where a family has no value are left out.
    """

    groups: tuple[tuple[IntArray, FloatArray], ...]
    """For each length the sentences (k,) and the values (F, k)."""
    families: int

    @classmethod
    def of(cls, values: FloatArray, lengths: IntArray) -> MeanByLength:
        """From values (S, F), NaN where undefined, and the lengths (S,) of the sentences in words."""
        defined = np.isfinite(values).all(axis=1)
        places = [np.flatnonzero((lengths == length) & defined) for length in LENGTHS]
        return cls(tuple((rows, np.ascontiguousarray(values[rows].T)) for rows in places if len(rows)), values.shape[1])

    @property
    def n_sentences(self) -> int:
        """How many sentences have a value and one of the lengths."""
        return sum(len(rows) for rows, _ in self.groups)

    def evaluate(self, weights: NDArray[Any]) -> FloatArray:
        """(F, b) means; sums are taken in the format of the weights."""
        total = np.zeros((self.families, weights.shape[1]), dtype=weights.dtype)
        lengths = np.zeros(weights.shape[1])
        for rows, values in self.groups:
            drawn = weights[rows]
            n = drawn.sum(axis=0)
            drawn /= np.maximum(n, 1.0)
            total += values.astype(drawn.dtype) @ drawn
            lengths += n > 0
        with np.errstate(invalid="ignore"):
            return np.asarray(total / lengths)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap samples of sentences, drawn within strata, made again from the seed whenever they are needed."""

    strata: tuple[int, ...]
    """How many sentences each stratum has; they stand one after the other."""
    resamples: int
    seed: int
    memory: float
    """Bytes that may be held at once, about."""

    def blocks(self, columns: int = 1) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Weights (S, b) of the sentences, block by block, for a use that holds ``columns`` numbers a resample.

        In float32, sums of fewer than 2^24 hits are exact, and the ends of intervals of other things are right to six
        digits.
        """
        s = sum(self.strata)
        step = max(1, min(self.resamples, int(self.memory / (24 * s + 8 * columns))))
        streams = np.random.default_rng(self.seed).spawn(len(self.strata))  # so that blocks of any size draw the same
        for start in range(0, self.resamples, step):
            size = min(step, self.resamples - start)
            parts = [_multiplicities(n, size, stream) for n, stream in zip(self.strata, streams, strict=True)]
            yield slice(start, start + size), np.concatenate(parts)

    def intervals(self, statistics: Sequence[Statistic], level: float, against: Sequence[int | None]) -> list[Ends]:
        """Percentile intervals of each statistic's families and, where asked, of differences to the one ``against``.

        The same resamples for all. A resample where a statistic is undefined is left out of its interval.
        """
        found: list[Ends] = []
        room = max(1, int(self.memory / (8 * self.resamples)))
        start = 0
        while start < len(statistics):
            stop, used = start, 0
            while stop < len(statistics) and (stop == start or used + statistics[stop].families <= room):
                used += statistics[stop].families
                stop += 1
            group = statistics[start:stop]
            drawn = [np.empty((x.families, self.resamples)) for x in group]
            for block, weights in self.blocks(columns=2 * max(x.families for x in group)):
                for values, statistic in zip(drawn, group, strict=True):
                    values[:, block] = statistic.evaluate(weights)
            for values, other in zip(drawn, against[start:stop], strict=True):
                differences = None if other is None else percentiles(values - values[other], level)
                found.append(Ends(percentiles(values, level), differences))
            start = stop
        return found


@dataclass(frozen=True, eq=False)
class Ends:
    """Lower and upper ends (F, 2) of intervals, and those of the differences to one family."""

    values: FloatArray
    differences: FloatArray | None


def _multiplicities(n: int, size: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """(n, size) how often each of n sentences comes in each of ``size`` samples of n with replacement."""
    drawn = generator.integers(n, size=(size, n))
    drawn += np.arange(size)[:, None] * n
    counts = np.bincount(drawn.reshape(-1), minlength=n * size).reshape(size, n)
    return np.ascontiguousarray(counts.T, dtype=np.float32)


def percentiles(values: FloatArray, level: float) -> FloatArray:
    """(F, 2) ends of the percentile intervals of rows (F, B), over what is finite in each; NaN where nothing is."""
    tail = (1.0 - level) / 2.0
    finite = np.isfinite(values)
    if (finite == finite[:1]).all():
        kept = values[:, finite[0]] if len(values) else values
        if not kept.shape[1]:
            return np.full((len(values), 2), np.nan)
        return np.asarray(np.quantile(kept, [tail, 1.0 - tail], axis=1).T)
    return np.concatenate([percentiles(row[None], level) for row in values])


def shares_of_wins(
    hits: NDArray[Any], families: Sequence[slice], resamples: Resamples
) -> list[FloatArray]:
    """For each family, a slice of the variants, how often each variant is the best of it under resampled sentences.

    ``hits`` (S, V) counts; all variants have the same gold edges, so that sums of hits rank as micro averages do. Of
    equal variants the first wins.
    """
    table = np.ascontiguousarray(hits.T, dtype=np.float32)
    wins = [np.zeros(part.stop - part.start, dtype=np.int64) for part in families]
    for _, weights in resamples.blocks(columns=len(table)):
        sums = table @ weights
        for counts, part in zip(wins, families, strict=True):
            counts += np.bincount(sums[part].argmax(axis=0), minlength=len(counts))
    return [counts / resamples.resamples for counts in wins]


def sign_flip_p_value(differences: IntArray) -> float:
    r"""Two-sided p-value of whole numbers (S,) against flips of their signs: exact, over all 2^S of them.

    The share of sign patterns with :math:`|\sum_s \pm d_s| \ge |\sum_s d_s|`, from the Fourier transform
    :math:`\prod_s \cos(\omega d_s)` of the distribution of the sum.
    """
    from scipy.fft import irfft, next_fast_len

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    observed = abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    reach = int(sizes @ counts)
    n = next_fast_len(2 * reach + 1, real=True)
    angles = np.arange(n // 2 + 1) * (2.0 * np.pi / n)
    transform = np.ones(len(angles))
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        transform *= np.cos(size * angles) ** count
    distribution = irfft(transform, n)
    tail = float(distribution[observed : reach + 1].sum())
    return min(1.0, max(2.0 * tail, SMALLEST_P_VALUE))


def mcnemar_p_value(won: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test from the numbers of edges that only one of two graphs has."""
    from scipy.special import bdtr

    n = won + lost
    return 1.0 if n == 0 else min(1.0, 2.0 * float(bdtr(min(won, lost), n, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that bound the chance of any error among all of them, by Holm's step-down method."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    found: list[float] = adjusted.tolist()
    return found
