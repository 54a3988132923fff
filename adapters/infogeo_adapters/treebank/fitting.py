"""Families that learn from trees: fitted to one part of a treebank, scored on the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray
from infogeo.tree_comparison import FamilyVariants
from infogeo_adapters.treebank._scoring import LABEL, Scorer
from infogeo_adapters.treebank.store import Entry

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree
    from infogeo.tree_scores import Decoder
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading
    from infogeo_adapters.treebank.runner import Plan
    from infogeo_adapters.treebank.store import ScoreStore

FEATURES = "features {}"
"""Name of the array with what is kept of a sentence, by its place in the batch."""


@runtime_checkable
class Fitted(Protocol):
    """What a :class:`FittedFamily` has learned from trees."""

    @property
    def label(self) -> str:
        """What was fitted, in short; it stands where other families have their variant."""

    def closeness(self, features: Sequence[NDArray[Any]]) -> list[FloatArray]:
        """For each sentence a finite, symmetric (1, n, n), larger for closer words."""


@runtime_checkable
class FittedFamily(Protocol):
    """A family with one variant that is fitted to the trees of the choosing part (a structural probe)."""

    @property
    def name(self) -> str:
        """Short and unique, as it stands in tables."""

    @property
    def kind(self) -> FamilyKind:
        """What it draws on."""

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Measure once, before the first sentence, what the family needs besides."""

    def features(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[NDArray[Any]]:
        """For each sentence what is kept of it for fitting and for scoring, without its tree."""

    def fit(self, features: Sequence[NDArray[Any]], trees: Sequence[DependencyTree]) -> Fitted:
        """Learn from sentences and their trees."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fold:
    """The sentences that families are fitted to."""

    name: str
    """In words: ``the first half``."""
    plan: Plan
    store: ScoreStore
    """With the features of the families."""
    sentences: range
    """Their places in the plan."""


def fitted_entry(family: str, fold: str) -> str:
    """Name under which stores keep the scores of a family that was fitted to the sentences of a fold."""
    return f"{family} (fitted on {fold})"


def fit_family(
    family: FittedFamily, fold: Fold, targets: Sequence[tuple[Plan, ScoreStore]], *, decoders: Sequence[Decoder]
) -> str:
    """Fit a family, and score all sentences of some plans by it, unless their stores have that already.

    The time of the fit is counted to the first batch.

    Parameters
    ----------
    family : FittedFamily
    fold : Fold
    targets : sequence of (Plan, ScoreStore)
        Stores have the features of the family, and get its scores under the fold's name for it.
    decoders : sequence of {"spanning", "projective"}

    Returns
    -------
    str
        What was fitted, in short.
    """
    entry = fitted_entry(family.name, fold.name)
    missing = [
        (plan, store, b) for plan, store in targets for b in range(len(plan.batches)) if entry not in store.known(b)
    ]
    if missing:
        start = time.perf_counter()
        features = {
            i: values for b, batch in enumerate(fold.plan.batches) if not set(fold.sentences).isdisjoint(batch)
            for i, values in zip(batch, _features(fold.plan, fold.store, family.name, b), strict=True)
            if i in fold.sentences
        }
        fitted = family.fit(
            [features[i] for i in fold.sentences], [fold.plan.treebank.trees[i] for i in fold.sentences]
        )
        label = np.frombuffer(fitted.label.encode(), dtype=np.uint8)
        named = FamilyVariants(name=entry, kind=family.kind, variants=(fitted.label,))
        for plan, store, b in missing:
            scorer = Scorer(plan.trees(b), decoders)
            closeness = fitted.closeness(_features(plan, store, family.name, b))
            scorer.add(named, closeness, time.perf_counter() - start)
            found = scorer.finish()[entry]
            store.put(b, {entry: Entry(arrays={**found.arrays, LABEL: label}, seconds=found.seconds)})
            start = time.perf_counter()
    return bytes(targets[0][1].get(0, entry).arrays[LABEL]).decode()


def _features(plan: Plan, store: ScoreStore, name: str, batch: int) -> list[NDArray[Any]]:
    arrays = store.get(batch, name).arrays
    return [arrays[FEATURES.format(s)] for s in range(len(plan.batches[batch]))]
