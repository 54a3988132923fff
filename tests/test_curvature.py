"""Curvature: against a curvature tensor from finite differences of the metric, and against what is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exponential_cases import derivative, members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma

from infogeo import (
    Beta,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Gamma,
    Gaussian,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    LowRankGaussian,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    VonMisesFisher,
    Weibull,
    fisher_information,
    scalar_curvature,
    sectional_curvature,
)
from infogeo.errors import DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng


def curvature_tensor(
    metric: Callable[[np.ndarray], np.ndarray], x: np.ndarray, h: float = 1e-2
) -> tuple[np.ndarray, np.ndarray]:
    """R_ijkl = g(R(d_i, d_j) d_k, d_l) and the metric at a point, by differences of the metric (..., n, n) alone."""
    first, second = derivative(metric, x, h), derivative(lambda y: derivative(metric, y, h), x, h)
    gamma = 0.5 * (np.einsum("jki->ijk", first) + np.einsum("ikj->ijk", first) - first)  # (d_i d_j, d_k)
    inverse = np.linalg.inv(metric(x))
    linear = 0.5 * (
        np.einsum("jlki->ijkl", second) + np.einsum("iklj->ijkl", second)
        - np.einsum("jkli->ijkl", second) - np.einsum("ilkj->ijkl", second)
    )  # fmt: skip
    square = np.einsum("ikm,mn,jln->ijkl", gamma, inverse, gamma)
    return linear + square - np.swapaxes(square, 0, 1), metric(x)


def sectional(tensor: np.ndarray, metric: np.ndarray, v: np.ndarray, w: np.ndarray) -> float:
    area = (v @ metric @ v) * (w @ metric @ w) - (v @ metric @ w) ** 2
    return float(np.einsum("ijkl,i,j,k,l", tensor, v, w, w, v) / area)


def member_tensor(p: Any) -> tuple[np.ndarray, np.ndarray]:
    return curvature_tensor(lambda x: fisher_information(p.with_coordinates(x)), p.coordinates())


def test_the_tensor_of_the_tests_has_the_sign_and_size_of_a_sphere():
    def stereographic(x: np.ndarray) -> np.ndarray:
        return 4 / 3 / (1 + (x**2).sum(axis=-1))[..., None, None] ** 2 * np.eye(2)  # radius 1 / sqrt(3)

    found = curvature_tensor(stereographic, np.array([0.3, -0.2]))
    assert sectional(*found, np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(3, rel=1e-8)


SMOOTH = {
    "DiagonalGaussian": members("DiagonalGaussian", 1)[0],
    "IsotropicGaussian": members("IsotropicGaussian", 1)[0],
    "Gaussian": members("Gaussian", 1)[0],
    "CenteredGaussian": members("CenteredGaussian", 1)[0],
    "LogNormal": members("LogNormal", 1)[0],
    "Categorical": Categorical.from_probs([0.2, 0.15, 0.3, 0.35]),
    "Multinomial": Multinomial.from_probs([0.2, 0.15, 0.3, 0.35], 3),
    "InverseGaussian": InverseGaussian(1.5, 0.8),
    "Weibull": Weibull(1.3, 0.7),
    "Gamma": Gamma(1.3, 0.7),
    "Beta": Beta(0.8, 2.0),
    "Dirichlet": Dirichlet([0.5, 1.0, 2.0]),
    "VonMisesFisher": VonMisesFisher([0.6, 0.8, 0.0], 2.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_against_differences_of_the_metric(name):
    p = SMOOTH[name]
    tensor, metric = member_tensor(p)
    inverse = np.linalg.inv(metric)
    expected = np.einsum("ijkl,il,jk", tensor, inverse, inverse)
    assert float(scalar_curvature(p)) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    rng = RNG(1)
    scale = 1 / np.sqrt(np.diag(metric))
    for _ in range(6):
        v, w = scale * rng.standard_normal((2, len(metric)))
        assert float(sectional_curvature(p, v, w)) == pytest.approx(sectional(tensor, metric, v, w), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", SMOOTH)
def test_scalar_curvature_is_the_sum_over_an_orthonormal_basis(name):
    p = SMOOTH[name]
    frame = np.linalg.inv(np.linalg.cholesky(fisher_information(p)))  # rows are orthonormal velocities
    n = len(frame)
    total = sum(float(sectional_curvature(p, frame[i], frame[j])) for i in range(n) for j in range(n) if i != j)
    assert total == pytest.approx(float(scalar_curvature(p)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_the_plane_matters(name, seed):
    p, rng = SMOOTH[name], RNG(seed)
    frame = np.linalg.inv(np.linalg.cholesky(fisher_information(p)))
    v, w = rng.standard_normal((2, len(frame))) @ frame
    angle = rng.uniform(0, 2 * np.pi)
    a, b = np.cos(angle) * v + np.sin(angle) * w, 3 * v - 1e-3 * w
    expected = float(sectional_curvature(p, v, w))
    assert float(sectional_curvature(p, a, v)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert float(sectional_curvature(p, 1e8 * w, 1e-8 * b)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "curvature"),
    [
        (DiagonalGaussian([3.0], [4.0]), -1 / 2),  # Atkinson and Mitchell 1981
        (LogNormal(3.0, 4.0), -1 / 2),
        (InverseGaussian(3.0, 4.0), -1 / 2),
        (Weibull(3.0, 4.0), -6 / np.pi**2),
        (Categorical.from_probs([0.2, 0.3, 0.5]), 1 / 4),
        (Multinomial.from_probs([0.2, 0.3, 0.5], 4), 1 / 16),
        (Gaussian([3.0], [[4.0]]), -1 / 2),
        (IsotropicGaussian([3.0], 4.0), -1 / 2),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else f"{x:.3f}",
)
def test_surfaces_of_constant_curvature(p, curvature):
    assert float(sectional_curvature(p, [1.0, 0.3], [-0.2, 1.0])) == pytest.approx(curvature, rel=1e-13)
    assert float(scalar_curvature(p)) == pytest.approx(2 * curvature, rel=1e-13)


@pytest.mark.parametrize("shape", [1e-3, 0.3, 1.0, 4.0, 100.0])
def test_gamma_against_the_formula_of_lauritzen(shape):
    """K = (psi1 + k psi2) / (4 (k psi1 - 1)^2), whatever the rate; Arwini and Dodson 2008, section 3.4."""
    psi1, psi2 = polygamma(1, shape), polygamma(2, shape)
    expected = (psi1 + shape * psi2) / (4 * (shape * psi1 - 1) ** 2)
    for rate in (0.1, 7.0):
        found = sectional_curvature(Gamma(shape, rate), [1.0, 0.0], [0.5, 1.0])
        assert float(found) == pytest.approx(expected, rel=1e-8)
    assert -0.5 < expected < -0.25  # its limits for small and for large shapes


def test_beta_and_dirichlet_are_negatively_curved():
    """Le Brigant, Preston, Puechmorel, Fisher-Rao geometry of Dirichlet distributions, 2021."""
    rng = RNG(0)
    a = np.exp(1.5 * rng.standard_normal((200, 4)))
    assert (sectional_curvature(Dirichlet(a), *rng.standard_normal((2, 200, 4))) < 0).all()
    assert (scalar_curvature(Beta(a[:, 0], a[:, 1])) < 0).all()
    both = scalar_curvature(Beta(a[:, 0], a[:, 1])), scalar_curvature(Dirichlet(a[:, :2]))
    np.testing.assert_allclose(*both, rtol=1e-12)


def test_diagonal_normals_are_flat_across_coordinates():
    p = DiagonalGaussian([0.0, 1.0], [1.0, 2.0])
    assert float(sectional_curvature(p, [1, 0, 0, 0], [0, 1, 0, 0])) == 0
    assert float(sectional_curvature(p, [1, 0, 0, 0], [0, 0, 1, 0])) == pytest.approx(-0.5, rel=1e-14)
    between = float(sectional_curvature(p, [1, 1, 0, 0], [0, 0, 1, 1]))
    assert -0.5 < between < 0


@pytest.mark.parametrize("d", [2, 3, 4])
def test_normals_from_their_symmetries(d):
    """Centered normals are totally geodesic among all; scalar curvatures are the same at every member."""
    rng = RNG(d)
    n = d * (d + 1) // 2
    cov = np.array([np.cov(rng.standard_normal((d, 4 * d))) for _ in range(5)])
    centered = CenteredGaussian(cov)
    v, w = rng.standard_normal((2, 5, n))
    full = centered.to_full()
    wide = [np.concatenate([np.zeros((5, d)), x], axis=-1) for x in (v, w)]
    np.testing.assert_allclose(sectional_curvature(full, *wide), sectional_curvature(centered, v, w), rtol=1e-9)
    assert (sectional_curvature(centered, v, w) <= 0).all()
    np.testing.assert_allclose(scalar_curvature(centered), -d * (d - 1) * (d + 2) / 4)
    np.testing.assert_allclose(scalar_curvature(full), -d * (d + 1) ** 2 / 4)


def test_full_normals_have_planes_of_positive_curvature():
    """Skovgaard 1984: the plane of two means has curvature 1/4 at every normal, if they are uncorrelated."""
    p = Gaussian([0.0, 0.0], [[2.0, 0.0], [0.0, 3.0]])
    assert float(sectional_curvature(p, [1, 0, 0, 0, 0], [0, 1, 0, 0, 0])) == pytest.approx(0.25, rel=1e-14)
    isotropic = IsotropicGaussian([0.0, 0.0], 2.0)
    assert float(sectional_curvature(isotropic, [1, 0, 0], [0, 1, 0])) == -0.25  # a smaller manifold, bent otherwise


def test_curvature_of_all_normals_does_not_change_under_affine_maps():
    rng = RNG(3)
    a, shift = rng.standard_normal((3, 3)), rng.standard_normal(3)
    p = Gaussian(rng.standard_normal(3), np.cov(rng.standard_normal((3, 9))))
    v, w = rng.standard_normal((2, p.coordinate_size))
    q = Gaussian(a @ p.mean + shift, a @ p.cov @ a.T)

    def moved(x):
        parts = p.split(x)
        return q.join(mean=a @ parts["mean"], cov=a @ parts["cov"] @ a.T)

    expected = float(sectional_curvature(p, v, w))
    assert float(sectional_curvature(q, moved(v), moved(w))) == pytest.approx(expected, rel=1e-9)


def test_directions_are_flat_at_the_uniform_distribution_and_bend_with_the_concentration():
    p = VonMisesFisher([1.0, 0.0, 0.0], 0.0)
    assert float(scalar_curvature(p)) == pytest.approx(0, abs=1e-12)
    # concentrated about a direction it is an isotropic normal in the plane of the tangents, where K = -1 / (2 * 2)
    p = VonMisesFisher([1.0, 0.0, 0.0], 1e4)
    np.testing.assert_allclose(sectional_curvature(p, [1.0, 0, 0], [0, 1.0, 0]), -1 / 4, atol=1e-3)


@pytest.mark.parametrize("name", SMOOTH)
def test_batches_equal_loops(name):
    p = SMOOTH[name]
    n = p.coordinate_size
    batch = p.with_coordinates(np.stack([p.coordinates(), 1.02 * p.coordinates()]))
    v, w = RNG(0).standard_normal((2, 3, 1, n))
    both = sectional_curvature(batch, v, w)
    assert both.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            one = sectional_curvature(batch[j], v[i, 0], w[i, 0])
            np.testing.assert_allclose(both[i, j], one, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scalar_curvature(batch), [scalar_curvature(m) for m in batch], rtol=1e-12)


@pytest.mark.parametrize("name", ["Bernoulli", "Binomial", "Geometric", "Poisson", "Exponential"])
def test_lines_have_no_planes(name):
    p = members(name, 2)
    np.testing.assert_array_equal(scalar_curvature(p), [0.0, 0.0])
    with pytest.raises(DomainError, match=f"dimension 1 \\({name} here\\) has no planes"):
        sectional_curvature(p, [1.0], [1.0])


def test_two_outcomes_are_a_line():
    with pytest.raises(DomainError, match="no planes"):
        sectional_curvature(Categorical.from_probs([0.5, 0.5]), [1.0], [1.0])
    assert float(scalar_curvature(Categorical.from_probs([0.5, 0.5]))) == 0


def test_what_spans_no_plane_is_refused():
    p = DiagonalGaussian([0.0], [1.0])
    with pytest.raises(DomainError, match="parallel"):
        sectional_curvature(p, [1.0, 2.0], [-2.0, -4.0])
    with pytest.raises(DomainError, match=r"v: .*velocity 0"):
        sectional_curvature(p, [0.0, 0.0], [1.0, 0.0])
    with pytest.raises(DomainError, match=r"w: .*velocity 0"):
        sectional_curvature(p, [1.0, 0.0], [0.0, 0.0])
    with pytest.raises(ShapeError, match="v: found shape"):
        sectional_curvature(p, [1.0], [0.0, 1.0])
    with pytest.raises(DomainError, match="finite"):
        sectional_curvature(p, [np.nan, 0.0], [0.0, 1.0])


def test_families_without_curvature_say_why():
    shared = SharedCovarianceGaussian([0.0, 0.0], np.eye(2))
    with pytest.raises(UnsupportedFamilyError, match=r"flat.*to_full"):
        scalar_curvature(shared)
    with pytest.raises(UnsupportedFamilyError, match=r"flat.*to_full"):
        sectional_curvature(shared, [1.0, 0.0], [0.0, 1.0])
    with pytest.raises(UnsupportedFamilyError, match="to_full"):
        scalar_curvature(LowRankGaussian([0.0, 0.0], [[1.0], [1.0]], [1.0, 1.0]))
    with pytest.raises(UnsupportedFamilyError, match="point mass"):
        scalar_curvature(PointMass([0.0]))
    with pytest.raises(UnsupportedFamilyError, match="takes distributions"):
        scalar_curvature(3.0)  # type: ignore[arg-type]
    assert float(scalar_curvature(Poisson(2.0))) == 0
