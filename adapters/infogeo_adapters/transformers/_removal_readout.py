"""How far the predictions read out of tokens' states move when a word is taken away."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo_adapters.transformers._removal_rows import States
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
    if not model.has_head:
        raise ModelError(f"{model.name} has no head and predicts no tokens, so nothing can be read out of its layers")
    return find_readout(model)


def moved_predictions(readout: ReadOut, whole: States, without: States, *, memory: float = MEMORY) -> FloatArray:
    """Fisher-Rao distances (R, k, U) of the categorical distributions at each token, from 0 to pi.

    Parameters
    ----------
    readout : ReadOut
    whole : array, shape (R, U, d)
        States of the tokens in the whole text.
    without : array, shape (R, k, U, d)
        The same in k readings; where they are NaN, so is the distance.
    memory : float
        Bytes that the probabilities of one chunk of tokens and readings, and their work space, may take.
    """
    import torch

    layers, count, units, _ = without.shape
    found = np.empty((layers, count, units))
    if not found.size:
        return found
    with readout.session() as project:
        vocabulary = project(torch.tensor(whole[0, :1])).shape[-1]
        room = max(1, int(memory // (32 * vocabulary)))
        size = max(1, room // units)
        for r, first in product(range(layers), range(0, units, room)):
            mine = slice(first, first + room)
            here = _roots(project, torch.tensor(whole[r, mine]))
            for start in range(0, count, size):
                states = torch.tensor(without[r, start : start + size, mine])
                roots = _roots(project, states.flatten(0, 1)).view(len(states), *here.shape)
                half = (roots - here).square_().sum(dim=-1).sqrt_() / 2
                found[r, start : start + size, mine] = (4 * half.clamp(max=0.5**0.5).asin()).cpu().numpy()
    return found


def _roots(project: Projection, states: torch.Tensor) -> torch.Tensor:
    """Square roots of the predicted probabilities, (n, V) in float64."""
    logits = project(states).double()
    return (logits - logits.logsumexp(dim=-1, keepdim=True)).div_(2).exp_()
