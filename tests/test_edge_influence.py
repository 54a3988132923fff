"""Influence of single edges: the closed form against attention that is really hidden, word by word and head by head."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from conftest import few_sentences  # noqa: E402
from model_zoo import ZOO, make_specimen, make_tokenizer  # noqa: E402

from infogeo import EdgeInfluence, EffectsBackground, minimum_spanning_tree, symmetrized_influence  # noqa: E402
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError, TextError  # noqa: E402
from infogeo.influence import normal_lengths, row_shares  # noqa: E402
from infogeo.results import Source  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    capture_activations,
    edge_background,
    load_model,
    measure_edge_influence,
    measure_influence,
)
from infogeo_adapters.transformers import _edge_effects, _edge_reader, edge_influence  # noqa: E402
from infogeo_adapters.transformers._edge_effects import NOTHING_LEFT, WordTokens, head_effects  # noqa: E402
from infogeo_adapters.transformers._edge_reader import EdgeReader  # noqa: E402
from infogeo_adapters.transformers.edge_influence import EdgeMeter  # noqa: E402

TEXT = "the cat sat on the mat and ran"


def close(a: Any, b: Any, rtol: float = 1e-8) -> bool:
    return bool(np.abs(np.asarray(a) - np.asarray(b)).max() <= rtol * max(np.abs(np.asarray(b)).max(), 1e-12))


# The closed form by hand


def hidden_by_hand(scores: Any, sink: Any, values: Any, reads: Any, takes: Any) -> Any:
    """What heads put out without each word, less with it: a softmax with minus infinity, token by token."""
    heads, tokens, _ = scores.shape
    n = len(reads)
    found = np.zeros((heads, n, n, values.shape[-1]))

    def put_out(h: int, t: int, gone: Any) -> Any:
        row = [-np.inf if k in gone else scores[h, t, k] for k in range(tokens)]
        if sink is not None:
            row.append(sink[h])
        top = max(row)
        if top == -np.inf:
            return np.zeros(values.shape[-1])
        weights = np.exp(np.array(row) - top)
        weights /= weights.sum()
        return sum(weights[k] * values[h, k] for k in range(tokens))

    for h in range(heads):
        for i in range(n):
            for j in range(n):
                if i == j:
                    continue
                gone = set(np.flatnonzero(takes[j]).tolist())
                for t in np.flatnonzero(reads[i]):
                    found[h, i, j] += reads[i, t] * (put_out(h, t, gone) - put_out(h, t, set()))
    return found


def softmaxed(scores: Any, sink: Any) -> Any:
    every = scores if sink is None else np.concatenate(
        [scores, np.broadcast_to(sink[:, None, None], (*scores.shape[:2], 1))], axis=-1
    )
    weights = np.exp(every - every.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights[..., : scores.shape[-1]]


@pytest.mark.parametrize("sunk", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_the_closed_form_is_a_softmax_with_a_word_hidden(sunk: bool, causal: bool) -> None:
    rng = np.random.default_rng(3)
    heads, tokens, width = 3, 9, 4
    scores = rng.normal(size=(heads, tokens, tokens)) * 3
    if causal:
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    sink = rng.normal(size=heads) if sunk else None
    values = rng.normal(size=(heads, tokens, width))
    # the first and the last token belong to no word; words of one, two and three tokens; one is read at two of three
    table = np.array([-1, 0, 1, 1, 2, 2, 2, 3, -1])
    takes = (table[None] == np.arange(4)[:, None]).astype(float)
    reads = takes.copy()
    reads[2, 4] = 0.0
    reads /= reads.sum(axis=1, keepdims=True)
    found = head_effects(softmaxed(scores, sink), values, reads, takes)
    assert close(found, hidden_by_hand(scores, sink, values, reads, takes), 1e-12)
    assert found.any()
    if causal:
        assert not np.triu(np.abs(found).sum(axis=-1), 1).any()
    for part in (slice(0, 1), slice(1, 3), slice(3, 4)):
        some = head_effects(softmaxed(scores, sink), values, reads, takes, words=part)
        assert close(some, found[:, part], 1e-12)


def test_a_head_that_looks_at_one_word_alone_puts_out_nothing_without_it() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 2))
    maps = np.array([[[0.0, 1.0, 0.0], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]])
    found = head_effects(maps, values, np.eye(3), np.eye(3))
    assert np.allclose(found[0, 0, 1], -values[0, 1])
    assert np.allclose(found[0, 2, 1], -values[0, 1])
    assert np.array_equal(found[0, 0, 2], [0.0, 0.0])
    assert np.array_equal(found[0, 0, 0], [0.0, 0.0])
    assert np.allclose(found[0, 1, 0], (0.5 * values[0, 1] + 0.3 * values[0, 2]) / 0.8 - maps[0, 1] @ values[0])


@pytest.mark.parametrize("left", [1e-2, 1e-6, 1e-8, 1e-20])
def test_what_is_left_of_a_weight_near_one_is_exact_though_rows_are_rounded(left: float) -> None:
    values = np.array([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    # single precision: the row sums to one but for 3e-8 at most
    row = np.array([left, np.float32(1 - left), left / 2], dtype=np.float32).astype(float)
    maps = np.stack([row, row, row])[None]
    found = head_effects(maps, values, np.eye(3), np.eye(3))[0, 0, 1]
    rest = (values[0, 0] * 2 + values[0, 2]) / 3
    out = row @ values[0] / row.sum()
    assert np.allclose(found, rest - out, rtol=1e-6)


def test_below_the_least_weight_nothing_is_left() -> None:
    values = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    for left, without in ((NOTHING_LEFT / 3, [0.0, 0.0]), (0.0, [0.0, 0.0]), (NOTHING_LEFT * 3, [1.0, 0.0])):
        maps = np.array([[[left, 1 - left], [0.5, 0.5]]])
        found = head_effects(maps, values, np.eye(2), np.eye(2))[0, 0, 1]
        assert np.allclose(found, np.array(without) - [0.0, 1.0], atol=1e-6)


# Against models that are really made not to look


@contextlib.contextmanager
def not_looking(net: Any, layer: Any, head: int | None, looks: list[int], hidden: list[int]) -> Iterator[None]:
    """Scores set to minus infinity in one block before the softmax, in one head or in all, for some queries."""
    inside = [False]
    own = torch.nn.functional.softmax

    def changed(scores: Any, *args: Any, **more: Any) -> Any:
        if inside[0] and scores.ndim == 4:
            scores = scores.clone()
            for t in looks:
                scores[:, slice(None) if head is None else head, t, hidden] = float("-inf")
        return own(scores, *args, **more)

    def enter(*args: Any) -> None:
        inside[0] = True

    def leave(*args: Any) -> None:
        inside[0] = False

    handles = [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.nn.functional, "softmax", changed)
    patch.setattr(torch, "softmax", changed)
    try:
        yield
    finally:
        patch.undo()
        for handle in handles:
            handle.remove()


def seen_at(net: Any, projection: Any, ids: Any) -> tuple[Any, Any]:
    """What goes into an output projection and what comes out of it, (T, ...)."""
    kept: list[Any] = []
    handle = projection.register_forward_hook(lambda m, args, out: kept.append((args[0][0], out[0])))
    runs = net.get_encoder() if net.config.is_encoder_decoder else net
    try:
        with torch.no_grad():
            runs(input_ids=ids)
    finally:
        handle.remove()
    return kept[0][0].numpy(), kept[0][1].numpy()


OUTPUTS = {
    "bert": ("bert.encoder.layer.{}", "attention.output.dense"),
    "gpt2": ("transformer.h.{}", "attn.c_proj"),
    "llama": ("model.layers.{}", "self_attn.o_proj"),
    "mistral": ("model.layers.{}", "self_attn.o_proj"),
    "qwen2": ("model.layers.{}", "self_attn.o_proj"),
    "gpt-oss": ("model.layers.{}", "self_attn.o_proj"),
    "gemma2": ("model.layers.{}", "self_attn.o_proj"),
    "t5": ("encoder.block.{}", "layer.0.SelfAttention.o"),
    "bart": ("model.encoder.layers.{}", "self_attn.out_proj"),
}
"""Blocks and output projections, by hand: encoders, causal models, shared key-value heads, windows, sinks, caps."""


@pytest.mark.parametrize("name", OUTPUTS)
def test_effects_are_those_of_a_model_that_may_not_look(name: str) -> None:
    net = make_specimen(name)
    exact = name in ("bert", "gpt2", "bart")  # the others turn their scores into single precision
    net = net.double() if exact else net
    model = load_model(copy.deepcopy(net), tokenizer=make_tokenizer())
    net.set_attn_implementation("eager")
    rounding = 1e-10 if exact else 2e-5
    # two words of two tokens, and single ones
    spans = [(0, 7), (8, 11), (12, 18), (19, 22), (23, 26)]
    (effects,) = EdgeReader(model).effects([TEXT[:26]], [spans], "once", overflow="error", batch_tokens=4096)
    ids = torch.tensor(effects.item.tokens.ids)[None]
    tokens = [np.flatnonzero(effects.item.table == i).tolist() for i in range(5)]
    assert sorted(map(len, tokens)) == [1, 1, 1, 2, 2]
    path, inner = OUTPUTS[name]
    block = 2
    mine = next(e for e in effects.blocks if e.block == block)
    layer = net.get_submodule(path.format(block - 1))
    projection = layer.get_submodule(inner)
    before, said = seen_at(net, projection, ids)
    heads, width = len(mine.maps), mine.values.shape[-1]
    found, whole = mine.heads(), mine.whole()
    for i, j in ((3, 0), (2, 1), (4, 3), (2, 0), (0, 2)):
        with not_looking(net, layer, None, tokens[i], tokens[j]):
            after, told = seen_at(net, projection, ids)
        change = (after - before)[tokens[i]].mean(axis=0).reshape(heads, width)
        if effects.causal and j > i:
            assert not found[:, i, j].any()
            assert not whole[i, j].any()
            continue
        assert np.isfinite(change).all()
        scale, size = np.abs(before).max(), np.abs(said).max()
        assert np.abs(found[:, i, j] - change).max() < rounding * scale, (i, j)
        assert np.abs(whole[i, j] - (told - said)[tokens[i]].mean(axis=0)).max() < rounding * size
        others = [t for k in range(5) if k != i for t in tokens[k]]
        assert np.array_equal(after[others], before[others])
        with not_looking(net, layer, 1, tokens[i], tokens[j]):
            only, _ = seen_at(net, projection, ids)
        change = (only - before)[tokens[i]].mean(axis=0).reshape(heads, width)
        assert not np.delete(change, 1, axis=0).any()
        assert np.abs(found[1, i, j] - change[1]).max() < rounding * scale
    assert np.abs(found).max() > 1e-3
    rows = mine.maps.sum(axis=-1)
    assert (rows < 0.999).any() == (name == "gpt-oss")


WITHOUT = {
    "mamba": "no attention", "gemma3n": "residual stream", "xlnet": "the part 'value' of block 1 was not found",
}
"""Architectures whose edges cannot be cut, and what the error says."""


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_is_taken_apart_or_refused_with_a_reason(name: str) -> None:
    if name in WITHOUT:
        with pytest.raises(ModelError, match=WITHOUT[name]):
            EdgeReader(load_model(make_specimen(name), tokenizer=make_tokenizer()))
        return
    reader = EdgeReader(load_model(make_specimen(name), tokenizer=make_tokenizer()))
    (effects,) = reader.effects([TEXT], [None], "once", overflow="error", batch_tokens=4096)
    assert len(effects.blocks) == len(reader.blocks) > 0
    for one in effects.blocks:
        assert one.heads().shape == (len(one.maps), 8, 8, one.values.shape[-1])
        assert one.whole().shape == (8, 8, effects.activations.hidden_states.shape[-1])
        assert np.isfinite(one.whole()).all()
    assert any(one.whole()[effects.movable()].any() for one in effects.blocks)


# Lengths


def bert_texts() -> list[str]:
    return ["The riverbank is unbelievable today", "It was raining.", "Stop!", "She sells sea shells by the well"]


@pytest.mark.parametrize("distribution", ["effects", "isotropic"])
@pytest.mark.parametrize("manifold", ["fixed covariance", "all normals"])
def test_influence_is_the_length_of_effects(tiny: Any, distribution: Any, manifold: Any) -> None:
    model, text = tiny("bert"), bert_texts()[0]
    found = measure_edge_influence(model, text, blocks=[3, 1], distribution=distribution, manifold=manifold)
    known = edge_background(model, reading="once")
    reader = EdgeReader(model, [1, 3])
    (effects,) = reader.effects([text], [None], "once", overflow="error", batch_tokens=4096)
    assert found.blocks == (1, 3)
    assert found.words == ("The", "riverbank", "is", "unbelievable", "today")
    for a, one in enumerate(effects.blocks):
        intensity: Any = {"shrinkage": 1.0} if distribution == "isotropic" else {}
        of_heads, of_whole = known[one.block]
        for h in range(4):
            precision = np.linalg.inv(of_heads.shrunk_covariance(h + 1, **intensity)[0])
            for i in range(5):
                for j in range(5):
                    change = one.heads()[h, i, j]
                    m = np.sqrt(change @ precision @ change)
                    assert found.heads[a, h, i, j] == pytest.approx(float(normal_lengths(m, manifold)), rel=1e-9)
        precision = np.linalg.inv(of_whole.shrunk_covariance(one.block, **intensity)[0])
        squares = np.einsum("ijd,de,ije->ij", one.whole(), precision, one.whole())
        assert close(found.whole[a], normal_lengths(np.sqrt(squares), manifold))
    beside = ~np.eye(5, dtype=bool)
    assert (found.whole[:, beside] > 0).all()


def test_a_whole_block_is_no_head_alone(tiny: Any) -> None:
    model = tiny("gpt2")
    assert not measure_edge_influence(model, "She sells sea shells", blocks=[2]).whole[0, 0].any()
    found = measure_edge_influence(model, "She sells sea shells", blocks=[2])
    assert not close(found.whole[0], found.heads[0].sum(axis=0), 1e-2)


def test_the_background_is_the_covariance_of_effects_of_sentences(tiny: Any) -> None:
    model = tiny("llama")
    known = edge_background(model, reading="once", sentences=3)
    assert edge_background(model, reading="once", sentences=3) is known
    assert edge_background(model, reading="once", sentences=2) is not known
    texts = edge_influence.background_sentences(edge_influence.background_text(), 3)
    effects = list(EdgeReader(model).effects(texts, [None] * 3, "once", overflow="truncate", batch_tokens=4096))
    assert sorted(known) == [1, 2, 3]
    for block in (1, 3):
        rows = [[], []]
        for one in effects:
            n = len(one.item.spans)
            assert one.causal
            for i in range(n):
                for j in range(i):
                    rows[0].append(one.blocks[block - 1].heads()[2, i, j])
                    rows[1].append(one.blocks[block - 1].whole()[i, j])
        for background, layer, mine in zip(known[block], (3, block), rows, strict=True):
            at = background.layers.index(layer)
            assert isinstance(background, EffectsBackground)
            assert background.n_effects == len(mine)
            assert close(background.covariance[at], np.cov(np.array(mine).T, bias=True))
            assert close(background.mean[at], np.mean(mine, axis=0), 1e-6)
    assert known[1][0].source.options["sentences"] == 3


def test_a_head_that_moves_nothing_has_no_influence(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("bert")
    value = net.bert.encoder.layer[1].attention.self.value
    with torch.no_grad():
        value.weight[:8], value.bias[:8] = 0.0, 0.0
    found = measure_edge_influence(load_model(net, tokenizer=tokenizer), "She sells sea shells", blocks=[2])
    assert not found.heads[0, 0].any()
    assert (found.heads[0, 1:].max(axis=(1, 2)) > 0).all()
    assert np.isfinite(found.whole).all()


# Batches, memory, readings


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_a_batch_is_what_a_loop_gives(tiny: Any, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = tiny(family), bert_texts()
    alone = [measure_edge_influence(model, text) for text in texts]
    told: list[tuple[int, int]] = []
    many = measure_edge_influence(model, texts, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    monkeypatch.setattr(_edge_effects, "MOST_NUMBERS", 50)
    monkeypatch.setattr(_edge_reader, "MOST_WEIGHTS", 900)
    chunked = measure_edge_influence(model, texts, batch_tokens=12)
    for mine, other in zip([*many, *chunked], [*alone, *alone], strict=True):
        assert mine.words == other.words
        assert mine.source == other.source
        for a, b in ((mine.heads, other.heads), (mine.whole, other.whole)):
            assert np.abs(a - b).max(initial=0.0) <= 1e-3 * b.max(initial=1e-9)


def test_parts_of_a_text_are_small_and_make_the_whole() -> None:
    takes = np.repeat(np.eye(40), 2, axis=1)
    tokens = WordTokens(reads=takes / 2, takes=takes)
    assert list(tokens.parts(12, 32)) == [slice(0, 40)]
    parts = list(tokens.parts(12, 32 * 1000))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, 40)
    size = parts[0].stop
    assert size * 2 * 40 * 12 * 32 * 1000 <= _edge_effects.MOST_NUMBERS or size == 1


def test_texts_are_held_a_few_at_a_time(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    own = _edge_reader.capture_stages

    def noting(model: Any, texts: Any, **more: Any) -> Any:
        counts.append(len(texts))
        return own(model, texts, **more)

    monkeypatch.setattr(_edge_reader, "capture_stages", noting)
    reader = EdgeReader(tiny("bert"))
    texts = ["She sells shells"] * 5
    lengths = len(next(reader.effects(texts[:1], [None], "once", overflow="error", batch_tokens=99)).item.tokens.ids)
    monkeypatch.setattr(_edge_reader, "MOST_WEIGHTS", 2 * lengths**2 * 12)
    found = list(reader.effects(texts, [None] * 5, "once", overflow="error", batch_tokens=4096))
    assert len(found) == 5
    assert counts == [1, 2, 2, 1]


def test_activations_that_are_there_already_are_used(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = tiny("bert"), bert_texts()[:2]
    meter = EdgeMeter(model, None, "effects", "once")
    own = meter.measure(texts, [None, None])
    acts = capture_activations(model, texts)
    bare = capture_activations(model, texts, attention=False)

    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("captured again")

    monkeypatch.setattr(_edge_reader, "capture_activations", never)
    given = meter.measure(texts, [None, None], captured=acts)
    for a, b in zip(own, given, strict=True):
        assert close(a.whole, b.whole, 1e-5)
    with pytest.raises(ArgumentError, match="without attention"):
        meter.measure(texts, [None, None], captured=bare)
    with pytest.raises(ArgumentError, match="other tokens"):
        meter.measure(texts, [None, None], captured=acts[::-1])


def test_a_causal_model_read_twice_moves_earlier_words(tiny: Any) -> None:
    model, text = tiny("gpt2"), "She sells sea shells"
    once = measure_edge_influence(model, text)
    twice = measure_edge_influence(model, text, reading="twice")
    default = measure_edge_influence(model, text, reading=None)
    above = np.triu(np.ones((4, 4), dtype=bool), 1)
    assert once.causal
    assert not once.whole[:, above].any()
    assert not twice.causal
    assert (twice.whole[:, above] > 0).all()
    assert once.words == twice.words == ("She", "sells", "sea", "shells")
    assert (twice.reading, default.reading) == ("twice", "twice")
    assert np.array_equal(twice.whole, default.whole)
    assert twice.source.options["reading"] == "twice"
    assert twice.source.text_hash == once.source.text_hash


def test_read_twice_is_the_second_copy_without_both(tiny: Any) -> None:
    model, text = tiny("llama"), "She sells unbelievable shells"
    (effects,) = EdgeReader(model).effects([text], [None], "twice", overflow="error", batch_tokens=4096)
    acts = capture_activations(model, f"{text} {text}")
    assert acts.token_ids.tolist() == effects.activations.token_ids.tolist()
    one = effects.blocks[1]
    for i, j in ((0, 2), (3, 1), (2, 0)):
        looks = np.flatnonzero(acts.token_words == i + 4)
        hidden = np.isin(acts.token_words, (j, j + 4))
        for h in range(4):
            expected = np.zeros(one.values.shape[-1])
            for t in looks:
                weights = one.maps[h, t]
                kept = weights * ~hidden
                expected += (kept / kept.sum() - weights / weights.sum()) @ one.values[h] / len(looks)
            assert close(one.heads()[h, i, j], expected, 1e-6)


def test_the_model_is_left_as_it_was(tiny: Any, restored: Any) -> None:
    model = tiny("bart")
    restored(model.model)
    measure_edge_influence(model, "She sells sea shells", blocks=[1])


def test_influence_of_edges_is_not_that_of_words() -> None:
    text = "The old woman gave the dog a bone."
    model = load_model()
    with few_sentences():
        edges = measure_edge_influence(model, text, blocks=[4])
        words = measure_influence(model, text, layers=4, distribution="effects", manifold="fixed covariance")
    assert edges.whole.shape == words.values.shape
    seen = np.tril(np.ones((9, 9), dtype=bool), -1)
    together = np.corrcoef(np.log(edges.whole[0][seen]), np.log(words.values[0][seen]))[0, 1]
    assert 0.2 < together < 0.99


# What is refused


def test_arguments_are_refused_before_anything_is_run(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("bert")

    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("the model was run")

    monkeypatch.setattr(_edge_reader, "capture_activations", never)
    monkeypatch.setattr(_edge_reader, "capture_stages", never)
    for arguments, error, message in (
        ({"distribution": "states"}, ArgumentError, "'effects' or 'isotropic'"),
        ({"manifold": "half plane"}, ArgumentError, "all normals"),
        ({"reading": "thrice"}, ArgumentError, "'once' or 'twice'"),
        ({"overflow": "cut"}, ArgumentError, "truncate"),
        ({"batch_tokens": 0}, ArgumentError, "batch_tokens"),
        ({"blocks": [4]}, ArgumentError, r"found \[4\], wanted some of \[1, 2, 3\]"),
        ({"blocks": []}, ArgumentError, "found none"),
        ({"blocks": 2}, ArgumentError, "in a list"),
        ({"blocks": [1.5]}, ArgumentError, "blocks"),
        ({"progress": 3}, ArgumentError, "progress"),
        ({"words": ["She", "buys"]}, TextError, "buys"),
    ):
        with pytest.raises(error, match=message):
            measure_edge_influence(model, "She sells", **arguments)  # type: ignore[call-overload]
    for text, error, message in (
        ("", TextError, "empty"), (b"bytes", TextError, "bytes"), ([], TextError, "no texts"),
        (["She sells", " "], TextError, "text 1: found only white space"),
        ("shells " * 70, TextError, "context"),
    ):
        with pytest.raises(error, match=message):
            measure_edge_influence(model, text)
    with pytest.raises(ArgumentError, match="load_model"):
        measure_edge_influence("bert", "She sells")  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="load_model"):
        edge_background("bert")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="sentences"):
        edge_background(model, sentences=0)


def test_attention_that_is_no_sum_of_values_is_refused(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("llama")
    model = load_model(net, tokenizer=tokenizer)
    reader = EdgeReader(model)
    gate = net.model.layers[1].self_attn.o_proj.register_forward_hook(lambda m, args, out: out * (1 + out))
    try:
        with pytest.raises(ModelError, match=r"block 2 returns differs .* cannot be taken apart"):
            list(reader.effects(["She sells shells"], [None], "once", overflow="error", batch_tokens=99))
    finally:
        gate.remove()
    assert list(reader.effects(["She sells shells"], [None], "once", overflow="error", batch_tokens=99))


def test_one_token_does_not_show_that_attention_can_be_taken_apart(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("gpt2")
    reader = EdgeReader(load_model(net, tokenizer=tokenizer))
    gate = net.transformer.h[0].attn.c_proj.register_forward_hook(lambda m, args, out: out * (1 + out))
    try:
        (effects,) = reader.effects(["S"], [None], "once", overflow="error", batch_tokens=99)
        assert len(effects.item.tokens.ids) == 1
        with pytest.raises(ModelError, match="cannot be taken apart"):
            list(reader.effects(["She sells"], [None], "once", overflow="error", batch_tokens=99))
    finally:
        gate.remove()


def test_a_model_without_attention_is_refused() -> None:
    model = load_model(make_specimen("mamba"), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match="no attention"):
        measure_edge_influence(model, TEXT)


def test_a_text_that_is_too_long_twice_is_cut_where_asked(tiny: Any) -> None:
    model = tiny("gpt2")
    text = " ".join(["shells"] * 12)
    assert len(measure_edge_influence(model, text, blocks=[1]).words) == 12
    with pytest.raises(TextError, match="read twice in a row"):
        measure_edge_influence(model, text, blocks=[1], reading="twice")
    cut = measure_edge_influence(model, text, blocks=[1], reading="twice", overflow="truncate")
    assert 4 <= len(cut.words) < 12
    assert cut.source.options["truncated_words"] == 12 - len(cut.words)


# Results


def some_result(**more: Any) -> EdgeInfluence:
    values = np.random.default_rng(1).gamma(2.0, size=(2, 4, 3, 3)) * ~np.eye(3, dtype=bool)
    given: dict[str, Any] = {
        "heads": values[:, :3], "whole": values[:, 3], "words": ("a", "b", "c"), "blocks": (2, 5),
        "distribution": "effects", "reading": "once", "causal": False, "source": Source(model="m"),
    }
    return EdgeInfluence(**{**given, **more})


def test_parts_stand_in_the_order_of_values() -> None:
    found = some_result()
    assert found.n_heads == 3
    assert found.parts() == (
        "block 2, head 1", "block 2, head 2", "block 2, head 3", "block 5, head 1", "block 5, head 2",
        "block 5, head 3", "block 2", "block 5",
    )
    assert np.array_equal(found.values()[4], found.heads[1, 1])
    assert np.array_equal(found.values()[7], found.whole[1])
    header, rows = found.rows()
    assert header == ("part", "word", "without", "influence")
    assert len(rows) == 8 * 6
    assert rows[0] == ("block 2, head 1", "a", "b", found.heads[0, 0, 0, 1])
    assert found.summary() == "EdgeInfluence of 3 words in 2 blocks of 3 heads, read once (m)"
    with pytest.raises(ValueError, match="read-only"):
        found.heads[0] = 0.0


def test_an_affinity_is_that_of_the_part() -> None:
    found = some_result()
    whole, head = found.affinity(5), found.affinity(2, 3, normalization="none", symmetrized=None)
    assert np.allclose(whole.values, symmetrized_influence(row_shares(found.whole[1])))
    assert (whole.layer, whole.head, whole.directed) == (5, None, False)
    assert np.array_equal(head.values, found.heads[0, 2])
    assert (head.layer, head.head, head.directed) == (2, 3, True)
    assert head.name == "influence of single edges in block 2, head 3, effects"
    assert minimum_spanning_tree(whole).n_edges == 2
    lower = np.tril(found.heads), np.tril(found.whole)
    causal = some_result(heads=lower[0], whole=lower[1], causal=True).affinity(2, 1)
    assert np.allclose(causal.values, np.maximum(row_shares(lower[0])[0, 0], row_shares(lower[0])[0, 0].T))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"block": 3}, r"found 3, wanted one of \[2, 5\]"), ({"block": 2, "head": 4}, "found 4, wanted one from 1 to 3"),
    ({"block": 2, "head": 0}, "found 0"), ({"block": "2"}, "block"),
    ({"block": 2, "normalization": "columns"}, "columns"), ({"block": 2, "symmetrized": "mean"}, "mean"),
])
def test_an_affinity_that_is_not_there_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        some_result().affinity(**arguments)


@pytest.mark.parametrize(("more", "error", "message"), [
    ({"whole": np.zeros((2, 3, 2))}, ShapeError, "whole"), ({"blocks": (1,)}, ShapeError, "heads"),
    ({"words": ("a", "b")}, ShapeError, "heads"), ({"causal": True}, DomainError, "later word"),
    ({"whole": -np.ones((2, 3, 3)) * ~np.eye(3, dtype=bool)}, DomainError, "below zero"),
    ({"whole": np.ones((2, 3, 3))}, DomainError, "diagonal"),
    ({"heads": np.full((2, 3, 3, 3), np.nan)}, DomainError, "heads"),
])
def test_what_is_no_influence_of_edges_is_refused(more: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        some_result(**more)
