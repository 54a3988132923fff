r"""All normals of one dimension with the Fisher metric.

A point is a pair ``(mean, cov)`` of arrays (..., d) and (..., d, d), a velocity a pair of their rates of change, the
second symmetric. The Fisher metric is

.. math:: ds^2 = dm^\top \Sigma^{-1} dm + \tfrac12 \mathrm{tr}\,(\Sigma^{-1} d\Sigma)^2 .

A geodesic that leaves :math:`N(0, I)` with velocity (x, B) is read off a matrix exponential (Eriksen 1987): with

.. math:: A = \begin{pmatrix} -B & x & 0 \\ x^\top & 0 & -x^\top \\ 0 & -x & B \end{pmatrix}

the upper left block of :math:`e^{tA}` is :math:`\Sigma(t)^{-1}` and the upper middle one :math:`\Sigma(t)^{-1} m(t)`.
The factors of A come from one singular value decomposition of the d by d + 1 matrix :math:`[-B, \sqrt2 x] / 2`. The
logarithm comes from the minimum over a fibre (see :func:`infogeo.normal_geodesic`). All functions broadcast over
leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo import normal_geodesics
from infogeo._arrays import to_numpy
from infogeo._checks import FloatArray, as_float_array
from infogeo._normal_pairs import lower_solve
from infogeo.errors import DomainError, ShapeError
from infogeo.families import Gaussian

Point = tuple[ArrayLike, ArrayLike]
"""Mean (..., d) and covariance (..., d, d)."""

Pair = tuple[FloatArray, FloatArray]

LARGEST = 300.0
"""Half the length of a geodesic in one direction beyond which its end leaves the range of float64."""


def distance(x: Point, y: Point) -> FloatArray:
    """Fisher-Rao distance.

    Parameters
    ----------
    x, y : tuple of arrays
        Mean (..., d) and covariance (..., d, d).

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        If shapes do not fit, an entry is not finite, or a covariance is not symmetric and positive definite.
    ConvergenceError
        If a pair misses the relative error 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = ([0.0, 0.0], np.eye(2)), ([0.0, 0.0], np.e * np.eye(2))
    >>> float(distance(x, y))  # sqrt(2 / 2)
    1.0
    """
    p, q = Gaussian(*x), Gaussian(*y)
    _check(p, q)
    parts = normal_geodesics.solve_all(p, q)
    return np.asarray(normal_geodesics.join([s.distance for s in parts], normal_geodesics.broadcast_shape(p, q), p, q))


def exp(x: Point, velocity: Point) -> Pair:
    """Point reached after unit time on the geodesic that leaves ``x`` with a velocity.

    Parameters
    ----------
    x : tuple of arrays
        Mean (..., d) and covariance (..., d, d).
    velocity : tuple of arrays
        Their rates of change.

    Returns
    -------
    tuple of arrays, mean (..., d) and covariance (..., d, d)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if the end point cannot be represented in float64.

    Examples
    --------
    >>> import numpy as np
    >>> mean, cov = exp(([0.0], [[1.0]]), ([0.0], [[2.0]]))  # straight up: the variance grows exponentially
    >>> cov.round(6).tolist()
    [[7.389056]]
    """
    p = Gaussian(*x)
    return _shoot(p, *_velocity(p, velocity))


def log(x: Point, y: Point) -> Pair:
    """Velocity at ``x`` of the geodesic that reaches ``y`` after unit time; its norm is the distance.

    Parameters
    ----------
    x, y : tuple of arrays
        Mean (..., d) and covariance (..., d, d).

    Returns
    -------
    tuple of arrays, rates of the mean (..., d) and of the covariance (..., d, d)

    Raises
    ------
    ShapeError, DomainError, ConvergenceError
        As :func:`distance`.

    Examples
    --------
    >>> mean_rate, cov_rate = log(([0.0], [[1.0]]), ([0.0], [[4.0]]))
    >>> cov_rate.round(6).tolist()  # log 4
    [[1.386294]]
    """
    p, q = Gaussian(*x), Gaussian(*y)
    _check(p, q)
    shape = normal_geodesics.broadcast_shape(p, q)
    rates = [s.rates for s in normal_geodesics.solve_all(p, q, rates=True) if s.rates is not None]
    mean, cov = (np.asarray(normal_geodesics.join([r[i] for r in rates], shape, p, q)) for i in range(2))
    return mean, cov


def geodesic(x: Point, y: Point, t: ArrayLike) -> Pair:
    """Points of the geodesic from ``x`` (t = 0) to ``y`` (t = 1), at constant speed.

    Each half is computed from its own end.

    Parameters
    ----------
    x, y : tuple of arrays
        Mean (..., d) and covariance (..., d, d).
    t : float or array, shape (T,)
        Times; outside 0 to 1 the geodesic is continued.

    Returns
    -------
    tuple of arrays, mean (..., d) and covariance (..., d, d) for one time, (..., T, d) and (..., T, d, d) for several

    Raises
    ------
    ShapeError, DomainError, ConvergenceError
        As :func:`distance`.

    Examples
    --------
    >>> mean, cov = geodesic(([-1.0], [[1.0]]), ([1.0], [[1.0]]), 0.5)
    >>> mean.round(6).tolist(), cov.round(6).tolist()
    ([0.0], [[1.5]])
    """
    p, q = Gaussian(*x), Gaussian(*y)
    _check(p, q)
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    s = np.atleast_1d(times)
    shape, d = normal_geodesics.broadcast_shape(p, q), p.dimension
    mean, cov = np.empty((*shape, len(s), d)), np.empty((*shape, len(s), d, d))
    for chosen, start, end, share in ((s <= 0.5, p, q, s), (s > 0.5, q, p, 1 - s)):
        if not chosen.any():
            continue
        mean_rate, cov_rate = log((start.mean, start.cov), (end.mean, end.cov))
        part = share[chosen][:, None]
        mean[..., chosen, :], cov[..., chosen, :, :] = _shoot(
            start[..., None], part * mean_rate[..., None, :], part[..., None] * cov_rate[..., None, :, :]
        )
    return (mean, cov) if times.ndim else (mean[..., 0, :], cov[..., 0, :, :])


def norm(x: Point, velocity: Point) -> FloatArray:
    r"""Length of a velocity, :math:`\sqrt{\dot m^\top\Sigma^{-1}\dot m + \frac12\mathrm{tr}(\Sigma^{-1}\dot\Sigma)^2}`.

    Parameters
    ----------
    x : tuple of arrays
        Mean (..., d) and covariance (..., d, d).
    velocity : tuple of arrays
        Their rates of change.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> float(norm(([0.0], [[4.0]]), ([2.0], [[0.0]])))
    1.0
    """
    p = Gaussian(*x)
    x_rate, b = whitened_velocity(p, *_velocity(p, velocity))
    return np.asarray(np.sqrt((x_rate**2).sum(axis=-1) + (b**2).sum(axis=(-2, -1)) / 2))


# ----------------------------------------------------------------------------------------------------------- parts


def whitened_velocity(p: Gaussian, mean_rate: FloatArray, cov_rate: FloatArray) -> Pair:
    """Rates of mean and covariance in units of the normal itself, of the broadcast shape."""
    d = p.dimension
    shape = np.broadcast_shapes(p.batch_shape, mean_rate.shape[:-1], cov_rate.shape[:-2])
    factor = np.broadcast_to(to_numpy(p.cholesky), (*shape, d, d)).reshape(-1, d, d)
    x = lower_solve(factor, np.broadcast_to(mean_rate, (*shape, d)).reshape(-1, d, 1))
    half = lower_solve(factor, np.broadcast_to(cov_rate, (*shape, d, d)).reshape(-1, d, d))
    b = lower_solve(factor, np.swapaxes(half, 1, 2))
    return x.reshape(*shape, d), ((b + np.swapaxes(b, 1, 2)) / 2).reshape(*shape, d, d)


def _shoot(p: Gaussian, mean_rate: FloatArray, cov_rate: FloatArray) -> Pair:
    r"""End points of geodesics; batch shapes broadcast.

    The precision is a sum of squares over the eigenvectors of A, :math:`F F^\top`, and the natural mean is F h; with
    the QR decomposition of F transposed the mean is a least-squares solution and no inverse is taken of a product.
    """
    x, b = whitened_velocity(p, mean_rate, cov_rate)
    d = p.dimension
    u, angles, vt = np.linalg.svd(np.concatenate([-b, 2**0.5 * x[..., None]], axis=-1) / 2, full_matrices=True)
    if angles.max() > LARGEST:
        raise DomainError(
            f"velocity: a geodesic whose matrix exponential has the exponent {2 * float(angles.max()):.4g} leaves the "
            "range of float64; take a shorter one"
        )
    grown, shrunk = np.exp(angles)[..., None], np.exp(-angles)[..., None]
    right, null = vt[..., :d, :], vt[..., d:, :]
    left = np.swapaxes(u, -1, -2)
    rows = np.concatenate(
        [
            grown * (right[..., :d] + left) / 2,
            null[..., :d] / 2**0.5,
            np.flip(shrunk * (right[..., :d] - left) / 2, axis=-2),
        ],
        axis=-2,
    )
    height = np.concatenate(
        [grown * right[..., d:] / 2**0.5, null[..., d:], np.flip(shrunk * right[..., d:] / 2**0.5, axis=-2)], axis=-2
    )
    q, r = np.linalg.qr(rows)
    inverse = np.linalg.solve(r, np.broadcast_to(np.eye(d), r.shape))
    factor = to_numpy(p.cholesky) @ inverse
    mean = to_numpy(p.mean) + (factor @ (np.swapaxes(q, -1, -2) @ height))[..., 0]
    cov = factor @ np.swapaxes(factor, -1, -2)
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise DomainError("velocity: the end of the geodesic leaves the range of float64; take a shorter one")
    return mean, (cov + np.swapaxes(cov, -1, -2)) / 2


def _check(p: Gaussian, q: Gaussian) -> None:
    if p.dimension != q.dimension:
        raise ShapeError(f"found points of dimensions {p.dimension} and {q.dimension}, wanted equal ones")
    try:
        normal_geodesics.broadcast_shape(p, q)
    except ValueError:
        raise ShapeError(f"batch shapes {p.batch_shape} and {q.batch_shape} do not broadcast") from None


def _velocity(p: Gaussian, velocity: Point) -> Pair:
    mean_rate, cov_rate = as_float_array("mean rate", velocity[0]), as_float_array("cov rate", velocity[1])
    d = p.dimension
    if mean_rate.shape[-1:] != (d,) or cov_rate.shape[-2:] != (d, d):
        raise ShapeError(
            f"velocity: found rates of shapes {mean_rate.shape} and {cov_rate.shape}, wanted (..., {d}) and "
            f"(..., {d}, {d})"
        )
    try:
        np.broadcast_shapes(p.batch_shape, mean_rate.shape[:-1], cov_rate.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"velocity: leading axes {mean_rate.shape[:-1]} and {cov_rate.shape[:-2]} do not broadcast against the "
            f"batch shape {p.batch_shape}"
        ) from None
    skew = np.abs(cov_rate - np.swapaxes(cov_rate, -1, -2))
    if (skew > 1e-8 * np.abs(cov_rate).max(axis=(-2, -1), keepdims=True)).any():
        raise DomainError("velocity: the rate of the covariance is not symmetric; give its symmetric part")
    return mean_rate, (cov_rate + np.swapaxes(cov_rate, -1, -2)) / 2
