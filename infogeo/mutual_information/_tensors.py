"""Neighbors among all pairs of samples on a device, with operations of the array-API standard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from infogeo._arrays import Array, is_tensor, like, namespace, to_numpy
from infogeo._checks import FloatArray, IntArray, check_tensor
from infogeo.errors import DomainError
from infogeo.mutual_information._neighbors import Found, slack_of

BLOCK_NUMBERS = 1 << 25
"""Distances held at once for each variable: a quarter of a gigabyte."""


def to_host(**values: Any) -> tuple[list[Any], Array | None]:
    """The values with tensors of a device as NumPy arrays, and one of these tensors: where distances are taken."""
    tensors = {name: value for name, value in values.items() if is_tensor(value) and value.device.type != "cpu"}
    devices = {str(value.device) for value in tensors.values()}
    if len(devices) > 1:
        listed = ", ".join(f"{name} on {value.device}" for name, value in tensors.items())
        raise DomainError(f"found tensors on several devices: {listed}; move all to one")
    for name, value in tensors.items():
        check_tensor(name, value)
        if value.requires_grad:
            raise DomainError(
                f"{name}: found a tensor that records a gradient, but an estimate from neighbors has none; give "
                f"{name}.detach()"
            )
        namespace(value)
    host = [to_numpy(value.double()) if name in tensors else value for name, value in values.items()]
    return host, next(iter(tensors.values()), None)


def by_tensors(
    blocks: Sequence[FloatArray],
    marginals: Sequence[Sequence[int]],
    rounding: FloatArray,
    k: int,
    rectangles: bool,
    where: Array,
) -> Found:
    """Search among all pairs in float64 on the device of a tensor; the same result as that of a tree."""
    xp, n = namespace(where), len(rounding)
    columns = [[like(column, where) for column in block.T] for block in blocks]
    radius, following = np.empty(n), np.full(n, np.inf)
    nearest = np.empty((n, k), dtype=np.int64)
    places = np.zeros(n, dtype=np.int64)
    strict, closed, rectangle = (np.zeros((len(marginals), n), dtype=np.int64) for _ in range(3))
    shells: list[tuple[IntArray, IntArray]] = []
    every = like(np.arange(n), where)

    def counted(distance: Array, reach: FloatArray, own: int) -> IntArray:
        inside = xp.sum(xp.astype(distance <= like(reach, where)[:, None], xp.int64), axis=1)
        return np.asarray(to_numpy(inside) - own * (reach >= 0))

    size = max(1, BLOCK_NUMBERS // n)
    for start in range(0, n, size):
        here = slice(start, min(start + size, n))
        rows = every[here]
        apart = []
        for block in columns:
            distance = xp.abs(block[0][here, None] - block[0][None, :])
            for column in block[1:]:
                distance = xp.maximum(distance, xp.abs(column[here, None] - column[None, :]))
            apart.append(distance)
        joint = apart[0]
        for other in apart[1:]:
            joint = xp.maximum(joint, other)
        joint = xp.where(every[None, :] == rows[:, None], xp.inf, joint)
        left = joint
        for rank in range(min(k + 1, n - 1)):
            least = to_numpy(xp.min(left, axis=1))
            place = xp.argmin(left, axis=1)
            if rank < k:
                nearest[here, rank] = to_numpy(place)
            (following if rank == k else radius)[here] = least
            left = xp.where(every[None, :] == place[:, None], xp.inf, left)
        slack = slack_of(radius[here], rounding[here])
        low, high = radius[here] - slack, radius[here] + slack
        zero = radius[here] <= slack
        places[here] = np.where(zero, counted(joint, high, 0), 0)
        for m, marginal in enumerate(marginals):
            distance = apart[marginal[0]]
            for b in marginal[1:]:
                distance = xp.maximum(distance, apart[b])
            strict[m, here], closed[m, here] = counted(distance, low, 1), counted(distance, high, 1)
            if rectangles:
                own = _farthest([blocks[b] for b in marginal], nearest[here], start)
                rectangle[m, here] = counted(distance, own + slack_of(own, rounding[here]), 1)
        tied = np.flatnonzero((following[here] - radius[here] <= slack) & ~zero)
        chosen = joint[like(tied, where), :] <= like(high[tied], where)[:, None]
        who, others = (to_numpy(part) for part in xp.nonzero(chosen))
        shells.append((tied[who] + start, others))
    shell = (np.concatenate([a for a, _ in shells]), np.concatenate([b for _, b in shells]))
    return Found(
        radius, following, nearest, tuple(strict), tuple(closed), shell, places,
        tuple(rectangle) if rectangles else (),
    )  # fmt: skip


def _farthest(blocks: Sequence[FloatArray], nearest: IntArray, start: int) -> FloatArray:
    """Distance in some blocks of columns to the farthest of the neighbors."""
    far = np.zeros(len(nearest))
    for block in blocks:
        own = block[start : start + len(nearest), None, :]
        far = np.maximum(far, np.abs(block[nearest] - own).max(axis=(1, 2)))
    return far
