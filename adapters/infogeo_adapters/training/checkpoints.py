"""Measuring a model that does not train: one checkpoint as a history of one record."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import check_count
from infogeo.results import Source
from infogeo.training import QUANTITIES, TrainingHistory, TrainingRecord
from infogeo_adapters.training._live_weights import WeightWatch
from infogeo_adapters.training._monitor_core import check_whole, name_of
from infogeo_adapters.training._undisturbed import undisturbed
from infogeo_adapters.training.history_files import HistoryWriter
from infogeo_adapters.training.measuring import ProbeMeter
from infogeo_adapters.training.probe import bare, probe_batch
from infogeo_adapters.transformers.weights import broken_tensors

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.training.probe import Objective
    from infogeo_adapters.transformers.loading import LanguageModel


def measure_checkpoint(
    model: torch.nn.Module | LanguageModel | str | os.PathLike[str],
    *,
    probe: Any = None,
    tokenizer: Any = None,
    step: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    blocks: Any = None,
    quantities: Sequence[str] | None = None,
    objective: Objective | None = None,
    texts: int = 16,
    tokens: int = 48,
) -> TrainingHistory:
    """Measure a model as it stands: what can be told of a checkpoint without the history of its training.

    Parameters
    ----------
    model : torch.nn.Module, LanguageModel or path
        A path is opened as by :func:`~infogeo_adapters.load_model`: a folder, or the name of a packaged model. Weights
        with NaN or infinity are not refused, but named in ``broken_weights`` of the record.
    probe : optional
        What it is measured on, as :class:`TrainingMonitor` takes it. By default the packaged text.
    tokenizer : PreTrainedTokenizerBase, optional
        For texts; by default that of the folder or language model.
    step : int, optional
        Steps it was trained for. By default the number at the end of the folder's name (``checkpoint-500``), else 0.
    folder : path, optional
        Where to write ``history.jsonl``.
    blocks, quantities, objective, texts, tokens
        As in :class:`TrainingMonitor`.

    Returns
    -------
    TrainingHistory
        With one record; quantities of live batches are missing, but for ``weight_norm``. What could not be measured
        since the model computes NaN or infinity is in ``notes``.

    Raises
    ------
    ArgumentError
        An argument is wrong.
    ModelError
        The model cannot be opened, no blocks were found, or it does not run on the probe batch.
    FormatError
        The folder to write to holds the history of another run.
    OutputError
        It cannot be written.

    See Also
    --------
    TrainingMonitor : measures while a model trains.

    Examples
    --------
    >>> from infogeo_adapters import load_model, measure_checkpoint
    >>> history = measure_checkpoint(load_model(), quantities=["contribution", "probe_loss"])
    >>> history.steps, history.series("contribution").shape
    ((0,), (1, 6))
    """
    net, own, source, known = _opened(model)
    return measure_opened(
        net, source, probe=probe, tokenizer=own if tokenizer is None else tokenizer,
        step=(known or 0) if step is None else step, folder=folder, blocks=blocks, quantities=quantities,
        objective=objective, texts=texts, tokens=tokens,
    )


def measure_opened(
    model: torch.nn.Module, source: Source, *, probe: Any, tokenizer: Any, step: int, texts: int, tokens: int,
    folder: str | os.PathLike[str] | None = None, blocks: Any = None, quantities: Sequence[str] | None = None,
    objective: Objective | None = None,
) -> TrainingHistory:
    """As :func:`measure_checkpoint`, of a network that was opened, with its source."""
    net = bare(model)
    check_whole(net)
    number = check_count("step", step, 0)
    found = probe_batch(net, probe, tokenizer=tokenizer, texts=texts, tokens=tokens, objective=objective)
    with undisturbed(net):
        meter = ProbeMeter(net, found, quantities=quantities, blocks=blocks)
    name = Path(source.model).name if source.model else ""
    facts = meter.facts(run=secrets.token_hex(8), every=0, model=name or name_of(net))
    facts = dataclasses.replace(facts, source=source)
    with undisturbed(net):
        record = meter.record(number)
    norms = WeightWatch(net, meter.modules).weight_norms()
    record = dataclasses.replace(
        record, values={**record.values, "weight_norm": np.asarray(norms)},
        broken_weights=tuple(key for key, _, _ in broken_tensors(net)),
    )
    notes = _lost(record) if record.broken_weights or record.broken_at is not None else ()
    if folder is not None:
        writer = HistoryWriter(folder, facts, name=name)
        try:
            writer.record(record, {})
            for note in notes:
                writer.note(note)
        finally:
            writer.close()
    return TrainingHistory(facts=facts, records=(record,), name=name, notes=notes)


def _opened(model: Any) -> tuple[torch.nn.Module, Any, Source, int | None]:
    """The network, its tokenizer, where it comes from, and the step that its name tells; the latter if known."""
    import torch

    if isinstance(model, torch.nn.Module):
        return model, None, Source(), None
    from infogeo_adapters.transformers.loading import LanguageModel, open_model

    if isinstance(model, LanguageModel):
        return model.model, model.tokenizer, model.current_source(), None
    net, tokenizer, source = open_model(os.fspath(model), finite=False)
    return net, tokenizer, source, step_of(Path(os.fspath(model)).name)


def _lost(record: TrainingRecord) -> tuple[str, ...]:
    """What could not be measured, or of some layers only, of a model that computes NaN or infinity."""
    none, some = [], []
    for name, values in record.values.items():
        known = np.isfinite(values)
        if not known.any():
            none.append(name)
        elif QUANTITIES[name].scope in ("state", "block") and not known.all():
            some.append(name)
    said = "since the model computes NaN or infinity"
    return tuple(
        f"{what}, {said}: {', '.join(names)}"
        for what, names in (("not measured", none), ("not measured of all layers", some)) if names
    )


def step_of(name: str) -> int | None:
    """The number at the end of a folder's name, None if there is none.

    Examples
    --------
    >>> step_of("checkpoint-500"), step_of("minilm")
    (500, None)
    """
    match = re.search(r"(?:step|checkpoint|iter)[-_]?0*(\d+)$", name)
    return int(match[1]) if match else None
