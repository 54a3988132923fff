"""Kernels of the linear-Gaussian view: moments that leave a fold out, one fit, its corrections, the jackknife."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.capacity._filling import fill
from infogeo.errors import DomainError

STILL = 1e-13
"""A direction with less than this share of the largest variance does not vary in these samples."""


class Moments(NamedTuple):
    """Sums over samples; those of a part can be taken off."""

    n: int
    x: FloatArray
    y: FloatArray
    xx: FloatArray
    xy: FloatArray
    yy: FloatArray

    def without(self, part: Moments) -> Moments:
        """Moments of the samples that are not in a part."""
        return Moments(
            self.n - part.n, self.x - part.x, self.y - part.y, self.xx - part.xx, self.xy - part.xy, self.yy - part.yy
        )

    def centered(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Sums of squares and products about the means."""
        return (
            self.xx - np.outer(self.x, self.x) / self.n,
            self.xy - np.outer(self.x, self.y) / self.n,
            self.yy - np.outer(self.y, self.y) / self.n,
        )


def moments(x: FloatArray, y: FloatArray) -> Moments:
    """Moments of samples (n, p) and (n, q)."""
    return Moments(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y, y.T @ y)


class Fit(NamedTuple):
    """What one sample gives, in nats."""

    rate: float
    """Corrected for the bias of normal samples."""
    plug_in_rate: float
    capacity: float
    """Mean of the two shrunk estimates."""
    plug_in_capacity: float
    spread: float
    """Of the two shrunk estimates: the first less the second."""
    unshrunk: float
    """Capacity with the spurious part taken off in expectation, without shrinkage: rather too high."""
    kept: int
    """Principal directions of the input that shrinkage left."""
    spurious: float
    """Share of the squared gain of the fitted map, in units of the input, that is expected by chance."""


def capacity_of_gains(gains: FloatArray, power: float) -> float:
    """Water-filled capacity of real sub-channels with unit noise, in nats."""
    return float(fill(gains, np.ones_like(gains), np.asarray(power)).terms.sum()) / 2


def fit(sums: Moments, noise: FloatArray | None, power: float | None, *, shrink: bool) -> Fit:
    """Fit y = A x + n, whiten by the residual (``noise`` None) or a stated covariance, and water-fill.

    Every step on the way to an unbiased number is one line here: see the page on layers in the documentation.
    """
    from scipy.linalg import solve_triangular
    from scipy.special import digamma

    xx, xy, yy = sums.centered()
    degrees, (p, q) = sums.n - 1, xy.shape
    variances, basis = np.linalg.eigh(xx / degrees)
    power = float(variances.sum()) if power is None else power
    vary = variances > STILL * variances[-1]  # one that varies in the fold left out only does not vary here
    variances, basis, p = variances[vary], basis[:, vary], int(vary.sum())
    explained = (basis.T @ xy) / np.sqrt(variances * degrees)[:, None]
    residual = yy - explained.T @ explained
    if noise is None:
        factor = _factor(residual / (degrees - p))
        free = (degrees - p - np.arange(q)) / 2
        bias = float((digamma(free + p / 2) - digamma(free)).sum()) / 2
        # means of the inverse of a Wishart matrix, and of its logarithm
        of_inverse = (degrees - p - q - 1) / (degrees - p)
        of_logarithm = float(np.exp(digamma(free).mean() + np.log(2 / (degrees - p))))
        spurious = q / degrees
    else:
        factor = np.asarray(np.linalg.cholesky(noise), dtype=np.float64)
        white = solve_triangular(factor, residual, lower=True)
        white = solve_triangular(factor, white.T, lower=True)
        of_inverse = of_logarithm = 1.0
        spurious = float(np.trace(white)) / (degrees - p) / degrees
    snr = solve_triangular(factor, explained.T / np.sqrt(degrees), lower=True)  # (q, p), columns: principal directions
    _, singular, right = np.linalg.svd(snr, full_matrices=False)
    plain = float(np.log1p(singular**2).sum()) / 2
    if noise is None:
        plug_in_rate = float(np.linalg.slogdet(yy)[1] - np.linalg.slogdet(residual)[1]) / 2
        rate = plug_in_rate - bias
    else:
        plug_in_rate = plain
        rate = float(np.log1p(np.maximum(singular**2 - spurious, 0.0)).sum()) / 2

    def gap(matrix: FloatArray) -> tuple[float, float]:
        """Water-filled capacity, and by how much it exceeds the information at the actual input."""
        gains = np.linalg.svd(matrix / np.sqrt(variances), compute_uv=False) ** 2
        found = capacity_of_gains(gains, power)
        at_input = float(np.log1p(np.linalg.svd(matrix, compute_uv=False) ** 2).sum()) / 2
        return found, found - at_input

    plug_in_capacity, plain_gap = gap(snr)
    share = min(1.0, p * spurious / float((snr**2).sum()))
    if not shrink:
        return Fit(rate, plug_in_rate, rate + plain_gap, plug_in_capacity, 0.0, rate + plain_gap, p, share)
    strength = (snr**2).sum(axis=0) * of_logarithm
    weight = 1 - spurious / np.maximum(strength, spurious)  # James and Stein's, the positive part
    squares = np.maximum(of_inverse * singular**2 - spurious, 0.0)
    first = gap(np.sqrt(of_logarithm) * snr * weight)[1]
    expected = np.sqrt(squares)[:, None] * right
    second, third = gap(expected * weight)[1], gap(expected)[1]
    kept = int((weight > 0).sum())
    mean = (first + second) / 2
    return Fit(rate, plug_in_rate, rate + mean, plug_in_capacity, first - second, rate + third, kept, share)


def _factor(residual: FloatArray) -> FloatArray:
    """Triangular factor of the residual covariance."""
    try:
        return np.asarray(np.linalg.cholesky(residual), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise DomainError(
            "y: in the samples that are left when one fold is out, the linear fit is exact in some direction, so that "
            "there is no residual noise; give more texts, state the noise, or project with components="
        ) from None


class Jackknifed(NamedTuple):
    """An estimate without its first-order bias, and what is known of its error."""

    value: float
    error: float
    """Standard error."""
    correction: float
    """What the jackknife took off."""

    @property
    def uncertainty(self) -> float:
        """Standard error, and half of what was taken off, added in squares."""
        return float(np.hypot(self.error, self.correction / 2))


def jackknife(whole: float, parts: FloatArray) -> Jackknifed:
    """From the estimate of all samples and those (K,) that leave one of K folds out."""
    k = len(parts)
    correction = (k - 1) * (float(parts.mean()) - whole)
    error = float(np.sqrt((k - 1) / k * ((parts - parts.mean()) ** 2).sum()))
    return Jackknifed(whole - correction, error, correction)


def fits_by_fold(
    x: FloatArray, y: FloatArray, folds: IntArray, noise: FloatArray | None, power: float | None, *, shrink: bool
) -> tuple[Fit, list[Fit]]:
    """The fit to all samples, and those that leave one fold out."""
    parts = [moments(x[folds == k], y[folds == k]) for k in range(int(folds.max()) + 1)]
    whole = Moments(*(sum(values) for values in zip(*parts, strict=True)))
    return (
        fit(whole, noise, power, shrink=shrink),
        [fit(whole.without(part), noise, power, shrink=shrink) for part in parts],
    )


def rate_of_shuffled(x: FloatArray, y: FloatArray, noise: FloatArray | None, order: IntArray) -> float:
    """Corrected rate, in nats, where the outputs are put in another order."""
    from scipy.linalg import solve_triangular
    from scipy.special import digamma

    xx, xy, yy = moments(x, y[order]).centered()
    degrees, (p, q) = len(x) - 1, xy.shape
    variances, basis = np.linalg.eigh(xx)
    half = (basis.T @ xy) / np.sqrt(variances)[:, None]
    residual = yy - half.T @ half
    if noise is None:
        free = (degrees - p - np.arange(q)) / 2
        bias = float((digamma(free + p / 2) - digamma(free)).sum()) / 2
        return float(np.linalg.slogdet(yy)[1] - np.linalg.slogdet(residual)[1]) / 2 - bias
    factor = np.linalg.cholesky(noise)
    white = solve_triangular(factor, solve_triangular(factor, residual, lower=True).T, lower=True)
    spurious = float(np.trace(white)) / (degrees - p) / degrees
    snr = solve_triangular(factor, half.T / np.sqrt(degrees), lower=True)
    squares = np.linalg.svd(snr, compute_uv=False) ** 2
    return float(np.log1p(np.maximum(squares - spurious, 0.0)).sum()) / 2
