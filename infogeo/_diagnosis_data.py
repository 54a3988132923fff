"""Rules about what a model is shown, and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule, Severity
from infogeo._diagnosis_steps import CS231N, lowest_before, rests_at_target_entropy
from infogeo._diagnosis_view import (
    BoolArray,
    Check,
    NotCheckedError,
    Streak,
    View,
    median_over,
    number,
    ratio,
    some_of,
)

WITHOUT_GRADIENT = ("key.bias", "k_proj.bias", "k_lin.bias")
"""Attention does not depend on the bias of keys, which adds the same to all logits of a query."""


def _untrained_layer(view: View, rule: Rule) -> Iterator[Finding]:
    limits, moved = view.thresholds, view.series("update_ratio")
    largest = np.max(np.where(np.isfinite(moved), moved, 0.0), axis=1)
    measured = np.isfinite(moved).any(axis=1)
    rate = view.series("learning_rate")
    still = view.streak((largest == 0) & (rate > 0), measured)
    if still is not None:
        yield view.finding(
            rule, still, block=None, quantity="update_ratio", value=0.0, threshold=0.0,
            evidence=f"no weight of any block moves, though the learning rate is {number(rate[still.last])}",
            advice="Check that the optimizer was given the parameters of this very model (not of a copy), that they "
                   "require gradients, and that steps are longer than the rounding of their number format.",
        )
        if still.present:
            return
    shares = ratio(moved, _median_of_others(moved))
    slow = dict(view.places(shares < limits.untrained_ratio, np.isfinite(shares)))
    named = _unmoved_names(view, largest > 0)
    left, adapted, below = view.series("unmoved"), view.adapted(), view.frozen_below()
    for block in sorted({place + 1 for place in slow} | {b for b in named if b is not None and b > 0}):
        whole, tensors = slow.get(block - 1), named.get(block)
        streak = min((s for s in (whole, tensors and tensors[0]) if s), key=lambda s: s.first)
        meant = adapted[streak.last] or below[streak.last, block - 1]
        purpose: Severity = "warning" if meant else "fault"
        names = f"steps leave {some_of(tensors[1])} as they are" if tensors else ""
        if below[streak.last, block - 1]:
            names = f"{names}, from the first step on, and all that comes before".removeprefix(", ")
        if whole:
            value = shares[whole.last, block - 1]
            more = f"; {names}" if names else ""
            yield view.finding(
                rule, streak, block=block, quantity="update_ratio", value=value, threshold=limits.untrained_ratio,
                severity=purpose,
                evidence=f"steps change block {block} by {number(moved[whole.last, block - 1])} of its weights, "
                         f"{number(value)} of what is usual in the other blocks{more}",
            )
        else:
            yield view.finding(rule, streak, block=block, quantity="unmoved", value=left[streak.last, block - 1],
                               threshold=limits.unmoved, severity=purpose, evidence=f"in block {block}, {names}")
    for outside in (0, None):
        if outside in named:
            streak, tensors_outside = named[outside]
            yield view.finding(rule, streak, block=outside, quantity="unmoved", value=float(len(tensors_outside)),
                               threshold=limits.unmoved, severity="warning",
                               evidence=f"steps leave {some_of(tensors_outside)} as they are")


def _median_of_others(moved: FloatArray) -> FloatArray:
    """(R, L) median of the other blocks that move, NaN where there is none."""
    moving = np.where(moved > 0, moved, np.nan)
    return np.stack([median_over(np.delete(moving, k, axis=1)) for k in range(moved.shape[1])], axis=1)


def _unmoved_names(view: View, moving: BoolArray) -> dict[int | None, tuple[Streak, tuple[str, ...]]]:
    """Tensors by block that were left as they are for long enough while others moved."""
    left, limit = view.series("unmoved"), view.thresholds.unmoved
    everywhere: dict[str, BoolArray] = {}
    for k, record in enumerate(view.history.records):
        for name in record.unmoved:
            if not name.endswith(WITHOUT_GRADIENT):
                everywhere.setdefault(name, np.zeros(len(view), np.bool_))[k] = True
    found: dict[int | None, list[tuple[Streak, str]]] = {}
    for name, bad in everywhere.items():
        block = view.block_of(name)
        over = ~(left[:, block - 1] <= limit) if block else np.ones(len(view), np.bool_)
        streak = view.streak(bad & over, moving)
        if streak is not None:
            found.setdefault(block, []).append((streak, name))
    return {
        block: (min((s for s, _ in entries), key=lambda s: (not s.present, s.first)),
                tuple(name for _, name in entries))
        for block, entries in found.items()
    }


def _shuffled_targets(view: View, rule: Rule) -> Iterator[Finding]:
    limits, losses, entropy = view.thresholds, view.series("loss"), view.series("target_entropy")
    probe = ratio(view.series("probe_loss"), entropy)
    level = ratio(losses, entropy)
    known = np.isfinite(level)
    steps = np.diff(np.array([0, *view.steps], np.float64))
    moved = view.update_ratio()
    path = np.cumsum(np.where(np.isfinite(moved), moved, 0.0) * steps)
    went = (path > limits.plateau_movement) | ~np.isfinite(moved).any()
    nothing = ~(probe < 1 - limits.target_information)
    rest = view.streak(rests_at_target_entropy(view) & went & nothing, known,
                       1 if view.single else int(np.ceil(limits.plateau_records)))
    rest = _while_there(rest, level > limits.plateau_level, known)
    apart = view.streak((level > limits.plateau_level) & (level - probe > limits.target_mismatch), known)
    if apart is not None and not view.lasting(apart):
        apart = None  # a trained model that meets other texts is back soon
    if apart is not None and (rest is None or apart.first <= rest.first):
        at = apart.last
        yield view.finding(
            rule, apart, block=None, quantity="loss", value=level[at] - probe[at], threshold=limits.target_mismatch,
            evidence=f"the live loss is {number(losses[at])} nats, {number(level[at])} of the entropy of its targets, "
                     f"while the probe batch has {number(view.series('probe_loss')[at])}: the model can predict, but "
                     "not these targets",
            explanation="The model predicts the probe batch, and not what it is trained on: live targets do not belong "
                        "to their inputs, or live batches are of another kind than the probe batch.",
        )
    elif rest is not None:
        at = rest.last
        noise = float(np.nanmedian(view.series("gradient_snr")[at])) \
            if np.isfinite(view.series("gradient_snr")[at]).any() else np.nan
        more = f"; the signal-to-noise ratio of gradients is {number(noise)}" if np.isfinite(noise) else ""
        yield view.finding(
            rule, rest, block=None, quantity="loss", value=level[at], threshold=limits.plateau_level,
            evidence=f"since step {view.steps[rest.first]} the loss rests at {number(losses[at])} nats, "
                     f"{number(level[at])} of the entropy of the targets, though weights move{more}",
        )


def _while_there(streak: Streak | None, there: BoolArray, known: BoolArray) -> Streak | None:
    """The same streak, drawn out for as long as a weaker condition holds."""
    if streak is None:
        return None
    later = [k for k in np.flatnonzero(known).tolist() if k > streak.last]
    left = next((k for k in later if not there[k]), None)
    inside = [k for k in later if left is None or k < left]
    return Streak(streak.first, (inside or [streak.last])[-1], left is None)


def _constant_data(view: View, rule: Rule) -> Iterator[Finding]:
    limits = view.thresholds
    repeated, entropy = view.series("batch_repetition"), view.series("target_entropy")
    if not (np.isfinite(repeated).any() or np.isfinite(entropy).any()):
        raise NotCheckedError("neither batches nor their targets were seen; both are measured while training")
    share = entropy / np.log(view.facts.vocabulary)
    same = view.streak(repeated > limits.batch_repetition, np.isfinite(repeated))
    dull = view.streak(share < limits.constant_entropy, np.isfinite(share))
    if same is not None:
        at = same.last
        yield view.finding(
            rule, same, block=None, quantity="batch_repetition", value=repeated[at], threshold=limits.batch_repetition,
            evidence=f"{repeated[at]:.0%} of the batches before step {view.steps[at]} are among the eight before them",
        )
    elif dull is not None:
        at = dull.last
        yield view.finding(
            rule, dull, block=None, quantity="target_entropy", value=share[at], threshold=limits.constant_entropy,
            evidence=f"the entropy of the targets is {number(entropy[at])} nats, {number(share[at])} of the log of the "
                     "vocabulary",
            explanation="Nearly all targets are the same: there is next to nothing to learn from them.",
            advice="Print some targets: they may be padding, or one label only.",
        )


def _label_leak(view: View, rule: Rule) -> Iterator[Finding]:
    limits, shown = view.thresholds, view.series("answer_shown")
    told = view.streak(shown > limits.answer_shown, np.isfinite(shown))
    if told is not None:
        yield view.finding(
            rule, told, block=None, quantity="answer_shown", value=shown[told.last], threshold=limits.answer_shown,
            evidence=f"{shown[told.last]:.0%} of the targets of live batches stand in the input in their own place",
            explanation="What the model is to predict is given to it: nothing is masked, tokens that are not masked "
                        "count, or the input of the decoder is not shifted.",
            advice="Print a batch, decoded, with its targets: mask the inputs, not a copy of them and not the targets "
                   "with them, and set targets to -100 where nothing is masked; or shift the input of the decoder by "
                   "one.",
        )
        return
    lacking = next((n for n in ("loss", "probe_loss") if not np.isfinite(view.series(n)).any()), None)
    if lacking is None:
        yield from _too_easy(view, rule)
    elif not np.isfinite(shown).any():
        raise NotCheckedError(f"{lacking}: {view.facts.missing.get(lacking, 'not measured')}")


def _too_easy(view: View, rule: Rule) -> Iterator[Finding]:
    """Live batches that are predicted far better than the probe batch, before anything is learned from it."""
    limits, losses, probe = view.thresholds, view.series("loss"), view.series("probe_loss")
    entropy = view.series("target_entropy")
    first = probe[np.isfinite(probe)][0]
    level = np.where(np.isfinite(entropy), entropy, first)
    lowest = np.fmin(probe, lowest_before(probe))
    ratios = ratio(losses, probe)
    repeated = view.series("batch_repetition") > limits.batch_repetition
    unlearned = ratio(lowest, level) > limits.leak_unlearned
    better = (ratios < limits.leak_ratio) & (losses < level)
    bad = better & (unlearned | _fell(losses, probe, limits.leak_ratio)) & ~repeated
    streak = view.streak(bad, np.isfinite(ratios))
    if streak is not None:
        at = streak.last
        yield view.finding(
            rule, streak, block=None, quantity="loss", value=ratios[at], threshold=limits.leak_ratio,
            evidence=f"the live loss is {number(losses[at])} nats and that of the probe batch {number(probe[at])}, "
                     + ("though by the probe batch next to nothing was learned" if unlearned[streak.first] else
                        "and it fell at once, while that of the probe batch did not"),
        )


def _fell(losses: FloatArray, probe: FloatArray, share: float) -> BoolArray:
    """(R) where the live loss fell to a share of what it was up to three records ago, and the probe's did not fall."""
    fell = np.zeros(len(losses), np.bool_)
    for back in (1, 2, 3):
        fell[back:] |= (losses[back:] < share * losses[:-back]) & (probe[back:] >= probe[:-back])
    return fell


DATA: tuple[tuple[Rule, Check], ...] = (
    (Rule(
        name="untrained_layer", title="Weights that do not move", needs=("update_ratio",),
        uses=("unmoved", "learning_rate"),
        reason="Blocks of one model move at rates within a factor of ten. An optimizer moves every tensor it holds "
               "and that gets a gradient; biases of keys get none and do not count. Most tensors of every block at "
               "rest (adapters), or all blocks up to one and the embedding from the first step on, look as if meant, "
               "and are warnings.",
        source=f"{CS231N} (ratio of updates to weights)",
        explanation="These weights stay what they were: they are frozen, not in the optimizer, or get no gradient.",
        advice="Check requires_grad of these tensors and the parameter groups of the optimizer; then that nothing "
               "detaches the graph behind them, and that steps are longer than the rounding of a 16-bit format.",
    ), _untrained_layer),
    (Rule(
        name="shuffled_targets", title="Targets do not belong to the inputs", needs=("loss", "target_entropy"),
        uses=("probe_loss", "update_ratio", "gradient_snr"), history=True,
        reason="Without any connection of inputs with targets, the best loss is the entropy of the targets, and "
               "gradients are noise. Models that learn rest there for a while, so that it takes several records.",
        source="Zhang et al., Understanding deep learning requires rethinking generalization, ICLR 2017, "
               "arXiv:1611.03530; McCandlish et al., An empirical model of large-batch training, 2018, "
               "arXiv:1812.06162",
        explanation="The model has learned how frequent each target is, and nothing from its inputs: the two do not "
                    "belong together, or what the inputs say does not get through.",
        advice="Print a batch, decoded, with its targets beside it. Look for targets shifted twice or not at all, "
               "shuffled apart from their inputs, or inputs that are all padding. If they belong together, look at "
               "dropout and masking rates, at the learning rate and its warm-up; masked models rest here for long.",
    ), _shuffled_targets),
    (Rule(
        name="constant_data", title="The same data again and again", needs=(),
        uses=("batch_repetition", "target_entropy"),
        reason="Batches that are shuffled anew do not repeat, not even in later epochs.",
        source="Karpathy, A recipe for training neural networks, 2019 (become one with the data)",
        explanation="The model sees the same batches over and over; it learns them by heart.",
        advice="Check that the data loader advances and shuffles, and that an iterator is not made anew for each step. "
               "Epochs over the same order of batches also show here: shuffle them.",
    ), _constant_data),
    (Rule(
        name="label_leak", title="The answer is in the input", needs=(), history=True,
        uses=("loss", "probe_loss", "target_entropy", "batch_repetition", "answer_shown"),
        reason="Before anything is learned from the probe batch, live texts cannot be much easier than it. Texts that "
               "are learned by heart lower the loss of the probe batch first.",
        source="Kaufman et al., Leakage in data mining: formulation, detection, and avoidance, ACM TKDD 6(4), 2012",
        explanation="Live targets are told by their inputs in a way that those of the probe batch are not: the answer "
                    "stands in the input, or the two batches are not made alike.",
        advice="Print a batch, decoded, with its targets: they may be a copy of the inputs, not shifted, shifted twice "
               "or not masked, or mostly padding that counts. Then see that training and probe texts are prepared by "
               "the same code, and are of one kind: where live texts are much plainer than the probe batch, give "
               "probe= texts like them. Training texts so few that they are learned by heart look the same.",
    ), _label_leak),
)
"""Rules of this module with their checks."""
