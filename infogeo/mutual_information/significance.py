"""Are two variables dependent at all, and how far would the estimate move with other samples? For any estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_array, check_count, check_number, random_generator, sealed
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._labels import as_codes
from infogeo.results import Result, Source

Estimator = Callable[[Any, Any], float]
"""A function of paired samples x (n, ...) and y (n, ...) that gives a number."""

Progress = Callable[[int, int], None]
"""Told how many of how many evaluations are done."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PermutationTest(Result):
    """The estimate, and how often shuffled samples gave one at least as large."""

    value: float
    """Of the samples as they are, in the estimator's unit."""
    p_value: float
    """(1 + number at least as large) / (1 + number done)."""
    null: FloatArray
    """Estimates of the shuffled samples, in the order in which they were made."""
    permutations: int
    """How many were asked for; ``len(null)`` were done."""
    n: int
    source: Source = field(default_factory=Source)

    @property
    def complete(self) -> bool:
        """Whether all permutations that were asked for were done."""
        return len(self.null) == self.permutations

    @property
    def excess(self) -> float:
        """The estimate less the mean of the shuffled ones, which estimates its bias at independence."""
        return float(self.value - self.null.mean()) if len(self.null) else float("nan")

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("value", "p_value", "null_mean", "null_largest", "permutations", "n")
        mean, most = (float(self.null.mean()), float(self.null.max())) if len(self.null) else (None, None)
        return columns, [(self.value, self.p_value, mean, most, len(self.null), self.n)]

    def summary(self) -> str:
        return f"{self.value:.4g}, p = {self.p_value:.3g} ({len(self.null)} of {self.permutations} permutations)"


@dataclass(frozen=True, eq=False, kw_only=True)
class SubsampleInterval(Result):
    """The estimate with its standard error from disjoint parts of the samples."""

    value: float
    standard_error: float
    interval: tuple[float, float]
    level: float
    parts: FloatArray
    """Estimates of the parts; their mean differs from ``value`` by what the bias depends on the number of samples."""
    part_size: float
    """Mean number of samples in a part."""
    n: int
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("value", "standard_error", "lower", "upper", "level", "parts", "part_mean", "n")
        row = (self.value, self.standard_error, *self.interval, self.level, len(self.parts), self.parts.mean(), self.n)
        return columns, [row]

    def summary(self) -> str:
        low, high = self.interval
        return f"{self.value:.4g} ({low:.4g} to {high:.4g} at {self.level:.0%}, {len(self.parts)} parts)"


def permutation_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    estimator: Estimator,
    permutations: int = 199,
    groups: Any = None,
    within: Any = None,
    rng: Any = 0,
    progress: Progress | None = None,
) -> PermutationTest:
    r"""Permutation test of independence with any estimator of dependence.

    The pairing of x with y is shuffled m times and the estimate :math:`\hat I_j` made again, which gives

    .. math:: p = \frac{1 + \#\{j : \hat I_j \ge \hat I\}}{1 + m}.

    If x and y are independent and the samples exchangeable, the probability of :math:`p \le \alpha` is at most
    :math:`\alpha` for any estimator and any n, also a biased one [1]_.

    Parameters
    ----------
    x, y : array_like, shape (n, ...)
        Samples; row i of both was observed together.
    estimator : callable
        Called as ``estimator(x, y)``; larger means more dependent. Its EstimateWarnings are silenced for the shuffled
        samples.
    permutations : int
        How many, at least 1; the smallest p-value possible is 1 / (permutations + 1).
    groups : sequence of n labels, optional
        Samples with one label depend on each other, as the tokens of one text do. The groups of y are then shuffled
        as wholes, each in its order. With groups of one size the test is exact if the groups are exchangeable; with
        several sizes the groups are laid end to end in a random order, which breaks a few of them across two groups of
        x, and the test is approximate.
    within : sequence of n labels, optional
        Shuffle only among samples with the same label: asks for dependence beyond what the label explains.
    rng : int or numpy.random.Generator, optional
        For the permutations.
    progress : callable, optional
        Called as ``progress(done, permutations)`` after each permutation.

    Returns
    -------
    PermutationTest
        If it is interrupted from the keyboard, what was done by then, with its p-value, a warning, and ``complete``
        false; before the first permutation the interrupt is passed on.

    Raises
    ------
    ShapeError
        If x, y or the labels differ in length, or there are fewer than two samples.
    ArgumentError
        If ``permutations`` is below 1, ``estimator`` cannot be called, or both ``groups`` and ``within`` are given.
    DomainError
        If the estimator gives NaN for the samples, all samples are one group, or each label of ``within`` occurs once.

    Warns
    -----
    EstimateWarning
        If it was interrupted, or there are so few groups that p cannot fall to 0.05.

    References
    ----------
    .. [1] B. Phipson and G. K. Smyth, "Permutation p-values should never be zero", Statistical Applications in Genetics
       and Molecular Biology 9, 2010, section 4.

    Examples
    --------
    >>> from infogeo import gaussian_mutual_information
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(200)
    >>> y = x + rng.standard_normal(200)
    >>> permutation_test(x, y, estimator=gaussian_mutual_information, permutations=99).p_value
    0.01
    """
    a, b = _paired(x, y)
    n = len(a)
    permutations = check_count("permutations", permutations, 1)
    _check_callable(estimator, progress)
    if groups is not None and within is not None:
        raise ArgumentError("groups, within: found both; groups shuffles wholes, within shuffles inside: give one")
    generator = random_generator(rng)
    at = np.arange(n)
    codes = None
    if groups is not None:
        codes = _codes("groups", groups, n)
        at = np.argsort(codes, kind="stable")
        _warn_of_few_groups(codes)
    elif within is not None:
        codes = _codes("within", within, n, least=1)
        if np.bincount(codes).max() == 1:
            raise DomainError("within: each label occurs once, so that nothing can be shuffled; give coarser labels")
    value = check_number("estimator", float(estimator(a, b)))
    # Samples sorted by group, so that wholes can be laid beside each other.
    a = a[at]
    null: list[float] = []
    try:
        for done in range(permutations):
            order = _order(generator, at, codes, whole=groups is not None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EstimateWarning)
                null.append(float(estimator(a, b[order])))
            if progress is not None:
                progress(done + 1, permutations)
    except KeyboardInterrupt:
        if not null:
            raise
        warnings.warn(
            f"interrupted after {len(null)} of {permutations} permutations; the p-value is of those",
            EstimateWarning,
            stacklevel=2,
        )
    found = np.array(null)
    # Estimates that differ by rounding alone count as equal, which can only make p larger.
    slack = 1e-12 * max(1.0, abs(value))
    p_value = float((1 + (found >= value - slack).sum()) / (1 + len(found)))
    return PermutationTest(value=value, p_value=p_value, null=sealed(found), permutations=permutations, n=n)


def subsample_interval(
    x: ArrayLike,
    y: ArrayLike,
    *,
    estimator: Estimator,
    level: float = 0.95,
    parts: int = 16,
    groups: Any = None,
    rng: Any = 0,
    progress: Progress | None = None,
) -> SubsampleInterval:
    r"""Interval for any estimator from disjoint parts of the samples.

    The samples are dealt at random into B parts, the estimate is made in each, and

    .. math:: \mathrm{se} = \frac{1}{B}\sqrt{\frac{B}{B-1}\sum_b (\hat I_b - \bar I)^2}, \qquad
        \hat I \pm t_{B-1}\, \mathrm{se},

    which holds for estimators whose variance falls as 1 / n, and says nothing about their bias. A bootstrap with
    replacement repeats samples, and repeated samples are at distance zero of each other: with neighbor estimators it
    measures those ties.

    Parameters
    ----------
    x, y : array_like, shape (n, ...)
        Samples; row i of both was observed together.
    estimator : callable
        Called as ``estimator(x, y)``. Its EstimateWarnings are silenced for the parts.
    level : float
        Coverage, between 0 and 1.
    parts : int
        How many, at least 2.
    groups : sequence of n labels, optional
        Samples with one label depend on each other; whole groups are dealt.
    rng : int or numpy.random.Generator, optional
        For the dealing.
    progress : callable, optional
        Called as ``progress(done, parts)`` after each part.

    Returns
    -------
    SubsampleInterval

    Raises
    ------
    ShapeError
        If x, y or the labels differ in length.
    ArgumentError
        If ``parts`` is below 2 or more than half the samples or groups, the level is not between 0 and 1, or
        ``estimator`` cannot be called.
    DomainError
        If the estimator gives NaN, or all samples are one group.

    References
    ----------
    .. [1] D. N. Politis, J. P. Romano and M. Wolf, "Subsampling", Springer 1999, chapter 2.

    Examples
    --------
    >>> from infogeo import ksg_mutual_information
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(1000)
    >>> found = subsample_interval(x, x + rng.standard_normal(1000), estimator=ksg_mutual_information)
    >>> bool(found.interval[0] < 0.5 * np.log(2) < found.interval[1])
    True
    """
    from scipy.special import stdtrit

    a, b = _paired(x, y)
    parts = check_count("parts", parts, 2)
    level = check_level(level)
    _check_callable(estimator, progress)
    codes = None if groups is None else _codes("groups", groups, len(a))
    units = len(a) if codes is None else int(codes.max()) + 1
    if parts > units // 2:
        what = "samples" if codes is None else "groups"
        raise ArgumentError(f"parts: found {parts} with {units} {what}; wanted at most {units // 2}")
    value = check_number("estimator", float(estimator(a, b)))
    found = []
    for done, rows in enumerate(deal(len(a), parts, codes, random_generator(rng))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            found.append(check_number("estimator", float(estimator(a[rows], b[rows]))))
        if progress is not None:
            progress(done + 1, parts)
    of_parts = np.array(found)
    error = float(of_parts.std(ddof=1) / np.sqrt(parts))
    reach = float(stdtrit(parts - 1, 0.5 + level / 2)) * error
    return SubsampleInterval(
        value=value, standard_error=error, interval=(value - reach, value + reach), level=level,
        parts=sealed(of_parts), part_size=len(a) / parts, n=len(a),
    )  # fmt: skip


def deal(n: int, parts: int, codes: IntArray | None, rng: np.random.Generator) -> list[IntArray]:
    """Rows of each part; samples, or whole groups, dealt in a random order."""
    if codes is None:
        return [np.sort(rows) for rows in np.array_split(rng.permutation(n), parts)]
    owner = np.empty(int(codes.max()) + 1, dtype=np.int64)
    size = np.zeros(parts)
    order = rng.permutation(len(owner))
    sizes = np.bincount(codes)
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # the largest first, each to the smallest part
        owner[group] = int(np.argmin(size))
        size[owner[group]] += sizes[group]
    return [np.flatnonzero(owner[codes] == part) for part in range(parts)]


def check_level(level: float) -> float:
    """A coverage between 0 and 1."""
    found = check_number("level", level)
    if not 0 < found < 1:
        raise ArgumentError(f"level: found {level}, wanted a coverage between 0 and 1, such as 0.95")
    return found


def _paired(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    a, b = as_array("x", x), as_array("y", y)
    for name, array in (("x", a), ("y", b)):
        if array.ndim == 0:
            raise ShapeError(f"{name}: found one number, wanted samples of shape (n,) or (n, d)")
    if len(a) != len(b):
        raise ShapeError(f"numbers of samples differ: x {len(a)}, y {len(b)}; row i of each must come from the same "
                         "observation")  # fmt: skip
    if len(a) < 2:
        raise ShapeError(f"found {len(a)} samples, wanted at least 2")
    return a, b


def _check_callable(estimator: Any, progress: Any) -> None:
    if not callable(estimator):
        raise ArgumentError(f"estimator: found {estimator!r}, wanted a function of x and y")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress: found {progress!r}, wanted a function of evaluations done and all of them")


def _codes(name: str, labels: Any, n: int, least: int = 2) -> IntArray:
    codes = as_codes(name, labels)
    if len(codes) != n:
        raise ShapeError(f"{name}: found {len(codes)} labels for {n} samples; wanted one for each sample")
    if codes.max() + 1 < least:
        raise DomainError(f"{name}: all samples have one label, so that nothing varies between groups")
    return codes


def _warn_of_few_groups(codes: IntArray) -> None:
    count = int(codes.max()) + 1
    orders = math.factorial(min(count, 4))
    if orders < 20:
        warnings.warn(
            f"groups: found {count}, which have {orders} orders, so that p cannot fall to 0.05; give more groups",
            EstimateWarning,
            stacklevel=3,
        )


def _order(
    rng: np.random.Generator, sorted_rows: IntArray, codes: IntArray | None, *, whole: bool
) -> IntArray:
    """Rows of y to lay beside the (sorted) rows of x."""
    if codes is None:
        return rng.permutation(len(sorted_rows))
    if not whole:
        order = np.arange(len(codes))
        shuffled = rng.permutation(len(codes))
        # Both lists sorted by label: within a label, a random order against the given one.
        order[np.argsort(codes, kind="stable")] = shuffled[np.argsort(codes[shuffled], kind="stable")]
        return order
    place = rng.permutation(int(codes.max()) + 1)
    return np.asarray(sorted_rows[np.argsort(place[codes[sorted_rows]], kind="stable")])
