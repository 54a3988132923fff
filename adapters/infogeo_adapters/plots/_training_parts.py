"""What the figures of a training run share: findings with their numbers, quantities by layer, and how both look."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Diagnosis, Finding
from infogeo.errors import ArgumentError
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.plots.style import CLOSE, ORANGE, significant

Units = Literal["nats", "bits"]
MOST_POINTS = 400
"""Records or steps of a line that are drawn; of more, evenly spread ones."""
MOST_COLUMNS = 120
"""Records of a map that are drawn."""
MOST_ROWS = 6
"""Rows of numbers above a figure; of lines that stand too close for more, some have no number."""
KEPT_IN_NATS = ("fisher_trace", "path_length")
"""Quantities that are no entropies, whose unit stays: squared nats, and lengths on the manifold."""


@dataclass(frozen=True)
class Mark:
    """A finding with the number by which it is called on a page."""

    name: str
    """``1``, ``2``, ...; what follows from finding 1 is ``1.1``, ``1.2``, ..."""
    finding: Finding


@dataclass(frozen=True)
class Entry:
    """What is told at once: a finding, or several of one rule that differ in nothing but place, steps and evidence."""

    name: str
    findings: tuple[Finding, ...]
    related: tuple[Entry, ...] = ()
    """What follows from any of them."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All of its findings with its number, and after them those that follow."""
        own = tuple(Mark(self.name, finding) for finding in self.findings)
        return (*own, *(mark for entry in self.related for mark in entry.marks))


def entries_of(findings: Iterable[Finding], *, start: int = 1, prefix: str = "") -> tuple[Entry, ...]:
    """Findings in entries, numbered in the order in which the first of each comes."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        key = (finding.rule, "" if prefix else finding.severity, finding.explanation, finding.advice)
        groups.setdefault(key, []).append(finding)
    made = []
    for number, members in enumerate(groups.values(), start):
        name = f"{prefix}{number}"
        follows = entries_of((f for member in members for f in member.related), prefix=f"{name}.")
        made.append(Entry(name, tuple(members), follows))
    return tuple(made)


def marks_of(diagnosis: Diagnosis) -> tuple[Mark, ...]:
    """All findings of a diagnosis with the numbers of their entries, each entry followed by what follows from it."""
    return tuple(mark for entry in entries_of(diagnosis.findings) for mark in entry.marks)


def quantity_name(name: str, units: Units = "nats") -> str:
    """A quantity and its unit, as it stands on an axis.

    Examples
    --------
    >>> quantity_name("effective_rank"), quantity_name("capacity", "bits"), quantity_name("twin")
    ('effective rank, dimensions', 'capacity, bits', 'twin')
    """
    unit = QUANTITIES[name].unit
    shown = units if unit == "nats" and name not in KEPT_IN_NATS else unit
    return name.replace("_", " ") + ("" if shown == "ratio" or name in KEPT_IN_NATS else f", {shown}")


def scale_of(name: str, units: Units) -> float:
    """What a value is multiplied with to be in the units."""
    if units not in ("nats", "bits"):
        raise ArgumentError(f"units: found {units!r}, wanted 'nats' or 'bits'")
    return 1 / math.log(2) if units == "bits" and QUANTITIES[name].unit == "nats" and name not in KEPT_IN_NATS else 1.0


def by_layer(history: TrainingHistory, name: str, units: Units = "nats") -> FloatArray:
    """(R, K) a quantity over the records: K is 1 for the model, else states or blocks; of heads the mean of a block.

    What is not finite is NaN.
    """
    values = history.series(name) * scale_of(name, units)
    values = np.where(np.isfinite(values), values, np.nan)
    if QUANTITIES[name].scope == "head":
        values = mean_over_last(values, always=True)
    return np.asarray(values.reshape(len(history.records), -1))


def mean_over_last(values: FloatArray, *, always: bool = False) -> FloatArray:
    """Means over the finite values along the last axis, NaN where there are none; of one axis the values themselves."""
    values = np.where(np.isfinite(values), values, np.nan)
    if values.ndim < 2 and not always:
        return values.reshape(-1)
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    sums = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(counts, sums / np.maximum(counts, 1), np.nan))


def layers_of(name: str, count: int) -> list[int]:
    """The numbers of the layers of a quantity: states from 0, blocks from 1."""
    return [k + (QUANTITIES[name].scope != "state") for k in range(count)]


def upright(
    marks: Sequence[Mark], ends: tuple[float, float], *, pixels: float = 450
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Lines where findings were first seen, their numbers above in as many rows as are needed, and how many rows.

    Findings that share a number have one line, where the first of them was seen.
    """
    since: dict[str, int] = {}
    for mark in marks:
        since[mark.name] = min(mark.finding.first_step, since.get(mark.name, mark.finding.first_step))
    steps: dict[int, list[str]] = {}
    for name, step in since.items():
        steps.setdefault(step, []).append(name)
    reach = max(ends[1] - ends[0], 1e-9)
    shapes, notes = [], []
    filled: list[float] = []
    for step, names in sorted(steps.items()):
        text = called(names)
        width = (7 * len(text) + 14) / pixels * reach
        left = step - width / 2
        row = next((k for k, end in enumerate(filled) if end <= left), len(filled))
        filled[row:row + 1] = [left + width]
        shapes.append({"type": "line", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1,
                       "line": {"color": ORANGE, "width": 1.5, "dash": "dot"}})
        side = "left" if step - ends[0] < 0.02 * reach else "right" if ends[1] - step < 0.02 * reach else "center"
        if row >= MOST_ROWS:  # the line stays
            continue
        notes.append({"x": step, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 2 + 19 * row, "xanchor": side,
                      "text": text, "showarrow": False, **tag()})
    return shapes, notes, min(len(filled), MOST_ROWS)


def nearest(steps: Any, step: int, known: Any) -> int:
    """The record among the known ones that is nearest to a step."""
    at = np.flatnonzero(known)
    return int(at[np.argmin(np.abs(steps[at] - step))])


def tag() -> dict[str, Any]:
    """The look of the number of a finding."""
    return {"font": {"size": 11, "color": "#ffffff"}, "bgcolor": ORANGE, "borderpad": 1}


def called(names: Sequence[str]) -> str:
    """Numbers of findings at one place; of many the first ones."""
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:3]) + ("…" if len(shown) > 3 else "")


def layer_words(layer: int) -> str:
    """A layer in words."""
    return f"layer {layer}" if layer else "embedding"


def shades() -> list[list[Any]]:
    """The scale without its lightest end, for dots on white."""
    colors = [color for _, color in CLOSE[1:]]
    return [[k / (len(colors) - 1), color] for k, color in enumerate(colors)]


def shade(place: int, count: int) -> str:
    """A color between the second and the last of the scale."""
    colors = shades()
    at = place / max(count - 1, 1) * (len(colors) - 1)
    low = min(int(at), len(colors) - 2)
    a, b = colors[low][1], colors[low + 1][1]
    mixed = (round((1 - (at - low)) * int(a[i:i + 2], 16) + (at - low) * int(b[i:i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def spread(count: int, most: int) -> Any:
    """At most so many indices, evenly spread, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(int))


def plain(values: FloatArray) -> list[float | None]:
    """Numbers for a figure; what is not finite is a gap."""
    return [significant(float(v)) if math.isfinite(v) else None for v in values]
