"""``infogeo diagnose``: what it prints where, its exit codes, what it takes for what, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer
from training_cases import made_up_history, with_fault

from infogeo.diagnosis import RULES, Thresholds
from infogeo.training import TrainingHistory
from infogeo_adapters import _cli_diagnose as command
from infogeo_adapters._cli_diagnosis_text import WIDTH
from infogeo_adapters.cli import main
from infogeo_adapters.training.checkpoints import measure_checkpoint
from infogeo_adapters.training.history_files import HistoryWriter

Capture = pytest.CaptureFixture[str]
FAULT = {"contribution": 1e-6, "dead_units": 1.0}
SMALL = ["--texts", "2", "--tokens", "8", "-q"]


def written(history: TrainingHistory, folder: Path) -> Path:
    """The folder of a run with a history."""
    writer = HistoryWriter(folder, history.facts, name=history.name)
    for record in history.records:
        writer.record(record, {int(s): float(x) for s, x in history.losses if record.step - 50 < s <= record.step})
    for note in history.notes:
        writer.note(note)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a healthy run and one with a fault in block 3 from step 200 on."""
    folder = tmp_path_factory.mktemp("runs")
    written(made_up_history(name="good", notes=["a <note>"]), folder / "good")
    written(with_fault(made_up_history(name="bad"), FAULT, block=3, step=200), folder / "bad")
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a Trainer writes it: two checkpoints, one without a tokenizer."""
    folder = tmp_path_factory.mktemp("trainer")
    for step, seed in ((100, 0), (500, 1)):
        net = make_specimen("gpt2", seed=seed)
        net.save_pretrained(folder / f"checkpoint-{step}")
    make_tokenizer().save_pretrained(folder / "checkpoint-100")
    return folder


def told(capsys: Capture, *args: str, code: int) -> tuple[str, str]:
    """What a command prints, on stdout and on stderr."""
    found = main(["diagnose", *map(str, args)])
    out, err = capsys.readouterr()
    assert found == code, (found, out, err)
    assert "Traceback" not in err
    return out, err


def failed(capsys: Capture, *args: str) -> str:
    """The message of a command that could not be done."""
    out, err = told(capsys, *args, code=2)
    assert out == ""
    assert "error in infogeo itself" not in err
    return err


def test_a_fault_is_told_with_evidence_and_advice_and_sets_the_exit_code(runs: Path, capsys: Capture) -> None:
    out, err = told(capsys, str(runs / "bad"), code=1)
    table, _, rest = out.partition("\n\n")
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "0", "1", "2", "3", "4"]
    assert "1e−06*" in lines[4]
    assert lines[4].split()[-1] == "1,1.1"
    assert lines[1].split()[-1] == "–"
    assert sum("*" in line for line in lines) == 1
    assert "1  fault: Block adds nothing (block 3, from step 200 to 400)" in rest
    assert "Try first:" in rest
    assert "1.1  follows: Dead units" in rest
    assert max(map(len, out.splitlines())) <= WIDTH
    assert "1 fault; 27 rules checked" in err.splitlines()[-1]


def test_findings_of_one_rule_are_one_entry_with_all_places_and_json_keeps_each(runs: Path, capsys: Capture) -> None:
    both = with_fault(with_fault(made_up_history(), FAULT, block=3, step=200), FAULT, block=2, step=300)
    folder = str(written(both, runs / "both"))
    out, _ = told(capsys, folder, code=1)
    plain = " ".join(out.split())
    assert out.count("fault: Block adds nothing") == 1
    assert "1 fault: Block adds nothing (blocks 2 and 3, from step 200 to 400)" in plain
    assert "1.1 follows: Dead units (blocks 2 and 3, from step 200 to 400)" in plain
    for block, step in ((2, 300), (3, 200)):
        assert f"Block {block} adds 1e-06" in plain
        assert f"Seen from step {step} to 400." in plain
    assert out.count("Look for output projections that are zero") == 1
    assert [line.split()[-1] for line in out.splitlines()[3:5]] == ["1,1.1"] * 2
    found = json.loads(told(capsys, folder, "--json", "-q", code=1)[0])
    assert [f["block"] for f in found["findings"]] == [3, 2]


def test_of_many_blocks_the_first_is_told_in_words_and_the_others_in_numbers(runs: Path, capsys: Capture) -> None:
    many = made_up_history(depth=9, name="many")
    for block in (2, 3, 4, 7, 9):
        many = with_fault(many, {"contribution": block * 1e-6}, block=block, step=200)
    out = " ".join(told(capsys, str(written(many, runs / "many")), code=1)[0].split())
    assert "Block adds nothing (blocks 2 to 4, 7 and 9, from step 200 to 400)" in out
    assert out.count("adds 2e-06 of the norm") == 1
    assert "3e-06 of the norm" not in out
    assert "And 4 more like it: contribution 3e−06 (block 3), 4e−06 (block 4), 7e−06 (block 7), 9e−06 (block 9)." in out


def test_a_fault_and_a_warning_of_one_rule_are_two_entries_with_one_advice(runs: Path, capsys: Capture) -> None:
    mixed = with_fault(made_up_history(name="mixed"), {"contribution": 1e-6}, block=3, step=200)
    over = with_fault(mixed, {"contribution": 1e-6}, block=2, step=100)
    records = tuple(
        later if 100 <= later.step < 200 else now for now, later in zip(mixed.records, over.records, strict=True)
    )
    out, _ = told(capsys, str(written(dataclasses.replace(mixed, records=records), runs / "mixed")), code=1)
    assert "1  fault: Block adds nothing (block 3, from step 200 to 400)" in out
    assert "2  warning: Block adds nothing (block 2, from step 100 to 150)" in out
    assert out.count("Look for output projections that are zero") == 1
    assert out.count("Try first: as for 1.") == 1
    assert out.splitlines()[3].count("*") == 0, "what is over marks nothing at the last record"


def test_the_file_is_as_good_as_the_folder_and_nothing_found_is_0(runs: Path, capsys: Capture) -> None:
    out, err = told(capsys, str(runs / "good" / "history.jsonl"), code=0)
    assert f"None of the {len(RULES)} rules that were checked found anything." in out
    assert "*" not in out
    assert "note of the monitor: a <note>" in err
    assert told(capsys, str(runs / "good"), code=0)[0] == out


def test_until_looks_at_the_run_as_it_stood_then(runs: Path, capsys: Capture) -> None:
    assert "found anything" in told(capsys, str(runs / "bad"), "--until", "150", code=0)[0]
    assert "from step 200 to 300" in told(capsys, str(runs / "bad"), "--until", "300", code=1)[0]
    late = written(dataclasses.replace(made_up_history(), records=made_up_history().records[3:]), runs / "late")
    assert "the first record of made-up run is of step 150" in failed(capsys, str(late), "--until", "100")


def test_a_name_that_is_no_folder_is_told_first_and_a_model_must_be_named(capsys: Capture) -> None:
    said = failed(capsys, "nowhere")
    assert "there is no folder 'nowhere' with a run or a model" in said
    assert "leave the name out" not in said


def test_the_module_of_the_command_line_runs_as_a_program() -> None:
    given = [sys.executable, "-m", "infogeo_adapters.cli", "diagnose", "--list-rules"]
    assert "sees_the_future" in subprocess.run(given, capture_output=True, text=True, check=True).stdout


def test_rules_and_thresholds_can_be_chosen(runs: Path, capsys: Capture) -> None:
    out, err = told(capsys, str(runs / "bad"), "--rules", "dead_head", code=0)
    assert out.endswith("The rule that was checked found nothing.\n")
    assert "1 rule checked" in err
    told(capsys, str(runs / "bad"), "--rules", "dead_head, dead_block", code=1)
    strict = ["--threshold", "contribution=1e-9", "--threshold", "dead_units=1.5"]
    _, err = told(capsys, str(runs / "bad"), *strict, code=0)
    assert "; with changed thresholds: contribution 1e-09, dead_units 1.5" in err
    _, err = told(capsys, str(runs / "bad"), str(runs / "good"), *strict, code=0)
    assert "; with changed thresholds: contribution 1e-09, dead_units 1.5" in err
    assert "no rule; closest: dead_head" in failed(capsys, str(runs / "bad"), "--rules", "dead_heads")
    assert "'zzz' is no rule; --list-rules prints all" in failed(capsys, str(runs / "bad"), "--rules", "zzz")
    said = failed(capsys, str(runs / "bad"), "--threshold", "update_ratio_hi=1")
    assert "'update_ratio_hi' is no threshold; closest: update_ratio_high" in said
    assert "give it as twin=NUMBER" in failed(capsys, str(runs / "bad"), "--threshold", "twin=x")
    assert "twin" in failed(capsys, str(runs / "bad"), "--threshold", "twin=-1")


def test_units_are_of_the_table_only(runs: Path, capsys: Capture) -> None:
    place = 8  # of capacity, after the layer
    nats, bits = (
        float(told(capsys, str(runs / "good"), "-u", u, code=0)[0].splitlines()[2].split()[place])
        for u in ("nats", "bits")
    )
    assert bits * math.log(2) == pytest.approx(nats, rel=0.01)


def test_json_is_the_diagnosis(runs: Path, capsys: Capture) -> None:
    found = json.loads(told(capsys, str(runs / "bad"), "--json", "-q", code=1)[0])
    assert [f["rule"] for f in found["findings"]] == ["dead_block"]
    assert found["findings"][0]["related"][0]["rule"] == "dead_units"
    assert found["page"] is None


def test_two_runs_are_compared(runs: Path, capsys: Capture) -> None:
    out, err = told(capsys, str(runs / "good"), str(runs / "bad"), code=1)
    assert "Only in the second, bad:" in out
    assert "Only in the first" not in out
    rows = [line.split() for line in out.partition("\n\n")[0].splitlines()]
    assert rows[0] == ["quantity", "layer", "head", "first", "second", "difference", "ratio"]
    assert {(row[0], row[1]) for row in rows[1:]} == {("contribution", "3"), ("dead_units", "3")}
    assert err.splitlines()[-1].endswith("0 findings only in the first, 2 only in the second, 0 in both")
    assert "1  fault: Block adds nothing" in out
    assert "1.1  follows: Dead units" in out, "its cause is in the same part"
    turned = told(capsys, str(runs / "bad"), str(runs / "good"), "--rules", "dead_block", code=1)[1]
    assert turned.splitlines()[-1].endswith("1 finding only in the first, 0 only in the second, 0 in both")
    found = json.loads(told(capsys, str(runs / "good"), str(runs / "bad"), "--json", code=1)[0])
    assert found["names"] == ["good", "bad"]
    same = told(capsys, str(runs / "good"), str(runs / "good"), code=0)[0]
    assert same == "Nothing was found in either of the two.\n"


def test_out_is_a_page_and_an_earlier_one_is_replaced(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    pytest.importorskip("jinja2", reason="needs the extra: pip install 'infogeo[plots]'")
    out = tmp_path / "page"
    for args in ([runs / "bad"], [runs / "good", runs / "bad"], [runs / "bad"]):
        printed = told(capsys, *map(str, args), "--out", str(out), code=1)[0]
        assert "Block adds nothing" in printed
    assert (out / "diagnosis.json").is_file()
    assert not (out / "comparison.json").exists()
    found = json.loads(told(capsys, str(runs / "bad"), "-o", str(out), "--json", code=1)[0])
    assert found["page"] == str(out / "index.html")
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    assert "holds no report" in failed(capsys, str(runs / "bad"), "--out", str(tmp_path))


def test_a_checkpoint_is_measured_and_what_needs_a_history_is_named(checkpoints: Path, capsys: Capture) -> None:
    code = main(["diagnose", str(checkpoints / "checkpoint-100"), *SMALL, "--json"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert code == int(any(f["severity"] == "fault" for f in found["findings"]))
    assert found["steps"] == [100]
    assert found["run"] == "checkpoint-100"
    assert "learning_rate_too_low" in found["not_checked"]
    assert "not checked: learning_rate_too_low" in err
    assert "it needs a history of two records or more" in err


def test_a_checkpoint_takes_the_tokenizer_of_another_and_two_are_compared(checkpoints: Path, capsys: Capture) -> None:
    first, second = checkpoints / "checkpoint-100", checkpoints / "checkpoint-500"
    assert "tokenizer" in failed(capsys, str(second), *SMALL)
    args = [str(first), str(second), "--tokenizer", str(first), *SMALL, "--json"]
    assert main(["diagnose", *args]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["names"] == ["checkpoint-100", "checkpoint-500"]
    assert found["steps"] == [100, 500]


@pytest.mark.parametrize(("value", "where", "place"), [
    (float("nan"), "transformer.h.1.mlp.c_fc.weight", "block 2"), (float("inf"), "transformer.wpe.weight", "embedding"),
])
def test_weights_that_are_not_finite_are_a_finding_and_other_commands_refuse_them(
    value: float, where: str, place: str, tmp_path: Path, capsys: Capture
) -> None:
    import torch

    net = make_specimen("gpt2")
    with torch.no_grad():
        net.get_parameter(where)[0, 0] = value
    net.save_pretrained(tmp_path / "checkpoint-30")
    make_tokenizer().save_pretrained(tmp_path / "checkpoint-30")
    args = [str(tmp_path / "checkpoint-30"), *SMALL]
    out, err = told(capsys, *args, code=1)
    plain = " ".join(out.split())
    assert f"1 fault: NaN or infinity ({place})" in plain
    assert f"Weights in {where} are NaN or infinite" in plain
    assert f"is that of {where.removesuffix('.weight')}." in plain
    assert "note: not measured, since the model computes NaN or infinity: probe_loss" in err
    found = json.loads(told(capsys, *args, "--json", code=1)[0])
    assert [f["rule"] for f in found["findings"]] == ["not_finite"]
    assert main(["lens", "the cat", "--model", args[0]]) == 2
    assert f"in '{where}'" in capsys.readouterr().err


def test_a_broken_number_that_the_probe_does_not_touch_is_found(tmp_path: Path, capsys: Capture) -> None:
    import torch

    net = make_specimen("gpt2")
    with torch.no_grad():
        net.transformer.wpe.weight[-1, 0] = float("nan")  # a place behind all texts of the probe
    net.save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    plain = " ".join(told(capsys, str(tmp_path / "model"), *SMALL, code=1)[0].split())
    said = "Weights in transformer.wpe.weight are NaN or infinite; no output of the probe batch is so."
    assert said in plain
    measured = measure_checkpoint(tmp_path / "model", texts=2, tokens=8, folder=tmp_path / "out")
    assert measured.records[0].broken_weights == ("transformer.wpe.weight",)
    assert measured.facts.source.content_hash is not None
    assert said in " ".join(told(capsys, str(tmp_path / "out"), code=1)[0].split()), "read from the file"


def test_a_sound_model_has_no_fault_in_half_precision(capsys: Capture) -> None:
    out, err = told(capsys, "bundled", "--dtype", "bfloat16", "--texts", "4", "-q", code=0)
    assert "found anything" in out
    assert "not checked: no_normalization: bfloat16 does not hold an input so large" in err


def test_the_probe_text_is_what_is_measured_on(checkpoints: Path, tmp_path: Path, capsys: Capture) -> None:
    probes = []
    for text in ("the cat sat on the mat and the dog ran home " * 4, "it was cold outside today because the cat " * 4):
        file = tmp_path / "text.txt"
        file.write_text(text, encoding="utf-8")
        main(["diagnose", str(checkpoints / "checkpoint-100"), "--probe", str(file), *SMALL, "--json"])
        probes.append(json.loads(capsys.readouterr().out)["layer_values"]["state_norm"])
    assert not np.allclose(probes[0], probes[1])


def test_a_probe_that_does_not_do(checkpoints: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    model = str(checkpoints / "checkpoint-100")
    assert "absent.txt cannot be read" in failed(capsys, model, "--probe", str(tmp_path / "absent.txt"))
    for name, content, said in (("empty", b"", "empty"), ("latin", b"caf\xe9 noir", "is not UTF-8"),
                                ("short", b"the", "give longer texts")):
        (tmp_path / f"{name}.txt").write_bytes(content)
        assert said in failed(capsys, model, "--probe", str(tmp_path / f"{name}.txt"), *SMALL)
    monkeypatch.setattr(command, "LONGEST", 10)
    (tmp_path / "long.txt").write_text("the cat sat on the mat", encoding="utf-8")
    said = failed(capsys, model, "--probe", str(tmp_path / "long.txt"))
    assert "found 22 bytes, wanted at most 10" in said
    assert "loading" not in said
    assert "give --tokens" in failed(capsys, model, "--tokens", "100000", "-q")


def test_what_is_neither_run_nor_model(checkpoints: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "there is no such file or folder" in failed(capsys, str(tmp_path / "absent"))
    assert "there is no such file or folder" in failed(capsys, "absent.jsonl")
    assert "found neither history.jsonl" in failed(capsys, str(tmp_path))
    said = failed(capsys, str(checkpoints))
    assert "holds 2: checkpoint-100, checkpoint-500; name one of them" in said
    assert "such as " + str(checkpoints / "checkpoint-500") in said
    assert "Missing argument" in failed(capsys)
    (tmp_path / "config.json").write_text('{"model_type": "no such thing"}', encoding="utf-8")
    assert "has no weights" in failed(capsys, str(tmp_path))


def test_a_model_without_blocks(tmp_path: Path, capsys: Capture) -> None:
    from transformers import T5Config, T5EncoderModel

    net = T5EncoderModel(T5Config(num_layers=0, num_heads=2, d_model=16, d_kv=8, d_ff=32, vocab_size=67))
    net.save_pretrained(tmp_path / "none")
    make_tokenizer().save_pretrained(tmp_path / "none")
    assert "block" in failed(capsys, str(tmp_path / "none"), *SMALL)


def test_histories_that_are_damaged(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    whole = (runs / "bad" / "history.jsonl").read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    file = tmp_path / "history.jsonl"
    for content, said in (
        ("", "an empty file"), (lines[0][:20], "no whole line"), ("{}\n", "this is no history of training"),
        (lines[0].replace('"version": 1', '"version": 99') + "".join(lines[1:]), "found version 99"),
        ("".join([*lines[:3], lines[3][:50], "\n", *lines[4:]]), "line 4"),
        ("".join(lines).replace("contribution", "no such quantity"), "no such quantity"),
    ):
        file.write_text(content, encoding="utf-8")
        assert said in failed(capsys, str(file))
    file.write_text(lines[0], encoding="utf-8")
    assert "holds no record yet" in failed(capsys, str(file))
    file.write_text(whole[:-60], encoding="utf-8")
    out, err = told(capsys, str(file), code=1)
    assert "from step 200 to 350" in out
    assert "was cut short by a crash" in err


@pytest.mark.parametrize(("args", "said"), [
    (["--probe", "x.txt"], "--probe goes with a model or checkpoint"),
    (["--dtype", "float64"], "--dtype goes with a model or checkpoint"),
    (["--tokenizer", "x"], "--tokenizer goes with a model or checkpoint"),
    (["--rules", " , "], "--rules: found no name"),
    (["--units", "decibels"], "--units"),
])
def test_what_does_not_go_with_a_run_is_a_usage_error(
    args: list[str], said: str, runs: Path, capsys: Capture
) -> None:
    assert said in failed(capsys, str(runs / "bad"), *args)


def test_until_needs_a_run(checkpoints: Path, capsys: Capture) -> None:
    said = failed(capsys, str(checkpoints / "checkpoint-100"), "--until", "3")
    assert "--until goes with the history of a run" in said


def test_models_of_different_depth_are_not_compared(runs: Path, capsys: Capture) -> None:
    deep = written(made_up_history(depth=5, name="deep"), runs / "deep")
    assert "found a model of 5 blocks, wanted 4" in failed(capsys, str(runs / "good"), str(deep))


def test_rules_are_listed_with_thresholds_reasons_and_sources(capsys: Capture) -> None:
    out, _ = told(capsys, "--list-rules", code=0)
    plain = " ".join(out.split())
    for rule in RULES.values():
        assert f"{rule.name}: {rule.title}" in plain
        assert " ".join(rule.reason.split()) in plain
        assert " ".join(rule.source.split()) in plain
    for field in dataclasses.fields(Thresholds):
        assert f"{field.name} = {field.default:g} " in plain
    assert "doublings (Micikevicius et al. 2018" in plain
    assert max(map(len, out.splitlines())) <= WIDTH


def test_what_a_file_says_is_not_sent_to_the_terminal_as_it_is(runs: Path, capsys: Capture) -> None:
    nasty = written(made_up_history(name="\x1b[31mred", notes=["\x1b[2J"]), runs / "nasty")
    out, err = told(capsys, str(nasty), code=0)
    assert "\x1b" not in out + err
