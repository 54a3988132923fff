"""How far states move, on manifolds of normals, arranged as influence."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, as_int_array, check_shape
from infogeo.errors import ArgumentError, DomainError, ShapeError

Manifold = Literal["all normals", "fixed covariance"]


def whitening_factors(covariance: ArrayLike) -> FloatArray:
    r"""Cholesky factors :math:`L` with :math:`\Sigma = L L^\top`, one for each layer.

    Parameters
    ----------
    covariance : array_like, shape (R, d, d)
        Symmetric and positive definite.

    Returns
    -------
    array, shape (R, d, d)
        Lower triangular.

    Raises
    ------
    ShapeError
        If the shape is another.
    DomainError
        If a matrix is not positive definite, or not finite.

    Examples
    --------
    >>> whitening_factors([[[4.0, 0.0], [0.0, 9.0]]]).tolist()
    [[[2.0, 0.0], [0.0, 3.0]]]
    """
    matrices = as_float_array("covariance", covariance)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise ShapeError(f"covariance: found shape {matrices.shape}, wanted (R, d, d)")
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError as error:
        raise DomainError("covariance: a matrix is not positive definite; shrink it more strongly") from error


def whitened_lengths(differences: ArrayLike, factors: ArrayLike) -> FloatArray:
    r"""Mahalanobis lengths :math:`\sqrt{x^\top \Sigma^{-1} x}` of differences, layer by layer.

    Parameters
    ----------
    differences : array_like, shape (R, ..., d)
        NaN where there is nothing to measure stays NaN.
    factors : array_like, shape (R, d, d)
        From :func:`whitening_factors`.

    Returns
    -------
    array, shape (R, ...)

    Raises
    ------
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> whitened_lengths([[[2.0, 0.0], [0.0, 3.0], [2.0, 3.0]]], [[[2.0, 0.0], [0.0, 3.0]]]).round(4)
    array([[1.    , 1.    , 1.4142]])
    """
    from scipy.linalg import solve_triangular

    x, lower = np.asarray(differences), as_float_array("factors", factors)
    check_shape("factors", lower, (len(lower), lower.shape[-1], lower.shape[-1]))
    if x.ndim < 2 or x.shape[0] != lower.shape[0] or x.shape[-1] != lower.shape[-1]:
        raise ShapeError(f"differences: found shape {x.shape}, wanted ({lower.shape[0]}, ..., {lower.shape[-1]})")
    found = np.empty(x.shape[:-1])
    for r, factor in enumerate(lower):
        columns = np.asfortranarray(x[r].reshape(-1, x.shape[-1]).T, dtype=np.float64)
        # scipy solves column-major systems many times faster
        white = solve_triangular(np.asfortranarray(factor), columns, lower=True, check_finite=False)
        found[r] = np.sqrt((white**2).sum(axis=0)).reshape(x.shape[1:-1])
    return found


def normal_lengths(mahalanobis: ArrayLike, manifold: Manifold = "all normals") -> FloatArray:
    r"""Fisher-Rao distance of two normals of one covariance from their Mahalanobis distance m.

    Among all normals it is :math:`2 \sqrt 2 \operatorname{arsinh}(m / (2 \sqrt 2))`: the shortest path leads through
    larger covariances [1]_. With the covariance held fixed the normals are a flat manifold, and it is m itself.

    Parameters
    ----------
    mahalanobis : array_like
        Not negative.
    manifold : {"all normals", "fixed covariance"}

    Returns
    -------
    array, of the same shape

    Raises
    ------
    ArgumentError
        If there is no such manifold.

    References
    ----------
    .. [1] C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365, section 4.

    Examples
    --------
    >>> normal_lengths([0.0, 2.0], "all normals").round(6), normal_lengths([2.0], "fixed covariance")
    (array([0.     , 1.86246]), array([2.]))
    """
    lengths = np.asarray(mahalanobis, dtype=np.float64)
    if manifold == "fixed covariance":
        return lengths
    if manifold != "all normals":
        raise ArgumentError(f"manifold {manifold!r} does not exist; choose 'all normals' or 'fixed covariance'")
    return np.asarray(2 * np.sqrt(2) * np.arcsinh(lengths / (2 * np.sqrt(2))))


def influence_matrix(moved: ArrayLike, removed: ArrayLike, *, causal: bool) -> FloatArray:
    """Distances by reading arranged as words moved and words taken away; those of one word's readings are averaged.

    Parameters
    ----------
    moved : array_like, shape (R, m, n)
        How far word i moved in reading v, in layer r; what it says of the word taken away itself is not looked at.
    removed : array_like, shape (m,)
        The word that each reading is without; each of the n words at least once.
    causal : bool
        Whether words before the one taken away cannot move; their rounding errors are then set to zero.

    Returns
    -------
    array, shape (R, n, n)
        ``[r, i, j]`` is how far word i moved without word j; zero on the diagonal.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DomainError
        If a distance beside the diagonal is negative or not finite, or a word was never taken away.

    Examples
    --------
    >>> influence_matrix([[[9.0, 1.0], [2.0, 9.0], [4.0, 9.0]]], [0, 1, 1], causal=False).tolist()
    [[[0.0, 3.0], [1.0, 0.0]]]
    """
    distances = as_float_array("moved", moved, finite=False)
    without = as_int_array("removed", removed)
    if distances.ndim != 3 or without.shape != distances.shape[1:2]:
        raise ShapeError(
            f"moved and removed: found shapes {distances.shape} and {without.shape}, wanted (R, m, n) and (m,)"
        )
    layers, _, n = distances.shape
    missing = sorted(set(range(n)) ^ set(without.tolist()))
    if missing:
        raise DomainError(f"removed: found the words {sorted(set(without.tolist()))}, wanted each of 0 to {n - 1}")
    values = np.zeros((layers, n, n))
    for j in range(n):
        values[:, :, j] = distances[:, without == j].mean(axis=1)
    values[:, np.arange(n), np.arange(n)] = 0.0
    if causal:
        values = np.tril(values)
    check_influence(values)
    return values


# Checks


def checked_influence(values: ArrayLike) -> FloatArray:
    """The values as float64, unless they are no influence."""
    a = as_float_array("values", values, finite=False)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"values: found shape {a.shape}, wanted (..., n, n)")
    check_influence(a)
    return a


def check_influence(values: FloatArray) -> None:
    """Raise unless all values are finite and not negative, and the diagonal is zero."""
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DomainError(f"values: entry {where} is {values[where]}; influence must be finite and not negative")
    if np.diagonal(values, axis1=-2, axis2=-1).any():
        raise DomainError("values: the diagonal is not zero; the influence of a word on itself is left out")
