"""What was tried for the influence graph, side by side, as in docs/influence_log.md.

Only the first half of the treebank is read: variants are chosen on one half of that and reported on the other, and the
other way round, so that nothing here has seen the sentences of docs/word_graphs.md ::

    python benchmarks/influence_log.py --treebank FILE.conllu --model minilm --sentences 400

With ``--folder`` what was measured is kept, and a call that was cut off goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ModelError
from infogeo.evidence import relation_evidence, standardized_influence
from infogeo_adapters import compare_with_treebank, load_model, progress_bar, read_treebank
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence_meter import default_edges
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._variants import JOINT_EXPONENTS, edge_names, layer_sets, set_name
from infogeo_adapters.treebank.families import FamilyKind, SentenceReading
from infogeo_adapters.treebank.influence import RelativeInfluence, WordInfluence
from infogeo_adapters.treebank.measured import measurements
from infogeo_adapters.treebank.registry import FAMILIES, AnyFamily

NAMED = (
    "adjacent words", "attention head", "attention head, normalized", "influence, word hidden",
    "influence, layer by entropy", "influence relative to distance", "influence, edge cut",
    "influence, word and edge, without choice", "influence with attention",
)
"""Families of the harness that are part of the story."""


@dataclass(eq=False)
class HiddenFromOn:
    """The defaults of the influence graph, but for words hidden from some block on only, by layers and prior."""

    model: LanguageModel
    first: int
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        depth = find_stack(self.model.model).depth
        self._sets = tuple(s for s in layer_sets(depth) if s[0] >= max(self.first, depth // 2))
        self.name = f"influence, word and edge, hidden from block {self.first} on"
        self.variants = tuple(f"{set_name(s)}, prior {e}" for s in self._sets for e in JOINT_EXPONENTS)
        self.revision = 1

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariances and what is usual at each distance, from the packaged text."""
        depth = find_stack(model.model).depth
        self._words = measurements(model, words=True, blocks=tuple(range(self.first, depth + 1)))
        self._edges = measurements(model, words=False)
        names = list(edge_names(model))
        self._cut = [names.index(f"block {b}") for b in default_edges(attending_blocks(model), depth)]
        self._profiles = self._words.meter.profile(), self._edges.meter.profile()

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layer sets x exponents, n, n)."""
        found = []
        for values, cut in zip(self._words.of(readings), self._edges.of(readings), strict=True):
            z = standardized_influence(values, self._profiles[0])
            edges = standardized_influence(cut, self._profiles[1])[self._cut]
            found.append(np.stack([
                relation_evidence(np.concatenate([z[[la - self.first for la in s]], edges]), prior_exponent=e)
                for s in self._sets for e in JOINT_EXPONENTS
            ]))
        return found


def tried(model: LanguageModel) -> list[AnyFamily]:
    """All that was tried and that the model can do."""
    depth = find_stack(model.model).depth
    half, third = depth // 2, depth // 3
    kinds: list[Any] = [FAMILIES[name] for name in NAMED]
    kinds += [
        lambda m, options=options: WordInfluence(m, **options)
        for options in (
            {"manifold": "all normals"}, {"distribution": "states"}, {"removal": "mask"}, {"removal": "delete"},
            {"removal": "mean"}, {"blocks": tuple(range(1, half + 1))}, {"blocks": tuple(range(half + 1, depth + 1))},
            {"blocks": tuple(range(third + 1, depth + 1))},
        )
    ]
    kinds += [lambda m, removal=removal: RelativeInfluence(m, removal=removal) for removal in ("mask", "delete")]
    kinds += [
        lambda m, first=first: RelativeInfluence(m, blocks=tuple(range(first, depth + 1)))
        for first in range(2, depth - 1)
    ]
    kinds += [lambda m: HiddenFromOn(m, depth // 3 + 1)]
    found: list[AnyFamily] = []
    for make in kinds:
        try:
            found.append(make(model))
        except ModelError as error:
            print(f"left out: {error}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--treebank", type=Path, required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where what was measured is kept")
    parser.add_argument("--resamples", type=int, default=2000)
    given = parser.parse_args(arguments)
    model = load_model(None if given.model == "bundled" else given.model)
    first, _ = read_treebank(given.treebank).halves()
    with progress_bar("sentences") as show:
        found = compare_with_treebank(
            model, first, families=tried(model), untrained=False, sentences=given.sentences,
            decoder=("spanning", "projective"), resamples=given.resamples, folder=given.folder, progress=show,
        )
    print(f"{found.n_sentences} sentences of the first half, cross-fitted ({model.name})\n")
    print("| graph | chosen | UUAS | minus best head | 95 % | long | projective | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for family in found.families:
        name = family.name
        variants = " / ".join(dict.fromkeys(choice.variant for choice in found.chosen(name)))
        uuas, long = found.estimate(name).value, found.estimate(name, "long").value
        projective = found.estimate(name, decoder="projective").value
        away = ["", ""]
        if name != found.reference:
            difference = found.difference(name)
            away = [f"{100 * difference.value:+.1f}", ""]
            if difference.lower is not None and difference.upper is not None:
                away[1] = f"{100 * difference.lower:+.1f} to {100 * difference.upper:+.1f}"
        seconds = found.seconds.get(name)
        print(
            f"| {name} | {variants} | {100 * uuas:.1f} | {away[0]} | {away[1]} | {100 * long:.1f} | "
            f"{100 * projective:.1f} | {'' if seconds is None else f'{seconds:.0f}'} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
