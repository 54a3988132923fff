"""Node-link JSON, DOT and CSV files of word graphs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from infogeo.errors import FormatError
from infogeo.graphs import WordGraph
from infogeo_adapters._graph_record import build_graph, check_schema, graph_attributes, parse_json

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Control characters that no CSV reader can be trusted with (NUL ends a text in many)."""

LONGEST_CELL = 131_072
"""Characters in a CSV cell that Python's reader takes."""

_FORMULA = re.compile("['=+\\-@\t\r\n＝＋－＠]")
CSV_COLUMNS = ("kind", "from", "to", "from_word", "to_word", "distance", "weight")


def write_json(graph: WordGraph) -> str:
    """The graph as node-link JSON with the names of networkx (``nodes``, ``edges``, ``source``, ``target``)."""
    rows = zip(graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True)
    document = {
        "directed": graph.directed,
        "multigraph": False,
        "graph": graph_attributes(graph),
        "nodes": [
            {"word": word, "position": position, "level": graph.level, "id": position}
            for position, word in enumerate(graph.words)
        ],
        "edges": [{"distance": d, "weight": w, "source": i, "target": j} for (i, j), d, w in rows],
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_json(text: str) -> WordGraph:
    """The graph of :func:`write_json`; edges may also be called ``links``, as D3 calls them."""
    document = parse_json("file", text)
    if not isinstance(document, dict):
        raise FormatError(f"found a JSON {type(document).__name__}, wanted an object")
    attributes = document.get("graph")
    attributes = attributes if isinstance(attributes, dict) else {}
    check_schema(attributes)
    tables = {}
    for name in ("nodes", "links" if "links" in document else "edges"):
        table = document.get(name)
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise FormatError(f"{name}: wanted a list of objects")
        tables[name] = table
    if not isinstance(document.get("directed"), bool) or document.get("multigraph", False) is not False:
        raise FormatError("wanted directed to be true or false, and multigraph to be false")
    nodes, edges = tables.values()
    for row, names in [(row, ("id",)) for row in nodes] + [(row, ("source", "target")) for row in edges]:
        for name in names:
            if not isinstance(row.get(name), str | int):
                raise FormatError(f"{name}: found {row.get(name)!r}, wanted the text or number that names a node")
    return build_graph(
        attributes=attributes, directed=document["directed"],
        nodes=[(row["id"], row.get("position"), row.get("word")) for row in nodes],
        edges=[(row["source"], row["target"], row.get("distance"), row.get("weight")) for row in edges],
    )


def write_dot(graph: WordGraph) -> str:
    """The graph as DOT; every text is a JSON text, which is also a quoted string of DOT; ``label`` is for display."""
    arrow = "->" if graph.directed else "--"
    lines = [f'{"digraph" if graph.directed else "graph"} "words" {{', '  charset="UTF-8";']
    lines += [f"  {name}={_quoted(value)};" for name, value in graph_attributes(graph).items()]
    for position, word in enumerate(graph.words):
        lines.append(
            f'  {position} [word={_quoted(word)}, position="{position}", level="{graph.level}", '
            f"label={_quoted(_shown(word))}];"
        )
    rows = zip(graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True)
    lines += [f'  {i} {arrow} {j} [distance="{d!r}", weight="{w!r}"];' for (i, j), d, w in rows]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(word: str) -> str:
    # Graphviz reads entities (&amp;) in a label, and knows no escapes for control characters: show their pictures.
    return re.sub("[\x00-\x1f]", lambda c: chr(0x2400 + ord(c[0])), word).replace("&", "&amp;")


_DOT_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*|/\*.*?\*/|^\#[^\n]*)
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<mark>--|->|[{}\[\];,=])
    |(?P<name>-?(?:\.\d+|\d+(?:\.\d*)?)|[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def _dot_tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _DOT_TOKEN.match(text, at)
        if match is None:
            line = text.count("\n", 0, at) + 1
            raise FormatError(f"line {line}: found {text[at : at + 20]!r}, which is not of the DOT that infogeo writes")
        if match.lastgroup == "text":
            try:
                yield "text", json.loads(match[0], strict=False)
            except ValueError as error:
                line = text.count("\n", 0, at) + 1
                raise FormatError(f"line {line}: the string {match[0][:40]} is not one of JSON ({error})") from error
        elif match.lastgroup in ("mark", "name"):
            yield match.lastgroup, match[0]
        at = match.end()
    while True:
        yield "end", ""


def read_dot(text: str) -> WordGraph:
    """The graph of :func:`write_dot`; other DOT (subgraphs, ports, chains of edges) is refused."""
    tokens = _dot_tokens(text.removeprefix("\ufeff"))
    kind, value = next(tokens)
    if kind == "name" and value.lower() == "strict":
        kind, value = next(tokens)
    if kind != "name" or value.lower() not in ("graph", "digraph"):
        raise _unexpected(value, "'graph' or 'digraph'")
    directed = value.lower() == "digraph"
    kind, value = next(tokens)
    if kind in ("name", "text"):
        kind, value = next(tokens)
    if (kind, value) != ("mark", "{"):
        raise _unexpected(value, "an opening brace")
    attributes: dict[str, str] = {}
    nodes: list[tuple[Any, Any, Any]] = []
    edges: list[tuple[Any, Any, Any, Any]] = []
    kind, value = next(tokens)
    while (kind, value) != ("mark", "}"):
        if (kind, value) in (("mark", ";"), ("mark", ",")):
            kind, value = next(tokens)
            continue
        if kind not in ("name", "text"):
            raise _unexpected(value, "a node, an edge or an attribute")
        word, quoted = value, kind == "text"
        kind, value = next(tokens)
        if (kind, value) == ("mark", "="):
            attributes[word] = _dot_value(tokens)
            kind, value = next(tokens)
        elif (kind, value) in (("mark", "--"), ("mark", "->")):
            if (value == "->") != directed:
                raise FormatError(f"found an edge {value} in a {'directed' if directed else 'undirected'} graph")
            other = _dot_value(tokens)
            found, (kind, value) = _dot_attributes(tokens)
            edges.append((word, other, found.get("distance"), found.get("weight")))
        elif not quoted and word.lower() == "subgraph":
            raise FormatError("found a subgraph, which is not of the DOT that infogeo writes")
        else:
            found, (kind, value) = _dot_attributes(tokens, (kind, value))
            if not quoted and word.lower() == "graph":
                attributes.update(found)
            elif quoted or word.lower() not in ("node", "edge"):
                nodes.append((word, found.get("position"), found.get("word")))
    if next(tokens)[0] != "end":
        raise FormatError("found more text after the graph")
    return build_graph(attributes=attributes, directed=directed, nodes=nodes, edges=edges)


def _dot_value(tokens: Iterator[tuple[str, str]]) -> str:
    kind, value = next(tokens)
    if kind not in ("name", "text"):
        raise _unexpected(value, "a name or a text")
    return value


def _unexpected(value: str, wanted: str) -> FormatError:
    return FormatError(f"found {value[:20]!r}, wanted {wanted}" if value else f"it ends where {wanted} was wanted")


def _dot_attributes(
    tokens: Iterator[tuple[str, str]], token: tuple[str, str] | None = None
) -> tuple[dict[str, str], tuple[str, str]]:
    """The attribute lists that stand here, and the token after them."""
    found: dict[str, str] = {}
    token = token or next(tokens)
    while token == ("mark", "["):
        token = next(tokens)
        while token != ("mark", "]"):
            if token in (("mark", ","), ("mark", ";")):
                token = next(tokens)
                continue
            if token[0] not in ("name", "text") or next(tokens) != ("mark", "="):
                raise _unexpected(token[1], "attribute=value")
            found[token[1]] = _dot_value(tokens)
            token = next(tokens)
        token = next(tokens)
    return found, token


def spreadsheet_text(text: str) -> str:
    """The text of a CSV cell, with an apostrophe before what a spreadsheet would take for a formula.

    A cell that starts with ``= + - @``, their full-width forms, a tab, a line break or an apostrophe gets an
    apostrophe in front; :func:`plain_text` takes it away. So every text survives, and none is run.
    """
    return "'" + text if _FORMULA.match(text) else text


def plain_text(cell: str) -> str:
    """The inverse of :func:`spreadsheet_text`."""
    return cell[1:] if cell.startswith("'") else cell


def csv_text(rows: list[tuple[Any, ...]]) -> str:
    """Rows as CSV after RFC 4180, texts quoted and kept from being formulas, numbers bare, None empty."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    for row in rows:
        writer.writerow([spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue()


def write_csv(graph: WordGraph) -> str:
    """The graph as CSV: a row for each edge, for each word without an edge, and for each attribute of the graph."""
    lonely = sorted(set(range(len(graph.words))) - set(graph.edges.reshape(-1).tolist()))
    table: list[tuple[Any, ...]] = [CSV_COLUMNS]
    table += [("edge", *row) for row in graph.rows()[1]]
    table += [("word", i, None, graph.words[i], None, None, None) for i in lonely]
    attributes = {**graph_attributes(graph), "directed": "true" if graph.directed else "false"}
    table += [("graph", None, None, name, value, None, None) for name, value in attributes.items()]
    text = csv_text(table)
    if max(len(cell) for row in table for cell in row if isinstance(cell, str)) >= LONGEST_CELL:
        raise FormatError(f"a text is longer than the {LONGEST_CELL} characters that a CSV reader takes; write json")
    return text


def read_csv(text: str) -> WordGraph:
    """The graph of :func:`write_csv`."""
    try:
        table = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    except csv.Error as error:
        raise FormatError(f"not a CSV table ({error})") from error
    if not table or tuple(table[0]) != CSV_COLUMNS:
        raise FormatError(f"found the columns {table[0] if table else []}, wanted {', '.join(CSV_COLUMNS)}")
    attributes: dict[str, str] = {}
    words: dict[str, str] = {}
    edges = []
    for number, row in enumerate(table[1:], start=2):
        if len(row) != len(CSV_COLUMNS):
            raise FormatError(f"row {number}: found {len(row)} cells, wanted {len(CSV_COLUMNS)}")
        kind, start, end, *texts, distance, weight = row
        left, right = (plain_text(t) for t in texts)
        if kind == "edge":
            named = {start: left} if start == end else {start: left, end: right}
            edges.append((start, end, distance, weight))
        elif kind == "word":
            named = {start: left}
        elif kind == "graph":
            named = {}
            attributes[left] = right
        else:
            raise FormatError(f"row {number}: found the kind {kind!r}, wanted edge, word or graph")
        for place, word in named.items():
            if words.setdefault(place, word) != word:
                raise FormatError(f"row {number}: word {place} is {word!r}, and {words[place]!r} in a row before")
    check_schema(attributes)
    if attributes.get("directed") not in ("true", "false"):
        raise FormatError(f"directed: found {attributes.get('directed')!r}, wanted 'true' or 'false'")
    return build_graph(
        attributes=attributes, directed=attributes["directed"] == "true",
        nodes=[(place, place, word) for place, word in words.items()], edges=edges,
    )
