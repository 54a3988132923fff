"""Families of word graphs from attention: heads, their averages, rollout, flow, and weights times the values' norms.

Attention is pooled to words as everywhere in infogeo (mean over the tokens of the word that looks, sum over those of
the word looked at, Clark et al. 2019), and a pair of words is as close as the mean of both directions. In a causal
model one of the two is zero. There the first token draws much of the attention whatever the text (a sink): where it is
a special token its column is left out with those of all special tokens, and where it is part of the first word it is
left out too. Of a first word of one token nothing is left then, and a spanning tree joins it to the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, check_count, check_flag, check_number
from infogeo.errors import ArgumentError, ConvergenceError, ModelError
from infogeo_adapters.transformers.alignment import encode
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.attention import FLOW_SECONDS_PER_EDGE, attention_flow, attention_rollout
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._greedy import choose_members

if TYPE_CHECKING:
    from infogeo.activations import AffinityMatrix, LayerActivations
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

RAW, RELATIVE = "raw", "relative to uniform attention"
"""Variants of what is followed through the blocks."""


@dataclass(eq=False)
class AttentionHeads:
    r"""Every attention head by itself: closeness :math:`(a_{ij} + a_{ji}) / 2` with the attention between words.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    normalize : bool
        Whether each row is divided by its sum over the other words first, so that how much a word gives to itself and
        to special tokens does not count: :math:`a_{ij} / \sum_{k \ne i} a_{ik}`. A row without weight stays zero.

    Raises
    ------
    ModelError
        The model has no attention.
    """

    model: LanguageModel
    normalize: bool = False
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        check_flag("normalize", self.normalize)
        self.variants = tuple(f"block {b}, head {h + 1}" for b, heads in _heads(self.model) for h in range(heads))
        """Heads, block by block, both counted from 1."""

    @property
    def name(self) -> str:
        """``attention head``, with a word on normalization."""
        return "attention head" + ", normalized" * self.normalize

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (blocks x heads, n, n)."""
        found = []
        for reading in readings:
            maps = _word_maps(reading.activations, self.normalize)
            found.append(_symmetric(maps.reshape(-1, *maps.shape[2:])))
        return found


@dataclass(eq=False)
class AttentionAverages:
    """Mean attention of all heads of a block, for each block, and of all heads of all blocks.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    normalize : bool
        As in :class:`AttentionHeads`, head by head before the mean.

    Raises
    ------
    ModelError
        The model has no attention.
    """

    model: LanguageModel
    normalize: bool = False
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        check_flag("normalize", self.normalize)
        self.variants = (*(f"block {b}" for b, _ in _heads(self.model)), "all blocks")
        """Blocks, counted from 1, and all of them together."""

    @property
    def name(self) -> str:
        """``attention, head average``, with a word on normalization."""
        return "attention, head average" + ", normalized" * self.normalize

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (blocks + 1, n, n)."""
        found = []
        for reading in readings:
            means = _word_maps(reading.activations, self.normalize).mean(axis=1)
            found.append(_symmetric(np.concatenate([means, means.mean(axis=0, keepdims=True)])))
        return found


@dataclass(eq=False)
class AttentionRollout:
    """Attention followed through all blocks (:func:`infogeo_adapters.attention_rollout`).

    Of a causal model, where rollout as it is says little but which words come first, there are two variants: relative
    to uniform attention, and raw.

    Parameters
    ----------
    model : LanguageModel
        With attention in every block.
    residual : float
        Weight of the residual path, at least 0 and below 1.

    Raises
    ------
    ModelError
        The model has no attention, or not in every block.
    ArgumentError
        ``residual`` is out of range.

    Attributes
    ----------
    unscaled : int
        Sentences so far for which uniform attention could not be scaled to the totals of each word exactly, and the
        best fit found was used.
    """

    model: LanguageModel
    residual: float = 0.5
    name: str = field(default="attention rollout", init=False)
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        _check_path(self.model, self.residual)
        self.unscaled = 0
        self.variants = _path_variants(self.model)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (2 or 1, n, n)."""
        found, missed = _followed(readings, self.variants, partial(attention_rollout, residual=self.residual))
        self.unscaled += missed
        return found


@dataclass(eq=False)
class AttentionFlow:
    """Maximum flow through the attention of all blocks (:func:`infogeo_adapters.attention_flow`), a slow family.

    A flow problem is solved for every pair of tokens, so that a treebank takes minutes to hours. How long is estimated
    from the lengths of the texts before the first is run, and the family is refused where that is too long: one that
    cannot do all sentences would be compared on other sentences than the rest. Variants and ``unscaled`` are those of
    :class:`AttentionRollout`.

    Parameters
    ----------
    model : LanguageModel
        With attention in every block.
    max_seconds : float
        Longest time that all texts together may take, by the estimate.
    residual : float
        Weight of the residual path, at least 0 and below 1.

    Raises
    ------
    ModelError
        The model has no attention, or not in every block.
    ArgumentError
        ``residual`` or ``max_seconds`` is out of range; in :meth:`prepare`, if the texts would take too long.
    """

    model: LanguageModel
    max_seconds: float = 600.0
    residual: float = 0.5
    name: str = field(default="attention flow", init=False)
    kind: FamilyKind = field(default="attention", init=False)

    def __post_init__(self) -> None:
        _check_path(self.model, self.residual)
        self.unscaled = 0
        self.variants = _path_variants(self.model)
        if not check_number("max_seconds", self.max_seconds) > 0:
            raise ArgumentError(f"max_seconds: found {self.max_seconds:g}, wanted more than 0")

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the time, and refuse if it is too long."""
        stack = find_stack(model.model)
        lengths = np.array([len(encode(model.tokenizer, text).ids) for text in texts], dtype=np.float64)
        edges = stack.depth * lengths**2  # of a causal model half as many, and two flows: as given, and uniform
        seconds = float((lengths**2 * edges).sum() * FLOW_SECONDS_PER_EDGE)
        if seconds > self.max_seconds:
            raise ArgumentError(
                f"attention flow of {len(texts)} texts of up to {int(lengths.max())} tokens through {stack.depth} "
                f"blocks would take about {seconds:.0f} s, more than max_seconds={self.max_seconds:g}; leave it out, "
                "take fewer or shorter sentences, or a larger max_seconds"
            )

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (2 or 1, n, n)."""
        follow = partial(attention_flow, residual=self.residual, max_seconds=np.inf)
        found, missed = _followed(readings, self.variants, follow)
        self.unscaled += missed
        return found


@dataclass(eq=False)
class HeadEnsembles:
    """Means of a few heads, which are chosen with labels: one after the other, whichever helps most.

    The heads are added as Limisiewicz, Mareček and Rosa 2020 add them ("Universal dependencies according to BERT: both
    more specific and more general", section 4.3), but for the undirected tree as a whole instead of for each relation
    and direction: first the head whose spanning trees share most relations with the gold trees, then the one whose mean
    with those chosen shares most, until none helps or there are enough. Punctuation is left out.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    most : int
        Most heads in an ensemble.
    normalize : bool
        As in :class:`AttentionHeads`.

    Raises
    ------
    ModelError
        The model has no attention.
    ArgumentError
        ``most`` is no positive whole number; in :meth:`fit`, if there is no tree with a relation.
    """

    model: LanguageModel
    most: int = 4
    normalize: bool = False
    name: str = field(default="attention, head ensemble", init=False)
    kind: FamilyKind = field(default="supervised", init=False)

    def __post_init__(self) -> None:
        check_count("most", self.most, 1)
        self._heads = AttentionHeads(self.model, normalize=self.normalize)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Nothing is needed."""

    def features(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[NDArray[np.float32]]:
        """For each sentence the closeness by every head (blocks x heads, n, n)."""
        return [maps.astype(np.float32) for maps in self._heads.closeness(model, readings)]

    def fit(self, features: Sequence[NDArray[Any]], trees: Sequence[DependencyTree]) -> HeadEnsemble:
        """Choose heads on sentences with gold trees."""
        found = choose_members(features, trees, most=self.most)
        return HeadEnsemble(
            heads=found.members, names=tuple(self._heads.variants[h] for h in found.members), scores=found.scores
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadEnsemble:
    """Heads that were chosen together, in the order in which they were."""

    heads: tuple[int, ...]
    """Places among all heads, block by block."""
    names: tuple[str, ...]
    scores: tuple[float, ...]
    """Share of gold relations (UUAS without punctuation) after each head was added, where they were chosen."""

    @property
    def label(self) -> str:
        """The heads, in short."""
        return "; ".join(self.names)

    def closeness(self, features: Sequence[NDArray[Any]]) -> list[FloatArray]:
        """For each sentence (1, n, n), the mean of the chosen heads."""
        return [maps[list(self.heads)].astype(np.float64).mean(axis=0, keepdims=True) for maps in features]


def _heads(model: LanguageModel) -> list[tuple[int, int]]:
    """Blocks that attend to their own tokens, counted from 1, with the number of their heads."""
    check_model(model)
    kinds = attention_access(model.model, find_stack(model.model)).kinds
    found = [(kind.block, kind.query_heads) for kind in kinds if kind.kind == "self"]
    if not found:
        raise ModelError(f"{model.name} has no attention between the tokens of a text; leave attention out")
    return found


def _check_path(model: LanguageModel, residual: float) -> None:
    """Raise unless attention can be followed through every block."""
    blocks = [block for block, _ in _heads(model)]
    depth = find_stack(model.model).depth
    if len(blocks) < depth:
        raise ModelError(
            f"{model.name} has attention in the blocks {blocks} of {depth}, and it can be followed only through every "
            "block; leave rollout and flow out"
        )
    if not 0 <= check_number("residual", residual) < 1:
        raise ArgumentError(f"residual: found {residual}, wanted a weight of at least 0 and below 1")


def _followed(
    readings: Sequence[SentenceReading], variants: Sequence[str], follow: Callable[..., AffinityMatrix]
) -> tuple[list[FloatArray], int]:
    """Each sentence in each variant (K, n, n), and how often uniform attention could not be scaled exactly."""
    found, missed = [], 0
    for reading in readings:
        maps = []
        for variant in variants:
            try:
                maps.append(follow(reading.activations, relative_to_uniform=variant == RELATIVE).values)
            except ConvergenceError as error:
                missed += 1
                maps.append(np.asarray(error.result, dtype=np.float64))
        found.append(_symmetric(np.stack(maps)))
    return found, missed


def _path_variants(model: LanguageModel) -> tuple[str, ...]:
    return (RELATIVE, RAW) if find_stack(model.model).causal else (RAW,)


def without_sink(activations: LayerActivations, maps: FloatArray) -> FloatArray:
    """The maps (..., T, T), in a causal model with nothing for the first token where it is part of a word."""
    if not activations.causal or activations.token_words[0] < 0:
        return maps
    kept = maps.copy()
    kept[..., 0] = 0.0
    return kept


def pooled(activations: LayerActivations, maps: FloatArray) -> FloatArray:
    """Word maps (..., n, n) of token maps (..., T, T): mean over rows, sum over columns."""
    rows = activations.pooling_matrix("mean")
    columns = (rows > 0).astype(np.float64)
    return np.asarray(rows @ without_sink(activations, maps) @ columns.T)


def _word_maps(activations: LayerActivations, normalize: bool) -> FloatArray:
    """Attention (A, H, n, n) between words."""
    if activations.attention is None:
        raise ArgumentError("attention was not captured; capture the sentences with attention=True")
    maps = pooled(activations, activations.attention.astype(np.float64))
    if normalize:
        n = maps.shape[-1]
        maps[..., np.arange(n), np.arange(n)] = 0.0
        sums = maps.sum(axis=-1, keepdims=True)
        np.divide(maps, sums, out=maps, where=sums > 0)
    return maps


def _symmetric(maps: FloatArray) -> FloatArray:
    """Mean of both directions of (K, n, n)."""
    return np.asarray((maps + np.swapaxes(maps, 1, 2)) / 2)
