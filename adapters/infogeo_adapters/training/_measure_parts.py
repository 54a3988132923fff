"""Quantities of what is inside the blocks: what heads write, and units of the feed-forward that are off or full."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from infogeo._checks import FloatArray
from infogeo_adapters.training._measure_attention import HeadMeter, head_outputs
from infogeo_adapters.training._measure_blocks import dead_share, saturated_share
from infogeo_adapters.training._measure_pass import Passed
from infogeo_adapters.training._measure_structure import Structure

if TYPE_CHECKING:
    import torch

Trying = Callable[..., AbstractContextManager[None]]
"""Notes a failure of the quantities that are named."""


def measure_heads(heads: HeadMeter, found: dict[str, FloatArray], trying: Trying) -> None:
    """Put entropy, logits and capacity of the heads where they are wanted."""
    for name, values in (("attention_entropy", heads.entropy), ("attention_logits", heads.logits)):
        if name in found:
            found[name] = values
    if "attention_capacity" in found:
        with trying("attention_capacity"):
            found["attention_capacity"] = heads.capacities()


def measure_parts(
    structure: Structure, passed: Passed, real: torch.Tensor, bounds: dict[int, tuple[float, float]],
    found: dict[str, FloatArray], trying: Trying,
) -> None:
    """Put what heads and hidden units of each block do, at tokens that are no padding, where it is wanted.

    Parameters
    ----------
    structure : Structure
    passed : Passed
    real : torch.Tensor of bool
        (texts, tokens) as the blocks hold them, that is (tokens, texts) if these are time-major.
    bounds : dict of int to pair of floats
        Bounds of the activation functions, by block.
    found : dict of str to ndarray
        By quantity that is wanted, (L, H) or (L); filled in.
    trying : callable
    """
    for number in range(1, len(passed.calls) + 1):
        with trying("head_output"):
            mixed = _tokens(passed.mixed.get(number), real)
            if "head_output" in found and mixed is not None:
                count = structure.heads[number]
                values = head_outputs(mixed, structure.outputs[number][0], count)
                if values is not None:
                    found["head_output"][number - 1, :count] = values
        with trying("dead_units", "saturated_units"):
            units = _tokens(passed.units.get(number), real)
            if units is not None and "dead_units" in found:
                found["dead_units"][number - 1] = dead_share(units)
            if units is not None and "saturated_units" in found and number in bounds:
                found["saturated_units"][number - 1] = saturated_share(units, bounds[number])


def _tokens(values: torch.Tensor | None, real: torch.Tensor) -> torch.Tensor | None:
    """(n, units) at tokens that are no padding; None if the values are not one row for each token."""
    if values is None:
        return None
    if values.shape[:2] == real.shape:
        return values[real]
    if values.numel() // values.shape[-1] != real.numel():
        return None
    return values.reshape(*real.shape, -1)[real]
