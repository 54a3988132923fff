"""The blind benchmark of the diagnosis runs, goes on where it was, and counts what was found as it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import benchmark_modules

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo import RULES

RUNS = ("tutorial: no mask", "masked: plain masked")


@pytest.fixture(scope="module")
def bench():
    with benchmark_modules("blind_faults") as (module,):
        yield module


def test_a_fault_and_a_healthy_run(bench, tmp_path, capsys):
    given = ["--folder", str(tmp_path), "--steps", "6", "--only", *RUNS]
    assert bench.main([*given, "--details"]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0][2:] for line in lines if ": " in line] == list(RUNS)
    assert "sees_the_future at 0" in printed
    assert "1 of 1 (100%, " in printed
    marks = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")}
    assert len(marks) == 4
    assert bench.main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json*")} == marks
    assert capsys.readouterr().out.split("runs,")[0] == printed.split("runs,")[0]


def test_cases_name_rules_that_there_are(bench):
    cases = bench.CASES.values()
    assert {rule for case in cases for rule in case.right + case.relevant} <= {*RULES, bench.REFUSED}
    assert sum(not case.healthy for case in cases) >= 15
    assert sum(case.healthy for case in cases) >= 12
    assert all(case.text and case.setting in bench.SETTINGS for case in cases)


@pytest.mark.parametrize(
    ("right", "relevant", "found", "below", "healthy", "verdict"),
    [
        ("dead_head", "", "dead_head dead_block", "", False, "hit"),
        ("dead_head", "", "dead_block", "dead_head", False, "related"),
        ("dead_head", "", "dead_block", "", False, "miss"),
        ("dead_head", "", "", "", False, "miss"),
        ("", "dead_head", "dead_block", "dead_head", False, "relevant"),
        ("", "dead_head", "dead_block", "", False, "other"),
        ("", "dead_head", "", "", False, "silent"),
        ("", "", "", "", True, "quiet"),
        ("", "", "dead_head", "", True, "false alarm"),
    ],
)
def test_verdicts(bench, right, relevant, found, below, healthy, verdict):
    case = bench.Case("x", "masked", lambda t: None, healthy, tuple(right.split()), tuple(relevant.split()))
    related = tuple(SimpleNamespace(rule=rule) for rule in below.split())
    findings = tuple(
        SimpleNamespace(rule=rule, related=related, severity="fault", first_step=1) for rule in found.split()
    )
    outcome = bench.Outcome(case, {"refused": None}, findings)
    assert outcome.verdict == verdict
    assert outcome.reported.startswith(f"{found.split()[0]} at 1" if found else "nothing")


def test_interval_of_clopper_and_pearson(bench):
    # With no failure in n the upper end p has (1 - p)^n = 0.025.
    assert bench.interval(0, 10) == f"0 of 10 (0%, 0% to {1 - 0.025 ** 0.1:.0%})"
    assert bench.interval(0, 0) == "0 of 0"
