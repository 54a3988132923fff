"""What taking words away from a text does to the others: their states, and how far their distributions move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.background import Background, ShrinkageRule, check_same_model, ledoit_wolf
from infogeo.errors import ArgumentError
from infogeo.influence import (
    EffectsBackground,
    Influence,
    Manifold,
    WordEffects,
    normal_lengths,
    whitened_lengths,
    whitening_factors,
)
from infogeo_adapters.transformers._removal_job import (
    Layers,
    Progress,
    RemovalJob,
    prepare_job,
    token_pooling,
    units,
    word_pooling,
)
from infogeo_adapters.transformers._removal_rows import Readings, States
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.backgrounds import background_sentences as background_sentences
from infogeo_adapters.transformers.backgrounds import check_shrinkage, layers_after_blocks, packaged_background
from infogeo_adapters.transformers.backgrounds import effects_background as effects_background
from infogeo_adapters.transformers.echo import Reading
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal

if TYPE_CHECKING:
    from numpy.random import Generator

Distribution = Literal["states", "effects", "readout"]

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
    return ((k, job.effects(readings, readings.removed, readings.without)) for k, readings in job.run(word_pooling))


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
        As :func:`word_effects`; also if the background is of another model, layer, removal or pooling, or of other
        settings of the removal, or there is no head.

    Notes
    -----
    The states of a batch are measured when it has run and not kept, so that memory is bounded by ``batch_tokens`` and,
    for a text longer than that, by its length; :func:`word_effects` keeps the states of all readings.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = measure_influence(load_model(), "The cat sat on the mat.", layers=6, distribution="readout")
    >>> found.values.shape, found.causal, bool(found.values[0, 2, 4] == 0), bool(found.values[0, 4, 2] > 0)
    ((1, 7, 7), True, True, True)
    """
    if distribution not in get_args(Distribution):
        raise ArgumentError(f"distribution {distribution!r} does not exist; choose 'states', 'effects' or 'readout'")
    normal_lengths(0.0, manifold)  # what does not exist is refused before anything is run
    check_shrinkage(shrinkage)
    check_model(model)
    one = isinstance(text, str)
    job = prepare_job(
        model, [text] if one else text, [words] if one and not callable(words) else words, removal,
        layers_after_blocks(model) if layers is None else layers, blocks, overflow, batch_tokens, rng, progress,
        reading,
    )
    if distribution == "readout":
        if background is not None:
            raise ArgumentError("background: means something only for distribution='states' and 'effects'")
        found = dict(_by_readout(job))
    else:
        found = dict(_by_normals(job, distribution, background, shrinkage, manifold))
    return found[0] if one else [found[k] for k in range(len(found))]


# How far distributions move


def _by_normals(
    job: RemovalJob, distribution: str, background: Any, shrinkage: float | ShrinkageRule, manifold: Manifold
) -> Iterator[tuple[int, Influence]]:
    known = _checked_background(job, distribution, background)
    shrunk = [known.shrunk_covariance(layer, shrinkage=shrinkage) for layer in job.layers]
    factors = whitening_factors([covariance for covariance, _ in shrunk])
    options = {
        "manifold": manifold, "background_hash": known.source.text_hash,
        "shrinkage": ",".join(f"{intensity:.6g}" for _, intensity in shrunk),
        "shrinkage_rule": getattr(shrinkage, "__name__", repr(shrinkage)) if callable(shrinkage) else "fixed",
    }

    def measure(readings: Readings, removed: IntArray, without: States) -> FloatArray:
        return normal_lengths(whitened_lengths(without - readings.whole[:, None], factors), manifold)

    for k, readings in job.run(word_pooling, measure):
        yield k, job.influence(readings.item, readings.without, readings.removed, distribution, **options)


def _checked_background(job: RemovalJob, distribution: str, background: Any) -> Background | EffectsBackground:
    wanted: Any = Background if distribution == "states" else EffectsBackground
    if background is None and wanted is Background:
        return packaged_background(job.model, batch_tokens=job.batch_tokens)
    if background is None:
        if 0 in job.layers:
            raise ArgumentError(
                f"layers: found 0, wanted layers 1 to {job.stack.depth}; the background of effects is of the layers "
                "after blocks"
            )
        return effects_background(
            job.model, removal=job.removal, batch_tokens=job.batch_tokens, rng=job.seed, reading=job.reading
        )
    if not isinstance(background, wanted):
        maker = "capture_background(model, text)" if wanted is Background else "effects_background(model, text)"
        raise ArgumentError(
            f"background: found {type(background).__name__}, wanted a {wanted.__name__} for distribution="
            f"{distribution!r}; make one with {maker}"
        )
    given: Background | EffectsBackground = background
    check_same_model("background", given.source, job.source)
    if isinstance(given, Background):
        if given.pooling != "mean":
            raise ArgumentError(f"background: found pooling {given.pooling!r}, wanted 'mean' as for the words")
        return given
    if given.removal != job.removal.name:
        raise ArgumentError(
            f"background: found effects of removal {given.removal!r}, wanted those of {job.removal.name!r}"
        )
    made, now = (_settings(o) for o in (given.source.options, {**job.source.options, "reading": job.reading}))
    if "removal" in given.source.options and made != now:
        raise ArgumentError(
            f"background: found effects of words taken away with {made}, wanted {now}; make one with "
            "effects_background and the same removal, blocks and reading"
        )
    return given


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how effects are spread, of the options of a source; more samples are the same distribution."""
    chosen = {k: v for k, v in options.items() if k.startswith("removal_") and k != "removal_samples"}
    return {**chosen, "reading": options.get("reading", "once")}


def _by_readout(job: RemovalJob) -> Iterator[tuple[int, Influence]]:
    from infogeo_adapters.transformers._removal_readout import moved_predictions, prediction_readout

    readout = prediction_readout(job.model)

    def measure(readings: Readings, removed: IntArray, without: States) -> FloatArray:
        moved = moved_predictions(readout, readings.whole, without)
        owns = word_pooling(readings.item)[:, units(readings.item)] > 0
        return np.stack([moved[..., own].mean(axis=-1) for own in owns], axis=-1)

    for k, readings in job.run(token_pooling, measure):
        yield k, job.influence(
            readings.item, readings.without, readings.removed, "readout", readout=",".join(readout.path),
            predicts=readout.predicts,
        )
