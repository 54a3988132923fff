"""The information plane and words on it, as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError
from infogeo.information_planes import InformationPath, InformationPlane
from infogeo_adapters.information_plane import Quantity, WordsOnPlane
from infogeo_adapters.plots.style import (
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

FAINT = "rgba(89,99,110,0.45)"
BY_LAYER = ((0.0, "#f0d9a8"), (0.25, "#e59b57"), (0.5, "#c4536a"), (0.75, "#7b3a86"), (1.0, "#26235c"))
"""Light to dark, so that the order of layers reads in print and without color vision."""
AXES: dict[str, str] = {
    "entropy": "entropy of the prediction", "surprisal": "surprisal of the token that follows",
    "information": "information about the predicted token", "geodesic": "geodesic from the embedding (radians)",
    "path": "length of the path through the layers (radians)",
}


def information_plane_figure(plane: InformationPlane | InformationPath) -> go.Figure:
    """The plane of I(X; T) and I(T; Y) with the path through the layers, intervals as bars; a panel for each model.

    Without a target the layers are the horizontal axis. Dashed lines are the plug-in entropies of the labels where they
    lie near: the true information is at most the true entropy.

    Parameters
    ----------
    plane : InformationPlane or InformationPath

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If something else is given.
    """
    if not isinstance(plane, InformationPlane | InformationPath):
        raise ArgumentError(f"plane: found {type(plane).__name__}, wanted an InformationPlane or InformationPath")
    planes = plane.planes if isinstance(plane, InformationPath) else (plane,)
    first = planes[0]
    columns = min(3, len(planes))
    rows = -(-len(planes) // columns)
    traces: list[Any] = []
    notes: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    x_title = "layer" if first.output_name is None else f"I({first.input_name}; T), {first.unit}"
    y_title = f"I({first.input_name}; T), {first.unit}" if first.output_name is None else (
        f"I(T; {first.output_name}), {first.unit}")
    for which, p in enumerate(planes):
        end = "" if which == 0 else str(which + 1)
        column, row = which % columns, which // columns
        wide, high = (1 - 0.08 * (columns - 1)) / columns, (1 - 0.2 * (rows - 1)) / rows
        left, top = column * (wide + 0.08), 1 - row * (high + 0.2)
        traces += _one_plane(p, end, (700 * wide, 400 if rows == 1 else 230), showscale=which == 0)
        more_shapes, more_notes = _entropies(p, end)
        shapes += more_shapes
        notes += more_notes
        layout[f"xaxis{end}"] = {"domain": [left, min(left + wide, 1)], "anchor": f"y{end}", "nticks": 6,
                                 "title": {"text": label(x_title, None) if row == rows - 1 or which + columns >= len(
                                     planes) else ""}}
        layout[f"yaxis{end}"] = {"domain": [max(top - high, 0), top], "anchor": f"x{end}", "nticks": 6,
                                 "title": {"text": label(y_title, None) if column == 0 else ""}}
        if len(planes) > 1:
            notes.append({"x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
                          "showarrow": False, "text": f"<b>{label(p.name, 30)}</b>", "font": {"size": SMALL}})
    what = f"{first.estimator}; n = {first.n}; noise: {first.noise}"
    if len(planes) > 1:
        what += "; each panel has its own range"
    return figure(
        traces, title="Information plane, layer by layer", caller="information_plane_figure",
        summary=f"{plural(len(first.layers), 'layer')} of {plural(len(planes), 'model')}: {first.meaning}.",
        height=520 if rows == 1 and columns == 1 else 140 + 300 * rows, min_width=(480, 720, 900)[columns - 1],
        max_width=(900, 1100, 1300)[columns - 1], margin={"t": 92 if len(planes) == 1 else 110, "b": 40, "r": 30},
        annotations=[*notes, caption(what, 6 if len(planes) == 1 else 24)], shapes=shapes, **layout,
    )


def _one_plane(p: InformationPlane, end: str, pixels: tuple[float, float], *, showscale: bool) -> list[Any]:
    go = graph_objects("information_plane_figure")
    output = p.output_information
    x, y = (np.asarray(p.layers, dtype=float), p.input_information) if output is None else (p.input_information, output)
    bars_x, bars_y = (None, p.input_interval) if output is None else (p.input_interval, p.output_interval)
    depth = max(p.layers) or 1
    axes = {"xaxis": f"x{end}", "yaxis": f"y{end}", "showlegend": False}
    return [
        go.Scatter(x=rounded_values(x), y=rounded_values(y), mode="lines", hoverinfo="skip", **axes,
                   line={"color": FAINT, "width": 1.5}),
        go.Scatter(
            x=rounded_values(x), y=rounded_values(y), mode="markers+text", text=[str(i) for i in p.layers],
            textposition=_beside(x, y, bars_x, bars_y, pixels), textfont={"size": SMALL, "color": INK},
            error_x=_bars(x, bars_x), error_y=_bars(y, bars_y),
            customdata=_plane_hover(p), hovertemplate="%{customdata}<extra></extra>", **axes,
            marker={"color": list(p.layers), "colorscale": list(BY_LAYER), "cmin": 0, "cmax": depth, "size": 10,
                    "line": {"color": INK, "width": 0.8}, "showscale": showscale and output is not None,
                    "colorbar": color_bar("layer", {"tickvals": _layer_ticks(depth)})},
        ),
    ]


PLACES = {"top right": (11, 11), "top left": (-11, 11), "bottom right": (11, -11), "bottom left": (-11, -11),
          "middle right": (15, 0), "middle left": (-15, 0), "top center": (0, 15), "bottom center": (0, -15)}
"""Where a number may stand beside its point, and the pixels from one to the other."""


def _beside(
    x: FloatArray, y: FloatArray, bars_x: FloatArray | None, bars_y: FloatArray | None, pixels: tuple[float, float]
) -> list[str]:
    """For each point the first place of its number that is free, or the one farthest from other points and numbers."""
    at = np.empty((len(x), 2))
    for axis, (values, bars, size) in enumerate(zip((x, y), (bars_x, bars_y), pixels, strict=True)):
        ends = values if bars is None else bars
        at[:, axis] = values / max(float(np.ptp(ends)), 1e-12) * size
    places, numbers = list(PLACES), np.empty((0, 2))
    chosen = []
    for i, point in enumerate(at):
        others = np.vstack([np.delete(at, i, axis=0), numbers])
        free = [14.0 if not len(others) else min(14.0, float(np.hypot(*(others - point - PLACES[place]).T).min()))
                for place in places]
        best = int(np.argmax(free))
        chosen.append(places[best])
        numbers = np.vstack([numbers, point + PLACES[places[best]]])
    return chosen


def _layer_ticks(depth: int) -> list[int]:
    return list(range(depth + 1)) if depth < 14 else [0, depth // 2, depth]


def words_plane_figure(
    words: WordsOnPlane, *, x: Quantity = "path", y: Quantity = "information", layers: tuple[int, ...] | None = None
) -> go.Figure:
    """The words of a text at two of their quantities, with a path through the layers for each; the last is named.

    Parameters
    ----------
    words : WordsOnPlane
    x, y : str
        Names of quantities: entropy, surprisal, information, geodesic or path.
    layers : tuple of int, optional
        The layers drawn, all by default.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If a quantity or layer does not exist, or ``words`` is something else.
    """
    if not isinstance(words, WordsOnPlane):
        raise ArgumentError(f"words: found {type(words).__name__}, wanted what words_on_plane returns")
    across, up = words.quantity(x), words.quantity(y)
    chosen = tuple(range(len(up))) if layers is None else tuple(layers)
    if not chosen or any(not 0 <= i < len(up) for i in chosen):
        raise ArgumentError(f"layers: found {chosen}, wanted some of 0 to {len(up) - 1}")
    go = graph_objects("words_plane_figure")
    rows = list(chosen)
    xs, ys, hover, colors = [], [], [], []
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for w, word in enumerate(words.words):
        line_x += [*rounded_values(across[rows, w]), None]
        line_y += [*rounded_values(up[rows, w]), None]
        for i in rows:
            xs.append(significant(float(across[i, w])))
            ys.append(significant(float(up[i, w])))
            colors.append(i)
            hover.append(f"<b>{label(word, 40)}</b> (word {w + 1}), layer {i}<br>" + "<br>".join(
                f"{AXES[q]}: {words.quantity(q)[i, w]:.3g}" for q in (x, y)))
    depth = max(len(up) - 1, 1)
    names, x_range, y_range = _named_ends(words.words, across[rows], up[rows])
    traces = [
        go.Scatter(x=line_x, y=line_y, mode="lines", hoverinfo="skip", showlegend=False,
                   line={"color": "rgba(89,99,110,0.3)", "width": 1.2}),
        go.Scatter(
            x=xs, y=ys, mode="markers", customdata=hover, hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            marker={"color": colors, "colorscale": list(BY_LAYER), "cmin": 0, "cmax": depth, "size": 8,
                    "line": {"color": INK, "width": 0.6},
                    "colorbar": color_bar("layer", {"tickvals": _layer_ticks(depth)})},
        ),
        *names,
    ]
    axis = {q: AXES[q] if q in ("geodesic", "path") else f"{AXES[q]} ({words.unit})" for q in (x, y)}
    return figure(
        traces, title="Words on the plane, layer by layer", caller="words_plane_figure",
        summary=(f"{plural(len(words.words), 'word')} at {plural(len(chosen), 'layer')}: {axis[x]} across, {axis[y]} "
                 "up; a line joins the layers of a word."),
        height=HEIGHT + 120, min_width=600, max_width=1000, margin={"t": 70, "b": 40, "r": 20},
        xaxis={"title": {"text": axis[x]}, "range": x_range}, yaxis={"title": {"text": axis[y]}, "range": y_range},
    )


HEIGHT, WIDTH = 520, 700
"""Pixels of the plot area that names are laid out for."""


def _named_ends(words: tuple[str, ...], x: FloatArray, y: FloatArray) -> tuple[list[Any], list[float], list[float]]:
    """Names beside the last points, each at the nearest free place up or down, and ranges that hold them all."""
    go = graph_objects("words_plane_figure")
    shown = labels(words)
    seen = np.isfinite(x) & np.isfinite(y)
    low_x, high_x, low_y, high_y = (
        (0.0, 1.0, 0.0, 1.0) if not seen.any() else
        (float(x[seen].min()), float(x[seen].max()), float(y[seen].min()), float(y[seen].max()))
    )
    unit_x, unit_y = (max(high_x - low_x, 1e-9) / (WIDTH - 130), max(high_y - low_y, 1e-9) / (HEIGHT - 60))
    ends_x, ends_y = x[-1] / unit_x, y[-1] / unit_y
    taken = [(a - 6, a + 6, b) for a, b in zip((x[seen] / unit_x).tolist(), (y[seen] / unit_y).tolist(), strict=True)]
    at_x, at_y, text = [], [], []
    leader_x: list[float | None] = []
    leader_y: list[float | None] = []
    for w in np.argsort(x[-1], kind="stable").tolist():
        if not seen[-1, w]:
            continue
        height = float(ends_y[w])
        left = float(ends_x[w]) + 8
        right = left + 7 * len(shown[w]) + 6
        place = next(
            height + step for step in sorted(range(-600, 601, 5), key=abs)
            if all(right < a or left > b or abs(height + step - c) >= 14 for a, b, c in taken)
        )
        taken.append((left, right, place))
        if abs(place - height) > 9:
            leader_x += [float(x[-1, w]), significant((left + 3) * unit_x), None]
            leader_y += [float(y[-1, w]), significant(place * unit_y), None]
        at_x.append(significant(left * unit_x))
        at_y.append(significant(place * unit_y))
        text.append(shown[w])
    ends = [b * unit_x for _, b, _ in taken] or [high_x]
    heights = at_y or [high_y]
    lines = go.Scatter(x=leader_x, y=leader_y, mode="lines", hoverinfo="skip", showlegend=False,
                       line={"color": MUTED, "width": 0.7, "dash": "dot"})
    names = go.Scatter(x=at_x, y=at_y, mode="text", text=text, textposition="middle right", hoverinfo="skip",
                       showlegend=False, cliponaxis=False, textfont={"size": SMALL, "color": INK})
    return ([lines, names], [low_x - 25 * unit_x, max(high_x + 25 * unit_x, *ends) + 10 * unit_x],
            [min(low_y, *heights) - 20 * unit_y, max(high_y, *heights) + 20 * unit_y])


def rounded_values(values: FloatArray) -> list[float]:
    """Numbers with four digits, which keeps pages small."""
    return [significant(float(v)) for v in np.asarray(values).tolist()]


def _bars(values: FloatArray, ends: FloatArray | None) -> dict[str, Any] | None:
    if ends is None:
        return None
    return {"type": "data", "symmetric": False, "array": rounded_values(ends[:, 1] - values),
            "arrayminus": rounded_values(values - ends[:, 0]), "thickness": 1, "width": 0, "color": FAINT}


def _plane_hover(plane: InformationPlane) -> list[str]:
    shown = []
    for i, layer in enumerate(plane.layers):
        lines = [f"<b>layer {layer}</b>" + (f", {label(plane.name, 40)}" if plane.name else "")]
        sides = [(plane.input_information, plane.input_interval, plane.input_null,
                  f"I({plane.input_name}; T)")]
        if plane.output_information is not None:
            sides.append((plane.output_information, plane.output_interval, plane.output_null,
                          f"I(T; {plane.output_name})"))
        for values, ends, null, name in sides:
            around = "" if ends is None else f" ({ends[i, 0]:.3g} to {ends[i, 1]:.3g})"
            chance = "" if null is None else f", shuffled {null[i]:.2g}"
            lines.append(f"{label(name, None)} = {values[i]:.3g} {plane.unit}{around}{chance}")
        shown.append("<br>".join(lines))
    return shown


def _entropies(plane: InformationPlane, end: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Dashed lines at the entropies of the labels that some layer comes near."""
    axes = [("y", plane.input_entropy, plane.input_name, plane.input_information)]
    if plane.output_information is not None:
        axes = [("x", plane.input_entropy, plane.input_name, plane.input_information),
                ("y", plane.output_entropy, plane.output_name or "", plane.output_information)]
    shapes, notes = [], []
    for axis, entropy, name, values in axes:
        if entropy is None or float(values.max()) < 0.85 * entropy:
            continue
        other = "y" if axis == "x" else "x"
        refs = {f"{axis}ref": f"{axis}{end}", f"{other}ref": f"{other}{end} domain"}
        shapes.append({"type": "line", f"{axis}0": entropy, f"{axis}1": entropy, f"{other}0": 0, f"{other}1": 1, **refs,
                       "line": {"color": MUTED, "width": 1, "dash": "dash"}})
        notes.append({axis: entropy, other: 0 if axis == "x" else 1, **refs, "showarrow": False, "xanchor": "right",
                      "text": label(f"H({name})", None), "font": {"size": SMALL, "color": MUTED}, "yanchor": "bottom",
                      "xshift": -3})
    return shapes, notes


def caption(text: str, up: int = 6) -> dict[str, Any]:
    """A line in small letters above the plot."""
    return {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": up,
            "showarrow": False, "font": {"size": SMALL, "color": MUTED}, "text": label(text, None), "align": "left"}


def color_bar(title: str, more: dict[str, Any]) -> dict[str, Any]:
    """The bar that explains the colors."""
    return {"title": {"text": title, "side": "top", "font": {"size": SMALL}}, "thickness": 14, "outlinewidth": 0,
            "tickfont": {"size": SMALL}, **more}
