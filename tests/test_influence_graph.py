"""The influence graph through the front door: every strategy, every kind of model, and the formula by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer  # noqa: E402

from infogeo import WordGraph, distance_profile, minimum_spanning_tree, row_ratios  # noqa: E402
from infogeo.errors import ArgumentError, DomainError, ModelError, TextError  # noqa: E402
from infogeo.evidence import PRIOR_EXPONENT  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    HideWord,
    influence_affinity,
    influence_graph,
    load_model,
    measure_edge_influence,
    measure_influence,
)
from infogeo_adapters.models import background_text  # noqa: E402
from infogeo_adapters.transformers import backgrounds, edge_influence, influence_meter  # noqa: E402
from infogeo_adapters.transformers.influence_meter import InfluenceMeter, default_edges, default_layers  # noqa: E402
from infogeo_adapters.transformers.removal import REMOVALS, find_removal  # noqa: E402

TEXT = "She sells sea shells"
SENTENCE = "The old woman gave the dog a bone."
ZOO_TEXT = "the cat sat on the mat and the dog ran"
own_sentences = backgrounds.background_sentences


def few_sentences(text: Any, count: int) -> list[str]:
    """As the real one, of so few sentences that a test is fast."""
    return [" ".join(s.split()[:9]) for s in own_sentences(text, min(count, 6))]


@pytest.fixture(autouse=True)
def short_background(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backgrounds, edge_influence, influence_meter):
        monkeypatch.setattr(module, "background_sentences", few_sentences)


@pytest.fixture(scope="module")
def small(make_tiny: Any) -> Any:
    """Tiny models of this module's own, for which what is estimated from few sentences may be kept."""
    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            net, tokenizer = make_tiny(family)
            made[family] = load_model(net, tokenizer=tokenizer)
        return made[family]

    return get


@pytest.fixture(scope="module")
def specimen() -> Any:
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            net = make_specimen(name)
            if name == "t5":  # its random scores are so large that most weights are exactly zero
                with torch.no_grad():
                    for block in net.encoder.block:
                        block.layer[0].SelfAttention.q.weight.mul_(0.05)
            made[name] = load_model(net, tokenizer=make_tokenizer())
        return made[name]

    return get


def anew(model: Any) -> Any:
    return load_model(model.model, tokenizer=model.tokenizer)


# The formula


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_weights_are_the_evidence_of_both_measurements(small: Any, family: str) -> None:
    model = small(family)
    reading: Any = "twice" if family == "gpt2" else "once"
    options: dict[str, Any] = {"layers": [2, 3], "distribution": "effects", "reading": reading}

    def measured(text: str) -> Any:
        words = measure_influence(model, text, manifold="fixed covariance", overflow="truncate", **options).values
        edges = measure_edge_influence(model, text, blocks=[2, 3], reading=reading, overflow="truncate")
        return np.stack([*words, edges.whole[0], edges.heads[1, 3]])

    values = measured(TEXT)
    profile = distance_profile([row_ratios(measured(s)) for s in few_sentences(background_text(), 6)])
    found = influence_affinity(model, TEXT, layers=[2, -1], edges=[2, (3, 4)], prior_exponent=0.8)
    n = len(found.words)
    assert values.shape == (4, n, n)
    for i, j in itertools.permutations(range(n), 2):
        evidence = -0.8 * math.log(abs(i - j))
        at = min(abs(i - j), profile.mean.shape[1]) - 1
        for r in range(4):
            for a, b in ((i, j), (j, i)):
                ratio = values[r, a, b] / (values[r, a].sum() / (n - 1))
                evidence += (math.log(ratio) - profile.mean[r, at]) / profile.deviation[r, at] / 4
        assert found.values[i, j] == pytest.approx(math.exp(evidence / 2), rel=1e-4)
    assert not np.diag(found.values).any()
    assert found.source.options["measurements"] == "layer 2; layer 3; block 2; block 3, head 4"
    assert found.source.options["prior_exponent"] == 0.8
    assert found.source.options["reading"] == reading
    assert found.source.options["removal"] == "hide"
    assert not found.directed


@pytest.mark.parametrize("normalization", ["rows", "none", "symmetric", "product"])
def test_other_normalizations_are_geometric_means(small: Any, normalization: Any) -> None:
    model = small("bert")
    found = influence_affinity(model, TEXT, layers=[1, 3], edges=[2], normalization=normalization)
    words = measure_influence(model, TEXT, layers=[1, 3], distribution="effects", manifold="fixed covariance")
    edges = measure_edge_influence(model, TEXT, blocks=[2])
    parts = [words.affinity(1, normalization=normalization), words.affinity(3, normalization=normalization),
             edges.affinity(2, normalization=normalization)]
    product = np.prod([p.values for p in parts], axis=0) ** (1 / 3)
    assert np.allclose(found.values, product, rtol=1e-4)
    assert found.source.options["symmetrized"] == "log-sum"


def test_the_graph_is_that_of_the_weights(small: Any) -> None:
    model = small("bert")
    weights = influence_affinity(model, TEXT)
    tree = influence_graph(model, TEXT)
    assert isinstance(tree, WordGraph)
    assert np.array_equal(tree.edges, minimum_spanning_tree(weights).edges)
    near = influence_graph(model, TEXT, graph="neighbors", neighbors=1)
    mutual = influence_graph(model, TEXT, graph="mutual", neighbors=1)
    with pytest.raises(ArgumentError, match="neighbors: found 2 for the tree"):
        influence_graph(model, TEXT, neighbors=2)
    pairs = {tuple(sorted((i, int(np.argmax(weights.values[i]))))) for i in range(4)}
    assert {tuple(sorted(map(int, e))) for e in near.edges} == pairs
    both = {(i, j) for i, j in pairs if np.argmax(weights.values[i]) == j and np.argmax(weights.values[j]) == i}
    assert {tuple(sorted(map(int, e))) for e in mutual.edges} == both


def test_defaults_are_upper_layers_and_blocks(small: Any) -> None:
    model = small("bert")
    given = influence_affinity(model, TEXT, layers=[2, 3], edges=[2, 3])
    found = influence_affinity(model, TEXT)
    assert np.array_equal(found.values, given.values)
    assert found.source.options["prior_exponent"] == PRIOR_EXPONENT
    assert found.source.options["measurements"] == "layer 2; layer 3; block 2; block 3"
    assert "edges_left_out" not in found.source.options
    assert default_layers(6) == (4, 5)
    assert default_layers(2) == (2,)
    assert default_edges([2, 5, 8], 9) == (5, 8)


def test_layers_or_edges_alone(small: Any) -> None:
    model = small("bert")
    words = influence_affinity(model, TEXT, layers=2, edges=[])
    edges = influence_affinity(model, TEXT, layers=[], edges=(2, 3))
    assert words.layer == 2
    assert words.source.options["measurements"] == "layer 2"
    assert edges.source.options["measurements"] == "block 2; block 3"
    assert not np.allclose(words.values, edges.values, rtol=1e-2)
    assert influence_affinity(model, TEXT, layers=[3, -1, 3], edges=[]).source.options["measurements"] == "layer 3"
    one = influence_affinity(model, TEXT, layers=[], edges=1)  # type: ignore[arg-type]  # a single block will do
    assert one.source.options["measurements"] == "block 1"


def test_hiding_in_some_blocks_is_another_graph(small: Any) -> None:
    model = small("bert")
    everywhere, late = (
        influence_affinity(model, TEXT, layers=3, edges=[], removal=removal)
        for removal in ("hide", HideWord(blocks=(3,)))
    )
    assert not np.allclose(everywhere.values, late.values, rtol=1e-2)


# Strategies


def test_every_strategy_runs_and_says_something_else(small: Any) -> None:
    model = small("bert")
    found: dict[tuple[Any, ...], Any] = {}
    for removal, reading, distribution in itertools.product(
        REMOVALS, ("once", "twice"), ("effects", "states", "readout")
    ):
        for normalization in ("distance", "rows"):
            made = influence_affinity(
                model, TEXT, layers=2, edges=[], removal=removal, reading=reading,  # type: ignore[arg-type]
                distribution=distribution, normalization=normalization,  # type: ignore[arg-type]
            )
            assert np.isfinite(made.values).all()
            assert (made.values[~np.eye(4, dtype=bool)] > 0).all()
            assert made.source.options["distribution"] == distribution
            assert made.source.options["removal"] == removal
            found[removal, reading, distribution, normalization] = made.values / made.values.mean()
    for normalization in ("none", "symmetric", "product"):
        made = influence_affinity(model, TEXT, layers=2, edges=[], normalization=normalization)
        found["hide", "once", "effects", normalization] = made.values / made.values.mean()
    for symmetrized in ("sum", "max"):
        made = influence_affinity(model, TEXT, layers=2, edges=[], normalization="rows", symmetrized=symmetrized)
        found["hide", "once", "effects", "rows", symmetrized] = made.values / made.values.mean()
    assert len(found) == 65
    for one, other in itertools.combinations(found, 2):
        assert not np.allclose(found[one], found[other], rtol=1e-6, atol=0), (one, other)


def test_a_causal_model_read_once_has_one_direction(small: Any) -> None:
    model = small("llama")
    once = influence_affinity(model, TEXT, reading="once", normalization="rows", layers=2, edges=[])
    words = measure_influence(model, TEXT, layers=2, distribution="effects", manifold="fixed covariance")
    assert np.allclose(once.values, words.affinity(2, normalization="rows").values, rtol=1e-4)
    assert (once.values[~np.eye(4, dtype=bool)] > 0).all()
    twice = influence_affinity(model, TEXT, normalization="rows", layers=2, edges=[])
    assert twice.source.options["reading"] == "twice"
    assert not np.allclose(once.values, twice.values, rtol=1e-2)
    assert influence_graph(model, TEXT, reading="once").n_edges == 3


# Models


@pytest.mark.parametrize("name", ["bundled", "minilm"])
def test_real_models_give_trees(request: pytest.FixtureRequest, name: str) -> None:
    model = anew(request.getfixturevalue(name))
    tree = influence_graph(model, SENTENCE)
    assert tree.words == ("The", "old", "woman", "gave", "the", "dog", "a", "bone", ".")
    assert tree.n_edges == 8
    pairs = {tuple(sorted(map(int, e))) for e in tree.edges}
    assert len(pairs & {(0, 2), (1, 2), (2, 3), (4, 5), (3, 5), (6, 7), (3, 7), (0, 1)}) >= 4
    reading = "twice" if name == "bundled" else "once"
    assert tree.source.options["reading"] == reading


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "deberta-v2", "albert", "t5", "bart", "gpt2",
                                  "llama", "gpt-oss", "gpt-neo", "opt", "lfm2"])
def test_architectures_give_graphs(specimen: Any, name: str) -> None:
    model = specimen(name)
    if name == "lfm2":  # words reach each other by convolution too
        with pytest.raises(ModelError, match="take words away by 'delete'"):
            influence_graph(model, ZOO_TEXT)
    tree = influence_graph(model, ZOO_TEXT, **({"removal": "mask"} if name == "lfm2" else {}))
    assert tree.n_edges == 9
    assert tree.source.options["reading"] == ("once" if model.kind != "decoder" else "twice")
    assert "block" in str(tree.source.options["measurements"])


@pytest.mark.parametrize(("name", "reason"), [
    ("mamba", "no attention"), ("fnet", "no attention"), ("xlnet", "'value'"),
])
def test_what_cannot_be_taken_apart_falls_back_to_words(specimen: Any, name: str, reason: str) -> None:
    model = specimen(name)
    removals = ["mean", "delete"]
    if name == "xlnet":
        removals.append("hide")
    else:
        with pytest.raises(ModelError, match="take words away by 'delete'"):
            influence_graph(model, ZOO_TEXT)
    if name == "mamba":
        removals.append("mask")
    for removal in removals:
        found = influence_affinity(model, ZOO_TEXT, removal=removal, normalization="rows")
        assert "block" not in str(found.source.options["measurements"])
        assert reason in str(found.source.options["edges_left_out"])
        assert (found.values[~np.eye(10, dtype=bool)] > 0).all()
    with pytest.raises(ModelError, match=reason):
        influence_affinity(model, ZOO_TEXT, removal="mean", edges=[1])
    with pytest.raises(ModelError, match=reason):
        influence_affinity(model, ZOO_TEXT, layers=[])


def test_a_removal_that_a_model_does_not_offer_is_refused_first(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("measured")

    monkeypatch.setattr(influence_meter, "EdgeMeter", never)
    monkeypatch.setattr(influence_meter, "measure_influence", never)
    with pytest.raises(ModelError, match="no mask token"):
        influence_graph(small("gpt2"), TEXT, removal="mask")


def test_without_a_head_nothing_is_read_out(minilm: Any) -> None:
    with pytest.raises(ModelError, match="has no head"):
        influence_graph(anew(minilm), SENTENCE, distribution="readout")


# Texts


def test_one_word_has_no_relation(small: Any) -> None:
    for normalization in ("distance", "rows"):
        found = influence_affinity(small("bert"), "Stop", normalization=normalization)  # type: ignore[arg-type]
        assert found.values.tolist() == [[0.0]]
    assert influence_graph(small("bert"), "Stop").n_edges == 0
    assert influence_graph(small("gpt2"), "Stop it").n_edges == 1


def test_words_of_several_tokens_and_of_ones_own(small: Any) -> None:
    model = small("llama")
    tree = influence_graph(model, "unbelievable riverbank unbelievable shells")
    assert tree.words == ("unbelievable", "riverbank", "unbelievable", "shells")
    mine = influence_graph(model, TEXT, words=[(0, 9), (10, 13), (14, 20)])
    assert mine.words == ("She sells", "sea", "shells")
    assert mine.n_edges == 2


def test_long_texts_are_refused_or_cut(small: Any) -> None:
    model, text = small("gpt2"), "shells " * 12
    with pytest.raises(TextError, match="read twice in a row"):
        influence_graph(model, text)
    cut = influence_graph(model, text, overflow="truncate")
    assert cut.n_edges == len(cut.words) - 1
    assert cut.source.options["truncated_words"] == 12 - len(cut.words)


def test_progress_is_told(small: Any) -> None:
    told: list[Any] = []
    for times, given in enumerate(({"edges": []}, {"layers": []}, {}), start=1):
        influence_affinity(small("bert"), TEXT, progress=lambda *numbers: told.append(numbers), **given)
        assert told == [(1, 1)] * times


def test_the_model_is_left_as_it_was(small: Any, restored: Any) -> None:
    model = small("bart")
    restored(model.model)
    influence_graph(model, TEXT)


# What is refused


@pytest.mark.parametrize(("arguments", "message"), [
    ({"graph": "radius"}, "'tree', 'neighbors' or 'mutual'"), ({"neighbors": 0}, "neighbors"),
    ({"layers": 0}, "at layer 0, the embedding, no word moves another"), ({"layers": 4}, "wanted layers 1 to 3"),
    ({"layers": 1.5}, "layers"), ({"layers": "3"}, "layers"), ({"layers": [True]}, "layers"),
    ({"edges": [4]}, r"found block 4, wanted one of \[1, 2, 3\]"), ({"edges": [(1, 5)]}, "has the heads 1 to 4"),
    ({"edges": [(1, 2, 3)]}, "a block, or"), ({"edges": [0]}, "edges"), ({"edges": 1.5}, "in a list"),
    ({"edges": ["1"]}, "edges"), ({"layers": [], "edges": []}, "found neither"),
    ({"removal": "burn"}, "burn"), ({"reading": "thrice"}, "thrice"), ({"distribution": "tokens"}, "tokens"),
    ({"normalization": "columns"}, "choose distance, none, rows"), ({"symmetrized": "mean"}, "mean"),
    ({"prior_exponent": -1.0}, "at least 0"), ({"prior_exponent": math.nan}, "NaN"),
    ({"prior_exponent": "1"}, "number"),
    ({"overflow": "cut"}, "overflow"), ({"batch_tokens": 0}, "batch_tokens"), ({"progress": 3}, "progress"),
])
def test_bad_arguments_are_refused_before_anything_is_run(
    small: Any, monkeypatch: pytest.MonkeyPatch, arguments: Any, message: str
) -> None:
    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("measured")

    model = small("bert")
    monkeypatch.setattr(influence_meter, "EdgeMeter", never)
    monkeypatch.setattr(influence_meter, "measure_influence", never)
    with pytest.raises(ArgumentError, match=message):
        influence_graph(model, TEXT, **arguments)


def test_bad_texts_and_models_are_refused(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("measured")

    monkeypatch.setattr(influence_meter, "InfluenceMeter", never)
    for text in ("", "  ", None, ["a", "b"], "a\x00b", "shells " * 70):
        with pytest.raises(TextError):
            influence_graph(small("bert"), text)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="load_model"):
        influence_graph("bert", TEXT)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="buys"):
        influence_graph(small("bert"), TEXT, words=["She", "buys"])


def test_where_nothing_is_usual_it_is_said(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("bert")
    with torch.no_grad():
        for layer in net.bert.encoder.layer:
            layer.attention.output.dense.weight[:] = 0.0
    model = load_model(net, tokenizer=tokenizer)
    with pytest.raises(DomainError, match=r"what is usual at each distance cannot be said of .* by block 3"):
        influence_affinity(model, TEXT, layers=[], edges=[3])


# The meter


def test_a_meter_measures_many_texts_as_one(small: Any) -> None:
    model = small("bert")
    meter = InfluenceMeter(model, (2, 3), ((3, None), (1, 2)), find_removal("hide"), "once")
    assert meter.names == ("layer 2", "layer 3", "block 3", "block 1, head 2")
    texts = [TEXT, "It was raining.", "Stop"]
    for text, (values, words, source) in zip(texts, meter.measure(texts, [None] * 3), strict=True):
        ((alone, same, noted),) = meter.measure([text], [None])
        assert words == same
        assert source == noted
        assert values.shape == (4, len(words), len(words))
        assert np.allclose(values, alone, rtol=1e-3, atol=1e-5)


def test_what_is_usual_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(make_specimen("bert"), tokenizer=make_tokenizer())  # what is kept of it is this test's own
    asked: list[Any] = []
    measure = InfluenceMeter.measure
    monkeypatch.setattr(
        InfluenceMeter, "measure",
        lambda self, *args, **given: asked.append((self.layers, self.edges)) or measure(self, *args, **given),
    )

    def meter(layers: Any, edges: Any = ()) -> InfluenceMeter:
        return InfluenceMeter(model, layers, edges, find_removal("hide"), "once")

    first = meter((2,)).profile()
    assert asked == [((2, 1, 3), ())]  # one pass gives all layers
    assert np.array_equal(meter((2,)).profile().mean, first.mean)
    assert np.array_equal(meter((3, 2)).profile().mean[1], first.mean[0])
    assert len(asked) == 1
    both = meter((3, 1), ((2, None), (1, 1))).profile()
    assert asked[1:] == [((), ((2, None), (1, 1)))]
    assert np.array_equal(meter((1,), ((1, 1),)).profile().mean, both.mean[[1, 3]])
    assert len(asked) == 2
    texts = influence_meter.background_sentences(background_text(), influence_meter.PROFILE_SENTENCES)
    together = meter((3, 1), ((2, None), (1, 1)))
    known = distance_profile([
        row_ratios(values) for values, _, _ in measure(together, texts, [None] * len(texts), overflow="truncate")
    ])
    for part in ("mean", "deviation", "counts"):
        assert np.allclose(getattr(both, part), getattr(known, part), rtol=1e-4, atol=1e-4), part
    with torch.no_grad():
        model.model.bert.encoder.layer[0].output.dense.bias.add_(0.1)
    try:
        assert not np.array_equal(meter((2,)).profile().mean, first.mean)
    finally:
        with torch.no_grad():
            model.model.bert.encoder.layer[0].output.dense.bias.sub_(0.1)


def test_a_measurement_that_has_no_profile_does_not_spoil_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(make_specimen("bert"), tokenizer=make_tokenizer())
    own = influence_meter.distance_profile

    def broken(values: Any, **given: Any) -> Any:
        if not broken.calls.append(1) and len(broken.calls) == 2:  # type: ignore[attr-defined]
            raise DomainError("all the same")
        return own(values, **given)

    broken.calls = []  # type: ignore[attr-defined]
    monkeypatch.setattr(influence_meter, "distance_profile", broken)
    assert InfluenceMeter(model, (1,), (), find_removal("hide"), "once").profile().mean.shape[0] == 1
    assert InfluenceMeter(model, (3,), (), find_removal("hide"), "once").profile().mean.shape[0] == 1
    with pytest.raises(DomainError, match="by layer 2: all the same; measure other layers"):
        InfluenceMeter(model, (1, 2), (), find_removal("hide"), "once").profile()
    assert len(broken.calls) == 3  # type: ignore[attr-defined]
