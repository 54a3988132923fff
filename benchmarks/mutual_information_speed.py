"""Nearest-neighbor and Gaussian-copula mutual information: CPU seconds beside the peers, in one run.

Normal samples of correlation 0.9 (one column against one) and of correlation 0.5 between all columns (more). The
contestants take turns; the least CPU seconds of the runs are printed, so that other work on the machine counts little,
with the estimate beside them, so that one sees that they compute the same. A peer that is not installed is left out
with a line that says so; NPEET is looked for on the path as ``npeet.entropy_estimators`` ::

    OMP_NUM_THREADS=1 python benchmarks/mutual_information_speed.py --runs 5

The targets are those of the issue: at least as fast as scikit-learn in two dimensions, at least three times as fast as
NPEET in 50, milliseconds for the Gaussian copula. With ``--check`` the exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infogeo.estimates import EstimateWarning
from infogeo.mutual_information.copula import gaussian_copula_mutual_information
from infogeo.mutual_information.ksg import ksg_mutual_information

Estimator = Callable[[Any, Any], float]


def sample(n: int, d: int) -> tuple[Any, Any, float]:
    """Samples of d joint columns, half of them x, and the true information."""
    rho = 0.9 if d == 2 else 0.5
    covariance = np.eye(d) * (1 - rho) + rho
    z = np.random.default_rng(0).standard_normal((n, d)) @ np.linalg.cholesky(covariance).T
    half = d // 2
    truth = np.linalg.slogdet(covariance[:half, :half])[1] - 0.5 * np.linalg.slogdet(covariance)[1]
    return z[:, :half].copy(), z[:, half:].copy(), float(truth)


def peers() -> dict[str, Estimator]:
    """The peers that are installed; a line for each that is not."""
    found: dict[str, Estimator] = {}

    def module(name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            print(f"left out: {name} ({error})")
            return None

    if (selection := module("sklearn.feature_selection")) is not None:
        found["scikit-learn k=3"] = lambda x, y: float(
            selection.mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0]
        )
    if (npeet := module("npeet.entropy_estimators")) is not None:
        found["NPEET k=3"] = lambda x, y: float(npeet.mi(x.tolist(), y.tolist(), k=3, base=math.e))
    if (ennemi := module("ennemi")) is not None:
        found["ennemi k=3"] = lambda x, y: float(np.ravel(ennemi.estimate_mi(y[:, 0], x[:, 0], k=3))[0])
    if (infomeasure := module("infomeasure")) is not None:
        found["infomeasure k=3"] = lambda x, y: float(infomeasure.mutual_information(x, y, approach="metric", k=3))
    if (frites := module("frites.core")) is not None:
        found["frites copula"] = lambda x, y: (
            float(np.ravel(frites.gcmi_nd_cc(x.T, y.T, mvaxis=0, traxis=-1))[0]) * math.log(2)
        )
    return found


ONE_COLUMN = {"scikit-learn k=3", "ennemi k=3"}
"""Peers that take one column of y."""


def seconds(contestants: dict[str, Estimator], x: Any, y: Any, runs: int) -> dict[str, tuple[float, float]]:
    """Least CPU time and the estimate of each; each is given up after the first run that takes more than a minute."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(runs):
        for name, estimate in contestants.items():
            if name in best and best[name][0] > 60:
                continue
            start = time.process_time()
            try:
                value = estimate(x, y)
            except Exception as error:  # a peer's own failure is a result, too
                print(f"  {name}: {type(error).__name__}: {error}")
                value = math.nan
            taken = time.process_time() - start
            best[name] = (min(taken, best.get(name, (math.inf, 0.0))[0]), value)
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a target is missed and asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of infogeo")
    parser.add_argument("--sizes", default="2x1000,2x10000,10x10000,20x10000,50x10000", help="columns x samples")
    parser.add_argument("--skip", default="", help="names of peers to leave out, with commas between")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", EstimateWarning)
    contestants: dict[str, Estimator] = {
        "infogeo KSG 1": lambda x, y: ksg_mutual_information(x, y, threads=given.threads),
        "infogeo KSG 2": lambda x, y: ksg_mutual_information(x, y, variant=2, threads=given.threads),
        "infogeo copula": gaussian_copula_mutual_information,
    }
    skipped = set(given.skip.split(","))
    contestants |= {name: peer for name, peer in peers().items() if name.split()[0] not in skipped}
    missed = []
    print(f"{'columns':>7} {'n':>6}  {'estimator':18} {'CPU s':>9} {'estimate':>9} {'truth':>7}")
    for size in given.sizes.split(","):
        d, n = (int(part) for part in size.split("x"))
        x, y, truth = sample(n, d)
        able = {name: one for name, one in contestants.items() if d == 2 or name not in ONE_COLUMN}
        runs = given.runs if d == 2 else max(1, given.runs // 2)
        times = seconds(able, x, y, runs)
        for name, (taken, value) in times.items():
            print(f"{d:7} {n:6}  {name:18} {taken:9.4f} {value:9.4f} {truth:7.4f}")
        ours = times["infogeo KSG 1"][0]
        if d == 2 and "scikit-learn k=3" in times and ours > times["scikit-learn k=3"][0]:
            missed.append(f"{size}: slower than scikit-learn")
        if d == 50 and "NPEET k=3" in times and 3 * ours > times["NPEET k=3"][0]:
            missed.append(f"{size}: less than three times as fast as NPEET")
        if d == 2 and times["infogeo copula"][0] > 0.01:
            missed.append(f"{size}: the Gaussian copula takes more than 10 ms")
    for line in missed:
        print("missed:", line)
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
