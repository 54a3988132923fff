"""What the doctor finds in a model, and that it says so when something does not work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer

from infogeo.errors import ArgumentError, TextError
from infogeo_adapters import ModelReport, capture_activations, inspect_model, load_model
from infogeo_adapters import _doctor_checks as checks
from infogeo_adapters import _doctor_patient as patients
from infogeo_adapters.cli import main
from infogeo_adapters.doctor import Check

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def report(bundled: Any) -> ModelReport:
    return inspect_model(bundled)


def specimen(name: str) -> Any:
    return load_model(make_specimen(name), tokenizer=make_tokenizer())


# The bundled model, where all is well


def test_all_is_well_with_the_bundled_model(report: ModelReport) -> None:
    assert report.well
    assert [check.name for check in report.checks] == list(checks.CHECKS)
    assert all(check.found and check.values for check in report.checks)
    assert report.summary() == "bundled (LlamaForCausalLM): all is well"


def test_the_numbers_are_those_of_the_model(report: ModelReport, bundled: Any) -> None:
    net = bundled.model
    weights = report.check("weights").values
    assert weights["parameters"] == sum(p.numel() for p in net.parameters())
    assert weights["content_hash"] == bundled.source.content_hash
    assert report.check("blocks").values["stack"] == {
        "path": "model.layers", "depth": net.config.num_hidden_layers, "width": net.config.hidden_size, "modules": 6,
    }
    assert report.check("context").values["length"] == bundled.context_length == 512
    assert report.check("head").values["rows"] == net.lm_head.weight.shape[0]
    assert report.check("tokenizer").values["tokens"] == len(bundled.tokenizer)
    assert report.check("causal").values["stack"]["change"] == 0.0
    assert report.check("alignment").values["round_trip"]


def test_self_check_and_prediction_are_those_of_the_whole_model(report: ModelReport, bundled: Any) -> None:
    """The slow twin: the model's own logits on the sample, in float64 from there on."""
    import torch

    ids = torch.tensor([bundled.tokenizer(report.sample)["input_ids"]])
    with torch.no_grad():
        logits = bundled.model(ids).logits[0].double().numpy()
    assert report.check("self-check").values["largest_logit"] == pytest.approx(np.abs(logits).max(), rel=1e-5)
    assert report.check("self-check").values["difference"] <= report.check("self-check").values["allowed"]
    loss = [
        np.log(np.exp(row - row.max()).sum()) + row.max() - row[t] for row, t in zip(logits, ids[0, 1:], strict=False)
    ]
    assert report.check("prediction").values["cross_entropy"] == pytest.approx(np.mean(loss), rel=1e-5)
    assert report.check("prediction").values["chance"] == pytest.approx(np.log(4096))


def test_attention_is_said_to_be_what_it_is(report: ModelReport, bundled: Any) -> None:
    values = report.check("attention").values
    acts = capture_activations(bundled, report.sample)
    sums = acts.attention.astype(float).sum(-1)  # type: ignore[union-attr]
    assert values["maps"] == 6
    assert (values["lowest_row_sum"], values["highest_row_sum"]) == pytest.approx((sums.min(), sums.max()))
    assert len(values["kinds"]) == 6
    assert "blocks 1-6: 5 heads, causal" in report.check("attention").found


def test_the_text_is_one_screen_of_aligned_lines(report: ModelReport) -> None:
    lines = report.text().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 110
    named = [line for line in lines[1:] if not line.startswith(" ")]
    assert [line.split()[1] for line in named] == [check.name for check in report.checks]
    column = {line.index(line.split(maxsplit=2)[2]) for line in named}
    assert len(column) == 1
    assert all(line.startswith("✓ ") for line in named)
    assert max(map(len, report.text(width=60).splitlines()[1:])) <= 60
    with pytest.raises(ArgumentError, match="width: found 'a', wanted a whole number"):
        report.text(width="a")  # type: ignore[arg-type]


def test_a_report_is_a_table_and_strict_json(report: ModelReport) -> None:
    columns, rows = report.rows()
    assert columns == ("check", "well", "found", "reason")
    assert len(rows) == len(report.checks)
    plain = json.loads(report.to_json())
    assert plain["checks"][0]["name"] == "weights"
    with pytest.raises(ArgumentError, match=r"'head count' does not exist; there are: weights, blocks"):
        report.check("head count")


def test_nothing_is_left_on_the_model(make_tiny: Callable[[str], Any], restored: Callable[[Any], Any]) -> None:
    net, tokenizer = make_tiny("gpt2")
    model = load_model(restored(net.train()), tokenizer=tokenizer)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    inspect_model(model)
    assert net.training
    assert all((net.state_dict()[name] == tensor).all() for name, tensor in before.items())


# Where something does not work


def test_a_sentence_encoder_has_no_head(minilm: Any, capsys: Capture) -> None:
    found = inspect_model(minilm)
    assert [check.name for check in found.checks if not check.well] == ["read-out"]
    assert "predicts no tokens" in str(found.check("read-out").reason)
    assert {"self-check", "head", "prediction"}.isdisjoint(check.name for check in found.checks)
    assert found.check("causal").values["stack"]["change"] > 1e-3
    assert found.check("blocks").values["kind"] == "encoder"
    assert main(["doctor", "minilm", "-q"]) == 1
    out = capsys.readouterr().out
    assert "✗ read-out" in out
    assert "readout=" not in out


def test_both_stacks_of_an_encoder_decoder_are_looked_at(tiny: Callable[[str], Any]) -> None:
    found = inspect_model(tiny("t5"))
    assert {"encoder", "decoder"} <= {*found.check("blocks").values}
    assert not found.check("causal").values["encoder"]["causal"]
    assert found.check("causal").values["decoder"]["causal"]
    assert found.check("read-out").values["path"][-1] == "lm_head"
    assert found.check("self-check").well
    assert "cross" in found.check("attention").found
    assert found.check("attention").values["maps"] == 3 + 2 + 2
    assert found.check("stages").values["found"]["resid_cross"] == (1, 2)
    assert "decoder" in found.check("padding").values


def test_a_mamba_has_no_attention() -> None:
    found = inspect_model(specimen("mamba"))
    assert "gives no attention" in str(found.check("attention").reason)
    assert not found.check("stages").well
    assert found.check("self-check").well
    assert not found.well
    assert "✗ attention" in found.text()


def test_rows_of_the_head_without_a_token_are_counted_and_weighed() -> None:
    import torch

    model = specimen("gpt2")
    found = inspect_model(model, sample="the cat sat on the mat")
    values = found.check("head").values
    ids = torch.tensor([model.tokenizer(found.sample)["input_ids"]])
    with torch.no_grad():
        shares = model.model(ids).logits[0].double().softmax(-1).numpy()
    without = sorted({*range(67)} - {*model.tokenizer.get_vocab().values()})
    assert values["rows"] == 67
    assert values["without_token"] == len(without) > 0
    assert values["probability_without_token"] == pytest.approx(shares[:, without].sum(1).mean(), rel=1e-5)


def test_blocks_without_attention_in_a_hybrid_stack_are_named() -> None:
    found = inspect_model(specimen("lfm2")).check("stages")
    assert found.well
    assert "only in blocks 2, 4" in found.found
    assert found.values["found"]["query"] == (2, 4)


def test_an_untrained_model_predicts_no_better_than_chance() -> None:
    found = inspect_model(load_model("bundled@0"))
    assert [check.name for check in found.checks if not check.well] == ["prediction"]
    assert "not trained" in str(found.check("prediction").reason)


def test_a_head_that_is_not_trained_is_seen_though_the_read_out_is_right(bundled: Any) -> None:
    import copy

    import torch

    net = copy.deepcopy(bundled.model)
    torch.manual_seed(0)
    net.lm_head.weight = torch.nn.Parameter(torch.randn_like(net.lm_head.weight) * 0.02)
    found = inspect_model(load_model(net, tokenizer=bundled.tokenizer))
    assert [check.name for check in found.checks if not check.well] == ["prediction"]
    assert "of the head" in str(found.check("prediction").reason)


def test_a_tokenizer_of_as_many_other_tokens_is_seen(bundled: Any, tmp_path: Path) -> None:
    import transformers

    bundled.tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    table, fixed = plain["model"]["vocab"], {token["content"] for token in plain["added_tokens"]}
    names = [name for name in table if name not in fixed]
    numbers = np.random.default_rng(0).permutation([table[name] for name in names]).tolist()
    table.update(zip(names, numbers, strict=True))
    file.write_text(json.dumps(plain), encoding="utf-8")
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    found = inspect_model(load_model(bundled.model, tokenizer=other))
    assert [check.name for check in found.checks if not check.well] == ["prediction"]
    assert "belongs to another model" in str(found.check("prediction").reason)


def test_a_masked_model_is_asked_for_tokens_that_it_does_not_see() -> None:
    """The slow twin: one text for each token, with the mask in its place."""
    import torch

    model = specimen("bert")
    found = inspect_model(model, sample="the cat sat on the mat")
    ids = torch.tensor([model.tokenizer(found.sample)["input_ids"]])
    losses = []
    for place in range(1, 7):
        masked = ids.clone()
        masked[0, place] = model.tokenizer.mask_token_id
        with torch.no_grad():
            losses.append(-float(model.model(masked).logits[0, place].double().log_softmax(-1)[ids[0, place]]))
    values = found.check("prediction").values
    assert values["tokens"] == 6
    assert values["cross_entropy"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.check("prediction").well == bool(np.mean(losses) < np.log(67))
    long = inspect_model(model, sample="the cat sat on the mat and the dog ran home because it was cold")
    assert long.check("prediction").values["tokens"] == 8  # every second one


@pytest.mark.parametrize(("name", "rows"), [("gpt2", 1024), ("opt", 2048), ("bart", 64), ("llama", None)])
def test_a_context_longer_than_the_table_of_positions_is_seen(name: str, rows: int | None) -> None:
    net = make_specimen(name)
    tokenizer = make_tokenizer(model_max_length=10**6)
    found = inspect_model(load_model(net, tokenizer=tokenizer)).check("context")
    assert found.well
    assert found.values["table"] == rows
    net.config.max_position_embeddings = 4096
    found = inspect_model(load_model(net, tokenizer=tokenizer)).check("context")
    assert found.values["length"] == 4096
    assert found.well is (rows is None)
    assert rows is None or f"ends after {rows} tokens" in str(found.reason)


def test_a_sample_the_tokenizer_does_not_know_is_said_to_be_unknown(tiny: Callable[[str], Any]) -> None:
    found = inspect_model(tiny("bert"), sample="Съешь же ещё этих мягких булок")
    assert found.check("alignment").values["unknown"] > 0
    assert "unknown to the tokenizer" in str(found.check("alignment").reason)


def test_a_read_out_that_is_wrong_is_seen(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib
    from dataclasses import dataclass

    @dataclass
    class Wrong:
        right: Any

        def __getattr__(self, name: str) -> Any:
            return getattr(self.right, name)

        @contextlib.contextmanager
        def session(self) -> Any:
            with self.right.session() as project:
                yield lambda states: project(states) + 0.5

    right = patients.find_readout
    monkeypatch.setattr(patients, "find_readout", lambda model: Wrong(right(model)))
    check = inspect_model(bundled).check("self-check")
    assert check.values["difference"] == pytest.approx(0.5, rel=1e-3)
    assert "is not what the model predicts" in str(check.reason)


def test_padding_that_changes_states_is_said(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "infogeo_adapters.transformers.forward.padding_differences", lambda model: {"right": 0.5, "left": "no way"}
    )
    check = inspect_model(bundled).check("padding")
    assert "padding on the right changes" in str(check.reason)
    assert "not on the left: no way" in check.found


def test_a_check_that_breaks_hides_no_other(bundled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(patient: Any) -> Check:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(checks, "CHECKS", {**checks.CHECKS, "attention": broken})
    found = inspect_model(bundled)
    assert [check.name for check in found.checks if not check.well] == ["attention"]
    assert "RuntimeError: out of luck" in str(found.check("attention").reason)
    assert found.check("padding").well


def test_half_precision_is_looked_at_too() -> None:
    found = inspect_model(load_model(dtype="bfloat16"))
    assert found.check("weights").values["dtype"] == "bfloat16"
    assert found.check("read-out").values["dtype"] == "float32"
    check = found.check("self-check")
    assert 0 < check.values["difference"] <= check.values["allowed"]


def test_what_is_no_model_is_refused(bundled: Any) -> None:
    with pytest.raises(ArgumentError, match="found str, wanted a LanguageModel"):
        inspect_model("bundled")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="only white space"):
        inspect_model(bundled, sample="  ")


# The command


def test_the_command_prints_the_report(capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("bundled (LlamaForCausalLM): all is well\n✓ weights")
    assert "looking at it" in err


def test_the_command_prints_json(capsys: Capture) -> None:
    assert main(["doctor", "bundled", "--json", "--quiet", "--sample", "The dog ran home."]) == 0
    out, err = capsys.readouterr()
    plain = json.loads(out)
    assert plain["sample"] == "The dog ran home."
    assert {check["name"] for check in plain["checks"]} == {*checks.CHECKS}
    assert err == ""


def test_a_model_without_a_residual_stream_cannot_be_loaded(tmp_path: Path, capsys: Capture) -> None:
    from infogeo_adapters.transformers.stack import quiet

    with quiet():
        make_specimen("gemma3n").save_pretrained(tmp_path / "gemma3n")
    make_tokenizer().save_pretrained(tmp_path / "gemma3n")
    assert main(["doctor", str(tmp_path / "gemma3n"), "-q"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "residual stream" in err
    assert "Traceback" not in err


def test_a_broken_folder_cannot_be_loaded(
    folders: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(folders("gpt2"), tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    assert main(["doctor", str(tmp_path / "broken"), "-q"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "nowhere"), "-q"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_help_of_the_command_has_examples(capsys: Capture) -> None:
    assert main(["doctor", "--help"]) == 0
    out = capsys.readouterr().out
    assert "infogeo doctor" in out.split("Examples:")[1]
    assert "Exit code 1" in out
