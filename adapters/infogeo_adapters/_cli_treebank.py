"""``infogeo compare --treebank``: word graphs of a model against the trees of a treebank."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infogeo_adapters._cli_input import given, rephrase
from infogeo_adapters._cli_output import open_model, print_json, tell, teller
from infogeo_adapters.plots.style import plural, shorten, visible

if TYPE_CHECKING:
    from infogeo.syntax import Treebank
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.comparison import ModelTreebankComparison

Command = TypeVar("Command", bound=Callable[..., Any])
SAMPLE = "sample"
WIDTH = 110
"""Columns of a terminal that the table keeps to."""
FIRM = 0.9
"""Share of resamples in which the same variant is chosen again, below which the p-values get a caution."""
NAMED = 20
"""Skipped sentences that are named on stderr."""
LIST = "list"
"""In place of names of families: print them all."""
MEND = "mend the lines of the file"
REMEDIES = {
    "are no punctuation, wanted": "nothing to do for short ones, in which any graph finds the same tree",
    " the context of ": "a model with a longer context, or shorter sentences",
    "has no token of its own": "a model whose tokenizer keeps such words apart",
}
"""By what the reason of a skipped sentence says: what to do about it. All others are faults of the file."""
OWN = {
    "treebank": ("treebank", "choose", "split", "resume", "sentences", "families", "untrained", "out"),
    "similarity": ("similarity", "corpus", "out"),
}
"""Parameters that a comparison without a text has for itself."""
WITHOUT_TEXT = ("choose", "split", "resume", "sentences", "families", "untrained", "out")
"""Parameters that a comparison with a text does not have."""
SHARED = ("model", "allow_pickle", "quiet", "seed", "alpha", "as_json")
"""Parameters that all comparisons have."""


def treebank_options(command: Command) -> Command:
    """The options of a comparison with a treebank."""
    options = [
        click.option("--treebank", "-t", metavar="FILE",
                     help="Compare with the trees of a treebank in CoNLL-U in place of TEXT; 'sample' is the small one "
                     "that ships with infogeo."),
        click.option("--choose", metavar="FILE",
                     help="With --treebank: another treebank, on which layers, heads and variants are chosen."),
        click.option("--split", type=click.Choice(("cross", "half")), default="cross", show_default=True,
                     help="With --treebank and no --choose: choose on each half and report on the other, or choose on "
                     "the first and report on the second."),
        click.option("--sentences", type=click.IntRange(min=2), metavar="N",
                     help="With --treebank: read its first N sentences only."),
        click.option("--families", metavar="NAME,...",
                     help="With --treebank: only these families of graphs; 'list' prints all names. 'attention head' "
                     "is what the others are compared with, and is always there."),
        click.option("--untrained/--no-untrained", default=True, show_default=True,
                     help="With --treebank: also compare the untrained twin of the model."),
        click.option("--out", "-o", metavar="PATH", type=click.Path(),
                     help="With --treebank: a folder for a page with figures and all tables; it must be absent, empty, "
                     "or an earlier report, which is replaced. With --similarity: a file for the table, .csv, .json or "
                     ".parquet."),
        click.option("--resume", "--folder", "resume", metavar="FOLDER", type=click.Path(),
                     help="With --treebank: keep scores in a folder; the same command goes on where it was cut off."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def refuse_mixture(options: dict[str, Any]) -> None:
    """Refuse options that have no effect beside the others.

    Raises
    ------
    click.UsageError
        That names both.
    """
    asked = [name for name in OWN if options[name] is not None]
    if len(asked) > 1:
        raise click.UsageError("give either --treebank or --similarity; both were given")
    for parameter in click.get_current_context().command.params:
        name = parameter.name or ""
        if not given(name):
            continue
        said = name.upper() if isinstance(parameter, click.Argument) else parameter.opts[0]
        if not asked and name in WITHOUT_TEXT:
            more = " or --similarity PAIRS.csv" if name == "out" else ""
            raise click.UsageError(f"{said} goes with --treebank FILE{more}")
        if asked and name not in (*OWN[asked[0]], *SHARED):
            reads = "the sentences of a treebank" if asked[0] == "treebank" else "pairs of words"
            raise click.UsageError(f"{said} does not go with --{asked[0]}, which reads {reads}")
    if not asked or asked[0] == "similarity":
        return
    if given("choose") and given("split"):
        raise click.UsageError("--split divides one treebank; with --choose all of --treebank is reported on")
    if options["out"] is not None and options["resume"] is not None:
        out, kept = (Path(options[name]).expanduser().resolve() for name in ("out", "resume"))
        if out == kept or out in kept.parents or kept in out.parents:
            raise click.UsageError(
                "--out and --resume need folders of their own, none inside the other: a page replaces its whole folder"
            )


def family_list(value: str | None) -> tuple[str, ...] | None:
    """Names parted by commas; a name that holds commas itself is recognized. ``list`` prints all and ends the command.

    Raises
    ------
    click.UsageError
        That says which names are the closest to a wrong one.
    click.exceptions.Exit
        After the names were printed.
    """
    if value is None:
        return None
    from infogeo_adapters.treebank.comparison import REFERENCE
    from infogeo_adapters.treebank.registry import DEFAULTS, family_names, unknown_family

    names = (DEFAULTS, *family_names())
    if value.strip() == LIST:
        click.echo("\n".join(names))
        raise click.exceptions.Exit(0)
    pieces, found = [piece.strip() for piece in value.split(",")], [REFERENCE]
    while pieces:
        size = next((n for n in range(len(pieces), 0, -1) if ", ".join(pieces[:n]) in names), 0)
        if not size:
            tries = [", ".join(pieces[:n]) for n in range(1, len(pieces) + 1)]
            raise click.UsageError(f"--families: {unknown_family(tries)}; '--families {LIST}' prints all {len(names)}")
        found.append(", ".join(pieces[:size]))
        del pieces[:size]
    if DEFAULTS in found:  # the reference is one of them
        found.remove(REFERENCE)
    return tuple(dict.fromkeys(found))


def compare_treebank(options: dict[str, Any], *, alpha: float, seed: int, as_json: bool, quiet: bool) -> bool:
    """Compare and print; whether an influence graph is above the best attention head."""
    from infogeo.errors import InfogeoError, OutputError
    from infogeo.estimates import EstimateWarning
    from infogeo_adapters.progress import progress_bar
    from infogeo_adapters.treebank.comparison import TO_CHOOSE, compare_with_treebank

    families = family_list(options["families"])
    if options["out"] is not None:
        _check_page(options["out"])
    kept = None if options["resume"] is None else Path(options["resume"]).expanduser()
    if kept is not None and kept.is_file():
        raise OutputError(f"--resume {options['resume']} is a file, wanted a folder; give another path")
    treebank = _read(options["treebank"])
    choose = None if options["choose"] is None else _read(options["choose"])
    say = teller(quiet)
    model = open_model(options, say)
    read = min(options["sentences"] or len(treebank.trees), len(treebank.trees))
    say(f"reading {plural(read, 'sentence')} with the model")
    try:
        with warnings.catch_warnings(), progress_bar("treebank", unit="sentences") as show:
            warnings.simplefilter("ignore", EstimateWarning)  # they are told below, as the result has them
            found = compare_with_treebank(
                model, treebank, choose=choose, split=options["split"], families=families,
                untrained=options["untrained"], sentences=options["sentences"], level=1 - alpha, rng=seed,
                folder=kept, progress=show,
            )
    except InfogeoError:
        _tell_skipped(treebank.skipped, f"{plural(len(treebank.trees), 'sentence')} left")  # it may be why
        if choose is not None:
            _tell_skipped(choose.skipped, f"{plural(len(choose.trees), 'sentence')} left", TO_CHOOSE)
        raise
    except KeyboardInterrupt:
        if kept is not None:
            _tell_kept(kept)
        raise
    if options["out"] is not None:
        _write_page(found, model, treebank, options["out"], say)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    _tell_what_is_missing(found)
    wins = above_reference(found, alpha)
    if not wins:
        some = any(family.kind == "influence" for family in found.families)
        say(f"no influence graph is above {found.reference} at level {alpha:g}" if some
            else "no influence graph was among the families, so none is above attention")
    return bool(wins)


def _tell_kept(folder: Path) -> None:
    """Whether an interrupted command left scores from which the next one goes on."""
    from infogeo_adapters.treebank._run import CHOOSE

    if any(any(place.glob("batch-*")) for place in (folder, folder / CHOOSE)):
        tell(f"what is done is kept in {folder}; the same command goes on from there")
    else:
        tell(f"no batch of sentences was done yet, so {folder} holds no scores")


def _check_page(out: str) -> None:
    """Refuse a folder that could not be written, before any work."""
    from infogeo_adapters._require import require
    from infogeo_adapters.report import check_output_folder

    check_output_folder(out)
    for package in ("plotly", "jinja2"):
        require(package, extra="plots", caller="infogeo compare --out")


def _write_page(
    found: ModelTreebankComparison, model: LanguageModel, treebank: Treebank, out: str, say: Callable[[str], None]
) -> None:
    from infogeo_adapters.treebank.examples import example_sentences
    from infogeo_adapters.treebank.page import write_treebank_page

    say("drawing example sentences")
    examples = example_sentences(found, model, treebank)
    page = write_treebank_page(found, out, examples=examples, left_out=lambda note: tell(rephrase(note)))
    say(f"wrote {page}")


def above_reference(found: ModelTreebankComparison, alpha: float) -> list[str]:
    """Influence families with a larger UUAS than the reference, with p <= alpha after Holm's correction."""
    names = [family.name for family in found.families if family.kind == "influence"]
    differences = [found.difference(name) for name in names if name != found.reference]
    return [d.family for d in differences if d.value > 0 and d.p_holm is not None and d.p_holm <= alpha]


def _read(name: str) -> Treebank:
    from infogeo_adapters.treebank.files import read_treebank, sample_treebank

    return sample_treebank() if name == SAMPLE else read_treebank(name)


def _print(found: ModelTreebankComparison) -> None:
    """One line for each family."""
    from infogeo_adapters.treebank._page_numbers import difference_of, estimate_of

    lines = [("family", "variant", "UUAS", "interval", "long", "diff", "interval", "p", "s")]
    for family in found.families:
        name = family.name
        score, far, d = found.estimate(name), estimate_of(found, name, "long"), difference_of(found, name)
        variants = " | ".join(dict.fromkeys(choice.variant for choice in found.chosen(name)))
        apart = ("", "", "")
        if d is not None:
            p = "" if d.p_holm is None else "<.001" if d.p_holm < 0.001 else f"{d.p_holm:.3f}"
            apart = (f"{d.value:+.3f}", interval_text(d.lower, d.upper, "+.3f"), p)
        seconds = found.seconds.get(name)
        lines.append((
            visible(name), visible(variants), f"{score.value:.3f}", interval_text(score.lower, score.upper, ".3f"),
            "" if far is None else f"{far.value:.3f}", *apart, "" if seconds is None else f"{seconds:.0f}",
        ))
    print_lines(lines)


def print_lines(lines: Sequence[Sequence[str]]) -> None:
    """A table no wider than a terminal: two columns of names, which are cut, and columns of numbers."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    left = WIDTH - sum(widths[2:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(left - min(widths[1], 12), 12))
    widths[1] = min(widths[1], max(left - widths[0], 7))
    for line in lines:
        names = (shorten(cell, w).ljust(w) for cell, w in zip(line[:2], widths[:2], strict=True))
        numbers = (cell.rjust(w) for cell, w in zip(line[2:], widths[2:], strict=True))
        click.echo("  ".join((*names, *numbers)).rstrip())


def interval_text(low: float | None, high: float | None, form: str) -> str:
    """Both ends in brackets, or nothing."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _tell_what_is_missing(found: ModelTreebankComparison) -> None:
    """Families and sentences that are in no number, the sentences with their count at the end.

    Before the sentences, what to think of the p-values where the choice of variants was not firm.
    """
    from infogeo_adapters.treebank._page_numbers import cross_caution
    from infogeo_adapters.treebank.comparison import TO_CHOOSE, skipped_apart

    for warning in found.warnings:
        tell(warning)
    for name, reason in found.left_out.items():
        tell(f"without {visible(name)}: {rephrase(visible(reason))}")
    for caution in cross_caution(found, below=FIRM):
        tell(caution)
    reported, others = skipped_apart(found.skipped)
    n = found.n_sentences
    if others:
        left = found.chosen(found.families[0].name)[0].n_sentences
        _tell_skipped(others, f"{plural(left, 'sentence')} left", TO_CHOOSE)
    _tell_skipped(reported, "1 sentence is reported on" if n == 1 else f"{n} sentences are reported on")


def _tell_skipped(skipped: Sequence[Any], left: str, among: str = "") -> None:
    """Sentences that were skipped with their reasons, what to do about them, and their count."""
    from infogeo_adapters.treebank._page_numbers import skip_reason

    for one in skipped[:NAMED]:
        why = rephrase(visible(skip_reason(one.reason.removeprefix(among))))
        tell(f"skipped {visible(one.name)} ({among}line {one.line}): {why}")
    if skipped:
        tell(f"to have them in the numbers: {_remedies(one.reason for one in skipped)}")
        more = f", {len(skipped) - NAMED} of them not named here (--json names all)" if len(skipped) > NAMED else ""
        tell(f"{among}{len(skipped)} skipped{more}; {left}")


def _remedies(reasons: Iterable[str]) -> str:
    """What to do about skipped sentences, in one line, for the kinds of reasons there are."""
    kinds = [next((remedy for part, remedy in REMEDIES.items() if part in reason), MEND) for reason in reasons]
    return "; ".join(remedy for remedy in (MEND, *REMEDIES.values()) if remedy in kinds)
