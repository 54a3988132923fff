r"""How good the capacity of a fitted linear channel is: bias, coverage, and doubling, on channels of known capacity.

    python benchmarks/linear_channels.py
    python benchmarks/linear_channels.py --components 384 --sizes 2000 4000 8000 --draws 2

Normal input whose k-th variance is 1/k (or 1/k^2), random maps of full or low rank, white noise at a stated ratio of
signal to noise. Plug-in is what the formula gives with sample covariances; both in nats. No network.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infogeo import EstimateWarning, gaussian_mimo_capacity, gaussian_rate, linear_gaussian_capacity


@dataclass(frozen=True)
class Case:
    """A kind of channel."""

    name: str
    snr: float
    decay: float = 1.0
    rank_share: float = 1.0
    residual: bool = False
    """Whether the map is the identity plus a small random one, as in a block with a residual connection."""


CASES = (
    Case("residual block, 13 dB", 20.0, residual=True),
    Case("full rank, 10 dB", 10.0),
    Case("full rank, 0 dB", 1.0),
    Case("full rank, 0 dB, variances 1/k²", 1.0, decay=2.0),
    Case("rank d/8, 0 dB", 1.0, rank_share=1 / 8),
)


def channel(case: Case, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map, input covariance and noise covariance."""
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    sx = basis * np.arange(1.0, d + 1) ** -case.decay @ basis.T
    rank = max(1, int(d * case.rank_share))
    a = rng.normal(size=(d, rank)) @ rng.normal(size=(rank, d)) / np.sqrt(d * rank)
    if rank == d:
        a = rng.normal(size=(d, d)) / np.sqrt(d)
    if case.residual:
        a = np.eye(d) + 0.3 * a
    return a, sx, np.eye(d) * np.trace(a @ sx @ a.T) / d / case.snr


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, default=160)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args(arguments)
    d = args.components
    print("| channel | n | capacity | estimate | plug-in | covered | rate | estimate | plug-in | covered | warned "
          "| seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for case in (case for case in CASES if args.only in case.name):
        a, sx, sn = channel(case, d, np.random.default_rng(0))
        capacity = float(gaussian_mimo_capacity(a, sn, np.trace(sx)).capacity)
        rate = float(gaussian_rate(a, sn, sx))
        for n in args.sizes:
            found, warned = [], 0
            start = time.process_time()
            for draw in range(args.draws):
                rng = np.random.default_rng(1000 + draw)
                x = rng.normal(size=(n, d)) @ np.linalg.cholesky(sx).T
                y = x @ a.T + rng.normal(size=(n, d)) * np.sqrt(sn[0, 0])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", EstimateWarning)
                    found.append(linear_gaussian_capacity(x, y))
                warned += bool(found[-1].warnings)
            seconds = (time.process_time() - start) / args.draws
            inside = [
                sum(low < truth < high for low, high in intervals)
                for truth, intervals in (
                    (capacity, [f.capacity_interval or (0, 0) for f in found]),
                    (rate, [f.rate_interval or (0, 0) for f in found]),
                )
            ]
            mean = [
                np.mean(values)
                for values in (
                    [f.capacity for f in found], [f.details["plug_in_capacity"] for f in found],
                    [f.rate for f in found], [f.details["plug_in_rate"] for f in found],
                )
            ]  # fmt: skip
            k = args.draws
            print(
                f"| {case.name} | {n} | {capacity:.1f} | {mean[0]:.1f} | {mean[1]:.1f} | {inside[0]}/{k} | {rate:.1f} "
                f"| {mean[2]:.1f} | {mean[3]:.1f} | {inside[1]}/{k} | {warned}/{k} | {seconds:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
