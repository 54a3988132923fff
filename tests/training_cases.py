"""Made-up histories of training: healthy ones, and ones with a fault in a layer from some step on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from infogeo._diagnosis_result import Diagnosis, Finding
from infogeo.training import QUANTITIES, RunFacts, TrainingHistory, TrainingRecord

LEVELS = {
    "learning_rate": 1e-3, "gradient_norm": 0.8, "target_entropy": 4.3, "state_norm": 0.7, "headroom": 1e30,
    "mean_cosine": 0.3, "token_similarity": 0.2, "anisotropy": 0.3, "effective_rank": 12.0, "scale_response": 0.05,
    "large_carry": 1.0,
    "carry": 0.95, "contribution": 0.4, "utilization": 0.5, "path_length": 0.8, "gradient_norm_block": 0.3,
    "weight_norm": 9.0, "update_ratio": 2e-3, "gradient_snr": 0.2, "twin": 0.05, "attention_entropy": 0.9,
    "attention_logits": 2.0, "order_sensitivity": 0.3, "input_information": 3.0, "target_information": 1.2,
}
"""About what a healthy value is; of other quantities 1."""
STILL = ("dead_units", "saturated_units", "nonfinite", "future_sensitivity", "batch_repetition", "unmoved",
         "answer_shown", "gradient_carryover")
"""Quantities that are zero in a healthy run."""


def run_facts(*, depth: int = 4, heads: int = 4, every: int = 50, **more: object) -> RunFacts:
    """Facts of a made-up run."""
    facts = {
        "run": "0123abcd", "model": "made-up", "architecture": "GPT2LMHeadModel", "depth": depth,
        "heads": (heads,) * depth, "width": 32, "vocabulary": 100, "n_parameters": 12345, "causal": True,
        "objective": "next token", "dtype": "float32", "probe": "00ff", "probe_shape": (16, 48), "every": every,
    }
    return RunFacts(**{**facts, **more})  # type: ignore[arg-type]


def made_up_history(
    *, depth: int = 4, heads: int = 4, records: int = 9, every: int = 50, left_out: Sequence[str] = (),
    notes: Sequence[str] = (), name: str = "made-up run", seed: int = 0, **more: object,
) -> TrainingHistory:
    """A healthy history: losses that fall, and smooth noisy quantities."""
    rng = np.random.default_rng(seed)
    facts = run_facts(depth=depth, heads=heads, every=every if records > 1 else 0, **more)
    made = []
    for k in range(records):
        t = k / max(records - 1, 1)
        values = {}
        for number, quantity in enumerate(q for n, q in QUANTITIES.items() if n not in left_out):
            shape = facts.shape_of(quantity.scope)
            ramp = np.linspace(0.9, 1.1, shape[0]).reshape(-1, *[1] * (len(shape) - 1)) if shape else 1.0
            level = LEVELS.get(quantity.name, 1.0) * (0.0 if quantity.name in STILL else 1.0)
            drift = 1 + 0.3 * t * np.sin(number)
            values[quantity.name] = np.minimum(
                level * ramp * drift * (1 + 0.04 * rng.normal(size=shape)), 1.0 if quantity.unit == "share" else np.inf
            )
        if "attention_entropy" in values:
            values["attention_entropy"] = 0.97 - 0.1 * t + 0.01 * rng.uniform(-1, 1, size=facts.shape_of("head"))
        values |= {n: 4.6 * np.exp(-1.2 * t) + 0.2 + 0.05 * rng.normal() for n in ("loss", "probe_loss") if n in values}
        made.append(TrainingRecord(step=k * every, values={n: np.asarray(v) for n, v in values.items()}, seconds=0.1))
    steps = np.arange(1, (records - 1) * every + 1)
    falling = 4.6 * np.exp(-1.2 * steps / max(len(steps), 1)) + 0.2 + 0.2 * rng.normal(size=len(steps))
    losses = np.stack([steps, falling], axis=1) if len(steps) else np.empty((0, 2))
    return TrainingHistory(facts=facts, records=tuple(made), losses=losses, notes=tuple(notes), name=name)


def with_fault(
    history: TrainingHistory, changes: Mapping[str, float], *, block: int, step: int, head: int | None = None
) -> TrainingHistory:
    """The history with quantities of a block set to values from a step on."""
    made = []
    for record in history.records:
        values = {n: v.copy() for n, v in record.values.items()}
        for name, value in changes.items() if record.step >= step else ():
            scope = QUANTITIES[name].scope
            place = block if scope == "state" else block - 1
            values[name][(place, head - 1) if head is not None else place] = value
        made.append(TrainingRecord(step=record.step, values=values, seconds=record.seconds))
    return TrainingHistory(
        facts=history.facts, records=tuple(made), losses=history.losses, notes=history.notes, name=history.name
    )


def made_up_finding(
    rule: str = "rank_collapse", *, block: int | None = 2, head: int | None = None, first: int = 200, last: int = 400,
    severity: str = "fault", quantity: str = "mean_cosine", related: Sequence[Finding] = (),
    evidence: str = "the mean cosine is 0.999, above 0.995.",
) -> Finding:
    """A finding, true or not."""
    return Finding(
        rule=rule, title=rule.replace("_", " ").capitalize(), block=block, head=head, first_step=first, last_step=last,
        severity=severity, value=0.999, threshold=0.995, quantity=quantity,  # type: ignore[arg-type]
        evidence=evidence, explanation="All tokens are alike.", advice="Bring the residual back.",
        related=tuple(related),
    )


def made_up_diagnosis(
    history: TrainingHistory, findings: Sequence[Finding] = (), *, not_checked: Mapping[str, str] | None = None
) -> Diagnosis:
    """A diagnosis with these findings, whatever the history says."""
    depth = history.facts.depth
    values = {} if not history.records else {
        name: np.concatenate([np.full(depth + 1 - len(v), np.nan), v])
        for name in ("state_norm", "mean_cosine", "capacity", "utilization")
        if (v := history.records[-1].values.get(name)) is not None
    }
    return Diagnosis(
        findings=tuple(findings), checked=("rank_collapse", "dead_head"), not_checked=not_checked or {},
        run=history.name, model=history.facts.model, depth=depth, steps=history.steps, layer_values=values,
        notes=history.notes, source=history.facts.source,
    )
