"""The bundled model: small, whole, loaded through the common door, truly trained; and the tools that show it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infogeo.errors import ArgumentError, DomainError, FormatError, ModelError, ShapeError, TextError
from infogeo_adapters import models
from infogeo_adapters.models.kneser_ney import FALLBACK, KneserNey, discounts_of

transformers = pytest.importorskip(
    "transformers", reason="needs the extra transformers: pip install 'infogeo[transformers]'"
)
torch = pytest.importorskip("torch", reason="needs the extra transformers: pip install 'infogeo[transformers]'")

PARAGRAPHS = """\
The rain had stopped by the time the two boys came to the edge of the wood. "We shall never find the pony now," said \
Tom, and he sat down upon a fallen tree and began to cry. But his brother would not give up so easily. He climbed the \
gate, and looked up and down the lane, and at last he saw something brown moving behind the hedge.

"There she is!" he shouted. "She has found her way to the old mill, and the miller's wife is giving her an apple." \
Then they both ran down the hill as fast as they could, and the good woman laughed when she saw how wet they were, \
and brought them into the kitchen, where a great fire was burning, and gave them bread and milk for their supper.
"""
"""Written for this test; no book holds it."""


# The Kneser-Ney baseline


def slow_kneser_ney(train: list[int], text: list[int], *, vocab: int, order: int, begin: int = 0) -> list[float]:
    """The definition with dictionaries and loops, one probability after the other."""
    padded = [begin] * (order - 1) + train
    ends = range(order - 1, len(padded))
    counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
    counts[order] = Counter(tuple(padded[e - order + 1 : e + 1]) for e in ends)
    for n in range(order - 1, 0, -1):
        left = {(padded[e - n], *padded[e - n + 1 : e + 1]) for e in ends}
        counts[n] = Counter(gram[1:] for gram in left)

    def discount(n: int, count: int) -> float:
        if count == 0:
            return 0.0
        found, _ = discounts_of(np.array(list(counts[n].values())))
        return found[min(count, 3) - 1]

    def probability(context: tuple[int, ...], w: int) -> float:
        n = len(context) + 1
        lower = probability(context[1:], w) if context else 1 / vocab
        followers = {v: counts[n][(*context, v)] for v in range(vocab) if counts[n][(*context, v)]}
        total = sum(followers.values())
        if not total:
            return lower
        freed = sum(discount(n, c) for c in followers.values())
        own = followers.get(w, 0)
        return (own - discount(n, own) + freed * lower) / total

    seen = [begin] * (order - 1) + text
    return [math.log(probability(tuple(seen[i : i + order - 1]), w)) for i, w in enumerate(text)]


def zipf_text(rng: np.random.Generator, n: int, vocab: int) -> list[int]:
    """Tokens with rare and common ones, and with some order in them."""
    p = 1 / np.arange(1, vocab) ** 1.2
    draws = 1 + rng.choice(vocab - 1, size=n, p=p / p.sum())
    repeat = rng.random(n) < 0.4
    draws[1:] = np.where(repeat[1:], (draws[:-1] * 3) % (vocab - 1) + 1, draws[1:])
    return [int(w) for w in draws]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_equals_the_definition(order: int) -> None:
    train, text = zipf_text(np.random.default_rng(3), 1500, 30), zipf_text(np.random.default_rng(4), 60, 30)
    model = KneserNey(train, vocab_size=30, order=order)
    assert model.estimated[-1] or order < 3, "1500 tokens must be enough to estimate the highest discounts"
    np.testing.assert_allclose(model.log_probs(text), slow_kneser_ney(train, text, vocab=30, order=order), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    train=hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 6)),
    context=hnp.arrays(np.int64, st.integers(0, 5), elements=st.integers(0, 6)),
    order=st.integers(1, 4),
)
def test_kneser_ney_probabilities_sum_to_one(train: Any, context: Any, order: int) -> None:
    model = KneserNey(train, vocab_size=7, order=order)
    last = [model.log_probs([*context, w])[-1] for w in range(7)]
    assert math.fsum(np.exp(last)) == pytest.approx(1, abs=1e-12)
    assert np.isfinite(last).all()


def test_kneser_ney_uses_the_order_of_the_tokens() -> None:
    train = [1, 2, 3, 4] * 200
    in_order, shuffled = [1, 2, 3, 4] * 5, [4, 3, 2, 1] * 5
    model = KneserNey(train, vocab_size=5)
    assert model.log_probs(in_order).mean() > -0.1
    assert model.log_probs(shuffled).mean() < -1
    assert model.sizes == (4, 5, 6, 7)  # with the begin tokens in front


def test_kneser_ney_counts_distinct_left_neighbors_not_occurrences() -> None:
    # "san francisco": frequent, but after one word only; the reason for the method
    san, francisco, glasses = 1, 2, 3
    train = [san, francisco] * 50 + [w for left in range(4, 14) for w in (left, glasses)]
    p = np.exp([KneserNey(train, vocab_size=16, order=2).log_probs([15, w])[1] for w in (francisco, glasses)])
    assert p[1] > 2 * p[0]


def test_discounts_from_counts_of_counts_by_hand() -> None:
    # n = 40, 12, 6, 3: Y = 40/64 = 0.625; D1 = 1 - 2Y 12/40, D2 = 2 - 3Y 6/12, D3 = 3 - 4Y 3/6
    found, estimated = discounts_of(np.repeat([1, 2, 3, 4, 9], [40, 12, 6, 3, 5]))
    assert estimated
    np.testing.assert_allclose(found, (0.625, 1.0625, 1.75), rtol=1e-15)


@pytest.mark.parametrize("counts", [[1, 1, 2, 3], [1] * 5 + [2] * 3 + [3] * 30 + [4]])
def test_discounts_that_cannot_be_estimated_are_said_to_be_replaced(counts: list[int]) -> None:
    assert discounts_of(np.array(counts)) == (FALLBACK, False)


def test_kneser_ney_guards() -> None:
    with pytest.raises(ShapeError, match="row of tokens"):
        KneserNey([[1, 2]], vocab_size=4)
    with pytest.raises(DomainError, match="wanted integers"):
        KneserNey([0.5], vocab_size=4)
    with pytest.raises(DomainError, match="found 1 to 4, wanted 0 to 3"):
        KneserNey([1, 4], vocab_size=4)
    with pytest.raises(DomainError, match="at least one"):
        KneserNey([], vocab_size=4)
    with pytest.raises(ArgumentError, match="1 to 5"):
        KneserNey([1], vocab_size=4096, order=6)
    with pytest.raises(ArgumentError, match="begin"):
        KneserNey([1], vocab_size=4, begin=4)


# What ships


def test_size_modes_and_recipe_fit_the_files() -> None:
    from infogeo_adapters.models.install import MAX_BYTES, digest

    files = sorted(models.bundled_path().iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {f.name for f in files}
    assert sum(f.stat().st_size for f in files) <= MAX_BYTES == 8_000_000
    recipe = models.bundled_recipe()
    assert set(recipe["files_sha256"]) == {
        p.relative_to(models.FOLDER).as_posix() for p in [*files, *models.FOLDER.glob("checkpoints/*/*")]
    }
    for name, wanted in recipe["files_sha256"].items():
        assert digest(models.FOLDER / name) == wanted, name
    assert recipe["data"]["tokens_trained_on"] == recipe["bundled_step"] * recipe["settings"]["tokens_per_step"]


def test_steps_and_paths() -> None:
    steps = models.bundled_steps()
    assert len(steps) >= 4
    assert steps[0] == 0
    assert list(steps) == sorted(steps)
    assert models.bundled_path(steps[-1]) == models.bundled_path()
    assert len({models.bundled_path(s) for s in steps}) == len(steps)
    with pytest.raises(ArgumentError, match=r"step 5 .* choose from 0, "):
        models.bundled_path(5)


def test_a_package_without_the_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    for call in (models.bundled_path, models.bundled_recipe, models.bundled_steps, models.background_text):
        with pytest.raises(ModelError, match="install infogeo again"):
            call()


def test_training_log_ships_thinned_and_falls() -> None:
    rows = [json.loads(line) for line in (models.FOLDER / "training_log.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps[0] == 0
    assert steps == sorted(set(steps))
    assert steps[-1] == models.bundled_recipe()["bundled_step"] - 1
    assert np.mean([r["loss"] for r in rows[-5:]]) < rows[0]["loss"] - 3


def test_background_sample_is_prose_in_whole_paragraphs() -> None:
    paragraphs = models.background_text().strip().split("\n\n")
    assert 5500 < sum(len(p.split()) for p in paragraphs) < 6500
    assert len(set(paragraphs)) == len(paragraphs) > 50
    assert not any("\n" in p or p.isupper() or len(p.split()) < 6 for p in paragraphs)


# Through the common door


@pytest.fixture(scope="module")
def bundled() -> Any:
    from infogeo_adapters.transformers.loading import load_model

    return load_model()


def score(loaded: Any, text: str = PARAGRAPHS, **options: Any) -> Any:
    from infogeo_adapters.models.evaluate import score_text

    return score_text(loaded.model, loaded.tokenizer, text, **options)


def test_loads_as_float32_from_float16_files(bundled: Any) -> None:
    from safetensors.numpy import load_file

    stored = load_file(models.bundled_path() / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {np.dtype(np.float16)}
    parameters = dict(bundled.model.named_parameters())
    assert {p.dtype for p in parameters.values()} == {torch.float32}
    assert sum(p.numel() for p in parameters.values()) == models.bundled_recipe()["parameters"]
    for name, values in stored.items():
        np.testing.assert_array_equal(parameters[name].detach().numpy(), values.astype(np.float32))
    assert bundled.context_length == 512


def test_is_trained(bundled: Any) -> None:
    from infogeo_adapters.models.evaluate import compressed_bits_per_byte, score_text, untrained_twin

    own = score(bundled).bits_per_byte
    untrained = score_text(untrained_twin(bundled.model), bundled.tokenizer, PARAGRAPHS).bits_per_byte
    packed = compressed_bits_per_byte(PARAGRAPHS.encode())
    assert own < 0.6 * untrained
    assert own < 0.6 * min(packed.values())
    assert own < 2.0  # bytes of English prose; a unigram model of the tokens needs about 2.6


def test_prefers_english_in_order(bundled: Any) -> None:
    words = PARAGRAPHS.split()
    shuffled = " ".join(np.random.default_rng(0).permutation(words))
    assert score(bundled, " ".join(words)).nats < score(bundled, shuffled).nats - 100


def test_early_checkpoints_load_and_the_loss_falls_along_the_training(bundled: Any) -> None:
    from infogeo_adapters.transformers.loading import load_model

    early = [score(load_model(f"bundled@{step}")).nats_per_token for step in models.bundled_steps()[:-1]]
    losses = [*early, score(bundled).nats_per_token]
    assert losses[0] == pytest.approx(math.log(4096), abs=0.2)  # untrained: the uniform distribution
    assert all(b < a for a, b in itertools.pairwise(losses)), losses


def test_attention_and_layers_differ_from_an_untrained_twin(bundled: Any) -> None:
    from infogeo_adapters.models.evaluate import layer_profile, untrained_twin

    before = bundled.model.config._attn_implementation
    trained = layer_profile(bundled.model, bundled.tokenizer, PARAGRAPHS)
    twin = layer_profile(untrained_twin(bundled.model), bundled.tokenizer, PARAGRAPHS)
    assert bundled.model.config._attn_implementation == before
    assert trained.attention_entropy.shape == (6, 5)
    assert trained.layer_change.shape == (6,)
    assert twin.attention_entropy.min() > 0.95  # nearly uniform
    assert trained.attention_entropy.min() < 0.5
    assert trained.attention_entropy.std() > 10 * twin.attention_entropy.std()


def test_a_profile_is_of_the_model_in_evaluation_mode_and_leaves_it_as_it_was(bundled: Any, restored: Any) -> None:
    import copy

    from infogeo_adapters.models.evaluate import layer_profile

    wanted = layer_profile(bundled.model, bundled.tokenizer, PARAGRAPHS, context=40)
    noisy = copy.deepcopy(bundled.model)
    noisy.config.attention_dropout = 0.9
    for module in noisy.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.9
    noisy.train()
    restored(noisy)
    found = layer_profile(noisy, bundled.tokenizer, PARAGRAPHS, context=40)
    np.testing.assert_allclose(found.attention_entropy, wanted.attention_entropy, rtol=1e-4)
    np.testing.assert_allclose(found.layer_change, wanted.layer_change, rtol=1e-4)


def test_a_profile_by_hand(bundled: Any) -> None:
    from infogeo_adapters.models.evaluate import layer_profile

    text = "The old man ran home."
    ids = torch.tensor([bundled.tokenizer(text)["input_ids"]])
    eager = transformers.AutoModelForCausalLM.from_pretrained(models.bundled_path(), attn_implementation="eager")
    with torch.no_grad():
        output = eager(ids, output_attentions=True, output_hidden_states=True)
    entropy = np.zeros((6, 5))
    for block, maps in enumerate(output.attentions):
        for head in range(5):
            rows = [maps[0, head, t, : t + 1].double().numpy() for t in range(1, ids.shape[1])]
            entropy[block, head] = np.mean([-(p * np.log(p)).sum() / np.log(len(p)) for p in rows])
    h = [s[0, 1:].double().numpy() for s in output.hidden_states[:-1]]
    change = [np.mean(np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)) for a, b in itertools.pairwise(h)]
    found = layer_profile(bundled.model, bundled.tokenizer, text)
    np.testing.assert_allclose(found.attention_entropy, entropy, rtol=1e-4)
    np.testing.assert_allclose(found.layer_change[:-1], change, rtol=1e-4)


def test_what_cannot_be_profiled(bundled: Any, tiny: Any) -> None:
    from infogeo_adapters.models.evaluate import layer_profile

    with pytest.raises(TextError, match="empty text"):
        layer_profile(bundled.model, bundled.tokenizer, "")
    with pytest.raises(ArgumentError, match="max_tokens: found 513"):
        layer_profile(bundled.model, bundled.tokenizer, PARAGRAPHS, context=513)
    bert = tiny("bert")
    with pytest.raises(ArgumentError, match="is an encoder; only causal"):
        layer_profile(bert.model, bert.tokenizer, PARAGRAPHS)


def test_the_model_card_is_of_the_weights_that_ship_and_they_beat_the_n_gram_of_the_full_text() -> None:
    page = Path(__file__).parent.parent / "docs" / "bundled_model.md"
    if not page.is_file():
        pytest.skip("docs/ is not beside tests/; run from a checkout")
    from infogeo_adapters.models.install import digest

    block = page.read_text(encoding="utf-8").partition("<!-- measured -->")[2].partition("<!-- /measured -->")[0]
    table = [[c.strip() for c in line.strip("| ").split("|")] for line in block.splitlines() if line.startswith("| ")]
    start = next(i for i, row in enumerate(table) if row[0] == "bits per byte")
    bits = {row[0]: [float(c) for c in row[1:]] for row in table[start + 2 :] if len(row) == len(table[start])}
    own = bits["bundled, half a context or more before each token"]
    grams = {n: v for name, v in bits.items() if (n := re.match(r"Kneser-Ney 4-gram, ([\d,]+) tokens", name))}
    counts = {int(match[1].replace(",", "")): values for match, values in grams.items()}
    data = models.bundled_recipe()["data"]
    assert max(counts) > 0.98 * data["tokens"], "the n-gram with which the model is compared has seen the full text"
    assert len(own) == len(counts[max(counts)]) >= 1
    assert all(a < b for a, b in zip(own, counts[max(counts)], strict=True)), (own, counts[max(counts)])
    assert digest(models.bundled_path() / "model.safetensors") in block, "measured on other weights"


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_tokenizer_round_trips_any_text(bundled: Any, text: str) -> None:
    ids = bundled.tokenizer(text)["input_ids"]
    assert ids[0] == bundled.tokenizer.bos_token_id
    assert bundled.tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text", ["<|begin|>", "a <|pad|> b", "\x00", "\r\n\t", "שלום 👩‍👩‍👧 ﷽", "e\u0301 é", "  two  spaces  "]
)
def test_tokenizer_takes_every_text_as_text(bundled: Any, text: str) -> None:
    ids = bundled.tokenizer(text)["input_ids"]
    assert not set(ids[1:]) & set(bundled.tokenizer.all_special_ids)
    assert bundled.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_continues_a_sentence(bundled: Any) -> None:
    from infogeo_adapters.models.evaluate import continuation

    state = torch.get_rng_state()
    greedy = continuation(bundled.model, bundled.tokenizer, "Once upon a time", n_tokens=12)
    drawn = [
        continuation(bundled.model, bundled.tokenizer, "Once upon", n_tokens=12, temperature=1, seed=s)
        for s in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert greedy.startswith("Once upon a time")
    assert len(greedy.split()) > 8
    assert drawn[0] == drawn[1] != drawn[2]


# Scoring


@pytest.mark.parametrize(("context", "stride"), [(32, 31), (32, 16), (32, 1), (20, 7), (2, 1), (512, 256)])
def test_score_counts_every_token_once(bundled: Any, context: int, stride: int) -> None:
    text = PARAGRAPHS[:400]
    n = len(bundled.tokenizer(text, add_special_tokens=False)["input_ids"])
    found = score(bundled, text, context=context, stride=stride, batch=5)
    assert found.n_tokens == n
    assert found.n_bytes == len(text.encode())
    assert found.bits_per_byte == pytest.approx(found.nats_per_token * n / math.log(2) / found.n_bytes)


def test_score_equals_the_slow_way(bundled: Any) -> None:
    ids = bundled.tokenizer(PARAGRAPHS[:300], add_special_tokens=False)["input_ids"]
    nats = 0.0
    for i, token in enumerate(ids):  # windows of 24 tokens, 10 further each time; the first that reaches i predicts it
        first = 0 if i < 23 else -(-(i - 22) // 10) * 10
        x = torch.tensor([[bundled.tokenizer.bos_token_id, *ids[first:i]]])
        with torch.no_grad():
            nats -= bundled.model(x).logits[0, -1].log_softmax(-1)[token].item()
    assert score(bundled, PARAGRAPHS[:300], context=24, stride=10).nats == pytest.approx(nats, rel=1e-5)


def test_score_does_not_depend_on_the_batch_and_restores_the_mode(bundled: Any) -> None:
    bundled.model.train()
    try:
        found = [score(bundled, context=40, batch=b).nats for b in (1, 3, 64)]
        assert bundled.model.training
    finally:
        bundled.model.eval()
    np.testing.assert_allclose(found, found[0], rtol=1e-5)


def test_score_guards(bundled: Any) -> None:
    from infogeo_adapters.models.evaluate import compressed_bits_per_byte

    with pytest.raises(TextError, match="empty text"):
        score(bundled, "")
    with pytest.raises(TextError, match="empty text"):
        compressed_bits_per_byte(b"")
    with pytest.raises(ArgumentError, match="context: found 513"):
        score(bundled, context=513)
    with pytest.raises(ArgumentError, match="stride: found 20, wanted 1 to 19"):
        score(bundled, context=20, stride=20)


# Installation and the benchmark script, on a run of their own


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as the training script leaves it, of 20 steps, with the bundled tokenizer."""
    from infogeo_adapters.models.install import NETWORK, TOKENIZER

    folder = tmp_path / "run"
    for step in (0, 10, 20):
        place = folder / "checkpoints" / f"step-{step:06d}"
        place.mkdir(parents=True)
        for name in (*NETWORK, *TOKENIZER):
            shutil.copy(models.bundled_path() / name, place / name)
    shutil.copytree(folder / "checkpoints" / "step-000000", folder / "tokenizer")
    settings = {"steps": 40, "tokens_per_step": 64, "text": "story.txt", "text_bytes": 5}
    (folder / "recipe.json").write_text(json.dumps(settings))
    rows = [{"step": s, "loss": 8.0 - s / 10, "tokens": 64 * (s + 1)} for s in range(25)]
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tokenizer = transformers.AutoTokenizer.from_pretrained(models.bundled_path())
    sentence = "The old man walked slowly down the hill and looked at the sea.\n\n"
    ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
    np.save(folder / "ids.npy", np.array(ids * 150_000, dtype=np.uint16))
    return folder


def test_install_writes_a_whole_model_and_drops_old_checkpoints(run: Path, tmp_path: Path) -> None:
    from infogeo_adapters.models.install import main

    target = tmp_path / "package"
    for stale in ("checkpoints/step-000007/config.json", "checkpoints/step-000010/tokenizer.json",
                  "checkpoints/step-000010/model.safetensors.partial", "bundled/generation_config.json"):
        (target / stale).parent.mkdir(parents=True, exist_ok=True)
        (target / stale).write_text("{}")
    (tmp_path / "story.txt").write_text("hello")
    arguments = [
        "--run",
        str(run),
        "--text",
        str(tmp_path / "story.txt"),
        "--early",
        "0",
        "10",
        "--target",
        str(target),
    ]
    assert main(arguments) == 0
    first = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert main(arguments) == 0
    assert first == {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert {p.stat().st_mode & 0o777 for p in target.rglob("*") if p.is_file()} == {0o644}
    assert sorted(p.name for p in (target / "checkpoints").iterdir()) == ["step-000000", "step-000010"]
    for name, files in (
        ("bundled", {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}),
        ("checkpoints/step-000000", {"config.json", "model.safetensors"}),
        ("checkpoints/step-000010", {"config.json", "model.safetensors"}),
    ):
        assert {p.name for p in (target / name).iterdir()} == files, "one tokenizer, and nothing stays behind"
    recipe = json.loads((target / "recipe.json").read_text())
    assert set(recipe["files_sha256"]) == {n for n in first if n.startswith(("bundled/", "checkpoints/"))}
    assert recipe["bundled_step"] == 20
    assert not recipe["finished"]
    assert recipe["data"]["tokens_trained_on"] == 20 * 64
    assert len((target / "training_log.jsonl").read_text().splitlines()) == 20
    assert json.loads((target / "bundled" / "tokenizer_config.json").read_text())["split_special_tokens"] is True


def _poison(run: Path, values: Any) -> None:
    from safetensors.numpy import load_file, save_file

    path = run / "checkpoints" / "step-000020" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = values
    save_file(tensors, path)


def test_install_refuses_what_should_not_ship_and_writes_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infogeo_adapters.models import install as module

    target = tmp_path / "package"
    with pytest.raises(FormatError, match="no checkpoint of step 7; it has 0, 10, 20"):
        module.install(run, early=[7], target=target)
    (tmp_path / "other.txt").write_text("another text")
    with pytest.raises(FormatError, match=r"other.txt has 12 bytes, the text of .* had 5"):
        module.install(run, text=tmp_path / "other.txt", early=[0], target=target)
    with pytest.raises(FormatError, match="holds no checkpoints"):
        module.install(tmp_path / "nowhere", target=target)
    monkeypatch.setattr(module, "MAX_BYTES", 5_000_000)
    with pytest.raises(FormatError, match="at most 5,000,000"):
        module.install(run, early=[0], target=target)
    monkeypatch.undo()
    _poison(run, np.full(160, np.nan, dtype=np.float16))
    assert module.main(["--run", str(run), "--early", "0", "--target", str(target)]) == 2
    assert "NaN or infinity" in capsys.readouterr().err
    _poison(run, np.ones(160, dtype=np.float32))
    with pytest.raises(FormatError, match="float32, wanted float16"):
        module.install(run, early=[0], target=target)
    _poison(run, np.ones(160, dtype=np.float16))
    (run / "checkpoints" / "step-000010" / "config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"config.json of step 10 differs from that of step 20"):
        module.install(run, early=[10], target=target)
    assert not target.exists()


def test_thinned_log_keeps_the_beginning_every_development_loss_and_the_end() -> None:
    from infogeo_adapters.models.install import thinned_log

    rows: list[dict[str, Any]] = [{"step": s, "loss": 1 / 3} for s in range(1001)]
    rows[777]["dev_loss"] = 2.0
    steps = [row["step"] for row in thinned_log(rows)]
    assert steps[:64] == list(range(64))
    assert {777, 1000} <= set(steps)
    assert len(steps) < 150
    assert thinned_log(rows)[0]["loss"] == 0.33333


def test_background_sample_passes_over_what_is_not_prose() -> None:
    from infogeo_adapters.models.install import background_sample

    good = ["The first thing he saw was a ship.", "“Is it far to the town?” asked the boy."]
    bad = [
        "CHAPTER THE FIRST AND ALSO LAST PART",
        "[Picture: a bird on a very old tree.]",
        "Too short.",
        "and so on it went for a while.",
    ]
    text = "\n\n".join([*bad, good[0], *bad, good[1], *bad])
    assert background_sample(text, words=14, stretches=1, offset=0) == "\n\n".join(good) + "\n"
    with pytest.raises(FormatError, match=r"up to part 1 of 1 the text gave 17 words .* wanted 500"):
        background_sample(text, words=500, stretches=1, offset=0)


def test_benchmark_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "bundled_model.py"
    if not path.is_file():
        pytest.skip("benchmarks/ is not beside tests/; run from a checkout")
    spec = importlib.util.spec_from_file_location("bundled_model_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text, train = tmp_path / "story.txt", tmp_path / "train.txt"
    text.write_text(PARAGRAPHS, encoding="utf-8")
    train.write_text(models.background_text(), encoding="utf-8")
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- measured -->\nold \\1\n<!-- /measured -->\nafter\n")
    arguments = [str(text), "--train-text", str(train), "--train-tokens", "2000", "--twin", "--card", str(card)]
    assert script.main([*arguments, "--json", str(tmp_path / "result.json"), "--continue", "Once"]) == 0
    printed = capsys.readouterr().out
    assert "bits per byte" in printed
    page = card.read_text(encoding="utf-8")
    assert page.startswith("before\n<!-- measured -->\n| bits per byte | story.txt |")
    assert page.endswith("<!-- /measured -->\nafter\n")
    assert "old" not in page
    assert "greedy: Once" in printed
    result = json.loads((tmp_path / "result.json").read_text())
    bits = {row["method"].split(",")[0]: row["bits_per_byte"]["story.txt"] for row in result["rows"]}
    assert bits["bundled"] < bits["Kneser-Ney 4-gram"] < bits["untrained twin"]
    assert result["texts"]["story.txt"]["bytes"] == len(PARAGRAPHS.encode())
    card.write_text("no marks")
    assert script.main([str(text), "--plain-only", "--card", str(card)]) == 2
    assert "no block between" in capsys.readouterr().err
    assert card.read_text() == "no marks"
    text.write_bytes(b"caf\xe9")
    assert script.main([str(text)]) == 2
    assert "not UTF-8" in capsys.readouterr().err
