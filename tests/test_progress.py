"""The bar that waits before it shows, and matrices on disk that survive an interruption."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from oracles import random_batch

from infogeo import Categorical, DiagonalGaussian, PointMass, euclidean_distance, fisher_rao_distance, pairwise
from infogeo.errors import ArgumentError
from infogeo_adapters import pairwise_to_file, progress_bar
from infogeo_adapters.progress import silent_bars

RNG = np.random.default_rng
pytest.importorskip("tqdm", reason="needs the extra: pip install 'infogeo[transformers]'")


def test_quick_work_shows_no_bar_and_long_work_does():
    quick, long = io.StringIO(), io.StringIO()
    with progress_bar("distances", file=quick) as show:
        for done in range(1, 11):
            show(done, 10)
    assert quick.getvalue() == ""
    with progress_bar("distances", delay=0.05, file=long) as show:
        show(3, 10)
        time.sleep(0.2)
        show(7, 10)
    assert "distances" in long.getvalue()
    assert "7/10" in long.getvalue()


class Stream(io.StringIO):
    """Stands for standard error."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def run_slowly(monkeypatch, terminal, *, delay=0.0, kind=Stream):
    stream = kind(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("distances", unit="texts", delay=delay) as show:
        for done in range(1, 11):
            time.sleep(0.02)
            show(done, 10)
    return stream.getvalue()


def test_a_log_file_gets_plain_lines_the_last_with_the_total_and_a_terminal_a_bar(monkeypatch):
    lines = ["distances: 1 of 10 texts done\n", "distances: 10 of 10 texts done\n"]
    assert run_slowly(monkeypatch, False) == "".join(lines)
    assert run_slowly(monkeypatch, False, delay=60.0) == ""
    drawn = run_slowly(monkeypatch, True)
    assert drawn.count("\r") > 1
    assert "%|" in drawn
    with silent_bars():
        assert run_slowly(monkeypatch, False) == run_slowly(monkeypatch, True) == ""


def read_until_cut():
    with progress_bar("distances", delay=0.0) as show:
        show(1, 10)
        show(7, 10)
        raise PowerCutError


def test_a_log_file_is_told_the_last_count_of_work_without_a_total_and_no_end_of_what_was_cut_off(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Stream(False))
    with progress_bar("texts read", unit="texts", delay=0.0) as show:
        for done in range(1, 4):
            show(done, 0)
    assert stream.getvalue() == "texts read: 1 texts done\ntexts read: 3 texts done\n"
    monkeypatch.setattr(sys, "stderr", stream := Stream(False))
    with pytest.raises(PowerCutError):
        read_until_cut()
    assert stream.getvalue() == "distances: 1 of 10 rows done\n"


def test_a_notebook_gets_a_bar_and_no_standard_error_nothing(monkeypatch):
    kind = type("OutStream", (Stream,), {"__module__": "ipykernel.iostream"})
    assert "%|" in run_slowly(monkeypatch, False, kind=kind)
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("distances", delay=0.0) as show:
        show(5, 10)


class PowerCutError(Exception):
    pass


def cut_after(rows):
    def progress(done, total):
        if done > rows:
            raise PowerCutError

    return progress


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical])
def test_a_file_is_finished_in_several_attempts(family, tmp_path):
    x, path = random_batch(family, 300, RNG(0), d=8), tmp_path / "distances.npy"
    record = tmp_path / "distances.npy.progress.json"
    rows = [0]
    for limit in (80, 170):
        with pytest.raises(PowerCutError):
            pairwise_to_file(path, fisher_rao_distance, x, memory=3e5, progress=cut_after(limit))
        rows.append(json.loads(record.read_text())["rows"])
        assert limit < rows[-1] < 300
    assert rows == sorted(set(rows))
    before = np.load(path)[: rows[-1]]
    seen = []
    values = pairwise_to_file(path, fisher_rao_distance, x, memory=3e5, progress=lambda done, total: seen.append(done))
    assert min(seen) > rows[-1]
    np.testing.assert_array_equal(values[: rows[-1]], before)
    np.testing.assert_allclose(values, pairwise(fisher_rao_distance, x), rtol=1e-10)
    assert not values.flags.writeable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["distances.npy"]


def test_a_process_that_is_killed_loses_little(tmp_path):
    """The process dies without a chance to clean up; another one goes on."""
    path = tmp_path / "distances.npy"
    code = f"""
        import os, signal
        import numpy as np
        from infogeo import PointMass, euclidean_distance
        from infogeo_adapters import pairwise_to_file
        x = PointMass(np.random.default_rng(0).standard_normal((300, 5)))
        kill = lambda done, total: done > 100 and os.kill(os.getpid(), signal.SIGKILL)
        pairwise_to_file({str(path)!r}, euclidean_distance, x, memory=3e5, progress=kill)
    """
    path_of_packages = ":".join(p for p in sys.path if p)
    call = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(call, env={"PYTHONPATH": path_of_packages}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "distances.npy.progress.json").read_text())["rows"] > 100
    x, seen = PointMass(RNG(0).standard_normal((300, 5))), []
    values = pairwise_to_file(path, euclidean_distance, x, memory=3e5, progress=lambda done, total: seen.append(done))
    assert min(seen) > 100
    np.testing.assert_allclose(values, pairwise(euclidean_distance, x), rtol=1e-12)


def test_files_of_other_work_are_left_alone(tmp_path):
    x, path = random_batch(PointMass, 300, RNG(0)), tmp_path / "distances.npy"
    with pytest.raises(PowerCutError):
        pairwise_to_file(path, euclidean_distance, x, memory=3e5, progress=cut_after(50))
    with pytest.raises(ArgumentError, match="its batch is"):
        pairwise_to_file(path, euclidean_distance, random_batch(PointMass, 300, RNG(1)))
    with pytest.raises(ArgumentError, match="its n is 300, not 200"):
        pairwise_to_file(path, euclidean_distance, x[:200])
    pairwise_to_file(path, euclidean_distance, x)
    with pytest.raises(ArgumentError, match="exists already"):
        pairwise_to_file(path, euclidean_distance, x)
    with pytest.raises(ArgumentError, match="batch shape"):
        pairwise_to_file(tmp_path / "other.npy", euclidean_distance, x[0])
