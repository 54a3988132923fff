"""Array kernels behind comparisons: ranks, residuals, permutations of words, bootstrap of sentences."""

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


def unit_rows(values: FloatArray) -> FloatArray:
    """Each centered row (..., M) divided by its length; NaN where it is zero, which is where a row was constant."""
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(np.divide(values, length, out=np.full(values.shape, np.nan), where=length > 0))


def correlations(row: FloatArray, others: FloatArray) -> FloatArray:
    """Correlation (H,) of a centered row (M,) with each of others (H, M); NaN where one is zero.

    Of centered ranks it is Spearman's coefficient.
    """
    scale = np.sqrt((row @ row) * np.einsum("hm,hm->h", others, others))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip((others @ row) / scale, -1.0, 1.0))  # the clip takes rounding only


def words_between(n: int) -> IntArray:
    """How far apart in the text the words of each pair i < j are, j - i, as an array (M,)."""
    first, second = np.triu_indices(n, 1)
    return second - first


def residuals_within(values: FloatArray, groups: IntArray) -> FloatArray:
    """Rows (..., M) less their mean over each group, ``groups`` (M,) being small whole numbers.

    A row of which no more than rounding is left (1e-9 of its length) is zero.
    """
    _, starts, member, sizes = np.unique(np.sort(groups), return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(groups, kind="stable")
    place = np.empty_like(order)
    place[order] = member
    means = np.add.reduceat(values[..., order], starts, axis=-1) / sizes
    left = values - means[..., place]
    length, whole = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (left, values))
    return np.where(length > 1e-9 * whole, left, 0.0)


@dataclass(frozen=True)
class Permuted:
    """Scores ``sum over pairs of square[p(i), p(j)] * targets[h, pair]`` under permutations p of the words."""

    square: FloatArray
    """(n, n) symmetric."""
    targets: FloatArray
    """(H, M) one row per thing compared with, over the pairs i < j."""
    groups: IntArray | None = None
    """(M,) if given, scores are divided by the length of the permuted values' residuals from their group means.

    With targets that are such residuals, that is the partial correlation up to a constant."""

    def scores(self, pairs: FloatArray) -> FloatArray:
        """(P, H) scores of values (P, M) of the pairs."""
        products = pairs @ self.targets.T
        if self.groups is None:
            return products
        length = np.linalg.norm(residuals_within(pairs, self.groups), axis=-1, keepdims=True)
        return np.asarray(np.divide(products, length, out=np.zeros_like(products), where=length > 0))

    def observed(self) -> FloatArray:
        """(H,) scores of the unpermuted words."""
        return np.asarray(self.scores(self.square[np.triu_indices(len(self.square), 1)][None])[0])

    def slack(self) -> float:
        """Difference below which two scores are the same up to rounding."""
        if self.groups is not None:
            return 1e-10 * float(np.linalg.norm(self.targets, axis=-1).max(initial=0.0))
        pairs = self.square[np.triu_indices(len(self.square), 1)]
        return 1e-12 * float(np.abs(pairs).sum() * np.abs(self.targets).max(initial=0.0))


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
    slack = [s.slack() for s in scores]
    counts = [np.zeros(len(s.targets), dtype=np.int64) for s in scores]
    drawn = 0
    for orders in word_orders(n, permutations, rng, memory=memory):
        flat = orders[:, first] * n + orders[:, second]
        for which, score in enumerate(scores):
            values = score.scores(score.square.reshape(-1)[flat])
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
