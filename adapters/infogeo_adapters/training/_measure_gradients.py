"""Quantities of gradients of the loss on the probe batch, over a few groups of its texts, block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray
from infogeo_adapters.training._measure_structure import Structure, call_model, logits_of
from infogeo_adapters.training.probe import IGNORED

if TYPE_CHECKING:
    import torch

GROUPS = 8
"""Groups of texts that gradients are taken of."""


def measure_gradients(
    structure: Structure, blocks: Sequence[torch.nn.Module], ids: torch.Tensor, mask: torch.Tensor,
    targets: torch.Tensor,
) -> dict[str, FloatArray]:
    r"""Fisher trace and signal-to-noise ratio of the gradient of each block.

    With :math:`g_k` the gradient of the mean loss on the :math:`n_k` targets of group k of K,

    .. math:: \mathrm{tr}\, F \approx \frac1K \sum_k n_k \lVert g_k \rVert^2, \qquad
              \mathrm{SNR} = \frac{\lVert \bar g \rVert^2}{\frac{1}{K(K-1)} \sum_k \lVert g_k - \bar g \rVert^2}

    The first is the trace of the empirical Fisher matrix of one target as long as gradients of different targets point
    in different directions, and is above it where they agree. The second is 1 on average where the groups share
    nothing, since then the mean is noise. Gradients of parameters are those of the loss alone, without dropout; the
    gradients that training has gathered are not touched, and parameters that do not learn are measured too.
    """
    import torch

    parameters = [[p for p in block.parameters() if p.is_floating_point()] for block in blocks]
    every = list(dict.fromkeys(p for of_block in parameters for p in of_block))
    nothing = np.full(len(blocks), np.nan)
    groups = np.array_split(np.arange(len(ids)), min(GROUPS, len(ids)))
    groups = [group for group in groups if bool((targets[group] != IGNORED).any())]
    if len(groups) < 2 or not every:
        return {"fisher_trace": nothing, "gradient_snr": nothing.copy()}
    squares, weighted = np.zeros(len(blocks)), np.zeros(len(blocks))
    sums: dict[torch.Tensor, torch.Tensor] = {}
    with _learning(every), torch.enable_grad():
        for group in groups:
            said = targets[group] != IGNORED
            logits = logits_of(call_model(structure, ids[group], mask[group]), (len(group), int(ids.shape[1])))
            if logits is None:
                return {"fisher_trace": nothing, "gradient_snr": nothing.copy()}
            loss = torch.nn.functional.cross_entropy(logits[said].float(), targets[group][said])
            found = torch.autograd.grad(loss, every, allow_unused=True)
            by_parameter = dict(zip(every, found, strict=True))
            norms = {p: float((g.detach().float() ** 2).sum()) for p, g in by_parameter.items() if g is not None}
            for p, g in by_parameter.items():
                if g is not None:
                    sums[p] = g.detach().float() if p not in sums else sums[p] + g.detach().float()
            of_block = np.array([sum(norms.get(p, 0.0) for p in own) for own in parameters])
            squares += of_block
            weighted += int(said.sum()) * of_block
    count = len(groups)
    mean = np.array([sum(float((sums[p] ** 2).sum()) for p in own if p in sums) for own in parameters]) / count**2
    spread = (squares - count * mean) / (count - 1) / count
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(spread > 0, mean / spread, np.nan)
    return {"fisher_trace": weighted / count, "gradient_snr": ratio}


@contextlib.contextmanager
def _learning(parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """Parameters that record gradients; afterwards those that did not do not again."""
    still = [p for p in parameters if not p.requires_grad]
    try:
        for parameter in still:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(False)
