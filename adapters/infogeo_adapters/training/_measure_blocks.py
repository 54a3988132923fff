"""Quantities of blocks: what they add and carry on, their capacity, their hidden units, and blocks that are alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from infogeo._checks import FloatArray, IntArray
from infogeo.errors import InfogeoError
from infogeo.estimates import EstimateWarning

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.training._measure_structure import Structure

COMPONENTS = 24
"""Most leading principal components that capacity is measured on."""

OFF = 1e-3
"""A unit that never exceeds this share of the root mean square of all units is off."""

BOUND = 1e-3
"""An activation this near to a bound of its function, in units of half its range, is at the bound."""

FAR = 1e4
"""What is put into activation functions to see whether they are bounded."""


def contribution(x: FloatArray, y: FloatArray) -> float:
    """Mean over tokens of the norm of what a block adds over that of its input."""
    norms = np.sqrt((x**2).sum(axis=1))
    added = np.sqrt(((y - x) ** 2).sum(axis=1))
    there = norms > 0
    return float((added[there] / norms[there]).mean()) if there.any() else np.nan


def carry(x: FloatArray, y: FloatArray) -> float:
    r"""Slope of the regression of output on input, over tokens and components, each centered over tokens.

    .. math:: \frac{\sum_{ij} (x_{ij} - \bar x_j)(y_{ij} - \bar y_j)}{\sum_{ij} (x_{ij} - \bar x_j)^2}

    One where a block adds something that does not depend on its input, zero where nothing of the input goes on.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    square = float((x * x).sum())
    return float((x * y).sum()) / square if square > 0 else np.nan


def channel(x: FloatArray, y: FloatArray, texts: IntArray) -> tuple[float, float, float]:
    """Capacity, rate and utilization of a block as a linear channel with normal noise.

    On the leading principal components of input and output, as many as a sixth of the tokens and 24 at most; the
    jackknife is over two folds of texts.
    """
    from infogeo.capacity.linear import linear_gaussian_capacity

    components = min(COMPONENTS, x.shape[1], len(x) // 6)
    if components < 1:
        return np.nan, np.nan, np.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EstimateWarning)
            several = len(np.unique(texts)) > 1
            found = linear_gaussian_capacity(
                x, y, groups=texts if several else None, components=components, folds=2
            )
    except (InfogeoError, np.linalg.LinAlgError):  # exactly linear, or nothing varies: there is no such channel
        return np.nan, np.nan, np.nan
    rate = np.nan if found.rate is None else float(found.rate)
    utilization = np.nan if found.utilization is None else float(found.utilization)
    return float(found.capacity), rate, utilization


def measure_blocks(
    pairs: Sequence[tuple[FloatArray, FloatArray] | None], texts: IntArray, wanted: Callable[[str], bool]
) -> dict[str, FloatArray]:
    """Quantities found from input and output of the blocks; None stands for a block with states that are not finite."""
    found: dict[str, FloatArray] = {}
    for name, function in (("contribution", contribution), ("carry", carry)):
        if wanted(name):
            found[name] = np.array([np.nan if pair is None else function(*pair) for pair in pairs])
    names = ("capacity", "rate", "utilization")
    if any(map(wanted, names)):
        table = np.array([(np.nan,) * 3 if pair is None else channel(*pair, texts) for pair in pairs])
        found |= {name: table[:, i] for i, name in enumerate(names) if wanted(name)}
    return found


# Hidden units


def dead_share(units: torch.Tensor) -> float:
    """Share of hidden units (n, units) that are off on all tokens.

    Off is at most a thousandth of the root mean square of all activations of the layer, so that it serves functions
    with an exact zero as ReLU has, and those that only come near to one, as GELU and gates of SiLU. If all are zero,
    all are dead.
    """
    values = units.double()
    if not bool(values.isfinite().all()):
        return float("nan")
    scale = float((values**2).mean().sqrt())
    return float((values.abs().amax(dim=0) <= OFF * scale).double().mean())


def saturated_share(units: torch.Tensor, bounds: tuple[float, float]) -> float:
    """Share of activations within a thousandth of half the range from a bound of their function."""
    values = units.double()
    if not bool(values.isfinite().all()):
        return float("nan")
    low, high = bounds
    near = BOUND * (high - low) / 2
    return float(((values <= low + near) | (values >= high - near)).double().mean())


def activation_bounds(structure: Structure, run: Callable[[], object]) -> dict[int, tuple[float, float]]:
    """Bounds of the activation functions between the two maps of feed-forwards, by block, where they have both.

    Large numbers are put in the place of what the first map returns, and it is seen what comes out. ``run`` makes a
    pass of the model.
    """
    import torch

    ends: dict[int, list[float]] = {}
    for sign in (-1.0, 1.0):
        handles = []
        try:
            for block, (module, _) in structure.firsts.items():
                if block in structure.lasts:
                    handles.append(module.register_forward_hook(lambda m, a, y, s=sign: torch.full_like(y, s * FAR)))
                    last = structure.lasts[block][0]
                    handles.append(last.register_forward_pre_hook(_noting(ends.setdefault(block, []))))
            if handles:
                run()
        finally:
            for handle in handles:
                handle.remove()
    return {
        block: (min(pair), max(pair)) for block, pair in ends.items()
        if len(pair) == 2 and all(abs(v) < FAR / 100 for v in pair) and pair[0] != pair[1]
    }


def _noting(kept: list[float]) -> Callable[..., None]:
    def hook(module: object, args: tuple[torch.Tensor, ...]) -> None:
        kept.append(float(args[0].detach().double().mean()))

    return hook


# Blocks that are alike


def twins(blocks: Sequence[torch.nn.Module]) -> tuple[FloatArray, tuple[int, ...]]:
    """Largest cosine of the weights of each block with those of another one, and which that is, counted from 1.

    Over tensors with two axes or more that both blocks have under the same name and in the same shape, each less its
    mean; gains and biases, which are alike in healthy blocks, are left out. NaN and 0 where there is no other block.
    """
    import torch

    tables = [
        {n: p.detach() for n, p in block.named_parameters() if p.ndim >= 2 and p.is_floating_point()}
        for block in blocks
    ]
    count = len(tables)
    products, squares = np.zeros((count, count)), np.zeros((count, count))
    for name in dict.fromkeys(n for table in tables for n in table):
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, table in enumerate(tables):
            if name in table:
                by_shape.setdefault(tuple(table[name].shape), []).append(i)
        for members in by_shape.values():
            flat = torch.stack([tables[i][name].float().reshape(-1) for i in members])
            flat = flat - flat.mean(dim=1, keepdim=True)
            gram = (flat @ flat.T).double().cpu().numpy()
            here = np.ix_(members, members)
            products[here] += gram
            squares[here] += np.diag(gram)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = products / np.sqrt(squares * squares.T)
    np.fill_diagonal(cosines, -np.inf)
    cosines = np.where(np.isnan(cosines), -np.inf, cosines)
    best = cosines.argmax(axis=1) if count > 1 else np.zeros(count, dtype=np.int64)
    values = cosines[np.arange(count), best]
    known = np.isfinite(values)
    return np.where(known, values, np.nan), tuple(int(b) + 1 if k else 0 for b, k in zip(best, known, strict=True))
