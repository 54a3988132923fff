"""``infogeo compare --treebank``: what it prints where, its exit codes, and what it refuses before any work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("conllu", reason="needs the extra: pip install 'infogeo[treebank]'")

from infogeo_adapters import _cli_treebank as command
from infogeo_adapters.cli import main

Capture = pytest.CaptureFixture[str]
FEW = ["--sentences", "12", "--families", "adjacent words,cosine", "--no-untrained", "-q"]


def failed(capsys: Capture, *args: str) -> str:
    """The message of a command that could not be done, before any model was loaded."""
    code = main(["compare", *args])
    out, err = capsys.readouterr()
    assert code == 2, (code, err)
    assert out == ""
    assert "Traceback" not in err
    assert "loading" not in err
    return err


def test_the_table_has_a_line_for_each_family_and_fits_a_terminal(capsys: Capture) -> None:
    assert main(["compare", "--treebank", "sample", *FEW]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["family", "attention head", "adjacent words", "cosine"]
    assert max(map(len, lines)) <= command.WIDTH
    assert "few sentences" in err
    assert "EstimateWarning" not in err
    assert "skipped, " not in err.splitlines()[0]
    assert "sentences are reported on" in err.splitlines()[-1]


def test_json_is_the_comparison_and_a_folder_gives_the_same_again(tmp_path: Path, capsys: Capture) -> None:
    found = []
    for _ in range(2):
        assert main(["compare", "-t", "sample", *FEW, "--json", "--resume", str(tmp_path / "kept")]) == 1
        found.append(json.loads(capsys.readouterr().out))
    assert list((tmp_path / "kept").iterdir())
    assert found[0]["estimates"] == found[1]["estimates"]
    assert {e["family"] for e in found[0]["estimates"]} >= {"attention head", "adjacent words", "cosine"}


def test_only_an_influence_graph_that_is_above_the_reference_is_a_finding() -> None:
    def result(kind: str, value: float, p: float | None) -> Any:
        told = {"one": SimpleNamespace(family="one", value=value, p_holm=p)}
        return SimpleNamespace(
            families=[SimpleNamespace(name="one", kind=kind)], reference="attention head", difference=told.__getitem__
        )

    assert command.above_reference(result("influence", 0.02, 0.01), 0.05) == ["one"]
    for kind, value, p in (("vectors", 0.02, 0.01), ("influence", -0.02, 0.01), ("influence", 0.02, 0.06),
                           ("influence", 0.02, None)):
        assert command.above_reference(result(kind, value, p), 0.05) == []


def test_names_of_families_may_hold_commas() -> None:
    assert command.family_list("influence, word hidden, cosine") == (
        "attention head", "influence, word hidden", "cosine"
    )
    assert command.family_list(None) is None


@pytest.mark.parametrize(("args", "said"), [
    (["The cat.", "--treebank", "sample"], "TEXT does not go with --treebank"),
    (["--treebank", "sample", "--heads"], "--heads does not go with --treebank"),
    (["--treebank", "sample", "--layer", "3"], "--layer does not go with --treebank"),
    (["--treebank", "sample", "--choose", "sample", "--split", "half"], "--split divides one treebank"),
    (["The cat.", "--choose", "sample"], "--choose goes with --treebank"),
    (["The cat.", "--families", "cosine"], "--families goes with --treebank"),
    (["--treebank", "sample", "--families", "nothing"], "'nothing' is none of: adjacent words; "),
    (["--treebank", "sample", "--sentences", "0"], "--sentences"),
])
def test_what_does_not_go_together_is_a_usage_error(args: list[str], said: str, capsys: Capture) -> None:
    assert said in failed(capsys, *args)


def test_files_that_are_no_treebank(tmp_path: Path, capsys: Capture) -> None:
    assert "absent.conllu" in failed(capsys, "--treebank", str(tmp_path / "absent.conllu"))
    for name, content in (("empty", ""), ("bad", "1\tonly three\tcolumns\n\n")):
        path = tmp_path / f"{name}.conllu"
        path.write_text(content, encoding="utf-8")
        assert path.name in failed(capsys, "--treebank", str(path))
