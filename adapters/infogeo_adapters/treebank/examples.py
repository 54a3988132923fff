"""Sentences of a treebank with their trees beside those that graphs of a model find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo import _trees
from infogeo._checks import FloatArray, IntArray
from infogeo.errors import ArgumentError
from infogeo.graphs import WordGraph
from infogeo.results import Result, Source
from infogeo.syntax import DependencyTree, Treebank
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.capture import capture_activations
from infogeo_adapters.treebank._facts import hash_of, hash_of_trees
from infogeo_adapters.treebank.comparison import ModelTreebankComparison
from infogeo_adapters.treebank.families import GraphFamily, SentenceReading
from infogeo_adapters.treebank.fitting import FittedFamily
from infogeo_adapters.treebank.registry import make_families
from infogeo_adapters.treebank.runner import Reader

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

FEWEST, MOST = 8, 16
"""Words that are no punctuation which an example has."""
PLACES = ("furthest ahead", "in the middle", "furthest behind")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExampleSentence(Result):
    """A sentence with its tree and with the trees of graphs, over the words that are no punctuation."""

    tree: DependencyTree
    gold: WordGraph
    """The relations of the tree between words that are no punctuation."""
    graphs: tuple[WordGraph, ...]
    """The spanning trees of the families."""
    families: tuple[str, ...]
    kinds: tuple[str, ...]
    """What each family draws on."""
    variants: tuple[str, ...]
    """Of each family the variant that other sentences chose for this one."""
    place: str
    """Where the first family stands on this sentence against the second, among the sentences of such a length."""

    @property
    def found(self) -> tuple[int, ...]:
        """How many of the relations each family finds."""
        return tuple(len(graph.edge_set() & self.gold.edge_set()) for graph in self.graphs)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        total = self.gold.n_edges
        return ("family", "variant", "found", "of"), [
            (name, variant, n, total)
            for name, variant, n in zip(self.families, self.variants, self.found, strict=True)
        ]

    def summary(self) -> str:
        found = ", ".join(f"{name} {n}" for name, n in zip(self.families, self.found, strict=True))
        return f"{self.tree.name}: {found} of {self.gold.n_edges} relations found"


def example_sentences(
    comparison: ModelTreebankComparison,
    model: LanguageModel,
    treebank: Treebank,
    *,
    families: Sequence[str] | None = None,
) -> tuple[ExampleSentence, ...]:
    """Three sentences with the trees of two families: where the first is furthest ahead, in the middle, and behind.

    They are taken from the reported sentences of 8 to 16 words that are no punctuation, in the order of the difference
    in relations found, of equal ones in the order of the treebank. The graphs are computed again, each in the variant
    that was chosen for its sentence.

    Parameters
    ----------
    comparison : ModelTreebankComparison
        From :func:`infogeo_adapters.compare_with_treebank`.
    model : LanguageModel
        The model that was compared.
    treebank : Treebank
        The sentences that were compared.
    families : (str, str), optional
        By default the best influence family and the reference.

    Returns
    -------
    tuple of ExampleSentence
        Fewer if there are fewer sentences of such a length; none if there is no influence family or no reference, or
        one of the two is fitted to trees.

    Raises
    ------
    ArgumentError
        If it is no comparison, a family is no part of it or has no name in :func:`infogeo_adapters.family_names`, or
        the sentences or the model are others than those compared.

    Examples
    --------
    >>> from infogeo_adapters import compare_with_treebank, load_model, sample_treebank
    >>> model, treebank = load_model(), sample_treebank()
    >>> found = compare_with_treebank(model, treebank, untrained=False, resamples=200,
    ...                               families=["adjacent words", "attention head"])
    >>> examples = example_sentences(found, model, treebank, families=("adjacent words", "attention head"))
    >>> [example.place for example in examples]
    ['furthest ahead', 'in the middle', 'furthest behind']
    """
    if not isinstance(comparison, ModelTreebankComparison):
        raise ArgumentError(
            f"comparison: found {type(comparison).__name__}, wanted what compare_with_treebank(model, treebank) gives"
        )
    check_model(model)
    if model.current_source().content_hash != comparison.source.content_hash:
        raise ArgumentError("model: its weights are not those of the comparison; give the model that was compared")
    names = _two(comparison, families)
    if names is None:
        return ()
    trees = _compared_trees(comparison, treebank)
    picks = _picked(comparison, trees, names)
    made, _ = make_families(model, names)
    plain = [family for family in made if not isinstance(family, FittedFamily)]
    if len(plain) < len(made) or not picks:
        return ()
    readings = _read(model, plain, [trees[s] for s, _ in picks])
    drawn = []
    for family in plain:
        family.prepare(model, [tree.text for tree in trees])
        variants = [_variant(comparison, family.name, s) for s, _ in picks]
        values = family.closeness(model, readings)
        drawn.append([
            (variant, _spanning(value[family.variants.index(variant)], trees[s], comparison.decoders[0]))
            for variant, value, (s, _) in zip(variants, values, picks, strict=True)
        ])
    return tuple(
        ExampleSentence(
            tree=trees[s], gold=_gold(trees[s]), families=names, place=place,
            kinds=tuple(family.kind for family in plain),
            variants=tuple(of_family[k][0] for of_family in drawn),
            graphs=tuple(
                _graph(trees[s], of_family[k][1], name) for of_family, name in zip(drawn, names, strict=True)
            ),
        )
        for k, (s, place) in enumerate(picks)
    )


def _two(comparison: ModelTreebankComparison, families: Sequence[str] | None) -> tuple[str, str] | None:
    """The two families, or None if there are none by default."""
    known = [family.name for family in comparison.families]
    if families is None:
        best, other = comparison.best("influence"), comparison.reference
        return None if best is None or other is None or best == other else (best, other)
    if isinstance(families, str) or len(families) != 2 or any(name not in known for name in families):
        raise ArgumentError(f"families: found {families!r}, wanted two of {', '.join(known)}")
    return families[0], families[1]


def _compared_trees(comparison: ModelTreebankComparison, treebank: Treebank) -> list[DependencyTree]:
    """The trees of the sentences in the table of scores, in its order."""
    found: list[DependencyTree] = []
    wanted = list(zip(comparison.scores.sentences, comparison.scores.n_words.tolist(), strict=True))
    for tree in treebank.trees:
        if len(found) < len(wanted) and (tree.name, len(tree)) == wanted[len(found)]:
            found.append(tree)
    if len(found) < len(wanted):
        raise ArgumentError(
            f"treebank: found no sentence {wanted[len(found)][0]!r} in its place, wanted the treebank that was compared"
        )
    # where other sentences chose, the hash is of both treebanks, and only names and lengths tell
    if comparison.split != "other sentences" and hash_of([hash_of_trees(found)]) != comparison.source.text_hash:
        raise ArgumentError(
            "treebank: its sentences have the names of those that were compared, and other words or trees; wanted the "
            "treebank that was compared"
        )
    return found


def _first(comparison: ModelTreebankComparison) -> int:
    """How many sentences the first half has; none where other sentences chose."""
    parts = {choice.chosen_on: choice.n_sentences for choice in comparison.choices}
    return parts.get("first half", 0)


def _variant(comparison: ModelTreebankComparison, name: str, sentence: int) -> str:
    """The variant of a family that was chosen for a sentence."""
    chosen = comparison.chosen(name)
    half = "first half" if sentence < _first(comparison) else "second half"
    return next((c.variant for c in chosen if c.reported_on == half), chosen[0].variant)


def _picked(
    comparison: ModelTreebankComparison, trees: Sequence[DependencyTree], names: tuple[str, str]
) -> list[tuple[int, str]]:
    """Numbers of sentences, each with its place in the order of the difference."""
    scores = comparison.scores
    start = _first(comparison) if comparison.split == "half" else 0
    counts = scores.counts()
    places = {family.name: part.start for family, part in zip(scores.families, scores.slices, strict=True)}
    variants = {family.name: family.variants for family in scores.families}
    ahead: dict[int, int] = {}
    for s in range(start, len(trees)):
        if FEWEST <= int((~trees[s].punctuation).sum()) <= MOST:
            hits = [
                int(counts[s, places[name] + variants[name].index(_variant(comparison, name, s))]) for name in names
            ]
            ahead[s] = hits[0] - hits[1]
    order = sorted(ahead, key=lambda s: (-ahead[s], s))
    if len(order) < len(PLACES):
        return [(s, f"{ahead[s]:+d} relations") for s in order]
    return list(zip((order[0], order[len(order) // 2], order[-1]), PLACES, strict=True))


def _read(
    model: LanguageModel, families: Sequence[GraphFamily], trees: Sequence[DependencyTree]
) -> list[SentenceReading]:
    attention = Reader(model=model, families=tuple(families)).attention
    spans = [[(int(first), int(end)) for first, end in tree.spans] for tree in trees]
    found = capture_activations(model, [tree.text for tree in trees], words=spans, attention=attention)
    return [SentenceReading(tree=tree, activations=a) for tree, a in zip(trees, found, strict=True)]


def _spanning(closeness: FloatArray, tree: DependencyTree, decoder: str) -> IntArray:
    """(m, 2) edges of the tree of one variant, between the words that are no punctuation."""
    words = np.flatnonzero(~tree.punctuation)
    decode = _trees.spanning_trees if decoder == "spanning" else _trees.projective_trees
    values = np.asarray(closeness, dtype=np.float64)[np.ix_(words, words)][None]
    return np.asarray(decode((values + values.swapaxes(1, 2)) / 2)[0])


def _gold(tree: DependencyTree) -> WordGraph:
    place = np.cumsum(~tree.punctuation) - 1
    edges = tree.edges()
    kept = ~tree.punctuation[edges].any(axis=1)
    return _graph(tree, place[edges[kept]], "relations of the treebank")


def _graph(tree: DependencyTree, edges: IntArray, name: str) -> WordGraph:
    """A tree as a graph in which all edges are alike."""
    ordered = np.unique(np.sort(edges, axis=1), axis=0)
    words = tuple(word for word, left_out in zip(tree.words, tree.punctuation, strict=True) if not left_out)
    alike = np.ones(len(ordered))
    return WordGraph(
        words=words, edges=ordered, distance=alike, weight=alike, directed=False, construction=name, measure=name,
        source=Source(),
    )
