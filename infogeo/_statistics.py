"""Pair statistics that several measures are functions of, each pair by pair and as a matrix product.

The matrix product loses digits where a difference of two nearly equal numbers is left. Those entries are recognized
and computed again from the differences of the parameters, so that a block agrees with the pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from infogeo import _kernels
from infogeo._checks import FloatArray, IntArray
from infogeo.errors import DomainError
from infogeo.families import Categorical, Family, PointMass, SharedCovarianceGaussian
from infogeo.families.gaussian import solve_lower
from infogeo.measures import BlockKernel, Measure

NEAR = 1e-3
"""An entry is computed again if cancellation left less than this fraction of what was subtracted."""

UNIT_FLOOR = 1e-9
"""Squared chords of unit vectors below this are computed again: the vectors themselves are rounded to 1e-16."""

ZERO_BYTES = 16
"""What a test for zero probabilities takes for each outcome of each distribution: a truth value and a float64."""

BLOCK_SCRATCH = 8
"""Float64 numbers per entry that a block needs for the product, its tests and what the measure makes of it."""


@dataclass(frozen=True)
class Statistic:
    """A function of two members of a family on which some measures depend alone."""

    family: type[Family]
    pair: Callable[[Any, Any], FloatArray]
    block: BlockKernel
    scratch: int
    """Temporaries of ``pair``, in multiples of the size of a member."""

    def register(self, measure: Measure, function: Callable[[FloatArray], FloatArray]) -> None:
        """Register ``function(statistic)`` as the kernel of a measure."""
        evaluate = self.block.evaluate

        def kernel(p: Any, q: Any) -> FloatArray:
            return function(self.pair(p, q))

        def block(prepared: Any, rows: slice, columns: slice, memory: float) -> FloatArray:
            return function(evaluate(prepared, rows, columns, memory))

        measure.register(
            self.family, scratch=self.scratch, block=BlockKernel(self.block.prepare, block, self.block.scratch)
        )(kernel)


# --------------------------------------------------------------------------------------------- matrix products


def _repair(
    values: FloatArray,
    near: NDArray[np.bool_],
    exact: Callable[[IntArray, IntArray], FloatArray],
    *,
    square: bool,
    pair_bytes: int,
    memory: float,
) -> FloatArray:
    """Replace the entries marked ``near`` by exact ones, in portions that keep to the memory.

    In a ``square`` block, whose rows are its columns, each pair of a symmetric statistic is computed once.
    """
    places = np.flatnonzero(np.triu(near, 1) if square else near)
    step = max(1, int(memory // pair_bytes))
    width = values.shape[1]
    for start in range(0, len(places), step):
        i, j = places[start : start + step] // width, places[start : start + step] % width
        values[i, j] = exact(i, j)
        if square:
            values[j, i] = values[i, j]
    if square:
        np.fill_diagonal(values, 0.0)
    return values


@dataclass(frozen=True)
class _Embedded:
    """A batch as vectors, less their mean, whose squared differences the statistic is a function of.

    The vectors are the one copy of the batch that this takes; they are made in place.
    """

    family: Any
    vectors: FloatArray
    squares: FloatArray


def _embedded(family: Any, vectors: FloatArray) -> _Embedded:
    return _Embedded(family, vectors, np.einsum("ij,ij->i", vectors, vectors))


def _difference_block(
    pair: Callable[[Any, Any], FloatArray],
    finish: Callable[[FloatArray], FloatArray],
    *,
    floor: float = 0.0,
    copies: int,
) -> Callable[[_Embedded, slice, slice, float], FloatArray]:
    """Block of ``finish(|x - y|^2)``, the squares from a matrix product; ``pair`` makes so many copies of a vector."""

    def evaluate(prepared: _Embedded, rows: slice, columns: slice, memory: float) -> FloatArray:
        total = prepared.squares[rows, None] + prepared.squares[None, columns]
        squares = prepared.vectors[rows] @ prepared.vectors[columns].T
        squares *= -2.0
        squares += total
        near = squares <= np.maximum(NEAR * total, floor, out=total)
        values = finish(np.maximum(squares, 0.0, out=squares))
        left, right = prepared.family[rows], prepared.family[columns]
        return _repair(
            values,
            near,
            lambda i, j: pair(left[i], right[j]),
            square=rows == columns,
            pair_bytes=8 * copies * prepared.vectors.shape[1],
            memory=memory,
        )

    return evaluate


# ------------------------------------------------------------------------------------------ differences of vectors


def mahalanobis(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> FloatArray:
    r""":math:`\sqrt{(m_p - m_q)^\top \Sigma^{-1} (m_p - m_q)}`, by the Cholesky factor of the covariance."""
    return np.asarray(np.linalg.norm(solve_lower(p.cholesky, p.mean - q.mean), axis=-1))


def euclidean(p: PointMass, q: PointMass) -> FloatArray:
    """Length of the difference of two vectors."""
    xp = array_namespace(p.location, q.location)
    return np.asarray(xp.linalg.vector_norm(p.location - q.location, axis=-1))


def _prepare_shared(x: SharedCovarianceGaussian) -> _Embedded:
    return _embedded(x, solve_lower(x.cholesky, x.mean - x.mean.mean(axis=0), overwrite=True))


def _prepare_points(x: PointMass) -> _Embedded:
    return _embedded(x, x.location - x.location.mean(axis=0))


MAHALANOBIS = Statistic(
    SharedCovarianceGaussian,
    mahalanobis,
    BlockKernel(_prepare_shared, _difference_block(mahalanobis, np.sqrt, copies=6), BLOCK_SCRATCH),
    scratch=6,
)
EUCLIDEAN = Statistic(
    PointMass,
    euclidean,
    BlockKernel(_prepare_points, _difference_block(euclidean, np.sqrt, copies=4), BLOCK_SCRATCH),
    scratch=4,
)


# ------------------------------------------------------------------------------------------- angles between vectors


def root_complement(p: Categorical, q: Categorical) -> FloatArray:
    r""":math:`1 - \sum \sqrt{pq}`, half the squared chord between the square roots of two distributions."""
    difference = _kernels.root_differences(p.log_probs, q.log_probs)
    difference *= difference
    return np.asarray(0.5 * difference.sum(axis=-1))


def cosine_complement(p: PointMass, q: PointMass) -> FloatArray:
    """One less the cosine of the angle between two vectors."""
    for name, side in (("first argument", p), ("second argument", q)):
        _refuse_zero(name, side.location)
    return np.asarray(_kernels.cosine_complements(p.location, q.location))


def _prepare_roots(x: Categorical) -> _Embedded:
    roots = x.log_probs / 2
    np.exp(roots, out=roots)
    roots -= roots.mean(axis=0)
    return _embedded(x, roots)


def _prepare_units(x: PointMass) -> _Embedded:
    _refuse_zero("batch", x.location)
    units = x.location / np.sqrt(np.einsum("ij,ij->i", x.location, x.location))[:, None]
    units -= units.mean(axis=0)
    return _embedded(x, units)


def _refuse_zero(name: str, vectors: FloatArray) -> None:
    zero = ~(vectors != 0).any(axis=-1)
    if zero.any():
        where = ", ".join(str(int(i)) for i in np.argwhere(zero)[0])
        raise DomainError(f"cosine_distance: vector {where or '()'} of the {name} is zero and has no direction")


def _half(squares: FloatArray) -> FloatArray:
    squares *= 0.5
    return squares


ROOT_COMPLEMENT = Statistic(
    Categorical,
    root_complement,
    BlockKernel(
        _prepare_roots, _difference_block(root_complement, _half, floor=UNIT_FLOOR, copies=12), BLOCK_SCRATCH
    ),
    scratch=12,
)
COSINE_COMPLEMENT = Statistic(
    PointMass,
    cosine_complement,
    BlockKernel(
        _prepare_units, _difference_block(cosine_complement, _half, floor=UNIT_FLOOR, copies=10), BLOCK_SCRATCH
    ),
    scratch=10,
)


# ---------------------------------------------------------------------------------------------------- cross-entropy


@dataclass(frozen=True)
class _Crossed:
    family: Categorical
    probs: FloatArray
    logs: FloatArray
    """Log-probabilities, zero in place of minus infinity."""
    """The batch's own array unless there are zeros to replace, which takes a second copy of the batch."""
    negative_entropy: FloatArray
    zeros: bool
    """Whether a probability is zero."""


def _prepare_crossed(x: Categorical) -> _Crossed:
    zeros = bool(np.isneginf(x.log_probs.min()))
    logs = x.log_probs
    if zeros:
        logs = logs.copy()
        np.copyto(logs, 0.0, where=np.isneginf(logs))
    probs = np.exp(x.log_probs)
    return _Crossed(x, probs, logs, np.einsum("ij,ij->i", probs, logs), zeros)


def _excluded(x: _Crossed, a: slice, b: slice, memory: float) -> NDArray[np.bool_]:
    """Which of the distributions b exclude what those of a allow, some outcomes at a time to keep to the memory."""
    probs, log_probs = x.probs[a], x.family.log_probs[b]
    mass = np.zeros((len(probs), len(log_probs)))
    step = max(1, int(memory // (ZERO_BYTES * len(log_probs))))
    for start in range(0, probs.shape[1], step):
        impossible = np.isneginf(log_probs[:, start : start + step])
        if impossible.any():
            mass += probs[:, start : start + step] @ impossible.astype(np.float64).T
    return mass > 0


def cross_entropy_block(pair: Callable[[Any, Any], FloatArray], *, symmetrized: bool, copies: int) -> BlockKernel:
    r"""Block of :math:`\sum p \log(p/q)`, or of the sum of both directions, from products of p with log q."""

    def one_way(x: _Crossed, a: slice, b: slice, memory: float) -> tuple[FloatArray, FloatArray]:
        cross = x.probs[a] @ x.logs[b].T
        values = x.negative_entropy[a, None] - cross
        subtracted = np.abs(cross, out=cross)
        if x.zeros:
            values[_excluded(x, a, b, memory)] = np.inf
        return values, subtracted

    def evaluate(prepared: _Crossed, rows: slice, columns: slice, memory: float) -> FloatArray:
        values, subtracted = one_way(prepared, rows, columns, memory)
        if symmetrized:
            back, also = one_way(prepared, columns, rows, memory)
            values += back.T
            subtracted += also.T
        near = values <= np.maximum(subtracted, 1.0) * NEAR
        left, right = prepared.family[rows], prepared.family[columns]
        return _repair(
            values,
            near,
            lambda i, j: pair(left[i], right[j]),
            square=symmetrized and rows == columns,
            pair_bytes=8 * copies * prepared.probs.shape[1],
            memory=memory,
        )

    return BlockKernel(_prepare_crossed, evaluate, BLOCK_SCRATCH)
