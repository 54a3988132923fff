"""Wall time of ``infogeo report`` for a sentence of twenty words on the bundled model, each time in a new process.

Usage: python benchmarks/report_time.py [--runs 3] [--target 15]

Prints a table; ends with 1 if the median is above the target (15 seconds on two cores).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SENTENCE = "That evening the old woman gave her hungry dog a bone, and it carried the bone down to the river"


def seconds(folder: Path) -> float:
    """One report from nothing: interpreter, imports, model, analysis, page."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "infogeo_adapters", "report", SENTENCE, "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--target", type=float, default=15.0)
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("--runs must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        times = [seconds(Path(folder) / f"report-{run}") for run in range(args.runs)]
    median = statistics.median(times)
    print("run      seconds")
    for run, value in enumerate(times, start=1):
        print(f"{run:<8} {value:7.2f}")
    print(f"median   {median:7.2f}")
    print(f"target   {args.target:7.2f}   {len(SENTENCE.split())} words, {os.cpu_count()} cores", end="")
    print("" if os.name == "nt" else f", load {os.getloadavg()[0]:.1f} beside it")
    return 0 if median <= args.target else 1


if __name__ == "__main__":
    sys.exit(main())
