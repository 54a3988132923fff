"""From a diagnosis to a folder with a page, its script and its data."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from infogeo._diagnosis_result import Diagnosis
from infogeo.errors import ArgumentError
from infogeo.results import Result
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters._require import require
from infogeo_adapters.plots._training_parts import Units, scale_of
from infogeo_adapters.plots.style import shorten, visible
from infogeo_adapters.report.builder import CONFIG, TEMPLATES, page_figure, script_json
from infogeo_adapters.report.exports import Exported, export
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.tables import write_table
from infogeo_adapters.training import _page_prose as prose
from infogeo_adapters.training._page_sections import PageSection, facts, sections

TALL = 30
"""Rows after which a table scrolls in a box of its own."""
MOST_VALUES = 200_000
"""Values in the table of a history above which those of single heads are left out: they are most of it."""


def write_diagnosis(
    diagnosis: Diagnosis,
    history: TrainingHistory,
    folder: str | os.PathLike[str],
    *,
    units: Units = "nats",
    left_out: Callable[[str], object] | None = None,
) -> Path:
    """Write a folder that opens offline in a browser: ``index.html``, plotly's script, and all numbers.

    On top stand the findings in words, each with a number that marks it in the figures below: the loss, the
    information plane over time, capacity and utilization by block and step, attention by head and step, and all other
    quantities. Of a single record the figures go through the layers.

    The folder appears whole or not at all. A report of infogeo that stands there already is replaced; a folder that
    holds anything else is left alone. Beside the page are ``findings.csv``, ``layers.csv``, ``history.csv`` (every
    value that was measured, in nats; of a very long history without those of single heads) and ``diagnosis.json``.

    Parameters
    ----------
    diagnosis : Diagnosis
        From :func:`infogeo.diagnose`.
    history : TrainingHistory
        What it was made from.
    folder : str or path
        Made with its parents if absent.
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
        If one of the two is something else, they do not belong together, or there are no such units.
    OutputError
        If the folder is a file, holds something else than a report, or cannot be written.
    MissingDependencyError
        If plotly or Jinja2 is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo import RunFacts, TrainingHistory, TrainingRecord, diagnose
    >>> facts = RunFacts(
    ...     run="00", model="tiny", architecture="GPT2LMHeadModel", depth=2, heads=(2, 2), width=8, vocabulary=50,
    ...     n_parameters=1000, causal=True, objective="next token", dtype="float32", probe="00", probe_shape=(4, 8),
    ...     every=0,
    ... )
    >>> record = TrainingRecord(step=0, values={"future_sensitivity": [0.0, 0.0, 0.3]})
    >>> history = TrainingHistory(facts=facts, records=(record,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_diagnosis(diagnose(history), history, folder + "/page")
    ...     sorted(file.name for file in page.parent.iterdir())[:4]
    ['diagnosis.json', 'findings.csv', 'history.csv', 'index.html']
    """
    if not isinstance(diagnosis, Diagnosis):
        raise ArgumentError(f"diagnosis: found {type(diagnosis).__name__}, wanted what diagnose(history) gives")
    if not isinstance(history, TrainingHistory):
        raise ArgumentError(f"history: found {type(history).__name__}, wanted the TrainingHistory of the diagnosis")
    if (diagnosis.depth, diagnosis.steps) != (history.facts.depth, history.steps):
        raise ArgumentError(
            f"history: found {history.facts.depth} blocks and {len(history.steps)} records, wanted the "
            f"{diagnosis.depth} blocks and {len(diagnosis.steps)} records that the diagnosis was made from"
        )
    scale_of("loss", units)
    require("plotly", extra="plots", caller="write_diagnosis")
    require("jinja2", extra="plots", caller="write_diagnosis")
    from plotly.offline import get_plotlyjs

    with whole_folder(folder) as new:
        files = write_tables(diagnosis, history, new)
        page = render(diagnosis, history, sections(diagnosis, history, files, units=units))
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (new / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    if left_out is not None:
        for file in files:
            if not file.written:
                left_out(f"{file.name}: {file.what}")
    return Path(folder).expanduser().resolve() / "index.html"


@dataclass(frozen=True)
class TableResult(Result):
    """A table of a result as a result of its own."""

    table: tuple[tuple[str, ...], list[tuple[Any, ...]]]
    said: str

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return self.table

    def summary(self) -> str:
        return self.said


def write_tables(diagnosis: Diagnosis, history: TrainingHistory, folder: Path) -> list[Exported]:
    """Write all numbers into a folder that exists.

    Returns
    -------
    list of Exported
        A file whose format cannot hold a text is left out, and the list says so.
    """
    values, what = history.rows(), "every value that was measured, in nats"
    if len(values[1]) > MOST_VALUES:
        kept = [row for row in values[1] if QUANTITIES[row[1]].scope != "head"]
        values, what = (values[0], kept), "every value that was measured, in nats, but for those of single heads"
    tables = (
        ("findings.csv", "every finding with place, steps, value and threshold", diagnosis.rows()),
        ("layers.csv", "the table of layers, in nats", diagnosis.layers()),
        ("history.csv", what, values),
    )
    done = [export(write_table, TableResult(table, said), folder / name, said) for name, said, table in tables]
    text = json.dumps(diagnosis.to_dict(), ensure_ascii=False, allow_nan=False)
    (folder / "diagnosis.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    done.append(Exported("diagnosis.json", "the diagnosis with all its sentences, and its provenance"))
    return done


def render(diagnosis: Diagnosis, history: TrainingHistory, page_sections: Sequence[PageSection]) -> str:
    """The page of a diagnosis as HTML."""
    single = len(history.records) < 2
    name = visible(shorten(diagnosis.run or diagnosis.model, 60))
    return page_text(
        title=f"{name} · infogeo diagnose", heading=f"Diagnosis of {name}",
        lead=prose.LEAD_OF_ONE if single else prose.LEAD, facts=facts(diagnosis, history),
        notes=[f"{prose.note_of(diagnosis)}: {visible(note)}" for note in diagnosis.notes], sections=page_sections,
        version=diagnosis.source.versions.get("infogeo", "(not installed)"),
    )


def page_text(*, sections: Sequence[PageSection], **said: Any) -> str:
    """A page as HTML. Everything that comes from a file is escaped; scripts run only with the page's own nonce."""
    import jinja2
    from markupsafe import Markup

    def own(package: str, name: str) -> str:
        return resources.files(package).joinpath(TEMPLATES).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(own("infogeo_adapters.training", "index.html.j2"))
    figures: list[dict[str, Any]] = [
        {"id": f.id, "figure": page_figure(f.figure), "config": CONFIG} for s in sections for f in s.all_figures
    ]
    css = own("infogeo_adapters.report", "report.css") + own("infogeo_adapters.training", "page.css")
    return template.render(
        sections=sections, tall=TALL, css=Markup(css),  # our own files
        figures=Markup(script_json(figures)) if figures else "", nonce=secrets.token_urlsafe(18), **said,
    )
