"""Distributions of positive numbers: exponential, log-normal, Weibull and inverse Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_float_array, check_points, random_generator
from infogeo._terms import log_ratio
from infogeo.families._parameters import check_positive, in_range, known, set_parameters
from infogeo.families.base import Family, RandomState, table
from infogeo.families.gaussian import LOG_2PI, DiagonalGaussian


class _PositiveNumbers(Family):
    """What the families of positive numbers have in common: samples are numbers."""

    @property
    def dimension(self) -> int:
        """1: samples are numbers."""
        return 1

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The parameters."""
        return table(**{name: getattr(self, name) for name in self.event_axes})


@dataclass(frozen=True, eq=False)
class Exponential(_PositiveNumbers):
    r"""Exponential distributions with density :math:`r e^{-r x}` for :math:`x \ge 0`.

    The manifold is a line: the Fisher-Rao distance is :math:`d = |\log r_1 - \log r_2|`.

    Parameters
    ----------
    rate : array, shape (...,)
        Inverse of the mean, positive.

    Raises
    ------
    ShapeError
        If the batch is empty.
    DomainError
        If an entry is not finite and positive.

    Examples
    --------
    >>> from infogeo import Exponential, fisher_rao_distance
    >>> p = Exponential([1.0, 2.0])
    >>> p.entropy().round(6).tolist()  # 1 - log(rate)
    [1.0, 0.306853]
    >>> round(float(fisher_rao_distance(p[0], p[1])), 6)  # log 2
    0.693147
    """

    event_axes: ClassVar[Mapping[str, int]] = {"rate": 0}

    rate: FloatArray
    """(...,), positive"""

    def __post_init__(self) -> None:
        set_parameters(self, rate=self.rate)
        check_positive(self, "rate")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity below zero."""
        at = check_points(as_float_array("x", x), self.batch_shape)
        with np.errstate(over="ignore"):
            return np.where(at < 0, -np.inf, np.log(self.rate) - self.rate * np.maximum(at, 0.0))

    def entropy(self) -> FloatArray:
        r"""Differential entropy in nats, :math:`1 - \log r`."""
        return np.asarray(1.0 - np.log(self.rate))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``."""
        noise = random_generator(rng, shape).standard_exponential((*shape, *self.batch_shape))
        with np.errstate(over="ignore"):
            return in_range("Exponential", np.asarray(noise / self.rate))


@dataclass(frozen=True, eq=False)
class LogNormal(_PositiveNumbers):
    r"""Log-normal distributions: the logarithm is normal, :math:`\log X \sim N(m, v)`.

    The logarithm maps them one to one to univariate normals, and so does everything that compares two of them: the
    manifold is the Fisher half-plane, distance and divergences are those of
    ``DiagonalGaussian(mean[..., None], var[..., None])``.

    Parameters
    ----------
    mean, var : array, shape (...,)
        Mean and variance of the logarithm; the variance is positive. They broadcast against each other.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite, or a variance not positive.

    Examples
    --------
    >>> from infogeo import LogNormal, fisher_rao_distance
    >>> p, q = LogNormal(0.0, 1.0), LogNormal(1.0, 4.0)
    >>> round(float(fisher_rao_distance(p, q)), 6)  # as N(0, 1) and N(1, 4)
    1.189381
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 0, "var": 0}

    mean: FloatArray
    """(...,), of the logarithm"""
    var: FloatArray
    """(...,), of the logarithm, positive"""

    def __post_init__(self) -> None:
        set_parameters(self, mean=self.mean, var=self.var)
        check_positive(self, "var")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity up to zero."""
        at = check_points(as_float_array("x", x), self.batch_shape)
        inside = at > 0
        log = np.log(np.where(inside, at, 1.0))
        with np.errstate(over="ignore"):
            value = -log - 0.5 * ((log - self.mean) ** 2 / self.var + np.log(self.var) + LOG_2PI)
        return np.where(inside, value, -np.inf)

    def entropy(self) -> FloatArray:
        r"""Differential entropy in nats, :math:`m + \tfrac12 \log(2 \pi e v)`."""
        return np.asarray(self.mean + 0.5 * (np.log(self.var) + LOG_2PI + 1.0))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``."""
        noise = random_generator(rng, shape).standard_normal((*shape, *self.batch_shape))
        with np.errstate(over="ignore"):
            return in_range("LogNormal", np.exp(self.mean + np.sqrt(self.var) * noise))

    def of_logarithm(self) -> DiagonalGaussian:
        """The distributions of the logarithm, normals with one coordinate."""
        return DiagonalGaussian(self.mean[..., None], self.var[..., None])


@dataclass(frozen=True, eq=False)
class Weibull(_PositiveNumbers):
    r"""Weibull distributions with density :math:`(k/x)\,z e^{-z}`, :math:`z = (x/\lambda)^k`, for :math:`x > 0`.

    The logarithm is a location and scale family (Gumbel) with location :math:`\log\lambda` and scale :math:`1/k`. Its
    manifold, on which the distance is measured, is a hyperbolic half-plane of curvature :math:`-6/\pi^2`: with
    :math:`u = \log\lambda + (1 - \gamma)/k` and :math:`y = (\pi/\sqrt6)/k`, :math:`\gamma` being Euler's constant, the
    Fisher metric is :math:`ds^2 = \tfrac{\pi^2}{6} (du^2 + dy^2) / y^2`.

    Parameters
    ----------
    shape, scale : array, shape (...,)
        Exponent *k* and scale :math:`\lambda`, both positive. They broadcast against each other.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite and positive.

    Examples
    --------
    >>> from infogeo import Weibull, fisher_rao_distance
    >>> p, q = Weibull(2.0, 1.0), Weibull(4.0, 1.0)
    >>> round(float(fisher_rao_distance(p, q)), 6)
    0.934119
    """

    event_axes: ClassVar[Mapping[str, int]] = {"shape": 0, "scale": 0}

    shape: FloatArray
    """(...,), positive"""
    scale: FloatArray
    """(...,), positive"""

    def __post_init__(self) -> None:
        set_parameters(self, shape=self.shape, scale=self.scale)
        check_positive(self, "shape", "scale")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity below zero.

        At zero the density is infinite for a shape below one, and the inverse of the scale for the shape one.
        """
        at = check_points(as_float_array("x", x), self.batch_shape)
        inside = at > 0
        safe = np.where(inside, at, 1.0)
        log = log_ratio(safe, self.scale)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            quotient = safe / self.scale
            plain = np.abs(log) < 700  # otherwise the quotient is not a normal number
            z = np.where(plain, np.where(plain, quotient, 1.0) ** self.shape, np.exp(self.shape * log))
            value = np.log(self.shape) - np.log(safe) + self.shape * log - z
        border = np.where(self.shape < 1, np.inf, np.where(self.shape > 1, -np.inf, -np.log(self.scale)))
        return known("Weibull", np.where(inside, value, np.where(at == 0, border, -np.inf)))

    def entropy(self) -> FloatArray:
        r"""Differential entropy in nats, :math:`\gamma (1 - 1/k) + \log(\lambda/k) + 1`."""
        with np.errstate(over="ignore"):
            lift = np.euler_gamma * (1 - 1 / self.shape)
        return np.asarray(lift + np.log(self.scale) - np.log(self.shape) + 1.0)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``."""
        noise = random_generator(rng, shape).standard_exponential((*shape, *self.batch_shape))
        with np.errstate(all="ignore"):
            return in_range("Weibull", np.asarray(self.scale * np.exp(np.log(noise) / self.shape)))


@dataclass(frozen=True, eq=False)
class InverseGaussian(_PositiveNumbers):
    r"""Inverse Gaussian distributions, :math:`\sqrt{\lambda / (2 \pi x^3)}\, e^{-\lambda (x - m)^2 / (2 m^2 x)}`.

    The law of the time at which a Brownian motion with drift first reaches a level. The distance is measured on the
    manifold of both parameters, the quarter :math:`m' > 0` of the half-plane of univariate normals with mean
    :math:`m' = 2/\sqrt m` and standard deviation :math:`1/\sqrt\lambda`. Two members always have a shortest geodesic
    inside; one that starts in a given direction may leave (the mean becomes infinite), and is refused there.

    Parameters
    ----------
    mean, shape : array, shape (...,)
        Mean *m* and shape :math:`\lambda`, both positive; the variance is :math:`m^3/\lambda`. They broadcast against
        each other.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast or the batch is empty.
    DomainError
        If an entry is not finite and positive.

    Examples
    --------
    >>> from infogeo import InverseGaussian, fisher_rao_distance
    >>> p, q = InverseGaussian(1.0, 1.0), InverseGaussian(1.0, 4.0)
    >>> round(float(fisher_rao_distance(p, q)), 6)
    0.980258
    """

    event_axes: ClassVar[Mapping[str, int]] = {"mean": 0, "shape": 0}

    mean: FloatArray
    """(...,), positive"""
    shape: FloatArray
    """(...,), positive"""

    def __post_init__(self) -> None:
        set_parameters(self, mean=self.mean, shape=self.shape)
        check_positive(self, "mean", "shape")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-density in nats at numbers ``x``, which broadcast against the batch; minus infinity up to zero."""
        at = check_points(as_float_array("x", x), self.batch_shape)
        inside = at > 0
        safe = np.where(inside, at, 1.0)
        with np.errstate(over="ignore", under="ignore"):
            # by fourth roots, which neither overflow nor underflow
            quarter = np.sqrt(np.abs(safe - self.mean)) / np.sqrt(self.mean) * (self.shape**0.25 / safe**0.25)
            exponent = quarter**4
            value = 0.5 * (np.log(self.shape) - LOG_2PI - 3 * np.log(safe) - exponent)
        return np.where(inside, value, -np.inf)

    def entropy(self) -> FloatArray:
        r"""Differential entropy in nats.

        :math:`\tfrac12 \log(2 \pi e / \lambda) + \tfrac32 E \log X` with
        :math:`E \log X = \log m - e^z E_1(z)`, :math:`z = 2\lambda/m`, and the exponential integral :math:`E_1`.
        """
        log_z = np.log(2.0) + np.log(self.shape) - np.log(self.mean)
        mean_log = np.log(self.mean) - _scaled_exponential_integral(log_z)
        return np.asarray(0.5 * (LOG_2PI + 1.0 - np.log(self.shape)) + 1.5 * mean_log)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> FloatArray:
        """Draws of shape ``(*shape, *batch_shape)``, by the roots of Michael, Schucany and Haas (1976)."""
        generator = random_generator(rng, shape)
        size = (*shape, *self.batch_shape)
        with np.errstate(all="ignore"):
            y = generator.standard_normal(size) ** 2 * (self.mean / self.shape) / 2
            root = 1 / (1 + y + np.sqrt(y * (2 + y)))  # the smaller root over the mean, without cancellation
            small = generator.random(size) * (1 + root) <= 1
            return in_range("InverseGaussian", np.asarray(np.where(small, self.mean * root, self.mean / root)))


def _scaled_exponential_integral(log_z: FloatArray) -> FloatArray:
    """exp(z) E_1(z) for the logarithm of z.

    Beyond 50 by its asymptotic series, whose 20 terms have an error below 1e-16 there; below 1e-17 it is
    -gamma - log(z) to all digits.
    """
    from scipy.special import exp1

    z = np.exp(np.clip(log_z, np.log(1e-18), np.log(50.0)))
    with np.errstate(under="ignore"):
        inverse = np.exp(-np.maximum(log_z, np.log(50.0)))
    series = np.ones_like(inverse)
    for k in range(20, 0, -1):
        series = 1 - k * inverse * series
    middle = np.where(log_z < np.log(1e-17), -np.euler_gamma - log_z, np.exp(z) * exp1(z))
    return np.where(log_z > np.log(50.0), inverse * series, middle)
