"""The pages of ``infogeo diagnose``: their files, what they say, what is marked, and histories with little in them."""

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

pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
pytest.importorskip("jinja2", reason="needs the extra: pip install 'infogeo[plots]'")

from training_cases import made_up_diagnosis, made_up_finding, made_up_history, run_facts, with_fault

from infogeo.diagnosis import compare_runs, diagnose
from infogeo.errors import ArgumentError, OutputError
from infogeo.training import QUANTITIES, TrainingHistory, TrainingRecord
from infogeo_adapters import write_diagnosis, write_run_comparison
from infogeo_adapters.training import _page_prose as prose
from infogeo_adapters.training import page as builder
from infogeo_adapters.training._page_sections import facts, number, places_of, sections, where_of
from infogeo_adapters.training.comparison_page import widest_differences

FILES = {
    "index.html", "plotly.min.js", "manifest.json", "diagnosis.json", "findings.csv", "layers.csv", "history.csv",
}
HISTORY = with_fault(
    made_up_history(notes=["resumed at <step> 150"]), {"contribution": 1e-6, "dead_units": 1.0}, block=3, step=200
)
DIAGNOSIS = diagnose(HISTORY)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_diagnosis(DIAGNOSIS, HISTORY, tmp_path_factory.mktemp("pages") / "new" / "page")


def text_of(page: Path) -> str:
    """What a reader sees of the page, without figures."""
    body = page.read_text(encoding="utf-8").partition('<script type="application/json"')[0].partition("<body>")[2]
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", body)).split())


def figures_of(page: Path) -> dict[str, Any]:
    """The figures of the page by id."""
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    return {f["id"]: f["figure"] for f in json.loads(found[1])} if found else {}


def ids(history: TrainingHistory, diagnosis: Any = None) -> list[str]:
    return [s.id for s in sections(diagnosis or diagnose(history), history, [])]


def test_all_files_are_there_and_the_page_loads_nothing_from_the_network(page: Path) -> None:
    assert page.name == "index.html"
    assert {p.name for p in page.parent.iterdir()} == FILES
    source = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', source)
    assert "default-src 'none'" in source
    nonces = set(re.findall(r'nonce="([^"]+)"', source)) | set(re.findall(r"'nonce-([^']+)'", source))
    assert len(nonces) == 1


def test_findings_stand_on_top_in_words_with_evidence_and_advice(page: Path) -> None:
    finding = DIAGNOSIS.findings[0]
    assert finding.rule == "dead_block"
    assert finding.related[0].rule == "dead_units"
    shown = text_of(page)
    for said in (finding.title, finding.explanation, finding.advice, finding.related[0].title):
        assert said in shown
    assert finding.evidence[1:] in shown
    assert "block 3, from step 200 to 400" in shown
    assert "moves the prediction by a Fisher-Rao length of" in shown, "which is not in nats"
    order = [shown.index(said) for said in (finding.title, prose.LOSS, prose.PLANE, prose.CAPACITY, prose.PROVENANCE)]
    assert order == sorted(order)
    assert 'id="finding-1"' in page.read_text(encoding="utf-8")


def test_the_finding_is_marked_on_every_figure_that_it_is_about(page: Path) -> None:
    figures = figures_of(page)
    said = {id_: [a["text"] for a in f["layout"].get("annotations", ())] for id_, f in figures.items()}
    assert said["loss-plot"] == ["1, 1.1"]
    assert "1, 1.1" in said["plane-plot"]
    assert said["capacity-plot"] == said["utilization-plot"] == ["1, 1.1"]
    assert said["series-contribution"] == ["1"]
    assert said["series-dead-units"] == ["1.1"]
    assert said["series-carry"] == []
    assert said["attention-plot"] == []
    ring = figures["loss-plot"]["layout"]["shapes"][0]
    assert (ring["x0"], ring["x1"]) == (200, 200)


def test_the_table_of_layers_marks_what_findings_are_about(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert source.count('class="number marked"') == 2
    row = re.search(r'<tr><th scope="row" class="number">3</th>.*?</tr>', source, re.S)
    assert row is not None
    assert re.findall(r'href="#finding-1"[^>]*>([^<]+)<', row[0]) == ["1", "1.1"]
    assert "1e−06" in row[0]


def test_every_quantity_has_a_figure_or_is_said_to_be_zero(page: Path) -> None:
    figures = figures_of(page)
    zero = re.search(r"Zero throughout, so not drawn: ([^.]*)\.", text_of(page))
    assert zero is not None
    drawn = {id_.removeprefix("series-").replace("-", "_") for id_ in figures}
    undrawn = {name.replace(" ", "_") for name in zero[1].split(", ")}
    told = {name for names in prose.GROUPS.values() for name in names}
    own = {"capacity", "utilization", "loss", "probe_loss", "loss_lowest", "loss_highest"}
    assert told | own == set(QUANTITIES)
    assert {name for name in told if name not in drawn} == undrawn
    assert undrawn == {
        "saturated_units", "nonfinite", "future_sensitivity", "batch_repetition", "unmoved", "answer_shown",
        "gradient_carryover",
    }


def test_findings_of_one_rule_are_one_card_with_the_evidence_of_each(tmp_path: Path) -> None:
    findings = [
        made_up_finding(
            block=b, first=100 * b, evidence=f"seen in {b}.", related=[made_up_finding("dead_head", block=b)]
        )
        for b in (1, 2, 3, 4)
    ]
    findings.append(made_up_finding(block=2, severity="warning", evidence="passing."))
    diagnosis = made_up_diagnosis(HISTORY, findings)
    page = write_diagnosis(diagnosis, HISTORY, tmp_path / "page")
    shown, source = text_of(page), page.read_text(encoding="utf-8")
    assert re.findall(r'id="finding-([^"]*)"', source) == ["1", "2"]
    assert "blocks 1 to 4, from step 100 to 400 Seen in 1. Seen from step 100 to 400. and 3 more like it" in shown
    for block in (2, 3):
        assert f"Seen in {block}. Seen from step {100 * block} to 400." in shown
    assert "Seen in 4. Seen at step 400." in shown
    assert shown.count("1.1 Dead head (blocks 1 to 4, from step 200 to 400)") == 1
    assert shown.count("Bring the residual back.") == 1
    assert shown.count("As for finding 1.") == 1
    assert ("Found", "4 faults of 1 kind and 1 warning") in facts(diagnosis, HISTORY)
    said = {id_: [a["text"] for a in f["layout"].get("annotations", ())] for id_, f in figures_of(page).items()}
    assert said["capacity-plot"] == ["1, 1.1", "1, 1.1, 2", "1, 1.1", "1, 1.1"]
    assert [f["block"] for f in json.loads((page.parent / "diagnosis.json").read_text())["findings"]] == [1, 2, 3, 4, 2]
    with (page.parent / "findings.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 9


def test_notes_of_the_monitor_are_told_and_nothing_is_taken_for_markup(page: Path) -> None:
    assert "Note of the monitor: resumed at <step> 150" in text_of(page)
    assert "<step>" not in page.read_text(encoding="utf-8")


def test_tables_hold_every_number(page: Path) -> None:
    with (page.parent / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(HISTORY.rows()[1])
    one = next(r for r in rows if r["quantity"] == "dead_units" and r["step"] == "200" and r["layer"] == "3")
    assert float(one["value"]) == 1.0
    with (page.parent / "findings.csv").open(encoding="utf-8", newline="") as file:
        assert [r["rule"] for r in csv.DictReader(file)] == [row[1] for row in DIAGNOSIS.rows()[1]]
    assert json.loads((page.parent / "diagnosis.json").read_text(encoding="utf-8"))["run"] == "made-up run"


def test_a_very_long_history_is_written_without_single_heads(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(builder, "MOST_VALUES", 100)
    page = write_diagnosis(DIAGNOSIS, HISTORY, tmp_path / "page")
    with (page.parent / "history.csv").open(encoding="utf-8", newline="") as file:
        names = {row["quantity"] for row in csv.DictReader(file)}
    assert names == {name for name, q in QUANTITIES.items() if q.scope != "head"}
    assert "but for those of single heads" in text_of(page)


def test_a_healthy_run_says_so_and_has_no_marks(tmp_path: Path) -> None:
    history = made_up_history(depth=2)
    diagnosis = made_up_diagnosis(history)
    page = write_diagnosis(diagnosis, history, tmp_path / "page")
    assert prose.nothing(2) in text_of(page)
    assert ("Found", "nothing") in facts(diagnosis, history)
    assert all(not s.cards for s in sections(diagnosis, history, []))
    source = page.read_text(encoding="utf-8").partition("<body>")[2]
    assert 'class="badge' not in source
    assert 'scope="col">findings' not in source


def test_one_record_has_figures_through_the_layers_and_says_what_was_not_checked(tmp_path: Path) -> None:
    one = made_up_history(records=1, left_out=["loss", "update_ratio", "learning_rate"])
    one = with_fault(one, {"contribution": 1e-6}, block=2, step=0)
    diagnosis = diagnose(one)
    page = write_diagnosis(diagnosis, one, tmp_path / "page", units="bits")
    found = [s.id for s in sections(diagnosis, one, [])]
    assert found == ["findings", "layers", "plane", "capacity", "attention", "series", "not-checked", "provenance"]
    shown, figures = text_of(page), figures_of(page)
    assert prose.LEAD_OF_ONE in shown
    assert "from step" not in shown.partition("Provenance and files This")[0].partition("What was found Each")[2]
    assert figures["capacity-plot"]["data"][0]["x"] == [1, 2, 3, 4]
    assert figures["series-state-norm"]["layout"]["xaxis"]["title"]["text"] == "layer"
    assert "Capacity, bits" in shown
    assert diagnosis.not_checked
    for why in diagnosis.not_checked.values():
        assert why in shown
    assert "probe batch, so" not in shown
    assert "learning rate" not in shown.partition("One number each")[2].partition(".")[0]


def test_a_checkpoint_whose_steps_are_not_known_is_not_said_to_be_of_step_0() -> None:
    one = made_up_history(records=1)
    assert "Step" not in dict(facts(diagnose(one), one))
    known = dataclasses.replace(one, records=(dataclasses.replace(one.records[0], step=500),))
    assert dict(facts(diagnose(known), known))["Step"] == "500"


def test_little_or_nothing_measured_leaves_no_empty_figure() -> None:
    facts_ = run_facts(every=0, missing={"attention_entropy": "the module has no <attention>"})
    empty = TrainingHistory(facts=facts_, records=())
    assert ids(empty) == ["findings", "not-checked", "provenance"]
    loss = TrainingHistory(facts=facts_, records=(TrainingRecord(step=0, values={"probe_loss": 3.0}),))
    assert ids(loss) == ["findings", "not-checked", "provenance"]
    two = TrainingHistory(facts=facts_, records=tuple(
        TrainingRecord(step=k, values={"probe_loss": np.array(3.0 - k)}) for k in (0, 1)
    ))
    assert ids(two) == ["findings", "loss", "not-checked", "provenance"]


def test_nan_throughout_is_drawn_nowhere(tmp_path: Path) -> None:
    records = tuple(
        TrainingRecord(step=r.step, values={n: np.full_like(v, np.nan) for n, v in r.values.items()},
                       broken_at="h.1.mlp", broken_pass="forward")
        for r in made_up_history(records=3).records
    )
    broken = TrainingHistory(facts=run_facts(), records=records)
    diagnosis = diagnose(broken)
    page = write_diagnosis(diagnosis, broken, tmp_path / "page")
    assert figures_of(page) == {}
    assert "h.1.mlp" in text_of(page)
    assert diagnosis.exit_code == 1


def test_a_run_that_breaks_half_way_is_drawn_up_to_there(tmp_path: Path) -> None:
    whole = made_up_history()
    records = tuple(
        r if r.step < 250 else dataclasses.replace(r, values={n: np.full_like(v, np.nan) for n, v in r.values.items()},
                                                   broken_at="h.0.attn", broken_pass="backward")
        for r in whole.records
    )
    losses = whole.losses.copy()
    losses[250:, 1] = np.nan
    broken = TrainingHistory(facts=whole.facts, records=records, losses=losses, name="broken")
    page = write_diagnosis(diagnose(broken), broken, tmp_path / "page")
    figures = figures_of(page)
    assert max(figures["loss-plot"]["data"][0]["x"]) == 250
    assert figures["capacity-plot"]["data"][0]["z"][0][-1] is None
    assert "measured at step 200, the last record with numbers; that of step 400 has none." in text_of(page)
    assert np.allclose(diagnose(broken).layer_values["state_norm"], whole.records[4].values["state_norm"])
    assert "NaN" not in json.dumps(figures)


def test_what_names_say_is_not_markup(tmp_path: Path) -> None:
    facts_ = run_facts(model="<script>alert(1)</script>", missing={"loss": "<b>no</b>"})
    history = dataclasses.replace(made_up_history(records=2), facts=facts_, name="</title><script>x</script>\x1b")
    finding = made_up_finding(evidence="the <i>cosine</i>.", first=0, last=50, related=[made_up_finding("<u>")])
    page = write_diagnosis(made_up_diagnosis(history, [finding], not_checked={"<s>": "<b>"}), history, tmp_path / "p")
    source = page.read_text(encoding="utf-8")
    for bad in ("<script>x", "<script>alert", "<i>cosine", "<u>", "<b>no", "<s>", "\x1b"):
        assert bad not in source


def test_places_and_steps_in_words() -> None:
    assert where_of([made_up_finding(block=2, head=3, first=100, last=100)]) == "block 2, head 3, at step 100"
    assert where_of([made_up_finding(block=None, first=0, last=1200)]) == "the whole model, from step 0 to 1,200"
    assert where_of([made_up_finding(block=0)], single=True) == "embedding"
    assert places_of([made_up_finding(block=b) for b in (None, 0, 5, 1, 2, 3, 7, 8)]) == (
        "the whole model; embedding; blocks 1 to 3, 5, 7 and 8"
    )
    heads = [made_up_finding(block=b, head=h) for b, h in ((2, 3), (2, 1), (1, 4), (2, 2))]
    assert places_of(heads) == "block 1, head 4; block 2, heads 1 to 3"
    assert [number(v) for v in (None, float("nan"), -0.5, float("inf"), 1.5e7)] == ["–", "–", "−0.5", "∞", "1.5e07"]


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="records that the diagnosis was made from"):
        write_diagnosis(DIAGNOSIS, HISTORY.until(100), tmp_path / "page")
    with pytest.raises(ArgumentError, match="diagnosis: found str"):
        write_diagnosis("x", HISTORY, tmp_path / "page")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="history: found Diagnosis"):
        write_diagnosis(DIAGNOSIS, DIAGNOSIS, tmp_path / "page")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="units"):
        write_diagnosis(DIAGNOSIS, HISTORY, tmp_path / "page", units="shannon")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="comparison: found Diagnosis"):
        write_run_comparison(DIAGNOSIS, tmp_path / "page")  # type: ignore[arg-type]
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(OutputError, match="holds no report"):
        write_diagnosis(DIAGNOSIS, HISTORY, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    healthy = dataclasses.replace(made_up_history(seed=3), name="healthy")
    found = compare_runs(healthy, HISTORY)
    page = write_run_comparison(found, tmp_path / "page")
    assert {p.name for p in page.parent.iterdir()} == {
        "index.html", "plotly.min.js", "manifest.json", "comparison.csv", "comparison.json",
    }
    shown, figures = text_of(page), figures_of(page)
    assert "Found only in made-up run 1 Block adds nothing" in shown
    assert "Found only in healthy" not in shown
    assert "Note of the monitor of made-up run: resumed at <step> 150" in shown
    assert "What follows from it 1.1 Dead units (block 3, from step 200 to 400)" in shown
    drawn = figures["compared-contribution"]["data"]
    assert np.allclose(drawn[0]["y"], found.first["contribution"], rtol=1e-3)
    assert np.allclose(drawn[1]["y"], found.second["contribution"], rtol=1e-3)
    assert [trace["name"] for trace in drawn] == ["healthy", "made-up run"]
    rows = widest_differences(found, 30)
    assert len({row[0] for row in rows}) == len(rows)
    assert {row[:2] for row in rows[:2]} == {("dead_units", 3), ("contribution", 3)}
    assert "compared-unmoved" not in figures
    assert re.search(r"Zero throughout, so not drawn: [^.]*unmoved", shown)


def test_a_share_that_is_next_to_nothing_is_no_wide_difference() -> None:
    first = made_up_history(records=2)
    other = with_fault(first, {"dead_units": 0.005, "contribution": 4.0}, block=2, step=0)
    rows = [row for row in compare_runs(first, other).most_different() if row[1] == 2]
    assert [row[0] for row in rows] == ["contribution", "dead_units"]
    many = compare_runs(first, with_fault(first, {"dead_units": 0.9, "contribution": 4.0}, block=2, step=0))
    assert [row[0] for row in many.most_different() if row[1] == 2] == ["dead_units", "contribution"]


def test_the_same_name_twice_is_told_apart_and_no_difference_is_said(tmp_path: Path) -> None:
    history = made_up_history(records=1)
    found = compare_runs(history, history, rules=["dead_block"])
    shown = text_of(write_run_comparison(found, tmp_path / "page", units="bits"))
    assert "made-up run (first) and made-up run (second)" in shown
    assert prose.NOTHING_IN_BOTH in shown
    assert "Where they differ most" not in shown
