"""What the dual geometry has to know about an exponential family, and the Newton iteration behind its inverse maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import is_tensor, requires_gradient, to_numpy
from infogeo._checks import FloatArray, as_float_array
from infogeo.errors import ConvergenceError, DomainError, ShapeError
from infogeo.families import Family
from infogeo.operations import Operation


@dataclass(frozen=True)
class ExponentialFamily:
    r"""Functions that describe densities :math:`\exp(\theta\cdot T(x) - \psi(\theta))` by a measure without theta.

    ``p`` and ``like`` are batches of the family; of ``like`` only what all members share is read (its dimension, a
    number of trials, a covariance).
    """

    natural: Callable[[Any], FloatArray]
    """(p) to theta (..., n)."""
    expectation: Callable[[Any], FloatArray]
    """(p) to eta = E[T] (..., n)."""
    log_partition: Callable[[Any], FloatArray]
    """(p) to psi (...,)."""
    metric: Callable[[Any], FloatArray]
    """(p) to the covariance of T, the Hessian of psi (..., n, n)."""
    cubic: Callable[[Any], FloatArray]
    """(p) to the third cumulants of T, the third derivatives of psi (..., n, n, n)."""
    from_natural: Callable[[Any, FloatArray], Any]
    """(like, theta) to a batch; theta has passed ``natural_domain``."""
    natural_domain: Callable[[Any, FloatArray], Any]
    """(like, theta) to truth values (...,)."""
    natural_wanted: str
    """The domain of theta in words."""
    expectation_domain: Callable[[Any, FloatArray], Any]
    """(like, eta) to truth values (...,)."""
    expectation_wanted: str
    """The domain of eta in words."""
    from_expectation: Callable[[Any, FloatArray], Any] | None = None
    """(like, eta) to a batch where that is a formula; None where it takes an iteration."""
    start: Callable[[Any, FloatArray], FloatArray] = lambda like, eta: np.zeros_like(eta)
    """(like, eta) to the theta where that iteration starts."""
    regular: Callable[[Any], Any] | None = None
    """(p) to truth values (...,): whether theta is finite there; None if it always is."""
    mixture: Callable[[Any, Any, FloatArray], Any] | None = None
    """(p, q, t) to the m-geodesic, where that is better done without eta; p and q (..., 1), t (T,)."""
    alpha_geodesic: Callable[[Any, Any, FloatArray, float], Any] | None = None
    """(p, q, t, alpha) to the alpha-geodesic, where there is a formula; p and q (...,), t (T,)."""
    standardize: Callable[[Any, Any], tuple[Any, Any, Callable[[Any], Any]]] | None = None
    """(p, q), two members, to the two in units where p is a standard member, and a map (T,) back; an isometry that
    keeps all alpha-connections, since it changes samples and not parameters."""
    factors: Callable[[Any], Any] | None = None
    """(p) to the independent factors as a batch (..., k) of a smaller member of the family."""
    assemble: Callable[[Any], Any] | None = None
    """The inverse of ``factors``, for a batch (k, T)."""


EXPONENTIAL_FAMILY = Operation("exponential_family")
"""(p) to the :class:`ExponentialFamily` of its class."""


def structure(p: Family, caller: str) -> tuple[Any, ExponentialFamily]:
    """A batch with NumPy parameters, and the record of its family.

    Raises
    ------
    UnsupportedFamilyError
        If the family is no (regular) exponential family.
    DomainError
        If a parameter is a tensor that records gradients, which this part of the library does not carry.
    """
    record = EXPONENTIAL_FAMILY.find(p, caller=caller)(p)
    values = {field.name: getattr(p, field.name) for field in dataclasses.fields(p)}  # type: ignore[arg-type]
    if any(map(is_tensor, values.values())):
        if requires_gradient(*values.values()):
            raise DomainError(
                f"{caller}: found parameters that record gradients; dual geometry computes with NumPy, so build the "
                f"{type(p).__name__} from detached tensors"
            )
        p = type(p)(**{name: to_numpy(v) if is_tensor(v) else v for name, v in values.items()})
    return p, record


def regular(p: Any, record: ExponentialFamily, caller: str) -> None:
    """Raise unless all natural parameters are finite.

    Raises
    ------
    DomainError
        If a member lies on the border of the family.
    """
    if record.regular is not None and not np.all(record.regular(p)):
        raise DomainError(
            f"{caller}: found a {type(p).__name__} with a probability of 0 or 1, at the border of the family, where "
            "natural parameters are infinite; wanted all probabilities positive (smooth counts with a pseudocount)"
        )


def checked(
    name: str, like: Any, value: ArrayLike, inside: Callable[[Any, FloatArray], Any], wanted: str
) -> FloatArray:
    """Coordinates (..., n) inside their domain, or an error that names the first row outside.

    Raises
    ------
    ShapeError
        If the last axis has not the length of the coordinates, or there are no rows.
    DomainError
        If an entry is not finite, or a row lies outside.
    """
    array = as_float_array(name, value)
    n = like.coordinate_size
    if array.ndim == 0 or array.shape[-1] != n or 0 in array.shape:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., {n}) for {type(like).__name__}")
    bad = ~np.asarray(inside(like, array))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DomainError(f"{name}: found {array[where].tolist()} for {type(like).__name__}, wanted {wanted}")
    return array


@dataclass(frozen=True)
class MomentSolution:
    r"""Members of an exponential family that were found by their expectations."""

    theta: FloatArray
    """(..., n) natural parameters."""
    residual: FloatArray
    """(...,) deviation of the expectations from those wanted, in the Fisher metric: to first order the Fisher-Rao
    distance that is left."""
    tolerance: float
    """What the residual was to be below."""
    iterations: int
    converged: bool
    """Whether all residuals are below the tolerance."""


def solve_moments(
    record: ExponentialFamily,
    like: Any,
    start: FloatArray,
    target: FloatArray,
    *,
    directions: FloatArray | None = None,
    tolerance: float = 1e-8,
    max_iter: int = 200,
    caller: str,
) -> MomentSolution:
    r"""Find :math:`\theta = \theta_0 + A^\top s` with :math:`A\,\eta(\theta) = c`, by damped Newton steps.

    It is the minimum of the convex function :math:`\psi(\theta_0 + A^\top s) - s\cdot c`. A step is halved until it
    stays inside the domain and the slope along it has not grown in size.

    Raises
    ------
    ConvergenceError
        If a residual stays above the tolerance; carries the :class:`MomentSolution`.
    """
    theta = np.array(start)
    a = np.eye(theta.shape[-1]) if directions is None else directions
    residual = np.full(theta.shape[:-1], np.inf)
    best, iteration = theta.copy(), 0
    while iteration < max_iter:
        iteration += 1
        try:
            member = record.from_natural(like, theta)
            step, error = _newton_step(record, member, target, a)
        except (DomainError, np.linalg.LinAlgError):  # run away to the border, beyond what float64 can hold
            break
        length = np.sqrt(np.maximum((step * error).sum(axis=-1), 0.0))
        better = length < residual
        best = np.where(better[..., None], theta, best)
        slow = ~(length < 0.5 * residual)  # the rounding floor
        residual = np.where(better, length, residual)
        done = (residual <= tolerance) & slow
        if done.all():
            break
        theta = np.where(done[..., None], best, _shortened(record, like, theta, step, error, target, a))
    converged = bool((residual <= tolerance).all())
    result = MomentSolution(best, residual, tolerance, iteration, converged)
    if not converged:
        raise ConvergenceError(
            f"{caller}: after {iteration} Newton steps the expectations are {residual.max():.3g} away (in the Fisher "
            f"metric), wanted {tolerance:.3g}; the values wanted lie too near the border of what the "
            f"{type(like).__name__} family can reach, or outside it",
            result,
        )
    return result


def _newton_step(
    record: ExponentialFamily, member: Any, target: FloatArray, a: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The step of the multipliers, and the error of the expectations; with the diagonal of the system scaled to one."""
    error = np.asarray(target - record.expectation(member) @ a.T)
    matrix = a @ record.metric(member) @ a.T
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    if not (np.isfinite(matrix).all() and (diagonal > 0).all()):
        raise np.linalg.LinAlgError
    scale = 1 / np.sqrt(diagonal)
    scaled = matrix * scale[..., :, None] * scale[..., None, :]
    return np.asarray(scale * np.linalg.solve(scaled, (error * scale)[..., None])[..., 0]), error


def _shortened(
    record: ExponentialFamily,
    like: Any,
    theta: FloatArray,
    step: FloatArray,
    error: FloatArray,
    target: FloatArray,
    a: FloatArray,
) -> FloatArray:
    """Natural parameters after a step, each halved until it stays inside and the slope along it is not larger."""
    slope = (step * error).sum(axis=-1)
    scale = np.ones(theta.shape[:-1])
    for _ in range(60):
        trial = theta + (scale[..., None] * step) @ a
        inside = np.asarray(record.natural_domain(like, trial)) & np.isfinite(trial).all(axis=-1)
        safe = np.where(inside[..., None], trial, theta)
        ahead = target - record.expectation(record.from_natural(like, safe)) @ a.T
        bad = ~inside | ~(np.abs((step * ahead).sum(axis=-1)) <= np.maximum(slope, 1e-300))
        if not bad.any():
            return np.asarray(safe)
        scale = np.where(bad, scale / 2, scale)
    return np.where(bad[..., None], theta, safe)
