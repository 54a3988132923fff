"""One text of a corpus, and the mapped shard that it is a view of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, sealed
from infogeo.activations import LayerActivations, Pooling, resolve_layer
from infogeo.errors import ArgumentError
from infogeo.results import Result, Source
from infogeo_adapters._corpus_files import check_lengths, damaged

if TYPE_CHECKING:
    from infogeo_adapters._corpus_manifest import Shard
    from infogeo_adapters.corpus import Corpus

TOKEN_COLUMNS = np.dtype([
    ("text", np.int64), ("position", np.int32), ("id", np.int32), ("word", np.int32), ("special", np.bool_),
])
WORD_COLUMNS = np.dtype([("text", np.int64), ("word", np.int32), ("first", np.int32), ("end", np.int32)])


@dataclass(frozen=True, eq=False, kw_only=True)
class CorpusText(Result):
    """One text of a corpus; what is large is a view into the file and read when it is used."""

    index: int
    """Number of the text in the corpus, from 0."""
    text: str | None
    """The text as it was run (cut, if it was too long); None if texts were not stored."""
    tokens: tuple[str, ...]
    """Tokens as the tokenizer names them (T), special ones included."""
    token_ids: IntArray
    """(T,)"""
    token_spans: IntArray
    """(T, 2) characters of each token in the text; (0, 0) for a special token."""
    token_words: IntArray
    """(T,) index of the word a token belongs to; -1 for special tokens and tokens outside every word."""
    special: NDArray[np.bool_]
    """(T,) True for special tokens."""
    word_spans: IntArray
    """(n, 2) first and one-past-last character of each word."""
    states: Mapping[int, NDArray[np.floating[Any]]]
    """By layer, (T, d), or (n, d) if the corpus is pooled to words. In the format of the disk; bfloat16 as float32."""
    pooling: Pooling | None
    n_layers: int
    """Blocks of the model."""
    causal: bool
    truncated_words: int
    """Words cut off because the text was longer than the context."""
    joined_words: int
    """Words joined with a neighbor because one token covers both."""
    source: Source
    """Where the numbers come from; ``text_hash`` is that of the text as it was given."""

    @property
    def words(self) -> tuple[str, ...]:
        """Word occurrences in order of the text (n).

        Raises
        ------
        ArgumentError
            The text was not stored.
        """
        if self.text is None:
            raise ArgumentError("words: the texts were not stored; capture the corpus with store_text=True")
        return tuple(self.text[i:j] for i, j in self.word_spans.tolist())

    def layer(self, layer: SupportsIndex) -> NDArray[np.floating[Any]]:
        """States of a layer as in ``states``; negative layers count from the last."""
        return self.states[captured_layer(layer, self.n_layers, tuple(self.states))]

    def word_vectors(self, layer: SupportsIndex, *, pooling: Pooling = "mean") -> FloatArray:
        """Vectors (n, d) of the words at a layer in float64, pooled over each word's tokens.

        Raises
        ------
        ArgumentError
            The layer was not captured, or words were pooled in another way when the corpus was.
        """
        rows = self.layer(layer)
        if self.pooling is None:
            n = len(self.word_spans)
            return _pooled(rows.astype(np.float64), np.asarray(self.token_words), n, pooling)
        if pooling != self.pooling:
            raise ArgumentError(f"pooling: found {pooling!r}, but the corpus was captured with {self.pooling!r}")
        return rows.astype(np.float64)

    def to_activations(self) -> LayerActivations:
        """The same as ``capture_activations(model, text, attention=False)`` returns, for everything that takes it.

        Raises
        ------
        ArgumentError
            The corpus does not have all layers, or words instead of tokens, or no texts.
        """
        if self.pooling is not None or tuple(self.states) != tuple(range(self.n_layers + 1)):
            raise ArgumentError(
                "to_activations needs the token vectors of all layers; capture the corpus without layers= and "
                "pooling=, or use word_vectors(layer)"
            )
        return LayerActivations(
            text=self.text or "", words=self.words, word_spans=self.word_spans, tokens=self.tokens,
            token_ids=self.token_ids, token_spans=self.token_spans, token_words=self.token_words, special=self.special,
            hidden_states=np.stack(list(self.states.values())), attention=None, attention_layers=(),
            causal=self.causal, source=self.source,
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        spans = self.token_spans.tolist()
        table = zip(
            self.tokens, self.token_ids.tolist(), spans, self.token_words.tolist(), self.special.tolist(), strict=True
        )
        columns = ("token", "id", "first", "end", "word", "special")
        return columns, [(t, i, s[0], s[1], w, special) for t, i, s, w, special in table]

    def summary(self) -> str:
        counts = f"{len(self.word_spans)} words in {len(self.tokens)} tokens"
        return f"CorpusText {self.index} of {counts} ({self.source.model})"


class OpenShard:
    """A mapped shard."""

    def __init__(self, corpus: Corpus, entry: Shard, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.first_text, self.tensors = entry.first_text, tensors
        self.bits = corpus.dtype == "bfloat16"
        self.layers, self.pooling, self.n_layers = corpus.layers, corpus.pooling, corpus.n_layers
        self.causal, self.source = corpus.causal, corpus.source
        self.path = Path(corpus.folder) / entry.file
        lengths = {f"layer.{layer}": entry.words if corpus.pooling else entry.tokens for layer in corpus.layers}
        lengths |= dict.fromkeys(("token_ids", "token_spans", "token_words", "special"), entry.tokens)
        lengths |= dict.fromkeys(("text_hashes", "truncated_words", "joined_words"), entry.texts)
        lengths |= {"word_spans": entry.words, "text_tokens": entry.texts + 1, "text_words": entry.texts + 1}
        check_lengths(self.path, tensors, lengths)
        try:
            names = _unpacked(tensors["vocabulary"], tensors["vocabulary_bytes"])
            self.names = dict(zip(tensors["vocabulary_ids"].tolist(), names, strict=True))
        except (KeyError, ValueError) as error:
            raise damaged(self.path, error) from error

    def states(self, layer: int, rows: slice) -> NDArray[np.floating[Any]]:
        found: NDArray[Any] = self.tensors[f"layer.{layer}"][rows]
        if self.bits:  # a bfloat16 is the upper half of a float32
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found

    def text(self, i: int) -> CorpusText:
        try:
            return self._text(i)
        except (KeyError, ValueError, IndexError) as error:
            raise damaged(self.path, error) from error

    def _text(self, i: int) -> CorpusText:
        t = self.tensors
        tokens, words = (slice(*t[f"text_{kind}"][i : i + 2].tolist()) for kind in ("tokens", "words"))
        text = _unpacked(t["text"], t["text_bytes"][i : i + 2])[0] if "text" in t else None
        ids = _whole(t["token_ids"][tokens])
        return CorpusText(
            index=self.first_text + i, text=text, tokens=tuple(self.names[j] for j in ids.tolist()), token_ids=ids,
            token_spans=_whole(t["token_spans"][tokens]), token_words=_whole(t["token_words"][tokens]),
            special=t["special"][tokens], word_spans=_whole(t["word_spans"][words]),
            states=_States(self, words if self.pooling else tokens), pooling=self.pooling, n_layers=self.n_layers,
            causal=self.causal, truncated_words=int(t["truncated_words"][i]), joined_words=int(t["joined_words"][i]),
            source=replace(self.source, text_hash=t["text_hashes"][i].tobytes().hex()),
        )

    def token_table(self) -> NDArray[np.void]:
        t = self.tensors
        table = np.empty(len(t["token_ids"]), dtype=TOKEN_COLUMNS)
        table["text"], table["position"] = _numbered(t["text_tokens"], self.first_text)
        table["id"], table["word"], table["special"] = t["token_ids"], t["token_words"], t["special"]
        return table

    def word_table(self) -> NDArray[np.void]:
        t = self.tensors
        table = np.empty(len(t["word_spans"]), dtype=WORD_COLUMNS)
        table["text"], table["word"] = _numbered(t["text_words"], self.first_text)
        table["first"], table["end"] = t["word_spans"].T
        return table


class _States(Mapping[int, "NDArray[np.floating[Any]]"]):
    """States of one text by layer, read when asked for."""

    def __init__(self, shard: OpenShard, rows: slice) -> None:
        self.shard, self.rows = shard, rows

    def __getitem__(self, layer: int) -> NDArray[np.floating[Any]]:
        if layer not in self.shard.layers:
            raise KeyError(layer)
        return self.shard.states(layer, self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.shard.layers)

    def __len__(self) -> int:
        return len(self.shard.layers)


def captured_layer(layer: SupportsIndex, n_layers: int, layers: Sequence[int]) -> int:
    """A layer as a number, negative ones counted from the model's last, or an error that says which were captured."""
    number = resolve_layer(layer, n_layers, "corpus's model")
    if number not in layers:
        raise ArgumentError(f"layer {number} was not captured; this corpus has layers {', '.join(map(str, layers))}")
    return number


def _pooled(states: FloatArray, owners: IntArray, n: int, pooling: Pooling) -> FloatArray:
    """Vectors of n words from those of tokens, and the word that each token belongs to."""
    inside = np.flatnonzero(owners >= 0)
    if pooling == "mean":
        sums = np.zeros((n, states.shape[1]))
        np.add.at(sums, owners[inside], states[inside])
        return np.asarray(sums / np.bincount(owners[inside], minlength=n)[:, None])
    if pooling not in ("first", "last"):
        raise ArgumentError(f"pooling {pooling!r} does not exist; choose mean, first or last")
    places = np.empty(n, dtype=np.int64)
    order = inside[::-1] if pooling == "first" else inside
    places[owners[order]] = order  # of a word's tokens the one written last stays
    return np.asarray(states[places])


def _whole(values: NDArray[Any]) -> IntArray:
    whole: IntArray = sealed(values.astype(np.int64))
    return whole


def _unpacked(packed: NDArray[np.uint8], starts: NDArray[np.int64]) -> list[str]:
    return [packed[i:j].tobytes().decode() for i, j in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]


def _numbered(starts: NDArray[np.int64], first: int) -> tuple[IntArray, IntArray]:
    """Of each row the number of its text, and its place in it."""
    counts = np.diff(starts)
    return np.repeat(np.arange(len(counts)) + first, counts), np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
