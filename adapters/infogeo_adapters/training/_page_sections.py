"""What stands on the page on a diagnosis: sections with findings, figures and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo._diagnosis_result import Diagnosis, Finding
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.plots._training_parts import Entry, Mark, Units, entries_of, quantity_name, scale_of
from infogeo_adapters.plots.style import capital, plural, shorten, visible
from infogeo_adapters.plots.training import loss_figure, training_plane_figure
from infogeo_adapters.plots.training_maps import MOST_HEADS, attention_map_figure, layer_map_figure
from infogeo_adapters.plots.training_series import series_figure
from infogeo_adapters.report.exports import Exported
from infogeo_adapters.report.sections import Figure, Section, Table
from infogeo_adapters.training import _page_prose as prose

OF_ATTENTION = ("attention_entropy", "attention_logits", "attention_capacity", "head_output")


@dataclass(frozen=True)
class ToldFigure(Figure):
    """A figure with a line that says what is drawn."""

    meaning: str = ""


@dataclass(frozen=True)
class Group:
    """Small figures under a heading of their own."""

    title: str
    figures: tuple[ToldFigure, ...]


@dataclass(frozen=True)
class Card:
    """A finding in words, or several of one rule."""

    number: str
    severity: str
    title: str
    where: str
    evidence: tuple[str, ...]
    """What was seen; of several places, a sentence each."""
    explanation: str
    advice: str
    related: tuple[Card, ...] = ()


@dataclass(frozen=True)
class PageSection(Section):
    """One heading and what is under it."""

    cards: tuple[Card, ...] = ()
    groups: tuple[Group, ...] = ()
    layout: str = ""
    """How figures stand: ``pair`` is two beside each other where there is room."""

    @property
    def all_figures(self) -> tuple[Figure, ...]:
        """Also those of the groups."""
        return (*self.figures, *(figure for group in self.groups for figure in group.figures))


@dataclass(frozen=True)
class _Told:
    """What all sections are made of."""

    diagnosis: Diagnosis
    history: TrainingHistory
    entries: tuple[Entry, ...]
    units: Units

    @property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(mark for entry in self.entries for mark in entry.marks)

    @property
    def single(self) -> bool:
        return len(self.history.records) < 2


def facts(diagnosis: Diagnosis, history: TrainingHistory) -> list[tuple[str, str]]:
    """The key facts under the heading."""
    f = history.facts
    many = len(history.records)
    said = [
        ("Model", visible(shorten(f.model, 60))),
        ("Size", f"{plural(f.depth, 'block')} of width {f.width}, {f.n_parameters:,} parameters"),
    ]
    if many > 1:
        said.append(("Records", f"{many}, steps {history.steps[0]:,} to {history.steps[-1]:,}"))
    elif many and (f.every or history.steps[0]):  # of a checkpoint, 0 is what is not known
        said.append(("Step", f"{history.steps[0]:,}"))
    texts, tokens = f.probe_shape
    said.append(("Probe batch", f"{plural(texts, 'text')} of {plural(tokens, 'token')}"))
    if diagnosis.changed_thresholds:
        said.append(("Changed thresholds", diagnosis.thresholds_changed))
    return [*said, ("Found", verdict(diagnosis))]


def verdict(diagnosis: Diagnosis) -> str:
    """How many faults and warnings there are."""
    said = []
    for name in ("fault", "warning"):
        rules = [f.rule for f in diagnosis.findings if f.severity == name]
        kinds = len(set(rules))
        if rules:
            said.append(plural(len(rules), name) + (f" of {plural(kinds, 'kind')}" if kinds < len(rules) else ""))
    return " and ".join(said) or "nothing"


def sections(
    diagnosis: Diagnosis, history: TrainingHistory, files: Sequence[Exported], *, units: Units = "nats"
) -> list[PageSection]:
    """All sections in the order of the page; one that has nothing to show is left out."""
    told = _Told(diagnosis, history, entries_of(diagnosis.findings), units)
    made = [
        _findings(told), _layers(told), _loss(told), _plane(told), _capacity(told), _attention(told), _series(told),
        _not_checked(told), _provenance(told, files),
    ]
    return [section for section in made if section is not None]


def where_of(findings: Sequence[Finding], *, single: bool = False) -> str:
    """Places and steps of findings that are told at once, in words."""
    place, first, last = places_of(findings), min(f.first_step for f in findings), max(f.last_step for f in findings)
    if single:
        return place
    return f"{place}, {_steps(first, last)}"


def places_of(findings: Sequence[Finding]) -> str:
    """Where findings are, each place once: the whole model, the embedding, blocks, heads of blocks.

    Blocks and heads in a row are told by the first and the last.
    """
    whole = {f.block for f in findings if f.head is None}
    said = ["the whole model"] * (None in whole) + ["embedding"] * (0 in whole)
    said += _numbered("block", [block for block in whole if block])
    heads: dict[int, list[int]] = {}
    for finding in findings:
        if finding.head is not None and finding.block:
            heads.setdefault(finding.block, []).append(finding.head)
    said += [f"block {block}, {_numbered('head', heads[block])[0]}" for block in sorted(heads)]
    return "; ".join(said)


def _numbered(word: str, numbers: Sequence[int]) -> list[str]:
    """Numbers in words, three and more in a row by their ends; empty if there are none."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    said = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    if not said:
        return []
    listed = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return [f"{word}{'' if len(set(numbers)) == 1 else 's'} {listed}"]


def evidence_of(findings: Sequence[Finding], *, single: bool = False) -> tuple[str, ...]:
    """What was seen of each finding, with its steps where these are not those of all."""
    same = single or len({(f.first_step, f.last_step) for f in findings}) == 1

    def since(finding: Finding) -> str:
        if finding.evidence.endswith(f"not seen after step {finding.last_step}."):
            return f" First seen at step {finding.first_step:,}."
        return f" Seen {_steps(finding.first_step, finding.last_step)}."

    return tuple(capital(visible(f.evidence)) + ("" if same else since(f)) for f in findings)


def _steps(first: int, last: int) -> str:
    return f"at step {first:,}" if first == last else f"from step {first:,} to {last:,}"


def card_of(entry: Entry, *, single: bool, before: str | None = None) -> Card:
    """Findings in words, with what follows from them; ``before`` is an entry that has the same advice."""
    f = entry.findings[0]
    meaning, advice = (f.explanation, f.advice) if before is None else ("", prose.AS_BEFORE.format(name=before))
    return Card(
        entry.name, f.severity, visible(f.title), where_of(entry.findings, single=single),
        evidence_of(entry.findings, single=single), visible(meaning), visible(advice),
        tuple(card_of(follows, single=single) for follows in entry.related),
    )


def told_before(entries: Sequence[Entry]) -> dict[str, str]:
    """By the name of an entry that of the first one before it with the same meaning and advice, where there is one."""
    first: dict[tuple[str, str, str], str] = {}
    found = {}
    for entry in entries:
        f = entry.findings[0]
        name = first.setdefault((f.rule, f.explanation, f.advice), entry.name)
        if name != entry.name and f.advice:
            found[entry.name] = name
    return found


def _joined(*sentences: str) -> str:
    """Sentences of one paragraph."""
    return " ".join(sentence for sentence in sentences if sentence)


def _findings(told: _Told) -> PageSection:
    diagnosis = told.diagnosis
    if diagnosis.healthy:
        return PageSection("findings", "What was found", paragraphs=(prose.nothing(len(diagnosis.checked)),))
    before = told_before(told.entries)
    cards = [card_of(entry, single=told.single, before=before.get(entry.name)) for entry in told.entries]
    return PageSection("findings", "What was found", paragraphs=(prose.FOUND,), cards=tuple(cards))


def _layers(told: _Told) -> PageSection | None:
    columns, rows = told.diagnosis.layers()
    names = columns[1:-1]
    if not names:
        return None
    badges = [list(dict.fromkeys(m.name for m in told.marks if m.finding.block == row[0])) for row in rows]
    heads: list[Mapping[str, Any]] = [{"name": "layer", "number": True}]
    if any(badges):
        heads.append({"name": "findings", "number": False})
    heads += [
        {"name": _column(name, told.units), "number": True, "meaning": QUANTITIES[name].meaning}
        for name in names
    ]
    body: list[list[Any]] = []
    for row, names_of_findings in zip(rows, badges, strict=True):
        about = marked_quantities(told.marks, row[0], told.diagnosis.layer_step or 0)
        cells = [
            {"number": number(None if v is None else v * scale_of(name, told.units)),
             "marked": "yes" if name in about else ""}
            for name, v in zip(names, row[1:-1], strict=True)
        ]
        found: list[Any] = [{"badges": names_of_findings}] if any(badges) else []
        body.append([str(row[0]), *found, *cells])
    text = _joined(
        "" if told.single else prose.layers_of(told.diagnosis), prose.LAYERS_AS,
        prose.LAYERS_MARKED if any(badges) else "",
    )
    return PageSection("layers", "Layer by layer", paragraphs=(text,), tables=(Table("", heads, body, kind="layers"),))


def _column(name: str, units: Units) -> str:
    """The head of a column, without units that make it wide for little."""
    return quantity_name(name, units) if QUANTITIES[name].unit == "nats" else name.replace("_", " ")


def marked_quantities(marks: Sequence[Mark], layer: int, step: int) -> set[str]:
    """Quantities of a layer that findings are about which are still there at a step."""
    return {m.finding.quantity for m in marks if m.finding.block == layer and m.finding.last_step >= step}


def number(value: float | None) -> str:
    """A number in a cell, with a minus sign that is one, or a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.3g}".replace("-", "−").replace("inf", "∞").replace("e+", "e")


def _loss(told: _Told) -> PageSection | None:
    made = None if told.single else loss_figure(told.history, marks=told.marks, units=told.units)
    if made is None:
        return None
    said = (prose.LOSS,) if told.marks else ()
    return PageSection("loss", "Loss", paragraphs=said, figures=(ToldFigure("loss-plot", made),))


def _plane(told: _Told) -> PageSection | None:
    made = training_plane_figure(told.history, marks=told.marks, units=told.units)
    if made is None:
        return None
    text = prose.PLANE_OF_ONE if told.single else prose.PLANE
    if any(mark.finding.block is not None for mark in told.marks):
        text = _joined(text, prose.PLANE_OF_ONE_MARKED if told.single else prose.PLANE_MARKED)
    return PageSection("plane", "Information plane", paragraphs=(text,), figures=(ToldFigure("plane-plot", made),))


def _capacity(told: _Told) -> PageSection | None:
    draw = series_figure if told.single else layer_map_figure
    of_blocks = [mark for mark in told.marks if mark.finding.block and mark.finding.head is None]
    made = [
        ToldFigure(f"{name}-plot", figure, QUANTITIES[name].meaning) for name in ("capacity", "utilization")
        if (figure := draw(told.history, name, marks=of_blocks, units=told.units)) is not None
    ]
    if not made:
        return None
    said = prose.CAPACITY_OF_ONE_MARKED if told.single else prose.CAPACITY_MARKED
    text = _joined(prose.CAPACITY, said if of_blocks else "")
    return PageSection("capacity", "Capacity of the blocks", paragraphs=(text,), figures=tuple(made), layout="pair")


def _attention(told: _Told) -> PageSection | None:
    marks = [m for m in told.marks if m.finding.quantity in OF_ATTENTION or m.finding.head is not None]
    made = attention_map_figure(told.history, marks=marks)
    if made is None:
        return None
    many = sum(told.history.facts.heads) > MOST_HEADS and not told.single
    text = _joined(prose.ATTENTION, prose.ATTENTION_MARKED if marks else "", prose.TOO_MANY_HEADS if many else "")
    drawn = ToldFigure("attention-plot", made)
    return PageSection("attention", "Attention, head by head", paragraphs=(text,), figures=(drawn,))


def _series(told: _Told) -> PageSection | None:
    groups, zero, alone, marked = [], [], [], False
    for title, names in prose.GROUPS.items():
        figures = []
        for name in names:
            marks = [mark for mark in told.marks if mark.finding.quantity == name]
            values = told.history.series(name) if told.history.records else np.empty(0)
            known = values[np.isfinite(values)]
            if not len(known):
                continue
            if not known.any() and not marks:
                zero.append(name)
                continue
            if name == "attention_entropy" and told.single:
                continue
            made = series_figure(told.history, name, marks=marks, units=told.units)
            if made is None:
                value = float(known[0]) * scale_of(name, told.units)
                alone.append(f"{quantity_name(name, told.units)} {number(value)}")
            else:
                marked = marked or any(mark.finding.block is not None for mark in marks)
                figures.append(ToldFigure(f"series-{name.replace('_', '-')}", made, QUANTITIES[name].meaning))
        if figures:
            groups.append(Group(title, tuple(figures)))
    if not groups:
        return None
    of_one, of_many = (prose.SERIES_OF_ONE, prose.SERIES_OF_ONE_MARKED), (prose.SERIES, prose.SERIES_MARKED)
    said = [_joined(*(of_one if told.single else of_many)[: 2 if marked else 1])]
    if zero:
        said.append(prose.ZERO.format(names=", ".join(name.replace("_", " ") for name in zero)))
    if alone:
        said.append(prose.NUMBERS.format(names="; ".join(alone)))
    title = "All other quantities"
    return PageSection("series", title, paragraphs=tuple(said), groups=tuple(groups))


def without_advice(why: str) -> str:
    """Why something was not measured, without advice for those who capture a text.

    Examples
    --------
    >>> without_advice("it gives no attention; capture it with attention=False")
    'it gives no attention'
    """
    return why.partition("; capture it with attention=False")[0]


def _not_checked(told: _Told) -> PageSection | None:
    from infogeo.diagnosis import RULES

    diagnosis, missing = told.diagnosis, told.history.facts.missing
    tables, said = [], []
    if diagnosis.not_checked:
        rows = [
            [RULES[name].title if name in RULES else name.replace("_", " "), visible(without_advice(why))]
            for name, why in diagnosis.not_checked.items()
        ]
        columns = [{"name": "rule", "number": False}, {"name": "why", "number": False}]
        tables.append(Table("Rules", columns, rows, kind="plain"))
        said.append(prose.NOT_CHECKED)
    if missing:
        lost = [[name.replace("_", " "), visible(without_advice(why))] for name, why in missing.items()]
        columns = [{"name": "quantity", "number": False}, {"name": "why", "number": False}]
        tables.append(Table("Quantities", columns, lost, kind="plain"))
        said.append(prose.MISSING)
    if not tables:
        return None
    return PageSection("not-checked", "What was not checked, and why", paragraphs=tuple(said), tables=tuple(tables))


def _provenance(told: _Told, files: Sequence[Exported]) -> PageSection:
    f, source = told.history.facts, told.diagnosis.source
    rows: list[Sequence[Any]] = [
        (name, visible(str(value))) for name, value in (
            ("run", f.run), ("architecture", f.architecture), ("SHA-256 of the probe batch", f.probe),
            ("objective", f.objective), ("number format", f.dtype), ("steps between records", f.every or None),
            ("SHA-256 of the weights", source.content_hash),
            ("seconds of measuring", round(sum(r.seconds for r in told.history.records), 1) or None),
        ) if value is not None
    ]
    rows += [(name.replace("_", " "), visible(str(v))) for name, v in source.options.items() if v is not None]
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items())))
    return PageSection(
        "provenance", "Provenance and files", paragraphs=(prose.PROVENANCE,),
        findings=tuple(f"{file.name}: {file.what}" for file in files if not file.written),
        tables=(Table("How this was made", (), rows, kind="provenance"),),
        files=tuple(file for file in files if file.written),
    )
