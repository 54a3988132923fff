"""Word graphs as networkx graphs and back."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from graph_cases import SOURCE, distances, hostile_graphs, line, same_graph, word_graph
from hypothesis import given, settings

from infogeo import minimum_spanning_tree, nearest_neighbor_graph
from infogeo.errors import FormatError, MissingDependencyError
from infogeo_adapters.networkx import from_networkx, to_networkx

nx = pytest.importorskip("networkx", reason="installed by infogeo[graphs]")


def sorted_edges(graph):
    order = np.lexsort((graph.edges[:, 1], graph.edges[:, 0]))
    fields = {"distance": graph.distance[order], "weight": graph.weight[order], "directed": graph.directed}
    texts = {name: getattr(graph, name) for name in ("construction", "measure", "level", "source")}
    return word_graph(graph.words, graph.edges[order].tolist(), **fields, **texts)


def test_nodes_edges_and_graph_have_the_attributes_promised():
    graph = minimum_spanning_tree(line(0.0, 3.0, 0.0, words=("the", "cat", "the")))
    made = to_networkx(graph)
    assert type(made) is nx.Graph
    assert list(made) == [0, 1, 2]
    assert made.nodes[2] == {"word": "the", "position": 2, "level": "occurrence"}
    assert made.edges[0, 2] == {"distance": 0.0, "weight": 1.0}
    assert made.edges[0, 1] == {"distance": 3.0, "weight": 0.25}
    assert (made.graph["construction"], made.graph["measure"]) == ("minimum_spanning_tree", "euclidean_distance")
    assert (made.graph["model"], made.graph["level"]) == ("tiny", "occurrence")
    assert json.loads(made.graph["source"])["content_hash"] == "00ff"


def test_distance_is_a_length_and_weight_a_strength_for_the_algorithms():
    made = to_networkx(minimum_spanning_tree(line(0.0, 3.0, 4.0)))
    assert nx.shortest_path_length(made, 0, 2, weight="distance") == 4.0
    assert max(nx.eigenvector_centrality_numpy(made, weight="weight").items(), key=lambda item: item[1])[0] == 1


def test_a_directed_graph_becomes_a_digraph():
    x = distances([[0, 1, 9], [9, 0, 2], [3, 9, 0]], symmetric=False)
    made = to_networkx(nearest_neighbor_graph(x, 1))
    assert type(made) is nx.DiGraph
    assert set(made.edges) == {(0, 1), (1, 2), (2, 0)}


@settings(deadline=None, max_examples=60)
@given(hostile_graphs())
def test_everything_comes_back(graph):
    back = from_networkx(to_networkx(graph))
    same_graph(back, sorted_edges(graph))


def test_keys_orders_and_directions_of_edges_are_free():
    made = nx.relabel_nodes(to_networkx(minimum_spanning_tree(line(0.0, 1.0, 2.0))), {0: "z", 1: "y", 2: "x"})
    shuffled = nx.Graph(**made.graph)
    shuffled.add_nodes_from([("x", made.nodes["x"]), ("z", made.nodes["z"]), ("y", made.nodes["y"])])
    shuffled.add_edges_from([(v, u, data) for u, v, data in reversed(list(made.edges(data=True)))])
    same_graph(from_networkx(shuffled), minimum_spanning_tree(line(0.0, 1.0, 2.0)))


def test_a_graph_comes_back_through_a_file_of_networkx():
    graph = minimum_spanning_tree(line(0.0, 1.0, 2.0, words=("<a>", "&", "ü")))
    buffer = io.BytesIO()
    nx.write_graphml(to_networkx(graph), buffer)
    buffer.seek(0)
    same_graph(from_networkx(nx.read_graphml(buffer)), graph)
    text = json.dumps(nx.node_link_data(to_networkx(graph), edges="edges"))
    same_graph(from_networkx(nx.node_link_graph(json.loads(text), edges="edges")), graph)


def test_an_option_that_is_a_numpy_number_comes_back_as_a_number():
    graph = word_graph("ab", [(0, 1)], source=SOURCE.with_options(k=np.int64(3), r=np.float32(0.5), big=float("-inf")))
    options = from_networkx(to_networkx(graph)).source.options
    assert (options["k"], options["r"], options["big"]) == (3, 0.5, float("-inf"))
    assert type(options["k"]) is int


def broken(change):
    made = to_networkx(minimum_spanning_tree(line(0.0, 1.0, 2.0)))
    change(made)
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.graph.clear(), r"not written by infogeo.*found none"),
        (lambda g: g.graph.update(schema="infogeo.WordGraph/9"), r"found 'infogeo\.WordGraph/9'"),
        (lambda g: g.graph.pop("measure"), "no text attribute 'measure'"),
        (lambda g: g.graph.update(construction=3), "no text attribute 'construction'"),
        (lambda g: g.graph.update(level="letter"), "found 'letter', wanted one of occurrence, type"),
        (lambda g: g.graph.pop("source"), "source: found NoneType, wanted a JSON text"),
        (lambda g: g.graph.update(source="{"), "source: not a JSON text"),
        (lambda g: g.graph.update(source="[]"), "source: found a JSON list, wanted an object"),
        (lambda g: g.graph.update(source='{"seed": "x"}'), "seed is 'x'"),
        (lambda g: g.graph.update(source='{"model": 3}'), "model is 3"),
        (lambda g: g.graph.update(source='{"colour": 3}'), "unknown field 'colour'"),
        (lambda g: g.graph.update(source='{"options": 3}'), "options is 3"),
        (lambda g: g.graph.update(source='{"options": {"a": []}}'), r"options holds \[\]"),
        (lambda g: g.graph.update(source='{"seed": NaN}'), "NaN is no number"),
        (lambda g: g.graph.update(source="[" * 100_000), "source: not a JSON text"),
        (lambda g: g.nodes[1].pop("word"), "node 1 has no text attribute 'word'"),
        (lambda g: g.nodes[1].pop("position"), "position of node 1: found None, wanted a whole number"),
        (lambda g: g.nodes[1].update(position=1.0), "position of node 1: found 1.0, wanted a whole number"),
        (lambda g: g.nodes[1].update(position=0), "must be 0 to 2, each once; found 0"),
        (lambda g: g.nodes[1].update(position=3), "must be 0 to 2, each once; found 3"),
        (lambda g: g.nodes[1].update(position=-1), "must be 0 to 2, each once; found -1"),
        (lambda g: g.add_node(7), "position of node 7"),
        (lambda g: g.edges[0, 1].pop("weight"), "weight of edge 0 to 1: found None, wanted a number"),
        (lambda g: g.edges[0, 1].update(distance="far"), "distance of edge 0 to 1: found 'far'"),
        (lambda g: g.edges[0, 1].update(distance=True), "found True, wanted a number"),
        (lambda g: g.edges[0, 1].update(distance=10**400), "wanted a number"),
        (lambda g: g.edges[0, 1].update(distance=-1.0), "lengths must be finite and non-negative"),
        (lambda g: g.edges[0, 1].update(weight=0.0), "strengths must be finite and positive"),
        (lambda g: g.edges[0, 1].update(weight=float("nan")), "strengths must be finite"),
        (lambda g: g.add_edge(0, 0, distance=1.0, weight=1.0), "joined to itself"),
    ],
)  # fmt: skip
def test_a_graph_that_is_none_of_ours_is_refused_with_the_reason(change, message):
    with pytest.raises(FormatError, match=message):
        from_networkx(broken(change))


def test_multigraphs_are_refused():
    with pytest.raises(FormatError, match="multigraph"):
        from_networkx(nx.MultiGraph())


def test_a_source_that_json_cannot_tell_from_another_is_refused():
    graph = word_graph("a", source=SOURCE.with_options(text="\ud83d\ude00"))
    with pytest.raises(FormatError, match="surrogate pairs in two halves"):
        to_networkx(graph)


def test_without_networkx_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(MissingDependencyError, match=r'to_networkx needs networkx; .*pip install "infogeo\[graphs\]"'):
        to_networkx(word_graph("ab"))
