r"""Influence of single edges: what a head or a block of attention says of a word when it may not look at another one.

Of one head let token t look at token k with weight :math:`\alpha_{tk}` and take :math:`v_k` from it, so that it puts
out :math:`o_t = \sum_k \alpha_{tk} v_k`. Without word j the softmax gives the rest of the tokens the same weights over
their sum, and the head puts out

.. math::
    o_{t \setminus j} = \frac{\sum_{k \notin j} \alpha_{tk} v_k}{1 - \alpha_{tj}}, \qquad
    o_{t \setminus j} - o_t = \frac{\alpha_{tj} o_t - \sum_{k \in j} \alpha_{tk} v_k}{1 - \alpha_{tj}},
    \qquad \alpha_{tj} = \sum_{k \in j} \alpha_{tk} .

That is exact, and needs one pass for all pairs of words. A block of attention moves by the sum of this over its heads,
each through its part of the output projection. How far that is on the manifold of normals is its influence, as if word
j had been hidden from word i in this head or block alone. Attention weights enter, and beside them what the values say:
a word that is looked at but says what the others say has none.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from infogeo._checks import FloatArray, check_count, check_progress
from infogeo.background import ShrinkageRule, ledoit_wolf
from infogeo.edge_influence import EdgeInfluence
from infogeo.errors import ArgumentError, ModelError
from infogeo.influence import (
    EffectMoments,
    EffectsBackground,
    Manifold,
    normal_lengths,
    whitened_lengths,
    whitening_factors,
)
from infogeo_adapters.models import background_text
from infogeo_adapters.progress import progress_bar
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_capture, several_texts, words_of_each
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.echo import Reading, doubled, find_reading
from infogeo_adapters.transformers.forward import Overflow, of_text, prepare
from infogeo_adapters.transformers.head_outputs import attending_blocks, output_matrix
from infogeo_adapters.transformers.influence import background_sentences
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stages import capture_stages

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo.results import Source

EdgeDistribution = Literal["effects", "isotropic"]
Progress = Callable[[int, int], object]

NOTHING_LEFT = 1e-6
"""Weight below which a head that may not look at a word looks at nothing: single precision tells no less."""
TOLERANCE = 1e-3
"""Largest difference, relative to the largest entry, of what attention returns from the sum that is taken apart; fifty
times as much for models in half precision."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockEffects:
    """What attention of one block says of each word without each other word, less what it says with it."""

    block: int
    heads: FloatArray
    """(H, n, n, width of a head), ``[h, i, j]`` at word i without word j."""
    matrix: FloatArray
    """(H, width of a head, d) output projection."""

    def whole(self) -> FloatArray:
        """(n, n, d) of all heads together, through the output projection."""
        width = self.matrix.shape[0] * self.matrix.shape[1]
        n = self.heads.shape[1]
        return np.asarray(self.heads.transpose(1, 2, 0, 3).reshape(n, n, width) @ self.matrix.reshape(width, -1))


def head_effects(maps: FloatArray, values: FloatArray, reads: FloatArray, takes: FloatArray) -> FloatArray:
    """Change of what each head puts out at each word when it may not look at each other word.

    Parameters
    ----------
    maps : array, shape (H, T, T)
        Attention, row = the token that looks; rows sum to one, or less where a sink takes the rest.
    values : array, shape (H, T, width)
    reads : array, shape (n, T)
        Weights that make a word of its tokens.
    takes : array, shape (n, T)
        One for the tokens of a word that are taken away, else zero.

    Returns
    -------
    array, shape (H, n, n, width)
        ``[h, i, j]`` at word i without word j; zero for i = j.
    """
    n = len(reads)
    found = np.zeros((len(maps), n, n, values.shape[-1]))
    beyond = np.maximum(1.0 - maps.sum(axis=-1), 0.0)  # of a sink; else rounding
    for h, (weights, carried) in enumerate(zip(maps, values, strict=True)):
        out = weights @ carried
        taken = weights @ takes.T
        left = weights @ (1.0 - takes).T + np.where(beyond[h] > 1e-3, beyond[h], 0.0)[:, None]
        for j in range(n):
            own = takes[j] > 0
            gone = weights[:, own] @ carried[own]
            some = left[:, j, None] > NOTHING_LEFT
            moved = (taken[:, j, None] * out - gone) / np.where(some, left[:, j, None], 1.0)
            found[h, :, j] = reads @ np.where(some, moved, -out)
        found[h, np.arange(n), np.arange(n)] = 0.0
    return found


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
        chosen = list(self.heads) if blocks is None else [check_count("blocks", b) for b in blocks]
        missing = [b for b in chosen if b not in self.heads]
        if missing or not chosen:
            raise ArgumentError(
                f"blocks: found {missing or 'none'}, wanted some of {sorted(self.heads)}, which have attention"
            )
        self.blocks = tuple(sorted(set(chosen)))
        self.matrices = {b: output_matrix(model, b, self.heads[b]) for b in self.blocks}
        self._checked = False

    def effects(
        self, texts: Sequence[str], words: Sequence[Any], reading: Reading, *, overflow: Overflow, batch_tokens: int,
        captured: Sequence[LayerActivations] | None = None,
    ) -> Iterator[tuple[LayerActivations, tuple[str, ...], list[BlockEffects]]]:
        """Of each text its activations, its words, and the effects in each block, in the order of the texts.

        ``captured`` are activations of the same texts with attention, if there are any, for texts read once.
        """
        spans = []
        for number, (text, split) in enumerate(zip(texts, words, strict=True)):
            with of_text(None if len(texts) == 1 else number):
                item = prepare(self.model, text, split, overflow)
            spans.append(doubled(item.text, item.spans) if reading == "twice" else (item.text, item.spans))
        whole = [text for text, _ in spans]
        split = [found for _, found in spans]
        if captured is None or reading == "twice":
            captured = capture_activations(self.model, whole, words=split, batch_tokens=batch_tokens)
        values = capture_stages(
            self.model, whole, stages=("value",) if self._checked else ("value", "attention_output"),
            blocks=self.blocks, words=split, batch_tokens=batch_tokens,
        )
        for activations, stages in zip(captured, values, strict=True):
            reads, takes = _poolings(activations, reading)
            found = []
            for block in self.blocks:
                maps, carried = self._parts(activations, stages, block)
                found.append(BlockEffects(
                    block=block, heads=head_effects(maps, carried, reads, takes), matrix=self.matrices[block]
                ))
            self._checked = True
            yield activations, activations.words[: len(reads)], found

    def _parts(self, activations: LayerActivations, stages: Any, block: int) -> tuple[FloatArray, FloatArray]:
        """Weights (H, T, T) and values (H, T, width) of a block; checked the first time."""
        if activations.attention is None or activations.token_ids.tolist() != stages.activations.token_ids.tolist():
            raise ArgumentError("the text was captured without attention, or as other tokens; capture it again")
        maps = activations.attention[activations.attention_layers.index(block)].astype(np.float64)
        values = stages.at("value", block).astype(np.float64)
        carried = np.swapaxes(np.repeat(values, len(maps) // values.shape[1], axis=1), 0, 1)
        if not self._checked:
            wanted = stages.at("attention_output", block).astype(np.float64)
            rest = wanted - np.einsum("hij,hjw,hwd->id", maps, carried, self.matrices[block], optimize=True)
            off = float(np.abs(rest - rest.mean(axis=0)).max() / np.abs(wanted).max())  # a bias is the same for all
            half = self.model.model.dtype.itemsize < 4
            if off > TOLERANCE * (50 if half else 1):
                raise ModelError(
                    f"{self.model.name}: what attention of block {block} returns differs by {off:.2g} of its largest "
                    "entry from the sum of values times weights over heads and tokens, so that it cannot be taken "
                    "apart; use influence of words (measure_influence), which asks the model itself"
                )
        return maps, carried


def _poolings(activations: LayerActivations, reading: Reading) -> tuple[FloatArray, FloatArray]:
    """Weights (n, T) that read words, and marks (n, T) of their tokens, in both copies of a text read twice."""
    pooling = activations.pooling_matrix("mean")
    owns = (pooling > 0).astype(np.float64)
    if reading == "once":
        return pooling, owns
    n = len(pooling) // 2
    return pooling[n:], owns[:n] + owns[n:]


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

    With the change :math:`\delta_{ij}` of the module's docstring, and normals of covariance :math:`\Sigma` around what
    is said,

    .. math:: a_{ij} = \sqrt{\delta_{ij}^\top \Sigma^{-1} \delta_{ij}}

    on the manifold of normals of that covariance, or the length among all normals
    (:func:`infogeo.influence.normal_lengths`). One pass gives all pairs of words.

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

    Raises
    ------
    TextError
        A text is empty, too long, or has a word without a token.
    ModelError
        The model has no attention, or it cannot be taken apart.
    ArgumentError
        An argument has no such value.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = measure_edge_influence(load_model(), "The dog ran home.", blocks=[3])
    >>> found.heads.shape, found.whole.shape, found.reading
    ((1, 5, 5, 5), (1, 5, 5), 'once')
    """
    check_capture(model, overflow, batch_tokens)
    check_progress(progress)
    normal_lengths(0.0, manifold)  # a manifold that does not exist is refused before anything is run
    if distribution not in ("effects", "isotropic"):
        raise ArgumentError(f"distribution {distribution!r} does not exist; choose 'effects' or 'isotropic'")
    one = isinstance(text, str)
    texts = several_texts([text] if one else text)
    split = words_of_each([words] if one and not callable(words) else words, len(texts))
    meter = EdgeMeter(model, blocks, distribution, find_reading(model, reading), manifold, shrinkage)
    found = []
    for start in range(0, len(texts), CHUNK):
        part = slice(start, start + CHUNK)
        found += meter.measure(texts[part], split[part], overflow=overflow, batch_tokens=batch_tokens)
        if progress is not None:
            progress(len(found), len(texts))
    return found[0] if one else found


CHUNK = 32
"""Texts whose values are held at a time."""


class EdgeMeter:
    """A reader with the covariances that its effects are measured by."""

    def __init__(
        self, model: LanguageModel, blocks: Iterable[int] | None, distribution: EdgeDistribution, reading: Reading,
        manifold: Manifold = "fixed covariance", shrinkage: float | ShrinkageRule = ledoit_wolf,
    ) -> None:
        self.reader = EdgeReader(model, blocks)
        self.reading, self.distribution, self.manifold = reading, distribution, manifold
        self.background = edge_background(model, reading=reading)
        intensity: float | ShrinkageRule = 1.0 if distribution == "isotropic" else shrinkage
        self._factors = {
            b: (_factors(heads, intensity), _factors(whole, intensity))
            for b, (heads, whole) in self.background.items() if b in self.reader.blocks
        }

    def measure(
        self, texts: Sequence[str], words: Sequence[Any], *, overflow: Overflow = "error", batch_tokens: int = 4096,
        captured: Sequence[LayerActivations] | None = None,
    ) -> list[EdgeInfluence]:
        """Of each text the influence of single edges."""
        model = self.reader.model
        found = []
        for activations, names, blocks in self.reader.effects(
            texts, words, self.reading, overflow=overflow, batch_tokens=batch_tokens, captured=captured
        ):
            heads, whole = [], []
            for effects in blocks:
                of_heads, of_block = self._factors[effects.block]
                heads.append(normal_lengths(whitened_lengths(effects.heads, of_heads), self.manifold))
                whole.append(normal_lengths(whitened_lengths(effects.whole()[None], of_block), self.manifold)[0])
            found.append(EdgeInfluence(
                heads=np.stack(heads), whole=np.stack(whole), words=names, blocks=self.reader.blocks,
                distribution=self.distribution, reading=self.reading,
                causal=activations.causal and self.reading == "once",
                source=activations.source.with_options(
                    distribution=self.distribution, reading=self.reading, manifold=self.manifold, model_kind=model.kind
                ),
            ))
        return found


def _factors(background: EffectsBackground, shrinkage: float | ShrinkageRule) -> FloatArray:
    return whitening_factors(
        [background.shrunk_covariance(layer, shrinkage=shrinkage)[0] for layer in background.layers]
    )


_kept: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def edge_background(
    model: LanguageModel, *, reading: Reading | None = None, sentences: int = 60
) -> dict[int, tuple[EffectsBackground, EffectsBackground]]:
    """Covariances of the effects of single edges in the text that ships with infogeo, of each block with attention.

    Parameters
    ----------
    model : LanguageModel
    reading : {"once", "twice"}, optional
    sentences : int
        How many sentences of 5 to 30 words are used, spread evenly over the text.

    Returns
    -------
    dict of int to (EffectsBackground, EffectsBackground)
        By block: of its heads (``layers`` are the heads, counted from 1), and of the whole block.
    """
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
    with progress_bar("edges of the background", unit="texts") as show:
        for start in range(0, len(texts), CHUNK):
            part = texts[start : start + CHUNK]
            for activations, _, blocks in reader.effects(
                part, [None] * len(part), way, overflow="truncate", batch_tokens=4096
            ):
                digest.update(activations.text.encode() + b"\x00")
                source = activations.source
                for effects in blocks:
                    n = effects.heads.shape[1]
                    counted = np.tri(n, k=-1, dtype=bool) if activations.causal and way == "once" else ~np.eye(n, dtype=bool)
                    moments[effects.block][0].add(effects.heads[:, counted])
                    moments[effects.block][1].add(effects.whole()[counted][None])
            show(min(start + CHUNK, len(texts)), len(texts))
    if source is None:
        raise ModelError("the background gave no effects")
    noted = replace(source, text_hash=digest.hexdigest()).with_options(background="packaged", sentences=len(texts))
    made = {
        b: (heads.background(removal="edge", source=noted), whole.background(removal="edge", source=noted))
        for b, (heads, whole) in moments.items()
    }
    kept[key] = made
    return made
