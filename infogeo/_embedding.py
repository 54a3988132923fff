"""Pairs of normals where the first is made (0, I), and their embeddings into positive definite matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infogeo import _spd
from infogeo._arrays import Array, detached, namespace
from infogeo.families import Gaussian

NEAR = 0.5
"""Eigenvalues are taken from differences where none is farther from one than this."""


def transpose(x: Array) -> Array:
    return namespace(x).matrix_transpose(x)


def bordered(block: Array, column: Array, row: Array, corner: float) -> Array:
    """Matrix of a block (..., d, d), a column and a row (..., d), and a corner."""
    xp = namespace(block)
    shape = (*block.shape[:-2], 1, 1)
    last = xp.full(shape, corner, dtype=block.dtype, device=getattr(block, "device", None))
    top = xp.concat([block, column[..., None]], axis=-1)
    return xp.concat([top, xp.concat([row[..., None, :], last], axis=-1)], axis=-2)


@dataclass(frozen=True)
class Whitened:
    """A pair of normals seen from the first: the second in the coordinates where the first is (0, I)."""

    mean: Array
    factor: Array
    """W, with the covariance of the second W W'."""
    excess: Array
    """The covariance of the second less the identity, from the difference of the covariances."""

    def matrix(self) -> Array:
        """The factor of the embedding of the second."""
        return bordered(self.factor, self.mean, 0 * self.mean, 1.0)

    def difference(self) -> Array:
        """The embedding of the second less the identity; twice the identity where that leaves the range of float64."""
        xp = namespace(self.mean)
        with np.errstate(over="ignore", invalid="ignore"):
            outer = self.mean[..., :, None] * self.mean[..., None, :]
            whole = bordered(self.excess + outer, self.mean, self.mean, 0.0)
        far = 2 * xp.eye(whole.shape[-1], dtype=whole.dtype, device=getattr(whole, "device", None))
        return xp.where(xp.all(xp.isfinite(whole), axis=(-2, -1), keepdims=True), whole, far)


def _scaled(matrix: Array, scale: Array) -> Array:
    return matrix / scale[..., :, None] / scale[..., None, :]


def whiten(p: Gaussian, q: Gaussian) -> Whitened:
    """The pair in the coordinates where p is (0, I).

    For ill-conditioned covariances the rounding of the Cholesky factors is found, and taken back, in more than double
    precision.
    """
    mean = detached(q.mean) - detached(p.mean)
    xp = namespace(mean)
    cov_p, cov_q = detached(p.cov), detached(q.cov)
    # scaled by powers of two, which is exact, so that what is left to condition is the correlations
    scale, own = (_spd._power_of_two(xp.sqrt(xp.linalg.diagonal(cov))) for cov in (cov_p, cov_q))
    low, high = detached(p.cholesky) / scale[..., None], detached(q.cholesky) / own[..., None]
    fine = min(_spd._least_pivot(low), _spd._least_pivot(high)) < _spd.PLAIN
    if fine:
        rest = _spd._factor_change(_scaled(cov_p, scale), low)
        other = _spd._factor_change(_scaled(cov_q, own), high)  # the same for any scale of the rows
    with np.errstate(over="ignore", invalid="ignore"):  # of covariances 1e300 times each other, which are not close
        left, right = _scaled(cov_p, scale), _scaled(cov_q, scale)
        difference = right - left
        half = _spd._quotient(low, difference, fine=fine)
        if fine:
            half = half + xp.linalg.solve(low, _spd._lost(right, left, difference))
        excess = _spd._quotient(low, transpose(half), fine=fine)
    high = detached(q.cholesky) / scale[..., None]
    factor, shift = (_spd._quotient(low, x, fine=fine) for x in (high, (mean / scale)[..., None]))
    if fine:
        excess = xp.linalg.solve(rest, transpose(xp.linalg.solve(rest, excess)))
        factor, shift = xp.linalg.solve(rest, factor @ other), xp.linalg.solve(rest, shift)
    return Whitened(shift[..., 0], factor, (excess + transpose(excess)) / 2)


def embedding_logarithms(there: Whitened, back: Callable[[], Whitened]) -> Array:
    """Logarithms (..., d + 1) of the eigenvalues of the second embedding against the first."""
    xp = namespace(there.mean)
    close = xp.linalg.eigvalsh(there.difference())
    near = (xp.max(xp.abs(close), axis=-1) < NEAR)[..., None]
    logs = xp.log1p(xp.where(near, close, 0 * close))
    if bool(xp.all(near)):
        return logs
    forward = xp.linalg.svdvals(there.matrix())
    backward = xp.flip(xp.linalg.svdvals(back().matrix()), axis=-1)
    return xp.where(near, logs, 2 * xp.where(forward >= 1, xp.log(forward), -xp.log(backward)))


def embedding_gradient(here: Whitened, inverse: Array) -> Array:
    """Derivative of the distance by the embedding of the first, whose factor has an inverse (..., d + 1, d + 1).

    With the distance f and the embedding A of the second in whitened coordinates it is
    -K^-T log(A) K^-1 / (2 f), from the derivative tr(log(A) A^-1 dA) of half the squared norm of log A.
    """
    xp = namespace(inverse)
    close, basis = xp.linalg.eigh(here.difference())
    near = xp.max(xp.abs(close), axis=-1)[..., None] < NEAR
    left, values, _ = xp.linalg.svd(here.matrix())
    logs = xp.where(near, xp.log1p(xp.where(near, close, 0 * close)), 2 * xp.log(values))
    vectors = transpose(xp.where(near[..., None], basis, left)) @ inverse
    distance = xp.linalg.vector_norm(logs, axis=-1, keepdims=True) / 2**0.5
    weights = logs / xp.where(distance > 0, 2 * distance, xp.ones_like(distance))
    return -transpose(vectors) @ (weights[..., None] * vectors)
