"""The page on a comparison with a treebank: its files, its numbers, what it says, its example sentences."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("conllu", reason="needs the extra: pip install 'infogeo[treebank]'")
pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
pytest.importorskip("jinja2", reason="needs the extra: pip install 'infogeo[plots]'")

from conftest import few_sentences

from infogeo.errors import ArgumentError, OutputError
from infogeo.results import Source
from infogeo.syntax import DependencyTree, Treebank
from infogeo_adapters import compare_with_treebank, example_sentences, load_model, sample_treebank, write_treebank_page
from infogeo_adapters.treebank import _page_prose as prose
from infogeo_adapters.treebank._page_layers import layer_lines, level_line
from infogeo_adapters.treebank._page_numbers import cross_caution, number, skip_reason
from infogeo_adapters.treebank._page_sections import compared, grouped

OWN = "influence, word hidden, read once"
FAMILIES = ("adjacent words", "cosine", "attention head", "attention, head average", OWN)
FILES = {
    "index.html", "plotly.min.js", "manifest.json", "comparison.json", "families.csv", "by_distance.csv",
    "by_relation.csv", "differences.csv", "choices.csv", "variants.csv", "skipped.csv",
}


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def treebank() -> Treebank:
    whole = sample_treebank()
    return dataclasses.replace(whole, trees=whole.trees[:44])


@pytest.fixture(scope="module")
def found(model: Any, treebank: Treebank) -> Any:
    skipped = treebank.trees[5].skipped("<b>no</b> token; split the text into words differently (words=), or remove it")
    bank = dataclasses.replace(
        treebank, trees=tuple(t for t in treebank.trees if t.name != skipped.name), skipped=(skipped,)
    )
    with few_sentences():
        return compare_with_treebank(model, bank, families=FAMILIES, untrained=False, resamples=200)


@pytest.fixture(scope="module")
def examples(found: Any, model: Any, treebank: Treebank) -> Any:
    with few_sentences():
        return example_sentences(found, model, treebank)


@pytest.fixture(scope="module")
def page(found: Any, examples: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_treebank_page(found, tmp_path_factory.mktemp("pages") / "new" / "page", examples=examples)


def text_of(page: Path) -> str:
    """What a reader sees of the page, without figures."""
    body = page.read_text(encoding="utf-8").partition('<script type="application/json"')[0].partition("<body>")[2]
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


def test_all_files_are_there_and_the_page_loads_nothing_from_the_network(page: Path) -> None:
    assert page.name == "index.html"
    assert {p.name for p in page.parent.iterdir()} == FILES
    source = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", source)
    for name in re.findall(r'href="([^"#]+)"', source):
        assert (page.parent / name).is_file(), name


def test_the_page_has_the_numbers_of_the_table(page: Path, found: Any) -> None:
    said = text_of(page)
    for family in found.families:
        score, far = found.estimate(family.name), found.estimate(family.name, "long")
        row = said[said.index("UUAS with 95 % intervals"):]
        row = row[row.index(f"{family.name} "):]
        variants = " / ".join(dict.fromkeys(c.variant for c in found.chosen(family.name)))
        mark = {OWN: "best where chosen ", "attention head": "reference "}.get(family.name, "")
        start = f"{family.name} {mark}{variants} {number(score.value)} {number(score.lower)} to {number(score.upper)}"
        assert start in said, (start, row[:200])
        assert f" {number(far.value)} {number(far.lower)} to {number(far.upper)}" in row
        if family.name != found.reference:
            assert number(found.difference(family.name).value, "+.3f") in row


def test_the_verdict_is_that_of_the_test(page: Path, found: Any) -> None:
    d = found.difference(OWN)
    assert d.p_holm is not None
    sure = d.p_holm <= 0.05
    verdict = "no difference is shown" if not sure else "it is above" if d.value > 0 else "it is below"
    said = "The influence family that was best where variants were chosen,"
    first = text_of(page).partition(said)[2].partition(". Of the relations")[0]
    assert first.endswith(verdict)
    assert f"{number(100 * d.value, '+.1f')} points" in first


def test_figures_hold_the_scores(page: Path, found: Any) -> None:
    script = re.search(r'id="figures"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    figures = {item["id"]: item["figure"] for item in json.loads(script[1])}
    assert set(figures) >= {"scores-plot", "distance-plot", "relation-plot", "layers-plot", "example-0-0"}
    dots = sorted(x for trace in figures["scores-plot"]["data"] for x in _values(trace["x"]))
    assert np.allclose(dots, sorted(found.estimate(f.name).value for f in found.families))
    lines = [shape["x0"] for shape in figures["scores-plot"]["layout"]["shapes"]]
    assert np.allclose(lines, [found.estimate(n).value for n in ("attention head", "adjacent words")])
    bins = _values(figures["distance-plot"]["data"][0]["y"])
    assert np.allclose(bins, [found.estimate(OWN, b).value for b in ("1", "2-3", "4-6", "7+")])
    own, other = (_values(trace["x"]) for trace in figures["relation-plot"]["data"][:2])
    apart = [a - b for a, b in zip(own, other, strict=True)]
    assert apart == sorted(apart, reverse=True)


def _values(coded: Any) -> list[float]:
    """Numbers of a trace; plotly may write them as base64."""
    if isinstance(coded, dict):
        import base64

        return np.frombuffer(base64.b64decode(coded["bdata"]), dtype=coded["dtype"]).tolist()
    return list(coded)


def test_tables_and_json_are_those_of_the_comparison(page: Path, found: Any) -> None:
    def table(name: str) -> list[list[str]]:
        with (page.parent / name).open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    for name, (columns, rows) in {
        "families.csv": found.rows(), "by_distance.csv": found.by_distance(), "by_relation.csv": found.by_relation(),
        "differences.csv": found.differences(), "choices.csv": found.choice_rows(), "variants.csv": found.scores.rows(),
        "skipped.csv": found.skipped_rows(),
    }.items():
        written = table(name)
        assert written[0] == list(columns), name
        assert len(written) == len(rows) + 1
        place = next((k for k, c in enumerate(columns) if c in ("uuas", "value", "difference", "score")), None)
        if place is not None:
            assert [float(line[place]) for line in written[1:]] == [row[place] for row in rows]
    assert json.loads((page.parent / "comparison.json").read_text(encoding="utf-8")) == found.to_dict()


def test_what_is_skipped_is_named_and_escaped(page: Path, found: Any) -> None:
    assert len(found.skipped) == 2  # one more that the model cannot align
    assert "2 sentences skipped" in text_of(page)
    assert "&lt;b&gt;no&lt;/b&gt; token<" in page.read_text(encoding="utf-8")
    assert skip_reason("too long; cut it with overflow='truncate' or into") == "too long"


def test_an_earlier_page_is_replaced_and_a_foreign_folder_left_alone(page: Path, found: Any, tmp_path: Path) -> None:
    place = tmp_path / "page"
    assert write_treebank_page(found, place) == place / "index.html"
    assert "Example sentences" not in text_of(place / "index.html")
    (place / "index.html").write_text("old", encoding="utf-8")
    write_treebank_page(found, place)
    assert "UUAS" in text_of(place / "index.html")
    (place / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_treebank_page(found, place)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(OutputError, match="holds no report"):
        write_treebank_page(found, foreign)
    assert [p.name for p in foreign.iterdir()] == ["mine.txt"]


def test_examples_find_as_many_relations_as_the_scores_say(examples: Any, found: Any, treebank: Treebank) -> None:
    assert [example.place for example in examples] == ["furthest ahead", "in the middle", "furthest behind"]
    scores, first = found.scores, next(c.n_sentences for c in found.choices if c.chosen_on == "first half")
    counts = scores.counts()
    ahead = []
    for example in examples:
        s = scores.sentences.index(example.tree.name)
        assert 8 <= len(example.gold.words) <= 16
        assert example.gold.n_edges == scores.totals()[s]
        half = "first half" if s < first else "second half"
        for name, variant, n in zip(example.families, example.variants, example.found, strict=True):
            assert variant == next(c.variant for c in found.chosen(name) if c.reported_on == half)
            f = [family.name for family in scores.families].index(name)
            assert n == counts[s, scores.slices[f].start + scores.families[f].variants.index(variant)]
        ahead.append(example.found[0] - example.found[1])
        assert [row[2] for row in example.rows()[1]] == list(example.found)
    assert ahead == sorted(ahead, reverse=True)
    assert ahead[0] > ahead[-1]


def test_examples_are_on_the_page(page: Path, examples: Any) -> None:
    said = text_of(page)
    for example in examples:
        assert example.tree.text in said
        assert f"joins {example.found[0]} of the {example.gold.n_edges} relations" in said


def test_other_sentences_or_families_are_refused(found: Any, model: Any, treebank: Treebank) -> None:
    with pytest.raises(ArgumentError, match="wanted the treebank that was compared"):
        example_sentences(found, model, dataclasses.replace(treebank, trees=treebank.trees[:20]))
    changed = dataclasses.replace(treebank.trees[0], tags=("X",) * len(treebank.trees[0]))
    with pytest.raises(ArgumentError, match="and other words or trees"):
        example_sentences(found, model, dataclasses.replace(treebank, trees=(changed, *treebank.trees[1:])))
    with pytest.raises(ArgumentError, match="wanted two of adjacent words"):
        example_sentences(found, model, treebank, families=("cosine", "nothing"))
    with pytest.raises(ArgumentError, match="found int"):
        example_sentences(3, model, treebank)  # type: ignore[arg-type]  # what is refused
    other = dataclasses.replace(found, source=dataclasses.replace(found.source, content_hash="0"))
    with pytest.raises(ArgumentError, match="give the model that was compared"):
        example_sentences(other, model, treebank)


def test_what_is_no_comparison_is_refused(found: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="found str"):
        write_treebank_page("no", tmp_path / "page")  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ArgumentError, match="examples: found str"):
        write_treebank_page(found, tmp_path / "page", examples=["no"])  # type: ignore[list-item]  # what is refused
    assert not (tmp_path / "page").exists()


def test_a_comparison_without_influence_reference_or_long_relations(model: Any, tmp_path: Path) -> None:
    trees = [
        DependencyTree.from_words(("old", "dogs", "bark", "now"), [1, 2, -1, 2], name=f"s{k}") for k in range(44)
    ]
    trees = [dataclasses.replace(tree, line=k + 1) for k, tree in enumerate(trees)]
    bank = Treebank(trees=tuple(trees), source=Source())
    plain = compare_with_treebank(
        model, bank, families=["adjacent words", "cosine"], reference=None, untrained=False, resamples=50
    )
    page = write_treebank_page(plain, tmp_path / "page", examples=example_sentences(plain, model, bank))
    said = text_of(page)
    assert "adjacent words chain 1.000" in said
    assert "Relation by relation" not in said
    assert "Example sentences" not in said


def test_groups_lines_and_layers(found: Any) -> None:
    assert [kind for kind, _ in grouped(found)] == ["influence", "attention", "vectors", "baseline"]
    assert compared(found) == [OWN, "attention head", "adjacent words"]
    lines = {line[0][1].name.partition(" (")[0]: line for line in layer_lines(found)}
    assert set(lines) == {OWN, "attention, head average", "cosine"}
    assert [layer for layer, _ in lines["cosine"]] == list(range(7))
    rows = {(row[0], row[3]): row[4] for row in found.scores.rows()[1]}
    for layer, score in lines["cosine"]:
        assert score.value == pytest.approx(rows["cosine", f"layer {layer:g}"])
    assert "all blocks" not in {score.note for _, score in lines["attention, head average"]}


def test_the_page_says_how_it_was_split(found: Any, tmp_path: Path) -> None:
    half = dataclasses.replace(found, split="half")
    said = text_of(write_treebank_page(half, tmp_path / "half"))
    assert prose.CHOSEN["half"] in said
    assert prose.LUCK not in said
    assert "the two are not independent" not in said


def test_the_page_says_that_crossed_halves_make_tests_bold(page: Path, found: Any) -> None:
    (caution,) = cross_caution(found)
    assert " ".join(caution.split()) in text_of(page)
    for name in (OWN, "attention head"):
        assert f"{100 * min(c.stability for c in found.chosen(name)):.0f}\N{NO-BREAK SPACE}% for “{name}”" in caution
    assert cross_caution(found, below=0.0) == ()
    assert cross_caution(dataclasses.replace(found, reference=None)) == ()


def test_adjacent_words_stand_beside_the_layers_with_their_score_on_the_same_sentences(found: Any) -> None:
    counts, totals = found.scores.counts(), found.scores.totals()
    names = [family.name for family in found.scores.families]
    wanted = counts[:, found.scores.slices[names.index("adjacent words")]].sum() / totals.sum()
    level = level_line(found, "adjacent words")
    assert level is not None
    assert level.value == pytest.approx(wanted)
    assert level_line(found, "attention head") is None  # of many variants, no level
