"""The way from the last block of a model to its logits, found by running it, and checked on another text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infogeo.errors import ModelError
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.replay import (
    OWN,
    Run,
    Scaling,
    Step,
    find_bias,
    find_path,
    find_scalings,
    ordinary_ids,
    replay,
    run_noted,
)
from infogeo_adapters.transformers.stack import Stack, evaluating
from infogeo_adapters.transformers.widening import UNQUANTIZED, quantized, widened

if TYPE_CHECKING:
    import torch

EXACT = 4
"""The replay may differ from the model's logits by this many units of rounding of the largest logit."""
CLOSE = 8
"""The same for the replay in float32 of a model that computes in half precision, in the model's units of rounding."""

ELSE = f"; something else happens on the way, so pass {OWN}"
"""What to do about a read-out that misses something."""



@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """The way from the last block to the logits."""

    steps: tuple[Step, ...]
    after: dict[str, Scaling]
    """What is done to the logits after the last module, by name."""
    difference: float
    """Largest difference to the model's own logits, in the model's format."""
    quantized: tuple[str, ...]
    """Modules on the way whose weights are quantized."""


def search(model: LanguageModel, stack: Stack, dtype: torch.dtype) -> Found:
    """The way to the logits, replayed in the model's format and in another on a text it was not found on.

    Parameters
    ----------
    model : LanguageModel
        Its lock is held by the caller.
    stack : Stack
        The one that predicts.
    dtype : torch.dtype
        What to read out in, as wide as the model's or wider.

    Returns
    -------
    Found

    Raises
    ------
    ModelError
        There is no head that predicts tokens, or the replay differs from the model's logits.
    """
    import torch

    net = model.model
    ids = ordinary_ids(model)
    with evaluating(net):
        steps = find_path(model, run_noted(model, stack, ids))
        check = run_noted(model, stack, torch.cat([ids.flip(1), ids[:, 1:3]], dim=1))
        # some models hand their logits over in float32 whatever they compute in
        rounding = max(torch.finfo(net.dtype).eps, torch.finfo(check.logits.dtype).eps)
        unit = rounding * max(1.0, float(check.logits.abs().max()))
        difference, after = _fitting(model, steps, check)
        _accept(model, steps, difference, EXACT * unit)
        packed = quantized(steps)
        if packed or dtype != net.dtype:
            ready = widened(steps, net.dtype, dtype)
            states = check.states.to(dtype)
            again = functools.partial(replay, ready.steps, tuple(after.values()), states, ready.weights)
            wide = _difference(model, steps, again, check.logits)
            advice = f"; its weights are quantized ({', '.join(packed)}): {UNQUANTIZED}" if packed else ELSE
            _accept(model, steps, wide, CLOSE * unit, advice)
    return Found(steps=steps, after=after, difference=difference, quantized=packed)


def is_current(net: torch.nn.Module, steps: tuple[Step, ...]) -> bool:
    """Whether the modules on the way are those of the model still; resizing the vocabulary makes a new head."""
    try:
        return all(net.get_submodule(step.name) is step.call for step in steps)
    except AttributeError:
        return False


def _fitting(model: LanguageModel, steps: tuple[Step, ...], check: Run) -> tuple[float, dict[str, Scaling]]:
    """What is done to the logits after the last module, and the difference that is left.

    Some models name a scaling in their config and do not apply it, so what fits is measured.
    """
    tried: list[tuple[float, dict[str, Scaling]]] = []
    for after in find_scalings(model.model.config.get_text_config()):
        replayed = functools.partial(replay, steps, tuple(after.values()), check.states, None)
        tried.append((_difference(model, steps, replayed, check.logits), after))
        bias = find_bias(model, replayed(), check.logits)
        if bias:
            biased = {**after, **bias}
            replayed = functools.partial(replay, steps, tuple(biased.values()), check.states, None)
            tried.append((_difference(model, steps, replayed, check.logits), biased))
    return min(tried, key=lambda t: t[0])


def _difference(
    model: LanguageModel, steps: tuple[Step, ...], replayed: Callable[[], torch.Tensor], logits: torch.Tensor
) -> float:
    """Largest difference between the logits of a replay and the model's own; infinite for another shape or NaN."""
    try:
        found = replayed()
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(
            f"the read-out found for {_shown(model, steps)} cannot be replayed on another text "
            f"({type(error).__name__}: {error}); load the model with dtype='float32' if it computes in half precision, "
            f"or pass {OWN}"
        ) from error
    if found.shape != logits.shape:
        return float("inf")
    difference = float((found.cpu().double() - logits.cpu().double()).abs().max())
    return difference if difference == difference else float("inf")


def _accept(
    model: LanguageModel, steps: tuple[Step, ...], difference: float, allowed: float,
    advice: str = ELSE,
) -> None:
    if not difference <= allowed:
        raise ModelError(
            f"the read-out found for {_shown(model, steps)} does not give the model's own logits: they differ by up "
            f"to {difference:.3g}, allowed is {allowed:.3g}{advice}"
        )


def _shown(model: LanguageModel, steps: tuple[Step, ...]) -> str:
    return f"{model.name} ({type(model.model).__name__}: {', '.join(s.name for s in steps)})"
