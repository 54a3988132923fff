"""Word graphs of a model against the trees of a treebank, in one call."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex

from infogeo._checks import check_count, check_flag, check_number
from infogeo.errors import ArgumentError, ModelError
from infogeo.results import Source, installed_versions, to_plain
from infogeo.syntax import Treebank
from infogeo.tree_comparison import ScoreTable, Split, TreebankComparison, compare_families
from infogeo.tree_scores import DECODERS, Decoder
from infogeo_adapters.files import check_path
from infogeo_adapters.transformers.arguments import check_capture
from infogeo_adapters.treebank._facts import hash_of, hash_of_trees
from infogeo_adapters.treebank._run import OTHERS, Run
from infogeo_adapters.treebank._scoring import table_of
from infogeo_adapters.treebank.fitting import FittedFamily
from infogeo_adapters.treebank.registry import (
    DEFAULTS,
    OF_THE_TWIN,
    UNTRAINED,
    AnyFamily,
    make_families,
)
from infogeo_adapters.treebank.runner import (
    FEWEST_WORDS,
    Plan,
    Progress,
    Reader,
    plan_sentences,
    reading_of,
)
from infogeo_adapters.treebank.untrained import OfTwin, untrained_twin

if TYPE_CHECKING:
    from infogeo._pairs import Rng
    from infogeo.syntax import SkippedSentence
    from infogeo_adapters.transformers.loading import LanguageModel

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]

REFERENCE = "attention head"
"""What families are compared with, and if a model has no attention:"""
REFERENCE_WITHOUT_ATTENTION = "adjacent words"
TWIN_SEED = 0
TO_CHOOSE = f"among {OTHERS}: "
"""Begins the reason of a skipped sentence of the treebank to choose on."""


@dataclass(frozen=True, kw_only=True)
class ModelTreebankComparison(TreebankComparison):
    """A :class:`~infogeo.TreebankComparison` of one model, with the time each family took and what was left out."""

    seconds: Mapping[str, float]
    """How long each family took, in seconds: to prepare, and for all sentences, without what is in ``shared_seconds``.

    What several families measure together (attempts to take words away, or to cut edges) is counted to the first of
    them, in the order of the table, that ran in a batch; the others seem fast because of it. Families with labels are
    counted with all that were fitted, two of them where halves are exchanged. With ``folder`` these are the seconds of
    the runs that computed the numbers.
    """
    shared_seconds: Mapping[str, float]
    """How long the captures of the model and of its twin and the scoring took."""
    skipped: tuple[SkippedSentence, ...]
    """Sentences that are in no number, and why: those that reading the file skipped, and those of this model. Of those
    of ``choose`` the reason says so."""
    left_out: Mapping[str, str]
    """Families that the model cannot have, and why."""
    scores: ScoreTable = field(repr=False)
    """Of all variants on the reported sentences; with ``split="half"`` on all. It is left out of :meth:`to_dict`."""

    def rows(self) -> Table:
        columns, rows = super().rows()
        return (*columns, "seconds"), [(*row, self.seconds.get(row[0])) for row in rows]

    def skipped_rows(self) -> Table:
        """The sentences that are in no number, one row each.

        Returns
        -------
        tuple of columns and rows
            ``sentence``, ``line``, ``reason``.
        """
        return ("sentence", "line", "reason"), [(s.name, s.line, s.reason) for s in self.skipped]

    def summary(self) -> str:
        notes = [super().summary()]
        if self.skipped:
            notes.append(skipped_count(self.skipped))
        if self.left_out:
            notes.append(f"left out: {', '.join(self.left_out)}")
        return "; ".join(notes)

    def to_dict(self) -> dict[str, Any]:
        """All fields but the scores of all variants, as plain Python values, ready for JSON."""
        others = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "scores"}
        return {"type": type(self).__name__, **to_plain(others)}


def compare_with_treebank(
    model: LanguageModel,
    treebank: Treebank,
    *,
    choose: Treebank | None = None,
    split: Split = "cross",
    families: Iterable[str | AnyFamily] | None = None,
    untrained: bool = True,
    decoder: Decoder | Sequence[Decoder] = "spanning",
    reference: str | None = REFERENCE,
    lengths: tuple[int, int | None] = (FEWEST_WORDS, None),
    sentences: SupportsIndex | None = None,
    batch_tokens: int = 4096,
    level: float = 0.95,
    resamples: int = 10_000,
    rng: Rng = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ModelTreebankComparison:
    """Compare word graphs of a model with the trees of a treebank: which family finds more of the relations.

    Each batch of sentences is captured once, and all families look at the same activations. Of each family the variant
    (layer, head, normalization) is chosen on some sentences and reported on others
    (:func:`infogeo.compare_families`). A family with labels, such as the structural probe, is fitted to the sentences
    that choose.

    A sentence is skipped, with its reason, if a word has no token of its own, if it is longer than the context of the
    model (twice as long where a family reads it twice), or if it has too few or too many words.

    With ``folder``, scores are written batch by batch, and a call with the same arguments goes on where the last one
    was cut off; what it returns is the same to the last bit, but for the times. Families may be added; other models,
    sentences, options of a family, or versions of packages are refused with what differs.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`. Of an encoder-decoder model the encoder is read.
    treebank : Treebank
        From :func:`infogeo_adapters.read_treebank`.
    choose : Treebank, optional
        Other sentences to choose on; then all of ``treebank`` is reported and ``split`` has no say.
    split : {"cross", "half"}
        ``cross``: choose on each half, report on the other. ``half``: choose on the first half, report on the second.
        Halves are those of :meth:`infogeo.Treebank.halves`.
    families : iterable of str or families, optional
        Names that :func:`family_names` gives, or objects as
        :class:`~infogeo_adapters.treebank.families.GraphFamily` describes them. By default all but the slowest, which
        ``"defaults"`` among the names stands for; of these,
        what the model cannot have is left out with a reason.
    untrained : bool
        Whether some families are also compared on the untrained twin of the model, as ``untrained: ...``.
    decoder : {"spanning", "projective"} or both
        How a tree is made of closeness.
    reference : str or None
        The family all others are compared with. If it is ``"attention head"`` and the model has no attention, it is
        ``"adjacent words"``.
    lengths : (int, int or None)
        Fewest and most words, punctuation not counted, of the sentences that are read.
    sentences : int, optional
        Read the first so many sentences only, of the treebank and of the one to choose on.
    batch_tokens : int
        Most tokens in one batch, padding counted.
    level : float
        Coverage of the intervals.
    resamples : int
        Bootstrap samples.
    rng : numpy Generator, seed or None
        Of the bootstrap.
    folder : path, optional
        Where scores are kept; made if it is not there.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of sentences; :func:`infogeo_adapters.progress_bar` gives one.

    Returns
    -------
    ModelTreebankComparison

    Raises
    ------
    ArgumentError
        An argument has no such value, or the folder holds another comparison (the message says what differs).
    ModelError
        A family is asked for by name that the model cannot have.
    ShapeError, DomainError
        A family gives what is no closeness (family, variant and sentence are named), or no sentence is left.
    OutputError
        The folder cannot be written.
    FormatError
        A file in the folder is damaged.

    Warns
    -----
    EstimateWarning
        If there are few sentences.

    Notes
    -----
    Families may prepare themselves with the texts of all sentences, and never see a tree; those with labels see the
    trees that choose. What a family with labels reaches where it was chosen (``uuas_where_chosen``) is what it reaches
    on the very trees it was fitted to, but with ``split="cross"``, where each half is scored by what was fitted to the
    other.

    Examples
    --------
    >>> from infogeo_adapters import load_model, sample_treebank
    >>> found = compare_with_treebank(load_model(), sample_treebank(), untrained=False, resamples=200,
    ...                               families=["adjacent words", "attention head"])
    >>> [family.name for family in found.families]
    ['adjacent words', 'attention head']
    >>> 0.3 < found.estimate("adjacent words").value < 0.7
    True
    """
    check_capture(model, "error", batch_tokens)
    _check_kinds(treebank, choose)
    decoders, limits = _decoders(decoder), _limits(lengths)
    some = None if sentences is None else check_count("sentences", sentences, 2)
    resamples = check_count("resamples", resamples, 1)
    if not 0 < check_number("level", level) < 1:
        raise ArgumentError(f"level: found {level!r}, wanted a coverage between 0 and 1")
    if split not in ("cross", "half"):
        raise ArgumentError(f"split: found {split!r}, wanted 'cross' or 'half'")
    if folder is not None:
        check_path("folder", folder)
    check_flag("untrained", untrained)
    asked = None if families is None or isinstance(families, str) else list(families)
    made, left_out = make_families(model, families if asked is None else asked)
    named = [] if asked is None else [getattr(entry, "name", entry) for entry in asked]
    readers = [Reader(model=model, families=made)]
    if untrained:
        twins, refused = _twin_reader(model, made)
        readers += twins
        left_out |= refused
    wanted = _reference(reference, readers, left_out)
    banks = [treebank] if choose is None else [treebank, choose]
    plans = [
        plan_sentences(
            model, b, lengths=limits, sentences=some, batch_tokens=batch_tokens, reading=reading_of(made)
        ) for b in banks
    ]
    _check_apart(plans)
    first = len(plans[0].treebank.halves()[0]) if choose is None else 0
    run = Run(
        readers=readers, plans=plans, decoders=decoders, split=split, first=first, batch_tokens=batch_tokens,
        optional=() if asked is not None and DEFAULTS not in named else tuple(
            f.name for r in readers for f in r.families if f.name not in named
        ),
    )
    with contextlib.ExitStack() as scope:
        stores = run.stores(scope, folder, model, limits)
        left_out |= run.read(stores, progress)
        columns, unfit = run.columns(stores)
        left_out |= unfit
        if wanted in left_out:
            raise ModelError(
                f"reference: {wanted!r}, which others are compared with, was left out ({left_out[wanted]}); give "
                "another, or None"
            )
        tables = [
            table_of(plan, store, columns, decoders=decoders, first=first)
            for plan, store in zip(plans, stores, strict=True)
        ]
        seconds, shared = run.times(stores)
    found = compare_families(
        tables[0], choose=None if choose is None else tables[1], split=split, first=first or None, reference=wanted,
        level=level, resamples=resamples, rng=rng, source=_source(model, plans, decoders, limits),
    )
    values = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    return ModelTreebankComparison(
        **values, seconds={c.family.name: seconds[c.family.name] for c in columns}, shared_seconds=shared,
        left_out=left_out, scores=tables[0],
        skipped=(*plans[0].treebank.skipped, *(_to_choose(s) for plan in plans[1:] for s in plan.treebank.skipped)),
    )


def _to_choose(sentence: SkippedSentence) -> SkippedSentence:
    """A skipped sentence of the treebank to choose on, which has names and lines of its own."""
    return dataclasses.replace(sentence, reason=f"{TO_CHOOSE}{sentence.reason}")


def skipped_apart(
    skipped: Sequence[SkippedSentence],
) -> tuple[tuple[SkippedSentence, ...], tuple[SkippedSentence, ...]]:
    """Skipped sentences of the treebank that is reported on, and those of the other one, to choose on."""
    others = tuple(s for s in skipped if s.reason.startswith(TO_CHOOSE))
    return tuple(s for s in skipped if not s.reason.startswith(TO_CHOOSE)), others


def skipped_count(skipped: Sequence[SkippedSentence]) -> str:
    """How many sentences were skipped, those to choose on apart."""
    reported, others = (f"{len(part)} sentence{'' if len(part) == 1 else 's'}" for part in skipped_apart(skipped))
    return f"{reported} skipped" if not skipped_apart(skipped)[1] else f"{reported} skipped, and {others} to choose on"


def _check_kinds(treebank: Any, choose: Any) -> None:
    """Raise unless they are treebanks."""
    for name, bank in {"treebank": treebank, "choose": choose}.items():
        if not isinstance(bank, Treebank) and (bank is not None or name == "treebank"):
            raise ArgumentError(f"{name}: found {type(bank).__name__}, wanted a Treebank; read_treebank gives one")


def _check_apart(plans: Sequence[Plan]) -> None:
    """Raise if sentences that choose are among those that are reported on, counting those that are read."""
    if len(plans) < 2:
        return
    there = {(tree.name, tree.text) for tree in plans[0].treebank.trees}
    shared = [tree.name for tree in plans[1].treebank.trees if len(tree) > 4 and (tree.name, tree.text) in there]
    if shared:
        raise ArgumentError(
            f"choose: found {len(shared)} sentence{' that is' if len(shared) == 1 else 's that are'} reported on "
            f"({', '.join(shared[:3])}), which would report the luck of the choice; give other sentences, or "
            "split='cross'"
        )


def _twin_reader(model: LanguageModel, made: Sequence[AnyFamily]) -> tuple[list[Reader], dict[str, str]]:
    """The untrained twin with those of the families that it gets, or why it has none."""
    names = [family.name for family in made if family.name in OF_THE_TWIN]
    if not names:
        return [], {}
    try:
        twin = untrained_twin(model, seed=TWIN_SEED)
        families, _ = make_families(twin, names)
    except ModelError as error:
        return [], {f"{UNTRAINED}{name}": str(error) for name in names}
    wrapped = tuple(
        OfTwin(family, UNTRAINED, TWIN_SEED) for family in families if not isinstance(family, FittedFamily)
    )
    return [Reader(model=twin, families=wrapped, prefix=UNTRAINED)], {}


def _reference(reference: str | None, readers: Sequence[Reader], left_out: Mapping[str, str]) -> str | None:
    """The family that others are compared with."""
    names = [family.name for reader in readers for family in reader.families]
    if reference == REFERENCE and REFERENCE in left_out and REFERENCE_WITHOUT_ATTENTION in names:
        return REFERENCE_WITHOUT_ATTENTION
    if reference is not None and reference not in names:
        raise ArgumentError(
            f"reference: found {reference!r}, wanted one of the families {', '.join(names)}, or None for no differences"
        )
    return reference


def _decoders(decoder: Any) -> tuple[Decoder, ...]:
    found = (decoder,) if isinstance(decoder, str) else tuple(decoder)
    if not found or len(set(found)) < len(found) or any(d not in DECODERS for d in found):
        raise ArgumentError(f"decoder: found {decoder!r}, wanted one of {', '.join(DECODERS)}, or both")
    return found


def _limits(lengths: Any) -> tuple[int, int | None]:
    try:
        least, most = lengths
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"lengths: found {lengths!r}, wanted the fewest and the most words, or None") from error
    least = check_count("lengths[0]", least, FEWEST_WORDS)
    return least, None if most is None else check_count("lengths[1]", most, least)


def _source(
    model: LanguageModel, plans: Sequence[Plan], decoders: Sequence[Decoder], lengths: tuple[int, int | None]
) -> Source:
    source = model.current_source()
    options = {
        f"{'treebank' if k == 0 else 'choose'} {name}": value
        for k, plan in enumerate(plans) for name, value in plan.treebank.source.options.items()
    }
    texts = hash_of([hash_of_trees(plan.treebank.trees) for plan in plans])
    source = dataclasses.replace(source, text_hash=texts, versions=installed_versions())
    return source.with_options(
        **options, decoders=", ".join(decoders), fewest_words=lengths[0], most_words=lengths[1],
        n_skipped=sum(len(plan.treebank.skipped) for plan in plans),
    )
