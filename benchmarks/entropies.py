"""Entropies of one uniform sample by infogeo and by infomeasure, and k-nearest-neighbor errors by dimension.

    python benchmarks/entropies.py

The peer is left out, and said to be, where it is not installed.
"""

from __future__ import annotations

import math
import time
import warnings

import numpy as np

from infogeo import EstimateWarning, estimate_entropy, kozachenko_leonenko_entropy

NAMES = {
    "plug_in": "discrete",
    "miller_madow": "miller_madow",
    "grassberger": "grassberger",
    "chao_shen": "chao_shen",
    "chao_wang_jost": "chao_wang_jost",
    "james_stein": "shrink",
    "nsb": "nsb",
}


def main() -> None:
    """Print the comparison."""
    warnings.simplefilter("ignore", EstimateWarning)
    try:
        import infomeasure
    except ImportError:
        infomeasure = None
        print("infomeasure is not installed: its columns are empty; pip install infomeasure")
    print(f"log 100 = {math.log(100):.4f} nats; infogeo with the 100 symbols there are, and with those seen")
    print(f"{'n':>5} {'method':15} {'infogeo':>9} {'seen':>9} {'ms':>7} {'infomeasure':>12} {'ms':>7}")
    for n in (100, 1000):
        x = np.random.default_rng(0).integers(100, size=n)
        row(n, np.bincount(x, minlength=100), infomeasure)
    print("two symbols seen once and sixty seen twice, by the default:")
    row(122, np.array([1] * 2 + [2] * 60), infomeasure, only="chao_wang_jost")
    print("error of the nearest-neighbor entropy of normal samples, n = 1000, k = 3, maximum norm")
    for d in (1, 5, 20):
        x = np.random.default_rng(0).standard_normal((1000, d))
        exact = d / 2 * math.log(2 * math.pi * math.e)
        theirs = infomeasure.entropy(x, approach="metric", k=3) - exact if infomeasure else math.nan
        ours = [kozachenko_leonenko_entropy(x, norm=norm) - exact for norm in ("max", "euclidean")]
        print(f"d = {d:2}: infogeo {ours[0]:+.3f} (Euclidean {ours[1]:+.3f}), infomeasure {theirs:+.3f}")


def row(n: int, counts: np.ndarray, infomeasure, only: str | None = None) -> None:
    """Print one line for each method."""
    samples = np.repeat(np.arange(len(counts)), counts)
    for method, name in NAMES.items():
        if only not in (None, method):
            continue
        start = time.perf_counter()
        ours = estimate_entropy(counts, method=method)
        middle = time.perf_counter()
        theirs = float(infomeasure.entropy(samples, approach=name)) if infomeasure else math.nan
        end = time.perf_counter()
        seen = estimate_entropy(counts[counts > 0], method=method)
        print(f"{n:5} {method:15} {ours:9.4f} {seen:9.4f} {1e3 * (middle - start):7.2f} {theirs:12.4f} "
              f"{1e3 * (end - middle):7.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
