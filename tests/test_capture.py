"""Capture: the raw stream at every layer, attention of every head, the same alone, in a batch and padded."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from model_zoo import make_specimen, make_tokenizer

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo.errors import ArgumentError, DomainError, ModelError, TextError  # noqa: E402
from infogeo_adapters import capture_stages, logit_lens  # noqa: E402
from infogeo_adapters.models import background_text  # noqa: E402
from infogeo_adapters.transformers import capture as module  # noqa: E402
from infogeo_adapters.transformers import forward  # noqa: E402
from infogeo_adapters.transformers.alignment import encode, split_words  # noqa: E402
from infogeo_adapters.transformers.capture import (  # noqa: E402
    capture_activations,
    capture_background,
    split_into_windows,
)
from infogeo_adapters.transformers.loading import LanguageModel, load_model  # noqa: E402
from infogeo_adapters.transformers.readout import find_readout  # noqa: E402
from infogeo_adapters.transformers.stack import find_stack  # noqa: E402

TEXTS = [
    "The quick fox ran.",
    "Don't stop! said the old man, it's only 3.14 miles.",
    "x",
    "He \U0001f44d the well-known (old) \"house,\" and ran home.",
    "She sells sea shells.",
]
FINAL_NORM = {"gpt2": "transformer.ln_f", "llama": "model.norm", "t5": "encoder.final_layer_norm"}
TOLERANCE = 5e-6
"""Relative to the largest state; rounding of float32 in another batch shape."""


def own_forward(model: LanguageModel, token_ids: Any, **more: Any) -> Any:
    """The model's own outputs for one text, as transformers gives them."""
    part = model.model.get_encoder() if model.kind == "encoder-decoder" else model.model
    with torch.no_grad():
        return part(input_ids=torch.tensor(token_ids)[None], **more)


def close(a: Any, b: Any) -> bool:
    return a.shape == b.shape and np.abs(a - b).max() <= TOLERANCE * max(1.0, np.abs(b).max())


def same(a: Any, b: Any) -> None:
    """Two captures of one text agree in everything."""
    for name in ("text", "words", "tokens", "attention_layers", "causal"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("word_spans", "token_ids", "token_spans", "token_words", "special"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert close(a.hidden_states, b.hidden_states)
    assert (a.attention is None) == (b.attention is None)
    assert a.attention is None or close(a.attention, b.attention)


# The numbers


def test_the_stream_is_the_models_own(any_model):
    acts = capture_activations(any_model, TEXTS[1])
    own = own_forward(any_model, acts.token_ids, output_hidden_states=True).hidden_states
    assert len(own) == acts.n_layers + 1 == any_model.n_layers + 1
    for layer in range(acts.n_layers):
        assert close(acts.hidden_states[layer], own[layer][0].numpy()), layer
    last = own[-1][0].numpy()
    final_norm = FINAL_NORM.get(any_model.model.config.model_type)
    if final_norm is None:
        assert close(acts.hidden_states[-1], last), "no final norm in this family: the last state is raw"
    else:
        norm = any_model.model.get_submodule(final_norm)
        with torch.no_grad():
            normed = norm(torch.tensor(acts.hidden_states[-1])).numpy()
        assert close(normed, last)
        assert not np.allclose(acts.hidden_states[-1], last, atol=0.05), "wanted the state before the norm"


@pytest.mark.parametrize("name", ["bundled", "gpt2", "llama", "bert"])
def test_head_of_the_raw_last_layer_gives_the_logits(name, tiny, bundled):
    model = bundled if name == "bundled" else tiny(name)
    acts = capture_activations(model, TEXTS[3])
    logits = own_forward(model, acts.token_ids).logits[0].numpy()
    last = torch.tensor(acts.hidden_states[-1])
    with torch.no_grad():
        if name == "bert":
            mine = model.model.cls(last)
        else:
            norm = model.model.get_submodule(FINAL_NORM.get(name, "model.norm"))
            mine = model.model.get_output_embeddings()(norm(last))
    assert close(mine.numpy(), logits)


def test_layer_0_of_gpt2_is_token_plus_position(tiny):
    model = tiny("gpt2")
    acts = capture_activations(model, TEXTS[0])
    base = model.model.transformer
    wanted = base.wte.weight[torch.tensor(acts.token_ids)] + base.wpe.weight[: len(acts.tokens)]
    assert close(acts.hidden_states[0], wanted.detach().numpy())


def test_attention_is_what_an_eager_model_returns(family, make_tiny, tiny):
    model, tokenizer = make_tiny(family)
    acts = capture_activations(tiny(family), TEXTS[1])
    model.set_attn_implementation("eager")
    eager = own_forward(load_model(model, tokenizer=tokenizer), acts.token_ids, output_attentions=True).attentions
    assert acts.attention_layers == (1, 2, 3)
    assert acts.attention.shape == (3, 4, len(acts.tokens), len(acts.tokens))
    for got, wanted in zip(acts.attention, eager, strict=True):
        assert close(got, wanted[0].numpy())
    assert np.allclose(acts.attention.sum(-1), 1, atol=1e-5)
    assert acts.attention.std() > 0.01, "uniform attention would hide mistakes"


def test_sdpa_gives_no_attention_so_the_switch_is_needed(tiny):
    model = tiny("llama")
    assert model.model.config._attn_implementation == "sdpa"
    assert not own_forward(model, [5, 6], output_attentions=True).attentions


def test_causality(any_model):
    acts = capture_activations(any_model, TEXTS[1])
    looks_ahead = np.triu(acts.attention, 1).max() > 1e-6
    assert acts.causal == (not looks_ahead) == (any_model.kind == "decoder")


# Batches and padding


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
@pytest.mark.parametrize("side", ["left", "right"])
def test_alone_and_in_a_batch(any_model, batch_tokens, side, monkeypatch):
    monkeypatch.setattr(any_model.tokenizer, "padding_side", side)
    together = capture_activations(any_model, TEXTS, batch_tokens=batch_tokens)
    assert [a.text for a in together] == TEXTS
    for text, acts in zip(TEXTS, together, strict=True):
        same(acts, capture_activations(any_model, text))


def test_a_batch_is_really_padded(any_model, monkeypatch):
    shapes = []
    real = forward.run_model

    def spy(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        shapes.append((tuple(ids.shape), int(mask.sum())))
        return real(part, ids, mask, **more)

    monkeypatch.setattr(forward, "run_model", spy)
    together = capture_activations(any_model, TEXTS)
    lengths = [len(a.tokens) for a in together]
    assert shapes == [((len(TEXTS), max(lengths)), sum(lengths))]
    assert sum(lengths) < len(TEXTS) * max(lengths)


def test_batches_hold_at_most_the_tokens_asked_for():
    lengths = [7, 3, 9, 3, 20, 1]
    batches = list(forward.batches_of(lengths, 12, exact=True))
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 12 for b in batches)
    assert len(batches) < 6
    for b in forward.batches_of(lengths, 4096, exact=False):
        assert len({lengths[i] for i in b}) == 1


def test_the_padding_id_does_not_matter(make_tiny):
    network, tokenizer = make_tiny("bert")
    model = load_model(network, tokenizer=tokenizer)
    before = capture_activations(model, TEXTS)
    tokenizer.pad_token = "[MASK]"
    assert tokenizer.pad_token_id == 4
    for a, b in zip(before, capture_activations(model, TEXTS), strict=True):
        same(a, b)


def test_a_model_that_cannot_mask_runs_equal_lengths_only(tiny):
    torch.manual_seed(0)
    config = transformers.FNetConfig(
        vocab_size=220, hidden_size=16, num_hidden_layers=2, intermediate_size=16, max_position_embeddings=64
    )
    model = load_model(transformers.FNetForMaskedLM(config), tokenizer=tiny("bert").tokenizer)
    for text, acts in zip(TEXTS, capture_activations(model, TEXTS, attention=False), strict=True):
        same(acts, capture_activations(model, text, attention=False))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_models_own_padded_batch_gives_the_same(any_model, side):
    model = any_model.model
    part = model.get_encoder() if any_model.kind == "encoder-decoder" else model
    parameters = inspect.signature(part.forward).parameters
    absolute = any(isinstance(m, torch.nn.Embedding) and "position" in n for n, m in part.named_modules())
    if side == "left" and absolute and "position_ids" not in parameters:
        pytest.skip(f"padding moves tokens to other positions, and the encoder of {type(model).__name__} takes none")
    together = capture_activations(any_model, TEXTS, attention=False)
    longest = max(len(a.tokens) for a in together)
    ids = torch.full((len(TEXTS), longest), 3)
    mask = torch.zeros_like(ids)
    places = []
    for row, acts in enumerate(together):
        first = longest - len(acts.tokens) if side == "left" else 0
        places.append(slice(first, first + len(acts.tokens)))
        ids[row, places[-1]] = torch.tensor(acts.token_ids)
        mask[row, places[-1]] = 1
    more = {}
    if "position_ids" in parameters:
        more["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        own = part(input_ids=ids, attention_mask=mask, output_hidden_states=True, **more).hidden_states
    final_norm = FINAL_NORM.get(model.config.model_type)
    for row, (acts, place) in enumerate(zip(together, places, strict=True)):
        states = [torch.tensor(s) for s in acts.hidden_states]
        if final_norm is not None:
            with torch.no_grad():
                states[-1] = model.get_submodule(final_norm)(states[-1])
        assert len(states) == len(own)
        for layer, (mine, theirs) in enumerate(zip(states, own, strict=True)):
            assert close(mine.numpy(), theirs[row, place].numpy()), (row, layer)


# Families with something special


def tiny_config(name: str, **more: Any) -> Any:
    common = {
        "vocab_size": 345, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 64, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    }
    return getattr(transformers, name)(**{**common, **more})


def other(tiny: Callable[[str], Any], cls: str, config: Any) -> LanguageModel:
    torch.manual_seed(3)
    model = getattr(transformers, cls)(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return load_model(model.eval(), tokenizer=tiny("gpt2").tokenizer)


@pytest.fixture
def mamba(tiny):
    config = transformers.MambaConfig(vocab_size=345, hidden_size=16, num_hidden_layers=2, state_size=4)
    return other(tiny, "MambaForCausalLM", config)


def test_libraries_are_silent(tiny, caplog):
    import logging

    from infogeo_adapters.transformers.stack import runner

    transformers.utils.logging.warning_once.cache_clear()  # what was said in an earlier test is not said again
    config = transformers.MambaConfig(vocab_size=345, hidden_size=16, num_hidden_layers=2, state_size=4)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        mamba = other(tiny, "MambaForCausalLM", config)
        capture_activations(mamba, TEXTS[0], attention=False)
        assert not caplog.records
        transformers.utils.logging.warning_once.cache_clear()
        with torch.no_grad():
            runner(mamba.model)(input_ids=torch.tensor([[5, 6]]))
        if any(importlib.util.find_spec(name) is None for name in ("mamba_ssm", "causal_conv1d")):
            assert any("falling back" in r.getMessage() for r in caplog.records), "the library would have spoken"
    finally:
        logger.removeHandler(caplog.handler)


def test_words_that_are_no_list(tiny):
    model = tiny("gpt2")
    with pytest.raises(TextError, match="words: found 5, wanted a list"):
        capture_activations(model, TEXTS[0], words=5)
    with pytest.raises(ArgumentError, match="words: found 5, wanted a function"):
        capture_activations(model, TEXTS, words=5)
    with pytest.raises(ArgumentError, match="found 0 entries"):
        capture_activations(model, TEXTS, words="The")
    acts = capture_activations(model, "The old woman gave the hungry dog a bone.", words=["a", "bone"])
    assert acts.word_spans.tolist() == [[34, 35], [36, 40]]


def test_a_model_without_attention(mamba, restored):
    restored(mamba.model)
    with pytest.raises(ModelError, match="MambaForCausalLM gives no attention; capture it with attention=False"):
        capture_activations(mamba, TEXTS[0])
    acts = capture_activations(mamba, TEXTS, attention=False)[0]
    assert (acts.attention, acts.attention_layers, acts.n_heads, acts.causal) == (None, (), 0, True)
    embedded = mamba.model.backbone.embeddings.weight[torch.tensor(acts.token_ids)].detach().numpy()
    assert close(acts.hidden_states[0], embedded), "layer 0 is the embedding, which transformers leaves out here"
    same(acts, capture_activations(mamba, TEXTS[0], attention=False))


def test_maps_of_a_hybrid_stack_keep_their_blocks(tiny):
    config = tiny_config("Lfm2Config", num_key_value_heads=2, layer_types=["conv", "full_attention", "conv"])
    acts = capture_activations(other(tiny, "Lfm2ForCausalLM", config), TEXTS[0])
    assert (acts.n_layers, acts.attention_layers, acts.attention.shape[:2]) == (3, (2,), (1, 4))


def test_falcon_is_switched_although_transformers_does_not_offer_it(tiny, restored):
    config = transformers.FalconConfig(
        vocab_size=345, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, bos_token_id=None, eos_token_id=None
    )
    model = other(tiny, "FalconForCausalLM", config)
    restored(model.model)
    assert model.model.config._attn_implementation == "sdpa"
    acts = capture_activations(model, TEXTS[1])
    own = own_forward(model, acts.token_ids, output_hidden_states=True).hidden_states
    wrong = own_forward(model, acts.token_ids, output_hidden_states=True, output_attentions=True).hidden_states
    assert not np.allclose(own[1], wrong[1], atol=1e-3), "transformers has mended it: the special case can go"
    assert close(acts.hidden_states[1], own[1][0].numpy())
    assert np.triu(acts.attention, 1).max() == 0


def test_gpt_oss_keeps_what_it_gives_to_the_sink_to_itself(tiny):
    config = tiny_config("GptOssConfig", num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    acts = capture_activations(other(tiny, "GptOssForCausalLM", config), TEXTS[0])
    assert acts.attention.sum(-1).max() < 1, "rows are not renormalized"


def test_shared_blocks_and_their_depth(tiny):
    config = tiny_config("AlbertConfig", embedding_size=16, pad_token_id=0)
    model = other(tiny, "AlbertForMaskedLM", config)
    acts = capture_activations(model, TEXTS[0])
    own = own_forward(model, acts.token_ids, output_hidden_states=True).hidden_states
    assert model.n_layers == 3
    assert all(close(a, b[0].numpy()) for a, b in zip(acts.hidden_states, own, strict=True))


def test_time_major_blocks(tiny):
    config = transformers.XLNetConfig(vocab_size=345, d_model=32, n_layer=2, n_head=4, d_inner=48)
    model = other(tiny, "XLNetLMHeadModel", config)
    acts = capture_activations(model, TEXTS)[1]
    own = own_forward(model, acts.token_ids, output_hidden_states=True).hidden_states
    assert all(close(a, b[0].numpy()) for a, b in zip(acts.hidden_states, own, strict=True))


def longformer() -> Any:
    config = tiny_config("LongformerConfig", attention_window=8, pad_token_id=1)
    return transformers.LongformerModel(config)


def funnel() -> Any:
    config = transformers.FunnelConfig(vocab_size=345, block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=48)
    return transformers.FunnelModel(config)


def xlm() -> Any:
    return transformers.XLMModel(transformers.XLMConfig(vocab_size=345, emb_dim=32, n_layers=2, n_heads=4))


def vit() -> Any:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    return transformers.ViTModel(config)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (longformer, r"residual stream of LongformerModel cannot be found.*\(1, 8, 32\)"),
        (xlm, "residual stream of XLMModel cannot be found"),
        (funnel, "FunnelModel runs several stacks of blocks"),
        (vit, "ViTModel has no token embedding"),
    ],
)
def test_models_whose_layers_cannot_be_told_apart(tiny, make, message, capsys):
    with pytest.raises(ModelError, match=message):
        load_model(make(), tokenizer=tiny("gpt2").tokenizer)


# The model is left as it was


def test_training_mode_dropout_and_implementation_come_back(make_tiny, restored, tiny, family):
    model, tokenizer = make_tiny(family)
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.5
    model.train()
    loaded = load_model(model, tokenizer=tokenizer)
    restored(model)
    acts = capture_activations(loaded, TEXTS[0])
    wanted = capture_activations(tiny(family), TEXTS[0])
    assert close(acts.hidden_states, wanted.hidden_states)
    assert close(acts.attention, wanted.attention)


@pytest.mark.parametrize("attention", [True, False])
def test_threads_take_turns_on_one_model(make_tiny, restored, attention, monkeypatch):
    network, tokenizer = make_tiny("llama")
    network.train()
    restored(network)
    model = load_model(network, tokenizer=tokenizer)
    wanted = {t: capture_activations(model, t, attention=attention) for t in TEXTS}
    model = load_model(copy.deepcopy(network), tokenizer=tokenizer)  # nothing is known of this one yet
    restored(model.model)
    real, running, most = forward.run_model, 0, 0

    def slow(*args: Any, **more: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)  # long enough for the others to come in, if nothing held them
        try:
            return real(*args, **more)
        finally:
            running -= 1

    monkeypatch.setattr(forward, "run_model", slow)

    def captures(k: int) -> list[Any]:
        return [capture_activations(model, TEXTS[(k + i) % 5], attention=attention) for i in range(10)]

    with ThreadPoolExecutor(3) as pool:
        results = [acts for many in pool.map(captures, range(3)) for acts in many]
    assert len(results) == 30
    assert most == 1
    for acts in results:
        same(acts, wanted[acts.text])


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_callers_autocast_is_left_out(name):
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    wanted = capture_activations(model, "the cat sat on the mat")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = load_model(make_specimen(name), tokenizer=make_tokenizer())
        acts = capture_activations(again, "the cat sat on the mat")
        assert torch.is_autocast_enabled("cpu")
    same(acts, wanted)
    assert (acts.hidden_states.dtype, acts.source.dtype) == (np.float32, "float32")


@pytest.mark.parametrize("name", ["bert", "xlnet", "falcon", "deberta-v2"])
def test_a_model_that_is_set_to_return_tuples(name):
    network = make_specimen(name)
    wanted = capture_activations(load_model(make_specimen(name), tokenizer=make_tokenizer()), "the cat sat on the mat")
    network.config.return_dict = False
    model = load_model(network, tokenizer=make_tokenizer())
    same(capture_activations(model, "the cat sat on the mat"), wanted)
    assert find_readout(model).path
    assert network.config.return_dict is False


@pytest.mark.parametrize("name", ["llama", "xlnet", "gpt-oss", "deberta-v2"])
def test_passes_of_other_threads_are_not_seen(name):
    """They come from outside infogeo: inside, another thread waits for the lock."""
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    text, ids = "the cat sat on the mat", torch.tensor([[5, 6, 7]])
    wanted = capture_activations(model, text)
    blocks = model.model.get_submodule(model.model.base_model_prefix).get_submodule(find_stack(model.model).path)
    busy = threading.Event()

    def meanwhile(*given: Any) -> None:
        if not busy.is_set():
            busy.set()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(model.model, ids).result()

    handle = blocks[1].register_forward_hook(meanwhile)
    try:
        acts = capture_activations(model, text)
    finally:
        handle.remove()
    assert busy.is_set()
    same(acts, wanted)


@pytest.mark.parametrize("attention", [True, False])
def test_an_error_in_the_model_leaves_no_hooks(make_tiny, restored, attention, monkeypatch):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)
    capture_activations(loaded, TEXTS[0])
    model.train()
    restored(model)

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory, say")

    monkeypatch.setattr(model.transformer.h[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="say"):
        capture_activations(loaded, TEXTS[0], attention=attention)


def test_gradients_are_not_recorded(tiny):
    acts = capture_activations(tiny("gpt2"), TEXTS[0])
    assert isinstance(acts.hidden_states, np.ndarray)
    assert all(p.grad is None for p in tiny("gpt2").model.parameters())


def test_states_are_copies_also_where_blocks_go_on_in_place(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)
    before = capture_activations(loaded, TEXTS[0])
    model.transformer.ln_f.register_forward_pre_hook(lambda m, args: args[0].mul_(0))
    after = capture_activations(loaded, TEXTS[0])
    assert np.array_equal(before.hidden_states, after.hidden_states)


def test_a_changed_model_is_noticed(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)
    del model.transformer.h[2]
    model.config.n_layer = 2
    with pytest.raises(ModelError, match="2 blocks ran, 3 did at loading"):
        capture_activations(loaded, TEXTS[0], attention=False)


def test_the_hash_of_a_capture_is_that_of_the_weights_it_ran_on(folders):
    model = load_model(folders("gpt2"))
    before = capture_activations(model, TEXTS[0], attention=False)
    assert before.source.content_hash == model.source.content_hash
    weight = model.model.transformer.h[1].mlp.c_fc.weight
    with torch.no_grad():
        weight[0, 0] += 1
    after = capture_activations(model, TEXTS[:2], attention=False)
    assert not close(before.hidden_states, after[0].hidden_states)
    by_object = load_model(model.model, tokenizer=model.tokenizer).source.content_hash
    assert [a.source.content_hash for a in after] == [by_object, by_object]
    assert by_object != before.source.content_hash
    assert capture_background(model, "the old man").source.content_hash == by_object
    with torch.no_grad():
        model.model.load_state_dict({n: t + 1 for n, t in model.model.state_dict().items()})
    third = capture_activations(model, TEXTS[0]).source.content_hash
    assert third not in (before.source.content_hash, by_object)
    model.model.transformer.h[1].mlp.c_fc.weight = torch.nn.Parameter(weight.detach() * 2)
    assert capture_activations(model, TEXTS[0]).source.content_hash not in (third, by_object)


def test_weights_that_stay_are_hashed_once(folders, monkeypatch):
    from infogeo_adapters.transformers import loading

    count = 0
    real = loading._hash_state

    def counted(network: Any) -> str:
        nonlocal count
        count += 1
        return real(network)

    monkeypatch.setattr(loading, "_hash_state", counted)
    model = load_model(folders("gpt2"))
    for _ in range(3):
        capture_activations(model, TEXTS[0])
    assert count == 0
    with torch.no_grad():
        model.model.transformer.wte.weight.mul_(1.5)
    for _ in range(3):
        capture_activations(model, TEXTS, batch_tokens=20)
    assert count == 1


def test_number_formats(folders):
    wide = capture_activations(load_model(folders("llama"), dtype="float64"), TEXTS[1])
    single = capture_activations(load_model(folders("llama")), TEXTS[1])
    half = capture_activations(load_model(folders("llama"), dtype="bfloat16"), TEXTS[1])
    assert [a.hidden_states.dtype for a in (wide, single, half)] == ["float64", "float32", "float32"]
    assert [a.attention.dtype for a in (wide, single, half)] == ["float64", "float32", "float32"]
    assert [a.source.dtype for a in (wide, single, half)] == ["float64", "float32", "bfloat16"]
    assert np.abs(wide.hidden_states - single.hidden_states).max() < 1e-4
    scale = np.abs(wide.hidden_states).max()
    assert 1e-4 * scale < np.abs(wide.hidden_states - half.hidden_states).max() < 0.2 * scale


def test_nan_in_a_later_layer(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    with pytest.raises(DomainError, match="layer 2 holds NaN"):
        capture_activations(loaded, TEXTS[0], attention=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda maps: (), r"gives no attention \(the self attention of block 1 is missing, 0 of 3.*attention=False"),
        (lambda maps: (maps[0], None, maps[2]), "block 2 is missing, 2 of 3 maps"),
        (lambda maps: [m.logsumexp(-1) for m in maps], r"block 1 of XLNetLMHeadModel has the shape \(1, 4, \d+\)"),
        (lambda maps: [m[..., :-1] for m in maps], r"block 1 .* wanted .1, 4, (\d+), \1., one map over all tokens"),
        (lambda maps: [maps[0], maps[1][:, :2], maps[2]], r"block 2 .* has the shape .1, 2, .* wanted .texts, 4"),
        (lambda maps: [m * 1.01 for m in maps], "no distribution.*sum to up to 1.01"),
        (lambda maps: [m - 0.5 for m in maps], "no distribution.*weights from -0"),
        (lambda maps: [m * float("nan") for m in maps], "no distribution"),
        (lambda maps: maps[:2], "gives 2 attention maps for 3 blocks and does not say which"),
    ],
)
def test_attention_that_is_no_attention(tiny, monkeypatch, spoil, message):
    """Of a model whose output alone holds the maps."""
    config = transformers.XLNetConfig(vocab_size=345, d_model=32, n_layer=3, n_head=4, d_inner=48)
    model = other(tiny, "XLNetLMHeadModel", config)
    assert capture_activations(model, TEXTS[0]).attention.shape[:2] == (3, 4)
    real = forward.run_model

    def spoiled(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        output = real(part, ids, mask, **more)
        output.attentions = spoil(output.attentions)
        return output

    monkeypatch.setattr(forward, "run_model", spoiled)
    with pytest.raises(ModelError, match=message):
        capture_activations(model, TEXTS[0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.logsumexp(-1), r"block 1 of GPT2LMHeadModel has the shape \(1, 4, \d+\)"),
        (lambda m: m[..., :-1], r"wanted .1, 4, (\d+), \1., one map over all tokens for each head"),
        (lambda m: m[:, :2], r"block 1 .* has the shape .1, 2, .* wanted .texts, 4"),
        (lambda m: m * 1.01, "no distribution.*sum to up to 1.01"),
        (lambda m: m - 0.01, "no distribution: block 1 has weights from -0.01"),
        (lambda m: m * float("nan"), "no distribution"),
    ],
)
def test_maps_formed_beside_the_model_are_checked_too(tiny, monkeypatch, spoil, message):
    from infogeo_adapters.transformers import attention_function

    model = tiny("gpt2")
    assert capture_activations(model, TEXTS[0]).attention_kinds[0].implementation == "sdpa"
    real = attention_function.probabilities
    monkeypatch.setattr(attention_function, "probabilities", lambda call: spoil(real(call)))
    with pytest.raises(ModelError, match=message):
        capture_activations(model, TEXTS[0])


def test_attention_leaves_the_models_numbers_alone(family, tiny):
    acts = capture_activations(tiny(family), TEXTS[3])
    without = capture_activations(tiny(family), TEXTS[3], attention=False)
    assert np.array_equal(acts.hidden_states, without.hidden_states), "the model computes by sdpa both times"
    assert [k.block for k in acts.attention_kinds] == [1, 2, 3]
    for kind in acts.attention_kinds:
        assert (kind.kind, kind.query_heads, kind.implementation) == ("self", 4, "sdpa")
        assert kind.key_value_heads == (2 if family == "llama" else 4)
        assert kind.causal == acts.causal == (family in ("gpt2", "llama"))
        assert kind.side == ("encoder" if family in ("t5", "bart") else None)


def test_maps_do_not_pile_up_in_the_model(tiny, monkeypatch):
    """One block's map is alive at a time, whatever is kept of the others is an array of NumPy."""
    import weakref

    from infogeo_adapters.transformers import attention_function

    alive: list[weakref.ref[Any]] = []
    most = 0
    real, copied = attention_function.probabilities, forward.as_numpy

    def counted(call: Any) -> Any:
        nonlocal most
        maps = real(call)
        alive.append(weakref.ref(maps))
        most = max(most, sum(ref() is not None for ref in alive))
        return maps

    monkeypatch.setattr(attention_function, "probabilities", counted)
    monkeypatch.setattr(forward, "as_numpy", lambda tensor: copied(tensor).copy())  # as from another device
    capture_activations(tiny("gpt2"), TEXTS[0])
    assert (len(alive), most) == (3, 1)


# Words


def test_words_and_tokens(any_model):
    acts = capture_activations(any_model, TEXTS[3])
    words = ["He", "\U0001f44d", "the", "well-known", "(", "old", ")", '"', "house", ',"', "and", "ran", "home", "."]
    if any_model.name == "LlamaForCausalLM":  # trained on a few sentences, it has a token for the last two
        words[-2:] = ["home."]
    assert acts.words == tuple(words)
    assert [TEXTS[3][i:j] for i, j in acts.word_spans] == list(acts.words)
    assert (acts.token_words[acts.special] == -1).all()
    assert acts.source.text_hash == hashlib.sha256(TEXTS[3].encode()).hexdigest()
    assert acts.source.options["words"] == "split_words"
    assert acts.source.content_hash == any_model.source.content_hash


def test_words_given_by_the_caller(tiny):
    model = tiny("bert")
    text = "the quick fox ran home"
    assert capture_activations(model, text, words=["quick fox", "home"]).words == ("quick fox", "home")
    assert capture_activations(model, text, words=[(4, 13), (18, 22)]).words == ("quick fox", "home")
    by_function = capture_activations(model, [text, "a b"], words=lambda t: [(0, 1)])
    assert [a.words for a in by_function] == [("t",), ("a",)]
    assert by_function[0].source.options["words"] == "<lambda>"
    each = capture_activations(model, [text, "old man"], words=[["fox"], None])
    assert [a.words for a in each] == [("fox",), ("old", "man")]
    assert [a.source.options["words"] for a in each] == ["given", "split_words"]
    with pytest.raises(ArgumentError, match="1 entries for 2 texts"):
        capture_activations(model, [text, text], words=[["fox"]])


def test_a_word_inside_a_token_is_named(tiny):
    with pytest.raises(TextError, match=r"word 0 \('f', characters 0 to 1\) has no token of its own"):
        capture_activations(tiny("bert"), "fox", words=[(0, 1), (1, 3)])


def test_words_that_a_token_fuses_are_joined_and_counted(tiny):
    from tokenizers import Tokenizer, models, pre_tokenizers

    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "Mr.": 1, "Fox": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")
    model = load_model(tiny("gpt2").model, tokenizer=tokenizer)
    acts = capture_activations(model, "Mr. Fox")
    assert acts.words == ("Mr.", "Fox")
    assert acts.source.options["joined_words"] == 1
    assert "joined_words" not in capture_activations(model, "Fox Fox").source.options
    with pytest.raises(TextError, match=r"word 1 \('.'"):
        capture_activations(model, "Mr. Fox", words=split_words)


def test_a_mask_in_the_text_is_a_word(tiny):
    acts = capture_activations(tiny("bert"), "the old [MASK] ran.")
    assert acts.words == ("the", "old", "[MASK]", "ran", ".")
    assert acts.special.tolist() == [True, False, False, False, False, False, True]


def test_what_the_tokenizer_drops_is_named(tiny):
    with pytest.raises(TextError, match=r"word 1 \('\\u200b'"):
        capture_activations(tiny("bert"), "old \u200b man")


# Bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty text"),
        (" \n", "only white space"),
        (["fine", ""], "an empty text"),
        ([], "found no texts"),
        (None, "found NoneType"),
        (b"x", "found bytes"),
        (3, "found int"),
        ([b"x"], "found bytes"),
        (iter(["x"]), "found list_iterator"),
        ("a\x00", "NUL"),
        ("\ud800", "surrogate"),
    ],
)
def test_bad_text(bundled, text, message):
    for function in (capture_activations, capture_background):
        if function is capture_background and text is None:
            continue  # it means the packaged sample
        with pytest.raises(TextError, match=message):
            function(bundled, text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overflow": "cut"}, "overflow 'cut' does not exist"),
        ({"batch_tokens": 0}, "batch_tokens: found 0"),
        ({"batch_tokens": 2.0}, "batch_tokens: found 2.0"),
        ({"batch_tokens": True}, "batch_tokens: found True"),
    ],
)
def test_bad_arguments(bundled, options, message):
    with pytest.raises(ArgumentError, match=message):
        capture_activations(bundled, "a", **options)


@pytest.mark.parametrize("function", [capture_activations, split_into_windows, capture_background])
def test_the_model_must_be_loaded(function):
    with pytest.raises(ArgumentError, match="found str, wanted what load_model"):
        function("gpt2", "a text")


def test_too_long(tiny):
    model = tiny("bert")
    text = "the old man ran home. " * 20
    assert model.context_length == 64
    with pytest.raises(TextError, match=r"has 122 tokens .* holds 64; .*overflow='truncate'.*split_into_windows"):
        capture_activations(model, text)
    acts = capture_activations(model, text, overflow="truncate")
    assert len(acts.tokens) == 64
    assert text.startswith(acts.text)
    assert len(acts.words) == 62
    assert acts.source.options["truncated_words"] == 120 - 62
    assert acts.source.text_hash == hashlib.sha256(acts.text.encode()).hexdigest()
    same(acts, capture_activations(model, acts.text))
    assert "truncated_words" not in capture_activations(model, "short", overflow="truncate").source.options


def test_truncation_ends_with_a_whole_word(any_model, monkeypatch):
    text = "unbelievable riverbank " * 30
    for limit in range(20, 34):
        monkeypatch.setattr(any_model.tokenizer, "model_max_length", limit)
        acts = capture_activations(any_model, text, overflow="truncate")
        assert len(acts.tokens) <= limit
        assert set(acts.words) <= {"unbelievable", "riverbank"}
        assert acts.text == text[: len(acts.text)]
        assert text[len(acts.text)] == " "


def test_truncation_keeps_given_words(tiny):
    words = [(0, 3), (4, 7), (8, 200)]
    acts = capture_activations(tiny("bert"), "the old man ran home. " * 20, words=words[:2], overflow="truncate")
    assert acts.words == ("the", "old")
    assert acts.source.options["truncated_words"] == 0


def test_a_first_word_beyond_the_context(tiny, monkeypatch):
    for family, limit in (("gpt2", 3), ("bert", 2), ("bert", 1)):
        model = tiny(family)
        monkeypatch.setattr(model.tokenizer, "model_max_length", limit)
        with pytest.raises(TextError, match=f"first word alone takes more than the {limit} tokens"):
            capture_activations(model, "zqzqzqzq fox", overflow="truncate")


# Windows


def test_windows_fit_and_lose_nothing(any_model):
    text = " ".join(TEXTS * 12) + "\n\nThe end."
    for size in (24, 50, None if any_model.context_length else 60):
        windows = split_into_windows(any_model, text, max_tokens=size)
        limit = size or any_model.context_length
        assert all(len(encode(any_model.tokenizer, w).ids) <= limit for w in windows)
        assert "".join("".join(windows).split()) == "".join(text.split())
        assert [w for window in windows for w in window.split()] == text.split(), "cuts are at white space"
        counts = [len(encode(any_model.tokenizer, w).ids) for w in windows]
        assert min(counts[:-1], default=limit) > limit / 3, "windows are filled"


def test_one_window_is_the_text(tiny):
    assert split_into_windows(tiny("gpt2"), "  the old man \n") == ["the old man"]
    assert split_into_windows(tiny("t5"), " ran home " * 500) == [(" ran home " * 500).strip()], "no limit, no cut"


def test_without_white_space_a_window_ends_between_words(tiny):
    windows = split_into_windows(tiny("bert"), "old--man--ran--home", max_tokens=6)
    assert "".join(windows) == "old--man--ran--home"
    assert windows[0] == "old--man"


def test_windows_that_cannot_be(tiny):
    model = tiny("bert")
    with pytest.raises(TextError, match=r"word 1 \('zqzqzqzq'\) alone takes more than 4 tokens"):
        split_into_windows(tiny("gpt2"), "the zqzqzqzq fox", max_tokens=4)
    with pytest.raises(TextError, match=r"word 0 \('the'\) alone takes more than 2 tokens"):
        split_into_windows(model, "the fox", max_tokens=2)
    for size in (0, -1, 65):
        with pytest.raises(ArgumentError, match=f"max_tokens: found {size}, wanted 1 to 64"):
            split_into_windows(model, "a b", max_tokens=size)
    for bad in ("", None, b"x"):
        with pytest.raises(TextError):
            split_into_windows(model, bad)


def test_windows_are_captured(tiny):
    model = tiny("llama")
    text = " ".join(TEXTS * 6)
    windows = split_into_windows(model, text)
    words = [w for acts in capture_activations(model, windows, attention=False) for w in acts.words]
    assert "".join(words) == "".join(text.split())
    assert len(windows) > 2


# Background


def test_background_against_the_direct_way(tiny):
    model = tiny("llama")
    text = "The old man ran home.\n\nShe sells sea shells, he doesn't.\n \nx"
    background = capture_background(model, text, batch_tokens=20)
    captured = capture_activations(model, ["The old man ran home.", "She sells sea shells, he doesn't.", "x"])
    for layer in range(4):
        vectors = np.concatenate([a.word_vectors(layer) for a in captured])
        assert np.allclose(background.mean[layer], vectors.mean(axis=0), atol=1e-5)
        assert np.allclose(background.covariance[layer], np.cov(vectors.T, bias=True), atol=1e-5)
    assert background.n_words == len(vectors) == sum(len(a.words) for a in captured)
    assert background.source.content_hash == model.source.content_hash
    assert background.source.options == {"words": "split_words", "background": "given", "windows": 3}


def test_background_of_texts_and_pooling(tiny):
    model = tiny("gpt2")
    one = capture_background(model, ["the old man\n\nran home", "unbelievable"])
    assert one.source.options["windows"] == 2, "a text of a sequence is not cut at blank lines"
    last = capture_background(model, ["the old man\n\nran home", "unbelievable"], pooling="last")
    assert (one.pooling, last.pooling) == ("mean", "last")
    assert not np.allclose(one.mean, last.mean)


def test_background_takes_long_paragraphs_in_windows(tiny):
    background = capture_background(tiny("bert"), "the old man ran home. " * 40)
    assert background.n_words == 240
    assert background.source.options["windows"] >= 4


def test_background_without_a_text_is_the_packaged_sample(tiny, monkeypatch):
    short = "\n\n".join(background_text().split("\n\n")[:3])
    monkeypatch.setattr(module, "background_text", lambda: short)
    background = capture_background(tiny("gpt2"))
    assert background.source.options["background"] == "packaged"
    assert background.n_words == sum(len(split_words(p)) for p in short.split("\n\n"))


def test_background_holds_one_batch_at_a_time(tiny, monkeypatch):
    import weakref

    alive: list[weakref.ref[Any]] = []
    most = 0
    real = forward.as_activations

    def counted(*args: Any) -> Any:
        nonlocal most
        result = real(*args)
        alive.append(weakref.ref(result))
        most = max(most, sum(ref() is not None for ref in alive))
        return result

    monkeypatch.setattr(forward, "as_activations", counted)
    capture_background(tiny("gpt2"), ["the old man ran"] * 20, batch_tokens=30)
    assert len(alive) == 20
    assert most <= 4


def test_background_needs_two_words(tiny):
    with pytest.raises(DomainError, match="found 1 words"):
        capture_background(tiny("gpt2"), "fox")


def test_of_several_texts_the_bad_one_is_named(bundled):
    for call in (capture_activations, capture_stages, logit_lens):
        with pytest.raises(TextError, match="text 2: found only white space"):
            call(bundled, ["The dog ran.", "It slept.", "  "])
        with pytest.raises(TextError, match="text 1: the text has"):
            call(bundled, ["The dog ran.", "ran home " * 600])
        with pytest.raises(TextError, match=r"^text: found only white space"):
            call(bundled, "  ")
