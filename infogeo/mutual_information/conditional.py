"""Mutual information of two variables when a third is known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import check_count
from infogeo._units import Unit, per_nat
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._neighbors import Search, neighborhoods
from infogeo.mutual_information._samples import (
    Transform,
    check_neighbors,
    check_options,
    read_together,
    say_constant,
    without_constants,
)
from infogeo.mutual_information._tensors import to_host
from infogeo.mutual_information.gaussian import check_samples, log_volumes, normal_information, say_spread, volume_bias
from infogeo.mutual_information.ksg import comparable, doubts, squeezed


def conditional_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    *,
    k: int = 3,
    transform: Transform | None = "standardize",
    jitter: float | None = None,
    rng: Any = None,
    search: Search | None = None,
    threads: int = 1,
    unit: Unit = "nats",
) -> float:
    r"""Mutual information of x and y when z is known, from the distances to the k nearest neighbors.

    .. math:: I(X; Y \mid Z) = \psi(k) - \bigl\langle \psi(n_{xz} + 1) + \psi(n_{yz} + 1) - \psi(n_z + 1) \bigr\rangle

    With distances in the maximum norm, each n counts the samples strictly nearer, in the variables named, than the
    k-th neighbor in all three (equation 4 of [1]_). The estimate is raw, and may be negative. With z constant it is
    :func:`ksg_mutual_information`. The more columns z has, the more it falls short.

    Parameters
    ----------
    x, y, z : array_like, shape (n,) or (n, d)
        Samples; row i of all was observed together. Constant columns are left out.
    k : int
        Neighbors.
    transform, jitter, rng, search, threads
        As in :func:`ksg_mutual_information`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or the variables have different numbers of them.
    DomainError
        If a number is not finite, or a tensor records a gradient: the estimate has none.
    ArgumentError
        If k is not below n, or an option does not exist.

    Warns
    -----
    EstimateWarning
        As :func:`ksg_mutual_information`.

    Notes
    -----
    1. Ties are resolved as in :func:`ksg_mutual_information`; where k others are at the same place, as in [2]_.

    References
    ----------
    .. [1] S. Frenzel and B. Pompe, "Partial mutual information for coupling analysis of multivariate time series",
       Physical Review Letters 99, 204101, 2007.
    .. [2] O. C. Mesner and C. R. Shalizi, "Conditional mutual information estimation for mixed, discrete and continuous
       data", IEEE Transactions on Information Theory 67, 2021.

    Examples
    --------
    A common cause explains the dependence of x and y.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.standard_normal(2000)
    >>> x, y = z + rng.standard_normal((2, 2000))
    >>> abs(conditional_mutual_information(x, y, z)) < 0.05
    True
    """
    scale = per_nat(unit)
    (x, y, z), where = to_host(x=x, y=y, z=z)
    x, y, z = (without_constants(a) for a in read_together(x=x, y=y, z=z))
    k = check_neighbors(k, len(x))
    check_count("threads", threads, 1)
    check_options(transform, search)
    if say_constant(x=x, y=y):
        return 0.0
    known = z.shape[1] > 0
    (x, y, *rest), rounding = comparable([x, y, z] if known else [x, y], transform, jitter, rng)
    marginals = [(0, 2), (1, 2), (2,)] if known else [(0,), (1,)]
    found = neighborhoods([x, y, *rest], marginals, rounding, k=k, search=search, threads=threads, where=where)
    from scipy.special import digamma

    last = digamma(found.counts[2] + 1) if known else digamma(len(x))
    value = float(np.mean(digamma(found.joint) + last - digamma(found.counts[0] + 1) - digamma(found.counts[1] + 1)))
    squeeze = squeezed(transform, x=x, y=y, **({"z": z} if known else {}))
    for doubt in [*doubts(found, value, k, 1, wide=transform is not None), *squeeze]:
        warnings.warn(doubt, EstimateWarning, stacklevel=2)
    return value * scale


def gaussian_conditional_mutual_information(
    x: ArrayLike, y: ArrayLike, z: ArrayLike, *, bias_correction: bool = True, unit: Unit = "nats"
) -> float:
    r"""Mutual information of x and y when z is known, of jointly normal variables.

    .. math::

        I(X; Y \mid Z) = \tfrac12 \log \frac{\det S_{xz} \det S_{yz}}{\det S_{xyz} \det S_z}
        - (b_{xz} + b_{yz} - b_{xyz} - b_z)

    with sample covariances S and biases b as in :func:`gaussian_mutual_information`; minus half the logarithm of one
    minus the squared partial correlation, for single columns.

    Parameters
    ----------
    x, y, z : array_like, shape (n,) or (n, d)
        Samples; row i of all was observed together. Constant columns are left out.
    bias_correction : bool
        Whether b is taken off.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or the variables have different numbers of them.
    DomainError
        If a number is not finite, there are no more samples than columns, or a column is a linear combination of
        others.

    Warns
    -----
    EstimateWarning
        As :func:`gaussian_mutual_information`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.standard_normal(2000)
    >>> x, y = z + rng.standard_normal((2, 2000))
    >>> abs(gaussian_conditional_mutual_information(x, y, z)) < 0.01
    True
    """
    scale = per_nat(unit)
    x, y, z = (without_constants(a) for a in read_together(x=x, y=y, z=z))
    if say_constant(x=x, y=y):
        return 0.0
    if z.shape[1] == 0:
        value = normal_information(x, y, bias_correction=bias_correction)
        say_spread(len(x), x.shape[1], y.shape[1])
        return value * scale
    check_samples(x=x, y=y, z=z)
    volumes = log_volumes({"x": x, "y": y, "z": z}, [("z",), ("z", "x"), ("z", "y"), ("z", "x", "y")])
    if bias_correction:
        n, (p, q, r) = len(x), (a.shape[1] for a in (x, y, z))
        volumes = volumes - np.array([volume_bias(n, d) for d in (r, p + r, q + r, p + q + r)])
    say_spread(len(x), x.shape[1], y.shape[1], known=z.shape[1])
    return float(volumes[1] + volumes[2] - volumes[3] - volumes[0]) * scale
