"""Multinomial distributions: counts of several outcomes, held by the logarithms of the probabilities of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from infogeo import _counts
from infogeo._checks import FloatArray, IntArray, as_array, check_points, random_generator
from infogeo.errors import ShapeError
from infogeo.families._parameters import check_trials, counts
from infogeo.families.base import Family, RandomState
from infogeo.families.categorical import Categorical


@dataclass(frozen=True, eq=False)
class Multinomial(Family):
    r"""Counts of V outcomes in a fixed number of independent trials.

    The Fisher information is that of :class:`Categorical`, times the number of trials n, so the distance is
    :math:`\sqrt n` times the one there: the manifold is a part of a sphere of radius :math:`2\sqrt n`. The coordinates
    are the probabilities of the first V - 1 outcomes.

    Parameters
    ----------
    log_probs : array, shape (..., V)
        Natural logarithms of the probabilities of the outcomes, as for :class:`Categorical`; tensors are read as
        arrays.
    trials : int
        Number of trials, at least 1; the same for the whole batch, and for both sides of a measure.

    Raises
    ------
    ShapeError, DomainError
        As :class:`Categorical`.
    ArgumentError
        If ``trials`` is not a whole number from 1 to 2**63 - 1.

    Examples
    --------
    >>> from infogeo import Multinomial
    >>> p = Multinomial.from_probs([0.5, 0.25, 0.25], trials=4)
    >>> round(float(np.exp(p.log_prob([2, 1, 1]))), 6)  # 12 / 64
    0.1875
    >>> p.sample(0, shape=(1000,)).shape
    (1000, 3)
    """

    event_axes: ClassVar[Mapping[str, int]] = {"log_probs": 1}

    log_probs: FloatArray
    """(..., V), minus infinity for probability zero"""
    trials: int
    """of the whole batch"""

    def __post_init__(self) -> None:
        outcomes = Categorical(as_array("log_probs", self.log_probs))
        object.__setattr__(self, "log_probs", outcomes.log_probs)
        object.__setattr__(self, "trials", check_trials(self.trials))
        self.__dict__["categorical"] = outcomes

    @classmethod
    def from_probs(cls, probs: ArrayLike, trials: int) -> Multinomial:
        """From probabilities (..., V), each row with sum one; see :meth:`Categorical.from_probs`.

        Raises
        ------
        ShapeError, DomainError, ArgumentError
            As the class; also if an entry is negative.
        """
        return cls(Categorical.from_probs(as_array("probs", probs)).log_probs, trials)

    @classmethod
    def from_logits(cls, logits: ArrayLike, trials: int) -> Multinomial:
        """From scores (..., V) by softmax; see :meth:`Categorical.from_logits`.

        Raises
        ------
        ShapeError, DomainError, ArgumentError
            As the class; also if all scores of a row are minus infinity.
        """
        return cls(Categorical.from_logits(as_array("logits", logits)).log_probs, trials)

    @classmethod
    def from_counts(cls, counts: ArrayLike, trials: int, *, pseudocount: float = 0.0) -> Multinomial:
        """From counts or weights (..., V), divided by their sum; see :meth:`Categorical.from_counts`.

        The number of trials is not taken from the counts, whose sums may differ.

        Raises
        ------
        ShapeError, DomainError, ArgumentError
            As the class; also if all counts of a row are zero.
        """
        return cls(Categorical.from_counts(as_array("counts", counts), pseudocount=pseudocount).log_probs, trials)

    @cached_property
    def categorical(self) -> Categorical:
        """The distributions of one trial."""
        return Categorical(self.log_probs)

    @property
    def probs(self) -> FloatArray:
        """Probabilities (..., V) of the outcomes of a trial."""
        return np.asarray(np.exp(self.log_probs))

    @property
    def dimension(self) -> int:
        """Number V of outcomes of a trial."""
        return int(self.log_probs.shape[-1])

    @property
    def coordinate_size(self) -> int:
        """Number V - 1 of coordinates."""
        return self.categorical.coordinate_size

    def coordinates(self) -> FloatArray:
        """Probabilities (..., V - 1) of all outcomes but the last."""
        return np.asarray(self.categorical.coordinates())

    def with_coordinates(self, x: ArrayLike) -> Self:
        """Members with the probabilities ``x`` (..., V - 1) of all outcomes but the last, which has the rest.

        Raises
        ------
        ShapeError, DomainError
            As :meth:`Categorical.with_coordinates`.
        """
        return type(self)(self.categorical.with_coordinates(as_array("x", x)).log_probs, self.trials)

    def parameters_at(self, x: ArrayLike) -> dict[str, FloatArray]:
        """All probabilities ``{"probs": (..., V)}`` from those of all outcomes but the last."""
        return self.categorical.parameters_at(as_array("x", x))

    def split(self, x: ArrayLike) -> dict[str, FloatArray]:
        """Rates ``{"probs": (..., V)}`` of all probabilities, with sum zero, from those of all but the last."""
        return self.categorical.split(as_array("x", x))

    def join(self, **parts: ArrayLike) -> FloatArray:
        """All but the last of the probabilities, or of their rates of change, ``probs`` (..., V)."""
        return np.asarray(self.categorical.join(**parts))

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of counts ``x`` (..., V), integers that broadcast against the batch.

        Counts that are negative, or whose sum is not the number of trials, have minus infinity.
        """
        k = counts(x)
        if k.ndim == 0 or k.shape[-1] != self.dimension:
            raise ShapeError(f"x: found shape {k.shape}, wanted (..., {self.dimension}), a count for each outcome")
        check_points(k, self.batch_shape, 1)
        return _counts.multinomial_log_prob(k, self.trials, self.probs)

    def entropy(self) -> FloatArray:
        """Entropy in nats, of the batch shape, from sums over the marginal binomial distributions.

        Each is summed over all counts within nine standard deviations and 60 of its mean, which leaves an error below
        1e-12 for each outcome.

        Raises
        ------
        DomainError
            If a marginal distribution has a variance beyond a million, or there are more than 2**50 trials: the sums
            would be too long.
        """
        return _counts.multinomial_entropy(self.trials, self.probs)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Counts of shape ``(*shape, *batch_shape, V)``; an outcome of probability zero is never drawn."""
        probs = self.probs
        order = np.argsort(probs, axis=-1)  # what rounding leaves over goes to the most probable outcome
        increasing = np.take_along_axis(probs, order, axis=-1)
        increasing /= increasing.sum(axis=-1, keepdims=True)
        drawn = random_generator(rng, shape).multinomial(self.trials, increasing, (*shape, *self.batch_shape))
        places = np.broadcast_to(np.argsort(order, axis=-1), drawn.shape)
        return np.asarray(np.take_along_axis(drawn, places, axis=-1), dtype=np.int64)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Numbers of trials and of outcomes, entropy of a trial in nats, the most probable outcome, its probability."""
        names, rows = self.categorical.parameter_rows()
        return ("trials", *names), [(self.trials, *row) for row in rows]
