"""The families that tests/test_family_geometry.py puts through its generic tests, one row of a table for each.

To add a family, add a row to ``CASES``; nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from infogeo import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Gamma,
    Gaussian,
    Geometric,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    Multinomial,
    Poisson,
    VonMisesFisher,
    Weibull,
    fisher_information,
)

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Chart:
    """Other, unconstrained coordinates of a family: two maps of arrays (..., n), the second inverse to the first."""

    to: Map
    """from ``p.coordinates()`` to the chart"""
    back: Map
    """from the chart to ``p.coordinates()``"""


@dataclass(frozen=True)
class FamilyCase:
    """What the generic tests need to know about a family."""

    family: type
    random: Callable[[int, np.random.Generator, float], Any]
    """(n, rng, spread) to a batch of shape (n,): members about ``spread`` apart, close neighbors for a small one"""
    chart: Chart
    """unconstrained coordinates, in which the shortest path is sought and the metric is computed a second time"""
    scipy: Callable[[Any], Any] | None = None
    """one member to the frozen distribution of scipy.stats: log_prob, entropy, and samples of univariate ones"""
    univariate: bool = True
    """whether samples are numbers"""
    discrete: bool = False
    total: Callable[[Any], float] | None = None
    """one member to the sum or integral of exp(log_prob); only where ``scipy`` does not give the support"""
    closed: bool = True
    """whether the geodesics have a closed form; otherwise they are found by an iteration"""
    accuracy: float = 1e-9
    """relative error that geodesics, exp and log may have"""
    path_tolerance: float = 1e-5
    """by how much the shortest path of the tests may be longer than the distance, relative"""
    spread: float = 0.7
    """how far apart the pairs of most tests are"""

    def pairs(self, n: int, seed: int, *, spread: float | None = None) -> tuple[Any, Any]:
        """Two batches of n members, the same for the same seed."""
        batch = self.random(2 * n, np.random.default_rng(seed), self.spread if spread is None else spread)
        return batch[:n], batch[n:]


# ------------------------------------------------------------------------------------------------------- charts


def split_chart(*parts: tuple[Map, Map]) -> Chart:
    """Chart that maps each coordinate by its own pair of functions."""

    def to(x: np.ndarray) -> np.ndarray:
        return np.stack([f(x[..., i]) for i, (f, _) in enumerate(parts)], axis=-1)

    def back(y: np.ndarray) -> np.ndarray:
        return np.stack([g(y[..., i]) for i, (_, g) in enumerate(parts)], axis=-1)

    return Chart(to, back)


def _same(x: np.ndarray) -> np.ndarray:
    return x


SAME: tuple[Map, Map] = (_same, _same)
LOG: tuple[Map, Map] = (np.log, np.exp)
LOGIT: tuple[Map, Map] = (lambda p: np.log(p) - np.log1p(-p), lambda y: 1 / (1 + np.exp(-y)))
LOGS = Chart(np.log, np.exp)
"""all coordinates positive, any number of them"""


def _log_ratios(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log(1 - p.sum(axis=-1, keepdims=True))


def _from_log_ratios(y: np.ndarray) -> np.ndarray:
    e = np.exp(y)
    return e / (1 + e.sum(axis=-1, keepdims=True))


SIMPLEX = Chart(_log_ratios, _from_log_ratios)
"""coordinates are the probabilities of all outcomes but the last"""


# ------------------------------------------------------------------------------------- the shortest path, by search


def shortest_path_length(p: Any, q: Any, chart: Chart, *, coefficients: int = 9, nodes: int = 24) -> float:
    """Length of the shortest curve between two single members among those that are polynomials in a chart.

    The energy of the curve, by Gauss-Legendre quadrature with the Fisher information alone, is minimised over the
    coefficients (Gauss-Newton), and the length of the result is taken with twice as many nodes. Up to the error of the
    quadrature this is an upper bound of the distance; for smooth manifolds it converges exponentially.
    """
    from scipy.optimize import least_squares

    start, end = chart.to(p.coordinates()), chart.to(q.coordinates())
    n = start.shape[-1]
    legendre = np.polynomial.legendre.Legendre.basis
    bump = np.polynomial.Polynomial([0.0, 1.0, -1.0])
    shapes = [bump * legendre(k, domain=[0, 1]).convert(kind=np.polynomial.Polynomial) for k in range(coefficients)]

    def speeds(c: np.ndarray, count: int) -> np.ndarray:
        """(..., count, n): square roots of weights times velocities in an orthonormal frame, for c (..., K, n)."""
        t, w = np.polynomial.legendre.leggauss(count)
        t, w = (1 + t) / 2, w / 2
        values, slopes = np.stack([s(t) for s in shapes]), np.stack([s.deriv()(t) for s in shapes])
        y = start + t[:, None] * (end - start) + np.einsum("kq,...kn->...qn", values, c)
        dy = (end - start) + np.einsum("kq,...kn->...qn", slopes, c)
        h = 1e-5
        dx = (chart.back(y + h * dy) - chart.back(y - h * dy)) / (2 * h)
        frame = np.linalg.cholesky(fisher_information(p.with_coordinates(chart.back(y))))
        return np.sqrt(w)[:, None] * np.einsum("...qij,...qi->...qj", frame, dx)

    def residual(c: np.ndarray) -> np.ndarray:
        return speeds(c.reshape(coefficients, n), nodes).ravel()

    def jacobian(c: np.ndarray) -> np.ndarray:
        h = 1e-3
        steps = h * np.eye(c.size)
        both = speeds(np.concatenate([c + steps, c - steps]).reshape(-1, coefficients, n), nodes)
        both = both.reshape(2, c.size, -1)
        return ((both[0] - both[1]) / (2 * h)).T

    found = least_squares(residual, np.zeros(coefficients * n), jac=jacobian, xtol=1e-12, ftol=1e-14, gtol=1e-12)
    fine = speeds(found.x.reshape(coefficients, n), 2 * nodes)
    _, w = np.polynomial.legendre.leggauss(2 * nodes)
    return float((np.sqrt(w / 2) * np.linalg.norm(fine, axis=-1)).sum())


# -------------------------------------------------------------------------------------------------------- the table



def near_each_other(n: int, rng: np.random.Generator, spread: float, *, around: float = 1.0) -> np.ndarray:
    """Numbers (n,) about ``spread`` apart, around a random center."""
    return around * rng.standard_normal() + spread * rng.standard_normal(n)


def positive(n: int, rng: np.random.Generator, spread: float, *, around: float = 1.0) -> np.ndarray:
    """Positive numbers (n,) whose logarithms are about ``spread`` apart."""
    return np.exp(near_each_other(n, rng, spread, around=around))


def proportion(n: int, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Probabilities (n,) whose logits are about ``spread`` apart."""
    return 1 / (1 + np.exp(-near_each_other(n, rng, spread, around=0.5)))


def compositions(total: int) -> np.ndarray:
    """All ways to write a number as a sum of three that are not negative."""
    return np.array([(i, j, total - i - j) for i in range(total + 1) for j in range(total + 1 - i)])


def _stats() -> Any:
    from scipy import stats

    return stats


CASES: list[FamilyCase] = [
    FamilyCase(
        Exponential, lambda n, rng, s: Exponential(positive(n, rng, s)), LOGS,
        scipy=lambda p: _stats().expon(scale=1 / p.rate),
    ),
    FamilyCase(
        LogNormal, lambda n, rng, s: LogNormal(near_each_other(n, rng, s), positive(n, rng, s, around=0.5)),
        split_chart(SAME, LOG), scipy=lambda p: _stats().lognorm(np.sqrt(p.var), scale=np.exp(p.mean)),
    ),
    FamilyCase(
        Weibull, lambda n, rng, s: Weibull(positive(n, rng, s, around=0.5), positive(n, rng, s)), LOGS,
        scipy=lambda p: _stats().weibull_min(p.shape, scale=p.scale),
    ),
    FamilyCase(
        InverseGaussian, lambda n, rng, s: InverseGaussian(positive(n, rng, s, around=0.5), positive(n, rng, s)), LOGS,
        scipy=lambda p: _stats().invgauss(p.mean / p.shape, scale=p.shape),
    ),
    FamilyCase(
        Bernoulli, lambda n, rng, s: Bernoulli(proportion(n, rng, s)), split_chart(LOGIT), discrete=True,
        scipy=lambda p: _stats().bernoulli(p.prob),
    ),
    FamilyCase(
        Binomial, lambda n, rng, s: Binomial(proportion(n, rng, s), 5), split_chart(LOGIT), discrete=True,
        scipy=lambda p: _stats().binom(p.trials, p.prob),
    ),
    FamilyCase(
        Geometric, lambda n, rng, s: Geometric(proportion(n, rng, s)), split_chart(LOGIT), discrete=True,
        scipy=lambda p: _stats().geom(p.prob, loc=-1),
    ),
    FamilyCase(
        Poisson, lambda n, rng, s: Poisson(3 * positive(n, rng, s, around=0.5)), LOGS, discrete=True,
        scipy=lambda p: _stats().poisson(p.rate),
    ),
    FamilyCase(
        Multinomial,
        lambda n, rng, s: Multinomial.from_logits(rng.standard_normal(3) + s * rng.standard_normal((n, 3)), 4), SIMPLEX,
        univariate=False, discrete=True, scipy=lambda p: _stats().multinomial(p.trials, p.probs),
        total=lambda p: float(np.exp(p.log_prob(compositions(p.trials))).sum()),
    ),
]


# --------------------------------------------------------------------------------- normals and categoricals


def _halves(d: int, *, last: Map, back: Map) -> Chart:
    """Chart of the coordinates (d means, positive rest): the means as they are, the rest by a pair of functions."""
    return Chart(
        lambda x: np.concatenate([x[..., :d], last(x[..., d:])], axis=-1),
        lambda y: np.concatenate([y[..., :d], back(y[..., d:])], axis=-1),
    )


def log_cholesky_chart(d: int) -> Chart:
    """Lower triangle of a covariance to that of its Cholesky factor with the logarithms of the diagonal."""
    rows, columns = np.tril_indices(d)
    diagonal = rows == columns

    def to(x: np.ndarray) -> np.ndarray:
        cov = np.zeros((*x.shape[:-1], d, d))
        cov[..., rows, columns] = cov[..., columns, rows] = x
        entries = np.linalg.cholesky(cov)[..., rows, columns]
        return np.where(diagonal, np.log(np.where(diagonal, entries, 1.0)), entries)

    def back(y: np.ndarray) -> np.ndarray:
        factor = np.zeros((*y.shape[:-1], d, d))
        factor[..., rows, columns] = np.where(diagonal, np.exp(np.where(diagonal, y, 0.0)), y)
        return (factor @ np.swapaxes(factor, -1, -2))[..., rows, columns]

    return Chart(to, back)


def full_normal_chart(d: int) -> Chart:
    """Mean, and the covariance as in :func:`log_cholesky_chart`."""
    cov = log_cholesky_chart(d)
    return Chart(
        lambda x: np.concatenate([x[..., :d], cov.to(x[..., d:])], axis=-1),
        lambda y: np.concatenate([y[..., :d], cov.back(y[..., d:])], axis=-1),
    )


def random_covariances(n: int, d: int, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Covariances (n, d, d) about ``spread`` apart."""
    base = np.linalg.cholesky(rng.uniform(0.5, 2.0) * (0.8 * np.eye(d) + 0.2))
    change = spread * np.tril(rng.standard_normal((n, d, d)))
    change += np.eye(d) * (np.exp(0.5 * np.diagonal(change, axis1=-2, axis2=-1)) - 1)[..., None, :]
    factor = base @ (np.eye(d) + np.tril(change, -1) * 0.5 + np.eye(d) * change)
    return factor @ np.swapaxes(factor, -1, -2)


CASES += [
    FamilyCase(
        DiagonalGaussian,
        lambda n, rng, s: DiagonalGaussian(
            rng.standard_normal(2) + s * rng.standard_normal((n, 2)), np.exp(0.5 + s * rng.standard_normal((n, 2)))
        ),
        _halves(2, last=np.log, back=np.exp), univariate=False,
        scipy=lambda p: _stats().multivariate_normal(p.mean, np.diag(p.var)),
    ),
    FamilyCase(
        IsotropicGaussian,
        lambda n, rng, s: IsotropicGaussian(
            rng.standard_normal(3) + s * rng.standard_normal((n, 3)), np.exp(0.5 + s * rng.standard_normal(n))
        ),
        _halves(3, last=np.log, back=np.exp), univariate=False,
        scipy=lambda p: _stats().multivariate_normal(p.mean, p.var * np.eye(3)),
    ),
    FamilyCase(
        CenteredGaussian, lambda n, rng, s: CenteredGaussian(random_covariances(n, 2, rng, s)),
        log_cholesky_chart(2), univariate=False,
        scipy=lambda p: _stats().multivariate_normal(np.zeros(2), p.cov),
    ),
    FamilyCase(
        Gaussian, lambda n, rng, s: Gaussian(s * rng.standard_normal((n, 2)), random_covariances(n, 2, rng, s)),
        full_normal_chart(2), univariate=False, closed=False,
        scipy=lambda p: _stats().multivariate_normal(p.mean, p.cov),
    ),
    FamilyCase(
        Categorical,
        lambda n, rng, s: Categorical.from_logits(rng.standard_normal(4) + s * rng.standard_normal((n, 4))), SIMPLEX,
        univariate=False, discrete=True,
        total=lambda p: float(np.exp(p.log_prob(np.arange(p.dimension))).sum()),
    ),
]  # fmt: skip


# ------------------------------------------------------------------------------- families without a closed form


def unit_vectors(n: int, d: int, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Directions (n, d) about ``spread`` apart."""
    x = rng.standard_normal(d) + 0.5 * spread * rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _scipy_dirichlet(p: Any) -> Any:
    """The distribution of scipy.stats, which wants the coordinates of a point along the first axis."""
    frozen = _stats().dirichlet(p.concentration)
    return SimpleNamespace(logpdf=lambda x: frozen.logpdf(np.moveaxis(x, -1, 0)), entropy=frozen.entropy)


CASES += [
    FamilyCase(
        Gamma, lambda n, rng, s: Gamma(2 * positive(n, rng, s, around=0.5), positive(n, rng, s)), LOGS, closed=False,
        scipy=lambda p: _stats().gamma(p.shape, scale=1 / p.rate),
    ),
    FamilyCase(
        Beta, lambda n, rng, s: Beta(2 * positive(n, rng, s, around=0.5), positive(n, rng, s, around=0.5)), LOGS,
        closed=False, scipy=lambda p: _stats().beta(p.alpha, p.beta),
    ),
    FamilyCase(
        Dirichlet, lambda n, rng, s: Dirichlet(2 * np.exp(rng.standard_normal(3) + s * rng.standard_normal((n, 3)))),
        LOGS, univariate=False, closed=False, scipy=_scipy_dirichlet,
    ),
    FamilyCase(
        VonMisesFisher,
        lambda n, rng, s: VonMisesFisher(unit_vectors(n, 3, rng, s), 2 * positive(n, rng, s, around=0.5)),
        split_chart(SAME, SAME, SAME), univariate=False, closed=False,
        scipy=lambda p: _stats().vonmises_fisher(p.mean_direction, float(p.concentration)),
    ),
]  # fmt: skip
