"""Rules about how a model is built: positions, mask, normalization, residual stream, copies, parts that add nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule
from infogeo._diagnosis_view import HALF_PRECISION, Check, NotCheckedError, View, number


def _no_position_information(view: View, rule: Rule) -> Iterator[Finding]:
    if any(name in view.facts.dtype for name in HALF_PRECISION):
        raise NotCheckedError(f"rounding of {view.facts.dtype} is larger than what positions do; measure in float32")
    values, limit = view.series("order_sensitivity"), view.thresholds.order_sensitivity
    attending = [k for k, heads in enumerate(view.facts.heads, 1) if heads]
    from_block = attending[0] if attending else 1  # heads of blocks that were given are not known
    value, layer = _first_with_order(values, from_block, view.facts.causal)
    streak = view.streak(value < limit, np.isfinite(value), 1)
    if streak is not None:
        at = value[streak.last]
        first = ", the first with attention," if attending else ""
        where = f"layer {layer[streak.last]}{first}" if view.facts.causal else "every layer"
        yield view.finding(
            rule, streak, block=None, quantity="order_sensitivity", value=at, threshold=limit,
            evidence=f"when earlier tokens change places, states of {where} move by {number(at)} of what they move by "
                     "when these tokens are others",
        )


def _first_with_order(values: FloatArray, from_block: int, causal: bool) -> tuple[FloatArray, list[int]]:
    """(R) the number that tells, and its layer: the first known one of a causal model, of another the largest.

    In later layers of a causal model order shows without positions, since earlier tokens have seen fewer others.
    """
    table = values[:, from_block:]
    known = np.isfinite(table)
    place = known.argmax(axis=1) if causal else np.where(known, table, -1.0).argmax(axis=1)
    return table[np.arange(len(table)), place], [int(p) + from_block for p in place]


def _sees_the_future(view: View, rule: Rule) -> Iterator[Finding]:
    if not view.facts.causal:
        raise NotCheckedError("tokens of this model may see later ones")
    values, limit = view.series("future_sensitivity"), view.thresholds.future_sensitivity
    for layer, streak in view.places(values > limit, np.isfinite(values), 1):
        at = values[streak.last, layer]
        yield view.finding(
            rule, streak, block=layer, quantity="future_sensitivity", value=at, threshold=limit,
            evidence=f"states of layer {layer} change by {number(at)} of their norm when later tokens are exchanged, "
                     "and those of no layer before it do",
        )
        return  # all layers after it get it from here


def _no_normalization(view: View, rule: Rule) -> Iterator[Finding]:
    if any(name in view.facts.dtype for name in HALF_PRECISION):
        raise NotCheckedError(
            f"{view.facts.dtype} does not hold an input so large that only a norm hides its size; measure in float32"
        )
    values, limit = view.series("scale_response"), view.thresholds.scale_response
    for place, streak in view.places(values > limit, np.isfinite(values)):
        at = values[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity="scale_response", value=at, threshold=limit,
            evidence=f"what block {place + 1} adds changes by {number(at)} times its norm when its input is doubled; "
                     "behind a normalization it changes by about 0, without one by 1 or more",
        )


def _no_residual(view: View, rule: Rule) -> Iterator[Finding]:
    large, middle = view.series("large_carry"), view.thresholds.large_carry
    muted, least = view.series("muted_carry"), view.thresholds.muted_carry
    most = np.nan_to_num(large, nan=-np.inf).max(axis=1, keepdims=True)
    sure = np.isfinite(muted)
    for place, streak in view.places((np.abs(muted) < least) & ~(large > middle), sure, 1):
        at = muted[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity="muted_carry", value=at, threshold=least,
            evidence=f"when its attention and feed-forward write nothing, what comes out of block {place + 1} has a "
                     f"correlation of {number(at)} with what went in; with a residual stream it is about 1",
        )
    judged = np.isfinite(large) & (most > view.thresholds.large_carry_elsewhere) & ~sure
    told = dict(view.places(large < middle, judged, 1))
    for place, streak in told.items():
        at = large[streak.last, place]
        yield view.finding(
            rule, streak, block=place + 1, quantity="large_carry", value=at, threshold=middle,
            evidence=f"of an input a thousand times as large, block {place + 1} lets {number(at)} through to its "
                     "output; a residual stream lets through about 1, as in other blocks",
        )
    values, limit = np.abs(view.series("carry")), view.thresholds.carry
    added = view.series("contribution")
    outweighed = added > view.thresholds.carry_contribution
    for place, streak in view.places(values < limit, np.isfinite(values) & ~outweighed & ~judged & ~sure):
        if place in told:
            continue
        at, beside = values[streak.last, place], added[streak.last, place]
        more = f"; what it adds is {number(beside)} times its input" if np.isfinite(beside) else ""
        normalized = bool(np.isfinite(large[streak.last, place]))  # a sum that is normalized hides what outweighs
        more += "; or what it adds outweighs its input before both are normalized" * normalized
        yield view.finding(
            rule, streak, block=place + 1, quantity="carry", value=at, threshold=limit,
            severity="warning" if normalized else "fault",
            evidence=f"of its input, block {place + 1} carries {number(at)} to its output; "
                     f"a residual stream carries about 1{more}",
        )


def _dead_block(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("contribution"), view.thresholds.contribution
    moved = view.series("path_length")
    known = np.isfinite(values) & _after_start(view)[:, None]
    for place, streak in view.places(values < limit, known):
        at, path = values[streak.last, place], moved[streak.last, place]
        more = f", and moves the prediction by a Fisher-Rao length of {number(path)}" if np.isfinite(path) else ""
        yield view.finding(
            rule, streak, block=place + 1, quantity="contribution", value=at, threshold=limit,
            evidence=f"block {place + 1} adds {number(at)} of the norm of its input{more}",
        )


def _after_start(view: View) -> FloatArray:
    """(R) where a run has begun: blocks may be made to start from nothing."""
    return np.array([view.single or step > 0 for step in view.steps], np.bool_)


def _duplicated_layer(view: View, rule: Rule) -> Iterator[Finding]:
    if view.facts.depth < 2:
        raise NotCheckedError("the model has one block")
    values, limit = view.series("twin"), view.thresholds.twin
    found = dict(view.places(values > limit, np.isfinite(values), 1))
    if len(found) == view.facts.depth > 2:  # as models that share weights on purpose
        streak, least = found[0], float(np.min(values[found[0].last]))
        yield view.finding(
            rule, streak, block=None, quantity="twin", value=least, threshold=limit, severity="warning",
            evidence=f"the weights of every block are those of another one (cosine at least {number(least)})",
            advice="If the model shares its weights on purpose, as ALBERT does, all is well. Else look at how the "
                   "blocks are made: a list multiplied by a number holds one block many times.",
        )
        return
    told = set()
    for place, streak in found.items():
        twins = view.history.records[streak.last].twins
        other = twins[place] if len(twins) > place else None
        pair = frozenset({place + 1} if other is None else {place + 1, other})
        if pair in told:
            continue
        told.add(pair)
        at = values[streak.last, place]
        of = "another block" if other is None else f"block {min(pair)}"
        yield view.finding(
            rule, streak, block=max(pair), quantity="twin", value=at, threshold=limit,
            evidence=f"the weights of block {max(pair)} are those of {of}: cosine {number(at)}",
        )


STRUCTURE: tuple[tuple[Rule, Check], ...] = (
    (Rule(
        name="no_position_information", title="Order of tokens is lost", needs=("order_sensitivity",),
        reason="Attention takes a sum over tokens: without positions its first output is the same in any order, but "
               "for rounding. Later layers of a causal model tell the order by how many tokens are in sight.",
        source="Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762, section 3.5; Haviv et al., "
               "Transformer language models without positional encodings still learn positional information, Findings "
               "of EMNLP 2022, arXiv:2203.16634",
        explanation="The model sees a bag of words: nothing tells it where a token stands.",
        advice="Check that position embeddings are added, or rotary or relative positions applied, and that "
               "position_ids are not constant. Models without positions on purpose can leave this rule out.",
    ), _no_position_information),
    (Rule(
        name="sees_the_future", title="Tokens see later tokens", needs=("future_sensitivity",),
        reason="Behind a causal mask, a later token changes nothing before it, not even in the last digit of most "
               "implementations.",
        source="Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762, section 3.2.3",
        explanation="The model can read the token that it is to predict. Where it learns to, its loss is too good and "
                    "its texts are bad.",
        advice="Check the attention mask of this block: its sign, its shape, whether it is passed on at all, and "
               "is_causal where a fused attention function is called.",
    ), _sees_the_future),
    (Rule(
        name="no_normalization", title="Block without normalization", needs=("scale_response",),
        reason="A block that normalizes its input adds the same whatever the scale of it.",
        source="Ba et al., Layer normalization, 2016, arXiv:1607.06450; Xiong et al., On layer normalization in the "
               "Transformer architecture, ICML 2020, arXiv:2002.04745",
        explanation="What this block adds grows with its input, so that scales multiply from block to block.",
        advice="Check that the normalization layers of this block are called and not replaced by an identity.",
    ), _no_normalization),
    (Rule(
        name="no_residual", title="Block without residual stream", needs=("carry",),
        uses=("muted_carry", "large_carry", "contribution"),
        reason="With a residual connection the input comes out of a block whose parts are mute, and a large one comes "
               "out unchanged. Where neither can be told, the slope of the output on the input is near one; blocks "
               "that normalize their sum carry 0.3 to 1, and less where what they add outweighs their input.",
        source="He et al., Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385; Dong et al., "
               "Attention is not all you need: pure attention loses rank doubly exponentially with depth, ICML 2021, "
               "arXiv:2103.03404",
        explanation="The block replaces its input instead of adding to it. Gradients of earlier layers have to pass "
                    "through what it computes; with several such blocks, states lose rank with depth.",
        advice="Check that the input is added back after attention and after the feed-forward part of this block.",
    ), _no_residual),
    (Rule(
        name="dead_block", title="Block adds nothing", needs=("contribution",), uses=("path_length",),
        reason="The least useful blocks of trained models still add some hundredths of their input. The start of a run "
               "does not count, since blocks may begin at zero on purpose.",
        source="Men et al., ShortGPT: layers in large language models are more redundant than you expect, 2024, "
               "arXiv:2403.03853",
        explanation="The block passes its input on as it is: its parameters are paid for and not used.",
        advice="Look for output projections that are zero, a gate or scale stuck at zero, or a block that is skipped. "
               "If it started at zero on purpose, see that it gets a gradient.",
    ), _dead_block),
    (Rule(
        name="duplicated_layer", title="Two blocks with the same weights", needs=("twin",),
        reason="Independent weights are nearly orthogonal; a cosine near one is a copy.",
        source="Lan et al., ALBERT: a lite BERT for self-supervised learning of language representations, ICLR 2020, "
               "arXiv:1909.11942, who share weights on purpose",
        explanation="Two blocks hold the same weights: one was copied or loaded over the other, or both are one "
                    "object.",
        advice="Compare the names of the checkpoint with those of the model, and look at how the blocks are made.",
    ), _duplicated_layer),
)
"""Rules of this module with their checks."""
