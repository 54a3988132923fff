"""Numbers of a comparison as they stand on a page or in a terminal."""

from __future__ import annotations

from infogeo._tree_families import ALL
from infogeo._tree_records import FamilyDifference, FamilyEstimate, Quantity
from infogeo.errors import ArgumentError
from infogeo.tree_comparison import TreebankComparison


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def number(value: float | None, form: str = ".3f") -> str:
    """A number with a minus sign that is one, or a dash where there is none."""
    return "–" if value is None else f"{value:{form}}".replace("-", "−")


def p_text(p: float | None) -> str:
    """A p-value."""
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"


def skip_reason(reason: str) -> str:
    """Why a sentence was skipped, without advice that is for texts.

    Examples
    --------
    >>> skip_reason("it is too long; cut it with overflow='truncate' or into several texts with split_into_windows()")
    'it is too long'
    """
    return reason.partition("; cut it with overflow=")[0].partition("; split the text into words differently")[0]


def estimate_of(
    found: TreebankComparison, family: str, category: str = ALL, *, quantity: Quantity = "uuas"
) -> FamilyEstimate | None:
    """An estimate, or None where the reported sentences have nothing of the category."""
    try:
        return found.estimate(family, category, quantity=quantity)
    except ArgumentError:
        return None


def difference_of(found: TreebankComparison, family: str, category: str = ALL) -> FamilyDifference | None:
    """A difference to the reference, or None for the reference itself, without one, or where there is nothing."""
    try:
        return found.difference(family, category)
    except ArgumentError:
        return None
