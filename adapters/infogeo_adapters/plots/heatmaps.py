"""Matrices as colored cells: distances, attention, agreement by layer and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, ShapeError
from infogeo.words import DistanceMatrix
from infogeo_adapters.plots.style import (
    CLOSE,
    DIVERGING,
    FAR,
    FONT_SIZE,
    SMALL,
    capital,
    figure,
    graph_objects,
    label,
    labels,
    plural,
    readable,
    significant,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOW_VALUES = 14
"""Up to so many words the numbers stand in the cells."""
NAMED = 120
"""Up to so many words a cell names its two words when pointed at; beyond, it gives their numbers: pages stay small."""


def distance_figure(distances: DistanceMatrix) -> go.Figure:
    """Distances between all words, dark = close; the zero diagonal is left blank.

    Parameters
    ----------
    distances : DistanceMatrix

    Returns
    -------
    plotly.graph_objects.Figure
    """
    values = distances.values.copy()
    np.fill_diagonal(values, np.nan)
    name = readable(distances.measure)
    order = "row to column" if not distances.symmetric else "between"
    return _word_matrix(
        values, distances.words, arrow="–" if distances.symmetric else "→", title=f"{capital(name)} between words",
        summary=f"{name} {order} each two of {plural(len(distances.words), 'word')}; dark is close.",
        bar=name, scale=FAR, caller="distance_figure", y_title="word", x_title="word",
    )


def attention_figure(affinities: Sequence[AffinityMatrix]) -> go.Figure:
    """Attention between all words, dark = much; a menu chooses among several matrices.

    Parameters
    ----------
    affinities : sequence of AffinityMatrix
        The first is shown at once, the others by the menu.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If there is none.
    ShapeError
        If they belong to different words.
    """
    if not affinities:
        raise ArgumentError("attention_figure needs at least one AffinityMatrix, got none")
    first = affinities[0]
    if any(a.words != first.words for a in affinities):
        raise ShapeError("attention_figure: the matrices belong to different words; take all from one text")
    menu = [
        {"label": label(a.name, 40), "method": "restyle",
         "args": [{"z": [_rounded(a.values)], "zmax": [_top(a.values)]}]}
        for a in affinities
    ]
    return _word_matrix(
        first.values, first.words, arrow="→", title="Attention between words", bar="attention weight",
        summary=(
            f"Attention that each of {plural(len(first.words), 'word')} (row) pays to each (column), {first.name}; "
            "dark is much."
        ),
        scale=CLOSE, caller="attention_figure", y_title="word that looks", x_title="word looked at",
        menu=menu if len(menu) > 1 else None, zmin=0.0, zmax=_top(first.values),
    )


def agreement_figure(
    values: FloatArray, *, blocks: Sequence[int], layer: int, average: FloatArray, statistic: str, x_name: str
) -> go.Figure:
    """Agreement of the distances with each attention head, block by block; a menu chooses the layer of the distances.

    Parameters
    ----------
    values : array, shape (L + 1, A, H)
        The statistic for the distances at each layer, against each head of the A blocks.
    blocks : sequence of int
        Numbers of the A blocks, counted from 1.
    layer : int
        The layer shown at once.
    average : array, shape (L + 1, A)
        The statistic against the mean of each block's heads, shown as a column of its own.
    statistic : str
        Its name, for the color bar.
    x_name : str
        What the distances are, for the title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    n_layers, n_blocks, n_heads = values.shape
    if average.shape != (n_layers, n_blocks) or len(blocks) != n_blocks:
        raise ShapeError(
            f"agreement_figure: values have shape {values.shape}, so average must be {(n_layers, n_blocks)} and blocks "
            f"{n_blocks} numbers; found {average.shape} and {len(blocks)}"
        )
    tables = [np.concatenate([values[i], np.full((n_blocks, 1), np.nan), average[i][:, None]], axis=1)
              for i in range(n_layers)]
    places = [*range(n_heads), n_heads + 1]
    heads = [*(f"{h + 1}" for h in range(n_heads)), "mean"]
    limit = _limit(np.concatenate([values.ravel(), average.ravel()]))
    menu = [
        {"label": f"distances at layer {i}{' (embedding)' if i == 0 else ''}", "method": "restyle",
         "args": [{"z": [_rounded(t)]}]}
        for i, t in enumerate(tables)
    ]
    go = graph_objects("agreement_figure")
    trace = go.Heatmap(
        z=_rounded(tables[layer]), x=list(range(n_heads + 2)), y=list(range(n_blocks)), colorscale=list(DIVERGING),
        zmin=-limit, zmax=limit, xgap=1, ygap=1, texttemplate="%{z:.2f}", textfont={"size": SMALL},
        customdata=[[f"block {b}, {'mean of its heads' if h == n_heads + 1 else f'head {h + 1}'}"
                     for h in range(n_heads + 2)] for b in blocks],
        hovertemplate="%{customdata}<br>" + label(statistic, None) + " %{z:.3f}<extra></extra>", hoverongaps=False,
        colorbar=_bar(statistic),
    )
    return figure(
        [trace], title=f"Agreement of {x_name} with each attention head",
        summary=f"{statistic} for {plural(n_blocks, 'block')} of {plural(n_heads, 'head')}; purple is agreement.",
        height=34 * n_blocks + 190, min_width=46 * (n_heads + 2) + 150, max_width=90 * (n_heads + 2) + 250,
        caller="agreement_figure", margin={"t": 110, "b": 50},
        xaxis={"tickvals": places, "ticktext": heads, "showgrid": False,
               "title": {"text": "attention head"}},
        yaxis={"tickvals": list(range(n_blocks)), "ticktext": [str(b) for b in blocks], "showgrid": False,
               "title": {"text": "block"}},
        updatemenus=[_menu(menu, active=layer)],
    )


def layer_agreement_figure(average: FloatArray, *, blocks: Sequence[int], statistic: str, x_name: str) -> go.Figure:
    """Agreement of the distances at each layer with the mean attention of each block.

    Parameters
    ----------
    average : array, shape (L + 1, A)
    blocks : sequence of int
        Numbers of the A blocks, counted from 1.
    statistic, x_name : str
        Names for the color bar and the title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    n_layers, n_blocks = average.shape
    limit = _limit(average)
    go = graph_objects("layer_agreement_figure")
    trace = go.Heatmap(
        z=_rounded(average), x=list(range(n_blocks)), y=list(range(n_layers)), colorscale=list(DIVERGING),
        zmin=-limit, zmax=limit, xgap=1, ygap=1, texttemplate="%{z:.2f}", textfont={"size": SMALL},
        customdata=[[f"distances at layer {i}, attention of block {b}" for b in blocks] for i in range(n_layers)],
        hovertemplate="%{customdata}<br>" + label(statistic, None) + " %{z:.3f}<extra></extra>", hoverongaps=False,
        colorbar=_bar(statistic),
    )
    return figure(
        [trace], title=f"Agreement of {x_name} with the mean attention of each block, layer by layer",
        summary=f"{statistic}, {plural(n_layers, 'layer')} against {plural(n_blocks, 'block')}; purple is agreement.",
        height=34 * n_layers + 150, min_width=46 * n_blocks + 170, max_width=90 * n_blocks + 250,
        caller="layer_agreement_figure", margin={"t": 60, "b": 50},
        xaxis={"tickvals": list(range(n_blocks)), "ticktext": [str(b) for b in blocks], "showgrid": False,
               "title": {"text": "block of the attention"}},
        yaxis={"tickvals": list(range(n_layers)), "ticktext": [str(i) for i in range(n_layers)], "showgrid": False,
               "title": {"text": "layer of the distances"}},
    )


def _word_matrix(
    values: FloatArray, words: tuple[str, ...], *, arrow: str, title: str, summary: str, bar: str,
    scale: Sequence[tuple[float, str]], caller: str, x_title: str, y_title: str,
    menu: list[dict[str, Any]] | None = None,
    **color: float,
) -> go.Figure:
    go = graph_objects(caller)
    n = len(words)
    few = n <= SHOW_VALUES
    cell = 44 if few else 24 if n <= 40 else 16
    places = list(range(1, n + 1))
    pair = "%{customdata}" if n <= NAMED else f"words %{{y}} {arrow} %{{x}}"
    longest = max(len(w) for w in labels(words))
    trace = go.Heatmap(
        z=values.astype(np.float32), x=places, y=places, colorscale=list(scale),
        customdata=_pairs(words, arrow) if n <= NAMED else None,
        hovertemplate=pair + "<br>" + label(bar, None) + " %{z:.4g}<extra></extra>",
        hoverongaps=False, xgap=1, ygap=1, colorbar=_bar(bar),
        texttemplate="%{z:.2f}" if few else None, textfont={"size": SMALL}, **color,
    )
    ticks = {"tickvals": places, "ticktext": labels(words), "showgrid": False, "range": [0.5, n + 0.5]}
    return figure(
        [trace], title=title, summary=summary, height=(34 if few else cell) * n + 7 * longest + 170,
        min_width=cell * n + 7 * longest + 150, max_width=int(cell * n * 1.7) + 7 * longest + 200, caller=caller,
        margin={"t": 110 if menu else 60, "b": 40},
        xaxis={**ticks, "tickangle": -60, "title": {"text": x_title}},
        yaxis={**ticks, "range": [n + 0.5, 0.5], "title": {"text": y_title}},
        updatemenus=[_menu(menu, active=0)] if menu else [],
    )


def _pairs(words: tuple[str, ...], arrow: str) -> list[list[str]]:
    shown = [f"{label(w, 30)}" for w in words]
    return [
        [f"<b>{shown[i]} {arrow} {shown[j]}</b> (words {i + 1} and {j + 1})" for j in range(len(words))]
        for i in range(len(words))
    ]


def _bar(title: str) -> dict[str, Any]:
    return {"title": {"text": label(title, None), "side": "top", "font": {"size": SMALL}}, "thickness": 14,
            "tickfont": {"size": SMALL}, "outlinewidth": 0}


def _menu(buttons: Sequence[Mapping[str, Any]], *, active: int) -> dict[str, Any]:
    return {"buttons": list(buttons), "active": active, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
            "pad": {"b": 8}, "font": {"size": FONT_SIZE}, "bgcolor": "#ffffff", "showactive": True}


def _rounded(values: FloatArray) -> list[list[float | None]]:
    return [[None if np.isnan(v) else significant(v) for v in row] for row in np.asarray(values).tolist()]


def _limit(values: FloatArray) -> float:
    """The largest size, rounded up to a tenth, so that zero is the middle of the colors."""
    known = values[~np.isnan(values)]
    return max(0.1, float(np.ceil(np.abs(known).max() * 10) / 10)) if known.size else 1.0


def _top(values: FloatArray) -> float:
    largest = float(values.max(initial=0.0))
    return significant(largest) if largest > 0 else 1.0
