"""How long ``import infogeo`` takes: wall time of a new interpreter that imports it, less that of one that does not.

Both are run in turn, so that a slow moment of the machine hits both; the medians are subtracted. The first pair is not
counted (it reads the files from disk). Exit status 1 if ``import infogeo`` takes longer than the limit::

    python benchmarks/import_time.py --repeats 9
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def seconds(statement: str) -> float:
    """Wall time of a new interpreter that runs one statement."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env={**os.environ, "PYTHONPATH": path})
    return time.perf_counter() - start


def import_seconds(package: str, *, repeats: int) -> float:
    """Median seconds that importing a package adds to a bare interpreter."""
    pairs = [(seconds("pass"), seconds(f"import {package}")) for _ in range(repeats + 1)][1:]
    bare, loaded = (statistics.median(column) for column in zip(*pairs, strict=True))
    return loaded - bare


def main() -> int:
    """Measure both packages, and numpy alone for comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="pairs measured (at least 5)")
    parser.add_argument("--limit", type=float, default=0.3, help="seconds that import infogeo may take (0.3)")
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error("--repeats must be at least 5")
    packages = ("numpy", "infogeo", "infogeo_adapters")
    result = {name: import_seconds(name, repeats=arguments.repeats) for name in packages}
    print(f"{'package':20}seconds (median of {arguments.repeats}, above a bare interpreter)")
    for name, value in result.items():
        print(f"{name:20}{value:.3f}")
    exceeded = result["infogeo"] > arguments.limit
    if exceeded:
        print(f"import infogeo takes longer than the limit of {arguments.limit:g} seconds")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
