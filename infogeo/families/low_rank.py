"""Normal distributions whose covariance is a diagonal plus a low rank, for the dimensions of real models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, as_result, namespace, solve_triangular, to_numpy
from infogeo._checks import as_floats, check_shape, random_generator, sealed, together
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, table
from infogeo.families.gaussian import (
    LOG_2PI,
    Gaussian,
    _checked_mean,
    _mean_columns,
    _noise,
    _vectors,
    half_log_det,
)


@dataclass(frozen=True, eq=False)
class LowRankGaussian(Family):
    r"""Normal distributions with covariance :math:`\mathrm{diag}(v) + F F^\top`, F of r columns.

    One member takes d (r + 2) numbers, not d², and its density costs d r². The distance of two members lives on the
    manifold of *all* normals: it is exact, at the cost of 2 r + 1 dimensions, where the two have one diagonal, since
    they differ from one common normal by a low rank then. With different diagonals :meth:`to_full` leads to the exact
    distance and to :func:`infogeo.fisher_rao_bounds`, at the cost of d dimensions.

    Parameters
    ----------
    mean : array or tensor, shape (..., d)
    factor : array or tensor, shape (..., d, r)
        Determined up to a rotation of its columns, so the family has no Fisher information of its own.
    diagonal : array or tensor, shape (..., d) or (d,)
        Variances left beside the factor; all positive. One row is taken for the whole batch.

    Raises
    ------
    ShapeError
        If shapes do not fit or the batch is empty.
    DomainError
        If an entry is not finite or an entry of the diagonal is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import LowRankGaussian, fisher_rao_distance
    >>> rng = np.random.default_rng(0)
    >>> p = LowRankGaussian(rng.normal(size=(2, 768)), rng.normal(size=(2, 768, 4)), np.ones(768))
    >>> p.batch_shape, p.dimension, p.rank
    ((2,), 768, 4)
    >>> bool(fisher_rao_distance(p[0], p[1]) > 0)
    True
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 1, "factor": 2, "diagonal": 1}

    mean: Array
    """(..., d)"""
    factor: Array
    """(..., d, r)"""
    diagonal: Array
    """(..., d), positive"""

    def __post_init__(self) -> None:
        mean, factor, diagonal = together(mean=self.mean, factor=self.factor, diagonal=self.diagonal)
        mean = _checked_mean(mean)
        factor, diagonal = as_floats("factor", factor), as_floats("diagonal", diagonal)
        check_shape("factor", factor, (*mean.shape, None))
        if factor.shape[-1] == 0:
            raise ShapeError("factor: found no columns, wanted at least one; without any it is a DiagonalGaussian")
        if tuple(diagonal.shape) == (mean.shape[-1],):
            diagonal = namespace(diagonal).broadcast_to(diagonal, tuple(mean.shape))
        check_shape("diagonal", diagonal, tuple(mean.shape))
        if (diagonal <= 0).any():
            values = to_numpy(diagonal)
            where = tuple(int(i) for i in np.argwhere(values <= 0)[0])
            raise DomainError(f"diagonal: entry {where} is {values[where]}; variances must be positive")
        for name, value in (("mean", mean), ("factor", factor), ("diagonal", diagonal)):
            object.__setattr__(self, name, sealed(value))

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean.shape[-1])

    @property
    def rank(self) -> int:
        """Number r of columns of the factor."""
        return int(self.factor.shape[-1])

    @property
    def whitened_factor(self) -> Array:
        """The factor in units of the diagonal, (..., d, r)."""
        return self.factor / namespace(self.diagonal).sqrt(self.diagonal)[..., None]

    @cached_property
    def _capacitance(self) -> Array:
        """(..., r, r) lower Cholesky factor of the identity plus the Gram matrix of the whitened factor."""
        xp, w = namespace(self.factor), self.whitened_factor
        gram = xp.matrix_transpose(w) @ w
        one = xp.eye(self.rank, dtype=gram.dtype, device=getattr(gram, "device", None))
        return xp.linalg.cholesky(one + gram)

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        xp = namespace(self.mean)
        y = (_vectors(x, self.dimension, self.mean, self.batch_shape) - self.mean) / xp.sqrt(self.diagonal)
        along = xp.matrix_transpose(self.whitened_factor) @ y[..., None]
        factor = xp.broadcast_to(self._capacitance, (*along.shape[:-1], self.rank))
        explained = solve_triangular(factor, along)[..., 0]
        z2 = xp.sum(y * y, axis=-1) - xp.sum(explained * explained, axis=-1)
        return as_result(-0.5 * (z2 + self.dimension * LOG_2PI) - self._half_log_det())

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,)."""
        return as_result(0.5 * self.dimension * (LOG_2PI + 1.0) + self._half_log_det())

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        xp = namespace(self.mean)
        rng = random_generator(rng, shape)
        own = xp.sqrt(self.diagonal) * _noise(rng, shape, self.mean)
        common = self.factor @ _noise(rng, shape, self.factor[..., 0, :])[..., None]
        return as_result(self.mean + own + common[..., 0])

    def to_full(self) -> Gaussian:
        """The same distributions as full normals, with d² numbers for each covariance."""
        xp = namespace(self.mean)
        one = xp.eye(self.dimension, dtype=self.mean.dtype, device=getattr(self.mean, "device", None))
        return Gaussian(self.mean, self.factor @ xp.matrix_transpose(self.factor) + self.diagonal[..., None] * one)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension, length of the mean, rank and mean variance of a coordinate."""
        variance = to_numpy(self.diagonal).mean(axis=-1) + (to_numpy(self.factor) ** 2).sum(axis=-1).mean(axis=-1)
        columns = _mean_columns(self.mean)
        return table(**columns, rank=np.full(variance.shape, self.rank), mean_variance=variance)

    def _half_log_det(self) -> Array:
        xp = namespace(self.diagonal)
        return xp.sum(xp.log(self.diagonal), axis=-1) / 2 + half_log_det(self._capacitance)
