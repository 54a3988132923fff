"""The command line: what it prints where, its exit codes, and errors without tracebacks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infogeo.errors import ConvergenceError, TextError
from infogeo.results import Source
from infogeo.words import DistanceMatrix
from infogeo_adapters.cli import main
from infogeo_adapters.files import read_graph
from infogeo_adapters.relations import Context, find_attention
from infogeo_adapters.text_reading import Reading

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

TEXT = "The old dog chased the little cat because it was hungry."
FAST = ["--construction", "components"]

Capture = pytest.CaptureFixture[str]


def failed(capsys: Capture, *args: str) -> str:
    """The message of a command that could not be done."""
    code = main(list(args))
    out, err = capsys.readouterr()
    assert code == 2, (code, err)
    assert out == ""
    assert "Traceback" not in err
    return err


# report


@pytest.fixture
def quick(quick_bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model is there already, with few sentences behind its influence."""
    monkeypatch.setattr("infogeo_adapters.transformers.loading.load_model", lambda *_, **__: quick_bundled)


@pytest.mark.usefixtures("quick")
def test_report_prints_where_the_page_is(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    assert main(["report", TEXT, "--out", str(tmp_path / "r")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'r' / 'index.html'}\n"
    assert Path(out.strip()).exists()
    assert err.startswith("infogeo: loading the model bundled\n")
    assert "writing the report" in err
    assert "Influence graph, beside attention" in Path(out.strip()).read_text(encoding="utf-8")


def test_report_as_json(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    args = ["report", TEXT, *FAST, "-o", str(tmp_path / "r"), "--json", "-q", "-l", "-1", "--attention", "rollout",
            "--graph", "tree", "--permutations", "19", "--units", "bits"]
    assert main(args) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["layer"] == 6
    assert found["words"] == 12
    assert found["edges"] == 11
    assert err == ""
    assert {c["statistic"] for c in found["comparisons"]["items"]} >= {"mantel", "spearman"}


def test_report_refuses_its_folder_before_it_loads_a_model(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    err = failed(capsys, "report", TEXT, "--out", str(tmp_path / "file"), "--model", "no such model")
    assert "is a file, wanted a folder" in err
    assert "loading" not in err


def test_report_misses_a_library_before_it_loads_a_model(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    err = failed(capsys, "report", TEXT, "--out", str(tmp_path / "r"))
    assert "infogeo[plots]" in err
    assert "loading" not in err


def test_report_says_that_a_text_was_cut(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    text = "The dog ran home. " * 150
    err = failed(capsys, "report", text, *FAST, "-o", str(tmp_path / "r"))
    assert "cut it with --overflow truncate or into several texts" in err
    assert not (tmp_path / "r").exists()
    assert main(["report", text, *FAST, "-o", str(tmp_path / "r"), "--overflow", "truncate", "-q",
                 "--permutations", "1"]) == 0
    assert "was cut to fit" in capsys.readouterr().err
    assert "was cut to fit" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")


# graph


def test_graph_prints_its_edges(capsys: Capture) -> None:
    assert main(["graph", TEXT, *FAST, "-k", "1", "-q"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["from", "to", "from_word", "to_word", "distance", "weight"]
    assert len(rows) > 6
    assert all(len(r) == 6 and int(r[0]) < int(r[1]) for r in rows[1:])
    assert "WordGraph of 12 word occurrences" in err


def test_graph_as_json_is_the_graph(capsys: Capture) -> None:
    assert main(["graph", TEXT, *FAST, "--graph", "tree", "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["type"] == "WordGraph"
    assert len(found["edges"]) == 11
    assert err == ""


@pytest.mark.parametrize("suffix", ["graphml", "gexf", "json", "csv"])
def test_graph_writes_files_that_are_read_again(tmp_path: Path, capsys: Capture, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    assert main(["graph", TEXT, *FAST, "-o", str(path), "-q"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert read_graph(path).n_edges > 11
    other = tmp_path / "g.data"
    assert main(["graph", TEXT, *FAST, "-o", str(other), "--format", suffix, "-q"]) == 0
    assert other.read_bytes() == path.read_bytes()


def test_graph_of_attention(capsys: Capture) -> None:
    graphs = {}
    for which in ("average", "head:3.2", "rollout", "flow"):
        assert main(["graph", TEXT, *FAST, "--of", "attention", "-a", which, "--json", "-q"]) == 0
        graphs[which] = json.loads(capsys.readouterr().out)
    assert "attention of block 3, head 2" in graphs["head:3.2"]["measure"]
    assert len({json.dumps(g["edges"]) for g in graphs.values()}) > 1


def test_graph_of_an_unknown_format(tmp_path: Path, capsys: Capture) -> None:
    assert "graphml" in failed(capsys, "graph", TEXT, *FAST, "-o", str(tmp_path / "g.docx"), "-q")
    assert "graphml" in failed(capsys, "graph", TEXT, *FAST, "-o", str(tmp_path / "g"), "--format", "docx", "-q")
    assert "--format goes with --out" in failed(capsys, "graph", TEXT, "--format", "dot")
    assert list(tmp_path.iterdir()) == []


def test_graph_to_a_place_that_cannot_be(tmp_path: Path, capsys: Capture) -> None:
    err = failed(capsys, "graph", TEXT, *FAST, "-o", str(tmp_path / "absent" / "g.json"), "-q")
    assert err.startswith("infogeo: ")
    assert "absent" in err


def test_a_radius_goes_with_its_graph(capsys: Capture) -> None:
    assert "--graph radius needs --radius" in failed(capsys, "graph", TEXT, "--graph", "radius")
    assert "--radius goes with --graph radius; no --graph" in failed(capsys, "graph", TEXT, "--radius", "1")
    assert "tree has no such length" in failed(capsys, "graph", TEXT, "-g", "tree", "--radius", "1")
    assert main(["graph", TEXT, *FAST, "--graph", "radius", "--radius", "0.2", "-q"]) == 0
    assert all(float(r.split("\t")[4]) <= 0.2 for r in capsys.readouterr().out.splitlines()[1:])


# compare


def test_compare_ends_with_its_finding(capsys: Capture) -> None:
    assert main(["compare", TEXT, *FAST, "--alpha", "0.9999", "-q", "--permutations", "99"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:2] == ["statistic", "value"]
    assert [r[0] for r in rows[1:]] == [
        "spearman", "kendall", "partial_spearman", "word_order", "mantel", "partial_mantel", "edge_jaccard",
        "spanning_tree_overlap",
    ]
    assert main(["compare", TEXT, *FAST, "--alpha", "1e-6", "--permutations", "99"]) == 1  # p >= 1/100
    out, err = capsys.readouterr()
    assert "mantel" in out
    assert "no agreement with attention beyond word order at level 1e-06" in err


def test_compare_with_every_head(capsys: Capture) -> None:
    code = main(["compare", TEXT, *FAST, "--heads", "--json", "-q", "--permutations", "19"])
    found = json.loads(capsys.readouterr().out)
    mantel = [c for c in found["items"] if c["statistic"] == "partial_mantel"]
    assert {(c["layer"], c["head"]) for c in mantel} == {(b, h) for b in range(1, 7) for h in range(1, 6)}
    assert code == (0 if min(c["p_value"] for c in mantel) <= 0.05 else 1)


@pytest.fixture
def word_order_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances that are |i - j| and nothing else, whatever the model says."""

    def by_position(context: Context, layer: int) -> DistanceMatrix:
        x = np.arange(len(context.activations.words), dtype=float)
        return DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=context.activations.words, measure="steps",
                              symmetric=True, metric=True, layer=layer, source=Source())

    monkeypatch.setattr(Reading, "distances", lambda self: by_position(self.context, self.layer))


@pytest.mark.usefixtures("word_order_alone")
def test_word_order_is_no_agreement(tmp_path: Path, capsys: Capture) -> None:
    # Such a distance had a Mantel test with p < 0.05 in every sentence, and compare ended with 0.
    assert main(["compare", TEXT, *FAST, "--json", "--permutations", "99"]) == 1
    out, err = capsys.readouterr()
    found = {c["statistic"]: c for c in json.loads(out)["items"]}
    assert found["mantel"]["p_value"] <= 0.05
    assert found["word_order"]["value"] == pytest.approx(found["spearman"]["value"])
    assert "partial_mantel" not in found
    assert "same for all pairs that stand equally far apart in the text" in err
    assert "no agreement with attention beyond word order at level 0.05" in err
    path = tmp_path / "lines.txt"
    path.write_text("The dog saw a cat.\nShe ran home because it was late.\nHe gave the boy an apple.\n")
    assert main(["compare", "--file", str(path), "--lines", *FAST, "--json", "-q"]) == 1
    found = {c["statistic"]: c for c in json.loads(capsys.readouterr().out)["items"]}
    assert found["spearman"]["interval"][0] > 0


def test_agreement_beyond_word_order_ends_with_zero(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_attention(self: Reading) -> DistanceMatrix:
        near = find_attention("average")(self.activations, self.layer).symmetrized().values
        values = 1 - near
        np.fill_diagonal(values, 0.0)
        return DistanceMatrix(values=values, words=self.activations.words, measure="planted", symmetric=True,
                              metric=False, layer=self.layer, source=Source())

    monkeypatch.setattr(Reading, "distances", from_attention)
    assert main(["compare", TEXT, *FAST, "--json", "-q", "--permutations", "99"]) == 0
    found = {c["statistic"]: c for c in json.loads(capsys.readouterr().out)["items"]}
    assert found["partial_mantel"]["value"] == pytest.approx(1.0)


def test_compare_line_by_line(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"The dog saw a cat.\r\n\r\nShe ran home because it was late.\nHe gave the boy an apple.\n")
    code = main(["compare", "--file", str(path), "--lines", *FAST, "--json", "--alpha", "0.1"])
    out, err = capsys.readouterr()
    found = json.loads(out)["items"]
    assert {c["n"] for c in found} == {3}
    assert {c["unit"] for c in found} == {"sentences"}
    assert {c["level"] for c in found} == {0.9}
    assert all(c["interval"] is not None for c in found)
    (partial,) = [c for c in found if c["statistic"] == "partial_spearman"]
    assert code == (0 if partial["interval"][0] > 0 else 1)
    assert "reading text 3 of 3" in err


def test_compare_of_too_little(tmp_path: Path, capsys: Capture) -> None:
    assert "at least three" in failed(capsys, "compare", "Hello there", *FAST, "-q")
    path = tmp_path / "one.txt"
    path.write_text(TEXT, encoding="utf-8")
    assert "at least two" in failed(capsys, "compare", "-f", str(path), "--lines", *FAST, "-q")
    assert "--lines needs --file" in failed(capsys, "compare", TEXT, "--lines")


# where the text comes from


def test_the_text_comes_from_one_place(capsys: Capture, tmp_path: Path) -> None:
    assert "neither was given" in failed(capsys, "graph")
    path = tmp_path / "t.txt"
    path.write_text(TEXT, encoding="utf-8")
    assert "both were given" in failed(capsys, "graph", TEXT, "--file", str(path))
    for command in ("report", "graph", "compare"):
        for empty in ("", "   ", "\n"):
            assert "text: found" in failed(capsys, command, empty)


def test_a_file_and_stdin_read_alike(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.txt"
    outputs = []
    for content in (TEXT.encode(), b"\xef\xbb\xbf" + TEXT.encode()):  # the second with a byte-order mark
        path.write_bytes(content)
        assert main(["graph", "--file", str(path), *FAST, "-q"]) == 0
        outputs.append(capsys.readouterr().out)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert main(["graph", "--file", "-", *FAST, "-q"]) == 0
    outputs.append(capsys.readouterr().out)
    assert main(["graph", TEXT, *FAST, "-q"]) == 0
    outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("The café".encode("latin-1"))
    err = failed(capsys, "graph", "--file", str(path))
    assert "latin.txt is not UTF-8: byte 7 is 0xe9" in err
    for option in (["--background"], ["-c", "occurrences", "--corpus"]):
        assert "byte 7" in failed(capsys, "graph", TEXT, *option, str(path))
    assert "half a surrogate pair" in failed(capsys, "graph", "caf\udce9")


def test_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    assert "cannot be read" in failed(capsys, "graph", "--file", str(tmp_path / "absent"))
    assert "cannot be read" in failed(capsys, "graph", "--file", str(tmp_path))
    assert "cannot be read" in failed(capsys, "compare", TEXT, "--background", str(tmp_path / "absent"))


def test_a_background_and_a_corpus_from_files(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "own.txt"
    path.write_text(f"{TEXT} {TEXT} It was late, and the old man went home with his dog.", encoding="utf-8")
    outputs = []
    for args in (["--background", str(path)], ["-c", "occurrences", "--corpus", str(path)], FAST):
        assert main(["graph", TEXT, *args, "-q"]) == 0
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 3


# the default


@pytest.mark.usefixtures("quick")
def test_graph_compare_and_report_have_the_same_default(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    assert main(["graph", TEXT, "--json", "-q", "--graph", "neighbors"]) == 0
    graph = json.loads(capsys.readouterr().out)
    assert graph["measure"] == "influence_distance"
    assert main(["report", TEXT, "-o", str(tmp_path / "r"), "-q", "--permutations", "19", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["layer"] == 4
    assert read_graph(tmp_path / "r" / "graph.json").edge_set() == {tuple(e) for e in graph["edges"]}
    main(["compare", TEXT, "-q", "--permutations", "19", "--json"])
    compared = {c["statistic"]: c["value"] for c in json.loads(capsys.readouterr().out)["items"]}
    assert compared == {c["statistic"]: c["value"] for c in report["comparisons"]["items"]}
    assert main(["graph", TEXT, "--json", "-q", "--measure", "fisher_rao_distance"]) == 0
    assert json.loads(capsys.readouterr().out)["measure"] == "fisher_rao_distance"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("args", "options", "construction"), [
    ([], {}, "maximum_spanning_tree"),
    (["-c", "influence", "-k", "2"], {"graph": "neighbors", "neighbors": 2}, "nearest_neighbor_graph(k=2)"),
    (["--graph", "mutual"], {"graph": "mutual"}, "nearest_neighbor_graph(k=3, mutual=True)"),
    (["--removal", "delete", "--distribution", "states", "--normalization", "rows"],
     {"removal": "delete", "distribution": "states", "normalization": "rows"}, "maximum_spanning_tree"),
])
def test_the_influence_graph_is_that_of_python(
    args: list[str], options: Any, construction: str, capsys: Capture, quick_bundled: Any
) -> None:
    from infogeo_adapters import influence_graph

    assert main(["graph", TEXT, "--json", "-q", *args]) == 0
    found, expected = json.loads(capsys.readouterr().out), influence_graph(quick_bundled, TEXT, **options)
    assert found["construction"] == construction
    assert found["edges"] == expected.edges.tolist()
    assert found["distance"] == pytest.approx(expected.distance.tolist(), rel=1e-9)
    assert found["weight"] == pytest.approx(expected.weight.tolist(), rel=1e-9)


@pytest.mark.usefixtures("quick")
def test_the_attention_graph_is_drawn_by_the_rule_of_the_influence_graph(capsys: Capture) -> None:
    drawn = {}
    for args in ([], ["-k", "3"], FAST):
        assert main(["graph", TEXT, "--of", "attention", "--json", "-q", *args]) == 0
        drawn[tuple(args)] = json.loads(capsys.readouterr().out)["construction"]
    assert [*drawn.values()] == ["maximum_spanning_tree", "nearest_neighbor_graph(k=3)", "nearest_neighbor_graph(k=3)"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("args", "said"), [
    (["Hello", "-c", "influence"], "The graph has no edge: an edge joins two words, and the text has one."),
    (["Hello", *FAST], "The graph has no edge: an edge joins two words, and the text has one."),
    ([TEXT, *FAST, "-g", "radius", "-r", "1e-9"], "no two words are within 1e-09 of each other; give a larger"),
])
def test_a_graph_without_edges_says_why(args: list[str], said: str, capsys: Capture) -> None:
    assert main(["graph", *args]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["from\tto\tfrom_word\tto_word\tdistance\tweight"]
    assert said in err
    assert "measuring how far" not in err
    if args[0] == "Hello":
        assert "undirected WordGraph of 1 word occurrence, 0 edges" in err


@pytest.mark.usefixtures("quick")
def test_report_and_compare_take_the_choices_of_influence(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    args = ["--removal", "delete", "--distribution", "states", "--permutations", "9"]
    asked: dict[str, Any] = {}

    def analysis(*_: Any, **options: Any) -> None:
        asked.update(options)
        raise TextError("seen")

    monkeypatch.setattr("infogeo_adapters.analysis.analyze", analysis)
    assert "seen" in failed(capsys, "report", TEXT, "-o", str(tmp_path / "r"), *args)
    assert (asked["removal"], asked["distribution"], asked["construction"]) == ("delete", "states", None)
    found = []
    for more in ([], ["--normalization", "none"]):
        assert main(["compare", TEXT, "-q", "--json", *args, *more]) in (0, 1)
        found.append([c["value"] for c in json.loads(capsys.readouterr().out)["items"] if c["statistic"] == "spearman"])
    assert found[0] != found[1]


@pytest.mark.usefixtures("quick")
def test_graph_of_attention_measures_no_influence(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reading, "distances", lambda self: pytest.fail("distances were measured"))
    assert main(["graph", TEXT, "--of", "attention", "--json", "-q"]) == 0
    assert "block 4" in json.loads(capsys.readouterr().out)["measure"]


@pytest.mark.usefixtures("quick")
def test_lines_are_all_measured_alike(tmp_path: Path, capsys: Capture) -> None:
    def items(out: str) -> list[dict[str, Any]]:
        return [c for c in json.loads(out)["items"] if c["statistic"] != "word_order"]  # which has no distances

    path = tmp_path / "lines.txt"
    lines = ["The dog saw a cat.", "She ran home because it was late.", "He gave the boy an apple."]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert main(["compare", "--file", str(path), "--lines", "--json", "-q"]) in (0, 1)
    out, err = capsys.readouterr()
    assert err == ""
    assert {c["left"].partition(" ")[0] for c in items(out)} == {"influence_distance"}
    path.write_text("\n".join([*lines, "dog " * 101]), encoding="utf-8")
    assert main(["compare", "--file", str(path), "--lines", "--json", "-q"]) in (0, 1)
    out, err = capsys.readouterr()
    assert "since of text 4: the text has 101 words" in err
    assert "(--construction shared-covariance)" in err
    assert {c["left"].partition(" ")[0] for c in items(out)} == {"fisher_rao_distance"}


def test_a_model_without_attention_has_another_default(mamba_folder: Path, capsys: Capture) -> None:
    assert main(["graph", TEXT, "--model", str(mamba_folder), "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["measure"] == "fisher_rao_distance"
    assert "This is not the influence graph, since" in err


# what is refused before a model is loaded


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", TEXT, "--heads", "-a", "rollout"], "give one of the two"),
        (["compare", TEXT, "--corpus", "x"], "--corpus goes with --construction occurrences"),
        (["report", TEXT, "-c", "vectors", "--background", "x"], "--background goes with --construction shared-cov"),
        (["report", TEXT, "-c", "influence", "--background", "x"], "--background goes with --construction shared-cov"),
        (["graph", TEXT, "-c", "influence", "--measure", "kl_divergence"], "its length is ln((1 + w) / w)"),
        (["graph", TEXT, *FAST, "--removal", "mask"], "--removal says how influence is measured; --construction comp"),
        (["graph", TEXT, "--measure", "kl_divergence", "--distribution", "states"], "--distribution says how influe"),
        (["report", TEXT, "--background", "x", "--removal", "mask"], "--background takes distances between distri"),
        (["compare", TEXT, *FAST, "--normalization", "rows"], "--normalization says how influence is measured"),
        (["graph", TEXT, "--removal", "nothing"], "'hide', 'mask', 'delete', 'mean', 'resample'"),
        (["report", TEXT, "--normalization", "rows"], "No such option"),
        (["graph", TEXT, "-a", "rollout"], "--attention goes with --of attention"),
        *((["graph", TEXT, "--of", "attention", *pair], f"{pair[0]} goes with the graph of distances")
          for pair in (("--removal", "delete"), ("--distribution", "states"), ("--normalization", "rows"))),
        (["graph", TEXT, "-g", "tree", "-k", "2"], "--neighbors goes with --graph neighbors or mutual"),
        (["compare", "-f", "x", "--lines", "--permutations", "9"], "--permutations goes with one text"),
        (["graph", TEXT, "-o", "a.gexf", "--format", "json"], "does not go with the ending .gexf, which means gexf"),
        (["graph", TEXT, "-o", "a.docx"], "or name one with --format"),
        (["graph", TEXT, "-o", "absent/a.json"], "mkdir -p"),
        (["graph", TEXT, "-o", "/proc/a.json"], "cannot write '/proc/a.json'"),
        (["graph", TEXT, "-g", "radius", "-r", "nan"], "radius: found nan"),
        (["report", TEXT, "-g", "radius", "-r", "nan"], "radius: found nan"),
        (["report", TEXT, "-o", "/proc/x"], "cannot write in /proc"),
        (["report", TEXT, "-a", "nonsense"], "head:B.H"),
        (["graph", "-f", "nul.txt"], "--file nul.txt: text: character 1 is NUL"),
        (["graph", TEXT, "--background", "empty.txt"], "--background empty.txt: text: found an empty text"),
        (["graph", TEXT, "-c", "occurrences", "--corpus", "empty.txt"], "--corpus empty.txt: text: found an empty"),
        (["graph", "-f", "wide.txt"], "iconv -f utf-16 -t utf-8"),
        (["graph", "-f", "big.txt"], "iconv -f utf-16 -t utf-8"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    if any(a.startswith("/proc") for a in args) and not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    monkeypatch.chdir(tmp_path)
    Path("nul.txt").write_bytes(b"a\0b")
    Path("empty.txt").write_bytes(b"")
    Path("wide.txt").write_bytes(TEXT.encode("utf-16-le").join([b"\xff\xfe", b""]))
    Path("big.txt").write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    before = sorted(p.name for p in tmp_path.iterdir())
    err = failed(capsys, *args)
    assert any(line.startswith("infogeo: ") and message in line for line in err.splitlines()), err
    assert "loading" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_format_may_stand_beside_an_ending_of_no_format(tmp_path: Path, capsys: Capture) -> None:
    for name, kind in (("g.txt", "json"), ("g.GV", "dot")):
        assert main(["graph", TEXT, *FAST, "-o", str(tmp_path / name), "--format", kind, "-q"]) == 0
        assert read_graph(tmp_path / name, format=kind).n_edges > 0


# notes


def test_more_neighbors_than_words_are_told(tmp_path: Path, capsys: Capture) -> None:
    assert main(["graph", TEXT, *FAST, "-k", "1000", "--json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert "1000 neighbors of each word were asked for, and the text has 12 words" in err
    options = json.loads(out)["source"]["options"]
    assert (options["neighbors_asked"], options["neighbors_used"]) == (1000, 11)
    assert main(["graph", TEXT, *FAST, "-k", "11", "-q"]) == 0
    assert "asked for" not in capsys.readouterr().err


def test_thin_estimates_are_told(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "own.txt"
    path.write_text(f"{TEXT} {TEXT}", encoding="utf-8")
    assert main(["graph", TEXT, "--background", str(path), "-q"]) == 0
    err = capsys.readouterr().err
    assert "The background has 24 words, fewer than the 160 dimensions" in err
    assert "(intensity 0." in err or "(intensity 1)" in err
    assert main(["graph", TEXT, "-c", "occurrences", "--corpus", str(path), "-q"]) == 0
    assert "12 of 12 different words occur fewer than 5 times" in capsys.readouterr().err
    path.write_text(f"{TEXT} " * 5, encoding="utf-8")
    assert main(["graph", TEXT, "-c", "occurrences", "--corpus", str(path), "-q"]) == 0
    assert "fewer than 5" not in capsys.readouterr().err


def test_files_that_a_report_leaves_out_are_told(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    assert main(["report", "The dog\x01x ran home.", *FAST, "-o", str(tmp_path / "r"), "-q",
                 "--permutations", "9"]) == 0
    err = capsys.readouterr().err
    assert "infogeo: graph.graphml: not written" in err
    assert "infogeo: attention_graph.gexf: not written" in err
    assert not (tmp_path / "r" / "graph.graphml").exists()


def test_compare_calls_the_block_of_a_head_a_block(capsys: Capture) -> None:
    main(["compare", TEXT, *FAST, "-q", "--permutations", "9"])
    header = capsys.readouterr().out.splitlines()[0].split("\t")
    assert "block" in header
    assert "layer" not in header
    main(["compare", TEXT, *FAST, "-q", "--permutations", "9", "--json", "-a", "head:2.3"])
    assert {c["block"] for c in json.loads(capsys.readouterr().out)["items"]} == {2}


# a model without attention


@pytest.fixture(scope="module")
def mamba_folder(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("mamba")
    torch.manual_seed(3)
    config = transformers.MambaConfig(vocab_size=345, hidden_size=16, num_hidden_layers=2, state_size=4)
    model: Any = transformers.MambaForCausalLM(config)
    model.save_pretrained(folder)
    tiny("gpt2").tokenizer.save_pretrained(folder)
    return Path(folder)


def test_distances_need_no_attention(mamba_folder: Path, capsys: Capture) -> None:
    assert main(["graph", TEXT, *FAST, "--model", str(mamba_folder), "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 6


@pytest.mark.parametrize("command", [["compare"], ["report", "-o", "r"], ["graph", "--of", "attention"]])
def test_without_attention_a_message_names_what_works(
    mamba_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    err = failed(capsys, *command, TEXT, *FAST, "--model", str(mamba_folder))
    assert "MambaForCausalLM gives no attention; infogeo graph works without attention" in err
    assert "attention=False" not in err


# errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--layer", "99"], "layer 99 does not exist"),
        (["--layer", "x"], "not a valid integer"),
        (["--measure", "nonsense"], "fisher_rao_distance"),
        (["--construction", "nonsense"], "shared-covariance"),
        (["--attention", "nonsense"], "head:B.H"),
        (["--attention", "head:9.9"], "block 9 does not exist"),
        (["--construction", "occurrences"], "--corpus"),
        (["--model", "no/such/folder/at/all"], "no/such/folder"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_errors_are_messages(capsys: Capture, args: list[str], message: str) -> None:
    assert message in failed(capsys, "compare", TEXT, *args)


def test_a_broken_model_is_a_message(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "config.json").write_text("{")
    err = failed(capsys, "graph", TEXT, "--model", str(tmp_path))
    assert err.splitlines()[-1].startswith("infogeo: ")
    assert "config.json" in err


def test_interruption_is_no_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("infogeo_adapters.transformers.loading.load_model", interrupt)
    assert main(["graph", TEXT]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_every_error_of_ours_ends_with_two(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: Any, **__: Any) -> Any:
        raise ConvergenceError("did not converge", result=None)

    monkeypatch.setattr("infogeo_adapters.transformers.loading.load_model", give_up)
    assert "infogeo: did not converge" in failed(capsys, "graph", TEXT)


def test_an_error_of_the_programmer_is_not_hidden(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("infogeo_adapters.transformers.loading.load_model", bug)
    assert main(["graph", TEXT, "-q"]) == 2  # not 1, which is a finding
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert "in bug" in err
    assert err.splitlines()[-1].startswith("infogeo: this is an error in infogeo itself; please report it")


def test_a_reader_who_leaves_early_is_no_error() -> None:
    code = (
        "import sys; from infogeo_adapters import cli\n"
        "def loop(*_, **__):\n"
        "    for _ in range(100): print('x' * 9000)\n"
        "    return {}\n"
        "cli.edge_rule = loop\n"
        "sys.exit(cli.main(['graph', 'some text', '-q']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=120) == 141
    assert err == ""


def test_output_that_is_flushed_only_at_the_end_is_no_error_either() -> None:
    with subprocess.Popen([sys.executable, "-m", "infogeo_adapters", "--help"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=120) == 141
    assert err == ""


# help


def test_help_has_examples_and_exit_codes(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes: 0 done, 1 done with a negative finding" in out
    assert "130 interrupted" in out
    assert "141" in out
    for command in ("report", "graph", "compare", "completion"):
        assert main([command, "--help"]) == 0
        assert f"  infogeo {command} " in capsys.readouterr().out.split("Examples:")[1]


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("infogeo ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: Capture) -> None:
    assert main(["completion", shell]) == 0
    assert "_INFOGEO_COMPLETE" in capsys.readouterr().out


def test_measures_are_completed() -> None:
    from infogeo_adapters._cli_options import MeasureName

    found = [c.value for c in MeasureName().shell_complete(None, None, "fisher")]  # type: ignore[arg-type]
    assert found == ["fisher_rao_distance"]


def test_constants_match_the_library() -> None:
    from infogeo_adapters import _cli_options, relations

    assert set(_cli_options.CONSTRUCTIONS) == {relations.INFLUENCE, *relations.CONSTRUCTIONS}
    assert _cli_options.GRAPHS == relations.GRAPHS


def test_help_is_fast_since_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from infogeo_adapters.cli import main; main(['report', '--help'])\n"
        "heavy = {'torch', 'transformers', 'plotly', 'jinja2', 'networkx', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "infogeo_adapters", "graph", ""], capture_output=True, text=True,
                          env=environment(), check=False)
    assert done.returncode == 2
    assert "found an empty text, wanted at least one word" in done.stderr
    assert "Traceback" not in done.stderr


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
