"""Mutual information between bounds that small networks are trained for, always on samples they have not seen."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

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
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.probing import FEW_GROUPS
from infogeo.results import Result, Source
from infogeo_adapters._require import require

if TYPE_CHECKING:
    import torch

Bound = Literal["infonce", "nwj", "dv", "smile"]
Transform = Literal["normal_scores", "standardize"]

BOUNDS: tuple[Bound, ...] = ("infonce", "nwj", "dv", "smile")
TRUE_BOUNDS: tuple[Bound, ...] = ("infonce", "nwj")
"""Below the information in expectation, whatever the network: the others are estimates."""

LEAST = 64
"""Fewest samples: a quarter is kept for evaluation."""
COMPONENTS = 4
"""Of the mixture that models the output given the input."""
CLIP = 5.0
"""SMILE clips the network's score in the mean over independent pairs to this range around zero."""
PATIENCE = 8
"""Looks at the validation part without a better value, after which training ends."""
LOOK = 50
"""Steps between two looks."""
LOOKED_AT = 1024
"""Most validation samples in one look."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuralBound:
    """One bound, evaluated on samples that neither trained the network nor chose when to stop."""

    name: str
    value: float
    standard_error: float
    training_value: float
    """The same on the training samples: what a network that is never tested would report."""
    steps: int
    bounds: Literal["below", "above if the model of the output is right", "neither"]


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


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How networks are made and trained."""

    hidden: tuple[int, ...]
    batch: int
    steps: int
    rate: float


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
            found.append(_lower(name, tensors, judged, plan))
        torch.manual_seed(seed)
        above, _ = _upper(tensors, judged, plan)
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


def _plan(hidden: tuple[int, ...], batch: int, steps: int, rate: float) -> _Plan:
    if not isinstance(hidden, Sequence) or isinstance(hidden, str) or not len(hidden):
        raise ArgumentError(f"hidden: found {hidden!r}, wanted a tuple of widths such as (128, 128)")
    widths = tuple(check_count("hidden", width, 1) for width in hidden)
    rate = check_number("learning_rate", rate)
    if not 0 < rate < math.inf:
        raise ArgumentError(f"learning_rate: found {rate}, wanted a positive number")
    return _Plan(
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


# Networks


def _network(widths: tuple[int, ...]) -> torch.nn.Sequential:
    import torch

    layers: list[torch.nn.Module] = []
    for first, second in itertools.pairwise(widths[:-1]):
        layers += [torch.nn.Linear(first, second), torch.nn.GELU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-2], widths[-1]))


def _train(
    network: torch.nn.Module, loss: Callable[[Any, Any], Any], value: Callable[[Any, Any], Any], tensors: Any,
    plan: _Plan, name: str,
) -> tuple[int, float]:
    """AdamW with the best weights on the validation part kept; the step they are of, and their validation value."""
    import torch

    (x, y), (vx, vy) = tensors[0], (part[:LOOKED_AT] for part in tensors[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-2)
    best, kept, at, waited = -math.inf, None, 0, 0
    for step in range(1, plan.steps + 1):
        chosen = torch.randint(len(x), (min(plan.batch, len(x)),))
        optimizer.zero_grad()
        loss(x[chosen], y[chosen]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if step % LOOK == 0 or step == plan.steps:
            with torch.no_grad():
                reached = float(value(vx, vy)[0])
            if math.isfinite(reached) and reached > best:
                best, at, waited = reached, step, 0
                kept = {k: v.clone() for k, v in network.state_dict().items()}
            else:
                waited += 1
                if waited >= PATIENCE:
                    break
    if kept is None:
        raise ConvergenceError(
            f"neural_mutual_information: the training of {name} diverged (its validation value was never finite); "
            "lower learning_rate, or use transform='normal_scores'", None,
        )
    network.load_state_dict(kept)
    return at, best


def _lower(name: Bound, tensors: Any, members: IntArray, plan: _Plan) -> tuple[NeuralBound, float]:
    """A critic trained for one bound."""
    import torch

    (x, y), _, (ex, ey) = tensors
    network = _network((x.shape[1] + y.shape[1], *plan.hidden, 1))
    first, rest = cast("torch.nn.Linear", network[0]), network[1:]

    def scores(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """(B, B) scores of x_j, the column, with y_i, the row."""
        k = len(a)
        # the first layer is a sum of a part of x and a part of y, each computed once
        of_x, of_y = first.weight[:, : x.shape[1]], first.weight[:, x.shape[1] :]
        sums = (a @ of_x.T)[None, :, :] + (b @ of_y.T + first.bias)[:, None, :]
        table: torch.Tensor = rest(sums.reshape(k * k, -1)).reshape(k, k)
        return table

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return -_objective(name, scores(a, b))

    def value(a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
        return _evaluated(name, scores, a, b, plan.batch)

    steps, validation = _train(network, loss, value, tensors, plan, name)
    with torch.no_grad():
        held_out, each = value(ex, ey)
        on_training, _ = value(x[: len(ex)], y[: len(ey)])
    bound = NeuralBound(
        name=name, value=held_out, standard_error=_error(each, members), training_value=on_training, steps=steps,
        bounds="below" if name in TRUE_BOUNDS else "neither",
    )
    return bound, validation


def _objective(name: Bound, scores: torch.Tensor) -> torch.Tensor:
    """What the network of a bound is trained to raise."""
    import torch

    k = len(scores)
    own = scores.diagonal()
    if name == "infonce":
        return (own - torch.logsumexp(scores, dim=1)).mean() + math.log(k)
    others = scores[~torch.eye(k, dtype=torch.bool)]
    if name == "nwj":
        return own.mean() - torch.exp((others - 1).clamp(max=20)).mean()
    if name == "dv":
        return own.mean() - (torch.logsumexp(others, dim=0) - math.log(len(others)))
    # SMILE is trained by the Jensen-Shannon objective: only its value is clipped
    return -torch.nn.functional.softplus(-own).mean() - torch.nn.functional.softplus(others).mean()


def _evaluated(
    name: Bound, scores: Callable[[Any, Any], Any], x: torch.Tensor, y: torch.Tensor, batch: int
) -> tuple[float, torch.Tensor]:
    """A bound on samples in batches of a size, each paired within its batch, and the parts that its error is of."""
    import torch

    own, second, across, terms = [], [], [], []
    for here, new, size in _batches(len(x), batch):
        table = scores(x[here], y[here]).double()
        if name == "infonce":
            terms.append((table.diagonal() - torch.logsumexp(table, dim=1) + math.log(size))[new])
            continue
        own.append(table.diagonal()[new])
        apart = table.clamp(-CLIP, CLIP) if name == "smile" else table
        apart = apart.masked_fill(torch.eye(size, dtype=torch.bool), -math.inf)
        second.append((torch.logsumexp(apart, dim=1) - math.log(size - 1))[new])
        across.append((torch.logsumexp(apart, dim=0) - math.log(size - 1))[new])
    if name == "infonce":
        each = torch.cat(terms)
        return float(each.mean()), each
    f, g, h = torch.cat(own), torch.cat(second), torch.cat(across)
    # a sample is in the second term twice, with its x and with its y
    if name == "nwj":
        by_y, by_x = torch.exp(g - 1), torch.exp(h - 1)
        return float((f - by_y).mean()), f - by_y - (by_x - by_x.mean())
    mean = torch.logsumexp(g, dim=0) - math.log(len(f))
    by_y, by_x = torch.exp(g - mean), torch.exp(h - mean)  # the delta method: a logarithm's slope is one over the mean
    return float(f.mean() - mean), f - by_y - (by_x - by_x.mean())


def _batches(n: int, batch: int) -> Iterator[tuple[slice, slice, int]]:
    """Batches of one size that hold every sample: which samples, which of them no batch had before, and how many."""
    size = min(batch, n)
    for start in range(0, n, size):
        first = min(start, n - size)
        yield slice(first, first + size), slice(start - first, size), size


def _error(each: torch.Tensor, members: IntArray) -> float:
    """Standard error of the mean of the parts, by groups; infinite where all are of one."""
    parts = each.numpy()
    sums = np.bincount(np.unique(members, return_inverse=True)[1], weights=parts - parts.mean())
    count = len(sums)
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(parts) if count > 1 else math.inf


def _upper(tensors: Any, members: IntArray, plan: _Plan) -> tuple[NeuralBound, float]:
    """A mixture density network of y given x, and its leave-one-out value."""
    import torch

    (x, y), _, (ex, ey) = tensors
    d = y.shape[1]
    network = _network((x.shape[1], *plan.hidden, COMPONENTS * (2 * d + 1)))

    def log_prob(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """(A, B) log q(b_i | a_j) of every b, the row, under every a, the column."""
        out = network(a).reshape(len(a), COMPONENTS, 2 * d + 1)
        weight = torch.log_softmax(out[..., 0], dim=-1)
        mean, log_scale = out[..., 1 : d + 1], out[..., d + 1 :].clamp(-8.0, 4.0)
        z = (b[:, None, None, :] - mean) * torch.exp(-log_scale)
        each = -0.5 * (z**2).sum(-1) - log_scale.sum(-1) - 0.5 * d * math.log(2 * math.pi)
        return torch.logsumexp(each + weight, dim=-1)

    def diagonal(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        out = network(a).reshape(len(a), COMPONENTS, 2 * d + 1)
        weight = torch.log_softmax(out[..., 0], dim=-1)
        mean, log_scale = out[..., 1 : d + 1], out[..., d + 1 :].clamp(-8.0, 4.0)
        z = (b[:, None, :] - mean) * torch.exp(-log_scale)
        each = -0.5 * (z**2).sum(-1) - log_scale.sum(-1) - 0.5 * d * math.log(2 * math.pi)
        return torch.logsumexp(each + weight, dim=-1)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return -diagonal(a, b).mean()

    def fit(a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
        each = diagonal(a, b)
        return float(each.mean()), each

    def leave_one_out(a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
        terms = []
        for here, new, size in _batches(len(a), plan.batch):
            table = log_prob(a[here], b[here]).double()
            apart = table.masked_fill(torch.eye(size, dtype=torch.bool), -math.inf)
            terms.append((table.diagonal() - torch.logsumexp(apart, dim=1) + math.log(size - 1))[new])
        each = torch.cat(terms)
        return float(each.mean()), each

    steps, validation = _train(network, loss, fit, tensors, plan, "the mixture density network")
    with torch.no_grad():
        held_out, each = leave_one_out(ex, ey)
        on_training, _ = leave_one_out(x[: len(ex)], y[: len(ey)])
    bound = NeuralBound(
        name="leave_one_out", value=held_out, standard_error=_error(each, members), training_value=on_training,
        steps=steps, bounds="above if the model of the output is right",
    )
    return bound, validation
