"""Divergences: measures of difference that are no metrics, in nats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infogeo import _blocks, _kernels, _statistics
from infogeo._arrays import Array, as_result, detached, namespace, root, solve_triangular
from infogeo.distances import hellinger_distance
from infogeo.families import Categorical, DiagonalGaussian, Family, Gaussian
from infogeo.families.gaussian import half_log_det, solve_lower
from infogeo.measures import measure


@measure(symmetric=False, metric=False)
def kl_divergence(p: Family, q: Family) -> Array:
    r"""Kullback-Leibler divergence :math:`D(p\,\|\,q) = \int p \log(p/q)` in nats. Neither symmetric nor a metric.

    Infinite where q excludes what p allows. For close members of a family :math:`2 D \approx d^2` with the
    Fisher-Rao distance d; here it is summed from non-negative terms that keep their digits in that limit.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    References
    ----------
    .. [1] L. Pardo, Statistical Inference Based on Divergence Measures, Chapman & Hall 2006.

    Examples
    --------
    >>> from infogeo import Categorical
    >>> p, q = Categorical.from_probs([0.5, 0.5]), Categorical.from_probs([0.0, 1.0])
    >>> float(kl_divergence(p, q)), round(float(kl_divergence(q, p)), 6)
    (inf, 0.693147)
    """


@measure(symmetric=True, metric=False)
def jeffreys_divergence(p: Family, q: Family) -> Array:
    r"""Jeffreys divergence :math:`D(p\,\|\,q) + D(q\,\|\,p)` in nats. Symmetric, but not a metric.

    Its square root is never less than the Fisher-Rao distance.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    References
    ----------
    .. [1] H. Jeffreys, An invariant form for the prior probability in estimation problems, Proceedings of the Royal
       Society A 186 (1946) 453-461.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> float(jeffreys_divergence(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([2.0], [1.0])))
    4.0
    """


@measure(symmetric=True, metric=False)
def bhattacharyya_distance(p: Family, q: Family) -> Array:
    r"""Bhattacharyya distance :math:`-\log \int \sqrt{pq}` in nats. Called a distance, but not a metric.

    Infinite for distributions with disjoint supports.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    References
    ----------
    .. [1] T. Kailath, The divergence and Bhattacharyya distance measures in signal selection, IEEE Transactions on
       Communication Technology 15 (1967) 52-60.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> float(bhattacharyya_distance(DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([4.0], [1.0])))  # 4^2 / 8
    2.0
    """


# ------------------------------------------------------------------------------------------------ diagonal normals


def _log_variance_ratio(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    xp = namespace(p.var, q.var)
    relative = (p.var - q.var) / q.var
    near = abs(detached(relative)) < 0.5
    return xp.where(near, xp.log1p(xp.where(near, relative, 0.0)), xp.log(p.var) - xp.log(q.var))


@kl_divergence.register(DiagonalGaussian, scratch=7)
def _kl_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    with np.errstate(over="ignore", under="ignore"):  # a divergence beyond 1e308 is infinite
        shift = (p.mean - q.mean) / namespace(q.var).sqrt(q.var)  # squares of means may leave the range of float64
        terms = _kernels.expm1_excess(_log_variance_ratio(p, q)) + shift**2
    return as_result(0.5 * terms.sum(axis=-1))


@jeffreys_divergence.register(DiagonalGaussian, scratch=6)
def _jeffreys_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    xp = namespace(p.var, q.var)
    with np.errstate(over="ignore", under="ignore"):
        shift = p.mean - q.mean
        terms = (p.var - q.var) / p.var * ((p.var - q.var) / q.var)
        terms = terms + (shift / xp.sqrt(p.var)) ** 2 + (shift / xp.sqrt(q.var)) ** 2
    return as_result(0.5 * terms.sum(axis=-1))


def _bhattacharyya_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    xp = namespace(p.var, q.var)
    root_p, root_q = xp.sqrt(p.var), xp.sqrt(q.var)
    spread = (p.var - q.var) / (root_p + root_q)
    with np.errstate(over="ignore", under="ignore"):
        bulge = spread / root_p * (spread / root_q) / 2  # (v1 + v2) / (2 s1 s2) - 1
        shift = (p.mean / 2 - q.mean / 2) / xp.sqrt(p.var / 2 + q.var / 2)
        terms = 0.5 * xp.log1p(bulge) + shift**2 / 2
    return as_result(terms.sum(axis=-1))


bhattacharyya_distance.register(DiagonalGaussian, scratch=5)(_bhattacharyya_diagonal)


def _hellinger(bhattacharyya: Array) -> Array:
    return as_result(root(-namespace(bhattacharyya).expm1(-bhattacharyya)))


@hellinger_distance.register(DiagonalGaussian, scratch=5)
def _hellinger_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    return _hellinger(_bhattacharyya_diagonal(p, q))


# ---------------------------------------------------------------------------------------- one covariance, full ones



def _square(x: Array) -> Array:
    """Square, infinite beyond 1e308."""
    with np.errstate(over="ignore", under="ignore"):
        return x * x


_statistics.MAHALANOBIS.register(kl_divergence, lambda delta: _square(delta) / 2)
_statistics.MAHALANOBIS.register(jeffreys_divergence, lambda delta: _square(delta))
_statistics.MAHALANOBIS.register(bhattacharyya_distance, lambda delta: _square(delta) / 8)
_statistics.MAHALANOBIS.register(hellinger_distance, lambda delta: _hellinger(_square(delta) / 8))


class _Spread(NamedTuple):
    r"""Eigenvalues of :math:`\Sigma_q^{-1} \Sigma_p`, less one, from the difference of the covariances."""

    excess: Array
    near: Array
    """True where all are so small that the difference is more exact than the covariances themselves."""


def _spread(p: Gaussian, q: Gaussian) -> _Spread:
    xp = namespace(p.cov, q.cov)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # of covariances that are far apart
        half = solve_triangular(q.cholesky, p.cov - q.cov)
        whitened = solve_triangular(q.cholesky, xp.matrix_transpose(half))
        whitened = 0.5 * (whitened + xp.matrix_transpose(whitened))
    apart = ~xp.all(xp.isfinite(detached(whitened)), axis=(-2, -1), keepdims=True)
    excess = xp.linalg.eigvalsh(xp.where(apart, xp.ones_like(whitened), whitened))
    near = (xp.max(abs(detached(excess)), axis=-1) < 0.5) & ~apart[..., 0, 0]
    return _Spread(xp.where(near[..., None], excess, 0.0), near)


@kl_divergence.register(Gaussian, scratch=10)
def _kl_full(p: Gaussian, q: Gaussian) -> Array:
    spread = _spread(p, q)
    close = _kernels.log1p_excess(spread.excess).sum(axis=-1)
    with np.errstate(over="ignore", under="ignore"):  # a divergence beyond 1e308 is infinite
        trace = _square(solve_triangular(q.cholesky, p.cholesky)).sum(axis=(-2, -1))
        far = trace - p.dimension + 2 * (half_log_det(q.cholesky) - half_log_det(p.cholesky))
        shift = _square(solve_lower(q.cholesky, p.mean - q.mean)).sum(axis=-1)
    return as_result(0.5 * (namespace(far).where(spread.near, close, far) + shift))


@jeffreys_divergence.register(Gaussian, scratch=10)
def _jeffreys_full(p: Gaussian, q: Gaussian) -> Array:
    return as_result(_kl_full(p, q) + _kl_full(q, p))


def _bhattacharyya_full(p: Gaussian, q: Gaussian) -> Array:
    xp = namespace(p.cov, q.cov)
    spread = _spread(p, q)
    close = 0.25 * xp.log1p(spread.excess**2 / (4 * (1 + spread.excess))).sum(axis=-1)
    middle = xp.linalg.cholesky(0.5 * p.cov + 0.5 * q.cov)
    far = half_log_det(middle) - 0.5 * (half_log_det(p.cholesky) + half_log_det(q.cholesky))
    with np.errstate(over="ignore", under="ignore"):
        shift = _square(solve_lower(middle, p.mean - q.mean)).sum(axis=-1)
    return as_result(xp.where(spread.near, close, far) + shift / 8)


bhattacharyya_distance.register(Gaussian, scratch=10)(_bhattacharyya_full)


@hellinger_distance.register(Gaussian, scratch=10)
def _hellinger_full(p: Gaussian, q: Gaussian) -> Array:
    return _hellinger(_bhattacharyya_full(p, q))


# ----------------------------------------------------------------------------------------------------- categorical


def _kl_categorical(p: Categorical, q: Categorical) -> Array:
    return as_result(_kernels.kl_terms(p.log_probs, q.log_probs).sum(axis=-1))


def _jeffreys_categorical(p: Categorical, q: Categorical) -> Array:
    # (p - q)(log p - log q) with p - q = max(p, q) (1 - exp(-|gap|)); infinite where one excludes what the other allows
    xp = namespace(p.log_probs, q.log_probs)
    gap = abs(_kernels.log_gaps(p.log_probs, q.log_probs))
    larger = xp.exp(xp.maximum(p.log_probs, q.log_probs))
    excluded = xp.isinf(gap)
    if not excluded.any():
        return as_result((larger * -xp.expm1(-gap) * gap).sum(axis=-1))
    gap = xp.where(excluded, 0.0, gap)
    return as_result(xp.where(excluded & (larger > 0), np.inf, larger * -xp.expm1(-gap) * gap).sum(axis=-1))


kl_divergence.register(
    Categorical,
    scratch=14,
    block=_statistics.cross_entropy_block(_kl_categorical, symmetrized=False, copies=14),
)(_kl_categorical)
jeffreys_divergence.register(
    Categorical,
    scratch=10,
    block=_statistics.cross_entropy_block(_jeffreys_categorical, symmetrized=True, copies=10),
)(_jeffreys_categorical)


def _bhattacharyya_categorical(p: Categorical, q: Categorical) -> Array:
    xp = namespace(p.log_probs, q.log_probs)
    complement = _statistics.root_complement(p, q)
    near = complement < 0.5
    affinity = xp.exp(p.log_probs / 2 + q.log_probs / 2).sum(axis=-1)
    disjoint = affinity == 0
    far = xp.where(disjoint, np.inf, -xp.log(xp.where(disjoint, 1.0, affinity)))
    return as_result(xp.where(near, -xp.log1p(-xp.where(near, complement, 0.0)), far))


bhattacharyya_distance.register(
    Categorical, scratch=10, block=_blocks.affinity_block(_bhattacharyya_categorical, copies=12)
)(_bhattacharyya_categorical)

_statistics.ROOT_COMPLEMENT.register(hellinger_distance, root)
