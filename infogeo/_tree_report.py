"""The numbers of a comparison of families, from what the chosen variants find in the reported sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray
from infogeo._tree_choice import Part, found_with_best_offset
from infogeo._tree_families import ALL, BINS, LONG, FamilyVariants
from infogeo._tree_records import OFFSET, FamilyDifference, FamilyEstimate, Quantity
from infogeo._tree_statistics import (
    MeanByLength,
    Ratio,
    Resamples,
    Statistic,
    holm,
    mcnemar_p_value,
    sign_flip_p_value,
)
from infogeo._tree_table import ScoreTable

LEAST_FOR_INTERVAL = 5
"""A category in fewer sentences than this has no interval."""
Against = int | None


@dataclass(frozen=True, eq=False)
class _Question:
    """A statistic of the families, what it is called, and what else its records hold."""

    statistic: Statistic
    quantity: Quantity
    category: str
    punctuation: bool
    n: int
    unit: str
    """What ``n`` counts."""
    n_sentences: int
    """In how many sentences there is something of the category."""
    difference: bool = False
    """Whether the values are differences to the reference already."""
    tested: _Tested | None = None


@dataclass(frozen=True, eq=False)
class _Tested:
    """What the tests of a micro difference take."""

    hits: IntArray
    """(S, F) relations found in each sentence."""
    won: IntArray
    """(F,) relations that the family finds and the reference does not."""
    lost: IntArray
    """(F,) relations that the reference finds and the family does not."""


def report(
    parts: Sequence[Part], indices: Sequence[IntArray], decoder: str, *, reference: str | None, drawn: Resamples,
    level: float,
) -> tuple[list[FamilyEstimate], list[FamilyDifference]]:
    """Estimates of all families and differences to the reference, with the variants of these indices, for a decoder."""
    families = parts[0].reporting.families
    against = None if reference is None else [family.name for family in families].index(reference)
    table = ScoreTable.concatenate([part.reporting for part in parts])
    questions: list[_Question] = []
    for punctuation in (False, True):
        found = np.concatenate([
            part.reporting.found(chosen, decoder=decoder, punctuation=punctuation)
            for part, chosen in zip(parts, indices, strict=True)
        ])
        fixed = np.concatenate([found_with_best_offset(part, punctuation=punctuation) for part in parts])
        questions += _shares(table, found, fixed, punctuation, against)
    correlations = np.concatenate([p.reporting.correlations[:, i] for p, i in zip(parts, indices, strict=True)])
    questions += _correlation(correlations, table.n_words, against)
    ends = drawn.intervals(
        [q.statistic for q in questions], level, [None if q.tested is None else against for q in questions]
    )
    everyone = np.ones((len(table), 1))
    estimates: list[FamilyEstimate] = []
    differences: list[FamilyDifference] = []
    for question, interval in zip(questions, ends, strict=True):
        values = question.statistic.evaluate(everyone)[:, 0]
        if question.difference:
            differences += _differences(question, families, decoder, against, values, interval.values)
        else:
            estimates += _estimates(question, families, decoder, values, interval.values)
            if interval.differences is not None and against is not None:
                apart = values - values[against]
                differences += _differences(question, families, decoder, against, apart, interval.differences)
    return estimates, _corrected(differences)


def _shares(
    table: ScoreTable, found: NDArray[np.bool_], fixed: NDArray[np.bool_], punctuation: bool, against: Against
) -> list[_Question]:
    """UUAS of each category, and by sentence."""
    questions = []
    for category in table.categories:
        members = table.members(category, punctuation=punctuation)
        there = table.by_sentence(members[:, None])[:, 0]
        if not there.any():
            continue
        inside = found & members[:, None]
        hits = table.by_sentence(inside)
        tested = None
        if against is not None:
            theirs = inside[:, [against]]
            tested = _Tested(hits, (inside & ~theirs).sum(axis=0), (theirs & ~inside).sum(axis=0))
        shown = hits
        if category in table.relations:
            shown = np.concatenate([hits, table.by_sentence(fixed & members[:, None])], axis=1)
        sentences = int((there > 0).sum())
        questions.append(_Question(
            Ratio.of(shown, there), "uuas", category, punctuation, n=int(there.sum()), unit="relations",
            n_sentences=sentences, tested=tested,
        ))
        if category == ALL:
            by_sentence = np.divide(hits, there[:, None], out=np.zeros(hits.shape), where=there[:, None] > 0)
            counted = (there > 0).astype(np.float64)
            sides = [(by_sentence, False)]
            if against is not None:
                sides.append((by_sentence - by_sentence[:, [against]], True))
            questions += [
                _Question(
                    Ratio.of(values, counted), "uuas_by_sentence", ALL, punctuation, n=sentences, unit="sentences",
                    n_sentences=sentences, difference=difference,
                )
                for values, difference in sides
            ]
    return questions


def _correlation(correlations: FloatArray, n_words: IntArray, against: Against) -> list[_Question]:
    """DSpr, and its differences to the reference."""
    sides = [(correlations, False)]
    if against is not None:
        sides.append((correlations - correlations[:, [against]], True))
    found = [(MeanByLength.of(values, n_words), difference) for values, difference in sides]
    return [
        _Question(
            statistic, "dspr", ALL, True, n=statistic.n_sentences, unit="sentences", n_sentences=statistic.n_sentences,
            difference=difference,
        )
        for statistic, difference in found
    ]


def _ends(question: _Question, f: int, interval: FloatArray) -> tuple[float | None, float | None]:
    if question.n_sentences < LEAST_FOR_INTERVAL or not np.isfinite(interval[f]).all():
        return None, None
    lower, upper = interval[f].tolist()
    return lower, upper


def _estimates(
    question: _Question, families: Sequence[FamilyVariants], decoder: str, values: FloatArray, interval: FloatArray
) -> list[FamilyEstimate]:
    named = [(family.name, family.kind) for family in families]
    if len(values) > len(families):
        named.append((OFFSET, "baseline"))
    found = []
    for f, (name, kind) in enumerate(named):
        if np.isfinite(values[f]):
            lower, upper = _ends(question, f, interval)
            found.append(FamilyEstimate(
                family=name, kind=kind, decoder=decoder, quantity=question.quantity, category=question.category,
                punctuation=question.punctuation, value=float(values[f]), lower=lower, upper=upper,
                n=question.n, unit=question.unit, n_sentences=question.n_sentences,
            ))
    return found


def _differences(
    question: _Question, families: Sequence[FamilyVariants], decoder: str, against: Against, values: FloatArray,
    interval: FloatArray,
) -> list[FamilyDifference]:
    found = []
    for f, family in enumerate(families):
        if against is None or f == against or not np.isfinite(values[f]):
            continue
        lower, upper = _ends(question, f, interval)
        difference = FamilyDifference(
            family=family.name, kind=family.kind, reference=families[against].name, decoder=decoder,
            quantity=question.quantity, category=question.category, punctuation=question.punctuation,
            value=float(values[f]), lower=lower, upper=upper, n=question.n, unit=question.unit,
            n_sentences=question.n_sentences,
        )
        if (tested := question.tested) is not None:
            won, lost = int(tested.won[f]), int(tested.lost[f])
            difference = replace(
                difference, p_value=sign_flip_p_value(tested.hits[:, f] - tested.hits[:, against]), won=won, lost=lost,
                mcnemar_p_value=mcnemar_p_value(won, lost),
            )
        found.append(difference)
    return found


def _corrected(differences: Sequence[FamilyDifference]) -> list[FamilyDifference]:
    """The same with Holm's correction within each group of questions that are asked together."""
    groups: dict[tuple[bool, str], list[int]] = {}
    for i, difference in enumerate(differences):
        if difference.p_value is not None:
            what = difference.category
            group = what if what in (ALL, LONG) else "distances" if what in BINS else "relations"
            groups.setdefault((difference.punctuation, group), []).append(i)
    corrected = list(differences)
    for members in groups.values():
        adjusted = holm([p for i in members if (p := differences[i].p_value) is not None])
        for i, p_holm in zip(members, adjusted, strict=True):
            corrected[i] = replace(differences[i], p_holm=p_holm)
    return corrected
