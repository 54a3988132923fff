"""Blocks of pairs for measures that are no function of one matrix product: one transcendental per entry, or a bound.

As in ``_statistics``: entries whose digits a difference has lost are recognized and computed again pair by pair, NumPy
works in portions that fit the cache, and a tensor is taken in large pieces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import device

from infogeo._arrays import Array, is_tensor, namespace
from infogeo._statistics import NEAR, PORTION, PREPARED, portions, repair
from infogeo.families import Categorical, DiagonalGaussian
from infogeo.measures import BlockKernel

Pair = Callable[[Any, Any], Array]

# -------------------------------------------------------------------------------------------------- diagonal normals
#
# The half-plane of one coordinate is a hyperboloid in three dimensions, where the hyperbolic cosine of a distance is a
# product of vectors. So a coordinate costs a product of three terms and one inverse hyperbolic cosine per pair. The
# product rounds relative to the sizes of the vectors (hyperbolic cosines of the distances from the middle of the
# batch), which bounds the error of the sum of squares over all coordinates; below that bound a pair is computed again.

LIFT_ERROR = 1e-5
"""Pairs whose squared distance, halved, is below this fraction of the product of their sizes are computed again.

A cosine has an error of at most 5e-16 times the product of sizes, and so have halved squares, twice that; the distance
of a pair that is kept has a relative error of at most 1e-10 by this bound, and in practice of 1e-12.
"""


COORDINATES = 8
"""Coordinates whose vectors are laid out for the product at a time."""


class _Buffers(threading.local):
    """Two arrays of each thread, used again for every block: fresh memory costs as much as a pass over it."""

    def __init__(self) -> None:
        self._flat: tuple[Array, Array] | None = None

    def two(self, like: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
        size = shape[0] * shape[1]
        if self._flat is None or len(self._flat[0]) < size:
            xp = namespace(like)
            a, b = (xp.empty((size,), dtype=like.dtype, device=device(like)) for _ in range(2))
            self._flat = a, b
        a, b = (flat[:size].reshape(shape) for flat in self._flat)
        return a, b


@dataclass(frozen=True)
class _Lifted:
    family: DiagonalGaussian
    vectors: Array
    """(d, 3, n), a copy and a half of the batch"""
    sizes: Array
    """(2, n), the second row zero, which makes BLAS take it: the product of two is the least distance to trust"""
    buffers: _Buffers


def _lift(x: DiagonalGaussian) -> _Lifted:
    xp = namespace(x.mean, x.var)
    n, d = x.mean.shape
    vectors = xp.empty((d, 3, n), dtype=x.mean.dtype, device=device(x.mean))
    total = xp.zeros_like(x.mean[:, 0])
    with np.errstate(all="ignore"):  # what overflows here is computed pair by pair
        for k in range(d):
            mean, std = x.mean[:, k], xp.sqrt(x.var[:, k])
            scale = xp.exp(xp.mean(xp.log(std)))
            u, t = (mean - xp.mean(mean)) / (2**0.5 * scale), std / scale
            vectors[k, 0] = (u * u + t * t) / (2 * t)
            vectors[k, 1] = 1 / t
            vectors[k, 2] = u / t
            total += (vectors[k, 0] + vectors[k, 1] / 2) ** 2
        sizes = xp.sqrt((2 * LIFT_ERROR) ** 0.5 * xp.sqrt(total))
    return _Lifted(x, vectors, xp.stack([sizes, xp.zeros_like(sizes)]), _Buffers())


def half_plane_block(pair: Pair, *, copies: int) -> BlockKernel:
    """Block of Fisher-Rao distances of normals with independent coordinates; ``pair`` computes them pair by pair."""

    def evaluate(prepared: _Lifted, rows: slice, columns: slice, memory: float) -> Array:
        xp, x = namespace(prepared.vectors), prepared.family
        across = prepared.vectors[:, :, columns]
        values, buffer = prepared.buffers.two(across, (rows.stop - rows.start, across.shape[2]))
        with np.errstate(all="ignore"):
            for start in range(0, len(across), COORDINATES):
                down = prepared.vectors[start : start + COORDINATES, :, rows]
                down = xp.stack([down[:, 1], down[:, 0], -down[:, 2]], axis=-1)
                for k, left in enumerate(down, start):
                    angle = buffer if k else values
                    xp.matmul(left, across[k], out=angle)
                    _arcosh(angle)
                    if len(across) > 1:
                        angle *= angle
                    if k:
                        values += angle
            if len(across) > 1:
                values **= 0.5
            values *= 2**0.5
            xp.matmul(prepared.sizes[:, rows].T, prepared.sizes[:, columns], out=buffer)
            trusted = values > buffer
        if not xp.all(trusted):
            repair(
                values,
                ~trusted,
                lambda i, j: pair(x[i], x[j]),
                corner=(rows.start, columns.start),
                upper=rows == columns,
                pair_bytes=8 * copies * x.member_size,
                memory=memory,
            )
        return values

    return BlockKernel(_lift, evaluate, scratch=10, tile=(128, 512))


def _arcosh(cosine: Array) -> None:
    """Inverse hyperbolic cosine in place, of one where rounding left less."""
    if is_tensor(cosine):
        cosine.clamp_(min=1.0).acosh_()
        return
    if cosine.min() < 1:  # by rounding
        np.maximum(cosine, 1.0, out=cosine)
    np.arccosh(cosine, out=cosine)


# ------------------------------------------------------------------------------------------------------- categorical


@dataclass(frozen=True)
class _Roots:
    family: Categorical
    vectors: Array


def _take_roots(x: Categorical) -> _Roots:
    xp = namespace(x.log_probs)
    roots = xp.empty_like(x.log_probs)
    for rows in portions(roots, *x.log_probs.shape, entries=PREPARED):
        roots[rows] = xp.exp(x.log_probs[rows] / 2)
    return _Roots(x, roots)


def affinity_block(pair: Pair, *, copies: int) -> BlockKernel:
    r"""Block of :math:`-\log \sum \sqrt{pq}` from a matrix product, whose terms are all positive."""

    def evaluate(prepared: _Roots, rows: slice, columns: slice, memory: float) -> Array:
        xp, x = namespace(prepared.vectors), prepared.family
        affinity = prepared.vectors[rows] @ prepared.vectors[columns].T
        near = ~(affinity < 1 - NEAR)
        with np.errstate(divide="ignore"):
            values = -xp.log(affinity)
        repair(
            values,
            near,
            lambda i, j: pair(x[i], x[j]),
            corner=(rows.start, columns.start),
            upper=rows == columns,
            pair_bytes=8 * copies * x.member_size,
            memory=memory,
        )
        return values

    return BlockKernel(_take_roots, evaluate, scratch=8)


@dataclass(frozen=True)
class _Mixed:
    family: Categorical
    halves: Array
    """Half the probabilities, the one copy of the batch."""
    negative_entropy: Array


TINY = 1e-300
"""Added to half a probability, so that the logarithm of zero is never taken; its own product with it is nothing."""


def _take_halves(x: Categorical) -> _Mixed:
    xp = namespace(x.log_probs)
    halves, negative_entropy = xp.empty_like(x.log_probs), xp.empty_like(x.log_probs[:, 0])
    for rows in portions(halves, *x.log_probs.shape, entries=PREPARED):
        part = xp.exp(x.log_probs[rows])
        logs = xp.where(part > 0, x.log_probs[rows], xp.zeros_like(part))
        negative_entropy[rows] = xp.sum(part * logs, axis=-1)
        halves[rows] = part / 2 + TINY
    return _Mixed(x, halves, negative_entropy)


def jensen_shannon_block(pair: Pair, *, copies: int) -> BlockKernel:
    """Block of Jensen-Shannon distances as differences of entropies: one logarithm per pair and outcome."""

    def evaluate(prepared: _Mixed, rows: slice, columns: slice, memory: float) -> Array:
        xp, x = namespace(prepared.halves), prepared.family
        p, q = prepared.halves[rows], prepared.halves[columns]
        own = (prepared.negative_entropy[rows, None] + prepared.negative_entropy[None, columns]) / 2
        mixed = xp.zeros_like(own)
        pieces = memory / (8 * 3 * own.size) if not is_tensor(own) else memory / (8 * 3 * own.numel())
        step = max(1, int(pieces if is_tensor(own) else min(pieces, PORTION / own.size)))
        for start in range(0, x.dimension, step):
            middle = p[:, None, start : start + step] + q[None, :, start : start + step]
            mixed += xp.linalg.vecdot(middle, xp.log(middle))
        values = own - mixed
        near = ~(values > NEAR * (1 - own))
        values = xp.sqrt(xp.where(near, xp.zeros_like(values), values))
        repair(
            values,
            near,
            lambda i, j: pair(x[i], x[j]),
            corner=(rows.start, columns.start),
            upper=rows == columns,
            pair_bytes=8 * copies * x.member_size,
            memory=memory,
        )
        return values

    return BlockKernel(_take_halves, evaluate, scratch=8, tile=(8, 16))
