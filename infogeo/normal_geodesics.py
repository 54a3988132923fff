"""The exact Fisher-Rao geodesics of full normals, with a certificate, for batches of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from infogeo import _normal_pairs
from infogeo._arrays import Array, as_result, detached, is_tensor, like, namespace, to_numpy
from infogeo._checks import check_count, check_number
from infogeo._normal_pairs import Pairs, Solution
from infogeo.errors import ArgumentError, ConvergenceError, UnsupportedFamilyError
from infogeo.families import Family, Gaussian, LowRankGaussian
from infogeo.measures import check_pair

ACCURACY = 1e-8
"""Relative error up to which a distance is given without asking for less."""

RESERVE = 10.0
"""A pair whose estimated error is above the tolerance over this is computed again in extended precision."""

MAX_ITER = 200
"""Newton steps before the iteration is given up; from 0 to 8 are usual."""

CHUNK_BYTES = 32e6
"""Temporaries of the solver; more pairs than fit are solved in portions."""

SCRATCH = 48
"""Temporaries of the solver per pair, in multiples of the numbers of one normal (34 to 48 measured).

Beside them stand, for one pair at a time, about four matrices of order k (k - 1) / 2 where Newton's equations of a far
pair are solved by elimination: 2 MB at k = 20.
"""


@dataclass(frozen=True, eq=False)
class NormalGeodesic:
    """The shortest geodesics of pairs of full normals: lengths, brackets and what certifies them.

    All arrays have the broadcast batch shape of the two batches. Every value is the length of a curve up to rounding,
    and so an upper bound; the residual shows that the curve is a geodesic, ``relative_error`` how well its length is
    known. Of pairs more than 8 apart a shorter geodesic is not ruled out, only looked for.
    """

    distance: Array
    """Fisher-Rao distance."""
    lower: Array
    """Lower bound of Calvo and Oller (1990), a closed form."""
    upper: Array
    """The distance with its estimated error added."""
    relative_error: Array
    """Estimated relative error: rounding, and what another Newton step would still gain."""
    residual: Array
    """Horizontality: norm of the part of the lifted velocity along the fibre, relative to the velocity."""
    iterations: Array
    """Newton steps from all starts; none where there is a closed form."""
    reduced_dimension: Array
    """Dimension k of the problem after the reduction; 0 and 1 are closed forms."""
    converged: Array
    """Whether the iteration ended with an estimated error within the tolerance."""
    tolerance: float
    """Relative error that was asked for."""


def normal_geodesic(
    p: Gaussian | LowRankGaussian,
    q: Gaussian | LowRankGaussian,
    *,
    tol: float = ACCURACY,
    max_iter: int = MAX_ITER,
    strict: bool = True,
) -> NormalGeodesic:
    r"""Fisher-Rao distance of full normals with its certificate.

    The manifold of normals is the base of a Riemannian submersion, so the distance is the least length over a fibre
    [1]_ [2]_: after an affine map and a rotation,
    :math:`d^2 = \sum_{\text{split off}} \tfrac12 \ell_i^2 + \min_c 2 \sum_i \mathrm{arsinh}^2 \sigma_i(C)` with the
    logarithms :math:`\ell` of the variance ratios and a matrix C of order k by k + 1 that is linear in k (k - 1) / 2
    unknowns; the docs page on full normals derives it. Minimized by Newton's method from the best of three starting
    points, for all pairs of a batch at once; pairs whose rounding errors would exceed the tolerance are computed again
    in extended precision.

    Far apart, two normals can be joined by several geodesics: minima over the fibre whose lengths differ by up to some
    percent. None was found below a distance of 11.8. From 8 on the iteration is run from all three starts and the least
    minimum is taken. That it is the least one is not proven: the certificate shows a geodesic, with its length as an
    upper bound; the lower bound holds in any case.

    Parameters
    ----------
    p, q : Gaussian or LowRankGaussian
        Of one family; batch shapes broadcast. Low ranks must have one diagonal.
    tol : float
        Relative error asked for, above 1e-13.
    max_iter : int
        Newton steps at most.
    strict : bool
        Whether a pair that misses the tolerance raises; otherwise look at ``converged``.

    Returns
    -------
    NormalGeodesic

    Raises
    ------
    ShapeError, UnsupportedFamilyError
        As a measure of the two.
    ArgumentError
        If the tolerance or the number of steps makes no sense.
    ConvergenceError
        If a pair misses the tolerance; the error carries the result.

    References
    ----------
    .. [1] P. S. Eriksen, Geodesics connected with the Fisher metric on the multivariate normal manifold, Proceedings of
       the GST Workshop, Lancaster 1987, 225-229.
    .. [2] S. Kobayashi, Geodesics of multivariate normal distributions and a Toda lattice type Lax pair, Physica
       Scripta 98 (2023) 115241.

    Examples
    --------
    >>> from infogeo import Gaussian
    >>> p = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 0.1]])
    >>> q = Gaussian([1.0, 1.0], [[0.1, 0.0], [0.0, 1.0]])
    >>> found = normal_geodesic(p, q)
    >>> round(float(found.distance), 6), int(found.reduced_dimension)  # Han and Park 2014: 3.1329
    (3.132932, 2)
    >>> bool(found.lower < found.distance), bool(found.residual < 1e-10)
    (True, True)
    """
    check_pair("normal_geodesic", p, q)
    if not isinstance(p, (Gaussian, LowRankGaussian)):
        raise UnsupportedFamilyError(
            f"normal_geodesic takes two batches of Gaussian or LowRankGaussian, found {type(p).__name__}; to_full() "
            "gives one, if this is a family of normals"
        )
    tolerance = check_number("tol", tol)
    if not 1e-13 <= tolerance < 1:
        raise ArgumentError(f"tol: found {tolerance}, wanted a relative error from 1e-13 to below 1")
    check_count("max_iter", max_iter, 0)
    shape = broadcast_shape(p, q)
    parts = [
        _normal_pairs.solve(chunk, tolerance=tolerance / RESERVE, max_iter=max_iter, lower=True)
        for chunk in _all_chunks(p, q)
    ]
    values = {
        name: join([getattr(part, name) for part in parts], shape, p, q)
        for name in ("distance", "lower", "relative_error", "residual", "iterations", "reduced_dimension", "converged")
    }
    values["converged"] = values["converged"] & (values["relative_error"] <= tolerance)
    values["upper"] = values["distance"] * (1 + values["relative_error"])
    xp = namespace(values["distance"])
    values["lower"] = xp.minimum(values["lower"], values["distance"])  # rounding aside it is never more
    result = NormalGeodesic(**{name: as_result(value) for name, value in values.items()}, tolerance=tolerance)
    if strict:
        check_converged("normal_geodesic", result, values["converged"], values["relative_error"], tolerance)
    return result


# ------------------------------------------------------------------------------- shared with the measures and maps


def broadcast_shape(p: Family, q: Family) -> tuple[int, ...]:
    """The batch shape of a pair."""
    return np.broadcast_shapes(p.batch_shape, q.batch_shape)


def chunks(p: Gaussian, q: Gaussian) -> Iterator[Pairs]:
    """All pairs in one axis, in portions of bounded memory; tensors on the host as NumPy arrays, without gradients."""
    shape, d = broadcast_shape(p, q), p.dimension
    total = int(np.prod(shape, dtype=np.int64))
    step = max(1, int(CHUNK_BYTES // (8 * SCRATCH * (d * d + d))))
    sources = [getattr(side, name) for side in (p, q) for name in ("mean", "cov", "cholesky")]
    arrays = [_plain(x) for x in sources]
    xp = namespace(*arrays)
    views = [
        xp.broadcast_to(a, (*shape, *a.shape[len(side.batch_shape) :]))
        for a, side in zip(arrays, (p, p, p, q, q, q), strict=True)
    ]
    for start in range(0, total, step):
        index = np.unravel_index(np.arange(start, min(start + step, total)), shape) if shape else ()
        cut = [a[tuple(index)] if shape else a[None] for a in views]
        yield Pairs(*cut)


def _all_chunks(p: Gaussian | LowRankGaussian, q: Any) -> Iterator[Pairs]:
    """As :func:`chunks`, for low ranks of the pairs in the few dimensions where they differ."""
    if isinstance(p, Gaussian):
        yield from chunks(p, q)
        return
    from infogeo.dispatch.low_rank import reductions

    for reduced in reductions("normal_geodesic", p, q):
        yield from chunks(reduced.p, reduced.q)


def _plain(x: Array) -> Array:
    x = detached(x)
    return to_numpy(x) if is_tensor(x) and x.device.type == "cpu" else x


def join(parts: list[Array], shape: tuple[int, ...], p: Any, q: Any) -> Array:
    """Portions of results as one array of the batch shape, in the library of the two batches."""
    xp = namespace(parts[0])
    whole = xp.concat(parts, axis=0)
    whole = xp.reshape(whole, (*shape, *whole.shape[1:]))
    return like(whole, p.mean) if not is_tensor(whole) else whole


def check_converged(name: str, result: Any, converged: Array, error: Array, tolerance: float) -> None:
    """Raise if a pair missed the tolerance; the message names the first one and says why."""
    missed = ~to_numpy(converged)
    if not missed.any():
        return
    where = tuple(int(i) for i in np.argwhere(missed)[0])
    raise ConvergenceError(
        f"{name}: {int(missed.sum())} of {missed.size} pairs miss the relative error {tolerance:.1g}, the first is "
        f"pair {where} with an estimated {float(to_numpy(error)[where]):.1g}; covariances this ill-conditioned, or "
        "normals this far apart, need more digits than float64 input holds: rescale or regularize them, or take the "
        "value with its bracket from normal_geodesic(p, q, strict=False)",
        result,
    )


def solve_all(p: Gaussian, q: Gaussian, **wanted: bool) -> list[Solution]:
    """All portions solved to the default accuracy, or an error."""
    found = []
    for pairs in chunks(p, q):
        part = _normal_pairs.solve(pairs, tolerance=ACCURACY / RESERVE, max_iter=MAX_ITER, **wanted)
        good = part.converged & (part.relative_error <= ACCURACY)
        check_converged("fisher_rao_distance", part, good, part.relative_error, ACCURACY)
        found.append(part)
    return found
