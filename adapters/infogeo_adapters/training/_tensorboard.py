"""Records as scalars for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError, MissingDependencyError
from infogeo.training import QUANTITIES, TrainingRecord
from infogeo_adapters.files import check_path


class BoardWriter:
    """Writes records to a ``SummaryWriter`` of torch, one that is given or one of its own.

    Parameters
    ----------
    target : SummaryWriter or path
        A folder is given a writer of its own, which :meth:`close` closes; one that is given stays open.

    Raises
    ------
    ArgumentError
        It is neither.
    MissingDependencyError
        A folder is given, and the package tensorboard is not installed.
    """

    def __init__(self, target: Any) -> None:
        self._own = isinstance(target, str | os.PathLike)
        if self._own:
            folder = check_path("tensorboard", target)
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingDependencyError(
                    'TrainingMonitor needs tensorboard; install it with: pip install "infogeo[tensorboard]"'
                ) from error
            self._writer: Any = SummaryWriter(log_dir=str(folder))
        elif callable(getattr(target, "add_scalar", None)):
            self._writer = target
        else:
            raise ArgumentError(
                f"tensorboard: found {type(target).__name__}, wanted a folder or a SummaryWriter of torch"
            )

    def write(self, record: TrainingRecord, losses: Mapping[int, float]) -> None:
        """Write a record: each value of the model, states and blocks, and of heads the mean of each block."""
        for step, loss in losses.items():
            self._writer.add_scalar("infogeo/step_loss", loss, step)
        for name, values in record.values.items():
            for place, value in _scalars(name, values):
                self._writer.add_scalar(f"infogeo/{name}{place}", value, record.step)
        self._writer.flush()

    def close(self) -> None:
        """Close a writer of its own."""
        if self._own:
            self._writer.close()


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _scalars(name: str, values: FloatArray) -> list[tuple[str, float]]:
    """Places and finite numbers of a quantity."""
    scope = QUANTITIES[name].scope
    if scope == "model":
        found = [("", float(values))]
    else:
        rows = values if scope != "head" else np.array([_mean(row[np.isfinite(row)]) for row in values])
        kind, first = ("layer", 0) if scope == "state" else ("block", 1)
        found = [(f"/{kind}_{i:02d}", float(v)) for i, v in enumerate(rows, start=first)]
    return [(place, value) for place, value in found if np.isfinite(value)]
