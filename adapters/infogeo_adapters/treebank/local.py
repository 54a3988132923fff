"""The family of local influence graphs: the Fisher metric pulled back to the states of an earlier layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo.influence import row_shares, symmetrized_influence
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.local_influence import local_influence
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

SMALLEST = 1e-12
"""Least share whose logarithm is taken: a word that moves another by nothing is as far as can be."""


@dataclass(eq=False)
class LocalInfluenceGraphs:
    r"""Local influence of a word's deviation from the mean on the next layers.

    As :func:`infogeo_adapters.local_influence` measures it: word j moves along its own difference
    to the mean state at layer m, and the states at layers m + 1 and m + 2 are normals of unit covariance. Closeness
    is the mean of the logarithms of the row shares in both directions. Variants are the pairs of layers that
    begin from a third to two thirds of the blocks, and sums of two steps that follow each other.

    Parameters
    ----------
    model : LanguageModel
        A causal one is given the text once, so that a pair has one direction only.

    Raises
    ------
    ModelError
        The model has a single block.
    """

    model: LanguageModel
    name: str = field(default="local influence", init=False)
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        depth = find_stack(self.model.model).depth
        self._starts = tuple(range(max(1, depth // 3), min(depth - 1, -(-2 * depth // 3)) + 1))
        if not self._starts:
            raise ModelError(f"{self.model.name} has {depth} blocks, too few to move one layer and read another")
        self._pairs = tuple((m, layer) for m in self._starts for layer in (m + 1, m + 2) if layer <= depth)
        steps = [(m, m + 1) for m in self._starts]
        self._sums = tuple((a, b) for a, b in pairwise(steps))
        self.variants = (
            *(f"layer {m} to {layer}" for m, layer in self._pairs),
            *(f"layer {a[0]} to {a[1]} and {b[0]} to {b[1]}" for a, b in self._sums),
        )

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed but the mean states, which are kept with the model."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (variants, n, n)."""
        words = [[(int(i), int(j)) for i, j in r.activations.word_spans] for r in readings]
        texts = [r.activations.text for r in readings]
        logs: list[dict[tuple[int, int], FloatArray]] = [{} for _ in readings]
        for m in self._starts:
            layers = [layer for start, layer in self._pairs if start == m]
            found = local_influence(
                model, texts, words=words, layers=layers, at=m, direction="deviation", distribution="unit"
            )
            for mine, influence in zip(logs, found, strict=True):
                shares = symmetrized_influence(row_shares(influence.values), causal=influence.causal)
                logarithms = np.log(np.maximum(shares, SMALLEST))
                mine |= {(m, layer): one for layer, one in zip(layers, logarithms, strict=True)}
        return [
            np.stack([*(mine[pair] for pair in self._pairs), *(mine[a] + mine[b] for a, b in self._sums)])
            for mine in logs
        ]
