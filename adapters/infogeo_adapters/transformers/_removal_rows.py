"""Texts read with and without their words: rows of several texts in padded batches, pooled while the model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo_adapters.transformers.forward import Item, as_numpy
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.removal import Mark, Remover, Row
from infogeo_adapters.transformers.stack import Stack, embedding_rows, evaluating, of_this_thread, run_model, runner

if TYPE_CHECKING:
    import torch

States = NDArray[np.floating[Any]]
Measure = Callable[["Readings", IntArray, States], FloatArray]
"""From a text of which the whole has been read, the words (k,) that readings are without, and their states (R, k, U, d)
to (R, k, ...)."""


@dataclass(eq=False, kw_only=True)
class Readings:
    """A text with all its readings; the arrays are filled batch by batch.

    With a ``measure`` no states are kept but those of the whole text: what is measured of the others takes their place.
    """

    item: Item
    pooling: FloatArray
    """(U, T) weights that turn token states into those of the units, words or single tokens."""
    rows: list[Row]
    """The whole text first."""
    measure: Measure | None = None
    whole: States = field(default_factory=lambda: np.empty(0))
    """(R, U, d)"""
    without: States = field(default_factory=lambda: np.empty(0))
    """(R, m, U, d), NaN where a unit is not read; or what is measured of it."""
    left: int = 0
    """Rows that have not been run."""

    @property
    def removed(self) -> IntArray:
        """(m,) the word that each reading is without."""
        return np.array([row.word for row in self.rows[1:]], dtype=np.int64)

    def put(self, rows: Sequence[int], states: States) -> None:
        """The states (R, k, U, d) of some rows, the whole text before all others; where no token is left, NaN."""
        if not rows[0]:
            self.whole, rows, states = states[:, 0].copy(), rows[1:], states[:, 1:]
        for k, row in enumerate(rows):
            kept = self.rows[row].kept
            if kept is not None:
                states[:, k, self.pooling[:, kept].sum(axis=1) < 0.5] = np.nan
        removed = np.array([self.rows[row].word for row in rows], dtype=np.int64)
        found = states if self.measure is None else self.measure(self, removed, states)
        if not self.without.size:
            self.without = np.full((len(found), len(self.rows) - 1, *found.shape[2:]), np.nan, dtype=found.dtype)
        self.without[:, [row - 1 for row in rows]] = found


def readings_of(
    item: Item, pooling: FloatArray, remover: Remover, *, vocabulary: int, measure: Measure | None = None
) -> Readings:
    """The text as it is, and without each of its words in turn.

    Raises
    ------
    ArgumentError
        A way of the caller's own reads something else than a text of this model without this word.
    """
    rows = [Row(word=-1, ids=item.tokens.ids, types=item.tokens.types)]
    for word in range(len(item.spans)):
        found = remover.rows(item, word)
        if not found or not all(_fits(row, item, word, vocabulary) for row in found):
            raise ArgumentError(
                f"removal: {type(remover).__name__} gives for word {word} no row of that word, with a type (and mark) "
                f"for each of its tokens, token numbers below {vocabulary}, and as many tokens as the text or those in "
                "``kept``, in order"
            )
        rows += found
    return Readings(
        item=item, pooling=pooling, rows=rows, measure=measure, left=sum(len(row.ids) > 0 for row in rows)
    )


def _fits(row: Row, item: Item, word: int, vocabulary: int) -> bool:
    """Whether a row can be run, and its tokens be told to words."""
    tokens = len(item.tokens.ids)
    if row.kept is not None:
        kept = np.asarray(row.kept)
        if kept.ndim != 1 or not (np.diff(kept, prepend=-1, append=tokens) > 0).all():
            return False
        tokens = len(kept)
    given = [np.asarray(a) for a in (row.ids, row.types, row.marked) if a is not None]
    if row.word != word or given[0].dtype.kind not in "iu" or any(a.shape != (tokens,) for a in given):
        return False
    return not tokens or (int(row.ids.min()) >= 0 and int(row.ids.max()) < vocabulary)


def run_readings(
    model: LanguageModel, stack: Stack, texts: Sequence[Item], poolings: Sequence[FloatArray], remover: Remover, *,
    layers: Sequence[int], batch_tokens: int, progress: Callable[[int, int], object] | None = None,
    measure: Measure | None = None,
) -> Iterator[tuple[int, Readings]]:
    """Each text with its readings as soon as all of them have been run, shortest texts first."""
    vocabulary = embedding_rows(model.model)
    order = sorted(range(len(texts)), key=lambda k: len(texts[k].tokens.ids))
    waiting: list[tuple[int, Readings, int]] = []
    done = 0
    for last, k in enumerate(order, start=1):
        readings = readings_of(texts[k], poolings[k], remover, vocabulary=vocabulary, measure=measure)
        waiting += sorted(
            ((k, readings, r) for r, row in enumerate(readings.rows) if len(row.ids)),
            key=lambda entry: (entry[2] > 0, len(entry[1].rows[entry[2]].ids)),
        )
        while waiting:
            size = _fitting(waiting, batch_tokens, exact=stack.pads_exactly)
            if size == len(waiting) and last < len(order):
                break
            batch, waiting = waiting[:size], waiting[size:]
            _run(model, stack, batch, remover, layers)
            for number, one, _ in batch:
                one.left -= 1
                if not one.left:
                    done += 1
                    if progress is not None:
                        progress(done, len(texts))
                    yield number, one


def _fitting(waiting: Sequence[tuple[int, Readings, int]], batch_tokens: int, *, exact: bool) -> int:
    """How many of the first rows run together."""
    widest = 0
    first = len(waiting[0][1].rows[waiting[0][2]].ids)
    for size, (_, readings, r) in enumerate(waiting):
        length = len(readings.rows[r].ids)
        widest = max(widest, length)
        if size and ((size + 1) * widest > batch_tokens or (not exact and length != first)):
            return size
    return len(waiting)


def _run(
    model: LanguageModel, stack: Stack, batch: Sequence[tuple[int, Readings, int]], remover: Remover,
    layers: Sequence[int],
) -> None:
    import torch

    net, tokenizer = model.model, model.tokenizer
    rows = [readings.rows[r] for _, readings, r in batch]
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), tokenizer.pad_token_id or 0, dtype=np.int64)
    mask, marked = np.zeros_like(ids), np.zeros(ids.shape, dtype=bool)
    types = np.full_like(ids, tokenizer.pad_token_type_id)
    wide = np.float64 if net.dtype.itemsize > 4 else np.float32
    weights = np.zeros((len(rows), max(len(e[1].pooling) for e in batch), width), dtype=wide)
    for b, ((_, readings, _), row) in enumerate(zip(batch, rows, strict=True)):
        t = len(row.ids)
        ids[b, :t], mask[b, :t], types[b, :t] = row.ids, 1, row.types
        if row.marked is not None:
            marked[b, :t] = row.marked
        pooling = readings.pooling if row.kept is None else readings.pooling[:, row.kept]
        weights[b, : len(pooling), :t] = pooling
    more: dict[str, Any] = {}
    if "token_type_ids" in tokenizer.model_input_names:
        more["token_type_ids"] = torch.from_numpy(types).to(net.device)
    given = [torch.from_numpy(a).to(net.device) for a in (ids, mask, marked, weights)]
    with lock_of(net), evaluating(net), remover.acting() as mark:
        pooled = _pooled_pass(model, stack, given, mark, layers, more)
    for r_layer, states in enumerate(pooled):
        if not np.isfinite(states).all():
            raise DomainError(
                f"states: layer {layers[r_layer]} holds NaN or infinity; the model's weights or its number format "
                "(float16 overflows in some models) are at fault, load it with dtype float32"
            )
    for _, entries in groupby(enumerate(batch), key=lambda entry: entry[1][0]):
        mine = list(entries)
        readings, places = mine[0][1][1], [b for b, _ in mine]
        readings.put(
            [r for _, (_, _, r) in mine], np.stack([states[places, : len(readings.pooling)] for states in pooled])
        )


def _pooled_pass(
    model: LanguageModel, stack: Stack, given: Sequence[torch.Tensor], mark: Mark, layers: Sequence[int],
    more: dict[str, Any],
) -> list[States]:
    """One pass; of each layer (rows, U, d)."""
    ids, mask, marked, weights = given
    part = runner(model.model, stack.side)
    found: dict[int, torch.Tensor] = {}
    try:
        mask = mark(marked if bool(marked.any()) else None, mask)
        with _pooling(stack, part, weights, frozenset(layers), found):
            run_model(part, ids, mask, **more)
    finally:
        mark(None, given[1])
    missing = [layer for layer in layers if layer not in found]
    if missing:
        raise ModelError(
            f"layer {missing[0]} of {type(model.model).__name__} was not computed; if the model was changed, load it "
            "again"
        )
    return [as_numpy(found[layer]) for layer in layers]


@contextlib.contextmanager
def _pooling(
    stack: Stack, part: Any, weights: torch.Tensor, layers: frozenset[int], found: dict[int, torch.Tensor]
) -> Iterator[None]:
    """Hooks that pool what goes into the first block and what comes out of each, of the layers that are wanted."""
    ran = 0

    def keep(layer: int, states: torch.Tensor) -> None:
        if layer in layers:
            states = states.transpose(0, 1) if stack.time_major else states
            states = states.float() if states.dtype.itemsize < 4 else states
            found[layer] = weights.to(states.dtype) @ states

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not ran:
            keep(0, args[0] if args else kwargs["hidden_states"])

    def leave(module: Any, args: tuple[Any, ...], output: Any) -> None:
        nonlocal ran
        ran += 1
        keep(ran, output[0] if isinstance(output, tuple) else output)

    handles = []
    try:
        for block in dict.fromkeys(part.get_submodule(stack.path).children()):
            handles.append(block.register_forward_pre_hook(of_this_thread(enter), with_kwargs=True))
            handles.append(block.register_forward_hook(of_this_thread(leave)))
        yield
    finally:
        for handle in handles:
            handle.remove()
