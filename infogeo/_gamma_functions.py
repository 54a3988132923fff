r"""Parts of the gamma function's logarithm that stay small, so that differences of them keep their digits.

:math:`\log\Gamma(x) = x\log x - x + \beta(x)` with the convex function :math:`\beta`, which grows like
:math:`-\tfrac12\log x` only. Its derivatives are :math:`\beta' = \psi(x) - \log x` and
:math:`\beta'' = \psi'(x) - 1/x`.
From 12 on all are summed from Stirling's series (NIST Digital Library of Mathematical Functions, section 5.11).
"""

from __future__ import annotations

import numpy as np

from infogeo._checks import FloatArray

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
"""Bernoulli numbers of index 2, 4, ..., 20."""
LARGE = 12.0
"""From here on Stirling's series is as accurate as float64."""
NEAR = 1.5
"""Logarithms of ratios up to this are integrated over, farther ones subtracted."""


def _stirling(x: FloatArray, factors: list[float], power: int) -> FloatArray:
    """Sum of Bernoulli numbers times factors over x**(2k - 1) (power 1) or x**(2k) (power 2), k = 1, 2, ..."""
    y = 1 / x**2
    total = np.zeros_like(x)
    for number, factor in zip(BERNOULLI[::-1], factors[::-1], strict=True):
        total = total * y + number * factor
    return total / x**power


def _split(x: FloatArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
    large = x >= LARGE
    return np.where(large, x, LARGE), np.where(large, 1.0, x), large


def beta(x: FloatArray) -> FloatArray:
    r""":math:`\log\Gamma(x) - x \log x + x`."""
    from scipy.special import gammaln, xlogy

    big, small, large = _split(x)
    series = _stirling(big, [1 / (2 * k * (2 * k - 1)) for k in range(1, 11)], 1)
    far = series - 0.5 * np.log(big) + 0.5 * np.log(2 * np.pi)
    return np.where(large, far, gammaln(small) - xlogy(small, small) + small)


def beta_slope(x: FloatArray) -> FloatArray:
    r""":math:`\psi(x) - \log x`."""
    from scipy.special import psi

    big, small, large = _split(x)
    far = -0.5 / big - _stirling(big, [1 / (2 * k) for k in range(1, 11)], 2)
    return np.where(large, far, psi(small) - np.log(small))


def excess(x: FloatArray) -> FloatArray:
    r""":math:`x^2\psi'(x) - x`, that is :math:`x^2\beta''`; between 1 (at zero) and 1/2 (at infinity)."""
    return excess_and_slope(x, slope=False)[0]


def excess_slope(x: FloatArray) -> FloatArray:
    r"""Derivative of :func:`excess` by the logarithm of x, :math:`2x^2\psi' + x^3\psi'' - x`."""
    return excess_and_slope(x)[1]


def excess_and_slope(x: FloatArray, *, slope: bool = True) -> tuple[FloatArray, FloatArray]:
    """Both at once; the slope is zero where it is not asked for.

    Below 12 the sums of 1/(x + j)^2 and 1/(x + j)^3 over j >= 1 are taken, the terms from 12 on by Stirling's series.
    """
    large = x >= LARGE
    y = np.where(large, x, x + LARGE)
    size = 0.5 + _stirling(y, [1.0] * 10, 1)
    rate = -_stirling(y, [2.0 * k - 1 for k in range(1, 11)], 1) if slope else np.zeros_like(y)
    if large.all():
        return size, rate
    small = np.where(large, 1.0, x)
    squares, cubes = (y + size) / y**2, (2 * size + y - rate) / (2 * y**3)
    for j in range(int(LARGE) - 1, 0, -1):
        inverse = 1 / (small + j)
        square = inverse * inverse
        squares = squares + square
        if slope:
            cubes = cubes + square * inverse
    near = 1.0 + small * (small * squares - 1.0)
    size = np.where(large, size, near)
    if slope:
        rate = np.where(large, rate, small * (2 * small * (squares - small * cubes) - 1.0))
    return size, rate


def bregman(b: FloatArray, a: FloatArray, log_of_ratio: FloatArray) -> FloatArray:
    r""":math:`\beta(b) - \beta(a) - \beta'(a)(b - a)`, never negative; the logarithm of b / a is given.

    For close arguments it is the integral :math:`L\int_0^1 T(a e^{Ly})\,(e^{L(1 - y)} - 1)\,dy` with L the logarithm
    of the ratio and T the :func:`excess`.
    """
    near = np.abs(log_of_ratio) < NEAR
    step = np.where(near, log_of_ratio, 0.0)
    y, w = np.polynomial.legendre.leggauss(12)
    y, w = (y + 1) / 2, w / 2
    close = np.zeros_like(step)
    for place, weight in zip(y, w, strict=True):
        close = close + weight * step * excess(a * np.exp(step * place)) * np.expm1(step * (1 - place))
    far = beta(b) - beta(a) - beta_slope(a) * (b - a)
    return np.where(near, close, far)


def jensen(b: FloatArray, a: FloatArray) -> FloatArray:
    r""":math:`\tfrac12\beta(a) + \tfrac12\beta(b) - \beta((a + b)/2)`, never negative."""
    middle, lean = a / 2 + b / 2, (b - a) / (a + b)
    return 0.5 * (bregman(b, middle, log_or_far(lean)) + bregman(a, middle, log_or_far(-lean)))


def log_or_far(lean: FloatArray) -> FloatArray:
    """``log(1 + lean)``, kept finite where lean is -1 by rounding."""
    return np.asarray(np.log1p(np.maximum(lean, -1 + 1e-16)))
