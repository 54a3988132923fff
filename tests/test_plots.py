"""Figures: what is drawn is what was given, nothing in a word is markup, nothing is too small or too pale to read."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infogeo.activations import AffinityMatrix
from infogeo.entropy_profile import EntropyProfile
from infogeo.errors import ArgumentError, MissingDependencyError, ShapeError, UnsupportedFamilyError
from infogeo.families import Categorical, DiagonalGaussian
from infogeo.graphs import WordGraph
from infogeo.manifolds import half_plane as manifold
from infogeo.results import Source
from infogeo.words import DistanceMatrix, WordDistributions
from infogeo_adapters import plots
from infogeo_adapters.plots import half_plane, style
from infogeo_adapters.plots.tokens import SPECIAL, byte_level, readable_token

pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")

HOSTILE = ("<script>alert(1)</script>", "<b>bold</b>", '<a href="javascript:alert(1)">x</a>', "&lt;", "%{x}", "a\0b")
WORDS = ("the", "dog", "saw", "the", "cat")


def word_graph(words: tuple[str, ...], edges: list[tuple[int, int]], *, directed: bool = False) -> WordGraph:
    m = len(edges)
    return WordGraph(
        words=words, edges=np.array(edges, dtype=np.int64).reshape(-1, 2), distance=np.linspace(1, 2, m),
        weight=np.linspace(1, 0.5, m), directed=directed, construction="by hand", measure="fisher_rao_distance",
        source=Source(),
    )


def distance_matrix(words: tuple[str, ...]) -> DistanceMatrix:
    x = np.arange(len(words), dtype=float) ** 1.5
    return DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=words, measure="fisher_rao_distance",
                          symmetric=True, metric=True, source=Source())


def affinity(words: tuple[str, ...], name: str = "attention of block 1, head 1", scale: float = 1.0) -> AffinityMatrix:
    values = scale * np.tril(np.arange(1.0, len(words) ** 2 + 1).reshape(len(words), -1)) / len(words) ** 2
    return AffinityMatrix(values=values, words=words, name=name, directed=True, source=Source())


def normals(words: tuple[str, ...], rng: int = 0) -> WordDistributions:
    generator = np.random.default_rng(rng)
    n = len(words)
    return WordDistributions(
        words=words, distribution=DiagonalGaussian(generator.normal(size=(n, 1)), generator.uniform(0.5, 4, (n, 1))),
        observations=np.full(n, 8), level="occurrence", layer=2, construction="component_normals", source=Source(),
    )


def profile(words: tuple[str, ...] = ("the", "dog"), tops: list[list[str]] | None = None) -> EntropyProfile:
    """Two words of which the first has two tokens, three layers."""
    names = [["Ġa", "<b>", "Ċ"], ["x", "y", "z"], ["▁u", "v", "w"]] if tops is None else tops
    table = {name: i for i, name in enumerate(dict.fromkeys(name for row in names for name in row))}
    return EntropyProfile(
        row_layers=np.arange(3), row_stages=("embedding", "resid_post", "resid_post"),
        entropy=np.array([[0.5, 1.0, 2.0], [0.1, 0.2, 0.3], [0.0, 0.7, 0.4]]), kl_to_final=np.full((3, 3), 0.25),
        kl_to_next=np.full((3, 3), np.nan), cross_entropy=np.array([[1.5, 2.5, np.nan]] * 3),
        rank=np.array([[3, 4, 0]] * 3), step_length=np.array([[np.nan] * 3, [1.0] * 3, [0.5] * 3]),
        geodesic_length=np.array([1.0, 1.5, 0.0]), top_ids=np.array([[[table[n]] for n in row] for row in names]),
        top_probabilities=np.full((3, 3, 1), 0.5), outcome_names={i: name for name, i in table.items()},
        tokens=("th", "e", "dog"), token_words=np.array([0, 0, 1]), words=words, target_ids=np.array([7, 8, -1]),
        predicts="next", n_outcomes=50, n_layers=2, source=Source(),
    )


def all_figures(words: tuple[str, ...]) -> dict[str, Any]:
    graph = word_graph(words, [(0, 1), (1, 4), (2, 3)])
    return {
        "graph": plots.graph_figure(graph),
        "pair": plots.graph_pair_figure(graph, word_graph(words, [(0, 1), (0, 4)]), left_name="l", right_name="r"),
        "distance": plots.distance_figure(distance_matrix(words)),
        "attention": plots.attention_figure([affinity(words), affinity(words, "<i>other</i>", 0.5)]),
        "half plane": plots.half_plane_figure(normals(words), graph),
        "agreement": plots.agreement_figure(
            np.full((3, 2, 4), 0.25), blocks=(1, 2), layer=1, average=np.full((3, 2), -0.5), statistic="Spearman",
            x_name="distances",
        ),
        "layers": plots.layer_agreement_figure(np.full((3, 2), -0.5), blocks=(1, 2), statistic="Spearman", x_name="d"),
        "lens": plots.lens_figure(profile(words[:2])),
        "lens of tokens": plots.lens_figure(
            dataclasses.replace(profile(words[:2], [list(words[:3])] * 3), tokens=words[:3]), positions="tokens"
        ),
        "lens bands": plots.entropy_band_figure(profile(words[:2])),
        "lens histograms": plots.entropy_histogram_figure(profile(words[:2])),
        "lens path": plots.prediction_path_figure(profile(words[:2])),
    }


def texts(plain: Any) -> Iterator[str]:
    """All strings anywhere in a figure."""
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict):
        for key, value in plain.items():
            if key != "meta":  # plain text for the page, never drawn
                yield from texts(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from texts(value)


@pytest.mark.parametrize("name", list(all_figures(WORDS)))
def test_no_word_is_read_as_markup(name: str) -> None:
    ours = {"<b>", "</b>", "<br>", "<extra>", "</extra>"}
    for text in texts(json.loads(all_figures(HOSTILE)[name].to_json())):
        rest = text
        for tag in ours:
            rest = rest.replace(tag, "")
        assert "<" not in rest, text
        assert "\0" not in text


def test_a_template_in_a_word_stays_out_of_the_templates() -> None:
    for figure in all_figures(HOSTILE).values():
        for trace in json.loads(figure.to_json())["data"]:
            assert "%{x}" not in str(trace.get("hovertemplate"))


@pytest.mark.parametrize("name", list(all_figures(WORDS)))
def test_every_letter_is_at_least_twelve_pixels(name: str) -> None:
    def sizes(plain: Any, inside: str = "") -> Iterator[float]:
        if isinstance(plain, dict):
            if "font" in inside and "size" in plain:
                yield plain["size"]
            for key, value in plain.items():
                yield from sizes(value, key)
        elif isinstance(plain, list):
            for value in plain:
                yield from sizes(value, inside)

    found = list(sizes(json.loads(all_figures(WORDS)[name].to_json())))
    assert found
    assert min(found) >= 12


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", [style.INK, style.MUTED, style.BLUE, style.GREEN, style.ORANGE])
def test_text_stands_out_from_white(color: str) -> None:
    assert 1.05 / (luminance(color) + 0.05) >= 4.5  # WCAG 2.1, 1.4.3


def test_sequential_colors_differ_in_lightness() -> None:
    light = [luminance(color) for _, color in style.CLOSE]
    assert all(a > b for a, b in itertools.pairwise(light))
    assert [color for _, color in style.FAR] == [color for _, color in style.CLOSE][::-1]
    assert [place for place, _ in style.FAR] == [place for place, _ in style.CLOSE]


def test_titles_and_summaries_say_what_is_seen() -> None:
    for figure in all_figures(WORDS).values():
        assert figure.layout.title.text
        assert figure.layout.meta["title"]
        assert figure.layout.meta["summary"]
        assert figure.layout.meta["min_width"] >= 200
        assert figure.layout.dragmode is False  # a finger scrolls the page


# word graphs


def arcs(figure: Any) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """(legend name, xs, ys) of every arc."""
    found = []
    for trace in figure.data:
        if trace.mode != "lines":
            continue
        xs: list[float] = []
        ys: list[float] = []
        for x, y in zip(trace.x, trace.y, strict=True):
            if x is None:
                found.append((trace.name, tuple(xs), tuple(ys)))
                xs, ys = [], []
            else:
                xs.append(x)
                ys.append(y)
    return found


def test_both_graphs_stand_on_the_same_words() -> None:
    left, right = word_graph(WORDS, [(0, 1), (1, 4), (2, 3)]), word_graph(WORDS, [(0, 1), (0, 4)])
    figure = plots.graph_pair_figure(left, right, left_name="left", right_name="right")
    (names,) = [t for t in figure.data if t.mode == "text"]
    assert list(names.text) == list(WORDS)  # both times "the"
    assert list(names.y) == [0, -1, -2, -3, -4]
    for graph, sign in ((left, -1), (right, 1)):
        drawn = {(round(-ys[0]), round(-ys[-1])) for _, xs, ys in arcs(figure) if np.sign(xs[0]) == sign}
        assert drawn == graph.edge_set()
    assert all(np.sign(x) == np.sign(xs[0]) and abs(x) <= 1 for _, xs, _ in arcs(figure) for x in xs)


def test_shared_edges_are_drawn_alike_on_both_sides() -> None:
    figure = plots.graph_pair_figure(
        word_graph(WORDS, [(0, 1), (1, 4), (2, 3)]), word_graph(WORDS, [(0, 1), (0, 4)]), left_name="l", right_name="r"
    )
    shared = [(xs, ys) for name, xs, ys in arcs(figure) if name == "in both"]
    assert len(shared) == 2
    (x0, y0), (x1, y1) = shared
    assert y0 == y1
    assert x0 == tuple(-x for x in x1)
    assert sum(bool(t.showlegend) for t in figure.data if t.name == "in both") == 1
    assert "1 shared edge" in figure.layout.title.text


def test_words_of_a_long_text_do_not_overlap() -> None:
    words = tuple(f"word{i}" for i in range(60))
    figure = plots.graph_figure(word_graph(words, [(0, 59), (3, 7)]))
    low, high = figure.layout.yaxis.range
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    assert height / (high - low) >= 1.3 * 14  # pixels from word to word, against the letters' size


def test_a_stronger_edge_is_thicker() -> None:
    figure = plots.graph_figure(word_graph(WORDS, [(0, 1), (1, 2), (2, 3)]))
    widths = {(round(-t.y[0]), round(-t.y[-2])): t.line.width for t in figure.data if t.mode == "lines"}
    assert widths[0, 1] > widths[1, 2] > widths[2, 3]


def test_graphs_of_different_words_are_not_put_side_by_side() -> None:
    with pytest.raises(ShapeError, match="different words"):
        plots.graph_pair_figure(word_graph(WORDS, []), word_graph(WORDS[:4], []), left_name="l", right_name="r")
    with pytest.raises(ArgumentError, match="a graph is directed"):
        plots.graph_pair_figure(word_graph("ab", [(0, 1)]), word_graph("ab", [(1, 0)], directed=True),
                                left_name="l", right_name="r")


def test_a_graph_without_edges_shows_its_words() -> None:
    figure = plots.graph_figure(word_graph(("alone",), []))
    assert [list(t.text) for t in figure.data] == [["alone"]]


# matrices


def test_distances_are_shown_as_they_are() -> None:
    distances = distance_matrix(WORDS)
    (trace,) = plots.distance_figure(distances).data
    shown = np.array(trace.z, dtype=float)
    assert np.isnan(np.diagonal(shown)).all()
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(shown[off], distances.values[off], rtol=1e-3)
    assert list(plots.distance_figure(distances).layout.xaxis.ticktext) == list(WORDS)
    assert "words 1 and 4" in trace.customdata[0][3]


def test_the_menu_offers_every_attention() -> None:
    first, second = affinity(WORDS), affinity(WORDS, "other", 0.5)
    figure = plots.attention_figure([first, second])
    np.testing.assert_allclose(figure.data[0].z, first.values, rtol=1e-3)
    (menu,) = figure.layout.updatemenus
    assert [b.label for b in menu.buttons] == [first.name, "other"]
    np.testing.assert_allclose(menu.buttons[1].args[0]["z"][0], second.values, rtol=1e-3)
    assert menu.buttons[1].args[0]["zmax"] == [pytest.approx(second.values.max(), rel=1e-3)]
    assert not plots.attention_figure([first]).layout.updatemenus
    low, high = figure.layout.yaxis.range
    assert low > high  # the first word on top


def test_attention_needs_matrices_of_the_same_words() -> None:
    with pytest.raises(ArgumentError, match="at least one"):
        plots.attention_figure([])
    with pytest.raises(ShapeError, match="different words"):
        plots.attention_figure([affinity(WORDS), affinity(WORDS[:3])])


def test_attention_of_zero_everywhere_has_a_color_range() -> None:
    figure = plots.attention_figure([affinity(WORDS, scale=0.0)])
    assert figure.data[0].zmin == 0
    assert figure.data[0].zmax == 1


def test_agreement_shows_the_layer_asked_for_and_zero_in_the_middle() -> None:
    values = np.linspace(-0.63, 0.5, 24).reshape(3, 2, 4)
    average = np.array([[0.1, 0.2], [0.3, np.nan], [0.5, 0.6]])
    figure = plots.agreement_figure(values, blocks=(2, 4), layer=1, average=average, statistic="Spearman", x_name="d")
    (trace,) = figure.data
    shown = np.array(trace.z, dtype=float)
    np.testing.assert_allclose(shown[:, :4], values[1], rtol=1e-3)
    assert shown[0, 5] == 0.3
    assert np.isnan(shown[1, 5])
    assert np.isnan(shown[:, 4]).all()
    assert trace.zmin == -trace.zmax == pytest.approx(-0.7)
    assert list(figure.layout.yaxis.ticktext) == ["2", "4"]
    assert figure.layout.updatemenus[0].active == 1
    np.testing.assert_allclose(np.array(figure.layout.updatemenus[0].buttons[2].args[0]["z"][0])[:, :4].astype(float),
                               values[2], rtol=1e-3)


def test_agreement_refuses_tables_that_do_not_belong_together() -> None:
    with pytest.raises(ShapeError, match="average must be"):
        plots.agreement_figure(np.zeros((3, 2, 4)), blocks=(1, 2), layer=0, average=np.zeros((2, 2)), statistic="s",
                               x_name="d")


def test_lens_shows_the_last_token_of_each_word_with_layer_zero_at_the_bottom() -> None:
    figure = plots.lens_figure(profile())
    (trace,) = figure.data
    np.testing.assert_allclose(np.array(trace.z, dtype=float), [[1.0, 2.0], [0.2, 0.3], [0.7, 0.4]], rtol=1e-3)
    assert list(figure.layout.yaxis.ticktext) == ["0", "1", "2"]
    assert figure.layout.yaxis.autorange is None
    assert trace.text[0][0] == "&lt;b&gt;"
    assert trace.text[0][1] == "↵"
    assert trace.text[2][0] == "v"
    assert trace.customdata[0][0][2] == "1.000"
    assert "%{customdata[2]} nats" in trace.hovertemplate
    assert "next token" in figure.layout.title.text
    bits = plots.lens_figure(profile(), units="bits")
    np.testing.assert_allclose(np.array(bits.data[0].z, dtype=float)[0], np.array([1.0, 2.0]) / np.log(2), rtol=1e-3)
    assert bits.data[0].customdata[0][0][2] == f"{1 / np.log(2):.3f}"
    assert "%{customdata[2]} bits" in bits.data[0].hovertemplate
    with pytest.raises(ArgumentError, match="nats or bits"):
        plots.lens_figure(profile(), units="bans")  # type: ignore[arg-type]


# the half-plane


def test_lines_on_the_half_plane_are_geodesics() -> None:
    words = normals(WORDS)
    graph = word_graph(WORDS, [(0, 1), (1, 4)])
    lines, points = plots.half_plane_figure(words, graph).data
    mean, std = words.distribution.mean[:, 0], np.sqrt(words.distribution.var[:, 0])  # type: ignore[attr-defined]
    np.testing.assert_allclose(points.x, mean)
    np.testing.assert_allclose(points.y, std)
    x = np.array(lines.x, dtype=float).reshape(2, -1)[:, :-1]
    y = np.array(lines.y, dtype=float).reshape(2, -1)[:, :-1]
    for (i, j), xs, ys in zip(graph.edges, x, y, strict=True):
        start, end = np.array([mean[i], std[i]]), np.array([mean[j], std[j]])
        path = np.stack([xs, ys], axis=-1)
        total = manifold.distance(start, end)
        np.testing.assert_allclose(manifold.distance(start, path) + manifold.distance(path, end), total, rtol=1e-4)
        np.testing.assert_allclose(np.diff(manifold.distance(start, path)), total / (len(xs) - 1), rtol=1e-2)


def test_the_half_plane_holds_univariate_normals_only() -> None:
    n = len(WORDS)
    other = WordDistributions(
        words=WORDS, distribution=Categorical.from_probs(np.full((n, 2), 0.5)), observations=np.ones(n, dtype=np.int64),
        level="occurrence", layer=0, construction="c", source=Source(),
    )
    with pytest.raises(UnsupportedFamilyError, match="univariate normals"):
        plots.half_plane_figure(other)
    with pytest.raises(ShapeError, match="different words"):
        plots.half_plane_figure(normals(WORDS), word_graph(WORDS[:3], []))


def test_one_word_on_the_half_plane() -> None:
    figure = plots.half_plane_figure(normals(("alone",)))
    assert list(figure.data[0].text) == ["alone"]
    low, high = figure.layout.xaxis.range
    assert low < figure.data[0].x[0] < high


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_labels_on_the_half_plane_never_overlap(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=n), generator.uniform(1, 2, n)
    texts = ["w" * int(k) for k in generator.integers(1, 12, n)]
    shown, places = half_plane._placed(texts, x, y, (-4.0, 4.0), (0.9, 2.1))
    width, height = half_plane.PLOT
    offsets = {name: (dx, dy) for name, dx, dy in half_plane.PLACES}
    boxes = []
    for text, place, px, py in zip(shown, places, (x + 4) / 8 * width, (y - 0.9) / 1.2 * height, strict=True):
        if text:
            dx, dy = offsets[place]
            half = len(text) * 3.5
            cx, cy = px + dx * (half + 6), py + dy * 12  # plotly's textPointPosition for a marker of 8 pixels
            boxes.append((cx - half, cx + half, cy - 6, cy + 6))
    assert shown.count("") < n
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert not half_plane._overlap(a, b)


# small things


def test_missing_plotly_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingDependencyError, match=r"infogeo\[plots\]"):
        plots.distance_figure(distance_matrix(WORDS))


@given(st.text())
def test_labels_hold_nothing_that_a_browser_or_a_terminal_obeys(text: str) -> None:
    shown = style.label(text, None)
    assert "<" not in shown
    assert ">" not in shown
    assert all(ord(c) >= 32 and ord(c) != 127 for c in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    shown.encode("utf-8")


def test_a_cut_label_stays_escaped() -> None:
    assert style.label("&" * 30, 5) == "&amp;&amp;&amp;&amp;…"
    assert style.visible("a\tb\n", keep="\n") == "a␉b\n"
    assert style.readable("kl_divergence") == "KL divergence"


# tokens


def spelled(text: str) -> str:
    """A text in the signs of a byte-level tokenizer, by the rule that GPT-2 made known."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return "".join(chr(b) if b in own else chr(256 + others.index(b)) for b in text.encode("utf-8"))


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1))
def test_bytes_are_read_back(text: str) -> None:
    raw = spelled(text)
    assert raw.isprintable()
    if not SPECIAL.fullmatch(raw):
        assert readable_token(raw, in_bytes=True) == text


def test_bytes_that_are_no_character_are_numbers() -> None:
    assert spelled("“") == "âĢľ"
    assert readable_token("âĢľ", in_bytes=True) == "“"
    assert readable_token("âĢ", in_bytes=True) == "⟨0xE2⟩⟨0x80⟩"
    assert readable_token("ľa", in_bytes=True) == "⟨0x9C⟩a"
    assert readable_token("<0xE2>", in_bytes=False) == "⟨0xE2⟩"
    assert readable_token("<|endoftext|>", in_bytes=True) == "<|endoftext|>"


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        (["The", "Ġdog"], True), (["Hi", "âĢľ"], True), (["<|begin|>", "Ġa", "<｜x▁y｜>", "  "], True),
        (["The", "dog"], False), (["caf", "##é"], False), (["café", "naïve"], False), (["▁The", "Ġ"], False),
        (["##ā", "Ċ"], False), ([], False),
    ],
)
def test_byte_level_is_seen_from_the_tokens(tokens: list[str], wanted: bool) -> None:
    assert byte_level(tokens) is wanted


def test_the_lens_shows_characters_for_bytes() -> None:
    made = profile(tops=[["Ġa", "âĢľ", "Ċ"], ["x", "Ã©", "z"], ["âĢ", "âĢ", "w"]])
    (trace,) = plots.lens_figure(made).data
    assert [list(row) for row in trace.text] == [["“", "↵"], ["é", "z"], ["⟨0xE2⟩⟨0…", "w"]]
    assert trace.customdata[0][0][4] == "“ 0.500"
