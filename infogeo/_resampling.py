"""Array kernels behind :mod:`infogeo.comparison`: ranks, permutations of words, bootstrap of sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from infogeo._checks import FloatArray, IntArray

EXACT_UP_TO = 5040
"""All permutations are enumerated where there are at most this many (seven words)."""


def centered_ranks(values: FloatArray) -> FloatArray:
    """Twice the ranks of each row (..., M) less their mean: whole numbers, equal values sharing their mean rank.

    Whole numbers keep the sums of products exact (below 2^53), so that equal correlations compare as equal.
    """
    from scipy.stats import rankdata

    m = values.shape[-1]
    return np.asarray(2.0 * rankdata(values, axis=-1) - (m + 1.0))


def rank_correlations(ranks: FloatArray, others: FloatArray) -> FloatArray:
    """Spearman's coefficient (H,) of centered ranks (M,) with each row of others (H, M); NaN where one is constant."""
    scale = np.sqrt((ranks @ ranks) * np.einsum("hm,hm->h", others, others))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip((others @ ranks) / scale, -1.0, 1.0))  # the clip takes rounding only


@dataclass(frozen=True)
class Permuted:
    """Scores ``sum over pairs of square[p(i), p(j)] * targets[h, pair]`` under permutations p of the words."""

    square: FloatArray
    """(n, n) symmetric."""
    targets: FloatArray
    """(H, M) one row per thing compared with, over the pairs i < j."""

    def observed(self) -> FloatArray:
        """(H,) scores of the unpermuted words."""
        return np.asarray(self.targets @ self.square[np.triu_indices(len(self.square), 1)])


def word_orders(
    n: int, permutations: int, rng: np.random.Generator, *, memory: float = 64e6
) -> Iterator[IntArray]:
    """Permutations of n words in blocks (P, n) whose pair values fit the memory; all of them where they are few."""
    rows = max(1, int(memory // (32 * max(1, n * (n - 1) // 2))))
    if is_exact(n, permutations):
        every = itertools.permutations(range(n))
        while block := list(itertools.islice(every, rows)):
            yield np.array(block, dtype=np.int64).reshape(len(block), n)
        return
    for start in range(0, permutations, rows):
        size = min(rows, permutations - start)
        yield rng.permuted(np.tile(np.arange(n, dtype=np.int64), (size, 1)), axis=1)


def is_exact(n: int, permutations: int) -> bool:
    """Whether all n! permutations are enumerated instead of drawn."""
    return n <= 20 and math.factorial(n) <= max(permutations, EXACT_UP_TO)


def permutation_p_values(
    scores: Sequence[Permuted],
    *,
    permutations: int,
    rng: np.random.Generator,
    alternative: str = "greater",
    memory: float = 64e6,
) -> list[FloatArray]:
    """For each of several scores of the same n words, p-values (H,) under common permutations of the words.

    (1 + number at least as extreme) / (1 + number drawn); where all n! are enumerated, the share at least as extreme.
    """
    n = len(scores[0].square)
    first, second = np.triu_indices(n, 1)
    observed = [s.observed() for s in scores]
    slack = [1e-12 * np.abs(s.square[first, second]).sum() * np.abs(s.targets).max(initial=0.0) for s in scores]
    counts = [np.zeros(len(s.targets), dtype=np.int64) for s in scores]
    drawn = 0
    for orders in word_orders(n, permutations, rng, memory=memory):
        flat = orders[:, first] * n + orders[:, second]
        for which, score in enumerate(scores):
            values = score.square.reshape(-1)[flat] @ score.targets.T
            reached = observed[which]
            if alternative == "two-sided":
                extreme = np.abs(values) >= np.abs(reached) - slack[which]
            elif alternative == "less":
                extreme = values <= reached + slack[which]
            else:
                extreme = values >= reached - slack[which]
            counts[which] += extreme.sum(axis=0)
        drawn += len(orders)
    added = 0 if is_exact(n, permutations) else 1
    return [(added + c) / (added + drawn) for c in counts]


def bootstrap_intervals(
    values: FloatArray, *, resamples: int, level: float, rng: np.random.Generator, memory: float = 64e6
) -> FloatArray:
    """Percentile intervals (C, 2) of the column means of values (S, C), rows drawn with replacement."""
    s, columns = values.shape
    means = np.empty((resamples, columns))
    step = max(1, int(memory // (8 * max(1, s))))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        means[start : start + size] = rng.multinomial(s, np.full(s, 1.0 / s), size=size) @ values / s
    tail = (1.0 - level) / 2.0
    return np.asarray(np.quantile(means, [tail, 1.0 - tail], axis=0).T)
