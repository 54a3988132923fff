r"""What heads and blocks of attention put out when a word may not look at another one, in closed form.

Of one head let token t look at token k with weight :math:`\alpha_{tk}` and take :math:`v_k` from it, so that it puts
out :math:`o_t = \sum_k \alpha_{tk} v_k`. Softmax gives what is left when word j is hidden the same weights over their
sum, so that

.. math::
    \delta_{tj} = o_{t \setminus j} - o_t
    = \frac{o_t - \sum_{k \in j} \alpha_{tk} v_k}{\sum_{k \notin j} \alpha_{tk} + s_t} - o_t ,

where :math:`s_t` is what a sink takes, the part of the softmax that no token gets (zero in most models). Where a head
looks at word j alone nothing is left to look at, and it puts out nothing: :math:`\delta_{tj} = -o_t`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray

NOTHING_LEFT = 1e-30
"""Weight on all other tokens below which a head looks at a word alone: in single precision less is next to zero."""
LITTLE_LEFT = 1e-3
"""Weight on all other tokens below which what is left is summed by itself, since a difference would lose its digits."""
SINK = 1e-3
"""What some row of a head must lack of one for the head to have a sink; rounding of the sum of a row lacks less."""
MOST_NUMBERS = 4_000_000
"""Numbers that are held at a time for the effects on some of the words: 32 MB, a few times over."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WordTokens:
    """Which tokens a text's words are read at, and which are taken away with each."""

    reads: FloatArray
    """(n, T) weights that make a word of its tokens."""
    takes: FloatArray
    """(n, T) one for the tokens of a word that are taken away, else zero."""

    def __len__(self) -> int:
        return len(self.reads)

    def parts(self, heads: int, width: int) -> Iterator[slice]:
        """Runs of words of which the effects of so many heads can be held at a time."""
        n = len(self)
        tokens = max(1.0, float((self.reads > 0).sum()) / n)
        size = max(1, int(MOST_NUMBERS / (tokens * n * heads * width)))
        return (slice(first, min(first + size, n)) for first in range(0, n, size))


def head_effects(
    maps: FloatArray, values: FloatArray, reads: FloatArray, takes: FloatArray, *, words: slice | None = None
) -> FloatArray:
    """Change of what each head puts out at each word when it may not look at each other word.

    Parameters
    ----------
    maps : array, shape (H, T, T)
        Attention, row = the token that looks; rows sum to one, or less where a sink takes the rest.
    values : array, shape (H, T, width)
    reads : array, shape (n, T)
        Weights that make a word of its tokens.
    takes : array, shape (n, T)
        One for the tokens of a word that are taken away, else zero.
    words : slice, optional
        The m words whose change is wanted; all by default.

    Returns
    -------
    array, shape (H, m, n, width)
        ``[h, i, j]`` at word i without word j; zero for i = j.
    """
    wanted = slice(0, len(reads)) if words is None else words
    weights = reads[wanted]
    used = np.flatnonzero(weights.any(axis=0))
    looks = maps[:, used]
    out = looks @ values
    sink = np.maximum(1.0 - looks.sum(axis=-1, keepdims=True), 0.0)
    left = looks @ (1.0 - takes).T + sink * (maps.sum(axis=-1).min(axis=-1) < 1.0 - SINK)[:, None, None]
    every = left + looks @ takes.T  # one to rounding; what is not looked at then changes nothing at all
    gone: FloatArray = np.zeros((*left.shape, values.shape[-1]))
    for tokens, holds in _columns(takes):
        gone += (looks[:, :, tokens] * holds)[..., None] * values[:, None, tokens]
    rest = np.subtract(out[:, :, None], gone, out=gone)
    h, t, j = np.nonzero(left < LITTLE_LEFT)  # one word at most for each head and token
    rest[h, t, j] = np.einsum("pk,pkw->pw", looks[h, t] * (1.0 - takes)[j], values[h])
    inverse = np.divide(1.0, left, out=np.zeros_like(left), where=left > NOTHING_LEFT)
    every = np.divide(1.0, every, out=np.zeros_like(left), where=every > 0)
    moved = rest * inverse[..., None] - out[:, :, None] * every[..., None]
    heads, _, n, width = moved.shape
    found = (weights[:, used] @ moved.reshape(heads, len(used), n * width)).reshape(heads, len(weights), n, width)
    at = np.arange(n)[wanted]
    found[:, at - at[0], at] = 0.0
    return np.asarray(found)


def _columns(takes: FloatArray) -> Iterator[tuple[IntArray, FloatArray]]:
    """The first token of each word, the second, and so on, with zero for words that have fewer."""
    owned = [np.flatnonzero(row) for row in takes]
    for k in range(max(map(len, owned))):
        holds = np.array([k < len(own) for own in owned])
        tokens = np.array([own[k] if k < len(own) else 0 for own in owned])
        yield tokens, holds.astype(np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockEffects:
    """What attention of one block says of each word without each other word, less what it says with it."""

    block: int
    maps: FloatArray
    """(H, T, T)"""
    values: FloatArray
    """(H, T, width of a head)"""
    tokens: WordTokens
    matrix: FloatArray
    """(H, width of a head, d) output projection."""

    def heads(self, words: slice | None = None) -> FloatArray:
        """(H, m, n, width of a head), ``[h, i, j]`` at word i without word j, of m words."""
        return head_effects(self.maps, self.values, self.tokens.reads, self.tokens.takes, words=words)

    def whole(self, words: slice | None = None) -> FloatArray:
        """(m, n, d) of all heads together, through the output projection."""
        heads = self.heads(words)
        return side_by_side(heads) @ self.matrix.reshape(-1, self.matrix.shape[-1])

    def pairs(self, movable: NDArray[np.bool_]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Effects (H, k, width) of heads and (k, d) of all together, on pairs (n, n) that are wanted, part by part."""
        projection = self.matrix.reshape(-1, self.matrix.shape[-1])
        for part in self.tokens.parts(*self.matrix.shape[:2]):
            chosen = self.heads(part)[:, movable[part]]
            yield chosen, side_by_side(chosen) @ projection

    def lengths(
        self, of_heads: FloatArray, of_whole: FloatArray, movable: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray]:
        r"""Mahalanobis lengths (H, n, n) by head and (n, n) of all heads together, of pairs that are wanted.

        Parameters
        ----------
        of_heads : array, shape (H, width, width)
            Inverse Cholesky factors, transposed, so that a row times one has the length of its Mahalanobis distance.
        of_whole : array, shape (H width, d)
            The output projection times such a factor.
        movable : array of bool, shape (n, n)
            Pairs that are wanted; the others are zero.
        """
        n = len(self.tokens)
        heads, whole = np.zeros((len(self.maps), n, n)), np.zeros((n, n))
        for part in self.tokens.parts(*self.matrix.shape[:2]):
            chosen = self.heads(part)[:, movable[part]]
            heads[:, part][:, movable[part]] = _norms(chosen @ of_heads)
            whole[part][movable[part]] = _norms(side_by_side(chosen) @ of_whole)
        return heads, whole


def side_by_side(heads: NDArray[Any]) -> FloatArray:
    """Heads (H, ..., width) as the output projection reads them, (..., H width)."""
    turned = np.moveaxis(heads, 0, -2)
    return turned.reshape(*turned.shape[:-2], turned.shape[-2] * turned.shape[-1])


def _norms(rows: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("...d,...d->...", rows, rows)))
