"""Quantities of attention heads, found while the model runs: entropy, logits, capacity, and what each head adds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import InfogeoError

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.attention_function import Call

CAPACITY_TEXTS, CAPACITY_QUERIES = 4, 24
"""The capacity of a head is a mean over so many texts, each a channel from so many queries, spread evenly."""

CHANNELS = 512
"""Most channels of all heads together; with many heads fewer texts are taken, at least one."""

GAP = 1e-3
"""Largest gap of the certificate of a capacity, in nats."""


class HeadMeter:
    """Takes the maps of attention one by one and keeps what is measured of each head.

    Parameters
    ----------
    mask : torch.Tensor, shape (B, T)
        One for a token, zero for padding.
    causal : bool
        Whether a token is meant not to see later ones; what counts as in sight where the maps alone are known.
    depth, heads : int
        Blocks, and most heads of a block.
    wanted : callable
        Whether a quantity is asked for.
    """

    def __init__(
        self, mask: torch.Tensor, *, causal: bool, depth: int, heads: int, wanted: Callable[[str], bool]
    ) -> None:
        self._mask, self._causal, self._wanted = mask.bool(), causal, wanted
        self.entropy = np.full((depth, heads), np.nan)
        self.logits = np.full((depth, heads), np.nan)
        self.largest: dict[int, float] = {}
        """Largest absolute logit of a block."""
        self._texts = max(1, min(CAPACITY_TEXTS, CHANNELS // max(1, depth * heads)))
        self._channels: list[tuple[int, list[FloatArray]]] = []

    def take(self, block: int, maps: torch.Tensor, call: Call | None) -> None:
        """One map (B, H, T, T) of self attention."""
        import torch

        heads = maps.shape[1]
        with torch.no_grad():
            seen = self._in_sight(maps, call)
            if self._wanted("attention_entropy"):
                self.entropy[block - 1, :heads] = self._entropies(maps, seen)
            if self._wanted("attention_logits"):
                self.logits[block - 1, :heads] = self._logits(block, maps, seen, call)
            if self._wanted("attention_capacity"):
                self._channels.append((block, self._kept(maps)))

    def _in_sight(self, maps: torch.Tensor, call: Call | None) -> torch.Tensor:
        """Where a query may look, (B, 1 or H, T, T)."""
        import torch

        texts, tokens = self._mask.shape
        real = self._mask[:, None, None, :]
        if call is not None:
            seen = call.visible()
            if seen.shape[-1] == tokens:
                return seen.expand(texts, -1, tokens, tokens) & real
        every = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=maps.device)
        return (every.tril() if self._causal else every) & real

    def _entropies(self, maps: torch.Tensor, seen: torch.Tensor) -> FloatArray:
        """(H,) mean over queries of entropy over the logarithm of the tokens in sight, where these are at least two."""
        p = maps.double()
        entropy = -(p * p.clamp_min(1e-300).log()).sum(dim=-1)
        count = seen.sum(dim=-1).expand(maps.shape[:3])
        kept = (count > 1) & self._mask[:, None, :]
        share = entropy / count.clamp_min(2).double().log()
        return _mean_over_queries(share, kept)

    def _logits(self, block: int, maps: torch.Tensor, seen: torch.Tensor, call: Call | None) -> FloatArray:
        """(H,) mean over queries of the largest absolute logit of the tokens in sight."""
        import torch

        scores = None if call is None else _scores(call)
        if scores is not None:
            size = torch.where(seen, scores.abs(), torch.zeros_like(scores)).amax(dim=-1)
            asking = self._mask[:, None, :].expand(size.shape)
            self.largest[block] = float(size[asking].amax())
        else:  # by the weights alone logits are known up to a constant of the query; half their range
            tiny = torch.finfo(torch.float32).tiny
            logs = maps.double().clamp_min(tiny).log()
            high = torch.where(seen, logs, torch.full_like(logs, -math.inf)).amax(dim=-1)
            low = torch.where(seen, logs, torch.full_like(logs, math.inf)).amin(dim=-1)
            size = (high - low) / 2
            size = torch.where(maps.isnan().any(dim=-1), torch.full_like(size, math.nan), size)
        return _mean_over_queries(size.double(), (seen.sum(dim=-1) > 0).expand(maps.shape[:3]) & self._mask[:, None, :])

    def _kept(self, maps: torch.Tensor) -> list[FloatArray]:
        """Of a few texts (H, queries, keys)."""
        kept = []
        for b in _spread(len(self._mask), self._texts):
            real = np.flatnonzero(self._mask[b].cpu().numpy())
            queries = real[_spread(len(real), CAPACITY_QUERIES)]
            one = maps[b].detach().double().cpu().numpy()
            kept.append(one[:, queries][:, :, real])
        return kept

    def capacities(self) -> FloatArray:
        """(L, H) capacity of each head, mean over a few texts; NaN where its map is no distribution."""
        found = np.full_like(self.entropy, np.nan)
        by_shape: dict[tuple[int, ...], list[tuple[int, int, FloatArray]]] = {}
        for block, maps in self._channels:
            for one in maps:
                for head, channel in enumerate(one):
                    by_shape.setdefault(channel.shape, []).append((block, head, channel))
        values: dict[tuple[int, int], list[float]] = {}
        for members in by_shape.values():
            for (block, head, _), value in zip(members, _capacities([m for _, _, m in members]), strict=True):
                values.setdefault((block, head), []).append(value)
        for (block, head), several in values.items():
            found[block - 1, head] = float(np.mean(several))
        return found


def _scores(call: Call) -> torch.Tensor | None:
    """Logits (B, H, Tq, Tk) of a call without its mask; None where its weights are not of these, as with soft caps."""
    import torch

    from infogeo_adapters.transformers.attention_function import probabilities

    if call.weights is not None:
        mine = probabilities(call)
        if mine.shape != call.weights.shape or not torch.allclose(
            mine, call.weights.to(mine.dtype), rtol=0, atol=1e-3, equal_nan=True
        ):
            return None
    query, key = call.query.detach().float(), call.key.detach().float()
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query @ key.transpose(-1, -2)) * call.scale
    return scores if call.bias is None else scores + call.bias[..., : scores.shape[-1]].float()


def _capacities(channels: list[FloatArray]) -> list[float]:
    """Capacities of channels of one shape, of which what rows lack to one (a sink) is one more output."""
    from infogeo.capacity.discrete import blahut_arimoto

    stack = np.stack(channels)
    sums = stack.sum(axis=-1, keepdims=True)
    good = (np.isfinite(stack).all(axis=(1, 2)) & (stack >= 0).all(axis=(1, 2)) & (sums <= 1.02).all(axis=(1, 2)))
    found = np.full(len(stack), np.nan)
    if good.any():
        rest = np.where(1 - sums > 1e-3, 1 - sums, 0.0)
        whole = np.concatenate([stack, rest], axis=-1)[good]
        whole = whole / whole.sum(axis=-1, keepdims=True)  # rounding of the number format
        with contextlib.suppress(InfogeoError, np.linalg.LinAlgError):
            found[good] = blahut_arimoto(whole, tol=GAP, strict=False).lower
    return [float(value) for value in found]


def _spread(count: int, most: int) -> Any:
    """Numbers below a count, evenly spread, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _mean_over_queries(values: torch.Tensor, kept: torch.Tensor) -> FloatArray:
    """(H,) mean of values (B, H, T) where they are kept; NaN where one of these is."""
    import torch

    total = torch.where(kept, values, torch.zeros_like(values)).sum(dim=(0, 2))
    count = kept.sum(dim=(0, 2)).double()
    mean = total.double() / torch.where(count > 0, count, torch.full_like(count, math.nan))
    array: FloatArray = mean.cpu().numpy()
    return array


def head_outputs(mixed: torch.Tensor, module: torch.nn.Module, heads: int) -> FloatArray | None:
    """(H,) mean norm of what each head adds, over the mean of the heads; None if heads do not lie side by side.

    Parameters
    ----------
    mixed : torch.Tensor, shape (n, H * width)
        What goes into the output projection.
    module : torch.nn.Module
        The projection.
    heads : int
    """
    import torch

    width = mixed.shape[-1]
    if width % heads:
        return None
    with torch.no_grad():
        matrix = _matrix(module, width, mixed).float().reshape(heads, width // heads, -1)
        parts = mixed.float().reshape(len(mixed), heads, -1)
        norms = torch.stack([(parts[:, h] @ matrix[h]).norm(dim=1).double().mean() for h in range(heads)])
        array: FloatArray = norms.cpu().numpy()
    mean = float(array.mean())
    return array / mean if mean > 0 else array


def _matrix(module: torch.nn.Module, width: int, like: torch.Tensor) -> torch.Tensor:
    """Matrix (inputs, outputs) of a map."""
    import torch

    if type(module) is torch.nn.Linear:
        return module.weight.detach().T
    if type(module).__name__ == "Conv1D":
        weight = module.weight
        if isinstance(weight, torch.Tensor) and weight.shape[0] == width:
            return weight.detach()
    unit = torch.eye(width, device=like.device, dtype=like.dtype)
    rows: torch.Tensor = module(unit) - module(torch.zeros_like(unit[:1]))
    return rows.detach()
