r"""Alpha-connections of exponential families and their geodesics.

The alpha-connection (Chentsov, Amari) subtracts a multiple of the Amari-Chentsov tensor
:math:`T_{ijk} = E[\partial_i\ell\,\partial_j\ell\,\partial_k\ell]` from the connection of the Fisher metric:
:math:`\Gamma^{(\alpha)}_{ij,k} = \Gamma^{(0)}_{ij,k} - \frac\alpha2 T_{ijk}`. The connections of alpha and -alpha are
dual with respect to the metric. For exponential families those of alpha = 1 (e) and alpha = -1 (m) are flat, with the
natural and the expectation parameters as affine coordinates (Amari and Nagaoka, Methods of Information Geometry, AMS
2000, chapters 2 and 3).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _alpha_collocation
from infogeo._checks import FloatArray, as_float_array, within_range
from infogeo._exponential import ExponentialFamily, regular, structure
from infogeo.dual import from_expectation
from infogeo.errors import ArgumentError
from infogeo.families import Family
from infogeo.geometry import GEODESIC, check_times
from infogeo.measures import check_pair


def cubic_tensor(p: Family) -> FloatArray:
    r"""Amari-Chentsov tensor :math:`T_{ijk} = \partial_i\partial_j\partial_k\psi` in natural parameters.

    It holds the third cumulants of the statistics that :func:`natural_parameters` lists. The array has n^3 entries.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (..., n, n, n)
        Symmetric in all axes.

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, AMS 2000, eq. (2.13) and section 3.4.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> cubic_tensor(DiagonalGaussian([0.0], [1.0])).tolist()  # third cumulants of x and x^2
    [[[0.0, 2.0], [2.0, 0.0]], [[2.0, 0.0], [0.0, 8.0]]]
    """
    p, record = structure(p, "cubic_tensor")
    regular(p, record, "cubic_tensor")
    return within_range("cubic_tensor", lambda: record.cubic(p))


def alpha_connection(p: Family, *, alpha: float) -> FloatArray:
    r"""Coefficients :math:`\Gamma^{(\alpha)}_{ij,k} = \frac{1 - \alpha}{2} T_{ijk}` in natural parameters.

    These are Christoffel symbols of the first kind, :math:`\Gamma^{(\alpha)}_{ij,k} =
    g(\nabla^{(\alpha)}_{\partial_i} \partial_j, \partial_k)`, in the chart theta (see :func:`natural_parameters`),
    where those of alpha = 1 vanish. Connection coefficients are no tensor: in another chart they are others.

    Parameters
    ----------
    p : Family
    alpha : float
        1 for the exponential, -1 for the mixture, 0 for the metric (Levi-Civita) connection.

    Returns
    -------
    array, shape (..., n, n, n)
        Indices i, j, k.

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.
    ArgumentError, DomainError
        If alpha is not one number, or not finite.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, AMS 2000, eq. (2.16).

    Examples
    --------
    >>> from infogeo import Poisson
    >>> alpha_connection(Poisson(2.0), alpha=0.0).tolist()  # half the third cumulant
    [[[1.0]]]
    """
    factor, cubic = 0.5 * (1 - _alpha(alpha)), cubic_tensor(p)
    return within_range("alpha_connection", lambda: np.asarray(factor * cubic))


def exponential_geodesic(p: Family, q: Family, t: ArrayLike) -> Any:
    r"""Geodesic of the exponential connection: :math:`\theta = (1 - t)\,\theta_p + t\,\theta_q`.

    Its densities are the normalized geometric means :math:`p^{1-t} q^t`.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.
    t : float or array, shape (T,)
        Times from 0 to 1.

    Returns
    -------
    Family
        Of batch shape (...,) for one time, (..., T) for several.

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError
        As :func:`natural_parameters` and :func:`geodesic`.

    Examples
    --------
    >>> from infogeo import Poisson
    >>> round(float(exponential_geodesic(Poisson(1.0), Poisson(4.0), 0.5).rate), 9)  # the geometric mean
    2.0
    """
    a, b, record, times, one = _ends("exponential_geodesic", p, q, t)

    def line() -> Any:
        return record.from_natural(a, _straight(record.natural(a), record.natural(b), times))

    points = within_range("exponential_geodesic", line)
    return points[..., 0] if one else points


def mixture_geodesic(p: Family, q: Family, t: ArrayLike) -> Any:
    r"""Geodesic of the mixture connection: :math:`\eta = (1 - t)\,\eta_p + t\,\eta_q`.

    It is the member that fits the mixture (1 - t) p + t q best, with the same expectations of T; for
    :class:`Categorical` it is that mixture, and probabilities of 0 are allowed.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.
    t : float or array, shape (T,)
        Times from 0 to 1.

    Returns
    -------
    Family
        Of batch shape (...,) for one time, (..., T) for several.

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError, ConvergenceError
        As :func:`from_expectation` and :func:`geodesic`.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> middle = mixture_geodesic(DiagonalGaussian([-1.0], [1.0]), DiagonalGaussian([1.0], [1.0]), 0.5)
    >>> middle.mean.tolist(), middle.var.tolist()  # as wide as the two together
    ([0.0], [2.0])
    """
    a, b, record, times, one = _ends("mixture_geodesic", p, q, t, border=True)

    def line() -> Any:
        if record.mixture is not None:
            return record.mixture(a, b, times)
        return from_expectation(a, _straight(record.expectation(a), record.expectation(b), times))

    points = within_range("mixture_geodesic", line)
    return points[..., 0] if one else points


def alpha_geodesic(p: Family, q: Family, t: ArrayLike, *, alpha: float) -> Any:
    r"""Geodesic of the alpha-connection, run through evenly in its affine parameter.

    * alpha = 1: :func:`exponential_geodesic`; alpha = -1: :func:`mixture_geodesic`; alpha = 0: the geodesic of the
      Fisher metric, :func:`geodesic` where the family has it.
    * :class:`Categorical`, :class:`Multinomial`, :class:`Bernoulli` and :class:`Binomial`, any alpha: the curve is
      the line between :math:`p^{(1-\alpha)/2}` and :math:`q^{(1-\alpha)/2}`, raised to the power
      :math:`2/(1-\alpha)` and normalized. The affine parameter is not the position on that line (the correspondence is
      projective, not affine); it is a quadrature along it.
    * :class:`SharedCovarianceGaussian`, any alpha: the straight line of the means. Here the covariance is held fixed,
      and the manifold flat; :func:`geodesic` runs among all normals.
    * Other families: the equation :math:`\theta'' = -\frac{1-\alpha}{2}\, g^{-1} T(\theta', \theta')` with both ends
      given, by collocation. The curve is accepted if the equation holds to 1e-10 of the speed, also between the points
      where it was solved.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.
    t : float or array, shape (T,)
        Times from 0 to 1.
    alpha : float

    Returns
    -------
    Family
        Of batch shape (...,) for one time, (..., T) for several.

    Raises
    ------
    UnsupportedFamilyError, ShapeError, DomainError
        As :func:`natural_parameters` and :func:`geodesic`.
    ArgumentError, DomainError
        If alpha is not one number, or not finite.
    ConvergenceError
        If no geodesic is found; for alpha outside -1 to 1 two members need not be joined by one.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, AMS 2000, sections 2.3 and 2.6.

    Examples
    --------
    >>> from infogeo import Categorical
    >>> p, q = Categorical.from_probs([0.9, 0.1]), Categorical.from_probs([0.1, 0.9])
    >>> alpha_geodesic(p, q, 0.5, alpha=0.5).probs.round(6).tolist()  # by symmetry
    [0.5, 0.5]
    """
    alpha = _alpha(alpha)
    if alpha == 1:
        return exponential_geodesic(p, q, t)
    if alpha == -1:
        return mixture_geodesic(p, q, t)
    a, b, record, times, one = _ends("alpha_geodesic", p, q, t, border=alpha < 1)
    if record.alpha_geodesic is not None:
        points = record.alpha_geodesic(a, b, times, alpha)
    elif alpha == 0 and type(p) in GEODESIC.families:
        points = GEODESIC.find(p)(a, b, times)
    else:
        for side in (a, b):
            regular(side, record, "alpha_geodesic")
        points = _solve_all(record, a, b, times, alpha)
    return points[..., 0] if one else points


def _solve_all(record: ExponentialFamily, p: Any, q: Any, t: FloatArray, alpha: float) -> Any:
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    paths = [_solve_one(record, _member(p, i), _member(q, i), t, alpha) for i in np.ndindex(shape)]
    return _stack(paths, shape)


def _solve_one(record: ExponentialFamily, p: Any, q: Any, t: FloatArray, alpha: float) -> Any:
    if np.array_equal(record.natural(p), record.natural(q)):
        return p[None][np.zeros(len(t), dtype=np.int64)]
    if record.factors is not None and record.assemble is not None and p.dimension > 1:
        parts = zip(record.factors(p), record.factors(q), strict=True)
        paths = [_solve_one(record, a, b, t, alpha) for a, b in parts]
        return record.assemble(_stack(paths, (p.dimension,)))
    if record.standardize is None:
        return record.from_natural(p, _alpha_collocation.solve(record, p, q, t, alpha).theta)
    a, b, restore = record.standardize(p, q)
    return restore(record.from_natural(a, _alpha_collocation.solve(record, a, b, t, alpha).theta))


def _member(p: Any, index: tuple[int, ...]) -> Any:
    """The member that a broadcast batch has at an index."""
    own = index[len(index) - len(p.batch_shape) :]
    return p[tuple(0 if n == 1 else i for i, n in zip(own, p.batch_shape, strict=True))] if own else p


def _stack(paths: list[Any], shape: tuple[int, ...]) -> Any:
    """Batches (T,) as one of shape (*shape, T)."""
    values = {}
    for field in dataclasses.fields(paths[0]):
        values[field.name] = getattr(paths[0], field.name)
        if field.name in paths[0].event_axes:
            arrays = np.array([getattr(path, field.name) for path in paths])
            values[field.name] = arrays.reshape(*shape, *arrays.shape[1:])
    return type(paths[0])(**values)


def _straight(a: FloatArray, b: FloatArray, t: FloatArray) -> FloatArray:
    return np.asarray((1 - t)[:, None] * a[..., None, :] + t[:, None] * b[..., None, :])


def _alpha(alpha: float) -> float:
    value = as_float_array("alpha", alpha)
    if value.ndim:
        raise ArgumentError(f"alpha: found shape {value.shape}, wanted one number")
    return float(value)


def _ends(
    caller: str, p: Family, q: Family, t: ArrayLike, *, border: bool = False
) -> tuple[Any, Any, ExponentialFamily, FloatArray, bool]:
    a, record = structure(p, caller)
    check_pair(caller, p, q)
    b, _ = structure(q, caller)
    if not border:
        for side in (a, b):
            regular(side, record, caller)
    times = check_times(t)
    return a, b, record, np.atleast_1d(times), times.ndim == 0
