"""What taking words away from a text does to the others: their states, and how far their distributions move."""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from infogeo._checks import check_count
from infogeo.background import Background, ShrinkageRule, check_same_model, ledoit_wolf
from infogeo.errors import ArgumentError, ModelError
from infogeo.influence import (
    EffectMoments,
    EffectsBackground,
    Influence,
    Manifold,
    WordEffects,
    normal_lengths,
    whitened_lengths,
    whitening_factors,
)
from infogeo.results import Source
from infogeo_adapters.models import background_text
from infogeo_adapters.progress import progress_bar
from infogeo_adapters.transformers._removal_job import (
    Layers,
    Progress,
    RemovalJob,
    prepare_job,
    token_pooling,
    units,
    word_pooling,
)
from infogeo_adapters.transformers.alignment import Words, check_text
from infogeo_adapters.transformers.arguments import check_model, several_texts
from infogeo_adapters.transformers.capture import capture_background
from infogeo_adapters.transformers.echo import Reading
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from numpy.random import Generator

Distribution = Literal["states", "effects", "readout"]

FEWEST_WORDS, MOST_WORDS = 5, 30
"""Sentences of the background text with so many words are taken."""


@overload
def word_effects(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: str, *, words: Words | None = ..., removal: str | Removal = ...,
    layers: Layers = ..., blocks: Iterable[int] | None = ..., overflow: Overflow = ..., batch_tokens: int = ...,
    rng: int | Generator = ..., progress: Progress | None = ..., reading: Reading = ...,
) -> WordEffects: ...


@overload
def word_effects(
    model: LanguageModel, text: Sequence[str], *, words: Any = ..., removal: str | Removal = ..., layers: Layers = ...,
    blocks: Iterable[int] | None = ..., overflow: Overflow = ..., batch_tokens: int = ..., rng: int | Generator = ...,
    progress: Progress | None = ..., reading: Reading = ...,
) -> list[WordEffects]: ...


def word_effects(
    model: LanguageModel, text: str | Sequence[str], *, words: Any = None, removal: str | Removal = "hide",
    layers: Layers = None, blocks: Iterable[int] | None = None, overflow: Overflow = "error", batch_tokens: int = 4096,
    rng: int | Generator = 0, progress: Progress | None = None, reading: Reading = "once",
) -> WordEffects | list[WordEffects]:
    """States of a text's words with everything there, and with each word taken away in turn.

    All readings of a text, and those of several texts of similar length, run in padded batches; a word's state is the
    mean over its tokens. A text gives the same numbers alone and in a batch, to rounding.

    Parameters
    ----------
    model : LanguageModel
        Of an encoder-decoder model the encoder is run.
    text : str or sequence of str
    words : optional
        How a text falls into words, as in :func:`capture_activations`.
    removal : {"hide", "mask", "delete", "mean", "resample"} or Removal
        How a word is taken away: :class:`HideWord`, :class:`MaskWord`, :class:`DeleteWord`, :class:`MeanEmbedding`,
        :class:`ResampleWord`.
    layers : int or iterable of int, optional
        Layers to read, 0 the embedding, negative ones from the last; all by default.
    blocks : iterable of int, optional
        With ``removal="hide"``, the blocks, counted from 1, in which words are hidden; all by default.
    overflow : {"error", "truncate"}
        What to do with a text longer than the context.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer text runs alone.
    rng : int or numpy.random.Generator
        Seed of the draws of ``removal="resample"``. With a number a text's draws do not depend on the other texts.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of texts.
    reading : {"once", "twice"}
        Whether the text is given once, or twice in a row: then words are read in the second copy and taken away from
        both, and in a causal model too every word has seen every other one.

    Returns
    -------
    WordEffects, or a list of them
        Float32, or float64 for a float64 model. ``removed`` is 0 to n - 1, with ``removal="resample"`` each S times.

    Raises
    ------
    TextError
        A text is empty, too long, or has a word without a token.
    ModelError
        The model does not offer this removal: no mask token, no head, words that cannot be hidden.
    ArgumentError
        An argument has no such value.
    DomainError
        States are NaN or infinite.

    Notes
    -----
    A text of n words takes :math:`4 R d n (n + 1)` bytes: for 14 words and all layers of MiniLM 2.3 MB. Over many texts
    use :func:`stream_word_effects`, which keeps none.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> effects = word_effects(load_model(), "The cat sat.", layers=[3, 6])
    >>> effects.words, effects.whole.shape, effects.without.shape
    (('The', 'cat', 'sat', '.'), (2, 4, 160), (2, 4, 4, 160))
    """
    one = isinstance(text, str)
    texts: Any = [text] if one else text
    found = dict(stream_word_effects(
        model, texts, words=[words] if one and not callable(words) else words, removal=removal,
        layers=layers, blocks=blocks, overflow=overflow, batch_tokens=batch_tokens, rng=rng, progress=progress,
        reading=reading,
    ))
    return found[0] if one else [found[k] for k in range(len(found))]


def stream_word_effects(
    model: LanguageModel, texts: Sequence[str], *, words: Any = None, removal: str | Removal = "hide",
    layers: Layers = None, blocks: Iterable[int] | None = None, overflow: Overflow = "error", batch_tokens: int = 4096,
    rng: int | Generator = 0, progress: Progress | None = None, reading: Reading = "once",
) -> Iterator[tuple[int, WordEffects]]:
    """The effects of each of many texts as soon as they are there, with the text's place among them.

    As :func:`word_effects`, which says what the parameters are. Shortest texts come first. Arguments and texts are
    checked when this is called, and nothing is set on the model while the caller looks at a result.

    Parameters
    ----------
    model : LanguageModel
    texts : sequence of str
    words, removal, layers, blocks, overflow, batch_tokens, rng, progress, reading : optional

    Returns
    -------
    iterator of (int, WordEffects)

    Raises
    ------
    TextError, ModelError, ArgumentError, DomainError
        As :func:`word_effects`.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> texts = ["The cat sat on the mat.", "Dogs ran."]
    >>> [(k, effects.words) for k, effects in stream_word_effects(load_model(), texts, layers=6)]
    [(1, ('Dogs', 'ran', '.')), (0, ('The', 'cat', 'sat', 'on', 'the', 'mat', '.'))]
    """
    job = prepare_job(model, texts, words, removal, layers, blocks, overflow, batch_tokens, rng, progress, reading)
    return ((k, job.effects(readings)) for k, readings in job.run(word_pooling))


@overload
def measure_influence(  # type: ignore[overload-overlap]
    model: LanguageModel, text: str, *, words: Words | None = ..., removal: str | Removal = ...,
    blocks: Iterable[int] | None = ..., distribution: Distribution = ..., layers: Layers = ...,
    background: Background | EffectsBackground | None = ..., shrinkage: float | ShrinkageRule = ...,
    manifold: Manifold = ..., overflow: Overflow = ..., batch_tokens: int = ..., rng: int | Generator = ...,
    progress: Progress | None = ..., reading: Reading = ...,
) -> Influence: ...


@overload
def measure_influence(
    model: LanguageModel, text: Sequence[str], *, words: Any = ..., removal: str | Removal = ...,
    blocks: Iterable[int] | None = ..., distribution: Distribution = ..., layers: Layers = ...,
    background: Background | EffectsBackground | None = ..., shrinkage: float | ShrinkageRule = ...,
    manifold: Manifold = ..., overflow: Overflow = ..., batch_tokens: int = ..., rng: int | Generator = ...,
    progress: Progress | None = ..., reading: Reading = ...,
) -> list[Influence]: ...


def measure_influence(
    model: LanguageModel, text: str | Sequence[str], *, words: Any = None, removal: str | Removal = "hide",
    blocks: Iterable[int] | None = None, distribution: Distribution = "states", layers: Layers = None,
    background: Background | EffectsBackground | None = None, shrinkage: float | ShrinkageRule = ledoit_wolf,
    manifold: Manifold = "all normals", overflow: Overflow = "error", batch_tokens: int = 4096,
    rng: int | Generator = 0, progress: Progress | None = None, reading: Reading = "once",
) -> Influence | list[Influence]:
    r"""How far the distribution of each word moves on the statistical manifold when each other word is taken away.

    .. math:: a_{ij} = d_{FR}(P_i, P_{i \setminus j})

    With :math:`\Delta = h_{i \setminus j} - h_i` the change of word i's state, the mean over its tokens, and
    :math:`m^2 = \Delta^\top \Sigma^{-1} \Delta`, the distributions are

    ``"states"``
        :math:`N(h_i, \Sigma)` with the covariance of the word vectors of a background text; the distance is
        :math:`2 \sqrt 2 \operatorname{arsinh}(m / (2 \sqrt 2))` among all normals, or m with the covariance held fixed
    ``"effects"``
        the same with the covariance of the effects themselves, of all changes that taking words away makes in a
        background text: what any word does to any other is what counts least
    ``"readout"``
        the categorical distribution that the model's head predicts from the state at the layer (logit lens), with
        :math:`2 \arccos \sum_k \sqrt{p_k q_k}`, from 0 to pi; of a word of several tokens the mean of its tokens'
        distances. In a causal model a token's prediction is of the token after it.

    Several readings without one word (``"resample"``) are averaged as distances.

    There are no normals by occurrences: a word type's covariance in a corpus is not that of one occurrence in this
    sentence, and a removal moves the occurrence alone.

    Parameters
    ----------
    model : LanguageModel
    text : str or sequence of str
    words, removal, blocks, overflow, batch_tokens, rng, progress, reading : optional
        As in :func:`word_effects`.
    distribution : {"states", "effects", "readout"}
    layers : int or iterable of int, optional
        By default the layers after each block, 1 to L; at layer 0 hiding a word moves nothing.
    background : Background or EffectsBackground, optional
        Where the covariance comes from, for ``"states"`` from :func:`capture_background` and for ``"effects"`` from
        :func:`effects_background`; by default these of the packaged text, made once for a model and kept.
    shrinkage : float or function
        How far the covariance is drawn to a multiple of the identity, as in ``shrunk_covariance`` of either background.
    manifold : {"all normals", "fixed covariance"}
        Among which normals the shortest path is taken, see :func:`~infogeo.influence.normal_lengths`.

    Returns
    -------
    Influence, or a list of them
        ``values`` (R, n, n). In a causal model a word that comes before the one taken away cannot move, and what stands
        above the diagonal is exactly zero.

    Raises
    ------
    TextError, ModelError, ArgumentError, DomainError
        As :func:`word_effects`; also if the background is of another model, layer or removal, or there is no head.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = measure_influence(load_model(), "The cat sat on the mat.", layers=6, distribution="readout")
    >>> found.values.shape, found.causal, bool(found.values[0, 2, 4] == 0), bool(found.values[0, 4, 2] > 0)
    ((1, 7, 7), True, True, True)
    """
    if distribution not in get_args(Distribution):
        raise ArgumentError(f"distribution {distribution!r} does not exist; choose 'states', 'effects' or 'readout'")
    check_model(model)
    one = isinstance(text, str)
    job = prepare_job(
        model, [text] if one else text, [words] if one and not callable(words) else words, removal,
        _after_blocks(model) if layers is None else layers, blocks, overflow, batch_tokens, rng, progress, reading,
    )
    if distribution == "readout":
        if background is not None:
            raise ArgumentError("background: means something only for distribution='states' and 'effects'")
        found = dict(_by_readout(job))
    else:
        found = dict(_by_normals(job, distribution, background, shrinkage, manifold))
    return found[0] if one else [found[k] for k in range(len(found))]


_backgrounds: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
"""What was estimated from the packaged text, by removal and weights."""


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

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> effects_background(load_model(), ["The cat sat on the mat.", "The dogs ran home again."]).n_effects
    36
    """
    check_model(model)
    count = check_count("sentences", sentences, 1)
    way = find_removal(removal, blocks)
    key = ("effects", way, count, rng, reading, model.current_source().content_hash)
    kept = _backgrounds.setdefault(model, {})
    if text is None and key in kept:
        found: EffectsBackground = kept[key]
        return found
    chosen = background_sentences(background_text() if text is None else text, count)
    layers = _after_blocks(model)
    moments = EffectMoments(layers)
    texts = hashlib.sha256()
    for one in chosen:
        texts.update(one.encode("utf-8", "surrogatepass") + b"\x00")
    source: Source | None = None
    with progress_bar("effects of the background", unit="texts") as show:
        stream = stream_word_effects(
            model, chosen, removal=way, layers=layers, overflow="truncate", batch_tokens=batch_tokens, rng=rng,
            progress=show, reading=reading,
        )
        for _, effects in stream:
            moments.add(effects.effects())
            source = effects.source
    if source is None:
        raise ModelError("the background gave no effects")
    options = {**source.options, "background": "packaged" if text is None else "given", "sentences": len(chosen)}
    made = moments.background(
        removal=way.name, source=replace(source, text_hash=texts.hexdigest(), options=options)
    )
    if text is None:
        kept[key] = made
    return made


def _after_blocks(model: LanguageModel) -> tuple[int, ...]:
    """The layers after the blocks."""
    return tuple(range(1, find_stack(model.model).depth + 1))


def background_sentences(text: str | Sequence[str], count: int) -> list[str]:
    """Sentences of a text, so many of them, spread evenly; those given are all taken."""
    if not isinstance(text, str):
        return [check_text(t) for t in several_texts(text)]
    paragraphs = re.split(r"\n\s*\n", check_text(text))
    pieces = [" ".join(s.split()) for p in paragraphs for s in re.split(r"(?<=[.!?])[\"')\u201d]*\s+", p)]
    fitting = [s for s in pieces if FEWEST_WORDS <= len(s.split()) <= MOST_WORDS]
    if not fitting:
        fitting = [check_text(text)]
    places = np.unique(np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int))
    return [fitting[k] for k in places]


# How far distributions move


def _by_normals(
    job: RemovalJob, distribution: str, background: Any, shrinkage: float | ShrinkageRule, manifold: Manifold
) -> Iterator[tuple[int, Influence]]:
    normal_lengths(0.0, manifold)  # a manifold that does not exist is refused before anything is run
    known = _checked_background(job, distribution, background)
    shrunk = [known.shrunk_covariance(layer, shrinkage=shrinkage) for layer in job.layers]
    factors = whitening_factors([covariance for covariance, _ in shrunk])
    options = {
        "manifold": manifold, "background_hash": known.source.text_hash,
        "shrinkage": ",".join(f"{intensity:.6g}" for _, intensity in shrunk),
        "shrinkage_rule": getattr(shrinkage, "__name__", repr(shrinkage)) if callable(shrinkage) else "fixed",
    }
    for k, readings in job.run(word_pooling):
        moved = normal_lengths(whitened_lengths(readings.without - readings.whole[:, None], factors), manifold)
        yield k, job.influence(readings.item, moved, readings.removed, distribution, **options)


def _checked_background(job: RemovalJob, distribution: str, background: Any) -> Background | EffectsBackground:
    wanted: Any = Background if distribution == "states" else EffectsBackground
    if background is None:
        if distribution == "effects":
            return effects_background(
                job.model, removal=job.removal, batch_tokens=job.batch_tokens, rng=job.seed, reading=job.reading
            )
        kept = _backgrounds.setdefault(job.model, {})
        key = ("states", job.model.current_source().content_hash)
        if key not in kept:
            kept[key] = capture_background(job.model)
        found: Background = kept[key]
        return found
    if not isinstance(background, wanted):
        maker = "capture_background(model, text)" if wanted is Background else "effects_background(model, text)"
        raise ArgumentError(
            f"background: found {type(background).__name__}, wanted a {wanted.__name__} for distribution="
            f"{distribution!r}; make one with {maker}"
        )
    given: Background | EffectsBackground = background
    check_same_model("background", given.source, job.source)
    if isinstance(background, EffectsBackground) and background.removal != job.removal.name:
        raise ArgumentError(
            f"background: found effects of removal {background.removal!r}, wanted those of {job.removal.name!r}"
        )
    return given


def _by_readout(job: RemovalJob) -> Iterator[tuple[int, Influence]]:
    from infogeo_adapters.transformers._removal_readout import moved_predictions, prediction_readout

    readout = prediction_readout(job.model)
    for k, readings in job.run(token_pooling):
        item = readings.item
        moved = moved_predictions(readout, readings)
        weights = word_pooling(item)[:, units(item)]
        yield k, job.influence(
            item, moved @ weights.T, readings.removed, "readout", readout=",".join(readout.path),
            predicts=readout.predicts,
        )
