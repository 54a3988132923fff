"""What a caller gives a capture, checked: the model, the texts, how each falls into words."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, SupportsIndex

from infogeo.errors import ArgumentError, TextError
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.loading import LanguageModel


def check_model(model: object) -> None:
    """Raise an ArgumentError unless it is what ``load_model`` returns."""
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")


def check_capture(model: object, overflow: object, batch_tokens: object) -> None:
    """Raise an ArgumentError unless a capture can be made of this model with these arguments."""
    check_model(model)
    if overflow not in ("error", "truncate"):
        raise ArgumentError(f"overflow {overflow!r} does not exist; choose 'error' or 'truncate'")
    if isinstance(batch_tokens, bool) or not isinstance(batch_tokens, SupportsIndex) or index(batch_tokens) < 1:
        raise ArgumentError(f"batch_tokens: found {batch_tokens!r}, wanted a positive whole number")


def several_texts(text: Any, name: str = "text") -> Sequence[str]:
    """The texts themselves, or a TextError if it is no sequence of at least one."""
    if isinstance(text, str | bytes) or not isinstance(text, Sequence):
        raise TextError(f"{name}: found {type(text).__name__}, wanted str or a list of str")
    if not len(text):
        raise TextError(f"{name}: found no texts, wanted at least one")
    return text


def words_of_each(words: Any, count: int, name: str = "words") -> list[Words | None]:
    """How each of several texts falls into words, or an ArgumentError; one function serves them all."""
    if words is None or callable(words):
        return [words] * count
    try:
        given = [] if isinstance(words, str | bytes) else list(words)
    except TypeError as error:
        raise ArgumentError(f"{name}: found {words!r}, wanted a function or a list with each text's words") from error
    if len(given) != count:
        raise ArgumentError(f"{name}: found {len(given)} entries for {count} texts, wanted one for each")
    return given
