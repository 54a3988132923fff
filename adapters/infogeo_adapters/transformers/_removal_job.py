"""Texts checked, and made ready to be read with and without their words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, check_progress, random_generator
from infogeo.activations import resolve_layer
from infogeo.errors import ArgumentError
from infogeo.influence import Influence, WordEffects, influence_matrix
from infogeo.results import Source
from infogeo_adapters.transformers._removal_rows import Measure, Readings, States, run_readings
from infogeo_adapters.transformers.arguments import check_capture, several_texts, words_of_each
from infogeo_adapters.transformers.echo import Reading, find_reading, prepare_reading
from infogeo_adapters.transformers.forward import Item, Overflow, noted_source, of_text
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal, Remover, find_removal
from infogeo_adapters.transformers.stack import Stack, find_stack

Layers = SupportsIndex | Iterable[SupportsIndex] | None
Progress = Callable[[int, int], object]


@dataclass(frozen=True, eq=False, kw_only=True)
class RemovalJob:
    """Texts ready to be read with and without their words."""

    model: LanguageModel
    stack: Stack
    items: list[Item]
    removal: Removal
    layers: tuple[int, ...]
    batch_tokens: int
    seed: int
    source: Source
    progress: Progress | None
    reading: Reading
    remover: Remover

    @property
    def causal(self) -> bool:
        """Whether no word's state depends on a later word; in a text that is given twice it does."""
        return self.stack.causal and self.reading == "once"

    def run(
        self, pooling: Callable[[Item], FloatArray], measure: Measure | None = None
    ) -> Iterator[tuple[int, Readings]]:
        """Readings of each text, pooled into what the function says, or what is measured of them."""
        return run_readings(
            self.model, self.stack, self.items, [pooling(item) for item in self.items], self.remover,
            layers=self.layers, batch_tokens=self.batch_tokens, progress=self.progress, measure=measure,
        )

    def source_of(self, item: Item) -> Source:
        """Where what is made of a text comes from."""
        return replace(self.source, text_hash=hashlib.sha256(item.text.encode()).hexdigest()).with_options(
            **item.options
        )

    def effects(self, readings: Readings, removed: IntArray, without: States) -> WordEffects:
        """The result for one text, of all or some of its readings."""
        item = readings.item
        return WordEffects(
            words=_words(item), whole=readings.whole, without=without, removed=removed, layers=self.layers,
            removal=self.removal.name, causal=self.causal, source=self.source_of(item),
        )

    def influence(
        self, item: Item, moved: States, removed: IntArray, distribution: str, **options: Any
    ) -> Influence:
        """The result for one text, of distances (R, m, n)."""
        return Influence(
            values=influence_matrix(moved, removed, causal=self.causal), words=_words(item), layers=self.layers,
            removal=self.removal.name, distribution=distribution, causal=self.causal,
            source=self.source_of(item).with_options(distribution=distribution, **options),
        )


def prepare_job(
    model: LanguageModel, texts: Any, words: Any, removal: str | Removal, layers: Layers,
    blocks: Iterable[int] | None, overflow: Overflow, batch_tokens: int, rng: Any, progress: Progress | None,
    reading: Reading | None,
) -> RemovalJob:
    check_capture(model, overflow, batch_tokens)
    check_progress(progress)
    way = find_removal(removal, blocks)
    seed = _seed(rng)
    several = several_texts(texts)
    one = len(several) == 1
    how = find_reading(model, reading)
    items = []
    for number, (given, split) in enumerate(zip(several, words_of_each(words, len(several)), strict=True)):
        with of_text(None if one else number):
            items.append(prepare_reading(model, given, split, overflow, how))
    stack = find_stack(model.model)
    chosen = _resolved(layers, stack.depth)
    return RemovalJob(
        model=model, stack=stack, items=items, removal=way, layers=chosen, batch_tokens=batch_tokens, seed=seed,
        progress=progress, reading=how, remover=way.ready(model, stack, seed),
        source=replace(noted_source(model, stack), seed=seed).with_options(removal=way.name, **way.options()),
    )


def _seed(rng: Any) -> int:
    """The number itself, or one drawn."""
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0:
        return int(rng)
    return int(random_generator(rng).integers(2**31))


def _resolved(layers: Layers, depth: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(depth + 1))
    try:
        given: list[Any] = [layers] if isinstance(layers, str) else list(layers)  # type: ignore[arg-type]
    except TypeError:
        given = [layers]
    found = tuple(dict.fromkeys(resolve_layer(layer, depth, "model") for layer in given))
    if not found:
        raise ArgumentError("layers: found none, wanted at least one; leave layers= away for all")
    return found


def _words(item: Item) -> tuple[str, ...]:
    return tuple(item.text[i:j] for i, j in item.spans)


def word_pooling(item: Item) -> FloatArray:
    """(n, T) the mean over each word's tokens."""
    owns = (item.table[None, :] == np.arange(len(item.spans))[:, None]) & _read(item)
    return np.asarray(owns / owns.sum(axis=1, keepdims=True))


def token_pooling(item: Item) -> FloatArray:
    """(U, T) each token of a word by itself."""
    return np.asarray(np.eye(len(item.table))[units(item)])


def units(item: Item) -> NDArray[np.bool_]:
    """(T,) the tokens of words, of a text given twice those of the second copy."""
    return np.asarray((item.table >= 0) & _read(item))


def _read(item: Item) -> NDArray[np.bool_]:
    return np.ones(len(item.table), dtype=np.bool_) if item.read is None else item.read
