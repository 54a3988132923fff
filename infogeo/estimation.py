"""Constructions: how word vectors of a transformer become probability distributions.

Each construction is a named choice with assumptions of its own, stated in its docstring; none of them is *the*
distribution of a word. All are made at one layer, where layer 0 is the embedding output and layer l the residual
stream after block l.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from infogeo._checks import FloatArray, IntArray, as_array, as_float_array, check_count, check_shape, sum_tolerance
from infogeo.activations import LayerActivations, Pooling, check_activations, each_text
from infogeo.background import Background as Background
from infogeo.background import ShrinkageRule as ShrinkageRule
from infogeo.background import check_background, check_intensity, check_same_model, combined_source
from infogeo.background import estimate_background as estimate_background
from infogeo.background import ledoit_wolf as ledoit_wolf
from infogeo.background import oracle_approximating as oracle_approximating
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.families import Categorical, DiagonalGaussian, PointMass, SharedCovarianceGaussian
from infogeo.families.categorical import logsumexp
from infogeo.words import WordDistributions


def component_normals(activations: LayerActivations, layer: int, *, pooling: Pooling = "mean") -> WordDistributions:
    """One univariate normal per word, fitted to the d components of its vector.

    The construction behind the geodesics of Deb and Ogunfunmi [1]_. It treats the components of a vector as d
    independent draws from one normal distribution, so it keeps two numbers of each vector, mean and variance of its
    components (maximum likelihood, divisor d), and forgets which component was which: a permutation of the
    coordinates changes nothing. The assumption is not true of transformer states; it is the simplest baseline.

    Parameters
    ----------
    activations : LayerActivations
    layer : int
        Negative numbers count from the last layer.
    pooling : {'mean', 'first', 'last'}
        How the tokens of a word are turned into its vector.

    Returns
    -------
    WordDistributions
        Of a :class:`~infogeo.DiagonalGaussian` with one coordinate; each word rests on d observations.

    Raises
    ------
    ArgumentError
        If the layer or the pooling does not exist.
    DomainError
        If all components of a vector are equal (the word is named).
    ShapeError
        If there are no words.

    References
    ----------
    .. [1] M. Deb, T. Ogunfunmi, Entropy 27 (2025) 589.
    """
    vectors = _vectors(activations, layer, pooling)
    d = vectors.shape[1]
    variance = vectors.var(axis=1, keepdims=True)
    flat = np.flatnonzero(variance[:, 0] <= 0)
    if len(flat):
        raise DomainError(
            f"component_normals: all {d} components of the vector of word {flat[0]} ({activations.words[flat[0]]!r}) "
            f"are equal at layer {layer}, so their variance is zero; choose another layer"
        )
    return WordDistributions(
        words=activations.words,
        distribution=DiagonalGaussian(vectors.mean(axis=1, keepdims=True), variance),
        observations=np.full(len(vectors), d),
        level="occurrence",
        layer=activations.check_layer(layer),
        construction="component_normals",
        details={"pooling": pooling},
        source=activations.source,
    )


def shared_covariance_normals(
    activations: LayerActivations,
    layer: int,
    background: Background,
    *,
    pooling: Pooling = "mean",
    shrinkage: float | ShrinkageRule = ledoit_wolf,
) -> WordDistributions:
    """A multivariate normal per word occurrence: mean the word's vector, covariance that of a background text.

    It assumes that a vector is the center of a cloud, and that the clouds of all words have the one shape in which word
    vectors of the layer vary at large. Then only Mahalanobis distances between the vectors count, and the Fisher-Rao
    distance among all normals is a function of them. The background covariance mixes variation between words and
    within words, since one text has too few occurrences of most words to tell them apart.

    Parameters
    ----------
    activations : LayerActivations
    layer : int
        Negative numbers count from the last layer.
    background : Background
        Of the same model, from :func:`estimate_background` or ``capture_background`` of ``infogeo_adapters``.
    pooling : {'mean', 'first', 'last'}
        Must be that of the background.
    shrinkage : float or function
        Intensity from 0 to 1 with which the covariance is drawn toward a multiple of the identity, or a rule that
        computes it. The value that was used is in ``details['shrinkage']``.

    Returns
    -------
    WordDistributions
        Of a :class:`~infogeo.SharedCovarianceGaussian`; each word rests on one observation.

    Raises
    ------
    ShapeError
        If layers or width of the background are those of another model, or there are no words.
    DomainError
        If the background is of another model or pooling, or its covariance is singular and not shrunk.
    ArgumentError
        If the layer or the pooling does not exist, the background is no :class:`Background`, or the shrinkage is
        neither a number nor a function.
    """
    vectors = _vectors(activations, layer, pooling)
    layer = activations.check_layer(layer)
    check_background(background)
    if (background.n_layers, background.dimension) != (activations.n_layers, activations.dimension):
        raise ShapeError(
            f"background: found {background.n_layers} blocks of width {background.dimension}, wanted "
            f"{activations.n_layers} of width {activations.dimension}; make the background with the model of the text"
        )
    check_same_model("background", background.source, activations.source)
    if background.pooling != pooling:
        raise DomainError(f"background: found pooling {background.pooling!r}, wanted {pooling!r} as for the words")
    covariance, intensity = background.shrunk_covariance(layer, shrinkage=shrinkage)
    return WordDistributions(
        words=activations.words,
        distribution=SharedCovarianceGaussian(vectors, covariance),
        observations=np.ones(len(vectors), dtype=np.int64),
        level="occurrence",
        layer=layer,
        construction="shared_covariance_normals",
        details={
            "pooling": pooling,
            "shrinkage": intensity,
            "shrinkage_rule": getattr(shrinkage, "__name__", repr(shrinkage)) if callable(shrinkage) else "fixed",
            "background_words": background.n_words,
            "background_hash": background.source.text_hash,
        },
        source=activations.source,
    )


def readout_categoricals(activations: LayerActivations, layer: int, log_probs: FloatArray) -> WordDistributions:
    """The distribution over the vocabulary that the model predicts at each word's last token.

    For a causal model that is the next token given everything up to and including the word; for a masked model the
    token itself. At inner layers the prediction is a read-out (logit lens): it assumes that the state is meant in the
    coordinates of the output, which is less true the earlier the layer.

    Parameters
    ----------
    activations : LayerActivations
    layer : int
        The layer that was read out. It is recorded and checked to exist, nothing more: ``log_probs`` is an array that
        does not know its layer, so that one read out at another layer passes and is recorded wrongly. Write the layer
        once: ``readout_categoricals(activations, layer, read_out(model, activations, layer))``.
    log_probs : array, shape (T, V)
        Log-probabilities in nats at every token, as ``infogeo_adapters`` reads them out. What their probabilities lack
        or exceed one by rounding is divided out in float64; the largest such correction of a sum is in
        ``details['largest_correction']``.

    Returns
    -------
    WordDistributions
        Of a :class:`~infogeo.Categorical`; each word rests on one observation, the prediction at one token.

    Raises
    ------
    ArgumentError
        If the layer does not exist.
    ShapeError
        If there is not one row per token, or there are no words.
    DomainError
        If a row that is used is not made of log-probabilities: its probabilities do not sum to one within
        1e-9, or the rounding of a coarser dtype (3.8e-6 for float32, 0.008 for float16).
    """
    layer = check_activations(activations).check_layer(layer)
    log_probs = as_array("log_probs", log_probs)
    check_shape("log_probs", log_probs, (len(activations.tokens), None))
    _check_words(activations)
    last = activations.pooling_matrix("last").argmax(axis=1)
    chosen = Categorical.from_logits(log_probs[last])
    with np.errstate(over="ignore"):  # scores beyond the range of float64 are no log-probabilities either
        total = np.exp(logsumexp(log_probs[last].astype(np.float64)))
    correction = np.abs(total - 1)
    if (correction > sum_tolerance(log_probs.dtype)).any():
        word = int(np.argmax(correction))
        raise DomainError(
            f"log_probs: the probabilities at word {word} ({activations.words[word]!r}) sum to {total[word]:.6g}, "
            "wanted 1; pass log-probabilities, not probabilities or scores"
        )
    return WordDistributions(
        words=activations.words,
        distribution=chosen,
        observations=np.ones(len(last), dtype=np.int64),
        level="occurrence",
        layer=layer,
        construction="readout_categoricals",
        details={"outcomes": chosen.dimension, "largest_correction": float(correction.max())},
        source=activations.source,
    )


def occurrence_normals(
    activations: Iterable[LayerActivations] | LayerActivations,
    layer: int,
    *,
    shrinkage: float = 0.5,
    min_count: int = 2,
    rare: Literal["error", "drop"] = "error",
    key: Callable[[str], str] | None = None,
    pooling: Pooling = "mean",
) -> WordDistributions:
    r"""A normal with independent coordinates per word type, from its occurrences in a corpus.

    It assumes that the vectors of one type scatter around a mean with independent coordinates (they are correlated in
    truth; a full covariance would need more occurrences than coordinates). With few occurrences a variance is a poor
    estimate, so it is drawn toward the pooled variance within types: :math:`v = (1 - \lambda) s_w^2 + \lambda
    s^2_\mathrm{pooled}`, both unbiased, :math:`s^2_\mathrm{pooled} = \sum_w (n_w - 1) s_w^2 / \sum_w (n_w - 1)`. The
    intensity :math:`\lambda` is the same for all types; means are not shrunk, so a rare type lies farther from its
    neighbors than its true mean does.

    Parameters
    ----------
    activations : iterable of LayerActivations
        The corpus, captured with one model; a single text may be given without a list around it.
    layer : int
        Negative numbers count from the last layer.
    shrinkage : float
        Intensity from 0 to 1.
    min_count : int
        Fewest occurrences of a type; at least 2, or 1 if ``shrinkage`` is 1.
    rare : {'error', 'drop'}
        What to do with types that occur less often: name them in an error, or leave them out and count them in
        ``details``.
    key : function, optional
        Turns a word into its type, for example ``str.lower``; without one, words are taken as they are written.
    pooling : {'mean', 'first', 'last'}
        How the tokens of a word are turned into its vector.

    Returns
    -------
    WordDistributions
        Of a :class:`~infogeo.DiagonalGaussian`, one per type in order of first appearance, with the number of its
        occurrences as observations.

    Raises
    ------
    ArgumentError
        If an argument lies outside its range, or the layer does not exist.
    DomainError
        If types are too rare and ``rare`` is 'error', none is left, a variance is zero after shrinkage, or the
        activations come from different models.
    ShapeError
        If there are no activations, or their sizes differ.
    """
    texts = tuple(each_text(activations))
    _check_occurrence_arguments(texts, shrinkage, min_count, rare, key)
    source = combined_source(texts)
    types: dict[str, int] = {}
    members = [
        np.array([types.setdefault(w if key is None else key(w), len(types)) for w in text.words], dtype=np.int64)
        for text in texts
    ]
    counts = np.bincount(np.concatenate(members), minlength=len(types))
    kept = counts >= min_count
    names = list(types)
    if rare == "error" and not kept.all():
        few = [names[i] for i in np.flatnonzero(~kept)]
        raise DomainError(
            f"occurrence_normals: {len(few)} of {len(names)} word types occur fewer than {min_count} times "
            f"({', '.join(map(repr, few[:5]))}{', ...' if len(few) > 5 else ''}); give more text, lower min_count, or "
            "leave them out with rare='drop'"
        )
    if not kept.any():
        raise DomainError(f"occurrence_normals: no word type occurs at least {min_count} times; give more text")
    mean, scatter = _moments_by_type(texts, layer, pooling, members, counts)
    freedom = int((counts[kept] - 1).sum())
    if freedom == 0:
        raise DomainError(
            "occurrence_normals: every word type occurs once, so no variance can be estimated; give more text"
        )
    pooled = scatter[kept].sum(axis=0) / freedom
    own = scatter[kept] / np.maximum(counts[kept] - 1, 1)[:, None]
    variance = (1 - shrinkage) * own + shrinkage * pooled
    words = tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if keep)
    if (variance <= 0).any():
        word, coordinate = (int(i) for i in np.argwhere(variance <= 0)[0])
        raise DomainError(
            f"occurrence_normals: coordinate {coordinate} of {words[word]!r} has variance zero at layer {layer}, all "
            "its occurrences have the same value (as at layer 0 of models that add no positions); choose a later layer"
            + (" or more shrinkage" if shrinkage == 0 else "")
        )
    return WordDistributions(
        words=words,
        distribution=DiagonalGaussian(mean[kept], variance),
        observations=counts[kept],
        level="type",
        layer=texts[0].check_layer(layer),
        construction="occurrence_normals",
        details={
            "pooling": pooling,
            "shrinkage": float(shrinkage),
            "min_count": min_count,
            "key": "as written" if key is None else getattr(key, "__name__", repr(key)),
            "dropped_types": int((~kept).sum()),
            "dropped_occurrences": int(counts[~kept].sum()),
            "pooled_degrees_of_freedom": freedom,
        },
        source=source,
    )


def point_masses(activations: LayerActivations, layer: int, *, pooling: Pooling = "mean") -> WordDistributions:
    """The word vectors themselves, as point masses: for cosine and Euclidean distance beside the geodesic ones.

    It assumes nothing, and says nothing about uncertainty.

    Parameters
    ----------
    activations : LayerActivations
    layer : int
        Negative numbers count from the last layer.
    pooling : {'mean', 'first', 'last'}
        How the tokens of a word are turned into its vector.

    Returns
    -------
    WordDistributions
        Of a :class:`~infogeo.PointMass`; each word rests on one observation.

    Raises
    ------
    ArgumentError
        If the layer or the pooling does not exist.
    ShapeError
        If there are no words.
    """
    vectors = _vectors(activations, layer, pooling)
    return WordDistributions(
        words=activations.words,
        distribution=PointMass(vectors),
        observations=np.ones(len(vectors), dtype=np.int64),
        level="occurrence",
        layer=activations.check_layer(layer),
        construction="point_masses",
        details={"pooling": pooling},
        source=activations.source,
    )


def _check_words(activations: LayerActivations) -> None:
    if not check_activations(activations).words:
        raise ShapeError("activations: the text has no words, so there is nothing to make distributions of")


def _vectors(activations: LayerActivations, layer: int, pooling: Pooling) -> FloatArray:
    _check_words(activations)
    return as_float_array("word vectors", activations.word_vectors(layer, pooling=pooling))


def _check_occurrence_arguments(
    texts: tuple[LayerActivations, ...], shrinkage: float, min_count: int, rare: str, key: object
) -> None:
    check_intensity(shrinkage)
    check_count("min_count", min_count)
    if key is not None and not callable(key):
        raise ArgumentError(f"key: found {key!r}, wanted a function of a word such as str.lower, or None")
    if not 0.0 <= shrinkage <= 1.0:
        raise ArgumentError(f"shrinkage: found {shrinkage}, wanted a number from 0 to 1")
    fewest = 1 if shrinkage == 1.0 else 2
    if min_count < fewest:
        raise ArgumentError(
            f"min_count: found {min_count}, wanted at least {fewest}; one occurrence has no variance of its own, only "
            "shrinkage=1 (the pooled variance alone) allows it"
        )
    if rare not in ("error", "drop"):
        raise ArgumentError(f"rare: found {rare!r}, wanted 'error' or 'drop'")
    if not texts or not any(text.words for text in texts):
        raise ShapeError("activations: no words were given; capture at least one text")
    sizes = {(text.n_layers, text.dimension) for text in texts}
    if len(sizes) > 1:
        raise ShapeError(f"activations: found (blocks, width) {sorted(sizes)}, wanted those of one model")


def _moments_by_type(
    texts: tuple[LayerActivations, ...], layer: int, pooling: Pooling, members: list[IntArray], counts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Mean, and sum of squared deviations from it, of the vectors of each type; in two passes, one text at a time."""
    mean = np.zeros((len(counts), texts[0].dimension))
    for text, member in zip(texts, members, strict=True):
        np.add.at(mean, member, text.word_vectors(layer, pooling=pooling))
    mean /= counts[:, None]
    scatter = np.zeros_like(mean)
    for text, member in zip(texts, members, strict=True):
        np.add.at(scatter, member, (text.word_vectors(layer, pooling=pooling) - mean[member]) ** 2)
    return mean, scatter
