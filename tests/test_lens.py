"""The logit lens: entropy of the prediction at every layer and token."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from test_readout import (  # noqa: E402
    LANGUAGE_MODELS,
    MAIN,
    TEXT,
    UNUSED,
    VOCABULARY,
    make_model,
    make_net,
    make_tokenizer,
    plain_log_probs,
)

from infogeo import Categorical, shannon_entropy  # noqa: E402
from infogeo.errors import ArgumentError, ModelError, TextError  # noqa: E402
from infogeo_adapters.transformers import lens as lens_module  # noqa: E402
from infogeo_adapters.transformers.capture import capture_activations  # noqa: E402
from infogeo_adapters.transformers.lens import logit_lens  # noqa: E402
from infogeo_adapters.transformers.loading import load_model  # noqa: E402
from infogeo_adapters.transformers.readout import ReadOut, find_readout, read_out  # noqa: E402


@pytest.mark.parametrize("name", MAIN)
def test_entropy_agrees_with_a_plain_computation_in_float64(name: str) -> None:
    model = make_model(name)
    acts = capture_activations(model, TEXT, attention=False)
    profile = logit_lens(model, acts)
    log_probs = plain_log_probs(name, model.model, acts.hidden_states)
    expected = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    assert profile.entropy.shape == expected.shape == (acts.n_layers + 1, len(acts.tokens))
    np.testing.assert_allclose(profile.entropy, expected, atol=1e-5)
    assert np.ptp(expected) > 0.2  # entropies that differ, so that agreement says something
    np.testing.assert_allclose(profile.top_probability, np.exp(log_probs.max(axis=-1)), atol=1e-5)
    names = make_tokenizer().convert_ids_to_tokens(list(range(VOCABULARY)))
    for layer in range(acts.n_layers + 1):
        best = log_probs[layer].argmax(axis=1)
        assert [names[i] or f"<unused {i}>" for i in best] == list(profile.top_tokens[layer])


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_last_layer_is_the_models_own_prediction(name: str) -> None:
    model = make_model(name)
    profile = logit_lens(model, TEXT)
    acts = capture_activations(model, TEXT, attention=False)
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor(np.array(acts.token_ids))[None]).logits[0].double()
    expected = torch.distributions.Categorical(logits=logits).entropy().numpy()
    np.testing.assert_allclose(profile.entropy[-1], expected, atol=1e-6)
    assert profile.predicts == LANGUAGE_MODELS[name][-1]
    assert profile.n_outcomes == VOCABULARY
    assert (profile.tokens, profile.words) == (acts.tokens, acts.words)
    assert profile.source.options["readout"] == ", ".join((*LANGUAGE_MODELS[name][3], *LANGUAGE_MODELS[name][4]))


def test_the_lens_is_the_entropy_of_the_read_out() -> None:
    model = make_model("gpt2")
    acts = capture_activations(model, TEXT, attention=False)
    profile = logit_lens(model, acts)
    for layer in range(acts.n_layers + 1):
        log_probs = read_out(model, acts, layer)
        np.testing.assert_allclose(profile.entropy[layer], shannon_entropy(Categorical(log_probs)), atol=2e-6)


def test_small_chunks_give_the_same() -> None:
    model = make_model("gemma2")
    whole = logit_lens(model, TEXT)
    parts = logit_lens(model, TEXT, memory=2 * 32 * VOCABULARY)
    np.testing.assert_allclose(parts.entropy, whole.entropy, atol=1e-5)
    np.testing.assert_allclose(parts.top_probability, whole.top_probability, atol=1e-5)
    assert parts.top_tokens == whole.top_tokens


def test_memory_does_not_grow_with_layers_tokens_and_vocabulary() -> None:
    outcomes, model = 20_000, load_model(make_net(*LANGUAGE_MODELS["gpt2"][:3]), tokenizer=make_tokenizer())
    acts = capture_activations(model, TEXT + " the cat" * 6, attention=False)
    rows, tokens = acts.n_layers + 1, len(acts.tokens)
    head = torch.randn(16, outcomes)
    alive: dict[int, int] = {}
    most = 0

    def readout(states: torch.Tensor) -> torch.Tensor:
        nonlocal most
        logits = states @ head
        key = id(logits.untyped_storage())
        alive[key] = logits.nbytes
        weakref.finalize(logits.untyped_storage(), alive.pop, key)
        most = max(most, sum(alive.values()))
        return logits

    whole = 4 * rows * tokens * outcomes
    for memory in (1.0, 4 * 4 * rows * outcomes):
        most = 0
        profile = logit_lens(model, acts, readout=readout, memory=memory)
        gc.collect()
        assert profile.n_outcomes == outcomes
        assert not alive  # none is kept
        assert 0 < most <= max(memory, 4 * rows * outcomes) < whole / 4


def test_certain_predictions_have_entropy_zero_and_uniform_ones_log_v() -> None:
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)

    def certain(states: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(states), 10), -5000.0)
        logits[:, 7] = 5000.0
        return logits

    sure = logit_lens(model, acts, readout=certain)
    assert not sure.entropy.any()
    assert (sure.top_probability == 1).all()
    assert not sure.kl_to_final.any()
    assert not sure.path_length.any()
    assert set(sure.top_tokens[0]) == {make_tokenizer().convert_ids_to_tokens(7)}
    unsure = logit_lens(model, acts, readout=lambda states: torch.zeros(len(states), 10))
    np.testing.assert_allclose(unsure.entropy, math.log(10), rtol=1e-14)
    assert unsure.source.options["readout_max_difference"] is None


def test_rows_of_the_head_without_a_token_are_named_or_left_out() -> None:
    model = make_model("bert")
    ids = sorted(model.tokenizer.get_vocab().values())
    assert UNUSED not in ids
    assert ids[-1] > UNUSED
    with torch.no_grad():
        model.model.cls.predictions.bias[UNUSED] += 1000.0  # an unused row wins everywhere
    every = logit_lens(model, TEXT)
    assert set(every.top_tokens[2]) == {f"<unused {UNUSED}>"}
    used = logit_lens(model, TEXT, used_only=True)
    assert (used.n_outcomes, every.n_outcomes) == (len(ids), VOCABULARY)
    acts = capture_activations(model, TEXT, attention=False)
    log_probs = read_out(model, acts, 2)[:, ids]
    assert not (used.top_probability == every.top_probability).any()
    np.testing.assert_allclose(
        used.entropy[2], shannon_entropy(Categorical.from_logits(log_probs)), atol=5e-5
    )
    best = np.asarray(ids)[log_probs.argmax(axis=1)]
    assert list(used.top_tokens[2]) == model.tokenizer.convert_ids_to_tokens(best.tolist())
    assert used.source.options["used_only"] is True


def test_a_read_out_of_ones_own_may_rule_outcomes_out() -> None:
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)
    head = torch.randn(300, acts.dimension, generator=torch.Generator().manual_seed(0))

    def some(states: torch.Tensor) -> torch.Tensor:
        return (head @ states.T).T.masked_fill(torch.arange(300) < 200, -math.inf)

    def others(states: torch.Tensor) -> torch.Tensor:
        return (head[200:] @ states.T).T  # not contiguous

    found = logit_lens(model, acts, readout=some, renyi=[0, 2], top_p=1)
    alone = logit_lens(model, acts, readout=others, renyi=[0, 2], top_p=1)
    for name in ("entropy", "kl_to_final", "step_length", "top_probabilities"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), atol=1e-6, err_msg=name)
    assert (found.set_size == 100).all()
    np.testing.assert_allclose(found.renyi[0.0], math.log(100))
    there = found.target_ids >= 0
    assert np.isinf(found.cross_entropy[:, there]).all()  # the true tokens are among those ruled out
    assert (found.rank[:, there] == 101).all()
    assert '"inf"' in found.to_json()


@pytest.mark.parametrize(("arguments", "said"), [
    ({"renyi": "a"}, "renyi: found 'a', wanted a number"), ({"renyi": [[1, 2]]}, "renyi: found"),
    ({"renyi": [1, [2, 3]]}, "renyi: found"), ({"renyi": None}, "renyi: found None"),
    ({"renyi": math.nan}, "renyi: found NaN"), ({"renyi": -1}, "the order -1"), ({"top_p": "x"}, "top_p: found 'x'"),
    ({"top_p": 0}, "top_p: found 0"), ({"top_p": math.nan}, "top_p: found NaN"),
    ({"memory": None}, "memory: found None"), ({"compare": "no"}, "compare: found 'no', wanted True"),
    ({"memory": math.inf}, "memory: found inf, wanted a finite"),
    ({"used_only": None}, "used_only: found None"), ({"stages": None}, "stages: found None"),
    ({"stages": [np.zeros(2)]}, "stages: found array"), ({"stages": []}, "stages: found none"),
    ({"top_k": 1.5}, "top_k: found 1.5"), ({"readout": 3}, "readout: found int"), ({"lens": 3}, "lens: found int"),
])
def test_arguments_without_meaning_are_refused_before_a_text_is_run(
    arguments: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gpt2")
    monkeypatch.setattr(lens_module, "capture_activations", lambda *_, **__: pytest.fail("a text was run"))
    with pytest.raises(ArgumentError, match=said):
        logit_lens(model, TEXT, **arguments)
    for wrong in (None, "bundled", model.model):
        with pytest.raises(ArgumentError, match="model: found"):
            logit_lens(wrong, TEXT, used_only=True)


def test_orders_and_stages_may_come_from_anywhere() -> None:
    model = make_model("gpt2")
    profile = logit_lens(model, TEXT, renyi=(a for a in (np.float32(2), 2, 0.5)), stages=np.array(["resid_post"]))
    assert list(profile.renyi) == [2.0, 0.5]
    assert np.isnan(logit_lens(model, TEXT, compare=np.False_).path_length).all()


def test_text_and_activations_give_the_same() -> None:
    model = make_model("roberta")
    np.testing.assert_allclose(
        logit_lens(model, TEXT).entropy, logit_lens(model, capture_activations(model, TEXT)).entropy, atol=1e-5
    )


def test_a_read_out_found_before_can_be_given() -> None:
    model = make_model("phi")
    found = find_readout(model)
    assert isinstance(found, ReadOut)
    np.testing.assert_array_equal(logit_lens(model, TEXT, readout=found).entropy, logit_lens(model, TEXT).entropy)


def test_the_norm_is_computed_afresh_at_every_layer() -> None:
    # a lens that keeps the last layer's scale makes early layers look uniform
    model = make_model("llama")
    acts = capture_activations(model, TEXT, attention=False)
    states = np.array(acts.hidden_states)
    states[0] *= 1000.0
    scaled = logit_lens(model, replace(acts, hidden_states=states))
    np.testing.assert_allclose(scaled.entropy[0], logit_lens(model, acts).entropy[0], atol=1e-3)


def test_what_cannot_be_read_out_is_refused() -> None:
    headless = load_model(make_net("BertModel", LANGUAGE_MODELS["bert"][1], LANGUAGE_MODELS["bert"][2]),
                          tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match="predicts no tokens"):
        logit_lens(headless, TEXT)
    model = make_model("gpt2")
    with pytest.raises(ArgumentError, match="text: found int, wanted a text, its activations, or a sequence"):
        logit_lens(model, 3)  # type: ignore[call-overload]
    with pytest.raises(ArgumentError, match="text 1: found int, wanted a text"):
        logit_lens(model, [TEXT, 3])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="mixed"):
        logit_lens(model, [TEXT, capture_activations(model, TEXT, attention=False)])
    with pytest.raises(TextError):
        logit_lens(model, "   ")
    with pytest.raises(ArgumentError, match="captured from"):
        logit_lens(make_model("gpt2", seed=1), capture_activations(model, TEXT, attention=False))


def test_the_last_layer_of_the_bundled_model_predicts_the_text_best() -> None:
    model = load_model()
    acts = capture_activations(model, "Once upon a time there was a little girl who lived in a small house.")
    assert logit_lens(model, acts).predicts == "next"
    following = acts.token_ids[1:]
    nats = [-read_out(model, acts, layer)[np.arange(len(following)), following].mean() for layer in range(7)]
    assert min(nats[:-1]) > nats[-1] + 0.1  # what it was trained for; its entropy need not fall


def test_a_read_out_that_leaves_torch_is_refused() -> None:
    model = make_model("gpt2")
    with pytest.raises(ModelError, match="a read-out of torch tensors"):
        logit_lens(model, TEXT, readout=lambda states: np.zeros((len(states), 10)))
