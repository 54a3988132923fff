"""Texts as rows of token ids: in windows of equal length, and padded into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo.errors import ArgumentError, TextError
from infogeo_adapters.transformers.alignment import Tokens, check_text, encode
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import Stack, run_model, runner

if TYPE_CHECKING:
    import torch


def token_rows(model: LanguageModel, texts: str | Sequence[str]) -> list[Tokens]:
    """The tokens of each text, special ones included.

    Raises
    ------
    TextError
        There is no text, or one is empty or longer than the context.
    """
    given = [texts] if isinstance(texts, str) else texts
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        check_text(given)
    if not len(given):
        raise TextError("texts: found no texts, wanted at least one")
    rows = [encode(model.tokenizer, check_text(text)) for text in given]
    limit = model.context_length
    for number, row in enumerate(rows):
        if limit is not None and len(row.ids) > limit:
            raise TextError(
                f"text {number} has {len(row.ids)} tokens (special tokens counted), the context of {model.name} holds "
                f"{limit}; cut it with split_into_windows(model, text)"
            )
    return rows


def token_windows(model: LanguageModel, texts: Sequence[str], length: int) -> list[Tokens]:
    """Texts cut into rows of so many tokens, special ones counted, each with the special tokens of a whole text.

    The last row of a text is shorter. Texts are cut between tokens, not between words.

    Raises
    ------
    TextError
        A text is empty.
    ArgumentError
        The windows are longer than the context, or too short for two tokens beside the special ones.
    """
    limit = model.context_length
    if limit is not None and length > limit:
        raise ArgumentError(f"window: found {length}, wanted at most {limit} (the model's context)")
    rows = []
    for text in texts:
        whole = encode(model.tokenizer, check_text(text))
        own = np.flatnonzero(~whole.special)
        if not len(own):
            raise TextError(f"text: {text[:40]!r} has no tokens beside special ones; give a text with words")
        before, after = own[0], len(whole.ids) - 1 - own[-1]
        room = length - int(before + after)
        if room < 2:
            raise ArgumentError(
                f"window: found {length}, wanted at least {2 + before + after}, so that two tokens stand beside the "
                "special ones"
            )
        head, tail = np.arange(before), np.arange(own[-1] + 1, len(whole.ids))
        inner = np.arange(own[0], own[-1] + 1)
        for start in range(0, len(inner), room):
            at = np.concatenate([head, inner[start : start + room], tail])
            rows.append(Tokens(ids=whole.ids[at], spans=whole.spans[at], special=whole.special[at],
                               types=whole.types[at]))
    return rows


def run_rows(model: LanguageModel, rows: Sequence[Tokens], **more: Any) -> tuple[Any, NDArray[np.bool_]]:
    """One forward pass over rows padded on the right: what the model returned, and which places are real (B, T).

    The caller holds the model's lock and has set its mode.
    """
    import torch

    tokenizer = model.tokenizer
    longest = max(len(row.ids) for row in rows)

    def padded(values: Callable[[Tokens], IntArray], fill: int) -> torch.Tensor:
        table = np.full((len(rows), longest), fill, dtype=np.int64)
        for line, row in zip(table, rows, strict=True):
            line[: len(row.ids)] = values(row)
        return torch.from_numpy(table).to(model.model.device)

    mask = padded(lambda row: np.ones(len(row.ids), dtype=np.int64), 0)
    if "token_type_ids" in tokenizer.model_input_names:
        more["token_type_ids"] = padded(lambda row: row.types, tokenizer.pad_token_type_id)
    output = run_model(runner(model.model), padded(lambda row: row.ids, tokenizer.pad_token_id or 0), mask, **more)
    real: NDArray[np.bool_] = mask.bool().cpu().numpy()
    return output, real


def states_of(stack: Stack, value: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """A tensor of a pass as (texts, tokens, components): blocks may run by tokens first, maps on flattened rows."""
    if stack.time_major and tuple(value.shape[:2]) == shape[::-1]:
        return value.transpose(0, 1)
    return value if tuple(value.shape[:2]) == shape else value.reshape(*shape, value.shape[-1])
