"""Training of the structural probe: sentences with their path lengths, loss and gradient, Adam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.errors import DomainError

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree

LEARNING_RATE, DECAY = 1e-3, 0.1
"""Of Adam at the start, and its factor where there is no more progress."""
BATCH = 20
"""Sentences in a step."""
START = 0.1
"""Squared distances under the first map as a share of path lengths, both on average."""
PROGRESS = 1e-4
"""Decrease of the loss on the dev part that counts as progress."""
PATIENCE = 3
"""Epochs without progress after which the learning rate falls."""
LEAST_RATE = 1e-5
"""Training ends instead of going on with less."""
MOMENTS, TINY = (0.9, 0.999), 1e-8
"""Of Adam."""


@dataclass(frozen=True, eq=False)
class Part:
    """Sentences one after the other, and their path lengths."""

    vectors: FloatArray
    """(words of all sentences, d)"""
    first: IntArray
    """(S + 1,) where each sentence begins."""
    lengths: list[FloatArray]
    """Path lengths (n, n) of each sentence."""

    @classmethod
    def of(cls, vectors: Sequence[FloatArray], trees: Sequence[DependencyTree]) -> Part:
        """Vectors are taken about their mean in each sentence, which no distance feels, and rounding does."""
        first = np.cumsum([0, *map(len, vectors)])
        together = np.concatenate([v - v.mean(axis=0) for v in vectors])
        return cls(together, first, [tree.distances().astype(np.float64) for tree in trees])

    def scale(self) -> float:
        """Root mean square of the entries."""
        scale = float(np.sqrt((self.vectors**2).mean()))
        if not scale > 0:
            raise DomainError("vectors: all words of each sentence have the same vector; take those of another layer")
        return scale

    def divided(self, scale: float) -> Part:
        """With vectors of another unit."""
        return Part(self.vectors / scale, self.first, self.lengths)

    def stretch(self, matrix: FloatArray) -> float:
        """Mean squared distance under a map, over the mean path length."""
        mapped = np.split(self.vectors @ matrix.T, self.first[1:-1])
        reached = sum(float(squared_distances(m[None]).sum()) for m in mapped)
        return reached / sum(float(d.sum()) for d in self.lengths)

    @staticmethod
    def batches(order: IntArray, size: int) -> list[IntArray]:
        """The sentences in an order, some at a time."""
        return [order[start : start + size] for start in range(0, len(order), size)]

    def step(self, matrix: FloatArray, sentences: IntArray) -> tuple[float, FloatArray]:
        """Loss of some sentences, the mean over them, and its gradient by the map."""
        counts = self.first[sentences + 1] - self.first[sentences]
        longest = int(counts.max())
        there = np.arange(longest) < counts[:, None]
        words = np.concatenate([np.arange(self.first[s], self.first[s + 1]) for s in sentences])
        rows = self.vectors[words]
        mapped = np.zeros((len(sentences), longest, len(matrix)))
        mapped[there] = rows @ matrix.T
        wanted = np.zeros((len(sentences), longest, longest))
        for k, s in enumerate(sentences):
            wanted[k, : counts[k], : counts[k]] = self.lengths[s]
        weights = (there[:, :, None] & there[:, None, :]) / (counts.astype(np.float64) ** 2)[:, None, None]
        excess = squared_distances(mapped) - wanted
        loss = float((np.abs(excess) * weights).sum()) / len(sentences)
        pull = np.sign(excess) * weights * (4 / len(sentences))
        by_word = pull.sum(axis=2)[..., None] * mapped - pull @ mapped
        return loss, by_word[there].T @ rows


@dataclass(eq=False)
class Training:
    """How training goes; numbers by epoch."""

    best: FloatArray
    """Map with the least loss on the dev part."""
    best_epoch: int = 0
    """Counted from 1."""
    converged: bool = False
    train_loss: list[float] = field(default_factory=list)
    dev_loss: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def train_map(
    train: Part, dev: Part, matrix: FloatArray, max_epochs: int, generator: np.random.Generator
) -> Training:
    """Train from a first map; the generator draws the order of sentences."""
    found = Training(best=matrix)
    rate, least, waited = LEARNING_RATE, np.inf, 0
    adam = Adam(matrix.shape)
    parts = dev.batches(np.arange(len(dev.lengths)), 5 * BATCH)
    for epoch in range(1, max_epochs + 1):
        losses, sizes = [], []
        for batch in train.batches(generator.permutation(len(train.lengths)), BATCH):
            loss, gradient = train.step(matrix, batch)
            matrix = matrix - rate * adam.direction(gradient)
            losses.append(loss)
            sizes.append(len(batch))
        held_out = float(np.average([dev.step(matrix, p)[0] for p in parts], weights=[len(p) for p in parts]))
        found.train_loss.append(float(np.average(losses, weights=sizes)))
        found.dev_loss.append(held_out)
        found.rates.append(rate)
        if held_out < least - PROGRESS:
            least, waited, found.best, found.best_epoch = held_out, 0, matrix, epoch
            continue
        waited += 1
        if waited == PATIENCE:
            rate, waited, matrix, adam = rate * DECAY, 0, found.best, Adam(matrix.shape)
            if rate < LEAST_RATE / 2:
                found.converged = True
                break
    return found


class Adam:
    """Directions of steps (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._mean, self._square, self._steps = np.zeros(shape), np.zeros(shape), 0

    def direction(self, gradient: FloatArray) -> FloatArray:
        """What the learning rate is multiplied with."""
        first, second = MOMENTS
        self._steps += 1
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient**2
        size = np.sqrt(self._square / (1 - second**self._steps)) + TINY
        return np.asarray(self._mean / (1 - first**self._steps) / size)


def squared_distances(mapped: FloatArray) -> FloatArray:
    """Between all rows of each of (S, n, k); what rounding leaves below zero is zero."""
    products = mapped @ np.swapaxes(mapped, 1, 2)
    products = (products + np.swapaxes(products, 1, 2)) / 2
    norms = np.diagonal(products, axis1=1, axis2=2)
    return np.asarray(np.maximum(norms[:, :, None] + norms[:, None, :] - 2 * products, 0.0))
