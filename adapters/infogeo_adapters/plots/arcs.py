"""Word graphs as arcs over the words in reading order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import ArgumentError, ShapeError
from infogeo.graphs import WordGraph
from infogeo_adapters.plots.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    SMALL,
    capital,
    figure,
    graph_objects,
    label,
    labels,
    plural,
    readable,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROW = 26
"""Pixels from one word to the next."""
POINTS = 24
"""Points that draw one arc."""
HOVER = slice(3, None, 6)
"""Those of them that tell what the arc is when pointed at."""
WIDTHS = (1.2, 2.0, 3.2)
"""Pixels for weak, middle and strong edges."""
CROWDED = 60
"""Edges from which on arcs are drawn finer."""


def word_positions(n: int) -> list[float]:
    """Height of each word, the first one on top: the one layout of both graphs."""
    return [-float(i) for i in range(n)]


def graph_figure(graph: WordGraph, *, title: str | None = None) -> go.Figure:
    """One word graph: the words in reading order, an arc for each edge.

    Arcs never hide a word and words never overlap, whatever the length of the text. A thicker arc is a stronger
    relation (the third of the edges with the largest ``weight``, the middle third, the rest); where all weights are
    equal, so are the arcs.

    Parameters
    ----------
    graph : WordGraph
    title : str, optional

    Returns
    -------
    plotly.graph_objects.Figure
    """
    column = _column(graph.words)
    traces = [*_sides(graph, 1, column, frozenset(), BLUE, graph.measure), _words(graph.words, [graph])]
    return figure(
        traces, title=title or f"Word graph: {graph.construction}", caller="graph_figure",
        summary=f"{plural(len(graph.words), 'word')} in reading order, joined by {plural(graph.n_edges, 'edge')}.",
        showlegend=False, **_layout(len(graph.words), (-column, 1.03)),
    )


def graph_pair_figure(left: WordGraph, right: WordGraph, *, left_name: str, right_name: str) -> go.Figure:
    """Two graphs of the same words at the same places: arcs of one to the left, of the other to the right.

    The words stand in reading order in the middle and belong to both graphs. An edge that both graphs have is drawn
    in the color of agreement on both sides, so that agreement shows as a mirror image.

    Parameters
    ----------
    left, right : WordGraph
        Undirected graphs of the same words.
    left_name, right_name : str
        What the graphs are called in the picture.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ShapeError
        If the words differ.
    ArgumentError
        If a graph is directed.
    """
    if left.words != right.words:
        raise ShapeError(
            f"graph_pair_figure: the graphs have different words ({len(left.words)} and {len(right.words)}); "
            "build both from one text"
        )
    if left.directed or right.directed:
        raise ArgumentError("graph_pair_figure: a graph is directed; build both from symmetric matrices")
    shared = left.edge_set() & right.edge_set()
    column = _column(left.words)
    traces = [
        *_sides(left, -1, column, shared, BLUE, f"only {left_name}"),
        *_sides(right, 1, column, shared, GREEN, f"only {right_name}"),
        _words(left.words, [left, right]),
    ]
    head = [
        {"text": f"<b>{label(capital(name))}</b>", "x": x, "y": 1, "xref": "paper", "yref": "paper", "xanchor": anchor,
         "yanchor": "bottom", "showarrow": False, "font": {"color": color, "size": 14}}
        for name, x, anchor, color in ((left_name, 0, "left", BLUE), (right_name, 1, "right", GREEN))
    ]
    layout = _layout(len(left.words), (-1.03, 1.03))
    return figure(
        traces, title=f"{capital(left_name)} and {right_name}: {plural(len(shared), 'shared edge')}",
        summary=(
            f"{plural(len(left.words), 'word')} in reading order. Left: {plural(left.n_edges, 'edge')} of the "
            f"{left_name}. Right: {plural(right.n_edges, 'edge')} of the {right_name}. In both: {len(shared)}."
        ),
        annotations=head, caller="graph_pair_figure", **layout,
    )


def _column(words: tuple[str, ...]) -> float:
    """Half the width that the words need, as a share of half the picture on a small screen."""
    longest = max((len(w) for w in labels(words)), default=1)
    return float(np.clip(longest * 3.9 / 165 + 0.03, 0.12, 0.42))


def _layout(n: int, x_range: tuple[float, float]) -> dict[str, Any]:
    hidden = {"visible": False, "fixedrange": True, "automargin": False}
    return {
        "height": ROW * max(n, 2) + 150, "min_width": 330, "max_width": 720,
        "margin": {"t": 84, "b": 54},
        "xaxis": {**hidden, "range": list(x_range)},
        "yaxis": {**hidden, "range": [-max(n, 2) + 0.4, 0.6]},
        "legend": {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0.5,
                   "xanchor": "center", "font": {"size": SMALL}, "itemclick": False, "itemdoubleclick": False},
        "hovermode": "closest",
    }


def _words(words: tuple[str, ...], graphs: list[WordGraph]) -> Any:
    go = graph_objects("graph_figure")
    hover = []
    for i, word in enumerate(words):
        lines = [f"<b>{label(word, 60)}</b> (word {i + 1})"]
        for graph in graphs:
            near = sorted((w, b if a == i else a) for (a, b), w in zip(graph.edges.tolist(), graph.weight.tolist(),
                                                                       strict=True) if i in (a, b))
            names = ", ".join(label(words[j], 20) for _, j in reversed(near))
            lines.append(f"{label(readable(graph.measure), None)}: {names or 'no edge'}")
        hover.append("<br>".join(lines))
    return go.Scatter(
        x=[0.0] * len(words), y=word_positions(len(words)), mode="text", text=labels(words), customdata=hover,
        hovertemplate="%{customdata}<extra></extra>", textfont={"size": 14, "color": INK}, showlegend=False,
    )


def _sides(
    graph: WordGraph, side: int, column: float, shared: frozenset[tuple[int, int]], color: str, name: str
) -> list[Any]:
    """Arcs of one graph to one side, in one trace for each strength and for shared and unshared edges."""
    go = graph_objects("graph_figure")
    if not graph.n_edges:
        return []
    spans = np.abs(graph.edges[:, 1] - graph.edges[:, 0])
    bulge = (1 - column) * (0.12 + 0.88 * ((spans - 1) / max(len(graph.words) - 2, 1)) ** 0.75)
    alike = graph.n_edges > 1 and float(np.ptp(graph.weight)) == 0.0
    thirds = np.argsort(np.argsort(graph.weight, kind="stable"), kind="stable") * 3 // graph.n_edges
    if alike:
        thirds[:] = 1
    theta = np.linspace(0, np.pi, POINTS)
    groups: dict[tuple[bool, int], tuple[list[Any], list[Any]]] = {}
    hover_x, hover_y, hover_text = [], [], []
    for e, (i, j) in enumerate(graph.edges.tolist()):
        pair = (min(i, j), max(i, j))
        x = np.round(side * (column + bulge[e] * np.sin(theta)), 4).tolist()
        y = np.round(-(i + j) / 2 + (j - i) / 2 * np.cos(theta), 4).tolist()
        xs, ys = groups.setdefault((pair in shared, int(thirds[e])), ([], []))
        xs += [*x, None]
        ys += [*y, None]
        arrow = "→" if graph.directed else "–"
        text = (
            f"<b>{label(graph.words[i], 30)} {arrow} {label(graph.words[j], 30)}</b> (words {i + 1} and {j + 1})"
            + ("" if alike else f"<br>distance {graph.distance[e]:.4g}, strength {graph.weight[e]:.4g}")
            + ("<br>in both graphs" if pair in shared else "")
        )
        hover_x += x[HOVER]
        hover_y += y[HOVER]
        hover_text += [text] * len(x[HOVER])
    crowd = 1.0 if graph.n_edges <= CROWDED else 0.65
    traces = [
        go.Scatter(
            x=hover_x, y=hover_y, mode="markers", customdata=hover_text, hovertemplate="%{customdata}<extra></extra>",
            marker={"size": 8, "opacity": 0}, showlegend=False,
        )
    ]
    legend_seen: set[bool] = set()
    for (common, third), (xs, ys) in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])):
        traces.append(
            go.Scatter(
                x=xs, y=ys, mode="lines", hoverinfo="skip",
                line={"color": ORANGE if common else color, "width": WIDTHS[third] * crowd},
                opacity=1.0 if common else 0.5 + 0.25 * crowd, name="in both" if common else label(name, None),
                legendgroup="both" if common else f"{side}",
                showlegend=common not in legend_seen and not (common and side > 0 and shared),
            )
        )
        legend_seen.add(common)
    return traces


