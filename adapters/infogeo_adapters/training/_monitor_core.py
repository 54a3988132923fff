"""The core of monitoring: what is done at which step, whoever trains."""

from __future__ import annotations

import dataclasses
import functools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import ArgumentError, ModelError
from infogeo.training import TrainingHistory, TrainingRecord
from infogeo_adapters.training._broken import LOSS, broken_backward, broken_forward, last_broken
from infogeo_adapters.training._live_weights import WeightWatch
from infogeo_adapters.training._tensorboard import BoardWriter
from infogeo_adapters.training._undisturbed import undisturbed
from infogeo_adapters.training.history_files import Content, HistoryWriter
from infogeo_adapters.training.live import LiveWatch, Pass
from infogeo_adapters.training.measuring import ProbeMeter
from infogeo_adapters.training.probe import bare, probe_batch

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.training.probe import Objective

logger = logging.getLogger("infogeo")

EARLY = (1, 2, 5)
"""First steps that are recorded beside every so many, and these times 10, 100, ..."""

WHOLE = "infogeo measures models whose weights are all in one process, as under DistributedDataParallel"
"""What is said of models that are not."""

DEAF = (
    "no call of the model in training mode was seen, so that losses and targets of live batches are not known: call "
    "model.train() before training; give what torch.compile returned, if that is what trains; or tell losses with "
    "observe()"
)
"""Noted at the end of a run of which the hooks heard no batch."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked of a monitor."""

    probe: Any
    tokenizer: Any
    every: int
    early: bool
    folder: Path | None
    run_name: str
    blocks: Any
    quantities: Sequence[str] | None
    number_format: str | None
    objective: Objective | None
    texts: int
    tokens: int

    def due(self, step: int) -> bool:
        """Whether a step is to be recorded, as far as its number says."""
        return step % self.every == 0 or (self.early and step < self.every and _is_early(step))


def _is_early(step: int) -> bool:
    while step % 10 == 0 and step > 0:
        step //= 10
    return step in EARLY


class MonitorCore:
    """Measures a model while it trains, keeps the records, and never fails once training goes on.

    Parameters
    ----------
    model : torch.nn.Module
    optimizers : sequence of torch.optim.Optimizer
    settings : Settings
    by_hand : bool
        Whether :meth:`step_done` is called at the end of each step; else the optimizers tell.
    board : BoardWriter, optional
    again : bool
        Whether the file in the folder was written for the same training before, so that it may begin anew.

    Raises
    ------
    InfogeoError
        The model cannot be measured, or the probe batch does not fit it.
    """

    def __init__(
        self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], settings: Settings, *,
        by_hand: bool = False, board: BoardWriter | None = None, again: bool = False,
    ) -> None:
        net = bare(model)
        check_whole(net)
        probe = probe_batch(
            net, settings.probe, tokenizer=settings.tokenizer, texts=settings.texts, tokens=settings.tokens,
            objective=settings.objective,
        )
        with undisturbed(net):
            self.meter = ProbeMeter(
                net, probe, quantities=settings.quantities, blocks=settings.blocks, number_format=settings.number_format
            )
        self.facts = self.meter.facts(
            run=secrets.token_hex(8), every=settings.every, model=name_of(net),
        )
        self.content = Content(self.facts, settings.run_name)
        self._outer = model if hasattr(model, "_orig_mod") else net
        self._net, self._optimizers, self._settings, self._by_hand = net, tuple(optimizers), settings, by_hand
        self._board = board
        self._writer: HistoryWriter | None = None
        self._live: LiveWatch | None = None
        self._weights = WeightWatch(net, self.meter.modules)
        self._forced, self._wrote = False, again
        self._aside = True
        if self._optimizers and not any(self._weights.places(optimizer) for optimizer in self._optimizers):
            raise ArgumentError(
                f"optimizer: it holds none of the parameters of this {type(net).__name__}; give the one that trains it"
            )

    @property
    def active(self) -> bool:
        """Whether it is watching."""
        return not self._aside

    @property
    def wrote(self) -> bool:
        """Whether it has opened a file."""
        return self._wrote

    def watches(self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> bool:
        """Whether it is these that it was made for."""
        same = bare(model) is self._net and tuple(optimizers) == self._optimizers
        return same and self._weights.exchanged(self._net) is None

    def begin(self, step: int = 0) -> None:
        """Open the file, set the hooks and record the model as it is before the first step.

        Raises
        ------
        FormatError
            The file there is damaged, or of another run.
        OutputError
            It cannot be written.
        ModelError
            Parts of the model were exchanged since this was made.
        """
        self._check_model()
        if self._settings.folder is not None:
            self._writer = HistoryWriter(
                self._settings.folder, self.facts, name=self._settings.run_name, step=step, again=self._wrote
            )
            self.content, self._wrote = self._writer.content, True
        else:
            self.content.rewind(step)
        self.facts = self.content.facts
        self._aside = False
        weights = next(self._net.parameters(), None)
        self._live = LiveWatch(
            self._outer, self._weights, self._optimizers, objective=self.facts.objective,
            device="cpu" if weights is None else weights.device.type, step=step, listener=self, guard=self.guard,
            by_hand=self._by_hand,
        )
        self._live.attach()
        if step == 0 or step not in self.content.records:  # at step 0 it may be another model than last time
            self._record(step)

    def finish(self) -> None:
        """Record the model as it is, take the hooks away and close the files."""
        try:
            if not self._aside and self._live is not None:
                self._last()
        finally:
            self._leave()

    def observe(self, loss: float, *, step: int | None = None) -> None:
        """Take a loss that is told."""
        if not self._aside and self._live is not None:
            self.guard(self._live.observe)(loss, step=step)

    def step_done(self, step: int) -> None:
        """A step is done, by what whoever trains counts."""
        if not self._aside and self._live is not None:
            self.guard(self._live.close)(step)

    def lacks_loss(self, step: int) -> bool:
        """Whether it is watching, and no loss is known of a step or later ones."""
        return not self._aside and self._live is not None and self._live.last_loss < step

    def history(self) -> TrainingHistory:
        """What was recorded so far."""
        content = self.content
        if self._live is not None and self._live.losses:
            content = dataclasses.replace(content, losses={**content.losses, **self._live.losses})
        folder = self._settings.folder
        return content.history(name="" if folder is None else folder.name)

    # What the hooks tell

    def due(self, step: int) -> bool:
        """Whether a step is to be recorded."""
        return self._forced or self._settings.due(step)

    def stepped(self, step: int) -> None:
        """A step is done."""
        if self.due(step):
            self._forced = False
            self._record(step)

    def broken(self, where: Pass) -> None:
        """A loss or gradient is not finite: find the place, and write it down before anything else happens."""
        live = self._live
        if live is None:
            return
        name, way = self._place(live, where)
        self._forced = True
        known = self.content.records.get(live.done)
        if known is None:
            self._record(live.done, broken=(name, way))
            return
        losses, live.losses = live.losses, {}
        self._write(_with_source(known, (name, way)), losses)

    def _place(self, live: LiveWatch, where: Pass) -> tuple[str, Pass]:
        batch = live.batch
        live.busy = True
        try:
            with undisturbed(self._net):
                name = LOSS if batch is None else broken_forward(self._net, batch)
                if where == "forward" or name != LOSS:
                    return name, "forward"
                found = None if batch is None else broken_backward(self._net, batch, self.facts.objective)
            return found or last_broken(self._weights.names, live.norms), "backward"
        except Exception as error:  # not each call can be made twice
            self._say(f"step {live.done + 1}: the batch could not be run again ({type(error).__name__}: {error})")
            return (LOSS, where) if where == "forward" else (last_broken(self._weights.names, live.norms), where)
        finally:
            live.busy = False

    # Records

    @functools.cached_property
    def _last(self) -> Callable[..., None]:
        return self.guard(self._record_last)

    def _record_last(self) -> None:
        live = self._live
        if live is None:
            return
        if live.deaf:
            self._say(DEAF)
        if live.done not in self.content.records:
            self._record(live.done)
        elif live.losses:
            losses, live.losses = live.losses, {}
            self._say(None, losses)

    def _check_model(self) -> None:
        """Raise if parts of the model were exchanged, since a history of two models tells of neither."""
        change = self._weights.exchanged(self._net)
        if change is not None:
            raise ModelError(
                f"the model is not the one that the monitor was made for: {change}; make another TrainingMonitor for "
                "it, with a folder of its own"
            )

    def _record(self, step: int, *, broken: tuple[str, Pass] | None = None) -> None:
        self.guard(self._measure)(step, broken)

    def _measure(self, step: int, broken: tuple[str, Pass] | None) -> None:
        live = self._live
        if live is None:
            return
        start = time.perf_counter()
        self._check_model()
        live.busy = True
        try:
            with undisturbed(self._net):
                record = self.meter.record(step)
        finally:
            live.busy = False
        values, losses = live.values()
        if broken is not None:
            record = _with_source(record, broken)
        record = dataclasses.replace(
            record, values={**record.values, **values}, unmoved=live.unmoved, seconds=time.perf_counter() - start
        )
        if live.skipped:
            count, live.skipped = live.skipped, 0
            many = "1 batch was" if count == 1 else f"{count} batches were"
            self._say(
                f"up to step {step}: {many} given up without a step, as a scaler of gradients does where they overflow"
            )
        self._write(record, losses)

    def _write(self, record: TrainingRecord, losses: dict[int, float]) -> None:
        TrainingHistory(facts=self.facts, records=(record,))  # which checks the shapes, or the file could not be read
        if self._writer is not None:
            self._writer.record(record, losses)
        else:
            self.content.add_record(record)
            self.content.losses.update(losses)
        if self._board is not None:
            self._board.write(record, losses)

    def _say(self, note: str | None, losses: dict[int, float] | None = None) -> None:
        if self._writer is not None:
            self._writer.note(note, losses)
        else:
            self.content.notes += [] if note is None else [note]
            self.content.losses.update(losses or {})

    # Its own failures

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """The function, after whose failure the monitor steps aside and training goes on."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            if self._aside:
                return
            try:
                function(*args, **kwargs)
            except Exception as error:
                self._step_aside(error)

        return guarded

    def _step_aside(self, error: Exception) -> None:
        step = self._live.done if self._live is not None else 0
        text = f"the monitor failed at step {step} and stepped aside ({type(error).__name__}: {error})"
        logger.warning("%s; training goes on without it", text, exc_info=error)
        try:
            self._say(text, dict(self._live.losses) if self._live is not None else None)
        except Exception:  # which the writer may have noted before it failed
            self.content.notes += [] if text in self.content.notes else [text]
        self._leave(retire=True)

    def _leave(self, *, retire: bool = False) -> None:
        """Take everything away; what fails in that is left as it is."""
        self._aside = True
        live = self._live
        for part in (
            None if live is None else live.retire if retire else live.detach,
            self._writer.close if self._writer is not None else None,
            self._board.close if self._board is not None else None,
        ):
            if part is not None:
                try:
                    part()
                except Exception as error:
                    logger.warning("the monitor could not close (%s: %s)", type(error).__name__, error)


def _with_source(record: TrainingRecord, broken: tuple[str, Pass]) -> TrainingRecord:
    """A record with the module where what is not finite comes from; that of the probe says more than none."""
    if broken[0] == LOSS and record.broken_at is not None:
        return record
    return dataclasses.replace(record, broken_at=broken[0], broken_pass=broken[1])


def name_of(net: torch.nn.Module) -> str | None:
    """What a model of transformers says it was loaded from."""
    return getattr(getattr(net, "config", None), "name_or_path", None) or None


def check_whole(net: torch.nn.Module) -> None:
    """Raise unless all weights of a model are here, none of them sharded or without numbers."""
    import sys

    import torch

    tensor = getattr(torch.distributed, "tensor", None)
    sharded = getattr(tensor, "DTensor", ())
    fsdp = getattr(sys.modules.get("torch.distributed.fsdp"), "FullyShardedDataParallel", ())
    for module in net.modules():
        if fsdp and isinstance(module, fsdp):
            raise ModelError(
                f"the model is in FullyShardedDataParallel, each call of which needs all processes; {WHOLE}"
            )
    for name, parameter in net.named_parameters():
        if parameter.is_meta or (sharded and isinstance(parameter, sharded)) or hasattr(parameter, "ds_id"):
            raise ModelError(
                f"the parameter {name} is {'on the meta device' if parameter.is_meta else 'sharded over processes'}; "
                f"{WHOLE}"
            )
