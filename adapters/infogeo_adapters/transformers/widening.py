"""The modules of a read-out in a wide number format: half precision widened, quantized weights made numbers again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.replay import OWN, Step

if TYPE_CHECKING:
    import torch

UNQUANTIZED = (
    "leave the head out of the quantization when the model is loaded (its name in llm_int8_skip_modules, "
    f"modules_to_not_convert or ignore of the quantization config), or pass {OWN}"
)
"""What a caller can do about a head that is quantized."""


@dataclass(frozen=True)
class Ready:
    """Steps of a read-out with weights in one format."""

    steps: tuple[Step, ...]
    weights: list[dict[str, torch.Tensor] | None]
    """For each step the tensors to use instead of its own; None where its own will do."""


def widened(steps: Sequence[Step], narrow: torch.dtype, wide: torch.dtype) -> Ready:
    """Steps whose weights are all in a wide format; where they are already, nothing is copied.

    The weights W of a quantized linear layer are what it makes of the unit vectors, so that each way of packing them
    is understood; the layer is replaced by a plain one with W and its bias.

    Parameters
    ----------
    steps : sequence of Step
    narrow : torch.dtype
        What the model computes in.
    wide : torch.dtype
        What to compute in.

    Returns
    -------
    Ready

    Raises
    ------
    ModelError
        If a quantized weight belongs to something else than a linear layer.
    """
    import torch

    found = [
        replace(step, call=_plain(step.call, narrow)) if isinstance(step.call, torch.nn.Module) else step
        for step in steps
    ]
    return Ready(tuple(found), [_wide_weights(step.call, wide) for step in found])


def quantized(steps: Sequence[Step]) -> tuple[str, ...]:
    """Names of the modules on the way that hold quantized weights."""
    import torch

    return tuple(
        f"{step.name}.{name}".rstrip(".") for step in steps if isinstance(step.call, torch.nn.Module)
        for name, module in step.call.named_modules() if _is_quantized(module)
    )


def _is_quantized(module: torch.nn.Module) -> bool:
    """True if a tensor of the module itself holds weights in whole numbers, in 8 bits, or packed in a class."""
    import torch

    own = (*module._parameters.values(), *module._buffers.values())
    return any(
        (t.ndim >= 2 and t.dtype.itemsize < 2 and t.dtype != torch.bool)
        or (t.ndim >= 2 and t.dtype == torch.int32)  # eight weights of four bits each
        or type(t).dequantize is not torch.Tensor.dequantize
        for t in own if t is not None
    )


def _plain(module: torch.nn.Module, narrow: torch.dtype) -> torch.nn.Module:
    """The module, or one like it in which plain linear layers stand for the quantized ones."""
    if _is_quantized(module):
        return _linear(module, narrow)
    children = {name: _plain(child, narrow) for name, child in module._modules.items() if child is not None}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    like = copy.copy(module)  # shares the tensors
    like._parameters, like._buffers = dict(module._parameters), dict(module._buffers)
    like._modules = {**module._modules, **children}
    return like


def _linear(module: Any, narrow: torch.dtype) -> torch.nn.Module:
    import torch

    kind = type(module).__name__
    width = getattr(module, "in_features", None)
    if not isinstance(width, int):
        raise ModelError(
            f"the read-out goes through a {kind} with quantized weights, which is no linear layer, so that they cannot "
            f"be made numbers again; {UNQUANTIZED}"
        )
    device = next(t.device for t in (*module.parameters(), *module.buffers()))
    bias = getattr(module, "bias", None)
    wide = torch.promote_types(narrow, torch.float32)
    # without its bias, which would blur small weights in half precision; shares the tensors
    bare = copy.copy(module)
    bare._parameters = {name: t for name, t in module._parameters.items() if name != "bias"} | {"bias": None}
    units = torch.eye(width, dtype=narrow, device=device)
    try:
        with torch.no_grad():
            # half the difference of both signs: of a bias that is added elsewhere nothing is left
            weight = (bare(units).to(wide) - bare(-units).to(wide)) / 2
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"the weights of a quantized {kind} on the way to the logits cannot be made numbers again "
            f"({type(error).__name__}: {error}); {UNQUANTIZED}"
        ) from error
    plain = torch.nn.Linear(width, weight.shape[1], bias=bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(weight.T, requires_grad=False)
    if bias is not None:
        plain.bias = torch.nn.Parameter(bias.detach(), requires_grad=False)
    return plain


def _wide_weights(call: Any, dtype: torch.dtype) -> dict[str, torch.Tensor] | None:
    """Weights and buffers in the given format, None if they are in it already."""
    import torch

    if not isinstance(call, torch.nn.Module):
        return None
    own = {**dict(call.named_parameters()), **dict(call.named_buffers())}
    if all(t.dtype == dtype for t in own.values() if t.is_floating_point()):
        return None
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in own.items()}
