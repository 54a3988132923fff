"""Heads of attention taken apart into weights and values, text by text, and a check that they are all there is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError, ModelError
from infogeo_adapters.transformers._edge_effects import BlockEffects, WordTokens
from infogeo_adapters.transformers._removal_job import word_pooling
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.echo import Reading, doubled, prepare_reading
from infogeo_adapters.transformers.forward import Item, Overflow, of_text
from infogeo_adapters.transformers.head_outputs import attending_blocks, output_matrix
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stages import capture_stages

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo.results import Source

TOLERANCE = 1e-3
"""Largest difference, relative to the largest entry, of what attention returns from the sum that is taken apart; fifty
times as much for models in half precision."""
MOST_WEIGHTS = 50_000_000
"""Attention weights of several texts that are held at a time: 0.2 GB."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextEffects:
    """The effects of single edges in one text."""

    item: Item
    activations: LayerActivations
    """Of the text as it was given, twice in a row where it is read so."""
    blocks: list[BlockEffects]
    causal: bool
    """Whether no word is moved by a later one."""

    def movable(self) -> NDArray[np.bool_]:
        """(n, n) pairs of a word that may be moved and one that may move it."""
        n = len(self.item.spans)
        return np.tri(n, k=-1, dtype=np.bool_) if self.causal else ~np.eye(n, dtype=np.bool_)

    def source(self) -> Source:
        """Where results come from."""
        known = replace(self.activations.source, text_hash=hashlib.sha256(self.item.text.encode()).hexdigest())
        return known.with_options(**self.item.options)


class EdgeReader:
    """The heads of a model made ready to be taken apart: output projections, and a check that they are all there is.

    Parameters
    ----------
    model : LanguageModel
    blocks : iterable of int, optional
        Blocks with attention, counted from 1; all by default.

    Raises
    ------
    ModelError
        The model has no attention, or values and output projection of a block were not found.
    ArgumentError
        A block has no attention.
    """

    def __init__(self, model: LanguageModel, blocks: Iterable[int] | None = None) -> None:
        self.model = model
        self.heads = attending_blocks(model)
        self.blocks = check_blocks(self.heads, blocks)
        self.matrices = {b: output_matrix(model, b, self.heads[b]) for b in self.blocks}
        self._checked = False

    def effects(
        self, texts: Sequence[str], words: Sequence[Any], reading: Reading, *, overflow: Overflow, batch_tokens: int,
        captured: Sequence[LayerActivations] | None = None,
    ) -> Iterator[TextEffects]:
        """The effects in each text, in the order of the texts.

        ``captured`` are activations of the same texts with attention, if there are any, for texts read once.
        """
        items = []
        for number, (text, split) in enumerate(zip(texts, words, strict=True)):
            with of_text(None if len(texts) == 1 else number):
                items.append(prepare_reading(self.model, text, split, overflow, reading))
        known = captured if reading == "once" else None
        for part in self._chunks(items):
            yield from self._of_some(items[part], reading, batch_tokens, None if known is None else known[part])

    def _chunks(self, items: Sequence[Item]) -> Iterator[slice]:
        """Runs of texts whose attention can be held at a time."""
        first = weights = 0
        for k, item in enumerate(items):
            more = len(item.tokens.ids) ** 2 * sum(self.heads.values())
            if k > first and weights + more > MOST_WEIGHTS:
                yield slice(first, k)
                first, weights = k, 0
            weights += more
        yield slice(first, len(items))

    def _of_some(
        self, items: Sequence[Item], reading: Reading, batch_tokens: int, captured: Sequence[LayerActivations] | None
    ) -> Iterator[TextEffects]:
        given = [doubled(i.text, i.spans) if reading == "twice" else (i.text, i.spans) for i in items]
        texts, split = [text for text, _ in given], [spans for _, spans in given]
        if captured is None:
            captured = capture_activations(self.model, texts, words=split, batch_tokens=batch_tokens)
        values = capture_stages(
            self.model, texts, stages=("value",) if self._checked else ("value", "attention_output"),
            blocks=self.blocks, words=split, batch_tokens=batch_tokens,
        )
        for item, activations, stages in zip(items, captured, values, strict=True):
            for found in (activations.token_ids, stages.activations.token_ids):
                if found.tolist() != item.tokens.ids.tolist():
                    raise ArgumentError(
                        "the text was captured as other tokens than the model reads now; capture it with this model"
                    )
            n = len(item.spans)
            takes = (item.table[None, :] == np.arange(n)[:, None]).astype(np.float64)
            tokens = WordTokens(reads=word_pooling(item), takes=takes)
            blocks = [
                BlockEffects(
                    block=block, maps=maps, values=carried, tokens=tokens, matrix=self.matrices[block]
                )
                for block in self.blocks for maps, carried in [self._parts(activations, stages, block)]
            ]
            self._checked = self._checked or len(item.tokens.ids) > 1  # of one token the sum is what it says, always
            yield TextEffects(
                item=item, activations=activations, blocks=blocks, causal=activations.causal and reading == "once"
            )

    def _parts(self, activations: LayerActivations, stages: Any, block: int) -> tuple[FloatArray, FloatArray]:
        """Weights (H, T, T) and values (H, T, width) of a block; checked the first time."""
        if activations.attention is None:
            raise ArgumentError("the text was captured without attention; capture it with attention=True")
        maps = activations.attention[activations.attention_layers.index(block)].astype(np.float64)
        values = stages.at("value", block).astype(np.float64)
        matrix = self.matrices[block]
        groups, width = values.shape[1:]
        if len(maps) % groups or width != matrix.shape[1]:
            raise ModelError(
                f"{self.model.name}: block {block} has {len(maps)} heads over {groups} of values {width} wide, and its "
                f"output projection reads {matrix.shape[1]} numbers of each head, so that it cannot be taken apart; "
                "use influence of words (measure_influence), which asks the model itself"
            )
        carried = np.swapaxes(np.repeat(values, len(maps) // groups, axis=1), 0, 1)
        if not self._checked:
            wanted = stages.at("attention_output", block).astype(np.float64)
            rest = wanted - np.einsum("hij,hjw,hwd->id", maps, carried, matrix, optimize=True)
            largest = max(float(np.abs(wanted).max()), np.finfo(np.float64).tiny)
            off = float(np.abs(rest - rest.mean(axis=0)).max() / largest)  # a bias is the same for all
            half = self.model.model.dtype.itemsize < 4
            if not off <= TOLERANCE * (50 if half else 1):
                raise ModelError(
                    f"{self.model.name}: what attention of block {block} returns differs by {off:.2g} of its largest "
                    "entry from the sum of values times weights over heads and tokens, so that it cannot be taken "
                    "apart; use influence of words (measure_influence), which asks the model itself"
                )
        return maps, carried


def check_blocks(heads: dict[int, int], blocks: Iterable[int] | None) -> tuple[int, ...]:
    """Blocks that are asked for, in order, of those with attention; all if none are named.

    Raises
    ------
    ArgumentError
        A block has no attention, or none is named.
    """
    if blocks is None:
        return tuple(sorted(heads))
    try:
        given = list(blocks)
    except TypeError as error:
        raise ArgumentError(f"blocks: found {blocks!r}, wanted some of {sorted(heads)} in a list") from error
    chosen = sorted({check_count("blocks", b) for b in given})
    missing = [b for b in chosen if b not in heads]
    if missing or not chosen:
        raise ArgumentError(f"blocks: found {missing or 'none'}, wanted some of {sorted(heads)}, which have attention")
    return tuple(chosen)
