"""Scores of families layer by layer, where the variants of a family are layers."""

from __future__ import annotations

import re

from infogeo_adapters.plots.treebank import KINDS, Score
from infogeo_adapters.treebank.comparison import ModelTreebankComparison

Line = list[tuple[float, Score]]
LAYER = re.compile(r"(?:layer|block) (\d+)(?:, (?!head)(.+))?")
"""A variant that is a layer or a block, and how else it is made; a head is no layer."""
MOST_OF_A_KIND = 3


def layer_lines(found: ModelTreebankComparison) -> list[Line]:
    """For each family whose variants are layers its UUAS at each, on all sentences of the table of scores."""
    totals = int(found.scores.totals().sum())
    if not totals:
        return []
    hits = found.scores.counts().sum(axis=0)
    lines: dict[str, Line] = {}
    kinds: dict[str, list[str]] = {}
    for family, part in zip(found.scores.families, found.scores.slices, strict=True):
        chosen = next((m for c in found.chosen(family.name) if (m := LAYER.fullmatch(c.variant))), None)
        if chosen is None:
            continue
        way = chosen[2]
        name = family.name if way is None else f"{family.name} ({way})"
        line: Line = []
        for variant, n in zip(family.variants, hits[part].tolist(), strict=True):
            match = LAYER.fullmatch(variant)
            if match is not None and match[2] == way:
                score = Score(name=name, kind=family.kind, value=n / totals, note=variant)
                line.append((float(match[1]), score))
        if len(line) > 1:
            lines[family.name] = line
            kinds.setdefault(family.kind, []).append(family.name)
    return [lines[name] for kind in KINDS for name in _best(found, kinds.get(kind, []))]


def level_line(found: ModelTreebankComparison, name: str) -> Score | None:
    """UUAS of a family of one variant on the sentences of the lines; None if there is no such family."""
    for family, part in zip(found.scores.families, found.scores.slices, strict=True):
        if family.name == name and len(family.variants) == 1:
            hits, total = int(found.scores.counts()[:, part].sum()), int(found.scores.totals().sum())
            return Score(name=name, kind=family.kind, value=hits / total if total else None)
    return None


def _best(found: ModelTreebankComparison, names: list[str]) -> list[str]:
    """The few that were best where their variants were chosen."""
    def score(name: str) -> float:
        return sum(c.score * c.n_edges for c in found.chosen(name))

    return sorted(names, key=lambda name: -score(name))[:MOST_OF_A_KIND]
