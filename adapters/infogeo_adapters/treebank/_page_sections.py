"""What stands on the page on a treebank: sections with sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infogeo._tree_families import ALL, BINS, LONG
from infogeo._tree_records import OFFSET, FamilyEstimate
from infogeo._tree_report import LEAST_FOR_INTERVAL
from infogeo_adapters.plots.style import capital, plural, readable, shorten, visible
from infogeo_adapters.plots.treebank import (
    KINDS,
    Score,
    layers_figure,
    recall_by_length_figure,
    recall_by_relation_figure,
    score_figure,
)
from infogeo_adapters.report.exports import Exported
from infogeo_adapters.report.sections import Figure, Section, Table, page_number
from infogeo_adapters.treebank import _page_prose as prose
from infogeo_adapters.treebank._page_examples import ExampleOnPage, examples_on_page
from infogeo_adapters.treebank._page_layers import layer_lines, level_line
from infogeo_adapters.treebank._page_numbers import (
    cross_caution,
    difference_of,
    estimate_of,
    number,
    p_text,
    share,
    skip_reason,
)
from infogeo_adapters.treebank.comparison import ModelTreebankComparison, skipped_count
from infogeo_adapters.treebank.examples import FEWEST, MOST, ExampleSentence

ADJACENT = "adjacent words"
FEWEST_RELATIONS = 10
"""Relations of one name that are drawn at least."""
MOST_RELATIONS = 24
"""Relations that are drawn, the most frequent ones."""
MOST_SKIPPED = 100
"""Skipped sentences that the page names."""

OPTIONS = {
    "treebank treebank": "treebank", "treebank sentences": "first sentences read",
    "choose treebank": "treebank to choose on", "choose sentences": "first sentences to choose on",
    "n_skipped": "sentences skipped", "n_choosing": "sentences that choose",
}
"""Names of the options of a comparison that would be hard to understand as they are."""


@dataclass(frozen=True)
class PageSection(Section):
    """One heading and what is under it, example sentences among it."""

    examples: tuple[ExampleOnPage, ...] = ()

    @property
    def all_figures(self) -> tuple[Figure, ...]:
        """Also those of the examples."""
        return (*self.figures, *(figure for example in self.examples for figure in example.figures))


def facts(found: ModelTreebankComparison) -> list[tuple[str, str]]:
    """The key facts under the heading."""
    options = found.source.options
    name = visible(str(options.get("treebank treebank") or "given as an object"))
    seconds = sum(found.seconds.values()) + sum(found.shared_seconds.values())
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return [
        ("Model", visible(shorten(found.source.model or "given as an object", 60))),
        ("Treebank", shorten(name, 60)),
        ("Reported on", f"{plural(found.n_sentences, 'sentence')}, {_total(found):,} relations"),
        ("Families", f"{len(found.families)} with {sum(len(f.variants) for f in found.families):,} variants"),
        ("Skipped", skipped_count(found.skipped).replace(" skipped", "")),
        ("Computed in", took),
    ]


def notes(found: ModelTreebankComparison) -> list[str]:
    """What speaks against trusting the numbers."""
    return [f"{capital(visible(warning)).removesuffix('.')}." for warning in found.warnings]


def sections(
    found: ModelTreebankComparison, files: Sequence[Exported], examples: Sequence[ExampleSentence]
) -> list[PageSection]:
    """All sections in the order of the page; one that has nothing to show is left out."""
    made = [
        _scores(found), _families(found), _distance(found), _relation(found), _layers(found),
        _examples(found, examples), _choice(found), _missing(found), _provenance(found, files),
    ]
    return [section for section in made if section is not None]


def _total(found: ModelTreebankComparison) -> int:
    return found.estimate(found.families[0].name).n


def _names(found: ModelTreebankComparison) -> list[str]:
    return [family.name for family in found.families]


def _level(found: ModelTreebankComparison) -> str:
    return f"{100 * found.level:g} %"


def _score(name: str, estimate: FamilyEstimate, note: str = "") -> Score:
    return Score(
        name=name, kind=estimate.kind, value=estimate.value, low=estimate.lower, high=estimate.upper, note=note
    )


def _variant(found: ModelTreebankComparison, name: str) -> str:
    return visible(" / ".join(dict.fromkeys(choice.variant for choice in found.chosen(name))))


def grouped(found: ModelTreebankComparison) -> list[tuple[str, list[str]]]:
    """Names of families by kind, in each kind the highest UUAS first."""
    kinds = [*KINDS, *(f.kind for f in found.families if f.kind not in KINDS)]
    groups = [
        (kind, sorted((f.name for f in found.families if f.kind == kind), key=lambda n: -found.estimate(n).value))
        for kind in dict.fromkeys(kinds)
    ]
    return [(kind, names) for kind, names in groups if names]


def compared(found: ModelTreebankComparison) -> list[str]:
    """The families that pictures of details show: the best of influence, the reference, adjacent words."""
    wanted = (found.best("influence"), found.reference, ADJACENT)
    return [name for name in dict.fromkeys(wanted) if name is not None and name in _names(found)]


def _scores(found: ModelTreebankComparison) -> PageSection:
    rows = [
        _score(name, found.estimate(name), _variant(found, name)) for _, names in grouped(found) for name in names
    ]
    lines = [name for name in dict.fromkeys((found.reference, ADJACENT)) if name in _names(found) and name is not None]
    picture = score_figure(
        rows, lines=[_score(name, found.estimate(name)) for name in lines], title="Share of the relations found",
        axis="UUAS", level=found.level,
    )
    return PageSection(
        "scores", "Which graph finds most", findings=tuple(_verdicts(found)),
        paragraphs=(prose.MEASURED.format(level=_level(found)), prose.GROUPS),
        figures=(Figure("scores-plot", picture),),
    )


def _verdicts(found: ModelTreebankComparison) -> list[str]:
    """What the numbers say, and how little where it is little."""
    best, said = found.best("influence"), []
    if best is not None:
        found_by_it = share(found.estimate(best).value)
        named = f"The influence family that was best where variants were chosen, “{best}”,"
        head = f"{named} finds {found_by_it} of the relations"
        said.append(_against(found, best, ALL, head))
        far = estimate_of(found, best, LONG)
        if far is not None:
            head = f"Of the relations of words more than three apart it finds {share(far.value)}"
            said.append(_against(found, best, LONG, head))
    elif found.reference is not None:
        shown = share(found.estimate(found.reference).value)
        said.append(f"No influence family is in this comparison. {capital(found.reference)} finds {shown}.")
    mixed = found.best("combination")
    if mixed is not None:
        head = f"Influence and attention combined, “{mixed}”, find {share(found.estimate(mixed).value)}"
        said.append(_against(found, mixed, ALL, head))
    taught = found.best("supervised")
    if taught is not None:
        said.append(
            f"The best of the families trained on trees, “{taught}”, finds {share(found.estimate(taught).value)}."
        )
    return said


def _against(found: ModelTreebankComparison, name: str, category: str, head: str) -> str:
    """A sentence on a family and the reference."""
    d = difference_of(found, name, category)
    if d is None:
        return f"{head}."
    other = found.estimate(d.reference, category)
    around = "" if d.lower is None or d.upper is None else (
        f" ({number(100 * d.lower, '+.1f')} to {number(100 * d.upper, '+.1f')})"
    )
    points = f"{number(100 * d.value, '+.1f')} points{around}"
    if d.p_holm is None:
        return f"{head}, “{found.reference}” {share(other.value)}: {points}; there are too few for a test."
    sure = d.p_holm <= 1 - found.level
    verdict = "no difference is shown" if not sure else "it is above" if d.value > 0 else "it is below"
    p = "p " + ("" if d.p_holm < 0.001 else "= ") + p_text(d.p_holm)
    return f"{head}, “{found.reference}” {share(other.value)}: {points}, corrected {p}; {verdict}."


def _families(found: ModelTreebankComparison) -> PageSection:
    best, rows = found.best("influence"), []
    for kind, names in grouped(found):
        rows.append([{"group": capital(KINDS[kind][0])}])
        rows += [_row(found, name, best) for name in names]
    less = f"− {found.reference}" if found.reference else ""
    apart = (less, "p") if found.reference else ()
    columns = [
        {"name": name, "number": name != "family"}
        for name in ("family", "UUAS", *apart, "long", *apart, "DSpr", "seconds")
    ]
    text = prose.TABLE.format(reference=found.reference or "no family")
    return PageSection(
        "families", "All families", paragraphs=(text,),
        tables=(Table(f"UUAS with {_level(found)} intervals", columns, rows, kind="family"),),
    )


def _row(found: ModelTreebankComparison, name: str, best: str | None) -> list[Any]:
    role = "own" if name == best else "reference" if name == found.reference else ""
    mark = {"own": "best where chosen", "reference": "reference", "": ""}[role]
    cells: list[Any] = [{"family": visible(name), "variant": _variant(found, name), "mark": mark, "role": role}]
    for category in (ALL, LONG):
        cells.append(_with_range(estimate_of(found, name, category), ".3f"))
        if found.reference is not None:
            d = difference_of(found, name, category)
            cells += [_with_range(d, "+.3f"), page_number("" if d is None else p_text(d.p_holm))]
    seconds = found.seconds.get(name)
    correlation = estimate_of(found, name, quantity="dspr")
    cells.append(page_number(number(None if correlation is None else correlation.value)))
    return [*cells, page_number("–" if seconds is None else f"{seconds:.1f}")]


def _with_range(found: Any, form: str) -> dict[str, str]:
    if found is None:
        return {"number": "", "range": ""}
    inside = found.lower is not None and found.upper is not None
    around = f"{number(found.lower, form)} to {number(found.upper, form)}" if inside else ""
    return {"number": number(found.value, form), "range": around}


def _distance(found: ModelTreebankComparison) -> PageSection | None:
    estimates = {(e.family, e.category): e for e in _plain(found)}
    names = compared(found)
    bins = [b for b in BINS if names and (names[0], b) in estimates]
    if not bins:
        return None
    picture = recall_by_length_figure(
        [b.replace("-", "–") for b in bins],
        [[_score(name, estimates[name, b]) for b in bins] for name in names],
        counts=[estimates[names[0], b].n for b in bins], level=found.level,
    )
    return PageSection(
        "distance", "Near and far relations", paragraphs=(prose.DISTANCE.format(level=_level(found)),),
        figures=(Figure("distance-plot", picture),),
    )


def _plain(found: ModelTreebankComparison) -> list[FamilyEstimate]:
    """UUAS of the first decoder, without punctuation."""
    return [
        e for e in found.estimates
        if e.quantity == "uuas" and not e.punctuation and e.decoder == found.decoders[0]
    ]


def _relation(found: ModelTreebankComparison) -> PageSection | None:
    best, other = found.best("influence"), found.reference
    if best is None or other is None:
        return None
    estimates = {(e.family, e.category): e for e in _plain(found)}
    relations = [
        e.category for e in _plain(found)
        if e.family == best and e.category not in (ALL, LONG, *BINS)
        and e.n_sentences >= LEAST_FOR_INTERVAL and e.n >= FEWEST_RELATIONS
    ]
    relations = sorted(relations, key=lambda c: -estimates[best, c].n)[:MOST_RELATIONS]
    relations.sort(key=lambda c: estimates[other, c].value - estimates[best, c].value)
    if not relations:
        return None
    names = [best, other, *([OFFSET] if (OFFSET, relations[0]) in estimates else [])]
    picture = recall_by_relation_figure(
        relations, [[_score(name, estimates[name, c]) for c in relations] for name in names],
        counts=[estimates[best, c].n for c in relations], level=found.level,
    )
    text = prose.RELATION.format(relations=FEWEST_RELATIONS, fewest=LEAST_FOR_INTERVAL, level=_level(found))
    return PageSection(
        "relation", "Relation by relation", paragraphs=(text, *((prose.OFFSET,) if OFFSET in names else ())),
        figures=(Figure("relation-plot", picture),),
    )


def _layers(found: ModelTreebankComparison) -> PageSection | None:
    lines = layer_lines(found)
    if not lines:
        return None
    return PageSection(
        "layers", "Layer by layer", paragraphs=(prose.LAYER,),
        figures=(Figure("layers-plot", layers_figure(lines, reference=level_line(found, ADJACENT))),),
    )


def _examples(found: ModelTreebankComparison, examples: Sequence[ExampleSentence]) -> PageSection | None:
    if not examples:
        return None
    return PageSection(
        "examples", "Example sentences", paragraphs=(prose.EXAMPLES.format(fewest=FEWEST, most=MOST),),
        examples=tuple(examples_on_page(examples)),
    )


def _choice(found: ModelTreebankComparison) -> PageSection:
    names = ("family", "chosen on", "variant", "variants", "UUAS there", "chosen again")
    columns = [{"name": name, "number": k > 2} for k, name in enumerate(names)]
    rows: list[list[Any]] = [
        [visible(c.family), c.chosen_on.replace(" half", "\N{NO-BREAK SPACE}half"), visible(c.variant),
         page_number(f"{c.n_variants:,}"), page_number(number(c.score)),
         page_number(f"{100 * c.stability:.0f}\N{NO-BREAK SPACE}%")]
        for name in _names(found) for c in found.chosen(name) if c.n_variants > 1
    ]
    table = Table("What was chosen, of how many variants, and how often again in resamples", columns, rows)
    crossed = [prose.LUCK, *cross_caution(found)] if found.split == "cross" else []
    cautions = [prose.CAUTIONS[0], *crossed, *prose.CAUTIONS[1:]]
    return PageSection(
        "choice", "How variants were chosen, and what to beware of", paragraphs=(prose.CHOSEN.get(found.split, ""),),
        findings=tuple(cautions), tables=(table,) if rows else (),
    )


def _missing(found: ModelTreebankComparison) -> PageSection | None:
    tables = []
    if found.skipped:
        columns = [{"name": name, "number": name == "line"} for name in ("sentence", "line", "reason")]
        rows: list[list[Any]] = [
            [visible(s.name), page_number(str(s.line)), visible(skip_reason(s.reason))]
            for s in found.skipped[:MOST_SKIPPED]
        ]
        more = f", the first {MOST_SKIPPED} of them" if len(found.skipped) > MOST_SKIPPED else ""
        tables.append(Table(f"{skipped_count(found.skipped)}{more}", columns, rows))
    if found.left_out:
        left = [[visible(name), visible(reason)] for name, reason in found.left_out.items()]
        tables.append(Table("Families left out", [{"name": n, "number": False} for n in ("family", "reason")], left))
    if not tables:
        return None
    said = (*((prose.SKIPPED,) if found.skipped else ()), *((prose.LEFT_OUT,) if found.left_out else ()))
    return PageSection("missing", "What is not in the numbers", paragraphs=said, tables=tuple(tables))


def _provenance(found: ModelTreebankComparison, files: Sequence[Exported]) -> PageSection:
    source = found.source
    rows: list[Sequence[Any]] = [
        (name, visible(str(value))) for name, value in (
            ("model", source.model), ("architecture", source.architecture),
            ("SHA-256 of the weights", source.content_hash), ("number format", source.dtype),
            ("SHA-256 of the sentences", source.text_hash), ("seed", source.seed),
        ) if value is not None
    ]
    rows += [
        (OPTIONS.get(name) or readable(name), visible(str(value)))
        for name, value in source.options.items() if value is not None
    ]
    rows += [(f"seconds of {name}", f"{seconds:.1f}") for name, seconds in found.shared_seconds.items()]
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in source.versions.items())))
    return PageSection(
        "provenance", "Provenance and files", paragraphs=(prose.PROVENANCE,),
        findings=tuple(f"{f.name}: {f.what}" for f in files if not f.written),
        tables=(Table("How this was made", (), rows, kind="provenance"),), files=tuple(f for f in files if f.written),
    )
