"""Arithmetic of the benchmark: what was reported when, hits, right places, false alarms, intervals, the objective."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from infogeo.diagnosis import Thresholds, diagnose
from infogeo.training import TrainingHistory

FALSE_ALARM_COST = 2.0
"""What a healthy run with a finding costs, in runs with a fault that are missed."""


@dataclass(frozen=True)
class Report:
    """Something that a detector says about a run, when it says it first."""

    rule: str
    block: int | None
    head: int | None
    severity: str
    """At the last record that it is reported at."""
    step: int


@dataclass(frozen=True)
class Case:
    """A run as far as scoring is concerned."""

    name: str
    fault: str
    """Empty for a healthy run."""
    rules: tuple[str, ...]
    """What names the fault."""
    onset: int
    blocks: tuple[int, ...]
    """Blocks that are right; none where the fault is of no block."""
    head: int | None
    depth: int
    architecture: str = ""
    usual: bool = False
    """Whether size and rate are those of the runs with a fault."""

    def after(self, report: Report) -> bool:
        """Whether a report came after the fault did."""
        return self.onset == 0 or report.step > self.onset


@dataclass(frozen=True)
class Verdict:
    """How well the reports of a run name its fault."""

    found: bool
    delay: float
    """Steps from the onset to the first report that names it; NaN if there is none."""
    right_block: bool | None
    """Whether the block is among those that are named; None where the fault is of no block, or not found."""
    only_right: bool | None
    """Whether no other block is named so."""
    right_head: bool | None
    named: tuple[str, ...]
    """All rules that were reported after the onset."""
    early: tuple[str, ...]
    """Rules that were reported before the onset: false alarms."""


def reports_at_last(
    history: TrainingHistory, thresholds: Thresholds, rules: Iterable[str] | None = None
) -> list[Report]:
    """What a diagnosis of the whole history says; the steps are those where it was first seen."""
    found = diagnose(history, thresholds=thresholds, rules=rules)
    return [Report(f.rule, f.block, f.head, f.severity, f.first_step) for f in found.all_findings()]


def reports_as_it_went(history: TrainingHistory, thresholds: Thresholds) -> list[Report]:
    """What somebody is told who looks after every record; the steps are those of the record at which it is told."""
    first: dict[tuple[str, int | None, int | None], Report] = {}
    for step in history.steps:
        for f in diagnose(history.until(step), thresholds=thresholds).all_findings():
            key = f.rule, f.block, f.head
            first[key] = Report(*key, f.severity, first[key].step if key in first else step)
    return list(first.values())


def judge(case: Case, reports: Sequence[Report]) -> Verdict:
    """Set the reports of a run with a fault against what was done to it."""
    hits = [r for r in reports if r.rule in case.rules and case.after(r)]
    placed = {r.block for r in hits if r.block}
    right = bool(placed & set(case.blocks)) if case.blocks and hits else None
    only = bool(placed) and placed <= set(case.blocks) if case.blocks and hits else None
    at_head = None
    if case.head is not None and hits:
        at_head = any(r.block in case.blocks and r.head == case.head for r in hits)
    return Verdict(
        found=bool(hits), delay=min((r.step - case.onset for r in hits), default=float("nan")), right_block=right,
        only_right=only, right_head=at_head, named=tuple(sorted({r.rule for r in reports if case.after(r)})),
        early=tuple(sorted({r.rule for r in reports if not case.after(r)})),
    )


def alarmed_blocks(case: Case, reports: Sequence[Report], severities: Sequence[str] = ("fault", "warning")) -> int:
    """Number of the blocks of a healthy run that some report names."""
    return len({r.block for r in reports if r.severity in severities and r.block and r.block <= case.depth})


def objective(found: Sequence[bool], alarms: Sequence[bool]) -> float:
    """Recall less what false alarms cost: shares of the runs with a fault and of the healthy ones."""
    recall = float(np.mean(found)) if len(found) else 0.0
    return recall - FALSE_ALARM_COST * (float(np.mean(alarms)) if len(alarms) else 0.0)


def clopper_pearson(
    hits: int, trials: int, level: float = 0.95, independent: int | None = None
) -> tuple[float, float]:
    """Interval of a share, by quantiles of beta distributions.

    Where trials come in groups, and those of a group may all turn out alike, ``independent`` is the number of groups:
    the same share of so many trials (Korn and Graubard 1998, with all of a group counted as one). The number of hits
    need not be whole then.
    """
    if trials == 0:
        return 0.0, 1.0
    n = float(trials if independent is None else independent)
    k, tail = hits / trials * n, (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if hits else 0.0
    return low, float(stats.beta.isf(tail, k + 1, n - k)) if hits < trials else 1.0


def middle_of_best(values: Sequence[float], scores: Sequence[float], start: float) -> float:
    """The geometric middle of the stretch of best values: as far as can be from where the score falls.

    Of several stretches the one with the start, else the longest. Where the whole grid is best, the data say nothing,
    and the start stays.
    """
    order = np.argsort(values)
    sorted_values, best = np.asarray(values)[order], np.isclose(np.asarray(scores)[order], max(scores), atol=1e-12)
    if best.all():
        return start
    stretches = []
    at = 0
    while at < len(best):
        if best[at]:
            end = at
            while end + 1 < len(best) and best[end + 1]:
                end += 1
            stretches.append((at, end))
            at = end
        at += 1
    low, high = max(
        stretches, key=lambda s: (sorted_values[s[0]] <= start <= sorted_values[s[1]], s[1] - s[0])
    )
    return float(np.sqrt(sorted_values[low] * sorted_values[high]))
