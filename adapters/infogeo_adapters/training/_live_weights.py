"""Gradients and weights of a model by block, and what a step of the optimizer does to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Update:
    """What a step did."""

    ratio: FloatArray
    """(L) norm of the change over the norm of the weights before."""
    unmoved: FloatArray
    """(L) share of the tensors that are as they were."""
    names: tuple[str, ...]
    """Tensors of the whole model that are as they were."""


class WeightWatch:
    """Norms of gradients, weights and their changes by block.

    Parameters
    ----------
    net : torch.nn.Module
    blocks : sequence of modules
        The module of each block; one module may be several blocks.
    """

    def __init__(self, net: torch.nn.Module, blocks: Sequence[torch.nn.Module]) -> None:
        named = [(name, p) for name, p in net.named_parameters() if p.is_floating_point()]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self._place = {id(p): i for i, p in enumerate(self.parameters)}
        self._members = [
            np.array(sorted(self._place[id(p)] for p in block.parameters() if id(p) in self._place), dtype=np.int64)
            for block in blocks
        ]
        self._before: list[torch.Tensor] | None = None

    def places(self, optimizer: torch.optim.Optimizer) -> list[int]:
        """Numbers of the parameters that an optimizer holds."""
        held = (p for group in optimizer.param_groups for p in group["params"])
        return [self._place[id(p)] for p in held if id(p) in self._place]

    def gradient_norms(self, places: Sequence[int], scale: float = 1.0) -> FloatArray:
        """Norm of the gradient of each of these parameters, over a scale; zero where there is no gradient."""
        found = np.zeros(len(places))
        with_gradient = [(k, g) for k, i in enumerate(places) if (g := self.parameters[i].grad) is not None]
        if with_gradient:
            found[[k for k, _ in with_gradient]] = _norms(g for _, g in with_gradient) / scale
        return found

    def by_block(self, norms: FloatArray) -> FloatArray:
        """(L) norms of blocks from those of all parameters."""
        with np.errstate(over="ignore"):
            return np.array([np.sqrt(np.sum(norms[members] ** 2)) for members in self._members])

    def weight_norms(self) -> FloatArray:
        """(L) norms of the weights of blocks."""
        return self.by_block(_norms(self.parameters))

    def keep(self) -> None:
        """Copy the weights, to see afterwards what a step does."""
        self._before = [p.detach().clone() for p in self.parameters]

    def drop(self) -> None:
        """Forget the copy."""
        self._before = None

    def update(self) -> Update | None:
        """What became of the weights since they were copied, None if they were not; the copy is given up."""
        import torch

        before, self._before = self._before, None
        if before is None:
            return None
        same = np.array([torch.equal(p.detach(), old) for p, old in zip(self.parameters, before, strict=True)])
        changes = _norms(
            p.detach().float() - old.float() for p, old in zip(self.parameters, before, strict=True)
        )
        with np.errstate(all="ignore"):
            ratio = self.by_block(changes) / self.by_block(_norms(before))
        return Update(
            ratio=ratio,
            unmoved=np.array([same[members].mean() if len(members) else np.nan for members in self._members]),
            names=tuple(name for name, still in zip(self.names, same, strict=True) if still),
        )


def _norms(tensors: Iterable[torch.Tensor]) -> FloatArray:
    """Euclidean norm of each tensor, in float32 or finer, with one transfer from a device."""
    import torch

    values = [t.detach().coalesce().values() if t.is_sparse else t.detach() for t in tensors]
    if not values:
        return np.zeros(0)
    if len({(v.device, v.dtype) for v in values}) == 1:
        found = list(torch._foreach_norm(values, 2.0, dtype=_wide(values[0].dtype)))
    else:
        found = [torch.linalg.vector_norm(v, dtype=_wide(v.dtype)).cpu() for v in values]
    return np.asarray(torch.stack([norm.double() for norm in found]).cpu().numpy(), dtype=np.float64)


def _wide(dtype: torch.dtype) -> torch.dtype:
    import torch

    return torch.float64 if dtype == torch.float64 else torch.float32
