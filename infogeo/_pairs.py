"""What two descriptions of the same words must have in common, and how they are named, for comparisons."""

from __future__ import annotations

import dataclasses

import numpy as np

from infogeo import _resampling
from infogeo._checks import FloatArray
from infogeo._checks import check_count as check_count
from infogeo.activations import AffinityMatrix
from infogeo.errors import ArgumentError, DomainError
from infogeo.graphs import WordGraph
from infogeo.results import Source
from infogeo.words import DistanceMatrix

Matrix = DistanceMatrix | AffinityMatrix
Rng = np.random.Generator | int | None
ONLY_ORDER = "is the same for all pairs that stand equally far apart in the text"
"""What is said of a side that depends on word order alone."""


def kendall_tau(x: FloatArray, y: FloatArray) -> float:
    """Kendall's tau-b of two rows of values, neither of them constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(x, y, method="asymptotic").statistic)


def closeness_pairs(a: Matrix, b: Matrix) -> tuple[FloatArray, FloatArray]:
    """Closeness of all pairs i < j on both sides, neither of them constant."""
    check_matrices(a, b)
    check_same_words(a, b)
    check_enough_words(len(a.words))
    sides = []
    for x in (a, b):
        values = symmetrized(x).values[np.triu_indices(len(x.words), 1)]
        if np.ptp(values) == 0:
            raise DomainError(f"{label(x)} is the same for all pairs of words: a rank correlation is undefined")
        sides.append(-values if isinstance(x, DistanceMatrix) else values)
    return sides[0], sides[1]


def check_enough_words(n: int) -> int:
    """The number of pairs of n words, if there is anything to correlate."""
    if n < 3:
        raise DomainError(f"found {n} words, wanted at least three: two words have one pair, and nothing to correlate")
    return n * (n - 1) // 2


def check_matrices(*sides: Matrix) -> None:
    """Raise unless all sides are matrices; a graph is told what compares graphs."""
    for x in sides:
        if not isinstance(x, DistanceMatrix | AffinityMatrix):
            instead = "; two graphs are compared by edge_jaccard" if isinstance(x, WordGraph) else ""
            raise ArgumentError(f"found {type(x).__name__}, wanted a DistanceMatrix or an AffinityMatrix{instead}")


def check_same_words(a: Matrix | WordGraph, b: Matrix | WordGraph) -> None:
    """Raise unless both are of the same words, naming the first difference."""
    for x in (a, b):
        if not isinstance(x, DistanceMatrix | AffinityMatrix | WordGraph):
            raise ArgumentError(f"found {type(x).__name__}, wanted a DistanceMatrix, an AffinityMatrix or a WordGraph")
    left, right = label(a), label(b)
    for position, (v, w) in enumerate(zip(a.words, b.words, strict=False)):
        if v != w:
            raise ArgumentError(f"the words differ at position {position}: {v!r} in {left}, {w!r} in {right}")
    if len(a.words) != len(b.words):
        raise ArgumentError(f"{left} has {len(a.words)} words, {right} has {len(b.words)}; both must have the same")
    if a.level != b.level:
        raise ArgumentError(f"{left} is of word {a.level}s, {right} of word {b.level}s; both must be of the same level")


def symmetrized(x: Matrix) -> Matrix:
    """The matrix itself if it is symmetric, else the mean with its transpose."""
    directed = x.directed if isinstance(x, AffinityMatrix) else not x.symmetric
    return x.symmetrized() if directed else x


def as_square(pairs: FloatArray, n: int) -> FloatArray:
    """Values of the pairs i < j as a symmetric (n, n) matrix with zero diagonal."""
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = pairs
    return square + square.T


def label(x: Matrix | WordGraph) -> str:
    """What a comparison calls one of its sides."""
    if isinstance(x, WordGraph):
        return f"{x.construction} on {x.measure}"
    if isinstance(x, AffinityMatrix):
        return f"{x.name}, symmetrized" if x.directed else x.name
    name = x.measure if x.symmetric else f"{x.measure}, symmetrized"
    details = [x.construction] if x.construction else []
    details += [f"layer {x.layer}"] if x.layer is not None else []
    return f"{name} ({', '.join(details)})" if details else name


def joint_source(
    a: Matrix | WordGraph, b: Matrix | WordGraph, *, rng: Rng = None, **options: str | int | bool
) -> Source:
    """The source of the first with the choices of the comparison, and the second's model where it is another."""
    source = a.source.with_options(**options)
    if b.source.model != source.model:
        source = source.with_options(reference_model=b.source.model)
    return dataclasses.replace(source, seed=int(rng)) if isinstance(rng, int | np.integer) else source


def permutation_options(n: int, permutations: int, alternative: str) -> dict[str, str | int | bool]:
    """What the source of a permutation test records."""
    exact = _resampling.is_exact(n, permutations)
    return {"permutations": "all" if exact else permutations, "alternative": alternative}
