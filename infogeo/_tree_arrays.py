"""The arrays of a table of scores: their formats, how they are put together, and sums over sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, check_shape, sealed
from infogeo._tree_families import check_same_families, same_trees
from infogeo.errors import ArgumentError, DomainError

if TYPE_CHECKING:
    from infogeo._tree_table import ScoreTable

ARRAYS: dict[str, type[np.generic]] = {
    "n_words": np.int64, "edge_counts": np.int64, "edge_relations": np.uint8, "edge_offsets": np.int16,
    "edge_kept": np.bool_, "hits": np.uint8, "correlations": np.float64,
}
"""The arrays of a table, and their formats."""
MEMORY = 64e6
"""Bytes of bits that are unpacked at once, about."""


def checked_arrays(given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """The arrays in their formats, read-only; raise for another shape, or numbers that a format cannot hold."""
    arrays = {}
    for name, dtype in ARRAYS.items():
        array = np.asarray(given[name])
        check_shape(name, array, shapes[name])
        if array.dtype != dtype or array.flags.writeable:
            cast = sealed(array.astype(dtype))
            if array.dtype != dtype and not np.array_equal(cast, array, equal_nan=dtype is np.float64):
                raise DomainError(f"{name}: found dtype {array.dtype} with numbers that {cast.dtype} cannot hold")
            array = cast
        arrays[name] = array
    return arrays


def fields_of_concatenated(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """The fields of the table of the sentences of several tables, one after the other."""
    head = _head(tables)
    for position, table in enumerate(tables):
        check_same_families(table, head, f"table {position}", "table 0")
    relations = tuple(sorted({relation for table in tables for relation in table.relations}))
    if len(relations) > 255:
        raise ArgumentError(f"found {len(relations)} kinds of relations, wanted at most 255")
    place = {relation: i for i, relation in enumerate(relations)}
    indices = [np.array([place[r] for r in table.relations], dtype=np.uint8) for table in tables]
    return {
        "families": head.families, "decoders": head.decoders, "relations": relations,
        "sentences": tuple(name for table in tables for name in table.sentences),
        "edge_relations": np.concatenate([i[t.edge_relations] for i, t in zip(indices, tables, strict=True)]),
        "hits": np.concatenate([table.hits for table in tables], axis=2),
        **{name: np.concatenate([getattr(table, name) for table in tables])
           for name in ("n_words", "edge_counts", "edge_offsets", "edge_kept", "correlations")},
    }


def fields_of_neighbors(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """The fields of the table of the families of several tables of the same sentences, side by side."""
    head = _head(tables)
    for position, table in enumerate(tables):
        if table.decoders != head.decoders or not same_trees(table, head):
            raise ArgumentError(f"table {position} has other sentences, relations or decoders than table 0")
    variants = sum(table.n_variants for table in tables)
    hits = np.empty((*head.hits.shape[:3], -(-variants // 8)), dtype=np.uint8)
    step = max(1, int(MEMORY // (4 * len(head.decoders) * variants)))
    for rows in (slice(start, start + step) for start in range(0, hits.shape[2], step)):
        bits = [np.unpackbits(table.hits[:, :, rows], axis=-1, count=table.n_variants) for table in tables]
        hits[:, :, rows] = np.packbits(np.concatenate(bits, axis=-1), axis=-1)
    return {
        "families": tuple(family for table in tables for family in table.families),
        **{name: getattr(head, name) for name in (
            "decoders", "sentences", "n_words", "edge_counts", "relations", "edge_relations", "edge_offsets",
            "edge_kept",
        )},
        "hits": hits,
        "correlations": np.concatenate([table.correlations for table in tables], axis=1),
    }


def blocks_of_sentences(counts: IntArray, edges: int) -> Iterator[tuple[slice, slice]]:
    """Sentences in a row, of ``counts`` (S,) relations, with their relations, about ``edges`` of them at once."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + edges, side="right")) - 1)
        stop = min(stop, len(counts))
        yield slice(start, stop), slice(int(ends[start]), int(ends[stop]))
        start = stop


def sums_of_sentences(values: NDArray[Any], counts: IntArray) -> IntArray:
    """Sums (S, k) of consecutive rows (E, k), ``counts`` (S,) of them each; zero where there are none."""
    result = np.zeros((len(counts), values.shape[1]), dtype=np.int64)
    filled = np.flatnonzero(counts)
    if len(filled):
        starts = (np.cumsum(counts) - counts)[filled]
        result[filled] = np.add.reduceat(values, starts, axis=0, dtype=np.int64)
    return result


def _head(tables: Sequence[ScoreTable]) -> ScoreTable:
    if not tables:
        raise ArgumentError("tables: found none, wanted at least one")
    return tables[0]
