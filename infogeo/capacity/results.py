"""What the capacity of a channel comes back as: the number, between which bounds, under which assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._arrays import is_tensor, to_numpy
from infogeo._checks import IntArray
from infogeo._units import Unit
from infogeo.errors import ShapeError
from infogeo.results import Result, Source, to_plain

View = Literal["linear_gaussian", "jacobian", "attention", "readout", "deb2025"]
Part = Literal["block", "attention", "query", "key", "value", "feed_forward"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CapacityResult(Result):
    """Capacity of discrete channels between two bounds, with the laws that reach it; arrays over the batch (...,)."""

    lower: Any
    """Information at ``input_probs``, so that the channel can carry it; what stands for the capacity."""
    upper: Any
    """No input law carries more (with a cost: none that costs no more). Both bounds are good to rounding, some 1e-16
    nats, so that ``lower`` may lie above ``upper`` by as much."""
    unit: Unit
    input_probs: Any
    """(..., n) the law at which ``lower`` is the information; not the only one where rows depend on each other."""
    output_probs: Any
    """(..., m)"""
    cost: Any = None
    """Mean cost of ``input_probs``; None without a cost."""
    multiplier: Any = None
    """Slope of the capacity in the budget, in ``unit`` per unit of cost; None without a cost. Infinite where the budget
    allows the cheapest inputs only, and others reach outputs that those do not."""
    iterations: Any
    """Steps of the solver."""
    converged: Any
    """Whether ``upper - lower`` is at most ``tol``."""
    tol: float
    """In ``unit``."""
    solver: str
    source: Source = field(default_factory=Source)

    @property
    def capacity(self) -> Any:
        """The lower bound: at most ``upper - lower`` below the capacity."""
        return self.lower

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ["channel", "lower", "upper", "unit", "iterations", "converged"]
        arrays = [self.lower, self.upper, None, self.iterations, self.converged]
        if self.cost is not None:
            columns += ["cost", "multiplier"]
            arrays += [self.cost, self.multiplier]
        flat = [None if a is None else to_numpy(a).reshape(-1).tolist() for a in arrays]
        count = len(flat[0] or ())
        return tuple(columns), [
            (i, *(self.unit if column is None else column[i] for column in flat)) for i in range(count)
        ]

    def to_dict(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: to_numpy(value) if is_tensor(value) else value for name, value in plain.items()}
        return {"type": type(self).__name__, **to_plain(plain)}

    def summary(self) -> str:
        lower, upper = to_numpy(self.lower), to_numpy(self.upper)
        if lower.ndim == 0:
            return f"capacity = {float(lower):.6g} {self.unit}, certified within {float(upper - lower):.1e}"
        if not lower.size:
            return "capacities of no channels"
        return (
            f"capacities of {lower.size} channels, {float(lower.min()):.4g} to {float(lower.max()):.4g} {self.unit}, "
            f"certified within {float((upper - lower).max()):.1e}"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerCapacity(Result):
    """Capacity of one layer, part of a layer, or head, seen as a channel in one of several ways.

    A deterministic map has no capacity of its own: the number belongs to the noise and to the input constraint that
    stand beside it.
    """

    view: View
    capacity: float
    unit: Unit
    rate: float | None = None
    """Information that passes at the actual input law, under the same noise; None where no law is given."""
    capacity_interval: tuple[float, float] | None = None
    rate_interval: tuple[float, float] | None = None
    level: float | None = None
    """Coverage of the intervals."""
    ceiling: float | None = None
    """The most that any channel of this kind could carry (log of the alphabet), None if there is no such limit."""
    noise: str
    """The noise, in words and numbers."""
    constraint: str
    """The input constraint, in words and numbers."""
    n: int
    """Samples (tokens, contexts, maps) it was computed from."""
    bias: float | None = None
    """What was taken off as bias, in the same unit; already subtracted."""
    null: float | None = None
    """Mean of the rate where input and output were permuted against each other; None if no permutations were made."""
    p_value: float | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """Arguments and numbers of the view."""
    name: str = ""
    """Which layer, for example ``block 3, feed_forward``."""
    source: Source = field(default_factory=Source)

    @property
    def utilization(self) -> float | None:
        """Rate over capacity; None without a rate, NaN where the capacity is zero.

        It is above one where the input takes more power than the constraint allows.
        """
        if self.rate is None:
            return None
        return self.rate / self.capacity if self.capacity > 0 else float("nan")

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        low, high = self.capacity_interval or (None, None)
        columns = ("name", "view", "capacity", "lower", "upper", "rate", "utilization", "unit", "noise", "constraint",
                   "n")
        row = (self.name, self.view, self.capacity, low, high, self.rate, self.utilization, self.unit, self.noise,
               self.constraint, self.n)
        return columns, [row]

    def summary(self) -> str:
        around = ""
        if self.capacity_interval is not None:
            around = f" ({self.capacity_interval[0]:.4g} to {self.capacity_interval[1]:.4g})"
        of = f" of {self.name}" if self.name else ""
        return f"capacity{of} = {self.capacity:.4g} {self.unit}{around}, {self.view}, noise: {self.noise}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelSamples(Result):
    """Inputs and outputs of one part of one block, token by token, over one text or many."""

    part: Part
    block: int
    """Counted from 1."""
    x: NDArray[np.floating[Any]]
    """(n, p) what went in, one row for each token."""
    y: NDArray[np.floating[Any]]
    """(n, q) what came out."""
    texts: IntArray
    """(n,) number of the text a token belongs to: tokens of one text are not independent."""
    positions: IntArray
    """(n,) place of the token in its text."""
    token_ids: IntArray
    """(n,)"""
    heads: int | None = None
    """Heads that ``y`` falls into, side by side, for queries, keys and values; None for other parts."""
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        n = len(self.x)
        for name in ("x", "y"):
            if getattr(self, name).ndim != 2:
                raise ShapeError(f"{name}: found shape {getattr(self, name).shape}, wanted (tokens, components)")
        for name in ("y", "texts", "positions", "token_ids"):
            if len(getattr(self, name)) != n:
                raise ShapeError(f"{name}: found {len(getattr(self, name))} rows, wanted {n} as in x")

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("text", "position", "token_id", "input_norm", "output_norm")
        lengths = (np.linalg.norm(a.astype(np.float64), axis=1).tolist() for a in (self.x, self.y))
        where = (self.texts.tolist(), self.positions.tolist(), self.token_ids.tolist())
        return columns, list(zip(*where, *lengths, strict=True))

    def summary(self) -> str:
        size = f"{len(self.x)} tokens, {self.x.shape[1]} to {self.y.shape[1]} components"
        return f"ChannelSamples of block {self.block}, {self.part}: {size} ({self.source.model})"
