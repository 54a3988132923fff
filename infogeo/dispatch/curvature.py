"""Curvature of the families: constants, products, and what follows from the third cumulants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo._exponential import structure
from infogeo.curvature import SCALAR_CURVATURE, SECTIONAL_CURVATURE
from infogeo.families import (
    Bernoulli,
    Binomial,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Exponential,
    Family,
    Gaussian,
    Geometric,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    LowRankGaussian,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    Weibull,
)
from infogeo.families.gamma_family import Beta, Dirichlet, Gamma
from infogeo.families.von_mises_fisher import VonMisesFisher

# --------------------------------------------------------------------------------------------------- constant curvature

CONSTANT: dict[type[Family], Callable[[Any], float]] = {
    Categorical: lambda p: 0.25,
    Multinomial: lambda p: 0.25 / p.trials,
    IsotropicGaussian: lambda p: -0.5 / p.dimension,
    LogNormal: lambda p: -0.5,
    InverseGaussian: lambda p: -0.5,
    # log x has a location and a scale s; in a metric (a du^2 + c ds^2) / s^2, with u freed of its mixed term with s,
    # the curvature is -1/c, and c = pi^2/6 for the Gumbel distribution
    Weibull: lambda p: -6 / np.pi**2,
    **dict.fromkeys((Bernoulli, Binomial, Geometric, Poisson, Exponential), lambda p: 0.0),
}


def _sectional_constant(p: Any, v: FloatArray, w: FloatArray) -> FloatArray:
    shape = np.broadcast_shapes(p.batch_shape, v.shape[:-1], w.shape[:-1])
    return np.full(shape, CONSTANT[type(p)](p))


def _scalar_constant(p: Any) -> FloatArray:
    n = p.coordinate_size
    return np.full(p.batch_shape, n * (n - 1) * CONSTANT[type(p)](p))


SECTIONAL_CURVATURE.register(*CONSTANT)(_sectional_constant)
SCALAR_CURVATURE.register(*CONSTANT)(_scalar_constant)


# -------------------------------------------------------------------------------------------------------------- normals


@SECTIONAL_CURVATURE.register(DiagonalGaussian)
def _sectional_diagonal(p: DiagonalGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    """-1/2 times the squared area that the two span in each plane (m_i, v_i), of metric dm^2/v + dv^2/(2 v^2)."""
    p, _ = structure(p, "sectional_curvature")
    a, b = p.split(v), p.split(w)
    s = np.sqrt(p.var)
    area = a["mean"] / s * (b["var"] / p.var) - a["var"] / p.var * (b["mean"] / s)
    return np.asarray(-0.25 * (area**2).sum(axis=-1))


SCALAR_CURVATURE.register(DiagonalGaussian)(lambda p: np.full(p.batch_shape, -float(p.dimension)))


def _whiten(p: Any, matrix: FloatArray) -> FloatArray:
    half = np.linalg.solve(p.cholesky, matrix)
    whole = np.linalg.solve(p.cholesky, np.swapaxes(half, -1, -2))
    return np.asarray(0.5 * (whole + np.swapaxes(whole, -1, -2)))


@SECTIONAL_CURVATURE.register(CenteredGaussian)
def _sectional_centered(p: CenteredGaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    p, _ = structure(p, "sectional_curvature")
    a, b = (_whiten(p, p.split(x)["cov"]) for x in (v, w))
    commutator = a @ b - b @ a  # antisymmetric: the trace of its square is minus its squared length
    # for orthonormal a and b, tr a^2 tr b^2 - (tr ab)^2 = 4
    return np.asarray(-0.125 * (commutator**2).sum(axis=(-2, -1)))


@SCALAR_CURVATURE.register(CenteredGaussian)
def _scalar_centered(p: CenteredGaussian) -> FloatArray:
    d = p.dimension
    return np.full(p.batch_shape, -0.25 * d * (d - 1) * (d + 2))


Form = tuple[FloatArray, FloatArray]
"""Symmetric A (..., d, d) and a (..., d): the score z'Az + a'z - tr A of a velocity, for z standard normal."""


def _third(x: Form, y: Form) -> Form:
    """The velocity whose inner product with every other is the third moment of the scores."""
    (a, p), (b, q) = x, y
    product = a @ b
    outer = p[..., :, None] * q[..., None, :]
    square = 2 * product + 0.5 * outer
    linear = 2 * (a @ q[..., None] + b @ p[..., None])[..., 0]
    return np.asarray(square + np.swapaxes(square, -1, -2)), np.asarray(linear)


def _inner(x: Form, y: Form) -> FloatArray:
    return np.asarray(2 * (x[0] * y[0]).sum(axis=(-2, -1)) + (x[1] * y[1]).sum(axis=-1))


@SECTIONAL_CURVATURE.register(Gaussian)
def _sectional_full(p: Gaussian, v: FloatArray, w: FloatArray) -> FloatArray:
    p, _ = structure(p, "sectional_curvature")

    def score(velocity: FloatArray) -> Form:
        parts = p.split(velocity)
        return 0.5 * _whiten(p, parts["cov"]), np.linalg.solve(p.cholesky, parts["mean"][..., None])[..., 0]

    x, y = score(v), score(w)
    mixed = _third(x, y)
    return np.asarray(0.25 * (_inner(mixed, mixed) - _inner(_third(x, x), _third(y, y))))


@SCALAR_CURVATURE.register(Gaussian)
def _scalar_full(p: Gaussian) -> FloatArray:
    d = p.dimension
    return np.full(p.batch_shape, -0.25 * d * (d + 1) ** 2)


# ---------------------------------------------------------------------------------- Hessian metrics, from their tensors


def _sectional_hessian(p: Any, v: FloatArray, w: FloatArray) -> FloatArray:
    p, record = structure(p, "sectional_curvature")
    if isinstance(p, Gamma):
        v, w = v * [1.0, -1.0], w * [1.0, -1.0]  # theta = (shape, -rate); in the other families theta = coordinates
    cubic, metric = record.cubic(p), record.metric(p)

    def third(x: FloatArray, y: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("...ijk,...i,...j->...k", cubic, x, y, optimize=True))

    def inner(x: FloatArray, y: FloatArray) -> FloatArray:
        return np.asarray((x * np.linalg.solve(metric, y[..., None])[..., 0]).sum(axis=-1))

    mixed = third(v, w)
    return np.asarray(0.25 * (inner(mixed, mixed) - inner(third(v, v), third(w, w))))


def _scalar_hessian(p: Any) -> FloatArray:
    p, record = structure(p, "scalar_curvature")
    root = np.linalg.inv(np.linalg.cholesky(record.metric(p)))  # rows: an orthonormal frame of covectors
    frame = np.swapaxes(root, -1, -2)[..., None, :, :]
    tensor = record.cubic(p)
    for _ in range(3):  # one axis after the other, each moved to the front
        tensor = np.moveaxis(tensor @ frame, -1, -3)
    trace = np.trace(tensor, axis1=-2, axis2=-1)
    return np.asarray(0.25 * ((tensor**2).sum(axis=(-3, -2, -1)) - (trace**2).sum(axis=-1)))


HESSIAN = (Gamma, Beta, Dirichlet, VonMisesFisher)
SECTIONAL_CURVATURE.register(*HESSIAN)(_sectional_hessian)
SCALAR_CURVATURE.register(*HESSIAN)(_scalar_hessian)


for _operation in (SECTIONAL_CURVATURE, SCALAR_CURVATURE):
    _operation.refuse(
        SharedCovarianceGaussian,
        "with the covariance held fixed its manifold is flat; for the curvature among all normals convert the members "
        "with to_full()",
    )
    _operation.refuse(LowRankGaussian, "its members are measured among all normals; convert them with to_full()")
    _operation.refuse(PointMass, "a point mass has no density, and so no Fisher metric")
