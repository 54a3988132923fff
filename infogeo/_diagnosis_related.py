"""What follows from what: findings that another one explains are listed with it, not beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from infogeo._diagnosis_result import Finding

Where = Literal[
    "anywhere", "after the start", "at the start", "same block", "same block ever", "from there on", "beyond",
    "up to there",
]

CONSEQUENCES: Mapping[str, Mapping[str, Where]] = {
    "no_residual": {
        "rank_collapse": "from there on", "over_smoothing": "from there on", "vanishing_signal": "same block",
        "vanishing_gradient": "up to there", "shuffled_targets": "anywhere",
    },
    "no_normalization": {"exploding_signal": "from there on", "uniform_attention": "same block"},
    "rank_collapse": {"over_smoothing": "from there on", "uniform_attention": "from there on"},
    "dead_block": {
        "dead_head": "same block ever", "uniform_attention": "same block", "dead_units": "same block",
        "vanishing_gradient": "same block",
    },
    "dead_units": {"untrained_layer": "same block", "vanishing_gradient": "same block"},
    "gradients_kept": {
        "exploding_gradient": "anywhere", "learning_rate_too_high": "anywhere", "rank_collapse": "after the start",
        "exploding_signal": "after the start", "attention_entropy_collapse": "after the start",
        "over_smoothing": "after the start", "shuffled_targets": "anywhere",
    },
    "exploding_signal": {  # what is added to states so large, or comes back through their norm, is nothing beside them
        "number_format": "from there on", "dead_block": "from there on", "vanishing_gradient": "from there on",
        "untrained_layer": "from there on", "no_normalization": "beyond",
    },
    "untrained_layer": {"vanishing_gradient": "same block", "uniform_attention": "same block"},
    "learning_rate_too_high": {
        "shuffled_targets": "anywhere", "attention_entropy_collapse": "after the start",
        "exploding_signal": "after the start",
    },
    "shuffled_targets": {"rank_collapse": "after the start", "uniform_attention": "after the start"},
    "learning_rate_too_low": {"shuffled_targets": "anywhere", "uniform_attention": "anywhere"},
    "constant_data": {"label_leak": "anywhere"},
    "sees_the_future": {"label_leak": "anywhere"},
    "initialization_scale": {
        "attention_entropy_collapse": "same block", "exploding_signal": "anywhere",
        "shuffled_targets": "anywhere", "no_position_information": "at the start", "dead_units": "at the start",
    },
}
"""By rule, the rules whose findings follow from it, and where; of what is not finite everything later follows.

``after the start``: anywhere, and perhaps seen first, but not at step 0, where it would be of the model itself;
``at the start``: anywhere, but seen from the same record on; ``same block ever``: perhaps seen first, since a block
that adds nothing is not told before the first step."""

OF_ITS_OWN = frozenset({
    "no_position_information", "sees_the_future", "no_normalization", "no_residual", "duplicated_layer",
    "constant_data", "label_leak", "initialization_scale",
})
"""Rules about what was built or shown, found in numbers that are finite, which what is not finite cannot bring about.
"""


def gathered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings in order, each that follows from another one moved to the ``related`` of the first cause."""
    order = sorted(findings, key=_rank)
    causes = [next((k for k, cause in enumerate(order) if _follows(order[n], cause)), None) for n in range(len(order))]
    effects: dict[int, list[Finding]] = {}
    for n, effect in enumerate(order):
        root = n
        while (above := causes[root]) is not None:  # ends: none follows from its own consequences
            root = above
        if root != n:
            effects.setdefault(root, []).append(effect)
    return tuple(
        dataclasses.replace(cause, related=tuple(effects.get(n, ())))
        for n, cause in enumerate(order) if causes[n] is None
    )


def _rank(finding: Finding) -> tuple[bool, int, int, int]:
    """Faults first, then the earliest, then the lowest."""
    block = -1 if finding.block is None else finding.block
    return finding.severity != "fault", finding.first_step, block, finding.head or 0


def _follows(effect: Finding, cause: Finding) -> bool:
    if effect is cause:
        return False
    if effect.severity == "fault" and cause.severity == "warning":
        return False  # a fault is not hidden behind less
    where = CONSEQUENCES.get(cause.rule, {}).get(effect.rule)
    if where == "after the start":
        return effect.first_step > 0
    if where == "same block ever":
        return effect.block == cause.block
    if effect.first_step < cause.first_step:
        return False
    if cause.rule == "not_finite":
        return effect.rule != "not_finite" and effect.rule not in OF_ITS_OWN
    if where is None or where == "anywhere":
        return where is not None
    if where == "at the start":
        return effect.first_step == cause.first_step
    if effect.block is None or cause.block is None:
        return False
    if where == "same block":
        return effect.block == cause.block
    if where == "beyond":
        return effect.block > cause.block
    return effect.block >= cause.block if where == "from there on" else effect.block <= cause.block
