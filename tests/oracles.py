"""Known answers and random cases for the tests of the mathematics, each with its source.

Everything here is computed by another route than the library: in 60 digits with mpmath, by integrating a metric along a
curve, or by plain sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp
import numpy as np

from infogeo import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Gaussian,
    IsotropicGaussian,
    LayerActivations,
    LowRankGaussian,
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
#
# A curve is a function of a time t from 0 to 1 that returns a list of coordinates; its velocity is taken by numerical
# differentiation, and its length by integrating the metric over t. The curves are run through at a speed that changes
# (slow, fast, slow), so that a wrong metric, or a wrong curve, cannot hide in a constant integrand.

Curve = Callable[[Any], list[Any]]
WIDTH = 0.2
"""Size of the detour of a perturbed curve, in fractions of the distance (or of one, if that is less)."""


def clock(t: Any) -> Any:
    """Time along the geodesic at time t: from 0 to 1, not evenly."""
    return t * t * (3 - 2 * t)


def curve_length(curve: Curve, metric: Callable[[list[Any], list[Any]], Any], *, pieces: int = 1) -> Any:
    """Integral of sqrt(metric(x, dx/dt)) over 0 < t < 1, by Gauss-Legendre quadrature in mpmath."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    with mp.workdps(DIGITS):
        h, total = mp.mpf(10) ** -20, mp.mpf(0)
        for piece in range(pieces):
            for node, weight in zip(nodes, weights, strict=True):
                t = (piece + (1 + mp.mpf(float(node))) / 2) / pieces
                ahead, behind = curve(t + h), curve(t - h)
                velocity = [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]
                total += mp.mpf(float(weight)) / (2 * pieces) * mp.sqrt(metric(curve(t), velocity))
        return total


def half_plane_curve(mean1: Any, std1: Any, mean2: Any, std2: Any, *, detour: Any = 0) -> Curve:
    """Geodesic of univariate normals as coordinates (m, s), by way of the hyperboloid, where it is a plane section.

    With ``detour`` the logarithm of s is moved aside in the middle.
    """

    def lift(m: Any, s: Any) -> list[Any]:
        u = m / mp.sqrt(2)
        return [(1 + u * u + s * s) / (2 * s), (u * u + s * s - 1) / (2 * s), u / s]

    with mp.workdps(DIGITS):
        origin = mp.mpf(mean1)  # the metric does not depend on the mean
        a, b = lift(mp.mpf(0), mp.mpf(std1)), lift(mean2 - origin, mp.mpf(std2))
        arc = mp.acosh(a[0] * b[0] - a[1] * b[1] - a[2] * b[2])

    def curve(t: Any) -> list[Any]:
        w = clock(t)
        x = [(mp.sinh((1 - w) * arc) * v + mp.sinh(w * arc) * z) / mp.sinh(arc) for v, z in zip(a, b, strict=True)]
        s = 1 / (x[0] - x[1])
        return [mp.sqrt(2) * x[2] * s, s * mp.exp(detour * mp.sin(mp.pi * t) ** 2)]

    return curve


def half_plane_metric(x: list[Any], dx: list[Any]) -> Any:
    """(dm^2 + 2 ds^2) / s^2, summed over the pairs of coordinates."""
    return mp.fsum((dx[i] ** 2 + 2 * dx[i + 1] ** 2) / x[i + 1] ** 2 for i in range(0, len(x), 2))


def half_plane_length(mean1: float, std1: float, mean2: float, std2: float) -> float:
    """Length of the geodesic between two univariate normals."""
    curve = half_plane_curve(*exact([mean1, std1, mean2, std2]))
    return float(curve_length(curve, half_plane_metric))


def diagonal_length(p: DiagonalGaussian, q: DiagonalGaussian, *, detour: float = 0.0) -> Any:
    """Length of the product of the geodesics of the coordinates."""
    with mp.workdps(DIGITS):
        columns = zip(exact(p.mean), exact(p.var), exact(q.mean), exact(q.var), strict=True)
        parts = [half_plane_curve(m, mp.sqrt(v), n, mp.sqrt(w), detour=detour) for m, v, n, w in columns]
    return curve_length(lambda t: [v for part in parts for v in part(t)], half_plane_metric, pieces=4 if detour else 1)


def shared_length(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian, *, detour: float = 0.0) -> Any:
    """Length of the geodesic among all normals between two with one covariance, from the matrix form of the metric.

    In coordinates where the covariance is the identity and the means lie along e, the path keeps the covariance
    I + (v - 1) e e' with (mean, sqrt v) on the half-plane geodesic; it is followed there, and the length of each step
    is taken in the given coordinates from dm' S^-1 dm + tr((S^-1 dS)^2) / 2.
    """
    d = p.dimension
    with mp.workdps(DIGITS):
        cov = mp.matrix([exact(row) for row in p.cov])
        shift = mp.matrix([b - a for a, b in zip(exact(p.mean), exact(q.mean), strict=True)])
        size = mp.sqrt((shift.T * mp.lu_solve(cov, shift))[0])
        plane = half_plane_curve(mp.mpf(0), mp.mpf(1), size, mp.mpf(1), detour=detour)

    def curve(t: Any) -> list[Any]:
        m, s = plane(t)
        mean, spread = shift * (m / size), cov + (s * s - 1) / size**2 * (shift * shift.T)
        return [*mean, *spread]

    def metric(x: list[Any], dx: list[Any]) -> Any:
        spread, dm = mp.matrix(d, d), mp.matrix(dx[:d])
        change = mp.matrix(d, d)
        for k in range(d * d):
            spread[k // d, k % d], change[k // d, k % d] = x[d + k], dx[d + k]
        inverse = spread**-1
        moved = inverse * change
        twice = moved * moved
        return (dm.T * inverse * dm)[0] + mp.fsum(twice[k, k] for k in range(d)) / 2

    return curve_length(curve, metric, pieces=4 if detour else 1)


def categorical_length(p: Sequence[Any], q: Sequence[Any], *, detour: float = 0.0) -> Any:
    """Length of the great circle between two lists of positive probabilities, from the metric sum dp^2 / p.

    With ``detour`` the curve passes beside it, by way of other probabilities.
    """
    with mp.workdps(DIGITS):
        a, b = ([mp.sqrt(v) for v in map(mp.mpf, side)] for side in (p, q))
        chord = mp.sqrt(mp.fsum((v - w) ** 2 for v, w in zip(a, b, strict=True)))
        arc = 2 * mp.atan2(chord, mp.sqrt(mp.fsum((v + w) ** 2 for v, w in zip(a, b, strict=True))))

    def curve(t: Any) -> list[Any]:
        w = clock(t)
        roots = [(mp.sin((1 - w) * arc) * v + mp.sin(w * arc) * z) / mp.sin(arc) for v, z in zip(a, b, strict=True)]
        aside = [mp.exp(detour * (-1) ** k * mp.sin(mp.pi * t) ** 2) for k in range(len(roots))]
        masses = [r * r * x for r, x in zip(roots, aside, strict=True)]
        total = mp.fsum(masses)
        return [m / total for m in masses]

    def metric(x: list[Any], dx: list[Any]) -> Any:
        return mp.fsum(v * v / u for u, v in zip(x, dx, strict=True))

    return curve_length(curve, metric, pieces=4 if detour else 1)


# ---------------------------------------------------------------------------------- pairs at a distance that is wanted


def normals_at(distance: float, d: int, rng: np.random.Generator) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """Two normals with d independent coordinates about ``distance`` apart, in mean and in variance."""
    share = rng.dirichlet(np.ones(d)) ** 0.5 * distance
    mean, std = rng.standard_normal(d), np.exp(0.3 * rng.standard_normal(d))
    other = std * np.exp(0.4 * share * rng.choice([-1, 1], d))  # of the sqrt(2) / 2 that make up all of the share
    with mp.workdps(DIGITS):
        steps = [
            mp.sqrt(4 * s * r * (mp.cosh(x / mp.sqrt(2)) - 1) - 2 * (s - r) ** 2)
            for s, r, x in zip(exact(std), exact(other), exact(share), strict=True)
        ]
    return DiagonalGaussian(mean, std**2), DiagonalGaussian(mean + np.array(steps, dtype=float), other**2)


def shared_at(distance: float, d: int, rng: np.random.Generator) -> SharedCovarianceGaussian:
    """Two normals of one covariance ``distance`` apart among all normals: means 2 sqrt2 sinh(distance / 2 sqrt2)."""
    cov, mean, direction = random_covariance(d, rng), rng.standard_normal(d), rng.standard_normal(d)
    direction /= np.sqrt(direction @ np.linalg.solve(cov, direction))
    step = 2 * 2**0.5 * np.sinh(distance / (2 * 2**0.5))
    return SharedCovarianceGaussian([mean, mean + step * direction], cov)


def categoricals_at(distance: float, rng: np.random.Generator) -> tuple[Categorical, Categorical]:
    """Two categorical distributions over 5 outcomes ``distance`` (at most 3) apart on one great circle."""
    weights = np.exp(0.3 * rng.standard_normal((2, 5))) * [[1, 1e-6, 1e-6, 1, 1e-6], [1e-6, 1, 1e-6, 1e-6, 1]]
    a, b = (np.sqrt(w / w.sum()) for w in weights)
    arc = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    assert distance / 2 < arc
    end = np.sin(arc - distance / 2) * a + np.sin(distance / 2) * b
    return Categorical.from_counts(a**2), Categorical.from_counts(end**2)


# ------------------------------------------------------------------------------------------------- random cases


def random_covariance(d: int, rng: np.random.Generator) -> np.ndarray:
    a = rng.standard_normal((d, 2 * d))
    return a @ a.T / (2 * d)


def _random_means(n: int, rng: np.random.Generator, d: int, spread: float) -> np.ndarray:
    return rng.standard_normal(d) + spread * rng.standard_normal((n, d))


def _random_variances(n: int, rng: np.random.Generator, d: int, spread: float) -> np.ndarray:
    return np.exp(rng.standard_normal(d) + spread * rng.standard_normal((n, d)))


def _random_covariances(n: int, rng: np.random.Generator, d: int, spread: float) -> np.ndarray:
    base, change = random_covariance(d, rng), [random_covariance(d, rng) for _ in range(n)]
    return base + min(spread, 1.0) * np.array(change)


MAKERS: dict[type, Callable[[int, np.random.Generator, int, float], Any]] = {
    DiagonalGaussian: lambda *a: DiagonalGaussian(_random_means(*a), _random_variances(*a)),
    SharedCovarianceGaussian: lambda *a: SharedCovarianceGaussian(_random_means(*a), random_covariance(a[2], a[1])),
    Gaussian: lambda *a: Gaussian(_random_means(*a), _random_covariances(*a)),
    IsotropicGaussian: lambda *a: IsotropicGaussian(_random_means(*a), _random_variances(a[0], a[1], 1, a[3])[:, 0]),
    CenteredGaussian: lambda *a: CenteredGaussian(_random_covariances(*a)),
    LowRankGaussian: lambda n, rng, d, spread: LowRankGaussian(
        _random_means(n, rng, d, spread),
        spread * rng.normal(size=(n, d, 2)) + 0.5,
        np.exp(0.3 * rng.normal(size=d)),
    ),
    Categorical: lambda n, rng, d, spread: Categorical.from_logits(_random_means(n, rng, d + 2, spread)),
    PointMass: lambda *a: PointMass(_random_means(*a)),
}
"""For each family a function (n, rng, d, spread) to a batch, as :func:`random_batch` documents it.

A family listed here takes part in the tests of all measures (test_distances.py) and, if its parameters may be tensors,
in those of torch (test_torch.py).
"""


def random_batch(family: type, n: int, rng: np.random.Generator, *, d: int = 3, spread: float = 1.0) -> Any:
    """A batch of n members, ``spread`` apart; small spreads give close neighbors."""
    if family not in MAKERS:
        raise TypeError(f"no random members of {family}; add it to MAKERS")
    return MAKERS[family](n, rng, d, spread)


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
