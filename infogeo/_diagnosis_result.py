"""What a diagnosis says: rules, findings, and the diagnosis of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray
from infogeo.results import Result, Source

Severity = Literal["fault", "warning"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is looked for, from which quantities, and why the line is drawn where it is."""

    name: str
    title: str
    needs: tuple[str, ...]
    """Quantities without which it cannot be checked."""
    uses: tuple[str, ...] = ()
    """Quantities that sharpen it where they are measured."""
    history: bool = False
    """Whether it needs two records or more."""
    reason: str
    """Why its thresholds are what they are."""
    source: str
    explanation: str
    """What a finding means."""
    advice: str
    """What to try first."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Finding(Result):
    """Something that is wrong, where and since when, with the number that shows it."""

    rule: str
    title: str
    block: int | None
    """1 to L; 0 for the embedding, None for the whole model."""
    head: int | None = None
    """From 1; None where it is not of one head."""
    first_step: int
    """Step of the record, or of the loss, where it was first seen."""
    last_step: int
    """Step where it was last seen."""
    severity: Severity
    value: float
    threshold: float
    quantity: str
    """What ``value`` is of."""
    evidence: str
    explanation: str
    advice: str
    related: tuple[Finding, ...] = ()
    """Findings that follow from this one."""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.block is None:
            return "model"
        where = f"block {self.block}" if self.block else "embedding"
        return where if self.head is None else f"{where}, head {self.head}"

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return FINDING_COLUMNS, [finding_row(self, self.severity)] + [finding_row(f, "follows") for f in self.related]

    def summary(self) -> str:
        return f"{self.title} ({self.place}): {self.evidence}"


FINDING_COLUMNS = (
    "severity", "rule", "block", "head", "first step", "last step", "quantity", "value", "threshold", "evidence"
)


def finding_row(finding: Finding, severity: str) -> tuple[Any, ...]:
    """A finding as a row of the table of findings."""
    return (
        severity, finding.rule, finding.block, finding.head, finding.first_step, finding.last_step, finding.quantity,
        finding.value, finding.threshold, finding.evidence,
    )


LAYER_QUANTITIES = (
    "state_norm", "effective_rank", "mean_cosine", "token_similarity", "target_information", "lens_loss",
    "contribution", "capacity", "utilization", "attention_entropy", "dead_units", "gradient_norm_block", "update_ratio",
)
"""Quantities in the table of layers; of heads the mean over the block."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagnosis(Result):
    """What is wrong with a model or its training, and what could not be checked."""

    findings: tuple[Finding, ...]
    """Faults first, then the earliest; what follows from another finding is in its ``related``."""
    checked: tuple[str, ...]
    """Names of the rules that were checked."""
    not_checked: Mapping[str, str]
    """Names of the other rules, and why."""
    run: str
    """Name of the run or checkpoint."""
    model: str
    depth: int
    steps: tuple[int, ...]
    """Steps of the records that it rests on."""
    layer_values: Mapping[str, FloatArray]
    """(L + 1) by quantity, at the last record that has any; NaN where there is none, as at the embedding for those of
    blocks."""
    layer_step: int | None = None
    """Step of that record."""
    notes: tuple[str, ...] = ()
    """What happened to the monitor."""
    changed_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Thresholds that are not those of :class:`~infogeo.Thresholds`, by name."""
    source: Source = field(default_factory=Source)

    @property
    def healthy(self) -> bool:
        """Whether nothing was found, warnings included."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """1 if there is a fault, else 0."""
        return int(any(finding.severity == "fault" for finding in self.findings))

    @property
    def thresholds_changed(self) -> str:
        """Thresholds that are not the usual ones, with their values, in words."""
        return ", ".join(f"{name} {value:g}" for name, value in self.changed_thresholds.items())

    def all_findings(self) -> Iterator[Finding]:
        """The findings, each followed by those that follow from it."""
        for finding in self.findings:
            yield finding
            yield from finding.related

    def layers(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and one row for each layer: what was measured last, and rules that found it."""
        names = list(self.layer_values)
        rows = []
        for layer in range(self.depth + 1):
            rules = dict.fromkeys(f.rule for f in self.all_findings() if f.block == layer)
            values = [float(self.layer_values[name][layer]) for name in names]
            rows.append((layer, *[None if np.isnan(v) else v for v in values], ", ".join(rules)))
        return ("layer", *names, "findings"), rows

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """One row for each finding; one that follows from another comes after it, with the severity ``follows``."""
        table = [row for finding in self.findings for row in finding.rows()[1]]
        return FINDING_COLUMNS, table

    def summary(self) -> str:
        counts = Counter(finding.severity for finding in self.findings)
        said = [f"{n} {name}{'' if n == 1 else 's'}" for name in ("fault", "warning") if (n := counts[name])]
        last = f" up to step {self.steps[-1]}" if self.steps else ""
        more = f", {len(self.not_checked)} could not be checked" if self.not_checked else ""
        return (
            f"Diagnosis of {self.run or self.model}{last}: {' and '.join(said) or 'nothing found'}; "
            f"{len(self.checked)} rule{'' if len(self.checked) == 1 else 's'} checked{more}"
            + f"; with changed thresholds: {self.thresholds_changed}" * bool(self.changed_thresholds)
        )
