"""Accuracy of the exact Fisher-Rao distance of full normals against extended precision.

    python benchmarks/normal_accuracy.py            a few minutes; --quick for one
    python benchmarks/normal_accuracy.py --reference FOLDER   also reference files mvn_*.json, where you have them

Part one makes pairs of known distance with the matrix exponential of Eriksen 1987 in mpmath, moves them by a random
affine map and rounds them to float64. Rounding moves the ends; the change of the distance is added to first order, from
the velocities at both ends, in extended precision too, and the condition of the map is kept so small that the second
order does not matter. Part two takes random pairs, with condition numbers to 1e12 and distances from 1e-9 to 40, and
minimizes over the fibre in mpmath, from every combination of two starts (tests/normal_oracle.py).
Errors are relative to the exact distance of the float64 numbers. Also counted: how often the estimate
``relative_error`` was too small, and how often the value came with an error message in place of itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

from infogeo import Gaussian, normal_geodesic

DIGITS = 70


def oracle() -> Any:
    """The slow route of the tests."""
    path = Path(__file__).parent.parent / "tests" / "normal_oracle.py"
    spec = importlib.util.spec_from_file_location("normal_oracle", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing; run this in a checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def symmetric(a: np.ndarray) -> np.ndarray:
    """The symmetric part."""
    return (a + a.T) / 2


def conditioned(rng: np.random.Generator, d: int, condition: float) -> np.ndarray:
    """A matrix with a condition number, and singular vectors in general position."""
    q, r = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    half = np.log(condition) / 2
    logs = rng.uniform(-half, half, size=d)
    logs[0], logs[-1] = half, -half
    return q * np.exp(logs) @ r


def to_float(a: Any) -> np.ndarray:
    """A float64 array from a matrix of mpmath."""
    return np.array([[float(a[i, j]) for j in range(a.cols)] for i in range(a.rows)])


def known_pair(
    rng: np.random.Generator, d: int, length: float, condition: float, balance: float
) -> tuple[Gaussian, Gaussian, Any]:
    """Two normals in float64 and their distance; ``balance`` is the share of the mean in the squared velocity."""
    x, b = rng.normal(size=d), symmetric(rng.normal(size=(d, d)))
    x *= np.sqrt(balance) / np.linalg.norm(x)
    b *= np.sqrt(2 * (1 - balance)) / np.linalg.norm(b)
    with mp.workdps(DIGITS):
        xs, bs = mp.matrix((length * x).tolist()), mp.matrix((length * b).tolist())
        a = mp.zeros(2 * d + 1)
        for i in range(d):
            a[i, d] = a[d, i] = xs[i]
            a[d, d + 1 + i] = a[d + 1 + i, d] = -xs[i]
            for j in range(d):
                a[i, j], a[d + 1 + i, d + 1 + j] = -bs[i, j], bs[i, j]
        values, q = mp.eigsy(a)
        g = q * mp.diag([mp.exp(v) for v in values]) * q.T
        slope = a * g
        precision, falling = g[:d, :d], slope[:d, :d]
        cov = precision**-1
        mean = cov * g[:d, d]
        mean_rate = -cov * falling * mean + cov * slope[:d, d]
        total = mp.sqrt(mp.fsum(v * v for v in xs) + mp.fsum(v * v for v in bs) / 2)
        move = mp.matrix(conditioned(rng, d, np.sqrt(condition)).tolist())
        back = move**-1
        origin = mp.matrix(rng.normal(size=d).tolist())
        exact = [(origin, move * move.T), (move * mean + origin, move * cov * move.T)]
        rounded = [(np.array([float(v) for v in m]), symmetric(to_float(s))) for m, s in exact]
        # first variation: the covectors of the distance at both ends, in the coordinates of the exponential
        slopes = [(-xs / total, -bs / (2 * total)), (precision * mean_rate / total, -falling / (2 * total))]
        change = mp.mpf(0)
        for (m, s), (low_m, low_s), (by_mean, by_cov) in zip(exact, rounded, slopes, strict=True):
            shift = back * (mp.matrix(low_m.tolist()) - m)
            spread = back * (mp.matrix(low_s.tolist()) - s) * back.T
            change += mp.fsum(u * v for u, v in zip(by_mean, shift, strict=True))
            change += mp.fsum(by_cov[i, j] * spread[i, j] for i in range(d) for j in range(d))
        return Gaussian(*rounded[0]), Gaussian(*rounded[1]), total + change


class Tally:
    """Worst errors of a row of the table."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.symmetry = 0.0
        self.low = self.refused = 0

    def add(self, p: Gaussian, q: Gaussian, known: Any) -> None:
        found, back = normal_geodesic(p, q, strict=False), normal_geodesic(q, p, strict=False)
        if not found.converged:
            self.refused += 1
            return
        error = abs(float(found.distance / known - 1))
        self.errors.append(error)
        self.low += error > float(found.relative_error) + 4e-15
        if back.converged:
            self.symmetry = max(self.symmetry, abs(float(back.distance / found.distance - 1)))

    def row(self) -> str:
        if not self.errors:
            return f"{'-':>10} {'-':>10} {'-':>10} {self.low:8d} {self.refused:8d} {self.refused:6d}"
        return (
            f"{max(self.errors):10.1e} {np.median(self.errors):10.1e} {self.symmetry:10.1e} {self.low:8d} "
            f"{self.refused:8d} {len(self.errors) + self.refused:6d}"
        )


HEADER = f"{'worst':>10} {'median':>10} {'symmetry':>10} {'too low':>8} {'refused':>8} {'pairs':>6}"


def known_distances(quick: bool) -> None:
    """Pairs made by the matrix exponential."""
    print("\nPairs of known distance (matrix exponential), moved by maps of condition 1;")
    print("at distances 1 and 5 also of 1e3 and 1e6, at 10 also of 1e3")
    print(f"{'d':>4} {'distance':>9} {HEADER}")
    sizes = ((1, 4), (2, 4), (5, 2)) if quick else ((1, 8), (2, 8), (3, 6), (5, 4), (8, 3), (16, 1), (32, 1))
    for d, n in sizes:
        for length in (1e-9, 1e-6, 1e-3, 1.0, 5.0, 10.0):
            tally = Tally()
            rng = np.random.default_rng(d)
            for condition in (1.0,) if length < 1 else (1.0, 1e3, 1e6) if length < 10 else (1.0, 1e3):
                for _ in range(n):
                    tally.add(*known_pair(rng, d, length, condition, rng.uniform(0.05, 0.95)))
            print(f"{d:4d} {length:9.0e} {tally.row()}", flush=True)
    if not quick:
        tally = Tally()
        tally.add(*known_pair(np.random.default_rng(64), 64, 3.0, 1e3, 0.5))
        print(f"{64:4d} {3.0:9.0e} {tally.row()}")


def random_pairs(quick: bool) -> None:
    """Pairs whose distance the slow route finds."""
    print("\nRandom pairs (minimum over the fibre in extended precision), condition numbers 1 to 1e12")
    print(f"{'d':>4} {'distance':>9} {HEADER} {'oracle higher':>14}")
    slow = oracle()
    for d, n in ((2, 40 if quick else 200), (3, 2 if quick else 12)):
        rng = np.random.default_rng(d)
        tallies = {name: Tally() for name in ("1e-9", "1e-6", "1e-3")}
        for name, tally in tallies.items():
            for _ in range(max(3, n // 10)):
                a, e = conditioned(rng, d, 10 ** rng.uniform(0, 6)), symmetric(rng.normal(size=(d, d)))
                p = Gaussian(rng.normal(size=d), symmetric(a @ a.T))
                q = Gaussian(
                    p.mean + float(name) * a @ rng.normal(size=d), symmetric(p.cov + float(name) * a @ e @ a.T)
                )
                tally.add(p, q, slow.fibre_distance(p.mean, p.cov, q.mean, q.cov, digits=100))
            print(f"{d:4d} {name:>9} {tally.row()} {0:14d}", flush=True)
        tallies = {"to 10": Tally(), "to 20": Tally(), "to 40": Tally(), "beyond": Tally()}
        higher = dict.fromkeys(tallies, 0)
        for _ in range(n):
            p, q = (
                Gaussian(m, symmetric(a @ a.T))
                for m, a in (
                    (scale * rng.normal(size=d), conditioned(rng, d, 10 ** rng.uniform(0, 6)))
                    for scale in (0.0, 10 ** rng.uniform(-4, 4))
                )
            )
            known = slow.fibre_distance(p.mean, p.cov, q.mean, q.cov, digits=100)
            found = float(normal_geodesic(p, q, strict=False).distance)
            name = next(n for n, top in zip(tallies, (10, 20, 40, np.inf), strict=True) if found <= top)
            if float(found / known - 1) < -1e-8:  # the slow route ended in a minimum that is not the least
                higher[name] += 1
                continue
            tallies[name].add(p, q, known)
        for name, tally in tallies.items():
            print(f"{d:4d} {name:>9} {tally.row()} {higher[name]:14d}", flush=True)


def reference(folder: Path) -> None:
    """Pairs of reference files."""
    print("\nReference files")
    for name in ("mvn_fisher_rao.json", "mvn_by_shooting.json"):
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        tally = Tally()
        for pair in found["pairs"] if isinstance(found, dict) else found:
            p = Gaussian(np.atleast_1d(pair["mean1"]), np.atleast_2d(pair["cov1"]))
            q = Gaussian(np.atleast_1d(pair["mean2"]), np.atleast_2d(pair["cov2"]))
            tally.add(p, q, float(pair["distance"]))
        print(f"{name}: worst {max(tally.errors):.1e}, symmetric to {tally.symmetry:.1e}, {len(tally.errors)} pairs")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and dimensions")
    parser.add_argument("--reference", type=Path, help="folder with mvn_fisher_rao.json and mvn_by_shooting.json")
    arguments = parser.parse_args()
    start = time.perf_counter()
    known_distances(arguments.quick)
    random_pairs(arguments.quick)
    if arguments.reference is not None:
        reference(arguments.reference)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
