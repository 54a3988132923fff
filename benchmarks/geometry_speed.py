"""The geometry core against what bounds it and against geomstats, side by side in one run.

All pairs of a batch with ``infogeo.pairwise(fisher_rao_distance, batch)``: univariate and diagonal normals beside as
many logarithms with NumPy, normals of one covariance and categorical distributions beside the matrix product that
they rest on. geomstats stands beside the first two, by its fastest route (``dist`` broadcast, in blocks of rows);
where that takes minutes a part of the rows is timed and the rest extrapolated, which the table says. The contestants
take turns; medians are compared. Exact full normals are counted in pairs per second, beside shooting the geodesic
equation with SciPy to the same accuracy ::

    python benchmarks/geometry_speed.py --runs 5
    python benchmarks/geometry_speed.py --device cuda      # infogeo on tensors, limits with torch

NumPy computes logarithms on one thread; the table has them on as many threads as infogeo used, too. Set
``OMP_NUM_THREADS`` for matrix products, before the start. All results are written into memory that is there already:
what its first touch costs depends on the machine. With ``--check`` the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo import (
    Categorical,
    DiagonalGaussian,
    Family,
    Gaussian,
    SharedCovarianceGaussian,
    fisher_rao_distance,
    pairwise,
)
from infogeo.pairwise import available_threads

NEAR_MEMBERS, NEAR_STEP = 10, 1e-6
"""So many members of a batch are repeated a small step away, to see what is left of the digits of near neighbors."""


@dataclass(frozen=True)
class Sizes:
    """How large the cases are."""

    univariate: int = 5000
    diagonal: tuple[int, int] = (500, 384)
    shared: tuple[int, int] = (10_000, 384)
    categorical: tuple[int, int] = (1000, 30_000)
    full: tuple[tuple[int, int], ...] = ((5, 200), (20, 200))
    """(dimension, pairs)"""
    shooting: int = 5
    """dimension of the one pair that is shot"""
    peer_rows: int = 20
    """rows of the diagonal case that geomstats computes"""


QUICK = Sizes(1500, (150, 128), (2500, 128), (300, 8000), ((5, 50), (20, 20)), 3, 10)
TINY = Sizes(60, (12, 6), (40, 8), (15, 40), ((2, 4),), 1, 3)


@dataclass
class Case:
    """One case: contestants by name, each a call, and what is compared with what."""

    name: str
    contestants: dict[str, Callable[[], Any]]
    ours: str
    limits: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    """name of the contestant to a limiting operation: what it is, and the ratio that is allowed"""
    scale: dict[str, float] = field(default_factory=dict)
    """contestants that do a part of the work: by what their time is multiplied"""
    peer_target: float | None = None
    notes: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------ time


def touched(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for a result that has been written to once: what the first touch costs depends on the machine's mood."""
    result = np.empty(shape)
    result.fill(0.0)
    return result


def take_turns(contestants: dict[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Median seconds of each, after two calls that are not counted (memory is slow the first time it is touched)."""
    for call in 2 * list(contestants.values()):
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def logarithms(count: int, threads: int, rng: np.random.Generator) -> dict[str, Callable[[], Any]]:
    """NumPy's logarithm of so many numbers, as one call, and in as many parts as there are threads."""
    numbers, result = np.exp(rng.standard_normal(count)), touched((count,))
    calls: dict[str, Callable[[], Any]] = {f"np.log of {count:,} numbers": lambda: np.log(numbers, out=result)}
    if threads > 1:
        pool = ThreadPoolExecutor(threads)
        parts, results = np.array_split(numbers, threads), np.array_split(result, threads)
        calls[f"the same on {threads} threads"] = lambda: list(pool.map(np.log, parts, results))
    return calls


# ------------------------------------------------------------------------------------------------- contestants


def with_near(parameters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same parameters, the last members replaced by the first ones, moved by a small step."""
    n = min(NEAR_MEMBERS, len(parameters) // 2)
    moved = parameters.copy()
    moved[-n:] = parameters[:n] + NEAR_STEP * rng.standard_normal(parameters[:n].shape)
    return moved


def diagonal_batch(n: int, d: int, rng: np.random.Generator) -> DiagonalGaussian:
    """Normals with standard normal means and logarithms of variances."""
    mean, log_var = (with_near(rng.standard_normal((n, d)), rng) for _ in range(2))
    return DiagonalGaussian(mean, np.exp(log_var))


def on_device(x: Family, device: str | None) -> Family:
    """The batch as tensors on a device, or as it is."""
    if device is None:
        return x
    import torch

    values = {f.name: getattr(x, f.name) for f in dataclasses.fields(x) if f.init}  # type: ignore[arg-type]
    return type(x)(**{n: torch.tensor(v, device=device) if isinstance(v, np.ndarray) else v for n, v in values.items()})


def all_pairs(x: Family, threads: int | None, device: str | None) -> Callable[[], Any]:
    """The contestant: pairwise on the batch, with threads, or on tensors on a device."""
    if device is None:
        result = touched((len(x), len(x)))
        return lambda: pairwise(fisher_rao_distance, x, threads=threads, out=result)
    import torch

    tensors = on_device(x, device)

    def call() -> Any:
        values = pairwise(fisher_rao_distance, tensors)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return values

    return call


def limit_product(vectors: np.ndarray, device: str | None) -> dict[str, Callable[[], Any]]:
    """Product of a matrix with its own transpose (of which BLAS computes half) and with that of another."""
    other = vectors.copy()
    if device is None:
        result = touched((len(vectors), len(vectors)))
        return {
            "X @ X.T": lambda: np.matmul(vectors, vectors.T, out=result),
            "X @ Y.T": lambda: np.matmul(vectors, other.T, out=result),
        }
    import torch

    a, b = torch.tensor(vectors, device=device), torch.tensor(other, device=device)

    def call() -> Any:
        product = a @ b.T
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return product

    return {"X @ Y.T": call}


def geomstats_metric(d: int) -> Any:
    """The metric of univariate or diagonal normals in geomstats; an ImportError where it is missing."""
    import os

    os.environ.setdefault("GEOMSTATS_BACKEND", "numpy")
    from geomstats.information_geometry.normal import NormalDistributions

    kind = {} if d == 1 else {"distribution_type": "diagonal"}
    return NormalDistributions(sample_dim=d, **kind).metric


def add_geomstats(case: Case, x: DiagonalGaussian, rows: int) -> None:
    """The peer, or a note on why it is missing."""
    try:
        metric = geomstats_metric(x.dimension)
    except Exception as error:  # an import that breaks in any way leaves a table without a peer
        case.notes.append(f"geomstats left out: {type(error).__name__}: {error}")
        return
    n = len(x)
    scale = np.sqrt(x.var) if x.dimension == 1 else x.var
    points = np.concatenate([x.mean, scale], axis=1)
    block = max(1, 2_000_000 // (n * x.dimension**2)) if x.dimension > 1 else 200

    def broadcast() -> None:
        for i in range(0, rows, block):
            metric.dist(points[i : min(i + block, rows), None], points[None])

    case.contestants["geomstats, dist in blocks of rows"] = broadcast
    case.scale["geomstats, dist in blocks of rows"] = n / rows
    few = points[: min(n, 12)]
    case.contestants["geomstats, dist_pairwise"] = lambda: metric.dist_pairwise(few)
    case.scale["geomstats, dist_pairwise"] = n * (n - 1) / (len(few) * (len(few) - 1))
    if rows < n:
        case.notes.append(f"geomstats: dist timed on {rows} of {n} rows, extrapolated")
    case.notes.append(f"geomstats: dist_pairwise timed on {len(few)} members, extrapolated by the number of pairs")


def normal_cases(sizes: Sizes, threads: int, device: str | None) -> list[Case]:
    """Univariate and diagonal normals."""
    cases = []
    for name, n, d, allowed, peer in (
        ("univariate", sizes.univariate, 1, 2.0, 20.0),
        ("diagonal", *sizes.diagonal, 3.0, 50.0),
    ):
        rng = np.random.default_rng(0)
        x = diagonal_batch(n, d, rng)
        ours = f"infogeo, {threads} thread{'s' * (threads > 1)}" if device is None else f"infogeo on {device}"
        case = Case(f"{name}: all pairs of {n:,} in {d} dimensions", {ours: all_pairs(x, threads, device)}, ours)
        case.peer_target = peer
        if device is None and threads > 1:
            case.contestants["infogeo, 1 thread"] = all_pairs(x, 1, None)
        pairs = n * (n - 1) // 2 * d
        for number, target in ((pairs, allowed), (n * n * d, None)):
            for label, call in logarithms(number, threads, rng).items():
                label = label if label.startswith("np") else f"{label} ({number:,})"
                case.contestants[label] = call
                case.limits[label] = (label, target if label.startswith("np") else None)
            if d > 1:
                break
        add_geomstats(case, x, n if d == 1 else min(n, sizes.peer_rows))
        case.notes.append(accuracy(pairwise(fisher_rao_distance, x), x, exact_diagonal))
        cases.append(case)
    return cases


def product_cases(sizes: Sizes, threads: int, device: str | None) -> list[Case]:
    """Normals of one covariance and categorical distributions."""
    rng = np.random.default_rng(1)
    n, d = sizes.shared
    factor = rng.standard_normal((d, 2 * d))
    shared = SharedCovarianceGaussian(with_near(rng.standard_normal((n, d)), rng), factor @ factor.T / (2 * d))
    m, outcomes = sizes.categorical
    categorical = Categorical.from_logits(with_near(2 * rng.standard_normal((m, outcomes)), rng))
    cases = []
    for x, name, vectors, exact in (
        (shared, f"one covariance: all pairs of {n:,} in {d} dimensions", shared.mean, exact_shared),
        (
            categorical, f"categorical: all pairs of {m:,} over {outcomes:,} outcomes", categorical.log_probs,
            exact_roots,
        ),
    ):
        ours = f"infogeo, {threads} thread{'s' * (threads > 1)}" if device is None else f"infogeo on {device}"
        case = Case(name, {ours: all_pairs(x, threads, device)}, ours)
        for label, call in limit_product(np.array(vectors), device).items():
            case.contestants[label] = call
            case.limits[label] = (label, 1.5)
        case.notes.append(accuracy(pairwise(fisher_rao_distance, x), x, exact))
        cases.append(case)
    return cases


# ---------------------------------------------------------------------------------------------------- accuracy


def exact_diagonal(p: DiagonalGaussian, q: DiagonalGaussian) -> float:
    """The arsinh formula in the longest floating-point type, with differences of roots from those of the variances."""
    m, n, v, w = (np.asarray(a, dtype=np.longdouble) for a in (p.mean, q.mean, p.var, q.var))
    s, t = np.sqrt(v), np.sqrt(w)
    spread = (v - w) / (s + t)
    parts = np.arcsinh(np.sqrt(((m - n) ** 2 / 2 + spread**2) / (4 * s * t)))
    return float(np.sqrt(8 * (parts**2).sum()))


def exact_shared(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> float:
    """By the pair: a triangular solve of the difference of the means."""
    return float(fisher_rao_distance(p, q))


def exact_roots(p: Categorical, q: Categorical) -> float:
    """From the chord and the sum of square roots of probabilities, in the longest floating-point type."""
    a, b = (np.asarray(x.log_probs, dtype=np.longdouble) / 2 for x in (p, q))
    chord, across = np.exp(b) * np.expm1(a - b), np.exp(a) + np.exp(b)
    return float(4 * np.arctan2(np.sqrt((chord**2).sum()), np.sqrt((across**2).sum())))


def accuracy(values: np.ndarray, x: Any, exact: Callable[[Any, Any], float], samples: int = 40) -> str:
    """Largest relative error of sampled entries and of all near pairs, as a note."""
    n, rng = len(x), np.random.default_rng(2)
    near = min(NEAR_MEMBERS, n // 2)
    at = [(int(i), int(j)) for i, j in rng.integers(0, n, (samples, 2)) if i != j]
    close = [(i, n - near + i) for i in range(near)]
    worst = [max(abs(values[i, j] / exact(x[i], x[j]) - 1) for i, j in places) for places in (at, close)]
    if max(worst) > 1e-7:
        raise SystemExit(f"the fast result is wrong: relative error {max(worst):.1e}, wanted 1e-7")
    return (
        f"relative error {worst[0]:.0e} at {len(at)} sampled entries, {worst[1]:.0e} at {near} pairs about "
        f"{values[close[0]]:.0e} apart"
    )


# ---------------------------------------------------------------------------------------------- exact full normals


def full_pairs(d: int, pairs: int, rng: np.random.Generator) -> tuple[Gaussian, Gaussian]:
    """Random full normals: logarithms of eigenvalues uniform from -0.8 to 0.8, means standard normal."""
    sides = []
    for _ in range(2):
        basis = np.linalg.qr(rng.standard_normal((pairs, d, d)))[0]
        values = np.exp(rng.uniform(-0.8, 0.8, (pairs, d)))
        cov = (basis * values[:, None, :]) @ np.swapaxes(basis, 1, 2)
        sides.append(Gaussian(rng.standard_normal((pairs, d)), (cov + np.swapaxes(cov, 1, 2)) / 2))
    return sides[0], sides[1]


def shoot(p: Gaussian, q: Gaussian) -> float:
    """Length of the geodesic between two normals, its initial velocity found by least squares on the end point.

    The equations are m'' = S' S^-1 m' and S'' = S' S^-1 S' - m' m'^T (Skovgaard 1984).
    """
    from scipy.integrate import solve_ivp
    from scipy.optimize import least_squares

    d = p.dimension
    rows, columns = np.tril_indices(d)

    def unpack(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cov = np.zeros((d, d))
        cov[rows, columns] = cov[columns, rows] = flat[d:]
        return flat[:d], cov

    def pack(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
        return np.concatenate([mean, cov[rows, columns]])

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        (_, cov), (rate, change) = (unpack(part) for part in np.split(state, 2))
        turned = np.linalg.solve(cov, np.column_stack([rate, change]))
        return np.concatenate([
            pack(rate, change), pack(change @ turned[:, 0], change @ turned[:, 1:] - np.outer(rate, rate))
        ])

    start, end = pack(p.mean, p.cov), pack(q.mean, q.cov)

    def miss(velocity: np.ndarray) -> np.ndarray:
        path = solve_ivp(slope, (0, 1), np.concatenate([start, velocity]), method="DOP853", rtol=1e-10, atol=1e-12)
        return np.asarray(path.y[: len(end), -1] - end)

    found = least_squares(miss, end - start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    rate, change = unpack(found.x)
    turned = np.linalg.solve(p.cov, np.column_stack([rate, change]))
    return float(np.sqrt(rate @ turned[:, 0] + np.trace(turned[:, 1:] @ turned[:, 1:]) / 2))


def report_full(sizes: Sizes, runs: int) -> bool:
    """Pairs per second of the exact full normal distance, if it is there; whether the targets are met."""
    print("\nexact full normals")
    if Gaussian not in fisher_rao_distance.families:
        print("  left out: fisher_rao_distance has no kernel for Gaussian")
        return True
    targets, met, rng = {5: 2000.0, 20: 100.0}, True, np.random.default_rng(3)
    for d, pairs in sizes.full:
        p, q = full_pairs(d, pairs, rng)
        seconds = take_turns({"ours": lambda p=p, q=q: fisher_rao_distance(p, q)}, runs)["ours"]  # type: ignore[misc]
        target = targets.get(d)
        met &= target is None or pairs / seconds >= target
        said = f"(target at least {target:,.0f})" if target else ""
        print(f"  d = {d}: {pairs / seconds:12,.0f} pairs/s in a batch of {pairs} {said}")
    d = sizes.shooting
    p, q = full_pairs(d, 1, rng)
    p, q = p[0], Gaussian(p.mean[0] + 0.3 * (q.mean[0] - p.mean[0]), 0.7 * p.cov[0] + 0.3 * q.cov[0])
    times = take_turns({"shot": lambda: shoot(p, q), "ours": lambda: fisher_rao_distance(p, q)}, max(1, runs // 2))
    error = abs(shoot(p, q) / float(fisher_rao_distance(p, q)) - 1)
    ratio = times["shot"] / times["ours"]
    met &= ratio >= 100 or sizes is TINY
    print(
        f"  one pair at d = {d}: {times['ours'] * 1e3:.2f} ms, shooting with SciPy {times['shot'] * 1e3:.0f} ms, ratio "
        f"{ratio:.0f} (target at least 100); the two differ by {error:.0e}"
    )
    return met


# ------------------------------------------------------------------------------------------------------- the table


def report(case: Case, runs: int) -> bool:
    """Print one case; whether its targets are met."""
    medians = take_turns(case.contestants, runs)
    seconds = {name: value * case.scale.get(name, 1.0) for name, value in medians.items()}
    ours, met = seconds[case.ours], True
    print(f"\n{case.name}")
    for name, value in seconds.items():
        told = f"  {name:42} {value:10.4f} s"
        if name != case.ours:
            told += f"   infogeo / this = {ours / value:8.3f}"
        if name in case.limits and case.limits[name][1] is not None:
            allowed = case.limits[name][1]
            met &= allowed is None or ours / value <= allowed
            told += f"   (target at most {allowed})"
        if name.startswith("geomstats, dist in"):
            met &= case.peer_target is None or value / ours >= case.peer_target
            told += f"   {value / ours:.0f} times as long (target at least {case.peer_target:.0f})"
        print(told)
    for note in case.notes:
        print(f"  {note}")
    return met


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 1 if a target is missed (never for tiny sizes, which say nothing about speed)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="turns of each contestant (default: 5)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="smaller sizes, whose ratios are rougher")
    size.add_argument("--tiny", action="store_true", help="sizes for a test of this script; ratios say nothing")
    parser.add_argument("--threads", type=int, help="threads of infogeo (default: all it may use)")
    parser.add_argument("--device", help="compute on tensors on this device, such as cuda")
    parser.add_argument("--only", choices=["normals", "products", "full"], help="one part of the table")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    args = parser.parse_args(argv)
    if args.runs < 1:
        parser.error("--runs: wanted at least 1")
    sizes = QUICK if args.quick else TINY if args.tiny else Sizes()
    threads = args.threads or available_threads()
    print(f"NumPy {np.__version__}, Python {sys.version.split()[0]}, {threads} threads, medians of {args.runs} runs")
    met = True
    if args.only in (None, "normals"):
        for case in normal_cases(sizes, threads, args.device):
            met &= report(case, args.runs)
    if args.only in (None, "products"):
        for case in product_cases(sizes, threads, args.device):
            met &= report(case, args.runs)
    if args.only in (None, "full"):
        met &= report_full(sizes, args.runs)
    return int(args.check and not met)


if __name__ == "__main__":
    raise SystemExit(main())
