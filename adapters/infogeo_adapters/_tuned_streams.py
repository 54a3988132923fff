"""Texts as the tuned lens reads them: rows of tokens with the true token at each place, and their residual stream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import IntArray, check_count
from infogeo.errors import ArgumentError, DomainError, TextError
from infogeo_adapters.transformers.alignment import Tokens, check_text
from infogeo_adapters.transformers.forward import batches_of, run_stack
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.pairs import batches_of_pairs, prepare_pair
from infogeo_adapters.transformers.readout import ReadOut, find_readout
from infogeo_adapters.transformers.stack import Stack, find_stack
from infogeo_adapters.transformers.token_rows import token_windows

if TYPE_CHECKING:
    import torch

Text = str | tuple[str, str]
"""One text, or of a model with an encoder and a decoder a source and a target."""

WINDOW = 256
"""Tokens in one row where the caller says nothing and the context is not shorter."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """A stretch of one text that is run by itself."""

    tokens: Tokens
    """What the blocks read; in a decoder of two stacks a start token and the target without its last token."""
    source: Tokens | None
    """What the encoder reads, if there is one."""
    text: int
    """Number of the text it is of."""
    truth: IntArray
    """(T,) the token that the prediction at each place is of; -1 where there is none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Stream:
    """The residual stream at n tokens of some rows, padding left out."""

    states: list[torch.Tensor]
    """Layers 0 to L, each (n, d), on the model's device in the read-out's number format."""
    truth: torch.Tensor
    """(n,) as in :class:`Row`."""
    texts: IntArray
    """(n,) number of the text each token is of."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader:
    """A model, and what is known of the way its stream is run and read out."""

    model: LanguageModel
    stack: Stack
    """Its only one, or the decoder of two."""
    readout: ReadOut

    @property
    def predicts(self) -> Literal["next", "itself"]:
        """Of which token the prediction at a place is."""
        return self.readout.predicts


def reader_of(model: object) -> Reader:
    """The reader of a model with a head.

    Raises
    ------
    ArgumentError
        It is not what ``load_model`` returns.
    ModelError
        It has no head, or cannot be read out.
    """
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    readout = find_readout(model)
    return Reader(model=model, stack=find_stack(model.model, "decoder"), readout=readout)


def checked_texts(reader: Reader, texts: Any) -> list[Text]:
    """At least two texts that can be tokenized, pairs for a model with two stacks, or an error that says which cannot.

    Raises
    ------
    TextError
        There are fewer, or one is empty, not a text, or not a pair where pairs are wanted.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise TextError(
            f"texts: found {type(texts).__name__}, wanted a list of texts; cut a long one into parts that can be "
            "held out or resampled, for example at its blank lines: text.split('\\n\\n')"
        )
    if len(texts) < 2:
        raise TextError(f"texts: found {len(texts)}, wanted at least 2, since whole texts are held out and resampled")
    found: list[Text] = []
    for number, text in enumerate(texts):
        try:
            if reader.stack.side is None:
                found.append(check_text(text))
                continue
            if not isinstance(text, tuple | list) or len(text) != 2:
                raise TextError(
                    f"text: found {type(text).__name__}, wanted a pair (source, target), since {reader.model.name} has "
                    "an encoder and a decoder"
                )
            found.append((check_text(text[0]), check_text(text[1])))
        except TextError as error:
            raise TextError(f"texts[{number}]: {str(error).removeprefix('text: ')}") from error
    return found


def hash_of_texts(texts: Sequence[Text]) -> str:
    """SHA-256 of the hashes of the texts, in their order; the two of a pair are joined by NUL, which no text holds."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256((text if isinstance(text, str) else "\0".join(text)).encode()).digest())
    return digest.hexdigest()


def rows_of(reader: Reader, texts: Sequence[Text], window: int | None) -> tuple[list[Row], int | None]:
    """Rows of the texts in windows of so many tokens, and that number; pairs are rows as they are, without a number.

    Raises
    ------
    TextError
        No text has a token whose true prediction is known, or a pair is longer than the context.
    """
    if reader.stack.side is not None:
        return _rows_of_pairs(reader, texts, window), None
    limit = reader.model.context_length
    length = min(WINDOW, limit or WINDOW) if window is None else check_count("window", window, 1)
    rows = []
    for number, text in enumerate(texts):
        for tokens in token_windows(reader.model, [str(text)], length):
            rows.append(Row(tokens=tokens, source=None, text=number, truth=_truth(tokens, reader.predicts)))
    if all((row.truth < 0).all() for row in rows):
        raise TextError(
            "texts: found no token with a known one after it, wanted texts of at least two tokens beside special ones"
        )
    return rows, length


def _rows_of_pairs(reader: Reader, texts: Sequence[Text], window: int | None) -> list[Row]:
    if window is not None:
        raise ArgumentError(
            f"window: found {window}, but pairs for {reader.model.name} are not cut: a target belongs to its whole "
            "source; leave it out"
        )
    rows = []
    for number, text in enumerate(texts):
        try:
            pair = prepare_pair(reader.model, text[0], text[1], None, None, "error")
        except TextError as error:
            raise TextError(f"texts[{number}]: {error}") from error
        rows.append(Row(tokens=pair.target.tokens, source=pair.source.tokens, text=number, truth=pair.labels))
    return rows


def _truth(tokens: Tokens, predicts: str) -> IntArray:
    own = np.where(tokens.special, -1, tokens.ids)
    return own if predicts == "itself" else np.append(own[1:], -1)


def batches(reader: Reader, rows: Sequence[Row], batch_tokens: int) -> list[list[Row]]:
    """Rows that run together: padding counted no more than ``batch_tokens``, unless one row alone is longer."""
    exact = reader.stack.pads_exactly
    if reader.stack.side is None:
        order = batches_of([len(row.tokens.ids) for row in rows], batch_tokens, exact=exact)
    else:
        exact = exact and find_stack(reader.model.model, "encoder").pads_exactly
        both = [(len(row.source.ids) if row.source else 0, len(row.tokens.ids)) for row in rows]
        order = batches_of_pairs(both, batch_tokens, exact=exact)
    return [[rows[i] for i in batch] for batch in order]


def run_stream(reader: Reader, rows: Sequence[Row]) -> Stream:
    """One forward pass, without attention; the caller holds the model's lock and has set its mode.

    Raises
    ------
    DomainError
        A layer holds NaN or infinity.
    """
    import torch

    model, more = reader.model, {}
    sources = [row.source for row in rows if row.source is not None]
    if sources:
        encoder = run_stack(model, find_stack(model.model, "encoder"), sources, attention=False)
        more = {"encoder_hidden_states": encoder.output[0], "encoder_attention_mask": encoder.mask}
    found = run_stack(model, reader.stack, [row.tokens for row in rows], attention=False, **more)
    real = found.mask.bool().cpu().numpy()
    dtype = getattr(torch, reader.readout.dtype)
    states = [torch.from_numpy(layer[real]).to(model.model.device, dtype) for layer in found.states]
    texts = np.repeat([row.text for row in rows], [len(row.tokens.ids) for row in rows]).astype(np.int64)
    for layer, values in enumerate(states):
        if not bool(values.isfinite().all()):
            token = int((~values.isfinite().all(dim=1)).nonzero()[0, 0])
            where = f"the output of block {layer}" if layer else "the embedding"
            raise DomainError(
                f"layer {layer} ({where}) holds NaN or infinity, first in text {int(texts[token])}: its weights are "
                "damaged, or the model's number format is too narrow; load the model again, with dtype='float32'"
            )
    truth = torch.from_numpy(np.concatenate([row.truth for row in rows])).to(states[0].device)
    return Stream(states=states, truth=truth, texts=texts)
