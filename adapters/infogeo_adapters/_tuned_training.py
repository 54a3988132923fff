r"""The training of affine translators on states alone: divergences, their gradients, steps of one relative size.

Nothing here knows a model: states come in as tensors, and the read-out as a function from states to logits.

Streams differ in scale by factors of hundreds between layers. With s the root mean square of a layer's components, a
translator h + A h + b is :math:`h + s\,[A \; c]\,(h / s, 1)` with b = s c, so that the matrix [A c] has no unit. Its
gradient, averaged over the last steps, is replaced by the nearest matrix with orthonormal rows, times the learning
rate: a step turns the states by that share of their size, in any layer of any model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import IntArray

if TYPE_CHECKING:
    import torch

MOMENTUM = 0.95
"""Memory of the mean gradient; looked ahead by one step, as Nesterov."""
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Odd polynomial a x + b x³ + c x⁵ that, applied five times, brings singular values from (0, 1] near one."""
NUMBERS = 8
"""Held at once for each token and outcome of a chunk: the final prediction, the lens's, and temporaries."""

Projection = Callable[["torch.Tensor"], "torch.Tensor"]
Rule = Callable[["Training", "torch.Tensor", float], None]
"""One step in place against mean gradients (n, d, d + 1) of [A c], at a rate."""


@dataclass(eq=False, kw_only=True)
class Training:
    """Everything that changes while n translators of width d are trained."""

    step: int
    weights: torch.Tensor
    """(n, d, d) the A of each layer, in the number format of the states."""
    biases: torch.Tensor
    """(n, d)"""
    momentum: torch.Tensor
    """(n, d, d + 1) mean gradient of [A c]."""
    scale: torch.Tensor
    """(n,) root mean square of the components of each layer, fixed at the beginning."""
    best_weights: torch.Tensor
    """(n, d, d) float32 on the host, of the best translators so far."""
    best_biases: torch.Tensor
    kept_at: torch.Tensor
    """(n,) the step each of these is of."""
    training_kl: torch.Tensor
    """(steps so far, n)"""
    evaluated_at: torch.Tensor
    """(E,)"""
    validation_kl: torch.Tensor
    """(E, n)"""


def begin(states: Sequence[torch.Tensor]) -> Training:
    """Translators that do nothing, and the scale of each of n layers from the states (N, d) of some tokens."""
    import torch

    n, d = len(states), states[0].shape[1]
    scale = torch.stack([layer.double().square().mean().sqrt() for layer in states])
    zeros = states[0].new_zeros
    return Training(
        step=0, weights=zeros(n, d, d), biases=zeros(n, d), momentum=zeros(n, d, d + 1),
        scale=scale.to(states[0].dtype), best_weights=torch.zeros(n, d, d), best_biases=torch.zeros(n, d),
        kept_at=torch.zeros(n, dtype=torch.int64), training_kl=torch.zeros(0, n, dtype=torch.float64),
        evaluated_at=torch.zeros(0, dtype=torch.int64), validation_kl=torch.zeros(0, n, dtype=torch.float64),
    )


def translated(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """States h + A h + b, for h of shape (n, d)."""
    moved: torch.Tensor = states + (states @ weight.T + bias)
    return moved


def gradients(
    project: Projection, states: Sequence[torch.Tensor], final: torch.Tensor, training: Training, *, memory: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over tokens of KL(final prediction || lens), (n,) in nats, and of its gradients for [A c], (n, d, d + 1).

    The gradient is taken for the translated states alone, so that nothing of the model has one.
    """
    import torch

    kl = torch.zeros(len(states), dtype=torch.float64, device=final.device)
    slopes = torch.zeros_like(training.momentum)
    for where, log_p, p in _final_chunks(project, final, memory):
        for i, layer in enumerate(states):
            moved = translated(layer[where], training.weights[i], training.biases[i]).detach().requires_grad_(True)
            with torch.enable_grad():
                logits = project(moved)
            log_q = torch.log_softmax(logits.detach(), dim=-1)
            kl[i] += (log_p - log_q).mul_(p).sum(dim=-1).double().sum()
            (slope,) = torch.autograd.grad(logits, moved, log_q.exp_().sub_(p))
            slopes[i, :, :-1] += slope.T @ layer[where]
            slopes[i, :, -1] += slope.sum(dim=0) * training.scale[i]
    return kl.cpu(), slopes


def divergences(
    project: Projection, states: Sequence[torch.Tensor], final: torch.Tensor, weights: torch.Tensor,
    biases: torch.Tensor, *, memory: float,
) -> torch.Tensor:
    """Sums over tokens of KL(final prediction || lens), (n,) in nats, for translators h + A h + b."""
    import torch

    kl = torch.zeros(len(states), dtype=torch.float64, device=final.device)
    for where, log_p, p in _final_chunks(project, final, memory):
        for i, layer in enumerate(states):
            log_q = torch.log_softmax(project(translated(layer[where], weights[i], biases[i])), dim=-1)
            kl[i] += (log_p - log_q).mul_(p).sum(dim=-1).double().sum()
    return kl.cpu()


def _final_chunks(
    project: Projection, final: torch.Tensor, memory: float
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Chunks of tokens, with the final prediction as logarithms and as probabilities."""
    import torch

    start, size = 0, 1
    while start < len(final):
        where = slice(start, min(start + size, len(final)))
        log_p = torch.log_softmax(project(final[where]), dim=-1)
        yield where, log_p, log_p.exp()
        start, size = where.stop, max(1, int(memory // (NUMBERS * log_p.element_size() * log_p.shape[1])))


def take_step(training: Training, slopes: torch.Tensor, rate: float) -> None:
    """One step against mean gradients (n, d, d + 1), in place."""
    training.step += 1
    training.momentum.mul_(MOMENTUM).add_(slopes, alpha=1 - MOMENTUM)
    ahead = slopes.lerp(training.momentum, MOMENTUM)
    for i, matrix in enumerate(ahead):
        turn = orthogonalized(matrix)
        training.weights[i].sub_(turn[:, :-1], alpha=rate)
        training.biases[i].sub_(turn[:, -1] * training.scale[i], alpha=rate)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values brought near one (0.7 to 1.2), without a decomposition [1]_; 0 stays 0.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = QUINTIC
    found: torch.Tensor = matrix / matrix.norm().clamp_min(1e-30)
    for _ in range(5):
        square = found @ found.T
        found = a * found + (b * square + c * (square @ square)) @ found
    return found


def keep_best(training: Training, kl: torch.Tensor) -> None:
    """Note the held-out divergences (n,) of the translators, and keep those that are the best of their layer so far."""
    import torch

    before = training.validation_kl
    better = torch.ones(len(kl), dtype=torch.bool) if not len(before) else kl < before.min(dim=0).values
    training.best_weights[better] = training.weights.float().cpu()[better]
    training.best_biases[better] = training.biases.float().cpu()[better]
    training.kept_at[better] = training.step
    training.evaluated_at = torch.cat([training.evaluated_at, torch.tensor([training.step])])
    training.validation_kl = torch.cat([before, kl[None]])


def is_stuck(validation_kl: torch.Tensor, *, patience: int, tolerance: float) -> bool:
    """True if in the last ``patience`` evaluations no layer fell below its best before by this share of it."""
    if len(validation_kl) <= patience:
        return False
    before, since = validation_kl[:-patience].min(dim=0).values, validation_kl[-patience:].min(dim=0).values
    return not bool((since < (1 - tolerance) * before).any())


def plan_of(lengths: Sequence[int], steps: int, batch_tokens: int, seed: int) -> list[IntArray]:
    """Which rows each step sees: every row once in a pass, passes shuffled anew, steps of a pass of even size."""
    sizes = np.asarray(lengths, dtype=np.int64)
    groups = max(1, round(float(sizes.sum()) / batch_tokens))
    plan: list[IntArray] = []
    passes = 0
    while len(plan) < steps:
        order = np.random.default_rng([seed, passes]).permutation(len(sizes))
        begins = np.cumsum(sizes[order]) - sizes[order]
        group = begins * groups // int(sizes.sum())
        plan += [order[group == g] for g in range(groups) if (group == g).any()]
        passes += 1
    return plan[:steps]
