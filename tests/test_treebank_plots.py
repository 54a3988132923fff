"""Figures on word graphs and treebanks: the numbers that are drawn, legends that have their room, what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")

import numpy as np

from infogeo.errors import ArgumentError, ShapeError
from infogeo.graphs import WordGraph
from infogeo.results import Source
from infogeo_adapters.plots import graph_figure
from infogeo_adapters.plots.treebank import (
    Score,
    layers_figure,
    recall_by_length_figure,
    recall_by_relation_figure,
    score_figure,
)

OWN = [Score(name="<i>own</i>", kind="influence", value=v, low=v - 0.1, high=v + 0.05) for v in (0.6, 0.4)]
HEAD = [Score(name="head", kind="attention", value=0.5, low=0.4, high=0.6), Score(name="head", kind="attention",
                                                                                 value=None)]
OFFSET = [Score(name="offset", kind="baseline", value=0.3) for _ in range(2)]


def test_scores_stand_under_their_kind_from_top_to_bottom() -> None:
    rows = [*OWN, HEAD[0]]
    made = score_figure(rows, lines=[HEAD[0], OFFSET[0]], title="T", axis="UUAS", level=0.9)
    ticks = dict(zip(made.layout.yaxis.tickvals, made.layout.yaxis.ticktext, strict=True))
    drawn = sorted((y, x) for trace in made.data for x, y in zip(trace.x, trace.y, strict=True))
    assert [x for _, x in drawn] == [0.6, 0.4, 0.5]
    assert [ticks[y] for y, _ in drawn] == ["&lt;i&gt;own&lt;/i&gt;", "&lt;i&gt;own&lt;/i&gt;", "head"]
    assert ticks[0] == "<b>influence</b>"
    assert made.data[0].error_x.array == pytest.approx([0.05, 0.05])
    assert made.data[0].error_x.arrayminus == pytest.approx([0.1, 0.1])
    assert "90 % interval" in made.data[0].customdata[0]
    assert [shape.x0 for shape in made.layout.shapes] == [0.5, 0.3]
    assert len({note.yshift for note in made.layout.annotations}) == 2
    assert {note.xanchor for note in made.layout.annotations} == {"right", "left"}
    assert "the largest is 0.600" in made.layout.meta["summary"]


def test_a_long_name_stands_in_two_lines_and_has_room() -> None:
    long = Score(name="attention, head ensemble, <relative> to distance", kind="attention", value=0.2)
    made = score_figure([*OWN, long], title="T", axis="UUAS")
    plain = score_figure([*OWN, HEAD[0]], title="T", axis="UUAS")
    assert "attention, head ensemble,<br>&lt;relative&gt; to distance" in made.layout.yaxis.ticktext
    assert made.layout.height > plain.layout.height


def test_bars_have_the_color_of_their_dots() -> None:
    made = recall_by_length_figure(["1", "2"], [OWN, OWN], counts=[10, 3])
    assert [t.error_y.color for t in made.data] == [t.marker.color for t in made.data]
    assert made.data[0].marker.color != made.data[1].marker.color


def test_nothing_is_drawn_where_there_is_no_value() -> None:
    made = recall_by_length_figure(["1", "2"], [OWN, HEAD], counts=[10, 3])
    assert len(made.data[0].x) == 2
    assert list(made.data[1].y) == [0.5]
    assert "10" in made.layout.xaxis.ticktext[0]


def test_relations_have_a_row_each_and_baselines_are_lines() -> None:
    made = recall_by_relation_figure(["nsubj", "obj"], [OWN, HEAD, OFFSET], counts=[7, 1200])
    assert [list(trace.x) for trace in made.data] == [[0.6, 0.4], [0.5], [0.3, 0.3]]
    assert np.round(np.asarray(made.data[0].y)).tolist() == [0, 1]
    assert made.data[2].marker.symbol == "line-ns"
    assert "1,200" in made.layout.yaxis.ticktext[1]


def test_layers_are_lines_beside_a_level() -> None:
    made = layers_figure([[(0.0, OWN[0]), (1.0, OWN[1])], [(1.0, HEAD[0])]], reference=OFFSET[0])
    assert list(made.data[0].x) == [0.0, 1.0]
    assert list(made.data[0].y) == [0.6, 0.4]
    assert made.layout.shapes[0].y0 == 0.3


@pytest.mark.parametrize("families", [1, 4])
def test_a_legend_has_room_for_a_line_for_each_name(families: int) -> None:
    made = recall_by_length_figure(["1", "2"], [OWN] * families, counts=[1, 1])
    assert made.layout.legend.orientation == "v"
    assert made.layout.margin.t >= 50 + 20 * families
    assert made.layout.height - made.layout.margin.t == 340


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no score"):
        score_figure([], title="T", axis="UUAS")
    with pytest.raises(ArgumentError, match="wanted one of influence"):
        score_figure([Score(name="x", kind="strange", value=1.0)], title="T", axis="UUAS")
    with pytest.raises(ShapeError, match="2 bins"):
        recall_by_length_figure(["1", "2"], [OWN[:1]], counts=[1, 1])
    with pytest.raises(ShapeError, match="1 relations"):
        recall_by_relation_figure(["a"], [OWN], counts=[1])
    with pytest.raises(ArgumentError, match="no line"):
        layers_figure([])


def test_arcs_of_equal_weight_have_one_width_and_tell_no_number() -> None:
    def graph(weight: list[float]) -> WordGraph:
        return WordGraph(
            words=("a", "b", "c", "d"), edges=[[0, 1], [1, 2], [2, 3]], distance=[1.0] * 3, weight=weight,
            directed=False, construction="tree", measure="tree", source=Source(),
        )

    alike, different = graph_figure(graph([1.0] * 3)), graph_figure(graph([1.0, 2.0, 3.0]))
    widths = [{t.line.width for t in made.data if t.mode == "lines"} for made in (alike, different)]
    assert [len(w) for w in widths] == [1, 3]
    told = [next(t.customdata[0] for t in made.data if t.mode == "markers") for made in (alike, different)]
    assert "strength" not in told[0]
    assert "strength" in told[1]
