r"""The concave program behind a discrete capacity, and what bounds its value from both sides.

With input law p, output law :math:`q = pW` and :math:`D_x = D(W_x \| q)` the information is
:math:`I(p) = \sum_x p_x D_x`, its gradient :math:`D_x - 1` and its Hessian
:math:`-W\,\mathrm{diag}(1/q)\,W^\top`. For any p that keeps to the budget and any price :math:`s \ge 0` of the cost b

.. math:: I(p) \;\le\; C(B) \;\le\; \max_x (D_x - s b_x) + s B

so each iterate of any solver comes with a bracket that does not depend on how it was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from infogeo._arrays import Array, namespace

TINY = 1e-300
"""Stands for zero in a logarithm whose value is multiplied by zero."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """Channels of one shape, in a flat batch: what is to be maximized over p."""

    channel: Array
    """(k, n, m), rows sum to one; no column is zero throughout."""
    gains: Array
    r"""(k, n) negative entropies :math:`\sum_y W_{xy} \log W_{xy}` of the rows, less the multiplier times the cost."""
    cost: Any = None
    """(k, n) cost of each input under a budget; None without one."""
    budget: Any = None
    """(k,)"""

    def part(self, which: Array) -> Program:
        """The chosen members of the batch."""
        return replace(
            self, channel=self.channel[which], gains=self.gains[which],
            cost=None if self.cost is None else self.cost[which],
            budget=None if self.budget is None else self.budget[which],
        )

    def output(self, p: Array) -> Array:
        """(k, m) output laws."""
        xp = namespace(p)
        return xp.matmul(p[:, None, :], self.channel)[:, 0, :]

    def slopes(self, q: Array) -> Array:
        """(k, n) divergences of the rows from the output law, less the multiplier times the cost."""
        xp = namespace(q)
        logs = xp.log(xp.where(q > TINY, q, TINY))
        return self.gains - xp.matmul(self.channel, logs[:, :, None])[:, :, 0]

    def bracket(self, p: Array, slopes: Array, price: Array | None) -> tuple[Array, Array]:
        """(k,) lower and upper bound, of the information less the multiplier times the cost.

        Under a budget p must keep to it.
        """
        xp = namespace(p)
        lower = xp.sum(p * slopes, axis=-1)
        if self.cost is None or price is None:
            return lower, xp.max(slopes, axis=-1)
        return lower, xp.max(slopes - price[:, None] * self.cost, axis=-1) + price * self.budget


@dataclass(frozen=True, eq=False, kw_only=True)
class Solution:
    """The best iterate of each member of a batch, and its bracket."""

    p: Array
    """(k, n)"""
    price: Array
    """(k,) multiplier of the budget; zero without one."""
    lower: Array
    upper: Array
    iterations: Any
    """(k,) whole numbers."""
