r"""Pairs of full normals: reduced by exact symmetries, solved in batches, and carried back.

An affine map takes a pair to :math:`N(0, I)` and :math:`N(m, S)`, a rotation makes S diagonal, with logarithms of its
eigenvalues :math:`\ell`. Equal eigenvalues are turned so that one coordinate carries all of m; coordinates without a
part of m split off and add :math:`\ell_i^2/2` to the squared distance, since the reflection of such a coordinate is an
isometry that fixes both ends. The k coordinates that are left go to ``_normal_fibre``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo import _extended, _normal_fibre
from infogeo._arrays import Array, is_tensor, like, namespace, to_numpy
from infogeo._normal_fibre import Fibre
from infogeo.errors import DomainError

LARGEST = 1e150
"""Difference of two means, in standard deviations of one normal, whose square is a float64 number."""

TOO_FAR = (
    f"two normals are too far apart for float64: in units of one the means differ by more than {LARGEST:g} standard "
    "deviations, or a ratio of variances is beyond 1e300; of independent coordinates DiagonalGaussian has an answer"
)

SAME = 1e-13
"""Logarithms of eigenvalues that differ by less, relative to the largest, are taken as equal."""

NO_SHIFT = 1e-13
"""A coordinate of the mean below this fraction of the distance is taken as zero."""

CLOSE = 0.5
"""Covariances whose whitened difference has a norm below this are compared by the difference."""

SMALL = 32
"""Up to this dimension triangular systems are solved for a whole batch at once, not pair by pair."""


@dataclass(frozen=True)
class Whitened:
    """Pairs after the affine map and the rotation."""

    log_ratios: Array
    """(n, d) logarithms of the eigenvalues, in descending order."""
    shift: Array
    """(n, d) mean of the second normal, in units of the first and in the basis of the eigenvectors."""
    basis: Array
    """(n, d, d) columns: the directions of the coordinates in the original space."""
    error: Array
    """(n,) estimated error of the distance, from rounding, relative to the greater of one and the distance."""


@dataclass(frozen=True)
class Solution:
    """Geodesics of n pairs of normals."""

    distance: Array
    lower: Array | None
    """(n,) the bound of Calvo and Oller, if asked for."""
    relative_error: Array
    """(n,) estimated: rounding, and what another step would still gain."""
    residual: Array
    iterations: Array
    reduced_dimension: Array
    converged: Array
    rates: tuple[Array, Array] | None
    """Velocity at the first normal, rates of the mean (n, d) and of the covariance (n, d, d), if asked for."""
    gradients: tuple[Array, Array, Array, Array] | None
    """Of the distance by mean and covariance of the first and the second normal, if asked for; zero at zero."""


@dataclass(frozen=True)
class Pairs:
    """Two normals each, flattened to one batch axis, with Cholesky factors."""

    mean_p: Array
    cov_p: Array
    factor_p: Array
    mean_q: Array
    cov_q: Array
    factor_q: Array

    def take(self, index: Array) -> Pairs:
        return Pairs(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def swap(self, swapped: Array) -> Pairs:
        means = _exchange(swapped, self.mean_p, self.mean_q)
        covs, factors = _exchange(swapped, self.cov_p, self.cov_q), _exchange(swapped, self.factor_p, self.factor_q)
        return Pairs(means[0], covs[0], factors[0], means[1], covs[1], factors[1])

    def to_numpy(self) -> Pairs:
        return Pairs(*(to_numpy(getattr(self, name)) for name in self.__dataclass_fields__))


def solve(
    pairs: Pairs,
    *,
    tolerance: float,
    max_iter: int,
    lower: bool = False,
    rates: bool = False,
    gradients: bool = False,
) -> Solution:
    """Solve all pairs in working precision, and those whose digits would not suffice in extended precision.

    Parameters
    ----------
    pairs : Pairs
    tolerance : float
        Estimated relative error above which a pair is computed again in extended precision.
    max_iter : int
        Newton steps at most.
    lower, rates, gradients : bool
        What to compute besides.
    """
    swapped = None if rates else _later_first(pairs)
    if swapped is not None:
        pairs = pairs.swap(swapped)
    wanted: dict[str, Any] = {"lower": lower, "rates": rates, "gradients": gradients, "max_iter": max_iter}
    try:
        with np.errstate(all="ignore"):
            whitened = whiten(pairs)
    except np.linalg.LinAlgError:  # of numbers that are not finite
        raise DomainError(TOO_FAR) from None
    _check_range(whitened)
    found = _solve_whitened(whitened, decompose=_normal_fibre.full_svd, **wanted)
    xp = namespace(found.distance)
    poor = xp.nonzero(~((found.relative_error <= tolerance) & found.converged))[0]
    if poor.shape[0]:
        again = _solve_whitened(whiten_extended(pairs.take(poor).to_numpy()), decompose=_extended.wide_svd, **wanted)
        found = _replace(found, poor, again)
    if swapped is None or found.gradients is None:
        return found
    mean_p, cov_p, mean_q, cov_q = found.gradients
    means, covs = _exchange(swapped, mean_p, mean_q), _exchange(swapped, cov_p, cov_q)
    return dataclasses.replace(found, gradients=(means[0], covs[0], means[1], covs[1]))


def _check_range(whitened: Whitened) -> None:
    """Raise where the second normal, in units of the first, leaves the range in which squares are float64 numbers."""
    xp = namespace(whitened.shift)
    if not bool(xp.all((xp.abs(whitened.shift) < LARGEST) & xp.isfinite(whitened.log_ratios))):
        raise DomainError(TOO_FAR)


def _later_first(pairs: Pairs) -> Array:
    """Which pairs to exchange, so that a pair and its mirror image are the same computation, with the same result.

    The normal of the smaller determinant comes first; of two with one determinant that with the smaller first
    different parameter.
    """
    xp = namespace(pairs.mean_p)
    i = xp.arange(pairs.mean_p.shape[1], device=getattr(pairs.mean_p, "device", None))
    volume_p, volume_q = (xp.sum(xp.log(f[:, i, i]), axis=1) for f in (pairs.factor_p, pairs.factor_q))
    n = pairs.mean_p.shape[0]
    parts = (pairs.mean_q - pairs.mean_p, xp.reshape(pairs.cov_q - pairs.cov_p, (n, -1)))
    change = xp.sign(xp.concat(parts, axis=1))
    first = xp.argmax(xp.abs(change), axis=1)
    sign = change[xp.arange(n, device=getattr(change, "device", None)), first]
    return (volume_p > volume_q) | ((volume_p == volume_q) & (sign < 0))


def _exchange(swapped: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Both arrays (n, ...) with their rows exchanged where ``swapped``."""
    xp = namespace(a, b)
    mask = xp.reshape(swapped, (-1, *(1,) * (a.ndim - 1)))
    return xp.where(mask, b, a), xp.where(mask, a, b)


def _replace(found: Solution, index: Array, again: Solution) -> Solution:
    def put(whole: Any, part: Any) -> Any:
        if whole is None:
            return None
        if isinstance(whole, tuple):
            return tuple(put(a, b) for a, b in zip(whole, part, strict=True))
        values = part if part.dtype.kind in "bi" else part.astype(np.float64)
        whole[index] = like(values, whole)
        return whole

    return Solution(**{name: put(getattr(found, name), getattr(again, name)) for name in found.__dataclass_fields__})


# ------------------------------------------------------------------------------------------------------ whitening


def whiten(pairs: Pairs) -> Whitened:
    """Reduce pairs to the identity and a diagonal covariance, in working precision."""
    xp = namespace(pairs.mean_p)
    eps = float(xp.finfo(pairs.mean_p.dtype).eps)
    shift = lower_solve(pairs.factor_p, (pairs.mean_q - pairs.mean_p)[..., None])
    half = lower_solve(pairs.factor_p, pairs.cov_q - pairs.cov_p)
    excess = lower_solve(pairs.factor_p, xp.permute_dims(half, (0, 2, 1)))
    excess = (excess + xp.permute_dims(excess, (0, 2, 1))) / 2
    close = xp.sqrt(xp.sum(excess * excess, axis=(1, 2))) < CLOSE
    unexplained = xp.minimum(_unexplained(pairs.factor_p, pairs.cov_p), _unexplained(pairs.factor_q, pairs.cov_q))
    error = 4 * eps / unexplained
    log_ratios, vectors = xp.zeros_like(pairs.mean_p), xp.zeros_like(excess)
    index = xp.nonzero(close)[0]
    if index.shape[0]:
        found = xp.linalg.eigh(excess[index])
        log_ratios[index] = xp.flip(xp.log1p(found[0]), axis=1)
        vectors[index] = xp.flip(found[1], axis=2)
    index = xp.nonzero(~close)[0]
    if index.shape[0]:
        quotient = lower_solve(pairs.factor_p[index], pairs.factor_q[index])
        left, singular, _ = xp.linalg.svd(quotient, full_matrices=False)
        log_ratios[index], vectors[index] = 2 * xp.log(singular), left
        error[index] = xp.maximum(error[index], eps * singular[:, 0] / singular[:, -1])
    turned = (xp.permute_dims(vectors, (0, 2, 1)) @ shift)[..., 0]
    return Whitened(log_ratios, turned, pairs.factor_p @ vectors, error)


def whiten_extended(pairs: Pairs) -> Whitened:
    """The same in extended precision, for NumPy arrays.

    The factors of :func:`_extended.pivoted_cholesky` are rounded; what they lack is put right by a second factor of
    the identity plus their whitened residual, which is computed in twice the working precision.
    """
    parts = [_factor_extended(cov) for cov in (pairs.cov_p, pairs.cov_q)]
    (factor_p, order, correction_p), (factor_q, order_q, correction_q) = parts

    def map_back(high: Any, low: Any = None) -> tuple[Any, Any]:
        rows = order[:, :, None]
        return _extended.solve_lower(
            factor_p, np.take_along_axis(high, rows, 1), None if low is None else np.take_along_axis(low, rows, 1)
        )

    def whole(high: Any, low: Any) -> Any:
        return high.astype(np.longdouble) + low

    difference = _extended.two_sum(pairs.cov_q, -pairs.cov_p)
    half = map_back(*difference)
    excess = whole(*map_back(*(np.swapaxes(x, 1, 2) for x in half)))
    excess = _extended.solve_unit(correction_p, np.swapaxes(_extended.solve_unit(correction_p, excess), 1, 2))
    excess = (excess + np.swapaxes(excess, 1, 2)) / 2
    shift = whole(*map_back(*(x[..., None] for x in _extended.two_sum(pairs.mean_q, -pairs.mean_p))))
    shift = _extended.solve_unit(correction_p, shift)
    restored = np.argsort(order_q, axis=1)[:, :, None]
    quotient = whole(*map_back(np.take_along_axis(factor_q, restored, 1)))
    quotient = _extended.solve_unit(correction_p, quotient) @ correction_q
    size = np.sqrt((excess * excess).sum(axis=(1, 2)))
    close = size < CLOSE
    # with a multiple of the identity the excess is positive definite: singular vectors are eigenvectors then
    raised = excess + 2 * np.where(size > 0, size, 1)[:, None, None] * np.eye(excess.shape[-1])
    vectors, images = _extended.jacobi(np.where(close[:, None, None], raised, np.swapaxes(quotient, 1, 2)))
    singular = np.sqrt((images * images).sum(axis=1))
    signed = (vectors * (excess @ vectors)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_ratios = np.where(close[:, None], np.log1p(signed), 2 * np.log(singular))
    order_of_ratios = np.argsort(-log_ratios, axis=1, kind="stable")
    log_ratios = np.take_along_axis(log_ratios, order_of_ratios, 1)
    vectors = np.take_along_axis(vectors, order_of_ratios[:, None, :], 2)
    turned = (np.swapaxes(vectors, 1, 2) @ shift)[..., 0]
    frame = np.empty(factor_p.shape, dtype=np.longdouble)
    np.put_along_axis(frame, order[:, :, None], factor_p.astype(np.longdouble) @ correction_p, 1)
    # what is left of the condition of the factors once their columns are scaled
    spread = np.maximum(_graded_condition(factor_p), _graded_condition(factor_q))
    least = np.where(close, singular.max(axis=1), singular.min(axis=1))
    scale = (singular.max(axis=1) / np.where(least > 0, least, 1)).astype(np.float64)
    error = _extended.EPS * 8 * spread * np.sqrt(np.minimum(scale, 1e30))
    return Whitened(log_ratios, turned, frame @ vectors, error)


def _factor_extended(cov: Any) -> tuple[Any, Any, Any]:
    """A rounded factor, its order, and the factor near the identity that makes up for the rounding."""
    factor, order = _extended.pivoted_cholesky(cov)
    permuted = np.take_along_axis(np.take_along_axis(cov, order[:, :, None], 1), order[:, None, :], 2)
    half = _extended.solve_lower(factor, _extended.factor_residual(permuted, factor))
    high, low = _extended.solve_lower(factor, *(np.swapaxes(x, 1, 2) for x in half))
    small = high.astype(np.longdouble) + low
    identity = np.eye(cov.shape[-1], dtype=np.longdouble)
    return factor, order, _extended.cholesky(identity + (small + np.swapaxes(small, 1, 2)) / 2)


def _graded_condition(factor: Any) -> Any:
    units = (factor / np.sqrt((factor * factor).sum(axis=1, keepdims=True))).astype(np.float64)
    return np.linalg.cond(units)


def _unexplained(factor: Array, cov: Array) -> Array:
    """Least part of a variance that the other coordinates do not explain: small where digits of the factor go."""
    xp = namespace(factor, cov)
    device = getattr(cov, "device", None)
    i = xp.arange(cov.shape[-1], device=device)
    one = xp.broadcast_to(xp.eye(cov.shape[-1], dtype=cov.dtype, device=device), cov.shape)
    inverse = lower_solve(factor / xp.sqrt(cov[:, i, i])[:, :, None], one)
    return 1 / xp.max(xp.sum(inverse * inverse, axis=1), axis=1)


def lower_solve(factor: Array, x: Array) -> Array:
    """Solve ``factor @ y = x`` for lower triangular (n, d, d) and (n, d, m) by substitution."""
    n, d = factor.shape[:2]
    if d > SMALL:
        if is_tensor(factor):
            return namespace(factor).linalg.solve(factor, x)
        from scipy.linalg import solve_triangular

        parts = [solve_triangular(factor[i], x[i], lower=True, check_finite=False) for i in range(n)]
        return np.stack(parts)
    rows: list[Array] = []
    xp = namespace(factor, x)
    for j in range(d):
        value = x[:, j]
        if rows:
            value = value - (factor[:, j, None, :j] @ xp.stack(rows, axis=1))[:, 0]
        rows.append(value / factor[:, j, j, None])
    return xp.stack(rows, axis=1)


# -------------------------------------------------------------------------------------- splitting off coordinates


def _solve_whitened(
    whitened: Whitened,
    *,
    decompose: _normal_fibre.Decomposition,
    max_iter: int,
    lower: bool,
    rates: bool,
    gradients: bool,
) -> Solution:
    """Split off coordinates, solve what is left in groups of one k, and put the parts together."""
    ell, m = whitened.log_ratios, whitened.shift
    xp = namespace(ell, m)
    n = ell.shape[0]
    device = getattr(ell, "device", None)
    carriers, kept = _carriers(ell, m)
    counts = xp.sum(xp.astype(kept, xp.int64), axis=1)
    result = {name: xp.zeros(n, dtype=ell.dtype, device=device) for name in ("squared", "error", "residual", "lower")}
    iterations = xp.zeros(n, dtype=xp.int64, device=device)
    converged = xp.ones(n, dtype=xp.bool, device=device)
    mean_rates, cov_rates = xp.zeros_like(m), xp.zeros_like(carriers)
    slopes = (xp.zeros_like(m), xp.zeros_like(carriers), xp.zeros_like(m), xp.zeros_like(carriers))
    for k in sorted({int(count) for count in counts}):
        index = xp.nonzero(counts == k)[0]
        order = xp.argsort(xp.astype(~kept[index], xp.int64), axis=1, stable=True)[:, :k]
        p = xp.take_along_axis(carriers[index], order[:, None, :], axis=2)
        ratios = ell[index]
        log_ratios = xp.sum(p * p * ratios[:, :, None], axis=1)
        shift = xp.sum(p * m[index][:, :, None], axis=1)
        alone = xp.sum(ratios**2 * xp.clip(1 - xp.sum(p * p, axis=2), 0.0, 1.0), axis=1)
        fibre = _normal_fibre.minimize(log_ratios, shift, max_iter=max_iter, decompose=decompose)
        squared = alone / 2 + 2 * fibre.energy
        result["squared"][index] = squared
        positive = xp.where(squared > 0, squared, xp.ones_like(squared))
        distance = xp.sqrt(squared)
        # an error of the squared distance is twice that of the distance
        result["error"][index] = (fibre.rounding + fibre.decrement) / positive + whitened.error[index] / xp.where(
            distance > 1, distance, xp.ones_like(distance)
        )
        result["residual"][index] = fibre.residual
        iterations[index], converged[index] = fibre.iterations, fibre.converged
        if lower:
            result["lower"][index] = xp.sqrt(alone / 2 + 2 * _embedded_energy(log_ratios, shift))
        if rates:
            mean_rates[index], cov_rates[index] = _spread_out(p, ratios, log_ratios, fibre, whitened.basis[index])
        if gradients:
            parts = _gradients(p, ratios, log_ratios, fibre, distance, whitened.basis[index])
            for whole, part in zip(slopes, parts, strict=True):
                whole[index] = part
    return Solution(
        distance=xp.sqrt(result["squared"]),
        lower=result["lower"] if lower else None,
        relative_error=result["error"],
        residual=result["residual"],
        iterations=iterations,
        reduced_dimension=counts,
        converged=converged,
        rates=(mean_rates, cov_rates) if rates else None,
        gradients=slopes if gradients else None,
    )


def _carriers(ell: Array, m: Array) -> tuple[Array, Array]:
    """Directions (n, d, d) that carry the mean, a column for each distinct eigenvalue, and which of them are needed."""
    xp = namespace(ell, m)
    d = ell.shape[1]
    device = getattr(ell, "device", None)
    size = xp.max(xp.abs(ell), axis=1, keepdims=True)
    apart = (ell[:, :-1] - ell[:, 1:]) > SAME * d * size
    first = xp.zeros((ell.shape[0], 1), dtype=xp.int64, device=device)
    cluster = xp.cumulative_sum(xp.concat([first, xp.astype(apart, xp.int64)], axis=1), axis=1)
    member = cluster[:, :, None] == xp.arange(d, device=device)[None, None, :]
    parts = xp.where(member, m[:, :, None], xp.zeros_like(m[:, :, None]))
    largest = xp.max(xp.abs(parts), axis=1, keepdims=True)
    scaled = parts / xp.where(largest > 0, largest, xp.ones_like(largest))
    norm = xp.sqrt(xp.sum(scaled * scaled, axis=1, keepdims=True))
    directions = scaled / xp.where(norm > 0, norm, xp.ones_like(norm))
    length = (norm * largest)[:, 0, :]
    # the distance is at least that of the covariances, and at least that of the means had they the wider covariance
    wide = xp.exp(xp.clip(xp.max(ell, axis=1), 0.0, None) / 2)
    scale = xp.sqrt(xp.sum(ell * ell, axis=1) / 2) + xp.asinh(
        xp.sqrt(xp.sum(m * m, axis=1)) / wide
    )
    # a coordinate counts by the larger of its two Fisher lengths, at the first and at the second normal
    lowest = xp.where(member, ell[:, :, None], xp.zeros_like(ell[:, :, None]))
    weight = xp.exp(xp.clip(-xp.min(lowest, axis=1), 0.0, None) / 2)
    return directions, length * weight > NO_SHIFT * scale[:, None]


def _embedded_energy(log_ratios: Array, shift: Array) -> Array:
    """Sum of the squared logarithms of the singular values of [[diag(e^(l/2)), m], [0, 1]] (Calvo and Oller 1990)."""
    xp = namespace(log_ratios, shift)
    n, k = shift.shape
    device = getattr(shift, "device", None)
    i = xp.arange(k, device=device)
    excess = xp.zeros((n, k + 1, k + 1), dtype=shift.dtype, device=device)
    excess[:, :k, :k] = shift[:, :, None] * shift[:, None, :]
    excess[:, i, i] += xp.expm1(log_ratios)
    excess[:, :k, k] = shift
    excess[:, k, :k] = shift
    excess = xp.astype(excess, xp.float64)
    close = xp.sqrt(xp.sum(excess * excess, axis=(1, 2))) < CLOSE
    safe = xp.where(close[:, None, None], excess, xp.zeros_like(excess))
    near = xp.log1p(xp.linalg.eigvalsh(safe)) / 2
    factor = xp.zeros_like(excess)
    factor[:, i, i] = xp.astype(xp.exp(log_ratios / 2), xp.float64)
    factor[:, :k, k] = xp.astype(shift, xp.float64)
    factor[:, k, k] = 1.0
    far = xp.log(xp.linalg.svdvals(factor))
    logs = xp.where(close[:, None], near, far)
    return xp.sum(logs * logs, axis=1)


# ------------------------------------------------------------------------------------------------------ velocities


def _assemble(p: Array, whole: Array, part: Array, inner: Array) -> Array:
    """``diag(whole)`` with the block on the carriers p changed from ``diag(part)`` to ``inner``."""
    xp = namespace(p)
    k, d = part.shape[1], whole.shape[1]
    i = xp.arange(k, device=getattr(p, "device", None))
    j = xp.arange(d, device=getattr(p, "device", None))
    changed = xp.asarray(inner, copy=True)
    changed[:, i, i] -= part
    total = p @ changed @ xp.permute_dims(p, (0, 2, 1))
    total[:, j, j] += whole
    return total


def _split(rates: Array, k: int) -> tuple[Array, Array]:
    """Rates of mean and covariance from [-B, sqrt(2) x]."""
    xp = namespace(rates)
    square = rates[:, :, :k]
    return rates[:, :, k] / 2**0.5, -(square + xp.permute_dims(square, (0, 2, 1))) / 2


def _spread_out(p: Array, ratios: Array, log_ratios: Array, fibre: Fibre, basis: Array) -> tuple[Array, Array]:
    """Velocity at the first normal in the original space."""
    xp = namespace(p)
    x, b = _split(fibre.initial_rates, log_ratios.shape[1])
    mean = basis @ (p @ x[:, :, None])
    cov = basis @ _assemble(p, ratios, log_ratios, b) @ xp.permute_dims(basis, (0, 2, 1))
    return mean[..., 0], (cov + xp.permute_dims(cov, (0, 2, 1))) / 2


def _gradients(
    p: Array, ratios: Array, log_ratios: Array, fibre: Fibre, distance: Array, basis: Array
) -> tuple[Array, Array, Array, Array]:
    """First variation: the gradient of the distance is the unit velocity at that end, lowered by the metric."""
    xp = namespace(p)
    k = log_ratios.shape[1]
    inverse = xp.astype(xp.linalg.inv(xp.astype(basis, xp.float64)), basis.dtype)
    up = xp.permute_dims(inverse, (0, 2, 1))
    unit = xp.where(distance > 0, distance, xp.ones_like(distance))
    x, b = _split(fibre.initial_rates, k)
    mean_p = -(up @ (p @ x[:, :, None]))[..., 0] / unit[:, None]
    cov_p = -(up @ _assemble(p, ratios, log_ratios, b) @ inverse) / (2 * unit[:, None, None])
    x, b = _split(fibre.final_rates, k)
    narrow = xp.exp(-log_ratios / 2)
    mean_q = (up @ (p @ (narrow * x)[:, :, None]))[..., 0] / unit[:, None]
    falling = ratios * xp.exp(-ratios), log_ratios * xp.exp(-log_ratios)
    cov_q = up @ _assemble(p, *falling, narrow[:, :, None] * b * narrow[:, None, :]) @ inverse
    return mean_p, cov_p, mean_q, cov_q / (2 * unit[:, None, None])
