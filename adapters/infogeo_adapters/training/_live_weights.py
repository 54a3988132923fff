"""Gradients and weights of a model by block, and what a step of the optimizer does to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray

if TYPE_CHECKING:
    import torch

PIECE = 1 << 20
"""Numbers whose change is computed at a time."""


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
        self._before: dict[int, torch.Tensor] | None = None

    def exchanged(self, net: torch.nn.Module) -> str | None:
        """What became of the first parameter of the model that is not the tensor it was at first; None if all are."""
        now = {name: p for name, p in net.named_parameters() if p.is_floating_point()}
        known = dict(zip(self.names, self.parameters, strict=True))
        for name in {**known, **now}:
            if now.get(name) is not known.get(name):
                what = "is gone" if name not in now else "is new" if name not in known else "is another tensor now"
                return f"its parameter {name} {what}"
        return None

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

    def keep(self, places: Iterable[int]) -> None:
        """Copy these parameters, those that a step may change, to see afterwards what it does to them."""
        self._before = {i: self.parameters[i].detach().clone() for i in places}

    def drop(self) -> None:
        """Forget the copy."""
        self._before = None

    def update(self) -> Update | None:
        """What became of the weights since they were copied, None if they were not; the copy is given up.

        Parameters that were not copied are as they were.
        """
        before, self._before = self._before, None
        if before is None:
            return None
        lengths = _norms(before.get(i, p) for i, p in enumerate(self.parameters))
        same, changes = np.ones(len(self.parameters), dtype=np.bool_), np.zeros(len(self.parameters))
        for i in sorted(before):
            same[i], changes[i] = _change(self.parameters[i].detach(), before.pop(i))
        with np.errstate(all="ignore"):
            ratio = self.by_block(changes) / self.by_block(lengths)
        return Update(
            ratio=ratio,
            unmoved=np.array([same[members].mean() if len(members) else np.nan for members in self._members]),
            names=tuple(name for name, still in zip(self.names, same, strict=True) if still),
        )


def _change(new: torch.Tensor, old: torch.Tensor) -> tuple[bool, float]:
    """Whether a tensor is as it was, and the norm of its change, which is NaN if it has another shape.

    The difference is taken of a few rows at a time, so that it needs next to no memory.
    """
    import torch

    if old.shape != new.shape or old.device != new.device:
        return False, float("nan")
    if torch.equal(old, new):
        return True, 0.0
    wide = _wide(new.dtype)
    parts = [torch.linalg.vector_norm(a.to(wide) - b.to(wide)).double() for a, b in _pieces(new, old)]
    return False, float(torch.linalg.vector_norm(torch.stack(parts)))


def _pieces(new: torch.Tensor, old: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two tensors of one shape as views of a few rows each."""
    if new.ndim == 0:
        return [(new, old)]
    rows = max(1, PIECE * len(new) // max(new.numel(), 1))
    return [(new[i : i + rows], old[i : i + rows]) for i in range(0, len(new), rows)]


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
