"""Curves that are piecewise polynomials, and Newton's method for the geodesic equation at their Gauss points.

The array side of :mod:`infogeo.manifolds.numerical`, where the method is described.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray

STAGES = 7
"""Gauss points of an element."""
DIFFERENCE = 1e-7
"""Step of the difference that stands for the derivative of the connection in Newton's matrix (not in the equation)."""

ROUNDING = 1e-14
"""What the bounds are widened by, relative, for the rounding errors of the metric and of the sums."""


class Metric(Protocol):
    """What is asked of a metric."""

    @property
    def inner(self) -> Callable[[FloatArray, FloatArray, FloatArray], FloatArray]:
        """(x, v, w) to the inner product."""

    @property
    def christoffel(self) -> Callable[[FloatArray, FloatArray, FloatArray], FloatArray]:
        """(x, v, w) to the connection."""


class Curves(NamedTuple):
    """Curves of B pairs on one mesh: start (B, n), nodes (B, K + 1, n), accelerations (B, K, s, n)."""

    start: FloatArray
    nodes: FloatArray
    accelerations: FloatArray

    def at(self, places: Places | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Points, velocities and second derivatives (B, K, m, n) at the same places of each element."""
        where = gauss_points() if places is None else places
        s = where.tau[:, None]
        k = self.nodes.shape[1] - 1
        left, right = self.nodes[:, :-1, None], self.nodes[:, 1:, None]
        x = left + s * (right - left) + where.twice @ self.accelerations / k**2
        v = (right - left) * k + where.once @ self.accelerations / k
        a = self.accelerations if places is None else where.values @ self.accelerations
        return self.start[:, None, None] + x, v, a

    def pick(self, which: NDArray[np.bool_] | IntArray) -> Curves:
        return Curves(self.start[which], self.nodes[which], self.accelerations[which])

    def halved(self) -> Curves:
        """The same curves on twice as many elements."""
        b, k1, n = self.nodes.shape
        k = k1 - 1
        halves, middle = _halves()
        a = (halves.values @ self.accelerations).reshape(b, 2 * k, STAGES, n)
        nodes = np.empty((b, 2 * k + 1, n))
        nodes[:, ::2] = self.nodes
        nodes[:, 1::2] = 0.5 * (self.nodes[:, 1:] + self.nodes[:, :-1])
        nodes[:, 1::2] += (middle.twice @ self.accelerations)[:, :, 0] / k**2
        return Curves(self.start, nodes, a)


class Places(NamedTuple):
    """m places of an element, and there the s Lagrange polynomials of its Gauss points and their integrals (m, s).

    The second integral vanishes at both ends; the first is its derivative.
    """

    tau: FloatArray
    values: FloatArray
    once: FloatArray
    twice: FloatArray


def places(tau: FloatArray) -> Places:
    """The polynomials at times ``tau`` of an element, from 0 to 1."""
    legendre = np.polynomial.legendre
    x, w = legendre.leggauss(STAGES)
    coefficients = (2 * np.arange(STAGES)[:, None] + 1) / 2 * legendre.legvander(x, STAGES - 1).T * w
    at = 2 * tau - 1
    values = legendre.legval(at, coefficients).T
    once = legendre.legint(coefficients, 1, lbnd=-1)  # in x; a factor 1/2 for each integral in tau
    twice = legendre.legint(once, 1, lbnd=-1)
    total = legendre.legval(1.0, twice)  # to be taken off linearly
    second = (legendre.legval(at, twice).T - tau[:, None] * total) / 4
    first = legendre.legval(at, once).T / 2 - total / 4
    return Places(tau, np.asarray(values), np.asarray(first), np.asarray(second))


@lru_cache(maxsize=1)
def gauss_points() -> Places:
    """The points where the geodesic equation is met."""
    return places(gauss_rule(STAGES)[0])


@lru_cache(maxsize=1)
def between() -> Places:
    """Twice as many points, none of them among the former, for the certificate."""
    return places(gauss_rule(2 * STAGES)[0])


@lru_cache(maxsize=1)
def _halves() -> tuple[Places, Places]:
    """The Gauss points of both halves of an element, and its middle."""
    tau = gauss_points().tau
    return places(np.concatenate([tau / 2, 0.5 + tau / 2])), places(np.array([0.5]))


@lru_cache(maxsize=1)
def _ends() -> Places:
    return places(np.array([0.0, 1.0]))


def gauss_rule(n: int) -> tuple[FloatArray, FloatArray]:
    """Points and weights of Gauss on 0 to 1."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


def straight(start: FloatArray, change: FloatArray, k: int) -> Curves:
    nodes = change[:, None] * (np.arange(k + 1) / k)[:, None]
    return Curves(start, nodes, np.zeros((len(start), k, STAGES, start.shape[1])))


def through(
    guess: Callable[[FloatArray, FloatArray, FloatArray], FloatArray], start: FloatArray, change: FloatArray, k: int
) -> Curves:
    """The natural cubic spline through points of a guessed curve, whose second derivative is linear on an element."""
    values = guess(start, change, np.arange(k + 1) / k)
    nodes = values.copy()
    nodes[:, 0], nodes[:, -1] = 0.0, change
    bend = np.zeros_like(nodes)
    if k > 1:
        system = (np.diag(np.full(k - 1, 4.0)) + np.diag(np.ones(k - 2), 1) + np.diag(np.ones(k - 2), -1)) / 6
        second = (nodes[:, 2:] - 2 * nodes[:, 1:-1] + nodes[:, :-2]) * k**2
        bend[:, 1:-1] = np.einsum("ij,bjn->bin", np.linalg.inv(system), second)
    s = gauss_points().tau[:, None]
    return Curves(start, nodes, bend[:, :-1, None] * (1 - s) + bend[:, 1:, None] * s)


def better(metric: Metric, one: Curves, other: Curves) -> Curves:
    energies = np.stack([energy_of(metric, one), energy_of(metric, other)])
    second = np.nan_to_num(energies[1], nan=np.inf) < np.nan_to_num(energies[0], nan=np.inf)
    return Curves(
        one.start,
        np.where(second[:, None, None], other.nodes, one.nodes),
        np.where(second[:, None, None, None], other.accelerations, one.accelerations),
    )


def energy_of(metric: Metric, curves: Curves) -> FloatArray:
    x, v, _ = curves.at()
    return np.asarray(np.einsum("bki,i->b", metric.inner(x, v, v), gauss_rule(STAGES)[1]) / x.shape[1])


def acceleration_of(metric: Metric, curves: Curves) -> FloatArray:
    x, v, a = curves.at()
    c = a + metric.christoffel(x, v, v)
    squares = np.einsum("bki,i->b", metric.inner(x, c, c), gauss_rule(STAGES)[1]) / x.shape[1]
    return np.asarray(np.sqrt(squares))


def certificate(metric: Metric, curves: Curves, *, bounded: bool) -> FloatArray:
    """Distance, lower and upper bound, residual and quadrature error, from 2s other points of each element.

    The lower bound holds, and is given, on manifolds without positive curvature (``bounded``).
    """
    weights = gauss_rule(2 * STAGES)[1]
    x, v, a = curves.at(between())
    k = x.shape[1]
    squares = metric.inner(x, v, v)
    c = a + metric.christoffel(x, v, v)

    def integral(values: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("bki,i->b", values, weights) / k)

    energy, length = integral(squares), integral(np.sqrt(squares))
    force = integral(metric.inner(x, c, c))
    distance = np.sqrt(energy)
    quadrature = np.abs(distance - np.sqrt(energy_of(metric, curves)))
    lower = np.sqrt(np.maximum(energy - force / np.pi**2, 0.0)) - quadrature
    lower = np.maximum(lower, 0.0) if bounded else np.full_like(distance, np.nan)
    residual = np.sqrt(force) / distance
    bad = ~np.isfinite(residual)
    upper = (length + quadrature) * (1 + ROUNDING)
    return np.stack([distance, lower * (1 - ROUNDING), upper, np.where(bad, np.inf, residual), quadrature])


def newton(metric: Metric, curves: Curves, tol: float, max_iter: int) -> tuple[Curves, IntArray]:
    """Newton's method with steps shortened until the energy does not grow; also the number of steps of each pair."""
    start, nodes, accelerations = curves.start, curves.nodes.copy(), curves.accelerations.copy()
    b = len(start)
    steps = np.zeros(b, dtype=np.int64)
    energy, force = energy_of(metric, curves), acceleration_of(metric, curves)
    active = np.arange(b)
    for _ in range(max_iter):
        here = Curves(start[active], nodes[active], accelerations[active])
        step = _newton_step(metric, here)
        usable = np.isfinite(step[0]).all(axis=(-1, -2)) & np.isfinite(step[1]).all(axis=(-1, -2, -3))
        waiting = np.array(usable)
        moved = np.zeros(len(active), dtype=bool)
        before = force[active].copy()
        share = 1.0
        while waiting.any() and share > 1e-5:
            who = np.flatnonzero(waiting)
            trial = Curves(
                here.start[who],
                here.nodes[who] + share * step[0][who],
                here.accelerations[who] + share * step[1][who],
            )
            new, pull = energy_of(metric, trial), acceleration_of(metric, trial)
            old = energy[active[who]]
            good = np.isfinite(pull) & ((new < old * (1 - 1e-13)) | ((new <= old * (1 + 1e-9)) & (pull < before[who])))
            taken = active[who[good]]
            nodes[taken], accelerations[taken] = trial.nodes[good], trial.accelerations[good]
            energy[taken], force[taken] = new[good], pull[good]
            moved[who[good]] = True
            waiting[who[good]] = False
            share /= 2
        steps[active] += 1
        goal = tol * np.sqrt(energy[active])
        small = force[active] <= 0.05 * goal
        stalled = (force[active] > 0.5 * before) & (force[active] <= 100 * goal)  # what is left is rounding
        active = active[moved & ~small & ~stalled]
        if not len(active):
            break
    return Curves(start, nodes, accelerations), steps


def _newton_step(metric: Metric, curves: Curves) -> tuple[FloatArray, FloatArray]:
    """Changes of nodes and accelerations that solve the equation linearized about the curves."""
    rule = gauss_points()
    b, k1, n = curves.nodes.shape
    k, s = k1 - 1, STAGES
    h = 1.0 / k
    x, v, a = curves.at()
    eye = np.eye(n)
    bend = metric.christoffel(x, v, v)
    c = a + bend
    xs, vs = x[..., None, :], v[..., None, :]
    # [..., alpha, beta]: change of component alpha by component beta
    by_velocity = 2 * np.swapaxes(metric.christoffel(xs, vs, eye), -1, -2)
    moved = metric.christoffel(xs + DIFFERENCE * eye, vs, vs)
    by_point = np.swapaxes((moved - bend[..., None, :]) / DIFFERENCE, -1, -2)
    by_point = by_point + np.swapaxes(metric.christoffel(xs, c[..., None, :], eye), -1, -2)
    system = np.einsum("ij,bkiuv->bkiujv", rule.twice * h**2, by_point)
    system += np.einsum("ij,bkiuv->bkiujv", rule.once * h, by_velocity)
    system = system.reshape(b, k, s * n, s * n) + np.eye(s * n)
    t = rule.tau[:, None, None]
    sides = np.concatenate(
        [-c[..., None], by_velocity / h - (1 - t) * by_point, -by_velocity / h - t * by_point], axis=-1
    ).reshape(b, k, s * n, 2 * n + 1)
    try:
        solved = np.linalg.solve(system, sides).reshape(b, k, s, n, 2 * n + 1)
    except np.linalg.LinAlgError:
        return np.full_like(curves.nodes, np.nan), np.full_like(curves.accelerations, np.nan)
    chord = (curves.nodes[:, 1:] - curves.nodes[:, :-1]) / h
    slopes = []
    for slope in _ends().once:
        now = chord + h * np.einsum("j,bkjn->bkn", slope, curves.accelerations)
        rates = h * np.einsum("j,bkjnm->bknm", slope, solved)
        slopes.append((now + rates[..., 0], rates[..., 1 : n + 1] - eye / h, rates[..., n + 1 :] + eye / h))
    (left0, left_l, left_r), (right0, right_l, right_r) = slopes
    delta = np.zeros((b, k1, n))
    if k > 1:
        delta[:, 1:-1] = _block_tridiagonal(
            right_l[:, :-1], right_r[:, :-1] - left_l[:, 1:], -left_r[:, 1:], left0[:, 1:] - right0[:, :-1]
        )
    change = solved[..., 0] + np.einsum("bksnm,bkm->bksn", solved[..., 1 : n + 1], delta[:, :-1])
    change += np.einsum("bksnm,bkm->bksn", solved[..., n + 1 :], delta[:, 1:])
    return delta, change


def _block_tridiagonal(below: FloatArray, main: FloatArray, above: FloatArray, right: FloatArray) -> FloatArray:
    """Solve for m blocks: below, main, above (B, m, n, n), right (B, m, n); the first below and last above are idle."""
    m = main.shape[1]
    n = main.shape[-1]
    carried = np.zeros_like(main)
    values = np.zeros_like(right)
    for i in range(m):
        block, side = main[:, i], right[:, i]
        if i:
            block = block - below[:, i] @ carried[:, i - 1]
            side = side - np.einsum("bij,bj->bi", below[:, i], values[:, i - 1])
        try:
            found = np.linalg.solve(block, np.concatenate([above[:, i], side[..., None]], axis=-1))
        except np.linalg.LinAlgError:
            return np.full_like(right, np.nan)
        carried[:, i], values[:, i] = found[..., :n], found[..., n]
    for i in range(m - 2, -1, -1):
        values[:, i] -= np.einsum("bij,bj->bi", carried[:, i], values[:, i + 1])
    return values
