"""How often is :func:`infogeo.diagnose` right on faults that its authors did not think of? A blind benchmark.

Faults, expectations and healthy runs are in ``blind/faults_*.py`` and ``blind/healthy.py``, written by somebody who
had read neither the rules nor the faults that they were made on; five settings, none of them the authors', are in
``blind/settings.py``. Thresholds are the defaults. Each run keeps its history in a
folder of its own, so what was interrupted goes on::

    python benchmarks/blind_faults.py --jobs 2 --folder build/blind_faults

The table has a line for each run. Of a fault for which rules were meant (``right`` in the cases), *hit* says that one
of these was reported, *related* that one stands below another finding only, *miss* what its name says. Of a fault for
which no rule was meant, *relevant* says that what was reported points the right way; *other* and *silent* speak for
themselves. A healthy run is *quiet* or a *false alarm*. Intervals are those of Clopper and Pearson, at 95 %.

The first measurement is in ``docs/tables/blind_faults_first.txt``. Rules were mended after it, so that what the
benchmark says since is no longer blind.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blind import faults_from_nothing, faults_trained_on, healthy, settings  # they enter their cases
from blind.cases import CASES, REFUSED, Case
from blind.settings import SETTINGS, run
from scipy.stats import binomtest

from infogeo import diagnose
from infogeo.errors import InfogeoError
from infogeo_adapters import read_history

SEED = 2611
"""Seed of the reported runs; the runs with the monitor off that settled the settings had another."""


def frozen() -> str:
    """What cases and settings are, as a number that changes with them."""
    parts = sorted(Path(str(module.__file__)) for module in (faults_from_nothing, faults_trained_on, healthy, settings))
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]


def seed_of(case: Case, seed: int) -> int:
    """A seed for each run, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {case.name}".encode()).digest()[:3], "big")


def place(folder: Path, name: str) -> Path:
    """Where a run is kept."""
    return folder / name.replace(": ", "-").replace(" ", "_")


def train(name: str, folder: Path, seed: int, watch: bool = True, steps: int | None = None) -> dict[str, Any]:
    """Make one run, or take what was made of it before; what is known of it beside its history."""
    torch.set_num_threads(1)
    case, done = CASES[name], folder / "run.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text("utf-8"))
        return found
    shutil.rmtree(folder, ignore_errors=True)
    if watch:
        folder.mkdir(parents=True)
    number, begin, losses, refused = seed_of(case, seed), time.perf_counter(), [float("nan")], None
    torch.manual_seed(number)
    training = SETTINGS[case.setting](number)
    case.change(training)
    training.steps = steps or training.steps
    with tempfile.TemporaryDirectory() as scratch:
        try:
            losses = run(training, folder / "history" if watch else None, Path(scratch))
        except InfogeoError as error:
            refused = f"{type(error).__name__}: {error}"
    ends = [sum(part) / len(part) for part in (losses[:5], losses[-10:])]
    found = {"name": name, "seed": number, "frozen": frozen(), "refused": refused, "losses": ends,
             "seconds": time.perf_counter() - begin}
    if watch:
        done.write_text(json.dumps(found), "utf-8")
    return found


@dataclass
class Outcome:
    """What was said of one run."""

    case: Case
    run: dict[str, Any]
    found: tuple[Any, ...] = ()
    not_checked: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, case: Case, known: dict[str, Any], folder: Path) -> Outcome:
        """Diagnose the history with the default thresholds."""
        if known["refused"]:
            return cls(case, known)
        diagnosis = diagnose(read_history(folder / "history"))
        return cls(case, known, diagnosis.findings, len(diagnosis.not_checked), diagnosis.notes)

    @property
    def rules(self) -> set[str]:
        """Rules of the findings that stand for themselves."""
        return {finding.rule for finding in self.found} | ({REFUSED} if self.run["refused"] else set())

    @property
    def verdict(self) -> str:
        """Hit or not."""
        case, rules = self.case, self.rules
        if case.healthy:
            return "false alarm" if rules else "quiet"
        below = {other.rule for finding in self.found for other in finding.related}
        if case.right:
            return "hit" if rules & {*case.right} else "related" if below & {*case.right} else "miss"
        return "relevant" if (rules | below) & {*case.relevant} else "other" if rules else "silent"

    @property
    def reported(self) -> str:
        """All findings: each rule once with its first step, a mark where it is a warning, related ones in brackets."""
        if self.run["refused"]:
            return f"{REFUSED} ({self.run['refused']})"
        first: dict[tuple[str, str], int] = {}
        for finding in self.found:
            key = finding.rule, finding.severity
            first[key] = min(finding.first_step, first.get(key, finding.first_step))
        below = sorted({other.rule for finding in self.found for other in finding.related} - self.rules)
        said = [f"{rule}{'' if how == 'fault' else '?'} at {step}" for (rule, how), step in first.items()]
        return ", ".join(said + ([f"[{', '.join(below)}]"] if below else [])) or "nothing"


def interval(hits: int, of: int) -> str:
    """A share with its exact interval."""
    if not of:
        return "0 of 0"
    found = binomtest(hits, of).proportion_ci(method="exact")
    return f"{hits} of {of} ({hits / of:.0%}, {found.low:.0%} to {found.high:.0%})"


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each run, and the shares."""
    lines = []
    for title, well in (("Faults", False), ("Healthy runs", True)):
        chosen = [o for o in outcomes if o.case.healthy == well]
        head = ["run", "loss", *([] if well else ["expected"]), "reported", "verdict"]
        lines += [f"{title}:", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for o in chosen:
            loss = "{:.2f} to {:.2f}".format(*o.run["losses"])
            right = [] if well else [" or ".join(o.case.right) or "none"]
            lines.append(f"| {' | '.join([o.case.name, loss, *right, o.reported, o.verdict])} |")
        lines.append("")
    return "\n".join(lines + shares(outcomes))


def shares(outcomes: Sequence[Outcome]) -> list[str]:
    """Recall, what was said where no rule was meant, and false alarms, with intervals."""
    faults, quiet = [o for o in outcomes if not o.case.healthy], [o for o in outcomes if o.case.healthy]
    meant, others = [o for o in faults if o.case.right], [o for o in faults if not o.case.right]

    def count(chosen: Iterable[Outcome], *verdicts: str) -> int:
        return sum(o.verdict in verdicts for o in chosen)

    alarms = [o for o in quiet if o.rules]
    graver = [o for o in alarms if any(finding.severity == "fault" for finding in o.found)]
    named, said = count(meant, "related"), sum(bool(o.rules) for o in meant)
    meanings = ", ".join(f"{count(others, name)} {name}" for name in ("relevant", "other", "silent"))
    lines = [
        f"Rule meant: {interval(count(meant, 'hit'), len(meant))} hit; {named} below another finding; {said} with any.",
        f"No rule meant: of {len(others)} {meanings}.",
        f"Healthy: {interval(len(alarms), len(quiet))} with any finding, {interval(len(graver), len(quiet))} a fault.",
    ]
    for setting in SETTINGS:
        here = [o for o in meant if o.case.setting == setting]
        well = [o for o in quiet if o.case.setting == setting]
        lines.append(f"- {setting}: {count(here, 'hit')} of {len(here)} hit, {count(well, 'false alarm')} of "
                     f"{len(well)} healthy runs with a finding")
    return lines


def details(outcomes: Sequence[Outcome]) -> str:
    """Every finding with its evidence, and the notes of the monitor."""
    lines = []
    for o in outcomes:
        lines.append(f"{o.case.name} ({o.verdict}, {o.not_checked} rules not checked): {o.case.text}")
        for finding in o.found:
            below = f" [{', '.join(sorted({f.rule for f in finding.related}))}]" if finding.related else ""
            lines.append(f"  {finding.severity} {finding.rule}, {finding.place}, steps {finding.first_step} to "
                         f"{finding.last_step}: {finding.evidence}{below}")
        lines += [f"  note: {note}" for note in o.notes]
    return "\n".join(lines)


def made(names: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs, in processes of their own."""
    given = [(name, place(options.folder, name), options.seed) for name in names]
    if options.jobs == 1:
        return [train(*each, watch=not options.unwatched, steps=options.steps) for each in given]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        waiting = [pool.submit(train, *each, not options.unwatched, options.steps) for each in given]
        for name, future in zip(names, waiting, strict=True):
            known = future.result()
            print(f"{name}: {known['seconds']:.0f} s, loss {known['losses'][0]:.2f} to {known['losses'][1]:.2f}",
                  file=sys.stderr, flush=True)
        return [future.result() for future in waiting]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs that are missing, diagnose all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/blind_faults"), help="where histories are kept")
    parser.add_argument("--out", type=Path, help="a file for the table too")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="+", default=[""], help="runs whose names have one of these in them")
    parser.add_argument("--steps", type=int, help="steps of each run, to try things out")
    parser.add_argument("--unwatched", action="store_true", help="train without the monitor and print losses only")
    parser.add_argument("--details", action="store_true", help="print the evidence of each finding too")
    options = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    begin = time.perf_counter()
    names = [name for name in CASES if any(part in name for part in options.only)]
    known = made(names, options)
    if options.unwatched:
        print("\n".join("{}: {:.2f} to {:.2f}".format(each["name"], *each["losses"]) for each in known))
        return 0
    outcomes = [Outcome.of(CASES[each["name"]], each, place(options.folder, each["name"])) for each in known]
    said = (f"{table(outcomes)}\n\n{len(known)} runs, {sum(each['seconds'] for each in known) / 60:.1f} minutes of "
            f"training and watching; seed {options.seed}, cases {known[0]['frozen']}.")
    print(f"{said} {(time.perf_counter() - begin) / 60:.1f} minutes just now.")
    if options.out is not None:
        options.out.write_text(f"{said}\n", "utf-8")
    if options.details:
        print(f"\n{details(outcomes)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
