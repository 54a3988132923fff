"""Capture of both stacks of an encoder-decoder model, against the model's own pass with labels; and its result."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from model_zoo import ZOO, make_net, make_specimen, make_tokenizer

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo.activations import AttentionKind, EncoderDecoderActivations  # noqa: E402
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError, TextError  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    capture_activations,
    capture_encoder_decoder,
    find_readout,
    load_model,
)
from infogeo_adapters.transformers import forward, pairs  # noqa: E402
from infogeo_adapters.transformers.forward import padding_differences  # noqa: E402

NAMES = ("t5", "t5, untied", "umt5", "bart", "mbart", "pegasus", "marian")
SOURCES = [
    "The quick fox ran.",
    "Don't stop! said the old man, it's only 3.14 miles.",
    "x",
    "She sells sea shells.",
]
TARGETS = ["All the children ran home.", "x", "He doesn't believe it (or so he said).", "sea"]
ROUNDING = 1e-10
"""Of states in float64, relative to the largest."""


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Any]) -> Callable[[str], Any]:
    """A small model of each family in float64, with the subword tokenizer of the tiny BART (pad 1, bos 0, eos 2)."""

    @cache
    def make(name: str) -> Any:
        entry = ZOO[name]
        ids: dict[str, Any] = {"vocab_size": 345, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        if name != "mbart":
            ids["decoder_start_token_id"] = 2
        net = make_net(entry.model, entry.config, {**entry.settings, **ids}).double()
        return load_model(net, tokenizer=tiny("bart").tokenizer)

    return make


@pytest.fixture(params=["t5", "mbart", "marian"])
def one_of_each_kind(request: pytest.FixtureRequest, model: Callable[[str], Any]) -> Any:
    return model(request.param)


@pytest.fixture(params=NAMES)
def any_pair_model(request: pytest.FixtureRequest, model: Callable[[str], Any]) -> Any:
    return model(request.param)


def labels_of(model: Any, target: str) -> Any:
    return torch.tensor([model.tokenizer(text_target=target).input_ids])


def own_pass(model: Any, text: str, target: str) -> Any:
    """What transformers itself gives for labels, with eager attention, by a copy of the model."""
    net = copy.deepcopy(model.model)
    net.set_attn_implementation("eager")
    ids = torch.tensor([model.tokenizer(text).input_ids])
    with torch.no_grad():
        return net(
            input_ids=ids, labels=labels_of(model, target), output_hidden_states=True, output_attentions=True,
            use_cache=False,
        )


def close(a: Any, b: Any, tolerance: float = ROUNDING) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and float(np.abs(a - b).max()) <= tolerance * max(1.0, float(np.abs(b).max()))


def same(a: EncoderDecoderActivations, b: EncoderDecoderActivations) -> None:
    """Two captures of one pair agree in everything."""
    for one, other in ((a.encoder, b.encoder), (a.decoder, b.decoder)):
        for name in ("text", "words", "tokens", "attention_layers", "attention_kinds", "causal", "source"):
            assert getattr(one, name) == getattr(other, name), name
        for name in ("word_spans", "token_ids", "token_spans", "token_words", "special"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert close(one.hidden_states, other.hidden_states)
        assert (one.attention is None) == (other.attention is None)
        assert one.attention is None or close(one.attention, other.attention)
    assert np.array_equal(a.target_ids, b.target_ids)
    assert a.cross_attention_layers == b.cross_attention_layers
    assert (a.cross_attention is None) == (b.cross_attention is None)
    assert a.cross_attention is None or close(a.cross_attention, b.cross_attention)


# The numbers


def test_both_stacks_are_the_models_own(any_pair_model):
    acts = capture_encoder_decoder(any_pair_model, SOURCES[1], TARGETS[2])
    own = own_pass(any_pair_model, SOURCES[1], TARGETS[2])
    for mine, theirs in ((acts.encoder, own.encoder_hidden_states), (acts.decoder, own.decoder_hidden_states)):
        assert len(mine.hidden_states) == len(theirs)
        for layer in range(mine.n_layers):  # the last is normed in some of these models; the logits show it
            assert close(mine.hidden_states[layer], theirs[layer][0]), layer
    logits = find_readout(any_pair_model).logits(torch.tensor(acts.decoder.hidden_states[-1])).detach()
    assert close(logits, own.logits[0])
    shifted = torch.log_softmax(own.logits[0], -1)[range(len(acts.target_ids)), acts.target_ids.tolist()]
    assert close(-shifted.mean(), own.loss), "target_ids are what the model's loss is of"
    for mine, theirs in (
        (acts.encoder.attention, own.encoder_attentions), (acts.decoder.attention, own.decoder_attentions),
        (acts.cross_attention, own.cross_attentions),
    ):
        assert len(mine) == len(theirs)
        assert all(close(a, b[0]) for a, b in zip(mine, theirs, strict=True))
        assert mine.std() > 0.004, "uniform attention would hide mistakes"
    assert acts.cross_attention.shape == (3, 2, len(acts.decoder.tokens), len(acts.encoder.tokens))
    assert np.triu(acts.decoder.attention, 1).max() == 0
    assert (acts.encoder.causal, acts.decoder.causal) == (False, True)
    assert acts.cross_attention_layers == acts.decoder.attention_layers == (1, 2, 3)
    kinds = acts.encoder.attention_kinds + acts.decoder.attention_kinds + acts.cross_attention_kinds
    wanted = [("encoder", "self", False)] * 2 + [("decoder", "self", True)] * 3 + [("decoder", "cross", False)] * 3
    assert [(k.side, k.kind, k.causal) for k in kinds] == wanted
    assert {(k.query_heads, k.key_value_heads, k.window, k.sink, k.implementation) for k in kinds} == {
        (2, 2, None, False, "sdpa")
    }


def test_the_decoder_reads_what_the_model_makes_of_labels(any_pair_model):
    acts = capture_encoder_decoder(any_pair_model, SOURCES[0], TARGETS[0])
    labels = labels_of(any_pair_model, TARGETS[0])
    assert acts.target_ids.tolist() == labels[0].tolist()
    seen = []
    handle = any_pair_model.model.get_decoder().register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    try:
        with torch.no_grad():
            any_pair_model.model(input_ids=torch.tensor([[5, 6]]), labels=labels)
    finally:
        handle.remove()
    assert acts.decoder.token_ids.tolist() == seen[0][0].tolist()
    assert acts.decoder.token_ids[1:].tolist() == labels[0, :-1].tolist()


def test_the_encoder_is_that_of_capture_activations(one_of_each_kind):
    acts = capture_encoder_decoder(one_of_each_kind, SOURCES[1], TARGETS[0])
    alone = capture_activations(one_of_each_kind, SOURCES[1])
    assert np.array_equal(acts.encoder.hidden_states, alone.hidden_states)
    assert np.array_equal(acts.encoder.attention, alone.attention)
    assert acts.encoder.source == alone.source


def test_no_position_sees_a_later_label_and_all_see_the_source(one_of_each_kind):
    acts = capture_encoder_decoder(one_of_each_kind, SOURCES[0], "the old man ran home")
    later = capture_encoder_decoder(one_of_each_kind, SOURCES[0], "the old man ran it")
    labels = acts.target_ids.tolist(), later.target_ids.tolist()
    first = next(t for t, (a, b) in enumerate(zip(*labels, strict=False)) if a != b)
    assert first > 2
    assert close(acts.decoder.hidden_states[:, : first + 1], later.decoder.hidden_states[:, : first + 1])
    assert not close(acts.decoder.hidden_states[-1, first + 1], later.decoder.hidden_states[-1, first + 1], 1e-4)
    other = capture_encoder_decoder(one_of_each_kind, SOURCES[3], "the old man ran home")
    assert np.array_equal(other.decoder.hidden_states[0], acts.decoder.hidden_states[0])
    moved = np.abs(other.decoder.hidden_states[-1] - acts.decoder.hidden_states[-1]).max(axis=1)
    assert moved.min() > 1e-6


# Batches and padding


def test_alone_and_in_a_batch(any_pair_model):
    alone = [capture_encoder_decoder(any_pair_model, *pair) for pair in zip(SOURCES, TARGETS, strict=True)]
    for batch_tokens in (60, 4096):
        together = capture_encoder_decoder(any_pair_model, SOURCES, TARGETS, batch_tokens=batch_tokens)
        assert [(a.encoder.text, a.decoder.text) for a in together] == list(zip(SOURCES, TARGETS, strict=True))
        for a, b in zip(together, alone, strict=True):
            same(a, b)


def test_a_batch_is_really_padded_on_both_sides(model, monkeypatch):
    shapes = []
    real = forward.run_model

    def spy(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        shapes.append((tuple(ids.shape), int(mask.sum())))
        return real(part, ids, mask, **more)

    monkeypatch.setattr(forward, "run_model", spy)
    together = capture_encoder_decoder(model("bart"), SOURCES, TARGETS)
    lengths = [[len(side.tokens) for side in (a.encoder, a.decoder)] for a in together]
    wanted = [((4, max(side)), sum(side)) for side in zip(*lengths, strict=True)]
    assert shapes == wanted
    assert all(rows * width > real for (rows, width), real in shapes)


def test_batches_hold_at_most_the_tokens_asked_for():
    lengths = [(7, 2), (3, 9), (9, 1), (3, 3), (20, 5), (1, 1)]
    batches = list(pairs.batches_of_pairs(lengths, 30, exact=True))
    assert sorted(i for b in batches for i in b) == list(range(6))
    for b in batches:
        size = len(b) * (max(lengths[i][0] for i in b) + max(lengths[i][1] for i in b))
        assert size <= 30 or len(b) == 1
    assert max(map(len, batches)) > 1
    for b in pairs.batches_of_pairs([(2, 3), (3, 2), (2, 3)], 4096, exact=False):
        assert len({[(2, 3), (3, 2), (2, 3)][i] for i in b}) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "opt", "roberta", "mpnet", "t5", "bart", "mamba", "xlnet"])
def test_padding_changes_nothing(name, restored):
    found = load_model(restored(make_specimen(name)), tokenizer=make_tokenizer())
    differences = padding_differences(found)
    assert set(differences) == {"right", "left"} | ({"decoder"} if found.kind == "encoder-decoder" else set())
    assert differences["right"] < 5e-6
    if name == "bart":
        assert differences["left"].endswith("absolute positions and its forward pass takes no position_ids")
    else:
        assert differences["left"] < 5e-6
    assert differences.get("decoder", 0.0) < 5e-6


def test_a_decoder_that_cannot_be_run_is_refused_and_the_encoder_is_captured(tiny):
    torch.manual_seed(0)
    config = transformers.FSMTConfig(
        langs=["en", "de"], src_vocab_size=345, tgt_vocab_size=345, d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )
    found = load_model(transformers.FSMTForConditionalGeneration(config), tokenizer=tiny("bart").tokenizer)
    acts = capture_activations(found, "sea shells")
    assert (acts.n_layers, acts.n_heads) == (2, 2)
    with pytest.raises(ModelError, match="FSMTForConditionalGeneration does not run"):
        capture_encoder_decoder(found, "sea", "sea shells")


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5", "mamba"])
def test_padding_that_is_not_masked_shows(name, monkeypatch):
    from infogeo_adapters.transformers import stack

    found = load_model(make_specimen(name), tokenizer=make_tokenizer())
    for side in (None, "decoder"):
        stack.find_stack(found.model, side)
    real = stack.run_model

    def unmasked(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        more = {k: v for k, v in more.items() if k != "encoder_attention_mask"}
        return real(part, ids, torch.ones_like(mask), **more)

    for module in (stack, forward):
        monkeypatch.setattr(module, "run_model", unmasked)
    differences = padding_differences(found)
    assert differences["left"] > 0.01
    assert differences["right"] < 5e-6 if found.kind == "decoder" else differences["right"] > 0.01
    assert differences.get("decoder", 1.0) > 1e-3, "the source of one text is padded"


def test_a_model_that_cannot_mask_is_measured_too(tiny):
    torch.manual_seed(0)
    config = transformers.FNetConfig(
        vocab_size=220, hidden_size=16, num_hidden_layers=2, intermediate_size=16, max_position_embeddings=64
    )
    found = load_model(transformers.FNetForMaskedLM(config), tokenizer=tiny("bert").tokenizer)
    assert padding_differences(found)["right"] > 0.01


# Words and tokens


def test_words_of_both_texts(model):
    bart = model("bart")
    acts = capture_encoder_decoder(bart, SOURCES[0], TARGETS[2], target_words=["doesn't", "believe", "he"])
    assert acts.encoder.words == ("The", "quick", "fox", "ran", ".")
    assert acts.decoder.words == ("doesn't", "believe", "he")
    for side in (acts.encoder, acts.decoder):
        assert tuple(side.text[i:j] for i, j in side.word_spans) == side.words
        for token, (i, j) in enumerate(side.token_spans):
            if not side.special[token]:
                name = bart.tokenizer.convert_tokens_to_string([side.tokens[token]]).strip()
                assert name == side.text[i:j].strip(), "spans are characters of that side's own text"
    assert acts.decoder.special.tolist()[:3] == [True, True, False], "the start token, and the tokenizer's own"
    assert acts.decoder.tokens[:2] == ("</s>", "<s>")
    assert not acts.decoder.special[2:].any(), "the end token is a label that is never read"
    assert acts.encoder.special.tolist()[-1]
    assert (acts.decoder.token_words[acts.decoder.special] == -1).all()
    assert acts.decoder.source.options["words"] == "given"
    assert acts.encoder.source.options["words"] == "split_words"


def test_words_of_many_pairs(model):
    texts, targets = ["the fox", "the old man"], ["ran home", "sea shells"]
    many = capture_encoder_decoder(
        model("t5"), texts, targets, words=[["fox"], None], target_words=lambda text: [(0, text.index(" "))]
    )
    assert [a.encoder.words for a in many] == [("fox",), ("the", "old", "man")]
    assert [a.decoder.words for a in many] == [("ran",), ("sea",)]
    with pytest.raises(ArgumentError, match="target_words: found 1 entries for 2 texts"):
        capture_encoder_decoder(model("t5"), texts, targets, target_words=[["ran"]])
    with pytest.raises(ArgumentError, match="words: found 3 entries for 2 texts"):
        capture_encoder_decoder(model("t5"), texts, targets, words=[None] * 3)


def test_where_each_number_comes_from(model):
    acts = capture_encoder_decoder(model("bart"), SOURCES[0], TARGETS[0])
    encoder, decoder = acts.encoder.source, acts.decoder.source
    assert (encoder.options["side"], decoder.options["side"]) == ("encoder", "decoder")
    assert encoder.text_hash == hashlib.sha256(SOURCES[0].encode()).hexdigest()
    assert decoder.text_hash == hashlib.sha256(TARGETS[0].encode()).hexdigest()
    assert decoder.options["source_text_hash"] == encoder.text_hash
    assert encoder.content_hash == decoder.content_hash == model("bart").source.content_hash
    assert acts.source is decoder
    assert not {"was_training", "unread_words", "truncated_words"} & (set(encoder.options) | set(decoder.options))


def test_a_last_word_that_is_never_read(tiny):
    found = load_model(make_specimen("bart"), tokenizer=make_tokenizer())  # this tokenizer puts nothing at the end
    acts = capture_encoder_decoder(found, "the cat sat", "the dog ran")
    assert acts.decoder.tokens == ("</s>", "<s>", "the", "dog")
    assert found.tokenizer.convert_ids_to_tokens(acts.target_ids.tolist()) == ["<s>", "the", "dog", "ran"]
    assert acts.decoder.words == ("the", "dog")
    assert acts.decoder.source.options["unread_words"] == 1
    assert acts.encoder.words == ("the", "cat", "sat")
    with pytest.raises(TextError, match="target: it is a single token, which the decoder predicts and never reads"):
        capture_encoder_decoder(found, "the cat sat", "dog")


def test_a_tokenizer_that_cuts_targets_differently(model, monkeypatch):
    from tokenizers import processors

    mbart = load_model(model("mbart").model, tokenizer=copy.deepcopy(model("mbart").tokenizer))
    raw = mbart.tokenizer._tokenizer

    def switch(template: str) -> Callable[[], None]:
        ids = [("</s>", 2), ("<mask>", 4), ("<unk>", 3)]
        processor = processors.TemplateProcessing(single=template, special_tokens=ids)
        return lambda: setattr(raw, "post_processor", processor)

    # as the tokenizers of mBART do, with the name of the language at the end
    monkeypatch.setattr(mbart.tokenizer, "_switch_to_input_mode", switch("$A </s> <unk>"), raising=False)
    monkeypatch.setattr(mbart.tokenizer, "_switch_to_target_mode", switch("$A </s> <mask>"), raising=False)
    mbart.tokenizer._switch_to_input_mode()
    acts = capture_encoder_decoder(mbart, "the fox", "ran home")
    assert acts.encoder.tokens[-2:] == ("</s>", "<unk>")
    assert acts.decoder.tokens[0] == "<mask>", "mBART begins with the language of the target, the last label"
    assert acts.decoder.tokens[-1] == "</s>"
    assert acts.target_ids[-2:].tolist() == [2, 4]
    assert acts.decoder.special.tolist() == [True, *[False] * (len(acts.target_ids) - 2), True]


def test_cross_attention_of_words(model):
    acts = capture_encoder_decoder(model("pegasus"), SOURCES[1], TARGETS[2])
    got = acts.cross_word_attention()
    assert got.shape == (3, 2, len(acts.decoder.words), len(acts.encoder.words))
    assert max(np.bincount(acts.decoder.token_words[~acts.decoder.special])) > 1, "words of several tokens"
    wanted = np.zeros(got.shape)
    for u in range(len(acts.decoder.words)):
        own = [i for i, w in enumerate(acts.decoder.token_words) if w == u]
        for v in range(len(acts.encoder.words)):
            for j in (j for j, w in enumerate(acts.encoder.token_words) if w == v):
                wanted[:, :, u, v] += sum(acts.cross_attention[:, :, i, j] for i in own) / len(own)
    assert np.allclose(got, wanted, rtol=0, atol=1e-12)
    assert got.sum(-1).max() < 1, "what goes to the tokens at the ends of the source is left out"


# The first token of the decoder


def test_a_model_that_does_not_say_what_its_decoder_reads_first():
    net = make_net("T5ForConditionalGeneration", "T5Config", {
        k: v for k, v in ZOO["t5"].settings.items() if k != "decoder_start_token_id"
    })
    found = load_model(net, tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match="T5ForConditionalGeneration does not say what its decoder reads first: set"):
        capture_encoder_decoder(found, "the cat sat", "the dog ran")
    net.generation_config.decoder_start_token_id = 3
    assert capture_encoder_decoder(found, "the cat sat", "the dog ran").decoder.token_ids[0] == 3
    net.config.decoder_start_token_id = 0
    assert capture_encoder_decoder(found, "the cat sat", "the dog ran").decoder.token_ids[0] == 0
    net.config.decoder_start_token_id = 99
    with pytest.raises(ModelError, match=r"has 67 embeddings, is to begin with \[99, 1, 5, \d+\]"):
        capture_encoder_decoder(found, "the cat sat", "the dog ran")


def test_a_model_without_a_head():
    net = make_net("BartModel", "BartConfig", ZOO["bart"].settings)
    found = load_model(net, tokenizer=make_tokenizer())
    acts = capture_encoder_decoder(found, "the cat sat", "the dog ran")
    assert acts.decoder.token_ids.tolist() == [2, *acts.target_ids[:-1]]
    with torch.no_grad():
        own = net(
            input_ids=torch.tensor(acts.encoder.token_ids)[None],
            decoder_input_ids=torch.tensor(acts.decoder.token_ids)[None],
        )
    assert close(acts.decoder.hidden_states[-1], own.last_hidden_state[0], 1e-5)


def test_a_pair_of_two_models_made_one():
    """BERT and a BERT that looks across, put together by transformers."""
    sizes = {"vocab_size": 67, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    parts = (
        transformers.BertConfig(**sizes, num_hidden_layers=2),
        transformers.BertConfig(**sizes, num_hidden_layers=3, is_decoder=True, add_cross_attention=True),
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    net = transformers.EncoderDecoderModel(config).eval()
    acts = capture_encoder_decoder(load_model(net, tokenizer=make_tokenizer()), "the cat sat", "the dog ran home")
    with torch.no_grad():
        own = net(
            input_ids=torch.tensor(acts.encoder.token_ids.tolist())[None],
            decoder_input_ids=torch.tensor(acts.decoder.token_ids.tolist())[None], output_hidden_states=True,
        )
    assert [len(own.encoder_hidden_states), len(own.decoder_hidden_states)] == [3, 4]
    for mine, theirs in ((acts.encoder, own.encoder_hidden_states), (acts.decoder, own.decoder_hidden_states)):
        assert all(close(a, b[0], 1e-5) for a, b in zip(mine.hidden_states, theirs, strict=True))
    assert acts.cross_attention.shape == (3, 2, len(acts.decoder.tokens), len(acts.encoder.tokens))


def test_half_precision(model):
    net = copy.deepcopy(model("bart").model).bfloat16()
    half = capture_encoder_decoder(load_model(net, tokenizer=model("bart").tokenizer), SOURCES[0], TARGETS[0])
    full = capture_encoder_decoder(model("bart"), SOURCES[0], TARGETS[0])
    assert {a.dtype for a in (half.decoder.hidden_states, half.cross_attention)} == {np.dtype("float32")}
    assert half.source.dtype == "bfloat16"
    difference = np.abs(half.decoder.hidden_states - full.decoder.hidden_states).max()
    assert 1e-4 < difference < 0.1 * np.abs(full.decoder.hidden_states).max()


def test_a_shift_of_another_kind_is_refused(model, monkeypatch):
    found = model("bart")
    monkeypatch.setattr(found.model, "prepare_decoder_input_ids_from_labels", lambda labels: labels, raising=False)
    with pytest.raises(ModelError, match="wanted a start token and then the labels without the last"):
        capture_encoder_decoder(found, SOURCES[0], TARGETS[0])


# The model is left as it was


def test_without_attention(one_of_each_kind):
    acts = capture_encoder_decoder(one_of_each_kind, SOURCES[0], TARGETS[0], attention=False)
    full = capture_encoder_decoder(one_of_each_kind, SOURCES[0], TARGETS[0])
    assert acts.cross_attention is acts.encoder.attention is acts.decoder.attention is None
    assert acts.cross_attention_layers == acts.decoder.attention_layers == ()
    assert close(acts.decoder.hidden_states, full.decoder.hidden_states)
    with pytest.raises(ArgumentError, match="cross attention was not captured"):
        acts.cross_word_attention()


@pytest.mark.parametrize("attention", [True, False])
def test_mode_hooks_and_implementation_come_back(restored, attention, monkeypatch):
    net = make_net("BartForConditionalGeneration", "BartConfig", ZOO["bart"].settings)
    found = load_model(net, tokenizer=make_tokenizer())
    wanted = capture_encoder_decoder(found, "the cat sat", "the dog ran", attention=attention)
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.5
    net.train()
    restored(net)
    acts = capture_encoder_decoder(found, "the cat sat", "the dog ran", attention=attention)
    assert close(acts.decoder.hidden_states, wanted.decoder.hidden_states, 1e-5)
    for side in (acts.encoder, acts.decoder, capture_activations(found, "the cat", attention=attention)):
        assert side.source.options["was_training"] is True
    assert "was_training" not in wanted.source.options

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory, say")

    monkeypatch.setattr(net.model.decoder.layers[1], "forward", broken)
    with pytest.raises(RuntimeError, match="say"):
        capture_encoder_decoder(found, "the cat sat", "the dog ran", attention=attention)


def test_one_module_in_training_mode_is_noted(restored):
    found = load_model(make_specimen("gpt2"), tokenizer=make_tokenizer())
    found.model.transformer.h[1].train()
    restored(found.model)
    assert capture_activations(found, "the cat sat").source.options["was_training"] is True


def test_nan_names_the_layer_of_the_decoder():
    """In a model damaged since it was first run; else the error is that of the first probe."""
    net = make_net("BartForConditionalGeneration", "BartConfig", ZOO["bart"].settings)
    found = load_model(net, tokenizer=make_tokenizer())
    capture_encoder_decoder(found, "the cat sat", "the dog ran", attention=False)
    with torch.no_grad():
        net.model.decoder.layers[1].fc1.weight[0, 0] = float("nan")
    with pytest.raises(DomainError, match="hidden_states: layer 2 holds NaN"):
        capture_encoder_decoder(found, "the cat sat", "the dog ran", attention=False)


# Bad input


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "fox", "source: found an empty text"),
        ("fox", " \n", "target: found only white space"),
        (["fox"], [""], "target: found an empty text"),
        ([], [], "source: found no texts"),
        (["fox"], [], "target: found no texts"),
        (None, "fox", "source: found NoneType"),
        ("fox", 3, "target: found int"),
        (["fox"], [b"x"], "target: found bytes"),
        (iter(["x"]), ["x"], "source: found list_iterator"),
        ("fox", "a\x00", "target: character 1 is NUL"),
        ("the old man ran home. " * 20, "fox", r"source: the text has \d+ tokens .* holds 64"),
        ("fox", "the old man ran home. " * 20, r"target: the text has \d+ tokens .* holds 64"),
    ],
)
def test_bad_texts_are_told_apart(tiny, text, target, message):
    with pytest.raises(TextError, match=message):
        capture_encoder_decoder(tiny("bart"), text, target)


def test_words_that_do_not_fit_are_told_apart(tiny):
    with pytest.raises(TextError, match=r"source: words: word 0 \('dog'\) does not follow"):
        capture_encoder_decoder(tiny("bart"), "the fox", "the dog", words=["dog"])
    with pytest.raises(TextError, match=r"target: words: word 0 \('fox'\) does not follow"):
        capture_encoder_decoder(tiny("bart"), "the fox", "the dog", target_words=["fox"])


def test_bad_arguments(tiny, bundled):
    t5 = tiny("t5")
    for text, target in (("a", ["a"]), (["a"], "a")):
        with pytest.raises(ArgumentError, match="wanted two texts, or two lists"):
            capture_encoder_decoder(t5, text, target)
    with pytest.raises(ArgumentError, match="target: found 1 targets for 2 texts"):
        capture_encoder_decoder(t5, ["a", "b"], ["a"])
    with pytest.raises(ArgumentError, match="overflow 'cut' does not exist"):
        capture_encoder_decoder(t5, "a", "b", overflow="cut")
    with pytest.raises(ArgumentError, match="batch_tokens: found 0"):
        capture_encoder_decoder(t5, "a", "b", batch_tokens=0)
    with pytest.raises(ArgumentError, match="found str, wanted what load_model"):
        capture_encoder_decoder("t5", "a", "b")
    for model in (bundled, tiny("bert")):
        with pytest.raises(ArgumentError, match=rf"one stack \({model.kind}\).*use capture_activations"):
            capture_encoder_decoder(model, "a", "b")


def test_truncation_of_each_side(tiny):
    long = "the old man ran home. " * 20
    acts = capture_encoder_decoder(tiny("bart"), "fox", long, overflow="truncate")
    assert len(acts.decoder.tokens) <= 64
    assert len(acts.target_ids) > 50
    assert long.startswith(acts.decoder.text)
    assert acts.decoder.source.options["truncated_words"] == 120 - len(acts.decoder.words)
    assert "truncated_words" not in acts.encoder.source.options
    assert capture_encoder_decoder(
        tiny("bart"), long, "fox", overflow="truncate"
    ).encoder.source.options["truncated_words"] > 0


# The results


def test_the_table_and_the_summary(model):
    acts = capture_encoder_decoder(model("t5"), SOURCES[0], TARGETS[0])
    columns, rows = acts.rows()
    assert columns == ("token", "id", "first", "end", "word", "special", "label")
    assert [row[-1] for row in rows] == acts.target_ids.tolist()
    assert rows[0][4:6] == ("", True)
    wanted = "5 words in 7 tokens and 6 words in 11 tokens: 2 and 3 blocks of width 16, 2 heads between"
    n = [(len(s.words), len(s.tokens)) for s in (acts.encoder, acts.decoder)]
    wanted = f"{n[0][0]} words in {n[0][1]} tokens and {n[1][0]} words in {n[1][1]} tokens: 2 and 3 blocks of width 16"
    assert wanted in acts.summary()
    assert "2 heads between" in acts.summary()
    assert "2 and 3 blocks" in acts._repr_html_()
    plain = json.loads(acts.to_json())
    assert plain["target_ids"] == acts.target_ids.tolist()
    assert plain["encoder"]["source"]["options"]["side"] == "encoder"


def test_a_result_that_contradicts_itself_is_refused(model):
    acts = capture_encoder_decoder(model("t5"), SOURCES[0], TARGETS[0])
    wrong = acts.target_ids.copy()
    wrong[2] += 1
    with pytest.raises(DomainError, match=f"label 2 is {wrong[2]}, but the decoder reads {acts.target_ids[2]}"):
        replace(acts, target_ids=wrong)
    with pytest.raises(ShapeError, match="target_ids"):
        replace(acts, target_ids=acts.target_ids[:-1])
    with pytest.raises(ShapeError, match="cross_attention: found shape"):
        replace(acts, cross_attention=acts.cross_attention.swapaxes(2, 3))
    with pytest.raises(ShapeError, match="cross_attention: found shape"):
        replace(acts, cross_attention_layers=(1,))
    with pytest.raises(ArgumentError, match="activations: found str"):
        replace(acts, decoder="the dog")
    with pytest.raises(ValueError, match="read-only"):
        acts.target_ids[0] = 3


KIND: dict[str, Any] = {
    "block": 1, "query_heads": 4, "key_value_heads": 2, "causal": True, "implementation": "sdpa",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": 0}, "block: found 0, wanted at least 1"),
        ({"query_heads": 4.0}, "query_heads: found 4.0, wanted a whole number"),
        ({"key_value_heads": 0}, "key_value_heads: found 0"),
        ({"key_value_heads": 3}, "key_value_heads: found 3 for 4 query heads"),
        ({"side": "left"}, "side: found 'left'"),
        ({"kind": "both"}, "kind: found 'both'"),
        ({"window": 0}, "window: found 0"),
        ({"implementation": ""}, "implementation: found ''"),
    ],
)
def test_kinds_of_attention_are_checked(change, message):
    assert AttentionKind(**KIND).window is None
    with pytest.raises(ArgumentError, match=message):
        AttentionKind(**{**KIND, **change})


def test_kinds_must_fit_their_maps(model):
    acts = capture_encoder_decoder(model("t5"), SOURCES[0], TARGETS[0])
    own = tuple(AttentionKind(**{**KIND, "block": b}) for b in (1, 2, 3))
    cross = tuple(replace(kind, kind="cross", causal=False) for kind in own)
    assert replace(acts.decoder, attention_kinds=own).attention_kinds == own
    assert replace(acts, cross_attention_kinds=cross).cross_attention_kinds == cross
    with pytest.raises(ShapeError, match="attention_kinds: found 2 for 3 attention maps"):
        replace(acts.decoder, attention_kinds=own[:2])
    with pytest.raises(ArgumentError, match="found self attention of block 2 for a map of self attention of block 1"):
        replace(acts.decoder, attention_kinds=(own[1], own[0], own[2]))
    with pytest.raises(ArgumentError, match="found self attention of block 1 for a map of cross attention of block 1"):
        replace(acts, cross_attention_kinds=own)
