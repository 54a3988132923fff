"""The analysis of one text is what its single steps give, and says plainly what it cannot give."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

import infogeo
from infogeo.errors import ArgumentError, DomainError, ShapeError, TextError, UnsupportedFamilyError
from infogeo.layer_agreement import Agreement
from infogeo.results import Source
from infogeo.words import DistanceMatrix
from infogeo_adapters import relations
from infogeo_adapters.analysis import SentenceAnalysis, analyze
from infogeo_adapters.relations import CONSTRUCTIONS, Context, EdgeRule, find_attention, find_measure
from infogeo_adapters.text_reading import cut_note, default_layer, read_text
from infogeo_adapters.transformers.attention import (
    attention_flow,
    attention_rollout,
    head_average,
    single_head,
)
from infogeo_adapters.transformers.capture import capture_activations, capture_background

TEXT = "The old dog chased the little cat because it was hungry."


@pytest.fixture(scope="module")
def made(bundled: Any) -> SentenceAnalysis:
    """The analysis at all defaults but the construction, whose default has tests of its own."""
    return analyze(bundled, TEXT, construction="shared-covariance")


def test_it_is_the_single_steps(made: SentenceAnalysis, bundled: Any) -> None:
    acts = capture_activations(bundled, TEXT)
    assert made.layer == 3 == default_layer(acts.n_layers)
    background = capture_background(bundled)
    words = infogeo.shared_covariance_normals(acts, 3, background)
    distances = infogeo.pairwise(infogeo.fisher_rao_distance, words)
    np.testing.assert_allclose(made.distances.values, distances.values, rtol=1e-6)
    assert made.graph.edge_set() == infogeo.nearest_neighbor_graph(made.distances, 3).edge_set()
    np.testing.assert_array_equal(made.attention.values, head_average(made.activations, 3).values)
    expected = infogeo.nearest_neighbor_graph(made.attention.symmetrized(), 3)
    assert made.attention_graph.edge_set() == expected.edge_set()
    assert made.normals.construction == "component_normals"
    assert made.normals.layer == 3
    assert made.lens is not None
    assert made.lens_missing is None
    assert made.lens.words == acts.words
    assert made.comparisons is not None
    mantel = infogeo.mantel_test(made.distances, made.attention, rng=0)
    (found,) = [c for c in made.comparisons if c.statistic == "mantel"]
    assert (found.value, found.p_value) == (mantel.value, mantel.p_value)


def test_agreement_is_spearman_for_every_layer_block_and_head(made: SentenceAnalysis, bundled: Any) -> None:
    table = made.agreement
    assert table is not None
    assert table.heads.shape == (7, 6, 5)
    assert table.averages.shape == (7, 6)
    assert table.blocks == (1, 2, 3, 4, 5, 6)
    assert table.n == len(all_pairs(made))
    acts = made.activations
    reading = read_text(bundled, TEXT, construction="shared-covariance")
    for layer, block, head in ((0, 1, 1), (3, 6, 5), (6, 2, 3)):
        distances = reading.distances(layer)
        expected = infogeo.spearman(distances, single_head(acts, block, head)).value
        assert table.heads[layer, block - 1, head - 1] == pytest.approx(expected, abs=1e-12)
        mean = infogeo.spearman(distances, head_average(acts, block)).value
        assert table.averages[layer, block - 1] == pytest.approx(mean, abs=1e-9)
    columns, rows = table.rows()
    assert columns == ("layer", "block", "head", "spearman", "pairs")
    assert len(rows) == 7 * 6 * (5 + 1)
    assert rows[0][:3] == (0, 1, "1")
    assert rows[5][:3] == (0, 1, "mean")
    best = table.best(3)
    assert best is not None
    assert best[2] == np.nanmax(table.heads[3])
    assert table.heads[3, best[0] - 1, best[1] - 1] == best[2]


def all_pairs(made: SentenceAnalysis) -> list[tuple[int, int]]:
    n = len(made.activations.words)
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def test_agreement_that_is_undefined_is_not_a_number() -> None:
    nothing = Agreement(heads=np.full((2, 1, 3), np.nan), averages=np.full((2, 1), np.nan), blocks=(1,), measure="m",
                        n=3, source=Source())
    assert nothing.best(0) is None
    with pytest.raises(ShapeError, match="averages"):
        Agreement(heads=np.zeros((2, 1, 3)), averages=np.zeros((2, 2)), blocks=(1,), measure="m", n=3, source=Source())


def test_relations_are_ranked_on_both_sides(made: SentenceAnalysis) -> None:
    columns, rows = made.rows()
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    pairs = all_pairs(made)
    assert sorted((r["from"], r["to"]) for r in table) == pairs
    assert [r["distance"] for r in table] == sorted(r["distance"] for r in table)
    assert [r["distance_rank"] for r in table] == list(range(1, len(pairs) + 1))
    by_attention = sorted(table, key=lambda r: r["attention_rank"])
    assert [r["attention"] for r in by_attention] == sorted((r["attention"] for r in table), reverse=True)
    assert {(r["from"], r["to"]) for r in table if r["in_graph"]} == made.graph.edge_set()
    both = {(r["from"], r["to"]) for r in table if r["in_graph"] and r["in_attention_graph"]}
    assert both == made.shared_edges()


def test_it_turns_into_json_without_the_states(made: SentenceAnalysis) -> None:
    text = made.to_json()
    plain = json.loads(text)
    assert len(text) < 100_000
    assert plain["distributions"]["family"] == "SharedCovarianceGaussian"
    assert plain["activations"]["words"] == list(made.activations.words)
    assert plain["activations"]["hidden_states_shape"] == list(made.activations.hidden_states.shape)
    assert "hidden_states" not in plain["activations"]
    assert plain["source"]["model"] == "bundled"
    assert plain["source"]["options"]["layer"] == 3
    assert plain["source"]["seed"] == 0
    assert len(plain["source"]["text_hash"]) == 64
    np.testing.assert_allclose(plain["distances"]["values"], made.distances.values)
    assert "<table>" in made._repr_html_()
    assert "SentenceAnalysis of 12 words" in made.summary()


def test_the_same_seed_gives_the_same_p_values(bundled: Any) -> None:
    def p_values(**options: Any) -> list[Any]:
        found = analyze(bundled, TEXT, construction="components", permutations=99, **options).comparisons
        assert found is not None
        return [c.p_value for c in found]

    assert p_values(rng=5) == p_values(rng=5)
    generator = np.random.default_rng(1)
    assert analyze(bundled, TEXT, construction="components", permutations=9, rng=generator).source.seed is None


@pytest.mark.parametrize("name", list(CONSTRUCTIONS))
def test_every_construction_goes_all_the_way(bundled: Any, name: str) -> None:
    corpus = f"{TEXT} The dog was old. The cat was little. It was hungry because the dog chased it. Chased, chased."
    made = analyze(bundled, TEXT, construction=name, corpus=corpus, layer=2, permutations=19)
    assert made.distributions is not None
    assert made.distributions.layer == 2
    families = {"shared-covariance": "SharedCovarianceGaussian", "components": "DiagonalGaussian",
                "readout": "Categorical", "occurrences": "DiagonalGaussian", "vectors": "PointMass"}
    assert type(made.distributions.distribution).__name__ == families[name]
    measure = "euclidean_distance" if name == "vectors" else "fisher_rao_distance"
    assert made.distances.measure == measure
    assert made.graph.n_edges > 0
    assert made.distances.words == made.activations.words


def test_repeated_words_share_their_type(bundled: Any) -> None:
    text = "The dog saw the dog and the dog ran."
    made = analyze(bundled, text, construction="occurrences", corpus=f"{text} Saw it and ran. The dog.", permutations=9)
    first, second = [i for i, w in enumerate(made.distances.words) if w == "dog"][:2]
    assert made.distances.values[first, second] == 0.0
    assert made.distributions is not None
    assert made.distributions.observations[first] >= 7


def test_occurrences_need_a_corpus_that_has_the_words(bundled: Any) -> None:
    with pytest.raises(ArgumentError, match="corpus="):
        analyze(bundled, TEXT, construction="occurrences")
    with pytest.raises(TextError, match=r"too rarely .*'zebra'.*at least 2 occurrences in corpus and text together"):
        analyze(bundled, "The dog saw a zebra.", construction="occurrences", corpus="The dog saw a cat. The dog saw.")


def test_a_background_of_ones_own_is_used(bundled: Any) -> None:
    own = analyze(bundled, TEXT, background="The sun rose over the hill. The birds began to sing in the trees.",
                  permutations=9)
    assert own.distributions is not None
    assert own.distributions.details["background_words"] == 16


def test_another_relation_takes_the_place_of_the_default(bundled: Any) -> None:
    asked: list[int] = []

    def by_position(context: Context, layer: int) -> DistanceMatrix:
        asked.append(layer)
        assert context.model is bundled
        x = np.arange(len(context.activations.words), dtype=float)
        return DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=context.activations.words, measure="steps",
                              symmetric=True, metric=True, layer=layer, construction="position", source=Source())

    made = analyze(bundled, TEXT, relation=by_position, graph="tree", permutations=9)
    assert made.distributions is None
    assert made.distances.measure == "steps"
    assert made.graph.edge_set() == {(i, i + 1) for i in range(len(made.activations.words) - 1)}
    assert sorted(asked) == list(range(7))
    assert made.source.options["construction"] == "position"


def test_an_asymmetric_measure_gives_an_undirected_graph(bundled: Any) -> None:
    made = analyze(bundled, TEXT, construction="components", measure="kl_divergence", permutations=9)
    assert not made.distances.symmetric
    assert not made.graph.directed
    expected = infogeo.nearest_neighbor_graph(made.distances.symmetrized(), 3)
    assert made.graph.edge_set() == expected.edge_set()


@pytest.mark.parametrize(("text", "n"), [("Hello", 1), ("Hello there", 2)])
def test_few_words_give_what_they_can(bundled: Any, text: str, n: int) -> None:
    made = analyze(bundled, text, construction="components")
    assert len(made.activations.words) == n
    assert made.comparisons is None
    assert made.agreement is None
    assert made.graph.n_edges == n - 1 == len(made.pairs()) == len(made.shared_edges())
    assert len(made.notes) == n  # with two words also that three neighbors cannot be had
    assert ("one word" if n == 1 else "2 words") in made.notes[0]
    assert made.lens is not None
    made.to_json()


@pytest.mark.parametrize("kind", ["neighbors", "mutual", "tree", "radius"])
def test_edges_follow_the_rule(made: SentenceAnalysis, kind: str) -> None:
    rule = EdgeRule(kind=kind, neighbors=2, radius=5.5 if kind == "radius" else None)
    ours = rule.of_distances(made.distances)
    theirs = rule.of_attention(made.attention, ours.n_edges)
    if kind == "radius":
        assert ours.edge_set() == infogeo.radius_graph(made.distances, 5.5).edge_set()
        assert theirs.edge_set() == infogeo.top_edges(made.attention.symmetrized(), ours.n_edges).edge_set()
    elif kind == "tree":
        assert ours.edge_set() == infogeo.minimum_spanning_tree(made.distances).edge_set()
        assert theirs.n_edges == len(made.activations.words) - 1
    else:
        mutual = kind == "mutual"
        assert ours.edge_set() == infogeo.nearest_neighbor_graph(made.distances, 2, mutual=mutual).edge_set()


@pytest.mark.parametrize(
    ("options", "match"),
    [({"kind": "star"}, "neighbors, mutual"), ({"neighbors": 0}, "at least 1"), ({"kind": "radius"}, "needs radius"),
     ({"radius": 1.0}, "only for graph 'radius'")],
)
def test_a_rule_that_makes_no_sense_is_refused(options: Any, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        EdgeRule(**options)


def test_attention_by_name(made: SentenceAnalysis) -> None:
    acts = made.activations
    np.testing.assert_array_equal(find_attention("average")(acts, 4).values, head_average(acts, 4).values)
    np.testing.assert_array_equal(find_attention("average")(acts, 0).values, head_average(acts, 1).values)
    np.testing.assert_array_equal(find_attention("head:2.5")(acts, 0).values, single_head(acts, 2, 5).values)
    np.testing.assert_array_equal(find_attention("rollout")(acts, 0).values, attention_rollout(acts).values)
    np.testing.assert_array_equal(find_attention("flow")(acts, 0).values, attention_flow(acts).values)
    assert len(relations.all_heads(acts)) == 30
    with pytest.raises(ArgumentError, match="head 9 does not exist"):
        find_attention("head:2.9")(acts, 0)


@pytest.mark.parametrize("name", ["mean", "head", "head:2", "head:2.x", "head:-1.2", ""])
def test_attention_of_no_such_name(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"average, rollout, flow, or head:B\.H"):
        find_attention(name)


def test_blocks_without_attention_are_passed_over(made: SentenceAnalysis) -> None:
    acts = made.activations
    assert acts.attention is not None
    hybrid = dataclasses.replace(acts, attention=acts.attention[[1, 4]], attention_layers=(2, 5), attention_kinds=())
    assert [relations.attention_block(hybrid, layer) for layer in range(7)] == [2, 2, 2, 2, 2, 5, 5]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layer": 7}, ArgumentError, "layer 7 does not exist"),
        ({"construction": "magic"}, ArgumentError, "influence, shared-covariance, components"),
        ({"measure": "magic"}, ArgumentError, "fisher_rao_distance"),
        ({"graph": "magic"}, ArgumentError, "neighbors, mutual, tree, radius"),
        ({"construction": "influence", "measure": "fisher_rao_distance"}, ArgumentError, "influence makes none"),
        ({"construction": "vectors", "measure": "fisher_rao_distance"}, UnsupportedFamilyError, "PointMass"),
    ],
)
def test_what_does_not_exist_is_refused(bundled: Any, options: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        analyze(bundled, TEXT, **options)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(TextError, match="wanted at least one word"):
        read_text(None, text)  # type: ignore[arg-type]


def test_a_broken_text_is_refused() -> None:
    with pytest.raises(TextError, match=r"half a surrogate pair \(U\+DCE9\)"):
        read_text(None, "caf\udce9")  # type: ignore[arg-type]
    with pytest.raises(TextError, match=r"character 1 is NUL"):
        read_text(None, "a\0")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [None, b"The dog ran.", 3, ["The dog ran."]])
def test_what_is_no_text_is_refused(bundled: Any, text: Any) -> None:
    with pytest.raises(TextError, match=f"text: found {type(text).__name__}, wanted str"):
        analyze(bundled, text)


def test_a_text_too_long_is_cut_only_if_asked_and_says_so(bundled: Any) -> None:
    text = "The dog ran home. " * 150
    with pytest.raises(TextError, match="overflow='truncate'"):
        analyze(bundled, text, construction="components")
    made = read_text(bundled, text, construction="components", overflow="truncate")
    assert len(made.activations.text) < len(text)
    note = cut_note(made.activations, text)
    assert note is not None
    assert f"of {len(text)} characters" in note
    assert cut_note(made.activations, made.activations.text) is None


def test_a_model_without_a_head_says_why_there_is_no_lens(minilm: Any) -> None:
    made = analyze(minilm, TEXT, construction="components", permutations=9)
    assert made.lens is None
    assert made.lens_missing is not None
    assert "no language-model head" in made.lens_missing
    assert made.agreement is not None
    assert made.agreement.heads.shape == (7, 6, 12)
    json.loads(made.to_json())


def test_a_layer_without_distances_is_noted_and_only_the_chosen_one_must_have_them(bundled: Any) -> None:
    # At layer 0 of a rotary model a word is the same vector everywhere, so occurrence normals have no variance.
    def but_for_layer_0(context: Context, layer: int) -> DistanceMatrix:
        if layer == 0:
            raise DomainError("a variance is zero")
        return relations.DistributionRelation(CONSTRUCTIONS["components"], find_measure(None))(context, layer)

    made = analyze(bundled, TEXT, relation=but_for_layer_0, permutations=9)
    assert made.notes == ("No distances at layer 0: a variance is zero",)
    assert made.agreement is not None
    assert np.isnan(made.agreement.heads[0]).all()
    assert np.isnan(made.agreement.averages[0]).all()
    assert np.isfinite(made.agreement.heads[1:]).all()
    assert made.agreement.best(0) is None
    usual = analyze(bundled, TEXT, construction="components", permutations=9).agreement
    assert usual is not None
    np.testing.assert_allclose(made.agreement.heads[1:], usual.heads[1:], atol=1e-12)
    made.to_json()
    with pytest.raises(DomainError, match="a variance is zero"):
        analyze(bundled, TEXT, relation=but_for_layer_0, layer=0)
    with pytest.raises(ArgumentError, match="found no distances"):
        infogeo.compare_layers([None, None], made.activations)


def test_without_component_normals_there_is_everything_but_the_half_plane(
    bundled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise DomainError("a variance is zero")

    monkeypatch.setattr("infogeo_adapters.analysis.component_normals", fail)
    made = analyze(bundled, TEXT, construction="components", permutations=9)
    assert made.normals is None
    assert made.normals_missing == "a variance is zero"
    assert made.graph.n_edges > 0
    made.to_json()


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "bart"])
def test_every_kind_of_model(tiny: Any, family: str) -> None:
    made = analyze(tiny(family), TEXT, construction="components", permutations=9)
    assert len(made.activations.words) == 12
    assert made.agreement is not None
    assert (made.lens is None) == (family in ("t5", "bart")) == (made.lens_missing is not None)


def test_measures_by_name() -> None:
    assert find_measure(None) is infogeo.fisher_rao_distance
    assert find_measure(None, "vectors") is infogeo.MEASURES["euclidean_distance"]
    assert find_measure(infogeo.kl_divergence) is infogeo.kl_divergence


def test_progress_is_told_and_nothing_is_printed(bundled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    analyze(bundled, "The dog ran.", construction="components", permutations=9, progress=told.append)
    assert len(told) >= 3
    assert told[0] == "reading the text with the model"
    assert capsys.readouterr() == ("", "")


def test_neighbors_asked_and_used_are_recorded(bundled: Any) -> None:
    made = analyze(bundled, TEXT, construction="components", neighbors=1000, permutations=9)
    others = len(made.activations.words) - 1
    assert any(n.startswith("1000 neighbors of each word were asked for") for n in made.notes)
    for source in (made.source, made.graph.source, made.attention_graph.source):
        assert (source.options["neighbors_asked"], source.options["neighbors_used"]) == (1000, others)
    tree = analyze(bundled, TEXT, construction="components", graph="tree", neighbors=1000, permutations=9)
    assert tree.notes == ()
    assert "neighbors_asked" not in tree.source.options


@pytest.mark.parametrize("radius", [float("nan"), -1.0])
def test_a_radius_is_a_length(radius: float) -> None:
    with pytest.raises(ArgumentError, match="wanted a length of at least 0"):
        EdgeRule(kind="radius", radius=radius)


def test_thin_backgrounds_and_rare_words_are_noted(bundled: Any) -> None:
    own = analyze(bundled, TEXT, background="The sun rose over the hill.", permutations=9)
    assert own.distributions is not None
    (note,) = own.notes
    assert "The background has 7 words, fewer than the 160 dimensions" in note
    assert f"(intensity {own.distributions.details['shrinkage']:.3g})" in note
    assert analyze(bundled, TEXT, construction="shared-covariance", permutations=9).notes == ()
