"""Capacities of a model: parts block by block with intervals, heads as colored cells, and a page with both."""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import ArgumentError
from infogeo_adapters.plots.style import (
    BLUE,
    CLOSE,
    FONT,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    capital,
    figure,
    graph_objects,
    label,
    plural,
    significant,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from infogeo_adapters._capacity_views import Measured
    from infogeo_adapters.capacity import CapacityTable

PANELS = ("block", "attention", "feed_forward", "query", "key", "value", "readout")
"""Order of the panels, one for each part."""
NAMES = {
    "linear_gaussian": "linear-Gaussian channel", "jacobian": "local channel of the Jacobian",
    "attention": "heads as channels from query to key", "readout": "from context to predicted token",
}
ACROSS = 3
ROW = 230


def capacity_figure(table: CapacityTable, *, view: str) -> go.Figure:
    """Capacity and rate of each part, block by block, with their intervals; one panel for each part.

    What lies between the two lines is capacity that the actual inputs leave unused.

    Parameters
    ----------
    table : CapacityTable
    view : {'linear_gaussian', 'jacobian', 'readout'}

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If the table has no rows of that view, or it is that of heads.
    """
    items = _of(table, view)
    if view == "attention":
        raise ArgumentError("capacity_figure: heads are drawn by head_capacity_figure")
    go = graph_objects("capacity_figure")
    notes: list[dict[str, Any]] = []
    parts = [part for part in PANELS if any(item.part == part for item in items)]
    across = min(ACROSS, len(parts))
    down = -(-len(parts) // across)
    traces: list[Any] = []
    layout: dict[str, Any] = {}
    gap_x, gap_y = 0.08, 76 / (ROW * down + 40)
    wide, high = (1 - gap_x * (across - 1)) / across, (1 - gap_y * (down - 1)) / down
    for k, part in enumerate(parts):
        axis = "" if k == 0 else str(k + 1)
        column, row = k % across, k // across
        left, top = column * (wide + gap_x), 1 - row * (high + gap_y)
        mine = [item for item in items if item.part == part]
        blocks = [item.block for item in mine]
        most = max(_end(item) for item in mine)
        for what, color, dash in (("capacity", BLUE, "solid"), ("rate", ORANGE, "dot")):
            values = [getattr(item.capacity, what) for item in mine]
            if all(v is None for v in values):
                continue
            ends = [getattr(item.capacity, f"{what}_interval") for item in mine]
            traces.append(go.Scatter(
                x=blocks, y=[None if v is None else significant(v) for v in values], xaxis=f"x{axis}", yaxis=f"y{axis}",
                mode="lines+markers", name=what, legendgroup=what, showlegend=k == 0,
                line={"color": color, "width": 2, "dash": dash}, marker={"size": 6},
                error_y={"type": "data", "symmetric": False, "thickness": 1.2, "width": 4, "color": color,
                         "array": [_arm(v, e, 1) for v, e in zip(values, ends, strict=True)],
                         "arrayminus": [_arm(v, e, 0) for v, e in zip(values, ends, strict=True)]},
                customdata=[_hover(item) for item in mine], hovertemplate="%{customdata}<extra></extra>",
            ))
        layout[f"xaxis{axis}"] = {"domain": [left, left + wide], "anchor": f"y{axis}", "tickvals": blocks,
                                  "ticktext": ["emb." if b == 0 else str(b) for b in blocks], "showgrid": False,
                                  "range": [min(blocks) - 0.4, max(blocks) + 0.4],
                                  "title": {"text": "block" if row == (len(parts) - 1 - column) // across else "",
                                            "standoff": 6}}
        layout[f"yaxis{axis}"] = {"domain": [max(0.0, top - high), top], "anchor": f"x{axis}",
                                  "range": [min(0.0, *(_start(item) for item in mine)), 1.06 * most], "nticks": 6,
                                  "title": {"text": table.unit if column == 0 else "", "standoff": 8}}
        notes.append({"text": f"<b>{label(part.replace('_', '-'), None)}</b>", "x": left, "y": top, "xref": "paper",
                      "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False,
                      "font": {"color": INK, "size": 13}, "yshift": 4})
    what = "Capacity and rate" if any(item.capacity.rate is not None for item in items) else "Capacity"
    known = any(item.capacity.capacity_interval is not None for item in items)
    return figure(
        traces, title=f"{what} by block: {NAMES[view]}",
        summary=(
            f"{what} in {table.unit} of {plural(len(parts), 'part')} of {plural(_count(items), 'block')}"
            f"{f', with {100 * table.level:g} % intervals' if known else ''}."
            f"{' Solid lines are capacities, dotted ones rates.' if what != 'Capacity' else ''}"
        ),
        height=ROW * down + 130, min_width=270 * across + 60, max_width=340 * across + 60, caller="capacity_figure",
        margin={"t": 90, "b": 50},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "yref": "paper",
                "font": {"size": SMALL}, "itemclick": False, "itemdoubleclick": False, "borderwidth": 0},
        annotations=notes, **layout,
    )


def head_capacity_figure(table: CapacityTable) -> go.Figure:
    """Capacity of each attention head, blocks by heads; dark is much, and the numbers stand in the cells.

    Parameters
    ----------
    table : CapacityTable

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If the table has no heads.
    """
    items = _of(table, "attention")
    go = graph_objects("head_capacity_figure")
    blocks = sorted({item.block for item in items})
    heads = sorted({item.head for item in items if item.head is not None})
    values = np.full((len(blocks), len(heads)), np.nan)
    text = [["" for _ in heads] for _ in blocks]
    hover = [["" for _ in heads] for _ in blocks]
    for item in items:
        i, j = blocks.index(item.block), heads.index(item.head or 0)
        values[i, j] = item.capacity.capacity
        half = _half(item)
        text[i][j] = f"{item.capacity.capacity:.2f}" + (f"<br>±{half:.2f}" if half is not None else "")
        hover[i][j] = _hover(item)
    ceiling = max(item.capacity.ceiling or 0.0 for item in items)
    uniform = [float(item.capacity.details["uniform_capacity"]) for item in items
               if "uniform_capacity" in item.capacity.details]
    mask = f"; uniform attention under the causal mask would have {max(uniform):.3g}" if uniform else ""
    trace = go.Heatmap(
        z=[[None if np.isnan(v) else significant(float(v)) for v in row] for row in values],
        x=list(range(len(heads))), y=list(range(len(blocks))), colorscale=list(CLOSE), zmin=0.0, zmax=ceiling,
        xgap=1, ygap=1, text=text, texttemplate="%{text}", textfont={"size": SMALL - 1}, customdata=hover,
        hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
        colorbar={"title": {"text": table.unit, "side": "top", "font": {"size": SMALL}}, "thickness": 14,
                  "tickfont": {"size": SMALL}, "outlinewidth": 0},
    )
    return figure(
        [trace], title="Capacity of each head as a channel from query to key",
        summary=(
            f"Capacity in {table.unit} of {plural(len(heads), 'head')} in {plural(len(blocks), 'block')}, at most "
            f"{ceiling:.3g}{mask}; dark is much."
        ),
        height=42 * len(blocks) + 150, min_width=56 * len(heads) + 150, max_width=90 * len(heads) + 200,
        caller="head_capacity_figure", margin={"t": 60, "b": 50},
        xaxis={"tickvals": list(range(len(heads))), "ticktext": [str(h) for h in heads], "showgrid": False,
               "title": {"text": "head"}},
        yaxis={"tickvals": list(range(len(blocks))), "ticktext": [str(b) for b in blocks], "showgrid": False,
               "range": [len(blocks) - 0.5, -0.5], "title": {"text": "block"}},
    )


def capacity_page(table: CapacityTable) -> str:
    """A page with all pictures of a table and its rows, which needs no network.

    Parameters
    ----------
    table : CapacityTable

    Returns
    -------
    str
        HTML.
    """
    graph_objects("capacity_page")
    from plotly.offline import get_plotlyjs

    from infogeo_adapters.report.builder import CONFIG, page_figure, script_json

    shown = [view for view in NAMES if any(item.capacity.view == view for item in table.items)]
    figures = [
        head_capacity_figure(table) if view == "attention" else capacity_figure(table, view=view) for view in shown
    ]
    said = dict(sentence.split(": ", 1) for sentence in table.assumptions())
    sections = []
    for k, (view, one) in enumerate(zip(shown, figures, strict=True)):
        meta = json.loads(one.to_json())["layout"]["meta"]
        sections.append(
            f"<section><h2>{html.escape(meta['title'])}</h2><p>{html.escape(meta['summary'])} "
            f"{html.escape(said[view][:1].upper() + said[view][1:])}.</p><div class=\"scroll\"><div id=\"plot{k}\" "
            f"style=\"min-width:{meta['min_width']}px;max-width:{meta['max_width']}px\"></div></div></section>"
        )
    nonce = secrets.token_urlsafe(18)
    data = script_json([{"figure": page_figure(one), "config": CONFIG} for one in figures])
    notes = "".join(f"<p class=\"note\">{html.escape(note)}</p>" for note in table.notes)
    return PAGE.format(
        title=html.escape(f"Capacity of the model {table.source.model}"),
        summary=html.escape(table.summary().removeprefix("CapacityTable of ")), level=f"{100 * table.level:g}",
        notes=notes, sections="\n".join(sections), table=_html_table(table), nonce=nonce,
        plotly=get_plotlyjs(), data=data, font=FONT, ink=INK, muted=MUTED, green=GREEN,
    )


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'nonce-{nonce}'; \
style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 {font}; color: {ink}; margin: 0 auto; max-width: 1120px; padding: 16px; }}
h1 {{ font-size: 24px; }} h2 {{ font-size: 18px; margin: 32px 0 4px; }}
.note {{ border-left: 3px solid {green}; padding-left: 10px; color: {muted}; margin: 6px 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ padding: 3px 8px; text-align: left; border-bottom: 1px solid #d8dee4; vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
td.words {{ color: {muted}; min-width: 220px; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{notes}
{sections}
<section><h2>All rows</h2><p>Lower and upper are the ends of the {level} % intervals, utilization is rate over \
capacity, and n counts tokens, contexts or windows.</p><div class="scroll">{table}</div></section>
<script nonce="{nonce}">{plotly}</script>
<script nonce="{nonce}">
const figures = {data};
figures.forEach((f, k) => Plotly.newPlot("plot" + k, f.figure.data, f.figure.layout, f.config));
</script>
</body>
</html>
"""


def _html_table(table: CapacityTable) -> str:
    columns, rows = table.rows()
    cells = []
    for row in rows:
        line = []
        for name, value in zip(columns, row, strict=True):
            if isinstance(value, float):
                line.append(f"<td class=\"number\">{value:.4g}</td>")
            else:
                kind = " class=\"words\"" if name in ("noise", "constraint") else ""
                line.append(f"<td{kind}>{'' if value is None else html.escape(str(value))}</td>")
        cells.append(f"<tr>{''.join(line)}</tr>")
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>"


def _of(table: CapacityTable, view: str) -> Sequence[Measured]:
    items = table.select(view=view).items
    if not items:
        known = ", ".join(dict.fromkeys(item.capacity.view for item in table.items)) or "none"
        raise ArgumentError(f"the table has no rows of the view {view!r}; its views are: {known}")
    return items


def _count(items: Sequence[Measured]) -> int:
    return len({item.block for item in items if item.block})


def _ends(item: Measured) -> list[float]:
    c = item.capacity
    pairs = [end for pair in (c.capacity_interval, c.rate_interval) if pair is not None for end in pair]
    return [v for v in (c.capacity, c.rate, *pairs) if v is not None and np.isfinite(v)]


def _end(item: Measured) -> float:
    return max(_ends(item), default=1.0)


def _start(item: Measured) -> float:
    return min(_ends(item), default=0.0)


def _half(item: Measured) -> float | None:
    interval = item.capacity.capacity_interval
    return None if interval is None else (interval[1] - interval[0]) / 2


def _arm(value: float | None, interval: tuple[float, float] | None, end: int) -> float:
    if value is None or interval is None:
        return 0.0
    return significant(abs(interval[end] - value), 3)


def _hover(item: Measured) -> str:
    c = item.capacity
    name = f"<b>{label(capital(c.name), None)}</b>"
    lines = [name, f"capacity {c.capacity:.4g} {c.unit}{_range(c.capacity_interval)}"]
    if c.rate is not None:
        lines.append(f"rate {c.rate:.4g}{_range(c.rate_interval)}, utilization {c.utilization:.2f}")
    if c.ceiling is not None:
        lines.append(f"at most {c.ceiling:.4g}")
    return "<br>".join([*lines, f"noise: {label(c.noise, 80)}", f"n = {c.n}"])


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.4g} to {interval[1]:.4g})"
