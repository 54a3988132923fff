"""How often the diagnosis of infogeo finds what is wrong with a training run: faults injected into small transformers.

Trains some two hundred small models with the monitor on two cores, healthy ones and ones with a fault, chooses
thresholds on the runs of the even seeds and reports on those of the odd ones ::

    python benchmarks/training_faults.py --folder CACHE --out docs/tables

Runs are kept in the folder, and a call that was cut off goes on. What is there is not trained anew when infogeo or an
injection is changed: that wants a new folder. The tables of the docs are of more healthy runs, of a masked encoder too,
and of a grammar that no rule was made on::

    python benchmarks/training_faults.py --folder CACHE --out docs/tables --weightwatcher PYTHON
        --first-seed 200 --grammar 200 --healthy 80 --encoder

The tables are written as ``training_faults.txt``, all numbers as ``training_faults.json`` beside the runs. With
``--weightwatcher PYTHON``, an interpreter that can import ``weightwatcher`` (PyPI), its verdict on the last weights is
set beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from faults.run import HEALTHY, SEEDS, encoder_plans, fault_plans, healthy_plans, run_all

FIRST_SEED = 100
"""Rules and injections were made while looking at runs of the seeds 0 to 15."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet, score, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--out", type=Path, help="folder for the tables; printed if left out")
    parser.add_argument("--faults", nargs="*", help="names of faults; all if left out")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED,
        help="even, so that thresholds are chosen on seeds of their own; by default seeds that no rule was made on",
    )
    parser.add_argument("--grammar", type=int, default=0, help="seed of the grammar; rules were made on that of 0")
    parser.add_argument("--healthy", type=int, default=HEALTHY, help="number of healthy runs")
    parser.add_argument("--encoder", action="store_true", help="a masked encoder too")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, each of one thread")
    parser.add_argument("--weightwatcher", help="interpreter that can import weightwatcher")
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    if given.first_seed < 0 or given.first_seed % 2:
        parser.error(f"--first-seed: found {given.first_seed}, wanted an even number from 0")
    from faults.faults import FAULTS

    unknown = sorted(set(given.faults or ()) - set(FAULTS))
    if unknown:
        parser.error(f"--faults: found {', '.join(unknown)}, wanted some of {', '.join(FAULTS)}")
    first, language = given.first_seed, given.grammar
    plans = [
        *healthy_plans(given.healthy, first, language), *fault_plans(given.faults, given.seeds, first, language),
    ]
    if given.encoder:
        plans += encoder_plans(given.faults, first, language)
    run_all(plans, given.folder, given.processes)
    from faults.report import write_report

    write_report(plans, given.folder, given.out, given.weightwatcher)
    print(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
