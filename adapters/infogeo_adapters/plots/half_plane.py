"""Univariate normals as points of the Fisher half-plane, with geodesics between neighbors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ShapeError, UnsupportedFamilyError
from infogeo.families import DiagonalGaussian
from infogeo.graphs import WordGraph
from infogeo.manifolds import half_plane
from infogeo.words import WordDistributions
from infogeo_adapters.plots.style import (
    BLUE,
    INK,
    MUTED,
    SMALL,
    figure,
    graph_objects,
    label,
    labels,
    plural,
    significant,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

POINTS = 33
"""Points that draw one geodesic."""
HEIGHT = 520
PLOT = (520, 400)
"""Pixels of the plotting area that label places are computed for."""
OFFSET = 6
"""Pixels that plotly keeps between a point of this size and its label."""
PLACES = (
    ("middle right", 1.0, 0.0), ("middle left", -1.0, 0.0), ("top center", 0.0, 1.0), ("bottom center", 0.0, -1.0),
    ("top right", 1.0, 1.0), ("bottom right", 1.0, -1.0), ("top left", -1.0, 1.0), ("bottom left", -1.0, -1.0),
)


def half_plane_figure(words: WordDistributions, graph: WordGraph | None = None) -> go.Figure:
    """Words as univariate normals (mean to the right, standard deviation upward) on the Fisher half-plane.

    The lines are geodesics of the Fisher information metric, ds² = (dμ² + 2 dσ²) / σ²: half ellipses that meet
    σ = 0 at right angles, of which neighbors see a short piece. Labels are placed where they overlap nothing; a word
    that finds no free place is named when it is pointed at.

    Parameters
    ----------
    words : WordDistributions
        Of univariate normals, as :func:`infogeo.estimation.component_normals` makes them.
    graph : WordGraph, optional
        The pairs to join by geodesics; none without it.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    UnsupportedFamilyError
        If the distributions are not univariate normals.
    ShapeError
        If the graph has other words.
    """
    normals = words.distribution
    if not isinstance(normals, DiagonalGaussian) or normals.mean.shape[-1] != 1:
        raise UnsupportedFamilyError(
            f"half_plane_figure draws univariate normals (DiagonalGaussian with d = 1), got "
            f"{type(normals).__name__}; make them with component_normals"
        )
    if graph is not None and graph.words != words.words:
        raise ShapeError("half_plane_figure: graph and distributions have different words; take both from one text")
    mean, std = normals.mean[:, 0], np.sqrt(normals.var[:, 0])
    go = graph_objects("half_plane_figure")
    traces: list[Any] = []
    n_edges = 0 if graph is None else graph.n_edges
    lines_x, lines_y = _geodesics(mean, std, graph) if graph is not None else ([], [])
    if graph is not None and n_edges:
        traces.append(go.Scatter(x=lines_x, y=lines_y, mode="lines", line={"color": BLUE, "width": 1.2}, opacity=0.55,
                                 hoverinfo="skip", showlegend=False))
    x_range, y_range = _range(mean, lines_x), _range(std, lines_y)
    texts, places = _placed(labels(words.words), mean, std, x_range, y_range)
    hover = [
        f"<b>{label(w, 60)}</b> (word {i + 1})<br>mean {mean[i]:.4g}<br>standard deviation {std[i]:.4g}"
        for i, w in enumerate(words.words)
    ]
    traces.append(
        go.Scatter(x=mean, y=std, mode="markers+text", text=texts, textposition=places, customdata=hover,
                   hovertemplate="%{customdata}<extra></extra>", showlegend=False,
                   marker={"size": 8, "color": INK, "line": {"width": 1, "color": "#ffffff"}},
                   textfont={"size": SMALL, "color": INK}, cliponaxis=False)
    )
    return figure(
        traces, title="Words as univariate normals on the Fisher half-plane",
        summary=(
            f"{plural(len(words.words), 'word')}, each at mean and standard deviation of its vector's components at "
            f"layer {words.layer}, with {plural(n_edges, 'geodesic')}."
        ),
        height=HEIGHT, min_width=PLOT[0] + 90, max_width=980, caller="half_plane_figure",
        margin={"t": 60, "b": 40, "r": 20},
        xaxis={"title": {"text": "mean μ of the vector's components"}, "range": list(x_range),
               "tickfont": {"color": MUTED}},
        yaxis={"title": {"text": "standard deviation σ"}, "range": list(y_range), "tickfont": {"color": MUTED}},
    )


def _geodesics(mean: FloatArray, std: FloatArray, graph: WordGraph) -> tuple[list[Any], list[Any]]:
    """Points on the geodesic of each edge, edges parted by None."""
    xs: list[Any] = []
    ys: list[Any] = []
    t = np.linspace(0.0, 1.0, POINTS)
    for i, j in graph.edges.tolist():
        start = np.asarray([mean[i], std[i]])
        end = np.asarray([mean[j], std[j]])
        line = half_plane.geodesic(start, end, t)
        xs += [*(significant(v, 6) for v in line[:, 0]), None]
        ys += [*(significant(v, 6) for v in line[:, 1]), None]
    return xs, ys


def _range(values: FloatArray, line: list[Any]) -> tuple[float, float]:
    known = np.asarray([*values.tolist(), *(v for v in line if v is not None)])
    low, high = float(known.min()), float(known.max())
    pad = 0.1 * (high - low) or 0.1 * max(abs(high), 1e-6)
    return low - pad, high + pad


def _placed(
    texts: list[str], x: FloatArray, y: FloatArray, x_range: tuple[float, float], y_range: tuple[float, float]
) -> tuple[list[str], list[str]]:
    """Labels and their places beside the points, so that no label lies on another label or on a foreign point.

    Greedy in order of crowding, least crowded words last to be refused; a label without a free place is left empty.
    """
    width, height = PLOT
    px = (x - x_range[0]) / (x_range[1] - x_range[0]) * width
    py = (y - y_range[0]) / (y_range[1] - y_range[0]) * height
    taken = [(px[i] - 5, px[i] + 5, py[i] - 5, py[i] + 5) for i in range(len(x))]
    owner = list(range(len(x)))
    shown, places = [""] * len(x), ["middle right"] * len(x)
    crowding = [int(np.sum(np.hypot(px - px[i], (py - py[i]) * 2) < 60)) for i in range(len(x))]
    for i in sorted(range(len(x)), key=lambda i: (crowding[i], i)):
        half, tall = len(_unescaped(texts[i])) * 3.7 + 2, 8.0
        for name, dx, dy in PLACES:
            center_x, center_y = px[i] + dx * (half + OFFSET), py[i] + dy * (SMALL / 2 + OFFSET)
            box = (center_x - half, center_x + half, center_y - tall, center_y + tall)
            inside = box[0] >= 0 and box[1] <= width and box[2] >= 0 and box[3] <= height
            if inside and not any(o != i and _overlap(box, b) for b, o in zip(taken, owner, strict=True)):
                shown[i], places[i] = texts[i], name
                taken.append(box)
                owner.append(i)
                break
    return shown, places


def _unescaped(text: str) -> str:
    """The letters that are seen."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return bool(a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3])
