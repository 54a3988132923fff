"""How well word graphs find the relations of a treebank: scores with intervals, recall by kind of relation, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo.errors import ArgumentError, ShapeError
from infogeo_adapters.plots.style import (
    BLUE,
    FONT_SIZE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    figure,
    graph_objects,
    label,
    plural,
    shorten,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

VIOLET = "#7a3e9d"
KINDS: Mapping[str, tuple[str, str, str]] = {
    "influence": ("influence", BLUE, "circle"),
    "combination": ("combinations", ORANGE, "star-triangle-up"),
    "attention": ("attention", GREEN, "square"),
    "vectors": ("vectors", VIOLET, "diamond"),
    "baseline": ("baselines", MUTED, "triangle-right"),
    "supervised": ("trained on trees", INK, "x"),
}
"""Of each kind of family its name in the plural, its color, and its sign, so that color is not needed."""
ROW = 23
"""Pixels from one family to the next."""
TWO_LINES = 1.5
"""Room of a name in two lines, in rows."""
LINE_LIMIT = 30
"""Letters of a name in one line, so that a small screen has room for the dots."""
RELATION_ROW = 30
"""Pixels from one relation to the next."""
NAME_LIMIT = 48
"""Letters of a family's name beside an axis."""
LEGEND_ROW = 20
"""Pixels from one name in a legend to the next."""
SPREAD = 0.6
"""Share of a bin that the dots of one bin take up."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A share with its interval, as a dot in a figure."""

    name: str
    """What it belongs to: a family of graphs."""
    kind: str
    """Key of :data:`KINDS`."""
    value: float | None
    """None where there is nothing to find."""
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Told when the dot is pointed at, after its name and numbers."""


def score_figure(
    scores: Sequence[Score], *, lines: Sequence[Score] = (), title: str, axis: str, level: float = 0.95
) -> go.Figure:
    """A dot with its interval for each family of graphs, grouped by kind, beside lines to compare with.

    Parameters
    ----------
    scores : sequence of Score
        In the order of the figure, from top to bottom; a header stands above each run of one kind.
    lines : sequence of Score
        Drawn as upright lines through the figure, with their names on top.
    title, axis : str
        Of the figure and of what is measured.
    level : float
        Coverage of the intervals.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If there is no score, or a kind is unknown.
    """
    if not scores:
        raise ArgumentError("score_figure: found no score, wanted at least one")
    places: list[tuple[float, Score]] = []
    heads: list[tuple[float, str]] = []
    at, before = 0.0, None
    for score in scores:
        if score.kind != before:
            at += 1 if before is not None else 0
            heads.append((at, score.kind))
            before, at = score.kind, at + 1
        room = TWO_LINES if "<br>" in _in_lines(score.name) else 1.0
        places.append((at + (room - 1) / 2, score))
        at += room
    traces = [
        _dots([(score.value, place, score) for place, score in places if score.kind == kind], kind, axis, level)
        for kind in dict.fromkeys(score.kind for score in scores)
    ]
    top = max([s.high or s.value or 0.0 for s in (*scores, *lines)], default=1.0)
    shapes, notes = _lines(lines, top)
    names = [f"<b>{label(_kind(kind)[0], None)}</b>" for _, kind in heads]
    ticks = sorted([*zip((p for p, _ in heads), names, strict=True),
                    *((place, _in_lines(score.name)) for place, score in places)])
    return figure(
        traces, title=title, caller="score_figure", summary=_said(scores, axis, lines),
        height=round(ROW * at) + 130 + 18 * len(lines), min_width=430, max_width=980,
        margin={"t": 56 + 18 * len(lines), "b": 46, "r": 20}, showlegend=False, shapes=shapes, annotations=notes,
        xaxis={"title": {"text": label(axis, None)}, "range": [0, min(1.02, 1.06 * top)], "fixedrange": True},
        yaxis={"tickvals": [p for p, _ in ticks], "ticktext": [t for _, t in ticks], "range": [at - 0.4, -0.6],
               "showgrid": False, "fixedrange": True, "tickfont": {"size": FONT_SIZE}},
    )


def recall_by_length_figure(
    bins: Sequence[str], scores: Sequence[Sequence[Score]], *, counts: Sequence[int], level: float = 0.95
) -> go.Figure:
    """The share of gold relations found, by how far apart their words stand, for a few families side by side.

    Parameters
    ----------
    bins : sequence of str
        Names of the distances, such as ``2–3``.
    scores : sequence of sequence of Score
        For each family one score a bin.
    counts : sequence of int
        Gold relations in each bin.
    level : float
        Coverage of the intervals.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ShapeError
        If a family has not one score a bin.
    """
    if len(counts) != len(bins) or any(len(row) != len(bins) for row in scores):
        raise ShapeError(f"recall_by_length_figure: {len(bins)} bins need as many counts, and scores of each family")
    go = graph_objects("recall_by_length_figure")
    width = SPREAD / max(len(scores), 1)
    traces = []
    for row, family in enumerate(scores):
        shift = (row - (len(scores) - 1) / 2) * width
        told = [score for score in family if score.value is not None]
        _, color, symbol = _kind(family[0].kind)
        color = _shade(color, row, scores)
        traces.append(go.Scatter(
            x=[i + shift for i, score in enumerate(family) if score.value is not None],
            y=[score.value for score in told], mode="markers", name=label(family[0].name, NAME_LIMIT),
            marker={"color": color, "symbol": symbol, "size": 10, "line": {"width": 1, "color": "#ffffff"}},
            error_y=_bars(told, color), customdata=[_told(score, level) for score in told],
            hovertemplate="%{customdata}<extra></extra>",
        ))
    return figure(
        traces, title="Recall by distance", caller="recall_by_length_figure", height=340 + _top(len(scores)),
        min_width=400, max_width=820,
        summary=f"Share of the gold relations found, at {plural(len(bins), 'distance')}, for "
                f"{', '.join(family[0].name for family in scores)}.",
        margin={"t": _top(len(scores)), "b": 40}, legend=_legend(),
        xaxis={"tickvals": list(range(len(bins))), "range": [-0.5, len(bins) - 0.5], "showgrid": False,
               "ticktext": [f"{label(b, None)}<br><span style='color:{MUTED}'>{n:,}</span>"
                            for b, n in zip(bins, counts, strict=True)],
               "title": {"text": "words apart, and how many relations"}, "fixedrange": True},
        yaxis={"title": {"text": "recall"}, "range": [-0.03, 1.03], "fixedrange": True},
        shapes=[{"type": "line", "xref": "x", "yref": "paper", "x0": i + 0.5, "x1": i + 0.5, "y0": 0, "y1": 1,
                 "line": {"color": GRID, "width": 1}} for i in range(len(bins) - 1)],
    )


def recall_by_relation_figure(
    relations: Sequence[str], scores: Sequence[Sequence[Score]], *, counts: Sequence[int], level: float = 0.95
) -> go.Figure:
    """The share of gold relations found, relation by relation, for a few families beside each other.

    Parameters
    ----------
    relations : sequence of str
        From top to bottom.
    scores : sequence of sequence of Score
        For each family one score a relation; a family of the kind ``baseline`` is drawn as a short upright line.
    counts : sequence of int
        Gold relations of each name.
    level : float
        Coverage of the intervals.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ShapeError
        If a family has not one score a relation.
    """
    n = len(relations)
    if len(counts) != n or any(len(row) != n for row in scores):
        raise ShapeError(f"recall_by_relation_figure: {n} relations need as many counts, and scores of each family")
    go = graph_objects("recall_by_relation_figure")
    dotted = [family for family in scores if family[0].kind != "baseline"]
    traces = []
    for family in scores:
        told = [(i, score) for i, score in enumerate(family) if score.value is not None]
        _, color, symbol = _kind(family[0].kind)
        upright = family[0].kind == "baseline"
        shift = 0.0 if upright else 0.36 * (dotted.index(family) / max(len(dotted) - 1, 1) - 0.5)
        traces.append(go.Scatter(
            x=[score.value for _, score in told], y=[i + shift for i, _ in told], mode="markers",
            name=label(family[0].name, NAME_LIMIT),
            marker={"color": color, "symbol": "line-ns", "size": 15, "line": {"width": 2, "color": color}} if upright
            else {"color": color, "symbol": symbol, "size": 9, "line": {"width": 1, "color": "#ffffff"}},
            error_x=None if upright else _bars([score for _, score in told], color),
            customdata=[f"<b>{label(relations[i], 30)}</b><br>{_told(score, level)}" for i, score in told],
            hovertemplate="%{customdata}<extra></extra>",
        ))
    ticks = [f"{label(name, 20)} <span style='color:{MUTED}'>{count:,}</span>"
             for name, count in zip(relations, counts, strict=True)]
    return figure(
        traces, title="Recall by relation", caller="recall_by_relation_figure",
        height=RELATION_ROW * n + 80 + _top(len(scores)), min_width=420, max_width=900,
        margin={"t": _top(len(scores)), "b": 40, "r": 20}, legend=_legend(),
        summary=f"Share of the gold relations found, for {plural(n, 'relation')}, by "
                f"{', '.join(family[0].name for family in scores)}.",
        xaxis={"title": {"text": "recall"}, "range": [-0.02, 1.02], "fixedrange": True},
        yaxis={"tickvals": list(range(n)), "ticktext": ticks, "range": [n - 0.4, -0.6], "showgrid": False,
               "fixedrange": True},
        shapes=[{"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": i + 0.5, "y1": i + 0.5,
                 "line": {"color": GRID, "width": 1}, "layer": "below"} for i in range(n - 1)],
    )


def layers_figure(lines: Sequence[Sequence[tuple[float, Score]]], *, reference: Score | None = None) -> go.Figure:
    """The attachment score of the trees of a family, layer by layer.

    Parameters
    ----------
    lines : sequence of sequence of (float, Score)
        For each line its layers in order with the score there; its name is that of its first score.
    reference : Score, optional
        Drawn as a level line, such as that of adjacent words.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If there is no line, or an empty one.
    """
    if not lines or not all(lines):
        raise ArgumentError("layers_figure: found no line or an empty one, wanted layers with their scores")
    go = graph_objects("layers_figure")
    traces, seen = [], dict.fromkeys(KINDS, 0)
    for line in lines:
        score = line[0][1]
        _, color, symbol = _kind(score.kind)
        dash = ("solid", "dash", "dot", "dashdot")[min(seen[score.kind], 3)]
        seen[score.kind] += 1
        traces.append(go.Scatter(
            x=[layer for layer, _ in line], y=[s.value for _, s in line], mode="lines+markers",
            name=label(score.name, NAME_LIMIT), line={"color": color, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 8}, customdata=[_told(s, 0.0) for _, s in line],
            hovertemplate="%{customdata}<extra></extra>",
        ))
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    if reference is not None and reference.value is not None:
        color = _kind(reference.kind)[1]
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": reference.value, "y1": reference.value,
                       "line": {"color": color, "width": 1.5, "dash": "dot"}, "layer": "below"})
        notes.append({"xref": "paper", "x": 0, "xanchor": "left", "y": reference.value, "yanchor": "bottom",
                      "showarrow": False, "text": label(reference.name, NAME_LIMIT),
                      "font": {"color": color, "size": SMALL}})
    places = sorted({layer for line in lines for layer, _ in line})
    every = max(1, round(len(places) / 16))
    return figure(
        traces, title="Attachment score by layer", caller="layers_figure", height=340 + _top(len(lines)),
        min_width=400, max_width=820,
        summary=f"UUAS from layer {places[0]:g} to layer {places[-1]:g} for "
                f"{', '.join(line[0][1].name for line in lines)}.",
        margin={"t": _top(len(lines)), "b": 40}, legend=_legend(), showlegend=True, shapes=shapes,
        annotations=notes,
        xaxis={"title": {"text": "layer"}, "tickvals": places[::every], "fixedrange": True},
        yaxis={"title": {"text": "UUAS"}, "rangemode": "tozero", "fixedrange": True},
    )


def _in_lines(name: str) -> str:
    """A name beside an axis, a long one in two lines, cut at the space nearest to its middle."""
    short = shorten(name, NAME_LIMIT)
    spaces = [i for i, letter in enumerate(short) if letter == " "]
    if len(short) <= LINE_LIMIT or not spaces:
        return label(short, None)
    middle = min(spaces, key=lambda i: abs(2 * i - len(short)))
    return f"{label(short[:middle], None)}<br>{label(short[middle + 1 :], None)}"


def _kind(kind: str) -> tuple[str, str, str]:
    if kind not in KINDS:
        raise ArgumentError(f"kind: found {kind!r}, wanted one of {', '.join(KINDS)}")
    return KINDS[kind]


def _shade(color: str, row: int, scores: Sequence[Sequence[Score]]) -> str:
    """The color of a family; of a second one of the same kind a lighter one."""
    same = [i for i, family in enumerate(scores) if family[0].kind == scores[row][0].kind]
    return color if row == same[0] else _lighter(color)


def _lighter(color: str) -> str:
    mixed = (round(0.5 * int(color[i : i + 2], 16) + 0.5 * 255) for i in (1, 3, 5))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _dots(dots: Sequence[tuple[float | None, float, Score]], kind: str, axis: str, level: float) -> Any:
    go = graph_objects("score_figure")
    name, color, symbol = _kind(kind)
    told = [(value, place, score) for value, place, score in dots if value is not None]
    return go.Scatter(
        x=[value for value, _, _ in told], y=[place for _, place, _ in told], mode="markers", name=name,
        marker={"color": color, "symbol": symbol, "size": 9, "line": {"width": 1, "color": "#ffffff"}},
        error_x=_bars([score for _, _, score in told], color),
        customdata=[_told(score, level) for _, _, score in told],
        hovertemplate=f"%{{customdata}}<extra>{label(axis, None)}</extra>",
    )


def _bars(scores: Sequence[Score], color: str) -> dict[str, Any]:
    """Intervals around dots."""

    def reach(low: float | None, high: float | None) -> float:
        return 0.0 if low is None or high is None else max(high - low, 0.0)

    return {
        "type": "data", "symmetric": False, "array": [reach(s.value, s.high) for s in scores],
        "arrayminus": [reach(s.low, s.value) for s in scores], "color": color, "thickness": 1.3, "width": 0,
    }


def _told(score: Score, level: float) -> str:
    value = "none" if score.value is None else f"{score.value:.3f}"
    if score.low is not None and score.high is not None:
        value += f" [{score.low:.3f}, {score.high:.3f}], {100 * level:g} % interval"
    return f"<b>{label(score.name, 60)}</b><br>{value}" + (f"<br>{label(score.note, 90)}" if score.note else "")


def _lines(lines: Sequence[Score], top: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Upright lines, each with its name at a height of its own."""
    shapes, notes = [], []
    known = [line for line in lines if line.value is not None]
    for row, line in enumerate(known):
        color = _kind(line.kind)[1]
        up = 2 + 18 * (len(known) - 1 - row)
        shapes.append({"type": "line", "yref": "paper", "x0": line.value, "x1": line.value, "y0": 0, "y1": 1,
                       "line": {"color": color, "width": 1.5, "dash": "dash" if row == 0 else "dot"},
                       "layer": "below"})
        side = "right" if (line.value or 0.0) > top / 2 else "left"  # toward the middle, where there is room
        notes.append({"x": line.value, "xanchor": side, "yref": "paper", "y": 1, "yanchor": "bottom",
                      "yshift": up, "showarrow": False, "text": f"{label(line.name, NAME_LIMIT)} {line.value:.3f}",
                      "font": {"color": color, "size": SMALL}})
    return shapes, notes


def _legend() -> dict[str, Any]:
    """Above the figure, one name in each line, so that its height is the same on a small screen."""
    return {"orientation": "v", "yref": "paper", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left",
            "font": {"size": SMALL}, "itemclick": False, "itemdoubleclick": False, "traceorder": "normal"}


def _top(names: int) -> int:
    """Pixels above a figure with a title and a legend of so many names."""
    return 50 + LEGEND_ROW * names


def _said(scores: Sequence[Score], axis: str, lines: Sequence[Score]) -> str:
    best = max((s for s in scores if s.value is not None), key=lambda s: s.value or 0.0, default=None)
    said = f"{axis} of {len(scores)} {'family' if len(scores) == 1 else 'families'}"
    if best is not None:
        said += f"; the largest is {best.value:.3f}, of {best.name}"
    for line in lines:
        if line.value is not None:
            said += f"; {line.name} has {line.value:.3f}"
    return said + "."
