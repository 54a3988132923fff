"""Influence normalized, both directions as one weight, and what rows and distances say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    as_int_array,
    check_count,
    check_flag,
    check_shape,
    sealed,
)
from infogeo._influence_distances import checked_influence
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result

Normalization = Literal["none", "rows", "symmetric", "product"]
Symmetrization = Literal["log-sum", "sum", "max"]


ROUNDING = 1e-12
"""Relative deviation that is no more than rounding errors."""


def row_shares(values: ArrayLike) -> FloatArray:
    r"""Rows divided by their sums, :math:`p_{ij} = a_{ij} / \sum_k a_{ik}`: the share of word j in what moves word i.

    A row of zeros, of a word that nothing moves, stays zero.

    Parameters
    ----------
    values : array_like, shape (..., n, n)
        Influence; the diagonal is zero.

    Returns
    -------
    array, shape (..., n, n)

    Raises
    ------
    ShapeError
        If it is no square matrix.
    DomainError
        If a value is negative or not finite, or the diagonal is not zero.

    Examples
    --------
    >>> row_shares([[0.0, 1.0, 3.0], [2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]).tolist()
    [[0.0, 0.25, 0.75], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]
    """
    a = checked_influence(values)
    return _divided(a, a.sum(axis=-1, keepdims=True))


def symmetric_shares(values: ArrayLike) -> FloatArray:
    r"""Values divided by the roots of the sums of their row and their column, :math:`D_r^{-1/2} A D_c^{-1/2}`.

    For a symmetric matrix this is the normalization of the graph Laplacian, :math:`D^{-1/2} A D^{-1/2}`; a directed one
    has two degrees, how much a word is moved (row) and how much it moves others (column). Zero stays zero.

    Parameters
    ----------
    values : array_like, shape (..., n, n)

    Returns
    -------
    array, shape (..., n, n)

    Raises
    ------
    ShapeError, DomainError
        As :func:`row_shares`.

    Examples
    --------
    >>> symmetric_shares([[0.0, 4.0], [1.0, 0.0]]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    a = checked_influence(values)
    return _divided(a, np.sqrt(a.sum(axis=-1, keepdims=True)) * np.sqrt(a.sum(axis=-2, keepdims=True)))


def product_ratios(values: ArrayLike) -> FloatArray:
    r"""Values over what row and column alone would say, :math:`a_{ij}\, a_{\cdot\cdot} / (a_{i \cdot}\, a_{\cdot j})`.

    The dots are sums. The logarithm is a pointwise mutual information of the words moved and taken away: zero where
    word j moves word i as much as both do on the whole. Zero stays zero.

    Parameters
    ----------
    values : array_like, shape (..., n, n)

    Returns
    -------
    array, shape (..., n, n)
        Ratios, not logarithms.

    Raises
    ------
    ShapeError, DomainError
        As :func:`row_shares`.

    Examples
    --------
    >>> product_ratios([[0.0, 4.0], [1.0, 0.0]]).tolist()
    [[0.0, 1.25], [5.0, 0.0]]
    """
    a = checked_influence(values)
    total = a.sum(axis=(-2, -1), keepdims=True)
    return _divided(_divided(a, a.sum(axis=-1, keepdims=True)) * total, a.sum(axis=-2, keepdims=True))


def as_they_are(values: ArrayLike) -> FloatArray:
    """The values without normalization, checked as :func:`row_shares` checks them.

    Parameters
    ----------
    values : array_like, shape (..., n, n)

    Returns
    -------
    array, shape (..., n, n)

    Raises
    ------
    ShapeError, DomainError
        As :func:`row_shares`.

    Examples
    --------
    >>> as_they_are([[0.0, 4.0], [1.0, 0.0]]).tolist()
    [[0.0, 4.0], [1.0, 0.0]]
    """
    return checked_influence(values)


NORMALIZATIONS: Mapping[str, Callable[[ArrayLike], FloatArray]] = MappingProxyType({
    "none": as_they_are, "rows": row_shares, "symmetric": symmetric_shares, "product": product_ratios,
})
"""Normalizations by name."""


# Both directions


def symmetrized_influence(
    values: ArrayLike, way: Symmetrization = "log-sum", *, causal: bool = False
) -> FloatArray:
    r"""Both directions of influence as one weight for each pair of words, larger for closer words.

    With p the (normalized) influence:

    ``"log-sum"``
        the geometric mean :math:`\sqrt{p_{ij} p_{ji}}`, which orders pairs as :math:`\log p_{ij} + \log p_{ji}` does:
        both must move each other
    ``"sum"``
        :math:`p_{ij} + p_{ji}`
    ``"max"``
        :math:`\max(p_{ij}, p_{ji})`: one direction is enough

    In a causal model the earlier word of a pair cannot be moved by the later one. The missing direction says nothing,
    so it must not make the product zero: ``causal`` makes ``"log-sum"`` take the direction that there is, and the three
    ways then give the same weights.

    Parameters
    ----------
    values : array_like, shape (..., n, n)
        Influence, normalized or not; the diagonal is zero.
    way : {"log-sum", "sum", "max"}
    causal : bool
        Whether all values above the diagonal are zero because they cannot be anything else.

    Returns
    -------
    array, shape (..., n, n)
        Symmetric; zero on the diagonal.

    Raises
    ------
    ArgumentError
        If there is no such way, or ``causal`` is said of values that are not.
    ShapeError, DomainError
        As :func:`row_shares`.

    Examples
    --------
    >>> symmetrized_influence([[0.0, 4.0], [1.0, 0.0]]).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    >>> symmetrized_influence([[0.0, 0.0], [1.0, 0.0]], causal=True).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    p = checked_influence(values)
    back = np.swapaxes(p, -1, -2)
    if check_flag("causal", causal) and np.triu(p, 1).any():
        raise ArgumentError("causal: found influence of later words on earlier ones, which a causal model has not")
    if way == "max" or (way == "log-sum" and causal):
        return np.asarray(np.maximum(p, back))
    if way == "sum":
        return np.asarray(p + back)
    if way != "log-sum":
        raise ArgumentError(f"symmetrized {way!r} does not exist; choose 'log-sum', 'sum' or 'max'")
    return np.asarray(np.sqrt(p) * np.sqrt(back))


# What rows and distances say


def row_entropies(values: ArrayLike) -> FloatArray:
    r"""Entropy in nats of each row's shares, :math:`-\sum_j p_{ij} \log p_{ij}`: over how many words influence spreads.

    Parameters
    ----------
    values : array_like, shape (..., n, n)
        Influence, which :func:`row_shares` turns into p.

    Returns
    -------
    array, shape (..., n)
        From 0 to log(n - 1); NaN for a word that nothing moves, such as the first one in a causal model.

    Raises
    ------
    ShapeError, DomainError
        As :func:`row_shares`.

    Examples
    --------
    >>> row_entropies([[0.0, 1.0, 1.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]).round(4)
    array([0.6931, 0.    ,    nan])
    """
    from scipy.special import entr

    p = row_shares(values)
    return np.where(p.any(axis=-1), entr(p).sum(axis=-1), np.nan)


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceProfile(Result):
    """How the logarithm of influence depends on how far apart two words stand, over many sentences."""

    mean: FloatArray
    """(R, D) mean of the logarithms at offsets 1 to D."""
    deviation: FloatArray
    """(R, D) their standard deviation, with divisor n."""
    counts: IntArray
    """(R, D) pairs of words with influence at that offset."""

    def __post_init__(self) -> None:
        mean, deviation = as_float_array("mean", self.mean), as_float_array("deviation", self.deviation)
        check_shape("mean", mean, (None, None))
        check_shape("deviation", deviation, mean.shape)
        counts = as_int_array("counts", self.counts)
        check_shape("counts", counts, mean.shape)
        for name, array in (("mean", mean), ("deviation", deviation), ("counts", counts)):
            object.__setattr__(self, name, sealed(array))

    def standardized(self, values: ArrayLike) -> FloatArray:
        r"""Logarithms of influence less the mean at their offset, over the deviation there.

        Offsets beyond the last take the last. Where there is no influence, and on the diagonal, it is minus infinity.

        Parameters
        ----------
        values : array_like, shape (R, n, n)

        Returns
        -------
        array, shape (R, n, n)

        Raises
        ------
        ShapeError
            If the layers are not those of the profile.
        DomainError
            As :func:`row_shares`.
        """
        a = checked_influence(values)
        if a.ndim != 3 or len(a) != len(self.mean):
            raise ShapeError(f"values: found shape {a.shape}, wanted ({len(self.mean)}, n, n)")
        n, most = a.shape[-1], self.mean.shape[1]
        at = np.clip(np.abs(np.subtract.outer(np.arange(n), np.arange(n))), 1, most) - 1
        with np.errstate(divide="ignore"):
            return np.asarray((np.log(a) - self.mean[:, at]) / self.deviation[:, at])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = [
            (r, k + 1, float(self.mean[r, k]), float(self.deviation[r, k]), int(self.counts[r, k]))
            for r in range(self.mean.shape[0]) for k in range(self.mean.shape[1])
        ]
        return ("row", "offset", "mean", "deviation", "pairs"), table

    def summary(self) -> str:
        return f"DistanceProfile of {int(self.counts[0].sum())} pairs at offsets 1 to {self.mean.shape[1]}"


def distance_profile(values: Sequence[ArrayLike], *, least: int = 20) -> DistanceProfile:
    """Mean and deviation of the logarithm of influence by offset between the words, over sentences.

    Parameters
    ----------
    values : sequence of array_like, shape (R, n, n)
        Influence of each sentence, normalized or not; zeros do not count.
    least : int
        Offsets count up to the first one with fewer pairs in some layer.

    Returns
    -------
    DistanceProfile

    Raises
    ------
    DomainError
        If even adjacent words have fewer pairs, or all values at an offset are the same, so that there is no deviation.
    ShapeError
        If the arrays are not (R, n, n) with one R.
    ArgumentError
        If ``least`` is below 2.

    Examples
    --------
    >>> a = np.exp([[[-np.inf, 0.0, 1.0], [2.0, -np.inf, 0.0], [3.0, 2.0, -np.inf]]])
    >>> found = distance_profile([a], least=2)
    >>> found.mean.tolist(), found.deviation.tolist(), found.counts.tolist()
    ([[1.0, 2.0]], [[1.0, 1.0]], [[4, 2]])
    """
    check_count("least", least, 2)
    arrays = [checked_influence(v) for v in values]
    if not arrays or any(a.ndim != 3 or len(a) != len(arrays[0]) for a in arrays):
        raise ShapeError(f"values: found shapes {[a.shape for a in arrays[:5]]}, wanted (R, n, n), R the same for all")
    most = max(a.shape[-1] for a in arrays) - 1
    nothing = np.zeros((len(arrays[0]), most + 1))
    counts = _sums_by_offset(arrays, nothing, 0)
    enough = (counts[:, 1:] >= least).all(axis=0)
    reach = int(np.argmin(enough)) if not enough.all() else most
    if reach < 1:
        raise DomainError(f"values: fewer than {least} pairs of adjacent words have influence; give more sentences")
    seen = np.maximum(counts, 1)
    mean = _sums_by_offset(arrays, nothing, 1) / seen
    # about the mean, since raw squares would leave rounding errors for a deviation
    deviation = np.sqrt(_sums_by_offset(arrays, mean, 2) / seen)
    found = slice(1, reach + 1)
    if (deviation <= ROUNDING * np.maximum(np.abs(mean), 1.0))[:, found].any():
        raise DomainError("values: all influence at some offset is the same, so that it has no deviation")
    return DistanceProfile(
        mean=mean[:, found], deviation=deviation[:, found], counts=counts[:, found].astype(np.int64)
    )


def _sums_by_offset(arrays: Sequence[FloatArray], center: FloatArray, power: int) -> FloatArray:
    """(R, D + 1) sums over pairs with influence of the logarithm less the center (R, D + 1) at its offset, powered."""
    sums = np.zeros_like(center)
    for a in arrays:
        at = np.abs(np.subtract.outer(np.arange(a.shape[-1]), np.arange(a.shape[-1]))).reshape(-1)
        for r, one in enumerate(a.reshape(len(a), -1)):
            seen = one > 0
            logs = np.log(one[seen]) - center[r, at[seen]]
            sums[r] += np.bincount(at[seen], weights=logs**power, minlength=sums.shape[1])
    return sums


def _divided(a: FloatArray, b: FloatArray) -> FloatArray:
    """A / b, and zero where a is zero."""
    return np.divide(a, b, out=np.zeros_like(a), where=(a > 0) & (np.broadcast_to(b, a.shape) > 0))
