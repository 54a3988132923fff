"""What a representation says about labels, bounded from below by how well a probe predicts them."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_array,
    as_float_array,
    as_int_array,
    check_number,
    group_numbers,
    sum_tolerance,
)
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning, InformationEstimate

FEW_GROUPS = 8
"""Below this number of independent groups the interval rests on too little to be trusted."""


def probing_information(
    labels: ArrayLike,
    log_probs: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    label_probs: ArrayLike | None = None,
    level: float = 0.95,
    unit: Unit = "nats",
) -> InformationEstimate:
    r"""Lower bound of the information between a representation and labels, from the predictions of a probe.

    .. math:: I(T; Y) \ge H(Y) + \frac{1}{n} \sum_i \log q(y_i \mid t_i)

    the entropy of the labels less the cross-entropy of the predictions [1]_. What is missing to equality is the mean
    divergence of the prediction from the true law of Y given T: a better probe gives a higher bound.

    **It is a bound only if the predictions are held out**: no row may be predicted by a probe that was fitted, or
    whose penalty was chosen, on it (or on rows of its group). That cannot be seen from the numbers; the caller vouches
    for it. Predictions on training rows overstate the information without limit.

    The entropy is that of the label frequencies in these rows, which on average is low by about (classes - 1) / (2 n)
    nats, on the safe side; give ``label_probs`` where the law of the labels is known. The standard error is that of
    the mean of log q(y|t) - log p(y), with rows of one group added up first, and the interval that of Student's t with
    one degree of freedom less than groups. The interval is around the bound: its lower end is a lower limit of the
    information, its upper end is none. The value is raw, and negative where the probe predicts worse than the
    frequencies.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Column of ``log_probs`` that came true.
    log_probs : array_like, shape (n, V)
        Logarithms of held-out predicted probabilities, in nats; rows sum to one within 1e-9, or the rounding of a
        coarser dtype.
    groups : array_like, shape (n,), optional
        What belongs together (the text of a token); rows count as independent if left out.
    label_probs : array_like, shape (V,), optional
        The law of the labels, if known.
    level : float
        Coverage of the interval.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    InformationEstimate
        Of I(T; Y), with H(Y), the cross-entropy and the accuracy in ``details``, all in the same unit; no interval if
        there is one group only.

    Warns
    -----
    EstimateWarning
        If there are fewer than eight groups, or all labels are alike.

    Raises
    ------
    ShapeError
        If the shapes do not fit, or there is no row.
    DomainError
        If a row does not sum to one (the message has its number and sum), an entry is NaN or plus infinity, a label is
        no column, or a label that came true was predicted with probability zero.
    ArgumentError
        If the level is not between 0 and 1, or the unit unknown.

    References
    ----------
    .. [1] D. Barber, F. Agakov, "The IM algorithm: a variational approach to information maximization", NeurIPS 2003,
       equation 2; for probes T. Pimentel et al., "Information-theoretic probing for linguistic structure", ACL 2020.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.tile([0, 1], 50)
    >>> good = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
    >>> print(probing_information(labels, np.log(good), unit="bits").summary())
    I(T; Y) = 0.848 bits (0.848 to 0.848), lower bound H(Y) - cross-entropy, if predictions are held out, n = 100
    """
    factor = per_nat(unit)
    coverage = check_number("level", level)
    if not 0 < coverage < 1:
        raise ArgumentError(f"level: found {coverage:g}, wanted a number between 0 and 1, such as 0.95")
    chosen, predicted = _checked(labels, log_probs)
    n, n_classes = predicted.shape
    members = group_numbers(groups, n)
    log_law, known = _law(chosen, label_probs, n_classes)
    said = predicted[np.arange(n), chosen]
    entropy = -float(np.exp(log_law) @ np.where(np.isneginf(log_law), 0.0, log_law))
    value = entropy + float(said.mean())
    error, interval = _error(said if known else said - log_law[chosen], members, coverage, value)

    found = []
    n_groups = int(members.max()) + 1
    if n_groups < FEW_GROUPS:
        found.append(f"only {n_groups} independent group{'s' * (n_groups != 1)}: the interval is hardly supported")
    if (chosen == chosen[0]).all():
        found.append("all labels are alike: there is nothing to predict")
    for message in found:
        warnings.warn(f"probing_information: {message}", EstimateWarning, stacklevel=2)
    return InformationEstimate(
        quantity="I(T; Y)",
        value=value * factor,
        unit=unit,
        method="lower bound H(Y) - cross-entropy, if predictions are held out",
        n=n,
        dimensions=(n_classes, 0),
        standard_error=None if error is None else error * factor,
        interval=None if interval is None else (interval[0] * factor, interval[1] * factor),
        level=None if interval is None else coverage,
        warnings=tuple(found),
        details={
            "label_entropy": entropy * factor,
            "cross_entropy": -float(said.mean()) * factor,
            "accuracy": float((predicted.argmax(axis=1) == chosen).mean()),
            "groups": n_groups,
            "classes": int(np.unique(chosen).size),
            "label_probs": "given" if known else "frequencies",
        },
    )


def _checked(labels: ArrayLike, log_probs: ArrayLike) -> tuple[IntArray, FloatArray]:
    """Labels (n,) and log-probabilities (n, V) that fit, or an error."""
    predicted = as_float_array("log_probs", log_probs, finite=False)
    if predicted.ndim != 2 or 0 in predicted.shape:
        raise ShapeError(f"log_probs: found shape {predicted.shape}, wanted (n, V) with at least one row and outcome")
    n, n_classes = predicted.shape
    chosen = as_int_array("labels", labels)
    if chosen.shape != (n,):
        raise ShapeError(f"labels: found shape {chosen.shape}, wanted ({n},), one label for each row of log_probs")
    outside = (chosen < 0) | (chosen >= n_classes)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DomainError(f"labels: row {row} is {chosen[row]}, wanted a column of log_probs, 0 to {n_classes - 1}")
    bad = np.isnan(predicted) | (predicted == np.inf)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DomainError(f"log_probs: entry {where} is {predicted[where]}; wanted logarithms of probabilities")
    tolerance = sum_tolerance(as_array("log_probs", log_probs).dtype)
    with np.errstate(over="ignore"):
        total = np.exp(predicted).sum(axis=1)
    off = ~(abs(total - 1) <= tolerance)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise DomainError(
            f"log_probs: the probabilities of row {row} sum to {total[row]:.12g}, wanted 1 within {tolerance:.2g}; for "
            "logits, subtract scipy.special.logsumexp(logits, axis=1, keepdims=True)"
        )
    impossible = np.isneginf(predicted[np.arange(n), chosen])
    if impossible.any():
        row = int(np.flatnonzero(impossible)[0])
        raise DomainError(
            f"log_probs: row {row} gives probability zero to its label {chosen[row]}, so that the cross-entropy is "
            "infinite; use a probe that rules no label out"
        )
    return chosen, predicted


def _law(chosen: IntArray, label_probs: ArrayLike | None, n_classes: int) -> tuple[FloatArray, bool]:
    """Logarithms (V,) of the law of the labels, and whether it was given."""
    if label_probs is None:
        law = np.bincount(chosen, minlength=n_classes) / len(chosen)
    else:
        law = as_float_array("label_probs", label_probs)
        if law.shape != (n_classes,):
            raise ShapeError(f"label_probs: found shape {law.shape}, wanted ({n_classes},), one for each outcome")
        if (law < 0).any() or abs(law.sum() - 1) > sum_tolerance(as_array("label_probs", label_probs).dtype):
            raise DomainError(f"label_probs: the sum is {law.sum():.12g}, wanted probabilities that sum to 1")
        if (law[chosen] == 0).any():
            raise DomainError("label_probs: a label that came true has probability zero")
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(law)), label_probs is not None


def _error(
    scores: FloatArray, members: IntArray, level: float, value: float
) -> tuple[float | None, tuple[float, float] | None]:
    """Standard error of the mean of the scores, by groups, and Student's interval around the value."""
    count = int(members.max()) + 1
    if count < 2:
        return None, None
    from scipy.special import stdtrit

    sums = np.bincount(members, weights=scores - scores.mean())
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / len(scores)
    reach = float(stdtrit(count - 1, (1 + level) / 2)) * error
    return error, (value - reach, value + reach)
