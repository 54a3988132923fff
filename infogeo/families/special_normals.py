"""Normal distributions of two special shapes: spheres, and ellipsoids around the origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import Array, as_result, detached, is_tensor, like, namespace, to_numpy
from infogeo._checks import as_floats, check_broadcast, sealed, together
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, cut, table
from infogeo.families.gaussian import (
    LOG_2PI,
    DiagonalGaussian,
    Gaussian,
    _checked_mean,
    _cholesky,
    _mean_columns,
    _noise,
    _symmetric,
    _vectors,
    half_log_det,
    solve_lower,
)


@dataclass(frozen=True, eq=False)
class IsotropicGaussian(Family):
    r"""Normal distributions with one variance for all directions, :math:`N(m, v I)`.

    Distances are measured among isotropic normals: their manifold is a hyperbolic space of dimension d + 1, the
    half-space of means and standard deviations with :math:`ds^2 = (|dm|^2 + 2d\,d\sigma^2)/\sigma^2`. Among all normals
    the same two are nearer as soon as d is at least 2 and the means differ (:meth:`to_full`); for d = 1 it is the
    half-plane of :class:`DiagonalGaussian`. The coordinates are the mean and the variance.

    Parameters
    ----------
    mean : array or tensor, shape (..., d)
    var : array or tensor, shape (...,)
        Variances of each component, not standard deviations; all positive. Batch shapes broadcast.

    Raises
    ------
    ShapeError
        If the batch shapes do not broadcast, there is no axis of components, or the batch is empty.
    DomainError
        If an entry is not finite or a variance is not positive.

    References
    ----------
    .. [1] C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365.

    Examples
    --------
    >>> from infogeo import IsotropicGaussian, fisher_rao_distance
    >>> p = IsotropicGaussian(mean=[[0.0, 0.0], [3.0, 4.0]], var=1.0)
    >>> p.batch_shape, p.dimension
    ((2,), 2)
    >>> p.entropy().round(6).tolist()  # d/2 log(2 pi e v)
    [2.837877, 2.837877]
    >>> fisher_rao_distance(p[0], p[1]).round(6).item()  # 2 sqrt(2 d) arsinh(5 / (2 sqrt(2 d)))
    4.190372
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 1, "var": 0}

    mean: Array
    """(..., d)"""
    var: Array
    """(...,), positive"""

    def __post_init__(self) -> None:
        mean, var = together(mean=self.mean, var=self.var)
        mean, var = _checked_mean(mean), as_floats("var", var)
        if (var <= 0).any():
            found = to_numpy(var)
            where = tuple(int(i) for i in np.argwhere(found <= 0)[0])
            raise DomainError(
                f"var: {f'entry {where}' if where else 'the variance'} is {found[where]}; variances must be positive "
                "(a constant sample has no normal distribution; shrink its variance toward a pooled one)"
            )
        check_broadcast(**{"mean[..., 0]": mean[..., 0], "var": var})
        shape = np.broadcast_shapes(tuple(mean.shape[:-1]), tuple(var.shape))
        check_batch("IsotropicGaussian", shape)
        object.__setattr__(self, "mean", sealed(_expanded(mean, (*shape, mean.shape[-1]))))
        object.__setattr__(self, "var", sealed(_expanded(var, shape)))

    @property
    def dimension(self) -> int:
        """Number d of components."""
        return int(self.mean.shape[-1])

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        xp = namespace(self.var)
        z = (_vectors(x, self.dimension, self.mean, self.batch_shape) - self.mean) / xp.sqrt(self.var)[..., None]
        return as_result(-0.5 * (xp.sum(z * z, axis=-1) + self.dimension * (xp.log(self.var) + LOG_2PI)))

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,)."""
        return as_result(0.5 * self.dimension * (namespace(self.var).log(self.var) + (LOG_2PI + 1.0)))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        std = namespace(self.var).sqrt(self.var)[..., None]
        return as_result(self.mean + std * _noise(rng, shape, self.mean))

    def to_diagonal(self) -> DiagonalGaussian:
        """The same distributions as normals with independent components, the variance repeated for each."""
        return DiagonalGaussian(self.mean, _expanded(self.var[..., None], tuple(self.mean.shape)))

    def to_full(self) -> Gaussian:
        """The same distributions as full normals."""
        return Gaussian(self.mean, self.var[..., None, None] * like(np.eye(self.dimension), self.var))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension, length of the mean, and variance; mean and variance if d = 1."""
        if self.dimension == 1:
            return table(mean=to_numpy(self.mean), variance=to_numpy(self.var))
        return table(**_mean_columns(self.mean), variance=to_numpy(self.var))


@dataclass(frozen=True, eq=False)
class CenteredGaussian(Family):
    r"""Normal distributions with mean zero, :math:`N(0, \Sigma_i)`.

    Distances are measured among centered normals, the manifold of positive definite matrices with
    :math:`ds^2 = \tfrac12\mathrm{tr}\,(\Sigma^{-1}d\Sigma)^2` [1]_. It is totally geodesic among all normals, so the
    distance there is the same. The coordinates are the lower triangle of the covariance, row by row; a rate of change
    of an entry off the diagonal moves both mirror entries.

    Parameters
    ----------
    cov : array or tensor, shape (..., d, d)
        Symmetric and positive definite; rounding as in :class:`SharedCovarianceGaussian`.

    Raises
    ------
    ShapeError
        If the matrices are not square or the batch is empty.
    DomainError
        If an entry is not finite, or a covariance is not symmetric or not (numerically) positive definite.

    References
    ----------
    .. [1] L. T. Skovgaard, A Riemannian geometry of the multivariate normal model, Scandinavian Journal of Statistics
       11 (1984) 211-223.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import CenteredGaussian, fisher_rao_distance
    >>> p = CenteredGaussian(np.eye(2)), CenteredGaussian(np.e * np.eye(2))
    >>> fisher_rao_distance(*p).round(6).item()  # sqrt(d / 2)
    1.0
    """

    event_axes: ClassVar[Mapping[str, int]] = {"cov": 2}
    symmetric_parts: ClassVar[tuple[str, ...]] = ("cov",)

    cov: Array
    """(..., d, d)"""

    def __post_init__(self) -> None:
        cov = as_floats("cov", self.cov)
        if cov.ndim < 2 or cov.shape[-1] != cov.shape[-2] or cov.shape[-1] == 0:
            raise ShapeError(f"cov: found shape {tuple(cov.shape)}, wanted (..., d, d) with d at least 1")
        check_batch("cov", tuple(cov.shape[:-2]))
        object.__setattr__(self, "cov", sealed(_symmetric("cov", cov)))
        _ = self.cholesky

    @cached_property
    def cholesky(self) -> Array:
        """(..., d, d) lower triangular factors of the covariances."""
        return _cholesky("cov", self.cov)

    @property
    def dimension(self) -> int:
        """Number d of components."""
        return int(self.cov.shape[-1])

    def __getitem__(self, index: Any) -> Self:
        """Members of the batch, with their covariances."""
        chosen = super().__getitem__(index)
        chosen.__dict__["cholesky"] = cut(self.cholesky, index, 2)
        return chosen

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        z2 = (solve_lower(self.cholesky, _vectors(x, self.dimension, self.cov, self.batch_shape)) ** 2).sum(axis=-1)
        return as_result(-0.5 * (z2 + self.dimension * LOG_2PI) - half_log_det(self.cholesky))

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,)."""
        return as_result(0.5 * self.dimension * (LOG_2PI + 1.0) + half_log_det(self.cholesky))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        noise = _noise(rng, shape, self.cov[..., 0])
        return as_result((self.cholesky @ noise[..., None])[..., 0])

    def to_full(self) -> Gaussian:
        """The same distributions as full normals with mean zero."""
        return Gaussian(namespace(self.cov).zeros_like(detached(self.cov)[..., 0]), self.cov)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension and mean variance of a component."""
        variance = np.diagonal(to_numpy(self.cov), axis1=-2, axis2=-1).mean(axis=-1)
        return table(dimension=np.full(variance.shape, self.dimension), mean_variance=variance)


def _expanded(array: Array, shape: tuple[int, ...]) -> Array:
    """The array broadcast to a shape, in memory of its own if it is of NumPy."""
    if tuple(array.shape) == shape:
        return array
    whole = namespace(array).broadcast_to(array, shape)
    return whole if is_tensor(whole) else whole.copy()
