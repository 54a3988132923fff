"""What a caller says about small moves of words, checked, and what is measured before the first of them."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_count, random_generator
from infogeo.activations import Pooling, resolve_layer
from infogeo.background import Background, ShrinkageRule, check_background, check_same_model
from infogeo.errors import ArgumentError, ShapeError
from infogeo.influence import EffectMoments, EffectsBackground, whitening_factors
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers._local_rows import (
    DIRECTIONS,
    RANK_ONE,
    Direction,
    Estimator,
    Moves,
    Reading,
    push_all,
)
from infogeo_adapters.transformers._local_tangents import Differentiation
from infogeo_adapters.transformers.arguments import check_capture
from infogeo_adapters.transformers.backgrounds import check_shrinkage, packaged_background, split_sentences
from infogeo_adapters.transformers.forward import Overflow, prepare_all, run_items
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import Stack, find_stack

Start = SupportsIndex | Literal["embedding"]
Options = dict[str, str | int | float | bool | None]

POOLINGS: tuple[Pooling, ...] = ("mean", "first", "last")
SENTENCES = 100
"""Of the packaged text, for the moves that words make of each other."""

_effects: weakref.WeakKeyDictionary[LanguageModel, dict[tuple[object, ...], EffectsBackground]] = (
    weakref.WeakKeyDictionary()
)
"""Moves in the packaged text, by all that decides them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """A model, where words move and in which directions, and where they are read."""

    model: LanguageModel
    stack: Stack
    at: int
    layers: tuple[int, ...]
    pooling: Pooling
    moves: Moves
    batch_tokens: int
    background: Background | None
    """None where neither directions nor distributions need it."""
    options: Options = field(default_factory=dict)
    """For the record of results."""


def make_setup(
    model: Any, *, at: Start, layers: SupportsIndex | Iterable[int] | None, direction: Direction,
    estimator: Estimator | None, probes: int, background: Background | None, shrinkage: float | ShrinkageRule,
    pooling: Pooling, batch_tokens: int, states: bool, overflow: Overflow = "error",
) -> Setup:
    """All but the texts, checked; ``states`` says whether the background is needed for the distributions.

    Raises
    ------
    ArgumentError
        There is no such value, a layer is not after the one where words move, or the model is in half precision.
    DomainError, ShapeError
        The background is of another model.
    """
    check_capture(model, overflow, batch_tokens)
    check_precision(model)
    check_choice("direction", direction, DIRECTIONS)
    check_choice("pooling", pooling, POOLINGS)
    stack = find_stack(model.model)
    start, read = _layers(stack, at, layers)
    how, count = _estimator(direction, estimator, probes)
    check_shrinkage(shrinkage)
    options: Options = {"moved_at": start, "direction": direction, "estimator": how, "pooling": pooling}
    if how == "hutchinson":
        options["probes"] = count
    known = None
    if states or direction in ("deviation", "covariance"):
        known = _checked_background(model, stack, background, pooling, batch_tokens)
    mean = known.mean[start] if direction == "deviation" and known is not None else None
    factor = None
    if direction == "covariance" and known is not None:
        covariance, intensity = known.shrunk_covariance(start, shrinkage=shrinkage)
        factor, options[f"shrinkage_{start}"] = whitening_factors(covariance[None])[0], intensity
    moves = Moves(direction=direction, estimator=how, probes=count, mean=mean, factor=factor)
    return Setup(
        model=model, stack=stack, at=start, layers=read, pooling=pooling, moves=moves, batch_tokens=batch_tokens,
        background=known, options=options,
    )


def check_precision(model: LanguageModel) -> None:
    """Raise unless the model computes in float32 or float64."""
    if model.model.dtype.itemsize < 4:
        name = str(model.model.dtype).removeprefix("torch.")
        raise ArgumentError(
            f"model: {model.name} computes in {name}, too few digits for derivatives; load it with dtype='float32'"
        )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name} {value!r} does not exist; choose {', '.join(choices)}")


def _layers(stack: Stack, at: Start, layers: SupportsIndex | Iterable[int] | None) -> tuple[int, tuple[int, ...]]:
    if isinstance(at, str) and at != "embedding":
        raise ArgumentError(f"at: found {at!r}, wanted 'embedding' or the number of a layer")
    start = 0 if isinstance(at, str) else resolve_layer(at, stack.depth, "model")
    if start == stack.depth:
        raise ArgumentError(f"at: found layer {start}, the last, which moves no later one; wanted 0 to {start - 1}")
    if layers is None:
        return start, tuple(range(start + 1, stack.depth + 1))
    given = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    read = tuple(resolve_layer(layer, stack.depth, "model") for layer in given)
    early = [layer for layer in read if layer <= start]
    if early or not read or len(set(read)) < len(read):
        found = f"layer {early[0]}" if early else f"{given!r}"
        raise ArgumentError(
            f"layers: found {found}, wanted different layers from {start + 1} to {stack.depth}, after layer {start}, "
            "at which words are moved"
        )
    return start, read


def _estimator(direction: Direction, estimator: Estimator | None, probes: int) -> tuple[Estimator, int]:
    count = check_count("probes", probes, 2)
    if estimator is None:
        return ("exact" if direction in RANK_ONE else "hutchinson"), count
    check_choice("estimator", estimator, ("exact", "hutchinson"))
    if direction in RANK_ONE and estimator == "hutchinson":
        raise ArgumentError(
            f"estimator: direction={direction!r} is one direction for each word, which is taken exactly; leave "
            "estimator out, or choose direction='isotropic' or 'covariance'"
        )
    return estimator, count


def _checked_background(
    model: LanguageModel, stack: Stack, background: Background | None, pooling: Pooling, batch_tokens: int
) -> Background:
    if background is None:
        return packaged_background(model, pooling=pooling, batch_tokens=batch_tokens)
    check_background(background)
    check_same_model("background", background.source, model.current_source())
    if background.pooling != pooling:
        raise ArgumentError(f"background: found pooling {background.pooling!r}, wanted {pooling!r} as for the words")
    width = int(model.model.config.get_text_config().hidden_size)
    if background.n_layers != stack.depth:
        raise ShapeError(
            f"background: found {background.n_layers} blocks of width {background.dimension}, but {model.name} has "
            f"{stack.depth} of width {width}; make it with capture_background(model, text)"
        )
    return background


def make_readings(
    setup: Setup, texts: Sequence[str], words: Sequence[Any], overflow: Overflow,
    rng: int | np.random.Generator | None, *, one: bool,
) -> list[Reading]:
    """Texts captured, each with its own generator: that of an int depends on the text alone.

    Raises
    ------
    TextError
        A text cannot be read.
    ArgumentError
        There is no such generator.
    """
    items = prepare_all(setup.model, texts, words, overflow, one=one)
    common = random_generator(rng)
    acts = dict(run_items(setup.model, items, attention=False, batch_tokens=setup.batch_tokens))

    def generator(text: str) -> np.random.Generator:
        if isinstance(rng, int | np.integer):
            return np.random.default_rng([int(rng), *hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()])
        return np.random.default_rng(common.integers(2**63, size=4))

    return [
        Reading(item=item, activations=acts[i], pooling=acts[i].pooling_matrix(setup.pooling),
                generator=generator(item.text))
        for i, item in enumerate(items)
    ]


def measure_effects(setup: Setup, readings: Sequence[Reading]) -> EffectsBackground:
    """Moments of the moves that words make of the other words that they can move."""
    moments = EffectMoments(setup.layers)

    def take(number: int, words: IntArray, moved: FloatArray, how: Differentiation) -> None:
        n = moved.shape[2]
        movable = np.arange(n) > words[:, None] if setup.stack.causal else np.arange(n) != words[:, None]
        moments.add(moved[:, movable])

    push_all(
        setup.model, setup.stack, readings, setup.moves, take, at=setup.at, layers=setup.layers,
        batch_tokens=setup.batch_tokens,
    )
    source = setup.model.current_source().with_options(**setup.options, texts=len(readings))
    return moments.background(removal=move_name(setup.at, setup.moves.direction), source=source)


def packaged_sentences() -> list[str]:
    """The first sentences of the packaged text."""
    return split_sentences(background_text(), 4, 30)[:SENTENCES]


def packaged_effects(setup: Setup) -> EffectsBackground:
    """Moments of moves in the packaged sentences, measured once for a model and a choice."""
    moves = setup.moves
    parts = [b"" if a is None else a.tobytes() for a in (moves.mean, moves.factor)]
    key = (
        setup.model.current_source().content_hash, setup.at, setup.layers, setup.pooling, moves.direction,
        moves.estimator, moves.probes, hashlib.sha256(b"".join(parts)).hexdigest(),
    )
    known = _effects.setdefault(setup.model, {})
    if key not in known:
        texts = packaged_sentences()
        known[key] = measure_effects(setup, make_readings(setup, texts, [None] * len(texts), "error", 0, one=False))
    return known[key]


def checked_effects(setup: Setup, effects: EffectsBackground) -> EffectsBackground:
    """Effects of a caller's, if they are those of the same moves in the model.

    Raises
    ------
    ArgumentError
        They are something else, or of words that moved in another way or were taken away.
    DomainError, ShapeError
        They are of another model.
    """
    if not isinstance(effects, EffectsBackground):
        raise ArgumentError(
            f"effects: found {type(effects).__name__}, wanted an EffectsBackground; make one with local_effects(model, "
            "texts, at=...)"
        )
    check_same_model("effects", effects.source, setup.model.current_source())
    wanted = move_name(setup.at, setup.moves.direction)
    if effects.removal != wanted:
        raise ArgumentError(
            f"effects: found those of {effects.removal!r}, wanted {wanted!r}; make them with local_effects and the "
            "same at= and direction="
        )
    width = int(setup.model.model.config.get_text_config().hidden_size)
    if effects.dimension != width:
        raise ShapeError(f"effects: found width {effects.dimension}, but {setup.model.name} has width {width}")
    return effects


def move_name(at: int, direction: Direction) -> str:
    """How words are taken away, as it stands in results."""
    return f"small move at layer {at}, {direction}"
