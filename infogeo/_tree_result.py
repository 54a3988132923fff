"""What a comparison of families of word graphs over a treebank found, and the tables that are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from infogeo._tree_families import ALL, BINS, LONG, FamilyVariants
from infogeo._tree_records import OFFSET, FamilyDifference, FamilyEstimate, Quantity, Table, VariantChoice
from infogeo.errors import ArgumentError
from infogeo.results import Result, Source

Record = TypeVar("Record", FamilyEstimate, FamilyDifference)
Key = tuple[Any, ...]
"""Family, category, quantity, punctuation and decoder of a record."""


@dataclass(frozen=True, kw_only=True)
class TreebankComparison(Result):
    """Families of word graphs on a treebank: what each finds, and by how much it is above a reference family.

    ``estimates`` and ``paired`` hold everything; the methods make tables of it, each as (columns, rows). Decoders are
    ``spanning`` or ``projective`` trees; where a method takes one and none is given, it is the first.
    """

    families: tuple[FamilyVariants, ...]
    decoders: tuple[str, ...]
    reference: str | None
    split: str
    n_sentences: int
    """That are reported on."""
    level: float
    """Coverage of the intervals."""
    resamples: int
    choices: tuple[VariantChoice, ...]
    estimates: tuple[FamilyEstimate, ...]
    paired: tuple[FamilyDifference, ...]
    warnings: tuple[str, ...] = ()
    """What speaks against trusting the numbers; each was also given as an EstimateWarning."""
    source: Source

    def estimate(
        self, family: str, category: str = ALL, *, quantity: Quantity = "uuas", punctuation: bool | None = None,
        decoder: str | None = None,
    ) -> FamilyEstimate:
        """One of the estimates.

        Parameters
        ----------
        family : str
        category : str
        quantity : {"uuas", "uuas_by_sentence", "dspr"}
        punctuation : bool, optional
            Without it if not given, but for ``dspr``, which always counts it.
        decoder : str, optional

        Returns
        -------
        FamilyEstimate

        Raises
        ------
        ArgumentError
            If there is none: the name is unknown, or the category does not occur.
        """
        key = self._key(family, category, quantity, punctuation, decoder)
        return _got(self._estimates, key, self._names)

    def difference(
        self, family: str, category: str = ALL, *, quantity: Quantity = "uuas", punctuation: bool | None = None,
        decoder: str | None = None,
    ) -> FamilyDifference:
        """One of the differences to the reference family.

        Parameters
        ----------
        family : str
        category : str
        quantity : {"uuas", "uuas_by_sentence", "dspr"}
        punctuation : bool, optional
        decoder : str, optional

        Returns
        -------
        FamilyDifference

        Raises
        ------
        ArgumentError
            If there is none: the name is unknown or that of the reference, or the category does not occur.
        """
        key = self._key(family, category, quantity, punctuation, decoder)
        return _got(self._differences, key, self._names)

    def chosen(self, family: str, *, decoder: str | None = None) -> tuple[VariantChoice, ...]:
        """What was chosen of a family, once for each part that was reported on.

        Parameters
        ----------
        family : str
        decoder : str, optional

        Returns
        -------
        tuple of VariantChoice

        Raises
        ------
        ArgumentError
            If there is no such family or decoder.
        """
        decoder = self._decoder(decoder)
        found = tuple(c for c in self.choices if c.family == family and c.decoder == decoder)
        if not found:
            raise ArgumentError(f"family: found {family!r}, wanted one of {', '.join(self._names)}")
        return found

    def rows(self) -> Table:
        columns = (
            "family", "kind", "decoder", "variant", "uuas", "lower", "upper", "difference", "difference_lower",
            "difference_upper", "p_holm", "long", "long_difference", "long_difference_lower", "long_difference_upper",
            "long_p_holm", "uuas_by_sentence", "uuas_with_punctuation", "dspr", "uuas_where_chosen", "stability",
            "n_variants", "n_sentences", "n_edges",
        )
        return columns, [self._main(family, decoder) for decoder in self.decoders for family in self.families]

    def table(
        self, categories: Sequence[str] = (ALL, LONG), *, punctuation: bool = False, decoder: str | None = None
    ) -> Table:
        """UUAS of all families in some categories, side by side.

        Parameters
        ----------
        categories : sequence of str
        punctuation : bool
        decoder : str, optional

        Returns
        -------
        tuple of columns and rows
            ``family``, ``kind`` and ``variant``, then for each category its value, ``lower`` and ``upper``.

        Raises
        ------
        ArgumentError
            If there is no such category or decoder.
        """
        decoder = self._decoder(decoder)
        for category in categories:
            self._check_category(category)
        columns = tuple(f"{c}{end}" for c in categories for end in ("", " lower", " upper"))
        rows = []
        for family in self.families:
            found = [self._estimates.get((family.name, c, "uuas", punctuation, decoder)) for c in categories]
            values = tuple(v for e in found for v in ((None,) * 3 if e is None else (e.value, e.lower, e.upper)))
            rows.append((family.name, family.kind, self._variant(family.name, decoder), *values))
        return ("family", "kind", "variant", *columns), rows

    def by_distance(self, *, punctuation: bool = False, decoder: str | None = None) -> Table:
        """Share of the relations found at each distance, and of the long ones together, one row for each family.

        Parameters
        ----------
        punctuation : bool
        decoder : str, optional

        Returns
        -------
        tuple of columns and rows
            ``category``, ``n_edges``, ``n_sentences``, ``family``, ``kind``, ``variant``, ``value``, ``lower``,
            ``upper``, ``difference``, ``difference_lower``, ``difference_upper``, ``p_value``, ``p_holm``.
        """
        return self._by((*BINS, LONG), punctuation, decoder)

    def by_relation(self, *, punctuation: bool = False, decoder: str | None = None) -> Table:
        """Share found of each relation, the most frequent first, one row for each family and the best fixed offset.

        Parameters
        ----------
        punctuation : bool
        decoder : str, optional

        Returns
        -------
        tuple of columns and rows
            As those of :meth:`by_distance`.
        """
        return self._by(self._relations(punctuation), punctuation, decoder)

    def differences(
        self, categories: Sequence[str] = (ALL, LONG), *, punctuation: bool = False, decoder: str | None = None
    ) -> Table:
        """How much the families are above the reference in UUAS, with intervals and p-values.

        Parameters
        ----------
        categories : sequence of str
        punctuation : bool
        decoder : str, optional

        Returns
        -------
        tuple of columns and rows
            ``family``, ``kind``, ``reference``, ``category``, ``difference``, ``lower``, ``upper``, ``p_value``,
            ``p_holm``, ``won``, ``lost``, ``mcnemar_p_value``, ``n_edges``, ``n_sentences``.

        Raises
        ------
        ArgumentError
            If there is no such category or decoder.
        """
        decoder = self._decoder(decoder)
        for category in categories:
            self._check_category(category)
        columns = (
            "family", "kind", "reference", "category", "difference", "lower", "upper", "p_value", "p_holm", "won",
            "lost", "mcnemar_p_value", "n_edges", "n_sentences",
        )
        names = ("family", "kind", "reference", "category", "value", *columns[5:12], "n", "n_sentences")
        keys = ((f.name, c, "uuas", punctuation, decoder) for c in categories for f in self.families)
        found = (self._differences.get(key) for key in keys)
        return columns, [tuple(getattr(d, name) for name in names) for d in found if d is not None]

    def choice_rows(self) -> Table:
        """What was chosen of each family, where, and how firm the choice is.

        Returns
        -------
        tuple of columns and rows
        """
        columns = (
            "family", "kind", "decoder", "chosen_on", "reported_on", "variant", "score", "stability", "n_variants",
            "n_sentences", "n_edges",
        )
        return columns, [tuple(getattr(choice, name) for name in columns) for choice in self.choices]

    def best(self, kind: str, *, decoder: str | None = None) -> str | None:
        """The family of a kind with the highest UUAS where its variants were chosen; None if there is none.

        Where each half chooses for the other, those are all the sentences that are reported on: the family is then
        picked by the sentences that its numbers come from, which Holm's correction allows for and its interval does
        not. Where only some sentences choose, the others have no say.

        Parameters
        ----------
        kind : str
        decoder : str, optional

        Returns
        -------
        str or None
        """
        decoder = self._decoder(decoder)
        names = [family.name for family in self.families if family.kind == kind]
        return max(names, key=lambda name: self._where_chosen(name, decoder), default=None)

    def summary(self) -> str:
        size = f"{self.n_sentences} sentence{'' if self.n_sentences == 1 else 's'}"
        head = f"{len(self.families)} families of word graphs on {size}"
        name = self.best("influence")
        if name is None:
            return f"{head}; no influence family among them"
        found = self.estimate(name)
        shown = f"{name} ({self._variant(name, self.decoders[0])}) finds {found.value:.1%} of the relations"
        shown += _percent(found.lower, found.upper)
        difference = self._differences.get((name, ALL, "uuas", False, self.decoders[0]))
        if difference is None or difference.p_holm is None:
            return f"{head}; {shown}"
        value, p = difference.value, difference.p_holm
        verdict = "no difference is shown" if p > 1.0 - self.level else "it is above" if value > 0 else "it is below"
        other = self.estimate(difference.reference).value
        return (
            f"{head}; {shown}, {difference.reference} {other:.1%}: {100 * value:+.1f} points"
            f"{_percent(difference.lower, difference.upper, '+')}, p = {p:.2g} after Holm's correction, {verdict}"
        )

    @cached_property
    def _estimates(self) -> dict[Key, FamilyEstimate]:
        return _keyed(self.estimates)

    @cached_property
    def _differences(self) -> dict[Key, FamilyDifference]:
        return _keyed(self.paired)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(family.name for family in self.families)

    def _decoder(self, decoder: str | None) -> str:
        if decoder is None:
            return self.decoders[0]
        if decoder not in self.decoders:
            raise ArgumentError(f"decoder: found {decoder!r}, wanted one of {', '.join(self.decoders)}")
        return decoder

    def _key(
        self, family: str, category: str, quantity: str, punctuation: bool | None, decoder: str | None
    ) -> Key:
        counted = quantity == "dspr" if punctuation is None else punctuation
        return family, category, quantity, counted, self._decoder(decoder)

    def _check_category(self, category: str) -> None:
        known = (ALL, LONG, *BINS, *self._relations(True))
        if category not in known:
            raise ArgumentError(f"category: found {category!r}, wanted one of {', '.join(known)}")

    def _relations(self, punctuation: bool) -> tuple[str, ...]:
        counts = {e.category: e.n for e in self.estimates if e.punctuation == punctuation and e.quantity == "uuas"}
        known = {ALL, LONG, *BINS}
        return tuple(sorted((c for c in counts if c not in known), key=lambda c: (-counts[c], c)))

    def _variant(self, family: str, decoder: str) -> str:
        """The variant, or all that were chosen, in the order of the sentences that they are reported on."""
        found = [c.variant for c in self.choices if c.family == family and c.decoder == decoder]
        return " / ".join(dict.fromkeys(found))

    def _where_chosen(self, family: str, decoder: str) -> float:
        """UUAS on the choosing parts together."""
        found = self.chosen(family, decoder=decoder)
        return sum(c.score * c.n_edges for c in found) / sum(c.n_edges for c in found)

    def _main(self, family: FamilyVariants, decoder: str) -> tuple[Any, ...]:
        name = family.name
        found = {c: self._estimates.get((name, c, "uuas", False, decoder)) for c in (ALL, LONG)}
        apart = {c: self._differences.get((name, c, "uuas", False, decoder)) for c in (ALL, LONG)}
        ends = ("value", "lower", "upper")
        others = [
            self._estimates.get((name, ALL, *key, decoder))
            for key in (("uuas_by_sentence", False), ("uuas", True), ("dspr", True))
        ]
        return (
            name, family.kind, decoder, self._variant(name, decoder), *_fields(found[ALL], ends),
            *_fields(apart[ALL], (*ends, "p_holm")), *_fields(found[LONG], ("value",)),
            *_fields(apart[LONG], (*ends, "p_holm")), *(v for other in others for v in _fields(other, ("value",))),
            self._where_chosen(name, decoder), min(c.stability for c in self.chosen(name, decoder=decoder)),
            len(family.variants), *_fields(found[ALL], ("n_sentences", "n")),
        )

    def _by(self, categories: Iterable[str], punctuation: bool, decoder: str | None) -> Table:
        decoder = self._decoder(decoder)
        columns = (
            "category", "n_edges", "n_sentences", "family", "kind", "variant", "value", "lower", "upper", "difference",
            "difference_lower", "difference_upper", "p_value", "p_holm",
        )
        rows = []
        for category in categories:
            for name in (*self._names, OFFSET):
                key = (name, category, "uuas", punctuation, decoder)
                if (found := self._estimates.get(key)) is not None:
                    apart = _fields(self._differences.get(key), ("value", "lower", "upper", "p_value", "p_holm"))
                    rows.append((
                        category, found.n, found.n_sentences, name, found.kind, self._variant(name, decoder),
                        found.value, found.lower, found.upper, *apart,
                    ))
        return columns, rows


def _keyed(records: Iterable[Record]) -> dict[Key, Record]:
    return {(r.family, r.category, r.quantity, r.punctuation, r.decoder): r for r in records}


def _got(records: Mapping[Key, Record], key: Key, names: Sequence[str]) -> Record:
    if key not in records:
        family, category, quantity, punctuation, decoder = key
        counted = "with" if punctuation else "without"
        raise ArgumentError(
            f"found nothing for the family {family!r}, {quantity} of {category!r}, {counted} punctuation, {decoder} "
            f"trees; the families are {', '.join(names)}"
        )
    return records[key]


def _fields(record: Any, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(None if record is None else getattr(record, name) for name in names)


def _percent(lower: float | None, upper: float | None, sign: str = "") -> str:
    return "" if lower is None or upper is None else f" ({100 * lower:{sign}.1f} to {100 * upper:{sign}.1f})"
