"""Kernels of trees over words: spanning trees, projective trees, random trees, path lengths."""

from __future__ import annotations

import itertools
from collections import Counter

import networkx
import numpy as np
import pytest
from graph_cases import distances
from scipy.stats import chisquare

from infogeo._trees import (
    _chances,
    adjacency,
    path_lengths,
    projective_trees,
    random_projective_trees,
    random_trees,
    spanning_trees,
)
from infogeo.graphs import minimum_spanning_tree

NONCROSSING = {1: 1, 2: 1, 3: 3, 4: 12, 5: 55, 6: 273}
"""Number of trees without crossing edges over n words (Noy 1998, and sequence A001764 of the OEIS)."""


def random_closeness(k, n, rng, *, levels=None):
    values = rng.normal(size=(k, n, n)) if levels is None else rng.integers(0, levels, (k, n, n)).astype(float)
    return values + values.swapaxes(1, 2)


def as_set(edges):
    return frozenset((int(i), int(j)) for i, j in edges)


def kruskal(closeness):
    """Pairs in order of falling closeness, then of their indices; taken if they join two groups of words."""
    n = len(closeness)
    group = list(range(n))
    chosen = set()
    for i, j in sorted(itertools.combinations(range(n), 2), key=lambda p: (-closeness[p], p)):
        if group[i] != group[j]:
            chosen.add((i, j))
            group = [group[i] if g == group[j] else g for g in group]
    return frozenset(chosen)


def crossing(edges):
    return any(a < c < b < d for (a, b), (c, d) in itertools.permutations(edges, 2))


def all_trees(n):
    """Every tree over n words, found among all sets of n - 1 pairs."""
    pairs = list(itertools.combinations(range(n), 2))
    for edges in itertools.combinations(pairs, n - 1):
        graph = networkx.Graph(edges)
        graph.add_nodes_from(range(n))
        if networkx.is_connected(graph):
            yield frozenset(edges)


TREES = {n: list(all_trees(n)) for n in range(2, 7)}
FLAT = {n: [tree for tree in trees if not crossing(tree)] for n, trees in TREES.items()}


def are_trees(edges, n):
    for tree in edges:
        graph = networkx.Graph([(int(i), int(j)) for i, j in tree])
        graph.add_nodes_from(range(n))
        assert networkx.is_tree(graph)
        assert all(i < j for i, j in tree)
        assert sorted(map(tuple, tree.tolist())) == list(map(tuple, tree.tolist()))


def test_the_brute_force_counts_what_is_known():
    assert {n: len(trees) for n, trees in TREES.items()} == {n: n ** (n - 2) for n in range(2, 7)}
    assert {n: len(trees) for n, trees in FLAT.items()} == {n: NONCROSSING[n] for n in range(2, 7)}


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("n", [2, 3, 6, 13])
def test_spanning_trees_are_those_of_kruskal_ties_included(n, levels):
    closeness = random_closeness(20, n, np.random.default_rng(n), levels=levels)
    found = spanning_trees(closeness)
    are_trees(found, n)
    assert [as_set(tree) for tree in found] == [kruskal(c) for c in closeness]


@pytest.mark.parametrize("levels", [None, 3])
def test_spanning_trees_are_those_of_minimum_spanning_tree(levels):
    closeness = random_closeness(10, 9, np.random.default_rng(1), levels=levels)
    for c, tree in zip(closeness, spanning_trees(closeness), strict=True):
        values = c.max() + 1.0 - c
        np.fill_diagonal(values, 0.0)
        graph = minimum_spanning_tree(distances(values))
        assert np.array_equal(graph.edges, tree)


def test_spanning_trees_have_the_weight_that_networkx_finds():
    closeness = random_closeness(5, 25, np.random.default_rng(2))
    for c, tree in zip(closeness, spanning_trees(closeness), strict=True):
        graph = networkx.Graph()
        graph.add_weighted_edges_from((i, j, c[i, j]) for i, j in itertools.combinations(range(25), 2))
        best = networkx.maximum_spanning_tree(graph).size(weight="weight")
        assert c[tree[:, 0], tree[:, 1]].sum() == pytest.approx(best, rel=1e-12)


def test_spanning_trees_see_the_order_of_the_pairs_only():
    closeness = random_closeness(10, 8, np.random.default_rng(3))
    assert np.array_equal(spanning_trees(closeness), spanning_trees(np.exp(3.0 * closeness)))


@pytest.mark.parametrize("decode", [spanning_trees, projective_trees])
def test_the_diagonal_and_the_given_arrays_do_not_matter(decode):
    closeness = random_closeness(10, 8, np.random.default_rng(4))
    other = closeness + 100.0 * np.eye(8)
    copy = other.copy()
    assert np.array_equal(decode(closeness), decode(other))
    assert np.array_equal(other, copy)


@pytest.mark.parametrize("decode", [spanning_trees, projective_trees])
def test_a_batch_is_the_loop(decode):
    closeness = random_closeness(7, 11, np.random.default_rng(5), levels=4)
    assert np.array_equal(decode(closeness), np.concatenate([decode(c[None]) for c in closeness]))


@pytest.mark.parametrize("decode", [spanning_trees, projective_trees])
@pytest.mark.parametrize("k", [0, 2])
def test_few_words_and_no_variants(decode, k):
    assert decode(np.zeros((k, 1, 1))).shape == (k, 0, 2)
    assert decode(np.zeros((k, 2, 2))).tolist() == [[[0, 1]]] * k
    assert decode(np.zeros((k, 5, 5))).shape == (k, 4, 2)


@pytest.mark.parametrize("decode", [spanning_trees, projective_trees])
def test_where_all_are_equally_close_the_tree_is_the_star_around_the_first_word(decode):
    assert decode(np.full((1, 5, 5), 0.5)).tolist() == [[[0, 1], [0, 2], [0, 3], [0, 4]]]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_projective_trees_are_the_best_of_all_without_crossings(n):
    closeness = random_closeness(25, n, np.random.default_rng(n))
    found = projective_trees(closeness)
    are_trees(found, n)
    for c, tree in zip(closeness, found, strict=True):
        best = max(FLAT[n], key=lambda edges, c=c: sum(c[i, j] for i, j in edges))
        assert as_set(tree) == best
    if n > 3:
        assert any(as_set(a) != as_set(b) for a, b in zip(found, spanning_trees(closeness), strict=True))


@pytest.mark.parametrize("n", [4, 6])
def test_projective_trees_reach_the_best_sum_where_there_are_ties(n):
    for c, tree in zip(
        closeness := random_closeness(25, n, np.random.default_rng(n), levels=2), projective_trees(closeness),
        strict=True,
    ):
        best = max(sum(c[i, j] for i, j in edges) for edges in FLAT[n])
        assert sum(c[i, j] for i, j in tree) == best
        assert not crossing(as_set(tree))


def test_projective_trees_of_long_sentences_do_not_cross():
    closeness = random_closeness(3, 40, np.random.default_rng(6))
    found = projective_trees(closeness)
    are_trees(found, 40)
    sums = [c[t[:, 0], t[:, 1]].sum() for c, t in zip(closeness, found, strict=True)]
    bounds = [c[t[:, 0], t[:, 1]].sum() for c, t in zip(closeness, spanning_trees(closeness), strict=True)]
    assert not any(crossing(as_set(tree)) for tree in found)
    assert all(s < b for s, b in zip(sums, bounds, strict=True))
    flat = random_projective_trees(40, 200, np.random.default_rng(7))
    assert all(closeness[0, t[:, 0], t[:, 1]].sum() < sums[0] for t in flat)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_trees_without_crossings_are_the_projective_dependency_trees(n):
    """Rooted trees in which everything between a word and its head descends from that head, for every root."""
    projective = set()
    for tree in TREES[n]:
        for root in range(n):
            rooted = networkx.bfs_tree(networkx.Graph(tree), root)
            below = {head: networkx.descendants(rooted, head) for head in rooted}
            if all(set(range(min(h, d) + 1, max(h, d))) <= below[h] for h, d in rooted.edges):
                projective.add(tree)
    assert projective == set(FLAT[n])


def chi_square_p_value(drawn, trees):
    counts = Counter(map(as_set, drawn))
    assert set(counts) <= set(trees)
    return chisquare([counts[tree] for tree in trees]).pvalue


@pytest.mark.parametrize(
    ("draw", "n", "trees"),
    [
        (random_trees, 4, TREES[4]), (random_trees, 5, TREES[5]),
        (random_projective_trees, 4, FLAT[4]), (random_projective_trees, 5, FLAT[5]),
        (random_projective_trees, 6, FLAT[6]),
    ],
)  # fmt: skip
def test_random_trees_are_uniform(draw, n, trees):
    assert chi_square_p_value(draw(n, 300 * len(trees), np.random.default_rng(8)), trees) > 0.01


def test_the_test_of_uniformity_sees_trees_that_are_not():
    rng = np.random.default_rng(8)
    assert chi_square_p_value(spanning_trees(random_closeness(300 * 125, 5, rng)), TREES[5]) < 1e-6
    assert chi_square_p_value(projective_trees(random_closeness(300 * 55, 5, rng)), FLAT[5]) < 1e-6


@pytest.mark.parametrize("draw", [random_trees, random_projective_trees])
@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_random_trees_are_trees_and_come_from_the_seed(draw, n):
    drawn = draw(n, 20, np.random.default_rng(9))
    assert drawn.shape == (20, n - 1, 2)
    are_trees(drawn, n)
    assert np.array_equal(drawn, draw(n, 20, np.random.default_rng(9)))
    if n > 2:
        assert not np.array_equal(drawn, draw(n, 20, np.random.default_rng(10)))
    if draw is random_projective_trees:
        assert not any(crossing(as_set(tree)) for tree in drawn)


@pytest.mark.parametrize("length", [1, 2, 7, 40, 300])
def test_the_chances_of_a_projective_tree_sum_to_one(length):
    for chances in _chances(length):
        assert len(chances) == length
        assert (chances > 0).all()
        assert chances.sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 17])
def test_path_lengths_are_those_of_networkx(n):
    drawn = random_trees(n, 6, np.random.default_rng(11))
    for tree, lengths in zip(drawn, path_lengths(drawn, n), strict=True):
        graph = networkx.Graph(tree.tolist())
        graph.add_nodes_from(range(n))
        known = dict(networkx.all_pairs_shortest_path_length(graph))
        assert lengths.tolist() == [[known[i][j] for j in range(n)] for i in range(n)]


def test_adjacency_is_symmetric_whichever_word_is_named_first():
    assert adjacency(np.array([[[2, 0]]]), 3).tolist() == adjacency(np.array([[[0, 2]]]), 3).tolist() == [
        [[False, False, True], [False, False, False], [True, False, False]]
    ]
