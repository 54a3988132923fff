"""How far the predictions read out of tokens' states move when a word is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo_adapters.transformers._removal_rows import Readings
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY, Projection, ReadOut, find_readout

if TYPE_CHECKING:
    import torch


def prediction_readout(model: LanguageModel) -> ReadOut:
    """The read-out of the stack that is run.

    Raises
    ------
    ModelError
        It has none: no head, or a head on the decoder of an encoder-decoder model, of which the encoder is run.
    """
    if model.kind == "encoder-decoder":
        raise ModelError(
            f"{model.name} predicts with its decoder, and words are taken away from what its encoder reads, which "
            "predicts nothing by itself; use distribution='states' or 'effects'"
        )
    return find_readout(model)


def moved_predictions(readout: ReadOut, readings: Readings) -> FloatArray:
    """Fisher-Rao distances (R, m, U) of the categorical distributions at each token, from 0 to pi.

    The readings of a layer are read out a few at a time, and no logits are kept.
    """
    import torch

    layers, count, units, _ = readings.without.shape
    found = np.empty((layers, count, units))
    with readout.session() as project:
        for r in range(layers):
            whole = _roots(project, torch.tensor(readings.whole[r]))
            size = max(1, int(MEMORY // (32 * whole.numel())))
            for start in range(0, count, size):
                states = torch.tensor(readings.without[r, start : start + size])
                roots = _roots(project, states.flatten(0, 1)).view(len(states), *whole.shape)
                half = (roots - whole).square_().sum(dim=-1).sqrt_() / 2
                found[r, start : start + size] = (4 * half.clamp(max=0.5**0.5).asin()).cpu().numpy()
    return found


def _roots(project: Projection, states: torch.Tensor) -> torch.Tensor:
    """Square roots of the predicted probabilities, (n, V) in float64."""
    logits = project(states).double()
    return (logits - logits.logsumexp(dim=-1, keepdim=True)).div_(2).exp_()
