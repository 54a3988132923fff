"""Quantities of a training run in small figures: a line a layer over the steps, or one state from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.plots._training_parts import (
    MOST_POINTS,
    Mark,
    Units,
    by_layer,
    called,
    layers_of,
    mean_over_last,
    plain,
    quantity_name,
    scale_of,
    shade,
    spread,
    tag,
    upright,
)
from infogeo_adapters.plots.style import BLUE, ORANGE, SMALL, capital, figure, graph_objects, label, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDE_RANGE = 50.0
"""Largest over smallest value above which an axis is logarithmic."""
LOG_SMALL = SMALL / 1.25
"""Of powers of ten, which plotly draws a quarter larger than other numbers of a font."""


def series_figure(
    history: TrainingHistory, name: str, *, marks: Sequence[Mark] = (), units: Units = "nats"
) -> go.Figure | None:
    """A quantity over the steps in a small figure, one line a layer; of a single record, layer by layer.

    Early layers are light, late ones dark. A layer with a finding is orange, with an upright line where it was first
    seen.

    Parameters
    ----------
    history : TrainingHistory
    name : str
    marks : sequence of Mark
        Findings about this quantity.
    units : {'nats', 'bits'}

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if there is no finite value, or only one number, which makes no figure.
    """
    graph_objects("series_figure")
    values = by_layer(history, name, units) if history.records else np.empty((0, 1))
    known = np.isfinite(values)
    if int(known.sum()) < 2:
        return None
    layers = layers_of(name, values.shape[1])
    flat = values[known]
    log = bool(flat.min() > 0 and flat.max() > WIDE_RANGE * flat.min())
    over_steps = len(np.flatnonzero(known.any(axis=1))) > 1
    if over_steps:
        traces = _lines(history, name, values, marks)
        steps = (float(history.steps[0]), float(history.steps[-1]))
        shapes, notes, rows = upright(marks, steps, pixels=300)
        room = 0.03 * max(steps[1] - steps[0], 1)
        axis: dict[str, Any] = {"title": {"text": "step"}, "nticks": 6, "range": [steps[0] - room, steps[1] + room]}
    else:
        record = int(np.flatnonzero(known.any(axis=1))[0])
        traces, notes = _profile(layers, values[record], marks)
        shapes, rows = [], 1
        word = "layer" if QUANTITIES[name].scope == "state" else "block"
        axis = {"title": {"text": word}, "dtick": max(1, math.ceil(len(layers) / 8)),
                "range": [layers[0] - 0.4, layers[-1] + 0.4]}
    shown = quantity_name(name, units)
    return figure(
        traces, title=capital(shown), caller="series_figure", height=240 + 18 * max(rows, 1), min_width=250,
        max_width=None, showlegend=False,
        summary=f"{capital(shown)}" + (f" over {plural(len(values), 'record')}" if over_steps else " by layer")
                + (f", with {plural(len(marks), 'finding')} marked." if marks else "."),
        margin={"t": 48 + 18 * max(rows, 1), "b": 34, "r": 12, "l": 6}, shapes=shapes, annotations=notes,
        xaxis={**axis, "fixedrange": True, "tickfont": {"size": SMALL}, "title_font": {"size": SMALL}},
        yaxis={"type": "log" if log else "linear", "fixedrange": True, "exponentformat": "power",
               "tickfont": {"size": LOG_SMALL if log else SMALL}, **_range(flat, log)},
    )


def _lines(history: TrainingHistory, name: str, values: FloatArray, marks: Sequence[Mark]) -> list[Any]:
    go = graph_objects("series_figure")
    scope = QUANTITIES[name].scope
    layers = layers_of(name, values.shape[1])
    found = {m.finding.block for m in marks}
    traces = []
    for k in sorted(range(len(layers)), key=lambda k: layers[k] in found):
        at = np.flatnonzero(np.isfinite(values[:, k]))
        at = at[spread(len(at), MOST_POINTS)]
        if not len(at):
            continue
        marked = scope != "model" and layers[k] in found
        color = BLUE if scope == "model" else ORANGE if marked else shade(k, len(layers))
        where = "" if scope == "model" else f"{'layer' if scope == 'state' else 'block'} {layers[k]}, "
        gap = bool(np.diff(at).max(initial=1) > 1) and len(values) <= MOST_POINTS
        whole = np.arange(at[0], at[-1] + 1) if gap else at
        traces.append(go.Scatter(
            x=[history.steps[i] for i in whole], y=plain(values[whole, k]), connectgaps=False,
            mode="lines+markers" if len(at) < 3 or gap else "lines", marker={"size": 4},
            line={"color": color, "width": 2.5 if marked else 1.5},
            hovertemplate=f"{where}step %{{x}}<br>%{{y:.4g}}<extra></extra>",
        ))
    return traces


def _profile(layers: list[int], values: FloatArray, marks: Sequence[Mark]) -> tuple[list[Any], list[Any]]:
    go = graph_objects("series_figure")
    named: dict[int, list[str]] = {}
    for mark in marks:
        if mark.finding.block is not None and mark.finding.block in layers:
            named.setdefault(mark.finding.block, []).append(mark.name)
    trace = go.Scatter(
        x=layers, y=plain(values), mode="lines+markers", line={"color": "#a9c4de", "width": 1.5},
        marker={"size": 8, "color": [ORANGE if layer in named else BLUE for layer in layers]},
        hovertemplate="layer %{x}<br>%{y:.4g}<extra></extra>",
    )
    notes = [
        {"x": layer, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 2, "text": called(names),
         "showarrow": False, **tag()} for layer, names in named.items()
    ]
    return [trace], notes


def _range(values: FloatArray, log: bool) -> dict[str, Any]:
    """A range for values that are all alike, which would be magnified to noise otherwise."""
    low, high = float(values.min()), float(values.max())
    if log:
        return {"dtick": max(1, math.ceil(math.log10(high / low) / 5))}
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return {"nticks": 5}
    half = max(abs(low), 1.0) / 2
    return {"range": [low - half, low + half], "nticks": 5}


def compared_figure(
    name: str, first: FloatArray, second: FloatArray, *, names: tuple[str, str], units: Units = "nats"
) -> go.Figure | None:
    """A quantity of two models from layer to layer in a small figure; of heads the mean over a block.

    Parameters
    ----------
    name : str
    first, second : array, shape (L + 1), (L) or (L, H)
        Of states, blocks or heads.
    names : tuple of str
    units : {'nats', 'bits'}

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if there is one value only, or no finite one.
    """
    go = graph_objects("compared_figure")
    scale = scale_of(name, units)
    both = [mean_over_last(np.asarray(v, np.float64) * scale) for v in (first, second)]
    flat = np.concatenate(both)
    flat = flat[np.isfinite(flat)]
    if both[0].size < 2 or not len(flat):
        return None
    layers = layers_of(name, both[0].size)
    log = bool(flat.min() > 0 and flat.max() > WIDE_RANGE * flat.min())
    looks = (("#8a949e", "dash", "circle-open"), (BLUE, "solid", "circle"))
    traces = [
        go.Scatter(
            x=layers, y=plain(values), mode="lines+markers", name=label(said, 40),
            line={"color": color, "width": 2, "dash": dash}, marker={"symbol": symbol, "size": 7},
            hovertemplate=f"{label(said, 40)}, layer %{{x}}<br>%{{y:.4g}}<extra></extra>",
        ) for values, said, (color, dash, symbol) in zip(both, names, looks, strict=True)
    ]
    word = "layer" if QUANTITIES[name].scope == "state" else "block"
    shown = quantity_name(name, units)
    return figure(
        traces, title=capital(shown), caller="compared_figure", height=250, min_width=250, max_width=None,
        summary=f"{capital(shown)} of both by {word}.", showlegend=False,
        margin={"t": 58, "b": 34, "r": 12, "l": 6},
        xaxis={"title": {"text": word}, "dtick": max(1, math.ceil(len(layers) / 8)), "fixedrange": True,
               "tickfont": {"size": SMALL}, "title_font": {"size": SMALL},
               "range": [layers[0] - 0.4, layers[-1] + 0.4]},
        yaxis={"type": "log" if log else "linear", "fixedrange": True, "exponentformat": "power",
               "tickfont": {"size": LOG_SMALL if log else SMALL}, **_range(flat, log)},
    )
