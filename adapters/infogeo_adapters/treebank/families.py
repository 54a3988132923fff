"""What a family of word graphs is: variants that are tried side by side, of which one is chosen on other sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from infogeo._checks import FloatArray
    from infogeo.activations import LayerActivations
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.transformers.loading import LanguageModel

FamilyKind = Literal["baseline", "vectors", "attention", "influence", "combination", "supervised"]
"""What a family draws on; a table groups its rows by it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SentenceReading:
    """A sentence of a treebank as a model reads it: one capture, which all families share."""

    tree: DependencyTree
    """The gold tree; a family may read its words and text, never its heads and relations."""
    activations: LayerActivations
    """States of all layers and attention of all heads, with the words of the tree."""


class GraphFamily(Protocol):
    """A way to say how close the words of a sentence are, in one or more variants (layers, heads, normalizations).

    A family may have an attribute ``revision``, a whole number that is raised where the same options give other
    numbers than before, so that scores kept in a folder are not taken for those of the new code; without it, a class
    that is no part of infogeo is known by its source.
    """

    @property
    def name(self) -> str:
        """Short and unique, as it stands in tables: ``attention head``, ``influence, word hidden``."""

    @property
    def kind(self) -> FamilyKind:
        """What it draws on."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of its K variants, in the order of the matrices: ``block 3, head 9``."""

    def prepare(self, model: LanguageModel, texts: Sequence[str]) -> None:
        """Measure once, before the first sentence, what the family needs besides: texts only, never labels."""

    def closeness(self, model: LanguageModel, readings: Sequence[SentenceReading]) -> list[FloatArray]:
        """For each sentence a finite, symmetric (K, n, n), larger for closer words; the diagonal means nothing."""
