"""Bounds of the Fisher-Rao distance that need no iteration: the embedding of Calvo and Oller below, curves above."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infogeo import _kernels, _normal_fibre, _statistics
from infogeo._arrays import Array, detached, is_tensor, length, namespace, requires_gradient, to_numpy, with_gradients
from infogeo._checks import FloatArray
from infogeo._embedding import (
    NEAR,
    Whitened,
    bordered,
    embedding_gradient,
    embedding_logarithms,
    transpose,
    whiten,
)
from infogeo.distances import fisher_rao_distance, hellinger_distance
from infogeo.divergences import jeffreys_divergence
from infogeo.errors import DomainError, UnsupportedFamilyError
from infogeo.families import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Family,
    Gaussian,
    IsotropicGaussian,
    LowRankGaussian,
    PointMass,
    Weibull,
)
from infogeo.measures import check_pair, measure


@measure(symmetric=True, metric=True)
def calvo_oller_distance(p: Family, q: Family) -> FloatArray:  # type: ignore[empty-body]
    r"""Distance of normals in the embedding of Calvo and Oller; a lower bound of the Fisher-Rao distance. A metric.

    A normal becomes the positive definite matrix of one more dimension [1]_

    .. math:: P = \begin{pmatrix} \Sigma + m m^\top & m \\ m^\top & 1 \end{pmatrix},\qquad
        d = \sqrt{\tfrac12 \sum_i \log^2 \lambda_i(P_p^{-1} P_q)}.

    The map is an isometry onto its image, which is not totally geodesic, so that curves outside the image can be
    shorter: *d* is at most the Fisher-Rao distance among *all* normals (and so at most that in any smaller family).
    The two agree where the means are equal, and in the limit of close pairs; far apart the bound can be a quarter too
    low. It does not change under affine maps of the samples.

    The pair is first brought to :math:`(0, I)` and :math:`(m, W W^\top)`. For close pairs the logarithms are taken of
    one plus the eigenvalues of the difference matrix; for all others from the singular values of the factor
    :math:`\begin{pmatrix} W & m \\ 0 & 1 \end{pmatrix}`, whose condition number is the root of the matrix's: those
    above one from this factor, those below from the factor of the pair in the other order. With one covariance,
    :math:`d = 2\,\mathrm{arsinh}(\Delta/2)` with the Mahalanobis distance of the means.

    Parameters
    ----------
    p, q : Family
        Normals of one family; batch shapes broadcast.

    Returns
    -------
    array, shape (...,)

    See Also
    --------
    fisher_rao_bounds : this bound and upper ones.

    References
    ----------
    .. [1] M. Calvo, J. M. Oller, A distance between multivariate normal distributions based in an embedding into the
       Siegel group, Journal of Multivariate Analysis 35 (1990) 223-242, eq. (4.4).

    Examples
    --------
    >>> from infogeo import IsotropicGaussian, fisher_rao_distance
    >>> p, q = IsotropicGaussian([0.0], 1.0), IsotropicGaussian([1.0], 4.0)
    >>> round(float(calvo_oller_distance(p, q)), 6), round(float(fisher_rao_distance(p, q)), 6)
    (1.186049, 1.189381)
    """


def _norm(logs: Array) -> Array:
    return namespace(logs).linalg.vector_norm(logs, axis=-1) / 2**0.5


def _seen(p: Gaussian, q: Gaussian) -> Whitened:
    """The second normal seen from the first, or an error where that leaves the range of float64."""
    there = whiten(p, q)
    xp = namespace(there.mean)
    if not bool(xp.all(xp.isfinite(there.matrix()))):
        raise DomainError(
            "calvo_oller_distance: two normals are too far apart for float64: in units of one the other has a mean or "
            "a variance beyond 1e308; of independent coordinates fisher_rao_distance of DiagonalGaussian has an answer"
        )
    return there


@calvo_oller_distance.register(Gaussian, scratch=16)
def _calvo_oller_full(p: Gaussian, q: Gaussian) -> Array:
    with np.errstate(all="ignore"):
        there = _seen(p, q)
        value = _norm(embedding_logarithms(there, lambda: _seen(q, p)))
    if not requires_gradient(p.mean, p.cov, q.mean, q.cov):
        return value
    parts, d = [], p.dimension
    for side, seen in ((p, there), (q, whiten(q, p))):
        factor = detached(side.cholesky)
        xp = namespace(factor)
        eye = xp.eye(d, dtype=factor.dtype, device=getattr(factor, "device", None))
        inverse = xp.linalg.solve(factor, xp.broadcast_to(eye, factor.shape))
        nothing = xp.zeros(factor.shape[:-1], dtype=factor.dtype, device=getattr(factor, "device", None))
        gradient = embedding_gradient(seen, bordered(inverse, nothing, nothing, 1.0))
        parts += [(side.mean, 2 * gradient[..., :d, d]), (side.cov, gradient[..., :d, :d])]
    return with_gradients(value, *parts)


_statistics.MAHALANOBIS.register(calvo_oller_distance, lambda delta: 2 * namespace(delta).asinh(delta / 2))


@calvo_oller_distance.register(CenteredGaussian, scratch=16)
def _calvo_oller_centered(p: CenteredGaussian, q: CenteredGaussian) -> Array:
    return fisher_rao_distance(p, q)  # normals of one mean are totally geodesic among all, and so are their embeddings


@calvo_oller_distance.register(IsotropicGaussian, scratch=6)
def _calvo_oller_isotropic(p: IsotropicGaussian, q: IsotropicGaussian) -> Array:
    # of d + 1 eigenvalues d - 1 are the ratio r of the variances, and the others sqrt(r) exp(+-a)
    xp, d = namespace(p.var, q.var), p.dimension
    s_p, s_q = xp.sqrt(p.var), xp.sqrt(q.var)
    rise = (q.var - p.var) / (s_p + s_q)
    with np.errstate(over="ignore"):
        relative = (q.var - p.var) / p.var
    near = xp.abs(relative) < NEAR
    ratio = xp.where(near, xp.log1p(xp.where(near, relative, xp.zeros_like(relative))), xp.log(q.var) - xp.log(p.var))
    # the arc 2 arsinh(c / (2 sqrt(s_p s_q))), c^2 the sum of squares of mean and rise, as univariate normals have it
    half = length(p.mean / 2 - q.mean / 2) * 2**0.5
    arc = _kernels.half_plane_distances(half, -half, s_p, s_q, rise) / 2**0.5
    return length(xp.stack(xp.broadcast_arrays((2 * d - 1) ** 0.5 / 2 * ratio, arc), axis=-1))


calvo_oller_distance.refuse(
    DiagonalGaussian,
    "the embedding of a normal with independent coordinates is a full matrix like that of any other; turn the "
    "distributions into Gaussian with to_full()",
)
calvo_oller_distance.refuse(PointMass, "a point mass has no density; for plain vectors use euclidean_distance")
calvo_oller_distance.refuse(
    Categorical, "the embedding is one of normals; the distance of categoricals is fisher_rao_distance"
)


# ------------------------------------------------------------------------------------------------- bounds of both sides


@dataclass(frozen=True, eq=False)
class DistanceBounds:
    """Two numbers for each pair that the Fisher-Rao distance lies between, up to rounding.

    Where the two meet, ``lower`` can exceed ``upper`` by rounding: in the tenth digit or later as a rule, in the sixth
    for close pairs of full normals with ill-conditioned covariances.
    """

    lower: FloatArray
    """(...,)"""
    upper: FloatArray
    """(...,)"""
    lower_method: NDArray[np.str_]
    """(...,) what gave the lower bound of each pair: ``calvo_oller`` or ``hellinger_angle``."""
    upper_method: NDArray[np.str_]
    """(...,) what gave the upper bound: ``jeffreys``, ``half_planes`` or ``fibre``."""


def fisher_rao_bounds(p: Family, q: Family) -> DistanceBounds:
    r"""Bounds of the Fisher-Rao distance from below and above, without an iteration.

    **Below**, the greater of two:

    * ``calvo_oller``: :func:`calvo_oller_distance`, for the normals that it takes [1]_.
    * ``hellinger_angle``: :math:`2\arccos\int\sqrt{pq}`. Square roots of densities are unit vectors; a curve of
      densities has twice their length as its Fisher length, and no curve on a sphere is shorter than the arc [2]_.

    **Above**, the least of:

    * ``jeffreys``: :math:`\sqrt{J}`. Along the curve whose natural parameters change evenly (and along the one whose
      expectation parameters do) the squared speed integrates to the Jeffreys divergence, and the squared length of a
      curve is at most that integral [3]_. It holds for exponential families.

    and for :class:`Gaussian` the lengths of explicit curves, seen from :math:`(0, I)`, where the second is
    :math:`(m, S)`, each also with the two exchanged:

    * ``half_planes``: in the eigenvectors of S both are diagonal, and the geodesic among the diagonal normals is a
      curve like others [4]_; exact for equal means.
    * ``fibre``: normals are the base of a Riemannian submersion from positive definite matrices of order 2 d + 1 [5]_,
      which shortens no curve on the way up and lengthens none on the way down: :math:`\tfrac12\|\log G\|_F` for any G
      above :math:`(m, S)`; the least of the two from which the search for the exact distance starts
      (see :func:`normal_geodesic`). Exact for equal means and for equal or proportional covariances.

    The upper bound is the exact distance to within some percent; the lower one can be a quarter less, for means far
    apart.

    :class:`LowRankGaussian` is taken in the few dimensions where two members with one diagonal differ; with different
    diagonals as :class:`Gaussian`, a pair at a time, in the order of d^3 operations.

    For families other than these the distance is the one of :func:`fisher_rao_distance` in that family, and
    the bounds are those that need its divergences alone.

    Parameters
    ----------
    p, q : Family
        Of one family; batch shapes broadcast. Tensors are read as arrays, and no gradient is recorded.

    Returns
    -------
    DistanceBounds
        Arrays of the broadcast batch shape.

    Raises
    ------
    UnsupportedFamilyError
        If the family is not exponential, or has no closed Hellinger distance or Jeffreys divergence.
    ShapeError, DomainError
        As a measure of the two.

    See Also
    --------
    fisher_rao_distance : the distance itself.

    References
    ----------
    .. [1] M. Calvo, J. M. Oller, A distance between multivariate normal distributions based in an embedding into the
       Siegel group, Journal of Multivariate Analysis 35 (1990) 223-242, eq. (4.4).
    .. [2] C. R. Rao, Information and the accuracy attainable in the estimation of statistical parameters, Bulletin of
       the Calcutta Mathematical Society 37 (1945) 81-91; S. Amari, Information Geometry and Its Applications, Springer
       2016, section 2.
    .. [3] F. Nielsen, A simple approximation method for the Fisher-Rao distance between multivariate normal
       distributions, Entropy 25 (2023) 654, section 3.
    .. [4] J. E. Strapasson, J. P. S. Porto, S. I. R. Costa, On bounds for the Fisher-Rao distance between multivariate
       normal distributions, AIP Conference Proceedings 1641 (2015) 313-320.
    .. [5] P. S. Eriksen, Geodesics connected with the Fisher metric on the multivariate normal manifold, Proceedings of
       the GST Workshop, Lancaster 1987; S. Kobayashi, Geodesics of multivariate normal distributions and a Toda lattice
       type Lax pair, arXiv:2304.12575.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import Gaussian
    >>> p = Gaussian([0.0, 0.0], np.eye(2))
    >>> q = Gaussian([1.0, 0.0], [[2.0, 1.0], [1.0, 2.0]])
    >>> bounds = fisher_rao_bounds(p, q)
    >>> bounds.lower.round(4).item(), bounds.upper.round(4).item(), str(bounds.upper_method)
    (1.1548, 1.1644, 'fibre')
    """
    check_pair("fisher_rao_bounds", p, q)
    if isinstance(p, Weibull):
        raise UnsupportedFamilyError(
            "fisher_rao_bounds: the Weibull distributions are no exponential family, so that the Jeffreys divergence "
            "bounds nothing; their fisher_rao_distance has a closed form"
        )
    p, q = _as_arrays(p), _as_arrays(q)
    if isinstance(p, LowRankGaussian) and isinstance(q, LowRankGaussian):
        return _low_rank_bounds(p, q)
    below = {"hellinger_angle": 4 * np.arcsin(hellinger_distance(p, q) / 2**0.5)}
    if type(p) in calvo_oller_distance.families:
        below["calvo_oller"] = calvo_oller_distance(p, q)
    with np.errstate(over="ignore", invalid="ignore"):  # a divergence beyond 1e308 bounds nothing
        jeffreys = np.sqrt(jeffreys_divergence(p, q))
    above = {"jeffreys": np.where(np.isnan(jeffreys), np.inf, jeffreys)}
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        above |= _curves(p, q)
    lower, lower_method = _choose(below, np.argmax)
    upper, upper_method = _choose(above, np.argmin)
    return DistanceBounds(lower, upper, lower_method, upper_method)


def _low_rank_bounds(p: LowRankGaussian, q: LowRankGaussian) -> DistanceBounds:
    """In the few dimensions where two members differ if they have one diagonal, else of one full pair at a time."""
    from infogeo.dispatch.low_rank import one_diagonal, reductions

    shape = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    if one_diagonal(p, q).all():
        parts = [fisher_rao_bounds(reduced.p, reduced.q) for reduced in reductions("fisher_rao_bounds", p, q)]
    else:
        places = [np.broadcast_to(np.arange(max(1, math.prod(s))).reshape(s), shape).ravel() for s in (
            p.batch_shape, q.batch_shape)]  # fmt: skip
        members = [_rows(side) for side in (p, q)]
        parts = [
            fisher_rao_bounds(*(side[[int(i)]].to_full() for side, i in zip(members, pair, strict=True)))
            for pair in zip(*places, strict=True)
        ]
    return DistanceBounds(
        **{f.name: np.concatenate([getattr(part, f.name) for part in parts]).reshape(shape) for f in fields(parts[0])}
    )


def _rows(x: LowRankGaussian) -> LowRankGaussian:
    """The batch with its members in one axis."""
    axes = {name: x.event_axes[name] for name in ("mean", "factor", "diagonal")}
    values = {name: getattr(x, name) for name in axes}
    return LowRankGaussian(**{name: v.reshape(-1, *v.shape[v.ndim - axes[name] :]) for name, v in values.items()})


def _choose(values: dict[str, FloatArray], best: Callable[..., Any]) -> tuple[FloatArray, NDArray[np.str_]]:
    names, stack = np.array(list(values)), np.stack(np.broadcast_arrays(*values.values()))
    which = best(stack, axis=0)
    return np.asarray(np.take_along_axis(stack, which[None], axis=0)[0]), np.asarray(names[which])


def _as_arrays(x: Any) -> Any:
    """The same batch with NumPy arrays in place of tensors."""
    values = {f.name: getattr(x, f.name) for f in fields(x)}
    return type(x)(**{k: to_numpy(v) for k, v in values.items()}) if any(map(is_tensor, values.values())) else x


def _curves(p: Gaussian, q: Gaussian) -> dict[str, FloatArray]:
    """Lengths of curves between normals, from either end."""
    there, back = _curves_from(p, q), _curves_from(q, p)
    return {name: np.minimum(there[name], back[name]) for name in there}


def _curves_from(p: Gaussian, q: Gaussian) -> dict[str, FloatArray]:
    pair = whiten(p, q)
    shape, d = np.broadcast_shapes(p.batch_shape, q.batch_shape), p.dimension
    finite = np.isfinite(pair.excess).all(axis=(-2, -1), keepdims=True)
    excess, basis = np.linalg.eigh(np.where(finite, pair.excess, 2 * np.eye(d)))
    left, roots, _ = np.linalg.svd(pair.factor)
    near = np.abs(excess).max(axis=-1, keepdims=True) < NEAR
    close = np.sqrt(1 + np.where(near, excess, 0.0))
    rise = np.where(near, excess / (1 + close), roots - 1)  # of the standard deviations along the eigenvectors
    roots = np.where(near, close, roots)
    basis = np.where(near[..., None], basis, left)
    mean = np.broadcast_to((transpose(basis) @ pair.mean[..., None])[..., 0], (*shape, d))
    planes = _kernels.half_plane_distances(0 * mean, mean, np.ones_like(roots), roots, rise)
    return {"half_planes": np.linalg.norm(planes, axis=-1), "fibre": _fibre(mean, np.broadcast_to(rise, mean.shape))}


SQUARED = 1e100
"""Means and ratios of standard deviations up to this can be squared and multiplied."""


def _fibre(mean: FloatArray, rise: FloatArray) -> FloatArray:
    """Lengths of lifts, by the k by k + 1 matrix of ``_normal_fibre`` with k = d."""
    d = mean.shape[-1]
    roots = 1 + rise
    finite = np.asarray(
        (np.abs(mean).max(axis=-1) < SQUARED) & (roots.max(axis=-1) < SQUARED) & (roots.min(axis=-1) > 1 / SQUARED)
    )
    shift, ratios = np.where(finite[..., None], mean, 0.0), 2 * np.log1p(np.where(finite[..., None], rise, 0.0))
    lengths = _normal_fibre.length_without_search(ratios.reshape(-1, d), shift.reshape(-1, d))
    return np.where(finite, lengths.reshape(finite.shape), np.inf)
