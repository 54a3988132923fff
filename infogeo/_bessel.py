r"""The mean resultant length of von Mises-Fisher distributions and its derivatives, for any order and argument.

:math:`A_d(\kappa) = I_{\nu+1}(\kappa) / I_\nu(\kappa)` with :math:`\nu = d/2 - 1` is the derivative of the log
partition function. Where :math:`w = \sqrt{\nu^2 + \kappa^2}` is large, it follows from the logarithm of Debye's
expansion,

.. math:: \log I_\nu(\kappa) = w + \nu \log\frac{\kappa}{\nu + w} - \tfrac12 \log(2 \pi w)
   + \sum_{k \ge 1} \frac{D_k(\nu^2 / w^2)}{w^k},

(NIST Digital Library of Mathematical Functions, eq. 10.41.3 and 10.41.9) differentiated term by term, so that nothing
overflows and nothing cancels; elsewhere from a higher order by the recursion
:math:`A_d = 1 / (d/\kappa + A_{d+2})`, downwards, which is stable, and its derivatives.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from infogeo._checks import FloatArray

TERMS = 14
LARGE = 30.0
"""From this w on the first 14 terms of the expansion are as accurate as float64."""
PANELS = 8
PANEL_NODES = 16


class Resultant(NamedTuple):
    r"""A and its derivatives by :math:`\kappa`, scaled so that each has a finite limit at zero."""

    scaled: FloatArray
    r""":math:`A / \kappa`"""
    deficit: FloatArray
    """1 - A"""
    slope: FloatArray
    """A'"""
    bend: FloatArray
    r""":math:`A'' / \kappa`"""
    drop: FloatArray
    r""":math:`(A_d - A_{d+2}) / \kappa`, positive; :math:`1 - A'\kappa/A` over :math:`\kappa^2`"""


@lru_cache(maxsize=1)
def _expansion() -> dict[tuple[int, int], float]:
    """Coefficients of D_k(u) = sum over j of d[k, j] u**j, exact until they are rounded."""
    # U_k as polynomials in p, by U_{k+1} = p^2 (1 - p^2) U_k' / 2 + (1/8) int_0^p (1 - 5 t^2) U_k dt
    u: list[dict[int, Fraction]] = [{0: Fraction(1)}]
    for _ in range(TERMS):
        following: dict[int, Fraction] = {}
        for power, c in u[-1].items():
            for shift, factor in (
                (1, Fraction(power, 2) + Fraction(1, 8 * (power + 1))),
                (3, -Fraction(power, 2) - Fraction(5, 8 * (power + 3))),
            ):
                following[power + shift] = following.get(power + shift, Fraction(0)) + c * factor
        u.append(following)
    # logarithm of the series: n D_n = n U_n - sum_{k<n} k D_k U_{n-k}
    d: list[dict[int, Fraction]] = [{}]
    for n in range(1, TERMS + 1):
        own = dict(u[n])
        for k in range(1, n):
            for p1, c1 in d[k].items():
                for p2, c2 in u[n - k].items():
                    own[p1 + p2] = own.get(p1 + p2, Fraction(0)) - Fraction(k, n) * c1 * c2
        d.append(own)
    return {(k, (p - k) // 2): float(c) for k in range(1, TERMS + 1) for p, c in d[k].items() if c}


@lru_cache(maxsize=64)
def _coefficients(nu: float) -> tuple[float, FloatArray]:
    """Scale and coefficients (n, 3) of the derivatives of the expansion as polynomials in scale / w."""
    c = np.zeros(3 * TERMS + 1)
    scale = max(nu, 1.0)
    for (k, j), value in _expansion().items():
        c[k + 2 * j] += value * (nu / scale) ** (2 * j) * scale ** float(-k)
    # derivative of w**-n by kappa, over kappa: -n w**(-n - 2); and so on
    n = np.arange(3 * TERMS + 1)
    return scale, np.stack([-n * c, n * (n + 2) * c, -n * (n + 2) * (n + 4) * c], axis=-1)


def _debye(nu: float, kappa: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """A / kappa, 1 - A, A' and A'' / kappa from the expansion."""
    w = np.hypot(nu, kappa)
    y2 = 1 / w**2
    q = kappa**2
    scale, c = _coefficients(nu)
    # without its leading part log I is -log(w) / 2 and the sum of the expansion
    first, second, third = np.polynomial.polynomial.polyval(scale / w, c)
    first = (first - 0.5) * y2
    second = (second + 1) * y2**2
    third = (third - 4) * y2**3
    scaled = 1 / (w + nu) + first
    deficit = (nu + nu**2 / (w + kappa)) / (w + nu) - kappa * first
    slope = nu / (w * (w + nu)) + first + q * second
    bend = -nu * (2 * w + nu) / (w**3 * (w + nu) ** 2) + 3 * second + q * third
    return scaled, deficit, slope, bend


def resultant(d: int, kappa: FloatArray) -> Resultant:
    """A and its derivatives for directions in d dimensions, at concentrations kappa >= 0."""
    kappa = np.asarray(kappa, dtype=np.float64)
    nu = d / 2 - 1
    small = np.hypot(nu, kappa) < LARGE
    parts = np.empty((5, *kappa.shape))
    if not small.all():
        k = kappa[~small]
        values = _debye(nu, k)
        parts[:, ~small] = np.stack([*values, values[0] - _debye(nu + 1, k)[0]])
    if small.any():
        shift = int(np.ceil(LARGE - nu))
        k = kappa[small]
        q = k**2
        b, _, slope, bend = _debye(nu + shift, k)
        above = b
        for order in np.arange(nu + shift, nu + 0.5, -1.0):  # from A of this order to A of the order below
            above, slope_above = b, slope
            b = 1 / (2 * order + q * above)
            slope = b**2 * (2 * order - q * slope_above)
            bend = 2 * b**3 * (q * slope_above**2 - 4 * order * slope_above - 2 * order * above) - q * b**2 * bend
        parts[:, small] = np.stack([b, 1 - k * b, slope, bend, b - above])
    scaled, deficit, slope, bend, drop = parts
    q = kappa**2
    far = q * drop > 0.5
    drop = np.where(far, (1 - slope / scaled) / np.where(far, q, 1.0), drop)
    return Resultant(scaled, deficit, slope, bend, drop)


class Panels(NamedTuple):
    """Nodes and weights (..., 128) that integrate smooth functions of the concentration between two bounds."""

    at: FloatArray
    weights: FloatArray
    above: FloatArray
    """Distance of the nodes from the lower bound, with all digits"""
    below: FloatArray
    """Distance of the nodes from the upper bound"""


def panels(d: int, low: FloatArray, high: FloatArray) -> Panels:
    """Gauss rule on equal panels of the variable arsinh(kappa / d)."""
    a, span = np.arcsinh(low / d)[..., None], arcsinh_difference(high, low, d)[..., None]
    y, w = np.polynomial.legendre.leggauss(PANEL_NODES)
    share = ((np.arange(PANELS)[:, None] + (y + 1) / 2) / PANELS).ravel()
    weights = np.tile(w / (2 * PANELS), PANELS)
    up, down = span * share, span * (1 - share)
    at = a + up
    above = 2 * d * np.cosh(a + up / 2) * np.sinh(up / 2)
    below = 2 * d * np.cosh(at + down / 2) * np.sinh(down / 2)
    return Panels(d * np.sinh(at), d * np.cosh(at) * span * weights, above, below)


def arcsinh_difference(high: FloatArray, low: FloatArray, d: int) -> FloatArray:
    """``arcsinh(high / d) - arcsinh(low / d)`` for 0 <= low <= high, with all digits where they are close."""
    b, a = high / d, low / d
    root_a, root_b = np.hypot(1.0, a), np.hypot(1.0, b)
    return np.asarray(np.log1p((high - low) / d * (1 + (a + b) / (root_a + root_b)) / (a + root_a)))


def integral_of_deficit(d: int, kappa: FloatArray) -> FloatArray:
    r""":math:`\int_0^\kappa (1 - A)`, the concentration less the log partition function (0 at the uniform law)."""
    rule = panels(d, np.zeros_like(kappa), kappa)
    return np.asarray((resultant(d, rule.at).deficit * rule.weights).sum(axis=-1))
