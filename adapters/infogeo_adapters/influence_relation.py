"""The influence graph as a relation between the words of a text, and when it is the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError, DomainError, InfogeoError
from infogeo.evidence import PRIOR_EXPONENT, relation_evidence, standardized_influence
from infogeo.graphs import distance_from_strength
from infogeo.influence import NORMALIZATIONS, DistanceProfile, symmetrized_influence
from infogeo.results import Source
from infogeo.words import DistanceMatrix
from infogeo_adapters._influence_choice import InfluenceChoice

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo_adapters.relations import Context, Relation
    from infogeo_adapters.transformers.influence_meter import InfluenceMeter
    from infogeo_adapters.transformers.loading import LanguageModel

INFLUENCE = "influence"
"""The name of the relation on the command line and in :func:`infogeo_adapters.analyze`."""
MEASURE = "influence_distance"
"""What the distances are called: small where words move each other more than is usual so far apart."""
MOST_WORDS = 100
"""Words of a text up to which the influence graph is the default: n words take n + 1 passes."""
MOST_PARAMETERS = 50_000_000
"""Parameters in the blocks of a model up to which it is the default: what is usual at each distance is measured on the
packaged text, in some three thousand passes over single sentences, once for a model in memory."""
EMBEDDING = (
    "in the embedding no word has seen another, so that none moves when another is taken away; influence begins at "
    "layer 1"
)


TAKEN = {
    "hide": "hidden", "mask": "masked", "delete": "deleted", "mean": "replaced by the mean embedding",
    "resample": "resampled",
}
"""What has happened to words that were taken away, by the name of the way."""


@dataclass(eq=False)
class WholeMeter:
    """Influence of words at every layer and of single edges in every block of a model, in one measurement."""

    model: LanguageModel
    choice: InfluenceChoice | None = None
    """None takes the usual one."""

    @cached_property
    def meters(self) -> tuple[InfluenceMeter, InfluenceMeter]:
        """Of all layers and blocks, and of those of the default graph alone; blocks where attention can be taken apart.

        Raises
        ------
        ModelError
            The model has no attention, or words cannot be hidden in it.
        """
        from infogeo_adapters.transformers.echo import find_reading
        from infogeo_adapters.transformers.head_outputs import attending_blocks
        from infogeo_adapters.transformers.influence_meter import default_layers, make_meter
        from infogeo_adapters.transformers.removal import find_removal
        from infogeo_adapters.transformers.stack import find_stack

        attending_blocks(self.model)
        choice = self.choice or InfluenceChoice()
        depth, reading = find_stack(self.model.model).depth, find_reading(self.model, None)
        way, kind = find_removal(choice.removal), choice.distribution
        usual = make_meter(self.model, default_layers(depth), None, way, reading, kind)
        blocks = attending_blocks(self.model) if usual.edges else ()
        return make_meter(self.model, range(1, depth + 1), blocks, way, reading, kind), usual

    def measure(self, activations: LayerActivations) -> TextInfluence:
        """Of one text, whose words are those of the activations.

        Where what is usual cannot be said of some layer or block, as of a block that looks no further than a few words,
        those of the default graph are measured alone.
        """
        whole, usual = self.meters
        try:
            return self._measure(whole, activations)
        except DomainError:
            return self._measure(usual, activations)

    def _measure(self, meter: InfluenceMeter, activations: LayerActivations) -> TextInfluence:
        choice = self.choice or InfluenceChoice()
        profile = meter.profile() if choice.normalization == "distance" else None
        again = meter.reading == "twice" or activations.attention is None
        spans = [(int(a), int(b)) for a, b in activations.word_spans]
        ((values, words, source),) = meter.measure(
            [activations.text], [spans], captured=None if again else [activations]
        )
        if words != activations.words:
            raise ArgumentError("influence was measured between other words than those of the activations")
        return TextInfluence(
            values=values, words=words, layers=meter.layers, blocks=tuple(block for block, _ in meter.edges),
            profile=profile, choice=choice, source=source.with_options(reading=meter.reading),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class TextInfluence:
    """What was measured between the words of one text: at each layer, and by the edges of each block."""

    values: FloatArray
    """(R, n, n) of the layers, then of the blocks."""
    words: tuple[str, ...]
    layers: tuple[int, ...]
    blocks: tuple[int, ...]
    profile: DistanceProfile | None
    """Of the same R measurements; None where they are not compared with what is usual."""
    choice: InfluenceChoice
    source: Source

    @cached_property
    def compared(self) -> FloatArray:
        """(R, n, n) symmetric: how much more than usual so far apart, or the influence normalized in another way."""
        if self.profile is not None:
            return standardized_influence(self.values, self.profile)
        return symmetrized_influence(NORMALIZATIONS[self.choice.normalization](self.values), "log-sum")

    def weights(self, rows: Sequence[int]) -> FloatArray:
        """(n, n) weights of the graph of some measurements, as :func:`infogeo_adapters.influence_affinity` has them.

        Raises
        ------
        DomainError
            Two words do not move each other at all, so that there is no length between them.
        """
        apart = ~np.eye(len(self.words), dtype=np.bool_)
        if self.profile is not None:
            made = np.exp(relation_evidence(self.compared[list(rows)]) / 2)
        else:
            with np.errstate(divide="ignore"):
                made = np.exp(np.log(self.compared[list(rows)]).mean(axis=0))
        none = np.argwhere((made <= 0) & apart)
        if len(none):
            i, j = (int(k) for k in none[0])
            said = ", ".join(f"{name} {chosen!r}" for name, chosen in self.choice.said().items())
            raise DomainError(
                f"influence between {self.words[i]!r} (word {i + 1}) and {self.words[j]!r} (word {j + 1}) is zero by "
                f"{said}, so that no length can be given; influence_graph leaves such pairs apart, and normalization "
                "'distance' knows none"
            )
        return np.asarray(made)

    def distances(self, layer: int, layers: Sequence[int], blocks: Sequence[int]) -> DistanceMatrix:
        """Lengths of the evidence of some layers and blocks together, named after one layer."""
        missing = [one for one in layers if one not in self.layers]
        if missing:
            raise ArgumentError(
                f"influence is measured at layers {', '.join(map(str, self.layers))} only, since elsewhere in "
                f"{self.source.model} it is zero, or always the same, between words of some distance"
            )
        rows = [self.layers.index(one) for one in layers]
        rows += [len(self.layers) + self.blocks.index(one) for one in blocks]
        n = len(self.words)
        apart = ~np.eye(n, dtype=np.bool_)
        weights = self.weights(rows)
        lengths = np.zeros((n, n))
        lengths[apart] = distance_from_strength(weights[apart])
        return DistanceMatrix(
            values=lengths, words=self.words, measure=MEASURE, symmetric=True, metric=False, layer=layer,
            construction=construction(layers, blocks, self.choice),
            source=self.source.with_options(
                relation=INFLUENCE, influence_layers=",".join(map(str, layers)),
                influence_blocks=",".join(map(str, blocks)), normalization=self.choice.normalization,
                **({} if self.profile is None else {"prior_exponent": PRIOR_EXPONENT}),
            ),
        )


def construction(layers: Sequence[int], blocks: Sequence[int], choice: InfluenceChoice | None = None) -> str:
    """What was measured, in words.

    Examples
    --------
    >>> construction([4, 5], [3, 4, 5, 6])
    'words hidden, at layers 4 and 5; edges cut in blocks 3 to 6'
    >>> construction([4], [], InfluenceChoice(removal="delete", distribution="states", normalization="rows"))
    'words deleted, at layer 4, by states; normalized by rows'
    """
    unusual = {} if choice is None else choice.said()
    way = unusual.get("removal", "hide")
    said = f"words {TAKEN.get(way, f'taken away by {way}')}, at {_listed('layer', layers)}"
    if "distribution" in unusual:
        said += f", by {unusual['distribution']}"
    if blocks:
        said += f"; edges cut in {_listed('block', blocks)}"
    return f"{said}; normalized by {unusual['normalization']}" if "normalization" in unusual else said


def influence_weight(distance: FloatArray) -> FloatArray:
    r"""The weight :math:`w = 1 / (e^d - 1)` that has the length :math:`d = \log((1 + w) / w)` in an influence graph.

    Parameters
    ----------
    distance : array, shape (...,)
        Positive lengths.

    Returns
    -------
    array, shape (...,)

    Examples
    --------
    >>> influence_weight(np.log([2.0, 3.0])).round(6).tolist()
    [1.0, 0.5]
    """
    return np.asarray(1.0 / np.expm1(distance))


def _listed(name: str, numbers: Sequence[int]) -> str:
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{name}s {numbers[0]} to {numbers[-1]}"
    *first, last = map(str, numbers)
    return f"{name}s {', '.join(first)} and {last}" if first else f"{name} {last}"


@dataclass(frozen=True)
class InfluenceRelation:
    r"""Words are close if they move each other more than is usual so far apart: the relation of the influence graph.

    The distance is the length :math:`\log((1 + w) / w)` (:func:`infogeo.distance_from_strength`) of the weight
    :math:`w_{ij} = e^{e_{ij} / 2}` that :func:`infogeo_adapters.influence_affinity` gives: symmetric, not a metric.
    It is positive, in nats, and has no upper bound: :math:`\log 2 = 0.69` where the evidence is zero, shorter where it
    speaks for a relation, longer where it speaks against one. The choices of ``material.influence``
    (:class:`InfluenceChoice`) hold here too.

    At ``layer`` it reads words taken away there, and also one layer further if ``layer`` is the default one,
    :func:`default_influence_layer`, together with single edges cut in the blocks of the upper two thirds. At any other
    layer it reads that layer alone, with the edges of the block that leads to it.

    Parameters
    ----------
    layer : int
        From 1 on.
    fallback : Relation, optional
        Takes its place where influence cannot be measured; without one that is an error.
    """

    layer: int
    fallback: Relation | None = None

    def __call__(self, context: Context, layer: int, /) -> DistanceMatrix:
        """Lengths of the influence between the words."""
        from infogeo_adapters.transformers.influence_meter import default_edges, default_layers

        if layer < 1:
            raise ArgumentError(EMBEDDING)
        words = context.activations.words
        if len(words) < 2:
            return DistanceMatrix(
                values=np.zeros((len(words), len(words))), words=words, measure=MEASURE, symmetric=True, metric=False,
                layer=layer, construction="one word", source=context.activations.source,
            )
        found, depth = context.influence, context.activations.n_layers
        if isinstance(found, InfogeoError):
            if self.fallback is None:
                raise found
            return self.fallback(context, layer)
        if layer != self.layer:
            return found.distances(layer, (layer,), tuple(b for b in found.blocks if b == layer))
        usual = default_layers(depth)
        layers = usual if layer == usual[0] else (layer,)
        return found.distances(layer, layers, default_edges(found.blocks, depth))

    def notes(self, context: Context) -> tuple[str, ...]:
        """What a reader must know: that single edges could not be cut, or that there is another relation."""
        if len(context.activations.words) < 2:
            return ()
        found = context.influence
        if isinstance(found, InfogeoError):
            return (default_note(str(found)),)
        reason = context.material.influence_meter.meters[1].left_out
        if reason is None:
            return ()
        return (f"Influence is that of words taken away only, since single edges could not be cut: {reason}",)


def default_influence_layer(n_layers: int) -> int:
    """The layer of the influence graph when none is named: the first after two thirds of the blocks.

    Examples
    --------
    >>> default_influence_layer(6), default_influence_layer(1)
    (4, 1)
    """
    from infogeo_adapters.transformers.influence_meter import default_layers

    return default_layers(n_layers)[0]


def why_no_influence(
    model: LanguageModel, text: str, *, layer: int | None = None, words: Any = None,
    most_words: int = MOST_WORDS, most_parameters: int = MOST_PARAMETERS,
) -> str | None:
    """Why the influence graph of a text is not the default; None if it is.

    Nothing is measured but whether words can be hidden, once for a model.

    Parameters
    ----------
    model : LanguageModel
    text : str
        As it will be read.
    layer : int, optional
        The layer asked for.
    words : optional
        How the text falls into words, as in :func:`capture_activations`.
    most_words, most_parameters : int
        Bounds beyond which it would take more than seconds; ``construction="influence"`` knows none.

    Returns
    -------
    str or None
        A reason that follows the words "since" or "because".
    """
    from infogeo_adapters.transformers._removal_hiding import find_hideout
    from infogeo_adapters.transformers.echo import find_reading, prepare_reading
    from infogeo_adapters.transformers.head_outputs import attending_blocks
    from infogeo_adapters.transformers.stack import find_stack

    try:
        stack = find_stack(model.model)
        if layer in (0, -stack.depth - 1):
            return EMBEDDING
        attending_blocks(model)
        find_hideout(model.model, stack)
        n = len(prepare_reading(model, text, words, "error", find_reading(model, None)).spans)
    except InfogeoError as error:
        return str(error)
    if n < 2:
        return "the text has one word"
    if n > most_words:
        return f"the text has {n} words, and each takes a pass of its own (up to {most_words} are measured by default)"
    found = _block_parameters(model)
    if found > most_parameters:
        return (
            f"the blocks of {model.name} have {found / 1e6:.0f} million parameters, so that it would take minutes (up "
            f"to {most_parameters / 1e6:.0f} million are measured by default)"
        )
    return None


def _block_parameters(model: LanguageModel) -> int:
    from infogeo_adapters.transformers.stack import find_stack, runner

    stack = find_stack(model.model)
    return sum(p.numel() for p in runner(model.model).get_submodule(stack.path).parameters())


def default_note(reason: str) -> str:
    """The sentence that says why the graph shown is not the influence graph."""
    return (
        f"This is not the influence graph, since {reason}. The distances are those between the words' distributions "
        "(construction='shared-covariance')."
    )
