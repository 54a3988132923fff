"""What the solver of :mod:`infogeo.manifolds.numerical` returns: geodesics of a batch of pairs, with certificates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, IntArray, as_float_array
from infogeo.errors import ConvergenceError, DomainError, ShapeError
from infogeo.manifolds._collocation import Curves, places


@dataclass(frozen=True, eq=False)
class GeodesicSolution:
    """Geodesics of a batch of pairs, with what is certain about their lengths. All arrays have the batch's shape."""

    distance: FloatArray
    """Square root of the energy of the curve, an upper bound of the distance up to :attr:`quadrature`"""
    lower: FloatArray
    """Lower bound of the distance; NaN for a metric that is not known to be without positive curvature"""
    upper: FloatArray
    """Upper bound: length of the curve, and what its quadrature leaves open. Both bounds leave room for rounding, 1e-14
    of the distance"""
    residual: FloatArray
    """Acceleration of the curve, in the L2 norm of the metric, over the distance; zero for a geodesic"""
    quadrature: FloatArray
    """Difference of two quadratures of the length, of orders 14 and 28"""
    iterations: IntArray
    """Steps of Newton's method, over all meshes"""
    elements: IntArray
    """Elements K of the last mesh"""
    converged: NDArray[np.bool_]
    """Whether the residual met the tolerance, and the quadratures agree to 1e-10"""
    tolerance: float
    """What the residual was asked to meet"""
    start: FloatArray
    """(..., n), first points in the chart"""
    nodes: FloatArray
    """(..., K + 1, n), displacements of the nodes from the start, at equal times"""
    accelerations: FloatArray
    """(..., K, 7, n), second derivatives in time at the Gauss points of the elements"""

    def displacements(self, t: ArrayLike) -> FloatArray:
        """Displacements from the start, in the chart, at times (T,) from 0 to 1: shape (..., T, n)."""
        return self._read(t)[0]

    def velocities(self, t: ArrayLike) -> FloatArray:
        """Rates of change of the chart's coordinates at times (T,) from 0 to 1: shape (..., T, n)."""
        return self._read(t)[1]

    def _read(self, t: ArrayLike) -> tuple[FloatArray, FloatArray]:
        times = as_float_array("t", t)
        if times.ndim != 1:
            raise ShapeError(f"t: found shape {times.shape}, wanted (T,)")
        if ((times < 0) | (times > 1)).any():
            raise DomainError(f"t: found times from {times.min()} to {times.max()}, wanted times from 0 to 1")
        k = self.nodes.shape[-2] - 1
        element = np.minimum((times * k).astype(np.int64), k - 1)
        tau = times * k - element
        where = places(tau)
        left, right = self.nodes[..., element, :], self.nodes[..., element + 1, :]
        own = self.accelerations[..., element, :, :]
        # from the nearer node, so that both ends are met exactly
        s = tau[:, None]
        line = np.where(s < 0.5, left + s * (right - left), right - (1 - s) * (right - left))
        x = line + np.einsum("ts,...tsn->...tn", where.twice, own) / k**2
        v = (right - left) * k + np.einsum("ts,...tsn->...tn", where.once, own) / k
        return x, v


def checked(result: GeodesicSolution) -> GeodesicSolution:
    """The solution itself if all of its geodesics converged.

    Raises
    ------
    ConvergenceError
        If one did not.
    """
    if not result.converged.all():
        bad = np.argwhere(~result.converged)
        where = tuple(int(i) for i in bad[0])
        raise ConvergenceError(
            f"{len(bad)} of {result.converged.size} geodesics did not converge; at {where} the residual is "
            f"{result.residual[where]:.2e}, wanted {result.tolerance:.2e}, with {result.elements[where]} elements and "
            f"length {result.distance[where]:.6g}; allow more elements (max_elements) or a larger tol, or use the "
            "bracket of the result this error carries",
            result,
        )
    return result


def joined(parts: list[GeodesicSolution], shape: tuple[int, ...]) -> GeodesicSolution:
    """One solution of batch shape ``shape`` from those of consecutive parts, each of shape (B,), on the finest mesh."""
    parts = list(parts)
    most = max(part.nodes.shape[1] for part in parts)
    for i, part in enumerate(parts):
        curves = Curves(part.start, part.nodes, part.accelerations)
        while curves.nodes.shape[1] < most:
            curves = curves.halved()
        parts[i] = replace(part, nodes=curves.nodes, accelerations=curves.accelerations)
    whole = {}
    for name in parts[0].__dataclass_fields__:
        if name == "tolerance":
            continue
        array = np.concatenate([getattr(part, name) for part in parts])
        whole[name] = array.reshape((*shape, *array.shape[1:]))
    return GeodesicSolution(tolerance=parts[0].tolerance, **whole)
