"""The monitor in loops that are not as simple: saved, compiled, changed and interrupted models, several processes."""

from __future__ import annotations

import copy
import io
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from test_training_monitor import (  # noqa: E402
    FEW,
    PROBE,
    Net,
    adam,
    batches,
    equal,
    hooks_of,
    make_model,
    next_token_loss,
    state,
    train,
    watch,
)
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from infogeo.errors import ModelError  # noqa: E402
from infogeo_adapters import measure_checkpoint, read_history  # noqa: E402
from infogeo_adapters.training import _live_weights  # noqa: E402
from infogeo_adapters.training._live_weights import WeightWatch  # noqa: E402


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "infogeo"]


# Memory


class Sizes(TorchDispatchMode):
    """Keeps how many numbers each tensor has that is made meanwhile."""

    def __init__(self):
        super().__init__()
        self.made = [0]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(found, torch.Tensor) and found.untyped_storage().data_ptr() not in given:
            self.made.append(found.numel())
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_a_step_did_is_found_without_a_second_copy(monkeypatch, dtype):
    monkeypatch.setattr(_live_weights, "PIECE", 128)
    torch.manual_seed(0)
    net = torch.nn.ModuleList([torch.nn.Linear(64, 96), torch.nn.Linear(96, 64)]).to(dtype)
    net[0].scale = torch.nn.Parameter(torch.tensor(2.0, dtype=dtype))
    weights = WeightWatch(net, list(net))
    before = {n: p.detach().double().clone() for n, p in net.named_parameters()}
    weights.keep(range(len(weights.parameters)))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
        net[1].bias.copy_(before["1.bias"])
    with Sizes() as sizes:
        found = weights.update()
    assert max(sizes.made) <= 128
    for block in range(2):
        names = [n for n in before if n.startswith(f"{block}.")]
        now = dict(net.named_parameters())
        change = sum(float(((now[n].detach().double() - before[n]) ** 2).sum()) for n in names)
        length = sum(float((before[n] ** 2).sum()) for n in names)
        assert found.ratio[block] == pytest.approx((change / length) ** 0.5, rel=1e-4)
    assert found.unmoved.tolist() == [0, 0.5]
    assert found.names == ("1.bias",)
    assert weights.update() is None


def test_a_step_that_exchanges_a_tensor_has_no_size_of_change():
    net = torch.nn.ModuleList([torch.nn.Linear(4, 4)])
    weights = WeightWatch(net, list(net))
    weights.keep([0, 1])
    net[0].weight.data = torch.ones(5, 4)
    found = weights.update()
    assert np.isnan(found.ratio[0])
    assert found.names == ("0.bias",)


def test_only_weights_that_learn_are_copied(monkeypatch):
    model = make_model().requires_grad_(False)
    learning = [p.requires_grad_(True) for p in model.transformer.h[1].mlp.parameters()]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    ids, update, copied = batches(1)[0], WeightWatch.update, []

    def noting(self):
        copied.append([tensor.shape for tensor in self._before.values()])
        return update(self)

    monkeypatch.setattr(WeightWatch, "update", noting)
    with watch(model, optimizer, every=1) as monitor:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    assert copied == [[p.shape for p in learning]]
    (record,) = monitor.history().records[1:]
    assert record.values["unmoved"].tolist() == [1, pytest.approx(8 / 12), 1]
    assert record.values["update_ratio"].tolist() == [0, pytest.approx(record.values["update_ratio"][1]), 0]
    assert record.values["update_ratio"][1] > 0


# Models that are saved and copied


def test_a_model_that_is_watched_can_be_saved_and_copied():
    model, ids = make_model(), batches(1)[0]
    optimizer = adam(model)
    with watch(model, optimizer, every=1, quantities=None, early=False) as monitor:
        train(model, optimizer, batches(1))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copies = [torch.load(file, weights_only=False), copy.deepcopy(model)]
        for one in copies:
            own = torch.optim.SGD(one.parameters(), lr=0.1)
            one.train()(input_ids=ids, labels=ids).loss.backward()  # which the monitor does not hear
            own.step()
        train(model, optimizer, batches(1))
    assert b"infogeo" not in file.getvalue()
    history = monitor.history()
    assert history.notes == ()
    assert history.losses[:, 0].tolist() == [1, 2]
    model = make_model()
    measure_checkpoint(model, probe=PROBE)
    torch.save(model, io.BytesIO())
    assert model(input_ids=ids, output_hidden_states=True).hidden_states is not None  # they come again when asked for


def test_hooks_that_transformers_had_on_the_model_stay():
    model, ids = make_model(), batches(1)[0]
    model(input_ids=ids, output_hidden_states=True)
    there = sum(len(m._forward_hooks) for m in model.modules())
    measure_checkpoint(model, probe=PROBE, quantities=FEW)
    with watch(model, adam(model)):
        pass
    assert sum(len(m._forward_hooks) for m in model.modules()) == there > 0


# Compiled


class Counting:
    """A backend that computes as it is written, and counts how often it is asked to compile."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        self.count += 1
        return graph.forward


def compiled_net(how, backend):
    """A net compiled in a way that is used, what training calls, and what the monitor is given."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = Net().train()
    options: dict[str, Any] = {"backend": backend, "dynamic": False}
    if how == "blocks in place":
        for layer in net.layers:
            layer.compile(**options)
    elif how == "blocks wrapped":
        net.layers = torch.nn.ModuleList(torch.compile(layer, **options) for layer in net.layers)
    elif how == "in place":
        net.compile(**options)
    else:
        wrapped = torch.compile(net, **options)
        return net, wrapped, (net if how == "wrapped, given bare" else wrapped)
    return net, net, net


OF_THE_COMPILER = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)
"""Warnings that torch gives of itself while it traces a training step."""


@OF_THE_COMPILER
@pytest.mark.parametrize(
    "how", ["blocks in place", "blocks wrapped", "in place", "wrapped", "wrapped, given bare"]
)
def test_compiled_models_are_not_compiled_again_and_again(how):
    counts, weights, histories = [], [], []
    for watched in (False, True):
        backend = Counting()
        net, called, given = compiled_net(how, backend)
        optimizer = adam(net)
        monitor = watch(given, optimizer, every=1, quantities=None, blocks="layers", objective="next token")
        if watched:
            monitor.__enter__()
        seen = []
        for ids in batches(6):
            loss = next_token_loss(called, ids)
            monitor.observe(loss)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(backend.count)
        monitor.close()
        counts.append(seen)
        weights.append(state(net))
        histories.append(monitor.history())
    assert counts[1][0] > 0
    assert counts[1] == counts[0]
    assert equal(*weights)
    history = histories[1]
    assert history.steps == (0, 1, 2, 3, 4, 5, 6)
    assert history.notes == ()
    assert history.has("loss", "gradient_norm", "update_ratio", "large_carry", "probe_loss")
    assert history.has("target_entropy") is (how not in ("in place", "wrapped, given bare"))


@OF_THE_COMPILER
def test_a_compiled_model_that_tells_no_loss_is_noted():
    net, called, given = compiled_net("in place", "eager")
    optimizer = adam(net)
    with watch(given, optimizer, blocks="layers", objective="next token") as monitor:
        next_token_loss(called, batches(1)[0]).backward()
        optimizer.step()
    (note,) = monitor.history().notes
    assert "torch.compile" in note


@OF_THE_COMPILER
def test_steps_of_a_compiled_optimizer_are_counted():
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = Net().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    backend = Counting()
    step = torch.compile(optimizer.step, backend=backend, dynamic=False)
    with watch(net, optimizer, every=1, blocks="layers", objective="next token") as monitor:
        for ids in batches(3):
            next_token_loss(net, ids).backward()
            step()
            optimizer.zero_grad()
    history = monitor.history()
    assert history.steps == (0, 1, 2, 3)
    assert not any("failed" in note for note in history.notes)
    assert np.isfinite(history.series("gradient_norm")[1:]).all()
    assert history.series("update_ratio")[1:].min() > 0
    assert 0 < backend.count < 3


# Models and optimizers that change on the way


def test_weights_that_begin_to_learn_later():
    model = make_model()
    model.transformer.h.requires_grad_(False)
    optimizer = adam(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    def unfreeze(number):
        if number == 2:
            model.transformer.h.requires_grad_(True)
            optimizer.add_param_group({"params": list(model.transformer.h.parameters()), "lr": 0.5})

    with watch(model, optimizer, every=1) as monitor:
        train(model, optimizer, batches(4), after=unfreeze)
    history = monitor.history()
    assert history.series("unmoved")[1:].tolist() == [[1] * 3] * 2 + [[0] * 3] * 2
    assert history.series("learning_rate").tolist() == [0.01, 0.01, 0.01, 0.5, 0.5]
    assert (history.series("gradient_norm_block")[1:3] == 0).all()
    assert (history.series("gradient_norm_block")[3:] > 0).all()


@pytest.mark.parametrize("part", ["head", "block", "adapter"])
def test_a_model_of_which_parts_are_exchanged_ends_its_history(tmp_path, caplog, part):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def exchange(number):
        if number != 2:
            return
        if part == "head":
            model.lm_head = torch.nn.Linear(16, 67, bias=False)
        elif part == "block":
            model.transformer.h[1] = copy.deepcopy(model.transformer.h[1])
        else:
            model.transformer.h[1].extra = torch.nn.Linear(2, 2)

    with caplog.at_level(logging.WARNING, logger="infogeo"):
        monitor = watch(model, optimizer, every=1, folder=tmp_path, quantities=None)
        with monitor:
            train(model, optimizer, batches(4), after=exchange)
    (told,) = said(caplog)
    name = {
        "head": "lm_head.weight is new", "block": "transformer.h.1.ln_1.weight is another tensor now",
        "adapter": "transformer.h.1.extra.weight is new",
    }[part]
    assert f"its parameter {name}; make another TrainingMonitor" in told
    assert read_history(tmp_path).steps == monitor.history().steps == (0, 1, 2)
    assert hooks_of(model, optimizer) == 0
    with pytest.raises(ModelError, match="make another TrainingMonitor"), monitor:
        pass


def test_two_monitors_see_the_same(tmp_path):
    plain, model = make_model(), make_model()
    torch.manual_seed(5)
    train(plain, adam(plain), batches(5))
    optimizer = adam(model)
    torch.manual_seed(5)
    with watch(model, optimizer, every=2, early=False) as one, \
            watch(model, optimizer, every=3, early=False, quantities=None) as other:
        train(model, optimizer, batches(5))
    assert equal(state(plain), state(model))
    assert (one.history().steps, other.history().steps) == ((0, 2, 4, 5), (0, 3, 5))
    np.testing.assert_array_equal(one.history().losses, other.history().losses)
    for name in ("target_entropy", "gradient_norm", "batch_repetition"):
        assert one.history().series(name)[-1] == other.history().series(name)[-1]
    assert hooks_of(model, optimizer) == 0


def test_evaluation_in_the_loop_is_no_training():
    def evaluate(model, optimizer):
        losses = []
        for ids in batches(4):
            loss = model(input_ids=ids, labels=ids).loss
            losses.append(loss.item())
            loss.backward()
            model.eval()
            model(input_ids=ids + 1, labels=ids)
            with torch.no_grad():
                model.generate(input_ids=ids[:1, :3], max_new_tokens=2, do_sample=False, pad_token_id=0)
            model.train()
            with torch.no_grad():
                model(input_ids=ids + 2, labels=ids)
            optimizer.step()
            optimizer.zero_grad()
            with torch.inference_mode():
                model(input_ids=ids + 3, labels=ids)
        return losses

    plain, model = make_model(), make_model()
    torch.manual_seed(5)
    evaluate(plain, adam(plain))
    optimizer = adam(model)
    torch.manual_seed(5)
    with watch(model, optimizer, every=2, early=False) as monitor:
        losses = evaluate(model, optimizer)
    assert equal(state(plain), state(model))
    history = monitor.history()
    assert history.steps == (0, 2, 4)
    np.testing.assert_allclose(history.losses[:, 1], losses)
    assert history.notes == ()


def test_another_thread_that_calls_the_model_does_not_train_it():
    model, ids, stop = make_model(), batches(1)[0], threading.Event()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watch(model, optimizer, every=1) as monitor:
        losses = train(model, optimizer, batches(1))
        calls: list[float] = []

        def call():
            while not stop.is_set():
                calls.append(model(input_ids=ids.flip(1), labels=ids).loss.item())

        other = threading.Thread(target=call)
        other.start()
        try:
            losses += train(model, optimizer, batches(6)[1:])
        finally:
            stop.set()
            other.join()
    assert calls
    history = monitor.history()
    assert history.steps == (0, 1, 2, 3, 4, 5, 6)
    np.testing.assert_allclose(history.losses[:, 1], losses)


def test_a_loop_in_another_thread_is_heard():
    model = make_model()
    optimizer = adam(model)
    with watch(model, optimizer, every=1) as monitor:
        for _ in range(2):
            thread = threading.Thread(target=train, args=(model, optimizer, batches(2)))
            thread.start()
            thread.join()
    assert monitor.history().losses[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_are_those_after_scaling_and_clipping(dtype):
    model = make_model()
    optimizer = adam(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    norms = []
    with watch(model, optimizer, every=1, number_format=str(dtype).removeprefix("torch.")) as monitor:
        for ids in batches(3):
            for half in ids.split(2):
                with torch.autocast("cpu", dtype=dtype):
                    loss = model(input_ids=half, labels=half).loss / 2
                scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            norms.append(min(1.0, float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    history = monitor.history()
    np.testing.assert_allclose(history.series("gradient_norm")[1:], norms, rtol=1e-4)
    assert history.losses[:, 0].tolist() == [1, 2, 3]
    assert history.notes == ()


# Interrupts


def test_a_second_interrupt_leaves_no_hooks(tmp_path, monkeypatch):
    model = make_model()
    optimizer = adam(model)
    monitor = watch(model, optimizer, folder=tmp_path, every=100, early=False)

    def interrupted(step):
        raise KeyboardInterrupt

    def broken_off():
        with monitor:
            train(model, optimizer, batches(2))
            monkeypatch.setattr(monitor._core.meter, "record", interrupted)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert hooks_of(model, optimizer) == 0
    assert monitor._core._writer._descriptor is None
    assert read_history(tmp_path).steps == (0,)


def test_an_interrupted_record_is_made_at_the_end(tmp_path, monkeypatch):
    model = make_model()
    optimizer = adam(model)
    monitor = watch(model, optimizer, folder=tmp_path, every=2, early=False)

    def interrupted(step):
        monkeypatch.undo()
        raise KeyboardInterrupt

    def broken_off():
        with monitor:
            monkeypatch.setattr(monitor._core.meter, "record", interrupted)
            train(model, optimizer, batches(4))

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    history = read_history(tmp_path)
    assert history.steps == (0, 2)
    assert history.losses[:, 0].tolist() == [1, 2]
    assert hooks_of(model, optimizer) == 0


# Several processes

PROCESS = """
    import json, os, sys
    sys.path.insert(0, {tests!r})
    import torch, transformers
    import torch.distributed as dist
    import test_training_monitor as t
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    from infogeo_adapters import read_history

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rank, folder, found = int(os.environ["RANK"]), {folder!r}, {{}}
    dist.init_process_group("gloo", init_method="file://" + folder + "/store", rank=rank, world_size=2)
    data = [both[2 * rank : 2 * rank + 2] for both in t.batches(4)]
    states = []
    for watched in (False, True):
        model = t.make_model()
        outer = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = t.adam(model)
        torch.manual_seed(5)
        if watched:
            with t.watch(outer, optimizer, folder=folder + "/plain", every=2, early=False, quantities=None) as monitor:
                t.train(outer, optimizer, data)
                t.spoil(model, "transformer.h.1.mlp.c_proj")
            found["plain"] = monitor.history().steps
            found["hooks"] = t.hooks_of(model, optimizer)
        else:
            t.train(outer, optimizer, data)
            t.spoil(model, "transformer.h.1.mlp.c_proj")
        states.append(t.state(model))
    found["plain equal"] = t.equal(*states)
    with t.watch(outer, optimizer, every=100, early=False) as monitor:  # not finite from the first batch on
        t.train(outer, optimizer, data[:1])
    found["broken"] = [r.broken_at for r in monitor.history().records]

    model = t.make_model()
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    try:
        t.watch(model, t.adam(model))
    except Exception as error:
        found["sharded"] = type(error).__name__ + ": " + str(error)
    try:
        t.watch(FullyShardedDataParallel(t.make_model(), device_id=torch.device("cpu")), t.adam(t.make_model()))
    except Exception as error:
        found["wrapped"] = type(error).__name__ + ": " + str(error)

    states = []
    for watched in (False, True):
        model, callbacks = t.make_model(), []
        if watched:
            callbacks.append(t.of_trainer(folder + "/trainer"))
        t.trainer_for(folder + "/out", model, *callbacks, max_steps=2, ddp_backend="gloo").train()
        states.append(t.state(model))
    found["trainer"], found["trainer equal"] = callbacks[0].history().steps, t.equal(*states)
    with open(folder + "/found" + str(rank), "w") as file:
        json.dump(found, file)
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_of_several_processes_the_first_one_measures(tmp_path):
    import json
    import socket

    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch was built without gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = textwrap.dedent(PROCESS).format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    given = {**os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**given, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        ) for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (json.loads((tmp_path / f"found{rank}").read_text()) for rank in range(2))
    for found in (first, second):
        assert found["plain equal"]
        assert found["trainer equal"]
        assert found["hooks"] == 0
        assert found["sharded"].startswith("ModelError: the parameter transformer.wte.weight is sharded")
        assert found["wrapped"].startswith("ModelError: the model is in FullyShardedDataParallel")
    assert (first["plain"], first["trainer"]) == ([0, 2, 4], [0, 1, 2])
    assert (second["plain"], second["trainer"]) == ([], [])
    assert "transformer.h.1.mlp.c_proj" in first["broken"]
    for name, steps in (("plain", (0, 2, 4)), ("trainer", (0, 1, 2))):
        assert read_history(tmp_path / name).steps == steps
