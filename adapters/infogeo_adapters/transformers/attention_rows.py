"""Attention of one block over many rows of tokens, a batch at a time, so that the other blocks' maps are never kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import ModelError
from infogeo_adapters.transformers.alignment import Tokens
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.attention_capture import recorded_attention
from infogeo_adapters.transformers.forward import batches_of
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import evaluating, find_stack
from infogeo_adapters.transformers.token_rows import run_rows


def attention_of_rows(
    model: LanguageModel, rows: Sequence[Tokens], block: int, *, batch_tokens: int = 4096
) -> list[NDArray[np.floating[Any]]]:
    """Attention (H, T, T) of a block over each row, special tokens and all, row = query.

    Raises
    ------
    ModelError
        The model or the block gives none.
    """
    stack = find_stack(model.model)
    if block not in {kind.block for kind in attention_access(model.model, stack).kinds}:
        raise ModelError(f"{model.name}: block {block} has no attention; leave the view 'attention' out")
    found: dict[int, NDArray[Any]] = {}
    for batch in batches_of([len(row.ids) for row in rows], batch_tokens, exact=False):
        with contextlib.ExitStack() as scope:
            scope.enter_context(lock_of(model.model))
            scope.enter_context(evaluating(model.model))
            record = scope.enter_context(recorded_attention(model.model, stack, blocks=[block]))
            output, _ = run_rows(model, [rows[i] for i in batch])
            ((_, maps),) = record.finish(output)
        # some models of float64 take the softmax in float32, and bfloat16 is as coarse as float16 near one
        chosen = (maps.half() if model.model.dtype.itemsize < 4 else maps.float()).cpu().numpy()
        found.update(zip(batch, chosen, strict=True))
    return [found[i] for i in range(len(rows))]
