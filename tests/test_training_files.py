"""Histories in files: written and read again, cut short, damaged, resumed, of another run."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from infogeo.errors import ArgumentError, FormatError, OutputError
from infogeo.results import Source
from infogeo.training import RunFacts, TrainingRecord
from infogeo_adapters import read_history
from infogeo_adapters.training.history_files import FILE, HistoryWriter, parse_history


def make_facts(**changes):
    given = {
        "run": "ab12", "model": "toy", "architecture": "Toy", "depth": 2, "heads": (2, 3), "width": 8, "vocabulary": 50,
        "n_parameters": 1000, "causal": True, "objective": "next token", "dtype": "float32", "probe": "f" * 64,
        "probe_shape": (4, 12), "every": 10, "missing": {"twin": "there is one"}, "source": Source(model="toy", seed=3),
    }
    return RunFacts(**{**given, **changes})


def make_record(step, **changes):
    rng = np.random.default_rng(step)
    given = {
        "step": step,
        "values": {
            "probe_loss": np.array(rng.normal()), "state_norm": np.array([1.0, np.nan, np.inf]),
            "utilization": rng.uniform(size=2), "attention_entropy": rng.uniform(size=(2, 3)),
        },
        "twins": (2, 1), "unmoved": ("a.weight",), "seconds": 0.25,
    }
    return TrainingRecord(**{**given, **changes})


def same(one, other):
    return (one.step, one.broken_at, one.broken_pass, one.twins, one.unmoved, one.seconds) == (
        other.step, other.broken_at, other.broken_pass, other.twins, other.unmoved, other.seconds,
    ) and all(np.array_equal(one.values[n], other.values[n], equal_nan=True) for n in {**one.values, **other.values})


def write(folder, steps=(0, 10, 20), **more):
    writer = HistoryWriter(folder, make_facts(), **more)
    for step in steps:
        writer.record(make_record(step), {s: 5.0 - s / 100 for s in range(max(step - 9, 1), step + 1)})
    writer.close()
    return folder / FILE


def test_what_is_written_is_read_again_to_the_last_bit(tmp_path):
    write(tmp_path / "run", name="first")
    for path in (tmp_path / "run", tmp_path / "run" / FILE, str(tmp_path / "run")):
        history = read_history(path)
        assert history.steps == (0, 10, 20)
        assert all(same(record, make_record(record.step)) for record in history.records)
        np.testing.assert_array_equal(history.losses, [[s, 5.0 - s / 100] for s in range(1, 21)])
        assert (history.name, history.notes) == ("first", ())
        assert history.facts.to_dict() == make_facts().to_dict()


def test_a_run_without_a_name_is_called_as_its_folder(tmp_path):
    write(tmp_path / "night run")
    assert read_history(tmp_path / "night run").name == read_history(tmp_path / "night run" / FILE).name == "night run"


def test_losses_that_are_no_numbers_survive(tmp_path):
    writer = HistoryWriter(tmp_path, make_facts())
    writer.record(make_record(0, broken_at="h.1.mlp", broken_pass="backward"), {1: float("nan"), 2: float("inf")})
    writer.note("something happened", {3: 1.0})
    writer.close()
    history = read_history(tmp_path)
    np.testing.assert_array_equal(history.losses, [[1, np.nan], [2, np.inf], [3, 1.0]])
    assert same(history.records[0], make_record(0, broken_at="h.1.mlp", broken_pass="backward"))
    assert history.notes == ("something happened",)
    for line in (tmp_path / FILE).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


@pytest.mark.parametrize("left", [1, 20, 200])
def test_a_last_line_that_was_cut_short_is_left_out_and_noted(tmp_path, left):
    file = write(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    history = read_history(tmp_path)
    assert history.steps == (0, 10)
    assert history.notes == ("line 4 of the file was cut short by a crash and is left out",)


def test_a_cut_line_is_taken_away_when_the_run_goes_on(tmp_path):
    file = write(tmp_path)
    file.write_bytes(file.read_bytes()[:-30])
    writer = HistoryWriter(tmp_path, make_facts(run="cd34"), step=10)
    writer.record(make_record(20, seconds=9.0), {11: 0.5})
    writer.close()
    history = read_history(tmp_path)
    assert history.steps == (0, 10, 20)
    assert history.records[2].seconds == 9.0
    assert history.losses[-1].tolist() == [11, 0.5]
    assert history.facts.run == "ab12"  # the run goes on
    assert history.notes == ("resumed at step 10", "line 4 of the file was cut short by a crash and is left out")
    assert history.notes[:1] == tuple(n for n in writer.content.notes if n.startswith("resumed"))


def test_a_resumed_run_supersedes_what_came_after(tmp_path):
    write(tmp_path)
    writer = HistoryWriter(tmp_path, make_facts(), step=15)
    assert sorted(writer.content.records) == [0, 10]
    assert max(writer.content.losses) == 15
    writer.record(make_record(18), {16: 1.0, 17: 1.0, 18: 1.0})
    writer.close()
    history = read_history(tmp_path)
    assert history.steps == (0, 10, 18)
    assert history.losses[:, 0].tolist() == list(range(1, 19))
    assert history.losses[-3:, 1].tolist() == [1.0, 1.0, 1.0]
    assert history.notes == ("resumed at step 15",)


def test_a_record_of_the_same_step_gives_way(tmp_path):
    writer = HistoryWriter(tmp_path, make_facts())
    writer.record(make_record(0), {1: 2.0})
    writer.record(make_record(0, broken_at="wte", broken_pass="forward"), {})
    writer.close()
    (record,) = read_history(tmp_path).records
    assert record.broken_at == "wte"


def test_a_run_that_begins_where_another_is_recorded_is_refused(tmp_path):
    file = write(tmp_path)
    before = file.read_bytes()
    with pytest.raises(FormatError, match="run ab12 up to step 20, and this run begins at step 0; give another"):
        HistoryWriter(tmp_path, make_facts(run="cd34"))
    assert file.read_bytes() == before
    again = HistoryWriter(tmp_path, make_facts(), again=True)
    again.close()
    assert read_history(tmp_path).steps == (0,)


@pytest.mark.parametrize(("changes", "words"), [
    ({"probe": "e" * 64}, "another probe batch"), ({"probe_shape": (4, 13)}, "another probe batch"),
    ({"architecture": "Other"}, "another run"), ({"depth": 1, "heads": (2,)}, "another run"),
    ({"heads": (3, 3)}, "another run"), ({"n_parameters": 7, "probe": "e" * 64}, "another run"),
    ({"causal": False}, "another run"), ({"objective": "none"}, "another run"), ({"width": 9}, "another run"),
    ({"vocabulary": 51}, "another run"),
])
def test_the_file_of_another_run_or_probe_is_refused(tmp_path, changes, words):
    file = write(tmp_path)
    before = file.read_bytes()
    with pytest.raises(FormatError, match=f"history of {words} \\(.*{next(iter(changes))}: .* there, .* here"):
        HistoryWriter(tmp_path, make_facts(**changes), step=20)
    assert file.read_bytes() == before


def test_a_file_that_ended_before_anything_was_recorded_is_no_history_but_may_be_begun_anew(tmp_path):
    file = tmp_path / FILE
    for data in (b"", b'{"format": "infogeo tra'):
        file.write_bytes(data)
        with pytest.raises(FormatError, match="ended before anything was recorded"):
            read_history(tmp_path)
        HistoryWriter(tmp_path, make_facts()).close()
        assert read_history(tmp_path).steps == ()


def damaged(file, number, line):
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line + b"\n"
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize(("number", "line", "words"), [
    (3, b'{"record": {"step": 10, "val', "line 3: this is no JSON"),
    (3, b"\xff\xfe", "line 3: this is no JSON"),
    (3, b"[1, 2]", "line 3: found list, wanted an object"),
    (2, b'{"record": {"values": {}}}', "line 2: there is no 'step'"),
    (2, b'{"record": {"step": -1, "values": {}}}', "line 2: step: found -1"),
    (2, b'{"record": {"step": 1, "values": {"happiness": 1}}}', "line 2: .*'happiness'"),
    (2, b'{"record": {"step": 1, "values": {"utilization": [1, 2]}}, "losses": 3}', "line 2"),
    (2, b'{"record": {"step": 1, "values": {"utilization": [1, 2, 3]}}}', "line 2: utilization at step 1: found"),
    (2, b'{"record": {"step": 1, "values": {}, "broken_pass": "sideways"}}', "line 2: broken_pass: found 'sideways'"),
    (2, b'{"losses": [[1]]}', "line 2: not enough values"),
    (2, b'{"resumed": null}', "line 2"),
    (2, b'{"record": "lost"}', "line 2"),
    (2, b'{"record": {"step": 1, "values": [1]}}', "line 2"),
    (2, b'{"losses": [[1e999, 1]]}', "line 2"),
    (1, b"not JSON", "line 1: this is no JSON"),
    (1, b'{"step": 1, "loss": 2}', "line 1: this is no history of training"),
    (1, b"[]", "line 1: this is no history of training"),
    (1, b'{"format": "infogeo training history", "version": 99}', "line 1: found version 99"),
    (1, b'{"format": "infogeo training history", "version": 1}', "line 1: the facts of the run are incomplete"),
    (1, b'{"format": "infogeo training history", "version": 1, "facts": {"depth": 2}}', "there is no 'heads'"),
])
def test_a_damaged_line_is_named(tmp_path, number, line, words):
    file = write(tmp_path)
    damaged(file, number, line)
    with pytest.raises(FormatError, match=words):
        read_history(tmp_path)
    before = file.read_bytes()
    with pytest.raises(FormatError, match=words):
        HistoryWriter(tmp_path, make_facts(), step=20)
    assert file.read_bytes() == before


def test_what_newer_versions_add_is_passed_over(tmp_path):
    file = write(tmp_path)
    lines = file.read_text().splitlines()
    first = json.loads(lines[0])
    first["facts"]["mood"] = "good"
    first["facts"]["source"]["weather"] = "fine"
    lines[0] = json.dumps(first)
    lines.insert(1, json.dumps({"remark": "unknown"}))
    file.write_text("\n".join(lines) + "\n")
    assert read_history(file).steps == (0, 10, 20)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ArgumentError, match="No such file"):
        read_history(tmp_path)
    with pytest.raises(ArgumentError, match="No such file"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="wanted a path"):
        read_history(3)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give another"):
        HistoryWriter(tmp_path / "file", make_facts())
    with pytest.raises(OutputError, match="give another"):
        HistoryWriter(tmp_path / "file" / "deeper", make_facts())
    (tmp_path / "run" / FILE).mkdir(parents=True)
    with pytest.raises(OutputError, match="give another"):
        HistoryWriter(tmp_path / "run", make_facts())


def test_a_closed_file_takes_no_more(tmp_path):
    writer = HistoryWriter(tmp_path, make_facts())
    writer.close()
    writer.close()
    with pytest.raises(OutputError, match="is closed"):
        writer.note("late")


def test_each_line_is_in_the_file_at_once(tmp_path):
    writer = HistoryWriter(tmp_path, make_facts())
    assert read_history(tmp_path).steps == ()
    writer.record(make_record(0), {})
    assert read_history(tmp_path).steps == (0,)
    writer.close()


def test_the_reader_takes_any_number_of_resumptions(tmp_path):
    write(tmp_path)
    for step in (20, 10, 0):
        writer = HistoryWriter(tmp_path, make_facts(), step=step, again=True)
        writer.close()
    content = parse_history((tmp_path / FILE).read_bytes(), "file")
    assert sorted(content.records) == [0]
    assert content.notes == ["resumed at step 20", "resumed at step 10", "resumed at step 0"]


# What goes wrong with the file while it is written


def test_half_a_line_is_taken_back_when_the_disk_is_full(tmp_path, monkeypatch):
    real, calls = os.write, []

    def fills_up(descriptor, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:40])
        raise OSError(28, "No space left on device")

    writer = HistoryWriter(tmp_path, make_facts())
    writer.record(make_record(0), {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fills_up)
        with pytest.raises(OutputError, match="No space left on device"):
            writer.record(make_record(10), {})
    assert len(calls) == 2
    writer.note("there is space again", {})
    writer.close()
    history = read_history(tmp_path)
    assert (history.steps, history.notes) == ((0,), ("there is space again",))


def test_a_whole_line_stays_when_an_interrupt_comes_right_after_it(tmp_path, monkeypatch):
    real = os.write

    def interrupted(descriptor, data):
        real(descriptor, data)
        raise KeyboardInterrupt

    writer = HistoryWriter(tmp_path, make_facts())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.record(make_record(0), {})
    writer.record(make_record(10), {})
    writer.close()
    assert read_history(tmp_path).steps == (0, 10)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete files that are open")
def test_a_file_that_is_deleted_while_it_is_written_is_an_error(tmp_path):
    writer = HistoryWriter(tmp_path / "run", make_facts())
    writer.record(make_record(0), {})
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OutputError, match="it was deleted since this run opened it"):
        writer.record(make_record(10), {})
    writer.close()
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_with_another_interval_says_so(tmp_path):
    write(tmp_path)
    for every, wanted in (
        (10, ["resumed at step 20"]),
        (5, ["resumed at step 20"] * 2 + ["from step 20 on with a record every 5 steps, which was 10 at first"]),
    ):
        writer = HistoryWriter(tmp_path, make_facts(every=every), step=20)
        writer.close()
        assert writer.content.notes == wanted
        history = read_history(tmp_path)
        assert history.notes == tuple(wanted)
        assert history.facts.every == 10
