r"""Charts in which the geodesics of the gamma, Dirichlet and von Mises-Fisher families are computed.

In each the metric is evaluated from terms that do not cancel, and far geodesics vary over lengths of order one.
"""

from __future__ import annotations

import numpy as np

from infogeo import _bessel, _gamma_functions
from infogeo._checks import FloatArray
from infogeo.manifolds import half_plane
from infogeo.manifolds.numerical import Metric

# ----------------------------------------------------------------------------------------------------------- gamma


def _gamma_inner(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
    k = np.exp(x[..., 0])
    return np.asarray(_gamma_functions.excess(k) * v[..., 0] * w[..., 0] + k * v[..., 1] * w[..., 1])


def _gamma_christoffel(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
    k = np.exp(x[..., 0])
    size, slope = _gamma_functions.excess_and_slope(k)
    first = 0.5 * (slope * v[..., 0] * w[..., 0] - k * v[..., 1] * w[..., 1]) / size
    second = 0.5 * (v[..., 0] * w[..., 1] + v[..., 1] * w[..., 0])
    return np.stack(np.broadcast_arrays(first, second), axis=-1)


GAMMA = Metric(_gamma_inner, _gamma_christoffel, nonpositively_curved=True)
r"""Gamma distributions by the logarithms of shape and mean: :math:`(k^2\psi'(k) - k)\,d\ell^2 + k\,d\mu^2`.

Without positive curvature: K. Arwini, C. T. J. Dodson 2008, chapter 3; complete, since both ends of the shape are
infinitely far."""


def gamma_guess(start: FloatArray, change: FloatArray, t: FloatArray) -> FloatArray:
    """Geodesics of the half-plane that the gamma manifold nearly is."""
    return cone_guess(start[:, 0], change[:, 0], change[:, 1], t, 0.6)


def cone_guess(level: FloatArray, rise: FloatArray, across: FloatArray, t: FloatArray, size: float) -> FloatArray:
    r"""Geodesics (B, T, 2) of :math:`c\,d\ell^2 + e^\ell d\mu^2`, as displacements from the level and from 0.

    With :math:`y = e^{-\ell/2}` it is the half-plane :math:`(4c\,dy^2 + d\mu^2)/y^2`.
    """
    high = np.exp(-level / 2)
    factor = 2 * size**0.5 / 2**0.5  # of the standard deviation, in the chart (mean, standard deviation)
    one = np.stack([np.zeros_like(high), factor * high], axis=-1)
    two = np.stack([across, factor * high * np.exp(-rise / 2)], axis=-1)
    path = half_plane.geodesic(one, two, t)
    return np.stack([-2 * np.log(path[..., 1] / one[:, None, 1]), path[..., 0]], axis=-1)


# ------------------------------------------------------------------------------------------------------- Dirichlet


def dirichlet(counts: FloatArray) -> Metric:
    r"""Dirichlet distributions by the logarithms of their parameters; the i-th stands for counts[i] equal ones.

    With :math:`T_i = a_i^2\psi'(a_i) - a_i` and shares :math:`w_i` of the total :math:`a_0` the metric is
    :math:`\sum T_i u_i^2 - T_0\bar u^2 + a_0\sum w_i(u_i - \bar u)^2`, :math:`\bar u = \sum w_i u_i`. Complete and
    negatively curved: Le Brigant, Preston, Puechmorel 2021.
    """

    def split(x: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        a = np.exp(x)
        total = (counts * a).sum(axis=-1, keepdims=True)
        w = a / total
        mean = (counts * w * v).sum(axis=-1, keepdims=True)
        return a, total, w, mean, v - mean

    def inner(x: FloatArray, v: FloatArray, u: FloatArray) -> FloatArray:
        a, total, w, v_mean, v_rest = split(x, v)
        u_mean, u_rest = (v_mean, v_rest) if u is v else split(x, u)[3:]
        own = counts * (_gamma_functions.excess(a) * v * u + total * w * v_rest * u_rest)
        return np.asarray(own.sum(axis=-1) - (_gamma_functions.excess(total) * v_mean * u_mean)[..., 0])

    def christoffel(x: FloatArray, v: FloatArray, u: FloatArray) -> FloatArray:
        # from psi'(a_k) a_k'' - psi'(a_0) a_0'' = -(psi''(a_k) a_k'^2 - psi''(a_0) a_0'^2) / 2, by Sherman and Morrison
        a, total, w, v_mean, v_rest = split(x, v)
        u_mean, u_rest = (v_mean, v_rest) if u is v else split(x, u)[3:]
        size, slope = _gamma_functions.excess_and_slope(a)
        size0, slope0 = _gamma_functions.excess_and_slope(total)
        spread = (counts * w * v_rest * u_rest).sum(axis=-1, keepdims=True)
        small = -0.5 * slope * v * u + w * (size0 * spread + 0.5 * slope0 * v_mean * u_mean)
        bent = spread - 0.5 * (v_mean * u_rest + u_mean * v_rest + v_rest * u_rest)  # times a; its weighted mean:
        share = size / (size + a)
        both = (counts * w * (small / (size + a) - share * bent)).sum(axis=-1, keepdims=True) + 0.5 * spread
        rest = (counts * w * share).sum(axis=-1, keepdims=True)
        room = rest - size0 * (counts * w * w / (size + a)).sum(axis=-1, keepdims=True)
        return np.asarray(-(small + a * bent + w * (size0 + total) * both / room) / (size + a))

    return Metric(inner, christoffel, nonpositively_curved=True)


def dirichlet_guess(start: FloatArray, change: FloatArray, t: FloatArray, counts: FloatArray) -> FloatArray:
    """Great circles of the shares while the total moves as in a cone, which is right for large concentrations."""
    logs = [start, start + change]
    totals = [np.log((counts * np.exp(x)).sum(axis=-1)) for x in logs]
    a, b = (np.sqrt(counts) * np.exp((x - s[:, None]) / 2) for x, s in zip(logs, totals, strict=True))
    angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    size = max(0.5, (float(counts.sum()) - 1) / 2)
    path = cone_guess(totals[0], totals[1] - totals[0], 2 * angle, t, size)
    safe = np.where(angle > 1e-8, angle, 1.0)[:, None]
    turned = np.minimum(path[..., 1] / 2, angle[:, None])
    turned = np.where(angle[:, None] > 1e-8, turned, 0.0)
    near, far = np.sin(safe - turned) / np.sin(safe), np.sin(turned) / np.sin(safe)
    roots = near[..., None] * a[:, None] + far[..., None] * b[:, None]
    shares = np.log(np.maximum(roots, 1e-150)) - np.log(a)[:, None]
    return np.asarray(2 * shares + path[..., :1])


# ------------------------------------------------------------------------------------------------- von Mises-Fisher


def concentration_of(radius: FloatArray, d: int) -> FloatArray:
    """Concentration at a radius of the chart."""
    return np.asarray(d * np.sinh(radius))


def radius_of(concentration: FloatArray, d: int) -> FloatArray:
    """Radius in the chart."""
    return np.asarray(np.arcsinh(concentration / d))


def radius_difference(high: FloatArray, low: FloatArray, d: int) -> FloatArray:
    """Difference of the radii of two concentrations, with all digits where they are close."""
    return _bessel.arcsinh_difference(high, low, d)


def natural_rates(x: FloatArray, v: FloatArray, d: int) -> FloatArray:
    r"""Rates of :math:`\theta = \kappa\mu` in the plane, for rates of the chart at its points (B, 2)."""
    radius, unit = _polar(x)
    radial, across = _polar_parts(unit, v)
    return _cartesian(unit, d * np.cosh(radius) * radial, d * _sinhc(radius) * across)


def chart_rates(x: FloatArray, v: FloatArray, d: int) -> FloatArray:
    """The inverse of :func:`natural_rates`."""
    radius, unit = _polar(x)
    radial, across = _polar_parts(unit, v)
    return _cartesian(unit, radial / (d * np.cosh(radius)), across / (d * _sinhc(radius)))


def _polar(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Radius and radial unit vector; at the centre the first axis."""
    radius = np.hypot(x[..., 0], x[..., 1])
    safe = np.where(radius > 0, radius, 1.0)
    return radius, np.where(radius[..., None] > 0, x, [1.0, 0.0]) / safe[..., None]


def _polar_parts(unit: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Radial and tangential part of a vector."""
    radial = unit[..., 0] * v[..., 0] + unit[..., 1] * v[..., 1]
    return radial, unit[..., 0] * v[..., 1] - unit[..., 1] * v[..., 0]


def _cartesian(unit: FloatArray, radial: FloatArray, across: FloatArray) -> FloatArray:
    first, second = unit[..., 0] * radial - unit[..., 1] * across, unit[..., 1] * radial + unit[..., 0] * across
    return np.stack([first, second], axis=-1)


def _sinhc(x: FloatArray) -> FloatArray:
    """sinh(x) / x."""
    return np.where(x > 0, np.sinh(x) / np.where(x > 0, x, 1.0), 1.0)


def _langevin(x: FloatArray) -> FloatArray:
    """coth(x) - 1/x."""
    near = x < 0.2
    y = np.where(near, x, 0.0)
    y2 = y**2
    series = y / 3 * (1 - y2 / 15 * (1 - y2 * 2 / 21 * (1 - y2 / 10 * (1 - y2 * 10 / 99))))
    far = np.where(near, 1.0, x)
    return np.where(near, series, 1 / np.tanh(far) - 1 / far)


def von_mises_fisher(d: int) -> Metric:
    r"""The plane of two directions, with Cartesian coordinates of length :math:`\mathrm{arsinh}(\kappa/d)`.

    A rotationally symmetric metric :math:`P\,d\rho^2 + F\,d\varphi^2` with :math:`F = \kappa A`, in Cartesian
    coordinates so that the uniform distribution is a point like others. The curvature is measured in the tests, for
    dimensions from 2 to 4096, and nowhere positive.
    """

    def inner(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
        radius, unit = _polar(x)
        at = _bessel.resultant(d, d * np.sinh(radius))
        (v_r, v_t), (w_r, w_t) = _polar_parts(unit, v), _polar_parts(unit, w)
        radial, across = at.slope * np.cosh(radius) ** 2, at.scaled * _sinhc(radius) ** 2
        return np.asarray(d**2 * (radial * v_r * w_r + across * v_t * w_t))

    def christoffel(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
        radius, unit = _polar(x)
        (v_r, v_t), (w_r, w_t) = _polar_parts(unit, v), _polar_parts(unit, w)
        kappa = d * np.sinh(radius)
        at = _bessel.resultant(d, kappa)
        cosh, tanh = np.cosh(radius), np.tanh(radius)
        safe = np.where(radius > 0, radius, 1.0)
        stretch = _sinhc(radius)
        # P'/(2P), 1/rho - F'/(2 P rho^2) and F'/(2F) - 1/rho: odd functions of the radius
        radial = 0.5 * at.bend / at.slope * kappa * d * cosh + tanh
        langevin = _langevin(radius)
        ratio = np.where(radius > 0, langevin * tanh / safe, 0.0)  # (rho - tanh rho) / rho^2
        turning = ratio - 0.5 * tanh * d**2 * stretch**2 * at.drop * at.scaled / at.slope
        mixed = langevin - 0.5 * d * cosh * kappa * at.drop
        g_r = radial * v_r * w_r + turning * v_t * w_t
        return _cartesian(unit, g_r, mixed * (v_r * w_t + v_t * w_r))

    return Metric(inner, christoffel, nonpositively_curved=True)


def von_mises_fisher_guess(start: FloatArray, change: FloatArray, t: FloatArray, d: int) -> FloatArray:
    """Geodesics of the half-plane that the family is like for large concentrations."""
    end = start + change
    radii = [np.maximum(np.hypot(x[:, 0], x[:, 1]), 1e-12) for x in (start, end)]
    angles = [np.arctan2(x[:, 1], x[:, 0]) for x in (start, end)]
    levels = [np.log(d * np.sinh(radius)) for radius in radii]
    path = cone_guess(levels[0], levels[1] - levels[0], angles[1] - angles[0], t, (d - 1) / 2)
    radius = np.arcsinh(np.exp(levels[0][:, None] + path[..., 0]) / d)
    angle = angles[0][:, None] + path[..., 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1) - start[:, None]
