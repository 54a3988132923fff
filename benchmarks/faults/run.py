"""All runs: healthy ones of varied size and rate, and those with a fault; each in a folder of its own, resumable."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from faults.models import Size

STEPS, EVERY = 144, 12
SEEDS = 4
HEALTHY = 32
PROBE_TEXTS = 16
RESULT = "result.json"
"""Written last: a folder that has it is complete."""
WEIGHTS = "weights.npz"
TRAINED = ("gpt2", "llama")
"""Architectures of the runs that there are always."""
ENCODER, ENCODER_SEEDS, ENCODER_HEALTHY, ENCODER_RATE = "bert", 2, 8, 2e-3
"""A masked encoder, with fewer seeds. It has only hidden words to learn from ..."""
BATCHES = {ENCODER: {"texts": 128, "tokens": 8}}
"""... and learns the grammar in so few steps from many short texts."""
MORE = 32
"""From this seed on, counted from the first, healthy runs have the settings of the runs with a fault again."""


@dataclass(frozen=True)
class Plan:
    """One run. Even seeds are of the half on which thresholds are chosen, odd ones of the half that is reported."""

    fault: str
    """Empty for a healthy run."""
    architecture: str
    seed: int
    size: Size = field(default_factory=Size)
    rate: float = 3e-3
    onset: int = 0
    block: int = 1
    head: int = 1
    steps: int = STEPS
    language: int = 0
    """Seed of the grammar."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.fault or 'healthy'}-{self.architecture}-{self.seed:02d}"

    @property
    def reported(self) -> bool:
        """Whether it is of the half that is reported."""
        return self.seed % 2 == 1

    @property
    def usual(self) -> bool:
        """Whether size and rate are those of the runs with a fault."""
        return self.size == Size() and self.rate == (ENCODER_RATE if self.architecture == ENCODER else 3e-3)


def healthy_plans(number: int = HEALTHY, first: int = 0, language: int = 0) -> Iterator[Plan]:
    """Healthy runs, seeds from the first on.

    The first of each kind have the settings of the runs with a fault, and so have those beyond the first 64.
    """
    for i in range(number):
        architecture, seed = TRAINED[i % len(TRAINED)], first + i // len(TRAINED)
        if seed < first + SEEDS or seed >= first + MORE:
            yield Plan("", architecture, seed, language=language)
            continue
        rng = np.random.default_rng([seed, i % len(TRAINED), 17])
        size = Size(
            width=int(rng.choice([32, 48, 64, 96])), depth=int(rng.choice([2, 3, 4, 6])), heads=int(rng.choice([2, 4])),
            activation=str(rng.choice(["relu", "gelu", "silu"])), dropout=float(rng.choice([0.0, 0.1])),
        )
        yield Plan("", architecture, seed, size, rate=float(rng.choice([1e-3, 2e-3, 3e-3, 5e-3])),
                   language=language)


def fault_plans(
    names: Sequence[str] | None = None, seeds: int = SEEDS, first: int = 0, language: int = 0
) -> Iterator[Plan]:
    """Runs with a fault, half of the seeds from the start on, half from the middle where the fault can come there."""
    from faults.faults import FAULTS

    for k, (name, fault) in enumerate(FAULTS.items()):
        if names is not None and name not in names:
            continue
        for architecture in TRAINED:
            if architecture not in fault.architectures:
                continue
            for seed in range(first, first + seeds):
                rng = np.random.default_rng([k, seed, TRAINED.index(architecture)])
                size = Size()
                late = fault.late and (seed // 2 + TRAINED.index(architecture)) % 2 == 1
                yield Plan(
                    name, architecture, seed, size, onset=int(rng.integers(STEPS // 2 - 10, STEPS // 2 + 10)) * late,
                    block=int(rng.integers(size.depth)) + 1, head=int(rng.integers(size.heads)) + 1,
                    language=language,
                )


def encoder_plans(names: Sequence[str] | None = None, first: int = 0, language: int = 0) -> Iterator[Plan]:
    """Runs of the masked encoder: healthy ones, and faults that it can have, every other one from the middle.

    None in float16: so large batches take ten times as long in it.
    """
    from faults.faults import FAULTS

    for seed in range(first, first + ENCODER_HEALTHY):
        yield Plan("", ENCODER, seed, rate=ENCODER_RATE, language=language)
    for k, (name, fault) in enumerate(FAULTS.items()):
        if fault.half or ENCODER not in fault.architectures or (names is not None and name not in names):
            continue
        for seed in range(first, first + ENCODER_SEEDS):
            rng, size = np.random.default_rng([k, seed, 29]), Size()
            late = fault.late and (k + seed) % 2 == 1
            yield Plan(
                name, ENCODER, seed, size, ENCODER_RATE, int(rng.integers(STEPS // 2 - 10, STEPS // 2 + 10)) * late,
                int(rng.integers(size.depth)) + 1, int(rng.integers(size.heads)) + 1, language=language,
            )


def finished(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """What was written of a run, if it is complete and of this plan."""
    path = folder / plan.name / RESULT
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if {"language": 0, **found["plan"]} == asdict(plan) else None


def run_one(plan: Plan, folder: Path, monitored: bool = True) -> dict[str, Any]:
    """Train, with the monitor, and write what happened; a run that is there already is read.

    What an interrupted run left is thrown away; a finished run of other settings is not.
    """
    place, known = folder / plan.name, finished(plan, folder)
    if known is not None:
        return known
    if (place / RESULT).is_file():
        raise FileExistsError(f"{place} is a finished run of other settings; give another --folder, or delete it")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    result = _train(plan, place, monitored)
    partial = place / (RESULT + ".part")
    partial.write_text(json.dumps(result), encoding="utf-8")
    os.replace(partial, place / RESULT)
    return result


def _train(plan: Plan, place: Path, monitored: bool) -> dict[str, Any]:
    from faults.faults import FAULTS
    from faults.models import build
    from faults.training import Training

    started, busy = time.perf_counter(), time.process_time()
    model = build(plan.architecture, plan.seed, plan.size)
    run = Training(model, plan.architecture, plan.seed, plan.rate, plan.steps, language=plan.language,
                   **BATCHES.get(plan.architecture, {}))
    fault = FAULTS.get(plan.fault)
    if fault is not None and fault.half:
        model.half()
        run.epsilon = 1e-4
    truth: tuple[int, ...] = ()
    if fault is not None and plan.onset == 0:
        truth = fault.inject(run, plan.block, plan.head)
    probe = run.clean_batch(np.random.default_rng(77), PROBE_TEXTS)
    losses: list[float] = []

    def go() -> None:
        nonlocal truth
        for step in range(plan.steps):
            if fault is not None and step == plan.onset > 0:
                truth = fault.inject(run, plan.block, plan.head)
            losses.append(run.advance())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN and overflow are what some of these runs are for
        if monitored:
            from infogeo_adapters.training.monitor import TrainingMonitor

            with TrainingMonitor(
                model, optimizer=run.optimizer, probe=probe, every=EVERY, folder=place, run_name=plan.name
            ):
                go()
        else:
            go()
        held_out = run.held_out_loss()
    weights = {
        name: value.detach().float().numpy() for name, value in model.named_parameters() if value.ndim == 2
    }
    np.savez(place / WEIGHTS, **weights)
    return {
        "plan": asdict(plan), "losses": losses, "held_out": held_out, "blocks": list(truth),
        "seconds": time.perf_counter() - started, "processor": time.process_time() - busy,
    }


def _worker(plan: Plan, folder: Path) -> tuple[str, float]:
    import torch

    torch.set_num_threads(1)
    return plan.name, run_one(plan, folder)["seconds"]


def run_all(plans: Sequence[Plan], folder: Path, processes: int = 2) -> None:
    """All runs, some at a time, one thread each; says how far it is."""
    todo = [plan for plan in plans if finished(plan, folder) is None]
    other = [plan.name for plan in todo if (folder / plan.name / RESULT).is_file()]
    if other:
        raise FileExistsError(
            f"{folder} has finished runs of other settings, {other[0]} among {len(other)}; give another --folder"
        )
    if not todo:
        return
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    started = time.perf_counter()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(_worker, plan, folder): plan for plan in sorted(todo, key=lambda plan: plan.seed // 2 % 4)}
        failed: list[tuple[str, BaseException]] = []
        for done, job in enumerate(as_completed(jobs), 1):
            plan, error = jobs[job], job.exception()
            if error is not None:
                failed.append((plan.name, error))
            said = f"failed: {error!r}" if error is not None else f"{job.result()[1]:.1f} s"
            so_far = time.perf_counter() - started
            print(f"{done} of {len(todo)}: {plan.name}, {said}, {so_far:.0f} s in all", flush=True)
    if failed:
        raise RuntimeError(f"{len(failed)} runs failed, the first of them {failed[0][0]}") from failed[0][1]


def shortened(plan: Plan, steps: int) -> Plan:
    """The same run with fewer steps."""
    return replace(plan, steps=steps, onset=min(plan.onset, steps // 2))
