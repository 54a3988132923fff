"""What is estimated from a background text before influence is measured; that of the packaged text is kept."""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_count
from infogeo.activations import Pooling
from infogeo.background import Background, ShrinkageRule, check_intensity
from infogeo.errors import DomainError
from infogeo.influence import EffectMoments, EffectsBackground
from infogeo_adapters.models import background_text
from infogeo_adapters.progress import progress_bar
from infogeo_adapters.transformers._removal_job import prepare_job, word_pooling
from infogeo_adapters.transformers._removal_rows import Readings, States
from infogeo_adapters.transformers.alignment import check_text
from infogeo_adapters.transformers.arguments import check_model, several_texts
from infogeo_adapters.transformers.capture import capture_background
from infogeo_adapters.transformers.echo import find_reading
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo_adapters.transformers.echo import Reading

FEWEST_WORDS, MOST_WORDS = 5, 30
"""Sentences of the background text with so many words are taken."""

_kept: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
"""What was estimated from the packaged text, by all that decides it, the hash of the weights among it."""


def packaged_background(
    model: LanguageModel, *, pooling: Pooling = "mean", batch_tokens: int = 4096
) -> Background:
    """Mean and covariance of word vectors in the packaged text, captured once for a model with these weights.

    Parameters
    ----------
    model : LanguageModel
    pooling : {"mean", "first", "last"}
    batch_tokens : int
        Most tokens in one batch; it decides nothing but the memory taken.

    Returns
    -------
    Background

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> model = load_model()
    >>> packaged_background(model) is packaged_background(model)
    True
    """
    kept = _kept.setdefault(model, {})
    key = ("states", pooling, model.current_source().content_hash)
    if key not in kept:
        kept[key] = capture_background(model, pooling=pooling, batch_tokens=batch_tokens)
    found: Background = kept[key]
    return found


def effects_background(
    model: LanguageModel, text: str | Sequence[str] | None = None, *, removal: str | Removal = "hide",
    blocks: Iterable[int] | None = None, sentences: int = 60, batch_tokens: int = 4096, rng: int = 0,
    reading: Reading = "once",
) -> EffectsBackground:
    """Covariance, at every layer, of the changes that taking words away makes in the other words of a background text.

    Each pair of a word taken away and another word gives one effect, a vector; in a causal model only later words
    count, since earlier ones cannot move. Kept for the model's lifetime when it is of the packaged text.

    Parameters
    ----------
    model : LanguageModel
    text : str or sequence of str, optional
        By default sentences of 5 to 30 words from the sample that ships with infogeo, which
        :func:`capture_background` uses too. A sequence is taken as the sentences themselves.
    removal, blocks, batch_tokens, reading : optional
        As in :func:`word_effects`.
    sentences : int
        How many sentences of a text are used, spread evenly over it; all if it has fewer.
    rng : int
        Seed of ``removal="resample"``.

    Returns
    -------
    EffectsBackground
        Of the layers 1 to L.

    Raises
    ------
    TextError
        The text is empty, or has no sentence of 5 to 30 words.
    ModelError, ArgumentError
        As :func:`word_effects`.
    DomainError
        The texts hold no two words.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> effects_background(load_model(), ["The cat sat on the mat.", "The dogs ran home again."]).n_effects
    36
    """
    check_model(model)
    count, seed = check_count("sentences", sentences, 1), check_count("rng", rng, 0)
    way, how = find_removal(removal, blocks), find_reading(model, reading)
    kept = _kept.setdefault(model, {})
    key = ("effects", way, count, seed if way.random else None, how, model.current_source().content_hash)
    if text is None and key in kept:
        found: EffectsBackground = kept[key]
        return found
    chosen = background_sentences(background_text() if text is None else text, count)
    layers = layers_after_blocks(model)
    moments = EffectMoments(layers)
    texts = hashlib.sha256()
    for one in chosen:
        texts.update(one.encode("utf-8", "surrogatepass") + b"\x00")
    with progress_bar("how taking words away moves others in the packaged text", unit="texts") as show:
        job = prepare_job(model, chosen, None, way, layers, None, "truncate", batch_tokens, seed, show, how)

        def add(readings: Readings, removed: IntArray, without: States) -> FloatArray:
            moments.add(job.effects(readings, removed, without).effects())
            return np.empty((len(layers), len(removed), 0))

        for _ in job.run(word_pooling, add):
            pass
    source = job.source_of(job.items[0])
    options = {**source.options, "background": "packaged" if text is None else "given", "sentences": len(chosen)}
    made = moments.background(
        removal=way.name, source=replace(source, text_hash=texts.hexdigest(), options=options)
    )
    if text is None:
        kept[key] = made
    return made


def layers_after_blocks(model: LanguageModel) -> tuple[int, ...]:
    """The layers after the blocks, 1 to L."""
    return tuple(range(1, find_stack(model.model).depth + 1))


def background_sentences(text: str | Sequence[str], count: int) -> list[str]:
    """Sentences of a text, so many of them, spread evenly; those given are all taken."""
    if not isinstance(text, str):
        return [check_text(t) for t in several_texts(text)]
    fitting = split_sentences(check_text(text), FEWEST_WORDS, MOST_WORDS)
    if not fitting:
        fitting = [text]
    places = np.unique(np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int))
    return [fitting[k] for k in places]


def split_sentences(text: str, fewest: int, most: int) -> list[str]:
    r"""Sentences of a text that have so many words, in order; none goes over the end of a paragraph.

    Examples
    --------
    >>> split_sentences("Stop! The dog ran home. It sat.\n\nThe cat slept", 3, 4)
    ['The dog ran home.', 'The cat slept']
    """
    paragraphs = re.split(r"\n\s*\n", text)
    pieces = [" ".join(s.split()) for p in paragraphs for s in re.split(r"(?<=[.!?])[\"')\u201d]*\s+", p)]
    return [s for s in pieces if fewest <= len(s.split()) <= most]


def check_shrinkage(shrinkage: float | ShrinkageRule) -> None:
    """Raise unless it is a function, or a number from 0 to 1; so that nothing is estimated in vain.

    Raises
    ------
    ArgumentError, DomainError
        As the ``shrunk_covariance`` of a background.
    """
    if callable(shrinkage):
        return
    intensity = check_intensity(shrinkage, "or a function such as infogeo.ledoit_wolf (itself, not its name)")
    if not 0.0 <= intensity <= 1.0:
        raise DomainError(f"shrinkage: found intensity {intensity}, wanted a number from 0 to 1")
