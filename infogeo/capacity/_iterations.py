r"""Blahut's and Arimoto's iteration in the log domain, plain and with longer steps.

One step is :math:`p_x \leftarrow p_x\, e^{\alpha (D_x - s b_x)} / Z` with :math:`\alpha = 1`. Under a budget s is the
multiplier with which the new law keeps to it. Longer steps [1]_ are tried as long as they raise the information and
taken back where they do not.

References
----------
.. [1] G. Matz, P. Duhamel, "Information geometric formulation and interpretation of accelerated Blahut-Arimoto-type
   algorithms", IEEE Information Theory Workshop 2004.
"""

from __future__ import annotations

import math

import numpy as np

from infogeo._arrays import Array, namespace, to_numpy
from infogeo.capacity._newton import interior_law
from infogeo.capacity._program import Program, Solution

GROWTH, SHRINKAGE = 1.5, 0.25
"""Factors of the step after one that raised the information, and after one that did not."""

BISECTIONS = 200


def solve(program: Program, *, tol: float, max_iter: int, accelerated: bool) -> Solution:
    """Brackets no wider than ``tol`` (nats) where they are reached within ``max_iter`` steps."""
    xp = namespace(program.channel)
    k = program.channel.shape[0]
    p = interior_law(program)
    logs = xp.log(p)
    zero = xp.zeros_like(p[:, 0])
    alpha = zero + 1.0
    slopes = program.slopes(program.output(p))
    price = _price(program, logs, slopes, alpha)
    best_p, best_price = p, price
    best_lower, best_upper = program.bracket(p, slopes, price)
    counts = np.zeros(k, dtype=np.int64)
    for step in range(1, max_iter + 1):
        open_ = best_upper - best_lower > tol
        if not bool(xp.any(open_)):
            break
        counts[to_numpy(open_)] = step
        tried = _moved(program, logs, slopes, alpha, price)
        law = xp.exp(tried)
        new_slopes = program.slopes(program.output(law))
        lower, _ = program.bracket(law, new_slopes, zero if program.cost is None else price)
        before = xp.sum(xp.exp(logs) * slopes, axis=-1)
        better = (lower >= before) | (alpha <= 1.0)
        logs = xp.where(better[:, None], tried, logs)
        slopes = xp.where(better[:, None], new_slopes, slopes)
        if accelerated:
            shorter = xp.where(alpha * SHRINKAGE > 1, alpha * SHRINKAGE, 1.0)
            alpha = xp.where(better, alpha * GROWTH, shorter)
        p = xp.exp(logs)
        price = _price(program, logs, slopes, alpha)
        lower, upper = program.bracket(p, slopes, price)
        # the two bounds hold for the program, not for the iterate: each is kept where it is best
        improved = upper - lower < best_upper - best_lower
        best_p = xp.where(improved[:, None], p, best_p)
        best_price = xp.where(improved, price, best_price)
        best_lower = xp.where(improved, lower, best_lower)
        best_upper = xp.where(improved, upper, best_upper)
    return Solution(p=best_p, price=best_price, lower=best_lower, upper=best_upper, iterations=counts)


def _moved(program: Program, logs: Array, slopes: Array, alpha: Array, price: Array) -> Array:
    """Logarithms of the law after a step."""
    raised = logs + alpha[:, None] * slopes
    if program.cost is not None:
        raised = raised - (alpha * price)[:, None] * program.cost
    return raised - _log_sum(raised)


def _price(program: Program, logs: Array, slopes: Array, alpha: Array) -> Array:
    """(k,) the least price with which a step of length alpha keeps to the budget; zero without one."""
    xp = namespace(logs)
    zero = xp.zeros_like(alpha)
    if program.cost is None:
        return zero

    def spent(price: Array) -> Array:
        return xp.sum(xp.exp(_moved(program, logs, slopes, alpha, price)) * program.cost, axis=-1)

    low, high = zero, zero + 1.0
    while bool(xp.any((spent(high) > program.budget) & (high < 1e300))):
        high = xp.where(spent(high) > program.budget, 4 * high, high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        over = spent(middle) > program.budget
        low, high = xp.where(over, middle, low), xp.where(over, high, middle)
        if bool(xp.all(high - low <= 1e-15 * high)):
            break
    return xp.where(spent(zero) <= program.budget, zero, high)


def _log_sum(x: Array) -> Array:
    xp = namespace(x)
    top = xp.max(x, axis=-1, keepdims=True)
    top = xp.where(top > -math.inf, top, 0.0)
    return top + xp.log(xp.sum(xp.exp(x - top), axis=-1, keepdims=True))
