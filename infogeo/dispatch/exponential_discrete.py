"""Discrete exponential families: one probability, several outcomes, counts without a bound."""

from __future__ import annotations

from typing import Any

import numpy as np

from infogeo import _alpha_simplex
from infogeo._checks import FloatArray
from infogeo._exponential import EXPONENTIAL_FAMILY, ExponentialFamily
from infogeo.families import Bernoulli, Binomial, Categorical, Geometric, Multinomial, Poisson


def last(x: FloatArray) -> FloatArray:
    """With an axis of length one at the end."""
    return np.asarray(x)[..., None]


def square(x: FloatArray) -> FloatArray:
    """As matrices of one row and column."""
    return np.asarray(x)[..., None, None]


def cube(x: FloatArray) -> FloatArray:
    """As arrays of three axes of length one."""
    return np.asarray(x)[..., None, None, None]


def negative(like: Any, x: FloatArray) -> Any:
    """Whether the first entry is negative."""
    return x[..., 0] < 0


def positive(like: Any, x: FloatArray) -> Any:
    """Whether all entries are positive."""
    return (x > 0).all(axis=-1)


def anything(like: Any, x: FloatArray) -> Any:
    """True for all rows."""
    return np.ones(x.shape[:-1], dtype=bool)


# --------------------------------------------------------------------------------- one probability: theta = log p/(1-p)


def _logit(prob: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(prob) - np.log1p(-prob))


def _logistic(x: FloatArray) -> FloatArray:
    from scipy.special import expit

    return np.asarray(expit(x))


def _arc(p: Any, q: Any, t: FloatArray, alpha: float) -> FloatArray:
    """Probabilities (..., T) on the alpha-geodesic of two-outcome distributions."""

    def logs(prob: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.stack([np.log(prob), np.log1p(-prob)], axis=-1)

    return np.asarray(np.exp(_alpha_simplex.geodesics(logs(p.prob), logs(q.prob), t, alpha)[..., 0]))


def _two_outcomes(trials: Any, make: Any) -> ExponentialFamily:
    """Bernoulli (one trial) and binomial; ``trials`` reads their number, ``make`` builds (like, prob)."""
    return ExponentialFamily(
        natural=lambda p: last(_logit(p.prob)),
        expectation=lambda p: last(trials(p) * p.prob),
        log_partition=lambda p: -trials(p) * np.log1p(-p.prob),
        metric=lambda p: square(trials(p) * p.prob * (1 - p.prob)),
        cubic=lambda p: cube(trials(p) * p.prob * (1 - p.prob) * (1 - 2 * p.prob)),
        from_natural=lambda like, x: make(like, _logistic(x[..., 0])),
        natural_domain=anything,
        natural_wanted="any number",
        from_expectation=lambda like, y: make(like, y[..., 0] / trials(like)),
        expectation_domain=lambda like, y: (y[..., 0] >= 0) & (y[..., 0] <= trials(like)),
        expectation_wanted="a mean from 0 to the number of trials",
        regular=lambda p: (p.prob > 0) & (p.prob < 1),
        alpha_geodesic=lambda p, q, t, alpha: make(p, _arc(p, q, t, alpha)),
    )


BERNOULLI = _two_outcomes(lambda p: 1, lambda like, prob: Bernoulli(prob))
BINOMIAL = _two_outcomes(lambda p: p.trials, lambda like, prob: Binomial(prob, like.trials))


# ------------------------------------------------------------------------------------------- categorical, multinomial


def _cut(p: Any) -> FloatArray:
    return np.asarray(np.exp(p.log_probs[..., :-1]))


def _categorical_metric(probs: FloatArray) -> FloatArray:
    return np.asarray(probs[..., :, None] * np.eye(probs.shape[-1]) - probs[..., :, None] * probs[..., None, :])


def _categorical_cubic(probs: FloatArray) -> FloatArray:
    identity = np.eye(probs.shape[-1])
    i, j, k = probs[..., :, None, None], probs[..., None, :, None], probs[..., None, None, :]
    pairs = identity[:, :, None] * i * k + identity[:, None, :] * i * j + identity[None, :, :] * j * i
    return np.asarray(2 * i * j * k - pairs + i * identity[:, :, None] * identity[None, :, :])


def _with_reference(theta: FloatArray) -> FloatArray:
    return np.concatenate([theta, np.zeros((*theta.shape[:-1], 1))], axis=-1)


def _with_rest(probs: FloatArray) -> FloatArray:
    rest = 1 - probs.sum(axis=-1, keepdims=True)
    return np.concatenate([probs, np.maximum(rest, 0.0)], axis=-1)  # the domain allows -1e-12


def _blend(p: Any, q: Any, t: FloatArray) -> FloatArray:
    a, b = np.exp(p.log_probs)[..., None, :], np.exp(q.log_probs)[..., None, :]
    return np.asarray((1 - t[:, None]) * a + t[:, None] * b)


def _outcomes(trials: Any, from_logs: Any, from_probs: Any) -> ExponentialFamily:
    """Categorical (one trial) and multinomial; the builders take (like, scores) and (like, probabilities)."""

    def reachable(like: Any, y: FloatArray) -> Any:
        return (y >= 0).all(axis=-1) & (y.sum(axis=-1) <= trials(like) * (1 + 1e-12))

    return ExponentialFamily(
        natural=lambda p: p.log_probs[..., :-1] - p.log_probs[..., -1:],
        expectation=lambda p: trials(p) * _cut(p),
        log_partition=lambda p: -trials(p) * p.log_probs[..., -1],
        metric=lambda p: trials(p) * _categorical_metric(_cut(p)),
        cubic=lambda p: trials(p) * _categorical_cubic(_cut(p)),
        from_natural=lambda like, x: from_logs(like, _with_reference(x)),
        natural_domain=anything,
        natural_wanted="any vector",
        from_expectation=lambda like, y: from_probs(like, _with_rest(y / trials(like))),
        expectation_domain=reachable,
        expectation_wanted="non-negative means of all outcomes but the last, of sum at most the number of trials",
        regular=lambda p: np.isfinite(p.log_probs).all(axis=-1),
        mixture=lambda p, q, t: from_probs(p, _blend(p, q, t)),
        alpha_geodesic=lambda p, q, t, alpha: from_logs(
            p, _alpha_simplex.geodesics(p.log_probs, q.log_probs, t, alpha)
        ),
    )


CATEGORICAL = _outcomes(
    lambda p: 1, lambda like, x: Categorical.from_logits(x), lambda like, y: Categorical.from_probs(y)
)
MULTINOMIAL = _outcomes(
    lambda p: p.trials,
    lambda like, x: Multinomial.from_logits(x, like.trials),
    lambda like, y: Multinomial.from_probs(y, like.trials),
)


# ------------------------------------------------------------------------------------------------ one rate, one count


GEOMETRIC = ExponentialFamily(
    natural=lambda p: last(np.log1p(-p.prob)),
    expectation=lambda p: last((1 - p.prob) / p.prob),
    log_partition=lambda p: -np.log(p.prob),
    metric=lambda p: square((1 - p.prob) / p.prob**2),
    cubic=lambda p: cube((1 - p.prob) * (2 - p.prob) / p.prob**3),
    from_natural=lambda like, x: Geometric(-np.expm1(x[..., 0])),
    natural_domain=negative,
    natural_wanted="log(1 - p), a negative number",
    from_expectation=lambda like, y: Geometric(1 / (1 + y[..., 0])),
    expectation_domain=lambda like, y: y[..., 0] >= 0,
    expectation_wanted="a mean of at least 0",
    regular=lambda p: p.prob < 1,
)

POISSON = ExponentialFamily(
    natural=lambda p: last(np.log(p.rate)),
    expectation=lambda p: last(p.rate),
    log_partition=lambda p: p.rate.copy(),
    metric=lambda p: square(p.rate),
    cubic=lambda p: cube(p.rate),
    from_natural=lambda like, x: Poisson(np.exp(x[..., 0])),
    natural_domain=lambda like, x: np.abs(x[..., 0]) < 700,
    natural_wanted="log rate, between -700 and 700 so that the rate is a float64 number",
    from_expectation=lambda like, y: Poisson(y[..., 0]),
    expectation_domain=positive,
    expectation_wanted="a positive mean",
)

for _family, _record in (
    (Bernoulli, BERNOULLI),
    (Binomial, BINOMIAL),
    (Categorical, CATEGORICAL),
    (Multinomial, MULTINOMIAL),
    (Geometric, GEOMETRIC),
    (Poisson, POISSON),
):
    EXPONENTIAL_FAMILY.register(_family)(lambda p, record=_record: record)
