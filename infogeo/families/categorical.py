"""Categorical distributions, held by the logarithms of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray, IntArray, as_array, as_float_array, check_sums, sealed, sum_tolerance
from infogeo.errors import DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, table

ROUNDING = 1e-14
"""A sum of probabilities this close to one is left as it is."""


@dataclass(frozen=True, eq=False)
class Categorical(Family):
    r"""Distributions over V outcomes, numbered from 0.

    Parameters
    ----------
    log_probs : array, shape (..., V)
        Natural logarithms of the probabilities; minus infinity stands for probability zero. The probabilities of
        each row must sum to one within 1e-9, or within the rounding of the dtype given if that is coarser
        (3.8e-6 for float32, 0.008 for float16). A deviation within that bound is rounding: it is divided
        out in float64, so that close neighbors keep their distance. A row that is off by more is refused, never
        rescaled; to normalize on purpose, use :meth:`from_logits` or :meth:`from_counts`.

    Raises
    ------
    ShapeError
        If there is no axis of outcomes, or the batch is empty.
    DomainError
        If an entry is NaN or positive, or a row does not sum to one (row and sum are named).

    Examples
    --------
    >>> from infogeo import Categorical
    >>> p = Categorical.from_probs([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    >>> p.batch_shape, p.dimension
    ((2,), 3)
    >>> p.entropy().round(6).tolist()
    [0.693147, 1.029653]
    """

    event_axes: ClassVar[Mapping[str, int]] = {"log_probs": 1}

    log_probs: FloatArray
    """(..., V), minus infinity for probability zero"""

    def __post_init__(self) -> None:
        log_probs, tolerance = _outcomes("log_probs", self.log_probs, infinite=True)
        if (log_probs > tolerance).any():
            where = tuple(int(i) for i in np.argwhere(log_probs > tolerance)[0])
            raise DomainError(
                f"log_probs: entry {where} is {log_probs[where]}, a probability above one; "
                "for probabilities use Categorical.from_probs, for unnormalized scores Categorical.from_logits"
            )
        total = logsumexp(log_probs)
        check_sums("log_probs", np.exp(total), tolerance)
        log_probs -= np.where(np.abs(total) > ROUNDING, total, 0.0)[..., None]
        object.__setattr__(self, "log_probs", sealed(log_probs))

    @classmethod
    def from_probs(cls, probs: ArrayLike) -> Categorical:
        """From probabilities (..., V), non-negative, each row with sum one within the tolerance of the class.

        Raises
        ------
        ShapeError, DomainError
            As the class; also if an entry is negative.

        Examples
        --------
        >>> Categorical.from_probs([0.25, 0.75]).log_probs.round(6).tolist()
        [-1.386294, -0.287682]
        """
        array, tolerance = _outcomes("probs", probs)
        _check_non_negative("probs", array, "probabilities")
        total = array.sum(axis=-1)
        check_sums("probs", total, tolerance)
        return cls(safe_log(array) - np.where(np.abs(total - 1.0) > ROUNDING, np.log(total), 0.0)[..., None])

    @classmethod
    def from_logits(cls, logits: ArrayLike) -> Categorical:
        """From scores (..., V) by softmax, computed in float64; minus infinity stands for an outcome masked out.

        Raises
        ------
        ShapeError
            If there is no axis of outcomes, or the batch is empty.
        DomainError
            If an entry is NaN or plus infinity, or all scores of a row are minus infinity.

        Examples
        --------
        >>> Categorical.from_logits([0.0, 0.0]).log_probs.round(6).tolist()
        [-0.693147, -0.693147]
        """
        array, _ = _outcomes("logits", logits, infinite=True)
        top = _check_some("logits", array.max(axis=-1), -np.inf, "minus infinity")
        with np.errstate(over="ignore"):  # a score 1e308 below the top has probability zero
            array -= top[..., None]
        return cls(array - logsumexp(array)[..., None])

    @classmethod
    def from_counts(cls, counts: ArrayLike, *, pseudocount: float = 0.0) -> Categorical:
        """From non-negative counts or weights (..., V), divided by their sum.

        Parameters
        ----------
        counts : array, shape (..., V)
        pseudocount : float
            Added to every count first (additive smoothing); 0 keeps the plain relative frequencies.

        Raises
        ------
        ShapeError
            If there is no axis of outcomes, or the batch is empty.
        DomainError
            If an entry is negative or not finite, or all counts of a row are zero.

        Examples
        --------
        >>> np.exp(Categorical.from_counts([3, 1, 0], pseudocount=1.0).log_probs).round(6).tolist()
        [0.571429, 0.285714, 0.142857]
        """
        array, _ = _outcomes("counts", counts)
        _check_non_negative("counts", array, "counts")
        if not (np.isfinite(pseudocount) and pseudocount >= 0):
            raise DomainError(f"pseudocount: found {pseudocount}, wanted a finite number of at least 0")
        array += pseudocount
        array /= _check_some("counts", array.max(axis=-1), 0.0, "zero")[..., None]
        return cls(safe_log(array) - np.log(array.sum(axis=-1))[..., None])

    @property
    def dimension(self) -> int:
        """Number V of outcomes."""
        return int(self.log_probs.shape[-1])

    @property
    def probs(self) -> FloatArray:
        """Probabilities (..., V)."""
        return np.asarray(np.exp(self.log_probs))

    def log_prob(self, x: ArrayLike) -> FloatArray:
        """Log-probability in nats of outcomes ``x``, integers that broadcast against the batch."""
        outcome = np.asarray(x)
        if outcome.dtype.kind not in "iu":
            raise DomainError(f"x: found dtype {outcome.dtype}, wanted integers, the numbers of outcomes")
        if ((outcome < 0) | (outcome >= self.dimension)).any():
            raise DomainError(f"x: outcomes must lie between 0 and {self.dimension - 1}")
        shape = np.broadcast_shapes(outcome.shape, self.batch_shape)
        table_ = np.broadcast_to(self.log_probs, (*shape, self.dimension))
        return np.take_along_axis(table_, np.broadcast_to(outcome, shape)[..., None], axis=-1)[..., 0]

    def entropy(self) -> FloatArray:
        """Shannon entropy in nats, shape (...,)."""
        finite = np.where(np.isneginf(self.log_probs), 0.0, self.log_probs)
        return np.asarray(-(np.exp(self.log_probs) * finite).sum(axis=-1) + 0.0)

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> IntArray:
        """Outcomes of shape ``(*shape, *batch_shape)``; an outcome of probability zero is never drawn."""
        uniform = np.random.default_rng(rng).random((*shape, *self.batch_shape))
        rows = np.exp(self.log_probs).reshape(-1, self.dimension)
        flat = uniform.reshape(-1, len(rows))
        drawn = np.empty(flat.shape, dtype=np.int64)
        for i, row in enumerate(rows):
            cumulative = np.cumsum(row)
            drawn[:, i] = np.searchsorted(cumulative / cumulative[-1], flat[:, i], side="right")
        return drawn.reshape(uniform.shape)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Number of outcomes, entropy in nats, the most probable outcome and its probability."""
        top = self.log_probs.argmax(axis=-1)
        return table(
            outcomes=np.full(top.shape, self.dimension), entropy=self.entropy(), top_outcome=top,
            top_probability=np.exp(self.log_probs.max(axis=-1)),
        )


def logsumexp(x: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials along the last axis; minus infinity if all terms are."""
    top = x.max(axis=-1)
    shift = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(x - shift[..., None]).sum(axis=-1)) + shift)


def safe_log(x: FloatArray) -> FloatArray:
    """Natural logarithm of non-negative numbers, minus infinity at zero, without a warning."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(x))


def _outcomes(name: str, value: ArrayLike, *, infinite: bool = False) -> tuple[FloatArray, float]:
    """A fresh float64 array (..., V), and how far its rows may be from sum one given the precision they came in."""
    given = as_array(name, value)
    dtype: np.dtype[Any] = given.dtype
    hidden: NDArray[np.bool_] | None = None
    if infinite and dtype.kind == "f":
        hidden = np.isneginf(given)
        given = np.where(hidden, dtype.type(0), given)
    array = as_float_array(name, given)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (..., V) with at least one outcome")
    check_batch(name, array.shape[:-1])
    if hidden is not None:
        array[hidden] = -np.inf
    return array, sum_tolerance(dtype)


def _check_non_negative(name: str, array: FloatArray, what: str) -> None:
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise DomainError(f"{name}: entry {where} is {array[where]}; {what} must not be negative")


def _check_some(name: str, top: FloatArray, empty: float, what: str) -> FloatArray:
    """The largest entry of each row, unless it says that the whole row is empty."""
    if (top == empty).any():
        where = tuple(int(i) for i in np.argwhere(top == empty)[0])
        which = f"row {where[0] if len(where) == 1 else where}" if where else "the row"
        raise DomainError(f"{name}: all entries of {which} are {what}; there is no such distribution")
    return top
