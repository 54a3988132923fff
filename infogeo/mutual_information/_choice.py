"""What each estimator says with an interval, in nats: the parts that the automatic choice is made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._labels import pair_counts
from infogeo.mutual_information._neighbors import neighborhoods
from infogeo.mutual_information._normal_dependence import Dependence, neighbor_information
from infogeo.mutual_information._samples import standardized
from infogeo.mutual_information.binned import discrete_mutual_information
from infogeo.mutual_information.gaussian import normal_information, volume_bias
from infogeo.mutual_information.ksg import doubts, ksg_terms
from infogeo.mutual_information.mixed import mixed_mutual_information
from infogeo.mutual_information.significance import deal

BIAS_SAID = 0.05
"""Nats; where the bias is likely larger, a warning says so."""

LABEL_SHUFFLES = 20
"""Random orders of the labels that show what chance makes of them."""
CHANCE_SAID = 0.02
"""Nats that labels in random order show above which it is said."""

PARTS, LEAST_PARTS, DEALS = 8, 4, 2
LEAST_PART = 25
RESIDUAL_COLUMNS = 20
"""Joint columns up to which neighbors of residuals are looked for where the dependence is not normal."""


@dataclass(frozen=True)
class Sampling:
    """How the samples were taken, and what is wanted of them."""

    level: float
    k: int
    groups: IntArray | None
    rng: np.random.Generator

    def z(self, degrees: int | None = None) -> float:
        """Half the width of the interval in standard errors; Student's with few degrees of freedom."""
        from scipy.special import ndtri, stdtrit

        at = 0.5 + self.level / 2
        return float(ndtri(at) if degrees is None else stdtrit(degrees, at))


@dataclass(frozen=True)
class Outcome:
    """An estimate in nats and what is known of its error."""

    value: float
    method: str
    again: Callable[[Any, Any], float]
    """The estimator alone, for permutations."""
    error: float | None = None
    interval: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers in nats where their name does not say otherwise."""


def by_normal_formula(x: FloatArray, y: FloatArray, dependence: Dependence, sampling: Sampling, method: str) -> Outcome:
    """The formula of normal variables; bias and standard error of as many independent samples as these are worth."""
    n, p, q = len(x), x.shape[1], y.shape[1]
    worth = max(n / spread(dependence, sampling), p + q + 2.0)
    more_bias = bias_of_normals(worth, p, q) - bias_of_normals(n, p, q)
    value = normal_information(x, y, bias_correction=True) - more_bias
    error = normal_error(worth, p, q, dependence.canonical)
    reach = sampling.z() * error
    said = []
    if worth < 2 * (p + q + 2):
        said.append(
            f"{n} samples that depend on each other within groups are worth about {worth:.0f} independent ones, too "
            f"few for {p + q} joint columns; give more groups, or fewer columns"
        )
    return Outcome(
        value, method, lambda a, b: normal_information(a, b, bias_correction=True), float(error),
        (value - reach, value + reach), tuple(said),
        {"largest_canonical_correlation": float(dependence.canonical[0]), "worth_independent_samples": worth},
    )  # fmt: skip


def bias_of_normals(n: float, p: int, q: int) -> float:
    """Expectation of the uncorrected formula less the information, from n independent normal samples."""
    return volume_bias(n, p) + volume_bias(n, q) - volume_bias(n, p + q)


def normal_error(n: float, p: int, q: int, canonical: FloatArray) -> float:
    r"""Standard error of the information of normal variables, from n samples of p and q columns.

    Half the logarithm of Wilks' ratio is a difference of log-determinants of Wishart matrices, each of variance
    :math:`\sum \psi'`. Exact without dependence, and to first order, :math:`\sum \rho_i^2 / n`, with any.
    """
    from scipy.special import polygamma

    p, q = min(p, q), max(p, q)
    degrees = n - 1
    given = float(polygamma(1, (degrees - q - np.arange(p)) / 2).sum())
    total = float(polygamma(1, (degrees - np.arange(p)) / 2).sum())
    # Squared canonical correlations of independent samples sum to p q / (n - 1): taken off, as in the adjusted R^2.
    squared = max(0.0, p - (p - float((canonical**2).sum())) * degrees / max(degrees - q, 1))
    return float(0.5 * np.sqrt(max(given - total, 0.0) + 2 * given / p * squared))


def spread(dependence: Dependence, sampling: Sampling) -> float:
    """By how much dependent samples widen the variance of the mean log-ratio of the fitted normal, at least 1."""
    if sampling.groups is None:
        return 1.0
    (a, _), (b, _) = dependence.residuals
    rho = np.minimum(dependence.canonical, 1 - 1e-9)
    a, b = a[:, : len(rho)], b[:, : len(rho)]
    terms = ((rho * a * b - 0.5 * rho**2 * (a**2 + b**2)) / (1 - rho**2)).sum(axis=1)
    terms -= terms.mean()
    sums = np.bincount(sampling.groups, weights=terms)
    return max(1.0, float((sums**2).sum() / max(float((terms**2).sum()), 1e-300)))


def by_neighbors(x: FloatArray, y: FloatArray, sampling: Sampling, method: str) -> Outcome:
    """Kraskov et al. on columns of one scale; the interval is as wide as its bias may be.

    Four times as many neighbors make the radius as large as a quarter of the samples would, at a smaller variance. If
    that changes nothing beyond noise it is the estimate. If the bias falls as n^(-1/d) with d joint columns, which is
    slow, what remains of it with the fewer neighbors is the difference times 1 / (4^(1/d) - 1).
    """
    n, columns = len(x), x.shape[1] + y.shape[1]
    (x, first), (y, second) = standardized(x), standardized(y)
    rounding = np.maximum(first, second)
    k, wide = sampling.k, min(4 * sampling.k, n - 1)
    found = neighborhoods([x, y], [(0,), (1,)], rounding, k=k)
    terms = ksg_terms(found, k)
    near = float(terms.mean())
    said = list(doubts(found, near, k, 1, wide=True))
    error, degrees = error_of_parts(x, y, lambda a, b: neighbor_information(a, b, k=k), sampling, least=4 * k)
    differences = terms - ksg_terms(neighborhoods([x, y], [(0,), (1,)], rounding, k=wide), wide)
    change = float(differences.mean())
    noise = float(np.sqrt(variance_of_mean(differences, sampling.groups)))
    left = 1 / ((wide / k) ** (1 / columns) - 1) if wide > k else np.inf
    chosen = wide if abs(change) <= noise else k
    value = near - change if chosen == wide else near
    bias = left * change + (near - value)
    if (abs(change) - noise) * left > BIAS_SAID:
        which = "small" if bias > 0 else "large"
        said.append(
            f"the estimate still changes with the number of neighbors ({near:.3g} nats with {k}, {near - change:.3g} "
            f"with {wide}): with {n} samples of {columns} joint columns it may be too {which} by {abs(bias):.2g} nats; "
            "give more samples or fewer columns"
        )
    interval = None
    if error is None:
        said.append(few_samples(n, sampling, least=4 * k))
    else:
        reach = sampling.z(degrees) * error
        interval = (value + min(bias, 0.0) - reach, value + max(bias, 0.0) + reach)
    return Outcome(
        value, method, lambda a, b: neighbor_information(a, b, k=chosen), error, interval, tuple(said),
        {"neighbors": chosen, "with_fewest_neighbors": near, "with_most_neighbors": near - change, "bias_bound": bias},
    )  # fmt: skip


def by_linear_part_and_neighbors(
    x: FloatArray, y: FloatArray, dependence: Dependence, sampling: Sampling
) -> Outcome:
    """In many columns: the linear part by the normal formula, and what neighbors see between x and the residual.

    I(X; Y) = h(Y) - h(E) + I(X; E) with E the residual of Y; the difference is taken from the normal formula.
    """
    linear = normal_information(x, y, bias_correction=True)
    n, columns = len(x), x.shape[1] + y.shape[1]
    rest, error_of_rest = 0.0, 0.0
    if columns <= RESIDUAL_COLUMNS:
        given, residual = dependence.residuals[0]
        rest = neighbor_information(given, residual, k=sampling.k)

        def of_part(a: FloatArray, e: FloatArray) -> float:
            return neighbor_information(a, e, k=sampling.k)

        error_of_rest = error_of_parts(given, residual, of_part, sampling, least=4 * sampling.k)[0] or 0.0
    error = normal_error(n, x.shape[1], y.shape[1], dependence.canonical) * np.sqrt(spread(dependence, sampling))
    error = np.hypot(error, error_of_rest)
    value = linear + rest
    doubt = (
        f"the dependence is not that of normal variables, and {columns} joint columns are too many for neighbors: the "
        "estimate is likely too small by an unknown amount; reduce the columns (leading principal or canonical "
        "components), or train a neural bound"
    )
    return Outcome(
        value, "linear part + neighbors" if columns <= RESIDUAL_COLUMNS else "linear part",
        lambda a, b: normal_information(a, b, bias_correction=True), float(error),
        (value - sampling.z() * float(error), np.inf), (doubt,), {"linear_part": linear, "residual_part": rest},
    )  # fmt: skip


def by_labels(x: IntArray, y: IntArray, sampling: Sampling) -> Outcome:
    """Two discrete variables: Miller-Madow, with the error of the log-ratio and of its chi-squared part."""
    value, said = listened(lambda: discrete_mutual_information(x, y))
    rows, columns, joint = pair_counts(x, y)
    n = len(x)
    both = x.astype(np.int64) * (int(y.max()) + 1) + y
    of_both = np.unique(both, return_inverse=True, return_counts=True)
    terms = np.log(n * of_both[2][of_both[1].reshape(-1)] / (np.bincount(x)[x] * np.bincount(y)[y]))
    degrees = (len(rows) - 1) * (len(columns) - 1)
    variance = variance_of_mean(terms, sampling.groups) + min(degrees, n) / (2 * n**2)
    plain = float(terms.mean())
    reach = sampling.z() * np.sqrt(variance)
    # Where most pairs are seen once the correction itself is unsure: as much again on both sides.
    slack = abs(plain - value) if said else 0.0
    shuffled = [listened(lambda: discrete_mutual_information(x, sampling.rng.permutation(y)))[0]
                for _ in range(LABEL_SHUFFLES)]  # fmt: skip
    chance = max(0.0, float(np.mean(shuffled)))
    if chance > CHANCE_SAID:
        said.append(
            f"the same labels in random order show {chance:.2g} nats: there are too few samples for so many pairs of "
            "labels, and as much of the estimate may be chance; merge rare labels or give more samples"
        )
    return Outcome(
        value, "discrete (Miller-Madow)", discrete_mutual_information, float(np.sqrt(variance)),
        (value - reach - max(slack, chance), value + reach + slack), tuple(said),
        {"plug_in": plain, "cells": len(joint), "shuffled": chance},
    )  # fmt: skip


def by_labels_and_neighbors(labels: IntArray, y: FloatArray, sampling: Sampling, *, swapped: bool) -> Outcome:
    """One discrete and one continuous variable."""
    k, n = sampling.k, len(labels)

    def estimate(codes: IntArray, z: FloatArray, near: int = k) -> float:
        return mixed_mutual_information(codes, z, k=near)

    value, said = listened(lambda: estimate(labels, y))
    least = 2 * k * (int(labels.max()) + 1)
    error, degrees = error_of_parts(labels, y, estimate, sampling, least=least)
    more, _ = listened(lambda: estimate(labels, y, min(4 * k, n - 1)))
    bias = (value - more) / (4 ** (1 / y.shape[1]) - 1)
    noise = 2 * (error or 0.0)
    if (abs(value - more) - noise) / (4 ** (1 / y.shape[1]) - 1) > BIAS_SAID:
        said.append(
            f"the estimate still changes with the number of neighbors ({value:.3g} nats with {k}, {more:.3g} with "
            f"{4 * k}): it may be off by {abs(bias):.2g} nats; give more samples or fewer columns"
        )
    interval = None
    if error is None:
        said.append(few_samples(n, sampling, least=least))
    else:
        reach = sampling.z(degrees) * error
        interval = (value + min(bias, 0.0) - reach, value + max(bias, 0.0) + reach)

    def again(a: Any, b: Any) -> float:
        return estimate(b, a) if swapped else estimate(a, b)

    return Outcome(value, "mixed (Ross)", again, error, interval, tuple(said),
                   {"neighbors": k, "with_more_neighbors": more, "bias_bound": bias})  # fmt: skip


def error_of_parts(
    x: Any, y: Any, estimate: Callable[[Any, Any], float], sampling: Sampling, *, least: int
) -> tuple[float | None, int]:
    """Standard error from disjoint parts and its degrees of freedom; None where samples or groups are too few."""
    n, groups = len(x), sampling.groups
    parts = min(PARTS, n // max(LEAST_PART, least))
    if groups is not None:
        parts = min(parts, (int(groups.max()) + 1) // 2)
    if parts < LEAST_PARTS:
        return None, 0
    variances = []
    for _ in range(DEALS):
        dealt = deal(n, parts, groups, sampling.rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            variances.append(np.var([estimate(x[rows], y[rows]) for rows in dealt], ddof=1) / parts)
    return float(np.sqrt(np.mean(variances))), parts - 1


def few_samples(n: int, sampling: Sampling, *, least: int) -> str:
    """Why no interval is given."""
    if sampling.groups is not None:
        found = f"{int(sampling.groups.max()) + 1} groups ({n} samples)"
        return f"{found} are too few for an interval; give at least {2 * LEAST_PARTS} groups"
    return f"{n} samples are too few for an interval; give at least {LEAST_PARTS * max(LEAST_PART, least)}"


def variance_of_mean(terms: FloatArray, groups: IntArray | None) -> float:
    """Of a mean of terms, which depend on each other within groups."""
    n = len(terms)
    terms = terms - terms.mean()
    if groups is not None:
        terms = np.asarray(np.bincount(groups, weights=terms), dtype=np.float64)
    count = len(terms)
    return float((terms**2).sum() / n**2 * count / max(count - 1, 1))


def listened(estimate: Callable[[], float]) -> tuple[float, list[str]]:
    """A number, and what was warned of on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = estimate()
    return value, [str(w.message) for w in caught if issubclass(w.category, EstimateWarning)]
