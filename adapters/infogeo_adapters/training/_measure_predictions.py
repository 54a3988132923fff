"""Quantities of predictions, read out after each block: loss, entropy, and the way between two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo_adapters.training._measure_pass import Passed, blocks_returning
from infogeo_adapters.training._measure_structure import Structure, call_model, logits_of
from infogeo_adapters.training.probe import IGNORED

if TYPE_CHECKING:
    import torch

MEMORY = 256e6
"""Bytes that the logits of a few texts may take."""

CLOSE = 1e-3
"""The last layer read out may differ from the model's own logits by this share of the largest, by rounding."""


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean over targets, in nats; NaN if there are none."""
    import torch

    kept = targets != IGNORED
    if not bool(kept.any()):
        return float("nan")
    return float(torch.nn.functional.cross_entropy(logits[kept].float(), targets[kept]))


def measure_predictions(
    structure: Structure, passed: Passed, ids: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor,
    wanted: Callable[[str], bool],
) -> tuple[dict[str, FloatArray], str]:
    """What is read out at each layer, and why there is nothing if there is nothing.

    The blocks are made to return the state of one layer for a pass, so that the model itself does with it what it does
    with the last. Whether the last one read out so gives the model's own logits is checked each time.
    """
    import torch

    if passed.logits is None:
        return {}, "the model returns no logits for each token of the probe batch"
    depth = len(passed.calls)
    states = [passed.calls[0].x, *(call.y for call in passed.calls)]
    time_major = is_time_major(passed, ids)
    totals = _Totals(depth)
    size = 4 * passed.logits.shape[1] * passed.logits.shape[2]
    step = max(1, int(MEMORY // (4 * size)))
    place: dict[str, torch.Tensor] = {}
    own = passed.logits
    with torch.no_grad(), blocks_returning(structure, passed, lambda: place["state"]):
        for start in range(0, len(ids), step):
            some = slice(start, start + step)
            before: torch.Tensor | None = None
            for layer in range(depth + 1):
                place["state"] = states[layer][:, some] if time_major else states[layer][some]
                logits = logits_of(call_model(structure, ids[some], mask[some]), tuple(ids[some].shape))  # type: ignore[arg-type]
                if logits is None:
                    return {}, "the model returns no logits when its blocks return a state that is given"
                if layer == depth and not _same(logits, own[some]):
                    return {}, "the states read out at the last layer do not give the model's own logits"
                before = totals.add(layer, logits[mask[some].bool()], targets[some][mask[some].bool()], before)
    return {name: values for name, values in totals.finish().items() if wanted(name)}, ""


class _Totals:
    """Sums over tokens, by layer."""

    def __init__(self, depth: int) -> None:
        self.entropy, self.loss = np.zeros(depth + 1), np.zeros(depth + 1)
        self.length, self.tokens, self.targets = np.zeros(depth), 0, 0

    def add(
        self, layer: int, logits: torch.Tensor, targets: torch.Tensor, before: torch.Tensor | None
    ) -> torch.Tensor:
        """Add the tokens (n, V) of one layer; gives the square roots of their probabilities."""
        import torch

        logs = torch.log_softmax(logits.float(), dim=-1)
        said = torch.nonzero(targets != IGNORED)[:, 0]
        self.loss[layer] -= float(logs[said, targets[said]].double().sum())
        roots = (logs / 2).exp_()
        logs.clamp_min_(-1e30)  # of an outcome that cannot be, whose share of the entropy is zero
        self.entropy[layer] -= float(torch.linalg.vecdot(logs.mul_(roots), roots).double().sum())
        if before is not None:
            self.length[layer - 1] += float(fisher_rao(before, roots).sum())
        if layer == 0:
            self.tokens += len(logits)
            self.targets += len(said)
        return roots

    def finish(self) -> dict[str, FloatArray]:
        """Means."""
        found = {"lens_entropy": self.entropy / self.tokens, "path_length": self.length / self.tokens}
        if self.targets:
            found["lens_loss"] = self.loss / self.targets
        return found


def fisher_rao(roots: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Fisher-Rao distance of discrete laws (n, V) given by the square roots of their probabilities.

    Twice the angle between these, from the length of the chord, which is exact for laws that hardly differ.
    """
    import torch

    chord: torch.Tensor = torch.linalg.vector_norm(roots - others, dim=-1).double()
    return 4 * (chord / 2).clamp(max=1.0).arcsin()


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether logits are equal up to rounding, or not finite both."""
    import torch

    if one.shape != other.shape:
        return False
    finite = other.isfinite().all(dim=-1)
    if not torch.equal(one.isfinite().all(dim=-1), finite):
        return False
    if not bool(finite.any()):
        return True
    scale = max(float(other[finite].abs().max()), 1e-30)
    return float((one[finite].float() - other[finite].float()).abs().max()) <= CLOSE * scale


def is_time_major(passed: Passed, ids: torch.Tensor) -> bool:
    """Whether blocks hold states as (token, text, d)."""
    found = tuple(passed.calls[0].x.shape[:2])
    return found != tuple(ids.shape) and found == tuple(ids.shape)[::-1]


def target_rows(targets: IntArray) -> int:
    """Number of places with a target."""
    return int((targets != IGNORED).sum())
