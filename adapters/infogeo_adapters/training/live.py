"""What is seen of training as it goes: losses, gradients, steps and batches, by hooks on model and optimizers."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from infogeo._checks import FloatArray
from infogeo_adapters.training._broken import LiveBatch, live_batch, loss_in
from infogeo_adapters.training._live_tokens import TokenStatistics
from infogeo_adapters.training._live_weights import Update, WeightWatch
from infogeo_adapters.training.probe import bare

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.training.probe import Objective

Pass = Literal["forward", "backward"]


class Listener(Protocol):
    """Who is told of what is seen."""

    def due(self, step: int) -> bool:
        """Whether a step is to be recorded."""
        ...

    def stepped(self, step: int) -> None:
        """A step is done."""
        ...

    def broken(self, where: Pass) -> None:
        """A loss or gradient is not finite; the weights are still those it was computed with."""
        ...


class LiveWatch:
    """Hooks on a model and its optimizers, and what they see of each step.

    A step is done when every optimizer has stepped; with several of which only some step, when the first of them steps
    again or the next batch comes. Calls of the model outside of training mode, without gradients, or by another thread
    than the one that steps, where that one calls it too, are none of training.

    Parameters
    ----------
    outer : torch.nn.Module
        What training calls: the model, perhaps compiled.
    weights : WeightWatch
    optimizers : sequence of torch.optim.Optimizer
    objective : str
        What the model learns.
    device : str
        Type of the device it is on.
    step : int
        Steps done before.
    listener : Listener
    guard : callable
        Wraps each hook, so that what fails in it does not reach training.
    by_hand : bool
        Whether :meth:`close` is called at the end of each step by who trains; else the optimizers tell.
    """

    def __init__(
        self, outer: torch.nn.Module, weights: WeightWatch, optimizers: Sequence[torch.optim.Optimizer], *,
        objective: Objective, device: str, step: int, listener: Listener,
        guard: Callable[[Callable[..., None]], Callable[..., None]], by_hand: bool = False,
    ) -> None:
        self.done = step
        self.busy = False
        """Set while the model is run for measuring, of which the hooks take no notice."""
        self.batch: LiveBatch | None = None
        self.losses: dict[int, float] = {}
        """Loss of each step since :meth:`values` was asked for last."""
        self.last_loss = step
        """The last step whose loss is known."""
        self.skipped = 0
        """Batches since then whose gradients were given up without a step."""
        self._outer, self._weights, self._optimizers, self._listener = outer, weights, tuple(optimizers), listener
        self._device, self._by_hand, self._guard = device, by_hand, guard
        self._tokens = TokenStatistics(objective)
        self._handles: list[Any] = []
        self._retired = False
        self._callers: set[threading.Thread] = set()
        self._stepper: threading.Thread | None = None
        self._first, self._heard = step, False
        self._told_before: bool | None = None
        self._norms = np.zeros(len(weights.parameters))
        self._rates: list[float] = []
        self._measured = self._cleared_due = False
        self._begun = self._carried = 0
        self._update: Update | None = None
        self._trouble = self._troubled = False
        self._fresh()

    def _fresh(self) -> None:
        self._seen: list[float] = []
        self._told: list[float] = []
        self._summed = False
        self._forwards = 0
        self._backward = False
        self._stepped: set[int] = set()
        self._stepping: int | None = None
        self.batch = None

    # Hooks

    def attach(self) -> None:
        """Set the hooks."""
        guard, handles = self._guard, self._handles
        entered = guard(self._enter)

        def enter(*given: Any) -> None:
            if self._retired:
                self.detach()
            else:
                entered(*given)

        handles.append(self._outer.register_forward_pre_hook(ModelHook(enter), with_kwargs=True))
        handles.append(self._outer.register_forward_hook(ModelHook(guard(self._leave)), with_kwargs=True))
        for optimizer in self._optimizers:
            handles.append(optimizer.register_step_pre_hook(_uncompiled(guard(self._before_step))))
            handles.append(optimizer.register_step_post_hook(_uncompiled(guard(self._after_step))))
        self._witness = self._smallest()
        if self._witness is not None:
            went_back = guard(self._went_back)
            handles.append(self._witness.register_post_accumulate_grad_hook(went_back))  # type: ignore[no-untyped-call]
            handles.append(self._witness.register_hook(guard(self._goes_back)))  # type: ignore[no-untyped-call]

    def detach(self) -> None:
        """Take the hooks away; a second time does nothing."""
        while self._handles:
            self._handles.pop().remove()
        self._weights.drop()
        self.batch = None

    def retire(self) -> None:
        """Give everything up; hooks go when the model is called next, since optimizers cannot lose them in a step."""
        self._retired = True
        self._weights.drop()
        self.batch = None

    def _smallest(self) -> torch.Tensor | None:
        """The smallest parameter that learns, by which it is told whether a backward pass was made."""
        learning = [p for i in self._held() if (p := self._weights.parameters[i]).requires_grad and p.is_leaf]
        return min(learning, key=lambda p: p.numel(), default=None)

    def _holds_witness(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(self._weights.parameters[i] is self._witness for i in self._weights.places(optimizer))

    def _held(self) -> list[int]:
        """Numbers of the parameters that some optimizer holds."""
        return sorted({i for optimizer in self._optimizers for i in self._weights.places(optimizer)})

    def _of_training(self, module: torch.nn.Module) -> bool:
        import torch

        if self.busy or not torch.is_grad_enabled() or not bare(module).training:
            return False
        stepper = self._stepper
        mine = stepper is None or stepper is threading.current_thread()
        return mine or stepper not in self._callers or not stepper.is_alive()

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._of_training(module):
            return
        self._callers.add(threading.current_thread())
        if self._stepped and not self._by_hand and self._stepping is None:
            self.close()
        if self._given_up():
            self.skipped += 1
            self._fresh()
        self._heard = True
        self._forwards += 1
        self.batch = live_batch(args, kwargs, self._device)
        self._tokens.see(args, kwargs)

    def _leave(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._of_training(module):
            return
        loss = loss_in(output)
        if loss is not None:
            self._summed = kwargs.get("num_items_in_batch") is not None
            self._seen.append(float(loss.detach()))
            self._look(self._seen[-1])

    def _went_back(self, parameter: Any) -> None:
        self._backward = self._backward or not self.busy

    def _goes_back(self, gradient: Any) -> None:
        """A gradient is about to be added to what is there: nothing, if that was cleared since the last step."""
        if self.busy or not self._cleared_due or self._witness is None:
            return
        before = self._witness.grad
        self._begun += 1
        self._carried += before is not None and bool(before.any())
        self._cleared_due = False

    def _given_up(self) -> bool:
        """Whether a backward pass was made whose gradients are gone without a step."""
        if not self._backward or self._stepped or self._witness is None or self._by_hand or self._stepping is not None:
            return False
        gradients = (self._weights.parameters[i].grad for i in self._held())
        return not any(gradient is not None and bool(gradient.any()) for gradient in gradients)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._stepper = threading.current_thread()
        if id(optimizer) in self._stepped and not self._by_hand:
            self.close()
        if not self._stepped:
            self._norms = np.zeros(len(self._weights.parameters))
            self._rates, self._measured = [], False
            if self._listener.due(self.done + 1):
                self._weights.keep(self._held())
        self._stepping = self._forwards
        self._rates.append(_rate(optimizer))
        scale = getattr(optimizer, "grad_scale", None)
        places = self._weights.places(optimizer)
        self._norms[places] = self._weights.gradient_norms(places, 1.0 if scale is None else float(_number(scale)))
        self._measured = True
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and bool(_number(found_inf)):
            self.skipped += 1
            self._weights.drop()
        elif not np.isfinite(self._norms[places]).all():
            self._report("backward")

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._stepping is not None and self._forwards > self._stepping:  # it got its gradient from a closure
            places = self._weights.places(optimizer)
            self._norms[places] = self._weights.gradient_norms(places)
        self._stepping = None
        self._cleared_due = self._cleared_due or self._holds_witness(optimizer)
        self._stepped.add(id(optimizer))
        if not self._by_hand and len(self._stepped) == len(self._optimizers):
            self.close()

    # Steps and losses

    def observe(self, loss: float, *, step: int | None = None) -> None:
        """Take the loss of a batch, which whoever trains knows."""
        if step is not None or self._after_the_step():
            self._settle(self.done if step is None else step, loss)
        else:
            self._told.append(loss)
        self._look(loss)

    def _after_the_step(self) -> bool:
        """Whether a loss that is told now is that of the step just done."""
        if self._heard:
            return self._forwards == 0 and self.done > self._first
        if self._told_before is None:
            self._told_before = self.done == self._first
        return not self._told_before

    def _look(self, loss: float) -> None:
        if not math.isfinite(loss):
            self._report("forward")

    def _report(self, where: Pass) -> None:
        self._trouble = True
        if not self._troubled:
            self._troubled = True
            self._listener.broken(where)

    def close(self, step: int | None = None) -> None:
        """A step is done; its number is one more than before if none is given."""
        if self._by_hand and self._optimizers and not self._stepped:
            self.skipped += 1
            self._weights.drop()
            self._measured = False
        self.done = self.done + 1 if step is None else step
        losses = self._told or self._seen
        if losses:
            whole = sum(losses)
            self._settle(self.done, whole if self._summed and not self._told else whole / len(losses))
        self._update = self._weights.update()
        self._troubled, self._trouble = self._trouble, False
        self._fresh()
        self._listener.stepped(self.done)

    def _settle(self, step: int, loss: float) -> None:
        self.losses[step] = loss
        self.last_loss = max(self.last_loss, step)

    @property
    def deaf(self) -> bool:
        """Whether steps were done, and neither a batch of training nor a loss was seen."""
        return self.done > self._first and not self._heard and self.last_loss == self._first

    @property
    def unmoved(self) -> tuple[str, ...]:
        """Tensors that the last step left as they were, if it was watched."""
        return () if self._update is None else self._update.names

    @property
    def norms(self) -> FloatArray:
        """Norm of the gradient of each parameter, as the optimizer got it last."""
        return self._norms

    def values(self) -> tuple[dict[str, FloatArray], dict[int, float]]:
        """The live quantities now, and the losses since the last call."""
        losses, self.losses = self.losses, {}
        found: dict[str, Any] = {"weight_norm": self._weights.weight_norms()}
        if losses:
            each = np.array(list(losses.values()))
            found |= {"loss": each.mean(), "loss_lowest": each.min(), "loss_highest": each.max()}
        rates = self._rates or [_rate(optimizer) for optimizer in self._optimizers]
        if rates:
            found["learning_rate"] = max(rates)
        if self._measured:
            with np.errstate(over="ignore"):
                found["gradient_norm"] = np.sqrt(np.sum(self._norms ** 2))
            found["gradient_norm_block"] = self._weights.by_block(self._norms)
        if self._update is not None:
            found |= {"update_ratio": self._update.ratio, "unmoved": self._update.unmoved}
        if self._begun:
            found["gradient_carryover"] = self._carried / self._begun
        self._begun = self._carried = 0
        found |= {"target_entropy": self._tokens.entropy(), "batch_repetition": self._tokens.repetition(),
                  "answer_shown": self._tokens.shown()}
        return {k: np.asarray(v, dtype=np.float64) for k, v in found.items() if v is not None}, losses


def _rate(optimizer: torch.optim.Optimizer) -> float:
    """The largest learning rate of the groups."""
    return max(float(_number(group.get("lr", math.nan))) for group in optimizer.param_groups)


def _number(value: Any) -> Any:
    """A number out of a tensor, or of a scaler of gradients."""
    if hasattr(value, "get_scale"):
        return value.get_scale()
    return value.item() if hasattr(value, "item") else value


class ModelHook:
    """A hook on the model, which is nothing to a compiler that traces it, and nothing on a copy of the model.

    So that a model can be copied and saved while it is watched, what is put in the place of the hook is a callable of
    the standard library that does nothing; it can be loaded where there is no infogeo.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *given: Any) -> None:
        import torch

        if not torch.compiler.is_compiling():
            self._function(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _uncompiled(hook: Callable[..., None]) -> Callable[..., None]:
    """The hook on an optimizer, run as it is where a compiler traces the step."""
    import torch

    found: Callable[..., None] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return found
