"""Array kernels of trees over the words of a sentence: spanning trees, projective trees, random trees, path lengths.

Trees of one sentence in K variants are (K, n - 1, 2) pairs of words, first < second, in the order of their indices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray

Choice = Callable[[int, IntArray, IntArray], IntArray]
"""Which way spans of one length are made up: (length, variants (S,), first words (S,)) -> (S,) lengths of a part."""


def spanning_trees(closeness: FloatArray) -> IntArray:
    """Maximum spanning tree of each of K finite symmetric matrices (K, n, n), as (K, n - 1, 2) pairs of words.

    Prim's algorithm [1]_, all variants at once. Equally close pairs are taken in the order of their indices, the
    smaller first index before the larger, then the smaller second index, as
    :func:`~infogeo.minimum_spanning_tree` does; with that order no two pairs are equal, and the tree is unique.

    References
    ----------
    .. [1] Prim, "Shortest connection networks and some generalizations", Bell System Technical Journal 36, 1957.
    """
    k, n, _ = closeness.shape
    index = np.arange(n)
    code = np.minimum.outer(index, index) * n + np.maximum.outer(index, index)  # orders the pairs by their indices
    variants = np.arange(k)
    outside = np.ones((k, n), dtype=np.bool_)
    outside[:, 0] = False
    best = closeness[:, 0].copy()
    link = np.broadcast_to(code[0], (k, n)).copy()
    chosen = np.empty((k, max(n - 1, 0)), dtype=np.int64)
    for step in range(n - 1):
        np.copyto(best, -np.inf, where=~outside)
        word = np.where(best == best.max(axis=1, keepdims=True), link, n * n).argmin(axis=1)
        chosen[:, step] = link[variants, word]
        outside[variants, word] = False
        values, codes = closeness[variants, word], code[word]
        closer = (values > best) | ((values == best) & (codes < link))
        np.copyto(best, values, where=closer)
        np.copyto(link, codes, where=closer)
    chosen.sort(axis=1)
    return np.stack(np.divmod(chosen, n), axis=-1)


def projective_trees(closeness: FloatArray) -> IntArray:
    r"""For each of K symmetric matrices (K, n, n), the tree without crossing edges of the largest sum of closeness.

    A tree whose edges, drawn above the sentence, do not cross is projective with its first word as the root, so that
    Eisner's algorithm [1]_ finds it; since closeness is symmetric, his spans that look left and right are the same.
    The best tree :math:`T(i, j)` over the words from i to j, and the best :math:`I(i, j)` of those that join i to j,
    are

    .. math:: I(i, j) = c_{ij} + \max_{i \le r < j} T(i, r) + T(r + 1, j), \qquad
              T(i, j) = \max_{i < q \le j} I(i, q) + T(q, j).

    Of equal sums the longest part that begins with the first word is taken, so that a matrix of equal entries gives
    the star around the first word, as it does in :func:`spanning_trees`. Unlike there, the tree depends on the values
    of the entries, not only on their order.

    References
    ----------
    .. [1] Eisner, "Three new probabilistic models for dependency parsing: an exploration", COLING 1996, section 4.
    """
    k, n, _ = closeness.shape
    # Words i to i + l: joined[:, i, l] is I, from_left[:, i, l] and from_right[:, i + l, l] are both T.
    joined, from_left, from_right = (np.zeros((k, n, n)) for _ in range(3))
    cut, furthest = (np.zeros((k, n, n), dtype=np.int64) for _ in range(2))
    for length in range(1, n):
        rest = from_right[:, length:, :length]
        sums = from_left[:, : n - length, length - 1 :: -1] + rest
        at = sums.argmax(axis=2)
        cut[:, : n - length, length] = length - 1 - at
        edge = np.diagonal(closeness, length, axis1=1, axis2=2)
        joined[:, : n - length, length] = edge + np.take_along_axis(sums, at[..., None], axis=2)[..., 0]
        sums = joined[:, : n - length, length:0:-1] + rest
        at = sums.argmax(axis=2)
        furthest[:, : n - length, length] = length - at
        whole = np.take_along_axis(sums, at[..., None], axis=2)[..., 0]
        from_left[:, : n - length, length] = from_right[:, length:, length] = whole
    return _follow(k, n, lambda length, v, i: furthest[v, i, length], lambda length, v, i: cut[v, i, length])


def random_trees(n: int, count: int, rng: np.random.Generator) -> IntArray:
    """Trees over n words, each of the n^(n - 2) with the same probability, as (count, n - 1, 2) pairs of words.

    A sequence of n - 2 words drawn at random is the code [1]_ of exactly one tree.

    References
    ----------
    .. [1] Pruefer, "Neuer Beweis eines Satzes ueber Permutationen", Archiv der Mathematik und Physik 27, 1918.
    """
    edges = np.empty((count, max(n - 1, 0), 2), dtype=np.int64)
    if n < 2:
        return edges
    sequence = rng.integers(n, size=(count, n - 2))
    rows = np.arange(count)
    left = 1 + (sequence[:, :, None] == np.arange(n)).sum(axis=1)  # edges each word still needs
    for step in range(n - 2):
        leaf, other = (left == 1).argmax(axis=1), sequence[:, step]
        edges[:, step] = np.stack([leaf, other], axis=1)
        left[rows, leaf] = 0
        left[rows, other] -= 1
    edges[:, -1] = np.nonzero(left == 1)[1].reshape(count, 2)
    return _in_order(edges, n)


def random_projective_trees(n: int, count: int, rng: np.random.Generator) -> IntArray:
    r"""Trees over n words without crossing edges, all with the same probability, as (count, n - 1, 2) pairs of words.

    Over l + 1 words there are :math:`t_l = \binom{3l}{l} / (2l + 1)` such trees [1]_; the furthest neighbor of the
    first word, and then where the words below that edge part, are drawn in proportion to the number of trees of both
    sides.

    References
    ----------
    .. [1] Noy, "Enumeration of noncrossing trees on a circle", Discrete Mathematics 180, 1998.
    """
    def draw(chances: FloatArray, size: int) -> IntArray:
        return np.searchsorted(np.cumsum(chances[:-1]), rng.random(size), side="right").astype(np.int64)

    return _follow(
        count, n,
        lambda length, v, i: 1 + draw(_chances(length)[0], len(v)),
        lambda length, v, i: draw(_chances(length)[1], len(v)),
    )


@functools.cache
def _noncrossing(length: int) -> int:
    return math.comb(3 * length, length) // (2 * length + 1)


@functools.cache
def _joined(length: int) -> int:
    """Number of trees over length + 1 words that join the first to the last: pairs of trees over the two sides."""
    return 2 * math.comb(3 * length - 1, length - 1) // (3 * length - 1)


@functools.cache
def _chances(length: int) -> tuple[FloatArray, FloatArray]:
    """Chances of each furthest neighbor 1..length of the first word, and of each cut 0..length - 1 below an edge."""
    trees = [_noncrossing(part) for part in range(length + 1)]
    whole = _joined(length)
    furthest = np.array([_joined(q) * trees[length - q] / trees[length] for q in range(1, length + 1)])
    return furthest, np.array([trees[r] * trees[length - 1 - r] / whole for r in range(length)])


def _follow(k: int, n: int, furthest: Choice, cut: Choice) -> IntArray:
    """Edges (k, n - 1, 2) of the trees that the choices describe, spans of all variants followed from long to short."""
    trees, joined, edges = (np.zeros((k, n, n), dtype=np.bool_) for _ in range(3))
    trees[:, :1, -1:] = True
    for length in range(n - 1, 0, -1):
        v, i = np.nonzero(trees[:, :, length])
        q = furthest(length, v, i)
        joined[v, i, q] = True
        trees[v, i + q, length - q] = True
        v, i = np.nonzero(joined[:, :, length])
        r = cut(length, v, i)
        edges[v, i, i + length] = True
        trees[v, i, r] = True
        trees[v, i + r + 1, length - 1 - r] = True
    _, first, second = np.nonzero(edges)
    return np.stack([first, second], axis=1).reshape(k, max(n - 1, 0), 2)


def _in_order(edges: IntArray, n: int) -> IntArray:
    code = edges.min(axis=2) * n + edges.max(axis=2)
    code.sort(axis=1)
    return np.stack(np.divmod(code, max(n, 1)), axis=-1)


def adjacency(edges: IntArray, n: int) -> NDArray[np.bool_]:
    """(K, n, n) symmetric: whether an edge of (K, m, 2) joins two words, whichever of them is named first."""
    joined = np.zeros((len(edges), n, n), dtype=np.bool_)
    variants = np.arange(len(edges))[:, None]
    joined[variants, edges[..., 0], edges[..., 1]] = True
    joined[variants, edges[..., 1], edges[..., 0]] = True
    return joined


def path_lengths(edges: IntArray, n: int) -> IntArray:
    """(K, n, n) number of edges between each two words of K trees (K, n - 1, 2), by the Floyd-Warshall recursion."""
    lengths = np.where(adjacency(edges, n), 1, n)
    lengths[:, np.arange(n), np.arange(n)] = 0
    for via in range(n):
        np.minimum(lengths, lengths[:, :, via, None] + lengths[:, None, via], out=lengths)
    return lengths.astype(np.int64)
