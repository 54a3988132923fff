"""Distances between distributions; each says in its docstring whether it satisfies the axioms of a metric."""

from __future__ import annotations

import numpy as np

from infogeo import _kernels, _statistics
from infogeo._checks import FloatArray
from infogeo.families import Categorical, DiagonalGaussian, Family, Gaussian, PointMass, SharedCovarianceGaussian
from infogeo.measures import measure


@measure(symmetric=True, metric=True)
def fisher_rao_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Fisher-Rao distance: length of the shortest curve in the Fisher information metric. A metric, without unit.

    Which curves are allowed depends on the family, and so does the distance:

    * :class:`DiagonalGaussian`: curves of normals with independent coordinates. The manifold is a product of
      hyperbolic half-planes, so the squared distances of the coordinates add [1]_:
      :math:`d^2 = \sum_i d_i^2`, :math:`d_i = 2\sqrt2\,\mathrm{arsinh}\sqrt{(\Delta m_i^2/2 + \Delta s_i^2)
      / (4 s_{1i} s_{2i})}` with standard deviations *s*. Among *all* normals there can be shorter curves: from two
      coordinates on this is an upper bound of the distance there, and often more.
    * :class:`SharedCovarianceGaussian`: curves of all normals. :math:`d = \sqrt2\,\mathrm{arcosh}(1 + \Delta^2/4)
      = 2\sqrt2\,\mathrm{arsinh}(\Delta/(2\sqrt2))` with the Mahalanobis distance :math:`\Delta` of the means [2]_.
    * :class:`Categorical`: twice the angle between the square roots of the probabilities,
      :math:`d = 2 \arccos \sum_k \sqrt{p_k q_k}`, at most :math:`\pi` [1]_.

    All are computed from differences (inverse hyperbolic sine, half chord), so that close neighbors keep their digits.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        For families without a formula, :class:`Gaussian` with a covariance for each member among them.

    References
    ----------
    .. [1] C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365.
    .. [2] M. Calvo, J. M. Oller, An explicit solution of information geodesic equations for the multivariate normal
       model, Statistics & Decisions 9 (1991) 119-138.

    Examples
    --------
    >>> from infogeo import Categorical, DiagonalGaussian
    >>> p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([1.0], [4.0])
    >>> round(float(fisher_rao_distance(p, q)), 6)
    1.189381
    >>> float(fisher_rao_distance(Categorical.from_probs([1.0, 0.0]), Categorical.from_probs([0.0, 1.0]))) == np.pi
    True
    """


@fisher_rao_distance.register(DiagonalGaussian, scratch=3)
def _fisher_rao_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    s_p, s_q = np.sqrt(p.var), np.sqrt(q.var)
    # the difference of the roots, with the digits that the variances have
    parts = _kernels.half_plane_distances(p.mean, q.mean, s_p, s_q, (p.var - q.var) / (s_p + s_q))
    return np.asarray(np.linalg.norm(parts, axis=-1))


_statistics.MAHALANOBIS.register(fisher_rao_distance, lambda delta: 2 * 2**0.5 * np.arcsinh(delta / (2 * 2**0.5)))
_statistics.ROOT_COMPLEMENT.register(fisher_rao_distance, lambda c: 4 * np.arctan2(np.sqrt(c), np.sqrt(2 - c)))
fisher_rao_distance.refuse(
    Gaussian,
    "normals that each have a full covariance of their own need an iteration (or the Calvo-Oller bound), which infogeo "
    "does not have yet; use SharedCovarianceGaussian or DiagonalGaussian, or another measure that knows Gaussian, "
    "such as hellinger_distance or bures_wasserstein_distance",
)
fisher_rao_distance.refuse(PointMass, "a point mass has no density; for plain vectors use euclidean_distance")


@measure(symmetric=True, metric=True)
def hellinger_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Hellinger distance :math:`\sqrt{1 - \int\sqrt{pq}}`, between 0 and 1. A metric, without unit.

    With the Bhattacharyya distance *B* it is :math:`\sqrt{1 - e^{-B}}`; for categorical distributions
    :math:`\|\sqrt p - \sqrt q\| / \sqrt 2`.

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
    >>> round(float(hellinger_distance(p, q) ** 2), 6)  # 1 - sqrt(1/2)
    0.292893
    """


@measure(symmetric=True, metric=True)
def bures_wasserstein_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""2-Wasserstein distance of normals, in the unit of the vectors. A metric.

    :math:`d^2 = |m_1 - m_2|^2 + \mathrm{tr}\,(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1^{1/2}\Sigma_2\Sigma_1^{1/2})^{1/2})`
    [1]_. The part of the covariances is computed as :math:`\min_U \|L_1 - L_2 U\|_F^2` over rotations *U* of
    Cholesky factors, a sum of squares that cannot turn negative by rounding; for close covariances from their
    difference.

    Parameters
    ----------
    p, q : Family
        Normals or point masses, of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    References
    ----------
    .. [1] R. Bhatia, T. Jain, Y. Lim, On the Bures-Wasserstein distance between positive definite matrices,
       Expositiones Mathematicae 37 (2019) 165-191.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([3.0], [25.0])
    >>> float(bures_wasserstein_distance(p, q))  # sqrt(3^2 + (5 - 1)^2)
    5.0
    """


@bures_wasserstein_distance.register(DiagonalGaussian, scratch=3)
def _bures_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> FloatArray:
    spread = (p.var - q.var) / (np.sqrt(p.var) + np.sqrt(q.var))
    return np.asarray(np.sqrt(((p.mean - q.mean) ** 2 + spread**2).sum(axis=-1)))


@bures_wasserstein_distance.register(SharedCovarianceGaussian, scratch=3)
def _bures_shared(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> FloatArray:
    return np.asarray(np.linalg.norm(p.mean - q.mean, axis=-1))


@bures_wasserstein_distance.register(Gaussian, scratch=14)
def _bures_full(p: Gaussian, q: Gaussian) -> FloatArray:
    left, _, right = np.linalg.svd(np.swapaxes(q.cholesky, -1, -2) @ p.cholesky)
    far = np.linalg.norm(p.cholesky - q.cholesky @ (left @ right), axis=(-2, -1))
    # Close covariances: the optimal map I + E has E P + P E + E P E = Q - P, solved from the difference by iteration in
    # the eigenbasis of P, where d^2 = tr(E P E). Factors would leave an error of 1e-16, even for equal covariances.
    values, basis = np.linalg.eigh(p.cov)
    difference = np.swapaxes(basis, -1, -2) @ (q.cov - p.cov) @ basis
    sums = values[..., :, None] + values[..., None, :]
    first = difference / sums
    size = np.linalg.norm(first, axis=(-2, -1)) * values[..., -1] / values[..., 0]
    near = size < 1e-3
    first = change = np.where(near[..., None, None], first, 0.0)
    for _ in range(5):
        change = first - change * values[..., None, :] @ change / sums
    close = np.sqrt((change**2 * values[..., None, :]).sum(axis=(-2, -1)))
    return np.asarray(np.hypot(np.linalg.norm(p.mean - q.mean, axis=-1), np.where(near, close, far)))


_statistics.EUCLIDEAN.register(bures_wasserstein_distance, lambda length: length)
bures_wasserstein_distance.refuse(
    Categorical, "a Wasserstein distance needs a distance between the outcomes; use hellinger_distance"
)


@measure(symmetric=True, metric=True)
def jensen_shannon_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Square root of the Jensen-Shannon divergence in nats, at most :math:`\sqrt{\log 2}`. A metric [1]_.

    :math:`d^2 = \tfrac12 D(p\,\|\,m) + \tfrac12 D(q\,\|\,m)` with :math:`m = (p + q)/2` and the Kullback-Leibler
    divergence *D*; finite also where the supports differ. Mixtures of normals have no closed form, so it is defined
    for :class:`Categorical` only.

    Parameters
    ----------
    p, q : Categorical
        Batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    References
    ----------
    .. [1] D. M. Endres, J. E. Schindelin, A new metric for probability distributions, IEEE Transactions on
       Information Theory 49 (2003) 1858-1860.

    Examples
    --------
    >>> from infogeo import Categorical
    >>> p, q = Categorical.from_probs([1.0, 0.0]), Categorical.from_probs([0.0, 1.0])
    >>> round(float(jensen_shannon_distance(p, q)) ** 2, 6)  # log 2
    0.693147
    """


@jensen_shannon_distance.register(Categorical, scratch=12)
def _jensen_shannon_categorical(p: Categorical, q: Categorical) -> FloatArray:
    return np.asarray(np.sqrt(_kernels.jensen_shannon_terms(p.log_probs, q.log_probs).sum(axis=-1)))


@measure(symmetric=True, metric=True)
def euclidean_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Length of the difference of two vectors, :math:`|x - y|`. A metric, in the unit of the vectors.

    Parameters
    ----------
    p, q : PointMass
        Vectors, wrapped as point masses; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    Examples
    --------
    >>> from infogeo import PointMass
    >>> float(euclidean_distance(PointMass([1.0, 1.0]), PointMass([4.0, 5.0])))
    5.0
    """


_statistics.EUCLIDEAN.register(euclidean_distance, lambda length: length)


@measure(symmetric=True, metric=False)
def cosine_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""One less the cosine of the angle of two vectors, :math:`1 - x^\top y / (|x| |y|)`. Not a metric.

    It breaks the triangle inequality (the directions 0, 45 and 90 degrees do), and vectors of one direction have
    distance zero.

    Parameters
    ----------
    p, q : PointMass
        Vectors, none of them zero, wrapped as point masses; batch shapes broadcast.

    Returns
    -------
    array, shape (...,), between 0 and 2

    Raises
    ------
    DomainError
        If a vector is zero.

    Examples
    --------
    >>> from infogeo import PointMass
    >>> round(float(cosine_distance(PointMass([1.0, 0.0]), PointMass([1.0, 1.0]))), 6)  # 1 - sqrt(1/2)
    0.292893
    """


_statistics.COSINE_COMPLEMENT.register(cosine_distance, lambda c: c)
