"""A text read by a model, with the relation that its words are measured by: the first steps of every command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infogeo.activations import LayerActivations
from infogeo.errors import ArgumentError
from infogeo.measures import Measure
from infogeo.words import DistanceMatrix, WordDistributions
from infogeo_adapters.influence_relation import (
    INFLUENCE,
    InfluenceRelation,
    default_influence_layer,
    default_note,
    why_no_influence,
)
from infogeo_adapters.relations import (
    Construction,
    Context,
    DistributionRelation,
    Material,
    Relation,
    find_relation,
    relation_notes,
)

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

Overflow = Literal["error", "truncate"]
STANDING = "shared-covariance"
"""The construction that takes the place of influence, and stands beside it."""


def default_layer(n_layers: int) -> int:
    """The layer taken for distributions when none is named: the middle one, after block ceil(L / 2).

    A convention, not a finding: the first layers are still close to the embedding, the last ones close to the
    prediction, and the middle is as far as can be from both.

    Examples
    --------
    >>> default_layer(6), default_layer(1)
    (3, 1)
    """
    return (n_layers + 1) // 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """A text read by a model, ready to be measured at any layer: the common first steps of every command."""

    context: Context
    layer: int
    relation: Relation
    default_note: str | None = None
    """Why the default is not the influence graph here; None where it is, or where nothing was left to the default."""

    @property
    def activations(self) -> LayerActivations:
        """What the model computed."""
        return self.context.activations

    def distances(self, layer: int | None = None) -> DistanceMatrix:
        """Distances between words, at the chosen layer or at another."""
        return self.relation(self.context, self.layer if layer is None else layer)

    def distributions(self) -> WordDistributions | None:
        """The words as distributions at the chosen layer; None for a relation that makes none."""
        if isinstance(self.relation, DistributionRelation):
            return self.relation.distributions(self.context, self.layer)
        return None

    def notes(self) -> tuple[str, ...]:
        """What a reader must know about how the distances came about."""
        own = () if self.default_note is None else (self.default_note,)
        return (*own, *relation_notes(self.relation, self.context, self.layer))


def read_text(
    model: LanguageModel,
    text: str,
    *,
    layer: int | None = None,
    construction: str | Construction | None = None,
    measure: str | Measure | None = None,
    relation: Relation | None = None,
    material: Material | None = None,
    overflow: Overflow = "error",
    attention: bool = True,
) -> Reading:
    """Run the model over a text and settle layer and relation.

    The arguments are those of :func:`infogeo_adapters.analyze`; ``material`` holds background, corpus and the choices
    of influence, and can be shared by texts. Without ``attention`` there are distances only, also for models that have
    none, such as Mamba.

    Raises
    ------
    TextError
        If the text is no ``str``, empty or too long, or holds characters that no tokenizer can read.
    ArgumentError
        If the layer, the construction or the measure does not exist, or choices of influence stand beside another
        construction.
    """
    from infogeo_adapters.transformers.alignment import check_text
    from infogeo_adapters.transformers.capture import capture_activations

    check_text(text)
    material = material or Material(model=model)
    construction = _asked(material, construction, measure, relation)
    if relation is None and construction is not None:
        find_relation(construction, measure, 1)  # what does not exist is refused before the model is run
    activations = capture_activations(model, text, overflow=overflow, attention=attention)
    chosen = None if layer is None else activations.check_layer(layer)
    note, left = None, False
    if relation is None and construction is None:
        reason = why_no_influence(model, activations.text, layer=chosen, words=_spans(activations))
        construction = INFLUENCE if reason is None else STANDING
        left = reason is None
        if reason is not None and len(activations.words) > 1:
            note = default_note(reason)
    if chosen is None:
        influence = relation is None and construction == INFLUENCE
        chosen = (default_influence_layer if influence else default_layer)(activations.n_layers)
    if relation is None:
        relation = find_relation(construction or STANDING, measure, chosen)
        if left:
            relation = InfluenceRelation(chosen, fallback=find_relation(STANDING, None, chosen))
    context = Context(material=material, activations=activations)
    return Reading(context=context, layer=chosen, relation=relation, default_note=note)


def _asked(
    material: Material, construction: str | Construction | None, measure: str | Measure | None,
    relation: Relation | None,
) -> str | Construction | None:
    """The construction that is named, or that goes with what is named; None if all is left to the default.

    Raises
    ------
    ArgumentError
        If what is measured of influence is named, and it is not influence that is measured.
    """
    by_distributions = measure is not None or material.background_text is not None
    if material.influence is not None:
        other = relation is not None and not isinstance(relation, InfluenceRelation)
        if other or construction not in (None, INFLUENCE) or (construction is None and by_distributions):
            raise ArgumentError(
                "removal, distribution and normalization say how influence is measured, and here distances are those "
                f"of {'a relation' if other else 'distributions' if construction is None else repr(construction)}; "
                "leave them out, or choose construction 'influence'"
            )
        return INFLUENCE
    return STANDING if relation is None and construction is None and by_distributions else construction


def default_construction(
    model: LanguageModel, texts: Sequence[str], *, layer: int | None = None, overflow: Overflow = "error"
) -> tuple[str, str | None]:
    """What is taken for several texts when no construction is named: the same for all, so that they can be compared.

    Parameters
    ----------
    model : LanguageModel
    texts : sequence of str
    layer : int, optional
    overflow : {'error', 'truncate'}

    Returns
    -------
    construction : str
        ``influence`` if that is the default of every text with two words or more, else ``shared-covariance``.
    note : str or None
        Why it is not influence.

    Raises
    ------
    TextError
        If a text is no ``str``, empty or too long.
    """
    from infogeo_adapters.transformers.alignment import check_text
    from infogeo_adapters.transformers.forward import of_text, prepare

    for number, text in enumerate(texts):
        with of_text(number):
            item = prepare(model, check_text(text), None, overflow)
        if len(item.spans) < 2:
            continue
        reason = why_no_influence(model, item.text, layer=layer, words=item.spans)
        if reason is not None:
            return STANDING, default_note(reason if len(texts) == 1 else f"of text {number + 1}: {reason}")
    return INFLUENCE, None


def cut_note(activations: LayerActivations, text: str) -> str | None:
    """A sentence that says how much of the text was read, None if all of it was."""
    if activations.text == text:
        return None
    return (
        f"The text was cut to fit the model's context: {len(activations.text)} of {len(text)} characters were read, "
        f"{len(activations.words)} words. What comes after them plays no part."
    )


def _spans(activations: LayerActivations) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in activations.word_spans]
