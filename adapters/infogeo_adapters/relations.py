"""How word distances, word graphs and attention baselines are chosen: by name, or by a function of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from infogeo.activations import AffinityMatrix, LayerActivations
from infogeo.errors import ArgumentError, InfogeoError, TextError
from infogeo.estimation import (
    Background,
    component_normals,
    occurrence_normals,
    point_masses,
    readout_categoricals,
    shared_covariance_normals,
)
from infogeo.families import SharedCovarianceGaussian
from infogeo.graphs import WordGraph, minimum_spanning_tree, nearest_neighbor_graph, radius_graph, top_edges
from infogeo.measures import MEASURES, Measure
from infogeo.pairwise import pairwise
from infogeo.words import DistanceMatrix, WordDistributions
from infogeo_adapters._influence_choice import InfluenceChoice
from infogeo_adapters.influence_relation import (
    INFLUENCE,
    MEASURE,
    InfluenceRelation,
    TextInfluence,
    WholeMeter,
    influence_weight,
)
from infogeo_adapters.progress import progress_bar

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel


@dataclass(frozen=True, eq=False, kw_only=True)
class Material:
    """What constructions draw on besides the text: computed when first asked for, and once for many texts."""

    model: LanguageModel
    background_text: str | None = None
    """Text to estimate the shared covariance from; None takes the sample that ships with infogeo."""
    corpus_text: str | None = None
    """Text in which the occurrences of a word are counted."""
    influence: InfluenceChoice | None = None
    """What is measured of influence; None takes the usual, and leaves open whether influence is measured."""

    @cached_property
    def background(self) -> Background:
        """Mean and covariance of word vectors by layer, from the background text."""
        from infogeo_adapters.transformers.capture import capture_background

        return capture_background(self.model, self.background_text)

    @cached_property
    def corpus(self) -> list[LayerActivations]:
        """Activations of the corpus, window by window."""
        from infogeo_adapters.transformers.capture import capture_activations, split_into_windows

        if self.corpus_text is None:
            raise ArgumentError(
                "occurrence normals are made from the occurrences of each word in a corpus, and none was given; "
                "give a text as corpus="
            )
        windows = split_into_windows(self.model, self.corpus_text)
        return capture_activations(self.model, windows, attention=False)

    @cached_property
    def influence_meter(self) -> WholeMeter:
        """What measures influence on the model: covariances of the effects of words and edges of the packaged text."""
        return WholeMeter(self.model, self.influence)

    @property
    def measured(self) -> bool:
        """Whether what is usual of influence has been asked for already."""
        return "influence_meter" in self.__dict__


@dataclass(frozen=True, eq=False, kw_only=True)
class Context:
    """What a construction or a relation is given: the activations of a text, and the material."""

    material: Material
    activations: LayerActivations

    @property
    def model(self) -> LanguageModel:
        """The model that read the text."""
        return self.material.model

    @cached_property
    def influence(self) -> TextInfluence | InfogeoError:
        """Influence between the words, of all layers and blocks from one measurement; or why there is none."""
        try:
            return self.material.influence_meter.measure(self.activations)
        except InfogeoError as error:
            return error


Construction = Callable[[Context, int], WordDistributions]
"""Makes the distributions of a text's words at a layer."""
AttentionBaseline = Callable[[LayerActivations, int], AffinityMatrix]
"""Makes the attention affinity that stands beside the distances at a layer."""


class Relation(Protocol):
    """How far apart the words of a text are: the seam where another word graph takes the place of the default.

    Anything that can be called so fits :func:`analyze`: a relation may ask the model anew, as
    :class:`~infogeo_adapters.influence_relation.InfluenceRelation` does.
    """

    def __call__(self, context: Context, layer: int, /) -> DistanceMatrix:
        """Distances between the words of ``context.activations`` at a layer."""


@dataclass(frozen=True)
class DistributionRelation:
    """Words become distributions, and a measure tells how far these are apart."""

    construction: Construction
    measure: Measure

    def distributions(self, context: Context, layer: int) -> WordDistributions:
        """The words as distributions."""
        return self.construction(context, layer)

    def __call__(self, context: Context, layer: int, /) -> DistanceMatrix:
        """Distances between the distributions."""
        with progress_bar(f"{self.measure.name}, layer {layer}") as show:
            return pairwise(self.measure, self.distributions(context, layer), progress=show)


FEWEST_OCCURRENCES = 2
"""Occurrences, in corpus and text together, without which a word has no distribution."""
TRUSTED_OCCURRENCES = 5
"""Below so many occurrences a note says that the variance of a word is mostly the pooled one."""


def relation_notes(relation: Relation, context: Context, layer: int) -> tuple[str, ...]:
    """What a reader must know about how the distances of a relation were made; to be asked after them."""
    if isinstance(relation, InfluenceRelation):
        return relation.notes(context)
    if isinstance(relation, DistributionRelation) and relation.construction in (_shared_covariance, _occurrences):
        return distribution_notes(relation.distributions(context, layer))
    return ()


def distribution_notes(distributions: WordDistributions | None) -> tuple[str, ...]:
    """What a reader must know about the estimates: rarely seen words, a background with few words."""
    if distributions is None:
        return ()
    if distributions.construction == "occurrence_normals":
        counts = {w: int(n) for w, n in zip(distributions.words, distributions.observations, strict=True)}
        rare = [f"{w!r} ({n})" for w, n in counts.items() if n < TRUSTED_OCCURRENCES]
        if rare:
            note = (
                f"{len(rare)} of {len(counts)} different words occur fewer than {TRUSTED_OCCURRENCES} times in corpus "
                f"and text together: {', '.join(rare[:5])}{', ...' if len(rare) > 5 else ''}. Mean and variance of "
                "these rest on little; a larger corpus would help."
            )
            return (note,)
    if isinstance(distributions.distribution, SharedCovarianceGaussian):
        seen, dimension = distributions.details.get("background_words"), distributions.distribution.mean.shape[-1]
        if isinstance(seen, int) and seen < dimension:
            shrinkage = f"{float(str(distributions.details.get('shrinkage'))):.3g}"
            words = "word" if seen == 1 else "words"
            note = (
                f"The background has {seen} {words}, fewer than the {dimension} dimensions "
                f"of a word vector, so the shared covariance rests mostly on shrinkage (intensity {shrinkage}); "
                "a longer background would help."
            )
            return (note,)
    return ()


def _vectors(context: Context, layer: int) -> WordDistributions:
    return point_masses(context.activations, layer)


def _components(context: Context, layer: int) -> WordDistributions:
    return component_normals(context.activations, layer)


def _shared_covariance(context: Context, layer: int) -> WordDistributions:
    return shared_covariance_normals(context.activations, layer, context.material.background)


def _readout(context: Context, layer: int) -> WordDistributions:
    from infogeo_adapters.transformers.readout import read_out

    return readout_categoricals(context.activations, layer, read_out(context.model, context.activations, layer))


def _occurrences(context: Context, layer: int) -> WordDistributions:
    """The distribution of each word's type, so that a repeated word stands at distance zero from itself.

    The occurrences in the text count along with those in the corpus.
    """
    types = occurrence_normals(
        [*context.material.corpus, context.activations], layer, rare="drop", min_count=FEWEST_OCCURRENCES
    )
    index = {word: i for i, word in enumerate(types.words)}
    words = context.activations.words
    lost = sorted({w for w in words if w not in index})
    if lost:
        shown = ", ".join(repr(w) for w in lost[:5])
        raise TextError(
            f"{len(lost)} {'word occurs' if len(lost) == 1 else 'words occur'} too rarely to have a distribution: "
            f"{shown}"
            f"{', ...' if len(lost) > 5 else ''}; each needs at least {FEWEST_OCCURRENCES} occurrences in corpus and "
            "text together, so give a larger corpus or one that contains them"
        )
    places = np.asarray([index[w] for w in words], dtype=np.int64)
    return WordDistributions(
        words=words, distribution=types.distribution[places], observations=types.observations[places],
        level="occurrence", layer=types.layer, construction=types.construction, details=types.details,
        source=types.source,
    )


CONSTRUCTIONS: Mapping[str, Construction] = MappingProxyType({
    "shared-covariance": _shared_covariance, "components": _components, "readout": _readout,
    "occurrences": _occurrences, "vectors": _vectors,
})
"""Constructions by the names the command line uses: four kinds of distributions, and the bare vectors for cosine and
Euclidean distance."""

GRAPHS = ("neighbors", "mutual", "tree", "radius")
"""How edges are chosen, by the names the command line uses."""
NEIGHBOR_GRAPHS = ("neighbors", "mutual")
"""Those of them for which the number of neighbors means something."""


def average_attention(activations: LayerActivations, layer: int) -> AffinityMatrix:
    """Head average of the block that leads to the layer (for layer 0, of the first block that has attention)."""
    from infogeo_adapters.transformers.attention import head_average

    return head_average(activations, attention_block(activations, layer))


def attention_block(activations: LayerActivations, layer: int) -> int:
    """The last block with attention up to the layer, the first one for layers before it."""
    blocks = activations.attention_layers
    return max((b for b in blocks if b <= layer), default=blocks[0])


def find_attention(name: str) -> AttentionBaseline:
    """The attention baseline of a name: ``average``, ``rollout``, ``flow``, or ``head:B.H`` for head H of block B.

    Raises
    ------
    ArgumentError
        If there is none of that name.
    """
    from infogeo_adapters.transformers.attention import attention_flow, attention_rollout, single_head

    kind, _, number = name.partition(":")
    if name == "average":
        return average_attention
    if name == "rollout":
        return lambda activations, _: attention_rollout(activations)
    if name == "flow":
        return lambda activations, _: attention_flow(activations)
    block, dot, head = number.partition(".")
    if kind == "head" and dot and block.isdecimal() and head.isdecimal():
        return lambda activations, _: single_head(activations, int(block), int(head))
    raise ArgumentError(
        f"attention {name!r} does not exist; choose average, rollout, flow, or head:B.H for head H of block B, both "
        "counted from 1, as in head:3.2"
    )


def all_heads(activations: LayerActivations) -> list[AffinityMatrix]:
    """Every head of every block, block by block."""
    from infogeo_adapters.transformers.attention import single_head

    return [
        single_head(activations, block, head + 1)
        for block in activations.attention_layers for head in range(activations.n_heads)
    ]


def find_construction(construction: str | Construction) -> Construction:
    """The construction of a name, or the function itself.

    Raises
    ------
    ArgumentError
        If there is none of that name.
    """
    if not isinstance(construction, str):
        return construction
    if construction not in CONSTRUCTIONS:
        raise ArgumentError(
            f"construction {construction!r} does not exist; choose {', '.join((INFLUENCE, *CONSTRUCTIONS))}"
        )
    return CONSTRUCTIONS[construction]


def find_measure(measure: str | Measure | None, construction: str | Construction = "") -> Measure:
    """The measure of a name, or the measure itself; None is the Fisher-Rao distance, for vectors the Euclidean one.

    Raises
    ------
    ArgumentError
        If there is none of that name.
    """
    if measure is None:
        measure = "euclidean_distance" if construction in ("vectors", _vectors) else "fisher_rao_distance"
    if not isinstance(measure, str):
        return measure
    if measure not in MEASURES:
        raise ArgumentError(f"measure {measure!r} does not exist; choose {', '.join(MEASURES)}")
    return MEASURES[measure]


def find_relation(construction: str | Construction, measure: str | Measure | None, layer: int) -> Relation:
    """The relation of a construction and a measure; ``influence`` has a measure of its own.

    Raises
    ------
    ArgumentError
        If there is no such construction or measure, or a measure is given for influence.
    """
    if construction != INFLUENCE:
        return DistributionRelation(find_construction(construction), find_measure(measure, construction))
    if measure is not None:
        name = measure if isinstance(measure, str) else measure.name
        raise ArgumentError(
            f"measure: found {name!r}, which compares distributions, and influence makes none to compare: its "
            "length is log((1 + w) / w) of how strongly two words move each other; leave the measure out, or choose "
            "another construction, such as 'shared-covariance'"
        )
    return InfluenceRelation(layer)


@dataclass(frozen=True, kw_only=True)
class EdgeRule:
    """How edges are chosen from the distances, and the like from the attention beside them."""

    kind: str = "neighbors"
    """One of GRAPHS."""
    neighbors: int = 3
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in GRAPHS:
            raise ArgumentError(f"graph {self.kind!r} does not exist; choose {', '.join(GRAPHS)}")
        if self.neighbors < 1:
            raise ArgumentError(f"neighbors: found {self.neighbors}, wanted at least 1")
        if (self.kind == "radius") != (self.radius is not None):
            raise ArgumentError(
                "graph 'radius' needs radius=, in the unit of the measure" if self.radius is None
                else f"radius: found {self.radius}, which means something only for graph 'radius', not {self.kind!r}"
            )
        if self.radius is not None and not self.radius >= 0:
            raise ArgumentError(f"radius: found {self.radius}, wanted a length of at least 0")

    def used_neighbors(self, n_words: int) -> int:
        """How many neighbors a word of so many is joined to: as asked, or all others where there are fewer."""
        return min(self.neighbors, max(n_words - 1, 1))

    def note(self, n_words: int) -> str | None:
        """A sentence that says that there are fewer words than neighbors asked for, None if there are not."""
        used = self.used_neighbors(n_words)
        if self.kind not in NEIGHBOR_GRAPHS or used == self.neighbors or n_words < 2:
            return None
        return (
            f"{self.neighbors} neighbors of each word were asked for, and the text has {n_words} words: each word is "
            + ("joined to the other one." if used == 1 else f"joined to all {used} others.")
        )

    def of_distances(self, distances: DistanceMatrix) -> WordGraph:
        """The word graph of the distances, both directions averaged.

        Weights are 1 / (1 + d) as of every distance, but in an influence graph those that the lengths were made from,
        as :func:`infogeo_adapters.influence_graph` has them.
        """
        made = self._build(distances.symmetrized())
        if distances.measure != MEASURE:
            return made
        named = "maximum_spanning_tree" if self.kind == "tree" else made.construction  # of the weights
        return dataclasses.replace(made, weight=influence_weight(made.distance), construction=named)

    def of_attention(self, attention: AffinityMatrix, n_edges: int) -> WordGraph:
        """The attention graph by the same rule; for a radius, which has none, the ``n_edges`` strongest pairs."""
        symmetric = attention.symmetrized()
        if self.kind != "radius":
            return self._build(symmetric)
        related = int(np.count_nonzero(np.triu(symmetric.values, 1)))
        return top_edges(symmetric, min(n_edges, related))

    def _build(self, matrix: DistanceMatrix | AffinityMatrix) -> WordGraph:
        if self.kind == "tree":
            return minimum_spanning_tree(matrix)
        if self.radius is not None and isinstance(matrix, DistanceMatrix):
            return radius_graph(matrix, self.radius)
        used = self.used_neighbors(len(matrix.words))
        made = nearest_neighbor_graph(matrix, used, mutual=self.kind == "mutual")
        return dataclasses.replace(
            made, source=made.source.with_options(neighbors_asked=self.neighbors, neighbors_used=used)
        )
