"""The read-out: found by running the model, accepted only if it gives the model's own logits."""

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import (  # noqa: E402
    BART,
    BASE,
    GPT2,
    T5,
    UNUSED,
    VOCABULARY,
    ZOO,
    make_net,
    make_specimen,
    make_tokenizer,
    tail_of,
)

from infogeo.errors import ArgumentError, DomainError, ModelError  # noqa: E402
from infogeo_adapters.transformers import readout as module  # noqa: E402
from infogeo_adapters.transformers import readout_search  # noqa: E402
from infogeo_adapters.transformers.capture import capture_activations  # noqa: E402
from infogeo_adapters.transformers.loading import LanguageModel, load_model  # noqa: E402
from infogeo_adapters.transformers.readout import find_readout, read_out  # noqa: E402

TEXT = "the cat sat on the mat and the dog ran"
# name: (modules replayed, scalings)
PATHS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gpt2": (("transformer.ln_f", "lm_head"), ()),
    "llama": (("model.norm", "lm_head"), ()),
    "qwen2": (("model.norm", "lm_head"), ()),
    "gemma2": (("model.norm", "lm_head"), ("final_logit_softcapping",)),
    "cohere": (("model.norm", "lm_head"), ("logit_scale",)),
    "granite": (("model.norm", "lm_head"), ("logits_scaling",)),
    "neox": (("gpt_neox.final_layer_norm", "lm_head"), ()),
    "opt": (("model.decoder.final_layer_norm", "lm_head"), ()),
    "opt, projected": (("model.decoder.project_out", "lm_head"), ()),
    "phi": (("model.final_layernorm", "lm_head"), ()),
    "mamba": (("backbone.norm_f", "lm_head"), ()),
    "bert": (("cls",), ()),
    "roberta": (("lm_head",), ()),
    "albert": (("predictions",), ()),
    "modernbert": (("model.final_norm", "head", "decoder"), ()),
    "distilbert": (("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"), ()),
    "xlnet": (("transformer.dropout", "lm_loss"), ()),
}
# as in the zoo: (class of the model, class of the config, settings, path, scalings, predicts)
LANGUAGE_MODELS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...], tuple[str, ...], str]] = {
    name: (ZOO[name].model, ZOO[name].config, ZOO[name].settings, path, scalings, ZOO[name].predicts)
    for name, (path, scalings) in PATHS.items()
}
DECODERS = {
    "t5": (("decoder.final_layer_norm", "decoder.dropout", "lm_head"), ("x 0.25 before lm_head",)),
    "bart": (("lm_head",), ("final_logits_bias",)),
    "mbart": (("model.decoder.layer_norm", "lm_head"), ("final_logits_bias",)),
}
MAIN = ("gpt2", "llama", "gemma2", "phi", "bert", "roberta")
__all__ = [
    "BASE", "LANGUAGE_MODELS", "MAIN", "TEXT", "UNUSED", "VOCABULARY", "make_model", "make_net", "make_tokenizer",
]


def make_model(name: str, *, dtype: Any = None, seed: int = 0) -> LanguageModel:
    net = make_specimen(name, seed=seed)
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
    original = readout_search.run_noted
    monkeypatch.setattr(readout_search, "run_noted", lambda *a: runs.append(1) or original(*a))
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


@pytest.mark.parametrize("name", ["llama", "opt", "bart"])
def test_a_head_that_was_replaced_is_found_anew(name: str) -> None:
    model = make_model(name) if name in LANGUAGE_MODELS else load_model(make_specimen(name), tokenizer=make_tokenizer())
    before = find_readout(model)
    torch.manual_seed(1)
    width = model.model.get_output_embeddings().in_features
    model.model.set_output_embeddings(torch.nn.Linear(width, VOCABULARY, bias=False))
    found = find_readout(model)
    assert found is not before
    assert found is find_readout(model)
    assert found._steps[-1].call is model.model.get_output_embeddings()
    states = torch.randn(1, 5, model.model.config.hidden_size)
    _, logits = tail_of(model.model, torch.tensor([[5, 6, 7, 8, 9]]), states)
    torch.testing.assert_close(found.logits(states[0]).detach(), logits[0], atol=1e-5, rtol=1e-5)
    model.model.resize_token_embeddings(VOCABULARY + 5)
    assert find_readout(model).logits(states[0]).shape == (5, VOCABULARY + 5)


def test_a_model_in_another_format_is_checked_again() -> None:
    model = make_model("llama")
    before = find_readout(model)
    model.model.to(torch.bfloat16)
    found = find_readout(model)
    assert found is not before
    assert (found.dtype, found._narrow) == ("float32", torch.bfloat16)
    model.model.double()
    assert find_readout(model).dtype == "float64"


def test_log_probabilities_are_held_once(bundled: LanguageModel) -> None:
    acts = capture_activations(bundled, "The cat sat on the mat. " * 40, attention=False)
    read_out(bundled, acts, 1)
    tracemalloc.start()
    result = read_out(bundled, acts, 1, memory=1e6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes + 4e6, "the result and a chunk, and no second copy of the result"


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


# --- decoders, factors and biases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
def test_of_two_stacks_the_decoder_is_read_out(name: str) -> None:
    path, scalings = DECODERS[name]
    model = make_model(name)
    found = find_readout(model)
    assert (found.path, found.scalings, found.predicts) == (path, scalings, "next")
    ids = torch.tensor([model.tokenizer(TEXT)["input_ids"]])
    stream, logits = tail_of(model.model, ids)
    with found.session() as project:
        torch.testing.assert_close(project(stream[-1, 0]), logits[0])
        torch.testing.assert_close(project(stream[1, 0]), tail_of(model.model, ids, stream[1])[1][0])


def test_a_bias_that_is_a_buffer_is_used_as_it_is_now() -> None:
    model = make_model("bart")
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    found = find_readout(model)
    with found.session() as project:
        before = project(states)
        model.model.final_logits_bias += 1.5
        torch.testing.assert_close(project(states), before + 1.5)


def test_a_bias_that_is_a_parameter_of_the_model_is_found() -> None:
    model = make_model("llama")
    bias = torch.nn.Parameter(torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0)))
    model.model.register_parameter("out_bias", bias)
    change_forward(model.model, lambda z: z + bias)
    found = find_readout(model)
    assert found.scalings == ("out_bias",)
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.logits(states), find_readout(make_model("llama")).logits(states) + bias)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_measured_factor_is_free_of_rounding(dtype: str) -> None:
    model = make_model("t5", dtype=getattr(torch, dtype))
    found = find_readout(model)
    assert found.scalings == ("x 0.25 before lm_head",)
    wide = model.model.float()
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = wide.lm_head(wide.decoder.final_layer_norm(states) * 16**-0.5)
    torch.testing.assert_close(find_readout(load_model(wide, tokenizer=make_tokenizer())).logits(states), own)
    assert [step.factor for step in found._steps if step.factor != 1.0] == [0.25]


def scale_before_head(net: Any, change: Callable[[Any], Any]) -> None:
    """Something done between norm and head."""
    original = net.model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        output.last_hidden_state = change(output.last_hidden_state)
        return output

    net.model.forward = forward


def test_any_constant_factor_is_measured_and_shown() -> None:
    model = make_model("llama")
    scale_before_head(model.model, lambda x: x * 0.3)
    found = find_readout(model)
    assert found.scalings == ("x 0.3 before lm_head",)
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = model.model.lm_head(model.model.model.norm(states) * 0.3)
    torch.testing.assert_close(found.logits(states), own)


@pytest.mark.parametrize(
    "change", [
        lambda x: x + 0.1, lambda x: x / x.norm(), lambda x: x * torch.linspace(1, 2, 16), lambda x: x.mul_(0.5),
        lambda x: x.tanh(),
    ],
)
def test_what_is_no_constant_factor_is_refused(change: Callable[[Any], Any]) -> None:
    model = make_model("llama")
    scale_before_head(model.model, change)
    with pytest.raises(ModelError, match=r"model.norm, lm_head\) does not give the model's own logits: they differ"):
        find_readout(model)


class Gated(torch.nn.Module):
    """Two ways through, multiplied, and a factor on one of them."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.gate, self.up = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
        self.head = head

    def forward(self, x: Any) -> Any:
        return self.head(torch.sigmoid(self.gate(x)) * self.up(x) * 0.5)


def test_a_factor_inside_a_gated_path() -> None:
    torch.manual_seed(0)
    model = make_model("llama")
    model.model.lm_head = Gated(model.model.lm_head)
    found = find_readout(model)  # replayed as one module
    assert (found.path, found.scalings) == (("model.norm", "lm_head"), ())
    states = torch.randn(3, 16)
    torch.testing.assert_close(found.logits(states), model.model.lm_head(model.model.model.norm(states)))

    parted = make_model("llama")
    net = parted.model
    net.gate, net.up = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
    scale_before_head(net, lambda x: torch.sigmoid(net.gate(x)) * net.up(x) * 0.5)
    with pytest.raises(ModelError, match=r"up, lm_head\) does not give the model's own logits"):
        find_readout(parted)


def test_a_scaling_that_is_a_factor_in_one_family_and_a_divisor_in_another() -> None:
    states = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    for name, by in (("granite", 1 / 4.0), ("hyperclovax", 0.25)):
        model = make_model(name)
        assert model.model.config.logits_scaling == {"granite": 4.0, "hyperclovax": 0.25}[name]
        found = find_readout(model)
        assert found.scalings == ("logits_scaling",)
        with torch.no_grad():
            torch.testing.assert_close(
                found.logits(states), by * model.model.lm_head(model.model.model.norm(states))
            )


# --- wider formats and sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAIN)
def test_a_model_can_be_read_out_in_float64(name: str) -> None:
    model = make_model(name)
    acts = capture_activations(model, TEXT, attention=False)
    wide = find_readout(model, dtype="float64")
    assert (wide.dtype, find_readout(model).dtype) == ("float64", "float32")
    assert find_readout(model, dtype="float64") is wide
    assert find_readout(model, dtype="float32") is find_readout(model)
    expected = plain_log_probs(name, model.model, acts.hidden_states[2])
    found = read_out(model, acts, 2, readout=wide)
    # Llama and Gemma compute their norms in float32, whatever they are given
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 if name in ("llama", "gemma2") else 1e-11)
    assert np.abs(found - read_out(model, acts, 2)).max() > 1e-8  # float32 is not as good
    assert {p.dtype for p in model.model.parameters()} == {torch.float32}


def test_ones_own_read_out_in_float64() -> None:
    model = make_model("llama")
    found = find_readout(model, readout=lambda states: states, dtype="float64")
    assert found.dtype == "float64"
    assert found.logits(torch.zeros(2, 16)).dtype == torch.float64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", ""])
def test_a_format_that_is_none_is_refused(dtype: str) -> None:
    with pytest.raises(ArgumentError, match=f"found '{dtype}', wanted one of float32, float64, or None"):
        find_readout(make_model("gpt2"), dtype=dtype)


def test_a_narrower_format_than_the_models_is_refused() -> None:
    model = make_model("gpt2", dtype=torch.float64)
    with pytest.raises(ArgumentError, match="computes in float64, which would be narrowed"):
        find_readout(model, dtype="float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_session_gives_the_same_and_widens_once(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("bert", dtype=getattr(torch, dtype))
    found = find_readout(model)
    states = torch.randn(11, 16, generator=torch.Generator().manual_seed(0))
    wanted = found.logits(states).detach()
    seen: list[Any] = []
    real_widened, real_replay = module.widened, module.replay
    monkeypatch.setattr(module, "widened", lambda *a: seen.append("widened") or real_widened(*a))
    monkeypatch.setattr(module, "replay", lambda *a: seen.append(a[3]) or real_replay(*a))
    with found.session() as project:
        parts = [project(part) for part in states.split(3)]
    torch.testing.assert_close(torch.cat(parts), wanted)
    assert seen[0] == "widened"
    assert len(seen) == 5
    # nothing is copied of weights that are wide already; others are held for the length of the session
    held = {id(weights) for weights in seen[1:]}
    assert len(held) == 1
    assert (seen[1] == [None]) == (dtype == "float32")


def test_a_session_leaves_mode_gradients_and_lock_as_they_were() -> None:
    model = make_model("xlnet")
    found = find_readout(model)
    model.model.train()
    states = torch.randn(4, 16)
    with pytest.raises(RuntimeError, match="stop"), found.session() as project:  # noqa: PT012
        assert not torch.is_grad_enabled()
        assert not model.model.transformer.dropout.training
        torch.testing.assert_close(project(states), project(states))
        raise RuntimeError("stop")
    assert torch.is_grad_enabled()
    assert all(part.training for part in model.model.modules())
    with ThreadPoolExecutor(1) as pool:
        with found.session():
            waiting = pool.submit(found.session().__enter__)
            time.sleep(0.02)
            assert not waiting.done()
        assert callable(waiting.result(timeout=5))


def test_a_session_says_what_does_not_fit_and_lets_nan_through() -> None:
    model = make_model("llama")
    with find_readout(model).session() as project:
        with pytest.raises(ModelError, match=r"cannot be applied to states of shape \(2, 5\)"):
            project(torch.zeros(2, 5))
        assert bool(project(torch.full((1, 16), float("nan"))).isnan().all())
    with (
        find_readout(model, readout=lambda states: states[:1]).session() as project,
        pytest.raises(ModelError, match=r"turned states \(2, 16\) into \(1, 16\)"),
    ):
        project(torch.zeros(2, 16))


# --- quantized models -----------------------------------------------------------------------------------------------


class Int8Linear(torch.nn.Module):
    """Weights in eight bits and a scale for each row, as several packages hold them."""

    def __init__(self, linear: Any, *, rounds_states: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().float().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach().float() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        if linear.bias is None:
            self.bias = None
        else:
            self.register_buffer("bias", linear.bias.detach())
        self.rounds_states = rounds_states

    def forward(self, x: Any) -> Any:
        if self.rounds_states:
            step = x.abs().amax(dim=-1, keepdim=True) / 127
            x = (x / step).round() * step
        return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


def quantize(net: Any, *, only: tuple[str, ...] = ("",), **options: Any) -> Any:
    """Each linear layer whose name begins as wanted replaced."""
    for name, part in list(net.named_modules()):
        if isinstance(part, torch.nn.Linear) and name.startswith(only):
            owner, _, attribute = name.rpartition(".")
            setattr(net.get_submodule(owner), attribute, Int8Linear(part, **options))
    return net


@pytest.mark.parametrize("name", ["llama", "phi", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_quantized_head_is_made_numbers_again(name: str, dtype: str) -> None:
    net = quantize(make_specimen(name).to(getattr(torch, dtype)))
    model = load_model(net, tokenizer=make_tokenizer())
    acts = capture_activations(model, TEXT, attention=False)
    assert np.isfinite(acts.hidden_states).all()
    found = find_readout(model)
    head = {"bert": "cls.predictions.decoder"}.get(name, "lm_head")
    assert head in found.quantized
    # by hand: the same weights as numbers
    plain = make_specimen(name)
    states = net.state_dict()
    for key in [key for key in states if key.endswith(".scale")]:
        owner = key.removesuffix(".scale")
        states[f"{owner}.weight"] = states[f"{owner}.weight"].to(net.dtype) * states.pop(key)
    untied = {key: value.float() for key, value in states.items()}
    tied = plain.get_output_embeddings()
    tied.weight = torch.nn.Parameter(tied.weight.clone())
    plain.load_state_dict(untied)
    expected = plain_log_probs(name, plain, acts.hidden_states[1])
    np.testing.assert_allclose(read_out(model, acts, 1), expected, atol=2e-4, rtol=2e-5)
    before = net.get_submodule(head).bias
    with find_readout(model, dtype="float64").session() as project:
        assert project(torch.zeros(1, 16)).dtype == torch.float64
    assert net.get_submodule(head).bias is before
    assert isinstance(net.get_submodule(head), Int8Linear)  # the model itself is as it was
    assert net.get_submodule(head).weight.dtype == torch.int8


def test_quantized_blocks_alone_change_nothing_for_the_read_out() -> None:
    model = load_model(quantize(make_specimen("llama"), only=("model.layers",)), tokenizer=make_tokenizer())
    assert isinstance(model.model.model.layers[0].mlp.up_proj, Int8Linear)
    acts = capture_activations(model, TEXT)
    assert find_readout(model).quantized == ()
    np.testing.assert_allclose(read_out(model, acts, -1), own_log_probs(model, acts.token_ids), atol=2e-4)


def test_a_head_that_rounds_the_states_too_is_refused_with_a_way_out() -> None:
    net = quantize(make_specimen("llama"), only=("lm_head",), rounds_states=True)
    model = load_model(net, tokenizer=make_tokenizer())
    capture_activations(model, TEXT)
    with pytest.raises(ModelError, match=r"are quantized \(lm_head\): leave the head out of .*readout="):
        find_readout(model)


def test_quantized_weights_of_what_is_no_linear_layer_are_refused() -> None:
    model = load_model(quantize(make_specimen("llama"), only=("lm_head",)), tokenizer=make_tokenizer())
    del model.model.lm_head.in_features
    with pytest.raises(ModelError, match=r"goes through a Int8Linear with quantized weights.*leave the head out"):
        find_readout(model)


def test_a_quantized_layer_that_takes_no_unit_vectors_is_refused() -> None:
    net = quantize(make_specimen("llama"), only=("lm_head",))
    model = load_model(net, tokenizer=make_tokenizer())
    original = net.lm_head.forward

    def fastidious(x: Any) -> Any:
        if x.ndim == 2:
            raise RuntimeError("three dimensions only")
        return original(x)

    net.lm_head.forward = fastidious
    with pytest.raises(ModelError, match=r"cannot be made numbers again \(RuntimeError: three dimensions only\)"):
        find_readout(model)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "config_class", "settings", "message"),
    [
        ("BertModel", "BertConfig", BASE, "returns no logits .*load it as .*BertForMaskedLM"),
        ("GPT2Model", "GPT2Config", GPT2, "returns no logits .*load it as GPT2LMHeadModel"),
        ("BertForSequenceClassification", "BertConfig", BASE, r"shape \(1, 2\), not .*load it as BertForMaskedLM"),
        ("BertForTokenClassification", "BertConfig", BASE, r"shape \(1, 5, 2\), not \(1, 5, V\).*as BertForMaskedLM"),
        ("GPT2ForSequenceClassification", "GPT2Config", GPT2, r"shape \(1, 2\).*load it as GPT2LMHeadModel"),
        ("GPT2ForTokenClassification", "GPT2Config", GPT2, r"shape \(1, 5, 2\).*load it as GPT2LMHeadModel"),
        ("LlamaForSequenceClassification", "LlamaConfig", BASE, "load it as LlamaForCausalLM"),
        ("T5Model", "T5Config", T5, "returns no logits .*load it as T5ForConditionalGeneration"),
        ("T5EncoderModel", "T5Config", T5 | {"is_encoder_decoder": False}, "load it as T5ForConditionalGeneration"),
        ("BartModel", "BartConfig", BART, "returns no logits .*load it as .*BartForConditionalGeneration"),
        ("BartForSequenceClassification", "BartConfig", BART, "load it as .*BartForConditionalGeneration"),
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
