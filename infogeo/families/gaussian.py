"""Normal distributions: with their own variances, with one common covariance, and in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_shape, sealed
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, cut, table

SYMMETRY_TOLERANCE = 1e-8
"""Largest difference of cov[i, j] and cov[j, i] that passes as rounding, relative to sqrt(cov[i, i] cov[j, j])."""

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(Family):
    r"""Normal distributions with independent coordinates, :math:`N(m, \mathrm{diag}(v))`.

    The univariate normal is the case of one coordinate, d = 1.

    Parameters
    ----------
    mean : array, shape (..., d)
    var : array, shape (..., d)
        Variances, not standard deviations; all positive.

    Raises
    ------
    ShapeError
        If the two shapes differ, there is no axis of coordinates, or the batch is empty.
    DomainError
        If an entry is not finite or a variance is not positive.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> p = DiagonalGaussian(mean=[[0.0], [1.0]], var=[[1.0], [4.0]])
    >>> p.batch_shape, p.dimension
    ((2,), 1)
    >>> p[1].log_prob([1.0]).round(6).item()  # the density at the mean is 1 / sqrt(2 pi 4)
    -1.612086
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 1, "var": 1}

    mean: FloatArray
    """(..., d)"""
    var: FloatArray
    """(..., d), positive"""

    def __post_init__(self) -> None:
        mean = _checked_mean(self.mean)
        var = as_float_array("var", self.var)
        check_shape("var", var, mean.shape)
        if (var <= 0).any():
            where = tuple(int(i) for i in np.argwhere(var <= 0)[0])
            raise DomainError(
                f"var: entry {where} is {var[where]}; variances must be positive (a constant sample has no normal "
                "distribution; shrink its variance toward a pooled one)"
            )
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "var", sealed(var))

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean.shape[-1])

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        z2 = (_vectors(x, self.dimension) - self.mean) ** 2 / self.var
        return np.asarray(-0.5 * (z2 + np.log(self.var) + LOG_2PI).sum(axis=-1))

    def entropy(self) -> FloatArray:
        """Differential entropy in nats, shape (...,)."""
        return np.asarray(0.5 * (np.log(self.var) + LOG_2PI + 1.0).sum(axis=-1))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        noise = np.random.default_rng(rng).standard_normal((*shape, *self.mean.shape))
        return np.asarray(self.mean + np.sqrt(self.var) * noise)

    def to_full(self) -> Gaussian:
        """The same distributions as full normals, with diagonal covariances."""
        return Gaussian(self.mean, self.var[..., None] * np.eye(self.dimension))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Mean and variance if d = 1; otherwise d, the length of the mean and the mean variance."""
        if self.dimension == 1:
            return table(mean=self.mean, variance=self.var)
        return table(**_mean_columns(self.mean), mean_variance=self.var.mean(axis=-1))


@dataclass(frozen=True, eq=False)
class SharedCovarianceGaussian(Family):
    r"""Normal distributions with one covariance for the whole batch, :math:`N(m_i, \Sigma)`.

    Distances are measured among *all* normals, where the shortest path between two members may leave the family.

    Parameters
    ----------
    mean : array, shape (..., d)
    cov : array, shape (d, d)
        Symmetric and positive definite. A difference of ``cov[i, j]`` and ``cov[j, i]`` up to
        1e-8 sqrt(cov[i, i] cov[j, j]) is rounding: the two are replaced by their mean.

    Raises
    ------
    ShapeError
        If shapes do not fit or the batch is empty.
    DomainError
        If an entry is not finite, or ``cov`` is not symmetric or not (numerically) positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import SharedCovarianceGaussian
    >>> p = SharedCovarianceGaussian(mean=np.zeros((3, 2)), cov=[[2.0, 1.0], [1.0, 2.0]])
    >>> p.batch_shape, p.cov.shape
    ((3,), (2, 2))
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 1}

    mean: FloatArray
    """(..., d)"""
    cov: FloatArray
    """(d, d)"""

    def __post_init__(self) -> None:
        mean = _checked_mean(self.mean)
        cov = as_float_array("cov", self.cov)
        check_shape("cov", cov, (mean.shape[-1], mean.shape[-1]))
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "cov", sealed(_symmetric("cov", cov)))
        _ = self.cholesky

    @cached_property
    def cholesky(self) -> FloatArray:
        """(d, d) lower triangular factor of the covariance."""
        return _cholesky("cov", self.cov)

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean.shape[-1])

    def __getitem__(self, index: Any) -> Self:
        """Members of the batch, with the same covariance."""
        chosen = super().__getitem__(index)
        chosen.__dict__["cholesky"] = self.cholesky
        return chosen

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        z2 = (solve_lower(self.cholesky, _vectors(x, self.dimension) - self.mean) ** 2).sum(axis=-1)
        return np.asarray(-0.5 * (z2 + self.dimension * LOG_2PI) - np.log(np.diagonal(self.cholesky)).sum())

    def entropy(self) -> FloatArray:
        """Differential entropy in nats, shape (...,); the same for every member."""
        value = 0.5 * self.dimension * (LOG_2PI + 1.0) + np.log(np.diagonal(self.cholesky)).sum()
        return np.full(self.batch_shape, value)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        noise = np.random.default_rng(rng).standard_normal((*shape, *self.mean.shape))
        return np.asarray(self.mean + noise @ self.cholesky.T)

    def to_full(self) -> Gaussian:
        """The same distributions as full normals, the covariance repeated for each."""
        return Gaussian(self.mean, np.broadcast_to(self.cov, (*self.batch_shape, *self.cov.shape)))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension and length of the mean (the covariance is the same for all)."""
        return table(**_mean_columns(self.mean))


@dataclass(frozen=True, eq=False)
class Gaussian(Family):
    r"""Normal distributions, each with its own full covariance, :math:`N(m_i, \Sigma_i)`.

    Parameters
    ----------
    mean : array, shape (..., d)
    cov : array, shape (..., d, d)
        Symmetric and positive definite; rounding as in :class:`SharedCovarianceGaussian`.

    Raises
    ------
    ShapeError
        If shapes do not fit or the batch is empty.
    DomainError
        If an entry is not finite, or a covariance is not symmetric or not (numerically) positive definite.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import Gaussian
    >>> p = Gaussian(mean=np.zeros(2), cov=np.eye(2))
    >>> p.entropy().round(6).item()  # d/2 log(2 pi e)
    2.837877
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 1, "cov": 2}

    mean: FloatArray
    """(..., d)"""
    cov: FloatArray
    """(..., d, d)"""

    def __post_init__(self) -> None:
        mean = _checked_mean(self.mean)
        cov = as_float_array("cov", self.cov)
        check_shape("cov", cov, (*mean.shape, mean.shape[-1]))
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "cov", sealed(_symmetric("cov", cov)))
        _ = self.cholesky

    @cached_property
    def cholesky(self) -> FloatArray:
        """(..., d, d) lower triangular factors of the covariances."""
        return _cholesky("cov", self.cov)

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean.shape[-1])

    def __getitem__(self, index: Any) -> Self:
        """Members of the batch, with their covariances."""
        chosen = super().__getitem__(index)
        chosen.__dict__["cholesky"] = cut(self.cholesky, index, 2)
        return chosen

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        z = solve_lower(self.cholesky, _vectors(x, self.dimension) - self.mean)
        return np.asarray(-0.5 * ((z**2).sum(axis=-1) + self.dimension * LOG_2PI) - self._half_log_det())

    def entropy(self) -> FloatArray:
        """Differential entropy in nats, shape (...,)."""
        return np.asarray(0.5 * self.dimension * (LOG_2PI + 1.0) + self._half_log_det())

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        noise = np.random.default_rng(rng).standard_normal((*shape, *self.mean.shape))
        return np.asarray(self.mean + (self.cholesky @ noise[..., None])[..., 0])

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension, length of the mean and mean variance of a coordinate."""
        variance = np.diagonal(self.cov, axis1=-2, axis2=-1).mean(axis=-1)
        return table(**_mean_columns(self.mean), mean_variance=variance)

    def _half_log_det(self) -> FloatArray:
        return np.asarray(np.log(np.diagonal(self.cholesky, axis1=-2, axis2=-1)).sum(axis=-1))


def solve_lower(factor: FloatArray, vectors: FloatArray, *, overwrite: bool = False) -> FloatArray:
    """Solve ``factor @ y = vector`` for vectors (..., d) and lower triangular factors (d, d) or (..., d, d).

    With ``overwrite`` the memory of the vectors may be used for the answer.
    """
    if factor.ndim == 2:
        from scipy.linalg import solve_triangular

        flat = vectors.reshape(-1, vectors.shape[-1])
        solved = solve_triangular(factor, flat.T, lower=True, overwrite_b=overwrite, check_finite=False)
        return np.asarray(solved.T).reshape(vectors.shape)
    return np.asarray(np.linalg.solve(factor, vectors[..., None]))[..., 0]


def _checked_mean(mean: ArrayLike) -> FloatArray:
    array = as_float_array("mean", mean)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ShapeError(
            f"mean: found shape {array.shape}, wanted (..., d) with d at least 1; "
            "univariate normals have d = 1, for example mean=[[0.0], [1.0]] for two of them"
        )
    check_batch("mean", array.shape[:-1])
    return array


def _vectors(x: ArrayLike, d: int) -> FloatArray:
    array = as_float_array("x", x)
    if array.ndim == 0 or array.shape[-1] != d:
        raise ShapeError(f"x: found shape {array.shape}, wanted (..., {d})")
    return array


def _mean_columns(mean: FloatArray) -> dict[str, Any]:
    norm = np.linalg.norm(mean, axis=-1)
    return {"dimension": np.full(norm.shape, mean.shape[-1]), "norm_of_mean": norm}


def _symmetric(name: str, cov: FloatArray) -> FloatArray:
    """The covariance with its rounding errors of symmetry evened out; more than rounding is refused."""
    transposed = np.swapaxes(cov, -1, -2)
    difference = np.abs(cov - transposed)
    scale = np.sqrt(np.abs(np.diagonal(cov, axis1=-2, axis2=-1)))
    bad = difference > SYMMETRY_TOLERANCE * scale[..., :, None] * scale[..., None, :]
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        mirror = (*where[:-2], where[-1], where[-2])
        raise DomainError(
            f"{name}: not symmetric, entry {where} is {cov[where]} but entry {mirror} is {cov[mirror]}; "
            "a covariance must be symmetric"
        )
    return np.asarray(0.5 * cov + 0.5 * transposed)


def _cholesky(name: str, cov: FloatArray) -> FloatArray:
    """Cholesky factors; a covariance that is not positive definite, or only so by rounding, is refused by index."""
    d = cov.shape[-1]
    try:
        factor = np.linalg.cholesky(cov)
        # squared pivot / variance: the part of each coordinate's variance that the earlier ones do not explain
        variances = np.diagonal(cov, axis1=-2, axis2=-1)
        unexplained = np.diagonal(factor, axis1=-2, axis2=-1) ** 2 / variances
        bad = unexplained.min(axis=-1) <= 4 * d * np.finfo(np.float64).eps
    except np.linalg.LinAlgError:
        bad = np.linalg.eigvalsh(cov).min(axis=-1) <= 0
        bad = bad if bad.any() else np.ones(bad.shape, dtype=bool)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        which = f"{name}[{', '.join(map(str, where))}]" if where else name
        eigenvalues = np.linalg.eigvalsh(cov[where])
        raise DomainError(
            f"{which}: not positive definite to working precision (eigenvalues from {eigenvalues.min():.3g} to "
            f"{eigenvalues.max():.3g}); a covariance from fewer observations than the {d} dimensions is singular, "
            "shrink it toward a multiple of the identity"
        )
    factor.setflags(write=False)
    return np.asarray(factor, dtype=np.float64)
