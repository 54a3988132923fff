"""Attention weighted by how large a vector it carries: the norms of Kobayashi et al."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError, ModelError
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.head_outputs import attending_blocks, output_matrix
from infogeo_adapters.transformers.stages import capture_stages
from infogeo_adapters.treebank.attention import pooled

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo.stages import StageActivations
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

TOLERANCE = 1e-3
"""Largest difference, relative to the largest entry, of what attention returns from the sum over heads and tokens that
the norms take apart; a model in half precision gets fifty times as much."""


@dataclass(eq=False)
class AttentionNorms:
    r"""Norms of the vectors that attention carries from word to word, by head and summed over the heads of a block.

    Attention adds up what it takes from each token j and head h,

    .. math:: y_i = \sum_h \sum_j \alpha^h_{ij} f^h(x_j) + b, \qquad f^h(x) = (x W_V^h + b_V^h) \, W_O^h,

    and the norms :math:`\lVert \alpha^h_{ij} f^h(x_j) \rVert` of a head and
    :math:`\lVert \sum_h \alpha^h_{ij} f^h(x_j) \rVert` of a block say more of what matters than the weights, which are
    large where the vectors are small (Kobayashi, Kuribayashi, Yokoi and Inui 2020, "Attention is not only a weight",
    equations 5 to 7). Token norms are pooled to words as attention is, and closeness is the mean of both directions.

    Values are taken from a forward pass of its own. That the sum is what the output projection of the model returns is
    checked on the first text.

    Parameters
    ----------
    model : LanguageModel
        With attention whose values and output projection were found.

    Raises
    ------
    ModelError
        The model has no attention, its values or output projection were not found, or, in :meth:`prepare`, the sum over
        heads and tokens is not what attention returns.
    """

    model: LanguageModel
    name: str = field(default="value-weighted attention", init=False)
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        heads = attending_blocks(self.model)
        self._blocks = tuple(heads)
        self._matrices = {block: output_matrix(self.model, block, heads[block]) for block in heads}
        self.variants = (
            *(f"block {block}, head {h + 1}" for block in heads for h in range(heads[block])),
            *(f"block {block}, all heads" for block in heads),
        )
        """Heads, block by block, then blocks."""

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Check on the first text that attention is the sum that the norms take apart."""
        for text in texts[:1]:
            acts = capture_activations(model, text, overflow="truncate")
            stages = capture_stages(
                model, text, stages=("value", "attention_output"), blocks=self._blocks, overflow="truncate"
            )
            for block, maps, carried in self._parts(acts, stages):
                found = np.einsum("hij,hjd->id", maps, carried)
                wanted = stages.at("attention_output", block).astype(np.float64)
                difference = (wanted - found) - (wanted - found).mean(axis=0)  # the bias is the same for all tokens
                largest = float(np.abs(difference).max() / np.abs(wanted).max())
                half = str(model.model.dtype) in ("torch.float16", "torch.bfloat16")
                if largest > TOLERANCE * (50 if half else 1):
                    raise ModelError(
                        f"{model.name}: what attention of block {block} returns differs by {largest:.2g} of its "
                        "largest entry from the sum of values times weights over heads and tokens, so that it cannot "
                        "be taken apart; leave value-weighted attention out"
                    )

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (blocks x heads + blocks, n, n)."""
        words = [[(int(i), int(j)) for i, j in r.activations.word_spans] for r in readings]
        texts = [r.activations.text for r in readings]
        stages = capture_stages(model, texts, stages=("value",), blocks=self._blocks, words=words)
        return [self._norms(r.activations, s) for r, s in zip(readings, stages, strict=True)]

    def _parts(
        self, activations: LayerActivations, stages: StageActivations
    ) -> list[tuple[int, FloatArray, FloatArray]]:
        """Of each block its number, weights (H, T, T), and what each head carries of each token (H, T, d)."""
        if activations.attention is None:
            raise ArgumentError("attention was not captured; capture the sentences with attention=True")
        if activations.token_ids.tolist() != stages.activations.token_ids.tolist():
            raise ArgumentError(
                "the sentence was captured as other tokens than the model reads now; capture it with this model"
            )
        found = []
        for block, weights in zip(activations.attention_layers, activations.attention, strict=True):
            matrix = self._matrices[block]
            values = stages.at("value", block).astype(np.float64)
            values = np.repeat(values, len(matrix) // values.shape[1], axis=1)
            found.append((block, weights.astype(np.float64), np.swapaxes(values, 0, 1) @ matrix))
        return found

    def _norms(self, activations: LayerActivations, stages: StageActivations) -> FloatArray:
        heads, sums = [], []
        for _, weights, carried in self._parts(activations, stages):
            heads.append(weights * np.linalg.norm(carried, axis=-1)[:, None, :])
            by_token = np.swapaxes(carried, 0, 1)
            products = by_token @ np.swapaxes(by_token, 1, 2)
            shares = np.ascontiguousarray(weights.transpose(2, 0, 1))
            squares = (shares * (products @ shares)).sum(axis=1).T
            sums.append(np.sqrt(np.maximum(squares, 0.0)))  # below zero by rounding only: products are a Gram matrix
        maps = pooled(activations, np.stack([*np.concatenate(heads), *sums]))
        return np.asarray((maps + np.swapaxes(maps, 1, 2)) / 2)
