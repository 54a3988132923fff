"""One-parameter families: their manifold is a line, and the chart in which the metric is one measures all distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.distances import fisher_rao_distance
from infogeo.errors import DomainError
from infogeo.families import Family
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, INNER_PRODUCT, LOGARITHM_MAP


@dataclass(frozen=True)
class Line:
    r"""A chart :math:`\varphi` of a one-parameter family in which the Fisher metric is :math:`d\varphi^2`."""

    gap: Callable[[Any, Any], FloatArray]
    r"""(p, q) to :math:`\varphi(q) - \varphi(p)`, from differences, so that close members keep their digits"""
    speed: Callable[[Any], FloatArray]
    r"""(p) to the derivative :math:`\varphi'` by the parameter, infinite where the line ends"""
    move: Callable[[Any, FloatArray], FloatArray]
    """(p, step) to the parameter a step further in the chart, NaN beyond an end of the line"""


def register_line(family: type[Family], line: Line, *, scratch: int) -> None:
    """Register distance, metric, exponential and logarithm map and geodesics of a family that is a line."""

    def gap(p: Any, q: Any) -> FloatArray:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            value = line.gap(p, q)
        if not np.isfinite(value).all():
            raise DomainError(f"{family.__name__}: two members are too far apart for float64; choose other units")
        return value

    def distance(p: Any, q: Any) -> FloatArray:
        return np.abs(gap(p, q))

    def speed(p: Any) -> FloatArray:
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            value = line.speed(p)
        if not np.isfinite(value).all():
            raise DomainError(
                f"{family.__name__}: the Fisher metric is infinite at a member of the batch, which lies at the end of "
                "the manifold (or out of the range of float64); distances and geodesics are defined there, "
                "velocities are not"
            )
        return value

    def information(p: Any) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            value = speed(p) ** 2
        if not (np.isfinite(value).all() and (value > 0).all()):
            raise DomainError(f"{family.__name__}: the Fisher information is out of the range of float64")
        return np.asarray(value[..., None, None])

    def inner_product(p: Any, v: FloatArray, w: FloatArray) -> FloatArray:
        size = speed(p)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray((v[..., 0] * size) * (w[..., 0] * size))

    def exponential(p: Any, velocity: FloatArray) -> Any:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            end = line.move(p, velocity[..., 0] * speed(p))
        if not np.isfinite(end).all():
            raise DomainError(
                f"velocity: the geodesic leaves the manifold of {family.__name__}, or the range of float64, before "
                "unit time; take a shorter velocity"
            )
        return p.with_coordinates(end[..., None])

    def logarithm(p: Any, q: Any) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            velocity = np.asarray((gap(p, q) / speed(p))[..., None])
        if not np.isfinite(velocity).all():
            raise DomainError(f"{family.__name__}: the velocity is out of the range of float64; choose other units")
        return velocity

    def geodesic(p: Any, q: Any, t: FloatArray) -> Any:
        length = gap(p, q)[..., None]
        # each half from its own end, so that both ends are met
        near, far = line.move(p[..., None], t * length), line.move(q[..., None], (t - 1) * length)
        return p.with_coordinates(np.where(t <= 0.5, near, far)[..., None])

    fisher_rao_distance.register(family, scratch=scratch)(distance)
    FISHER_INFORMATION.register(family)(information)
    INNER_PRODUCT.register(family)(inner_product)
    EXPONENTIAL_MAP.register(family)(exponential)
    LOGARITHM_MAP.register(family)(logarithm)
    GEODESIC.register(family)(geodesic)
