"""Attention recorded while the model runs by its own numerics, against eager attention of some fifty architectures."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infogeo.errors import ArgumentError, ModelError, ShapeError

pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import torch
from model_zoo import TEXT, ZOO, make_net, make_specimen, make_tokenizer

from infogeo_adapters import attention_rollout, capture_activations, load_model, reduce_attention
from infogeo_adapters.transformers import attention_function
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.attention_function import EAGER, SDPA, Call, probabilities
from infogeo_adapters.transformers.attention_rows import attention_of_rows
from infogeo_adapters.transformers.eager import eager_attention, must_force
from infogeo_adapters.transformers.stack import encoded, evaluating, find_stack, run_model, runner
from infogeo_adapters.transformers.token_rows import token_rows

IDS = torch.tensor([[21, 5, 9, 30, 44, 7, 12, 50, 33], [40, 41, 8, 9, 10, 3, 3, 3, 3]])
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
SOURCE = torch.tensor([[6, 22, 31, 9, 14, 27, 8], [50, 13, 19, 3, 3, 3, 3]])
SOURCE_MASK = torch.tensor([[1] * 7, [1] * 3 + [0] * 4])

READ = [name for name, entry in ZOO.items() if not entry.refused]
STACKS = [
    (name, side) for name in READ
    for side in (("encoder", "decoder") if ZOO[name].model.endswith(("ConditionalGeneration", "MTModel")) else (None,))
]

# Written by hand from the settings in the zoo and the papers; what is not here is (heads, heads), all tokens, sdpa.
GROUPS = {
    "mistral": (4, 2), "mixtral": (4, 2), "qwen2": (2, 1), "qwen3": (4, 2), "gemma": (4, 2), "gemma2": (4, 2),
    "gemma3": (4, 2), "gpt-oss": (4, 2), "lfm2": (4, 2), "gptbigcode": (2, 1), "falcon": (2, 1), "codegen": (4, 4),
}
WINDOWED = {
    "mistral": {1: 3, 2: 3, 3: 3}, "gemma2": {1: 3, 3: 3}, "gemma3": {1: 3, 2: 3}, "gpt-oss": {1: 3, 3: 3},
    "gpt-neo": {2: 4, 4: 4}, "modernbert": {2: 5},
}
EAGER_ONLY = {
    "gpt-neo", "gpt-j", "codegen", "bloom", "mpt", "xglm", "deberta-v2", "mpnet", "xlnet", "falcon", "gemma2",
    "gpt-oss",
}
BLOCKS = {"gpt-neo": [1, 2, 3, 4], "lfm2": [2, 4], "xlnet": [1, 2]}


@cache
def net_of(name: str) -> Any:
    """A specimen; T5 does not scale its scores, so that random ones are large and rounding to float32 shows."""
    net = make_specimen(name)
    return net.double() if "t5" in name else net


def implementations(net: Any) -> list[str]:
    from transformers import PreTrainedModel

    return [m.config._attn_implementation for m in net.modules() if isinstance(m, PreTrainedModel)]


def hooks(net: Any) -> int:
    return sum(
        h.__module__ != "transformers.utils.output_capturing"
        for m in net.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
    )


def run(net: Any, side: Any, **more: Any) -> Any:
    """One padded pass of one stack; the decoder reads a source of another length."""
    if side == "decoder":
        more |= encoded(net, SOURCE, SOURCE_MASK)
    return run_model(runner(net, side), IDS, MASK, **more)


def recorded(net: Any, side: Any = None, **options: Any) -> list[tuple[Any, Any]]:
    with evaluating(net), recorded_attention(net, find_stack(net, side), **options) as record:
        return record.finish(run(net, side))


def eager_maps(net: Any, side: Any) -> list[torch.Tensor]:
    """What transformers itself gives under eager attention, self before cross in each block."""
    stack = find_stack(net, side)
    with evaluating(net), eager_attention(net, force=must_force(net, stack), side=side):
        output = run(net, side, output_attentions=True)
    cross = getattr(output, "cross_attentions", None)
    if not cross:
        return list(output.attentions)
    return [maps for pair in zip(output.attentions, cross, strict=True) for maps in pair]


@pytest.mark.parametrize(("name", "side"), STACKS)
def test_maps_are_those_of_eager_attention(name, side):
    if not ZOO[name].attention:
        with pytest.raises(ModelError, match="gives no attention; capture it with attention=False"):
            recorded(net_of(name))
        return
    net = net_of(name)
    before, n_hooks = implementations(net), hooks(net)
    with evaluating(net):
        own = run(net, side)[0]
    stack = find_stack(net, side)
    with evaluating(net), recorded_attention(net, stack) as record:
        output = run(net, side)
        found = record.finish(output)
    assert (implementations(net), hooks(net)) == (before, n_hooks)
    assert torch.allclose(output[0][MASK.bool()], own[MASK.bool()], rtol=1e-4, atol=1e-5)
    wanted = eager_maps(net, side)
    assert len(found) == len(wanted)
    for (kind, maps), eager in zip(found, wanted, strict=True):
        difference = (maps - eager).transpose(1, 2)[MASK.bool()].abs().max()  # padded queries look anywhere
        assert difference < 1e-5, (kind, difference)
        rows = maps.transpose(1, 2)[MASK.bool()].sum(-1)
        assert kind.sink == bool((rows < 0.99).any()) == (name == "gpt-oss")
    assert any(m.std() > 0.05 for _, m in found), "uniform attention would hide mistakes"

    blocks = BLOCKS.get(name, [1, 2] if side == "encoder" else [1, 2, 3])
    both = ("self", "cross") if side == "decoder" else ("self",)
    assert [(k.block, k.kind) for k, _ in found] == [(b, kind) for b in blocks for kind in both]
    for kind, maps in found:
        assert (kind.query_heads, kind.key_value_heads) == GROUPS.get(name, (2, 2))
        assert maps.shape[1] == kind.query_heads
        assert kind.window == (WINDOWED.get(name, {}).get(kind.block))
        assert kind.side == side
        assert kind.causal == (kind.kind == "self" and stack.causal)
        assert kind.implementation == ("eager" if name in EAGER_ONLY else "sdpa")
        offsets = torch.arange(maps.shape[2])[:, None] - torch.arange(maps.shape[3])
        if kind.causal:
            assert not maps[:1, :, offsets < 0].any()  # a padded query that sees no token looks everywhere
        if kind.window is not None:
            reach = kind.window - 1 if kind.causal else kind.window // 2
            assert not maps[:1, :, offsets.abs() > reach].any()


@pytest.mark.parametrize("name", ["gpt2", "bert", "albert", "gpt-j", "lfm2", "deberta-v2"])
def test_chosen_blocks_and_reduction(name, monkeypatch):
    net = net_of(name)
    every = {kind.block: maps for kind, maps in recorded(net)}
    chosen = [max(every)]
    formed = []
    real = attention_function.probabilities
    monkeypatch.setattr(attention_function, "probabilities", lambda call: formed.append(1) or real(call))
    ((kind, maps),) = recorded(net, blocks=chosen)
    assert kind.block == chosen[0]
    assert torch.equal(maps, every[chosen[0]])
    assert len(formed) == (1 if kind.implementation == "sdpa" else 0)
    means = recorded(net, reduce=lambda kind, maps: (kind.block, maps.mean(1)))
    for kind, (block, mean) in means:
        assert kind.block == block
        assert torch.equal(mean, every[block].mean(1))


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "bloom"])
def test_padding_on_the_left(name):
    """Positions are relative here, so that the text's own tokens see what they see alone; nobody looks at padding."""
    net, stack = net_of(name), find_stack(net_of(name))
    length = int(MASK[1].sum())
    with evaluating(net), recorded_attention(net, stack) as record:
        padded = record.finish(run_model(runner(net), IDS[1:].roll(4, dims=1), MASK[1:].flip(1)))
        alone = record.finish(run_model(runner(net), IDS[1:, :length], MASK[1:, :length]))
    for (kind, maps), (_, wanted) in zip(padded, alone, strict=True):
        assert torch.allclose(maps[:, :, 4:, 4:], wanted, atol=1e-5)
        assert not maps[:, :, 4:, :4].any()
        if kind.implementation == "sdpa":
            assert not maps[:, :, :4].any(), "a query that sees no token looks nowhere"


def test_two_passes_of_one_recording(bundled):
    net, stack = bundled.model, find_stack(bundled.model)
    with evaluating(net), recorded_attention(net, stack) as record:
        first = record.finish(run_model(runner(net), IDS, MASK))
        again = record.finish(run_model(runner(net), IDS, MASK))
        run_model(runner(net), IDS.flip(1), MASK)
        last = record.finish(run_model(runner(net), IDS, MASK))  # a pass that nobody finished is forgotten
        with pytest.raises(ModelError, match=r"gives no attention \(the self attention of block 1 is missing, 0 of 6"):
            record.finish(None)
    for (_, a), (_, b), (_, c) in zip(first, again, last, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("name", ["qwen2", "bart", "gemma2", "deepseek-v3"])
def test_queries_keys_and_values_give_the_map_and_the_output(name):
    net, side = net_of(name), "decoder" if name == "bart" else None
    stack = find_stack(net, side)
    with evaluating(net), recorded_attention(net, stack, projections=True) as record:
        found = record.finish(run(net, side))
    assert set(record.projections) == {(k.block, k.kind) for k, _ in found}
    assert not record.projections_absent
    soft = (lambda s: torch.tanh(s / 50.0) * 50.0) if name == "gemma2" else (lambda s: s)
    scale = {"gemma2": 256**-0.5, "deepseek-v3": 8**-0.5}.get(name)
    for kind, maps in found:
        p = record.projections[kind.block, kind.kind]
        assert p.query.shape[1] == kind.query_heads
        assert p.key.shape[1] == p.value.shape[1] == kind.key_value_heads
        key = p.key.repeat_interleave(kind.query_heads // kind.key_value_heads, dim=1).double()
        scores = soft(p.query.double() @ key.transpose(2, 3) * (scale or p.query.shape[-1] ** -0.5))
        mask = SOURCE_MASK if kind.kind == "cross" else MASK
        scores = scores.masked_fill(~mask[:, None, None, :].bool(), -torch.inf)
        if kind.causal:
            offsets = torch.arange(9)[:, None] - torch.arange(9)
            scores = scores.masked_fill((offsets < 0) | (offsets >= (kind.window or 99)), -torch.inf)
        wanted = scores.softmax(-1)
        assert (maps - wanted).transpose(1, 2)[MASK.bool()].abs().max() < 1e-5


def test_projections_that_cannot_be_had():
    with evaluating(net_of("gpt-j")), recorded_attention(
        net_of("gpt-j"), find_stack(net_of("gpt-j")), projections=True
    ) as record:
        record.finish(run(net_of("gpt-j"), None))
    assert record.projections == {}
    assert "GPTJForCausalLM computes attention by code of its own" in (
        record.projections_absent
    )


# The probabilities by themselves, against a slow twin


def slow_probabilities(call: Call) -> np.ndarray:
    """One query of one head of one text at a time, in float64."""
    texts, heads, looking, _ = call.query.shape
    groups, looked_at = call.key.shape[1:3]
    found = np.zeros((texts, heads, looking, looked_at))
    for b, h, q in np.ndindex(texts, heads, looking):
        key = call.key[b, h * groups // heads].double().numpy()
        scores = call.scale * (key @ call.query[b, h, q].double().numpy())
        if call.bias is not None:
            scores = scores + call.bias.expand(texts, heads, -1, -1)[b, h, q].double().numpy()
        if call.mask is not None:
            row = call.mask.expand(texts, heads, -1, -1)[b, h, q]
            scores = np.where(row, scores, -np.inf) if row.dtype == torch.bool else scores + row.double().numpy()
        if call.causal:
            scores[q + 1 :] = -np.inf
        if np.isfinite(scores).any():
            weights = np.exp(scores - scores.max())
            found[b, h, q] = weights / weights.sum()
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "by head", "added"])
@pytest.mark.parametrize("biased", [False, True])
def test_probabilities_agree_with_the_slow_twin(dtype, groups, mask, biased):
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    seen = torch.rand(2, 4 if mask == "by head" else 1, 5, 6, generator=generator) > 0.4
    seen[..., 0] = True
    if mask in ("bool", "by head"):
        seen[1, :, 2] = False  # a query that may look nowhere
    added = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    call = Call(
        query=normal(2, 4, 5, 8), key=normal(2, groups, 6, 8), value=normal(2, groups, 6, 3), output=normal(1),
        mask=None if mask in ("none", "causal") else added if mask == "added" else seen,
        bias=normal(1, 4, 5, 6) if biased else None, causal=mask == "causal", scale=0.7, weights=None,
    )
    found = probabilities(call)
    assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert np.abs(found.double().numpy() - slow_probabilities(call)).max() < (1e-13 if dtype == torch.float64 else 2e-6)


# Set back afterwards, other threads, errors


@pytest.mark.parametrize("name", ["gpt2", "gpt-oss", "gpt-neo", "t5"])
def test_everything_is_set_back_after_an_exception(name):
    net = net_of(name)
    stack = find_stack(net, "decoder" if name == "t5" else None)
    attention_access(net, stack)
    before, n_hooks, training = implementations(net), hooks(net), [m.training for m in net.modules()]

    def refuse(kind: Any, maps: Any) -> None:
        raise ZeroDivisionError("reduction failed")

    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="reduction failed"):
            recorded(net, stack.side, reduce=refuse)
        assert (implementations(net), hooks(net), attention_function.listeners()) == (before, n_hooks, [])
        assert [m.training for m in net.modules()] == training
    assert recorded(net, stack.side)


def test_meanwhile_the_model_has_the_capturing_implementation():
    for name, wanted in (("gpt2", SDPA), ("gpt-oss", EAGER), ("gpt-neo", "eager"), ("falcon", "eager")):
        net = net_of(name)
        own = net.config._attn_implementation
        with recorded_attention(net, find_stack(net)):
            assert net.config._attn_implementation == wanted
        assert net.config._attn_implementation == own


def test_a_model_made_eager_stays_eager():
    net = make_specimen("llama")
    assert recorded(net)[0][0].implementation == "sdpa"
    net.set_attn_implementation("eager")
    found = recorded(net)
    assert {k.implementation for k, _ in found} == {"eager"}
    assert implementations(net)[0] == "eager"
    for (_, a), (_, b) in zip(found, recorded(net_of("llama")), strict=True):
        assert (a - b).transpose(1, 2)[MASK.bool()].abs().max() < 1e-5


def test_other_threads_are_not_recorded_and_compute_the_same():
    net = net_of("gpt2")
    stack, results = find_stack(net), []
    with evaluating(net):
        own = net(IDS, attention_mask=MASK).logits
    with evaluating(net), recorded_attention(net, stack) as record:
        def elsewhere() -> None:
            with torch.no_grad():
                results.append(net(IDS.flip(1), attention_mask=MASK).logits)

        run_model(runner(net), IDS, MASK)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        found = record.finish()
    for (_, a), (_, b) in zip(found, recorded(net), strict=True):
        assert torch.equal(a, b)
    with evaluating(net):
        assert torch.allclose(results[0], net(IDS.flip(1), attention_mask=MASK).logits, atol=1e-5)
        assert torch.equal(net(IDS, attention_mask=MASK).logits, own)


def test_threads_that_record_one_model_take_turns():
    net = make_specimen("llama")
    wanted = recorded(net)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(recorded(net))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, wanted, strict=True))
    assert set(implementations(net)) == {"sdpa"}


def test_models_in_one_thread_do_not_hear_each_other():
    a, b = net_of("gpt2"), net_of("llama")
    alone = recorded(a), recorded(b)
    with evaluating(a), evaluating(b), recorded_attention(a, find_stack(a)) as of_a:
        with recorded_attention(b, find_stack(b)) as of_b:
            run(b, None)
            run(a, None)
        together = of_a.finish(), of_b.finish()
    for one, other in zip(together, alone, strict=True):
        assert all(torch.equal(x, y) for (_, x), (_, y) in zip(one, other, strict=True))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_both_stacks_of_one_model_in_one_pass(implementation):
    net = make_specimen("t5").double()
    net.set_attn_implementation(implementation)
    stacks = find_stack(net, "encoder"), find_stack(net, "decoder")
    with evaluating(net), recorded_attention(net, stacks[0]) as first, recorded_attention(net, stacks[1]) as second:
        net(input_ids=SOURCE, attention_mask=SOURCE_MASK, decoder_input_ids=IDS, use_cache=False)
        found = first.finish(), second.finish()
    assert {k.implementation for one in found for k, _ in one} == {implementation} == set(implementations(net))
    assert [(k.side, k.kind) for k, _ in found[0]] == [("encoder", "self")] * 2
    assert [(k.side, k.kind) for k, _ in found[1]] == [("decoder", "self"), ("decoder", "cross")] * 3
    for (kind, maps), (_, alone) in zip(found[1][:2], recorded(net, "decoder")[:2], strict=True):
        mask = SOURCE_MASK if kind.kind == "cross" else MASK  # here the target was not masked
        assert torch.allclose(maps[:1], alone[:1], atol=1e-6)
        assert maps.shape[3] == mask.shape[1]


def test_wrong_calls():
    net, stack = net_of("lfm2"), find_stack(net_of("lfm2"))
    with pytest.raises(ModelError, match=r"block 1 of Lfm2ForCausalLM has no attention; blocks that have it: \[2, 4\]"):
        recorded(net, blocks=[1])
    assert [kind.block for kind, _ in recorded(net, blocks=np.array([4, 2]))] == [2, 4]
    for bad in (0, 5, True, 1.0):
        with pytest.raises(ArgumentError, match=rf"blocks: found {bad}, wanted whole numbers from 1 to 4"):
            recorded(net, blocks=[bad])
    with (
        recorded_attention(net, stack),
        pytest.raises(ModelError, match="is being recorded already"),
        recorded_attention(net, stack),
    ):
        pass
    assert recorded(net)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m * 1.01, r"no distribution: block 1 .* sum to up to 1.01"),
        (lambda m: m - 0.01, "weights from -0.01"),
        (lambda m: m * float("nan"), "no distribution"),
        (lambda m: m[:, :1], r"block 1 of GPTNeoForCausalLM has the shape \(2, 1, 9, 9\)"),
        (lambda m: m.logsumexp(-1), r"has the shape \(2, 2, 9\)"),
        (lambda m: None, r"block 1 is missing, 3 of 4 maps"),
    ],
)
def test_maps_that_are_no_probabilities(spoil, message):
    net = net_of("gpt-neo")
    recorded(net)
    module = net.transformer.h[0].attn.attention
    handle = module.register_forward_hook(lambda m, a, output: (output[0], spoil(output[1])))
    try:
        with pytest.raises(ModelError, match=message):
            recorded(net)
    finally:
        handle.remove()


def test_a_sdpa_that_computes_something_else_is_noticed(monkeypatch):
    """The map formed from queries and keys is taken only if it explains what the attention function returned."""
    real = attention_function.probabilities
    wrong = make_specimen("gpt2")
    monkeypatch.setattr(attention_function, "probabilities", lambda call: real(call).roll(1, dims=1))
    assert {k.implementation for k in attention_access(wrong, find_stack(wrong)).kinds} == {"eager"}


# Wide windows, which no probe can be longer than


@pytest.mark.parametrize(
    ("name", "more", "windows"),
    [
        ("mistral", {"sliding_window": 4096}, [4096] * 3), ("gemma3", {"sliding_window": 1024}, [1024, 1024, None]),
        ("gemma2", {"sliding_window": 4096}, [4096, None, 4096]),
        ("modernbert", {"local_attention": 2048}, [None, 2049, None]),
        ("mistral", {"sliding_window": 20}, [20] * 3), ("modernbert", {"local_attention": 16}, [None, 17, None]),
    ],
)
def test_windows_wider_than_a_probe(name, more, windows):
    entry = ZOO[name]
    net = make_net(entry.model, entry.config, {**entry.settings, **more})
    assert [k.window for k in attention_access(net, find_stack(net)).kinds] == windows
    for key, value in more.items():
        assert getattr(net.config, key) == value


# Reductions


def zoo_model(name: str) -> Any:
    return load_model(net_of(name), tokenizer=make_tokenizer())


@pytest.mark.parametrize("name", ["bundled", "minilm", "mistral", "gpt-neo", "albert", "t5"])
def test_reductions_equal_those_of_the_whole_maps(name, request):
    model = request.getfixturevalue(name) if name in ("bundled", "minilm") else zoo_model(name)
    text = "The old man, who was hungry, ran home." if name in ("bundled", "minilm") else TEXT
    acts = capture_activations(model, text)
    maps = acts.attention.astype(np.float64)
    mean = reduce_attention(model, text)
    assert mean.values.shape == maps.shape[:1] + maps.shape[2:]
    assert np.abs(mean.values - maps.mean(1)).max() < 1e-6
    assert tuple(k.block for k in mean.kinds) == acts.attention_layers
    assert (mean.row_tokens, mean.row_words) == (acts.tokens, acts.words) == (mean.column_tokens, mean.column_words)
    assert mean.source.text_hash == acts.source.text_hash
    assert mean.source.options["reduction"] == "head_mean"
    pooled = reduce_attention(model, text, reduction="words")
    assert np.abs(pooled.values - acts.word_attention()).max() < 1e-6
    some = reduce_attention(model, text, reduction=lambda kind, maps: maps[:, -1], blocks=[2])
    assert some.values.shape == (1, *maps.shape[1:3])
    assert np.abs(some.values - maps[1:2, :, -1]).max() < 1e-6
    for residual in (0.0, 0.3):
        rolled = reduce_attention(model, text, reduction="rollout", residual=residual)
        wanted = attention_rollout(acts, residual=residual, relative_to_uniform=False)
        total = np.eye(len(acts.tokens))
        for step in maps.mean(1):
            total = (residual * np.eye(len(total)) + (1 - residual) * step) @ total
        assert np.abs(rolled.values - total).max() < 1e-6
        assert np.abs(rolled.affinity.values - wanted.values).max() < 1e-6
        assert np.abs(rolled.affinity.outside - wanted.outside).max() < 1e-6
        assert (rolled.affinity.words, rolled.affinity.name) == (wanted.words, wanted.name)
        assert set(rolled.affinity.source.options) >= set(wanted.source.options)


def test_reductions_of_a_decoder():
    model, target = zoo_model("bart"), "the dog ran home"
    net = model.model
    ids = [torch.tensor(model.tokenizer(t).input_ids)[None] for t in (TEXT, target)]
    read = torch.cat([torch.full((1, 1), net.config.decoder_start_token_id), ids[1][:, :-1]], dim=1)
    with evaluating(net), eager_attention(net, force=False):
        output = net(ids[0], decoder_input_ids=read, output_attentions=True, use_cache=False)
    own = reduce_attention(model, TEXT, target=target)
    cross = reduce_attention(model, TEXT, target=target, kind="cross")
    for found, maps in ((own, output.decoder_attentions), (cross, output.cross_attentions)):
        wanted = np.stack([m[0].double().mean(0).numpy() for m in maps])
        assert found.values.shape == wanted.shape
        assert np.abs(found.values - wanted).max() < 1e-6
    assert len(cross.row_tokens) == read.shape[1]
    assert len(cross.column_tokens) == ids[0].shape[1]
    words = reduce_attention(model, TEXT, target=target, kind="cross", reduction="words", blocks=[2])
    assert words.values.shape == (1, 2, len(words.row_words), len(words.column_words))
    assert (words.row_words, words.column_words) == (("the", "dog", "ran"), tuple(TEXT.split()))
    maps = output.cross_attentions[1][0].double().numpy()  # one token a word, after a start and <s> in each text
    assert np.abs(words.values[0] - maps[:, 2:, 1:]).max() < 1e-6
    rolled = reduce_attention(model, TEXT, target=target, reduction="rollout", residual=0.0)
    wanted = np.linalg.multi_dot([m[0].double().mean(0).numpy() for m in output.decoder_attentions[::-1]])
    assert np.abs(rolled.values - wanted).max() < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "gpt-oss", "gpt-neo", "deberta-v2"])
def test_one_map_is_alive_at_a_time(name):
    """All tensors of a map's shape that exist when a map is handed over, whoever holds them; and none afterwards."""
    model = zoo_model(name)
    reduce_attention(model, TEXT)
    alive: list[int] = []
    handed: list[Any] = []

    def count(kind: Any, maps: torch.Tensor) -> np.ndarray:
        handed.append(weakref.ref(maps))
        tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.ndim == 4]
        stores = {t.untyped_storage().data_ptr() for t in tensors if t.shape[1:] == maps.shape}
        alive.append(len(stores - {0}))
        return maps.mean(0).numpy()

    found = reduce_attention(model, TEXT, reduction=count)
    assert len(alive) == len(found.kinds) >= 3
    # what a layer of attention code of its own still holds (scores, a mask) beside the map does not grow with blocks
    assert max(alive) <= (1 if found.kinds[0].implementation == "sdpa" else 3)
    assert alive[0] == alive[-1]
    assert not any(ref() is not None for ref in handed)


def test_wrong_reductions(bundled):
    text = "The dog ran home."
    for options, message in (
        ({"reduction": "max"}, "reduction 'max' does not exist; choose head_mean, words, rollout or a function"),
        ({"kind": "both"}, "kind 'both' does not exist"),
        ({"kind": "cross"}, "kind 'cross': found no target"),
        ({"target": "Home."}, "has no encoder and decoder"),
        ({"residual": 1.0}, "residual: found 1.0, wanted a weight"),
        ({"residual": True}, "residual: found True"),
        ({"blocks": []}, "blocks: found none"),
        ({"blocks": [7]}, "blocks: found 7, wanted numbers from 1 to 6"),
        ({"reduction": "rollout", "blocks": [1, 2]}, r"asked for were \[1, 2\]"),
    ):
        with pytest.raises(ArgumentError, match=message):
            reduce_attention(bundled, text, **options)
    with pytest.raises(ArgumentError, match="wanted what load_model"):
        reduce_attention(bundled.model, text)
    with pytest.raises(ArgumentError, match=r"of blocks 1 to 4 attend \[2, 4\]"):
        reduce_attention(zoo_model("lfm2"), TEXT, reduction="rollout")
    with pytest.raises(ArgumentError, match="multiplies attention between the same tokens"):
        reduce_attention(zoo_model("bart"), TEXT, target=TEXT, reduction="rollout", kind="cross")
    with pytest.raises(ShapeError, match="wanted one shape for all blocks"):
        reduce_attention(bundled, text, reduction=lambda kind, maps: np.ones(kind.block))
    with pytest.raises(ShapeError, match="found NoneType, wanted an array of numbers"):
        reduce_attention(bundled, text, reduction=lambda kind, maps: None)


def test_a_result_is_frozen_and_a_table(bundled):
    found = reduce_attention(bundled, "The dog ran home.", reduction=lambda kind, maps: maps.mean(0), blocks=[3])
    assert found.name == "<lambda>"
    assert found.values.dtype == np.float32
    assert not found.values.flags.writeable
    columns, rows = found.rows()
    assert rows == [(3, "self", 5, 5, True, None, False, "sdpa")]
    assert columns[0] == "block"
    assert found.to_dict()["kinds"][0]["block"] == 3
    assert "1 blocks" in found.summary()


def test_half_precision_is_reduced_in_single(make_tiny):
    net, tokenizer = make_tiny("llama")
    model = load_model(net.to(torch.bfloat16), tokenizer=tokenizer)
    seen = []
    found = reduce_attention(model, "the old man", reduction=lambda kind, maps: seen.append(maps.dtype) or maps.sum(-1))
    assert set(seen) == {torch.float32}
    assert np.abs(found.values - 1).max() < 1e-6


def test_attention_of_rows_is_that_of_one_block(bundled):
    texts = ["The dog ran home.", "It was cold.", "He saw the old man and ran."]
    maps = attention_of_rows(bundled, token_rows(bundled, texts), 4)
    for one, text in zip(maps, texts, strict=True):
        assert np.abs(one - capture_activations(bundled, text).attention[3]).max() < 1e-6
    with pytest.raises(ModelError, match="block 1 has no attention; leave the view 'attention' out"):
        attention_of_rows(zoo_model("lfm2"), token_rows(zoo_model("lfm2"), [TEXT]), 1)


def test_the_benchmark_runs(bundled, capsys, monkeypatch):
    script = Path(__file__).parents[1] / "benchmarks" / "capture.py"
    if not script.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    spec = importlib.util.spec_from_file_location("benchmark_of_capture", script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_model", lambda name: {"bundled": bundled}[name])
    assert module.main(["--reduction", "--models", "bundled", "--tokens", "20", "--runs", "5"]) == 0
    printed = capsys.readouterr().out
    for part in ("bundled: 20 tokens on cpu", "sdpa", "registered", "eager"):
        assert part in printed
