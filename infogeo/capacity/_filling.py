r"""Water poured into a row of vessels, by sorting, and the same in reverse; numbers of any size are told apart.

A vessel is a sub-channel, its floor :math:`f_i` the noise over the gain. Heights are measured from the lowest floor and
in units of the power, where the level lies between 0 and 1 and nothing cancels; quotients are formed with mantissa and
exponent apart, so that nothing overflows on the way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray

FAR = 2000
"""An exponent beyond those of float64."""

HIGH = 4.0
"""Heights in units of the power that no level reaches: the level is at most 1."""


class Filled(NamedTuple):
    """Powers and what goes with them, for a batch of rows of vessels."""

    powers: FloatArray
    """(..., n) not negative; zero for those above the level."""
    level: FloatArray
    """(...,)"""
    terms: FloatArray
    """(..., n) logarithms of one plus gain times power over noise, in nats."""
    gap: FloatArray
    """(...,) what the sum of the logarithms may gain at most by any other choice of powers."""


@np.errstate(over="ignore", under="ignore")
def fill(gains: FloatArray, noise: FloatArray, power: FloatArray) -> Filled:
    """Water-filling of checked arrays: gains and noise (..., n), power (...,); noise is positive where a gain is."""
    usable = gains > 0
    some = usable.any(axis=-1) & (power > 0)
    mantissa, exponent = _quotient(np.where(usable, noise, 1.0), np.where(usable, gains, 1.0))
    order = np.where(usable, exponent, FAR)
    lowest = order.min(axis=-1, keepdims=True)
    power_mantissa, power_exponent = np.frexp(np.where(power > 0, power, 1.0)[..., None])
    unit = np.maximum(power_exponent, np.where(some[..., None], lowest, power_exponent))
    floor = np.where(usable, np.ldexp(mantissa, np.clip(exponent - unit, -FAR, FAR)), np.inf)
    base = np.where(some[..., None], floor.min(axis=-1, keepdims=True), 0.0)
    height = np.ldexp(floor - base, np.minimum(unit - power_exponent, FAR)) / power_mantissa
    height = np.minimum(height, HIGH)

    ranked = np.sort(height, axis=-1)
    count = np.arange(1, gains.shape[-1] + 1)
    rise = np.diff(ranked, axis=-1, prepend=ranked[..., :1]) * (count - 1)
    water = np.cumsum(rise, axis=-1)  # what it takes to reach each floor
    active = (water < 1).sum(axis=-1, keepdims=True)
    active = np.maximum(active, 1)
    held = np.where(count <= active, ranked, 0.0)
    level = (1 + held.sum(axis=-1, keepdims=True)) / active
    wet = height < level
    share = np.where(wet, level - height, 0.0)
    for _ in range(2):  # rounding of the sum
        missing = 1 - share.sum(axis=-1, keepdims=True)
        level = level + missing / np.maximum(wet.sum(axis=-1, keepdims=True), 1)
        share = np.where(wet, np.maximum(level - height, 0.0), 0.0)
    share = np.where(some[..., None], share, 0.0)
    powers = np.asarray(share * power[..., None])

    scaled = np.ldexp(power_mantissa, np.maximum(power_exponent - unit, -FAR))
    filled = usable & some[..., None]  # without power a floor may be below the range of float64
    slope = np.where(filled, scaled / np.where(filled, floor + share * scaled, 1.0), 0.0)
    best = slope.max(axis=-1)
    gap = np.where(some, np.maximum(best - (share * slope).sum(axis=-1), 0.0), 0.0)
    height_of_water = np.where(some[..., None], base + level * scaled, np.where(usable, floor, np.inf).min(
        axis=-1, keepdims=True))
    return Filled(powers, np.ldexp(height_of_water, unit)[..., 0], terms(gains, noise, powers), gap)


@np.errstate(over="ignore", under="ignore")
def terms(gains: FloatArray, noise: FloatArray, powers: FloatArray) -> FloatArray:
    """Logarithms of one plus gain times power over noise, also where that quotient is out of range."""
    used = (gains > 0) & (powers > 0)
    gains, noise, powers = (np.where(used, a, 1.0) for a in (gains, noise, powers))
    mantissa, exponent = _quotient(gains, noise)
    other, more = np.frexp(powers)
    product, exponent = mantissa * other, exponent + more
    plain = np.abs(exponent) < 1000
    ratio = np.ldexp(product, np.where(plain, exponent, 0))
    logs = np.log(product) + exponent * np.log(2.0)
    value = np.where(plain, np.log1p(ratio), np.where(exponent > 0, logs, np.exp(np.minimum(logs, 0.0))))
    return np.asarray(np.where(used, value, 0.0))


def _quotient(a: FloatArray, b: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Mantissa and exponent of a / b for positive numbers."""
    (top, up), (bottom, down) = np.frexp(a), np.frexp(b)
    mantissa, more = np.frexp(top / bottom)
    return mantissa, up.astype(np.int64) - down + more


class Drained(NamedTuple):
    """Distortions and what goes with them, for a batch of rows of sources."""

    distortions: FloatArray
    """(..., n)"""
    level: FloatArray
    """(...,)"""
    terms: FloatArray
    """(..., n) logarithms of variance over distortion, in nats."""
    gap: FloatArray
    """(...,) by how much the sum of the logarithms may exceed the least one."""


@np.errstate(over="ignore", under="ignore")
def drain(variances: FloatArray, distortion: FloatArray) -> Drained:
    """Reverse water-filling of checked arrays: variances (..., n), distortion (...,) positive where a variance is."""
    n = variances.shape[-1]
    budget = np.where(distortion > 0, distortion, 1.0)[..., None]
    part = np.minimum(variances / budget, HIGH)
    ranked = np.sort(part, axis=-1)
    total = np.cumsum(ranked, axis=-1)
    below = total - ranked  # of those before this one
    left = n - np.arange(n)
    drowned = (below + left * ranked <= 1).sum(axis=-1, keepdims=True)
    spent = np.where(np.arange(n) < drowned, ranked, 0.0).sum(axis=-1, keepdims=True)
    all_in = drowned == n
    level = np.where(all_in, ranked[..., -1:], (1 - spent) / np.maximum(n - drowned, 1))
    above = part > level
    for _ in range(2):  # rounding of the sum
        missing = np.where(all_in, 0.0, 1 - np.minimum(part, level).sum(axis=-1, keepdims=True))
        level = level + missing / np.maximum(above.sum(axis=-1, keepdims=True), 1)
    exact = np.where(all_in, variances.max(axis=-1, keepdims=True), level * budget)
    distortions = np.minimum(variances, exact)
    coded = variances > exact
    plain = all_in | (exact > 1e-290)
    depth = np.log(np.where(plain, np.where(exact > 0, exact, 1.0), np.where(all_in, 1.0, level)))
    depth = depth + np.where(plain, 0.0, np.log(budget))
    logs = np.where(coded, np.log(np.where(coded, variances, 1.0)) - depth, 0.0)
    near = coded & (variances < 2 * exact)
    safe = np.where(near, exact, 1.0)
    logs = np.where(near, np.log1p((np.where(near, variances, 1.0) - safe) / safe), logs)
    spent = np.minimum(part, level).sum(axis=-1)
    gap = np.where(all_in[..., 0], 0.0, np.abs(1 - spent) / np.where(level[..., 0] > 0, level[..., 0], 1.0))
    return Drained(distortions, exact[..., 0], np.asarray(logs), gap)
