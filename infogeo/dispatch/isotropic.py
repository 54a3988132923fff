"""Measures of isotropic normals: functions of the distance of the means and of two variances, also in whole blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infogeo import _kernels
from infogeo._arrays import Array, as_result, detached, hypotenuse, length, namespace, root
from infogeo._statistics import BLOCK_SCRATCH, NEAR, portions, repair
from infogeo.distances import bures_wasserstein_distance, fisher_rao_distance, hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.families import IsotropicGaussian
from infogeo.measures import BlockKernel, Measure

Formula = Callable[[Array, Array, Array, int], Array]
"""(gap, var_p, var_q, d) to the values: gap is the Euclidean distance of the means in d dimensions."""

COPIES = 7
"""Temporaries of a pair, in multiples of its mean."""

SCRATCH = BLOCK_SCRATCH + 6
"""Temporaries of a block for each of its entries: those of a matrix product, and those of a formula."""


def _fisher_rao(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    xp, half = namespace(var_p, var_q), gap / 2 / d**0.5
    s_p, s_q = xp.sqrt(var_p), xp.sqrt(var_q)
    return d**0.5 * _kernels.half_plane_distances(half, -half, s_p, s_q, (var_p - var_q) / (s_p + s_q))


def _kl(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    xp = namespace(var_p, var_q)
    with np.errstate(over="ignore"):
        relative = (var_p - var_q) / var_q
    near = xp.abs(detached(relative)) < 0.5
    few = xp.log1p(xp.where(near, relative, xp.zeros_like(relative)))
    ratio = xp.where(near, few, xp.log(var_p) - xp.log(var_q))
    with np.errstate(over="ignore"):  # a divergence beyond 1e308 is infinite
        return 0.5 * (d * _kernels.expm1_excess(ratio) + (gap / xp.sqrt(var_q)) ** 2)


def _jeffreys(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    xp, difference = namespace(var_p, var_q), var_p - var_q
    with np.errstate(over="ignore"):
        shift = (gap / xp.sqrt(var_p)) ** 2 + (gap / xp.sqrt(var_q)) ** 2
        return 0.5 * (d * (difference / var_p) * (difference / var_q) + shift)


def _bhattacharyya(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    xp = namespace(var_p, var_q)
    s_p, s_q = xp.sqrt(var_p), xp.sqrt(var_q)
    spread = (var_p - var_q) / (s_p + s_q)
    with np.errstate(over="ignore", under="ignore"):
        bulge = spread / s_p * (spread / s_q) / 2  # (v1 + v2) / (2 s1 s2) - 1
        return 0.5 * d * xp.log1p(bulge) + (gap / 2 / xp.sqrt(var_p / 2 + var_q / 2)) ** 2 / 2


def _hellinger(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    return root(-namespace(gap).expm1(-_bhattacharyya(gap, var_p, var_q, d)))


def _bures(gap: Array, var_p: Array, var_q: Array, d: int) -> Array:
    xp = namespace(var_p, var_q)
    return hypotenuse(gap, d**0.5 * (var_p - var_q) / (xp.sqrt(var_p) + xp.sqrt(var_q)))


def _gap(a: Array, b: Array) -> Array:
    """Length of the difference of vectors, without overflow of the difference."""
    return 2 * length(a / 2 - b / 2)


@dataclass(frozen=True)
class _Centered:
    """Means less their mean, and their squared lengths."""

    family: IsotropicGaussian
    means: Array
    squares: Array


def _prepare(x: IsotropicGaussian) -> _Centered:
    with np.errstate(over="ignore", invalid="ignore"):  # entries that leave the range of float64 are computed again
        means = x.mean - namespace(x.mean).mean(x.mean, axis=0)
        return _Centered(x, means, namespace(means).linalg.vecdot(means, means))


def _register(measure: Measure, formula: Formula) -> None:
    def pair(p: IsotropicGaussian, q: IsotropicGaussian) -> Array:
        return as_result(formula(_gap(p.mean, q.mean), p.var, q.var, p.dimension))

    def evaluate(x: _Centered, rows: slice, columns: slice, memory: float) -> Array:
        xp, family, upper = namespace(x.means), x.family, measure.symmetric and rows == columns
        with np.errstate(over="ignore", invalid="ignore"):
            values = x.means[rows] @ x.means[columns].T
        left, right = x.squares[rows], x.squares[columns]
        for part in portions(values, *values.shape):
            first = part.start if upper else 0  # below the diagonal of a square nothing is asked for
            with np.errstate(over="ignore", invalid="ignore"):
                total = left[part, None] + right[None, first:]
                squares = total - 2 * values[part, first:]
                near = ~(squares > NEAR * total)  # what was subtracted has taken the digits: from the difference itself
            gap = xp.sqrt(xp.where(near, xp.zeros_like(squares), squares))
            lines = slice(rows.start + part.start, rows.start + part.stop)
            block = formula(gap, family.var[lines, None], family.var[None, columns][:, first:], family.dimension)
            repair(
                block, near, lambda i, j: pair(family[i], family[j]),
                corner=(lines.start, columns.start + first), upper=upper,
                pair_bytes=8 * COPIES * (family.dimension + 1), memory=memory,
            )  # fmt: skip
            values[part, first:] = block
        return values

    block = BlockKernel(_prepare, evaluate, SCRATCH)
    measure.register(IsotropicGaussian, scratch=COPIES, block=block)(pair)


_register(fisher_rao_distance, _fisher_rao)
_register(kl_divergence, _kl)
_register(jeffreys_divergence, _jeffreys)
_register(bhattacharyya_distance, _bhattacharyya)
_register(hellinger_distance, _hellinger)
_register(bures_wasserstein_distance, _bures)
