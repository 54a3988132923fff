"""One training of a tuned lens: its arguments checked, its steps, and its checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import IntArray, check_count, check_memory, check_number
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, FormatError, ModelError, OutputError, TextError
from infogeo.results import Source
from infogeo_adapters import _tuned_training as kernels
from infogeo_adapters._tuned_files import hash_of_readout, read_tensors, write_tensors
from infogeo_adapters._tuned_result import TunedLens
from infogeo_adapters._tuned_streams import (
    Reader,
    Row,
    Text,
    batches,
    checked_texts,
    hash_of_texts,
    reader_of,
    rows_of,
    run_stream,
)
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import evaluating

if TYPE_CHECKING:
    import torch

UNFINISHED = "infogeo tuned lens in training"
ARRAYS = {
    "weights": ("f", 3), "biases": ("f", 2), "momentum": ("f", 3), "scale": ("f", 1), "best_weights": ("f", 3),
    "best_biases": ("f", 2), "kept_at": ("i", 1), "training_kl": ("f", 2), "evaluated_at": ("i", 1),
    "validation_kl": ("f", 2),
}
ON_DEVICE = ("weights", "biases", "momentum", "scale")
OPTIONS = (
    "window", "steps", "batch_tokens", "learning_rate", "validation_fraction", "evaluate_every", "tolerance",
    "patience",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One training: what it reads, and its settings."""

    reader: Reader
    source: Source
    facts: dict[str, Any]
    """All that decides the numbers, as JSON types; a checkpoint with others is of other work."""
    layers: tuple[int, ...]
    training: list[Row]
    validation: list[Row]
    steps: int
    batch_tokens: int
    learning_rate: float
    evaluate_every: int
    tolerance: float
    patience: int | None
    seed: int
    memory: float
    rule: kernels.Rule = kernels.take_step


# Arguments


def make_job(
    model: LanguageModel, texts: Sequence[Text], *, layers: Iterable[int] | None, window: int | None, steps: int,
    batch_tokens: int, learning_rate: float, validation_fraction: float, evaluate_every: int, tolerance: float,
    patience: int | None, seed: int, memory: float,
) -> Job:
    reader = reader_of(model)
    depth = reader.stack.depth
    try:
        chosen = tuple(range(depth)) if layers is None else tuple(sorted({check_count("layers", i) for i in layers}))
    except TypeError as error:
        raise ArgumentError(f"layers: found {layers!r}, wanted whole numbers, such as range({depth})") from error
    if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
        raise ArgumentError(
            f"layers: found {chosen}, wanted numbers from 0 (embedding) to {depth - 1}; layer {depth} is the last and "
            "needs no translator"
        )
    for name, value, low, high in (
        ("learning_rate", learning_rate, 0, math.inf), ("validation_fraction", validation_fraction, 0, 1),
        ("tolerance", tolerance, -math.inf, 1),
    ):
        if not low < check_number(name, value) < high:
            raise ArgumentError(f"{name}: found {value}, wanted a number between {low} and {high}")
    memory = check_memory("memory", memory)
    numbers = {
        "steps": check_count("steps", steps, 1), "batch_tokens": check_count("batch_tokens", batch_tokens, 2),
        "evaluate_every": check_count("evaluate_every", evaluate_every, 1), "seed": check_count("seed", seed, 0),
        "patience": None if patience is None else check_count("patience", patience, 1),
    }
    given = checked_texts(reader, texts)
    held = _held_out(given, float(validation_fraction), numbers["seed"] or 0)
    rows, length = rows_of(reader, given, window)
    source = model.current_source()
    facts = {
        "content_hash": source.content_hash, "unembedding_hash": hash_of_readout(model, reader.readout),
        "text_hash": hash_of_texts(given),
        "dtype": reader.readout.dtype, "layers": list(chosen), "window": length, **numbers,
        "learning_rate": float(learning_rate), "validation_fraction": float(validation_fraction),
        "tolerance": float(tolerance), "memory": memory,
    }
    return Job(
        reader=reader, source=source, facts=facts, layers=chosen, learning_rate=float(learning_rate),
        training=[row for row in rows if not held[row.text]], validation=[row for row in rows if held[row.text]],
        tolerance=float(tolerance), memory=memory, steps=steps, batch_tokens=batch_tokens,
        evaluate_every=evaluate_every, patience=patience, seed=seed,
    )


def _held_out(texts: Sequence[Text], fraction: float, seed: int) -> list[bool]:
    """Which texts are held out; equal ones together."""
    different = list(dict.fromkeys(texts))
    if len(different) < 2:
        raise TextError(
            f"texts: found {len(texts)} times the same text, wanted at least 2 different ones, since one is held out"
        )
    count = min(max(1, round(fraction * len(different))), len(different) - 1)
    # not the generator of the order of rows, which begins with [seed, 0]
    order = np.random.default_rng([seed, 0, 1]).permutation(len(different))
    held = {different[i] for i in order[:count]}
    return [text in held for text in texts]


# Training


def plan(job: Job, steps: int) -> list[IntArray]:
    """Which training rows each of the first steps sees."""
    return kernels.plan_of([len(row.tokens.ids) for row in job.training], steps, job.batch_tokens, job.seed)


def run(
    job: Job, *, checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> TunedLens:
    """All steps, from the checkpoint on if there is one."""
    training = load_state(job, checkpoint) or begin(job)
    order = plan(job, job.steps)
    while (stopped := ended_by(job, training)) is None:
        kl, looked = take_step(job, training, order[training.step]), False
        if training.step % job.evaluate_every == 0 or training.step == job.steps:
            kl, looked = evaluate(job, training), True
        if not bool(kl.isfinite().all()):
            raise ConvergenceError(diverged(job, kl, training.step), lens_so_far(job, training, "divergence"))
        if looked and checkpoint is not None:
            save_state(job, checkpoint, training)
        if progress is not None:
            progress(training.step, job.steps)
    model = job.reader.model
    if model.current_source().content_hash != job.source.content_hash:
        raise ModelError(
            f"the weights of {model.name} changed while the tuned lens was fitted; fit it again on weights that stay"
        )
    return lens_so_far(job, training, stopped)


def begin(job: Job) -> kernels.Training:
    """The scale of each layer from the rows of the first step, and the plain lens looked at on the held-out texts."""
    import torch

    parts: list[list[torch.Tensor]] = []
    with lock_of(job.reader.model.model), evaluating(job.reader.model.model):
        for rows in batches(job.reader, [job.training[i] for i in plan(job, 1)[0]], job.batch_tokens):
            states = run_stream(job.reader, rows).states
            parts.append([states[layer] for layer in job.layers])
        training = kernels.begin([torch.cat(layer) for layer in zip(*parts, strict=True)])
    kl = evaluate(job, training)
    if not bool(kl.isfinite().all()):
        layer = job.layers[int((~kl.isfinite()).nonzero()[0, 0])]
        raise DomainError(
            f"the read-out of layer {layer}, or of the last layer, holds NaN or infinity; the weights of the final "
            "norm or the unembedding are damaged, load the model again"
        )
    return training


def ended_by(job: Job, training: kernels.Training) -> str | None:
    """Why the training is over, None if it is not."""
    if training.step >= job.steps:
        return "steps"
    patience = job.patience
    if patience is None or not kernels.is_stuck(training.validation_kl, patience=patience, tolerance=job.tolerance):
        return None
    return "patience"


def take_step(job: Job, training: kernels.Training, chosen: IntArray) -> torch.Tensor:
    """One step on some rows; the mean divergence (n,) before it."""
    import torch

    total, slopes = torch.zeros(len(job.layers), dtype=torch.float64), torch.zeros_like(training.momentum)
    count = 0
    net = job.reader.model.model
    with lock_of(net), evaluating(net), job.reader.readout.session() as project:
        for rows in batches(job.reader, [job.training[i] for i in chosen], job.batch_tokens):
            states = run_stream(job.reader, rows).states
            kl, slope = kernels.gradients(
                project, [states[layer] for layer in job.layers], states[-1], training, memory=job.memory
            )
            total += kl
            slopes += slope
            count += len(states[-1])
        job.rule(training, slopes / count, job.learning_rate * (1 - training.step / job.steps))
    training.training_kl = torch.cat([training.training_kl, total[None] / count])
    return total / count


def evaluate(job: Job, training: kernels.Training) -> torch.Tensor:
    """Mean divergence (n,) of the translators, as float32 numbers, on the held-out texts; the best are kept."""
    import torch

    dtype = training.weights.dtype
    rounded = training.weights.float().to(dtype), training.biases.float().to(dtype)
    total, count = torch.zeros(len(job.layers), dtype=torch.float64), 0
    net = job.reader.model.model
    with lock_of(net), evaluating(net), job.reader.readout.session() as project:
        for rows in batches(job.reader, job.validation, job.batch_tokens):
            states = run_stream(job.reader, rows).states
            total += kernels.divergences(
                project, [states[layer] for layer in job.layers], states[-1], *rounded, memory=job.memory
            )
            count += len(states[-1])
    kernels.keep_best(training, total / count)
    return total / count


def diverged(job: Job, kl: torch.Tensor, step: int) -> str:
    layer = job.layers[int((~kl.isfinite()).nonzero()[0, 0])]
    return (
        f"fit_tuned_lens: at step {step} the divergence of layer {layer} is {float(kl[~kl.isfinite()][0])}; lower "
        f"learning_rate (it is {job.learning_rate:g})"
    )


def lens_so_far(job: Job, training: kernels.Training, stopped: str) -> TunedLens:
    """What there is so far as a result."""
    good = training.validation_kl.isfinite().all(dim=1)
    options = {k: v for k, v in job.facts.items() if k in OPTIONS}
    return TunedLens(
        weights=training.best_weights.numpy(), biases=training.best_biases.numpy(), layers=job.layers,
        n_layers=job.reader.stack.depth, unembedding_hash=str(job.facts["unembedding_hash"]),
        training_kl=training.training_kl[training.training_kl.isfinite().all(dim=1)].numpy(),
        evaluated_at=training.evaluated_at[good].numpy(), validation_kl=training.validation_kl[good].numpy(),
        kept_at=training.kept_at.numpy(), stopped=stopped,
        source=replace(job.source, text_hash=str(job.facts["text_hash"]), seed=job.seed).with_options(
            **options, training_texts=len({row.text for row in job.training}),
            training_tokens=sum(len(row.tokens.ids) for row in job.training),
            validation_texts=len({row.text for row in job.validation}),
            validation_tokens=sum(len(row.tokens.ids) for row in job.validation),
        ),
    )


# Checkpoints


def save_state(job: Job, path: str | os.PathLike[str], training: kernels.Training) -> None:
    """Write all that the training needs to go on, in one step."""
    arrays = {name: getattr(training, name).cpu().numpy() for name in ARRAYS}
    try:
        write_tensors(path, UNFINISHED, arrays, {**job.facts, "step": training.step})
    except OutputError as error:
        kept = "the checkpoint before it is kept" if os.path.exists(path) else "there is no checkpoint yet"
        raise OutputError(
            f"{error}, at step {training.step}; {kept}. Free some space, or make the folder writable, and call "
            "fit_tuned_lens again with the same arguments, which goes on from what is there"
        ) from error


def load_state(job: Job, path: str | os.PathLike[str] | None) -> kernels.Training | None:
    """The state of an earlier call of the same work, None if there is none.

    Raises
    ------
    ArgumentError
        The file is of other work.
    FormatError
        It is damaged, or no unfinished training.
    """
    import torch

    if path is None or not os.path.exists(path):
        return None
    arrays, facts = read_tensors(path, UNFINISHED, ARRAYS)
    for name, value in job.facts.items():
        if facts.get(name) != value:
            raise ArgumentError(
                f"checkpoint: {os.fspath(path)!r} is of other work, its {name} is {facts.get(name)!r}, not {value!r}; "
                "give the arguments it was begun with, or another path"
            )
    step, n, d = facts.get("step"), len(job.layers), arrays["biases"].shape[1]
    if not isinstance(step, int) or arrays["momentum"].shape != (n, d, d + 1) or len(arrays["training_kl"]) != step:
        raise FormatError(f"{os.fspath(path)!r} is damaged: its arrays do not fit together; delete it and start anew")
    device = job.reader.model.model.device
    tensors = {
        name: torch.from_numpy(array).to(device if name in ON_DEVICE else "cpu") for name, array in arrays.items()
    }
    return kernels.Training(step=step, **tensors)
