r"""Symmetric positive definite matrices with the Fisher metric of centered normals.

A point is an array (..., d, d), the covariance of :math:`N(0, S)`, a velocity an array (..., d, d) of symmetric rates
of change. The Fisher metric is :math:`ds^2 = \tfrac12 \mathrm{tr}\,(S^{-1} dS)^2`, *half* the affine-invariant metric:
the distances here are those of the affine-invariant metric divided by :math:`\sqrt2`. All functions broadcast over
leading axes, and none changes when all matrices S are replaced by :math:`A S A^\top`.

Everything rests on the joint diagonalization :math:`S = BB^\top`, :math:`T = B\,\mathrm{diag}(e^w)\,B^\top`: the
geodesic is :math:`B\,\mathrm{diag}(e^{tw})\,B^\top`. Close to each other, the eigenvalues are taken from the difference
T - S; else from the singular values of :math:`L_S^{-1} L_T`, which has the root of the condition number. Where the
correlations are ill-conditioned the rounding errors of the Cholesky factors are computed and taken out. Against 90
digits, for distances from 1e-9 to 50, the relative error of :func:`distance` was at most 1e-12 for condition numbers up
to 1e4 and 2e-11 up to 1e12 (tests/test_manifolds.py holds both).

After L. T. Skovgaard, A Riemannian geometry of the multivariate normal model, Scandinavian Journal of Statistics 11
(1984) 211-223, and W. Förstner, B. Moonen, A metric for covariance matrices, Quo vadis geodesia...? (1999) 113-128.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_broadcast
from infogeo._spd import Spectrum, joint_spectrum, log_ratios, transposed
from infogeo.errors import DomainError, ShapeError
from infogeo.families.gaussian import _cholesky, _symmetric


def distance(x: ArrayLike, y: ArrayLike) -> FloatArray:
    r"""Fisher-Rao distance :math:`\sqrt{\tfrac12 \sum_i \log^2 \lambda_i}`, with the eigenvalues of :math:`S^{-1} T`.

    Parameters
    ----------
    x, y : array, shape (..., d, d)
        Symmetric positive definite matrices S and T.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError
        If the matrices are not square or their sizes differ, or the shapes do not broadcast.
    DomainError
        If an entry is not finite, or a matrix is not symmetric or not (numerically) positive definite.

    Examples
    --------
    >>> distance(np.eye(2), np.e * np.eye(2)).round(6).item()  # sqrt(d / 2)
    1.0
    """
    (x, low), (y, high) = _points(x=x, y=y)
    return np.asarray(np.linalg.norm(log_ratios(x, low, y, high), axis=-1) / 2**0.5)


def exp(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    """Point reached after unit time on the geodesic that leaves ``x`` with a velocity.

    Parameters
    ----------
    x : array, shape (..., d, d)
    velocity : array, shape (..., d, d)
        Symmetric.

    Returns
    -------
    array, shape (..., d, d)

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`; also if the velocity is not symmetric or the end point cannot be represented in float64.

    Examples
    --------
    >>> exp(np.eye(2), [[1.0, 0.0], [0.0, 0.0]]).round(6).tolist()
    [[2.718282, 0.0], [0.0, 1.0]]
    """
    ((x, low),), velocity = _points(x=x), _rates(velocity)
    _check_sizes(x=x, velocity=velocity)
    rates, rotation = np.linalg.eigh(whitened(low, velocity))
    with np.errstate(over="ignore", invalid="ignore"):
        end = _composed(low @ rotation, np.exp(rates / 2))
    variances = np.diagonal(end, axis1=-2, axis2=-1)
    if not (np.isfinite(end).all() and (variances > 0).all()):
        length = float(np.linalg.norm(rates, axis=-1).max() / 2**0.5)
        raise DomainError(
            f"velocity: a geodesic of length up to {length:.4g} leaves the range of float64; take a shorter one"
        )
    return end


def log(x: ArrayLike, y: ArrayLike) -> FloatArray:
    r"""Velocity at ``x`` of the geodesic that reaches ``y`` after unit time; its norm is the distance.

    :math:`L \log(L^{-1} T L^{-\top}) L^\top` with the Cholesky factor L of S.

    Parameters
    ----------
    x, y : array, shape (..., d, d)

    Returns
    -------
    array, shape (..., d, d), symmetric

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> log(np.eye(2), np.diag([np.e, 1.0])).round(6).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    (x, low), (y, high) = _points(x=x, y=y)
    return velocity_to(joint_spectrum(x, low, y, high))


def geodesic(x: ArrayLike, y: ArrayLike, t: ArrayLike) -> FloatArray:
    """Points of the geodesic from ``x`` (t = 0) to ``y`` (t = 1), at constant speed.

    Parameters
    ----------
    x, y : array, shape (..., d, d)
    t : float or array, shape (T,)
        Times; outside 0 to 1 the geodesic is continued.

    Returns
    -------
    array, shape (..., d, d) for one time, (..., T, d, d) for several

    Raises
    ------
    ShapeError, DomainError
        As :func:`distance`.

    Examples
    --------
    >>> geodesic(np.eye(2), np.diag([16.0, 1.0]), 0.5).round(6).tolist()  # the geometric mean
    [[4.0, 0.0], [0.0, 1.0]]
    """
    (x, low), (y, high) = _points(x=x, y=y)
    times = as_float_array("t", t)
    if times.ndim > 1:
        raise ShapeError(f"t: found shape {times.shape}, wanted one time or (T,)")
    # each half is computed from its own end, so that both ends are met
    ends = [joint_spectrum(x, low, y, high), joint_spectrum(y, high, x, low)]
    if times.ndim:
        ends = [Spectrum(e.basis[..., None, :, :], e.logs[..., None, :]) for e in ends]
    s = times[..., None]
    first = _composed(ends[0].basis, np.exp(np.where(s <= 0.5, s, 0.0) / 2 * ends[0].logs))
    second = _composed(ends[1].basis, np.exp(np.where(s <= 0.5, 0.0, 1 - s) / 2 * ends[1].logs))
    return np.where(s[..., None] <= 0.5, first, second)


def norm(x: ArrayLike, velocity: ArrayLike) -> FloatArray:
    r"""Length of a velocity in the Fisher metric, :math:`\sqrt{\tfrac12 \mathrm{tr}\,(S^{-1} \dot S)^2}`.

    Parameters
    ----------
    x : array, shape (..., d, d)
    velocity : array, shape (..., d, d)
        Symmetric.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    ShapeError, DomainError
        As :func:`exp`.

    Examples
    --------
    >>> norm(2 * np.eye(2), 2 * np.eye(2)).round(6).item()  # sqrt(d / 2)
    1.0
    """
    ((_, low),), velocity = _points(x=x), _rates(velocity)
    _check_sizes(x=low, velocity=velocity)
    return np.asarray(np.linalg.norm(whitened(low, velocity), axis=(-2, -1)) / 2**0.5)


def velocity_to(spectrum: Spectrum) -> FloatArray:
    """Velocity of the geodesic between two matrices that are jointly diagonalized, at the first of them."""
    velocity = spectrum.basis * spectrum.logs[..., None, :] @ transposed(spectrum.basis)
    return np.asarray((velocity + transposed(velocity)) / 2)


def whitened(factor: FloatArray, velocity: FloatArray) -> FloatArray:
    """A velocity in coordinates where the matrix is the identity; its entries have the squared sum 2 length^2."""
    half = np.linalg.solve(factor, np.swapaxes(np.linalg.solve(factor, velocity), -1, -2))
    return np.asarray((half + np.swapaxes(half, -1, -2)) / 2)


def _composed(basis: FloatArray, roots: FloatArray) -> FloatArray:
    """The matrix ``C @ C.T`` with ``C = basis * roots``: symmetric and not negative whatever the rounding."""
    factor = basis * roots[..., None, :]
    return np.asarray(factor @ np.swapaxes(factor, -1, -2))


def _matrices(name: str, value: ArrayLike) -> FloatArray:
    array = as_float_array(name, value)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., d, d) with d at least 1")
    return array


def _points(**points: ArrayLike) -> tuple[tuple[FloatArray, FloatArray], ...]:
    """Each matrix, exactly symmetric, with its Cholesky factor."""
    arrays = {name: _symmetric(name, _matrices(name, value)) for name, value in points.items()}
    _check_sizes(**arrays)
    return tuple((array, _cholesky(name, array)) for name, array in arrays.items())


def _rates(velocity: ArrayLike) -> FloatArray:
    array = _matrices("velocity", velocity)
    difference = np.abs(array - np.swapaxes(array, -1, -2))
    if (difference > 1e-8 * np.abs(array).max(axis=(-2, -1), keepdims=True)).any():
        raise DomainError(
            f"velocity: not symmetric, mirror entries differ by up to {difference.max():.3g}; rates of change of a "
            "symmetric matrix are symmetric"
        )
    return np.asarray(array / 2 + np.swapaxes(array, -1, -2) / 2)


def _check_sizes(**arrays: FloatArray) -> None:
    if len({a.shape[-1] for a in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"sizes of the matrices differ: {shapes}")
    check_broadcast(**{name: a[..., 0, 0] for name, a in arrays.items()})
