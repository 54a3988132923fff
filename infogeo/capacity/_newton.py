r"""Capacity by a primal-dual interior-point method: some fifteen Newton steps, whatever the channel.

The program is :math:`\max I(p)` over :math:`p \ge 0, \sum p = 1` (and :math:`b \cdot p \le B`). Its optimality
conditions with slacks :math:`z_x = \lambda + s b_x - D_x \ge 0` are solved with :math:`p_x z_x = \mu` for a falling
:math:`\mu`, by predictor and corrector. In the variables :math:`u = p^{-1/2}\, \delta p` the matrix of a step is

.. math:: M = A A^\top + \mathrm{diag}(z), \qquad A_{xy} = \sqrt{p_x}\, W_{xy} / \sqrt{q_y}

whose first part has norm one for every channel (the maximal correlation of input and output), so that inputs of no
weight do no harm. The cost of a step is that of forming M, of order n m min(n, m), and of solving with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from infogeo._arrays import Array, is_tensor, namespace
from infogeo.capacity._program import Program, Solution

TO_BOUNDARY = 0.995
"""Part of the way to the boundary that a step may go."""

CHUNK = 2**25
"""Numbers that the matrices of one chunk of a batch may hold (256 MiB)."""

DIRECT = 256
"""Up to so many inputs the matrix of a step is formed as it is; above, and above the number of outputs, it is solved
through the outputs, which cancels digits where z is small."""

REFINEMENTS = 2
"""Of a step solved through the outputs. With one, some channels stall at gaps of 1e-11, with none at 1e-9."""

STALLED = 12
"""Steps without a better bracket after which a member is given up."""


def solve(program: Program, *, tol: float, max_iter: int) -> Solution:
    """Brackets no wider than ``tol`` (nats) where they are reached, the best ones otherwise."""
    xp = namespace(program.channel)
    k, n, m = program.channel.shape
    size = max(1, CHUNK // (2 * n * m + 2 * min(n, max(m, DIRECT)) ** 2))
    parts = [_solve(program.part(slice(i, i + size)), tol, max_iter) for i in range(0, max(k, 1), size)]
    if len(parts) == 1:
        return parts[0]
    return Solution(**{
        name: xp.concat([getattr(part, name) for part in parts]) if name != "iterations"
        else np.concatenate([part.iterations for part in parts])
        for name in ("p", "price", "lower", "upper", "iterations")
    })


def interior_law(program: Program) -> Array:
    """Interior points: uniform, or with weight moved to cheap inputs until half of what the budget leaves is used."""
    xp = namespace(program.channel)
    p = xp.ones_like(program.gains) / program.channel.shape[1]
    if program.cost is None:
        return p
    spent = xp.sum(p * program.cost, axis=-1)
    least = xp.min(program.cost, axis=-1)
    cheap = xp.astype(program.cost == least[:, None], p.dtype)
    cheap = cheap / xp.sum(cheap, axis=-1)[:, None]
    room = spent - least
    target = xp.where(room > 0, (program.budget - least) / xp.where(room > 0, room, 1.0), 1.0)
    share = xp.where(target > 2, 1.0, target / 2)[:, None]
    share = xp.where(share > 1, 1.0, share)
    return share * p + (1 - share) * cheap


def _solve(program: Program, tol: float, max_iter: int) -> Solution:
    xp = namespace(program.channel)
    k = program.channel.shape[0]
    bounded = program.cost is not None
    p = interior_law(program)
    q = program.output(p)
    slopes = program.slopes(q)
    # price zero: what bounds the capacity bounds it under a budget as well
    lower, upper = program.bracket(p, slopes, None)
    best_p, best_price, best_lower, best_upper = _copies(xp, p, xp.zeros_like(lower), lower, upper)
    counts = np.zeros(k, dtype=np.int64)
    idle = np.zeros(k, dtype=np.int64)
    live = np.arange(k)
    state = _start(program, p, slopes, upper - lower, upper)
    current = program
    done = _host(best_upper - best_lower) <= tol
    for step in range(1, max_iter + 1):
        if done.all():
            break
        if done.any():
            keep = np.flatnonzero(~done)
            live = live[keep]
            chosen = _index(xp, keep, p)
            current = current.part(chosen)
            state = tuple(part[chosen] for part in state)
            q, slopes = q[chosen], slopes[chosen]
        state, q, slopes = _step(current, state, q, slopes)
        p, price = state[0], state[-1]
        feasible, law = _feasible(current, p)
        law_slopes = slopes if law is p else current.slopes(current.output(law))
        lower, upper = current.bracket(law, law_slopes, price if bounded else None)
        if bounded:
            free = xp.max(law_slopes, axis=-1)  # price zero
            better = free < upper
            upper, offered = xp.where(better, free, upper), xp.where(better, 0.0, price)
        else:
            offered = price
        where = _index(xp, live, p)
        gap = xp.where(feasible, upper - lower, math.inf)
        improved = gap < best_upper[where] - best_lower[where]
        chosen_p = xp.where(improved[:, None], law, best_p[where])
        best_p[where] = chosen_p
        best_price[where] = xp.where(improved, offered, best_price[where])
        best_lower[where] = xp.where(improved, lower, best_lower[where])
        best_upper[where] = xp.where(improved, upper, best_upper[where])
        counts[live] = step
        idle[live] = np.where(_host(improved), 0, idle[live] + 1)
        done = (_host(best_upper[where] - best_lower[where]) <= tol) | (idle[live] >= STALLED)
    return Solution(p=best_p, price=best_price, lower=best_lower, upper=best_upper, iterations=counts)


def _start(program: Program, p: Array, slopes: Array, gap: Array, upper: Array) -> tuple[Array, ...]:
    """Interior point (p, z, top, slack, price) to begin with."""
    xp = namespace(p)
    spread = xp.where(gap > 1e-3, gap, 1e-3)
    top = upper + 0.1 * spread
    if program.cost is None:
        return p, top[:, None] - slopes, top, xp.ones_like(top), xp.zeros_like(top)
    slack = program.budget - xp.sum(p * program.cost, axis=-1)
    price = spread / p.shape[-1] / xp.where(slack > 0, slack, 1.0)
    z = top[:, None] + price[:, None] * program.cost - slopes
    low = xp.min(z, axis=-1)
    lift = xp.where(low < 0.1 * spread, 0.1 * spread - low, 0.0)
    return p, z + lift[:, None], top + lift, slack, price


def _feasible(program: Program, p: Array) -> tuple[Array, Array]:
    """Laws that sum to one and keep to the budget, made from the iterates; and where that was possible."""
    xp = namespace(p)
    law = p / xp.sum(p, axis=-1)[:, None]
    if program.cost is None:
        return xp.ones_like(p[:, 0]) > 0, law
    least = xp.min(program.cost, axis=-1)
    spent = xp.sum(law * program.cost, axis=-1)
    over = spent > program.budget
    if bool(xp.any(over)):
        cheap = xp.astype(program.cost == least[:, None], p.dtype)
        cheap = cheap / xp.sum(cheap, axis=-1)[:, None]
        room = spent - least
        share = xp.where(over, (program.budget - least) / xp.where(room > 0, room, 1.0) * (1 - 1e-15), 1.0)
        law = xp.where(over[:, None], share[:, None] * law + (1 - share[:, None]) * cheap, law)
        spent = xp.sum(law * program.cost, axis=-1)
    # costs are scaled to lie between 0 and 1
    return spent <= program.budget + 4e-16, law


def _step(
    program: Program, state: tuple[Array, ...], q: Array, slopes: Array
) -> tuple[tuple[Array, ...], Array, Array]:
    """One damped Newton step of all members."""
    p, z, top, slack, price = state
    xp = namespace(p)
    n = p.shape[-1]
    bounded = program.cost is not None
    mu = xp.sum(p * z, axis=-1)
    count = n
    if bounded:
        mu, count = mu + slack * price, n + 1
    mu = mu / count
    dual = top[:, None] - slopes - z
    if bounded:
        dual = dual + price[:, None] * program.cost
    primal = xp.sum(p, axis=-1) - 1.0
    root = xp.sqrt(p)
    matrix = root[:, :, None] * program.channel / xp.sqrt(xp.where(q > 0, q, 1.0))[:, None, :]
    solver = _Solver(matrix, z)

    def direction(target: Array, second: tuple[Array, Array] | None) -> tuple[Array, ...]:
        complement = p * z - target[:, None]
        if second is not None:
            complement = complement + second[0]
        columns = [-(dual + complement / p) * root, root]
        if bounded:
            columns.append(program.cost * root)
        solved = solver(xp.stack(columns, axis=-1))
        particular, ones = solved[..., 0], solved[..., 1]
        a = xp.sum(root * ones, axis=-1)
        r1 = xp.sum(root * particular, axis=-1) + primal
        if not bounded:
            d_top = r1 / a
            u = particular - d_top[:, None] * ones
            dp = root * u
            return dp, -(complement + z * dp) / p, d_top, None, None
        costly = solved[..., 2]
        c = program.cost * root
        over = xp.sum(p * program.cost, axis=-1) + slack - program.budget
        rest = slack * price - target
        if second is not None:
            rest = rest + second[1]
        b = xp.sum(root * costly, axis=-1)
        d = xp.sum(c * costly, axis=-1) + slack / price
        r2 = xp.sum(c * particular, axis=-1) + over - rest / price
        det = a * d - b * b
        d_top, d_price = (d * r1 - b * r2) / det, (a * r2 - b * r1) / det
        u = particular - d_top[:, None] * ones - d_price[:, None] * costly
        dp = root * u
        return dp, -(complement + z * dp) / p, d_top, -(rest + slack * d_price) / price, d_price

    def longest(dp: Array, dz: Array, d_slack: Array, d_price: Array) -> tuple[Array, Array]:
        one, other = _reach(xp, p, dp), _reach(xp, z, dz)
        if bounded:
            one = xp.minimum(one, _reach(xp, slack[:, None], d_slack[:, None]))
            other = xp.minimum(other, _reach(xp, price[:, None], d_price[:, None]))
        return one, other

    dp, dz, _, ds, dr = direction(xp.zeros_like(mu), None)
    one, other = longest(dp, dz, ds, dr)
    one, other = xp.minimum(one, xp.ones_like(one)), xp.minimum(other, xp.ones_like(other))
    ahead = xp.sum((p + one[:, None] * dp) * (z + other[:, None] * dz), axis=-1)
    if bounded:
        ahead = ahead + (slack + one * ds) * (price + other * dr)
    second = (dp * dz, ds * dr if bounded else None)
    change = direction(_centering(ahead / count / mu) * mu, second)
    dp, dz, _, ds, dr = change
    # one length for both, since the slopes depend on p: the dual residual shrinks with the same factor
    length = TO_BOUNDARY * xp.minimum(*longest(dp, dz, ds, dr))
    moved = _advanced(state, change, xp.where(length < 1, length, 1.0))
    new_q = program.output(moved[0])
    return moved, new_q, program.slopes(new_q)


def _centering(ratio: Array) -> Array:
    """(k,) how much of the mean product is aimed at, by how much the predictor would leave of it (Mehrotra's rule)."""
    xp = namespace(ratio)
    sigma = xp.where(ratio < 1, ratio, 1.0) ** 3
    return xp.where(sigma < 1e-8, 1e-8, sigma)


def _advanced(state: tuple[Array, ...], change: tuple[Array, ...], length: Array) -> tuple[Array, ...]:
    """The state after a step of a length; what has no change (slack and price without a budget) stays."""
    return tuple(
        part if step is None else part + (length[:, None] if part.ndim == 2 else length) * step
        for part, step in zip(state, change, strict=True)
    )


class _Solver:
    """Solves :math:`(A A^T + diag(z)) u = r`, through the outputs where they are many fewer than the inputs."""

    def __init__(self, matrix: Array, z: Array) -> None:
        xp = namespace(matrix)
        n, m = matrix.shape[-2:]
        self.matrix, self.z, self.xp, self.small = matrix, z, xp, n <= max(m, DIRECT)
        if self.small:
            gram = xp.matmul(matrix, xp.matrix_transpose(matrix))
            _add_diagonal(gram, z)
        else:
            gram = xp.matmul(xp.matrix_transpose(matrix), matrix / z[:, :, None])
            _add_diagonal(gram, xp.ones_like(gram[..., 0]))
        self.factor = _Factor(gram)

    def __call__(self, right: Array) -> Array:
        if self.small:
            return self.factor(right)
        turned, z = self.xp.matrix_transpose(self.matrix), self.z[:, :, None]
        u, rest = 0.0, right
        for _ in range(1 + REFINEMENTS):
            inner = self.factor(self.xp.matmul(turned, rest / z))
            u = u + (rest - self.xp.matmul(self.matrix, inner)) / z
            rest = right - z * u - self.xp.matmul(self.matrix, self.xp.matmul(turned, u))
        return u


class _Factor:
    """A positive definite matrix, factored once and solved with several times."""

    def __init__(self, gram: Array) -> None:
        self.gram = gram
        self.single: Any = None
        if not is_tensor(gram) and len(gram) == 1:
            from scipy import linalg

            ridge = 0.0
            for _ in range(8):
                try:
                    self.single = linalg.cho_factor(gram[0], lower=True, check_finite=False)
                    return
                except linalg.LinAlgError:
                    ridge = max(10 * ridge, 1e-15 * float(np.trace(gram[0])) / len(gram[0]))
                    gram = gram.copy()
                    _add_diagonal(gram, np.full(gram.shape[:2], ridge))
            self.single = None
        self.inverse = _inverse(gram)

    def __call__(self, right: Array) -> Array:
        if self.single is not None:
            from scipy import linalg

            return np.asarray(linalg.cho_solve(self.single, right[0], check_finite=False))[None]
        xp = namespace(right)
        return xp.matmul(self.inverse, right)


def _inverse(gram: Array) -> Array:
    xp = namespace(gram)
    try:
        return xp.linalg.inv(gram)
    except (np.linalg.LinAlgError, RuntimeError):
        gram = xp.asarray(gram, copy=True)
        _add_diagonal(gram, 1e-14 * xp.ones_like(gram[..., 0]))
        return xp.linalg.inv(gram)


def _add_diagonal(gram: Array, values: Array) -> None:
    n = gram.shape[-1]
    index = np.arange(n)
    gram[:, index, index] += values


def _reach(xp: Any, x: Array, dx: Array) -> Array:
    """(k,) how far along dx the numbers x stay positive."""
    falls = dx < 0
    steps = xp.where(falls, x / xp.where(falls, -dx, 1.0), math.inf)
    return xp.min(steps, axis=-1)


def _copies(xp: Any, *arrays: Array) -> list[Array]:
    return [xp.asarray(a, copy=True) for a in arrays]


def _index(xp: Any, numbers: Any, other: Array) -> Array:
    if not is_tensor(other):
        return numbers
    return xp.asarray(numbers, device=other.device)


def _host(x: Array) -> Any:
    return x.cpu().numpy() if is_tensor(x) else x
