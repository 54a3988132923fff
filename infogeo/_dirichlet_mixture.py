r"""Posterior mean of the entropy under the mixture of Dirichlet priors of Nemenman, Shafee and Bialek; plain arrays.

The integral over the concentration :math:`\beta` runs over :math:`s = \log \beta`, where the integrand is analytic and
falls off exponentially on both sides, so that the trapezoidal rule converges exponentially.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infogeo._checks import FloatArray, IntArray

FALL = 45.0
"""The integral stops where the weight has fallen to exp(-45) of its maximum."""
FINEST = 2**15
LogWeight = Callable[[FloatArray], FloatArray]


def posterior_mean_entropy(counts: IntArray) -> float:
    """Mean entropy in nats given counts (V,), zeros among them as outcomes that were not seen."""
    size = len(counts)
    if size == 1:
        return 0.0
    values, multiplicity = np.unique(counts, return_counts=True)
    value, times = values.astype(np.float64), multiplicity.astype(np.float64)
    total = float(value @ times)

    def log_weight(s: FloatArray) -> FloatArray:
        return _log_weight(s, value, times, size, total)

    low, high = _limits(log_weight, -60 - math.log(size), 60 + math.log(total + size))
    points, previous = 128, math.inf
    while True:
        s = np.linspace(low, high, points + 1)
        log = log_weight(s)
        weight = np.exp(log - log.max())
        mean = float(weight @ _mean_entropy(s, value, times, size, total) / weight.sum())
        if abs(mean - previous) <= 1e-13 * (1 + abs(mean)) or points >= FINEST:
            return mean
        points, previous = 2 * points, mean


def _limits(log_weight: LogWeight, low: float, high: float) -> tuple[float, float]:
    """Where the weight is above exp(-45) of its maximum; a peak narrower than the grid is climbed first."""
    s = np.linspace(low, high, 513)
    log = log_weight(s)
    step = s[1] - s[0]
    peak = float(s[log.argmax()])
    top = float(log.max())
    while step > 1e-9:
        around = peak + step * np.linspace(-1, 1, 9)
        found = log_weight(around)
        if found.max() > top:
            top, peak = float(found.max()), float(around[found.argmax()])
        step /= 4
    inside = s[log > top - FALL]
    left, right = min([peak, *inside.tolist()]), max([peak, *inside.tolist()])
    return _edge(log_weight, left, low, top - FALL), _edge(log_weight, right, high, top - FALL)


def _edge(log_weight: LogWeight, start: float, end: float, level: float) -> float:
    """The point nearest to ``start``, to a hundredth of its distance, beyond which the weight is below a level."""
    direction, reach = math.copysign(1.0, end - start), 1e-6
    while reach < abs(end - start) and log_weight(np.array([start + direction * reach]))[0] > level:
        reach *= 1.3
    return start + direction * min(reach, abs(end - start))


def _log_weight(s: FloatArray, value: FloatArray, times: FloatArray, size: int, total: float) -> FloatArray:
    """Logarithm of prior times likelihood in s, up to a constant, for each entry of s."""
    beta = np.exp(s)
    likelihood = _log_rising(beta[:, None], value) @ times - _log_rising(size * beta, np.asarray(total))
    return np.asarray(likelihood + np.log(_prior_slope(beta, size)) + s)


def _mean_entropy(s: FloatArray, value: FloatArray, times: FloatArray, size: int, total: float) -> FloatArray:
    """Mean entropy under the Dirichlet posterior of concentration beta, for each entry of s."""
    from scipy.special import digamma

    beta = np.exp(s)
    whole = total + size * beta
    parts = value + beta[:, None]
    return np.asarray(digamma(whole + 1) - (parts / whole[:, None] * digamma(parts + 1)) @ times)


def _prior_slope(beta: FloatArray, size: int) -> FloatArray:
    """Derivative of the prior mean of the entropy, which the prior makes uniform, to beta."""
    from scipy.special import polygamma

    near = np.minimum(beta, 100.0)
    far = 1 / np.maximum(beta, 100.0)
    inverse = 1 / size
    # differences of the asymptotic series of the trigamma function, whose leading terms cancel
    series = far**2 * (
        (1 - inverse) / 2 - far * ((1 - inverse**2) / 6 - far**2 * ((1 - inverse**4) / 30 - far**2 / 42))
    )
    return np.where(beta < 100, size * polygamma(1, size * near + 1) - polygamma(1, near + 1), series)


def _log_rising(x: FloatArray, n: FloatArray) -> FloatArray:
    """log(Gamma(x + n) / Gamma(x)) - n log(x), which tends to zero for large x."""
    from scipy.special import gammaln

    near, far = np.minimum(x, 20.0), np.maximum(x, 20.0)
    exact = gammaln(near + n) - gammaln(near) - n * np.log(near)
    stirling = (far + n - 0.5) * np.log1p(n / far) - n + _stirling_rest(far + n) - _stirling_rest(far)
    return np.where(x < 20, exact, stirling)


def _stirling_rest(x: FloatArray) -> FloatArray:
    inverse = 1 / x**2
    return np.asarray((1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / x)
