"""Mutual information between bounds that small networks are trained for, always on samples they have not seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import (
    FloatArray,
    IntArray,
    as_float_array,
    check_count,
    check_number,
    group_numbers,
    random_generator,
)
from infogeo._units import Unit, per_nat
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.probing import FEW_GROUPS
from infogeo.results import Result, Source
from infogeo_adapters._neural_bounds import (
    BOUNDS,
    TRUE_BOUNDS,
    Bound,
    Plan,
    lower_bound,
    upper_bound,
)
from infogeo_adapters._neural_bounds import NeuralBound as NeuralBound
from infogeo_adapters._require import require

if TYPE_CHECKING:
    pass

Transform = Literal["normal_scores", "standardize"]

LEAST = 64
"""Fewest samples: a quarter is kept for evaluation."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuralInformation(Result):
    """Mutual information between a lower and an upper number, from networks."""

    lower: float
    """Held-out value of the better of the true lower bounds (chosen on validation samples); raw, also if negative."""
    upper: float
    """Held-out leave-one-out value; above the information if the model of the output given the input is right."""
    lower_interval: tuple[float, float]
    upper_interval: tuple[float, float]
    level: float
    unit: Unit
    bounds: tuple[NeuralBound, ...]
    """Every bound that was asked for, and the upper one, in ``unit``."""
    chosen: str
    """The bound that gives ``lower``."""
    n: int
    n_evaluated: int
    dimensions: tuple[int, int]
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("bound", "value", "standard_error", "training_value", "unit", "steps", "bounds")
        return columns, [
            (b.name, b.value, b.standard_error, b.training_value, self.unit, b.steps, b.bounds) for b in self.bounds
        ]

    def summary(self) -> str:
        return (
            f"I(X; Y) between {self.lower:.4g} ({self.chosen}) and {self.upper:.4g} (leave-one-out) {self.unit}, "
            f"held out, n = {self.n}"
        )


def neural_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    bounds: tuple[Bound, ...] = BOUNDS,
    groups: ArrayLike | None = None,
    transform: Transform = "normal_scores",
    hidden: tuple[int, ...] = (64, 64),
    batch: int = 64,
    steps: int = 2000,
    learning_rate: float = 1e-3,
    level: float = 0.95,
    rng: Any = 0,
    unit: Unit = "nats",
) -> NeuralInformation:
    r"""Lower and upper numbers for a mutual information, from networks evaluated on samples they never saw.

    With a network's score f(x, y), and :math:`(x_j, y_i)` paired at random where :math:`j \ne i`,

    .. math::

        \text{InfoNCE [1]} \quad & E \log \frac{e^{f(x_i, y_i)}}{\frac1B \sum_{j=1}^B e^{f(x_j, y_i)}}
        \;\le\; I, \text{ at most } \log B \\
        \text{NWJ [2]} \quad & E f(x_i, y_i) - e^{-1} E\, e^{f(x_j, y_i)} \;\le\; I \\
        \text{DV, MINE [3]} \quad & E f(x_i, y_i) - \log E\, e^{f(x_j, y_i)} \\
        \text{SMILE [4]} \quad & \text{DV with } f \text{ clipped in the second term}

    The first two lie below the information in expectation, for every network; DV does so only with infinitely many
    samples, and SMILE is an estimate. From a mixture density network q(y|x) comes, leaving the own input out,

    .. math:: E \log \frac{q(y_i | x_i)}{\frac{1}{B-1} \sum_{j \ne i} q(y_i | x_j)}

    which lies above the information if q is the true law [5]_; with a worse q it may lie anywhere, so it is a number to
    hold the lower ones against and no proof.

    Half of the samples train, a quarter decides when to stop, and only the last quarter is evaluated. Try
    :func:`infogeo.estimate_mutual_information` first: where it has no warning it is far faster and mostly closer.

    Parameters
    ----------
    x : array_like, shape (n, p) or (n,)
    y : array_like, shape (n, q) or (n,)
    bounds : tuple of {"infonce", "nwj", "dv", "smile"}
        At least one of the first two is always trained: ``infonce`` if none is named.
    groups : array_like, shape (n,), optional
        Samples of one group (tokens of one text) stay in one part, and count as one observation in the intervals.
    transform : {"normal_scores", "standardize"}
        Each column is replaced by normal scores of its ranks, which heavy tails do not hurt, or shifted and scaled.
        Neither changes the information (ties in ranks may lower it).
    hidden : tuple of int
        Widths of the hidden layers.
    batch : int
        Samples in one step and in one term of InfoNCE.
    steps : int
        Most steps of each network.
    learning_rate : float
        Of AdamW.
    level : float
        Coverage of the intervals (normal, from the spread over the evaluated samples or groups; they know nothing of
        a network that is too weak).
    rng : None, int or Generator
        Decides the parts, the networks' weights and the batches. The same number gives the same result on one
        machine.
    unit : {"nats", "bits"}

    Returns
    -------
    NeuralInformation

    Raises
    ------
    ShapeError
        Lengths differ, or there are fewer than 64 samples.
    DomainError
        NaN or infinity, or a column that is constant.
    ArgumentError
        An argument has no such value.
    ConvergenceError
        Training diverged: the validation value of a network was never finite.
    MissingDependencyError
        torch is not installed.

    Warns
    -----
    EstimateWarning
        If few groups were evaluated, if InfoNCE is near its ceiling log B, if training values are far above held-out
        ones, or if the lower number lies above the upper one.

    References
    ----------
    .. [1] A. van den Oord, Y. Li, O. Vinyals, "Representation learning with contrastive predictive coding",
       arXiv 1807.03748, 2018.
    .. [2] X. Nguyen, M. Wainwright, M. Jordan, "Estimating divergence functionals and the likelihood ratio by convex
       risk minimization", IEEE Transactions on Information Theory 56, 2010.
    .. [3] M. Belghazi et al., "Mutual information neural estimation", ICML 2018; M. Donsker, S. Varadhan, 1983.
    .. [4] J. Song, S. Ermon, "Understanding the limitations of variational mutual information estimators", ICLR 2020.
    .. [5] B. Poole et al., "On variational bounds of mutual information", ICML 2019, section 2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=400)
    >>> found = neural_mutual_information(x, x + rng.normal(size=400), bounds=("infonce",), steps=100)
    >>> found.chosen, found.n_evaluated
    ('infonce', 100)
    """
    require("torch", extra="transformers", caller="neural_mutual_information")
    import torch

    factor = per_nat(unit)
    names = _check_bounds(bounds)
    plan = _plan(hidden, batch, steps, learning_rate)
    level = check_number("level", level)
    if not 0 < level < 1:
        raise ArgumentError(f"level: found {level}, wanted a number between 0 and 1")
    if transform not in ("normal_scores", "standardize"):
        raise ArgumentError(f"transform: found {transform!r}, wanted 'normal_scores' or 'standardize'")
    a, b = (_prepared(name, value, transform) for name, value in (("x", x), ("y", y)))
    n = len(a)
    if len(b) != n:
        raise ShapeError(f"x has {n} samples and y {len(b)}; give one row of each for every sample")
    if n < LEAST:
        raise ShapeError(f"found {n} samples, wanted at least {LEAST}; networks need thousands")
    generator = random_generator(rng)
    members = group_numbers(groups, n)
    parts = _parts(members, generator) if groups is not None else _halves(n, generator)
    seed = int(generator.integers(2**62))
    tensors = [(torch.as_tensor(a[part], dtype=torch.float32), torch.as_tensor(b[part], dtype=torch.float32))
               for part in parts]
    judged = members[parts[2]]
    found: list[tuple[NeuralBound, float]] = []
    with torch.random.fork_rng(devices=[]):
        for name in names:
            torch.manual_seed(seed)
            found.append(lower_bound(name, tensors, judged, plan))
        torch.manual_seed(seed)
        above, _ = upper_bound(tensors, judged, plan)
    true = [(bound, validation) for bound, validation in found if bound.name in TRUE_BOUNDS]
    best = max(true, key=lambda pair: pair[1])[0]
    from scipy.special import ndtri

    width = float(ndtri((1 + level) / 2))
    told = _warnings(best, above, width, min(batch, len(parts[2])), len(np.unique(judged)))
    for message in told:
        warnings.warn(message, EstimateWarning, stacklevel=2)
    scaled = tuple(_in_unit(bound, factor) for bound in (*(bound for bound, _ in found), above))
    return NeuralInformation(
        lower=best.value * factor, upper=above.value * factor,
        lower_interval=_interval(best, width, factor), upper_interval=_interval(above, width, factor), level=level,
        unit=unit, bounds=scaled, chosen=best.name, n=n, n_evaluated=len(parts[2]),
        dimensions=(a.shape[1], b.shape[1]), warnings=told,
        details={"transform": transform, "hidden": list(plan.hidden), "batch": batch, "learning_rate": learning_rate},
        source=Source(seed=int(rng) if isinstance(rng, int | np.integer) else None),
    )


# Arguments


def _check_bounds(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or not all(name in BOUNDS for name in bounds):
        raise ArgumentError(f"bounds: found {bounds!r}, wanted a tuple of {', '.join(BOUNDS)}")
    given = tuple(dict.fromkeys(bounds))
    return given if set(given) & set(TRUE_BOUNDS) else ("infonce", *given)


def _plan(hidden: tuple[int, ...], batch: int, steps: int, rate: float) -> Plan:
    if not isinstance(hidden, Sequence) or isinstance(hidden, str) or not len(hidden):
        raise ArgumentError(f"hidden: found {hidden!r}, wanted a tuple of widths such as (128, 128)")
    widths = tuple(check_count("hidden", width, 1) for width in hidden)
    rate = check_number("learning_rate", rate)
    if not 0 < rate < math.inf:
        raise ArgumentError(f"learning_rate: found {rate}, wanted a positive number")
    return Plan(
        hidden=widths, batch=check_count("batch", batch, 8), steps=check_count("steps", steps, 1), rate=rate,
    )


def _prepared(name: str, value: ArrayLike, transform: str) -> FloatArray:
    """(n, d) columns without their scale."""
    array = as_float_array(name, value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (samples,) or (samples, components)")
    constant = (array == array[:1]).all(axis=0)
    if constant.any() and len(array) > 1:
        column = int(np.flatnonzero(constant)[0])
        raise DomainError(f"{name}: column {column} is constant and tells nothing; leave it out")
    if transform == "normal_scores":
        from scipy.special import ndtri
        from scipy.stats import rankdata

        return np.asarray(ndtri((rankdata(array, axis=0) - 0.5) / len(array)))
    array = np.ldexp(array, -np.frexp(np.abs(array).max(axis=0))[1])  # squares of any scale stay in range
    centered = array - array.mean(axis=0)
    return np.asarray(centered / np.sqrt((centered**2).mean(axis=0)))


def _halves(n: int, generator: np.random.Generator) -> list[Any]:
    """Numbers of the samples that train, that validate and that are evaluated: 2 to 1 to 1."""
    order = generator.permutation(n)
    return [order[: n // 2], order[n // 2 : n - n // 4], order[n - n // 4 :]]


def _parts(member: IntArray, generator: np.random.Generator) -> list[Any]:
    """As :func:`_halves`, groups kept whole; shuffled, since samples are paired with those that are near."""
    n, n_groups = len(member), int(member.max()) + 1
    if n_groups < 4:
        raise ShapeError(f"groups: found {n_groups} groups, wanted at least 4 to keep training and evaluation apart")
    order = generator.permutation(n_groups)
    share = np.cumsum(np.bincount(member)[order]) / n
    part = np.searchsorted([0.5, 0.75], share - 1e-12, side="left")
    part[0], part[-1] = 0, 2
    if not (part == 1).any():
        part[-2] = 1
    where = np.empty(n_groups, dtype=np.int64)
    where[order] = part
    parts = [generator.permutation(np.flatnonzero(where[member] == k)) for k in range(3)]
    if min(map(len, parts)) < 8:
        sizes = ", ".join(str(len(p)) for p in parts)
        raise ShapeError(f"groups: the parts would have {sizes} samples, wanted at least 8 each; give more groups")
    return parts


def _warnings(best: NeuralBound, above: NeuralBound, width: float, batch: int, groups: int) -> tuple[str, ...]:
    told = []
    if groups < FEW_GROUPS:
        told.append(
            f"only {groups} independent group{'s' * (groups != 1)} evaluated: the intervals are hardly supported"
        )
    if best.name == "infonce" and best.value > 0.8 * math.log(batch):
        told.append(
            f"InfoNCE is {best.value:.2f} nats, near its ceiling log {batch} = {math.log(batch):.2f}: the information "
            "may be much larger; use a larger batch"
        )
    if best.training_value - best.value > max(0.1, 3 * best.standard_error):
        told.append(
            f"{best.name} is {best.training_value:.2f} nats on the training samples and {best.value:.2f} on held-out "
            "ones: the network learned its samples by heart, so the number is far too low; use more samples"
        )
    if best.value - above.value > width * (best.standard_error + above.standard_error):
        told.append(
            f"the lower number ({best.value:.2f} nats) lies above the upper one ({above.value:.2f}): the model of the "
            "output given the input is wrong, so that the upper one bounds nothing"
        )
    return tuple(told)


def _in_unit(bound: NeuralBound, factor: float) -> NeuralBound:
    return NeuralBound(
        name=bound.name, value=bound.value * factor, standard_error=bound.standard_error * factor,
        training_value=bound.training_value * factor, steps=bound.steps, bounds=bound.bounds,
    )


def _interval(bound: NeuralBound, width: float, factor: float) -> tuple[float, float]:
    half = width * bound.standard_error
    return (bound.value - half) * factor, (bound.value + half) * factor
