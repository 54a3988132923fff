"""Watching a model while it trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from infogeo._checks import check_count, check_flag
from infogeo.errors import ArgumentError, InfogeoError
from infogeo.training import TrainingHistory
from infogeo_adapters.files import check_path
from infogeo_adapters.training._monitor_core import MonitorCore, Settings, logger
from infogeo_adapters.training._tensorboard import BoardWriter

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback

    from infogeo_adapters.training.probe import Objective
else:
    try:
        from transformers.trainer_callback import TrainerCallback
    except ImportError:  # plain torch needs none
        TrainerCallback = object


class TrainingMonitor(TrainerCallback):
    r"""Measures a model at some steps of its training, and keeps the history in a file.

    In a ``Trainer`` of transformers it is one line: ``trainer.add_callback(TrainingMonitor(folder="runs/first"))``;
    model, optimizer and tokenizer come from there. In a loop of plain torch it is one ``with``::

        with TrainingMonitor(model, optimizer=optimizer, tokenizer=tokenizer, folder="runs/first") as monitor:
            for batch in batches:
                loss = loss_of(model, batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.observe(loss)

    At step 0, at every so many steps, at some early ones and at the end the model is shown a fixed probe batch, and
    what :data:`infogeo.training.QUANTITIES` lists is written down. Losses, gradients, updates and the tokens of live
    batches are seen by hooks on the model and its optimizers. Training is the same with and without it, to the last
    bit. If the monitor itself fails, that is logged once, noted in the history, and it steps aside. :func:`diagnose
    <infogeo.diagnosis.diagnose>` says what is wrong.

    Parameters
    ----------
    model : torch.nn.Module, optional
        In plain torch: the model, perhaps compiled or inside data parallelism. A Trainer gives its own.
    optimizer : torch.optim.Optimizer or sequence of these, optional
        In plain torch: all that hold parameters of the model. A step is done when each of them has stepped; if only
        some step, when one of them steps again or the next batch comes.
    probe : optional
        What the model is measured on, as :func:`~infogeo_adapters.training.probe.probe_batch` takes it: texts, a batch
        with ``input_ids`` and perhaps ``labels``, or an array of ids. By default the packaged text.
    tokenizer : PreTrainedTokenizerBase, optional
        For texts. A Trainer gives its own.
    every : int
        Steps between records.
    early : bool
        Whether steps 1, 2, 5, 10, 20, 50, ... before the first of these are recorded too.
    folder : path, optional
        Where ``history.jsonl`` is written. Without it the history is kept in memory only.
    run_name : str, optional
        How the run is called in tables; by default as the folder.
    step : int
        In plain torch: steps that the model has behind it. The history in the folder goes on from there; what it had
        recorded later is superseded. A Trainer knows.
    blocks : str or sequence of modules, optional
        Of a module that is none of transformers: which modules are its blocks.
    quantities : sequence of str, optional
        Which quantities of the probe batch to measure, by default all.
    number_format : str, optional
        In plain torch: the number format of autocast, ``"float16"`` or ``"bfloat16"``. A Trainer says.
    objective : {"next token", "masked token", "other", "none"}, optional
        What the model learns; by default what its class says, which modules that are none of transformers do not.
    texts, tokens : int
        Size of the probe batch.
    tensorboard : torch.utils.tensorboard.SummaryWriter or path, optional
        Where scalars are written for TensorBoard too; a folder needs the extra ``tensorboard``.

    Raises
    ------
    ArgumentError
        An argument is wrong.
    ModelError
        No blocks were found in the model, it does not run on the probe batch, or its weights are sharded.
    FormatError
        The folder holds the history of another run or of another probe batch, or a damaged one.
    OutputError
        The folder cannot be written.
    MissingDependencyError
        A folder is given for TensorBoard, and the package is not installed.

    See Also
    --------
    read_history : reads the file.
    measure_checkpoint : the same for a model that does not train.

    Notes
    -----
    All errors come before the first step: where the arguments are given, on entering ``with``, or when a Trainer
    begins. The state of random numbers, gradients, modes and hooks is as before after each record.

    During a step that is to be recorded there is one copy of the weights that the optimizers hold, in their own number
    format; it is gone before the model is measured. A record needs most memory for ``fisher_trace`` and
    ``gradient_snr``, which hold gradients of all blocks and two sums of these in float32, and for ``twin``, which holds
    the matrices of one name of all blocks twice; ``quantities`` without these three spares it.

    The loss of a step is the mean over its batches, of what the model returns as its loss or of what
    :meth:`observe` is told. When a loss or gradient is NaN or infinite, the live batch is run once more before the
    weights change, in evaluation mode, with a look at the output of each module (or the gradient it gets); a record is
    written at once, another after the step, and training goes on.

    A model that trains in evaluation mode tells no losses and targets; a note in the history says so.

    A model that is watched can be copied and saved as a whole; copies are not watched. Where parts of it are exchanged
    for others (a new head, an adapter), the monitor steps aside, since a history of two models tells of neither: begin
    another one. While a record is made, no other thread should run the model.

    A run that is resumed may have another ``every``, which a note in the history says, while its facts keep the first
    one; another probe batch is refused. Running statistics of batches begin anew then: ``target_entropy`` is that of
    the targets since, ``batch_repetition`` does not know the batches before.

    Compiled models run as they are written while they are measured, so that nothing is compiled for it. Hooks see no
    batches inside what is compiled, be it the loop, the model in place (``model.compile()``) or what a Trainer makes
    of it with ``torch_compile=True``. A Trainer tells the losses it logs; else give what ``torch.compile`` returned as
    the model, or tell losses with :meth:`observe`.

    Of several processes the first one measures and writes, while the others wait at their next exchange of gradients;
    its losses and batches are those of the first process, its gradients those of all. In the others the history is
    empty. Models that are sharded over processes (FSDP, ZeRO 3, tensor parallelism) are refused.

    Examples
    --------
    >>> import torch
    >>> from infogeo_adapters import TrainingMonitor, load_model
    >>> found = load_model()
    >>> model, ids = found.model, torch.arange(64).reshape(2, 32)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    >>> with TrainingMonitor(
    ...     model, optimizer=optimizer, tokenizer=found.tokenizer, every=2, quantities=["probe_loss"]
    ... ) as monitor:
    ...     for _ in range(2):
    ...         loss = model(input_ids=ids, labels=ids).loss
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    >>> history = monitor.history()
    >>> history.steps, history.series("unmoved")[-1].tolist()
    ((0, 1, 2), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    """

    def __init__(
        self, model: torch.nn.Module | None = None, *, optimizer: Any = None, probe: Any = None, tokenizer: Any = None,
        every: int = 100, early: bool = True, folder: str | os.PathLike[str] | None = None, run_name: str | None = None,
        step: int = 0, blocks: Any = None, quantities: Sequence[str] | None = None, number_format: str | None = None,
        objective: Objective | None = None, texts: int = 16, tokens: int = 48, tensorboard: Any = None,
    ) -> None:
        self._settings = Settings(
            probe=probe, tokenizer=tokenizer, every=check_count("every", every, 1), early=check_flag("early", early),
            folder=None if folder is None else check_path("folder", folder), run_name=_name(run_name), blocks=blocks,
            quantities=quantities, number_format=number_format, objective=objective,
            texts=check_count("texts", texts, 1), tokens=check_count("tokens", tokens, 1),
        )
        self._step = check_count("step", step, 0)
        self._optimizers = optimizers_of(optimizer)
        self._model = model
        self._complained = self._by_trainer = False
        self._board = None if tensorboard is None else BoardWriter(tensorboard)
        self._core: MonitorCore | None = None
        if model is not None:
            self._core = MonitorCore(model, self._optimizers, self._settings, board=self._board)

    def __repr__(self) -> str:
        facts = None if self._core is None else self._core.facts
        return f"TrainingMonitor({'no model yet' if facts is None else facts.model}, every={self._settings.every})"

    # Plain torch

    def __enter__(self) -> TrainingMonitor:
        if self._core is None:
            raise ArgumentError(
                "model: found None; in plain torch give TrainingMonitor(model, optimizer=...) (in a Trainer of "
                "transformers use trainer.add_callback(...) and no with)"
            )
        if not self._optimizers:
            raise ArgumentError("optimizer: found None; give those that hold the parameters, by which steps count")
        if not _is_later_process():
            self._core.begin(self._step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Record the model as it is and take the hooks away; a second time does nothing.

        ``with`` and a Trainer that comes to its end do this themselves.
        """
        if self._core is not None and self._core.active:
            self._core.finish()

    def observe(self, loss: Any, *, step: int | None = None) -> None:
        """Tell the loss of a batch, where the model does not return it; before the step of the optimizer or after it.

        Parameters
        ----------
        loss : float or torch.Tensor
            One number; of several batches in a step the mean is taken.
        step : int, optional
            The step it is the loss of, if that is not the one that is being made or was just done.
        """
        if self._core is None or not self._core.active:
            return
        try:
            value = float(loss.detach() if hasattr(loss, "detach") else loss)
        except (TypeError, ValueError, RuntimeError) as error:
            if not self._complained:
                self._complained = True
                logger.warning("observe: the loss is not one number and is not recorded (%s); training goes on", error)
            return
        self._core.observe(value, step=step)

    def history(self) -> TrainingHistory:
        """What was recorded so far.

        Raises
        ------
        ArgumentError
            No model was given yet.
        """
        if self._core is None:
            raise ArgumentError("history: there is none yet; it begins when the Trainer begins to train")
        return self._core.history()

    # A Trainer of transformers

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the model's blocks, open the file, and record the model before the first step."""
        try:
            self._begin(args, int(state.global_step), measures=bool(state.is_world_process_zero), **kwargs)
        except InfogeoError:
            raise
        except Exception as error:
            self._core = None
            logger.warning(
                "the monitor cannot begin (%s: %s); training goes on without it", type(error).__name__, error,
                exc_info=error,
            )

    def _begin(self, args: Any, step: int, *, measures: bool, **kwargs: Any) -> None:
        model = kwargs.get("model") if self._model is None else self._model
        if model is None:
            raise ArgumentError("model: the Trainer gave none; give TrainingMonitor(model, ...)")
        optimizers = self._optimizers or optimizers_of(plain_optimizer(kwargs.get("optimizer")))
        if self._core is not None and self._core.active:  # a training that failed is tried again
            self._core.finish()
        if self._core is None or not self._by_trainer or not self._core.watches(model, optimizers):
            self._core = MonitorCore(
                model, optimizers, self._of_trainer(args, kwargs.get("processing_class")), by_hand=True,
                board=self._board, again=self._by_trainer and self._core is not None and self._core.wrote,
            )
            self._by_trainer = True
        if measures:
            self._core.begin(step)

    def _of_trainer(self, args: Any, tokenizer: Any) -> Settings:
        """The settings, with what a Trainer knows."""
        import dataclasses

        given = self._settings
        mixed = "float16" if getattr(args, "fp16", False) else "bfloat16" if getattr(args, "bf16", False) else None
        usable = tokenizer if hasattr(tokenizer, "convert_ids_to_tokens") else getattr(tokenizer, "tokenizer", None)
        return dataclasses.replace(
            given, tokenizer=usable if given.tokenizer is None else given.tokenizer,
            number_format=given.number_format or mixed,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the step, and record it if it is due."""
        if self._core is not None:
            self._core.step_done(int(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take the mean loss that the Trainer tells, where the model returns none."""
        step = int(state.global_step)
        if self._core is not None and logs and "loss" in logs and self._core.lacks_loss(step):
            self.observe(logs["loss"], step=step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the model at the end."""
        self.close()


def _is_later_process() -> bool:
    """Whether this is one of several processes that train together, and not the first."""
    import torch

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return together and torch.distributed.get_rank() > 0


def _name(value: str | None) -> str:
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"run_name: found {value!r}, wanted a text")
    return value or ""


def optimizers_of(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers, of one or several that may be wrapped.

    Raises
    ------
    ArgumentError
        One of them is none of torch.
    """
    import torch

    if given is None:
        return ()
    found = [plain_optimizer(one) for one in (given if isinstance(given, list | tuple) else [given])]
    for one in found:
        if not isinstance(one, torch.optim.Optimizer):
            raise ArgumentError(
                f"optimizer: found {type(one).__name__}, wanted a torch.optim.Optimizer or a list of these"
            )
    return tuple(dict.fromkeys(found))


def plain_optimizer(optimizer: Any) -> Any:
    """The optimizer of torch inside what accelerate wraps around it."""
    while hasattr(optimizer, "optimizer") and optimizer.optimizer is not optimizer:
        optimizer = optimizer.optimizer
    return optimizer
