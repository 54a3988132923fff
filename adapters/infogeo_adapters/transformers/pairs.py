"""A source text and a target text through both stacks of an encoder-decoder model, in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infogeo._checks import IntArray
from infogeo.activations import EncoderDecoderActivations
from infogeo.errors import ModelError, TextError
from infogeo_adapters.transformers.alignment import Tokens, Words, check_text
from infogeo_adapters.transformers.forward import (
    Item,
    Overflow,
    as_activations,
    attention_of,
    noted_source,
    of_text,
    prepare,
    run_stack,
)
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import Stack, embedding_rows, evaluating, find_stack, runner


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """A source text and a target text ready to be run."""

    source: Item
    target: Item
    """Its tokens are those that the decoder reads."""
    labels: IntArray
    """What the decoder predicts at each of them."""

    @property
    def lengths(self) -> tuple[int, int]:
        return len(self.source.tokens.ids), len(self.target.tokens.ids)


def prepare_pair(
    model: LanguageModel, text: object, target: object, words: Words | None, target_words: Words | None,
    overflow: Overflow,
) -> Pair:
    """Tokens and words of both texts, aligned and within the context.

    Raises
    ------
    TextError
        A text is empty, too long, or has a word without a token; the message begins with which of the two it is.
    ModelError
        It is not known what the decoder reads first.
    """
    with _named("source"):
        read = prepare(model, check_text(text), words, overflow)
    with _named("target"):
        item = prepare(model, check_text(target), target_words, overflow, target=True)
        return Pair(source=read, target=_as_read(model, item), labels=item.tokens.ids)


@contextlib.contextmanager
def _named(side: str) -> Iterator[None]:
    try:
        yield
    except TextError as error:
        raise TextError(f"{side}: {str(error).removeprefix('text: ')}") from error


def _as_read(model: LanguageModel, item: Item) -> Item:
    """The target as the decoder reads it: a start token, which no character stands for, and no last label."""
    tokens = item.tokens
    table = np.concatenate([[-1], item.table[:-1]])
    spans = item.spans[: table.max() + 1]
    options = item.options
    if not spans:
        raise TextError("it is a single token, which the decoder predicts and never reads; give a longer text")
    if len(spans) < len(item.spans):  # the tokenizer ends a text with its last word, and with no token of its own
        options = {**options, "unread_words": len(item.spans) - len(spans)}
    read = Tokens(
        ids=_decoder_ids(model, tokens.ids), spans=np.concatenate([[[0, 0]], tokens.spans[:-1]]),
        special=np.concatenate([[True], tokens.special[:-1]]), types=np.zeros_like(tokens.types),
    )
    return replace(item, tokens=read, spans=spans, table=table, options=options)


def _decoder_ids(model: LanguageModel, labels: IntArray) -> IntArray:
    """What the decoder reads where these labels are to be predicted, as the model itself makes it of them."""
    import torch

    net: Any = model.model
    name = type(net).__name__
    start = getattr(net.config, "decoder_start_token_id", None)
    if start is None:
        start = getattr(net.generation_config, "decoder_start_token_id", None)
    shift = getattr(net, "prepare_decoder_input_ids_from_labels", None)
    read = None if start is None else np.concatenate([[start], labels[:-1]])
    if shift is not None:  # mBART has no fixed start: its decoder begins with the last label, which names the language
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            read = shift(torch.from_numpy(labels)[None].to(net.device))[0].cpu().numpy()
    if read is None:
        raise ModelError(
            f"{name} does not say what its decoder reads first: set decoder_start_token_id in its config, as it was in "
            "training (T5 begins with its padding token)"
        )
    rows = embedding_rows(runner(net, "decoder"))
    if not np.array_equal(read[1:], labels[:-1]) or not 0 <= read.min() <= read.max() < rows:
        raise ModelError(
            f"the decoder of {name}, which has {rows} embeddings, is to begin with {read.tolist()[:4]} for labels that "
            f"begin with {labels.tolist()[:4]}, wanted a start token and then the labels without the last; the "
            "tokenizer or decoder_start_token_id does not belong to this model"
        )
    return np.asarray(read, dtype=np.int64)


def prepare_pairs(
    model: LanguageModel, texts: Sequence[str], targets: Sequence[str], words: Sequence[Words | None],
    target_words: Sequence[Words | None], overflow: Overflow, *, one: bool = False,
) -> list[Pair]:
    """As :func:`prepare_pair`, of several pairs; an error says which one it is about, unless there is ``one`` only."""
    pairs = []
    for number, given in enumerate(zip(texts, targets, words, target_words, strict=True)):
        with of_text(None if one else number):
            pairs.append(prepare_pair(model, *given, overflow))
    return pairs


def run_pairs(
    model: LanguageModel, pairs: Sequence[Pair], *, attention: bool, batch_tokens: int
) -> Iterator[tuple[int, EncoderDecoderActivations]]:
    """Results with their positions among the pairs, batch by batch, shortest pairs first."""
    stacks = find_stack(model.model, "encoder"), find_stack(model.model, "decoder")
    exact = all(stack.pads_exactly for stack in stacks)
    for batch in batches_of_pairs([pair.lengths for pair in pairs], batch_tokens, exact=exact):
        yield from zip(batch, _run_batch(model, stacks, [pairs[i] for i in batch], attention), strict=True)


def batches_of_pairs(
    lengths: Sequence[tuple[int, int]], batch_tokens: int, *, exact: bool
) -> Iterator[list[int]]:
    """Positions of pairs that run together; a batch counts its source and target tokens, padding included."""
    batch: list[int] = []
    longest = (0, 0)
    for i in sorted(range(len(lengths)), key=lambda i: (sum(lengths[i]), lengths[i])):
        grown = max(longest[0], lengths[i][0]), max(longest[1], lengths[i][1])
        full = (len(batch) + 1) * sum(grown) > batch_tokens
        if batch and (full or (not exact and lengths[i] != lengths[batch[0]])):
            yield batch
            batch, grown = [], lengths[i]
        batch.append(i)
        longest = grown
    yield batch


def _run_batch(
    model: LanguageModel, stacks: tuple[Stack, Stack], pairs: Sequence[Pair], attention: bool
) -> Iterator[EncoderDecoderActivations]:
    with lock_of(model.model):
        sources = [noted_source(model, stack) for stack in stacks]
        with evaluating(model.model):
            encoder = run_stack(model, stacks[0], [p.source.tokens for p in pairs], attention=attention)
            decoder = run_stack(
                model, stacks[1], [p.target.tokens for p in pairs], attention=attention,
                sources=[p.source.tokens for p in pairs], encoder_hidden_states=encoder.output[0],
                encoder_attention_mask=encoder.mask,
            )
    for b, pair in enumerate(pairs):
        read = as_activations(model, sources[0], stacks[0], pair.source, encoder, b)
        source = sources[1].with_options(source_text_hash=read.source.text_hash)
        written = as_activations(model, source, stacks[1], pair.target, decoder, b)
        kinds, cross = attention_of(decoder, "cross", b)
        yield EncoderDecoderActivations(
            encoder=read, decoder=written, cross_attention=cross,
            cross_attention_layers=tuple(kind.block for kind in kinds), cross_attention_kinds=kinds,
            target_ids=pair.labels,
        )
