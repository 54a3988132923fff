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
    (["--treebank", "sample", "--families", "nothing"], "'nothing' is no family; '--families list' prints all"),
    (["--treebank", "sample", "--families", "cosine, influence, word hiden, Euclidean"],
     "'influence, word hiden' is no family; closest: 'influence, word hidden', "),
    (["--treebank", "sample", "--sentences", "0"], "--sentences"),
    (["--treebank", "sample", "--sentences", "1"], "--sentences"),
])
def test_what_does_not_go_together_is_a_usage_error(args: list[str], said: str, capsys: Capture) -> None:
    assert said in failed(capsys, *args)


def test_files_that_are_no_treebank(tmp_path: Path, capsys: Capture) -> None:
    assert "absent.conllu" in failed(capsys, "--treebank", str(tmp_path / "absent.conllu"))
    for name, content in (("empty", ""), ("bad", "1\tonly three\tcolumns\n\n")):
        path = tmp_path / f"{name}.conllu"
        path.write_text(content, encoding="utf-8")
        assert path.name in failed(capsys, "--treebank", str(path))


def test_out_is_a_page_and_an_earlier_one_is_replaced(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "page"
    for _ in range(2):
        assert main(["compare", "--treebank", "sample", *FEW, "--out", str(out)]) == 1
        table = capsys.readouterr().out
        assert table.splitlines()[0].startswith("family")
    assert "cosine" in (out / "index.html").read_text(encoding="utf-8")
    assert json.loads((out / "comparison.json").read_text(encoding="utf-8"))["n_sentences"] == 11  # of 12
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    assert "holds no report" in failed(capsys, "-t", "sample", "--out", str(tmp_path))
    inside = [["--out", str(tmp_path / "a"), "--resume", str(tmp_path / place)] for place in ("a", "a/b")]
    for args in inside:
        assert "--out and --resume need folders of their own" in failed(capsys, "-t", "sample", *args)


def test_no_long_relation_is_an_empty_cell_and_advice_for_texts_is_left_out(tmp_path: Path, capsys: Capture) -> None:
    rows = ["1\told\t_\tADJ\t_\t_\t2\tamod\t_\t_", "2\tdogs\t_\tNOUN\t_\t_\t3\tnsubj\t_\t_",
            "3\tbark\t_\tVERB\t_\t_\t0\troot\t_\t_", "4\tnow\t_\tADV\t_\t_\t3\tadvmod\t_\t_"]
    long = [f"{k + 1}\tword\t_\tNOUN\t_\t_\t{k}\t{'dep' if k else 'root'}\t_\t_" for k in range(600)]
    path = tmp_path / "short.conllu"
    path.write_text("".join("\n".join(s) + "\n\n" for s in [rows] * 4 + [long]), encoding="utf-8")
    assert main(["compare", "-t", str(path), "--families", "cosine", "--no-untrained", "-q"]) in (0, 1)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "the context of bundled holds 512\n" in err
    assert "--overflow" not in err
    assert "1 skipped; 4 sentences are reported on" in err


def pairs_file(folder: Path, extra: str = "") -> Path:
    path = folder / "pairs.csv"
    words = ("dog,cat,9", "dog,house,2", "king,queen,9", "king,apple,1", "sun,moon,7", "sun,spoon,1", "boy,girl,9",
             "boy,river,1", "tree,leaf,8")
    path.write_text("word1,word2,score\n" + "\n".join(words) + "\n" + extra, encoding="utf-8")
    return path


def test_similarity_prints_a_line_for_each_measure_and_writes_the_table(tmp_path: Path, capsys: Capture) -> None:
    path, table = pairs_file(tmp_path), tmp_path / "table.csv"
    assert main(["compare", "--similarity", str(path), "-q", "--out", str(table), "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["measure", "layer", "spearman", "interval", "diff", "interval", "pairs"]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["cosine", "cosine, centered", "Euclidean"]
    assert max(map(len, lines)) <= command.WIDTH
    assert "without Fisher-Rao, diagonal normals: wants a corpus" in err
    written = table.read_text(encoding="utf-8").splitlines()
    assert len(written) == len(lines)
    for line, row in zip(lines[1:], written[1:], strict=True):
        assert f"  {float(row.rsplit('layer', 1)[1].split(',')[1]):.3f}  " in line


def test_words_that_a_corpus_lacks_are_named_and_counted(tmp_path: Path, capsys: Capture) -> None:
    path = pairs_file(tmp_path, "dog,zebra,3\n")
    names = [word for line in path.read_text(encoding="utf-8").splitlines()[1:-1] for word in line.split(",")[:2]]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"A {w} and a {w} by the {w}. " * 4 for w in dict.fromkeys(names)), encoding="utf-8")
    assert main(["compare", "-s", str(path), "--corpus", str(corpus), "-q", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found["missing"]) == ["zebra"]
    assert "Fisher-Rao, diagonal normals" in [e["measure"] for e in found["estimates"]]
    assert "left out 'zebra': occurs 0 times in the corpus, wanted at least 8" in err
    assert err.splitlines()[-1] == "infogeo: 1 word left out, and with them 1 of 10 pairs"


@pytest.mark.parametrize(("args", "said"), [
    (["The cat.", "-s", "pairs.csv"], "TEXT does not go with --similarity, which reads pairs of words"),
    (["-s", "pairs.csv", "--split", "half"], "--split does not go with --similarity"),
    (["-s", "pairs.csv", "--layer", "3"], "--layer does not go with --similarity"),
    (["-s", "pairs.csv", "-t", "sample"], "either --treebank or --similarity"),
    (["-t", "sample", "--corpus", "c.txt"], "--corpus does not go with --treebank"),
    (["The cat.", "--out", "x"], "--out goes with --treebank FILE or --similarity PAIRS.csv"),
    (["-s", "absent.csv"], "absent.csv"),
])
def test_what_does_not_go_with_similarity(args: list[str], said: str, capsys: Capture) -> None:
    assert said in failed(capsys, *args)


def test_files_of_pairs_that_cannot_be_used(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("dog,cat,9\ndog,house\n", encoding="utf-8")
    assert "bad.csv: line 2" in failed(capsys, "-s", str(path))
    good = pairs_file(tmp_path)
    assert "no format belongs to the suffix" in failed(capsys, "-s", str(good), "--out", str(tmp_path / "x.html"))
    few = tmp_path / "few.csv"
    few.write_text("dog,cat,9\ndog,house,2\n", encoding="utf-8")
    assert main(["compare", "-s", str(few), "-q"]) == 2
    assert "wanted at least 8" in capsys.readouterr().err


def test_quiet_silences_bars_wherever_they_are_made(capsys: Capture) -> None:
    from infogeo_adapters.progress import progress_bar, silent_bars

    def run() -> str:
        with progress_bar("inner", delay=0.0) as show:
            show(1, 2)
        return capsys.readouterr().err

    assert "inner" in run()
    with silent_bars():
        with silent_bars(False):
            assert run() == ""
        assert run() == ""
    with silent_bars(False):
        assert "inner" in run()
    assert "inner" in run()


def test_a_quiet_command_has_silent_bars_and_the_next_one_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from infogeo_adapters import progress

    seen: list[bool] = []
    monkeypatch.setattr(
        "infogeo_adapters.cli.compare_pairs", lambda options, **rest: seen.append(progress._silent.get())
    )
    assert [main(["compare", "-s", "x", *more]) for more in ([], ["-q"], [])] == [0, 0, 0]
    assert seen == [False, True, False]


def test_defaults_among_the_families_stands_for_all_but_the_slowest() -> None:
    from infogeo_adapters.treebank.registry import DEFAULTS, FAMILIES, ON_REQUEST

    assert command.family_list("defaults, local influence") == (DEFAULTS, "local influence")
    assert command.family_list("adjacent words") == ("attention head", "adjacent words")
    assert set(ON_REQUEST) < set(FAMILIES)


def test_where_too_few_sentences_are_left_the_skipped_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_", "2\tran\trun\tVERB\tVBD\t_\t0\troot\t_\t_",
            "3\thome\thome\tADV\tRB\t_\t2\tadvmod\t_\t_")
    good = "\n".join(("# sent_id = good", "# text = Dogs ran home", *rows)) + "\n\n"
    bad = good.replace("good", "circle").replace("\t0\troot", "\t1\tdep")
    file = tmp_path / "few.conllu"
    file.write_text(good + bad + good.replace("good", "other"), encoding="utf-8")
    assert main(["compare", "--treebank", str(file), "--families", "adjacent words", "--no-untrained", "-q"]) == 2
    told = capsys.readouterr().err
    assert "skipped circle (line 7)" in told
    assert "1 skipped; 2 sentences left" in told
    assert "at least two" in told or "at least four" in told


def test_an_interrupted_command_says_where_its_scores_are(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("infogeo_adapters.treebank.comparison.compare_with_treebank", interrupted)
    kept, empty = str(tmp_path / "kept"), str(tmp_path / "empty")
    for folder in (kept, empty):
        Path(folder).mkdir()
    (tmp_path / "kept" / "batch-00000-0.safetensors").touch()
    for more, said in (([], False), (["--resume", empty], False), (["--resume", kept], True)):
        assert main(["compare", "-t", "sample", *FEW, *more]) == 130
        out, err = capsys.readouterr()
        assert out == ""
        assert (f"what is done is kept in {kept}; the same command goes on from there" in err) == said
        assert ("no batch of sentences was done yet" in err) == (more[1:] == [empty])
        assert err.splitlines()[-1] == "infogeo: interrupted"


def test_an_interrupted_command_finds_scores_in_the_home_folder_and_of_the_sentences_to_choose_on(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []

    def interrupted(*_: Any, folder: Path, **__: Any) -> Any:
        given.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr("infogeo_adapters.treebank.comparison.compare_with_treebank", interrupted)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("reported", "chosen/choose"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "batch-00000-0.safetensors").touch()
    for name in ("reported", "chosen"):
        assert main(["compare", "-t", "sample", *FEW, "--resume", f"~/{name}"]) == 130
        assert f"what is done is kept in {tmp_path / name}; the same command" in capsys.readouterr().err
        assert given.pop() == tmp_path / name


def test_all_names_of_families_are_printed_before_anything_is_read(capsys: Capture) -> None:
    from infogeo_adapters import family_names

    assert main(["compare", "-t", "absent.conllu", "--families", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["defaults", *family_names()]


def treebank_file(path: Path, name: str, good: int, *bad: str) -> Path:
    """Sentences of which no two files have the same, then bad ones."""
    rows = ("1\told\t_\tADJ\t_\t_\t2\tamod\t_\t_", "2\tdogs\t_\tNOUN\t_\t_\t3\tnsubj\t_\t_",
            "3\tbark\t_\tVERB\t_\t_\t0\troot\t_\t_", "4\tnow\t_\tADV\t_\t_\t3\tadvmod\t_\t_",
            "5\there\t_\tADV\t_\t_\t3\tadvmod\t_\t_")
    path.write_text(
        "".join("\n".join((f"# sent_id = {name}{k}", *rows)) + "\n\n" for k in range(good))
        + "".join(f"{line}\n\n" for line in bad), encoding="utf-8",
    )
    return path


SHORT = "1\tgo\t_\tVERB\t_\t_\t0\troot\t_\t_"


def test_skipped_sentences_of_two_files_are_counted_apart_with_what_to_do_and_no_line_twice(
    tmp_path: Path, capsys: Capture
) -> None:
    reported = treebank_file(tmp_path / "reported.conllu", "r", 5, "one", "# sent_id = later\ntwo")
    choose = treebank_file(tmp_path / "choose.conllu", "c", 6, SHORT)
    args = ["-t", str(reported), "--choose", str(choose), "--families", "cosine", "--no-untrained", "-q"]
    out = tmp_path / "page"
    assert main(["compare", *args, "--out", str(out)]) in (0, 1)
    told = [line.removeprefix("infogeo: ") for line in capsys.readouterr().err.splitlines()]
    others = "among the sentences to choose on: "
    assert told[-7:] == [
        f"skipped sentence 7 ({others}line 43): 1 of its 1 words are no punctuation, wanted at least 3",
        "to have them in the numbers: nothing to do for short ones, in which any graph finds the same tree",
        f"{others}1 skipped; 6 sentences left",
        "skipped sentence 6 (line 36): found 1 column, wanted 10, with a tab between each two",
        "skipped later (line 38): line 39: found 1 column, wanted 10, with a tab between each two",
        "to have them in the numbers: mend the lines of the file",
        "2 skipped; 5 sentences are reported on",
    ]
    assert "2 sentences skipped, and 1 sentence to choose on" in (out / "index.html").read_text(encoding="utf-8")


def test_only_sentences_that_are_read_are_counted_as_chosen_and_reported(tmp_path: Path, capsys: Capture) -> None:
    same = treebank_file(tmp_path / "same.conllu", "s", 6)
    args = ["compare", "-t", str(same), "--choose", str(same), "--families", "cosine", "--no-untrained", "-q"]
    for more, said in (([], "found 6 sentences that are"), (["--sentences", "4"], "found 4 sentences that are")):
        assert main([*args, *more]) == 2
        assert f"{said} reported on (s0, s1, s2)" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_to_resume_from_is_refused_before_any_work(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "kept").write_text("mine", encoding="utf-8")
    assert "is a file, wanted a folder" in failed(capsys, "-t", "sample", "--resume", str(tmp_path / "kept"))


def test_a_comparison_without_influence_says_so(capsys: Capture) -> None:
    assert main(["compare", "-t", "sample", *FEW[:-1]]) == 1
    err = capsys.readouterr().err
    assert "no influence graph was among the families" in err
    assert "reading 12 sentences with the model" in err


def test_sentences_that_choose_and_report_are_refused_in_the_words_of_the_command_line(capsys: Capture) -> None:
    assert main(["compare", "-t", "sample", "--choose", "sample", "--families", "cosine", "-q"]) == 2
    assert "give other sentences, or leave --choose out" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--removal", "mask"], ["--distribution", "states"], ["--normalization", "rows"]])
def test_choices_of_one_influence_graph_do_not_go_with_a_treebank(option: list[str], capsys: Capture) -> None:
    assert f"{option[0]} does not go with --treebank" in failed(capsys, "-t", "sample", *option)


def test_counts_of_one(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bad.conllu"
    path.write_text("one\n\n", encoding="utf-8")
    assert "sentence 1 (line 1) skipped: found 1 column, wanted 10" in failed(capsys, "-t", str(path))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("dog;cat;9\n", encoding="utf-8")
    assert "line 1 has 1 field, wanted at least 3" in failed(capsys, "-s", str(pairs))
