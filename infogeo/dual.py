r"""Exponential families in their two flat coordinate systems, natural and expectation parameters.

An exponential family has densities :math:`\exp(\theta\cdot T(x) - \psi(\theta))` with respect to a measure that no
parameter enters. Its dual geometry (Amari and Nagaoka, Methods of Information Geometry, AMS 2000, section 3.4) rests on
the convex function :math:`\psi`: the expectation parameters are its gradient, :math:`\eta = E[T] = \nabla\psi`, the
Fisher information in theta its Hessian, the Amari-Chentsov tensor its third derivative, and the KL divergence its
Bregman divergence. Straight lines in theta and eta, alpha-connections and alpha-geodesics are in
:mod:`infogeo.connections`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, within_range
from infogeo._exponential import checked, regular, solve_moments, structure
from infogeo.families import Family
from infogeo.measures import check_pair


def natural_parameters(p: Family) -> FloatArray:
    r"""Natural parameters theta of the members, in which e-geodesics are straight.

    Statistics T, and natural parameters, by family (outcomes, dimensions and entries in their order):

    ========================= ============================================ ==========================================
    Family                    T(x)                                         theta
    ========================= ============================================ ==========================================
    DiagonalGaussian          x, then x^2                                  m/v, then -1/(2v)
    IsotropicGaussian         x, then the squared length of x              m/v, then -1/(2v)
    Gaussian                  x, then x_i x_j for i >= j                   S^-1 m, then the matrix -S^-1/2 likewise
    CenteredGaussian          x_i x_j for i >= j                           the matrix -S^-1/2 likewise
    SharedCovarianceGaussian  x (the covariance S held fixed)              S^-1 m
    LogNormal                 log x, (log x)^2                             m/v, -1/(2v)
    Categorical               indicators of all outcomes but the last      log of p_i / p_V
    Multinomial               counts of all outcomes but the last          log of p_i / p_V
    Bernoulli, Binomial       x                                            log of p / (1 - p)
    Geometric                 x                                            log(1 - p)
    Poisson                   x                                            log rate
    Exponential               x                                            -rate
    Gamma                     log x, x                                     shape, -rate
    Beta                      log x, log(1 - x)                            alpha, beta
    Dirichlet                 log x                                        concentration
    InverseGaussian           x, 1/x                                       -shape/(2 mean^2), -shape/2
    VonMisesFisher            x                                            concentration times mean direction
    ========================= ============================================ ==========================================

    A symmetric matrix enters by its lower triangle row by row (the order of ``np.tril_indices``). Of theta, the
    entries off the diagonal are doubled, of eta they are not: so :math:`\theta\cdot\eta` is the trace of the product.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    UnsupportedFamilyError
        If the family is no regular exponential family, such as :class:`Weibull` (whose shape is no natural parameter).
    DomainError
        If a member is at the border of the family (a probability of 0), or a parameter is a tensor that records
        gradients.

    References
    ----------
    .. [1] O. Barndorff-Nielsen, Information and Exponential Families in Statistical Theory, Wiley 1978, chapter 8.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> natural_parameters(DiagonalGaussian([3.0], [2.0])).tolist()
    [1.5, -0.25]
    """
    p, record = structure(p, "natural_parameters")
    regular(p, record, "natural_parameters")
    return within_range("natural_parameters", lambda: record.natural(p))


def expectation_parameters(p: Family) -> FloatArray:
    r"""Expectation parameters :math:`\eta = E[T] = \nabla\psi(\theta)`, in which m-geodesics are straight.

    The statistics T of each family are listed at :func:`natural_parameters`.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (..., n)

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`; a probability of 0 is allowed.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> expectation_parameters(DiagonalGaussian([3.0], [2.0])).tolist()  # E x, E x^2
    [3.0, 11.0]
    """
    p, record = structure(p, "expectation_parameters")
    return within_range("expectation_parameters", lambda: record.expectation(p))


def from_natural(p: Family, theta: ArrayLike) -> Any:
    """Members that have given natural parameters: the inverse of :func:`natural_parameters`.

    Parameters
    ----------
    p : Family
        Says the family and what all its members share (the dimension, a number of trials, a fixed covariance); its
        members do not enter.
    theta : array, shape (..., n)

    Returns
    -------
    Family
        Of batch shape (...,).

    Raises
    ------
    UnsupportedFamilyError
        As :func:`natural_parameters`.
    ShapeError, DomainError
        If the last axis has not length n, or a row lies outside the natural parameter space.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> q = from_natural(DiagonalGaussian([0.0], [1.0]), [1.5, -0.25])
    >>> q.mean.tolist(), q.var.tolist()
    ([3.0], [2.0])
    """
    p, record = structure(p, "from_natural")

    def members() -> Any:
        return record.from_natural(p, checked("theta", p, theta, record.natural_domain, record.natural_wanted))

    return within_range("from_natural", members)


def from_expectation(p: Family, eta: ArrayLike) -> Any:
    r"""Members that have given expectations of T: the inverse of :func:`expectation_parameters`.

    These are also the members of greatest likelihood for observations whose mean of T is eta. For Gamma, Beta,
    Dirichlet and VonMisesFisher Newton's method solves :math:`\nabla\psi(\theta) = \eta`; its residual is measured
    in the Fisher metric, so that it is the distance that is left, and ends below 1e-8 (as a rule near 1e-15). Where
    eta hardly depends on the parameters (a Gamma of shape 1e9: log E x - E log x is 5e-10) the members have only the
    digits that eta has.

    Parameters
    ----------
    p : Family
        Says the family and what all its members share, as in :func:`from_natural`.
    eta : array, shape (..., n)

    Returns
    -------
    Family
        Of batch shape (...,).

    Raises
    ------
    UnsupportedFamilyError
        As :func:`natural_parameters`.
    ShapeError, DomainError
        If the last axis has not length n, or no member has these expectations.
    ConvergenceError
        If the residual stays above 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DiagonalGaussian
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> q = from_expectation(DiagonalGaussian([0.0], [1.0]), [x.mean(), (x**2).mean()])
    >>> q.mean.tolist(), q.var.round(6).tolist() == [x.var().round(6)]
    ([3.0], True)
    """
    p, record = structure(p, "from_expectation")
    domain, wanted, solved = record.expectation_domain, record.expectation_wanted, record.from_expectation
    target = within_range("from_expectation", lambda: checked("eta", p, eta, domain, wanted))
    if solved is not None:
        return within_range("from_expectation", lambda: solved(p, target))
    found = solve_moments(record, p, record.start(p, target), target, caller="from_expectation")
    return record.from_natural(p, found.theta)


def log_partition(p: Family) -> FloatArray:
    r"""Log-partition function :math:`\psi(\theta)`, the cumulant function of T and generator of the Bregman divergence.

    Its zero depends on the measure that the densities refer to, which no parameter may enter. That is Lebesgue's for
    the normals and Exponential, but the normal of mean 0 for :class:`SharedCovarianceGaussian`; dx/x for LogNormal and
    Gamma, dx/(x (1 - x)) for Beta, for Dirichlet the volume over the product of all x_i,
    :math:`(2\pi x^3)^{-1/2} dx` for InverseGaussian, the area of the sphere for VonMisesFisher. It is counting for the
    discrete families, with weights 1/x! for Poisson and the number of arrangements for Binomial and Multinomial.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (...,)
        In nats.

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> round(float(log_partition(DiagonalGaussian([0.0], [1.0]))), 6)  # log(2 pi) / 2
    0.918939
    """
    p, record = structure(p, "log_partition")
    regular(p, record, "log_partition")
    return within_range("log_partition", lambda: np.asarray(record.log_partition(p)))


def dual_potential(p: Family) -> FloatArray:
    r"""Convex conjugate :math:`\varphi(\eta) = \theta\cdot\eta - \psi(\theta)`, the negative entropy.

    The entropy is that relative to the measure of the densities, see :func:`log_partition`; where that is Lebesgue's
    or counting, it is the entropy as such. :math:`\theta = \nabla\varphi(\eta)`, and the Hessian is the inverse of the
    Fisher information in theta, that is the Fisher information in eta.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (...,)
        In nats.

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.

    Examples
    --------
    >>> from infogeo import Categorical
    >>> p = Categorical.from_probs([0.5, 0.25, 0.25])
    >>> bool(abs(dual_potential(p) + p.entropy()) < 1e-15)
    True
    """
    p, record = structure(p, "dual_potential")
    regular(p, record, "dual_potential")
    return within_range(
        "dual_potential",
        lambda: np.asarray((record.natural(p) * record.expectation(p)).sum(axis=-1) - record.log_partition(p)),
    )


def natural_fisher_information(p: Family) -> FloatArray:
    r"""Fisher information in natural parameters: the Hessian of :math:`\psi`, the covariance of T.

    :func:`fisher_information` is the same metric in the coordinates of the family. The inverse of this matrix is the
    Fisher information in expectation parameters.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (..., n, n)

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> natural_fisher_information(DiagonalGaussian([0.0], [2.0])).tolist()
    [[2.0, 0.0], [0.0, 8.0]]
    """
    p, record = structure(p, "natural_fisher_information")
    regular(p, record, "natural_fisher_information")
    return within_range("natural_fisher_information", lambda: record.metric(p))


def bregman_divergence(p: Family, q: Family) -> FloatArray:
    r"""Bregman divergence of the log-partition function; equals ``kl_divergence(q, p)``, the arguments exchanged.

    .. math:: B_\psi(\theta_p, \theta_q) = \psi(\theta_p) - \psi(\theta_q) - \eta_q\cdot(\theta_p - \theta_q)
              = D_{KL}(q \,\|\, p)

    It is computed from this definition, term by term, and shows it; close neighbours lose digits to cancellation.
    To measure, use :func:`kl_divergence`, which keeps them.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)
        In nats.

    Raises
    ------
    UnsupportedFamilyError, DomainError
        As :func:`natural_parameters`.
    ShapeError
        If dimensions or batch shapes do not fit.

    References
    ----------
    .. [1] A. Banerjee, S. Merugu, I. S. Dhillon, J. Ghosh, Clustering with Bregman divergences, JMLR 6 (2005)
       1705-1749, section 4.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian, kl_divergence
    >>> p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([1.0], [4.0])
    >>> bool(abs(bregman_divergence(p, q) - kl_divergence(q, p)) < 1e-15)
    True
    """
    a, record = structure(p, "bregman_divergence")
    check_pair("bregman_divergence", p, q)
    b, _ = structure(q, "bregman_divergence")
    for side in (a, b):
        regular(side, record, "bregman_divergence")

    def value() -> FloatArray:
        change = ((record.natural(a) - record.natural(b)) * record.expectation(b)).sum(axis=-1)
        return np.asarray(record.log_partition(a) - record.log_partition(b) - change)

    return within_range("bregman_divergence", value)
