"""The whole path on one text: activations, distributions, distances, graph, attention, comparison, lens."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.activations import AffinityMatrix, LayerActivations
from infogeo.coefficients import Comparisons
from infogeo.comparison import compare_graphs
from infogeo.entropy_profile import EntropyProfile
from infogeo.errors import InfogeoError, ModelError
from infogeo.estimation import component_normals
from infogeo.graphs import WordGraph
from infogeo.layer_agreement import Agreement, compare_layers
from infogeo.measures import Measure
from infogeo.results import Result, Source, to_plain
from infogeo.words import DistanceMatrix, WordDistributions
from infogeo_adapters._influence_choice import influence_choice
from infogeo_adapters.influence_relation import MEASURE, InfluenceRelation
from infogeo_adapters.relations import (
    AttentionBaseline,
    Construction,
    EdgeRule,
    Material,
    Relation,
    find_attention,
    find_relation,
)
from infogeo_adapters.text_reading import STANDING, Overflow, Reading, cut_note, read_text

if TYPE_CHECKING:
    from infogeo_adapters.transformers.influence import Distribution
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.transformers.removal import Removal

FEWEST_WORDS = 3
"""Below this many words there are not two pairs to put in order, so no agreement is computed."""

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class SentenceAnalysis(Result):
    """Everything that the report shows about one text."""

    activations: LayerActivations
    layer: int
    distributions: WordDistributions | None
    """None if the distances come from a relation that makes no distributions, as influence."""
    distances: DistanceMatrix
    graph: WordGraph
    """From the distances."""
    attention: AffinityMatrix
    attention_graph: WordGraph
    """By the same rule as ``graph``, from the attention, both directions averaged."""
    comparisons: Comparisons | None
    """None for fewer than FEWEST_WORDS words."""
    agreement: Agreement | None
    """None for fewer than FEWEST_WORDS words; NaN at layers without distances, which ``notes`` names."""
    normals: WordDistributions | None
    """Univariate normals of each word vector's components, for the half-plane."""
    normals_missing: str | None
    """Why there are no normals; None where there are."""
    lens: EntropyProfile | None
    lens_missing: str | None
    """Why there is no lens; None where there is one."""
    standing: DistanceMatrix | None = None
    """Beside an influence graph: Fisher-Rao distances at the layer between normals of one covariance around the words
    as they stand, with nothing taken away."""
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that the text was cut."""
    seconds: float
    """Time from the text to here."""
    source: Source

    @property
    def by_influence(self) -> bool:
        """Whether ``graph`` is an influence graph."""
        return self.distances.measure == MEASURE

    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of words, closest first."""
        n = len(self.activations.words)
        values = self.distances.symmetrized().values
        return sorted(((i, j) for i in range(n) for j in range(i + 1, n)), key=lambda p: (values[p], p))

    def shared_edges(self) -> frozenset[tuple[int, int]]:
        """Edges that the distance graph and the attention graph, both undirected, have in common."""
        return self.graph.edge_set() & self.attention_graph.edge_set()

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """All pairs of words with distance and attention (mean of both directions) and their ranks, closest first."""
        distance = self.distances.symmetrized().values
        attention = self.attention.symmetrized().values
        pairs = self.pairs()
        order = sorted(pairs, key=lambda p: (-attention[p], p))
        rank = {p: r + 1 for r, p in enumerate(order)}
        words = self.activations.words
        ours, theirs = self.graph.edge_set(), self.attention_graph.edge_set()
        columns = (
            "from", "to", "from_word", "to_word", "distance", "distance_rank", "attention", "attention_rank",
            "in_graph", "in_attention_graph",
        )
        return columns, [
            (i, j, words[i], words[j], float(distance[i, j]), r + 1, float(attention[i, j]), rank[i, j],
             (i, j) in ours, (i, j) in theirs)
            for r, (i, j) in enumerate(pairs)
        ]

    def summary(self) -> str:
        a = self.activations
        return (
            f"SentenceAnalysis of {len(a.words)} words at layer {self.layer} of {a.n_layers}: {self.distances.measure} "
            f"({self.distances.construction}) beside {self.attention.name} ({self.source.model})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain Python values, but hidden states, attention maps and distributions only in outline."""
        slim = dataclasses.replace(self, activations=None, distributions=None)  # type: ignore[arg-type]
        plain = Result.to_dict(slim)
        a = self.activations
        plain["activations"] = {
            "type": "LayerActivations", "text": a.text, "words": list(a.words), "word_spans": a.word_spans.tolist(),
            "tokens": list(a.tokens), "token_ids": a.token_ids.tolist(), "token_words": a.token_words.tolist(),
            "special": a.special.tolist(), "hidden_states_shape": list(a.hidden_states.shape),
            "attention_shape": None if a.attention is None else list(a.attention.shape),
            "attention_layers": list(a.attention_layers), "causal": a.causal, "source": to_plain(a.source),
        }
        if self.distributions is not None:
            d = self.distributions
            plain["distributions"] = {
                "type": "WordDistributions", "family": type(d.distribution).__name__, "construction": d.construction,
                "level": d.level, "layer": d.layer, "observations": d.observations.tolist(),
                "details": to_plain(d.details),
            }
        return plain


def analyze(
    model: LanguageModel,
    text: str,
    *,
    layer: int | None = None,
    construction: str | Construction | None = None,
    measure: str | Measure | None = None,
    relation: Relation | None = None,
    graph: str = "neighbors",
    neighbors: int = 3,
    radius: float | None = None,
    attention: str | AttentionBaseline = "average",
    background: str | None = None,
    corpus: str | None = None,
    removal: str | Removal | None = None,
    distribution: Distribution | None = None,
    overflow: Overflow = "error",
    permutations: int = 999,
    rng: int | np.random.Generator | None = 0,
    progress: Progress | None = None,
) -> SentenceAnalysis:
    """From one text to a word graph beside attention.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    text : str
    layer : int, optional
        0 is the embedding output, l is after block l, negative numbers count from the last; by default the middle one,
        and for influence the first after two thirds of the blocks.
    construction : str or callable, optional
        ``influence`` (how far words move each other when one is taken away), or how words become distributions whose
        distances are taken: ``shared-covariance`` (normals with the covariance of a background text),
        ``components`` (univariate normals of a vector's components), ``readout`` (the prediction read out at the
        layer), ``occurrences`` (normals of a word's occurrences in ``corpus``), ``vectors`` (no distribution, for
        cosine and Euclidean distance), or a function of (context, layer). By default influence where the model allows
        it, the text has 2 to 100 words, and neither ``measure`` nor ``background`` is given; else shared-covariance,
        and ``notes`` says why.
    measure : str or Measure, optional
        A name in :data:`infogeo.measures.MEASURES`, or the measure itself; by default the Fisher-Rao distance, for
        ``vectors`` the Euclidean one; influence has a length of its own.
    relation : Relation, optional
        Another way to distances between words; takes the place of ``construction`` and ``measure``.
    graph : {'neighbors', 'mutual', 'tree', 'radius'}
        How edges are chosen, for distances and attention alike. For a radius, which means nothing for attention, the
        attention graph takes as many edges as the distance graph has.
    neighbors : int
        How many neighbors each word is joined to; where there are fewer words, ``notes`` says so, and
        ``source.options`` has ``neighbors_asked`` and ``neighbors_used``.
    radius : float, optional
        For ``graph='radius'``.
    attention : str or callable
        ``average`` (the heads of the layer's block), ``rollout``, ``flow``, ``head:B.H``, or a function of
        (activations, layer).
    background, corpus : str, optional
        Texts for the constructions that need one.
    removal : {'hide', 'mask', 'delete', 'mean', 'resample'} or Removal, optional
        How words are taken away for influence, which it then is; by default they are hidden.
    distribution : {'effects', 'states', 'readout'}, optional
        What moves when a word is taken away for influence, which it then is; by default effects.
    overflow : {'error', 'truncate'}
        What to do with a text longer than the model's context; a cut is recorded in ``notes``.
    permutations : int
        Of the permutation tests.
    rng : int, Generator or None
        For the permutation tests; an integer is recorded as seed.
    progress : callable, optional
        Is told in a few words what comes next.

    Returns
    -------
    SentenceAnalysis

    Raises
    ------
    TextError
        If the text is no ``str``, empty or too long, or words lack a distribution.
    ArgumentError
        If the layer, construction, measure, graph, attention, removal or distribution does not exist, or one of the
        last two stands beside another construction.
    InfogeoError
        If there are no distances at the chosen layer. Where another layer has none, ``notes`` says so and the
        agreement by layer is NaN there.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> a = analyze(load_model(), "The dog ran home because it was hungry.", construction="components")
    >>> a.graph.construction, a.layer
    ('nearest_neighbor_graph(k=3)', 3)
    """
    started = time.perf_counter()
    say = progress if progress is not None else _silent
    rule = EdgeRule(kind=graph, neighbors=neighbors, radius=radius)
    choice = influence_choice(removal=removal, distribution=distribution)
    baseline = find_attention(attention) if isinstance(attention, str) else attention
    say("reading the text with the model")
    reading = read_text(
        model, text, layer=layer, construction=construction, measure=measure, relation=relation, overflow=overflow,
        material=Material(model=model, background_text=background, corpus_text=corpus, influence=choice),
    )
    activations, chosen = reading.activations, reading.layer
    affinity = baseline(activations, chosen)  # what does not exist is refused before anything is measured
    influence = isinstance(reading.relation, InfluenceRelation)
    say("measuring how words move each other; what is usual is measured on the packaged text first" if influence
        else "measuring distances between words, layer by layer")
    distances = reading.distances()
    by_layer, failed = _other_layers(reading, distances)
    word_graph = rule.of_distances(distances)
    attention_graph = rule.of_attention(affinity, word_graph.n_edges)
    say("comparing distances with attention")
    comparisons = agreement = None
    if len(activations.words) >= FEWEST_WORDS:
        comparisons = compare_graphs(distances, [affinity], permutations=permutations, rng=rng)
        agreement = compare_layers(by_layer, activations)
    say("reading predictions out of every layer")
    lens, missing = _lens(model, activations)
    normals, no_normals = _normals(activations, chosen)
    distributions = reading.distributions()
    few = rule.note(len(activations.words))
    notes = (*_notes(activations, text), *(() if few is None else (few,)), *reading.notes(), *failed)
    return SentenceAnalysis(
        activations=activations, layer=chosen, distributions=distributions, distances=distances,
        graph=word_graph, attention=affinity, attention_graph=attention_graph, comparisons=comparisons,
        agreement=agreement, normals=normals, normals_missing=no_normals, lens=lens, lens_missing=missing,
        standing=_standing(reading) if distances.measure == MEASURE else None, notes=notes,
        seconds=time.perf_counter() - started,
        source=dataclasses.replace(
            activations.source.with_options(
                layer=chosen, measure=distances.measure, construction=distances.construction,
                graph=word_graph.construction, attention=affinity.name, overflow=overflow, permutations=permutations,
                attention_graph=attention_graph.construction,
                **{k: v for k, v in word_graph.source.options.items() if k in ("neighbors_asked", "neighbors_used")},
            ),
            seed=rng if isinstance(rng, int) else None,
        ),
    )


def _other_layers(
    reading: Reading, distances: DistanceMatrix
) -> tuple[list[DistanceMatrix | None], tuple[str, ...]]:
    """Distances at all layers, None where there are none, and a note for each of those."""
    by_layer: list[DistanceMatrix | None] = []
    notes = []
    for layer in range(reading.activations.n_layers + 1):
        try:
            by_layer.append(distances if layer == reading.layer else reading.distances(layer))
        except InfogeoError as error:
            by_layer.append(None)
            notes.append(f"No distances at layer {layer}: {error}")
    return by_layer, tuple(notes)


def _standing(reading: Reading) -> DistanceMatrix | None:
    """Distances between the words as they stand, beside an influence graph; None where there are none."""
    if len(reading.activations.words) < 2:
        return None
    still = find_relation(STANDING, None, reading.layer)
    try:
        return still(reading.context, reading.layer)
    except InfogeoError:
        return None


def _normals(activations: LayerActivations, layer: int) -> tuple[WordDistributions | None, str | None]:
    """The normals of the half-plane, or the reason why there are none."""
    try:
        return component_normals(activations, layer), None
    except InfogeoError as error:
        return None, str(error)


def _lens(model: LanguageModel, activations: LayerActivations) -> tuple[EntropyProfile | None, str | None]:
    """The lens, or the reason why this model has none."""
    from infogeo_adapters.transformers.lens import logit_lens

    if not model.has_head:
        return None, (
            f"{type(model.model).__name__} has no language-model head: it turns text into vectors and predicts no "
            "words, so there is nothing to read out at a layer."
        )
    if model.kind == "encoder-decoder":
        return None, (
            f"The analysis is of the encoder of {type(model.model).__name__}, which predicts nothing by itself. Its "
            "decoder predicts a target text: logit_lens(model, text, target=...)."
        )
    try:
        return logit_lens(model, activations), None
    except ModelError as error:
        return None, str(error)


def _notes(activations: LayerActivations, text: str) -> tuple[str, ...]:
    """What a reader must know before believing the figures."""
    n, notes = len(activations.words), []
    cut = cut_note(activations, text)
    if cut is not None:
        notes.append(cut)
    if n < 2:
        notes.append("The text has one word. Distances and graphs need at least two, so they are empty here.")
    elif n < FEWEST_WORDS:
        notes.append(f"The text has {n} words. Agreement between distances and attention needs {FEWEST_WORDS}.")
    return tuple(notes)


def _silent(_: str) -> None:
    return None
