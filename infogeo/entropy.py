"""Entropies of discrete distributions, and the entropy of a model's prediction by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_shape, frozen
from infogeo.errors import DomainError
from infogeo.results import Result, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class EntropyProfile(Result):
    """Entropy of the prediction read out at each layer and token of one text (logit lens)."""

    entropy: FloatArray
    """(L + 1, T) in nats; row 0 read out at the embedding, row l after block l."""
    top_tokens: tuple[tuple[str, ...], ...]
    """(L + 1)(T) the most probable outcome at each layer and token."""
    top_probability: FloatArray
    """(L + 1, T) its probability."""
    tokens: tuple[str, ...]
    token_words: IntArray
    """(T,) index of the word a token belongs to, -1 for none."""
    words: tuple[str, ...]
    predicts: Literal["next", "itself"]
    """Whether the prediction at a token is of the next token (causal) or of the token itself (masked)."""
    n_outcomes: int
    """Size of the vocabulary read out; the entropy is at most its logarithm."""
    stage: str = "resid_post"
    source: Source

    def __post_init__(self) -> None:
        t = len(self.tokens)
        check_shape("entropy", self.entropy, (None, t))
        check_shape("top_probability", self.top_probability, self.entropy.shape)
        check_shape("token_words", self.token_words, (t,))
        if not (self.entropy >= -1e-9).all() or (self.entropy > np.log(self.n_outcomes) + 1e-6).any():
            raise DomainError(f"entropy: values must lie between 0 and log({self.n_outcomes})")
        for name in ("entropy", "top_probability", "token_words"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def last_tokens(self) -> IntArray:
        """(n,) the last token of each word, whose prediction is the first made with the whole word read."""
        places = [np.flatnonzero(self.token_words == w)[-1] for w in range(len(self.words))]
        return np.asarray(places, dtype=np.int64)

    def word_entropy(self) -> FloatArray:
        """(L + 1, n) entropy at each word's last token, in nats."""
        return np.asarray(self.entropy[:, self.last_tokens()])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("layer", "position", "token", "entropy", "top_token", "top_probability")
        table = [
            (layer, t, self.tokens[t], float(self.entropy[layer, t]), self.top_tokens[layer][t],
             float(self.top_probability[layer, t]))
            for layer in range(len(self.entropy))
            for t in range(len(self.tokens))
        ]
        return columns, table

    def summary(self) -> str:
        return f"EntropyProfile of {len(self.tokens)} tokens at {len(self.entropy)} layers, in nats ({self.source.model})"
