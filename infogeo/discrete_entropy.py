"""Entropy of a discrete variable from how often each of its values was seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_array, as_int_array, check_count
from infogeo._dirichlet_mixture import posterior_mean_entropy
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning

EntropyMethod = Literal[
    "plug_in", "miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "james_stein", "nsb"
]
"""Name of an estimator of :func:`estimate_entropy`."""


def estimate_entropy(
    counts: ArrayLike, *, method: EntropyMethod = "chao_wang_jost", unit: Unit = "nats"
) -> float | FloatArray:
    r"""Shannon entropy of a discrete variable, estimated from counts.

    The entropy of the observed frequencies is too low, by about (K - 1) / 2n for K outcomes seen in n samples, and by
    far more when n is not much larger than the number of outcomes. The other methods take that bias off. With counts
    :math:`n_i` that sum to n, frequencies :math:`p_i = n_i / n`, :math:`f_1` outcomes seen once, :math:`f_2` seen
    twice and the digamma function :math:`\psi`:

    "plug_in"
        .. math:: H = -\sum_i p_i \log p_i
    "miller_madow"
        The plug-in entropy plus :math:`(K - 1) / 2n`, K outcomes seen [1]_.
    "grassberger"
        The second estimator of [2]_, its equation 35, with a smaller bias than the first, which has :math:`\psi` for G:

        .. math:: H = \log n - \frac1n \sum_i n_i G(n_i), \qquad
                  G(m) = \psi(m) + \frac{(-1)^m}{2} \Bigl[\psi\Bigl(\frac{m + 1}2\Bigr) - \psi\Bigl(\frac m2\Bigr)\Bigr]
    "chao_shen"
        The frequencies times the coverage :math:`C = 1 - f_1 / n`, each term divided by the probability that its
        outcome is seen at all (Horvitz-Thompson) [3]_. If all samples differ, :math:`f_1` counts as n - 1.

        .. math:: H = -\sum_i \frac{C p_i \log (C p_i)}{1 - (1 - C p_i)^n}
    "chao_wang_jost"
        What is seen without bias, and an estimate of the rest from the slope of the curve of outcomes found [4]_:

        .. math:: H = \sum_i p_i \bigl(\psi(n) - \psi(n_i)\bigr)
                  + \frac{f_1}{n} (1 - A)^{1 - n} \sum_{r \ge n} \frac{(1 - A)^r}{r}

        with :math:`A = 2 f_2 / ((n - 1) f_1 + 2 f_2)`, or :math:`2 / ((n - 1)(f_1 - 1) + 2)` if :math:`f_2 = 0`.
    "james_stein"
        The entropy of frequencies shrunk towards equal ones, :math:`\lambda / V + (1 - \lambda) p_i`, with the
        intensity that minimizes the estimated squared error, at most 1 [5]_:

        .. math:: \lambda = \frac{1 - \sum_i p_i^2}{(n - 1) \sum_i (1/V - p_i)^2}
    "nsb"
        The posterior mean under a mixture of symmetric Dirichlet priors that makes the prior of the entropy almost
        flat [6]_. Its integral is taken to about twelve digits.

    The last two need V, the number of outcomes there can be: they take the length of the last axis, so give zeros for
    outcomes that were not seen. For the others zeros change nothing. The default needs no V, was the best or nearly so
    in every undersampled case of the table in :doc:`/entropies`, and takes a tenth of a millisecond.

    Parameters
    ----------
    counts : array_like of whole numbers, shape (..., V)
        How often each of V outcomes was seen, at least one sample in each row.
    method : str
        One of the names above.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float or ndarray, shape (...,)
        One number for one row of counts. Never clipped: a corrected estimate may be above log V.

    Raises
    ------
    DomainError
        If a count is negative or not a whole number, or a row has no sample.
    ShapeError, ArgumentError
        If there is no axis of outcomes, or the method or unit does not exist.

    Warns
    -----
    EstimateWarning
        If more than half of the samples of a row are of outcomes seen once: by the estimate of Good and Turing what was
        seen then has less than half of the probability, and the result rests on what was not seen.

    References
    ----------
    .. [1] G. Miller, "Note on the bias of information estimates", in Information Theory in Psychology II-B, 1955.
    .. [2] P. Grassberger, "Entropy estimates from insufficient samplings", arXiv physics/0307138, 2003.
    .. [3] A. Chao and T.-J. Shen, "Nonparametric estimation of Shannon's index of diversity when there are unseen
       species in sample", Environmental and Ecological Statistics 10, 2003.
    .. [4] A. Chao, Y. Wang and L. Jost, "Entropy and the species accumulation curve: a novel entropy estimator via
       discovery rates of new species", Methods in Ecology and Evolution 4, 2013.
    .. [5] J. Hausser and K. Strimmer, "Entropy inference and the James-Stein estimator, with application to nonlinear
       gene association networks", Journal of Machine Learning Research 10, 2009.
    .. [6] I. Nemenman, F. Shafee and W. Bialek, "Entropy and inference, revisited", NIPS 14, 2002.

    Examples
    --------
    >>> counts = [4, 2, 1, 1, 0, 0]
    >>> round(estimate_entropy(counts, method="plug_in"), 6)
    1.213008
    >>> round(estimate_entropy(counts, method="nsb"), 6)
    1.441979
    >>> estimate_entropy([[4, 4], [8, 0]], method="miller_madow", unit="bits").round(6).tolist()
    [1.090168, 0.0]
    """
    table = _as_counts(counts)
    estimator, scale = _estimator(method), per_nat(unit)
    rows = table.reshape(-1, table.shape[-1])
    _warn_of_unseen(rows, table.shape[:-1])
    result = scale * estimator(rows)
    return float(result[0]) if table.ndim == 1 else result.reshape(table.shape[:-1])


def entropy_standard_error(
    counts: ArrayLike, *, method: EntropyMethod = "chao_wang_jost", unit: Unit = "nats"
) -> float | FloatArray:
    r"""Standard error of an entropy estimated from counts, by the jackknife.

    .. math:: s^2 = \frac{n - 1}{n} \sum_j \bigl(H_{(j)} - \bar H\bigr)^2, \qquad \bar H = \frac1n \sum_j H_{(j)}

    :math:`H_{(j)}` is the estimate without sample j; samples of one outcome share it [1]_. It measures how much the
    estimate varies from sample to sample, not its bias, and tends to be too large: by about a fifth for "grassberger",
    whose terms jump between odd and even counts, and by up to a tenth for the others (400 samples of Zipf's law over
    100 symbols).

    Parameters
    ----------
    counts : array_like of whole numbers, shape (..., V)
        How often each of V outcomes was seen, at least two samples in each row.
    method : str
        One of the names of :func:`estimate_entropy`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float or ndarray, shape (...,)

    Raises
    ------
    DomainError, ShapeError, ArgumentError
        As :func:`estimate_entropy`; also if a row has only one sample.

    References
    ----------
    .. [1] B. Efron and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.

    Examples
    --------
    >>> round(entropy_standard_error([40, 30, 20, 10], method="miller_madow"), 4)
    0.0439
    """
    table = _as_counts(counts)
    estimator, scale = _estimator(method), per_nat(unit)
    rows = table.reshape(-1, table.shape[-1])
    if (rows.sum(axis=-1) == 1).any():
        first_single = int((rows.sum(axis=-1) == 1).argmax())
        raise DomainError(f"counts: row {first_single} has one sample, wanted at least 2 to leave one out")
    result = np.empty(len(rows))
    for i, row in enumerate(rows):
        total = row.sum()
        values, first, times = np.unique(row, return_index=True, return_counts=True)
        seen = values > 0
        without = np.repeat(row[None, :], seen.sum(), axis=0)
        without[np.arange(seen.sum()), first[seen]] -= 1
        estimates, weights = estimator(without), (values * times)[seen]
        mean = weights @ estimates / total
        result[i] = np.sqrt((total - 1) / total * (weights @ (estimates - mean) ** 2))
    result *= scale
    return float(result[0]) if table.ndim == 1 else result.reshape(table.shape[:-1])


def entropy_of_labels(
    labels: ArrayLike,
    *,
    n_outcomes: int | None = None,
    method: EntropyMethod = "chao_wang_jost",
    unit: Unit = "nats",
) -> float:
    """Shannon entropy of a discrete variable, estimated from samples of it.

    Counts the labels and calls :func:`estimate_entropy`, which describes the methods.

    Parameters
    ----------
    labels : array_like, shape (n,)
        Whole numbers, strings or truth values.
    n_outcomes : int, optional
        How many values the labels can have, seen or not; by default as many as were seen. Only "james_stein" and "nsb"
        depend on it, and need it: without it their answer is about a variable with no further values.
    method : str
        One of the names of :func:`estimate_entropy`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    DomainError
        If the labels are real numbers, objects or NaN.
    ShapeError, ArgumentError
        If the labels are not one axis of at least one sample, or there are more of them than ``n_outcomes``.

    Warns
    -----
    EstimateWarning
        As :func:`estimate_entropy`.

    Examples
    --------
    >>> round(entropy_of_labels(list("abracadabra"), method="plug_in", unit="bits"), 6)
    2.040373
    """
    array = as_array("labels", labels)
    if array.ndim != 1 or array.size == 0:
        raise ShapeError(f"labels: found shape {array.shape}, wanted one axis of at least one sample")
    if array.dtype.kind not in "iubSU":
        raise DomainError(
            f"labels: found dtype {array.dtype}, wanted whole numbers, strings or truth values; measurements on a "
            "continuous scale have a differential entropy: use kozachenko_leonenko_entropy"
        )
    counts = np.unique(array, return_counts=True)[1]
    if n_outcomes is not None:
        least = len(counts)
        if check_count("n_outcomes", n_outcomes, 1) < least:
            raise ArgumentError(f"n_outcomes: found {n_outcomes}, but the labels have {least} different values")
        counts = np.concatenate([counts, np.zeros(n_outcomes - least, dtype=counts.dtype)])
    return float(estimate_entropy(counts, method=method, unit=unit))


def _estimator(method: object) -> Callable[[IntArray], FloatArray]:
    if not isinstance(method, str) or method not in _ESTIMATORS:
        raise ArgumentError(f"method: found {method!r}, wanted one of {', '.join(_ESTIMATORS)}")
    return _ESTIMATORS[method]


def _as_counts(counts: ArrayLike) -> IntArray:
    given = as_array("counts", counts)
    if given.dtype.kind == "f" and given.size:
        raise DomainError(
            f"counts: found dtype {given.dtype}, wanted whole numbers; give counts.astype(int) if they are whole (the "
            "corrections depend on the size of the sample, so probabilities do not do: use shannon_entropy for them)"
        )
    table = as_int_array("counts", given)
    if table.ndim == 0 or table.shape[-1] == 0:
        raise ShapeError(f"counts: found shape {table.shape}, wanted (..., V) with at least one outcome")
    if (table < 0).any():
        where = tuple(int(i) for i in np.argwhere(table < 0)[0])
        raise DomainError(f"counts: entry {where} is {table[where]}; a count is not negative")
    total = table.sum(axis=-1)
    if (table.astype(np.float64).sum(axis=-1) > 0.999 * 2.0**63).any():  # whole numbers wrap around in silence
        raise DomainError("counts: the samples of a row are more than int64 can count (9.2e18); divide the counts")
    if (total == 0).any():
        which = tuple(int(i) for i in np.argwhere(total == 0)[0])
        row = f"row {which[0] if len(which) == 1 else which}" if which else "the row"
        raise DomainError(f"counts: {row} has no sample, all its counts are 0; the entropy of nothing is not defined")
    return table


def _warn_of_unseen(rows: IntArray, shape: tuple[int, ...]) -> None:
    once = (rows == 1).sum(axis=-1)
    total = rows.sum(axis=-1)
    doubtful = 2 * once > total
    if doubtful.any():
        first = int(doubtful.argmax())
        index = tuple(int(i) for i in np.unravel_index(first, shape)) if shape else ()
        where = f" in row {index[0] if len(index) == 1 else index}" if index else ""
        more = f" ({int(doubtful.sum())} rows are like it)" if doubtful.sum() > 1 else ""
        warnings.warn(
            f"counts: {once[first]} of {total[first]} samples{where} are of outcomes seen once{more}, so most of the "
            "probability may lie on outcomes not seen, and no method knows how it is spread; give more samples, or "
            "coarser outcomes",
            EstimateWarning,
            stacklevel=3,
        )


def _plug_in(rows: IntArray) -> FloatArray:
    return _entropy_of(rows / rows.sum(axis=-1, keepdims=True))


def _entropy_of(probs: FloatArray) -> FloatArray:
    from scipy.special import xlogy

    return np.asarray(0.0 - xlogy(probs, probs).sum(axis=-1))


def _miller_madow(rows: IntArray) -> FloatArray:
    return np.asarray(_plug_in(rows) + ((rows > 0).sum(axis=-1) - 1) / (2 * rows.sum(axis=-1)))


def _grassberger(rows: IntArray) -> FloatArray:
    from scipy.special import digamma

    total = rows.sum(axis=-1)
    count = np.maximum(rows, 1).astype(np.float64)
    sign = np.where(rows % 2 == 0, 0.5, -0.5)
    g = digamma(count) + sign * (digamma((count + 1) / 2) - digamma(count / 2))
    return np.asarray(np.log(total) - (rows * g).sum(axis=-1) / total)


def _chao_shen(rows: IntArray) -> FloatArray:
    from scipy.special import xlogy

    total = rows.sum(axis=-1)
    once = (rows == 1).sum(axis=-1)
    # the coverage is estimated as 0 if all samples differ; the authors' rule then is to leave one of them out
    once = np.where(once == total, total - 1, once)
    probs = (1 - once / total)[:, None] * (rows / total[:, None])
    with np.errstate(divide="ignore"):
        seen = -np.expm1(total[:, None] * np.log1p(-probs))
    return np.asarray(0.0 - (xlogy(probs, probs) / np.where(rows > 0, seen, 1.0)).sum(axis=-1))


def _chao_wang_jost(rows: IntArray) -> FloatArray:
    from scipy.special import digamma

    total = rows.sum(axis=-1).astype(np.float64)
    once = (rows == 1).sum(axis=-1).astype(np.float64)
    twice = (rows == 2).sum(axis=-1).astype(np.float64)
    seen = (rows * (digamma(total)[:, None] - digamma(np.maximum(rows, 1)))).sum(axis=-1) / total
    rate = np.where(
        twice > 0,
        2 * twice / ((total - 1) * once + 2 * np.maximum(twice, 1)),
        2 / ((total - 1) * np.maximum(once - 1, 0) + 2),
    )
    some = (once > 0) & (rate < 1)
    unseen = np.zeros(len(rows))
    if some.any():
        unseen[some] = once[some] / total[some] * _tail(rate[some], total[some])
    return np.asarray(seen + unseen)


def _tail(rate: FloatArray, total: FloatArray) -> FloatArray:
    r"""Sums of (1 - A)**(r - n + 1) / r over r >= n.

    The formula in the paper takes n - 1 terms of the series of -log(A) from -log(A), which leaves no digit where
    (1 - A)**n is small. Here the sum is :math:`\int_0^\infty \frac{x}{n} \frac{e^{-u}}{1 - x e^{-u/n}} du` with
    x = 1 - A, by the trapezoidal rule in log(u): analytic in a strip of width pi, so a step of 1/4 gives all digits.
    """
    x = 1 - rate
    lowest = float(np.log(np.minimum(rate * total, 1)).min()) - 38
    s = np.arange(lowest, 4.0, 0.25)
    u = np.exp(s)
    result = np.empty_like(x)
    block = max(1, 2**20 // len(s))
    for start in range(0, len(x), block):
        part = slice(start, start + block)
        n = total[part, None]
        below = rate[part, None] - x[part, None] * np.expm1(-u / n)
        result[part] = 0.25 * x[part] / total[part] * (np.exp(s - u) / below).sum(axis=-1)
    return result


def _james_stein(rows: IntArray) -> FloatArray:
    total = rows.sum(axis=-1)
    target = 1 / rows.shape[-1]
    probs = rows / total[:, None]
    spread = (total - 1) * ((target - probs) ** 2).sum(axis=-1)
    error = 1 - (probs**2).sum(axis=-1)
    intensity = np.divide(error, spread, out=np.ones_like(error), where=spread > 0)
    intensity = np.minimum(intensity, 1.0)[:, None]
    return _entropy_of(intensity * target + (1 - intensity) * probs)


def _nsb(rows: IntArray) -> FloatArray:
    return np.array([posterior_mean_entropy(row) for row in rows])


_ESTIMATORS: dict[str, Callable[[IntArray], FloatArray]] = {
    "plug_in": _plug_in,
    "miller_madow": _miller_madow,
    "grassberger": _grassberger,
    "chao_shen": _chao_shen,
    "chao_wang_jost": _chao_wang_jost,
    "james_stein": _james_stein,
    "nsb": _nsb,
}
