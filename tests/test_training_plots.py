"""Figures of a training run: what is drawn of histories, where findings are marked, and where there is no figure."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")

import numpy as np
from training_cases import made_up_diagnosis, made_up_finding, made_up_history, with_fault

from infogeo.errors import ArgumentError
from infogeo.training import QUANTITIES, TrainingHistory
from infogeo_adapters.plots._training_parts import (
    MOST_ROWS,
    Mark,
    by_layer,
    marks_of,
    quantity_name,
    scale_of,
    spread,
    upright,
)
from infogeo_adapters.plots.style import ORANGE
from infogeo_adapters.plots.training import MOST_PATHS, loss_figure, training_plane_figure
from infogeo_adapters.plots.training_maps import MOST_HEADS, attention_map_figure, layer_map_figure
from infogeo_adapters.plots.training_series import compared_figure, series_figure

HISTORY = made_up_history()
ONE = made_up_history(records=1)


def mark(name: str = "1", **more: Any) -> Mark:
    return Mark(name, made_up_finding(**more))


def texts(figure: Any) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def frames(figure: Any) -> list[tuple[float, float, float, float]]:
    return [(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes if s.type == "rect"]


def test_findings_are_numbered_and_what_follows_stands_below_its_cause() -> None:
    first = made_up_finding(related=[made_up_finding("over_smoothing"), made_up_finding("dead_head", head=2)])
    found = marks_of(made_up_diagnosis(HISTORY, [first, made_up_finding("dead_block", block=3)]))
    assert [m.name for m in found] == ["1", "1.1", "1.2", "2"]
    assert [m.finding.rule for m in found] == ["rank_collapse", "over_smoothing", "dead_head", "dead_block"]


def test_findings_of_one_rule_have_one_number() -> None:
    findings = [
        made_up_finding(block=1, related=[made_up_finding("dead_head", head=1)]), made_up_finding("dead_block"),
        made_up_finding(block=2, related=[made_up_finding("dead_head", head=2), made_up_finding("dead_units")]),
        made_up_finding(block=3, severity="warning"),
    ]
    found = marks_of(made_up_diagnosis(HISTORY, findings))
    assert [(m.name, m.finding.rule, m.finding.block, m.finding.head) for m in found] == [
        ("1", "rank_collapse", 1, None), ("1", "rank_collapse", 2, None), ("1.1", "dead_head", 2, 1),
        ("1.1", "dead_head", 2, 2), ("1.2", "dead_units", 2, None), ("2", "dead_block", 2, None),
        ("3", "rank_collapse", 3, None),
    ]


def test_units_change_entropies_only() -> None:
    assert scale_of("capacity", "bits") == pytest.approx(1 / math.log(2))
    assert {name for name in QUANTITIES if scale_of(name, "bits") != 1} <= {
        name for name, q in QUANTITIES.items() if q.unit == "nats"
    }
    assert scale_of("path_length", "bits") == scale_of("fisher_trace", "bits") == scale_of("utilization", "bits") == 1
    assert quantity_name("path_length", "bits") == "path length"
    bits, nats = (layer_map_figure(HISTORY, "capacity", units=units) for units in ("bits", "nats"))
    assert np.allclose(np.array(bits.data[0].z) * math.log(2), np.array(nats.data[0].z), rtol=1e-3)
    with pytest.raises(ArgumentError, match="units"):
        scale_of("loss", "decibels")  # type: ignore[arg-type]


def test_heads_are_averaged_without_those_that_are_not_there() -> None:
    history = with_fault(HISTORY, {"attention_entropy": np.nan}, block=2, step=100, head=1)
    values = history.series("attention_entropy")
    expected = [[np.mean([v for v in block if np.isfinite(v)]) for block in record] for record in values]
    assert np.allclose(by_layer(history, "attention_entropy"), expected)
    infinite = with_fault(HISTORY, {"capacity": np.inf}, block=1, step=0)
    assert np.isnan(by_layer(infinite, "capacity")[:, 0]).all()


def test_spread_keeps_both_ends_and_draws_no_more_than_asked() -> None:
    assert spread(4, 10).tolist() == [0, 1, 2, 3]
    at = spread(1000, 7)
    assert (len(at), at[0], at[-1]) == (7, 0, 999)


def test_the_loss_has_a_line_for_each_finding_at_its_first_step() -> None:
    made = loss_figure(HISTORY, marks=[mark("1", first=100), mark("2", first=250), mark("2.1", first=250)])
    assert [(s.x0, s.x1) for s in made.layout.shapes] == [(100, 100), (250, 250)]
    assert texts(made) == ["1", "2, 2.1"]
    each, mean, probe = made.data[:3]
    assert len(each.x) == len(HISTORY.losses)
    assert np.allclose(mean.y, HISTORY.series("loss"), rtol=1e-3)
    assert np.allclose(probe.y, HISTORY.series("probe_loss"), rtol=1e-3)
    bits = loss_figure(HISTORY, units="bits")
    assert np.allclose(np.array(bits.data[1].y) * math.log(2), mean.y, rtol=1e-3)
    assert "bits" in bits.layout.yaxis.title.text


def test_numbers_that_would_overlap_stand_in_rows_above_each_other() -> None:
    marks = [mark(str(k), first=100 + k) for k in range(1, 6)]
    _, notes, rows = upright(marks, (0.0, 1000.0))
    assert rows == 5
    assert len({note["yshift"] for note in notes}) == 5
    assert upright([mark("1", first=0), mark("2", first=500)], (0.0, 1000.0))[2] == 1
    lines, notes, _ = upright([mark("1", block=b, first=first) for b, first in ((1, 300), (2, 100))], (0.0, 1000.0))
    assert ([line["x0"] for line in lines], [note["text"] for note in notes]) == ([100], ["1"])
    lines, notes, rows = upright([mark(str(k), first=k) for k in range(30)], (0.0, 1000.0))
    assert (len(lines), len(notes), rows) == (30, MOST_ROWS, MOST_ROWS)


def test_losses_that_are_nan_leave_a_picture_of_the_others() -> None:
    losses = HISTORY.losses.copy()
    losses[50:, 1] = np.nan
    broken = TrainingHistory(facts=HISTORY.facts, records=HISTORY.records, losses=losses)
    assert len(loss_figure(broken).data[0].x) == 50
    assert loss_figure(ONE) is None
    assert loss_figure(TrainingHistory(facts=HISTORY.facts, records=())) is None


def test_the_plane_has_a_path_for_each_layer_and_a_ring_at_a_finding() -> None:
    made = training_plane_figure(HISTORY, marks=[mark("1", block=2, first=200)])
    paths, ring = made.data[:-1], made.data[-1]
    assert len(paths) == HISTORY.facts.depth + 1
    x, y = HISTORY.series("input_information"), HISTORY.series("target_information")
    for layer, path in enumerate(paths):
        assert np.allclose(path.x, x[:, layer], rtol=1e-3)
        assert np.allclose(path.y, y[:, layer], rtol=1e-3)
        assert list(path.marker.color) == list(HISTORY.steps)
        assert (path.line.color == ORANGE) == (layer == 2)
    assert [t.marker.showscale for t in paths] == [True, *[False] * HISTORY.facts.depth]
    record = HISTORY.steps.index(200)
    assert (ring.x[0], ring.y[0]) == (x[record, 2], y[record, 2])
    assert "1" in texts(made)


def test_the_plane_of_one_record_goes_through_the_layers() -> None:
    made = training_plane_figure(ONE, marks=[mark(block=3)])
    (path,) = made.data
    assert list(path.text) == ["0", "1", "2", "3", "4"]
    assert [color == ORANGE for color in path.marker.color] == [False, False, False, True, False]


def test_a_deep_model_keeps_the_layers_that_have_a_finding() -> None:
    deep = made_up_history(depth=40, heads=2, records=3)
    made = training_plane_figure(deep, marks=[mark(block=17, first=50)])
    (own,) = [trace for trace in made.data if trace.line.color == ORANGE]
    assert np.allclose(own.x, deep.series("input_information")[:, 17], rtol=1e-3)
    assert any("17" in text for text in texts(made))
    assert len(made.data) <= 16


def test_of_many_layers_with_findings_some_are_drawn() -> None:
    deep = made_up_history(depth=40, heads=2, records=3)
    made = training_plane_figure(deep, marks=[mark(str(k), block=k, first=50) for k in range(1, 41)])
    assert len(made.data) <= MOST_PATHS + 1
    assert len(made.data[-1].x) <= MOST_PATHS


def test_labels_that_would_overlap_on_the_plane_are_one() -> None:
    near = HISTORY
    for layer in (1, 2, 3):
        near = with_fault(near, {"input_information": 2.0, "target_information": 0.5}, block=layer, step=200)
    made = training_plane_figure(near, marks=[mark("1", block=1), mark("2", block=3), mark("3", block=4)])
    assert "<b>1, 2, 3</b>" in texts(made)
    assert "1, 2" in texts(made)
    assert "3" in texts(made)
    assert len(made.data[-1].x) == 3, "a ring each"


def test_no_plane_without_both_informations() -> None:
    assert training_plane_figure(made_up_history(left_out=["target_information"])) is None
    gone = HISTORY
    for layer in range(HISTORY.facts.depth + 1):
        gone = with_fault(gone, {"input_information": np.nan}, block=layer, step=0)
    assert training_plane_figure(gone) is None


def test_the_map_has_a_row_for_each_block_and_a_frame_around_a_finding() -> None:
    made = layer_map_figure(HISTORY, "capacity", marks=[
        mark("1", block=2, first=200, last=300), mark("2", block=2, first=250, last=350), mark("3", block=None),
    ])
    assert np.allclose(np.array(made.data[0].z), HISTORY.series("capacity").T, rtol=1e-3)
    assert list(made.data[0].y) == [1, 2, 3, 4]
    assert frames(made) == [(3.5, 7.5, 1.5, 2.5)]
    assert texts(made) == ["1, 2"]
    assert made.layout.xaxis.ticktext[0] == "0"
    assert made.layout.xaxis.ticktext[-1] == "400"
    assert [*layer_map_figure(HISTORY, "state_norm").data[0].y] == [0, 1, 2, 3, 4]


def test_what_was_not_measured_is_gray_and_the_title_says_so() -> None:
    gap = with_fault(HISTORY, {"capacity": np.nan}, block=1, step=200)
    made = layer_map_figure(gap, "capacity")
    assert made.data[0].z[0][-1] is None
    assert "gray: not measured" in made.layout.meta["title"]
    assert "gray" not in layer_map_figure(HISTORY, "capacity").layout.meta["title"]
    assert layer_map_figure(ONE, "capacity") is None
    assert layer_map_figure(made_up_history(left_out=["capacity"]), "capacity") is None


def test_attention_has_a_row_for_each_head_and_frames_the_block_or_the_head() -> None:
    marks = [mark("1", block=3, head=2, first=0, last=100), mark("2", block=4, first=200, last=400)]
    made = attention_map_figure(HISTORY, marks=marks)
    values = HISTORY.series("attention_entropy")
    assert np.array(made.data[0].z).shape == (16, 9)
    assert np.allclose(made.data[0].z[2 * 4 + 1], values[:, 2, 1], rtol=1e-3)
    assert frames(made) == [(-0.5, 2.5, 8.5, 9.5), (3.5, 8.5, 11.5, 15.5)]
    assert made.data[0].customdata[9][0] == "block 3, head 2, step 0"


def test_attention_of_one_record_is_by_block_and_head() -> None:
    made = attention_map_figure(ONE, marks=[mark(block=3, head=2), mark("2", block=1)])
    assert np.allclose(np.array(made.data[0].z), ONE.series("attention_entropy")[0], rtol=1e-3)
    assert frames(made) == [(1.5, 2.5, 2.5, 3.5), (0.5, 4.5, 0.5, 1.5)]


def test_of_too_many_heads_the_means_of_blocks_are_drawn_and_of_none_nothing() -> None:
    many = made_up_history(depth=12, heads=MOST_HEADS // 12 + 1, records=3)
    made = attention_map_figure(many)
    assert np.array(made.data[0].z).shape == (12, 3)
    assert (made.data[0].zmin, made.data[0].zmax) == (0, 1)
    assert attention_map_figure(made_up_history(left_out=["attention_entropy"])) is None
    none = made_up_history(depth=2, heads=0, left_out=[n for n, q in QUANTITIES.items() if q.scope == "head"])
    assert attention_map_figure(none) is None


def test_a_series_has_a_line_for_each_layer_with_the_marked_one_in_orange_on_top() -> None:
    made = series_figure(HISTORY, "contribution", marks=[mark(block=2, first=200, quantity="contribution")])
    assert len(made.data) == 4
    assert [trace.line.color == ORANGE for trace in made.data] == [False, False, False, True]
    assert np.allclose(made.data[-1].y, HISTORY.series("contribution")[:, 1], rtol=1e-3)
    assert made.layout.shapes[0].x0 == 200
    assert made.layout.yaxis.type == "linear"


def test_a_wide_range_is_drawn_on_a_logarithmic_axis_and_equal_values_are_not_magnified() -> None:
    wide = with_fault(HISTORY, {"contribution": 1e-6}, block=3, step=200)
    made = series_figure(wide, "contribution")
    assert made.layout.yaxis.type == "log"
    assert made.layout.yaxis.tickfont.size < series_figure(HISTORY, "contribution").layout.yaxis.tickfont.size
    flat = HISTORY
    for block in range(1, 5):
        flat = with_fault(flat, {"carry": 0.5}, block=block, step=0)
    low, high = series_figure(flat, "carry").layout.yaxis.range
    assert high - low > 0.4


def test_a_gap_in_a_series_stays_a_gap() -> None:
    gap = HISTORY
    for block in range(1, 5):
        gap = with_fault(gap, {"carry": np.nan}, block=block, step=150)
    records = tuple(r if r.step != 400 else HISTORY.records[-1] for r in gap.records)
    made = series_figure(TrainingHistory(facts=gap.facts, records=records), "carry")
    assert made.data[0].y[3:8] == (None,) * 5
    assert made.data[0].y[8] is not None


def test_a_series_of_one_record_goes_through_the_layers() -> None:
    made = series_figure(ONE, "dead_units", marks=[mark("1.1", block=3, quantity="dead_units")])
    (trace,) = made.data
    assert list(trace.x) == [1, 2, 3, 4]
    assert texts(made) == ["1.1"]
    assert series_figure(ONE, "probe_loss") is None, "one number makes no figure"
    assert series_figure(TrainingHistory(facts=ONE.facts, records=()), "carry") is None


def test_two_models_are_drawn_layer_by_layer() -> None:
    a, b = (h.records[-1].values for h in (HISTORY, made_up_history(seed=1)))
    made = compared_figure("attention_entropy", a["attention_entropy"], b["attention_entropy"], names=("<a>", "b"))
    assert np.allclose(made.data[0].y, a["attention_entropy"].mean(axis=1), rtol=1e-3)
    assert np.allclose(made.data[1].y, b["attention_entropy"].mean(axis=1), rtol=1e-3)
    assert made.data[0].name == "&lt;a&gt;"
    assert compared_figure("loss", a["loss"], b["loss"], names=("a", "b")) is None
    states = compared_figure("state_norm", a["state_norm"], b["state_norm"], names=("a", "b"))
    assert list(states.data[0].x) == [0, 1, 2, 3, 4]
