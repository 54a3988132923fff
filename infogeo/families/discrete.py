"""Distributions of single counts: Bernoulli, binomial, geometric and Poisson."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _counts
from infogeo._checks import FloatArray, IntArray, check_points, random_generator
from infogeo.errors import DomainError
from infogeo.families._parameters import check_entries, check_trials, counts, set_parameters
from infogeo.families.base import Family, RandomState, table


class _Counts(Family):
    """What the families of single counts have in common."""

    @property
    def dimension(self) -> int:
        """1: samples are numbers."""
        return 1

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The parameters."""
        return table(**{name: getattr(self, name) for name in self.event_axes})


@dataclass(frozen=True, eq=False)
class Bernoulli(_Counts):
    r"""Distributions of 0 and 1.

    The manifold, on which the distance is measured, is a line of finite length: with the angle
    :math:`\varphi = 2 \arcsin \sqrt p` the Fisher-Rao distance is :math:`d = |\varphi_1 - \varphi_2| \le \pi`. The
    probabilities 0 and 1 are its ends: distributions like others, with a finite distance to all, but the Fisher
    information is infinite there, and asking for it, or for a velocity there, is an error.

    Parameters
    ----------
    prob : array, shape (...,)
        Probability of 1, from 0 to 1.

    Raises
    ------
    ShapeError
        If the batch is empty.
    DomainError
        If an entry is not a number from 0 to 1.

    Examples
    --------
    >>> from infogeo import Bernoulli, fisher_rao_distance
    >>> p = Bernoulli([0.5, 1.0])
    >>> p.entropy().round(6).tolist()
    [0.693147, 0.0]
    >>> float(fisher_rao_distance(p[0], p[1])) == np.pi / 2
    True
    """

    event_axes: ClassVar[Mapping[str, int]] = {"prob": 0}

    prob: FloatArray
    """(...,), from 0 to 1"""

    def __post_init__(self) -> None:
        set_parameters(self, prob=self.prob)
        _check_probability(self.prob)

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of integers ``x``, which broadcast against the batch; of other than 0 and 1 -inf."""
        return _counts.binomial_log_prob(check_points(counts(x), self.batch_shape), 1, self.prob)

    def entropy(self) -> FloatArray:
        """Entropy in nats, of the batch shape."""
        return _counts.two_outcome_entropy(self.prob)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Draws of shape ``(*shape, *batch_shape)``."""
        uniform = random_generator(rng, shape).random((*shape, *self.batch_shape))
        return np.asarray(uniform < self.prob, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Binomial(_Counts):
    r"""Numbers of successes in a fixed number of independent trials.

    The Fisher information is that of one trial, times the number of trials n, so the distance is :math:`\sqrt n` times
    that of :class:`Bernoulli`, and what is said there of the probabilities 0 and 1 holds here.

    Parameters
    ----------
    prob : array, shape (...,)
        Probability of success, from 0 to 1.
    trials : int
        Number of trials, at least 1; the same for the whole batch, and for both sides of a measure.

    Raises
    ------
    ShapeError
        If the batch is empty.
    DomainError
        If an entry is not a number from 0 to 1.
    ArgumentError
        If ``trials`` is not a whole number from 1 to 2**63 - 1.

    Examples
    --------
    >>> from infogeo import Binomial, kl_divergence
    >>> p = Binomial([0.5, 0.25], trials=2)
    >>> np.exp(p[0].log_prob([0, 1, 2])).round(6).tolist()
    [0.25, 0.5, 0.25]
    >>> round(float(kl_divergence(p[0], p[1])), 6)  # 2 (log 2 - log(3) / 2)
    0.287682
    """

    event_axes: ClassVar[Mapping[str, int]] = {"prob": 0}

    prob: FloatArray
    """(...,), from 0 to 1"""
    trials: int
    """of the whole batch"""

    def __post_init__(self) -> None:
        set_parameters(self, prob=self.prob)
        _check_probability(self.prob)
        object.__setattr__(self, "trials", check_trials(self.trials))

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of integers ``x``, which broadcast against the batch.

        Computed after Loader (2000) from the deviance, so that it keeps its digits for large counts.
        """
        return _counts.binomial_log_prob(check_points(counts(x), self.batch_shape), self.trials, self.prob)

    def entropy(self) -> FloatArray:
        r"""Entropy in nats, of the batch shape.

        Summed over all counts within :math:`9\sigma + 60` of the mean, or, for a variance beyond a million, by
        :math:`\tfrac12\log(2\pi e\sigma^2) - (1 - 2p)^2 / (12 \sigma^2)`; the error is below 1e-12 either way.
        """
        return _counts.binomial_entropy(self.trials, self.prob)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Draws of shape ``(*shape, *batch_shape)``."""
        drawn = random_generator(rng, shape).binomial(self.trials, self.prob, (*shape, *self.batch_shape))
        return np.asarray(drawn, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Geometric(_Counts):
    r"""Numbers of failures before the first success: :math:`P(k) = p (1 - p)^k` for k = 0, 1, 2, ...

    The manifold is a half-line: with :math:`\varphi = 2\,\mathrm{artanh}\sqrt{1 - p}` the Fisher-Rao distance is
    :math:`d = |\varphi_1 - \varphi_2|`. The probability 1 is its end: a distribution like others, at a finite
    distance, but with an infinite Fisher information; the probability 0 is infinitely far away.

    Parameters
    ----------
    prob : array, shape (...,)
        Probability of success, above 0 and up to 1; the mean is :math:`(1 - p)/p`.

    Raises
    ------
    ShapeError
        If the batch is empty.
    DomainError
        If an entry is not above 0 and at most 1.

    Examples
    --------
    >>> from infogeo import Geometric, fisher_rao_distance
    >>> np.exp(Geometric(0.5).log_prob([0, 1, 2])).round(6).tolist()
    [0.5, 0.25, 0.125]
    >>> round(float(fisher_rao_distance(Geometric(0.5), Geometric(1.0))), 6)  # 2 log(1 + sqrt 2)
    1.762747
    """

    event_axes: ClassVar[Mapping[str, int]] = {"prob": 0}

    prob: FloatArray
    """(...,), above 0, at most 1"""

    def __post_init__(self) -> None:
        set_parameters(self, prob=self.prob)
        check_entries("prob", self.prob, ~((self.prob > 0) & (self.prob <= 1)), "a probability above 0 and up to 1")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of integers ``x``, which broadcast against the batch; below zero minus infinity."""
        k = check_points(counts(x), self.batch_shape)
        with np.errstate(divide="ignore"):
            failure = np.log1p(-self.prob)
        value = np.log(self.prob) + np.where(k > 0, k, 1) * failure
        return np.where(k > 0, value, np.where(k == 0, np.log(self.prob), -np.inf))

    def entropy(self) -> FloatArray:
        """Entropy in nats, that of a trial over the probability of success."""
        return np.asarray(_counts.two_outcome_entropy(self.prob) / self.prob)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Draws of shape ``(*shape, *batch_shape)``.

        Raises
        ------
        DomainError
            If the probability is so small that a draw is too large for int64.
        """
        noise = random_generator(rng, shape).standard_exponential((*shape, *self.batch_shape))
        with np.errstate(divide="ignore", over="ignore"):
            draws = np.floor(noise / -np.log1p(-self.prob))
        if (draws >= 2.0**63).any():
            raise DomainError(f"Geometric: a draw for prob {self.prob.min()} is too large for int64")
        return np.asarray(draws, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Poisson(_Counts):
    r"""Poisson distributions, :math:`P(k) = e^{-r} r^k / k!`.

    The manifold is a half-line: the Fisher-Rao distance is :math:`d = 2 |\sqrt{r_1} - \sqrt{r_2}|`. The rate 0 is its
    end: a distribution like others, at a finite distance, but with an infinite Fisher information.

    Parameters
    ----------
    rate : array, shape (...,)
        Mean, not negative.

    Raises
    ------
    ShapeError
        If the batch is empty.
    DomainError
        If an entry is negative or not finite.

    Examples
    --------
    >>> from infogeo import Poisson, fisher_rao_distance
    >>> float(fisher_rao_distance(Poisson(4.0), Poisson(9.0)))
    2.0
    """

    event_axes: ClassVar[Mapping[str, int]] = {"rate": 0}

    rate: FloatArray
    """(...,), not negative"""

    def __post_init__(self) -> None:
        set_parameters(self, rate=self.rate)
        check_entries("rate", self.rate, self.rate < 0, "a number that is not negative")

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of integers ``x``, which broadcast against the batch; below zero minus infinity.

        Computed after Loader (2000) from the deviance, so that it keeps its digits for large counts.
        """
        return _counts.poisson_log_prob(check_points(counts(x), self.batch_shape), self.rate)

    def entropy(self) -> FloatArray:
        r"""Entropy in nats, of the batch shape.

        Summed over all counts within :math:`9\sigma + 60` of the mean, or, for a rate beyond a thousand, by
        :math:`\tfrac12\log(2\pi e r) - \tfrac1{12r} - \tfrac1{24r^2} - \tfrac{19}{360r^3} - \tfrac9{80r^4}`; the error
        is below 1e-12 either way.
        """
        return _counts.poisson_entropy(self.rate)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Draws of shape ``(*shape, *batch_shape)``.

        Raises
        ------
        DomainError
            If the rate is so large that draws may be too large for int64.
        """
        if (self.rate > 9e18).any():
            raise DomainError(f"Poisson: draws for rate {self.rate.max()} are too large for int64; at most 9e18")
        return np.asarray(random_generator(rng, shape).poisson(self.rate, (*shape, *self.batch_shape)), dtype=np.int64)


def _check_probability(prob: FloatArray) -> None:
    check_entries("prob", prob, ~((prob >= 0) & (prob <= 1)), "a probability from 0 to 1")
