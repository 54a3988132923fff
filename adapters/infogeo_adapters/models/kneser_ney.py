"""Interpolated modified Kneser-Ney n-grams over token ids: the baseline a language model has to beat.

Chen and Goodman (1999), An empirical study of smoothing techniques for language modeling, Computer Speech and
Language 13. Counting is sorting: an n-gram is one unsigned 64-bit number,
so that tens of millions of tokens take seconds and no more memory than a few copies of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo.errors import ArgumentError, DomainError, ShapeError

Keys = NDArray[np.uint64]
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts determine none: a text too small, or unigrams of which none is rare."""


@dataclass(frozen=True, eq=False)
class _Order:
    """All distinct n-grams of one length, with the counts that this length works with."""

    keys: Keys
    """Rising; the last token is in the lowest bits, so all n-grams of one context lie side by side."""
    counts: NDArray[np.int64]
    """Occurrences at the highest order; below it, the number of distinct tokens seen in front."""
    discounts: tuple[float, float, float]
    """For counts 1, 2, and 3 or more."""
    estimated: bool
    """False if the discounts are `FALLBACK`."""


def discounts_of(counts: NDArray[np.int64]) -> tuple[tuple[float, float, float], bool]:
    r"""Discounts of modified Kneser-Ney from the counts of counts.

    With :math:`n_k` the number of n-grams of count :math:`k` and :math:`Y = n_1 / (n_1 + 2 n_2)`,

    .. math:: D_k = k - (k + 1) Y \frac{n_{k + 1}}{n_k}, \qquad k = 1, 2, 3.

    Parameters
    ----------
    counts : array of int, shape (m,)
        Counts of the distinct n-grams of one order.

    Returns
    -------
    discounts : tuple of float
        For counts 1, 2, and 3 or more.
    estimated : bool
        False if one of :math:`n_1, \dots, n_4` is zero or a discount falls outside [0, k]; then the discounts are
        0.5, 1 and 1.5.

    References
    ----------
    Chen and Goodman (1999).

    Examples
    --------
    >>> discounts_of(np.repeat([1, 2, 3, 4], [40, 12, 6, 3]))
    ((0.625, 1.0625, 1.75), True)
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not n1 * n2 * n3 * n4:
        return FALLBACK, False
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if not all(0 <= d <= k for k, d in enumerate(found, start=1)):
        return FALLBACK, False
    return found, True


def _distinct(keys: Keys) -> tuple[Keys, NDArray[np.int64]]:
    """Distinct keys, rising, and how often each occurs; sorts the argument in place."""
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.diff(np.append(first, len(keys)))


class KneserNey:
    r"""Interpolated modified Kneser-Ney model of token sequences.

    .. math::
        p(w \mid h) = \frac{\max(c(hw) - D_{c(hw)}, 0)}{\sum_v c(hv)}
        + \frac{\sum_k D_k N_k(h \cdot)}{\sum_v c(hv)} \, p(w \mid h'),

    :math:`h'` the context without its first token, :math:`c` the number of occurrences at the highest order and the
    number of distinct preceding tokens below it, :math:`N_k(h\cdot)` the number of tokens that follow :math:`h` with
    count :math:`k` (3 stands for all larger counts). A context that never occurred hands over to :math:`h'` entirely;
    below the unigrams lies the uniform distribution. A text begins with ``order - 1`` begin tokens.

    Parameters
    ----------
    ids : array of int, shape (n,)
        Tokens of the training text.
    vocab_size : int
        Number of tokens; ids are below it.
    order : int, optional
        Length of the n-grams, 4 by default; the packed n-gram must fit 64 bits.
    begin : int, optional
        Token in front of a text.

    Raises
    ------
    ShapeError, DomainError, ArgumentError
        If the ids are not a row of integers in range, none at all, or the n-grams do not fit 64 bits.

    References
    ----------
    Chen and Goodman (1999).

    Examples
    --------
    >>> model = KneserNey([2, 3, 2, 4, 2, 3, 3, 4, 2], vocab_size=5, order=3)
    >>> p = np.exp([model.log_probs([2, 3, w])[2] for w in range(5)])
    >>> round(float(p.sum()), 12)
    1.0
    """

    def __init__(self, ids: ArrayLike, *, vocab_size: int, order: int = 4, begin: int = 0) -> None:
        self.bits = max(1, (vocab_size - 1).bit_length())
        if order < 1 or order * self.bits > 64:
            raise ArgumentError(f"order {order}: n-grams of {self.bits} bits a token must have 1 to {64 // self.bits}")
        if not 0 <= begin < vocab_size:
            raise ArgumentError(f"begin: found {begin}, wanted a token from 0 to {vocab_size - 1}")
        self.vocab_size, self.order, self.begin = vocab_size, order, begin
        grams = self._packed(ids)
        if not len(grams):
            raise DomainError("ids: found no token, wanted at least one to count")
        keys, counts = _distinct(grams)
        orders = [_Order(keys, counts, *discounts_of(counts))]
        for n in range(order - 1, 0, -1):
            keys, counts = _distinct(keys & np.uint64((1 << n * self.bits) - 1))
            orders.append(_Order(keys, counts, *discounts_of(counts)))
        self._orders = orders[::-1]

    @property
    def discounts(self) -> tuple[tuple[float, float, float], ...]:
        """Discounts of each order, unigrams first."""
        return tuple(order.discounts for order in self._orders)

    @property
    def estimated(self) -> tuple[bool, ...]:
        """Whether the discounts of each order come from the counts; otherwise they are 0.5, 1 and 1.5."""
        return tuple(order.estimated for order in self._orders)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of distinct n-grams of each order, unigrams first."""
        return tuple(len(order.keys) for order in self._orders)

    def log_probs(self, ids: ArrayLike) -> NDArray[np.float64]:
        """Log-probability of each token of a text given those before it.

        Parameters
        ----------
        ids : array of int, shape (n,)
            Tokens of a text, without begin tokens.

        Returns
        -------
        array, shape (n,)
            Nats.
        """
        grams = self._packed(ids)
        p: NDArray[np.float64] = np.full(len(grams), 1.0 / self.vocab_size)
        for n, order in enumerate(self._orders, start=1):
            gram = grams & np.uint64((1 << n * self.bits) - 1)
            context = gram >> np.uint64(self.bits) << np.uint64(self.bits)
            left = np.searchsorted(order.keys, context)
            right = np.searchsorted(order.keys, context | np.uint64((1 << self.bits) - 1), side="right")
            at = np.minimum(np.searchsorted(order.keys, gram), len(order.keys) - 1)
            count = np.where(order.keys[at] == gram, order.counts[at], 0)
            total = _sums(order.counts, left, right)
            kinds = [order.counts == 1, order.counts == 2, order.counts >= 3]
            freed = sum(d * _sums(kind, left, right) for d, kind in zip(order.discounts, kinds, strict=True))
            kept = count - np.array([0.0, *order.discounts])[np.minimum(count, 3)]
            known = total > 0
            p = np.where(known, (kept + freed * p) / np.where(known, total, 1), p)
        result: NDArray[np.float64] = np.log(p)
        return result

    def _packed(self, ids: ArrayLike) -> Keys:
        """The n-gram that ends at each token, as one number."""
        tokens = np.asarray(ids)
        if tokens.ndim != 1:
            raise ShapeError(f"ids: found shape {tokens.shape}, wanted a row of tokens")
        if tokens.size and tokens.dtype.kind not in "iu":
            raise DomainError(f"ids: found dtype {tokens.dtype}, wanted integers")
        if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size):
            raise DomainError(f"ids: found {tokens.min()} to {tokens.max()}, wanted 0 to {self.vocab_size - 1}")
        padded = np.full(self.order - 1 + len(tokens), self.begin, dtype=np.uint32)
        padded[self.order - 1 :] = tokens
        grams = np.zeros(len(tokens), dtype=np.uint64)
        for i in range(self.order):
            grams <<= np.uint64(self.bits)
            grams |= padded[i : i + len(tokens)]
        return grams


def _sums(
    values: NDArray[np.int64] | NDArray[np.bool_], left: NDArray[np.intp], right: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Sums of ``values[left:right]`` for many ranges at once."""
    total = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, dtype=np.int64, out=total[1:])
    sums: NDArray[np.int64] = total[right] - total[left]
    return sums
