"""Queries, keys and values among the affine maps of a block, taken apart into heads by derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infogeo_adapters.transformers._stage_watch import Call, gradients

if TYPE_CHECKING:
    import torch

PROJECTIONS = ("query", "key", "value")
NOTHING = "it comes from no affine map, wanted from one map"

Channel = tuple[int, int, tuple[int, ...]]
"""Which source, which of its outputs, and the heads that it acts on."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Queries, keys or values: some outputs of an affine map."""

    call: Call
    columns: tuple[int, ...] | None
    """Which outputs, head by head; None for all in their order."""
    heads: int | None
    """Heads that they fall into; None where these cannot be told apart."""
    normed: int | None = None
    """Heads that lie side by side, where a norm over all of them keeps each from acting on one head alone."""


@dataclass
class Leaf:
    """An affine map that ran: what went in, with its history, and the random numbers put in the place of its output."""

    call: Call
    read: torch.Tensor
    """As the map was given it, in whatever shape."""
    given: torch.Tensor
    """(T, in)"""
    put: torch.Tensor
    """(T, out)"""
    source: bool
    """True if its rows are the tokens of the source text."""


def find_projections(
    output: Leaf, leaves: list[Leaf], sources: list[int], heads: int | None
) -> tuple[dict[str, Projection], dict[str, str]]:
    """Queries, keys and values among the maps that attention reads, and what is wrong with those not found."""
    width = output.given.shape[1]
    if heads is None or width % heads:
        return {}, dict.fromkeys(PROJECTIONS, f"the config says {heads} heads, which do not divide {width} components")
    projections: dict[str, Projection] = {}
    reasons: dict[str, str] = {}
    kinds = _channels(output, [leaves[j] for j in sources], heads)
    mixed = False
    for part, found in kinds.items():
        which = sorted({s for s, _, _ in found})
        if len(which) != 1:
            paths = ", ".join(leaves[sources[s]].call.path for s in which)
            reasons[part] = f"it comes from {paths}, wanted from one map" if which else NOTHING
            continue
        leaf = leaves[sources[which[0]]]
        groups = sorted({group for _, _, group in found})
        apart = sum(map(len, groups)) == heads and len({h for g in groups for h in g}) == heads
        if part == "query":  # one head each, or a norm over all heads mixes them, and those of keys as well
            mixed = len(groups) != heads
        apart = apart and not (mixed and part != "value")
        sizes = {sum(g == group for _, _, g in found) for group in groups}
        order = sorted(found, key=lambda entry: (entry[2], entry[1])) if apart and len(sizes) == 1 else found
        columns = tuple(c for _, c, _ in order)
        whole = columns == tuple(range(leaf.put.shape[1]))
        projections[part] = Projection(
            call=leaf.call, columns=None if whole else columns, heads=len(groups) if order is not found else None
        )
    for part, one in projections.items():
        values = projections.get("value")
        groups_of_keys = None if values is None else values.heads
        if one.heads is None and groups_of_keys is not None:
            leaf = next(leaf for leaf in leaves if leaf.call == one.call)
            count = heads if part == "query" else groups_of_keys
            columns = one.columns or tuple(range(leaf.put.shape[1]))
            projections[part] = _under_norm(output, leaf, one, columns, heads, count)
    return projections, reasons


def _channels(output: Leaf, sources: Sequence[Leaf], heads: int) -> dict[str, list[Channel]]:
    """Which outputs of which maps work as queries, as keys and as values."""
    import torch

    size = output.given.shape[1] // heads
    puts = [leaf.put for leaf in sources]

    def reached(seed: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each source, which channels matter at the own token, and which at others."""
        weights = torch.zeros_like(output.given)
        weights[-1] = seed.reshape(-1).to(weights)
        got = list(zip(gradients(output.given, weights, puts), sources, strict=True))
        own = [(g[-1] != 0) & (not leaf.source) for g, leaf in got]
        return own, [((g if leaf.source else g[:-1]) != 0).any(0) for g, leaf in got]

    component = torch.zeros(2, heads, size)
    component[0, :, 0] = component[1, :, 1 % size] = 1.0
    zeroth, oneth = (reached(c)[1] for c in component)
    owns: list[list[torch.Tensor]] = []
    others: list[list[torch.Tensor]] = []
    for head in range(heads):
        seed = torch.zeros(heads, size)
        seed[head] = torch.linspace(0.5, 1.5, size)
        own, other = reached(seed)
        owns.append(own)
        others.append(other)
    channels: dict[str, list[Channel]] = {part: [] for part in PROJECTIONS}
    for s in range(len(sources)):
        at_own, at_others = (torch.stack([one[s] for one in many]) for many in (owns, others))
        for c in torch.nonzero((at_own | at_others).any(0)).flatten().tolist():
            if not bool(at_others[:, c].any()):
                part, by = "query", at_own
            else:
                part, by = ("key" if bool(zeroth[s][c] & oneth[s][c]) else "value"), at_others
            channels[part].append((s, c, tuple(torch.nonzero(by[:, c]).flatten().tolist())))
    return channels


def _under_norm(
    output: Leaf, leaf: Leaf, found: Projection, channels: Sequence[int], count: int, groups: int
) -> Projection:
    """The projection with its heads in order, if all that other channels do to a head is to scale and shift it.

    A norm over all heads lets every channel act on each, but in one way only: the derivative of a head by the channels
    of the others is then a multiple of these channels themselves (root mean square), plus a constant (layer norm).
    """
    import torch

    tolerance = 1e-3 if leaf.put.dtype.itemsize >= 4 else 5e-2
    size, width = output.given.shape[1] // count, len(channels) // groups
    if len(channels) % groups or count % groups:
        return found
    columns = torch.tensor(list(channels), device=leaf.put.device)
    values = leaf.put.detach()[:, columns].double()
    for head in range(count):
        weights = torch.zeros_like(output.given)
        weights[-1, head * size : (head + 1) * size] = torch.linspace(0.5, 1.5, size).to(weights)
        got = gradients(output.given, weights, [leaf.put])[0][:, columns].double()
        outside = torch.ones(len(channels), dtype=torch.bool, device=columns.device)
        mine = head * groups // count
        outside[mine * width : (mine + 1) * width] = False
        for row, value in zip(got, values, strict=True):
            basis = torch.stack([value[outside], torch.ones_like(value[outside])], dim=1)
            left = row[outside] - basis @ (torch.linalg.pinv(basis) @ row[outside])
            if float(left.norm()) > tolerance * float(row.norm()):
                return found
    return replace(found, normed=groups)
