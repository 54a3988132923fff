"""What each head of attention adds to the stream: the output projection, head by head, as matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.parts import find_parts
from infogeo_adapters.transformers.stack import evaluating, find_stack, runner

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel


def attending_blocks(model: LanguageModel) -> dict[int, int]:
    """Numbers of query heads of the blocks with self attention, by block, counted from 1.

    Raises
    ------
    ModelError
        The model has no attention between the tokens of a text.
    """
    stack = find_stack(model.model)
    found = {k.block: k.query_heads for k in attention_access(model.model, stack).kinds if k.kind == "self"}
    if not found:
        raise ModelError(f"{model.name} has no attention between the tokens of a text; leave attention out")
    return found


def output_matrix(model: LanguageModel, block: int, heads: int) -> FloatArray:
    """Matrix (H, width of a head, d) of the output projection of a block, head by head.

    Raises
    ------
    ModelError
        Values or output projection of the block were not found, or it does not read heads side by side.
    """
    import torch

    net = model.model
    stack = find_stack(net)
    parts = find_parts(net, stack.side)[block - 1]
    parts.check("value", model.name)
    if parts.output is None:
        raise ModelError(f"{model.name}: the output projection of attention in block {block} was not found")
    with lock_of(net), evaluating(net), torch.no_grad():
        module = runner(net, stack.side).get_submodule(parts.output.path)
        parameter = next(module.parameters())
        width = _inputs_of(module)
        unit = torch.eye(width, device=parameter.device, dtype=net.dtype)
        nothing = torch.zeros((1, width), device=parameter.device, dtype=net.dtype)
        matrix = (module(unit).double() - module(nothing).double()).cpu().numpy()
    if width % heads:
        raise ModelError(
            f"{model.name}: the output projection of attention in block {block} reads {width} numbers, which are not "
            f"those of {heads} heads side by side"
        )
    return np.asarray(matrix.reshape(heads, width // heads, -1), dtype=np.float64)


def _inputs_of(module: object) -> int:
    """Number of inputs of a linear layer, or of the Conv1D of GPT-2, which keeps its matrix the other way round."""
    known = getattr(module, "in_features", None)
    return int(known if known is not None else module.weight.shape[0])  # type: ignore[attr-defined]
