"""Word graphs as networkx graphs, and back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from infogeo.errors import FormatError
from infogeo.graphs import WordGraph
from infogeo_adapters._graph_record import build_graph, graph_attributes
from infogeo_adapters._require import require

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(graph: WordGraph) -> nx.Graph | nx.DiGraph:
    """A word graph as a networkx graph, with everything it holds.

    Parameters
    ----------
    graph : WordGraph

    Returns
    -------
    networkx.Graph or networkx.DiGraph
        A node's key is the position of the word, since words repeat; its attributes are ``word``, ``position`` and
        ``level``. An edge has ``distance`` (a length: give it to shortest paths) and ``weight`` (a strength: give it to
        centralities and layouts); networkx takes ``weight`` for either unless told, so name the one you mean. The graph
        has ``schema``, ``construction``, ``measure``, ``level``, ``source`` (a JSON text) and, if known, ``model``.

    Raises
    ------
    MissingDependencyError
        If networkx is not installed.

    See Also
    --------
    from_networkx : the inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.graphs import minimum_spanning_tree
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 0., 3.], [0., 0., 3.])), words=("a", "a", "c"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> graph = to_networkx(minimum_spanning_tree(d))
    >>> graph.edges[0, 1]
    {'distance': 0.0, 'weight': 1.0}
    >>> from_networkx(graph).words
    ('a', 'a', 'c')
    """
    networkx = require("networkx", extra="graphs", caller="to_networkx")
    result = (networkx.DiGraph if graph.directed else networkx.Graph)(**graph_attributes(graph))
    result.add_nodes_from(
        (position, {"word": word, "position": position, "level": graph.level})
        for position, word in enumerate(graph.words)
    )
    rows = zip(graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True)
    result.add_edges_from((i, j, {"distance": d, "weight": w}) for (i, j), d, w in rows)
    return result


def from_networkx(graph: nx.Graph | nx.DiGraph) -> WordGraph:
    """A word graph from a networkx graph with the attributes that :func:`to_networkx` gives.

    The attributes may also have come through a file that networkx wrote and read, where keys become texts.

    Parameters
    ----------
    graph : networkx.Graph or networkx.DiGraph
        Node keys are free, the attributes ``position`` and ``word`` decide; edges in any order.

    Returns
    -------
    WordGraph
        Edges in the order of their indices.

    Raises
    ------
    FormatError
        If an attribute is missing or wrong, or the graph is a multigraph.

    See Also
    --------
    to_networkx : the inverse.
    """
    if graph.is_multigraph():
        raise FormatError("found a multigraph; a word graph has at most one edge from a word to another")
    directed = bool(graph.is_directed())
    nodes = [(key, data.get("position"), data.get("word")) for key, data in graph.nodes(data=True)]
    edges = [(i, j, data.get("distance"), data.get("weight")) for i, j, data in graph.edges(data=True)]
    found = build_graph(attributes=graph.graph, directed=directed, nodes=nodes, edges=edges)
    order = np.lexsort((found.edges[:, 1], found.edges[:, 0]))
    return dataclasses.replace(
        found, edges=found.edges[order], distance=found.distance[order], weight=found.weight[order]
    )
