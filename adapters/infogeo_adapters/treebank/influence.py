"""Families of influence graphs: words taken away, and single edges cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo.evidence import standardized_influence
from infogeo.influence import NORMALIZATIONS, Manifold, row_entropies, symmetrized_influence
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers._removal_readout import prediction_readout
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.echo import Reading, find_reading
from infogeo_adapters.transformers.influence import Distribution, background_sentences
from infogeo_adapters.transformers.influence_meter import PROFILE_SENTENCES, moved_layers
from infogeo_adapters.transformers.removal import find_removal
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._variants import (
    EXPONENTS,
    WAYS,
    check_causal,
    edge_names,
    layer_sets,
    set_name,
    with_exponents,
)
from infogeo_adapters.treebank.measured import measurements

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading


@dataclass(eq=False)
class WordInfluence:
    """Influence of words taken away, by layer and normalization: how far the distribution of one moves without another.

    Closeness is the geometric mean of both directions.

    Parameters
    ----------
    model : LanguageModel
    removal : {"hide", "mask", "delete", "mean", "resample"}
    distribution : {"effects", "states", "readout"}
    reading : {"once", "twice"}, optional
        By default twice in a row for causal models.
    blocks : tuple of int, optional
        With ``removal="hide"`` the blocks in which words are hidden; all by default.
    manifold : {"fixed covariance", "all normals"}
    """

    model: LanguageModel
    removal: str = "hide"
    distribution: Distribution = "effects"
    reading: Reading | None = None
    blocks: tuple[int, ...] | None = None
    manifold: Manifold = "fixed covariance"
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        if self.distribution == "readout":
            prediction_readout(self.model)
        taken = find_removal(self.removal, self.blocks)
        taken.ready(self.model, find_stack(self.model.model), 0)
        self.variants = tuple(f"layer {layer}, {way}" for layer in moved_layers(taken, depth) for way in WAYS)

    @property
    def name(self) -> str:
        """``influence, word hidden``, with a word on what is not the default."""
        removed = {"hide": "hidden", "mask": "masked", "delete": "deleted", "mean": "averaged", "resample": "resampled"}
        of = {"effects": "", "states": ", states", "readout": ", read-out"}[self.distribution]
        once = ", read once" if self.reading == "once" and find_stack(self.model.model).causal else ""
        where = "" if self.blocks is None else f" in blocks {', '.join(map(str, self.blocks))}"
        among = "" if self.manifold == "fixed covariance" else f", {self.manifold}"
        return f"influence, word {removed[self.removal]}{where}{of}{among}{once}"

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the covariance of effects, from the packaged text."""
        self._measured = measurements(
            model, words=True, removal=self.removal, reading=self.reading, distribution=self.distribution,
            blocks=self.blocks, manifold=self.manifold,
        )

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layers x normalizations, n, n)."""
        causal = self.reading == "once" and find_stack(model.model).causal
        found = []
        for values in self._measured.of(readings):
            ways = [symmetrized_influence(NORMALIZATIONS[way](values), causal=causal) for way in WAYS]
            found.append(np.stack(ways, axis=1).reshape(-1, *values.shape[1:]))
        return found


def read_once(model: LanguageModel) -> WordInfluence:
    """Influence in a causal model that is given the text once: only later words are moved.

    Raises
    ------
    ModelError
        The model is no causal one, so that it is read once in any case.
    """
    check_causal(model)
    return WordInfluence(model, reading="once")


@dataclass(eq=False)
class RelativeInfluence:
    """Influence of words taken away beyond what is usual so far apart, with a prior by distance.

    Variants are single layers and two or three in a row, by exponents of the prior.

    Parameters
    ----------
    model : LanguageModel
    removal : {"hide", "mask", "delete", "mean", "resample"}
    reading : {"once", "twice"}, optional
    blocks : tuple of int, optional
        With ``removal="hide"`` the blocks in which words are hidden; all by default.
    """

    model: LanguageModel
    removal: str = "hide"
    reading: Reading | None = None
    blocks: tuple[int, ...] | None = None
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        taken = find_removal(self.removal, self.blocks)
        taken.ready(self.model, find_stack(self.model.model), 0)
        self._first = moved_layers(taken, depth)[0]
        self._sets = tuple(s for s in layer_sets(depth) if s[0] >= self._first)
        self.variants = tuple(f"{set_name(s)}, prior {e}" for s in self._sets for e in EXPONENTS)

    @property
    def name(self) -> str:
        """``influence relative to distance``, with a word on the removal if it is not the default."""
        how = f", {self.removal}" if self.removal != "hide" else ""
        where = "" if self.blocks is None else f", hidden in blocks {', '.join(map(str, self.blocks))}"
        return f"influence relative to distance{how}{where}"

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariance and what is usual at each distance, from the packaged text."""
        self._measured = measurements(
            model, words=True, removal=self.removal, reading=self.reading, blocks=self.blocks
        )
        self._profile = self._measured.meter.profile()

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (layer sets x exponents, n, n)."""
        found = []
        for values in self._measured.of(readings):
            z = standardized_influence(values, self._profile)
            means = [z[[layer - self._first for layer in s]].mean(axis=0) for s in self._sets]
            found.append(with_exponents(np.stack(means), 1))
        return found


@dataclass(eq=False)
class EdgeInfluenceGraphs:
    """Influence of single edges, by head and by block: geometric mean of both directions of the shares of rows.

    Parameters
    ----------
    model : LanguageModel
        With attention that can be taken apart.
    relative : bool
        Beyond what is usual so far apart, with a prior by distance.
    reading : {"once", "twice"}, optional
    """

    model: LanguageModel
    relative: bool = False
    reading: Reading | None = None
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        parts = edge_names(self.model)
        self.variants = tuple(f"{p}, prior {e}" for p in parts for e in EXPONENTS) if self.relative else parts

    @property
    def name(self) -> str:
        """``influence, edge cut``, and ``relative to distance`` where it is."""
        return "influence, edge cut" + ", relative to distance" * self.relative

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate the covariance of effects, from the packaged text."""
        self._measured = measurements(model, words=False, reading=self.reading)
        self._profile = self._measured.meter.profile() if self.relative else None

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (heads + blocks, n, n), or as many for each exponent."""
        causal = self.reading == "once" and find_stack(model.model).causal
        found = []
        for values in self._measured.of(readings):
            if self._profile is None:
                found.append(symmetrized_influence(NORMALIZATIONS["rows"](values), causal=causal))
            else:
                found.append(with_exponents(standardized_influence(values, self._profile), 1))
        return found


@dataclass(eq=False)
class UnsupervisedInfluence:
    """Influence of words taken away at the layer that is chosen without labels, by how concentrated influence is there.

    The layer is the one of the upper half whose rows of influence have the least mean entropy, over the log of the
    number of other words, in the packaged text.

    Parameters
    ----------
    model : LanguageModel
    reading : {"once", "twice"}, optional
    """

    model: LanguageModel
    reading: Reading | None = None
    kind: FamilyKind = field(default="influence", init=False)
    name: str = field(default="influence, layer by entropy", init=False)
    variants: tuple[str, ...] = field(default=("layer of least entropy, rows",), init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Choose the layer on the packaged text."""
        self._measured = measurements(model, words=True, reading=self.reading)
        chosen = background_sentences(background_text(), PROFILE_SENTENCES)
        found = self._measured.meter.measure(chosen, [None] * len(chosen), overflow="truncate")
        shares = [
            np.nanmean(row_entropies(values), axis=1) / np.log(values.shape[-1] - 1)
            for values, _, _ in found if values.shape[-1] > 2
        ]
        entropies = np.mean(shares, axis=0)
        half = len(entropies) // 2
        self.layer = half + 1 + int(np.argmin(entropies[half:]))

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence (1, n, n)."""
        causal = self.reading == "once" and find_stack(model.model).causal
        return [
            symmetrized_influence(NORMALIZATIONS["rows"](values[self.layer - 1 : self.layer]), causal=causal)
            for values in self._measured.of(readings)
        ]
