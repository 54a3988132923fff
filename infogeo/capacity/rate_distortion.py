r"""The rate-distortion function of a discrete source, between two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_count, check_number, check_sums, sum_tolerance
from infogeo._units import Unit, per_nat
from infogeo.capacity import _mixture
from infogeo.capacity._covariance import not_negative
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.results import Result

Solver = Literal["newton", "plain"]

MOST_ITERATIONS = {"newton": 200, "plain": 100_000}
"""Iterations at one slope unless others are asked for."""

MOST_SLOPES = 100
"""Slopes that are tried for one budget."""

SHARE = 0.25
"""Part of the tolerance that a single slope is solved to when a budget is sought."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RateDistortion(Result):
    """A point of the rate-distortion curve: R at ``distortion`` lies between ``lower`` and ``upper``."""

    lower: float
    """No code of this distortion has a lower rate."""
    upper: float
    """Mutual information through ``test_channel``, which has this distortion; what stands for the rate."""
    distortion: float
    """Mean distortion of ``test_channel``."""
    multiplier: float
    """Slope -R'(D) of the line that gives the lower bound, in ``unit`` per unit of distortion; infinite at the left end
    of the curve."""
    test_channel: FloatArray
    """(n, m) probabilities of the reproductions given the source letter; rows sum to one."""
    output_probs: FloatArray
    """(m,) law of the reproductions."""
    iterations: int
    """Steps of the solver, over all slopes that were tried."""
    converged: bool
    """Whether ``upper - lower`` is at most ``tol``."""
    tol: float
    """In ``unit``."""
    solver: str
    unit: Unit

    @property
    def rate(self) -> float:
        """The upper bound: at most ``upper - lower`` above the rate-distortion function."""
        return self.upper

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("distortion", "lower", "upper", "unit", "multiplier", "iterations", "converged")
        return columns, [tuple(getattr(self, name) for name in columns)]

    def summary(self) -> str:
        state = "" if self.converged else ", not converged"
        return f"R({self.distortion:.4g}) = {self.rate:.6g} {self.unit}, at least {self.lower:.6g}{state}"


class _Source(NamedTuple):
    p: FloatArray
    excess: FloatArray
    """(n, m) distortion less the least of the row."""
    least: float
    """Mean of the least distortions."""


class _Point(NamedTuple):
    """A point of the curve, in nats, with distortions less the least one."""

    slope: float
    channel: FloatArray
    distortion: float
    rate: float
    constant: float
    """R(D) is at least this less slope times D."""
    iterations: int

    def lower(self, distortion: float) -> float:
        """Lower bound of the rate at a distortion."""
        if self.slope == math.inf:
            return self.constant if distortion <= 0 else 0.0
        return max(self.constant - self.slope * distortion, 0.0)


def rate_distortion(
    source: ArrayLike,
    distortion: ArrayLike,
    *,
    budget: float | None = None,
    multiplier: float | None = None,
    solver: Solver = "newton",
    tol: float = 1e-9,
    max_iter: int | None = None,
    strict: bool = True,
    unit: Unit = "nats",
) -> RateDistortion:
    r"""Rate-distortion function of a discrete source, with bounds on both sides.

    .. math:: R(D) = \min_{Q:\; E\,d(X, Y) \le D} I(X; Y)

    over test channels Q(y | x). At slope :math:`-s` the best channel is :math:`Q(y|x) \propto q_y e^{-s d(x, y)}` with
    the q that maximizes :math:`\sum_x p_x \log \sum_y q_y e^{-s d(x,y)}`. Whatever q is, with
    :math:`c_y = \sum_x p_x e^{-s d(x,y)} / \sum_{y'} q_{y'} e^{-s d(x,y')}` every point of the curve obeys [1]_ [2]_

    .. math:: R(D) \;\ge\; -sD - \sum_x p_x \log \sum_y q_y e^{-s d(x,y)} - \log \max_y c_y

    while the information through Q bounds it from above at the distortion of Q. Under a budget the slope is sought by
    chords and tangents: the channel that comes back is a mixture of the channels of two slopes, so that straight parts
    of the curve, where no single slope meets the budget, do no harm.

    Parameters
    ----------
    source : array, shape (n,)
        Probabilities of the letters; letters of probability zero are allowed. They sum to one within 1e-9, or the
        rounding of a coarser dtype; what is left of it is divided out.
    distortion : array, shape (n, m)
        :math:`d(x, y) \ge 0` of reproducing letter x (row) as y (column).
    budget : float, optional
        D, the mean distortion allowed. Give this or ``multiplier``.
    multiplier : float, optional
        :math:`s \ge 0`, in ``unit`` per unit of distortion; infinite for the least distortion there is.
    solver : {"newton", "plain"}
        An interior-point method of some ten steps for a slope, or Blahut's iterations, which are sublinear where a
        reproduction ends up unused.
    tol : float
        Widest bracket ``upper - lower``, in ``unit``.
    max_iter : int, optional
        Steps at one slope; 200 of "newton" and 100,000 of "plain" unless given.
    strict : bool
        Raise if the bracket is wider than ``tol``; otherwise return the result, which says so.
    unit : {"nats", "bits"}
        Of the rate, ``tol`` and ``multiplier``.

    Returns
    -------
    RateDistortion

    Raises
    ------
    ConvergenceError
        If the bracket is wider than ``tol``; its ``result`` is what was reached.
    DomainError
        If the probabilities are negative, not finite or do not sum to one, a distortion is negative or not finite, or
        the budget is below the least mean distortion.
    ShapeError
        If the shapes do not fit.
    ArgumentError
        If not exactly one of budget and multiplier is given, or another argument is out of range.

    References
    ----------
    .. [1] R. E. Blahut, Computation of channel capacity and rate-distortion functions, IEEE Transactions on Information
       Theory 18 (1972) 460-473, theorems 5 and 6.
    .. [2] I. Csiszar, On the computation of rate-distortion functions, IEEE Transactions on Information Theory 20
       (1974) 122-124.

    Examples
    --------
    A fair bit that may be wrong in 11 % of the cases needs half a bit: R = 1 - H(0.11).

    >>> found = rate_distortion([0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], budget=0.11, unit="bits")
    >>> round(found.rate, 6), found.upper - found.lower < 1e-9
    (0.500084, True)
    """
    factor = per_nat(unit)
    given = _read(source, distortion)
    if (budget is None) == (multiplier is None):
        found = "neither" if budget is None else "both"
        raise ArgumentError(f"budget: wanted a budget or a multiplier, found {found}; give one of the two")
    if solver not in MOST_ITERATIONS:
        raise ArgumentError(f"solver: found {solver!r}, wanted one of {', '.join(map(repr, MOST_ITERATIONS))}")
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a positive number")
    steps = MOST_ITERATIONS[solver] if max_iter is None else check_count("max_iter", max_iter, 1)
    if multiplier is not None:
        slope = check_number("multiplier", multiplier)
        if slope < 0:
            raise DomainError(f"multiplier: found {slope}, wanted no number below zero")
        point = _at_slope(given, slope / factor, tol / factor, steps, solver)
        lower, iterations = point.lower(point.distortion), point.iterations
    else:
        allowed = check_number("budget", budget)
        point, lower, iterations = _at_budget(given, allowed, tol / factor, steps, solver)
    upper = max(point.rate, lower)  # rounding apart
    result = RateDistortion(
        lower=factor * lower, upper=factor * upper, distortion=point.distortion + given.least,
        multiplier=factor * point.slope, test_channel=point.channel, output_probs=given.p @ point.channel,
        iterations=iterations, converged=factor * (upper - lower) <= tol, tol=tol, solver=solver, unit=unit,
    )
    if strict and not result.converged:
        raise ConvergenceError(
            f"rate_distortion: the bounds are {result.upper - result.lower:.3g} {unit} apart after {iterations} steps, "
            f"wanted {tol:.3g}; raise max_iter or tol, or take what was reached with strict=False",
            result,
        )
    return result


def rate_distortion_curve(
    source: ArrayLike,
    distortion: ArrayLike,
    multipliers: Iterable[float],
    *,
    solver: Solver = "newton",
    tol: float = 1e-9,
    max_iter: int | None = None,
    strict: bool = True,
    unit: Unit = "nats",
) -> tuple[RateDistortion, ...]:
    r"""Points of the rate-distortion curve, one for each slope.

    Parameters
    ----------
    source : array, shape (n,)
        As in :func:`rate_distortion`, like all arguments but the next.
    distortion : array, shape (n, m)
        Of reproducing letter x (row) as y (column).
    multipliers : iterable of float
        Slopes :math:`s \ge 0`; from 0 (the right end of the curve, where the rate is zero) to infinity (the left end).
    solver : {"newton", "plain"}
        Of each point.
    tol : float
        Widest bracket of a point.
    max_iter : int, optional
        Steps for a point.
    strict : bool
        Raise if a bracket is wider than ``tol``.
    unit : {"nats", "bits"}
        Of rates, ``tol`` and ``multipliers``.

    Returns
    -------
    tuple of RateDistortion
        In the order of the multipliers.

    Raises
    ------
    ConvergenceError, DomainError, ShapeError, ArgumentError
        As :func:`rate_distortion`.

    Examples
    --------
    >>> curve = rate_distortion_curve([0.5, 0.5], [[0, 1], [1, 0]], [0, 1, 2, float("inf")], unit="bits")
    >>> [(round(point.distortion, 4), round(point.rate, 4)) for point in curve]
    [(0.5, 0.0), (0.3333, 0.0817), (0.2, 0.2781), (0.0, 1.0)]
    """
    try:
        slopes = tuple(multipliers)
    except TypeError:
        raise ArgumentError(f"multipliers: found {multipliers!r}, wanted several slopes, such as [1.0, 2.0]") from None
    return tuple(
        rate_distortion(
            source, distortion, multiplier=s, solver=solver, tol=tol, max_iter=max_iter, strict=strict, unit=unit
        )
        for s in slopes
    )


def _read(source: ArrayLike, distortion: ArrayLike) -> _Source:
    p = as_float_array("source", source)
    if p.ndim != 1 or p.size == 0:
        raise ShapeError(f"source: found shape {p.shape}, wanted the probabilities (n,) of at least one letter")
    not_negative("source", p, "a probability")
    check_sums("source", p.sum(), sum_tolerance(np.asarray(source).dtype))
    d = as_float_array("distortion", distortion)
    if d.ndim != 2 or d.shape[0] != len(p) or d.shape[1] == 0:
        turned = d.ndim == 2 and d.shape[1] == len(p) and d.shape[0] > 0
        hint = "; it looks transposed: rows are letters of the source, columns reproductions" if turned else ""
        raise ShapeError(f"distortion: found shape {d.shape}, wanted ({len(p)}, m) with a row for each letter{hint}")
    not_negative("distortion", d, "a distortion")
    least = d.min(axis=1)
    return _Source(p / p.sum(), d - least[:, None], float(p @ least))


def _at_slope(given: _Source, slope: float, tol: float, max_iter: int, solver: str) -> _Point:
    """The point of the curve where a line of this slope touches it."""
    p, excess, _ = given
    if slope == 0:
        costs = p @ excess
        channel = np.zeros_like(excess)
        channel[:, costs.argmin()] = 1.0
        return _Point(0.0, channel, float(costs.min()), 0.0, 0.0, 0)
    with np.errstate(over="ignore"):
        kernel = (excess == 0).astype(np.float64) if slope == math.inf else np.exp(-slope * excess)
    solve = _mixture.newton if solver == "newton" else _mixture.blahut
    some = p > 0
    found = solve(p[some], kernel[some], tol=tol, max_iter=max_iter)
    mixed = kernel @ found.q
    # a letter that never occurs may see none of the reproductions in use
    silent = mixed == 0
    kernel[silent], mixed[silent] = 1.0, 1.0
    channel = kernel * found.q / mixed[:, None]
    return _Point(
        slope, channel, float(p @ (channel * excess).sum(axis=1)), _information(p, channel),
        -(found.value + found.gap), found.iterations,
    )


def _information(p: FloatArray, channel: FloatArray) -> float:
    output = p @ channel
    ratio = np.divide(channel, output, out=np.ones_like(channel), where=(channel > 0) & (output > 0))
    return max(float(p @ (channel * np.log(ratio)).sum(axis=1)), 0.0)


def _at_budget(given: _Source, budget: float, tol: float, max_iter: int, solver: str) -> tuple[_Point, float, int]:
    """A channel that keeps to the budget, a lower bound of the rate there, and the steps taken."""
    least = given.least
    allowed = budget - least
    rounding = 4 * np.finfo(np.float64).eps * (abs(least) + abs(budget))
    if allowed < -rounding:
        raise DomainError(
            f"budget: found {budget:.12g}, but the least mean distortion of this source is {least:.12g}; allow at "
            "least that much"
        )
    right = _at_slope(given, 0.0, tol, max_iter, solver)
    if allowed >= right.distortion:
        return right, 0.0, 0
    left = _at_slope(given, math.inf, SHARE * tol, max_iter, solver)
    if allowed <= rounding:
        return left, left.lower(0.0), left.iterations
    lower, slope, iterations = 0.0, 0.0, left.iterations
    for trial in range(MOST_SLOPES):
        point = _between(given, left, right, allowed)
        if point.rate - lower <= tol:
            break
        new = _at_slope(given, _next_slope(left, right, allowed, trial), SHARE * tol, max_iter, solver)
        iterations += new.iterations
        if new.lower(allowed) > lower:
            lower, slope = new.lower(allowed), new.slope
        if left.distortion < new.distortion <= allowed:
            left = new
        elif allowed < new.distortion < right.distortion:
            right = new
        elif new.lower(allowed) < lower:  # nothing is left between the ends but rounding
            break
    point = _between(given, left, right, allowed)
    return point._replace(slope=slope), lower, iterations


def _next_slope(left: _Point, right: _Point, allowed: float, trial: int) -> float:
    """The slope of the chord, or every other time the one that a power law between the ends gives."""
    chord = (left.rate - right.rate) / (right.distortion - left.distortion)
    if trial % 2 and math.isfinite(left.slope) and right.slope > 0 and left.distortion > 0:
        part = math.log(allowed / left.distortion) / math.log(right.distortion / left.distortion)
        guess = math.exp((1 - part) * math.log(left.slope) + part * math.log(right.slope))
        if right.slope < guess < left.slope:
            return guess
    return chord


def _between(given: _Source, left: _Point, right: _Point, allowed: float) -> _Point:
    """The mixture of two channels that uses up what is allowed."""
    share = (right.distortion - allowed) / (right.distortion - left.distortion)
    channel = share * left.channel + (1 - share) * right.channel
    distortion = float(given.p @ (channel * given.excess).sum(axis=1))
    return left._replace(channel=channel, distortion=distortion, rate=_information(given.p, channel))
