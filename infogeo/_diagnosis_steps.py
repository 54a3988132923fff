"""Rules about the steps of training: their length, what does not move, and how the model starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule
from infogeo._diagnosis_view import (
    BoolArray,
    Check,
    NotCheckedError,
    Streak,
    View,
    collapsed,
    growth_by_block,
    mean_over_heads,
    median_over,
    number,
    ratio,
)

FIRST = 5
"""The steps of Adam before this one go as far as the learning rate lets them, whatever the gradient, so that long ones
say nothing by themselves (Kingma and Ba 2015, section 2.1)."""


def lowest_before(values: FloatArray) -> FloatArray:
    """(R) lowest finite value of the records before each, NaN where there is none."""
    known = np.where(np.isfinite(values), values, np.inf)
    before = np.concatenate([[np.inf], np.minimum.accumulate(known)[:-1]]) if len(values) else known
    return np.asarray(np.where(np.isfinite(before), before, np.nan))


def rests_at_target_entropy(view: View) -> BoolArray:
    """(R) where the loss is that of somebody who knows the frequencies of the targets, and does not move from it."""
    losses, entropy, limits = view.series("loss"), view.series("target_entropy"), view.thresholds
    change = np.abs(np.diff(losses, prepend=np.nan)) / np.where(entropy > 0, entropy, np.nan)
    level = ratio(losses, entropy)
    near = (level > limits.plateau_level) & (level < 1 + limits.plateau_excess)
    return np.asarray(near & ~(change > limits.plateau_change))


class _Sign(NamedTuple):
    """One way in which a learning rate shows to be too high."""

    streak: Streak | None
    quantity: str
    values: FloatArray
    limit: float
    said: str


def _learning_rate_too_high(view: View, rule: Rule) -> Iterator[Finding]:
    moved, rate = view.update_ratio(), view.series("learning_rate")
    found = [(sign.streak, sign) for sign in _signs(view, moved) if sign.streak is not None]
    if not found:
        return
    shown, sign = min(found, key=lambda entry: (not entry[0].present, entry[0].first))
    streak = Streak(min(each.first for each, _ in found), shown.last, shown.present)
    longest = int(np.nanargmax(moved[: shown.last + 1]))
    more = f", with the learning rate {number(rate[longest])}" if np.isfinite(rate[longest]) else ""
    said = sign.said.format(value=number(sign.values[shown.last]))
    yield view.finding(
        rule, streak, block=None, quantity=sign.quantity, value=sign.values[shown.last], threshold=sign.limit,
        evidence=f"a step changed the weights of a block by {number(moved[longest])} of their norm (median over "
                 f"blocks; 0.001 is usual) at step {view.steps[longest]}{more}{said}",
    )


def _signs(view: View, moved: FloatArray) -> list[_Sign]:
    limits, losses, entropy = view.thresholds, view.loss(), view.series("target_entropy")
    known, fast = np.isfinite(moved), moved > limits.update_ratio_raised
    lowest = lowest_before(losses)
    rise = ratio(losses - lowest, np.where(np.isfinite(entropy), entropy, lowest))
    resting = view.streak(fast & rests_at_target_entropy(view), known, int(np.ceil(limits.plateau_records)))
    sharp = view.streak(_followed(fast, _collapsed_since(view)), known)
    return [
        _Sign(view.streak(moved > limits.update_ratio_high, known & (np.array(view.steps) >= FIRST)), "update_ratio",
              moved, limits.update_ratio_high, ""),
        _Sign(view.streak(fast & (rise > limits.loss_rise), known), "loss", rise, limits.loss_rise,
              "; the loss rose by {value} of the entropy of the targets over its lowest level before"),
        _Sign(resting, "loss", ratio(losses, entropy), limits.plateau_level,
              "; the loss stays at {value} of the entropy of the targets"),
        _Sign(sharp, "update_ratio", np.fmax.accumulate(moved), limits.update_ratio_raised,
              "; since then attention has collapsed"),
    ]


def _collapsed_since(view: View) -> BoolArray:
    """(R) where attention of a block has collapsed, as it had not in the first record."""
    now = collapsed(view)
    return np.asarray((now & ~now[:1]).any(axis=1))


def _followed(cause: BoolArray, effect: BoolArray, records: int = 3) -> BoolArray:
    """(R) where an effect is there that came with its cause or a few records after it, for as long as it stays."""
    found = np.zeros(len(cause), np.bool_)
    for k in np.flatnonzero(effect).tolist():
        stays = k > 0 and effect[k - 1]
        found[k] = found[k - 1] | cause[k] if stays else cause[max(0, k - records): k + 1].any()
    return found


def _learning_rate_too_low(view: View, rule: Rule) -> Iterator[Finding]:
    zero = list(_rate_of_zero(view, rule))
    if zero:
        yield from zero
        return
    limits, moved, losses = view.thresholds, view.update_ratio(), view.loss()
    if not np.isfinite(losses).any():
        raise NotCheckedError("there is no loss to see progress by")
    entropy = view.series("target_entropy")
    level = ratio(losses, np.where(np.isfinite(entropy), entropy, losses[np.isfinite(losses)][0]))
    bad = (moved < limits.update_ratio_low) & (level > limits.slow_progress) & _full_rate(view)
    bad &= ~(_fallen(view) > limits.progress) & ~(losses > (1 + limits.loss_rise) * lowest_before(losses))
    streak = view.streak(bad & ~view.adapted(), np.isfinite(moved) & np.isfinite(level))
    if streak is None or not view.lasting(streak):
        return
    at, rate = streak.last, view.series("learning_rate")[streak.last]
    more = f"; the learning rate is {number(rate)}" if np.isfinite(rate) else ""
    of = "the entropy of the targets" if np.isfinite(entropy[at]) else "what it was first"
    yield view.finding(
        rule, streak, block=None, quantity="update_ratio", value=moved[at], threshold=limits.update_ratio_low,
        evidence=f"one step changes the weights of a block by {number(moved[at])} of their norm (0.001 is usual), "
                 f"and after {view.steps[at]} steps the loss of {number(losses[at])} nats is {number(level[at])} of "
                 f"{of}{more}",
    )


def _rate_of_zero(view: View, rule: Rule) -> Iterator[Finding]:
    """A learning rate that is zero from the start, or for long in the middle of a run."""
    rate, moved = view.series("learning_rate"), view.series("update_ratio")
    known = np.isfinite(rate) & np.isfinite(moved).any(axis=1)
    streak = view.streak((rate == 0) & ~(moved > 0).any(axis=1), known)
    if streak is None or not view.lasting(streak):
        return
    ever = bool((rate[: streak.first] > 0).any())
    yield view.finding(
        rule, streak, block=None, quantity="learning_rate", value=0.0, threshold=0.0,
        severity="warning" if ever else "fault",
        evidence=f"the learning rate is 0 from step {view.steps[streak.first]} to {view.steps[streak.last]}, and no "
                 "weight of any block moves",
        explanation="Nothing is learned at a learning rate of zero.",
        advice="Look at the schedule: its number of steps, what it is multiplied by, and whether it is stepped once "
               "for each step of the optimizer." + " If the run is meant to end here, stop it." * ever,
    )


def _fallen(view: View) -> FloatArray:
    """(R) share of its first value by which the loss of the probe batch has fallen, of the live loss without it."""
    losses = view.series("probe_loss") if np.isfinite(view.series("probe_loss")).any() else view.loss()
    first = losses[np.isfinite(losses)][0]
    return 1 - ratio(losses, np.full(len(losses), first))


def _full_rate(view: View) -> BoolArray:
    """(R) where the learning rate is neither in its warm-up nor far down its decay."""
    rate = view.series("learning_rate")
    known = np.where(np.isfinite(rate), rate, 0.0)
    before = np.concatenate([[np.inf], known[:-1]]) if len(rate) else known
    rising = (known > before * 1.001) & (before > 0)
    most = np.maximum.accumulate(known) if len(rate) else known
    return np.asarray(~np.isfinite(rate) | (~rising & (known >= most / 2) & (known > 0)))


def _gradients_kept(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("gradient_carryover"), view.thresholds.gradient_carryover
    streak = view.streak(values > limit, np.isfinite(values))
    if streak is not None:
        at = values[streak.last]
        yield view.finding(
            rule, streak, block=None, quantity="gradient_carryover", value=at, threshold=limit,
            evidence=f"of the steps before step {view.steps[streak.last]}, {at:.0%} began with the gradients of the "
                     "step before them",
        )


def _initialization_scale(view: View, rule: Rule) -> Iterator[Finding]:
    if not len(view) or view.steps[0] > 0:
        raise NotCheckedError("there is no record of step 0, before the first step of the optimizer")
    if view.facts.objective not in ("next token", "masked token"):
        raise NotCheckedError("what loss an untrained model has is known for predicted tokens only")
    limits, start = view.thresholds, Streak(0, 0, present=True)
    loss, uniform = float(view.series("probe_loss")[0]), float(np.log(view.facts.vocabulary))
    if not np.isfinite(loss):
        raise NotCheckedError("probe_loss was not measured at step 0")
    single = view.single  # a checkpoint may say step 0 and be trained

    def found(
        block: int | None, quantity: str, value: float, limit: float, evidence: str, *, doubt: bool = False
    ) -> Finding:
        return view.finding(rule, start, block=block, quantity=quantity, value=value, threshold=limit,
                            evidence=f"at step 0, {evidence}", severity="warning" if single or doubt else "fault")

    if loss - uniform > limits.initial_excess:
        yield found(None, "probe_loss", loss - uniform, limits.initial_excess,
                    f"the loss is {number(loss)} nats, {number(loss - uniform)} above the {number(uniform)} of "
                    f"guessing among {view.facts.vocabulary} tokens")
    if loss < (1 - limits.initial_learned) * uniform:
        return  # it is trained already
    growth = growth_by_block(view.series("state_norm"))[0]
    growth[0] = np.nan  # embeddings are drawn small as a rule, and the first block then outweighs them
    for place in np.flatnonzero(growth > limits.initial_growth).tolist():
        yield found(place + 1, "state_norm", growth[place], limits.initial_growth,
                    f"block {place + 1} makes the norm of states {number(growth[place])} times as large")
    added = float(median_over(view.series("contribution"))[0])
    if added < limits.initial_contribution:
        yield found(None, "contribution", added, limits.initial_contribution,
                    f"blocks add {number(added)} of the norm of their input (median)")
    logits = float(median_over(mean_over_heads(view.series("attention_logits")))[0])
    if logits < limits.initial_logits:
        yield found(None, "attention_logits", logits, limits.initial_logits,
                    f"the largest logits of attention are {number(logits)} (median over blocks), so that attention "
                    "hardly depends on tokens")
    sharp, sizes = (mean_over_heads(view.series(n))[0] for n in ("attention_entropy", "attention_logits"))
    large = ~(sizes <= limits.initial_sharp_logits)  # normalized queries and keys begin with logits of deviation one
    places = np.flatnonzero((sharp < limits.initial_attention) & large).tolist()
    body = 2 * len(places) > np.isfinite(sharp).sum()  # blocks that were trained before, under a new head
    said = "; so most blocks may have been trained before" if body else ""
    for place in places:
        yield found(place + 1, "attention_entropy", sharp[place], limits.initial_attention,
                    f"the attention of block {place + 1} has {number(sharp[place])} of the highest entropy, though it "
                    f"has not learned where to look{said}", doubt=body)


CS231N = "Karpathy et al., CS231n: convolutional neural networks for visual recognition, course notes, part 3"
XIONG = "Xiong et al., On layer normalization in the Transformer architecture, ICML 2020, arXiv:2002.04745"

STEPS: tuple[tuple[Rule, Check], ...] = (
    (Rule(
        name="learning_rate_too_high", title="Learning rate too high", needs=("update_ratio",),
        uses=(
            "loss", "probe_loss", "target_entropy", "learning_rate", "attention_entropy", "attention_logits",
        ),
        reason="A step should change weights by about a thousandth. Steps twenty times as long explain a loss that "
               "rises or rests, or attention that collapses; steps fifty times as long are enough from "
               "the fifth on; the first ones of Adam are long in healthy runs.",
        source=f"{CS231N} (ratio of updates to weights); {XIONG}, on warm-up; Zhai et al., Stabilizing Transformer "
               "training by preventing attention entropy collapse, ICML 2023, arXiv:2303.06296",
        explanation="Steps this long overshoot as a rule: each undoes what the one before had learned, or weights grow "
                    "until attention and states are beyond use.",
        advice="Divide the learning rate by 10, and begin with a warm-up of some hundreds of steps.",
    ), _learning_rate_too_high),
    (Rule(
        name="learning_rate_too_low", title="Learning rate too low", needs=("update_ratio",), history=True,
        uses=("loss", "probe_loss", "target_entropy", "learning_rate"),
        reason="Steps much shorter than a thousandth of the weights are fine at the end of a run, or where the loss "
               "falls or has leapt up. Warm-up and decay of the learning rate do not count, nor the steps between two "
               "regular records at the start, nor weights of which most are frozen, beside which steps of adapters "
               "look short.",
        source=f"{CS231N} (ratio of updates to weights)",
        explanation="Weights hardly move and the loss hardly falls: the run will take far longer than it needs.",
        advice="Multiply the learning rate by 10, and look at what scales gradients down: clipping at a small norm, a "
               "loss divided twice by the accumulation steps, a schedule that has ended.",
    ), _learning_rate_too_low),
    (Rule(
        name="gradients_kept", title="Gradients of earlier steps are kept", needs=("gradient_carryover",),
        history=True,
        reason="Backward passes add to the gradients that are there, which is wanted within a step only. The first "
               "backward pass after a step of the optimizer finds zeros or nothing where they were cleared. A loss of "
               "another model that reaches into this one between its steps looks the same.",
        source="Karpathy, most common neural net mistakes, 2018 (forgot to zero the gradients); torch.Tensor.backward "
               "accumulates, by its documentation",
        explanation="Each step follows the sum of all gradients so far, not that of its own batch.",
        advice="Call optimizer.zero_grad() between steps, on the optimizer that holds all parameters.",
    ), _gradients_kept),
    (Rule(
        name="initialization_scale", title="Scale of the weights at the start", needs=("probe_loss",),
        uses=("state_norm", "contribution", "attention_entropy", "attention_logits"),
        reason="An untrained model knows nothing: its loss is the log of the vocabulary and its attention uniform. Its "
               "blocks neither multiply their input nor add nothing to it.",
        source="He et al., Delving deep into rectifiers, ICCV 2015, arXiv:1502.01852; Karpathy, A recipe for training "
               "neural networks, 2019 (verify the loss at the start)",
        explanation="Weights were drawn too large or too small. The first steps go into undoing that, if they can.",
        advice="Draw weights with a deviation of 0.02, or of the root of one over the number of inputs; embeddings "
               "that are also the output layer not with deviation 1.",
    ), _initialization_scale),
)
"""Rules of this module with their checks."""
