"""Eigenpairs of diag(p) - p p^T from its secular equation: a diagonal matrix changed by a product of one vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray

BISECTIONS = 64
"""Steps that halve the logarithm of an interval of float64 numbers down to neighboring ones."""


def softmax_eigenpairs(p: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """The k largest eigenvalues, and eigenvectors as rows, of diag(p) - p p^T for one distribution."""
    order = np.argsort(-p, kind="stable")
    support = order[p[order] > 0]
    poles, starts, counts = np.unique(-p[support], return_index=True, return_counts=True)
    poles = -poles
    roots, gaps = _secular_roots(poles, counts, min(k, len(poles) - 1))
    values, vectors = [], []

    def add(value: float, vector: FloatArray) -> None:
        values.append(value)
        vectors.append(vector / np.linalg.norm(vector))

    for group in range(len(poles)):
        members = support[starts[group] : starts[group] + counts[group]]
        for j in range(1, min(int(counts[group]), k - len(values) + 1)):
            contrast = np.zeros(len(p))
            contrast[members[:j]], contrast[members[j]] = 1.0, -float(j)
            add(float(poles[group]), contrast)
        if group < len(roots) and len(values) < k:
            vector = np.zeros(len(p))
            vector[support] = np.repeat(poles / gaps[group], counts)
            add(float(roots[group]), vector)
        if len(values) >= k:
            break
    if len(values) < k:  # the null space: equal changes on the support, then outcomes of probability zero
        constant = np.zeros(len(p))
        constant[support] = 1.0
        add(0.0, constant)
    for outcome in order[len(support) : len(support) + k - len(values)]:
        add(0.0, np.eye(1, len(p), int(outcome))[0])
    return np.asarray(values), np.stack(vectors)


def _secular_roots(poles: FloatArray, counts: NDArray[np.int64], k: int) -> tuple[FloatArray, FloatArray]:
    """The first k roots between descending poles, and the differences ``poles - root`` (k, number of poles)."""
    if k <= 0:
        return np.empty(0), np.empty((0, len(poles)))
    upper, lower = poles[:k], poles[1 : k + 1]
    weights = counts * poles
    half = (upper - lower) / 2

    def slope(origin: FloatArray, offset: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", over="ignore"):
            terms = weights / ((poles - origin[:, None]) - offset[:, None])
        return np.asarray(terms.sum(axis=-1))

    below = slope(lower, half) > 0  # the function grows from minus to plus infinity between two poles
    origin, sign = np.where(below, lower, upper), np.where(below, 1.0, -1.0)
    low, high = np.full(k, np.log(np.finfo(np.float64).tiny)), np.log(half)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = sign * slope(origin, sign * np.exp(middle)) < 0  # the root is farther from the pole
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    offset = sign * np.exp((low + high) / 2)
    return origin + offset, (poles - origin[:, None]) - offset[:, None]
