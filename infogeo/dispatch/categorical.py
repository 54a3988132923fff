"""Geometry of categorical distributions: the probability simplex, in the coordinates of its first V - 1 probabilities.

Computed with NumPy: a tensor on the host is read as an array, a tensor that records a gradient or lives on another
device is refused.
"""

from __future__ import annotations

import numpy as np

from infogeo._checks import FloatArray, as_float_array
from infogeo.errors import DomainError
from infogeo.families import Categorical
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, INNER_PRODUCT, LOGARITHM_MAP
from infogeo.manifolds import simplex


def _probs(p: Categorical) -> FloatArray:
    return np.asarray(np.exp(as_float_array("log_probs", p.log_probs, finite=False)))


def _interior(p: Categorical) -> FloatArray:
    probs = _probs(p)
    if (probs == 0).any():
        where = ", ".join(str(int(i)) for i in np.argwhere(probs == 0)[0])
        raise DomainError(
            f"Categorical: the probability of outcome ({where}) is zero; at the border of the simplex the Fisher "
            "metric is infinite, smooth the distribution (Categorical.from_counts with a pseudocount) or leave the "
            "outcome out"
        )
    return probs


def _all_rates(velocity: FloatArray) -> FloatArray:
    return np.concatenate([velocity, -velocity.sum(axis=-1, keepdims=True)], axis=-1)


@FISHER_INFORMATION.register(Categorical)
def _information(p: Categorical) -> FloatArray:
    probs = _interior(p)
    with np.errstate(over="ignore"):
        inverse = 1 / probs
    if not np.isfinite(inverse).all():
        raise DomainError("fisher_information: a probability is below 1e-308, and its inverse too large for float64")
    return np.asarray(inverse[..., :-1, None] * np.eye(p.dimension - 1) + inverse[..., -1:, None])


@INNER_PRODUCT.register(Categorical)
def _inner(p: Categorical, v: FloatArray, w: FloatArray) -> FloatArray:
    roots = np.sqrt(_interior(p))
    return np.asarray((_all_rates(v) / roots * (_all_rates(w) / roots)).sum(axis=-1))


@EXPONENTIAL_MAP.register(Categorical)
def _exp(p: Categorical, velocity: FloatArray) -> Categorical:
    return Categorical.from_probs(simplex.exp(_interior(p), _all_rates(velocity)))


@LOGARITHM_MAP.register(Categorical)
def _log(p: Categorical, q: Categorical) -> FloatArray:
    return np.asarray(simplex.log(_interior(p), _probs(q))[..., :-1])


@GEODESIC.register(Categorical)
def _geodesic(p: Categorical, q: Categorical, t: FloatArray) -> Categorical:
    return Categorical.from_probs(simplex.geodesic(_probs(p), _probs(q), t))
