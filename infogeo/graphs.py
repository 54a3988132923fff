"""Word graphs from distances and from affinities.

Every builder takes a :class:`~infogeo.words.DistanceMatrix`, where close means a small value, or an
:class:`~infogeo.activations.AffinityMatrix`, where close means a large value. These rules hold for all of them:

- A distance of zero is an edge like any other (repeated words). An affinity of zero says that two words are not
  related and is never an edge.
- A value on the diagonal is ignored: no word is joined to itself.
- Equally close pairs are taken in the order of their indices, the smaller first index before the larger, then the
  smaller second index, so that the same matrix always gives the same graph.
- Edges are listed in the order of their indices.
- Each edge gets both a length and a strength; :func:`strength_from_distance` and :func:`distance_from_strength` say how
  the one that the matrix does not hold is made from the one that it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    as_int_array,
    check_count,
    check_number,
    check_shape,
    sealed,
)
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError
from infogeo.results import Result, Source
from infogeo.words import DistanceMatrix, Level


@dataclass(frozen=True, eq=False, kw_only=True)
class WordGraph(Result):
    """Words and weighted edges between them.

    Each edge carries both a ``distance`` (a length: add along paths) and a ``weight`` (a strength: larger is
    closer), since graph algorithms mean one or the other. A distance of zero is an edge like any other.
    """

    words: tuple[str, ...]
    edges: IntArray
    """(m, 2) indices of words; first < second in an undirected graph; no self-loops, no repeats."""
    distance: FloatArray
    """(m,) non-negative lengths."""
    weight: FloatArray
    """(m,) positive strengths."""
    directed: bool
    construction: str
    """How the edges were chosen, for example ``nearest_neighbor_graph(k=3)``."""
    measure: str
    """What the lengths or strengths are, for example ``fisher_rao_distance``."""
    level: Level = "occurrence"
    source: Source

    def __post_init__(self) -> None:
        edges = as_int_array("edges", self.edges)
        distance = as_float_array("distance", self.distance, finite=False)
        weight = as_float_array("weight", self.weight, finite=False)
        check_shape("edges", edges, (None, 2))
        m, n = len(edges), len(self.words)
        check_shape("distance", distance, (m,))
        check_shape("weight", weight, (m,))
        if m and (edges.min() < 0 or edges.max() >= n):
            raise DomainError(f"edges: an index lies outside the {n} words")
        if (edges[:, 0] == edges[:, 1]).any():
            raise DomainError("edges: a word is joined to itself")
        if not self.directed and (edges[:, 0] > edges[:, 1]).any():
            raise DomainError("edges: an undirected edge is given as (smaller, larger) index")
        if len(np.unique(edges, axis=0)) != m:
            raise DomainError("edges: an edge is given twice")
        if not (np.isfinite(distance).all() and (distance >= 0).all()):
            raise DomainError("distance: lengths must be finite and non-negative")
        if not (np.isfinite(weight).all() and (weight > 0).all()):
            raise DomainError("weight: strengths must be finite and positive")
        for name, array in (("edges", edges), ("distance", distance), ("weight", weight)):
            object.__setattr__(self, name, sealed(array))

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.edges)

    def edge_set(self) -> frozenset[tuple[int, int]]:
        """The edges as pairs of word indices."""
        return frozenset((int(i), int(j)) for i, j in self.edges)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = zip(self.edges.tolist(), self.distance.tolist(), self.weight.tolist(), strict=True)
        return (
            ("from", "to", "from_word", "to_word", "distance", "weight"),
            [(i, j, self.words[i], self.words[j], d, w) for (i, j), d, w in table],
        )

    def summary(self) -> str:
        kind = "directed" if self.directed else "undirected"
        words = f"{len(self.words)} word {self.level}{'' if len(self.words) == 1 else 's'}"
        size = f"{words}, {self.n_edges} edge{'' if self.n_edges == 1 else 's'}"
        return f"{kind} WordGraph of {size}: {self.construction} on {self.measure}"


def strength_from_distance(distance: ArrayLike) -> FloatArray:
    r"""Strength :math:`1 / (1 + d)` of an edge of length :math:`d \ge 0`.

    One at distance zero, falling to zero far away; used for every edge that comes from a
    :class:`~infogeo.words.DistanceMatrix`. It orders edges as the lengths do, as far as float64 can tell ``1 + d``
    apart.

    Parameters
    ----------
    distance : array_like, shape (...,)
        Non-negative lengths.

    Returns
    -------
    array, shape (...,)
        In (0, 1].

    Raises
    ------
    DomainError
        If a length is negative or not finite.

    Examples
    --------
    >>> strength_from_distance([0.0, 1.0, 3.0])
    array([1.  , 0.5 , 0.25])
    """
    lengths = as_float_array("distance", distance)
    if (lengths < 0).any():
        raise DomainError(f"distance: found {lengths.min()}, wanted lengths of at least 0")
    return np.asarray(1.0 / (1.0 + lengths))


def distance_from_strength(weight: ArrayLike) -> FloatArray:
    r"""Length :math:`\log((1 + w) / w)` in nats of an edge of strength :math:`w > 0`.

    With the strength read as odds, :math:`w / (1 + w)` is a probability and the length is its negative logarithm;
    lengths along a path then add up to the negative logarithm of a product of probabilities. For weak edges it equals
    :math:`-\log w`, which is no length for :math:`w > 1`; this one is positive and finite for every positive float64,
    and falls as the strength grows. Used for every edge that comes from an
    :class:`~infogeo.activations.AffinityMatrix`.

    Parameters
    ----------
    weight : array_like, shape (...,)
        Positive strengths.

    Returns
    -------
    array, shape (...,)
        Positive lengths.

    Raises
    ------
    DomainError
        If a strength is not positive or not finite.

    Examples
    --------
    >>> distance_from_strength([1.0, 1e-300]).round(6)
    array([  0.693147, 690.775528])
    """
    strengths = as_float_array("weight", weight)
    if (strengths <= 0).any():
        raise DomainError(f"weight: found {strengths.min()}, wanted strengths above 0")
    return np.asarray(np.logaddexp(0.0, -np.log(strengths)))


def nearest_neighbor_graph(x: DistanceMatrix | AffinityMatrix, k: int, *, mutual: bool = False) -> WordGraph:
    """Join every word to its k nearest neighbors.

    From a symmetric matrix comes an undirected graph with an edge where either word is among the other's neighbors, or
    both are (``mutual``). From an asymmetric one comes a directed graph: an edge leads from the word of a row to the k
    nearest in that row (``measure(row, column)``, or the words looked at most); ``mutual`` then keeps only edges that
    lead both ways, each with its own length.

    Parameters
    ----------
    x : DistanceMatrix or AffinityMatrix
        n words. For an affinity the nearest are those with the largest weight; a word with fewer than k positive
        weights gets fewer neighbors (in causal attention the first word looks at no other).
    k : int
        Number of neighbors, from 1 to n - 1. A text of one word, or of none, has no neighbors: its graph has no edge.
    mutual : bool
        Ask that both words are among each other's neighbors.

    Returns
    -------
    WordGraph

    Raises
    ------
    ArgumentError
        If k is not a whole number from 1 to n - 1.

    References
    ----------
    .. [1] Maier, Hein and von Luxburg, "Optimal construction of k-nearest-neighbor graphs for identifying noisy
       clusters", Theoretical Computer Science 410, 2009 (both kinds of symmetric graph).

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> nearest_neighbor_graph(d, 1).edges.tolist()
    [[0, 1], [1, 2]]
    >>> nearest_neighbor_graph(d, 1, mutual=True).edges.tolist()
    [[0, 1]]
    """
    _is_directed(x)  # refuses what is no matrix of words
    n = len(x.words)
    k = check_count("k", k)
    if k < 1 or (n > 1 and k >= n):
        raise ArgumentError(f"k: found {k}, wanted a number of neighbors from 1 to {max(n - 1, 1)} for {n} words")
    values, cost, related = _by_closeness(x)
    order = np.argsort(np.where(related, cost, np.inf), axis=1, kind="stable")[:, :k]
    chosen = np.zeros((n, n), dtype=np.bool_)
    np.put_along_axis(chosen, order, True, axis=1)
    chosen &= related
    if mutual:
        chosen &= chosen.T
    elif not _is_directed(x):
        chosen |= chosen.T
    return _graph(x, values, chosen, f"nearest_neighbor_graph(k={k}, mutual=True)" if mutual else
                  f"nearest_neighbor_graph(k={k})")


def radius_graph(x: DistanceMatrix, radius: float) -> WordGraph:
    """Join all words at most ``radius`` apart.

    Parameters
    ----------
    x : DistanceMatrix
        If it is asymmetric the graph is directed: an edge leads from row to column where ``measure(row, column)`` is at
        most the radius.
    radius : float
        At least 0, in the unit of the measure. Zero joins words at distance zero, infinity joins all.

    Returns
    -------
    WordGraph

    Raises
    ------
    ArgumentError
        If the radius is negative or NaN, or if ``x`` is an affinity (use :func:`threshold_graph`).

    See Also
    --------
    threshold_graph : the same for affinities.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 0., 3.], [0., 0., 3.])), words=("a", "a", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> radius_graph(d, 0.0).edges.tolist()
    [[0, 1]]
    """
    if not isinstance(x, DistanceMatrix):
        raise ArgumentError(
            f"radius_graph needs a DistanceMatrix, found {type(x).__name__}; "
            "a radius is a length: use threshold_graph(x, minimum) for an affinity"
        )
    radius = _number("radius", radius)
    if not radius >= 0:
        raise ArgumentError(f"radius: found {radius}, wanted a length of at least 0")
    values, cost, related = _by_closeness(x)
    return _graph(x, values, related & (cost <= radius), f"radius_graph(radius={radius!r})")


def threshold_graph(x: AffinityMatrix, minimum: float) -> WordGraph:
    """Join all words whose affinity is at least ``minimum``.

    Parameters
    ----------
    x : AffinityMatrix
        If it is directed the graph is directed: an edge leads from the word that looks to the word looked at.
    minimum : float
        At least 0, finite. With zero every positive affinity is an edge; an affinity of zero never is.

    Returns
    -------
    WordGraph

    Raises
    ------
    ArgumentError
        If the minimum is negative, infinite or NaN, or if ``x`` is a distance (use :func:`radius_graph`).

    See Also
    --------
    radius_graph : the same for distances.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> a = AffinityMatrix(values=np.array([[0., 0., 0.], [.9, 0., 0.], [.3, .6, 0.]]), words=("a", "b", "c"),
    ...                    name="attention", directed=True, source=Source())
    >>> threshold_graph(a, 0.5).edges.tolist()
    [[1, 0], [2, 1]]
    """
    if not isinstance(x, AffinityMatrix):
        raise ArgumentError(
            f"threshold_graph needs an AffinityMatrix, found {type(x).__name__}; "
            "use radius_graph(x, radius) for a distance"
        )
    minimum = _number("minimum", minimum)
    if not 0 <= minimum < np.inf:
        raise ArgumentError(f"minimum: found {minimum}, wanted a finite weight of at least 0")
    values, _, related = _by_closeness(x)
    return _graph(x, values, related & (values >= minimum), f"threshold_graph(minimum={minimum!r})")


def minimum_spanning_tree(x: DistanceMatrix | AffinityMatrix) -> WordGraph:
    """The tree over all words with the smallest sum of distances, or the largest sum of affinities.

    Distances give n - 1 edges, zero distances included. Affinities give the maximum spanning tree, over positive
    weights only: where these do not connect all words it is the maximum spanning forest, one tree for each connected
    group of words, and the construction of the graph says of how many trees. Since a spanning tree depends only on the
    order of the pairs, the ranks of the pairs are what is searched, with equally close pairs in the order of their
    indices; the ranks are all different, so exactly one tree is the answer.

    Parameters
    ----------
    x : DistanceMatrix or AffinityMatrix
        Symmetric. An asymmetric one is refused, since its spanning tree is another problem (a rooted arborescence);
        ``minimum_spanning_tree(x.symmetrized())`` takes the mean of both directions.

    Returns
    -------
    WordGraph
        Undirected.

    Raises
    ------
    ArgumentError
        If the matrix is asymmetric.

    References
    ----------
    .. [1] Kruskal, "On the shortest spanning subtree of a graph and the traveling salesman problem", Proceedings of the
       American Mathematical Society 7, 1956.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 5., 0.], [0., 5., 0.])), words=("a", "b", "a"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> minimum_spanning_tree(d).rows()[1]
    [(0, 1, 'a', 'b', 5.0, 0.16666666666666666), (0, 2, 'a', 'a', 0.0, 1.0)]
    """
    _refuse_directed(x, "minimum_spanning_tree")
    values, first, second = _closest_pairs(x)
    n = len(x.words)
    chosen = np.zeros((n, n), dtype=np.bool_)
    if len(first):
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import minimum_spanning_tree as spanning_tree

        ranks = np.arange(1, len(first) + 1, dtype=np.float64)
        tree = spanning_tree(csr_array((ranks, (first, second)), shape=(n, n))).tocoo()
        chosen[tree.row, tree.col] = True
    construction = "minimum_spanning_tree"
    if isinstance(x, AffinityMatrix):
        trees = n - int(chosen.sum())
        construction = "maximum_spanning_tree" if trees <= 1 else f"maximum_spanning_forest(trees={trees})"
    return _graph(x, values, chosen, construction)


def top_edges(x: DistanceMatrix | AffinityMatrix, m: int) -> WordGraph:
    """Join the m closest pairs of words: graphs of the same m can be compared edge by edge.

    Parameters
    ----------
    x : DistanceMatrix or AffinityMatrix
        Symmetric. An asymmetric one is refused; ``top_edges(x.symmetrized(), m)`` takes the mean of both directions.
    m : int
        Number of edges, from 0 to n (n - 1) / 2; for an affinity to the number of pairs with a positive weight.

    Returns
    -------
    WordGraph
        Undirected.

    Raises
    ------
    ArgumentError
        If the matrix is asymmetric, or has fewer than m pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1., 3.], [0., 1., 3.])), words=("a", "b", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> top_edges(d, 2).edges.tolist()
    [[0, 1], [1, 2]]
    """
    _refuse_directed(x, "top_edges")
    m = check_count("m", m)
    values, first, second = _closest_pairs(x)
    if not 0 <= m <= len(first):
        kind = "pairs of words" if isinstance(x, DistanceMatrix) else "pairs of words with a positive affinity"
        raise ArgumentError(f"m: found {m}, wanted a number of edges from 0 to {len(first)}, the number of {kind}")
    chosen = np.zeros(values.shape, dtype=np.bool_)
    chosen[first[:m], second[:m]] = True
    return _graph(x, values, chosen, f"top_edges(m={m})")


def _number(name: str, value: SupportsFloat) -> float:
    return check_number(name, value)


def _is_directed(x: DistanceMatrix | AffinityMatrix) -> bool:
    if isinstance(x, DistanceMatrix):
        return not x.symmetric
    if isinstance(x, AffinityMatrix):
        return x.directed
    raise ArgumentError(f"a word graph is built from a DistanceMatrix or an AffinityMatrix, found {type(x).__name__}")


def _refuse_directed(x: DistanceMatrix | AffinityMatrix, caller: str) -> None:
    if _is_directed(x):
        name = x.measure if isinstance(x, DistanceMatrix) else x.name
        raise ArgumentError(
            f"{caller} needs a symmetric matrix, and {name} is not: pass x.symmetrized(), the mean of both directions"
        )


def _by_closeness(x: DistanceMatrix | AffinityMatrix) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """The values, a cost that is smaller for closer pairs, and which pairs can be edges at all."""
    values = x.values
    if not _is_directed(x) and not np.array_equal(values, values.T):
        values = values / 2 + values.T / 2  # an undirected affinity may differ from its transpose by rounding
    related = ~np.eye(len(values), dtype=np.bool_)
    if isinstance(x, DistanceMatrix):
        return values, values, related
    return values, -values, related & (values > 0)


def _closest_pairs(x: DistanceMatrix | AffinityMatrix) -> tuple[FloatArray, IntArray, IntArray]:
    """The values, and the related pairs first < second, closest first, equally close ones in the order of indices."""
    values, cost, related = _by_closeness(x)
    first, second = np.nonzero(np.triu(related, 1))
    order = np.argsort(cost[first, second], kind="stable")
    return values, first[order], second[order]


def _graph(
    x: DistanceMatrix | AffinityMatrix, values: FloatArray, chosen: NDArray[np.bool_], construction: str
) -> WordGraph:
    directed = _is_directed(x)
    first, second = np.nonzero(chosen if directed else np.triu(chosen, 1))
    of_edges = values[first, second]
    if isinstance(x, DistanceMatrix):
        distance, weight, measure = of_edges, strength_from_distance(of_edges), x.measure
        facts: dict[str, str | int | None] = {"layer": x.layer, "words": x.construction or None}
    else:
        distance, weight, measure = distance_from_strength(of_edges), of_edges, x.name
        facts = {"layer": x.layer, "head": x.head}
    return WordGraph(
        words=x.words, edges=np.stack([first, second], axis=1).astype(np.int64), distance=distance, weight=weight,
        directed=directed, construction=construction, measure=measure, level=x.level,
        source=x.source.with_options(**{name: fact for name, fact in facts.items() if fact is not None}),
    )
