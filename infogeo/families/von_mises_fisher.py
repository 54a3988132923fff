"""Von Mises-Fisher distributions: directions about a mean direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _bessel
from infogeo._checks import FloatArray, as_array, as_float_array, check_points, random_generator, sealed, sum_tolerance
from infogeo.errors import DomainError, ShapeError
from infogeo.families._parameters import check_entries
from infogeo.families.base import Family, RandomState, check_batch, table


@dataclass(frozen=True, eq=False)
class VonMisesFisher(Family):
    r"""Distributions of unit vectors in d dimensions with density :math:`\propto e^{\kappa\,\mu^\top x}`.

    They form an exponential family with natural parameter :math:`\theta = \kappa\mu`, any vector of d numbers; these
    are the coordinates. :math:`\kappa = 0` is the uniform distribution, whatever the mean direction, and an inner point
    of the manifold. The Fisher-Rao distance is measured among all von Mises-Fisher distributions of d dimensions. The
    metric is :math:`A'(\kappa)` on the radial part of :math:`\dot\theta` and :math:`A(\kappa)/\kappa` on the rest,
    with the mean resultant length :math:`A(\kappa) = I_{d/2}(\kappa) / I_{d/2-1}(\kappa)`. The distance has no closed
    form and is computed by :mod:`infogeo.manifolds.numerical`, with a certificate, in the plane of the two directions.

    Parameters
    ----------
    mean_direction : array, shape (..., d)
        Unit vectors, d at least 2. A length off one by up to 1e-9 (3.8e-6 for float32, 0.008 for float16) is rounding
        and is divided out; a vector that is off by more is refused.
    concentration : array, shape (...,)
        :math:`\kappa`, from 0 to 1e50, for a batch shape that broadcasts against that of the directions.

    Raises
    ------
    ShapeError
        If there is no axis of at least two coordinates, the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite, a direction is not a unit vector, or a concentration is out of range.

    References
    ----------
    .. [1] K. V. Mardia, P. E. Jupp, Directional Statistics, Wiley 2000, section 9.3.2 and 10.3.1.

    Examples
    --------
    >>> from infogeo import VonMisesFisher, fisher_rao_distance
    >>> p, q = VonMisesFisher([1.0, 0.0, 0.0], 10.0), VonMisesFisher([0.0, 1.0, 0.0], 10.0)
    >>> p.resultant_length().round(6).item()  # coth(10) - 1/10
    0.9
    >>> round(float(fisher_rao_distance(p, q)), 6)
    3.834238
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean_direction": 1, "concentration": 0}
    coordinate_axes: ClassVar[Mapping[str, int]] = {"natural_parameter": 1}

    mean_direction: FloatArray
    """(..., d), unit vectors"""
    concentration: FloatArray
    """(...,), not negative"""

    def __post_init__(self) -> None:
        direction = as_float_array("mean_direction", self.mean_direction)
        if direction.ndim == 0 or direction.shape[-1] < 2:
            raise ShapeError(
                f"mean_direction: found shape {direction.shape}, wanted (..., d) with d at least 2, one unit vector "
                "for each member"
            )
        dtype = as_array("mean_direction", self.mean_direction).dtype
        tolerance = sum_tolerance(dtype)
        with np.errstate(over="ignore"):
            length = np.linalg.norm(direction, axis=-1)
        bad = ~(np.abs(length - 1) <= tolerance)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            which = f"vector {where[0] if len(where) == 1 else where}" if where else "the vector"
            raise DomainError(
                f"mean_direction: {which} has length {length[where]:.9g}, wanted 1 within {tolerance:.2g}; to use the "
                "directions of vectors x, give x / numpy.linalg.norm(x, axis=-1, keepdims=True)"
            )
        direction /= np.where(np.abs(length - 1) > 1e-15, length, 1.0)[..., None]
        concentration = as_float_array("concentration", self.concentration)
        bad = (concentration < 0) | (concentration > 1e50)
        check_entries("concentration", concentration, bad, "a number from 0 to 1e50")
        try:
            shape = np.broadcast_shapes(direction.shape[:-1], concentration.shape)
        except ValueError:
            raise ShapeError(
                f"mean_direction {direction.shape} and concentration {concentration.shape} do not broadcast; wanted "
                "(..., d) and (...,)"
            ) from None
        check_batch("VonMisesFisher", shape)
        whole = np.array(np.broadcast_to(direction, (*shape, direction.shape[-1])))
        object.__setattr__(self, "mean_direction", sealed(whole))
        object.__setattr__(self, "concentration", sealed(np.array(np.broadcast_to(concentration, shape))))

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean_direction.shape[-1])

    @property
    def natural_parameter(self) -> FloatArray:
        """(..., d), the concentration times the mean direction."""
        return np.asarray(self.concentration[..., None] * self.mean_direction)

    def parameters_at(self, x: ArrayLike) -> dict[str, FloatArray]:
        """Mean direction and concentration of natural parameters ``x`` (..., d).

        Of zero, the uniform distribution, the direction is the first axis.
        """
        theta = self.split(as_float_array("x", x))["natural_parameter"]
        top = np.abs(theta).max(axis=-1, keepdims=True)
        scaled = np.where(top > 0, theta, np.eye(self.dimension)[0]) / np.where(top > 0, top, 1.0)
        length = np.linalg.norm(scaled, axis=-1, keepdims=True)
        return {"mean_direction": scaled / length, "concentration": (length * top)[..., 0]}

    def resultant_length(self) -> FloatArray:
        r"""Length of the mean vector, :math:`A(\kappa) = I_{d/2}(\kappa)/I_{d/2-1}(\kappa)`, shape (...,)."""
        return np.asarray(self.concentration * _bessel.resultant(self.dimension, self.concentration).scaled)

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at unit vectors ``x`` (..., d), with respect to the area of the sphere.

        Raises
        ------
        ShapeError, DomainError
            If ``x`` does not hold unit vectors of that length.
        """
        at = as_float_array("x", x)
        if at.ndim == 0 or at.shape[-1] != self.dimension:
            raise ShapeError(f"x: found shape {at.shape}, wanted (..., {self.dimension})")
        check_points(at, self.batch_shape, 1)
        length = np.linalg.norm(at, axis=-1)
        if (~(np.abs(length - 1) <= 1e-6)).any():
            worst = length.ravel()[np.argmax(np.abs(length - 1))]
            raise DomainError(f"x: found a vector of length {worst:.9g}, wanted unit vectors")
        # 1 - cos from the chord, so that large concentrations keep their digits
        turned = ((at / length[..., None] - self.mean_direction) ** 2).sum(axis=-1) / 2
        return np.asarray(self._log_peak() - self.concentration * turned)

    def entropy(self) -> FloatArray:
        """Differential entropy in nats with respect to the area of the sphere, shape (...,)."""
        deficit = _bessel.resultant(self.dimension, self.concentration).deficit
        return np.asarray(self.concentration * deficit - self._log_peak())

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape, d)``, by the rejection method of Wood (1994)."""
        generator = random_generator(rng, shape)
        d = self.dimension
        kappa = np.broadcast_to(self.concentration, (*shape, *self.batch_shape))
        # 1 - cos of the angle to the mean direction
        b = (d - 1) / (2 * kappa + np.hypot(2 * kappa, d - 1))
        turned = np.empty(kappa.shape)
        waiting = np.ones(kappa.shape, dtype=bool)
        while waiting.any():
            z = generator.beta((d - 1) / 2, (d - 1) / 2, size=int(waiting.sum()))
            u = generator.random(len(z))
            bw = b[waiting]
            x0 = (1 - bw) / (1 + bw)
            short = 2 * bw * z / (1 - (1 - bw) * z)
            less = 2 * bw / (1 + bw)  # 1 - x0; all that follows is written so that nothing cancels for large kappa
            envelope = np.log(less + x0 * short) - np.log(4 * bw) + 2 * np.log1p(bw)
            with np.errstate(divide="ignore"):
                good = kappa[waiting] * (less - short) + (d - 1) * envelope >= np.log(u)
            places = np.flatnonzero(waiting)[good]
            turned.ravel()[places] = short[good]
            waiting.ravel()[places] = False
        across = generator.standard_normal((*kappa.shape, d))
        across -= (across * self.mean_direction).sum(axis=-1, keepdims=True) * self.mean_direction
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        sine = np.sqrt(turned * (2 - turned))
        return np.asarray((1 - turned)[..., None] * self.mean_direction + sine[..., None] * across)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension, concentration and mean resultant length."""
        d = np.full(self.batch_shape, self.dimension)
        return table(dimension=d, concentration=self.concentration, resultant_length=self.resultant_length())

    def _log_peak(self) -> FloatArray:
        """Log-density at the mean direction."""
        from scipy.special import gammaln

        d = self.dimension
        area = np.log(2.0) + d / 2 * np.log(np.pi) - gammaln(d / 2)
        return np.asarray(_bessel.integral_of_deficit(d, self.concentration) - area)
