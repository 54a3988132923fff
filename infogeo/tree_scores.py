"""How well word graphs fit the dependency tree of a sentence: shared edges, and rank correlation of distances.

Two protocols of the literature, as [1]_ defines them:

- The *undirected unlabeled attachment score* (UUAS): the share of the relations of the tree that are edges of the
  spanning tree of the closest words, whichever way they point. Punctuation is left out unless asked for: it is taken
  out of both before the spanning tree is built, and relations to it are not counted.
- The *distance Spearman correlation* (DSpr): for each word, the rank correlation of its distances to all words with
  the lengths of the paths to them in the tree; then the mean over the words. Punctuation stays in, and so does the word
  itself, as the nearest of all on both sides; equally distant words share their mean rank.

References
----------
.. [1] Hewitt and Manning, "A structural probe for finding syntax in word representations", NAACL 2019, section 4.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo import _trees
from infogeo._checks import (
    FloatArray,
    IntArray,
    as_bool_array,
    as_float_array,
    as_int_array,
    check_flag,
    check_shape,
    sealed,
)
from infogeo._pairs import Matrix, check_matrices
from infogeo._resampling import centered_ranks
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.graphs import WordGraph, minimum_spanning_tree
from infogeo.results import Result
from infogeo.syntax import DependencyTree
from infogeo.words import DistanceMatrix

Decoder = Literal["spanning", "projective"]
"""Which tree is made of closeness: the maximum spanning tree, or the best without crossing edges."""
DECODERS: tuple[Decoder, ...] = ("spanning", "projective")
MEMORY = 64e6
"""Bytes of temporary arrays above which the variants are scored block by block."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SentenceScores(Result):
    """How K variants of a word graph fit the tree of one sentence of n words, relation by relation."""

    name: str
    """Name of the sentence."""
    n_words: int
    edges: IntArray
    """(m, 2) pairs (dependent, head) of the tree, m = n - 1."""
    relations: tuple[str, ...]
    """(m,) name of each relation, with its subtype."""
    lengths: IntArray
    """(m,) how far apart the two words stand in the sentence, punctuation counted."""
    kept: NDArray[np.bool_]
    """(m,) False where the dependent or the head is punctuation."""
    hits: NDArray[np.bool_]
    """(K, m) whether the tree over all words has the relation as an edge."""
    hits_without_punctuation: NDArray[np.bool_]
    """(K, m) the same for the tree over the words that are no punctuation; False where a relation is not kept."""
    correlation: FloatArray
    """(K,) rank correlation of distances (DSpr); NaN for a sentence of one word."""
    decoder: Decoder

    def __post_init__(self) -> None:
        arrays: dict[str, NDArray[Any]] = {
            name: as_int_array(name, getattr(self, name)) for name in ("edges", "lengths")
        }
        arrays |= {
            name: as_bool_array(name, getattr(self, name)) for name in ("kept", "hits", "hits_without_punctuation")
        }
        arrays["correlation"] = as_float_array("correlation", self.correlation, finite=False)
        k, m = len(arrays["correlation"]), self.n_words - 1
        wanted = {"edges": (m, 2), "lengths": (m,), "kept": (m,), "correlation": (k,)}
        for name, array in arrays.items():
            check_shape(name, array, wanted.get(name, (k, m)))
            object.__setattr__(self, name, sealed(array))
        if len(self.relations) != m:
            raise ShapeError(f"relations: found {len(self.relations)}, wanted {m}, one for each edge")

    @property
    def attachment(self) -> FloatArray:
        """(K,) share of the relations that are hit, without punctuation; NaN where no relation is kept."""
        total = int(self.kept.sum())
        return self.hits_without_punctuation.sum(axis=1) / total if total else np.full(len(self.hits), np.nan)

    @property
    def attachment_with_punctuation(self) -> FloatArray:
        """(K,) share of all relations that are hit; NaN for a sentence of one word."""
        total = len(self.edges)
        return self.hits.sum(axis=1) / total if total else np.full(len(self.hits), np.nan)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = zip(self.attachment, self.attachment_with_punctuation, self.correlation, strict=True)
        return (
            ("variant", "attachment", "attachment_with_punctuation", "correlation"),
            [(k, *map(float, scores)) for k, scores in enumerate(table)],
        )

    def summary(self) -> str:
        kept = int(self.kept.sum())
        return f"SentenceScores of {len(self.hits)} variants: {self.name}, {kept} of {len(self.edges)} relations kept"


def score_closeness(closeness: ArrayLike, tree: DependencyTree, *, decoder: Decoder = "spanning") -> SentenceScores:
    """Score K variants of the closeness of the words of a sentence against its dependency tree.

    All pairs of words can be edges, whatever the sign of their closeness; equally close pairs are taken in the order of
    their indices, as :func:`~infogeo.minimum_spanning_tree` does.

    Parameters
    ----------
    closeness : array_like, shape (K, n, n)
        Symmetric, larger for closer words, finite outside the diagonal, which is ignored. A difference from the
        transpose of up to 1e-9 of the largest entry of a variant is rounding, and the mean with the transpose is used.
    tree : DependencyTree
        Of the same n words.
    decoder : {"spanning", "projective"}
        ``spanning`` is the maximum spanning tree, which depends on the order of the pairs only. ``projective`` is the
        tree without crossing edges of the largest sum of closeness [1]_, which depends on the values too.

    Returns
    -------
    SentenceScores

    Raises
    ------
    ShapeError
        If the closeness is not of the words of the tree.
    DomainError
        If an entry outside the diagonal is not finite, or a variant is not symmetric.
    ArgumentError
        If there is no such decoder.

    References
    ----------
    .. [1] Eisner, "Three new probabilistic models for dependency parsing: an exploration", COLING 1996, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree
    >>> tree = DependencyTree.from_words(("old", "dogs", "bark"), [1, 2, -1])
    >>> places = np.arange(3.0)
    >>> neighbors = -np.abs(np.subtract.outer(places, places))
    >>> scores = score_closeness([neighbors, -neighbors], tree)
    >>> scores.attachment
    array([1. , 0.5])
    >>> scores.correlation.round(3)
    array([1.   , 0.667])
    """
    if decoder not in DECODERS:
        raise ArgumentError(f"decoder: found {decoder!r}, wanted one of {', '.join(DECODERS)}")
    _check_tree(tree)
    values = _checked_closeness(closeness, len(tree))
    edges, punctuation = tree.edges(), tree.punctuation
    kept = np.logical_not(punctuation[edges].any(axis=1))
    gold = centered_ranks(tree.distances().astype(np.float64))
    n, blocks = len(tree), []
    step = max(1, int(MEMORY // (80 * n * n)))
    for start in range(0, max(len(values), 1), step):
        block = values[start : start + step]
        hits = _hits(block, edges, decoder)
        without = hits & kept
        if punctuation.any() and kept.any():
            words = np.flatnonzero(~punctuation)
            place = np.cumsum(~punctuation) - 1
            without[:, kept] = _hits(block[:, words[:, None], words], place[edges[kept]], decoder)
        blocks.append((hits, without, _correlations(block, gold)))
    hits, without, correlation = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return SentenceScores(
        name=tree.name, n_words=n, edges=edges, relations=tuple(tree.relations[i] for i in edges[:, 0]),
        lengths=np.abs(edges[:, 0] - edges[:, 1]), kept=kept, hits=hits, hits_without_punctuation=without,
        correlation=correlation, decoder=decoder,
    )


def undirected_attachment_score(
    x: DistanceMatrix | AffinityMatrix | WordGraph, tree: DependencyTree, *, punctuation: bool = False
) -> float:
    """Share of the relations of a dependency tree that a word graph has as edges, in whichever direction (UUAS).

    Of a matrix the graph is its spanning tree over the words that count, :func:`~infogeo.minimum_spanning_tree`; a
    graph is scored as it is, so that one with many edges scores high.

    Parameters
    ----------
    x : DistanceMatrix, AffinityMatrix or WordGraph
        Of the words of the tree; a matrix symmetric.
    tree : DependencyTree
    punctuation : bool
        Keep punctuation. If not, it is taken out of a matrix before the spanning tree is built, and relations of
        punctuation do not count.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ArgumentError
        If the words differ, or a matrix is asymmetric.
    DomainError
        If no relation counts.

    References
    ----------
    .. [1] Hewitt and Manning, "A structural probe for finding syntax in word representations", NAACL 2019, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree, DistanceMatrix
    >>> from infogeo.results import Source
    >>> tree = DependencyTree.from_words(("old", "dogs", "bark"), [1, 2, -1])
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=tree.words,
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> undirected_attachment_score(d, tree)
    1.0
    """
    _check_tree(tree)
    if not isinstance(x, WordGraph):
        check_matrices(x)
    _check_same_words(x, tree)
    kept = np.ones(len(tree), dtype=np.bool_) if check_flag("punctuation", punctuation) else ~tree.punctuation
    edges = tree.edges()
    edges = edges[kept[edges].all(axis=1)]
    if not len(edges):
        raise DomainError(f"{tree.name}: found no relation between the words that count ({int(kept.sum())} of them)")
    if isinstance(x, WordGraph):
        found = _trees.adjacency(x.edges[None], len(tree))[0]
    else:
        words = np.flatnonzero(kept)
        graph = minimum_spanning_tree(_restricted(x, words))
        found = _trees.adjacency(words[graph.edges][None], len(tree))[0]
    return float(found[edges[:, 0], edges[:, 1]].mean())


def tree_distance_correlation(x: DistanceMatrix | AffinityMatrix, tree: DependencyTree) -> float:
    """Rank correlation of distances with path lengths in a dependency tree, as the mean over the words (DSpr).

    For each word, Spearman's coefficient of its row of the matrix and its row of :meth:`DependencyTree.distances`,
    over all words of the sentence, punctuation and the word itself among them; the word itself is the nearest of all
    on both sides. Of an affinity the negative weight is the distance.

    Parameters
    ----------
    x : DistanceMatrix or AffinityMatrix
        Symmetric, of the words of the tree.
    tree : DependencyTree

    Returns
    -------
    float
        In [-1, 1]. Since the word itself is counted, a matrix that is the same for all pairs does not get 0.

    Raises
    ------
    ArgumentError
        If the words differ, or the matrix is asymmetric.
    DomainError
        If the sentence has one word.

    References
    ----------
    .. [1] Hewitt and Manning, "A structural probe for finding syntax in word representations", NAACL 2019, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree, DistanceMatrix
    >>> from infogeo.results import Source
    >>> tree = DependencyTree.from_words(("old", "dogs", "bark"), [1, 2, -1])
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=tree.words,
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> round(tree_distance_correlation(d, tree), 6)
    0.955342
    """
    _check_tree(tree)
    check_matrices(x)
    _check_same_words(x, tree)
    if x.directed if isinstance(x, AffinityMatrix) else not x.symmetric:
        raise ArgumentError("wanted a symmetric matrix: pass x.symmetrized(), the mean of both directions")
    if len(tree) < 2:
        raise DomainError(f"{tree.name}: found one word, wanted at least two to have a distance")
    closeness = -x.values if isinstance(x, DistanceMatrix) else x.values / 2 + x.values.T / 2
    return float(_correlations(closeness[None], centered_ranks(tree.distances().astype(np.float64)))[0])


def _checked_closeness(closeness: ArrayLike, n: int) -> FloatArray:
    values = as_float_array("closeness", closeness, finite=False)
    check_shape("closeness", values, (None, n, n))
    values[:, np.arange(n), np.arange(n)] = 0.0
    if not np.isfinite(values).all():
        k, i, j = (int(v) for v in np.argwhere(~np.isfinite(values))[0])
        raise DomainError(f"closeness: variant {k} is {values[k, i, j]} for words {i} and {j}; wanted finite numbers")
    turned = values.swapaxes(1, 2)
    if np.array_equal(values, turned):
        return values
    off = np.abs(values - turned).max(axis=(1, 2))
    if (bad := off > 1e-9 * np.abs(values).max(axis=(1, 2))).any():
        k = int(np.flatnonzero(bad)[0])
        raise DomainError(
            f"closeness: variant {k} differs from its transpose by {off[k]:.3g}; wanted symmetric matrices, such as "
            "the mean of both directions"
        )
    return values / 2 + turned / 2


def _check_tree(tree: DependencyTree) -> None:
    if not isinstance(tree, DependencyTree):
        raise ArgumentError(f"tree: found {type(tree).__name__}, wanted a DependencyTree")


def _check_same_words(x: Matrix | WordGraph, tree: DependencyTree) -> None:
    for i, (v, w) in enumerate(zip(x.words, tree.words, strict=False)):
        if v != w:
            raise ArgumentError(f"the words differ at position {i}: {v!r}, and {w!r} in the tree {tree.name}")
    if len(x.words) != len(tree):
        raise ArgumentError(f"found {len(x.words)} words, and {len(tree)} in the tree {tree.name}; wanted the same")


def _restricted(x: Matrix, words: IntArray) -> Matrix:
    values, names = x.values[np.ix_(words, words)], tuple(x.words[i] for i in words)
    if isinstance(x, AffinityMatrix):
        return dataclasses.replace(x, values=values, words=names, outside=None)
    return dataclasses.replace(x, values=values, words=names)


def _hits(closeness: FloatArray, edges: IntArray, decoder: Decoder) -> NDArray[np.bool_]:
    """(K, m) whether the decoded tree of each variant joins each of the pairs (m, 2)."""
    decode = _trees.spanning_trees if decoder == "spanning" else _trees.projective_trees
    found = _trees.adjacency(decode(closeness), closeness.shape[1])
    return found[:, edges[:, 0], edges[:, 1]]


def _correlations(closeness: FloatArray, gold: FloatArray) -> FloatArray:
    """(K,) mean over words of Spearman's coefficient of minus the closeness with centered ranks (n, n) of distances."""
    k, n, _ = closeness.shape
    if n < 2:
        return np.full(k, np.nan)
    distance = -closeness
    distance[:, np.arange(n), np.arange(n)] = -np.inf
    order = distance.argsort(axis=2)
    ordered = np.take_along_axis(distance, order, axis=2)
    scale = 2.0 * np.arange(n) - (n - 1.0)  # twice the ranks less their mean
    products = np.einsum("kij,j->ki", gold[np.arange(n)[:, None], order], scale)
    squares = np.full((k, n), scale @ scale)
    tied = (ordered[:, :, 1:] == ordered[:, :, :-1]).any(axis=2)
    if tied.any():
        ranks = centered_ranks(distance[tied])
        products[tied] = np.einsum("tj,tj->t", ranks, gold[np.nonzero(tied)[1]])
        squares[tied] = np.einsum("tj,tj->t", ranks, ranks)
    coefficients = products / np.sqrt(squares * np.einsum("ij,ij->i", gold, gold))
    return np.asarray(np.clip(coefficients, -1.0, 1.0).mean(axis=1))  # the clip takes rounding only
