"""Single numbers of a comparison of families of word graphs over a treebank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from infogeo._tree_families import ALL
from infogeo.results import Result

Quantity = Literal["uuas", "uuas_by_sentence", "dspr"]
Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
OFFSET = "best fixed offset"
"""Name of the reference that supposes each head at the most frequent offset of its relation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantChoice(Result):
    """The variant of a family that one part of a treebank chose, and how firm the choice is."""

    family: str
    kind: str
    decoder: str
    chosen_on: str
    """Which sentences chose."""
    reported_on: str
    """The sentences that it was chosen for."""
    variant: str
    score: float
    """UUAS without punctuation on the choosing part: the best of all variants there, and so too high by its luck."""
    stability: float
    """Share of bootstrap samples of the choosing part in which this variant is the best of its family again."""
    winners: tuple[tuple[str, float], ...]
    """All variants that are the best in some sample, with the share in which each is, most frequent first."""
    n_variants: int
    n_sentences: int
    n_edges: int

    def rows(self) -> Table:
        return ("variant", "share"), list(self.winners)

    def summary(self) -> str:
        return (
            f"{self.family}, {self.decoder} trees: {self.variant} chosen of {self.n_variants} on the {self.chosen_on} "
            f"({self.n_sentences} sentences), UUAS {self.score:.3f} there, again in {self.stability:.0%} of resamples"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEstimate(Result):
    """A number of one family on the reported sentences, with its interval."""

    family: str
    kind: str
    decoder: str
    quantity: Quantity
    category: str
    """``all``, ``long``, a distance or a relation."""
    punctuation: bool
    """Whether relations of punctuation count."""
    value: float
    lower: float | None
    upper: float | None
    """Ends of the interval; None in too few sentences for one."""
    n: int
    unit: str
    """What ``n`` counts."""
    n_sentences: int
    """In how many sentences there is something of the category."""

    def rows(self) -> Table:
        columns = ("family", "quantity", "category", "value", "lower", "upper", "n", "unit")
        return columns, [tuple(getattr(self, name) for name in columns)]

    def summary(self) -> str:
        what = self.quantity if self.category == ALL else f"{self.quantity} of {self.category}"
        return f"{self.family}: {what} = {self.value:.3f}{_around(self.lower, self.upper)}, n = {self.n} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyDifference(Result):
    """How much a family is above the reference family, on the same sentences; negative where it is below."""

    family: str
    kind: str
    reference: str
    decoder: str
    quantity: Quantity
    category: str
    punctuation: bool
    value: float
    lower: float | None
    upper: float | None
    """Ends of the interval; None in too few sentences for one."""
    n: int
    unit: str
    n_sentences: int
    p_value: float | None = None
    """Of the exact sign-flip test of the sentences; for ``uuas`` only."""
    p_holm: float | None = None
    """The same after Holm's correction."""
    won: int | None = None
    """Relations that the family finds and the reference does not."""
    lost: int | None = None
    """Relations that the reference finds and the family does not."""
    mcnemar_p_value: float | None = None
    """Of McNemar's test, which takes the relations of a sentence for independent, which they are not."""

    def rows(self) -> Table:
        columns = ("family", "reference", "quantity", "category", "value", "lower", "upper", "p_value", "p_holm")
        return columns, [tuple(getattr(self, name) for name in columns)]

    def summary(self) -> str:
        what = self.quantity if self.category == ALL else f"{self.quantity} of {self.category}"
        p = "" if self.p_holm is None else f", p = {self.p_holm:.3g} after Holm"
        around = _around(self.lower, self.upper, "+")
        return f"{self.family} against {self.reference}: {what} {self.value:+.3f}{around}{p}"


def _around(lower: float | None, upper: float | None, sign: str = "") -> str:
    return "" if lower is None or upper is None else f" ({lower:{sign}.3f} to {upper:{sign}.3f})"
