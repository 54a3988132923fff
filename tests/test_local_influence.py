"""Influence for small moves against differences of the model's own passes, in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import torch
from model_zoo import TEXT, ZOO, make_specimen, make_tokenizer

from infogeo import Background, Categorical, fisher_rao_distance
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError, TextError
from infogeo_adapters import (
    capture_activations,
    capture_background,
    effects_background,
    find_readout,
    load_model,
    local_influence,
)
from infogeo_adapters.transformers._local_tangents import MissingDerivativeError, push_forward
from infogeo_adapters.transformers.forward import prepare
from infogeo_adapters.transformers.local_influence import LocalInfluence, local_effects
from infogeo_adapters.transformers.stack import find_stack, quiet, runner

SHORT = "the cat sat on the mat"
SPANS = [(0, 7), (8, 11), (12, 14), (15, 22)]
"""The first and the last word have two tokens each."""


def double_model(name: str) -> Any:
    return load_model(make_specimen(name).double(), tokenizer=make_tokenizer())


@pytest.fixture(scope="module")
def bert() -> Any:
    return double_model("bert")


@pytest.fixture(scope="module")
def gpt() -> Any:
    return double_model("gpt2")


@pytest.fixture(scope="module")
def backgrounds(bert: Any, gpt: Any) -> dict[str, Background]:
    texts = [TEXT, SHORT, "the dog ran home because the mat was cold", "it was cold today and the cat sat outside"]
    return {"bert": capture_background(bert, texts), "gpt": capture_background(gpt, texts)}


def moved_states(model: Any, ids: Any, at: int, layers: list[int], delta: Any) -> Any:
    """States (R, B, T, d) of passes in which the states of layer ``at`` are those of the model and ``delta`` more.

    ``delta`` is (B, T, d); gradients are recorded if it records any.
    """
    stack = find_stack(model.model)
    blocks = list(runner(model.model).get_submodule(stack.path).children())
    count, seen = [0], {}

    def turned(x: Any) -> Any:
        return x.transpose(0, 1) if stack.time_major else x

    def enter(module: Any, args: Any, kwargs: Any) -> Any:
        count[0] += 1
        if count[0] != at + 1:
            return None
        if args:
            return (args[0] + turned(delta), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + turned(delta)}

    def leave(module: Any, args: Any, output: Any) -> None:
        seen[count[0]] = turned(output[0] if isinstance(output, tuple) else output).clone()

    handles = []
    try:
        for block in dict.fromkeys(blocks):
            handles += [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave)]
        with torch.set_grad_enabled(delta.requires_grad), quiet():
            runner(model.model)(input_ids=ids[None].expand(len(delta), -1))
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([seen[layer] for layer in layers])


@functools.cache
def jacobians(model: Any, at: int) -> list[Any]:
    """For each word j an array (R, n, d, k) of derivatives of pooled words at layers 2 and 3 by the k inputs of the
    word's tokens at layer ``at``: central differences.
    """
    acts = capture_activations(model, SHORT, words=SPANS, attention=False)
    ids, pooling = torch.tensor(acts.token_ids), torch.tensor(acts.pooling_matrix())
    found = []
    for j in range(len(acts.words)):
        units = torch.zeros(2 * 16, len(ids), 16, dtype=torch.float64)
        own = np.flatnonzero(acts.token_words == j)
        for k in range(len(own) * 16):
            units[k, own[k // 16], k % 16] = 1e-5
        units = units[: len(own) * 16]
        ahead, back = (moved_states(model, ids, at, [2, 3], s * units) for s in (1, -1))
        found.append(np.moveaxis((pooling @ (ahead - back) / 2e-5).numpy(), 1, -1))
    return found


def from_jacobians(found: list[Any], metric: Any) -> Any:
    """Roots of tr(J^T G J), with G (R, n, d, d), and nothing on the diagonal."""
    values = np.stack([np.sqrt(np.einsum("rnak,rnab,rnbk->rn", j, metric, j)) for j in found], axis=-1)
    values[:, np.arange(len(found)), np.arange(len(found))] = 0
    return values


# Against differences


@pytest.mark.parametrize(("name", "at"), [("bert", 1), ("gpt", 0)])
def test_exact_equals_finite_differences(name, at, bert, gpt, backgrounds):
    model = {"bert": bert, "gpt": gpt}[name]
    layers = [2, 3]
    found = jacobians(model, at)
    n, d = 4, 16
    options = {"words": SPANS, "at": at, "layers": layers, "estimator": "exact", "background": backgrounds[name]}
    unit = local_influence(model, SHORT, distribution="unit", **options)
    assert isinstance(unit, LocalInfluence)
    assert unit.words == ("the cat", "sat", "on", "the mat")
    assert not unit.standard_error.any()
    eye = np.broadcast_to(np.eye(d), (2, n, d, d))
    np.testing.assert_allclose(unit.values, from_jacobians(found, eye), rtol=1e-6, atol=1e-9)

    inverse = np.stack([np.linalg.inv(backgrounds[name].shrunk_covariance(layer)[0]) for layer in layers])
    states = local_influence(model, SHORT, distribution="states", **options)
    metric = np.broadcast_to(inverse[:, None], (2, n, d, d))
    np.testing.assert_allclose(states.values, from_jacobians(found, metric), rtol=1e-6, atol=1e-9)
    assert states.source.options["shrinkage_3"] == backgrounds[name].shrunk_covariance(3)[1]

    scale = backgrounds[name].shrunk_covariance(at)[0]
    root = np.linalg.cholesky(scale)
    mixed = [np.concatenate([part @ root for part in np.split(j, j.shape[-1] // d, axis=-1)], axis=-1) for j in found]
    wide = local_influence(model, SHORT, distribution="states", direction="covariance", **options)
    np.testing.assert_allclose(wide.values, from_jacobians(mixed, metric), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["bert", "gpt"])
def test_the_readout_is_pulled_back_through_norm_and_head(name, bert, gpt):
    model = {"bert": bert, "gpt": gpt}[name]
    layers = [2, 3]
    at = {"bert": 1, "gpt": 0}[name]
    found = jacobians(model, at)
    acts = capture_activations(model, SHORT, words=SPANS, attention=False)
    head = find_readout(model).logits
    metric = np.empty((2, 4, 16, 16))
    for r, layer in enumerate(layers):
        for i, state in enumerate(torch.tensor(acts.word_vectors(layer))):
            h = torch.autograd.functional.jacobian(lambda x: head(x[None])[0], state).detach().numpy()
            p = np.asarray(head(state[None])[0].detach().softmax(0))
            metric[r, i] = h.T @ (np.diag(p) - np.outer(p, p)) @ h
    here = local_influence(
        model, SHORT, words=SPANS, at=at, layers=layers, distribution="readout", estimator="exact"
    )
    np.testing.assert_allclose(here.values, from_jacobians(found, metric), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("direction", ["embedding", "deviation"])
def test_one_direction_is_the_limit_of_a_small_removal(direction, gpt, backgrounds):
    """What scaling down a word's input (toward zero or the mean) changes, for each unit of the step."""
    background = backgrounds["gpt"]
    acts = capture_activations(gpt, SHORT, words=SPANS, attention=False)
    ids, pooling = torch.tensor(acts.token_ids), torch.tensor(acts.pooling_matrix())
    inputs = acts.hidden_states[1] - (background.mean[1] if direction == "deviation" else 0)
    head = find_readout(gpt).logits
    kinds = {"direction": direction, "words": SPANS, "at": 1, "layers": 3, "background": background}
    local = {kind: local_influence(gpt, SHORT, distribution=kind, **kinds).values[0] for kind in ("states", "readout")}
    inverse = np.linalg.inv(background.shrunk_covariance(3)[0])
    step = 1e-4
    whole = pooling @ moved_states(gpt, ids, 1, [3], torch.zeros(1, len(ids), 16, dtype=torch.float64))[0, 0]
    for j in range(4):
        delta = torch.tensor(np.where((acts.token_words == j)[:, None], inputs, 0.0))
        without = pooling @ moved_states(gpt, ids, 1, [3], -step * delta[None])[0, 0]
        change = (without - whole).numpy()
        length = np.sqrt(np.einsum("nd,de,ne->n", change, inverse, change))
        log_p, log_q = (np.asarray(head(x).log_softmax(-1).detach()) for x in (whole, without))
        for i in set(range(4)) - {j}:
            assert local["states"][i, j] == pytest.approx(length[i] / step, rel=2e-3, abs=1e-9)
            p, q = Categorical.from_logits(log_p[i]), Categorical.from_logits(log_q[i])
            rao = float(fisher_rao_distance(p, q))
            assert local["readout"][i, j] == pytest.approx(rao / step, rel=5e-3, abs=1e-3)
    assert (local["states"][np.tril_indices(4, -1)] > 1e-3).all()


BACKWARD = {"bloom", "deepseek-v3", "gpt-oss", "mixtral"}
"""Where an operation has no forward derivative."""
SINGLE = {"deepseek-v3", "gpt-oss", "mixtral", "xglm"}
"""Which torch or transformers cannot run in float64."""


@pytest.mark.parametrize("name", sorted(name for name, entry in ZOO.items() if not entry.refused))
def test_every_architecture_agrees_with_its_gradient(name):
    """Forward products of moves and weights against the gradient of the model's own pass."""
    single = name in SINGLE
    model = load_model(make_specimen(name), tokenizer=make_tokenizer()) if single else double_model(name)
    stack = find_stack(model.model)
    tokens = prepare(model, SHORT, None, "error").tokens
    ids, generator = torch.tensor(tokens.ids), torch.Generator().manual_seed(3)
    v, w = torch.randn(2, 2, len(ids), 16, generator=generator, dtype=model.model.dtype)
    leaf = torch.zeros(1, len(ids), 16, dtype=model.model.dtype, requires_grad=True)
    (moved_states(model, ids, 0, [stack.depth], leaf)[0] * w[1]).sum().backward()
    expected = float((leaf.grad[0] * v[1]).sum())
    size = float(leaf.grad.norm() * v[1].norm())
    for how in ("forward", "double_backward"):
        try:
            made = push_forward(model, stack, [tokens] * 2, v, at=0, layers=[stack.depth], differentiation=how)
        except MissingDerivativeError:
            assert how == "forward"
            continue
        assert abs(float((made[0, 1] * w[1]).sum()) - expected) < (1e-4 if single else 2e-5) * size
    found = local_influence(model, SHORT, layers=-1, direction="embedding", distribution="unit")
    assert found.source.options["differentiation"] == ("double_backward" if name in BACKWARD else "forward")
    lower = found.values[0][np.tril_indices(6, -1)]
    assert (lower > 0).sum() >= 5  # windows of three or four tokens hide some from each other in all but a few steps
    assert found.causal == (not found.values[0][np.triu_indices(6, 1)].any())


# Probes


def test_hutchinson_is_unbiased_within_its_standard_error(bert, backgrounds):
    options = {"words": SPANS, "at": 1, "layers": [2, 3], "background": backgrounds["bert"], "distribution": "states"}
    off = ~np.eye(4, dtype=bool)
    for direction in ("isotropic", "covariance"):
        exact = local_influence(bert, SHORT, direction=direction, estimator="exact", **options).values[:, off]
        runs = [local_influence(bert, SHORT, direction=direction, probes=64, rng=s, **options) for s in range(20)]
        assert runs[0].estimator == "hutchinson"
        scores = np.stack([(run.values[:, off] - exact) / run.standard_error[:, off] for run in runs])
        assert np.abs(scores).max() < 6
        assert 0.75 < np.sqrt((scores**2).mean()) < 1.3  # neither too narrow nor too wide
        squares = np.mean([run.values[:, off] ** 2 for run in runs], axis=0)
        np.testing.assert_allclose(squares, exact**2, rtol=0.15)  # 1280 probes
        assert abs(float(np.mean(squares / exact**2)) - 1) < 0.03
        fewer = local_influence(bert, SHORT, direction=direction, probes=16, rng=2, **options).standard_error[:, off]
        ratio = fewer / np.mean([run.standard_error[:, off] for run in runs], axis=0)
        assert 1.4 < np.median(ratio) < 2.8  # twice, as the root of the probes


def test_a_batch_equals_a_loop(bert, gpt, backgrounds):
    texts = [SHORT, "the dog", "the dog ran home", SHORT]
    for model, name in ((bert, "bert"), (gpt, "gpt")):
        for options in (
            {"direction": "isotropic", "probes": 3, "distribution": "readout"},
            {"direction": "deviation", "distribution": "states", "background": backgrounds[name]},
        ):
            options = {**options, "at": 1, "layers": [3, 2], "rng": 5}
            one_by_one = [local_influence(model, text, **options) for text in texts]
            for batch_tokens in (1, 30, 4096):
                together = local_influence(model, texts, batch_tokens=batch_tokens, **options)
                for a, b in zip(together, one_by_one, strict=True):
                    np.testing.assert_allclose(a.values, b.values, rtol=1e-9, atol=1e-12)
                    np.testing.assert_allclose(a.standard_error, b.standard_error, rtol=1e-6, atol=1e-9)
                    assert a.words == b.words
                    assert a.layers == (3, 2)


def test_models_that_cannot_mask_padding_run_texts_of_one_length_together():
    model = double_model("fnet")
    texts = [SHORT, "the dog ran", "the cat sat on the mat and ran"]
    together = local_influence(model, texts, direction="embedding", distribution="unit")
    for text, found in zip(texts, together, strict=True):
        alone = local_influence(model, text, direction="embedding", distribution="unit")
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-9)
        assert (found.values[-1][~np.eye(len(found.words), dtype=bool)] > 0).all()


def test_the_same_seed_gives_the_same_probes_and_another_other_ones(bert):
    options = {"distribution": "unit", "probes": 2, "layers": 3}
    first, again, other = (local_influence(bert, SHORT, rng=rng, **options).values for rng in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6
    generated = [local_influence(bert, SHORT, rng=np.random.default_rng(4), **options).values for _ in range(2)]
    np.testing.assert_array_equal(*generated)
    twice = local_influence(bert, [SHORT, SHORT], rng=np.random.default_rng(4), **options)
    assert np.abs(twice[0].values - twice[1].values).max() > 1e-6
    # probes of different words are drawn apart: their squares do not move together from seed to seed
    many = np.stack([local_influence(bert, SHORT, rng=s, **{**options, "layers": 2}).values[0] for s in range(40)])
    assert abs(np.corrcoef(many[:, 0, 1], many[:, 0, 2])[0, 1]) < 0.6


# Causal models, effects, results


def test_in_a_causal_model_later_words_move_nothing(bundled, minilm):
    text = "The unbelievably old dog ran home."
    found = local_influence(bundled, text, at=2, layers=[3, 6], direction="embedding", distribution="readout")
    assert found.causal
    assert len(found.words) == 7
    assert (found.values[:, np.triu_indices(7)[0], np.triu_indices(7)[1]] == 0).all()
    lower = np.tril_indices(7, -1)
    assert (found.values[:, lower[0], lower[1]] > 0).all()
    seen = local_influence(minilm, text, at=2, layers=3, direction="embedding", distribution="unit")
    assert not seen.causal
    assert (seen.values[0][~np.eye(7, dtype=bool)] > 0).all()


def test_effects_are_the_covariance_of_moves(gpt, bert):
    for model in (gpt, bert):
        causal = model is gpt
        found = local_effects(model, [SHORT, "the dog ran home"], at=1, layers=[2, 3], direction="embedding")
        moves = []
        for text in (SHORT, "the dog ran home"):
            acts = capture_activations(model, text, attention=False)
            ids, pooling = torch.tensor(acts.token_ids), torch.tensor(acts.pooling_matrix())
            for j in range(len(acts.words)):
                own = (acts.token_words == j)[:, None]
                v = 1e-6 * torch.tensor(np.where(own, acts.hidden_states[1], 0.0))[None]
                ahead, back = (moved_states(model, ids, 1, [2, 3], s * v)[:, 0] for s in (1, -1))
                change = (pooling @ (ahead - back)).numpy() / 2e-6
                moves += [change[:, i] for i in range(len(acts.words)) if (i > j if causal else i != j)]
        stacked = np.stack(moves, axis=1)
        assert found.n_effects == stacked.shape[1]
        covariance = np.stack([np.cov(x.T, bias=True) for x in stacked])
        np.testing.assert_allclose(found.covariance, covariance, rtol=1e-4, atol=1e-6 * covariance.max())
        options = {"at": 1, "layers": [2, 3], "direction": "embedding"}
        white = local_influence(model, SHORT, distribution="effects", effects=found, **options)
        states = local_influence(model, SHORT, distribution="unit", **options)
        assert np.abs(white.values - states.values).max() > 1e-3
        assert white.source.options["shrinkage_2"] == found.shrunk_covariance(2)[1]
        assert found.removal == white.removal == "small move at layer 1, embedding"


def test_without_effects_those_of_the_packaged_text_are_measured_once(bundled, monkeypatch):
    from infogeo_adapters.transformers import _local_setup

    calls = []
    measured = _local_setup.measure_effects
    monkeypatch.setattr(_local_setup, "SENTENCES", 3)
    monkeypatch.setattr(_local_setup, "measure_effects", lambda *args: calls.append(1) or measured(*args))
    options = {"at": 5, "direction": "embedding", "distribution": "effects"}
    first = local_influence(bundled, "The dog ran home.", **options)
    again = local_influence(bundled, "The dog ran home.", **options)
    assert calls == [1]
    np.testing.assert_array_equal(first.values, again.values)
    given = local_effects(bundled, at=5, direction="embedding")
    named = local_influence(bundled, "The dog ran home.", effects=given, **options)
    np.testing.assert_allclose(named.values, first.values)


def test_pooling_says_which_token_of_a_word_is_read(bert):
    acts = capture_activations(bert, SHORT, words=SPANS, attention=False)
    options = {"at": 1, "layers": 3, "direction": "embedding", "distribution": "unit", "words": SPANS}
    last = local_influence(bert, SHORT, pooling="last", **options).values[0]
    first = local_influence(bert, SHORT, pooling="first", **options).values[0]
    mean = local_influence(bert, SHORT, **options).values[0]
    assert np.abs(last - mean)[0, 1:].min() > 1e-6
    assert np.abs(first - mean)[0, 1:].min() > 1e-6
    np.testing.assert_allclose(first[1:3], mean[1:3])  # words of one token
    assert acts.pooling_matrix("last")[0].argmax() == acts.pooling_matrix("first")[0].argmax() + 1


def test_the_result_says_what_it_is(bert, backgrounds):
    done: list[tuple[int, int]] = []
    found = local_influence(
        bert, SHORT, at=1, layers=[3], probes=4, background=backgrounds["bert"], rng=7, batch_tokens=30,
        progress=lambda k, total: done.append((k, total)),
    )
    assert (found.moved_at, found.direction, found.estimator, found.layers) == (1, "isotropic", "hutchinson", (3,))
    assert found.removal == "small move at layer 1, isotropic"
    assert found.distribution == "states"
    assert found.source.seed == 7
    assert found.source.text_hash is not None
    assert found.source.options["probes"] == 4
    assert found.source.options["differentiation"] == "forward"
    assert done[-1] == (24, 24)
    assert len(done) == 6
    assert found.affinity(3).values.shape == (6, 6)
    assert "LocalInfluence" in found.to_json()
    with pytest.raises(ValueError, match="read-only"):
        found.standard_error[0, 0, 1] = 1
    exact = local_influence(bert, SHORT, direction="embedding", distribution="unit")
    assert exact.source.seed is None
    assert exact.layers == (1, 2, 3)
    assert exact.moved_at == 0


# Guards


def test_what_cannot_be_is_refused(bert, gpt, minilm, backgrounds):
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ArgumentError, "after layer 2", {"at": 2, "layers": [2, 3]}),
        (ArgumentError, "after layer 0", {"layers": [0]}),
        (ArgumentError, "different layers", {"layers": []}),
        (ArgumentError, "different layers", {"layers": [3, -1]}),
        (ArgumentError, "the last", {"at": -1}),
        (ArgumentError, "does not exist", {"layers": 9}),
        (ArgumentError, "wanted 'embedding'", {"at": "input"}),
        (ArgumentError, "direction 'up' does not exist", {"direction": "up"}),
        (ArgumentError, "distribution 'all' does not exist", {"distribution": "all"}),
        (ArgumentError, "pooling 'sum' does not exist", {"pooling": "sum"}),
        (ArgumentError, "estimator 'guess' does not exist", {"estimator": "guess"}),
        (ArgumentError, "one direction for each word", {"direction": "embedding", "estimator": "hutchinson"}),
        (ArgumentError, "probes: found 1", {"probes": 1}),
        (ArgumentError, "overflow", {"overflow": "ignore"}),
        (ArgumentError, "batch_tokens", {"batch_tokens": 0}),
        (ArgumentError, "rng", {"rng": "seed"}),
        (ArgumentError, "progress", {"progress": 3}),
        (ArgumentError, "needs none", {"effects": backgrounds["bert"]}),
        (ArgumentError, "wanted an EffectsBackground", {"distribution": "effects", "effects": backgrounds["bert"]}),
        (ArgumentError, "wanted a Background", {"distribution": "states", "background": 3}),
        (DomainError, "two models", {"distribution": "states", "background": backgrounds["gpt"]}),
        (DomainError, "two models", {
            "distribution": "effects", "effects": local_effects(gpt, SHORT, at=2, direction="embedding"), "at": 2,
        }),
        (DomainError, "intensity", {"distribution": "states", "background": backgrounds["bert"], "shrinkage": 2.0}),
        (DomainError, "intensity", {"distribution": "states", "shrinkage": 2.0}),
        (ArgumentError, "found pooling 'mean'", {
            "distribution": "states", "background": backgrounds["bert"], "pooling": "last",
        }),
        (ArgumentError, "small move at layer 1, embedding", {
            "distribution": "effects", "effects": local_effects(bert, SHORT, at=2, direction="embedding"), "at": 1,
            "direction": "embedding",
        }),
        (ArgumentError, "found those of 'hide'", {
            "distribution": "effects", "effects": effects_background(bert, [SHORT]), "direction": "embedding",
        }),
    ]
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            local_influence(bert, SHORT, **{"distribution": "unit", **options})
    with pytest.raises(TextError, match="text 1"):
        local_influence(bert, [SHORT, ""], distribution="unit")
    with pytest.raises(TextError, match="no texts"):
        local_influence(bert, [], distribution="unit")
    with pytest.raises(ArgumentError, match="load_model"):
        local_influence(bert.model, SHORT)
    with pytest.raises(ModelError, match="predicts no tokens"):
        local_influence(minilm, "The dog ran.", distribution="readout")
    with pytest.raises(DomainError, match="at least 2"):
        local_effects(gpt, "dog", at=2, direction="embedding")


def test_a_background_of_another_depth_is_refused(bert, backgrounds):
    whole = backgrounds["bert"]
    short = Background(
        mean=whole.mean[:2], covariance=whole.covariance[:2], fourth_moment=whole.fourth_moment[:2],
        n_words=whole.n_words, source=whole.source,
    )
    with pytest.raises(ShapeError, match="1 blocks"):
        local_influence(bert, SHORT, background=short)


def test_half_precision_is_refused():
    model = load_model(make_specimen("gpt2").to(torch.bfloat16), tokenizer=make_tokenizer())
    with pytest.raises(ArgumentError, match=r"bfloat16.*dtype='float32'"):
        local_influence(model, SHORT, distribution="unit")


def test_derivatives_that_are_not_finite_are_refused():
    net = make_specimen("gpt2").double()

    class Steep(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 0 * (x - x.detach()).clamp_min(0).sqrt()  # zero, but of infinite slope

    net.transformer.h[2].mlp.act = Steep()
    model = load_model(net, tokenizer=make_tokenizer())
    with pytest.raises(DomainError, match="layer 3 by layer 0 holds NaN or infinity"):
        local_influence(model, SHORT, direction="embedding", distribution="unit")


class Twice(torch.autograd.Function):
    """A doubling without forward derivative, and with a backward one if ``good``."""

    good = True

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if not Twice.good:
            raise NotImplementedError("the backward of Twice is not implemented")
        return 2 * grad


def test_an_operation_without_forward_derivative_is_differentiated_backward_twice(monkeypatch):
    class Plain(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return 2 * x

    class Custom(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return Twice.apply(x)

    found = {}
    for kind in (Plain, Custom):
        net = make_specimen("gpt2").double()
        net.transformer.h[2].mlp.act = kind()
        model = load_model(net, tokenizer=make_tokenizer())
        found[kind] = local_influence(model, [SHORT, "the dog"], layers=[2, 3], distribution="unit", probes=2)
    for plain, custom in zip(found[Plain], found[Custom], strict=True):
        np.testing.assert_allclose(custom.values, plain.values, rtol=1e-9)
        assert plain.source.options["differentiation"] == "forward"
        assert custom.source.options["differentiation"] == "double_backward"
    monkeypatch.setattr(Twice, "good", False)
    with pytest.raises(ModelError, match="without the derivative that double_backward"):
        local_influence(model, SHORT, distribution="unit", probes=2)


def test_a_head_without_forward_derivative_is_differentiated_backward_twice():
    class Head(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return Twice.apply(self.inner(x))

    nets = [make_specimen("gpt2").double() for _ in range(2)]
    with torch.no_grad():
        # the embedding is the head: a weight of its own for the head that is twice as large
        nets[0].lm_head = torch.nn.Linear(16, 67, bias=False, dtype=torch.float64)
        nets[0].lm_head.weight.copy_(2 * nets[1].lm_head.weight)
    nets[1].lm_head = Head(nets[1].lm_head)
    plain, custom = (
        local_influence(
            load_model(net, tokenizer=make_tokenizer()), SHORT, direction="embedding", distribution="readout"
        ) for net in nets
    )
    np.testing.assert_allclose(custom.values, plain.values, rtol=1e-8, atol=1e-12)
    assert custom.source.options["differentiation"] == "double_backward"


def test_the_model_is_left_as_it_was_also_after_an_error(gpt):
    net = gpt.model
    fast = torch.backends.mha.get_fastpath_enabled()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    net.train()
    net.transformer.h[1].eval()
    try:
        before = [module.training for module in net.modules()]
        with pytest.raises(KeyboardInterrupt):
            local_influence(gpt, SHORT, distribution="unit", probes=2, progress=stop)
        found = local_influence(gpt, SHORT, distribution="unit", direction="embedding")
        assert [module.training for module in net.modules()] == before
        assert found.source.options["was_training"] is True
    finally:
        net.eval()
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in net.parameters())
    assert torch.autograd.forward_ad._current_level == -1
