"""How well word graphs fit dependency trees: shared edges and rank correlation of distances."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from graph_cases import affinities, distances, random_affinities
from scipy.stats import spearmanr

from infogeo import (
    DependencyTree,
    SentenceScores,
    score_closeness,
    top_edges,
    tree_distance_correlation,
    tree_scores,
    undirected_attachment_score,
)
from infogeo._trees import random_trees
from infogeo.errors import ArgumentError, DomainError, ShapeError

DECODERS = ("spanning", "projective")


def random_tree(n, rng, *, punctuation=()):
    """A tree over n words with one of them as the root, and some of the words tagged as punctuation."""
    near = {i: set() for i in range(n)}
    for i, j in random_trees(n, 1, rng)[0].tolist():
        near[i].add(j)
        near[j].add(i)
    root = int(rng.integers(n))
    heads, queue = {root: -1}, [root]
    while queue:
        head = queue.pop()
        for word in near[head] - heads.keys():
            heads[word] = head
            queue.append(word)
    tags = ["PUNCT" if i in punctuation else "NOUN" for i in range(n)]
    return DependencyTree.from_words(
        [f"w{i}" for i in range(n)], [heads[i] for i in range(n)], tags=tags, name="s7",
        relations=[f"r{i}" for i in range(n)],
    )


def random_closeness(k, n, rng, *, levels=None):
    values = rng.normal(size=(k, n, n)) if levels is None else rng.integers(0, levels, (k, n, n)).astype(float)
    return values + values.swapaxes(1, 2)


def kruskal(closeness, words):
    """Edges of the maximum spanning tree over some of the words, equally close pairs in the order of their indices."""
    group = {i: i for i in words}
    chosen = set()
    for i, j in sorted(itertools.combinations(words, 2), key=lambda p: (-closeness[p], p)):
        if group[i] != group[j]:
            chosen.add((i, j))
            joined, gone = group[i], group[j]
            group = {w: joined if g == gone else g for w, g in group.items()}
    return chosen


def slow_hits(closeness, tree, *, punctuation):
    """For each gold edge whether it is in the spanning tree, and whether it counts at all."""
    words = [i for i in range(len(tree)) if punctuation or tree.tags[i] != "PUNCT"]
    found = kruskal(closeness, words)
    gold = [(i, int(h)) for i, h in enumerate(tree.heads) if h >= 0]
    return [(min(e), max(e)) in found for e in gold], [i in words and h in words for i, h in gold]


def slow_correlation(closeness, tree):
    n = len(tree)
    lengths = np.full((n, n), np.inf)
    for i, h in enumerate(tree.heads):
        if h >= 0:
            lengths[i, h] = lengths[h, i] = 1.0
    np.fill_diagonal(lengths, 0.0)
    for via, i, j in itertools.product(range(n), repeat=3):
        lengths[i, j] = min(lengths[i, j], lengths[i, via] + lengths[via, j])
    coefficients = []
    for i in range(n):
        row = -closeness[i]
        row[i] = row.min() - 1.0  # the word itself is the nearest
        coefficients.append(spearmanr(row, lengths[i]).statistic)
    return np.mean(coefficients)


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize(("n", "punctuation"), [(2, ()), (5, (4,)), (9, ()), (12, (0, 3, 4, 11)), (12, (5,))])
def test_scores_are_those_of_the_slow_way(n, punctuation, levels):
    rng = np.random.default_rng(n)
    tree = random_tree(n, rng, punctuation=punctuation)
    closeness = random_closeness(15, n, rng, levels=levels)
    scores = score_closeness(closeness, tree)
    for k, c in enumerate(closeness):
        hits, _ = slow_hits(c, tree, punctuation=True)
        assert scores.hits[k].tolist() == hits
        hits, kept = slow_hits(c, tree, punctuation=False)
        assert scores.hits_without_punctuation[k].tolist() == hits
        assert scores.kept.tolist() == kept
        assert scores.correlation[k] == pytest.approx(slow_correlation(c.copy(), tree), abs=1e-12)
    assert scores.hits.sum() > 0


def test_scores_say_what_they_are_of():
    rng = np.random.default_rng(0)
    tree = random_tree(8, rng, punctuation=(7,))
    scores = score_closeness(random_closeness(3, 8, rng), tree)
    assert isinstance(scores, SentenceScores)
    assert (scores.name, scores.n_words, scores.decoder) == ("s7", 8, "spanning")
    assert np.array_equal(scores.edges, tree.edges())
    assert scores.relations == tuple(f"r{i}" for i in range(8) if i != tree.root)
    assert scores.lengths.tolist() == [abs(i - h) for i, h in tree.edges().tolist()]
    assert scores.kept.tolist() == [7 not in edge for edge in tree.edges().tolist()]
    kept = scores.kept.sum()
    assert scores.attachment == pytest.approx(scores.hits_without_punctuation.sum(axis=1) / kept)
    assert scores.attachment_with_punctuation == pytest.approx(scores.hits.mean(axis=1))
    columns, rows = scores.rows()
    assert columns == ("variant", "attachment", "attachment_with_punctuation", "correlation")
    assert rows[2] == (2, scores.attachment[2], scores.attachment_with_punctuation[2], scores.correlation[2])
    assert scores.summary() == f"SentenceScores of 3 variants: s7, {kept} of 7 relations kept"
    assert json.loads(scores.to_json())["hits"] == scores.hits.tolist()


def test_scores_that_do_not_fit_together_are_refused_and_cannot_be_written_to():
    rng = np.random.default_rng(0)
    scores = score_closeness(random_closeness(3, 5, rng), random_tree(5, rng))
    for name in ("edges", "lengths", "kept", "hits", "hits_without_punctuation", "correlation"):
        with pytest.raises(ShapeError, match="hits: found shape" if name == "correlation" else f"{name}: found shape"):
            dataclasses.replace(scores, **{name: getattr(scores, name)[..., :2][:2]})
        with pytest.raises(ValueError, match="read-only"):
            getattr(scores, name)[0] = 0
    with pytest.raises(ShapeError, match="relations: found 2, wanted 4"):
        dataclasses.replace(scores, relations=("a", "b"))


def test_gold_distances_are_perfect_and_adjacent_words_score_the_chain():
    rng = np.random.default_rng(1)
    tree = random_tree(10, rng)
    places = np.arange(10.0)
    chain = -np.abs(np.subtract.outer(places, places))
    scores = score_closeness([-tree.distances(), chain], tree)
    assert scores.attachment[0] == 1.0
    assert scores.correlation[0] == pytest.approx(1.0, abs=1e-12)
    assert scores.hits[1].tolist() == (scores.lengths == 1).tolist()


def test_without_punctuation_the_tree_is_built_anew():
    """A comma that is close to both of its neighbors joins them; without it they are joined by themselves."""
    tree = DependencyTree.from_words(("yes", ",", "now"), [2, 2, -1], tags=("INTJ", "PUNCT", "ADV"))
    closeness = np.array([[[0.0, 3.0, 1.0], [3.0, 0.0, 2.0], [1.0, 2.0, 0.0]]])
    scores = score_closeness(closeness, tree)
    assert scores.hits.tolist() == [[False, True]]
    assert scores.kept.tolist() == [True, False]
    assert scores.hits_without_punctuation.tolist() == [[True, False]]
    assert scores.attachment.tolist() == [1.0]
    assert scores.attachment_with_punctuation.tolist() == [0.5]


def test_chains_of_words_with_the_root_as_punctuation_keep_what_is_left():
    tree = DependencyTree.from_words(list("abcd"), [1, -1, 3, 1], tags=("X", "PUNCT", "X", "X"))
    scores = score_closeness(random_closeness(4, 4, np.random.default_rng(2)), tree)
    assert scores.kept.tolist() == [False, True, False]


@pytest.mark.parametrize("decoder", DECODERS)
def test_sentences_without_relations_have_no_score(decoder):
    one = score_closeness(np.zeros((2, 1, 1)), DependencyTree.from_words(["Yes"], [-1]), decoder=decoder)
    assert one.hits.shape == one.hits_without_punctuation.shape == (2, 0)
    for values in (one.attachment, one.attachment_with_punctuation, one.correlation):
        assert values.shape == (2,)
        assert np.isnan(values).all()
    marks = DependencyTree.from_words(list("!?."), [-1, 0, 0], tags=["PUNCT"] * 3)
    only_marks = score_closeness(np.zeros((2, 3, 3)), marks, decoder=decoder)
    assert np.isnan(only_marks.attachment).all()
    assert not only_marks.hits_without_punctuation.any()
    assert np.isfinite(only_marks.correlation).all()
    assert score_closeness(np.zeros((0, 3, 3)), marks, decoder=decoder).hits.shape == (0, 2)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("memory", [1.0, 80 * 81 * 2.5])
def test_blocks_of_variants_are_the_loop_over_variants(decoder, memory, monkeypatch):
    rng = np.random.default_rng(3)
    tree = random_tree(9, rng, punctuation=(2, 8))
    closeness = random_closeness(7, 9, rng, levels=6)
    whole = score_closeness(closeness, tree, decoder=decoder)
    loop = [score_closeness(c[None], tree, decoder=decoder) for c in closeness]
    monkeypatch.setattr(tree_scores, "MEMORY", memory)
    blocks = score_closeness(closeness, tree, decoder=decoder)
    for name in ("hits", "hits_without_punctuation", "correlation"):
        value = getattr(whole, name)
        assert np.array_equal(value, getattr(blocks, name))
        assert np.array_equal(value, np.concatenate([getattr(one, name) for one in loop]))


def test_projective_decoding_is_another_score():
    """The closest pairs cross: the spanning tree takes both, the projective one does not."""
    tree = DependencyTree.from_words(list("abcd"), [2, 3, 1, -1])
    closeness = np.zeros((1, 4, 4))
    for i, j, value in ((0, 2, 5.0), (1, 3, 4.0), (1, 2, 3.0), (0, 1, 1.0)):
        closeness[0, i, j] = closeness[0, j, i] = value
    spanning = score_closeness(closeness, tree)
    projective = score_closeness(closeness, tree, decoder="projective")
    assert spanning.hits.tolist() == [[True, True, True]]
    assert projective.hits.tolist() == [[True, False, True]]
    assert projective.decoder == "projective"
    assert np.array_equal(spanning.correlation, projective.correlation)


def test_scores_see_the_order_of_closeness_only():
    rng = np.random.default_rng(4)
    tree = random_tree(9, rng, punctuation=(3,))
    closeness = random_closeness(6, 9, rng)
    one, other = score_closeness(closeness, tree), score_closeness(np.exp(2.0 * closeness) - 5.0, tree)
    for name in ("hits", "hits_without_punctuation", "correlation"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_diagonal_means_nothing_and_the_input_stays_as_it_is():
    rng = np.random.default_rng(5)
    tree = random_tree(6, rng)
    closeness = random_closeness(4, 6, rng)
    odd = closeness.copy()
    for k, value in enumerate((np.nan, np.inf, 1e9, -3.0)):
        np.fill_diagonal(odd[k], value)
    kept = odd.copy()
    scores, known = score_closeness(odd, tree), score_closeness(closeness, tree)
    assert np.array_equal(odd, kept, equal_nan=True)
    assert np.array_equal(scores.hits, known.hits)
    assert np.array_equal(scores.correlation, known.correlation)


def test_single_precision_and_lists_are_taken():
    rng = np.random.default_rng(6)
    tree = random_tree(6, rng)
    closeness = random_closeness(4, 6, rng).astype(np.float32)
    known = score_closeness(closeness.astype(np.float64), tree)
    for given in (closeness, closeness.tolist()):
        assert np.array_equal(score_closeness(given, tree).hits, known.hits)


def test_rounding_is_averaged_away():
    """The pair (0, 1) is closer than (1, 2) on the mean of both directions, though not in the first."""
    closeness = np.array([[[0.0, 1.0, 2.0], [1.0 + 4e-12, 0.0, 1.0 + 1e-12], [2.0, 1.0 + 1e-12, 0.0]]])
    tree = DependencyTree.from_words(list("abc"), [1, -1, 0])
    assert score_closeness(closeness, tree).hits.all()


def test_closeness_that_is_none_is_refused():
    tree = random_tree(4, np.random.default_rng(8))
    good = random_closeness(3, 4, np.random.default_rng(8))
    with pytest.raises(ShapeError, match=r"found shape \(4, 4\), wanted \(any, 4, 4\)"):
        score_closeness(good[0], tree)
    with pytest.raises(ShapeError, match=r"wanted \(any, 4, 4\)"):
        score_closeness(good[:, :3, :3], tree)
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[1, 2, 3] = bad[1, 3, 2] = value
        with pytest.raises(DomainError, match=r"variant 1 is .* for words 2 and 3"):
            score_closeness(bad, tree)
    bad = good.copy()
    bad[2, 0, 1] += 1e-6
    with pytest.raises(DomainError, match=r"variant 2 differs from its transpose by 1e-06"):
        score_closeness(bad, tree)
    with pytest.raises(ArgumentError, match="decoder: found 'eisner', wanted one of spanning, projective"):
        score_closeness(good, tree, decoder="eisner")
    with pytest.raises(ArgumentError, match="tree: found list, wanted a DependencyTree"):
        score_closeness(good, [1, -1])


@pytest.mark.parametrize("punctuation", [False, True])
def test_matrices_score_as_their_closeness(punctuation):
    rng = np.random.default_rng(9)
    tree = random_tree(9, rng, punctuation=(0, 4))
    for levels in (None, 3):
        values = -random_closeness(1, 9, rng, levels=levels)[0] + 20.0
        np.fill_diagonal(values, 0.0)
        scores = score_closeness(-values[None], tree)
        known = scores.attachment_with_punctuation if punctuation else scores.attachment
        near = distances(values)
        assert undirected_attachment_score(near, tree, punctuation=punctuation) == known[0]
        assert tree_distance_correlation(near, tree) == scores.correlation[0]
        links = affinities(np.exp(-values / 7.0))
        assert undirected_attachment_score(links, tree, punctuation=punctuation) == known[0]
        assert tree_distance_correlation(links, tree) == pytest.approx(scores.correlation[0], abs=1e-12)


def test_an_affinity_of_zero_is_no_edge():
    tree = DependencyTree.from_words(["w0", "w1", "w2"], [1, 2, -1])
    links = affinities([[0.0, 0.5, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert undirected_attachment_score(links, tree) == 0.5


def test_outside_weight_of_an_affinity_does_not_matter():
    tree = DependencyTree.from_words(["w0", "w1", "w2"], [1, 2, -1], tags=("X", "X", "PUNCT"))
    links = affinities(np.ones((3, 3)), outside=np.array([0.1, 0.2, 0.3]))
    assert undirected_attachment_score(links, tree) == 1.0


def test_a_graph_is_scored_as_it_is():
    rng = np.random.default_rng(10)
    tree = random_tree(7, rng, punctuation=(2,))
    kept = [(min(e), max(e)) for e in tree.edges().tolist() if 2 not in e]
    for m in (0, 3, 10, 21):
        graph = top_edges(random_affinities(7, rng), m)
        shared = [edge in graph.edge_set() for edge in kept]
        assert undirected_attachment_score(graph, tree) == np.mean(shared)
    assert undirected_attachment_score(graph, tree, punctuation=True) == 1.0


def test_a_directed_graph_counts_in_both_directions():
    from infogeo import nearest_neighbor_graph

    tree = DependencyTree.from_words(["w0", "w1", "w2"], [1, -1, 1])
    looks = affinities([[0.0, 0.0, 0.0], [0.9, 0.0, 0.1], [0.2, 0.8, 0.0]], directed=True)
    graph = nearest_neighbor_graph(looks, 1)
    assert graph.edges.tolist() == [[1, 0], [2, 1]]
    assert undirected_attachment_score(graph, tree) == 1.0


@pytest.mark.parametrize("score", [undirected_attachment_score, tree_distance_correlation])
def test_what_cannot_be_scored_is_refused(score):
    rng = np.random.default_rng(11)
    tree = random_tree(5, rng)
    near = random_closeness(1, 5, rng)[0] + 20.0
    np.fill_diagonal(near, 0.0)
    with pytest.raises(ArgumentError, match="the words differ at position 0: 'x', and 'w0' in the tree s7"):
        score(distances(near, words=tuple("xyzuv")), tree)
    with pytest.raises(ArgumentError, match="found 4 words, and 5 in the tree s7"):
        score(distances(near[:4, :4]), tree)
    with pytest.raises(ArgumentError, match=r"x\.symmetrized\(\)"):
        score(distances(np.triu(near), symmetric=False), tree)
    with pytest.raises(ArgumentError, match=r"x\.symmetrized\(\)"):
        score(random_affinities(5, rng, directed=True), tree)
    with pytest.raises(ArgumentError, match="found ndarray, wanted a DistanceMatrix"):
        score(near, tree)
    with pytest.raises(ArgumentError, match="tree: found ndarray"):
        score(distances(near), near)
    one = DependencyTree.from_words(["w0"], [-1])
    with pytest.raises(DomainError, match=r"sentence 1: found (no relation|one word)"):
        score(distances([[0.0]]), one)


def test_a_graph_has_no_distances_to_correlate():
    with pytest.raises(ArgumentError, match="found WordGraph, wanted a DistanceMatrix"):
        tree_distance_correlation(
            top_edges(random_affinities(5, np.random.default_rng(12)), 3), random_tree(5, np.random.default_rng(12))
        )


def test_only_true_or_false_is_a_flag():
    tree = random_tree(5, np.random.default_rng(13))
    with pytest.raises(ArgumentError, match="punctuation: found 'no'"):
        undirected_attachment_score(random_affinities(5, np.random.default_rng(13)), tree, punctuation="no")
