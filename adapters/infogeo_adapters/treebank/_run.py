"""One comparison with a treebank, step by step: stores opened, sentences read, families with labels fitted, tables."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infogeo.errors import InfogeoError
from infogeo.results import installed_versions
from infogeo.tree_comparison import FamilyVariants, Split
from infogeo.tree_scores import Decoder
from infogeo_adapters._corpus_manifest import tokenizer_hash
from infogeo_adapters.treebank._facts import facts_of, hash_of_trees
from infogeo_adapters.treebank._scoring import Column, seconds_of
from infogeo_adapters.treebank.fitting import FittedFamily, Fold, fit_family, fitted_entry
from infogeo_adapters.treebank.registry import AnyFamily
from infogeo_adapters.treebank.runner import (
    CAPTURE,
    SCORING,
    Plan,
    Progress,
    Reader,
    about,
    names_of,
    prepare_families,
    read_sentences,
)
from infogeo_adapters.treebank.store import MemoryStore, ScoreStore, open_folder

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

CHOOSE = "choose"
"""Folder inside the folder, for the scores of other sentences to choose on."""
HALVES = ("the first half", "the second half")
OTHERS = "the sentences to choose on"


@dataclass(eq=False, kw_only=True)
class Run:
    """What is read, by whom, and what is chosen where."""

    readers: list[Reader]
    plans: Sequence[Plan]
    """Of the sentences to report on, and of those to choose on if they are others."""
    decoders: tuple[Decoder, ...]
    split: Split
    first: int
    """How many sentences the first half has."""
    batch_tokens: int
    optional: tuple[str, ...]
    """Families that are left out if they refuse to prepare, or a sentence, or to be fitted."""

    def families(self) -> list[AnyFamily]:
        """Of all readers."""
        return [family for reader in self.readers for family in reader.families]

    def stores(
        self, scope: contextlib.ExitStack, folder: str | os.PathLike[str] | None, model: LanguageModel,
        lengths: tuple[int, int | None],
    ) -> list[ScoreStore]:
        """One for each plan."""
        if folder is None:
            return [MemoryStore() for _ in self.plans]
        families = {family.name: facts_of(family) for family in self.families()}
        for fold, plan, sentences in self._parts():
            trees = self.plans[plan].treebank.trees[sentences.start : sentences.stop]
            fitted_to = {"sentences it is fitted to (SHA-256)": hash_of_trees(trees)}
            for family in self.families():
                if isinstance(family, FittedFamily):
                    families[fitted_entry(family.name, fold)] = {**families[family.name], **fitted_to}
        shared = {f"{reader.prefix}{name}": {"kind": "time"} for reader in self.readers for name in (CAPTURE, SCORING)}
        run = {
            "the model's weights (SHA-256)": model.current_source().content_hash,
            "the number format the model computes in": model.current_source().dtype,
            "the device": str(model.model.device.type), "the tokenizer (SHA-256)": tokenizer_hash(model),
            "the sentences of both treebanks (SHA-256)": [hash_of_trees(p.treebank.trees) for p in self.plans],
            "lengths": lengths, "batch_tokens": self.batch_tokens, "decoder": self.decoders,
            **{f"version of {name}": version for name, version in installed_versions().items()},
        }
        places = [Path(os.fspath(folder)), Path(os.fspath(folder)) / CHOOSE]
        return [
            scope.enter_context(open_folder(place, {**run, "part": k}, {**families, **shared}))
            for k, place in enumerate(places[: len(self.plans)])
        ]

    def read(self, stores: Sequence[ScoreStore], progress: Progress | None) -> dict[str, str]:
        """Fill the stores; what families were left out, and why."""
        left_out: dict[str, str] = {}
        parts = list(zip(self.plans, stores, strict=True))
        for k, reader in enumerate(self.readers):
            self.readers[k], refused = prepare_families(reader, parts, optional=self.optional)
            left_out |= refused
        total, before = sum(len(plan.treebank) for plan in self.plans), 0
        for plan, store in parts:
            show = None if progress is None else _shifted(progress, before, total)
            refused = read_sentences(
                self.readers, plan, store, decoders=self.decoders, batch_tokens=self.batch_tokens,
                optional=self.optional, progress=show,
            )
            self.readers = [reader.without(refused) for reader in self.readers]
            left_out |= refused
            before += len(plan.treebank)
        return left_out

    def columns(self, stores: Sequence[ScoreStore]) -> tuple[list[Column], dict[str, str]]:
        """Where the scores of each family are, families with labels being fitted first; which cannot be, and why."""
        columns: list[Column] = []
        left_out: dict[str, str] = {}
        for family in self.families():
            if not isinstance(family, FittedFamily):
                columns.append(Column(family=names_of(family), entry=family.name))
                continue
            try:
                columns.append(self._fitted(family, stores))
            except InfogeoError as error:
                if family.name not in self.optional:
                    raise about(f"family {family.name!r}", error) from error
                left_out[family.name] = str(error)
        return columns, left_out

    def _fitted(self, family: FittedFamily, stores: Sequence[ScoreStore]) -> Column:
        """Fit a family to each part that chooses."""
        labels, entries = [], []
        for name, plan, sentences in self._parts():
            fold = Fold(name=name, plan=self.plans[plan], store=stores[plan], sentences=sentences)
            targets = list(zip(self.plans, stores, strict=True))
            labels.append(fit_family(family, fold, targets, decoders=self.decoders))
            entries.append(fitted_entry(family.name, name))
        if len(set(labels)) > 1:
            labels = [f"{label} (fitted on {part[0]})" for label, part in zip(labels, self._parts(), strict=True)]
        named = FamilyVariants(name=family.name, kind=family.kind, variants=(" / ".join(dict.fromkeys(labels)),))
        # sentences of the first half are scored by what was fitted on the second
        return Column(family=named, entry=entries[-1], entry_of_rest=entries[0] if len(entries) > 1 else None)

    def times(self, stores: Sequence[ScoreStore]) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of each family, also of those that could not be fitted, and of what they share."""
        took: dict[str, float] = {}
        for plan, store in zip(self.plans, stores, strict=True):
            for name, seconds in seconds_of(plan, store).items():
                took[name] = took.get(name, 0.0) + seconds
        families: dict[str, float] = {}
        for family in self.families():
            entries = [family.name, *(fitted_entry(family.name, fold) for fold, _, _ in self._parts())]
            families[family.name] = sum(took.get(entry, 0.0) for entry in entries)
        names = [reader.prefix + name for reader in self.readers for name in (CAPTURE, SCORING)]
        shared = {name: took[name] for name in names if name in took}
        return families, {name.replace("(", "").replace(")", ""): seconds for name, seconds in shared.items()}

    def _parts(self) -> list[tuple[str, int, range]]:
        """What families with labels are fitted to: its name, its plan, and its sentences."""
        if len(self.plans) > 1:
            return [(OTHERS, 1, range(len(self.plans[1].treebank)))]
        halves = [range(self.first), range(self.first, len(self.plans[0].treebank))]
        found = [(name, 0, half) for name, half in zip(HALVES, halves, strict=True)]
        return found if self.split == "cross" else found[:1]


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
