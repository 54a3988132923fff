"""Formulas of the Bernoulli, binomial, multinomial, geometric and Poisson families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo._terms import divergence_terms, log_ratio, root_difference
from infogeo.dispatch._lines import Line, register_line
from infogeo.distances import fisher_rao_distance, hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.families import Family
from infogeo.families.discrete import Bernoulli, Binomial, Geometric, Poisson
from infogeo.families.multinomial import Multinomial
from infogeo.geometry import (
    EXPONENTIAL_MAP,
    FISHER_INFORMATION,
    GEODESIC,
    INNER_PRODUCT,
    LOGARITHM_MAP,
    exponential_map,
    fisher_information,
    geodesic,
    inner_product,
    logarithm_map,
)

Kernel = Callable[[Any, Any], FloatArray]

ROUNDING = 1e-12
"""A geodesic that passes the end of a line by no more than this ends there: what rounding leaves."""


def _register_divergences(family: type[Family], kl: Kernel, jeffreys: Kernel, bhattacharyya: Kernel) -> None:
    def hellinger(p: Any, q: Any) -> FloatArray:
        return np.asarray(np.sqrt(-np.expm1(-bhattacharyya(p, q))))

    kl_divergence.register(family, scratch=16)(kl)
    jeffreys_divergence.register(family, scratch=16)(jeffreys)
    bhattacharyya_distance.register(family, scratch=16)(bhattacharyya)
    hellinger_distance.register(family, scratch=16)(hellinger)


# ------------------------------------------------------------------------------------------- Bernoulli and binomial
#
# On the quarter circle (sqrt p, sqrt(1 - p)) of radius two, or 2 sqrt(n) for n trials.


def _trials(p: Bernoulli | Binomial) -> int:
    return p.trials if isinstance(p, Binomial) else 1


def _gap_two_outcomes(p: Bernoulli | Binomial, q: Bernoulli | Binomial) -> FloatArray:
    a, b = np.sqrt(p.prob * (1 - q.prob)), np.sqrt(q.prob * (1 - p.prob))
    both = np.where(a + b > 0, a + b, 1.0)  # zero for equal members at an end
    sine = (q.prob - p.prob) / both
    cosine = np.sqrt(p.prob) * np.sqrt(q.prob) + np.sqrt(1 - p.prob) * np.sqrt(1 - q.prob)
    return np.asarray(2 * np.sqrt(_trials(p)) * np.arctan2(sine, cosine))


def _speed_two_outcomes(p: Bernoulli | Binomial) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(_trials(p)) / (np.sqrt(p.prob) * np.sqrt(1 - p.prob)))


def _move_two_outcomes(p: Bernoulli | Binomial, step: FloatArray) -> FloatArray:
    half = step / (2 * np.sqrt(_trials(p)))
    inside = np.abs(half) <= np.pi / 2 + ROUNDING
    turn = np.where(inside, half, 0.0)
    a, b = np.sqrt(p.prob), np.sqrt(1 - p.prob)
    sine, cosine = a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)
    inside = inside & (sine >= -ROUNDING) & (cosine >= -ROUNDING)
    # from the nearer end, so that a probability close to one is right to the last digit of its complement
    prob = np.where(sine < cosine, np.maximum(sine, 0.0) ** 2, 1 - np.minimum(np.maximum(cosine, 0.0), 1.0) ** 2)
    return np.where(inside, prob, np.nan)


def _kl_two_outcomes(p: Bernoulli | Binomial, q: Bernoulli | Binomial) -> FloatArray:
    gap = q.prob - p.prob
    terms = divergence_terms(p.prob, q.prob, gap) + divergence_terms(1 - p.prob, 1 - q.prob, -gap)
    return np.asarray(_trials(p) * terms)


def _jeffreys_two_outcomes(p: Bernoulli | Binomial, q: Bernoulli | Binomial) -> FloatArray:
    gap = p.prob - q.prob
    logits = log_ratio(p.prob, q.prob, gap) + log_ratio(1 - q.prob, 1 - p.prob, gap)
    return np.asarray(_trials(p) * gap * logits)


def _complement(p: Any, q: Any) -> FloatArray:
    """1 - sqrt(p q) - sqrt((1 - p)(1 - q)) for probabilities, from the differences of the roots."""
    total = np.sqrt(1 - p.prob) + np.sqrt(1 - q.prob)
    failure = (q.prob - p.prob) / np.where(total > 0, total, 1.0)
    return np.asarray(0.5 * (root_difference(p.prob, q.prob) ** 2 + failure**2))


def _bhattacharyya_two_outcomes(p: Bernoulli | Binomial, q: Bernoulli | Binomial) -> FloatArray:
    complement = _complement(p, q)
    near = complement < 0.5
    affinity = np.sqrt(p.prob) * np.sqrt(q.prob) + np.sqrt(1 - p.prob) * np.sqrt(1 - q.prob)
    with np.errstate(divide="ignore"):
        far = -np.log(np.where(near, 1.0, affinity))
    return np.asarray(_trials(p) * np.where(near, -np.log1p(-np.where(near, complement, 0.0)), far))


_TWO_OUTCOMES = Line(gap=_gap_two_outcomes, speed=_speed_two_outcomes, move=_move_two_outcomes)
for _family in (Bernoulli, Binomial):
    register_line(_family, _TWO_OUTCOMES, scratch=8)
    _register_divergences(_family, _kl_two_outcomes, _jeffreys_two_outcomes, _bhattacharyya_two_outcomes)


# -------------------------------------------------------------------------------------------------------- geometric
#
# In the chart phi = 2 artanh sqrt(1 - p): cosh(phi/2) = 1/sqrt(p), sinh(phi/2) = sqrt((1 - p)/p), and phi grows as p
# falls.


def _gap_geometric(p: Geometric, q: Geometric) -> FloatArray:
    total = np.sqrt(1 - p.prob) + np.sqrt(1 - q.prob)
    sine = (p.prob - q.prob) / np.where(total > 0, total, 1.0) / np.sqrt(p.prob) / np.sqrt(q.prob)
    return np.asarray(2 * np.arcsinh(sine))


def _speed_geometric(p: Geometric) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(-1 / (p.prob * np.sqrt(1 - p.prob)))


def _move_geometric(p: Geometric, step: FloatArray) -> FloatArray:
    root = np.sqrt(1 - p.prob)
    # e^(phi/2) and e^(-phi/2) at the start, times sqrt(p); then moved by half the step
    rising, falling = 1 + root, p.prob / (1 + root)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        up, down = rising * np.exp(step / 2), falling * np.exp(-step / 2)
        inside = up - down >= -ROUNDING * up
        prob = p.prob * (2 / (up + down)) ** 2
    return np.where(inside & (prob > 0), np.minimum(prob, 1.0), np.nan)


def _kl_geometric(p: Geometric, q: Geometric) -> FloatArray:
    gap = q.prob - p.prob
    terms = divergence_terms(p.prob, q.prob, gap) + divergence_terms(1 - p.prob, 1 - q.prob, -gap)
    with np.errstate(over="ignore"):
        return np.asarray(terms / p.prob)


def _jeffreys_geometric(p: Geometric, q: Geometric) -> FloatArray:
    gap = q.prob - p.prob
    with np.errstate(over="ignore"):
        return np.asarray(gap / p.prob / q.prob * log_ratio(1 - p.prob, 1 - q.prob, gap))


def _bhattacharyya_geometric(p: Geometric, q: Geometric) -> FloatArray:
    # the sum is A / (A + c) with A = sqrt(p q) and the complement c
    with np.errstate(over="ignore"):
        return np.asarray(np.log1p(_complement(p, q) / np.sqrt(p.prob) / np.sqrt(q.prob)))


register_line(Geometric, Line(gap=_gap_geometric, speed=_speed_geometric, move=_move_geometric), scratch=8)
_register_divergences(Geometric, _kl_geometric, _jeffreys_geometric, _bhattacharyya_geometric)


# ---------------------------------------------------------------------------------------------------------- Poisson


def _speed_poisson(p: Poisson) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(p.rate))


def _move_poisson(p: Poisson, step: FloatArray) -> FloatArray:
    start = np.sqrt(p.rate)
    with np.errstate(over="ignore", invalid="ignore"):
        root = start + step / 2
        inside = root >= -ROUNDING * start
        return np.where(inside, np.maximum(root, 0.0) ** 2, np.nan)


register_line(
    Poisson,
    Line(gap=lambda p, q: 2 * root_difference(q.rate, p.rate), speed=_speed_poisson, move=_move_poisson),
    scratch=8,
)


def _jeffreys_poisson(p: Poisson, q: Poisson) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray((p.rate - q.rate) * log_ratio(p.rate, q.rate))


_register_divergences(
    Poisson,
    lambda p, q: divergence_terms(p.rate, q.rate),
    _jeffreys_poisson,
    lambda p, q: root_difference(p.rate, q.rate) ** 2 / 2,
)


# ------------------------------------------------------------------------------------------------------ multinomial


def _repeated(measure: Kernel, power: float) -> Kernel:
    def kernel(p: Multinomial, q: Multinomial) -> FloatArray:
        return np.asarray(p.trials**power * measure(p.categorical, q.categorical))

    return kernel


fisher_rao_distance.register(Multinomial, scratch=14)(_repeated(fisher_rao_distance, 0.5))
_register_divergences(
    Multinomial,
    _repeated(kl_divergence, 1.0),
    _repeated(jeffreys_divergence, 1.0),
    _repeated(bhattacharyya_distance, 1.0),
)


@FISHER_INFORMATION.register(Multinomial)
def _information_multinomial(p: Multinomial) -> FloatArray:
    return p.trials * fisher_information(p.categorical)


@INNER_PRODUCT.register(Multinomial)
def _inner_product_multinomial(p: Multinomial, v: FloatArray, w: FloatArray) -> FloatArray:
    return p.trials * inner_product(p.categorical, v, w)


@EXPONENTIAL_MAP.register(Multinomial)
def _exponential_map_multinomial(p: Multinomial, velocity: FloatArray) -> Multinomial:
    return Multinomial(exponential_map(p.categorical, velocity).log_probs, p.trials)


@LOGARITHM_MAP.register(Multinomial)
def _logarithm_map_multinomial(p: Multinomial, q: Multinomial) -> FloatArray:
    return logarithm_map(p.categorical, q.categorical)


@GEODESIC.register(Multinomial)
def _geodesic_multinomial(p: Multinomial, q: Multinomial, t: FloatArray) -> Multinomial:
    return Multinomial(geodesic(p.categorical, q.categorical, t).log_probs, p.trials)
