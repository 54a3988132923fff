"""What is measured of influence, as a choice that commands and analyses hand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from infogeo.errors import ArgumentError
from infogeo.influence import NORMALIZATIONS

if TYPE_CHECKING:
    from infogeo_adapters.transformers.influence import Distribution
    from infogeo_adapters.transformers.influence_graphs import GraphNormalization
    from infogeo_adapters.transformers.removal import Removal

USUAL = {"removal": "hide", "distribution": "effects", "normalization": "distance"}
"""The choices of the influence graph when none are named."""


@dataclass(frozen=True)
class InfluenceChoice:
    """What is measured of influence, as in :func:`infogeo_adapters.influence_affinity`.

    Parameters
    ----------
    removal : {"hide", "mask", "delete", "mean", "resample"} or Removal
        How a word is taken away.
    distribution : {"effects", "states", "readout"}
        What moves when a word is taken away; single edges are measured by effects always.
    normalization : {"distance", "none", "rows", "symmetric", "product"}
        What makes the weight of an edge.

    Raises
    ------
    ArgumentError
        There is no such choice.

    Examples
    --------
    >>> InfluenceChoice(removal="delete").normalization
    'distance'
    """

    removal: str | Removal = "hide"
    distribution: Distribution = "effects"
    normalization: GraphNormalization = "distance"

    def __post_init__(self) -> None:
        from infogeo_adapters.transformers.influence import Distribution
        from infogeo_adapters.transformers.removal import find_removal

        find_removal(self.removal)
        for name, found, there in (
            ("distribution", self.distribution, get_args(Distribution)),
            ("normalization", self.normalization, ("distance", *NORMALIZATIONS)),
        ):
            if found not in there:
                raise ArgumentError(f"{name} {found!r} does not exist; choose {', '.join(there)}")

    def said(self) -> dict[str, str]:
        """The choices that are not the usual ones, by name."""
        from infogeo_adapters.transformers.removal import find_removal

        mine = {
            "removal": find_removal(self.removal).name, "distribution": str(self.distribution),
            "normalization": str(self.normalization),
        }
        return {name: chosen for name, chosen in mine.items() if chosen != USUAL[name]}


def influence_choice(
    *, removal: str | Removal | None = None, distribution: Distribution | None = None,
    normalization: GraphNormalization | None = None,
) -> InfluenceChoice | None:
    """The choice that is named, the rest as usual; None if nothing is named.

    Raises
    ------
    ArgumentError
        There is no such choice.

    Examples
    --------
    >>> influence_choice() is None
    True
    """
    named = {"removal": removal, "distribution": distribution, "normalization": normalization}
    asked: dict[str, Any] = {name: chosen for name, chosen in named.items() if chosen is not None}
    return InfluenceChoice(**asked) if asked else None
