"""What every file format and networkx must carry of a word graph, in one place, and how it is put together again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from infogeo.errors import FormatError, InfogeoError
from infogeo.graphs import WordGraph
from infogeo.results import Source, to_plain
from infogeo.words import Level

SCHEMA = "infogeo.WordGraph/1"
"""Marks a graph as one of ours; the number changes when an older reader would misread a newer file."""

TEXT_FIELDS = ("model", "content_hash", "architecture", "dtype", "text_hash")


def graph_attributes(graph: WordGraph) -> dict[str, str]:
    """All that concerns the whole graph, as texts; the source is a JSON text in ASCII."""
    attributes = {
        "schema": SCHEMA,
        "construction": graph.construction,
        "measure": graph.measure,
        "level": graph.level,
        "source": source_to_text(graph.source),
    }
    if graph.source.model is not None:
        attributes["model"] = graph.source.model
    return attributes


def source_to_text(source: Source) -> str:
    """A source as a strict JSON text in ASCII; a number that is not finite becomes ``{"float": "inf"}``."""
    plain: dict[str, Any] = {name: getattr(source, name) for name in TEXT_FIELDS}
    plain["seed"] = source.seed
    options = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in source.options.items()}
    plain["options"] = {k: _tagged(v) for k, v in options.items()}
    plain["versions"] = dict(source.versions)
    text = json.dumps(to_plain(plain), ensure_ascii=True, allow_nan=False)
    if json.loads(text) != to_plain(plain):
        raise FormatError("source: it holds a text with surrogate pairs in two halves, which JSON cannot tell from one")
    return text


def source_from_text(text: Any) -> Source:
    """The source of :func:`source_to_text`, or a FormatError that says what is wrong with the text."""
    plain = parse_json("source", text)
    if not isinstance(plain, dict):
        raise FormatError(f"source: found a JSON {type(plain).__name__}, wanted an object")
    unknown = set(plain) - {*TEXT_FIELDS, "seed", "options", "versions"}
    if unknown:
        raise FormatError(f"source: found the unknown field {min(unknown)!r}")
    for name in TEXT_FIELDS:
        if not isinstance(plain.get(name), str | None):
            raise FormatError(f"source: {name} is {plain[name]!r}, wanted a text or null")
    if not isinstance(plain.get("seed"), int | None):
        raise FormatError(f"source: seed is {plain['seed']!r}, wanted a whole number or null")
    tables: dict[str, Any] = {}
    for name in ("options", "versions"):
        table = plain.get(name, {})
        if not isinstance(table, dict):
            raise FormatError(f"source: {name} is {table!r}, wanted an object")
        tables[name] = {k: _untagged(name, v) for k, v in table.items()}
    fields: dict[str, Any] = {name: plain.get(name) for name in (*TEXT_FIELDS, "seed")}
    return Source(**fields, **tables)


def _tagged(value: Any) -> Any:
    return {"float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _untagged(name: str, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["float"]:
        return to_float(name, value["float"])
    if not isinstance(value, str | int | float | None):
        raise FormatError(f"source: {name} holds {value!r}, wanted a text, a number, true, false or null")
    return value


def parse_json(name: str, text: Any) -> Any:
    """What a strict JSON text says, or a FormatError."""
    if not isinstance(text, str):
        raise FormatError(f"{name}: found {type(text).__name__}, wanted a JSON text")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name}: not a JSON text ({error})") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def to_float(name: str, value: Any) -> float:
    """A number given as a number or as text, or a FormatError."""
    return float(_convert(name, value, float, "a number"))


def to_index(name: str, value: Any) -> int:
    """A whole number given as a number or as text, or a FormatError."""
    if isinstance(value, float):
        raise FormatError(f"{name}: found {value!r}, wanted a whole number")
    return int(_convert(name, value, int, "a whole number"))


def _convert(name: str, value: Any, kind: Callable[[Any], Any], wanted: str) -> Any:
    try:
        if value is None or isinstance(value, bool):
            raise TypeError
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{name}: found {value!r}, wanted {wanted}") from error


def build_graph(
    *,
    attributes: Mapping[Any, Any],
    directed: bool,
    nodes: Sequence[tuple[Any, Any, Any]],
    edges: Sequence[tuple[Any, Any, Any, Any]],
) -> WordGraph:
    """A word graph from what a reader found, or a FormatError that says what is missing or wrong.

    Parameters
    ----------
    attributes : mapping
        As :func:`graph_attributes` gives them.
    directed : bool
    nodes : sequence of (key, position, word)
        In any order; ``key`` is what the edges call them.
    edges : sequence of (key, key, distance, weight)
    """
    check_schema(attributes)
    for name in ("construction", "measure", "level"):
        if not isinstance(attributes.get(name), str):
            raise FormatError(f"the graph has no text attribute {name!r}")
    if attributes["level"] not in get_args(Level):
        raise FormatError(f"level: found {attributes['level']!r}, wanted one of {', '.join(get_args(Level))}")
    words: list[str | None] = [None] * len(nodes)
    index = {}
    for key, position, word in nodes:
        place = to_index(f"position of node {key!r}", position)
        if not 0 <= place < len(nodes) or words[place] is not None:
            raise FormatError(f"positions of the nodes must be 0 to {len(nodes) - 1}, each once; found {place}")
        if not isinstance(word, str):
            raise FormatError(f"node {key!r} has no text attribute 'word'")
        if key in index:
            raise FormatError(f"node {key!r} is given twice")
        words[place], index[key] = word, place
    pairs, lengths, strengths = [], [], []
    for start, end, distance, weight in edges:
        if start not in index or end not in index:
            raise FormatError(f"an edge joins {start!r} and {end!r}, and one of them is not a node")
        pair = (index[start], index[end])
        pairs.append(pair if directed else (min(pair), max(pair)))
        lengths.append(to_float(f"distance of edge {start!r} to {end!r}", distance))
        strengths.append(to_float(f"weight of edge {start!r} to {end!r}", weight))
    try:
        return WordGraph(
            words=tuple(word for word in words if word is not None),
            edges=np.array(pairs, dtype=np.int64).reshape(len(pairs), 2),
            distance=np.array(lengths, dtype=np.float64), weight=np.array(strengths, dtype=np.float64),
            directed=directed, construction=attributes["construction"], measure=attributes["measure"],
            level=attributes["level"], source=source_from_text(attributes.get("source")),
        )
    except FormatError:
        raise
    except InfogeoError as error:
        raise FormatError(f"the graph is not a word graph: {error}") from error


def check_schema(attributes: Mapping[Any, Any]) -> None:
    """Raise unless the graph says that it is one of ours."""
    found = attributes.get("schema")
    if found != SCHEMA:
        seen = "none" if found is None else repr(found)
        raise FormatError(
            f"the graph was not written by infogeo: wanted the graph attribute schema={SCHEMA!r}, found {seen}"
        )
