"""Example sentences as they stand on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infogeo_adapters.plots import graph_pair_figure
from infogeo_adapters.plots.style import capital, visible
from infogeo_adapters.report.sections import Figure
from infogeo_adapters.treebank.examples import ExampleSentence


@dataclass(frozen=True)
class ExampleOnPage:
    """A sentence, what is to be seen, and its figures."""

    title: str
    text: str
    said: str
    figures: tuple[Figure, ...]


def examples_on_page(examples: Sequence[ExampleSentence]) -> Iterator[ExampleOnPage]:
    """Each sentence with one figure for each family."""
    for k, example in enumerate(examples):
        short = example.kinds if len(set(example.kinds)) == len(example.kinds) else example.families
        told = [
            f"{name} ({visible(variant)}) joins {n} of the {example.gold.n_edges} relations"
            for name, variant, n in zip(example.families, example.variants, example.found, strict=True)
        ]
        yield ExampleOnPage(
            title=f"{capital(example.place)}: {visible(example.tree.name)}", text=visible(example.tree.text),
            said=f"{capital('; '.join(told))}.",
            figures=tuple(
                Figure(f"example-{k}-{i}", graph_pair_figure(
                    example.gold, graph, left_name="treebank", right_name=name
                ))
                for i, (name, graph) in enumerate(zip(short, example.graphs, strict=True))
            ),
        )
