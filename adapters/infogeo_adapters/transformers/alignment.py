"""Words of a text, tokens of a text, and which token belongs to which word: by characters, never by guesswork.

A tokenizer says for each token which characters it stands for. White space at the ends of that span is left out
(GPT-2 counts the space before a word to it), and the token goes to the word it shares most characters with.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo.errors import ModelError, TextError
from infogeo_adapters.transformers.locks import lock_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
Splitter = Callable[[str], Iterable[Span]]
Words = Splitter | Sequence[Span] | Sequence[str]
"""How a text falls into words: a function from text to spans, the spans, or the words in order."""

DASHES = "\u2014\u2015\u2026"
"""Em dash, horizontal bar and ellipsis separate words even without spaces."""

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""How Unicode names of letters begin in scripts that put no spaces between words."""

SPACE_MARK = "\u2581"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens:
    """The tokens of one text, special tokens included."""

    ids: IntArray
    spans: IntArray
    """(T, 2) characters without white space at the ends; (0, 0) for tokens that the tokenizer added."""
    special: NDArray[np.bool_]
    """True for tokens that the tokenizer added, and so not for a ``[MASK]`` written in the text."""
    types: IntArray
    """Segment numbers, as the tokenizer gives them; zeros if it gives none."""


def check_text(text: object) -> str:
    """A text that can be tokenized, or an error.

    Raises
    ------
    TextError
        It is no ``str``, empty, only white space, or holds NUL or half a surrogate pair.
    """
    if not isinstance(text, str):
        remedy = "; decode it first, text.decode('utf-8')" if isinstance(text, bytes) else ""
        raise TextError(f"text: found {type(text).__name__}, wanted str{remedy}")
    if not text.strip():
        raise TextError(f"text: found {'only white space' if text else 'an empty text'}, wanted at least one word")
    bad = re.search("[\x00\ud800-\udfff]", text)
    if bad:
        name = "NUL" if bad[0] == "\x00" else "half a surrogate pair"
        raise TextError(
            f"text: character {bad.start()} is {name} (U+{ord(bad[0]):04X}), which no tokenizer can read; remove it, "
            "or decode the file again with the right encoding"
        )
    return text


# Words


def split_words(text: str, *, whole: Iterable[Span] = ()) -> list[Span]:
    r"""Split a text into words and punctuation marks: the default splitter.

    1. White space separates.
    2. Call *mark* a character of the Unicode categories P (punctuation) and S (symbols, emoji), together with the
       combining marks, variation selectors and joiners that follow it. Marks at the beginning and at the end of a
       piece are split off, each run as one word: ``"Stop!"`` is ``"``, ``Stop``, ``!"``.
    3. Inside a piece a single mark joins (don't, well-known, 3.14, and/or), but two or more, an em dash, an
       ellipsis, an emoji or a mark of East Asian width separate: ``wait--what`` is three words.

    Scripts written without spaces (Chinese, Japanese, Thai) come out as one word from mark to mark; give the spans of
    a segmenter for these.

    Parameters
    ----------
    text : str
    whole : iterable of (int, int)
        Spans to keep as words of their own, such as a ``[MASK]``; in order, not overlapping.

    Returns
    -------
    list of (int, int)
        First and one-past-last character of each word.

    Examples
    --------
    >>> text = "\"Don't,\" said A.B. of the well-known 3.14--club."
    >>> [text[i:j] for i, j in split_words(text)]
    ['"', "Don't", ',"', 'said', 'A.B', '.', 'of', 'the', 'well-known', '3.14', '--', 'club', '.']
    """
    words: list[Span] = []
    begin = 0
    for first, end in (*whole, (len(text), len(text))):
        words += [span for piece in _pieces(text, begin, first) for span in _split_piece(text, *piece)]
        if end > first:
            words.append((first, end))
        begin = end
    return words


def _pieces(text: str, begin: int, end: int) -> Iterator[Span]:
    """Runs without white space."""
    first = begin
    for i in range(begin, end + 1):
        if i == end or text[i].isspace():
            if first < i:
                yield first, i
            first = i + 1


def _split_piece(text: str, begin: int, end: int) -> list[Span]:
    marks: list[bool] = []
    for c in text[begin:end]:
        category = unicodedata.category(c)
        follows = bool(marks) and marks[-1] and (category[0] == "M" or category == "Cf")
        marks.append(category[0] in "PS" or follows)
    edges = [i for i in range(1, end - begin) if marks[i] != marks[i - 1]]
    runs = [(begin + i, begin + j) for i, j in pairwise((0, *edges, end - begin))]
    words = []
    k = 0
    while k < len(runs):
        i, j = runs[k]
        while not marks[i - begin] and k + 2 < len(runs) and _joins(text[slice(*runs[k + 1])]):
            k += 2
            j = runs[k][1]
        words.append((i, j))
        k += 1
    return words


def _joins(mark: str) -> bool:
    """True for a single mark that holds two parts of a word together."""
    return (
        len(mark) == 1 and mark not in DASHES and unicodedata.category(mark) not in ("So", "Sk")
        and unicodedata.east_asian_width(mark) not in ("W", "F")
    )


def word_spans(text: str, words: Words | None, *, whole: Iterable[Span] = ()) -> list[Span]:
    """Spans of the words of a text, checked.

    Parameters
    ----------
    text : str
    words : callable, sequence of (int, int), sequence of str, or None
        A function from text to spans, the spans, the words in the order of the text, or None for
        :func:`split_words`. Characters outside all words are allowed; their tokens belong to no word. A word given as
        ``str`` is not looked for inside other words: the characters on both sides of its edge are not both letters
        or digits, unless the next given word follows without a gap (``["do", "n't"]``).
    whole : iterable of (int, int)
        Passed on to :func:`split_words`.

    Raises
    ------
    TextError
        ``words`` is no list, there is no word, a word is not found, or spans overlap, are out of order, out of range,
        or only white space.

    Examples
    --------
    >>> word_spans("New York is big", ["New York", "is", "big"])
    [(0, 8), (9, 11), (12, 15)]
    """
    if words is None:
        return split_words(text, whole=whole)
    given = _listed(words(text) if callable(words) else words)
    spans: list[Span] = []
    found: list[Span] = []
    end = 0
    for k, word in enumerate(given):
        if isinstance(word, str):
            found = found or _find_words(text, given, k, end)
            span = found.pop(0)
        else:
            span = _as_span(k, word)
        if not end <= span[0] < span[1] <= len(text):
            raise TextError(
                f"words: word {k} has the span {span} after one that ends at {end}, in a text of {len(text)} "
                "characters; spans must be in order, not empty, and must not overlap"
            )
        if not text[slice(*span)].strip():
            raise TextError(f"words: word {k} with the span {span} is only white space")
        spans.append(span)
        end = span[1]
    if not spans:
        raise TextError("words: found none, wanted at least one word")
    return spans


def _listed(words: object) -> list[Any]:
    """The entries of what a caller gave as words."""
    try:
        entries = None if isinstance(words, str | bytes) else iter(cast("Iterable[Any]", words))
    except TypeError:
        entries = None
    if entries is None:
        raise TextError(
            f"words: found {words!r}, wanted a list of words or of (first, end) character positions, or a function "
            "from the text to such a list"
        )
    return list(entries)


def _find_words(text: str, words: Sequence[Any], k: int, begin: int) -> list[Span]:
    """Spans of word k and of those that must follow it without a gap for the last one to end where a word ends.

    So ``["a"]`` is not found in "woman", but ``["do", "n't"]`` is in "don't".
    """
    word = words[k]
    first = text.find(word, begin) if word else -1
    inside = first >= 0
    while first >= 0:
        spans: list[Span] = []
        end = first
        for following in words[k:] if _is_edge(text, first) else ():
            if not (isinstance(following, str) and following and text.startswith(following, end)):
                break
            spans.append((end, end + len(following)))
            end += len(following)
            if _is_edge(text, end):
                return spans
        first = text.find(word, first + 1)
    more = " as a word of its own, only inside other words; give spans to cut words into parts" if inside else ""
    raise TextError(f"words: word {k} ({word!r}) does not follow in the text after character {begin}{more}")


def _is_edge(text: str, i: int) -> bool:
    """True unless character i continues a word: both sides are letters, digits or marks of a script with spaces."""
    return not 0 < i < len(text) or not (_continues(text[i - 1]) and _continues(text[i]))


def _continues(c: str) -> bool:
    letter = c.isalnum() or unicodedata.category(c)[0] == "M"
    return letter and not unicodedata.name(c, "").startswith(UNSPACED)


def _as_span(k: int, word: object) -> Span:
    try:
        first, end = cast("Span", word)
        return index(first), index(end)
    except (TypeError, ValueError) as error:
        raise TextError(f"words: word {k} is {word!r}, wanted (first, end) character positions or a str") from error


# Tokens


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, target: bool = False) -> Tokens:
    """Tokens of a text with the special tokens that the model is used to.

    With ``target`` they are those of a text to predict (the labels), which some tokenizers of translation models cut
    or mark differently.

    Raises
    ------
    ModelError
        The tokenizer gives no usable character offsets.
    """
    with lock_of(tokenizer):  # each call sets padding and truncation on the tokenizer itself
        found = tokenizer(
            **{"text_target" if target else "text": text}, return_offsets_mapping=True,
            return_special_tokens_mask=True, padding=False, truncation=False, verbose=False,
        )
    special = np.array(found["special_tokens_mask"], dtype=bool)
    raw = np.array(found["offset_mapping"], dtype=np.int64).reshape(len(special), 2)
    bad = (raw[:, 0] > raw[:, 1]) | (raw[:, 0] < 0) | (raw[:, 1] > len(text))
    backwards = np.diff(raw[~special, 0]) < 0
    if bad.any() or backwards.any():
        raise ModelError(
            f"{type(tokenizer).__name__} gives character offsets that do not fit the text (it may change the text "
            "before cutting it up), so tokens cannot be aligned with words; use another tokenizer for this model"
        )
    names = tokenizer.convert_ids_to_tokens(found["input_ids"])
    spans = [
        (0, 0) if s else _stripped(text, name, i, j)
        for s, name, (i, j) in zip(special, names, raw.tolist(), strict=True)
    ]
    return Tokens(
        ids=np.array(found["input_ids"], dtype=np.int64), spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
        special=special, types=np.array(found.get("token_type_ids", [0] * len(special)), dtype=np.int64),
    )


def _stripped(text: str, name: str, first: int, end: int) -> Span:
    """The span without white space at its ends; as it was if there is nothing else."""
    piece = text[first:end]
    if not name.strip(SPACE_MARK) and SPACE_MARK not in piece:
        # T5 puts a mark for a space before the first word, and says that it stands for the word's first character
        return first, first
    if not piece.strip():
        return first, end
    return first + len(piece) - len(piece.lstrip()), first + len(piece.rstrip())


def written_specials(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Tokens) -> list[Span]:
    """Spans of the special tokens that are written in the text, such as ``[MASK]``."""
    ids = set(tokenizer.all_special_ids)
    return [
        (i, j) for token, s, (i, j) in zip(tokens.ids.tolist(), tokens.special, tokens.spans.tolist(), strict=True)
        if not s and token in ids and text[i:j] == tokenizer.convert_ids_to_tokens(token)
    ]


def token_table(text: str, tokens: Tokens, spans: Sequence[Span]) -> IntArray:
    """The word each token belongs to, (T,); -1 for special tokens and tokens outside every word.

    A token goes to the word with which it shares most characters, the left one of equals. Tokens that share one
    character (a byte-level tokenizer cuts an emoji into bytes) go to the same word.
    """
    starts, ends = (np.array(v, dtype=np.int64) for v in zip(*spans, strict=True))
    visible = np.array([bool(text[i:j].strip()) for i, j in tokens.spans.tolist()], dtype=bool)
    firsts = np.searchsorted(ends, tokens.spans[:, 0], side="right")
    lasts = np.searchsorted(starts, tokens.spans[:, 1], side="left")
    table = np.where((lasts > firsts) & visible & ~tokens.special, firsts, -1)
    for t in np.flatnonzero((lasts > firsts + 1) & (table >= 0)).tolist():
        touched = slice(firsts[t], lasts[t])
        shared = np.minimum(ends[touched], tokens.spans[t, 1]) - np.maximum(starts[touched], tokens.spans[t, 0])
        table[t] += int(np.argmax(shared))
    return table


def join_words(text: str, tokens: Tokens, spans: Sequence[Span]) -> list[Span]:
    """Join words of which one would be left without a token, because a token covers both.

    Tokens such as ``.com`` or the ``'re`` of ``'really`` reach over the edge of a word. Where this leaves a word
    without a token it is joined with the word that the token went to; else the words stay as they are.
    """
    spans = list(spans)
    while True:
        table = token_table(text, tokens, spans)
        empty = sorted(set(range(len(spans))) - set(table.tolist()))
        taken = {
            w: int(table[t]) for w in empty for t, (i, j) in enumerate(tokens.spans.tolist())
            if table[t] >= 0 and i < spans[w][1] and spans[w][0] < j
        }
        if not taken:
            return spans
        w, other = next(iter(taken.items()))
        low, high = min(w, other), max(w, other)
        spans[low : high + 1] = [(spans[low][0], spans[high][1])]


def check_coverage(text: str, tokenizer: PreTrainedTokenizerBase, table: IntArray, spans: Sequence[Span]) -> None:
    """Raise a TextError that names the first word without a token."""
    missing = set(range(len(spans))) - set(table.tolist())
    if missing:
        w = min(missing)
        i, j = spans[w]
        name = tokenizer.name_or_path
        name = os.path.basename(os.path.normpath(name)) if name and os.path.isdir(name) else name
        raise TextError(
            f"word {w} ({text[i:j]!r}, characters {i} to {j}) has no token of its own: {type(tokenizer).__name__} "
            f"({name or 'without a name'}) drops it or covers it with a neighbor's token; "
            "split the text into words differently (words=), or remove it"
        )
