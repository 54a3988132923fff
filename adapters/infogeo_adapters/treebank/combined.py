"""Families of two kinds of measurements: words taken away with edges cut, and with the weights of attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from infogeo._checks import FloatArray, check_count
from infogeo.errors import ArgumentError
from infogeo.evidence import PRIOR_EXPONENT, log_offsets, relation_evidence, standardized_influence
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.echo import Reading, find_reading
from infogeo_adapters.transformers.head_outputs import attending_blocks
from infogeo_adapters.transformers.influence_graphs import default_edges, default_layers
from infogeo_adapters.transformers.stack import find_stack
from infogeo_adapters.treebank._facts import IN_VARIANTS
from infogeo_adapters.treebank._variants import MOST_VARIANTS, edge_names, joint_choices, set_name
from infogeo_adapters.treebank.measured import measurements
from infogeo_adapters.treebank.relative_attention import attention_profile, attention_shares

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel
    from infogeo_adapters.treebank.families import FamilyKind, SentenceReading


@dataclass(eq=False)
class JointInfluence:
    """Words taken away and single edges cut, together: mean of both beyond what is usual so far apart, with a prior.

    Parameters
    ----------
    model : LanguageModel
        With attention that can be taken apart.
    choice : {"labels", "none"}
        ``labels``: layers of the upper half and two of them in a row, each with every head and block and two exponents
        of the prior, are variants. ``none``: one variant, the defaults of :func:`infogeo_adapters.influence_graph`,
        chosen for no model in particular.
    reading : {"once", "twice"}, optional
    most_variants : int
        Where there are more variants, since they grow with blocks times heads times layers, single layers only are
        taken; if there are still more, the default exponent only; and if there are still more, the default layers of
        :func:`infogeo_adapters.influence_graph` together instead of single ones. Every head and block is always tried.

    Raises
    ------
    ModelError
        The model has no attention, or words cannot be hidden in it.
    ArgumentError
        ``choice`` is something else, or ``most_variants`` no positive whole number.
    """

    model: LanguageModel
    choice: Literal["labels", "none"] = "labels"
    reading: Reading | None = None
    most_variants: int = field(default=MOST_VARIANTS, metadata={IN_VARIANTS: True})
    kind: FamilyKind = field(default="influence", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        if self.choice not in ("labels", "none"):
            raise ArgumentError(f"choice: found {self.choice!r}, wanted 'labels' or 'none'")
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        parts = edge_names(self.model)
        most = check_count("most_variants", self.most_variants, 1)
        self._sets, self._exponents = joint_choices(depth, len(parts), most)
        if self.choice == "labels":
            self.variants = tuple(
                f"{set_name(s)} with {p}, prior {e}" for s in self._sets for p in parts for e in self._exponents
            )
        else:
            edges = default_edges(attending_blocks(self.model), depth)
            self.variants = (
                f"{set_name(default_layers(depth))} with blocks {edges[0]} to {edges[-1]}, prior {PRIOR_EXPONENT}",
            )

    @property
    def name(self) -> str:
        """``influence, word and edge``, and ``without choice`` where nothing is chosen."""
        return "influence, word and edge" + ", without choice" * (self.choice == "none")

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariances and what is usual at each distance, from the packaged text."""
        self._words = measurements(model, words=True, reading=self.reading)
        self._edges = measurements(model, words=False, reading=self.reading)
        self._profiles = self._words.meter.profile(), self._edges.meter.profile()

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence one (n, n) of each variant."""
        found = []
        for values, cut in zip(self._words.of(readings), self._edges.of(readings), strict=True):
            z = standardized_influence(values, self._profiles[0])
            edges = standardized_influence(cut, self._profiles[1])
            if self.choice == "none":
                depth = len(z)
                names = list(edge_names(self.model))
                blocks = [names.index(f"block {b}") for b in default_edges(attending_blocks(model), depth)]
                together = np.concatenate([z[[layer - 1 for layer in default_layers(depth)]], edges[blocks]])
                found.append(relation_evidence(together, prior_exponent=PRIOR_EXPONENT)[None])
                continue
            prior = np.multiply.outer(np.asarray(self._exponents), log_offsets(z.shape[-1]))
            tried = [
                (z[[layer - 1 for layer in s]].sum(axis=0) + edges)[:, None] / (len(s) + 1) - prior for s in self._sets
            ]
            found.append(np.concatenate(tried).reshape(-1, *z.shape[1:]))
        return found


@dataclass(eq=False)
class InfluenceWithAttention:
    """Words taken away together with the weights of single heads: geometry and attention combined.

    Parameters
    ----------
    model : LanguageModel
        With attention.
    reading : {"once", "twice"}, optional
        Of influence; attention is of the text given once.
    most_variants : int
        Where there are more, fewer layers and exponents are tried, as in :class:`JointInfluence`, with every head.

    Raises
    ------
    ModelError
        The model has no attention, or words cannot be hidden in it.
    ArgumentError
        ``most_variants`` is no positive whole number.
    """

    model: LanguageModel
    reading: Reading | None = None
    most_variants: int = field(default=MOST_VARIANTS, metadata={IN_VARIANTS: True})
    kind: FamilyKind = field(default="combination", init=False)
    name: str = field(default="influence with attention", init=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.reading = find_reading(self.model, self.reading)
        depth = find_stack(self.model.model).depth
        heads = attending_blocks(self.model)
        names = [f"block {b}, head {h + 1}" for b in heads for h in range(heads[b])]
        most = check_count("most_variants", self.most_variants, 1)
        self._sets, self._exponents = joint_choices(depth, len(names), most)
        self.variants = tuple(
            f"{set_name(s)} with attention of {p}, prior {e}"
            for s in self._sets for p in names for e in self._exponents
        )

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Estimate covariance and what is usual at each distance, from the packaged text."""
        self._words = measurements(model, words=True, reading=self.reading)
        self._profiles = self._words.meter.profile(), attention_profile(model)

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence one (n, n) of each variant."""
        found = []
        for values, reading in zip(self._words.of(readings), readings, strict=True):
            z = standardized_influence(values, self._profiles[0])
            heads = standardized_influence(attention_shares(reading.activations), self._profiles[1])
            prior = np.multiply.outer(np.asarray(self._exponents), log_offsets(z.shape[-1]))
            tried = [
                (z[[layer - 1 for layer in s]].sum(axis=0) + heads)[:, None] / (len(s) + 1) - prior for s in self._sets
            ]
            found.append(np.concatenate(tried).reshape(-1, *z.shape[1:]))
        return found
