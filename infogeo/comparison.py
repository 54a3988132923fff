"""Compare the distances between words with many affinities: per layer and head, and over sentences.

The coefficients themselves, and what holds for all of them, are in :mod:`infogeo.coefficients`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from infogeo import _resampling as kernels
from infogeo._checks import FloatArray, random_generator
from infogeo._pairs import (
    ONLY_ORDER,
    Rng,
    as_square,
    check_count,
    check_enough_words,
    check_same_words,
    joint_source,
    kendall_tau,
    label,
    permutation_options,
    symmetrized,
)
from infogeo.activations import AffinityMatrix
from infogeo.coefficients import Comparison, Comparisons
from infogeo.errors import ArgumentError
from infogeo.graphs import WordGraph, minimum_spanning_tree, top_edges
from infogeo.words import DistanceMatrix

STATISTICS = ("spearman", "kendall", "partial_spearman", "word_order", "edge_jaccard", "spanning_tree_overlap")
TESTED = {"mantel": "spearman", "partial_mantel": "partial_spearman"}
"""The permutation tests of correlations, and the coefficient that each tests."""
WORD_ORDER = "closeness in the text"


def compare_graphs(
    distance: DistanceMatrix,
    affinities: Sequence[AffinityMatrix] | AffinityMatrix,
    *,
    edges: int | None = None,
    permutations: int = 999,
    rng: Rng = 0,
) -> Comparisons:
    """Compare the distances between the words of a text with several affinities, such as all heads of all layers.

    Each affinity, in the order given, has eight rows: ``spearman``, ``kendall``, ``partial_spearman`` (given word
    order, see :func:`partial_mantel_test`), ``word_order`` (Spearman's coefficient of the affinity with closeness in
    the text, :math:`-|i - j|`, as a reference), ``mantel`` and ``partial_mantel`` (the coefficients of these tests
    again, with their p-values), ``edge_jaccard`` (of the closest pairs, at equal edge count) and
    ``spanning_tree_overlap``. The last four have one-sided p-values against shuffled words; all affinities and
    statistics see the same permutations. The p-values are not corrected for the number of affinities.

    Neighbors in a text are mostly close in distance and joined by attention, so that word order alone makes all but
    ``partial_spearman`` and ``partial_mantel`` positive. Word types have no order, and no rows about it.

    Parameters
    ----------
    distance : DistanceMatrix
        n >= 3 words.
    affinities : sequence of AffinityMatrix
        Of the same words; a single one may be given without a list around it.
    edges : int, optional
        Number of closest pairs that ``edge_jaccard`` compares; n - 1 if not given. An affinity with fewer positive
        pairs is compared at its own number, on both sides; the row's ``n`` tells it.
    permutations : int
        As in :func:`mantel_test`; 0 leaves the p-values and the rows of both Mantel tests out.
    rng : numpy Generator, seed or None

    Returns
    -------
    Comparisons
        What is undefined (a coefficient where one side is the same for all pairs, edges where no affinity is
        positive) is no row, and is listed in ``undefined``.

    Raises
    ------
    ArgumentError
        If there is no affinity, or its words differ, or an option is out of range; if the sides are swapped, or are
        something else than matrices.
    DomainError
        If there are fewer than three words.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> x = np.array([0., 1., 3., 7.])
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=tuple("abcd"), measure="euclidean_distance",
    ...                    symmetric=True, metric=True, source=Source())
    >>> head = AffinityMatrix(values=np.exp(-d.values), words=d.words, name="head 1", directed=False, source=Source())
    >>> for c in compare_graphs(d, [head]):
    ...     print(c.statistic, round(c.value, 6), None if c.p_value is None else round(c.p_value, 3))
    spearman 1.0 None
    kendall 1.0 None
    partial_spearman 1.0 None
    word_order 0.771517 None
    mantel 1.0 0.042
    partial_mantel 1.0 0.042
    edge_jaccard 1.0 0.25
    spanning_tree_overlap 1.0 0.083
    """
    distance, affinities = _sides(distance, affinities)
    permutations = check_count("permutations", permutations, 0)
    found = _agreement(distance, affinities, edges)
    p_values = found.p_values(permutations, random_generator(rng)) if permutations else {}
    n = len(distance.words)
    options = permutation_options(n, permutations, "greater") if permutations else {}
    source = joint_source(distance, affinities[0], rng=rng if permutations else None, **options)
    pairs = found.n_pairs
    sizes = {"edge_jaccard": found.edges.tolist(), "spanning_tree_overlap": [n - 1] * len(affinities)}
    items = []
    for h, affinity in enumerate(affinities):
        for statistic, values in found.values(with_mantel=bool(permutations)):
            if np.isfinite(values[h]):
                p_value = float(p_values[statistic][h]) if statistic in p_values else None
                items.append(Comparison(
                    statistic=statistic, value=float(values[h]), p_value=p_value, left=_left(statistic, distance),
                    n=sizes[statistic][h] if statistic in sizes else pairs,
                    unit="edges" if statistic in sizes else "word pairs", reference=label(affinity),
                    layer=affinity.layer, head=affinity.head, source=source,
                ))
    return Comparisons(tuple(items), undefined=found.undefined)


def compare_over_sentences(
    sentences: Sequence[tuple[DistanceMatrix, Sequence[AffinityMatrix]]],
    *,
    edges: int | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    rng: Rng = 0,
) -> Comparisons:
    """Agreement of distances with affinities, averaged over sentences, with bootstrap intervals.

    For each affinity the mean over sentences of ``spearman``, ``kendall``, ``partial_spearman``, ``word_order``,
    ``edge_jaccard`` and ``spanning_tree_overlap``, as in :func:`compare_graphs`, each sentence counting the same, and a
    percentile interval from resampling whole sentences with replacement. What is defined in the same sentences sees
    the same resamples. Percentile intervals of few sentences (below about 20) are too narrow.

    Parameters
    ----------
    sentences : sequence of (DistanceMatrix, sequence of AffinityMatrix)
        At least two; the same measure and the same affinities in the same order for every sentence.
    edges : int, optional
        As in :func:`compare_graphs`, for every sentence n - 1 if not given. A sentence with no more pairs of words
        than that has no ``edge_jaccard``: with every pair an edge it would be 1 whatever the distances are.
    resamples : int
    level : float
        Coverage of the intervals, between 0 and 1.
    rng : numpy Generator, seed or None

    Returns
    -------
    Comparisons
        ``n`` the number of sentences behind a mean. Sentences of fewer than three words, and values that are
        undefined in a sentence, are left out of the means and listed in ``undefined``; a mean with fewer than two
        sentences is left out.

    Raises
    ------
    ArgumentError
        If there are fewer than two sentences, if they are not alike, or an option is out of range.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> def sentence(*x):
    ...     values, words = np.abs(np.subtract.outer(x, x)), tuple(map(str, x))
    ...     d = DistanceMatrix(values=values, words=words, measure="euclidean_distance", symmetric=True, metric=True,
    ...                        source=Source())
    ...     kernel = AffinityMatrix(values=np.exp(-values), words=words, name="kernel", directed=False, source=Source())
    ...     return d, [kernel]
    >>> table = compare_over_sentences([sentence(0., 1., 3.), sentence(0., 4., 5., 9.)])
    >>> [(c.statistic, c.value, c.interval, c.n) for c in table][0]
    ('spearman', 1.0, (1.0, 1.0), 2)
    """
    resamples = check_count("resamples", resamples, 1)
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ArgumentError(f"level: found {level!r}, wanted a coverage between 0 and 1")
    edges = None if edges is None else check_count("edges", edges, 1)
    sentences = _sentences(sentences)
    if len(sentences) < 2:
        raise ArgumentError(f"found {len(sentences)} sentences, wanted at least two; compare_graphs takes one")
    _check_alike(sentences)
    undefined: list[str] = []
    rows = []
    for position, (distance, affinities) in enumerate(sentences):
        if len(distance.words) < 3:
            for affinity in affinities:
                check_same_words(distance, affinity)
            undefined.append(f"sentence {position}: {len(distance.words)} words, wanted at least three")
            rows.append(np.full((len(STATISTICS), len(affinities)), np.nan))
            continue
        pairs = len(distance.words) * (len(distance.words) - 1) // 2
        too_few = edges is not None and pairs <= edges
        found = _agreement(distance, affinities, None if too_few else edges)
        if too_few:
            found.statistics["edge_jaccard"][:] = np.nan
            undefined.append(f"sentence {position}: edge_jaccard: {pairs} pairs of words, wanted more than {edges}")
        rows.append(np.array([values for _, values in found.values(with_mantel=False)]))
        undefined += [f"sentence {position}: {reason}" for reason in found.undefined]
    values = np.array(rows)  # (sentences, statistics, affinities)
    table = values.reshape(len(sentences), -1)
    usable = np.isfinite(table)
    intervals = np.full((table.shape[1], 2), np.nan)
    generator = random_generator(rng)
    for pattern in np.unique(usable, axis=1).T:
        if pattern.sum() >= 2:
            columns = (usable == pattern[:, None]).all(axis=0)
            intervals[columns] = kernels.bootstrap_intervals(
                table[np.ix_(pattern, columns)], resamples=resamples, level=level, rng=generator
            )
    distance, affinities = sentences[0]
    source = dataclasses.replace(
        joint_source(distance, affinities[0], rng=rng, sentences=len(sentences), resamples=resamples), text_hash=None
    )
    items = []
    for h, affinity in enumerate(affinities):
        for s, statistic in enumerate(STATISTICS):
            column = s * len(affinities) + h
            n = int(usable[:, column].sum())
            if n < 2:
                undefined.append(f"{statistic} with {label(affinity)}: defined in {n} sentences, wanted at least two")
                continue
            low, high = intervals[column].tolist()
            items.append(Comparison(
                statistic=statistic, value=float(table[usable[:, column], column].mean()), interval=(low, high),
                level=level, n=n, unit="sentences", left=_left(statistic, distance), reference=label(affinity),
                layer=affinity.layer, head=affinity.head, source=source,
            ))
    return Comparisons(tuple(items), undefined=tuple(undefined))


@dataclass(frozen=True)
class _Agreement:
    """All statistics of one distance matrix with H affinities, NaN where undefined, and what permuting them takes."""

    n_pairs: int
    edges: NDArray[np.int64]
    """(H,) edge count at which the closest pairs are compared."""
    statistics: dict[str, FloatArray]
    undefined: tuple[str, ...]
    scores: list[tuple[str, NDArray[np.int64], kernels.Permuted]]
    """Statistic, the affinities it is about, and its score."""

    def values(self, *, with_mantel: bool) -> list[tuple[str, FloatArray]]:
        table = list(self.statistics.items())
        tested = [(test, self.statistics[statistic]) for test, statistic in TESTED.items()] if with_mantel else []
        return [*table[:-2], *tested, *table[-2:]]

    def p_values(self, permutations: int, rng: np.random.Generator) -> dict[str, FloatArray]:
        tested = kernels.permutation_p_values([s for _, _, s in self.scores], permutations=permutations, rng=rng)
        result = {statistic: np.full(len(self.edges), np.nan) for statistic, _, _ in self.scores}
        for (statistic, heads, _), p_values in zip(self.scores, tested, strict=True):
            result[statistic][heads] = p_values
        return result


def _agreement(distance: DistanceMatrix, affinities: Sequence[AffinityMatrix], edges: int | None) -> _Agreement:
    if not affinities:
        raise ArgumentError("affinities: found none, wanted at least one to compare the distances with")
    for affinity in affinities:
        check_same_words(distance, affinity)
    n = len(distance.words)
    n_pairs = check_enough_words(n)
    wanted = n - 1 if edges is None else check_count("edges", edges, 1)
    if wanted > n_pairs:
        raise ArgumentError(f"edges: found {wanted}, wanted at most {n_pairs}, the number of pairs of {n} words")
    first, second = np.triu_indices(n, 1)
    near = symmetrized(distance)
    links = [symmetrized(affinity) for affinity in affinities]
    x = -near.values[first, second]
    y = np.array([link.values[first, second] for link in links])
    count = np.minimum(wanted, (y > 0).sum(axis=1))
    undefined = []
    if np.ptp(x) == 0:
        undefined.append(f"rank correlations: {label(distance)} is the same for all pairs")
    for affinity, row, some in zip(affinities, y, count, strict=True):
        if np.ptp(row) == 0:
            undefined.append(f"rank correlations: {label(affinity)} is the same for all pairs")
        if some == 0:
            undefined.append(f"edge_jaccard and spanning_tree_overlap: {label(affinity)} is zero for all pairs")
    ranks, others = kernels.centered_ranks(x), kernels.centered_ranks(y)
    lags = kernels.words_between(n)
    rest, rests = kernels.residuals_within(ranks, lags), kernels.residuals_within(others, lags)
    text_order = kernels.correlations(kernels.centered_ranks(-lags.astype(np.float64)), others)
    if distance.level == "type":
        rest, rests, text_order = np.zeros_like(rest), np.zeros_like(rests), np.full(len(links), np.nan)
        undefined.append("partial_spearman, partial_mantel and word_order: word types have no order")
    else:
        names = [label(distance), *map(label, affinities)]
        for name, row, left in zip(names, [ranks, *others], [rest, *rests], strict=True):
            if row.any() and not left.any():
                undefined.append(f"partial_spearman and partial_mantel: {name} {ONLY_ORDER}")
    tau = [kendall_tau(x, row) if np.ptp(x) > 0 and np.ptp(row) > 0 else np.nan for row in y]

    tree = _edge_matrix(minimum_spanning_tree(near))
    forests = np.array([_edge_matrix(minimum_spanning_tree(link))[first, second] for link in links])
    shared = np.where(count > 0, forests @ tree[first, second] / (n - 1), np.nan)
    everyone = np.arange(len(links))
    scores = [
        ("mantel", everyone, kernels.Permuted(as_square(ranks, n), others)),
        ("partial_mantel", everyone, kernels.Permuted(as_square(rest, n), rests, lags)),
        ("spanning_tree_overlap", everyone, kernels.Permuted(tree, forests)),
    ]
    jaccard = np.full(len(links), np.nan)
    for m in np.unique(count[count > 0]).tolist():
        heads = np.flatnonzero(count == m)
        closest = _edge_matrix(top_edges(near, m))
        masks = np.array([_edge_matrix(top_edges(links[h], m))[first, second] for h in heads])
        common = masks @ closest[first, second]
        jaccard[heads] = common / (2 * m - common)
        scores.append(("edge_jaccard", heads, kernels.Permuted(closest, masks)))
    statistics = {
        "spearman": kernels.correlations(ranks, others), "kendall": np.array(tau),
        "partial_spearman": kernels.correlations(rest, rests), "word_order": text_order, "edge_jaccard": jaccard,
        "spanning_tree_overlap": shared,
    }
    return _Agreement(n_pairs, count.astype(np.int64), statistics, tuple(undefined), scores)


def _sides(
    distance: DistanceMatrix, affinities: Sequence[AffinityMatrix] | AffinityMatrix, where: str = ""
) -> tuple[DistanceMatrix, tuple[AffinityMatrix, ...]]:
    """Both sides by their types, a single affinity as one of many; or an error that says what stands where."""
    if isinstance(distance, AffinityMatrix):
        raise ArgumentError(
            f"{where}distance: found an AffinityMatrix, wanted a DistanceMatrix; the distances come first and the "
            "affinities second: are they swapped?"
        )
    if not isinstance(distance, DistanceMatrix):
        instead = "; two graphs are compared by edge_jaccard" if isinstance(distance, WordGraph) else ""
        raise ArgumentError(f"{where}distance: found {type(distance).__name__}, wanted a DistanceMatrix{instead}")
    if isinstance(affinities, AffinityMatrix):
        return distance, (affinities,)
    if not isinstance(affinities, Iterable):
        raise ArgumentError(f"{where}affinities: found {type(affinities).__name__}, wanted a list of AffinityMatrix")
    found = tuple(affinities)
    for position, affinity in enumerate(found):
        if not isinstance(affinity, AffinityMatrix):
            instead = "; spearman and mantel_test compare two distances" if isinstance(affinity, DistanceMatrix) else ""
            raise ArgumentError(
                f"{where}affinities: found {type(affinity).__name__} at position {position}, wanted only "
                f"AffinityMatrix{instead}"
            )
    return distance, found


def _sentences(
    sentences: Sequence[tuple[DistanceMatrix, Sequence[AffinityMatrix]]],
) -> list[tuple[DistanceMatrix, tuple[AffinityMatrix, ...]]]:
    """The two sides of every sentence, checked."""
    if not isinstance(sentences, Iterable):
        raise ArgumentError(f"sentences: found {type(sentences).__name__}, wanted a list of (distance, affinities)")
    checked = []
    for position, sentence in enumerate(sentences):
        if not isinstance(sentence, tuple | list) or len(sentence) != 2:
            raise ArgumentError(
                f"sentence {position}: found {type(sentence).__name__}, wanted a pair (distance, affinities)"
            )
        checked.append(_sides(*sentence, where=f"sentence {position}: "))
    return checked


def _left(statistic: str, distance: DistanceMatrix) -> str:
    """What stands on the left of a comparison: the distances, or the order of the text."""
    return WORD_ORDER if statistic == "word_order" else label(distance)


def _check_alike(sentences: Sequence[tuple[DistanceMatrix, Sequence[AffinityMatrix]]]) -> None:
    distance, affinities = sentences[0]
    if not affinities:
        raise ArgumentError("affinities: found none, wanted at least one to compare the distances with")
    wanted = [label(distance), *((label(x), x.layer, x.head) for x in affinities)]
    for position, (other, others) in enumerate(sentences):
        found = [label(other), *((label(x), x.layer, x.head) for x in others)]
        if len(found) != len(wanted):
            raise ArgumentError(
                f"sentence {position} has {len(found) - 1} affinities, sentence 0 has {len(wanted) - 1}; "
                "all sentences must have the same"
            )
        for v, w in zip(found, wanted, strict=True):
            if v != w:
                raise ArgumentError(f"sentence {position} has {v} where sentence 0 has {w}; all must have the same")


def _edge_matrix(graph: WordGraph) -> FloatArray:
    """(n, n) one where two words are joined, in both directions."""
    square = np.zeros((len(graph.words),) * 2)
    square[graph.edges[:, 0], graph.edges[:, 1]] = square[graph.edges[:, 1], graph.edges[:, 0]] = 1.0
    return square
