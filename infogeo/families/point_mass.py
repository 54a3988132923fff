"""Point masses: plain vectors, for the distances that are no distances between densities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, is_tensor, like, namespace, to_numpy
from infogeo._checks import as_floats, random_generator, sealed
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, table


@dataclass(frozen=True, eq=False)
class PointMass(Family):
    r"""All probability at one vector, :math:`\delta_x`.

    The family that plain vectors belong to: :func:`~infogeo.euclidean_distance` (which is the 2-Wasserstein distance
    between point masses) and :func:`~infogeo.cosine_distance` are defined on it. Point masses have no density, so
    Fisher-Rao distance and divergences are not.

    Parameters
    ----------
    location : array or tensor, shape (..., d)
        Finite numbers; integers and float16 are turned into float64.

    Raises
    ------
    ShapeError
        If there is no axis of components, or the batch is empty.
    DomainError
        If an entry is not finite.

    Examples
    --------
    >>> from infogeo import PointMass, euclidean_distance
    >>> float(euclidean_distance(PointMass([0.0, 0.0]), PointMass([3.0, 4.0])))
    5.0
    """

    event_axes: ClassVar[Mapping[str, int]] = {"location": 1}

    location: Array
    """(..., d)"""

    def __post_init__(self) -> None:
        location = as_floats("location", self.location)
        if location.ndim == 0 or location.shape[-1] == 0:
            raise ShapeError(f"location: found shape {tuple(location.shape)}, wanted (..., d) with d at least 1")
        check_batch("location", tuple(location.shape[:-1]))
        object.__setattr__(self, "location", sealed(location))

    @property
    def dimension(self) -> int:
        """Number d of components."""
        return int(self.location.shape[-1])

    def log_prob(self, x: ArrayLike) -> Array:
        """Refused: a point mass has no density.

        Raises
        ------
        DomainError
            Always.
        """
        raise DomainError("PointMass: a point mass has no density; use a normal with a small variance")

    def entropy(self) -> Array:
        """Minus infinity, the limit of the differential entropy of ever narrower normals; shape (...,)."""
        return like(np.full(self.batch_shape, -np.inf), self.location)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Copies of the location, shape ``(*shape, *batch_shape, d)``; no randomness is used."""
        random_generator(rng, shape)
        repeated = namespace(self.location).broadcast_to(self.location, (*shape, *self.location.shape))
        return repeated.clone() if is_tensor(repeated) else repeated.copy()

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension and Euclidean length of each vector."""
        norm = np.linalg.norm(to_numpy(self.location), axis=-1)
        return table(dimension=np.full(norm.shape, self.dimension), norm=norm)
