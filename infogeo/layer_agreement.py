"""Agreement of distances with attention for every layer and every head at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo import _resampling as kernels
from infogeo._checks import FloatArray, check_shape, frozen
from infogeo._pairs import check_enough_words
from infogeo.activations import LayerActivations
from infogeo.errors import ArgumentError
from infogeo.results import Result, Source
from infogeo.words import DistanceMatrix


@dataclass(frozen=True, eq=False, kw_only=True)
class Agreement(Result):
    """Rank correlation of the distances at every layer with every attention head.

    Positive where close words are those that attention joins.
    """

    heads: FloatArray
    """(L + 1, A, H) layer of the distances, block and head of the attention; NaN where one side is constant or
    the layer has no distances."""
    averages: FloatArray
    """(L + 1, A) against the mean of each block's heads."""
    blocks: tuple[int, ...]
    """(A) numbers of the blocks, counted from 1."""
    measure: str
    n: int
    """Number of word pairs."""
    source: Source
    statistic: str = "spearman"

    def __post_init__(self) -> None:
        layers, blocks, _ = self.heads.shape
        check_shape("averages", self.averages, (layers, blocks))
        check_shape("heads", self.heads, (None, len(self.blocks), None))
        for name in ("heads", "averages"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def best(self, layer: int) -> tuple[int, int, float] | None:
        """Block, head (both from 1) and value of the largest agreement at a layer; None if there is none at all."""
        values = self.heads[layer]
        if np.isnan(values).all():
            return None
        block, head = np.unravel_index(int(np.nanargmax(values)), values.shape)
        return self.blocks[block], int(head) + 1, float(values[block, head])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """One row for each layer and head, and one for each layer and block (head ``mean``)."""
        table: list[tuple[Any, ...]] = []
        for layer, (heads, averages) in enumerate(zip(self.heads.tolist(), self.averages.tolist(), strict=True)):
            for block, values, average in zip(self.blocks, heads, averages, strict=True):
                table += [(layer, block, str(h + 1), v, self.n) for h, v in enumerate(values)]
                table.append((layer, block, "mean", average, self.n))
        return ("layer", "block", "head", self.statistic, "pairs"), table

    def summary(self) -> str:
        return (
            f"Agreement ({self.statistic}) of {self.measure} at {len(self.heads)} layers with "
            f"{self.heads.shape[1] * self.heads.shape[2]} attention heads, {self.n} word pairs"
        )


def compare_layers(by_layer: Sequence[DistanceMatrix | None], activations: LayerActivations) -> Agreement:
    """Spearman's coefficient of the distances at every layer with the attention of every head.

    Over the pairs of words, the attention of both directions averaged; :func:`infogeo.spearman` gives the same number
    for one layer and one head.

    Parameters
    ----------
    by_layer : sequence of DistanceMatrix or None
        At layers 0 to L; a layer that has no distances (None) has NaN in the tables.
    activations : LayerActivations
        Of the same words, captured with attention.

    Returns
    -------
    Agreement

    Raises
    ------
    ArgumentError
        If no layer has distances, or the distances are of other words than the activations.
    DomainError
        If there are fewer than three words, so that there is nothing to put in order.

    Examples
    --------
    Both sides of the table follow from what was captured; ``model`` is from ``infogeo_adapters.load_model``::

        activations = capture_activations(model, "The dog ran home.")
        layers = range(activations.n_layers + 1)
        distances = [pairwise(fisher_rao_distance, component_normals(activations, layer)) for layer in layers]
        compare_layers(distances, activations).best(3)
    """
    if not isinstance(activations, LayerActivations):
        raise ArgumentError(f"activations: found {type(activations).__name__}, wanted LayerActivations")
    if not isinstance(by_layer, Sequence) or not all(x is None or isinstance(x, DistanceMatrix) for x in by_layer):
        raise ArgumentError("by_layer: wanted a list with a DistanceMatrix, or None, for each layer")
    there = [distances for distances in by_layer if distances is not None]
    if not there:
        raise ArgumentError("by_layer: found no distances, wanted those at layers 0 to L")
    check_enough_words(len(activations.words))
    for layer, distances in enumerate(by_layer):
        if distances is not None and distances.words != activations.words:
            raise ArgumentError(f"by_layer: the distances at place {layer} are of other words than the activations")
    first, second = np.triu_indices(len(activations.words), 1)
    attention = activations.word_attention()
    columns = np.concatenate([attention, attention.mean(axis=1, keepdims=True)], axis=1)
    columns = columns + columns.swapaxes(-1, -2)
    attended = kernels.unit_rows(kernels.centered_ranks(columns[..., first, second]))
    near = np.full((len(by_layer), len(first)), np.nan)
    for layer, distances in enumerate(by_layer):
        if distances is not None:
            closeness = -distances.symmetrized().values[first, second]
            near[layer] = kernels.unit_rows(kernels.centered_ranks(closeness))
    table = np.einsum("lm,ahm->lah", near, attended)
    return Agreement(
        heads=table[..., :-1], averages=table[..., -1], blocks=activations.attention_layers,
        measure=there[0].measure, n=len(first), source=there[0].source,
    )
