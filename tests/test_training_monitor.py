"""The monitor in loops of plain torch and in a Trainer: what it sees, that it changes nothing, and its own failures."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer  # noqa: E402

from infogeo.errors import ArgumentError, FormatError, MissingDependencyError, ModelError, ShapeError  # noqa: E402
from infogeo_adapters import TrainingMonitor, measure_checkpoint, read_history  # noqa: E402
from infogeo_adapters.training import _monitor_core  # noqa: E402
from infogeo_adapters.training._live_tokens import TokenStatistics  # noqa: E402
from infogeo_adapters.training.probe import probe_batch  # noqa: E402

FEW = ["probe_loss", "state_norm"]
PROBE = np.random.default_rng(0).integers(5, 60, size=(4, 12))


@pytest.fixture(autouse=True)
def _silence(monkeypatch):
    """What transformers says of the tiny models on standard error."""
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity_warning()


def make_model(seed=0):
    torch.manual_seed(seed)
    return make_specimen("gpt2").train()


def batches(count, *, seed=1, size=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 60, (size, 10), generator=generator) for _ in range(count)]


def adam(model, **more):
    return torch.optim.AdamW(model.parameters(), **{"lr": 1e-2, **more})


def train(model, optimizer, data, *, monitor=None, after=None):
    """A loop as people write it; the losses."""
    losses = []
    for number, ids in enumerate(data, start=1):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if after is not None:
            after(number)
    return losses


def watch(model, optimizer, **more):
    return TrainingMonitor(model, optimizer=optimizer, **{"probe": PROBE, "quantities": FEW, "every": 3, **more})


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def hooks_of(model, *optimizers):
    """How many hooks there are, but for those that transformers leaves for itself."""
    of_modules = [
        h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
        if h.__module__ != "transformers.utils.output_capturing"
    ]
    of_weights = [h for p in model.parameters() for h in (p._post_accumulate_grad_hooks or {}).values()]
    of_steps = [
        h for o in optimizers for h in (*o._optimizer_step_pre_hooks.values(), *o._optimizer_step_post_hooks.values())
    ]
    return len(of_modules) + len(of_weights) + len(of_steps)


class Block(torch.nn.Module):
    """A block of a module that is none of transformers."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(8, 8)

    def forward(self, x):
        return x + torch.tanh(self.map(x))


class Net(torch.nn.Module):
    """Such a module."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(60, 8)
        self.layers = torch.nn.ModuleList(Block() for _ in range(2))
        self.out = torch.nn.Linear(8, 60)

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


def next_token_loss(net, ids):
    return torch.nn.functional.cross_entropy(net(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


# What is seen


def test_training_is_the_same_to_the_last_bit_with_all_quantities():
    data = batches(7)
    plain = make_model()
    train(plain, adam(plain), data)
    after_plain = torch.random.get_rng_state()
    torch.manual_seed(5)
    watched = make_model()
    optimizer = adam(watched)
    with watch(watched, optimizer, quantities=None, every=4, early=False) as monitor:
        train(watched, optimizer, data)
    assert equal(state(plain), state(watched))
    assert torch.equal(after_plain, torch.random.get_rng_state())  # dropout drew from it at each step
    assert watched.training
    assert all(p.grad is None for p in watched.parameters())
    assert hooks_of(watched, optimizer) == 0
    assert monitor.history().steps == (0, 4, 7)
    assert len(monitor.history().records[-1].values) > 30


def test_losses_rates_and_steps_are_those_of_the_loop(tmp_path):
    model = make_model()
    optimizer = adam(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    with watch(model, optimizer, folder=tmp_path, early=False) as monitor:
        losses = train(model, optimizer, batches(7), after=lambda _: schedule.step())
    history = read_history(tmp_path)
    assert history.steps == monitor.history().steps == (0, 3, 6, 7)
    np.testing.assert_allclose(history.losses, np.column_stack([np.arange(1, 8), losses]), rtol=1e-12)
    means = [np.mean(losses[a:b]) for a, b in ((0, 3), (3, 6), (6, 7))]
    np.testing.assert_allclose(history.series("loss"), [np.nan, *means])
    np.testing.assert_allclose(history.series("loss_lowest")[1:3], [min(losses[:3]), min(losses[3:6])])
    np.testing.assert_allclose(history.series("loss_highest")[1:3], [max(losses[:3]), max(losses[3:6])])
    np.testing.assert_allclose(history.series("learning_rate"), [1e-2, 1e-2 / 3, 1e-2 / 6, 1e-2 / 7])
    assert all(record.seconds > 0 for record in history.records)
    for one, other in zip(history.records, monitor.history().records, strict=True):
        assert all(np.array_equal(one.values[n], other.values[n], equal_nan=True) for n in other.values)


def test_gradients_and_updates_by_block_are_those_computed_by_hand():
    model = make_model()
    for parameter in model.transformer.h[1].parameters():
        parameter.requires_grad_(False)
    model.transformer.ln_f.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    twin: dict[str, Any] = {}

    def note(optimizer, args, kwargs):
        twin["gradient"] = {n: p.grad.double().clone() for n, p in model.named_parameters() if p.grad is not None}
        twin["before"] = {n: p.detach().double().clone() for n, p in model.named_parameters()}

    optimizer.register_step_pre_hook(note)
    with watch(model, optimizer, every=2, early=False) as monitor:
        train(model, optimizer, batches(2))
        after = {n: p.detach().double() for n, p in model.named_parameters()}
    record = monitor.history().records[-1]
    assert record.step == 2

    def norm(tensors):
        return math.sqrt(sum(float((t ** 2).sum()) for t in tensors))

    for block in range(3):
        names = [n for n, _ in model.named_parameters() if n.startswith(f"transformer.h.{block}.")]
        change = norm(after[n] - twin["before"][n] for n in names) / norm(twin["before"][n] for n in names)
        gradient = norm(twin["gradient"][n] for n in names if n in twin["gradient"])
        assert record.values["update_ratio"][block] == pytest.approx(change, rel=1e-5)
        assert record.values["gradient_norm_block"][block] == pytest.approx(gradient, rel=1e-5)
        assert record.values["weight_norm"][block] == pytest.approx(norm(after[n] for n in names), rel=1e-6)
        assert record.values["unmoved"][block] == (block == 1)
    assert float(record.values["gradient_norm"]) == pytest.approx(norm(twin["gradient"].values()), rel=1e-5)
    still = {n for n in after if torch.equal(after[n], twin["before"][n])}
    assert set(record.unmoved) == still
    assert {n.rpartition(".")[0] for n in still} >= {"transformer.ln_f", "transformer.h.1.mlp.c_fc"}


def test_the_entropy_of_targets_is_that_of_the_tokens_seen():
    model, data = make_model(), batches(6)
    optimizer = adam(model)
    with watch(model, optimizer, every=6, early=False) as monitor:
        train(model, optimizer, data)
        model.eval()
        model(input_ids=torch.full((4, 10), 7))  # not training
    counts = Counter(int(t) for ids in data for t in ids[:, 1:].flatten())
    n = sum(counts.values())
    wanted = -sum(c / n * math.log(c / n) for c in counts.values()) + (len(counts) - 1) / (2 * n)
    assert monitor.history().series("target_entropy")[-1] == pytest.approx(wanted, rel=1e-12)


def test_padding_and_labels_that_are_left_out_are_no_targets():
    model = make_model()
    optimizer = adam(model)
    ids = torch.tensor([[5, 6, 6, 6, 6, 6], [5, 7, 9, 9, 9, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    labels = ids.masked_fill(mask == 0, -100)
    for given in ({"attention_mask": mask}, {"attention_mask": mask, "labels": labels}, {"labels": labels}):
        with watch(model, optimizer, every=1) as monitor:
            model(input_ids=ids, **given).logits.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        share = np.array([5 / 6, 1 / 6])
        wanted = -(share * np.log(share)).sum() + 1 / 12
        assert monitor.history().series("target_entropy")[-1] == pytest.approx(wanted, rel=1e-12)


def test_batches_that_come_again_are_counted():
    model, (one, other, third) = make_model(), batches(3)
    optimizer = adam(model)
    with watch(model, optimizer, every=4, early=False) as monitor:
        train(model, optimizer, [one, other, one, one, third, third, third, other])
    assert monitor.history().series("batch_repetition").tolist()[1:] == [0.5, 0.75]


def test_a_batch_whose_texts_come_in_another_order_comes_again():
    model, (one, other) = make_model(), batches(2)
    optimizer = adam(model)
    with watch(model, optimizer, every=4, early=False) as monitor:
        train(model, optimizer, [one, one.flip(0), other, one[[1, 0, 3, 2]]])
    assert monitor.history().series("batch_repetition").tolist()[1:] == [0.5]


def test_targets_that_stand_in_their_own_place_are_counted():
    torch.manual_seed(0)
    model = make_specimen("bert").train()
    optimizer = adam(model)
    (ids,) = batches(1)
    labels = torch.full_like(ids, -100)
    labels[:, 2:7] = ids[:, 2:7]
    masked = ids.clone()
    masked[:, 2:6] = 3
    for given, wanted in ((masked, 0.2), (ids, 1.0)):
        with watch(model, optimizer, probe={"input_ids": masked, "labels": labels}, every=1) as monitor:
            model(input_ids=given, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert monitor.history().series("answer_shown").tolist()[1:] == [wanted]
    causal = make_model()
    with watch(causal, adam(causal), every=1) as monitor:
        train(causal, adam(causal), [ids])
    assert not monitor.history().has("answer_shown")  # labels are the texts themselves, and shifted inside


def test_inputs_of_a_decoder_are_set_beside_what_it_is_to_predict():
    labels = torch.tensor([[5, 6, 7, -100]])
    shifted, ids = torch.tensor([[0, 5, 6, 7]]), torch.tensor([[8, 9]])
    for given, wanted in ((shifted, 0.0), (labels.clamp(min=0), 1.0)):
        tokens = TokenStatistics("other")
        tokens.see((), {"input_ids": ids, "decoder_input_ids": given, "labels": labels})
        assert tokens.shown() == wanted
        assert tokens.shown() is None  # counted anew each time
        assert tokens.entropy() is not None
    tokens.see((), {"input_ids": ids, "labels": labels})
    assert tokens.shown() is None
    same = TokenStatistics("next token")  # whatever it is said to learn, and though both inputs have one shape
    same.see((), {"input_ids": shifted, "decoder_input_ids": shifted, "labels": labels})
    assert same.shown() == 0.0


@pytest.mark.parametrize("clear", ["after", "before", "never", "to zeros"])
def test_gradients_that_are_not_cleared_are_counted(clear):
    model, data = make_model(), batches(5)
    optimizer = adam(model)
    with watch(model, optimizer, every=5, early=False) as monitor:
        for ids in data:
            loss = model(input_ids=ids, labels=ids).loss
            if clear == "before":
                optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            if clear in ("after", "to zeros"):
                optimizer.zero_grad(set_to_none=clear == "after")
    assert monitor.history().series("gradient_carryover").tolist()[1:] == [float(clear == "never")]


def test_gradients_that_are_gathered_over_batches_are_not_kept():
    model = make_model()
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim > 1], lr=1e-2)
    rest = torch.optim.SGD([p for p in model.parameters() if p.ndim <= 1], lr=1e-2)
    with watch(model, [matrices, rest], every=2, early=False) as monitor:
        for number, ids in enumerate(batches(8), start=1):
            model(input_ids=ids, labels=ids).loss.backward()
            matrices.step()
            matrices.zero_grad()
            if number % 2 == 0:  # the other optimizer steps for two batches at once, as it is meant to
                rest.step()
                rest.zero_grad()
    kept = monitor.history().series("gradient_carryover")[1:]
    assert np.isfinite(kept).any()
    assert (kept[np.isfinite(kept)] == 0).all()


@pytest.mark.parametrize(("many", "repeated"), [(8, 1.0), (9, 0.0)])
def test_epochs_over_many_batches_are_no_repetition(many, repeated):
    model, found = make_model(), batches(many)
    optimizer = adam(model)
    with watch(model, optimizer, every=many, early=False, quantities=["probe_loss"]) as monitor:
        train(model, optimizer, found * 2)
    assert monitor.history().series("batch_repetition").tolist()[1:] == [0.0, repeated]


def test_early_steps_are_recorded_in_logarithmic_distances():
    settings = make_settings(every=100)
    assert [s for s in range(1, 301) if settings.due(s)] == [1, 2, 5, 10, 20, 50, 100, 200, 300]
    assert [s for s in range(1, 1001) if make_settings(every=1000).due(s)] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert [s for s in range(1, 301) if make_settings(every=100, early=False).due(s)] == [100, 200, 300]


def make_settings(**changes):
    given = {
        "probe": None, "tokenizer": None, "every": 100, "early": True, "folder": None, "run_name": "", "blocks": None,
        "quantities": None, "number_format": None, "objective": None, "texts": 4, "tokens": 12,
    }
    return _monitor_core.Settings(**{**given, **changes})


def test_several_batches_a_step_make_one_loss_and_one_gradient():
    data = batches(6)
    model = make_model()
    optimizer = adam(model)
    model.eval()  # the same numbers, whatever dropout draws
    with watch(model, optimizer, every=1) as monitor:
        model.train()
        for number in range(3):
            for ids in data[2 * number : 2 * number + 2]:
                (model(input_ids=ids, labels=ids).loss / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
    history = monitor.history()
    assert history.steps == (0, 1, 2, 3)
    assert history.losses.shape == (3, 2)
    assert not history.notes  # none was taken for a step that was skipped

    plain = make_model()
    losses, plain_optimizer = [], adam(plain)
    for number in range(3):
        both = [plain(input_ids=ids, labels=ids).loss for ids in data[2 * number : 2 * number + 2]]
        (sum(both) / 2).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in plain.parameters()])
        plain_optimizer.step()
        plain_optimizer.zero_grad()
        losses.append((sum(both) / 2).item())
    np.testing.assert_allclose(history.losses[:, 1], losses, rtol=1e-5)
    assert history.series("gradient_norm")[-1] == pytest.approx(float(norm), rel=1e-3)


def test_several_optimizers_make_one_step_together():
    model = make_model()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".h." in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and ".h." in n)]
    muon, other = torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-3)
    found: list[float] = []
    with watch(model, [muon, other], every=1) as monitor:
        for ids in batches(3):
            model(input_ids=ids, labels=ids).loss.backward()
            found.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])))
            for optimizer in (muon, other):
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    history = monitor.history()
    assert history.steps == (0, 1, 2, 3)
    np.testing.assert_allclose(history.series("gradient_norm")[1:], found, rtol=1e-5)
    assert history.series("learning_rate").tolist() == [0.02] * 4
    assert history.series("unmoved")[1:].max() == 0
    assert hooks_of(model, muon, other) == 0


def test_optimizers_that_take_turns_are_counted_by_the_batches():
    model = make_model()
    one = torch.optim.SGD(model.transformer.h.parameters(), lr=0.1)
    other = torch.optim.SGD([*model.transformer.wte.parameters()], lr=0.1)
    with watch(model, [one, other], every=1) as monitor:
        for number, ids in enumerate(batches(4)):
            model(input_ids=ids, labels=ids).loss.backward()
            (one, other)[number % 2].step()
            model.zero_grad()
    history = monitor.history()
    assert history.steps == (0, 1, 2, 3)  # that the fourth is done, no further batch tells
    assert history.series("unmoved")[1:].tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_an_optimizer_that_calls_the_model_itself():
    model = make_model()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    ids = batches(1)[0]

    def closure():
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss

    with watch(model, optimizer, every=1) as monitor:
        optimizer.step(closure)
        last = torch.sqrt(sum(p.grad.square().sum() for p in model.parameters()))
        first = float(monitor.history().series("gradient_norm")[1])
        optimizer.step(closure)
    history = monitor.history()
    assert history.steps == (0, 1, 2)
    assert history.notes == ()
    np.testing.assert_allclose(first, float(last), rtol=1e-5)


def test_a_closure_beside_another_optimizer_makes_one_step():
    model = make_model()
    held = list(model.parameters())
    plain, calling = torch.optim.SGD(held[:1], lr=1e-3), torch.optim.LBFGS(held[1:], max_iter=2)
    ids = batches(1)[0]

    def closure():
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss

    with watch(model, [plain, calling], every=1) as monitor:
        for _ in range(2):
            closure()
            plain.step()
            calling.step(closure)
    history = monitor.history()
    assert history.steps == (0, 1, 2)
    assert history.losses[:, 0].tolist() == [1, 2]
    assert history.notes == ()


def test_a_model_that_trains_in_evaluation_mode_is_noted():
    model = make_model().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    ids = batches(1)[0]
    with watch(model, optimizer, every=2) as monitor:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    (note,) = monitor.history().notes
    assert "model.train()" in note
    with watch(model, optimizer, every=2) as monitor:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        monitor.observe(1.0)
    assert monitor.history().notes == ()


def test_a_run_begun_anew_records_the_model_it_has(tmp_path):
    model, ids = make_model(), batches(1)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    monitor = watch(model, optimizer, every=100, folder=tmp_path)
    norms = []
    for _ in range(2):
        with monitor:
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        norms.append(read_history(tmp_path).series("weight_norm"))
    np.testing.assert_allclose(norms[1][0], norms[0][-1], rtol=1e-6)
    assert (norms[1][0] != norms[0][0]).any()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("heard", [True, False], ids=["eager", "compiled as a whole"])
def test_losses_that_are_told(when, heard):
    torch.manual_seed(0)
    net = Net().train()
    optimizer = adam(net)
    run = next_token_loss if heard else torch.compile(next_token_loss, backend="eager", dynamic=False)
    told = []
    with watch(net, optimizer, every=2, early=False, blocks="layers", objective="next token") as monitor:
        for ids in batches(4):
            loss = run(net, ids)
            loss.backward()
            if when == "before":
                monitor.observe(loss)
            optimizer.step()
            optimizer.zero_grad()
            if when == "after":
                monitor.observe(loss.item())
            told.append(loss.item())
    history = monitor.history()
    assert history.steps == (0, 2, 4)
    np.testing.assert_allclose(history.losses, np.column_stack([np.arange(1, 5), told]), rtol=1e-12)
    assert history.has("target_entropy") is heard


def test_a_loss_that_is_told_stands_for_the_one_that_the_model_returns(caplog):
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, every=1) as monitor:
        for number, ids in enumerate(batches(2)):
            loss = model(input_ids=ids, labels=ids).loss
            monitor.observe(10.0 + number)
            monitor.observe("high")
            monitor.observe(torch.ones(3))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        monitor.observe(3.0, step=1)
    assert monitor.history().losses.tolist() == [[1, 3.0], [2, 11.0]]
    assert [r.levelname for r in caplog.records if r.name == "infogeo"] == ["WARNING"]


def test_a_compiled_model_and_one_in_data_parallelism():
    torch.manual_seed(0)
    net = Net()
    wrapped = torch.compile(net, backend="eager", dynamic=False)
    optimizer = adam(net)
    given = {"blocks": "layers", "objective": "next token"}
    with watch(wrapped, optimizer, every=2, early=False, **given) as monitor:
        for ids in batches(3):
            loss = next_token_loss(wrapped, ids)
            monitor.observe(loss)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.history().has("loss", "target_entropy", "gradient_norm")
    assert hooks_of(net, optimizer) == hooks_of(wrapped, optimizer) == 0
    model = make_model()
    optimizer = adam(model)
    with watch(torch.nn.DataParallel(model), optimizer, every=1, step=3) as monitor:
        train(model, optimizer, batches(1))
    assert monitor.history().steps == (3, 4)


def test_a_probe_that_is_longer_than_the_context_of_a_module_of_ones_own():
    net = Net()
    net.table = torch.nn.Embedding(60, 8)
    net.place = torch.nn.Embedding(6, 8)
    net.table.register_forward_hook(lambda module, given, out: out + net.place(torch.arange(given[0].shape[1])))
    with pytest.raises(ModelError, match=r"of shape \(\d+, 12\); if these are more tokens than it takes, give tokens="):
        TrainingMonitor(net, optimizer=adam(net), probe=PROBE, objective="next token", blocks="layers")


def test_a_module_of_ones_own():
    torch.manual_seed(0)
    net = Net()
    optimizer = adam(net)
    given = {"probe": PROBE, "objective": "next token", "quantities": FEW, "every": 2}
    with pytest.raises(ModelError, match="give blocks= as a dotted name such as 'layers'"):
        TrainingMonitor(net, optimizer=optimizer, **given)
    with TrainingMonitor(net, optimizer=optimizer, blocks="layers", **given) as monitor:
        for ids in batches(2):
            loss = next_token_loss(net, ids)
            monitor.observe(loss)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    history = monitor.history()
    assert history.steps == (0, 1, 2)
    assert history.has("probe_loss", "loss", "target_entropy", "update_ratio")
    assert (history.facts.depth, history.facts.objective) == (2, "next token")


# What is not finite


def spoil(model, name):
    """From now on this module puts out infinity."""
    with torch.no_grad():
        next(model.get_submodule(name).parameters()).view(-1)[0] = float("inf")


def test_the_source_of_infinity_in_the_forward_pass_is_named_at_once(tmp_path):
    model = make_model()
    optimizer = adam(model)
    where = "transformer.h.1.mlp.c_proj"
    with watch(model, optimizer, every=100, early=False, folder=tmp_path) as monitor:
        train(model, optimizer, batches(3), after=lambda n: spoil(model, where) if n == 2 else None)
        history = read_history(tmp_path)  # in the file already
    assert history.steps[:3] == (0, 2, 3)
    assert (history.records[1].broken_at, history.records[1].broken_pass) == (where, "forward")
    assert history.records[2].broken_at is not None  # the probe shows it, too
    assert not np.isfinite(history.losses[2, 1])
    assert monitor.history().notes == ()
    assert hooks_of(model, optimizer) == 0
    assert model.training


def test_what_is_broken_is_searched_for_once_until_it_is_mended():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    healthy = state(model)
    where = "transformer.h.0.attn.c_attn"

    def after(number):
        if number in (1, 5):
            spoil(model, where)
        if number == 4:
            model.load_state_dict(healthy)

    with watch(model, optimizer, every=100, early=False) as monitor:
        model.eval()
        train_in_place(model, optimizer, batches(7), after)
    broken = [r.step for r in monitor.history().records if r.broken_at == where and r.broken_pass == "forward"]
    assert monitor.history().steps == (0, 1, 2, 5, 6, 7)
    assert set(broken) >= {1, 5}


def train_in_place(model, optimizer, data, after):
    """As train, but gradients that are not finite do not reach the weights."""
    model.train()
    for number, ids in enumerate(data, start=1):
        model(input_ids=ids, labels=ids).loss.backward()
        for parameter in model.parameters():
            parameter.grad = None if parameter.grad is None else torch.nan_to_num(parameter.grad, 0, 0, 0)
        optimizer.step()
        optimizer.zero_grad()
        after(number)


def test_a_loss_that_is_not_finite_where_every_module_is():
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, every=100, early=False) as monitor:
        ids = batches(1)[0]
        loss = model(input_ids=ids).logits.sum() * float("nan")
        monitor.observe(loss)
        loss.backward()
        optimizer.step()
    first = monitor.history().records[0]
    assert (first.step, first.broken_at, first.broken_pass) == (0, "loss", "forward")


def test_a_loss_that_is_told_after_the_step_is_traced_by_the_probe():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    where = "transformer.h.1.mlp.c_proj"
    with watch(model, optimizer, every=100, early=False) as monitor:
        for number, ids in enumerate(batches(3)):
            model(input_ids=ids).logits.sum().backward()
            if number == 1:
                spoil(model, where)
            optimizer.zero_grad()
            optimizer.step()
            monitor.observe(float("nan") if number == 1 else 1.0)
    history = monitor.history()
    assert history.steps == (0, 2, 3)
    assert history.records[1].broken_at == where
    assert history.losses[1].tolist() == pytest.approx([2, float("nan")], nan_ok=True)


class Spoiler(torch.autograd.Function):
    """Passes on what it gets, and sends back infinity."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


def test_the_source_of_infinity_in_the_backward_pass_is_named():
    model = make_model()
    optimizer = adam(model)
    module = model.transformer.h[1].mlp.c_fc
    with watch(model, optimizer, every=100, early=False) as monitor:
        train(model, optimizer, batches(1))
        module.register_forward_hook(lambda module, args, output: Spoiler.apply(output))
        train(model, optimizer, batches(2))
    history = monitor.history()
    record = history.records[1]
    assert (record.step, record.broken_pass, record.broken_at) == (1, "backward", "transformer.h.1.mlp.c_fc")
    assert np.isfinite(history.losses[1, 1])


def test_gradients_that_break_once_are_told_by_the_order_of_parameters():
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, every=100, early=False) as monitor:
        ids = batches(1)[0]
        model(input_ids=ids, labels=ids).loss.backward()
        for block in (0, 1):
            model.transformer.h[block].mlp.c_fc.weight.grad[0, 0] = float("nan")
        optimizer.step()
    record = monitor.history().records[0]
    assert (record.broken_pass, record.broken_at) == ("backward", "transformer.h.1.mlp.c_fc")


def test_steps_that_a_scaler_skips_are_noted():
    model = make_model()
    optimizer = adam(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    with watch(model, optimizer, every=2, early=False) as monitor:
        for number, ids in enumerate(batches(4)):
            scaler.scale(model(input_ids=ids, labels=ids).loss).backward()
            if number == 1:
                model.transformer.wpe.weight.grad[0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    history = monitor.history()
    assert history.steps == (0, 2, 3)
    assert history.notes == (
        "up to step 2: 1 batch was given up without a step, as a scaler of gradients does where they overflow",
    )
    assert all(record.broken_at is None for record in history.records)
    assert history.losses[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_the_loop_throws_away_are_no_step(to_none):
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, every=2, early=False) as monitor:
        for number, ids in enumerate(batches(6)):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            if number in (1, 2):
                optimizer.zero_grad(set_to_none=to_none)
            elif number % 2:  # of two batches
                optimizer.step()
                optimizer.zero_grad(set_to_none=to_none)
    history = monitor.history()
    assert history.steps == (0, 2)
    assert history.notes[0].startswith("up to step 2: 2 batches were given up without a step")


def test_weights_and_gradients_in_bfloat16():
    model = make_model().to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found: list[float] = []

    def note(*_):
        found.append(sum(float(p.grad.double().norm() ** 2) for p in model.parameters()))

    optimizer.register_step_pre_hook(note)
    with watch(model, optimizer, every=1) as monitor:
        train(model, optimizer, batches(2))
    np.testing.assert_allclose(monitor.history().series("gradient_norm")[1:] ** 2, found, rtol=1e-5)
    assert monitor.history().facts.dtype == "bfloat16"


def test_an_optimizer_that_scales_and_skips_itself():
    model = make_model()
    optimizer = adam(model, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norms = []
    with watch(model, optimizer, every=1) as monitor:
        for number, ids in enumerate(batches(3)):
            scaler.scale(model(input_ids=ids, labels=ids).loss).backward()
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])) / 1024)
            if number == 1:
                model.transformer.wpe.weight.grad[0, 0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    history = monitor.history()
    assert history.series("gradient_norm")[1] == pytest.approx(norms[0], rel=1e-5)
    assert history.records[1].values["unmoved"].max() == 0
    assert "unmoved" not in history.records[2].values  # nothing was tried there
    assert "1 batch was given up" in history.notes[0]


# Its own failures


class Failing:
    """A meter that fails from some measurement on."""

    def __init__(self, meter, after):
        self.meter, self.left = meter, after

    def record(self, step):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the meter is broken")
        return self.meter.record(step)


@pytest.mark.parametrize("after", [0, 2])
def test_a_monitor_that_fails_steps_aside(tmp_path, caplog, after):
    data = batches(8)
    plain, watched = make_model(), None
    train(plain, adam(plain), data)
    watched = make_model()
    optimizer = adam(watched)
    monitor = watch(watched, optimizer, folder=tmp_path, every=2, early=False)
    monitor._core.meter = Failing(monitor._core.meter, after)
    with caplog.at_level(logging.WARNING, logger="infogeo"), monitor:
        train(watched, optimizer, data)
        assert hooks_of(watched) == 0  # those of the optimizer sleep
        monitor.observe(1.0)
    assert equal(state(plain), state(watched))
    said = [r.getMessage() for r in caplog.records if r.name == "infogeo"]
    (told,) = said
    assert "the meter is broken" in told
    assert "training goes on" in told
    history = read_history(tmp_path)
    assert history.steps == (0, 2)[:after]
    step = 2 * after
    (note,) = history.notes
    assert note == f"the monitor failed at step {step} and stepped aside (RuntimeError: the meter is broken)"
    assert len(history.losses) == step
    assert hooks_of(watched, optimizer) == 0


@pytest.mark.parametrize("part", ["_enter", "_leave", "_before_step", "_after_step", "_went_back", "close"])
def test_whatever_hook_fails_training_goes_on(caplog, part, monkeypatch):
    data = batches(4)
    plain = make_model()
    train(plain, adam(plain), data)
    watched = make_model()
    optimizer = adam(watched)

    def fails(*args, **kwargs):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(_monitor_core.LiveWatch, part, fails)
    with caplog.at_level(logging.WARNING, logger="infogeo"), watch(watched, optimizer) as monitor:
        train(watched, optimizer, data)
    assert equal(state(plain), state(watched))
    assert len([r for r in caplog.records if r.name == "infogeo"]) == 1
    assert "ZeroDivisionError: oh" in monitor.history().notes[0]


def test_a_disk_that_is_full(tmp_path, caplog, monkeypatch):
    model = make_model()
    optimizer = adam(model)
    import os

    with caplog.at_level(logging.WARNING, logger="infogeo"), watch(model, optimizer, folder=tmp_path) as monitor:
        def full(*args):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            train(model, optimizer, batches(4))
    (told,) = caplog.records
    assert "No space left" in told.getMessage()
    assert "No space left" in monitor.history().notes[0]
    assert read_history(tmp_path).steps == (0,)


def test_an_error_of_the_loop_is_its_own(tmp_path):
    model = make_model()
    optimizer = adam(model)

    def interrupt(number):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watch(model, optimizer, folder=tmp_path, every=100, early=False):
        train(model, optimizer, batches(3), after=interrupt)
    assert hooks_of(model, optimizer) == 0
    assert read_history(tmp_path).steps == (0, 2)


# Files, resumption, crashes


def test_a_run_that_is_resumed_goes_on_in_its_file(tmp_path):
    data = batches(9)
    model = make_model()
    optimizer = adam(model)
    saved: dict[str, Any] = {}

    def save(number):
        if number == 5:
            saved.update(model=state(model))

    with watch(model, optimizer, folder=tmp_path, every=2, early=False, run_name="long"):
        train(model, optimizer, data[:7], after=save)
    assert read_history(tmp_path).steps == (0, 2, 4, 6, 7)
    again = make_model()
    again.load_state_dict(saved["model"])
    optimizer = adam(again)
    with watch(again, optimizer, folder=tmp_path, every=2, early=False, step=5) as monitor:
        losses = train(again, optimizer, data[5:])
    history = read_history(tmp_path)
    assert history.steps == monitor.history().steps == (0, 2, 4, 5, 6, 8, 9)
    assert history.losses[:, 0].tolist() == list(range(1, 10))
    np.testing.assert_allclose(history.losses[5:, 1], losses, rtol=1e-12)
    assert history.notes == ("resumed at step 5",)
    assert history.name == "long"


def test_files_of_other_runs_are_refused_before_training(tmp_path):
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, folder=tmp_path):
        train(model, optimizer, batches(1))
    with pytest.raises(FormatError, match="this run begins at step 0; give another folder"), \
            watch(model, optimizer, folder=tmp_path):
        pass
    with pytest.raises(FormatError, match="another probe batch"), \
            watch(model, optimizer, folder=tmp_path, probe=PROBE[:3], step=1):
        pass
    other = make_specimen("llama")
    with pytest.raises(FormatError, match="another run"), watch(other, adam(other), folder=tmp_path, step=1):
        pass
    assert hooks_of(model, optimizer) == hooks_of(other) == 0


KILLED = """
    import sys, time
    sys.path.insert(0, {tests!r})
    import test_training_monitor as t
    model = t.make_model()
    optimizer = t.adam(model)
    with t.watch(model, optimizer, folder={folder!r}, every=2, early=False):
        for number in range(10**6):
            t.train(model, optimizer, t.batches(1, seed=number))
            print(number, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_the_record_in_the_making_at_most(tmp_path):
    from pathlib import Path

    code = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 9:
                break
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    history = read_history(tmp_path)
    assert history.steps[:5] == (0, 2, 4, 6, 8)
    assert len(history.losses) >= history.steps[-1] >= 8
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, folder=tmp_path, every=2, early=False, step=6):
        train(model, optimizer, batches(2))
    assert read_history(tmp_path).steps == (0, 2, 4, 6, 8)


# In a Trainer


class Rows(torch.utils.data.Dataset):
    def __init__(self, count=24):
        self.rows = torch.cat(batches(count, size=1))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {"input_ids": self.rows[i], "labels": self.rows[i]}


def trainer_for(folder, model, *callbacks, **more):
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    given = {
        "max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "learning_rate": 1e-2, "seed": 3,
        "lr_scheduler_type": "constant",
    }
    arguments = transformers.TrainingArguments(output_dir=str(folder), **{**given, **more})
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=Rows(), processing_class=make_tokenizer(), callbacks=list(callbacks)
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def of_trainer(folder, **more):
    given = {"quantities": FEW, "every": 2, "texts": 4, "tokens": 12, "probe": PROBE}
    return TrainingMonitor(folder=folder, **{**given, **more})


@pytest.mark.parametrize("batches_a_step", [1, 3])
def test_one_line_in_a_trainer(tmp_path, batches_a_step):
    plain, watched = make_model(), make_model()
    trainer_for(tmp_path / "a", plain, gradient_accumulation_steps=batches_a_step).train()
    trainer = trainer_for(tmp_path / "b", watched, gradient_accumulation_steps=batches_a_step)
    monitor = of_trainer(tmp_path / "run")
    trainer.add_callback(monitor)
    assert isinstance(monitor, transformers.TrainerCallback)
    trainer.train()
    assert equal(state(plain), state(watched))
    assert hooks_of(watched) == 0
    history = read_history(tmp_path / "run")
    assert history.steps == monitor.history().steps == (0, 1, 2, 4)
    assert history.has("loss", "update_ratio", "gradient_norm", "target_entropy", "learning_rate", "probe_loss")
    told = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    np.testing.assert_allclose(history.losses, told, rtol=1e-3)
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    np.testing.assert_allclose(history.series("gradient_norm")[-1], min(norms[3], 1.0), rtol=1e-3)
    assert history.notes == ()
    assert history.series("unmoved")[1:].max() == 0


def test_texts_are_taken_with_the_tokenizer_of_the_trainer(tmp_path):
    model = make_model()
    monitor = of_trainer(None, probe=["the cat sat on the mat and the dog ran home"] * 2, tokens=8)
    trainer_for(tmp_path, model, monitor, max_steps=1).train()
    assert monitor.history().facts.probe_shape[1] == 8


def test_a_trainer_that_is_resumed_goes_on_in_the_file(tmp_path):
    first = make_model()
    saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": 5}
    trainer_for(tmp_path / "a", first, of_trainer(tmp_path / "run"), **saving).train()
    assert read_history(tmp_path / "run").steps == (0, 1, 2, 4, 5)
    trainer = trainer_for(tmp_path / "a", make_model(), of_trainer(tmp_path / "run"), max_steps=6)
    trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    history = read_history(tmp_path / "run")
    assert history.steps == (0, 1, 2, 3, 4, 6)
    assert history.losses[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert history.notes == ("resumed at step 3",)


def test_a_trainer_that_makes_its_model_anew_is_followed(tmp_path):
    made = []

    def fresh():
        made.append(make_model())
        return made[-1]

    monitor = of_trainer(tmp_path / "run")
    trainer = trainer_for(tmp_path / "a", make_model(), monitor)
    trainer.model_init = fresh
    trainer.train()
    trainer.train()
    history = monitor.history()
    assert history.steps == read_history(tmp_path / "run").steps == (0, 1, 2, 4)
    assert history.losses[:, 0].tolist() == [1, 2, 3, 4]
    assert history.has("gradient_norm")
    assert len(made) >= 2
    assert all(hooks_of(model) == 0 for model in made)


def test_a_trainer_whose_folder_is_taken_does_not_begin(tmp_path):
    trainer_for(tmp_path / "a", make_model(), of_trainer(tmp_path / "run"), max_steps=1).train()
    model = make_model()
    before = state(model)
    with pytest.raises(FormatError, match="give another folder"):
        trainer_for(tmp_path / "a", model, of_trainer(tmp_path / "run"), max_steps=1).train()
    assert equal(before, state(model))


def test_the_loss_that_a_trainer_computes_itself(tmp_path):
    monitor = of_trainer(None)
    trainer = trainer_for(tmp_path, make_model(), monitor, label_smoothing_factor=0.1)
    trainer.train()
    told = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    np.testing.assert_allclose(monitor.history().losses, told, rtol=1e-6)


def test_a_trainer_goes_on_when_the_monitor_fails(tmp_path, caplog, monkeypatch):
    plain, watched = make_model(), make_model()
    trainer_for(tmp_path / "a", plain).train()
    monitor = of_trainer(tmp_path / "run")
    record = _monitor_core.ProbeMeter.record

    def fails(self, step):
        if step:
            raise RuntimeError("the meter is broken")
        return record(self, step)

    monkeypatch.setattr(_monitor_core.ProbeMeter, "record", fails)
    with caplog.at_level(logging.WARNING, logger="infogeo"):
        trainer_for(tmp_path / "b", watched, monitor).train()
    assert equal(state(plain), state(watched))
    assert len([r for r in caplog.records if r.name == "infogeo"]) == 1
    assert read_history(tmp_path / "run").notes[0].startswith("the monitor failed at step")


def test_a_monitor_that_cannot_begin_lets_a_trainer_train(tmp_path, caplog, monkeypatch):
    plain, watched = make_model(), make_model()
    trainer_for(tmp_path / "a", plain, max_steps=2).train()

    def fails(*args, **kwargs):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(_monitor_core, "ProbeMeter", fails)
    with caplog.at_level(logging.WARNING, logger="infogeo"):
        trainer_for(tmp_path / "b", watched, of_trainer(tmp_path / "run"), max_steps=2).train()
    assert equal(state(plain), state(watched))
    (told,) = [r for r in caplog.records if r.name == "infogeo"]
    assert "cannot begin (ZeroDivisionError: oh)" in told.getMessage()


def test_the_other_processes_of_a_trainer_do_nothing(tmp_path):
    monitor = of_trainer(tmp_path / "run")
    trainer = trainer_for(tmp_path, make_model(), monitor, max_steps=1)
    trainer.state.is_world_process_zero = False
    monitor.on_train_begin(
        trainer.args, trainer.state, trainer.control, model=trainer.model, optimizer=adam(trainer.model)
    )
    monitor.on_step_end(trainer.args, trainer.state, trainer.control)
    monitor.on_train_end(trainer.args, trainer.state, trainer.control)
    assert not (tmp_path / "run").exists()
    assert monitor.history().steps == ()
    assert hooks_of(trainer.model) == 0


def test_what_accelerate_wraps_is_unwrapped():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = make_model()
    wrapped, optimizer = accelerator.prepare(model, adam(model))
    with watch(wrapped, optimizer, every=1) as monitor:
        for ids in batches(2):
            accelerator.backward(wrapped(input_ids=ids, labels=ids).loss)
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.history().steps == (0, 1, 2)
    assert monitor.history().has("gradient_norm", "loss")


# TensorBoard


class Board:
    """Keeps what it is told."""

    def __init__(self):
        self.told: dict[str, dict[int, float]] = {}

    def add_scalar(self, tag, value, step):
        self.told.setdefault(tag, {})[step] = value

    def flush(self):
        """Nothing waits."""


def test_scalars_for_tensorboard():
    model, board = make_model(), Board()
    optimizer = adam(model)
    with watch(model, optimizer, tensorboard=board, quantities=["state_norm", "attention_entropy"]) as monitor:
        losses = train(model, optimizer, batches(3))
    history = monitor.history()
    assert board.told["infogeo/step_loss"] == pytest.approx(dict(enumerate(losses, start=1)))
    assert board.told["infogeo/state_norm/layer_00"] == pytest.approx(
        dict(zip(history.steps, history.series("state_norm")[:, 0], strict=True))
    )
    entropies = dict(zip(history.steps, history.series("attention_entropy")[:, 2].mean(axis=1), strict=True))
    assert board.told["infogeo/attention_entropy/block_03"] == pytest.approx(entropies)
    assert set(board.told["infogeo/update_ratio/block_01"]) == {1, 2, 3}


def test_a_folder_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra: pip install 'infogeo[tensorboard]'")
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, tensorboard=tmp_path / "board"):
        train(model, optimizer, batches(1))
    (file,) = (tmp_path / "board").iterdir()
    assert b"infogeo/state_norm/layer_00" in file.read_bytes()


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"infogeo\[tensorboard\]"):
        TrainingMonitor(tensorboard=tmp_path)


# Wrong arguments


@pytest.mark.parametrize(("given", "error", "words"), [
    ({"every": 0}, ArgumentError, "every: found 0, wanted at least 1"),
    ({"every": 2.5}, ArgumentError, "every: found 2.5"),
    ({"early": "yes"}, ArgumentError, "early: found 'yes'"),
    ({"step": -1}, ArgumentError, "step: found -1"),
    ({"texts": 0}, ArgumentError, "texts: found 0"),
    ({"tokens": 0}, ArgumentError, "tokens: found 0"),
    ({"folder": 3}, ArgumentError, "folder: found 3, wanted a path"),
    ({"folder": ""}, ArgumentError, "wanted a path"),
    ({"run_name": 3}, ArgumentError, "run_name: found 3"),
    ({"tensorboard": 3}, ArgumentError, "tensorboard: found int"),
    ({"optimizer": "adam"}, ArgumentError, "optimizer: found str"),
    ({"optimizer": [None]}, ArgumentError, "optimizer: found NoneType"),
    ({"quantities": ["mood"]}, ArgumentError, "quantities: found 'mood'"),
    ({"objective": "fame"}, ArgumentError, "objective: found 'fame'"),
    ({"probe": None}, ArgumentError, "tokenizer"),
    ({"probe": PROBE + 1000}, ArgumentError, "token id"),
    ({"probe": np.tile(PROBE, (1, 100)), "tokens": 1200}, ShapeError, "context"),
    ({"number_format": "float7"}, ArgumentError, "number_format: found 'float7'"),
    ({"blocks": "nowhere"}, ArgumentError, "no module 'nowhere'"),
])
def test_wrong_arguments_are_refused_at_once(given, error, words):
    model = make_model()
    with pytest.raises(error, match=words):
        watch(model, **{"optimizer": adam(model), **given})


def test_wrong_models_and_optimizers():
    model, other = make_model(), make_model()
    with pytest.raises(ArgumentError, match="it holds none of the parameters of this GPT2LMHeadModel"):
        watch(model, adam(other))
    with pytest.raises(ArgumentError, match="wanted a torch module"):
        watch("gpt2", adam(model))
    with pytest.raises(ArgumentError, match="optimizer: found None"), watch(model, None):
        pass
    with pytest.raises(ArgumentError, match="model: found None"), TrainingMonitor():
        pass
    with pytest.raises(ArgumentError, match="there is none yet"):
        TrainingMonitor().history()
    with pytest.raises(ModelError, match="meta device"):
        watch(make_model().to("meta"), adam(model))
    assert "no model yet" in repr(TrainingMonitor())
    assert "GPT2LMHeadModel, every=3" in repr(watch(model, adam(model)))
    TrainingMonitor().observe(1.0)
    TrainingMonitor().close()


# Checkpoints


def test_a_checkpoint_is_a_history_of_one_record(tmp_path):
    model = make_model()
    history = measure_checkpoint(model, probe=PROBE, folder=tmp_path / "out", quantities=FEW, step=7)
    assert (history.steps, history.facts.every) == ((7,), 0)
    wanted = math.sqrt(sum(float((p.detach().double() ** 2).sum()) for p in model.transformer.h[2].parameters()))
    assert history.series("weight_norm")[0, 2] == pytest.approx(wanted, rel=1e-6)
    again = read_history(tmp_path / "out")
    assert again.steps == (7,)
    assert np.array_equal(again.series("state_norm"), history.series("state_norm"))
    with pytest.raises(ArgumentError, match="step: found -1"):
        measure_checkpoint(model, probe=PROBE, step=-1)
    assert model.training


def test_a_folder_of_a_checkpoint(tmp_path):
    model = make_model().eval()
    folder = tmp_path / "checkpoint-0040"
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    history = measure_checkpoint(folder, probe=PROBE, quantities=FEW)
    assert (history.steps, history.name) == ((40,), "checkpoint-0040")
    wanted = measure_checkpoint(model, probe=probe_batch(model, PROBE), quantities=FEW)
    np.testing.assert_allclose(history.series("probe_loss"), wanted.series("probe_loss"), rtol=1e-6)
    assert history.facts.probe == wanted.facts.probe


def test_a_language_model_brings_its_tokenizer(bundled):
    history = measure_checkpoint(bundled, quantities=["probe_loss"], texts=2, tokens=8)
    assert history.facts.probe_shape == (2, 8)
    assert history.name


def test_the_monitor_is_quick_enough_for_what_it_does_at_each_step():
    """A step that is not recorded costs less than ten milliseconds more, on any machine."""
    model = make_model()
    optimizer = adam(model)
    data = batches(20)
    train(model, optimizer, data[:3])
    start = time.process_time()
    train(model, optimizer, data)
    plain = time.process_time() - start
    with watch(model, optimizer, every=1000, early=False):
        start = time.process_time()
        train(model, optimizer, data)
        watched = time.process_time() - start
    assert watched - plain < 20 * 0.010 + 2 * plain
