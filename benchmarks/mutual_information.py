r"""How near to the truth are estimates of mutual information? The automatic choice next to its parts and its peers.

    python benchmarks/mutual_information.py                    # 31 tasks, n = 1000 (seeds 0 to 4) and 10 000 (0 and 1)
    python benchmarks/mutual_information.py --sizes 1000:100-104 --peers ""
    python benchmarks/mutual_information.py --reference FOLDER # also checks the samples against mi_tasks.json there

The distributions are those of the BMI benchmark (Czyż et al., NeurIPS 2023) with known mutual information, and some
more: a map of x alone or of y alone that can be undone leaves the information as it is. In each cell of the table is
the mean over the seeds; behind the automatic choice, what it says of its error. The last lines count, over all tasks
and seeds, how often the automatic value is within 0.05 nats of the truth, how often the truth is in its interval, how
often it warns, and how often none of the three holds (MISSED; the exit code is 1 if there is one). With 217 estimates
intervals of coverage 0.95 leave out some truths by chance; the intervals are therefore of coverage --level 0.99, and a
line says what would be missed with 0.95, the default of the library.

Peers are used if they can be imported: NPEET (a folder on PYTHONPATH), scikit-learn (one column of y), infomeasure,
frites (Gaussian copula), and with --torch-mist a few neural bounds. Neighbor estimators of peers are left out above
--peer-columns joint columns at n = 10 000, where they take minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infogeo import (
    EstimateWarning,
    estimate_mutual_information,
    gaussian_copula_mutual_information,
    ksg_mutual_information,
)
from infogeo.errors import InfogeoError

Array = np.ndarray[Any, Any]
Map = Callable[[Array], Array]
WITHIN = 0.05


def identity(z: Array) -> Array:
    """No map."""
    return z


def half_cube(z: Array) -> Array:
    """sign(z) |z|^(3/2)."""
    return np.asarray(z * np.sqrt(np.abs(z)))


def normal_cdf(z: Array) -> Array:
    """Distribution function of the standard normal: columns between 0 and 1."""
    return np.asarray(0.5 * (1 + np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2))))


def waves(*terms: tuple[float, float, float]) -> Map:
    """Add sines of given height, frequency and phase; still increasing for those used here."""
    return lambda z: z + sum(height * np.sin(rate * z + phase) for height, rate, phase in terms)


def spiral(i: int, j: int, speed: float) -> Map:
    """Turn the plane of columns i and j by an angle that grows with the squared length of the whole row."""

    def turn(z: Array) -> Array:
        angle = speed * (z * z).sum(axis=1)
        found = z.copy()
        found[:, i] = np.cos(angle) * z[:, i] - np.sin(angle) * z[:, j]
        found[:, j] = np.sin(angle) * z[:, i] + np.cos(angle) * z[:, j]
        return found

    return turn


def swiss_roll(z: Array) -> Array:
    """A column between 0 and 1, rolled up in the plane."""
    angle = 1.5 * np.pi * (1 + 2 * z[:, 0])
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 21.0


def both(first: Map, second: Map) -> Map:
    """One map after the other."""
    return lambda z: second(first(z))


def bivariate(rho: float) -> Array:
    """One column each, with correlation rho."""
    return np.array([[1.0, rho], [rho, 1.0]])


def dense(columns: int) -> Array:
    """Every two of the columns of x and y correlated by one half."""
    return 0.5 * np.eye(2 * columns) + 0.5


def two_pairs(columns: int) -> Array:
    """The first two columns of x correlated by 0.8 with those of y, all else independent."""
    found = np.eye(2 * columns)
    for i in range(2):
        found[i, columns + i] = found[columns + i, i] = 0.8
    return found


@dataclass(frozen=True)
class Task:
    """A distribution with known mutual information."""

    name: str
    correlation: Array | None = None
    """Of a normal, or Student, vector; None for the others."""
    degrees: float | None = None
    """Of Student's distribution."""
    of_x: Map = identity
    of_y: Map = identity
    draw: Callable[[int, np.random.Generator], tuple[Array, Array]] | None = None
    value: float | None = field(default=None)

    def sample(self, n: int, seed: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        if self.draw is not None:
            return self.draw(n, rng)
        assert self.correlation is not None
        z = rng.standard_normal((n, len(self.correlation))) @ np.linalg.cholesky(self.correlation).T
        if self.degrees is not None:
            z *= np.sqrt(self.degrees / rng.chisquare(self.degrees, size=n))[:, None]
        half = len(self.correlation) // 2
        return self.of_x(z[:, :half].copy()), self.of_y(z[:, half:].copy())

    @property
    def truth(self) -> float:
        """Mutual information in nats, by a closed form."""
        if self.value is not None:
            return self.value
        assert self.correlation is not None
        half = len(self.correlation) // 2
        volumes = [
            np.linalg.slogdet(block)[1]
            for block in (self.correlation[:half, :half], self.correlation[half:, half:], self.correlation)
        ]
        normal = float(volumes[0] + volumes[1] - volumes[2]) / 2
        return normal if self.degrees is None else normal + student_excess(half, half, self.degrees)


def student_excess(p: int, q: int, degrees: float) -> float:
    """What Student's vectors share beyond the formula of normal ones (Arellano-Valle et al. 2013, equation 7)."""
    from scipy.special import digamma, gammaln

    def entropy(d: int) -> float:
        half = (degrees + d) / 2
        log_norm = gammaln(half) - gammaln(degrees / 2) - d / 2 * math.log(degrees * math.pi)
        return float(-log_norm + half * (digamma(half) - digamma(degrees / 2)))

    return entropy(p) + entropy(q) - entropy(p + q)


def uniform_noise(width: float) -> Callable[[int, np.random.Generator], tuple[Array, Array]]:
    """X uniform on the unit interval, y = x plus uniform noise up to the width on both sides."""

    def draw(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.uniform(0, 1, (n, 1))
        return x, x + rng.uniform(-width, width, (n, 1))

    return draw


def staircase(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """X one of five numbers, y = x plus uniform noise over two steps (Gao et al. 2017)."""
    x = rng.integers(0, 5, (n, 1)).astype(float)
    return x, x + rng.uniform(0, 2, (n, 1))


def tasks() -> list[Task]:
    """All 31, by name as in mi_tasks.json."""
    found = [Task(f"binormal-{rho:g}", bivariate(rho)) for rho in (0, 0.1, 0.5, 0.9, 0.99, 0.999)]
    found += [
        Task("independent-10x10", np.eye(20)),
        Task("dense-5x5", dense(5)),
        Task("2pair-5x5", two_pairs(5)),
        Task("dense-25x25", dense(25)),
        Task("2pair-25x25", two_pairs(25)),
        Task("dense-50x50", dense(50)),
    ]
    for columns, degrees in ((1, 1), (2, 1), (5, 2)):
        name = f"student-{columns}x{columns}-df{degrees}"
        found += [
            Task(name, np.eye(2 * columns), degrees),
            Task(f"asinh-{name}", np.eye(2 * columns), degrees, np.arcsinh, np.arcsinh),
        ]
    first = waves((0.4, 1.0, 0.0), (0.2, 1.7, 1.0), (0.03, 3.3, -2.5))
    second = waves((-0.4, 0.4, 0.0), (0.17, 1.3, 3.5), (0.02, 4.3, -2.5))
    correlated = bivariate(0.75)
    found += [
        Task("halfcube-binormal-0.75", correlated, None, half_cube, half_cube),
        Task("normcdf-binormal-0.75", correlated, None, normal_cdf, normal_cdf),
        Task("wiggly-binormal-0.75", correlated, None, first, second),
        Task("swissroll-binormal-0.75", correlated, None, both(normal_cdf, swiss_roll), normal_cdf),
        Task("halfcube-2pair-5x5", two_pairs(5), None, half_cube, half_cube),
        Task("halfcube-2pair-25x25", two_pairs(25), None, half_cube, half_cube),
    ]
    for columns in (3, 5, 25):
        turns = (spiral(0, 1, 1 / columns), spiral(1, 2, 1 / columns))
        found.append(Task(f"spiral-2pair-{columns}x{columns}", two_pairs(columns), None, *turns))
    turned = (both(normal_cdf, spiral(0, 1, 1 / 3)), both(normal_cdf, spiral(1, 2, 1 / 3)))
    found += [
        Task("spiral-normcdf-2pair-3x3", two_pairs(3), None, *turned),
        Task("additive-uniform-0.1", draw=uniform_noise(0.1), value=0.1 - math.log(0.2)),
        Task("additive-uniform-0.75", draw=uniform_noise(0.75), value=0.25 / 0.75),
        Task("discrete-uniform-m5", draw=staircase, value=math.log(5) - 4 * math.log(2) / 5),
    ]
    return found


def check_reference(folder: Path, found: Sequence[Task]) -> None:
    """End with a message unless names, truths and samples are those of mi_tasks.json."""
    wanted = {task["id"]: task for task in json.loads((folder / "mi_tasks.json").read_text(encoding="utf-8"))["tasks"]}
    if set(wanted) != {task.name for task in found}:
        raise SystemExit(f"other tasks than in {folder}: {sorted(set(wanted) ^ {task.name for task in found})}")
    for task in found:
        there = wanted[task.name]
        check = there["check"]
        x, y = task.sample(check["n"], check["seed"])
        pairs = [
            (task.truth, there["mi_nats"]),
            (np.median(np.abs(x)), check["median_abs_x"]),
            (np.median(np.abs(y)), check["median_abs_y"]),
            *zip(x[0], check["x0"], strict=False),
            *zip(y[0], check["y0"], strict=False),
        ]
        for ours, theirs in pairs:
            if abs(ours - theirs) > 1e-9 * max(1.0, abs(theirs)):
                raise SystemExit(f"{task.name}: {ours} here, {theirs} in the reference")
    print(f"all {len(found)} tasks have the truth and the samples of the reference\n")


@dataclass(frozen=True)
class Peer:
    """An estimator of ours or of another library."""

    name: str
    run: Callable[[Array, Array], float]
    fits: Callable[[Array, Array], bool]


def always(x: Array, y: Array) -> bool:
    """For any samples."""
    return True


def ours(estimator: Callable[[Array, Array], float]) -> Callable[[Array, Array], float]:
    """One of our estimators without its warnings."""

    def run(x: Array, y: Array) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            return estimator(x, y)

    return run


def find_peers(wanted: Sequence[str], columns: int) -> list[Peer]:
    """Two of our estimators, and the peers that can be imported; says which cannot."""

    def few(x: Array, y: Array) -> bool:
        return len(x) <= 2000 or x.shape[1] + y.shape[1] <= columns

    def one_column(x: Array, y: Array) -> bool:
        return bool(y.shape[1] == x.shape[1] == 1)

    found = [
        Peer("ksg", ours(ksg_mutual_information), few),
        Peer("copula", ours(gaussian_copula_mutual_information), always),
    ]
    makers: dict[str, Callable[[], Peer]] = {
        "npeet": lambda: Peer("NPEET", npeet(), few),
        "sklearn": lambda: Peer("sklearn", scikit_learn(), one_column),
        "infomeasure": lambda: Peer("infomeas.", infomeasure(), few),
        "frites": lambda: Peer("frites", frites(), always),
    }
    for name in wanted:
        try:
            found.append(makers[name]())
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def npeet() -> Callable[[Array, Array], float]:
    """KSG with three neighbors; adds noise from the global generator."""
    module = importlib.import_module("npeet.entropy_estimators")
    return lambda x, y: float(module.mi(x, y, k=3, base=math.e))


def scikit_learn() -> Callable[[Array, Array], float]:
    """KSG with three neighbors, one column each, clipped at zero."""
    module = importlib.import_module("sklearn.feature_selection")
    return lambda x, y: float(module.mutual_info_regression(x, y[:, 0], n_neighbors=3, random_state=0)[0])


def infomeasure() -> Callable[[Array, Array], float]:
    """KSG with four neighbors."""
    module = importlib.import_module("infomeasure")

    def run(x: Array, y: Array) -> float:
        return float(module.mutual_information(x, y, approach="metric", k=4))

    return run


def frites() -> Callable[[Array, Array], float]:
    """Gaussian copula with bias correction, in bits there."""
    module = importlib.import_module("frites.core")

    def run(x: Array, y: Array) -> float:
        return float(module.gcmi_1d_cc(x.T, y.T)) * math.log(2)

    return run


def quiet(x: Array, y: Array, level: float) -> Any:
    """The automatic choice; its warnings are in the result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        return estimate_mutual_information(x, y, level=level)


@dataclass
class Count:
    """What the last lines say."""

    runs: int = 0
    within: int = 0
    inside: int = 0
    open_above: int = 0
    warned: int = 0
    warned_though_near: int = 0
    far_and_warned: int = 0
    missed: list[str] = field(default_factory=list)
    missed_by_default: list[str] = field(default_factory=list)

    def add(self, task: Task, n: int, seed: int, estimate: Any, default: Callable[[], Any]) -> tuple[bool, bool, bool]:
        """Whether near the truth, truth in the interval, warned; ``default`` makes the estimate at the usual level."""
        near = abs(estimate.value - task.truth) <= WITHIN
        low, high = estimate.interval if estimate.interval is not None else (math.nan, math.nan)
        inside, warned = low <= task.truth <= high, bool(estimate.warnings)
        self.runs += 1
        self.within += near
        self.inside += inside
        self.open_above += high == math.inf
        self.warned += warned
        self.warned_though_near += warned and near
        self.far_and_warned += warned and not near
        if not (near or warned):
            lower, upper = default().interval
            line = f"{task.name} n={n} seed {seed}: {estimate.value:.3f} for {task.truth:.3f}"
            if not inside:
                self.missed.append(line)
            if not lower <= task.truth <= upper:
                self.missed_by_default.append(f"{line}, {lower:.3f} to {upper:.3f}")
        return near, inside, warned


def table(
    n: int, seeds: Sequence[int], chosen: Sequence[Task], peers: Sequence[Peer], count: Count, level: float
) -> None:
    """Run and print one size, a line for each task."""
    heads = " ".join(f"{peer.name:>9s}" for peer in peers)
    print(f"n = {n}, seeds {seeds[0]} to {seeds[-1]}; nats; a dot: does not apply, or was left out")
    print(f"{'task':25s} {'truth':>5s} {'auto':>6s} {'interval':>15s} {'by':13s} {'near':>4s} {'in':>4s} {'warn':>4s} "
          f"{heads}")  # fmt: skip
    seconds: dict[str, list[float]] = {}
    for task in chosen:
        values: list[list[float]] = []
        said: list[tuple[bool, bool, bool]] = []
        others: dict[str, list[float]] = {}
        methods: list[str] = []
        for seed in seeds:
            x, y = task.sample(n, seed)
            start = time.process_time()
            estimate = quiet(x, y, level)
            seconds.setdefault("auto", []).append(time.process_time() - start)
            said.append(count.add(task, n, seed, estimate, partial(quiet, x, y, 0.95)))
            values.append([estimate.value, *(estimate.interval or (math.nan, math.nan))])
            methods.append(estimate.method.split(" ")[0])
            for peer in peers:
                if peer.fits(x, y):
                    start = time.process_time()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        try:
                            value = peer.run(x, y)
                        except (InfogeoError, ValueError, AssertionError, ArithmeticError, np.linalg.LinAlgError):
                            value = math.nan
                    seconds.setdefault(peer.name, []).append(time.process_time() - start)
                    others.setdefault(peer.name, []).append(value)
        value, low, high = np.mean(values, axis=0)
        shares = " ".join(f"{sum(flags):>2d}/{len(flags)}" for flags in zip(*said, strict=True))
        cells = " ".join(
            f"{np.mean(others[peer.name]):9.3f}" if peer.name in others else f"{'.':>9s}" for peer in peers
        )
        method = max(set(methods), key=methods.count)
        print(f"{task.name:25s} {task.truth:5.3f} {value:6.3f} {low:7.3f} {high:7.3f} {method:13s} {shares} {cells}",
              flush=True)  # fmt: skip
    spent = ", ".join(f"{name} {np.median(s):.3f}" for name, s in seconds.items())
    print(f"median CPU seconds for one estimate: {spent}\n", flush=True)


def torch_mist(chosen: Sequence[Task], n: int) -> None:
    """A few tasks only: each takes up to a minute."""
    try:
        module = importlib.import_module("torch_mist.utils")
    except Exception as error:  # it fails in many ways on a new numpy or torch; all mean the same here
        print(f"torch-mist is left out: {type(error).__name__}: {error}")
        return
    few = ("binormal-0.9", "independent-10x10", "2pair-25x25", "student-2x2-df1")
    print(f"torch-mist, n = {n}, seed 0, default settings, evaluated on the samples it was trained on (its default)")
    for task in (task for task in chosen if task.name in few):
        x, y = task.sample(n, 0)
        for name in ("mine", "smile"):
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = module.estimate_mi(
                        data=(x.astype(np.float32), y.astype(np.float32)), estimator=name, verbose=False
                    )
                    value = f"{float(found[0] if isinstance(found, tuple) else found):.3f}"
                except Exception as error:  # the same
                    value = f"{type(error).__name__}: {str(error)[:80]}"
            print(f"  {task.name:20s} truth {task.truth:.3f}  {name} {value}  "
                  f"({time.process_time() - start:.0f} CPU seconds)", flush=True)  # fmt: skip


def read_sizes(text: str) -> list[tuple[int, list[int]]]:
    """Sizes and seeds of "1000:0-4,10000:0-1"."""
    found = []
    for part in text.split(","):
        n, _, seeds = part.partition(":")
        first, _, last = seeds.partition("-")
        found.append((int(n), list(range(int(first or 0), int(last or first or 0) + 1))))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if an estimate is off, outside its interval and without a warning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="folder with mi_tasks.json, to check the samples against")
    parser.add_argument("--sizes", default="1000:0-4,10000:0-1", help="n:first-last seed, comma between")
    parser.add_argument("--level", type=float, default=0.99, help="coverage of the intervals, between 0 and 1")
    parser.add_argument("--tasks", default="", help="only tasks whose name contains this")
    parser.add_argument("--peers", default="npeet,sklearn,infomeasure,frites")
    parser.add_argument("--peer-columns", type=int, default=10, help="joint columns above which neighbors are left out")
    parser.add_argument("--torch-mist", action="store_true", help="also a few neural bounds, minutes")
    args = parser.parse_args(arguments)
    every = tasks()
    if args.reference is not None:
        check_reference(args.reference, every)
    chosen = [task for task in every if args.tasks in task.name]
    if not chosen:
        raise SystemExit(f"no task has {args.tasks!r} in its name; there are {', '.join(task.name for task in every)}")
    peers = find_peers([name for name in args.peers.split(",") if name], args.peer_columns)
    count = Count()
    for n, seeds in read_sizes(args.sizes):
        table(n, seeds, chosen, peers, count, args.level)
    if args.torch_mist:
        torch_mist(chosen, read_sizes(args.sizes)[0][0])
    print(f"{count.runs} estimates of {len(chosen)} tasks by the automatic choice:")
    print(f"  within {WITHIN} nats of the truth      {count.within}")
    no_end = f"{count.open_above} intervals have no upper end"
    print(f"  truth in the {args.level:.0%} interval stated  {count.inside} ({no_end})")
    which = f"{count.far_and_warned} of the {count.runs - count.within} that are off"
    print(f"  warned                            {count.warned} ({which}, {count.warned_though_near} of the others)")
    print(f"  MISSED (none of the three)        {len(count.missed)}")
    for line in count.missed:
        print(f"    {line}")
    print(f"  missed with 95% intervals         {len(count.missed_by_default)}")
    for line in count.missed_by_default:
        print(f"    {line}")
    return 1 if count.missed else 0


if __name__ == "__main__":
    sys.exit(main())
