"""Distances between the words of models against human judgments of similarity, as in docs/word_similarity.md.

For each model two tables: each word read alone, and each word as its occurrences in a corpus. Paths are those of the
reader: pairs with scores (WordSim-353, say), and texts, of which files ending in ``.xz`` are unpacked ::

    python benchmarks/word_similarity.py PAIRS.txt --corpus FIRST.txt SECOND.txt --models minilm bundled
"""

from __future__ import annotations

import argparse
import lzma
import time
from collections.abc import Sequence
from pathlib import Path

from infogeo import SimilarityComparison
from infogeo_adapters import compare_with_similarity, load_model, progress_bar, read_word_pairs


def read_text(path: Path, characters: int | None) -> str:
    """The first characters of a text, unpacked."""
    with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        return file.read(-1 if characters is None else characters)


def table(found: SimilarityComparison) -> list[str]:
    """Lines of a table in Markdown."""
    lines = ["| distance | layers | Spearman | 95 % | minus cosine | 95 % |", "|---|---|---|---|---|---|"]
    for e in found.estimates:
        layers = ", ".join(dict.fromkeys(name.removeprefix("layer ") for name in e.chosen))
        low, high = e.interval
        away = ["", ""]
        if e.difference is not None and e.difference_interval is not None:
            below, above = e.difference_interval
            away = [f"{e.difference:+.3f}", f"{below:+.3f} to {above:+.3f}"]
        lines.append(f"| {e.measure} | {layers} | {e.spearman:.3f} | {low:.3f} to {high:.3f} | {away[0]} | {away[1]} |")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[])
    parser.add_argument("--characters", type=int, help="of each text, from its beginning; all by default")
    parser.add_argument("--models", nargs="+", default=["minilm", "bundled"])
    parser.add_argument("--min-count", type=int, default=4)
    parser.add_argument("--max-count", type=int, default=32)
    parser.add_argument("--directions", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--resamples", type=int, default=2000)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    given = parse(arguments)
    pairs = read_word_pairs(given.pairs)
    corpus = [read_text(path, given.characters) for path in given.corpus]
    for name in given.models:
        model = load_model(name)
        for how, texts in [("alone", None), ("in the corpus", corpus)][: 1 + bool(corpus)]:
            start = time.perf_counter()
            with progress_bar(f"{name}, {how}", unit="texts") as show:
                found = compare_with_similarity(
                    model, pairs, corpus=texts, directions=given.directions, min_count=given.min_count,
                    max_count=given.max_count, resamples=given.resamples, progress=show,
                )
            seconds = time.perf_counter() - start
            options = found.source.options
            print(
                f"\n{name}, words {how}: {len(found.pairs)} of {len(pairs)} pairs, {options['occurrences']:,} "
                f"occurrences in {options['texts']:,} texts; {len(found.missing)} words missing; {seconds:.0f} s\n"
            )
            print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
