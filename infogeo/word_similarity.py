"""Distances between word types against human judgments of similarity: rank correlations, chosen and reported apart.

Whether a distance between words means something can be asked of people: of many pairs of words they have said how
similar the two are. A distance agrees with them if it ranks the pairs as they do, which Spearman's coefficient of the
*negative* distance with the judgments measures. A distance has variants (the layers of a model); the one to report is
chosen on one half of the pairs and reported on the other, both ways, so that choosing gains nothing by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo import _resampling as kernels
from infogeo._checks import FloatArray, IntArray, as_float_array, check_count, check_shape, random_generator, sealed
from infogeo._pairs import Rng
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Result, Source

FEWEST_PAIRS = 8
"""Fewest pairs of words that are compared: four in each half."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WordPairs(Result):
    """Pairs of words with a human judgment of how similar the two are.

    Raises
    ------
    ShapeError
        If there are no pairs, or not one second word and one score for each first word.
    DomainError
        If a word is empty, or a score is not finite.

    Examples
    --------
    >>> pairs = WordPairs(first=("tiger", "tiger"), second=("cat", "car"), scores=[7.35, 1.0], source=Source())
    >>> pairs.words()
    ('tiger', 'cat', 'car')
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: FloatArray
    """(P,) larger for words that are more similar."""
    source: Source

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            for k, word in enumerate(getattr(self, name)):
                if not isinstance(word, str) or not word.strip():
                    raise DomainError(f"{name}: entry {k} is {word!r}, wanted a word")
        scores = as_float_array("scores", self.scores)
        check_shape("scores", scores, (len(self.first),))
        if not len(scores) or len(self.second) != len(self.first):
            raise ShapeError(
                f"found {len(self.first)} first and {len(self.second)} second words, wanted as many, and at least one"
            )
        object.__setattr__(self, "scores", sealed(scores))

    def __len__(self) -> int:
        return len(self.first)

    def words(self) -> tuple[str, ...]:
        """All words, each once, in order of first appearance."""
        return tuple(dict.fromkeys(word for pair in zip(self.first, self.second, strict=True) for word in pair))

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return ("word1", "word2", "score"), list(zip(self.first, self.second, self.scores.tolist(), strict=True))

    def summary(self) -> str:
        return f"WordPairs: {len(self)} pairs of {len(self.words())} words"


@dataclass(frozen=True, kw_only=True)
class SimilarityEstimate:
    """How well one measure agrees with the judgments, and how much better than the reference."""

    measure: str
    chosen: tuple[str, str]
    """The variant chosen on the first half of the pairs (and reported on the second), and that chosen on the second."""
    spearman: float
    """Mean of the two reported coefficients, weighted by their numbers of pairs."""
    interval: tuple[float, float]
    """Bootstrap interval over pairs, the choice of variants held fixed."""
    on_halves: tuple[float, float]
    """The coefficients reported on the second and on the first half."""
    difference: float | None = None
    """To the reference, on the same pairs; None for the reference itself."""
    difference_interval: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SimilarityComparison(Result):
    """Several measures of distance between words against human judgments, all on the same pairs."""

    estimates: tuple[SimilarityEstimate, ...]
    pairs: WordPairs
    """The pairs that were compared."""
    by_variant: FloatArray
    """(M, V) coefficient of each measure in each variant on all pairs, for a look; NaN where there is none. The largest
    of a row is too good, since it was chosen on the pairs it is reported on."""
    variants: tuple[str, ...]
    reference: str
    level: float
    resamples: int
    left_out: tuple[tuple[str, str, str], ...] = ()
    """Pairs that were given and not compared, each with the reason."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Words that could not be read, each with the reason."""
    undefined: tuple[str, ...] = ()
    """Measures, or variants of them, that have no value, each with its reason."""
    source: Source

    def estimate(self, measure: str) -> SimilarityEstimate:
        """The estimate of one measure.

        Raises
        ------
        ArgumentError
            If there is no such measure.
        """
        for found in self.estimates:
            if found.measure == measure:
                return found
        names = ", ".join(repr(e.measure) for e in self.estimates)
        raise ArgumentError(f"measure: found {measure!r}, wanted one of {names}")

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = (
            "measure", "chosen_on_first", "chosen_on_second", "spearman", "low", "high", "difference",
            "difference_low", "difference_high", "pairs",
        )
        table = []
        for e in self.estimates:
            below, above = e.difference_interval or (None, None)
            table.append(
                (e.measure, *e.chosen, e.spearman, *e.interval, e.difference, below, above, len(self.pairs))
            )
        return columns, table

    def summary(self) -> str:
        best = max(self.estimates, key=lambda e: e.spearman)
        given = len(self.pairs) + len(self.left_out)
        return (
            f"SimilarityComparison of {len(self.estimates)} measures on {len(self.pairs)} of {given} pairs: "
            f"{best.measure} {best.spearman:.3f}, {self.reference} {self.estimate(self.reference).spearman:.3f}"
        )


def compare_similarities(
    pairs: WordPairs,
    distances: Mapping[str, FloatArray],
    *,
    variants: Sequence[str],
    reference: str = "cosine",
    level: float = 0.95,
    resamples: int = 2000,
    rng: Rng = 0,
) -> SimilarityComparison:
    r"""Rank correlation of distances with judgments: variants chosen on one half of the pairs, reported on the other.

    The pairs are cut at random into halves A and B. Of each measure the variant with the largest Spearman coefficient
    on A is reported on B, and the other way round; the estimate is :math:`(n_B \rho_B + n_A \rho_A) / (n_A + n_B)`.
    Intervals come from resampling pairs with replacement within each half, percentile bootstrap [1]_ with the chosen
    variants held fixed, the same resamples for all measures. Pairs share words, so that they are not independent, and
    the intervals are somewhat too narrow; a pair that is given twice can stand in both halves.

    Parameters
    ----------
    pairs : WordPairs
        P pairs, at least 8.
    distances : mapping of str to array, shape (V, P)
        For each measure the distance of each pair in each of its V variants; NaN for all pairs where a variant has
        none.
    variants : sequence of str
        The V names.
    reference : str
        The measure that the others are compared with.
    level : float
        Coverage of the intervals, between 0 and 1.
    resamples : int
    rng : numpy Generator, seed or None
        For the halves and the resamples.

    Returns
    -------
    SimilarityComparison
        Measures that have no coefficient (the same distance for all pairs of a half) are left out and listed in
        ``undefined``.

    Raises
    ------
    ArgumentError
        If there is no such reference, or an option is out of range.
    ShapeError
        If an array is not (V, P).
    DomainError
        If there are fewer than 8 pairs, a distance is infinite or NaN for some pairs only, the judgments of a half are
        all the same, or the reference has no value.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Examples
    --------
    >>> words = tuple("abcdefgh")
    >>> pairs = WordPairs(first=words, second=words[::-1], scores=np.arange(8.0), source=Source())
    >>> found = compare_similarities(
    ...     pairs, {"cosine": [[7., 6., 5., 4., 3., 2., 1., 0.]], "other": [[0., 1., 2., 3., 4., 5., 6., 7.]]},
    ...     variants=("layer 1",), resamples=100)
    >>> [(e.measure, e.spearman, e.difference) for e in found.estimates]
    [('cosine', 1.0, None), ('other', -1.0, -2.0)]
    """
    variants, tables = _checked(pairs, distances, variants, reference)
    resamples = check_count("resamples", resamples, 1)
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ArgumentError(f"level: found {level!r}, wanted a coverage between 0 and 1")
    generator = random_generator(rng)
    order = generator.permutation(len(pairs))
    halves = np.sort(order[: len(pairs) // 2]), np.sort(order[len(pairs) // 2 :])
    for half in halves:
        if np.ptp(pairs.scores[half]) == 0:
            raise DomainError(f"pairs: all {len(half)} judgments of a half are the same; give more pairs")
    by_variant = np.stack([_spearman(table, pairs.scores) for table in tables.values()])
    on_halves = {name: [_spearman(table[:, h], pairs.scores[h]) for h in halves] for name, table in tables.items()}
    chosen, undefined = _choose(on_halves, variants)
    if reference not in chosen:
        raise DomainError(f"reference: {reference!r} has no coefficient: {'; '.join(undefined)}")
    estimates = _estimates(pairs, tables, chosen, halves, on_halves, variants, reference, level, resamples, generator)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    source = replace(pairs.source.with_options(resamples=resamples, level=float(level)), seed=seed)
    return SimilarityComparison(
        estimates=estimates, pairs=pairs, by_variant=sealed(by_variant[[n in chosen for n in tables]]),
        variants=variants, reference=reference, level=float(level), resamples=resamples, undefined=undefined,
        source=source,
    )


def _checked(
    pairs: WordPairs, distances: Mapping[str, FloatArray], variants: Sequence[str], reference: str
) -> tuple[tuple[str, ...], dict[str, FloatArray]]:
    if not isinstance(pairs, WordPairs):
        raise ArgumentError(f"pairs: found {type(pairs).__name__}, wanted WordPairs, such as read_word_pairs gives")
    if isinstance(variants, str) or not len(variants):
        raise ArgumentError(f"variants: found {variants!r}, wanted a name for each variant")
    if len(pairs) < FEWEST_PAIRS:
        raise DomainError(
            f"pairs: found {len(pairs)}, wanted at least {FEWEST_PAIRS}, to choose on one half and report on the other"
        )
    if reference not in distances:
        raise ArgumentError(f"reference: found {reference!r}, wanted one of {', '.join(map(repr, distances))}")
    tables = {}
    for name, values in distances.items():
        table = as_float_array(name, values, finite=False)
        check_shape(name, table, (len(variants), len(pairs)))
        absent: NDArray[np.bool_] = np.asarray(np.isnan(table).all(axis=1))
        if not np.isfinite(table[~absent]).all():
            row, pair = (int(i) for i in np.argwhere(~np.isfinite(table) & ~absent[:, None])[0])
            raise DomainError(
                f"{name}: the distance of {pairs.first[pair]!r} and {pairs.second[pair]!r} in {variants[row]} is "
                f"{table[row, pair]}; leave such pairs out for all measures"
            )
        tables[name] = table
    return tuple(variants), tables


def _spearman(distances: FloatArray, scores: FloatArray) -> FloatArray:
    """Spearman's coefficient (..., ) of minus each row of distances (..., P) with scores that broadcast against it."""
    known = ~np.isnan(distances).any(axis=-1, keepdims=True)
    a = kernels.unit_rows(kernels.centered_ranks(np.where(known, -distances, 0.0)))
    b = kernels.unit_rows(kernels.centered_ranks(scores))
    return np.asarray((a * b).sum(axis=-1))


def _choose(
    on_halves: Mapping[str, Sequence[FloatArray]], variants: tuple[str, ...]
) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """Index of the best variant on each half; and the measures, and variants, for which there is none."""
    chosen: dict[str, tuple[int, int]] = {}
    undefined = []
    for name, (first, second) in on_halves.items():
        usable = np.isfinite(first) & np.isfinite(second)
        if not usable.any():
            undefined.append(f"{name}: no distance, or the same for all pairs of a half, in every variant")
            continue
        undefined += [
            f"{name}, {variants[v]}: no distance, or the same for all pairs of a half" for v in np.flatnonzero(~usable)
        ]
        best = [int(np.argmax(np.where(usable, half, -np.inf))) for half in (first, second)]
        chosen[name] = (best[0], best[1])
    return chosen, tuple(undefined)


def _estimates(
    pairs: WordPairs, tables: Mapping[str, FloatArray], chosen: Mapping[str, tuple[int, int]],
    halves: tuple[IntArray, IntArray], on_halves: Mapping[str, Sequence[FloatArray]], variants: tuple[str, ...],
    reference: str, level: float, resamples: int, generator: np.random.Generator,
) -> tuple[SimilarityEstimate, ...]:
    names = list(chosen)
    weights = np.array([len(halves[1]), len(halves[0])]) / len(pairs)  # of what is reported on the second, on the first
    reported = np.array([[on_halves[n][1][chosen[n][0]], on_halves[n][0][chosen[n][1]]] for n in names])
    drawn = np.zeros((len(names), resamples))
    for which, half in enumerate((halves[1], halves[0])):
        values = np.stack([tables[n][chosen[n][which], half] for n in names])
        drawn += weights[which] * _resampled(values, pairs.scores[half], resamples, generator)
    tails = [(1 - level) / 2, (1 + level) / 2]
    base = names.index(reference)

    def interval(values: FloatArray) -> tuple[float, float]:
        low, high = np.nanquantile(values, tails).tolist()
        return low, high

    return tuple(
        SimilarityEstimate(
            measure=name, chosen=(variants[chosen[name][0]], variants[chosen[name][1]]),
            spearman=float(weights @ reported[m]), interval=interval(drawn[m]),
            on_halves=(float(reported[m, 0]), float(reported[m, 1])),
            difference=None if m == base else float(weights @ (reported[m] - reported[base])),
            difference_interval=None if m == base else interval(drawn[m] - drawn[base]),
        )
        for m, name in enumerate(names)
    )


def _resampled(
    values: FloatArray, scores: FloatArray, resamples: int, generator: np.random.Generator, *, memory: float = 64e6
) -> FloatArray:
    """Coefficients (M, resamples) of rows of distances (M, P) on pairs drawn with replacement.

    NaN where a draw has one value only; such draws are no part of an interval.
    """
    m, p = values.shape
    drawn = np.empty((m, resamples))
    step = max(1, int(memory // (48 * m * p)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picks = generator.integers(p, size=(size, p))
        drawn[:, start : start + size] = _spearman(values[:, picks], scores[picks])
    return drawn
