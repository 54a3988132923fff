"""Inputs and outputs of the parts of a block, and the derivatives between them, against the models' own numbers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infogeo.errors import ArgumentError, DomainError, ModelError, TextError

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo_adapters import capture_activations, capture_channels, load_model, part_jacobians
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.parts import PARTS, find_parts

TEXTS = ["The quick brown fox jumps over", "Don't stop! said the old man", "She sells sea shells"]


def by_part(model: LanguageModel, texts: Any = TEXTS, **options: Any) -> dict[tuple[int, str], Any]:
    return {(s.block, s.part): s for s in capture_channels(model, texts, **options)}


def random_model(name: str, config: str, **settings: Any) -> Any:
    """A model of a family of transformers, random, its heads unlike each other."""
    import torch
    import transformers

    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": None, "bos_token_id": None,
        "eos_token_id": None,
    }
    made = getattr(transformers, config)(**{**sizes, **settings})
    return getattr(transformers, name)(made).eval()


def wrap(make_tiny: Callable[[str], tuple[Any, Any]], model: Any) -> LanguageModel:
    return load_model(model, tokenizer=make_tiny("gpt2")[1])


# What is captured


def test_block_is_the_residual_stream_before_and_after(any_model: LanguageModel) -> None:
    found = by_part(any_model, parts=["block"])
    acts = capture_activations(any_model, TEXTS, attention=False)
    for layer in range(1, any_model.n_layers + 1):
        before, after = (np.concatenate([a.hidden_states[k][~a.special] for a in acts]) for k in (layer - 1, layer))
        assert np.array_equal(found[layer, "block"].x, before)
        assert np.array_equal(found[layer, "block"].y, after)
    ids = np.concatenate([a.token_ids[~a.special] for a in acts])
    assert np.array_equal(found[1, "block"].token_ids, ids)


def test_projections_are_their_weights_times_the_input(any_model: LanguageModel) -> None:
    found = by_part(any_model)
    net = any_model.model.get_encoder() if any_model.kind == "encoder-decoder" else any_model.model.base_model
    for of_block in find_parts(any_model.model):
        assert not of_block.reasons
        for part in ("query", "key", "value"):
            sample, projection = found[of_block.block, part], of_block.projections[part]
            module = net.get_submodule(projection.call.path)
            weight = module.weight.detach().numpy()
            matrix = weight.T if type(module).__name__ == "Linear" else weight
            again = sample.x @ matrix + (0 if module.bias is None else module.bias.detach().numpy())
            if projection.columns is not None:
                again = again[:, projection.columns]
            assert np.allclose(sample.y, again, atol=1e-4)
            assert sample.x is found[of_block.block, "attention"].x


def test_parts_add_up_to_the_block_where_norms_come_first(
    tiny: Callable[[str], LanguageModel], bundled: LanguageModel
) -> None:
    for model in (tiny("gpt2"), tiny("llama"), tiny("t5"), bundled):
        found = by_part(model)
        for block in range(1, model.n_layers + 1):
            whole = found[block, "block"]
            parts = found[block, "attention"].y + found[block, "feed_forward"].y
            assert np.allclose(whole.y, whole.x + parts, atol=1e-4 * np.abs(whole.y).max())


def test_post_norm_blocks_are_composed_of_their_parts(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("bert")
    found = by_part(model)
    import torch

    layer = model.model.base_model.encoder.layer[1]
    with torch.no_grad():
        stream = torch.from_numpy(found[2, "block"].x)
        middle = layer.attention.output.LayerNorm(stream + torch.from_numpy(found[2, "attention"].y))
        end = layer.output.LayerNorm(middle + torch.from_numpy(found[2, "feed_forward"].y))
    assert np.allclose(found[2, "feed_forward"].x, middle, atol=1e-5)
    assert np.allclose(found[2, "block"].y, end, atol=1e-5)


def test_heads_reproduce_the_models_attention(tiny: Callable[[str], LanguageModel]) -> None:
    """Queries and keys, head by head, give the attention that the model returns (no rotation in these)."""
    from scipy.special import softmax

    for family, causal in (("gpt2", True), ("bert", False), ("bart", False)):
        model = tiny(family)
        text = TEXTS[1]
        found = by_part(model, text, special_tokens=True)
        maps = capture_activations(model, text).attention
        assert maps is not None
        for block in (1, 2):
            q, k = (found[block, part].y.reshape(-1, 4, 8).transpose(1, 0, 2) for part in ("query", "key"))
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(8)
            if causal:
                scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
            assert np.allclose(softmax(scores, axis=-1), maps[block - 1], atol=1e-5)


FUSED = {
    # where query, key and value of head h lie in the fused projection of the model's own code
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {}, lambda m: m.gpt_neox.layers[1].attention.query_key_value,
             lambda p, h: [h * 24 + p * 8 + i for i in range(8)]),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"n_layer": 2, "n_head": 4},
              lambda m: m.transformer.h[1].self_attention.query_key_value,
              lambda p, h: [h * 24 + p * 8 + i for i in range(8)]),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4},
             lambda m: m.transformer.h[1].attn.c_attn, lambda p, h: [p * 32 + h * 8 + i for i in range(8)]),
    "mpt": ("MptForCausalLM", "MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2},
            lambda m: m.transformer.blocks[1].attn.Wqkv, lambda p, h: [p * 32 + h * 8 + i for i in range(8)]),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", {}, lambda m: m.model.layers[1].attn.Wqkv,
                   lambda p, h: [p * 32 + h * 8 + i for i in range(8)]),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_projections_are_split_by_the_models_layout(name: str, make_tiny: Any) -> None:
    architecture, config, settings, module, place = FUSED[name]
    net = random_model(architecture, config, **settings)
    model = wrap(make_tiny, net)
    wanted = {part: [c for h in range(4) for c in place(p, h)] for p, part in enumerate(("query", "key", "value"))}
    seen: list[Any] = []
    handle = module(net).register_forward_hook(lambda m, a, y: seen.append(y.detach().numpy()))
    try:
        found = by_part(model, TEXTS[0], blocks=[2])
    finally:
        handle.remove()
    for part, columns in wanted.items():
        assert found[2, part].heads == 4
        assert np.array_equal(found[2, part].y, seen[-1].reshape(-1, 96)[:, columns])


def test_fewer_key_heads_than_query_heads_are_taken_apart(make_tiny: Any) -> None:
    """Falcon packs groups of two query heads, their key head and their value head (new architecture), one for all."""
    for settings, heads, key, value in (
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2, [*range(16, 24), *range(48, 56)],
         [*range(24, 32), *range(56, 64)]),
        ({}, 1, [*range(32, 40)], [*range(40, 48)]),
    ):
        net = random_model("FalconForCausalLM", "FalconConfig", **settings)
        parts = find_parts(wrap(make_tiny, net).model)[0]
        assert parts.projections["key"].columns == tuple(key)
        assert parts.projections["value"].columns == tuple(value)
        assert [parts.projections[p].heads for p in ("query", "key", "value")] == [4, heads, heads]


def test_grouped_heads_of_llama(tiny: Callable[[str], LanguageModel]) -> None:
    found = by_part(tiny("llama"))
    assert [found[1, p].heads for p in ("query", "key", "value")] == [4, 2, 2]
    assert found[1, "key"].y.shape[1] == 16


def test_a_norm_over_all_heads_leaves_them_together(make_tiny: Any) -> None:
    net = random_model("Olmo2ForCausalLM", "Olmo2Config")
    parts = find_parts(wrap(make_tiny, net).model)[0]
    assert [parts.projections[p].heads for p in ("query", "key", "value")] == [None, None, 4]
    assert [parts.projections[p].normed for p in ("query", "key", "value")] == [4, 4, None]


def test_shared_blocks_are_counted_by_their_runs(make_tiny: Any) -> None:
    net = random_model("AlbertForMaskedLM", "AlbertConfig", embedding_size=16, num_hidden_layers=3)
    model = wrap(make_tiny, net)
    found = by_part(model, TEXTS[0])
    assert {block for block, _ in found} == {1, 2, 3}
    assert np.array_equal(found[3, "block"].x, found[2, "block"].y)
    assert not np.array_equal(found[3, "query"].x, found[2, "query"].x)


def test_alone_and_in_a_batch(any_model: LanguageModel) -> None:
    together = capture_channels(any_model, TEXTS, batch_tokens=10_000)
    alone = [capture_channels(any_model, text) for text in TEXTS]
    single = capture_channels(any_model, TEXTS, batch_tokens=1)
    for i, sample in enumerate(together):
        scale = 1e-5 * max(1.0, float(np.abs(sample.y).max()))
        assert np.allclose(sample.x, np.concatenate([one[i].x for one in alone]), atol=10 * scale)
        assert np.allclose(sample.y, np.concatenate([one[i].y for one in alone]), atol=10 * scale)
        assert np.allclose(sample.y, single[i].y, atol=10 * scale)
        assert sample.texts.tolist() == [t for t, one in enumerate(alone) for _ in one[i].texts]
        assert np.array_equal(sample.positions, np.concatenate([one[i].positions for one in alone]))


def test_special_tokens_are_left_out_unless_asked_for(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("bert")
    ids = model.tokenizer.all_special_ids
    without = by_part(model, parts=["query"], blocks=[1])[1, "query"]
    assert not set(without.token_ids.tolist()) & {model.tokenizer.cls_token_id, model.tokenizer.sep_token_id}
    whole = by_part(model, parts=["query"], blocks=[1], special_tokens=True)[1, "query"]
    assert len(whole.x) == len(without.x) + 2 * len(TEXTS)
    assert whole.token_ids[0] in ids
    assert without.positions[0] == 1


def test_max_tokens_takes_whole_texts(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    counts = [len(capture_channels(model, t, parts=["block"], blocks=[1])[0].x) for t in TEXTS]
    most = counts[0] + counts[1] + counts[2] - 1
    found = capture_channels(model, TEXTS, parts=["block"], blocks=[1], max_tokens=most)[0]
    assert len(found.x) == counts[0] + counts[1]
    exactly = capture_channels(model, TEXTS, parts=["block"], blocks=[1], max_tokens=counts[0])[0]
    assert len(exactly.x) == counts[0]
    with pytest.raises(ArgumentError, match=f"the first text alone has {counts[0]} tokens"):
        capture_channels(model, TEXTS, max_tokens=counts[0] - 1)


def test_the_model_is_left_as_it_was(make_tiny: Any, restored: Any) -> None:
    net, tokenizer = make_tiny("bart")
    model = load_model(restored(net.train()), tokenizer=tokenizer)
    capture_channels(model, TEXTS[0])
    part_jacobians(model, TEXTS[0], part="block", block=1, tokens=2)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


# Jacobians


@pytest.mark.parametrize("part", PARTS)
def test_jacobians_against_finite_differences(family: str, part: Any, make_tiny: Any) -> None:
    """The slow twin: the input of one token is moved where it goes in, and its output read off after a whole pass."""
    import torch

    net, tokenizer = make_tiny(family)
    model = load_model(net.double(), tokenizer=tokenizer)
    found = part_jacobians(model, TEXTS[:2], part=part, block=2, tokens=4, rng=1)
    assert found.jacobians.shape[0] == 4
    # the norms of Llama and T5 compute in float32 whatever the model does, so that small differences drown
    step, close = (1e-3, 3e-4) if part == "block" and family in ("llama", "t5") else (1e-5, 1e-6)
    for k in (0, 3):
        direction = np.random.default_rng(k).normal(size=found.inputs.shape[1])
        moved = [output_when_moved(model, part, found, k, torch.from_numpy(s * step * direction)) for s in (1, -1)]
        slope = (moved[0] - moved[1]) / (2 * step)
        assert np.allclose(found.jacobians[k] @ direction, slope, atol=close * max(1.0, np.abs(slope).max()))
        assert np.abs(slope).max() > 1e-3


def output_when_moved(model: LanguageModel, part: str, found: Any, k: int, shift: Any) -> Any:
    parts = find_parts(model.model)[1]
    net = model.model.get_encoder() if model.kind == "encoder-decoder" else model.model.base_model
    block_path = parts.projections["query"].call.path
    depth = next(i for i, piece in enumerate(block_path.split(".")) if piece == "1")
    block = net.get_submodule(".".join(block_path.split(".")[: depth + 1]))
    at = int(found.positions[k])
    if part == "block":
        entries = [block]
    elif part == "feed_forward":
        entries = [net.get_submodule(call.path) for call in parts.first]
    else:
        entries = list({p.call.path: net.get_submodule(p.call.path) for p in parts.projections.values()}.values())

    def move(module: Any, args: Any, kwargs: Any) -> Any:
        x = (args[0] if args else kwargs["hidden_states"]).clone()
        x[0, at] += shift
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    handles = [entry.register_forward_pre_hook(move, with_kwargs=True) for entry in entries]
    try:
        text = TEXTS[int(found.texts[k])]
        sample = by_part(model, text, parts=[part], blocks=[2], special_tokens=True)[2, part]
        y: Any = sample.y[sample.positions == at][0]
        return y
    finally:
        for handle in handles:
            handle.remove()


def test_jacobians_belong_to_the_tokens_that_were_captured(any_model: LanguageModel) -> None:
    for part in PARTS:
        found = part_jacobians(any_model, TEXTS[2:], part=part, block=1, tokens=1000, rng=0)
        sample = by_part(any_model, TEXTS[2:], parts=[part], blocks=[1])[1, part]
        assert np.array_equal(found.texts, sample.texts)
        assert np.array_equal(found.positions, sample.positions)
        for mine, own in ((found.inputs, sample.x), (found.outputs, sample.y)):
            assert np.allclose(mine, own, atol=1e-4 * np.abs(own).max())


def test_jacobians_in_small_batches_are_the_same(tiny: Callable[[str], LanguageModel]) -> None:
    for part in ("block", "attention"):
        whole = part_jacobians(tiny("llama"), TEXTS, part=part, block=2, tokens=6, rng=3)
        small = part_jacobians(tiny("llama"), TEXTS, part=part, block=2, tokens=6, rng=3, memory=1e4)
        assert np.array_equal(whole.positions, small.positions)
        assert np.allclose(whole.jacobians, small.jacobians, atol=1e-5)
        other = part_jacobians(tiny("llama"), TEXTS, part=part, block=2, tokens=6, rng=4)
        assert not np.array_equal(whole.positions, other.positions)


# Guards


def test_what_cannot_be_found_is_said(make_tiny: Any) -> None:
    sizes = {"num_local_experts": 4, "num_key_value_heads": 2}
    mixture = wrap(make_tiny, random_model("MixtralForCausalLM", "MixtralConfig", **sizes))
    with pytest.raises(ModelError, match=r"the part 'feed_forward' of block 1 was not found.*self_attn\.q_proj"):
        capture_channels(mixture, TEXTS[0])
    assert len(capture_channels(mixture, TEXTS[0], parts=["block", "attention", "key"])) == 6
    state_space = wrap(make_tiny, random_model("MambaForCausalLM", "MambaConfig"))
    with pytest.raises(ModelError, match="the part 'attention' of block 2 was not found"):
        capture_channels(state_space, TEXTS[0], parts=["attention"], blocks=[2])
    with pytest.raises(ModelError, match="'attention' of block 1"):
        part_jacobians(state_space, TEXTS[0], part="block", block=1)


def test_arguments_that_mean_nothing(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    for options, words in (
        ({"parts": ["residual"]}, "found 'residual', wanted one or more of block, attention"),
        ({"parts": []}, "found none"), ({"blocks": [0]}, "wanted numbers from 1 to 3"), ({"blocks": [4]}, "found 4"),
        ({"blocks": []}, "found none"), ({"blocks": [True]}, "found True"), ({"batch_tokens": 0}, "batch_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(ArgumentError, match=words):
            capture_channels(model, TEXTS, **options)
    for options, words in (({"tokens": 0}, "tokens"), ({"rng": "x"}, "rng"), ({"block": 9}, "1 to 3")):
        with pytest.raises(ArgumentError, match=words):
            part_jacobians(model, TEXTS, **{"part": "block", "block": 1, **options})
    with pytest.raises(ArgumentError, match="load_model"):
        capture_channels(model.model, TEXTS)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="load_model"):
        part_jacobians(model.model, TEXTS, part="block", block=1)  # type: ignore[arg-type]


def test_texts_that_cannot_be_read(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    for texts, words in (([], "found no texts"), ([""], "an empty text"), (3, "found int"), (b"x", "bytes"),
                         (["word " * 100], "text 0 has .* tokens")):
        with pytest.raises(TextError, match=words):
            capture_channels(model, texts)  # type: ignore[arg-type]


def test_numbers_that_are_none(make_tiny: Any) -> None:
    import torch

    net, tokenizer = make_tiny("gpt2")
    model = load_model(net, tokenizer=tokenizer)
    find_parts(net)
    with torch.no_grad():
        net.transformer.h[1].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(DomainError, match="feed_forward of block 2 holds NaN"):
        capture_channels(model, TEXTS, parts=["feed_forward"])


def test_a_derivative_that_torch_lacks_is_said(
    tiny: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = tiny("gpt2")
    find_parts(model.model)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the derivative for 'flash' is not implemented\nmore")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    with pytest.raises(ModelError, match=r"attention of block 1 has an operation without.*attn_implementation"):
        part_jacobians(model, TEXTS, part="attention", block=1)


def test_importing_the_module_loads_no_torch() -> None:
    module = importlib.import_module("infogeo_adapters.transformers.channels")
    assert "torch" not in vars(module)


def test_the_decoder_of_two_stacks_has_cross_attention(tiny: Callable[[str], LanguageModel]) -> None:
    names = {"t5": ("layer.0.SelfAttention.{}", "layer.1.EncDecAttention.{}", "qkvo"),
             "bart": ("self_attn.{}_proj", "encoder_attn.{}_proj", ("q", "k", "v", "out"))}
    for family, (own, across, letters) in names.items():
        net = tiny(family).model
        for parts in find_parts(net, "decoder"):
            assert not parts.reasons
            assert not parts.cross_reasons
            for found, output, path in ((parts.projections, parts.output, own),
                                        (parts.cross, parts.cross_output, across)):
                for part, letter in zip(("query", "key", "value"), letters, strict=False):
                    assert found[part].call.path.endswith(path.format(letter))
                    assert found[part].heads == 4
                assert output is not None
                assert output.path.endswith(path.format(letters[3]))
            assert len(parts.hidden) == 2
        assert find_parts(net) is find_parts(net, "encoder")
        assert all(not parts.cross and parts.cross_output is None for parts in find_parts(net))
        assert len(find_parts(net, "decoder")) == 2


def test_shared_experts_alone_are_no_feed_forward() -> None:
    """DeepSeek adds to its routed experts, which are no affine maps, one that is: that one is not all."""
    from model_zoo import make_specimen

    dense, *mixtures = find_parts(make_specimen("deepseek-v3"))
    assert "feed_forward" not in dense.reasons
    for parts in mixtures:
        assert "something leads past the affine maps" in parts.reasons["feed_forward"]
        assert not parts.first


def test_mixing_without_keys_is_no_attention() -> None:
    from model_zoo import make_specimen

    assert [parts.attends for parts in find_parts(make_specimen("lfm2"))] == [False, True, False, True]
    assert [parts.attends for parts in find_parts(make_specimen("recurrentgemma"))] == [False, False, True]
    assert all(parts.attends for parts in find_parts(make_specimen("deepseek-v3")))
