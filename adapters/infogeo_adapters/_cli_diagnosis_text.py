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
    from infogeo._diagnosis_result import Diagnosis, Finding
    from infogeo_adapters.plots._training_parts import Entry, Mark, Units

WIDTH = 110
"""Columns of a terminal that sentences and tables keep to."""
MOST_NAMED = 3
"""Findings of a layer whose numbers stand in the table."""
MOST_TOLD = 2
"""Findings of one rule whose evidence is printed in words; of more, that of the first, and the values of the others."""
MOST_DIFFERENT = 24
"""Rows of the table of a comparison that are printed."""


def print_diagnosis(diagnosis: Diagnosis, units: Units) -> None:
    """The table of layers, and the findings in words."""
    from infogeo_adapters.plots._training_parts import entries_of
    from infogeo_adapters.training._page_prose import nothing
    from infogeo_adapters.training._page_sections import told_before

    entries = entries_of(diagnosis.findings)
    _print_layers(diagnosis, [mark for entry in entries for mark in entry.marks], units)
    if not entries:
        click.echo(nothing(len(diagnosis.checked)))
    _print_findings(entries, told_before(entries), single=len(diagnosis.steps) < 2)


def _print_layers(diagnosis: Diagnosis, marks: Sequence[Mark], units: Units) -> None:
    from infogeo_adapters.plots._training_parts import scale_of
    from infogeo_adapters.training._page_prose import SHORT, layers_of
    from infogeo_adapters.training._page_sections import marked_quantities, number

    columns, rows = diagnosis.layers()
    names = columns[1:-1]
    if not names:
        return
    body = []
    for row in rows:
        about = marked_quantities(marks, row[0], diagnosis.layer_step or 0)
        cells = [
            number(None if value is None else value * scale_of(name, units)) + ("*" if name in about else "")
            for name, value in zip(names, row[1:-1], strict=True)
        ]
        here = list(dict.fromkeys(mark.name for mark in marks if mark.finding.block == row[0]))
        called = ",".join(here[:MOST_NAMED]) + (",…" if len(here) > MOST_NAMED else "")
        body.append([str(row[0]), *cells, called])
    if not any(row[-1] for row in body):
        body, last = [row[:-1] for row in body], []
    else:
        last = ["found"]
    if diagnosis.layer_step not in (None, diagnosis.steps[-1]):
        click.echo(layers_of(diagnosis))
    print_aligned(["layer", *(SHORT.get(name, name) for name in names), *last], body)
    click.echo()


def _print_findings(entries: Sequence[Entry], before: Mapping[str, str], *, single: bool) -> None:
    """Findings in words; meaning and advice once for those that share them, and not for what follows from others."""
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_sections import evidence_of, where_of

    for entry in entries:
        finding, follows = entry.findings[0], "." in entry.name
        kind = "follows" if follows else finding.severity
        title = f"{entry.name}  {kind}: {visible(finding.title)} ({where_of(entry.findings, single=single)})"
        click.echo(textwrap.fill(title, WIDTH, subsequent_indent="   "))
        said = list(evidence_of(entry.findings, single=single))
        if len(said) > MOST_TOLD:
            said[1:] = [_in_numbers(entry.findings[1:])]
        if entry.name in before:
            said.append(f"Try first: as for {before[entry.name]}.")
        elif not follows:
            said += [visible(finding.explanation), f"Try first: {visible(finding.advice)}" if finding.advice else ""]
        for sentence in filter(None, said):
            click.echo(textwrap.fill(sentence, WIDTH, initial_indent="   ", subsequent_indent="   "))
        click.echo()
        _print_findings(entry.related, {}, single=single)


def _in_numbers(findings: Sequence[Finding]) -> str:
    """Findings of which the sentences are left out, by place and value."""
    from infogeo_adapters.training._page_sections import number

    told: dict[str, list[str]] = {}
    for finding in findings:
        told.setdefault(finding.quantity, []).append(f"{number(finding.value)} ({finding.place})")
    values = "; ".join(f"{name.replace('_', ' ')} {', '.join(places)}" for name, places in told.items())
    return f"And {len(findings)} more like it: {values}."


def tell_rest(diagnosis: Diagnosis) -> None:
    """What happened to the monitor, what was not checked, and the summary."""
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_prose import note_of
    from infogeo_adapters.training._page_sections import without_advice

    for note in diagnosis.notes:
        tell(f"{note_of(diagnosis).lower()}: {visible(note)}")
    reasons: dict[str, list[str]] = {}
    for name, why in diagnosis.not_checked.items():
        reasons.setdefault(without_advice(why), []).append(name)
    for why, names in reasons.items():
        tell(f"not checked: {', '.join(names)}: {rephrase(visible(why.removeprefix(f'{names[0]}: ')))}")
    tell(visible(diagnosis.summary()))


def print_comparison(compared: RunComparison, units: Units) -> None:
    """Where the two differ most, and findings of one and of both."""
    from infogeo_adapters.plots._training_parts import scale_of
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_sections import number, told_before
    from infogeo_adapters.training.comparison_page import numbered, widest_differences

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
    headings = (
        f"Only in the first, {visible(compared.names[0])}:", f"Only in the second, {visible(compared.names[1])}:",
        "In both, as in the second:",
    )
    parts = numbered((compared.only_first, compared.only_second, compared.both))
    before = told_before([entry for entries in parts for entry in entries])
    for entries, heading in zip(parts, headings, strict=True):
        if entries:
            click.echo(heading)
            _print_findings(entries, before, single=False)
    if not any(parts):
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
