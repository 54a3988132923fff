"""GraphML and GEXF files of word graphs.

Written without an XML library, since the text of a word must survive the reader's normalization: tabs, line feeds and
carriage returns go out as character references. Read with xml.etree; a document type declaration is refused before
anything in it is processed, so that no entity is ever expanded and no external file opened.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from infogeo.errors import FormatError
from infogeo.graphs import WordGraph
from infogeo_adapters._graph_record import build_graph, check_schema, graph_attributes, parse_json

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document can hold, not even as references (production Char of the standard)."""

GRAPHML = "http://graphml.graphdrawing.org/xmlns"
GEXF = "http://www.gexf.net/1.2draft"
_ESCAPES = {ord(c): e for c, e in {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;",
}.items()}  # fmt: skip
_HEADER = '<?xml version="1.0" encoding="UTF-8"?>'


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def write_graphml(graph: WordGraph) -> str:
    """The graph as a GraphML document; attributes are named as networkx names them."""
    attributes = graph_attributes(graph)
    keys = [("graph", name, "string") for name in attributes]
    keys += [("node", "word", "string"), ("node", "position", "int"), ("node", "level", "string")]
    keys += [("edge", "distance", "double"), ("edge", "weight", "double")]
    lines = [_HEADER, f'<graphml xmlns="{GRAPHML}">']
    lines += [f'  <key id="{of}-{n}" for="{of}" attr.name="{n}" attr.type="{kind}"/>' for of, n, kind in keys]
    lines.append(f'  <graph id="words" edgedefault="{"directed" if graph.directed else "undirected"}">')
    lines += [f'    <data key="graph-{name}">{_escape(value)}</data>' for name, value in attributes.items()]
    for position, word in enumerate(graph.words):
        lines.append(
            f'    <node id="{position}"><data key="node-word">{_escape(word)}</data>'
            f'<data key="node-position">{position}</data><data key="node-level">{graph.level}</data></node>'
        )
    for (i, j), distance, weight in zip(
        graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True
    ):
        lines.append(
            f'    <edge source="{i}" target="{j}"><data key="edge-distance">{distance!r}</data>'
            f'<data key="edge-weight">{weight!r}</data></edge>'
        )
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def write_gexf(graph: WordGraph) -> str:
    """The graph as a GEXF 1.2 document; what concerns the whole graph is a JSON text in the description."""
    attributes = json.dumps(graph_attributes(graph), ensure_ascii=True)
    lines = [
        _HEADER,
        f'<gexf xmlns="{GEXF}" version="1.2">',
        f"  <meta><creator>infogeo</creator><description>{_escape(attributes)}</description></meta>",
        f'  <graph mode="static" defaultedgetype="{"directed" if graph.directed else "undirected"}">',
        '    <attributes class="node" mode="static">',
        '      <attribute id="word" title="word" type="string"/>',
        '      <attribute id="position" title="position" type="integer"/>',
        '      <attribute id="level" title="level" type="string"/>',
        "    </attributes>",
        '    <attributes class="edge" mode="static">',
        '      <attribute id="distance" title="distance" type="double"/>',
        "    </attributes>",
        "    <nodes>",
    ]
    for position, word in enumerate(graph.words):
        text = _escape(word)
        lines.append(
            f'      <node id="{position}" label="{text}"><attvalues><attvalue for="word" value="{text}"/>'
            f'<attvalue for="position" value="{position}"/><attvalue for="level" value="{graph.level}"/>'
            "</attvalues></node>"
        )
    lines += ["    </nodes>", "    <edges>"]
    rows = zip(graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True)
    for number, ((i, j), distance, weight) in enumerate(rows):
        lines.append(
            f'      <edge id="{number}" source="{i}" target="{j}" weight="{weight!r}">'
            f'<attvalues><attvalue for="distance" value="{distance!r}"/></attvalues></edge>'
        )
    return "\n".join([*lines, "    </edges>", "  </graph>", "</gexf>", ""])


def read_graphml(data: bytes) -> WordGraph:
    """The graph of :func:`write_graphml`, also where networkx has read and written it again."""
    root = _parse(data, "graphml")
    graph = _only_graph(root, "edgedefault")
    names = {key.get("id"): key.get("attr.name") for key in root.findall("{*}key")}

    def values(element: Element) -> dict[Any, Any]:
        return {names.get(d.get("key")): d.text or "" for d in element.findall("{*}data")}

    nodes = [(node.get("id"), values(node)) for node in graph.findall("{*}node")]
    edges = [(edge, values(edge)) for edge in graph.findall("{*}edge")]
    return build_graph(
        attributes=values(graph), directed=graph.get("edgedefault") == "directed",
        nodes=[(key, data.get("position"), data.get("word")) for key, data in nodes],
        edges=[(e.get("source"), e.get("target"), data.get("distance"), data.get("weight")) for e, data in edges],
    )


def read_gexf(data: bytes) -> WordGraph:
    """The graph of :func:`write_gexf`."""
    root = _parse(data, "gexf")
    graph = _only_graph(root, "defaultedgetype")
    description = root.findtext("{*}meta/{*}description")
    if description is None or not description.startswith("{"):
        check_schema({})
    attributes = parse_json("description", description)
    names = {a.get("id"): a.get("title") for a in graph.findall("{*}attributes/{*}attribute")}

    def values(element: Element) -> dict[Any, Any]:
        return {names.get(v.get("for")): v.get("value") for v in element.findall("{*}attvalues/{*}attvalue")}

    nodes = [(node.get("id"), values(node)) for node in graph.findall("{*}nodes/{*}node")]
    edges = [(edge, values(edge)) for edge in graph.findall("{*}edges/{*}edge")]
    return build_graph(
        attributes=attributes, directed=graph.get("defaultedgetype") == "directed",
        nodes=[(key, data.get("position"), data.get("word")) for key, data in nodes],
        edges=[(e.get("source"), e.get("target"), data.get("distance"), e.get("weight")) for e, data in edges],
    )


def _parse(data: bytes, wanted: str) -> Element:
    from xml.etree import ElementTree

    class Builder(ElementTree.TreeBuilder):
        def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
            raise FormatError("the file has a document type declaration (DOCTYPE), which is not read: remove it")

    parser = ElementTree.XMLParser(target=Builder())  # without a DOCTYPE there are no entities
    try:
        parser.feed(data)
        root: Element = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not an XML document ({error})") from error
    if root.tag.rpartition("}")[2] != wanted:
        raise FormatError(f"found the XML element <{root.tag.rpartition('}')[2]}>, wanted <{wanted}>")
    return root


def _only_graph(root: Element, direction: str) -> Element:
    graphs = root.findall("{*}graph")
    if len(graphs) != 1:
        raise FormatError(f"found {len(graphs)} <graph> elements, wanted one")
    if graphs[0].get(direction) not in ("directed", "undirected"):
        raise FormatError(f"{direction}: found {graphs[0].get(direction)!r}, wanted 'directed' or 'undirected'")
    return graphs[0]
