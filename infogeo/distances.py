"""Distances between distributions; each says in its docstring whether it satisfies the axioms of a metric."""

from __future__ import annotations

import numpy as np

from infogeo import _blocks, _kernels, _statistics
from infogeo._arrays import (
    Array,
    as_result,
    detached,
    hypotenuse,
    length,
    namespace,
    requires_gradient,
    root,
    with_gradients,
)
from infogeo.families import Categorical, DiagonalGaussian, Family, Gaussian, PointMass, SharedCovarianceGaussian
from infogeo.measures import measure


@measure(symmetric=True, metric=True)
def fisher_rao_distance(p: Family, q: Family) -> Array:
    r"""Fisher-Rao distance: length of the shortest curve in the Fisher information metric. A metric, without unit.

    Which curves are allowed depends on the family, and so does the distance:

    * :class:`DiagonalGaussian`: curves of normals with independent coordinates. The manifold is a product of
      hyperbolic half-planes, so the squared distances of the coordinates add [1]_:
      :math:`d^2 = \sum_i d_i^2`, :math:`d_i = 2\sqrt2\,\mathrm{arsinh}\sqrt{(\Delta m_i^2/2 + \Delta s_i^2)
      / (4 s_{1i} s_{2i})}` with standard deviations *s*. Among *all* normals there can be shorter curves: from two
      coordinates on this is an upper bound of the distance there, and often more.
    * :class:`SharedCovarianceGaussian`: curves of all normals. :math:`d = \sqrt2\,\mathrm{arcosh}(1 + \Delta^2/4)
      = 2\sqrt2\,\mathrm{arsinh}(\Delta/(2\sqrt2))` with the Mahalanobis distance :math:`\Delta` of the means [2]_.
    * :class:`IsotropicGaussian`: curves of isotropic normals, a hyperbolic space of dimension d + 1 [1]_:
      :math:`d = 2\sqrt{2d}\,\mathrm{arsinh}\sqrt{(|\Delta m|^2/(2d) + \Delta s^2) / (4 s_1 s_2)}`; an upper bound of
      the distance among all normals.
    * :class:`CenteredGaussian`: :math:`d = \sqrt{\tfrac12\sum_i\log^2\lambda_i}` with the eigenvalues
      :math:`\lambda` of :math:`\Sigma_1^{-1}\Sigma_2`, the same among centered normals and among all [3]_.
    * :class:`Gaussian` and :class:`LowRankGaussian`: curves of all normals. No closed form; exact by an iteration, with
      a certificate in :func:`~infogeo.normal_geodesic` [4]_.
    * :class:`Categorical`: twice the angle between the square roots of the probabilities,
      :math:`d = 2 \arccos \sum_k \sqrt{p_k q_k}`, at most :math:`\pi` [1]_.
    * :class:`Multinomial`, :class:`Bernoulli` and :class:`Binomial`: the same for one trial, times the root of the
      number of trials.
    * :class:`Poisson`, :class:`Geometric` and :class:`Exponential` are lines:
      :math:`2 |\sqrt{r_1} - \sqrt{r_2}|`, :math:`2 |\mathrm{artanh}\sqrt{1 - p_1} - \mathrm{artanh}\sqrt{1 - p_2}|`
      and :math:`|\log r_1 - \log r_2|` [1]_.
    * :class:`LogNormal`, :class:`Weibull` and :class:`InverseGaussian`: hyperbolic half-planes; each class says which.
    * :class:`Gamma`, :class:`Beta`, :class:`Dirichlet` and :class:`VonMisesFisher`: no closed form; the geodesic is
      computed to a bracket of 1e-12, which :func:`~infogeo.geodesic_solution` shows.

    All are computed from differences (inverse hyperbolic sine, half chord), so that close neighbors keep their digits.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        For families without a density, as :class:`PointMass`.
    DomainError
        If two :class:`LowRankGaussian` have different diagonals, or members are too far apart for float64.
    ConvergenceError
        If a distance is found by an iteration, and that fails.

    References
    ----------
    .. [1] C. Atkinson, A. F. S. Mitchell, Rao's distance measure, Sankhya A 43 (1981) 345-365.
    .. [2] M. Calvo, J. M. Oller, An explicit solution of information geodesic equations for the multivariate normal
       model, Statistics & Decisions 9 (1991) 119-138.
    .. [3] L. T. Skovgaard, A Riemannian geometry of the multivariate normal model, Scandinavian Journal of Statistics
       11 (1984) 211-223.
    .. [4] S. Kobayashi, Geodesics of multivariate normal distributions and a Toda lattice type Lax pair, Physica
       Scripta 98 (2023) 115241.

    Examples
    --------
    >>> from infogeo import Categorical, DiagonalGaussian
    >>> p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([1.0], [4.0])
    >>> round(float(fisher_rao_distance(p, q)), 6)
    1.189381
    >>> p, q = Categorical.from_probs([1.0, 0.0]), Categorical.from_probs([0.0, 1.0])
    >>> round(float(fisher_rao_distance(p, q)), 6)  # pi
    3.141593
    """


def _fisher_rao_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    xp = namespace(p.var, q.var)
    s_p, s_q = xp.sqrt(p.var), xp.sqrt(q.var)
    # the difference of the roots, with the digits that the variances have
    parts = _kernels.half_plane_distances(p.mean, q.mean, s_p, s_q, (p.var - q.var) / (s_p + s_q))
    return as_result(length(parts))


fisher_rao_distance.register(
    DiagonalGaussian, scratch=6, block=_blocks.half_plane_block(_fisher_rao_diagonal, copies=8)
)(_fisher_rao_diagonal)
_statistics.MAHALANOBIS.register(
    fisher_rao_distance, lambda delta: 2 * 2**0.5 * namespace(delta).asinh(delta / (2 * 2**0.5))
)
_statistics.ROOT_COMPLEMENT.register(fisher_rao_distance, lambda c: 4 * namespace(c).atan2(root(c), root(2 - c)))
fisher_rao_distance.refuse(PointMass, "a point mass has no density; for plain vectors use euclidean_distance")


@measure(symmetric=True, metric=True)
def mahalanobis_distance(p: Family, q: Family) -> Array:
    r"""Mahalanobis distance :math:`\sqrt{(m_1-m_2)^\top \Sigma^{-1} (m_1-m_2)}` of the means. A metric, without unit.

    It is the Fisher-Rao distance among the normals of the one covariance :math:`\Sigma`, which is held fixed: a flat
    space. Among all normals the same two are nearer: :func:`fisher_rao_distance` gives
    :math:`2\sqrt2\,\mathrm{arsinh}(\Delta/(2\sqrt2))` for a Mahalanobis distance :math:`\Delta`.

    Parameters
    ----------
    p, q : SharedCovarianceGaussian
        With one covariance; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    References
    ----------
    .. [1] P. C. Mahalanobis, On the generalised distance in statistics, Proceedings of the National Institute of
       Sciences of India 2 (1936) 49-55.

    Examples
    --------
    >>> from infogeo import SharedCovarianceGaussian
    >>> p = SharedCovarianceGaussian([[0.0, 0.0], [3.0, 4.0]], [[0.25, 0.0], [0.0, 0.25]])
    >>> float(mahalanobis_distance(p[0], p[1])), round(float(fisher_rao_distance(p[0], p[1])), 6)
    (10.0, 5.587379)
    """


_statistics.MAHALANOBIS.register(mahalanobis_distance, lambda delta: delta)
mahalanobis_distance.refuse(
    Gaussian,
    "each of these normals has a covariance of its own; use fisher_rao_distance, or SharedCovarianceGaussian with one "
    "covariance for all",
)
mahalanobis_distance.refuse(DiagonalGaussian, "each of these normals has variances of its own; use fisher_rao_distance")
mahalanobis_distance.refuse(PointMass, "plain vectors have no covariance; use euclidean_distance")


@measure(symmetric=True, metric=True)
def hellinger_distance(p: Family, q: Family) -> Array:
    r"""Hellinger distance :math:`\sqrt{1 - \int\sqrt{pq}}`, between 0 and 1. A metric, without unit.

    With the Bhattacharyya distance *B* it is :math:`\sqrt{1 - e^{-B}}`; for categorical distributions
    :math:`\|\sqrt p - \sqrt q\| / \sqrt 2`.

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
    >>> round(float(hellinger_distance(p, q) ** 2), 6)  # 1 - sqrt(1/2)
    0.292893
    """


@measure(symmetric=True, metric=True)
def bures_wasserstein_distance(p: Family, q: Family) -> Array:
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
    array or tensor, shape (...,)

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
def _bures_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> Array:
    xp = namespace(p.var, q.var)
    spread = (p.var - q.var) / (xp.sqrt(p.var) + xp.sqrt(q.var))
    return as_result(hypotenuse(length(p.mean - q.mean), length(spread)))


@bures_wasserstein_distance.register(SharedCovarianceGaussian, scratch=3)
def _bures_shared(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> Array:
    return as_result(length(p.mean - q.mean))


@bures_wasserstein_distance.register(Gaussian, scratch=14)
def _bures_full(p: Gaussian, q: Gaussian) -> Array:
    return as_result(hypotenuse(length(p.mean - q.mean), _bures(p, q)))


def _bures(p: Gaussian, q: Gaussian) -> Array:
    """Bures distance of the covariances P and Q; d^2 has the gradients I - T at P and I - T^-1 at Q, T P T = Q."""
    xp = namespace(p.cov, q.cov)
    root_p, root_q = detached(p.cholesky), detached(q.cholesky)
    left, _, right = xp.linalg.svd(xp.matrix_transpose(_unit_scaled(root_q)) @ _unit_scaled(root_p))
    turned = root_q @ (left @ right)  # of the factors of Q the one nearest to that of P, T times it
    difference = root_p - turned
    far = length(difference.reshape(*difference.shape[:-2], -1))
    change, basis, close, near = _bures_of_close(detached(p.cov), detached(q.cov))
    distance = xp.where(near, close, far)
    if not requires_gradient(p.cov, q.cov):
        return distance
    # near: I - T is -E, and I - T^-1 is E (I + E)^-1 = E - E^2 + ..., where the norm of E is below 1e-3
    back = change
    for _ in range(8):
        back = change - back @ change
    # far: T = turned / root_p, and I - T = (root_p - turned) / root_p
    turned_p = root_p @ xp.matrix_transpose(left @ right)
    ends = (-change, root_p, difference), (back, root_q, root_q - turned_p)
    scale = 2 * xp.where(distance > 0, distance, 1.0)[..., None, None]
    slopes = []
    for small, factor, gap in ends:
        whole = xp.linalg.solve(xp.matrix_transpose(factor), xp.matrix_transpose(gap))
        whole = (whole + xp.matrix_transpose(whole)) / 2
        slopes.append(xp.where(near[..., None, None], basis @ small @ xp.matrix_transpose(basis), whole) / scale)
    return with_gradients(distance, (p.cov, slopes[0]), (q.cov, slopes[1]))


def _unit_scaled(factors: Array) -> Array:
    """Cholesky factors divided by their largest entries, so that products stay in the range of float64."""
    xp = namespace(factors)
    return factors / xp.max(xp.abs(factors), axis=(-2, -1), keepdims=True)


def _bures_of_close(p: Array, q: Array) -> tuple[Array, Array, Array, Array]:
    """For close covariances E of the optimal map I + E, in an eigenbasis of P, that basis, the distance, and which.

    E P + P E + E P E = Q - P is solved from the difference by iteration, and d^2 = tr(E P E). Factors would leave an
    error of 1e-16, even for equal covariances.
    """
    xp = namespace(p, q)
    values, basis = xp.linalg.eigh(p)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # of covariances that are not close
        turned = xp.matrix_transpose(basis) @ (q - p) @ basis
        sums = values[..., :, None] + values[..., None, :]
        first = turned / sums
        size = xp.max(xp.abs(first), axis=(-2, -1)) * p.shape[-1] * values[..., -1] / values[..., 0]
    near = size < 1e-3
    first = change = xp.where(near[..., None, None], first, 0.0)
    for _ in range(5):
        change = first - change * values[..., None, :] @ change / sums
    parts = change * xp.sqrt(values)[..., None, :]
    return change, basis, length(parts.reshape(*parts.shape[:-2], -1)), near


_statistics.EUCLIDEAN.register(bures_wasserstein_distance, lambda length: length)
bures_wasserstein_distance.refuse(
    Categorical, "a Wasserstein distance needs a distance between the outcomes; use hellinger_distance"
)


@measure(symmetric=True, metric=True)
def jensen_shannon_distance(p: Family, q: Family) -> Array:
    r"""Square root of the Jensen-Shannon divergence in nats, at most :math:`\sqrt{\log 2}`. A metric [1]_.

    :math:`d^2 = \tfrac12 D(p\,\|\,m) + \tfrac12 D(q\,\|\,m)` with :math:`m = (p + q)/2` and the Kullback-Leibler
    divergence *D*; finite also where the supports differ. Mixtures of densities, or of counts without end, have no
    closed form, so it is defined for :class:`Categorical` and :class:`Bernoulli` only.

    Parameters
    ----------
    p, q : Categorical or Bernoulli
        Batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

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


def _jensen_shannon_categorical(p: Categorical, q: Categorical) -> Array:
    terms = _kernels.jensen_shannon_terms(p.log_probs, q.log_probs)
    return as_result(root(namespace(terms).sum(terms, axis=-1)))


jensen_shannon_distance.register(
    Categorical, scratch=12, block=_blocks.jensen_shannon_block(_jensen_shannon_categorical, copies=14)
)(_jensen_shannon_categorical)


@measure(symmetric=True, metric=True)
def euclidean_distance(p: Family, q: Family) -> Array:
    r"""Length of the difference of two vectors, :math:`|x - y|`. A metric, in the unit of the vectors.

    Parameters
    ----------
    p, q : PointMass
        Vectors, wrapped as point masses; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,)

    Examples
    --------
    >>> from infogeo import PointMass
    >>> float(euclidean_distance(PointMass([1.0, 1.0]), PointMass([4.0, 5.0])))
    5.0
    """


_statistics.EUCLIDEAN.register(euclidean_distance, lambda length: length)


@measure(symmetric=True, metric=False)
def cosine_distance(p: Family, q: Family) -> Array:
    r"""One less the cosine of the angle of two vectors, :math:`1 - x^\top y / (|x| |y|)`. Not a metric.

    It breaks the triangle inequality (the directions 0, 45 and 90 degrees do), and vectors of one direction have
    distance zero.

    Parameters
    ----------
    p, q : PointMass
        Vectors, none of them zero, wrapped as point masses; batch shapes broadcast.

    Returns
    -------
    array or tensor, shape (...,), between 0 and 2

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
