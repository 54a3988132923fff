"""Rules about what flows through a model: states, units and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule
from infogeo._diagnosis_view import (
    Check,
    NotCheckedError,
    Streak,
    View,
    growth_by_block,
    growth_limits,
    layer_words,
    number,
    ratio,
    some_of,
)


def _rank_collapse(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("mean_cosine"), view.thresholds.collapsed_cosine
    rank = view.series("effective_rank")
    for first, last, streak in view.groups(values > limit, np.isfinite(values)):
        if not view.lasting(streak):
            continue
        at, left = values[streak.last, first], rank[streak.last, first]
        more = f"; what differs has an effective rank of {number(left)} of {view.facts.width}" * bool(np.isfinite(left))
        yield view.finding(
            rule, streak, block=first, quantity="mean_cosine", value=at, threshold=limit,
            evidence=f"tokens of different places and texts have a mean cosine of {at:.4f} at "
                     f"{layer_words(first, last)}{more}",
        )


def _over_smoothing(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("token_similarity"), view.thresholds.token_similarity
    known = np.isfinite(values)
    known[:, 0] = False  # nothing has mixed the tokens yet
    for first, last, streak in view.groups(values > limit, known):
        if not view.lasting(streak):
            continue
        at, before = values[streak.last, first], values[streak.last, 0]
        more = f", against {number(before)} at the embedding" if np.isfinite(before) else ""
        yield view.finding(
            rule, streak, block=first, quantity="token_similarity", value=at, threshold=limit,
            evidence=f"tokens of one text have a mean cosine of {number(at)} at {layer_words(first, last)}{more}",
        )


def _exploding_signal(view: View, rule: Rule) -> Iterator[Finding]:
    norms, most = view.series("state_norm"), view.thresholds.signal_rise
    limits = np.concatenate([[np.inf], growth_limits(view)])
    growth = np.full(norms.shape, np.nan)
    growth[:, 1:] = growth_by_block(norms)
    rise = ratio(norms, np.broadcast_to(norms[:1], norms.shape))
    for first, last, streak in view.groups((growth > limits) | (rise > most), np.isfinite(norms)):
        grown, risen, now = growth[streak.last, first], rise[streak.last, first], norms[streak.last, first]
        if grown > limits[first]:
            value, limit = grown, float(limits[first])
            said = (f"block {first} makes the norm of states {number(grown)} times as large "
                    f"({number(norms[streak.last, first - 1])} to {number(now)})")
        else:
            value, limit = risen, most
            said = (f"the norm of states at {layer_words(first, last)} rose to {number(risen)} times that of step "
                    f"{view.steps[0]} ({number(norms[0, first])} to {number(now)})")
        yield view.finding(
            rule, streak, block=first, quantity="state_norm", value=value, threshold=limit, evidence=said
        )
        return  # what comes after it is fed by it


def _vanishing_signal(view: View, rule: Rule) -> Iterator[Finding]:
    norms, limit = view.series("state_norm"), view.thresholds.signal_loss
    values = growth_by_block(norms)
    for place, streak in view.places(values < limit, np.isfinite(values)):
        at = values[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity="state_norm", value=at, threshold=limit,
            evidence=f"block {place + 1} leaves {number(at)} of the norm of states "
                     f"({number(norms[streak.last, place])} to {number(norms[streak.last, place + 1])})",
        )


def _dead_units(view: View, rule: Rule) -> Iterator[Finding]:
    yield from _units(view, rule, "dead_units", view.thresholds.dead_units, "feed-forward units are off on all tokens")


def _saturated_units(view: View, rule: Rule) -> Iterator[Finding]:
    said = "activations of feed-forward units stand at a bound of their function"
    yield from _units(view, rule, "saturated_units", view.thresholds.saturated_units, said)


def _units(view: View, rule: Rule, name: str, limit: float, said: str) -> Iterator[Finding]:
    values = view.series(name)
    for place, streak in view.places(values > limit, np.isfinite(values)):
        at = values[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity=name, value=at, threshold=limit,
            evidence=f"in block {place + 1}, {at:.1%} of the {said} of the probe batch",
        )


def _number_format(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("headroom"), view.thresholds.headroom
    for first, last, streak in view.groups(values < limit, np.isfinite(values), 1):
        at = values[streak.last, first]
        yield view.finding(
            rule, streak, block=first, quantity="headroom", value=at, threshold=limit,
            evidence=f"the largest number of {view.facts.dtype} is only {number(at)} times the largest component of "
                     f"the states at {layer_words(first, last)}",
        )
        return


def _not_finite(view: View, rule: Rule) -> Iterator[Finding]:
    losses = view.history.losses
    broken_losses = losses[~np.isfinite(losses[:, 1]), 0].astype(int).tolist()
    records = view.history.records
    shares = view.series("nonfinite")
    broken = [k for k, record in enumerate(records) if record.broken_at is not None or (shares[k] > 0).any()]
    damaged = next((k for k, record in enumerate(records) if record.broken_weights), None)
    if damaged is not None and (not broken or damaged <= broken[0]):
        yield _broken_weights(view, rule, damaged)
        return
    if not broken:
        if broken_losses:
            yield _broken_loss(view, rule, broken_losses)
        return
    first, last = broken[0], broken[-1]
    streak = Streak(first, last, present=True)
    record, share = records[first], shares[first]
    layers = np.flatnonzero(share > 0).tolist()
    name = record.broken_at
    block = view.block_of(name) if name is not None else layers[0]
    ran = record.broken_pass or "forward"
    what = "gradient" if ran == "backward" else "output"
    evidence = (
        f"the first {what} that is NaN or infinite is that of {name}, in the {ran} pass, at step {record.step}"
        if name is not None else f"{share[layers[0]]:.1%} of the states of {layer_words(layers[0], layers[0])} are NaN "
                                 f"or infinite at step {record.step}, and none before it"
    )
    if broken_losses:
        evidence += f"; the loss was first so at step {broken_losses[0]}"
    passing = ran == "backward" and last != len(records) - 1 and not broken_losses
    yield view.finding(
        rule, streak, block=block, quantity="nonfinite", value=float(np.nanmax([0.0, *share])), threshold=0.0,
        evidence=evidence, severity="warning" if passing else "fault",
    )


def _broken_weights(view: View, rule: Rule, k: int) -> Finding:
    record, share = view.history.records[k], view.series("nonfinite")[k]
    names, module = record.broken_weights, record.broken_at
    when = "" if view.single else f"at step {record.step}, "
    reached = f"the first output of the probe batch that is so is that of {module}" if module is not None \
        else "no output of the probe batch is so"
    return view.finding(
        rule, Streak(k, len(view) - 1, present=True), block=view.block_of(module or names[0]),
        quantity="nonfinite", value=float(np.nanmax([0.0, *share])), threshold=0.0,
        evidence=f"{when}weights in {some_of(names)} are NaN or infinite; {reached}",
        explanation="What is computed from these weights is NaN or infinite, and with it all that follows.",
        advice="Go back to the last checkpoint without such weights, and look in the history of the run for the step "
               "where a gradient or the loss was first NaN or infinite: the optimizer writes such a gradient into the "
               "weights, and more training does not mend them. If the run was sound, copy the file again.",
    )


def _broken_loss(view: View, rule: Rule, broken: list[int]) -> Finding:
    return Finding(
        rule=rule.name, title=rule.title, block=None, first_step=broken[0], last_step=broken[-1], severity="fault",
        value=float(len(broken)), threshold=0.0, quantity="loss",
        explanation="A step along the gradient of such a loss writes NaN into the weights.",
        evidence=f"the loss is NaN or infinite at {len(broken)} step{'' if len(broken) == 1 else 's'}, first at step "
                 f"{broken[0]}; no module was seen to give such numbers, so it may be the loss function or targets.",
        advice="Look at the targets of that batch (all of them ignored gives 0 / 0) and at logarithms and divisions in "
               "the loss. " + rule.advice,
    )


def _exploding_gradient(view: View, rule: Rule) -> Iterator[Finding]:
    values, limits = view.series("gradient_norm"), view.thresholds
    usual = np.fmin.accumulate([_median_before(values, k) for k in range(len(values))])  # large ones do not raise it
    growth = ratio(values, usual)
    grown = (growth > limits.gradient_growth) & (values > limits.gradient_least)
    bad = (values > limits.gradient_norm) | grown
    streak = view.streak(bad, np.isfinite(values))
    if streak is None:
        return
    at, times = values[streak.last], growth[streak.last]
    by_block = view.series("gradient_norm_block")[streak.last]
    block, where = None, ""
    if np.isfinite(by_block).any():
        largest = int(np.nanargmax(by_block))
        if by_block[largest] ** 2 > np.nansum(by_block**2) / 2:
            block, where = largest + 1, f", most of it in block {largest + 1}"
    absolute = bool(at > limits.gradient_norm)
    more = f", {number(times)} times what is usual in this run" if np.isfinite(times) else ""
    yield view.finding(
        rule, streak, block=block, quantity="gradient_norm", value=at if absolute else times,
        threshold=limits.gradient_norm if absolute else limits.gradient_growth,
        evidence=f"the norm of the gradient is {number(at)} at step {view.steps[streak.last]}{more}{where}",
    )


def _median_before(values: FloatArray, k: int) -> float:
    before = values[:k][np.isfinite(values[:k])]
    return float(np.median(before)) if len(before) >= 3 else float("nan")


def _vanishing_gradient(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("gradient_norm_block"), view.thresholds.gradient_loss
    if view.facts.depth < 2:
        raise NotCheckedError("the model has one block, and gradients are compared between blocks")
    largest = np.max(np.where(np.isfinite(values), values, 0.0), axis=1, keepdims=True)
    shares = values / np.where(largest > 0, largest, 1.0)  # where none gets a gradient, nothing over one
    frozen = view.frozen_below()
    for place, streak in view.places(shares < limit, np.isfinite(shares)):
        at = shares[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity="gradient_norm_block", value=at, threshold=limit,
            severity="warning" if frozen[streak.last, place] else "fault",
            evidence=f"the gradient of block {place + 1} has the norm {number(values[streak.last, place])}, "
                     f"{number(at)} of that of the block with the largest one",
        )


NOCI = (
    "Noci et al., Signal propagation in transformers: theoretical perspectives and the role of rank collapse, NeurIPS "
    "2022, arXiv:2206.03126"
)
GLOROT = "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010"
XIONG = "Xiong et al., On layer normalization in the Transformer architecture, ICML 2020, arXiv:2002.04745"

SIGNAL: tuple[tuple[Rule, Check], ...] = (
    (Rule(
        name="not_finite", title="NaN or infinity", needs=(), uses=("nonfinite", "loss"),
        reason="One such number in the forward pass reaches the loss; nothing is learned from there on. A single "
               "backward pass can overflow without harm where a loss scaler skips the step.",
        source="Micikevicius et al., Mixed precision training, ICLR 2018, arXiv:1710.03740, section 3.2",
        explanation="These numbers are NaN or infinite, and with them everything computed from them.",
        advice="Look at the input of this module at that step: a division by zero, a mask that hides all tokens of a "
               "row, an overflow of a 16-bit format, or weights that grew for many steps before.",
    ), _not_finite),
    (Rule(
        name="number_format", title="Close to overflow", needs=("headroom",),
        reason="Components of states spike by small factors from batch to batch; three doublings of room are not much.",
        source="Micikevicius et al., Mixed precision training, ICLR 2018, arXiv:1710.03740",
        explanation="States come close to the largest number of their format. Beyond it they turn infinite, then NaN.",
        advice="Train in bfloat16, which has the range of float32, or keep this block in float32; then find out why "
               "its states are so large.",
    ), _number_format),
    (Rule(
        name="rank_collapse", title="Rank collapse", needs=("mean_cosine",), uses=("effective_rank",),
        reason="Tokens that all point one way differ by a share of one minus the mean cosine; below half a percent, "
               "attention and gradients of queries and keys have next to nothing to work with.",
        source="Dong et al., Attention is not all you need: pure attention loses rank doubly exponentially with depth, "
               f"ICML 2021, arXiv:2103.03404; {NOCI}; on what is healthy: Ethayarajh, How contextual are "
               "contextualized word representations?, EMNLP 2019, arXiv:1909.00512",
        explanation="The states of all tokens point nearly one way: little is left by which later layers could tell "
                    "them apart.",
        advice="Check the residual connections up to this layer, then the scale of the weights at the start; scale "
               "residual branches by one over the root of the depth.",
    ), _rank_collapse),
    (Rule(
        name="over_smoothing", title="Over-smoothing", needs=("token_similarity",),
        reason="Tokens of one text become more alike with depth in all transformers; what counts is that next to "
               "nothing of each token is left.",
        source="Shi et al., Revisiting over-smoothing in BERT from the perspective of graph, ICLR 2022, "
               "arXiv:2202.08625",
        explanation="The tokens of a text have nearly one state: next to nothing is left of what each of them was.",
        advice="Look at the residual connections and the attention of the blocks up to this layer: attention that is "
               "uniform, or that outweighs what it is added to.",
    ), _over_smoothing),
    (Rule(
        name="exploding_signal", title="Exploding signal", needs=("state_norm",),
        reason="Sums of normalized parts grow like the root of the depth. A block that multiplies, or states that grow "
               "by orders of magnitude during a run, do not come from that.",
        source=f"{XIONG}; {NOCI}",
        explanation="States grow so much that what earlier blocks wrote, or later ones add, is small beside them.",
        advice="Check the normalization of this block and the scale of its output weights; during a run, lower the "
               "learning rate or add weight decay.",
    ), _exploding_signal),
    (Rule(
        name="vanishing_signal", title="Vanishing signal", needs=("state_norm",),
        reason="A block that adds to its input does not make it thirty times smaller.",
        source=f"{GLOROT}; He et al., Delving deep into rectifiers, ICCV 2015, arXiv:1502.01852",
        explanation="States shrink to next to nothing in this block. What shrinks them shrinks gradients on the way "
                    "back, unless a normalization makes up for it.",
        advice="Check the residual connection of this block and the scale of its weights at the start.",
    ), _vanishing_signal),
    (Rule(
        name="dead_units", title="Dead units", needs=("dead_units",),
        reason="Units that are off on some tokens are what makes feed-forward layers sparse; off on all tokens they "
               "get no gradient, and stay so.",
        source="Lu et al., Dying ReLU and initialization: theory and numerical examples, Communications in "
               "Computational Physics 28, 2020, arXiv:1903.06733",
        explanation="Most units of the feed-forward part are off on every token of the probe batch: there they compute "
                    "nothing and get next to no gradient.",
        advice="Look at the biases of the first feed-forward layer (strongly negative), then lower the learning rate "
               "or take an activation function without a flat side.",
    ), _dead_units),
    (Rule(
        name="saturated_units", title="Saturated units", needs=("saturated_units",),
        reason="At a bound of its function a unit passes no gradient.",
        source=f"{GLOROT}, section 3",
        explanation="Most activations of the feed-forward part stand at a bound of their function, where next to no "
                    "gradient passes.",
        advice="Scale down the weights before the activation function or normalize its input.",
    ), _saturated_units),
    (Rule(
        name="exploding_gradient", title="Exploding gradient", needs=("gradient_norm",), uses=("gradient_norm_block",),
        reason="Losses in nats have gradients of norm 0.1 to 10. Single spikes happen; norms above a "
               "hundred, or thirty times the usual, in two records in a row do not go by themselves.",
        source="Pascanu et al., On the difficulty of training recurrent neural networks, ICML 2013, arXiv:1211.5063; "
               f"{XIONG}",
        explanation="Gradients are so large that a step in proportion to them would throw the weights far off.",
        advice="Clip the gradient at 1, lengthen the warm-up, then look at the block with the largest share.",
    ), _exploding_gradient),
    (Rule(
        name="vanishing_gradient", title="Vanishing gradient", needs=("gradient_norm_block",),
        reason="Blocks of one model have gradients of the same order; a thousandth of the largest trains nothing.",
        source=f"{GLOROT}; {NOCI}",
        explanation="Beside other blocks, this one gets next to no gradient: where steps are in proportion to "
                    "gradients, it hardly learns.",
        advice="Look at the blocks after it: a missing residual connection, a detached tensor, saturated or dead "
               "units, collapsed attention.",
    ), _vanishing_gradient),
)
"""Rules of this module with their checks."""
