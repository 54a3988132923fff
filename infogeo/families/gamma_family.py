"""Gamma, beta and Dirichlet distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _gamma_functions, _kernels
from infogeo._checks import (
    FloatArray,
    as_float_array,
    check_points,
    check_sums,
    random_generator,
    sealed,
    sum_tolerance,
)
from infogeo.errors import DomainError, ShapeError
from infogeo.families._parameters import check_entries, check_positive, in_range, set_parameters
from infogeo.families.base import Family, RandomState, check_batch, table

LEAST = 1e-100
"""Least shape parameter or concentration; its inverse is the largest."""


@dataclass(frozen=True, eq=False)
class Gamma(Family):
    r"""Gamma distributions with density :math:`r^k x^{k-1} e^{-r x} / \Gamma(k)` for :math:`x > 0`.

    The Fisher-Rao distance is measured among all gamma distributions, a surface of curvature between -1/4 and -1/2
    [1]_. With the mean :math:`m = k / r` its metric is :math:`(\psi'(k) - 1/k)\,dk^2 + (k/m^2)\,dm^2`: the distance
    does not depend on the unit of x. It has no closed form and is computed by
    :mod:`infogeo.manifolds.numerical`, with a certificate.

    Parameters
    ----------
    shape : array, shape (...,)
        :math:`k > 0`, from 1e-100 to 1e100; 1 for exponential distributions.
    rate : array, shape (...,)
        :math:`r > 0`, the inverse of the scale. The two broadcast against each other.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite, positive and in that range.

    References
    ----------
    .. [1] K. Arwini, C. T. J. Dodson, Information Geometry: Near Randomness and Near Independence, Springer 2008,
       chapter 3.

    Examples
    --------
    >>> from infogeo import Gamma, fisher_rao_distance
    >>> p = Gamma(shape=[1.0, 2.0], rate=1.0)
    >>> p.entropy().round(6).tolist()  # of the exponential distribution, and 1 + Euler's constant
    [1.0, 1.577216]
    >>> round(float(fisher_rao_distance(p[0], p[1])), 6)
    0.970907
    """

    event_axes: ClassVar[Mapping[str, int]] = {"shape": 0, "rate": 0}

    shape: FloatArray
    """(...,), positive"""
    rate: FloatArray
    """(...,), positive"""

    def __post_init__(self) -> None:
        set_parameters(self, shape=self.shape, rate=self.rate)
        check_positive(self, "shape", "rate")
        _check_range(self, "shape")

    @property
    def dimension(self) -> int:
        """1: samples are numbers."""
        return 1

    @property
    def log_mean(self) -> FloatArray:
        r"""Logarithm of the mean, :math:`\log(k / r)`."""
        return np.asarray(np.log(self.shape) - np.log(self.rate))

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity below zero."""
        at = check_points(as_float_array("x", x), self.batch_shape)
        inside = at > 0
        log_x = np.log(np.where(inside, at, 1.0))
        # k (1 + log y - y) with y = x / mean does not cancel for large k
        with np.errstate(over="ignore"):
            body = -self.shape * _kernels.expm1_excess(log_x - self.log_mean)
        value = body - log_x - _gamma_functions.beta(self.shape)
        edge = np.where(self.shape > 1, -np.inf, np.where(self.shape < 1, np.inf, np.log(self.rate)))
        return np.where(inside, value, np.where(at == 0, edge, -np.inf))

    def entropy(self) -> FloatArray:
        r"""Differential entropy in nats, :math:`k - \log r + \log\Gamma(k) + (1 - k)\psi(k)`."""
        slope = _gamma_functions.beta_slope(self.shape)
        return np.asarray(_gamma_functions.beta(self.shape) + self.log_mean + (1 - self.shape) * slope)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``.

        A draw below the smallest float64 is 0; with a shape parameter of 0.001 that is every second one.
        """
        noise = random_generator(rng, shape).standard_gamma(self.shape, size=(*shape, *self.batch_shape))
        with np.errstate(over="ignore"):
            return in_range("Gamma", np.asarray(noise / self.rate))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Shape and rate."""
        return table(shape=self.shape, rate=self.rate)


@dataclass(frozen=True, eq=False)
class Beta(Family):
    r"""Beta distributions with density :math:`x^{\alpha-1}(1-x)^{\beta-1} / B(\alpha, \beta)` for :math:`0 < x < 1`.

    The Fisher-Rao distance is measured among all beta distributions. They are the Dirichlet distributions of two
    outcomes, which see for the metric.

    Parameters
    ----------
    alpha, beta : array, shape (...,)
        Positive, from 1e-100 to 1e100; they broadcast against each other.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite, positive and in that range.

    Examples
    --------
    >>> from infogeo import Beta, fisher_rao_distance
    >>> round(float(fisher_rao_distance(Beta(1.0, 2.0), Beta(5.0, 3.0))), 6)
    1.599657
    >>> float(abs(Beta(1.0, 1.0).entropy()))  # the uniform law
    0.0
    """

    event_axes: ClassVar[Mapping[str, int]] = {"alpha": 0, "beta": 0}

    alpha: FloatArray
    """(...,), positive"""
    beta: FloatArray
    """(...,), positive"""

    def __post_init__(self) -> None:
        set_parameters(self, alpha=self.alpha, beta=self.beta)
        check_positive(self, "alpha", "beta")
        _check_range(self, "alpha", "beta")

    @property
    def dimension(self) -> int:
        """1: samples are numbers."""
        return 1

    @property
    def concentration(self) -> FloatArray:
        """(..., 2), the parameters of the Dirichlet distribution of (x, 1 - x)."""
        return np.stack([self.alpha, self.beta], axis=-1)

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity outside 0 to 1."""
        at = check_points(as_float_array("x", x), self.batch_shape)
        inside = (at >= 0) & (at <= 1)
        safe = np.where(inside, at, 0.5)
        value = _log_density(self.concentration, np.stack([safe, 1 - safe], axis=-1))
        return np.where(inside, value, -np.inf)

    def entropy(self) -> FloatArray:
        """Differential entropy in nats, shape (...,)."""
        return _entropy(self.concentration)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``; they may round to 0 or 1."""
        return np.asarray(random_generator(rng, shape).beta(self.alpha, self.beta, size=(*shape, *self.batch_shape)))

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Both parameters."""
        return table(alpha=self.alpha, beta=self.beta)


@dataclass(frozen=True, eq=False)
class Dirichlet(Family):
    r"""Dirichlet distributions over probability vectors of V outcomes, density :math:`\prod x_i^{a_i-1} / B(a)`.

    The Fisher-Rao distance is measured among all Dirichlet distributions of V outcomes. The metric is
    :math:`\sum_i \psi'(a_i)\,da_i^2 - \psi'(a_0)\,da_0^2` with :math:`a_0 = \sum_i a_i`; the manifold is geodesically
    complete and has negative sectional curvature, so that any two points are joined by one geodesic [1]_. It has no
    closed form and is computed by :mod:`infogeo.manifolds.numerical`, with a certificate. Parameters that are equal
    to each other at both ends stay so on the way (a permutation of them is an isometry), and are computed once.

    Parameters
    ----------
    concentration : array, shape (..., V)
        Positive, from 1e-100 to 1e100, V at least 2.

    Raises
    ------
    ShapeError
        If there is no axis of at least two outcomes, or the batch is empty.
    DomainError
        If an entry is not finite, positive and in that range.

    References
    ----------
    .. [1] A. Le Brigant, S. C. Preston, S. Puechmorel, Fisher-Rao geometry of Dirichlet distributions, Differential
       Geometry and its Applications 74 (2021) 101702.

    Examples
    --------
    >>> from infogeo import Dirichlet, fisher_rao_distance
    >>> p, q = Dirichlet([1.0, 2.0, 3.0]), Dirichlet([4.0, 1.0, 0.5])
    >>> p.entropy().round(6).item()
    -1.244345
    >>> round(float(fisher_rao_distance(p, q)), 6)
    3.143644
    """

    event_axes: ClassVar[Mapping[str, int]] = {"concentration": 1}

    concentration: FloatArray
    """(..., V), positive"""

    def __post_init__(self) -> None:
        array = as_float_array("concentration", self.concentration)
        if array.ndim == 0 or array.shape[-1] < 2:
            raise ShapeError(f"concentration: found shape {array.shape}, wanted (..., V) with V at least 2")
        check_batch("Dirichlet", array.shape[:-1])
        object.__setattr__(self, "concentration", sealed(array))
        check_positive(self, "concentration")
        _check_range(self, "concentration")

    @property
    def dimension(self) -> int:
        """Number V of outcomes, the length of a sample."""
        return int(self.concentration.shape[-1])

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at probability vectors ``x`` (..., V), with respect to the first V - 1 coordinates.

        Raises
        ------
        ShapeError, DomainError
            If ``x`` does not hold probability vectors of that length.
        """
        at = as_float_array("x", x)
        if at.ndim == 0 or at.shape[-1] != self.dimension:
            raise ShapeError(f"x: found shape {at.shape}, wanted (..., {self.dimension})")
        check_points(at, self.batch_shape, 1)
        if (at < 0).any():
            raise DomainError(f"x: found {at.min()}, wanted probabilities, which are not negative")
        check_sums("x", at.sum(axis=-1), sum_tolerance(np.asarray(x).dtype))
        return _log_density(self.concentration, at)

    def entropy(self) -> FloatArray:
        """Differential entropy in nats, shape (...,)."""
        return _entropy(self.concentration)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape, V)``, each with sum one; coordinates may round to 0 or 1."""
        generator = random_generator(rng, shape)
        a = np.broadcast_to(self.concentration, (*shape, *self.concentration.shape))
        left = np.ones(a.shape[:-1])
        draws = np.empty(a.shape)
        # broken off a stick one by one, which keeps the ratios of small ones that gamma draws would round to zero
        for i in range(self.dimension - 1):
            share = generator.beta(a[..., i], a[..., i + 1 :].sum(axis=-1))
            draws[..., i] = left * share
            left = left * (1 - share)
        draws[..., -1] = left
        return draws

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Number of outcomes, total concentration, the outcome that is largest in the mean and its share there."""
        total = self.concentration.sum(axis=-1)
        return table(
            outcomes=np.full(total.shape, self.dimension), total=total, top_outcome=self.concentration.argmax(axis=-1),
            top_share=self.concentration.max(axis=-1) / total,
        )  # fmt: skip


def _check_range(member: Any, *names: str) -> None:
    """Raise unless the parameters, squared and inverted, stay within the range of float64."""
    for name in names:
        array = getattr(member, name)
        check_entries(name, array, (array < LEAST) | (array > 1 / LEAST), f"a number from {LEAST:g} to {1 / LEAST:g}")


def _log_density(a: FloatArray, x: FloatArray) -> FloatArray:
    """Log-density of Dirichlet distributions at probability vectors; both (..., V)."""
    if ((a > 1) & (x == 0)).any() and ((a < 1) & (x == 0)).any():
        both = ((a > 1) & (x == 0)).any(axis=-1) & ((a < 1) & (x == 0)).any(axis=-1)
        if both.any():
            raise DomainError(
                "x: the density has no limit where two coordinates are zero, one with a concentration above and one "
                "below 1"
            )
    total = a.sum(axis=-1, keepdims=True)
    inside = x > 0
    log_x = np.log(np.where(inside, x, 1.0))
    # sum of a log(x / w) with w = a / total, from terms that do not cancel: a (log y - y + 1), the y w sum to one
    terms = np.where(inside, -a * _kernels.expm1_excess(log_x - np.log(a) + np.log(total)) - log_x, 0.0)
    edge = np.where(inside, 0.0, np.where(a > 1, -np.inf, np.where(a < 1, np.inf, 0.0)))
    # a coordinate x = 0 with a = 1 has the factor x**0 = 1: what is left of its term is a - log w
    edge = edge + np.where(~inside & (a == 1), a + np.log(total) - np.log(a), 0.0)
    constant = _gamma_functions.beta(total[..., 0]) - _gamma_functions.beta(a).sum(axis=-1)
    return np.asarray((terms + edge).sum(axis=-1) + constant)


def _entropy(a: FloatArray) -> FloatArray:
    """Differential entropy of Dirichlet distributions (..., V)."""
    total = a.sum(axis=-1)
    slopes = _gamma_functions.beta_slope(a)
    inner = _gamma_functions.beta(a) + np.log(a) - (a - 1) * slopes
    outer = (total - a.shape[-1]) * _gamma_functions.beta_slope(total) - _gamma_functions.beta(total)
    return np.asarray(inner.sum(axis=-1) - a.shape[-1] * np.log(total) + outer)
