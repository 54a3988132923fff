"""Vectors of words: each read alone (or in a plain text), or wherever it occurs in a corpus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo.activations import LayerActivations, Pooling
from infogeo.errors import ArgumentError, DomainError, TextError
from infogeo_adapters.transformers.alignment import Span, check_text
from infogeo_adapters.transformers.capture import split_into_windows
from infogeo_adapters.transformers.forward import Item, prepare, run_items
from infogeo_adapters.transformers.loading import LanguageModel

Progress = Callable[[int, int], object]
States = NDArray[np.floating[Any]]
PLAIN = re.compile(r"\w+(?:-\w+)*")
GROUP = 64
"""Texts whose activations are in memory together."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Occurrences:
    """The vectors of W words at R layers, one for each occurrence that was read."""

    words: tuple[str, ...]
    layers: tuple[int, ...]
    members: IntArray
    """(N,) the word of each occurrence."""
    vectors: States
    """(R, N, d) pooled over the tokens of the word."""
    last: States | None
    """(R, N, d) state at the last token of the word, where a model that predicts is read out."""
    missing: Mapping[str, str]
    """Words of which nothing could be read, each with the reason."""
    texts: int
    """How many texts were read."""


@dataclass(frozen=True)
class Reading:
    """How words are read."""

    layers: tuple[int, ...]
    pooling: Pooling
    keep_last: bool
    batch_tokens: int
    progress: Progress | None


def read_alone(model: LanguageModel, words: Sequence[str], template: str | None, how: Reading) -> Occurrences:
    """Each word once: alone, or in the place of the braces of a text such as ``"This is a {}."``."""
    before, after = _around(template)
    missing: dict[str, str] = {}
    items: list[Item] = []
    owners: list[list[int]] = []
    for number, word in enumerate(words):
        span = (len(before), len(before) + len(word))
        try:
            item = prepare(model, check_text(before + word + after), [span], "error")
        except TextError as error:
            missing[word] = f"cannot be read: {error}"
            continue
        if _is_unknown(model, item, 0):
            missing[word] = "the tokenizer knows no part of it"
            continue
        items.append(item)
        owners.append([number])
    return _read(model, words, items, owners, missing, how)


def read_in_corpus(
    model: LanguageModel, words: Sequence[str], corpus: Sequence[str], how: Reading, *, min_count: int, max_count: int,
    max_tokens: int, ignore_case: bool, rng: np.random.Generator,
) -> Occurrences:
    """Each word in up to ``max_count`` places of a corpus, drawn at random paragraph by paragraph.

    Words that occur fewer than ``min_count`` times are missing.
    """
    numbers: dict[str, int] = {}
    for number, word in enumerate(words):
        numbers.setdefault(_key(word, ignore_case), number)
    find = _Finder(list(numbers), ignore_case)
    paragraphs = [p for text in corpus for p in re.split(r"\n\s*\n", text) if find(p)]
    counts = np.zeros(len(words), dtype=np.int64)
    items: list[Item] = []
    owners: list[list[int]] = []
    unread: dict[int, str] = {}
    for p in rng.permutation(len(paragraphs)).tolist():
        there = [numbers[key] for key, _ in find(paragraphs[p])]
        if all(counts[n] >= max_count for n in there):
            continue
        try:
            windows = _windows(model, paragraphs[p], max_tokens)
        except TextError as error:
            unread.update((n, str(error)) for n in there)
            continue
        for window in windows:
            found = [(numbers[key], span) for key, span in find(window)]
            if all(counts[n] >= max_count for n, _ in found):
                continue
            try:
                item = prepare(model, window, [span for _, span in found], "error")
            except TextError as error:
                unread.update((n, str(error)) for n, _ in found)
                continue
            kept = [-1] * len(found)
            for k, (n, _) in enumerate(found):
                if counts[n] < max_count and not _is_unknown(model, item, k):
                    kept[k] = n
                    counts[n] += 1
            items.append(item)
            owners.append(kept)
    missing = {}
    for key, number in numbers.items():
        if counts[number] < min_count:
            reason = f"occurs {counts[number]} times in the corpus, wanted at least {min_count}"
            if number in unread:
                reason += f" (some places cannot be read: {unread[number]})"
            missing.update({word: reason for word in words if _key(word, ignore_case) == key})
    owners = [[-1 if n < 0 or counts[n] < min_count else n for n in kept] for kept in owners]
    return _read(model, words, items, owners, missing, how)


def index_of_words(found: Occurrences, ignore_case: bool) -> dict[str, int]:
    """The number of each word that was read, by its key."""
    return {_key(word, ignore_case): number for number, word in enumerate(found.words)}


def _key(word: str, ignore_case: bool) -> str:
    return " ".join(word.lower().split()) if ignore_case else " ".join(word.split())


def _around(template: str | None) -> tuple[str, str]:
    """What stands before and after a word."""
    if template is None:
        return "", ""
    parts = template.split("{}") if isinstance(template, str) else []
    if len(parts) != 2:
        raise ArgumentError(
            f"template: found {template!r}, wanted a text with {{}} once, in the place of the word, such as "
            "'This is a {}.'"
        )
    return parts[0], parts[1]


class _Finder:
    """Finds words in a text, not inside other words nor as a part of hyphenated ones."""

    def __init__(self, keys: Iterable[str], ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self.single = {key for key in keys if PLAIN.fullmatch(key)}
        others = sorted((key for key in keys if key not in self.single), key=len, reverse=True)
        either = "|".join(r"\s+".join(map(re.escape, key.split())) for key in others)
        flags = re.IGNORECASE if ignore_case else 0
        self.other = re.compile(rf"(?<!\w)(?<!\w-)(?:{either})(?!\w)(?!-\w)", flags) if others else None

    def __call__(self, text: str) -> list[tuple[str, Span]]:
        """Key and characters of each place, in order; in what is several words (New York) no other word is found."""
        others = () if self.other is None else self.other.finditer(text)
        found = [(_key(m[0], self.ignore_case), m.span()) for m in others]
        taken = [span for _, span in found]
        for m in PLAIN.finditer(text):
            key = _key(m[0], self.ignore_case)
            if key in self.single and not any(first < m.end() and m.start() < end for first, end in taken):
                found.append((key, m.span()))
        return sorted(found, key=lambda place: place[1])


def _windows(model: LanguageModel, paragraph: str, max_tokens: int) -> list[str]:
    limit = model.context_length
    return split_into_windows(model, paragraph, max_tokens=max_tokens if limit is None else min(max_tokens, limit))


def _is_unknown(model: LanguageModel, item: Item, word: int) -> bool:
    """Whether all that the tokenizer makes of a word is its token for what it does not know."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    ids = item.tokens.ids[item.table == word]
    return unknown is not None and bool(len(ids)) and bool((ids == unknown).all())


def _read(
    model: LanguageModel, words: Sequence[str], items: Sequence[Item], owners: Sequence[list[int]],
    missing: Mapping[str, str], how: Reading,
) -> Occurrences:
    """Capture the texts and keep the vectors of the words in them; what belongs to no word is not kept."""
    wanted = [k for k, kept in enumerate(owners) if any(n >= 0 for n in kept)]
    members: list[int] = []
    vectors: list[States] = []
    last: list[States] = []
    for numbers, activations in _captured(model, [items[k] for k in wanted], how):
        kept = owners[wanted[numbers]]
        rows = [k for k, n in enumerate(kept) if n >= 0]
        members += [kept[k] for k in rows]
        vectors.append(_pooled(activations, how.layers, how.pooling, rows))
        if how.keep_last:
            last.append(_pooled(activations, how.layers, "last", rows))
    if not members:
        shown = "; ".join(f"{word!r}: {reason}" for word, reason in list(missing.items())[:3])
        raise DomainError(f"words: none of {len(words)} could be read ({shown}); give another corpus or other words")
    present = sorted(set(members))
    place = {n: k for k, n in enumerate(present)}
    return Occurrences(
        words=tuple(words[n] for n in present), layers=how.layers,
        members=np.array([place[n] for n in members], dtype=np.int64), vectors=np.concatenate(vectors, axis=1),
        last=np.concatenate(last, axis=1) if how.keep_last else None, missing=dict(missing), texts=len(wanted),
    )


def _captured(
    model: LanguageModel, items: Sequence[Item], how: Reading
) -> Iterator[tuple[int, LayerActivations]]:
    """Activations of each text with its number, a group of texts at a time."""
    order = sorted(range(len(items)), key=lambda k: len(items[k].tokens.ids))  # little padding in each group
    done = 0
    for start in range(0, len(order), GROUP):
        group = order[start : start + GROUP]
        chosen = [items[k] for k in group]
        for k, activations in run_items(model, chosen, attention=False, batch_tokens=how.batch_tokens):
            yield group[k], activations
        done += len(group)
        if how.progress is not None:
            how.progress(done, len(items))


def _pooled(activations: LayerActivations, layers: Sequence[int], pooling: Pooling, rows: Sequence[int]) -> States:
    weights = activations.pooling_matrix(pooling)[rows]
    states = activations.hidden_states[list(layers)].astype(np.float64)
    return np.asarray(weights @ states, dtype=activations.hidden_states.dtype)
