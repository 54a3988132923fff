"""Differential entropy of a continuous variable from samples: by nearest neighbors, or as if it were normal."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, check_count, check_number
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError
from infogeo.estimates import EstimateWarning
from infogeo.mutual_information._samples import check_neighbors, read_samples, standardized, with_noise
from infogeo.mutual_information.gaussian import log_volumes, volume_bias

Norm = Literal["euclidean", "max"]
"""What is called the distance of two samples."""
Whitening = Literal["standardize", "whiten"]
"""What is done to the samples before distances are taken; its logarithmic volume is added back."""

TREE_DIMENSIONS = 10
"""In more of them a k-d tree visits most of its leaves, and all pairs are faster."""

BLOCK_NUMBERS = 2**21
"""Distances held at once."""

UNEQUAL = 10.0
"""Standard deviations in two directions that differ by more than this factor are warned of."""


def kozachenko_leonenko_entropy(
    x: ArrayLike,
    *,
    k: int = 3,
    norm: Norm = "euclidean",
    transform: Whitening | None = None,
    jitter: float | None = None,
    rng: Any = None,
    unit: Unit = "nats",
) -> float:
    r"""Differential entropy from the distances to the k-th nearest neighbors.

    .. math:: h = \psi(n) - \psi(k) + \log c_d + \frac dn \sum_i \log \epsilon_i

    :math:`\epsilon_i` is the distance of sample i to its k-th neighbor, :math:`c_d` the volume of the unit ball
    (:math:`2^d` in the maximum norm), :math:`\psi` the digamma function [1]_ [2]_ (equation 20). With ``jitter`` it is
    the entropy of the noisy variable. A differential entropy may be negative, and depends on the unit of
    measurement: h(a X) = h(X) + d log(a).

    The error does not go away with n as long as the balls are not small against the shape of the density, and that
    takes samples in number exponential in d: see the table in :doc:`/entropies`.

    Parameters
    ----------
    x : array_like, shape (n, d) or (n,)
        Independent samples, more than k.
    k : int
        Which neighbor. A larger one has less variance and more bias.
    norm : {"euclidean", "max"}
        The Euclidean one has the smaller bias, and does not change under rotations of x; in the maximum norm the
        number is the one from which the mutual information of Kraskov et al. derives.
    transform : {"standardize", "whiten"}, optional
        Divide each component by its standard deviation, or make the sample covariance the identity, and add the
        logarithm of the volume back. For the density itself that changes nothing; the estimate is far better if
        components are correlated or have different units, and worse if the samples fall into distant clusters or have
        tails so heavy that there is no variance.
    jitter : float, optional
        For samples of limited resolution: components that hold equal numbers get normal noise of this share of their
        standard deviation.
    rng : None, int or numpy.random.Generator
        Of the noise.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    DomainError
        If a number is not finite, if a component is constant or a linear combination of others (the entropy is minus
        infinity), or if k + 1 samples are equal.
    ShapeError, ArgumentError
        If there is no sample, no more than k, or an argument is out of range.

    Warns
    -----
    EstimateWarning
        If n is below 5 k, or below :math:`k\,2^d / 3` (:math:`k\,2^d` in the maximum norm), where even for normal
        samples the error is more than about 0.1 nats; if samples are equal; if the standard deviations in two
        directions differ by more than a factor of 10 after the transform.

    References
    ----------
    .. [1] L. F. Kozachenko and N. N. Leonenko, "Sample estimate of the entropy of a random vector", Problems of
       Information Transmission 23, 1987.
    .. [2] A. Kraskov, H. Stögbauer and P. Grassberger, "Estimating mutual information", Physical Review E 69, 2004.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((2000, 2))
    >>> bool(abs(kozachenko_leonenko_entropy(x) - np.log(2 * np.pi * np.e)) < 0.05)
    True
    """
    from scipy.special import digamma

    scale = per_nat(unit)
    volumes = _log_ball_volumes(x, k, norm, transform, jitter, rng)
    return float(scale * (digamma(len(volumes)) - digamma(k) + volumes.mean()))


def nearest_neighbor_renyi_entropy(
    x: ArrayLike,
    *,
    alpha: float,
    k: int = 3,
    norm: Norm = "euclidean",
    transform: Whitening | None = None,
    jitter: float | None = None,
    rng: Any = None,
    unit: Unit = "nats",
) -> float:
    r"""Rényi entropy of a continuous variable from the distances to the k-th nearest neighbors.

    .. math::

        h_\alpha = \frac1{1 - \alpha} \log \int p^\alpha, \qquad
        \int p^\alpha \approx \frac1n \sum_i \bigl[(n - 1) \, C_k \, c_d \, \epsilon_i^d\bigr]^{1 - \alpha}, \quad
        C_k = \Bigl[\frac{\Gamma(k)}{\Gamma(k + 1 - \alpha)}\Bigr]^{1 / (1 - \alpha)}

    after Leonenko, Pronzato and Savani [1]_. At alpha = 1 this is the Shannon entropy, as
    :func:`kozachenko_leonenko_entropy` but with log(n - 1) for :math:`\psi(n)`. The Tsallis entropy follows from it:
    :math:`(e^{(1 - \alpha) h_\alpha} - 1) / (1 - \alpha)`, h in nats.

    Parameters
    ----------
    x : array_like, shape (n, d) or (n,)
        Independent samples, more than k.
    alpha : float
        The order, above 0 and below k + 1, where the mean of the formula ceases to exist. Orders below 1 weigh the
        tails, which a sample hardly knows; for those far below 1 the density must have a bounded support or light
        tails.
    k, norm, transform, jitter, rng
        As for :func:`kozachenko_leonenko_entropy`.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    DomainError, ShapeError, ArgumentError
        As :func:`kozachenko_leonenko_entropy`; also if the order is out of range.

    Warns
    -----
    EstimateWarning
        As :func:`kozachenko_leonenko_entropy`.

    References
    ----------
    .. [1] N. Leonenko, L. Pronzato and V. Savani, "A class of Rényi information estimators for multidimensional
       densities", Annals of Statistics 36, 2008, section 3 (corrected in 38, 2010).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(5000)
    >>> bool(abs(nearest_neighbor_renyi_entropy(x, alpha=2) - np.log(4 * np.pi) / 2) < 0.05)
    True
    """
    scale = per_nat(unit)
    order = check_number("alpha", alpha)
    if not 0 < order < math.inf:
        raise ArgumentError(f"alpha: found {alpha}, wanted a finite order above 0")
    if order >= check_count("k", k, 1) + 1:
        raise ArgumentError(
            f"alpha: found {alpha} with k = {k} neighbors; the order must be below k + 1, so give more neighbors"
        )
    volumes = _log_ball_volumes(x, k, norm, transform, jitter, rng)
    # the mean of powers about the mean of logarithms, so that nothing cancels as alpha tends to 1
    gap = 1 - order
    center = float(volumes.mean())
    spread = gap * (volumes - center)
    top = float(spread.max())
    if gap == 0:
        excess = 0.0
    elif top < 1:
        excess = float(np.log1p(np.expm1(spread).mean())) / gap
    else:
        excess = (top + float(np.log(np.exp(spread - top).mean()))) / gap
    return scale * (math.log(len(volumes) - 1) + center + excess - _gamma_slope(k, gap))


def gaussian_entropy(x: ArrayLike, *, bias_correction: bool = True, unit: Unit = "nats") -> float:
    r"""Differential entropy of a variable that is jointly normal, from the covariance of samples.

    .. math:: h = \tfrac12 \log \det (2 \pi e S) - b, \qquad
              b = \tfrac12 \sum_{j=1}^{d} \Bigl[\psi\Bigl(\frac{n - j}{2}\Bigr) + \log 2 - \log(n - 1)\Bigr]

    S is the sample covariance (divided by n - 1) and b the expectation of the error for normal samples, whatever their
    mean and covariance: with it the estimate has no bias [1]_. Of all variables with the same covariance the normal one
    has the largest entropy, so for others this is an upper bound, up to the error of the sample.

    Parameters
    ----------
    x : array_like, shape (n, d) or (n,)
        Independent samples, more than d.
    bias_correction : bool
        Whether b is taken off.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    DomainError
        If a number is not finite, there are no more samples than components, or a component is constant or a linear
        combination of others.
    ShapeError
        If there is no sample.

    Warns
    -----
    EstimateWarning
        If n is so near to d that the standard error, :math:`\frac12 [\sum_j \psi'((n - j) / 2)]^{1/2}` for normal
        samples, is above 0.5 nats.

    References
    ----------
    .. [1] N. Misra, H. Singh and E. Demchuk, "Estimation of the entropy of a multivariate normal distribution",
       Journal of Multivariate Analysis 92, 2005.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 20))
    >>> exact = 10 * np.log(2 * np.pi * np.e)
    >>> [round(float(gaussian_entropy(x, bias_correction=b) - exact), 2) for b in (True, False)]
    [-0.15, -0.7]
    """
    from scipy.special import polygamma

    scale = per_nat(unit)
    array = _read(x)
    n, d = array.shape
    if n <= d:
        raise DomainError(
            f"x: found {n} samples of {d} components, wanted more samples than components; give more samples, or fewer "
            "components (for example the first principal components)"
        )
    value = _log_spreads(array).sum() + log_volumes({"x": array}, [("x",)])[0] + d / 2 * math.log(2 * math.pi * math.e)
    error = 0.5 * math.sqrt(polygamma(1, (n - np.arange(1, d + 1)) / 2).sum())
    if error > 0.5:
        warnings.warn(
            f"x: {n} samples are few for {d} components: even for normal samples the standard error of the entropy is "
            f"{error:.2g} nats; give more samples or fewer components",
            EstimateWarning,
            stacklevel=2,
        )
    return float(scale * (value - (volume_bias(n, d) if bias_correction else 0.0)))


def _read(x: ArrayLike) -> FloatArray:
    """Samples of a variable none of whose components is constant."""
    array = read_samples("x", x)
    constant = np.flatnonzero((array == array[:1]).all(axis=0))
    if len(array) == 1:
        raise DomainError("x: found one sample, which has no spread; give more")
    if len(constant):
        raise DomainError(
            f"x: component {constant[0]} is constant ({array[0, constant[0]]:g}), so x has no density and its entropy "
            "is minus infinity; leave the component out"
        )
    return array


def _log_ball_volumes(
    x: ArrayLike, k: int, norm: str, transform: str | None, jitter: float | None, rng: Any
) -> FloatArray:
    """(n,) logarithm of the volume of the ball around each sample that reaches its k-th neighbor."""
    if norm not in ("euclidean", "max"):
        raise ArgumentError(f"norm: found {norm!r}, wanted 'euclidean' or 'max'")
    if transform not in (None, "standardize", "whiten"):
        raise ArgumentError(f"transform: found {transform!r}, wanted 'standardize', 'whiten' or None")
    array = _read(x)
    n, d = array.shape
    k = check_neighbors(k, n)
    array = with_noise(array, jitter, rng)
    points, log_volume, doubt = _transformed(array, transform)
    doubts = [_doubt_of_size(n, d, k, norm) or doubt]
    nearest, radius = _neighbor_distances(points, k, norm)
    repeated = int((radius == 0).sum())
    if repeated:
        raise DomainError(
            f"x: {repeated} of {n} samples (the first is row {int((radius == 0).argmax())}) have {k} or more others "
            "equal to them, so the distance is 0 and its logarithm minus infinity; a variable that repeats its values "
            "is counted, with estimate_entropy; rounded measurements need jitter=, such as 1e-3, or a larger k"
        )
    equal = int((nearest == 0).sum())
    if equal:
        doubts.append(
            f"x: {equal} of {n} samples are equal to another one, which happens with probability 0 if x has a density; "
            "the estimate is about the values as they were rounded"
        )
    for message in filter(None, doubts):
        warnings.warn(message, EstimateWarning, stacklevel=3)
    return np.asarray(d * np.log(radius) + log_volume + _log_unit_ball(d, norm))


def _doubt_of_size(n: int, d: int, k: int, norm: str) -> str:
    """What to say if the samples are too few for the dimension."""
    wanted = max(5 * k, k * 2.0 ** min(d, 1000) / (3 if norm == "euclidean" else 1))
    if n >= wanted:
        return ""
    return (
        f"x: {n} samples are few for d = {d} dimensions and k = {k} neighbors: even for normal samples the error is "
        f"above about 0.1 nats, wanted at least {math.ceil(wanted):.4g}; take fewer dimensions, or gaussian_entropy if "
        "x is about normal"
    )


def _transformed(x: FloatArray, transform: str | None) -> tuple[FloatArray, float, str]:
    """Points as distances are taken between them, the logarithm of the volume taken off, and what speaks against it."""
    n, d = x.shape
    spreads = _log_spreads(x)
    scaled = standardized(x)[0]
    scaled -= scaled.mean(axis=0)
    if n > d:
        volume = float(log_volumes({"x": x}, [("x",)])[0])  # refuses dependent components
        factor = np.linalg.qr(scaled).R / math.sqrt(n - 1)
        if transform == "whiten":
            whitened: FloatArray = np.asarray(np.linalg.solve(factor.T, scaled.T).T, dtype=np.float64)
            return whitened, float(spreads.sum()) + volume, ""
    elif transform == "whiten":
        raise ArgumentError(
            f"transform: whitening needs more samples than components, found {n} samples of {d}; give "
            "transform='standardize', or fewer components"
        )
    if transform == "standardize":
        points, log_volume = scaled, float(spreads.sum())
        relative = np.ones(d)
    else:
        power = int(np.frexp(np.abs(x).max())[1])
        points, log_volume = np.ldexp(x, -power), d * power * math.log(2)
        relative = np.exp(spreads - spreads.max())
    if n <= d:
        return points, log_volume, ""
    sizes = np.linalg.svd(factor * relative, compute_uv=False)
    if sizes[0] <= UNEQUAL * sizes[-1]:
        return points, log_volume, ""
    return points, log_volume, (
        f"x: the standard deviations in two directions differ by a factor of {sizes[0] / sizes[-1]:.3g}, so balls are "
        "a poor neighborhood; compare with transform='whiten', which is better for correlated components or different "
        "units, and worse for distant clusters"
    )


def _log_spreads(x: FloatArray) -> FloatArray:
    """(d,) logarithm of the standard deviation (divided by n) of each component, at any scale."""
    power = np.frexp(np.abs(x).max(axis=0))[1]
    return np.asarray(np.log(np.ldexp(x, -power).std(axis=0)) + power * math.log(2))


def _neighbor_distances(x: FloatArray, k: int, norm: str) -> tuple[FloatArray, FloatArray]:
    """(n,) distances to the first and the k-th neighbor."""
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import cdist

    n, d = x.shape
    if d <= TREE_DIMENSIONS:
        tree = cKDTree(x, balanced_tree=False, compact_nodes=False)
        found = np.asarray(tree.query(x, k=[2, k + 1], p=2 if norm == "euclidean" else np.inf)[0])
        return found[:, 0], found[:, 1]
    nearest, radius = np.empty(n), np.empty(n)
    step = max(1, BLOCK_NUMBERS // n)
    for start in range(0, n, step):
        here = slice(start, start + step)
        distance = cdist(x[here], x, "euclidean" if norm == "euclidean" else "chebyshev")
        ordered = np.partition(distance, (1, k), axis=1)  # the sample itself is in the first place
        nearest[here], radius[here] = ordered[:, 1], ordered[:, k]
    return nearest, radius


def _log_unit_ball(d: int, norm: str) -> float:
    return d * math.log(2) if norm == "max" else d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def _gamma_slope(k: int, gap: float) -> float:
    """log(Gamma(k + gap) / Gamma(k)) / gap, which is digamma(k) at 0."""
    from scipy.special import digamma, polygamma

    if abs(gap) > 1e-3:
        return (math.lgamma(k + gap) - math.lgamma(k)) / gap
    second, third, fourth = (float(polygamma(m, k)) for m in (1, 2, 3))
    return float(digamma(k)) + gap / 2 * (second + gap / 3 * (third + gap / 4 * fourth))

