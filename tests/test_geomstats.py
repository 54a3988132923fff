"""infogeo's geometry under the learning tools of geomstats, and geomstats as an oracle where it is right."""

from __future__ import annotations

import pickle
import sys
import warnings

import numpy as np
import oracles
import pytest

from infogeo import (
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Exponential,
    Gaussian,
    IsotropicGaussian,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    fisher_information,
    fisher_rao_distance,
    frechet_mean,
    pairwise,
)
from infogeo.errors import ArgumentError, DomainError, MissingDependencyError, ShapeError, UnsupportedFamilyError
from infogeo.geometry import exponential_map, geodesic, inner_product, logarithm_map
from infogeo_adapters import from_geomstats, to_geomstats

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # geomstats has an importer of the old kind
    gs = pytest.importorskip("geomstats.backend", reason="needs the extra: pip install 'infogeo[geomstats]'")

RNG = np.random.default_rng


def batch(family, n, rng, *, spread=0.5):
    if family is CenteredGaussian:
        return CenteredGaussian([oracles.random_covariance(2, rng) for _ in range(n)])
    if family is IsotropicGaussian:
        return IsotropicGaussian(spread * rng.standard_normal((n, 2)), np.exp(spread * rng.standard_normal(n)))
    return oracles.random_batch(family, n, rng, d=2, spread=spread)


FAMILIES = [DiagonalGaussian, Categorical, Gaussian, CenteredGaussian, IsotropicGaussian]


def two_groups(family, n, rng):
    """n members in each of two groups well apart, and which is which."""
    if family is Categorical:
        logits = np.concatenate([[3.0, 0, 0, 0] + 0.3 * rng.standard_normal((n, 4)),
                                 [0.0, 0, 3, 0] + 0.3 * rng.standard_normal((n, 4))])  # fmt: skip
        return Categorical.from_logits(logits), np.repeat([0, 1], n)
    mean = np.repeat([[0.0, 0.0], [3.0, 1.0]], n, axis=0) + 0.2 * rng.standard_normal((2 * n, 2))
    var = np.exp(0.2 * rng.standard_normal((2 * n, 2))) * np.repeat([[1.0, 1.0], [2.0, 0.5]], n, axis=0)
    diagonal = DiagonalGaussian(mean, var)
    return (diagonal.to_full() if family is Gaussian else diagonal), np.repeat([0, 1], n)


# ------------------------------------------------------------------------------------------------- space and metric


@pytest.mark.parametrize("family", FAMILIES)
def test_the_metric_is_the_operations_of_infogeo(family):
    rng = RNG(0)
    x, y = batch(family, 4, rng), batch(family, 4, rng)
    space, a = to_geomstats(x)
    _, b = to_geomstats(y)
    metric, n = space.metric, x.coordinate_size
    assert (space.dim, space.shape, space.point_ndim, metric.signature) == (n, (n,), 1, (n, 0))
    v, w = 0.1 * rng.standard_normal((2, 4, n)) / np.sqrt(np.diagonal(fisher_information(x), axis1=1, axis2=2))
    np.testing.assert_allclose(metric.metric_matrix(a), fisher_information(x), rtol=1e-12)
    np.testing.assert_allclose(metric.inner_product(v, w, a), inner_product(x, v, w), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(metric.squared_norm(v, a), inner_product(x, v, v), rtol=1e-10)
    np.testing.assert_allclose(metric.norm(v[0], a[0]), np.sqrt(inner_product(x[0], v[0], v[0])), rtol=1e-10)
    np.testing.assert_allclose(metric.exp(v, a), exponential_map(x, v).coordinates(), rtol=1e-12)
    np.testing.assert_allclose(metric.log(b, a), logarithm_map(x, y), rtol=1e-12)
    np.testing.assert_allclose(metric.log(b, a[0]), logarithm_map(x[0], y), rtol=1e-12)
    np.testing.assert_allclose(metric.dist(a, b), fisher_rao_distance(x, y), rtol=1e-12)
    np.testing.assert_allclose(metric.squared_dist(a[0], b), fisher_rao_distance(x[0], y) ** 2, rtol=1e-12)
    np.testing.assert_allclose(metric.dist_pairwise(a), pairwise(fisher_rao_distance, x), rtol=1e-9, atol=1e-12)
    # lengths of logarithms are distances, also in the basis for tools that take Euclidean lengths
    np.testing.assert_allclose(metric.norm(metric.log(b, a), a), metric.dist(a, b), rtol=1e-9)
    flat = metric.orthonormal(metric.log(b, a[0]), a[0])
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), metric.dist(a[0], b), rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_geodesics(family):
    x, y = batch(family, 3, RNG(1)), batch(family, 3, RNG(2))
    space, a = to_geomstats(x)
    _, b = to_geomstats(y)
    times = np.array([0.0, 0.25, 1.0])
    wanted = geodesic(x, y, times).coordinates()
    found = space.metric.geodesic(a, b)(times)
    assert found.shape == (3, 3, space.dim)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_allclose(space.metric.geodesic(a[0], b[0])(times), wanted[0], rtol=1e-9, atol=1e-12)
    velocity = space.metric.log(b[0], a[0])
    path = space.metric.geodesic(a[0], initial_tangent_vec=velocity)
    np.testing.assert_allclose(path(times), wanted[0], rtol=1e-7, atol=1e-9)


def test_what_belongs_to_the_space():
    space, _ = to_geomstats(DiagonalGaussian([0.0], [1.0]))
    assert space.belongs(np.array([3.0, 2.0]))
    assert space.belongs(np.array([[3.0, 2.0], [3.0, -2.0], [np.nan, 1.0]])).tolist() == [True, False, False]
    assert not space.belongs(np.array([1.0, 1.0, 1.0]))
    assert space.is_tangent(np.array([[3.0, -2.0], [np.inf, 1.0]])).tolist() == [True, False]
    assert not space.is_tangent(np.array([1.0, 1.0, 1.0]))
    assert (space.to_tangent(np.array([1.0, -1.0])) == [1.0, -1.0]).all()
    assert (space.regularize(np.array([1.0, 1.0])) == [1.0, 1.0]).all()
    gs.random.seed(0)
    points = space.random_point(2000, bound=0.1)
    assert space.belongs(points).all()
    lengths = space.metric.dist(np.array([0.0, 1.0]), points)
    assert np.sqrt((lengths**2).mean()) == pytest.approx(0.1, rel=0.05)
    assert space.random_point().shape == (2,)


def test_spaces_can_be_pickled_and_compared_by_class():
    from infogeo_adapters import geomstats as adapter

    space, points = to_geomstats(DiagonalGaussian([[0.0], [1.0]], [[1.0], [4.0]]))
    assert isinstance(space, adapter.FisherRaoManifold)
    assert isinstance(space.metric, adapter.FisherRaoMetric)
    again = pickle.loads(pickle.dumps(space))
    assert again.metric.dist(*points) == space.metric.dist(*points)
    with pytest.raises(AttributeError, match="nothing"):
        _ = adapter.nothing


# --------------------------------------------------------------------------------------------------- learning tools


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical, Gaussian])
def test_frechet_mean_of_geomstats_is_ours(family):
    from geomstats.learning.frechet_mean import FrechetMean

    x = batch(family, 6, RNG(3))
    weights = RNG(4).random(6)
    space, points = to_geomstats(x)
    tool = FrechetMean(space).set(epsilon=1e-22, max_iter=64)
    for given in (None, weights):
        found = from_geomstats(tool.fit(points, weights=given).estimate_, space)
        assert fisher_rao_distance(found, frechet_mean(x, weights=given).mean) < 1e-8


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical, Gaussian])
def test_k_means_finds_two_groups(family):
    from geomstats.learning.kmeans import RiemannianKMeans

    x, groups = two_groups(family, 8, RNG(5))
    space, points = to_geomstats(x)
    tool = RiemannianKMeans(space, n_clusters=2, init=points[[0, -1]].copy()).fit(points)
    assert (tool.labels_ == groups).all()
    assert (tool.predict(points) == groups).all()
    for k in range(2):
        center = from_geomstats(tool.cluster_centers_[k], space)
        assert fisher_rao_distance(center, frechet_mean(x[groups == k]).mean) < 0.01 * space.dim**0.5


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical, Gaussian])
def test_nearest_neighbors_take_the_distance(family):
    from geomstats.learning.knn import KNearestNeighborsClassifier

    x, groups = two_groups(family, 5, RNG(6))
    space, points = to_geomstats(x)
    tool = KNearestNeighborsClassifier(space, n_neighbors=1).fit(points[::2], groups[::2])
    assert (tool.predict(points[1::2]) == groups[1::2]).all()
    found, _ = tool.kneighbors(points[1::2], n_neighbors=1)
    wanted = fisher_rao_distance(x[1::2][:, None], x[::2][None]).min(axis=1)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-9)


@pytest.mark.parametrize("family", [DiagonalGaussian, Categorical, Gaussian])
def test_tangent_pca_finds_the_geodesic_that_points_lie_on(family):
    from geomstats.learning.pca import TangentPCA

    x = batch(family, 2, RNG(7))
    line = geodesic(x[0], x[1], np.linspace(0, 1, 7))
    space, points = to_geomstats(line)
    tool = TangentPCA(space, n_components=2).fit(points, base_point=points[3])
    assert tool.explained_variance_ratio_[0] > 1 - 1e-9
    scores = tool.transform(points)[:, 0]
    np.testing.assert_allclose(scores / scores[-1], np.linspace(-1, 1, 7), atol=1e-6)
    np.testing.assert_allclose(tool.inverse_transform(tool.transform(points)), points, rtol=1e-6, atol=1e-8)


# -------------------------------------------------------------------------------------------------- both directions


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_there_and_back(family, shape):
    x = batch(family, 6, RNG(8))
    x = x[np.arange(int(np.prod(shape))).reshape(shape)] if shape else x[0]
    space, points = to_geomstats(x)
    assert points.shape == (*shape, space.dim)
    back = from_geomstats(points, space)
    assert type(back) is family
    assert back.batch_shape == shape
    np.testing.assert_allclose(back.coordinates(), x.coordinates(), rtol=1e-14)


def test_one_covariance_becomes_full_normals():
    x = SharedCovarianceGaussian([[0.0, 0.0], [1.0, 1.0]], np.eye(2))
    space, points = to_geomstats(x)
    assert type(from_geomstats(points, space)) is Gaussian
    np.testing.assert_allclose(space.metric.dist(points[0], points[1]), fisher_rao_distance(x[0], x[1]), rtol=1e-12)


def test_points_of_geomstats_own_spaces():
    from geomstats.information_geometry.categorical import CategoricalDistributions
    from geomstats.information_geometry.exponential import ExponentialDistributions
    from geomstats.information_geometry.normal import NormalDistributions
    from geomstats.information_geometry.poisson import PoissonDistributions

    gs.random.seed(1)
    samples = RNG(9).standard_normal((5, 2))

    def check(space, family):
        points = space.random_point(3)
        found = from_geomstats(points, space)
        assert type(found) is family
        assert found.batch_shape == (3,)
        return points, found

    for kind, family in (("diagonal", DiagonalGaussian), ("centered", CenteredGaussian), ("general", Gaussian)):
        space = NormalDistributions(2, distribution_type=kind)
        points, found = check(space, family)
        density = space.point_to_pdf(points)(samples)
        np.testing.assert_allclose(np.exp(found.log_prob(samples[:, None])).T, density, rtol=1e-9)
    space = NormalDistributions(1)
    points, found = check(space, DiagonalGaussian)
    density = space.point_to_pdf(points)(samples[:, 0])
    np.testing.assert_allclose(np.exp(found.log_prob(samples[:, :1][:, None])).T, density)
    points, found = check(CategoricalDistributions(3), Categorical)
    np.testing.assert_allclose(np.exp(found.log_probs), points, rtol=1e-12)
    points, found = check(PoissonDistributions(), Poisson)
    np.testing.assert_allclose(found.rate, points[:, 0])
    points, found = check(ExponentialDistributions(), Exponential)
    np.testing.assert_allclose(found.rate, points[:, 0])


# --------------------------------------------------------------------------------------------- geomstats as an oracle


def test_distances_where_geomstats_is_right():
    from geomstats.information_geometry.categorical import CategoricalDistributions
    from geomstats.information_geometry.normal import NormalDistributions

    gs.random.seed(2)
    for space in (NormalDistributions(1), NormalDistributions(3, distribution_type="centered"),
                  NormalDistributions(3, distribution_type="diagonal"), CategoricalDistributions(4)):  # fmt: skip
        a, b = space.random_point(20), space.random_point(20)
        ours = fisher_rao_distance(from_geomstats(a, space), from_geomstats(b, space))
        np.testing.assert_allclose(ours, space.metric.dist(a, b), rtol=1e-6)


def test_general_normals_of_geomstats_have_another_metric():
    """geomstats measures them in the product of the Euclidean metric and twice that of covariances: 3.55 for 3.133."""
    from geomstats.information_geometry.normal import NormalDistributions

    p, q = Gaussian([0.0, 0.0], np.diag([1.0, 0.1])), Gaussian([1.0, 1.0], np.diag([0.1, 1.0]))
    space = NormalDistributions(2, distribution_type="general")
    points = [np.concatenate([x.mean, x.cov.ravel()]) for x in (p, q)]
    theirs = float(space.metric.dist(*points))
    ours, (a, b) = to_geomstats(Gaussian([p.mean, q.mean], [p.cov, q.cov]))
    assert theirs == pytest.approx(3.55018, abs=1e-4)
    assert float(ours.metric.dist(a, b)) == pytest.approx(3.13293167107, rel=1e-9)


# ------------------------------------------------------------------------------------------------------------- guards


def test_guards(monkeypatch):
    with pytest.raises(UnsupportedFamilyError, match="PointMass"):
        to_geomstats(PointMass([1.0]))
    space, points = to_geomstats(DiagonalGaussian([0.0], [1.0]))
    with pytest.raises(ShapeError, match=r"wanted \(\.\.\., 2\)"):
        from_geomstats(np.ones(3), space)
    with pytest.raises(DomainError, match="variances must be positive"):
        from_geomstats(-points - 1, space)
    with pytest.raises(ArgumentError, match="found a space int"):
        from_geomstats(points, 3)
    from infogeo_adapters import geomstats as adapter

    adapter._classes.cache_clear()
    monkeypatch.setitem(sys.modules, "geomstats.geometry.manifold", None)
    with pytest.raises(MissingDependencyError, match=r"infogeo\[geomstats\]"):
        to_geomstats(DiagonalGaussian([0.0], [1.0]))
