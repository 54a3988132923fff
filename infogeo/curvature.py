r"""Curvature of the Fisher metric. Signs are such that a sphere has positive curvature.

With the curvature tensor :math:`R(v, w) = [\nabla_v, \nabla_w] - \nabla_{[v, w]}` of the Levi-Civita connection, the
sectional curvature of the plane of v and w is :math:`K = g(R(v, w) w, v) / (|v|^2 |w|^2 - g(v, w)^2)`, and the scalar
curvature the sum of K over the ordered pairs of an orthonormal basis: twice the Gaussian curvature of a surface.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from infogeo._checks import FloatArray, within_range
from infogeo.errors import DomainError
from infogeo.families import Family
from infogeo.geometry import check_velocity, inner_product
from infogeo.operations import Operation

SECTIONAL_CURVATURE = Operation("sectional_curvature")
"""(p, v, w) to the array (...,), for velocities that are orthonormal in the Fisher metric."""
SCALAR_CURVATURE = Operation("scalar_curvature")
"""(p) to the array (...,)."""

LEAST_SINE = 1e-8
"""Two velocities whose angle has a smaller sine span no plane that float64 could tell."""


def sectional_curvature(p: Family, v: ArrayLike, w: ArrayLike) -> FloatArray:
    r"""Sectional curvature of the Fisher metric for the plane that two velocities span; positive for a sphere.

    * Constant: 1/4 for :class:`Categorical` (an orthant of the sphere of radius 2), 1/(4 n) for :class:`Multinomial`
      of n trials; -1/2 for univariate normals, :class:`LogNormal` and :class:`InverseGaussian`; -1/(2 d) for
      :class:`IsotropicGaussian`; :math:`-6/\pi^2` for :class:`Weibull`, hyperbolic all of them [1]_.
    * :class:`DiagonalGaussian`: a product of d planes of curvature -1/2; between -1/2 and 0.
    * :class:`CenteredGaussian`: a symmetric space; with :math:`A = S^{-1/2} V S^{-1/2}` and B likewise,
      :math:`K = \mathrm{tr}\,[A, B]^2 / (2 (\mathrm{tr} A^2\,\mathrm{tr} B^2 - (\mathrm{tr} AB)^2))`; at most 0.
    * All others (:class:`Gaussian` [2]_, Gamma, Beta, Dirichlet, VonMisesFisher) from the Amari-Chentsov tensor: in
      natural parameters the metric is a Hessian, fourth derivatives cancel, and for orthonormal v and w
      :math:`K = \frac14 (|T(v, w, \cdot)|^2 - g(T(v, v, \cdot), T(w, w, \cdot)))`. Planes of normals can have positive
      curvature.

    Parameters
    ----------
    p : Family
    v, w : array, shape (..., n)
        Rates of change of the coordinates; leading axes broadcast against the batch. Only the plane matters.

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        If the family has no formula.
    ShapeError
        If a velocity does not fit.
    DomainError
        If the manifold is a line and has no planes, a velocity is not finite, or v and w are parallel.

    References
    ----------
    .. [1] K. A. Arwini, C. T. J. Dodson, Information Geometry, Springer 2008, chapter 3.
    .. [2] L. T. Skovgaard, A Riemannian geometry of the multivariate normal model, Scandinavian Journal of Statistics
       11 (1984) 211-223.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> round(float(sectional_curvature(DiagonalGaussian([0.0], [4.0]), [1.0, 0.0], [1.0, 1.0])), 12)
    -0.5
    """
    found = SECTIONAL_CURVATURE.find(p)
    n = p.coordinate_size
    v, w = check_velocity("v", p, v), check_velocity("w", p, w)
    if n < 2:
        raise DomainError(
            f"sectional_curvature: a manifold of dimension {n} ({type(p).__name__} here) has no planes; wanted at "
            "least 2 coordinates (its scalar_curvature is 0)"
        )
    first = v / _length(p, "v", v)[..., None]
    whole = w / _length(p, "w", w)[..., None]
    rest = whole - inner_product(p, first, whole)[..., None] * first
    rest = rest - inner_product(p, first, rest)[..., None] * first
    sine = np.sqrt(inner_product(p, rest, rest))
    if (sine <= LEAST_SINE).any():
        raise DomainError("w: found a velocity parallel to v, wanted two that span a plane")
    second = rest / sine[..., None]
    return within_range("sectional_curvature", lambda: np.asarray(found(p, first, second)))


def scalar_curvature(p: Family) -> FloatArray:
    r"""Scalar curvature of the Fisher metric; positive for a sphere, twice the Gaussian curvature of a surface.

    The sum of the sectional curvatures over all ordered pairs of an orthonormal basis. Constant but for Gamma, Beta,
    Dirichlet and VonMisesFisher: 0 for one coordinate, :math:`n (n - 1) K` for curvature K in all planes, -d for
    :class:`DiagonalGaussian`, :math:`-d (d - 1)(d + 2)/4` for :class:`CenteredGaussian`, :math:`-d (d + 1)^2/4` for
    :class:`Gaussian`. In natural parameters it is :math:`\frac14 (|T|^2 - |\mathrm{tr}_g T|^2)`.

    Parameters
    ----------
    p : Family

    Returns
    -------
    array, shape (...,)

    Raises
    ------
    UnsupportedFamilyError
        If the family has no formula.

    References
    ----------
    .. [1] S. Amari, H. Nagaoka, Methods of Information Geometry, AMS 2000, section 3.2, for flat dual connections.

    Examples
    --------
    >>> from infogeo import Categorical
    >>> float(scalar_curvature(Categorical.from_probs([0.2, 0.3, 0.5])))  # twice the 1/4 of the sphere of radius 2
    0.5
    """
    found = SCALAR_CURVATURE.find(p)
    return within_range("scalar_curvature", lambda: np.asarray(found(p)))


def _length(p: Family, name: str, velocity: FloatArray) -> FloatArray:
    size = np.sqrt(inner_product(p, velocity, velocity))
    if not (size > 0).all():
        raise DomainError(f"{name}: found the velocity 0, wanted two velocities that span a plane")
    return np.asarray(size)
