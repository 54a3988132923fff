"""A model under examination, with the sample that is run and what several checks look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infogeo_adapters.transformers.alignment import check_text
from infogeo_adapters.transformers.forward import Item, prepare
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.readout import ReadOut, find_readout
from infogeo_adapters.transformers.replay import Run, run_noted
from infogeo_adapters.transformers.stack import Side, Stack, evaluating, find_stack

SAMPLE = "The old woman gave the hungry dog a bone, and it carried the bone to the river because it wasn't afraid."


@dataclass(frozen=True, eq=False)
class Patient:
    """A model under examination and the sample, ready to be run."""

    model: LanguageModel
    item: Item

    @property
    def net(self) -> Any:
        """The transformers object."""
        return self.model.model

    @property
    def sides(self) -> tuple[Side | None, ...]:
        """The stacks there are."""
        return ("encoder", "decoder") if self.net.config.is_encoder_decoder else (None,)

    @cached_property
    def stacks(self) -> Mapping[Side | None, Stack]:
        """What is known of each stack."""
        return {side: find_stack(self.net, side) for side in self.sides}

    @cached_property
    def readout(self) -> ReadOut:
        """The way to the logits, or its error."""
        return find_readout(self.model)

    @cached_property
    def run(self) -> Run:
        """One pass over the sample, noted from the last block on."""
        import torch

        ids = torch.as_tensor(self.item.tokens.ids, device=self.net.device)[None]
        with lock_of(self.net), evaluating(self.net):
            return run_noted(self.model, self.stacks[self.sides[-1]], ids)


def examine(model: LanguageModel, sample: str | None) -> Patient:
    """The model with its sample."""
    return Patient(model, prepare(model, check_text(SAMPLE if sample is None else sample), None, "truncate"))
