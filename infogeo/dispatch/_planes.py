r"""Two-parameter families whose manifold is, up to a factor, the Fisher half-plane or a convex part of it.

A chart takes a member to a point (m, s), in which the metric is :math:`c^2 (dm^2 + 2\,ds^2)/s^2`; the formulas are
those of :mod:`infogeo.manifolds.half_plane`, with all differences formed from the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo import _kernels
from infogeo._checks import FloatArray
from infogeo.distances import fisher_rao_distance
from infogeo.errors import DomainError
from infogeo.families import Family
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, INNER_PRODUCT, LOGARITHM_MAP
from infogeo.manifolds import half_plane

SQRT2 = 2.0**0.5


@dataclass(frozen=True)
class Plane:
    """A chart of a two-parameter family to the Fisher half-plane."""

    factor: float
    """c, by which lengths exceed those in the half-plane"""
    height: Callable[[Any], FloatArray]
    """(p) to s"""
    gap: Callable[[Any, Any], tuple[FloatArray, FloatArray]]
    """(p, q) to the differences of m and of s, q less p, to full relative precision"""
    rates: Callable[[Any, FloatArray], FloatArray]
    """(p, rates of the coordinates) to the rates of (m, s), divided by s"""
    unrates: Callable[[Any, FloatArray], FloatArray]
    """the inverse of ``rates`` in its second argument"""
    move: Callable[[Any, FloatArray, FloatArray], FloatArray]
    """(p, change of m divided by s, quotient of the new s and s) to coordinates, NaN where the manifold ends"""


def register_plane(family: type[Family], plane: Plane, *, scratch: int) -> None:
    """Register distance, metric, exponential and logarithm map and geodesics of a family that is a half-plane."""

    def half_plane_distance(p: Any, q: Any) -> FloatArray:
        with np.errstate(all="ignore"):
            across, up = plane.gap(p, q)
            zero, height, other = np.zeros_like(across), plane.height(p), plane.height(q)
            value = _kernels.half_plane_distances(zero, across, height, other, up)
        return finite(value, height, other)

    def finite(value: FloatArray, *others: FloatArray) -> FloatArray:
        if not all(np.isfinite(x).all() for x in (value, *others)):
            raise DomainError(f"{family.__name__}: the parameters are too extreme for float64; choose other units")
        return np.asarray(value)

    def frame(p: Any, velocity: FloatArray) -> FloatArray:
        """Velocities in an orthonormal frame at p."""
        with np.errstate(all="ignore"):
            return finite(plane.factor * np.array([1.0, SQRT2]) * plane.rates(p, velocity))

    def information(p: Any) -> FloatArray:
        first, second = frame(p, np.array([1.0, 0.0])), frame(p, np.array([0.0, 1.0]))
        columns = np.stack([first, second], axis=-1)
        with np.errstate(over="ignore", under="ignore"):
            value = (columns[..., :, None] * columns[..., None, :]).sum(axis=-3)
        if not (np.isfinite(value).all() and (np.diagonal(value, axis1=-2, axis2=-1) > 0).all()):
            raise DomainError(f"{family.__name__}: the Fisher information is out of the range of float64")
        return np.asarray(value)

    def direction(p: Any, q: Any) -> FloatArray:
        """Velocity at p towards q as rates of (m, s) divided by s, as :func:`infogeo.manifolds.half_plane.log`."""
        with np.errstate(all="ignore"):
            height = plane.height(p)
            across, up = plane.gap(p, q)
            u, rise, v = across / (SQRT2 * height), up / height, plane.height(q) / height
            scale = np.maximum(1.0, np.maximum(np.abs(u), v))
            side, ahead = u / scale, 0.5 * (u / scale * u + rise / scale * (v + 1))
            size = np.hypot(side, ahead)
            length = half_plane_distance(p, q) / SQRT2 / np.where(size > 0, size, 1.0)
            return finite(np.stack([SQRT2 * side * length, ahead * length], axis=-1))

    def follow(p: Any, rates: FloatArray) -> FloatArray:
        end = half_plane.exp(np.array([0.0, 1.0]), rates)
        with np.errstate(all="ignore"):
            return plane.move(p, end[..., 0], end[..., 1])

    def inner_product(p: Any, v: FloatArray, w: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray((frame(p, v) * frame(p, w)).sum(axis=-1))

    def exponential(p: Any, velocity: FloatArray) -> Any:
        end = follow(p, frame(p, velocity) / (plane.factor * np.array([1.0, SQRT2])))
        if not np.isfinite(end).all():
            raise DomainError(
                f"velocity: the geodesic leaves the manifold of {family.__name__}, or the range of float64, before "
                "unit time; take a shorter velocity"
            )
        return p.with_coordinates(end)

    def logarithm(p: Any, q: Any) -> FloatArray:
        with np.errstate(all="ignore"):
            return finite(plane.unrates(p, direction(p, q)))

    def geodesic(p: Any, q: Any, t: FloatArray) -> Any:
        there, back = direction(p, q)[..., None, :], direction(q, p)[..., None, :]
        s = t[:, None]
        # each half from its own end, so that both ends are met
        near = follow(p[..., None], np.minimum(s, 0.5) * there)
        far = follow(q[..., None], np.minimum(1 - s, 0.5) * back)
        return p.with_coordinates(finite(np.where(s <= 0.5, near, far)))

    @fisher_rao_distance.register(family, scratch=scratch)
    def distance(p: Any, q: Any) -> FloatArray:
        return np.asarray(plane.factor * half_plane_distance(p, q))

    FISHER_INFORMATION.register(family)(information)
    INNER_PRODUCT.register(family)(inner_product)
    EXPONENTIAL_MAP.register(family)(exponential)
    LOGARITHM_MAP.register(family)(logarithm)
    GEODESIC.register(family)(geodesic)
