"""Normals with a full covariance each, among all normals: the exact distance and its geodesics."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import normal_geodesics
from infogeo._arrays import Array, requires_gradient, to_numpy, with_gradients
from infogeo._checks import FloatArray
from infogeo.distances import fisher_rao_distance
from infogeo.families import Gaussian
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, INNER_PRODUCT, LOGARITHM_MAP
from infogeo.manifolds import gaussian as manifold


@fisher_rao_distance.register(Gaussian, scratch=normal_geodesics.SCRATCH)
def _fisher_rao_full(p: Gaussian, q: Gaussian) -> Array:
    """Exact, with the first variation as its gradient: the minimizer on the fibre is held fixed."""
    parameters = (p.mean, p.cov, q.mean, q.cov)
    wanted = requires_gradient(*parameters)
    parts = normal_geodesics.solve_all(p, q, gradients=wanted)
    shape = normal_geodesics.broadcast_shape(p, q)
    value = normal_geodesics.join([part.distance for part in parts], shape, p, q)
    if not wanted:
        return value
    slopes = [part.gradients for part in parts if part.gradients is not None]
    gradients = [normal_geodesics.join([s[i] for s in slopes], shape, p, q) for i in range(4)]
    return with_gradients(value, *zip(parameters, gradients, strict=True))


@FISHER_INFORMATION.register(Gaussian)
def _information(p: Gaussian) -> FloatArray:
    """Blocks of the mean, the inverse covariance, and of the covariance, from the inverse's products.

    A coordinate below the diagonal moves two entries, so that with precision P the information of (i, j) and (k, l) is
    :math:`(P_{ik} P_{jl} + P_{il} P_{jk}) / 2`, doubled for each of the two pairs that is off the diagonal.
    """
    d = p.dimension
    factor = to_numpy(p.cholesky)
    half = np.linalg.solve(factor, np.broadcast_to(np.eye(d), factor.shape))
    precision = np.swapaxes(half, -1, -2) @ half
    i, j = np.tril_indices(d)
    straight = precision[..., i[:, None], i] * precision[..., j[:, None], j]
    crossed = precision[..., i[:, None], j] * precision[..., j[:, None], i]
    twice = np.where(i == j, 1.0, 2.0)
    matrix = np.zeros((*precision.shape[:-2], d + len(i), d + len(i)))
    matrix[..., :d, :d] = precision
    matrix[..., d:, d:] = (straight + crossed) / 4 * twice[:, None] * twice
    return np.asarray((matrix + np.swapaxes(matrix, -1, -2)) / 2)


@INNER_PRODUCT.register(Gaussian)
def _inner_product(p: Gaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    (x, b), (y, c) = (manifold.whitened_velocity(p, *_parts(p, u)) for u in (v, w))
    return np.asarray((x * y).sum(axis=-1) + (b * c).sum(axis=(-2, -1)) / 2)


@EXPONENTIAL_MAP.register(Gaussian)
def _exponential(p: Gaussian, velocity: FloatArray) -> Gaussian:
    return Gaussian(*manifold.exp(_point(p), _parts(p, velocity)))


@LOGARITHM_MAP.register(Gaussian)
def _logarithm(p: Gaussian, q: Gaussian) -> FloatArray:
    mean, cov = manifold.log(_point(p), _point(q))
    return np.asarray(p.join(mean=mean, cov=cov))


@GEODESIC.register(Gaussian)
def _geodesic(p: Gaussian, q: Gaussian, t: FloatArray) -> Gaussian:
    return Gaussian(*manifold.geodesic(_point(p), _point(q), t))


def _point(p: Gaussian) -> tuple[Any, Any]:
    return p.mean, p.cov


def _parts(p: Gaussian, velocity: FloatArray) -> tuple[FloatArray, FloatArray]:
    parts = p.split(velocity)
    return parts["mean"], parts["cov"]
