"""Known answers and random cases for the tests of the mathematics, each with its source.

Everything here is computed by another route than the library: in 60 digits with mpmath, by integrating a metric along a
curve, or by plain sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath as mp
import numpy as np
from scipy.integrate import quad

from infogeo import (
    Categorical,
    DiagonalGaussian,
    Gaussian,
    LayerActivations,
    PointMass,
    SharedCovarianceGaussian,
    Source,
)

DIGITS = 60


def exact(values: Any) -> list[Any]:
    """Float64 numbers as mpmath numbers, without rounding."""
    return [mp.mpf(float(v)) for v in np.ravel(values)]


# ------------------------------------------------------------------------------------ closed forms in 60 digits


def univariate_distance(mean1: Any, var1: Any, mean2: Any, var2: Any) -> Any:
    """Fisher-Rao distance of univariate normals, arcosh form of Atkinson and Mitchell 1981, in 60 digits."""
    with mp.workdps(DIGITS):
        s1, s2 = mp.sqrt(var1), mp.sqrt(var2)
        return mp.sqrt(2) * mp.acosh(1 + ((mean1 - mean2) ** 2 / 2 + (s1 - s2) ** 2) / (2 * s1 * s2))


def diagonal_distance(p: DiagonalGaussian, q: DiagonalGaussian) -> Any:
    with mp.workdps(DIGITS):
        columns = zip(exact(p.mean), exact(p.var), exact(q.mean), exact(q.var), strict=True)
        return mp.sqrt(mp.fsum(univariate_distance(*c) ** 2 for c in columns))


def shared_distance(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> Any:
    """sqrt(2) arcosh(1 + Delta^2 / 4), Calvo and Oller 1991, with Delta from a linear solve in 60 digits."""
    with mp.workdps(DIGITS):
        shift = mp.matrix([a - b for a, b in zip(exact(p.mean), exact(q.mean), strict=True)])
        cov = mp.matrix([exact(row) for row in p.cov])
        return mp.sqrt(2) * mp.acosh(1 + (shift.T * mp.lu_solve(cov, shift))[0] / 4)


def categorical_probs(p: Categorical) -> list[Any]:
    """Probabilities of one member, scaled to sum one in 60 digits."""
    with mp.workdps(DIGITS):
        values = [mp.mpf(0) if np.isneginf(v) else mp.exp(mp.mpf(float(v))) for v in p.log_probs]
        total = mp.fsum(values)
        return [v / total for v in values]


def categorical_distance(p: Categorical, q: Categorical) -> Any:
    """2 arccos of the Bhattacharyya coefficient, in 60 digits."""
    with mp.workdps(DIGITS):
        pairs = zip(categorical_probs(p), categorical_probs(q), strict=True)
        return 2 * mp.acos(mp.fsum(mp.sqrt(a * b) for a, b in pairs))


# ------------------------------------------------------------------------------ lengths of curves by quadrature


def half_plane_length(mean1: float, std1: float, mean2: float, std2: float) -> float:
    """Length of the geodesic between two univariate normals: the metric (dm^2 + 2 ds^2) / s^2 along a half-ellipse.

    In u = m / sqrt(2) the geodesic is a circle around a point of the line s = 0. It is followed by the parameter w with
    u = c + r tanh w, s = r / cosh w, and the speed is taken from the metric by the derivatives of u and s.
    """
    u1, u2 = mean1 / 2**0.5, mean2 / 2**0.5
    if u1 == u2:
        return quad(lambda s: 2**0.5 / s, min(std1, std2), max(std1, std2), epsabs=0, epsrel=1e-13, limit=500)[0]
    center = (u1 + u2) / 2 + (std2 - std1) * (std2 + std1) / (2 * (u2 - u1))
    radius = np.hypot(u1 - center, std1)

    def place(u: float, s: float) -> float:
        return float(np.arcsinh((u - center) / s))

    def speed(w: float) -> float:
        du, ds, s = radius / np.cosh(w) ** 2, -radius * np.sinh(w) / np.cosh(w) ** 2, radius / np.cosh(w)
        return float(np.sqrt(2 * du**2 + 2 * ds**2) / s)

    a, b = sorted((place(u1, std1), place(u2, std2)))
    return quad(speed, a, b, epsabs=0, epsrel=1e-13, limit=500)[0]


def shared_length(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> float:
    """Length of the geodesic among all normals between two with one covariance, from the matrix form of the metric.

    In coordinates where the covariance is the identity and the means lie along e, the path keeps the covariance
    I + (v - 1) e e' with (mean, sqrt v) on the half-plane geodesic; it is followed there, and the length of each step
    is taken in the given coordinates from dm' S^-1 dm + tr((S^-1 dS)^2) / 2.
    """
    factor = np.linalg.cholesky(p.cov)
    white = np.linalg.solve(factor, q.mean - p.mean)
    delta = float(np.linalg.norm(white))
    e = white / delta
    height = np.hypot(delta / (2 * 2**0.5), 1.0)  # radius of the circle through (0, 1) and (delta / sqrt 2, 1)
    end = float(np.arcsinh(delta / (2 * 2**0.5)))

    def speed(w: float) -> float:
        s, ds = height / np.cosh(w), -height * np.sinh(w) / np.cosh(w) ** 2
        dm = factor @ e * (2**0.5 * height / np.cosh(w) ** 2)
        cov = factor @ (np.eye(len(e)) + (s**2 - 1) * np.outer(e, e)) @ factor.T
        change = factor @ (2 * s * ds * np.outer(e, e)) @ factor.T
        moved = np.linalg.solve(cov, change)
        return float(np.sqrt(dm @ np.linalg.solve(cov, dm) + 0.5 * np.trace(moved @ moved)))

    return quad(speed, -end, end, epsabs=0, epsrel=1e-12, limit=500)[0]


def categorical_length(p: np.ndarray, q: np.ndarray) -> float:
    """Length of the great circle between two distributions, from the metric sum dp^2 / p."""
    a, b = np.sqrt(p), np.sqrt(q)
    angle = float(np.arccos(a @ b))
    across = (b - (a @ b) * a) / np.sin(angle)

    def speed(w: float) -> float:
        root, rate = np.cos(w) * a + np.sin(w) * across, -np.sin(w) * a + np.cos(w) * across
        return float(np.sqrt(((2 * root * rate) ** 2 / root**2).sum()))

    return quad(speed, 0, angle, epsabs=0, epsrel=1e-13, limit=500)[0]


# ------------------------------------------------------------------------------------------------- random cases


def random_covariance(d: int, rng: np.random.Generator) -> np.ndarray:
    a = rng.standard_normal((d, 2 * d))
    return a @ a.T / (2 * d)


def random_batch(family: type, n: int, rng: np.random.Generator, *, d: int = 3, spread: float = 1.0) -> Any:
    """A batch of n members, ``spread`` apart; small spreads give close neighbors."""
    mean = rng.standard_normal(d) + spread * rng.standard_normal((n, d))
    if family is DiagonalGaussian:
        return DiagonalGaussian(mean, np.exp(rng.standard_normal(d) + spread * rng.standard_normal((n, d))))
    if family is SharedCovarianceGaussian:
        return SharedCovarianceGaussian(mean, random_covariance(d, rng))
    if family is Gaussian:
        base, change = random_covariance(d, rng), [random_covariance(d, rng) for _ in range(n)]
        return Gaussian(mean, base + min(spread, 1.0) * np.array(change))
    if family is Categorical:
        return Categorical.from_logits(rng.standard_normal(d + 2) + spread * rng.standard_normal((n, d + 2)))
    if family is PointMass:
        return PointMass(mean)
    raise TypeError(f"no random members of {family}")


def make_activations(
    words: Sequence[str],
    *,
    hidden_states: np.ndarray | None = None,
    tokens_per_word: Sequence[int] | None = None,
    n_layers: int = 2,
    d: int = 8,
    seed: int = 0,
    model: str = "synthetic",
    content_hash: str | None = None,
) -> LayerActivations:
    """Activations of a text of words with spaces between, after one special token; a word has one or more tokens."""
    counts = [1] * len(words) if tokens_per_word is None else list(tokens_per_word)
    text = " ".join(words)
    starts = np.cumsum([0, *(len(w) + 1 for w in words)])[: len(words)]
    spans = np.array([(s, s + len(w)) for s, w in zip(starts, words, strict=True)], dtype=np.int64).reshape(-1, 2)
    token_words = np.array([-1, *(i for i, c in enumerate(counts) for _ in range(c))], dtype=np.int64)
    t = len(token_words)
    token_spans = np.array([(0, 0), *(tuple(spans[i]) for i in token_words[1:])], dtype=np.int64).reshape(-1, 2)
    if hidden_states is None:
        hidden_states = np.random.default_rng(seed).standard_normal((n_layers + 1, t, d))
    return LayerActivations(
        text=text,
        words=tuple(words),
        word_spans=spans,
        tokens=("<s>", *(f"{words[i]}_{j}" for i, c in enumerate(counts) for j in range(c))),
        token_ids=np.arange(t),
        token_spans=token_spans,
        token_words=token_words,
        special=token_words < 0,
        hidden_states=np.asarray(hidden_states),
        attention=None,
        attention_layers=(),
        causal=True,
        source=Source(model=model, content_hash=content_hash),
    )
