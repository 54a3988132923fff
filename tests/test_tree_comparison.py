"""Families of word graphs compared over a treebank: against loops, under simulation, and every guard."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import warnings

import numpy as np
import pytest
from scipy.stats import binomtest

from infogeo import (
    DependencyTree,
    EstimateWarning,
    FamilyVariants,
    ScoreTable,
    SentenceScores,
    Source,
    compare_families,
    score_closeness,
)
from infogeo._tree_choice import choose_variants, parts_of
from infogeo._tree_statistics import MeanByLength, Ratio, Resamples, holm, mcnemar_p_value, sign_flip_p_value
from infogeo.errors import ArgumentError, DomainError, FormatError, ShapeError

RELATIONS = ("nsubj", "obj", "det:poss", "det", "obl", "punct")
FAMILIES = (
    FamilyVariants(name="attention head", kind="attention", variants=("head 1", "head 2", "head 3")),
    FamilyVariants(name="word order", kind="baseline", variants=("neighbors",)),
    FamilyVariants(name="influence", kind="influence", variants=("layer 1", "layer 2")),
)
BINS = {"1": range(1, 2), "2-3": range(2, 4), "4-6": range(4, 7), "7+": range(7, 99), "long": range(4, 99)}


def random_tree(rng, name, n, line=1):
    heads = np.array([-1, *(rng.integers(i) for i in range(1, n))])
    order = rng.permutation(n)
    shuffled = np.full(n, -1)
    shuffled[order] = np.where(heads < 0, -1, order[heads])
    relations = ["root" if head < 0 else str(rng.choice(RELATIONS)) for head in shuffled]
    tags = ["PUNCT" if relation == "punct" else "NOUN" for relation in relations]
    return DependencyTree.from_words(
        [f"w{i}" for i in range(n)], shuffled, relations=relations, tags=tags, name=name, line=line
    )


def closeness_of(rng, tree, strength, count):
    """Random closeness, raised where the tree has an edge."""
    n = len(tree)
    values = rng.random((count, n, n))
    for dependent, head in tree.edges():
        values[:, dependent, head] += strength
    return values + values.swapaxes(1, 2)


def sentence(rng, k, *, n=None, decoders=("spanning",)):
    tree = random_tree(rng, f"s{k}", int(rng.integers(2, 13)) if n is None else n)
    places = np.arange(len(tree))
    matrices = [
        closeness_of(rng, tree, 0.3, 3), -np.abs(np.subtract.outer(places, places))[None].astype(float),
        closeness_of(rng, tree, 0.6, 2),
    ]
    return [score_closeness(m, tree, decoder=decoder) for decoder in decoders for m in matrices]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    return [sentence(rng, k, n=1 if k == 5 else None, decoders=("spanning", "projective")) for k in range(61)]


@pytest.fixture(scope="module")
def table(rows):
    return ScoreTable.collect(rows, FAMILIES)


@pytest.fixture(scope="module")
def comparison(table):
    return compare_families(table, resamples=300, rng=1)


# --- the table


def belongs(category, relation, length):
    if category == "all":
        return True
    return length in BINS[category] if category in BINS else relation.split(":")[0] == category


def counted(scores, category, punctuation):
    """(hits of each variant, how many there are) of one sentence of one family, by loops."""
    hits = scores.hits if punctuation else scores.hits_without_punctuation
    reached, there = [0] * len(hits), 0
    for e, relation in enumerate(scores.relations):
        if (punctuation or scores.kept[e]) and belongs(category, relation, abs(int(np.diff(scores.edges[e])[0]))):
            there += 1
            for k in range(len(hits)):
                reached[k] += bool(hits[k, e])
    return reached, there


@pytest.mark.parametrize("punctuation", [False, True])
@pytest.mark.parametrize("decoder", ["spanning", "projective"])
def test_counts_equal_loops_over_the_scores_of_sentences(rows, table, decoder, punctuation):
    assert table.relations == ("det", "nsubj", "obj", "obl", "punct")
    for category in table.categories:
        wanted, there = [], []
        for row in rows:
            parts = [counted(s, category, punctuation) for s in row if s.decoder == decoder]
            wanted.append([n for hits, _ in parts for n in hits])
            there.append(parts[0][1])
        assert table.totals(category, punctuation=punctuation).tolist() == there
        found = table.counts(category, decoder=decoder, punctuation=punctuation)
        assert found.tolist() == wanted
        tight = table.counts(category, decoder=decoder, punctuation=punctuation, memory=100)
        assert np.array_equal(tight, found)
    assert not table.totals("punct").any()
    assert table.totals("punct", punctuation=True).any()


def test_some_variants_are_unpacked_as_all_are(table):
    every = table.found(np.arange(6), decoder="projective")
    assert np.array_equal(table.by_sentence(every), table.counts(decoder="projective"))
    assert np.array_equal(table.found(np.array([4, 0]), decoder="projective"), every[:, [4, 0]])


def test_table_survives_a_file_of_plain_arrays(table, tmp_path):
    np.savez(tmp_path / "scores.npz", **table.to_arrays())
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        again = ScoreTable.from_arrays(arrays)
        short = {name: arrays[name] for name in arrays if name not in ("hits", "names")}
    assert again.families == table.families
    assert again.sentences == table.sentences
    for name, array in table.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name], equal_nan=name == "correlations"), name
    with pytest.raises(FormatError, match="names, hits missing"):
        ScoreTable.from_arrays(short)


def test_tables_are_put_together_and_taken_apart(rows, table):
    rng = np.random.default_rng(3)
    pieces = [ScoreTable.collect(rows[k : k + 10], FAMILIES) for k in range(0, 61, 10)]
    whole = ScoreTable.concatenate(pieces)
    order = rng.permutation(61)
    shuffled = table.take(order)
    for other in (whole, shuffled.take(np.argsort(order))):
        for name, array in table.to_arrays().items():
            assert np.array_equal(array, other.to_arrays()[name], equal_nan=name == "correlations"), name
    assert np.array_equal(shuffled.counts("nsubj"), table.counts("nsubj")[order])
    first, second = table.parts()
    assert (len(first), len(second)) == (30, 31)
    assert [len(part) for part in table.parts(50)] == [50, 11]
    assert np.array_equal(np.concatenate([first.counts(), second.counts()]), table.counts())


@pytest.mark.parametrize("memory", [64e6, 48 * 10.5, 1])
def test_families_are_put_side_by_side(rows, table, memory, monkeypatch):
    from infogeo import _tree_arrays

    monkeypatch.setattr(_tree_arrays, "MEMORY", memory)
    single = [
        ScoreTable.collect([[row[f], row[3 + f]] for row in rows], [family]) for f, family in enumerate(FAMILIES)
    ]
    joined = ScoreTable.beside(single)
    for name, array in table.to_arrays().items():
        assert np.array_equal(array, joined.to_arrays()[name], equal_nan=name == "correlations"), name
    with pytest.raises(ArgumentError, match="table 1 has other sentences"):
        ScoreTable.beside([single[0], single[1].take(np.arange(60))])
    with pytest.raises(ArgumentError, match="different names"):
        ScoreTable.beside([single[0], single[0]])


def test_table_is_read_only_and_leaves_the_given_arrays_alone(table):
    fields = {name: np.array(array) for name, array in table.to_arrays().items() if name != "names"}
    copy = ScoreTable(
        families=table.families, decoders=table.decoders, sentences=table.sentences, relations=table.relations, **fields
    )
    assert not copy.hits.flags.writeable
    assert fields["hits"].flags.writeable
    fields["hits"][:] = 0
    assert np.array_equal(copy.hits, table.hits)
    with pytest.raises(ShapeError, match="edge_kept"):
        ScoreTable(
            families=table.families, decoders=table.decoders, sentences=table.sentences, relations=table.relations,
            **{**fields, "edge_kept": fields["edge_kept"][1:]},
        )
    for wrong, message in (({"edge_relations": np.full(len(fields["edge_kept"]), 5)}, "found 5 of 5 relations"),
                           ({"edge_relations": np.full(len(fields["edge_kept"]), 256)}, "uint8 cannot hold"),
                           ({"edge_offsets": np.full(len(fields["edge_kept"]), 2**17)}, "int16 cannot hold")):
        with pytest.raises(DomainError, match=message):
            ScoreTable(
                families=table.families, decoders=table.decoders, sentences=table.sentences,
                relations=table.relations, **{**fields, **wrong},
            )
    with pytest.raises(ArgumentError, match="relations: found all, long"):
        ScoreTable(
            families=table.families, decoders=table.decoders, sentences=table.sentences,
            relations=("all", "long", "nsubj", "obj", "obl"), **fields,
        )


def test_correlations_in_single_precision_are_kept_with_what_is_undefined(table):
    single = dataclasses.replace(table, correlations=table.correlations.astype(np.float32))
    assert np.isnan(table.correlations).any()
    assert np.array_equal(np.isnan(single.correlations), np.isnan(table.correlations))
    assert single.correlations.dtype == np.float64


def test_places_that_are_too_far_apart_are_refused_not_wrapped_around():
    n, far = 40_000, np.array([[0, 39_999]])
    edges = np.concatenate([far, np.stack([np.arange(1, n - 1), np.zeros(n - 2, dtype=int)], axis=1)])
    nothing = np.zeros((1, n - 1), dtype=bool)
    scores = SentenceScores(
        name="s", n_words=n, edges=edges, relations=("dep",) * (n - 1), lengths=np.abs(edges[:, 0] - edges[:, 1]),
        kept=~nothing[0], hits=nothing, hits_without_punctuation=nothing, correlation=[0.5], decoder="spanning",
    )
    with pytest.raises(DomainError, match="edge_offsets: found dtype int64 with numbers that int16 cannot hold"):
        ScoreTable.collect([[scores]], [FamilyVariants(name="a", kind="baseline", variants=("v",))])


def test_rows_of_a_table_give_each_variant(table):
    columns, found = table.rows()
    assert columns == ("family", "kind", "decoder", "variant", "uuas", "n_edges")
    assert len(found) == 12
    total = table.totals().sum()
    assert found[4][4] == table.counts().sum(axis=0)[4] / total
    assert "61 sentences, 3 families and 6 variants" in table.summary()


def test_scores_that_do_not_fit_are_refused(rows):
    spanning = [row[:3] for row in rows]
    cases = [
        ([], "found no sentence"),
        ([[]], "sentence 0 has none"),
        ([spanning[0], spanning[1][:2]], r"sentence 1 \(s1\) has \[3, 1\] variants"),
        ([[spanning[0][0], spanning[0][2], spanning[0][1]]], r"has \[3, 2, 1\] variants"),
        ([[*spanning[0][:2], spanning[1][2]]], "scores of two trees, s0 and s1"),
        ([[*spanning[0][:2], 3]], "found int in sentence 0"),
        ([rows[0], spanning[1]], "table 1 has other decoders"),
    ]
    for scores, message in cases:
        with pytest.raises(ArgumentError, match=message):
            ScoreTable.collect(scores, FAMILIES)
    with pytest.raises(ArgumentError, match="families: found none"):
        ScoreTable.collect(spanning[:1], [])
    table = ScoreTable.collect(spanning, FAMILIES)
    for wrong in (lambda: table.totals("nmod"), lambda: table.counts(decoder="projective"), lambda: table.parts(61)):
        with pytest.raises(ArgumentError, match="wanted"):
            wrong()
    for method in (ScoreTable.concatenate, ScoreTable.beside):
        with pytest.raises(ArgumentError, match="found none"):
            method([])


# --- estimates against a slow twin


class Twin:
    """Everything that is reported, from the scores of sentences, in loops and with weights for the sentences."""

    def __init__(self, rows, decoder):
        self.rows = [[s for s in row if s.decoder == decoder] for row in rows]

    def uuas(self, family, variant_of, category="all", punctuation=False, weights=None):
        reached = there = 0
        for s, row in enumerate(self.rows):
            if s in variant_of:
                hits, total = counted(row[family], category, punctuation)
                w = 1 if weights is None else int(weights[s])
                reached += w * hits[variant_of[s]]
                there += w * total
        return reached / there if there else math.nan

    def best(self, family, sentences):
        scores = []
        for k in range(len(self.rows[0][family].hits)):
            scores.append(self.uuas(family, dict.fromkeys(sentences, k)))
        return scores.index(max(scores))

    def by_sentence(self, family, variant_of, punctuation):
        shares = []
        for s, row in enumerate(self.rows):
            hits, total = counted(row[family], "all", punctuation)
            if s in variant_of and total:
                shares.append(hits[variant_of[s]] / total)
        return sum(shares) / len(shares)

    def dspr(self, family, variant_of):
        by_length = {}
        for s, row in enumerate(self.rows):
            if s in variant_of and 5 <= row[family].n_words <= 50:
                by_length.setdefault(row[family].n_words, []).append(row[family].correlation[variant_of[s]])
        return float(np.mean([np.mean(values) for values in by_length.values()]))


def cross(twin, family, n=61):
    one, two = range(n // 2), range(n // 2, n)
    return {**dict.fromkeys(one, twin.best(family, two)), **dict.fromkeys(two, twin.best(family, one))}


@pytest.mark.parametrize("decoder", ["spanning", "projective"])
def test_estimates_equal_a_slow_twin(rows, table, comparison, decoder):
    twin = Twin(rows, decoder)
    for f, family in enumerate(FAMILIES):
        variant_of = cross(twin, f)
        halves = comparison.chosen(family.name, decoder=decoder)
        assert [c.variant for c in halves] == [family.variants[variant_of[0]], family.variants[variant_of[60]]]
        assert halves[1].score == pytest.approx(twin.uuas(f, dict.fromkeys(range(30), variant_of[60])), abs=1e-12)
        for punctuation in (False, True):
            for category in table.categories:
                if category == "punct" and not punctuation:
                    continue
                found = comparison.estimate(family.name, category, punctuation=punctuation, decoder=decoder)
                assert found.value == pytest.approx(twin.uuas(f, variant_of, category, punctuation), abs=1e-12)
                assert found.n == table.totals(category, punctuation=punctuation).sum()
                assert found.lower <= found.value <= found.upper
            found = comparison.estimate(
                family.name, quantity="uuas_by_sentence", punctuation=punctuation, decoder=decoder
            )
            assert found.value == pytest.approx(twin.by_sentence(f, variant_of, punctuation), abs=1e-12)
        found = comparison.estimate(family.name, quantity="dspr", decoder=decoder)
        assert found.value == pytest.approx(twin.dspr(f, variant_of), abs=1e-12)
        assert found.n == sum(5 <= len(row[0].edges) + 1 <= 50 for row in rows)


def test_intervals_are_percentiles_of_ratios_of_resampled_sums_within_the_halves(rows, table):
    found = compare_families(table, resamples=60, rng=5, level=0.9)
    seeds = np.random.default_rng(5).integers(2**63, size=3).tolist()
    drawn = np.concatenate([w for _, w in Resamples((30, 31), 60, seeds[-1], 1e6).blocks()], axis=1)
    assert drawn[:30].sum(axis=0).tolist() == [30] * 60
    assert drawn[30:].sum(axis=0).tolist() == [31] * 60
    twin = Twin(rows, "spanning")
    choices = {f: cross(twin, f) for f in (0, 2)}
    for category, punctuation in (("all", False), ("long", False), ("nsubj", True)):
        values = {
            f: np.array([twin.uuas(f, choices[f], category, punctuation, weights=drawn[:, b]) for b in range(60)])
            for f in (0, 2)
        }
        estimate = found.estimate("influence", category, punctuation=punctuation)
        assert (estimate.lower, estimate.upper) == pytest.approx(tuple(np.quantile(values[2], [0.05, 0.95])), abs=1e-7)
        apart = found.difference("influence", category, punctuation=punctuation)
        wanted = np.quantile(values[2] - values[0], [0.05, 0.95])
        assert (apart.lower, apart.upper) == pytest.approx(tuple(wanted), abs=1e-7)


def test_memory_does_not_change_the_result(table):
    wide = compare_families(table, resamples=200, rng=2)
    tight = compare_families(table, resamples=200, rng=2, memory=3e4)
    assert len(list(Resamples((30, 31), 200, 1, 3e4).blocks(12))) > 5
    for one, two in zip((*wide.estimates, *wide.paired), (*tight.estimates, *tight.paired), strict=True):
        assert (one.lower is None) == (two.lower is None)
        assert (one.value, one.family, one.category) == (two.value, two.family, two.category)
        if one.lower is not None:
            assert (one.lower, one.upper) == pytest.approx((two.lower, two.upper), abs=1e-6)
    assert wide.choices == tight.choices


def test_differences_and_their_tests_are_those_of_sentence_sums(rows, comparison):
    twin = Twin(rows, "spanning")
    ours, theirs = cross(twin, 2), cross(twin, 0)
    for category, punctuation in (("all", False), ("4-6", False), ("obj", True)):
        found = comparison.difference("influence", category, punctuation=punctuation)
        differences, won, lost = [], 0, 0
        for s, row in enumerate(twin.rows):
            reached = [counted(row[f], category, punctuation)[0] for f in (2, 0)]
            differences.append(reached[0][ours[s]] - reached[1][theirs[s]])
            a, b = (x.hits if punctuation else x.hits_without_punctuation for x in (row[2], row[0]))
            for e, relation in enumerate(row[0].relations):
                if belongs(category, relation, int(row[0].lengths[e])):
                    won += int(a[ours[s], e] and not b[theirs[s], e])
                    lost += int(b[theirs[s], e] and not a[ours[s], e])
        assert found.value == pytest.approx(sum(differences) / found.n, abs=1e-12)
        assert found.p_value == pytest.approx(sign_flip_p_value(np.array(differences)), abs=1e-14)
        assert (found.won, found.lost) == (won, lost)
        assert found.mcnemar_p_value == pytest.approx(binomtest(won, won + lost).pvalue, rel=1e-9)
    dspr = comparison.difference("influence", quantity="dspr")
    assert dspr.value == pytest.approx(twin.dspr(2, ours) - twin.dspr(0, theirs), abs=1e-12)
    assert dspr.p_value is None
    assert dspr.lower < dspr.value < dspr.upper


@pytest.mark.parametrize("punctuation", [False, True])
def test_best_fixed_offset_is_chosen_on_the_other_half(rows, table, comparison, punctuation):
    def edges(sentences, relation):
        offsets = []
        for s in sentences:
            scores = rows[s][0]
            for (dependent, head), name, kept in zip(scores.edges, scores.relations, scores.kept, strict=True):
                if (kept or punctuation) and name.split(":")[0] == relation:
                    offsets.append(int(head - dependent))
        return offsets

    one, two = range(30), range(30, 61)
    for relation in table.relations if punctuation else ("nsubj", "det", "obj", "obl"):
        right = total = 0
        for choosing, reporting in ((one, two), (two, one)):
            seen = edges(choosing, relation)
            best = min(set(seen), key=lambda x: (-seen.count(x), abs(x), x))
            right += edges(reporting, relation).count(best)
            total += len(edges(reporting, relation))
        found = comparison.estimate("best fixed offset", relation, punctuation=punctuation)
        assert (found.value, found.n, found.kind) == (right / total, total, "baseline")
    with pytest.raises(ArgumentError, match="found nothing for the family 'best fixed offset'"):
        comparison.estimate("best fixed offset", "all")


# --- choice and split


def direct_table(hits, *, families=None, n_words=None, offsets=None, relations=("obj",), edge_relations=None,
                 correlations=None, name="s", kept=None):
    """A table from hits (S, m, V): m relations in each sentence."""
    hits = np.asarray(hits, dtype=bool)
    s, m, v = hits.shape
    flat = hits.reshape(s * m, v)
    kept = np.ones(s * m, dtype=bool) if kept is None else kept
    families = families or [("attention head", "attention", v)]
    return ScoreTable(
        families=tuple(
            FamilyVariants(name=n, kind=k, variants=tuple(f"v{i}" for i in range(count))) for n, k, count in families
        ),
        decoders=("spanning",), sentences=tuple(f"{name}{i}" for i in range(s)),
        n_words=np.full(s, m + 1) if n_words is None else n_words, edge_counts=np.full(s, m), relations=relations,
        edge_relations=np.zeros(s * m, dtype=int) if edge_relations is None else edge_relations,
        edge_offsets=np.ones(s * m, dtype=int) if offsets is None else offsets, edge_kept=kept,
        hits=np.packbits(np.array([[flat & kept[:, None], flat]]), axis=-1),
        correlations=np.zeros((s, v)) if correlations is None else correlations,
    )


TWO = [("attention head", "attention", 1), ("influence", "influence", 2)]


def test_offsets_to_punctuation_do_not_count_without_punctuation():
    hits = np.random.default_rng(3).random((40, 5, 3)) < 0.5
    offsets = np.tile([2, 2, -1, -1, -1], 40)
    table = direct_table(hits, families=TWO, offsets=offsets, kept=np.tile([True, True, True, False, False], 40))
    found = compare_families(table, resamples=20)
    assert found.estimate("best fixed offset", "obj").value == pytest.approx(2 / 3)
    assert found.estimate("best fixed offset", "obj", punctuation=True).value == pytest.approx(3 / 5)


def test_a_variant_that_is_good_on_the_reported_half_alone_is_not_chosen():
    rng = np.random.default_rng(0)
    hits = rng.random((100, 6, 3)) < 0.4
    hits[:50, :, 1] = rng.random((50, 6)) < 0.5
    hits[50:, :, 2] = True
    found = compare_families(direct_table(hits, families=TWO), split="half", resamples=200)
    (choice,) = found.chosen("influence")
    assert (choice.variant, choice.chosen_on, choice.reported_on) == ("v0", "first half", "second half")
    assert found.estimate("influence").value == hits[50:, :, 1].mean()
    assert found.n_sentences == 50
    other = direct_table(np.where(np.arange(3) == 2, True, hits[:50]), families=TWO, name="other ")
    chosen = compare_families(direct_table(hits, families=TWO), choose=other, resamples=200)
    assert chosen.chosen("influence")[0].variant == "v1"
    assert chosen.estimate("influence").value == hits[:, :, 2].mean()


def test_cross_is_the_two_halves_put_together(table):
    first, second = table.parts()
    whole = compare_families(table, resamples=50)
    one = compare_families(second, choose=first, resamples=50)
    half = compare_families(table, split="half", resamples=50)
    two = compare_families(first, choose=second, resamples=50)
    for family in ("attention head", "influence", "word order"):
        for category in ("all", "long", "obl", "2-3"):
            a, b, both = (x.estimate(family, category) for x in (one, two, whole))
            assert both.value * both.n == pytest.approx(a.value * a.n + b.value * b.n, abs=1e-9)
            assert both.n == a.n + b.n
            assert half.estimate(family, category).value == a.value
        assert [c.variant for c in whole.chosen(family)] == [
            two.chosen(family)[0].variant, one.chosen(family)[0].variant
        ]
    assert compare_families(table, split="half", first=20, resamples=50).n_sentences == 41


def test_stability_is_how_often_the_variant_wins_again():
    rng = np.random.default_rng(1)
    hits = np.zeros((400, 8, 4), dtype=bool)
    hits[:, :, 0] = hits[:, :, 1] = rng.random((400, 8)) < 0.5  # the same, so that the first wins
    hits[:, :, 2] = rng.random((400, 8)) < 0.5
    hits[:, :, 3] = rng.random((400, 8)) < 0.2
    families = [("attention head", "attention", 1), ("influence", "influence", 3)]
    found = compare_families(direct_table(hits, families=families), split="half", resamples=400)
    assert found.chosen("attention head")[0].stability == 1.0
    (choice,) = found.chosen("influence")
    shares = dict(choice.winners)
    assert set(shares) == {"v0", "v1"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert choice.stability == shares[choice.variant]
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    gap = (hits[:200, :, 1].sum(axis=1) - hits[:200, :, 2].sum(axis=1)).astype(float)
    expected = 0.5 * math.erfc(-gap.sum() / gap.std() / math.sqrt(400))  # normal: the gap's sum has sd sqrt(200) sd
    assert shares["v0"] == pytest.approx(expected, abs=0.08)
    same = direct_table(hits[:, :, [3, 0, 1]], families=TWO)
    assert compare_families(same, split="half", resamples=50).chosen("influence")[0].winners == (("v0", 1.0),)


# --- the statistics themselves


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        m = rng.integers(1, 20, 80)
        ease = np.clip(rng.normal(0.5, 0.25, 80), 0, 1)  # sentences differ, and easy ones do not differ in length
        hits = rng.binomial(m, ease)[:, None]
        (ends,) = Resamples((80,), 400, trial, 1e8).intervals([Ratio.of(hits, m)], 0.95, [None])
        covered += ends.values[0, 0] <= 0.5 <= ends.values[0, 1]
    assert 0.905 <= covered / 300 <= 0.985


def test_intervals_of_dependent_relations_are_wider_than_those_of_independent_ones():
    together = np.repeat(np.arange(50) % 2, 10).reshape(50, 10).sum(axis=1)[:, None]
    apart = np.full((50, 1), 5)
    ratios = [Ratio.of(x, np.full(50, 10)) for x in (together, apart)]
    ends = Resamples((50,), 500, 0, 1e8).intervals(ratios, 0.95, [None, None])
    assert np.ptp(ends[0].values) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(50), rel=0.15)
    assert np.ptp(ends[1].values) == 0


def test_sign_flips_equal_all_patterns_one_by_one():
    rng = np.random.default_rng(2)
    for _ in range(40):
        d = rng.integers(-5, 6, rng.integers(1, 10))
        sums = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=len(d))]
        assert sign_flip_p_value(d) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum())), abs=1e-12)
    assert sign_flip_p_value(np.array([3, 0])) == 1.0
    assert sign_flip_p_value(np.array([2, 1, 3])) == pytest.approx(0.25, abs=1e-15)
    assert sign_flip_p_value(np.zeros(5, dtype=int)) == 1.0
    assert sign_flip_p_value(np.full(400, 2)) == 1e-12


def test_p_values_are_uniform_where_nothing_differs_though_relations_of_a_sentence_hang_together():
    rng = np.random.default_rng(4)
    flips, edges = [], []
    for _ in range(500):
        lucky = rng.random((60, 2)) < 0.5  # all relations of a sentence are found or none, by chance
        m = rng.integers(2, 9, 60)
        won, lost = lucky[:, 0] & ~lucky[:, 1], lucky[:, 1] & ~lucky[:, 0]
        flips.append(sign_flip_p_value(np.where(won, m, 0) - np.where(lost, m, 0)))
        edges.append(mcnemar_p_value(int(m[won].sum()), int(m[lost].sum())))
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(flips) <= level) == pytest.approx(level, abs=4.5 * math.sqrt(level * (1 - level) / 500))
    assert np.mean(np.array(edges) <= 0.05) > 0.2  # which is why sentences are what is tested


@pytest.mark.parametrize(("ahead", "least", "most"), [(0.0, 0.26, 0.46), (0.4, -0.1, 0.1)])
def test_halves_that_choose_for_each_other_hang_together_where_the_choice_is_luck(ahead, least, most):
    """Of three equally good variants by E(max)^2 / 2 = 0.36; not at all where one is better."""
    rng = np.random.default_rng(16)
    truth = 0.5 + np.array([ahead, 0, 0])
    errors = []
    for _ in range(800):
        table = direct_table(rng.random((60, 1, 3)) < truth)
        parts = parts_of(table, None, "cross", None)
        draws = [Resamples((30,), 1, 0, 1e8)] * 2
        indices = choose_variants(parts, "spanning", draws)[1]
        errors.append([part.reporting.found(i).mean() - truth[i[0]] for part, i in zip(parts, indices, strict=True)])
    assert np.mean(errors) == pytest.approx(0.0, abs=0.01)  # no number is too high, though
    assert least < np.corrcoef(np.transpose(errors))[0, 1] < most


def test_a_real_difference_is_found():
    rng = np.random.default_rng(8)
    d = rng.binomial(8, 0.55, 200) - rng.binomial(8, 0.45, 200)
    assert sign_flip_p_value(d) < 1e-4
    assert sign_flip_p_value(-d) == sign_flip_p_value(d)


def test_holm_of_an_example_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_mcnemar_equals_the_binomial_test():
    for won, lost in ((0, 0), (1, 0), (3, 3), (2, 9), (40, 22)):
        wanted = binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert mcnemar_p_value(won, lost) == pytest.approx(wanted, rel=1e-9)


def test_mean_by_length_weighs_lengths_alike_and_leaves_undefined_sentences_out():
    lengths = np.array([5, 5, 5, 50, 4, 51, 7])
    values = np.array([[1.0, 0], [0, 0], [0.5, 3], [0.25, 1], [9, 9], [9, 9], [np.nan, 1]])
    statistic = MeanByLength.of(values, lengths)
    assert statistic.n_sentences == 4
    assert statistic.evaluate(np.ones((7, 1)))[:, 0].tolist() == [0.375, 1.0]
    weights = np.array([2.0, 0, 1, 0, 5, 5, 5])[:, None]
    assert statistic.evaluate(weights)[:, 0] == pytest.approx([2.5 / 3, 1.0])
    nothing = np.where(np.isin(np.arange(7), [0, 1, 2, 3]), 0.0, 1.0)[:, None]
    assert np.isnan(statistic.evaluate(nothing)).all()


def test_holm_is_over_families_and_over_the_questions_asked_together(table, comparison):
    for punctuation in (False, True):
        for group in (("all",), ("long",), ("1", "2-3", "4-6", "7+"), table.relations):
            members = [
                d for d in comparison.paired
                if d.decoder == "spanning" and d.punctuation == punctuation and d.category in group
                and d.quantity == "uuas"
            ]
            assert {d.family for d in members} == {"word order", "influence"}
            assert [d.p_holm for d in members] == pytest.approx(holm([d.p_value for d in members]))


# --- edges of what can be asked


def test_a_family_equal_to_the_reference_differs_by_nothing():
    rng = np.random.default_rng(6)
    one = rng.random((80, 7, 2)) < 0.4
    correlations = rng.random((80, 2))
    table = direct_table(
        np.concatenate([one, one], axis=2), families=[("attention head", "attention", 2), ("twin", "influence", 2)],
        correlations=np.concatenate([correlations, correlations], axis=1), offsets=rng.integers(1, 9, 560),
    )
    found = compare_families(table, resamples=500)
    assert {d.quantity for d in found.paired} == {"uuas", "uuas_by_sentence", "dspr"}
    for difference in found.paired:
        assert (difference.value, difference.lower, difference.upper) == (0.0, 0.0, 0.0)
        if difference.quantity == "uuas":
            assert (difference.p_value, difference.p_holm, difference.won, difference.lost) == (1.0, 1.0, 0, 0)
    assert "+0.0 points (+0.0 to +0.0), p = 1 after Holm's correction, no difference is shown" in found.summary()


def test_categories_without_relations_are_left_out_and_rare_ones_have_no_interval():
    rng = np.random.default_rng(9)
    which = np.full(60 * 4, 1)
    which[[0, 100, 200]] = 0
    table = direct_table(
        rng.random((60, 4, 3)) < 0.5, families=TWO, relations=("csubj", "obj", "vocative"), edge_relations=which,
        offsets=np.where(np.arange(240) % 2, 1, -3),
    )
    found = compare_families(table, resamples=100)
    rare = found.estimate("influence", "csubj")
    assert (rare.n, rare.n_sentences, rare.lower, rare.upper) == (3, 3, None, None)
    assert found.difference("influence", "csubj").lower is None
    for category in ("vocative", "long", "7+"):
        with pytest.raises(ArgumentError, match="found nothing"):
            found.estimate("influence", category)
    assert {row[0] for row in found.by_relation()[1]} == {"csubj", "obj"}
    assert {row[0] for row in found.by_distance()[1]} == {"1", "2-3"}
    _, (first, *_) = found.table(("all", "long"))
    assert first[-3:] == (None, None, None)
    assert "NaN" not in found.to_json()


def test_a_resample_without_the_category_is_left_out_of_its_interval():
    there, hits = np.zeros((2, 12), dtype=int)
    there[:3], hits[0] = 1, 1
    resamples = Resamples((12,), 500, 0, 1e8)
    (drawn,) = (weights for _, weights in resamples.blocks())
    shares = [w[0] / w[:3].sum() for w in drawn.T if w[:3].sum()]
    assert len(shares) < 495
    (ends,) = resamples.intervals([Ratio.of(hits[:, None], there)], 0.5, [None])
    assert ends.values[0] == pytest.approx(np.quantile(shares, [0.25, 0.75]))
    (nothing,) = resamples.intervals([Ratio.of(hits[:, None], np.zeros(12))], 0.5, [0])
    assert np.isnan(nothing.values).all()


def test_few_sentences_are_warned_of_and_two_are_wanted():
    rng = np.random.default_rng(10)
    hits = rng.random((100, 5, 3)) < 0.5
    with pytest.warns(EstimateWarning, match="second half 19, first half 19; wanted at least 20"):
        found = compare_families(direct_table(hits[:38], families=TWO), resamples=50)
    assert "percentile intervals are too narrow" in found.warnings[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compare_families(direct_table(hits[:40], families=TWO), resamples=50).warnings == ()
    with pytest.raises(ArgumentError, match="first half: found 1 of the sentences usable, wanted at least two"):
        compare_families(direct_table(hits[:3], families=TWO), resamples=50)
    with pytest.raises(ArgumentError, match="first: found 0 of 1"):
        compare_families(direct_table(hits[:1], families=TWO), resamples=50)


def test_wrong_calls_are_refused():
    rng = np.random.default_rng(12)
    hits = rng.random((60, 5, 3)) < 0.5
    offsets = rng.integers(1, 9, 300)
    table = direct_table(hits, families=TWO, offsets=offsets)
    others = direct_table(hits, families=[("attention head", "attention", 2), ("influence", "influence", 1)], name="t")
    unkept = direct_table(hits, families=TWO, kept=np.arange(300) >= 150)
    other = direct_table(hits[:40], families=TWO, name="other ")
    cases = [
        (lambda: compare_families(hits), "wanted a ScoreTable; ScoreTable.collect"),
        (lambda: compare_families(table, reference="best head"), "found 'best head', wanted one of the families att"),
        (lambda: compare_families(table, split="thirds"), "split: found 'thirds'"),
        (lambda: compare_families(table, level=1.0), "level: found 1.0"),
        (lambda: compare_families(table, level=True), "level: found True"),
        (lambda: compare_families(table, resamples=0), "resamples: found 0"),
        (lambda: compare_families(table, memory=0), "memory"),
        (lambda: compare_families(table, rng="seed"), "rng: found 'seed'"),
        (lambda: compare_families(table, choose=others), "choose has other variants than scores"),
        (lambda: compare_families(table, choose=hits), "choose: found ndarray"),
        (lambda: compare_families(table, choose=table), "found 60 sentences that are reported on"),
        (lambda: compare_families(table, choose=table.take(np.arange(3, 5))), r"2 sentences .* \(s3, s4\)"),
        (lambda: compare_families(unkept), "first half: found no relation without punctuation"),
    ]
    for call, message in cases:
        with pytest.raises(ArgumentError, match=message):
            call()
    assert compare_families(table, choose=other, resamples=20).split == "other sentences"


def test_without_a_reference_there_are_estimates_alone(table):
    found = compare_families(table, reference=None, resamples=50)
    assert found.paired == ()
    assert found.differences()[1] == []
    assert all(row[7:11] == (None,) * 4 for row in found.rows()[1])
    assert found.summary().startswith("3 families of word graphs on 61 sentences; influence (")


# --- tables, JSON and the line


def test_tables_say_what_the_records_say(comparison):
    columns, main = comparison.rows()
    assert len(main) == 6
    row = dict(zip(columns, main[2], strict=True))
    estimate, apart = comparison.estimate("influence"), comparison.difference("influence")
    assert (row["family"], row["kind"], row["decoder"]) == ("influence", "influence", "spanning")
    assert (row["uuas"], row["lower"], row["upper"]) == (estimate.value, estimate.lower, estimate.upper)
    assert (row["difference"], row["p_holm"]) == (apart.value, apart.p_holm)
    assert row["long"] == comparison.estimate("influence", "long").value
    assert row["long_difference_lower"] == comparison.difference("influence", "long").lower
    assert row["uuas_with_punctuation"] == comparison.estimate("influence", punctuation=True).value
    assert row["dspr"] == comparison.estimate("influence", quantity="dspr").value
    choices = comparison.chosen("influence")
    assert row["stability"] == min(c.stability for c in choices)
    assert row["uuas_where_chosen"] == pytest.approx(
        sum(c.score * c.n_edges for c in choices) / sum(c.n_edges for c in choices)
    )
    assert dict(zip(columns, main[0], strict=True))["difference"] is None
    columns, found = comparison.table(("all", "nsubj"), punctuation=True, decoder="projective")
    assert columns == ("family", "kind", "variant", "all", "all lower", "all upper", "nsubj", "nsubj lower",
                       "nsubj upper")
    wanted = comparison.estimate("word order", "nsubj", punctuation=True, decoder="projective")
    assert found[1][6:] == (wanted.value, wanted.lower, wanted.upper)
    columns, found = comparison.by_relation(punctuation=True)
    sizes = [row[1] for row in found]
    assert sizes == sorted(sizes, reverse=True)
    assert [row[3] for row in found[:4]] == ["attention head", "word order", "influence", "best fixed offset"]
    assert comparison.by_distance()[0] == columns
    assert [row[0] for row in comparison.by_distance()[1]][::3] == ["1", "2-3", "4-6", "7+", "long"]
    columns, found = comparison.differences()
    row = dict(zip(columns, found[1], strict=True))
    assert (row["family"], row["category"]) == ("influence", "all")
    assert (row["difference"], row["won"]) == (apart.value, apart.won)
    assert (row["n_edges"], row["n_sentences"]) == (apart.n, apart.n_sentences)
    assert len(comparison.choice_rows()[1]) == 12
    for wrong in (lambda: comparison.table(("nmod",)), lambda: comparison.differences(("nmod",)),
                  lambda: comparison.chosen("none"), lambda: comparison.by_distance(decoder="greedy"),
                  lambda: comparison.difference("attention head")):
        with pytest.raises(ArgumentError):
            wrong()


def test_everything_is_in_the_json(comparison):
    plain = json.loads(comparison.to_json())
    assert plain["type"] == "TreebankComparison"
    assert len(plain["estimates"]) == len(comparison.estimates)
    assert plain["source"]["options"]["split"] == "cross"
    assert plain["source"]["seed"] == 1
    assert plain["choices"][0]["winners"]
    for record in (comparison.estimates[0], comparison.paired[0], comparison.choices[0]):
        assert record.rows()[1]
        assert record.family in record.summary()


def test_source_of_the_scores_is_kept(table):
    source = Source(model="a model", seed=3, options={"removal": "hide"})
    found = compare_families(table, resamples=20, source=source)
    assert found.source.model == "a model"
    assert found.source.options["removal"] == "hide"
    assert found.source.options["resamples"] == 20
    assert compare_families(table, resamples=20, rng=np.int64(5)).source.seed == 5


@pytest.mark.parametrize(("share", "verdict"), [(0.7, "it is above"), (0.3, "it is below"), (0.5, "no difference is")])
def test_summary_says_whether_influence_beats_the_reference(share, verdict):
    rng = np.random.default_rng(14)
    hits = np.stack([rng.random((200, 8)) < 0.5, rng.random((200, 8)) < share, rng.random((200, 8)) < 0.1], axis=2)
    families = [("attention head", "attention", 1), ("influence", "influence", 1), ("worse", "influence", 1)]
    found = compare_families(direct_table(hits, families=families), resamples=200)
    assert found.best("influence") == "influence"
    assert verdict in found.summary()
    assert f"influence (v0) finds {hits[:, :, 1].mean():.1%} of the relations" in found.summary()


def test_summary_without_influence_says_so():
    hits = np.random.default_rng(15).random((50, 4, 2)) < 0.5
    assert compare_families(direct_table(hits), resamples=20).summary().endswith("no influence family among them")
