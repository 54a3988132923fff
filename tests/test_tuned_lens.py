"""The tuned lens: its gradient, what it recovers, what it remembers, and what it refuses."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import torch
from model_zoo import make_specimen, make_tokenizer
from scipy.special import log_softmax, rel_entr

from infogeo.errors import (
    ArgumentError,
    ConvergenceError,
    DomainError,
    FormatError,
    ModelError,
    OutputError,
    ShapeError,
    TextError,
)
from infogeo_adapters import (
    TunedLens,
    fit_tuned_lens,
    lens_quality,
    load_model,
    load_tuned_lens,
    logit_lens,
)
from infogeo_adapters import _tuned_training as kernels
from infogeo_adapters.transformers.capture import capture_activations, capture_encoder_decoder
from infogeo_adapters.transformers.readout import find_readout

WORDS = [
    "the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "ran", "home", "because", "it", "was", "cold",
    "outside", "today",
]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, size=5 + i % 9)) for i in range(24)]
FAST = {"steps": 6, "batch_tokens": 64, "evaluate_every": 2, "window": 12}


@pytest.fixture(scope="module")
def model():
    return load_model(make_specimen("gpt2"), tokenizer=make_tokenizer())


@pytest.fixture(scope="module")
def lens(model):
    return fit_tuned_lens(model, TEXTS, **FAST)


def same(one: TunedLens, other: TunedLens) -> None:
    for field in ("weights", "biases", "training_kl", "evaluated_at", "validation_kl", "kept_at"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)
    for field in ("layers", "n_layers", "unembedding_hash", "stopped", "name", "source"):
        assert getattr(one, field) == getattr(other, field), field


def untouched(lens: TunedLens) -> TunedLens:
    return dataclasses.replace(
        lens, weights=np.zeros_like(lens.weights), biases=np.zeros_like(lens.biases)
    )


# Arrays


def toy(size: float = 1.0, *, n: int = 400, d: int = 6, outcomes: int = 20):
    """States in float64, the final states that an affine map makes of them, the map, and a linear read-out."""
    rng = np.random.default_rng(0)
    head = torch.tensor(rng.normal(size=(outcomes, d))) / size
    states = torch.tensor(rng.normal(size=(n, d))) * size
    weight, bias = torch.tensor(rng.normal(size=(d, d))) / 5, torch.tensor(rng.normal(size=d)) * size
    return states, states + states @ weight.T + bias, weight, bias, lambda h: h @ head.T


def slow_kl(project, final, states, weight, bias):
    """Sum over tokens of KL, one token at a time."""
    total = 0.0
    for f, h in zip(final.numpy(), states.numpy(), strict=True):
        p = log_softmax(project(torch.tensor(f)).numpy())
        q = log_softmax(project(torch.tensor(h + weight @ h + bias)).numpy())
        total += float((np.exp(p) * (p - q)).sum())
    return total


@pytest.mark.parametrize("memory", [1.0, 5000.0, 1e8])
def test_the_gradient_is_that_of_finite_differences(memory):
    first, final, *_, project = toy(n=23)
    states = [first, 3 * first.flip(0)]
    training = kernels.begin(states)
    rng = np.random.default_rng(1)
    training.weights += torch.tensor(rng.normal(size=training.weights.shape)) * 0.1
    training.biases += torch.tensor(rng.normal(size=training.biases.shape)) * 0.1
    kl, slopes = kernels.gradients(project, states, final, training, memory=memory)
    for layer in range(2):
        weight, bias = training.weights[layer].numpy(), training.biases[layer].numpy()
        assert kl[layer] == pytest.approx(slow_kl(project, final, states[layer], weight, bias), rel=1e-12)
        for i, j in ((0, 0), (2, 5), (4, 1)):
            step = np.zeros_like(weight)
            step[i, j] = 1e-5
            high, low = (slow_kl(project, final, states[layer], weight + s * step, bias) for s in (1, -1))
            assert slopes[layer, i, j] == pytest.approx((high - low) / 2e-5, rel=1e-5, abs=1e-7)
        step = np.zeros_like(bias)
        step[3] = 1e-5
        high, low = (slow_kl(project, final, states[layer], weight, bias + s * step) for s in (1, -1))
        scale = float(training.scale[layer])
        assert slopes[layer, 3, -1] == pytest.approx(scale * (high - low) / 2e-5, rel=1e-5, abs=1e-7)
    checked = kernels.divergences(project, states, final, training.weights, training.biases, memory=memory)
    np.testing.assert_allclose(checked, kl, rtol=1e-12)


@pytest.mark.parametrize("size", [0.01, 300.0])
def test_a_known_translator_is_recovered_at_any_scale(size):
    states, final, weight, bias, project = toy(size)
    training = kernels.begin([states])
    steps, found = 300, []
    for step in range(steps):
        kl, slopes = kernels.gradients(project, [states], final, training, memory=1e8)
        kernels.take_step(training, slopes / 400, 0.1 * (1 - step / steps))
        found.append(float(kl[0]) / 400)
    assert found[0] > 0.5
    assert found[-1] < 1e-4 * found[0]
    torch.testing.assert_close(training.weights[0], weight, atol=0.03, rtol=0)
    torch.testing.assert_close(training.biases[0], bias, atol=0.03 * size, rtol=0)


def test_steps_are_orthogonal_and_of_one_size():
    rng = np.random.default_rng(0)
    for size in (1e-12, 1.0, 1e9):
        matrix = torch.tensor(rng.normal(size=(5, 6)) * size)
        values = torch.linalg.svdvals(kernels.orthogonalized(matrix))
        assert 0.6 < values.min() <= values.max() < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert float(((u @ v) * kernels.orthogonalized(matrix)).sum()) > 4  # of 5: the same directions
    assert not kernels.orthogonalized(torch.zeros(3, 4)).any()


def test_each_pass_sees_every_row_once_in_even_steps():
    lengths = np.random.default_rng(0).integers(3, 40, size=50)
    plan = kernels.plan_of(lengths, 40, 128, 3)
    groups = round(lengths.sum() / 128)
    for first in range(0, 40 - groups, groups):
        assert sorted(np.concatenate(plan[first : first + groups])) == list(range(50))
    sizes = [lengths[rows].sum() for rows in plan]
    assert max(sizes) <= 128 + 40
    assert min(sizes) >= 128 - 80
    assert [p.tolist() for p in plan[:7]] == [p.tolist() for p in kernels.plan_of(lengths, 7, 128, 3)]
    assert [p.tolist() for p in plan] != [p.tolist() for p in kernels.plan_of(lengths, 40, 128, 4)]
    assert len(kernels.plan_of([5], 3, 2048, 0)) == 3


def test_patience_looks_at_every_layer():
    falling = torch.tensor([[4.0, 4.0], [3.0, 4.0], [2.0, 4.0], [1.0, 4.0]])
    assert not kernels.is_stuck(falling, patience=2, tolerance=0.01)
    flat = torch.tensor([[4.0, 4.0], [3.0, 3.0], [3.0, 3.1], [2.99, 3.0]])
    assert kernels.is_stuck(flat, patience=2, tolerance=0.01)
    assert not kernels.is_stuck(flat, patience=2, tolerance=0.001)
    assert not kernels.is_stuck(flat, patience=4, tolerance=0.01)


# Models


def test_before_training_it_is_the_logit_lens(model, lens):
    before = untouched(lens)
    acts = capture_activations(model, TEXTS[0], attention=False)
    for layer in range(model.n_layers + 1):
        states = torch.tensor(acts.hidden_states[layer])
        assert torch.equal(before.translate(layer, states), states)
    found = lens_quality(model, TEXTS[:5], lens=before)
    for field in ("cross_entropy", "kl_from_final", "bias"):
        np.testing.assert_array_equal(getattr(found, field)[0], getattr(found, field)[1])
        np.testing.assert_array_equal(found.gain[field], 0)
    np.testing.assert_array_equal(found.gain_interval["kl_from_final"], 0)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gemma2", "llama"])
def test_it_gets_nearer_to_the_final_prediction(name):
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    before = model.current_source().content_hash
    model.model.train()
    lens = fit_tuned_lens(model, TEXTS, **{**FAST, "steps": 20})
    assert model.model.training
    assert not any(p.grad is not None for p in model.model.parameters())
    assert model.current_source().content_hash == before
    assert (lens.held_out_kl < 0.9 * lens.validation_kl[0]).all()
    assert lens.validation_kl.shape == (11, 3)
    assert lens.training_kl.shape == (20, 3)
    assert lens.evaluated_at.tolist() == list(range(0, 21, 2))
    np.testing.assert_array_equal(lens.kept_at, lens.evaluated_at[lens.validation_kl.argmin(axis=0)])


def test_an_affine_last_block_is_undone():
    """A network whose last block is an affine map: the translator of the layer before it can be perfect."""

    class Affine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(3)
            self.map = torch.nn.Linear(16, 16)
            with torch.no_grad():
                self.map.weight.copy_(torch.randn(16, 16, generator=generator) * 0.3)
                self.map.bias.copy_(torch.randn(16, generator=generator))

        def forward(self, hidden_states, *args, **kwargs):
            return hidden_states + self.map(hidden_states)

    net = make_specimen("gpt2")
    net.transformer.h[-1] = Affine()
    model = load_model(net, tokenizer=make_tokenizer())
    lens = fit_tuned_lens(model, TEXTS, layers=[2], **{**FAST, "steps": 120, "evaluate_every": 40})
    assert lens.validation_kl[0, 0] > 0.1
    assert lens.held_out_kl[0] < 0.02 * lens.validation_kl[0, 0]


def test_held_out_numbers_are_those_of_the_lens(model):
    """The divergence noted while fitting, again from the result, and by hand from the model's own logits."""
    different = sorted(set(TEXTS), key=TEXTS.index)
    lens = fit_tuned_lens(model, different, **FAST, validation_fraction=0.2)
    kept = set(np.random.default_rng([0, 0, 1]).permutation(len(different))[: round(0.2 * len(different))])
    held = [text for i, text in enumerate(different) if i in kept]
    assert lens.source.options["validation_texts"] == len(held)
    again = lens_quality(model, held, lens=lens, window=12).kl_from_final
    np.testing.assert_allclose(again[0, :-1], lens.validation_kl[0], rtol=1e-5)
    np.testing.assert_allclose(again[1, :-1], lens.held_out_kl, rtol=1e-5)


def test_equal_texts_are_held_out_together(model):
    lens = fit_tuned_lens(model, ["the cat sat on the mat"] * 5 + ["the dog ran home"] * 2, **FAST)
    assert sorted([lens.source.options["training_texts"], lens.source.options["validation_texts"]]) == [2, 5]


def test_the_seed_decides(model, lens):
    same(fit_tuned_lens(model, TEXTS, **FAST), lens)
    other = fit_tuned_lens(model, TEXTS, **FAST, seed=1)
    assert (other.weights != lens.weights).any()
    assert other.source.seed == 1


def test_batches_of_any_size_and_chunks_give_the_same_numbers(model):
    """Rows of a step run one by one or together, and logits a token at a time, change rounding only."""
    one = fit_tuned_lens(model, TEXTS, **FAST)
    other = fit_tuned_lens(model, TEXTS, **FAST, memory=1.0)
    np.testing.assert_allclose(one.training_kl, other.training_kl, rtol=1e-4)
    np.testing.assert_allclose(one.validation_kl, other.validation_kl, rtol=1e-4)


def test_layers_are_fitted_alone_as_together(model, lens):
    alone = fit_tuned_lens(model, TEXTS, **FAST, layers=[1])
    np.testing.assert_allclose(alone.weights[0], lens.weights[1], atol=1e-5)
    assert alone.layers == (1,)
    assert alone.n_layers == 3
    with pytest.raises(ArgumentError, match="has translators for 1, and 3 needs none"):
        alone.translate(0, torch.zeros(2, 16))


def test_halves_compute_in_float32():
    net = make_specimen("llama").to(torch.bfloat16)
    model = load_model(net, tokenizer=make_tokenizer())
    lens = fit_tuned_lens(model, TEXTS, **FAST)
    assert lens.source.dtype == "bfloat16"
    assert (lens.held_out_kl <= lens.validation_kl[0]).all()
    assert lens.translate(0, torch.zeros(2, 16, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_decoder_of_two_stacks_is_fitted_on_pairs():
    model = load_model(make_specimen("t5"), tokenizer=make_tokenizer())
    pairs = list(zip(TEXTS, TEXTS[3:] + TEXTS[:3], strict=True))
    lens = fit_tuned_lens(model, pairs, steps=10, batch_tokens=64, evaluate_every=5)
    assert lens.n_layers == 3
    assert (lens.held_out_kl < lens.validation_kl[0]).all()
    found = lens_quality(model, pairs[:6], lens=lens)
    expected = []
    for source, target in pairs[:6]:
        both = capture_encoder_decoder(model, source, target)
        logits = find_readout(model).logits(torch.tensor(both.decoder.hidden_states[-1])).detach().double().numpy()
        expected += list(-log_softmax(logits, axis=-1)[np.arange(len(logits)), both.target_ids])
    assert found.cross_entropy[0, -1] == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(TextError, match=r"texts\[0\]: found str, wanted a pair"):
        fit_tuned_lens(model, TEXTS, steps=1)
    with pytest.raises(ArgumentError, match=r"pairs for .* are not cut"):
        fit_tuned_lens(model, pairs, window=8)


# Quality


def slow_quality(model, lens, texts):
    """Cross-entropy, divergence and bias of a tuned lens by layer, in float64 from single texts."""
    readout = find_readout(model)
    causal = readout.predicts == "next"
    n_layers = model.n_layers
    surprises = [[] for _ in range(n_layers + 1)]
    divergences = [[] for _ in range(n_layers + 1)]
    means = [[] for _ in range(n_layers + 1)]
    for text in texts:
        acts = capture_activations(model, text, attention=False)
        states = [torch.tensor(h) for h in acts.hidden_states]
        final = log_softmax(readout.logits(states[-1]).detach().double().numpy(), axis=-1)
        for layer in range(n_layers + 1):
            i = lens.layers.index(layer) if layer < n_layers else None
            h = acts.hidden_states[layer].astype(float)
            moved = h if i is None else h + h @ lens.weights[i].T.astype(float) + lens.biases[i]
            log_q = log_softmax(readout.logits(torch.tensor(moved, dtype=torch.float32)).detach().double().numpy(), -1)
            divergences[layer] += list(rel_entr(np.exp(final), np.exp(log_q)).sum(axis=1))
            means[layer] += list(np.exp(log_q))
            for t, token in enumerate(acts.token_ids):
                true = acts.token_ids[t + 1] if causal and t + 1 < len(acts.token_ids) else token
                place = t + 1 if causal else t
                if place < len(acts.token_ids) and not acts.special[place]:
                    surprises[layer].append(-log_q[t, true])
    final_mean = np.mean(means[-1], axis=0)
    bias = [float(rel_entr(final_mean, np.mean(m, axis=0)).sum()) for m in means]
    return np.array([np.mean(s) for s in surprises]), np.array([np.mean(d) for d in divergences]), np.array(bias)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_quality_equals_a_slow_computation(name):
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    lens = fit_tuned_lens(model, TEXTS, **FAST)
    found = lens_quality(model, TEXTS[:7], lens=lens, memory=1.0, batch_tokens=20)
    assert found.predicts == ("next" if name == "gpt2" else "itself")
    expected = slow_quality(model, lens, TEXTS[:7])
    for field, values in zip(("cross_entropy", "kl_from_final", "bias"), expected, strict=True):
        np.testing.assert_allclose(getattr(found, field)[1], values, rtol=1e-5, atol=1e-6, err_msg=field)
        plain = getattr(lens_quality(model, TEXTS[:7]), field)
        np.testing.assert_allclose(getattr(found, field)[0], plain[0], rtol=1e-6, atol=1e-7)
        gain = getattr(found, field)[0] - getattr(found, field)[1]
        np.testing.assert_allclose(found.gain[field], gain, rtol=1e-12, atol=1e-12)
    tokens = [len(capture_activations(model, t, attention=False).tokens) for t in TEXTS[:7]]
    assert found.n_tokens == sum(tokens)
    assert found.n_predicted == sum(tokens) - 7
    np.testing.assert_allclose(found.perplexity, np.exp(found.cross_entropy))


def test_quality_is_one_table(model, lens):
    found = lens_quality(model, TEXTS[:7], lens=lens)
    columns, rows = found.rows()
    assert len(rows) == 8
    assert len(columns) == len(rows[0])
    frame = found.to_frame()
    np.testing.assert_array_equal(frame[frame.lens == "tuned_lens"].kl_from_final, found.kl_from_final[1])
    assert "2" not in found.gain
    assert json.loads(found.to_json())["n_texts"] == 7
    assert lens_quality(model, TEXTS[:7]).gain == {}
    np.testing.assert_array_equal(found.kl_from_final[:, -1], 0)
    np.testing.assert_allclose(found.bias[:, -1], 0, atol=1e-15)


def test_intervals_cover_as_often_as_they_say(model):
    """Twenty-five sets of texts from one law, against all of them: of 95 % intervals few leave out the common value."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, size=8)) for _ in range(1000)]
    truth = lens_quality(model, texts, layers=[1], resamples=2)
    covered, raw, corrected = np.zeros(3), [], []
    for i in range(25):
        found = lens_quality(model, texts[40 * i : 40 * i + 40], layers=[1], resamples=200, rng=i)
        raw.append(found.bias[0, 0])
        corrected.append(found.bias[0, 0] - found.bias_excess[0, 0])
        for j, field in enumerate(("cross_entropy", "kl_from_final", "bias")):
            low, high = getattr(found, f"{field}_interval")[0, 0]
            covered[j] += low <= getattr(truth, field)[0, 0] <= high
    assert (covered[:2] >= 20).all()
    assert covered[2] >= 17
    whole = truth.bias[0, 0] - truth.bias_excess[0, 0]
    assert np.mean(raw) > truth.bias[0, 0] > whole  # the fewer tokens, the higher
    assert abs(np.mean(corrected) - whole) < 0.5 * (np.mean(raw) - whole)


def test_few_blocks_change_the_interval_of_the_bias_alone(model, lens):
    many = lens_quality(model, TEXTS, lens=lens)
    few = lens_quality(model, TEXTS, lens=lens, sums_memory=8 * 67 * 9 * 8)
    assert many.n_blocks == 24
    assert few.n_blocks == 8
    np.testing.assert_allclose(many.bias, few.bias, rtol=1e-9)
    np.testing.assert_array_equal(many.kl_from_final_interval, few.kl_from_final_interval)
    assert (many.bias_interval[:, :-1] != few.bias_interval[:, :-1]).any()
    with pytest.raises(ArgumentError, match="sums_memory: found 1e"):
        lens_quality(model, TEXTS, lens=lens, sums_memory=1000)


def test_the_logit_lens_reads_through_it(model, lens):
    """What logit_lens shows with the lens are the means of lens_quality; without training it shows the plain lens."""
    profiles = logit_lens(model, TEXTS[:4], lens=lens)
    found = lens_quality(model, TEXTS[:4], lens=lens)
    surprise = np.concatenate([profile.cross_entropy for profile in profiles], axis=1)
    np.testing.assert_allclose(np.nanmean(surprise, axis=1), found.cross_entropy[1], rtol=1e-5)
    assert profiles[0].source.options["lens"] == "tuned_lens"
    plain, before = logit_lens(model, TEXTS[0]), logit_lens(model, TEXTS[0], lens=untouched(lens))
    np.testing.assert_array_equal(plain.entropy, before.entropy)


@pytest.mark.parametrize("name", ["bert", "t5", "bundled"])
def test_the_logit_lens_reads_other_models_through_it(name, bundled):
    model = bundled if name == "bundled" else load_model(make_specimen(name), tokenizer=make_tokenizer())
    texts = list(zip(TEXTS, TEXTS[::-1], strict=True)) if name == "t5" else TEXTS
    lens = fit_tuned_lens(model, texts, steps=4, batch_tokens=64)
    profile = logit_lens(model, TEXTS[0], target=TEXTS[-1] if name == "t5" else None, lens=lens)
    found = lens_quality(model, [texts[0], texts[0]], lens=lens)
    np.testing.assert_allclose(np.nanmean(profile.cross_entropy, axis=1), found.cross_entropy[1], rtol=1e-4)
    assert (found.cross_entropy[0, :-1] != found.cross_entropy[1, :-1]).any()


# Files


def test_a_saved_lens_comes_back_the_same(model, lens, tmp_path):
    path = lens.save(tmp_path / "lens.safetensors")
    again = load_tuned_lens(path, model)
    same(again, lens)
    acts = torch.randn(5, 16)
    assert torch.equal(again.translate(1, acts), lens.translate(1, acts))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lens.safetensors"]
    with pytest.raises(OutputError, match="no_such"):
        lens.save(tmp_path / "no_such" / "lens.safetensors")


def test_another_models_lens_is_refused(model, lens, tmp_path):
    path = lens.save(tmp_path / "lens.safetensors")
    other = load_model(make_specimen("gpt2", seed=1), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match=f"hash {lens.unembedding_hash}; that of .* is [0-9a-f]{{64}}: load the model"):
        load_tuned_lens(path, other)
    with pytest.raises(ModelError, match="fitted to"):
        lens_quality(other, TEXTS, lens=lens)
    shallow = make_specimen("gpt2")
    del shallow.transformer.h[1]
    with pytest.raises(ModelError, match=r"is for 3 blocks, .* has 2"):
        load_tuned_lens(path, load_model(shallow, tokenizer=make_tokenizer()))
    wider = load_model(make_specimen("gpt2").double(), tokenizer=make_tokenizer())
    assert load_tuned_lens(path, wider).n_layers == 3  # the same numbers in a wider format


def test_a_changed_norm_is_another_read_out(lens, tmp_path):
    net = make_specimen("gpt2")
    model = load_model(net, tokenizer=make_tokenizer())
    lens.check(model)
    with torch.no_grad():
        net.transformer.ln_f.bias[0] += 1e-3
    with pytest.raises(ModelError, match="read-out has the hash"):
        lens.check(model)


def test_damaged_files_are_refused(model, lens, tmp_path):
    path = lens.save(tmp_path / "lens.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(FormatError, match="is no infogeo tuned lens or is damaged"):
        load_tuned_lens(path, model)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"7"'))
    with pytest.raises(FormatError, match=r"version '7' .* reads version 1"):
        load_tuned_lens(path, model)
    path.write_bytes(whole.replace(b'"format":"infogeo tuned lens"', b'"format":"infogeo tuned lamp"'))
    with pytest.raises(FormatError, match="is no infogeo tuned lens: found a 'infogeo tuned lamp'"):
        load_tuned_lens(path, model)
    path.write_bytes(whole.replace(b"unembedding_hash", b"unembedding_lash"))
    with pytest.raises(FormatError, match="is damaged"):
        load_tuned_lens(path, model)
    at = whole.index(lens.biases.tobytes())
    path.write_bytes(whole[:at] + np.float32(np.nan).tobytes() + whole[at + 4 :])
    with pytest.raises(FormatError, match="is damaged: its numbers are not those of its hash"):
        load_tuned_lens(path, model)
    path.write_text("no safetensors")
    with pytest.raises(FormatError, match="is no infogeo tuned lens or is damaged"):
        load_tuned_lens(path, model)
    with pytest.raises(ArgumentError, match="there is no such file"):
        load_tuned_lens(tmp_path / "none", model)


# Interruption


class Stopped(Exception):
    pass


@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_stopped_training_goes_on_to_the_same_numbers(model, lens, tmp_path, last):
    path = tmp_path / "unfinished.safetensors"

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == last:
            raise Stopped

    with pytest.raises(Stopped):
        fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path, progress=stop)
    assert path.exists() == (last > 1)
    seen: list[int] = []
    same(fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path, progress=lambda done, total: seen.append(done)), lens)
    assert seen == list(range(1 + last // 2 * 2, 7))
    same(fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path, progress=lambda *_: pytest.fail("is finished")), lens)
    with pytest.raises(ArgumentError, match=r"is of other work, its learning_rate is 0\.05, not 0\.1"):
        fit_tuned_lens(model, TEXTS, **FAST, learning_rate=0.1, checkpoint=path)
    with pytest.raises(ArgumentError, match="its text_hash is"):
        fit_tuned_lens(model, TEXTS[1:], **FAST, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with pytest.raises(FormatError, match="its numbers are not those of its hash"):
        fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match="is no infogeo tuned lens in training or is damaged"):
        fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path)


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(model, lens, tmp_path, monkeypatch):
    path = tmp_path / "unfinished.safetensors"
    original, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left .* at step 4; the checkpoint before it is kept\. Free some"):
        fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    seen: list[int] = []
    same(fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path, progress=lambda done, total: seen.append(done)), lens)
    assert seen == [3, 4, 5, 6]


@pytest.mark.parametrize(("arguments", "error", "said"), [
    ({"checkpoint": 3}, ArgumentError, "checkpoint: found 3, wanted a path"),
    ({"checkpoint": b"a"}, ArgumentError, "checkpoint: found b'a'"), ({"checkpoint": ""}, ArgumentError, "checkpoint"),
    ({"checkpoint": os.curdir}, OutputError, "it is a folder"), ({"progress": 3}, ArgumentError, "progress: found int"),
])
def test_places_and_progress_are_looked_at_before_any_work(arguments, error, said):
    with pytest.raises(error, match=said):
        fit_tuned_lens(None, TEXTS, **arguments)  # not even the model


def test_paths_and_states_that_are_none(model, lens):
    for wrong in (None, 3, b"lens", "", "a\0"):
        with pytest.raises(ArgumentError, match="path: found"):
            lens.save(wrong)
        with pytest.raises(ArgumentError, match="path: found"):
            load_tuned_lens(wrong, model)
    with pytest.raises(ArgumentError, match="states: found ndarray"):
        lens.translate(0, np.zeros((2, lens.width)))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from model_zoo import make_specimen, make_tokenizer
from test_tuned_lens import FAST, TEXTS
from infogeo_adapters import fit_tuned_lens, load_model
original, calls = os.replace, []
def replace(*places):
    calls.append(places)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # while a file lies beside the checkpoint
    original(*places)
os.replace = replace
model = load_model(make_specimen("gpt2"), tokenizer=make_tokenizer())
fit_tuned_lens(model, TEXTS, **FAST, checkpoint=sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is of POSIX systems; run it on one")
def test_a_killed_training_goes_on_to_the_same_numbers(model, lens, tmp_path):
    path = tmp_path / "unfinished.safetensors"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), os.path.dirname(__file__)], env=environment, timeout=120, check=False,
        capture_output=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len([*tmp_path.iterdir()]) == 2
    seen: list[int] = []
    found = fit_tuned_lens(model, TEXTS, **FAST, checkpoint=path, progress=lambda done, total: seen.append(done))
    assert seen == [5, 6]
    same(found, lens)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# Refusals


def test_texts_that_cannot_be_used(model):
    for texts, said in (
        ([], "found 0, wanted at least 2"), (["the cat"], "found 1, wanted at least 2"),
        ("the cat sat", "found str, wanted a list"), (["the cat", ""], r"texts\[1\]: found an empty text"),
        (["the cat sat", 3], r"texts\[1\]: found int"),
    ):
        for function in (fit_tuned_lens, lens_quality):
            with pytest.raises(TextError, match=said):
                function(model, texts)
    with pytest.raises(TextError, match="2 times the same text"):
        fit_tuned_lens(model, ["the cat sat"] * 2)


def test_texts_too_short_for_a_next_token(tiny):
    with pytest.raises(TextError, match="found no token with a known one after it"):
        fit_tuned_lens(tiny("gpt2"), ["a", "b"])


@pytest.mark.parametrize(("arguments", "said"), [
    ({"steps": 0}, "steps: found 0"), ({"steps": 1.5}, "steps: found 1.5"), ({"batch_tokens": 1}, "batch_tokens"),
    ({"learning_rate": 0.0}, "learning_rate: found 0.0"), ({"learning_rate": float("nan")}, "learning_rate: found NaN"),
    ({"validation_fraction": 1.0}, "validation_fraction: found 1.0"), ({"layers": [3]}, "layer 3 is the last"),
    ({"layers": []}, "layers: found"), ({"layers": 2}, "layers: found 2"), ({"layers": [-1]}, "layers: found"),
    ({"window": 2}, "window: found 2"), ({"window": 500}, "window: found 500"), ({"seed": -1}, "seed: found -1"),
    ({"patience": 0}, "patience: found 0"), ({"evaluate_every": 0}, "evaluate_every"), ({"memory": 0}, "memory: found"),
    ({"tolerance": 2}, "tolerance: found 2"),
])
def test_arguments_without_meaning(model, arguments, said):
    with pytest.raises(ArgumentError, match=said):
        fit_tuned_lens(model, TEXTS, **arguments)


@pytest.mark.parametrize(("arguments", "said"), [
    ({"resamples": 0}, "resamples"), ({"level": 1.0}, "level: found 1.0"), ({"layers": [4]}, "layers: found"),
    ({"layers": 4}, "layers: found 4"), ({"lens": 3}, "lens: found int"), ({"rng": "x"}, "rng: found 'x'"),
    ({"memory": -1}, "memory: found -1"),
])
def test_arguments_of_the_quality_without_meaning(model, arguments, said):
    with pytest.raises(ArgumentError, match=said):
        lens_quality(model, TEXTS, **arguments)


def test_models_that_cannot_be_used(model, lens, minilm):
    for function in (fit_tuned_lens, lens_quality):
        with pytest.raises(ArgumentError, match="wanted what load_model"):
            function(model.model, TEXTS)
        with pytest.raises(ModelError, match="predicts no tokens"):
            function(minilm, TEXTS)
    with pytest.raises(ShapeError, match=r"found shape \(2, 5\), wanted \(n, 16\)"):
        lens.translate(0, torch.zeros(2, 5))


def test_damaged_weights_name_the_layer():
    net = make_specimen("gpt2")
    model = load_model(net, tokenizer=make_tokenizer())
    find_readout(model)
    with torch.no_grad():
        net.transformer.h[1].mlp.c_proj.bias[2] = float("nan")
    for function in (fit_tuned_lens, lens_quality):
        with pytest.raises(DomainError, match=r"layer 2 \(the output of block 2\) holds NaN or infinity"):
            function(model, TEXTS)


def test_a_model_that_changes_meanwhile_is_noticed():
    net = make_specimen("gpt2")
    model = load_model(net, tokenizer=make_tokenizer())

    def change(done: int, total: int) -> None:
        with torch.no_grad():
            net.lm_head.weight[0, 0] += 1e-4

    with pytest.raises(ModelError, match="changed while the tuned lens was fitted"):
        fit_tuned_lens(model, TEXTS, **FAST, progress=change)


def test_divergence_is_an_error_with_what_was_reached(model):
    with pytest.raises(ConvergenceError, match="lower learning_rate") as caught:
        fit_tuned_lens(model, TEXTS, **FAST, learning_rate=1e38)
    assert isinstance(caught.value.result, TunedLens)
    assert np.isfinite(caught.value.result.weights).all()


def test_nothing_of_the_model_is_left_changed_after_an_error(restored):
    net = restored(make_specimen("gpt2").train())
    model = load_model(net, tokenizer=make_tokenizer())
    digest = hashlib.sha256(net.lm_head.weight.detach().numpy().tobytes()).hexdigest()

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fit_tuned_lens(model, TEXTS, **FAST, progress=stop)
    assert torch.is_grad_enabled()
    assert hashlib.sha256(net.lm_head.weight.detach().numpy().tobytes()).hexdigest() == digest
