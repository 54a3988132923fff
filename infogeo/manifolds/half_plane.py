r"""The Fisher half-plane: univariate normals with coordinates (mean, standard deviation).

A point is an array (..., 2) of a mean and a positive standard deviation, a velocity an array (..., 2) of their rates
of change. The Fisher metric is :math:`ds^2 = (dm^2 + 2\,d\sigma^2)/\sigma^2`: with :math:`u = m/\sqrt2` it is twice the
metric of the hyperbolic half-plane :math:`(u, \sigma)`. Geodesics are half-ellipses that meet the line
:math:`\sigma = 0` at right angles, and vertical lines. All functions broadcast over leading axes and have closed forms
without cases for vertical geodesics.

After C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365; the geodesics through a given
direction follow from those of the hyperbolic half-plane through :math:`(0, 1)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _kernels
from infogeo._checks import FloatArray, as_float_array, check_broadcast
from infogeo.errors import DomainError, ShapeError

SQRT2 = 2.0**0.5


def distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    r"""Fisher-Rao distance, :math:`2\sqrt2\,\mathrm{arsinh}\sqrt{(\Delta m^2/2 + \Delta\sigma^2)/(4\sigma_1\sigma_2)}`.

    Parameters
    ----------
    x, y : array, shape (..., 2)
        Points (mean, standard deviation).

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError
        If the last axis has not length 2, or the shapes do not broadcast.
    DomainError
        If an entry is not finite or a standard deviation is not positive.

    Examples
    --------
    >>> distance([0.0, 1.0], [0.0, np.e]).round(6).item()  # sqrt(2) along a vertical line
    1.414214
    """
    x, y = _points(x=x, y=y)
    rise = y[..., 1] - x[..., 1]
    return np.asarray(_kernels.half_plane_distances(x[..., 0], y[..., 0], x[..., 1], y[..., 1], rise))


def exp(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Point reached after unit time on the geodesic that leaves ``x`` with a velocity.

    Parameters
    ----------
    x : array, shape (..., 2)
    velocity : array, shape (..., 2)

    Returns
    -------
    array, shape (..., 2)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if the end point cannot be represented in float64.

    Examples
    --------
    >>> exp([0.0, 1.0], [0.0, 1.0]).round(6).tolist()  # straight up: the standard deviation grows exponentially
    [0.0, 2.718282]
    """
    (x,), velocity = _points(x=x), _vectors("velocity", velocity)
    check_broadcast(x=x, velocity=velocity)
    scale = x[..., 1]
    # velocity and end point in the hyperbolic half-plane, moved so that the geodesic starts at (0, 1)
    a, b = velocity[..., 0] / (SQRT2 * scale), velocity[..., 1] / scale
    length = np.hypot(a, b)
    safe = np.where(length > 0, length, 1.0)
    across, up = a / safe, b / safe
    unit = np.where(length > 0, np.hypot(across, up), 1.0)  # not one yet if the velocity is near underflow
    across, up = across / unit, up / unit
    # 1 - up and 1 + up, the smaller of the two without cancellation
    less = np.where(up > 0, across**2 / (1 + np.abs(up)), 1 - up)
    more = np.where(up > 0, 1 + up, across**2 / (1 + np.abs(up)))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        falling = 0.5 * (np.exp(length) * less + np.exp(-length) * more)
        u, v = across * np.sinh(length) / falling, 1 / falling
        u, v = np.where(length > 0, u, 0.0), np.where(length > 0, v, 1.0)
        end = np.stack([x[..., 0] + SQRT2 * scale * u, scale * v], axis=-1)
    if not (np.isfinite(end).all() and (end[..., 1] > 0).all()):
        raise DomainError(
            f"velocity: a geodesic of length up to {SQRT2 * float(length.max()):.4g} leaves the range of float64; "
            "take a shorter one"
        )
    return end


def log(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Velocity at ``x`` of the geodesic that reaches ``y`` after unit time; its norm is the distance.

    The direction is accurate to rounding; far out a rounding error of the direction at ``x`` is a large one at ``y``
    (it grows by a factor exp(d / sqrt(2))), which is why :func:`geodesic` starts from the nearer end.

    Parameters
    ----------
    x, y : array, shape (..., 2)

    Returns
    -------
    array, shape (..., 2)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> log([0.0, 1.0], [0.0, np.e]).round(6).tolist()
    [0.0, 1.0]
    """
    x, y = _points(x=x, y=y)
    return velocity_to(difference(y[..., 0], x[..., 0]), x[..., 1], y[..., 1], y[..., 1] - x[..., 1])


def difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a - b`` of means, unless that is too large for float64."""
    with np.errstate(over="ignore"):
        shift = np.asarray(a - b)
    if not np.isfinite(shift).all():
        raise DomainError("found means whose difference is too large for float64; choose another unit")
    return shift


def velocity_to(shift: FloatArray, std: FloatArray, other: FloatArray, rise: FloatArray) -> FloatArray:
    """The velocity of :func:`log` from the difference of the means, both standard deviations and their difference.

    For callers that know the difference of the standard deviations to more digits than they have.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        u, v, climb = shift / (SQRT2 * std), other / std, rise / std
        length = _kernels.half_plane_distances(np.zeros_like(shift), shift, std, other, rise) / SQRT2
        # sinh(length) times the unit direction, both parts times v and divided by what could overflow when squared
        most = 1 + np.abs(u) + v
        across, up = u / most, 0.5 * (u * (u / most) + climb * ((v + 1) / most))
        size = np.hypot(across, up)
        factor = length / np.where(size > 0, size, 1.0)
        velocity = np.stack([SQRT2 * std * across * factor, std * up * factor], axis=-1)
    if not np.isfinite(velocity).all():
        raise DomainError(
            "log: means that lie more than 1e300 standard deviations apart leave the range of float64; their distance "
            "can be had"
        )
    return velocity


def geodesic(x: ArrayLike, y: ArrayLike, t: ArrayLike) -> FloatArray:
    """Points of the geodesic from ``x`` (t = 0) to ``y`` (t = 1), at constant speed.

    Parameters
    ----------
    x, y : array, shape (..., 2)
    t : float or array, shape (T,)
        Times; outside 0 to 1 the geodesic is continued.

    Returns
    -------
    array, shape (..., 2) for one time, (..., T, 2) for several

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> geodesic([-1.0, 1.0], [1.0, 1.0], [0.0, 0.5, 1.0]).round(6).tolist()
    [[-1.0, 1.0], [0.0, 1.224745], [1.0, 1.0]]
    """
    x, y = _points(x=x, y=y)
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    forward, backward = log(x, y), log(y, x)
    if times.ndim == 1:
        x, y, forward, backward = (a[..., None, :] for a in (x, y, forward, backward))
    s = times[..., None]
    # each half is computed from its own end, so that both ends are met and errors do not grow on the way
    first = exp(x, np.minimum(s, 0.5) * forward)
    second = exp(y, np.minimum(1 - s, 0.5) * backward)
    return np.where(s <= 0.5, first, second)


def norm(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    r"""Length of a velocity in the Fisher metric, :math:`\sqrt{\dot m^2 + 2 \dot\sigma^2} / \sigma`.

    Parameters
    ----------
    x : array, shape (..., 2)
    velocity : array, shape (..., 2)

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> float(norm([0.0, 2.0], [2.0, 0.0]))
    1.0
    """
    (x,), velocity = _points(x=x), _vectors("velocity", velocity)
    check_broadcast(x=x, velocity=velocity)
    return np.asarray(np.hypot(velocity[..., 0], SQRT2 * velocity[..., 1]) / x[..., 1])


def _vectors(name: str, value: ArrayLike) -> FloatArray:
    array = as_float_array(name, value)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., 2) for mean and standard deviation")
    return array


def _points(**points: ArrayLike) -> tuple[FloatArray, ...]:
    arrays = {name: _vectors(name, value) for name, value in points.items()}
    for name, array in arrays.items():
        if (array[..., 1] <= 0).any():
            worst = array[..., 1].min()
            raise DomainError(f"{name}: found standard deviation {worst}; standard deviations must be positive")
    check_broadcast(**arrays)
    return tuple(arrays.values())
