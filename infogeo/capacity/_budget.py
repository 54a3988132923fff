r"""Capacity under a budget through the price of the cost, for the channels on which the direct method stalls.

At a price s the program without a budget gives :math:`h(s) = \max_p I(p) - s (b \cdot p - B)`, an upper bound of C(B)
for every :math:`s \ge 0`, convex in s, with slope :math:`B - b \cdot p(s)`. Two laws on either side of the budget are
mixed to one that keeps to it, and concavity bounds C(B) from below. The root of the slope is closed in on.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from infogeo._arrays import Array, namespace, to_numpy
from infogeo.capacity import _newton
from infogeo.capacity._program import Program, Solution

DOUBLINGS, REFINEMENTS = 200, 200


def solve(program: Program, *, tol: float, max_iter: int) -> Solution:
    """Brackets no wider than ``tol`` (nats) where they are reached; ``max_iter`` is for each price."""
    xp = namespace(program.channel)
    zero = xp.zeros_like(program.budget)
    counts = np.zeros(len(to_numpy(zero)), dtype=np.int64)

    def at(price: Array) -> tuple[Array, Array, Array]:
        priced = replace(program, gains=program.gains - price[:, None] * program.cost, cost=None, budget=None)
        found = _newton.solve(priced, tol=tol / 4, max_iter=max_iter)
        counts[...] += found.iterations
        return found.p, xp.sum(found.p * program.cost, axis=-1), found.upper + price * program.budget

    def value(p: Array) -> Array:
        return xp.sum(p * program.slopes(program.output(p)), axis=-1)

    low = zero
    dear, dear_cost, upper = at(low)
    price, high = low, zero + 1.0
    cheap, cheap_cost, bound = at(high)
    for _ in range(DOUBLINGS):
        price, upper = xp.where(bound < upper, high, price), xp.minimum(upper, bound)
        over = cheap_cost > program.budget
        if not bool(xp.any(over)):
            break
        low = xp.where(over, high, low)
        dear, dear_cost = xp.where(over[:, None], cheap, dear), xp.where(over, cheap_cost, dear_cost)
        high = xp.where(over, 4 * high, high)
        cheap, cheap_cost, bound = at(high)
    free = dear_cost <= program.budget  # at price zero: the budget does not bind
    best, lower = cheap, xp.where(cheap_cost <= program.budget, value(cheap), -math.inf)
    for step in range(REFINEMENTS):
        law = _mixed(program, dear, dear_cost, cheap, cheap_cost)
        reached = value(law)
        best = xp.where((reached > lower)[:, None], law, best)
        lower = xp.maximum(lower, reached)
        if not bool(xp.any(upper - lower > tol)):
            break
        chord = (dear_cost - program.budget) / xp.where(dear_cost > cheap_cost, dear_cost - cheap_cost, 1.0)
        share = xp.where((chord > 0.05) & (chord < 0.95), chord, 0.5) if step % 3 else zero + 0.5
        middle = xp.where(free, 0.0, low + share * (high - low))
        p, spent, bound = at(middle)
        price, upper = xp.where(bound < upper, middle, price), xp.minimum(upper, bound)
        over = spent > program.budget
        low, high = xp.where(over, middle, low), xp.where(over, high, middle)
        dear, dear_cost = xp.where(over[:, None], p, dear), xp.where(over, spent, dear_cost)
        cheap, cheap_cost = xp.where(over[:, None], cheap, p), xp.where(over, cheap_cost, spent)
    return Solution(p=best, price=price, lower=lower, upper=upper, iterations=counts)


def _mixed(program: Program, dear: Array, dear_cost: Array, cheap: Array, cheap_cost: Array) -> Array:
    """The law between two that uses the budget up, or the dearer one where that keeps to it."""
    xp = namespace(dear)
    gap = dear_cost - cheap_cost
    share = (program.budget - cheap_cost) / xp.where(gap > 0, gap, 1.0)
    share = xp.where((share >= 1) | (dear_cost <= program.budget), 1.0, xp.where(share > 0, share, 0.0))
    return share[:, None] * dear + (1 - share[:, None]) * cheap
