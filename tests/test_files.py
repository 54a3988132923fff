"""Word graphs and tables in files: every format gives back everything or refuses by name; nothing is half-written."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from graph_cases import LABELS, SOURCE, affinities, distances, hostile_graphs, line, same_graph, word_graph, words_for
from hypothesis import HealthCheck, given, settings

from infogeo import Comparison, Comparisons, minimum_spanning_tree, nearest_neighbor_graph
from infogeo.errors import ArgumentError, FormatError, InfogeoError, OutputError
from infogeo.graphs import WordGraph
from infogeo.results import Result, Source
from infogeo_adapters.files import FORMATS, check_graph_file, read_graph, write_atomically, write_graph
from infogeo_adapters.networkx import from_networkx
from infogeo_adapters.tables import write_table

ALL = sorted(FORMATS)
SUFFIX = {name: kind.suffixes[0] for name, kind in FORMATS.items()}
MANY = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(MANY, max_examples=25)

# What no XML 1.0 document can hold, and what no CSV cell should; written out here apart from the code that refuses it.
NOT_XML = {*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF}
NOT_CSV = {*range(9), 11, 12, *range(14, 32)}
REFUSED = {"graphml": NOT_XML, "gexf": NOT_XML, "csv": NOT_CSV, "json": set(), "dot": set()}


def can_hold(name, text):
    return not any(0xD800 <= ord(c) <= 0xDFFF or ord(c) in REFUSED[name] for c in text)


def small(**fields):
    fields = {"distance": [0.0, 0.1], "weight": [1.0, 1 / 3], **fields}
    return word_graph(("the", "cat", "the", "sat"), [(0, 2), (1, 3)], **fields)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Syncing takes most of the time of these tests; one of them looks at whether it is asked for."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


# ---- round trips


@pytest.mark.parametrize("name", ALL)
@MANY
@given(graph=hostile_graphs())
def test_a_graph_comes_back_exactly_or_is_refused_by_name(name, graph, tmp_path):
    path = tmp_path / f"graph{SUFFIX[name]}"
    path.unlink(missing_ok=True)
    bad = [text for text in (*graph.words, graph.construction, graph.measure) if not can_hold(name, text)]
    if bad:
        with pytest.raises(FormatError, match=name) as caught:
            write_graph(graph, path)
        assert repr(bad[0]) in str(caught.value)
        assert os.listdir(tmp_path) == []
    else:
        assert write_graph(graph, path) == path
        same_graph(read_graph(path), graph)
        assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ALL)
def test_each_hostile_label_comes_back_or_is_refused(name, tmp_path):
    held = [label for label in LABELS if can_hold(name, label)]
    assert len(held) > len(LABELS) - 10
    graph = word_graph(held, [(0, i) for i in range(1, len(held), 2)], construction=held[-1], measure=held[5])
    same_graph(read_graph(write_graph(graph, tmp_path / "g", format=name), format=name), graph)
    for label in set(LABELS) - set(held):
        with pytest.raises(FormatError, match=re.escape(f"word 1 ({label!r}) holds")):
            write_graph(word_graph(("fine", label)), tmp_path / "refused", format=name)
    assert os.listdir(tmp_path) == ["g"]


@pytest.mark.parametrize("name", ["graphml", "gexf", "json"])
@FEW
@given(graph=hostile_graphs())
def test_networkx_opens_the_file(name, graph, tmp_path):
    nx = pytest.importorskip("networkx", reason="installed by infogeo[graphs]")
    path = tmp_path / f"graph{SUFFIX[name]}"
    try:
        write_graph(graph, path)
    except FormatError:
        return
    if name == "json":
        opened = nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
    else:
        opened = {"graphml": nx.read_graphml, "gexf": nx.read_gexf}[name](path)
        assert ElementTree.parse(path).getroot().tag.endswith(name)
    assert opened.is_directed() == graph.directed
    words = [data["word"] for _, data in sorted(opened.nodes(data=True), key=lambda item: item[1]["position"])]
    assert words == list(graph.words)
    found = {(int(i), int(j)): (data["distance"], data["weight"]) for i, j, data in opened.edges(data=True)}
    if not graph.directed:
        found = {(min(pair), max(pair)): values for pair, values in found.items()}
    rows = zip(graph.edges.tolist(), graph.distance.tolist(), graph.weight.tolist(), strict=True)
    assert found == {(i, j): (d, w) for (i, j), d, w in rows}
    if name != "gexf":  # networkx does not read what GEXF says of the whole graph
        assert set(from_networkx(opened).edge_set()) == set(graph.edge_set())
        assert from_networkx(opened).source == graph.source


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot calls pyparsing by names of before
@FEW
@given(graph=hostile_graphs())
def test_pydot_opens_the_dot_file(graph, tmp_path):
    pydot = pytest.importorskip("pydot", reason="installed by infogeo[graphs]")
    path = tmp_path / "graph.dot"
    try:
        write_graph(graph, path)
    except FormatError:
        return
    (opened,) = pydot.graph_from_dot_data(path.read_text(encoding="utf-8"))
    assert opened.get_type() == ("digraph" if graph.directed else "graph")
    words = {node.get_name(): json.loads(node.get("word")) for node in opened.get_nodes()}
    assert words == {str(i): word for i, word in enumerate(graph.words)}
    assert {(int(e.get_source()), int(e.get_destination())) for e in opened.get_edges()} == set(graph.edge_set())
    rewritten = tmp_path / "pydot.dot"
    rewritten.write_text(opened.to_string(), encoding="utf-8", newline="")
    assert read_graph(rewritten).words == graph.words


@FEW
@given(graph=hostile_graphs())
def test_pandas_opens_the_csv_file_and_no_cell_is_a_formula(graph, tmp_path):
    pandas = pytest.importorskip("pandas", reason="installed by infogeo[graphs]")
    path = tmp_path / "graph.csv"
    try:
        write_graph(graph, path)
    except FormatError:
        return
    table = pandas.read_csv(path, keep_default_na=False, dtype=str)
    assert (table["kind"] == "edge").sum() == graph.n_edges
    assert (table["kind"] == "word").sum() == len(set(range(len(graph.words))) - set(graph.edges.ravel().tolist()))
    for column in ("from_word", "to_word"):
        assert not any(cell[:1] and cell[0] in "=+-@\t\r\n＝＋－＠" for cell in table[column])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("words", [(), ("one",), ("a", "a", "a")])
def test_words_without_edges_survive(name, words, tmp_path):
    path = tmp_path / "graph"
    graph = word_graph(words, source=Source())
    same_graph(read_graph(write_graph(graph, path, format=name), format=name), graph)


@pytest.mark.parametrize("name", ALL)
def test_built_graphs_come_back_with_their_source(name, tmp_path):
    x = distances([[0, 1e-300, 9], [9, 0, 1 / 3], [1e300, 9, 0]], symmetric=False, level="type", layer=2)
    for graph in (nearest_neighbor_graph(x, 2), minimum_spanning_tree(line(0.0, 0.0, 5.0))):
        path = write_graph(graph, tmp_path / f"graph{SUFFIX[name].upper()}")
        back = read_graph(path)
        same_graph(back, graph)
        assert back.source.options["inf"] == float("inf")


@pytest.mark.parametrize("name", ALL)
def test_lone_surrogates_are_refused_everywhere(name, tmp_path):
    with pytest.raises(FormatError, match=r"word 1 \('\\udce9'\) holds U\+DCE9, half a surrogate pair"):
        write_graph(word_graph(("ok", "\udce9")), tmp_path / "graph", format=name)
    with pytest.raises(FormatError, match="measure"):
        write_graph(word_graph(("ok",), measure="\ud800"), tmp_path / "graph", format=name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["graphml", "gexf", "csv"])
def test_a_refused_word_leaves_the_file_that_was_there(name, tmp_path):
    path = tmp_path / f"graph{SUFFIX[name]}"
    write_graph(small(), path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=rf"word 0 \('a\\x00'\) holds .* U\+0000, which {name} cannot.*json"):
        write_graph(word_graph(("a\0",)), path)
    with pytest.raises(FormatError, match=r"model of the source .*U\+0001"):
        write_graph(word_graph(("a",), source=Source(model="\x01")), path)
    assert path.read_bytes() == before


def test_a_text_too_long_for_a_csv_reader_is_refused_and_json_takes_it(tmp_path):
    for length, fits in [(131_000, True), (131_072, False), (200_000, False)]:
        graph = word_graph(("x" * length,), source=Source())
        if fits:
            same_graph(read_graph(write_graph(graph, tmp_path / "g.csv")), graph)
        else:
            with pytest.raises(FormatError, match="longer than the 131072 characters"):
                write_graph(graph, tmp_path / "g.csv")
        same_graph(read_graph(write_graph(graph, tmp_path / "g.json")), graph)


def test_a_graphml_file_that_networkx_has_rewritten_is_still_ours(tmp_path):
    nx = pytest.importorskip("networkx", reason="installed by infogeo[graphs]")
    path = write_graph(small(), tmp_path / "graph.graphml")
    nx.write_graphml(nx.read_graphml(path), tmp_path / "again.graphml")
    same_graph(read_graph(tmp_path / "again.graphml"), small())
    data = nx.node_link_data(nx.read_graphml(path), edges="links")
    (tmp_path / "again.json").write_text(json.dumps(data))
    same_graph(read_graph(tmp_path / "again.json"), small())


def test_dot_is_what_graphviz_takes(tmp_path):
    text = write_graph(word_graph(('say "hi"\\', "a&amp;b\t"), [(0, 1)]), tmp_path / "g.dot").read_text()
    assert '0 [word="say \\"hi\\"\\\\", position="0"' in text
    assert 'label="a&amp;amp;b␉"' in text
    assert '0 -- 1 [distance="0.0", weight="1.0"];' in text
    directed = write_graph(word_graph("ab", [(1, 0)], directed=True), tmp_path / "g.gv").read_text()
    assert directed.startswith("digraph")
    assert "1 -> 0" in directed


# ---- reading what is malformed or foreign


BOMB = b'<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("name", ["graphml", "gexf"])
@pytest.mark.parametrize("doctype", [BOMB, OUTSIDE, b"<!DOCTYPE graphml>", b'<!DOCTYPE g SYSTEM "x.dtd">'])
def test_a_document_type_declaration_is_refused(name, doctype, tmp_path):
    path = tmp_path / f"g{SUFFIX[name]}"
    written = write_graph(small(), path).read_bytes()
    head, _, rest = written.partition(b"\n")
    path.write_bytes(head + doctype + rest.replace(b"cat", b"&b;"))
    with pytest.raises(FormatError, match=rf"g\.{name}: .*document type declaration"):
        read_graph(path)


GEXF_OF = b'<gexf><meta><description>?</description></meta><graph defaultedgetype="directed"/></gexf>'
FOREIGN = [
    ("graphml", b"", "not an XML document"),
    ("graphml", b"\x00\xff", "not an XML document"),
    ("graphml", b"<graphml>", "not an XML document"),
    ("graphml", b"<a>&unknown;</a>", "not an XML document"),
    ("graphml", b'<?xml version="1.0" encoding="klingon"?><graphml/>', "not an XML document"),
    ("graphml", b"<gexf/>", "found the XML element <gexf>, wanted <graphml>"),
    ("graphml", b"<graphml/>", "found 0 <graph> elements, wanted one"),
    ("graphml", b"<graphml><graph/><graph/></graphml>", "found 2 <graph> elements"),
    ("graphml", b"<graphml><graph/></graphml>", "edgedefault: found None"),
    ("graphml", b'<graphml><graph edgedefault="undirected"/></graphml>', "not written by infogeo"),
    ("gexf", b"<graphml/>", "wanted <gexf>"),
    ("gexf", b'<gexf><graph defaultedgetype="mutual"/></gexf>', "defaultedgetype: found 'mutual'"),
    ("gexf", b'<gexf><graph defaultedgetype="undirected"/></gexf>', "not written by infogeo"),
    ("gexf", GEXF_OF.replace(b"?", b"x"), "not written by infogeo"),
    ("gexf", GEXF_OF.replace(b"?", b"{"), "not a JSON text"),
    ("gexf", GEXF_OF.replace(b"?", b"{}"), "not written by infogeo"),
    ("json", b"", "not a JSON text"),
    ("json", b"[" * 100_000, "not a JSON text"),
    ("json", b"\xff\xfe", "not UTF-8 text \\(byte 0 is 0xff"),
    ("json", b"[]", "found a JSON list, wanted an object"),
    ("json", b"{}", "not written by infogeo"),
    ("json", b'{"graph": []}', "not written by infogeo"),
    ("dot", b"", "it ends where 'graph' or 'digraph' was wanted"),
    ("dot", b"tree {}", "found 'tree', wanted 'graph' or 'digraph'"),
    ("dot", b"graph", "it ends where an opening brace was wanted"),
    ("dot", b"graph {", "it ends where a node, an edge or an attribute was wanted"),
    ("dot", b"graph { a", "it ends where"),
    ("dot", b"graph { a [", "it ends where attribute=value was wanted"),
    ("dot", b"graph { a [b=", "it ends where a name or a text was wanted"),
    ("dot", b"graph { a [b c]", "found 'b', wanted attribute=value"),
    ("dot", b"graph { a -- }", "found '}', wanted a name or a text"),
    ("dot", b"graph { a -> b }", "found an edge -> in a undirected graph"),
    ("dot", b"graph { subgraph x {} }", "found a subgraph"),
    ("dot", b"graph { a:n -- b }", "line 1: found ':n -- b }'"),
    ("dot", b"graph {\n a [label=<b>] }", "line 2: found '<b>"),
    ("dot", b'graph { a [word="\\q"] }', "is not one of JSON"),
    ("dot", b'graph { a [word="x] }', "line 1: found '\"x"),
    ("dot", b"graph { a; b; a -- b; } x", "more text after the graph"),
    ("dot", b"graph { a; b; a -- b; }", "not written by infogeo"),
    ("csv", b"", "found the columns \\[\\]"),
    ("csv", b"a,b\r\n1,2\r\n", "found the columns \\['a', 'b'\\], wanted kind"),
    ("csv", b'"a"b,c', "not a CSV table"),
    ("csv", b"kind,from,to,from_word,to_word,distance,weight\r\n", "not written by infogeo"),
    ("csv", b"kind,from,to,from_word,to_word,distance,weight\r\nedge,0\r\n", "row 2: found 2 cells, wanted 7"),
    ("csv", b"kind,from,to,from_word,to_word,distance,weight\r\nnode,,,,,,\r\n", "row 2: found the kind 'node'"),
    ("csv", "kind\n".encode("utf-16"), "not UTF-8"),
]


@pytest.mark.parametrize(("name", "data", "message"), FOREIGN, ids=lambda v: str(v)[:40])
def test_malformed_and_foreign_files_are_refused_with_the_reason(name, data, message, tmp_path):
    path = tmp_path / f"foreign{SUFFIX[name]}"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=rf"foreign\{SUFFIX[name]}: .*{message}"):
        read_graph(path)


EDITS = [
    ("csv", '"edge",0,2', '"edge",0,9', "must be 0 to 3, each once; found 9"),
    ("csv", '"edge",0,2', '"edge",0,1', "row 3: word 1 is 'cat', and 'the' in a row before"),
    ("csv", '"edge",1,3', '"edge",1.0,3', "position of node '1.0': found '1.0', wanted a whole number"),
    ("csv", '"directed","false"', '"directed","no"', "directed: found 'no'"),
    ("csv", ",0.1,", ",near,", "distance of edge '1' to '3': found 'near'"),
    ("json", '"source": 0', '"source": 9', "an edge joins 9 and 2"),
    ("json", '"source": 0', '"source": []', r"source: found \[\], wanted the text or number"),
    ("json", '"id": 0', '"id": 1', "node 1 is given twice"),
    ("json", '"directed": false', '"directed": 0', "directed to be true or false"),
    ("json", '"multigraph": false', '"multigraph": true', "multigraph to be false"),
    ("json", '"nodes": [', '"nodes": [3, ', "nodes: wanted a list of objects"),
    ("json", '"weight": 1.0', '"weight": NaN', "NaN is no number of JSON"),
    ("json", '"weight": 1.0', '"weight": 0.0', "strengths must be finite and positive"),
    ("json", '"word": "cat"', '"word": "\\ud800"', "half a surrogate pair"),
    ("json", '"target": 2', '"target": 0', "joined to itself"),
    ("json", '"edges"', '"lines"', "edges: wanted a list"),
    ("graphml", 'target="2"', 'target="7"', "an edge joins '0' and '7'"),
    ("graphml", '<data key="node-word">cat</data>', "", "node '1' has no text attribute 'word'"),
    ("graphml", '<data key="edge-distance">0.1</data>', "", "distance of edge '1' to '3': found None"),
    ("graphml", "occurrence", "letter", "level: found 'letter'"),
    ("gexf", 'weight="1.0"', 'weight="inf"', "strengths must be finite"),
    ("gexf", 'for="position" value="1"', 'for="position" value="one"', "position of node '1': found 'one'"),
    ("dot", "0 -- 2", "0 -- 2 -- 3", "found '--'"),
    ("dot", 'position="1"', 'position="0"', "each once; found 0"),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), EDITS, ids=lambda v: str(v)[:30])
def test_files_that_were_damaged_are_refused_with_the_reason(name, old, new, message, tmp_path):
    path = write_graph(small(), tmp_path / f"graph{SUFFIX[name]}")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(FormatError, match=message):
        read_graph(path)


@pytest.mark.parametrize("name", ALL)
def test_every_cut_and_every_flipped_byte_is_read_or_refused_but_never_crashes(name, tmp_path):
    path = write_graph(small(), tmp_path / f"graph{SUFFIX[name]}")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.4 else whole)
        for at in rng.integers(len(data) or 1, size=rng.integers(0, 4)):
            if data:
                data[at] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(FormatError):
            assert isinstance(read_graph(path), WordGraph)


def test_dot_and_csv_files_edited_by_hand_are_read(tmp_path):
    path = write_graph(small(), tmp_path / "g.dot")
    text = path.read_text()
    more = "{ // words\n node [shape=box]; graph [rankdir=LR]\n# c\n"
    path.write_text("/* mine */ strict " + text.replace("{", more, 1))
    same_graph(read_graph(path), small())
    path = write_graph(small(), tmp_path / "g.csv")
    rows = path.read_text().splitlines()
    path.write_text("\ufeff" + "\n".join([rows[0], *rows[:0:-1]]) + "\n", encoding="utf-8")
    assert read_graph(path).edge_set() == small().edge_set()


# ---- where to write, and formats


@pytest.mark.parametrize("act", [lambda p, **f: write_graph(small(), p, **f), read_graph], ids=["write", "read"])
def test_unknown_formats_are_refused_with_the_list(act, tmp_path):
    for path, fields in [("graph.xml", {}), ("graph", {}), ("graph.json", {"format": "pajek"})]:
        with pytest.raises(ArgumentError, match=r"one of graphml \(\.graphml\), gexf .* dot \(\.dot \.gv\), csv"):
            act(tmp_path / path, **fields)
    assert os.listdir(tmp_path) == []


def test_the_format_argument_wins_over_the_suffix(tmp_path):
    write_graph(small(), tmp_path / "graph.json", format="csv")
    assert (tmp_path / "graph.json").read_text().startswith('"kind"')
    same_graph(read_graph(str(tmp_path / "graph.json"), format="csv"), small())


@pytest.mark.parametrize("name", ALL)
def test_places_that_cannot_be_written_are_refused(name, tmp_path):
    folder = tmp_path / f"folder{SUFFIX[name]}"
    folder.mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        write_graph(small(), folder)
    with pytest.raises(OutputError, match="No such file or directory"):
        write_graph(small(), tmp_path / "nowhere" / f"g{SUFFIX[name]}")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Not a directory"):
        write_graph(small(), tmp_path / "file" / f"g{SUFFIX[name]}")
    with pytest.raises(OutputError, match="null"):
        write_graph(small(), tmp_path / f"g\0{SUFFIX[name]}")
    assert sorted(os.listdir(tmp_path)) == ["file", folder.name]


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(OutputError, match="not a regular file"):
        write_graph(small(), os.devnull, format="json")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_read_only_files_and_folders_are_refused(tmp_path, monkeypatch):
    path = write_graph(small(), tmp_path / "g.json")
    monkeypatch.setattr(os, "access", lambda place, how: False)  # as it is for a user; root may write everywhere
    with pytest.raises(OutputError, match="the file there is read-only"):
        write_graph(word_graph("xyz"), path)
    same_graph(read_graph(path), small())

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*new\.json': Permission denied"):
        write_graph(small(), tmp_path / "new.json")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_file_and_no_other(step, tmp_path, monkeypatch):
    path = write_graph(small(), tmp_path / "g.json")
    before = path.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OutputError, match=r"cannot write .*g\.json': No space left on device"):
        write_graph(word_graph("xyz"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["g.json"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == []


def test_an_interruption_between_making_a_file_and_writing_it_leaves_nothing_behind(tmp_path, monkeypatch):
    make = os.open

    def interrupted(*args, **options):
        os.close(make(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == []


def test_modes_and_links_are_kept(tmp_path):
    path = tmp_path / "real.json"
    write_graph(small(), path)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    write_graph(word_graph("xyz"), link)
    assert link.is_symlink()
    assert read_graph(path).words == ("x", "y", "z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_files_that_cannot_be_opened_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"cannot read .*No such file"):
        read_graph(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ArgumentError, match=r"cannot read .*directory"):
        read_graph(tmp_path / "folder.json")
    with pytest.raises(ArgumentError, match=r"cannot read .*null"):
        read_graph(tmp_path / "\0.json")


def test_files_need_no_optional_package(tmp_path):
    code = f"""
import sys
for name in ("networkx", "pandas", "pydot", "lxml", "torch"):
    sys.modules[name] = None
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from infogeo.graphs import WordGraph
from infogeo.results import Source
from infogeo_adapters.files import FORMATS, read_graph, write_graph
import numpy as np
graph = WordGraph(words=("a", "b"), edges=np.array([[0, 1]]), distance=np.zeros(1), weight=np.ones(1), directed=False,
                  construction="c", measure="m", source=Source())
for name in FORMATS:
    read_graph(write_graph(graph, {str(tmp_path)!r} + "/g", format=name), format=name)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ---- tables


def test_tables_of_matrices_and_comparisons_are_written(tmp_path):
    d = distances([[0, 0.1], [0.1, 0]], words=("=the", "'t"))
    rows = list(csv.reader(io.StringIO(write_table(d, tmp_path / "d.csv").read_bytes().decode(), newline="")))
    assert rows == [["from", "'=the", "''t"], ["'=the", "0.0", "0.1"], ["''t", "0.1", "0.0"]]
    plain = json.loads(write_table(d, tmp_path / "d.json").read_text())
    assert plain == {"columns": ["from", "=the", "'t"], "data": [["=the", 0.0, 0.1], ["'t", 0.1, 0.0]]}
    a = affinities(np.eye(2), words=words_for(2))
    assert len(write_table(a, tmp_path / "a.csv").read_text().splitlines()) == 3
    one = Comparison(
        statistic="spearman", value=float("nan"), n=3, unit="word pairs", left="a", reference="b", source=SOURCE
    )
    table = write_table(Comparisons((one,)), tmp_path / "c.csv").read_text()
    assert table.splitlines()[1] == '"spearman",nan,"","","",3,"word pairs","a","b","",""'
    assert json.loads(write_table(Comparisons((one,)), tmp_path / "c.json").read_text())["data"][0][1] == "nan"


def test_pandas_reads_the_tables(tmp_path):
    pandas = pytest.importorskip("pandas", reason="installed by infogeo[graphs]")
    d = distances([[0, 0.1], [0.1, 0]], words=("the", "the"))
    frame = pandas.read_json(write_table(d, tmp_path / "d.json"), orient="split")
    assert frame.shape == (2, 3)
    assert pandas.read_csv(write_table(d, tmp_path / "d.csv")).iloc[0, 2] == 0.1


class NoTable(Result):
    pass


def test_tables_are_refused_where_they_cannot_be_written(tmp_path):
    d = distances([[0.0]], words=("a\0",))
    with pytest.raises(FormatError, match=r"row 0 \('a\\x00'\) holds the character U\+0000, which csv"):
        write_table(d, tmp_path / "d.csv")
    json.loads(write_table(d, tmp_path / "d.json").read_text())
    with pytest.raises(FormatError, match="half a surrogate pair"):
        write_table(distances([[0.0]], words=("\ud800",)), tmp_path / "x.json")
    with pytest.raises(ArgumentError, match=r"csv \(\.csv\), json \(\.json\), parquet \(\.parquet\), or pass format="):
        write_table(d, tmp_path / "d.graphml")
    with pytest.raises(ArgumentError, match="NoTable is not a table"):
        write_table(NoTable(), tmp_path / "n.csv")
    with pytest.raises(OutputError):
        write_table(d, tmp_path / "nowhere" / "d.json")
    assert os.listdir(tmp_path) == ["d.json"]
    assert issubclass(OutputError, InfogeoError)
    assert re.match(r"\{", (tmp_path / "d.json").read_text())


# before there is a graph


def test_a_file_is_checked_without_being_written(tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    assert check_graph_file(kept) == "json"
    assert check_graph_file(tmp_path / "new.txt", format="dot") == "dot"
    assert kept.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("absent/g.json", OutputError, "there is no folder .*absent; make it"), (".json", ArgumentError, "no format"),
        ("folder.json", OutputError, "it is a folder"), ("g.docx", ArgumentError, "pass format="),
        ("a\0b.json", OutputError, "cannot write"), ("x" * 300 + "/g.json", OutputError, "cannot write"),
    ],
)
def test_a_file_that_cannot_be_is_refused_early(tmp_path, path, error, message):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(error, match=message):
        check_graph_file(tmp_path / path)


def test_a_folder_that_takes_no_file_is_told_early(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(OutputError, match="Read-only file system; give another path"):
        check_graph_file(tmp_path / "g.json")
