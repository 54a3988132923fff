"""One door to the views of a layer as a channel, and the check that no processing adds information."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from infogeo._checks import check_number
from infogeo._units import PER_NAT, Unit, per_nat
from infogeo.capacity.deb2025 import deb2025_capacity
from infogeo.capacity.heads import attention_capacity
from infogeo.capacity.jacobian import jacobian_capacity
from infogeo.capacity.linear import linear_gaussian_capacity
from infogeo.capacity.readout import readout_capacity
from infogeo.capacity.results import LayerCapacity, View
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import InformationEstimate
from infogeo.results import Result, Source

VIEWS: dict[str, tuple[Callable[..., Any], str, bool]] = {
    "linear_gaussian": (linear_gaussian_capacity, "inputs (n, p)", True),
    "jacobian": (jacobian_capacity, "Jacobians (n, q, p)", False),
    "attention": (attention_capacity, "a sequence of attention maps", False),
    "readout": (readout_capacity, "log-probabilities (n, V)", False),
    "deb2025": (deb2025_capacity, "inputs", True),
}
"""Function of each view, what its first argument is, and whether it takes outputs besides."""


def layer_capacity(
    x: Any, y: Any = None, *, view: View, **options: Any
) -> LayerCapacity | list[LayerCapacity]:
    r"""Capacity of a layer, seen as a channel in one of five ways.

    .. math:: C = \max_{p(x)} I(X; Y)

    over the input laws of the view's constraint, under the view's noise. A deterministic map has no capacity of its
    own: noise and constraint come back with the number.

    ================= ========================================= ==========================================
    view              x and y                                   noise
    ================= ========================================= ==========================================
    linear_gaussian   samples of input and output               residual of the linear fit, or stated
    jacobian          Jacobians at samples                      stated
    attention         attention maps, one entry for each text   the head's own spread
    readout           log-probabilities of predictions          the model's own uncertainty
    deb2025           entries of input and output               kernel of a density estimate
    ================= ========================================= ==========================================

    The functions are :func:`linear_gaussian_capacity`, :func:`jacobian_capacity`, :func:`attention_capacity`,
    :func:`readout_capacity` and :func:`deb2025_capacity`; each says what it assumes and when to choose it.

    Parameters
    ----------
    x : array_like or sequence of array_like
        What the view is of.
    y : array_like, optional
        Outputs; for ``linear_gaussian`` and ``deb2025``, which need them, only.
    view : {"linear_gaussian", "jacobian", "attention", "readout", "deb2025"}
    **options
        Keyword arguments of the view's function.

    Returns
    -------
    LayerCapacity, or list of LayerCapacity
        A list for attention maps of several heads.

    Raises
    ------
    ArgumentError
        There is no such view, it has no such option or lacks one, or outputs are given or missing against the view.
    InfogeoError
        As the view's function.

    Examples
    --------
    >>> head = [[0.9, 0.1], [0.2, 0.8]]
    >>> found = layer_capacity([head, head], view="attention", causal=False, unit="bits")
    >>> round(found.capacity, 4)
    0.3978
    """
    if view not in VIEWS:
        raise ArgumentError(f"view: found {view!r}, wanted one of {', '.join(VIEWS)}")
    function, what, takes_outputs = VIEWS[view]
    known = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - {p.name for p in known})
    if unknown:
        raise ArgumentError(
            f"view {view!r} has no option {', '.join(unknown)}; it takes {', '.join(p.name for p in known)}"
        )
    missing = [p.name for p in known if p.default is p.empty and p.name not in options]
    if missing:
        raise ArgumentError(f"view {view!r} needs {', '.join(missing)}; it has no default")
    if takes_outputs and y is None:
        raise ArgumentError(f"y: view {view!r} needs the outputs besides {what}")
    if not takes_outputs and y is not None:
        raise ArgumentError(f"y: view {view!r} is of {what} alone; leave y out")
    arguments = (x, y) if takes_outputs else (x,)
    return cast("LayerCapacity | list[LayerCapacity]", function(*arguments, **options))


Stage: TypeAlias = LayerCapacity | InformationEstimate


@dataclass(frozen=True, eq=False, kw_only=True)
class DataProcessingCheck(Result):
    """Estimates along a chain X - T1 - T2 - ..., and where a later one is above an earlier one."""

    quantity: str
    """``rate``, ``capacity``, or the quantity of the estimates."""
    unit: Unit
    names: tuple[str, ...]
    values: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    excesses: tuple[float, ...]
    """By how much each stage is above the lowest stage before it; minus infinity for the first."""
    above: tuple[int, ...]
    """Stages, from 0, that are above a stage before them by more than ``tolerance``."""
    violations: tuple[int, ...]
    """Those of them whose interval does not reach down to the upper end of that stage: not by error alone."""
    tolerance: float
    source: Source = field(default_factory=Source)

    @property
    def obeyed(self) -> bool:
        """Whether all that rises rises within the intervals."""
        return not self.violations

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("stage", "name", "value", "lower", "upper", "excess", "verdict")
        table = []
        for i, (name, value, interval) in enumerate(zip(self.names, self.values, self.intervals, strict=True)):
            low, high = interval or (None, None)
            verdict = "violation" if i in self.violations else "within the intervals" if i in self.above else "obeyed"
            table.append((i, name, value, low, high, self.excesses[i], verdict))
        return columns, table

    def summary(self) -> str:
        found = "obeyed" if self.obeyed else f"violated at {', '.join(self.names[i] for i in self.violations)}"
        return f"data processing {found}: {self.quantity} of {len(self.values)} stages, in {self.unit}"


def data_processing_check(
    stages: Sequence[Stage], *, quantity: Literal["rate", "capacity"] = "rate", tolerance: float = 1e-9
) -> DataProcessingCheck:
    r"""Whether estimates along a Markov chain obey the data-processing inequality.

    .. math:: X \to T_1 \to T_2 \quad\Longrightarrow\quad I(X; T_2) \le I(X; T_1), \qquad C(X \to T_2) \le C(X \to T_1)

    [1]_. The theory demands this of one chain with one input and with **each stage's noise inside the chain**. It does
    not demand it of numbers that belong to different channels: in the linear-Gaussian view each layer's residual is
    the noise of its own fit, and noise that is stated for one layer is not handed on to the next.

    Parameters
    ----------
    stages : sequence of LayerCapacity or InformationEstimate
        In the order of the chain, at least two, all of one kind; units may differ.
    quantity : {"rate", "capacity"}
        Which number of a ``LayerCapacity``; an ``InformationEstimate`` has only its value.
    tolerance : float
        Rises up to this, in the unit of the first stage, are rounding.

    Returns
    -------
    DataProcessingCheck
        A rise is within the intervals if the later interval reaches down to the upper end of the earlier one; without
        intervals any rise is a violation.

    Raises
    ------
    ShapeError
        There are fewer than two stages.
    ArgumentError
        A stage is of another kind, has no rate, or there is no such quantity.
    DomainError
        A value is NaN.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, "Elements of Information Theory", 2nd ed. 2006, section 2.8.

    Examples
    --------
    >>> first, second = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.8, 0.2], [0.3, 0.7]])
    >>> chain = [attention_capacity([w, w], causal=False) for w in (first, first @ second)]
    >>> data_processing_check(chain, quantity="capacity").obeyed
    True
    """
    if quantity not in ("rate", "capacity"):
        raise ArgumentError(f"quantity: found {quantity!r}, wanted 'rate' or 'capacity'")
    tolerance = check_number("tolerance", tolerance)
    stages = list(stages)
    if len(stages) < 2:
        raise ShapeError(f"stages: found {len(stages)}, wanted at least two, in the order of the chain")
    kinds = {type(stage) for stage in stages}
    if len(kinds) > 1 or not kinds <= {LayerCapacity, InformationEstimate}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ArgumentError(f"stages: found {found}, wanted LayerCapacity or InformationEstimate, all of one kind")
    unit = stages[0].unit
    names, values, intervals = [], [], []
    for i, stage in enumerate(stages):
        name, value, interval = _number(i, stage, quantity)
        factor = per_nat(unit) / PER_NAT[stage.unit]
        names.append(name)
        values.append(factor * value)
        intervals.append(None if interval is None else (factor * interval[0], factor * interval[1]))
    excesses, above, violations = [-np.inf], [], []
    for i in range(1, len(values)):
        excesses.append(values[i] - min(values[:i]))
        if excesses[i] > tolerance:
            above.append(i)
        ends = [interval or (value, value) for interval, value in zip(intervals, values, strict=True)]
        low, tops = ends[i][0], [ends[k][1] for k in range(i)]
        if low > min(tops) + tolerance and i in above:
            violations.append(i)
    said = stages[0].quantity if isinstance(stages[0], InformationEstimate) else quantity
    return DataProcessingCheck(
        quantity=said, unit=unit, names=tuple(names), values=tuple(values), intervals=tuple(intervals),
        excesses=tuple(excesses), above=tuple(above), violations=tuple(violations), tolerance=tolerance,
    )  # fmt: skip


def _number(place: int, stage: Stage, quantity: str) -> tuple[str, float, tuple[float, float] | None]:
    """Name, value and interval of a stage."""
    if isinstance(stage, InformationEstimate):
        name, value, interval = f"stage {place}", stage.value, stage.interval
    else:
        name = stage.name or f"stage {place}"
        rate = quantity == "rate"
        if rate and stage.rate is None:
            raise ArgumentError(f"stages: {name} has no rate; give quantity='capacity'")
        value = float(stage.rate or 0.0) if rate else stage.capacity
        interval = stage.rate_interval if rate else stage.capacity_interval
    if np.isnan(value):
        raise DomainError(f"stages: {name} is NaN")
    return name, value, interval
