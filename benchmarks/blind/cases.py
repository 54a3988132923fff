"""Faults as they happen to people, what would be a right diagnosis of each, and healthy runs.

The expectations were written before any of these runs was looked at with :func:`infogeo.diagnose`, by somebody who knew
the names and titles of the rules and nothing else of them; ``gradients_kept``, a rule that the first measurement had
shown to be wanting, was added to one of them later. ``right`` are rules any of which would be a right diagnosis; where
it is empty no rule is meant for the fault. ``relevant`` are those that would at least point the right way.

Accounts that stood behind several of them: A. Karpathy, "A Recipe for Training Neural Networks" (2019);
huggingface/transformers #31673 and pytorch/tutorials #640; pytorch/pytorch #86274, #72253; espnet/espnet #1278;
huggingface/trl #1625; determined-ai/determined #711; google-research/bert #306; AnswerDotAI/ModernBERT #96;
pytorch/ao #1124.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from blind.settings import Batch, Training

REFUSED = "refused"
"""In place of a rule: the monitor would not start, and said why."""


@dataclass(frozen=True)
class Case:
    """One run: a setting, what is done to it, and what should be said."""

    name: str
    setting: str
    change: Callable[[Training], None]
    healthy: bool
    right: tuple[str, ...] = ()
    relevant: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What happened, in words."""
        return " ".join((self.change.__doc__ or "").split())


CASES: dict[str, Case] = {}


def _put(setting: str, healthy: bool, right: str, relevant: str) -> Callable[[Callable[[Training], None]], Any]:
    def put(change: Callable[[Training], None]) -> Callable[[Training], None]:
        name = f"{setting}: {change.__name__.replace('_', ' ')}"
        CASES[name] = Case(name, setting, change, healthy, tuple(right.split()), tuple(relevant.split()))
        return change

    return put


def fault(setting: str, *, right: str = "", relevant: str = "") -> Callable[[Callable[[Training], None]], Any]:
    """Enter a fault into :data:`CASES`."""
    return _put(setting, False, right, relevant)


def healthy(setting: str) -> Callable[[Callable[[Training], None]], Any]:
    """Enter a healthy run into :data:`CASES`."""
    return _put(setting, True, "", "")


def own_loss(t: Training, of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """The loss is computed from scores and labels outside the model."""

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        given = {name: values for name, values in batch.items() if name != "labels"}
        return of(model(**given).logits, batch["labels"])

    t.loss = loss
