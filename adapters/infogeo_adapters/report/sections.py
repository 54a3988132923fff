"""What stands on the page: sections with sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo.distances import fisher_rao_distance
from infogeo.entropy_profile import EntropyUnit
from infogeo.graphs import WordGraph, nearest_neighbor_graph
from infogeo.pairwise import pairwise
from infogeo.words import WordDistributions
from infogeo_adapters.analysis import SentenceAnalysis
from infogeo_adapters.plots import (
    agreement_figure,
    attention_figure,
    distance_figure,
    graph_pair_figure,
    half_plane_figure,
    layer_agreement_figure,
    lens_figure,
)
from infogeo_adapters.plots.heatmaps import NAMED
from infogeo_adapters.plots.style import plural, readable, shorten, visible
from infogeo_adapters.relations import attention_block
from infogeo_adapters.report import findings, prose
from infogeo_adapters.report.exports import Exported
from infogeo_adapters.report.findings import three_digits

if TYPE_CHECKING:
    import plotly.graph_objects as go

STRONGEST = 12
"""Rows of the table of strongest relations."""
EDGE_IN = {(True, True): "both", (True, False): "{own}", (False, True): "attention", (False, False): "–"}
NEAREST = 2
"""Neighbors that a word is joined to on the half-plane."""


@dataclass(frozen=True)
class Figure:
    """A figure and where it stands."""

    id: str
    figure: go.Figure

    @property
    def title(self) -> str:
        """Plain text, to be escaped by the template."""
        return str(self.figure.layout.meta["title"])

    @property
    def summary(self) -> str:
        """What is seen, for screen readers."""
        return str(self.figure.layout.meta["summary"])

    @property
    def height(self) -> int:
        """Pixels, without the title."""
        return int(self.figure.layout.height) - 36

    @property
    def min_width(self) -> int:
        """Pixels below which the figure scrolls."""
        return int(self.figure.layout.meta["min_width"])

    @property
    def max_width(self) -> int | None:
        """Pixels beyond which the figure grows no more."""
        widest = self.figure.layout.meta["max_width"]
        return None if widest is None else max(int(widest), self.min_width)


@dataclass(frozen=True)
class Table:
    """A table; cells are strings, or mappings with ``word`` and ``place``, or with ``number``."""

    title: str
    columns: Sequence[Mapping[str, Any]]
    rows: Sequence[Sequence[str | Mapping[str, str]]]
    kind: str = ""


@dataclass(frozen=True)
class Section:
    """One heading and what is under it."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    files: tuple[Exported, ...] = ()


def facts(analysis: SentenceAnalysis) -> list[tuple[str, str]]:
    """The key facts under the sentence."""
    a = analysis.activations
    return [
        ("Model", visible(shorten(_model_name(analysis), 60))),
        ("Layer", f"{analysis.layer} of {a.n_layers}" + (" (embedding)" if analysis.layer == 0 else "")),
        ("Text", f"{plural(len(a.words), 'word')}, {plural(len(a.tokens), 'token')}"),
        ("Distance", readable(analysis.distances.measure)),
        ("From" if analysis.by_influence else "Words as", readable(analysis.distances.construction) or "vectors"),
        ("Attention", analysis.attention.name),
    ]


def sections(analysis: SentenceAnalysis, files: Sequence[Exported], *, units: EntropyUnit = "nats") -> list[Section]:
    """All sections in the order of the page; one that needs more words than there are says so."""
    return [
        _graphs(analysis), _relations(analysis), _matrices(analysis), _half_plane(analysis), _agreement(analysis),
        _lens(analysis, units), _provenance(analysis, files),
    ]


def _graphs(analysis: SentenceAnalysis) -> Section:
    title = f"{'Influence graph' if analysis.by_influence else 'Word graph from geodesics'}, beside attention"
    if len(analysis.activations.words) < 2:
        return Section("graphs", title, paragraphs=(prose.NEEDS_TWO,))
    pair = graph_pair_figure(
        analysis.graph, analysis.attention_graph, left_name=findings.own_graph(analysis), right_name="attention graph"
    )
    edges = (
        f"On the left {prose.edges(analysis.graph.construction)}; on the right "
        f"{prose.edges(analysis.attention_graph.construction)}, by the mean of both directions of attention. "
        f"{prose.COUNTING}"
    )
    said: tuple[str, ...] = (prose.GRAPHS,)
    if analysis.by_influence:
        twice = analysis.distances.source.options.get("reading") == "twice"
        said = (prose.INFLUENCE, *((prose.INFLUENCE_TWICE,) if twice else ()), prose.INFLUENCE_GRAPHS)
    return Section(
        "graphs", title, paragraphs=(*said, edges),
        findings=(*findings.overlap(analysis), *findings.relations(analysis)), figures=(Figure("graph-pair", pair),),
    )


def _relations(analysis: SentenceAnalysis) -> Section:
    title = "Strongest relations"
    if len(analysis.activations.words) < 2:
        return Section("relations", title, paragraphs=(prose.NEEDS_TWO,))
    _, rows = analysis.rows()
    columns = [
        {"name": "word", "number": False}, {"name": "word", "number": False}, {"name": "distance", "number": True},
        {"name": "rank", "number": True}, {"name": "attention", "number": True}, {"name": "rank", "number": True},
        {"name": "edge in", "number": False},
    ]

    def table(heading: str, chosen: Sequence[tuple[Any, ...]]) -> Table:
        return Table(heading, columns, [
            (_word(i, first), _word(j, second), page_number(three_digits(d)), page_number(str(dr)),
             page_number(three_digits(w)), page_number(str(wr)), EDGE_IN[ours, theirs].format(own=own))
            for i, j, first, second, d, dr, w, wr, ours, theirs in chosen
        ])

    own = "influence" if analysis.by_influence else "geodesic"
    nearest = "Closest by influence" if analysis.by_influence else "Closest on the manifold"
    n = min(STRONGEST, len(rows))
    by_attention = sorted((r for r in rows if r[6] > 0), key=lambda r: r[7])[:n]
    return Section(
        "relations", title,
        paragraphs=(f"Out of {plural(len(rows), 'pair')}. Attention is the mean of both directions.",),
        tables=(table(nearest, rows[:n]), table("Strongest in attention", by_attention)),
    )


def _matrices(analysis: SentenceAnalysis) -> Section:
    title = "All distances and all attention"
    if len(analysis.activations.words) < 2:
        return Section("matrices", title, paragraphs=(prose.NEEDS_TWO,))
    still = analysis.standing
    return Section(
        "matrices", title,
        paragraphs=(prose.MATRICES, *_second_view(analysis)),
        figures=(
            Figure("distance-matrix", distance_figure(analysis.distances)),
            Figure("attention-matrix", attention_figure(_affinities(analysis))),
            *(() if still is None else (Figure("standing-matrix", distance_figure(still)),)),
        ),
    )


def _second_view(analysis: SentenceAnalysis) -> tuple[str, ...]:
    """What the distances of influence are, and what the static ones beside them."""
    if not analysis.by_influence:
        return ()
    still = () if analysis.standing is None else (prose.STANDING.format(layer=analysis.layer),)
    return (prose.INFLUENCE_LENGTH, *still)


def _half_plane(analysis: SentenceAnalysis) -> Section:
    title = "Words on the Fisher half-plane"
    if analysis.normals is None:
        return Section(
            "half-plane", title, paragraphs=(prose.NO_HALF_PLANE.format(reason=analysis.normals_missing),)
        )
    few = len(analysis.activations.words) < 2
    same = analysis.distances.construction == "component_normals"
    measured = prose.SAME_CONSTRUCTION if same else prose.OTHER_CONSTRUCTION.format(
        construction=readable(analysis.distances.construction)
    )
    if analysis.by_influence:
        measured = prose.INFLUENCE_CONSTRUCTION
    picture = half_plane_figure(analysis.normals, None if few else _nearest(analysis.normals))
    return Section(
        "half-plane", title,
        paragraphs=(prose.HALF_PLANE_ONE,) if few else (prose.HALF_PLANE, measured),
        figures=(Figure("half-plane-plot", picture),),
    )


def _nearest(normals: WordDistributions) -> WordGraph:
    k = min(NEAREST, len(normals.words) - 1)
    return nearest_neighbor_graph(pairwise(fisher_rao_distance, normals), k)


def _agreement(analysis: SentenceAnalysis) -> Section:
    title = "Do distances and attention agree?"
    if analysis.agreement is None or analysis.comparisons is None:
        needs = prose.AGREEMENT_NEEDS.format(words=plural(len(analysis.activations.words), "word"))
        return Section("agreement", title, paragraphs=(needs,))
    table = analysis.agreement
    name = f"{readable(table.measure)}s" if table.measure.endswith("distance") else readable(table.measure)
    layers = prose.INFLUENCE_LAYERS.format(layer=analysis.layer, construction=analysis.distances.construction)
    return Section(
        "agreement", title,
        paragraphs=(prose.AGREEMENT, *((layers,) if analysis.by_influence else ())),
        findings=tuple(findings.agreement(analysis)),
        figures=(
            Figure("agreement-heads", agreement_figure(
                table.heads, blocks=table.blocks, layer=analysis.layer, average=table.averages, statistic="Spearman",
                x_name=name,
            )),
            Figure("agreement-layers", layer_agreement_figure(
                table.averages, blocks=table.blocks, statistic="Spearman", x_name=name,
            )),
        ),
        tables=(_statistics(analysis),),
    )


def _statistics(analysis: SentenceAnalysis) -> Table:
    columns = [
        {"name": "statistic", "number": False}, {"name": "value", "number": True}, {"name": "p-value", "number": True},
        {"name": "over", "number": False},
    ]
    names = {"mantel": "Mantel test", "partial_mantel": "partial Mantel test, given word order",
             "edge_jaccard": "Jaccard index of the closest pairs", "kendall": "Kendall", "spearman": "Spearman",
             "partial_spearman": "partial Spearman, given word order",
             "word_order": "Spearman of attention with closeness in the text",
             "spanning_tree_overlap": "shared edges of the spanning trees"}
    rows: list[Sequence[str | Mapping[str, str]]] = [
        (names.get(c.statistic, readable(c.statistic)), page_number(three_digits(c.value)),
         page_number("–" if c.p_value is None else three_digits(c.p_value)), f"{c.n} {c.unit}")
        for c in analysis.comparisons or ()
    ]
    return Table(f"Distances at layer {analysis.layer} against {analysis.attention.name}", columns, rows)


def _lens(analysis: SentenceAnalysis, units: EntropyUnit) -> Section:
    title = "What each layer would predict"
    if analysis.lens is None:
        return Section("lens", title, paragraphs=(prose.NO_LENS.format(reason=analysis.lens_missing),))
    causal = analysis.lens.predicts == "next"
    what = "the next token" if causal else "the token itself (the model was trained to fill in masks)"
    return Section(
        "lens", title, paragraphs=(prose.LENS.format(what=what),),
        figures=(Figure("lens-plot", lens_figure(analysis.lens, units=units)),),
    )


def _provenance(analysis: SentenceAnalysis, files: Sequence[Exported]) -> Section:
    source = analysis.source
    rows: list[Sequence[str | Mapping[str, str]]] = [
        (name, visible(str(value))) for name, value in (
            ("model", source.model), ("architecture", source.architecture),
            ("SHA-256 of the weights", source.content_hash),
            ("number format", source.dtype), ("SHA-256 of the text", source.text_hash), ("seed", source.seed),
            ("time", f"{analysis.seconds:.2f} s from the text to the numbers"),
        ) if value is not None
    ]
    rows += [(readable(name), visible(str(value))) for name, value in source.options.items() if value is not None]
    if analysis.distributions is not None:
        rows += [(readable(name), visible(str(value))) for name, value in analysis.distributions.details.items()]
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items())))
    missing = tuple(f"{f.name}: {f.what}" for f in files if not f.written)
    return Section(
        "provenance", "Provenance and files",
        paragraphs=(prose.PROVENANCE,),
        tables=(Table("How this was made", (), rows, kind="provenance"),),
        files=tuple(f for f in files if f.written), findings=missing,
    )


def _affinities(analysis: SentenceAnalysis) -> list[Any]:
    """The report's attention first, then the average and the heads of the layer's block."""
    from infogeo_adapters.transformers.attention import head_average, single_head

    a = analysis.activations
    if len(a.words) > NAMED:
        return [analysis.attention]
    block = attention_block(a, analysis.layer)
    others = [head_average(a, block), *(single_head(a, block, h + 1) for h in range(a.n_heads))]
    return [analysis.attention, *(x for x in others if x.name != analysis.attention.name)]


def _model_name(analysis: SentenceAnalysis) -> str:
    return analysis.source.model or "given as an object"


def _word(index: int, word: str) -> dict[str, str]:
    return {"word": shorten(visible(word), 24), "place": str(index + 1)}


def page_number(text: str) -> dict[str, str]:
    """A cell with a number."""
    return {"number": text}
