"""Information between tokens, of components through training, and against divergences, as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError
from infogeo_adapters.plots.information import caption, color_bar, rounded_values
from infogeo_adapters.plots.style import BLUE, CLOSE, INK, SMALL, capital, figure, graph_objects, label, plural
from infogeo_adapters.plots.tokens import byte_level, readable_token
from infogeo_adapters.token_divergences import InformationScatter
from infogeo_adapters.token_information import DimensionInformation, TokenInformation

if TYPE_CHECKING:
    import plotly.graph_objects as go


UNITS = {"Jensen–Shannon": " (root of nats)", "Bhattacharyya": " (nats)", "Fisher–Rao": " (radians)",
         "Wasserstein-1": " (of probabilities)"}
"""Of the divergences, as axis titles say them."""


def token_information_figure(information: TokenInformation) -> go.Figure:
    """Information between the vectors of each two tokens (left) and the attention weights (right), dark = much.

    Parameters
    ----------
    information : TokenInformation

    Returns
    -------
    plotly.graph_objects.Figure
    """
    if not isinstance(information, TokenInformation):
        raise ArgumentError(
            f"information: found {type(information).__name__}, wanted what token_mutual_information returns"
        )
    go = graph_objects("token_information_figure")
    in_bytes = byte_level(information.tokens)
    shown = [label(readable_token(token, in_bytes=in_bytes).strip(" ") or "␣", 12) for token in information.tokens]
    n = len(shown)
    places = list(range(1, n + 1))
    pairs = [[f"<b>{a} → {b}</b> (tokens {i + 1} and {j + 1})" for j, b in enumerate(shown)]
             for i, a in enumerate(shown)]
    maps: list[tuple[FloatArray, str, float | None]] = [
        (information.values, f"{information.sides[0]} and {information.sides[1]}, {information.unit}", None)
    ]
    if information.attention is not None:
        maps.append((information.attention, "attention weight", 0.0))
    traces = []
    longest = max(len(s) for s in shown)
    head = "mean over heads" if information.head is None else f"head {information.head}"
    ticks = {"tickvals": places, "ticktext": shown, "showgrid": False, "tickfont": {"size": SMALL}}
    layout: dict[str, Any] = {}
    titles = []
    width = 0.44 if len(maps) == 2 else 1.0
    for k, (values, bar, low) in enumerate(maps):
        left = 0.56 * k
        end = "" if k == 0 else "2"
        down, across = ("from token", "to token") if k else (label(f"{s} of token", None) for s in information.sides)
        traces.append(go.Heatmap(
            z=np.where(np.isfinite(values), values, np.nan).astype(np.float32), x=places, y=places,
            colorscale=list(CLOSE), xgap=1, ygap=1, customdata=pairs, zmin=low, hoverongaps=False,
            hovertemplate="%{customdata}<br>" + label(bar, None) + " %{z:.4g}<extra></extra>",
            xaxis=f"x{end}", yaxis=f"y{end}",
            colorbar={**color_bar("", {}), "x": left + width + 0.01, "xanchor": "left", "len": 1.0},
        ))
        layout[f"xaxis{end}"] = {**ticks, "tickangle": -60, "domain": [left, left + width], "anchor": f"y{end}",
                                 "range": [0.5, n + 0.5], "title": {"text": across}}
        layout[f"yaxis{end}"] = {**ticks, "anchor": f"x{end}", "range": [n + 0.5, 0.5],
                                 "showticklabels": k == 0, "title": {"text": down}}
        titles.append({"x": left, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
                       "showarrow": False, "font": {"size": SMALL, "color": INK},
                       "text": label(capital(bar) if k == 0 else f"Attention weight, {head}", None)})
    cell = 22 if n <= 30 else 14
    null = "" if information.null is None else (
        f"; shuffled components stay below {information.null:.3g} {information.unit} in 95 % of pairs")
    return figure(
        traces, title=f"Information between the vectors of tokens, block {information.block}",
        caller="token_information_figure",
        summary=(f"{plural(n, 'token')}; {information.sides[0]} by {information.sides[1]}, {information.estimator} "
                 f"over {information.n} components, {head}; dark is much."),
        height=cell * n + 7 * longest + 190, min_width=(2 * cell * n + 14 * longest + 260),
        max_width=3 * cell * n + 14 * longest + 320, margin={"t": 110, "b": 40, "r": 30},
        annotations=[*titles, caption(f"{information.estimator}, {information.n} components as samples{null}", 26)],
        **layout,
    )


def dimension_information_figure(information: DimensionInformation) -> go.Figure:
    """Information of each component through a part of a block, one row for each model or checkpoint, dark = much.

    Parameters
    ----------
    information : DimensionInformation

    Returns
    -------
    plotly.graph_objects.Figure
    """
    if not isinstance(information, DimensionInformation):
        raise ArgumentError(f"information: found {type(information).__name__}, "
                            "wanted what dimension_information returns")
    go = graph_objects("dimension_information_figure")
    values = information.values
    rows = list(range(len(values)))
    traces = [
        go.Heatmap(
            z=np.where(np.isfinite(values), values, np.nan).astype(np.float32), x=list(range(values.shape[1])), y=rows,
            colorscale=list(CLOSE), customdata=[[label(n, 40)] * values.shape[1] for n in information.names],
            hovertemplate="%{customdata}, component %{x}<br>%{z:.4g} " + information.unit + "<extra></extra>",
            colorbar=color_bar(information.unit, {}), ygap=3,
        )
    ]
    means = [float(np.mean(row[np.isfinite(row)])) for row in values]
    return figure(
        traces, title=f"Information of each component through {information.part.replace('_', '-')} of block "
                      f"{information.block}",
        caller="dimension_information_figure",
        summary=f"{plural(values.shape[1], 'component')} for {plural(len(values), 'model')}; dark is much.",
        height=44 * len(values) + 190, min_width=620, max_width=1100, margin={"t": 92, "b": 40},
        xaxis={"title": {"text": "component"}, "showgrid": False},
        yaxis={"tickvals": rows, "range": [len(rows) - 0.5, -0.5], "showgrid": False,
               "ticktext": [f"{label(n, 24)}<br>mean {m:.3f}" for n, m in zip(information.names, means, strict=True)]},
        annotations=[
            caption(f"{information.estimator}; {information.n} tokens; each component against itself, in and out")
        ],
    )


def information_scatter_figure(scatter: InformationScatter) -> go.Figure:
    """Information of pairs of tokens against four divergences, with rank correlations, raw and given the places.

    Parameters
    ----------
    scatter : InformationScatter

    Returns
    -------
    plotly.graph_objects.Figure
    """
    if not isinstance(scatter, InformationScatter):
        raise ArgumentError(f"scatter: found {type(scatter).__name__}, wanted what information_scatter returns")
    go = graph_objects("information_scatter_figure")
    traces, layout, notes = [], {}, []
    pairs = [f"<b>{label(scatter.tokens[i], 20)} → {label(scatter.tokens[j], 20)}</b> (tokens {i + 1} and {j + 1})"
             for i, j in scatter.pairs]
    for k, (name, values) in enumerate(scatter.divergences.items()):
        column, row = k % 2, k // 2
        end = "" if k == 0 else str(k + 1)
        x_domain, y_domain = [0.54 * column, 0.54 * column + 0.46], [0.58 - 0.58 * row, 1.0 - 0.58 * row]
        traces.append(go.Scattergl(
            x=rounded_values(values), y=rounded_values(scatter.information), mode="markers", xaxis=f"x{end}",
            yaxis=f"y{end}", marker={"size": 4, "color": BLUE, "opacity": 0.5}, showlegend=False, customdata=pairs,
            hovertemplate="%{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        ))
        layout[f"xaxis{end}"] = {"domain": x_domain, "anchor": f"y{end}", "nticks": 5,
                                 "title": {"text": f"{label(name, None)} distance{UNITS[name]}", "standoff": 8}}
        layout[f"yaxis{end}"] = {"domain": y_domain, "anchor": f"x{end}",
                                 "title": {"text": f"information ({scatter.unit})" if column == 0 else ""}}
        notes.append({
            "x": x_domain[0], "y": y_domain[1], "xref": "paper", "yref": "paper", "xanchor": "left",
            "yanchor": "bottom", "showarrow": False, "font": {"size": SMALL, "color": INK},
            "text": (f"Spearman {scatter.correlation[name]:.2f} (p = {scatter.p_value[name]:.2g}); "
                     f"given place {scatter.given_place[name]:.2f}").replace("-", "\u2212"),
        })
    return figure(
        traces, title=f"Information against divergences: {scatter.what}", caller="information_scatter_figure",
        summary=scatter.summary() + ".", height=680, min_width=640, max_width=1000, margin={"t": 90, "b": 50, "r": 20},
        annotations=notes, **layout,
    )
