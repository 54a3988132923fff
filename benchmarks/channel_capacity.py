"""Capacity of discrete channels: error and seconds of infogeo, dit, komm and the most-starred script, in one run.

The channels are made here: random ones (rows Dirichlet), closed forms, and a channel of limited amplitude with Gaussian
noise on a grid. The truth is infogeo's own upper bound at a gap of 1e-12 bits, which holds whoever computed it: it is
checked against the closed forms, and with --reference against the certified values of capacity.json. A peer that is not
installed is left out; each call is stopped after --seconds. komm and dit take one channel at a time, so a stack of 512
is a loop for them. The script is github.com/kobybibas/blahut_arimoto_algorithm, of which --script names a copy::

    python benchmarks/channel_capacity.py --runs 3 --script blahut_arimoto_algorithm.py

Exit status 1 if infogeo misses a target: a gap of at most 1e-9 bits everywhere, 1000 x 1000 in 5 s, 512 channels of
8 x 8 in 0.1 s.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from infogeo import blahut_arimoto

Solver = Callable[[np.ndarray], float]
GAP = 1e-9


class TooSlow(Exception):
    """A call was stopped."""


def dirichlet(n: int, m: int, seed: int, spread: float = 1.0) -> np.ndarray:
    """A random channel."""
    return np.random.default_rng(seed).dirichlet(spread * np.ones(m), size=n)


def amplitude_limited() -> np.ndarray:
    """Amplitudes from -3 to 3 with Gaussian noise of deviation 0.5, on a grid."""
    x, y = np.linspace(-3, 3, 201), np.linspace(-5, 5, 401)
    w = np.exp(-((y - x[:, None]) ** 2) / (2 * 0.5**2))
    return np.asarray(w / w.sum(axis=1, keepdims=True))


def z_bits(p: float) -> float:
    """Closed form of the Z-channel."""
    return math.log2(1 + (1 - p) * p ** (p / (1 - p)))


def channels() -> dict[str, tuple[np.ndarray, float | None]]:
    """Channels by name, with the closed form where there is one."""
    return {
        "symmetric 0.11": (np.array([[0.89, 0.11], [0.11, 0.89]]), 0.500084041835472),
        "erasure 0.1": (np.array([[0.9, 0.1, 0], [0, 0.1, 0.9]]), 0.9),
        "Z 0.5": (np.array([[1, 0], [0.5, 0.5]]), z_bits(0.5)),
        "Z 0.99": (np.array([[1, 0], [0.99, 1 - 0.99]]), z_bits(0.99)),
        "random 8x8": (dirichlet(8, 8, 8), None),
        "random 64x64": (dirichlet(64, 64, 64), None),
        "random 256x256": (dirichlet(256, 256, 256), None),
        "random 1000x1000": (dirichlet(1000, 1000, 1000), None),
        "sparse 64x64": (dirichlet(64, 64, 64, 0.1), None),
        "random 8x100": (dirichlet(8, 100, 1), None),
        "random 100x8": (dirichlet(100, 8, 2), None),
        "amplitude 201x401": (amplitude_limited(), None),
    }


def peers(script: Path | None) -> dict[str, Solver]:
    """Functions from a channel to bits, of the peers that are there."""
    found: dict[str, Solver] = {}
    if importlib.util.find_spec("dit"):
        from dit.algorithms.channelcapacity import channel_capacity

        found["dit"] = lambda w: float(channel_capacity(w)[0])
    if importlib.util.find_spec("komm"):
        import komm

        found["komm"] = lambda w: float(komm.DiscreteMemorylessChannel(w).capacity())
    if script is not None:
        # only its function: the file is an exported notebook that runs examples
        source = script.read_text(encoding="utf-8")
        start = source.index("def blahut_arimoto")
        end = source.index("    return c, r", start) + len("    return c, r")
        scope: dict[str, Any] = {"np": np}
        exec(source[start:end], scope)  # noqa: S102  # the user named the file to be run
        found["script"] = lambda w: float(scope["blahut_arimoto"](w)[0])
    return found


def timed(solver: Solver, w: np.ndarray, *, runs: int, seconds: float) -> tuple[float | str, float]:
    """What a solver finds (or why not) and the median of its seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    took, value = [], math.nan
    signal.signal(signal.SIGALRM, stop)
    for _ in range(runs):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = solver(w)
        except TooSlow:
            return f"> {seconds:.0f} s", math.inf
        except Exception as error:  # whatever a peer raises is its result
            return type(error).__name__, math.nan
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took.append(time.perf_counter() - start)
        if took[-1] > 10:
            break
    return value, statistics.median(took)


def check_reference(folder: Path) -> None:
    """Raise unless the certified values of capacity.json are met."""
    entries = json.loads((folder / "capacity.json").read_text(encoding="utf-8"))["channels"]
    worst = gap = 0.0
    count = 0
    for entry in entries:
        recipe, cost = entry["generator"], {}
        if "Lagrange" in recipe:
            w = np.array([[0.9, 0.1], [0.1, 0.9]])
            cost = {"cost": [0, 1], "budget": entry["cost"]}
        elif recipe.startswith("x="):
            w = amplitude_limited()
        else:
            w = np.asarray(eval(recipe, {"numpy": np}), dtype=np.float64)  # noqa: S307  # the file's own recipe
        found = blahut_arimoto(w, unit="bits", tol=GAP, **cost)
        gap = max(gap, float(found.upper - found.lower))
        worst = max(worst, abs(float(blahut_arimoto(w, unit="bits", tol=1e-11, **cost).lower) - entry["capacity_bits"]))
        count += 1
    print(f"capacity.json: {count} channels, largest gap {gap:.1e} bits at tol 1e-9, largest error {worst:.1e} bits at "
          "tol 1e-11")


def main() -> int:
    """Print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each solver, of which the median counts")
    parser.add_argument("--seconds", type=float, default=60, help="when a peer's call is stopped")
    parser.add_argument("--script", type=Path, help="a copy of the most-starred script")
    parser.add_argument("--reference", type=Path, help="folder with capacity.json")
    arguments = parser.parse_args()
    others = peers(arguments.script)
    missing = [name for name in ("dit", "komm", "script") if name not in others]
    if missing:
        print(f"left out, since not there: {', '.join(missing)}")
    print("error in bits (value less truth) and median seconds; the gap is infogeo's certificate")
    names = "".join(f"{name:>24}" for name in others)
    print(f"{'channel':20}{'capacity':>16}{'gap':>9}{'steps':>6}{'seconds':>9}{names}")
    missed: list[str] = []
    for name, (w, closed) in channels().items():
        truth = float(blahut_arimoto(w, unit="bits", tol=1e-12).upper)
        if closed is not None and abs(truth - closed) > 1e-11:
            missed.append(f"{name}: {truth} against the closed form {closed}")
        value, seconds = timed(lambda w: float(blahut_arimoto(w, unit="bits", tol=GAP).lower), w,
                               runs=arguments.runs, seconds=600)
        found = blahut_arimoto(w, unit="bits", tol=GAP)
        gap = float(found.upper - found.lower)
        line = f"{name:20}{truth:16.12f}{gap:9.1e}{found.iterations:6d}{seconds:9.4f}"
        if not (isinstance(value, float) and gap <= GAP and abs(value - truth) <= GAP):
            missed.append(f"{name}: gap {gap:.1e}, error {value}")
        if name == "random 1000x1000" and seconds > 5:
            missed.append(f"{name}: {seconds:.1f} s")
        for solver in others.values():
            other, took = timed(solver, w, runs=arguments.runs, seconds=arguments.seconds)
            shown = other if isinstance(other, str) else f"{other - truth:+.1e} in {took:.4f}"
            line += f"{shown:>24}"
        print(line, flush=True)
    stack = np.random.default_rng(0).dirichlet(np.ones(8), size=(512, 8))

    def batch(w: np.ndarray) -> float:
        return float((lambda r: (r.upper - r.lower).max())(blahut_arimoto(w, unit="bits", tol=GAP)))

    batch(stack)
    gap, seconds = timed(batch, stack, runs=max(3, arguments.runs), seconds=600)
    if not (isinstance(gap, float) and gap <= GAP and seconds <= 0.1):
        missed.append(f"512 channels of 8x8: gap {gap}, {seconds:.3f} s")
    line = f"{'512 of 8x8':20}{'':16}{gap:9.1e}{'':6}{seconds:9.4f}"
    truths = blahut_arimoto(stack, unit="bits", tol=1e-12).upper
    for solver in others.values():

        def loop(w: np.ndarray, solver: Solver = solver) -> float:
            values = np.array([solver(one) for one in w])
            return float(values[np.argmax(np.abs(values - truths))] - truths[np.argmax(np.abs(values - truths))])

        other, took = timed(loop, stack, runs=1, seconds=2 * arguments.seconds)
        shown = other if isinstance(other, str) else f"{other:+.1e} in {took:.4f}"
        line += f"{shown:>24}"
    print(line)
    if arguments.reference is not None:
        check_reference(arguments.reference)
    print("targets met" if not missed else "targets missed: " + "; ".join(missed))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
