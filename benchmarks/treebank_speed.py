"""What the comparison with a treebank costs besides the families: planning, scoring, keeping, tables, bootstrap.

Families that take no time (matrices made beforehand) with V variants in all are compared on S sentences with random
trees, read by the bundled model and kept in a folder. The captures of the model are timed by themselves and taken off.
Sentences are 3 to 24 words long, 13 in the mean, as in newspaper text and on the web. The seconds are those of the
processor, so that other work on the machine does not count; the wall clock is told beside them::

    python benchmarks/treebank_speed.py --sentences 2000 --variants 500

Exit status 1 if the rest takes more than 60 s for 2,000 sentences and 500 variants, or in proportion.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo import DependencyTree, Treebank
from infogeo._checks import FloatArray
from infogeo._trees import random_trees
from infogeo.results import Source
from infogeo_adapters import compare_with_treebank, load_model
from infogeo_adapters.treebank import runner
from infogeo_adapters.treebank.families import FamilyKind, SentenceReading

TARGET = 60.0 / (2000 * 500)
"""Seconds for each sentence and variant."""
WORDS = ("the", "dog", "cat", "man", "house", "saw", "ran", "had", "was", "old", "in", "by", "and", "but", "sun")


@dataclass
class Ready:
    """A family whose matrices are made beforehand, one for each length of a sentence."""

    name: str
    count: int
    kind: FamilyKind = "vectors"
    made: dict[int, FloatArray] = field(default_factory=dict, init=False)

    @property
    def variants(self) -> tuple[str, ...]:
        """Numbers."""
        return tuple(map(str, range(self.count)))

    def prepare(self, model: Any, texts: Sequence[str]) -> None:
        """Make the matrices."""
        rng = np.random.default_rng(0)
        for n in range(3, 25):
            values = rng.normal(size=(self.count, n, n))
            self.made[n] = values + values.swapaxes(1, 2)

    def closeness(self, model: Any, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """What was made."""
        return [self.made[len(r.tree)] for r in readings]


def random_treebank(count: int) -> Treebank:
    """Sentences with trees drawn at random."""
    rng = np.random.default_rng(0)
    trees = []
    for k in range(count):
        n = int(rng.integers(3, 25))
        neighbors: list[list[int]] = [[] for _ in range(n)]
        for i, j in random_trees(n, 1, rng)[0].tolist():
            neighbors[i].append(j)
            neighbors[j].append(i)
        heads, queue = {0: -1}, [0]
        for i in queue:
            for j in neighbors[i]:
                if j not in heads:
                    heads[j] = i
                    queue.append(j)
        words = rng.choice(WORDS, size=n).tolist()
        trees.append(DependencyTree.from_words(words, [heads[i] for i in range(n)], name=f"s{k}", line=k + 1))
    return Treebank(trees=tuple(trees), source=Source())


def measure(sentences: int, variants: int, families: int) -> dict[str, float]:
    """Seconds of the processor and of the wall clock, captures taken off."""
    bank, model = random_treebank(sentences), load_model()
    given = [Ready(f"family {k}", len(part)) for k, part in enumerate(np.array_split(np.arange(variants), families))]
    captured = [0.0, 0.0]
    capture = runner.capture_activations

    def timed(*args: Any, **options: Any) -> Any:
        start = time.process_time(), time.perf_counter()
        try:
            return capture(*args, **options)
        finally:
            captured[0] += time.process_time() - start[0]
            captured[1] += time.perf_counter() - start[1]

    runner.capture_activations = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time(), time.perf_counter()
            found = compare_with_treebank(model, bank, families=given, untrained=False, reference=None, folder=folder)
            processor, wall = time.process_time() - start[0], time.perf_counter() - start[1]
            start = time.process_time(), time.perf_counter()
            compare_with_treebank(model, bank, families=given, untrained=False, reference=None, folder=folder)
            again = time.process_time() - start[0]
    finally:
        runner.capture_activations = capture
    words = float(np.mean([len(tree) for tree in bank.trees]))
    return {
        "sentences": found.n_sentences, "variants": variants, "words": words, "captures": captured[0],
        "rest": processor - captured[0], "rest, wall clock": wall - captured[1],
        "scoring, wall clock": found.shared_seconds["scoring"], "called again": again,
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--variants", type=int, default=500)
    parser.add_argument("--families", type=int, default=20)
    args = parser.parse_args(argv)
    found = measure(args.sentences, args.variants, args.families)
    for name, value in found.items():
        print(f"{name:22} {value:10.1f}")
    limit = TARGET * args.sentences * args.variants
    print(f"{'limit of the rest':22} {limit:10.1f}")
    return int(found["rest"] > limit)


if __name__ == "__main__":
    raise SystemExit(main())
