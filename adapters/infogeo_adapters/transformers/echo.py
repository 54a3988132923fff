"""Texts read twice, so that in a causal model every word has seen every other one.

In a causal model a word is never moved by a later one, and half of all relations cannot be seen. Where the text is
given twice in a row, the words of the second copy have all words before them, the later ones in the first copy
(Springer et al. 2024, "Repetition improves language model embeddings"). Words are then read in the second copy and
taken away from both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from infogeo.errors import ArgumentError, TextError
from infogeo_adapters.transformers.alignment import Words, check_text, encode
from infogeo_adapters.transformers.forward import Item, prepare
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo_adapters.transformers.alignment import Span
    from infogeo_adapters.transformers.forward import Overflow

Reading = Literal["once", "twice"]


def find_reading(model: LanguageModel, reading: Reading | None) -> Reading:
    """How texts are read: as asked for, or twice by a causal model and once by others.

    Raises
    ------
    ArgumentError
        There is no such way to read.
    """
    if reading is None:
        return "twice" if find_stack(model.model).causal else "once"
    if reading not in ("once", "twice"):
        raise ArgumentError(f"reading {reading!r} does not exist; choose 'once' or 'twice'")
    return reading


def doubled(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    """A text twice in a row with a space between, and the words of both copies."""
    shift = len(text) + 1
    return f"{text} {text}", [*spans, *((i + shift, j + shift) for i, j in spans)]


def prepare_reading(
    model: LanguageModel, text: str, words: Words | None, overflow: Overflow, reading: Reading
) -> Item:
    """A text ready to be read once or twice.

    Of a text read twice the tokens are those of both copies; both tokens of a word belong to it, and ``read`` marks
    those of the second copy.

    Raises
    ------
    TextError
        As :func:`~infogeo_adapters.transformers.forward.prepare`, or the text given twice is longer than the context
        and is not to be truncated.
    """
    item = prepare(model, check_text(text), words, overflow)
    if reading == "once":
        return item
    if overflow == "truncate":
        item = _fitting_twice(model, item)
    try:
        twice = prepare(model, *doubled(item.text, item.spans), "error")
    except TextError as error:
        raise TextError(f"read twice in a row, so that every word has seen every other one, {error}") from error
    n = len(item.spans)
    return replace(
        item, tokens=twice.tokens, table=np.where(twice.table >= 0, twice.table % n, -1), read=twice.table >= n,
        options={**item.options, "reading": "twice"},
    )


def _fitting_twice(model: LanguageModel, item: Item) -> Item:
    """The longest beginning of the words of which two copies fit the context."""
    limit, words = model.context_length, len(item.spans)
    if limit is None:
        return item

    def fits(count: int) -> bool:
        spans = item.spans[:count]
        text, _ = doubled(item.text[: spans[-1][1]], spans)
        return len(encode(model.tokenizer, text).ids) <= limit

    if fits(words):
        return item
    least, most = 0, words  # so many fit, so many do not
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    if not least:
        raise TextError(f"the first word alone, given twice, takes more than the {limit} tokens of the context")
    kept = item.spans[:least]
    gone = words - least + int(item.options.get("truncated_words") or 0)
    return replace(item, text=item.text[: kept[-1][1]], spans=kept, options={**item.options, "truncated_words": gone})
