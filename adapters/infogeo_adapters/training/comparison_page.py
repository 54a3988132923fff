"""From a comparison of two runs or checkpoints to a folder with a page, its script and its data."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infogeo._diagnosis_comparison import RunComparison
from infogeo._diagnosis_result import Finding
from infogeo.errors import ArgumentError
from infogeo.training import QUANTITIES
from infogeo_adapters._require import require
from infogeo_adapters.plots._training_parts import Entry, Units, entries_of, quantity_name, scale_of
from infogeo_adapters.plots.style import capital, shorten, visible
from infogeo_adapters.plots.training_series import compared_figure
from infogeo_adapters.report.exports import Exported, export
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.report.sections import Table, page_number
from infogeo_adapters.tables import write_table
from infogeo_adapters.training import _page_prose as prose
from infogeo_adapters.training._page_sections import (
    Group,
    PageSection,
    ToldFigure,
    card_of,
    number,
    told_before,
    verdict,
)
from infogeo_adapters.training.page import page_text

MOST_ROWS = 30
"""Rows of the table of what differs most."""


def write_run_comparison(
    comparison: RunComparison,
    folder: str | os.PathLike[str],
    *,
    units: Units = "nats",
    left_out: Callable[[str], object] | None = None,
) -> Path:
    """Write a folder with a page that sets two runs or checkpoints side by side, and all numbers.

    Findings of only one of the two come first, then where they differ most, then every quantity from layer to layer.
    Beside the page are ``comparison.csv`` and ``comparison.json``.

    Parameters
    ----------
    comparison : RunComparison
        From :func:`infogeo.compare_runs`.
    folder : str or path
        As for :func:`write_diagnosis`.
    units : {'nats', 'bits'}
        Of figures and tables on the page; files and sentences are in nats.
    left_out : callable, optional
        Is told of each file that is missing because its format cannot hold a text; the page tells it too.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ArgumentError
        If it is something else, or there are no such units.
    OutputError
        If the folder is a file, holds something else than a report, or cannot be written.
    MissingDependencyError
        If plotly or Jinja2 is not installed.

    See Also
    --------
    write_diagnosis : the page of one run.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo import RunFacts, TrainingHistory, TrainingRecord, compare_runs
    >>> facts = RunFacts(
    ...     run="00", model="tiny", architecture="GPT2LMHeadModel", depth=2, heads=(2, 2), width=8, vocabulary=50,
    ...     n_parameters=1000, causal=True, objective="next token", dtype="float32", probe="00", probe_shape=(4, 8),
    ...     every=0,
    ... )
    >>> before, after = (
    ...     TrainingHistory(facts=facts, records=(TrainingRecord(step=k, values={"contribution": [0.4, 0.5 * k]}),))
    ...     for k in (1, 2)
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_run_comparison(compare_runs(before, after), folder + "/page")
    ...     sorted(file.name for file in page.parent.iterdir())[:3]
    ['comparison.csv', 'comparison.json', 'index.html']
    """
    if not isinstance(comparison, RunComparison):
        raise ArgumentError(
            f"comparison: found {type(comparison).__name__}, wanted what compare_runs(first, second) gives"
        )
    scale_of("loss", units)
    require("plotly", extra="plots", caller="write_run_comparison")
    require("jinja2", extra="plots", caller="write_run_comparison")
    from plotly.offline import get_plotlyjs

    with whole_folder(folder) as new:
        files = [export(write_table, comparison, new / "comparison.csv", "every quantity of both, in nats")]
        text = json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False)
        (new / "comparison.json").write_text(text + "\n", encoding="utf-8", newline="\n")
        files.append(Exported("comparison.json", "both diagnoses and all numbers, with their provenance"))
        (new / "index.html").write_text(_page(comparison, files, units), encoding="utf-8", newline="\n")
        (new / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    if left_out is not None:
        for file in files:
            if not file.written:
                left_out(f"{file.name}: {file.what}")
    return Path(folder).expanduser().resolve() / "index.html"


def _page(found: RunComparison, files: Sequence[Exported], units: Units) -> str:
    names = _names(found)
    facts = []
    for which, name, step, diagnosis in zip(
        ("First", "Second"), names, found.steps, found.diagnoses, strict=True
    ):
        facts.append((which, f"{name}, step {step:,}"))
        facts.append((f"Found in the {which.lower()}", verdict(diagnosis)))
    notes = [visible(note) for note in found.notes] + [
        f"{prose.note_of(diagnosis)} of {name}: {visible(note)}"
        for name, diagnosis in zip(names, found.diagnoses, strict=True) for note in diagnosis.notes
    ]
    made = [*_findings(found, names), _most(found, units), _figures(found, names, units)]
    made.append(PageSection(
        "provenance", "Files", paragraphs=(prose.PROVENANCE,), files=tuple(f for f in files if f.written),
        findings=tuple(f"{f.name}: {f.what}" for f in files if not f.written),
    ))
    return page_text(
        title=f"{names[0]} and {names[1]} · infogeo diagnose", heading=f"{names[0]} and {names[1]}, side by side",
        lead=prose.LEAD_OF_TWO, facts=facts, notes=notes, sections=[s for s in made if s is not None],
        version=found.source.versions.get("infogeo", "(not installed)"),
    )


def _names(found: RunComparison) -> tuple[str, str]:
    """The names of the two, told apart where they are the same."""
    a, b = (visible(shorten(name or "without a name", 50)) for name in found.names)
    return (f"{a} (first)", f"{b} (second)") if a == b else (a, b)


def _findings(found: RunComparison, names: tuple[str, str]) -> list[PageSection]:
    parts: Sequence[tuple[str, str, Sequence[Finding]]] = (
        ("only-first", f"Found only in {names[0]}", found.only_first),
        ("only-second", f"Found only in {names[1]}", found.only_second),
        ("both", "Found in both, as it is in the second", found.both),
    )
    entries = numbered([findings for _, _, findings in parts])
    before = told_before([entry for part in entries for entry in part])
    made = [
        PageSection(id_, title, cards=tuple(card_of(e, single=False, before=before.get(e.name)) for e in part))
        for (id_, title, _), part in zip(parts, entries, strict=True) if part
    ]
    if not made:
        text = prose.NOTHING_IN_BOTH
        made.append(PageSection("findings", "What was found", paragraphs=(text,)))
    return made


def numbered(parts: Sequence[Sequence[Finding]]) -> list[tuple[Entry, ...]]:
    """The entries of each part, numbered through; what follows from a finding of another part stands on its own."""
    made: list[tuple[Entry, ...]] = []
    for findings in parts:
        here = {id(finding) for finding in findings}
        below = {id(follows) for finding in findings for follows in finding.related if id(follows) in here}
        top = [
            dataclasses.replace(finding, related=tuple(f for f in finding.related if id(f) in here))
            for finding in findings if id(finding) not in below
        ]
        made.append(entries_of(top, start=1 + sum(map(len, made))))
    return made


def _most(found: RunComparison, units: Units) -> PageSection | None:
    rows: list[list[Any]] = []
    for name, layer, head, a, b, difference, ratio in widest_differences(found, MOST_ROWS):
        k = scale_of(name, units)
        rows.append([
            capital(quantity_name(name, units)), page_number("–" if layer is None else str(layer)),
            page_number("–" if head is None else str(head)),
            *(page_number(number(v)) for v in (a * k, b * k, difference * k, ratio)),
        ])
    if not rows:
        return None
    names = ("quantity", "layer", "head", "first", "second", "difference", "second over first")
    columns = [{"name": name, "number": name != "quantity"} for name in names]
    return PageSection(
        "most", "Where they differ most", paragraphs=(prose.MOST,), tables=(Table("", columns, rows, kind="plain"),)
    )


def widest_differences(found: RunComparison, most: int) -> list[tuple[Any, ...]]:
    """Rows of the comparison where the two differ by the largest factors, one of each quantity."""
    rows: dict[str, tuple[Any, ...]] = {}
    for row in found.most_different(len(found.rows()[1])):
        rows.setdefault(row[0], row)
    return list(rows.values())[:most]


def _figures(found: RunComparison, names: tuple[str, str], units: Units) -> PageSection | None:
    zero = [name for name, values in found.first.items() if not values.any() and not found.second[name].any()]
    groups = []
    for title, quantities in prose.ALL_GROUPS.items():
        made = [
            ToldFigure(f"compared-{name.replace('_', '-')}", figure, QUANTITIES[name].meaning) for name in quantities
            if name in found.first and name not in zero
            and (figure := compared_figure(name, found.first[name], found.second[name], names=names, units=units))
            is not None
        ]
        if made:
            groups.append(Group(title, tuple(made)))
    if not groups:
        return None
    said = [prose.SIDE_BY_SIDE.format(first=names[0], second=names[1])]
    if undrawn := [name.replace("_", " ") for name in zero]:
        said.append(prose.ZERO.format(names=", ".join(undrawn)))
    return PageSection("quantities", "Layer by layer", paragraphs=tuple(said), groups=tuple(groups))
