"""Divergences: measures of difference that are no metrics, in nats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infogeo import _kernels, _statistics
from infogeo._checks import FloatArray
from infogeo.distances import hellinger_distance
from infogeo.families import Categorical, DiagonalGaussian, Family, Gaussian
from infogeo.families.gaussian import solve_lower
from infogeo.measures import measure


@measure(symmetric=False, metric=False)
def kl_divergence(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Kullback-Leibler divergence :math:`D(p\,\|\,q) = \int p \log(p/q)` in nats. Neither symmetric nor a metric.

    Infinite where q excludes what p allows. For close members of a family :math:`2 D \approx d^2` with the
    Fisher-Rao distance d; here it is summed from non-negative terms that keep their digits in that limit.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

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
def jeffreys_divergence(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Jeffreys divergence :math:`D(p\,\|\,q) + D(q\,\|\,p)` in nats. Symmetric, but not a metric.

    Its square root is never less than the Fisher-Rao distance.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

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
def bhattacharyya_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Bhattacharyya distance :math:`-\log \int \sqrt{pq}` in nats. Called a distance, but not a metric.

    Infinite for distributions with disjoint supports.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

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


def _log_variance_ratio(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    relative = (p.var - q.var) / q.var
    near = np.abs(relative) < 0.5
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), np.log(p.var) - np.log(q.var))


@kl_divergence.register(DiagonalGaussian, scratch=7)
def _kl_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    with np.errstate(over="ignore"):  # a divergence beyond 1e308 is infinite
        terms = _kernels.expm1_excess(_log_variance_ratio(p, q)) + (p.mean - q.mean) ** 2 / q.var
    return np.asarray(0.5 * terms.sum(axis=-1))


@jeffreys_divergence.register(DiagonalGaussian, scratch=5)
def _jeffreys_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    with np.errstate(over="ignore"):
        spread = (p.var - q.var) / p.var * ((p.var - q.var) / q.var)
        terms = spread + (p.mean - q.mean) ** 2 * (1 / p.var + 1 / q.var)
    return np.asarray(0.5 * terms.sum(axis=-1))


def _bhattacharyya_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    spread = (p.var - q.var) / (np.sqrt(p.var) + np.sqrt(q.var))
    bulge = spread / np.sqrt(p.var) * (spread / np.sqrt(q.var)) / 2  # (v1 + v2) / (2 s1 s2) - 1
    terms = 0.5 * np.log1p(bulge) + (p.mean - q.mean) ** 2 / (4 * (p.var + q.var))
    return np.asarray(terms.sum(axis=-1))


bhattacharyya_distance.register(DiagonalGaussian, scratch=5)(_bhattacharyya_diagonal)


@hellinger_distance.register(DiagonalGaussian, scratch=5)
def _hellinger_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    return np.asarray(np.sqrt(-np.expm1(-_bhattacharyya_diagonal(p, q))))


# ---------------------------------------------------------------------------------------- one covariance, full ones

_statistics.MAHALANOBIS.register(kl_divergence, lambda delta: delta**2 / 2)
_statistics.MAHALANOBIS.register(jeffreys_divergence, lambda delta: delta**2)
_statistics.MAHALANOBIS.register(bhattacharyya_distance, lambda delta: delta**2 / 8)
_statistics.MAHALANOBIS.register(hellinger_distance, lambda delta: np.sqrt(-np.expm1(-(delta**2) / 8)))


class _Spread(NamedTuple):
    r"""Eigenvalues of :math:`\Sigma_q^{-1} \Sigma_p`, less one, from the difference of the covariances."""

    excess: FloatArray
    near: FloatArray
    """True where all are so small that the difference is more exact than the covariances themselves."""


def _spread(p: Gaussian, q: Gaussian) -> _Spread:
    half = np.linalg.solve(q.cholesky, p.cov - q.cov)
    whitened = np.linalg.solve(q.cholesky, np.swapaxes(half, -1, -2))
    excess = np.linalg.eigvalsh(0.5 * (whitened + np.swapaxes(whitened, -1, -2)))
    near = np.abs(excess).max(axis=-1) < 0.5
    return _Spread(np.where(near[..., None], excess, 0.0), near)


def _log_det(p: Gaussian) -> FloatArray:
    return np.asarray(2 * np.log(np.diagonal(p.cholesky, axis1=-2, axis2=-1)).sum(axis=-1))


@kl_divergence.register(Gaussian, scratch=10)
def _kl_full(p: Gaussian, q: Gaussian) -> FloatArray:
    spread = _spread(p, q)
    close = _kernels.log1p_excess(spread.excess).sum(axis=-1)
    trace = (np.linalg.solve(q.cholesky, p.cholesky) ** 2).sum(axis=(-2, -1))
    far = trace - p.dimension + _log_det(q) - _log_det(p)
    shift = solve_lower(q.cholesky, p.mean - q.mean)
    return np.asarray(0.5 * (np.where(spread.near, close, far) + (shift**2).sum(axis=-1)))


@jeffreys_divergence.register(Gaussian, scratch=10)
def _jeffreys_full(p: Gaussian, q: Gaussian) -> FloatArray:
    return np.asarray(_kl_full(p, q) + _kl_full(q, p))


def _bhattacharyya_full(p: Gaussian, q: Gaussian) -> FloatArray:
    spread = _spread(p, q)
    close = 0.25 * np.log1p(spread.excess**2 / (4 * (1 + spread.excess))).sum(axis=-1)
    middle = np.linalg.cholesky(0.5 * p.cov + 0.5 * q.cov)
    log_det = 2 * np.log(np.diagonal(middle, axis1=-2, axis2=-1)).sum(axis=-1)
    far = 0.5 * log_det - 0.25 * (_log_det(p) + _log_det(q))
    shift = (np.linalg.solve(middle, (p.mean - q.mean)[..., None]) ** 2).sum(axis=(-2, -1))
    return np.asarray(np.where(spread.near, close, far) + shift / 8)


bhattacharyya_distance.register(Gaussian, scratch=10)(_bhattacharyya_full)


@hellinger_distance.register(Gaussian, scratch=10)
def _hellinger_full(p: Gaussian, q: Gaussian) -> FloatArray:
    return np.asarray(np.sqrt(-np.expm1(-_bhattacharyya_full(p, q))))


# ----------------------------------------------------------------------------------------------------- categorical


def _kl_categorical(p: Categorical, q: Categorical) -> FloatArray:
    return np.asarray(_kernels.kl_terms(p.log_probs, q.log_probs).sum(axis=-1))


def _jeffreys_categorical(p: Categorical, q: Categorical) -> FloatArray:
    # (p - q)(log p - log q) with p - q = max(p, q) (1 - exp(-|gap|)); infinite where one excludes what the other allows
    gap = np.abs(_kernels.log_gaps(p.log_probs, q.log_probs))
    larger = np.exp(np.maximum(p.log_probs, q.log_probs))
    with np.errstate(invalid="ignore"):
        terms = larger * -np.expm1(-gap) * gap
    return np.asarray(np.where(larger > 0, terms, 0.0).sum(axis=-1))


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


@bhattacharyya_distance.register(Categorical, scratch=10)
def _bhattacharyya_categorical(p: Categorical, q: Categorical) -> FloatArray:
    complement = _statistics.root_complement(p, q)
    near = complement < 0.5
    affinity = np.exp(p.log_probs / 2 + q.log_probs / 2).sum(axis=-1)
    with np.errstate(divide="ignore"):
        return np.where(near, -np.log1p(-np.where(near, complement, 0.0)), -np.log(affinity))


_statistics.ROOT_COMPLEMENT.register(hellinger_distance, np.sqrt)
