"""An estimate of an entropy or a mutual information, with what is known about its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infogeo._units import Unit
from infogeo.results import Result, Source


class EstimateWarning(UserWarning):
    """An estimate is returned, but the data do not support it: too few samples for the dimension, heavy ties, ..."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationEstimate(Result):
    """An entropy or mutual information estimated from samples; the raw number, never clipped, also if negative."""

    quantity: str
    """What is estimated, for example ``I(X; Y)``."""
    value: float
    unit: Unit
    method: str
    """Name of the estimator, with the choices that matter."""
    reason: str = ""
    """Why this estimator, where the data decided."""
    n: int
    """Samples."""
    dimensions: tuple[int, ...]
    """Components of each variable; 0 for a discrete one."""
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    """Lower and upper end, of coverage ``level``."""
    level: float | None = None
    p_value: float | None = None
    """Of the permutation test of independence, None if none was made."""
    permutations: int = 0
    warnings: tuple[str, ...] = ()
    """What speaks against trusting the number; each was also given as an EstimateWarning."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the method: neighbors, bins, bias taken off, estimates of the other methods, ..."""
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        low, high = self.interval or (None, None)
        columns = ("quantity", "value", "unit", "lower", "upper", "level", "p_value", "n", "method")
        row = (self.quantity, self.value, self.unit, low, high, self.level, self.p_value, self.n, self.method)
        return columns, [row]

    def summary(self) -> str:
        around = "" if self.interval is None else f" ({self.interval[0]:.4g} to {self.interval[1]:.4g})"
        return f"{self.quantity} = {self.value:.4g} {self.unit}{around}, {self.method}, n = {self.n}"
