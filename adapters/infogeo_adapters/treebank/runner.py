"""The loop over a treebank: batches of similar length, one capture for all families, scores into a store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import ConvergenceError, InfogeoError, ModelError, ShapeError, TextError
from infogeo.tree_comparison import FamilyVariants
from infogeo_adapters.transformers.alignment import check_text
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.transformers.echo import Reading, prepare_reading
from infogeo_adapters.transformers.forward import batches_of, prepare
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._scoring import Scorer, place_of
from infogeo_adapters.treebank.families import GraphFamily, SentenceReading
from infogeo_adapters.treebank.fitting import FEATURES, FittedFamily
from infogeo_adapters.treebank.store import Entry

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree, SkippedSentence, Treebank
    from infogeo.tree_scores import Decoder
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.store import ScoreStore

BATCH_SENTENCES = 64
"""Most sentences that run together, and so most that an interruption costs. Part of the format of a folder: where it
changes, batches have other sentences, and the version of the format is raised."""
BATCH_PAIRS = 20_000
"""Most pairs of words in a batch of several sentences: 0.25 GB for a family of 1,500 variants. Part of the format, too.
"""
FEWEST_WORDS = 3
"""Words that are no punctuation which a sentence must have: with two of them all graphs have the one relation."""
CAPTURE, SCORING = "(capture)", "(scoring)"
"""Names under which a store keeps the time of what all families share."""

Progress = Callable[[int, int], object]
AnyFamily = GraphFamily | FittedFamily


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader:
    """A model, and the families that look at what it computes."""

    model: LanguageModel
    families: tuple[AnyFamily, ...]
    prefix: str = ""
    """Stands before the names under which a store keeps the times of the capture."""

    @property
    def attention(self) -> bool:
        """Whether the model has attention, which is then captured."""
        net = self.model.model
        try:
            kinds = attention_access(net, find_stack(net)).kinds
        except ModelError:
            return False
        return any(kind.kind == "self" for kind in kinds)

    def without(self, names: Collection[str]) -> Reader:
        """The same with fewer families."""
        return dataclasses.replace(self, families=tuple(f for f in self.families if f.name not in names))


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """Which sentences are read, and which of them together."""

    treebank: Treebank
    """The sentences that are read, with those that are not among its skipped ones."""
    skipped: tuple[SkippedSentence, ...]
    """Those that were skipped because of the model or of their length, and not when the file was read."""
    batches: tuple[tuple[int, ...], ...]
    """Positions of sentences that run together, shortest first."""

    def trees(self, batch: int) -> list[DependencyTree]:
        """The trees of a batch."""
        return [self.treebank.trees[i] for i in self.batches[batch]]


def plan_sentences(
    model: LanguageModel, treebank: Treebank, *, lengths: tuple[int, int | None] = (FEWEST_WORDS, None),
    sentences: int | None = None, batch_tokens: int = 4096, reading: Reading = "once",
) -> Plan:
    """Find the sentences of a treebank that a model can read, and put them together to batches of similar length.

    Parameters
    ----------
    model : LanguageModel
    treebank : Treebank
    lengths : (int, int or None)
        Fewest and most words of a sentence that are no punctuation.
    sentences : int, optional
        Look at the first so many sentences only.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer sentence runs alone.
    reading : {"once", "twice"}
        ``twice`` if a family gives the model each sentence twice in a row, which must then fit the context too.

    Returns
    -------
    Plan

    Raises
    ------
    DomainError
        No sentence is left; the first reason is named.
    """
    if sentences is not None and sentences < len(treebank.trees):
        end = treebank.trees[sentences].line
        treebank = dataclasses.replace(
            treebank, trees=treebank.trees[:sentences], skipped=tuple(s for s in treebank.skipped if s.line < end),
            source=treebank.source.with_options(sentences=sentences),
        )
    tokens: list[int] = []
    skipped: list[SkippedSentence] = []
    for tree in treebank.trees:
        try:
            _check_length(tree, lengths)
            item = prepare(model, check_text(tree.text), _spans(tree), "error")
            if reading == "twice":
                prepare_reading(model, tree.text, _spans(tree), "error", reading)
        except TextError as error:
            skipped.append(tree.skipped(str(error)))
        else:
            tokens.append(len(item.tokens.ids))
    treebank = treebank.with_skipped(skipped)
    return Plan(
        treebank=treebank, skipped=tuple(skipped),
        batches=tuple(_parts_of(
            batches_of(tokens, batch_tokens, exact=find_stack(model.model).pads_exactly),
            [len(tree) ** 2 for tree in treebank.trees],
        )),
    )


def _spans(tree: DependencyTree) -> list[tuple[int, int]]:
    return [(int(first), int(end)) for first, end in tree.spans]


def _check_length(tree: DependencyTree, lengths: tuple[int, int | None]) -> None:
    kept = int((~tree.punctuation).sum())
    least, most = lengths
    if kept < least or (most is not None and kept > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        raise TextError(f"{kept} of its {len(tree)} words are no punctuation, wanted {wanted}")


def _parts_of(batches: Iterable[list[int]], pairs: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Batches of which none has more than the most sentences and pairs of words."""
    for batch in batches:
        part: list[int] = []
        for i in batch:
            if part and (len(part) == BATCH_SENTENCES or sum(pairs[j] for j in part) + pairs[i] > BATCH_PAIRS):
                yield tuple(part)
                part = []
            part.append(i)
        yield tuple(part)


# Reading


def read_sentences(
    readers: Sequence[Reader], plan: Plan, store: ScoreStore, *, decoders: Sequence[Decoder] = ("spanning",),
    batch_tokens: int = 4096, optional: Collection[str] = (), progress: Progress | None = None,
) -> dict[str, str]:
    """Run what the store does not hold yet: each batch is captured once for all families of a model.

    Parameters
    ----------
    readers : sequence of Reader
        Models with their families, all names different.
    plan : Plan
    store : ScoreStore
        Afterwards it holds an entry of each family for each batch, and the times of the captures and the scoring.
    decoders : sequence of {"spanning", "projective"}
    batch_tokens : int
        The one of the plan.
    optional : collection of str
        Names of families that are left out from the first sentence on that they cannot do.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of sentences.

    Returns
    -------
    dict of str to str
        Why families were left out, by name; family and sentence are named. What the store has of them is not complete.

    Raises
    ------
    ShapeError, DomainError
        What a family returns is of the wrong shape, not finite or not symmetric; family, variant and sentence are
        named.
    InfogeoError
        A family raised it that is not optional; family and sentence are named.
    """
    total, done = len(plan.treebank), 0
    refused: dict[str, str] = {}
    for batch in range(len(plan.batches)):
        entries: dict[str, Entry] = {}
        for reader in readers:
            if families := [f for f in missing_families(reader, store, batch) if f.name not in refused]:
                found, unable = _read_batch(reader, families, plan.trees(batch), decoders, batch_tokens, optional)
                entries |= found
                refused |= unable
        known = store.known(batch)
        entries = {name: entry for name, entry in entries.items() if name not in known}
        if entries:
            store.put(batch, entries)
        done += len(plan.batches[batch])
        if progress is not None:
            progress(done, total)
    return refused


def reading_of(families: Iterable[AnyFamily]) -> Reading:
    """Whether one of the families gives the model each sentence twice in a row, as its attribute ``reading`` says."""
    return "twice" if any(getattr(family, "reading", None) == "twice" for family in families) else "once"


def names_of(family: GraphFamily) -> FamilyVariants:
    """What a table needs to know of a family."""
    return FamilyVariants(name=family.name, kind=family.kind, variants=tuple(family.variants))


def missing_families(reader: Reader, store: ScoreStore, batch: int) -> list[AnyFamily]:
    """The families of a reader of which a store holds nothing for a batch."""
    known = store.known(batch)
    return [family for family in reader.families if family.name not in known]


def prepare_families(
    reader: Reader, parts: Sequence[tuple[Plan, ScoreStore]], *, optional: Collection[str] = ()
) -> tuple[Reader, dict[str, str]]:
    """Let the families that a store does not hold completely measure what they need before the first sentence.

    They are given the texts of all plans, and never their trees.

    Parameters
    ----------
    reader : Reader
    parts : sequence of (Plan, ScoreStore)
        The first store keeps how long it took, the first time.
    optional : collection of str
        Names of families that are left out if they refuse.

    Returns
    -------
    Reader
        With the families that did not refuse.
    dict of str to str
        Why the others did, by name.

    Raises
    ------
    InfogeoError
        A family refuses that is not optional; it is named.
    """
    texts = [tree.text for plan, _ in parts for tree in plan.treebank.trees]
    wanted = {
        f.name for plan, store in parts for b in range(len(plan.batches)) for f in missing_families(reader, store, b)
    }
    kept: list[AnyFamily] = []
    refused: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for family in reader.families:
        start = time.perf_counter()
        try:
            if family.name in wanted:
                family.prepare(reader.model, texts)
                seconds[family.name] = time.perf_counter() - start
        except InfogeoError as error:
            if family.name not in optional:
                raise about(f"family {family.name!r}", error) from error
            refused[family.name] = str(error)
        else:
            kept.append(family)
    before = parts[0][1].prepared()
    parts[0][1].prepared({name: s for name, s in seconds.items() if name not in before})
    return dataclasses.replace(reader, families=tuple(kept)), refused


def _read_batch(
    reader: Reader, families: Sequence[AnyFamily], trees: Sequence[DependencyTree], decoders: Sequence[Decoder],
    batch_tokens: int, optional: Collection[str],
) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries of families for one batch of sentences, and why optional ones have none."""
    start = time.perf_counter()
    readings = _captured(reader, trees, batch_tokens)
    captured = time.perf_counter() - start
    scorer = Scorer(trees, decoders)
    entries = {f"{reader.prefix}{CAPTURE}": Entry(arrays={}, seconds=captured)}
    refused: dict[str, str] = {}
    for family in families:
        start = time.perf_counter()
        try:
            ask = family.features if isinstance(family, FittedFamily) else family.closeness
            found = _asked(family, ask, reader.model, readings)
        except InfogeoError as error:
            if family.name not in optional:
                raise
            refused[family.name] = str(error)
            continue
        seconds = time.perf_counter() - start
        if isinstance(family, FittedFamily):
            arrays = {FEATURES.format(s): np.asarray(values) for s, values in enumerate(found)}
            entries[family.name] = Entry(arrays=arrays, seconds=seconds)
        else:
            scorer.add(names_of(family), found, seconds)
    entries |= scorer.finish()
    entries[f"{reader.prefix}{SCORING}"] = Entry(arrays={}, seconds=scorer.seconds)
    return entries, refused


def _captured(reader: Reader, trees: Sequence[DependencyTree], batch_tokens: int) -> list[SentenceReading]:
    """One capture of a batch; if it fails, the sentence that is to blame is named."""
    attention = reader.attention

    def capture(some: Sequence[DependencyTree]) -> list[SentenceReading]:
        texts, spans = [tree.text for tree in some], [_spans(tree) for tree in some]
        found = capture_activations(reader.model, texts, words=spans, attention=attention, batch_tokens=batch_tokens)
        return [SentenceReading(tree=tree, activations=a) for tree, a in zip(some, found, strict=True)]

    try:
        return capture(trees)
    except InfogeoError:
        for tree in trees:
            with _named(place_of(tree)):
                capture([tree])
        raise


def _asked(
    family: AnyFamily, ask: Callable[[LanguageModel, Sequence[SentenceReading]], list[Any]], model: LanguageModel,
    readings: Sequence[SentenceReading],
) -> list[Any]:
    """What a family gives for sentences; an error of ours says which family and sentence it is about."""
    try:
        found = ask(model, readings)
    except InfogeoError as error:
        for reading in readings if len(readings) > 1 else ():
            with _named(f"family {family.name!r}, {place_of(reading.tree)}"):
                ask(model, [reading])
        where = f", {place_of(readings[0].tree)}" if len(readings) == 1 else ""
        raise about(f"family {family.name!r}{where}", error) from error
    if not isinstance(found, list | tuple) or len(found) != len(readings):
        count = len(found) if isinstance(found, list | tuple) else type(found).__name__
        raise ShapeError(
            f"family {family.name!r}: found {count} results for {len(readings)} sentences, wanted a list with one for "
            "each"
        )
    return list(found)


class _named:  # reads as a phrase, like contextlib.suppress
    """Say in an error of ours what it is about."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InfogeoError):
            raise about(self.what, error) from error


def about(what: str, error: InfogeoError) -> InfogeoError:
    """The same error with a beginning that says what it is about."""
    if isinstance(error, ConvergenceError):
        return ConvergenceError(f"{what}: {error}", error.result)
    return type(error)(f"{what}: {error}")
