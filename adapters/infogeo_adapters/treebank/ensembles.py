"""Ensembles chosen greedily with labels: of influence measurements, and of attention heads by the same rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError
from infogeo.evidence import log_offsets, standardized_influence
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.echo import Reading, find_reading
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._greedy import choose_members
from infogeo_adapters.treebank._variants import EXPONENTS, edge_names
from infogeo_adapters.treebank.measured import measurements
from infogeo_adapters.treebank.relative_attention import attention_profile, attention_shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from infogeo.syntax import DependencyTree
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading


@dataclass(eq=False)
class RelativeEnsembles:
    r"""Up to four measurements, standardized by distance, that were chosen together with labels.

    Each is standardized as :func:`infogeo.standardized_influence` does. Beginning with none, the one
    that raises the share of gold relations most is added, with the exponent of the prior that suits the sum best; it
    ends where nothing raises the share (after Limisiewicz, Mareček and Rosa 2020, who choose heads so).

    Parameters
    ----------
    model : LanguageModel
        With attention that can be taken apart.
    of : {"influence", "attention"}
        What is chosen from: layers where words are taken away, heads and blocks where edges are cut; or heads of
        attention, with no geometry in it.
    most : int
        Most measurements.
    reading : {"once", "twice"}, optional
        Of influence; attention is of the text given once.

    Raises
    ------
    ModelError
        The model has no attention.
    ArgumentError
        ``of`` is something else, or ``most`` no positive whole number; in :meth:`fit`, if there is no tree with a
        relation.
    """

    model: LanguageModel
    of: Literal["influence", "attention"] = "influence"
    most: int = 4
    reading: Reading | None = None
    kind: FamilyKind = field(default="supervised", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        check_count("most", self.most, 1)
        if self.of not in ("influence", "attention"):
            raise ArgumentError(f"of: found {self.of!r}, wanted 'influence' or 'attention'")
        self.reading = find_reading(self.model, self.reading)
        heads = attending_blocks(self.model)
        if self.of == "influence":
            depth = find_stack(self.model.model).depth
            self._names = (*(f"layer {layer}" for layer in range(1, depth + 1)), *edge_names(self.model))
        else:
            self._names = tuple(f"block {b}, head {h + 1}" for b in heads for h in range(heads[b]))

    @property
    def name(self) -> str:
        """``influence, ensemble``, or ``attention, head ensemble, relative to distance``."""
        return "influence, ensemble" if self.of == "influence" else "attention, head ensemble, relative to distance"

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Measure what is usual at each distance, in the packaged text."""
        if self.of == "influence":
            self._measured = [measurements(model, words=words, reading=self.reading) for words in (True, False)]
            self._profiles = [one.meter.profile() for one in self._measured]
        else:
            self._profiles = [attention_profile(model)]

    def features(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[NDArray[np.float32]]:
        """For each sentence all measurements, standardized (K, n, n)."""
        if self.of == "attention":
            found = [[attention_shares(r.activations)] for r in readings]
        else:
            found = [list(pair) for pair in zip(*(one.of(readings) for one in self._measured), strict=True)]
        return [
            np.concatenate([standardized_influence(v, p) for v, p in zip(values, self._profiles, strict=True)])
            .astype(np.float32) for values in found
        ]

    def fit(self, features: Sequence[NDArray[Any]], trees: Sequence[DependencyTree]) -> RelativeEnsemble:
        """Choose measurements on sentences with gold trees."""
        found = choose_members(features, trees, most=self.most, exponents=EXPONENTS)
        return RelativeEnsemble(
            members=found.members, names=tuple(self._names[k] for k in found.members), exponent=found.exponent,
            scores=found.scores,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class RelativeEnsemble:
    """Measurements that were chosen together, in the order in which they were."""

    members: tuple[int, ...]
    names: tuple[str, ...]
    exponent: float
    """Of the prior by distance."""
    scores: tuple[float, ...]
    """Share of gold relations (UUAS without punctuation) after each was added, where they were chosen."""

    @property
    def label(self) -> str:
        """The measurements, in short."""
        return f"{'; '.join(self.names)}; prior {self.exponent}"

    def closeness(self, features: Sequence[NDArray[Any]]) -> list[FloatArray]:
        """For each sentence (1, n, n), the mean of the chosen ones less the prior."""
        found = []
        for maps in features:
            mean = maps[list(self.members)].astype(np.float64).mean(axis=0, keepdims=True)
            both = (mean + np.swapaxes(mean, 1, 2)) / 2
            found.append(both - self.exponent * log_offsets(maps.shape[-1]))
        return found
