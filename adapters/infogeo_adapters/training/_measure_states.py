"""Quantities of states: size, alikeness, spectrum, entropies, information about input and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from infogeo._checks import FloatArray, IntArray

GRAM_TOKENS = 256
"""Most tokens of the Gram matrices; they are drawn once for a meter."""

SHUFFLES = 8
"""Other orders of the tokens that are tried for the information that two kernels share by chance."""

WIDTH = 0.5
"""Width of the Gaussian kernel over the median distance of the tokens."""

ROUNDING = 1e-12
"""Eigenvalues of a covariance below this share of the largest are rounding of float32."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows:
    """The tokens that are measured, with the text and the place of each."""

    texts: IntArray
    """(n,)"""
    places: IntArray
    """(n,)"""
    targets: IntArray
    """(n,) -100 where there is none."""
    gram: IntArray
    """Numbers of the tokens that Gram matrices are of."""
    target_gram: IntArray
    """Numbers of tokens with targets, for the information about them."""
    orders: tuple[IntArray, ...]
    """Permutations of so many numbers as the larger of the two has."""


def choose_rows(mask: IntArray, targets: IntArray, most: int, rng: np.random.Generator) -> Rows:
    """Draw the tokens to measure among those that are no padding."""
    texts, places = np.nonzero(mask)
    if len(texts) > most:
        kept = np.sort(rng.permutation(len(texts))[:most])
        texts, places = texts[kept], places[kept]
    said = targets[texts, places]
    having = np.flatnonzero(said >= 0)
    gram = np.sort(rng.permutation(len(texts))[:GRAM_TOKENS])
    return Rows(
        texts=texts, places=places, targets=said, gram=gram,
        target_gram=np.sort(rng.permutation(having)[:GRAM_TOKENS]),
        orders=tuple(rng.permutation(len(gram)) for _ in range(SHUFFLES)),
    )


def mean_cosine(states: FloatArray, rows: Rows) -> float:
    """Mean cosine between tokens of different texts and different places.

    Tokens of one text share their context and those of one place their position, so that they are left out.
    """
    u, nonzero = _unit(states)
    texts, places = rows.texts[nonzero], rows.places[nonzero]
    n = float(len(u))
    own = float((u * u).sum())
    total = float((u.sum(axis=0) ** 2).sum())
    same_text, pairs_text = _within(u, texts)
    same_place, pairs_place = _within(u, places)
    pairs = n * n - pairs_text - pairs_place + n
    return (total - same_text - same_place + own) / pairs if pairs > 0 else np.nan


def token_similarity(states: FloatArray, rows: Rows) -> float:
    """Mean cosine between tokens of one text, of states less the mean of all tokens; 1 where they are all alike."""
    if not _varies(states):
        return 1.0
    u, nonzero = _unit(states - states.mean(axis=0))
    same, pairs = _within(u, rows.texts[nonzero])
    n = float(len(u))
    return (same - float((u * u).sum())) / (pairs - n) if pairs > n else np.nan


def _varies(states: FloatArray) -> bool:
    """Whether tokens differ by more than rounding of float32."""
    return float(states.std(axis=0).max()) > 1e-7 * float(np.abs(states).max())


def _unit(states: FloatArray) -> tuple[FloatArray, IntArray]:
    norms = np.sqrt((states**2).sum(axis=1))
    nonzero = np.flatnonzero(norms > 0)
    return states[nonzero] / norms[nonzero, None], nonzero


def _within(u: FloatArray, groups: IntArray) -> tuple[float, float]:
    """Sum of inner products over all pairs of one group, each token with itself among them, and how many these are."""
    numbers, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(numbers), u.shape[1]))
    np.add.at(sums, inverse, u)
    return float((sums**2).sum()), float((counts.astype(np.float64) ** 2).sum())


def spectrum(states: FloatArray) -> FloatArray:
    """Eigenvalues of the sample covariance of states (n, d), the largest first; min(n - 1, d) of them."""
    n, d = states.shape
    x = states - states.mean(axis=0)
    scale = float(np.abs(x).max())
    if n < 2 or not scale > 0:
        return np.zeros(max(1, min(n - 1, d)))
    x = x / scale
    gram = x.T @ x if d <= n else x @ x.T
    values = np.linalg.eigvalsh(gram)[::-1][: min(n - 1, d)]
    return np.asarray(np.maximum(values, 0.0) * scale**2 / (n - 1))  # below zero is rounding


def effective_rank(eigenvalues: FloatArray) -> float:
    """Exponential of the entropy of the singular values of centered states, which are the roots of these."""
    singular = np.sqrt(eigenvalues)
    total = float(singular.sum())
    if not total > 0:
        return 1.0
    p = singular[singular > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def anisotropy(eigenvalues: FloatArray) -> float:
    """Share of the variance along the first principal component."""
    total = float(eigenvalues.sum())
    return float(eigenvalues[0]) / total if total > 0 else np.nan


def differential_entropy(eigenvalues: FloatArray, n: int) -> float:
    r"""Entropy of a normal law with these variances, per dimension, in nats.

    .. math:: \frac{1}{k} \sum_{i=1}^{k} \tfrac12 \log(2 \pi e \lambda_i)

    over the leading k principal components, all of them or a quarter of the number n of tokens, if that is fewer: the
    variances of the others are not known from so few tokens. Variances below 1e-12 of the largest count as that.
    """
    k = max(1, min(len(eigenvalues), n // 4))
    top = float(eigenvalues[0])
    if not top > 0:
        return np.nan
    leading = np.maximum(eigenvalues[:k], ROUNDING * top)
    return float(np.mean(0.5 * (np.log(2 * np.pi * leading) + 1)))


def token_gram(states: FloatArray) -> FloatArray:
    r"""Gaussian Gram matrix of tokens, of half their median distance as width; ones if they are all alike.

    .. math:: K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 w^2}\right), \qquad
              w = \tfrac12 \mathrm{median}_{i<j} \|x_i - x_j\|

    So the matrix does not change with the scale of the states. Where half of the pairs coincide, the median is of the
    pairs that do not.
    """
    n = len(states)
    if not _varies(states):
        return np.ones((n, n))
    x = states - states.mean(axis=0)
    x = x / float(np.abs(x).max())
    squares = (x**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0)
    np.fill_diagonal(apart, 0.0)
    pairs = np.sqrt(apart[np.triu_indices(n, 1)])
    median = float(np.median(pairs))
    tiny = 1e-6 * float(pairs.max())
    if median <= tiny:
        median = float(np.median(pairs[pairs > tiny]))
    return np.asarray(np.exp(-apart / (2 * (WIDTH * median) ** 2)))


def same_target(targets: IntArray) -> FloatArray:
    """Gram matrix of targets: one where they are the same token, else zero."""
    return np.asarray(targets[:, None] == targets, dtype=np.float64)


def entropy_of(gram: FloatArray) -> float:
    """Von Neumann entropy of a Gram matrix with ones on its diagonal, scaled to trace one."""
    values = np.linalg.eigvalsh(gram) / len(gram)
    values = values[values > 1e-15]
    return float(-(values * np.log(values)).sum())


def collision_entropy(gram: FloatArray) -> float:
    """Entropy of order two of a Gram matrix with ones on its diagonal, scaled to trace one."""
    return -float(np.log((gram**2).mean()))


def information(x: FloatArray, y: FloatArray, orders: Sequence[IntArray]) -> float:
    r"""Matrix-based mutual information of order two, less what it is with one of both in other orders.

    .. math:: I = \frac1m \sum_{\pi} S_2(K_x^\pi \circ K_y) - S_2(K_x \circ K_y)

    since the entropies of the two alone do not change with the order. Without that the number is mostly about the
    entropies: kernels that are narrow share much with any other. Order two needs no eigenvalues.
    """
    size = len(x)
    by_chance = []
    for order in orders:
        kept = order[order < size]
        by_chance.append(collision_entropy(x[np.ix_(kept, kept)] * y))
    return float(np.mean(by_chance)) - collision_entropy(x * y)


def by_layer(layers: Sequence[FloatArray | None], function: Callable[[FloatArray], float]) -> FloatArray:
    """A quantity of each layer; NaN where the states are not finite, which None stands for."""
    return np.array([np.nan if states is None else function(states) for states in layers])


def measure_states(
    layers: Sequence[FloatArray | None], rows: Rows, wanted: Callable[[str], bool]
) -> dict[str, FloatArray]:
    """The quantities of states that are found from their rows alone.

    Parameters
    ----------
    layers : sequence of ndarray, shape (n, d), or None
        Of layers 0 to L; None for one that is not finite.
    rows : Rows
    wanted : callable
        Whether a quantity is asked for.
    """
    found: dict[str, FloatArray] = {}
    if wanted("state_norm"):
        found["state_norm"] = by_layer(layers, lambda x: float(np.sqrt((x**2).mean())))
    if wanted("mean_cosine"):
        found["mean_cosine"] = by_layer(layers, lambda x: mean_cosine(x, rows))
    if wanted("token_similarity"):
        found["token_similarity"] = by_layer(layers, lambda x: token_similarity(x, rows))
    if any(map(wanted, ("effective_rank", "anisotropy", "differential_entropy"))):
        spectra = [None if x is None else spectrum(x) for x in layers]
        n = len(rows.texts)
        if wanted("effective_rank"):
            found["effective_rank"] = by_layer(spectra, effective_rank)
        if wanted("anisotropy"):
            found["anisotropy"] = by_layer(spectra, anisotropy)
        if wanted("differential_entropy"):
            found["differential_entropy"] = by_layer(spectra, lambda values: differential_entropy(values, n))
    if any(map(wanted, ("matrix_entropy", "input_information"))):
        found |= _of_input(layers, rows, wanted)
    if wanted("target_information") and len(rows.target_gram) > 1:
        found["target_information"] = _of_targets(layers, rows)
    return found


def _of_input(layers: Sequence[FloatArray | None], rows: Rows, wanted: Callable[[str], bool]) -> dict[str, FloatArray]:
    """Matrix-based entropy, and information about layer 0."""
    grams = [None if x is None else token_gram(x[rows.gram]) for x in layers]
    found = {"matrix_entropy": by_layer(grams, entropy_of)} if wanted("matrix_entropy") else {}
    if wanted("input_information"):
        first = grams[0]
        found["input_information"] = (
            np.full(len(layers), np.nan) if first is None
            else by_layer(grams, lambda gram: information(first, gram, rows.orders))
        )
    return found


def _of_targets(layers: Sequence[FloatArray | None], rows: Rows) -> FloatArray:
    """Matrix-based information about the targets."""
    targets = same_target(rows.targets[rows.target_gram])
    return by_layer(layers, lambda x: information(targets, token_gram(x[rows.target_gram]), rows.orders))
