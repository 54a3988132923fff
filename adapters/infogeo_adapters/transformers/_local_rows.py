"""Directions in which the input of a word is moved, and the passes that carry them on, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo.activations import LayerActivations
from infogeo_adapters.transformers._local_metrics import plain
from infogeo_adapters.transformers._local_tangents import Differentiation, MissingDerivativeError, push_forward
from infogeo_adapters.transformers.forward import Item
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import Stack

if TYPE_CHECKING:
    import torch

Direction = Literal["isotropic", "covariance", "embedding", "deviation"]
Estimator = Literal["exact", "hutchinson"]
DIRECTIONS: tuple[Direction, ...] = ("isotropic", "covariance", "embedding", "deviation")
RANK_ONE = ("embedding", "deviation")
"""Directions of which each word has one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Moves:
    """How the inputs of words are moved: a factor A of the scale S = A A^T, and which columns of it are tried."""

    direction: Direction
    estimator: Estimator
    probes: int
    """Of Hutchinson's estimator."""
    mean: FloatArray | None = None
    """(d,) what a deviation is from."""
    factor: FloatArray | None = None
    """(d, d) A for one token; None for the identity."""

    @property
    def random(self) -> bool:
        """Whether directions are drawn."""
        return self.estimator == "hutchinson"

    def count(self, tokens: int, dimension: int) -> int:
        """Directions for a word of so many tokens."""
        if self.direction in RANK_ONE:
            return 1
        return self.probes if self.random else tokens * dimension

    def of_text(
        self, states: FloatArray, tokens_of: Sequence[IntArray], generator: np.random.Generator
    ) -> Iterator[tuple[int, FloatArray]]:
        """Pairs of a word and a direction (T, d), word by word, zero but at the tokens of the word."""
        signs = np.empty((0, *states.shape), dtype=np.int8)
        if self.random:
            signs = 2 * generator.integers(0, 2, size=(self.probes, *states.shape), dtype=np.int8) - 1
        for j, own in enumerate(tokens_of):
            for k in range(self.count(len(own), states.shape[1])):
                direction = np.zeros(states.shape)
                direction[own] = self._one(states, own, signs, k)
                yield j, direction

    def _one(self, states: FloatArray, own: IntArray, signs: NDArray[np.int8], k: int) -> FloatArray:
        """Direction k (t, d) at the t tokens of a word."""
        if self.direction in RANK_ONE:
            return np.asarray(states[own] - (0.0 if self.mean is None else self.mean))
        if self.random:
            chosen = signs[k, own].astype(np.float64)
        else:
            chosen = np.zeros((len(own), states.shape[1]))
            chosen.flat[k] = 1.0
        return chosen if self.factor is None else np.asarray(chosen @ self.factor.T)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """A text, its capture and its seed."""

    item: Item
    activations: LayerActivations
    pooling: FloatArray
    """(n, T)"""
    generator: np.random.Generator

    @property
    def tokens_of(self) -> list[IntArray]:
        """The places of the tokens of each word."""
        return [np.flatnonzero(self.item.table == w) for w in range(len(self.item.spans))]


Take = Callable[[int, IntArray, FloatArray, Differentiation], None]
"""Told the number of a text, the words (K,) that moved in it, and how the words moved (R, K, n, d)."""


def push_all(
    model: LanguageModel, stack: Stack, readings: Sequence[Reading], moves: Moves, take: Take, *, at: int,
    layers: Sequence[int], batch_tokens: int, progress: Callable[[int, int], None] | None = None,
) -> Differentiation:
    """Carry every direction of every text to the layers, shortest texts first, and hand on how pooled words move.

    Forward differentiation is used; from the first operation on that has none, two backward passes instead.
    """
    how: Differentiation = "forward"
    total = sum(moves.count(len(own), r.activations.dimension) for r in readings for own in r.tokens_of)
    done = 0
    for batch in _batches(readings, moves, at, batch_tokens, exact=stack.pads_exactly):
        numbers = [i for i, _, _ in batch]
        rows = [readings[i].item.tokens for i in numbers]
        directions = _stacked([direction for _, _, direction in batch], model)
        while True:
            try:
                moved = push_forward(model, stack, rows, directions, at=at, layers=layers, differentiation=how)
                _hand_on(readings, batch, plain(moved), take, how)
                break
            except MissingDerivativeError:
                if how == "double_backward":
                    raise
                how = "double_backward"
        done += len(batch)
        if progress is not None:
            progress(done, total)
    return how


Row = tuple[int, int, FloatArray]
"""Text, word and direction (T, d)."""


def _batches(
    readings: Sequence[Reading], moves: Moves, at: int, batch_tokens: int, *, exact: bool
) -> Iterator[list[Row]]:
    """Rows that run together; without exact padding only such of one length."""
    lengths = [len(r.item.tokens.ids) for r in readings]
    batch: list[Row] = []
    for i in sorted(range(len(readings)), key=lambda i: lengths[i]):
        reading = readings[i]
        states = reading.activations.hidden_states[at].astype(np.float64)
        for j, direction in moves.of_text(states, reading.tokens_of, reading.generator):
            full = (len(batch) + 1) * lengths[i] > batch_tokens
            if batch and (full or (not exact and lengths[i] != lengths[batch[0][0]])):
                yield batch
                batch = []
            batch.append((i, j, direction))
    yield batch


def _stacked(directions: Sequence[FloatArray], model: LanguageModel) -> torch.Tensor:
    """Directions (B, T, d) in the format of the model, zero at padding."""
    import torch

    longest = max(map(len, directions))
    table = np.zeros((len(directions), longest, directions[0].shape[1]))
    for place, direction in zip(table, directions, strict=True):
        place[: len(direction)] = direction
    return torch.from_numpy(table).to(model.model.device, model.model.dtype)


def _hand_on(
    readings: Sequence[Reading], batch: Sequence[Row], moved: FloatArray, take: Take, how: Differentiation
) -> None:
    """Pool what moved (R, B, T, d) to words, text by text."""
    numbers = np.array([i for i, _, _ in batch])
    words = np.array([j for _, j, _ in batch])
    for i in dict.fromkeys(numbers.tolist()):
        mine = np.flatnonzero(numbers == i)
        pooling = readings[i].pooling
        take(i, words[mine], np.asarray(pooling @ moved[:, mine, : pooling.shape[1]]), how)
