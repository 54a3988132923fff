"""Members of every exponential family, and numerical derivatives, for the tests of dual geometry and curvature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from oracles import random_covariance

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
    SharedCovarianceGaussian,
    VonMisesFisher,
)


def _vectors(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return 0.7 * rng.standard_normal((n, d))


def _positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.exp(0.5 * rng.standard_normal(shape))


def _covariances(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return np.array([random_covariance(d, rng) + 0.3 * np.eye(d) for _ in range(n)])


def _directions(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


MAKERS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "DiagonalGaussian": lambda r, n: DiagonalGaussian(_vectors(r, n, 2), _positive(r, n, 2)),
    "IsotropicGaussian": lambda r, n: IsotropicGaussian(_vectors(r, n, 3), _positive(r, n)),
    "Gaussian": lambda r, n: Gaussian(_vectors(r, n, 2), _covariances(r, n, 2)),
    "CenteredGaussian": lambda r, n: CenteredGaussian(_covariances(r, n, 3)),
    "SharedCovarianceGaussian": lambda r, n: SharedCovarianceGaussian(_vectors(r, n, 3), _covariances(r, 1, 3)[0]),
    "LogNormal": lambda r, n: LogNormal(_vectors(r, n, 1)[:, 0], _positive(r, n)),
    "Categorical": lambda r, n: Categorical.from_logits(_vectors(r, n, 4)),
    "Multinomial": lambda r, n: Multinomial.from_logits(_vectors(r, n, 4), 5),
    "Bernoulli": lambda r, n: Bernoulli(r.uniform(0.1, 0.9, n)),
    "Binomial": lambda r, n: Binomial(r.uniform(0.1, 0.9, n), 7),
    "Geometric": lambda r, n: Geometric(r.uniform(0.1, 0.9, n)),
    "Poisson": lambda r, n: Poisson(_positive(r, n)),
    "Exponential": lambda r, n: Exponential(_positive(r, n)),
    "Gamma": lambda r, n: Gamma(_positive(r, n), _positive(r, n)),
    "Beta": lambda r, n: Beta(_positive(r, n), _positive(r, n)),
    "Dirichlet": lambda r, n: Dirichlet(_positive(r, n, 3)),
    "InverseGaussian": lambda r, n: InverseGaussian(_positive(r, n), _positive(r, n)),
    "VonMisesFisher": lambda r, n: VonMisesFisher(_directions(r, n, 3), _positive(r, n)),
}
"""A random batch of n members of each exponential family; ``SharedCovarianceGaussian`` with a covariance of its own."""


def members(name: str, n: int = 3, *, seed: int = 0) -> Any:
    return MAKERS[name](np.random.default_rng(seed), n)


def difference(p: Any, q: Any) -> float:
    """Largest difference of the parameters of two batches of one family."""
    assert type(p) is type(q)
    assert p.batch_shape == q.batch_shape
    return max(float(np.abs(getattr(p, f) - getattr(q, f)).max()) for f in p.event_axes)


def derivative(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, h: float) -> np.ndarray:
    """Derivatives of f at points x (..., n), on a new last axis, by central differences of order six.

    f takes points (..., n) to arrays (..., *shape).
    """
    columns = []
    for e in np.eye(x.shape[-1]):
        slopes = [(f(x + s * e) - f(x - s * e)) / (2 * s) for s in (h, h / 2, h / 4)]
        columns.append((slopes[0] - 20 * slopes[1] + 64 * slopes[2]) / 45)
    return np.stack(columns, axis=-1)
