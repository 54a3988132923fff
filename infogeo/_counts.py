r"""Probabilities and entropies of counts, to full precision for counts of any size; plain arrays.

After C. Loader, Fast and accurate computation of binomial probabilities (2000): with
:math:`h(k) = \log k! - k \log k + k` and the deviance :math:`D(a, b) = a \log(a/b) - a + b` the logarithm of a Poisson
probability is :math:`-h(k) - D(k, r)`, and of a multinomial one :math:`h(n) - \sum_i h(k_i) - \sum_i D(k_i, n p_i)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infogeo._terms import divergence_terms
from infogeo.errors import DomainError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LONG = 1e6
"""Variances beyond this are not summed over."""
BLOCK = 2**20
"""How many terms of a sum are held at once."""

Term = Callable[[FloatArray, FloatArray], FloatArray]
"""(counts, parameter) to a summand"""


def log_factorial_excess(k: FloatArray) -> FloatArray:
    """log(k!) - k log(k) + k of whole numbers, zero at zero and near log(2 pi k) / 2 for large ones."""
    from scipy.special import gammaln, xlogy

    small = k < 16
    few = np.where(small, k, 1.0)
    many = np.where(small, 16.0, k)
    inverse = 1 / many**2
    # Stirling's series; the term left out is below 1e-17 from 16 on
    series = 1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))
    return np.where(small, gammaln(few + 1) - xlogy(few, few) + few, 0.5 * np.log(2 * np.pi * many) + series / many)


def poisson_log_prob(k: IntArray, rate: FloatArray) -> FloatArray:
    """Log-probabilities of counts, minus infinity below zero."""
    count = np.maximum(k, 0).astype(np.float64)
    return np.where(k < 0, -np.inf, -log_factorial_excess(count) - divergence_terms(count, rate))


def binomial_log_prob(k: IntArray, trials: int, prob: FloatArray) -> FloatArray:
    """Log-probabilities of numbers of successes, minus infinity outside 0 to ``trials``."""
    inside = (k >= 0) & (k <= trials)
    won = np.where(inside, k, 0)
    lost = (trials - won).astype(np.float64)
    won = won.astype(np.float64)
    gap = trials * prob - won
    terms = divergence_terms(won, trials * prob, gap) + divergence_terms(lost, trials * (1 - prob), -gap)
    whole = log_factorial_excess(np.asarray(float(trials)))
    return np.where(inside, whole - log_factorial_excess(won) - log_factorial_excess(lost) - terms, -np.inf)


def multinomial_log_prob(k: IntArray, trials: int, probs: FloatArray) -> FloatArray:
    """Log-probabilities of counts (..., V), minus infinity where they are negative or do not sum to ``trials``."""
    inside = (k >= 0).all(axis=-1) & (k.sum(axis=-1) == trials)
    count = np.maximum(k, 0).astype(np.float64)
    parts = log_factorial_excess(count) + divergence_terms(count, trials * probs)
    return np.where(inside, log_factorial_excess(np.asarray(float(trials))) - parts.sum(axis=-1), -np.inf)


def two_outcome_entropy(prob: FloatArray) -> FloatArray:
    """Entropy of one trial, -p log(p) - (1 - p) log(1 - p)."""
    from scipy.special import xlog1py, xlogy

    return np.asarray(0.0 - xlogy(prob, prob) - xlog1py(1 - prob, -prob))


def poisson_entropy(rate: FloatArray) -> FloatArray:
    """Entropies, by sums up to a rate of a thousand and by their asymptotic series beyond."""

    def term(k: FloatArray, r: FloatArray) -> FloatArray:
        log = -log_factorial_excess(k) - divergence_terms(k, r)
        return np.asarray(-np.exp(log) * np.where(log > -np.inf, log, 0.0))

    far = rate > 1e3
    few = np.where(far, 1.0, rate)
    sums = _window_sums(term, few, few, few, np.inf)
    r = np.where(far, rate, 1e3)
    series = 0.5 * (np.log(2 * np.pi * math.e) + np.log(r)) - (1 / 12 + (1 / 24 + (19 / 360 + 9 / 80 / r) / r) / r) / r
    return np.where(far, series, sums)


def binomial_entropy(trials: int, prob: FloatArray) -> FloatArray:
    """Entropies, by sums up to a variance of a million and by their asymptotic series beyond."""
    variance = trials * prob * (1 - prob)
    far = variance > LONG
    few = np.where(far, 0.0, np.minimum(prob, 1 - prob))  # the other outcome has the same entropy, and small counts

    def term(k: FloatArray, p: FloatArray) -> FloatArray:
        log = binomial_log_prob(k.astype(np.int64), trials, p)
        return np.asarray(-np.exp(log) * np.where(log > -np.inf, log, 0.0))

    sums = _window_sums(term, few, trials * few, np.where(far, 0.0, variance), trials)
    large = np.where(far, variance, LONG)
    series = 0.5 * np.log(2 * np.pi * math.e * large) - (1 - 2 * prob) ** 2 / (12 * large)
    return np.where(far, series, sums)


def multinomial_entropy(trials: int, probs: FloatArray) -> FloatArray:
    """Entropies for probabilities (..., V): the means of all terms of :func:`multinomial_log_prob`."""
    variance = trials * probs * (1 - probs)
    if (variance > LONG).any() or trials > 2**50:  # beyond it float64 does not hold all counts
        raise DomainError(
            f"entropy: a count of this multinomial in {trials} trials has variance {variance.max():.3g}; beyond "
            f"{LONG:.0e}, or 2**50 trials, the sum over its values is too long"
        )

    def term(k: FloatArray, p: FloatArray) -> FloatArray:
        weight = np.exp(binomial_log_prob(k.astype(np.int64), trials, p))
        deviance = np.where(weight > 0, divergence_terms(k, trials * p), 0.0)
        return np.asarray(weight * (log_factorial_excess(k) + deviance))

    parts = _window_sums(term, probs, trials * probs, variance, trials)
    return np.asarray(parts.sum(axis=-1) - log_factorial_excess(np.asarray(float(trials))))


def _window_sums(
    term: Term, parameter: FloatArray, mean: FloatArray, variance: FloatArray, last: float
) -> FloatArray:
    """Sums of a term over the counts from 0 to ``last`` within 9 standard deviations and 60 of the mean."""
    flat, center = np.ravel(parameter), np.ravel(mean)
    width = np.ceil(9 * np.sqrt(np.ravel(variance)) + 60)
    first = np.maximum(np.floor(center) - width, 0.0)
    length = np.minimum(np.ceil(center) + width, last) - first + 1
    result = np.empty(flat.shape)
    order = np.argsort(length)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * length[order[stop]] <= BLOCK:
            stop += 1
        chosen = order[start:stop]
        offsets = np.arange(length[chosen[-1]])
        k = first[chosen, None] + offsets
        inside = offsets < length[chosen, None]
        values = term(np.where(inside, k, first[chosen, None]), flat[chosen, None])
        result[chosen] = np.where(inside, values, 0.0).sum(axis=-1)
        start = stop
    return result.reshape(np.shape(parameter))
