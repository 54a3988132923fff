"""Graph builders: against brute force and networkx, ties, zero distances, zero affinities, and every guard."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from graph_cases import affinities, distances, line, random_affinities, random_distances, words_for
from hypothesis import given, settings
from hypothesis import strategies as st

from infogeo import (
    AffinityMatrix,
    Background,
    DistanceMatrix,
    LayerActivations,
    PointMass,
    Source,
    WordDistributions,
    WordGraph,
    distance_from_strength,
    minimum_spanning_tree,
    nearest_neighbor_graph,
    radius_graph,
    strength_from_distance,
    threshold_graph,
    top_edges,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError

SEEDS = st.integers(0, 2**32 - 1)
LEVELS = st.sampled_from([None, 1, 2, 4])  # None: all values differ; few levels: many ties


def closeness(x):
    """Cost and whether the pair may be an edge, one entry at a time."""
    is_distance = hasattr(x, "measure")
    n = len(x.words)
    return {
        (i, j): x.values[i, j] if is_distance else -x.values[i, j]
        for i in range(n)
        for j in range(n)
        if i != j and (is_distance or x.values[i, j] > 0)
    }


def slow_neighbors(x, k):
    cost = closeness(x)
    n = len(x.words)
    return {
        (i, j)
        for i in range(n)
        for _, j in sorted((cost[i, j], j) for j in range(n) if (i, j) in cost)[:k]
    }


def slow_forest(x):
    """Kruskal's construction with union-find, pairs in the order of closeness and then of indices."""
    parent = list(range(len(x.words)))

    def find(i):
        while parent[i] != i:
            i = parent[i]
        return i

    tree = set()
    for _, (i, j) in sorted((c, pair) for pair, c in closeness(x).items() if pair[0] < pair[1]):
        if find(i) != find(j):
            parent[find(i)] = find(j)
            tree.add((i, j))
    return tree


# ---- conversion between lengths and strengths


def test_conversions_have_their_closed_forms():
    assert strength_from_distance([0.0, 1.0, 4.0]).tolist() == [1.0, 0.5, 0.2]
    assert distance_from_strength([1.0, 1 / (math.e - 1)]) == pytest.approx([math.log(2), 1.0], rel=1e-15)


@given(st.lists(st.floats(0, exclude_min=True, allow_infinity=False), min_size=1))
def test_conversions_stay_in_their_range_for_every_float(values):
    lengths = distance_from_strength(values)
    assert np.isfinite(lengths).all()
    assert (lengths > 0).all()
    order = np.argsort(values)
    assert (np.diff(lengths[order]) <= 0).all()
    strengths = strength_from_distance(values)
    assert ((strengths > 0) & (strengths <= 1)).all()
    assert (np.diff(strengths[order]) <= 0).all()


def test_a_weak_edge_is_as_long_as_its_negative_logarithm_and_a_strong_one_still_has_a_length():
    assert distance_from_strength(1e-12) == pytest.approx(-math.log(1e-12), rel=1e-12)
    assert 0 < distance_from_strength(1e12) < 1.1e-12


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf])
def test_conversions_refuse_what_is_no_length_or_strength(bad):
    with pytest.raises(DomainError):
        strength_from_distance([1.0, bad])
    with pytest.raises(DomainError):
        distance_from_strength([1.0, bad])


def test_a_strength_of_zero_has_no_length():
    with pytest.raises(DomainError, match="above 0"):
        distance_from_strength([1.0, 0.0])


# ---- nearest neighbors


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(2, 8), LEVELS, st.booleans(), st.booleans(), st.data())
def test_neighbors_are_those_of_brute_force(seed, n, levels, as_distance, symmetric, data):
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n - 1))
    if as_distance:
        x = random_distances(n, rng, symmetric=symmetric, levels=levels)
    else:
        x = random_affinities(n, rng, directed=not symmetric, levels=levels)
    near = slow_neighbors(x, k)
    either, both = nearest_neighbor_graph(x, k), nearest_neighbor_graph(x, k, mutual=True)
    assert either.directed == both.directed == (not symmetric)
    if symmetric:
        assert either.edge_set() == {(min(p), max(p)) for p in near}
        assert both.edge_set() == {(i, j) for i, j in near if i < j and (j, i) in near}
    else:
        assert either.edge_set() == near
        assert both.edge_set() == {(i, j) for i, j in near if (j, i) in near}


def test_the_nearest_of_an_affinity_is_the_largest():
    x = affinities([[0, 0.9, 0.1], [0.9, 0, 0.2], [0.1, 0.2, 0]])
    assert nearest_neighbor_graph(x, 1).edge_set() == {(0, 1), (1, 2)}


def test_equally_near_words_are_taken_in_the_order_of_their_positions():
    x = distances(np.ones((5, 5)) - np.eye(5))
    assert slow_neighbors(x, 2) == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)}
    assert nearest_neighbor_graph(x, 2).edges.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]]


def test_repeated_words_at_distance_zero_are_neighbors():
    graph = nearest_neighbor_graph(line(0.0, 5.0, 0.0, words=("the", "cat", "the")), 1)
    assert (0, 2) in graph.edge_set()
    assert graph.distance[graph.edges.tolist().index([0, 2])] == 0.0


def test_causal_attention_gives_a_directed_graph_and_the_first_word_looks_at_nobody():
    x = affinities(np.tril(np.ones((4, 4))), directed=True)
    graph = nearest_neighbor_graph(x, 2)
    assert graph.directed
    assert graph.edge_set() == {(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)}
    assert nearest_neighbor_graph(x, 2, mutual=True).n_edges == 0


def test_an_asymmetric_distance_is_measured_from_row_to_column():
    x = distances([[0, 1, 9], [9, 0, 2], [3, 9, 0]], symmetric=False)
    graph = nearest_neighbor_graph(x, 1)
    assert graph.rows()[1] == [
        (0, 1, "w0", "w1", 1.0, 1 / 2), (1, 2, "w1", "w2", 2.0, 1 / 3), (2, 0, "w2", "w0", 3.0, 1 / 4),
    ]  # fmt: skip


@pytest.mark.parametrize("k", [0, -1, 3, 10])
def test_a_k_that_does_not_exist_is_refused(k):
    with pytest.raises(ArgumentError, match=rf"k: found {k}, wanted .* from 1 to 2 for 3 words"):
        nearest_neighbor_graph(line(0.0, 1.0, 2.0), k)


@pytest.mark.parametrize("k", [1.5, "2", None])
def test_a_k_that_is_no_whole_number_is_refused(k):
    with pytest.raises(ArgumentError, match=r"k: found .* wanted a whole number"):
        nearest_neighbor_graph(line(0.0, 1.0, 2.0), k)


@pytest.mark.parametrize("n", [0, 1])
def test_texts_of_one_word_or_none_have_graphs_without_edges(n):
    d, a = distances(np.zeros((n, n))), affinities(np.ones((n, n)))
    graphs = [nearest_neighbor_graph(d, 3), radius_graph(d, 1.0), minimum_spanning_tree(d), top_edges(d, 0)]
    graphs += [nearest_neighbor_graph(a, 3), threshold_graph(a, 0.0), minimum_spanning_tree(a), top_edges(a, 0)]
    for graph in graphs:
        assert graph.words == words_for(n)
        assert graph.edges.shape == (0, 2)
    with pytest.raises(ArgumentError):
        nearest_neighbor_graph(d, 0)


# ---- radius and threshold


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 7), LEVELS, st.booleans())
def test_a_radius_and_a_minimum_cut_where_they_say(seed, n, levels, symmetric):
    rng = np.random.default_rng(seed)
    d = random_distances(n, rng, symmetric=symmetric, levels=levels)
    cut = float(rng.choice(d.values.ravel()))  # a value that occurs: the bound itself is inside
    wanted = {p for p, cost in closeness(d).items() if cost <= cut and (not symmetric or p[0] < p[1])}
    assert radius_graph(d, cut).edge_set() == wanted
    a = random_affinities(n, rng, directed=not symmetric, levels=levels)
    cut = float(rng.choice(a.values.ravel()))
    wanted = {p for p, cost in closeness(a).items() if -cost >= cut and (not symmetric or p[0] < p[1])}
    assert threshold_graph(a, cut).edge_set() == wanted


def test_radius_zero_joins_identical_words_and_infinity_joins_all():
    x = line(0.0, 5.0, 0.0)
    assert radius_graph(x, 0).edges.tolist() == [[0, 2]]
    assert radius_graph(x, math.inf).n_edges == 3


def test_an_affinity_of_zero_is_never_an_edge():
    x = affinities([[1, 0, 0.5], [0, 1, 0], [0.5, 0, 1]])
    assert threshold_graph(x, 0.0).edges.tolist() == [[0, 2]]
    assert nearest_neighbor_graph(x, 2).edges.tolist() == [[0, 2]]
    assert minimum_spanning_tree(x).edges.tolist() == [[0, 2]]


@pytest.mark.parametrize("radius", [-1e-300, math.nan, -math.inf])
def test_a_radius_that_is_no_length_is_refused(radius):
    with pytest.raises(ArgumentError, match=r"radius: found (NaN|.* at least 0)"):
        radius_graph(line(0.0, 1.0), radius)


@pytest.mark.parametrize("minimum", [-0.1, math.nan, math.inf])
def test_a_minimum_that_is_no_weight_is_refused(minimum):
    with pytest.raises(ArgumentError, match=r"minimum: found"):
        threshold_graph(affinities(np.ones((2, 2))), minimum)


@pytest.mark.parametrize("text", ["near", None])
def test_a_bound_that_is_no_number_is_refused(text):
    with pytest.raises(ArgumentError, match=r"radius: found .* wanted a number"):
        radius_graph(line(0.0, 1.0), text)
    with pytest.raises(ArgumentError, match=r"minimum: found .* wanted a number"):
        threshold_graph(affinities(np.ones((2, 2))), text)


def test_lengths_are_not_taken_for_strengths_nor_the_other_way_round():
    with pytest.raises(ArgumentError, match="use threshold_graph"):
        radius_graph(affinities(np.ones((2, 2))), 1.0)
    with pytest.raises(ArgumentError, match="use radius_graph"):
        threshold_graph(line(0.0, 1.0), 1.0)


# ---- spanning trees


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(2, 9), LEVELS, st.booleans())
def test_the_spanning_tree_is_that_of_union_find_and_as_short_as_that_of_networkx(seed, n, levels, as_distance):
    nx = pytest.importorskip("networkx", reason="installed by infogeo[graphs]")
    rng = np.random.default_rng(seed)
    x = (random_distances if as_distance else random_affinities)(n, rng, levels=levels)
    tree = minimum_spanning_tree(x)
    assert tree.edge_set() == slow_forest(x)
    full = nx.Graph()
    full.add_nodes_from(range(n))
    full.add_edges_from((i, j, {"cost": c}) for (i, j), c in closeness(x).items())
    theirs = [c for _, _, c in nx.minimum_spanning_tree(full, weight="cost").edges(data="cost")]
    ours = [closeness(x)[i, j] for i, j in tree.edge_set()]
    assert sum(ours) == pytest.approx(sum(theirs), rel=1e-12)
    assert len(ours) == len(theirs)


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.sampled_from([None, 2]))
def test_no_spanning_tree_of_five_words_is_shorter(seed, levels):
    x = random_distances(5, np.random.default_rng(seed), levels=levels)
    pairs = list(itertools.combinations(range(5), 2))

    def spans(tree):
        reached = {0}
        for _ in range(4):
            reached |= {j for pair in tree for j in pair if set(pair) & reached}
        return len(reached) == 5

    best = min(sum(x.values[p] for p in tree) for tree in itertools.combinations(pairs, 4) if spans(tree))
    found = minimum_spanning_tree(x)
    assert spans(found.edge_set())
    assert found.distance.sum() == pytest.approx(best, rel=1e-12)


def test_repeated_words_keep_their_edges_of_length_zero():
    tree = minimum_spanning_tree(line(0.0, 7.0, 0.0, 0.0, words=("the", "cat", "the", "the")))
    assert tree.edges.tolist() == [[0, 1], [0, 2], [0, 3]]
    assert tree.distance.tolist() == [7.0, 0.0, 0.0]
    assert minimum_spanning_tree(distances(np.zeros((4, 4)))).edges.tolist() == [[0, 1], [0, 2], [0, 3]]


def test_distances_too_small_to_tell_apart_in_ranks_of_float32_still_decide():
    x = distances(np.array([[0, 1e-300, 2e-300], [1e-300, 0, 3e-300], [2e-300, 3e-300, 0]]))
    assert minimum_spanning_tree(x).edges.tolist() == [[0, 1], [0, 2]]


def test_affinities_that_do_not_connect_give_a_forest_that_says_so():
    x = affinities([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    forest = minimum_spanning_tree(x)
    assert forest.edges.tolist() == [[0, 1], [2, 3]]
    assert forest.construction == "maximum_spanning_forest(trees=2)"
    assert minimum_spanning_tree(affinities(np.ones((3, 3)))).construction == "maximum_spanning_tree"
    assert minimum_spanning_tree(line(0.0, 1.0)).construction == "minimum_spanning_tree"


# ---- the closest pairs


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 8), LEVELS, st.booleans(), st.data())
def test_the_closest_pairs_are_those_of_a_sorted_list(seed, n, levels, as_distance, data):
    x = (random_distances if as_distance else random_affinities)(n, np.random.default_rng(seed), levels=levels)
    pairs = [p for _, p in sorted((c, p) for p, c in closeness(x).items() if p[0] < p[1])]
    m = data.draw(st.integers(0, len(pairs)))
    assert top_edges(x, m).edge_set() == set(pairs[:m])
    with pytest.raises(ArgumentError, match=f"m: found {len(pairs) + 1}, wanted .* from 0 to {len(pairs)}"):
        top_edges(x, len(pairs) + 1)


@pytest.mark.parametrize("m", [-1, 4, 0.5])
def test_an_edge_count_that_does_not_exist_is_refused(m):
    with pytest.raises(ArgumentError, match="m: found"):
        top_edges(line(0.0, 1.0, 2.0), m)


# ---- symmetry


@pytest.mark.parametrize("build", [minimum_spanning_tree, lambda x: top_edges(x, 1)])
@pytest.mark.parametrize(
    "x", [distances([[0, 1], [3, 0]], symmetric=False), affinities([[0, 1], [3, 0]], directed=True)], ids=["d", "a"]
)
def test_trees_and_closest_pairs_ask_for_a_symmetric_matrix(build, x):
    with pytest.raises(ArgumentError, match=r"needs a symmetric matrix.*x\.symmetrized\(\)"):
        build(x)
    graph = build(x.symmetrized())
    assert not graph.directed
    assert graph.edges.tolist() == [[0, 1]]
    assert 2.0 in (graph.distance[0], graph.weight[0])  # the mean of both directions
    assert graph.measure.endswith(", symmetrized")


def test_a_symmetric_distance_matrix_is_its_own_symmetrization():
    x = line(0.0, 1.0)
    assert x.symmetrized() is x


def test_an_affinity_symmetric_up_to_rounding_gives_an_undirected_graph():
    for values in ([[0, 0, 1], [1e-13, 0, 1], [1, 1, 0]], [[0, 1e-13, 1], [0, 0, 1], [1, 1, 0]]):
        graph = nearest_neighbor_graph(affinities(values), 2)
        assert not graph.directed
        assert graph.edge_set() == {(0, 1), (0, 2), (1, 2)}  # whichever of the two sides is the positive one
        assert graph.weight[0] == 5e-14


# ---- what a graph tells


def test_a_graph_tells_its_construction_measure_level_and_layer():
    x = distances(
        [[0, 1], [1, 0]], words=("a", "b"), level="type", layer=3, construction="component_normals", measure="jeffreys"
    )
    graph = nearest_neighbor_graph(x, 1)
    assert (graph.construction, graph.measure, graph.level) == ("nearest_neighbor_graph(k=1)", "jeffreys", "type")
    assert graph.source.options["layer"] == 3
    assert graph.source.options["words"] == "component_normals"
    assert graph.source.model == x.source.model
    assert nearest_neighbor_graph(x, 1, mutual=True).construction == "nearest_neighbor_graph(k=1, mutual=True)"
    assert radius_graph(x, 2).construction == "radius_graph(radius=2.0)"
    assert top_edges(x, 1).construction == "top_edges(m=1)"
    head = affinities([[0, 1], [1, 0]], name="block 2, head 5", layer=2, head=5)
    graph = threshold_graph(head, 0.5)
    assert (graph.construction, graph.measure) == ("threshold_graph(minimum=0.5)", "block 2, head 5")
    assert (graph.source.options["layer"], graph.source.options["head"]) == (2, 5)


def test_lengths_and_strengths_come_from_the_matrix_on_the_side_it_holds():
    of_distance = minimum_spanning_tree(line(0.0, 3.0))
    assert (of_distance.distance[0], of_distance.weight[0]) == (3.0, 0.25)
    of_affinity = minimum_spanning_tree(affinities([[0, 3], [3, 0]]))
    assert (of_affinity.distance[0], of_affinity.weight[0]) == (pytest.approx(math.log(4 / 3)), 3.0)


@pytest.mark.parametrize("build", [lambda x: nearest_neighbor_graph(x, 1), minimum_spanning_tree])
def test_a_bare_array_is_refused(build):
    class Words:
        words = ("a", "b", "c")
        values = np.zeros((3, 3))

    with pytest.raises(ArgumentError, match="DistanceMatrix or an AffinityMatrix, found Words"):
        build(Words())


# ---- what the results make of the arrays they are given


def fields_of(kind: type) -> dict[str, object]:
    """Arguments of a small result, with lists of Python numbers for its arrays."""
    if kind is DistanceMatrix:
        return {"values": [[0, 1], [1, 0]], "words": ("a", "b"), "measure": "steps", "symmetric": True, "metric": True,
                "source": Source()}  # fmt: skip
    if kind is AffinityMatrix:
        return {"values": [[0, 1], [1, 0]], "outside": [0, 1], "words": ("a", "b"), "name": "ones", "directed": True,
                "source": Source()}  # fmt: skip
    if kind is WordGraph:
        return {"edges": [[0, 1]], "distance": [1], "weight": [2], "words": ("a", "b"), "directed": False,
                "construction": "by hand", "measure": "steps", "source": Source()}  # fmt: skip
    if kind is WordDistributions:
        return {"words": ("a", "b"), "distribution": PointMass([[0.0], [1.0]]), "observations": [1, 2],
                "level": "occurrence", "layer": 0, "construction": "by hand", "source": Source()}  # fmt: skip
    if kind is Background:
        return {"mean": [[0, 1]], "covariance": [[[1, 0], [0, 1]]], "fourth_moment": [3], "n_words": 5,
                "source": Source()}  # fmt: skip
    return {"text": "ab c", "words": ("ab", "c"), "word_spans": [[0, 2], [3, 4]], "tokens": ("<s>", "ab", "c"),
            "token_ids": [0, 1, 2], "token_spans": [[0, 0], [0, 2], [3, 4]], "token_words": [-1, 0, 1],
            "special": [True, False, False], "hidden_states": [[[0, 1]] * 3], "attention": [[[[1, 0, 0]] * 3]],
            "attention_layers": (1,), "causal": True, "source": Source()}  # fmt: skip


ARRAYS = {
    DistanceMatrix: {"values": np.float64},
    AffinityMatrix: {"values": np.float64, "outside": np.float64},
    WordGraph: {"edges": np.int64, "distance": np.float64, "weight": np.float64},
    WordDistributions: {"observations": np.int64},
    Background: {"mean": np.float64, "covariance": np.float64, "fourth_moment": np.float64},
    LayerActivations: {
        "word_spans": np.int64, "token_ids": np.int64, "token_spans": np.int64, "token_words": np.int64,
        "special": np.bool_, "hidden_states": np.float64, "attention": np.float64,
    },
}  # fmt: skip
FIELDS = [pytest.param(k, n, d, id=f"{k.__name__}.{n}") for k, fields in ARRAYS.items() for n, d in fields.items()]


@pytest.mark.parametrize(("kind", "name", "dtype"), FIELDS)
def test_results_take_lists_and_turn_them_into_arrays(kind, name, dtype):
    value = getattr(kind(**fields_of(kind)), name)
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, fields_of(kind)[name])


@pytest.mark.parametrize(("kind", "name", "dtype"), FIELDS)
def test_results_keep_a_read_only_copy_and_leave_the_array_of_the_caller_alone(kind, name, dtype):
    mine = np.array(fields_of(kind)[name], dtype=dtype)
    view, before = mine[...], mine.copy()
    kept = getattr(kind(**{**fields_of(kind), name: mine}), name)
    assert mine.flags.writeable
    view[...] = view == 0
    np.testing.assert_array_equal(kept, before)
    with pytest.raises(ValueError, match="read-only"):
        kept[...] = 0


@pytest.mark.parametrize(("kind", "name", "dtype"), FIELDS)
def test_results_refuse_arrays_of_objects_text_and_ragged_rows(kind, name, dtype):
    for bad in (object, "U5"):
        with pytest.raises(DomainError, match=rf"{name}: found dtype .*, wanted"):
            kind(**{**fields_of(kind), name: np.array(fields_of(kind)[name]).astype(bad)})
    with pytest.raises(ShapeError, match=f"{name}: rows have different lengths"):
        kind(**{**fields_of(kind), name: [[1, 0], [1]]})
    if dtype == np.int64:
        with pytest.raises(DomainError, match=f"{name}: found dtype float64, wanted whole numbers"):
            kind(**{**fields_of(kind), name: np.array(fields_of(kind)[name], dtype=np.float64)})
        huge = np.full(np.shape(fields_of(kind)[name]), 2**63, dtype=np.uint64)
        with pytest.raises(DomainError, match=f"{name}: found 9223372036854775808, which int64 cannot hold"):
            kind(**{**fields_of(kind), name: huge})


def test_activations_keep_the_number_format_of_the_model():
    states = np.zeros((1, 3, 2), dtype=np.float32)
    made = LayerActivations(**{**fields_of(LayerActivations), "hidden_states": states})
    assert made.hidden_states.dtype == np.float32
