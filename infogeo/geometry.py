r"""The Fisher geometry of a family: metric, inner product, geodesics, exponential and logarithmic map.

All of them work in the *coordinates* of the family, :meth:`Family.coordinates`: n independent numbers for each member,
in the order its docstring states. A velocity is an array (..., n) of rates of change of those coordinates, the Fisher
information an array (..., n, n), so that ``v @ fisher_information(p) @ v`` is the squared length of v;
:meth:`Family.split` turns a velocity into named parts such as ``{"mean": ..., "cov": ...}``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, within_range
from infogeo.errors import DomainError, ShapeError
from infogeo.families import Family
from infogeo.measures import check_pair
from infogeo.operations import Operation, check_no_gradient

FISHER_INFORMATION = Operation("fisher_information")
"""(p) to the array (..., n, n)."""
INNER_PRODUCT = Operation("inner_product")
"""(p, v, w) to the array (...,); only for families that know better than through the matrix."""
EXPONENTIAL_MAP = Operation("exponential_map")
"""(p, velocity) to a batch of the manifold's family; the velocity is an array whose last axis has length n."""
LOGARITHM_MAP = Operation("logarithm_map")
"""(p, q) to the array (..., n)."""
GEODESIC = Operation("geodesic")
"""(p, q, t) with t of shape (T,) to a batch of shape (..., T)."""


def fisher_information(p: Family) -> FloatArray:
    r"""Fisher information matrix :math:`E[\partial_i \log p\,\partial_j \log p]` in the coordinates of the family.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (..., n, n)
        Symmetric and positive definite; n and the order of the coordinates are those of ``p.coordinates()``.

    Raises
    ------
    UnsupportedFamilyError
        If the family has no density that depends smoothly on its parameters.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, AMS 2000, eq. (2.6).

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> fisher_information(DiagonalGaussian([0.0], [4.0])).tolist()  # diag(1/var, 1/(2 var^2))
    [[0.25, 0.0], [0.0, 0.03125]]
    """
    found = FISHER_INFORMATION.find(p)
    result: FloatArray = within_range("fisher_information", lambda: found(p))
    return result


def inner_product(p: Family, v: ArrayLike, w: ArrayLike) -> FloatArray:
    r"""Inner product :math:`v^\top F(p)\, w` of two velocities at p in the Fisher metric.

    Where the metric has structure (normals, categoricals) the matrix is never formed.

    Parameters
    ----------
    p : Family
    v, w : array, shape (..., n)
        Rates of change of the coordinates; leading axes broadcast against the batch.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        If the family has no Fisher information.
    ShapeError, DomainError
        If a velocity does not fit, or is not finite.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> float(inner_product(DiagonalGaussian([0.0], [4.0]), [2.0, 0.0], [2.0, 0.0]))
    1.0
    """
    FISHER_INFORMATION.find(p)
    v, w = check_velocity("v", p, v), check_velocity("w", p, w)
    if type(p) in INNER_PRODUCT.families:
        found = INNER_PRODUCT.find(p)
        return np.asarray(within_range("inner_product", lambda: found(p, v, w)))
    metric = fisher_information(p)
    return within_range("inner_product", lambda: np.asarray(np.einsum("...i,...ij,...j->...", v, metric, w)))


def exponential_map(p: Family, velocity: ArrayLike) -> Any:
    """Distribution reached after unit time on the geodesic that leaves p with a velocity.

    Parameters
    ----------
    p : Family
    velocity : array, shape (..., n)
        Rates of change of the coordinates; leading axes broadcast against the batch.

    Returns
    -------
    Family
        Of the family whose manifold the geodesics run in: for :class:`SharedCovarianceGaussian` that is
        :class:`Gaussian`, for all others the family of ``p``.

    Raises
    ------
    UnsupportedFamilyError
        If the family has no implementation.
    ShapeError, DomainError
        If the velocity does not fit, is not finite, or leads off the manifold or out of the range of float64.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> exponential_map(DiagonalGaussian([0.0], [1.0]), [0.0, 2.0]).var.round(6).tolist()  # e^2: straight up
    [7.389056]
    """
    found = EXPONENTIAL_MAP.find(p)
    velocity = check_velocity("velocity", p, velocity)
    return within_range("exponential_map", lambda: found(p, velocity))


def logarithm_map(p: Family, q: Family) -> FloatArray:
    """Velocity at p of the shortest geodesic that reaches q after unit time; its length is the distance.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (..., n)
        In the coordinates of the family whose manifold the geodesics run in (see :func:`exponential_map`).

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError
        As a measure of the two.
    ConvergenceError
        If the geodesic has to be found by an iteration, and that fails.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> logarithm_map(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([0.0], [4.0])).round(6).tolist()  # log 4
    [0.0, 1.386294]
    """
    found = LOGARITHM_MAP.find(p)
    check_pair("logarithm_map", p, q)
    check_no_gradient("logarithm_map", q)
    result: FloatArray = within_range("logarithm_map", lambda: found(p, q))
    return result


def geodesic(p: Family, q: Family, t: ArrayLike) -> Any:
    """Distributions on the shortest geodesic from p (t = 0) to q (t = 1), at constant speed.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.
    t : float or array, shape (T,)
        Times from 0 to 1.

    Returns
    -------
    Family
        Of batch shape (...,) for one time, (..., T) for several; of the family of :func:`exponential_map`.

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError, ConvergenceError
        As :func:`logarithm_map`; also if a time lies outside 0 to 1.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> middle = geodesic(DiagonalGaussian([-1.0], [1.0]), DiagonalGaussian([1.0], [1.0]), 0.5)
    >>> middle.mean.round(6).tolist(), middle.var.round(6).tolist()
    ([0.0], [1.5])
    """
    found = GEODESIC.find(p)
    check_pair("geodesic", p, q)
    check_no_gradient("geodesic", q)
    times = check_times(t)
    points: Family = within_range("geodesic", lambda: found(p, q, np.atleast_1d(times)))
    return points if times.ndim else points[..., 0]


def check_times(t: ArrayLike) -> FloatArray:
    """One time, or times (T,), from 0 to 1.

    Parameters
    ----------
    t : float or array, shape (T,)

    Returns
    -------
    array, shape () or (T,)

    Raises
    ------
    ShapeError, DomainError
        If there is more than one axis or no time, or one lies outside 0 to 1.
    """
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    if times.size == 0:
        raise ShapeError("t: found no times, wanted at least one")
    if ((times < 0) | (times > 1)).any():
        raise DomainError(f"t: found times from {times.min()} to {times.max()}, wanted times from 0 to 1")
    return times


def check_velocity(name: str, p: Family, value: ArrayLike) -> FloatArray:
    """A velocity (..., n) at p, finite, whose leading axes broadcast against the batch.

    Parameters
    ----------
    name : str
        What messages call it.
    p : Family
    value : array, shape (..., n)

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    ShapeError, DomainError
        If it does not fit, or is not finite.
    """
    array = as_float_array(name, value)
    n = p.coordinate_size
    if array.ndim == 0 or array.shape[-1] != n:
        raise ShapeError(
            f"{name}: found shape {array.shape}, wanted (..., {n}), one rate for each coordinate of {type(p).__name__}"
        )
    try:
        np.broadcast_shapes(array.shape[:-1], p.batch_shape)
    except ValueError:
        raise ShapeError(
            f"{name}: leading axes {array.shape[:-1]} do not broadcast against the batch shape {p.batch_shape}"
        ) from None
    return array
