"""The lens by token: what is predicted at each layer, stage and token of a text, as colored cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo.entropy_profile import EntropyProfile, EntropyUnit
from infogeo.errors import ArgumentError
from infogeo_adapters.plots.style import (
    CLOSE,
    FAR,
    FONT_SIZE,
    SMALL,
    capital,
    figure,
    graph_objects,
    label,
    nice_ticks,
    plural,
    shorten,
    significant,
    visible,
)
from infogeo_adapters.plots.tokens import byte_level, readable_token

if TYPE_CHECKING:
    import plotly.graph_objects as go

Positions = Literal["words", "tokens"]

TEXT_CELLS = 1200
"""Up to so many cells the most probable token stands in each; beyond, it is told when a cell is pointed at."""
ACROSS_TEXT, ACROSS = 14, 40
"""Tokens in one line of the map, with and without text in the cells; a longer text goes on in the next line."""
HOVERS = 20_000
"""Up to so many cells all outcomes of the profile are told when a cell is pointed at; beyond, only the first."""
PER_LETTER = 7
"""Width of a letter in pixels, about."""
CLIPPED, NEAR = 0.98, 1.15
"""Colors end at this quantile of the values besides the embedding's, unless the largest value is so near to it."""


def check_units(units: str) -> None:
    """Raise an ArgumentError unless the units are known."""
    if units not in ("nats", "bits", "normalized"):
        raise ArgumentError(f"units {units!r} do not exist; choose nats or bits, or normalized")


def entropy_name(profile: EntropyProfile, units: EntropyUnit) -> str:
    """What an axis of entropy is called."""
    return f"entropy (share of log {profile.n_outcomes:,})" if units == "normalized" else f"entropy ({units})"


def divergence_scale(units: EntropyUnit) -> tuple[float, str]:
    """What divergences in nats are multiplied by, and the unit they then have; they are never normalized."""
    return (1 / float(np.log(2.0)), "bits") if units == "bits" else (1.0, "nats")


def lens_figure(
    profile: EntropyProfile, *, units: EntropyUnit = "nats", positions: Positions = "words"
) -> go.Figure:
    """What is predicted at each row of a profile and each word or token, colored by entropy; layer 0 at the bottom.

    Dark is certain. A cell that is pointed at tells the most probable outcomes with their probabilities, the entropy,
    the divergence from the final prediction, and the rank of the true token; a menu colors by the divergence, by the
    surprise at the true token, or by the step on the Fisher–Rao path instead. Each scale ends where 98 % of the values
    besides the embedding's lie below; what is larger has the last color, and the bar says so. A long text goes on in
    the next line, and each window of a text read in windows begins a line of its own.

    Parameters
    ----------
    profile : EntropyProfile
    units : {'nats', 'bits', 'normalized'}
        Of the entropies; divergences are in bits with bits, else in nats.
    positions : {'words', 'tokens'}
        The last token of each word, or every token.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ArgumentError
        If units or positions are unknown.
    """
    check_units(units)
    if positions not in ("words", "tokens"):
        raise ArgumentError(f"positions {positions!r} do not exist; choose words or tokens")
    go = graph_objects("lens_figure")
    grid = _grid(profile, positions)
    values = _colorings(profile, units, grid.places)
    template, hover = _hover(profile, units, grid)
    starts = np.unique(np.searchsorted(grid.places, window_starts(profile))).tolist()
    shape = _Shape(rows=len(profile.row_stages), starts=tuple(starts), n=len(grid.places), longest=grid.longest,
                   row_label=max(len(s) for s in grid.rows))
    traces, layout = [], {}
    for k, line in enumerate(shape.lines()):
        end = "" if k == 0 else str(k + 1)
        z = values[0].values[:, line]
        cells = {"text": [row[line] for row in grid.cells], "texttemplate": "%{text}", "textfont": {"size": SMALL}}
        traces.append(go.Heatmap(
            z=_rounded(z), x=list(range(line.start, line.stop)), y=list(range(shape.rows)), coloraxis="coloraxis",
            xgap=1, ygap=1, customdata=[row[line] for row in hover], hovertemplate=template,
            hoverongaps=False, xaxis=f"x{end}", yaxis=f"y{end}", **(cells if shape.with_text else {}),
        ))
        low, high = shape.domain(k)
        layout[f"xaxis{end}"] = {
            "tickvals": list(range(line.start, line.stop)), "ticktext": grid.labels[line], "showgrid": False,
            "range": [line.start - 0.5, line.start + shape.across - 0.5], "anchor": f"y{end}", "automargin": False,
            "tickangle": -45 if shape.with_text else -60, "tickfont": {"size": SMALL}, "showline": False,
        }
        layout[f"yaxis{end}"] = {
            "tickvals": list(range(0, shape.rows, shape.step)), "ticktext": grid.rows[:: shape.step],
            "showgrid": False, "range": [-0.5, shape.rows - 0.5], "domain": [low, high], "anchor": f"x{end}",
            "automargin": False, "tickfont": {"size": SMALL}, "showline": False,
            "title": {"text": "layer" if k == 0 else "", "standoff": 4},
        }
    one = "word" if positions == "words" else "token"
    what = "the next token" if profile.predicts == "next" else "the token itself"
    place = "stage" if len({*profile.row_stages} - {"embedding"}) > 1 else "layer"
    return figure(
        traces, title=f"Logit lens: entropy of the prediction of {what} at each {one} and {place}",
        summary=f"{capital(entropy_name(profile, units))} for {plural(shape.n, one)} at {plural(shape.rows, place)}; "
        "dark is certain.",
        height=shape.height, min_width=shape.min_width, max_width=shape.max_width, caller="lens_figure",
        margin={"t": shape.TOP, "b": 8, "l": shape.left, "r": 12},
        coloraxis=_axis(values[0]), updatemenus=[_choices(values, shape)], annotations=_window_names(shape), **layout,
    )


def window_starts(profile: EntropyProfile) -> list[int]:
    """The first token of each window that a text was read in; 0 alone where it was read in one piece."""
    said = str(profile.source.options.get("window_starts") or "")
    numbers = {int(part) for part in said.split(", ") if part.isdecimal()}
    return sorted({0} | {number for number in numbers if number < len(profile.tokens)})


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The cells of the map as texts."""

    places: IntArray
    """(n,) token of each column."""
    names: list[str]
    """What a column is called when pointed at."""
    labels: list[str]
    """What stands under a column."""
    rows: list[str]
    cells: list[list[str]]
    """What stands in a cell."""
    longest: int
    """Letters of the longest label."""
    in_bytes: bool


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """Sizes in pixels."""

    rows: int
    starts: tuple[int, ...]
    """Columns that a window begins at, 0 among them."""
    n: int
    longest: int
    row_label: int

    TOP = 118
    WINDOW = 20

    @property
    def with_text(self) -> bool:
        return self.rows * self.n <= TEXT_CELLS

    @property
    def across(self) -> int:
        """Columns of a line, so that all lines are about as long."""
        most = ACROSS_TEXT if self.with_text else ACROSS
        longest = max(end - start for start, end in self.segments())
        return -(-longest // -(-longest // most))

    @property
    def cell(self) -> int:
        """Height of a cell."""
        return 28 if self.with_text else 18 if self.rows <= 16 else 14

    @property
    def step(self) -> int:
        """Every how many rows a label fits."""
        return 1 if self.rows <= 40 else 2

    @property
    def under(self) -> int:
        """Room under a line for the labels of its columns, which are slanted."""
        return int((0.72 if self.with_text else 0.88) * PER_LETTER * self.longest) + 22

    @property
    def left(self) -> int:
        return PER_LETTER * self.row_label + 40

    @property
    def plot(self) -> int:
        return sum(self.above(line) + self.cell * self.rows + self.under for line in self.lines())

    @property
    def height(self) -> int:
        return self.plot + self.TOP + 8

    @property
    def min_width(self) -> int:
        return max(620, (66 if self.with_text else 20) * self.across + self.left + 12)

    @property
    def max_width(self) -> int:
        return max(self.min_width, (110 if self.with_text else 26) * self.across + self.left + 12)

    def segments(self) -> list[tuple[int, int]]:
        """The columns of each window, from and to."""
        return list(pairwise((*self.starts, self.n)))

    def lines(self) -> list[slice]:
        """The columns of each line; a window begins a new one."""
        return [
            slice(i, min(i + self.across, end))
            for start, end in self.segments() for i in range(start, end, self.across)
        ]

    def above(self, line: slice) -> int:
        """Room over a line for the name of the window that it begins."""
        return self.WINDOW if len(self.starts) > 1 and line.start in self.starts else 0

    def domain(self, number: int) -> tuple[float, float]:
        """Where a line stands, as shares of the height of the plot from below."""
        lines = self.lines()
        high = self.cell * self.rows
        before = sum(self.above(line) + high + self.under for line in lines[:number]) + self.above(lines[number])
        top = 1 - before / self.plot
        return max(0.0, top - high / self.plot), min(1.0, top)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Coloring:
    """One quantity that the cells can be colored by."""

    name: str
    values: FloatArray
    scale: Sequence[tuple[float, str]]
    top: float
    """Where the colors end."""
    more: bool
    """Whether values lie beyond."""


def _grid(profile: EntropyProfile, positions: Positions) -> _Grid:
    in_bytes = byte_level(chain(profile.tokens, profile.outcome_names.values()))
    if positions == "words":
        places = profile.last_tokens()
        names = list(profile.words)
    else:
        places = np.arange(len(profile.tokens))
        names = [_spaced(readable_token(token, in_bytes=in_bytes)) for token in profile.tokens]
    shown = [name.strip("␣ ") or "␣" for name in names]
    tops = [[readable_token(row[t], in_bytes=in_bytes).strip(" ") or "␣" for t in places] for row in profile.top_tokens]
    return _Grid(
        places=places, names=[label(name, 40) for name in names], labels=[label(name, 14) for name in shown],
        rows=row_names(profile), cells=[[label(t, 9) for t in row] for row in tops],
        longest=max(len(shorten(visible(name), 14)) for name in shown), in_bytes=in_bytes,
    )


def shown_tokens(profile: EntropyProfile, tokens: Sequence[str]) -> list[str]:
    """Tokens as a reader would write them, without the space they begin with; a lone space is a sign one can see."""
    in_bytes = byte_level(chain(profile.tokens, profile.outcome_names.values()))
    return [visible(readable_token(token, in_bytes=in_bytes).strip(" ") or "␣") for token in tokens]


def row_names(profile: EntropyProfile) -> list[str]:
    """Short names of the rows: the layer alone where all rows are layers."""
    if not {*profile.row_stages} - {"embedding", "resid_post"}:
        return [str(layer) for layer in profile.row_layers.tolist()]
    return [name.replace("_", " ") for name in profile.row_labels]


def _spaced(text: str) -> str:
    return text.replace(" ", "␣")


def _colorings(profile: EntropyProfile, units: EntropyUnit, places: IntArray) -> list[_Coloring]:
    scale, unit = divergence_scale(units)
    found = [("entropy", entropy_name(profile, units), profile.in_units(units), FAR)]
    found.append(("kl", f"KL to the final prediction ({unit})", np.maximum(profile.kl_to_final, 0) * scale, CLOSE))
    true = "next" if profile.predicts == "next" else "true"
    if not np.isnan(profile.cross_entropy[:, places]).all():
        found.append(("loss", f"surprise at the {true} token ({unit})", profile.cross_entropy * scale, CLOSE))
    if not np.isnan(profile.step_length).all():
        found.append(("step", "Fisher–Rao step from the state before", profile.step_length, CLOSE))
    made = []
    for _, name, values, colors in found:
        chosen = np.asarray(values[:, places])
        top, more = _top(chosen, np.array([stage == "embedding" for stage in profile.row_stages]))
        made.append(_Coloring(name=name, values=chosen, scale=colors, top=top, more=more))
    return made


def _top(values: FloatArray, embedding: NDArray[np.bool_]) -> tuple[float, bool]:
    """Where the colors of a quantity end, and whether values lie beyond."""
    rest = values if embedding.all() else values[~embedding]
    known = rest[np.isfinite(rest)]
    most = float(np.quantile(known, CLIPPED)) if known.size else 0.0
    largest = float(values[~np.isnan(values)].max(initial=0.0))
    if largest <= NEAR * most:
        return significant(largest) if largest > 0 else 1.0, False
    finite = float(values[np.isfinite(values)].max(initial=0.0))
    end = most if most > 0 else finite if finite > 0 else 1.0
    return significant(end, 3), largest > significant(end, 3)


def _window_names(shape: _Shape) -> list[dict[str, Any]]:
    """What stands over the first line of each window, if there are several."""
    return [
        {"text": f"<b>window {shape.starts.index(line.start) + 1}</b>", "x": 0, "xref": "paper", "xanchor": "left",
         "y": shape.domain(k)[1], "yref": "paper", "yanchor": "bottom", "showarrow": False, "font": {"size": SMALL}}
        for k, line in enumerate(shape.lines()) if shape.above(line)
    ]


def _axis(coloring: _Coloring) -> dict[str, Any]:
    ticks = nice_ticks(coloring.top, 4)
    names = [f"{tick:g}" for tick in ticks]
    if coloring.more:
        kept = [tick for tick in ticks if tick <= 0.72 * coloring.top]
        ticks, names = [*kept, coloring.top], [*(f"{tick:g}" for tick in kept), f"{coloring.top:g} and more"]
    return {
        "colorscale": [list(pair) for pair in coloring.scale], "cmin": 0.0, "cmax": coloring.top,
        "colorbar": {
            "title": {"text": label(coloring.name, None), "side": "top", "font": {"size": SMALL}},
            "orientation": "h", "thickness": 10, "lenmode": "pixels", "len": 250, "x": 1, "xanchor": "right", "y": 1,
            "yanchor": "bottom", "ypad": 8, "xpad": 36 if coloring.more else 0, "tickfont": {"size": SMALL},
            "outlinewidth": 0, "tickvals": ticks, "ticktext": names,
        },
    }


def _choices(colorings: Sequence[_Coloring], shape: _Shape) -> dict[str, Any]:
    buttons = [
        {"label": label(capital(one.name), None), "method": "update",
         "args": [{"z": [_rounded(one.values[:, line]) for line in shape.lines()]}, {"coloraxis": _axis(one)}]}
        for one in colorings
    ]
    return {"buttons": buttons, "active": 0, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 10},
            "font": {"size": FONT_SIZE}, "bgcolor": "#ffffff", "showactive": True}


def _hover(profile: EntropyProfile, units: EntropyUnit, grid: _Grid) -> tuple[str, list[list[list[str]]]]:
    """The template of what is told of a cell, and what each cell puts into it."""
    scale, unit = divergence_scale(units)
    entropy = profile.in_units(units)
    many = len(profile.row_stages) * len(grid.places) > HOVERS
    k = 1 if many else profile.top_ids.shape[2]
    names = {
        i: label(_spaced(readable_token(name, in_bytes=grid.in_bytes)), 30) for i, name in profile.outcome_names.items()
    }
    true = [_true_token(profile, int(t), grid.in_bytes) for t in grid.places]
    rows = [f"layer {row}" if row.isdigit() else row for row in grid.rows]
    table = []
    for r, row in enumerate(rows):
        line = []
        for c, t in enumerate(grid.places.tolist()):
            ids, shares = profile.top_ids[r, t, :k].tolist(), profile.top_probabilities[r, t, :k].tolist()
            told = "none" if true[c] is None else (
                f"{true[c]}, rank {profile.rank[r, t]:,}, surprise {profile.cross_entropy[r, t] * scale:.3f} {unit}"
            )
            line.append([
                grid.names[c], row, f"{entropy[r, t]:.3f}", f"{profile.kl_to_final[r, t] * scale:.3f}",
                ", ".join(f"{names[i]} {p:.3f}" for i, p in zip(ids, shares, strict=True)), told,
            ])
        table.append(line)
    said = "of the largest" if units == "normalized" else units
    what = "next token" if profile.predicts == "next" else "token itself"
    parts = [
        "<b>%{customdata[0]}</b>, %{customdata[1]}", f"entropy %{{customdata[2]}} {said}",
        f"KL to the final prediction %{{customdata[3]}} {unit}",
        f"most probable ({what}):<br><b>%{{customdata[4]}}</b>", "true token: %{customdata[5]}",
    ]
    return "<br>".join(parts) + "<extra></extra>", table


def _true_token(profile: EntropyProfile, place: int, in_bytes: bool) -> str | None:
    """The token that a place should predict, as a label; None if there is none."""
    number = int(profile.target_ids[place])
    if number < 0:
        return None
    if profile.predicts == "itself":
        name: str | None = profile.tokens[place]
    elif place + 1 < len(profile.tokens):
        name = profile.tokens[place + 1]
    else:
        name = profile.outcome_names.get(number)
    return f"number {number}" if name is None else label(_spaced(readable_token(name, in_bytes=in_bytes)), 30)


def _rounded(values: FloatArray) -> list[list[float | None]]:
    return [[None if np.isnan(v) else significant(v) for v in row] for row in np.asarray(values).tolist()]
