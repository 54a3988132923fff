"""What ``infogeo diagnose`` prints: tables and sentences on stdout, what was not checked on stderr."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from infogeo_adapters._cli_input import rephrase
from infogeo_adapters._cli_output import print_aligned, tell

if TYPE_CHECKING:
    from infogeo._diagnosis_comparison import RunComparison
    from infogeo._diagnosis_result import Diagnosis
    from infogeo_adapters.plots._training_parts import Mark, Units

WIDTH = 110
"""Columns of a terminal that sentences and tables keep to."""
MOST_NAMED = 3
"""Findings of a layer whose numbers stand in the table."""
MOST_DIFFERENT = 24
"""Rows of the table of a comparison that are printed."""


def print_diagnosis(diagnosis: Diagnosis, units: Units) -> None:
    """The table of layers, and the findings in words."""
    from infogeo_adapters.plots._training_parts import marks_of
    from infogeo_adapters.training._page_sections import told_before

    marks = marks_of(diagnosis)
    _print_layers(diagnosis, marks, units)
    if not marks:
        click.echo(f"Nothing was found by the {len(diagnosis.checked)} rules that were checked.")
    before = told_before([mark for mark in marks if "." not in mark.name])
    _print_findings(marks, before, single=len(diagnosis.steps) < 2)


def _print_layers(diagnosis: Diagnosis, marks: Sequence[Mark], units: Units) -> None:
    from infogeo_adapters.plots._training_parts import scale_of
    from infogeo_adapters.training._page_prose import SHORT
    from infogeo_adapters.training._page_sections import marked_quantities, number

    columns, rows = diagnosis.layers()
    names = columns[1:-1]
    if not names:
        return
    body = []
    for row in rows:
        about = marked_quantities(marks, row[0])
        cells = [
            number(None if value is None else value * scale_of(name, units)) + ("*" if name in about else "")
            for name, value in zip(names, row[1:-1], strict=True)
        ]
        here = [mark.name for mark in marks if mark.finding.block == row[0]]
        called = ",".join(here[:MOST_NAMED]) + (",…" if len(here) > MOST_NAMED else "")
        body.append([str(row[0]), *cells, called])
    if not any(row[-1] for row in body):
        body, last = [row[:-1] for row in body], []
    else:
        last = ["found"]
    print_aligned(["layer", *(SHORT.get(name, name) for name in names), *last], body)
    click.echo()


def _print_findings(marks: Sequence[Mark], before: Mapping[str, str], *, single: bool) -> None:
    """Findings in words; meaning and advice once for findings that share them, and not for what follows from others."""
    from infogeo_adapters.plots.style import capital, visible
    from infogeo_adapters.training._page_sections import where_of

    for mark in marks:
        finding, follows = mark.finding, "." in mark.name
        kind = "follows" if follows else finding.severity
        click.echo(f"{mark.name}  {kind}: {visible(finding.title)} ({where_of(finding, single=single)})")
        said = [capital(visible(finding.evidence))]
        if mark.name in before:
            said.append(f"Try first: as for {before[mark.name]}.")
        elif not follows:
            said += [visible(finding.explanation), f"Try first: {visible(finding.advice)}" if finding.advice else ""]
        for sentence in filter(None, said):
            click.echo(textwrap.fill(sentence, WIDTH, initial_indent="   ", subsequent_indent="   "))
        click.echo()


def tell_rest(diagnosis: Diagnosis) -> None:
    """What happened to the monitor, what was not checked, and the summary."""
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_sections import without_advice

    for note in diagnosis.notes:
        tell(f"note of the monitor: {visible(note)}")
    reasons: dict[str, list[str]] = {}
    for name, why in diagnosis.not_checked.items():
        reasons.setdefault(without_advice(why), []).append(name)
    for why, names in reasons.items():
        tell(f"not checked: {', '.join(names)}: {rephrase(visible(why.removeprefix(f'{names[0]}: ')))}")
    tell(visible(diagnosis.summary()))


def print_comparison(compared: RunComparison, units: Units) -> None:
    """Where the two differ most, and findings of one and of both."""
    from infogeo_adapters.plots._training_parts import Mark, scale_of
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_sections import number, told_before
    from infogeo_adapters.training.comparison_page import widest_differences

    body = []
    for name, layer, head, a, b, difference, ratio in widest_differences(compared, MOST_DIFFERENT):
        k = scale_of(name, units)
        body.append([
            name, "" if layer is None else str(layer), "" if head is None else str(head), number(a * k), number(b * k),
            number(difference * k), number(ratio),
        ])
    if body:
        print_aligned(["quantity", "layer", "head", "first", "second", "difference", "ratio"], body)
        click.echo()
    numbers = itertools.count(1)
    parts = [
        ([Mark(str(next(numbers)), finding) for finding in found], heading) for found, heading in (
            (compared.only_first, f"Only in the first, {visible(compared.names[0])}:"),
            (compared.only_second, f"Only in the second, {visible(compared.names[1])}:"),
            (compared.both, "In both, as in the second:"),
        )
    ]
    before = told_before([mark for marks, _ in parts for mark in marks])
    for marks, heading in parts:
        if marks:
            click.echo(heading)
            _print_findings(marks, before, single=False)
    if not any(marks for marks, _ in parts):
        click.echo("Nothing was found in either of the two.")


def rules_text() -> str:
    """All rules and thresholds with their reasons and sources."""
    from infogeo.diagnosis import RULES, Thresholds

    def wrapped(text: str, indent: int = 4) -> str:
        return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)

    parts = [f"{len(RULES)} rules. What a finding means and what to try first is told with the finding.", ""]
    for rule in RULES.values():
        parts.append(f"{rule.name}: {rule.title}")
        needs = ", ".join(rule.needs) or "nothing that could be missing"
        parts.append(wrapped(f"Needs {needs}{'; two records or more' if rule.history else ''}."))
        if rule.uses:
            parts.append(wrapped(f"Sharper with {', '.join(rule.uses)}."))
        parts += [wrapped(f"Why: {rule.reason}"), wrapped(f"Source: {rule.source}"), ""]
    parts += ["Thresholds, with their reasons. --threshold NAME=NUMBER sets another one.", ""]
    meanings = _threshold_meanings()
    for field in dataclasses.fields(Thresholds):
        parts.append(f"{field.name} = {field.default:g}")
        if field.name in meanings:
            parts.append(wrapped(meanings[field.name]))
    return "\n".join(parts)


def _threshold_meanings() -> dict[str, str]:
    """What stands under each threshold in its source; empty where the source is not installed."""
    from infogeo.diagnosis import Thresholds

    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(Thresholds))).body
    except (OSError, TypeError, ValueError):
        return {}
    found = {}
    for one, after in itertools.pairwise(body.body if isinstance(body, ast.ClassDef) else ()):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[one.target.id] = value.value
    return found
