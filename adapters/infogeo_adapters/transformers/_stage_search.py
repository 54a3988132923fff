"""A model to search by derivatives: in half precision its blocks run in float32, one by one.

Rounding blurs derivatives, so that a tensor of the stream and one beside it look alike in bfloat16.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.stack import Stack, rounding, runner

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FINE = 1e-4
"""Relative difference that rounding may make in float32."""


def for_search(model: PreTrainedModel, stack: Stack) -> tuple[PreTrainedModel, float]:
    """A model to search a stack of, and the relative difference that rounding may make in it.

    It is the model itself in float32 or float64. In half precision it is one with the same weights in the same memory,
    in which each block has them in float32 while it runs: no more than one block is ever held twice. A model whose
    weights are no plain numbers (quantized) is searched as it is.

    Parameters
    ----------
    model : PreTrainedModel
        Nothing is changed on it.
    stack : Stack

    Returns
    -------
    PreTrainedModel
    float

    Raises
    ------
    ModelError
        A model in half precision holds something that cannot be copied.
    """
    import torch

    weights = list(model.parameters())
    plain = all(type(w) is torch.nn.Parameter and w.is_floating_point() for w in weights)
    if model.dtype.itemsize >= 4 or not plain:
        return model, rounding(model)
    try:
        twin: Any = copy.deepcopy(model, {id(tensor): tensor for tensor in chain(weights, model.buffers())})
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"{type(model).__name__} in {str(model.dtype).removeprefix('torch.')} is searched in float32, on a second "
            f"model with the same weights, but it holds something that cannot be copied ({type(error).__name__}: "
            f"{error}); load it with dtype='float32'"
        ) from error
    for block in dict.fromkeys(runner(twin, stack.side).get_submodule(stack.path).children()):
        wide = _Wide(block)
        block.register_forward_pre_hook(wide.enter, with_kwargs=True, prepend=True)
        block.register_forward_hook(wide.leave)
    return twin, FINE


@dataclass
class _Wide:
    """Hooks that give a block its weights in float32, and what it is given too, while it runs."""

    block: torch.nn.Module
    narrow: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    def enter(self, block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        import torch

        for module in self.block.modules():
            stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for tensors in stores:
                self.narrow.append((tensors, dict(tensors)))
                for name, value in tensors.items():
                    if value is not None and value.is_floating_point():
                        one = value.detach().float()
                        tensors[name] = torch.nn.Parameter(one) if isinstance(value, torch.nn.Parameter) else one
        return _cast(args, torch.float32), _cast(kwargs, torch.float32)

    def leave(self, block: Any, args: tuple[Any, ...], output: Any) -> Any:
        dtype = next(value.dtype for _, own in self.narrow for value in own.values() if value is not None)
        for tensors, own in self.narrow:
            tensors.update(own)
        self.narrow.clear()
        return _cast(output, dtype)


def _cast(given: Any, dtype: torch.dtype) -> Any:
    """The same with all its floating point tensors in one format."""
    import torch

    if isinstance(given, torch.Tensor):
        return given.to(dtype) if given.is_floating_point() else given
    if type(given) in (tuple, list):
        return type(given)(_cast(value, dtype) for value in given)
    if type(given) is dict:
        return {name: _cast(value, dtype) for name, value in given.items()}
    return given
