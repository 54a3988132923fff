"""``infogeo compare --similarity``: distances between words of a model against human judgments of similarity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infogeo_adapters._cli_input import read_file, rephrase
from infogeo_adapters._cli_output import open_model, print_json, tell, teller
from infogeo_adapters._cli_treebank import interval_text, print_lines
from infogeo_adapters.plots.style import plural, visible

if TYPE_CHECKING:
    from infogeo.word_similarity import SimilarityComparison

Command = TypeVar("Command", bound=Callable[..., Any])
NAMED = 20
"""Words that are named on stderr."""


def similarity_option(command: Command) -> Command:
    """The option that names a file of word pairs."""
    return click.option(
        "--similarity", "-s", metavar="PAIRS.csv",
        help="Compare with human judgments in place of TEXT: a file with a word, a word and a score in each line. "
        "Words are read alone, or with --corpus FILE where they occur in a text.",
    )(command)


def compare_pairs(options: dict[str, Any], *, alpha: float, seed: int, as_json: bool, quiet: bool) -> None:
    """Compare, print a line for each measure, and write them to a file if one is named."""
    from infogeo_adapters.progress import progress_bar
    from infogeo_adapters.tables import check_table_file, write_table
    from infogeo_adapters.treebank.similarity import compare_with_similarity, read_word_pairs

    pairs = read_word_pairs(options["similarity"])
    corpus = None if options["corpus"] is None else read_file(options["corpus"])
    if options["out"] is not None:
        check_table_file(options["out"])
    say = teller(quiet)
    model = open_model(options, say)
    say(f"reading {plural(len(pairs.words()), 'word')} {'alone' if corpus is None else 'in the corpus'}")
    with progress_bar("similarity", unit="texts") as show:
        found = compare_with_similarity(model, pairs, corpus=corpus, level=1 - alpha, rng=seed, progress=show)
    if options["out"] is not None:
        say(f"wrote {write_table(found, options['out'])}")
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    _tell_what_is_missing(found)


def _print(found: SimilarityComparison) -> None:
    lines = [("measure", "layer", "spearman", "interval", "diff", "interval", "pairs")]
    for e in found.estimates:
        below, above = e.difference_interval or (None, None)
        layers = "/".join(dict.fromkeys(variant.removeprefix("layer ") for variant in e.chosen))
        lines.append((
            visible(e.measure), layers, f"{e.spearman:.3f}", interval_text(*e.interval, ".3f"),
            "" if e.difference is None else f"{e.difference:+.3f}",
            interval_text(below, above, "+.3f"), str(len(found.pairs)),
        ))
    print_lines(lines)


def _tell_what_is_missing(found: SimilarityComparison) -> None:
    """Measures without a number, and words that could not be read, with their count at the end."""
    for reason in found.undefined:
        tell(f"without {rephrase(visible(reason))}")
    for word, reason in list(found.missing.items())[:NAMED]:
        tell(f"left out {visible(word)!r}: {rephrase(visible(reason))}")
    if found.missing:
        more = len(found.missing) - NAMED
        unnamed = f", {more} of them not named here (--json names all)" if more > 0 else ""
        tell(
            f"{plural(len(found.missing), 'word')} left out{unnamed}, and with them "
            f"{len(found.left_out)} of {plural(len(found.left_out) + len(found.pairs), 'pair')}"
        )
