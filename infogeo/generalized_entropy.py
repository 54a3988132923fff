"""Entropies of Rényi and of Tsallis of given probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, as_array, as_float_array, check_sums, sum_tolerance
from infogeo._units import Unit, per_nat
from infogeo.errors import DomainError, ShapeError, UnsupportedFamilyError
from infogeo.families import Categorical, Family


def renyi_entropy(p: ArrayLike | Categorical, *, alpha: ArrayLike, unit: Unit = "nats") -> float | FloatArray:
    r"""Rényi entropy of discrete distributions.

    .. math:: H_\alpha(p) = \frac1{1 - \alpha} \log \sum_i p_i^\alpha

    with the limits log K at alpha = 0 (K outcomes possible), the Shannon entropy at 1 and :math:`-\log \max_i p_i` at
    infinity; at 2 it is the negative logarithm of the probability that two draws agree. It falls as alpha grows, and
    lies between 0 and log V [1]_. Computed from logarithms and differences from alpha = 1, so that no digit is lost
    near that order and no small probability underflows.

    Parameters
    ----------
    p : array_like, shape (..., V), or Categorical
        Probabilities that sum to one along the last axis. Those of a ``Categorical`` may be below the range of float64.
    alpha : float or array_like
        The order, from 0 to infinity; broadcast against the shape (...) of the distributions.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float or ndarray, shape (...,)
        One number for one distribution and one order.

    Raises
    ------
    DomainError
        If a probability is negative or not finite, a row does not sum to one, or an order is negative or NaN.
    ShapeError
        If there is no axis of outcomes, or the shapes do not broadcast.
    UnsupportedFamilyError
        If ``p`` is a family other than ``Categorical``.

    References
    ----------
    .. [1] A. Rényi, "On measures of entropy and information", Fourth Berkeley Symposium 1, 1961, equation 1.21.

    Examples
    --------
    >>> renyi_entropy([0.5, 0.25, 0.25, 0.0], alpha=[0, 1, 2, np.inf], unit="bits").round(6).tolist()
    [1.584963, 1.5, 1.415037, 1.0]
    """
    scale = per_nat(unit)
    logs, order = _read(p, alpha, "alpha")
    rows, orders = np.broadcast_arrays(logs, order[..., None])
    orders = orders[..., 0]
    top = rows.max(axis=-1)
    gap = orders - 1
    infinite = np.isinf(orders)
    gap_or_one = np.where((gap == 0) | infinite, 1.0, gap)
    excess = _power_sum_excess(rows, np.where(infinite, 0.0, gap))
    near = excess > -0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        small = -np.log1p(np.where(near, excess, 0.0)) / gap_or_one
        # far from order 1, where the sum of powers is small: about its largest term
        finite = np.where(infinite, 2.0, orders)
        others = np.exp(finite[..., None] * (rows - top[..., None])).sum(axis=-1)
        large = finite / (1 - np.where(finite == 1, 2.0, finite)) * (top + np.log(others) / np.maximum(finite, 0.5))
    value = np.where(near, small, large)
    value = np.where(gap == 0, _shannon(rows), value)
    value = scale * (np.where(infinite, -top, value) + 0.0)
    return float(value) if value.ndim == 0 else value


def tsallis_entropy(p: ArrayLike | Categorical, *, q: ArrayLike) -> float | FloatArray:
    r"""Tsallis entropy of discrete distributions.

    .. math:: S_q(p) = \frac{1 - \sum_i p_i^q}{q - 1} = \frac{e^{(1 - q) H_q(p)} - 1}{1 - q}

    with the Rényi entropy H in nats; K - 1 at q = 0 (K outcomes possible), the Shannon entropy in nats at 1, the
    probability that two draws differ at 2, and 0 at infinity [1]_. For independent variables it is not additive:
    S(X, Y) = S(X) + S(Y) + (1 - q) S(X) S(Y), which is why it has no unit.

    Parameters
    ----------
    p : array_like, shape (..., V), or Categorical
        Probabilities that sum to one along the last axis.
    q : float or array_like
        The order, from 0 to infinity; broadcast against the shape (...) of the distributions.

    Returns
    -------
    float or ndarray, shape (...,)
        One number for one distribution and one order.

    Raises
    ------
    DomainError, ShapeError, UnsupportedFamilyError
        As :func:`renyi_entropy`.

    References
    ----------
    .. [1] C. Tsallis, "Possible generalization of Boltzmann-Gibbs statistics", Journal of Statistical Physics 52, 1988,
       equation 1.

    Examples
    --------
    >>> tsallis_entropy([0.5, 0.25, 0.25, 0.0], q=[0, 2, np.inf]).tolist()
    [2.0, 0.625, 0.0]
    """
    logs, order = _read(p, q, "q")
    rows, orders = np.broadcast_arrays(logs, order[..., None])
    gap = orders[..., 0] - 1
    infinite = np.isinf(gap)
    excess = _power_sum_excess(rows, np.where(infinite, 0.0, gap))
    value = np.where(gap == 0, _shannon(rows), -excess / np.where((gap == 0) | infinite, 1.0, gap))
    value = np.where(infinite, 0.0, value) + 0.0
    return float(value) if value.ndim == 0 else value


def _read(p: ArrayLike | Categorical, order: ArrayLike, name: str) -> tuple[FloatArray, FloatArray]:
    """Logarithms of normalized probabilities (..., V), and orders that broadcast against (...)."""
    if isinstance(p, Family) and not isinstance(p, Categorical):
        raise UnsupportedFamilyError(
            f"found {type(p).__name__}, wanted a Categorical or an array of probabilities; the entropies of a density "
            "are estimated from samples, by nearest_neighbor_renyi_entropy"
        )
    logs = as_float_array("p", p.log_probs, finite=False) if isinstance(p, Categorical) else _logarithms(p)
    orders = as_float_array(name, order, finite=False)
    bad = ~(orders >= 0)
    if bad.any():
        raise DomainError(f"{name}: found {orders[bad].flat[0]}, wanted orders from 0 to infinity")
    try:
        np.broadcast_shapes(logs.shape[:-1], orders.shape)
    except ValueError:
        raise ShapeError(
            f"{name}: shape {orders.shape} does not broadcast against the shape {logs.shape[:-1]} of the "
            f"distributions; give {name} an axis of its own, as in {name}[:, None]"
        ) from None
    return logs, orders


def _logarithms(p: ArrayLike) -> FloatArray:
    """Logarithms of probabilities (..., V), or an error that says what is wrong with them."""
    given = as_array("p", p)
    probs = as_float_array("p", given)
    if probs.ndim == 0 or probs.shape[-1] == 0:
        raise ShapeError(f"p: found shape {probs.shape}, wanted (..., V) with at least one outcome")
    if (probs < 0).any():
        where = tuple(int(i) for i in np.argwhere(probs < 0)[0])
        raise DomainError(f"p: entry {where} is {probs[where]}; a probability is not negative")
    check_sums("p", probs.sum(axis=-1), sum_tolerance(given.dtype))
    return np.log(probs, out=np.full_like(probs, -np.inf), where=probs > 0)


def _power_sum_excess(logs: FloatArray, gap: FloatArray) -> FloatArray:
    """Sums of p**(1 + gap) less the sum of p, without cancellation for a small gap."""
    possible = logs > -np.inf
    log = np.where(possible, logs, 0.0)
    exponent = gap[..., None] * log
    grown = np.exp(np.minimum(log + exponent, 0.0)) - np.exp(log)  # for gaps below 0 and small probabilities
    terms = np.where(exponent > 1, grown, np.exp(log) * np.expm1(np.minimum(exponent, 1.0)))
    return np.asarray(np.where(possible, terms, 0.0).sum(axis=-1))


def _shannon(logs: FloatArray) -> FloatArray:
    log = np.where(logs > -np.inf, logs, 0.0)
    return np.asarray(-(np.exp(log) * log).sum(axis=-1))
