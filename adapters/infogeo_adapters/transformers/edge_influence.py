r"""Influence of single edges: what a head or a block of attention says of a word when it may not look at another one.

What a head puts out at word i when word j is hidden from it, and from it alone, is known in closed form from its
weights and values (:mod:`infogeo_adapters.transformers._edge_effects`), exactly and for all pairs of words in one
forward pass. A block of attention moves by the sum of this over its heads, each through its part of the output
projection. How far that is on the manifold of normals is the influence of an edge. Attention weights enter, and beside
them what the values say: a word that is looked at but says what the others say has none.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from infogeo._checks import FloatArray, check_count, check_progress
from infogeo.background import ShrinkageRule, ledoit_wolf
from infogeo.edge_influence import EdgeInfluence
from infogeo.errors import ArgumentError, ModelError
from infogeo.influence import EffectMoments, EffectsBackground, Manifold, normal_lengths, whitening_factors
from infogeo_adapters.models import background_text
from infogeo_adapters.progress import progress_bar
from infogeo_adapters.transformers._edge_reader import EdgeReader
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_capture, check_model, several_texts, words_of_each
from infogeo_adapters.transformers.backgrounds import background_sentences
from infogeo_adapters.transformers.echo import Reading, find_reading, prepare_reading
from infogeo_adapters.transformers.forward import Overflow, of_text
from infogeo_adapters.transformers.loading import LanguageModel

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo.results import Source

EdgeDistribution = Literal["effects", "isotropic"]
Progress = Callable[[int, int], object]


@overload
def measure_edge_influence(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: str, *, words: Words | None = ..., blocks: Iterable[int] | None = ...,
    distribution: EdgeDistribution = ..., reading: Reading | None = ..., manifold: Manifold = ...,
    shrinkage: float | ShrinkageRule = ..., overflow: Overflow = ..., batch_tokens: int = ...,
    progress: Progress | None = ...,
) -> EdgeInfluence: ...


@overload
def measure_edge_influence(
    model: LanguageModel, text: Sequence[str], *, words: Any = ..., blocks: Iterable[int] | None = ...,
    distribution: EdgeDistribution = ..., reading: Reading | None = ..., manifold: Manifold = ...,
    shrinkage: float | ShrinkageRule = ..., overflow: Overflow = ..., batch_tokens: int = ...,
    progress: Progress | None = ...,
) -> list[EdgeInfluence]: ...


def measure_edge_influence(
    model: LanguageModel, text: str | Sequence[str], *, words: Any = None, blocks: Iterable[int] | None = None,
    distribution: EdgeDistribution = "effects", reading: Reading | None = "once",
    manifold: Manifold = "fixed covariance", shrinkage: float | ShrinkageRule = ledoit_wolf,
    overflow: Overflow = "error", batch_tokens: int = 4096, progress: Progress | None = None,
) -> EdgeInfluence | list[EdgeInfluence]:
    r"""How far what each head and block of attention says of a word moves when it may not look at another word.

    A head gives token k the weight :math:`\alpha_{tk}` at token t, takes :math:`v_k` from it, and puts out
    :math:`o_t = \sum_k \alpha_{tk} v_k`. When it may not look at word j, softmax shares the weight among the rest, and

    .. math::
        \delta_{tj} = \frac{\sum_{k \notin j} \alpha_{tk} v_k}{\sum_{k \notin j} \alpha_{tk}} - o_t, \qquad
        a_{ij} = \sqrt{\delta_{ij}^\top \Sigma^{-1} \delta_{ij}},

    with :math:`\delta_{ij}` the mean over the tokens of word i, and :math:`\Sigma` the covariance of normals around
    what is said: the length on the manifold of normals of that covariance, or the length among all normals
    (:func:`infogeo.influence.normal_lengths`). Of a block it is the same with the sum of the heads' changes, each
    through its part of the output projection. Nothing else in the model changes, neither other words nor other blocks,
    so that one pass gives all pairs of words. What a sink takes is left to it, and a head that looks at word j alone
    puts out nothing without it.

    Parameters
    ----------
    model : LanguageModel
        Of an encoder-decoder model the encoder is run.
    text : str or sequence of str
    words : optional
        How a text falls into words, as in :func:`capture_activations`.
    blocks : iterable of int, optional
        Blocks with attention, counted from 1; all by default.
    distribution : {"effects", "isotropic"}
        The covariance: that of such changes in a background text, shrunk, head by head and block by block; or the
        identity times their mean variance.
    reading : {"once", "twice"}, optional
        Whether the text is given once, or twice in a row with words read in the second copy and taken away from both;
        None is twice for causal models and once for others.
    manifold : {"fixed covariance", "all normals"}
    shrinkage : float or function
        Of the covariance of effects.
    overflow : {"error", "truncate"}
        What to do with a text longer than the context.
    batch_tokens : int
        Most tokens in one batch, padding counted.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of texts.

    Returns
    -------
    EdgeInfluence, or a list of them
        ``heads`` (A, H, n, n) and ``whole`` (A, n, n), [..., i, j] of word i when word j is hidden.

    Raises
    ------
    TextError
        A text is empty, too long, or has a word without a token.
    ModelError
        The model has no attention, or what attention returns is no sum of values times weights (gates, convolutions).
    ArgumentError
        An argument has no such value.
    DomainError
        States are NaN or infinite, or ``shrinkage`` leaves a covariance that cannot be inverted.

    See Also
    --------
    measure_influence : words taken away in all blocks, measured by running the model without them.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = measure_edge_influence(load_model(), "The dog ran home.", blocks=[3])
    >>> found.heads.shape, found.whole.shape, found.reading
    ((1, 5, 5, 5), (1, 5, 5), 'once')
    """
    check_capture(model, overflow, batch_tokens)
    check_progress(progress)
    check_edges(distribution, manifold)
    one = isinstance(text, str)
    texts = several_texts([text] if one else text)
    split = words_of_each([words] if one and not callable(words) else words, len(texts))
    way = find_reading(model, reading)
    for number, (given, how) in enumerate(zip(texts, split, strict=True)):
        with of_text(None if one else number):
            prepare_reading(model, given, how, overflow, way)
    meter = EdgeMeter(model, blocks, distribution, way, manifold, shrinkage)
    found = meter.measure(texts, split, overflow=overflow, batch_tokens=batch_tokens, progress=progress)
    return found[0] if one else found


def check_edges(distribution: object, manifold: Manifold) -> None:
    """Raise an ArgumentError if there is no such covariance or manifold."""
    normal_lengths(0.0, manifold)
    if distribution not in ("effects", "isotropic"):
        raise ArgumentError(f"distribution {distribution!r} does not exist; choose 'effects' or 'isotropic'")


class EdgeMeter:
    """A reader with the covariances that its effects are measured by."""

    def __init__(
        self, model: LanguageModel, blocks: Iterable[int] | None, distribution: EdgeDistribution, reading: Reading,
        manifold: Manifold = "fixed covariance", shrinkage: float | ShrinkageRule = ledoit_wolf,
    ) -> None:
        check_edges(distribution, manifold)
        self.reader = EdgeReader(model, blocks)
        self.reading, self.distribution, self.manifold = reading, distribution, manifold
        self.background = edge_background(model, reading=reading)
        intensity: float | ShrinkageRule = 1.0 if distribution == "isotropic" else shrinkage
        self._factors = {}
        for block, matrix in self.reader.matrices.items():
            heads, whole = self.background[block]
            projection = matrix.reshape(-1, matrix.shape[-1])
            self._factors[block] = _inverse_roots(heads, intensity), projection @ _inverse_roots(whole, intensity)[0]

    def measure(
        self, texts: Sequence[str], words: Sequence[Any], *, overflow: Overflow = "error", batch_tokens: int = 4096,
        captured: Sequence[LayerActivations] | None = None, progress: Progress | None = None,
    ) -> list[EdgeInfluence]:
        """Of each text the influence of single edges."""
        found: list[EdgeInfluence] = []
        for effects in self.reader.effects(
            texts, words, self.reading, overflow=overflow, batch_tokens=batch_tokens, captured=captured
        ):
            item, movable = effects.item, effects.movable()
            lengths = [one.lengths(*self._factors[one.block], movable) for one in effects.blocks]
            found.append(EdgeInfluence(
                heads=normal_lengths(np.stack([heads for heads, _ in lengths]), self.manifold),
                whole=normal_lengths(np.stack([whole for _, whole in lengths]), self.manifold),
                words=tuple(item.text[i:j] for i, j in item.spans), blocks=self.reader.blocks,
                distribution=self.distribution, reading=self.reading, causal=effects.causal,
                source=effects.source().with_options(
                    distribution=self.distribution, reading=self.reading, manifold=self.manifold
                ),
            ))
            if progress is not None:
                progress(len(found), len(texts))
        return found


def _inverse_roots(background: EffectsBackground, shrinkage: float | ShrinkageRule) -> FloatArray:
    r"""Of each layer :math:`F = L^{-\top}` with :math:`\Sigma = L L^\top`, so that rows times F are white."""
    found = np.zeros_like(background.covariance)
    for r, layer in enumerate(background.layers):
        if background.covariance[r].any():  # a head that moves nothing, such as one that was pruned, keeps zero
            shrunk, _ = background.shrunk_covariance(layer, shrinkage=shrinkage)
            found[r] = np.linalg.inv(whitening_factors(shrunk[None])[0]).T
    return found


_kept: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def edge_background(
    model: LanguageModel, *, reading: Reading | None = None, sentences: int = 60
) -> dict[int, tuple[EffectsBackground, EffectsBackground]]:
    """Covariances of the effects of single edges in the text that ships with infogeo, of each block with attention.

    Kept for the model's lifetime.

    Parameters
    ----------
    model : LanguageModel
    reading : {"once", "twice"}, optional
        Whether texts are given once, or twice in a row; by default twice for causal models.
    sentences : int
        How many sentences of 5 to 30 words are used, spread evenly over the text; of one that is too long for the
        context the beginning.

    Returns
    -------
    dict of int to (EffectsBackground, EffectsBackground)
        By block: of its heads (``layers`` are the heads, counted from 1), and of the whole block (its number).

    Raises
    ------
    ModelError
        The model has no attention, or it cannot be taken apart.
    ArgumentError
        An argument has no such value.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> heads, whole = edge_background(load_model(), reading="once")[3]
    >>> heads.layers, heads.dimension, whole.layers, whole.dimension
    ((1, 2, 3, 4, 5), 32, (3,), 160)
    """
    check_model(model)
    way = find_reading(model, reading)
    key = (way, check_count("sentences", sentences, 1), model.current_source().content_hash)
    kept = _kept.setdefault(model, {})
    if key in kept:
        found: dict[int, tuple[EffectsBackground, EffectsBackground]] = kept[key]
        return found
    reader = EdgeReader(model)
    moments = {b: (EffectMoments(range(1, reader.heads[b] + 1)), EffectMoments([b])) for b in reader.blocks}
    texts = background_sentences(background_text(), sentences)
    digest = hashlib.sha256()
    source: Source | None = None
    with progress_bar("how edges move words in the packaged text", unit="texts") as show:
        stream = reader.effects(texts, [None] * len(texts), way, overflow="truncate", batch_tokens=4096)
        for done, effects in enumerate(stream, start=1):
            digest.update(effects.item.text.encode() + b"\x00")
            source = effects.source()
            for one in effects.blocks:
                for heads, whole in one.pairs(effects.movable()):
                    moments[one.block][0].add(heads)
                    moments[one.block][1].add(whole[None])
            show(done, len(texts))
    if source is None:
        raise ModelError("the background gave no effects")
    noted = replace(source, text_hash=digest.hexdigest()).with_options(background="packaged", sentences=len(texts))
    made = {
        b: (of_heads.background(removal="edge", source=noted), of_whole.background(removal="edge", source=noted))
        for b, (of_heads, of_whole) in moments.items()
    }
    kept[key] = made
    return made
