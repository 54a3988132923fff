"""The influence graph as the default relation: what it reads where, once for all layers, and what takes its place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import few_sentences
from model_zoo import make_specimen, make_tokenizer

import infogeo
from infogeo.errors import ArgumentError, DomainError, ModelError, TextError
from infogeo_adapters._influence_choice import InfluenceChoice, influence_choice
from infogeo_adapters.analysis import SentenceAnalysis, analyze
from infogeo_adapters.influence_relation import INFLUENCE, MOST_WORDS, InfluenceRelation, construction, why_no_influence
from infogeo_adapters.relations import Context, EdgeRule, Material
from infogeo_adapters.text_reading import default_construction, read_text
from infogeo_adapters.transformers.attention import head_average
from infogeo_adapters.transformers.capture import capture_activations, capture_background
from infogeo_adapters.transformers.influence_graphs import influence_affinity, influence_graph
from infogeo_adapters.transformers.influence_meter import InfluenceMeter
from infogeo_adapters.transformers.loading import load_model

TEXT = "The old dog chased the little cat because it was hungry."


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    with few_sentences():
        yield


@pytest.fixture(scope="module")
def made(quick_bundled: Any) -> SentenceAnalysis:
    """The analysis at all defaults."""
    return analyze(quick_bundled, TEXT, permutations=19)


def lengths(model: Any, text: str = TEXT, **options: Any) -> Any:
    """By hand: the logarithm of (1 + w) / w of the weights of the influence graph."""
    weights = influence_affinity(model, text, **options).values
    n = len(weights)
    return np.array([[0.0 if i == j else np.log((1 + weights[i, j]) / weights[i, j]) for j in range(n)]
                     for i in range(n)])


def test_the_default_is_the_influence_graph(made: SentenceAnalysis, quick_bundled: Any) -> None:
    assert made.by_influence
    assert made.layer == 4
    assert made.distributions is None
    assert (made.distances.measure, made.distances.symmetric, made.distances.metric) == (
        "influence_distance", True, False
    )
    assert made.distances.construction == "words hidden, at layers 4 and 5; edges cut in blocks 3 to 6"
    np.testing.assert_allclose(made.distances.values, lengths(quick_bundled), rtol=1e-9)
    assert made.graph.edge_set() == influence_graph(quick_bundled, TEXT, graph="neighbors").edge_set()
    np.testing.assert_array_equal(made.attention.values, head_average(made.activations, 4).values)
    assert made.source.options["construction"] == made.distances.construction
    assert made.distances.source.options["reading"] == "twice"
    tree = analyze(quick_bundled, TEXT, graph="tree", permutations=9)
    assert tree.graph.edge_set() == influence_graph(quick_bundled, TEXT).edge_set()
    json.loads(made.to_json())


def test_beside_it_the_words_stand_still(made: SentenceAnalysis, quick_bundled: Any) -> None:
    acts = capture_activations(quick_bundled, TEXT)
    words = infogeo.shared_covariance_normals(acts, 4, capture_background(quick_bundled))
    assert made.standing is not None
    np.testing.assert_allclose(
        made.standing.values, infogeo.pairwise(infogeo.fisher_rao_distance, words).values, rtol=1e-6
    )
    assert analyze(quick_bundled, TEXT, construction="components", permutations=9).standing is None


@pytest.mark.parametrize("layer", [1, 3, 6])
def test_other_layers_are_read_alone_with_the_edges_of_their_block(
    made: SentenceAnalysis, quick_bundled: Any, layer: int
) -> None:
    expected = lengths(quick_bundled, layers=layer, edges=[layer])
    reading = read_text(quick_bundled, TEXT)
    found = reading.distances(layer)
    np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    assert found.construction == f"words hidden, at layer {layer}; edges cut in block {layer}"
    assert made.agreement is not None
    for block in range(1, 7):
        mean = infogeo.spearman(found, head_average(made.activations, block)).value
        assert made.agreement.averages[layer, block - 1] == pytest.approx(mean, abs=1e-9)


def test_a_layer_that_is_asked_for_is_read_with_the_edges_of_the_upper_blocks(quick_bundled: Any) -> None:
    found = read_text(quick_bundled, TEXT, construction="influence", layer=-5).distances()
    np.testing.assert_allclose(found.values, lengths(quick_bundled, layers=2), rtol=1e-9)
    assert found.layer == 2
    named = read_text(quick_bundled, TEXT, layer=4).distances()  # the default one, by its number
    np.testing.assert_allclose(named.values, lengths(quick_bundled), rtol=1e-9)


def test_all_layers_come_from_one_measurement(quick_bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    measure = InfluenceMeter.measure

    def counted(self: InfluenceMeter, texts: Any, *args: Any, **options: Any) -> Any:
        measured.extend(texts)
        return measure(self, texts, *args, **options)

    monkeypatch.setattr(InfluenceMeter, "measure", counted)
    analyze(quick_bundled, TEXT, permutations=9)
    assert measured == [TEXT]


def test_at_layer_0_there_is_none(made: SentenceAnalysis, quick_bundled: Any) -> None:
    (note,) = made.notes
    assert note.startswith("No distances at layer 0: in the embedding no word has seen another")
    assert made.agreement is not None
    assert np.isnan(made.agreement.heads[0]).all()
    assert np.isfinite(made.agreement.heads[1:]).all()
    with pytest.raises(ArgumentError, match="influence begins at layer 1"):
        analyze(quick_bundled, TEXT, construction="influence", layer=0)
    for layer in (0, -7):
        reading = read_text(quick_bundled, TEXT, layer=layer)
        assert reading.distances().measure == "fisher_rao_distance"
        assert "since in the embedding" in reading.notes()[0]


@pytest.mark.parametrize(
    "options", [{"measure": "fisher_rao_distance"}, {"construction": "shared-covariance"},
                {"material": "The sun rose over the hill. The birds began to sing in the trees."}],
)
def test_who_asks_for_distributions_gets_them(quick_bundled: Any, options: Any) -> None:
    if "material" in options:
        options = {"material": Material(model=quick_bundled, background_text=options["material"])}
    reading = read_text(quick_bundled, TEXT, **options)
    assert reading.layer == 3
    assert reading.default_note is None
    assert reading.distances().measure == "fisher_rao_distance"


def test_a_relation_of_ones_own_is_left_alone(quick_bundled: Any) -> None:
    relation = InfluenceRelation(5)
    reading = read_text(quick_bundled, TEXT, relation=relation, layer=5, construction="components")
    assert reading.relation is relation
    np.testing.assert_allclose(reading.distances().values, lengths(quick_bundled, layers=5), rtol=1e-9)


def test_a_long_text_has_another_default_and_says_so(quick_bundled: Any) -> None:
    text = "dog " * (MOST_WORDS + 1)
    made = read_text(quick_bundled, text)
    assert (made.layer, made.distances().measure) == (3, "fisher_rao_distance")
    assert "since the text has 101 words, and each takes a pass of its own" in made.notes()[0]
    assert why_no_influence(quick_bundled, "dog " * MOST_WORDS) is None
    assert why_no_influence(quick_bundled, TEXT, most_words=11) is not None
    assert why_no_influence(quick_bundled, TEXT, most_words=12) is None


def test_a_text_that_does_not_fit_twice_has_another_default(quick_bundled: Any) -> None:
    text = "antidisestablishmentarianism " * 28
    assert quick_bundled.context_length == 512
    assert 256 < len(capture_activations(quick_bundled, text, attention=False).tokens) < 512
    reason = why_no_influence(quick_bundled, text)
    assert reason is not None
    assert "twice" in reason
    with pytest.raises(TextError, match="twice"):
        read_text(quick_bundled, text, construction="influence").distances()


def test_a_large_model_has_another_default(quick_bundled: Any) -> None:
    net = quick_bundled.model
    found = sum(p.numel() for p in net.model.layers.parameters())
    assert why_no_influence(quick_bundled, TEXT, most_parameters=found) is None
    reason = why_no_influence(quick_bundled, TEXT, most_parameters=found - 1)
    assert reason is not None
    assert "million parameters" in reason


@pytest.mark.parametrize("name", ["mamba", "fnet"])
def test_a_model_whose_words_cannot_be_hidden_has_another_default(name: str) -> None:
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    reading = read_text(model, TEXT, attention=False)
    assert reading.distances().measure == "fisher_rao_distance"
    assert "attention" in reading.notes()[0]
    with pytest.raises(ModelError):
        read_text(model, TEXT, construction="influence", attention=False).distances()


def test_one_word_needs_no_measurement(quick_bundled: Any) -> None:
    made = analyze(quick_bundled, "Hello")
    assert not made.by_influence
    assert len(made.notes) == 1
    asked = analyze(quick_bundled, "Hello", construction="influence")
    assert asked.by_influence
    assert asked.distances.values.tolist() == [[0.0]]
    assert asked.graph.n_edges == 0
    assert asked.standing is None


def test_edges_have_the_weights_of_the_influence_graph(made: SentenceAnalysis, quick_bundled: Any) -> None:
    near = influence_graph(quick_bundled, TEXT, graph="neighbors")
    np.testing.assert_array_equal(made.graph.edges, near.edges)
    np.testing.assert_allclose(made.graph.weight, near.weight, rtol=1e-9)
    np.testing.assert_allclose(made.graph.distance, near.distance, rtol=1e-9)
    weights = influence_affinity(quick_bundled, TEXT).values
    for (i, j), weight in zip(made.graph.edges, made.graph.weight, strict=True):
        assert weight == pytest.approx(weights[i, j], rel=1e-9)
    within = read_text(quick_bundled, TEXT).distances()
    drawn = EdgeRule(kind="radius", radius=float(np.log(2))).of_distances(within)
    n = len(weights)
    assert drawn.edge_set() == {(i, j) for i in range(n) for j in range(i + 1, n) if weights[i, j] >= 1}
    assert (drawn.weight >= 1 - 1e-9).all()


@pytest.mark.parametrize("options", [
    {"removal": "delete"}, {"distribution": "states", "removal": "mask"}, {"normalization": "none"},
    {"normalization": "symmetric", "removal": "mean"}, {"normalization": "product"}, {"distribution": "readout"},
], ids=str)
def test_choices_of_influence_are_those_of_python(tiny: Any, options: Any) -> None:
    model, text = tiny("bert"), "The dog ran home."
    material = Material(model=model, influence=InfluenceChoice(**options))
    reading = read_text(model, text, material=material)
    assert isinstance(reading.relation, InfluenceRelation)
    found = reading.distances()
    np.testing.assert_allclose(found.values, lengths(model, text, **options), rtol=1e-6)
    np.testing.assert_allclose(
        reading.distances(1).values, lengths(model, text, layers=1, edges=[1], **options), rtol=1e-6
    )
    assert found.source.options["normalization"] == options.get("normalization", "distance")
    assert not np.allclose(found.values, lengths(model, text))


def test_choices_stand_beside_influence_only(quick_bundled: Any) -> None:
    material = Material(model=quick_bundled, influence=InfluenceChoice(removal="delete"))
    for options, said in (
        ({"construction": "components"}, "those of 'components'"),
        ({"measure": "fisher_rao_distance"}, "those of distributions"),
        ({"relation": lambda context, layer: None}, "those of a relation"),
    ):
        with pytest.raises(ArgumentError, match=said):
            read_text(quick_bundled, TEXT, material=material, **options)
    with pytest.raises(ArgumentError, match="choose construction 'influence'"):
        analyze(quick_bundled, TEXT, construction="vectors", removal="delete")
    for wrong in ({"removal": "burn"}, {"distribution": "normal"}, {"normalization": "rank"}):
        with pytest.raises(ArgumentError, match="does not exist; choose"):
            InfluenceChoice(**wrong)
    with pytest.raises(ArgumentError, match=r"makes none to compare: its length is log\(\(1 \+ w\) / w\)"):
        read_text(quick_bundled, TEXT, construction="influence", measure="kl_divergence")
    assert influence_choice() is None
    assert influence_choice(normalization="rows") == InfluenceChoice(normalization="rows")


def test_words_that_do_not_move_each_other_have_no_length(quick_bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = InfluenceMeter.measure

    def still(self: InfluenceMeter, *args: Any, **options: Any) -> Any:
        ((values, *rest),) = measure(self, *args, **options)
        values = values.copy()
        values[:, 1, 2] = values[:, 2, 1] = 0.0
        return [(values, *rest)]

    monkeypatch.setattr(InfluenceMeter, "measure", still)
    material = Material(model=quick_bundled, influence=InfluenceChoice(normalization="rows"))
    said = r"between 'old' \(word 2\) and 'dog' \(word 3\) is zero by normalization 'rows'"
    with pytest.raises(DomainError, match=said):
        read_text(quick_bundled, TEXT, material=material).distances()


def test_a_mask_that_the_model_lacks_is_refused(quick_bundled: Any) -> None:
    with pytest.raises(ModelError, match="mask"):
        analyze(quick_bundled, TEXT, removal="mask", permutations=9)


def test_two_words_are_joined(quick_bundled: Any) -> None:
    made = analyze(quick_bundled, "Hello there")
    assert made.by_influence
    assert made.graph.n_edges == 1
    assert made.distances.values[0, 1] > 0


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_every_kind_of_model(tiny: Any, family: str) -> None:
    model = tiny(family)
    made = analyze(model, "The dog ran home.", permutations=9)
    assert made.by_influence
    assert made.layer == 2
    np.testing.assert_allclose(made.distances.values, lengths(model, "The dog ran home."), rtol=1e-6)
    assert made.distances.source.options["reading"] == ("twice" if family == "gpt2" else "once")


def test_without_edges_words_taken_away_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_zoo import make_specimen, make_tokenizer

    from infogeo_adapters import load_model

    model = load_model(make_specimen("bert"), tokenizer=make_tokenizer())  # its own, with nothing kept from other tests

    def fails(*_: Any, **__: Any) -> Any:
        raise ModelError("no values were found")

    monkeypatch.setattr("infogeo_adapters.transformers.influence_meter.EdgeMeter", fails)
    made = analyze(model, "The dog ran home.", permutations=9)
    assert made.by_influence
    assert made.distances.construction == "words hidden, at layers 2 and 3"
    np.testing.assert_allclose(
        made.distances.values, lengths(model, "The dog ran home.", edges=[]), rtol=1e-6
    )
    assert any("single edges could not be cut: no values were found" in note for note in made.notes)


def test_where_what_is_usual_of_a_layer_cannot_be_said_the_default_graph_is_measured_alone(
    quick_bundled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = InfluenceMeter.profile

    def fails(self: InfluenceMeter) -> Any:
        if 1 in self.layers:
            raise DomainError("zero between words of some distance")
        return profile(self)

    monkeypatch.setattr(InfluenceMeter, "profile", fails)
    made = analyze(quick_bundled, TEXT, permutations=9)
    np.testing.assert_allclose(made.distances.values, lengths(quick_bundled), rtol=1e-9)
    assert [note[:26] for note in made.notes] == [f"No distances at layer {k}: " + "i" for k in (0, 1, 2, 3, 6)]
    assert "influence is measured at layers 4, 5 only" in made.notes[1]


def test_where_influence_cannot_be_measured_the_other_default_takes_its_place(
    quick_bundled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(self: InfluenceMeter) -> Any:
        calls.append(self)
        raise DomainError("zero everywhere")

    monkeypatch.setattr(InfluenceMeter, "profile", fails)
    made = analyze(quick_bundled, TEXT, permutations=9)
    assert len(calls) == 2  # not once more for every layer
    assert not made.by_influence
    assert made.standing is None
    assert made.distances.measure == "fisher_rao_distance"
    assert made.notes[0].startswith("This is not the influence graph, since zero everywhere.")
    with pytest.raises(DomainError, match="zero everywhere"):
        analyze(quick_bundled, TEXT, construction="influence")


def test_words_are_those_of_the_activations(tiny: Any) -> None:
    model = tiny("bert")
    acts = capture_activations(model, "The dog ran home.", words=[(0, 7), (8, 16), (16, 17)])
    context = Context(material=Material(model=model), activations=acts)
    found = InfluenceRelation(2)(context, 2)
    assert found.words == ("The dog", "ran home", ".")
    np.testing.assert_allclose(
        found.values, lengths(model, "The dog ran home.", words=[(0, 7), (8, 16), (16, 17)]), rtol=1e-6
    )
    without = Context(material=Material(model=model), activations=dataclasses.replace(
        acts, attention=None, attention_layers=(), attention_kinds=()
    ))
    np.testing.assert_allclose(InfluenceRelation(2)(without, 2).values, found.values, rtol=1e-6)


def test_several_texts_have_one_default(quick_bundled: Any) -> None:
    assert default_construction(quick_bundled, ["The dog ran.", "Hello", "A cat sat."]) == (INFLUENCE, None)
    name, note = default_construction(quick_bundled, ["The dog ran.", "dog " * 101])
    assert name == "shared-covariance"
    assert note is not None
    assert "of text 2: the text has 101 words" in note
    assert default_construction(quick_bundled, ["The dog ran."], layer=0)[0] == "shared-covariance"
    long = "The dog ran home. " * 150
    with pytest.raises(TextError):
        default_construction(quick_bundled, ["The dog ran.", long])
    assert default_construction(quick_bundled, ["The dog ran.", long], overflow="truncate")[0] == "shared-covariance"


def test_what_was_measured_in_words() -> None:
    assert construction([2], []) == "words hidden, at layer 2"
    assert construction([1, 3], [2, 3, 5]) == "words hidden, at layers 1 and 3; edges cut in blocks 2, 3 and 5"
