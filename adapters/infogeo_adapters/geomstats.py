"""infogeo's manifolds as spaces of geomstats, for its learning tools, and geomstats' points as distributions.

The two classes :class:`FisherRaoManifold` and :class:`FisherRaoMetric` derive from classes of geomstats, and are made
when they are first asked for, so that this module can be imported without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import infogeo
from infogeo import Family, SharedCovarianceGaussian, fisher_rao_distance
from infogeo.errors import ArgumentError, InfogeoError, ShapeError
from infogeo.geometry import (
    EXPONENTIAL_MAP,
    exponential_map,
    fisher_information,
    geodesic,
    inner_product,
    logarithm_map,
)
from infogeo_adapters._require import require


def to_geomstats(x: Family) -> tuple[Any, Any]:
    """A batch as points of a geomstats space whose metric is infogeo's Fisher-Rao geometry.

    geomstats' own Fisher metrics are not Fisher's for general and for diagonal normals, and lose digits for univariate
    ones; with this space its learning tools (``FrechetMean``, ``RiemannianKMeans``, ``TangentPCA``,
    ``KNearestNeighborsClassifier``) work with the exact one.

    Two things of those tools are worth knowing. The Euclidean length of coordinates, not the metric, decides what
    ``TangentPCA`` calls a large variance; give tangent vectors to ``space.metric.orthonormal`` and to an ordinary PCA
    where that matters. And ``FrechetMean`` stops at gradients of 0.01 sqrt(dim) unless told otherwise, by
    ``FrechetMean(space).set(epsilon=1e-20)``; :func:`infogeo.frechet_mean` has a certificate.

    Parameters
    ----------
    x : Family
        Any family with exponential and logarithmic map, of any batch shape. :class:`SharedCovarianceGaussian` becomes
        :class:`Gaussian`.

    Returns
    -------
    space : FisherRaoManifold
        A ``geomstats.geometry.manifold.Manifold`` with a ``RiemannianMetric``; points and tangent vectors are
        coordinates (..., n), see :meth:`Family.coordinates`, and their rates of change.
    points : array, shape (..., n)
        In the array library of geomstats' backend.

    Raises
    ------
    UnsupportedFamilyError
        If the family has no such maps.
    MissingDependencyError
        If geomstats is not installed.

    See Also
    --------
    from_geomstats : the inverse.

    Examples
    --------
    >>> from infogeo import DiagonalGaussian
    >>> space, points = to_geomstats(DiagonalGaussian([[0.0], [1.0]], [[1.0], [4.0]]))
    >>> round(float(space.metric.dist(points[0], points[1])), 6)
    1.189381
    >>> from_geomstats(points, space).var.tolist()
    [[1.0], [4.0]]
    """
    if isinstance(x, SharedCovarianceGaussian):
        x = x.to_full()
    EXPONENTIAL_MAP.find(x, caller="to_geomstats")
    manifold, _ = _classes()
    space = manifold(x[(0,) * len(x.batch_shape)])
    return space, _backend().array(np.array(x.coordinates()))


def from_geomstats(points: ArrayLike, space: Any) -> Any:
    """Points of a geomstats space as a batch of distributions.

    Parameters
    ----------
    points : array
        Of shape ``(..., *space.shape)``.
    space : FisherRaoManifold or a space of geomstats
        Of geomstats' own: univariate, diagonal, centered and general normals, categorical, Dirichlet, beta, Poisson and
        exponential distributions.

    Returns
    -------
    Family
        Of the family that the space is made of.

    Raises
    ------
    ArgumentError
        If the space is none of these.
    ShapeError, DomainError
        If a point does not belong to the space.

    Examples
    --------
    >>> import numpy as np
    >>> space, points = to_geomstats(infogeo.Categorical.from_probs([0.5, 0.25, 0.25]))
    >>> np.exp(from_geomstats(points, space).log_probs).tolist()
    [0.5, 0.25, 0.25]
    """
    read = _READERS.get(type(space).__name__)
    if read is None:
        raise ArgumentError(
            f"from_geomstats: found a space {type(space).__name__}, wanted one of {', '.join(sorted(_READERS))}"
        )
    array = _numpy(points)
    shape = tuple(space.shape)
    if array.shape[max(0, array.ndim - len(shape)) :] != shape:
        raise ShapeError(f"points: found shape {array.shape}, wanted (..., {', '.join(map(str, shape))})")
    return read(array, space)


def _general(points: Any, space: Any) -> Family:
    d = space.sample_dim
    return infogeo.Gaussian(points[..., :d], points[..., d:].reshape(*points.shape[:-1], d, d))


_READERS: dict[str, Callable[[Any, Any], Family]] = {
    "FisherRaoManifold": lambda x, space: space.distributions(x),
    "UnivariateNormalDistributions": lambda x, _: infogeo.DiagonalGaussian(x[..., :1], x[..., 1:] ** 2),
    "DiagonalNormalDistributions": lambda x, space: infogeo.DiagonalGaussian(*np.split(x, 2, axis=-1)),
    "CenteredNormalDistributions": lambda x, _: infogeo.CenteredGaussian(x),
    "GeneralNormalDistributions": _general,
    "CategoricalDistributions": lambda x, _: infogeo.Categorical.from_probs(x),
    "DirichletDistributions": lambda x, _: infogeo.Dirichlet(x),
    "BetaDistributions": lambda x, _: infogeo.Beta(x[..., 0], x[..., 1]),
    "PoissonDistributions": lambda x, _: infogeo.Poisson(x[..., 0]),
    "ExponentialDistributions": lambda x, _: infogeo.Exponential(x[..., 0]),
}


def _module(name: str) -> Any:
    """A module of geomstats, imported without its warnings."""
    with warnings.catch_warnings():
        # geomstats makes its backend with an importer of the old kind, and Python says so
        warnings.simplefilter("ignore", ImportWarning)
        return require(f"geomstats.{name}", extra="geomstats", caller="to_geomstats")


def _backend() -> Any:
    return _module("backend")


def _numpy(values: Any) -> Any:
    return np.asarray(_backend().to_numpy(values) if hasattr(values, "detach") else values, dtype=np.float64)


@cache
def _classes() -> tuple[type[Any], type[Any]]:
    """The two classes, made from those of geomstats."""
    gs = _backend()
    manifold: Any = _module("geometry.manifold").Manifold
    metric: Any = _module("geometry.riemannian_metric").RiemannianMetric

    class FisherRaoManifold(manifold):  # type: ignore[misc]
        """A family of infogeo as a manifold of geomstats, with :class:`FisherRaoMetric`.

        Points are coordinates (..., n).

        Parameters
        ----------
        template : Family
            One member; it says which family, of which dimension, with which shared parameters.
        equip : bool
            Whether to set the metric.
        """

        def __init__(self, template: Family, equip: bool = True) -> None:
            self.template = template
            super().__init__(dim=template.coordinate_size, shape=(template.coordinate_size,), equip=equip)

        @staticmethod
        def default_metric() -> type[Any]:
            """The class of the metric."""
            return FisherRaoMetric

        def distributions(self, points: Any) -> Any:
            """The distributions that have points (..., n) as coordinates."""
            return self.template.with_coordinates(_numpy(points))

        def belongs(self, point: Any, atol: float = 0.0) -> Any:
            """Whether points (..., n) are coordinates of distributions; ``atol`` is not used."""
            array = _numpy(point)
            if array.ndim == 0 or array.shape[-1:] != self.shape:
                return gs.array(np.zeros(array.shape[:-1], dtype=bool))
            found = [self._one_belongs(row) for row in array.reshape(-1, self.dim)]
            return gs.array(np.array(found).reshape(array.shape[:-1]))

        def _one_belongs(self, row: Any) -> bool:
            try:
                self.template.with_coordinates(row)
            except InfogeoError:
                return False
            return True

        def is_tangent(self, vector: Any, base_point: Any = None, atol: float = 0.0) -> Any:
            """Whether vectors are rates of coordinates: all of n finite numbers are."""
            array = _numpy(vector)
            fits = array.ndim > 0 and array.shape[-1:] == self.shape
            return gs.array(np.isfinite(array).all(axis=-1) if fits else np.zeros(array.shape[:-1], dtype=bool))

        def to_tangent(self, vector: Any, base_point: Any = None) -> Any:
            """The vector itself, since all are tangent."""
            return vector

        def regularize(self, point: Any) -> Any:
            """The point itself."""
            return point

        def random_point(self, n_samples: int = 1, bound: float = 1.0) -> Any:
            """Points at normally distributed velocities, of a root mean square length of bound, from the template."""
            noise = np.asarray(gs.to_numpy(gs.random.normal(size=(n_samples, self.dim))))
            root = np.linalg.cholesky(fisher_information(self.template))
            velocity = np.linalg.solve(root.T, noise.T).T * bound / self.dim**0.5
            points = exponential_map(self.template, velocity).coordinates()
            return gs.array(points if n_samples > 1 else points[0])

    class FisherRaoMetric(metric):  # type: ignore[misc]
        """The Fisher-Rao geometry of a family, by the operations of infogeo.

        Parameters
        ----------
        space : FisherRaoManifold
        """

        def metric_matrix(self, base_point: Any = None) -> Any:
            """Fisher information (..., n, n)."""
            return gs.array(fisher_information(self._space.distributions(base_point)))

        def inner_product(self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any = None) -> Any:
            """Inner product (...,) of tangent vectors (..., n)."""
            a, b = _numpy(tangent_vec_a), _numpy(tangent_vec_b)
            return gs.array(inner_product(self._space.distributions(base_point), a, b))

        def exp(self, tangent_vec: Any, base_point: Any) -> Any:
            """End points of geodesics from base points with tangent vectors."""
            p = self._space.distributions(base_point)
            return gs.array(exponential_map(p, _numpy(tangent_vec)).coordinates())

        def log(self, point: Any, base_point: Any) -> Any:
            """Tangent vectors at base points whose geodesics reach the points."""
            p, q = self._space.distributions(base_point), self._space.distributions(point)
            return gs.array(np.asarray(logarithm_map(p, q)))

        def dist(self, point_a: Any, point_b: Any) -> Any:
            """Fisher-Rao distance (...,)."""
            p, q = self._space.distributions(point_a), self._space.distributions(point_b)
            return gs.array(np.asarray(fisher_rao_distance(p, q)))

        def squared_dist(self, point_a: Any, point_b: Any) -> Any:
            """Squared Fisher-Rao distance (...,)."""
            return self.dist(point_a, point_b) ** 2

        def dist_pairwise(self, points: Any, n_jobs: int = 1, **joblib_kwargs: Any) -> Any:
            """All distances (n, n) of n points, by :func:`infogeo.pairwise`; the other arguments are not used."""
            return gs.array(infogeo.pairwise(fisher_rao_distance, self._space.distributions(points)))

        def _geodesic_bvp(self, initial_point: Any, end_point: Any) -> Callable[[Any], Any]:
            p, q = self._space.distributions(initial_point), self._space.distributions(end_point)

            def path(t: Any) -> Any:
                return gs.array(geodesic(p, q, np.atleast_1d(_numpy(t))).coordinates())

            return path

        def orthonormal(self, tangent_vec: Any, base_point: Any) -> Any:
            """Tangent vectors at one point in an orthonormal basis, for tools that take Euclidean lengths."""
            root = np.linalg.cholesky(fisher_information(self._space.distributions(base_point)))
            return gs.array(_numpy(tangent_vec) @ root)

    for made in (FisherRaoManifold, FisherRaoMetric):
        made.__qualname__ = made.__name__  # found again by name, so that they can be pickled
    return FisherRaoManifold, FisherRaoMetric


def __getattr__(name: str) -> Any:
    if name in ("FisherRaoManifold", "FisherRaoMetric"):
        manifold, metric = _classes()
        return manifold if name == "FisherRaoManifold" else metric
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
