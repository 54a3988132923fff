"""What is wrong with a model or its training: rules over what was measured, and the findings they give.

A :class:`~infogeo.TrainingHistory` holds what a monitor measured in a run, or of a single checkpoint.
:func:`diagnose` goes through it with the rules of :data:`RULES`; :func:`compare_runs` sets two side by side.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from infogeo._checks import FloatArray
from infogeo._diagnosis_attention import ATTENTION
from infogeo._diagnosis_comparison import RunComparison, compare_histories
from infogeo._diagnosis_data import DATA
from infogeo._diagnosis_related import gathered
from infogeo._diagnosis_result import LAYER_QUANTITIES, Diagnosis, Finding, Rule
from infogeo._diagnosis_signal import SIGNAL
from infogeo._diagnosis_steps import STEPS
from infogeo._diagnosis_structure import STRUCTURE
from infogeo._diagnosis_thresholds import Thresholds
from infogeo._diagnosis_view import Check, NotCheckedError, View
from infogeo.errors import ArgumentError
from infogeo.training import QUANTITIES, TrainingHistory

__all__ = ["RULES", "Diagnosis", "Finding", "Rule", "RunComparison", "Thresholds", "compare_runs", "diagnose"]

_CHECKS: Mapping[str, tuple[Rule, Check]] = {
    rule.name: (rule, check) for rule, check in (*SIGNAL, *STRUCTURE, *ATTENTION, *STEPS, *DATA)
}

RULES: Mapping[str, Rule] = {name: rule for name, (rule, _) in _CHECKS.items()}
"""All rules by name, with the reasons of their thresholds and sources."""


def diagnose(
    history: TrainingHistory, *, thresholds: Thresholds | None = None, rules: Iterable[str] | None = None
) -> Diagnosis:
    """What is wrong with a model or its training, by layer and since when, from what was measured.

    Parameters
    ----------
    history : TrainingHistory
        Of a run, as far as it has come, or of a single checkpoint. ``history.until(step)`` gives what could be told
        at an earlier step.
    thresholds : Thresholds, optional
        Where rules draw their lines.
    rules : iterable of str, optional
        Names of the rules to check; all of :data:`~infogeo.RULES` if left out.

    Returns
    -------
    Diagnosis
        Findings, faults first, then the earliest. What follows with certainty from another finding is in its
        ``related``. Rules whose quantities were not measured are in ``not_checked``, with the reason.

    Raises
    ------
    ArgumentError
        There is no rule of a name that was given.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import RunFacts, TrainingHistory, TrainingRecord
    >>> facts = RunFacts(
    ...     run="00", model="tiny", architecture="GPT2LMHeadModel", depth=2, heads=(2, 2), width=8, vocabulary=50,
    ...     n_parameters=1000, causal=True, objective="next token", dtype="float32", probe="00", probe_shape=(4, 8),
    ...     every=0,
    ... )
    >>> record = TrainingRecord(step=0, values={"future_sensitivity": [0.0, 0.0, 0.3]})
    >>> found = diagnose(TrainingHistory(facts=facts, records=(record,)))
    >>> found.findings[0].rule, found.findings[0].block, found.exit_code
    ('sees_the_future', 2, 1)
    """
    limits, usual = Thresholds() if thresholds is None else thresholds, Thresholds()
    view = View(history, limits)
    found: list[Finding] = []
    checked, not_checked = [], {}
    for name in _chosen(rules):
        rule, check = _CHECKS[name]
        why = _why_not(view, rule)
        if why is None:
            try:
                found += check(view, rule)
            except NotCheckedError as reason:
                why = str(reason)
        if why is None:
            checked.append(name)
        else:
            not_checked[name] = why
    facts = history.facts
    layer_step, layer_values = _layer_values(history)
    return Diagnosis(
        findings=gathered(found), checked=tuple(checked), not_checked=not_checked, run=history.name or facts.run,
        model=facts.model, depth=facts.depth, steps=history.steps, layer_values=layer_values,
        layer_step=layer_step, notes=history.notes, source=facts.source,
        changed_thresholds={name: value for name, value in vars(limits).items() if value != vars(usual)[name]},
    )


def _chosen(rules: Iterable[str] | None) -> Sequence[str]:
    if rules is None:
        return list(RULES)
    names = [rules] if isinstance(rules, str) else list(rules)
    unknown = [name for name in names if name not in RULES]
    if unknown:
        close = difflib.get_close_matches(unknown[0], RULES)
        raise ArgumentError(
            f"rules: found {unknown[0]!r}, wanted names of infogeo.RULES"
            + (f"; closest: {', '.join(close)}" if close else f", {', '.join(RULES)}")
        )
    return names


def _why_not(view: View, rule: Rule) -> str | None:
    """Why a rule cannot be checked, None if it can."""
    if rule.history and len(view) < 2:
        found = "one record" if len(view) else "none"
        return f"it needs a history of two records or more, and there is {found}"
    for name in rule.needs:
        if view.history.has(name):
            continue
        if name in view.facts.missing:
            return f"{name}: {view.facts.missing[name]}"
        live = QUANTITIES[name].live and view.single
        return f"{name} is measured while a model trains, not of a checkpoint" if live else f"{name} was not measured"
    return None


def _layer_values(history: TrainingHistory) -> tuple[int | None, dict[str, FloatArray]]:
    """The step and the numbers of the last record that has some of them."""
    for record in reversed(history.records):
        if table := _of_record(history.facts.depth, record.values):
            return record.step, table
    return None, {}


def _of_record(depth: int, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    table = {}
    for name in LAYER_QUANTITIES:
        if name not in values or not np.isfinite(values[name]).any():
            continue
        found = values[name]
        if QUANTITIES[name].scope == "head":
            found = np.array([np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in found])
        table[name] = np.concatenate([np.full(depth + 1 - len(found), np.nan), found])
    return table


def compare_runs(
    first: TrainingHistory, second: TrainingHistory, *, step: int | None = None, thresholds: Thresholds | None = None,
    rules: Iterable[str] | None = None,
) -> RunComparison:
    """Two checkpoints or two runs side by side: every quantity at every layer, and findings that only one has.

    Parameters
    ----------
    first, second : TrainingHistory
        Of models of the same depth.
    step : int, optional
        Compares both as they stood after this step; each at its last record if left out.
    thresholds : Thresholds, optional
        Where rules draw their lines.
    rules : iterable of str, optional
        Names of the rules to check; all if left out.

    Returns
    -------
    RunComparison
        Of the quantities that both have, at their last records.

    Raises
    ------
    ShapeError
        The models differ in the number of blocks.
    ArgumentError
        A history has no record up to that step, or there is no rule of a name.

    Examples
    --------
    >>> from infogeo import RunFacts, TrainingHistory, TrainingRecord
    >>> facts = RunFacts(
    ...     run="00", model="tiny", architecture="GPT2LMHeadModel", depth=1, heads=(2,), width=8, vocabulary=50,
    ...     n_parameters=1000, causal=True, objective="next token", dtype="float32", probe="00", probe_shape=(4, 8),
    ...     every=0,
    ... )
    >>> before, after = (
    ...     TrainingHistory(facts=facts, records=(TrainingRecord(step=k, values={"probe_loss": 4.0 - k}),))
    ...     for k in (0, 1)
    ... )
    >>> compare_runs(before, after).rows()[1]
    [('probe_loss', None, None, 4.0, 3.0, -1.0, 0.75)]
    """
    if step is not None:
        first, second = first.until(step), second.until(step)
    chosen = _chosen(rules)
    return compare_histories(
        first, second, diagnose(first, thresholds=thresholds, rules=chosen),
        diagnose(second, thresholds=thresholds, rules=chosen),
    )
