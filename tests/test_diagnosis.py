"""Rules over histories written by hand: each finds its fault, names the layer, and leaves the rest alone."""

import dataclasses
import json

import numpy as np
import pytest

from infogeo import (
    QUANTITIES,
    RULES,
    RunFacts,
    Thresholds,
    TrainingHistory,
    TrainingRecord,
    compare_runs,
    diagnose,
)
from infogeo._diagnosis_related import CONSEQUENCES
from infogeo.errors import ArgumentError, ShapeError

DEPTH, HEADS, VOCABULARY = 4, 3, 110
STEPS = (0, 100, 200, 300, 400, 500, 600)
INF, NAN = float("inf"), float("nan")

FACTS = RunFacts(
    run="c0ffee", model="tiny", architecture="GPT2LMHeadModel", depth=DEPTH, heads=(HEADS,) * DEPTH, width=64,
    vocabulary=VOCABULARY, n_parameters=10_000, causal=True, objective="next token", dtype="float32", probe="00",
    probe_shape=(16, 48), every=100,
)

HEALTHY = {
    "loss": [NAN, 3.9, 3.5, 3.2, 3.0, 2.9, 2.85],
    "loss_lowest": [NAN, 3.6, 3.4, 3.1, 2.9, 2.8, 2.7],
    "loss_highest": [NAN, 4.7, 3.7, 3.4, 3.2, 3.1, 3.0],
    "probe_loss": [4.72, 3.6, 3.3, 3.1, 2.95, 2.85, 2.8],
    "learning_rate": [NAN] + [1e-3] * 6,
    "gradient_norm": [NAN, 0.9, 0.6, 0.5, 0.5, 0.6, 0.5],
    "target_entropy": [NAN] + [3.88] * 6,
    "batch_repetition": [NAN] + [0.0] * 6,
    "answer_shown": [NAN] + [0.1] * 6,
    "gradient_carryover": [NAN] + [0.0] * 6,
    "state_norm": [0.03, 0.1, 0.2, 0.3, 0.4],
    "headroom": [1e36] * 5,
    "nonfinite": [0.0] * 5,
    "mean_cosine": [0.02, 0.1, 0.2, 0.3, 0.6],
    "token_similarity": [0.05, 0.2, 0.25, 0.3, 0.3],
    "anisotropy": [0.1] * 5,
    "effective_rank": [50.0, 40.0, 35.0, 30.0, 28.0],
    "lens_loss": [4.5, 4.2, 3.8, 3.2, 2.8],
    "future_sensitivity": [0.0, 1e-7, 1e-7, 2e-7, 2e-7],
    "order_sensitivity": [NAN, 0.3, 0.5, 0.6, 0.6],
    "capacity": [2.0, 2.0, 1.5, 1.5],
    "contribution": [1.5, 0.6, 0.4, 0.3],
    "path_length": [0.3, 0.2, 0.2, 0.4],
    "carry": [1.2, 1.1, 1.0, 1.0],
    "large_carry": [0.001, 0.001, 0.001, 0.001], "muted_carry": [1.0] * 4, "scale_response": [0.05, 0.1, 0.1, 0.1],
    "dead_units": [0.0, 0.1, 0.2, 0.1],
    "saturated_units": [0.0, 0.1, 0.1, 0.1],
    "gradient_norm_block": [0.4, 0.2, 0.15, 0.1],
    "update_ratio": [4e-3, 3e-3, 3e-3, 2e-3],
    "unmoved": [0.0] * 4,
    "gradient_snr": [0.5] * 4,
    "twin": [0.02, 0.01, 0.01, 0.03],
    "attention_entropy": [[0.5, 0.7, 0.9]] * 4,
    "attention_logits": [[5.0, 3.0, 2.0]] * 4,
    "head_output": [[0.8, 1.0, 1.2]] * 4,
}
SLOW = {"loss": [NAN, 4.7, 4.6, 4.5, 4.4, 4.3, 4.2], "probe_loss": [4.72, 4.7, 4.65, 4.6, 4.5, 4.4, 4.3]}
"""A run that hardly moves."""
START = {"attention_entropy": [[0.9995] * 3] * 4, "update_ratio": [NAN] * 4, "unmoved": [NAN] * 4,
         "gradient_norm_block": [NAN] * 4}


def healthy(steps=STEPS, **facts):
    """A run in which nothing is wrong."""
    records = []
    for k, step in enumerate(steps):
        values = {}
        for name, value in HEALTHY.items():
            per_step = QUANTITIES[name].scope == "model"
            values[name] = value[k] if per_step else START.get(name, value) if step == 0 else value
        records.append(TrainingRecord(step=step, values=values, twins=(2, 1, 4, 3)))
    losses = [[s, np.interp(s, STEPS, HEALTHY["probe_loss"])] for s in range(1, steps[-1] + 1)]
    return TrainingHistory(
        facts=dataclasses.replace(FACTS, **facts), records=tuple(records), losses=np.reshape(losses, (-1, 2)),
        name="a run",
    )


def changed(history, name, value, *, at=..., steps=None, since=0, **record):
    """The same history with a quantity set at some place, at some steps or since one."""
    records = []
    for old in history.records:
        here = old.step >= since if steps is None else old.step in steps
        if not here:
            records.append(old)
            continue
        values = {n: np.array(a) for n, a in old.values.items()}
        if name is not None:
            values[name][at] = value
        records.append(dataclasses.replace(old, values=values, **record))
    return dataclasses.replace(history, records=tuple(records))


def series(history, **by_name):
    """The same history with whole series of quantities of the model, or medians over blocks."""
    for name, values in by_name.items():
        for step, value in zip(history.steps, values, strict=True):
            history = changed(history, name, value, steps=(step,))
    return history


def without(history, name):
    """The same history as if a quantity had not been measured."""
    records = [dataclasses.replace(r, values={n: a for n, a in r.values.items() if n != name}) for r in history.records]
    return dataclasses.replace(history, records=tuple(records))


def checkpoint(history, step=600):
    """The record of one step alone, without what is measured while training."""
    record = next(r for r in history.records if r.step == step)
    values = {n: a for n, a in record.values.items() if not QUANTITIES[n].live}
    return TrainingHistory(
        facts=dataclasses.replace(history.facts, every=0), name="a checkpoint",
        records=(dataclasses.replace(record, values=values, unmoved=()),),
    )


def found(history, rule, **kwargs):
    return [f for f in diagnose(history, **kwargs).all_findings() if f.rule == rule]


ALL = slice(None)
# rule, quantity, place in the array, value beyond the threshold, value just short of it, block, head, records in a row
PLACES = [
    ("rank_collapse", "mean_cosine", 3, 0.9951, 0.9949, 3, None, 2),
    ("over_smoothing", "token_similarity", 2, 0.91, 0.89, 2, None, 2),
    ("exploding_signal", "state_norm", slice(3, None), 0.2 * 31, 0.2 * 29, 3, None, 2),
    ("vanishing_signal", "state_norm", slice(2, None), 0.1 * 0.029, 0.1 * 0.031, 2, None, 2),
    ("number_format", "headroom", slice(3, None), 7.9, 8.1, 3, None, 1),
    ("dead_units", "dead_units", 1, 0.91, 0.9, 2, None, 2),
    ("saturated_units", "saturated_units", 2, 0.71, 0.7, 3, None, 2),
    ("vanishing_gradient", "gradient_norm_block", 1, 0.4 * 0.9e-3, 0.4 * 1.1e-3, 2, None, 2),
    ("no_position_information", "order_sensitivity", 1, 0.9e-4, 1.1e-4, None, None, 1),
    ("sees_the_future", "future_sensitivity", slice(2, None), 1.1e-4, 0.9e-4, 2, None, 1),
    ("no_normalization", "scale_response", 2, 0.51, 0.5, 3, None, 2),
    ("no_residual", "muted_carry", 1, -0.19, 0.21, 2, None, 1),
    ("dead_block", "contribution", 2, 0.9e-3, 1.1e-3, 3, None, 2),
    ("duplicated_layer", "twin", (slice(2, 4),), 0.991, 0.99, 4, None, 1),
    ("uniform_attention", "attention_entropy", (1, ALL), 0.9996, 0.9995, 2, None, 2),
    ("attention_entropy_collapse", "attention_entropy", (2, ALL), 0.09, 0.11, 3, None, 2),
    ("dead_head", "head_output", (3, 1), 0.009, 0.011, 4, 2, 2),
    ("untrained_layer", "update_ratio", 2, 0.009 * 3e-3, 0.011 * 3e-3, 3, None, 2),
]
IDS = [row[0] for row in PLACES]


def broken(rule, quantity, at, value, since=300, steps=None):
    history = changed(healthy(), quantity, value, at=at, since=since, steps=steps)
    if rule == "attention_entropy_collapse":
        history = changed(history, "attention_logits", 25.0, at=at, since=since)
    return history


def test_a_healthy_run_has_no_finding_and_every_rule_is_checked():
    diagnosis = diagnose(healthy())
    assert diagnosis.findings == ()
    assert diagnosis.healthy
    assert diagnosis.exit_code == 0
    assert set(diagnosis.checked) == set(RULES)
    assert dict(diagnosis.not_checked) == {}
    assert "nothing found" in diagnosis.summary()


@pytest.mark.parametrize("step", STEPS)
def test_a_healthy_run_has_no_finding_at_any_earlier_step(step):
    assert diagnose(healthy().until(step)).findings == ()


def test_a_healthy_checkpoint_has_no_finding_and_says_what_it_cannot_tell():
    diagnosis = diagnose(checkpoint(healthy()))
    assert diagnosis.findings == ()
    assert "two records" in diagnosis.not_checked["label_leak"]
    assert "while a model trains" in diagnosis.not_checked["untrained_layer"]
    assert "step 0" in diagnosis.not_checked["initialization_scale"]
    assert set(diagnosis.checked) | set(diagnosis.not_checked) == set(RULES)


@pytest.mark.parametrize(("rule", "quantity", "at", "bad", "good", "block", "head", "row"), PLACES, ids=IDS)
def test_a_rule_finds_its_fault_at_the_right_place_and_step(rule, quantity, at, bad, good, block, head, row):
    (finding,) = found(broken(rule, quantity, at, bad), rule)
    assert (finding.block, finding.head) == (block, head)
    assert (finding.first_step, finding.last_step) == (300, 600)
    assert finding.severity == ("warning" if rule == "uniform_attention" else "fault")
    assert finding.quantity == quantity
    assert np.isfinite([finding.value, finding.threshold]).all()
    assert any(c.isdigit() for c in finding.evidence)
    assert finding.explanation.endswith(".")
    assert finding.advice.endswith(".")
    assert found(broken(rule, quantity, at, good), rule) == []


@pytest.mark.parametrize(("rule", "quantity", "at", "bad", "good", "block", "head", "row"), PLACES, ids=IDS)
def test_a_rule_fires_as_soon_as_it_has_seen_enough(rule, quantity, at, bad, good, block, head, row):
    history = broken(rule, quantity, at, bad)
    first = next(s for s in STEPS if found(history.until(s), rule))
    assert first == 300 + (row - 1) * 100
    once = broken(rule, quantity, at, bad, steps=(300,))
    assert bool(found(once, rule)) == (row == 1)


@pytest.mark.parametrize(("rule", "quantity", "at", "bad", "good", "block", "head", "row"), PLACES, ids=IDS)
def test_what_has_passed_is_a_warning_that_says_so(rule, quantity, at, bad, good, block, head, row):
    (finding,) = found(broken(rule, quantity, at, bad, steps=(300, 400)), rule)
    assert finding.severity == "warning"
    assert (finding.first_step, finding.last_step) == (300, 400)
    assert "not seen after step 400" in finding.evidence


LIVE_ONLY = {"vanishing_gradient", "untrained_layer"}


@pytest.mark.parametrize(("rule", "quantity", "at", "bad", "good", "block", "head", "row"), PLACES, ids=IDS)
def test_a_single_checkpoint_shows_what_needs_no_history(rule, quantity, at, bad, good, block, head, row):
    diagnosis = diagnose(checkpoint(broken(rule, quantity, at, bad)))
    here = [f for f in diagnosis.all_findings() if f.rule == rule]
    if rule in LIVE_ONLY:
        assert here == []
        assert rule in diagnosis.not_checked
        return
    (finding,) = here
    assert (finding.block, finding.head) == (block, head)
    assert finding.severity == ("warning" if rule == "uniform_attention" else "fault")
    assert found(checkpoint(broken(rule, quantity, at, good)), rule) == []


@pytest.mark.parametrize(("rule", "quantity", "at", "bad", "good", "block", "head", "row"), PLACES, ids=IDS)
def test_a_quantity_that_was_not_measured_is_named_with_the_reason(rule, quantity, at, bad, good, block, head, row):
    history = broken(rule, quantity, at, bad)
    for needed in RULES[rule].needs:
        history = changed(history, needed, NAN)
    assert RULES[rule].needs[0] in diagnose(history).not_checked[rule]
    facts = dataclasses.replace(history.facts, missing={RULES[rule].needs[0]: "the model has none"})
    diagnosis = diagnose(dataclasses.replace(history, facts=facts))
    assert "the model has none" in diagnosis.not_checked[rule]
    assert rule not in diagnosis.checked
    assert found(history, rule) == []


# The whole model


def test_a_learning_rate_that_makes_steps_as_long_as_the_weights_is_too_high():
    history = changed(healthy(), "update_ratio", 0.051, since=100)
    (finding,) = found(history, "learning_rate_too_high")
    assert finding.block is None
    assert finding.quantity == "update_ratio"
    assert finding.first_step == 100
    assert "0.001" in finding.evidence
    assert found(changed(healthy(), "update_ratio", 0.049, since=100), "learning_rate_too_high") == []


def test_a_loss_that_rises_with_long_steps_is_a_learning_rate_too_high_and_without_them_is_not():
    rising = series(healthy(), loss=[NAN, 3.6, 3.5, 3.91, 3.95, 3.95, 3.99])
    assert found(rising, "learning_rate_too_high") == []
    fast = changed(rising, "update_ratio", 0.021, since=100)
    (finding,) = found(fast, "learning_rate_too_high")
    assert (finding.quantity, finding.first_step) == ("loss", 300)
    assert finding.value == pytest.approx((3.99 - 3.5) / 3.88)
    level = series(fast, loss=[NAN, 3.6, 3.5, 3.6, 3.4, 3.3, 3.2])
    assert found(level, "learning_rate_too_high") == []


def unmuted(history, large=NAN):
    """The same history where it is not known what a block does with its parts mute."""
    return changed(changed(history, "muted_carry", NAN), "large_carry", large)


def test_a_block_that_outweighs_its_input_is_not_judged_by_what_it_carries():
    history = unmuted(broken("no_residual", "carry", 1, 0.0))
    assert found(changed(history, "contribution", 3.1, at=1), "no_residual") == []
    later = changed(history, "contribution", 3.1, at=1, since=500)
    assert found(later, "no_residual")[0].severity == "fault"


def test_attention_that_collapses_under_long_steps_follows_from_them_unless_it_was_so_at_the_start():
    collapse = broken("attention_entropy_collapse", "attention_entropy", (2, ALL), 0.05)
    assert found(collapse, "learning_rate_too_high") == []
    fast = changed(collapse, "update_ratio", 0.03, since=100)
    (finding,) = diagnose(fast).findings
    assert (finding.rule, finding.first_step) == ("learning_rate_too_high", 300)
    (finding,) = diagnose(changed(fast, "update_ratio", 1e-3, since=400)).findings
    assert (finding.rule, finding.severity, finding.value) == ("learning_rate_too_high", "fault", 0.03)
    assert [(f.rule, f.block) for f in finding.related] == [("attention_entropy_collapse", 3)]
    from_the_start = broken("attention_entropy_collapse", "attention_entropy", (2, ALL), 0.05, since=0)
    assert found(changed(from_the_start, "update_ratio", 0.03, since=100), "learning_rate_too_high") == []


def test_states_that_become_alike_with_nothing_to_learn_follow_from_that_unless_they_were_so_at_the_start():
    resting = series(healthy(), **RESTING)
    (finding,) = diagnose(changed(resting, "mean_cosine", 0.999, at=3, since=100)).findings
    assert finding.rule == "shuffled_targets"
    assert [f.rule for f in finding.related] == ["rank_collapse"]
    built_so = diagnose(changed(resting, "mean_cosine", 0.999, at=3))
    assert {f.rule for f in built_so.findings} == {"shuffled_targets", "rank_collapse"}


def test_a_loss_that_rests_with_long_steps_is_a_learning_rate_too_high_and_not_shuffled_targets_beside_it():
    resting = series(healthy(), loss=[NAN] + [3.9] * 6, probe_loss=[4.7] + [3.9] * 6)
    diagnosis = diagnose(changed(resting, "update_ratio", 0.03, since=100))
    (finding,) = diagnosis.findings
    assert finding.rule == "learning_rate_too_high"
    assert [f.rule for f in finding.related] == ["shuffled_targets"]


def test_short_steps_without_progress_are_a_learning_rate_too_low():
    slow = series(healthy(), **SLOW)
    assert found(slow, "learning_rate_too_low") == []
    low = changed(slow, "update_ratio", 2.9e-4, since=100)
    (finding,) = found(low, "learning_rate_too_low")
    assert (finding.block, finding.first_step) == (None, 100)
    assert found(low.until(200), "learning_rate_too_low")
    assert found(low.until(100), "learning_rate_too_low") == []
    assert found(changed(slow, "update_ratio", 3.1e-4, since=100), "learning_rate_too_low") == []


def test_short_steps_are_no_fault_while_the_loss_is_low_or_the_rate_warms_up_or_has_decayed():
    short = changed(healthy(), "update_ratio", 1e-4, since=100)
    assert found(short, "learning_rate_too_low") == []
    slow = series(short, **SLOW)
    warm_up = series(slow, learning_rate=[NAN, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 6e-5])
    assert found(warm_up, "learning_rate_too_low") == []
    decayed = changed(series(slow, learning_rate=[NAN, 1e-3, 4e-4, 3e-4, 2e-4, 1e-4, 0.0]), "update_ratio", 3e-3,
                      steps=(100,))
    assert found(decayed, "learning_rate_too_low") == []


def test_a_learning_rate_of_zero_is_told_where_it_stays():
    still = changed(healthy(), "update_ratio", 0.0, since=100)
    stuck = series(still, learning_rate=[NAN] + [0.0] * 6)
    (finding,) = found(stuck, "learning_rate_too_low")
    assert (finding.severity, finding.first_step, finding.value) == ("fault", 100, 0.0)
    assert "from step 100 to 600" in finding.evidence
    assert found(stuck.until(200), "learning_rate_too_low")
    assert found(stuck.until(100), "learning_rate_too_low") == []
    ended = changed(series(healthy(), learning_rate=[NAN] + [1e-3] * 4 + [0.0] * 2), "update_ratio", 0.0, since=500)
    (finding,) = found(ended, "learning_rate_too_low")
    assert (finding.severity, finding.first_step) == ("warning", 500)
    assert found(ended.until(500), "learning_rate_too_low") == []  # schedules end at zero
    moving = series(healthy(), learning_rate=[NAN] + [0.0] * 6)  # a rate that is told wrong
    assert found(moving, "learning_rate_too_low") == []


def test_a_loss_that_rests_at_the_entropy_of_the_targets_means_shuffled_targets():
    resting = series(healthy(), loss=[NAN, 4.1, 3.9, 3.89, 3.88, 3.89, 3.88], probe_loss=[4.72] + [3.9] * 6)
    (finding,) = found(resting, "shuffled_targets")
    assert finding.first_step == 300
    assert "signal-to-noise" in finding.evidence
    assert found(resting.until(400), "shuffled_targets") == []
    lower = series(resting, loss=[NAN, 4.1, 3.9, 3.7, 3.7, 3.7, 3.7])
    assert found(lower, "shuffled_targets") == []
    noisy = series(resting, loss=[NAN, 4.1, 3.9, 3.89, 3.88, 3.89, 3.78])
    assert found(noisy, "shuffled_targets")[0].severity == "fault"
    left = series(resting, loss=[NAN, 4.1, 3.9, 3.89, 3.88, 3.89, 3.6])
    assert found(left, "shuffled_targets")[0].severity == "warning"
    falling = series(resting, loss=[NAN, 5.0, 4.8, 4.6, 4.4, 4.2, 4.0])
    assert found(falling, "shuffled_targets") == []
    learned = series(resting, probe_loss=[4.72, 3.9] + [3.6] * 5)
    assert found(learned, "shuffled_targets") == []
    hardly_moved = changed(resting, "update_ratio", 3e-4, since=100)
    assert found(hardly_moved, "shuffled_targets") == []


def test_targets_shuffled_in_mid_run_show_as_a_live_loss_far_above_that_of_the_probe():
    history = series(healthy(), loss=[NAN, 3.9, 3.5, 3.2, 4.3, 4.2, 4.1])
    (finding,) = found(history, "shuffled_targets")
    assert finding.first_step == 400
    assert found(history.until(500), "shuffled_targets")
    near = series(healthy(), loss=[NAN, 3.9, 3.5, 3.2, 3.7, 3.7, 3.7])
    assert found(near, "shuffled_targets") == []


def test_constant_data_by_batches_or_by_targets():
    (finding,) = found(changed(healthy(), "batch_repetition", 0.95, since=300), "constant_data")
    assert (finding.block, finding.first_step) == (None, 300)
    assert "95%" in finding.evidence
    assert found(changed(healthy(), "batch_repetition", 0.9, since=300), "constant_data") == []
    (finding,) = found(changed(healthy(), "target_entropy", 0.05, since=100), "constant_data")
    assert finding.quantity == "target_entropy"
    unknown = changed(changed(healthy(), "batch_repetition", NAN), "target_entropy", NAN)
    assert "while training" in diagnose(unknown).not_checked["constant_data"]


def test_a_live_loss_far_below_that_of_a_probe_that_was_never_learned_is_a_leak():
    leak = series(healthy(), loss=[NAN, 2.0, 0.5, 0.2, 0.1, 0.1, 0.1], probe_loss=[4.7, 4.2, 4.3, 4.5, 4.6, 4.7, 4.8])
    (finding,) = found(leak, "label_leak")
    assert finding.first_step == 100
    assert found(leak.until(200), "label_leak")
    by_heart = series(
        healthy(), loss=[NAN, 3.5, 2.8, 2.2, 1.8, 1.5, 1.3], probe_loss=[4.7, 3.4, 3.1, 3.1, 3.3, 3.5, 3.7]
    )
    assert found(by_heart, "label_leak") == []
    repeated = changed(leak, "batch_repetition", 1.0, since=100)
    assert found(repeated, "label_leak") == []
    above = series(healthy(), loss=[NAN, 8.0] + [9.0] * 5, probe_loss=[4.7] + [40.0] * 6)  # worse than guessing
    assert found(above, "label_leak") == []


def test_a_leak_in_mid_run_shows_as_a_sudden_fall_that_the_probe_does_not_share():
    history = series(
        healthy(), loss=[NAN, 3.9, 3.5, 3.2, 1.0, 0.5, 0.3], probe_loss=[4.7, 3.6, 3.3, 3.1, 3.2, 3.4, 3.6]
    )
    (finding,) = found(history, "label_leak")
    assert finding.first_step == 400


def test_targets_that_stand_in_their_own_places_are_a_leak():
    (finding,) = found(changed(healthy(), "answer_shown", 1.0, since=100), "label_leak")
    assert (finding.quantity, finding.first_step, finding.block) == ("answer_shown", 100, None)
    assert found(changed(healthy(), "answer_shown", 0.2, since=100), "label_leak") == []
    assert found(changed(healthy(), "answer_shown", 0.86, since=100), "label_leak")  # all tokens are targets
    alone = without(changed(healthy(), "answer_shown", 1.0, since=100), "probe_loss")
    assert found(alone, "label_leak")
    unknown = without(without(healthy(), "probe_loss"), "answer_shown")
    assert diagnose(unknown).not_checked["label_leak"].startswith("probe_loss: ")


def test_gradients_that_are_not_cleared_are_told_with_what_follows():
    history = changed(healthy(), "gradient_carryover", 1.0, since=100)
    (finding,) = found(history, "gradients_kept")
    assert (finding.severity, finding.first_step, finding.value) == ("fault", 100, 1.0)
    assert found(history.until(200), "gradients_kept")
    assert found(changed(healthy(), "gradient_carryover", 0.4, since=100), "gradients_kept") == []
    large = changed(history, "gradient_norm", 1e4, since=200)
    (finding,) = [f for f in diagnose(large).findings if f.rule == "gradients_kept"]
    assert "exploding_gradient" in {f.rule for f in finding.related}


def test_short_steps_are_no_fault_where_the_loss_has_fallen_by_a_tenth_or_has_leapt():
    falling = series(
        healthy(), loss=[NAN, 6.0, 5.9, 5.6, 5.4, 5.3, 5.2], probe_loss=[6.0, 5.9, 5.7, 5.5, 5.3, 5.2, 5.1]
    )
    short = changed(falling, "update_ratio", 1e-4, since=100)
    assert found(short.until(300), "learning_rate_too_low")[0].severity == "fault"
    assert [f.severity for f in found(short, "learning_rate_too_low")] == ["warning"]  # until it had fallen
    spike = series(healthy(), loss=[NAN, 4.0, 3.5, 3.2, 9.0, 8.9, 8.8], probe_loss=[4.7, 4.0, 3.6, 3.3, 9.0, 8.9, 8.8])
    assert found(changed(spike, "update_ratio", 1e-4, since=100), "learning_rate_too_low") == []


def test_attention_that_collapses_long_after_a_large_step_is_not_put_down_to_it():
    late = changed(changed(healthy(), "update_ratio", 0.04, steps=(100,)), "attention_entropy", 0.01, at=2, since=600)
    late = changed(changed(late, "attention_logits", 50.0, at=2, since=600), "update_ratio", 2e-3, since=200)
    assert found(late, "learning_rate_too_high") == []
    soon = changed(changed(healthy(), "update_ratio", 0.04, since=100), "attention_entropy", 0.01, at=2, since=200)
    soon = changed(soon, "attention_logits", 50.0, at=2, since=200)
    assert found(soon, "learning_rate_too_high")
    stays = changed(soon, "update_ratio", 1e-3, since=300)  # weights that have grown move less, in proportion
    (finding,) = found(stays, "learning_rate_too_high")
    assert (finding.severity, finding.last_step) == ("fault", 600)


def test_heads_of_a_block_that_adds_nothing_stand_below_it_though_they_are_seen_first():
    history = changed(changed(healthy(), "head_output", 0.0, at=(1, 0)), "contribution", 0.0, at=1, since=100)
    (finding,) = [f for f in diagnose(history).findings if f.rule == "dead_block"]
    assert [(f.rule, f.first_step, f.head) for f in finding.related] == [("dead_head", 0, 1)]
    elsewhere = changed(changed(healthy(), "head_output", 0.0, at=(2, 0)), "contribution", 0.0, at=1, since=100)
    assert {f.rule for f in diagnose(elsewhere).findings} >= {"dead_block", "dead_head"}


@pytest.mark.parametrize(("name", "value", "at", "block"), [
    ("probe_loss", np.log(VOCABULARY) + 0.51, ..., None),
    ("state_norm", 0.1 * 8.1, slice(2, None), 2),
    ("contribution", 0.009, ALL, None),
    ("attention_logits", 0.004, ALL, None),
])
def test_the_scale_of_weights_at_the_start(name, value, at, block):
    history = changed(healthy(), name, value, at=at, steps=(0,))
    (finding,) = found(history, "initialization_scale")
    assert (finding.block, finding.first_step, finding.severity) == (block, 0, "fault")
    assert found(history.until(0), "initialization_scale")
    later = changed(healthy(), name, value, at=at, steps=(100,))
    assert found(later, "initialization_scale") == []
    assert found(checkpoint(history, 0), "initialization_scale")[0].severity == "warning"


def sharp_at_the_start(at, entropy=0.92, logits=4.1):
    return changed(changed(healthy(), "attention_logits", logits, steps=(0,)), "attention_entropy", entropy, at=at,
                   steps=(0,))


def test_sharp_attention_at_the_start_has_large_logits():
    (finding,) = found(sharp_at_the_start((2, ALL)), "initialization_scale")
    assert (finding.block, finding.first_step, finding.severity) == (3, 0, "fault")
    assert finding.quantity == "attention_entropy"
    assert found(checkpoint(sharp_at_the_start((2, ALL)), 0), "initialization_scale")[0].severity == "warning"
    # queries and keys that are normalized make logits of deviation one
    assert found(sharp_at_the_start((ALL, ALL), 0.84, 2.2), "initialization_scale") == []
    assert found(sharp_at_the_start((2, ALL), logits=NAN), "initialization_scale") != []


def test_a_run_that_starts_from_a_trained_model_may_have_sharp_attention():
    history = changed(healthy(), "attention_entropy", 0.5, at=(2, ALL), steps=(0,))
    assert found(changed(history, "probe_loss", 3.0, steps=(0,)), "initialization_scale") == []


def test_the_start_is_judged_only_where_it_was_recorded_and_the_loss_is_known():
    later = dataclasses.replace(healthy(), records=healthy().records[1:])
    assert "step 0" in diagnose(later).not_checked["initialization_scale"]
    other = healthy(objective="other")
    assert "predicted tokens" in diagnose(other).not_checked["initialization_scale"]


def test_a_gradient_explodes_by_its_size_or_against_what_was_usual():
    large = changed(healthy(), "gradient_norm", 101.0, since=300)
    large = changed(large, "gradient_norm_block", 90.0, at=1, since=300)
    (finding,) = found(large, "exploding_gradient")
    assert (finding.block, finding.first_step) == (2, 300)
    grown = changed(healthy(), "gradient_norm", 31 * 0.6, since=400)  # the median of 0.9, 0.6 and 0.5 before
    (finding,) = found(grown, "exploding_gradient")
    assert finding.value == pytest.approx(31)
    assert found(changed(healthy(), "gradient_norm", 29 * 0.6, since=400), "exploding_gradient") == []
    assert found(changed(healthy(), "gradient_norm", 1e4, steps=(300,)), "exploding_gradient") == []


def test_a_gradient_that_is_large_beside_almost_nothing_does_not_explode():
    learned = series(healthy(), gradient_norm=[NAN, 1e-3, 1e-3, 1e-3, 0.9, 0.9, 0.9])
    assert found(learned, "exploding_gradient") == []
    (finding,) = found(series(learned, gradient_norm=[NAN, 1e-3, 1e-3, 1e-3, 1.1, 1.1, 1.1]), "exploding_gradient")
    assert finding.value == pytest.approx(1100)


def test_a_gradient_that_no_single_block_makes_is_one_of_the_model():
    (finding,) = found(changed(healthy(), "gradient_norm", 101.0, since=300), "exploding_gradient")
    assert finding.block == 1  # 0.4 of them all
    even = changed(healthy(), "gradient_norm_block", 60.0, since=300)
    (finding,) = found(changed(even, "gradient_norm", 120.0, since=300), "exploding_gradient")
    assert finding.block is None


def test_a_signal_that_rises_during_the_run_is_found_where_it_begins():
    history = changed(healthy(), "state_norm", [10.0, 500.0, 1990.0, 2900.0, 3900.0], since=400)
    assert found(history, "exploding_signal") == []
    history = changed(history, "state_norm", 2010.0, at=2, since=400)
    (finding,) = found(history, "exploding_signal")
    assert (finding.block, finding.first_step) == (2, 400)
    assert finding.threshold == Thresholds().signal_rise


def test_if_no_weight_moves_it_is_told_once():
    (finding,) = found(changed(healthy(), "update_ratio", 0.0, since=100), "untrained_layer")
    assert finding.block is None
    assert "optimizer" in finding.advice
    at_rest = changed(changed(healthy(), "update_ratio", 0.0, since=100), "learning_rate", 0.0, since=100)
    assert found(at_rest, "untrained_layer") == []


NORM = ("transformer.h.1.ln_1.weight", "transformer.h.1.ln_1.bias")


def test_named_tensors_that_do_not_move_are_found_in_their_block():
    history = changed(healthy(), "unmoved", 2 / 12, at=1, since=200, unmoved=NORM)
    (finding,) = found(history, "untrained_layer")
    assert (finding.block, finding.first_step, finding.severity) == (2, 200, "fault")
    assert NORM[0] in finding.evidence
    assert found(history.until(200), "untrained_layer") == []
    assert found(changed(healthy(), "unmoved", 2 / 12, at=1, steps=(200,), unmoved=NORM), "untrained_layer") == []


def test_biases_of_keys_get_no_gradient_and_tensors_outside_of_blocks_are_a_warning():
    bias = "bert.encoder.layer.0.attention.self.key.bias"
    key = changed(healthy(), "unmoved", 1 / 16, at=0, since=100, unmoved=(bias,))
    assert found(key, "untrained_layer") == []
    positions = changed(healthy(), None, None, since=100, unmoved=("transformer.wpe.weight",))
    (outside,) = found(positions, "untrained_layer")
    assert (outside.block, outside.severity) == (0, "warning")


def test_what_is_mostly_frozen_looks_meant_and_is_a_warning():
    names = tuple(f"model.layers.{k}.mlp.up_proj.weight" for k in range(DEPTH))
    history = changed(healthy(), "unmoved", 0.8, since=100, unmoved=names)
    findings = found(history, "untrained_layer")
    assert [f.block for f in findings] == [1, 2, 3, 4]
    assert {f.severity for f in findings} == {"warning"}
    assert diagnose(history).exit_code == 0
    all_but_the_last = changed(history, "unmoved", 0.0, at=3)
    assert {f.severity for f in found(all_but_the_last, "untrained_layer")} == {"fault"}


def test_nan_names_the_module_and_takes_what_comes_after_it_along():
    history = changed(healthy(), "nonfinite", 1.0, at=slice(3, None), since=300, broken_at="transformer.h.2.mlp",
                      broken_pass="forward")
    history = changed(history, "dead_units", 1.0, at=3, since=300)
    diagnosis = diagnose(history)
    (finding,) = diagnosis.findings
    assert (finding.rule, finding.block, finding.first_step) == ("not_finite", 3, 300)
    assert "transformer.h.2.mlp" in finding.evidence
    assert [f.rule for f in finding.related] == ["dead_units"]
    earlier = diagnose(changed(history, "dead_units", 1.0, at=3, since=100))
    assert [f.rule for f in earlier.findings] == ["dead_units", "not_finite"]


def test_nan_is_found_by_the_states_or_by_the_loss_alone():
    (finding,) = found(changed(healthy(), "nonfinite", 0.5, at=slice(2, None), since=300), "not_finite")
    assert (finding.block, finding.first_step) == (2, 300)
    losses = np.array(healthy().losses)
    losses[449:, 1] = NAN
    (finding,) = found(dataclasses.replace(healthy(), losses=losses), "not_finite")
    assert (finding.block, finding.first_step, finding.quantity) == (None, 450, "loss")


def test_one_backward_pass_that_overflows_is_a_warning_and_two_at_the_end_are_a_fault():
    once = changed(healthy(), None, None, steps=(100,), broken_at="transformer.h.0.attn", broken_pass="backward")
    assert found(once, "not_finite")[0].severity == "warning"
    last = changed(healthy(), None, None, since=500, broken_at="transformer.h.0.attn", broken_pass="backward")
    assert found(last, "not_finite")[0].severity == "fault"


def test_order_is_judged_by_the_first_attention_of_causal_models_and_everywhere_else():
    later = changed(healthy(), "order_sensitivity", 1e-7, at=slice(2, None))
    assert found(later, "no_position_information") == []
    assert found(changed(later, "order_sensitivity", NAN, at=1), "no_position_information")
    both = healthy(causal=False)
    assert found(changed(both, "order_sensitivity", 1e-7, at=1), "no_position_information") == []
    assert found(changed(both, "order_sensitivity", 1e-6), "no_position_information")
    first_has_none = healthy(heads=(0, HEADS, HEADS, HEADS))
    assert found(changed(first_has_none, "order_sensitivity", 1e-7, at=1), "no_position_information") == []
    assert found(changed(first_has_none, "order_sensitivity", 1e-7, at=2), "no_position_information")


@pytest.mark.parametrize(("rule", "quantity"), [
    ("rank_collapse", "mean_cosine"), ("over_smoothing", "token_similarity"),
])
def test_what_looks_collapsed_in_a_few_early_steps_is_passed_over(rule, quantity):
    early = healthy(steps=(0, 1, 2, 5, 100, 200, 300), every=100)
    assert found(changed(early, quantity, 0.999, steps=(1, 2, 5)), rule) == []
    assert found(changed(early, quantity, 0.999, steps=(5, 100, 200)), rule) != []


def test_a_block_that_lets_nothing_of_a_large_input_through_has_no_residual_stream():
    streams = unmuted(healthy(), 1.0)
    (one,) = found(changed(streams, "large_carry", 0.01, at=2, since=300), "no_residual")
    assert (one.block, one.first_step, one.quantity, one.severity) == (3, 300, "large_carry", "fault")
    assert found(changed(streams, "large_carry", 0.51, at=2), "no_residual") == []
    # what it carries of its own input says nothing beside that
    assert found(changed(streams, "carry", -0.1, at=2), "no_residual") == []
    # where all blocks normalize what they return, it does
    (other,) = found(changed(unmuted(healthy(), 0.001), "carry", -0.1, at=2), "no_residual")
    above = Thresholds(large_carry_elsewhere=1.5)  # then no block counts as one with a stream
    assert [f.quantity for f in diagnose(changed(streams, "carry", -0.1, at=2), thresholds=above).findings] == ["carry"]
    assert (other.block, other.quantity, other.severity) == (3, "carry", "warning")
    assert "outweighs" in other.evidence
    (half,) = found(changed(unmuted(healthy()), "carry", -0.1, at=2), "no_residual")  # in a 16-bit format
    assert (half.quantity, half.severity) == ("carry", "fault")
    assert "before both" not in half.evidence


def test_a_block_that_passes_its_input_on_while_mute_has_a_residual_stream_whatever_else_it_shows():
    outweighed = changed(changed(healthy(), "carry", 0.03), "large_carry", 1e-4)
    assert found(outweighed, "no_residual") == []
    (one,) = found(changed(outweighed, "muted_carry", 0.0, at=2, since=300), "no_residual")
    assert (one.block, one.first_step, one.quantity, one.severity) == (3, 300, "muted_carry", "fault")
    # a branch that is not muted may hide a stream that a large input shows
    assert found(changed(changed(healthy(), "muted_carry", 0.0), "large_carry", 1.0), "no_residual") == []


def test_sharp_attention_in_most_blocks_at_the_start_may_be_a_trained_body():
    one, most = (sharp_at_the_start(at, 0.7) for at in (2, slice(0, 3)))
    assert [(f.block, f.severity) for f in found(one, "initialization_scale")] == [(3, "fault")]
    said = found(most, "initialization_scale")
    assert [(f.block, f.severity) for f in said] == [(1, "warning"), (2, "warning"), (3, "warning")]
    assert "trained before" in said[0].evidence


def test_order_is_looked_for_where_heads_are_not_known():
    unknown = TrainingHistory(facts=dataclasses.replace(FACTS, heads=(0, 0, 0, 0)), records=tuple(
        dataclasses.replace(r, values={n: a for n, a in r.values.items() if QUANTITIES[n].scope != "head"})
        for r in healthy().records
    ))
    assert found(unknown, "no_position_information") == []
    (one,) = found(changed(unknown, "order_sensitivity", 1e-7, at=1), "no_position_information")
    assert "states of layer 1 move" in one.evidence


def test_a_first_block_may_outweigh_small_embeddings_at_the_start():
    first, second = (
        changed(healthy(), "state_norm", np.array(norms), steps=(0,)) for norms in ([1, 9, 9, 9, 9], [1, 1, 9, 9, 9])
    )
    assert found(first, "initialization_scale") == []
    assert [f.block for f in found(second, "initialization_scale")] == [2]


@pytest.mark.parametrize(("facts", "rule", "said"), [
    ({"dtype": "bfloat16"}, "no_position_information", "rounding"),
    ({"causal": False}, "sees_the_future", "later"),
])
def test_what_does_not_apply_is_not_checked(facts, rule, said):
    history = TrainingHistory(facts=dataclasses.replace(FACTS, **facts), records=tuple(
        dataclasses.replace(r, values={n: a for n, a in r.values.items() if QUANTITIES[n].scope != "head"})
        for r in healthy().records
    ))
    assert said in diagnose(history).not_checked[rule]


def test_uniform_attention_is_no_fault_before_anything_is_learned():
    uniform = changed(healthy(), "attention_entropy", 0.9999)
    assert found(uniform, "uniform_attention")
    frequencies = series(uniform, probe_loss=[4.72, 4.5, 4.3, 4.0, 3.8, 3.7, 3.6])
    assert found(frequencies, "uniform_attention") == []
    untrained = series(uniform, probe_loss=[4.72, 4.7, 4.7, 4.65, 4.6, 4.6, 4.55])
    assert found(checkpoint(untrained), "uniform_attention") == []
    one_head_looks = changed(uniform, "attention_entropy", 0.9, at=(ALL, 1))
    assert found(one_head_looks, "uniform_attention") == []


def test_low_entropy_without_large_logits_is_no_collapse_and_unmeasured_logits_make_it_a_warning():
    low = changed(healthy(), "attention_entropy", 0.05, at=(2, ALL), since=300)
    assert found(low, "attention_entropy_collapse") == []
    (finding,) = found(changed(low, "attention_logits", NAN), "attention_entropy_collapse")
    assert finding.severity == "warning"


def test_copies_are_told_once_a_pair_and_shared_weights_are_a_warning():
    (finding,) = found(changed(healthy(), "twin", 1.0, at=slice(0, 2)), "duplicated_layer")
    assert finding.block == 2
    assert "block 1" in finding.evidence
    (shared,) = found(changed(healthy(), "twin", 1.0), "duplicated_layer")
    assert (shared.block, shared.severity) == (None, "warning")


def test_neighboring_layers_are_one_finding():
    (finding,) = found(changed(healthy(), "mean_cosine", 0.999, at=slice(2, None), since=300), "rank_collapse")
    assert finding.block == 2
    assert "layers 2 to 4" in finding.evidence


def test_a_block_of_one_or_two_sharp_heads_is_a_warning():
    history = changed(changed(healthy(), "attention_entropy", 0.05, at=2), "attention_logits", 30.0, at=2)
    assert [f.severity for f in found(history, "attention_entropy_collapse")] == ["fault"]
    few = dataclasses.replace(history, facts=dataclasses.replace(history.facts, heads=(3, 3, 2, 3)))
    assert [f.severity for f in found(few, "attention_entropy_collapse")] == ["warning"]


def test_lower_layers_that_never_move_look_frozen_on_purpose():
    names = tuple(f"bert.encoder.layer.{k}.output.dense.weight" for k in (0, 1))
    lower = changed(healthy(), "unmoved", 1.0, at=slice(0, 2), since=100,
                    unmoved=(*names, "bert.embeddings.word_embeddings.weight"))
    for name in ("update_ratio", "gradient_norm_block"):
        lower = changed(lower, name, 0.0, at=slice(0, 2), since=100)
    diagnosis = diagnose(lower)
    assert diagnosis.exit_code == 0
    said = [f for f in diagnosis.findings if f.block in (1, 2)]
    assert [(f.rule, f.block, f.severity) for f in said] == [("untrained_layer", b, "warning") for b in (1, 2)]
    assert all([g.rule for g in f.related] == ["vanishing_gradient"] for f in said)
    assert all("from the first step on, and all that comes before" in f.evidence for f in said)
    # not so where the embedding moves, where they moved once, or where a block before them does
    for faulty in (
        changed(lower, None, None, since=100, unmoved=names), changed(lower, "unmoved", 0.5, at=0, steps=(100,)),
        changed(changed(lower, "unmoved", 0.0, at=0, since=100), "update_ratio", 3e-3, at=0, since=100),
    ):
        assert [f.severity for f in found(faulty, "untrained_layer") if f.block == 2] == ["fault"]
        assert diagnose(faulty).exit_code == 1


def test_short_steps_of_adapters_or_of_the_first_few_steps_are_no_low_learning_rate():
    slow = changed(series(healthy(), **SLOW), "update_ratio", 1e-4, since=100)
    assert found(slow, "learning_rate_too_low")[0].severity == "fault"
    assert found(changed(slow, "unmoved", 0.8, since=100), "learning_rate_too_low") == []
    early = healthy(steps=(0, 1, 2, 5, 10, 20, 50), every=100)
    early = changed(series(early, loss=[NAN] + [3.88] * 6), "update_ratio", 1e-4, since=1)
    assert found(early, "learning_rate_too_low") == []


def test_the_first_steps_of_adam_may_be_long():
    early = healthy(steps=(0, 1, 2, 5, 10, 100, 200), every=100)
    assert found(changed(early, "update_ratio", 0.06, steps=(1, 2, 5)), "learning_rate_too_high") == []
    (finding,) = found(changed(early, "update_ratio", 0.06, steps=(1, 2, 5, 10)), "learning_rate_too_high")
    assert finding.first_step == 5


def test_uniform_attention_is_not_judged_where_the_number_of_outcomes_is_unknown():
    history = broken("uniform_attention", "attention_entropy", (1, ALL), 0.9999)
    assert found(history, "uniform_attention") != []
    classes = changed(history, "target_entropy", NAN)
    assert found(classes, "uniform_attention") != []
    classes = dataclasses.replace(classes, facts=dataclasses.replace(classes.facts, objective="other"))
    assert "predicted tokens only" in diagnose(classes).not_checked["uniform_attention"]


def test_tensors_of_a_decoder_beside_the_encoder_that_is_measured_are_of_none_of_its_blocks():
    name = "decoder.block.1.layer.0.SelfAttention.q.weight"
    history = changed(healthy(causal=False), None, None, since=200, unmoved=(name,))
    (finding,) = found(history, "untrained_layer")
    assert (finding.block, finding.severity) == (None, "warning")
    causal = changed(healthy(), "unmoved", 0.1, at=1, since=200, unmoved=(name,))
    assert [f.block for f in found(causal, "untrained_layer")] == [2]


# What follows from what


def test_consequences_are_listed_with_their_cause():
    history = changed(healthy(), "muted_carry", 0.0, at=1, since=200)
    history = changed(history, "mean_cosine", 0.999, at=slice(3, None), since=300)
    history = changed(history, "token_similarity", 0.99, at=slice(3, None), since=300)
    diagnosis = diagnose(history)
    (finding,) = diagnosis.findings
    assert finding.rule == "no_residual"
    assert {f.rule for f in finding.related} == {"rank_collapse", "over_smoothing"}
    assert [row[0] for row in diagnosis.rows()[1]] == ["fault", "follows", "follows"]


def test_what_comes_before_a_cause_or_elsewhere_is_no_consequence():
    history = changed(healthy(), "muted_carry", 0.0, at=2, since=300)
    before = changed(history, "mean_cosine", 0.999, at=1, since=300)
    assert {f.rule for f in diagnose(before).findings} == {"no_residual", "rank_collapse"}
    earlier = changed(history, "mean_cosine", 0.999, at=4, since=100)
    assert {f.rule for f in diagnose(earlier).findings} == {"no_residual", "rank_collapse"}


def test_no_rule_follows_from_its_own_consequences():
    def below(rule):  # does not end if there is a circle
        effects = {effect for effect, where in CONSEQUENCES.get(rule, {}).items() if where != "beyond"}
        return effects.union(*map(below, effects))

    assert all(rule not in below(rule) for rule in CONSEQUENCES)
    assert set(CONSEQUENCES).union(*CONSEQUENCES.values()) <= set(RULES)


def test_many_findings_at_once_are_each_told_once():
    history = healthy()
    for _, quantity, at, bad, *_ in PLACES:
        history = changed(history, quantity, bad, at=at, since=200)
    diagnosis = diagnose(changed(history, "attention_logits", 25.0, since=200))
    told = list(diagnosis.all_findings())
    assert len(told) == len({(f.rule, f.block, f.head) for f in told}) >= len(PLACES) - 2


def test_what_is_not_finite_does_not_hide_how_a_model_is_built():
    history = checkpoint(changed(healthy(), "twin", 0.999, at=slice(0, 2)))
    history = changed(history, "nonfinite", 1.0, at=slice(3, None), broken_at="transformer.h.2.mlp.c_fc")
    history = changed(history, "dead_units", 1.0, at=1)
    diagnosis = diagnose(history)
    assert {f.rule for f in diagnosis.findings} == {"not_finite", "duplicated_layer"}
    (cause,) = (f for f in diagnosis.findings if f.rule == "not_finite")
    assert [f.rule for f in cause.related] == ["dead_units"]


def test_units_that_die_long_after_a_bad_start_are_a_fault_of_their_own():
    start = changed(healthy(), "probe_loss", np.log(VOCABULARY) + 1, steps=(0,))
    (cause,) = diagnose(changed(start, "dead_units", 1.0, at=1)).findings
    assert (cause.rule, [f.rule for f in cause.related]) == ("initialization_scale", ["dead_units"])
    later = diagnose(changed(start, "dead_units", 1.0, at=1, since=300)).findings
    assert [f.rule for f in later] == ["initialization_scale", "dead_units"]


def test_a_warning_does_not_hide_a_fault():
    history = changed(healthy(), "contribution", 0.0, at=1, steps=(200, 300))
    history = changed(history, "head_output", 0.0, at=(1, 0), since=200)
    assert [f.rule for f in diagnose(history).findings] == ["dead_head", "dead_block"]


def test_findings_come_faults_first_then_by_step():
    history = changed(healthy(), "dead_units", 1.0, at=0, since=400)
    history = changed(history, "scale_response", 1.0, at=3, since=200)
    history = changed(history, "saturated_units", 1.0, at=1, steps=(100, 200))
    assert [f.rule for f in diagnose(history).findings] == ["no_normalization", "dead_units", "saturated_units"]


# The result, its thresholds, and what is refused


def test_the_table_of_layers_has_values_of_the_last_record_and_the_findings():
    diagnosis = diagnose(changed(healthy(), "dead_units", 1.0, at=1, since=300))
    columns, rows = diagnosis.layers()
    assert len(rows) == DEPTH + 1
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    assert table[0]["contribution"] is None
    assert table[2]["contribution"] == HEALTHY["contribution"][1]
    assert table[2]["attention_entropy"] == pytest.approx(0.7)
    assert table[3]["state_norm"] == HEALTHY["state_norm"][3]
    assert [row["findings"] for row in table] == ["", "", "dead_units", "", ""]


def test_a_diagnosis_becomes_json():
    plain = json.loads(diagnose(changed(healthy(), "dead_units", 1.0, at=1, since=300)).to_json())
    assert plain["findings"][0]["rule"] == "dead_units"
    assert plain["run"] == "a run"


def test_a_history_without_records_gives_no_finding_and_says_why():
    empty = dataclasses.replace(healthy(), records=(), losses=np.empty((0, 2)))
    diagnosis = diagnose(empty)
    assert diagnosis.healthy
    assert diagnosis.checked == ("not_finite",)
    assert diagnosis.layers()[1] == [(layer, "") for layer in range(DEPTH + 1)]


def test_rules_can_be_chosen_and_unknown_ones_are_refused():
    history = changed(changed(healthy(), "dead_units", 1.0, at=1), "carry", 0.0, at=2)
    diagnosis = diagnose(history, rules=["dead_units"])
    assert [f.rule for f in diagnosis.findings] == ["dead_units"]
    assert diagnosis.checked == ("dead_units",)
    with pytest.raises(ArgumentError, match="bad_luck"):
        diagnose(history, rules=["bad_luck"])


def test_thresholds_are_checked():
    assert Thresholds().with_values(carry=0.1).carry == 0.1
    for wrong in ({"carry": -1.0}, {"carry": NAN}, {"persistence": 0.5}, {"plateau_records": INF}, {"no_such": 1.0}):
        with pytest.raises(ArgumentError):
            Thresholds().with_values(**wrong)
    with pytest.raises(ArgumentError, match="carry"):
        Thresholds(carry="much")


def test_more_persistence_waits_longer():
    history = changed(healthy(), "dead_units", 1.0, at=1, since=300)
    for wanted in (1, 2, 3, 4):
        limits = Thresholds(persistence=wanted)
        first = next(s for s in STEPS if found(history.until(s), "dead_units", thresholds=limits))
        assert first == 300 + (wanted - 1) * 100
    assert found(history, "dead_units", thresholds=Thresholds(persistence=5)) == []


STRICT_IS_LOW = {
    "order_sensitivity", "carry", "large_carry", "muted_carry", "carry_contribution", "contribution", "signal_loss",
    "headroom", "gradient_loss",
    "collapsed_attention", "head_output", "update_ratio_low", "progress", "untrained_ratio",
    "plateau_change", "plateau_excess",
    "constant_entropy", "leak_ratio", "initial_contribution", "initial_attention", "initial_logits",
}
BY_PLACE = {
    "mean_cosine": "collapsed_cosine", "token_similarity": "token_similarity", "headroom": "headroom",
    "dead_units": "dead_units", "saturated_units": "saturated_units", "gradient_norm_block": "gradient_loss",
    "order_sensitivity": "order_sensitivity", "future_sensitivity": "future_sensitivity",
    "scale_response": "scale_response", "muted_carry": "muted_carry", "contribution": "contribution",
    "twin": "twin",
    "head_output": "head_output", "update_ratio": "untrained_ratio",
}
LEAK = {"loss": [NAN, 2.0, 0.5, 0.4, 0.4, 0.4, 0.4], "probe_loss": [4.7, 4.2, 4.3, 4.5, 4.6, 4.7, 4.8]}
RESTING = {"loss": [NAN, 4.1, 3.9, 3.89, 3.88, 3.89, 3.88], "probe_loss": [4.72] + [3.9] * 6}
RISING = {"loss": [NAN, 3.3, 3.0, 3.45, 3.5, 3.5, 3.5]}
BY_HEART = {"loss": [NAN, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2]}


def deciding():
    """By threshold, a rule and a history in which that threshold decides whether the rule fires."""
    table = {BY_PLACE[q]: (rule, broken(rule, q, at, bad)) for rule, q, at, bad, *_ in PLACES if q in BY_PLACE}
    by_rule = {rule: broken(rule, q, at, bad) for rule, q, at, bad, *_ in PLACES}
    for name in ("signal_growth", "signal_loss", "uniform_attention", "learned_share"):
        rule = {"signal_growth": "exploding_signal", "signal_loss": "vanishing_signal"}.get(name, "uniform_attention")
        table[name] = rule, by_rule[rule]
    for name in ("carry", "carry_contribution"):
        table[name] = "no_residual", changed(unmuted(healthy()), "carry", -0.1, at=2)
    for name in ("collapsed_attention", "attention_logits"):
        table[name] = "attention_entropy_collapse", by_rule["attention_entropy_collapse"]
    risen = changed(healthy(), "state_norm", np.array(HEALTHY["state_norm"]) * 11_000, since=300)
    first = changed(healthy(), "state_norm", np.array([0.0001, 1.1, 1.2, 1.3, 1.4]), since=300)
    fast = changed(series(healthy(), **RISING), "update_ratio", 0.03, since=100)
    low = changed(series(healthy(), **SLOW), "update_ratio", 2e-4, since=100)
    named = changed(healthy(), "unmoved", 2 / 12, at=1, since=200, unmoved=NORM)
    resting, mixed = series(healthy(), **RESTING), series(healthy(), loss=[NAN, 3.9, 3.5, 3.2, 4.3, 4.2, 4.1])
    start = {name: changed(healthy(), *edit, steps=(0,)) for name, edit in {
        "initial_excess": ("probe_loss", 5.5), "initial_growth": ("state_norm", np.array([1, 1, 9, 9, 9]) / 30),
        "initial_contribution": ("contribution", 0.005), "initial_logits": ("attention_logits", 0.004),
    }.items()}
    streams = changed(unmuted(healthy(), 1.0), "large_carry", 0.4, at=2, since=300)
    return table | {
        "large_carry": ("no_residual", streams), "persistence": ("dead_units", by_rule["dead_units"]),
        "signal_rise": ("exploding_signal", risen), "signal_growth_first": ("exploding_signal", first),
        "gradient_norm": ("exploding_gradient", changed(healthy(), "gradient_norm", 1000.0, since=200)),
        "gradient_growth": ("exploding_gradient", changed(healthy(), "gradient_norm", 50.0, since=400)),
        "update_ratio_high": ("learning_rate_too_high", changed(healthy(), "update_ratio", 0.4, since=100)),
        "update_ratio_raised": ("learning_rate_too_high", fast), "loss_rise": ("learning_rate_too_high", fast),
        "update_ratio_low": ("learning_rate_too_low", low), "slow_progress": ("learning_rate_too_low", low),
        "progress": ("learning_rate_too_low", low),
        "answer_shown": ("label_leak", changed(healthy(), "answer_shown", 1.0, since=100)),
        "gradient_carryover": ("gradients_kept", changed(healthy(), "gradient_carryover", 1.0, since=100)),
        "unmoved": ("untrained_layer", named),
        "plateau_level": ("shuffled_targets", resting), "plateau_records": ("shuffled_targets", resting),
        "plateau_change": ("shuffled_targets", resting), "plateau_excess": ("shuffled_targets", resting),
        "plateau_movement": ("shuffled_targets", resting),
        "target_mismatch": ("shuffled_targets", mixed),
        "batch_repetition": ("constant_data", changed(healthy(), "batch_repetition", 0.99, since=100)),
        "constant_entropy": ("constant_data", changed(healthy(), "target_entropy", 0.01, since=100)),
        "leak_ratio": ("label_leak", series(healthy(), **LEAK)),
    } | {name: ("initialization_scale", history) for name, history in start.items()} | {
        name: ("initialization_scale", sharp_at_the_start((2, ALL), 0.7))
        for name in ("initial_attention", "initial_sharp_logits")
    } | {"gradient_least": ("exploding_gradient", changed(healthy(), "gradient_norm", 50.0, since=400))}


DECIDING = deciding()
OTHERWISE = {"large_carry_elsewhere", "frozen_on_purpose", "target_information", "leak_unlearned", "initial_learned"}
"""Those that have a test of their own: they tell faults from warnings, or what was learned already."""


def test_every_threshold_has_a_test():
    assert set(DECIDING) | OTHERWISE == {f.name for f in dataclasses.fields(Thresholds)}


@pytest.mark.parametrize("name", DECIDING)
def test_a_stricter_threshold_never_adds_findings_and_the_strictest_takes_its_own_away(name):
    rule, history = DECIDING[name]
    default = getattr(Thresholds(), name)
    values = [default * 2, default, default * 0.5, default * 0.1, 0.0] if name in STRICT_IS_LOW else \
        [default * 0.5, default, default * 1.01, default * 4 + 1, 1e300]
    if name in ("persistence", "plateau_records"):
        values = [1.0, default, default + 1, 50.0]
    fired = [bool(found(history, rule, thresholds=Thresholds(**{name: v}), rules=[rule])) for v in values]
    assert fired[1]
    assert not fired[-1]
    assert fired == sorted(fired, reverse=True)


@pytest.mark.parametrize(("name", "rule", "edit"), [
    ("target_information", "shuffled_targets", RESTING), ("leak_unlearned", "label_leak", BY_HEART),
])
def test_what_the_probe_batch_shows_to_be_learned_speaks_against_it(name, rule, edit):
    probe = np.array([4.7, 3.6, 3.6, 3.6, 3.6, 3.6, 3.6])  # 0.93 of the entropy of the targets
    history = series(healthy(), loss=edit["loss"], probe_loss=probe)
    strict, loose = {"target_information": (0.01, 0.2), "leak_unlearned": (0.95, 0.9)}[name]
    assert not found(history, rule, thresholds=Thresholds(**{name: strict}))
    assert found(history, rule, thresholds=Thresholds(**{name: loose}))


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_every_rule_says_what_it_needs_and_why(rule):
    assert rule.name in RULES
    assert set(rule.needs) | set(rule.uses) <= set(QUANTITIES)
    for text in (rule.reason, rule.explanation, rule.advice):
        assert text.endswith(".")
        assert len(text) > 40
    assert any(c.isdigit() for c in rule.source)


# Two runs


def test_two_runs_side_by_side():
    first, second = healthy(), changed(healthy(), "dead_units", 1.0, at=1, since=300)
    comparison = compare_runs(first, second)
    assert [f.rule for f in comparison.only_second] == ["dead_units"]
    assert comparison.only_first == comparison.both == ()
    assert comparison.exit_code == 1
    (largest, *_) = comparison.most_different()
    assert largest[:5] == ("dead_units", 2, None, pytest.approx(0.1), 1.0)
    assert largest[5:] == (pytest.approx(0.9), pytest.approx(10.0))
    columns, rows = comparison.rows()
    assert columns == ("quantity", "layer", "head", "first", "second", "difference", "ratio")
    assert ("head_output", 4, 3, 1.2, 1.2, 0.0, 1.0) in rows
    assert len(compare_runs(second, second).both) == 1
    assert compare_runs(first, second, step=200).steps == (200, 200)
    json.loads(comparison.to_json())


def test_two_runs_that_differ_in_what_was_measured_say_so():
    second = changed(healthy(probe="11", dtype="bfloat16"), "capacity", NAN)
    notes = " ".join(compare_runs(healthy(), second).notes)
    assert "probe batches differ" in notes
    assert "float32 and bfloat16" in notes
    assert "capacity" in notes


def test_runs_of_other_depth_or_without_records_are_refused():
    other = TrainingHistory(facts=dataclasses.replace(FACTS, depth=2, heads=(3, 3)), records=())
    with pytest.raises(ShapeError, match="2 blocks"):
        compare_runs(healthy(), other)
    with pytest.raises(ArgumentError, match="second"):
        compare_runs(healthy(), dataclasses.replace(healthy(), records=()))
