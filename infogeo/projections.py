r"""Projections onto flat families, by the generalised Pythagorean theorem.

If the m-geodesic from p to r meets the e-geodesic from r to q at a right angle in the Fisher metric, then
:math:`D_{KL}(p\|q) = D_{KL}(p\|r) + D_{KL}(r\|q)` (Amari and Nagaoka, Methods of Information Geometry, AMS 2000,
theorem 3.8). Hence the member of a set of given expectations (flat in eta) nearest to q is reached by an e-geodesic,
and the member of an exponential subfamily (flat in theta) nearest to p by an m-geodesic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_number, within_range
from infogeo._exponential import ExponentialFamily, regular, solve_moments, structure
from infogeo.errors import DomainError, ShapeError
from infogeo.families import Family
from infogeo.measures import check_pair


@dataclass(frozen=True, eq=False)
class Projection:
    """Nearest members of a flat family, with the certificate of the iteration that found them."""

    point: Any
    """The projections, a batch of the family."""
    multipliers: FloatArray
    """(..., k) coefficients of the directions by which theta was moved."""
    residual: FloatArray
    """(...,) how far the expectations along the directions are from those wanted, in the Fisher metric: to first order
    the Fisher-Rao distance that is left."""
    tolerance: float
    """What the residual was to be below."""
    iterations: int
    """Newton steps."""
    converged: bool
    """Whether all residuals are below the tolerance."""


def exponential_projection(
    p: Family, directions: ArrayLike, values: ArrayLike, *, tol: float = 1e-8
) -> Projection:
    r"""Nearest members q of p with given expectations, :math:`A\,\eta_q = c`: the minimum of ``kl_divergence(q, p)``.

    It lies on the e-geodesic :math:`\theta_q = \theta_p + A^\top s` (the I-projection [1]_; for uniform p the
    distribution of greatest entropy). Newton's method finds the multipliers s.

    Parameters
    ----------
    p : Family
        An exponential family; see :func:`natural_parameters` for the expectations of which statistics eta holds.
    directions : array, shape (k, n)
        The rows of A, linearly independent.
    values : array, shape (..., k)
        Wanted expectations c; leading axes broadcast against the batch.
    tol : float
        Largest residual, a distance in the Fisher metric.

    Returns
    -------
    Projection

    Raises
    ------
    UnsupportedFamilyError
        If the family is no regular exponential family.
    ShapeError, DomainError
        If the shapes do not fit, the rows are linearly dependent, or p is at the border of the family.
    ConvergenceError
        If the residual stays above the tolerance, as it must where no member has these expectations; carries the
        state of the iteration.

    References
    ----------
    .. [1] I. Csiszar, I-divergence geometry of probability distributions and minimization problems, Annals of
       Probability 3 (1975) 146-158, theorem 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import Categorical
    >>> die = Categorical.from_probs(np.full(6, 1 / 6))
    >>> q = exponential_projection(die, [[-5, -4, -3, -2, -1]], [4.5 - 6]).point  # faces 1 to 5 against 6: mean 4.5
    >>> q.probs.round(4).tolist()  # E. T. Jaynes, Where do we stand on maximum entropy?, 1978
    [0.0544, 0.0788, 0.1142, 0.1654, 0.2398, 0.3475]
    """
    a, record = structure(p, "exponential_projection")
    regular(a, record, "exponential_projection")
    rows = _rows(a, directions)
    wanted = as_float_array("values", values)
    if wanted.ndim == 0 or wanted.shape[-1] != len(rows):
        raise ShapeError(f"values: found shape {wanted.shape}, wanted (..., {len(rows)}), one for each direction")

    def solve() -> Projection:
        return _solved("exponential_projection", record, a, record.natural(a), rows, wanted, tol)

    return within_range("exponential_projection", solve)


def mixture_projection(p: Family, base: Family, directions: ArrayLike, *, tol: float = 1e-8) -> Projection:
    r"""Nearest members q of an exponential subfamily: the minimum of ``kl_divergence(p, q)``.

    The subfamily is :math:`\theta_q = \theta_0 + A^\top s`; the nearest member has the expectations of p along its
    directions, :math:`A\,\eta_q = A\,\eta_p`, and lies on an m-geodesic from p that meets the subfamily at a right
    angle. With the empirical distribution for p it is the estimate of maximum likelihood.

    Parameters
    ----------
    p : Family
        An exponential family; probabilities of 0 are allowed.
    base : Family
        Members theta_0 of the same family that the subfamily goes through; batch shapes broadcast.
    directions : array, shape (k, n)
        The rows of A, linearly independent directions in theta.
    tol : float
        Largest residual, a distance in the Fisher metric.

    Returns
    -------
    Projection

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError, ConvergenceError
        As :func:`exponential_projection`.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import Gaussian
    >>> p = Gaussian([1.0, 2.0], [[2.0, 1.0], [1.0, 3.0]])
    >>> independent = np.delete(np.eye(5), 3, axis=0)  # all natural parameters but that of x_0 x_1
    >>> mixture_projection(p, Gaussian(np.zeros(2), np.eye(2)), independent).point.cov.round(9).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    a, record = structure(p, "mixture_projection")
    check_pair("mixture_projection", p, base)
    b, _ = structure(base, "mixture_projection")
    regular(b, record, "mixture_projection")
    rows = _rows(a, directions)

    def solve() -> Projection:
        wanted = record.expectation(a) @ rows.T
        return _solved("mixture_projection", record, a, record.natural(b), rows, wanted, tol)

    return within_range("mixture_projection", solve)


def _rows(p: Any, directions: ArrayLike) -> FloatArray:
    rows = as_float_array("directions", directions)
    n = p.coordinate_size
    if rows.ndim != 2 or rows.shape[1] != n or len(rows) == 0:
        raise ShapeError(f"directions: found shape {rows.shape}, wanted (k, {n}) with k at least 1")
    rank = int(np.linalg.matrix_rank(rows))
    if rank < len(rows):
        raise DomainError(f"directions: found {len(rows)} rows of rank {rank}, wanted linearly independent ones")
    return rows


def _solved(
    caller: str, record: ExponentialFamily, like: Any, start: FloatArray, rows: FloatArray, wanted: FloatArray,
    tol: float,
) -> Projection:  # fmt: skip
    tolerance = check_number("tol", tol)
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise DomainError(f"tol: found {tolerance}, wanted a positive number")
    try:
        shape = np.broadcast_shapes(start.shape[:-1], wanted.shape[:-1])
    except ValueError:
        raise ShapeError(
            f"values: leading axes {wanted.shape[:-1]} do not broadcast against the batch shape {start.shape[:-1]}"
        ) from None
    start = np.broadcast_to(start, (*shape, start.shape[-1]))
    wanted = np.broadcast_to(wanted, (*shape, wanted.shape[-1]))
    found = solve_moments(record, like, start, wanted, directions=rows, tolerance=tolerance, caller=caller)
    moves = (found.theta - start).reshape(-1, start.shape[-1])
    multipliers: FloatArray = np.asarray(np.linalg.lstsq(rows.T, moves.T, rcond=None)[0].T, dtype=np.float64)
    return Projection(
        record.from_natural(like, found.theta), multipliers.reshape(wanted.shape), found.residual, found.tolerance,
        found.iterations, found.converged,
    )  # fmt: skip
