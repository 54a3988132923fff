"""Units of information: computed in nats inside, turned once at the end; nothing global."""

from __future__ import annotations

import math
from typing import Literal

from infogeo.errors import ArgumentError

Unit = Literal["nats", "bits"]
"""Unit of an entropy, an information or a capacity."""

PER_NAT = {"nats": 1.0, "bits": 1 / math.log(2)}


def per_nat(unit: str) -> float:
    """How many of the unit one nat is, or an error that names the units there are."""
    try:
        return PER_NAT[unit]
    except (KeyError, TypeError):
        raise ArgumentError(f"unit: found {unit!r}, wanted 'nats' or 'bits'") from None
