"""The influence graph: words joined where taking one away moves the other more than is usual so far apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from infogeo._checks import check_count, check_progress
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError
from infogeo.evidence import PRIOR_EXPONENT, check_exponent, relation_evidence, standardized_influence
from infogeo.influence import NORMALIZATIONS, Symmetrization, symmetrized_influence
from infogeo_adapters.transformers.alignment import Words
from infogeo_adapters.transformers.arguments import check_capture
from infogeo_adapters.transformers.echo import Reading, find_reading, prepare_reading
from infogeo_adapters.transformers.forward import Overflow
from infogeo_adapters.transformers.influence import Distribution
from infogeo_adapters.transformers.influence_meter import PROFILE_SENTENCES as PROFILE_SENTENCES
from infogeo_adapters.transformers.influence_meter import Edge as Edge
from infogeo_adapters.transformers.influence_meter import InfluenceMeter as InfluenceMeter
from infogeo_adapters.transformers.influence_meter import default_edges as default_edges
from infogeo_adapters.transformers.influence_meter import default_layers as default_layers
from infogeo_adapters.transformers.influence_meter import make_meter as make_meter
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.removal import Removal, find_removal
from infogeo_adapters.transformers.stack import find_stack

if TYPE_CHECKING:
    from infogeo.graphs import WordGraph

GraphNormalization = Literal["distance", "rows", "none", "symmetric", "product"]


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

    of the evidence :math:`e_{ij}` (:func:`infogeo.relation_evidence`): by how much the two move each
    other more than words of other texts do that stand as far apart, with a prior for nearer words. With the others it
    is the geometric mean over measurements of the symmetrized, normalized influence, zero where a measurement finds
    none.

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
    symmetrized_influence(np.zeros((1, 1)), symmetrized)  # a way that does not exist is refused before anything is run
    exponent = check_exponent(prior_exponent)
    way, how = find_removal(removal), find_reading(model, reading)
    prepare_reading(model, text, words, overflow, how)
    meter = make_meter(model, layers, edges, way, how, distribution)
    ((values, names, source),) = meter.measure(
        [text], [words], overflow=overflow, batch_tokens=batch_tokens, progress=progress
    )
    options: dict[str, Any] = {"normalization": normalization, "measurements": "; ".join(meter.names)}
    if meter.left_out is not None:
        options["edges_left_out"] = meter.left_out
    n = len(names)
    if normalization == "distance":
        if n < 2:
            weights = np.zeros((n, n))
        else:
            evidence = relation_evidence(
                standardized_influence(values, meter.profile()), prior_exponent=exponent
            )
            weights = np.exp(evidence / 2) * ~np.eye(n, dtype=np.bool_)
        options["prior_exponent"] = exponent
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
    neighbors: int | None = None,
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
    neighbors : int, optional
        How many, for the latter two; 3 by default.
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
    if graph == "tree" and neighbors is not None:
        raise ArgumentError(
            f"neighbors: found {neighbors!r} for the tree, which has no such number; give graph='neighbors' or 'mutual'"
        )
    rule = EdgeRule(kind=graph, neighbors=3 if neighbors is None else check_count("neighbors", neighbors, 1))
    return rule.of_attention(influence_affinity(model, text, **options), 0)


def _name(meter: InfluenceMeter, normalization: str) -> str:
    said = []
    if meter.layers:
        *first, last = map(str, meter.layers)
        layers = f"layers {', '.join(first)} and {last}" if first else f"layer {last}"
        said.append(f"of words ({meter.removal.name}) at {layers}")
    if meter.edges:
        said.append(f"of edges in {', '.join(n for n in meter.names if n.startswith('block'))}")
    beyond = "beyond what is usual so far apart" if normalization == "distance" else f"normalized by {normalization}"
    return f"influence {' and '.join(said)}, {beyond}"
