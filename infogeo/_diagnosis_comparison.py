"""Two runs or checkpoints side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo._checks import FloatArray, sealed
from infogeo._diagnosis_result import Diagnosis, Finding
from infogeo.errors import ArgumentError, ShapeError
from infogeo.results import Result, Source
from infogeo.training import QUANTITIES, TrainingHistory

SHARE_FLOOR = 0.01
"""What is added to shares before they are divided by each other."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunComparison(Result):
    """Two runs, or two checkpoints: what was measured of both at their last records, and findings of only one."""

    names: tuple[str, str]
    steps: tuple[int, int]
    """Steps of the records that are compared."""
    first: Mapping[str, FloatArray]
    """By quantity that both have: (), (L + 1), (L) or (L, H) of the first."""
    second: Mapping[str, FloatArray]
    """The same of the second."""
    diagnoses: tuple[Diagnosis, Diagnosis]
    notes: tuple[str, ...] = ()
    """Where the two differ in what was measured, so that numbers may differ without any fault."""
    source: Source = field(default_factory=Source)

    @property
    def only_first(self) -> tuple[Finding, ...]:
        """Findings of the first that the second does not have, of the same rule at the same place."""
        return _missing(*self.diagnoses)

    @property
    def only_second(self) -> tuple[Finding, ...]:
        """Findings of the second that the first does not have."""
        return _missing(self.diagnoses[1], self.diagnoses[0])

    @property
    def both(self) -> tuple[Finding, ...]:
        """Findings that both have, as they are in the second."""
        known = {_key(f) for f in self.diagnoses[0].all_findings()}
        return tuple(f for f in self.diagnoses[1].all_findings() if _key(f) in known)

    @property
    def exit_code(self) -> int:
        """1 if one of the two has a fault, else 0."""
        return max(diagnosis.exit_code for diagnosis in self.diagnoses)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """One row for each quantity and layer (and head); ``ratio`` is the second over the first."""
        table = []
        for name, before in self.first.items():
            scope = QUANTITIES[name].scope
            for place in np.ndindex(before.shape):
                layer = None if scope == "model" else place[0] + (scope != "state")
                head = place[1] + 1 if scope == "head" else None
                a, b = float(before[place]), float(self.second[name][place])
                if np.isnan(a) and np.isnan(b):
                    continue
                table.append((name, layer, head, a, b, b - a, b / a if a else float("nan")))
        return ("quantity", "layer", "head", "first", "second", "difference", "ratio"), table

    def most_different(self, most: int = 20) -> list[tuple[Any, ...]]:
        """Rows of the table where the two differ by the largest factors, or where only one is zero.

        Of shares it is the factor between them with a hundredth added to both: half a percent against none is little.
        """
        found = [row for row in self.rows()[1] if np.isfinite(row[3]) and np.isfinite(row[4]) and row[3] != row[4]]

        def factor(row: tuple[Any, ...]) -> float:
            floor = SHARE_FLOOR if QUANTITIES[row[0]].unit == "share" else 0.0
            return _factor(abs(row[3]) + floor, abs(row[4]) + floor)

        return sorted(found, key=lambda row: -factor(row))[:most]

    def summary(self) -> str:
        a, b = self.names
        only = len(self.only_first)
        changed = self.diagnoses[0].thresholds_changed
        return (
            f"{a} (step {self.steps[0]}) against {b} (step {self.steps[1]}): {_plural(only, 'finding')} only in the "
            f"first, {len(self.only_second)} only in the second, {len(self.both)} in both"
            + f"; with changed thresholds: {changed}" * bool(changed)
        )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _factor(a: float, b: float) -> float:
    """By how much two numbers of at least zero differ, as the size of the logarithm of their ratio."""
    return abs(float(np.log(a / b))) if a and b else float("inf")


def _key(finding: Finding) -> tuple[str, int | None, int | None]:
    return finding.rule, finding.block, finding.head


def _missing(of: Diagnosis, in_other: Diagnosis) -> tuple[Finding, ...]:
    known = {_key(f) for f in in_other.all_findings()}
    return tuple(f for f in of.all_findings() if _key(f) not in known)


def compare_histories(
    first: TrainingHistory, second: TrainingHistory, before: Diagnosis, after: Diagnosis
) -> RunComparison:
    """Two histories at their last records, with their diagnoses."""
    a, b = first.facts, second.facts
    if a.depth != b.depth:
        raise ShapeError(f"second: found a model of {_plural(b.depth, 'block')}, wanted {a.depth} as in the first")
    for name, history in (("first", first), ("second", second)):
        if not history.records:
            raise ArgumentError(f"{name}: found a history without a record up to there, wanted one record at least")
    old, new = first.records[-1].values, second.records[-1].values
    shared = [name for name in QUANTITIES if name in old and name in new and old[name].shape == new[name].shape]
    notes = _differences(first, second)
    return RunComparison(
        names=(before.run, after.run), steps=(first.steps[-1], second.steps[-1]),
        first={name: sealed(old[name].copy()) for name in shared},
        second={name: sealed(new[name].copy()) for name in shared}, diagnoses=(before, after), notes=notes,
        source=b.source,
    )


def _differences(first: TrainingHistory, second: TrainingHistory) -> tuple[str, ...]:
    a, b = first.facts, second.facts
    notes: list[str] = []
    if a.probe != b.probe:
        notes.append("The probe batches differ: quantities of the probe batch are of different texts.")
    pairs: Sequence[tuple[str, object, object]] = (
        ("architecture", a.architecture, b.architecture), ("width", a.width, b.width),
        ("number format", a.dtype, b.dtype), ("vocabulary", a.vocabulary, b.vocabulary),
    )
    notes += [f"The models differ in {what}: {x} and {y}." for what, x, y in pairs if x != y]
    lacking = sorted(name for name in QUANTITIES if first.has(name) != second.has(name))
    if lacking:
        notes.append(f"Measured of only one of the two: {', '.join(lacking)}.")
    return tuple(notes)
