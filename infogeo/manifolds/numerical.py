r"""Shortest geodesics of any metric by a boundary value solver, with a certificate.

The curve is a piecewise polynomial with continuous velocity in one chart, :math:`x(t)`, :math:`0 \le t \le 1`. On each
of K equal elements its second derivative is the polynomial through its values at s Gauss points, and these meet the
geodesic equation :math:`a = \ddot x + \Gamma_x(\dot x, \dot x) = 0` there (collocation of order 2s). Newton's method
solves for all of them at once: within an element the accelerations are eliminated, which leaves a block tridiagonal
system for the nodes. The equation is linearized covariantly, so that on a manifold without positive curvature every
step descends the energy, which is what steps are shortened by. K doubles until the acceleration *between* the points
where it was made zero is small enough.

The certificate. The curve joins the two points, so its length is an upper bound. On a complete, simply connected
manifold without positive curvature there is a lower bound too: let :math:`\gamma_s(t)` be the geodesic homotopy from
the curve (s = 0) to the geodesic (s = 1) with fixed ends, V its velocity in s and :math:`E(s) = \int
|\partial_t\gamma_s|^2 dt`. Then :math:`E'(0) = -2\int\langle a, V\rangle dt`, and :math:`E'' \ge 2\int|\nabla_t V|^2 dt
\ge 2\pi^2\int|V|^2 dt` by Synge's formula and Wirtinger's inequality, so

.. math:: d^2 = E(1) \ge E(0) - \frac{1}{\pi^2}\int_0^1 |a|^2\,dt .

On such a manifold the geodesic is unique (Cartan-Hadamard), hence shortest. On other manifolds the solver finds a
geodesic near its starting curve, and the lower bound is not a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, IntArray, as_float_array, check_broadcast, check_count, check_number
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.manifolds._collocation import STAGES, Curves, better, certificate, newton, straight, through
from infogeo.manifolds._solution import GeodesicSolution, checked, joined

CHUNK = 500_000
"""Numbers that the largest temporary of one round may hold; pairs beyond that wait for the next round."""
LONGEST = 700.0
"""Lengths beyond this, times the root of the dimension, are not shot at: the end would be about exp(length) off."""


@dataclass(frozen=True)
class Metric:
    r"""A Riemannian metric in one chart: its inner product and its connection, for points (..., n).

    Parameters
    ----------
    inner : callable
        ``inner(x, v, w)``: the inner product (...,) of two vectors at x; all three broadcast.
    christoffel : callable
        ``christoffel(x, v, w)``: the vector :math:`\Gamma^k_{ij} v^i w^j`, shape (..., n); all three broadcast.
    nonpositively_curved : bool
        Whether the manifold is known to be complete, simply connected and without positive sectional curvature; the
        lower bound of a solution rests on it.
    """

    inner: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    christoffel: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    nonpositively_curved: bool = False

    @classmethod
    def from_matrix(
        cls,
        matrix: Callable[[FloatArray], FloatArray],
        derivative: Callable[[FloatArray], FloatArray],
        *,
        nonpositively_curved: bool = False,
    ) -> Metric:
        r"""A metric from its matrix (..., n, n) and the derivatives (..., n, n, n) of the matrix.

        Parameters
        ----------
        matrix : callable
            :math:`g_{ij}(x)`.
        derivative : callable
            :math:`\partial_k g_{ij}(x)` with k as the *last* axis. Of a Hessian metric it is the symmetric array of
            third derivatives of the potential.
        nonpositively_curved : bool

        Returns
        -------
        Metric
        """

        def inner(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
            return np.asarray(np.einsum("...i,...ij,...j->...", v, matrix(x), w))

        def christoffel(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
            change = derivative(x)
            along_v = np.einsum("...kji,...i,...j->...k", change, v, w)
            along_w = np.einsum("...kij,...i,...j->...k", change, v, w)
            lowered = 0.5 * (along_v + along_w - np.einsum("...ijk,...i,...j->...k", change, v, w))
            return np.asarray(np.linalg.solve(matrix(x), lowered[..., None])[..., 0])

        return cls(inner, christoffel, nonpositively_curved)


def solve(
    metric: Metric,
    start: ArrayLike,
    displacement: ArrayLike,
    *,
    guess: Callable[[FloatArray, FloatArray, FloatArray], FloatArray] | None = None,
    tol: float = 1e-9,
    max_elements: int = 512,
    max_iter: int = 30,
    strict: bool = True,
) -> GeodesicSolution:
    """Geodesics from points of a chart to others, given by their displacements (which keep the digits of close pairs).

    Parameters
    ----------
    metric : Metric
    start, displacement : array, shape (..., n)
        Of equal shapes.
    guess : callable, optional
        ``guess(start, displacement, t)``: displacements (B, T, n) of a curve to start from, at times (T,); used
        for the pairs where it has less energy than the straight line of the chart.
    tol : float
        Bound for the residual. The relative width of the bracket is about ``tol**2 / 20``, far less than rounding by
        default; velocities and points of the curve are about as accurate as the residual.
    max_elements : int
        Finest mesh.
    max_iter : int
        Newton steps on one mesh.
    strict : bool
        Whether to raise if a pair did not converge.

    Returns
    -------
    GeodesicSolution

    Raises
    ------
    ShapeError
        If the two arrays have different shapes or no axis of coordinates.
    ConvergenceError
        If a pair did not converge (unless ``strict=False``); its ``result`` is the solution.

    Examples
    --------
    The half-plane (u, log v) of curvature -1: from (0, 1) to (1, 1) it is 2 arsinh(1/2).

    >>> metric = Metric.from_matrix(
    ...     lambda x: np.stack([np.exp(-2 * x[..., 1]), np.ones_like(x[..., 0])], -1)[..., None] * np.eye(2),
    ...     lambda x: np.exp(-2 * x[..., 1])[..., None, None, None] * np.array([[[0, -2.0], [0, 0]], [[0, 0], [0, 0]]]),
    ...     nonpositively_curved=True,
    ... )
    >>> solve(metric, [0.0, 0.0], [1.0, 0.0]).distance.round(10).item()
    0.9624236501
    """
    first, change = as_float_array("start", start), as_float_array("displacement", displacement)
    if first.ndim == 0 or first.shape[-1] == 0 or first.shape != change.shape:
        raise ShapeError(f"found start {first.shape} and displacement {change.shape}, wanted both (..., n)")
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol}, wanted a positive number")
    check_count("max_iter", max_iter, 1)
    if check_count("max_elements", max_elements, 1) & (max_elements - 1):
        raise ArgumentError(f"max_elements: found {max_elements}, wanted a power of two")
    shape, n = first.shape[:-1], first.shape[-1]
    first, change = first.reshape(-1, n), change.reshape(-1, n)
    size = max(1, CHUNK // (8 * STAGES**2 * n * n))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        parts = [
            _solve_some(metric, first[i : i + size], change[i : i + size], guess, tol, max_elements, max_iter)
            for i in range(0, len(first), size)
        ]
    result = joined(parts, shape)
    return checked(result) if strict else result


def shoot(metric: Metric, start: ArrayLike, velocity: ArrayLike, *, rtol: float = 1e-12) -> FloatArray:
    """Displacements (..., n) after unit time of the geodesics that leave points of a chart with given velocities.

    Parameters
    ----------
    metric : Metric
    start, velocity : array, shape (..., n)
        Of equal shapes.
    rtol : float
        Relative tolerance of the integration (Dormand and Prince, order 8, by SciPy). Where the curvature is negative
        an error grows by about exp(length) on the way.

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    DomainError
        If a geodesic leaves the range of float64.
    """
    from scipy.integrate import solve_ivp

    first, speed = as_float_array("start", start), as_float_array("velocity", velocity)
    if first.ndim == 0 or first.shape != speed.shape:
        raise ShapeError(f"found start {first.shape} and velocity {speed.shape}, wanted both (..., n)")
    n = first.shape[-1]
    ends = np.zeros_like(first).reshape(-1, n)
    for i, (x, v) in enumerate(zip(first.reshape(-1, n), speed.reshape(-1, n), strict=True)):
        length = float(np.sqrt(metric.inner(x, v, v)))
        if length == 0:
            continue

        def rate(_: float, state: FloatArray, x: FloatArray = x) -> FloatArray:
            u = state[n:]
            return np.concatenate([u, -metric.christoffel(x + state[:n], u, u)])

        failed = not length <= LONGEST * n**0.5
        if not failed:
            scale = float(np.abs(v).max())
            with np.errstate(all="ignore"):
                found = solve_ivp(
                    rate, (0.0, 1.0), np.concatenate([np.zeros(n), v]), method="DOP853", rtol=rtol, atol=1e-14 * scale
                )
            failed = not (found.success and np.isfinite(found.y[:, -1]).all())
        if failed:
            raise DomainError(
                f"velocity: a geodesic of length {length:.4g} leaves the range of float64; take a shorter one"
            )
        ends[i] = found.y[:n, -1]
    return ends.reshape(first.shape)


def _solve_some(
    metric: Metric,
    start: FloatArray,
    change: FloatArray,
    guess: Callable[[FloatArray, FloatArray, FloatArray], FloatArray] | None,
    tol: float,
    max_elements: int,
    max_iter: int,
) -> GeodesicSolution:
    b, n = start.shape
    k = min(8, max_elements)
    curves = straight(start, change, k)
    if guess is not None:
        curves = better(metric, curves, through(guess, start, change, k))
    iterations = np.zeros(b, dtype=np.int64)
    elements = np.full(b, k)
    measured = np.zeros((5, b))  # distance, lower, upper, residual, quadrature
    kept: list[tuple[IntArray, Curves]] = []
    active = np.arange(b)
    still = ~np.any(change != 0, axis=-1)
    kept.append((active[still], curves.pick(still)))
    active, curves = active[~still], curves.pick(~still)
    while len(active):
        curves, steps = newton(metric, curves, tol, max_iter)
        iterations[active] += steps
        elements[active] = k
        measured[:, active] = certificate(metric, curves, bounded=metric.nonpositively_curved)
        done = measured[3, active] <= tol
        if k >= max_elements:
            done[:] = True
        kept.append((active[done], curves.pick(done)))
        active, curves = active[~done], curves.pick(~done).halved()
        k *= 2
    most = max(c.nodes.shape[1] for who, c in kept if len(who))
    nodes, accelerations = np.empty((b, most, n)), np.empty((b, most - 1, STAGES, n))
    for who, some in kept:
        if len(who):
            while some.nodes.shape[1] < most:
                some = some.halved()
            nodes[who], accelerations[who] = some.nodes, some.accelerations
    distance, lower, upper, residual, quadrature = measured
    converged = (residual <= tol) & (quadrature <= 1e-10 * distance)
    return GeodesicSolution(
        distance, lower, upper, residual, quadrature, iterations, elements, converged, tol, start, nodes, accelerations
    )


def distance(metric: Metric, x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Length of the geodesic between points (..., n) of the chart of a metric.

    Parameters
    ----------
    metric : Metric
    x, y : array, shape (..., n)
        They broadcast.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        If the shapes do not fit or an entry is not finite.
    ConvergenceError
        If the solver fails.
    """
    return _between(metric, x, y).distance


def exp(metric: Metric, x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Point reached after unit time on the geodesic that leaves ``x`` with a velocity.

    Parameters
    ----------
    metric : Metric
    x, velocity : array, shape (..., n)
        They broadcast.

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    ShapeError, DomainError
        As :func:`shoot`.
    """
    start, speed = _matched("velocity", x, velocity)
    return start + shoot(metric, start, speed)


def log(metric: Metric, x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Velocity at ``x`` of the geodesic that reaches ``y`` after unit time; its norm is the distance.

    Parameters
    ----------
    metric : Metric
    x, y : array, shape (..., n)
        They broadcast.

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    ShapeError, DomainError, ConvergenceError
        As :func:`distance`.
    """
    return _between(metric, x, y).velocities([0.0])[..., 0, :]


def geodesic(metric: Metric, x: ArrayLike, y: ArrayLike, t: ArrayLike) -> FloatArray:
    """Points of the geodesic from ``x`` (t = 0) to ``y`` (t = 1), at constant speed.

    Parameters
    ----------
    metric : Metric
    x, y : array, shape (..., n)
        They broadcast.
    t : float or array, shape (T,)
        Times from 0 to 1.

    Returns
    -------
    array, shape (..., n) for one time, (..., T, n) for several

    Raises
    ------
    ShapeError, DomainError, ConvergenceError
        As :func:`distance`; also if a time lies outside 0 to 1.
    """
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    found = _between(metric, x, y)
    points = found.start[..., None, :] + found.displacements(np.atleast_1d(times))
    return points if times.ndim else points[..., 0, :]


def norm(metric: Metric, x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Length of a velocity.

    Parameters
    ----------
    metric : Metric
    x, velocity : array, shape (..., n)
        They broadcast.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        If the shapes do not fit or an entry is not finite.
    """
    start, speed = _matched("velocity", x, velocity)
    return np.asarray(np.sqrt(metric.inner(start, speed, speed)))


def _between(metric: Metric, x: ArrayLike, y: ArrayLike) -> GeodesicSolution:
    first, second = _matched("y", x, y)
    return solve(metric, first, second - first)


def _matched(name: str, x: ArrayLike, other: ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = as_float_array("x", x), as_float_array(name, other)
    if not (first.ndim and second.ndim and first.shape[-1] == second.shape[-1] > 0):
        raise ShapeError(f"found x {first.shape} and {name} {second.shape}, wanted both (..., n)")
    check_broadcast(**{"x": first, name: second})
    first, second = np.broadcast_arrays(first, second)
    return first, second
