"""The capacities of a model as a table, its pictures, and the command that prints it."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo import attention_capacity, data_processing_check, jacobian_capacity, linear_gaussian_capacity
from infogeo.errors import ArgumentError, DomainError, ModelError, OutputError, TextError
from infogeo.estimates import EstimateWarning
from infogeo_adapters import CapacityTable, capture_activations, capture_channels, load_model, measure_capacity
from infogeo_adapters import _capacity_views as capacity_views
from infogeo_adapters import _cli_capacity as command
from infogeo_adapters.cli import main
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.parts import PARTS
from infogeo_adapters.transformers.token_rows import token_rows, token_windows

TEXTS = [
    "The quick brown fox jumps over the lazy dog.", "Don't stop! said the old man, it's only a mile.",
    "She sells sea shells; he doesn't believe it.", "All the children ran home because it was raining.",
    "They were hungry and the well-known house was near.", "The old man jumps over the riverbank.",
    "A lazy dog ran to the well near the house.", "He said it is unbelievable, and she said stop.",
]
TEXT = " ".join(TEXTS)

Capture = pytest.CaptureFixture[str]


def measured(model: LanguageModel, texts: Any = TEXTS, **options: Any) -> CapacityTable:
    """The table, its one warning about doubtful numbers left aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        return measure_capacity(model, texts, **{"window": 64, **options})


@pytest.fixture(scope="module")
def table(tiny: Callable[[str], LanguageModel]) -> CapacityTable:
    return measured(tiny("gpt2"), unit="bits")


# The table


def test_every_block_part_and_head_has_its_rows(table: CapacityTable) -> None:
    found = {(item.block, item.part, item.head, item.capacity.view) for item in table.items}
    wanted = {(b, p, None, v) for b in (1, 2, 3) for p in PARTS for v in ("linear_gaussian", "jacobian")}
    wanted |= {(b, "head", h, "attention") for b in (1, 2, 3) for h in (1, 2, 3, 4)}
    wanted |= {(b, "readout", None, "readout") for b in (0, 1, 2, 3)}
    assert found == wanted
    for item in table.items:
        assert item.capacity.capacity > 0
        assert item.capacity.noise
        assert item.capacity.constraint
        assert item.capacity.unit == "bits"
    assert table.n_windows == 8
    assert table.select(view="attention", block=2).items[3].head == 4
    assert len(table.select(part="query").items) == 6


def test_linear_rows_are_those_of_the_view_on_the_captured_channels(
    tiny: Callable[[str], LanguageModel], table: CapacityTable
) -> None:
    for sample in capture_channels(tiny("gpt2"), TEXTS, blocks=[2]):
        x, y = sample.x.astype(float), sample.y.astype(float)
        stated = sample.part in ("query", "key", "value")
        noise: Any = y.var(axis=0, ddof=1).mean() / 100 if stated else "residual"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            direct = linear_gaussian_capacity(x, y, groups=sample.texts, noise=noise, unit="bits")
        (row,) = table.select(view="linear_gaussian", part=sample.part, block=2).items
        assert row.capacity.capacity == pytest.approx(direct.capacity, rel=1e-6)
        assert row.capacity.rate == pytest.approx(direct.rate, rel=1e-6)
        assert ("20 dB below the output" in row.capacity.noise) is stated


def test_options_reach_the_linear_view(tiny: Callable[[str], LanguageModel]) -> None:
    (sample,) = capture_channels(tiny("gpt2"), TEXTS, parts=["block"], blocks=[2])
    x = sample.x.astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        direct = linear_gaussian_capacity(
            x, sample.y, groups=sample.texts, power=4 * x.var(axis=0, ddof=1).sum(), components=3, permutations=9,
            level=0.5,
        )
    options: dict[str, Any] = {"views": ["linear_gaussian"], "parts": ["block"], "blocks": [2]}
    found = measured(tiny("gpt2"), power=4.0, components=3, permutations=9, level=0.5, **options).items[0].capacity
    assert found.details["permutations"] == 9
    assert found.p_value is not None
    assert found.capacity == pytest.approx(direct.capacity, rel=1e-6)
    assert found.capacity_interval == pytest.approx(direct.capacity_interval, rel=1e-6)


def test_projections_under_stated_noise_are_water_filled_singular_values(
    tiny: Callable[[str], LanguageModel], table: CapacityTable
) -> None:
    """The slow twin: the level of the water by bisection, on the singular values of the weights."""
    model = tiny("gpt2")
    (sample,) = capture_channels(model, TEXTS, parts=["value"], blocks=[3])
    matrix = model.model.transformer.h[2].attn.c_attn.weight.detach().double().numpy()[:, 64:]
    x, y = sample.x.astype(float), sample.y.astype(float)
    noise, power = y.var(axis=0, ddof=1).mean() / 100, x.var(axis=0, ddof=1).sum()
    gains = np.linalg.svd(matrix, compute_uv=False) ** 2 / noise
    low, high = 0.0, 1e6
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(level - 1 / gains, 0).sum() < power else (low, level)
    capacity = 0.5 * np.log2(np.maximum(low * gains, 1)).sum()
    rate = 0.5 * np.linalg.slogdet(np.eye(32) + matrix.T @ np.cov(x.T) @ matrix / noise)[1] / np.log(2)
    (row,) = table.select(view="jacobian", part="value", block=3).items
    assert row.capacity.capacity == pytest.approx(capacity, rel=1e-5)
    assert row.capacity.rate == pytest.approx(rate, rel=1e-5)
    assert row.capacity.n == len(x)


def test_heads_are_the_channels_of_the_models_attention(
    tiny: Callable[[str], LanguageModel], table: CapacityTable
) -> None:
    acts = capture_activations(tiny("gpt2"), TEXTS)
    longest = max(len(a.tokens) for a in acts)
    whole = [a.attention[1] for a in acts if len(a.tokens) == longest and a.attention is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        direct = attention_capacity(whole, causal=True, unit="bits")
    assert isinstance(direct, list)
    rows = table.select(view="attention", block=2).items
    assert [r.capacity.capacity for r in rows] == pytest.approx([d.capacity for d in direct], abs=1e-5)
    assert rows[0].capacity.ceiling == pytest.approx(np.log2(longest))


def test_windows_have_one_length_so_that_heads_have_one_ceiling(tiny: Callable[[str], LanguageModel]) -> None:
    for family in ("llama", "bert"):
        found = measured(tiny(family), TEXT, views=["attention"], window=16, unit="bits")
        for item in found.items:
            assert item.capacity.ceiling == pytest.approx(4.0)
            assert set(item.capacity.details["queries"]) == {16}
            low, high = item.capacity.capacity_interval or (0, 0)
            assert low < item.capacity.capacity < high
            assert item.capacity.n > 5
            assert ("uniform_capacity" in item.capacity.details) is (family == "llama")


def test_texts_that_the_heads_are_not_measured_on_are_said(tiny: Callable[[str], LanguageModel]) -> None:
    found = measured(tiny("gpt2"), ["The old man ran home.", *["The man."] * 3], views=["attention"], blocks=[1])
    assert any("measured on the 1 of 4 windows" in note for note in found.notes)
    assert found.items[0].capacity.n == 1
    found = measured(tiny("gpt2"), ["The old man.", "The old man.", "The man."], views=["attention"], blocks=[1])
    assert not any("measured on the" in note for note in found.notes)


def test_readout_begins_at_the_embedding_and_ends_at_the_prediction(
    tiny: Callable[[str], LanguageModel], table: CapacityTable
) -> None:
    import torch

    from infogeo import readout_capacity

    rows = table.select(view="readout").items
    assert [item.block for item in rows] == [0, 1, 2, 3]
    model = tiny("gpt2")
    found = measured(model, TEXTS[:1], views=["readout"], contexts=1000)
    acts = capture_activations(model, TEXTS[0], attention=False)
    with torch.no_grad():
        last = model.model(torch.tensor(acts.token_ids.tolist())[None]).logits[0]
        first = model.model.lm_head(model.model.transformer.ln_f(torch.from_numpy(acts.hidden_states[0].copy())))
    for item, logits in ((found.items[-1], last), (found.items[0], first)):
        with pytest.warns(EstimateWarning):
            direct = readout_capacity(torch.log_softmax(logits.double(), -1).numpy(), contexts=1000)
        assert item.capacity.capacity == pytest.approx(direct.capacity, abs=1e-5)


def test_the_same_seed_gives_the_same_table(tiny: Callable[[str], LanguageModel]) -> None:
    options: dict[str, Any] = {"views": ["jacobian"], "parts": ["block"], "jacobian_tokens": 3, "blocks": [2]}
    one, two, other = (measured(tiny("llama"), rng=seed, **options).items[0].capacity for seed in (5, 5, 6))
    assert one.capacity == two.capacity != other.capacity
    assert one.n == 3


def test_more_signal_and_more_power_give_more_capacity(tiny: Callable[[str], LanguageModel]) -> None:
    options: dict[str, Any] = {"views": ["jacobian"], "parts": ["value"], "blocks": [1]}
    at = [measured(tiny("gpt2"), **options, **more).items[0].capacity.capacity
          for more in ({}, {"noise": 30.0}, {"power": 4.0}, {"noise": "float16"})]
    assert at[0] < at[2] < at[1] < at[3]
    said = measured(tiny("gpt2"), **options, noise="bfloat16")
    assert "rounding to bfloat16" in said.items[0].capacity.noise
    assert "rounding to bfloat16" in said.assumptions()[0]


def test_data_processing(tiny: Callable[[str], LanguageModel]) -> None:
    """Where theory demands it: deterministic steps after a noisy one, on the model's own numbers."""
    (sample,) = capture_channels(tiny("llama"), TEXTS, parts=["feed_forward"], blocks=[2])
    x, y = sample.x.astype(float), sample.y.astype(float)
    mixing = np.random.default_rng(0).normal(size=(32, 32))
    chain = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        for kept in (32, 16, 8):  # the output, then fewer and fewer of its components after an invertible map
            chain.append(linear_gaussian_capacity(x, (y @ mixing)[:, :kept], shrinkage=None))
    assert data_processing_check(chain).obeyed
    assert chain[0].details["plug_in_rate"] > chain[1].details["plug_in_rate"] > chain[2].details["plug_in_rate"]
    from infogeo_adapters import part_jacobians

    # noise enters the input of the feed-forward once and is carried along; each rounding adds some
    found = part_jacobians(tiny("llama"), TEXTS, part="feed_forward", block=2, tokens=1, rng=0)
    jacobian, spread = found.jacobians[0].astype(float), np.cov(x.T)
    inner, scale = 0.01 * np.trace(spread) / 32 * np.eye(32), 1e-6 * np.trace(jacobian @ spread @ jacobian.T) / 32
    carried = jacobian @ inner @ jacobian.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        stages = [
            jacobian_capacity(np.eye(32), noise_cov=inner, input_cov=spread),
            jacobian_capacity(jacobian, noise_cov=carried + scale * np.eye(32), input_cov=spread),
            jacobian_capacity(mixing @ jacobian, noise_cov=mixing @ (carried + scale * np.eye(32)) @ mixing.T
                              + 0.1 * scale * np.eye(32), input_cov=spread),
        ]
    for quantity in ("rate", "capacity"):
        assert data_processing_check(stages, quantity=quantity).obeyed


def test_a_short_text_gives_what_can_be_given(tiny: Callable[[str], LanguageModel]) -> None:
    with pytest.warns(EstimateWarning, match="capacities come with warnings"):
        found = measure_capacity(tiny("gpt2"), TEXTS[0], window=64)
    assert {item.capacity.view for item in found.items} == {"jacobian", "attention", "readout"}
    notes = " ".join(found.notes)
    assert "tokens are too few to fit a linear channel of 32 to 32 components, wanted at least 88" in notes
    assert "there is no rate; give at least 64" in notes
    assert "there is one text only" in notes
    assert found.select(view="jacobian").items[0].capacity.rate is None


def test_a_model_without_a_head_is_not_read_out(minilm: LanguageModel) -> None:
    found = measured(minilm, TEXTS[:2], views=["attention", "readout"], blocks=[1])
    assert [item.head for item in found.items] == list(range(1, 13))
    assert "predicts no tokens" in " ".join(found.notes)
    with pytest.raises(ModelError, match=r"nothing could be measured.*predicts no tokens"):
        measured(minilm, TEXTS[:1], views=["readout"], blocks=[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_number_formats(make_tiny: Any, dtype: str) -> None:
    """Llama takes the softmax in float32 whatever it computes in, so that rows sum to one to that rounding only."""
    import torch

    def first(form: str) -> list[float]:
        net, tokenizer = make_tiny("llama")
        model = load_model(net.to(getattr(torch, form)), tokenizer=tokenizer)
        found = measured(model, blocks=[2], jacobian_tokens=4)
        assert {item.capacity.view for item in found.items} == set(capacity_views.VIEWS)
        return [item.capacity.capacity for item in found.items if item.part in ("head", "query", "readout")]

    assert first(dtype) == pytest.approx(first("float32"), rel=0.02, abs=0.02)


def test_a_part_that_is_missing_is_named(make_tiny: Any) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=64, num_local_experts=4,
    )
    net = transformers.MixtralForCausalLM(config).eval()
    model = load_model(net, tokenizer=make_tiny("gpt2")[1])
    found = measured(model, views=["jacobian"], parts=["value", "feed_forward"])
    assert [item.part for item in found.items] == ["value"]
    assert any(note.startswith("block 1, feed_forward: the part was not found") for note in found.notes)


def test_a_long_text_is_measured_in_windows_spread_over_it(tiny: Callable[[str], LanguageModel]) -> None:
    found = measured(tiny("gpt2"), TEXT, views=["attention"], blocks=[1], window=8, max_tokens=40)
    assert found.n_tokens <= 40
    assert found.n_windows == 5
    assert any(f" {found.n_tokens} were measured, in windows spread" in note for note in found.notes)


def test_neighboring_windows_are_one_group_of_the_intervals(tiny: Callable[[str], LanguageModel]) -> None:
    """Every text three times: as windows that stand alone the copies would narrow all intervals."""
    sizes = [len(row.ids) for row in token_rows(tiny("gpt2"), TEXTS)]
    rows = token_windows(tiny("gpt2"), TEXTS * 5, max(sizes))
    stretch = capacity_views.stretches_of(rows)
    assert np.array_equal(np.unique(stretch), np.arange(capacity_views.STRETCHES))
    assert (np.diff(stretch) >= 0).all()
    tokens = np.bincount(stretch, weights=[(~row.special).sum() for row in rows])
    assert tokens.max() < 2 * tokens.mean()
    assert np.array_equal(capacity_views.stretches_of(rows[:20]), np.arange(20))

    thrice = [text for text in TEXTS * 5 for _ in range(3)]
    options: dict[str, Any] = {"blocks": [2], "parts": ["feed_forward"], "jacobian_tokens": 200, "window": 8}
    views = ("linear_gaussian", "jacobian")
    assert [item.capacity.details["groups"] for item in measured(tiny("gpt2"), thrice, views=views, **options).items] \
        == [20, 20]
    options["attention_windows"] = 1000
    once, again = (measured(tiny("gpt2"), t, views=["attention"], **options) for t in (TEXTS * 5, thrice))
    for one, two in zip(once.items, again.items, strict=True):
        widths = [high - low for low, high in (one.capacity.capacity_interval, two.capacity.capacity_interval)]
        assert widths[1] > 0.8 * widths[0]


# Checkpoints


def test_interrupted_work_goes_on(
    tiny: Callable[[str], LanguageModel], table: CapacityTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "work.jsonl"

    def stop(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tiny("gpt2"), unit="bits", checkpoint=path, progress=stop)
    whole = path.read_text()
    path.write_text(whole + '{"block": 2, "items": [{"blo')  # cut off while it was written
    done: list[int] = []
    measure = capacity_views.measure_block

    def counted(model: Any, rows: Any, block: int, *rest: Any) -> Any:
        done.append(block)
        return measure(model, rows, block, *rest)

    monkeypatch.setattr("infogeo_adapters.capacity.measure_block", counted)
    resumed = measured(tiny("gpt2"), unit="bits", checkpoint=path)
    assert done == [2, 3]
    assert resumed.rows() == table.rows()
    assert resumed.notes == table.notes
    again = measured(tiny("gpt2"), unit="bits", checkpoint=path)
    assert done == [2, 3]
    assert again.to_dict()["items"] == resumed.to_dict()["items"]


def test_a_checkpoint_of_other_work_is_refused(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    path = tmp_path / "work.jsonl"
    options: dict[str, Any] = {"views": ["attention"], "blocks": [1], "checkpoint": path}
    first = measured(tiny("gpt2"), rng=None, **options)
    assert measured(tiny("gpt2"), rng=None, **options).rows() == first.rows()
    for more in ({"unit": "bits"}, {"rng": 12345}, {"blocks": [2]}, {"texts": TEXTS[1:]}):
        with pytest.raises(ArgumentError, match="belongs to other work"):
            measured(tiny("gpt2"), **{"rng": None, **options, **more})
    (tmp_path / "mine.txt").write_text("a letter\n")
    with pytest.raises(ArgumentError, match="is no unfinished work"):
        measured(tiny("gpt2"), **{**options, "checkpoint": tmp_path / "mine.txt"})
    with pytest.raises(OutputError, match="cannot write"):
        measured(tiny("gpt2"), **{**options, "checkpoint": tmp_path / "absent" / "work.jsonl"})
    head = path.read_text().split("\n")[0]
    for damage in ("garbage", "{}", '{"block": 1, "items": [{}], "doubts": []}', "[]"):
        path.write_text(f"{head}\n{damage}\n")
        with pytest.raises(ArgumentError, match=r"line 2 of .* is damaged"):
            measured(tiny("gpt2"), rng=None, **options)


# Guards


def test_arguments_that_mean_nothing(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    for options, words in (
        ({"views": ["deb2025"]}, "wanted one or more of linear_gaussian"), ({"views": []}, "found none"),
        ({"parts": ["mlp"]}, "found 'mlp'"), ({"blocks": [7]}, "from 1 to 3"), ({"noise": "int3"}, "bfloat16"),
        ({"noise": float("nan")}, "NaN"), ({"noise": 1e9}, "-100 to 300"), ({"power": 0}, "above 0"),
        ({"window": 1000}, "at most 64"), ({"window": 1}, "at least 2"), ({"level": 95}, "between 0 and 1"),
        ({"unit": "bytes"}, "nats"), ({"rng": -1}, "rng"), ({"contexts": 1}, "contexts"),
        ({"jacobian_tokens": 0}, "jacobian_tokens"), ({"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(ArgumentError, match=words):
            measure_capacity(model, TEXTS, **options)
    with pytest.raises(ArgumentError, match="load_model"):
        measure_capacity(model.model, TEXTS)  # type: ignore[arg-type]
    for texts in ([], "", [""], b"x", 3):
        with pytest.raises(TextError):
            measure_capacity(model, texts)  # type: ignore[arg-type]


def test_constant_outputs_are_said(make_tiny: Any) -> None:
    import torch

    net, tokenizer = make_tiny("gpt2")
    model = load_model(net, tokenizer=tokenizer)
    with torch.no_grad():
        net.transformer.h[0].mlp.c_proj.weight.zero_()
        net.transformer.h[0].mlp.c_proj.bias.zero_()
    found = measured(model, views=["jacobian", "linear_gaussian"], parts=["block", "feed_forward"], blocks=[1])
    assert {item.part for item in found.items} == {"block"}
    assert any("does not vary" in note for note in found.notes)
    with pytest.raises(DomainError, match="the same"):
        linear_gaussian_capacity(np.random.default_rng(0).normal(size=(50, 2)), np.zeros((50, 2)))


# Pictures


def test_figures_draw_the_table(table: CapacityTable) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    from infogeo_adapters.plots.capacity import capacity_figure, head_capacity_figure

    for view in ("linear_gaussian", "jacobian", "readout"):
        figure = capacity_figure(table, view=view)
        capacities = [trace for trace in figure.data if trace.name == "capacity"]
        drawn = [v for trace in capacities for v in trace.y]
        wanted = [item.capacity.capacity for item in table.select(view=view).items]
        assert sorted(drawn) == pytest.approx(sorted(wanted), rel=1e-3)
        first = next(item for item in table.select(view=view).items if item.part in ("block", "readout"))
        assert first.capacity.capacity_interval is not None
        arm = first.capacity.capacity_interval[1] - first.capacity.capacity
        assert capacities[0].error_y.array[0] == pytest.approx(arm, rel=1e-2)
        assert max(figure.layout.yaxis.range) > max(capacities[0].y)
    one = table.select(view="linear_gaussian", part="block").items[0]
    around = (one.capacity.capacity - 1.0, one.capacity.capacity + 3.0)
    uneven = replace(table, items=(replace(one, capacity=replace(one.capacity, capacity_interval=around)),))
    bars = capacity_figure(uneven, view="linear_gaussian").data[0].error_y
    assert (bars.array[0], bars.arrayminus[0]) == pytest.approx((3.0, 1.0))
    heads = head_capacity_figure(table)
    (cells,) = heads.data
    assert np.array(cells.z).ravel() == pytest.approx(
        [item.capacity.capacity for item in table.select(view="attention").items], rel=1e-3
    )
    assert "uniform attention under the causal mask" in heads.layout.meta["summary"]


def test_figures_of_what_is_not_there(table: CapacityTable) -> None:
    from infogeo_adapters.plots.capacity import capacity_figure, head_capacity_figure

    heads = table.select(view="attention")
    with pytest.raises(ArgumentError, match="no rows of the view 'jacobian'; its views are: attention"):
        capacity_figure(heads, view="jacobian")
    with pytest.raises(ArgumentError, match="head_capacity_figure"):
        capacity_figure(heads, view="attention")
    with pytest.raises(ArgumentError, match="no rows"):
        head_capacity_figure(table.select(view="readout"))


def test_the_page_needs_no_network_and_escapes_names(table: CapacityTable) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    import dataclasses

    from infogeo_adapters.plots.capacity import capacity_page

    source = dataclasses.replace(table.source, model="<b>x</b>")
    page = capacity_page(dataclasses.replace(table, source=source, notes=("a < b",)))
    body = page.split("<script", 1)[0]
    assert "<b>x</b>" not in body
    assert "&lt;b&gt;x&lt;/b&gt;" in body
    assert "a &lt; b" in body
    assert not any(word in body for word in ("http:", "https:", "src=", "@import"))
    assert body.count('<div id="plot') == 4
    assert body.count("<tr>") == len(table.items) + 1


# The command


def run(capsys: Capture, *args: str) -> tuple[int, str, str]:
    code = main(["capacity", *args])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.fixture
def folder(folders: Callable[[str], Path]) -> str:
    return str(folders("gpt2"))


def test_it_prints_a_table_by_layer(capsys: Capture, folder: str) -> None:
    code, out, err = run(capsys, TEXT, "--model", folder, "--window", "16")
    assert code == 0
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == list(command.SHOWN)
    assert len(rows) == 3 * (6 + 6 + 4) + 4
    assert {len(row) for row in rows} == {len(head)}
    assert {row[9] for row in rows} == {"bits"}
    blocks = [int(row[0]) for row in rows]
    assert blocks == sorted(blocks)
    for view in command.VIEWS:
        assert f"infogeo: {view}: " in err
    assert "loading the model" in err


def test_a_sentence_says_what_it_cannot_give(capsys: Capture, folder: str) -> None:
    code, out, err = run(capsys, TEXTS[0], "--model", folder, "-q")
    assert code == 0
    assert "linear_gaussian" not in out
    assert "wanted at least 88; give more text, or project with --components" in err
    assert "loading" not in err


def test_json_holds_noise_constraint_and_details(capsys: Capture, folder: str) -> None:
    code, out, _ = run(capsys, TEXT, "-m", folder, "-v", "attention", "-b", "2", "--units", "nats", "--json", "-q")
    assert code == 0
    found = json.loads(out)
    assert found["type"] == "CapacityTable"
    assert [item["head"] for item in found["items"]] == [1, 2, 3, 4]
    first = found["items"][0]["capacity"]
    assert first["noise"].startswith("the head's own")
    assert first["constraint"]
    assert first["details"]["uniform_capacity"] > 0
    assert first["unit"] == "nats"


def test_it_writes_files(capsys: Capture, folder: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    options = ["-m", folder, "-v", "attention", "-b", "1", "-q"]
    for name in ("c.html", "c.csv", "c.json"):
        code, out, _ = run(capsys, TEXT, *options, "--out", str(tmp_path / name))
        assert (code, out) == (0, f"{tmp_path / name}\n")
    assert "Plotly.newPlot" in (tmp_path / "c.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text(encoding="utf-8").splitlines()))
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert [float(row["capacity"]) for row in rows] == [i["capacity"]["capacity"] for i in found["items"]]
    assert all(row["noise"] and row["constraint"] for row in rows)
    for _ in range(2):  # a folder of its own kind is replaced
        code, out, _ = run(capsys, TEXT, *options, "--out", str(tmp_path / "whole"))
        assert code == 0
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {
        "capacity.html", "capacity.csv", "capacity.json", "manifest.json"
    }


def test_the_sample_that_ships_with_infogeo(capsys: Capture, folder: str) -> None:
    code, out, err = run(capsys, "--background", "-m", folder, "-v", "attention", "-b", "1", "--max-tokens", "320")
    assert code == 0
    assert "were measured, in windows spread evenly over the text" in err
    assert out.count("\n") == 5


def test_a_file_and_stdin(capsys: Capture, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    options = ["-m", folder, "-v", "attention", "-b", "1", "-q"]
    from_file = run(capsys, "--file", str(path), *options)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert run(capsys, "--file", "-", *options) == from_file == run(capsys, TEXT, *options)


@pytest.mark.parametrize(("args", "words"), [
    ([], "give one of TEXT, --file FILE and --background; none was given"),
    ([TEXT, "--background"], "TEXT and --background were given"),
    ([TEXT, "--view", "deb2025"], "deb2025"),
    ([TEXT, "--view", "attention", "--part", "query"], "--part goes with --view linear_gaussian or jacobian"),
    ([TEXT, "--view", "attention", "--noise", "10"], "--noise goes with"),
    ([TEXT, "--view", "jacobian", "--components", "4"], "--components goes with --view linear_gaussian"),
    ([TEXT, "--out", "x.png"], "none of .html, .csv, .json"),
    ([TEXT, "--power", "0"], "power"),
    (["", ], "an empty text"),
    (["--file", "no such file"], "cannot be read"),
    ([TEXT, "--out", "absent/x.csv"], "there is no folder"),
    ([TEXT, "--checkpoint", "absent/x.jsonl"], "there is no folder"),
    ([TEXT, "--noise", "loud"], "noise: found 'loud', wanted a signal-to-noise ratio in decibels or one of"),
])  # fmt: skip
def test_errors_come_before_the_model_is_loaded(
    capsys: Capture, args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *args, "--model", "no such model")
    assert (code, out) == (2, "")
    assert words in err
    assert "loading" not in err


def test_errors_of_the_measurement(capsys: Capture, folder: str) -> None:
    for args, words in ((["--noise", "int3"], "bfloat16"), (["--block", "9"], "from 1 to 3"),
                        (["--window", "500"], "at most 64")):
        code, out, err = run(capsys, TEXT, "-m", folder, "-q", *args)
        assert (code, out) == (2, "")
        assert words in err
        assert err.startswith("infogeo: ")


def test_a_missing_library_is_said_before_the_model_is_loaded(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    code, _, err = run(capsys, TEXT, "--out", str(tmp_path / "c.html"))
    assert code == 2
    assert "infogeo[plots]" in err
    assert "loading" not in err


def test_the_lists_of_the_command_are_those_of_the_library() -> None:
    assert command.VIEWS == capacity_views.VIEWS
    assert command.PARTS == PARTS
