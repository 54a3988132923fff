"""A training run in pictures: losses over the steps, and the information plane over time, with findings marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.training import TrainingHistory
from infogeo_adapters.plots._training_parts import (
    MOST_POINTS,
    Mark,
    Units,
    by_layer,
    called,
    layer_words,
    nearest,
    plain,
    scale_of,
    shades,
    spread,
    tag,
    upright,
)
from infogeo_adapters.plots.style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, SMALL, figure, graph_objects, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_PATHS = 13
"""Layers with a path of their own on the information plane; of more, evenly spread ones and some with a finding."""
MOST_MARKED = 6
"""Layers with a finding among them, those of the first findings."""
MOST_DOTS = 400
"""Dots on the plane; of more records, evenly spread ones."""


def loss_figure(history: TrainingHistory, *, marks: Sequence[Mark] = (), units: Units = "nats") -> go.Figure | None:
    """Losses over the steps, with an upright line where each finding was first seen.

    Parameters
    ----------
    history : TrainingHistory
    marks : sequence of Mark
    units : {'nats', 'bits'}

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if there are fewer than two losses.
    """
    go = graph_objects("loss_figure")
    scale = scale_of("loss", units)
    traces, most = [], 0
    steps = np.array(history.steps, np.float64)
    each = history.losses[np.isfinite(history.losses[:, 1])]
    if len(each) > 1:
        at = spread(len(each), 4 * MOST_POINTS)
        most = len(at)
        traces.append(go.Scatter(
            x=each[at, 0].tolist(), y=plain(each[at, 1] * scale), mode="lines", name="each step",
            line={"color": "#a9c4de", "width": 1}, hovertemplate="step %{x}<br>loss %{y:.4g}<extra></extra>",
        ))
    for name, said, color, symbol, dash in (
        ("loss", "mean since the last record", BLUE, "circle", "solid"),
        ("probe_loss", "probe batch", GREEN, "square", "solid"),
        ("target_entropy", "entropy of the targets", MUTED, "line-ew", "dash"),
    ):
        values = by_layer(history, name, units)[:, 0] if len(steps) else np.empty(0)
        known = np.flatnonzero(np.isfinite(values))
        known = known[spread(len(known), MOST_POINTS)]
        if not len(known) or (name == "target_entropy" and len(known) < 2):
            continue
        most = max(most, len(known))
        drawn = "lines" if name == "target_entropy" or len(known) > 60 else "lines+markers"
        traces.append(go.Scatter(
            x=steps[known].tolist(), y=plain(values[known]), mode=drawn, name=said,
            line={"color": color, "width": 2, "dash": dash}, marker={"symbol": symbol, "size": 7},
            hovertemplate=f"step %{{x}}<br>{said} %{{y:.4g}}<extra></extra>",
        ))
    if most < 2:
        return None
    lines, notes, rows = upright(marks, (float(min(min(t.x) for t in traces)), float(max(max(t.x) for t in traces))))
    return figure(
        traces, title="Loss", caller="loss_figure", height=400 + 20 * rows, min_width=420, max_width=None,
        summary=f"Loss over {plural(len(history.records), 'record')}, with {plural(len(marks), 'finding')} marked.",
        margin={"t": 66 + 20 * rows, "b": 74, "r": 20}, shapes=lines, annotations=notes, showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": {"size": SMALL}},
        xaxis={"title": {"text": "step"}, "fixedrange": True},
        yaxis={"title": {"text": f"loss, {units}"}, "fixedrange": True, "nticks": 7},
    )


def training_plane_figure(
    history: TrainingHistory, *, marks: Sequence[Mark] = (), units: Units = "nats"
) -> go.Figure | None:
    """The information plane over time: a path for each layer, from early steps (light) to late ones (dark).

    Of a single record the path goes through the layers. A layer with a finding has an orange path, and a ring with the
    number of the finding where it was first seen.

    Parameters
    ----------
    history : TrainingHistory
    marks : sequence of Mark
    units : {'nats', 'bits'}

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if no layer has both numbers.
    """
    graph_objects("training_plane_figure")
    if not history.records:
        return None
    x, y = by_layer(history, "input_information", units), by_layer(history, "target_information", units)
    known = np.isfinite(x) & np.isfinite(y)
    places = np.flatnonzero(known.any(axis=0))
    if not len(places):
        return None
    marked = {layer for mark in marks if (layer := mark.finding.block) is not None}
    if len(places) > MOST_PATHS:
        of_findings = [p for p in dict.fromkeys(mark.finding.block for mark in marks) if p in places][:MOST_MARKED]
        places = np.array(sorted({*places[spread(len(places), MOST_PATHS - len(of_findings))].tolist(), *of_findings}))
    single = len(history.records) == 1
    if single:
        traces, notes = _plane_of_one(x[0], y[0], places, marked, history)
    else:
        traces, notes = _plane_paths(x, y, known, places, marks, history)
    return figure(
        traces, title="Information plane" + ("" if single else " over time"), caller="training_plane_figure",
        summary=f"Information about the input and about the target at {plural(len(places), 'layer')}"
                + ("." if single else f", over {plural(len(history.records), 'record')}."),
        height=520, min_width=440, max_width=900, margin={"t": 60, "b": 44, "r": 20}, annotations=notes,
        showlegend=False,
        xaxis={"title": {"text": f"information about the input, {units}"}, "fixedrange": True, "nticks": 7},
        yaxis={"title": {"text": f"information about the target, {units}"}, "fixedrange": True, "nticks": 7},
    )


def _plane_of_one(
    x: FloatArray, y: FloatArray, places: Any, marked: set[int], history: TrainingHistory
) -> tuple[list[Any], list[Any]]:
    go = graph_objects("training_plane_figure")
    names = [str(p) for p in places]
    if len(places) > MOST_PATHS + len(marked):
        names = [name if k in (0, len(names) - 1) else "" for k, name in enumerate(names)]
    colors = [ORANGE if p in marked else BLUE for p in places]
    trace = go.Scatter(
        x=plain(x[places]), y=plain(y[places]), mode="lines+markers+text", text=names, textposition="top center",
        line={"color": GRID, "width": 2}, marker={"size": 10, "color": colors},
        customdata=[f"{layer_words(int(p))}" for p in places], cliponaxis=False,
        hovertemplate="%{customdata}<br>input %{x:.4g}<br>target %{y:.4g}<extra></extra>",
    )
    return [trace], []


def _plane_paths(
    x: FloatArray, y: FloatArray, known: Any, places: Any, marks: Sequence[Mark], history: TrainingHistory
) -> tuple[list[Any], list[Any]]:
    go = graph_objects("training_plane_figure")
    steps = np.array(history.steps)
    marked = {m.finding.block for m in marks}
    traces: list[Any] = []
    notes: list[Any] = []
    ends: list[tuple[float, float, Any]] = []
    for k, p in enumerate(places.tolist()):
        at = np.flatnonzero(known[:, p])
        at = at[spread(len(at), max(MOST_DOTS // len(places), 12))]
        found = p in marked
        bar = {"title": {"text": "step", "side": "top", "font": {"size": SMALL}}, "thickness": 14, "outlinewidth": 0,
               "tickfont": {"size": SMALL}}
        traces.append(go.Scatter(
            x=plain(x[at, p]), y=plain(y[at, p]), mode="lines+markers",
            line={"color": ORANGE if found else "#c3cad1", "width": 2 if found else 1},
            marker={"size": 7, "color": steps[at].tolist(), "colorscale": shades(), "cmin": int(steps[0]),
                    "cmax": int(steps[-1]), "showscale": k == 0,
                    "colorbar": bar if k == 0 else None, "line": {"width": 0.5, "color": "#ffffff"}},
            customdata=[f"{layer_words(p)}, step {s}" for s in steps[at].tolist()],
            hovertemplate="%{customdata}<br>input %{x:.4g}<br>target %{y:.4g}<extra></extra>",
        ))
        ends.append((float(x[at[-1], p]), float(y[at[-1], p]), p))
    room = (0.04 * float(np.ptp(x[known])), 0.05 * float(np.ptp(y[known])))
    for group in _near(ends, room):
        found = any(p in marked for _, _, p in group)
        notes.append({"x": group[0][0], "y": group[0][1], "text": f"<b>{', '.join(str(p) for _, _, p in group)}</b>",
                      "showarrow": False, "xanchor": "left", "xshift": 9, "yshift": 12,
                      "bgcolor": "rgba(255, 255, 255, 0.7)",
                      "font": {"size": SMALL, "color": ORANGE if found else INK}})
    rings = []
    for mark in marks:
        block = mark.finding.block
        if block is not None and block in places:
            record = nearest(steps, mark.finding.first_step, known[:, block])
            rings.append((float(x[record, block]), float(y[record, block]), mark.name))
    if rings:
        traces.append(go.Scatter(
            x=[at for at, _, _ in rings], y=[at for _, at, _ in rings], mode="markers",
            marker={"symbol": "circle-open", "size": 17, "color": ORANGE, "line": {"width": 2.5}}, hoverinfo="skip",
        ))
        notes += [
            {"x": group[0][0], "y": group[0][1], "text": called([name for _, _, name in group]), "showarrow": False,
             "xanchor": "right", "xshift": -8, "yshift": 14, **tag()} for group in _near(rings, room)
        ]
    return traces, notes


_Point = tuple[float, float, Any]
"""Where something stands, and its name."""


def _near(points: Sequence[_Point], room: tuple[float, float]) -> list[list[_Point]]:
    """Points in groups whose members are so near to the first one that their labels would overlap."""
    groups: list[list[_Point]] = []
    for point in points:
        near = (g for g in groups if abs(g[0][0] - point[0]) <= room[0] and abs(g[0][1] - point[1]) <= room[1])
        group = next(near, None)
        if group is None:
            groups.append([point])
        else:
            group.append(point)
    return groups
