"""What a transformer computed on one text, as arrays: the first stage of the path.

Layer ``0`` is the embedding output; layer ``l`` is the residual stream after block ``l``, before any final norm.
Attention of block ``l`` (counted from 1) belongs to the step from layer ``l - 1`` to layer ``l``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_array,
    as_bool_array,
    as_float_array,
    as_int_array,
    check_count,
    check_shape,
    frozen,
    sealed,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source

Pooling = Literal["mean", "first", "last"]


@dataclass(frozen=True, kw_only=True)
class AttentionKind:
    """What one attention map is a map of; an architecture may mix several kinds in one stack."""

    block: int
    """Block of the stack, counted from 1."""
    side: Literal["encoder", "decoder"] | None = None
    """The stack of an encoder-decoder model; None if there is one stack only."""
    kind: Literal["self", "cross"] = "self"
    """Cross attention looks from the decoder's tokens at the encoder's."""
    query_heads: int
    """Heads, and so maps, of the block."""
    key_value_heads: int
    """Heads of keys and values; each serves ``query_heads / key_value_heads`` heads that lie side by side."""
    causal: bool
    """True if no token looks at a later one."""
    window: int | None = None
    """Most tokens one token may look at, itself counted, back only if causal and around it if not; None if all."""
    sink: bool = False
    """True if rows sum to less than one, because part of the attention goes to no token."""
    implementation: str
    """What the model computed attention with while it was captured: ``sdpa`` or ``eager``."""

    def __post_init__(self) -> None:
        check_count("block", self.block, 1)
        for name in ("query_heads", "key_value_heads"):
            check_count(name, getattr(self, name), 1)
        if self.query_heads % self.key_value_heads:
            raise ArgumentError(
                f"key_value_heads: found {self.key_value_heads} for {self.query_heads} query heads, "
                "wanted a number that divides it"
            )
        if self.side not in (None, "encoder", "decoder"):
            raise ArgumentError(f"side: found {self.side!r}, wanted 'encoder', 'decoder' or None")
        if self.kind not in ("self", "cross"):
            raise ArgumentError(f"kind: found {self.kind!r}, wanted 'self' or 'cross'")
        if self.window is not None:
            check_count("window", self.window, 1)
        if not isinstance(self.implementation, str) or not self.implementation:
            raise ArgumentError(f"implementation: found {self.implementation!r}, wanted a name such as 'sdpa'")


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerActivations(Result):
    """Hidden states and attention of one text, with its words aligned to tokens.

    There is no padding: a text captured in a batch comes back with its own tokens only. Special tokens
    (begin, end, class) are kept, since attention looks at them, and marked, so that no word contains one.
    """

    text: str
    words: tuple[str, ...]
    """Word occurrences in order of the text (n)."""
    word_spans: IntArray
    """(n, 2) first and one-past-last character of each word in ``text``."""
    tokens: tuple[str, ...]
    """Tokens as the tokenizer names them (T)."""
    token_ids: IntArray
    """(T,)"""
    token_spans: IntArray
    """(T, 2) characters of each token in ``text``; (0, 0) for a special token."""
    token_words: IntArray
    """(T,) index of the word a token belongs to; -1 for special tokens and tokens outside every word."""
    special: NDArray[np.bool_]
    """(T,) True for special tokens."""
    hidden_states: NDArray[np.floating[Any]]
    """(L + 1, T, d) residual stream; index 0 the embedding output, index l after block l."""
    attention: NDArray[np.floating[Any]] | None
    """(A, H, T, T) attention probabilities of the blocks in ``attention_layers``, row = query; None if not captured."""
    attention_layers: tuple[int, ...]
    """(A) blocks, counted from 1, that the attention maps belong to."""
    attention_kinds: tuple[AttentionKind, ...] = ()
    """(A) what each attention map is, or nothing where it was not noted."""
    causal: bool
    """True if a token attends only to itself and earlier tokens."""
    source: Source

    def __post_init__(self) -> None:
        n, t = len(self.words), len(self.tokens)
        shapes = {"word_spans": (n, 2), "token_ids": (t,), "token_spans": (t, 2), "token_words": (t,), "special": (t,)}
        for name, shape in shapes.items():
            array = (as_bool_array if name == "special" else as_int_array)(name, getattr(self, name))
            check_shape(name, array, shape)
            object.__setattr__(self, name, sealed(array))
        hidden_states = _as_floats("hidden_states", self.hidden_states)
        check_shape("hidden_states", hidden_states, (None, t, None))
        bad = ~np.isfinite(hidden_states).all(axis=(1, 2))
        if bad.any():
            raise DomainError(
                f"hidden_states: layer {int(np.flatnonzero(bad)[0])} holds NaN or infinity; "
                "the model's weights or its number format (float16 overflows in some models) are at fault, "
                "load it with dtype float32"
            )
        object.__setattr__(self, "hidden_states", hidden_states)
        if self.attention is not None:
            attention = _as_floats("attention", self.attention)
            check_shape("attention", attention, (len(self.attention_layers), None, t, t))
            object.__setattr__(self, "attention", attention)
        _check_kinds("attention_kinds", self.attention_kinds, self.attention_layers, "self")
        missing = set(range(n)) - set(self.token_words.tolist())
        if missing:
            word = min(missing)
            raise DomainError(
                f"word {word} ({self.words[word]!r}) has no token of its own; split the text into words differently"
            )

    @property
    def n_layers(self) -> int:
        """Number of blocks L; hidden states have one layer more."""
        return int(self.hidden_states.shape[0]) - 1

    @property
    def n_heads(self) -> int:
        """Number of attention heads, 0 if attention was not captured."""
        return 0 if self.attention is None else int(self.attention.shape[1])

    @property
    def dimension(self) -> int:
        """Width d of the residual stream."""
        return int(self.hidden_states.shape[2])

    def check_layer(self, layer: SupportsIndex) -> int:
        """The layer as a non-negative number; negative ones count from the last, True and 1.0 are no layers."""
        return resolve_layer(layer, self.n_layers, "model")

    def pooling_matrix(self, pooling: Pooling = "mean") -> FloatArray:
        """Weights (n, T) that turn token vectors into word vectors; each row sums to one."""
        owns = self.token_words[None, :] == np.arange(len(self.words))[:, None]
        if pooling == "mean":
            weights = owns / owns.sum(axis=1, keepdims=True)
        elif pooling in ("first", "last"):
            t = len(self.tokens)
            position = np.argmax(owns, axis=1) if pooling == "first" else t - 1 - np.argmax(owns[:, ::-1], axis=1)
            weights = np.zeros(owns.shape)
            weights[np.arange(len(self.words)), position] = 1.0
        else:
            raise ArgumentError(f"pooling {pooling!r} does not exist; choose mean, first or last")
        return np.asarray(weights, dtype=np.float64)

    def word_vectors(self, layer: int, *, pooling: Pooling = "mean") -> FloatArray:
        """Vectors (n, d) of the words at a layer, pooled over each word's tokens, in float64."""
        states = self.hidden_states[self.check_layer(layer)].astype(np.float64)
        return np.asarray(self.pooling_matrix(pooling) @ states)

    def word_attention(self) -> FloatArray:
        """Attention (A, H, n, n) between words: mean over the source word's tokens, sum over the target word's.

        Rows sum to one less the attention paid to special tokens (and tokens outside every word), which is
        left out and not renormalised. After Clark et al. 2019.
        """
        if self.attention is None:
            raise ArgumentError("attention was not captured; capture it with attention=True")
        rows = self.pooling_matrix("mean")
        columns = (rows > 0).astype(np.float64)
        pooled: FloatArray = rows @ self.attention.astype(np.float64) @ columns.T
        return pooled

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        names = [self.words[w] if w >= 0 else "" for w in self.token_words]
        columns = ("token", "id", "first", "end", "word", "special")
        spans = self.token_spans.tolist()
        table = zip(self.tokens, self.token_ids.tolist(), spans, names, self.special.tolist(), strict=True)
        return columns, [(t, i, s[0], s[1], w, sp) for t, i, s, w, sp in table]

    def summary(self) -> str:
        heads = f", {self.n_heads} heads" if self.attention is not None else ", no attention"
        return (
            f"LayerActivations of {len(self.words)} words in {len(self.tokens)} tokens: "
            f"{self.n_layers} blocks of width {self.dimension}{heads} ({self.source.model})"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderDecoderActivations(Result):
    """What an encoder-decoder model computed on a source text and a target text: both stacks, and what joins them.

    The decoder reads a start token and then the labels, which are the tokens of the target, without the last one; at
    each position it predicts the label there. So the tokens of ``decoder`` are ``(start, label 1, ..., label T - 1)``,
    and ``target_ids`` are ``(label 1, ..., label T)``.
    """

    encoder: LayerActivations
    """The source text."""
    decoder: LayerActivations
    """The target text, as the decoder reads it."""
    cross_attention: NDArray[np.floating[Any]] | None
    """(A, H, T_target, T_source) attention of the decoder's tokens to the encoder's; None if not captured."""
    cross_attention_layers: tuple[int, ...]
    """(A) decoder blocks, counted from 1, that the maps of cross attention belong to."""
    cross_attention_kinds: tuple[AttentionKind, ...] = ()
    """(A) what each map of cross attention is, or nothing where it was not noted."""
    target_ids: IntArray
    """(T_target,) label that the decoder predicts at each position."""

    def __post_init__(self) -> None:
        check_activations(self.encoder)
        check_activations(self.decoder)
        target_ids = as_int_array("target_ids", self.target_ids)
        check_shape("target_ids", target_ids, (len(self.decoder.tokens),))
        moved = np.flatnonzero(target_ids[:-1] != self.decoder.token_ids[1:])
        if moved.size:
            t = int(moved[0])
            raise DomainError(
                f"target_ids: label {t} is {target_ids[t]}, but the decoder reads {self.decoder.token_ids[t + 1]} "
                "after it; wanted the decoder's tokens to be a start token and then the labels without the last"
            )
        object.__setattr__(self, "target_ids", sealed(target_ids))
        if self.cross_attention is not None:
            cross = _as_floats("cross_attention", self.cross_attention)
            lengths = len(self.decoder.tokens), len(self.encoder.tokens)
            check_shape("cross_attention", cross, (len(self.cross_attention_layers), None, *lengths))
            object.__setattr__(self, "cross_attention", cross)
        _check_kinds("cross_attention_kinds", self.cross_attention_kinds, self.cross_attention_layers, "cross")

    @property
    def source(self) -> Source:
        """Where it comes from: that of the decoder, which has the hash of the source text among its options."""
        return self.decoder.source

    def cross_word_attention(self) -> FloatArray:
        r"""Cross attention between the words of the target and those of the source.

        With :math:`a_{ij}` the attention of target token :math:`i` to source token :math:`j`, word :math:`u` of the
        target looks at word :math:`v` of the source with weight

        .. math:: w_{uv} = \frac{1}{\lvert u \rvert} \sum_{i \in u} \sum_{j \in v} a_{ij},

        the mean over the tokens of the word that looks and the sum over those of the word looked at, as
        :meth:`LayerActivations.word_attention` pools self attention (after Clark et al. 2019, "What does BERT look
        at?", section 4.1). Rows sum to one less the attention to special tokens of the source and to those outside
        every word, which is left out and not renormalized.

        Returns
        -------
        ndarray, shape (A, H, n_target, n_source)

        Raises
        ------
        ArgumentError
            Attention was not captured.
        """
        if self.cross_attention is None:
            raise ArgumentError("cross attention was not captured; capture it with attention=True")
        rows = self.decoder.pooling_matrix("mean")
        columns = (self.encoder.pooling_matrix("mean") > 0).astype(np.float64)
        pooled: FloatArray = rows @ self.cross_attention.astype(np.float64) @ columns.T
        return pooled

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns, table = self.decoder.rows()
        return (*columns, "label"), [(*row, label) for row, label in zip(table, self.target_ids.tolist(), strict=True)]

    def summary(self) -> str:
        a, b = self.encoder, self.decoder
        heads = "no attention" if self.cross_attention is None else f"{self.cross_attention.shape[1]} heads between"
        return (
            f"EncoderDecoderActivations of {len(a.words)} words in {len(a.tokens)} tokens and {len(b.words)} words in "
            f"{len(b.tokens)} tokens: {a.n_layers} and {b.n_layers} blocks of width {b.dimension}, {heads} "
            f"({b.source.model})"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class AffinityMatrix(Result):
    """Non-negative weights between words where larger means closer; row = the word that looks, column = looked at."""

    values: FloatArray
    """(n, n), finite and non-negative."""
    words: tuple[str, ...]
    name: str
    """What it is, for example ``attention of block 3, head 9``."""
    directed: bool
    """False if the matrix is symmetric by construction."""
    level: Literal["occurrence", "type"] = "occurrence"
    layer: int | None = None
    """Block counted from 1, None if several."""
    head: int | None = None
    """Head counted from 1, None if several."""
    outside: FloatArray | None = None
    """(n,) weight each row gave to special tokens, left out of ``values``; None where it has no meaning."""
    source: Source

    def __post_init__(self) -> None:
        n = len(self.words)
        values = as_float_array("values", self.values, finite=False)
        check_shape("values", values, (n, n))
        if not np.isfinite(values).all() or (values < 0).any():
            raise DomainError(f"{self.name}: an affinity must be finite and non-negative, larger for closer words")
        if not self.directed and not np.allclose(values, values.T, rtol=1e-9, atol=1e-12):
            raise DomainError(f"{self.name}: said to be undirected, but the matrix is not symmetric")
        object.__setattr__(self, "values", sealed(values))
        if self.outside is not None:
            outside = as_float_array("outside", self.outside)
            check_shape("outside", outside, (n,))
            object.__setattr__(self, "outside", sealed(outside))

    def symmetrized(self) -> AffinityMatrix:
        """The mean of the matrix and its transpose, as an undirected affinity."""
        return AffinityMatrix(
            values=(self.values + self.values.T) / 2, words=self.words, name=f"{self.name}, symmetrized",
            directed=False, level=self.level, layer=self.layer, head=self.head, outside=self.outside,
            source=self.source,
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table = [(w, *row) for w, row in zip(self.words, self.values.tolist(), strict=True)]
        return ("from", *self.words), table

    def summary(self) -> str:
        return f"AffinityMatrix of {len(self.words)} words: {self.name}"


def resolve_layer(layer: SupportsIndex, n_layers: int, owner: str) -> int:
    """A layer from 0 to ``n_layers`` (negative ones count from the last), or an error that says which exist."""
    there = f"this {owner} has layers 0 (embedding) to {n_layers} (last block)"
    wanted = f"wanted a whole number, one layer at a time; {there}"
    if isinstance(layer, bool):
        raise ArgumentError(f"layer: found {layer!r}, {wanted}")
    try:
        number = operator.index(layer)
    except TypeError as error:
        raise ArgumentError(f"layer: found {layer!r}, {wanted}") from error
    resolved = number + n_layers + 1 if number < 0 else number
    if not 0 <= resolved <= n_layers:
        raise ArgumentError(f"layer {number} does not exist: {there}")
    return resolved


def check_activations(value: LayerActivations) -> LayerActivations:
    """The value if it is the activations of one text, or an error that says how to make them."""
    if not isinstance(value, LayerActivations):
        several = isinstance(value, list | tuple)
        raise ArgumentError(
            f"activations: found {type(value).__name__}, wanted LayerActivations; "
            + ("call this once for each text" if several else "make them with capture_activations(model, text)")
        )
    return value


def each_text(activations: LayerActivations | Iterable[LayerActivations]) -> Iterator[LayerActivations]:
    """The activations of each text, one at a time; those of a single text may come without a list around them."""
    if isinstance(activations, LayerActivations):
        activations = (activations,)
    if isinstance(activations, str) or not isinstance(activations, Iterable):
        check_activations(activations)  # raises: neither a text nor any other single object holds activations
    for text in activations:
        yield check_activations(text)


def _check_kinds(
    name: str, kinds: tuple[AttentionKind, ...], layers: tuple[int, ...], kind: Literal["self", "cross"]
) -> None:
    """Raise unless there are no kinds, or one for each map that names its block."""
    if not kinds:
        return
    if len(kinds) != len(layers):
        raise ShapeError(f"{name}: found {len(kinds)} for {len(layers)} attention maps, wanted one for each")
    for k, layer in zip(kinds, layers, strict=True):
        if k.block != layer or k.kind != kind:
            raise ArgumentError(
                f"{name}: found {k.kind} attention of block {k.block} for a map of {kind} attention of block {layer}"
            )


def _as_floats(name: str, value: ArrayLike) -> NDArray[np.floating[Any]]:
    """A read-only copy in the format that the model computed in; whole numbers become float64."""
    array = as_array(name, value)
    if array.dtype.kind not in "fiub":
        raise DomainError(f"{name}: found dtype {array.dtype}, wanted real numbers")
    return frozen(array) if array.dtype.kind == "f" else sealed(array.astype(np.float64))
