"""Families of influence graphs: each variant against the functions that measure one text, and what they refuse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer  # noqa: E402

from infogeo import DependencyTree, distance_profile, row_entropies, row_ratios  # noqa: E402
from infogeo.errors import ArgumentError, ModelError  # noqa: E402
from infogeo.evidence import PRIOR_EXPONENT, log_offsets  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    capture_activations,
    influence_affinity,
    load_model,
    measure_edge_influence,
    measure_influence,
)
from infogeo_adapters.models import background_text  # noqa: E402
from infogeo_adapters.transformers import backgrounds, edge_influence, influence_meter  # noqa: E402
from infogeo_adapters.treebank import influence as families_module  # noqa: E402
from infogeo_adapters.treebank import relative_attention  # noqa: E402
from infogeo_adapters.treebank._variants import EXPONENTS, WAYS, edge_names, layer_sets, set_name  # noqa: E402
from infogeo_adapters.treebank.combined import InfluenceWithAttention, JointInfluence  # noqa: E402
from infogeo_adapters.treebank.families import SentenceReading  # noqa: E402
from infogeo_adapters.treebank.influence import (  # noqa: E402
    EdgeInfluenceGraphs,
    RelativeInfluence,
    UnsupervisedInfluence,
    WordInfluence,
    read_once,
)
from infogeo_adapters.treebank.measured import measurements  # noqa: E402
from infogeo_adapters.treebank.registry import FAMILIES  # noqa: E402
from infogeo_adapters.treebank.relative_attention import RelativeAttention, attention_read_twice  # noqa: E402

TEXTS = ("She sells sea shells", "It was raining and they ran", "The dog ran home")
own_sentences = backgrounds.background_sentences


def few_sentences(text: Any, count: int) -> list[str]:
    return [" ".join(s.split()[:9]) for s in own_sentences(text, min(count, 6))]


@pytest.fixture(autouse=True)
def short_background(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backgrounds, edge_influence, influence_meter, families_module, relative_attention):
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


def read(model: Any, texts: Any = TEXTS) -> list[SentenceReading]:
    found = capture_activations(model, list(texts))
    return [
        SentenceReading(tree=DependencyTree.from_words(a.words, [-1, *range(len(a.words) - 1)]), activations=a)
        for a in found
    ]


def prepared(family: Any) -> Any:
    family.prepare(family.model, TEXTS)
    return family


def agree(closeness: Any, weights: Any, rtol: float = 1e-3) -> bool:
    """Whether evidence is twice the logarithm of weights, beside the diagonal."""
    beside = ~np.eye(len(weights), dtype=bool)
    return bool(np.allclose(closeness[beside], 2 * np.log(weights[beside]), rtol=rtol, atol=rtol))


CONTRACT = {
    "hidden": lambda m: WordInfluence(m),
    "masked": lambda m: WordInfluence(m, removal="mask" if m.kind == "encoder" else "mean"),
    "read-out": lambda m: WordInfluence(m, distribution="readout"),
    "relative": lambda m: RelativeInfluence(m),
    "edges": lambda m: EdgeInfluenceGraphs(m),
    "relative edges": lambda m: EdgeInfluenceGraphs(m, relative=True),
    "joint": lambda m: JointInfluence(m),
    "joint, none": lambda m: JointInfluence(m, choice="none"),
    "entropy": lambda m: UnsupervisedInfluence(m),
    "attention": lambda m: RelativeAttention(m),
    "combination": lambda m: InfluenceWithAttention(m),
}


@pytest.mark.parametrize("make", CONTRACT.values(), ids=CONTRACT)
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_each_family_keeps_the_contract_and_no_sentence_depends_on_others(small: Any, name: str, make: Any) -> None:
    model = small(name)
    family = prepared(make(model))
    readings = read(model)
    together = family.closeness(model, readings)
    assert len(set(family.variants)) == len(family.variants)
    for reading, found in zip(readings, together, strict=True):
        n = len(reading.tree)
        assert found.shape == (len(family.variants), n, n)
        assert np.isfinite(found).all()
        assert np.allclose(found, np.swapaxes(found, 1, 2), rtol=1e-9, atol=1e-12)
        (alone,) = family.closeness(model, [reading])
        assert np.allclose(found, alone, rtol=1e-3, atol=1e-3)
    assert not np.allclose(together[0][:, 0, 1], together[2][:, 0, 1], rtol=1e-3)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("distribution", ["effects", "states", "readout"])
def test_words_taken_away_are_measured_as_for_one_text(small: Any, name: str, distribution: Any) -> None:
    model = small(name)
    family = prepared(WordInfluence(model, distribution=distribution))
    reading: Any = "twice" if name == "gpt2" else "once"
    known = measure_influence(
        model, TEXTS[1], distribution=distribution, manifold="fixed covariance", reading=reading
    )
    found = family.closeness(model, read(model))[1]
    assert family.variants[:5] == ("layer 1, rows", "layer 1, none", "layer 1, symmetric", "layer 1, product",
                                   "layer 2, rows")
    for k, (layer, way) in enumerate(itertools.product((1, 2, 3), WAYS)):
        assert family.variants[k] == f"layer {layer}, {way}"
        expected = known.affinity(layer, normalization=way).values  # type: ignore[arg-type]
        assert np.allclose(found[k], expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_relative_influence_is_the_evidence_of_the_graph(small: Any, name: str) -> None:
    model = small(name)
    family = prepared(RelativeInfluence(model))
    found = dict(zip(family.variants, family.closeness(model, read(model))[1], strict=True))
    assert len(found) == 6 * len(EXPONENTS)
    for variant, layers, exponent in (
        ("layer 2, prior 1.0", 2, 1.0), ("layers 2 and 3, prior 1.5", [2, 3], 1.5),
        ("layers 1 to 3, prior 2.0", [1, 2, 3], 2.0),
    ):
        weights = influence_affinity(model, TEXTS[1], layers=layers, edges=[], prior_exponent=exponent)
        assert agree(found[variant], weights.values)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_edges_are_measured_as_for_one_text(small: Any, name: str) -> None:
    model = small(name)
    reading: Any = "twice" if name == "gpt2" else "once"
    plain, relative = prepared(EdgeInfluenceGraphs(model)), prepared(EdgeInfluenceGraphs(model, relative=True))
    known = measure_edge_influence(model, TEXTS[1], reading=reading)
    found = dict(zip(plain.variants, plain.closeness(model, read(model))[1], strict=True))
    assert tuple(found) == known.parts() == edge_names(model)
    for part, block, head in (("block 2, head 3", 2, 3), ("block 3", 3, None)):
        expected = known.affinity(block, head).values
        assert np.allclose(found[part], expected, rtol=1e-3, atol=1e-4 * expected.max())
    found = dict(zip(relative.variants, relative.closeness(model, read(model))[1], strict=True))
    for variant, edge, exponent in (("block 2, head 3, prior 1.25", (2, 3), 1.25), ("block 1, prior 1.5", 1, 1.5)):
        weights = influence_affinity(model, TEXTS[1], layers=[], edges=[edge], prior_exponent=exponent)
        assert agree(found[variant], weights.values)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_words_and_edges_together_are_the_influence_graph(small: Any, name: str) -> None:
    model = small(name)
    labels, none = prepared(JointInfluence(model)), prepared(JointInfluence(model, choice="none"))
    found = dict(zip(labels.variants, labels.closeness(model, read(model))[1], strict=True))
    for variant, layers, edge, exponent in (
        ("layer 2 with block 1, head 2, prior 1.25", [2], (1, 2), 1.25),
        ("layers 2 and 3 with block 3, prior 1.5", [2, 3], 3, 1.5),
    ):
        weights = influence_affinity(model, TEXTS[1], layers=layers, edges=[edge], prior_exponent=exponent)
        assert agree(found[variant], weights.values)
    assert none.variants == (f"layers 2 and 3 with blocks 2 to 3, prior {PRIOR_EXPONENT}",)
    assert agree(none.closeness(model, read(model))[1][0], influence_affinity(model, TEXTS[1]).values)


def test_the_layer_of_least_entropy_is_of_the_upper_half(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small("bert")
    family = prepared(UnsupervisedInfluence(model))
    entropies = np.zeros(3)
    for sentence in few_sentences(background_text(), 6):
        found = measure_influence(model, sentence, distribution="effects", manifold="fixed covariance")
        entropies += [row_entropies(v).mean() / np.log(len(found.words) - 1) / 6 for v in found.values]
    assert family.layer == 2 + int(np.argmin(entropies[1:]))
    rows = prepared(WordInfluence(model))
    at = rows.variants.index(f"layer {family.layer}, rows")
    for one, other in zip(family.closeness(model, read(model)), rows.closeness(model, read(model)), strict=True):
        assert np.allclose(one[0], other[at], rtol=1e-3)
    told: list[Any] = []
    monkeypatch.setattr(families_module, "row_entropies", lambda v: told.append(1) or np.stack(
        [np.full(v.shape[1], e) for e in (0.1, 0.5, 0.4)]
    ))
    assert prepared(UnsupervisedInfluence(model)).layer == 3
    assert told


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_attention_gets_the_same_treatment(small: Any, name: str) -> None:
    model = small(name)
    family = prepared(RelativeAttention(model))
    assert family.name == "attention head relative to distance"

    def shares(text: str) -> Any:
        acts = capture_activations(model, text, overflow="truncate")
        maps = acts.word_attention()[1, 2] * ~np.eye(len(acts.words), dtype=bool)
        return (maps + maps.T if name == "gpt2" else maps)[None]

    profile = distance_profile([row_ratios(shares(s)) for s in few_sentences(background_text(), 6)])
    z = profile.standardized(row_ratios(shares(TEXTS[1])))[0]
    at = family.variants.index("block 2, head 3, prior 1.0")
    found = family.closeness(model, read(model))[1][at]
    beside = ~np.eye(6, dtype=bool)
    assert np.allclose(found[beside], (z + z.T - log_offsets(6))[beside], rtol=1e-3, atol=1e-3)


def test_attention_read_twice_is_to_both_copies(small: Any) -> None:
    model = small("gpt2")
    family = prepared(attention_read_twice(model))
    assert family.name == "attention head relative to distance, read twice"

    def shares(text: str) -> Any:
        acts = capture_activations(model, f"{text} {text}")
        n = len(acts.words) // 2
        maps = acts.word_attention()[0, 1]
        found = np.zeros((1, n, n))
        for i, j in itertools.permutations(range(n), 2):
            found[0, i, j] = maps[i + n, j] + maps[i + n, j + n]
        return found

    short = [item.text for item in (
        relative_attention.prepare_reading(model, s, None, "truncate", "twice")
        for s in few_sentences(background_text(), 6)
    )]
    profile = distance_profile([row_ratios(shares(s)) for s in short])
    z = profile.standardized(row_ratios(shares(TEXTS[0])))[0]
    at = family.variants.index("block 1, head 2, prior 2.0")
    found = family.closeness(model, read(model))[0][at]
    beside = ~np.eye(4, dtype=bool)
    assert np.allclose(found[beside], (z + z.T - 2 * log_offsets(4))[beside], rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelError, match="no causal model"):
        attention_read_twice(small("bert"))


def test_influence_with_attention_is_the_mean_of_both(small: Any) -> None:
    model, readings = small("bert"), read(small("bert"))
    both, words, heads = (
        prepared(f(model)) for f in (InfluenceWithAttention, RelativeInfluence, RelativeAttention)
    )
    assert both.kind == "combination"
    found, first, second = (
        dict(zip(f.variants, f.closeness(model, readings)[2], strict=True)) for f in (both, words, heads)
    )
    for layers, size in (("layer 3", 1), ("layers 2 and 3", 2)):
        mean = (size * first[f"{layers}, prior 1.5"] + second["block 3, head 1, prior 1.5"]) / (size + 1)
        assert np.allclose(found[f"{layers} with attention of block 3, head 1, prior 1.5"], mean, atol=1e-9)


# Measured once, and only once for the same sentences


def test_families_share_what_is_measured(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, readings = small("bert"), read(small("bert"))
    word, relative = prepared(WordInfluence(model)), prepared(RelativeInfluence(model))
    joint = prepared(JointInfluence(model))
    counted: list[int] = []
    own = influence_meter.measure_influence

    def counting(model: Any, texts: Any, **more: Any) -> Any:
        counted.append(len(texts))
        return own(model, texts, **more)

    monkeypatch.setattr(influence_meter, "measure_influence", counting)
    for family in (word, relative, joint, word):
        family.closeness(model, readings)
    assert counted == [3]
    one = word.closeness(model, readings[:1])[0]
    other = word.closeness(model, readings[2:])[0]
    assert counted == [3, 1, 1]
    assert one.shape == other.shape
    assert not np.allclose(one, other, rtol=1e-3)


def test_sentences_read_anew_are_measured_anew(small: Any) -> None:
    model = small("bert")
    family = prepared(WordInfluence(model))
    seen = []
    for text in ("She sells sea shells", "The dog ran home", "It was so cold"):
        readings = read(model, [text])  # the one before may be gone, and its place in memory taken
        seen.append(family.closeness(model, readings)[0])
        del readings
    assert not np.allclose(seen[0], seen[1], rtol=1e-3)
    assert not np.allclose(seen[1], seen[2], rtol=1e-3)


def test_other_weights_are_measured_anew(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("bert")
    model = load_model(net, tokenizer=tokenizer)
    first = measurements(model, words=True)
    assert measurements(model, words=True) is first
    assert measurements(model, words=True, removal="mask") is not first
    with torch.no_grad():
        net.bert.encoder.layer[0].output.dense.bias.add_(0.5)
    assert measurements(model, words=True) is not first


# Names and refusals


def test_names_are_those_of_the_registry(small: Any) -> None:
    for name in FAMILIES:
        if "influence" in name or "relative to distance" in name:
            try:
                family = FAMILIES[name](small("gpt2"))
            except ModelError:
                continue
            assert family.name == name
    bert = small("bert")
    assert WordInfluence(bert, removal="mask").name == "influence, word masked"
    assert WordInfluence(bert, blocks=(1, 2), distribution="states").name == (
        "influence, word hidden in blocks 1, 2, states"
    )
    assert WordInfluence(bert, manifold="all normals").name == "influence, word hidden, all normals"
    assert RelativeInfluence(bert, removal="delete").name == "influence relative to distance, delete"
    assert [set_name(s) for s in layer_sets(3)[2:]] == ["layer 3", "layers 1 and 2", "layers 2 and 3", "layers 1 to 3"]


def test_words_hidden_in_some_blocks_are_another_family(small: Any) -> None:
    model, readings = small("bert"), read(small("bert"))
    everywhere, late = prepared(WordInfluence(model)), prepared(WordInfluence(model, blocks=(3,)))
    assert late.variants == everywhere.variants[8:]  # before block 3 nothing is hidden, so that nothing moves
    whole, some = (f.closeness(model, readings)[0] for f in (everywhere, late))
    assert not np.allclose(whole[8:], some, rtol=1e-2)
    known = measure_influence(
        model, TEXTS[0], blocks=[3], layers=3, distribution="effects", manifold="fixed covariance"
    )
    assert np.allclose(some[0], known.affinity(3).values, rtol=1e-3)


def test_relative_to_distance_words_may_be_hidden_in_some_blocks(small: Any) -> None:
    model, readings = small("bert"), read(small("bert"))
    late = prepared(RelativeInfluence(model, blocks=(2, 3)))
    assert late.name == "influence relative to distance, hidden in blocks 2, 3"
    assert {v.partition(",")[0] for v in late.variants} == {"layer 2", "layer 3", "layers 2 and 3"}
    hidden: Any = {"blocks": [2, 3], "layers": 3, "distribution": "effects", "manifold": "fixed covariance"}
    profile = distance_profile([
        row_ratios(measure_influence(model, s, **hidden).values) for s in few_sentences(background_text(), 6)
    ])
    z = profile.standardized(row_ratios(measure_influence(model, TEXTS[1], **hidden).values))[0]
    found = late.closeness(model, readings)[1][late.variants.index("layer 3, prior 1.0")]
    beside = ~np.eye(6, dtype=bool)
    assert np.allclose(found[beside], (z + z.T - log_offsets(6))[beside], rtol=1e-3, atol=1e-3)


def test_families_refuse_what_a_model_cannot_do(small: Any, minilm: Any) -> None:
    with pytest.raises(ModelError, match="no causal model"):
        read_once(small("bert"))
    once = prepared(read_once(small("gpt2")))
    assert once.name == "influence, word hidden, read once"
    found = measure_influence(small("gpt2"), TEXTS[0], distribution="effects", manifold="fixed covariance")
    assert np.allclose(
        once.closeness(small("gpt2"), read(small("gpt2")))[0][0], found.affinity(1).values, rtol=1e-3, atol=1e-5
    )
    with pytest.raises(ModelError, match="has no head"):
        WordInfluence(minilm, distribution="readout")
    with pytest.raises(ModelError, match="predicts with its decoder"):
        WordInfluence(small("t5"), distribution="readout")
    for family in (WordInfluence, RelativeInfluence):
        with pytest.raises(ModelError, match="no mask token"):
            family(small("gpt2"), removal="mask")
    with pytest.raises(ArgumentError, match="thrice"):
        RelativeInfluence(small("bert"), reading="thrice")  # type: ignore[arg-type]
    mamba = load_model(make_specimen("mamba"), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match="take words away by 'delete'"):
        WordInfluence(mamba)
    for family in (EdgeInfluenceGraphs, JointInfluence, RelativeAttention, InfluenceWithAttention):
        with pytest.raises(ModelError, match="no attention"):
            family(mamba)  # type: ignore[operator]
    for make in CONTRACT.values():
        with pytest.raises((ArgumentError, AttributeError)):
            make("bert")  # type: ignore[no-untyped-call]
