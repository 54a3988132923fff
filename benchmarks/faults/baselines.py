"""What the diagnosis is set beside: two watches on the loss curve, and WeightWatcher on the last weights."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faults.score import Case, Report, judge, objective

SMOOTHED = 8
"""Steps over which the loss is averaged."""
NEVER = np.inf


@dataclass(frozen=True)
class LossRule:
    """A watch on the loss alone."""

    margin: float
    """Nats above its lowest level so far ..."""
    patience: int
    """... for so many steps in a row."""
    deadline: int
    """From this step on ..."""
    share: float
    """... it has to be below this share of the entropy of single tokens."""
    floor: float
    """A loss below this share of that entropy is too good."""


GRID = {
    "margin": (0.1, 0.2, 0.3, 0.5, 1.0), "patience": (1, 4, 8, 16), "deadline": (24, 48, 72, 96, 120, 144),
    "share": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0), "floor": (0.0, 0.05, 0.1, 0.2, 0.4, 0.6),
}


def smoothed(losses: Sequence[float]) -> NDArray[np.float64]:
    """Means over the last steps."""
    values = np.asarray(losses, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.array([values[max(0, k - SMOOTHED + 1): k + 1].mean() for k in range(len(values))])


def loss_alarms(losses: Sequence[float], entropy: float, rule: LossRule) -> list[int]:
    """Steps, counted from 1, at which the rule raises an alarm."""
    raw, values = np.asarray(losses, dtype=np.float64), smoothed(losses)
    finite = np.isfinite(raw)
    best = np.minimum.accumulate(np.where(np.isfinite(values), values, np.inf))
    steps = np.arange(1, len(values) + 1)
    high = values > best + rule.margin
    run = np.zeros(len(values), dtype=int)
    for k, bad in enumerate(high):
        run[k] = (run[k - 1] if k else 0) + 1 if bad else 0
    late = (steps >= rule.deadline) & (values > rule.share * entropy)
    low = (steps >= SMOOTHED) & (values < rule.floor * entropy)
    return [int(s) for s in steps[~finite | (run >= rule.patience) | late | low]]


def loss_reports(alarms: Sequence[int], onset: int) -> list[Report]:
    """The first alarm before and the first after the onset, as reports."""
    firsts = [min((s for s in alarms if s <= onset), default=None), min((s for s in alarms if s > onset), default=None)]
    return [Report("loss", None, None, "fault", s) for s in firsts if s is not None]


def choose_loss_rule(cases: Sequence[Case], losses: Mapping[str, Sequence[float]], entropy: float) -> LossRule:
    """The best rule of the grid by the objective; of equally good ones the one in their middle."""
    scored: dict[tuple[float, ...], float] = {}
    # an alarm comes as soon as any part raises it, so that the parts can be computed one by one
    parts = {}
    off = LossRule(margin=np.inf, patience=1, deadline=10**9, share=np.inf, floor=0.0)
    for margin, patience in itertools.product(GRID["margin"], GRID["patience"]):
        parts[margin, patience] = _alarmed(cases, losses, entropy, _with(off, margin=margin, patience=int(patience)))
    for deadline, share in itertools.product(GRID["deadline"], GRID["share"]):
        rule = _with(off, deadline=int(deadline), share=share)
        parts["late", deadline, share] = _alarmed(cases, losses, entropy, rule)
    for floor in GRID["floor"]:
        parts["floor", floor] = _alarmed(cases, losses, entropy, _with(off, floor=floor))
    faulty = np.array([bool(case.fault) for case in cases])
    for values in itertools.product(*GRID.values()):
        margin, patience, deadline, share, floor = values
        any_of = parts[margin, patience] | parts["late", deadline, share] | parts["floor", floor]
        scored[values] = objective(list(any_of[faulty]), list(any_of[~faulty]))
    best = max(scored.values())
    ties = np.array([values for values, score in scored.items() if score >= best - 1e-12])
    center = np.median(ties, axis=0)
    spread = np.maximum(np.ptp(ties, axis=0), 1e-9)
    chosen = ties[np.argmin((np.abs(ties - center) / spread).sum(axis=1))]
    return LossRule(float(chosen[0]), int(chosen[1]), int(chosen[2]), float(chosen[3]), float(chosen[4]))


@dataclass(frozen=True)
class BandRule:
    """A watch on the loss that knows the curves of healthy runs of the same model, size and rate."""

    weight: float
    """Of the present loss in the moving average."""
    margin: float
    """Nats above the highest or below the lowest of these curves at the same step ..."""
    patience: int
    """... for so many steps in a row."""


BAND_GRID = {
    "weight": (1.0, 0.5, 0.25, 0.12), "margin": (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5),
    "patience": (1, 2, 4, 8, 16),
}


def moving_average(losses: Sequence[float], weight: float) -> NDArray[np.float64]:
    """Exponentially weighted, from the first loss on."""
    return np.array(list(itertools.accumulate(losses, lambda mean, loss: (1 - weight) * mean + weight * loss)))


def band_alarms(losses: Sequence[float], references: Sequence[Sequence[float]], rule: BandRule) -> list[int]:
    """Steps, counted from 1, at which the loss has left the band of the references; none where there are none."""
    if not references:
        return []
    curves = np.array([moving_average(reference, rule.weight) for reference in references])
    values = moving_average(losses, rule.weight)
    with np.errstate(invalid="ignore"):
        away = ~((values <= curves.max(axis=0) + rule.margin) & (values >= curves.min(axis=0) - rule.margin))
    run = list(itertools.accumulate(away, lambda length, bad: (length + 1) * int(bad), initial=0))[1:]
    return [k + 1 for k, length in enumerate(run) if length >= rule.patience or not np.isfinite(losses[k])]


def references_of(case: Case, pool: Sequence[Case]) -> list[str]:
    """Names of the healthy runs of a pool with the settings of a run; never the run itself."""
    return [c.name for c in pool if not c.fault and c.usual and c.architecture == case.architecture
            and c.name != case.name]


def choose_band_rule(cases: Sequence[Case], losses: Mapping[str, Sequence[float]]) -> BandRule:
    """The best rule of the grid by the objective; of equally good ones the one with the earliest alarms."""
    comparable = [case for case in cases if case.fault or case.usual]
    scored: list[tuple[float, float, tuple[float, ...]]] = []
    for values in itertools.product(*BAND_GRID.values()):
        rule = BandRule(values[0], values[1], int(values[2]))
        first: dict[str, float] = {}
        for case in comparable:
            alarms = band_alarms(losses[case.name], [losses[n] for n in references_of(case, cases)], rule)
            first[case.name] = min((s - case.onset for s in alarms if s > case.onset), default=NEVER)
        found = [np.isfinite(first[case.name]) for case in comparable if case.fault]
        score = objective(found, [np.isfinite(first[case.name]) for case in comparable if not case.fault])
        delays = [first[case.name] for case in comparable if case.fault and np.isfinite(first[case.name])]
        scored.append((round(score, 12), -float(np.median(delays)) if delays else -NEVER, values))
    weight, margin, patience = max(scored)[2]
    return BandRule(weight, margin, int(patience))


def _with(rule: LossRule, **values: float) -> LossRule:
    return LossRule(**{**rule.__dict__, **values})  # type: ignore[arg-type]  # whole numbers stay whole


def _alarmed(
    cases: Sequence[Case], losses: Mapping[str, Sequence[float]], entropy: float, rule: LossRule
) -> NDArray[np.bool_]:
    """Whether a run is alarmed after its onset."""
    found = []
    for case in cases:
        alarms = loss_alarms(losses[case.name], entropy, rule)
        found.append(any(case.onset == 0 or s > case.onset for s in alarms))
    return np.array(found)


SCRIPT = """
import json, logging, sys, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
import numpy as np, torch, weightwatcher
for path in sys.stdin.read().split("\\n"):
    found = {}
    weights = {k: v for k, v in np.load(path).items() if np.isfinite(v).all()}
    if weights:
        layers = torch.nn.ModuleDict()
        for name, value in weights.items():
            layer = torch.nn.Linear(value.shape[1], value.shape[0], bias=False)
            layer.weight.data = torch.from_numpy(value)
            layers[name.replace(".", "/")] = layer
        try:
            table = weightwatcher.WeightWatcher(model=layers).analyze(plot=False)
            for _, row in table.iterrows():
                found[row["longname"].replace("/weight", "").replace("/", ".")] = float(row["alpha"])
        except Exception as error:
            found = {"failed " + type(error).__name__: float("nan")}
    missing = {name: float("nan") for name in np.load(path) if name not in weights}
    print("FOUND " + json.dumps({"path": path, "alpha": {**found, **missing}}), flush=True)
"""


def weightwatcher_alphas(interpreter: str, files: Mapping[str, Path], cache: Path) -> dict[str, dict[str, float]]:
    """Exponents of the power laws fitted to the spectra of all weights, by run and name of the tensor.

    NaN where the weights are not finite. Kept in a file.
    """
    known: dict[str, dict[str, float]] = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    todo = {str(path): name for name, path in files.items() if name not in known}
    if todo:
        done = subprocess.run([interpreter, "-c", SCRIPT], input="\n".join(todo), capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise RuntimeError(f"weightwatcher failed: {done.stderr[-2000:]}")
        for line in done.stdout.splitlines():
            if line.startswith("FOUND "):
                found = json.loads(line.removeprefix("FOUND "))
                known[todo[found["path"]]] = found["alpha"]
        cache.write_text(json.dumps(known), encoding="utf-8")
    return {name: known[name] for name in files}


def weightwatcher_reports(alphas: Mapping[str, float], low: float, high: float, onset: int) -> list[Report]:
    """One report for each block with an exponent outside the bounds, or none at all where weights are not finite."""
    blocks = set()
    for name, alpha in alphas.items():
        block = next((int(part) + 1 for part in name.split(".") if part.isdigit()), None)
        if block is not None and (np.isnan(alpha) or not low <= alpha <= high):
            blocks.add(block)
    return [Report("weightwatcher", block, None, "fault", onset + 1) for block in sorted(blocks)]


def choose_weightwatcher(cases: Sequence[Case], alphas: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
    """Bounds of the exponent by the objective."""
    lows = (0.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 2.0)
    highs = (2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, np.inf)
    scored = {}
    for low, high in itertools.product(lows, highs):
        reports = {c.name: weightwatcher_reports(alphas[c.name], low, high, c.onset) for c in cases}
        found = [judge(_any_rule(c), reports[c.name]).found for c in cases if c.fault]
        scored[low, high] = objective(found, [bool(reports[c.name]) for c in cases if not c.fault])
    best = max(scored.values())
    ties = [bounds for bounds, score in scored.items() if score >= best - 1e-12]
    return ties[len(ties) // 2]


def _any_rule(case: Case) -> Case:
    return Case(case.name, case.fault, ("weightwatcher", "loss"), case.onset, case.blocks, case.head, case.depth)
