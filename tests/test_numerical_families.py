"""Gamma, beta, Dirichlet and von Mises-Fisher families, and the solver that finds their geodesics."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from infogeo import (
    Beta,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Gamma,
    InverseGaussian,
    VonMisesFisher,
    _bessel,
    _gamma_functions,
    bhattacharyya_distance,
    exponential_map,
    fisher_information,
    fisher_rao_distance,
    geodesic,
    geodesic_solution,
    hellinger_distance,
    inner_product,
    jeffreys_divergence,
    kl_divergence,
    logarithm_map,
)
from infogeo.dispatch import _charts
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError, UnsupportedFamilyError
from infogeo.manifolds import numerical, simplex
from infogeo.manifolds.numerical import Metric

RNG = np.random.default_rng
E = np.eye(3)


def random_directions(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def turned(d: int, angle: float) -> np.ndarray:
    return np.cos(angle) * np.eye(d)[0] + np.sin(angle) * np.eye(d)[1]


def random_batch(family: type, n: int, seed: int, spread: float = 1.0) -> Any:
    rng = RNG(seed)
    if family is Gamma:
        return Gamma(np.exp(spread * rng.standard_normal(n)), np.exp(spread * rng.standard_normal(n)))
    if family is Beta:
        return Beta(np.exp(spread * rng.standard_normal(n)), np.exp(spread * rng.standard_normal(n)))
    if family is Dirichlet:
        return Dirichlet(np.exp(spread * rng.standard_normal((n, 4))))
    return VonMisesFisher(random_directions(n, 3, rng), 3 * np.exp(spread * rng.standard_normal(n)))


FAMILIES = pytest.mark.parametrize("family", [Gamma, Beta, Dirichlet, VonMisesFisher], ids=lambda f: f.__name__)


# ------------------------------------------------------------------------------------------ special functions


@pytest.mark.parametrize("x", [1e-12, 1e-3, 0.5, 1.0, 3.0, 8.0, 11.99, 12.0, 30.0, 1e3, 1e6, 1e9])
def test_parts_of_the_gamma_function(x: float) -> None:
    with mp.workdps(60):
        y = mp.mpf(x)
        one, two = mp.psi(1, y), mp.psi(2, y)
        known = {
            _gamma_functions.beta: mp.loggamma(y) - y * mp.log(y) + y,
            _gamma_functions.beta_slope: mp.psi(0, y) - mp.log(y),
            _gamma_functions.excess: y * y * one - y,
            _gamma_functions.excess_slope: 2 * y * y * one + y**3 * two - y,
        }
    for function, value in known.items():
        np.testing.assert_allclose(float(function(np.array(x))), float(value), rtol=5e-13, err_msg=function.__name__)


@pytest.mark.parametrize(("a", "b"), [(1, 1 + 1e-7), (1e6, 1.1e6), (1e6, 5e6), (1e-3, 2e-3), (1e-3, 1e6), (13, 3)])
def test_bregman_and_jensen_gaps_keep_their_digits(a: float, b: float) -> None:
    with mp.workdps(80):
        x, y = mp.mpf(a), mp.mpf(b)

        def beta(z: Any) -> Any:
            return mp.loggamma(z) - z * mp.log(z) + z

        bregman = beta(y) - beta(x) - (mp.psi(0, x) - mp.log(x)) * (y - x)
        jensen = (beta(x) + beta(y)) / 2 - beta((x + y) / 2)
        ratio = float(mp.log(y / x))
    one, two = np.array(float(a)), np.array(float(b))
    np.testing.assert_allclose(_gamma_functions.bregman(two, one, np.array(ratio)), float(bregman), rtol=1e-13)
    np.testing.assert_allclose(_gamma_functions.jensen(two, one), float(jensen), rtol=1e-13)


@pytest.mark.parametrize("d", [2, 3, 7, 61, 62, 384, 4096])
@pytest.mark.parametrize("kappa", [1e-8, 0.1, 5.0, 29.0, 31.0, 700.0])
def test_resultant_length_and_its_derivatives(d: int, kappa: float) -> None:
    with mp.workdps(60):
        nu, k = mp.mpf(d) / 2 - 1, mp.mpf(kappa)
        first = mp.besseli(nu + 1, k) / mp.besseli(nu, k)
        above = mp.besseli(nu + 2, k) / mp.besseli(nu + 1, k)
        slope = 1 - first**2 - (d - 1) * first / k
        bend = -2 * first * slope - (d - 1) * (slope / k - first / k**2)
        known = [float(v) for v in (first / k, 1 - first, slope, bend / k, (first - above) / k)]
    at = _bessel.resultant(d, np.array([kappa]))
    np.testing.assert_allclose(np.concatenate(at), known, rtol=1e-12)
    np.testing.assert_allclose(at.scaled[0], known[0], rtol=1e-14)


@pytest.mark.parametrize("kappa", [1e3, 1e6, 1e9])
def test_resultant_length_of_the_sphere_for_large_concentrations(kappa: float) -> None:
    at = _bessel.resultant(3, np.array(kappa))  # coth(k) - 1/k
    np.testing.assert_allclose(at.scaled * kappa, 1 - 1 / kappa, rtol=1e-15)
    np.testing.assert_allclose([at.deficit, at.slope, at.bend], [1 / kappa, kappa**-2.0, -2 * kappa**-4.0], rtol=1e-13)


# ---------------------------------------------------------------------------------------------- known distances


@pytest.mark.parametrize(
    ("a", "b", "known", "error"),
    [
        ((1, 2), (5, 3), 1.5996568, 6e-8),
        ((0.5, 0.5), (50, 80), 3.7261111, 6e-8),
        ((0.1, 5), (5, 0.1), 4.0591859, 1.2e-7),
        ((100, 1), (1, 100), 7.10017, 6e-6),
    ],
)
def test_beta_distances_found_by_a_discretized_path_energy(a: Any, b: Any, known: float, error: float) -> None:
    """Values of L-BFGS on the path energy with Richardson extrapolation, to the digits they were noted with."""
    d = float(fisher_rao_distance(Beta(*a), Beta(*b)))
    assert abs(d - known) < error
    assert abs(float(fisher_rao_distance(Dirichlet(np.float64(a)), Dirichlet(np.float64(b)))) - d) < 1e-13 * d


def path_energy_distance(a: np.ndarray, b: np.ndarray, segments: int) -> float:
    """Least sum of Jeffreys divergences over the segments of a path of Dirichlet parameters; error of order 1/N^2."""
    start = np.log(a) + np.arange(1, segments)[:, None] / segments * (np.log(b) - np.log(a))

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        inner = np.exp(flat.reshape(start.shape))
        x = np.concatenate([[a], inner, [b]])
        x = np.concatenate([x, x.sum(axis=1, keepdims=True)], axis=1)
        sign = np.append(np.ones(len(a)), -1.0)
        psi, slope = special.psi(x), special.polygamma(1, x)
        dx, dpsi = np.diff(x, axis=0), np.diff(psi, axis=0)
        gradient = sign * (slope[1:-1] * (dx[:-1] - dx[1:]) + dpsi[:-1] - dpsi[1:])
        return segments * float((sign * dx * dpsi).sum()), (
            segments * ((gradient[:, :-1] + gradient[:, -1:]) * inner).ravel()
        )

    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 60}
    return float(optimize.minimize(energy, start.ravel(), jac=True, method="L-BFGS-B", options=options).fun)


@pytest.mark.parametrize(
    ("a", "b"),
    [((0.5, 2.0, 7.0), (6.0, 0.3, 1.0)), ((1.0, 2.0), (30.0, 4.0)), ((3.0, 1.0, 1.0, 0.4), (1.0, 9.0, 2.0, 2.0))],
)
def test_dirichlet_distances_against_a_discretized_path_energy(a: Any, b: Any) -> None:
    coarse, middle, fine = (path_energy_distance(np.array(a), np.array(b), n) for n in (16, 32, 64))
    one, two = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
    expected = ((16 * two - one) / 15) ** 0.5
    d = float(fisher_rao_distance(Dirichlet(a), Dirichlet(b)))
    assert abs(d / expected - 1) < 2e-7
    assert d < fine**0.5


def test_distances_along_a_radius_are_integrals() -> None:
    """Lines of one mean among gammas, of one direction among von Mises-Fisher: geodesics by symmetry."""
    mean = 3.0
    d = fisher_rao_distance(Gamma(0.2, 0.2 / mean), Gamma(40.0, 40.0 / mean))
    known, _ = integrate.quad(lambda k: np.sqrt(special.polygamma(1, k) - 1 / k), 0.2, 40, epsrel=1e-12, epsabs=0)
    np.testing.assert_allclose(d, known, rtol=1e-11)

    def speed(k: float) -> float:
        return float(np.sqrt(1 / k**2 - 1 / np.sinh(k) ** 2)) if k > 1e-2 else float(np.sqrt(1 / 3 - k**2 / 15))

    lengths = [integrate.quad(speed, 0, k, epsrel=1e-12, epsabs=0, limit=200)[0] for k in (2.0, 20.0)]
    uniform, p, q = VonMisesFisher(E[0], 0.0), VonMisesFisher(E[1], 2.0), VonMisesFisher(E[1], 20.0)
    np.testing.assert_allclose(fisher_rao_distance(uniform, p), lengths[0], rtol=1e-9)
    np.testing.assert_allclose(fisher_rao_distance(p, q), lengths[1] - lengths[0], rtol=1e-9)
    opposite = VonMisesFisher(-E[1], 20.0)  # through the uniform distribution
    np.testing.assert_allclose(fisher_rao_distance(p, opposite), lengths[0] + lengths[1], rtol=1e-9)


def test_far_von_mises_fisher_distributions_are_nearly_in_a_half_plane() -> None:
    """For large concentrations the metric is (d - 1)/2 dk^2/k^2 + k dphi^2, curvature -1/(2 (d - 1))."""
    kappa, angle, d = 1e8, 1e-3, 5
    scale = (2 * (d - 1)) ** 0.5
    half = angle * kappa**0.5 / scale / 2
    expected = scale * 2 * np.arcsinh(half)
    found = fisher_rao_distance(VonMisesFisher(turned(d, 0), kappa), VonMisesFisher(turned(d, angle), kappa))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_more_gammas_are_closer_than_exponentials_alone() -> None:
    r = np.array([0.3, 2.0, 50.0])
    among_gammas = fisher_rao_distance(Gamma(1.0, 1.0), Gamma(1.0, r))
    assert (among_gammas < fisher_rao_distance(Exponential(1.0), Exponential(r))).all()


# ----------------------------------------------------------------------- the solver where the truth is known

NORMAL = Metric.from_matrix(
    lambda x: np.stack([np.exp(-2 * x[..., 1]), np.full(x.shape[:-1], 2.0)], axis=-1)[..., None] * np.eye(2),
    lambda x: np.exp(-2 * x[..., 1])[..., None, None, None] * np.array([[[0.0, -2.0], [0, 0]], [[0, 0], [0, 0]]]),
    nonpositively_curved=True,
)
"""Univariate normals by mean and logarithm of the standard deviation."""


def inverse_gaussian_derivative(x: np.ndarray) -> np.ndarray:
    result = np.zeros((*x.shape, 2, 2))
    mean, shape = x[..., 0], x[..., 1]
    result[..., 0, 0, 0], result[..., 0, 0, 1] = -3 * shape / mean**4, mean**-3.0
    result[..., 1, 1, 1] = -(shape**-3.0)
    return result


INVERSE_GAUSSIAN = Metric.from_matrix(
    lambda x: np.stack([x[..., 1] / x[..., 0] ** 3, 0.5 / x[..., 1] ** 2], axis=-1)[..., None] * np.eye(2),
    inverse_gaussian_derivative,
)


def sphere_metric(n: int) -> Metric:
    """The simplex by log-ratios to the last outcome, diag(p) - p p^T; its derivatives are third cumulants."""

    def shares(x: np.ndarray) -> np.ndarray:
        return special.softmax(np.concatenate([x, np.zeros((*x.shape[:-1], 1))], axis=-1), axis=-1)[..., :-1]

    def matrix(x: np.ndarray) -> np.ndarray:
        p = shares(x)
        return p[..., None] * np.eye(n) - p[..., :, None] * p[..., None, :]

    def derivative(x: np.ndarray) -> np.ndarray:
        p, m = shares(x), matrix(x)
        eye = np.eye(n)
        outer = np.einsum("...ik,...j->...ijk", m, p) + np.einsum("...i,...jk->...ijk", p, m)
        return np.einsum("...ik,ij->...ijk", m, eye) - outer

    return Metric.from_matrix(matrix, derivative)


def test_solver_on_univariate_normals() -> None:
    rng = RNG(0)
    x, y = (np.stack([4 * rng.standard_normal(40), rng.standard_normal(40)], axis=-1) for _ in range(2))
    var = [np.exp(2 * z[:, 1:]) for z in (x, y)]
    expected = fisher_rao_distance(DiagonalGaussian(x[:, :1], var[0]), DiagonalGaussian(y[:, :1], var[1]))
    found = numerical.solve(NORMAL, x, y - x)
    np.testing.assert_allclose(found.distance, expected, rtol=1e-12)
    assert (found.lower <= expected).all()
    assert (expected <= found.upper).all()
    assert (found.upper - found.lower <= 1e-12 * expected).all()
    np.testing.assert_allclose(numerical.distance(NORMAL, x, y), expected, rtol=1e-12)
    velocity = numerical.log(NORMAL, x, y)
    np.testing.assert_allclose(numerical.norm(NORMAL, x, velocity), expected, rtol=1e-8)
    np.testing.assert_allclose(numerical.exp(NORMAL, x, velocity), y, atol=1e-6)
    known = geodesic(DiagonalGaussian(x[:, :1], var[0]), DiagonalGaussian(y[:, :1], var[1]), [0.0, 0.25, 1.0])
    points = numerical.geodesic(NORMAL, x, y, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(points[..., 0], known.mean[..., 0], atol=1e-8)
    np.testing.assert_allclose(np.exp(2 * points[..., 1]), known.var[..., 0], rtol=1e-8)


def test_solver_on_far_normals() -> None:
    """Straight lines of the chart are 1000 times longer than the geodesics here."""
    x, y = np.array([[0.0, -7.0], [0.0, 0.0]]), np.array([[1.0, -7.0], [1e3, 1.0]])
    var = [np.exp(2 * z[:, 1:]) for z in (x, y)]
    expected = fisher_rao_distance(DiagonalGaussian(x[:, :1], var[0]), DiagonalGaussian(y[:, :1], var[1]))
    np.testing.assert_allclose(numerical.solve(NORMAL, x, y - x).distance, expected, rtol=1e-12)


def test_solver_on_inverse_gaussians() -> None:
    x, y = np.array([[1.0, 1.0], [0.5, 2.0], [2.0, 2.0]]), np.array([[1.5, 2.0], [0.6, 0.8], [2.0, 3.0]])
    expected = fisher_rao_distance(InverseGaussian(*x.T), InverseGaussian(*y.T))
    found = numerical.solve(INVERSE_GAUSSIAN, x, y - x)
    np.testing.assert_allclose(found.distance, expected, rtol=1e-11)
    assert np.isnan(found.lower).all(), "nothing was said of the curvature of this metric"
    assert (found.upper >= expected).all()


def test_solver_on_a_manifold_of_positive_curvature() -> None:
    rng = RNG(1)
    x, y = rng.standard_normal((2, 10, 3))
    p, q = (special.softmax(np.concatenate([z, np.zeros((10, 1))], axis=-1), axis=-1) for z in (x, y))
    found = numerical.solve(sphere_metric(3), x, y - x)
    np.testing.assert_allclose(found.distance, simplex.distance(p, q), rtol=1e-11)
    assert np.isnan(found.lower).all()


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 8, 16]))
@settings(max_examples=40, deadline=None)
def test_the_bracket_holds_the_truth_before_convergence_too(seed: int, elements: int) -> None:
    rng = RNG(seed)
    x, y = (np.stack([3 * rng.standard_normal(5), rng.standard_normal(5)], axis=-1) for _ in range(2))
    var = [np.exp(2 * z[:, 1:]) for z in (x, y)]
    truth = fisher_rao_distance(DiagonalGaussian(x[:, :1], var[0]), DiagonalGaussian(y[:, :1], var[1]))
    found = numerical.solve(NORMAL, x, y - x, max_elements=elements, strict=False)
    assert (found.lower <= truth).all()
    assert (truth <= found.upper).all()
    width = (found.upper - found.lower) / found.distance
    assert (width[found.converged] < 1e-12).all()


@pytest.mark.parametrize("chart", ["gamma", "beta", "dirichlet", "repeated", "sphere", "circle", "many"])
def test_christoffel_symbols_are_those_of_the_metric(chart: str) -> None:
    """The certificate rests on it: a wrong connection would make it vouch for a curve that is no geodesic."""
    metrics = {
        "gamma": (_charts.GAMMA, 2),
        "beta": (_charts.dirichlet(np.ones(2)), 2),
        "dirichlet": (_charts.dirichlet(np.ones(4)), 4),
        "repeated": (_charts.dirichlet(np.array([1.0, 2.0, 5.0])), 3),
        "sphere": (_charts.von_mises_fisher(3), 2),
        "circle": (_charts.von_mises_fisher(2), 2),
        "many": (_charts.von_mises_fisher(384), 2),
    }
    metric, n = metrics[chart]
    eye, h = np.eye(n), 1e-4

    def matrix(x: np.ndarray) -> np.ndarray:
        return metric.inner(x[..., None, None, :], eye[:, None], eye)

    for x in 2 * RNG(3).standard_normal((6, n)):
        near, far = ([matrix(x + s * e) - matrix(x - s * e) for e in eye] for s in (h, 2 * h))
        change = np.moveaxis(8 * np.array(near) - np.array(far), 0, -1) / (12 * h)
        lowered = 0.5 * (np.einsum("kji->kij", change) + np.einsum("kij->kij", change) - np.einsum("ijk->kij", change))
        expected = np.einsum("lk,kij->lij", np.linalg.inv(matrix(x)), lowered)
        found = np.moveaxis(metric.christoffel(x, eye[:, None], eye), -1, 0)
        np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max())


def test_charts_carry_the_fisher_metric() -> None:
    """The chart of each family gives the lengths that the Fisher information gives."""
    for family in (Gamma, Beta, Dirichlet, VonMisesFisher):
        p, q = random_batch(family, 5, 4), random_batch(family, 5, 5)
        found = geodesic_solution(p, q)
        v = logarithm_map(p, q)
        np.testing.assert_allclose(np.sqrt(inner_product(p, v, v)), found.distance, rtol=1e-8)
        f = fisher_information(p)
        np.testing.assert_allclose(np.sqrt(np.einsum("ni,nij,nj->n", v, f, v)), found.distance, rtol=1e-8)


@pytest.mark.parametrize("d", [2, 3, 4, 10, 62, 384, 4096])
def test_von_mises_fisher_distributions_have_no_positive_curvature(d: int) -> None:
    """With f = sqrt(k A) and dr = sqrt(A') dk, f' = cosh(log(k A'/A) / 2): it must not fall, and starts from 1."""
    kappa = d * np.sinh(np.linspace(1e-3, 16, 3000))
    at = _bessel.resultant(d, kappa)
    log_slope = np.log(at.slope / at.scaled)
    assert log_slope[0] < 0
    assert (np.diff(log_slope) < 0).all()
    assert np.diff(kappa**2 * at.drop).min() > 0


def test_gamma_distributions_have_negative_curvature() -> None:
    k = np.logspace(-3, 3, 200)
    one, two = special.polygamma(1, k), special.polygamma(2, k)
    curvature = (one + k * two) / (4 * (k * one - 1) ** 2)  # of (psi' - 1/k) dk^2 + k du^2
    assert (curvature < -0.2499).all()
    assert (curvature > -0.5001).all()


# ------------------------------------------------------------------------------------------------- certificate


def test_too_few_elements_are_noticed() -> None:
    p, q = Beta(100.0, 1.0), Beta(1.0, 100.0)
    with pytest.raises(ConvergenceError, match=r"1 of 1 geodesics did not converge; at \(\) the residual is") as caught:
        geodesic_solution(p, q, max_elements=4)
    result = caught.value.result
    assert not result.converged
    assert result.residual > result.tolerance == 1e-9
    assert result.lower < float(fisher_rao_distance(p, q)) < result.upper
    assert result.upper - result.lower > 1e-9
    assert not geodesic_solution(p, q, max_elements=4, strict=False).converged


def test_too_few_steps_are_noticed() -> None:
    with pytest.raises(ConvergenceError, match="geodesics did not converge"):
        numerical.solve(NORMAL, [[0.0, 0.0]], [[50.0, 1.0]], max_iter=1, max_elements=8)


@FAMILIES
def test_certificate_of_each_family(family: type) -> None:
    p, q = random_batch(family, 6, 6), random_batch(family, 6, 7)
    found = geodesic_solution(p, q)
    assert found.converged.all()
    assert (found.residual <= 1e-9).all()
    assert (found.lower <= found.distance).all()
    assert (found.distance <= found.upper).all()
    assert (found.upper - found.lower <= 1e-12 * found.distance).all()
    np.testing.assert_allclose(fisher_rao_distance(p, q), found.distance, rtol=1e-12)
    assert (found.elements >= 8).all()
    assert (found.iterations >= 1).all()
    # each part of the batch is the solution of its own pair, though the meshes differ
    for i in range(6):
        one = geodesic_solution(p[i], q[i])
        np.testing.assert_allclose(one.displacements([0.3, 1.0]), found.displacements([0.3, 1.0])[i], atol=1e-9)
        np.testing.assert_allclose(one.velocities([0.0]), found.velocities([0.0])[i], atol=1e-8)


def test_solution_is_given_for_these_families_alone() -> None:
    with pytest.raises(UnsupportedFamilyError, match=r"Beta, Dirichlet, Gamma, VonMisesFisher\), found Exponential"):
        geodesic_solution(Exponential(1.0), Exponential(2.0))


# -------------------------------------------------------------------------------------------- exp, log, geodesics


@FAMILIES
def test_exponential_and_logarithm_are_inverse(family: type) -> None:
    p, q = random_batch(family, 5, 8), random_batch(family, 5, 9)
    back = exponential_map(p, logarithm_map(p, q))
    np.testing.assert_allclose(back.coordinates(), q.coordinates(), rtol=1e-7, atol=1e-8)
    assert (fisher_rao_distance(back, q) < 1e-8).all()
    size = np.sqrt(fisher_information(p).max(axis=(-1, -2)))[:, None]
    v = 0.3 * RNG(10).standard_normal((5, p.coordinate_size)) / size
    again = logarithm_map(p, exponential_map(p, v))
    np.testing.assert_allclose(again, v, atol=1e-8 * np.abs(v).max())


@FAMILIES
def test_geodesics_have_constant_speed_and_join_the_ends(family: type) -> None:
    p, q = random_batch(family, 3, 11), random_batch(family, 3, 12)
    t = np.array([0.0, 0.2, 0.5, 1.0])
    points = geodesic(p, q, t)
    assert points.batch_shape == (3, 4)
    d = fisher_rao_distance(p, q)
    np.testing.assert_allclose(fisher_rao_distance(p[:, None], points), d[:, None] * t, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(fisher_rao_distance(points, q[:, None]), d[:, None] * (1 - t), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(geodesic(q, p, 0.8).coordinates(), points[:, 1].coordinates(), rtol=1e-7, atol=1e-8)


@FAMILIES
def test_a_member_is_at_distance_zero_of_itself(family: type) -> None:
    p = random_batch(family, 4, 13)
    assert (fisher_rao_distance(p, p) == 0).all()
    assert (logarithm_map(p, p) == 0).all()
    np.testing.assert_allclose(geodesic(p, p, 0.5).coordinates(), p.coordinates(), rtol=1e-14)
    still = exponential_map(p, np.zeros(p.coordinate_size))
    np.testing.assert_allclose(still.coordinates(), p.coordinates(), rtol=1e-14)


@FAMILIES
@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-9])
def test_close_members(family: type, step: float) -> None:
    """d^2 = 2 KL up to a term of third order, d^2 = J up to one of fourth."""
    p = random_batch(family, 5, 14)
    v = RNG(15).standard_normal((5, p.coordinate_size)) * np.abs(p.coordinates()).min(axis=-1, keepdims=True)
    q = p.with_coordinates(p.coordinates() + step * v)
    d = fisher_rao_distance(p, q)
    rounding = 1e-15 / step
    np.testing.assert_allclose(d**2, 2 * kl_divergence(p, q), rtol=10 * step + 10 * rounding)
    np.testing.assert_allclose(d**2, jeffreys_divergence(p, q), rtol=10 * step**2 + 10 * rounding)
    np.testing.assert_allclose(d**2, 8 * bhattacharyya_distance(p, q), rtol=10 * step**2 + 10 * rounding)
    np.testing.assert_allclose(d**2, 8 * hellinger_distance(p, q) ** 2, rtol=10 * step**2 + 10 * rounding)
    np.testing.assert_allclose(fisher_rao_distance(q, p), d, rtol=1e-12 + 10 * rounding)


@FAMILIES
def test_the_triangle_inequality_and_symmetry(family: type) -> None:
    a, b, c = (random_batch(family, 20, seed, spread=1.5) for seed in (16, 17, 18))
    ab, bc, ac = fisher_rao_distance(a, b), fisher_rao_distance(b, c), fisher_rao_distance(a, c)
    assert (ac <= (ab + bc) * (1 + 1e-12)).all()
    np.testing.assert_allclose(fisher_rao_distance(b, a), ab, rtol=1e-12)
    assert (ab <= np.sqrt(jeffreys_divergence(a, b))).all()


# ---------------------------------------------------------------------------------------------------- symmetries


def test_equal_parameters_are_computed_once() -> None:
    a, b = np.array([2.0, 0.5, 2.0, 2.0, 0.5]), np.array([0.7, 3.0, 0.7, 0.7, 3.0])
    p, q = Dirichlet(a), Dirichlet(b)
    whole = numerical.solve(_charts.dirichlet(np.ones(5)), np.log(a), np.log(b / a))
    np.testing.assert_allclose(fisher_rao_distance(p, q), whole.distance, rtol=1e-13)
    middle = geodesic(p, q, 0.5).concentration
    np.testing.assert_allclose(middle, a * np.exp(whole.displacements([0.5])[0]), rtol=1e-9)
    assert middle[0] == middle[2] == middle[3]
    assert middle[1] == middle[4]


def test_a_batch_of_different_symmetries_keeps_its_order() -> None:
    rng = RNG(19)
    a, b = np.exp(rng.standard_normal((2, 6, 4)))
    a[1], b[1] = 1.0, 2.0
    a[3, 1:], b[3, 1:] = 0.4, 5.0
    a[4, ::2], b[4, ::2] = 3.0, 1.0
    p, q = Dirichlet(a), Dirichlet(b)
    each = [float(fisher_rao_distance(p[i], q[i])) for i in range(6)]
    np.testing.assert_allclose(fisher_rao_distance(p, q), each, rtol=1e-12)
    found = geodesic_solution(p, q)
    np.testing.assert_allclose(found.distance, each, rtol=1e-12)
    np.testing.assert_allclose(geodesic(p, q, 1.0).concentration, b, rtol=1e-12)
    permuted = [2, 0, 3, 1]
    again = fisher_rao_distance(Dirichlet(a[:, permuted]), Dirichlet(b[:, permuted]))
    np.testing.assert_allclose(again, each, rtol=1e-12)


def test_vocabularies_with_few_different_parameters() -> None:
    """A prior of equal parameters over 5000 outcomes: one dimension, whose length is an integral."""
    v = 5000
    d = fisher_rao_distance(Dirichlet(np.full(v, 0.1)), Dirichlet(np.full(v, 0.2)))

    def speed(a: float) -> float:
        return float(np.sqrt(v * special.polygamma(1, a) - v**2 * special.polygamma(1, v * a)))

    np.testing.assert_allclose(d, integrate.quad(speed, 0.1, 0.2, epsrel=1e-12)[0], rtol=1e-10)
    with pytest.raises(DomainError, match="300 different pairs of parameters, wanted at most 200"):
        fisher_rao_distance(Dirichlet(np.arange(1.0, 301.0)), Dirichlet(np.ones(300)))


def test_the_unit_of_a_gamma_variable_does_not_matter() -> None:
    p, q = random_batch(Gamma, 5, 20), random_batch(Gamma, 5, 21)
    d = fisher_rao_distance(p, q)
    for unit in (1e-200, 1e-3, 1e200):
        scaled = fisher_rao_distance(Gamma(p.shape, p.rate * unit), Gamma(q.shape, q.rate * unit))
        np.testing.assert_allclose(scaled, d, rtol=1e-12)
        np.testing.assert_allclose(
            kl_divergence(Gamma(p.shape, p.rate * unit), Gamma(q.shape, q.rate * unit)), kl_divergence(p, q), rtol=1e-12
        )


def test_rotations_do_not_matter() -> None:
    rng = RNG(22)
    rotation, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    mu, nu = random_directions(5, 4, rng), random_directions(5, 4, rng)
    k, m = np.exp(rng.standard_normal((2, 5)))
    p, q = VonMisesFisher(mu, k), VonMisesFisher(nu, m)
    r, s = VonMisesFisher(mu @ rotation, k), VonMisesFisher(nu @ rotation, m)
    np.testing.assert_allclose(fisher_rao_distance(r, s), fisher_rao_distance(p, q), rtol=1e-12)
    np.testing.assert_allclose(logarithm_map(r, s), logarithm_map(p, q) @ rotation, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(bhattacharyya_distance(r, s), bhattacharyya_distance(p, q), rtol=1e-12)


# -------------------------------------------------------------------------------------------------------- extremes

SIZES = (1e-3, 1.0, 1e3, 1e6)


def test_beta_distributions_from_a_thousandth_to_a_million() -> None:
    rng = RNG(23)
    a = rng.choice(SIZES, size=(4, 8))
    p, q = Beta(a[0], a[1]), Beta(a[2], a[3])
    found = geodesic_solution(p, q, tol=1e-6)
    assert found.converged.all()
    apart = found.distance > 0
    assert (found.upper - found.lower <= 1e-12 * found.distance).all()
    np.testing.assert_allclose(fisher_rao_distance(q, p)[apart], found.distance[apart], rtol=1e-10)


def test_gamma_distributions_from_a_thousandth_to_a_million() -> None:
    shape = np.array([1e-3, 1e-3, 1e6, 1e6, 1e-3])
    other, ratio = np.array([1e6, 1e-3, 1e6, 1e6, 1e3]), np.array([1e6, 1e6, 10.0, 1 + 1e-9, 1e-6])
    found = geodesic_solution(Gamma(shape, 1.0), Gamma(other, ratio), tol=1e-6)
    assert (found.upper - found.lower <= 1e-12 * found.distance).all()
    np.testing.assert_allclose(found.distance[3], 1e-9 * 1e3, rtol=1e-6)  # sqrt(k) times the change of log mean


@pytest.mark.parametrize("d", [2, 3, 384, 4096])
def test_directions_from_uniform_to_a_million(d: int) -> None:
    kappa = np.array([0.0, 0.0, 1e6, 1e6, 1e-3])
    other, angle = np.array([1e-3, 1e6, 1e6, 1e6, 1e6]), np.array([1.0, 2.0, np.pi, 1e-6, 1.0])
    p = VonMisesFisher(turned(d, 0.0), kappa)
    q = VonMisesFisher(np.array([turned(d, x) for x in angle]), other)
    found = geodesic_solution(p, q, tol=1e-6)
    assert found.converged.all()
    assert (found.upper - found.lower <= 1e-12 * found.distance).all()
    np.testing.assert_allclose(found.distance[0], 1e-3 / d**0.5, rtol=1e-6)  # the metric at the centre is 1/d
    np.testing.assert_allclose(found.distance[3], 1e-3 * float(p[2].resultant_length()) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(found.distance[2], 2 * found.distance[1], rtol=1e-11)  # through the uniform law
    for measure in (kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance):
        assert np.isfinite(measure(p, q)).all()
        assert (measure(p, q) > 0).all()


def test_the_direction_of_the_uniform_distribution_does_not_matter() -> None:
    q = VonMisesFisher(E[2], 4.0)
    uniforms = VonMisesFisher(E, 0.0)
    d = fisher_rao_distance(uniforms, q)
    assert d[0] == d[1]
    np.testing.assert_allclose(d, d[0], rtol=1e-14)
    assert (fisher_rao_distance(uniforms, uniforms[::-1]) == 0).all()
    assert (kl_divergence(uniforms, uniforms[::-1]) == 0).all()
    v = logarithm_map(uniforms, q)
    np.testing.assert_allclose(v, np.tile([0, 0, d[0] * 3**0.5], (3, 1)), atol=1e-9)
    np.testing.assert_allclose(exponential_map(uniforms, v).natural_parameter, np.tile([0, 0, 4.0], (3, 1)), atol=1e-8)
    points = geodesic(VonMisesFisher(-E[2], 4.0), q, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(points.concentration, [4, 0, 4], atol=1e-9)
    np.testing.assert_allclose(fisher_information(uniforms), np.broadcast_to(np.eye(3) / 3, (3, 3, 3)), rtol=1e-14)


# ------------------------------------------------------------------------------------- density, entropy, samples


@pytest.mark.parametrize(("shape", "rate"), [(1e-3, 1.0), (0.5, 3.0), (1.0, 2.0), (1e3, 1e-5), (1e6, 2.0)])
def test_gamma_density_and_entropy(shape: float, rate: float) -> None:
    p, known = Gamma(shape, rate), stats.gamma(shape, scale=1 / rate)
    x = np.append(known.ppf([0.6, 0.8, 0.99]), -1.0)
    np.testing.assert_allclose(p.log_prob(x), known.logpdf(x), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(p.entropy(), known.entropy(), rtol=1e-8)
    expected = {0.5: np.inf, 1.0: np.log(2.0), 1e3: -np.inf}.get(shape)
    if expected is not None:
        assert float(p.log_prob(0.0)) == pytest.approx(expected)


@pytest.mark.parametrize(("a", "b"), [(1e-3, 1.0), (0.5, 0.5), (2.0, 1.0), (300.0, 40.0), (1e6, 1e6)])
def test_beta_density_and_entropy(a: float, b: float) -> None:
    p, known = Beta(a, b), stats.beta(a, b)
    x = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(p.log_prob(x), known.logpdf(x), rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(p.log_prob([-0.1, 1.1]), [-np.inf, -np.inf])
    if a < 1e5:
        np.testing.assert_allclose(p.entropy(), known.entropy(), rtol=1e-9)
    else:
        normal = 0.5 * np.log(2 * np.pi * np.e / (4 * (2 * a + 1)))  # a normal law with its variance
        np.testing.assert_allclose(p.entropy(), normal, rtol=1e-6)


def test_dirichlet_density_at_the_border() -> None:
    """As scipy.stats, which computes directly."""
    a = np.array([1.0, 2.0, 3.0])
    for x in ([0.0, 0.4, 0.6], [0.2, 0.3, 0.5]):
        np.testing.assert_allclose(Dirichlet(a).log_prob(x), stats.dirichlet(a).logpdf(x), rtol=1e-12)
    assert Dirichlet(a).log_prob([0.5, 0.5, 0.0]) == -np.inf
    assert Dirichlet([0.5, 1.0, 1.0]).log_prob([0.0, 0.5, 0.5]) == np.inf
    with pytest.raises(DomainError, match="no limit where two coordinates are zero"):
        Dirichlet([0.5, 2.0, 1.0]).log_prob([0.0, 0.0, 1.0])
    np.testing.assert_allclose(Dirichlet([0.5, 2.0]).log_prob([0.3, 0.7]), Beta(0.5, 2.0).log_prob(0.3), rtol=1e-13)


@pytest.mark.parametrize("d", [2, 3, 20])
def test_von_mises_fisher_density_and_entropy(d: int) -> None:
    mu = random_directions(1, d, RNG(24))[0]
    x = random_directions(5, d, RNG(25))
    for kappa in (0.1, 3.0, 40.0):
        p, known = VonMisesFisher(mu, kappa), stats.vonmises_fisher(mu, kappa)
        np.testing.assert_allclose(p.log_prob(x), known.logpdf(x), rtol=1e-10)
        np.testing.assert_allclose(p.entropy(), known.entropy(), rtol=1e-8, atol=1e-10)


def test_von_mises_fisher_density_at_both_ends() -> None:
    area = np.log(2.0) + 192 * np.log(np.pi) - special.gammaln(192.0)
    uniform = VonMisesFisher(np.eye(384)[0], 0.0)
    np.testing.assert_allclose(uniform.entropy(), area, rtol=1e-13)
    np.testing.assert_allclose(uniform.log_prob(np.eye(384)[5]), -area, rtol=1e-13)
    sharp = VonMisesFisher(E[0], 1e6)  # normalizer kappa / (4 pi sinh kappa)
    np.testing.assert_allclose(sharp.log_prob(E[0]), np.log(1e6 / (2 * np.pi)), rtol=1e-12)
    np.testing.assert_allclose(sharp.entropy(), 1 - np.log(1e6 / (2 * np.pi)), rtol=1e-11)


@pytest.mark.parametrize(("d", "kappa"), [(2, 0.0), (2, 3.0), (3, 1e6), (20, 5.0), (384, 300.0), (4096, 1e6)])
def test_von_mises_fisher_samples(d: int, kappa: float) -> None:
    n = 20_000 if d < 100 else 300
    p = VonMisesFisher(turned(d, 0.7), kappa)
    x = p.sample(1, shape=(n,))
    assert x.shape == (n, d)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1.0, rtol=1e-12)
    along = ((x - p.mean_direction) ** 2).sum(axis=-1) / 2
    at = _bessel.resultant(d, np.array(kappa))
    error = np.sqrt(at.slope / n)  # of the mean of the cosine, whose variance is A'
    assert abs(along.mean() - at.deficit) < 5 * error
    np.testing.assert_allclose(along.var(), at.slope, rtol=8 / n**0.5 * 3)
    across = x - (x @ p.mean_direction)[:, None] * p.mean_direction
    spread = np.sqrt((across**2).sum(axis=-1).mean() / n)
    assert np.linalg.norm(across.mean(axis=0)) < 4 * spread


def test_small_dirichlet_samples() -> None:
    x = Dirichlet([[1e-3, 2e-3, 1e-3], [50.0, 30.0, 20.0]]).sample(0, shape=(4000,))
    assert x.shape == (4000, 2, 3)
    np.testing.assert_allclose(x.sum(axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(x.mean(axis=0), [[0.25, 0.5, 0.25], [0.5, 0.3, 0.2]], atol=0.03)
    assert Gamma([1.0, 1e-3], 2.0).sample(0, shape=(5,)).shape == (5, 2)


# --------------------------------------------------------------------------------------------------- divergences


def exact_kl_dirichlet(a: Any, b: Any) -> float:
    with mp.workdps(60):
        a, b = [mp.mpf(float(x)) for x in a], [mp.mpf(float(x)) for x in b]
        total, other = mp.fsum(a), mp.fsum(b)
        value = mp.loggamma(total) - mp.loggamma(other)
        for x, y in zip(a, b, strict=True):
            value += mp.loggamma(y) - mp.loggamma(x) + (x - y) * (mp.psi(0, x) - mp.psi(0, total))
        return float(value)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1.0, 2.0, 3.0), (4.0, 0.1, 1.0)),
        ((1e6, 2e6), (1.5e6, 1e6)),
        ((1e6, 1e6), (1e6 + 1, 1e6)),
        ((1e-3, 1.0), (1e-3, 30.0)),
    ],
)
def test_divergences_of_dirichlet_distributions(a: Any, b: Any) -> None:
    p, q = Dirichlet(a), Dirichlet(b)
    known = exact_kl_dirichlet(a, b), exact_kl_dirichlet(b, a)
    np.testing.assert_allclose([kl_divergence(p, q), kl_divergence(q, p)], known, rtol=1e-11)
    np.testing.assert_allclose(jeffreys_divergence(p, q), sum(known), rtol=1e-11)
    with mp.workdps(60):
        x, y = ([mp.mpf(v) for v in side] for side in (a, b))
        middle = [(u + v) / 2 for u, v in zip(x, y, strict=True)]

        def log_beta(z: Any) -> Any:
            return mp.fsum(mp.loggamma(v) for v in z) - mp.loggamma(mp.fsum(z))

        gap = float((log_beta(x) + log_beta(y)) / 2 - log_beta(middle))
    np.testing.assert_allclose(bhattacharyya_distance(p, q), gap, rtol=1e-11)
    np.testing.assert_allclose(hellinger_distance(p, q), np.sqrt(-np.expm1(-gap)), rtol=1e-11)


@pytest.mark.parametrize(
    ("p", "q"),
    [((2.0, 3.0), (0.5, 7.0)), ((1e6, 1.0), (1e6, 1.0001)), ((1e-3, 1.0), (5.0, 1e5)), ((4.0, 1.0), (4.0, 1.0))],
)
def test_divergences_of_gamma_distributions(p: Any, q: Any) -> None:
    def potential(k: Any, r: Any) -> Any:
        return mp.loggamma(k) - k * mp.log(r)

    with mp.workdps(60):
        (k, r), (m, s) = (tuple(mp.mpf(x) for x in side) for side in (p, q))
        kl = potential(m, s) - potential(k, r) - (mp.psi(0, k) - mp.log(r)) * (m - k) + k / r * (s - r)
        gap = (potential(k, r) + potential(m, s)) / 2 - potential((k + m) / 2, (r + s) / 2)
    np.testing.assert_allclose(kl_divergence(Gamma(*p), Gamma(*q)), float(kl), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(bhattacharyya_distance(Gamma(*p), Gamma(*q)), float(gap), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("kappa", "other", "angle"),
    [(2.0, 3.0, 1.0), (0.0, 5.0, 0.0), (1e6, 3e6, 1e-3), (1e6, 1e6 + 1, 0.0), (1e-3, 1e3, 3.0), (7.0, 7.0, np.pi)],
)
def test_divergences_on_the_sphere(kappa: float, other: float, angle: float) -> None:
    """Against the log partition log(sinh(k) / k) of d = 3."""
    p, q = VonMisesFisher(turned(3, 0.0), kappa), VonMisesFisher(turned(3, angle), other)
    with mp.workdps(60):
        chord = mp.mpf(float(((p.mean_direction - q.mean_direction) ** 2).sum())) / 2
        k, m = mp.mpf(kappa), mp.mpf(other)

        def potential(x: Any) -> Any:
            return mp.log(mp.sinh(x) / x) if x else mp.mpf(0)

        length = mp.coth(k) - 1 / k if k else mp.mpf(0)
        kl = potential(m) - potential(k) - length * (m * (1 - chord) - k)
        middle = mp.sqrt((k - m) ** 2 / 4 + k * m * (2 - chord) / 2)
        gap = (potential(k) + potential(m)) / 2 - potential(middle)
    np.testing.assert_allclose(kl_divergence(p, q), float(kl), rtol=1e-11)
    np.testing.assert_allclose(jeffreys_divergence(p, q), kl_divergence(p, q) + kl_divergence(q, p), rtol=1e-12)
    np.testing.assert_allclose(bhattacharyya_distance(p, q), float(gap), rtol=1e-11)
    np.testing.assert_allclose(hellinger_distance(p, q), np.sqrt(-np.expm1(-float(gap))), rtol=1e-11)


# --------------------------------------------------------------------------------------------------------- guards


def test_directions_must_be_unit_vectors() -> None:
    with pytest.raises(DomainError, match=r"vector 1 has length 2, wanted 1 within 1e-09; .* numpy.linalg.norm"):
        VonMisesFisher([[1.0, 0.0], [0.0, 2.0]], 1.0)
    with pytest.raises(DomainError, match="the vector has length 0, wanted 1"):
        VonMisesFisher([0.0, 0.0], 1.0)
    single = random_directions(3, 50, RNG(26)).astype(np.float32)
    p = VonMisesFisher(single, 1.0)
    np.testing.assert_allclose(np.linalg.norm(p.mean_direction, axis=-1), 1.0, rtol=1e-15)
    with pytest.raises(DomainError, match="concentration: entry"):
        VonMisesFisher(E, [1.0, -1.0, 0.0])
    with pytest.raises(ShapeError, match="d at least 2"):
        VonMisesFisher([1.0], 1.0)
    with pytest.raises(ShapeError, match="do not broadcast"):
        VonMisesFisher(E, [1.0, 2.0])
    with pytest.raises(ShapeError, match="no members"):
        VonMisesFisher(np.zeros((0, 3)), 1.0)
    with pytest.raises(DomainError, match="length 3, wanted unit vectors"):
        p[0].log_prob(3 * np.eye(50)[0])
    with pytest.raises(ShapeError, match=r"wanted \(\.\.\., 50\)"):
        p[0].log_prob(E[0])
    with pytest.raises(ShapeError, match="dimensions 50 and 3"):
        fisher_rao_distance(p[0], VonMisesFisher(E[0], 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma([1.0, 0.0], 1.0), "shape: entry"),
        (lambda: Gamma(1.0, -2.0), "rate: found -2.0, wanted a positive number"),
        (lambda: Gamma(np.nan, 1.0), "must be finite"),
        (lambda: Beta(1.0, np.inf), "must be finite"),
        (lambda: Beta(0.0, 1.0), "alpha: found 0.0"),
        (lambda: Beta(1.0, 1e101), r"beta: found 1e\+101, wanted a number from 1e-100 to 1e\+100"),
        (lambda: Gamma(1e-101, 1.0), "shape: found 1e-101, wanted a number from"),
        (lambda: Dirichlet([1.0, 1e200]), "concentration: entry"),
        (lambda: VonMisesFisher(E[0], 1e51), "wanted a number from 0 to 1e50"),
        (lambda: fisher_information(Gamma(1.0, 1e-200)), "too large for float64"),
        (lambda: Dirichlet([1.0, -1.0]), "concentration: entry"),
        (lambda: Dirichlet([1.0]), "V at least 2"),
        (lambda: Dirichlet(np.ones((0, 3))), "no members"),
        (lambda: Beta(np.ones(2), np.ones(3)), "broadcast"),
        (lambda: Dirichlet([1.0, 2.0]).log_prob([0.5, 0.6]), "sum to 1.1"),
        (lambda: Dirichlet([1.0, 2.0]).log_prob([-0.5, 1.5]), "not negative"),
        (lambda: Dirichlet([1.0, 2.0]).log_prob([1.0]), r"wanted \(\.\.\., 2\)"),
        (lambda: Gamma(1e3, 1e-307).sample(0), "too large for float64"),
        (lambda: exponential_map(Gamma(1.0, 1.0), [1e5, 0.0]), "leaves the range of float64"),
        (lambda: exponential_map(Beta(1.0, 1.0), [900.0, 0.0]), "range of float64"),
    ],
)
def test_bad_members_are_refused(make: Any, message: str) -> None:
    with pytest.raises((DomainError, ShapeError), match=message):
        make()


def test_bad_calls_of_the_solver() -> None:
    with pytest.raises(ShapeError, match="wanted both"):
        numerical.solve(NORMAL, [0.0, 0.0], [[1.0, 0.0]])
    with pytest.raises(ArgumentError, match="tol: found 0"):
        numerical.solve(NORMAL, [0.0, 0.0], [1.0, 0.0], tol=0)
    with pytest.raises(ArgumentError, match="power of two"):
        numerical.solve(NORMAL, [0.0, 0.0], [1.0, 0.0], max_elements=100)
    with pytest.raises(ArgumentError, match="max_iter"):
        numerical.solve(NORMAL, [0.0, 0.0], [1.0, 0.0], max_iter=0)
    found = numerical.solve(NORMAL, [0.0, 0.0], [1.0, 0.0])
    with pytest.raises(ShapeError, match=r"wanted \(T,\)"):
        found.displacements(0.5)
    with pytest.raises(DomainError, match="times from 0 to 1"):
        found.velocities([2.0])
    with pytest.raises(ShapeError, match="one time or"):
        numerical.geodesic(NORMAL, [0.0, 0.0], [1.0, 0.0], [[0.5]])
    with pytest.raises(ShapeError, match="velocity"):
        numerical.exp(NORMAL, [0.0, 0.0], [1.0])
    with pytest.raises(ShapeError, match="wanted both"):
        numerical.shoot(NORMAL, [0.0, 0.0], [[1.0, 0.0]])
    with pytest.raises(DomainError, match="leaves the range"):
        numerical.exp(NORMAL, [0.0, 0.0], [0.0, 1e4])


def test_integers_and_single_precision_are_read_as_numbers() -> None:
    d = fisher_rao_distance(Beta(1, 2), Beta(np.float32(5), np.int8(3)))
    np.testing.assert_allclose(d, fisher_rao_distance(Beta(1.0, 2.0), Beta(5.0, 3.0)), rtol=1e-15)
