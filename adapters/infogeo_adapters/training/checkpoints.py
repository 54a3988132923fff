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
from infogeo.training import TrainingHistory
from infogeo_adapters.training._live_weights import WeightWatch
from infogeo_adapters.training._monitor_core import check_whole, name_of
from infogeo_adapters.training.history_files import HistoryWriter
from infogeo_adapters.training.measuring import ProbeMeter
from infogeo_adapters.training.probe import bare, probe_batch

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
        A path is opened by :func:`~infogeo_adapters.load_model`: a folder, or the name of a packaged model.
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
        With one record; quantities of live batches are missing, but for ``weight_norm``.

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
    import torch

    name, known = "", None
    net: Any = model
    if not isinstance(model, torch.nn.Module):
        from infogeo_adapters.transformers.loading import LanguageModel, load_model

        if not isinstance(model, LanguageModel):
            path = Path(os.fspath(model))
            name, known = path.name, _step_of(path.name)
            model = load_model(str(path) if path.is_dir() else os.fspath(model))
        net, tokenizer = model.model, model.tokenizer if tokenizer is None else tokenizer
        name = name or str(model.current_source().model or "")
    net = bare(net)
    check_whole(net)
    number = check_count("step", (known or 0) if step is None else step, 0)
    found = probe_batch(net, probe, tokenizer=tokenizer, texts=texts, tokens=tokens, objective=objective)
    meter = ProbeMeter(net, found, quantities=quantities, blocks=blocks)
    facts = meter.facts(
        run=secrets.token_hex(8), every=0, model=name or name_of(net)
    )
    record = meter.record(number)
    norms = WeightWatch(net, meter.modules).weight_norms()
    record = dataclasses.replace(record, values={**record.values, "weight_norm": np.asarray(norms)})
    if folder is not None:
        writer = HistoryWriter(folder, facts, name=name)
        try:
            writer.record(record, {})
        finally:
            writer.close()
    return TrainingHistory(facts=facts, records=(record,), name=name)


def _step_of(name: str) -> int | None:
    """The number at the end of a folder's name, None if there is none."""
    match = re.search(r"(?:step|checkpoint|iter)[-_]?0*(\d+)$", name)
    return int(match[1]) if match else None
