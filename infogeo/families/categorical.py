"""Categorical distributions, held by the logarithms of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from infogeo._arrays import (
    Array,
    applied,
    as_result,
    detached,
    is_tensor,
    like,
    namespace,
    requires_gradient,
    to_numpy,
)
from infogeo._checks import (
    as_array,
    as_floats,
    check_points,
    check_sums,
    check_tensor,
    random_generator,
    rounding_of_sums,
    sealed,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.families.base import Family, RandomState, check_batch, table

ROUNDING = 1e-14
"""A sum of probabilities this close to one is left as it is."""


@dataclass(frozen=True, eq=False)
class Categorical(Family):
    r"""Distributions over V outcomes, numbered from 0.

    Parameters
    ----------
    log_probs : array or tensor, shape (..., V)
        Natural logarithms of the probabilities; minus infinity stands for probability zero. The probabilities of
        each row must sum to one within 1e-9, or within the rounding of the dtype given if that is coarser
        (3.8e-6 for float32, 0.008 for float16). A deviation within that bound is rounding: it is divided
        out in float64, so that close neighbors keep their distance. A row that is off by more is refused, never
        rescaled; to normalize on purpose, use :meth:`from_logits` or :meth:`from_counts`. Gradients of a tensor are
        those of the normalized distribution; an outcome of probability zero stays impossible, with gradient zero.

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

    log_probs: Array
    """(..., V), minus infinity for probability zero"""

    def __post_init__(self) -> None:
        log_probs, tolerance = _outcomes("log_probs", self.log_probs, infinite=True)
        if (log_probs > tolerance).any():
            found = to_numpy(log_probs)
            where = tuple(int(i) for i in np.argwhere(found > tolerance)[0])
            raise DomainError(
                f"log_probs: entry {where} is {found[where]}, a probability above one; "
                "for probabilities use Categorical.from_probs, for unnormalized scores Categorical.from_logits"
            )
        total = logsumexp(log_probs)
        check_sums("log_probs", namespace(total).exp(total), tolerance)
        log_probs -= applied(total, abs(detached(total)) > ROUNDING)[..., None]
        object.__setattr__(self, "log_probs", sealed(log_probs))

    @classmethod
    def from_probs(cls, probs: ArrayLike) -> Self:
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
        xp = namespace(array)
        total = as_result(xp.sum(array, axis=-1))
        check_sums("probs", total, tolerance)
        return cls(safe_log(array) - applied(xp.log(total), abs(detached(total) - 1.0) > ROUNDING)[..., None])

    @classmethod
    def from_logits(cls, logits: ArrayLike) -> Self:
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
        top = _check_some("logits", namespace(array).max(detached(array), axis=-1), -np.inf, "minus infinity")
        with np.errstate(over="ignore"):  # a score 1e308 below the top has probability zero
            array -= top[..., None]
        return cls(array - logsumexp(array)[..., None])

    @classmethod
    def from_counts(cls, counts: ArrayLike, *, pseudocount: float = 0.0) -> Self:
        """From non-negative counts or weights (..., V), divided by their sum.

        Parameters
        ----------
        counts : array or tensor, shape (..., V)
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
        xp = namespace(array)
        array /= _check_some("counts", xp.max(detached(array), axis=-1), 0.0, "zero")[..., None]
        return cls(safe_log(array) - xp.log(xp.sum(array, axis=-1, keepdims=True)))

    @property
    def dimension(self) -> int:
        """Number V of outcomes."""
        return int(self.log_probs.shape[-1])

    @property
    def probs(self) -> Array:
        """Probabilities (..., V)."""
        return namespace(self.log_probs).exp(self.log_probs)

    @property
    def coordinate_size(self) -> int:
        """Number V - 1 of coordinates."""
        return self.dimension - 1

    def coordinates(self) -> Array:
        """Probabilities (..., V - 1) of all outcomes but the last."""
        return self.probs[..., :-1]

    def with_coordinates(self, x: ArrayLike) -> Self:
        """Members with the probabilities ``x`` (..., V - 1) of all outcomes but the last, which has the rest.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length V - 1, a probability is negative, or they sum to more than one. A sum
            that exceeds one by no more than 1e-14 is rounding, and leaves the last outcome the probability zero.

        Examples
        --------
        >>> Categorical.from_probs([0.5, 0.25, 0.25]).with_coordinates([0.5, 0.5]).probs.tolist()
        [0.5, 0.5, 0.0]
        """
        probs = self.parameters_at(x)["probs"]
        _check_non_negative("x", probs[..., :-1], "probabilities")
        last = detached(probs[..., -1])
        if (last < -ROUNDING).any():
            worst = 1 - float(last.min())
            raise DomainError(f"x: the probabilities of the first outcomes sum to {worst:.12g}, wanted at most 1")
        xp = namespace(probs)
        return type(self).from_probs(xp.where(probs < 0, 0.0, probs))

    def parameters_at(self, x: ArrayLike) -> dict[str, Array]:
        """All probabilities ``{"probs": (..., V)}`` from those of all outcomes but the last.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length V - 1, or an entry is not finite.

        Examples
        --------
        >>> Categorical.from_probs([0.2, 0.3, 0.5]).parameters_at([0.25, 0.5])["probs"].tolist()
        [0.25, 0.5, 0.25]
        """
        return {"probs": self._with_last("x", x, total=1.0)}

    def split(self, x: ArrayLike) -> dict[str, Array]:
        """Rates ``{"probs": (..., V)}`` of all probabilities, with sum zero, from those of all outcomes but the last.

        For probabilities, which have sum one, see :meth:`parameters_at`.

        Raises
        ------
        ShapeError, DomainError
            If the last axis has not length V - 1, or an entry is not finite.

        Examples
        --------
        >>> Categorical.from_probs([0.2, 0.3, 0.5]).split([0.25, 0.5])["probs"].tolist()
        [0.25, 0.5, -0.75]
        """
        return {"probs": self._with_last("x", x, total=0.0)}

    def join(self, **parts: ArrayLike) -> Array:
        """All but the last of the probabilities, or of their rates of change, ``probs`` (..., V).

        Raises
        ------
        ArgumentError
            If the only part is not ``probs``.
        ShapeError, DomainError
            If the last axis has not length V, or an entry is not finite.
        """
        if set(parts) != {"probs"}:
            raise ArgumentError(f"join: found parts {sorted(parts)}, wanted ['probs']")
        array = as_floats("probs", parts["probs"])
        if array.ndim == 0 or array.shape[-1] != self.dimension:
            raise ShapeError(f"probs: found shape {tuple(array.shape)}, wanted (..., {self.dimension})")
        return array[..., :-1]

    def _with_last(self, name: str, x: ArrayLike, *, total: float) -> Array:
        array = as_floats(name, x)
        if array.ndim == 0 or array.shape[-1] != self.dimension - 1:
            raise ShapeError(
                f"{name}: found shape {tuple(array.shape)}, wanted (..., {self.dimension - 1}), the coordinates of "
                f"{type(self).__name__}"
            )
        xp = namespace(array)
        return xp.concat([array, total - xp.sum(array, axis=-1, keepdims=True)], axis=-1)

    def log_prob(self, x: ArrayLike) -> Array:
        """Log-probability in nats of outcomes ``x``, integers that broadcast against the batch."""
        outcome = detached(x) if is_tensor(x) and is_tensor(self.log_probs) else as_array("x", x)
        given = to_numpy(outcome[:0] if outcome.ndim else outcome).dtype
        if given.kind not in "iu":
            raise DomainError(f"x: found dtype {given}, wanted integers, the numbers of outcomes")
        if ((outcome < 0) | (outcome >= self.dimension)).any():
            raise DomainError(f"x: outcomes must lie between 0 and {self.dimension - 1}")
        if not is_tensor(outcome):
            outcome = like(outcome, self.log_probs)
        xp = namespace(self.log_probs)
        check_points(outcome, self.batch_shape)
        shape = np.broadcast_shapes(tuple(outcome.shape), self.batch_shape)
        rows = xp.broadcast_to(self.log_probs, (*shape, self.dimension))
        places = xp.broadcast_to(xp.astype(outcome, xp.int64), shape)[..., None]
        return as_result(xp.take_along_axis(rows, places, axis=-1)[..., 0])

    def entropy(self) -> Array:
        """Shannon entropy in nats, shape (...,)."""
        xp = namespace(self.log_probs)
        finite = xp.where(self.log_probs == -np.inf, 0.0, self.log_probs)
        return as_result(0.0 - xp.sum(xp.exp(self.log_probs) * finite, axis=-1))

    def sample(self, rng: RandomState = None, *, shape: tuple[int, ...] = ()) -> Array:
        """Outcomes of shape ``(*shape, *batch_shape)``; an outcome of probability zero is never drawn."""
        uniform = random_generator(rng, shape).random((*shape, *self.batch_shape))
        xp = namespace(self.log_probs)
        rows = xp.exp(detached(self.log_probs)).reshape(-1, self.dimension)
        flat = like(np.ascontiguousarray(uniform.reshape(-1, rows.shape[0]).T), rows)
        drawn = []
        for row, numbers in zip(rows, flat, strict=True):
            cumulative = xp.cumulative_sum(row)
            drawn.append(xp.searchsorted(cumulative / cumulative[-1], numbers, side="right"))
        return xp.stack(drawn, axis=-1).reshape(uniform.shape)

    def parameter_rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Number of outcomes, entropy in nats, the most probable outcome and its probability."""
        log_probs = to_numpy(self.log_probs)
        top = log_probs.argmax(axis=-1)
        return table(
            outcomes=np.full(top.shape, self.dimension), entropy=self.entropy(), top_outcome=top,
            top_probability=np.exp(log_probs.max(axis=-1)),
        )


def logsumexp(x: Array) -> Array:
    """Logarithm of the sum of exponentials along the last axis; minus infinity if all terms are."""
    xp = namespace(x)
    top = xp.max(detached(x), axis=-1)
    shift = xp.where(top == -np.inf, 0.0, top)
    with np.errstate(divide="ignore"):
        return as_result(xp.log(xp.sum(xp.exp(x - shift[..., None]), axis=-1)) + shift)


def safe_log(x: Array) -> Array:
    """Natural logarithm of non-negative numbers, minus infinity at zero, without a warning; its gradient there is 0."""
    xp = namespace(x)
    if requires_gradient(x):
        nothing = x == 0
        return xp.where(nothing, -np.inf, xp.log(xp.where(nothing, 1.0, x)))
    with np.errstate(divide="ignore"):
        return as_result(xp.log(x))


def _outcomes(name: str, value: ArrayLike, *, infinite: bool = False) -> tuple[Array, float]:
    """Fresh float64 numbers (..., V), and how far their rows may be from sum one given the precision they came in."""
    given: Array = value if is_tensor(value) else as_array(name, value)
    if is_tensor(given):
        check_tensor(name, given)
    xp = namespace(given)
    floating = given.dtype.is_floating_point if is_tensor(given) else given.dtype.kind == "f"
    hidden: Array = None
    if infinite and floating:
        hidden = given == -np.inf
        given = xp.where(hidden, 0, given)
    array = as_floats(name, given)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ShapeError(f"{name}: found shape {tuple(array.shape)}, wanted (..., V) with at least one outcome")
    check_batch(name, tuple(array.shape[:-1]))
    if hidden is not None:
        array[hidden] = -np.inf
    return array, rounding_of_sums(float(xp.finfo(given.dtype).eps) if floating else 0.0)


def _check_non_negative(name: str, array: Array, what: str) -> None:
    if (array < 0).any():
        found = to_numpy(array)
        where = tuple(int(i) for i in np.argwhere(found < 0)[0])
        raise DomainError(f"{name}: entry {where} is {found[where]}; {what} must not be negative")


def _check_some(name: str, top: Array, empty: float, what: str) -> Array:
    """The largest entry of each row, unless it says that the whole row is empty."""
    if (top == empty).any():
        where = tuple(int(i) for i in np.argwhere(to_numpy(top == empty))[0])
        which = f"row {where[0] if len(where) == 1 else where}" if where else "the row"
        raise DomainError(f"{name}: all entries of {which} are {what}; there is no such distribution")
    return top
