"""Families without a closed form of the distance: gamma, beta, Dirichlet and von Mises-Fisher distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo._terms import log_ratio
from infogeo.dispatch import _charts
from infogeo.dispatch._rounds import flat, in_rounds, pairs, shaped
from infogeo.distances import fisher_rao_distance
from infogeo.errors import DomainError, UnsupportedFamilyError
from infogeo.families import Family
from infogeo.families.gamma_family import Beta, Dirichlet, Gamma
from infogeo.families.von_mises_fisher import VonMisesFisher
from infogeo.geometry import EXPONENTIAL_MAP, GEODESIC, LOGARITHM_MAP
from infogeo.manifolds import numerical
from infogeo.manifolds._solution import GeodesicSolution, checked, joined
from infogeo.manifolds.numerical import Metric
from infogeo.measures import check_pair

LARGEST = 200
"""Most Dirichlet parameters, counted without repetitions, between which a geodesic is sought."""
ROUND = 128
"""Pairs of which the curves are held at a time where only distances are wanted: some megabytes."""

ENOUGH = 1e-6
"""Residual at which the bracket of the distance is narrower than 1e-13 of it."""


@dataclass(frozen=True)
class Problem:
    """Pairs of a flat batch in a chart, and the way back from it."""

    metric: Metric
    start: FloatArray
    change: FloatArray
    guess: Callable[[FloatArray, FloatArray, FloatArray], FloatArray] | None
    member: Callable[[FloatArray], Family]
    """displacements (B, T, n) from the start to members (B, T)"""
    rates: Callable[[FloatArray], FloatArray]
    """rates (B, n) of the chart at the start to rates of the family's coordinates"""


def geodesic_solution(
    p: Family, q: Family, *, tol: float = 1e-9, max_elements: int = 512, strict: bool = True
) -> GeodesicSolution:
    r"""Geodesics between gamma, beta, Dirichlet or von Mises-Fisher distributions with their certificate.

    The distances are those of :func:`~infogeo.fisher_rao_distance`; here with a lower and an upper bound, the residual
    of the geodesic equation and the number of steps. All four manifolds are complete and simply connected; gamma [1]_
    and Dirichlet distributions [2]_ have negative curvature, and that of von Mises-Fisher distributions is nowhere
    positive by numerical evaluation. So any two members are joined by one geodesic, which is the shortest curve, and
    the lower bound holds.

    The curves are in a chart: for gamma distributions :math:`(\log k, \log(k/r))`, for beta and Dirichlet ones the
    logarithms of the parameters, for von Mises-Fisher ones the vector of length :math:`\mathrm{arsinh}(\kappa/d)` in
    the plane of the two directions, its first axis halfway between them.

    Parameters
    ----------
    p, q : Gamma, Beta, Dirichlet or VonMisesFisher
        Of one family; batch shapes broadcast.
    tol : float
        Bound for the residual.
    max_elements : int
        Finest mesh, a power of two.
    strict : bool
        Whether to raise if a pair did not converge.

    Returns
    -------
    GeodesicSolution
        Of the batch shape of the pairs.

    Raises
    ------
    UnsupportedFamilyError
        For another family.
    ShapeError
        If dimensions differ or batch shapes do not broadcast.
    DomainError
        If the Dirichlet distributions have more than 200 different pairs of parameters.
    ConvergenceError
        If a pair did not converge (unless ``strict=False``); it carries the solution.

    References
    ----------
    .. [1] K. Arwini, C. T. J. Dodson, Information Geometry: Near Randomness and Near Independence, Springer 2008,
       chapter 3.
    .. [2] A. Le Brigant, S. C. Preston, S. Puechmorel, Fisher-Rao geometry of Dirichlet distributions, Differential
       Geometry and its Applications 74 (2021) 101702.

    Examples
    --------
    >>> from infogeo import Beta, geodesic_solution
    >>> found = geodesic_solution(Beta(100.0, 1.0), Beta(1.0, 100.0))
    >>> round(float(found.distance), 6), float(found.upper - found.lower) < 1e-12, bool(found.converged)
    (7.10017, True, True)
    """
    if type(p) not in POSERS:
        names = ", ".join(sorted(family.__name__ for family in POSERS))
        raise UnsupportedFamilyError(
            f"geodesic_solution takes families whose geodesics are found by iteration ({names}), found "
            f"{type(p).__name__}; for others use fisher_rao_distance and geodesic"
        )
    check_pair("geodesic_solution", p, q)
    one, two, shape = pairs(p, q)
    result = joined([_solve(one, two, tol=tol, max_elements=max_elements)[1]], shape)
    return checked(result) if strict else result


# --------------------------------------------------------------------------------------------- the four families


def _pose_gamma(p: Gamma, q: Gamma) -> Problem:
    rise = log_ratio(q.shape, p.shape)

    def member(x: FloatArray) -> Gamma:
        return Gamma(p.shape[:, None] * np.exp(x[..., 0]), p.rate[:, None] * np.exp(x[..., 0] - x[..., 1]))

    def rates(v: FloatArray) -> FloatArray:
        return np.stack([p.shape * v[:, 0], p.rate * (v[:, 0] - v[:, 1])], axis=-1)

    # a change of the unit of x is an isometry: the mean starts from 1
    start = np.stack([np.log(p.shape), np.zeros_like(p.shape)], axis=-1)
    change = np.stack([rise, rise - log_ratio(q.rate, p.rate)], axis=-1)
    return Problem(_charts.GAMMA, start, change, _charts.gamma_guess, member, rates)


def _pose_dirichlet(p: Any, q: Any) -> Problem:
    a = p.concentration

    def member(x: FloatArray) -> Family:
        points = a[:, None] * np.exp(x)
        return Beta(points[..., 0], points[..., 1]) if isinstance(p, Beta) else Dirichlet(points)

    counts = np.ones(a.shape[-1])
    return Problem(
        _charts.dirichlet(counts), np.log(a), log_ratio(q.concentration, a),
        partial(_charts.dirichlet_guess, counts=counts), member, lambda v: a * v,
    )  # fmt: skip


def _pose_von_mises_fisher(p: VonMisesFisher, q: VonMisesFisher) -> Problem:
    d = p.dimension
    # of the uniform distribution the direction is that of the other side
    mu = np.where((p.concentration > 0)[:, None], p.mean_direction, q.mean_direction)
    nu = np.where((q.concentration > 0)[:, None], q.mean_direction, mu)
    across, along = nu - mu, nu + mu
    half = np.arctan2(np.linalg.norm(across, axis=-1), np.linalg.norm(along, axis=-1))
    second = _unit(across, _orthogonal(mu))
    first = _unit(along - (along * second).sum(axis=-1, keepdims=True) * second, _orthogonal(second))
    radius, other = _charts.radius_of(p.concentration, d), _charts.radius_of(q.concentration, d)
    low, high = np.minimum(p.concentration, q.concentration), np.maximum(p.concentration, q.concentration)
    growth = np.sign(q.concentration - p.concentration) * _charts.radius_difference(high, low, d)
    start = np.stack([radius * np.cos(half), -radius * np.sin(half)], axis=-1)
    change = np.stack([growth * np.cos(half), (radius + other) * np.sin(half)], axis=-1)

    def member(x: FloatArray) -> VonMisesFisher:
        at = start[:, None] + x
        vector = at[..., :1] * first[:, None] + at[..., 1:] * second[:, None]
        size = np.linalg.norm(vector, axis=-1, keepdims=True)
        direction = np.where(size > 0, vector, mu[:, None]) / np.where(size > 0, size, 1.0)
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        return VonMisesFisher(direction, _charts.concentration_of(size[..., 0], d))

    def rates(v: FloatArray) -> FloatArray:
        plane = _charts.natural_rates(start, v, d)
        return np.asarray(plane[:, :1] * first + plane[:, 1:] * second)

    guess = partial(_charts.von_mises_fisher_guess, d=d)
    return Problem(_charts.von_mises_fisher(d), start, change, guess, member, rates)


def _unit(x: FloatArray, otherwise: FloatArray) -> FloatArray:
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    bent = size > 0
    return np.where(bent, x / np.where(bent, size, 1.0), otherwise)


def _orthogonal(x: FloatArray) -> FloatArray:
    """A unit vector orthogonal to each unit vector (B, d)."""
    axis = np.eye(x.shape[-1])[np.abs(x).argmin(axis=-1)]
    rest = axis - (axis * x).sum(axis=-1, keepdims=True) * x
    return np.asarray(rest / np.linalg.norm(rest, axis=-1, keepdims=True))


POSERS: Mapping[type[Family], Callable[[Any, Any], Problem]] = MappingProxyType(
    {Gamma: _pose_gamma, Beta: _pose_dirichlet, Dirichlet: _pose_dirichlet, VonMisesFisher: _pose_von_mises_fisher}
)
"""How each family is brought into its chart."""


# ------------------------------------------------------------------------------------------------------- solving


def _solve(p: Any, q: Any, *, tol: float = 1e-9, max_elements: int = 512) -> tuple[Problem, GeodesicSolution]:
    """The problem and its solution for two flat batches; whether all converged is left to the caller."""
    problem = POSERS[type(p)](p, q)
    if not isinstance(p, Dirichlet):
        return problem, numerical.solve(
            problem.metric, problem.start, problem.change, guess=problem.guess, tol=tol, max_elements=max_elements,
            strict=False,
        )  # fmt: skip
    groups: dict[tuple[int, ...], list[tuple[int, Any, Any]]] = {}
    for i, (a, b) in enumerate(zip(p.concentration, q.concentration, strict=True)):
        _, where, inverse, counts = np.unique(
            np.stack([a, b], axis=-1), axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(counts, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        groups.setdefault(tuple(counts[order].tolist()), []).append((i, where[order], rank[inverse.ravel()]))
    parts, places = [], []
    for repeats, members in groups.items():
        if len(repeats) > LARGEST:
            raise DomainError(
                f"found Dirichlet distributions with {len(repeats)} different pairs of parameters, wanted at most "
                f"{LARGEST}; merge outcomes (sums of coordinates are Dirichlet distributed too)"
            )
        rows = np.array([i for i, _, _ in members])[:, None]
        one, whole = np.array([w for _, w, _ in members]), np.array([r for _, _, r in members])
        weights = np.array(repeats, dtype=np.float64)
        found = numerical.solve(
            _charts.dirichlet(weights), problem.start[rows, one], problem.change[rows, one],
            guess=partial(_charts.dirichlet_guess, counts=weights), tol=tol, max_elements=max_elements, strict=False,
        )  # fmt: skip
        pair = np.arange(len(rows))[:, None]
        parts.append(
            replace(
                found, start=found.start[pair, whole],
                nodes=np.moveaxis(found.nodes[pair, :, whole], 1, -1),
                accelerations=np.moveaxis(found.accelerations[pair, :, :, whole], 1, -1),
            )
        )  # fmt: skip
        places.append(rows[:, 0])
    back = np.argsort(np.concatenate(places))
    solution = joined(parts, (len(back),))
    if len(parts) > 1:
        arrays = {name: getattr(solution, name)[back] for name in solution.__dataclass_fields__ if name != "tolerance"}
        solution = replace(solution, **arrays)
    return problem, solution


def _distance(p: Any, q: Any) -> FloatArray:
    return checked(_solve(p, q, tol=ENOUGH)[1]).distance


def _logarithm(p: Any, q: Any) -> FloatArray:
    one, two, shape = pairs(p, q)
    problem, found = _solve(one, two)
    rates = problem.rates(checked(found).velocities([0.0])[:, 0])
    return np.asarray(rates).reshape(*shape, -1)


def _geodesic(p: Any, q: Any, t: FloatArray) -> Any:
    one, two, shape = pairs(p, q)
    problem, found = _solve(one, two)
    points: Any = problem.member(checked(found).displacements(t))
    return shaped(points, (*shape, len(t)))


def _exponential(p: Any, velocity: FloatArray) -> Any:
    shape = np.broadcast_shapes(p.batch_shape, velocity.shape[:-1])
    start = flat(p, shape)
    rates = np.broadcast_to(velocity, (*shape, velocity.shape[-1])).reshape(-1, velocity.shape[-1])
    problem, v = LAUNCHERS[type(p)](start, rates)
    ends = numerical.shoot(problem.metric, problem.start, v)
    try:
        with np.errstate(over="ignore", under="ignore"):
            end = problem.member(ends[:, None])
    except DomainError as error:
        raise DomainError(
            f"velocity: the geodesic ends where the parameters of {type(p).__name__} leave the range of float64; take "
            "a shorter one"
        ) from error
    return shaped(end, shape)


def _launch_gamma(p: Gamma, v: FloatArray) -> tuple[Problem, FloatArray]:
    rise = v[:, 0] / p.shape
    return _pose_gamma(p, p), np.stack([rise, rise - v[:, 1] / p.rate], axis=-1)


def _launch_dirichlet(p: Any, v: FloatArray) -> tuple[Problem, FloatArray]:
    return _pose_dirichlet(p, p), v / p.concentration


def _launch_von_mises_fisher(p: VonMisesFisher, v: FloatArray) -> tuple[Problem, FloatArray]:
    # the plane of the mean direction and the velocity; at the uniform distribution, of the velocity alone
    centre = (p.concentration == 0)[:, None]
    first = np.where(centre, _unit(v, p.mean_direction), p.mean_direction)
    radial = (v * first).sum(axis=-1, keepdims=True)
    rest = v - radial * first
    rest = rest - (rest * first).sum(axis=-1, keepdims=True) * first
    second = _unit(rest, _orthogonal(first))
    d = p.dimension
    start = np.stack([_charts.radius_of(p.concentration, d), np.zeros(len(first))], axis=-1)
    plane = np.concatenate([radial, (rest * second).sum(axis=-1, keepdims=True)], axis=-1)

    def member(x: FloatArray) -> VonMisesFisher:
        at = start[:, None] + x
        vector = at[..., :1] * first[:, None] + at[..., 1:] * second[:, None]
        size = np.hypot(at[..., 0], at[..., 1])[..., None]
        direction = np.where(size > 0, vector, first[:, None]) / np.where(size > 0, size, 1.0)
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        return VonMisesFisher(direction, _charts.concentration_of(size[..., 0], d))

    problem = Problem(_charts.von_mises_fisher(d), start, np.zeros_like(start), None, member, lambda u: u)
    return problem, _charts.chart_rates(start, plane, d)


LAUNCHERS: Mapping[type[Family], Callable[[Any, FloatArray], tuple[Problem, FloatArray]]] = MappingProxyType(
    {
        Gamma: _launch_gamma, Beta: _launch_dirichlet, Dirichlet: _launch_dirichlet,
        VonMisesFisher: _launch_von_mises_fisher,
    }
)  # fmt: skip
"""How a velocity at a member of each family is brought into its chart."""

for _family in POSERS:
    fisher_rao_distance.register(_family, scratch=8)(in_rounds(_distance, ROUND))
    LOGARITHM_MAP.register(_family)(_logarithm)
    GEODESIC.register(_family)(_geodesic)
    EXPONENTIAL_MAP.register(_family)(_exponential)
