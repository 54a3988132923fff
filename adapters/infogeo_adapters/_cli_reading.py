"""A text read by a model as the options of the command line say, and what is told on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from infogeo_adapters._cli_input import given, rephrase
from infogeo_adapters._cli_output import tell

if TYPE_CHECKING:
    from infogeo.graphs import WordGraph
    from infogeo.words import DistanceMatrix
    from infogeo_adapters.relations import EdgeRule, Material
    from infogeo_adapters.text_reading import Reading
    from infogeo_adapters.transformers.loading import LanguageModel


def edge_rule(options: dict[str, Any], *, influence: bool = False) -> EdgeRule:
    """How edges are chosen; where that is left open, the tree for influence if no number of neighbors is given."""
    from infogeo_adapters.relations import EdgeRule

    if options["radius"] is not None and options["kind"] != "radius":
        why = f"{options['kind']} has no such length" if options["kind"] else "no --graph was named"
        raise click.UsageError(f"--radius goes with --graph radius; {why}")
    kind = options["kind"] or ("tree" if influence and not given("neighbors") else "neighbors")
    return EdgeRule(kind=kind, neighbors=options["neighbors"], radius=options["radius"])


def why_no_edge(made: WordGraph, rule: EdgeRule) -> str | None:
    """A sentence that says why a graph has no edge, None if it has one."""
    if made.n_edges:
        return None
    if len(made.words) < 2:
        return "The graph has no edge: an edge joins two words, and the text has one."
    if rule.kind == "radius":
        return f"The graph has no edge: no two words are within {rule.radius:g} of each other; give a larger --radius."
    return "The graph has no edge: no two words are related in the way that was asked for."


def material_of(model: LanguageModel, options: dict[str, Any]) -> Material:
    """What constructions draw on, as the options say."""
    from infogeo_adapters._influence_choice import influence_choice
    from infogeo_adapters.relations import Material

    choice = influence_choice(**{name: options[name] for name in ("removal", "distribution", "normalization")})
    return Material(
        model=model, background_text=options["background"], corpus_text=options["corpus"], influence=choice
    )


def read_with(
    material: Material, text: str, options: dict[str, Any], say: Callable[[str], None], *, number: str = "",
    attention: bool = True, distances: bool = True,
) -> Reading:
    """A text read by the model; what comes next is told if ``distances`` are wanted too."""
    from infogeo_adapters.influence_relation import InfluenceRelation
    from infogeo_adapters.text_reading import cut_note, read_text

    say(f"reading text{number} with the model")
    reading = read_text(
        material.model, text, layer=options["layer"], construction=options["construction"], measure=options["measure"],
        material=material, overflow=options["overflow"], attention=attention,
    )
    tell(cut_note(reading.activations, text))
    if distances and isinstance(reading.relation, InfluenceRelation) and len(reading.activations.words) > 1:
        first = "; first, and once, in the background, a packaged text that says what is usual of words and edges"
        say(f"measuring how far the words move each other{'' if material.measured else first}")
    return reading


def told_distances(reading: Reading) -> DistanceMatrix:
    """Distances at the chosen layer; what a reader must know about them is told."""
    made = reading.distances()
    for note in reading.notes():
        tell(rephrase(note))
    return made


def settle_for_all(model: LanguageModel, texts: Sequence[str], options: dict[str, Any]) -> None:
    """Settle the construction that is taken for every line, if none is named."""
    from infogeo_adapters.text_reading import default_construction

    choices = ("construction", "measure", "background", "removal", "distribution", "normalization")
    if all(options[name] is None for name in choices):
        options["construction"], note = default_construction(
            model, texts, layer=options["layer"], overflow=options["overflow"]
        )
        tell(None if note is None else rephrase(note))
