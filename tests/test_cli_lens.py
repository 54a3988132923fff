"""The command that reads a text by a lens: what it prints and writes, its page and figures, and tables in files."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from profile_cases import make_profile

from infogeo import EntropyProfile, Source
from infogeo.errors import ArgumentError, FormatError, MissingDependencyError, OutputError
from infogeo.results import Result
from infogeo_adapters import _cli_lens as command
from infogeo_adapters import logit_lens, plots, split_into_windows, write_lens_report, write_table
from infogeo_adapters._lens_text import join_profiles, read_long_text
from infogeo_adapters.cli import main
from infogeo_adapters.tables import check_table_file

TEXT = "The old dog chased the cat."
LONG = "The old dog chased the little cat because it was hungry, and the cat ran home. " * 3
STAGES = "attention_output,resid_mid,feed_forward_output,resid_post"

Capture = pytest.CaptureFixture[str]

needs_plots = pytest.mark.skipif(
    find_spec("plotly") is None or find_spec("jinja2") is None, reason="needs the extra: pip install 'infogeo[plots]'"
)


@pytest.fixture(scope="module")
def profile(bundled: Any) -> EntropyProfile:
    return logit_lens(bundled, TEXT, top_k=3)


@pytest.fixture(scope="module")
def staged(bundled: Any) -> EntropyProfile:
    return logit_lens(bundled, LONG, top_k=3, stages=STAGES.split(","))  # type: ignore[arg-type]


def failed(capsys: Capture, *args: str) -> str:
    """The message of a command that could not be done."""
    code = main(["lens", *args])
    out, err = capsys.readouterr()
    assert code == 2, (code, err)
    assert out == ""
    assert "Traceback" not in err
    return err


# What is printed


def test_a_short_text_is_printed_token_by_token(profile: EntropyProfile, capsys: Capture) -> None:
    assert main(["lens", TEXT, "-q"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:4] == ["layer", "<|begin|>", "The", "old"]
    found = np.array([row[1:] for row in rows[1:-1]], dtype=float)
    np.testing.assert_allclose(found, profile.entropy, atol=5.1e-4)
    assert rows[-1][0] == "predicts"
    assert [name.strip("Ġ") for name in profile.top_tokens[-1]][1:4] == rows[-1][2:5]
    assert len({len(line) for line in out.splitlines()}) == 1
    assert "--out lens.csv" in err


def test_a_longer_text_is_printed_place_by_place(bundled: Any, capsys: Capture) -> None:
    """The slow twin: means over tokens, one place after the other."""
    assert main(["lens", LONG, "--units", "bits", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    made = logit_lens(bundled, LONG)
    names = lines[0].split()
    for layer, line in enumerate(lines[1:]):
        cells = dict(zip(names, line.split(), strict=True))
        loss = [x for x in made.cross_entropy[layer].tolist() if not math.isnan(x)]
        assert float(cells["entropy"]) == pytest.approx(np.mean(made.entropy[layer]) / np.log(2), abs=6e-4)
        assert float(cells["p90"]) == pytest.approx(np.quantile(made.entropy[layer], 0.9) / np.log(2), abs=6e-4)
        assert float(cells["cross_entropy"]) == pytest.approx(np.mean(loss) / np.log(2), abs=6e-4)
        perplexity = float(cells["perplexity"].replace(",", ""))
        assert perplexity == pytest.approx(np.exp(np.mean(loss)), rel=0.05 if perplexity >= 1e6 else 1e-3)
        assert float(cells["kl_to_final"]) == pytest.approx(np.mean(made.kl_to_final[layer]) / np.log(2), abs=6e-4)
        right = [r == 1 for r in made.rank[layer].tolist() if r > 0]
        assert float(cells["rank_1"].rstrip("%")) == pytest.approx(100 * np.mean(right), abs=0.06)
        step = cells["step"]
        assert step == "–" if layer == 0 else float(step) == pytest.approx(np.mean(made.step_length[layer]), rel=1e-3)


def test_what_is_asked_for_beside_the_entropy_is_printed_too(bundled: Any, capsys: Capture) -> None:
    options = ["--renyi", "2", "--renyi", "inf", "--top-p", "0.9", "-u", "bits"]
    assert main(["lens", TEXT, "-q", *options]) == 0
    tokens, places = capsys.readouterr().out.split("\n\n")
    assert tokens.startswith("layer  ")
    made = logit_lens(bundled, TEXT, renyi=(2.0, float("inf")), top_p=0.9)
    names, *lines = [line.split() for line in places.splitlines()]
    for row, line in enumerate(lines):
        cells = dict(zip(names, line, strict=True))
        assert float(cells["renyi_2"]) == pytest.approx(np.mean(made.renyi[2.0][row]) / np.log(2), abs=6e-4)
        assert float(cells["renyi_inf"]) == pytest.approx(np.mean(made.renyi[np.inf][row]) / np.log(2), abs=6e-4)
        size = float(cells["set_size_0.9"].replace(",", ""))
        assert size == pytest.approx(np.mean(made.set_size[row]), abs=0.06)  # type: ignore[index]


def test_normalized_entropies_are_shares_and_json_stays_in_nats(profile: EntropyProfile, capsys: Capture) -> None:
    assert main(["lens", TEXT, "-u", "normalized", "-q"]) == 0
    out, err = capsys.readouterr()
    last = np.array(out.splitlines()[-2].split()[1:], dtype=float)
    np.testing.assert_allclose(last, profile.entropy[-1] / np.log(4096), atol=5.1e-4)
    assert "shares of log 4,096" in err
    options = ["-u", "bits", "--renyi", "2", "--renyi", "inf", "--top-p", "0.9", "--top-k", "2", "--used-only"]
    assert main(["lens", TEXT, "--json", "-q", *options]) == 0
    plain = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(plain["entropy"], profile.entropy, rtol=1e-12)
    assert {*plain["renyi"]} == {"2.0", "inf"}
    assert plain["top_p"] == 0.9
    assert np.shape(plain["top_ids"])[2] == 2
    assert plain["source"]["options"]["used_only"] is True


def test_stages_are_chosen_by_name_or_all(capsys: Capture, bundled: Any) -> None:
    assert main(["lens", TEXT, "-q", "--stages", "resid_mid, resid_post"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:2] == ["layer", "stage"]
    assert [tuple(row[:2]) for row in rows[1:4]] == [("0", "embedding"), ("1", "resid_mid"), ("1", "resid_post")]
    assert main(["lens", TEXT, "-q", "--stages", "all", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert {*plain["row_stages"]} == {"embedding", *STAGES.split(",")}


def test_stages_that_a_model_does_not_have_are_named() -> None:
    from model_zoo import make_specimen, make_tokenizer

    from infogeo_adapters import load_model

    model = load_model(make_specimen("gpt-j"), tokenizer=make_tokenizer())
    made, notes = read_long_text(model, "the cat sat on the mat", stages=["all"])
    assert {*made.row_stages} == {"embedding", "attention_output", "feed_forward_output", "resid_post"}
    assert len(notes) == 1
    assert notes[0].startswith("without resid_mid: ")


# Texts longer than the context, and encoder-decoder models


def test_a_text_longer_than_the_context_is_read_in_windows(tiny: Callable[[str], Any]) -> None:
    model = tiny("gpt2")
    text = "The quick brown fox jumps over the lazy dog near the riverbank. " * 4
    done = []
    made, notes = read_long_text(model, text, top_k=2, renyi=2.0, progress=lambda i, n: done.append((i, n)))
    windows = split_into_windows(model, text)
    assert len(windows) > 1
    assert done == [(i + 1, len(windows)) for i in range(len(windows))]
    assert f"{len(windows)} windows" in notes[0]
    assert made.source.options["windows"] == len(windows)
    start = word = 0
    for window in windows:
        one = logit_lens(model, window, top_k=2, renyi=2.0)
        here = slice(start, start + len(one.tokens))
        for name in ("entropy", "kl_to_final", "cross_entropy", "rank", "step_length", "top_ids"):
            np.testing.assert_array_equal(getattr(made, name)[:, here], getattr(one, name))
        np.testing.assert_array_equal(made.renyi[2.0][:, here], one.renyi[2.0])
        np.testing.assert_array_equal(made.target_ids[here], one.target_ids)
        assert made.tokens[here] == one.tokens
        shifted = [-1 if w < 0 else w + word for w in one.token_words.tolist()]
        assert made.token_words[here].tolist() == shifted
        start, word = here.stop, word + len(one.words)
    assert len(made.tokens) == start
    assert len(made.words) == word
    assert made.source.text_hash != logit_lens(model, windows[0]).source.text_hash


def test_profiles_of_other_places_are_not_joined() -> None:
    with pytest.raises(ArgumentError, match="different places"):
        join_profiles([make_profile(np.ones((2, 3))), make_profile(np.ones((3, 3)))], "text")
    with pytest.raises(ArgumentError, match="at least one"):
        join_profiles([], "text")


def test_an_encoder_decoder_model_reads_source_and_target(
    folders: Callable[[str], Path], tiny: Callable[[str], Any], capsys: Capture
) -> None:
    folder = str(folders("t5"))
    assert main(["lens", "The lazy dog.", "-m", folder, "--target", "The old fox.", "-s", "all", "--json", "-q"]) == 0
    plain = json.loads(capsys.readouterr().out)
    wanted = logit_lens(tiny("t5"), "The lazy dog.", target="The old fox.")
    np.testing.assert_allclose(
        [row for row, s in zip(plain["entropy"], plain["row_stages"], strict=True) if s in ("embedding", "resid_post")],
        wanted.entropy, atol=1e-6,
    )
    assert "resid_cross" in plain["row_stages"]
    err = failed(capsys, "The lazy dog.", "-m", folder, "-q")
    assert "give it with --target" in err
    assert "leave --target out" in failed(capsys, TEXT, "--target", "The cat.", "-q")


def test_a_tuned_lens_is_handed_on(monkeypatch: pytest.MonkeyPatch, capsys: Capture, profile: EntropyProfile) -> None:
    import infogeo_adapters

    asked = []

    class Half:
        name, source = "half", Source()

        def translate(self, layer: int, states: Any) -> Any:
            return states / 2 if layer < 6 else states

        def check(self, model: Any, readout: Any = None) -> None:
            asked.append(("checked", model.name))

    def load(path: str, model: Any) -> Half:
        asked.append((path, model.name))
        return Half()

    monkeypatch.setattr(infogeo_adapters, "load_tuned_lens", load, raising=False)
    assert main(["lens", TEXT, "--tuned-lens", "lens.safetensors", "--json", "-q"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert asked[0] == ("lens.safetensors", "bundled")
    assert ("checked", "bundled") in asked
    assert plain["source"]["options"]["lens"] == "half"
    np.testing.assert_allclose(plain["entropy"][-1], profile.entropy[-1], rtol=1e-9)


# Files


def test_every_number_is_written_to_files(tmp_path: Path, capsys: Capture, profile: EntropyProfile) -> None:
    for ending in ("csv", "json"):
        assert main(["lens", TEXT, "-q", "-o", str(tmp_path / f"lens.{ending}")]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / f"lens.{ending}")
    with open(tmp_path / "lens.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == profile.entropy.size
    assert [float(row["entropy"]) for row in rows] == profile.entropy.ravel().tolist()
    assert rows[2]["token_text"] == " old"
    plain = json.loads((tmp_path / "lens.json").read_text(encoding="utf-8"))
    assert plain["entropy"] == profile.entropy.tolist()
    assert plain["source"]["content_hash"] == profile.source.content_hash


def test_parquet_keeps_numbers_none_and_nan_and_says_where_they_come_from(
    tmp_path: Path, profile: EntropyProfile
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra: pip install 'infogeo[parquet]'")
    assert main(["lens", TEXT, "-q", "-o", str(tmp_path / "lens.parquet")]) == 0
    table = parquet.read_table(tmp_path / "lens.parquet")
    assert table.column("entropy").to_pylist() == profile.entropy.ravel().tolist()
    assert table.column("rank").to_pylist() == profile.rank.ravel().tolist()
    steps = table.column("step_length").to_pylist()[: len(profile.tokens)]
    assert all(math.isnan(step) for step in steps)
    assert table.column("token_text").to_pylist()[1] == "The"
    source = json.loads(table.schema.metadata[b"infogeo.source"])
    assert source["content_hash"] == profile.source.content_hash
    assert table.schema.metadata[b"infogeo.summary"].decode() == profile.summary()


class Rows(Result):
    """A table of rows given."""

    def __init__(self, columns: tuple[str, ...], *table: tuple[Any, ...]) -> None:
        self.made = columns, list(table)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return self.made


def test_parquet_tells_none_from_nan_and_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra: pip install 'infogeo[parquet]'")
    made = Rows(("a", "b"), (None, np.float64(1.5)), (float("nan"), 2.0))
    table = parquet.read_table(write_table(made, tmp_path / "t.parquet"))
    assert table.column("a").null_count == 1
    assert math.isnan(table.column("a").to_pylist()[1])
    assert table.column("b").to_pylist() == [1.5, 2.0]
    with pytest.raises(FormatError, match="two columns are called 'the'"):
        write_table(Rows(("from", "the", "the"), ("x", 0.0, 1.0)), tmp_path / "no.parquet")
    with pytest.raises(FormatError, match="column 'a' holds values of several kinds"):
        write_table(Rows(("a",), (1,), ("one",)), tmp_path / "no.parquet")
    with pytest.raises(FormatError, match="half a surrogate pair"):
        write_table(Rows(("a",), ("\ud800",)), tmp_path / "no.parquet")
    assert not (tmp_path / "no.parquet").exists()


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"infogeo\[parquet\]"):
        check_table_file(tmp_path / "t.parquet")
    with pytest.raises(MissingDependencyError, match=r"infogeo\[parquet\]"):
        write_table(Rows(("a",), (1,)), tmp_path / "t.parquet")


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_full_disk_and_a_read_only_one_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    import os

    kept = write_table(Rows(("a",), (1,)), tmp_path / "t.csv")
    before = kept.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=said):
        write_table(Rows(("a",), (2,)), kept)
    assert kept.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_table_file_is_checked_before_there_is_a_result(tmp_path: Path) -> None:
    assert check_table_file(tmp_path / "t.json") == "json"
    with pytest.raises(ArgumentError, match=r"csv \(\.csv\), json \(\.json\), parquet \(\.parquet\)"):
        check_table_file(tmp_path / "t.xlsx")
    with pytest.raises(OutputError, match="there is no folder"):
        check_table_file(tmp_path / "absent" / "t.csv")
    assert not list(tmp_path.iterdir())


# The page


def figures_of(page: str) -> list[dict[str, Any]]:
    """The figures of a page, as data."""
    found = re.search(r'<script type="application/json" id="figures"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return list(json.loads(found[1]))


@needs_plots
def test_a_folder_has_a_page_that_opens_offline_and_the_numbers(
    tmp_path: Path, capsys: Capture, profile: EntropyProfile
) -> None:
    out = tmp_path / "page"
    assert main(["lens", TEXT, "-q", "-o", str(out), "--stages", "all"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    assert {p.name for p in out.iterdir()} == {
        "index.html", "plotly.min.js", "lens.csv", "lens.json", "manifest.json"
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!#|plotly\.min\.js|lens\.)", page)
    assert "default-src 'none'" in page
    figures = figures_of(page)
    assert [f["id"] for f in figures] == ["bands-plot", "histograms-plot", "path-plot", "token-layer", "token-stage"]
    assert page.index("Means over tokens") < page.index('id="token-layer"')  # overviews come first
    cells = figures[3]["figure"]["data"][0]
    np.testing.assert_allclose(cells["z"], profile.entropy, rtol=6e-4, atol=1e-4)
    hover = cells["customdata"][6][1]
    assert hover[0] == "The"
    assert hover[2] == f"{profile.entropy[6, 1]:.3f}"
    assert hover[4].count(", ") == command.TOP_K - 1
    assert f"rank {profile.rank[6, 1]:,}" in hover[5]
    assert main(["lens", TEXT, "-q", "-o", str(out)]) == 0  # an earlier page is replaced
    assert len(figures_of((out / "index.html").read_text(encoding="utf-8"))) == 4


@needs_plots
def test_a_single_file_holds_all_and_escapes_the_text(tmp_path: Path, profile: EntropyProfile) -> None:
    hostile = "</script><script>alert(1)</script> & <b>bold</b>"
    path = write_lens_report(profile, tmp_path / "lens.html", text=hostile, notes=["<i>note</i>"], units="bits")
    page = path.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page
    assert "&lt;i&gt;note&lt;/i&gt;." in page
    assert "Plotly.newPlot" in page
    assert "plotly.min.js\"" not in page
    assert "entropy (bits)" in json.dumps(figures_of(page))
    mean = profile.in_units("bits").mean(axis=1)
    fall = int(np.argmin(np.diff(mean)))
    assert f"from {mean[0]:.3g} at the embedding to {mean[-1]:.3g} bits after layer 6; it falls most from" in page
    assert f"from layer {fall} to layer {fall + 1}, by {mean[fall] - mean[fall + 1]:.3g}." in page
    assert "Means over tokens (bits)" in page
    with pytest.raises(ArgumentError, match="nats or bits, or normalized"):
        write_lens_report(profile, tmp_path / "x.html", text=TEXT, units="bans")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="wanted the EntropyProfile"):
        write_lens_report([profile], tmp_path / "x.html", text=TEXT)  # type: ignore[arg-type]
    for wrong, said in (
        ({"text": 3}, "text: found int, wanted str"), ({"target": 3}, "target: found int"),
        ({"notes": "abc"}, "notes: found 'abc', wanted a sequence of sentences"), ({"notes": [3]}, "notes: found"),
        ({"path": 3}, "path: found 3, wanted a path"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(said)):
            write_lens_report(profile, **{"path": tmp_path / "x.html", "text": TEXT, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="path: found 3, wanted a path"):
        write_table(profile, 3)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["lens.html"]


@needs_plots
def test_a_page_of_an_encoder_decoder_shows_both_texts(folders: Callable[[str], Path], tmp_path: Path) -> None:
    page = tmp_path / "t5.html"
    source, target = "The lazy dog.", "The old fox & I slept."
    assert main(["lens", source, "-m", str(folders("t5")), "--target", target, "-q", "-o", str(page)]) == 0
    shown = page.read_text(encoding="utf-8")
    quoted = re.findall(r'<blockquote class="sentence" dir="auto">(.*?)</blockquote>', shown)
    assert quoted == ["The lazy dog.", "The old fox &amp; I slept."]
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", shown))
    assert facts["Source"] == "4 words"
    assert facts["Target"].startswith("7 words, ")
    assert "Text" not in facts


@needs_plots
def test_a_page_of_one_place_says_no_course(tmp_path: Path) -> None:
    single = make_profile(
        np.ones((1, 3)), step_length=np.full((1, 3), np.nan), cross_entropy=np.full((1, 3), np.log(8.0)),
        rank=np.full((1, 3), 2), target_ids=np.zeros(3, dtype=int),
    )
    page = write_lens_report(single, tmp_path / "one.html", text=TEXT).read_text(encoding="utf-8")
    body = page[page.index("<main>"):page.index("</main>")]
    assert "The mean entropy is 1 nats at the embedding." in body
    assert "for 0 % of 3 tokens at the embedding; the perplexity is 8." in body
    assert " goes from " not in body
    assert [f["id"] for f in figures_of(page)] == ["histograms-plot", "token-layer"]


# Figures


@needs_plots
def test_a_long_text_goes_on_in_the_next_line_and_every_token_stands_once(staged: EntropyProfile) -> None:
    figure = plots.lens_figure(staged, positions="tokens")
    n = len(staged.tokens)
    assert len(figure.data) > 1
    assert [x for trace in figure.data for x in trace.x] == list(range(n))
    shown = np.concatenate([np.array(trace.z, dtype=float) for trace in figure.data], axis=1)
    np.testing.assert_allclose(shown, staged.entropy, rtol=6e-4, atol=1e-4)
    plain = figure.to_plotly_json()["layout"]
    domains = sorted(plain[key]["domain"] for key in plain if key.startswith("yaxis"))
    assert all(low[1] < high[0] for low, high in pairwise(domains))
    second = plain["updatemenus"][0]["buttons"][1]
    assert second["label"].startswith("KL to the final prediction")
    shown = np.concatenate([np.array(z, dtype=float) for z in second["args"][0]["z"]], axis=1)
    np.testing.assert_allclose(shown, np.maximum(staged.kl_to_final, 0), rtol=6e-4, atol=1e-4)


@needs_plots
def test_the_colors_are_for_what_is_no_embedding_and_say_what_lies_beyond() -> None:
    kl = np.array([[20.0] * 4, [2.0, 1.5, 1.0, 0.5], [0.0] * 4])
    figure = plots.lens_figure(make_profile(np.ones((3, 4)), kl_to_final=kl), positions="tokens")
    entropy, divergence = (button.args[1]["coloraxis"] for button in figure.layout.updatemenus[0].buttons[:2])
    assert entropy["cmax"] == 1.0
    assert "more" not in "".join(entropy["colorbar"]["ticktext"])
    assert divergence["cmax"] == pytest.approx(np.quantile(kl[1:], 0.98), rel=5e-3)
    assert divergence["colorbar"]["ticktext"][-1] == f"{divergence['cmax']:g} and more"
    shown = figure.layout.updatemenus[0].buttons[1].args[0]["z"]
    np.testing.assert_allclose(shown[0], kl)  # the numbers themselves are not clipped
    ruled_out = np.array([[np.inf] * 2, [np.inf, 1.0], [0.0] * 2])
    figure = plots.lens_figure(make_profile(np.ones((3, 2)), kl_to_final=ruled_out), positions="tokens")
    end = figure.layout.updatemenus[0].buttons[1].args[1]["coloraxis"]
    assert 0 < end["cmax"] <= 1.0
    assert end["colorbar"]["ticktext"][-1].endswith("and more")


@needs_plots
def test_each_window_begins_a_line_with_its_name(tiny: Callable[[str], Any]) -> None:
    model = tiny("gpt2")
    text = "The quick brown fox jumps over the lazy dog near the riverbank. " * 4
    made, _ = read_long_text(model, text)
    sizes = [len(logit_lens(model, window).tokens) for window in split_into_windows(model, text)]
    begins = [sum(sizes[:i]) for i in range(len(sizes))]
    figure = plots.lens_figure(made, positions="tokens")
    assert {*begins} <= {trace.x[0] for trace in figure.data}
    assert [x for trace in figure.data for x in trace.x] == list(range(sum(sizes)))
    names = [note.text for note in figure.layout.annotations]
    assert names == [f"<b>window {i + 1}</b>" for i in range(len(sizes))]
    tops = {trace.x[0]: figure.layout[f"yaxis{trace.yaxis[1:]}"].domain[1] for trace in figure.data}
    assert [note.y for note in figure.layout.annotations] == [tops[begin] for begin in begins]
    by_word = plots.lens_figure(made)
    firsts = [int(np.flatnonzero(made.last_tokens() >= begin)[0]) for begin in begins]
    assert {*firsts} <= {trace.x[0] for trace in by_word.data}
    assert not plots.lens_figure(logit_lens(model, "The fox.")).layout.annotations


@needs_plots
def test_bands_are_quantiles_over_tokens_by_stage(staged: EntropyProfile) -> None:
    figure = plots.entropy_band_figure(staged, units="bits")
    lines = [trace for trace in figure.data if trace.name == "mean"]
    assert len(lines) == 4
    entropy = staged.entropy / np.log(2)
    rows = [i for i, s in enumerate(staged.row_stages) if s == "attention_output"]
    np.testing.assert_allclose(lines[0].y, [np.mean(entropy[i]) for i in rows], rtol=1e-3)
    rows = [i for i, s in enumerate(staged.row_stages) if s in ("embedding", "resid_post")]
    np.testing.assert_allclose(lines[3].y, [np.mean(entropy[i]) for i in rows], rtol=1e-3)
    wide = [trace for trace in figure.data if trace.name == "10 to 90 %"][3]
    over = [np.quantile(entropy[i], 0.9) for i in rows]
    under = [np.quantile(entropy[i], 0.1) for i in rows]
    np.testing.assert_allclose(wide.y, [*over, *reversed(under)], rtol=1e-3, atol=1e-6)


@needs_plots
def test_histograms_hold_every_token_of_every_layer(staged: EntropyProfile) -> None:
    figure = plots.entropy_histogram_figure(staged, bins=12)
    assert len(figure.data) == 7
    for layer, trace in enumerate(figure.data):
        assert sum(trace.y) == pytest.approx(1.0, abs=2e-3)
        row = [i for i, s in enumerate(staged.row_stages) if s in ("embedding", "resid_post")][layer]
        near = np.mean([3 * trace.width <= h < 4 * trace.width for h in staged.entropy[row]])
        assert trace.y[3] == pytest.approx(near, abs=1e-3)
    (menu,) = figure.layout.updatemenus
    assert [b.label for b in menu.buttons] == ["attention output", "resid mid", "feed forward output", "resid post"]
    assert menu.active == 3
    assert menu.buttons[0].args[0]["y"][0] == []  # the embedding is at no other stage
    for button in menu.buttons:  # the tallest bar fills its panel, whatever the stage
        for layer in range(1, 7):
            high = button.args[1][f"yaxis{layer + 1}.range"][1]
            assert high == pytest.approx(1.08 * max(button.args[0]["y"][layer]), rel=1e-2)
    with pytest.raises(ArgumentError, match="'resid_cross', but this profile has attention_output"):
        plots.entropy_histogram_figure(staged, stage="resid_cross")
    with pytest.raises(ArgumentError, match="bins"):
        plots.entropy_histogram_figure(staged, bins=0)
    titled = [k for k in range(7) if figure.layout[f"xaxis{k + 1 if k else ''}"].title.text]
    assert titled == [4, 5, 6]  # the lowest row, four in each
    assert all(len(figure.layout[f"yaxis{k + 1 if k else ''}"].tickvals) > 1 for k in range(7))
    inner = staged.at_stage("attention_output")
    assert len(plots.entropy_histogram_figure(inner).data) == 6  # its only stage needs no name


@needs_plots
def test_the_path_has_its_steps_and_its_quotient(profile: EntropyProfile) -> None:
    figure = plots.prediction_path_figure(profile)
    (mean,) = [trace for trace in figure.data if trace.name == "mean"]
    np.testing.assert_allclose(mean.y, [np.mean(profile.step_length[i]) for i in range(1, 7)], rtol=1e-3)
    quotient = [
        sum(profile.step_length[i, t] for i in range(1, 7)) / profile.geodesic_length[t]
        for t in range(len(profile.tokens))
    ]
    assert min(quotient) >= 1
    assert f"median {sorted(quotient)[len(quotient) // 2]:.2f}" in str(figure.layout.annotations[1].text)
    assert "beyond" not in figure.layout.xaxis2.title.text
    single = make_profile(np.ones((1, 3)), step_length=np.full((1, 3), np.nan))
    with pytest.raises(ArgumentError, match="no step from state to state"):
        plots.prediction_path_figure(single)
    bare = make_profile(
        np.ones((3, 3)), **{name: np.full((3, 3), np.nan) for name in ("step_length", "kl_to_final")}  # type: ignore[arg-type]
    )
    with pytest.raises(ArgumentError, match="compare=True"):
        plots.prediction_path_figure(bare)


@needs_plots
def test_a_quotient_far_out_does_not_stretch_the_axis_and_is_counted(tmp_path: Path) -> None:
    """Of 100 tokens 97 have quotients from 2 to 2.5, and three that end near where they began have 500."""
    geodesic = np.array([1 / (2 + i / 192) for i in range(97)] + [0.002] * 3)
    far = make_profile(np.ones((3, 100)), geodesic_length=geodesic)
    figure = plots.prediction_path_figure(far)
    assert "median 2.26" in figure.layout.annotations[1].text  # token 49.5 of the 97: 2 + 49.5 / 192
    assert figure.layout.xaxis2.title.text.endswith("beyond: 3 tokens, up to 500")
    (bars,) = [trace for trace in figure.data if trace.type == "bar"]
    assert 2.4 < max(bars.x) < 3.1
    assert sum(bars.y) == pytest.approx(0.97, abs=2e-3)
    page = write_lens_report(far, tmp_path / "far.html", text=TEXT).read_text(encoding="utf-8")
    said = re.search(r"The path is ([\d.]+) times .*? of the tokens: ([\d.]+) to ([\d.]+)\)", page)
    assert said is not None
    middle, low, high = map(float, said.groups())
    assert low < middle < high < 3.1


@needs_plots
def test_a_prediction_that_never_moves_has_no_quotient() -> None:
    still = make_profile(
        np.ones((3, 2)), step_length=np.array([[np.nan] * 2, [0.0] * 2, [0.0] * 2]), geodesic_length=np.zeros(2)
    )
    figure = plots.prediction_path_figure(still)
    assert len(figure.layout.annotations) == 1
    assert "times the geodesic" not in figure.layout.meta["summary"]


@needs_plots
def test_many_cells_have_no_text_and_units_are_refused(profile: EntropyProfile) -> None:
    wide = make_profile(np.linspace(0, 2, 2000).reshape(4, 500), tops=[["a"] * 500] * 4)
    figure = plots.lens_figure(wide, positions="tokens")
    assert all(trace.text is None for trace in figure.data)
    assert max(len(trace.x) for trace in figure.data) <= 40
    for make in (plots.lens_figure, plots.entropy_band_figure, plots.entropy_histogram_figure):
        with pytest.raises(ArgumentError, match="nats or bits"):
            make(profile, units="bans")
    with pytest.raises(ArgumentError, match="words or tokens"):
        plots.lens_figure(profile, positions="letters")  # type: ignore[arg-type]


# What is refused, and help


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([TEXT, "-o", "lens.docx"], "none of .html, .csv, .json, .parquet"),
        ([TEXT, "-o", "absent/lens.csv"], "there is no folder"),
        ([TEXT, "-s", "resid_pre"], "'resid_pre': give all, or one or more of embedding"),
        ([TEXT, "-s", "all,resid_mid"], "give all, or one or more"),
        ([TEXT, "-s", ","], "give all, or one or more"),
        ([TEXT, "--top-p", "0"], "--top-p"),
        ([TEXT, "--renyi", "-1"], "--renyi"),
        ([TEXT, "--top-k", "0"], "--top-k"),
        ([TEXT, "-f", "story.txt"], "both were given"),
        ([], "neither was given"),
        (["  "], "only white space"),
        ([TEXT, "--target", ""], "empty text"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(
    args: list[str], said: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    err = failed(capsys, *args, "--model", "no such model")
    assert said in err
    assert "loading" not in err


def test_a_model_without_a_head_is_refused_in_the_words_of_the_command(capsys: Capture, minilm: Any) -> None:
    err = failed(capsys, TEXT, "-m", "minilm", "-q")
    assert "predicts no tokens" in err
    assert "readout=" not in err


def test_names_of_stages_are_completed_and_are_those_of_the_library() -> None:
    from infogeo_adapters.transformers.lens_plan import LENS_STAGES

    assert command.STAGES == LENS_STAGES
    complete = command.StageNames().shell_complete
    assert [c.value for c in complete(None, None, "resid_p")] == ["resid_post"]  # type: ignore[arg-type]
    found = [c.value for c in complete(None, None, "resid_post,resid_m")]  # type: ignore[arg-type]
    assert found == ["resid_post,resid_mid"]


def test_help_has_examples(capsys: Capture) -> None:
    assert main(["lens", "--help"]) == 0
    assert capsys.readouterr().out.split("Examples:")[1].count("infogeo lens") >= 3


def test_aligned_tables_count_wide_letters_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from infogeo_adapters._cli_output import print_aligned

    said = io.StringIO()
    monkeypatch.setattr("click.echo", lambda text: said.write(text + "\n"))
    print_aligned(["name", "a"], [["漢字", 1.5], ["e\u0301 x", None]])
    assert said.getvalue().splitlines() == ["name    a", "漢字  1.5", "e\u0301␣x     –"]
