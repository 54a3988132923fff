r"""Alpha-geodesics of exponential families by collocation, in natural parameters.

There :math:`\Gamma^{(\alpha)}_{ij,k} = \frac{1 - \alpha}{2} T_{ijk}`, so a geodesic obeys
:math:`\theta'' = -\frac{1 - \alpha}{2}\, g^{-1} T(\theta', \theta')`. The unknown is theta'' at N Gauss-Legendre points
in time, as a polynomial; position and velocity follow by integration, with both ends as given. That makes it an
integral equation of the second kind, whose condition does not grow with N. Newton steps solve it; N doubles until the
equation also holds between the points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from infogeo._checks import FloatArray
from infogeo._exponential import ExponentialFamily
from infogeo.errors import ConvergenceError, DomainError

POINTS = (12, 24, 48, 96, 192)
"""Numbers of points in time, tried in turn."""
DIFFERENCE = 1e-6
"""Relative step of the difference that stands for a derivative in Newton's matrix (not in the equation)."""


@dataclass(frozen=True)
class AlphaGeodesic:
    """An alpha-geodesic that was found by collocation."""

    theta: FloatArray
    """(T, n) natural parameters at the times."""
    residual: float
    """Root mean square of the acceleration that is left, between the points too, over that of the speed, both in the
    Fisher metric."""
    tolerance: float
    """What the residual was to be below."""
    points: int
    """Number N of points in time."""
    iterations: int
    """Newton steps in all."""
    converged: bool
    """Whether the residual is below the tolerance."""


def solve(
    record: ExponentialFamily, p: Any, q: Any, t: FloatArray, alpha: float, *, tolerance: float = 1e-10
) -> AlphaGeodesic:
    """The alpha-geodesic from one member to another.

    It starts between the exponential (alpha = 1) and the mixture (alpha = -1) geodesic; where Newton's method fails
    from there, alpha goes from the nearer of the two to its value in 5 steps.

    Raises
    ------
    ConvergenceError
        If the residual stays above the tolerance; carries the :class:`AlphaGeodesic`.
    """
    start, end = record.natural(p), record.natural(q)
    steps, missed, left, size = 0, np.inf, None, 0
    for size in POINTS:
        if left is None:
            u, done = _first(record, p, q, start, end, size, alpha)
        else:
            u, done = _newton(record, p, start, end, _moved(len(left), size) @ left, alpha)
        steps += done
        if u is None:
            continue
        left, fine = u, _moved(size, 2 * size) @ u
        miss = _miss(record, p, _path(start, end, fine), fine, alpha)
        if miss is not None:
            missed = miss
        if missed <= tolerance:
            break
    theta = np.full((len(t), len(start)), np.nan) if left is None else _read(start, end, left, t)
    result = AlphaGeodesic(theta, missed, tolerance, size, steps, missed <= tolerance)
    if not result.converged:
        raise ConvergenceError(
            f"alpha_geodesic: for alpha = {alpha:g} the geodesic equation is missed by {missed:.3g} with {size} points "
            f"in time, wanted {tolerance:.3g}; the two members may be too far apart, or (for alpha outside -1 to 1) "
            "not joined by such a geodesic; alpha = 1 and -1 always work",
            result,
        )
    return result


def _first(
    record: ExponentialFamily, p: Any, q: Any, start: FloatArray, end: FloatArray, size: int, alpha: float
) -> tuple[FloatArray | None, int]:
    """The first solution, from between the two straight geodesics, or by way of other values of alpha."""
    mixture = _mixture_acceleration(record, p, q, size)
    u, steps = _newton(record, p, start, end, float(np.clip((1 - alpha) / 2, 0, 1)) * mixture, alpha)
    if u is not None:
        return u, steps
    anchor, u = (1.0, 0 * mixture) if alpha > 0 else (-1.0, mixture)
    for part in (0.2, 0.4, 0.6, 0.8, 1.0):
        u, done = _newton(record, p, start, end, u, anchor + (alpha - anchor) * part)
        steps += done
        if u is None:
            break
    return u, steps


# ------------------------------------------------------------------------------------- polynomials in time, from 0 to 1


@lru_cache(maxsize=16)
def _rule(size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points, weights, and the matrix from values to Legendre coefficients."""
    x, w = legendre.leggauss(size)
    coefficients = legendre.legvander(x, size - 1).T * w * (np.arange(size)[:, None] + 0.5)
    return 0.5 * (x + 1), 0.5 * w, coefficients


def _integrals(size: int, t: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matrices from the second derivative at the points to velocity and position at times, beside a straight line."""
    coefficients = _rule(size)[2]
    once = legendre.legint(coefficients, lbnd=-1, scl=0.5, axis=0)
    twice = legendre.legint(once, lbnd=-1, scl=0.5, axis=0)
    at_end = legendre.legvander(np.array([1.0]), size + 1) @ twice
    x = 2 * t - 1
    velocity = legendre.legvander(x, size) @ once - at_end
    return np.asarray(velocity), np.asarray(legendre.legvander(x, size + 1) @ twice - t[:, None] * at_end)


@lru_cache(maxsize=16)
def _own_integrals(size: int) -> tuple[FloatArray, FloatArray]:
    return _integrals(size, _rule(size)[0])


@lru_cache(maxsize=16)
def _moved(size: int, onto: int) -> FloatArray:
    """Matrix from values at the points of one rule to those of another."""
    return np.asarray(legendre.legvander(2 * _rule(onto)[0] - 1, size - 1) @ _rule(size)[2])


def _path(start: FloatArray, end: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positions and velocities (N, n) at the points."""
    velocity, position = _own_integrals(len(u))
    times = _rule(len(u))[0][:, None]
    return (1 - times) * start + times * end + position @ u, end - start + velocity @ u


def _read(start: FloatArray, end: FloatArray, u: FloatArray, t: FloatArray) -> FloatArray:
    times = t[:, None]
    return np.asarray((1 - times) * start + times * end + _integrals(len(u), t)[1] @ u)


# ---------------------------------------------------------------------------------------------------- the equation


def _members(record: ExponentialFamily, like: Any, theta: FloatArray) -> Any:
    """Members at (..., n), or None if one lies outside the domain or the range of float64."""
    if not (np.isfinite(theta).all() and np.all(record.natural_domain(like, theta))):
        return None
    try:
        return record.from_natural(like, theta)
    except DomainError:
        return None


def _quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with None for a result where float64 is exceeded or a matrix is singular, and no warning."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        try:
            with np.errstate(all="ignore"):
                return function(*args)
        except np.linalg.LinAlgError:
            return None

    return call


def _bend(record: ExponentialFamily, member: Any, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The covectors T(v, v) raised to vectors (N, n), and half their derivative by v (N, n, n)."""
    along = (record.cubic(member) @ v[..., None, :, None])[..., 0]
    raised = np.linalg.solve(record.metric(member), along)
    return np.asarray((raised @ v[..., None])[..., 0]), np.asarray(raised)


def _mixture_acceleration(record: ExponentialFamily, p: Any, q: Any, size: int) -> FloatArray:
    """Second derivative (N, n) of theta on the mixture geodesic."""
    from infogeo.connections import mixture_geodesic

    member = mixture_geodesic(p, q, _rule(size)[0])
    change = (record.expectation(q) - record.expectation(p))[:, None]
    slope = np.asarray(np.linalg.solve(record.metric(member), change)[..., 0], dtype=np.float64)
    return -_bend(record, member, slope)[0]


@_quietly
def _miss(
    record: ExponentialFamily, like: Any, path: tuple[FloatArray, FloatArray], u: FloatArray, alpha: float
) -> float | None:
    member = _members(record, like, path[0])
    if member is None:
        return None
    left, metric = u + 0.5 * (1 - alpha) * _bend(record, member, path[1])[0], record.metric(member)
    weights = _rule(len(u))[1]

    def mean_square(x: FloatArray) -> float:
        return float(weights @ np.einsum("ti,tij,tj->t", x, metric, x))

    miss = float(np.sqrt(mean_square(left) / mean_square(path[1])))
    return miss if np.isfinite(miss) else None


def _newton(
    record: ExponentialFamily, like: Any, start: FloatArray, end: FloatArray, u: FloatArray, alpha: float
) -> tuple[FloatArray | None, int]:
    """The second derivatives (N, n) that fulfil the equation at the points, or None; and the number of steps."""
    size = len(u)
    factor = 0.5 * (1 - alpha)
    velocity, position = _own_integrals(size)
    path = _path(start, end, u)
    miss = _miss(record, like, path, u, alpha)
    for step in range(1, 41):
        if miss is None:
            return None, step
        change = _step(record, like, path, u, factor, velocity, position)
        scale, better = 1.0, None
        while change is not None and scale > 1e-4:
            trial = u + scale * change
            ahead = _path(start, end, trial)
            better = _miss(record, like, ahead, trial, alpha)
            if better is not None and (better < miss * (1 - 0.1 * scale) or better < 1e-13):
                break
            scale, better = scale / 2, None
        if better is None:
            return (u if miss < 1e-10 else None), step
        stalled = better > 0.1 * miss and better < 1e-12
        u, path, miss = trial, ahead, better
        if miss < 1e-14 or stalled:
            return u, step
    return None, 40


@_quietly
def _step(
    record: ExponentialFamily,
    like: Any,
    path: tuple[FloatArray, FloatArray],
    u: FloatArray,
    factor: float,
    velocity: FloatArray,
    position: FloatArray,
) -> FloatArray | None:
    theta, v = path
    size, n = u.shape
    member = _members(record, like, theta)
    if member is None:
        return None
    force, by_velocity = _bend(record, member, v)
    h = DIFFERENCE * np.maximum(np.abs(theta), 1e-3 / np.sqrt(np.einsum("tii->ti", record.metric(member))))
    moves = h[:, None, :] * np.eye(n)
    ahead, behind = (_members(record, like, theta[:, None, :] + sign * moves) for sign in (1, -1))
    if ahead is None or behind is None:
        return None
    spread = np.broadcast_to(v[:, None, :], (size, n, n))
    by_position = (_bend(record, ahead, spread)[0] - _bend(record, behind, spread)[0]) / (2 * h[..., None])
    by_position = np.swapaxes(by_position, -1, -2)  # (N, to, from)
    matrix = np.einsum("tij,ts->tisj", 2 * factor * by_velocity, velocity)
    matrix += np.einsum("tij,ts->tisj", factor * by_position, position)
    matrix = matrix.reshape(size * n, size * n) + np.eye(size * n)
    return np.asarray(np.linalg.solve(matrix, -(u + factor * force).ravel()).reshape(size, n))
