"""From a comparison with a treebank to a folder with a page, its script and its data."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import ArgumentError
from infogeo.results import Result
from infogeo_adapters._require import require
from infogeo_adapters.plots.style import shorten, visible
from infogeo_adapters.report.builder import CONFIG, TEMPLATES, page_figure, script_json
from infogeo_adapters.report.exports import Exported, export
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.tables import write_table
from infogeo_adapters.treebank._page_sections import PageSection, facts, notes, sections
from infogeo_adapters.treebank.comparison import ModelTreebankComparison
from infogeo_adapters.treebank.examples import ExampleSentence

if TYPE_CHECKING:
    from infogeo._tree_records import Table

HEADING = "Which word graphs find the trees"
LEAD = (
    "People have written down which words of these sentences belong together. Each family of graphs joins the words "
    "by what a model computes, and its spanning trees are compared with theirs."
)
TALL = 30
"""Rows after which a table scrolls in a box of its own."""


def write_treebank_page(
    comparison: ModelTreebankComparison,
    folder: str | os.PathLike[str],
    *,
    examples: Sequence[ExampleSentence] = (),
    left_out: Callable[[str], object] | None = None,
) -> Path:
    """Write a folder that opens offline in a browser: ``index.html``, plotly's script, and all numbers.

    The folder appears whole or not at all. A report of infogeo that stands there already is replaced; a folder that
    holds anything else is left alone.

    Beside the page are ``comparison.json`` and tables: ``families.csv`` (one row a family and decoder),
    ``by_distance.csv``, ``by_relation.csv``, ``differences.csv`` (these three once for each decoder),
    ``choices.csv``, ``variants.csv`` (UUAS of every variant) and ``skipped.csv``.

    Parameters
    ----------
    comparison : ModelTreebankComparison
        From :func:`infogeo_adapters.compare_with_treebank`.
    folder : str or path
        Made with its parents if absent.
    examples : sequence of ExampleSentence
        Sentences with their trees, from :func:`infogeo_adapters.example_sentences`.
    left_out : callable, optional
        Is told of each file that is missing because its format cannot hold a text; the page tells it too.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ArgumentError
        If it is no comparison of a model, or an example is none, or a family is of an unknown kind.
    OutputError
        If the folder is a file, holds something else than a report, or cannot be written.
    MissingDependencyError
        If plotly or Jinja2 is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from infogeo_adapters import compare_with_treebank, load_model, sample_treebank
    >>> found = compare_with_treebank(load_model(), sample_treebank(), untrained=False, resamples=200,
    ...                               families=["adjacent words", "attention head"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_treebank_page(found, folder + "/page")
    ...     sorted(file.name for file in page.parent.iterdir())[:4]
    ['by_distance.csv', 'by_relation.csv', 'choices.csv', 'comparison.json']
    """
    if not isinstance(comparison, ModelTreebankComparison):
        raise ArgumentError(
            f"comparison: found {type(comparison).__name__}, wanted what compare_with_treebank(model, treebank) gives"
        )
    examples = tuple(examples)
    for example in examples:
        if not isinstance(example, ExampleSentence):
            raise ArgumentError(f"examples: found {type(example).__name__}, wanted what example_sentences gives")
    require("plotly", extra="plots", caller="write_treebank_page")
    require("jinja2", extra="plots", caller="write_treebank_page")
    from plotly.offline import get_plotlyjs

    with whole_folder(folder) as new:
        files = write_tables(comparison, new)
        page = render(comparison, sections(comparison, files, examples))
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (new / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    if left_out is not None:
        for file in files:
            if not file.written:
                left_out(f"{file.name}: {file.what}")
    return Path(folder).expanduser().resolve() / "index.html"


@dataclass(frozen=True)
class _Rows(Result):
    """A table of a result as a result of its own."""

    table: Table
    said: str

    def rows(self) -> Table:
        return self.table

    def summary(self) -> str:
        return self.said


def write_tables(comparison: ModelTreebankComparison, folder: Path) -> list[Exported]:
    """Write all numbers into a folder that exists.

    Returns
    -------
    list of Exported
        A file whose format cannot hold a text is left out, and the list says so.
    """
    tables: list[tuple[str, str, Table]] = [
        ("families.csv", "every family with its scores, intervals and differences", comparison.rows()),
    ]
    for k, decoder in enumerate(comparison.decoders):
        end, trees = (f"_{decoder}", f", {decoder} trees") if k else ("", "")
        tables += [
            (f"by_distance{end}.csv", f"recall by distance{trees}", comparison.by_distance(decoder=decoder)),
            (f"by_relation{end}.csv", f"recall by relation{trees}", comparison.by_relation(decoder=decoder)),
            (f"differences{end}.csv", f"differences to the reference{trees}", comparison.differences(decoder=decoder)),
        ]
    tables += [
        ("choices.csv", "what was chosen of each family, where, and how firmly", comparison.choice_rows()),
        ("variants.csv", "UUAS of every variant, without a choice", comparison.scores.rows()),
        ("skipped.csv", "sentences that are in no number, and why", comparison.skipped_rows()),
    ]
    done = [export(write_table, _Rows(table, what), folder / name, what) for name, what, table in tables]
    text = json.dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    done.append(Exported("comparison.json", "all estimates and differences in one file, with their provenance"))
    return done


def render(comparison: ModelTreebankComparison, page_sections: Sequence[PageSection]) -> str:
    """The page as HTML. Everything that comes from a file is escaped; scripts run only with the page's own nonce."""
    import jinja2
    from markupsafe import Markup

    def own(package: str, name: str) -> str:
        return resources.files(package).joinpath(TEMPLATES).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(own("infogeo_adapters.treebank", "index.html.j2"))
    figures: list[dict[str, Any]] = [
        {"id": f.id, "figure": page_figure(f.figure), "config": CONFIG} for s in page_sections for f in s.all_figures
    ]
    css = own("infogeo_adapters.report", "report.css") + own("infogeo_adapters.treebank", "page.css")
    model = visible(shorten(comparison.source.model or "a model", 60))
    return template.render(
        title=f"{model} against a treebank · infogeo", heading=HEADING, lead=LEAD, facts=facts(comparison),
        notes=notes(comparison), sections=page_sections, tall=TALL,
        version=comparison.source.versions.get("infogeo", "(not installed)"),
        css=Markup(css),  # our own files
        figures=Markup(script_json(figures)) if figures else "", nonce=secrets.token_urlsafe(18),
    )
