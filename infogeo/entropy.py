"""Entropies of discrete distributions, and the entropy of a model's prediction by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    as_int_array,
    check_count,
    check_shape,
    check_sums,
    sealed,
    sum_tolerance,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.families import Categorical, Family
from infogeo.results import Result, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class EntropyProfile(Result):
    """Entropy of the prediction read out at each layer and token of one text (logit lens)."""

    entropy: FloatArray
    """(L + 1, T) in nats; row 0 read out at the embedding, row l after block l."""
    top_tokens: tuple[tuple[str, ...], ...]
    """(L + 1)(T) the most probable outcome at each layer and token."""
    top_probability: FloatArray
    """(L + 1, T) its probability."""
    tokens: tuple[str, ...]
    token_words: IntArray
    """(T,) index of the word a token belongs to, -1 for none."""
    words: tuple[str, ...]
    predicts: Literal["next", "itself"]
    """Whether the prediction at a token is of the next token (causal) or of the token itself (masked)."""
    n_outcomes: int
    """Size of the vocabulary read out; the entropy is at most its logarithm."""
    stage: str = "resid_post"
    source: Source

    def __post_init__(self) -> None:
        t = len(self.tokens)
        entropy = as_float_array("entropy", self.entropy)
        top_probability = as_float_array("top_probability", self.top_probability)
        token_words = as_int_array("token_words", self.token_words)
        check_shape("entropy", entropy, (None, t))
        check_shape("top_probability", top_probability, entropy.shape)
        check_shape("token_words", token_words, (t,))
        if (entropy < -1e-9).any() or (entropy > np.log(self.n_outcomes) + 1e-6).any():
            raise DomainError(f"entropy: values must lie between 0 and log({self.n_outcomes})")
        for name, array in (("entropy", entropy), ("top_probability", top_probability), ("token_words", token_words)):
            object.__setattr__(self, name, sealed(array))

    def last_tokens(self) -> IntArray:
        """(n,) the last token of each word, whose prediction is the first made with the whole word read."""
        places = [np.flatnonzero(self.token_words == w)[-1] for w in range(len(self.words))]
        return np.asarray(places, dtype=np.int64)

    def word_entropy(self) -> FloatArray:
        """(L + 1, n) entropy at each word's last token, in nats."""
        return np.asarray(self.entropy[:, self.last_tokens()])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("layer", "position", "token", "entropy", "top_token", "top_probability")
        table = [
            (layer, t, self.tokens[t], float(self.entropy[layer, t]), self.top_tokens[layer][t],
             float(self.top_probability[layer, t]))
            for layer in range(len(self.entropy))
            for t in range(len(self.tokens))
        ]
        return columns, table

    def summary(self) -> str:
        size = f"{len(self.tokens)} tokens at {len(self.entropy)} layers"
        return f"EntropyProfile of {size}, in nats ({self.source.model})"


def shannon_entropy(p: ArrayLike | Categorical, *, axis: int = -1) -> FloatArray:
    r"""Shannon entropy of discrete distributions, in nats.

    .. math:: H(p) = -\sum_i p_i \log p_i, \qquad 0 \log 0 = 0

    Between 0 (one outcome is certain) and log V (all V outcomes alike) [1]_.

    Parameters
    ----------
    p : array_like, shape (..., V), or Categorical
        Probabilities that sum to one along ``axis`` (within 1e-9, or the
        rounding of a coarser dtype: 3.8e-6 for float32, 0.008 for float16; nothing is renormalized).
    axis : int
        Where the outcomes are; a ``Categorical`` has them in the last place.

    Returns
    -------
    ndarray, shape (...,)

    Raises
    ------
    DomainError
        If a probability is negative, not finite, or the sum is not one.
    ShapeError, ArgumentError
        If there is no axis, no outcome, or ``axis`` does not exist.
    UnsupportedFamilyError
        If ``p`` is a family other than ``Categorical``.

    References
    ----------
    .. [1] C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948.

    Examples
    --------
    >>> float(shannon_entropy([0.25, 0.25, 0.25, 0.25])) == float(np.log(4))
    True
    >>> shannon_entropy([[0.5, 0.5], [1.0, 0.0]]).round(6).tolist()
    [0.693147, 0.0]
    """
    if isinstance(p, Categorical):
        if axis != -1:
            raise ArgumentError(f"axis: found {axis}; a Categorical has its outcomes in the last place, leave axis out")
        value: FloatArray = p.entropy()
        return value
    if isinstance(p, Family):
        raise UnsupportedFamilyError(
            f"shannon_entropy: found {type(p).__name__}, wanted a Categorical or an array of probabilities; a density "
            "has a differential entropy, which is another quantity: use its method entropy()"
        )
    array = as_float_array("p", p)
    _check_outcomes("p", array, axis)
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise DomainError(f"p: entry {where} is {array[where]}; a probability is not negative")
    check_sums("p", array.sum(axis=axis), sum_tolerance(np.asarray(p).dtype), logarithms="entropy_of_logits")
    logs = np.log(array, out=np.zeros_like(array), where=array > 0)
    return np.asarray(0.0 - (array * logs).sum(axis=axis))


def entropy_of_log_probs(log_probs: ArrayLike, *, axis: int = -1) -> FloatArray:
    r"""Shannon entropy, in nats, of distributions given by their log-probabilities.

    .. math:: H = -\sum_i e^{\ell_i} \ell_i

    with no term for an outcome of log-probability minus infinity.

    Parameters
    ----------
    log_probs : array_like, shape (..., V)
        Logarithms of probabilities that sum to one along ``axis`` (within 1e-9, or the
        rounding of a coarser dtype: 3.8e-6 for float32, 0.008 for float16; nothing is renormalized).
    axis : int
        Where the outcomes are.

    Returns
    -------
    ndarray, shape (...,)

    Raises
    ------
    DomainError
        If an entry is NaN or plus infinity, or the probabilities do not sum to one.
    ShapeError, ArgumentError
        If there is no axis, no outcome, or ``axis`` does not exist.

    Examples
    --------
    >>> float(entropy_of_log_probs(np.log([0.5, 0.25, 0.25])).round(6))
    1.039721
    """
    array = _as_logarithms("log_probs", log_probs)
    _check_outcomes("log_probs", array, axis)
    tolerance = sum_tolerance(np.asarray(log_probs).dtype)
    check_sums("log_probs", np.exp(array).sum(axis=axis), tolerance, logarithms="entropy_of_logits")
    return np.asarray(0.0 - _times_exp(array, array).sum(axis=axis))


def entropy_of_logits(logits: ArrayLike, *, axis: int = -1) -> FloatArray:
    r"""Shannon entropy, in nats, of the softmax of logits.

    .. math:: H = \log \sum_i e^{z_i - m} + \sum_i p_i (m - z_i), \qquad m = \max_i z_i, \; p = \mathrm{softmax}(z)

    Both terms are non-negative, so nothing cancels and nothing overflows, and no p_i is ever put into a logarithm.

    Parameters
    ----------
    logits : array_like, shape (..., V)
        Finite, or minus infinity for an outcome that is ruled out; at least one finite along ``axis``.
    axis : int
        Where the outcomes are.

    Returns
    -------
    ndarray, shape (...,)

    Raises
    ------
    DomainError
        If an entry is NaN or plus infinity, or a distribution has no finite logit.
    ShapeError, ArgumentError
        If there is no axis, no outcome, or ``axis`` does not exist.

    Examples
    --------
    >>> float(entropy_of_logits([3.0, 3.0, -1e6]).round(6))
    0.693147
    """
    array = _as_logarithms("logits", logits)
    _check_outcomes("logits", array, axis)
    top = array.max(axis=axis, keepdims=True)
    if np.isneginf(top).any():
        raise DomainError("logits: all outcomes of a distribution are minus infinity; at least one must be possible")
    below = array - top
    # the largest term is exactly one: summed apart, what the others add to it is not rounded away
    others = np.exp(below)
    np.put_along_axis(others, np.expand_dims(array.argmax(axis=axis), axis), 0.0, axis)
    rest = others.sum(axis=axis)
    return np.asarray(np.log1p(rest) - _times_exp(below, below).sum(axis=axis) / (1 + rest))


def _as_logarithms(name: str, value: ArrayLike) -> FloatArray:
    """A float64 array in which minus infinity is allowed."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        ruled_out = np.isneginf(array)
        if ruled_out.any():
            checked = as_float_array(name, np.where(ruled_out, 0.0, array))
            checked[ruled_out] = -np.inf
            return checked
    return as_float_array(name, array)


def _check_outcomes(name: str, array: FloatArray, axis: int) -> None:
    if array.ndim == 0:
        raise ShapeError(f"{name}: found a single number, wanted an array with the outcomes along one axis")
    axis = check_count("axis", axis)
    if not -array.ndim <= axis < array.ndim:
        raise ArgumentError(f"axis {axis} does not exist: {name} has shape {array.shape}")
    if array.shape[axis] == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted at least one outcome along axis {axis}")


def _times_exp(values: FloatArray, exponent: FloatArray) -> FloatArray:
    """Products values * exp(exponent), zero where the exponent is minus infinity."""
    weight = np.exp(exponent)
    product: FloatArray = np.multiply(values, weight, out=np.zeros_like(weight), where=weight > 0)
    return product
