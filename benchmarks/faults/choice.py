"""The choice of thresholds: one after the other, on runs that are not reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faults.score import Case, Report, judge, middle_of_best, objective, reports_at_last
from infogeo.diagnosis import RULES, Thresholds, diagnose
from infogeo.training import TrainingHistory

FACTORS = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)
"""What a threshold is multiplied with."""
WHOLE = ("persistence", "plateau_records")
"""Thresholds that count records."""
COUNTS = (1.0, 2.0, 3.0, 4.0, 5.0)
BELOW_ONE = frozenset({
    "twin", "collapsed_cosine", "token_similarity", "dead_units", "uniform_attention", "batch_repetition",
    "plateau_level", "slow_progress", "frozen_on_purpose", "initial_attention", "leak_unlearned", "answer_shown",
})
"""Shares and cosines near one: their distance from one is multiplied."""


class _Watched(Thresholds):
    """Thresholds that remember which of them were asked for."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in object.__getattribute__(self, "__dataclass_fields__"):
            _SEEN.add(name)
        return object.__getattribute__(self, name)


_SEEN: set[str] = set()


def fields_by_rule(histories: Sequence[TrainingHistory]) -> dict[str, set[str]]:
    """Which thresholds each rule asks for, in these histories."""
    found: dict[str, set[str]] = {rule: set() for rule in RULES}
    for history in histories:
        for rule, fields in found.items():
            watched = _Watched()
            _SEEN.clear()
            diagnose(history, thresholds=watched, rules=[rule])
            fields |= _SEEN
    return found


def candidates(name: str, value: float) -> list[float]:
    """Values to try for a threshold."""
    if name in WHOLE:
        return sorted({*COUNTS, value})
    if name in BELOW_ONE:
        return [1 - (1 - value) * factor for factor in FACTORS if (1 - value) * factor < 1]
    return [value * factor for factor in FACTORS]


def middle(name: str, values: Sequence[float], scores: Sequence[float], start: float) -> float:
    """The middle of the best stretch, on the scale that the candidates are spaced on."""
    if name in BELOW_ONE:
        return 1 - middle_of_best([1 - v for v in values], scores, 1 - start)
    found = middle_of_best(values, scores, start)
    return float(round(found)) if name in WHOLE else found


@dataclass
class _Memory:
    """Reports of every run by rule under the current thresholds."""

    histories: Mapping[str, TrainingHistory]
    reports: dict[str, dict[str, list[Report]]]

    def with_rules(self, thresholds: Thresholds, rules: Sequence[str]) -> dict[str, dict[str, list[Report]]]:
        """The same but for some rules."""
        found = {}
        for name, history in self.histories.items():
            fresh: dict[str, list[Report]] = {rule: [] for rule in rules}
            for report in reports_at_last(history, thresholds, rules):
                fresh[report.rule].append(report)
            found[name] = {**self.reports.get(name, {}), **fresh}
        return found


def score_of(cases: Sequence[Case], reports: Mapping[str, Mapping[str, Sequence[Report]]]) -> float:
    """The objective over runs with a fault and healthy ones."""
    flat = {case.name: [r for listed in reports[case.name].values() for r in listed] for case in cases}
    found = [judge(case, flat[case.name]).found for case in cases if case.fault]
    return objective(found, [bool(flat[case.name]) for case in cases if not case.fault])


def choose(
    cases: Sequence[Case], histories: Mapping[str, TrainingHistory], start: Thresholds | None = None, rounds: int = 1
) -> tuple[Thresholds, list[tuple[str, float, float, float]]]:
    """Thresholds, and what was changed: name, from, to, objective after it."""
    current, changed = start or Thresholds(), []
    asked = fields_by_rule([histories[case.name] for case in cases])
    memory = _Memory(histories={case.name: histories[case.name] for case in cases}, reports={})
    memory.reports = memory.with_rules(current, list(RULES))
    for _ in range(rounds):
        for name in (f.name for f in dataclasses.fields(Thresholds)):
            rules = [rule for rule, fields in asked.items() if name in fields]
            if not rules:
                continue
            value = getattr(current, name)
            values = candidates(name, value)
            if value == 0 or len(values) < 2:
                continue
            outcomes = [memory.with_rules(current.with_values(**{name: v}), rules) for v in values]
            scores = [score_of(cases, outcome) for outcome in outcomes]
            chosen = middle(name, values, scores, value)
            if abs(chosen - value) > 1e-9 * abs(value):
                trial = memory.with_rules(current.with_values(**{name: chosen}), rules)
                if score_of(cases, trial) < max(scores) - 1e-12:
                    chosen = values[scores.index(max(scores))]
                    trial = memory.with_rules(current.with_values(**{name: chosen}), rules)
                current, memory.reports = current.with_values(**{name: chosen}), trial
                changed.append((name, value, chosen, score_of(cases, trial)))
    return current, changed
