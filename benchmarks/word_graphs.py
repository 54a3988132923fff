"""All graphs and baselines against a treebank, as in docs/word_graphs.md.

Variants are chosen on the first half of the file and reported on the second ::

    python benchmarks/word_graphs.py --treebank FILE.conllu --model minilm --folder CACHE --out docs/tables

With ``--folder`` scores are kept, and a call that was cut off goes on; with ``--out`` the tables are written as
``word_graphs_MODEL.txt`` and ``word_graphs_MODEL_relations.txt``, else printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from infogeo import FamilyDifference, FamilyEstimate
from infogeo.errors import ArgumentError
from infogeo_adapters import ModelTreebankComparison, compare_with_treebank, load_model, progress_bar, read_treebank
from infogeo_adapters.treebank.registry import DEFAULTS, ON_REQUEST

COLUMNS = ("graph and choice", "UUAS", "minus best head", "p", "long", "minus best head", "DSpr", "punct.", "s")
RELATIONS = ("nsubj", "obj", "obl", "nmod", "advcl", "acl", "conj", "ccomp", "xcomp", "amod", "det", "case", "mark",
             "cc", "compound", "aux", "advmod")
"""Relations in the second table."""


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}"


def around(found: FamilyEstimate | FamilyDifference, *, signed: bool = False) -> str:
    """A share in percent, and its interval below it."""
    form = "+.1f" if signed else ".1f"
    value = f"{100 * found.value:{form}}"
    if found.lower is None or found.upper is None:
        return value
    return f"{value}<br>{100 * found.lower:{form}} to {100 * found.upper:{form}}"


def row(found: ModelTreebankComparison, name: str) -> Iterable[str]:
    """One family."""
    every, long = found.estimate(name), found.estimate(name, "long")
    away, p, away_long = "", "", ""
    if name != found.reference:
        difference = found.difference(name)
        away, away_long = around(difference, signed=True), around(found.difference(name, "long"), signed=True)
        p = "< .001" if difference.p_holm < 0.001 else f"{difference.p_holm:.3f}".removeprefix("0")
    seconds = found.seconds.get(name)
    variants = " / ".join(dict.fromkeys(choice.variant for choice in found.chosen(name)))
    return (
        f"**{name}**<br>{variants}", around(every), away, p, around(long), away_long,
        f"{found.estimate(name, quantity='dspr').value:.2f}", percent(found.estimate(name, punctuation=True).value),
        "" if seconds is None else f"{seconds:.0f}",
    )


def table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def relations(found: ModelTreebankComparison) -> list[str]:
    """Recall by distance and by relation, of the reference, the best influence graph and adjacent words."""
    best = found.best("influence")
    names = [name for name in (found.reference, "attention head, normalized", best, "adjacent words") if name]
    columns, rows = ("", "relations", *names), []
    for category in ("1", "2-3", "4-6", "7+", *RELATIONS):
        try:
            told = [found.estimate(name, category) for name in names]
        except ArgumentError:  # no such relation in this treebank
            continue
        rows.append((category, str(told[0].n), *(percent(one.value) for one in told)))
    return table(columns, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--treebank", type=Path, required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--folder", type=Path, help="where scores are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    parser.add_argument("--sentences", type=int)
    given = parser.parse_args(arguments)
    model = load_model(None if given.model == "bundled" else given.model)
    started = time.perf_counter()
    with progress_bar("sentences") as show:
        found = compare_with_treebank(
            model, read_treebank(given.treebank), split="half", sentences=given.sentences, folder=given.folder,
            families=[DEFAULTS, *ON_REQUEST], progress=show,
        )
    order = sorted(
        (f.name for f in found.families), key=lambda name: -found.estimate(name).value
    )
    lines = [
        f"{given.model}: {found.n_sentences} sentences of the second half, "
        f"{found.estimate('adjacent words').n} relations, {found.estimate('adjacent words', 'long').n} of "
        f"them long; {len(found.skipped)} sentences of the file skipped. Shared: "
        + ", ".join(f"{what} {seconds:.0f} s" for what, seconds in found.shared_seconds.items()) + ".",
        "", *table(COLUMNS, (row(found, name) for name in order)), "",
        *(f"Left out: {name} ({reason})." for name, reason in found.left_out.items()),
    ]
    files = {f"word_graphs_{given.model}.txt": lines, f"word_graphs_{given.model}_relations.txt": relations(found)}
    for name, content in files.items():
        if given.out is None:
            print("\n".join(content), end="\n\n")
        else:
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    print(found.summary())
    print(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
