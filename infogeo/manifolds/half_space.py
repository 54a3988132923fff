r"""The Fisher half-space: isotropic normals with coordinates (mean, standard deviation).

A point is an array (..., d + 1) of the d components of a mean and, last, a positive standard deviation, a velocity an
array (..., d + 1) of their rates of change. The Fisher metric of :math:`N(m, \sigma^2 I)` in d dimensions is
:math:`ds^2 = (|dm|^2 + 2d\,d\sigma^2)/\sigma^2`: with :math:`u = m/\sqrt{2d}` it is 2d times the metric of the
hyperbolic half-space :math:`(u, \sigma)` of dimension d + 1. A geodesic stays in the plane of its direction and the
axis of :math:`\sigma`, so every function here is that of :mod:`~infogeo.manifolds.half_plane` along the difference of
the means, with means divided and distances multiplied by :math:`\sqrt d`. For d = 1 the two are the same.

After C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _kernels
from infogeo._checks import FloatArray, as_float_array, check_broadcast
from infogeo.errors import DomainError, ShapeError
from infogeo.manifolds import half_plane


def distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    r"""Fisher-Rao distance :math:`2\sqrt{2d}\,\mathrm{arsinh}\sqrt{(|\Delta m|^2/2d+\Delta s^2)/4s_1s_2}`.

    Parameters
    ----------
    x, y : array, shape (..., d + 1)
        Points (mean, standard deviation).

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError
        If the last axes differ or have fewer than two entries, or the shapes do not broadcast.
    DomainError
        If an entry is not finite or a standard deviation is not positive.

    Examples
    --------
    >>> distance([0.0, 0.0, 1.0], [0.0, 0.0, np.e]).round(6).item()  # sqrt(2 d) straight up, here d = 2
    2.0
    """
    x, y = _points(x=x, y=y)
    root, rise = (x.shape[-1] - 1) ** 0.5, y[..., -1] - x[..., -1]
    half = _split(y[..., :-1] / 2 - x[..., :-1] / 2)[1] / root
    return np.asarray(root * _kernels.half_plane_distances(half, -half, x[..., -1], y[..., -1], rise))


def exp(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Point reached after unit time on the geodesic that leaves ``x`` with a velocity.

    Parameters
    ----------
    x : array, shape (..., d + 1)
    velocity : array, shape (..., d + 1)

    Returns
    -------
    array, shape (..., d + 1)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if the end point cannot be represented in float64.

    Examples
    --------
    >>> exp([5.0, 0.0, 1.0], [0.0, 0.0, 1.0]).round(6).tolist()  # straight up: the standard deviation grows as exp
    [5.0, 0.0, 2.718282]
    """
    (x,), velocity = _points(x=x), _vectors("velocity", velocity)
    _check_sizes(x=x, velocity=velocity)
    root, (direction, speed) = (x.shape[-1] - 1) ** 0.5, _split(velocity[..., :-1])
    start = np.stack([np.zeros(x.shape[:-1]), x[..., -1]], axis=-1)
    end = half_plane.exp(start, np.stack([speed / root, velocity[..., -1]], axis=-1))
    return _joined(x[..., :-1] + root * end[..., :1] * direction, end[..., 1])


def log(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Velocity at ``x`` of the geodesic that reaches ``y`` after unit time; its norm is the distance.

    Accurate as :func:`infogeo.manifolds.half_plane.log`.

    Parameters
    ----------
    x, y : array, shape (..., d + 1)

    Returns
    -------
    array, shape (..., d + 1)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> log([0.0, 0.0, 1.0], [0.0, 0.0, np.e]).round(6).tolist()
    [0.0, 0.0, 1.0]
    """
    x, y = _points(x=x, y=y)
    return velocity_to(half_plane.difference(y[..., :-1], x[..., :-1]), x[..., -1], y[..., -1], y[..., -1] - x[..., -1])


def velocity_to(shift: FloatArray, std: FloatArray, other: FloatArray, rise: FloatArray) -> FloatArray:
    """The velocity of :func:`log` from the difference of the means, both standard deviations and their difference.

    For callers that know the difference of the standard deviations to more digits than they have.
    """
    root, (direction, gap) = shift.shape[-1] ** 0.5, _split(shift)
    velocity = half_plane.velocity_to(gap / root, std, other, rise)
    return _joined(root * velocity[..., :1] * direction, velocity[..., 1])


def geodesic(x: ArrayLike, y: ArrayLike, t: ArrayLike) -> FloatArray:
    """Points of the geodesic from ``x`` (t = 0) to ``y`` (t = 1), at constant speed.

    Parameters
    ----------
    x, y : array, shape (..., d + 1)
    t : float or array, shape (T,)
        Times; outside 0 to 1 the geodesic is continued.

    Returns
    -------
    array, shape (..., d + 1) for one time, (..., T, d + 1) for several

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> geodesic([-2.0, 0.0, 1.0], [2.0, 0.0, 1.0], 0.5).round(6).tolist()  # sqrt(1 + 2^2 / 2d) high
    [0.0, 0.0, 1.414214]
    """
    x, y = _points(x=x, y=y)
    root, direction, start, end = _plane(x, y)
    arc = half_plane.geodesic(start, end, t)
    low, high = x[..., :-1], y[..., :-1]
    if np.ndim(t) == 1:
        direction, low, high, start, end = (a[..., None, :] for a in (direction, low, high, start, end))
    # each half is measured from its own end, so that both means are met
    from_low = low + root * arc[..., :1] * direction
    from_high = high - root * (end[..., :1] - arc[..., :1]) * direction
    return _joined(np.where(np.asarray(t)[..., None] <= 0.5, from_low, from_high), arc[..., 1])


def norm(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    r"""Length of a velocity in the Fisher metric, :math:`\sqrt{|\dot m|^2 + 2d\,\dot\sigma^2} / \sigma`.

    Parameters
    ----------
    x : array, shape (..., d + 1)
    velocity : array, shape (..., d + 1)

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> float(norm([0.0, 0.0, 2.0], [0.0, 0.0, 1.0]))  # sqrt(2 d) / sigma
    1.0
    """
    (x,), velocity = _points(x=x), _vectors("velocity", velocity)
    _check_sizes(x=x, velocity=velocity)
    up = (2 * (x.shape[-1] - 1)) ** 0.5 * velocity[..., -1]
    return np.asarray(np.hypot(_split(velocity[..., :-1])[1], up) / x[..., -1])


def _plane(x: FloatArray, y: FloatArray) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Root of d, direction of the means' difference, and both points in the half-plane over that direction."""
    root, (direction, gap) = (x.shape[-1] - 1) ** 0.5, _split(half_plane.difference(y[..., :-1], x[..., :-1]))
    start = np.stack([np.zeros(gap.shape), np.broadcast_to(x[..., -1], gap.shape)], axis=-1)
    end = np.stack([gap / root, np.broadcast_to(y[..., -1], gap.shape)], axis=-1)
    return root, direction, start, end


def _split(vector: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Direction and length of a vector; the direction of zero is zero."""
    top = np.abs(vector).max(axis=-1, keepdims=True)
    scaled = vector / np.where(top > 0, top, 1.0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(length > 0, length, 1.0), (length * top)[..., 0]


def _joined(mean: FloatArray, std: FloatArray) -> FloatArray:
    return np.concatenate([mean, np.broadcast_to(std[..., None], (*mean.shape[:-1], 1))], axis=-1)


def _vectors(name: str, value: ArrayLike) -> FloatArray:
    array = as_float_array(name, value)
    if array.ndim == 0 or array.shape[-1] < 2:
        raise ShapeError(
            f"{name}: found shape {array.shape}, wanted (..., d + 1) for the d components of a mean and a standard "
            "deviation"
        )
    return array


def _points(**points: ArrayLike) -> tuple[FloatArray, ...]:
    arrays = {name: _vectors(name, value) for name, value in points.items()}
    for name, array in arrays.items():
        if (array[..., -1] <= 0).any():
            worst = array[..., -1].min()
            raise DomainError(f"{name}: found standard deviation {worst}; standard deviations must be positive")
    _check_sizes(**arrays)
    return tuple(arrays.values())


def _check_sizes(**arrays: FloatArray) -> None:
    if len({a.shape[-1] for a in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"dimensions differ: {shapes}")
    check_broadcast(**arrays)
