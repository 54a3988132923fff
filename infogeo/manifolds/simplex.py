r"""The probability simplex with the Fisher metric: an orthant of the sphere of radius 2.

A point is an array (..., V) of probabilities with sum one, a velocity an array (..., V) of their rates of change, with
sum zero. The Fisher metric is :math:`ds^2 = \sum_k dp_k^2 / p_k`; the map :math:`p \mapsto 2\sqrt p` is an isometry
onto the part of the sphere of radius 2 with non-negative coordinates, where geodesics are great circles. All functions
broadcast over leading axes. At the border (a probability of zero) the metric is infinite: :func:`distance` and
:func:`geodesic` still hold there, the others need all probabilities positive.

After C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_broadcast
from infogeo.errors import DomainError, ShapeError

TOLERANCE = 1e-9
"""How far a sum of probabilities may be from one, and a sum of rates from zero (relative to their size)."""


def distance(p: ArrayLike, q: ArrayLike) -> FloatArray:
    r"""Fisher-Rao distance :math:`2 \arccos \sum_k \sqrt{p_k q_k}`, from the chord between the square roots.

    Parameters
    ----------
    p, q : array, shape (..., V)
        Probabilities; zeros are allowed.

    Returns
    -------
    array, shape (...,), between 0 and pi

    Raises
    ------
    ShapeError
        If there is no axis of outcomes, or the shapes do not broadcast.
    DomainError
        If an entry is negative or not finite, or a row does not sum to one within 1e-9.

    Examples
    --------
    >>> distance([1.0, 0.0], [0.5, 0.5]).round(6).item()  # pi / 2
    1.570796
    """
    p, q = _points(p=p, q=q)
    return 2 * _angle(p, q)


def exp(p: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Point reached after unit time on the geodesic that leaves ``p`` with a velocity.

    Parameters
    ----------
    p : array, shape (..., V)
        Positive probabilities.
    velocity : array, shape (..., V)
        Sum zero.

    Returns
    -------
    array, shape (..., V)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also at the border, if the velocity does not sum to zero, or if the geodesic meets the
        border of the simplex before unit time, where it ends.

    Examples
    --------
    >>> exp([0.5, 0.5], log([0.5, 0.5], [0.1, 0.9])).round(6).tolist()
    [0.1, 0.9]
    """
    p, velocity = _interior(p), _rates(velocity)
    _check_outcomes(p=p, velocity=velocity)
    roots = np.sqrt(p)
    direction = velocity / roots  # velocity on the sphere of radius 2
    angle = np.linalg.norm(direction, axis=-1, keepdims=True) / 2
    end = roots * np.cos(angle) + direction * _sinc(angle) / 2
    # until it meets the border the geodesic has all square roots positive; angles beyond pi have gone right round
    if (angle > np.pi / 2).any() or (end < -1e-12).any():
        raise DomainError(
            "velocity: the geodesic meets the border of the simplex, where a probability is zero, before unit time; "
            "take a shorter velocity"
        )
    return np.asarray(np.maximum(end, 0.0) ** 2)


def log(p: ArrayLike, q: ArrayLike) -> FloatArray:
    """Velocity at ``p`` of the geodesic that reaches ``q`` after unit time; its norm is the distance.

    Parameters
    ----------
    p : array, shape (..., V)
        Positive probabilities.
    q : array, shape (..., V)
        Zeros are allowed.

    Returns
    -------
    array, shape (..., V), with sum zero

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if a probability of ``p`` is zero.

    Examples
    --------
    >>> log([0.5, 0.5], [0.5, 0.5]).tolist()
    [0.0, 0.0]
    """
    p, (q,) = _interior(p), _points(q=q)
    _check_outcomes(p=p, q=q)
    roots = np.sqrt(p)
    difference = _root_difference(q, p)
    angle = _angle(p, q)[..., None]
    # sqrt(q) - cos(angle) sqrt(p), from the difference and 1 - cos = 2 sin^2(angle / 2)
    tangent = difference + 2 * np.sin(angle / 2) ** 2 * roots
    return np.asarray(2 * roots * tangent / _sinc(angle))


def geodesic(p: ArrayLike, q: ArrayLike, t: ArrayLike) -> FloatArray:
    """Points of the geodesic from ``p`` (t = 0) to ``q`` (t = 1), at constant speed.

    Parameters
    ----------
    p, q : array, shape (..., V)
        Probabilities; zeros are allowed.
    t : float or array, shape (T,)
        Times from 0 to 1.

    Returns
    -------
    array, shape (..., V) for one time, (..., T, V) for several

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if a time lies outside 0 to 1.

    Examples
    --------
    >>> geodesic([1.0, 0.0], [0.0, 1.0], 0.5).round(6).tolist()
    [0.5, 0.5]
    """
    p, q = _points(p=p, q=q)
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    if ((times < 0) | (times > 1)).any():
        raise DomainError("t: times must lie between 0 and 1; beyond its ends a geodesic may leave the simplex")
    angle = _angle(p, q)[..., None]
    if times.ndim == 1:
        p, q, angle = p[..., None, :], q[..., None, :], angle[..., None]
    s = times[..., None]
    total = _sinc(angle)
    left = (1 - s) * _sinc((1 - s) * angle) / total
    right = s * _sinc(s * angle) / total
    return np.asarray((left * np.sqrt(p) + right * np.sqrt(q)) ** 2)


def norm(p: ArrayLike, velocity: ArrayLike) -> FloatArray:
    r"""Length of a velocity in the Fisher metric, :math:`\sqrt{\sum_k \dot p_k^2 / p_k}`.

    Parameters
    ----------
    p : array, shape (..., V)
        Positive probabilities.
    velocity : array, shape (..., V)
        Sum zero.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        As :func:`exp`.

    Examples
    --------
    >>> norm([0.5, 0.5], [0.1, -0.1]).round(6).item()
    0.2
    """
    p, velocity = _interior(p), _rates(velocity)
    _check_outcomes(p=p, velocity=velocity)
    return np.asarray(np.linalg.norm(velocity / np.sqrt(p), axis=-1))


def _sinc(x: FloatArray) -> FloatArray:
    """sin(x) / x, one at zero."""
    return np.asarray(np.sinc(x / np.pi))


def _root_difference(p: FloatArray, q: FloatArray) -> FloatArray:
    total = np.sqrt(p) + np.sqrt(q)
    return np.asarray((p - q) / np.where(total > 0, total, 1.0))


def _angle(p: FloatArray, q: FloatArray) -> FloatArray:
    chord = np.linalg.norm(_root_difference(p, q), axis=-1)
    return np.asarray(2 * np.arctan2(chord, np.linalg.norm(np.sqrt(p) + np.sqrt(q), axis=-1)))


def _vectors(name: str, value: ArrayLike) -> FloatArray:
    array = as_float_array(name, value)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., V) with at least one outcome")
    return array


def _points(**points: ArrayLike) -> tuple[FloatArray, ...]:
    arrays = {name: _vectors(name, value) for name, value in points.items()}
    for name, array in arrays.items():
        if (array < 0).any():
            raise DomainError(f"{name}: found probability {array.min()}; probabilities must not be negative")
        off = np.abs(array.sum(axis=-1) - 1.0)
        if off.max(initial=0.0) > TOLERANCE:
            total = np.ravel(array.sum(axis=-1))[int(np.argmax(off))]
            raise DomainError(f"{name}: a row sums to {total:.12g}, wanted 1 within {TOLERANCE:g}")
    _check_outcomes(**arrays)
    return tuple(arrays.values())


def _interior(p: ArrayLike) -> FloatArray:
    (array,) = _points(p=p)
    if (array == 0).any():
        raise DomainError("p: a probability is zero; at the border of the simplex the metric is infinite")
    return array


def _rates(velocity: ArrayLike) -> FloatArray:
    array = _vectors("velocity", velocity)
    total, size = array.sum(axis=-1), np.abs(array).sum(axis=-1)
    # the second part is what rounding of probabilities leaves in the velocity between two that hardly differ
    if (np.abs(total) > TOLERANCE * size + 2 * array.shape[-1] * np.finfo(np.float64).eps).any():
        raise DomainError(f"velocity: found rates with sum {total.flat[int(np.argmax(np.abs(total)))]}, wanted sum 0")
    return array


def _check_outcomes(**arrays: FloatArray) -> None:
    if len({a.shape[-1] for a in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"numbers of outcomes differ: {shapes}")
    check_broadcast(**arrays)
