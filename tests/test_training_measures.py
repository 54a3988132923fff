"""What is measured of a model while it trains: against slow twins by hand, on faults, and without leaving a trace."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import torch
from model_zoo import make_specimen, tail_of
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import infogeo
from infogeo.capacity.heads import attention_capacity
from infogeo.capacity.linear import linear_gaussian_capacity
from infogeo.errors import ArgumentError, ModelError
from infogeo.spectrum import top_component_share
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.training._broken import LOSS, broken_forward, live_batch
from infogeo_adapters.training.measuring import MEASURED, ProbeMeter
from infogeo_adapters.training.probe import ProbeBatch, probe_batch

VOCABULARY = 101
RNG = np.random.default_rng(0)
IDS = RNG.integers(5, VOCABULARY, (16, 20))
HIDDEN = RNG.random(IDS.shape) < 0.2
MASKED = {"input_ids": np.where(HIDDEN, 4, IDS), "labels": np.where(HIDDEN, IDS, -100)}
SIZES: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}

Model = Any


def gpt(**more: Any) -> Model:
    torch.manual_seed(0)
    settings = {"n_layer": 3, "n_head": 2, "n_embd": 32, "vocab_size": VOCABULARY, "n_positions": 64, **SIZES}
    return GPT2LMHeadModel(GPT2Config(**{**settings, **more}))


def llama() -> Model:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        num_hidden_layers=3, num_attention_heads=2, hidden_size=32, intermediate_size=64, vocab_size=VOCABULARY,
        max_position_embeddings=64, **SIZES,
    ))


def bert() -> Model:
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(
        num_hidden_layers=3, num_attention_heads=2, hidden_size=32, intermediate_size=64, vocab_size=VOCABULARY,
        max_position_embeddings=64, **SIZES,
    ))


def sharper(net: Model) -> Model:
    """With larger weights, so that heads attend to something and predictions differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.mul_(4 if parameter.ndim > 1 else 1).add_(noise)
    return net


def probe_of(net: Model) -> ProbeBatch:
    return probe_batch(net, MASKED if isinstance(net, BertForMaskedLM) else IDS)


def measured(net: Model, *names: str) -> Any:
    """The value of one quantity, or a dict of all."""
    meter = ProbeMeter(net, probe_of(net), quantities=names or None)
    found = meter.measure()
    assert not meter.failed, meter.failed
    return found[names[0]] if len(names) == 1 else found


@pytest.fixture(scope="module", params=[gpt, llama, bert])
def measured_model(request: pytest.FixtureRequest) -> tuple[Model, ProbeMeter, dict[str, Any]]:
    net = sharper(request.param()).eval()
    meter = ProbeMeter(net, probe_of(net))
    return net, meter, meter.measure()


Measured = tuple[Model, ProbeMeter, dict[str, Any]]


def stream_of(net: Model, probe: ProbeBatch, ids: Any = None) -> Any:
    """Residual stream (L + 1, texts, T, d) in float64, and logits, by hooks of the tests' own."""
    states, logits = tail_of(net, torch.from_numpy(np.array(probe.ids if ids is None else ids)))
    return states.double().numpy(), logits


# Every quantity, on every kind of model


def test_all_quantities_are_measured_and_have_the_shapes_of_a_record(measured_model: Measured) -> None:
    net, meter, found = measured_model
    allowed = {"saturated_units"} | ({"future_sensitivity"} if isinstance(net, BertForMaskedLM) else set())
    assert set(meter.missing) == allowed
    assert all(meter.missing.values())
    assert not meter.failed
    assert set(found) == set(MEASURED) - allowed
    record = meter.record(7)
    facts = meter.facts(run="ab", every=0)
    history = TrainingHistory(facts=facts, records=(record,))  # checks all shapes
    assert history.steps == (7,)
    assert record.broken_at is None
    assert len(record.twins) == 3
    assert record.seconds > 0
    assert (facts.depth, facts.heads, facts.width, facts.vocabulary) == (3, (2, 2, 2), 32, VOCABULARY)
    assert facts.causal == (not isinstance(net, BertForMaskedLM))
    assert facts.probe_shape == (16, 20)
    for name, value in found.items():
        start = 1 if name == "order_sensitivity" else 0
        assert np.isfinite(value[start:] if value.ndim else value).all(), name
        assert np.array_equal(record.values[name], value, equal_nan=True), name  # the same again


def test_only_what_is_asked_for_is_measured() -> None:
    meter = ProbeMeter(gpt(), probe_of(gpt()), quantities=["carry", "probe_loss"])
    assert set(meter.measure()) == {"carry", "probe_loss"}


# States


def test_states_against_slow_twins(measured_model: Measured) -> None:
    net, meter, found = measured_model
    stream, _ = stream_of(net, meter.probe)
    rows = stream.reshape(4, -1, 32)
    texts, places = np.repeat(np.arange(16), 20), np.tile(np.arange(20), 16)
    for layer, x in ((0, rows[0]), (3, rows[3])):
        assert found["state_norm"][layer] == pytest.approx(np.sqrt(np.mean(x**2)), rel=1e-5)
        u = x / np.linalg.norm(x, axis=1)[:, None]
        apart = [u[i] @ u[j] for i in range(320) for j in range(320) if texts[i] != texts[j] and places[i] != places[j]]
        assert found["mean_cosine"][layer] == pytest.approx(np.mean(apart), rel=1e-4, abs=1e-6)
        c = x - x.mean(axis=0)
        v = c / np.linalg.norm(c, axis=1)[:, None]
        within = [v[i] @ v[j] for i in range(320) for j in range(320) if i != j and texts[i] == texts[j]]
        assert found["token_similarity"][layer] == pytest.approx(np.mean(within), rel=1e-4, abs=1e-6)
        assert found["effective_rank"][layer] == pytest.approx(float(infogeo.effective_rank(c)), rel=1e-4)
        assert found["anisotropy"][layer] == pytest.approx(float(top_component_share(x)), rel=1e-5)
        if np.linalg.eigvalsh(np.cov(x.T))[0] > 1e-9 * np.linalg.eigvalsh(np.cov(x.T))[-1]:
            exact = float(infogeo.gaussian_entropy(x, bias_correction=False)) / 32
            assert found["differential_entropy"][layer] == pytest.approx(exact, abs=1e-4)
        assert found["nonfinite"][layer] == 0


def test_matrix_based_quantities_against_those_of_the_library(measured_model: Measured) -> None:
    net, meter, found = measured_model
    rows = stream_of(net, meter.probe)[0].reshape(4, -1, 32)
    chosen = meter._rows

    def gram(x: Any) -> Any:
        d = np.linalg.norm(x[:, None] - x, axis=2)
        return infogeo.gaussian_gram(x, width=float(np.median(d[np.triu_indices(len(x), 1)])) / 2)

    def less_chance(a: Any, b: Any) -> float:
        shuffled = []
        for order in chosen.orders:
            order = order[order < len(a)]
            shuffled.append(float(infogeo.matrix_mutual_information(a[order][:, order], b, alpha=2)))
        return float(infogeo.matrix_mutual_information(a, b, alpha=2)) - float(np.mean(shuffled))

    ids = np.flatnonzero(meter.probe.mask.reshape(-1) == 1)
    assert len(chosen.gram) == 256
    assert len(set(chosen.gram)) == 256
    targets = meter.probe.targets.reshape(-1)[ids[chosen.target_gram]]
    assert (targets >= 0).all()
    same = (targets[:, None] == targets).astype(float)
    for layer in (0, 3):
        own = gram(rows[layer][chosen.gram])
        assert found["matrix_entropy"][layer] == pytest.approx(float(infogeo.matrix_renyi_entropy(own)), rel=1e-4)
        assert found["input_information"][layer] == pytest.approx(
            less_chance(gram(rows[0][chosen.gram]), own), rel=1e-3, abs=1e-4
        )
        assert found["target_information"][layer] == pytest.approx(
            less_chance(same, gram(rows[layer][chosen.target_gram])), rel=1e-3, abs=1e-4
        )


def test_padding_counts_for_nothing() -> None:
    net = sharper(gpt())
    padded = np.concatenate([IDS, np.full((16, 5), 7)], axis=1)
    mask = np.concatenate([np.ones_like(IDS), np.zeros((16, 5), dtype=int)], axis=1)
    names = [n for n in MEASURED if n not in ("attention_capacity", "headroom")]  # padding may be large
    one = ProbeMeter(net, probe_batch(net, IDS), quantities=names).measure()
    meter = ProbeMeter(net, probe_batch(net, {"input_ids": padded, "attention_mask": mask}), quantities=names)
    two = meter.measure()
    assert not meter.failed
    for name in two:
        assert two[name] == pytest.approx(one[name], rel=2e-3, abs=2e-5, nan_ok=True), name


def spoiled(module: Any, where: np.ndarray, value: float) -> Any:
    """A module whose output has a value at some places (texts, tokens), whatever it computes."""
    return module.register_forward_hook(lambda m, a, y: y.masked_fill(torch.from_numpy(where)[..., None], value))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_in_padding_alone_is_no_finding(left: bool, value: float) -> None:
    mask = np.ones_like(IDS)
    for b in range(len(mask)):
        mask[b, slice(0, 2 + b % 7) if left else slice(13 + b % 7, None)] = 0
    net = gpt(resid_pdrop=0.0, n_layer=2).eval()
    batch = probe_batch(net, {"input_ids": IDS, "attention_mask": mask})
    meter = ProbeMeter(net, batch, quantities=["nonfinite", "headroom", "large_carry", "scale_response"],
                       number_format="float16")
    healthy = meter.measure()
    handles = [spoiled(net.transformer.h[1].mlp.c_proj, mask == 0, value), spoiled(net.lm_head, mask == 0, value)]
    found = meter.measure()
    assert meter.broken_at is None
    assert not meter.failed
    for name in found:
        assert found[name] == pytest.approx(healthy[name], rel=1e-5), name
    for handle in handles:
        handle.remove()
    if value == 1e30:
        return
    spoiled(net.transformer.h[0].mlp.c_proj, mask == 0, value)  # attention of the next block makes it everybody's
    found = meter.measure()
    assert meter.broken_at is not None
    assert meter.broken_at.startswith("transformer.h.1.attn")
    assert found["nonfinite"][:2].tolist() == [0, 0]
    assert found["nonfinite"][2] > 0
    assert not found["headroom"][2] > 1


def test_a_single_number_that_is_not_finite_at_a_real_token_is_found() -> None:
    net = gpt().eval()
    mask = np.ones_like(IDS)
    mask[:, -3:] = 0
    last = np.zeros_like(mask, bool)
    last[5, 16] = True
    meter = ProbeMeter(net, probe_batch(net, {"input_ids": IDS, "attention_mask": mask}), quantities=["nonfinite"])
    handle = spoiled(net.transformer.h[2].mlp.c_fc, last, float("nan"))
    assert meter.measure()["nonfinite"][3] == pytest.approx(1 / mask.sum())
    assert meter.broken_at == "transformer.h.2.mlp.c_fc"
    handle.remove()
    spoiled(net.lm_head, last, float("nan"))
    assert meter.measure()["nonfinite"].max() == 0
    assert meter.broken_at == "lm_head"


def test_a_live_batch_is_searched_at_its_tokens_before_its_padding() -> None:
    net = gpt().eval()
    mask = np.ones_like(IDS)
    mask[:, :4] = 0
    named = {"input_ids": torch.from_numpy(IDS), "attention_mask": torch.from_numpy(mask)}
    batch = live_batch((), named, "cpu")
    assert broken_forward(net, batch) == LOSS
    spoiled(net.transformer.ln_f, mask == 0, float("nan"))
    assert broken_forward(net, batch) == "transformer.ln_f"
    spoiled(net.lm_head, mask == 1, float("inf"))
    assert broken_forward(net, batch) == "lm_head"
    assert broken_forward(net, live_batch((), {"input_ids": named["input_ids"]}, "cpu")) == "transformer.ln_f"


def test_headroom_counts_what_happens_inside_a_block() -> None:
    net = gpt().eval()
    found = measured(net, "headroom")
    assert found.shape == (4,)
    assert (found > 1e30).all()
    narrow = ProbeMeter(net, probe_of(net), quantities=["headroom"], number_format="float16").measure()["headroom"]
    assert narrow == pytest.approx(found * 65504 / np.finfo(np.float32).max, rel=1e-6)
    stream, _ = stream_of(net, probe_of(net))
    assert narrow[0] == pytest.approx(65504 / np.abs(stream[0]).max(), rel=1e-5)
    net.transformer.h[1].mlp.c_fc.weight.data.mul_(1e4)
    net.transformer.h[1].mlp.c_proj.weight.data.mul_(1e-4)
    again = ProbeMeter(net, probe_of(net), quantities=["headroom"], number_format="float16").measure()["headroom"]
    assert again[1] == pytest.approx(narrow[1])
    assert again[2] < narrow[2] / 100


# Blocks


def test_contribution_carry_and_capacity_against_slow_twins(measured_model: Measured) -> None:
    net, meter, found = measured_model
    rows = stream_of(net, meter.probe)[0].reshape(4, -1, 32)
    texts = np.repeat(np.arange(16), 20)
    for block in range(3):
        x, y = rows[block], rows[block + 1]
        added = np.mean([np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(x, y, strict=True)])
        assert found["contribution"][block] == pytest.approx(added, rel=1e-5)
        slope = np.polyfit((x - x.mean(0)).reshape(-1), (y - y.mean(0)).reshape(-1), 1)[0]
        assert found["carry"][block] == pytest.approx(slope, rel=1e-4, abs=1e-6)
        if block == 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", infogeo.EstimateWarning)
                exact = linear_gaussian_capacity(x, y, groups=texts, components=24, folds=2)
            assert found["capacity"][block] == pytest.approx(exact.capacity, rel=1e-3)
            assert found["rate"][block] == pytest.approx(exact.rate, rel=1e-3)
            assert found["utilization"][block] == pytest.approx(exact.utilization, rel=1e-3)


def test_dead_units_against_hooks_by_hand() -> None:
    net = gpt(activation_function="relu")
    net.transformer.h[1].mlp.c_fc.bias.data[:32] = -50.0
    seen: list[Any] = []
    handle = net.transformer.h[1].mlp.c_proj.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    net.eval()(torch.from_numpy(IDS))
    handle.remove()
    by_hand = float((seen[0].reshape(-1, 128).abs().amax(0) == 0).double().mean())
    found = measured(net, "dead_units")
    assert by_hand >= 0.25
    assert found[1] == pytest.approx(by_hand)
    assert found[0] < 0.05
    net.transformer.h[1].mlp.c_fc.bias.data[:] = -50.0
    assert measured(net, "dead_units")[1] == 1


@pytest.mark.parametrize("make", [gpt, bert])
def test_units_of_smooth_functions_are_dead_too(make: Callable[[], Model]) -> None:
    net = make()
    inner = net.transformer.h[2].mlp.c_fc if make is gpt else net.bert.encoder.layer[2].intermediate.dense
    assert measured(net, "dead_units").max() == 0
    inner.bias.data[: len(inner.bias) // 4] = -30.0
    assert measured(net, "dead_units").tolist() == [0, 0, 0.25]


def test_saturated_units_of_bounded_functions_only() -> None:
    net = gpt(activation_function="tanh")
    assert measured(net, "saturated_units").max() == 0
    net.transformer.h[1].mlp.c_fc.weight.data.mul_(500)
    net.eval()
    with torch.no_grad():
        hidden = []
        handle = net.transformer.h[1].mlp.act.register_forward_hook(lambda m, a, y: hidden.append(y))
        net(torch.from_numpy(IDS))
        handle.remove()
    by_hand = float((hidden[0].abs() >= 0.999).double().mean())
    found = measured(net, "saturated_units")
    assert by_hand > 0.8
    assert found[1] == pytest.approx(by_hand, abs=1e-6)
    assert found[0] == 0
    assert "bounds" in ProbeMeter(gpt(), probe_of(gpt())).missing["saturated_units"]


def test_twins_by_hand() -> None:
    net = sharper(gpt())
    blocks = [
        [p.detach().numpy() for p in block.parameters() if p.ndim > 1] for block in net.transformer.h
    ]
    flat = [np.concatenate([(w - w.mean()).reshape(-1) for w in ws]) for ws in blocks]
    cosines = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in flat] for a in flat])
    np.fill_diagonal(cosines, -1)
    meter = ProbeMeter(net, probe_of(net), quantities=["twin"])
    assert meter.measure()["twin"] == pytest.approx(cosines.max(axis=1), abs=1e-5)
    assert meter.twins == tuple(cosines.argmax(axis=1) + 1)
    assert np.abs(meter.measure()["twin"]).max() < 0.1
    net.transformer.h[2].load_state_dict(net.transformer.h[0].state_dict())
    found = meter.measure()["twin"]
    assert found[[0, 2]] == pytest.approx(1)
    assert abs(found[1]) < 0.1
    assert meter.twins[0] == 3
    assert meter.twins[2] == 1


# Heads


def test_attention_against_eager_attention_by_hand(measured_model: Measured) -> None:
    net, meter, found = measured_model
    twin = copy.deepcopy(net)
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        maps = twin(torch.from_numpy(np.array(meter.probe.ids)), output_attentions=True).attentions
    for block, of_block in enumerate(maps):
        weights = of_block.double().numpy()
        share = infogeo.attention_entropy(weights / weights.sum(-1, keepdims=True), causal=meter.causal, relative=True)
        assert found["attention_entropy"][block] == pytest.approx(np.nanmean(share, axis=(0, 2)), rel=1e-4)
        few = weights[[0, 5, 10, 15]]
        with_all = attention_capacity(list(few / few.sum(-1, keepdims=True)), causal=meter.causal)
        assert isinstance(with_all, list)
        exact = [c.capacity for c in with_all]
        assert found["attention_capacity"][block] == pytest.approx(exact, abs=2e-3)


def test_logits_of_attention_by_hand() -> None:
    net = sharper(gpt()).eval()
    block = net.transformer.h[0]
    with torch.no_grad():
        stream, _ = tail_of(net, torch.from_numpy(IDS))
        query, key, _ = block.attn.c_attn(block.ln_1(stream[0])).split(32, dim=2)
        split = [z.view(16, 20, 2, 16).transpose(1, 2) for z in (query, key)]
        logits = (split[0] @ split[1].transpose(2, 3)).double().numpy() / 4
    sizes = [[np.abs(logits[b, h, i, : i + 1]).max() for b in range(16) for i in range(20)] for h in range(2)]
    assert measured(net, "attention_logits")[0] == pytest.approx(np.mean(sizes, axis=1), rel=1e-4)
    net.set_attn_implementation("eager")
    assert measured(net, "attention_logits")[0] == pytest.approx(np.mean(sizes, axis=1), rel=1e-4)


def test_a_soft_capped_model_gives_half_the_range_of_the_logarithms() -> None:
    net = make_specimen("gemma2")
    found = ProbeMeter(net, probe_batch(net, IDS % 60 + 5), quantities=["attention_logits"]).measure()
    values = found["attention_logits"]
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert (values <= 50).all()


def test_what_a_head_adds_is_what_is_gone_without_it(measured_model: Measured) -> None:
    net, meter, found = measured_model
    twin = copy.deepcopy(net).eval()
    projection, seen = _projection(twin, 1), []
    handle = projection.register_forward_hook(lambda m, a, y: seen.append(y.detach().double().numpy()))
    ids = torch.from_numpy(np.array(meter.probe.ids))
    twin(ids)
    for head in range(2):
        changed = copy.deepcopy(projection.weight.data)
        cut = slice(16 * head, 16 * (head + 1))
        if isinstance(projection, torch.nn.Linear):
            projection.weight.data[:, cut] = 0
        else:
            projection.weight.data[cut] = 0
        twin(ids)
        projection.weight.data = changed
    handle.remove()
    norms = [np.linalg.norm(seen[0] - one, axis=2).mean() for one in seen[1:]]
    assert found["head_output"][1] == pytest.approx(np.array(norms) / np.mean(norms), rel=1e-4)


def _projection(net: Model, block: int) -> Any:
    if isinstance(net, GPT2LMHeadModel):
        return net.transformer.h[block].attn.c_proj
    if isinstance(net, LlamaForCausalLM):
        return net.model.layers[block].self_attn.o_proj
    return net.bert.encoder.layer[block].attention.output.dense


def test_a_zeroed_head_adds_nothing() -> None:
    for net in (gpt(), llama(), bert()):
        projection = _projection(net, 1)
        if isinstance(net, GPT2LMHeadModel):
            projection.weight.data[:16] = 0
        else:
            projection.weight.data[:, :16] = 0
        found = measured(net, "head_output")
        assert found[1] == pytest.approx([0, 2], abs=1e-6)
        assert found[[0, 2]].min() > 0.3


# Predictions


def test_predictions_against_the_model_continued_from_a_layer(measured_model: Measured) -> None:
    net, meter, found = measured_model
    ids = torch.from_numpy(np.array(meter.probe.ids))
    stream, own = tail_of(net, ids)
    laws = [torch.log_softmax(tail_of(net, ids, state)[1].double(), -1).numpy() for state in stream]
    assert np.allclose(laws[-1], torch.log_softmax(own.double(), -1).numpy(), atol=1e-5)
    said = meter.probe.targets != -100
    for layer, law in enumerate(laws):
        losses = [-law[b, t, meter.probe.targets[b, t]] for b, t in np.argwhere(said)]
        assert found["lens_loss"][layer] == pytest.approx(np.mean(losses), rel=1e-5)
        assert found["lens_entropy"][layer] == pytest.approx(-(np.exp(law) * law).sum(-1).mean(), rel=1e-4)
    assert found["probe_loss"] == pytest.approx(found["lens_loss"][-1], rel=1e-5)
    for block in range(3):
        roots = [np.exp(law / 2).reshape(-1, VOCABULARY) for law in laws[block : block + 2]]
        angles = 2 * np.arccos(np.clip((roots[0] * roots[1]).sum(1), -1, 1))
        assert found["path_length"][block] == pytest.approx(angles.mean(), rel=2e-4)
        first, second = (infogeo.Categorical.from_logits(law.reshape(-1, VOCABULARY)[:5]) for law in laws[block:][:2])
        assert angles[:5] == pytest.approx(np.asarray(infogeo.fisher_rao_distance(first, second)), rel=1e-4)


def test_hooks_of_others_on_blocks_do_not_disturb_the_reading_out() -> None:
    net = sharper(gpt()).eval()
    expected = measured(net, "lens_loss", "path_length")
    for block in net.transformer.h:
        block.register_forward_hook(lambda m, a, y: None)
    again = measured(net, "lens_loss", "path_length")
    net.transformer.h[1].register_forward_hook(
        lambda m, a, y: (y[0] - a[0], *y[1:]) if isinstance(y, tuple) else y - a[0]
    )
    other = measured(net, "lens_loss", "probe_loss", "carry")
    for name in expected:
        assert again[name] == pytest.approx(expected[name], rel=1e-5)
    assert other["lens_loss"][-1] == pytest.approx(other["probe_loss"], rel=1e-5)
    assert abs(other["carry"][1]) < abs(other["carry"][0]) / 2


# Gradients


def test_gradients_against_backward_by_hand(measured_model: Measured) -> None:
    net, meter, found = measured_model
    twin = copy.deepcopy(net).eval()
    layers = _layers(twin)
    gradients: list[list[Any]] = [[] for _ in layers]
    counts = []
    for group in np.array_split(np.arange(16), 8):
        twin.zero_grad()
        ids, targets = (torch.from_numpy(np.array(a)[group]) for a in (meter.probe.ids, meter.probe.targets))
        loss = torch.nn.functional.cross_entropy(twin(ids).logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        loss.backward()
        counts.append(int((targets != -100).sum()))
        for kept, layer in zip(gradients, layers, strict=True):
            kept.append(np.concatenate([p.grad.double().numpy().reshape(-1) for p in layer.parameters()]))
    for block, of_block in enumerate(gradients):
        g = np.array(of_block)
        trace = np.mean([n * (one @ one) for n, one in zip(counts, g, strict=True)])
        assert found["fisher_trace"][block] == pytest.approx(trace, rel=1e-3)
        mean = g.mean(axis=0)
        ratio = (mean @ mean) / (g.var(axis=0, ddof=1).sum() / 8)
        assert found["gradient_snr"][block] == pytest.approx(ratio, rel=1e-3)


def _layers(net: Model) -> Any:
    if isinstance(net, GPT2LMHeadModel):
        return net.transformer.h
    return net.model.layers if isinstance(net, LlamaForCausalLM) else net.bert.encoder.layer


def test_blocks_that_do_not_learn_have_gradients_too() -> None:
    net = gpt()
    expected = measured(net, "fisher_trace")
    for parameter in net.transformer.h[1].parameters():
        parameter.requires_grad_(False)
    assert measured(net, "fisher_trace") == pytest.approx(expected)
    assert not any(p.requires_grad for p in net.transformer.h[1].parameters())
    assert all(p.requires_grad for p in net.transformer.h[0].parameters())


# Functional probes


def test_exchanges_keep_what_they_should(measured_model: Measured) -> None:
    made = measured_model[1]._exchanges
    assert made.ids.shape == (8, 20)
    assert (made.before.sum(1) == 10).all()
    assert (made.after.sum(1) == 10).all()
    assert (made.future[:, :10] == made.ids[:, :10]).all()
    assert (made.future[:, 10:] != made.ids[:, 10:]).all()
    assert (made.order[:, 10:] == made.ids[:, 10:]).all()
    assert (made.order[:, 0] == made.ids[:, 0]).all()
    assert (np.sort(made.order, axis=1) == np.sort(made.ids, axis=1)).all()
    assert (made.order != made.ids).any(1).all()
    assert (made.other[:, 1:10] != made.ids[:, 1:10]).all()
    assert (made.other[:, 10:] == made.ids[:, 10:]).all()


def test_order_sensitivity_against_two_passes_by_hand(measured_model: Measured) -> None:
    net, meter, found = measured_model
    made = meter._exchanges
    own, moved, other = (stream_of(net, meter.probe, ids)[0][:, :, 10:] for ids in (made.ids, made.order, made.other))
    for layer in range(1, 4):
        ratio = np.linalg.norm(moved[layer] - own[layer]) / np.linalg.norm(other[layer] - own[layer])
        assert found["order_sensitivity"][layer] == pytest.approx(ratio, rel=1e-3)
    assert np.isnan(found["order_sensitivity"][0])
    assert (found["order_sensitivity"][1:] > 0.02).all()


def _without_positions(net: Model) -> Model:
    if isinstance(net, GPT2LMHeadModel):
        net.transformer.wpe.weight.data.zero_()
    elif isinstance(net, BertForMaskedLM):
        net.bert.embeddings.position_embeddings.weight.data.zero_()
    else:
        class NoTurn(torch.nn.Module):
            def forward(self, x: Any, position_ids: Any, **more: Any) -> Any:
                ones = torch.ones((*position_ids.shape, 16))
                return ones, torch.zeros_like(ones)

        net.model.rotary_emb = NoTurn()
    return net


@pytest.mark.parametrize("make", [gpt, llama, bert])
def test_without_positions_the_order_of_tokens_says_nothing(make: Callable[[], Model]) -> None:
    assert measured(sharper(make()), "order_sensitivity")[1:].min() > 0.02
    found = measured(_without_positions(sharper(make())), "order_sensitivity")
    assert found[1] < 1e-5
    if make is bert:
        assert found[1:].max() < 1e-5  # a causal mask tells the order from block 2 on


def test_a_mask_that_sees_the_future_is_seen() -> None:
    for net in (gpt(), llama()):
        assert measured(net, "future_sensitivity").max() < 1e-6
        for block in _layers(net)[1:]:
            (block.attn if isinstance(net, GPT2LMHeadModel) else block.self_attn).is_causal = False
        found = measured(net, "future_sensitivity")
        assert found[:2].max() < 1e-6
        assert found[2:].min() > 1e-3


def test_future_sensitivity_against_two_passes_by_hand() -> None:
    net = sharper(gpt()).eval()
    for block in net.transformer.h:
        block.attn.is_causal = False
    meter = ProbeMeter(net, probe_of(net), quantities=["future_sensitivity"])
    assert meter.causal  # by its class
    own, other = (stream_of(net, meter.probe, i)[0][:, :, :10] for i in (meter._exchanges.ids, meter._exchanges.future))
    by_hand = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in zip(own, other, strict=True)]
    assert meter.measure()["future_sensitivity"] == pytest.approx(by_hand, rel=1e-4)


def test_the_scale_of_the_input_matters_where_there_is_no_norm() -> None:
    for net in (gpt(), llama(), bert()):
        assert measured(net, "scale_response").max() < 0.01
        layer = _layers(net)[1]
        if isinstance(net, GPT2LMHeadModel):
            layer.ln_2 = torch.nn.Identity()
        elif isinstance(net, LlamaForCausalLM):
            layer.input_layernorm = torch.nn.Identity()
        else:
            layer.attention.output.LayerNorm = layer.output.LayerNorm = torch.nn.Identity()
        found = measured(net, "scale_response")
        assert found[1] > 0.5
        assert found[[0, 2]].max() < 0.01


def test_large_carry_tells_whether_there_is_a_residual_stream() -> None:
    for make, kept in ((gpt, 1.0), (llama, 1.0), (bert, 0.0)):
        assert np.allclose(measured(make(), "large_carry"), kept, atol=0.02)
    net = gpt()
    block, own = net.transformer.h[1], net.transformer.h[1].forward

    def cut(states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = own(states, *args, **kwargs)
        if isinstance(output, tuple):
            return (output[0] - states, *output[1:])
        return output - states

    block.forward = cut
    found = measured(net, "large_carry")
    assert abs(found[1]) < 0.02
    assert np.allclose(found[[0, 2]], 1.0, atol=0.02)
    assert np.isnan(measured(gpt().to(torch.bfloat16), "large_carry")).all()


def test_muted_blocks_return_their_input_where_there_is_a_residual_stream() -> None:
    for make in (gpt, llama, bert):
        for double in (False, True):
            net = make().to(torch.bfloat16) if double else sharper(make())
            assert measured(net, "muted_carry").min() > 0.9
    for name, least in (("bart", 0.6), ("marian", 0.6), ("deberta-v2", 0.6), ("t5", 0.99), ("neox", 0.99)):
        net = make_specimen(name)
        meter = ProbeMeter(net, probe_batch(net, IDS % 60, objective="none"), quantities=["muted_carry"])
        assert meter.measure()["muted_carry"].min() > least, name
    for part in ("attention.output", "output"):
        net = sharper(bert())
        module = net.bert.encoder.layer[1].get_submodule(part)
        own = module.forward
        module.forward = lambda states, residual, own=own: own(states, torch.zeros_like(residual))
        found = measured(net, "muted_carry")
        assert found[1] == pytest.approx(0, abs=1e-3)
        assert found[[0, 2]].min() > 0.9


def test_muted_carry_by_hand() -> None:
    net = sharper(bert()).eval()
    stream, _ = tail_of(net, torch.from_numpy(MASKED["input_ids"]))
    layer = net.bert.encoder.layer[1]
    with torch.no_grad():
        y = layer.output.LayerNorm(layer.attention.output.LayerNorm(stream[1])).double().flatten(0, 1)
    x = stream[1].double().flatten(0, 1)
    x, y = (z / z.norm(dim=1, keepdim=True) for z in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    wanted = float((x * y).sum() / (x.norm() * y.norm()))
    meter = ProbeMeter(net, probe_of(net), quantities=["muted_carry"])
    before = [len(module._forward_hooks) for module in net.modules()]
    assert meter.measure()["muted_carry"][1] == pytest.approx(wanted, abs=1e-5)
    assert [len(module._forward_hooks) for module in net.modules()] == before


def test_a_first_block_behind_a_norm_may_do_without_its_own() -> None:
    net = make_specimen("modernbert")
    meter = ProbeMeter(net, probe_batch(net, IDS % 60, objective="none"), quantities=["scale_response"])
    found = meter.measure()["scale_response"]
    assert np.isnan(found[0])
    assert found[1:].max() < 0.2
    layer = net.model.layers[1]
    layer.attn_norm = torch.nn.Identity()
    assert meter.measure()["scale_response"][1] > 0.5
    bare = bert()  # its embeddings end with a norm, too
    first = bare.bert.encoder.layer[0]
    first.attention.output.LayerNorm = first.output.LayerNorm = torch.nn.Identity()
    assert measured(bare, "scale_response")[0] > 0.5


def test_scale_response_by_hand() -> None:
    net = sharper(gpt()).eval()
    block = net.transformer.h[1]
    block.ln_1 = torch.nn.Identity()
    stream, _ = tail_of(net, torch.from_numpy(IDS))
    with torch.no_grad():
        x = stream[1] * 1000

        def run(z: Any) -> Any:
            output = block(z)
            return (output[0] if isinstance(output, tuple) else output).double()

        added, more = run(x) - x.double(), run(2 * x) - 2 * x.double()
        first = float((more - added).norm() / added.norm())
        second = float((run(2 * x) - run(x)).norm() / run(x).norm())
    assert measured(net, "scale_response")[1] == pytest.approx(min(first, second), rel=1e-3)


def test_without_the_residual_nothing_is_carried() -> None:
    for net in (gpt(), llama()):
        assert measured(net, "carry") == pytest.approx(1, abs=0.05)
        _layers(net)[1].register_forward_hook(
            lambda m, a, y: (y[0] - a[0], *y[1:]) if isinstance(y, tuple) else y - a[0]
        )
        found = measured(net, "carry")
        assert abs(found[1]) < 0.1
        assert found[[0, 2]] == pytest.approx(1, abs=0.15)


def test_a_block_of_zeros_adds_nothing() -> None:
    net = gpt()
    for parameter in net.transformer.h[1].parameters():
        parameter.data.zero_()
    found = measured(net)
    assert found["contribution"][1] == 0
    assert found["carry"][1] == pytest.approx(1)
    assert found["path_length"][1] == 0
    assert found["head_output"][1].tolist() == [0, 0]
    assert found["dead_units"][1] == 1
    assert np.isnan(found["capacity"][1])
    assert np.isnan(found["scale_response"][1])


def test_tokens_that_are_all_alike() -> None:
    net = gpt()
    net.transformer.h[1].register_forward_hook(
        lambda m, a, y: (torch.ones_like(y[0]), *y[1:]) if isinstance(y, tuple) else torch.ones_like(y)
    )
    found = measured(net)
    assert found["effective_rank"][2] == 1
    assert found["token_similarity"][2] == 1
    assert found["mean_cosine"][2] == pytest.approx(1)
    assert found["matrix_entropy"][2] == pytest.approx(0, abs=1e-12)
    assert found["input_information"][2] == pytest.approx(0, abs=1e-9)


# Broken models


@pytest.mark.parametrize("before", [True, False])
def test_nan_is_a_finding_and_no_failure(before: bool) -> None:
    net = gpt()
    if not before:
        meter = ProbeMeter(net, probe_of(net))
    net.transformer.h[1].mlp.c_fc.weight.data[0, 0] = float("nan")
    if before:
        meter = ProbeMeter(net, probe_of(net))
    found = meter.measure()
    assert meter.broken_at == "transformer.h.1.mlp.c_fc"
    assert not meter.failed
    assert found["nonfinite"].tolist() == [0, 0, 1, 1]
    assert np.isnan(found["probe_loss"])
    for name in ("state_norm", "effective_rank", "input_information", "lens_loss", "headroom"):
        assert (np.isfinite(found[name]) == [True, True, False, False]).all(), name
    for name in ("contribution", "capacity", "scale_response", "path_length"):
        assert (np.isfinite(found[name]) == [True, False, False]).all(), name
    for name in ("attention_entropy", "attention_capacity", "attention_logits", "head_output"):
        assert (np.isfinite(found[name]) == [[True], [True], [False]]).all(), name
    assert np.isnan(found["fisher_trace"]).all()
    assert meter.record(3).broken_pass == "forward"
    for parameter in net.parameters():
        parameter.data.fill_(float("nan"))
    found = meter.measure()
    assert meter.broken_at == "transformer.wte"
    assert all(
        np.isnan(v).all() for n, v in found.items() if n != "nonfinite"
    )


def test_infinity_leaves_no_headroom() -> None:
    net = gpt()
    meter = ProbeMeter(net, probe_of(net), quantities=["headroom", "nonfinite"])
    net.transformer.h[1].mlp.c_proj.bias.data[0] = float("inf")
    found = meter.measure()
    assert found["headroom"][2] == 0
    assert found["headroom"][1] > 1
    assert 0 < found["nonfinite"][2] < 1
    assert meter.broken_at == "transformer.h.1.mlp.c_proj"


def test_structure_is_found_though_the_weights_are_broken_or_zero() -> None:
    for spoil in (float("nan"), 0.0, 1e30):
        net = llama()
        for parameter in net.parameters():
            parameter.data.fill_(spoil)
        meter = ProbeMeter(net, probe_of(net))
        assert set(meter.missing) == {"saturated_units"}
        assert meter.heads == (2, 2, 2)
        assert meter.depth == 3
        meter.measure()
        assert not meter.failed


def test_half_precision() -> None:
    net = gpt().to(torch.bfloat16)
    meter = ProbeMeter(net, probe_of(net))
    found = meter.measure()
    assert not meter.failed
    assert meter.dtype == "bfloat16"
    assert found["future_sensitivity"].max() < 1e-3
    assert np.isfinite(found["fisher_trace"]).all()
    assert found["probe_loss"] == pytest.approx(np.log(VOCABULARY), rel=0.1)


# Leaving no trace


def _state(net: Model) -> Any:
    hooks = [
        h for m in net.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
        if h.__module__ != "transformers.utils.output_capturing"
    ]
    return (
        [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()], hooks,
        [sorted(k for k in vars(m) if k == "forward") for m in net.modules()],
        net.config._attn_implementation, torch.get_rng_state().tolist(), torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("make", [gpt, bert])
def test_the_model_is_left_as_it_was(make: Callable[[], Model]) -> None:
    net = make().train()
    net.base_model.encoder.layer[1].eval() if make is bert else net.transformer.h[1].eval()
    net(torch.from_numpy(IDS)).logits.sum().backward()
    next(net.parameters()).requires_grad_(False)
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    weights = copy.deepcopy(net.state_dict())
    torch.manual_seed(5)
    before = _state(net)
    meter = ProbeMeter(net, probe_of(net))
    assert _state(net) == before
    meter.measure()
    assert _state(net) == before
    assert all(torch.equal(weights[k], v) for k, v in net.state_dict().items())
    for parameter, grad in zip(net.parameters(), grads, strict=True):
        assert (parameter.grad is None) == (grad is None)
        assert (grad is None or torch.equal(parameter.grad, grad))


def test_a_graph_that_waits_for_its_backward_pass_is_not_hurt() -> None:
    net = gpt().train()
    meter = ProbeMeter(net, probe_of(net))
    torch.manual_seed(0)
    expected = net(torch.from_numpy(IDS)).logits.pow(2).mean()
    expected.backward()
    grad = net.transformer.h[0].mlp.c_fc.weight.grad.clone()
    net.zero_grad()
    torch.manual_seed(0)
    loss = net(torch.from_numpy(IDS)).logits.pow(2).mean()
    meter.measure()
    loss.backward()
    assert torch.equal(net.transformer.h[0].mlp.c_fc.weight.grad, grad)


def test_the_model_is_left_as_it_was_when_it_fails() -> None:
    net = gpt().train()
    meter = ProbeMeter(net, probe_of(net))
    before = _state(net)
    forward = net.transformer.h[2].mlp.forward

    def fails(x: Any) -> Any:
        assert meter.running
        raise RuntimeError("no more")

    net.transformer.h[2].mlp.forward = fails
    found = meter.measure()
    assert all(np.isnan(v).all() for v in found.values())
    assert set(meter.failed) == set(found) - {"x"}
    assert "no more" in meter.failed["carry"]
    assert not meter.running
    net.transformer.h[2].mlp.forward = forward
    del net.transformer.h[2].mlp.__dict__["forward"]
    assert _state(net) == before
    assert np.isfinite(meter.measure()["carry"]).all()
    assert not meter.failed


def test_autocast_around_it_changes_nothing() -> None:
    net = sharper(gpt())
    meter = ProbeMeter(net, probe_of(net), quantities=["probe_loss", "state_norm", "fisher_trace"])
    plain = meter.measure()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        cast = meter.measure()
    for name, value in plain.items():
        assert np.array_equal(value, cast[name]), name


def test_one_meter_follows_the_weights() -> None:
    net = gpt()
    meter = ProbeMeter(net, probe_of(net))
    first = meter.measure()
    sharper(net)
    second, fresh = meter.measure(), ProbeMeter(net, probe_of(net)).measure()
    for name, value in second.items():
        assert np.array_equal(value, fresh[name], equal_nan=True), name
    assert second["state_norm"][0] > 2 * first["state_norm"][0]


def test_compiled_code_is_passed_by() -> None:
    net = gpt()
    expected = ProbeMeter(net, probe_of(net), quantities=["carry", "probe_loss"]).measure()

    def fails(*given: Any, **more: Any) -> Any:
        raise RuntimeError("compiled")

    net._compiled_call_impl = fails
    meter = ProbeMeter(net, probe_of(net), quantities=["carry", "probe_loss"])
    found = meter.measure()
    assert not meter.failed
    assert net._compiled_call_impl is fails
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


# Probe batches of which little can be told


def test_what_cannot_be_permuted_or_exchanged_is_no_finding() -> None:
    net = gpt()
    names = ["order_sensitivity", "future_sensitivity"]
    short = ProbeMeter(net, probe_batch(net, IDS[:, :4]), quantities=names).measure()
    assert np.isnan(short["order_sensitivity"]).all()  # of two tokens before the middle one stays in its place
    assert short["future_sensitivity"].max() < 1e-6
    constant = ProbeMeter(net, probe_batch(net, np.full((4, 12), 7)), quantities=names).measure()
    assert all(np.isnan(values).all() for values in constant.values())


def test_one_text_and_few_targets() -> None:
    net = gpt()
    meter = ProbeMeter(net, probe_batch(net, IDS[:1]))
    found = meter.measure()
    assert not meter.failed
    assert np.isnan(found["fisher_trace"]).all()
    assert np.isfinite(found["lens_loss"]).all()
    labels = np.full_like(IDS, -100)
    labels[3, 5] = 9
    meter = ProbeMeter(net, probe_batch(net, {"input_ids": IDS, "labels": labels}))
    found = meter.measure()
    assert not meter.failed
    assert "fewer than two" in meter.missing["target_information"]
    labels[3, 5] = -100
    meter = ProbeMeter(net, probe_batch(net, {"input_ids": IDS, "labels": labels}))
    assert {"lens_loss", "probe_loss", "fisher_trace", "target_information"} < set(meter.missing)
    assert np.isfinite(meter.measure()["path_length"]).all()
    assert not meter.failed


# Other models


def test_an_encoder_decoder_gives_its_encoder() -> None:
    net = make_specimen("t5")
    meter = ProbeMeter(net, probe_batch(net, IDS % 60 + 5))
    found = meter.measure()
    assert not meter.failed
    assert found["state_norm"].shape == (3,)
    assert not meter.causal
    assert "no logits for each token of the probe batch" in meter.missing["lens_loss"]


def test_a_classifier_of_texts_has_states_and_no_predictions() -> None:
    from transformers import BertForSequenceClassification

    net = BertForSequenceClassification(bert().config)
    meter = ProbeMeter(net, probe_batch(net, IDS))
    found = meter.measure()
    assert not meter.failed
    assert "no logits" in meter.missing["lens_entropy"]
    assert np.isfinite(found["attention_entropy"]).all()


def test_the_bundled_model_is_measured_whole(bundled: Any) -> None:
    meter = ProbeMeter(bundled, probe_batch(bundled))
    record = meter.record(2200)
    assert not meter.failed
    assert set(meter.missing) == {"saturated_units"}
    assert record.values["future_sensitivity"].max() == 0
    assert record.values["scale_response"].max() < 0.01
    assert record.values["order_sensitivity"][1:].min() > 0.1
    assert 3.5 < record.values["probe_loss"] < 4.5
    assert record.seconds < 30  # about one on an idle core


def test_shared_blocks_have_no_twins() -> None:
    net = make_specimen("albert")
    batch = {"input_ids": IDS % 60 + 5, "labels": MASKED["labels"].clip(-100, 60)}
    meter = ProbeMeter(net, probe_batch(net, batch))
    found = meter.measure()
    assert not meter.failed
    assert "same module" in meter.missing["twin"]
    assert found["carry"].shape == (3,)
    assert found["fisher_trace"] == pytest.approx(found["fisher_trace"][0])


class Plain(torch.nn.Module):
    """A transformer of torch alone, that holds states as (token, text, d)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(VOCABULARY, 16)
        self.place = torch.nn.Embedding(64, 16)
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=False, norm_first=True, dropout=0.1)
            for _ in range(2)
        )
        self.head = torch.nn.Linear(16, VOCABULARY)

    def forward(self, ids: Any) -> Any:
        n = ids.shape[1]
        x = (self.table(ids) + self.place(torch.arange(n))).transpose(0, 1)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(n)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        return self.head(x.transpose(0, 1))


@pytest.mark.parametrize("given", ["blocks", "list"])
def test_a_plain_module(given: str) -> None:
    net = Plain().train()
    meter = ProbeMeter(
        net, probe_batch(net, IDS, objective="next token"), blocks="blocks" if given == "blocks" else list(net.blocks)
    )
    found = meter.measure()
    assert not meter.failed
    assert net.training
    assert meter.vocabulary == VOCABULARY
    assert meter.causal
    without = {"attention_entropy", "attention_logits", "attention_capacity", "head_output", "dead_units"}
    assert set(meter.missing) == without | {"saturated_units", "muted_carry"}
    assert "blocks were given" in meter.missing["dead_units"]
    assert found["state_norm"].shape == (3,)
    assert found["future_sensitivity"].max() < 1e-6
    assert found["scale_response"].max() < 0.01
    assert found["order_sensitivity"][1:].min() > 0.02
    net.eval()
    with torch.no_grad():
        x = net.table(torch.from_numpy(IDS)) + net.place(torch.arange(20))
        logits = net(torch.from_numpy(IDS))
        lens = net.head(x)
    targets = torch.from_numpy(np.array(meter.probe.targets))
    loss = [torch.nn.functional.cross_entropy(z.flatten(0, 1), targets.flatten()) for z in (logits, lens)]
    assert found["state_norm"][0] == pytest.approx(float(x.pow(2).mean().sqrt()), rel=1e-5)
    assert found["probe_loss"] == pytest.approx(float(loss[0]), rel=1e-5)
    assert found["lens_loss"][0] == pytest.approx(float(loss[1]), rel=1e-5)


@pytest.mark.parametrize("wrong", [-1, 67])
def test_labels_that_the_model_cannot_predict_are_refused(wrong: int) -> None:
    ids = np.random.default_rng(0).integers(1, 60, size=(4, 12))
    labels = ids.copy()
    labels[1, 4] = wrong
    model = make_specimen("gpt2")
    with pytest.raises(ArgumentError, match=f"labels: found {wrong}, .* predicts 67 outcomes"):
        ProbeMeter(model, probe_batch(model, {"input_ids": ids, "labels": labels}))


def test_what_cannot_be_measured_is_refused() -> None:
    net = gpt()
    probe = probe_of(net)
    with pytest.raises(ArgumentError, match="wanted what probe_batch"):
        ProbeMeter(net, IDS)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'speed', wanted one or more of"):
        ProbeMeter(net, probe, quantities=["speed"])
    with pytest.raises(ArgumentError, match="'loss'"):  # that is of the live batches
        ProbeMeter(net, probe, quantities="loss")
    with pytest.raises(ArgumentError, match="number_format"):
        ProbeMeter(net, probe, number_format="int8")
    with pytest.raises(ArgumentError, match=r"transformer\.h"):
        ProbeMeter(net, probe, blocks="transformer.layers")
    with pytest.raises(ArgumentError, match="found Linear"):
        ProbeMeter(net, probe, blocks=[torch.nn.Linear(2, 2)])
    with pytest.raises(ArgumentError, match="found int"):
        ProbeMeter(net, probe, blocks=3)
    with pytest.raises(ModelError, match="give blocks= as a dotted name such as 'blocks'"):
        ProbeMeter(Plain(), probe)
    with pytest.raises(ModelError, match="check blocks="):
        ProbeMeter(net, probe, blocks=[net.lm_head])
    net.spare = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="no block of GPT2LMHeadModel ran"):
        ProbeMeter(net, probe, blocks=[net.spare])
    with pytest.raises(ModelError, match="does not run on the probe batch"):
        ProbeMeter(Plain(), ProbeBatch(
            ids=np.full((2, 80), 5), mask=np.ones((2, 80)), targets=np.full((2, 80), -100), objective="none",
        ), blocks="blocks")


def test_names_and_scopes_are_those_of_the_contract(measured_model: Measured) -> None:
    found = measured_model[2]
    shapes = {"model": (), "state": (4,), "block": (3,), "head": (3, 2)}
    assert all(v.shape == shapes[QUANTITIES[n].scope] and v.dtype == np.float64 for n, v in found.items())
