"""Mutual information from nearest neighbors, after Kraskov, Stögbauer and Grassberger."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, apart_from_data, check_count, random_generator
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._neighbors import Neighborhoods, Search, neighborhoods
from infogeo.mutual_information._samples import (
    Transform,
    check_neighbors,
    check_options,
    on_one_scale,
    read_together,
    say_constant,
    with_noise,
    without_constants,
)
from infogeo.mutual_information._tensors import to_host

WIDE = 0.5
"""Median radius, in standard deviations, above which the density is not flat within it."""

TIED = 0.1
"""Share of tied samples from which variant 2, whose rectangles ties make degenerate, is left for variant 1."""

NEAR = 1.5
"""How near, in nats, to the largest possible estimate is said."""

SQUEEZED = 0.1
"""Standard deviations that the middle half of a column spans (1.35 for a normal one) below which it is said."""

REPEATED = 0.5
"""Share of samples with k others at their own place from which it is said."""


def ksg_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 3,
    variant: Literal[1, 2] = 1,
    transform: Transform | None = "standardize",
    jitter: float | None = None,
    rng: Any = None,
    search: Search | None = None,
    threads: int = 1,
    unit: Unit = "nats",
) -> float:
    r"""Mutual information of two continuous variables from the distances to the k nearest neighbors.

    .. math::

        I_1 = \psi(k) + \psi(n) - \bigl\langle \psi(n_x + 1) + \psi(n_y + 1) \bigr\rangle, \qquad
        I_2 = \psi(k) - \tfrac1k + \psi(n) - \bigl\langle \psi(n_x) + \psi(n_y) \bigr\rangle

    With distances in the maximum norm, :math:`n_x` counts the samples whose x is strictly nearer than the k-th
    neighbor in the joint space (variant 1, equation 8 of [1]_), or no farther than the farthest of the k neighbors
    is in x alone (variant 2, equation 9). The estimate is raw, and may be negative.

    Right to about 0.02 nats for one column against one, at any information well below log(n); with more columns it
    falls short, the more so the fewer columns share the information. It is then said as a warning.

    Parameters
    ----------
    x, y : array_like, shape (n,) or (n, d)
        Samples; row i of both was observed together. Constant columns are left out: they carry no information.
        With tensors on a device distances are taken there, between all pairs, in float64.
    k : int
        Neighbors: fewer, less bias; more, less variance.
    variant : {1, 2}
        Which of the two algorithms; for one column against one they differ by less than their spread.
    transform : {"standardize", "normal_scores"} or None
        What is done to each column first, which leaves the information as it is: division by the standard deviation;
        normal quantiles of the ranks, good with heavy tails; nothing, so that the estimate depends on the units.
    jitter : float, optional
        Normal noise of as many standard deviations is added to columns that hold equal numbers. There is rarely a
        need: ties are counted right without.
    rng : int or numpy.random.Generator, optional
        For the noise, which is no part of the stream that the same seed gives.
    search : {"tree", "pairs"}, optional
        How neighbors are looked for; both give the same number. By default a tree up to six joint columns.
    threads : int
        How many to use.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or x and y have different numbers of them.
    DomainError
        If a number is not finite, or a tensor records a gradient: the estimate has none.
    ArgumentError
        If k is not below n, or an option does not exist.

    Warns
    -----
    EstimateWarning
        If x or y is constant (the estimate is 0), half of the samples have k others at their own place, the estimate
        is within 1.5 nats of the largest that n samples can show (as for y = x, where the information is infinite),
        the neighbors are half a standard deviation away, or a few far samples make the standard deviation of a column.

    Notes
    -----
    1. Ties (rounded numbers, repeated rows, one discrete variable) are resolved as if broken at random, but in
       expectation and so without noise: of J samples at the distance of the k-th neighbor, j of which are needed to
       make k, the first j - 1 of a random order count. On rounded normals the result is within 0.05 nats of the mean
       over noise. Where k others are at the same place, all samples at that place
       count, as in [2]_. Distances are equal if they differ by no more than the rounding of the numbers. Variant 2
       takes the terms of variant 1 where the k-th neighbor is tied or all neighbors agree in x or in y, and everywhere
       if a tenth of the samples are tied.
    2. If y is a function of x the information is infinite; the estimate stays below :math:`\psi(n) - \psi(k)`.

    References
    ----------
    .. [1] A. Kraskov, H. Stögbauer and P. Grassberger, "Estimating mutual information", Physical Review E 69, 066138,
       2004.
    .. [2] W. Gao, S. Kannan, S. Oh and P. Viswanath, "Estimating mutual information for discrete-continuous mixtures",
       NeurIPS 2017.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(2000)
    >>> y = 0.9 * x + np.sqrt(1 - 0.9**2) * rng.standard_normal(2000)
    >>> truth = -0.5 * float(np.log(1 - 0.9**2))
    >>> abs(ksg_mutual_information(x, y) - truth) < 0.05
    True
    """
    scale = per_nat(unit)
    if variant not in (1, 2):
        raise ArgumentError(f"variant: found {variant!r}, wanted 1 or 2")
    (x, y), where = to_host(x=x, y=y)
    x, y = (without_constants(z) for z in read_together(x=x, y=y))
    k = check_neighbors(k, len(x))
    check_count("threads", threads, 1)
    check_options(transform, search)
    if say_constant(x=x, y=y):
        return 0.0
    (x, y), rounding = comparable([x, y], transform, jitter, rng)
    found = neighborhoods(
        [x, y], [(0,), (1,)], rounding, k=k, rectangles=variant == 2, search=search, threads=threads, where=where
    )  # fmt: skip
    terms = ksg_terms(found, k, variant)
    value = float(terms.mean())
    for doubt in [*doubts(found, value, k, variant, wide=transform is not None), *squeezed(transform, x=x, y=y)]:
        warnings.warn(doubt, EstimateWarning, stacklevel=2)
    return value * scale


def squeezed(transform: Transform | None, **arrays: FloatArray) -> list[str]:
    """What a standard deviation made by a few far samples does to the scale of all others, where it does."""
    if transform != "standardize":
        return []
    said = []
    for name, array in arrays.items():
        low, high = np.quantile(array, [0.25, 0.75], axis=0)
        spans = high - low
        bad = np.flatnonzero((spans > 0) & (spans < SQUEEZED))
        if len(bad):
            said.append(
                f"{name}: the middle half of column {bad[0]} spans {spans[bad[0]]:.2g} of its standard deviations, "
                "which a few far samples make: at that scale the column hardly counts, and the estimate is too small; "
                "use transform='normal_scores'"
            )
    return said


def comparable(
    arrays: list[FloatArray], transform: Transform | None, jitter: float | None, rng: Any
) -> tuple[list[FloatArray], FloatArray]:
    """Variables on one scale, and the coarsest rounding of each sample."""
    generator = None if jitter is None else apart_from_data(random_generator(rng))
    scaled = [on_one_scale(with_noise(array, jitter, generator), transform) for array in arrays]
    rounding = scaled[0][1]
    for _, other in scaled[1:]:
        rounding = np.maximum(rounding, other)
    return [z for z, _ in scaled], rounding


def ksg_terms(found: Neighborhoods, k: int, variant: int = 1) -> FloatArray:
    """(n,) what each sample contributes to the mean that is the estimate."""
    from scipy.special import digamma

    n = len(found.radius)
    in_x, in_y = found.counts
    terms = digamma(found.joint) + digamma(n) - digamma(in_x + 1) - digamma(in_y + 1)
    if variant == 2 and found.tied.mean() < TIED:
        wide_x, wide_y = found.rectangle
        whole = ~found.tied & ~found.flat
        terms[whole] = (digamma(k) - 1 / k + digamma(n) - digamma(wide_x) - digamma(wide_y))[whole]
    return np.asarray(terms)


def doubts(found: Neighborhoods, value: float, k: int, variant: int, *, wide: bool) -> list[str]:
    """What speaks against the estimate."""
    from scipy.special import digamma

    n = len(found.radius)
    said = []
    share = float((found.radius <= found.slack).mean())
    if share >= REPEATED:
        said.append(
            f"repeated values: {share:.0%} of the samples have {k} or more others at their own place; the estimate is "
            "the information of the repeated values, for which discrete_mutual_information (or "
            "mixed_mutual_information) is made"
        )
    most = float(digamma(n) - digamma(k)) - (1 / k if variant == 2 else 0)
    if value > most - NEAR:
        said.append(
            f"the estimate {value:.3g} nats is near {most:.3g}, the largest that {n} samples and k = {k} can show: the "
            "information may be larger, and is infinite if one variable is a function of the other"
        )
    middle = float(np.median(found.radius))
    if wide and middle > WIDE:
        said.append(
            f"the neighbors are far: the median distance of the k-th is {middle:.2g} standard deviations, within which "
            "the density is not flat, and the estimate is likely too small; give more samples or fewer columns"
        )
    return said
