"""The tables of the benchmark, and all its numbers as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faults.baselines import (
    LossRule,
    band_alarms,
    choose_band_rule,
    choose_loss_rule,
    choose_weightwatcher,
    loss_alarms,
    loss_reports,
    references_of,
    weightwatcher_alphas,
    weightwatcher_reports,
)
from faults.choice import choose
from faults.corpus import unigram_entropy
from faults.faults import FAULTS
from faults.run import WEIGHTS, Plan, finished
from faults.score import Case, Report, Verdict, alarmed_blocks, clopper_pearson, judge, reports_as_it_went
from infogeo.diagnosis import Thresholds, diagnose
from infogeo.training import TrainingHistory

LAST = 12
"""Steps at the end over which the loss is averaged."""
Reports = Mapping[str, Sequence[Report]]


@dataclasses.dataclass(frozen=True)
class Detector:
    """Something that reports on runs, and what it said of the reported half."""

    name: str
    reports: Reports
    rules: tuple[str, ...] = ()
    """What counts as a hit whatever the fault; if empty, the rules of the fault."""
    delays: bool = True
    places: bool = True
    final: Mapping[str, Sequence[str]] | None = None
    """Rules of the findings at the end that are not below another, the first of the list first."""

    def case(self, case: Case) -> Case:
        """The case with what counts as a hit here."""
        return dataclasses.replace(case, rules=self.rules) if self.rules else case

    def verdict(self, case: Case) -> Verdict:
        """Of a run with a fault."""
        return judge(self.case(case), self.reports[case.name])

    def healthy(self, cases: Sequence[Case]) -> list[Case]:
        """Healthy runs that it can say something of."""
        return [case for case in cases if not case.fault and case.name in self.reports]


def write_report(plans: Sequence[Plan], folder: Path, out: Path | None, weightwatcher: str | None) -> None:
    """Choose on one half, report on the other."""
    from infogeo_adapters.training.history_files import read_history

    results = {plan.name: found for plan in plans if (found := finished(plan, folder)) is not None}
    histories = {name: read_history(folder / name) for name in results}
    cases = [_case(plan, results[plan.name]) for plan in plans if plan.name in results]
    half = {plan.name: plan.reported for plan in plans}
    chosen_on = [case for case in cases if not half[case.name]]
    reported = [case for case in cases if half[case.name]]
    losses = {name: found["losses"] for name, found in results.items()}
    (language,) = {plan.language for plan in plans}
    detectors, settings = _detectors(
        chosen_on, reported, histories, losses, unigram_entropy(language), folder, weightwatcher
    )
    worse = {case.name: _worse(case, results) for case in cases if case.fault}
    introduction = (
        f"{len(cases)} runs, {sum(bool(c.fault) for c in cases)} of them with one of {len(FAULTS)} faults, of "
        f"{', '.join(dict.fromkeys(c.architecture for c in cases))}; thresholds chosen on {len(chosen_on)} runs "
        f"(even seeds), all numbers below are of the other {len(reported)} "
        f"({sum(not c.fault for c in reported)} healthy). Intervals of Clopper and Pearson, 95 %, as if runs did not "
        "depend on each other (those of one kind of fault do, and those of one seed begin with the same model and "
        f"texts); of blocks, as if all of one run were one. {_time(results)}"
    )
    lines = [
        introduction,
        "", "### Detectors", "", *summary_table(detectors, reported),
        "", "### What somebody reads at the end (runs with a fault)", "", *final_table(detectors, reported),
        "", "### Architectures", "", *architecture_table(detectors, reported),
        "", "### Faults", "", *fault_table(detectors, reported, worse),
        "", "### What was reported of which fault (runs)", "", *confusion_table(detectors[1], reported),
        "", "### False alarms by rule (healthy runs, and runs before their fault came)", "",
        *alarm_table(detectors[:2], reported),
        "", "### Thresholds that were chosen", "",
        *table(("threshold", "default", "chosen", "objective then"), [
            (name, f"{old:.4g}", f"{new:.4g}", f"{score:.3f}") for name, old, new, score in settings["changed"]
        ]),
        "", f"Watch on the loss: {settings['loss rule']}. Beside healthy runs: {settings['band rule']}.",
        settings["weightwatcher"],
    ]
    numbers = {
        "settings": settings, "detectors": {d.name: _numbers(d, reported) for d in detectors}, "worse": worse,
        "cases": {c.name: dataclasses.asdict(c) for c in reported},
    }
    if out is None:
        print("\n".join(lines))
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "training_faults.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "training_faults.json").write_text(json.dumps(_plain(numbers), indent=1) + "\n", encoding="utf-8")


def _case(plan: Plan, result: Mapping[str, Any]) -> Case:
    fault = FAULTS.get(plan.fault)
    return Case(
        name=plan.name, fault=plan.fault, rules=fault.rules if fault else (), onset=plan.onset,
        blocks=tuple(result["blocks"]), head=plan.head if fault and fault.place == "head" else None,
        depth=plan.size.depth, architecture=plan.architecture, usual=plan.usual,
    )


def _time(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Runs that do not know their seconds of the processor are told by the clock."""
    what = "processor" if all("processor" in found for found in results.values()) else "seconds"
    said = "of the processor" if what == "processor" else "of one process, by the clock"
    return f"All runs together took {sum(found[what] for found in results.values()) / 60:.0f} minutes {said}."


def _detectors(
    chosen_on: Sequence[Case], reported: Sequence[Case], histories: Mapping[str, TrainingHistory],
    losses: Mapping[str, Sequence[float]], entropy: float, folder: Path, weightwatcher: str | None,
) -> tuple[list[Detector], dict[str, Any]]:
    """All detectors with what they say of the reported half."""
    thresholds, changed = choose(chosen_on, histories)
    default, best = (
        {c.name: reports_as_it_went(histories[c.name], t) for c in reported} for t in (Thresholds(), thresholds)
    )
    rule: LossRule = choose_loss_rule(chosen_on, losses, entropy)
    band = choose_band_rule(chosen_on, losses)
    final, final_best = (
        {c.name: tuple(f.rule for f in diagnose(histories[c.name], thresholds=t).findings) for c in reported}
        for t in (Thresholds(), thresholds)
    )
    detectors = [
        Detector("infogeo, default thresholds", default, final=final),
        Detector("infogeo, chosen thresholds", best, final=final_best),
        Detector("infogeo, chosen, faults only (no warnings)", {
            name: [r for r in said if r.severity == "fault"] for name, said in best.items()
        }),
        Detector("loss curve", {
            c.name: loss_reports(loss_alarms(losses[c.name], entropy, rule), c.onset) for c in reported
        }, rules=("loss",), places=False),
        Detector("loss curve, beside healthy runs of the same settings", {
            c.name: loss_reports(band_alarms(
                losses[c.name], [losses[name] for name in references_of(c, chosen_on)], band,
            ), c.onset) for c in reported if (c.fault or c.usual)
        }, rules=("loss",), places=False),
    ]
    said = "WeightWatcher was left out: no interpreter was given that has it."
    if weightwatcher is not None:
        files = {case.name: folder / case.name / WEIGHTS for case in [*chosen_on, *reported]}
        alphas = weightwatcher_alphas(weightwatcher, files, folder / "weightwatcher.json")
        bounds = choose_weightwatcher(chosen_on, alphas)
        for name, (low, high) in {"WeightWatcher, 2 to 6": (2.0, 6.0), "WeightWatcher, chosen bounds": bounds}.items():
            detectors.append(Detector(name, {
                c.name: weightwatcher_reports(alphas[c.name], low, high, c.onset) for c in reported
            }, rules=("weightwatcher",), delays=False))
        said = (f"WeightWatcher: a block counts as reported if the exponent of one of its weights after the last step "
                f"is outside {bounds[0]:g} to {bounds[1]:g}.")
    settings = {
        "thresholds": dataclasses.asdict(thresholds), "changed": changed, "loss rule": rule, "band rule": band,
        "weightwatcher": said,
        "entropy of single tokens": entropy,
    }
    return detectors, settings


def _worse(case: Case, results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Loss at the end less that of the healthy run of the same architecture and seed."""
    own = results[case.name]
    healthy = results.get(f"healthy-{own['plan']['architecture']}-{own['plan']['seed']:02d}")
    if healthy is None:
        return {"live": float("nan"), "held out": float("nan")}
    return {
        "live": float(np.mean(own["losses"][-LAST:]) - np.mean(healthy["losses"][-LAST:])),
        "held out": own["held_out"] - healthy["held_out"],
    }


# Tables


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines in Markdown."""
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]


def share(hits: int, trials: int, independent: int | None = None) -> str:
    """A share with its interval."""
    if not trials:
        return ""
    low, high = clopper_pearson(hits, trials, independent=independent)
    return f"{hits / trials:.2f} ({low:.2f} to {high:.2f})"


def _count(values: Iterable[bool | None]) -> tuple[int, int]:
    """How many are true, of how many that are not None."""
    known = [value for value in values if value is not None]
    return sum(known), len(known)


def _false_alarms(detector: Detector, cases: Sequence[Case]) -> dict[str, tuple[int, int]]:
    healthy = detector.healthy(cases)
    before = [case for case in cases if case.fault and case.onset]
    return {
        "runs": (sum(bool(detector.reports[c.name]) for c in healthy), len(healthy)),
        "layers": (sum(alarmed_blocks(c, detector.reports[c.name]) for c in healthy), sum(c.depth for c in healthy)),
        "before": (sum(bool(detector.verdict(c).early) for c in before), len(before)),
    }


def summary_table(detectors: Sequence[Detector], cases: Sequence[Case]) -> list[str]:
    """One row for each detector."""
    rows = []
    faulty = [case for case in cases if case.fault]
    watches = [d for d in detectors if d.name.startswith("loss curve")]
    for d in detectors:
        verdicts = {c.name: d.verdict(c) for c in faulty}
        alarms = _false_alarms(d, cases)
        delays = [v.delay for v in verdicts.values() if v.found]
        both = [[(v.delay if v.found else np.inf, w.delay if (w := watch.verdict(c)).found else np.inf)
                 for c in faulty for v in [verdicts[c.name]]] for watch in watches]
        rows.append((
            d.name, share(sum(v.found for v in verdicts.values()), len(faulty)),
            share(*_count(v.right_block for v in verdicts.values())) if d.places else "",
            share(*_count(v.only_right for v in verdicts.values())) if d.places else "",
            share(*alarms["runs"]), share(*alarms["layers"], alarms["runs"][1]) if d.places else "",
            share(*alarms["before"]) if d.delays else "",
            f"{np.median(delays):.0f}" if d.delays and delays else "",
            "<br>".join(map(_order, both)) if d.delays and d not in watches else "",
        ))
    return table(("detector", "faults found and named", "right block", "no other block", "healthy runs with a finding",
                  "healthy blocks with a finding", "runs with a finding before their fault", "median delay, steps",
                  "found before / with / after the loss curve or missed / by neither<br>the same beside healthy runs"),
                 rows)


def final_table(detectors: Sequence[Detector], cases: Sequence[Case]) -> list[str]:
    """What the diagnosis of the whole run says of the fault, and how many kinds of faults were found in every run."""
    rows = []
    faulty = [case for case in cases if case.fault]
    kinds = sorted({case.fault for case in faulty})
    for d in detectors:
        if d.final is None:
            continue
        always = [all(d.verdict(c).found for c in faulty if c.fault == kind) for kind in kinds]
        said = [(d.final[case.name], case.rules) for case in faulty]
        rows.append((
            d.name, share(sum(always), len(kinds)), share(sum(bool(set(f) & set(r)) for f, r in said), len(said)),
            share(sum(bool(f) and f[0] in r for f, r in said), len(said)),
            share(sum(bool(f) and set(f) <= set(r) for f, r in said), len(said)),
        ))
    return table(("detector", "kinds of faults found in all their runs", "named, not only below another finding",
                  "named first", "named, and nothing else"), rows)


def architecture_table(detectors: Sequence[Detector], cases: Sequence[Case]) -> list[str]:
    """One row for each architecture."""
    rows = []
    for name in dict.fromkeys(case.architecture for case in cases):
        mine = [case for case in cases if case.architecture == name]
        faulty, healthy = [c for c in mine if c.fault], [c for c in mine if not c.fault]
        rows.append((name, *(share(sum(d.verdict(c).found for c in faulty), len(faulty)) for d in detectors[:2]),
                     *(share(sum(bool(d.reports[c.name]) for c in healthy), len(healthy)) for d in detectors[:2])))
    return table(("architecture", "found, default", "found, chosen", "healthy runs with a finding, default",
                  "healthy runs with a finding, chosen"), rows)


def _order(delays: Sequence[tuple[float, float]]) -> str:
    """How often the first of a pair is shorter, the same, longer, and both are infinite."""
    neither = sum(a == b == np.inf for a, b in delays)
    same = sum(a == b for a, b in delays) - neither
    return f"{sum(a < b for a, b in delays)} / {same} / {sum(a > b for a, b in delays)} / {neither}"


def _delay(verdicts: Sequence[Verdict]) -> str:
    found = [v.delay for v in verdicts if v.found]
    return f"{np.median(found):.0f} ({max(found):.0f})" if found else ""


def fault_table(
    detectors: Sequence[Detector], cases: Sequence[Case], worse: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """One row for each fault."""
    default, best = detectors[:2]
    others = [d for d in detectors if d.rules]
    rows = []
    for name, fault in FAULTS.items():
        mine = [case for case in cases if case.fault == name]
        if not mine:
            continue
        verdicts = [best.verdict(case) for case in mine]
        placed = _count(v.right_block for v in verdicts)
        loss = _delay([next(d for d in others if d.name == "loss curve").verdict(c) for c in mine])
        found = sum(v.found for v in verdicts)
        rows.append((
            f"{name}<br>{fault.title}", f"{sum(default.verdict(c).found for c in mine)} of {len(mine)}",
            f"{found} of {len(mine)}<br>{share(found, len(mine))}", f"{placed[0]} of {placed[1]}" if placed[1] else "",
            _delay(verdicts), " / ".join(str(sum(d.verdict(c).found for c in mine)) for d in others), loss,
            "<br>".join(_loss(np.mean([worse[c.name][kind] for c in mine]), kind) for kind in ("live", "held out")),
        ))
    return table(("fault", "found, default", "found, chosen", "right block", "delay: median (longest)",
                  f"found by {' / '.join(d.name for d in others)}", "delay of the loss curve",
                  "final loss less that of a healthy run"), rows)


def _loss(value: float, kind: str) -> str:
    return f"{value:+.2f} {kind}" if np.isfinite(value) else f"NaN {kind}"


def confusion_table(detector: Detector, cases: Sequence[Case]) -> list[str]:
    """Of each fault the rules that were reported, each with its number of runs; those that name the fault in bold."""
    said = {name: Counter(rule for c in cases if c.fault == name for rule in detector.verdict(c).named)
            for name in FAULTS}
    healthy = Counter(rule for c in cases if not c.fault for rule in {r.rule for r in detector.reports[c.name]})
    runs = Counter(c.fault for c in cases)
    rows = [
        (name, str(runs[name]), _reported(counts, FAULTS[name].rules)) for name, counts in said.items() if runs[name]
    ]
    rows.append(("healthy", str(runs[""]), _reported(healthy, ())))
    return table(("fault", "runs", "reported, in how many of them"), rows)


def _reported(counts: Mapping[str, int], named: Sequence[str]) -> str:
    order = sorted(counts, key=lambda rule: (rule not in named, -counts[rule], rule))
    return ", ".join(f"**{rule} {counts[rule]}**" if rule in named else f"{rule} {counts[rule]}" for rule in order)


def alarm_table(detectors: Sequence[Detector], cases: Sequence[Case]) -> list[str]:
    """By rule."""
    counts = []
    for d in detectors:
        healthy = Counter(r for c in d.healthy(cases) for r in {x.rule for x in d.reports[c.name]})
        before = Counter(r for c in cases if c.fault and c.onset for r in d.verdict(c).early)
        counts += [healthy, before]
    rules = sorted(set().union(*counts))
    return table(("rule", *(f"{d.name}: {what}" for d in detectors for what in ("healthy", "before"))),
                 [(rule, *(str(c[rule]) for c in counts)) for rule in rules])


def _numbers(detector: Detector, cases: Sequence[Case]) -> dict[str, Any]:
    alarms = _false_alarms(detector, cases)
    return {
        "runs": {c.name: dataclasses.asdict(detector.verdict(c)) for c in cases if c.fault},
        "healthy": {c.name: [dataclasses.asdict(r) for r in detector.reports[c.name]]
                    for c in detector.healthy(cases)},
        "false alarms": {
            what: {"number": n, "of": of, "interval": clopper_pearson(
                n, of, independent=alarms["runs"][1] if what == "layers" else None
            )} for what, (n, of) in alarms.items()
        },
        "final": {c.name: detector.final[c.name] for c in cases} if detector.final is not None else {},
    }


def _plain(value: Any) -> Any:
    """As JSON knows it: no NaN, no dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
