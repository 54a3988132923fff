"""The lens over tokens: entropy by layer and stage with its spread, as histograms, and the path of the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.entropy_profile import EntropyProfile, EntropyUnit
from infogeo.errors import ArgumentError
from infogeo_adapters.plots.lens import check_units, entropy_name, row_names
from infogeo_adapters.plots.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    capital,
    figure,
    graph_objects,
    label,
    nice_ticks,
    plural,
    significant,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
OUTER, INNER = "rgba(11,92,173,0.16)", "rgba(11,92,173,0.30)"
"""Fill between the 10 and 90 % quantiles, and between the quartiles."""
ACROSS = 4
"""Histograms in one row."""
BINS = 30
TAIL, FAR_OUT = 0.98, 2.0
"""Quotients over this quantile, or over so many times the 90 % quantile, may lie beyond the end of the axis."""
FEW_TICKS = 14
"""Up to so many names of states stand level under an axis."""


def entropy_band_figure(profile: EntropyProfile, *, units: EntropyUnit = "nats") -> go.Figure:
    """Entropy over tokens by layer, a panel for each stage: mean, median, quartiles, and the 10 and 90 % quantiles.

    After Buonanno et al. [1]_, who look at the entropy of every token stage by stage.

    Parameters
    ----------
    profile : EntropyProfile
        With as many stages as panels are wanted; the embedding is layer 0 of ``resid_post``.
    units : {'nats', 'bits', 'normalized'}

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If the units are unknown.

    References
    ----------
    .. [1] A. Buonanno, A. Rivetti, F. A. N. Palmieri, G. Di Gennaro, G. Romano, "Probing information distribution in
       transformer architectures through entropy analysis", arXiv 2507.15347.
    """
    check_units(units)
    go = graph_objects("entropy_band_figure")
    stages = _stages(profile)
    across = min(2, len(stages))
    down = -(-len(stages) // across)
    high, gap, head = 270, 78, 96
    plot = down * high + (down - 1) * gap
    entropy = profile.in_units(units)
    top = _top(entropy)
    traces: list[Any] = []
    layout: dict[str, Any] = {}
    notes = []
    for k, (stage, rows) in enumerate(stages.items()):
        end = "" if k == 0 else str(k + 1)
        column, row = k % across, k // across
        left, right = (0.0, 1.0) if across == 1 else ((0.0, 0.46) if column == 0 else (0.54, 1.0))
        upper = 1 - row * (high + gap) / plot
        layers = profile.row_layers[rows].tolist()
        traces += _band(
            go, layers, entropy[rows], axes={"xaxis": f"x{end}", "yaxis": f"y{end}"}, legend=k == 0,
            names=[f"layer {layer}" for layer in layers],
        )
        layout[f"xaxis{end}"] = {"domain": [left, right], "anchor": f"y{end}", "showgrid": False,
                                 "tickvals": _some(layers), "title": {"text": "layer", "standoff": 6},
                                 "range": [min(layers) - 0.4, max(layers) + 0.4]}
        layout[f"yaxis{end}"] = {"domain": [max(0.0, upper - high / plot), min(1.0, upper)], "anchor": f"x{end}",
                                 "range": [0, top], "nticks": 6,
                                 "title": {"text": label(entropy_name(profile, units), None) if column == 0 else ""}}
        if len(stages) > 1:
            notes.append(_caption(stage.replace("_", " "), left, min(1.0, upper)))
    n = len(profile.tokens)
    return figure(
        traces, title="Entropy over tokens, by layer" + (" and stage" if len(stages) > 1 else ""),
        summary=f"{capital(entropy_name(profile, units))} of {plural(n, 'token')} at {plural(len(stages), 'stage')}: "
        "mean and median, the quartiles (dark) and the 10 and 90 % quantiles (light).",
        height=plot + head + 58, min_width=340 * across + 60, max_width=1120,
        caller="entropy_band_figure", margin={"t": head, "b": 48}, legend=_legend(plot), annotations=notes, **layout,
    )


def entropy_histogram_figure(
    profile: EntropyProfile, *, units: EntropyUnit = "nats", stage: str | None = None, bins: int = BINS
) -> go.Figure:
    """How the entropies of the tokens are distributed at each layer: a histogram for each, on a common axis of entropy.

    Parameters
    ----------
    profile : EntropyProfile
    units : {'nats', 'bits', 'normalized'}
    stage : str, optional
        The stage shown at once; a menu chooses among those of the profile. By default ``resid_post``, or the last stage
        of a profile without.
    bins : int
        Of equal width, from zero to the largest possible entropy that any token comes near.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If the units are unknown, the stage is not in the profile, or bins is not positive.
    """
    check_units(units)
    check_count("bins", bins, 1)
    go = graph_objects("entropy_histogram_figure")
    stages = _stages(profile)
    stage = [*stages][-1] if stage is None else stage
    if stage not in stages:
        raise ArgumentError(f"stage: found {stage!r}, but this profile has {', '.join(stages)}")
    entropy = profile.in_units(units)
    edges = np.linspace(0.0, _ceiling(float(entropy.max())), bins + 1)
    found = {name: _Histograms(profile, rows, entropy, edges) for name, rows in stages.items()}
    layers = sorted({layer for one in found.values() for layer in one.shares})
    middles = [significant(float(m)) for m in (edges[:-1] + edges[1:]) / 2]
    grid = _Panels(len(layers))
    traces, layout = [], {}
    places = []
    for k, layer in enumerate(layers):
        end = "" if k == 0 else str(k + 1)
        across, upright = grid.domains(k)
        places.append((across[0], upright[1]))
        traces.append(go.Bar(
            x=middles, y=found[stage].heights(layer), width=float(edges[1]), xaxis=f"x{end}", yaxis=f"y{end}",
            marker={"color": BLUE, "line": {"width": 0}}, showlegend=False,
            hovertemplate=f"layer {layer}<br>" + "entropy about %{x:.3g}: %{y:.1%} of the tokens<extra></extra>",
        ))
        layout[f"xaxis{end}"] = {"domain": across, "anchor": f"y{end}", "showgrid": False, "nticks": 5,
                                 "range": [0, float(edges[-1])], "tickfont": {"size": SMALL},
                                 "title": {"text": label(entropy_name(profile, units), None) if grid.last(k) else "",
                                           "standoff": 6, "font": {"size": SMALL}}}
        layout[f"yaxis{end}"] = {"domain": upright, "anchor": f"x{end}", "tickfont": {"size": SMALL},
                                 **found[stage].scale(layer)}
    menu = [
        {"label": label(name.replace("_", " "), None), "method": "update",
         "args": [{"y": [one.heights(layer) for layer in layers]}, {"annotations": one.notes(layers, places)} | {
             f"yaxis{k + 1 if k else ''}.{key}": value
             for k, layer in enumerate(layers) for key, value in one.scale(layer).items()
         }]}
        for name, one in found.items()
    ]
    several = len(menu) > 1
    return figure(
        traces, title="Histograms of entropy over tokens, layer by layer",
        summary=f"{capital(entropy_name(profile, units))} of {plural(len(profile.tokens), 'token')} at "
        f"{plural(len(layers), 'layer')}, as shares of the tokens.",
        height=grid.height + 176, min_width=max(330, 190 * grid.across), max_width=290 * grid.across,
        caller="entropy_histogram_figure", margin={"t": 118 if several else 84, "b": 48}, bargap=0,
        annotations=found[stage].notes(layers, places),
        updatemenus=[_menu(menu, [*found].index(stage))] if several else [], **layout,
    )


class _Histograms:
    """Histograms and means of the entropies of one stage, by layer."""

    def __init__(self, profile: EntropyProfile, rows: Sequence[int], entropy: FloatArray, edges: FloatArray) -> None:
        layers = [int(profile.row_layers[r]) for r in rows]
        self.shares = {
            layer: np.histogram(entropy[r], edges)[0] / entropy.shape[1] for layer, r in zip(layers, rows, strict=True)
        }
        self.means = {layer: float(entropy[r].mean()) for layer, r in zip(layers, rows, strict=True)}

    def heights(self, layer: int) -> list[float]:
        """Shares of the tokens, nothing where the stage is not."""
        return _plain(self.shares[layer]) if layer in self.shares else []

    def scale(self, layer: int) -> dict[str, list[Any]]:
        """The axis of heights."""
        most = float(self.shares[layer].max()) if layer in self.shares else 1.0
        ticks = nice_ticks(most, 3)
        return {"range": [0.0, 1.08 * most], "tickvals": ticks, "ticktext": [f"{100 * tick:g}%" for tick in ticks]}

    def notes(self, layers: Sequence[int], places: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
        """What stands above each histogram."""
        said = [f"mean {self.means[layer]:.2f}" if layer in self.means else "not at this stage" for layer in layers]
        return [
            _caption(f"layer {layer}, {one}", *place) for layer, one, place in zip(layers, said, places, strict=True)
        ]


class _Panels:
    """Places of small panels in rows, as shares of the plot."""

    high, gap, between = 118, 44, 0.06

    def __init__(self, count: int) -> None:
        self.count = count
        self.across = min(ACROSS, count)
        self.down = -(-count // self.across)
        self.height = self.down * self.high + (self.down - 1) * self.gap

    def domains(self, k: int) -> tuple[list[float], list[float]]:
        """From left to right, and from below."""
        wide = (1 - self.between * (self.across - 1)) / self.across
        left = k % self.across * (wide + self.between)
        top = 1 - k // self.across * (self.high + self.gap) / self.height
        return [left, min(1.0, left + wide)], [max(0.0, top - self.high / self.height), min(1.0, top)]

    def last(self, k: int) -> bool:
        """Whether a panel stands in the lowest row."""
        return k // self.across == self.down - 1


def prediction_path_figure(profile: EntropyProfile) -> go.Figure:
    """The path that the prediction takes on the simplex: its steps by layer, and how long it is for each token.

    On the left the Fisher–Rao length of the step to each state of the residual stream from the one before, over
    tokens; on the right the length of the whole path over that of the geodesic from its first to its last point, which
    is at least one, with its median. Of a token whose first and last prediction nearly agree it is very large: where
    some lie far out, the axis ends before them, and says how many lie beyond.

    Parameters
    ----------
    profile : EntropyProfile

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If the profile has fewer than two states of the residual stream, or no comparisons.
    """
    go = graph_objects("prediction_path_figure")
    stepped = [r for r in range(len(profile.row_stages)) if not np.isnan(profile.step_length[r]).all()]
    if not stepped and np.isnan(profile.kl_to_final).all():
        raise ArgumentError(
            "prediction_path_figure: the profile holds no comparisons; make it with logit_lens(..., compare=True)"
        )
    if not stepped:
        raise ArgumentError(
            "prediction_path_figure: the profile has no step from state to state; read the text with "
            "logit_lens(..., stages='resid_post'), for at_stage keeps no step over a state that it leaves out"
        )
    names = [row_names(profile)[r] for r in stepped]
    places = list(range(1, len(stepped) + 1))
    steps = profile.step_length[stepped]
    ratio = path_over_geodesic(profile)
    traces = _band(go, places, steps, axes={"xaxis": "x", "yaxis": "y"}, legend=True,
                   names=[f"to layer {n}" if n.isdigit() else f"to {label(n, None)}" for n in names])
    head, wide = 96, 0.56 if ratio.size else 1.0
    shown = _some(places)
    long_names = any(not n.isdigit() for n in names)
    layout: dict[str, Any] = {
        "xaxis": {"domain": [0, wide], "showgrid": False, "tickvals": shown, "range": [0.6, len(places) + 0.4],
                  "ticktext": [label(names[i - 1], None) for i in shown],
                  "tickangle": -45 if long_names else 0, "title": {"text": "" if long_names else "to layer"}},
        "yaxis": {"range": [0, _top(steps)], "nticks": 6,
                  "title": {"text": "step (Fisher–Rao)"}},
    }
    notes = [_caption("Step to each state", 0.0, 1.0)]
    if ratio.size:
        end = _end(ratio)
        beyond = int((ratio > end).sum())
        counts, edges = np.histogram(ratio[ratio <= end], bins=BINS)
        traces.append(go.Bar(
            x=[significant(float(m)) for m in (edges[:-1] + edges[1:]) / 2], y=_plain(counts / len(ratio)),
            width=float(edges[1] - edges[0]), marker={"color": ORANGE, "line": {"width": 0}}, xaxis="x2", yaxis="y2",
            showlegend=False, hovertemplate="about %{x:.3g} times the geodesic: %{y:.1%} of the tokens<extra></extra>",
        ))
        layout["xaxis2"] = {"domain": [0.66, 1.0], "anchor": "y2", "showgrid": False, "nticks": 6,
                            "title": {"text": "path over geodesic" + (
                                f"<br>beyond: {plural(beyond, 'token')}, up to {ratio.max():,.3g}" if beyond else ""
                            )}}
        layout["yaxis2"] = {"anchor": "x2", "tickformat": ".0%", "nticks": 6,
                            "title": {"text": "tokens", "standoff": 6}}
        notes.append(_caption(f"Path over geodesic, median {np.median(ratio):.2f}", 0.66, 1.0))
    return figure(
        traces, title="The path of the prediction on the simplex",
        summary=f"Fisher–Rao steps of {plural(len(profile.tokens), 'token')} through {plural(len(places) + 1, 'state')}"
        + (f"; the path is {np.median(ratio):.3g} times the geodesic at the median." if ratio.size else "."),
        height=300 + head + 78, min_width=680, max_width=1120, caller="prediction_path_figure",
        margin={"t": head, "b": 70}, legend=_legend(300), annotations=notes, bargap=0, **layout,
    )


def path_over_geodesic(profile: EntropyProfile) -> FloatArray:
    """Length of each token's path over that of its geodesic, of the tokens whose prediction moves at all."""
    moved = (profile.geodesic_length > 1e-9) & ~np.isnan(profile.path_length)
    return np.asarray(profile.path_length[moved] / profile.geodesic_length[moved])


def _end(ratio: FloatArray) -> float:
    """Where the axis of quotients ends: at the largest, or before those that lie far out."""
    limit = min(np.quantile(ratio, TAIL, method="lower"), FAR_OUT * np.quantile(ratio, 0.9, method="lower"))
    end, largest = float(ratio[ratio <= limit].max()), float(ratio.max())
    return end if largest > 1.5 * end else largest


def _stages(profile: EntropyProfile) -> dict[str, list[int]]:
    """Rows of each stage, in order; the embedding goes before the outputs of the blocks, or stands alone."""
    found: dict[str, list[int]] = {}
    outputs = "resid_post" in profile.row_stages
    for r, stage in enumerate(profile.row_stages):
        found.setdefault("resid_post" if stage == "embedding" and outputs else stage, []).append(r)
    order = ("embedding", "attention_output", "resid_mid", "cross_attention_output", "resid_cross",
             "feed_forward_output", "resid_post")
    return {stage: found[stage] for stage in order if stage in found}


def _band(
    go: Any, x: Sequence[int], values: FloatArray, *, axes: Mapping[str, str], names: Sequence[str], legend: bool
) -> list[Any]:
    """Mean and median over tokens, between quantiles."""
    low, first, middle, third, high = np.quantile(values, QUANTILES, axis=1)
    mean = values.mean(axis=1)
    told = [
        f"<b>{name}</b><br>mean {m:.3f}, median {q2:.3f}<br>quartiles {q1:.3f} to {q3:.3f}<br>10 to 90 % {q0:.3f} to "
        f"{q4:.3f}"
        for name, m, q0, q1, q2, q3, q4 in zip(names, mean, low, first, middle, third, high, strict=True)
    ]
    traces = []
    for name, under, over, color in (("10 to 90 %", low, high, OUTER), ("quartiles", first, third, INNER)):
        traces.append(go.Scatter(
            x=[*x, *reversed(x)], y=[*_plain(over), *reversed(_plain(under))], fill="toself", fillcolor=color,
            line={"width": 0}, mode="lines", name=name, legendgroup=name, showlegend=legend, hoverinfo="skip", **axes,
        ))
    traces.append(go.Scatter(
        x=list(x), y=_plain(middle), mode="lines", name="median", legendgroup="median", showlegend=legend,
        line={"color": MUTED, "width": 1.5, "dash": "dot"}, hoverinfo="skip", **axes,
    ))
    traces.append(go.Scatter(
        x=list(x), y=_plain(mean), mode="lines+markers", name="mean", legendgroup="mean", showlegend=legend,
        line={"color": BLUE, "width": 2}, marker={"size": 6}, customdata=told,
        hovertemplate="%{customdata}<extra></extra>", **axes,
    ))
    return traces


def _plain(values: FloatArray) -> list[float]:
    return [significant(float(v)) for v in values]


def _caption(text: str, x: float, y: float) -> dict[str, Any]:
    return {"text": f"<b>{label(text, None)}</b>", "x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left",
            "yanchor": "bottom", "yshift": 3, "showarrow": False, "font": {"size": SMALL, "color": INK}}


def _legend(plot: int) -> dict[str, Any]:
    """A legend above the captions of a plot of so many pixels."""
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": 1 + 22 / plot, "yanchor": "bottom", "yref": "paper",
            "font": {"size": SMALL}, "itemclick": False, "itemdoubleclick": False}


def _menu(buttons: list[dict[str, Any]], active: int) -> dict[str, Any]:
    return {"buttons": buttons, "active": active, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
            "pad": {"b": 24}, "font": {"size": SMALL}, "bgcolor": "#ffffff", "showactive": True}


def _some(places: Sequence[int]) -> list[int]:
    """So many of the places, evenly spread, that their labels fit."""
    step = -(-len(places) // FEW_TICKS)
    return list(places[::step])


def _top(values: FloatArray) -> float:
    """Where an axis ends that shows all bands and means of some rows (R, T)."""
    return _ceiling(float(max(np.quantile(values, 0.9, axis=1).max(), values.mean(axis=1).max())))


def _ceiling(value: float) -> float:
    """A little above the largest value, never zero."""
    return float(value) * 1.06 if value > 0 else 1.0
