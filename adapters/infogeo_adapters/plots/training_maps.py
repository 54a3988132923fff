"""A training run as colored cells: a quantity by layer and step, attention by head and step, with findings framed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.plots._training_parts import (
    MOST_COLUMNS,
    Mark,
    Units,
    by_layer,
    called,
    layers_of,
    nearest,
    plain,
    quantity_name,
    spread,
    tag,
)
from infogeo_adapters.plots.style import CLOSE, ORANGE, SMALL, capital, figure, graph_objects, label, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_HEADS = 160
"""Heads with a row of their own; of more, the mean over the heads of each block is drawn."""
UNKNOWN = "#dddddd"
"""The color of what was not measured."""


def layer_map_figure(
    history: TrainingHistory, name: str, *, marks: Sequence[Mark] = (), units: Units = "nats",
    ends: tuple[float, float] | None = None,
) -> go.Figure | None:
    """A quantity by layer and step as colored cells, with a frame around where a layer has a finding.

    Parameters
    ----------
    history : TrainingHistory
    name : str
        Of a quantity of states, blocks or heads (of which the mean over a block is drawn).
    marks : sequence of Mark
        Findings of a layer.
    units : {'nats', 'bits'}
    ends : tuple of float, optional
        Values at the ends of the color scale; the smallest and largest one if left out.

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if there are fewer than two records or no finite value.
    """
    go = graph_objects("layer_map_figure")
    at = spread(len(history.records), MOST_COLUMNS)
    if len(at) < 2:
        return None
    values = by_layer(history, name, units)[at].T
    if not np.isfinite(values).any():
        return None
    layers = layers_of(name, len(values))
    steps = [history.steps[k] for k in at]
    shown = quantity_name(name, units)
    row = max(9, min(30, 420 // len(layers)))
    word = "layer" if QUANTITIES[name].scope == "state" else "block"
    ticks = layers[:: max(1, math.ceil(len(layers) * 16 / (row * len(layers))))]
    shapes, notes = _frames(marks, layers, steps)
    low, high = ends or (float(np.nanmin(values)), float(np.nanmax(values)))
    trace = go.Heatmap(
        z=[plain(line) for line in values], x=list(range(len(steps))), y=layers, colorscale=_scale(), zmin=low,
        zmax=high if high > low else low + 1, xgap=0.5 if len(steps) < 60 else 0, ygap=1,
        customdata=[list(steps) for _ in layers], hoverongaps=False,
        hovertemplate=f"{word} %{{y}}, step %{{customdata}}<br>{label(shown, None)} %{{z:.4g}}<extra></extra>",
        colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"size": SMALL}, "nticks": 6},
    )
    return figure(
        [trace], title=capital(shown) + _unknown_note(values), caller="layer_map_figure",
        height=row * len(layers) + 144, min_width=360, max_width=1100,
        summary=f"{capital(shown)} of {plural(len(layers), word)} over {plural(len(steps), 'record')}; dark is much.",
        margin={"t": 68, "b": 44, "r": 6}, plot_bgcolor=UNKNOWN, shapes=shapes, annotations=notes,
        xaxis=_step_axis(steps),
        yaxis={"title": {"text": word}, "tickvals": ticks, "range": [layers[0] - 0.5, layers[-1] + 0.5],
               "showgrid": False, "fixedrange": True},
    )


def attention_map_figure(history: TrainingHistory, *, marks: Sequence[Mark] = ()) -> go.Figure | None:
    """Entropy of attention, as a share of the highest, by head and step; of a single record by block and head.

    Parameters
    ----------
    history : TrainingHistory
    marks : sequence of Mark
        Findings of a block, or of one of its heads.

    Returns
    -------
    plotly.graph_objects.Figure or None
        None if it was measured of no head, or of too many heads to draw (see :func:`layer_map_figure`).
    """
    heads = [(block + 1, h) for block, count in enumerate(history.facts.heads) for h in range(count)]
    if not heads or not history.has("attention_entropy"):
        return None
    if len(history.records) == 1:
        return _heads_of_one(history, marks)
    if len(heads) > MOST_HEADS:
        return layer_map_figure(history, "attention_entropy", marks=marks, ends=(0.0, 1.0))
    go = graph_objects("attention_map_figure")
    at = spread(len(history.records), MOST_COLUMNS)
    steps = [history.steps[k] for k in at]
    series = history.series("attention_entropy")[at]
    values = np.array([series[:, block - 1, h] for block, h in heads])
    row = max(5, min(16, 460 // len(heads)))
    starts = [k for k, (_, h) in enumerate(heads) if h == 0]
    ends = [*starts[1:], len(heads)]
    shapes, notes = _head_frames(marks, heads, steps)
    between = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": s - 0.5, "y1": s - 0.5,
                "line": {"color": "#ffffff", "width": 2}} for s in starts[1:]]
    trace = go.Heatmap(
        z=[plain(line) for line in values], x=list(range(len(steps))), y=list(range(len(heads))), colorscale=_scale(),
        zmin=0, zmax=1, hoverongaps=False,
        customdata=[[f"block {block}, head {h + 1}, step {s}" for s in steps] for block, h in heads],
        hovertemplate="%{customdata}<br>entropy %{z:.3f} of the highest<extra></extra>",
        colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"size": SMALL}, "nticks": 6},
    )
    return figure(
        [trace], title="Entropy of attention by head, share of the highest" + _unknown_note(values),
        caller="attention_map_figure", height=row * len(heads) + 144, min_width=400, max_width=1100,
        summary=f"Entropy of attention of {plural(len(heads), 'head')} over {plural(len(steps), 'record')}; dark is "
                "evenly spread.",
        margin={"t": 68, "b": 44, "r": 6}, plot_bgcolor=UNKNOWN, shapes=[*between, *shapes], annotations=notes,
        xaxis=_step_axis(steps),
        yaxis={"title": {"text": "block, its heads upwards"}, "showgrid": False, "fixedrange": True,
               "tickvals": [(s + e - 1) / 2 for s, e in zip(starts, ends, strict=True)],
               "ticktext": [str(heads[s][0]) for s in starts], "range": [-0.5, len(heads) - 0.5]},
    )


def _heads_of_one(history: TrainingHistory, marks: Sequence[Mark]) -> go.Figure:
    go = graph_objects("attention_map_figure")
    values = history.series("attention_entropy")[0]
    blocks, heads = [*range(1, values.shape[0] + 1)], [*range(1, values.shape[1] + 1)]
    frames: dict[tuple[int, int | None], list[str]] = {}
    for mark in marks:
        if mark.finding.block:
            frames.setdefault((mark.finding.block, mark.finding.head), []).append(mark.name)
    shapes, notes = [], []
    for (block, head), names in frames.items():
        left, right = (0.5, len(heads) + 0.5) if head is None else (head - 0.5, head + 0.5)
        shapes.append(_frame(left, right, block - 0.5, block + 0.5))
        notes.append({"x": left, "y": block, "text": called(names), "showarrow": False, "xanchor": "left", **tag()})
    row = max(10, min(34, 420 // len(blocks)))
    numbers = values.size <= 96
    trace = go.Heatmap(
        z=[plain(line) for line in values], x=heads, y=blocks, colorscale=_scale(), zmin=0, zmax=1, xgap=1, ygap=1,
        texttemplate="%{z:.2f}" if numbers else None, textfont={"size": SMALL}, hoverongaps=False,
        hovertemplate="block %{y}, head %{x}<br>entropy %{z:.3f} of the highest<extra></extra>",
        colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"size": SMALL}, "nticks": 6},
    )
    return figure(
        [trace], title="Entropy of attention by head, share of the highest" + _unknown_note(values),
        caller="attention_map_figure", height=row * len(blocks) + 144, min_width=360,
        max_width=min(1100, max(420, 70 * len(heads) + 140)),
        summary=f"Entropy of attention of the heads of {plural(len(blocks), 'block')}; dark is evenly spread.",
        margin={"t": 68, "b": 44, "r": 6}, plot_bgcolor=UNKNOWN, shapes=shapes, annotations=notes,
        xaxis={"title": {"text": "head"}, "dtick": max(1, len(heads) // 12), "showgrid": False, "fixedrange": True},
        yaxis={"title": {"text": "block"}, "dtick": max(1, math.ceil(16 / row)), "showgrid": False,
               "fixedrange": True},
    )


def _frames(
    marks: Sequence[Mark], layers: Sequence[int], steps: Sequence[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Frames around the layers and steps of findings; those of one layer share a frame."""
    found: dict[int, list[Mark]] = {}
    for mark in marks:
        if mark.finding.block is not None and mark.finding.block in layers:
            found.setdefault(mark.finding.block, []).append(mark)
    shapes, notes = [], []
    for layer, here in found.items():
        left, right = _reach(here, steps)
        shapes.append(_frame(left, right, layer - 0.5, layer + 0.5))
        notes.append({"x": left, "y": layer, "text": called([m.name for m in here]), "showarrow": False,
                      "xanchor": "left", "xshift": 2, **tag()})
    return shapes, notes


def _head_frames(
    marks: Sequence[Mark], heads: Sequence[tuple[int, int]], steps: Sequence[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found: dict[tuple[int, int | None], list[Mark]] = {}
    for mark in marks:
        if mark.finding.block:
            found.setdefault((mark.finding.block, mark.finding.head), []).append(mark)
    shapes, notes = [], []
    for (block, head), here in found.items():
        rows = [k for k, (b, h) in enumerate(heads) if b == block and head in (None, h + 1)]
        if not rows:
            continue
        left, right = _reach(here, steps)
        shapes.append(_frame(left, right, rows[0] - 0.5, rows[-1] + 0.5))
        notes.append({"x": left, "y": (rows[0] + rows[-1]) / 2, "text": called([m.name for m in here]),
                      "showarrow": False, "xanchor": "left", "xshift": 2, **tag()})
    return shapes, notes


def _reach(marks: Sequence[Mark], steps: Sequence[int]) -> tuple[float, float]:
    """From the column before which a finding was first seen to that after which it was last seen."""
    every = np.array(steps)
    known = np.ones(len(every), np.bool_)
    first = min(nearest(every, m.finding.first_step, known) for m in marks)
    last = max(nearest(every, m.finding.last_step, known) for m in marks)
    return first - 0.5, max(first, last) + 0.5


def _frame(left: float, right: float, low: float, high: float) -> dict[str, Any]:
    return {"type": "rect", "x0": left, "x1": right, "y0": low, "y1": high, "line": {"color": ORANGE, "width": 2.5}}


def _unknown_note(values: FloatArray) -> str:
    return "" if np.isfinite(values).all() else " (gray: not measured)"


def _step_axis(steps: Sequence[int]) -> dict[str, Any]:
    """An axis of records that names some of their steps."""
    at = spread(len(steps), 6)
    return {"title": {"text": "step of the record"}, "tickvals": at.tolist(), "ticktext": [str(steps[k]) for k in at],
            "range": [-0.5, len(steps) - 0.5], "showgrid": False, "fixedrange": True}


def _scale() -> list[list[Any]]:
    return [[place, color] for place, color in CLOSE]
