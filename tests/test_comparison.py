"""Agreement of matrices and graphs: against scipy and slow versions, signs, permutations, resampling, guards."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from graph_cases import SOURCE, affinities, distances, line, random_affinities, random_distances, word_graph, words_for
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from infogeo import (
    Comparisons,
    compare_graphs,
    compare_over_sentences,
    edge_jaccard,
    kendall,
    mantel_test,
    minimum_spanning_tree,
    nearest_neighbor_graph,
    partial_mantel_test,
    spanning_tree_overlap,
    spearman,
    top_edge_jaccard,
    top_edges,
)
from infogeo import _resampling as resampling
from infogeo.comparison import STATISTICS
from infogeo.errors import ArgumentError, DomainError
from infogeo.results import Source

SEEDS = st.integers(0, 2**32 - 1)
COEFFICIENTS = [spearman, kendall, mantel_test]


def triangle(x):
    return x.values[np.triu_indices(len(x.words), 1)]


def kernel_of(x, **fields):
    """An affinity that agrees with distances entirely."""
    return affinities(np.exp(-x.values), words=x.words, **fields)


# ---- rank correlations


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(4, 12), st.sampled_from([None, 3, 6]))
def test_rank_correlations_of_closeness_are_those_of_scipy_with_ties(seed, n, levels):
    rng = np.random.default_rng(seed)
    d, a = random_distances(n, rng, levels=levels), random_affinities(n, rng, levels=levels)
    if np.ptp(triangle(d)) == 0 or np.ptp(triangle(a)) == 0:
        return
    assert spearman(d, a).value == pytest.approx(stats.spearmanr(-triangle(d), triangle(a)).statistic, abs=1e-13)
    assert kendall(d, a).value == pytest.approx(stats.kendalltau(-triangle(d), triangle(a)).statistic, abs=1e-13)
    assert mantel_test(d, a, permutations=1).value == spearman(d, a).value
    assert spearman(a, d).value == pytest.approx(spearman(d, a).value, abs=1e-15)


def test_kendall_corrects_for_ties_by_the_formula_of_tau_b():
    # Pairs (0,1), (0,2), (1,2): distances 1, 1, 2 against 1, 2, 3. Two pairs of pairs agree, one is tied on the left.
    a, b = distances([[0, 1, 1], [1, 0, 2], [1, 2, 0]]), distances([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    assert kendall(a, b).value == pytest.approx(2 / math.sqrt(2 * 3), rel=1e-14)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_positive_means_agreement_whatever_the_sides_are(coefficient):
    d = line(0.0, 1.0, 3.0, 7.0)
    near, far = kernel_of(d), affinities(d.values)
    for left, right, sign in [(d, near, 1), (near, d, 1), (d, far, -1), (far, d, -1), (d, d, 1), (near, near, 1)]:
        assert coefficient(left, right).value == pytest.approx(sign, abs=1e-14)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_an_asymmetric_side_enters_as_the_mean_of_both_directions_and_says_so(coefficient):
    rng = np.random.default_rng(5)
    d, a = random_distances(6, rng), random_affinities(6, rng, directed=True)
    found = coefficient(d, a)
    assert found.value == coefficient(d, a.symmetrized()).value
    assert found.value != pytest.approx(coefficient(d, affinities(np.triu(a.values, 1) + np.triu(a.values, 1).T)).value)
    assert found.reference == "attention, symmetrized"
    kl = random_distances(6, rng, symmetric=False)
    assert coefficient(kl, a).value == coefficient(kl.symmetrized(), a).value
    assert coefficient(kl, a).left == "some_distance, symmetrized"


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_a_constant_side_has_no_coefficient_and_is_named(coefficient):
    d = line(0.0, 1.0, 3.0)
    with pytest.raises(DomainError, match="attention is the same for all pairs"):
        coefficient(d, affinities(np.ones((3, 3))))
    with pytest.raises(DomainError, match=r"some_distance \(layer 2\) is the same for all pairs"):
        coefficient(distances(np.ones((3, 3)) - np.eye(3), layer=2), kernel_of(d))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_words_have_no_coefficient(coefficient, n):
    d = distances(np.ones((n, n)) - np.eye(n))
    with pytest.raises(DomainError, match=f"found {n} words, wanted at least three"):
        coefficient(d, d)


SIDES = [
    *COEFFICIENTS, partial_mantel_test, spanning_tree_overlap,
    lambda a, b: top_edge_jaccard(a, b, 1), lambda a, b: compare_graphs(a, [b]),
]  # fmt: skip


@pytest.mark.parametrize("compare", SIDES)
def test_other_words_are_refused_and_the_first_difference_is_named(compare):
    d = line(0.0, 1.0, 3.0, words=("the", "cat", "sat"))
    with pytest.raises(ArgumentError, match=r"differ at position 1: 'cat' in euclidean_distance, 'dog' in attention"):
        compare(d, affinities(np.eye(3), words=("the", "dog", "ran")))
    with pytest.raises(ArgumentError, match="has 3 words, attention has 2"):
        compare(d, affinities(np.eye(2), words=("the", "cat")))
    with pytest.raises(ArgumentError, match="of word occurrences, attention of word types"):
        compare(d, affinities(np.eye(3), words=d.words, level="type"))
    with pytest.raises(ArgumentError, match=r"found ndarray( at position 0)?, wanted .*Matrix"):
        compare(d, d.values)


def test_a_coefficient_tells_what_it_is_of():
    d = distances(line(0.0, 1.0, 3.0, 7.0).values, layer=4, construction="readout_categoricals")
    found = spearman(d, kernel_of(d, name="block 2, head 5", layer=2, head=5))
    assert (found.statistic, found.n, found.unit) == ("spearman", 6, "word pairs")
    assert (found.left, found.reference) == ("some_distance (readout_categoricals, layer 4)", "block 2, head 5")
    assert (found.layer, found.head, found.p_value, found.interval) == (2, 5, None, None)
    assert found.source == d.source
    other = spearman(d, kernel_of(d, source=Source(model="other")))
    assert other.source.options["reference_model"] == "other"


# ---- the Mantel test


def slow_p_value(d, a, orders, add, compare=lambda v, o: v >= o - 1e-9):
    observed = stats.spearmanr(-triangle(d), triangle(a)).statistic
    values = []
    for order in orders:
        shuffled = d.values[np.ix_(order, order)][np.triu_indices(len(order), 1)]
        values.append(stats.spearmanr(-shuffled, triangle(a)).statistic)
    return (add + sum(compare(v, observed) for v in values)) / (add + len(values))


@settings(deadline=None, max_examples=12)
@given(SEEDS, st.integers(3, 5), st.sampled_from([None, 3]))
def test_few_words_are_permuted_in_all_orders(seed, n, levels):
    rng = np.random.default_rng(seed)
    d, a = random_distances(n, rng, levels=levels), random_affinities(n, rng, levels=levels)
    if np.ptp(triangle(d)) == 0 or np.ptp(triangle(a)) == 0:
        return
    orders = [np.array(o) for o in itertools.permutations(range(n))]
    found = mantel_test(d, a)
    assert found.p_value == pytest.approx(slow_p_value(d, a, orders, 0), abs=1e-12)
    assert found.source.options["permutations"] == "all"
    less = slow_p_value(d, a, orders, 0, lambda v, o: v <= o + 1e-9)
    assert mantel_test(d, a, alternative="less").p_value == pytest.approx(less, abs=1e-12)
    both = slow_p_value(d, a, orders, 0, lambda v, o: abs(v) >= abs(o) - 1e-9)
    assert mantel_test(d, a, alternative="two-sided").p_value == pytest.approx(both, abs=1e-12)


def test_many_words_are_permuted_at_random_and_the_p_value_counts_the_observed_order():
    rng = np.random.default_rng(0)
    d, a = random_distances(9, rng, levels=5), random_affinities(9, rng, levels=5)
    orders = np.random.default_rng(7).permuted(np.tile(np.arange(9), (99, 1)), axis=1)
    found = mantel_test(d, a, permutations=99, rng=7)
    assert found.p_value == pytest.approx(slow_p_value(d, a, orders, 1), abs=1e-12)
    assert found.source.options["permutations"] == 99
    assert found.source.seed == 7


def test_a_p_value_is_never_zero():
    d = line(*np.random.default_rng(1).random(12))
    assert mantel_test(d, d, permutations=49).p_value == 1 / 50
    assert mantel_test(d, affinities(d.values), permutations=49, alternative="less").p_value == 1 / 50
    assert mantel_test(d, affinities(d.values), permutations=49).p_value == 1.0


def test_p_values_of_unrelated_matrices_are_uniform():
    rng = np.random.default_rng(2)
    p = [mantel_test(random_distances(8, rng), random_affinities(8, rng), permutations=99, rng=rng).p_value
         for _ in range(300)]  # fmt: skip
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_words_are_permuted_and_not_pairs():
    # One far word makes its n - 1 pairs large together: under permuted pairs this agreement would be far less likely.
    n = 8
    values = 1.0 - np.eye(n)
    values[0, 1:] = values[1:, 0] = 2.0
    d = distances(values)
    assert mantel_test(d, d, permutations=4000, rng=0).p_value == pytest.approx(1 / n, abs=0.02)


def test_the_memory_bound_changes_no_p_value_and_the_seed_decides_it():
    rng = np.random.default_rng(3)
    square = rng.integers(0, 9, (9, 9)).astype(float)
    score = resampling.Permuted(square + square.T, rng.integers(0, 9, (4, 36)).astype(float))
    run = [
        resampling.permutation_p_values([score], permutations=200, rng=np.random.default_rng(1), memory=memory)[0]
        for memory in (1.0, 32 * 36 * 7.0, 64e6)
    ]
    assert run[0].tolist() == run[1].tolist() == run[2].tolist()
    other = resampling.permutation_p_values([score], permutations=200, rng=np.random.default_rng(2))[0]
    assert other.tolist() != run[0].tolist()
    sizes = [len(block) for block in resampling.word_orders(9, 200, rng, memory=32 * 36 * 7.0)]
    assert max(sizes) == 7
    assert sum(sizes) == 200
    exact = list(resampling.word_orders(4, 10, rng, memory=32 * 6 * 5.0))
    assert [len(block) for block in exact] == [5, 5, 5, 5, 4]
    assert len({tuple(o) for block in exact for o in block.tolist()}) == 24


@pytest.mark.parametrize("permutations", [0, -1, 2.5])
def test_a_test_without_permutations_is_refused(permutations):
    d = line(0.0, 1.0, 3.0)
    with pytest.raises(ArgumentError, match="permutations: found"):
        mantel_test(d, d, permutations=permutations)


def test_an_unknown_alternative_is_refused():
    d = line(0.0, 1.0, 3.0)
    with pytest.raises(ArgumentError, match="'larger' does not exist; choose greater, less or two-sided"):
        mantel_test(d, d, alternative="larger")


# ---- beyond word order


def slow_partial(x, y):
    """Correlation of what is left of the ranks after a regression on an indicator of every |i - j|."""
    n = len(x.words)
    first, second = np.triu_indices(n, 1)
    lags = second - first
    design = (lags[:, None] == np.arange(1, n)).astype(float)
    left = []
    for values in (-triangle(x), triangle(y)):
        ranks = stats.rankdata(values)
        left.append(ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0])
    return left[0] @ left[1] / np.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(4, 10), st.sampled_from([None, 4]))
def test_the_partial_coefficient_is_that_of_a_regression_on_every_step_apart(seed, n, levels):
    rng = np.random.default_rng(seed)
    d, a = random_distances(n, rng, levels=levels), random_affinities(n, rng, levels=levels)
    try:
        found = partial_mantel_test(d, a, permutations=1)
    except DomainError:
        assert levels is not None
        return
    assert found.value == pytest.approx(slow_partial(d, a), abs=1e-10)
    assert (found.statistic, found.n, found.unit) == ("partial_mantel", n * (n - 1) // 2, "word pairs")
    assert found.source.options["given"] == "word order"


def test_the_p_value_of_the_partial_coefficient_takes_residuals_again_after_each_permutation():
    rng = np.random.default_rng(12)
    n = 5
    d, a = random_distances(n, rng), random_affinities(n, rng)
    first, second = np.triu_indices(n, 1)
    lags = second - first

    def residuals(values):
        return values - np.array([values[lags == k].mean() for k in range(1, n)])[lags - 1]

    square = np.zeros((n, n))
    square[first, second] = residuals(stats.rankdata(-triangle(d)))
    square += square.T
    other = residuals(stats.rankdata(triangle(a)))
    values = []
    for order in itertools.permutations(range(n)):
        again = residuals(square[np.ix_(order, order)][first, second])
        values.append(again @ other / np.linalg.norm(again))
    expected = np.mean(np.array(values) >= values[0] - 1e-9)
    assert partial_mantel_test(d, a).p_value == pytest.approx(expected, abs=1e-12)
    less = np.mean(np.array(values) <= values[0] + 1e-9)
    assert partial_mantel_test(d, a, alternative="less").p_value == pytest.approx(less, abs=1e-12)


def steps_apart(n):
    return np.abs(np.subtract.outer(np.arange(float(n)), np.arange(float(n))))


@pytest.mark.parametrize("function", [lambda k: k, np.sqrt, lambda k: 1.0 * (k > 1), lambda k: k % 3])
def test_distances_that_are_word_order_alone_do_not_agree_beyond_it(function):
    # The review's finding: a distance of |i - j| agreed with the attention of every sentence.
    rng = np.random.default_rng(0)
    apart = steps_apart(12)
    noise = rng.random((12, 12)) * 0.3
    d, a = distances(function(apart)), affinities(np.exp(-apart) + noise + noise.T)
    table = compare_graphs(d, [a])
    assert {c.statistic for c in table} >= {"mantel", "word_order", "spearman"}
    assert not {c.statistic for c in table} & {"partial_mantel", "partial_spearman"}
    reason = "is the same for all pairs that stand equally far apart in the text"
    assert table.undefined == (f"partial_spearman and partial_mantel: some_distance {reason}",)
    with pytest.raises(DomainError, match="equally far apart in the text: beyond word order there is nothing"):
        partial_mantel_test(d, a)
    with pytest.raises(DomainError, match="attention is the same for all pairs that stand equally far apart"):
        partial_mantel_test(random_distances(12, rng), affinities(np.exp(-apart)))
    if function(9.0) == 9.0:
        (word_order,) = [c for c in table if c.statistic == "word_order"]
        assert word_order.value == pytest.approx(spearman(d, a).value)
        assert word_order.left == "closeness in the text"
        assert next(c for c in table if c.statistic == "mantel").p_value < 0.01


@pytest.mark.parametrize("shape", [lambda k: np.exp(-k), lambda k: 1.0 * (k == 1)], ids=["decaying", "adjacent"])
def test_unrelated_sides_that_both_follow_word_order_are_seldom_found_to_agree_beyond_it(shape):
    rng = np.random.default_rng(3)
    apart = steps_apart(12)
    plain = partial = 0
    for _ in range(100):
        one, other = (np.triu(0.1 * rng.normal(size=(12, 12)), 1) for _ in range(2))
        near = shape(apart)
        d, a = distances(2 * (apart > 0) - near * (apart > 0) + one + one.T), affinities(2 + near + other + other.T)
        options = {"permutations": 99, "rng": rng}
        plain += mantel_test(d, a, **options).p_value <= 0.05
        partial += partial_mantel_test(d, a, **options).p_value <= 0.05
    assert plain > 90
    assert partial <= 12  # a straight line in the ranks of |i - j| in place of a factor gives 34 to 80


def test_a_relation_planted_beyond_word_order_is_found():
    rng = np.random.default_rng(4)
    apart, points = steps_apart(14), rng.normal(size=14)
    between = np.abs(np.subtract.outer(points, points))
    noise = rng.random((14, 14))
    d = distances(apart / 5 + between)
    a = affinities(np.exp(-apart) + np.exp(-between) + 0.1 * (noise + noise.T))
    found = partial_mantel_test(d, a)
    assert found.p_value == 1 / 1000
    assert found.value > 0.5
    assert partial_mantel_test(d, affinities(3 - a.values)).value == pytest.approx(-found.value)


def test_word_types_have_no_order_to_take_out():
    rng = np.random.default_rng(5)
    d = dataclasses.replace(random_distances(6, rng), level="type")
    a = dataclasses.replace(random_affinities(6, rng), level="type")
    with pytest.raises(ArgumentError, match="types have no order"):
        partial_mantel_test(d, a)
    table = compare_graphs(d, [a])
    assert [c.statistic for c in table] == ["spearman", "kendall", "mantel", "edge_jaccard", "spanning_tree_overlap"]
    assert table.undefined == ("partial_spearman, partial_mantel and word_order: word types have no order",)


# ---- edges and trees


def test_the_jaccard_index_counts_shared_edges():
    a, b = word_graph("abcd", [(0, 1), (1, 2), (2, 3)]), word_graph("abcd", [(0, 1), (0, 2)])
    found = edge_jaccard(a, b)
    assert (found.value, found.n, found.unit) == (1 / 4, 4, "edges")
    assert edge_jaccard(a, a).value == 1.0
    assert edge_jaccard(a, word_graph("abcd")).value == 0.0
    assert found.left == "by_hand() on some_distance"


def test_direction_counts_in_directed_graphs_and_is_not_mixed():
    there, back = word_graph("ab", [(0, 1)], directed=True), word_graph("ab", [(1, 0)], directed=True)
    assert edge_jaccard(there, back).value == 0.0
    with pytest.raises(ArgumentError, match="one graph is directed"):
        edge_jaccard(there, word_graph("ab", [(0, 1)]))


def test_graphs_without_edges_have_no_jaccard_index():
    with pytest.raises(DomainError, match="neither graph has an edge"):
        edge_jaccard(word_graph("ab"), word_graph("ab"))


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(3, 8), st.sampled_from([None, 3]), st.data())
def test_closest_pairs_and_trees_are_compared_as_sets(seed, n, levels, data):
    rng = np.random.default_rng(seed)
    d, a = random_distances(n, rng, levels=levels), affinities(random_affinities(n, rng, levels=levels).values + 1)
    m = data.draw(st.integers(1, n * (n - 1) // 2))
    left, right = top_edges(d, m).edge_set(), top_edges(a, m).edge_set()
    found = top_edge_jaccard(d, a, m)
    assert found.value == pytest.approx(len(left & right) / (2 * m - len(left & right)))
    assert (found.n, found.statistic) == (m, "edge_jaccard")
    shared = minimum_spanning_tree(d).edge_set() & minimum_spanning_tree(a).edge_set()
    assert spanning_tree_overlap(d, a).value == pytest.approx(len(shared) / (n - 1))
    assert spanning_tree_overlap(d, a).n == n - 1
    assert spanning_tree_overlap(d, d).value == 1.0


def test_shuffled_trees_share_two_over_n_of_their_edges_as_the_docstring_says():
    rng = np.random.default_rng(0)
    d = random_distances(10, rng)
    values = []
    for _ in range(400):
        order = rng.permutation(10)
        values.append(spanning_tree_overlap(d, distances(d.values[np.ix_(order, order)])).value)
    assert np.mean(values) == pytest.approx(2 / 10, abs=0.02)


def test_a_forest_cannot_overlap_entirely():
    d = line(0.0, 1.0, 10.0, 11.0)
    a = affinities(np.where(d.values == 1.0, 1.0, 0.0))
    assert spanning_tree_overlap(d, a).value == pytest.approx(2 / 3)


def test_edge_statistics_refuse_what_is_not_there():
    d = line(0.0, 1.0, 3.0)
    with pytest.raises(ArgumentError, match=r"m: found 4, wanted .* from 0 to 3"):
        top_edge_jaccard(d, d, 4)
    with pytest.raises(ArgumentError, match="m: found 0, wanted at least 1"):
        top_edge_jaccard(d, d, 0)
    with pytest.raises(ArgumentError, match="positive affinity"):
        top_edge_jaccard(d, affinities([[0, 1, 0], [1, 0, 0], [0, 0, 0]]), 2)
    one = distances([[0.0]])
    with pytest.raises(DomainError, match="from two words on; found 1"):
        spanning_tree_overlap(one, one)


def test_asymmetric_matrices_have_symmetrized_edges_and_trees():
    rng = np.random.default_rng(4)
    d, a = random_distances(6, rng), random_affinities(6, rng, directed=True)
    assert top_edge_jaccard(d, a, 5).value == top_edge_jaccard(d, a.symmetrized(), 5).value
    assert spanning_tree_overlap(d, a).value == spanning_tree_overlap(d, a.symmetrized()).value


# ---- one text, many affinities


def heads_of(n, rng, count=4, **options):
    places = [{"name": f"head {h}", "layer": 1 + h // 2, "head": 1 + h % 2} for h in range(count)]
    return [random_affinities(n, rng, **place, **options) for place in places]


@pytest.mark.parametrize(("n", "directed", "levels"), [(5, True, None), (9, True, 4), (12, False, None)])
def test_the_table_has_what_the_single_functions_say(n, directed, levels):
    rng = np.random.default_rng(n)
    d, heads = random_distances(n, rng, levels=levels), heads_of(n, rng, directed=directed, levels=levels)
    table = compare_graphs(d, heads, permutations=99, rng=11)
    assert isinstance(table, Comparisons)
    assert table.undefined == ()
    wanted = []
    for head in heads:
        m = min(n - 1, int((np.triu(head.values + head.values.T, 1) > 0).sum()))
        partial = partial_mantel_test(d, head, permutations=99, rng=11)
        steps = dataclasses.replace(line(*range(n)), measure="closeness in the text", source=d.source)
        wanted += [spearman(d, head), kendall(d, head), dataclasses.replace(partial, statistic="partial_spearman")]
        wanted += [dataclasses.replace(spearman(steps, head), statistic="word_order")]
        wanted += [mantel_test(d, head, permutations=99, rng=11), partial]
        wanted += [top_edge_jaccard(d, head, m), spanning_tree_overlap(d, head)]
    assert len(table) == len(wanted)
    for found, one in zip(table, wanted, strict=True):
        for name in ("statistic", "n", "unit", "left", "reference", "layer", "head"):
            assert getattr(found, name) == getattr(one, name)
        assert found.value == pytest.approx(one.value, abs=1e-12)
        if one.statistic in ("mantel", "partial_mantel"):
            assert found.p_value == one.p_value
            assert found.source.options["permutations"] == one.source.options["permutations"]


def test_p_values_of_edges_and_trees_are_those_of_brute_force():
    rng = np.random.default_rng(6)
    d, heads = random_distances(5, rng), heads_of(5, rng, count=3)
    table = {(c.statistic, c.head, c.layer): c for c in compare_graphs(d, heads, edges=3)}
    for head in heads:
        for statistic, compare in [
            ("edge_jaccard", lambda x, y: top_edge_jaccard(x, y, 3).value),
            ("spanning_tree_overlap", lambda x, y: spanning_tree_overlap(x, y).value),
        ]:
            observed = compare(d, head)
            values = [
                compare(distances(d.values[np.ix_(order, order)]), head) for order in itertools.permutations(range(5))
            ]
            found = table[statistic, head.head, head.layer]
            assert found.value == pytest.approx(observed)
            assert found.p_value == pytest.approx(np.mean(np.array(values) >= observed - 1e-12))


def test_a_head_that_agrees_stands_out_from_noise():
    rng = np.random.default_rng(8)
    d = line(*rng.random(15))
    table = compare_graphs(d, [kernel_of(d, name="good"), *heads_of(15, rng)])
    good = [c for c in table if c.reference == "good"]
    assert all(c.value == pytest.approx(1.0) for c in good if c.statistic != "word_order")
    assert [c.p_value for c in good if c.p_value is not None] == [1 / 1000] * 4
    noise = [c.p_value for c in table if c.reference != "good" and c.p_value is not None]
    assert np.mean(noise) > 0.2


def test_without_permutations_there_are_no_p_values_and_no_mantel_rows():
    rng = np.random.default_rng(9)
    table = compare_graphs(random_distances(5, rng), heads_of(5, rng, count=1), permutations=0)
    assert tuple(c.statistic for c in table) == STATISTICS
    assert all(c.p_value is None for c in table)
    assert all("permutations" not in c.source.options for c in table)


def test_an_affinity_with_few_positive_pairs_is_compared_at_its_own_edge_count():
    d = line(0.0, 1.0, 3.0, 7.0)
    values = np.zeros((4, 4))
    values[0, 1] = values[1, 0] = 1.0
    sparse, dense = affinities(values, name="sparse"), kernel_of(d, name="dense")
    table = {(c.reference, c.statistic): c for c in compare_graphs(d, [sparse, dense], edges=2)}
    assert (table["sparse", "edge_jaccard"].n, table["sparse", "edge_jaccard"].value) == (1, 1.0)
    assert (table["dense", "edge_jaccard"].n, table["dense", "edge_jaccard"].value) == (2, 1.0)
    assert table["sparse", "spanning_tree_overlap"].value == pytest.approx(1 / 3)


def test_what_is_undefined_is_left_out_and_listed_with_its_reason():
    d = line(0.0, 1.0, 3.0, 7.0)
    flat, nothing = affinities(np.ones((4, 4)), name="flat"), affinities(np.zeros((4, 4)), name="nothing")
    table = compare_graphs(d, [flat, nothing, kernel_of(d, name="good")])
    assert [c.statistic for c in table if c.reference == "flat"] == ["edge_jaccard", "spanning_tree_overlap"]
    assert [c for c in table if c.reference == "nothing"] == []
    assert len([c for c in table if c.reference == "good"]) == 8
    assert table.undefined == (
        "rank correlations: flat is the same for all pairs",
        "rank correlations: nothing is the same for all pairs",
        "edge_jaccard and spanning_tree_overlap: nothing is zero for all pairs",
    )
    assert "3 undefined" in table.summary()
    assert all(math.isfinite(c.value) for c in table)
    json.loads(table.to_json())
    constant = compare_graphs(distances(np.ones((4, 4)) - np.eye(4)), [kernel_of(d)])
    assert {c.statistic for c in constant} == {"word_order", "edge_jaccard", "spanning_tree_overlap"}
    assert constant.undefined == ("rank correlations: some_distance is the same for all pairs",)


def test_tables_are_reproducible_and_the_seed_is_recorded():
    rng = np.random.default_rng(10)
    d, heads = random_distances(10, rng), heads_of(10, rng)
    first, second, other = (compare_graphs(d, heads, permutations=99, rng=seed) for seed in (1, 1, 2))
    assert first.rows() == second.rows()
    assert first.rows() != other.rows()
    assert {c.source.seed for c in first} == {1}
    by_generator = compare_graphs(d, heads, permutations=99, rng=np.random.default_rng(1))
    assert by_generator.rows() == first.rows()
    assert {c.source.seed for c in by_generator} == {d.source.seed}


def test_comparisons_refuse_what_they_cannot_compare():
    d = line(0.0, 1.0, 3.0)
    with pytest.raises(ArgumentError, match="affinities: found none"):
        compare_graphs(d, [])
    with pytest.raises(ArgumentError, match="edges: found 4, wanted at most 3, the number of pairs of 3 words"):
        compare_graphs(d, [kernel_of(d)], edges=4)
    with pytest.raises(ArgumentError, match="edges: found 0"):
        compare_graphs(d, [kernel_of(d)], edges=0)
    with pytest.raises(ArgumentError, match="permutations: found -1, wanted at least 0"):
        compare_graphs(d, [kernel_of(d)], permutations=-1)
    with pytest.raises(DomainError, match="found 2 words, wanted at least three"):
        compare_graphs(line(0.0, 1.0), [kernel_of(line(0.0, 1.0))])


def test_the_closeness_of_graphs_of_neighbors_can_be_compared_too():
    d = line(0.0, 1.0, 3.0, 7.0)
    assert edge_jaccard(nearest_neighbor_graph(d, 1), nearest_neighbor_graph(kernel_of(d), 1)).value == 1.0


# ---- many texts


def corpus(count, rng, *, noise=1.0, heads=2, n=None):
    sentences = []
    for _ in range(count):
        size = n or int(rng.integers(4, 9))
        d = random_distances(size, rng)
        made = []
        for h in range(heads):
            values = np.exp(-d.values) + noise * rng.random((size, size))
            made.append(affinities((values + values.T) / 2, name=f"head {h}", layer=1, head=h + 1))
        sentences.append((d, made))
    return sentences


def test_means_are_over_sentences_and_intervals_resample_sentences():
    sentences = corpus(12, np.random.default_rng(0))
    table = compare_over_sentences(sentences, resamples=4000, rng=5)
    assert table.undefined == ()
    assert [(c.statistic, c.head) for c in table] == [
        (s, h) for h in (1, 2) for s in STATISTICS
    ]
    for c in table:
        single = {
            "spearman": spearman, "kendall": kendall, "spanning_tree_overlap": spanning_tree_overlap,
            "edge_jaccard": lambda d, a: top_edge_jaccard(d, a, len(d.words) - 1),
            "partial_spearman": lambda d, a: partial_mantel_test(d, a, permutations=1),
            "word_order": lambda d, a: spearman(line(*range(len(d.words))), a),
        }[c.statistic]  # fmt: skip
        values = np.array([single(d, heads[c.head - 1]).value for d, heads in sentences])
        assert c.value == pytest.approx(values.mean(), abs=1e-12)
        assert (c.n, c.unit, c.level, c.p_value) == (12, "sentences", 0.95, None)
        low, high = c.interval
        assert low <= c.value <= high
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert (low, high) == pytest.approx(tuple(theirs), abs=0.15 * (theirs.high - theirs.low) + 1e-9)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        values = rng.normal(size=(40, 1))
        low, high = resampling.bootstrap_intervals(values, resamples=400, level=0.9, rng=rng)[0]
        covered += low <= 0.0 <= high
    assert 0.84 <= covered / 300 <= 0.95


def test_a_wider_level_gives_a_wider_interval_and_memory_changes_nothing():
    rng = np.random.default_rng(2)
    values = rng.random((20, 3))
    narrow, wide, small = (
        resampling.bootstrap_intervals(values, resamples=500, level=level, rng=np.random.default_rng(0), memory=memory)
        for level, memory in [(0.5, 64e6), (0.95, 64e6), (0.95, 8 * 20 * 7.0)]
    )
    assert (wide[:, 0] < narrow[:, 0]).all()
    assert (wide[:, 1] > narrow[:, 1]).all()
    assert np.allclose(small, wide, rtol=0, atol=1e-12)


def test_sentences_that_say_nothing_are_left_out_and_listed():
    rng = np.random.default_rng(3)
    sentences = corpus(4, rng)
    short = line(0.0, 1.0)
    flat = [dataclasses.replace(h, values=np.ones_like(h.values)) for h in sentences[1][1]]
    sentences[1] = (sentences[1][0], [flat[0], sentences[1][1][1]])
    two = [affinities(np.ones((2, 2)), name=f"head {h}", layer=1, head=h + 1) for h in range(2)]
    sentences.append((distances(short.values), two))
    table = compare_over_sentences(sentences, resamples=100)
    counts = {(c.statistic, c.head): c.n for c in table}
    assert counts["spearman", 1] == counts["kendall", 1] == 3
    assert counts["spearman", 2] == counts["edge_jaccard", 1] == 4
    assert all(c.interval[0] <= c.value <= c.interval[1] for c in table)
    assert table.undefined == (
        "sentence 1: rank correlations: head 0 is the same for all pairs",
        "sentence 4: 2 words, wanted at least three",
    )
    wanted = np.mean([spearman(d, heads[0]).value for i, (d, heads) in enumerate(sentences) if i not in (1, 4)])
    assert next(iter(table)).value == pytest.approx(wanted, abs=1e-12)


def test_a_mean_that_rests_on_one_sentence_is_left_out():
    sentences = corpus(2, np.random.default_rng(4), heads=1)
    d, heads = sentences[0]
    sentences[0] = (d, [dataclasses.replace(heads[0], values=np.ones_like(heads[0].values))])
    table = compare_over_sentences(sentences, resamples=50)
    assert [c.statistic for c in table] == ["edge_jaccard", "spanning_tree_overlap"]
    assert "spearman with head 0: defined in 1 sentences, wanted at least two" in table.undefined


def test_resamples_are_reproducible_and_recorded():
    sentences = corpus(5, np.random.default_rng(5))
    first, second, other = (compare_over_sentences(sentences, resamples=99, rng=seed) for seed in (1, 1, 2))
    assert first.rows() == second.rows()
    assert first.rows() != other.rows()
    source = next(iter(first)).source
    assert (source.seed, source.options["resamples"], source.options["sentences"]) == (1, 99, 5)
    assert source.text_hash is None
    assert source.model == SOURCE.model


def test_an_edge_count_that_takes_every_pair_of_a_short_sentence_leaves_it_out():
    sentences = [*corpus(3, np.random.default_rng(6), n=6, heads=1), *corpus(2, np.random.default_rng(6), n=4, heads=1)]
    table = compare_over_sentences(sentences, edges=6, resamples=20)
    (jaccard,) = [c for c in table if c.statistic == "edge_jaccard"]
    assert jaccard.n == 3
    assert jaccard.value == pytest.approx(np.mean([top_edge_jaccard(d, h, 6).value for d, (h,) in sentences[:3]]))
    assert table.undefined == tuple(
        f"sentence {i}: edge_jaccard: 6 pairs of words, wanted more than 6" for i in (3, 4)
    )
    assert {c.n for c in table if c.statistic != "edge_jaccard"} == {5}


def test_what_is_defined_in_the_same_sentences_sees_the_same_resamples():
    sentences = corpus(6, np.random.default_rng(9), heads=1)
    pair = [(d, [h, dataclasses.replace(h, name="twin", head=2)]) for d, (h,) in sentences]
    d, (h, twin) = pair[0]
    pair[0] = (d, [h, twin, third := dataclasses.replace(h, name="third", values=np.ones_like(h.values))])
    pair[1:] = [(d, [h, t, dataclasses.replace(h, name=third.name)]) for d, (h, t) in pair[1:]]
    table = {(c.statistic, c.reference): c for c in compare_over_sentences(pair, resamples=99)}
    assert table["spearman", "head 0"].interval == table["spearman", "twin"].interval
    assert table["spearman", "third"].n == 5


def test_sentences_must_be_alike():
    rng = np.random.default_rng(7)
    sentences = corpus(3, rng)
    with pytest.raises(ArgumentError, match="found 1 sentences, wanted at least two"):
        compare_over_sentences(sentences[:1])
    d, heads = sentences[2]
    with pytest.raises(ArgumentError, match="sentence 2 has 1 affinities, sentence 0 has 2"):
        compare_over_sentences([*sentences[:2], (d, heads[:1])])
    with pytest.raises(ArgumentError, match=r"2 has \('head 1', 1, 2\) where sentence 0 has \('head 0', 1, 1\)"):
        compare_over_sentences([*sentences[:2], (d, heads[::-1])])
    with pytest.raises(ArgumentError, match="sentence 2 has other where sentence 0 has some_distance"):
        compare_over_sentences([*sentences[:2], (dataclasses.replace(d, measure="other"), heads)])
    with pytest.raises(ArgumentError, match="the words differ at position 0"):
        compare_over_sentences([*sentences[:2], (dataclasses.replace(d, words=("x", *d.words[1:])), heads)])
    with pytest.raises(ArgumentError, match="affinities: found none"):
        compare_over_sentences([(d, []), (d, [])])
    short = [affinities(np.eye(2), words=("x", "y"), name=f"head {h}", layer=1, head=h + 1) for h in range(2)]
    with pytest.raises(ArgumentError, match="the words differ at position 0: 'w0'"):
        compare_over_sentences([*sentences[:2], (distances([[0, 1], [1, 0]], words=words_for(2)), short)])


OUT_OF_RANGE = [{"level": 0.0}, {"level": 1.0}, {"resamples": 0}, {"resamples": 1.5}, {"edges": 0}]


@pytest.mark.parametrize("options", OUT_OF_RANGE, ids=str)
def test_options_out_of_range_are_refused(options):
    sentences = corpus(2, np.random.default_rng(8))
    with pytest.raises(ArgumentError, match=f"{next(iter(options))}: found"):
        compare_over_sentences(sentences, **options)


# ---- natural mistakes


def test_a_single_affinity_needs_no_list_around_it():
    rng = np.random.default_rng(9)
    d, a = random_distances(5, rng), random_affinities(5, rng)
    assert compare_graphs(d, a).rows() == compare_graphs(d, [a]).rows() == compare_graphs(d, iter([a])).rows()
    other = random_distances(5, rng), random_affinities(5, rng)
    alone, listed = [(d, a), other], [(d, [a]), (other[0], [other[1]])]
    assert compare_over_sentences(alone).rows() == compare_over_sentences(listed).rows()


D, A = line(0.0, 1.0, 3.0), kernel_of(line(0.0, 1.0, 3.0))
WRONG_SIDES = [
    (A, [D], "distance: found an AffinityMatrix, wanted a DistanceMatrix; .*are they swapped"),
    (A, D, "are they swapped"),
    ([A], D, "distance: found list, wanted a DistanceMatrix"),
    (D.values, [A], "distance: found ndarray, wanted a DistanceMatrix"),
    (minimum_spanning_tree(D), minimum_spanning_tree(A), "found WordGraph, wanted .*compared by edge_jaccard"),
    (D, D, "affinities: found DistanceMatrix, wanted a list of AffinityMatrix"),
    (D, [A, D], "affinities: found DistanceMatrix at position 1, wanted only .*mantel_test compare two distances"),
    (D, None, "affinities: found NoneType"),
    (D, "attention", "affinities: found str at position 0"),
    (D, A.values, "affinities: found ndarray at position 0"),
]


@pytest.mark.parametrize(("left", "right", "message"), WRONG_SIDES)
def test_sides_that_are_swapped_or_no_matrices_are_refused(left, right, message):
    with pytest.raises(ArgumentError, match=message):
        compare_graphs(left, right)
    with pytest.raises(ArgumentError, match=f"sentence 1: .*{message}"):
        compare_over_sentences([(D, [A]), (left, right)])


@pytest.mark.parametrize(
    ("sentences", "message"),
    [(D, "sentences: found DistanceMatrix"), ([D, D], "sentence 0: found DistanceMatrix, wanted a pair"),
     ([(D, A, A)] * 2, "sentence 0: found tuple, wanted a pair")],
    ids=["matrix", "matrices", "triples"],
)  # fmt: skip
def test_sentences_are_pairs_of_distances_and_affinities(sentences, message):
    with pytest.raises(ArgumentError, match=message):
        compare_over_sentences(sentences)
    with pytest.raises(ArgumentError, match=r"level: found '0\.95'"):
        compare_over_sentences([(D, A)] * 2, level="0.95")


@pytest.mark.parametrize("compare", [*COEFFICIENTS, partial_mantel_test, spanning_tree_overlap])
def test_matrices_are_compared_with_matrices_and_graphs_with_graphs(compare):
    with pytest.raises(ArgumentError, match=r"found WordGraph, wanted .*two graphs are compared by edge_jaccard"):
        compare(D, minimum_spanning_tree(D))
    with pytest.raises(ArgumentError, match=r"found ndarray, wanted a DistanceMatrix or an AffinityMatrix$"):
        compare(D.values, A)
    with pytest.raises(ArgumentError, match="found DistanceMatrix, wanted a WordGraph; top_edge_jaccard compares"):
        edge_jaccard(D, A)
    with pytest.raises(ArgumentError, match="found WordGraph, wanted a DistanceMatrix"):
        top_edge_jaccard(D, minimum_spanning_tree(D), 1)


@pytest.mark.parametrize("build", [lambda x: nearest_neighbor_graph(x, 1), minimum_spanning_tree,
                                   lambda x: top_edges(x, 1)], ids=["nearest", "tree", "top"])  # fmt: skip
@pytest.mark.parametrize("wrong", [D.values, minimum_spanning_tree(D), None], ids=lambda x: type(x).__name__)
def test_graphs_are_built_from_matrices(build, wrong):
    with pytest.raises(ArgumentError, match=f"DistanceMatrix or an AffinityMatrix, found {type(wrong).__name__}"):
        build(wrong)


@pytest.mark.parametrize("word", [1.5, None, True, 3, np.int64(-4)], ids=repr)
def test_a_word_is_given_by_text_or_position(word):
    assert D.index(np.int64(-1)) == D.index(2) == 2
    with pytest.raises(ArgumentError, match="word"):
        D.index(word)
    for k in (-1, "2", 1.5):
        with pytest.raises(ArgumentError, match="k: found"):
            D.nearest(0, k)
