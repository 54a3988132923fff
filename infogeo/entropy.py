"""Entropies of discrete distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    as_float_array,
    check_count,
    check_sums,
    sum_tolerance,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.families import Categorical, Family


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
