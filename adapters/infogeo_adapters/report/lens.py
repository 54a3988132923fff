"""A page on one text read by a lens: maps by token and place, spreads, histograms, the path of the prediction."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from infogeo.entropy_profile import EntropyProfile, EntropyUnit
from infogeo.errors import ArgumentError
from infogeo_adapters._require import require
from infogeo_adapters.files import check_path, write_atomically
from infogeo_adapters.plots import (
    entropy_band_figure,
    entropy_histogram_figure,
    lens_figure,
    prediction_path_figure,
)
from infogeo_adapters.plots.lens import check_units, divergence_scale, row_names
from infogeo_adapters.plots.lens_stages import path_over_geodesic
from infogeo_adapters.plots.style import capital, plural, readable, shorten, visible
from infogeo_adapters.plots.tokens import byte_level
from infogeo_adapters.report.builder import CONFIG, TEMPLATES, page_figure, script_json
from infogeo_adapters.report.exports import Exported, ReadableTokens, export
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.report.sections import Figure, Section, Table, page_number
from infogeo_adapters.tables import write_table
from infogeo_adapters.transformers.alignment import split_words

SHORT = {"rank_1_share": "rank_1", "step_length": "step", "entropy_p10": "p10", "entropy_p90": "p90"}
"""Shorter names of columns."""
TALL = 900
"""Pixels after which a figure scrolls in a box of its own."""

MAP = (
    "Each cell is the prediction of {what} read out at one place of the model: dark where it is certain. Point at a "
    "cell for its most probable tokens, its entropy, its divergence from the final prediction and the rank of the true "
    "token; the menu colors by another of these. The text runs from left to right and goes on in the next line; a long "
    "one scrolls in its box."
)
STAGES = (
    "Within a block, the stream is read after attention (resid mid) and after the feed-forward (resid post), and what "
    "these two parts return is read by itself, as if it were the stream. A part that alone says little is near uniform."
)
BANDS = (
    "Over all tokens of the text, special tokens among them. A band that narrows says that tokens become alike, not "
    "that the model becomes right."
)
HISTOGRAMS = (
    "A mean can hide two groups of tokens, such as beginnings and ends of words; a histogram does not. Heights are "
    "shares of the tokens, on a scale of its own in each panel; the axis of entropy is the same in all."
)
PATH = (
    "Each prediction is a point on the simplex, the set of all ways to share out probability among the tokens, and "
    "from layer to layer it moves by a Fisher–Rao distance, a number without unit, at most π. The path adds these up; "
    "the geodesic is the straight way from the first to the last point. A quotient near one is a prediction that is "
    "refined steadily, a large one a prediction that turns back, or that ends near where it began."
)
TABLE = (
    "A tenth of the tokens has an entropy below p10, a tenth one above p90. KL to final is the divergence from the "
    "final prediction, cross entropy the surprise at the true token, perplexity its exponential; rank 1 is the share "
    "of the tokens that are predicted right, step the Fisher–Rao distance from the state before."
)
PROVENANCE = "The files hold every number of this page. Entropies and divergences in them are in nats."


def write_lens_report(
    profile: EntropyProfile, path: str | os.PathLike[str], *, text: str, target: str | None = None,
    units: EntropyUnit = "nats", notes: Sequence[str] = (),
) -> Path:
    """Write a page on one text read by a lens, that opens offline in a browser.

    A path that ends in ``.html`` is one file that holds everything; any other is a folder with ``index.html``, plotly's
    script, and the numbers as ``lens.csv`` and ``lens.json``. Either appears whole or not at all.

    Parameters
    ----------
    profile : EntropyProfile
        From :func:`infogeo_adapters.logit_lens`; with ``top_k`` above one a cell tells as many outcomes.
    path : path
        A folder that exists must be empty or hold a report of infogeo, which is replaced.
    text : str
        The text that was read, shown at the top; of an encoder-decoder model the source.
    target : str, optional
        Of an encoder-decoder model the text that its decoder read, whose tokens the profile has.
    units : {'nats', 'bits', 'normalized'}
        For the page; the files are in nats.
    notes : sequence of str
        Sentences for the reader, shown under the text.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OutputError
        If the path cannot be written.
    ArgumentError
        If the units are unknown, a text is no str, the notes are none, or path is no path.
    MissingDependencyError
        If plotly or Jinja2 is not installed.
    """
    if not isinstance(profile, EntropyProfile):
        raise ArgumentError(f"profile: found {type(profile).__name__}, wanted the EntropyProfile of one text")
    check_units(units)
    check_path("path", path)
    texts = {"text": text} if target is None else {"text": text, "target": target}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ArgumentError(f"{name}: found {type(value).__name__}, wanted str")
    if isinstance(notes, str) or not isinstance(notes, Sequence) or not all(isinstance(note, str) for note in notes):
        raise ArgumentError(f"notes: found {notes!r}, wanted a sequence of sentences, such as [\"One sentence.\"]")
    require("plotly", extra="plots", caller="write_lens_report")
    require("jinja2", extra="plots", caller="write_lens_report")
    from plotly.offline import get_plotlyjs

    if Path(path).suffix.lower() in (".html", ".htm"):
        page = render(profile, texts, units=units, notes=notes, files=(), script=get_plotlyjs())
        return write_atomically(path, page.encode("utf-8"))
    with whole_folder(path) as new:
        files = (
            export(write_table, readable_tokens(profile), new / "lens.csv", "all numbers, by place and token"),
            Exported("lens.json", "the same in one file, with its provenance"),
        )
        (new / "lens.json").write_text(profile.to_json() + "\n", encoding="utf-8", newline="\n")
        page = render(profile, texts, units=units, notes=notes, files=files, script=None)
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
        (new / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8", newline="\n")
    return Path(path).expanduser().resolve() / "index.html"


def readable_tokens(profile: EntropyProfile) -> ReadableTokens:
    """The profile's table, with tokens also as a reader would write them."""
    in_bytes = byte_level(chain(profile.tokens, profile.outcome_names.values()))
    return ReadableTokens(profile, ("token", "top_token"), in_bytes)


def render(
    profile: EntropyProfile, texts: Mapping[str, str], *, units: EntropyUnit, notes: Sequence[str],
    files: Sequence[Exported], script: str | None,
) -> str:
    """The page as HTML; with a script it is complete in itself, else it loads plotly from the file beside it.

    The texts are the ``text`` and, of an encoder-decoder model, the ``target``.
    """
    import jinja2
    from markupsafe import Markup

    here = resources.files("infogeo_adapters.report").joinpath(TEMPLATES)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(here.joinpath("lens.html.j2").read_text(encoding="utf-8"))
    made = _sections(profile, units, files)
    figures = [{"id": f.id, "figure": page_figure(f.figure), "config": CONFIG} for s in made for f in s.figures]
    shown = {name: visible(text.replace("\r\n", "\n"), keep="\n\t") for name, text in texts.items()}
    return template.render(
        title=f"{shorten(' '.join(shown['text'].split()), 60)} · infogeo lens",
        texts=[*shown.items()], facts=_facts(profile, texts, units),
        notes=[f"{capital(note).removesuffix('.')}." for note in notes],
        sections=made, tall=TALL, version=profile.source.versions.get("infogeo", "(not installed)"),
        css=Markup(here.joinpath("report.css").read_text(encoding="utf-8")),  # our own file
        figures=Markup(script_json(figures)), nonce=secrets.token_urlsafe(18),
        script=None if script is None else Markup(script),  # plotly's
    )


def _facts(profile: EntropyProfile, texts: Mapping[str, str], units: EntropyUnit) -> list[tuple[str, str]]:
    options = profile.source.options
    windows = options.get("windows")
    size = f"{plural(len(profile.words), 'word')}, {plural(len(profile.tokens), 'token')}"
    read = [("Text", size + (f" in {windows} windows" if windows else ""))]
    if "target" in texts:
        read = [("Source", plural(len(split_words(texts["text"])), "word")), ("Target", size)]
    return [
        ("Model", visible(shorten(profile.source.model or "given as an object", 60))), *read,
        ("Read at", f"{plural(len(profile.row_stages), 'place')} in {plural(profile.n_layers, 'block')}"),
        ("Lens", visible(str(options.get("lens", "logit_lens")).replace("_", " "))),
        ("Outcomes", f"{profile.n_outcomes:,}" + (" (tokens only)" if options.get("used_only") else "")),
        ("Entropies in", f"shares of log {profile.n_outcomes:,}" if units == "normalized" else units),
    ]


def _sections(profile: EntropyProfile, units: EntropyUnit, files: Sequence[Exported]) -> list[Section]:
    """All sections in the order of the page."""
    what = "the next token" if profile.predicts == "next" else "the token itself, which the model sees"
    stages = [s for s in dict.fromkeys(profile.row_stages) if s not in ("embedding", "resid_post")]
    layers = profile.at_stage("resid_post") if "resid_post" in profile.row_stages else profile
    several = len(profile.row_stages) > 1
    made = [
        Section(
            "bands", "Over tokens", paragraphs=(BANDS,) if several else (), findings=tuple(_course(layers, units)),
            figures=(Figure("bands-plot", entropy_band_figure(profile, units=units)),) if several else (),
        ),
        Section(
            "histograms", "Histograms by layer", paragraphs=(HISTOGRAMS,),
            figures=(Figure("histograms-plot", entropy_histogram_figure(profile, units=units)),),
        ),
    ]
    if not np.isnan(profile.step_length).all():
        made.append(Section(
            "path", "The path of the prediction", paragraphs=(PATH,), findings=tuple(_travel(profile)),
            figures=(Figure("path-plot", prediction_path_figure(profile)),),
        ))
    made += [
        Section("places", "Place by place", paragraphs=(TABLE,), tables=(_table(profile, units),)),
        Section(
            "map", "By token and layer", paragraphs=(MAP.format(what=what),),
            figures=(Figure("token-layer", lens_figure(layers, units=units, positions="tokens")),),
        ),
    ]
    if stages and layers is not profile:
        made.append(Section(
            "stages", "By token and stage", paragraphs=(STAGES,),
            figures=(Figure("token-stage", lens_figure(profile, units=units, positions="tokens")),),
        ))
    return [*made, _provenance(profile, files)]


def _course(profile: EntropyProfile, units: EntropyUnit) -> list[str]:
    """How entropy and correctness run through the layers, in sentences."""
    entropy = profile.in_units(units).mean(axis=1)
    unit = "of the largest possible" if units == "normalized" else units
    found = []
    if len(entropy) > 1:
        change = np.diff(entropy)
        most = int(np.argmin(change))
        found.append(
            f"The mean entropy goes from {entropy[0]:.3g} {_at(profile, 0)} to {entropy[-1]:.3g} {unit} "
            f"{_at(profile, -1)}" + (f"; it falls most from {_name(profile, most)} to {_name(profile, most + 1)}, by "
                                     f"{-change[most]:.3g}." if change[most] < 0 else "; it falls nowhere.")
        )
    else:
        found.append(f"The mean entropy is {entropy[0]:.3g} {unit} {_at(profile, 0)}.")
    true = profile.target_ids >= 0
    if true.any():
        right = (profile.rank[:, true] == 1).mean(axis=1)
        loss = np.exp(profile.cross_entropy[:, true].mean(axis=1))
        name = "next" if profile.predicts == "next" else "true"
        first, run = "", f"is {loss[-1]:.3g}"
        if len(entropy) > 1:
            first = f", for {_percent(right[0])} {_at(profile, 0)}"
            run = f"goes from {loss[0]:.3g} to {loss[-1]:.3g}"
        found.append(
            f"The {name} token is the most probable one for {_percent(right[-1])} of "
            f"{plural(int(true.sum()), 'token')} {_at(profile, -1)}{first}"
            + (f"; the perplexity {run}." if profile.predicts == "next" else ".")
        )
    return found


def _name(profile: EntropyProfile, row: int) -> str:
    """A row in words."""
    return row_names(profile)[row] if profile.row_stages[row] != "resid_post" else f"layer {profile.row_layers[row]}"


def _at(profile: EntropyProfile, row: int) -> str:
    stage = profile.row_stages[row]
    return "at the embedding" if stage == "embedding" else f"after {_name(profile, row)}"


def _travel(profile: EntropyProfile) -> list[str]:
    ratio = path_over_geodesic(profile)
    if not ratio.size:
        return ["No prediction moves: first and last are the same for every token."]
    low, high = np.quantile(ratio, (0.1, 0.9))
    said = (
        f"The path is {np.median(ratio):.3g} times as long as its geodesic at the median (10 to 90 % of the tokens: "
        f"{low:.3g} to {high:.3g}); the median of its length is {np.nanmedian(profile.path_length):.3g}."
    )
    return [said]


def _table(profile: EntropyProfile, units: EntropyUnit) -> Table:
    columns, rows = place_table(profile, units)
    heads = [{"name": _heading(name), "number": name != "stage"} for name in columns]
    _, unit = divergence_scale(units)
    in_units = f"entropies as shares of log {profile.n_outcomes:,}, the rest in nats" if units == "normalized" else unit
    return Table(f"Means over tokens ({in_units})", heads, [
        [str(cell).replace("_", " ") if name == "stage" else page_number(place_cell(name, cell))
         for name, cell in zip(columns, row, strict=True)]
        for row in rows
    ], kind="close")


def _heading(name: str) -> str:
    """A column in words."""
    words = SHORT.get(name, name).replace("_", " ")
    return words.replace("renyi", "Rényi").replace("kl ", "KL ").replace("set size", "tokens for")


def place_table(profile: EntropyProfile, units: EntropyUnit) -> tuple[list[str], list[list[Any]]]:
    """Means over tokens, a line for each place, in the units asked for: columns and lines.

    With Rényi entropies and the size of the top-p set where the profile has them, and the perplexity where predictions
    are of the next token; of a token that the model sees there is none.
    """
    scale, _ = divergence_scale(units)
    share = float(np.log(profile.n_outcomes)) if units == "normalized" else 1 / scale
    names, lines = profile.by_row()
    factors = {"kl_to_final": scale, "cross_entropy": scale}
    found: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        factor = 1 / share if name.startswith("entropy") else factors.get(name, 1.0)
        values = [line[place] for line in lines]
        found[name] = [value * factor if isinstance(value, float) else value for value in values]
        if name == "entropy_p90":
            found |= {f"renyi_{order:g}": (h.mean(axis=1) / share).tolist() for order, h in profile.renyi.items()}
            if profile.set_size is not None:
                found[f"set_size_{profile.top_p:g}"] = profile.set_size.mean(axis=1).tolist()
        if name == "cross_entropy" and profile.predicts == "next":
            found["perplexity"] = [None if value is None else float(np.exp(value)) for value in values]
    return [*found], [list(row) for row in zip(*found.values(), strict=True)]


def place_cell(name: str, value: Any) -> str:
    """A cell of the table of places as it is shown: three decimals, so that a column can be read downwards."""
    if value is None:
        return "–"
    if name == "rank_1_share":
        return f"{100 * value:.1f}%"
    if name == "perplexity" or name.startswith("set_size"):
        return f"{value:,.1f}" if value < 1e6 else f"{value:.1e}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _provenance(profile: EntropyProfile, files: Sequence[Exported]) -> Section:
    source = profile.source
    rows: list[Sequence[Any]] = [
        (name, visible(str(value))) for name, value in (
            ("model", source.model), ("architecture", source.architecture),
            ("SHA-256 of the weights", source.content_hash), ("number format", source.dtype),
            ("SHA-256 of the text", source.text_hash),
        ) if value is not None
    ]
    rows += [(readable(name), visible(str(value))) for name, value in source.options.items() if value is not None]
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items())))
    return Section(
        "provenance", "Provenance and files" if files else "Provenance", paragraphs=(PROVENANCE,) if files else (),
        findings=tuple(f"{f.name}: {f.what}" for f in files if not f.written),
        tables=(Table("How this was made", (), rows, kind="provenance"),), files=tuple(f for f in files if f.written),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
