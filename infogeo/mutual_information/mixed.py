"""Mutual information of a discrete and a continuous variable."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import check_count
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._labels import as_codes
from infogeo.mutual_information._neighbors import Search, count_within, neighborhoods, search_for
from infogeo.mutual_information._samples import (
    Transform,
    check_lengths,
    check_options,
    on_one_scale,
    read_samples,
    say_constant,
    without_constants,
)


def mixed_mutual_information(
    labels: Any,
    y: ArrayLike,
    *,
    k: int = 3,
    transform: Transform | None = "standardize",
    search: Search | None = None,
    threads: int = 1,
    unit: Unit = "nats",
) -> float:
    r"""Mutual information of labels and a continuous variable, from neighbors with the same label.

    .. math:: I = \psi(n) + \langle \psi(k_i) \rangle - \langle \psi(n_i) \rangle - \langle \psi(m_i) \rangle

    For sample i, :math:`n_i` samples have its label, and :math:`m_i` samples of any label are no farther than the
    :math:`k_i`-th neighbor of its own label, in the maximum norm (equation 2 of [1]_). :math:`k_i` is k, or
    :math:`n_i - 1` for labels that are seen k times or less; a label seen once has no neighbor, and its sample is left
    out. The estimate is raw, and may be negative.

    Parameters
    ----------
    labels : sequence of n labels
        Numbers, strings or any hashable things, or the rows of an array.
    y : array_like, shape (n,) or (n, d)
        Samples of the continuous variable. Constant columns are left out.
    k : int
        Neighbors.
    transform, search, threads
        As in :func:`ksg_mutual_information`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or labels and y have different numbers of them.
    DomainError
        If a number is not finite, a label is NaN, None or not hashable, or each label is seen once.
    ArgumentError
        If k is not below n, or an option does not exist.

    Warns
    -----
    EstimateWarning
        If there is one label only or y is constant (the estimate is 0), or if labels seen k times or less make up a
        hundredth of the samples or more.

    Notes
    -----
    1. Ties are resolved as in :func:`ksg_mutual_information`.

    References
    ----------
    .. [1] B. C. Ross, "Mutual information between discrete and continuous data sets", PLoS ONE 9, e87357, 2014.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> words = rng.choice(["calm", "storm"], 2000)
    >>> wind = rng.uniform(size=2000) + (words == "storm")
    >>> abs(mixed_mutual_information(words, wind, unit="bits") - 1) < 0.01
    True
    """
    from scipy.special import digamma

    scale = per_nat(unit)
    codes, given = as_codes("labels", labels), read_samples("y", y)
    check_lengths(labels=codes, y=given)
    y = without_constants(given)
    n = len(codes)
    k = check_count("k", k, 1)
    if k >= n:
        raise ArgumentError(f"k: found {k} with {n} samples; give more samples or k below {n}")
    check_count("threads", threads, 1)
    check_options(transform, search)
    found = search_for(search, y.shape[1])
    sizes = np.bincount(codes)
    if len(sizes) == 1:
        warnings.warn("labels: found one label only, which carries no information", EstimateWarning, stacklevel=2)
        return 0.0
    if say_constant(y=y):
        return 0.0
    if sizes.max() == 1:
        raise DomainError(
            f"labels: each of the {n} labels is seen once, so none has a neighbor; are these numbers? For two "
            "continuous variables use ksg_mutual_information"
        )
    small = int(sizes[sizes <= k].sum())
    if small >= 0.01 * n:
        alone = int((sizes == 1).sum())
        warnings.warn(
            f"labels: {(sizes <= k).sum()} of {len(sizes)} labels are seen no more than k = {k} times ({small} of {n} "
            f"samples): fewer neighbors are taken for those, and the {alone} samples with a label seen once are left "
            "out",
            EstimateWarning,
            stacklevel=2,
        )
    kept = sizes[codes] > 1
    codes, y = codes[kept], y[kept]
    points, rounding = on_one_scale(y, transform)
    total = len(codes)
    near, radius, slack = (np.empty(total) for _ in range(3))
    share, ahead, size = np.empty(total), np.empty(total), np.empty(total)
    tied = np.zeros(total, dtype=np.bool_)
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        own = neighborhoods(
            [points[members]], [], rounding[members], k=min(k, len(members) - 1), search=found, threads=threads
        )
        near[members] = digamma(own.joint) - digamma(len(members))
        radius[members], slack[members], tied[members] = own.radius, own.slack, own.tied
        share[members], ahead[members], size[members] = own.share, own.ahead, own.size
    low = count_within(points, radius - slack, search=found, threads=threads)
    among = low.astype(np.float64)
    if tied.any():
        high = count_within(points, radius + slack, search=found, threads=threads)
        among = np.where(radius <= slack, high, low + ahead + (high - low - size) * share)
    return float(digamma(total) + (near - digamma(among + 1)).mean()) * scale
