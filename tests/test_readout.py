"""The read-out: found by running the model, accepted only if it gives the model's own logits."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo.errors import ArgumentError, DomainError, ModelError  # noqa: E402
from infogeo_adapters.transformers import readout as module  # noqa: E402
from infogeo_adapters.transformers.capture import capture_activations  # noqa: E402
from infogeo_adapters.transformers.loading import LanguageModel, load_model  # noqa: E402
from infogeo_adapters.transformers.readout import find_readout, read_out  # noqa: E402

TEXT = "the cat sat on the mat and saw a dog"
VOCABULARY = 60
UNUSED = 20
BASE = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
GROUPED = {**BASE, "num_key_value_heads": 1, "head_dim": 8}
GPT2 = {"n_layer": 3, "n_head": 2, "n_embd": 16, "n_positions": 32}
OPT = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "ffn_dim": 32}

# name: (class of the model, class of the config, settings, modules replayed, scalings, predicts)
LANGUAGE_MODELS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...], tuple[str, ...], str]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2, ("transformer.ln_f", "lm_head"), (), "next"),
    "llama": ("LlamaForCausalLM", "LlamaConfig", BASE, ("model.norm", "lm_head"), (), "next"),
    "qwen2": (
        "Qwen2ForCausalLM", "Qwen2Config", {**BASE, "num_key_value_heads": 1}, ("model.norm", "lm_head"), (), "next",
    ),
    "gemma2": (
        "Gemma2ForCausalLM", "Gemma2Config", GROUPED, ("model.norm", "lm_head"), ("final_logit_softcapping",), "next",
    ),
    "cohere": ("CohereForCausalLM", "CohereConfig", BASE, ("model.norm", "lm_head"), ("logit_scale",), "next"),
    "granite": (
        "GraniteForCausalLM", "GraniteConfig", {**BASE, "logits_scaling": 4.0}, ("model.norm", "lm_head"),
        ("logits_scaling",), "next",
    ),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", BASE, ("gpt_neox.final_layer_norm", "lm_head"), (), "next"),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT, ("model.decoder.final_layer_norm", "lm_head"), (), "next"),
    "opt, projected": (
        "OPTForCausalLM", "OPTConfig", {**OPT, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        ("model.decoder.project_out", "lm_head"), (), "next",
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", BASE, ("model.final_layernorm", "lm_head"), (), "next"),
    "mamba": (
        "MambaForCausalLM", "MambaConfig", {"num_hidden_layers": 2, "hidden_size": 16}, ("backbone.norm_f", "lm_head"),
        (), "next",
    ),
    "bert": ("BertForMaskedLM", "BertConfig", BASE, ("cls",), (), "itself"),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", BASE, ("lm_head",), (), "itself"),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**BASE, "embedding_size": 8}, ("predictions",), (), "itself"),
    "modernbert": (
        "ModernBertForMaskedLM", "ModernBertConfig", BASE, ("model.final_norm", "head", "decoder"), (), "itself",
    ),
    "distilbert": (
        "DistilBertForMaskedLM", "DistilBertConfig", {"n_layers": 2, "n_heads": 2, "dim": 16, "hidden_dim": 32},
        ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"), (), "itself",
    ),
}
XLNET = {"n_layer": 2, "n_head": 2, "d_model": 16, "d_inner": 32}
LANGUAGE_MODELS["xlnet"] = (
    "XLNetLMHeadModel", "XLNetConfig", XLNET, ("transformer.dropout", "lm_loss"), (), "itself",
)
MAIN = ("gpt2", "llama", "gemma2", "phi", "bert", "roberta")


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    plain = TEXT.split() + [f"word{i}" for i in range(VOCABULARY)]
    table = {token: i for i, token in enumerate(dict.fromkeys([*special, *plain]))}
    # the head of the model is a little wider than this, and one number belongs to no token
    table = {token: i + (i >= UNUSED) for token, i in table.items() if i < VOCABULARY - 4}
    raw = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=30,
    )


def make_net(model_class: str, config_class: str, settings: dict[str, Any], *, seed: int = 0) -> Any:
    """A random model in which every norm and bias is perturbed, so that leaving one out shows."""
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if config_class == "ModernBertConfig":
        ids |= {"cls_token_id": 1, "sep_token_id": 2}
    torch.manual_seed(seed)
    config = getattr(transformers, config_class)(vocab_size=VOCABULARY, **ids, **settings)
    net = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.5)
            elif "mixer" not in name:
                parameter.mul_(10)
    return net


def make_model(name: str, *, dtype: Any = None, seed: int = 0) -> LanguageModel:
    model_class, config_class, settings, *_ = LANGUAGE_MODELS[name]
    net = make_net(model_class, config_class, settings, seed=seed)
    return load_model(net if dtype is None else net.to(dtype), tokenizer=make_tokenizer())


def own_log_probs(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """The model's own prediction, in float64."""
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor(ids)[None]).logits[0].double()
    return np.asarray(torch.log_softmax(logits, dim=-1))


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_path_is_found_and_gives_the_models_own_prediction(name: str) -> None:
    *_, path, scalings, predicts = LANGUAGE_MODELS[name]
    model = make_model(name)
    found = find_readout(model)
    assert (found.path, found.scalings, found.predicts) == (path, scalings, predicts)
    assert found.max_difference is not None
    assert found.max_difference < 1e-5
    assert found.dtype == "float32"
    acts = capture_activations(model, TEXT, attention=False)
    own = own_log_probs(model, acts.token_ids)
    log_probs = read_out(model, acts, -1)
    assert log_probs.dtype == np.float64
    assert log_probs.shape == (len(acts.tokens), VOCABULARY)
    np.testing.assert_allclose(log_probs, own, atol=2e-4, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, rtol=1e-12)
    # every stage of the path matters: the stream put straight into the last module gives something else
    if len(path) > 1 and name not in ("opt, projected", "xlnet"):  # one changes the width, one is a dropout
        head = model.model.get_submodule(path[-1])
        with torch.no_grad():
            raw = head(torch.tensor(np.array(acts.hidden_states[-1])))
        assert np.abs(np.asarray(torch.log_softmax(raw.double(), dim=-1)) - own).max() > 0.1


def layer_norm(x: np.ndarray, norm: Any) -> np.ndarray:
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + getattr(norm, "eps", 1e-12))
    return scaled * weights(norm.weight) + weights(norm.bias)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


def weights(parameter: Any) -> np.ndarray:
    return np.asarray(parameter.detach().double())


def plain_logits(name: str, net: Any, x: np.ndarray) -> np.ndarray:
    """The read-out of a family written down by hand, in float64."""
    if name == "gpt2":
        return layer_norm(x, net.transformer.ln_f) @ weights(net.transformer.wte.weight).T
    if name == "llama":
        return rms_norm(x, weights(net.model.norm.weight), net.config.rms_norm_eps) @ weights(net.lm_head.weight).T
    if name == "gemma2":
        normed = rms_norm(x, 1 + weights(net.model.norm.weight), net.config.rms_norm_eps)
        return 30.0 * np.tanh(normed @ weights(net.lm_head.weight).T / 30.0)
    if name == "phi":
        normed = layer_norm(x, net.model.final_layernorm)
        return normed @ weights(net.lm_head.weight).T + weights(net.lm_head.bias)
    from scipy.special import erf

    head = net.cls.predictions.transform if name == "bert" else net.lm_head
    decoder = net.cls.predictions.decoder if name == "bert" else net.lm_head.decoder
    inner = x @ weights(head.dense.weight).T + weights(head.dense.bias)
    gelu = 0.5 * inner * (1 + erf(inner / np.sqrt(2)))
    norm = head.LayerNorm if name == "bert" else head.layer_norm
    return layer_norm(gelu, norm) @ weights(decoder.weight).T + weights(decoder.bias)


def plain_log_probs(name: str, net: Any, x: np.ndarray) -> np.ndarray:
    logits = plain_logits(name, net, np.asarray(x, dtype=np.float64))
    below = logits - logits.max(axis=-1, keepdims=True)
    return below - np.log(np.exp(below).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", MAIN)
def test_every_layer_agrees_with_the_formula_written_by_hand(name: str) -> None:
    model = make_model(name)
    acts = capture_activations(model, TEXT, attention=False)
    for layer in range(acts.n_layers + 1):
        expected = plain_log_probs(name, model.model, acts.hidden_states[layer])
        np.testing.assert_allclose(read_out(model, acts, layer), expected, atol=2e-4, rtol=2e-5)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "roberta"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_model_is_read_out_in_float32(name: str, dtype: str) -> None:
    model = make_model(name, dtype=getattr(torch, dtype))
    found = find_readout(model)
    assert found.dtype == "float32"
    assert found.max_difference is not None
    acts = capture_activations(model, TEXT, attention=False)
    states = acts.hidden_states[1]
    wide = make_model(name)
    wide.model.load_state_dict({k: v.float() for k, v in model.model.state_dict().items()})
    expected = plain_log_probs(name, wide.model, states)
    np.testing.assert_allclose(read_out(model, acts, 1), expected, atol=2e-4, rtol=2e-5)
    assert {p.dtype for p in model.model.parameters()} == {getattr(torch, dtype)}  # the model itself is as it was


def test_a_double_precision_model_is_read_out_in_double() -> None:
    model = make_model("llama", dtype=torch.float64)
    acts = capture_activations(model, TEXT, attention=False)
    assert find_readout(model).dtype == "float64"
    np.testing.assert_allclose(read_out(model, acts, -1), own_log_probs(model, acts.token_ids), atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_small_chunks_give_the_same(name: str) -> None:
    model = make_model(name)
    acts = capture_activations(model, TEXT, attention=False)
    whole = read_out(model, acts, 1)
    for memory in (1.0, 3 * 32 * VOCABULARY, 7 * 32 * VOCABULARY + 1):
        np.testing.assert_allclose(read_out(model, acts, 1, memory=memory), whole, atol=2e-5)
    sizes = [len(part) for _, part in find_readout(model).chunks(acts.hidden_states[1], memory=3 * 32 * VOCABULARY)]
    assert max(sizes) == 3
    assert sum(sizes) == len(acts.tokens)


def test_the_mode_of_the_model_does_not_matter_and_is_kept() -> None:
    model = make_model("xlnet")  # a dropout lies on its way to the logits
    acts = capture_activations(model, TEXT, attention=False)
    quiet = read_out(model, acts, 2)
    other = make_model("xlnet")
    other.model.train()
    other.model.transformer.word_embedding.eval()
    np.testing.assert_array_equal(read_out(other, acts, 2), quiet)
    assert other.model.training
    assert other.model.transformer.dropout.training
    assert not other.model.transformer.word_embedding.training


def test_threads_take_turns_in_reading_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read_out(make_model("bert"), capture_activations(make_model("bert"), TEXT), -1)
    model = make_model("bert")
    for part in model.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.9
    model.model.train()
    acts = capture_activations(model, TEXT)
    real, running, most = module.replay, 0, 0

    def slow(*args: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        try:
            return real(*args)
        finally:
            running -= 1

    monkeypatch.setattr(module, "replay", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: read_out(model, acts, -1), range(9)))
    assert most == 1
    for log_probs in found:
        np.testing.assert_allclose(log_probs, wanted, atol=1e-5)
    assert all(part.training for part in model.model.modules())


def test_activations_from_before_a_change_of_the_weights_are_refused() -> None:
    model = make_model("gpt2")
    before = capture_activations(model, TEXT)
    with torch.no_grad():
        model.model.transformer.h[0].mlp.c_fc.weight.mul_(2)
    with pytest.raises(ArgumentError, match="if its weights were changed meanwhile, capture again"):
        read_out(model, before, -1)
    own = read_out(model, capture_activations(model, TEXT), -1)
    assert np.isfinite(own).all()
    assert not np.allclose(own, read_out(model, before, -1, readout=find_readout(model)))


def test_nothing_of_the_search_stays_on_the_model() -> None:
    model = make_model("gpt2")
    find_readout(model)
    left = [n for n, m in model.model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    clean = make_model("gpt2")
    assert left == [n for n, m in clean.model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    assert all(p.grad is None and p.requires_grad for p in model.model.parameters())


def test_a_read_out_is_found_once_and_does_not_keep_the_model_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    original = module.run_noted
    monkeypatch.setattr(module, "run_noted", lambda *a: runs.append(1) or original(*a))
    model = make_model("gpt2")
    assert find_readout(model) is find_readout(model)
    assert len(runs) == 2  # one run to find, one to check
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_weights_changed_after_the_search_are_used() -> None:
    model = make_model("gpt2")
    acts = capture_activations(model, TEXT, attention=False)
    before = read_out(model, acts, -1)
    with torch.no_grad():
        model.model.transformer.ln_f.bias.add_(1.0)
    after = read_out(model, capture_activations(model, TEXT, attention=False), -1)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after, own_log_probs(model, acts.token_ids), atol=2e-4)


def test_reading_out_leaves_gradients_switched_on() -> None:
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)
    assert torch.is_grad_enabled()
    read_out(model, acts, 1)
    next(find_readout(model).chunks(acts.hidden_states[1]))  # left in the middle
    assert torch.is_grad_enabled()


def test_logits_can_be_differentiated() -> None:
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)
    read_out(model, acts, 1)
    states = torch.tensor(np.array(acts.hidden_states[1]), requires_grad=True)
    find_readout(model).logits(states)[3, 7].backward()
    assert states.grad is not None
    assert states.grad[3].abs().max() > 0
    assert states.grad[2].abs().max() == 0  # tokens are read out one by one


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "config_class", "settings", "message"),
    [
        ("BertModel", "BertConfig", BASE, "returns no logits .*load it as .*BertForMaskedLM"),
        ("GPT2Model", "GPT2Config", GPT2, "returns no logits .*load it as GPT2LMHeadModel"),
        ("BertForSequenceClassification", "BertConfig", BASE, r"logits have shape \(1, 2\), not \(1, 5, V\)"),
        ("BertForTokenClassification", "BertConfig", BASE, r"logits have shape \(1, 5, 2\), not \(1, 5, V\)"),
        (
            "T5ForConditionalGeneration", "T5Config",
            {"num_layers": 2, "num_heads": 2, "d_model": 16, "d_kv": 8, "d_ff": 32}, "has two stacks: its encoder",
        ),
        (
            "BartForConditionalGeneration", "BartConfig",
            {
                "encoder_layers": 2, "decoder_layers": 2, "d_model": 16, "encoder_attention_heads": 2,
                "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 2,
            },
            "has two stacks: its encoder",
        ),
    ],
)
def test_a_model_that_predicts_no_tokens_is_refused(
    model_class: str, config_class: str, settings: dict[str, Any], message: str
) -> None:
    model = load_model(make_net(model_class, config_class, settings), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match=message) as caught:
        find_readout(model)
    assert model_class in str(caught.value)
    assert "readout=" in str(caught.value)


def test_the_packaged_sentence_encoder_is_refused_with_a_way_out(minilm: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"minilm \(BertModel\) predicts no tokens.*BertForMaskedLM.*load_model\(\)"):
        find_readout(minilm)


def change_forward(net: Any, change: Callable[[Any], Any]) -> None:
    """Something done to the logits, or on the way to them, that no module and no setting shows."""
    original = net.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        output.logits = change(output.logits)
        return output

    net.forward = forward


def test_a_replay_that_misses_something_is_refused_with_the_difference() -> None:
    model = make_model("llama")
    change_forward(model.model, lambda z: z + torch.linspace(0, 0.25, z.shape[-1]))
    with pytest.raises(ModelError, match=r"differ by up to 0.25, allowed is .*e-0.*readout="):
        find_readout(model)


def test_a_bias_on_one_single_token_is_not_missed() -> None:
    model = make_model("bert")
    change_forward(model.model, lambda z: z + 0.001 * torch.nn.functional.one_hot(torch.tensor(7), z.shape[-1]))
    with pytest.raises(ModelError, match=r"differ by up to 0\.001"):
        find_readout(model)


def test_a_scaling_that_the_config_names_but_the_model_does_not_apply_is_not_applied() -> None:
    model = make_model("llama")
    model.model.config.logit_scale = 0.1
    assert find_readout(model).scalings == ()
    scaled = make_model("cohere")
    scaled.model.config.logit_scale = 0.1  # read from the model at load, so the config is wrong now
    with pytest.raises(ModelError, match="differ by up to"):
        find_readout(scaled)


def test_logits_made_without_a_module_are_refused() -> None:
    model = make_model("llama")

    class Inline(torch.nn.Module):
        def __init__(self, head: Any) -> None:
            super().__init__()
            self.weight = head.weight

        def forward(self, x: Any) -> Any:
            return x[..., :1].expand(*x.shape[:-1], 3)  # not the logits

    net = model.model
    weight = net.lm_head.weight
    net.lm_head = Inline(net.lm_head)
    original = net.model.forward
    kept: list[Any] = []

    def body(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        kept[:] = [output.last_hidden_state]
        return output

    net.model.forward = body
    change_forward(net, lambda z: kept[0] @ weight.T)
    with pytest.raises(ModelError, match=r"does not make its logits with a module of its own .*model.norm, lm_head"):
        find_readout(model)


def test_a_module_beside_the_path_is_not_taken_for_a_part_of_it() -> None:
    model = make_model("llama")
    net = model.model
    net.side = torch.nn.LayerNorm(16)
    original = net.model.forward

    def body(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        net.side(output.last_hidden_state)
        return output

    net.model.forward = body
    assert find_readout(model).path == ("model.norm", "lm_head")


def test_activations_of_another_model_are_refused() -> None:
    one, other = make_model("llama"), make_model("llama", seed=1)
    acts = capture_activations(one, TEXT, attention=False)
    with pytest.raises(ArgumentError, match=r"captured from .* read them out with their own model, or pass readout="):
        read_out(other, acts, -1)
    # who asks for it explicitly gets it
    with_other = read_out(one, acts, -1, readout=find_readout(other))
    assert np.abs(with_other - read_out(one, acts, -1)).max() > 0.1


@pytest.mark.parametrize("layer", [4, -5, 100])
def test_a_layer_out_of_range_is_refused(layer: int) -> None:
    model = make_model("llama")
    with pytest.raises(ArgumentError, match=r"layers 0 \(embedding\) to 3"):
        read_out(model, capture_activations(model, TEXT, attention=False), layer)


# --- one's own ------------------------------------------------------------------------------------------------------


def test_ones_own_read_out_makes_a_headless_model_readable() -> None:
    model = load_model(make_net("BertModel", "BertConfig", BASE), tokenizer=make_tokenizer())
    acts = capture_activations(model, TEXT, attention=False)
    head = torch.randn(16, 9, generator=torch.Generator().manual_seed(0))
    log_probs = read_out(model, acts, 2, readout=lambda states: states @ head)
    logits = np.array(acts.hidden_states[2], dtype=np.float64) @ np.asarray(head.double())
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probs, expected, atol=1e-4)
    assert find_readout(model, readout=lambda states: states @ head).max_difference is None


def test_ones_own_read_out_is_told_what_is_wrong_with_it() -> None:
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)
    with pytest.raises(ArgumentError, match="readout: found int, wanted a function"):
        read_out(model, acts, 1, readout=3)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"cannot be applied to states of shape \(1, 16\)"):
        read_out(model, acts, 1, readout=lambda states: states @ torch.zeros(3, 4))
    with pytest.raises(ModelError, match=r"turned states \(\d+, 16\) into \(\d+, 5\), wanted \(T, V\)"):
        read_out(model, acts, 1, readout=lambda states: torch.zeros(7, 5))
    with pytest.raises(DomainError, match="logits of token 0 hold NaN"):
        read_out(model, acts, 1, readout=lambda states: states * float("nan"))
