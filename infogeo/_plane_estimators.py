"""Kernels of the information plane: what each estimator makes of one layer, with and without a block of samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.errors import DomainError
from infogeo.estimates import EstimateWarning


@dataclass(frozen=True)
class Variable:
    """One of X and Y: labels as numbers 0, 1, ..., or vectors, or every sample an outcome of its own."""

    name: str
    codes: IntArray | None = None
    """(n,)"""
    vectors: FloatArray | None = None
    """(n, p)"""

    def at(self, keep: IntArray) -> Variable:
        """The same at some samples."""
        codes = None if self.codes is None else self.codes[keep]
        return Variable(self.name, codes, None if self.vectors is None else self.vectors[keep])


@dataclass(frozen=True)
class Measured:
    """Estimates of one layer, in nats; the entries of each tuple belong to the variables in order."""

    values: tuple[float, ...]
    left_out: FloatArray
    """(B, variables) the same estimates with one block of samples left out at a time; no rows without blocks."""
    bounds: tuple[tuple[float, float], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


LayerEstimator = Callable[[FloatArray, tuple[Variable, ...], "IntArray | None"], Measured]
"""Takes states (n, d) of a layer, the variables, and the block (n,) of each sample (None for no intervals)."""


def discrete_information(a: IntArray, b: IntArray) -> tuple[float, float]:
    """Plug-in information of two columns of labels, and the same with the correction of Miller and Madow, in nats.

    The correction adds (K_a - 1 + K_b - 1 - (K_ab - 1)) / (2 n) with K the numbers of occupied cells.
    """
    n = len(a)
    joint = a * (int(b.max()) + 1) + b
    counts = [np.unique(column, return_counts=True)[1] for column in (a, b, joint)]
    h_a, h_b, h_ab = (float(np.log(n) - (c * np.log(c)).sum() / n) for c in counts)
    occupied = [len(c) for c in counts]
    plug_in = h_a + h_b - h_ab
    return plug_in, plug_in + (occupied[0] + occupied[1] - occupied[2] - 1) / (2 * n)


def label_entropy(codes: IntArray) -> float:
    """Plug-in entropy of labels, in nats."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(np.log(len(codes)) - (counts * np.log(counts)).sum() / len(codes))


def k_means(t: FloatArray, k: int, rng: np.random.Generator, *, restarts: int = 4) -> IntArray:
    """Clusters (n,) of the rows by k-means, begun by k-means++ [1]_: the best of some runs by its sum of squares.

    .. [1] D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    from scipy.cluster.vq import kmeans2

    best, least = np.zeros(len(t), dtype=np.int64), np.inf
    centered = t - t.mean(axis=0)
    for _ in range(restarts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty cluster; the number of those in use is reported
            centers, labels = kmeans2(centered, _spread_out(centered, k, rng), minit="matrix", iter=20)
        loss = float(((centered - centers[labels]) ** 2).sum())
        if loss < least:
            best, least = labels.astype(np.int64), loss
    return best


def _spread_out(t: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """First centers (k, d): rows drawn with probabilities as their squared distances to the nearest one so far."""
    squares = (t**2).sum(axis=1)
    chosen = [int(rng.integers(len(t)))]
    nearest = np.full(len(t), np.inf)
    for _ in range(k - 1):
        last = chosen[-1]
        nearest = np.minimum(nearest, np.maximum(squares - 2 * (t @ t[last]) + squares[last], 0.0))
        nearest[last] = 0.0
        total = nearest.sum()
        if total == 0:  # fewer different rows than clusters
            break
        chosen.append(int(rng.choice(len(t), p=nearest / total)))
    return t[chosen]


def _all_but(blocks: IntArray | None) -> list[IntArray]:
    if blocks is None:
        return []
    return [np.flatnonzero(blocks != b) for b in range(int(blocks.max()) + 1)]


def generic(
    measure: Callable[[FloatArray, Variable], float], t: FloatArray, variables: tuple[Variable, ...],
    blocks: IntArray | None,
) -> Measured:
    """Any function of states and a variable, computed again without each block."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always", EstimateWarning)
        values = tuple(measure(t, v) for v in variables)
    said = tuple(dict.fromkeys(str(w.message) for w in record if issubclass(w.category, EstimateWarning)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)  # the same once more for each block
        rest = [[measure(t[keep], v.at(keep)) for v in variables] for keep in _all_but(blocks)]
    return Measured(values, np.array(rest).reshape(-1, len(variables)), details={"said": said})


def quantized(
    codes: IntArray, variables: tuple[Variable, ...], blocks: IntArray | None, *, corrected: bool,
    permutations: int, rng: np.random.Generator,
) -> Measured:
    """Information of variables with the cells that a layer was quantized to (clusters or bins)."""
    coded = [np.arange(len(codes)) if v.codes is None else v.codes for v in variables]
    both = [discrete_information(c, codes) for c in coded]
    place = 1 if corrected else 0
    rest = [[discrete_information(c[keep], codes[keep])[place] for c in coded] for keep in _all_but(blocks)]
    null = [
        float(np.mean([discrete_information(rng.permutation(c), codes)[place] for _ in range(permutations)]))
        if permutations and v.codes is not None else None
        for v, c in zip(variables, coded, strict=True)
    ]
    details = {
        "plug_in": tuple(b[0] for b in both), "miller_madow": tuple(b[1] for b in both), "null": tuple(null),
        "cells": len(np.unique(codes)), "cell_entropy": label_entropy(codes),
    }
    return Measured(tuple(b[place] for b in both), np.array(rest).reshape(-1, len(variables)), details=details)


def bin_codes(t: FloatArray, bins: int, name: str) -> IntArray:
    """Cells (n,) of a grid with ``bins`` equal intervals on the range of all entries of the layer.

    One range for all components, from the data: a fixed one, such as -1 to 1, cuts off what lies beyond. Refused where
    more than half as many cells are occupied as there are samples, since entropy is then near log n whatever the data.
    """
    low, high = float(t.min()), float(t.max())
    if low == high:
        return np.zeros(len(t), dtype=np.int64)
    cells = np.minimum(((t - low) / (high - low) * bins).astype(np.int64), bins - 1)
    codes = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    occupied = int(codes.max()) + 1
    if 2 * occupied > len(t):
        raise DomainError(
            f"{name}: {bins} bins in each of {t.shape[1]} components put {len(t)} samples into {occupied} cells, more "
            "than half as many, so that the information is near log n whatever the data; use fewer bins, components=1 "
            "or 2, more samples, or estimator='kmeans'"
        )
    return np.asarray(codes, dtype=np.int64)


def squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """(n, m) squared Euclidean distances, never negative."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b, "sqeuclidean"))


def gaussian_mixture(
    t: FloatArray, variables: tuple[Variable, ...], blocks: IntArray | None, *, sigma: float, draws: int,
    permutations: int, rng: np.random.Generator,
) -> Measured:
    """Information of labels with states plus normal noise: Monte Carlo, and the pairwise bounds.

    With n states of equal weight, T + Z is a mixture of n normals, and T + Z given a label one of those with the label.
    The mean of log p(z | x) - log p(z) over noise drawn at every state is the information of that mixture, up to Monte
    Carlo error. Every state is in the mixture of its own label, so that rare labels raise it: shuffled labels, on the
    noise of the last draw, show by how much.
    """
    n = len(t)
    own = [np.arange(n) if v.codes is None else v.codes for v in variables]
    same = [c[:, None] == c[None, :] for c in own]
    member = np.zeros((n, 1 if blocks is None else int(blocks.max()) + 1))
    member[np.arange(n), 0 if blocks is None else blocks] = 1.0
    totals = np.zeros((draws, len(variables)))
    parts = np.zeros((member.shape[1], len(variables)))
    counts = [s @ member for s in same]
    size = member.sum(axis=0)
    but_one = 1.0 - np.eye(len(size))  # sums over the other blocks, with nothing subtracted
    for draw in range(draws):
        z = t + sigma * rng.standard_normal(t.shape)
        logs = -squared_distances(z, t) / (2 * sigma**2)
        kernel = np.exp(logs - logs.max(axis=1, keepdims=True))
        everything = kernel @ member  # (n, B): sums over the states of each block
        for which, mask in enumerate(same):
            within = (kernel * mask) @ member
            log_ratio = np.log(within.sum(axis=1) / counts[which].sum(axis=1)) - np.log(everything.sum(axis=1) / n)
            totals[draw, which] = log_ratio.mean()
            if blocks is not None:
                rest, others, left = within @ but_one, everything @ but_one, counts[which] @ but_one
                with np.errstate(divide="ignore", invalid="ignore"):
                    each = np.log(rest / left) - np.log(others / (n - size))
                each = np.where(member > 0, 0.0, each)  # (n, B) samples of the block that is left out do not count
                parts[:, which] += each.sum(axis=0) / (n - size) / draws
    null = [
        float(np.mean([_log_ratio(kernel, rng.permutation(c)) for _ in range(permutations)]))
        if permutations and v.codes is not None else None
        for v, c in zip(variables, own, strict=True)
    ]
    bounds = tuple(_pairwise_bounds(t, c, sigma) for c in own)
    error = totals.std(axis=0, ddof=1) / np.sqrt(draws) if draws > 1 else np.full(len(variables), np.nan)
    return Measured(
        tuple(totals.mean(axis=0).tolist()), parts if blocks is not None else np.empty((0, len(variables))), bounds,
        {"monte_carlo_error": tuple(error.tolist()), "null": tuple(null),
         "samples_told_apart": _excess(squared_distances(t, t), 2 * sigma**2)},
    )


def _log_ratio(kernel: FloatArray, codes: IntArray) -> float:
    """Mean of log p(z | label) - log p(z), z in row i drawn around state i and column j the weight of state j."""
    indicator = (codes[:, None] == np.unique(codes)[None, :]).astype(np.float64)
    sums = kernel @ indicator
    place = indicator.argmax(axis=1)
    within = sums[np.arange(len(codes)), place] / indicator.sum(axis=0)[place]
    return float(np.log(within / kernel.mean(axis=1)).mean())


def _pairwise_bounds(t: FloatArray, codes: IntArray, sigma: float) -> tuple[float, float]:
    """Lower and upper bound of the information of labels with the noisy states.

    Entropies of mixtures lie between the pairwise estimates with Bhattacharyya (below) and Kullback–Leibler (above)
    distances; the information's lower bound is the lower bound of h(T) less the upper one of h(T | X), and so on.
    """
    squares = squared_distances(t, t)
    low, high = _excess(squares, 8 * sigma**2), _excess(squares, 2 * sigma**2)
    order = np.argsort(codes, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        weight = len(places) / len(t)
        if len(places) > 1:
            within = squares[np.ix_(places, places)]
            low -= weight * _excess(within, 2 * sigma**2)
            high -= weight * _excess(within, 8 * sigma**2)
    return low, high


def _excess(squares: FloatArray, scale: float) -> float:
    """Pairwise estimate of the mixture's entropy less that of one component, in nats."""
    return float(-np.log(np.exp(-squares / scale).mean(axis=1)).mean())


def gram(variable: Variable | FloatArray, width: float | None) -> tuple[FloatArray, float]:
    """Gaussian kernel matrix of vectors (width: by default the median distance), 0/1 of labels; and the width."""
    if isinstance(variable, Variable):
        if variable.vectors is None:
            codes = variable.codes
            if codes is None:
                raise DomainError(f"{variable.name}: found neither labels nor vectors")
            return (codes[:, None] == codes[None, :]).astype(np.float64), 0.0
        variable = variable.vectors
    squares = squared_distances(variable, variable)
    if width is None:
        width = float(np.sqrt(np.median(squares[np.triu_indices(len(squares), 1)])))
        if width == 0:
            raise DomainError("kernel width: half of all pairs of states are equal, so the median distance is zero; "
                              "give width=")
    return np.exp(-squares / (2 * width**2)), width
