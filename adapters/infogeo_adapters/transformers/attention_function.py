"""Attention functions of our own, registered with transformers, that let others listen while a model attends.

Two names are registered, once and when first needed. Under ``infogeo_capture`` a model computes by transformers' own
sdpa function, with its masks; the probabilities, which that never forms, are made beside it from the same queries and
keys. Under ``infogeo_capture_eager`` it computes by the eager function of its own file, which forms them itself (with
soft-capped scores in Gemma 2, with sinks in GPT-OSS). Where nobody listens both do what they stand for.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from infogeo.errors import ModelError

if TYPE_CHECKING:
    import torch

SDPA, EAGER = "infogeo_capture", "infogeo_capture_eager"
"""The two names."""

_registered = threading.Event()
_registering = threading.Lock()
_here = threading.local()


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """One call of the attention function: what it was given and what it returned."""

    query: torch.Tensor
    """(B, H, Tq, width), after rotary positions."""
    key: torch.Tensor
    """(B, G, Tk, width), each for H / G query heads that lie side by side."""
    value: torch.Tensor
    """(B, G, Tk, width of values)"""
    mask: torch.Tensor | None
    """True (or 0) where a query may look, False (or far below zero) where it may not; None if everywhere."""
    bias: torch.Tensor | None
    """Added to the scores, as T5 does."""
    causal: bool
    """True if no query looks ahead although there is no mask."""
    scale: float
    output: torch.Tensor
    """(B, Tq, H, width of values)"""
    weights: torch.Tensor | None
    """(B, H, Tq, Tk) where the function formed them itself."""

    def maps(self) -> torch.Tensor:
        """The probabilities, (B, H, Tq, Tk)."""
        return probabilities(self) if self.weights is None else self.weights.detach()

    def visible(self) -> torch.Tensor:
        """Where a query may look, (B or 1, H or 1, Tq, Tk) of bool."""
        import torch

        if self.mask is not None:
            mask = self.mask[..., : self.key.shape[2]]
            return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        every = torch.ones(
            1, 1, self.query.shape[2], self.key.shape[2], dtype=torch.bool, device=self.query.device
        )
        return every.tril() if self.causal else every


class Listener(Protocol):
    """What wants to know of calls."""

    def hears(self, module: torch.nn.Module) -> bool:
        """Whether it wants to know of a call by this module."""

    def take(self, module: torch.nn.Module, call: Call) -> None:
        """One call."""


def listeners() -> list[Listener]:
    """Those that listen in this thread; calls of a model in other threads are not told to them."""
    if not hasattr(_here, "listeners"):
        _here.listeners = []
    found: list[Listener] = _here.listeners
    return found


def register_functions() -> None:
    """Make both names known to transformers, with the masks of sdpa and of eager attention."""
    with _registering:
        if _registered.is_set():
            return
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as masks

        for name, mask, function in ((SDPA, "sdpa", _by_sdpa), (EAGER, "eager", _by_eager)):
            AttentionInterface.register(name, function)
            AttentionMaskInterface.register(name, masks[mask])
        _registered.set()


def probabilities(call: Call) -> torch.Tensor:
    r"""Attention probabilities from queries and keys, (B, H, Tq, Tk).

    .. math:: P = \operatorname{softmax}(s \, Q K^\top + b + m)

    with scale s, bias b and mask m; in float32 for the half-precision formats, else in the model's own. A query that
    may look nowhere, such as padding on the left, gets a row of zeros. Keys are never repeated for the heads that
    share them.
    """
    import torch

    with torch.no_grad():
        query, key = call.query.detach(), call.key.detach()
        if query.dtype.itemsize < 4:
            query, key = query.float(), key.float()
        texts, heads, looking, width = query.shape
        groups, looked_at = key.shape[1], key.shape[2]
        scores = torch.baddbmm(
            query.new_zeros(()), query.reshape(texts * groups, -1, width),
            key.reshape(texts * groups, looked_at, width).transpose(1, 2), beta=0, alpha=call.scale,
        ).view(texts, heads, looking, looked_at)
        if call.bias is not None:
            scores += call.bias[..., :looked_at].to(scores.dtype)
        mask = call.mask
        if mask is not None and mask.dtype != torch.bool:
            scores += mask[..., :looked_at].to(scores.dtype)
        elif mask is not None or call.causal:
            hidden = ~call.visible()
            scores.masked_fill_(hidden, float("-inf"))
            blind = hidden.all(dim=-1, keepdim=True)
            if not call.causal and blind.any():
                return torch.softmax(scores, dim=-1).masked_fill_(blind, 0.0)
        return torch.softmax(scores, dim=-1)


def weighted_values(call: Call, maps: torch.Tensor) -> torch.Tensor:
    """The sum of the values by these probabilities, (B, Tq, H, width): what the function should have returned."""
    value = call.value.to(maps.dtype)
    texts, groups, looked_at, width = value.shape
    heads, looking = maps.shape[1:3]
    product = maps.reshape(texts * groups, -1, looked_at) @ value.reshape(texts * groups, looked_at, width)
    return product.view(texts, heads, looking, width).transpose(1, 2)


def _by_sdpa(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None = None, **more: Any,
) -> tuple[torch.Tensor, None]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions

    output, _ = functions["sdpa"](module, query, key, value, attention_mask, **more)
    _tell(module, query, key, value, attention_mask, more, output, None)
    return output, None


def _by_eager(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None = None, **more: Any,
) -> tuple[torch.Tensor, None]:
    output, weights = _eager_function(module)(module, query, key, value, attention_mask, **more)
    _tell(module, query, key, value, attention_mask, more, output, weights)
    return output, None


def _eager_function(module: torch.nn.Module) -> Callable[..., Any]:
    """The eager function beside the module's class, or beside one that it inherits from."""
    for base in type(module).__mro__:
        function = getattr(sys.modules.get(base.__module__), "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]  # found by name
    raise ModelError(f"{type(module).__name__} has no eager attention function; capture it with attention=False")


def _tell(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
    more: dict[str, Any], output: torch.Tensor, weights: torch.Tensor | None,
) -> None:
    hearing = [listener for listener in listeners() if listener.hears(module)]
    if not hearing:
        return
    causal, scale = more.get("is_causal"), more.get("scaling")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    call = Call(
        query=query, key=key, value=value, mask=mask, bias=more.get("position_bias"),
        # as sdpa decides it; eager functions look everywhere without a mask
        causal=bool(causal) and mask is None and weights is None and query.shape[2] > 1,
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale), output=output, weights=weights,
    )
    del weights
    for listener in hearing:
        listener.take(module, call)
