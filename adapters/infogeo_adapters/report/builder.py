"""From an analysis to a folder with a page, its script and its data."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.entropy_profile import EntropyUnit
from infogeo_adapters._require import require
from infogeo_adapters.analysis import SentenceAnalysis
from infogeo_adapters.plots.style import shorten, visible
from infogeo_adapters.report import prose
from infogeo_adapters.report.exports import write_exports
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.report.sections import Section, facts, sections

if TYPE_CHECKING:
    import plotly.graph_objects as go

TEMPLATES = "templates"
CONFIG = {
    "responsive": True, "displaylogo": False, "scrollZoom": False, "typesetMath": False,
    "modeBarButtons": [["toImage"]], "toImageButtonOptions": {"format": "svg", "filename": "infogeo"},
}


def write_report(
    analysis: SentenceAnalysis, folder: str | os.PathLike[str], *, units: EntropyUnit = "nats",
    left_out: Callable[[str], object] | None = None,
) -> Path:
    """Write a folder that opens offline in a browser: ``index.html``, plotly's script, and the data.

    The folder appears whole or not at all. A report that stands there already is replaced; a folder that holds anything
    else is left alone.

    Parameters
    ----------
    analysis : SentenceAnalysis
    folder : str or path
        Made with its parents if absent.
    units : {'nats', 'bits', 'normalized'}
        For the entropies on the page; the files are in nats.
    left_out : callable, optional
        Is told of each file that is missing because its format cannot hold a word; the page tells it too.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    OutputError
        If the folder is a file, holds something else than a report, or cannot be written.
    MissingDependencyError
        If plotly or Jinja2 is not installed.
    """
    require("plotly", extra="plots", caller="write_report")
    require("jinja2", extra="plots", caller="write_report")
    from plotly.offline import get_plotlyjs

    with whole_folder(folder) as new:
        files = write_exports(analysis, new)
        page_sections = sections(analysis, files, units=units)
        (new / "index.html").write_text(render(analysis, page_sections), encoding="utf-8", newline="\n")
        (new / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    if left_out is not None:
        for file in files:
            if not file.written:
                left_out(f"{file.name}: {file.what}")
    return Path(folder).expanduser().resolve() / "index.html"


def render(analysis: SentenceAnalysis, page_sections: list[Section]) -> str:
    """The page as HTML. Everything that comes from the text is escaped; scripts run only with the page's own nonce."""
    import jinja2
    from markupsafe import Markup

    here = resources.files("infogeo_adapters.report").joinpath(TEMPLATES)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    version = analysis.source.versions.get("infogeo", "(not installed)")
    template = environment.from_string(here.joinpath("index.html.j2").read_text(encoding="utf-8"))
    figures = [
        {"id": f.id, "figure": page_figure(f.figure), "config": CONFIG} for s in page_sections for f in s.figures
    ]
    text = visible(analysis.activations.text.replace("\r\n", "\n"), keep="\n\t")
    return template.render(
        lead=prose.INFLUENCE_LEAD if analysis.by_influence else prose.LEAD,
        title=f"{shorten(' '.join(text.split()), 60)} · infogeo report", text=text, facts=facts(analysis),
        notes=analysis.notes, sections=page_sections, version=version,
        css=Markup(here.joinpath("report.css").read_text(encoding="utf-8")),  # our own file
        figures=Markup(script_json(figures)) if figures else "", nonce=secrets.token_urlsafe(18),
    )


def script_json(value: Any) -> str:
    r"""JSON that may stand in a script element: no character in it can end the element or begin a comment.

    Examples
    --------
    >>> print(script_json("</script>"))
    "\u003c/script\u003e"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def page_figure(figure: go.Figure) -> dict[str, Any]:
    """The figure as plain data, without the title, which stands in the page's own type above it."""
    plain: dict[str, Any] = json.loads(figure.to_json())
    layout = plain["layout"]
    layout.pop("title", None)
    layout["margin"]["t"] = max(layout["margin"]["t"] - 36, 16)
    layout["height"] -= 36
    return plain

