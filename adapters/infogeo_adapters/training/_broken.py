"""Where NaN or infinity comes from: the first module that computes it on a batch, forward or backward."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo._checks import FloatArray
from infogeo_adapters.training._live_tokens import batch_of, ids_of
from infogeo_adapters.training._measure_pass import without_padding
from infogeo_adapters.training._measure_structure import logits_of
from infogeo_adapters.training.probe import IGNORED, Objective
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import of_this_thread

if TYPE_CHECKING:
    import torch

LOSS = "loss"
"""Stands for the name of a module where every module computes finite numbers, and the loss is none."""


@dataclass(frozen=True)
class LiveBatch:
    """A call of the model in training, to be made again."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    device: str
    autocast: Any
    """Number format of autocast, None if it was off."""


def live_batch(args: tuple[Any, ...], kwargs: dict[str, Any], device: str) -> LiveBatch:
    """A call as it is made now, with the number format it is made in."""
    import torch

    known = torch.amp.is_autocast_available(device)
    on = known and torch.is_autocast_enabled(device)
    return LiveBatch(args, kwargs, device, torch.get_autocast_dtype(device) if on else None)


def broken_forward(net: torch.nn.Module, batch: LiveBatch) -> str:
    """The first module without modules inside whose output is not finite on a batch.

    At tokens that are no padding, if there is such a module: often nobody reads what is computed of padding.
    """
    import torch

    found: list[str] = []
    anywhere: list[str] = []
    real = _real(batch)

    def look(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if found or not _broken(output):
                return
            anywhere.append(name)
            if real is None or _broken(_without_padding(output, real)):
                found.append(name)

        return of_this_thread(hook)

    with torch.no_grad(), _again(net, batch) as run:
        run(lambda name, module: module.register_forward_hook(look(name)))
    return (found or anywhere or [LOSS])[0]


def _real(batch: LiveBatch) -> torch.Tensor | None:
    """(texts, tokens) which are no padding, if the call tells."""
    import torch

    ids, mask = ids_of(batch.args, batch.kwargs), batch.kwargs.get("attention_mask")
    return mask.bool() if ids is not None and isinstance(mask, torch.Tensor) and mask.shape == ids.shape else None


def _without_padding(values: Any, real: torch.Tensor) -> list[Any]:
    import torch

    several = values if isinstance(values, tuple | list) else (values,)
    return [without_padding(one, real) if isinstance(one, torch.Tensor) else one for one in several]


def broken_backward(net: torch.nn.Module, batch: LiveBatch, objective: Objective) -> str | None:
    """The first module, on the way back from the loss, that passes on a gradient that is not finite.

    If it did not come from a module, the one whose output got it. None if the gradients are finite this time, or the
    loss of the batch is unknown.
    """
    import torch

    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: Any, given: Any, got: Any) -> None:
            if not found and (_broken(given) or _broken(got)):
                found.append(name)

        return hook

    with torch.enable_grad(), _again(net, batch) as run:
        output = run(lambda name, module: module.register_full_backward_hook(look(name)))
        loss = loss_in(output)
        if loss is None:
            loss = _loss_from(output, batch, objective)
        if loss is None or not loss.requires_grad:
            return None
        wanted = [p for p in net.parameters() if p.requires_grad]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says of embeddings that their input has no gradient
            torch.autograd.grad(loss, wanted, allow_unused=True)
    return found[0] if found else None


def last_broken(names: list[str], norms: FloatArray) -> str:
    """The last module, in the order of the parameters, of which some gradient is not finite.

    Gradients come from the end, and what is not finite stays so on its way to the beginning.
    """
    broken = [name for name, norm in zip(names, norms, strict=True) if not norm < float("inf")]
    return broken[-1].rpartition(".")[0] or broken[-1]


def loss_in(output: Any) -> torch.Tensor | None:
    """The loss among what a model returned: a tensor with one number."""
    import torch

    if isinstance(output, torch.Tensor):
        found: Any = output
    elif hasattr(output, "keys"):
        found = output["loss"] if "loss" in output.keys() else None  # noqa: SIM118  # outputs of transformers
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    else:
        found = getattr(output, "loss", None)
    return found if isinstance(found, torch.Tensor) and found.ndim == 0 and found.is_floating_point() else None


def _loss_from(output: Any, batch: LiveBatch, objective: Objective) -> torch.Tensor | None:
    """Mean cross-entropy of the targets that the call tells."""
    import torch

    ids = ids_of(batch.args, batch.kwargs)
    targets = None if ids is None else batch_of(ids, batch.kwargs, objective).targets
    if ids is None or targets is None:
        return None
    logits = logits_of(output, (int(ids.shape[0]), int(ids.shape[1])))
    if logits is None:
        return None
    logits = logits[:, : targets.shape[1]]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten().long(), ignore_index=IGNORED
    )


def _broken(values: Any) -> bool:
    """Whether a tensor, or one of several, has a number that is not finite."""
    import torch

    return any(
        isinstance(one, torch.Tensor) and one.is_floating_point() and not bool(torch.isfinite(one.detach()).all())
        for one in (values if isinstance(values, tuple | list) else (values,))
    )


@contextlib.contextmanager
def _again(net: torch.nn.Module, batch: LiveBatch) -> Iterator[Any]:
    """The call as a function of what sets a hook on a module, which is done on those without modules inside."""
    import torch

    modes = [(module, module.training) for module in net.modules()]
    devices = [p.device for p in net.parameters() if p.device.type == "cuda"][:1]
    handles: list[Any] = []

    def run(hook: Any) -> Any:
        handles.extend(hook(n, m) for n, m in net.named_modules() if next(m.children(), None) is None)
        return net(*batch.args, **batch.kwargs)

    with lock_of(net), torch.random.fork_rng(devices=devices), contextlib.ExitStack() as scope:
        try:
            net.eval()
            if torch.amp.is_autocast_available(batch.device):
                scope.enter_context(torch.autocast(
                    batch.device, dtype=batch.autocast, enabled=batch.autocast is not None, cache_enabled=False
                ))
            yield run
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes:
                module.training = mode
