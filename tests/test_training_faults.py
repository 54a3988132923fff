"""The benchmark of injected faults: each does to a tiny model what it says, and the scores are computed right."""

from __future__ import annotations

import copy
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import benchmark_modules

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

PARTS = ("corpus", "models", "training", "faults", "run", "score", "choice", "baselines", "report")
ARCHITECTURES = ("gpt2", "llama", "bert")
CAUSAL = ("gpt2", "llama")


@pytest.fixture(scope="module")
def bench():
    """The modules of the package by name."""
    with benchmark_modules(*(f"faults.{part}" for part in PARTS)) as modules:
        yield SimpleNamespace(**dict(zip(PARTS, modules, strict=True)))


@pytest.fixture
def started(bench):
    """Makes a run of a tiny model."""

    def make(architecture, *, half=False, **more):
        model = bench.models.build(architecture, 0, bench.models.Size(width=16, depth=3, heads=2))
        return bench.training.Training(model.half() if half else model, architecture, 0, texts=4, tokens=12, **more)

    return make


def states(run, ids):
    """(L + 1) states and the logits, without dropout."""
    with torch.no_grad():
        found = run.model.eval()(input_ids=ids, output_hidden_states=True)
    run.model.train()
    return found.hidden_states, found.logits


def inject(bench, run, name, block=2, head=2):
    return bench.faults.FAULTS[name].inject(run, block, head)


IDS = torch.arange(4, 4 + 24).reshape(2, 12)


# The corpus


def test_the_corpus_is_endless_seeded_and_what_it_says(bench):
    grammar, corpus = bench.corpus.grammar(), bench.corpus
    ids = grammar.draw(np.random.default_rng(0), 20, 200)
    assert (ids == grammar.draw(np.random.default_rng(0), 20, 200)).all()
    assert ids.min() >= corpus.STOP
    assert ids.max() < corpus.VOCABULARY
    first_words = range(corpus.SPECIAL, corpus.SPECIAL + corpus.SPEAKERS)
    for row in ids:
        speaker = None
        for before, token in itertools.pairwise(row):
            if before == corpus.STOP:
                assert token in first_words
                speaker = token
            if before == corpus.MARK and speaker is not None:
                assert token == speaker
    assert 3 < corpus.unigram_entropy() < np.log(corpus.VOCABULARY)


def test_hidden_tokens_are_the_targets(bench):
    ids = np.arange(4, 104).reshape(4, 25)
    shown, targets = bench.corpus.masked(ids, np.random.default_rng(0))
    hidden = targets != -100
    assert hidden.any(axis=1).all()
    assert (shown[hidden] == bench.corpus.MASK).all()
    assert (targets[hidden] == ids[hidden]).all()
    assert (shown[~hidden] == ids[~hidden]).all()


# Injections


def test_every_fault_names_rules_that_exist(bench):
    from infogeo.diagnosis import RULES

    assert len(bench.faults.FAULTS) >= 14
    for fault in bench.faults.FAULTS.values():
        assert fault.rules
        assert set(fault.rules) <= set(RULES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_with_any_fault_goes_on(bench, started, architecture):
    for name, fault in bench.faults.FAULTS.items():
        if architecture in fault.architectures and not fault.half:
            run = started(architecture, steps=1)
            inject(bench, run, name)
            assert np.isfinite(run.advance()), name


@pytest.mark.parametrize(("name", "factor"), [("init_large", 10.0), ("init_small", 0.01)])
def test_initial_weights_are_scaled(bench, started, name, factor):
    run = started("gpt2")
    before = {k: v.clone() for k, v in run.model.named_parameters()}
    inject(bench, run, name)
    for key, value in run.model.named_parameters():
        torch.testing.assert_close(value, before[key] * (factor if value.ndim > 1 else 1.0))


@pytest.mark.parametrize("architecture", CAUSAL)
def test_without_residual_a_block_puts_out_only_what_it_computes(bench, started, architecture):
    run = started(architecture)
    block = bench.models.blocks_of(run.model, architecture)[1]
    parts = bench.models.PARTS[architecture]
    given = states(run, IDS)[0][1]
    seen = {}
    norm, attention = (bench.models.part(block, name) for name in (parts.norms[1], parts.attention))
    attention.register_forward_hook(lambda _, x, found: seen.update(added=found[0]))
    usual = copy.deepcopy(norm)
    inject(bench, run, "no_residual")
    found = states(run, IDS)[0][2]
    with torch.no_grad():
        expected = block.mlp(usual(seen["added"]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, given + expected, atol=1e-3)


def test_without_residual_in_any_block_nothing_is_carried(bench, started):
    run = started("bert")
    inject(bench, run, "no_residual_anywhere")
    block = bench.models.blocks_of(run.model, "bert")[0]
    x = torch.randn(1, 5, 16)
    with torch.no_grad():
        out = block.output
        torch.testing.assert_close(out(torch.ones(1, 5, 64), x), out.LayerNorm(out.dense(torch.ones(1, 5, 64))))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_norms_are_taken_away_or_frozen(bench, started, architecture):
    parts = bench.models.PARTS[architecture]
    run = started(architecture)
    inject(bench, run, "norm_removed")
    kinds = [[type(bench.models.part(b, n)).__name__ for n in parts.norms]
             for b in bench.models.blocks_of(run.model, architecture)]
    assert [set(k) == {"Identity"} for k in kinds] == [False, True, False]
    run = started(architecture)
    assert inject(bench, run, "norm_frozen") == (2,)
    moved = moved_tensors(run, architecture)
    assert not any(any(n in name for n in parts.norms) for name in moved[1])
    assert any(parts.norms[0] in name for name in moved[0])
    assert moved[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["norms_removed", "missing_positions"])
def test_in_the_middle_of_a_run_parts_are_passed_by_and_stay(bench, started, architecture, name):
    run = started(architecture)
    run.advance()
    before = {key: id(value) for key, value in run.model.named_parameters()}
    usual = states(run, IDS)[1]
    inject(bench, run, name)
    assert {key: id(value) for key, value in run.model.named_parameters()} == before
    assert not torch.allclose(states(run, IDS)[1], usual, atol=1e-4)
    for block in bench.models.blocks_of(run.model, architecture):
        for norm in bench.models.PARTS[architecture].norms:
            states_in = torch.randn(2, 16)
            assert torch.equal(bench.models.part(block, norm)(states_in), states_in) == (name == "norms_removed")
    if name == "missing_positions":
        other = IDS.clone()
        other[:, [2, 5]] = IDS[:, [5, 2]]
        torch.testing.assert_close(states(run, IDS)[0][1][:, -1], states(run, other)[0][1][:, -1])


def moved_tensors(run, architecture):
    """Names of the tensors of each block that a step moves."""
    from faults.models import blocks_of

    blocks = blocks_of(run.model, architecture)
    before = [{k: v.detach().clone() for k, v in b.named_parameters()} for b in blocks]
    run.advance()
    return [{k for k, v in b.named_parameters() if not torch.equal(v, old[k])}
            for b, old in zip(blocks, before, strict=True)]


def test_a_frozen_block_does_not_move_and_the_others_do(bench, started):
    run = started("llama")
    run.advance()
    inject(bench, run, "frozen_block")
    assert [bool(names) for names in moved_tensors(run, "llama")] == [True, False, True]


@pytest.mark.parametrize(("name", "factor"), [("rate_high", 30.0), ("rate_low", 0.01)])
def test_the_rate_is_changed(bench, started, name, factor):
    run, usual = started("gpt2"), started("gpt2")
    inject(bench, run, name)
    run.advance(), usual.advance()
    rates = [r.optimizer.param_groups[0]["lr"] for r in (run, usual)]
    assert rates[0] == pytest.approx(factor * rates[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_is_sharp_uniform_or_without_a_head(bench, started, architecture):
    def attention(run):
        run.model.set_attn_implementation("eager")
        with torch.no_grad():
            found = run.model.eval()(input_ids=IDS, output_attentions=True).attentions
        run.model.train()
        return found

    run = started(architecture)
    inject(bench, run, "sharp_attention")
    assert run.warmup == 0
    assert attention(run)[1].amax(-1).mean() > attention(run)[0].amax(-1).mean() + 0.1
    run = started(architecture)
    inject(bench, run, "uniform_attention")
    run.advance()
    last = attention(run)[1][:, :, -1]
    torch.testing.assert_close(last, torch.full_like(last, 1 / 12))
    run = started(architecture)
    inject(bench, run, "zeroed_head", block=2, head=2)
    run.advance()
    seen = []
    block = bench.models.blocks_of(run.model, architecture)[1]
    joined = bench.models.part(block, bench.models.PARTS[architecture].heads_out)
    joined.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    states(run, IDS)
    assert (seen[0][..., 8:] == 0).all()
    assert (seen[0][..., :8] != 0).any()


def test_data_faults_change_what_is_shown(bench, started):
    rng = np.random.default_rng(0)

    def shown(name, architecture="gpt2"):
        run = started(architecture)
        inject(bench, run, name)
        batches = [run.clean_batch(rng), run.clean_batch(rng)]
        return batches, [run.changes[0](batch) for batch in batches]

    clean, changed = shown("shuffled_targets")
    assert (clean[0]["labels"].flatten().sort()[0] == changed[0]["labels"].flatten().sort()[0]).all()
    assert (clean[0]["labels"] != changed[0]["labels"]).any()
    assert torch.equal(clean[0]["input_ids"], changed[0]["input_ids"])
    clean, changed = shown("constant_data")
    assert torch.equal(changed[1]["input_ids"], clean[0]["input_ids"])
    clean, changed = shown("label_leak")
    assert torch.equal(changed[0]["labels"][:, 1:], changed[0]["input_ids"][:, :-1])
    clean, changed = shown("label_leak", "bert")
    there = changed[0]["labels"] != -100
    assert torch.equal(changed[0]["input_ids"][there], changed[0]["labels"][there])


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_block_sees_the_future_from_itself_on(bench, started, architecture, implementation):
    run = started(architecture)
    run.model.set_attn_implementation(implementation)
    inject(bench, run, "sees_future")
    other = IDS.clone()
    other[:, -1] = 60
    away = [(a - b)[:, :-1].abs().max() for a, b in zip(states(run, IDS)[0], states(run, other)[0], strict=True)]
    assert away[1] == 0
    assert away[2] > 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_positions_order_does_not_matter(bench, started, architecture):
    other = IDS.clone()
    other[:, [2, 5]] = IDS[:, [5, 2]]
    away = {}
    for name in ("", "missing_positions"):
        run = started(architecture)
        if name:
            inject(bench, run, name)
        away[name] = (states(run, IDS)[0][1] - states(run, other)[0][1])[:, -1].abs().max()
    assert away["missing_positions"] < 1e-6 < away[""]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_units_and_blocks_die_and_shout(bench, started, architecture):
    parts = bench.models.PARTS[architecture]

    def fed(run):
        seen = []
        block = bench.models.blocks_of(run.model, architecture)[1]
        hooks = [bench.models.part(block, parts.feed_out).register_forward_hook(
            lambda _, given, found: seen.append((given[0], found)))]
        states(run, IDS)
        hooks[0].remove()
        return seen[0]

    run = started(architecture)
    usual = fed(run)[1]
    inject(bench, run, "loud_block")
    torch.testing.assert_close(fed(run)[1], 1000 * usual)
    run = started(architecture)
    inject(bench, run, "dead_units")
    assert (fed(run)[0] == 0).all()
    assert (usual != 0).any()
    run = started(architecture)
    inject(bench, run, "dead_block")
    run.advance()
    before, after = states(run, IDS)[0][1:3]
    if architecture == "bert":
        before = torch.nn.functional.layer_norm(before, (16,))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)


def test_two_blocks_stay_one(bench, started):
    run = started("gpt2")
    assert inject(bench, run, "duplicated_layer", block=3) == (3, 1)
    run.advance()
    blocks = bench.models.blocks_of(run.model, "gpt2")
    for a, b, c in zip(*(x.parameters() for x in (blocks[2], blocks[0], blocks[1])), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)


def test_no_gradient_passes_below_the_cut(bench, started):
    run = started("llama")
    assert inject(bench, run, "cut_gradient", block=3) == (1, 2)
    run.advance()
    blocks = bench.models.blocks_of(run.model, "llama")
    assert all(p.grad is None for b in blocks[:2] for p in b.parameters())
    assert all(p.grad is not None for p in blocks[2].parameters())


def test_float16_overflows(bench, started):
    run = started("gpt2", half=True, epsilon=1e-4)
    inject(bench, run, "half_overflow")
    run.step = 60
    assert not torch.isfinite(states(run, IDS)[0][2]).all()
    assert torch.isfinite(states(run, IDS)[0][1]).all()
    run = started("gpt2", half=True)
    inject(bench, run, "half_optimizer")
    run.advance()
    assert not all(torch.isfinite(p).all() for p in run.model.parameters())


def test_a_copy_of_a_model_with_a_fault_computes_with_its_own_weights(bench, started):
    run = started("gpt2", half=True)
    inject(bench, run, "loud_block")
    twin = copy.deepcopy(run.model).float()
    before = twin(input_ids=IDS).logits.detach()
    with torch.no_grad():
        run.model.lm_head.weight.zero_()
    assert torch.isfinite(before).all()
    assert torch.equal(twin(input_ids=IDS).logits, before)


def test_a_healthy_run_learns(bench, started):
    run = started("gpt2", steps=40)
    losses = [run.advance() for _ in range(40)]
    assert np.mean(losses[-5:]) < losses[0] - 0.3


# Scores, on findings made up


@pytest.fixture
def report(bench):
    def make(rule, step, block=None, head=None, severity="fault"):
        return bench.score.Report(rule, block, head, severity, step)

    return make


@pytest.fixture
def case(bench):
    def make(fault="dead_block", onset=0, blocks=(2,), head=None, name="x", rules=("dead_block",), depth=4):
        return bench.score.Case(name, fault, rules, onset, blocks, head, depth)

    return make


def test_a_hit_names_the_fault_after_its_onset(bench, case, report):
    judge = bench.score.judge
    said = [report("dead_block", 60, 2), report("dead_block", 84, 3), report("dead_head", 40, 1)]
    found = judge(case(onset=50), said)
    assert found.found
    assert found.delay == 10
    assert found.right_block
    assert not found.only_right
    assert found.named == ("dead_block",)
    assert found.early == ("dead_head",)
    missed = judge(case(onset=50), [report("dead_block", 50, 2), report("over_smoothing", 60, 2)])
    assert not missed.found
    assert np.isnan(missed.delay)
    assert missed.right_block is None
    assert missed.early == ("dead_block",)
    assert judge(case(), [report("dead_block", 0, 2)]).delay == 0
    assert judge(case(), [report("dead_block", 0, 3)]).right_block is False
    assert judge(case(blocks=()), [report("dead_block", 0, 3)]).right_block is None
    assert judge(case(head=1), [report("dead_block", 0, 2, 1)]).right_head
    assert judge(case(head=1), [report("dead_block", 0, 2, 3)]).right_head is False


def test_blocks_are_counted_once_and_warnings_on_request(bench, case, report):
    said = [report("a", 1, 2), report("b", 1, 2), report("a", 1, 3, severity="warning")]
    said += [report("c", 1), report("c", 1, 0)]
    assert bench.score.alarmed_blocks(case(fault=""), said) == 2
    assert bench.score.alarmed_blocks(case(fault=""), said, ("fault",)) == 1


def test_the_objective_and_the_interval(bench):
    assert bench.score.objective([True, True, False, True], [False, True]) == pytest.approx(0.75 - 2 * 0.5)
    low, high = bench.score.clopper_pearson(0, 10)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** 0.1)
    assert bench.score.clopper_pearson(0, 0) == (0.0, 1.0)
    low, high = bench.score.clopper_pearson(3, 17)
    assert bench.score.stats.binom.sf(2, 17, low) == pytest.approx(0.025)
    assert bench.score.stats.binom.cdf(3, 17, high) == pytest.approx(0.025)
    assert bench.score.clopper_pearson(0, 40, independent=10) == bench.score.clopper_pearson(0, 10)
    assert bench.score.clopper_pearson(8, 40, independent=10) == pytest.approx(bench.score.clopper_pearson(2, 10))
    assert bench.score.clopper_pearson(9, 9)[1] == 1.0


def test_the_middle_of_the_best_stretch(bench):
    middle = bench.score.middle_of_best
    assert middle([1, 2, 4, 8], [0, 1, 1, 0], 1) == pytest.approx(8 ** 0.5)
    assert middle([1, 2, 4, 8], [1, 1, 1, 1], 3) == 3
    assert middle([1, 2, 4, 8, 16], [1, 0, 1, 1, 1], 1) == 1
    assert middle([8, 4, 2, 1], [0, 1, 1, 0], 1) == pytest.approx(8 ** 0.5)


def test_candidates_go_both_ways_and_stay_possible(bench):
    assert bench.choice.candidates("signal_growth", 30.0)[0] == 7.5
    near_one = bench.choice.candidates("twin", 0.99)
    assert all(0 < v < 1 for v in near_one)
    assert any(v > 0.99 for v in near_one)
    assert any(v < 0.99 for v in near_one)
    assert all(v == int(v) for v in bench.choice.candidates("persistence", 2.0))
    assert bench.choice.middle("twin", near_one, [0] * (len(near_one) - 1) + [1], 0.99) == pytest.approx(near_one[-1])


def history(values, name):
    """A run of two blocks with one quantity of blocks, over records."""
    from infogeo.training import RunFacts, TrainingHistory, TrainingRecord

    facts = RunFacts(
        run=name, model="m", architecture="a", depth=2, heads=(1, 1), width=4, vocabulary=10, n_parameters=10,
        causal=True, objective="next token", dtype="float32", probe="0", probe_shape=(1, 4), every=10,
    )
    records = [TrainingRecord(step=10 * k, values={"contribution": v}) for k, v in enumerate(values)]
    return TrainingHistory(facts=facts, records=tuple(records), name=name)


def test_a_threshold_is_moved_to_where_healthy_and_faulty_part(bench, case):
    from infogeo.diagnosis import Thresholds, diagnose

    cases, histories = [], {}
    for k in range(3):
        cases += [case(name=f"f{k}", blocks=(1,)), case(name=f"h{k}", fault="", rules=())]
        histories[f"f{k}"] = history([[2e-3, 1.0]] * 4, f"f{k}")
        histories[f"h{k}"] = history([[5e-2, 1.0]] * 4, f"h{k}")
    asked = bench.choice.fields_by_rule(list(histories.values()))
    assert "contribution" in asked["dead_block"]
    thresholds, changed = bench.choice.choose(cases, histories)
    assert 2e-3 < thresholds.contribution < 5e-2
    assert changed[0][0] == "contribution"
    for c in cases:
        assert bool(diagnose(histories[c.name], thresholds=thresholds, rules=["dead_block"]).findings) == bool(c.fault)
        assert not diagnose(histories[c.name], thresholds=Thresholds(), rules=["dead_block"]).findings


def test_what_is_told_as_it_went_has_the_step_it_is_told_at(bench):
    from infogeo.diagnosis import Thresholds

    dead = [[1.0, 1.0]] * 2 + [[1.0, 1e-9]] * 3
    said = bench.score.reports_as_it_went(history(dead, "x"), Thresholds())
    found = [r for r in said if r.rule == "dead_block"]
    last = [r for r in bench.score.reports_at_last(history(dead, "x"), Thresholds()) if r.rule == "dead_block"]
    assert [(r.block, r.step) for r in found] == [(2, 30)]
    assert [(r.block, r.step) for r in last] == [(2, 20)]


def test_tables_tell_what_was_reported_of_which_fault(bench, case, report):
    cases = [case(name="a", onset=12), case(name="b"), case(name="h", fault="", rules=())]
    said = {"a": [report("dead_block", 24, 2), report("twin", 12, 2)], "b": [report("dead_head", 12, 2, 1)], "h": []}
    whole = bench.report.Detector("infogeo, default thresholds", said)
    none = bench.report.Detector("loss curve", {name: [] for name in said}, rules=("loss",), places=False)
    worse = {name: {"live": 0.5, "held out": float("nan")} for name in ("a", "b")}
    lines = bench.report.confusion_table(whole, cases)
    assert lines[2:] == ["| dead_block | 2 | **dead_block 1**, dead_head 1 |", "| healthy | 1 |  |"]
    (row,) = bench.report.fault_table([whole, whole, none], cases, worse)[2:]
    assert "| 1 of 2 | 1 of 2<br>0.50 (0.01 to 0.99) | 1 of 1 | 12 (12) | 0 |" in row
    assert row.endswith("| +0.50 live<br>NaN held out |")
    summary = bench.report.summary_table([whole, none], cases)[2]
    assert "0.50 (0.01 to 0.99)" in summary
    assert summary.endswith("| 12 | 1 / 0 / 0 / 1 |")


# Baselines


def test_the_watch_on_the_loss(bench):
    rule = bench.baselines.LossRule(margin=0.3, patience=2, deadline=30, share=0.9, floor=0.1)

    def first(losses):
        alarms = bench.baselines.loss_alarms(losses, 4.0, rule)
        return alarms[0] if alarms else None

    assert first(list(np.linspace(4, 2, 60))) is None
    assert first([4.0] * 60) == 30
    assert first([*np.linspace(4, 2, 40), float("nan")]) == 41
    assert first([*np.linspace(4, 2, 40), *[4.0] * 10]) == 43
    assert first([*np.linspace(4, 2, 40), *[0.0] * 20]) == 47
    said = bench.baselines.loss_reports([5, 9, 30, 31], 20)
    assert [r.step for r in said] == [5, 30]


def test_the_watch_beside_healthy_runs(bench, case):
    rule = bench.baselines.BandRule(weight=1.0, margin=0.2, patience=2)
    known = [list(np.linspace(4, 2, 40)), list(np.linspace(4.1, 2.1, 40))]
    assert bench.baselines.band_alarms(list(np.linspace(4.2, 2.2, 40)), known, rule) == []
    assert bench.baselines.band_alarms([4.0] * 40, known, rule)[0] == 8
    late = [*np.linspace(4, 3, 21)[:20], *[1.0] * 20]
    assert bench.baselines.band_alarms(late, known, rule)[0] == 22
    assert bench.baselines.band_alarms([4.0, float("nan"), *[3.9] * 38], known, rule)[0] == 2
    assert bench.baselines.band_alarms([9.0] * 40, [], rule) == []
    steady = bench.baselines.moving_average([1.0, 3.0, 3.0], 0.5)
    assert list(steady) == [1.0, 2.0, 2.5]
    cases = [bench.score.Case(f"h{k}", "", (), 0, (), None, 4, "gpt2", usual=True) for k in range(3)]
    other = bench.score.Case("o", "", (), 0, (), None, 4, "gpt2", usual=False)
    assert bench.baselines.references_of(cases[0], [*cases, other]) == ["h1", "h2"]
    bad = bench.score.Case("bad", "dead_block", ("loss",), 0, (), None, 4, "gpt2", usual=True)
    losses = {f"h{k}": list(np.linspace(4, 2, 40) + 0.01 * k) for k in range(3)} | {"bad": [4.0] * 40, "o": [9.0] * 40}
    chosen = bench.baselines.choose_band_rule([*cases, other, bad], losses)
    assert bench.baselines.band_alarms(losses["bad"], [losses["h0"], losses["h2"]], chosen)
    assert not bench.baselines.band_alarms(losses["h1"], [losses["h0"], losses["h2"]], chosen)


def test_the_watch_is_chosen_to_part_healthy_and_faulty(bench, case):
    cases = [case(name="bad", rules=("loss",)), case(name="good", fault="", rules=())]
    losses = {"bad": [3.9] * 144, "good": list(np.linspace(4, 2, 144))}
    rule = bench.baselines.choose_loss_rule(cases, losses, 4.0)
    assert bench.baselines.loss_alarms(losses["bad"], 4.0, rule)
    assert not bench.baselines.loss_alarms(losses["good"], 4.0, rule)


def test_exponents_outside_the_bounds_name_their_block(bench):
    alphas = {"transformer.h.0.a": 3.0, "transformer.h.1.a": 7.0, "transformer.h.1.b": 9.0, "x.wte": 99.0}
    said = bench.baselines.weightwatcher_reports(alphas, 2.0, 6.0, 0)
    assert [r.block for r in said] == [2]
    assert [r.block for r in bench.baselines.weightwatcher_reports({"h.3.a": float("nan")}, 2.0, 6.0, 0)] == [4]


# The runs


def test_plans_have_two_halves_and_late_onsets(bench):
    plans = list(bench.run.fault_plans())
    assert len({p.name for p in plans}) == len(plans)
    for name, fault in bench.faults.FAULTS.items():
        mine = [p for p in plans if p.fault == name]
        assert {p.architecture for p in mine} == set(bench.run.TRAINED) & set(fault.architectures)
        for reported in (False, True):
            assert {p.onset > 0 for p in mine if p.reported is reported} == ({False, True} if fault.late else {False})
    healthy = list(bench.run.healthy_plans())
    assert len({p.name for p in healthy}) == len(healthy)
    assert len({(p.size, p.rate) for p in healthy}) > 10
    others = [*bench.run.fault_plans(first=100), *bench.run.healthy_plans(first=100)]
    assert {p.seed for p in others} == {100 + p.seed for p in [*plans, *healthy]}
    assert not {(p.size, p.rate) for p in others} <= {(p.size, p.rate) for p in healthy}
    more = list(bench.run.healthy_plans(80))
    assert more[:32] == healthy
    assert sum(p.usual for p in more[64:]) == 16
    assert sum(p.usual and p.reported for p in more) == 4 + 8
    encoder = list(bench.run.encoder_plans(first=200, language=7))
    assert {p.fault for p in encoder} == {""} | {
        n for n, f in bench.faults.FAULTS.items() if "bert" in f.architectures and not f.half
    }
    assert {p.language for p in encoder} == {7}
    assert {p.onset > 0 for p in encoder if p.reported} == {False, True}
    assert all(p.usual for p in encoder)


def test_a_run_is_kept_and_not_run_again(bench, tmp_path, monkeypatch):
    plan = bench.run.Plan("rate_low", "llama", 1, bench.models.Size(width=16, depth=2, heads=2), steps=3)
    found = bench.run.run_one(plan, tmp_path, monitored=False)
    assert len(found["losses"]) == 3
    assert bench.run.finished(plan, tmp_path) == json.loads(json.dumps(found))
    monkeypatch.setattr(bench.run, "_train", lambda *_: pytest.fail("ran again"))
    assert bench.run.run_one(plan, tmp_path, monitored=False) == json.loads(json.dumps(found))
    other = bench.run.Plan("rate_low", "llama", 1, steps=4)
    assert bench.run.finished(other, tmp_path) is None
    for again in (lambda: bench.run.run_one(other, tmp_path), lambda: bench.run.run_all([other], tmp_path)):
        with pytest.raises(FileExistsError, match="other settings"):
            again()
    assert bench.run.finished(plan, tmp_path) is not None
