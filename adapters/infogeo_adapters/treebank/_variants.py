"""Which layers, heads and exponents are tried as variants of a family, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo.evidence import PRIOR_EXPONENT, log_offsets
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence_graphs import default_layers
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

EXPONENTS = (1.0, 1.25, 1.5, 2.0)
"""Exponents of the prior by distance that are tried."""
JOINT_EXPONENTS = (1.25, 1.5)
"""Those that are tried where many measurements are combined."""
WAYS = ("rows", "none", "symmetric", "product")
"""Normalizations that are tried."""
MOST_VARIANTS = 5_000
"""Variants of two measurements together above which fewer are tried: closeness of a batch then takes up to 0.8 GB."""


def with_exponents(sums: FloatArray, count: int) -> FloatArray:
    """Standardized influence (R, n, n) with each exponent of the prior, (R E, n, n), all exponents of one in a row."""
    prior = log_offsets(sums.shape[-1])
    tried = sums[:, None] / count - np.multiply.outer(np.asarray(EXPONENTS), prior)
    return np.asarray(tried.reshape(-1, *sums.shape[1:]))


def layer_sets(depth: int) -> tuple[tuple[int, ...], ...]:
    """Single layers after blocks, and two and three in a row.

    Examples
    --------
    >>> layer_sets(3)
    ((1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3))
    """
    return tuple(
        tuple(range(first, first + size)) for size in (1, 2, 3) for first in range(1, depth - size + 2)
    )


def joint_choices(depth: int, parts: int, most: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
    """Layer sets and exponents that are tried with each of so many heads and blocks: the first choice that is not more.

    Examples
    --------
    >>> sets, exponents = joint_choices(12, 156, 5_000)  # 12 blocks of 12 heads
    >>> sets, len(sets) * len(exponents) * 156
    (((7,), (8,), (9,), (10,), (11,), (12,), (7, 8), (8, 9), (9, 10), (10, 11), (11, 12)), 3432)
    >>> joint_choices(24, 408, 5_000)[1]  # 24 blocks of 16 heads
    (1.5,)
    """
    upper = tuple(s for s in layer_sets(depth) if s[0] > depth // 2 and len(s) < 3)
    single = tuple(s for s in upper if len(s) == 1)
    one = (PRIOR_EXPONENT,)
    for sets, exponents in ((upper, JOINT_EXPONENTS), (single, JOINT_EXPONENTS), (single, one)):
        if len(sets) * parts * len(exponents) <= most:
            return sets, exponents
    return (tuple(default_layers(depth)),), one


def set_name(layers: Sequence[int]) -> str:
    """``layer 4``, ``layers 4 and 5``, ``layers 4 to 6``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"layers {layers[0]} {'and' if len(layers) == 2 else 'to'} {layers[-1]}"


def edge_names(model: LanguageModel) -> tuple[str, ...]:
    """Heads block by block, then blocks.

    Raises
    ------
    ModelError
        The model has no attention.
    """
    heads = attending_blocks(model)
    return (*(f"block {b}, head {h + 1}" for b in heads for h in range(heads[b])), *(f"block {b}" for b in heads))


def check_causal(model: LanguageModel) -> None:
    check_model(model)
    if not find_stack(model.model).causal:
        raise ModelError(f"{model.name} is no causal model; every word sees every other one when the text is read once")
