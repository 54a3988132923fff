"""Differences of logarithms, of roots and of other functions of positive numbers, to full relative precision.

All take numbers of any size that float64 holds, and broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infogeo import _kernels

FloatArray = NDArray[np.float64]


def log_ratio(a: FloatArray, b: FloatArray, difference: FloatArray | None = None) -> FloatArray:
    """log(a / b) of numbers that are not negative, zero where both are zero.

    ``difference`` is a - b where a caller knows it to more digits.
    """
    gap = a - b if difference is None else difference
    near = np.abs(gap) <= 0.5 * np.minimum(a, b)
    close = np.log1p(np.where(near, gap, 0.0) / np.where(near & (b > 0), b, 1.0))
    top, bottom = np.where(near, 1.0, a), np.where(near, 1.0, b)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        quotient = top / bottom
        plain = (quotient > 1e-300) & (quotient < 1e300)  # neither overflown nor subnormal
        apart = np.where(plain, np.log(np.where(plain, quotient, 1.0)), np.log(top) - np.log(bottom))
    return np.where(near, close, apart)


def root_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """sqrt(a) - sqrt(b) of numbers that are not negative."""
    total = np.sqrt(a) + np.sqrt(b)
    return np.asarray((a - b) / np.where(total > 0, total, 1.0))


def divergence_terms(a: FloatArray, b: FloatArray, difference: FloatArray | None = None) -> FloatArray:
    """The deviance a log(a / b) - a + b of numbers that are not negative; infinite for b = 0 < a, never negative.

    ``difference`` is b - a where a caller knows it to more digits.
    """
    gap = b - a if difference is None else difference
    near = (np.abs(gap) <= 0.5 * a) & (a > 0)
    x = np.where(near, gap, 0.0) / np.where(near, a, 1.0)
    far = ~near & (a > 0)
    with np.errstate(over="ignore"):
        log = log_ratio(np.where(far, a, 1.0), np.where(far, b, 1.0))
        distant = np.where(far, a * (log - 1), 0.0) + b
    return np.where(near, a * _kernels.log1p_excess(x), distant)
