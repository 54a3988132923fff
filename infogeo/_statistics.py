"""Pair statistics that several measures are functions of, each pair by pair and as a matrix product.

The matrix product loses digits where a difference of two nearly equal numbers is left. Those entries are recognized
and computed again from the differences of the parameters, so that a block agrees with the pairs.

Everything is written against the array-API standard, for NumPy and for torch on any device. NumPy works on a block in
portions that fit the cache; a tensor is taken whole, since a device wants large pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo import _kernels
from infogeo._arrays import Array, as_result, is_tensor, length, namespace, to_numpy
from infogeo.errors import DomainError
from infogeo.families import Categorical, Family, PointMass, SharedCovarianceGaussian
from infogeo.families.gaussian import solve_lower
from infogeo.measures import BlockKernel, Measure

NEAR = 1e-3
"""An entry is computed again if cancellation left less than this fraction of what was subtracted."""

UNIT_FLOOR = 1e-9
"""Half squared chords of unit vectors below this are computed again: the vectors themselves are rounded to 1e-16."""

ZERO_BYTES = 16
"""What a test for zero probabilities takes for each outcome of each distribution: a truth value and a float64."""

BLOCK_SCRATCH = 8
"""Float64 numbers per entry that a block needs for the product, its tests and what the measure makes of it."""

PORTION = 32_768
"""Entries that NumPy works on at a time: a few arrays of this size fit the cache of a core."""

PREPARED = 4096
"""Entries that are prepared at a time: their temporaries are not counted in the memory."""

REPAIR_BYTES = 4e6
"""What the pairs that are computed again at one time may take, even where more memory is allowed."""

Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Statistic:
    """A function of two members of a family on which some measures depend alone."""

    family: type[Family]
    pair: Callable[[Any, Any], Array]
    block: Callable[[Function, bool], BlockKernel]
    """Kernel of whole blocks for a function of the statistic, and for a measure that is said to be symmetric or not."""
    scratch: int
    """Temporaries of ``pair``, in multiples of the size of a member."""

    def register(self, measure: Measure, function: Function) -> None:
        """Register ``function(statistic)`` as the kernel of a measure."""

        def kernel(p: Any, q: Any) -> Array:
            return function(self.pair(p, q))

        measure.register(self.family, scratch=self.scratch, block=self.block(function, measure.symmetric))(kernel)


# --------------------------------------------------------------------------------------------- matrix products


def portions(like: Array, height: int, width: int, *, entries: int = PORTION) -> Iterator[slice]:
    """Rows of a block, as many at a time as the cache holds; all of them for a tensor."""
    step = height if is_tensor(like) else max(1, entries // width)
    return (slice(i, min(i + step, height)) for i in range(0, height, step))


def repair(
    values: Array,
    near: Array,
    exact: Callable[[Any, Any], Array],
    *,
    corner: tuple[int, int],
    upper: bool,
    pair_bytes: int,
    memory: float,
) -> None:
    """Replace the entries marked ``near`` by exact ones, in portions that keep to the memory.

    The first entry of ``values`` belongs to the pair ``corner``. The diagonal of the whole matrix is left alone; with
    ``upper`` so is what lies below it.
    """
    xp = namespace(near)
    (lines,) = xp.nonzero(xp.any(near, axis=1))  # mostly there are few: the other rows are not searched
    if not len(lines):
        return
    i, j = xp.nonzero(near[lines])
    i = lines[i]
    ahead = (j + corner[1]) - (i + corner[0])
    wanted = ahead > 0 if upper else ahead != 0
    i, j = i[wanted], j[wanted]
    step = max(1, int(min(memory, REPAIR_BYTES) // pair_bytes))
    for start in range(0, len(i), step):
        a, b = i[start : start + step], j[start : start + step]
        values[a, b] = exact(a + corner[0], b + corner[1])


@dataclass(frozen=True)
class _Embedded:
    """A batch as vectors, less a common one, on whose squared differences the statistic depends.

    The vectors are the one copy of the batch that this takes; they are made in place.
    """

    family: Any
    vectors: Array
    halves: Array
    """Half the squared length of each."""


def _embedded(family: Any, vectors: Array) -> _Embedded:
    xp = namespace(vectors)
    n, d = vectors.shape
    halves = xp.empty_like(vectors[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):  # entries that leave the range of float64 are computed again
        for rows in portions(vectors, n, d, entries=PREPARED):
            halves[rows] = xp.linalg.vecdot(vectors[rows], vectors[rows])
    halves *= 0.5
    return _Embedded(family, vectors, halves)


def _difference_blocks(
    prepare: Callable[[Any], _Embedded],
    pair: Callable[[Any, Any], Array],
    finish: Function,
    *,
    floor: float = 0.0,
    copies: int,
) -> Callable[[Function, bool], BlockKernel]:
    r"""Blocks of functions of ``finish`` of :math:`|x - y|^2/2`, from a matrix product.

    ``pair`` computes the same statistic pair by pair, and makes so many copies of a vector.
    """

    def make(function: Function, symmetric: bool) -> BlockKernel:
        def evaluate(prepared: _Embedded, rows: slice, columns: slice, memory: float) -> Array:
            xp, x = namespace(prepared.vectors), prepared.family
            square = symmetric and rows == columns
            with np.errstate(over="ignore", invalid="ignore"):
                values = prepared.vectors[rows] @ prepared.vectors[columns].T
            left, right = prepared.halves[rows], prepared.halves[columns]
            for part in portions(values, *values.shape):
                first = part.start if square else 0  # below the diagonal of a square nothing is asked for
                with np.errstate(over="ignore", invalid="ignore"):
                    total = left[part, None] + right[None, first:]
                    halves = total - values[part, first:]
                bound = NEAR * (float(xp.max(left[part])) + float(xp.max(right[first:])))
                near = None
                if not float(xp.min(halves)) > max(bound, floor):
                    near = ~((halves > NEAR * total) & (halves > floor))
                    halves = xp.where(near, xp.zeros_like(halves), halves)
                del total
                statistic = finish(halves)
                if near is not None:
                    repair(
                        statistic,
                        near,
                        lambda i, j: pair(x[i], x[j]),
                        corner=(rows.start + part.start, columns.start + first),
                        upper=square,
                        pair_bytes=8 * copies * prepared.vectors.shape[1],
                        memory=memory,
                    )
                values[part, first:] = function(statistic)
            return values

        return BlockKernel(prepare, evaluate, BLOCK_SCRATCH)

    return make


# ------------------------------------------------------------------------------------------ differences of vectors


def mahalanobis(p: SharedCovarianceGaussian, q: SharedCovarianceGaussian) -> Array:
    r""":math:`\sqrt{(m_p - m_q)^\top \Sigma^{-1} (m_p - m_q)}`, by the Cholesky factor of the covariance."""
    return as_result(length(solve_lower(p.cholesky, p.mean - q.mean)))


def euclidean(p: PointMass, q: PointMass) -> Array:
    """Length of the difference of two vectors."""
    return as_result(length(p.location - q.location))


def _prepare_shared(x: SharedCovarianceGaussian) -> _Embedded:
    return _embedded(x, solve_lower(x.cholesky, _centered(x.mean), overwrite=True))


def _prepare_points(x: PointMass) -> _Embedded:
    return _embedded(x, _centered(x.location))


def _centered(vectors: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return vectors - namespace(vectors).mean(vectors, axis=0)


def _root(halves: Array) -> Array:
    halves *= 2.0
    return namespace(halves).sqrt(halves)


MAHALANOBIS = Statistic(
    SharedCovarianceGaussian,
    mahalanobis,
    _difference_blocks(_prepare_shared, mahalanobis, _root, copies=8),
    scratch=6,
)
EUCLIDEAN = Statistic(
    PointMass,
    euclidean,
    _difference_blocks(_prepare_points, euclidean, _root, copies=6),
    scratch=4,
)


# ------------------------------------------------------------------------------------------- angles between vectors


def root_complement(p: Categorical, q: Categorical) -> Array:
    r""":math:`1 - \sum \sqrt{pq}`, half the squared chord between the square roots of two distributions."""
    difference = _kernels.root_differences(p.log_probs, q.log_probs)
    return as_result(0.5 * namespace(difference).sum(difference * difference, axis=-1))


def cosine_complement(p: PointMass, q: PointMass) -> Array:
    """One less the cosine of the angle between two vectors."""
    for name, side in (("first argument", p), ("second argument", q)):
        _refuse_zero(name, side.location)
    return as_result(_kernels.cosine_complements(p.location, q.location))


CENTER_MEMBERS = 32
"""So many members, evenly spaced, make up the vector that roots of probabilities are measured from."""


def _prepare_roots(x: Categorical) -> _Embedded:
    xp = namespace(x.log_probs)
    n, outcomes = x.log_probs.shape
    chosen = x.log_probs[:: -(-n // CENTER_MEMBERS)]
    center = xp.zeros_like(chosen[0])
    for row in chosen:
        center += xp.exp(row / 2)
    center /= len(chosen)
    roots = xp.empty_like(x.log_probs)
    for rows in portions(roots, n, outcomes, entries=PREPARED):
        part = x.log_probs[rows] * 0.5
        part = xp.exp(part)
        part -= center
        roots[rows] = part
    return _embedded(x, roots)


def _prepare_units(x: PointMass) -> _Embedded:
    _refuse_zero("batch", x.location)
    xp = namespace(x.location)
    units = x.location / length(x.location)[:, None]
    units -= xp.mean(units, axis=0)
    return _embedded(x, units)


def _refuse_zero(name: str, vectors: Array) -> None:
    zero = ~namespace(vectors).any(vectors != 0, axis=-1)
    if zero.any():
        where = ", ".join(str(int(i)) for i in np.argwhere(to_numpy(zero))[0])
        raise DomainError(f"cosine_distance: vector {where or '()'} of the {name} is zero and has no direction")


def _same(halves: Array) -> Array:
    return halves


ROOT_COMPLEMENT = Statistic(
    Categorical,
    root_complement,
    _difference_blocks(_prepare_roots, root_complement, _same, floor=UNIT_FLOOR, copies=14),
    scratch=12,
)
COSINE_COMPLEMENT = Statistic(
    PointMass,
    cosine_complement,
    _difference_blocks(_prepare_units, cosine_complement, _same, floor=UNIT_FLOOR, copies=12),
    scratch=10,
)


# ---------------------------------------------------------------------------------------------------- cross-entropy


@dataclass(frozen=True)
class _Crossed:
    family: Categorical
    probs: Array
    logs: Array
    """Log-probabilities, zero in place of minus infinity: the batch's own array unless there are zeros to replace,
    which takes a second copy of the batch."""
    negative_entropy: Array
    zeros: bool
    """Whether a probability is zero."""


def _prepare_crossed(x: Categorical) -> _Crossed:
    xp = namespace(x.log_probs)
    n, outcomes = x.log_probs.shape
    zeros = bool(xp.min(x.log_probs) == -np.inf)
    logs = xp.empty_like(x.log_probs) if zeros else x.log_probs
    probs, negative_entropy = xp.empty_like(x.log_probs), xp.empty_like(x.log_probs[:, 0])
    for rows in portions(probs, n, outcomes, entries=PREPARED):
        part = xp.exp(x.log_probs[rows])
        if zeros:
            logs[rows] = xp.where(x.log_probs[rows] == -np.inf, xp.zeros_like(part), x.log_probs[rows])
        negative_entropy[rows] = xp.linalg.vecdot(part, logs[rows])
        probs[rows] = part
    return _Crossed(x, probs, logs, negative_entropy, zeros)


def _excluded(x: _Crossed, a: slice, b: slice, memory: float) -> Array:
    """Which of the distributions b exclude what those of a allow, some outcomes at a time to keep to the memory."""
    probs, log_probs = x.probs[a], x.family.log_probs[b]
    xp = namespace(probs)
    mass = xp.zeros_like(probs[:, :1] + x.negative_entropy[None, b])
    step = max(1, int(memory // (ZERO_BYTES * len(log_probs))))
    for start in range(0, probs.shape[1], step):
        impossible = log_probs[:, start : start + step] == -np.inf
        if xp.any(impossible):
            mass += probs[:, start : start + step] @ xp.astype(impossible, probs.dtype).T
    return mass > 0


def cross_entropy_block(pair: Callable[[Any, Any], Array], *, symmetrized: bool, copies: int) -> BlockKernel:
    r"""Block of :math:`\sum p \log(p/q)`, or of the sum of both directions, from products of p with log q."""

    def one_way(x: _Crossed, a: slice, b: slice, memory: float) -> tuple[Array, Array]:
        xp = namespace(x.probs)
        cross = x.probs[a] @ x.logs[b].T
        values = x.negative_entropy[a, None] - cross
        if x.zeros:
            values[_excluded(x, a, b, memory)] = np.inf
        return values, xp.abs(cross)

    def evaluate(prepared: _Crossed, rows: slice, columns: slice, memory: float) -> Array:
        xp, x = namespace(prepared.probs), prepared.family
        values, subtracted = one_way(prepared, rows, columns, memory)
        if symmetrized:
            back, also = one_way(prepared, columns, rows, memory)
            values += back.T
            subtracted += also.T
            del back, also
        near = ~(values > NEAR * xp.where(subtracted > 1, subtracted, xp.ones_like(subtracted)))
        repair(
            values,
            near,
            lambda i, j: pair(x[i], x[j]),
            corner=(rows.start, columns.start),
            upper=symmetrized and rows == columns,
            pair_bytes=8 * (copies + 2) * prepared.probs.shape[1],
            memory=memory,
        )
        return values

    return BlockKernel(_prepare_crossed, evaluate, BLOCK_SCRATCH)
