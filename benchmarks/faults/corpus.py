"""A probabilistic grammar as corpus: endless, seeded, with relations that only attention with positions can follow.

A sentence has a topic, which says which words are frequent in it (every word of it tells of the topic: attention that
averages is enough), and a chain of word classes that depends on the two classes before (attention to the token two
places back). A sentence begins with a speaker, and the word after each mark in it is the speaker again (attention to
a token far away, across whatever is between).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, MASK, STOP, MARK = 0, 1, 2, 3
SPECIAL = 4
SPEAKERS = 12
CLASSES = 6
WORDS = 16
"""In each class."""
TOPICS = 4
VOCABULARY = SPECIAL + SPEAKERS + CLASSES * WORDS

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Grammar:
    """Probabilities, cumulative along the last axis so that drawing is one comparison."""

    classes: NDArray[np.float64]
    """(C, C, C) of the next class, by the two before."""
    words: NDArray[np.float64]
    """(topics, C, W) of the word, by topic and class."""

    def draw(self, rng: np.random.Generator, texts: int, tokens: int) -> Ids:
        """(texts, tokens) ids, cut out of an endless sequence of sentences; all texts advance together."""
        ids = np.empty((texts, tokens), dtype=np.int64)
        one, two = rng.integers(CLASSES, size=(2, texts))
        topic, speaker = rng.integers(TOPICS, size=texts), rng.integers(SPEAKERS, size=texts)
        # 0: the speaker comes, 1: a word of the chain or a mark or the end, 2: the speaker again
        state = np.zeros(texts, dtype=np.int64)
        for t in range(tokens):
            chance, u, v = rng.random((3, texts))
            following = (self.classes[one, two] < u[:, None]).sum(axis=1)
            word = (self.words[topic, following] < v[:, None]).sum(axis=1)
            spoken = state != 1
            ends, marks = ~spoken & (chance < 0.08), ~spoken & (chance >= 0.08) & (chance < 0.2)
            plain = ~(spoken | ends | marks)
            ids[:, t] = np.select(
                [spoken, ends, marks], [SPECIAL + speaker, np.full(texts, STOP), np.full(texts, MARK)],
                SPECIAL + SPEAKERS + following * WORDS + word,
            )
            one, two = np.where(plain, two, one), np.where(plain, following, two)
            state = np.where(ends, 0, np.where(marks, 2, 1))
            topic = np.where(ends, rng.integers(TOPICS, size=texts), topic)
            speaker = np.where(ends, rng.integers(SPEAKERS, size=texts), speaker)
        return ids


def grammar(seed: int = 0) -> Grammar:
    """The grammar of a seed."""
    rng = np.random.default_rng([seed, 11])
    chain = rng.dirichlet(np.full(CLASSES, 0.1), size=(CLASSES, CLASSES))
    frequency = 1 / (1 + np.arange(WORDS)) ** 2.5
    words = np.array([[rng.permutation(frequency) for _ in range(CLASSES)] for _ in range(TOPICS)])
    return Grammar(classes=_cumulative(chain), words=_cumulative(words / words.sum(axis=-1, keepdims=True)))


def masked(ids: Ids, rng: np.random.Generator, share: float = 0.3) -> tuple[Ids, Ids]:
    """Ids with a share of the tokens hidden, and targets: the tokens that were hidden, -100 elsewhere."""
    hidden = rng.random(ids.shape) < share
    hidden[:, 0] |= ~hidden.any(axis=1)
    return np.where(hidden, MASK, ids), np.where(hidden, ids, -100)


def unigram_entropy(seed: int = 0) -> float:
    """Entropy of single tokens in nats, of a large sample: what a model can reach without looking at anything."""
    counts = np.bincount(grammar(seed).draw(np.random.default_rng(5), 512, 128).ravel(), minlength=VOCABULARY)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _cumulative(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the last one, so that rounding cannot lead past the end."""
    return np.cumsum(shares, axis=-1)[..., :-1]
