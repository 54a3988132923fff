"""Rules about attention: heads that look everywhere, at one token only, or write nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule
from infogeo._diagnosis_view import Check, NotCheckedError, View, collapsed, mean_over_heads, number

FEW = 3
"""Fewer heads than this may all be sharp in a healthy block."""


def _uniform_attention(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("attention_entropy"), view.thresholds.uniform_attention
    least = np.min(np.where(np.isfinite(values), values, np.inf), axis=-1)
    losses, level, said = _losses_and_level(view)
    learned = losses < (1 - view.thresholds.learned_share) * level
    for place, streak in view.places((least > limit) & learned[:, None], np.isfinite(least)):
        at, last = least[streak.last, place], streak.last
        yield view.finding(
            rule, streak, block=place + 1, quantity="attention_entropy", value=at, threshold=limit,
            severity="warning",  # some data can be learned without comparing tokens
            evidence=f"all heads of block {place + 1} spread their attention evenly: the entropy of the sharpest is "
                     f"{at:.4f} of the highest, while the loss of {number(losses[last])} nats is well below the "
                     f"{number(level[last])} {said}",
        )


def _losses_and_level(view: View) -> tuple[FloatArray, FloatArray, str]:
    """(R) losses, what a model has without looking at other tokens, and words for that."""
    losses = view.series("probe_loss") if np.isfinite(view.series("probe_loss")).any() else view.series("loss")
    if not np.isfinite(losses).any():
        raise NotCheckedError("without a loss it cannot be told whether the model has learned anything yet")
    entropy = view.series("target_entropy")
    uniform = np.full(len(losses), np.log(view.facts.vocabulary))
    known = np.isfinite(entropy).any()
    if not known and view.facts.objective not in ("next token", "masked token"):
        raise NotCheckedError("what is known without looking at other tokens can be told for predicted tokens only")
    return losses, entropy if known else uniform, "of the frequencies of targets" if known else "of guessing"


def _attention_entropy_collapse(view: View, rule: Rule) -> Iterator[Finding]:
    limits = view.thresholds
    values, logits = (mean_over_heads(view.series(name)) for name in ("attention_entropy", "attention_logits"))
    for place, streak in view.places(collapsed(view), np.isfinite(values)):
        at, sharp = values[streak.last, place], logits[streak.last, place]
        known = bool(np.isfinite(sharp))
        few = view.facts.heads[place] < FEW  # as heads that look at the token before do
        more = f", with logits up to {number(sharp)}" if known else "; its logits were not measured"
        yield view.finding(
            rule, streak, block=place + 1, quantity="attention_entropy", value=at,
            threshold=limits.collapsed_attention, severity="fault" if known and not few else "warning",
            evidence=f"the heads of block {place + 1} have on average {number(at)} of the highest entropy{more}",
        )


def _dead_head(view: View, rule: Rule) -> Iterator[Finding]:
    values, limit = view.series("head_output"), view.thresholds.head_output
    entropies: FloatArray = view.series("attention_entropy")
    for place in range(values.shape[1]):
        here = values[:, place]
        for head, streak in view.places(here < limit, np.isfinite(here)):
            at, entropy = here[streak.last, head], entropies[streak.last, place, head]
            more = f"; the entropy of its attention is {number(entropy)} of the highest" * bool(np.isfinite(entropy))
            yield view.finding(
                rule, streak, block=place + 1, head=head + 1, quantity="head_output", value=at, threshold=limit,
                evidence=f"head {head + 1} of block {place + 1} writes {number(at)} of what the heads of the block "
                         f"write on average{more}",
            )


ZHAI = (
    "Zhai et al., Stabilizing Transformer training by preventing attention entropy collapse, ICML 2023, "
    "arXiv:2303.06296"
)

ATTENTION: tuple[tuple[Rule, Check], ...] = (
    (Rule(
        name="uniform_attention", title="Uniform attention", needs=("attention_entropy",),
        uses=("probe_loss", "loss", "target_entropy"),
        reason="Attention is uniform before it is trained; a model that learned more than frequencies while a block "
               "stays in that state does not use it to compare tokens.",
        source="Noci et al., Signal propagation in transformers: theoretical perspectives and the role of rank "
               "collapse, NeurIPS 2022, arXiv:2206.03126, on queries and keys that get no gradient",
        explanation="On the probe batch every token gets nearly the plain mean of all tokens in sight: queries and "
                    "keys do next to nothing.",
        advice="Check that queries and keys of this block are trained, the scale of the logits (one over the root of "
               "the size of a head, once), and that states still differ where they enter.",
    ), _uniform_attention),
    (Rule(
        name="attention_entropy_collapse", title="Attention entropy collapse", needs=("attention_entropy",),
        uses=("attention_logits",),
        reason="Single sharp heads are normal (and make up a block of one or two heads, so that it is a warning "
               "there); a whole block of them with large logits goes with training that oscillates or diverges.",
        source=ZHAI,
        explanation="Attention of this block sits on few tokens. So sharp a softmax passes next to no gradient to "
                    "queries and keys, and is found where training is not stable.",
        advice="Lengthen the warm-up or lower the learning rate; normalize queries and keys, or reparametrize their "
               "weights by the spectral norm. At the very start: scale down the weights of queries and keys.",
    ), _attention_entropy_collapse),
    (Rule(
        name="dead_head", title="Head writes nothing", needs=("head_output",), uses=("attention_entropy",),
        reason="Heads differ by factors of a few in what they write; a hundredth of the mean is nothing.",
        source="Michel et al., Are sixteen heads really better than one?, NeurIPS 2019, arXiv:1905.10650",
        explanation="What this head reads does not arrive in the states.",
        advice="Look for zeros in its values or in its part of the output projection, or a head mask left on. A head "
               "of a large trained model that rests on the first token can be pruned.",
    ), _dead_head),
)
"""Rules of this module with their checks."""
