r"""Geometry of the special normals: diagonal, isotropic, centered, and with one covariance for all.

The operations compute with NumPy: a tensor on the host is read as an array and comes back as one, a tensor that records
a gradient or lives on another device is refused. The measures take tensors and pass gradients; those of
:class:`CenteredGaussian` are here, those of :class:`IsotropicGaussian` in the module ``isotropic``.

Coordinates hold variances where the manifolds of univariate normals hold standard deviations; their rates of change are
:math:`\dot v = 2\sigma\dot\sigma`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo._arrays import Array, as_result, detached, length, namespace, requires_gradient, with_gradients
from infogeo._checks import FloatArray, as_float_array
from infogeo._spd import joint_spectrum, log_ratios, transposed
from infogeo.distances import bures_wasserstein_distance, fisher_rao_distance, hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.errors import DomainError
from infogeo.families import (
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    SharedCovarianceGaussian,
)
from infogeo.families.gaussian import solve_lower
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, INNER_PRODUCT, LOGARITHM_MAP
from infogeo.manifolds import half_plane, half_space, spd


def _numbers(p: Any, *names: str) -> tuple[FloatArray, ...]:
    return tuple(as_float_array(name, getattr(p, name)) for name in names)


def _in_range(operation: str, values: FloatArray, *, positive: bool = False) -> FloatArray:
    if not np.isfinite(values).all() or (positive and not (values > 0).all()):
        raise DomainError(
            f"{operation}: the result leaves the range of float64; choose another unit for the vectors, or a shorter "
            "velocity"
        )
    return values


def _diagonal_matrix(values: FloatArray) -> FloatArray:
    return np.asarray(values[..., None] * np.eye(values.shape[-1]))


# --------------------------------------------------------------------------- diagonal normals: a product of half-planes


@FISHER_INFORMATION.register(DiagonalGaussian)
def _information_diagonal(p: DiagonalGaussian) -> FloatArray:
    (var,) = _numbers(p, "var")
    with np.errstate(over="ignore"):
        values = np.concatenate([1 / var, 0.5 / var / var], axis=-1)
    return _diagonal_matrix(_in_range("fisher_information", values))


@INNER_PRODUCT.register(DiagonalGaussian)
def _inner_diagonal(p: DiagonalGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    (var,), a, b = _numbers(p, "var"), p.split(v), p.split(w)
    std = np.sqrt(var)
    means, variances = a["mean"] / std * (b["mean"] / std), a["var"] / var * (b["var"] / var)
    return np.asarray((means + variances / 2).sum(axis=-1))


@EXPONENTIAL_MAP.register(DiagonalGaussian)
def _exp_diagonal(p: DiagonalGaussian, velocity: FloatArray) -> DiagonalGaussian:
    x, rate = _half_plane_points(p), p.split(velocity)
    speed = np.stack(np.broadcast_arrays(rate["mean"], rate["var"] / (2 * x[..., 1])), axis=-1)
    end = half_plane.exp(x, speed)
    return DiagonalGaussian(end[..., 0], _squared("exponential_map", end[..., 1]))


@LOGARITHM_MAP.register(DiagonalGaussian)
def _log_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    (mean, var), (other_mean, other_var) = _numbers(p, "mean", "var"), _numbers(q, "mean", "var")
    std, other = np.sqrt(var), np.sqrt(other_var)
    shift, rise = half_plane.difference(other_mean, mean), (other_var - var) / (std + other)
    velocity = half_plane.velocity_to(shift, std, other, rise)
    return np.asarray(p.join(mean=velocity[..., 0], var=2 * std * velocity[..., 1]))


@GEODESIC.register(DiagonalGaussian)
def _geodesic_diagonal(p: DiagonalGaussian, q: DiagonalGaussian, t: FloatArray) -> DiagonalGaussian:
    path = np.moveaxis(half_plane.geodesic(_half_plane_points(p), _half_plane_points(q), t), -2, -3)
    return DiagonalGaussian(path[..., 0], _squared("geodesic", path[..., 1]))


def _half_plane_points(p: DiagonalGaussian) -> FloatArray:
    mean, var = _numbers(p, "mean", "var")
    return np.stack([mean, np.sqrt(var)], axis=-1)


def _squared(operation: str, std: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        return _in_range(operation, std**2, positive=True)


# ----------------------------------------------------------------------------------- isotropic normals: the half-space


@FISHER_INFORMATION.register(IsotropicGaussian)
def _information_isotropic(p: IsotropicGaussian) -> FloatArray:
    (var,), d = _numbers(p, "var"), p.dimension
    with np.errstate(over="ignore"):
        values = np.concatenate([np.repeat(1 / var[..., None], d, axis=-1), (d / 2 / var / var)[..., None]], axis=-1)
    return _diagonal_matrix(_in_range("fisher_information", values))


@INNER_PRODUCT.register(IsotropicGaussian)
def _inner_isotropic(p: IsotropicGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    (var,), a, b = _numbers(p, "var"), p.split(v), p.split(w)
    std = np.sqrt(var)[..., None]
    means = (a["mean"] / std * (b["mean"] / std)).sum(axis=-1)
    return np.asarray(means + p.dimension / 2 * (a["var"] / var) * (b["var"] / var))


@EXPONENTIAL_MAP.register(IsotropicGaussian)
def _exp_isotropic(p: IsotropicGaussian, velocity: FloatArray) -> IsotropicGaussian:
    x, rate = _half_space_point(p), p.split(velocity)
    speed = rate["var"] / (2 * x[..., -1])
    mean = np.broadcast_to(rate["mean"], (*speed.shape, p.dimension))
    end = half_space.exp(x, np.concatenate([mean, speed[..., None]], axis=-1))
    return IsotropicGaussian(end[..., :-1], _squared("exponential_map", end[..., -1]))


@LOGARITHM_MAP.register(IsotropicGaussian)
def _log_isotropic(p: IsotropicGaussian, q: IsotropicGaussian) -> FloatArray:
    (mean, var), (other_mean, other_var) = _numbers(p, "mean", "var"), _numbers(q, "mean", "var")
    std, other = np.sqrt(var), np.sqrt(other_var)
    shift, rise = half_plane.difference(other_mean, mean), (other_var - var) / (std + other)
    velocity = half_space.velocity_to(shift, std, other, rise)
    return np.asarray(p.join(mean=velocity[..., :-1], var=2 * std * velocity[..., -1]))


@GEODESIC.register(IsotropicGaussian)
def _geodesic_isotropic(p: IsotropicGaussian, q: IsotropicGaussian, t: FloatArray) -> IsotropicGaussian:
    path = half_space.geodesic(_half_space_point(p), _half_space_point(q), t)
    return IsotropicGaussian(path[..., :-1], _squared("geodesic", path[..., -1]))


def _half_space_point(p: IsotropicGaussian) -> FloatArray:
    mean, var = _numbers(p, "mean", "var")
    return np.concatenate([mean, np.sqrt(var)[..., None]], axis=-1)


# -------------------------------------------------------------------- centered normals: positive definite matrices


@FISHER_INFORMATION.register(CenteredGaussian)
def _information_centered(p: CenteredGaussian) -> FloatArray:
    (factor,) = _numbers(p, "cholesky")
    with np.errstate(over="ignore", invalid="ignore"):
        return _in_range("fisher_information", covariance_information(factor))


def covariance_information(factor: FloatArray) -> FloatArray:
    r"""Fisher information of a covariance in the coordinates of its lower triangle, from its Cholesky factor.

    With the precision P it is :math:`c_{ij} c_{kl} (P_{ik} P_{jl} + P_{il} P_{jk})`, where c is 1 off the diagonal and
    1/2 on it: :math:`\tfrac12 \mathrm{tr}\,(P E_{ij} P E_{kl})` with the symmetric matrices E that a unit rate of the
    coordinate stands for.
    """
    d = factor.shape[-1]
    whitening = np.linalg.solve(factor, np.eye(d))
    precision = np.swapaxes(whitening, -1, -2) @ whitening
    i, j = np.tril_indices(d)
    weight = np.where(i == j, 0.5, 1.0)

    def part(a: Any, b: Any) -> FloatArray:
        return np.asarray(precision[..., a[:, None], b[None, :]])

    return np.asarray(weight[:, None] * weight * (part(i, i) * part(j, j) + part(i, j) * part(j, i)))


@INNER_PRODUCT.register(CenteredGaussian)
def _inner_centered(p: CenteredGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    (factor,) = _numbers(p, "cholesky")
    a, b = (spd.whitened(factor, p.split(x)["cov"]) for x in (v, w))
    return np.asarray((a * b).sum(axis=(-2, -1)) / 2)


@EXPONENTIAL_MAP.register(CenteredGaussian)
def _exp_centered(p: CenteredGaussian, velocity: FloatArray) -> CenteredGaussian:
    return CenteredGaussian(spd.exp(_cov(p), p.split(velocity)["cov"]))


@LOGARITHM_MAP.register(CenteredGaussian)
def _log_centered(p: CenteredGaussian, q: CenteredGaussian) -> FloatArray:
    return np.asarray(p.join(cov=spd.log(_cov(p), _cov(q))))


@GEODESIC.register(CenteredGaussian)
def _geodesic_centered(p: CenteredGaussian, q: CenteredGaussian, t: FloatArray) -> CenteredGaussian:
    return CenteredGaussian(spd.geodesic(_cov(p), _cov(q), t))


def _cov(p: CenteredGaussian) -> FloatArray:
    return _numbers(p, "cov")[0]


@fisher_rao_distance.register(CenteredGaussian, scratch=30)
def _fisher_rao_centered(p: CenteredGaussian, q: CenteredGaussian) -> Array:
    sides = [detached(x) for x in (p.cov, p.cholesky, q.cov, q.cholesky)]
    if not requires_gradient(p.cov, q.cov):
        return as_result(length(log_ratios(*sides)) / 2**0.5)
    # first variation: the gradient is the unit velocity away from the other end, turned into a covector
    basis, logs = joint_spectrum(*sides)
    xp = namespace(basis)
    value = length(logs) / 2**0.5
    unit = logs / 2 / xp.where(value > 0, value, xp.ones_like(value))[..., None]
    dual = xp.linalg.inv(basis)
    to_p = -transposed(dual) @ (unit[..., None] * dual)
    to_q = transposed(dual) @ ((unit * xp.exp(-logs))[..., None] * dual)
    return with_gradients(value, (p.cov, to_p), (q.cov, to_q))


def _register_centered() -> None:
    """The measures for which mean zero gains nothing are those of the full normals."""
    for measure in (
        kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance, bures_wasserstein_distance,
    ):  # fmt: skip
        full = measure.registration(Gaussian)

        def kernel(p: CenteredGaussian, q: CenteredGaussian, of: Any = full.kernel) -> Array:
            return of(p.to_full(), q.to_full())

        measure.register(CenteredGaussian, scratch=full.scratch + 10)(kernel)


_register_centered()


# ------------------------------------------------------------------------------- one covariance: among all normals


@FISHER_INFORMATION.register(SharedCovarianceGaussian)
def _information_shared(p: SharedCovarianceGaussian) -> FloatArray:
    (factor,) = _numbers(p, "cholesky")
    whitening = solve_lower(factor, np.eye(p.dimension)).T
    shape = (*p.batch_shape, p.dimension, p.dimension)
    return np.array(np.broadcast_to(_in_range("fisher_information", whitening.T @ whitening), shape))


@INNER_PRODUCT.register(SharedCovarianceGaussian)
def _inner_shared(p: SharedCovarianceGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    (factor,) = _numbers(p, "cholesky")
    values = (solve_lower(factor, v) * solve_lower(factor, w)).sum(axis=-1)
    return np.array(np.broadcast_to(values, np.broadcast_shapes(values.shape, p.batch_shape)))


@EXPONENTIAL_MAP.register(SharedCovarianceGaussian)
def _exp_shared(p: SharedCovarianceGaussian, velocity: FloatArray) -> Gaussian:
    """Where the covariance is the identity the geodesic is univariate, along the velocity; elsewhere by an affine map.

    There it starts from (0, 1) with a speed c, the length of the velocity, so that one unit of its mean is the
    velocity divided by c, and only the variance in that direction changes.
    """
    mean, cov, factor = _numbers(p, "mean", "cov", "cholesky")
    shape = np.broadcast_shapes(velocity.shape, mean.shape)
    mean, velocity = np.broadcast_to(mean, shape), np.broadcast_to(velocity, shape)
    speed = np.linalg.norm(solve_lower(factor, velocity), axis=-1)
    start = np.broadcast_to([0.0, 1.0], (*speed.shape, 2))
    end = half_plane.exp(start, np.stack([speed, np.zeros_like(speed)], axis=-1))
    return _along(mean, cov, velocity, speed, end[..., 0], (end[..., 1] - 1) * (end[..., 1] + 1))


@LOGARITHM_MAP.register(SharedCovarianceGaussian)
def _log_shared(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> FloatArray:
    (mean, cov, factor), (other,) = _numbers(p, "mean", "cov", "cholesky"), _numbers(q, "mean")
    shift = half_plane.difference(other, mean)
    apart = np.linalg.norm(solve_lower(factor, shift), axis=-1)
    one = np.ones_like(apart)
    velocity = half_plane.velocity_to(apart, one, one, np.zeros_like(apart))
    direction = shift / np.where(apart > 0, apart, 1.0)[..., None]
    spread = (2 * velocity[..., 1])[..., None, None] * direction[..., :, None] * direction[..., None, :]
    full = Gaussian(np.zeros(p.dimension), cov)
    return np.asarray(full.join(mean=velocity[..., :1] * direction, cov=spread))


@GEODESIC.register(SharedCovarianceGaussian)
def _geodesic_shared(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian, t: FloatArray) -> Gaussian:
    (mean, cov, factor), (other,) = _numbers(p, "mean", "cov", "cholesky"), _numbers(q, "mean")
    shift = half_plane.difference(other, mean)
    apart = np.linalg.norm(solve_lower(factor, shift), axis=-1)
    one = np.ones_like(apart)
    path = half_plane.geodesic(np.stack([0 * apart, one], axis=-1), np.stack([apart, one], axis=-1), t)
    excess = (path[..., 1] - 1) * (path[..., 1] + 1)
    # the second half is measured from the second end, so that both means are met
    mean, other, shift, apart = (a[..., None, :] for a in (mean, other, shift, apart[..., None]))
    apart = np.broadcast_to(apart[..., 0], path.shape[:-1])
    first = _along(mean, cov, shift, apart, path[..., 0], excess)
    second = _along(other, cov, -shift, apart, apart - path[..., 0], excess)
    return Gaussian(np.where((t <= 0.5)[:, None], first.mean, second.mean), first.cov)


def _along(
    mean: FloatArray, cov: FloatArray, vector: FloatArray, size: FloatArray, x: FloatArray, excess: FloatArray
) -> Gaussian:
    """Normals with the mean moved by x standard deviations along a vector, and the variance there grown by an excess.

    ``size`` is the length of the vector in standard deviations.
    """
    direction = vector / np.where(size > 0, size, 1.0)[..., None]
    outer = direction[..., :, None] * direction[..., None, :]
    return Gaussian(mean + x[..., None] * direction, cov + excess[..., None, None] * outer)
