r"""What the published recipe for a layer's capacity measures: how it grows with the sample, beside views that do not.

    python benchmarks/deb2025.py
    python benchmarks/deb2025.py --sizes 200 1000 4000 16000

Three scalar layers of standard normal input, in bits. ``deb2025`` has rows p(y|x) and a converged solver; "published
orientation" is the same density with rows p(x|y), as in the authors' code, converged too. The other two views are under
stated noise of variance 0.01, which is what a number of bits needs to mean something; seconds are those of deb2025. No
network.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from infogeo import (
    EstimateWarning,
    LayerCapacity,
    blahut_arimoto,
    deb2025_capacity,
    jacobian_capacity,
    linear_gaussian_capacity,
)
from infogeo.capacity.deb2025 import kernel_joint

Map = Callable[[np.ndarray], np.ndarray]

LAYERS: dict[str, tuple[Map, Map]] = {
    "y = x": (lambda x: x, np.ones_like),
    "y = tanh x": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "y = relu x": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
}
"""Each layer and its derivative."""

NOISE = 0.01
"""Variance of the stated noise."""


def published_orientation(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    """Capacity in bits of the channel with rows p(x|y), converged."""
    joint = kernel_joint(x, y, bandwidth, 100).T
    mass = joint.sum(axis=1)
    reached = mass > 1e-250
    return float(blahut_arimoto(joint[reached] / mass[reached, None], unit="bits").capacity)


def shown(found: LayerCapacity) -> str:
    """Capacity with the half width of its interval."""
    low, high = found.capacity_interval or (np.nan, np.nan)
    return f"{found.capacity:6.3f} ± {(high - low) / 2:5.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 4000])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    print("| layer | n | bandwidth | deb2025 | published orientation | linear_gaussian | jacobian | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (layer, slope) in LAYERS.items():
        for n in args.sizes:
            x = np.random.default_rng(args.seed).normal(size=n)
            y = layer(x)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EstimateWarning)
                start = time.process_time()
                found = deb2025_capacity(x, y)
                seconds = time.process_time() - start
                linear = linear_gaussian_capacity(x, y, noise=NOISE, power=1.0, unit="bits")
                local = jacobian_capacity(slope(x)[:, None, None], noise_cov=NOISE, power=1.0, unit="bits")
            width = found.details["bandwidth"]
            print(
                f"| {name} | {n} | {width:.3f} | {found.capacity:.3f} | {published_orientation(x, y, width):.3f} "
                f"| {shown(linear)} | {shown(local)} | {seconds:.1f} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
