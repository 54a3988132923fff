"""How families of word graphs are named, what tables of their scores have in common, and the scores of one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import ArgumentError
from infogeo.tree_scores import SentenceScores

if TYPE_CHECKING:
    from infogeo._tree_table import ScoreTable

BINS = ("1", "2-3", "4-6", "7+")
"""Names of the distances between two related words, in words, that are reported together."""
BIN_STARTS = (1, 2, 4, 7)
LONG = "long"
"""Relations longer than three words: the last two distances together."""
ALL = "all"


class NamedFamily(Protocol):
    """What a table asks of a family of word graphs: how it and its variants are called."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def variants(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyVariants:
    """Names of a family of word graphs and of the variants among which one is chosen."""

    name: str
    kind: str
    """What it draws on: ``baseline``, ``vectors``, ``attention``, ``influence``, ``combination``, ``supervised``."""
    variants: tuple[str, ...]


def check_same_families(table: ScoreTable, other: ScoreTable, name: str, other_name: str) -> None:
    """Raise unless two tables have the same families with the same variants, and the same decoders."""
    for what, mine, theirs in (
        ("families", [f.name for f in table.families], [f.name for f in other.families]),
        ("variants", [f.variants for f in table.families], [f.variants for f in other.families]),
        ("kinds", [f.kind for f in table.families], [f.kind for f in other.families]),
        ("decoders", list(table.decoders), list(other.decoders)),
    ):
        if mine != theirs:
            shown = f": found {mine}, wanted {theirs}" if what in ("families", "decoders") else ""
            raise ArgumentError(f"{name} has other {what} than {other_name}{shown}; score both with the same families")


def same_trees(table: ScoreTable, other: ScoreTable) -> bool:
    """Whether two tables are about the same sentences, relation by relation."""
    named = table.sentences == other.sentences and table.relations == other.relations
    arrays = ("n_words", "edge_counts", "edge_relations", "edge_offsets", "edge_kept")
    return named and all(np.array_equal(getattr(table, name), getattr(other, name)) for name in arrays)


def shared_sentences(table: ScoreTable, other: ScoreTable) -> list[str]:
    """Names of sentences of at least five words that are in both tables, with the same name and the same tree."""
    found = [
        {(name, edges.tobytes()): name for name, edges in zip(t.sentences, _offsets(t), strict=True) if len(edges) > 3}
        for t in (table, other)
    ]
    return [name for key, name in found[0].items() if key in found[1]]


def _offsets(table: ScoreTable) -> list[NDArray[np.int16]]:
    return np.split(table.edge_offsets, np.cumsum(table.edge_counts)[:-1])


def fields_of_sentence(
    position: int, scores: tuple[SentenceScores, ...], families: tuple[FamilyVariants, ...]
) -> dict[str, Any]:
    """The fields of the table of one sentence."""
    for entry in scores:
        if not isinstance(entry, SentenceScores):
            raise ArgumentError(f"scores: found {type(entry).__name__} in sentence {position}, wanted SentenceScores")
    decoders = tuple(dict.fromkeys(entry.decoder for entry in scores))
    by_decoder = [[entry for entry in scores if entry.decoder == decoder] for decoder in decoders]
    wanted = [len(family.variants) for family in families]
    for decoder, entries in zip(decoders, by_decoder, strict=True):
        found = [len(entry.hits) for entry in entries]
        if found != wanted:
            raise ArgumentError(
                f"scores: sentence {position} ({entries[0].name}) has {found} variants for the decoder {decoder}, "
                f"wanted {wanted}, those of the families {', '.join(family.name for family in families)}"
            )
    if not scores:
        raise ArgumentError(f"scores: sentence {position} has none, wanted one of each family")
    first = scores[0]
    for entry in scores:
        if entry.name != first.name or not np.array_equal(entry.edges, first.edges):
            raise ArgumentError(f"scores: sentence {position} has scores of two trees, {first.name} and {entry.name}")
    named = [relation.partition(":")[0] for relation in first.relations]
    relations = tuple(sorted(set(named)))
    hits = [
        [np.concatenate([e.hits_without_punctuation for e in entries]), np.concatenate([e.hits for e in entries])]
        for entries in by_decoder
    ]
    return {
        "families": families, "decoders": decoders, "sentences": (first.name,), "relations": relations,
        "n_words": np.array([first.n_words]), "edge_counts": np.array([len(first.edges)]),
        "edge_relations": np.array([relations.index(r) for r in named]),
        "edge_offsets": first.edges[:, 1] - first.edges[:, 0], "edge_kept": np.array(first.kept),
        "hits": np.packbits(np.array(hits, dtype=np.bool_).swapaxes(2, 3), axis=-1),
        "correlations": np.concatenate([entry.correlation for entry in by_decoder[0]])[None],
    }
