"""Influence of the sentences of a batch, measured once for all families that ask for it."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infogeo._checks import FloatArray
from infogeo.influence import Manifold
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.echo import Reading, find_reading
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence import Distribution
from infogeo_adapters.transformers.influence_meter import InfluenceMeter, moved_layers
from infogeo_adapters.transformers.removal import Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import SentenceReading


@dataclass(eq=False)
class Measurements:
    """Influence of the sentences of a batch, measured once for all families that ask for it."""

    model: LanguageModel
    removal: Removal
    reading: Reading
    distribution: Distribution
    words: bool
    """Whether words are taken away, at all layers after blocks; else single edges are cut, in all heads and blocks."""
    manifold: Manifold = "fixed covariance"
    _last: tuple[list[LayerActivations], list[FloatArray]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        layers: tuple[int, ...] = ()
        edges: tuple[tuple[int, int | None], ...] = ()
        if self.words:
            layers = moved_layers(self.removal, find_stack(self.model.model).depth)
        else:
            heads = attending_blocks(self.model)
            edges = (*((b, h + 1) for b in heads for h in range(heads[b])), *((b, None) for b in heads))
        self.meter = InfluenceMeter(
            self.model, layers, edges, self.removal, self.reading, self.distribution, self.manifold
        )

    def of(self, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """Influence (R, n, n) of each sentence."""
        now = [r.activations for r in readings]
        if self._last is None or len(now) != len(self._last[0]) or any(
            a is not b for a, b in zip(now, self._last[0], strict=True)
        ):
            words = [[(int(i), int(j)) for i, j in r.activations.word_spans] for r in readings]
            found = self.meter.measure(
                [r.activations.text for r in readings], words, captured=now
            )
            self._last = (now, [values for values, _, _ in found])
        return self._last[1]


_shared: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Measurements]] = weakref.WeakKeyDictionary()


def measurements(
    model: LanguageModel, *, words: bool, removal: str = "hide", reading: Reading | None = None,
    distribution: Distribution = "effects", blocks: tuple[int, ...] | None = None,
    manifold: Manifold = "fixed covariance",
) -> Measurements:
    """Those of a model, the same object for all families that ask for the same."""
    check_model(model)
    way = find_reading(model, reading)
    taken = find_removal(removal, blocks)
    key = (words, taken, way, distribution, manifold, model.current_source().content_hash)
    kept = _shared.setdefault(model, {})
    if key not in kept:
        kept[key] = Measurements(model, taken, way, distribution, words, manifold)
    return kept[key]
