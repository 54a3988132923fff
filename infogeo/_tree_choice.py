"""Which sentences choose for which, and the variants that they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray
from infogeo._tree_records import VariantChoice
from infogeo._tree_statistics import Resamples, shares_of_wins
from infogeo._tree_table import ScoreTable


@dataclass(frozen=True, eq=False)
class Part:
    """Sentences that are reported on, and those that choose the variants for them."""

    chosen_on: str
    reported_on: str
    choosing: ScoreTable
    reporting: ScoreTable


def parts_of(scores: ScoreTable, choose: ScoreTable | None, split: str, first: int | None) -> tuple[Part, ...]:
    """What chooses for what, in the order of the sentences that are reported on."""
    if choose is not None:
        return (Part("the sentences to choose on", "the sentences to report on", choose, scores),)
    one, two = scores.parts(first)
    on_two = Part("first half", "second half", one, two)
    return (on_two,) if split == "half" else (Part("second half", "first half", two, one), on_two)


def choose_variants(
    parts: Sequence[Part], decoder: str, resamples: Sequence[Resamples]
) -> tuple[list[VariantChoice], list[IntArray]]:
    """The choices, and for each part the index (F,) of each family's variant among all."""
    choices, indices = [], []
    for part, drawn in zip(parts, resamples, strict=True):
        table = part.choosing
        counts = table.counts(decoder=decoder, memory=drawn.memory)
        hits, n_edges = counts.sum(axis=0), int(table.totals().sum())
        wins = shares_of_wins(counts, table.slices, drawn)
        chosen = [variants.start + int(hits[variants].argmax()) for variants in table.slices]
        for family, variants, best, shares in zip(table.families, table.slices, chosen, wins, strict=True):
            order = np.lexsort((np.arange(len(shares)), -shares))
            choices.append(VariantChoice(
                family=family.name, kind=family.kind, decoder=decoder, chosen_on=part.chosen_on,
                reported_on=part.reported_on, variant=family.variants[best - variants.start],
                score=float(hits[best]) / n_edges, stability=float(shares[best - variants.start]),
                winners=tuple((family.variants[i], float(shares[i])) for i in order.tolist() if shares[i] > 0),
                n_variants=len(family.variants), n_sentences=len(table), n_edges=n_edges,
            ))
        indices.append(np.array(chosen, dtype=np.int64))
    return choices, indices


def found_with_best_offset(part: Part, *, punctuation: bool) -> NDArray[np.bool_]:
    """(E, 1) which reported relations have the offset that is the most frequent of theirs on the choosing part.

    Of equally frequent offsets the shortest, and of two of one length the one to the left. A relation that the
    choosing part does not have is never right.
    """
    table, other = part.choosing, part.reporting
    inside, reported = (t.members("all", punctuation=punctuation) for t in (table, other))
    found = np.zeros((len(reported), 1), dtype=np.bool_)
    for place, relation in enumerate(other.relations):
        if relation in table.relations:
            members = inside & (table.edge_relations == table.relations.index(relation))
            offsets, counts = np.unique(table.edge_offsets[members], return_counts=True)
            if len(offsets):
                best = offsets[np.lexsort((offsets, np.abs(offsets), -counts))[0]]
                found[:, 0] |= reported & (other.edge_relations == place) & (other.edge_offsets == best)
    return found
