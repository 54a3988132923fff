"""Fisher information of what a word's state stands for, as squared lengths of small moves of the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from infogeo._checks import FloatArray
from infogeo.background import Background, ShrinkageRule
from infogeo.influence import EffectsBackground, whitened_lengths, whitening_factors
from infogeo_adapters.transformers._local_tangents import Differentiation, differentiable, transposed_twice
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY, Projection, find_readout

if TYPE_CHECKING:
    import torch

Distribution = Literal["states", "effects", "unit", "readout"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("states", "effects", "unit", "readout")


class Metric(Protocol):
    """Fisher information at the states of words, one matrix for each word."""

    def squares(
        self, layer: int, states: FloatArray, moves: FloatArray, differentiation: Differentiation
    ) -> FloatArray:
        """Squared Fisher lengths (K, n) of moves (K, n, d) of the states (n, d) of n words at a layer."""


class NormalMetric:
    """Of normals about the states with one covariance: the inverse of the covariance, at every state the same.

    Parameters
    ----------
    background : Background or EffectsBackground
        Covariances, one for each layer.
    layers : sequence of int
        Those that are needed.
    shrinkage : float or function
    """

    def __init__(
        self, background: Background | EffectsBackground, layers: tuple[int, ...], shrinkage: float | ShrinkageRule
    ) -> None:
        found = {layer: background.shrunk_covariance(layer, shrinkage=shrinkage) for layer in layers}
        self.intensities: Mapping[int, float] = {layer: intensity for layer, (_, intensity) in found.items()}
        factors = whitening_factors(np.stack([covariance for covariance, _ in found.values()]))
        self._factors = dict(zip(found, factors, strict=True))

    def squares(
        self, layer: int, states: FloatArray, moves: FloatArray, differentiation: Differentiation
    ) -> FloatArray:
        """As :meth:`Metric.squares`."""
        return np.asarray(whitened_lengths(moves[None], self._factors[layer][None])[0] ** 2)


class UnitMetric:
    """Of normals about the states whose covariance is the identity."""

    def squares(
        self, layer: int, states: FloatArray, moves: FloatArray, differentiation: Differentiation
    ) -> FloatArray:
        """As :meth:`Metric.squares`."""
        return np.asarray((moves**2).sum(axis=-1))


class ReadOutMetric:
    r"""Of the categorical distributions read out at the states: :math:`H^\top (\mathrm{diag}(p) - p p^\top) H`.

    H is the Jacobian of the read-out (final norm, unembedding) at the state. Moves are carried through it one by one,
    and no matrix is formed: the square is the variance of the change of the logits under p.

    Parameters
    ----------
    model : LanguageModel
    memory : float
        Bytes that the logits of one chunk and their work space may take.
    """

    def __init__(self, model: LanguageModel, *, memory: float = MEMORY) -> None:
        self._model, self._memory = model, memory
        self._readout = find_readout(model)

    def squares(
        self, layer: int, states: FloatArray, moves: FloatArray, differentiation: Differentiation
    ) -> FloatArray:
        """As :meth:`Metric.squares`."""
        import torch

        dtype, device = getattr(torch, self._readout.dtype), self._model.model.device
        at = np.broadcast_to(states, moves.shape).reshape(-1, moves.shape[-1])
        along = moves.reshape(at.shape)
        found = np.empty(len(at))
        start, size = 0, 1
        with self._readout.session() as project, differentiable(self._model, differentiation):
            while start < len(at):
                part = slice(start, min(start + size, len(at)))
                x, v = (torch.tensor(a[part], dtype=dtype, device=device) for a in (at, along))
                logits, change = _along(project, x, v, differentiation)
                found[part] = _variance(logits.double(), change.double()).cpu().numpy()
                start, size = part.stop, max(1, int(self._memory // (64 * logits.shape[1])))
        return found.reshape(moves.shape[:-1])


def _along(
    project: Projection, x: torch.Tensor, v: torch.Tensor, differentiation: Differentiation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (k, V) of states, and their derivative along v."""
    import torch

    dual: Any = torch.autograd.forward_ad
    if differentiation == "forward":
        with dual.dual_level():
            found = dual.unpack_dual(project(dual.make_dual(x, v)))
            moved = torch.zeros_like(found.primal) if found.tangent is None else found.tangent
            return found.primal.clone(), moved.clone()
    with torch.enable_grad():
        leaf = x.requires_grad_()
        logits = project(leaf)
        return logits.detach(), transposed_twice([logits], leaf, v)[0]


def _variance(logits: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Of a change of logits (k, V) under their softmax: its product with diag(p) - p p^T and itself."""
    p = logits.softmax(-1)
    centered = change - (p * change).sum(-1, keepdim=True)
    return (p * centered**2).sum(-1)


def plain(value: Any) -> FloatArray:
    """A tensor as float64 array on the host."""
    array: FloatArray = value.detach().cpu().double().numpy()
    return array
