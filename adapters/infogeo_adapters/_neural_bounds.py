"""Networks behind the neural bounds of mutual information: trained, and evaluated on other samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from infogeo._checks import IntArray
from infogeo.errors import ConvergenceError

if TYPE_CHECKING:
    import torch

Bound = Literal["infonce", "nwj", "dv", "smile"]

BOUNDS: tuple[Bound, ...] = ("infonce", "nwj", "dv", "smile")
TRUE_BOUNDS: tuple[Bound, ...] = ("infonce", "nwj")
"""Below the information in expectation, whatever the network: the others are estimates."""

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How networks are made and trained."""

    hidden: tuple[int, ...]
    batch: int
    steps: int
    rate: float


def _network(widths: tuple[int, ...]) -> torch.nn.Sequential:
    import torch

    layers: list[torch.nn.Module] = []
    for first, second in itertools.pairwise(widths[:-1]):
        layers += [torch.nn.Linear(first, second), torch.nn.GELU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-2], widths[-1]))


def _train(
    network: torch.nn.Module, loss: Callable[[Any, Any], Any], value: Callable[[Any, Any], Any], tensors: Any,
    plan: Plan, name: str,
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


def lower_bound(name: Bound, tensors: Any, members: IntArray, plan: Plan) -> tuple[NeuralBound, float]:
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
        return evaluated(name, scores, a, b, plan.batch)

    steps, validation = _train(network, loss, value, tensors, plan, name)
    with torch.no_grad():
        held_out, each = value(ex, ey)
        on_training, _ = value(x[: len(ex)], y[: len(ey)])
    bound = NeuralBound(
        name=name, value=held_out, standard_error=standard_error(each, members), training_value=on_training,
        steps=steps, bounds="below" if name in TRUE_BOUNDS else "neither",
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


def evaluated(
    name: Bound, scores: Callable[[Any, Any], Any], x: torch.Tensor, y: torch.Tensor, batch: int
) -> tuple[float, torch.Tensor]:
    """A bound on samples in batches of a size, each paired within its batch, and the parts that its error is of."""
    import torch

    own, second, across, terms = [], [], [], []
    for here, new, size in batches(len(x), batch):
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


def leave_one_out(
    log_prob: Callable[[Any, Any], Any], x: torch.Tensor, y: torch.Tensor, batch: int
) -> tuple[float, torch.Tensor]:
    """Log q of the own input less that of the others of a batch, with (B, B) log q(y_i | x_j), y in the rows."""
    import torch

    terms = []
    for here, new, size in batches(len(x), batch):
        table = log_prob(x[here], y[here]).double()
        apart = table.masked_fill(torch.eye(size, dtype=torch.bool), -math.inf)
        terms.append((table.diagonal() - torch.logsumexp(apart, dim=1) + math.log(size - 1))[new])
    each = torch.cat(terms)
    return float(each.mean()), each


def batches(n: int, batch: int) -> Iterator[tuple[slice, slice, int]]:
    """Batches of one size that hold every sample: which samples, which of them no batch had before, and how many."""
    size = min(batch, n)
    for start in range(0, n, size):
        first = min(start, n - size)
        yield slice(first, first + size), slice(start - first, size), size


def standard_error(each: torch.Tensor, members: IntArray) -> float:
    """Standard error of the mean of the parts, by groups; infinite where all are of one."""
    parts = each.numpy()
    sums = np.bincount(np.unique(members, return_inverse=True)[1], weights=parts - parts.mean())
    count = len(sums)
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(parts) if count > 1 else math.inf


def upper_bound(tensors: Any, members: IntArray, plan: Plan) -> tuple[NeuralBound, float]:
    """A mixture density network of y given x, and its leave-one-out value."""
    import torch

    (x, y), _, (ex, ey) = tensors
    d = y.shape[1]
    network = _network((x.shape[1], *plan.hidden, COMPONENTS * (2 * d + 1)))

    def log_density(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Log q(b | a) of points (..., d) under inputs whose axes broadcast with theirs."""
        out = network(a)
        out = out.reshape(*out.shape[:-1], COMPONENTS, 2 * d + 1)
        weight = torch.log_softmax(out[..., 0], dim=-1)
        mean, log_scale = out[..., 1 : d + 1], out[..., d + 1 :].clamp(-8.0, 4.0)
        z = (b[..., None, :] - mean) * torch.exp(-log_scale)
        each = -0.5 * (z**2).sum(-1) - log_scale.sum(-1) - 0.5 * d * math.log(2 * math.pi)
        return torch.logsumexp(each + weight, dim=-1)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return -log_density(a, b).mean()

    def fit(a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
        each = log_density(a, b)
        return float(each.mean()), each

    def table(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return log_density(a[None], b[:, None])

    steps, validation = _train(network, loss, fit, tensors, plan, "the mixture density network")
    with torch.no_grad():
        held_out, each = leave_one_out(table, ex, ey, plan.batch)
        on_training, _ = leave_one_out(table, x[: len(ex)], y[: len(ey)], plan.batch)
    bound = NeuralBound(
        name="leave_one_out", value=held_out, standard_error=standard_error(each, members), training_value=on_training,
        steps=steps, bounds="above if the model of the output is right",
    )
    return bound, validation
