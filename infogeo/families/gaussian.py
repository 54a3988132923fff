"""Normal distributions: with their own variances, with one common covariance, and in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import (
    Array,
    as_result,
    cholesky,
    detached,
    is_tensor,
    like,
    namespace,
    solve_triangular,
    to_numpy,
)
from infogeo._checks import as_floats, beside, check_points, check_shape, random_generator, sealed, together
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, cut, table

SYMMETRY_TOLERANCE = 1e-8
"""Largest difference of cov[i, j] and cov[j, i] that passes as rounding, relative to sqrt(cov[i, i] cov[j, j])."""

UNEXPLAINED = 4 * float(np.finfo(np.float64).eps)
"""Times d: a part of a variance that the earlier coordinates leave unexplained is rounding alone below this."""

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(Family):
    r"""Normal distributions with independent coordinates, :math:`N(m, \mathrm{diag}(v))`.

    The univariate normal is the case of one coordinate, d = 1.

    Parameters
    ----------
    mean : array or tensor, shape (..., d)
    var : array or tensor, shape (..., d)
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

    mean: Array
    """(..., d)"""
    var: Array
    """(..., d), positive"""

    def __post_init__(self) -> None:
        mean, var = together(mean=self.mean, var=self.var)
        mean = _checked_mean(mean)
        var = as_floats("var", var)
        check_shape("var", var, mean.shape)
        if (var <= 0).any():
            found = to_numpy(var)
            where = tuple(int(i) for i in np.argwhere(found <= 0)[0])
            raise DomainError(
                f"var: entry {where} is {found[where]}; variances must be positive (a constant sample has no normal "
                "distribution; shrink its variance toward a pooled one)"
            )
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "var", sealed(var))

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return int(self.mean.shape[-1])

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        xp = namespace(self.var)
        z = (_vectors(x, self.dimension, self.mean, self.batch_shape) - self.mean) / xp.sqrt(self.var)
        return as_result(-0.5 * xp.sum(z * z + xp.log(self.var) + LOG_2PI, axis=-1))

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,)."""
        xp = namespace(self.var)
        return as_result(0.5 * xp.sum(xp.log(self.var) + LOG_2PI + 1.0, axis=-1))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        return as_result(self.mean + namespace(self.var).sqrt(self.var) * _noise(rng, shape, self.mean))

    def to_full(self) -> Gaussian:
        """The same distributions as full normals, with diagonal covariances."""
        return Gaussian(self.mean, self.var[..., None] * like(np.eye(self.dimension), self.var))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Mean and variance if d = 1; otherwise d, the length of the mean and the mean variance."""
        if self.dimension == 1:
            return table(mean=self.mean, variance=self.var)
        return table(**_mean_columns(self.mean), mean_variance=to_numpy(self.var).mean(axis=-1))


@dataclass(frozen=True, eq=False)
class SharedCovarianceGaussian(Family):
    r"""Normal distributions with one covariance for the whole batch, :math:`N(m_i, \Sigma)`.

    Distances are measured among *all* normals, where the shortest path between two members leaves the family:
    geodesics, exponential and logarithmic map give :class:`Gaussian` and its coordinates. With the covariance held
    fixed the family is a flat space, and its distance is :func:`~infogeo.mahalanobis_distance`, never the shorter of
    the two. The coordinates are the mean, and the Fisher information in them is :math:`\Sigma^{-1}`, the same in both
    manifolds.

    Parameters
    ----------
    mean : array or tensor, shape (..., d)
    cov : array or tensor, shape (d, d)
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

    mean: Array
    """(..., d)"""
    cov: Array
    """(d, d)"""

    def __post_init__(self) -> None:
        mean, cov = together(mean=self.mean, cov=self.cov)
        mean = _checked_mean(mean)
        cov = as_floats("cov", cov)
        check_shape("cov", cov, (mean.shape[-1], mean.shape[-1]))
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "cov", sealed(_symmetric("cov", cov)))
        _ = self.cholesky

    @cached_property
    def cholesky(self) -> Array:
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

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        away = _vectors(x, self.dimension, self.mean, self.batch_shape) - self.mean
        z2 = (solve_lower(self.cholesky, away) ** 2).sum(axis=-1)
        return as_result(-0.5 * (z2 + self.dimension * LOG_2PI) - half_log_det(self.cholesky))

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,); the same for every member."""
        value = 0.5 * self.dimension * (LOG_2PI + 1.0) + half_log_det(self.cholesky)
        repeated = namespace(self.cholesky).broadcast_to(value, self.batch_shape)
        return repeated if is_tensor(repeated) else repeated.copy()

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        return as_result(self.mean + _noise(rng, shape, self.mean) @ self.cholesky.T)

    def to_full(self) -> Gaussian:
        """The same distributions as full normals, the covariance repeated for each."""
        xp = namespace(self.cov)
        return Gaussian(self.mean, xp.broadcast_to(self.cov, (*self.batch_shape, *self.cov.shape)))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension and length of the mean (the covariance is the same for all)."""
        return table(**_mean_columns(self.mean))


@dataclass(frozen=True, eq=False)
class Gaussian(Family):
    r"""Normal distributions, each with its own full covariance, :math:`N(m_i, \Sigma_i)`.

    Parameters
    ----------
    mean : array or tensor, shape (..., d)
    cov : array or tensor, shape (..., d, d)
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
    symmetric_parts: ClassVar[tuple[str, ...]] = ("cov",)

    mean: Array
    """(..., d)"""
    cov: Array
    """(..., d, d)"""

    def __post_init__(self) -> None:
        mean, cov = together(mean=self.mean, cov=self.cov)
        mean = _checked_mean(mean)
        cov = as_floats("cov", cov)
        check_shape("cov", cov, (*mean.shape, mean.shape[-1]))
        object.__setattr__(self, "mean", sealed(mean))
        object.__setattr__(self, "cov", sealed(_symmetric("cov", cov)))
        _ = self.cholesky

    @cached_property
    def cholesky(self) -> Array:
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

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-density in nats at vectors ``x`` of shape (..., d), which broadcast against the batch."""
        away = _vectors(x, self.dimension, self.mean, self.batch_shape) - self.mean
        z2 = (solve_lower(self.cholesky, away) ** 2).sum(axis=-1)
        return as_result(-0.5 * (z2 + self.dimension * LOG_2PI) - half_log_det(self.cholesky))

    def entropy(self) -> Array:
        """Differential entropy in nats, shape (...,)."""
        return as_result(0.5 * self.dimension * (LOG_2PI + 1.0) + half_log_det(self.cholesky))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Draws of shape ``(*shape, *batch_shape, d)``."""
        return as_result(self.mean + (self.cholesky @ _noise(rng, shape, self.mean)[..., None])[..., 0])

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Dimension, length of the mean and mean variance of a coordinate."""
        variance = np.diagonal(to_numpy(self.cov), axis1=-2, axis2=-1).mean(axis=-1)
        return table(**_mean_columns(self.mean), mean_variance=variance)


def half_log_det(factor: Array) -> Array:
    """Half the logarithm of the determinant of a covariance, from its Cholesky factor (..., d, d)."""
    xp = namespace(factor)
    return as_result(xp.sum(xp.log(xp.linalg.diagonal(factor)), axis=-1))


def solve_lower(factor: Array, vectors: Array, *, overwrite: bool = False) -> Array:
    """Solve ``factor @ y = vector`` for vectors (..., d) and lower triangular factors (d, d) or (..., d, d).

    With ``overwrite`` the memory of the vectors may be used for the answer.
    """
    if factor.ndim > 2:
        return solve_triangular(factor, vectors[..., None])[..., 0]
    flat = vectors.reshape(-1, vectors.shape[-1]).T
    return solve_triangular(factor, flat, overwrite=overwrite).T.reshape(vectors.shape)


def _checked_mean(mean: Any) -> Array:
    array = as_floats("mean", mean)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ShapeError(
            f"mean: found shape {tuple(array.shape)}, wanted (..., d) with d at least 1; "
            "univariate normals have d = 1, for example mean=[[0.0], [1.0]] for two of them"
        )
    check_batch("mean", tuple(array.shape[:-1]))
    return array


def _vectors(x: ArrayLike, d: int, parameter: Array = None, batch_shape: tuple[int, ...] = ()) -> Array:
    """Vectors (..., d) in the library of a parameter; tensors beside arrays of NumPy are read as arrays."""
    array = beside("x", x, parameter)
    if array.ndim == 0 or array.shape[-1] != d:
        raise ShapeError(f"x: found shape {tuple(array.shape)}, wanted (..., {d})")
    return check_points(array, batch_shape, 1)


def _noise(rng: RandomState, shape: tuple[int, ...], mean: Array) -> Array:
    """Standard normal numbers of NumPy, beside the mean: the same seed gives the same draws in every library."""
    return like(random_generator(rng, shape).standard_normal((*shape, *mean.shape)), mean)


def _mean_columns(mean: Array) -> dict[str, Any]:
    norm = np.linalg.norm(to_numpy(mean), axis=-1)
    return {"dimension": np.full(norm.shape, mean.shape[-1]), "norm_of_mean": norm}


def _symmetric(name: str, cov: Array) -> Array:
    """The covariance with its rounding errors of symmetry evened out; more than rounding is refused."""
    xp = namespace(cov)
    transposed = xp.matrix_transpose(cov)
    difference = abs(detached(cov) - detached(transposed))
    scale = xp.sqrt(abs(xp.linalg.diagonal(detached(cov))))
    bad = difference > SYMMETRY_TOLERANCE * scale[..., :, None] * scale[..., None, :]
    if bad.any():
        found = to_numpy(cov)
        where = tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])
        mirror = (*where[:-2], where[-1], where[-2])
        raise DomainError(
            f"{name}: not symmetric, entry {where} is {found[where]} but entry {mirror} is {found[mirror]}; "
            "a covariance must be symmetric"
        )
    return 0.5 * cov + 0.5 * transposed


def _cholesky(name: str, cov: Array) -> Array:
    """Cholesky factors; a covariance that is not positive definite, or only so by rounding, is refused by index."""
    d = cov.shape[-1]
    factor = cholesky(cov)
    if factor is None:
        found = to_numpy(cov)
        smallest = np.linalg.eigvalsh(found)[..., 0]
        worst = tuple(int(i) for i in np.unravel_index(smallest.argmin(), smallest.shape))
        where = next((i for i in np.ndindex(smallest.shape) if cholesky(found[i]) is None), worst)
    else:
        # squared pivot / variance: the part of each coordinate's variance that the earlier ones do not explain
        diagonal = namespace(cov).linalg.diagonal
        unexplained = diagonal(detached(factor)) ** 2 / diagonal(detached(cov))
        bad = (unexplained <= UNEXPLAINED * d).any(axis=-1)
        if not bad.any():
            return sealed(factor)
        found = to_numpy(cov)
        where = tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])
    which = f"{name}[{', '.join(map(str, where))}]" if where else name
    eigenvalues = np.linalg.eigvalsh(found[where])
    raise DomainError(
        f"{which}: not positive definite to working precision (eigenvalues from {eigenvalues.min():.3g} to "
        f"{eigenvalues.max():.3g}); a covariance from fewer observations than the {d} dimensions is singular, "
        "shrink it toward a multiple of the identity"
    )
