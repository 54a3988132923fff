"""Every architecture of the zoo: read out as the model itself does, padded as unpadded, or refused in clear words."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import ALSO, TEXT, VOCABULARY, ZOO, make_specimen, make_tokenizer, tail_of  # noqa: E402

from infogeo.errors import ModelError  # noqa: E402
from infogeo_adapters.transformers.capture import capture_activations, capture_encoder_decoder  # noqa: E402
from infogeo_adapters.transformers.loading import LanguageModel, load_model  # noqa: E402
from infogeo_adapters.transformers.readout import find_readout  # noqa: E402
from infogeo_adapters.transformers.stack import find_stack  # noqa: E402

ALL = {**ZOO, **ALSO}
READ = [name for name, entry in ALL.items() if not entry.refused]
LARGEST = 60_000
"""A config whose keys were ignored gives a model of full size."""
# what is done without a module, where something is
SCALINGS = {
    "gemma2": ("final_logit_softcapping",), "cohere": ("logit_scale",), "granite": ("logits_scaling",),
    "falcon-h1": ("lm_head_multiplier",), "recurrentgemma": ("logits_soft_cap",), "hyperclovax": ("logits_scaling",),
    "xlstm": ("output_logit_soft_cap",), "t5": ("x 0.25 before lm_head",), "umt5": ("x 0.25 before lm_head",),
    "longt5": ("x 0.25 before lm_head",),
    **dict.fromkeys(("bart", "mbart", "pegasus", "marian"), ("final_logits_bias",)),
}


@cache
def tokenizer() -> Any:
    return make_tokenizer()


@cache
def specimen(name: str) -> LanguageModel:
    """Loaded once; tests leave it as it is."""
    return load_model(make_specimen(name), tokenizer=tokenizer())


def ordinary(n: int) -> Any:
    """Tokens of the text that are not special, (1, n)."""
    return torch.tensor([tokenizer()(TEXT, add_special_tokens=False)["input_ids"][:n]])


def assert_same(found: Any, wanted: Any, relative: float) -> None:
    """Equal up to a part of the largest number wanted."""
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= relative * float(wanted.abs().max())


def test_the_zoo_holds_what_the_read_out_is_promised_for() -> None:
    classes = {entry.model for entry in ZOO.values()}
    wanted = [
        "GPT2LMHead", "GPTNeo", "GPTNeoX", "GPTJ", "CodeGen", "GPTBigCode", "OPT", "Bloom", "Llama", "Mistral",
        "Mixtral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi", "Phi3", "Olmo2", "Cohere", "Granite", "Falcon",
        "Mpt", "StableLm", "BioGpt", "XGLM", "Mamba", "Nemotron", "DeepseekV3", "GptOss", "Lfm2", "Bert", "Roberta",
        "Electra", "DistilBert", "Albert", "ModernBert", "DebertaV2", "MPNet", "T5", "UMT5", "Bart", "MBart", "Pegasus",
        "Marian", "Gemma3n",
    ]
    endings = ("ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "Model", "MTModel")
    assert [w for w in wanted if not any(w + e in classes for e in endings)] == []
    assert len(ZOO) >= 47


@pytest.mark.parametrize("name", ALL)
def test_a_specimen_is_small_and_none_of_its_norms_and_biases_is_idle(name: str) -> None:
    net = specimen(name).model if name in READ else make_specimen(name)
    parameters = dict(net.named_parameters())
    assert sum(p.numel() for p in parameters.values()) <= LARGEST
    assert net.get_input_embeddings().weight.shape[0] == VOCABULARY
    vectors = {n: p for n, p in parameters.items() if p.ndim == 1 and p.numel() > 4}
    assert [n for n, p in vectors.items() if float(p.detach().std()) < 0.1] == []
    norms = {n: m for n, m in net.named_modules() if "norm" in type(m).__name__.lower()}
    if name in READ:
        ran: dict[str, float] = {}

        def watch(label: str) -> Any:
            def hook(module: Any, args: Any, output: Any) -> None:
                ran[label] = float((output - args[0].reshape(output.shape)).norm() / args[0].norm())

            return hook

        handles = [module.register_forward_hook(watch(label)) for label, module in norms.items()]
        try:
            tail_of(net, ordinary(9))
        finally:
            for handle in handles:
                handle.remove()
        assert {label: change for label, change in ran.items() if change < 0.05} == {}
        assert ran or name == "opt, projected"


@pytest.mark.parametrize("name", [name for name in ALL if name not in READ])
def test_what_cannot_be_read_is_refused_at_load(name: str) -> None:
    with pytest.raises(ModelError, match=ALL[name].refused) as caught:
        specimen(name)
    assert ALL[name].model in str(caught.value)


@pytest.mark.parametrize("name", READ)
def test_the_read_out_gives_the_models_own_logits(name: str) -> None:
    model = specimen(name)
    ids = ordinary(9)
    stream, logits = tail_of(model.model, ids)
    found = find_readout(model)
    assert found.predicts == ALL[name].predicts
    assert found.scalings == SCALINGS.get(name, ())
    assert found.dtype == "float32"
    assert found.max_difference is not None
    with found.session() as project:
        assert_same(project(stream[-1, 0]), logits[0], 1e-6)
        # the model's own way from the states of an earlier layer on
        earlier = tail_of(model.model, ids, stream[1])[1]
        assert_same(project(stream[1, 0]), earlier[0], 1e-6)
    assert float((earlier - logits).abs().max()) > 0.01  # layers differ


@pytest.mark.parametrize("name", READ)
def test_at_every_layer_nothing_but_rounding_is_left_in_double_precision(name: str) -> None:
    narrow, entry, ids = specimen(name), ALL[name], ordinary(9)
    net = make_specimen(name).double()
    net.set_experts_implementation("eager")  # the grouped product of experts has no float64
    if entry.double.startswith("does not run"):
        with pytest.raises(ModelError, match="does not run on token ids alone"):
            load_model(net, tokenizer=tokenizer())
        return
    exact = 1e-6 if entry.double else 1e-10
    model = load_model(net, tokenizer=tokenizer())
    stream, logits = tail_of(model.model, ids)
    found = find_readout(model)
    assert found.dtype == "float64"
    wide = find_readout(narrow, dtype="float64")
    assert wide.dtype == "float64"
    assert wide.path == found.path == find_readout(narrow).path
    with found.session() as project, wide.session() as widened:
        assert_same(project(stream[-1, 0]), logits[0], exact)
        for states in stream:
            own = tail_of(model.model, ids, states)[1][0]
            assert own.dtype == torch.float32 if entry.double else torch.float64
            assert_same(project(states[0]), own, exact)
            assert_same(widened(states[0]), own, exact)  # float32 weights, read out in float64


@pytest.mark.parametrize("name", READ)
def test_padding_on_the_right_changes_nothing(name: str) -> None:
    model = specimen(name)
    texts = [" ".join(TEXT.split()[:n]) for n in (4, 9, 6)]
    together = capture_activations(model, texts, attention=False)
    for text, acts in zip(texts, together, strict=True):
        alone = capture_activations(model, text, attention=False)
        scale = np.abs(alone.hidden_states).max()
        np.testing.assert_allclose(acts.hidden_states, alone.hidden_states, rtol=0, atol=2e-6 * scale)
    if find_stack(model.model).encoder_decoder:
        pairs = capture_encoder_decoder(model, texts, texts[::-1], attention=False)
        for source, target, both in zip(texts, texts[::-1], pairs, strict=True):
            alone = capture_encoder_decoder(model, source, target, attention=False).decoder
            scale = np.abs(alone.hidden_states).max()
            np.testing.assert_allclose(both.decoder.hidden_states, alone.hidden_states, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", READ)
def test_padding_on_the_left_changes_nothing_where_the_architecture_takes_it(name: str) -> None:
    net, entry, k = specimen(name).model, ALL[name], 3
    assert (entry.positions is not None) == ("position_ids" in inspect.signature(net.forward).parameters)
    ids = ordinary(9)
    padded = torch.cat([torch.zeros(1, k, dtype=torch.long), ids], dim=1)
    mask = (torch.arange(9 + k) >= k).long()[None]
    more = {}
    if entry.positions is not None:
        more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0) + entry.positions
    stream, logits = tail_of(net, ids)
    left, left_logits = tail_of(net, padded, mask=mask, **more)
    difference = float((left_logits[:, k:] - logits).abs().max() / logits.abs().max())
    if entry.left:
        assert difference > 0.02  # as labelled, for the reason given there
    else:
        assert_same(left[:, :, k:], stream, 2e-6)
        assert difference < 2e-6
        # the mask is what does it
        seen, _ = tail_of(net, padded, **more)
        assert float((seen[-1, :, k:] - stream[-1]).abs().max()) > 0.01


@pytest.mark.parametrize("name", [name for name in READ if not ALL[name].attention])
def test_attention_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"attention=False"):
        capture_activations(specimen(name), TEXT)
