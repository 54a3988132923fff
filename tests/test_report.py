"""The report folder: complete, offline, harmless, and whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import few_sentences

from infogeo.coefficients import Comparison
from infogeo.errors import MissingDependencyError, OutputError
from infogeo.results import Source
from infogeo.words import DistanceMatrix
from infogeo_adapters.analysis import SentenceAnalysis, analyze
from infogeo_adapters.files import read_graph
from infogeo_adapters.relations import Context
from infogeo_adapters.report import builder, check_output_folder, findings, write_report
from infogeo_adapters.report.folder import whole_folder
from infogeo_adapters.report.prose import edges

pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
pytest.importorskip("jinja2", reason="needs the extra: pip install 'infogeo[plots]'")

TEXT = "The old dog chased the little cat because it was hungry."
HOSTILE = (
    "<script>document.title='broken'</script> <img src=x onerror=\"document.title='broken'\"> </script> "
    "<a href=\"javascript:document.title='broken'\">click</a> {{ 7 * 7 }} {% for %} ]]> <!-- &lt;b&gt; %{x} "
    "'q' \"q\" \u2028 "
    "שלום 😀 \x1b[31m \u202eabc"
)


class Page(HTMLParser):
    """Tags with attributes, visible text, and the contents of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text.append(data)
        elif self._inside[-1] == "script":
            self.scripts[-1] += data

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def figures(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found


@pytest.fixture(scope="module")
def made(bundled: Any) -> SentenceAnalysis:
    return analyze(bundled, TEXT, construction="components", permutations=99)


@pytest.fixture(scope="module")
def folder(made: SentenceAnalysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(made, tmp_path_factory.mktemp("out") / "deep" / "report").parent


@pytest.fixture(scope="module")
def hostile(bundled: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    analysis = analyze(bundled, HOSTILE, construction="components", permutations=9)
    return write_report(analysis, tmp_path_factory.mktemp("hostile") / "report").parent


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def leftovers(parent: Path) -> list[str]:
    return sorted(p.name for p in parent.iterdir())


# what is in it


def test_tokens_stand_in_tables_as_text_too(bundled: Any, tmp_path: Path) -> None:
    write_report(analyze(bundled, "“Hi,” said the café owner.", construction="components", permutations=9), tmp_path)
    for name, column in (("lens.csv", "top_token"), ("lens.csv", "token"), ("tokens.csv", "token")):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert any(r[column].startswith("Ġ") and r[f"{column}_text"].startswith(" ") for r in rows), (name, column)
        assert not any(re.search("[âĢľĠ]", r[f"{column}_text"]) for r in rows), (name, column)
    assert "“" in {r["token_text"] for r in rows}


@pytest.mark.parametrize(
    ("construction", "words"),
    [
        ("nearest_neighbor_graph(k=1)", "each word is joined to its nearest"),
        ("nearest_neighbor_graph(k=4, mutual=True)", "two words are joined if each is among the other's 4 nearest"),
        ("radius_graph(radius=0.25)", "words at most 0.25 apart are joined"),
        ("top_edges(m=7)", "the 7 strongest pairs are joined"),
        ("maximum_spanning_forest(trees=2)", "2 maximum spanning trees"),
        ("my_graph", "edges come from my_graph"),
    ],
)
def test_edges_in_words(construction: str, words: str) -> None:
    assert words in edges(construction)


def test_everything_is_there(folder: Path, made: SentenceAnalysis) -> None:
    page = page_of(folder)
    ids = [f["id"] for f in page.figures()]
    assert ids == ["graph-pair", "distance-matrix", "attention-matrix", "half-plane-plot", "agreement-heads",
                   "agreement-layers", "lens-plot"]
    places = [a["id"] for _, a in page.tags if "plot" in (a.get("class") or "").split()]
    assert places == ids
    for word in ("The old dog", "bundled", "SHA-256", "torch", "nearest_neighbor_graph(k=3)", "Closest on the",
                 "each word is joined to its 3 nearest", "counted from 1 on this page, and from 0 in the files"):
        assert word in page.words, word
    shared = len(made.shared_edges())
    assert f"share {shared}." in page.words or f"they share {shared}." in page.words


def test_links_lead_to_files_that_are_there_and_nowhere_else(folder: Path) -> None:
    page = page_of(folder)
    targets = [a[k] for _, a in page.tags for k in ("src", "href") if a.get(k)]
    files = {t for t in targets if t and not t.startswith("#")}
    assert files | {"manifest.json", "index.html"} == {p.name for p in folder.iterdir()}
    ids = {a.get("id") for _, a in page.tags}
    assert all(t[1:] in ids for t in targets if t and t.startswith("#"))


def test_the_page_loads_nothing_from_the_network(folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|action|data|poster)\s*=\s*["']?\s*(https?:)?//""", html, re.IGNORECASE)
    assert not re.search(r"url\(|@import", html)
    page = page_of(folder)
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "connect-src" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_only_our_scripts_may_run(folder: Path, hostile: Path) -> None:
    for place in (folder, hostile):
        page = page_of(place)
        scripts = [a for t, a in page.tags if t == "script"]
        assert [a.get("src") for a in scripts] == [None, "plotly.min.js", None]
        (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
        nonces = {a.get("nonce") for a in scripts}
        assert len(nonces) == 1
        assert f"'nonce-{nonces.pop()}'" in str(policy)
        assert not [k for _, a in page.tags for k in a if k.startswith("on")]
        assert not [a for _, a in page.tags if "javascript:" in str(a.get("href"))]
        assert {t for t, _ in page.tags} <= {
            "html", "head", "meta", "title", "style", "body", "div", "header", "h1", "p", "blockquote", "dl", "dt",
            "dd", "noscript", "nav", "ul", "li", "a", "main", "section", "h2", "h3", "figure", "figcaption", "table",
            "thead", "tbody", "tr", "th", "td", "bdi", "span", "footer", "script",
        }
    nonce = re.search(r"nonce-([^']+)", (folder / "index.html").read_text(encoding="utf-8"))
    assert nonce
    assert nonce[1] not in (hostile / "index.html").read_text(encoding="utf-8")


def test_a_hostile_text_is_shown_as_it_stands(hostile: Path) -> None:
    page = page_of(hostile)
    assert "<script>document.title='broken'</script> <img src=x onerror=" in page.words
    assert "{{ 7 * 7 }}" in page.words
    assert "49" not in page.words.split("{{ 7")[0][-20:]
    html = (hostile / "index.html").read_text(encoding="utf-8")
    assert html.count("<script") == 3
    assert html.count("</script>") == 3
    for character in "<>&\u2028":
        assert character not in page.scripts[0]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e]", html)
    assert "⟨202E⟩" in page.words
    assert "␛" in page.words


@pytest.mark.parametrize("value", ["</script><script>x", "<!--", "a & b", "\u2028\u2029", "]]>", "\\u003c"])
def test_data_in_a_script_comes_back_as_it_was(value: str) -> None:
    text = builder.script_json({"v": [value]})
    assert json.loads(text) == {"v": [value]}
    assert not set(text) & set("<>&\u2028\u2029")


def test_exports_hold_what_the_page_shows(folder: Path, made: SentenceAnalysis) -> None:
    for suffix in ("graphml", "gexf", "json"):
        assert read_graph(folder / f"graph.{suffix}").edge_set() == made.graph.edge_set()
        assert read_graph(folder / f"attention_graph.{suffix}").edge_set() == made.attention_graph.edge_set()
    with (folder / "distances.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["from", *made.distances.words]
    np.testing.assert_array_equal(np.array([r[1:] for r in rows[1:]], dtype=float), made.distances.values)
    plain = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
    assert plain["type"] == "SentenceAnalysis"
    assert plain["activations"]["text"] == TEXT
    names = {p.name for p in folder.iterdir()}
    assert {"comparisons.csv", "agreement.csv", "relations.csv", "lens.csv", "tokens.csv"} <= names
    assert json.loads((folder / "manifest.json").read_text())["files"] == sorted(names - {"manifest.json"})


def test_a_format_that_cannot_hold_a_word_is_left_out_by_name(hostile: Path) -> None:
    names = {p.name for p in hostile.iterdir()}
    assert "graph.json" in names
    if "graph.graphml" not in names:  # XML knows no escape character
        assert "graph.graphml: not written" in page_of(hostile).words
    json.loads((hostile / "analysis.json").read_text(encoding="utf-8"))


def test_the_script_is_plotly_itself(folder: Path) -> None:
    from plotly.offline import get_plotlyjs

    assert (folder / "plotly.min.js").read_text(encoding="utf-8") == get_plotlyjs()


# the influence graph


def test_the_page_of_an_influence_graph_says_what_it_is_and_why(quick_bundled: Any, tmp_path: Path) -> None:
    analysis = analyze(quick_bundled, TEXT, permutations=19)
    target = write_report(analysis, tmp_path / "r").parent
    page = page_of(target)
    assert [f["id"] for f in page.figures()][:4] == [
        "graph-pair", "distance-matrix", "attention-matrix", "standing-matrix"
    ]
    for words in (
        "Take a word away from the text", "An edge of the influence graph joins two words that move each other",
        "because on sentences whose syntax is known", "docs/word_graphs.md", "given twice in a row",
        "Influence graph, beside attention", "Closest by influence", "By influence the closest two words",
        "At layer 4, that of this page", "words hidden, at layers 4 and 5", "No distances at layer 0",
        "with nothing taken away", "Here they stand still", "graph.json : influence graph as",
    ):
        assert words in page.words, words
    assert "geodesic graph" not in page.words
    assert "is the geodesic distance between their" not in page.words
    assert "only influence graph" in page.scripts[0]
    with (target / "standing_distances.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert analysis.standing is not None
    np.testing.assert_array_equal(np.array([r[1:] for r in rows[1:]], dtype=float), analysis.standing.values)
    assert read_graph(target / "graph.json").measure == "influence_distance"


def test_a_model_that_sees_all_words_reads_once(tiny: Any, tmp_path: Path) -> None:
    with few_sentences():
        analysis = analyze(tiny("bert"), TEXT, permutations=9)
    page = page_of(write_report(analysis, tmp_path / "r").parent)
    assert "influence graph" in page.words
    assert "twice in a row" not in page.words


def test_the_page_of_distances_between_distributions_says_nothing_of_influence(folder: Path) -> None:
    page = page_of(folder)
    assert "is the geodesic distance between their" in page.words
    assert "nfluence" not in page.words
    assert not (folder / "standing_distances.csv").exists()


# one word, no lens, a cut


def test_one_word_says_what_needs_more(bundled: Any, tmp_path: Path) -> None:
    page = page_of(write_report(analyze(bundled, "Hello"), tmp_path / "r").parent)
    assert page.words.count("needs at least two words") == 3
    assert "needs three words; the text has 1 word." in page.words
    assert "The text has one word." in page.words
    assert [f["id"] for f in page.figures()] == ["half-plane-plot", "lens-plot"]


def test_two_words(bundled: Any, tmp_path: Path) -> None:
    page = page_of(write_report(analyze(bundled, "Hello there", construction="components"), tmp_path / "r").parent)
    assert "graph-pair" in [f["id"] for f in page.figures()]
    assert "agreement-heads" not in [f["id"] for f in page.figures()]
    assert "says little" in page.words


def test_a_model_without_a_head_says_why_there_is_no_lens(minilm: Any, tmp_path: Path) -> None:
    analysis = analyze(minilm, TEXT, construction="components", permutations=9)
    target = write_report(analysis, tmp_path / "r").parent
    page = page_of(target)
    assert "no language-model head" in page.words
    assert "lens-plot" not in [f["id"] for f in page.figures()]
    assert not (target / "lens.csv").exists()


def test_a_cut_text_says_so_on_top(made: SentenceAnalysis, tmp_path: Path) -> None:
    cut = dataclasses.replace(made, notes=("The text was cut <here>.",))
    html = write_report(cut, tmp_path / "r").read_text(encoding="utf-8")
    assert "The text was cut &lt;here&gt;." in html.split("<main>")[0]


def test_bits_are_said_to_be_bits(made: SentenceAnalysis, tmp_path: Path) -> None:
    page = page_of(write_report(made, tmp_path / "r", units="bits").parent)
    assert "entropy (bits)" in page.scripts[0]
    assert "entropy (nats)" not in page.scripts[0]


# whole or not at all


def test_a_report_is_replaced_and_nothing_is_left_of_the_old_one(made: SentenceAnalysis, tmp_path: Path) -> None:
    first = write_report(made, tmp_path / "r")
    old = first.read_text(encoding="utf-8")
    (tmp_path / "r" / "lens.csv").unlink()
    slim = dataclasses.replace(made, lens=None, lens_missing="none here")
    assert write_report(slim, tmp_path / "r").read_text(encoding="utf-8") != old
    assert not (tmp_path / "r" / "lens.csv").exists()
    assert leftovers(tmp_path) == ["r"]


def test_an_empty_folder_is_filled(made: SentenceAnalysis, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    assert write_report(made, tmp_path / "r").exists()
    assert leftovers(tmp_path) == ["r"]


def test_what_is_not_a_report_is_left_alone(made: SentenceAnalysis, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds no report"):
        write_report(made, tmp_path / "notes")
    (tmp_path / "notes" / "manifest.json").write_text('{"generator": "other"}')
    with pytest.raises(OutputError, match="holds no report"):
        write_report(made, tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"
    write_report(made, tmp_path / "r")
    (tmp_path / "r" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_report(made, tmp_path / "r")
    assert (tmp_path / "r" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "r" / "index.html").exists()


@pytest.mark.parametrize("manifest", ["[]", "null", "{", '{"generator": "infogeo report"}', '"infogeo report"'])
def test_a_broken_manifest_is_no_report(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match="holds no report"):
        check_output_folder(tmp_path / "r")


def test_a_file_in_the_way_is_refused(made: SentenceAnalysis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file, wanted a folder"):
        write_report(made, tmp_path / "file")
    with pytest.raises(OutputError, match="is a file, so"):
        write_report(made, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_current_folder_and_those_around_it_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for folder in (".", "..", tmp_path):
        with pytest.raises(OutputError, match="current folder"):
            check_output_folder(folder)
    assert check_output_folder("c") == tmp_path / "a" / "b" / "c"


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="NUL"):
        check_output_folder("a\0b")
    with pytest.raises(OutputError):
        check_output_folder(tmp_path / ("x" * 300) / "y")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OutputError):
        check_output_folder(loop / "r")


def test_no_permission_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere, so a real folder would not do
    with pytest.raises(OutputError, match="no permission"):
        check_output_folder(tmp_path / "r")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("place", ["builder.write_exports", "builder.render", "folder._swap"])
def test_a_failure_leaves_everything_as_it_was(
    made: SentenceAnalysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, existing: bool
) -> None:
    target = tmp_path / "deep" / "r"
    if existing:
        write_report(made, target)
        before = {p.name: p.read_bytes() for p in target.iterdir()}

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"infogeo_adapters.report.{place}", full)
    with pytest.raises(OutputError, match=r"No space left.*nothing was changed"):
        write_report(made, target)
    if existing:
        assert {p.name: p.read_bytes() for p in target.iterdir()} == before
        assert leftovers(target.parent) == ["r"]
    else:
        assert leftovers(tmp_path) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", ["r", "new"])
@pytest.mark.parametrize("error", [OSError(1, "not now"), KeyboardInterrupt()], ids=["disk", "interrupt"])
def test_there_is_a_whole_report_whatever_happens_while_it_is_replaced(
    made: SentenceAnalysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, which: str, when: str
) -> None:
    write_report(made, tmp_path / "r")
    (tmp_path / "r" / "index.html").write_text("old")
    rename, left = Path.rename, [error]

    def fails(self: Path, target: Any) -> Any:
        if self.name == which and left:
            if when == "after":
                rename(self, target)
            raise left.pop()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_report(made, tmp_path / "r")
    page = (tmp_path / "r" / "index.html").read_text()
    assert (page != "old") == ((which, when) == ("new", "after"))
    assert (tmp_path / "r" / "manifest.json").exists()
    assert leftovers(tmp_path) == ["r"]


def test_an_old_report_that_cannot_come_back_is_kept_and_named(
    made: SentenceAnalysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(made, tmp_path / "r")
    rename = Path.rename

    def only_out(self: Path, target: Any) -> Any:
        if self.name != "r":
            raise OSError(1, "not now")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_out)
    with pytest.raises(OutputError, match="the old one is now in") as caught:
        write_report(made, tmp_path / "r")
    assert (Path(str(caught.value).rpartition(" ")[2]) / "index.html").exists()


def test_an_error_that_is_no_disk_error_passes_through_and_cleans_up(tmp_path: Path) -> None:
    def half() -> None:
        with whole_folder(tmp_path / "r") as new:
            (new / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("module", ["plotly", "jinja2"])
def test_a_missing_library_names_the_extra(
    made: SentenceAnalysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"write_report needs {module}.*infogeo\[plots\]"):
        write_report(made, tmp_path / "r")
    assert leftovers(tmp_path) == []


# the sentences


def comparison(value: float, p_value: float | None) -> Comparison:
    return Comparison(statistic="mantel", value=value, p_value=p_value, n=66, unit="word pairs", left="d",
                      reference="a", source=Source())


@pytest.mark.parametrize(
    ("value", "p_value", "wanted", "unwanted"),
    [
        (0.7, 0.001, ["strongly related", "0.70", "0.1 %", "hardly give it"], ["no evidence"]),
        (0.4, 0.2, ["moderately related", "20 %", "no evidence"], ["hardly"]),
        (-0.2, 0.9, ["weakly opposed", "−0.20", "90 %", "no evidence"], ["hardly"]),
        (0.02, 0.4, ["next to nothing in common"], ["strongly"]),
        (0.5, None, ["moderately related"], ["trials"]),
        (float("nan"), None, ["all equal"], ["related"]),
    ],
)
def test_a_correlation_in_words(value: float, p_value: float | None, wanted: list[str], unwanted: list[str]) -> None:
    said = findings.sentence(comparison(value, p_value))
    assert all(w in said for w in wanted), said
    assert not any(w in said for w in unwanted), said


@pytest.mark.parametrize(
    ("partial", "mantel", "order", "wanted", "unwanted"),
    [
        ((0.4, 0.001), (0.5, 0.001), 0.57, ["more than word order", "0.40", "0.1 %", "0.57", "without any model"], []),
        ((0.1, 0.4), (0.5, 0.001), 0.57, ["No more than word order", "40 %"], ["is more than"]),
        ((0.1, 0.4), (0.1, 0.4), 0.57, ["Nor is there evidence"], ["is more than", "No more"]),
        (None, (0.5, 0.001), 0.57, ["beyond word order there is nothing"], ["is more than"]),
        ((0.4, 0.001), (0.5, 0.001), None, ["more than word order"], ["without any model"]),
    ],
)
def test_agreement_beyond_word_order_in_words(
    partial: tuple[float, float] | None, mantel: tuple[float, float], order: float | None, wanted: list[str],
    unwanted: list[str],
) -> None:
    said = findings.beyond_order(
        None if partial is None else comparison(*partial), comparison(*mantel),
        None if order is None else comparison(order, None),
    )
    assert all(w in said for w in wanted), said
    assert not any(w in said for w in unwanted), said


def test_the_page_says_whether_the_agreement_is_more_than_word_order(
    bundled: Any, made: SentenceAnalysis, folder: Path, tmp_path: Path
) -> None:
    assert made.comparisons is not None
    rows = {c.statistic: c for c in made.comparisons}
    said = findings.beyond_order(rows["partial_mantel"], rows["mantel"], rows["word_order"])
    assert said in page_of(folder).words

    def by_position(context: Context, layer: int) -> DistanceMatrix:
        x = np.arange(len(context.activations.words), dtype=float)
        return DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=context.activations.words, measure="steps",
                              symmetric=True, metric=True, layer=layer, source=Source())

    page = page_of(write_report(analyze(bundled, TEXT, relation=by_position), tmp_path / "r").parent)
    assert "chance alone would hardly give it" in page.words
    assert "beyond word order there is nothing that could agree" in page.words


def test_layers_without_distances_and_a_text_without_a_half_plane_are_told(
    made: SentenceAnalysis, tmp_path: Path
) -> None:
    assert made.agreement is not None
    heads, averages = made.agreement.heads.copy(), made.agreement.averages.copy()
    heads[0], averages[0] = np.nan, np.nan
    broken = dataclasses.replace(
        made, agreement=dataclasses.replace(made.agreement, heads=heads, averages=averages), normals=None,
        normals_missing="zero variance", notes=("No distances at layer 0: zero variance",),
    )
    target = write_report(broken, tmp_path / "r").parent
    page = page_of(target)
    assert "No distances at layer 0: zero variance" in page.words
    assert "There is no half-plane for this text: zero variance" in page.words
    assert "half-plane-plot" not in [f["id"] for f in page.figures()]
    assert not (target / "normals.csv").exists()


def test_tables_are_no_formulas_and_what_csv_cannot_hold_is_named(bundled: Any, tmp_path: Path) -> None:
    analysis = analyze(bundled, "=1+1 is a \x1b word", construction="components", permutations=9)
    target = write_report(analysis, tmp_path / "r").parent
    words = analysis.activations.words
    assert any("\x1b" in w for w in words)
    assert not (target / "relations.csv").exists()
    assert "relations.csv: not written: " in page_of(target).words
    assert "U+001B" in page_of(target).words
    analysis = analyze(bundled, "+ is a sign and - is one", construction="components", permutations=9)
    target = write_report(analysis, tmp_path / "formulas").parent
    with (target / "relations.csv").open(encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row[2:4]]
    assert {"'+", "'-"} <= set(cells)


def test_numbers_have_a_minus_sign_and_no_negative_zero() -> None:
    assert [findings.number(v, 2) for v in (-0.004, -0.456, 0.0, 1.0)] == ["0.00", "−0.46", "0.00", "1.00"]


def test_shared_edges_are_held_against_chance(made: SentenceAnalysis) -> None:
    n = len(made.activations.words)
    expected = made.graph.n_edges * made.attention_graph.n_edges / (n * (n - 1) / 2)
    (said,) = findings.overlap(made)
    assert f"{expected:.1f} on average" in said
    assert str(len(made.shared_edges())) in said


# in a browser


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("needs a browser: install chromium to see the page drawn")


@pytest.mark.slow
def test_a_browser_draws_every_figure_and_runs_nothing_of_the_text(hostile: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--virtual-time-budget=8000", "--window-size=390,900", "--dump-dom", f"file://{hostile / 'index.html'}"],
            capture_output=True, text=True, timeout=120, check=True,
        )
    page = Page(done.stdout)
    plots = [a for _, a in page.tags if "plot" in (a.get("class") or "").split()]
    drawn = [a for _, a in page.tags if "js-plotly-plot" in (a.get("class") or "").split()]
    assert len(plots) == 7
    assert len(drawn) == 7
    assert "<title>broken" not in done.stdout


def test_one_thing_beside_a_report_is_one_thing(made: SentenceAnalysis, tmp_path: Path) -> None:
    write_report(made, tmp_path / "r")
    (tmp_path / "r" / "mine").touch()
    with pytest.raises(OutputError, match=r"and 1 thing beside it \(mine\), which would be lost; move it or"):
        check_output_folder(tmp_path / "r")


def test_a_folder_that_takes_no_folder_is_told_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match=r"cannot write in .*Read-only file system; give another folder"):
        check_output_folder(tmp_path / "r")
