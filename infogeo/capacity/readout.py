"""The channel from contexts to the token that a model predicts from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import (
    FloatArray,
    as_array,
    check_count,
    check_number,
    group_numbers,
    input_tolerance,
    random_generator,
)
from infogeo._units import Unit, per_nat
from infogeo.capacity._linear_fit import jackknife
from infogeo.capacity._samples import check_level, fold_of_groups, t_quantile, warn_all
from infogeo.capacity.discrete import blahut_arimoto
from infogeo.capacity.results import LayerCapacity
from infogeo.errors import ArgumentError, DomainError, ShapeError

FOLDS = 10
"""Of the jackknife for the information of the population of contexts."""

MEMORY = 64e6
"""Bytes of probabilities that are read at a time."""


def readout_capacity(
    log_probs: ArrayLike,
    *,
    contexts: int = 64,
    groups: ArrayLike | None = None,
    tol: float = 1e-8,
    level: float = 0.95,
    rng: Any = 0,
    unit: Unit = "nats",
) -> LayerCapacity:
    r"""Capacity of the channel from contexts to predicted tokens, for a stated number of contexts.

    .. math:: C_m = \max_p I(p, W), \qquad R_m = H(\tfrac1m \textstyle\sum_i W_i) - \tfrac1m \sum_i H(W_i)

    W has m rows, the predicted distributions of m contexts; R is their Jensen-Shannon divergence. The contexts are
    dealt at random into as many channels of m as they fill, and C and R are means over these.

    Choose this view to see how much of the context reaches the prediction at a layer (by a logit lens) or at the end.
    The noise is the model's own uncertainty: a token is drawn from its prediction. **The capacity grows with the
    number of contexts**, at most as its logarithm, since another context is another letter of the input. So m is an
    argument, the same for layers that are compared, and more contexts make the mean over channels of m more precise
    instead of larger. What does have a limit is the information R at uniform contexts: for the whole population it is
    the information between a random context and its prediction. ``details`` holds its estimate from all contexts
    (``information``), raw and less the jackknife's bias, and ``curve``: R against m.

    Parameters
    ----------
    log_probs : array_like, shape (n, V)
        Log-probabilities of the next (or masked) token in n contexts; each row's probabilities sum to one. A float32
        array is read in portions, so memory stays bounded for large V.
    contexts : int
        m, at least 2.
    groups : array_like, shape (n,), optional
        The text of each context, for the interval of ``information``. The other intervals are over channels of m, with
        the texts as given.
    tol : float
        Largest gap of the certificate, in ``unit``.
    level : float
        Coverage of the intervals.
    rng : int or numpy.random.Generator
        For dealing the contexts.
    unit : {"nats", "bits"}

    Returns
    -------
    LayerCapacity
        ``ceiling`` is the smaller of log m and log V.

    Raises
    ------
    DomainError
        An entry is NaN or plus infinity, or the probabilities of a row do not sum to one.
    ShapeError
        There are fewer than two contexts, or no matrix.
    ArgumentError
        An argument has no such value.
    ConvergenceError
        The gap stays above ``tol``.

    Warns
    -----
    EstimateWarning
        There are fewer than ``contexts`` contexts, so that m is smaller, or fewer than twice as many, so that there is
        one channel and no interval.

    References
    ----------
    .. [1] J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, 1991,
       eq. 5.1.

    Examples
    --------
    >>> certain = np.log(np.where(np.eye(4) == 1, 1.0, 1e-300))
    >>> found = readout_capacity(np.tile(certain, (4, 1)), contexts=4, rng=1, unit="bits")
    >>> found.ceiling, bool(1 < found.capacity < 2)  # 4 contexts drawn from 16 of 4 kinds
    (2.0, True)
    """
    factor = per_nat(unit)
    level, tol = check_level(level), check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a number above zero")
    m = check_count("contexts", contexts, 2)
    generator = random_generator(rng)
    given, tolerance = as_array("log_probs", log_probs), input_tolerance(log_probs)
    if given.ndim != 2 or given.shape[1] == 0:
        raise ShapeError(f"log_probs: found shape {given.shape}, wanted (contexts, tokens)")
    if given.dtype.kind != "f":
        raise DomainError(f"log_probs: found dtype {given.dtype}, wanted logarithms as real numbers")
    n, v = given.shape
    if n < 2:
        raise ShapeError(f"log_probs: found {n} contexts, wanted at least 2")
    messages = []
    if n < m:
        messages.append(f"there are {n} contexts, fewer than contexts={m}; the capacity is that of {n}")
        m = n
    elif n < 2 * m:
        messages.append(f"{n} contexts make one channel of {m} only, so no interval; give {2 * m}, or lower contexts=")
    number = group_numbers(groups, n)

    order = generator.permutation(n)
    channels = n // m
    capacities, rates, gap = np.empty(channels), np.empty(channels), 0.0
    for i in range(channels):
        rows = np.concatenate(list(_probabilities(given, order[i * m : (i + 1) * m], tolerance)))
        found = blahut_arimoto(rows, tol=tol / factor)
        capacities[i], gap = float(found.lower), max(gap, float(found.upper - found.lower))
        rates[i] = _entropy(rows.mean(axis=0)) - np.mean([_entropy(row) for row in rows])
    raw, corrected, error, curve = _population(given, number, order, tolerance)
    ceiling = float(np.log(min(m, v)))
    intervals = [_mean_interval(factor * a, level) for a in (capacities, rates)]
    half = t_quantile(level, error[1] - 1) * error[0] if error[1] > 1 else None
    return LayerCapacity(
        view="readout",
        capacity=factor * float(capacities.mean()),
        rate=factor * float(rates.mean()),
        capacity_interval=intervals[0],
        rate_interval=intervals[1],
        level=None if intervals[0] is None else level,
        ceiling=factor * ceiling,
        unit=unit,
        noise="the model's own: a token is drawn from its prediction",
        constraint=f"one of {m} contexts, of any law for the capacity, uniform for the rate",
        n=n,
        warnings=warn_all(messages, stacklevel=2),
        details={
            "contexts": m,
            "channels": channels,
            "tokens": v,
            "gap": factor * gap,
            "information_of_sample": factor * raw,
            "information": factor * corrected,
            "information_interval": None if half is None else _around(factor * corrected, factor * half),
            "curve": tuple((size, factor * value) for size, value in curve),
        },
    )


def _probabilities(log_probs: NDArray[Any], order: NDArray[np.int64], tolerance: float) -> Iterator[FloatArray]:
    """Checked probabilities of rows, a portion at a time, less the rounding of their number format."""
    step = max(1, int(MEMORY // (8 * log_probs.shape[1])))
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        values = log_probs[rows].astype(np.float64)
        bad = np.isnan(values) | (values == np.inf)
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            raise DomainError(f"log_probs: entry ({int(rows[i])}, {j}) is {values[i, j]}; a logarithm of a probability "
                              "is at most zero")
        with np.errstate(over="ignore"):
            values = np.exp(values)
            total = values.sum(axis=1)
        wrong = ~(np.abs(total - 1) <= tolerance)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise DomainError(
                f"log_probs: the probabilities of row {int(rows[i])} sum to {total[i]:.12g}, wanted 1 within "
                f"{tolerance:.2g}; give log_softmax of the logits"
            )
        yield values / total[:, None]


def _around(value: float, half: float) -> tuple[float, float]:
    return value - half, value + half


def _entropy(p: FloatArray) -> float:
    """Entropy of probabilities, in nats."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def _mean_interval(values: FloatArray, level: float) -> tuple[float, float] | None:
    """Of the mean of independent values; None for a single one."""
    k = len(values)
    if k < 2:
        return None
    half = t_quantile(level, k - 1) * float(values.std(ddof=1)) / k**0.5
    return float(values.mean() - half), float(values.mean() + half)


def _population(
    log_probs: NDArray[Any], number: NDArray[np.int64], order: NDArray[np.int64], tolerance: float
) -> tuple[float, float, tuple[float, int], list[tuple[int, float]]]:
    """Information at uniform contexts: of the sample, jackknifed, its error and folds, and its curve by doubling."""
    n, v = log_probs.shape
    folds = min(FOLDS, int(number.max()) + 1)
    fold = fold_of_groups(number, folds)
    sums, entropies, counts = np.zeros((folds, v)), np.zeros(folds), np.bincount(fold, minlength=folds)
    waiting: list[tuple[int, FloatArray, float]] = []  # blocks of one, two, four, ... contexts
    found: dict[int, list[float]] = {}
    place = 0
    for rows in _probabilities(log_probs, order, tolerance):
        for row in rows:
            h = _entropy(row)
            k = fold[order[place]]
            place += 1
            sums[k] += row
            entropies[k] += h
            block = (1, row, h)
            while waiting and waiting[-1][0] == block[0]:
                size, p, total = waiting.pop()
                block = (2 * size, p + block[1], total + block[2])
                found.setdefault(block[0], []).append(_entropy(block[1] / block[0]) - block[2] / block[0])
            waiting.append(block)
    total_p, total_h = sums.sum(axis=0), float(entropies.sum())
    raw = _entropy(total_p / n) - total_h / n
    curve = [(size, float(np.mean(values))) for size, values in sorted(found.items())]
    if curve[-1][0] != n:
        curve.append((n, raw))
    if folds < 2:
        return raw, raw, (0.0, folds), curve
    parts = []
    for k in range(folds):
        left = n - int(counts[k])
        p = np.maximum(total_p - sums[k], 0.0)
        parts.append(_entropy(p / p.sum()) - (total_h - entropies[k]) / left)
    estimate = jackknife(raw, np.array(parts))
    return raw, estimate.value, (estimate.error, folds), curve
