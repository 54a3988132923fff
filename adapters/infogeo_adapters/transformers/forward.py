"""Texts made ready and run in batches: one forward pass, its padding cut away again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo.activations import LayerActivations
from infogeo.errors import TextError
from infogeo.results import Source
from infogeo_adapters.transformers.alignment import (
    Span,
    Tokens,
    Words,
    check_coverage,
    encode,
    join_words,
    token_table,
    word_spans,
    written_specials,
)
from infogeo_adapters.transformers.eager import (
    attention_layers,
    attention_maps,
    check_attention,
    eager_attention,
    must_force,
)
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    Stack,
    evaluating,
    find_stack,
    hooked,
    residual_stream,
    run_model,
    runner,
)

if TYPE_CHECKING:
    import torch

Overflow = Literal["error", "truncate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """A text ready to be run."""

    text: str
    tokens: Tokens
    spans: list[Span]
    table: IntArray
    options: dict[str, str | int | float | bool | None]


def prepare(model: LanguageModel, text: str, words: Words | None, overflow: Overflow) -> Item:
    """Tokens and words of a text that has been checked, aligned and within the context.

    Raises
    ------
    TextError
        The text is too long, or a word has no token.
    """
    tokens = encode(model.tokenizer, text)
    spans = word_spans(text, words, whole=written_specials(model.tokenizer, text, tokens))
    options: dict[str, str | int | float | bool | None] = {"words": splitter_name(words)}
    limit = model.context_length
    if limit is not None and len(tokens.ids) > limit:
        if overflow == "error":
            raise TextError(
                f"the text has {len(tokens.ids)} tokens (special tokens counted), the context of {model.name} holds "
                f"{limit}; cut it with overflow='truncate' or into several texts with split_into_windows(model, text)"
            )
        kept = _fitting(model, text, tokens, spans, limit)
        options["truncated_words"] = len(spans) - len(kept)
        text, spans = text[: kept[-1][1]], kept
        tokens = encode(model.tokenizer, text)
    if words is None:
        joined = join_words(text, tokens, spans)
        if len(joined) < len(spans):
            options["joined_words"] = len(spans) - len(joined)
        spans = joined
    table = token_table(text, tokens, spans)
    check_coverage(text, model.tokenizer, table, spans)
    return Item(text=text, tokens=tokens, spans=spans, table=table, options=options)


def _fitting(model: LanguageModel, text: str, tokens: Tokens, spans: list[Span], limit: int) -> list[Span]:
    """The longest beginning of the words whose text fits the context."""
    room = limit - int(tokens.special.sum())
    reach = int(tokens.spans[~tokens.special][:room][-1, 1]) if room > 0 else 0
    kept = [span for span in spans if span[1] <= reach]
    while kept and len(encode(model.tokenizer, text[: kept[-1][1]]).ids) > limit:
        kept.pop()
    if not kept:
        raise TextError(f"the first word alone takes more than the {limit} tokens of the context; shorten it")
    return kept


def splitter_name(words: Words | None) -> str:
    """How the words came about, for the record."""
    if words is None:
        return "split_words"
    return getattr(words, "__name__", type(words).__name__) if callable(words) else "given"


def run_items(
    model: LanguageModel, items: Sequence[Item], *, attention: bool, batch_tokens: int
) -> Iterator[tuple[int, LayerActivations]]:
    """Results with their positions among the items, batch by batch, shortest texts first."""
    stack = find_stack(model.model)
    for batch in batches_of([len(item.tokens.ids) for item in items], batch_tokens, exact=stack.pads_exactly):
        yield from zip(batch, _run_batch(model, stack, [items[i] for i in batch], attention), strict=True)


def batches_of(lengths: Sequence[int], batch_tokens: int, *, exact: bool) -> Iterator[list[int]]:
    """Positions of texts that run together, shortest texts first; without exact padding only equal lengths."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        full = (len(batch) + 1) * lengths[i] > batch_tokens
        if batch and (full or (not exact and lengths[i] != lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _run_batch(
    model: LanguageModel, stack: Stack, items: Sequence[Item], attention: bool
) -> Iterator[LayerActivations]:
    import torch

    part = runner(model.model)
    longest = max(len(item.tokens.ids) for item in items)

    def padded(rows: Sequence[IntArray], fill: int) -> torch.Tensor:
        table = np.full((len(rows), longest), fill, dtype=np.int64)
        for row, values in zip(table, rows, strict=True):
            row[: len(values)] = values
        return torch.from_numpy(table).to(model.model.device)

    tokenizer = model.tokenizer
    ids = padded([item.tokens.ids for item in items], tokenizer.pad_token_id or 0)
    mask = padded([np.ones(len(item.tokens.ids), dtype=np.int64) for item in items], 0)
    more: dict[str, Any] = {"output_attentions": True} if attention else {}
    if "token_type_ids" in tokenizer.model_input_names:
        more["token_type_ids"] = padded([item.tokens.types for item in items], tokenizer.pad_token_type_id)
    blocks = {stack.path: part.get_submodule(stack.path)}
    with contextlib.ExitStack() as scope:
        scope.enter_context(lock_of(model.model))
        scope.enter_context(evaluating(model.model))
        if attention:
            scope.enter_context(eager_attention(model.model, force=must_force(model.model, stack)))
        firings = scope.enter_context(hooked(blocks, all_inputs=False))
        output = run_model(part, ids, mask, **more)
        states = [_numpy(s) for s in residual_stream(stack, firings[stack.path])]
        maps = [_numpy(m) for m in attention_maps(model.model, output, longest)] if attention else []
        source = model.current_source()
    blocks_of_maps = attention_layers(model.model, stack, len(maps)) if attention else ()
    for b, item in enumerate(items):
        t = len(item.tokens.ids)
        weights = np.stack([m[b, :, :t, :t] for m in maps]) if attention else None
        if weights is not None:
            check_attention(model.model, weights)
        yield _result(model, source, stack, item, np.stack([s[b, :t] for s in states]), weights, blocks_of_maps)


def _result(
    model: LanguageModel, source: Source, stack: Stack, item: Item, states: NDArray[Any],
    weights: NDArray[Any] | None, blocks: tuple[int, ...],
) -> LayerActivations:
    source = replace(source, text_hash=hashlib.sha256(item.text.encode()).hexdigest())
    return LayerActivations(
        text=item.text, words=tuple(item.text[i:j] for i, j in item.spans),
        word_spans=np.array(item.spans, dtype=np.int64),
        tokens=tuple(model.tokenizer.convert_ids_to_tokens(item.tokens.ids.tolist())), token_ids=item.tokens.ids,
        token_spans=item.tokens.spans, token_words=item.table, special=item.tokens.special, hidden_states=states,
        attention=weights, attention_layers=blocks, causal=stack.causal, source=source.with_options(**item.options),
    )


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """As a NumPy array; the half-precision formats become float32."""
    array: NDArray[Any] = (tensor.float() if tensor.dtype.itemsize < 4 else tensor).detach().cpu().numpy()
    return array
