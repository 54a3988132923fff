r"""Divergences with an order: Rényi's and Amari's, which have Kullback and Leibler's among them.

Both are functions of one integral, and of one number T computed in :mod:`infogeo._skew` and the modules that know the
families. With :math:`\lambda + \mu = 1`

.. math:: R_\lambda(p\,\|\,q) = \frac{1}{\lambda - 1} \log \int p^\lambda q^\mu = \lambda T_\lambda, \qquad
          A(p\,\|\,q) = \frac{1}{\lambda\mu} \Bigl(1 - \int p^\lambda q^\mu\Bigr)
          = \frac{1 - e^{-\lambda\mu T_\lambda}}{\lambda\mu} .
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from infogeo import _skew, _statistics
from infogeo._arrays import Array, as_result, is_tensor, namespace
from infogeo._checks import check_number
from infogeo._skew_families import KERNELS, LARGEST, REFUSED, ZERO
from infogeo.errors import ArgumentError, DomainError
from infogeo.families import Family
from infogeo.measures import Measure


class OrderedMeasure(Measure):
    """A :class:`Measure` made from a divergence with an order by fixing the order; pickled as that."""

    def __init__(self, make: Any, parameter: str, value: float, *, symmetric: bool, doc: str) -> None:
        kind = make.__name__.removesuffix("_measure") + "_divergence"
        super().__init__(f"{kind}({parameter}={value!r})", symmetric=symmetric, metric=False, doc=doc)
        self._made_by = (make, (value,))

    def __reduce__(self) -> Any:
        return self._made_by


def renyi_divergence(p: Family, q: Family, *, order: float) -> Array:
    r"""Rényi divergence of an order, in nats. Neither symmetric nor a metric.

    .. math:: R_\lambda(p\,\|\,q) = \frac{1}{\lambda - 1} \log \int p^\lambda q^{1 - \lambda}

    It grows with the order. Order 1 is the limit, :func:`kl_divergence`; order 1/2 is twice
    :func:`bhattacharyya_distance`, and symmetric; order 2 is :math:`\log(1 + \chi^2)`; order 0 is
    :math:`-\log q(\{p > 0\})`, zero where the supports are the same; order infinity is the logarithm of the largest
    ratio p/q [1]_. Orders below 1 are finite unless p and q exclude each other; from 1 on the divergence is infinite
    where q excludes what p allows, and above 1 also where the tails of q are too light for the integral: for normals
    unless :math:`\lambda \Sigma_q + (1 - \lambda) \Sigma_p` is positive definite [2]_. For close members of a family
    :math:`2 R_\lambda / \lambda \approx d^2` with the Fisher-Rao distance d, and the value keeps its digits there and
    next to order 1.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast. Normals of every kind, :class:`Categorical` and the exponential families
        have a formula.
    order : float
        At least 0; infinity for discrete families and normals.

    Returns
    -------
    array, shape (...,)
        A tensor, with gradients, where the parameters are tensors.

    Raises
    ------
    ArgumentError
        If the order is negative, NaN, or finite and above 1e15.
    UnsupportedFamilyError
        If the two are of different families, or of one without a formula (for the infinite order).
    ShapeError, DomainError
        As for every measure.

    See Also
    --------
    renyi_measure : The same as a measure of two arguments, for :func:`pairwise`.
    alpha_divergence : Amari's divergences, functions of the same integral.

    References
    ----------
    .. [1] T. van Erven, P. Harremoes, Rényi divergence and Kullback-Leibler divergence, IEEE Transactions on
       Information Theory 60 (2014) 3797-3820.
    .. [2] M. Gil, F. Alajaji, T. Linder, Rényi divergence measures for commonly used univariate continuous
       distributions, Information Sciences 249 (2013) 124-131.

    Examples
    --------
    >>> from infogeo import Categorical, DiagonalGaussian
    >>> p, q = DiagonalGaussian([0.0], [1.0]), DiagonalGaussian([2.0], [1.0])
    >>> float(renyi_divergence(p, q, order=0.5))  # order * (difference of the means)^2 / 2
    1.0
    >>> p, q = Categorical.from_probs([0.5, 0.5, 0.0]), Categorical.from_probs([0.25, 0.5, 0.25])
    >>> renyi_divergence(p, q, order=float("inf")).round(6).item()  # log 2
    0.693147
    """
    return renyi_measure(order)(p, q)


def renyi_measure(order: float) -> Measure:
    """The Rényi divergence of one order as a measure of two arguments.

    Parameters
    ----------
    order : float
        At least 0, or infinity.

    Returns
    -------
    Measure
        ``renyi_measure(order)(p, q)`` is ``renyi_divergence(p, q, order=order)``. It is not in ``MEASURES``, whose
        measures have no parameters.

    Raises
    ------
    ArgumentError
        If the order is negative, NaN, or finite and above 1e15.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian, pairwise
    >>> x = DiagonalGaussian([[0.0], [2.0]], [[1.0], [1.0]])
    >>> pairwise(renyi_measure(2), x).tolist()
    [[0.0, 4.0], [4.0, 0.0]]
    """
    value = _number("order", order)
    if not value >= 0:
        raise ArgumentError(f"order: found {order}, wanted a number of at least 0")
    return _renyi_measure(value)


def alpha_divergence(p: Family, q: Family, *, alpha: float) -> Array:
    r"""Amari's alpha-divergence. Neither symmetric (but for alpha = 0) nor a metric; without unit.

    .. math:: A_\alpha(p\,\|\,q) = \frac{4}{1 - \alpha^2} \Bigl(1 - \int p^{(1-\alpha)/2} q^{(1+\alpha)/2}\Bigr)

    The orientation is that of [1]_: :math:`\alpha \to -1` gives :math:`D(p\,\|\,q)`, the :func:`kl_divergence` of p
    and q, and :math:`\alpha \to +1` that of q and p. Duality exchanges the two: :math:`A_\alpha(p\,\|\,q) =
    A_{-\alpha}(q\,\|\,p)`. Alpha 0 is four times the square of :func:`hellinger_distance`, and alpha -3 half of
    Pearson's :math:`\chi^2 = \int p^2/q - 1`. For alpha between -1 and 1 the value is at most
    :math:`4/(1 - \alpha^2)`; outside it can be infinite, as :func:`renyi_divergence` of an order above 1. For close
    members of a family :math:`2 A_\alpha \approx d^2` with the Fisher-Rao distance d, whatever alpha is.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast. Families as for :func:`renyi_divergence`.
    alpha : float
        Any finite number.

    Returns
    -------
    array, shape (...,)
        A tensor, with gradients, where the parameters are tensors.

    Raises
    ------
    ArgumentError
        If alpha is not finite, or above 1e15 in size.
    UnsupportedFamilyError, ShapeError, DomainError
        As for every measure.

    See Also
    --------
    alpha_measure : The same as a measure of two arguments, for :func:`pairwise`.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, American Mathematical Society 2000, section 3.2.

    Examples
    --------
    >>> from infogeo import Categorical, hellinger_distance, kl_divergence
    >>> p, q = Categorical.from_probs([0.5, 0.5]), Categorical.from_probs([0.9, 0.1])
    >>> bool(np.isclose(alpha_divergence(p, q, alpha=0), 4 * hellinger_distance(p, q) ** 2))
    True
    >>> bool(np.isclose(alpha_divergence(p, q, alpha=-1), kl_divergence(p, q)))
    True
    """
    return alpha_measure(alpha)(p, q)


def alpha_measure(alpha: float) -> Measure:
    """Amari's divergence of one alpha as a measure of two arguments.

    Parameters
    ----------
    alpha : float
        Any finite number.

    Returns
    -------
    Measure
        ``alpha_measure(alpha)(p, q)`` is ``alpha_divergence(p, q, alpha=alpha)``. It is not in ``MEASURES``, whose
        measures have no parameters.

    Raises
    ------
    ArgumentError
        If alpha is not finite, or above 1e15 in size.

    Examples
    --------
    >>> from infogeo import Categorical, pairwise
    >>> x = Categorical.from_probs([[1.0, 0.0], [0.0, 1.0]])
    >>> pairwise(alpha_measure(0), x).tolist()  # the largest value, 4 / (1 - alpha^2)
    [[0.0, 4.0], [4.0, 0.0]]
    """
    value = _number("alpha", alpha)
    if not math.isfinite(value):
        raise ArgumentError(f"alpha: found {alpha}, wanted a finite number")
    return _alpha_measure(value + 0.0)  # -0.0 is 0.0


# ------------------------------------------------------------------------------------------------------- internals


@lru_cache(maxsize=256)
def _renyi_measure(order: float) -> Measure:
    made = OrderedMeasure(
        renyi_measure, "order", order, symmetric=order == 0.5,
        doc=f"Rényi divergence of order {order!r} in nats, see renyi_divergence. Not a metric.",
    )
    lam, mu = order, 1 - order

    def register(family: type[Family], scratch: int) -> None:
        @made.register(family, scratch=scratch)
        def value(p: Any, q: Any) -> Array:
            if math.isinf(order):
                return _in_range(made.name, lambda: LARGEST[family](p, q))
            if order == 0:
                return _in_range(made.name, lambda: ZERO.get(family, _one_support)(p, q))
            return _in_range(made.name, lambda: lam * KERNELS[family][0](*_skew.swapped(p, q, lam, mu)))

    if math.isinf(order):
        for family, (_, scratch) in KERNELS.items():
            if family in LARGEST:
                register(family, scratch)
            else:
                made.refuse(family, "the largest ratio of two densities has no formula here; use a finite order")
        _statistics.MAHALANOBIS.register(made, lambda delta: namespace(delta).where(delta > 0, np.inf, delta * 0))
    else:
        for family, (_, scratch) in KERNELS.items():
            register(family, scratch)
        _statistics.MAHALANOBIS.register(made, lambda delta: _in_range(made.name, lambda: order * delta**2 / 2))
    return _refusing(made)


@lru_cache(maxsize=256)
def _alpha_measure(alpha: float) -> Measure:
    made = OrderedMeasure(
        alpha_measure, "alpha", alpha, symmetric=alpha == 0,
        doc=f"Amari's divergence of alpha {alpha!r}, see alpha_divergence. Not a metric.",
    )
    lam, mu = (1 - alpha) / 2, (1 + alpha) / 2

    def register(family: type[Family], scratch: int) -> None:
        @made.register(family, scratch=scratch)
        def value(p: Any, q: Any) -> Array:
            return _in_range(
                made.name, lambda: _skew.alpha_of(KERNELS[family][0](*_skew.swapped(p, q, lam, mu)), lam, mu)
            )

    for family, (_, scratch) in KERNELS.items():
        register(family, scratch)
    _statistics.MAHALANOBIS.register(
        made, lambda delta: _in_range(made.name, lambda: _skew.alpha_of(delta**2 / 2, lam, mu))
    )
    return _refusing(made)


def _in_range(name: str, compute: Callable[[], Array]) -> Array:
    """The values, infinite where they are beyond 1e308; an error where none is left."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = as_result(compute())
    if not is_tensor(values) and np.isnan(values).any():
        raise DomainError(
            f"{name}: a number on the way to the result is out of the range of float64; choose other units, so that "
            "parameters are nearer to 1"
        )
    return values


def _one_support(p: Any, q: Any) -> Array:
    """Zero in the shape of the pairs, with a record of gradients if the parameters have one."""
    name, axes = next(iter(p.event_axes.items()))
    nothing = (getattr(p, name) - getattr(q, name)) * 0
    return nothing.sum(axis=tuple(range(-axes, 0))) if axes else nothing


def _refusing(made: Measure) -> Measure:
    for family, reason in REFUSED.items():
        made.refuse(family, reason)
    return made


LARGEST_ORDER = 1e15
"""Finite orders, and values of alpha, up to this: the difference of the order and one keeps a digit."""


def _number(name: str, value: Any) -> float:
    number = check_number(name, value)
    if math.isfinite(number) and abs(number) > LARGEST_ORDER:
        raise ArgumentError(f"{name}: found {number:g}, wanted at most {LARGEST_ORDER:g} in size")
    return number
