r"""Normals as exponential families: :math:`T = (x, x_i x_j)`, natural parameters from precision matrices.

Cumulants of two and three statistics that are quadratic in x, :math:`Q_a = x^\top A_a x + b_a^\top x`, follow from the
cumulant generating function of a quadratic form: with :math:`x = m + L z`, :math:`W = L^\top A L` and
:math:`w = L^\top (b + 2 A m)` they are :math:`2\,\mathrm{tr}\,W_a W_b + w_a\cdot w_b` and
:math:`8\,\mathrm{tr}\,W_a W_b W_c + 2 (w_a W_b w_c + w_a W_c w_b + w_b W_a w_c)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo._exponential import EXPONENTIAL_FAMILY, ExponentialFamily
from infogeo.families import (
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    LogNormal,
    LowRankGaussian,
    PointMass,
    SharedCovarianceGaussian,
)

LOG_2PI = float(np.log(2 * np.pi))


def _times(array: FloatArray, axes: int) -> FloatArray:
    """Room for an axis of times after the batch."""
    return np.expand_dims(array, array.ndim - axes)


def _mixed(a: FloatArray, b: FloatArray, t: FloatArray, axes: int) -> FloatArray:
    """(1 - t) a + t b, with the axis of times after the batch."""
    times = t.reshape(-1, *(1,) * axes)
    return np.asarray((1 - times) * _times(a, axes) + times * _times(b, axes))


# ------------------------------------------------------------------------------- one coordinate: theta = (m/v, -1/2v)


def _metric_1(m: FloatArray, v: FloatArray) -> FloatArray:
    mixed = 2 * m * v
    entries = [[v, mixed], [mixed, 2 * v**2 + 4 * m**2 * v]]
    return np.moveaxis(np.array(entries), (0, 1), (-2, -1))


def _cubic_1(m: FloatArray, v: FloatArray) -> FloatArray:
    zero, one, two, three = np.zeros_like(v), 2 * v**2, 8 * m * v**2, 8 * v**3 + 24 * m**2 * v**2
    entries = [[[zero, one], [one, two]], [[one, two], [two, three]]]
    return np.moveaxis(np.array(entries), (0, 1, 2), (-3, -2, -1))


def _log_partition_1(m: FloatArray, v: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (m**2 / v + np.log(v) + LOG_2PI))


Restore = Callable[[Any], Any]


def _standardize_1(p: LogNormal, q: LogNormal) -> tuple[LogNormal, LogNormal, Restore]:
    scale = np.sqrt(p.var)
    apart = LogNormal((q.mean - p.mean) / scale, q.var / p.var)
    return LogNormal(np.zeros(()), np.ones(())), apart, lambda x: LogNormal(p.mean + scale * x.mean, x.var * p.var)


LOG_NORMAL = ExponentialFamily(
    natural=lambda p: np.stack(np.broadcast_arrays(p.mean / p.var, -0.5 / p.var), axis=-1),
    expectation=lambda p: np.stack(np.broadcast_arrays(p.mean, p.var + p.mean**2), axis=-1),
    log_partition=lambda p: _log_partition_1(p.mean, p.var),
    metric=lambda p: _metric_1(p.mean, p.var),
    cubic=lambda p: _cubic_1(p.mean, p.var),
    from_natural=lambda like, x: LogNormal(-0.5 * x[..., 0] / x[..., 1], -0.5 / x[..., 1]),
    natural_domain=lambda like, x: x[..., 1] < 0,
    natural_wanted="(m/v, -1/(2v)) with the second entry negative",
    from_expectation=lambda like, y: LogNormal(y[..., 0], y[..., 1] - y[..., 0] ** 2),
    expectation_domain=lambda like, y: y[..., 1] > y[..., 0] ** 2,
    expectation_wanted="(E log x, E log^2 x) with the second entry above the square of the first",
    mixture=lambda p, q, t: LogNormal(
        _mixed(p.mean, q.mean, t, 0), _mixed(p.var, q.var, t, 0) + t * (1 - t) * _times(p.mean - q.mean, 0) ** 2
    ),
    standardize=_standardize_1,
)


# ---------------------------------------------------------------------------------------------------- diagonal normals


def _halves(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    d = x.shape[-1] // 2
    return x[..., :d], x[..., d:]


def _from_natural_diagonal(like: DiagonalGaussian, theta: FloatArray) -> DiagonalGaussian:
    first, second = _halves(theta)
    return DiagonalGaussian(-0.5 * first / second, -0.5 / second)


def _from_expectation_diagonal(like: DiagonalGaussian, eta: FloatArray) -> DiagonalGaussian:
    mean, square = _halves(eta)
    return DiagonalGaussian(mean, square - mean**2)


def _spread_out(blocks: FloatArray, axes: int) -> FloatArray:
    """Blocks (..., d, 2, 2[, 2]) of the coordinates as one array over the order means, then variances."""
    d = blocks.shape[-axes - 1]
    out = np.zeros((*blocks.shape[: -axes - 1], *(2 * d,) * axes))
    i = np.arange(d)
    for corner in np.ndindex(*(2,) * axes):
        out[(..., *(i + d * c for c in corner))] = blocks[(..., *corner)]
    return out


def _standardize_diagonal(
    p: DiagonalGaussian, q: DiagonalGaussian
) -> tuple[DiagonalGaussian, DiagonalGaussian, Restore]:
    scale = np.sqrt(p.var)
    standard = DiagonalGaussian(np.zeros_like(p.mean), np.ones_like(p.var))
    apart = DiagonalGaussian((q.mean - p.mean) / scale, q.var / p.var)
    return standard, apart, lambda x: DiagonalGaussian(p.mean + scale * x.mean, x.var * p.var)


DIAGONAL = ExponentialFamily(
    natural=lambda p: np.concatenate([p.mean / p.var, -0.5 / p.var], axis=-1),
    expectation=lambda p: np.concatenate([p.mean, p.var + p.mean**2], axis=-1),
    log_partition=lambda p: _log_partition_1(p.mean, p.var).sum(axis=-1),
    metric=lambda p: _spread_out(_metric_1(p.mean, p.var), 2),
    cubic=lambda p: _spread_out(_cubic_1(p.mean, p.var), 3),
    from_natural=_from_natural_diagonal,
    natural_domain=lambda like, x: (_halves(x)[1] < 0).all(axis=-1),
    natural_wanted="(m/v, -1/(2v)) with the entries of the second half negative",
    from_expectation=_from_expectation_diagonal,
    expectation_domain=lambda like, y: (_halves(y)[1] > _halves(y)[0] ** 2).all(axis=-1),
    expectation_wanted="(E x, E x^2) with each second moment above the square of its mean",
    mixture=lambda p, q, t: DiagonalGaussian(
        _mixed(p.mean, q.mean, t, 1),
        _mixed(p.var, q.var, t, 1) + (t * (1 - t))[:, None] * _times(p.mean - q.mean, 1) ** 2,
    ),
    standardize=_standardize_diagonal,
    factors=lambda p: DiagonalGaussian(p.mean[..., None], p.var[..., None]),
    assemble=lambda p: DiagonalGaussian(p.mean[..., 0].T, p.var[..., 0].T),
)


# --------------------------------------------------------------------------------------------------- isotropic normals


def _square(x: FloatArray) -> FloatArray:
    return np.asarray((x**2).sum(axis=-1))


def _with_last(vector: FloatArray, last: FloatArray) -> FloatArray:
    shape = np.broadcast_shapes(vector.shape[:-1], last.shape)
    parts = np.broadcast_to(vector, (*shape, vector.shape[-1])), np.broadcast_to(last, shape)[..., None]
    return np.concatenate(parts, axis=-1)


def _metric_isotropic(p: IsotropicGaussian) -> FloatArray:
    d, v = p.dimension, p.var
    out = np.zeros((*p.batch_shape, d + 1, d + 1))
    out[..., range(d), range(d)] = v[..., None]
    out[..., :d, d] = out[..., d, :d] = 2 * v[..., None] * p.mean
    out[..., d, d] = 2 * d * v**2 + 4 * v * _square(p.mean)
    return out


def _cubic_isotropic(p: IsotropicGaussian) -> FloatArray:
    d, v = p.dimension, p.var
    out, i = np.zeros((*p.batch_shape, d + 1, d + 1, d + 1)), np.arange(d)
    out[..., i, i, d] = out[..., i, d, i] = out[..., d, i, i] = 2 * v[..., None] ** 2
    out[..., i, d, d] = out[..., d, i, d] = out[..., d, d, i] = 8 * v[..., None] ** 2 * p.mean
    out[..., d, d, d] = 8 * d * v**3 + 24 * v**2 * _square(p.mean)
    return out


def _standardize_isotropic(
    p: IsotropicGaussian, q: IsotropicGaussian
) -> tuple[IsotropicGaussian, IsotropicGaussian, Restore]:
    scale = np.sqrt(p.var)
    standard = IsotropicGaussian(np.zeros_like(p.mean), 1.0)
    apart = IsotropicGaussian((q.mean - p.mean) / scale, q.var / p.var)
    return standard, apart, lambda x: IsotropicGaussian(p.mean + scale * x.mean, x.var * p.var)


ISOTROPIC = ExponentialFamily(
    natural=lambda p: _with_last(p.mean / p.var[..., None], -0.5 / p.var),
    expectation=lambda p: _with_last(p.mean, p.dimension * p.var + _square(p.mean)),
    log_partition=lambda p: 0.5 * (_square(p.mean) / p.var + p.dimension * (np.log(p.var) + LOG_2PI)),
    metric=_metric_isotropic,
    cubic=_cubic_isotropic,
    from_natural=lambda like, x: IsotropicGaussian(-0.5 * x[..., :-1] / x[..., -1:], -0.5 / x[..., -1]),
    natural_domain=lambda like, x: x[..., -1] < 0,
    natural_wanted="(m/v, -1/(2v)) with the last entry negative",
    from_expectation=lambda like, y: IsotropicGaussian(
        y[..., :-1], (y[..., -1] - _square(y[..., :-1])) / like.dimension
    ),
    expectation_domain=lambda like, y: y[..., -1] > _square(y[..., :-1]),
    expectation_wanted="(E x, E |x|^2) with the last entry above the squared length of the mean",
    mixture=lambda p, q, t: IsotropicGaussian(
        _mixed(p.mean, q.mean, t, 1),
        _mixed(p.var, q.var, t, 0) + t * (1 - t) * _times(_square(p.mean - q.mean), 0) / p.dimension,
    ),
    standardize=_standardize_isotropic,
)


# ------------------------------------------------------------------------------------------- full and centered normals


def lower_triangle(matrix: FloatArray, *, off_diagonal: float = 1.0) -> FloatArray:
    """Entries (..., d (d + 1) / 2) on and below the diagonal, row by row; those below it times ``off_diagonal``."""
    i, j = np.tril_indices(matrix.shape[-1])
    return np.asarray(matrix[..., i, j] * np.where(i == j, 1.0, off_diagonal))


def symmetric(x: FloatArray, d: int, *, off_diagonal: float = 1.0) -> FloatArray:
    """The symmetric matrix (..., d, d) whose :func:`lower_triangle` is x."""
    i, j = np.tril_indices(d)
    out = np.empty((*x.shape[:-1], d, d))
    out[..., i, j] = x / np.where(i == j, 1.0, off_diagonal)
    out[..., j, i] = out[..., i, j]
    return out


def _inverse(cov: FloatArray) -> FloatArray:
    scale = 1 / np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    outer = scale[..., :, None] * scale[..., None, :]
    inverse = np.linalg.inv(cov * outer) * outer
    return np.asarray(0.5 * (inverse + np.swapaxes(inverse, -1, -2)))


def _positive(matrix: FloatArray) -> Any:
    finite = np.asarray(np.isfinite(matrix).all(axis=(-2, -1)))
    return finite & (np.linalg.eigvalsh(np.where(finite[..., None, None], matrix, 0.0)).min(axis=-1) > 0)


def _precision_part(cov: FloatArray) -> FloatArray:
    return lower_triangle(-0.5 * _inverse(cov), off_diagonal=2.0)


def _covariance(theta: FloatArray, d: int) -> FloatArray:
    return _inverse(-2 * symmetric(theta, d, off_diagonal=2.0))


def _half_log_det(p: Any) -> FloatArray:
    return np.asarray(np.log(np.diagonal(p.cholesky, axis1=-2, axis2=-1)).sum(axis=-1) + 0.5 * p.dimension * LOG_2PI)


def _outer(x: FloatArray) -> FloatArray:
    return np.asarray(x[..., :, None] * x[..., None, :])


def _forms(p: Any, *, means: bool) -> tuple[FloatArray, FloatArray]:
    """W (..., n, d, d) and w (..., n, d) of the statistics, see the head of this module."""
    d, factor = p.dimension, p.cholesky
    i, j = np.tril_indices(d)
    k = np.arange(len(i))
    squares = np.zeros((len(i), d, d))
    squares[k, i, j] += 0.5
    squares[k, j, i] += 0.5
    across = np.swapaxes(factor, -1, -2)[..., None, :, :]
    w2 = across @ squares @ factor[..., None, :, :]
    if not means:
        return w2, np.zeros(w2.shape[:-1])
    w1 = 2 * (across @ (squares @ p.mean[..., None, :, None]))[..., 0]
    zeros = np.zeros((*w2.shape[:-3], d, d, d))
    return np.concatenate([zeros, w2], axis=-3), np.concatenate([factor, w1], axis=-2)


def _metric_forms(forms: tuple[FloatArray, FloatArray]) -> FloatArray:
    big, small = forms
    flat = big.reshape(*big.shape[:-2], -1)
    return np.asarray(2 * flat @ np.swapaxes(flat, -1, -2) + small @ np.swapaxes(small, -1, -2))


def _cubic_forms(forms: tuple[FloatArray, FloatArray]) -> FloatArray:
    big, small = forms
    n, d = small.shape[-2:]
    products = (big[..., :, None, :, :] @ big[..., None, :, :, :]).reshape(*small.shape[:-2], n * n, d * d)
    traces = 8 * products @ np.swapaxes(big.reshape(*small.shape[:-2], n, d * d), -1, -2)
    turned = (big @ np.swapaxes(small, -1, -2)[..., None, :, :]).reshape(*small.shape[:-2], n, d, n)
    mixed = 2 * np.einsum("...ai,...bic->...abc", small, turned)  # w_a W_b w_c
    total = traces.reshape(*small.shape[:-2], n, n, n) + mixed
    return np.asarray(total + np.swapaxes(mixed, -3, -2) + np.swapaxes(mixed, -2, -1))


def _from_natural_full(like: Gaussian, theta: FloatArray) -> Gaussian:
    d = like.dimension
    cov = _covariance(theta[..., d:], d)
    return Gaussian((cov @ theta[..., :d, None])[..., 0], cov)


def _from_expectation_full(like: Gaussian, eta: FloatArray) -> Gaussian:
    d = like.dimension
    return Gaussian(eta[..., :d], symmetric(eta[..., d:], d) - _outer(eta[..., :d]))


def _whitened(p: Any, cov: FloatArray) -> FloatArray:
    half = np.linalg.solve(p.cholesky, cov)
    whole = np.linalg.solve(p.cholesky, np.swapaxes(half, -1, -2))
    return np.asarray(0.5 * (whole + np.swapaxes(whole, -1, -2)))


def _colored(p: Any, cov: FloatArray) -> FloatArray:
    whole = p.cholesky @ cov @ p.cholesky.T
    return np.asarray(0.5 * (whole + np.swapaxes(whole, -1, -2)))


def _standardize_full(p: Gaussian, q: Gaussian) -> tuple[Gaussian, Gaussian, Restore]:
    standard = Gaussian(np.zeros_like(p.mean), np.eye(p.dimension))
    apart = Gaussian(np.linalg.solve(p.cholesky, q.mean - p.mean), _whitened(p, q.cov))
    return standard, apart, lambda x: Gaussian(p.mean + x.mean @ p.cholesky.T, _colored(p, x.cov))


def _standardize_centered(
    p: CenteredGaussian, q: CenteredGaussian
) -> tuple[CenteredGaussian, CenteredGaussian, Restore]:
    apart = CenteredGaussian(_whitened(p, q.cov))
    return CenteredGaussian(np.eye(p.dimension)), apart, lambda x: CenteredGaussian(_colored(p, x.cov))


FULL = ExponentialFamily(
    natural=lambda p: np.concatenate(
        [np.linalg.solve(p.cov, p.mean[..., None])[..., 0], _precision_part(p.cov)], axis=-1
    ),
    expectation=lambda p: np.concatenate([p.mean, lower_triangle(p.cov + _outer(p.mean))], axis=-1),
    log_partition=lambda p: 0.5 * _square(np.linalg.solve(p.cholesky, p.mean[..., None])[..., 0]) + _half_log_det(p),
    metric=lambda p: _metric_forms(_forms(p, means=True)),
    cubic=lambda p: _cubic_forms(_forms(p, means=True)),
    from_natural=_from_natural_full,
    natural_domain=lambda like, x: _positive(-symmetric(x[..., like.dimension :], like.dimension, off_diagonal=2.0)),
    natural_wanted="S^-1 m, then the lower triangle of -S^-1/2 (doubled off the diagonal) for a positive definite S",
    from_expectation=_from_expectation_full,
    expectation_domain=lambda like, y: _positive(
        symmetric(y[..., like.dimension :], like.dimension) - _outer(y[..., : like.dimension])
    ),
    expectation_wanted="E x, then the lower triangle of E x x', which must exceed the square of the mean",
    mixture=lambda p, q, t: Gaussian(
        _mixed(p.mean, q.mean, t, 1),
        _mixed(p.cov, q.cov, t, 2) + (t * (1 - t))[:, None, None] * _times(_outer(p.mean - q.mean), 2),
    ),
    standardize=_standardize_full,
)

CENTERED = ExponentialFamily(
    natural=lambda p: _precision_part(p.cov),
    expectation=lambda p: lower_triangle(p.cov),
    log_partition=_half_log_det,
    metric=lambda p: _metric_forms(_forms(p, means=False)),
    cubic=lambda p: _cubic_forms(_forms(p, means=False)),
    from_natural=lambda like, x: CenteredGaussian(_covariance(x, like.dimension)),
    natural_domain=lambda like, x: _positive(-symmetric(x, like.dimension, off_diagonal=2.0)),
    natural_wanted="the lower triangle of -S^-1/2 (doubled off the diagonal) for a positive definite S",
    from_expectation=lambda like, y: CenteredGaussian(symmetric(y, like.dimension)),
    expectation_domain=lambda like, y: _positive(symmetric(y, like.dimension)),
    expectation_wanted="the lower triangle of a positive definite matrix",
    standardize=_standardize_centered,
)


# -------------------------------------------------------------------------------------- normals with a fixed covariance


def _fixed_metric(p: SharedCovarianceGaussian) -> FloatArray:
    return np.broadcast_to(p.cov, (*p.batch_shape, *p.cov.shape)).copy()


SHARED = ExponentialFamily(
    natural=lambda p: np.linalg.solve(p.cov, p.mean[..., None])[..., 0],
    expectation=lambda p: p.mean.copy(),
    log_partition=lambda p: 0.5 * _square(np.linalg.solve(p.cholesky, p.mean[..., None])[..., 0]),
    metric=_fixed_metric,
    cubic=lambda p: np.zeros((*p.batch_shape, *(p.dimension,) * 3)),
    from_natural=lambda like, x: SharedCovarianceGaussian(x @ like.cov, like.cov),
    natural_domain=lambda like, x: np.ones(x.shape[:-1], dtype=bool),
    natural_wanted="any vector",
    from_expectation=lambda like, y: SharedCovarianceGaussian(y, like.cov),
    expectation_domain=lambda like, y: np.ones(y.shape[:-1], dtype=bool),
    expectation_wanted="any vector",
    alpha_geodesic=lambda p, q, t, alpha: SharedCovarianceGaussian(_mixed(p.mean, q.mean, t, 1), p.cov),
)

for _family, _record in (
    (LogNormal, LOG_NORMAL),
    (DiagonalGaussian, DIAGONAL),
    (IsotropicGaussian, ISOTROPIC),
    (Gaussian, FULL),
    (CenteredGaussian, CENTERED),
    (SharedCovarianceGaussian, SHARED),
):
    EXPONENTIAL_FAMILY.register(_family)(lambda p, record=_record: record)

EXPONENTIAL_FAMILY.refuse(
    LowRankGaussian, "low rank plus a diagonal is a curved part of the family of all normals; convert with to_full()"
)
EXPONENTIAL_FAMILY.refuse(PointMass, "a point mass has no density")
