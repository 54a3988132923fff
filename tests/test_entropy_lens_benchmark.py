"""The reproduction of Entropy-Lens: folds that do not leak, seeded prompts, profiles of sampled tokens, tiny runs."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import benchmark_modules

pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("sklearn", reason="the folds are scikit-learn's")

from infogeo_adapters import load_model
from infogeo_adapters.models import background_text

PARTS = ("scores", "tables", "texts", "profiles", "models", "families", "prompts", "predictions")


@pytest.fixture(scope="module")
def bench():
    """The script as ``main`` and its helpers by their short names."""
    with benchmark_modules(*(f"_entropy_lens_{part}" for part in PARTS), "entropy_lens") as modules:
        yield SimpleNamespace(**dict(zip((*PARTS, "main"), modules, strict=True)))


@pytest.fixture(scope="module")
def early():
    return load_model("bundled@32")


@pytest.fixture
def heldout(tmp_path):
    path = tmp_path / "heldout.txt"
    path.write_text(background_text(), encoding="utf-8")
    return path


# Folds and scores


def test_no_group_is_on_both_sides(bench):
    labels = np.tile(["a", "b", "c"], 40)
    groups, wordings = np.repeat(np.arange(20), 6), np.tile([0, 0, 0, 1, 1, 1], 20)
    by_group = bench.scores.grouped_folds(labels, groups, folds=5, seed=0)
    crossed = bench.scores.crossed_folds(groups, wordings, folds=5, seed=0)
    for train, test in [*by_group, *crossed]:
        assert not set(groups[train]) & set(groups[test])
    for train, test in crossed:
        assert not set(wordings[train]) & set(wordings[test])
    for splits in (by_group, crossed, bench.scores.one_out(groups), bench.scores.plain_folds(labels, folds=5, seed=0)):
        assert sorted(np.concatenate([test for _, test in splits])) == list(range(120))


def test_grouped_folds_take_away_what_a_leak_is_worth(bench):
    """Features that know the group and nothing else: perfect where the group is on both sides, chance where not."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels = rng.permutation(np.repeat(["x", "y"], 30))[groups]
    features = groups[:, None] + rng.normal(0, 0.01, (600, 1))
    scores = bench.scores
    make = scores.neighbors(5)
    leaking = scores.held_out(make, features, labels, scores.plain_folds(labels, folds=5, seed=0))
    grouped = scores.held_out(make, features, labels, scores.grouped_folds(labels, groups, folds=5, seed=0))
    options = {"times": 100, "seed": 0}
    assert scores.auc_score(labels, leaking, groups, **options).low > 0.99
    honest = scores.auc_score(labels, grouped, groups, **options)
    assert honest.low < 0.5 < honest.high or abs(honest.value - 0.5) < 0.2


def test_area_under_the_curve_counts_pairs(bench):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 40)
    p = rng.multinomial(8, np.ones(3) / 3, 40) / 8

    def area(inside, score):
        pairs = [(a > b) + 0.5 * (a == b) for a in score[inside] for b in score[~inside]]
        return np.mean(pairs)

    every = np.arange(40)
    slow = np.mean([area(labels == c, p[:, c]) for c in range(3)])
    found = bench.scores.MacroAUC(labels, p)
    assert found(every) == pytest.approx(slow, abs=1e-12)
    assert found(every) == pytest.approx(roc_auc_score(labels, p / p.sum(axis=1, keepdims=True), multi_class="ovr"))
    rows = np.array([*every, 3, 3, 7])
    assert found(rows) == pytest.approx(np.mean([area(labels[rows] == c, p[rows, c]) for c in range(3)]), abs=1e-12)
    assert math.isnan(found(np.flatnonzero(labels == 0)))
    two = labels[labels < 2]
    expected = area(two == 1, p[labels < 2, 1])
    assert bench.scores.MacroAUC(two, p[labels < 2, :2])(np.arange(len(two))) == pytest.approx(expected, abs=1e-12)


def test_the_dummy_knows_nothing(bench):
    """Also where the labels stand in the same order in each fold, which one draw for all folds would meet or miss."""
    labels = np.tile(["a", "b", "c"], 400)
    groups = np.repeat(np.arange(100), 12)
    splits = bench.scores.grouped_folds(labels, groups, folds=50, seed=0)
    p = bench.scores.held_out(bench.scores.dummy(0), np.zeros((1200, 1)), labels, splits)
    assert abs(bench.scores.MacroAUC(labels, p)(np.arange(1200)) - 0.5) < 0.04


def test_intervals_draw_whole_groups(bench):
    values = np.repeat([0.0, 1.0], [50, 50])
    groups = np.repeat(np.arange(10), 10)
    drawn = list(bench.scores.resampled(groups, 20, seed=3))
    for rows in drawn:
        assert len(rows) == 100
        assert set(np.bincount(groups[rows], minlength=10) % 10) == {0}
    again = list(bench.scores.resampled(groups, 20, seed=3))
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    score = bench.scores.with_interval(lambda r: float(values[r].mean()), groups, times=200, seed=0)
    assert score.low < score.value == 0.5 < score.high
    inside = bench.scores.with_interval(lambda r: float(values[r].mean()), groups, times=50, seed=0, strata=values)
    assert inside.low == inside.value == inside.high == 0.5


def test_a_row_without_a_test_is_refused(bench):
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(SystemExit, match="untested"):
        bench.scores.held_out(bench.scores.neighbors(1), np.eye(4), labels, [(np.array([0, 1]), np.array([2]))])


# Prompts


def test_scrambling_has_a_seed_and_leaves_the_base_alone(bench):
    stories = ["One came. Two went! Was it three? So they say.", "A cat sat. A dog ran. It was night."]
    prompts = bench.texts.task_prompts(stories, seed=0)
    assert prompts == bench.texts.task_prompts(stories, seed=0)
    assert len(prompts) == 2 * 3 * 2 * 4
    for p in prompts:
        story = stories[int(p.group.split()[1])]
        assert (story in p.text) == (p.order == "base")
    words = {p.order: p.text for p in prompts if p.group == "story 0" and p.label == "counting" and p.wording == 0}
    assert "say. they So" in words["reversed words"]
    assert sorted(words["shuffled words"].split()) == sorted(words["base"].split()) != words["base"].split()
    assert "Two went!" in words["shuffled sentences"]
    other = bench.texts.task_prompts(stories, seed=1)
    assert [p.text for p in other if p.order == "base"] == [p.text for p in prompts if p.order == "base"]
    assert other != prompts
    wrong = bench.texts.task_prompts(stories, seed=0, overwritten=True)
    assert sum(stories[0] in p.text for p in wrong) == 1


def test_passages_come_from_each_book(bench):
    books = ["\n\n".join(f"Book {b} line {i}. " + "word " * 70 for i in range(9)) for b in range(3)]
    found = bench.texts.passages(bench.texts.BOOKS.join(books), 9, seed=0)
    assert found == bench.texts.passages(bench.texts.BOOKS.join(books), 9, seed=0)
    assert sorted({b for b, _ in found}) == [0, 1, 2]
    assert all(300 <= len(p) <= 600 and f"Book {b}" in p for b, p in found)


def test_each_topic_has_each_format(bench):
    prompts = bench.texts.format_prompts(5)
    assert len(prompts) == 5 * 3 * 2
    assert all(p.group in p.text and "{" not in p.text for p in prompts)


# Profiles


def _raw_states(net, ids):
    """What each block and the final norm of a Llama are given."""
    import torch

    raw = []
    parts = [*net.model.layers, net.model.norm]
    handles = [part.register_forward_pre_hook(lambda module, given: raw.append(given[0])) for part in parts]
    with torch.no_grad():
        net(input_ids=ids)
    for handle in handles:
        handle.remove()
    return raw


def test_profiles_are_those_of_the_sampled_tokens(bench, early):
    """Against a float64 computation by hand, one sample at a time."""
    import torch

    prompts = [bench.profiles.encode(early, t) for t in ("The dog", "Once upon a time there", "The cat")]
    tokens, seen = bench.profiles.generated(early, prompts, 5, temperature=0.7, seed=4, renyi=(2.0,))
    net = early.model
    for n, (prompt, new) in enumerate(zip(prompts, tokens, strict=True)):
        ids = torch.as_tensor(np.concatenate([prompt, new]))[None]
        for layer, states in enumerate(_raw_states(net, ids)):
            at = states[0, len(prompt) - 1 : -1].double()
            norm = at * torch.rsqrt((at**2).mean(dim=1, keepdim=True) + net.config.rms_norm_eps)
            z = (norm * net.model.norm.weight.double()) @ net.lm_head.weight.double().T
            p = torch.softmax(z, dim=1)
            np.testing.assert_allclose(seen.entropy[n][layer], -(p * p.log()).sum(dim=1).detach(), atol=1e-5)
            np.testing.assert_allclose(seen.renyi[2.0][n][layer], -(p**2).sum(dim=1).log().detach(), atol=1e-5)
        assert seen.entropy[n].shape == (7, 5)


def test_a_batch_of_profiles_is_a_loop(bench, early):
    rows = [bench.profiles.encode(early, t) for t in ("The dog ran home.", "A cat", "It was a cold and windy day")]
    places = [np.arange(len(r)) for r in rows]
    together = bench.profiles.profiles(early, rows, places, top_p=0.6)
    for n in range(3):
        alone = bench.profiles.profiles(early, rows[n : n + 1], places[n : n + 1], top_p=0.6)
        np.testing.assert_allclose(together.entropy[n], alone.entropy[0], atol=1e-5)
        assert (together.top_ids[n] == alone.top_ids[0]).all()
        assert together.set_size[n].shape == (7, len(rows[n]))


def test_continuations_have_a_seed_and_their_own_random_state(bench, early):
    import torch

    prompts = [bench.profiles.begin(early)] * 4
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = bench.profiles.continuations(early, prompts, 6, temperature=1.0, seed=0)
    assert (torch.get_rng_state() == before).all()
    assert not early.model.training
    two = bench.profiles.continuations(early, prompts, 6, temperature=1.0, seed=0)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    other = bench.profiles.continuations(early, prompts, 6, temperature=1.0, seed=1)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    assert len({tuple(a) for a in one}) == 4


def test_the_most_probable_continuation_is_that_of_the_model(bench, early):
    import torch

    prompt = bench.profiles.encode(early, "The little boy went")
    found = bench.profiles.continuations(early, [prompt, prompt[:3]], 4, temperature=None, seed=0)
    ids = torch.as_tensor(prompt)[None]
    with torch.no_grad():
        for token in found[0]:
            best = early.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
            assert int(best) == token
            ids = torch.cat([ids, best.view(1, 1)], dim=1)


def test_an_end_token_does_not_end_a_continuation(bench, early, monkeypatch):
    prompt = bench.profiles.encode(early, "The dog")
    best = int(bench.profiles.continuations(early, [prompt], 1, temperature=None, seed=0)[0][0])
    monkeypatch.setattr(early.model.generation_config, "eos_token_id", best)
    assert len(bench.profiles.continuations(early, [prompt], 5, temperature=None, seed=0)[0]) == 5


def test_a_prompt_too_long_is_refused(bench, early):
    with pytest.raises(SystemExit, match="514 tokens"):
        bench.profiles.continuations(early, [np.full(510, 5)], 4, temperature=None, seed=0)


def test_a_model_that_writes_nothing_is_refused(bench, early):
    encoder = SimpleNamespace(kind="encoder", name="minilm")
    with pytest.raises(SystemExit, match=r"minilm \(encoder\) writes no continuations"):
        bench.profiles.continuations(encoder, [np.array([1])], 4, temperature=None, seed=0)


def test_tokens_that_change_with_the_text_are_counted(bench, early):
    tokenizer = early.tokenizer
    whole = np.array(tokenizer(" the dog", add_special_tokens=False)["input_ids"])
    letters = np.array(tokenizer.convert_tokens_to_ids(["Ġ", "t", "h", "e"]))
    none = np.empty(0, dtype=int)
    assert bench.profiles.changed_by_text(early, [none, none], [whole, letters]) == 0.5


# Families


def _sampled(bench, *, told_apart, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for f, family in enumerate("abc"):
        for depth in (4, 5, 6):
            curve = np.linspace(0, 1, depth + 1)[None] * (f if told_apart else rng.normal())
            profile = 5 + curve + rng.normal(0, 0.05, (12, depth + 1))
            entry = bench.tables.Entry(f"{family}{depth}", family)
            found.append(bench.families.Sampled(entry, depth, 5.0 + 0.1 * depth, profile, 0.25))
    return found


def test_families_with_a_shape_of_their_own_are_told_apart(bench):
    settings = bench.tables.Settings(resamples=39)
    rows = {r["features"]: r for r in bench.families._told_apart(_sampled(bench, told_apart=True), settings).rows}
    found = rows["profile of the blocks"]
    assert found["right"].value == 1.0
    assert found["models right"] == "9 of 9"
    assert found["p"] < 0.05 < 0.5 < 1 - found["right with random families"]
    assert rows["held-out loss alone"]["right"].value < 0.7
    assert rows["mean profile of the model, nearest model"]["models right"] == "9 of 9"
    none = bench.families._told_apart(_sampled(bench, told_apart=False), settings).rows[0]
    assert none["p"] > 0.05
    shares = {r["explained by"]: r for r in bench.families._explained(_sampled(bench, told_apart=True), settings).rows}
    assert shares["family"]["share"] > 0.9 > shares["family"]["the same, models shuffled"]
    assert shares["depth"]["share"] < 0.2


def test_relative_depth_does_not_depend_on_depth(bench):
    """A straight profile is the same straight line at any number of blocks."""
    for depth in (3, 8):
        profile = np.concatenate([[9.0], np.linspace(6, 2, depth)])[None]
        s = bench.families.Sampled(bench.tables.Entry("m"), depth, 1.0, profile, 0.0)
        np.testing.assert_allclose(s.relative()[0], np.linspace(6, 2, 13))
        assert s.relative(embedding=True)[0, 0] == 9.0


# Orders


def test_the_published_recipe_saturates_and_ours_does_not(bench, early):
    flat = np.full(256_000, 1 / 256_000)
    assert bench.predictions.published_recipe(flat, 5, 1e-20) == pytest.approx(11.51, abs=0.01)
    assert bench.predictions.published_recipe(flat, 5, 1e-15) == pytest.approx(8.63, abs=0.01)
    rows = bench.predictions._uniform(early, [256_000]).rows
    assert all(r["logit_lens"] == pytest.approx(math.log(256_000), abs=1e-5) for r in rows)
    assert all(r["renyi_entropy"] == pytest.approx(math.log(256_000), abs=1e-9) for r in rows)


# Training


def test_an_interrupted_training_goes_on(bench, heldout, tmp_path, capsys, monkeypatch):
    from safetensors.numpy import load_file

    training = bench.models.Training(width=16, heads=2, steps=4, windows=2, length=16, characters=20_000)
    member = bench.models.Member("llama", 1, 0)
    options = {"text_path": heldout, "minutes": 5.0}
    (_, whole), = bench.models.trained_members([member], training, folder=tmp_path / "a", **options)
    with monkeypatch.context() as patch:  # each look at the clock takes ten seconds: late after the third step
        ticks = itertools.count(0, 10)
        patch.setattr(bench.models.time, "perf_counter", lambda: next(ticks))
        assert not list(bench.models.trained_members([member], training, folder=tmp_path / "b", text_path=heldout,
                                                     minutes=0.5))
    assert "run again to go on" in capsys.readouterr().err
    assert (tmp_path / "b" / member.name / "state.pt").exists()
    (_, parts), = bench.models.trained_members([member], training, folder=tmp_path / "b", **options)
    one, two = (load_file(at / "model.safetensors") for at in (whole, parts))
    assert all((one[k] == two[k]).all() for k in one)
    assert not (parts / "state.pt").exists()
    (_, kept), = bench.models.trained_members([member], training, folder=tmp_path / "a", text_path=None, minutes=0.0)
    assert kept == whole
    other = bench.models.Training(width=32)
    with pytest.raises(SystemExit, match="width: 16 there, 32 now"):
        list(bench.models.trained_members([member], other, folder=tmp_path / "a", **options))
    absent = [bench.models.Member("opt", 1, 0)]
    assert not list(bench.models.trained_members(absent, training, folder=tmp_path / "a", text_path=None, minutes=1.0))
    assert "opt-1-seed0 is left out" in capsys.readouterr().err
    assert not list(bench.models.trained_members(absent, training, folder=tmp_path / "c", text_path=None, minutes=1.0))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox", "opt", "gemma2"])
def test_each_family_can_be_made(bench, family):
    training = bench.models.Training(width=32, heads=2)
    one, two = (bench.models.network(bench.models.Member(family, 2, 3), training, 4096) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.num_parameters() < 400_000


# The script


def test_tiny_sizes_run(bench, heldout, tmp_path, capsys):
    out = tmp_path / "lens.json"
    arguments = [
        "--heldout", str(heldout), "--text", str(heldout), "--cache", str(tmp_path / "models"), "--out", str(out),
        "--tiny", "--models", "bundled@512", "--train", "llama", "opt", "--depths", "2", "3", "--steps", "2", "--width",
        "16", "--heads", "2", "--windows", "2", "--length", "16", "--characters", "20000",
    ]
    assert bench.main.main(arguments) == 0
    printed = capsys.readouterr().out
    for part in ("Families told apart: 2 families, 4 models", "by story and by wording", "base overwritten",
                 "by topic", "Correctness", "uniform law", "Expansion and pruning"):
        assert part in printed
    record = json.loads(out.read_text())
    assert set(record["experiments"]) == set(bench.main.EXPERIMENTS)
    assert record["settings"]["stories"] == 2
    assert len(record["models"]) == 5
    row = record["experiments"]["task"]["tables"][0]["rows"][0]
    assert 0 <= row["AUC"]["low"] <= row["AUC"]["high"] <= 1


def test_without_a_text_the_sample_that_ships_is_read(bench, tmp_path, capsys):
    arguments = ["--tiny", "--models", "bundled@512", "--only", "correctness", "--cache", str(tmp_path / "none")]
    assert bench.main.main(arguments) == 0
    printed = capsys.readouterr()
    assert "bundled@512" in printed.out
    assert "is left out" in printed.err


def test_without_scikit_learn_it_says_so(bench, heldout, monkeypatch, capsys):
    monkeypatch.setattr(bench.main.importlib.util, "find_spec", lambda name: None)
    assert bench.main.main(["--heldout", str(heldout)]) == 0
    assert "skipped" in capsys.readouterr().out


def test_a_missing_text_is_named(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main.main(["--heldout", "nowhere.txt"])
    assert "nowhere.txt is not a file" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_named(bench, heldout, capsys):
    assert bench.main.main(["--heldout", str(heldout), "--models", "./nowhere", "--only", "orders"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_correctness_takes_models_that_predict_the_next_token(bench, monkeypatch):
    monkeypatch.setattr(bench.tables.Entry, "load", lambda entry: SimpleNamespace(kind="encoder"))
    rows = bench.predictions.correctness([bench.tables.Entry("m")], ["A text."], bench.tables.Settings())[0].rows
    assert rows == [{"model": "m", "features": "an encoder predicts no next token"}]


def test_rightness_is_that_of_the_next_token(bench, early):
    """The share of right predictions, against the model's own logits place by place."""
    import torch

    texts = [t for _, t in bench.texts.passages(background_text(), 6, seed=0)]
    settings = bench.tables.Settings(positions=5, folds=2, resamples=3)
    row = bench.predictions._correct(bench.tables.Entry("bundled@512"), texts, settings)[0]
    model = bench.tables.Entry("bundled@512").load()
    rows = [bench.profiles.encode(model, t) for t in texts]
    right = total = 0
    for ids, places in zip(rows, bench.predictions._word_starts(model, rows, settings), strict=True):
        for place in places:
            with torch.no_grad():
                best = int(model.model(input_ids=torch.as_tensor(ids[None, : place + 1])).logits[0, -1].argmax())
            assert model.tokenizer.convert_ids_to_tokens(int(ids[place + 1])).startswith("Ġ")
            right += best == ids[place + 1]
            total += 1
    assert row["right"] == f"{right / total:.1%} of {total}"
