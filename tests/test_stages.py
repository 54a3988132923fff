"""Stages inside the blocks: against sums by hand, the models' own attention, and by putting them into other texts."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import numpy as np
import pytest
from model_zoo import ALSO, ZOO, make_net, make_specimen, make_tokenizer

from infogeo import StageActivations
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError, TextError
from infogeo.stages import CROSS_STAGES, HEAD_STAGES, STAGES

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo_adapters import capture_activations, capture_encoder_decoder, capture_stages, load_model
from infogeo_adapters.transformers._stage_places import find_places, tensors_in
from infogeo_adapters.transformers._stage_search import for_search
from infogeo_adapters.transformers._stage_watch import Watch, watched
from infogeo_adapters.transformers.parts import find_parts
from infogeo_adapters.transformers.stack import encoded, evaluating, find_stack, run_model, runner

TEXT = "the cat sat on the mat"
TARGET = "the dog ran home because it was cold"
MORE = ("jamba", "recurrentgemma", "hyperclovax", "llama4", "ctrl", "rembert", "xlstm", "fnet", "m2m100")
ENTRIES = {**ZOO, **{name: ALSO[name] for name in MORE}}
READABLE = [name for name, entry in ENTRIES.items() if not entry.refused]
PARALLEL = {"neox", "gpt-j", "codegen", "phi", "cohere", "falcon"}
NO_PARTS = {"mamba", "xlnet", "fnet"}
"""Nothing but the stream between blocks is found: tokens are mixed by no affine maps, or by several."""
OWN_CODE = {
    "gpt-neo", "gpt-j", "codegen", "bloom", "falcon", "mpt", "xglm", "deberta-v2", "mpnet", "xlnet", "rembert",
}
"""Attention by code that hands queries and keys to no function."""
ABSOLUTE = {
    "gpt2", "gpt-neo", "gptbigcode", "opt", "opt, projected", "biogpt", "xglm", "bert", "roberta", "electra",
    "distilbert", "albert", "mpnet", "bart", "mbart", "pegasus", "marian", "rembert", "fnet", "m2m100",
}
"""Models that add a position embedding."""


@cache
def specimen(name: str) -> Any:
    return load_model(make_specimen(name), tokenizer=make_tokenizer())


@cache
def captured(name: str, side: str | None) -> StageActivations:
    return capture_stages(specimen(name), TEXT, target=TARGET if side == "decoder" else None)


def sides(name: str) -> tuple[Any, ...]:
    return ("encoder", "decoder") if specimen(name).kind == "encoder-decoder" else (None,)


def layer_of(name: str, side: Any, block: int) -> Any:
    """The module of a block, as the model's own file calls its parts."""
    net = specimen(name).model
    modules = list(runner(net, side).get_submodule(find_stack(net, side).path).children())
    return modules[0].albert_layers[0] if name == "albert" else modules[block - 1]


# What follows a sum, or precedes it, in families that do not just add; written from the models' own files
AFTER_ATTENTION = {
    "bert": lambda m: m.attention.output.LayerNorm, "roberta": lambda m: m.attention.output.LayerNorm,
    "electra": lambda m: m.attention.output.LayerNorm, "deberta-v2": lambda m: m.attention.output.LayerNorm,
    "rembert": lambda m: m.attention.output.LayerNorm,
    "albert": lambda m: m.attention.LayerNorm, "mpnet": lambda m: m.attention.LayerNorm,
    "distilbert": lambda m: m.sa_layer_norm, "bart": lambda m: m.self_attn_layer_norm,
    "marian": lambda m: m.self_attn_layer_norm, "opt, projected": lambda m: m.self_attn_layer_norm,
}
AFTER_FEED_FORWARD = {
    "bert": lambda m: m.output.LayerNorm, "roberta": lambda m: m.output.LayerNorm,
    "electra": lambda m: m.output.LayerNorm, "deberta-v2": lambda m: m.output.LayerNorm,
    "rembert": lambda m: m.output.LayerNorm,
    "albert": lambda m: m.full_layer_layer_norm, "mpnet": lambda m: m.output.LayerNorm,
    "distilbert": lambda m: m.output_layer_norm, "bart": lambda m: m.final_layer_norm,
    "marian": lambda m: m.final_layer_norm, "opt, projected": lambda m: m.final_layer_norm,
}
ON_ATTENTION = {name: lambda m: m.post_attention_layernorm for name in ("gemma2", "gemma3", "olmo2")}
ON_FEED_FORWARD = {name: lambda m: m.post_feedforward_layernorm for name in ("gemma2", "gemma3", "olmo2")}
ON_ATTENTION["hyperclovax"] = lambda m: m.post_norm1
ON_FEED_FORWARD["hyperclovax"] = lambda m: m.post_norm2
FACTORS = {"granite": 0.5}
"""What is added is multiplied by this first."""


def step(name: str, layer: Any, stream: Any, added: Any, on: dict[str, Any], after: dict[str, Any]) -> Any:
    """One step of the stream: what a part returned is normed or scaled, added, and the sum may be normed again."""
    import torch

    stream, added = torch.from_numpy(stream.copy()), torch.from_numpy(added.copy())
    with torch.no_grad():
        if name in on:
            added = on[name](layer)(added)
        if name in FACTORS:
            added = added * FACTORS[name]
        total = stream + added
        return (after[name](layer)(total) if name in after else total).numpy()


def near(found: Any, wanted: Any, tolerance: float = 2e-5) -> bool:
    return bool(np.abs(found - wanted).max() <= tolerance * max(np.abs(wanted).max(), np.abs(found).max()))


@pytest.mark.parametrize("name", READABLE)
def test_the_stream_is_the_sum_of_what_is_added_to_it(name: str) -> None:
    for side in sides(name):
        found = captured(name, side)
        depth = found.activations.n_layers
        states = found.activations.hidden_states
        assert np.array_equal(found.at("embedding"), states[0])
        for block in range(1, depth + 1):
            assert np.array_equal(found.at("resid_pre", block), states[block - 1])
            assert np.array_equal(found.at("resid_post", block), states[block])
            layer = layer_of(name, side, block)
            if "feed_forward_output" not in found.stages or block not in found.blocks("feed_forward_output"):
                continue
            pre, post, ff = (found.at(s, block) for s in ("resid_pre", "resid_post", "feed_forward_output"))
            if name in PARALLEL:
                assert near(pre + found.at("attention_output", block) + ff, post)
                with pytest.raises(ModelError, match="side by side"):
                    found.at("resid_mid", block)
                continue
            mid = found.at("resid_mid", block)
            if block in found.blocks("attention_output"):
                wanted = step(name, layer, pre, found.at("attention_output", block), ON_ATTENTION, AFTER_ATTENTION)
                assert near(mid, wanted), (side, block)
            if side == "decoder":
                after = {"bart": lambda m: m.encoder_attn_layer_norm, "marian": lambda m: m.encoder_attn_layer_norm}
                wanted = step(name, layer, mid, found.at("cross_attention_output", block), {}, after)
                mid = found.at("resid_cross", block)
                assert near(mid, wanted), (side, block)
            assert near(post, step(name, layer, mid, ff, ON_FEED_FORWARD, AFTER_FEED_FORWARD)), (side, block)
    if name not in NO_PARTS:
        assert any(captured(name, side).blocks("feed_forward_output") for side in sides(name))


@pytest.mark.parametrize("name", READABLE)
def test_all_stages_are_there_but_those_that_the_architecture_has_not(name: str) -> None:
    for side in sides(name):
        found = captured(name, side)
        lacking = {stage for stage in STAGES if not found.blocks(stage)}
        assert all(found.absent[stage] for stage in lacking)
        wanted = set() if side == "decoder" else set(CROSS_STAGES)
        if name not in ABSOLUTE:
            wanted.add("position_embedding")
        if name in PARALLEL:
            wanted.add("resid_mid")
        if name in NO_PARTS:
            wanted |= set(STAGES) - {"token_embedding", "position_embedding", "embedding", "resid_pre", "resid_post"}
        if name == "xlstm":
            wanted |= {"attention_input", "attention_output", "query", "key", "value", "rotated_query", "rotated_key"}
        if name == "deepseek-v3":
            wanted.add("key")  # its parts come from two maps
        if name in OWN_CODE:
            wanted |= {"rotated_query", "rotated_key"}
        assert lacking == wanted, side


@pytest.mark.parametrize("name", [n for n in READABLE if n not in NO_PARTS and ENTRIES[n].attention])
def test_values_weighted_by_the_models_attention_give_its_output(name: str) -> None:
    import torch

    for side in sides(name):
        found = captured(name, side)
        if side == "decoder":
            both = capture_encoder_decoder(specimen(name), TEXT, TARGET)
            kinds = [(both.decoder.attention, both.decoder.attention_layers, ""),
                     (both.cross_attention, both.cross_attention_layers, "cross_")]
        else:
            acts = capture_activations(specimen(name), TEXT)
            kinds = [(acts.attention, acts.attention_layers, "")]
        part = runner(specimen(name).model, side)
        for maps, blocks, prefix in kinds:
            for weights, block in zip(maps, blocks, strict=True):
                parts = find_parts(specimen(name).model, side)[block - 1]
                values = found.at(f"{prefix}value", block)
                shared = np.repeat(values, weights.shape[0] // values.shape[1], axis=1)
                mixed = np.einsum("hts,shc->thc", weights, shared).reshape(len(weights[0]), -1)
                call = parts.cross_output if prefix else parts.output
                with torch.no_grad():
                    wanted = part.get_submodule(call.path)(torch.from_numpy(mixed)).numpy()
                assert near(found.at(f"{prefix}attention_output", block), wanted, 1e-4), (side, block, prefix)


@pytest.mark.parametrize("name", [n for n in READABLE if n not in NO_PARTS])
def test_a_stream_put_into_another_text_makes_it_the_first(name: str) -> None:
    """The meaning of a cut: with this tensor of another text in its place, all that follows is of that text."""
    import torch

    net = specimen(name).model
    for side in sides(name):
        stack, part = find_stack(net, side), runner(net, side)
        block = 2
        places = find_places(net, side)[block - 1].places
        one, other = torch.tensor([[7, 9, 11, 8]]), torch.tensor([[12, 6, 10, 14]])
        mask = torch.ones_like(one)
        with evaluating(net):
            more = encoded(net, torch.tensor([[6, 7, 8]]), mask[:, :3]) if side == "decoder" else {}
            for stage in ("resid_mid", "resid_cross", "attention_output"):
                if stage not in places:
                    continue
                kept: dict[str, Any] = {}
                end_of_other = passed(part, stack, block, places[stage], other, mask, more, kept, put=False)
                end_of_one = passed(part, stack, block, places[stage], one, mask, more, {}, put=False)
                changed = passed(part, stack, block, places[stage], one, mask, more, kept, put=True)
                assert not near(end_of_one, end_of_other, 1e-3)
                assert near(changed, end_of_other) is (stage != "attention_output"), (side, stage)


def passed(
    part: Any, stack: Any, block: int, place: Any, ids: Any, mask: Any, more: Any, kept: dict[str, Any], *, put: bool
) -> Any:
    """What leaves a block when the tensor at a place is kept, or overwritten by the one kept before."""
    ends: dict[int, Any] = {}

    def look(number: int, call: Any, made: bool, tensors: Any) -> None:
        for key, tensor in tensors:
            if number == block and (call, made, key) == (place.call, place.made, place.key):
                if put:
                    tensor.copy_(kept["it"])
                else:
                    kept["it"] = tensor.clone()

    watch = Watch(
        given=lambda b, call, args, kwargs: look(b, call, False, [*tensors_in(args), *tensors_in(kwargs)]),
        made=lambda b, call, output: look(b, call, True, tensors_in(output)),
        leave=lambda b, y: ends.update({b: y.clone().numpy()}),
    )
    with watched(part, stack, [place.call.path], watch):
        run_model(part, ids, mask, **more)
    return ends[block]


def test_a_block_whose_feed_forward_reads_past_the_stream_has_no_stage_there() -> None:
    """Not the name of a norm but the flow decides: the same block, with a second way around its middle."""
    model = load_model(make_specimen("gpt2", seed=1), tokenizer=make_tokenizer())
    block = model.model.transformer.h[1]
    inner = block.mlp.forward
    start: list[Any] = []
    block.ln_1.register_forward_pre_hook(lambda m, args: start.append(args[0]))
    block.mlp.forward = lambda x: inner(x + 0.5 * start.pop())
    found = capture_stages(model, TEXT, stages=["resid_mid", "attention_output"])
    assert found.blocks("resid_mid") == (1, 3)
    assert found.blocks("attention_output") == (1, 2, 3)
    with pytest.raises(ModelError, match=r"resid_mid in block 2: between attention and the feed-forward no module"):
        found.at("resid_mid", 2)


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss", "deepseek-v3", "llama4"])
def test_a_mixture_of_experts_is_one_feed_forward(name: str) -> None:
    import torch

    found = captured(name, None)
    for block in (1, 2, 3):
        layer = layer_of(name, None, block)
        module = layer.mlp if hasattr(layer, "mlp") else layer.feed_forward
        given = torch.from_numpy(found.at("feed_forward_input", block).copy())[None]
        with torch.no_grad():
            made = module(given)
        made = (made[0] if isinstance(made, tuple) else made).reshape(given.shape)[0]
        assert near(found.at("feed_forward_output", block), made.numpy())


@pytest.mark.parametrize("fixture", ["bundled", "minilm"])
def test_trained_models(fixture: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(fixture)
    found = capture_stages(model, "The quick brown fox jumps over the lazy dog.")
    layers = None if fixture == "bundled" else model.model.base_model.encoder.layer
    for block in range(1, model.n_layers + 1):
        stream = found.at("resid_pre", block)
        for added, wanted in (("attention_output", "resid_mid"), ("feed_forward_output", "resid_post")):
            stream = stream + found.at(added, block)
            if layers is not None:
                import torch

                layer = layers[block - 1]
                norm = (layer.attention if wanted == "resid_mid" else layer).output.LayerNorm
                with torch.no_grad():
                    stream = norm(torch.from_numpy(stream)).numpy()
            assert near(found.at(wanted, block), stream, 1e-4), (wanted, block)
            stream = found.at(wanted, block)


# Embeddings


def test_position_embeddings_are_what_is_added() -> None:
    import torch

    found = captured("gpt2", None)
    table = specimen("gpt2").model.transformer.wpe.weight.detach().numpy()
    assert np.array_equal(found.at("position_embedding"), table[: len(found.activations.tokens)])
    assert np.array_equal(found.at("token_embedding") + found.at("position_embedding"), found.at("embedding"))

    found, embeddings = captured("bert", None), specimen("bert").model.bert.embeddings
    kind = embeddings.token_type_embeddings.weight.detach()[0]
    with torch.no_grad():
        total = torch.from_numpy(found.at("token_embedding") + found.at("position_embedding")) + kind
        assert near(found.at("embedding"), embeddings.LayerNorm(total).numpy())
    for name in ("roberta", "marian", "opt, projected"):  # from another number on, by sines, of another width
        found = captured(name, "decoder" if name == "marian" else None)
        assert found.at("position_embedding").shape[0] == len(found.activations.tokens)


def test_without_an_embedding_of_positions_the_reason_is_said() -> None:
    for name in ("llama", "bloom", "t5"):
        with pytest.raises(ModelError, match="positions are rotary, relative or biases"):
            captured(name, "encoder" if name == "t5" else None).at("position_embedding")
    with pytest.raises(ModelError, match="no module returns a position embedding of its own"):
        captured("ctrl", None).at("position_embedding")  # it adds rows of a table that no module holds


# Queries, keys and values


@pytest.mark.parametrize("name", [n for n in READABLE if n not in NO_PARTS])
def test_queries_keys_and_values_are_their_projections_of_the_attention_input(name: str) -> None:
    import torch

    for side in sides(name):
        found, part = captured(name, side), runner(specimen(name).model, side)
        for parts in find_parts(specimen(name).model, side):
            for stage in ("query", "key", "value"):
                if parts.block not in found.blocks(stage) or name == "deepseek-v3":
                    continue  # its queries are made in two steps
                projection, value = parts.projections[stage], found.at(stage, parts.block)
                given = torch.from_numpy(found.at("attention_input", parts.block).copy())
                with torch.no_grad():
                    wanted = part.get_submodule(projection.call.path)(given).numpy()
                columns = slice(None) if projection.columns is None else list(projection.columns)
                assert near(value.reshape(len(value), -1), wanted[:, columns]), (side, parts.block, stage)


def test_rotary_positions_turn_queries_and_keys_and_nothing_else() -> None:
    for name, turned in (("llama", 8), ("mistral", 4), ("neox", 4), ("phi", 4), ("granite", 8), ("gpt-oss", 4)):
        found = captured(name, None)
        for stage in ("query", "key"):
            plain, used = found.at(stage, 2), found.at(f"rotated_{stage}", 2)
            assert plain.shape == used.shape
            scale = np.linalg.norm(used, axis=-1) / np.linalg.norm(plain, axis=-1)
            assert np.allclose(scale, scale[0, 0], rtol=1e-4), name  # yarn of GPT-OSS scales all alike
            assert name == "gpt-oss" or np.allclose(scale, 1, rtol=1e-4)
            assert np.array_equal(plain[..., turned:], used[..., turned:])
            assert near(used[0], scale[0, 0] * plain[0]), "the first position is turned by no angle"
            assert not near(used[1:], plain[1:], 0.05)


def test_without_rotary_positions_queries_and_keys_stay_as_they_are() -> None:
    for name, side in (("gpt2", None), ("bert", None), ("bart", "decoder"), ("t5", "encoder"), ("ctrl", None)):
        found = captured(name, side)
        for stage in ("query", "key"):
            assert np.array_equal(found.at(stage, 2), found.at(f"rotated_{stage}", 2)), name
    found = captured("opt", None)  # it multiplies queries by their scale before they meet the keys
    assert np.allclose(found.at("query", 2) / np.sqrt(8), found.at("rotated_query", 2))
    assert np.array_equal(found.at("key", 2), found.at("rotated_key", 2))


def test_norms_of_queries_and_keys_lie_between_the_two_stages() -> None:
    import torch

    found, layer = captured("qwen3", None), layer_of("qwen3", None, 2).self_attn
    with torch.no_grad():
        normed = layer.q_norm(torch.from_numpy(found.at("query", 2).copy())).numpy()
    used = found.at("rotated_query", 2)
    assert np.allclose(np.linalg.norm(used, axis=-1), np.linalg.norm(normed, axis=-1), rtol=1e-4)
    found, layer = captured("olmo2", None), layer_of("olmo2", None, 2).self_attn
    with torch.no_grad():  # one norm over all heads
        normed = layer.k_norm(torch.from_numpy(found.at("key", 2).reshape(7, -1).copy())).numpy().reshape(7, 2, 8)
    assert np.allclose(np.linalg.norm(found.at("rotated_key", 2), axis=-1), np.linalg.norm(normed, axis=-1), rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "neox", "qwen3", "olmo2", "granite", "qwen2"])
def test_attention_is_the_softmax_of_rotated_queries_times_keys(name: str) -> None:
    from scipy.special import softmax

    found, acts = captured(name, None), capture_activations(specimen(name), TEXT)
    assert acts.attention is not None
    query, key = found.at("rotated_query", 2), found.at("rotated_key", 2)
    key = np.repeat(key, query.shape[1] // key.shape[1], axis=1)
    scale = 0.4 if name == "granite" else query.shape[2] ** -0.5
    scores = scale * np.einsum("thc,shc->hts", query.astype(float), key.astype(float))
    scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    assert np.allclose(softmax(scores, axis=-1), acts.attention[1], atol=1e-4)


def test_cross_attention_reads_the_encoders_output() -> None:
    from scipy.special import softmax

    model = specimen("bart")
    found, both = captured("bart", "decoder"), capture_encoder_decoder(model, TEXT, TARGET)
    layer = layer_of("bart", "decoder", 2).encoder_attn
    weight, bias = layer.k_proj.weight.detach().numpy(), layer.k_proj.bias.detach().numpy()
    keys = both.encoder.hidden_states[-1] @ weight.T + bias
    assert near(found.at("cross_key", 2), keys.reshape(-1, 2, 8))
    assert len(keys) != len(found.at("cross_query", 2))
    scores = np.einsum("thc,shc->hts", found.at("cross_query", 2), found.at("cross_key", 2)) / np.sqrt(8)
    assert both.cross_attention is not None
    assert np.allclose(softmax(scores.astype(float), axis=-1), both.cross_attention[1], atol=1e-4)
    assert found.activations.source.options["side"] == "decoder"
    assert np.array_equal(found.activations.hidden_states, both.decoder.hidden_states)


# Texts, blocks, formats


TEXTS = [TEXT, "the dog ran home", "it was cold outside today", "the mat"]


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt-oss", "deberta-v2", "xlnet", "albert", "marian"])
def test_many_texts_give_what_each_gives_alone(name: str) -> None:
    model = specimen(name)
    targets = TEXTS[::-1] if model.kind == "encoder-decoder" else None
    found = capture_stages(model, TEXTS, target=targets, batch_tokens=16)
    for i, text in enumerate(TEXTS):
        alone = capture_stages(model, text, target=None if targets is None else targets[i])
        assert found[i].stages == alone.stages
        assert found[i].activations.tokens == alone.activations.tokens
        for stage in alone.stages:
            for block in alone.blocks(stage):
                assert found[i].at(stage, block).shape == alone.at(stage, block).shape
                assert near(found[i].at(stage, block), alone.at(stage, block), 1e-4), (stage, block)


def test_a_square_batch_of_a_model_that_runs_by_tokens_first() -> None:
    """As many texts as tokens: rows and columns must not be swapped."""
    model = specimen("xlnet")
    texts = ["the cat", "a mat", "my dog"]
    found = capture_stages(model, texts, stages="token_embedding")
    assert len(found[0].activations.tokens) == 3
    for one, text in zip(found, texts, strict=True):
        table = model.model.get_input_embeddings().weight.detach().numpy()
        assert np.array_equal(one.at("token_embedding"), table[one.activations.token_ids]), text


def test_half_precision_comes_out_as_float32() -> None:
    import torch

    net = make_specimen("llama").to(torch.bfloat16)
    model = load_model(net, tokenizer=make_tokenizer())
    found = capture_stages(model, TEXT)
    assert found.stages == captured("llama", None).stages
    for stage in found.stages:
        for block in found.blocks(stage):
            assert found.at(stage, block).dtype == np.float32
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}


def test_only_what_is_asked_for_is_listened_to() -> None:
    model = specimen("llama")
    capture_stages(model, TEXT)
    before = hooked_modules(model.model)  # those that transformers keeps
    seen: list[set[str]] = []
    handle = model.model.model.norm.register_forward_pre_hook(lambda *_: seen.append(hooked_modules(model.model)))
    try:
        found = capture_stages(model, TEXT, stages=["resid_mid", "value"], blocks=[2])
    finally:
        handle.remove()
    assert found.stages == ("value", "resid_mid")
    assert found.blocks("value") == found.blocks("resid_mid") == (2,)
    inside = {name.removeprefix("model.layers.") for name in seen[-1] - before if name.count(".") > 2}
    assert inside == {"1.self_attn.v_proj", "1.post_attention_layernorm"}
    assert hooked_modules(model.model) == before


def hooked_modules(net: Any) -> set[str]:
    return {name for name, m in net.named_modules() if m._forward_hooks or m._forward_pre_hooks}


def hooks_on(net: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


def test_the_model_is_as_before_also_after_an_error() -> None:
    net = make_specimen("t5")
    model = load_model(net, tokenizer=make_tokenizer())
    capture_stages(model, TEXT, target=TARGET)
    net.train()
    before = hooks_on(net), net.config._attn_implementation, [m.training for m in net.modules()]
    capture_stages(model, TEXT, target=TARGET)
    assert (hooks_on(net), net.config._attn_implementation, [m.training for m in net.modules()]) == before
    calls: list[int] = []

    def fail(module: Any, args: Any, output: Any) -> None:
        calls.append(1)
        raise RuntimeError("stop here")

    handle = net.decoder.block[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="stop here"):
        capture_stages(model, TEXT, target=TARGET)
    handle.remove()
    assert calls
    assert (hooks_on(net), net.config._attn_implementation, [m.training for m in net.modules()]) == before


def test_threads_that_share_a_model_wait_for_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, texts = specimen("mistral"), [*TEXTS, *TEXTS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: capture_stages(model, text), texts))
    for text, one in zip(texts, found, strict=True):
        alone = capture_stages(model, text)
        for stage in alone.stages:
            assert all(np.array_equal(one.at(stage, b), alone.at(stage, b)) for b in alone.blocks(stage))


def test_training_mode_changes_nothing() -> None:
    net = make_specimen("gpt2")
    net.train()
    found = capture_stages(load_model(net, tokenizer=make_tokenizer()), TEXT, stages="resid_mid")
    assert np.array_equal(found.at("resid_mid", 2), captured("gpt2", None).at("resid_mid", 2))
    assert net.training


# What is refused


def test_a_stage_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ArgumentError, match=r"'residual_mid' does not exist; choose from .*resid_post"):
        capture_stages(specimen("gpt2"), TEXT, stages=["residual_mid"])
    with pytest.raises(ArgumentError, match="wanted one or more of"):
        capture_stages(specimen("gpt2"), TEXT, stages=[])
    with pytest.raises(ArgumentError, match="stages: found int"):
        capture_stages(specimen("gpt2"), TEXT, stages=3)  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="stage 'mid' does not exist"):
        captured("gpt2", None).at("mid", 1)


@pytest.mark.parametrize(
    ("name", "stage", "reason"),
    [
        ("gpt-j", "resid_mid", "side by side"),
        ("gpt-j", "rotated_key", "code of its own"),
        ("gpt2", "cross_key", "the model has no cross attention"),
        ("bart", "cross_key", "give the decoder a text with target="),
        ("mamba", "attention_output", "no mamba|affine maps read what depends on other tokens"),
        ("xlnet", "resid_mid", "attention was not found"),
        ("deepseek-v3", "key", "kv_a_proj_with_mqa, .*kv_b_proj, wanted from one map"),
        ("llama", "position_embedding", "rotary"),
    ],
)
def test_a_stage_that_is_nowhere_is_refused_with_the_reason(name: str, stage: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"has no {stage}: .*({reason}).*leave this stage out"):
        capture_stages(specimen(name), TEXT, stages=["resid_post", stage])


def test_a_stage_of_some_blocks_only_is_kept_with_the_reason_for_the_others() -> None:
    found = capture_stages(specimen("lfm2"), TEXT, stages=["key", "resid_mid"])
    assert found.blocks("key") == (2, 4)
    assert found.blocks("resid_mid") == (1, 2, 3, 4)
    assert set(found.absent["key"]) == {1, 3}
    with pytest.raises(ModelError, match="mixed by no attention in this block"):
        found.at("key", 1)
    with pytest.raises(ModelError, match="mixed by no attention"):
        capture_stages(specimen("lfm2"), TEXT, stages=["key"], blocks=[3])


def test_wrong_arguments() -> None:
    model = specimen("gpt2")
    for blocks in ([0], [4], [True], []):
        with pytest.raises(ArgumentError, match="blocks"):
            capture_stages(model, TEXT, blocks=blocks)
    with pytest.raises(ArgumentError, match="reads one text; leave target out"):
        capture_stages(model, TEXT, target=TARGET)
    with pytest.raises(ArgumentError, match="found 1 targets for 2 texts"):
        capture_stages(specimen("bart"), [TEXT, TEXT], target=[TARGET])
    with pytest.raises(ArgumentError, match="target"):
        capture_stages(specimen("bart"), TEXT, target=[TARGET])  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="batch_tokens"):
        capture_stages(model, TEXT, batch_tokens=0)
    with pytest.raises(ArgumentError, match="load_model"):
        capture_stages("gpt2", TEXT)  # type: ignore[call-overload]
    for text in ("", [], 3, [TEXT, ""]):
        with pytest.raises(TextError):
            capture_stages(model, text)  # type: ignore[call-overload]
    with pytest.raises(TextError, match="overflow='truncate'"):
        capture_stages(model, "the cat " * 40)
    cut = capture_stages(model, "the cat " * 40, overflow="truncate", stages="key", blocks=[1])
    assert len(cut.at("key", 1)) == len(cut.activations.tokens) == 30


def test_nan_in_a_stage_is_named() -> None:
    net = make_net("GPT2LMHeadModel", "GPT2Config", {"n_layer": 2, "n_head": 2, "n_embd": 16})
    model = load_model(net, tokenizer=make_tokenizer())
    capture_stages(model, TEXT)
    net.transformer.h[1].mlp.c_proj.register_forward_hook(lambda m, a, y: y * float("nan"))
    with pytest.raises(DomainError, match=r"layer 2 holds NaN|NaN or infinity"):
        capture_stages(model, TEXT, stages="feed_forward_output")


# The result


def test_the_result_is_read_only_and_shares_the_stream() -> None:
    found = captured("gpt2", None)
    assert np.shares_memory(found.at("resid_pre", 2), found.activations.hidden_states)
    for stage in found.stages:
        for block in found.blocks(stage):
            assert not found.at(stage, block).flags.writeable
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.at("key", 3), found.at("key", 3))
    assert found.at("key", -1) is found.at("key", 3)
    columns, rows = found.rows()
    assert columns[0] == "stage"
    assert ("resid_mid", 2, "7x16", "") in rows
    assert "StageActivations of 7 tokens" in found.summary()


def test_a_result_that_does_not_fit_is_refused() -> None:
    acts = captured("gpt2", None).activations
    good = np.zeros((7, 16))

    def make(**values: Any) -> StageActivations:
        return StageActivations(**{"activations": acts, "values": {}, "absent": {}, **values})

    with pytest.raises(ShapeError, match="resid_mid of block 1"):
        make(values={"resid_mid": {1: good[1:]}})
    with pytest.raises(ShapeError, match="key of block 1"):
        make(values={"key": {1: good}})
    with pytest.raises(DomainError, match="NaN or infinity"):
        make(values={"resid_mid": {1: good * np.nan}})
    with pytest.raises(DomainError, match="dtype"):
        make(values={"resid_mid": {1: good.astype(int)}})
    with pytest.raises(ArgumentError, match="block 4 does not exist"):
        make(values={"resid_mid": {4: good}})
    with pytest.raises(ArgumentError, match="not inside a block"):
        make(values={"embedding": {1: good}})
    with pytest.raises(ArgumentError, match="'middle' does not exist"):
        make(absent={"middle": {1: "why"}})
    with pytest.raises(ArgumentError, match="give it once"):
        make(values={"resid_mid": {1: good}}, absent={"resid_mid": {1: "why"}})
    with pytest.raises(ArgumentError, match="activations: found"):
        make(activations=None)
    kept = make(values={"resid_mid": {1: good}})
    good[0, 0] = 5.0
    assert kept.at("resid_mid", 1)[0, 0] == 0.0
    with pytest.raises(ArgumentError, match="was not captured"):
        kept.at("resid_mid", 2)
    for block in (True, 1.5, "1", 0, 4):
        with pytest.raises(ArgumentError, match="block"):
            kept.at("resid_mid", block)  # type: ignore[arg-type]
    assert set(HEAD_STAGES) < set(STAGES)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_hides_no_stage(dtype: str) -> None:
    wide, narrow = (capture_stages(load_model(dtype=one), "The dog ran home.") for one in ("float32", dtype))
    assert narrow.stages == wide.stages
    for stage in wide.stages:
        assert narrow.blocks(stage) == wide.blocks(stage)
        assert narrow.at(stage, narrow.blocks(stage)[-1]).dtype == np.float32


@pytest.mark.parametrize("name", ["t5", "t5, untied", "umt5", "mixtral", "stablelm", "nemotron", "deepseek-v3", "lfm2"])
def test_places_in_half_precision_are_those_of_float32(name: str) -> None:
    """In bfloat16 derivatives are too blurred to tell these apart; weights are held twice only while a block runs."""
    import torch

    net = make_specimen(name).to(torch.bfloat16)
    before = [(w.dtype, w.data_ptr()) for w in net.parameters()]
    for side in sides(name):
        found, wanted = find_places(net, side), find_places(specimen(name).model, side)
        assert [dict(block.places) for block in found] == [dict(block.places) for block in wanted], side
        twin, tolerance = for_search(net, find_stack(net, side))
        assert tolerance < 1e-3
        assert [(w.dtype, w.data_ptr()) for w in twin.parameters()] == before
    assert [(w.dtype, w.data_ptr()) for w in net.parameters()] == before
    wide = specimen(name).model
    assert for_search(wide, find_stack(wide))[0] is wide


def test_a_model_whose_numbers_stay_coarse_has_no_stream_inside_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with quantized weights, which cannot be widened: nothing is guessed."""
    from infogeo_adapters.transformers import _stage_places, parts

    for module in (_stage_places, parts):
        monkeypatch.setattr(module, "for_search", lambda model, stack: (model, 5e-2))
    model = load_model(make_specimen("llama", seed=3), tokenizer=make_tokenizer())
    found = capture_stages(model, TEXT)
    assert {"query", "attention_output", "resid_post"} <= {*found.stages}
    for stage in ("resid_mid", "feed_forward_input", "feed_forward_output"):
        with pytest.raises(ModelError, match="too coarse to tell the stream"):
            found.at(stage, 1)


def test_a_model_in_half_precision_that_cannot_be_copied_is_refused() -> None:
    import threading

    import torch

    net = make_specimen("gpt2", seed=4).to(torch.bfloat16)
    net.kept = threading.Lock()
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel in bfloat16 .* cannot be copied \(TypeError.*float32"):
        find_parts(net)
    net.float()
    assert find_parts(net)
