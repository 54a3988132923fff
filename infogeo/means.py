r"""Frechet means: the distribution that is closest to many, in the square of the Fisher-Rao distance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import is_tensor, to_numpy
from infogeo._checks import FloatArray, as_float_array, check_count, check_number, check_shape
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.families import Categorical, Family, Multinomial, SharedCovarianceGaussian
from infogeo.geometry import EXPONENTIAL_MAP, LOGARITHM_MAP, exponential_map, geodesic, inner_product, logarithm_map

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Relative rounding of coordinates: a gradient as short as this part of them is zero."""

SUFFICIENT = 1e-4
"""Part of the decrease that the gradient promises with which a step is accepted (Armijo's rule)."""

STEPS = (0.02, 3.0)
"""Shortest and longest step that is tried first, in multiples of the mean of the logarithms."""

HALVINGS = 50
"""A step is halved so often before the search for a better mean is given up."""

HADAMARD = "the manifold is complete, simply connected and nowhere positively curved (Cartan)"
LINE = "the manifold is an interval of the arc length"
CONVEX = "the manifold is a convex part of the hyperbolic plane (Cartan)"
SPHERE = "all points lie in one open hemisphere (Afsari 2011, theorem 2.1)"

UNIQUE = {
    "DiagonalGaussian": HADAMARD,
    "IsotropicGaussian": HADAMARD,
    "CenteredGaussian": HADAMARD,
    "LogNormal": HADAMARD,
    "Weibull": HADAMARD,
    "Gamma": HADAMARD,
    "Beta": HADAMARD,
    "Dirichlet": HADAMARD,
    "InverseGaussian": CONVEX,
    "Bernoulli": LINE,
    "Binomial": LINE,
    "Geometric": LINE,
    "Poisson": LINE,
    "Exponential": LINE,
    "Categorical": SPHERE,
    "Multinomial": SPHERE,
}
"""Families, by name, whose manifold leaves no choice of a mean, and why."""


@dataclass(frozen=True, eq=False)
class FrechetMean:
    """A Frechet mean with its certificate.

    Where the manifold has no positive curvature (``theorem`` says so), half the variance has second derivatives of at
    least one along every geodesic, and ``gradient_norm`` is an upper bound of the distance to the true mean.
    """

    mean: Any
    """A single distribution, of the family in whose manifold the geodesics run."""
    variance: float
    """Weighted mean of the squared distances to it."""
    gradient_norm: float
    """Length of the mean logarithm, in the unit of the distance; zero at a stationary point."""
    tolerance: float
    """What ``gradient_norm`` had to come down to."""
    iterations: int
    """Steps taken."""
    converged: bool
    """Whether ``gradient_norm`` is at most ``tolerance``."""
    unique: bool | None
    """True if no other stationary point exists, so that this one is the mean; None if that is not known."""
    theorem: str
    """Why it is unique, or empty."""


class _State(NamedTuple):
    mean: Any
    gradient: FloatArray
    """Mean of the logarithms, the direction of descent."""
    norm: float
    variance: float


def frechet_mean(
    x: Family, *, weights: ArrayLike | None = None, tol: float = 1e-10, max_iter: int = 200, strict: bool = True
) -> FrechetMean:
    r"""Frechet mean :math:`\arg\min_m \sum_i w_i\, d(m, x_i)^2` in the Fisher-Rao distance, by Karcher's iteration.

    From the mean of the coordinates the point moves along :math:`v = \sum_i w_i \log_m x_i`, which is half the
    downward gradient of the variance, and zero at a mean: :math:`m \leftarrow \exp_m(\alpha v)`. The step
    :math:`\alpha` is one at first, later the one that fits the last change of *v* (Barzilai and Borwein), and it is
    halved until the variance falls as the gradient promises. Two distributions are joined by a geodesic, which is
    divided.

    Whether the mean is unique stands in the result. It is

    * on every manifold without positive curvature [1]_: diagonal, isotropic and centered normals, gamma, beta and
      Dirichlet [2]_, Weibull, log-normal and inverse Gaussian, and families of one parameter;
    * for :class:`Categorical`, a part of a sphere of radius 2, since all of it lies within a radius of less than
      :math:`\pi`, a quarter of the circumference, of the uniform distribution [3]_. Outcomes that no distribution
      allows stay impossible.

    Full normals have positive curvature in some planes [4]_ unless d = 1: what is returned is a stationary point,
    reached by going down, and ``unique`` is None.

    Parameters
    ----------
    x : Family
        One distribution, or a batch of shape (n,). :class:`SharedCovarianceGaussian` becomes :class:`Gaussian`, where
        the mean has another covariance. Plain tensors are read as arrays.
    weights : array, shape (n,), optional
        Not negative, with a positive sum, by which they are divided; all equal unless given.
    tol : float
        The length of *v* that is small enough, relative to the root of the variance. Rounding of the coordinates is
        granted beside it.
    max_iter : int
        Most steps to take.
    strict : bool
        Raise if the tolerance is not met; otherwise return the result, which says so.

    Returns
    -------
    FrechetMean

    Raises
    ------
    ConvergenceError
        If the tolerance is not met; its ``result`` is the FrechetMean that was reached.
    UnsupportedFamilyError
        If the family has no exponential or logarithmic map.
    ShapeError
        If the batch has more than one axis, or the weights have another shape.
    DomainError
        If a weight is negative or not finite, or all are zero.
    ArgumentError
        If ``tol`` is not positive or ``max_iter`` not at least one.

    References
    ----------
    .. [1] H. Karcher, Riemannian center of mass and mollifier smoothing, Communications on Pure and Applied
       Mathematics 30 (1977) 509-541, theorem 1.2.
    .. [2] A. Le Brigant, S. C. Preston, S. Puechmorel, Fisher-Rao geometry of Dirichlet distributions, Differential
       Geometry and its Applications 74 (2021) 101702.
    .. [3] B. Afsari, Riemannian L^p center of mass: existence, uniqueness, and convexity, Proceedings of the AMS 139
       (2011) 655-673, theorem 2.1.
    .. [4] L. T. Skovgaard, A Riemannian geometry of the multivariate normal model, Scandinavian Journal of Statistics
       11 (1984) 211-223.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian, Poisson
    >>> found = frechet_mean(DiagonalGaussian([[-1.0], [1.0]], [[1.0], [1.0]]))
    >>> found.mean.mean.round(6).tolist(), found.mean.var.round(6).tolist()
    ([0.0], [1.5])
    >>> found = frechet_mean(Poisson([1.0, 4.0, 9.0]))
    >>> round(found.mean.rate.item(), 6), found.unique  # the square of the mean of 1, 2 and 3
    (4.0, True)
    """
    for operation in (EXPONENTIAL_MAP, LOGARITHM_MAP):
        operation.find(x, caller="frechet_mean")
    tol = check_number("tol", tol)
    if not tol > 0:
        raise ArgumentError(f"tol: found {tol!r}, wanted a positive number")
    max_iter = check_count("max_iter", max_iter, 1)
    if len(x.batch_shape) > 1:
        raise ShapeError(f"frechet_mean: found batch shape {x.batch_shape}, wanted (n,); index it down to one axis")
    x = _plain(x)[None] if x.batch_shape == () else _plain(x)
    shares = _shares(weights, len(x))
    x, shares = x[shares > 0], shares[shares > 0]
    x, put_back = _possible(x)
    start = _start(x, shares)
    state, iterations, allowed = _descend(x, shares, _state(start, x, shares), tol, max_iter)
    theorem = UNIQUE.get(type(x).__name__, "")
    if not theorem and type(x).__name__ == "Gaussian" and x.dimension == 1:
        theorem = HADAMARD
    found = FrechetMean(
        mean=put_back(state.mean),
        variance=state.variance,
        gradient_norm=state.norm,
        tolerance=allowed,
        iterations=iterations,
        converged=state.norm <= allowed,
        unique=True if theorem else None,
        theorem=theorem,
    )
    if strict and not found.converged:
        raise ConvergenceError(
            f"frechet_mean: after {iterations} steps the mean logarithm has length {found.gradient_norm:.3g}, wanted "
            f"{allowed:.3g}; raise max_iter (now {max_iter}) or tol (now {tol:g}), or pass strict=False",
            found,
        )
    return found


def _plain(x: Any) -> Any:
    """The same distributions with NumPy arrays, in the family in whose manifold the geodesics run."""
    values = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    if any(map(is_tensor, values.values())):
        x = type(x)(**{name: to_numpy(v) if is_tensor(v) else v for name, v in values.items()})
    return x.to_full() if isinstance(x, SharedCovarianceGaussian) else x


def _shares(weights: ArrayLike | None, n: int) -> FloatArray:
    if weights is None:
        return np.full(n, 1.0 / n)
    array = as_float_array("weights", weights)
    check_shape("weights", array, (n,))
    if (array < 0).any():
        raise DomainError(f"weights: entry {int(np.argmin(array))} is {array.min()}; weights must not be negative")
    if not (array > 0).any():
        raise DomainError("weights: all are zero; at least one must be positive")
    array = array / array.max()
    return np.asarray(array / array.sum())


def _possible(x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The distributions without the outcomes that none of them allows, and a function that puts those back.

    Such distributions are a face of the simplex, which is totally geodesic: their mean allows no other outcome either.
    """
    if not isinstance(x, Categorical | Multinomial):
        return x, lambda mean: mean
    possible = np.asarray((x.log_probs > -np.inf).any(axis=0))
    if possible.all():
        return x, lambda mean: mean

    def put_back(mean: Any) -> Any:
        log_probs = np.full(len(possible), -np.inf)
        log_probs[possible] = mean.log_probs
        return dataclasses.replace(mean, log_probs=log_probs)

    return dataclasses.replace(x, log_probs=x.log_probs[:, possible]), put_back


def _start(x: Any, shares: FloatArray) -> Any:
    if len(x) == 1:
        return x[0]
    if len(x) == 2:
        return geodesic(x[0], x[1], float(shares[1]))
    return x.with_coordinates(shares @ x.coordinates())


def _state(mean: Any, x: Any, shares: FloatArray) -> _State:
    logs = logarithm_map(mean, x)
    gradient = shares @ logs
    norm = float(np.sqrt(inner_product(mean, gradient, gradient)))
    return _State(mean, gradient, norm, float(shares @ inner_product(mean, logs, logs)))


def _descend(x: Any, shares: FloatArray, state: _State, tol: float, max_iter: int) -> tuple[_State, int, float]:
    """Karcher's iteration from a state: the last one, the number of steps, and the gradient that was allowed it."""
    step, taken = 1.0, 0
    while True:
        place = state.mean.coordinates()
        allowed = tol * state.variance**0.5 + ROUNDING * float(np.sqrt(inner_product(state.mean, place, place)))
        if state.norm <= allowed or taken == max_iter:
            return state, taken, allowed
        found = _search(x, shares, state, step)
        if found is None:
            return state, taken, allowed
        after, used = found
        moved, bent = used * state.gradient, state.gradient - after.gradient
        curvature = float(inner_product(after.mean, moved, bent))
        length = float(inner_product(after.mean, moved, moved))
        step = float(np.clip(length / curvature, *STEPS)) if curvature > 0 else STEPS[1]
        state, taken = after, taken + 1


def _search(x: Any, shares: FloatArray, state: _State, step: float) -> tuple[_State, float] | None:
    """The state after a step that lowers the variance enough, and that step; None if there is none."""
    noise = ROUNDING * state.variance
    for _ in range(HALVINGS):
        try:
            after = _state(exponential_map(state.mean, step * state.gradient), x, shares)
        except DomainError:  # off the manifold, or beyond float64
            step /= 2
            continue
        promised = 2 * step * state.norm**2
        falls = after.variance <= state.variance - SUFFICIENT * promised
        if falls or (promised < noise / SUFFICIENT and after.norm < state.norm):
            return after, step
        step /= 2
    return None
