"""The influence graph: words joined where taking one away moves the other more than is usual so far apart."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from infogeo._checks import FloatArray, check_count, check_progress
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, ModelError
from infogeo.influence import (
    NORMALIZATIONS,
    DistanceProfile,
    Manifold,
    Symmetrization,
    distance_profile,
    symmetrized_influence,
)
from infogeo.relation_evidence import PRIOR_EXPONENT, relation_evidence, row_ratios, standardized_influence
from infogeo.results import Source
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_capture
from infogeo_adapters.transformers.echo import Reading, find_reading
from infogeo_adapters.transformers.edge_influence import EdgeMeter
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence import Distribution, background_sentences, measure_influence
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo.activations import LayerActivations
    from infogeo.graphs import WordGraph

GraphNormalization = Literal["distance", "rows", "none", "symmetric", "product"]
Edge = SupportsIndex | tuple[SupportsIndex, SupportsIndex]
"""A block, or a block and one of its heads, all counted from 1."""
PROFILE_SENTENCES = 120
"""Sentences of the packaged text that say what is usual at each distance."""


def default_layers(depth: int) -> tuple[int, ...]:
    """The layers influence is read at if none are named: the two after two thirds of the blocks.

    Chosen on the first half of an English treebank with a model of six blocks, where they are layers 4 and 5; earlier
    ones say which word stands beside which, the last ones what the whole sentence is about.

    Examples
    --------
    >>> default_layers(6), default_layers(12), default_layers(1)
    ((4, 5), (8, 9), (1,))
    """
    first = max(1, -(-2 * depth // 3))
    return tuple(range(first, min(first + 1, depth) + 1))


def default_edges(blocks: Iterable[int], depth: int) -> tuple[int, ...]:
    """The blocks whose single edges count if none are named: those of the upper two thirds that have attention.

    Examples
    --------
    >>> default_edges(range(1, 7), 6)
    (3, 4, 5, 6)
    """
    return tuple(b for b in blocks if b > depth // 3)


@dataclass(eq=False)
class InfluenceMeter:
    """Measurements of influence on one model, words taken away and single edges cut, and what is usual of each.

    Parameters
    ----------
    model : LanguageModel
    layers : sequence of int
        Layers at which influence of words taken away is read; none if empty.
    edges : sequence of (int, int or None)
        Blocks, or heads of blocks, whose single edges are cut; none if empty.
    removal : str or Removal
        How words are taken away.
    reading : {"once", "twice"}
    distribution : {"effects", "states", "readout"}
        Of words taken away; edges are measured by effects always.
    manifold : {"fixed covariance", "all normals"}
    """

    model: LanguageModel
    layers: tuple[int, ...]
    edges: tuple[tuple[int, int | None], ...]
    removal: Removal
    reading: Reading
    distribution: Distribution = "effects"
    manifold: Manifold = "fixed covariance"
    _edge_meter: EdgeMeter | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.edges:
            blocks = sorted({block for block, _ in self.edges})
            self._edge_meter = EdgeMeter(self.model, blocks, "effects", self.reading, self.manifold)
            for block, head in self.edges:
                if head is not None and not 1 <= head <= self._edge_meter.reader.heads[block]:
                    raise ArgumentError(
                        f"edges: found head {head} of block {block}, which has heads 1 to "
                        f"{self._edge_meter.reader.heads[block]}"
                    )

    @property
    def names(self) -> tuple[str, ...]:
        """Of each measurement: ``layer 4``, ``block 3, head 9``, ``block 3``."""
        edges = (f"block {b}" if h is None else f"block {b}, head {h}" for b, h in self.edges)
        return (*(f"layer {layer}" for layer in self.layers), *edges)

    def measure(
        self, texts: Sequence[str], words: Sequence[Any], *, overflow: Overflow = "error", batch_tokens: int = 4096,
        captured: Sequence[LayerActivations] | None = None, progress: Callable[[int, int], object] | None = None,
    ) -> list[tuple[FloatArray, tuple[str, ...], Source]]:
        """Of each text influence (R, n, n), its words, and where it comes from."""
        parts: list[list[FloatArray]] = [[] for _ in texts]
        known: list[tuple[tuple[str, ...], Source]] = []
        if self.layers:
            options = {} if self.distribution == "readout" else {"manifold": self.manifold}
            found = measure_influence(
                self.model, list(texts), words=list(words), removal=self.removal, layers=self.layers,
                distribution=self.distribution, reading=self.reading, overflow=overflow, batch_tokens=batch_tokens,
                progress=progress, **options,
            )
            for mine, influence in zip(parts, found, strict=True):
                mine.append(influence.values)
            known = [(influence.words, influence.source) for influence in found]
        if self._edge_meter is not None:
            of_edges = self._edge_meter.measure(
                texts, words, overflow=overflow, batch_tokens=batch_tokens, captured=captured
            )
            for mine, edge in zip(parts, of_edges, strict=True):
                at = [edge.blocks.index(block) for block, _ in self.edges]
                mine.append(np.stack([
                    edge.whole[a] if head is None else edge.heads[a, head - 1]
                    for a, (_, head) in zip(at, self.edges, strict=True)
                ]))
            known = known or [(edge.words, edge.source) for edge in of_edges]
        return [
            (np.concatenate(mine), *rest) for mine, rest in zip(parts, known, strict=True)
        ]

    def profile(self) -> DistanceProfile:
        """What is usual at each distance, from the text that ships with infogeo; kept for the model's lifetime."""
        key = (
            self.layers, self.edges, self.removal, self.reading, self.distribution, self.manifold,
            self.model.current_source().content_hash,
        )
        kept = _profiles.setdefault(self.model, {})
        if key not in kept:
            texts = background_sentences(background_text(), PROFILE_SENTENCES)
            found = self.measure(texts, [None] * len(texts), overflow="truncate")
            kept[key] = distance_profile([row_ratios(values) for values, _, _ in found])
        return kept[key]


_profiles: weakref.WeakKeyDictionary[LanguageModel, dict[Hashable, DistanceProfile]] = weakref.WeakKeyDictionary()


def influence_affinity(
    model: LanguageModel,
    text: str,
    *,
    words: Words | None = None,
    layers: SupportsIndex | Iterable[SupportsIndex] | None = None,
    edges: Iterable[Edge] | None = None,
    removal: str | Removal = "hide",
    reading: Reading | None = None,
    distribution: Distribution = "effects",
    normalization: GraphNormalization = "distance",
    symmetrized: Symmetrization = "log-sum",
    prior_exponent: float = PRIOR_EXPONENT,
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
    progress: Callable[[int, int], object] | None = None,
) -> AffinityMatrix:
    r"""How strongly each two words of a text move each other, as an affinity: the weights of the influence graph.

    Two kinds of measurements are made and count the same: influence of words taken away, at ``layers``, and influence
    of single edges cut in the attention of ``edges``. With ``normalization="distance"`` the weight is

    .. math:: w_{ij} = e^{e_{ij} / 2}

    of the evidence :math:`e_{ij}` (:func:`infogeo.relation_evidence.relation_evidence`): by how much the two move each
    other more than words of other texts do that stand as far apart, with a prior for nearer words. With the others it
    is the geometric mean over measurements of the symmetrized, normalized influence.

    Parameters
    ----------
    model : LanguageModel
        Of an encoder-decoder model the encoder is read.
    text : str
    words : optional
        How the text falls into words, as in :func:`capture_activations`.
    layers : int or iterable of int, optional
        Layers at which influence of words taken away is read; by default the two after two thirds of the blocks. An
        empty list leaves it out.
    edges : iterable of int or (int, int), optional
        Blocks, or (block, head), whose single edges are cut; by default the upper two thirds of the blocks with
        attention that can be taken apart. An empty list leaves it out.
    removal : {"hide", "mask", "delete", "mean", "resample"} or Removal
        How words are taken away.
    reading : {"once", "twice"}, optional
        Whether the text is given once, or twice in a row so that every word has seen every other one; by default twice
        for causal models.
    distribution : {"effects", "states", "readout"}
        What moves when a word is taken away, see :func:`measure_influence`.
    normalization : {"distance", "rows", "none", "symmetric", "product"}
    symmetrized : {"log-sum", "sum", "max"}
        For the normalizations but ``"distance"``.
    prior_exponent : float
        Of the power law by distance, for ``normalization="distance"``.
    overflow : {"error", "truncate"}
    batch_tokens : int
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of texts.

    Returns
    -------
    AffinityMatrix
        Undirected. ``source.options`` has all choices.

    Raises
    ------
    TextError
        The text is empty, too long, or has a word without a token.
    ModelError
        The model does not offer what is asked for.
    ArgumentError
        An argument has no such value, or there is nothing to measure.

    See Also
    --------
    influence_graph : the graph of these weights.
    measure_influence, measure_edge_influence : the measurements themselves.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = influence_affinity(load_model(), "The old woman gave the dog a bone.", layers=4, edges=[])
    >>> found.values.shape, found.directed
    ((9, 9), False)
    """
    check_capture(model, overflow, batch_tokens)
    check_progress(progress)
    if normalization != "distance" and normalization not in NORMALIZATIONS:
        raise ArgumentError(
            f"normalization {normalization!r} does not exist; choose distance, {', '.join(NORMALIZATIONS)}"
        )
    way = find_removal(removal)
    meter = make_meter(model, layers, edges, way, find_reading(model, reading), distribution)
    ((values, names, source),) = meter.measure(
        [text], [words], overflow=overflow, batch_tokens=batch_tokens, progress=progress
    )
    options: dict[str, Any] = {"normalization": normalization, "measurements": "; ".join(meter.names)}
    n = len(names)
    if normalization == "distance":
        if n < 2:
            weights = np.zeros((n, n))
        else:
            evidence = relation_evidence(
                standardized_influence(values, meter.profile()), prior_exponent=prior_exponent
            )
            weights = np.exp(evidence / 2) * ~np.eye(n, dtype=np.bool_)
        options["prior_exponent"] = float(prior_exponent)
    else:
        causal = meter.reading == "once" and find_stack(model.model).causal
        both = symmetrized_influence(NORMALIZATIONS[normalization](values), symmetrized, causal=causal)
        with np.errstate(divide="ignore"):
            weights = np.exp(np.log(both).mean(axis=0))
        options["symmetrized"] = symmetrized
    return AffinityMatrix(
        values=weights, words=names, name=_name(meter, normalization), directed=False,
        layer=meter.layers[0] if len(meter.layers) == 1 and not meter.edges else None,
        source=source.with_options(affinity="influence", reading=meter.reading, **options),
    )


def influence_graph(
    model: LanguageModel,
    text: str,
    *,
    graph: Literal["tree", "neighbors", "mutual"] = "tree",
    neighbors: int = 3,
    **options: Any,
) -> WordGraph:
    r"""The graph of the words of a text that move each other: the influence graph.

    Take word j away and ask how far the distribution of word i moves on the statistical manifold:
    :math:`a_{ij} = d_{FR}(P_i, P_{i \setminus j})`. Words that belong together move each other more than others that
    stand as far apart. On sentences with known syntax the graph finds more of the relations than the best head of
    attention, above all the long ones; docs/word_graphs.md has the numbers.

    In a causal model a later word moves no earlier one, so such a model is given the text twice in a row
    (``reading="twice"``): the words of the second copy have seen all words. With ``reading="once"`` only later words
    are moved, and each pair has one direction.

    Parameters
    ----------
    model : LanguageModel
    text : str
    graph : {"tree", "neighbors", "mutual"}
        The maximum spanning tree, or nearest neighbors, either way or both ways.
    neighbors : int
        How many, for the latter two.
    **options
        As :func:`influence_affinity`: ``words``, ``layers``, ``edges``, ``removal``, ``reading``, ``distribution``,
        ``normalization``, ``symmetrized``, ``prior_exponent``, ``overflow``, ``batch_tokens``, ``progress``.

    Returns
    -------
    WordGraph

    Raises
    ------
    TextError, ModelError, ArgumentError
        As :func:`influence_affinity`; also if there is no such graph.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = influence_graph(load_model(), "The old woman gave the dog a bone.", edges=[])
    >>> found.n_edges, found.construction
    (8, 'maximum_spanning_tree')
    """
    from infogeo_adapters.relations import EdgeRule

    if graph not in ("tree", "neighbors", "mutual"):
        raise ArgumentError(f"graph {graph!r} does not exist; choose 'tree', 'neighbors' or 'mutual'")
    rule = EdgeRule(kind=graph, neighbors=check_count("neighbors", neighbors, 1))
    return rule.of_attention(influence_affinity(model, text, **options), 0)


def make_meter(
    model: LanguageModel, layers: Any, edges: Any, removal: Removal, reading: Reading, distribution: Distribution,
) -> InfluenceMeter:
    """A meter of what is asked for, or of the defaults; what a model cannot do of the defaults is left out.

    Raises
    ------
    ArgumentError
        There is nothing to measure.
    ModelError
        What is asked for cannot be done.
    """
    depth = find_stack(model.model).depth
    if layers is None:
        chosen = default_layers(depth)
    else:
        given = [layers] if isinstance(layers, SupportsIndex) else list(layers)
        chosen = tuple(dict.fromkeys(_layer(one, depth) for one in given))
    if edges is None:
        try:
            parts = tuple((b, None) for b in default_edges(attending_blocks(model), depth))
            return InfluenceMeter(model, chosen, parts, removal, reading, distribution)
        except ModelError:
            parts = ()
    else:
        parts = tuple(dict.fromkeys(_edge(one) for one in edges))
    if not chosen and not parts:
        raise ArgumentError("layers and edges: found neither, wanted at least one layer or one block")
    return InfluenceMeter(model, chosen, parts, removal, reading, distribution)


def _layer(value: Any, depth: int) -> int:
    number = check_count("layers", value)
    resolved = number + depth + 1 if number < 0 else number
    if not 1 <= resolved <= depth:
        raise ArgumentError(
            f"layers: found {number}, wanted layers 1 to {depth}; at layer 0, the embedding, no word moves another"
        )
    return resolved


def _edge(value: Any) -> tuple[int, int | None]:
    if isinstance(value, SupportsIndex):
        return check_count("edges", value, 1), None
    try:
        block, head = value
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"edges: found {value!r}, wanted a block, or (block, head), counted from 1") from error
    return check_count("edges", block, 1), check_count("edges", head, 1)


def _name(meter: InfluenceMeter, normalization: str) -> str:
    said = []
    if meter.layers:
        said.append(f"of words ({meter.removal.name}) at layer {', '.join(map(str, meter.layers))}")
    if meter.edges:
        said.append(f"of edges in {', '.join(n for n in meter.names if n.startswith('block'))}")
    beyond = "beyond what is usual so far apart" if normalization == "distance" else f"normalized by {normalization}"
    return f"influence {' and '.join(said)}, {beyond}"
