"""How well two descriptions of the same words agree: coefficients and their results.

Closeness is compared with closeness, so that a positive value always means agreement: of a
:class:`~infogeo.words.DistanceMatrix` the negative distance enters, of an
:class:`~infogeo.activations.AffinityMatrix` the weight. A pair of words counts once: an asymmetric matrix enters as the
mean with its transpose (``x.symmetrized()``), and the label of the comparison then says "symmetrized".

The pairs of one sentence are not independent (each word is in n - 1 of them), so a coefficient comes without the
p-value of its textbook; the tests of :mod:`infogeo.mantel` and :func:`~infogeo.compare_graphs` permute words instead,
and :func:`~infogeo.compare_over_sentences` resamples sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infogeo import _resampling as kernels
from infogeo._pairs import (
    Matrix,
    Rng,
    check_count,
    check_matrices,
    check_same_words,
    closeness_pairs,
    joint_source,
    kendall_tau,
    label,
    symmetrized,
)
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError
from infogeo.graphs import WordGraph, minimum_spanning_tree, top_edges
from infogeo.results import Result, Source


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """One number that compares two matrices or graphs, with what it takes to believe it."""

    statistic: str
    """For example ``spearman``, ``kendall``, ``mantel``, ``partial_mantel``, ``edge_jaccard``."""
    value: float
    interval: tuple[float, float] | None = None
    """Bootstrap interval, None where one sentence gives none."""
    level: float | None = None
    """Coverage of the interval, for example 0.95."""
    p_value: float | None = None
    n: int
    """Sample size: word pairs, edges or sentences, as ``unit`` says."""
    unit: str
    left: str
    """What is compared."""
    reference: str
    """What it is compared with."""
    layer: int | None = None
    head: int | None = None
    source: Source

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return Comparisons((self,)).rows()


@dataclass(frozen=True)
class Comparisons(Result):
    """A table of comparisons."""

    items: tuple[Comparison, ...]
    undefined: tuple[str, ...] = ()
    """Comparisons that were asked for and have no value, each with its reason."""

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("statistic", "value", "low", "high", "p_value", "n", "unit", "left", "reference", "layer", "head")
        table = []
        for c in self.items:
            low, high = c.interval if c.interval is not None else (None, None)
            about = (c.left, c.reference, c.layer, c.head)
            table.append((c.statistic, c.value, low, high, c.p_value, c.n, c.unit, *about))
        return columns, table

    def summary(self) -> str:
        return f"{len(self.items)} comparisons" + (f", {len(self.undefined)} undefined" if self.undefined else "")


def spearman(a: Matrix, b: Matrix) -> Comparison:
    """Spearman's rank correlation of the closeness of all pairs of words; equal values share their mean rank.

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same n >= 3 words.

    Returns
    -------
    Comparison
        ``value`` in [-1, 1]; ``n`` the number of pairs, n (n - 1) / 2.

    Raises
    ------
    ArgumentError
        If the words differ.
    DomainError
        If there are fewer than three words, or one matrix is the same for all pairs, where the coefficient is
        undefined.

    References
    ----------
    .. [1] Kendall and Gibbons, "Rank Correlation Methods", 5th edition, 1990 (ties).

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> near = AffinityMatrix(values=np.exp(-d.values), words=d.words, name="kernel", directed=False, source=Source())
    >>> spearman(d, near).value
    1.0
    """
    x, y = closeness_pairs(a, b)
    value = kernels.correlations(kernels.centered_ranks(x), kernels.centered_ranks(y[None]))[0]
    return compared("spearman", float(value), a, b, n=len(x), unit="word pairs")


def kendall(a: Matrix, b: Matrix) -> Comparison:
    """Kendall's rank correlation tau-b of the closeness of all pairs of words; tau-b corrects for equal values.

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same n >= 3 words.

    Returns
    -------
    Comparison
        ``value`` in [-1, 1]; ``n`` the number of pairs, n (n - 1) / 2.

    Raises
    ------
    ArgumentError, DomainError
        As :func:`spearman`.

    References
    ----------
    .. [1] Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> far = AffinityMatrix(values=d.values, words=d.words, name="remoteness", directed=False, source=Source())
    >>> kendall(d, far).value
    -1.0
    """
    x, y = closeness_pairs(a, b)
    return compared("kendall", kendall_tau(x, y), a, b, n=len(x), unit="word pairs")


def edge_jaccard(a: WordGraph, b: WordGraph) -> Comparison:
    """Shared edges over all edges of two graphs: the Jaccard index of their edge sets.

    Parameters
    ----------
    a, b : WordGraph
        Of the same words, both directed or both undirected. Graphs of unequal edge count cannot reach 1;
        :func:`top_edge_jaccard` compares at equal count.

    Returns
    -------
    Comparison
        ``value`` in [0, 1]; ``n`` the number of edges in either graph.

    Raises
    ------
    ArgumentError
        If the words differ, or one graph is directed and the other is not.
    DomainError
        If neither graph has an edge, where the index is undefined.

    References
    ----------
    .. [1] Jaccard, "The distribution of the flora in the alpine zone", New Phytologist 11, 1912.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.graphs import top_edges
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> edge_jaccard(top_edges(d, 1), top_edges(d, 2)).value
    0.5
    """
    for x in (a, b):
        if not isinstance(x, WordGraph):
            raise ArgumentError(f"found {type(x).__name__}, wanted a WordGraph; top_edge_jaccard compares matrices")
    check_same_words(a, b)
    if a.directed != b.directed:
        raise ArgumentError("one graph is directed and the other is not; build both from symmetric matrices")
    left, right = a.edge_set(), b.edge_set()
    if not left | right:
        raise DomainError("neither graph has an edge: their Jaccard index is undefined")
    value = len(left & right) / len(left | right)
    return compared("edge_jaccard", value, a, b, n=len(left | right), unit="edges")


def top_edge_jaccard(a: Matrix, b: Matrix, m: int) -> Comparison:
    """Jaccard index of the m closest pairs of two matrices: :func:`edge_jaccard` at equal edge count.

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same words.
    m : int
        Number of edges, at least 1; see :func:`~infogeo.graphs.top_edges` for ties.

    Returns
    -------
    Comparison
        ``value`` in [0, 1]; ``n`` the number m of edges in each graph. m edges drawn at random from all M pairs share
        m^2 / M edges on average.

    Raises
    ------
    ArgumentError
        If the words differ, or a matrix has fewer than m pairs (an affinity of zero is no pair).

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> top_edge_jaccard(d, d, 2).value
    1.0
    """
    check_matrices(a, b)
    check_same_words(a, b)
    m = check_count("m", m, 1)
    found = edge_jaccard(top_edges(symmetrized(a), m), top_edges(symmetrized(b), m))
    return compared("edge_jaccard", found.value, a, b, n=m, unit="edges")


def spanning_tree_overlap(a: Matrix, b: Matrix) -> Comparison:
    """Share of the n - 1 edges of one spanning tree that the other has too.

    The tree of distances is the minimum one, of affinities the maximum one. An affinity whose positive weights do not
    connect all words has a forest with fewer edges, and cannot reach 1.

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same n >= 2 words.

    Returns
    -------
    Comparison
        ``value`` in [0, 1]; with the words of one tree shuffled it is 2 / n on average. ``n`` is n - 1.

    Raises
    ------
    ArgumentError
        If the words differ.
    DomainError
        If there are fewer than two words.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> spanning_tree_overlap(d, d).value
    1.0
    """
    check_matrices(a, b)
    check_same_words(a, b)
    n = len(a.words)
    if n < 2:
        raise DomainError(f"a spanning tree has edges from two words on; found {n}")
    left, right = (minimum_spanning_tree(symmetrized(x)).edge_set() for x in (a, b))
    return compared("spanning_tree_overlap", len(left & right) / (n - 1), a, b, n=n - 1, unit="edges")


def compared(
    statistic: str, value: float, a: Matrix | WordGraph, b: Matrix | WordGraph, *, n: int, unit: str,
    p_value: float | None = None, rng: Rng = None, **options: str | int | bool,
) -> Comparison:
    """The comparison of two sides, which are named after them; layer and head are those of the affinity."""
    place = next((x for x in (b, a) if isinstance(x, AffinityMatrix)), None)
    return Comparison(
        statistic=statistic, value=value, p_value=p_value, n=n, unit=unit, left=label(a), reference=label(b),
        layer=place.layer if place else None, head=place.head if place else None,
        source=joint_source(a, b, rng=rng, **options),
    )
