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
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def skip_reason(reason: str) -> str:
    """Why a sentence was skipped, without advice that is for texts.

    Examples
    --------
    >>> skip_reason("it is too long; cut it with overflow='truncate' or into several texts with split_into_windows()")
    'it is too long'
    """
    return reason.partition("; cut it with overflow=")[0].partition("; split the text into words differently")[0]


def cross_caution(found: TreebankComparison, *, below: float = 2.0) -> tuple[str, ...]:
    """Why tests are somewhat too bold where halves chose for each other, and how firmly they chose.

    Nothing if all choices are as firm as ``below``, a share of resamples, or nothing was tested.
    """
    if found.split != "cross" or found.reference is None:
        return ()
    names = [name for name in (found.best("influence"), found.reference) if name is not None]
    firm = {
        name: min(c.stability for c in found.chosen(name)) for name in dict.fromkeys(names)
        if found.chosen(name)[0].n_variants > 1
    }
    if min(firm.values(), default=1.0) >= below:
        return ()
    shown = " and in ".join(f"{100 * value:.0f}\N{NO-BREAK SPACE}% for “{name}”" for name, value in firm.items())
    how = f" On resampled sentences the same variant is chosen again in {shown}." if firm else ""
    said = (
        "Each half chose for the other, so that the two are not independent: where several variants are equally good, "
        f"p-values are too small, and a test at 0.05 errs in up to a tenth of all cases.{how} The split “half”, or "
        "other sentences to choose on, do not have this."
    )
    return (said,)


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
