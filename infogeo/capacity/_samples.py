"""What the views of a layer share: reading samples and groups, folds that keep a group whole, intervals of means."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    check_number,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning


def read_samples(name: str, value: ArrayLike, *, least: int = 2) -> FloatArray:
    """Samples (n, d) as float64; one column may be given as (n,)."""
    array = as_float_array(name, value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (samples, components)")
    if len(array) < least:
        raise ShapeError(f"{name}: found {len(array)} samples, wanted at least {least}")
    return array


def check_level(level: float) -> float:
    """Coverage of an interval, strictly between 0 and 1."""
    level = check_number("level", level)
    if not 0 < level < 1:
        raise ArgumentError(f"level: found {level}, wanted a number between 0 and 1, such as 0.95")
    return level


def t_quantile(level: float, degrees: int) -> float:
    """Half width of a two-sided interval in standard errors, by Student's law."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))


def mean_interval(values: FloatArray, groups: IntArray, level: float) -> tuple[float, float] | None:
    """Interval of the mean of values (n,), robust to dependence within groups; None with one group."""
    count = int(groups.max()) + 1
    if count < 2:
        return None
    mean = float(values.mean())
    sums = np.bincount(groups, weights=values - mean, minlength=count)
    error = float(np.sqrt(count / (count - 1) * (sums**2).sum())) / len(values)
    half = t_quantile(level, count - 1) * error
    return mean - half, mean + half


def fold_of_groups(groups: IntArray, folds: int) -> IntArray:
    """(n,) fold of each sample: groups stay whole, largest first into the fold with the fewest samples so far."""
    sizes = np.bincount(groups)
    if len(sizes) == len(groups):  # every sample alone: folds by turns, so that no order of the samples is one fold
        return np.arange(len(groups)) % folds
    filled = np.zeros(folds)
    where = np.empty(len(sizes), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        where[group] = np.argmin(filled)
        filled[where[group]] += sizes[group]
    return np.asarray(where[groups])


def warn_all(messages: list[str], *, stacklevel: int = 3) -> tuple[str, ...]:
    """Give each message as an EstimateWarning to whoever called the public function, and return them."""
    for message in messages:
        warnings.warn(message, EstimateWarning, stacklevel=stacklevel + 1)
    return tuple(messages)


def read_noise(name: str, noise: Any, q: int) -> FloatArray:
    """Covariance (q, q) of stated noise: one variance, one for each component, or the whole matrix; positive."""
    if isinstance(noise, str):
        raise ArgumentError(f"{name}: found {noise!r}, wanted a variance, {q} variances, or a ({q}, {q}) covariance")
    array = as_float_array(name, noise)
    if array.shape not in ((), (q,), (q, q)):
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (), ({q},) or ({q}, {q})")
    if array.ndim < 2:
        if (array <= 0).any():
            raise DomainError(
                f"{name}: found the variance {array.min():.4g}; without noise a continuous channel has infinite "
                "capacity, so every variance must be above zero"
            )
        return np.asarray(np.eye(q) * array)
    if not np.allclose(array, array.T, rtol=1e-9, atol=1e-12 * np.abs(array).max()):
        raise DomainError(f"{name}: found a matrix that is not symmetric")
    least = float(np.linalg.eigvalsh(array)[0])
    if least <= 0:
        raise DomainError(f"{name}: found a covariance with eigenvalue {least:.4g}, wanted a positive definite one")
    return np.asarray((array + array.T) / 2)


def read_power(power: Any, default: float) -> float:
    """Total power, positive and finite."""
    if power is None:
        return default
    value = check_number("power", power)
    if not (value > 0 and np.isfinite(value)):
        raise DomainError(f"power: found {value}, wanted a finite number above zero")
    return value


def say_noise(noise: Any, covariance: FloatArray) -> str:
    """Stated noise in words."""
    array = np.asarray(noise)
    if array.ndim == 0:
        return f"stated, variance {float(array):.6g} in each of {len(covariance)} components"
    kind = "variances" if array.ndim == 1 else "covariance"
    return f"stated {kind} of {len(covariance)} components, total {np.trace(covariance):.6g}"
