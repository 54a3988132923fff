r"""Normals with low-rank covariances, among all normals: exact measures in the few dimensions where two differ.

Two members with one diagonal v become :math:`N(0, I + W_p W_p^\top)` and :math:`N(m, I + W_q W_q^\top)` once the
coordinates are divided by :math:`\sqrt v`. Both are standard normal, and independent of the rest, in the orthogonal
complement of the span of W_p, W_q and m, which therefore adds nothing to any measure that affine maps leave as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo import normal_geodesics
from infogeo._arrays import Array, like, requires_gradient, to_numpy, with_gradients
from infogeo._checks import FloatArray
from infogeo.bounds import calvo_oller_distance
from infogeo.distances import bures_wasserstein_distance, fisher_rao_distance, hellinger_distance
from infogeo.divergences import bhattacharyya_distance, jeffreys_divergence, kl_divergence
from infogeo.errors import DomainError
from infogeo.families import Gaussian
from infogeo.families.low_rank import LowRankGaussian
from infogeo.geometry import EXPONENTIAL_MAP, FISHER_INFORMATION, GEODESIC, LOGARITHM_MAP
from infogeo.measures import Measure

CHUNK_BYTES = 32e6
"""Temporaries of the reduction; more pairs than fit are taken in portions."""

COPIES = 6
"""Arrays of the size of both factors that the reduction of a pair holds at a time."""

SCRATCH = 3 * COPIES + normal_geodesics.SCRATCH
"""Temporaries per pair in multiples of one member: those of the solver count where d is not much more than 2 r."""


class _Reduced:
    """Some pairs as full normals of few dimensions, with the way back."""

    def __init__(self, frame: FloatArray, scale: FloatArray, factors: tuple[FloatArray, FloatArray], m: Any) -> None:
        self.frame = frame
        """(n, d, k) orthonormal columns."""
        self.scale = scale
        """(n, d) standard deviations of the diagonal."""
        self.factors = factors
        """(n, k, r) factors of both in the frame."""
        one = np.eye(frame.shape[-1])
        covs = [a @ np.swapaxes(a, 1, 2) + one for a in factors]
        self.p, self.q = Gaussian(np.zeros_like(m), covs[0]), Gaussian(m, covs[1])


def one_diagonal(p: LowRankGaussian, q: LowRankGaussian) -> NDArray[np.bool_]:
    """Which pairs have one diagonal, of the broadcast batch shape."""
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    return np.broadcast_to((to_numpy(p.diagonal) == to_numpy(q.diagonal)).all(axis=-1), shape)


def reductions(name: str, p: LowRankGaussian, q: LowRankGaussian) -> Iterator[_Reduced]:
    """Pairs in one axis, in portions of bounded memory."""
    shape, d = np.broadcast_shapes(p.batch_shape, q.batch_shape), p.dimension
    same = one_diagonal(p, q)
    if not same.all():
        where = tuple(int(i) for i in np.argwhere(~same)[0])
        raise DomainError(
            f"{name}: pair {where} has two different diagonals, and so does not differ by a low rank; fit the batch "
            "with one diagonal, use fisher_rao_bounds, or to_full() (exact, of the order of d^3 operations and more)"
        )
    fields = [
        np.broadcast_to(to_numpy(x), (*shape, *x.shape[len(side.batch_shape) :]))
        for side in (p, q) for x in (side.mean, side.factor)
    ]  # fmt: skip
    diagonal = np.broadcast_to(to_numpy(p.diagonal), (*shape, d))
    total = int(np.prod(shape, dtype=np.int64))
    step = max(1, int(CHUNK_BYTES // (8 * COPIES * d * (p.rank + q.rank + 1))))
    for start in range(0, total, step):
        index = np.unravel_index(np.arange(start, min(start + step, total)), shape) if shape else (None,)
        mean_p, factor_p, mean_q, factor_q = (x[index] for x in fields)
        scale = np.sqrt(diagonal[index])
        shift = (mean_q - mean_p) / scale
        one, other = _aligned(factor_p / scale[..., None], factor_q / scale[..., None])
        # close members keep their digits: the second factor is known by its difference from the first
        frame, inside = np.linalg.qr(np.concatenate([one, other - one, shift[..., None]], axis=-1))
        r = one.shape[-1]
        parts = inside[..., :r], inside[..., :r] + inside[..., r:-1]
        yield _Reduced(frame, scale, parts, inside[..., -1])


def _aligned(one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Factors of one rank, the smaller one filled up with columns of zeros."""
    missing = one.shape[-1] - other.shape[-1]
    fill = np.zeros((*one.shape[:-1], abs(missing)))
    if missing > 0:
        return one, np.concatenate([other, fill], axis=-1)
    return np.concatenate([one, fill], axis=-1), other


def _through_full(measure: Measure) -> None:
    """Register a measure that affine maps leave as it is, on the reduced pairs.

    Its gradient by a covariance is zero outside the span, where both normals are the same, so it is lifted from there.
    """

    @measure.register(LowRankGaussian, scratch=3 * COPIES)
    def kernel(p: LowRankGaussian, q: LowRankGaussian) -> Array:
        return _evaluate(measure, p, q, lambda reduced, wanted: _recorded(measure, reduced, p.mean if wanted else None))


def _recorded(measure: Measure, reduced: _Reduced, tensor: Array | None) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Values of the reduced pairs, and beside a tensor their gradients by the reduced means and covariances."""
    if tensor is None:
        return measure(reduced.p, reduced.q), ()
    leaves = [like(x, tensor).requires_grad_() for side in (reduced.p, reduced.q) for x in (side.mean, side.cov)]
    value = measure(Gaussian(*leaves[:2]), Gaussian(*leaves[2:]))
    value.sum().backward()
    slopes = [to_numpy(leaf.grad) for leaf in leaves]
    return to_numpy(value), tuple(g if g.ndim == 2 else (g + np.swapaxes(g, 1, 2)) / 2 for g in slopes)


def _exact(reduced: _Reduced, wanted: bool) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    parts = normal_geodesics.solve_all(reduced.p, reduced.q, gradients=wanted)
    found = [part.gradients for part in parts if part.gradients is not None]
    slopes = tuple(np.concatenate([g[i] for g in found]) for i in range(4)) if wanted else ()
    distance = np.concatenate([part.distance for part in parts])
    _check_size(reduced, distance)
    return distance, slopes


def _check_size(reduced: _Reduced, distance: FloatArray) -> None:
    """Raise where the factors are so large that the identity beside their squares has lost its digits."""
    largest = np.max([np.linalg.norm(a, ord=2, axis=(-2, -1)) for a in reduced.factors], axis=0)
    lost = 2 * np.finfo(np.float64).eps * largest**2 > normal_geodesics.ACCURACY * np.maximum(1.0, distance)
    if lost.any():
        raise DomainError(
            f"fisher_rao_distance: a factor reaches {largest[lost].max():.3g} standard deviations of the diagonal, "
            "whose part of the distance is lost in rounding; raise the diagonal, or take a smaller factor"
        )


def _evaluate(
    measure: Measure,
    p: LowRankGaussian,
    q: LowRankGaussian,
    solve: Callable[[_Reduced, bool], tuple[FloatArray, tuple[FloatArray, ...]]],
) -> Array:
    parameters = (p.mean, p.factor, p.diagonal, q.mean, q.factor, q.diagonal)
    wanted = requires_gradient(*parameters)
    values, slopes = [], []
    for reduced in reductions(measure.name, p, q):
        value, gradients = solve(reduced, wanted)
        values.append(value)
        if wanted:
            slopes.append(_lift(reduced, gradients, (p.rank, q.rank)))
    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    whole = like(np.concatenate(values).reshape(shape), p.mean)
    if not wanted:
        return whole
    found = [np.concatenate([s[i] for s in slopes]) for i in range(6)]
    shaped = [like(g.reshape((*shape, *g.shape[1:])), p.mean) for g in found]
    return with_gradients(whole, *zip(parameters, shaped, strict=True))


for _measure in (kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance, calvo_oller_distance):
    _through_full(_measure)
bures_wasserstein_distance.refuse(
    LowRankGaussian, "it changes with the unit of each coordinate, so the pair does not reduce; use to_full()"
)


@fisher_rao_distance.register(LowRankGaussian, scratch=SCRATCH)
def _fisher_rao(p: LowRankGaussian, q: LowRankGaussian) -> Array:
    return _evaluate(fisher_rao_distance, p, q, _exact)


def _lift(
    reduced: _Reduced, gradients: tuple[FloatArray, ...], ranks: tuple[int, int]
) -> tuple[FloatArray, ...]:
    """Gradients by mean, factor and diagonal of both from those by the reduced means and covariances."""
    lifted: list[FloatArray] = []
    for mean, cov, factor, rank in zip(gradients[0::2], gradients[1::2], reduced.factors, ranks, strict=True):
        lifted.append((reduced.frame @ mean[..., None])[..., 0] / reduced.scale)
        slope = 2 * (reduced.frame @ (cov @ factor)) / reduced.scale[..., None]
        lifted.append(slope[..., :rank])
        lifted.append(((reduced.frame @ cov) * reduced.frame).sum(axis=-1) / reduced.scale**2)
    return tuple(lifted)


_NO_CHART = (
    "the factor is determined only up to a rotation, so the parameters are no coordinates of a manifold; use to_full()"
)
for _operation in (FISHER_INFORMATION, EXPONENTIAL_MAP, LOGARITHM_MAP, GEODESIC):
    _operation.refuse(LowRankGaussian, _NO_CHART)
