"""Plain array kernels under the measures, written against the array-API standard.

They hold for NumPy arrays and for any other array that array-api-compat knows, and their gradients in torch are finite
wherever the values are: at equal arguments, and at outcomes that both sides exclude. What they have in common is that
differences are formed before anything is squared, exponentiated or summed, so that two close distributions have a
distance with all its digits.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from infogeo._arrays import detached, hypotenuse, length, root

SERIES_BOUND = 0.02
"""Below this the power series of :func:`expm1_excess` is used."""

FAINT = 1e-290
"""Squares below this may have lost digits, or be zero by underflow."""

MODERATE = 1e60
"""Means and standard deviations below this, and standard deviations above its inverse, can be squared and divided."""

Array = Any
"""An array of NumPy or of another library that follows the array-API standard."""


def half_plane_distances(mean_p: Array, mean_q: Array, std_p: Array, std_q: Array, std_difference: Array) -> Array:
    r"""Fisher-Rao distances of univariate normals, :math:`2\sqrt2\,\mathrm{arsinh}(c/\sqrt{s_1 s_2})`.

    Here :math:`c^2 = \Delta m^2/8 + \Delta s^2/4`. The difference of the standard deviations is an argument of its own,
    since a caller may know it to more digits than they have. Where c or :math:`c/\sqrt{s_1 s_2}` could leave the range
    of float64 neither is formed by squares, and a quotient beyond 1e100 is taken by its logarithm.
    """
    xp = array_namespace(mean_p, mean_q, std_p, std_q, std_difference)
    factor = 2 * 2**0.5
    sizes = [float(xp.max(xp.abs(detached(x)))) for x in (mean_p, mean_q, std_p, std_q)]
    least = min(float(xp.min(detached(x))) for x in (std_p, std_q))
    if max(sizes) < MODERATE and least > 1 / MODERATE:
        scale = (1 / xp.sqrt(std_p)) * (1 / xp.sqrt(std_q))
        a, b = (mean_p - mean_q) * scale, std_difference * scale
        squares = a * a / 8 + b * b / 4
        faint = float(xp.min(detached(squares))) < FAINT  # equal members have no digits to lose
        if faint and bool(xp.any((detached(squares) < FAINT) & ((detached(a) != 0) | (detached(b) != 0)))):
            return factor * xp.asinh(hypotenuse(a / 8**0.5, b / 2))
        return factor * xp.asinh(root(squares))
    half = (mean_p / 2 - mean_q / 2) if max(sizes) > 1e300 else (mean_p - mean_q) / 2  # halves of subnormals lose bits
    chord = hypotenuse(half / 2**0.5, std_difference / 2)
    scale = xp.sqrt(std_p) * xp.sqrt(std_q)
    far = chord * 1e-100 > scale
    zero = xp.zeros((), dtype=chord.dtype, device=getattr(chord, "device", None))
    near = xp.asinh(xp.where(far, zero, chord) / scale)
    log = xp.log(xp.where(far, chord, zero + 1)) - (xp.log(std_p) + xp.log(std_q)) / 2
    return factor * xp.where(far, log + 0.6931471805599453, near)


def log_gaps(log_p: Array, log_q: Array) -> Array:
    """``log_p - log_q`` with the convention that two impossible outcomes do not differ."""
    xp = array_namespace(log_p, log_q)
    nothing = xp.isinf(log_p) & xp.isinf(log_q)
    zero = xp.zeros((), dtype=log_p.dtype, device=getattr(log_p, "device", None))
    return xp.where(nothing, zero, log_p) - xp.where(nothing, zero, log_q)


def root_differences(log_p: Array, log_q: Array) -> Array:
    r""":math:`|\sqrt p - \sqrt q|` from log-probabilities, to full relative precision."""
    xp = array_namespace(log_p, log_q)
    gap = xp.abs(log_gaps(log_p, log_q))
    return -xp.exp(xp.maximum(log_p, log_q) / 2) * xp.expm1(-gap / 2)


def expm1_excess(x: Array) -> Array:
    r""":math:`e^x - 1 - x`, which is near :math:`x^2/2` and never negative."""
    xp = array_namespace(x)
    near = xp.abs(x) < SERIES_BOUND
    zero = xp.zeros((), dtype=x.dtype, device=getattr(x, "device", None))
    y = xp.where(near, x, zero)
    series = 1 + 0 * y
    for k in range(9, 2, -1):
        series = 1 + y / k * series
    far = xp.where(near, zero, x)
    return xp.where(near, y * y / 2 * series, xp.expm1(far) - far)


def log1p_excess(x: Array) -> Array:
    r""":math:`x - \log(1 + x)` for :math:`x > -1`, which is near :math:`x^2/2` and never negative."""
    xp = array_namespace(x)
    return expm1_excess(xp.log1p(x))


def kl_terms(log_p: Array, log_q: Array) -> Array:
    r"""Non-negative terms :math:`p \log(p/q) - p + q`; the Kullback-Leibler divergence is their sum over outcomes."""
    xp = array_namespace(log_p, log_q)
    gap = log_gaps(log_p, log_q)
    near = xp.abs(gap) < SERIES_BOUND
    zero = xp.zeros((), dtype=gap.dtype, device=getattr(gap, "device", None))
    p, q = xp.exp(log_p), xp.exp(log_q)
    close = p * expm1_excess(-xp.where(near, gap, zero))
    # p = 0 contributes q; q = 0 < p contributes infinity, with gradient zero rather than NaN
    infinite = xp.isinf(gap)
    far = p * xp.where(near | infinite | (p == 0), zero, gap) - p + q
    if xp.any(infinite):
        far = xp.where(infinite & (p > 0), zero + float("inf"), far)
    return xp.where(near, close, far)


def jensen_shannon_terms(log_p: Array, log_q: Array, *, gap: Array | None = None) -> Array:
    r"""Non-negative terms whose sum over the outcomes is the Jensen-Shannon divergence.

    ``gap`` is the difference of the logarithms where a caller knows it to more digits than they have.
    With :math:`g = |\log p - \log q|` and :math:`u = \tanh(g/2)`, a term is
    :math:`\tfrac{p+q}{4}\,(u g + \log(1 - u^2))`.
    """
    xp = array_namespace(log_p, log_q)
    gap = xp.abs(log_gaps(log_p, log_q) if gap is None else gap)
    near = gap < 1
    zero = xp.zeros((), dtype=gap.dtype, device=getattr(gap, "device", None))
    g = xp.where(near, gap, zero)
    u = xp.tanh(g / 2)
    close = u * g + xp.log1p(-u * u)
    # log(1 - u^2) = 2 log 2 - g - 2 log(1 + exp(-g)), and g (1 - u) = 2 g / (exp(g) + 1)
    h = xp.where(xp.isinf(gap), zero, gap)
    decay = xp.where(xp.isinf(gap), zero, xp.exp(-h))
    far = 2 * (0.6931471805599453 - xp.log1p(decay) - h * decay / (1 + decay))
    return (xp.exp(log_p) + xp.exp(log_q)) / 4 * xp.where(near, close, far)


def _of_moderate_size(x: Array) -> Array:
    """Vectors divided by a power of 2^64, which is exact, so that products of two stay in the range of float64."""
    xp = array_namespace(x)
    top = xp.max(xp.abs(detached(x)), axis=-1, keepdims=True)
    if float(xp.max(top)) < MODERATE and float(xp.min(top)) > 1 / MODERATE:
        return x
    step = xp.round(xp.log2(xp.where(top > 0, top, xp.ones_like(top))) / 64)
    scale = 2.0 ** (-32 * step)  # its square would leave the range of float64 for subnormal numbers
    return x * scale * scale


def cosine_complements(u: Array, v: Array) -> Array:
    r""":math:`1 - \cos` of the angle of non-zero vectors, by a half-angle formula.

    With :math:`a = u - |u| v / |v|` and :math:`b = u + |u| v / |v|` the tangent of half the angle is :math:`|a| / |b|`;
    :math:`a` is formed from the difference :math:`u - v`, so that it keeps its digits for close vectors, and *u* is the
    longer one, so that the rounding of it is small beside :math:`a`.
    """
    xp = array_namespace(u, v)
    u, v = _of_moderate_size(u), _of_moderate_size(v)
    length_u, length_v = length(u)[..., None], length(v)[..., None]
    shorter = detached(length_u) < detached(length_v)
    if bool(xp.any(shorter)):
        u, v = xp.where(shorter, v, u), xp.where(shorter, u, v)
        length_u, length_v = xp.where(shorter, length_v, length_u), xp.where(shorter, length_u, length_v)
    unit_v = v / length_v
    difference = u - v
    longer = xp.sum(difference * (u + v), axis=-1, keepdims=True) / (length_u + length_v)  # |u| - |v|
    sine, cosine = difference - longer * unit_v, u + length_u * unit_v
    square = xp.sum(sine * sine, axis=-1)
    return 2 * square / (square + xp.sum(cosine * cosine, axis=-1))
