"""Dual geometry of exponential families: coordinates, potentials, connections, their geodesics and projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exponential_cases import MAKERS, derivative, difference, members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import infogeo
from infogeo import (
    Bernoulli,
    Beta,
    Categorical,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Gamma,
    Gaussian,
    InverseGaussian,
    LogNormal,
    LowRankGaussian,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    VonMisesFisher,
    Weibull,
    alpha_connection,
    alpha_geodesic,
    bregman_divergence,
    cubic_tensor,
    dual_potential,
    expectation_parameters,
    exponential_geodesic,
    exponential_projection,
    fisher_information,
    fisher_rao_distance,
    from_expectation,
    from_natural,
    geodesic,
    inner_product,
    kl_divergence,
    log_partition,
    mixture_geodesic,
    mixture_projection,
    natural_fisher_information,
    natural_parameters,
    pairwise,
)
from infogeo import _alpha_collocation as collocation
from infogeo._exponential import EXPONENTIAL_FAMILY, structure
from infogeo.connections import _solve_all
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng
FAMILIES = list(MAKERS)
LINES = ("Bernoulli", "Binomial", "Geometric", "Poisson", "Exponential")
"""families of one parameter, which have no angles"""
PLANES = ["DiagonalGaussian", "Gaussian", "Categorical", "Gamma", "Dirichlet", "InverseGaussian"]
"""some of the others"""
TIMES = np.array([0.0, 0.2, 0.5, 0.9, 1.0])


def test_every_exponential_family_has_a_case():
    assert {f.__name__ for f in EXPONENTIAL_FAMILY.families} == set(FAMILIES)


# ------------------------------------------------------------------------------------------------------- statistics

STATISTICS = {  # samples (N, ...) to T (N, n), written from the table in the docstring of natural_parameters
    "DiagonalGaussian": lambda x, p: np.concatenate([x, x**2], axis=-1),
    "IsotropicGaussian": lambda x, p: np.concatenate([x, (x**2).sum(axis=-1, keepdims=True)], axis=-1),
    "Gaussian": lambda x, p: np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=-1),
    "CenteredGaussian": lambda x, p: np.stack([x[:, i] * x[:, j] for i in range(3) for j in range(i + 1)], axis=-1),
    "SharedCovarianceGaussian": lambda x, p: x,
    "LogNormal": lambda x, p: np.stack([np.log(x), np.log(x) ** 2], axis=-1),
    "Categorical": lambda x, p: (x[:, None] == np.arange(p.dimension - 1)).astype(float),
    "Multinomial": lambda x, p: x[:, :-1].astype(float),
    "Gamma": lambda x, p: np.stack([np.log(x), x], axis=-1),
    "Beta": lambda x, p: np.stack([np.log(x), np.log1p(-x)], axis=-1),
    "Dirichlet": lambda x, p: np.log(x),
    "InverseGaussian": lambda x, p: np.stack([x, 1 / x], axis=-1),
    "VonMisesFisher": lambda x, p: x,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_densities_have_the_exponential_form(name):
    """log p(x) - log q(x) = (theta_p - theta_q) T(x) - psi(p) + psi(q), for samples x."""
    p, q = members(name, 2)
    x = np.asarray(p.sample(RNG(0), shape=(50,)))
    statistic = STATISTICS.get(name, lambda x, p: x[:, None].astype(float))(x, p)
    change = natural_parameters(p) - natural_parameters(q)
    expected = statistic @ change - log_partition(p) + log_partition(q)
    np.testing.assert_allclose(p.log_prob(x) - q.log_prob(x), expected, rtol=1e-10, atol=1e-10)


def _normal_of_mean_zero(x: np.ndarray) -> np.ndarray:
    p = members("SharedCovarianceGaussian", 1)
    return SharedCovarianceGaussian(np.zeros(3), p.cov).log_prob(x)


BASES = {  # logarithm of the measure's density, as the docstring of log_partition says
    "LogNormal": lambda x: -np.log(x),
    "Gamma": lambda x: -np.log(x),
    "Dirichlet": lambda x: -np.log(x).sum(axis=-1),
    "Beta": lambda x: -np.log(x) - np.log1p(-x),
    "InverseGaussian": lambda x: -0.5 * np.log(2 * np.pi * x**3),
    "SharedCovarianceGaussian": _normal_of_mean_zero,
}


@pytest.mark.parametrize("name", [*BASES, "Gaussian", "CenteredGaussian", "Exponential", "VonMisesFisher", "Geometric"])
def test_the_measure_of_the_densities(name):
    p = members(name, 1)[0]
    x = np.asarray(p.sample(RNG(0), shape=(20,)))
    statistic = STATISTICS.get(name, lambda x, p: x[:, None].astype(float))(x, p)
    base = BASES.get(name, lambda x: 0.0)(x)
    expected = base + statistic @ natural_parameters(p) - log_partition(p)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["Gaussian", "DiagonalGaussian", "Categorical", "Exponential", "VonMisesFisher"])
def test_the_dual_potential_is_the_negative_entropy(name):
    p = members(name)
    np.testing.assert_allclose(dual_potential(p), -p.entropy(), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------- potentials and coordinates


@pytest.mark.parametrize("name", FAMILIES)
def test_the_inverse_maps(name):
    p = members(name, 5)
    theta, eta = natural_parameters(p), expectation_parameters(p)
    assert theta.shape == eta.shape == (5, p.coordinate_size)
    assert difference(from_natural(p[0], theta), p) < 1e-12
    assert difference(from_expectation(p[0], eta), p) < 1e-10
    assert from_natural(p, theta[0]).batch_shape == ()
    assert from_expectation(p, np.tile(eta[0], (2, 3, 1))).batch_shape == (2, 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives_of_the_log_partition_function(name):
    p = members(name)
    theta, h = natural_parameters(p), 2e-2 * np.abs(natural_parameters(p)).min()

    def at(function):
        return lambda x: function(from_natural(p, x))

    expected = derivative(at(log_partition), theta, h)
    np.testing.assert_allclose(expectation_parameters(p), expected, rtol=1e-6, atol=1e-7)
    hessian = natural_fisher_information(p)
    np.testing.assert_allclose(hessian, derivative(at(expectation_parameters), theta, h), rtol=1e-6, atol=1e-7)
    third = derivative(at(natural_fisher_information), theta, h)
    np.testing.assert_allclose(cubic_tensor(p), third, rtol=1e-6, atol=1e-7)
    for order in ((0, 2, 1, 3), (0, 3, 2, 1)):
        np.testing.assert_allclose(cubic_tensor(p), np.transpose(cubic_tensor(p), order), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FAMILIES)
def test_derivatives_of_the_dual_potential(name):
    p = members(name)
    eta = expectation_parameters(p)
    h = 1e-3 * np.sqrt(np.diagonal(natural_fisher_information(p), axis1=-2, axis2=-1)).min()
    gradient = derivative(lambda y: dual_potential(from_expectation(p, y)), eta, h)
    np.testing.assert_allclose(gradient, natural_parameters(p), rtol=1e-6, atol=1e-7)
    legendre = dual_potential(p) + log_partition(p) - (natural_parameters(p) * eta).sum(axis=-1)
    np.testing.assert_allclose(legendre, 0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "SharedCovarianceGaussian"])
def test_the_hessian_is_the_fisher_information(name):
    """F(x) = J' g(theta) J with the Jacobian of theta in the coordinates x of the family."""
    p = members(name)
    x = p.coordinates()
    jacobian = derivative(lambda y: natural_parameters(p.with_coordinates(y)), x, 2e-3 * np.abs(x).min())
    pulled = np.swapaxes(jacobian, -1, -2) @ natural_fisher_information(p) @ jacobian
    scale = np.abs(pulled).max()
    np.testing.assert_allclose(fisher_information(p) / scale, pulled / scale, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
def test_bregman_divergence_is_kl_with_the_arguments_exchanged(name):
    p, q = members(name, 4), members(name, 4, seed=0)[::-1]
    found = bregman_divergence(p, q)
    np.testing.assert_allclose(found, kl_divergence(q, p), rtol=1e-9, atol=1e-12)
    if name not in ("SharedCovarianceGaussian",):
        assert np.abs(found - kl_divergence(p, q)).max() > 1e-4  # it is not symmetric


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "VonMisesFisher"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), decades=st.floats(0, 2.5))
def test_newton_inverse_maps_from_small_to_large(name, seed, decades):
    rng = RNG(seed)
    scale = 10 ** rng.uniform(-decades, decades)
    if name == "Gamma":
        p = Gamma(scale, 10 ** rng.uniform(-5, 5))
    elif name == "Beta":
        p = Beta(scale * rng.uniform(0.5, 2), scale)
    elif name == "Dirichlet":
        p = Dirichlet(scale * rng.uniform(0.2, 5, 4))
    else:
        p = VonMisesFisher([0.6, 0.0, 0.8], scale)
    q = from_expectation(p, expectation_parameters(p))
    assert float(fisher_rao_small(p, q)) < 1e-7


def fisher_rao_small(p: Any, q: Any) -> float:
    """Length of the straight line between close neighbors."""
    step = natural_parameters(q) - natural_parameters(p)
    return float(np.sqrt(step @ natural_fisher_information(p) @ step))


# --------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("name", FAMILIES)
def test_connections_of_alpha_and_minus_alpha_are_dual(name):
    """d_k g_ij = Gamma(alpha)_ki,j + Gamma(-alpha)_kj,i, and the one of alpha = 0 is that of the metric."""
    p = members(name)
    theta = natural_parameters(p)
    change = derivative(lambda x: natural_fisher_information(from_natural(p, x)), theta, 2e-2 * np.abs(theta).min())
    for alpha in (0.0, 0.4, 1.0, -3.0):
        one, other = alpha_connection(p, alpha=alpha), alpha_connection(p, alpha=-alpha)
        both = np.einsum("bkij->bijk", one) + np.einsum("bkji->bijk", other)
        np.testing.assert_allclose(both, change, rtol=1e-6, atol=1e-7)
    step = alpha_connection(p, alpha=0.0) - alpha_connection(p, alpha=0.7)
    np.testing.assert_allclose(step, 0.35 * cubic_tensor(p), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", PLANES)
def test_flatness_of_the_exponential_and_the_mixture_connection(name):
    """R(alpha) = (1 - alpha^2) R(0), so that alpha = 1 and -1 are flat and all others are not."""
    p = members(name, 1)[0]
    theta = natural_parameters(p)

    def second_kind(x, alpha):
        q = from_natural(p, x)
        lowered = alpha_connection(q, alpha=alpha)
        n = x.shape[-1]
        flat = np.linalg.solve(natural_fisher_information(q), lowered.reshape(*lowered.shape[:-3], n * n, n).mT)
        return flat.reshape(*flat.shape[:-1], n, n)  # k, i, j

    def curvature(alpha):
        gamma = second_kind(theta, alpha)
        change = derivative(lambda x: second_kind(x, alpha), theta, 1e-2 * np.abs(theta).min())  # k, i, j, l = d_l
        linear = np.einsum("ljki->ijkl", change)
        square = np.einsum("lim,mjk->ijkl", gamma, gamma)
        whole = linear + square
        return whole - np.swapaxes(whole, 0, 1)

    metric = curvature(0.0)
    assert np.abs(metric).max() > 1e-2
    for alpha in (1.0, -1.0, 0.5, 3.0):
        scale = np.abs(metric).max()
        np.testing.assert_allclose(curvature(alpha) / scale, (1 - alpha**2) * metric / scale, atol=2e-6)


# ------------------------------------------------------------------------------------------- straight geodesics


@pytest.mark.parametrize("name", FAMILIES)
def test_straight_geodesics(name):
    p, q = members(name)[0], members(name)[1]
    for curve, coordinates in ((exponential_geodesic, natural_parameters), (mixture_geodesic, expectation_parameters)):
        points = curve(p, q, TIMES)
        a, b = coordinates(p), coordinates(q)
        expected = a + TIMES[:, None] * (b - a)
        np.testing.assert_allclose(coordinates(points), expected, rtol=1e-8, atol=1e-9)
        assert difference(points[0], p) < 1e-9
        assert difference(points[-1], q) < 1e-9
        one = curve(p, q, 0.5)
        assert one.batch_shape == ()
        assert difference(one, points[2]) < 1e-12
        back = curve(q, p, 1 - TIMES)
        assert difference(back, points) < 1e-9


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("curve", [exponential_geodesic, mixture_geodesic])
def test_straight_geodesics_of_batches_equal_loops(name, curve):
    p, q = members(name, 4)[:3], members(name, 4)[3:]
    points = curve(p, q, TIMES)
    assert points.batch_shape == (3, len(TIMES))
    for i in range(3):
        assert difference(points[i], curve(p[i], q[0], TIMES)) < 1e-9
    assert curve(p[:, None], q, 0.5).batch_shape == (3, 1)


def test_the_mixture_geodesic_of_categoricals_is_the_mixture():
    p, q = Categorical.from_probs([1.0, 0.0, 0.0]), Categorical.from_probs([0.0, 0.25, 0.75])
    np.testing.assert_allclose(mixture_geodesic(p, q, 0.2).probs, [0.8, 0.05, 0.15], rtol=1e-14)
    p, q = Multinomial.from_probs([1.0, 0.0], 3), Multinomial.from_probs([0.0, 1.0], 3)
    np.testing.assert_allclose(mixture_geodesic(p, q, 0.2).probs, [0.8, 0.2], rtol=1e-14)


def test_the_mixture_geodesic_of_normals_has_the_moments_of_the_mixture():
    p, q = Gaussian([1e6, 0.0], np.eye(2)), Gaussian([1e6 + 2.0, 0.0], np.eye(2))
    middle = mixture_geodesic(p, q, 0.5)
    np.testing.assert_allclose(middle.cov, [[2.0, 0.0], [0.0, 1.0]], rtol=1e-14)  # 12 digits of E x^2 are the mean's


def test_the_exponential_geodesic_is_the_normalized_geometric_mean():
    p, q = Categorical.from_probs([0.1, 0.2, 0.7]), Categorical.from_probs([0.5, 0.3, 0.2])
    mean = p.probs**0.7 * q.probs**0.3
    np.testing.assert_allclose(exponential_geodesic(p, q, 0.3).probs, mean / mean.sum(), rtol=1e-13)


# ------------------------------------------------------------------------------------------------ alpha-geodesics


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("alpha", [-0.5, 0.3, 1.5])
def test_alpha_geodesics_against_the_initial_value_problem(name, alpha):
    """From position and velocity at t = 0.2 a Runge-Kutta method arrives at the end."""
    p, q = members(name, 2)
    times = np.append(np.linspace(0.0, 0.4, 9), 1.0)
    theta = natural_parameters(alpha_geodesic(p, q, times, alpha=alpha))
    start, velocity = np.polynomial.polynomial.polyfit(times[:9] - 0.2, theta[:9], 8)[:2]
    n = len(start)

    def rate(_, state):
        member = from_natural(p, state[:n])
        force = np.einsum("ijk,i,j->k", alpha_connection(member, alpha=alpha), state[n:], state[n:])
        return np.concatenate([state[n:], -np.linalg.solve(natural_fisher_information(member), force)])

    done = solve_ivp(rate, (0.2, 1.0), np.concatenate([start, velocity]), method="DOP853", rtol=1e-8, atol=1e-10)
    scale = 1 + np.abs(theta).max()
    np.testing.assert_allclose(done.y[:n, -1] / scale, natural_parameters(q) / scale, atol=1e-5)
    np.testing.assert_allclose(theta[0] / scale, natural_parameters(p) / scale, atol=1e-9)
    np.testing.assert_allclose(theta[-1] / scale, natural_parameters(q) / scale, atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_alpha_zero_is_the_geodesic_of_the_metric(name):
    p, q = members(name, 2)
    points = alpha_geodesic(p, q, TIMES, alpha=0.0)
    a, record = structure(p, "test")
    solved = _solve_all(record, a, q, TIMES, 0.0)
    assert difference(solved, points) < 1e-7
    if name != "SharedCovarianceGaussian":
        assert difference(points, geodesic(p, q, TIMES)) < 1e-7


@pytest.mark.parametrize("name", FAMILIES)
def test_alpha_near_one_and_minus_one(name):
    p, q = members(name, 2)
    for alpha, straight in ((1.0, exponential_geodesic), (-1.0, mixture_geodesic)):
        exact, near = straight(p, q, TIMES), alpha_geodesic(p, q, TIMES, alpha=alpha * (1 - 1e-9))
        assert difference(alpha_geodesic(p, q, TIMES, alpha=alpha), exact) == 0
        assert difference(near, exact) < 1e-7


@pytest.mark.parametrize("alpha", [-3.0, -1.5, -0.5, 0.0, 0.5, 0.999999, 1.5, 3.0])
@pytest.mark.parametrize("name", ["Categorical", "Multinomial", "Bernoulli", "Binomial"])
def test_the_closed_form_of_categoricals_against_collocation(name, alpha):
    p, q = members(name, 2)
    closed = alpha_geodesic(p, q, TIMES, alpha=alpha)
    a, record = structure(p, "test")
    assert difference(_solve_all(record, a, q, TIMES, alpha), closed) < 1e-8


@pytest.mark.parametrize("alpha", [-2.0, -0.5, 0.0, 0.5, 2.0])
def test_alpha_geodesics_of_categoricals_are_projectively_straight(alpha):
    """p^((1-alpha)/2) stays in the plane of the ends, but its position there is not t (unless alpha = -1 or 1)."""
    p, q = Categorical.from_probs([0.7, 0.1, 0.2]), Categorical.from_probs([0.05, 0.75, 0.2])
    b = (1 - alpha) / 2
    points = alpha_geodesic(p, q, TIMES[1:-1], alpha=alpha).probs ** b
    plane = np.stack([p.probs**b, q.probs**b])
    weights, residual, *_ = np.linalg.lstsq(plane.T, points.T, rcond=None)
    np.testing.assert_allclose(plane.T @ weights, points.T, rtol=1e-10)
    position = weights[1] / weights.sum(axis=0)
    assert np.abs(position - TIMES[1:-1]).max() > 1e-3
    np.testing.assert_allclose(position[1], _position(p.probs, q.probs, b, 0.5), rtol=1e-9)
    assert residual.size >= 0


def _position(p: np.ndarray, q: np.ndarray, b: float, t: float) -> float:
    """tau with t = int_0^tau N^(-2b) / int_0^1 N^(-2b), by bisection on a plain quadrature."""

    def part(tau: float) -> float:
        return quad(lambda s: (((1 - s) * p**b + s * q**b) ** (1 / b)).sum() ** (-2 * b), 0, tau, epsabs=1e-13)[0]

    low, high, whole = 0.0, 1.0, part(1.0)
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if part(middle) < t * whole else (low, middle)
    return low


def test_alpha_geodesics_from_the_border_of_the_simplex():
    p, q = Categorical.from_probs([1.0, 0.0, 0.0]), Categorical.from_probs([0.0, 0.5, 0.5])
    assert difference_of_probs(alpha_geodesic(p, q, TIMES, alpha=0.0), geodesic(p, q, TIMES)) < 1e-9
    middle = alpha_geodesic(p, q, 0.5, alpha=0.5).probs
    assert middle[1] == middle[2] > 0
    for call in (lambda: alpha_geodesic(p, q, 0.5, alpha=1.5), lambda: exponential_geodesic(p, q, 0.5)):
        with pytest.raises(DomainError, match="border"):
            call()


def difference_of_probs(p: Any, q: Any) -> float:
    return float(np.abs(p.probs - q.probs).max())


@pytest.mark.parametrize("alpha", [-0.5, 0.5])
def test_one_parameter_alpha_geodesics_in_closed_form(alpha):
    """For one parameter, int g^((1-alpha)/2) dtheta runs evenly: rate^((1-alpha)/2) of Poisson, rate^alpha here."""
    rates = alpha_geodesic(Poisson(0.2), Poisson(9.0), TIMES, alpha=alpha).rate
    power = (1 - alpha) / 2
    expected = ((1 - TIMES) * 0.2**power + TIMES * 9.0**power) ** (1 / power)
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    rates = alpha_geodesic(Exponential(0.2), Exponential(9.0), TIMES, alpha=alpha).rate
    expected = ((1 - TIMES) * 0.2**alpha + TIMES * 9.0**alpha) ** (1 / alpha)
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


def test_alpha_geodesics_of_diagonal_normals_are_those_of_the_coordinates():
    p, q = members("DiagonalGaussian", 2)
    whole = alpha_geodesic(p, q, TIMES, alpha=0.4)
    for i in range(2):
        one, other = (DiagonalGaussian(x.mean[i : i + 1], x.var[i : i + 1]) for x in (p, q))
        part = alpha_geodesic(one, other, TIMES, alpha=0.4)
        np.testing.assert_allclose(whole.mean[:, i], part.mean[:, 0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(whole.var[:, i], part.var[:, 0], rtol=1e-9)


def test_alpha_geodesics_of_batches_and_from_a_member_to_itself():
    p = members("Gamma", 3)
    q = p[1:2]
    points = alpha_geodesic(p, q, TIMES, alpha=0.5)
    assert points.batch_shape == (3, len(TIMES))
    for i in (0, 2):
        assert difference(points[i], alpha_geodesic(p[i], q[0], TIMES, alpha=0.5)) < 1e-12
    np.testing.assert_allclose(points[1].shape, p.shape[1], rtol=1e-14)


def test_with_a_fixed_covariance_all_alpha_geodesics_are_straight():
    p, q = members("SharedCovarianceGaussian", 2)
    for alpha in (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0):
        points = alpha_geodesic(p, q, TIMES, alpha=alpha)
        np.testing.assert_allclose(points.mean, p.mean + TIMES[:, None] * (q.mean - p.mean), rtol=1e-12, atol=1e-14)


def test_far_alpha_geodesics_meet_their_certificate():
    p, q = Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]]), Gaussian([4.0, -3.0], [[0.3, 0.0], [0.0, 6.0]])
    a, record = structure(p, "test")
    result = collocation.solve(record, a, q, TIMES, 0.0)
    assert result.converged
    assert result.residual <= result.tolerance
    points = from_natural(p, result.theta)
    d = float(fisher_rao_distance(p, q))
    assert d > 4
    np.testing.assert_allclose(fisher_rao_distance(p, points[1:]), d * TIMES[1:], rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e150])
@pytest.mark.parametrize("name", ["DiagonalGaussian", "IsotropicGaussian", "Gaussian", "CenteredGaussian"])
def test_units_and_origin_do_not_matter(name, scale):
    """Among normals x -> shift + scale x is an isometry; a mean a million deviations away costs no digits either."""
    p, q = members(name, 2)

    def moved(x):
        values = {f: getattr(x, f) * (scale if f == "mean" else scale**2) for f in x.event_axes}
        if "mean" in values:
            values["mean"] = values["mean"] + 1e6 * scale
        return type(x)(**values)

    near, far = alpha_geodesic(p, q, TIMES, alpha=0.5), alpha_geodesic(moved(p), moved(q), TIMES, alpha=0.5)
    for f in p.event_axes:
        expected = getattr(moved(near), f)
        spread = np.abs(getattr(near, f)).max() * (scale if f == "mean" else scale**2)
        np.testing.assert_allclose(getattr(far, f) / spread, expected / spread, atol=1e-8)


@pytest.mark.parametrize(
    ("p", "q", "field"),
    [
        (Gamma(2.0, 3.0), Gamma(0.5, 1.0), "rate"),
        (Exponential(2.0), Exponential(0.5), "rate"),
        (InverseGaussian(2.0, 3.0), InverseGaussian(0.5, 1.0), "mean"),
        (LogNormal(2.0, 3.0), LogNormal(0.5, 1.0), "mean"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_units_of_positive_numbers_do_not_matter(p, q, field):
    def moved(x):
        if isinstance(x, LogNormal):
            return LogNormal(x.mean + 1e3, x.var)
        if isinstance(x, InverseGaussian):
            return InverseGaussian(x.mean * 1e100, x.shape * 1e100)
        return type(x)(**{f: getattr(x, f) * (1e100 if f == "rate" else 1) for f in x.event_axes})

    near, far = alpha_geodesic(p, q, TIMES, alpha=-0.5), alpha_geodesic(moved(p), moved(q), TIMES, alpha=-0.5)
    for f in p.event_axes:
        np.testing.assert_allclose(getattr(far, f), getattr(moved(near), f), rtol=1e-9)
    assert np.ptp(getattr(far, field)) > 0


def test_categoricals_beyond_the_range_of_probabilities():
    """Probabilities of e^-500 and e^-1000: by symmetry the middle has equal logarithms, for all alpha."""
    p, q = Categorical.from_logits([0.0, 500.0, -500.0]), Categorical.from_logits([0.0, -500.0, 500.0])
    for alpha in (-5.0, 0.5, 5.0):
        points = alpha_geodesic(p, q, [0.1, 0.5, 0.9], alpha=alpha).log_probs
        assert points[1, 1] == pytest.approx(points[1, 2], rel=1e-9)
        np.testing.assert_allclose(points[0], points[2, [0, 2, 1]], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("total", [1e-6, 1e-3, 1e4])
def test_dirichlet_from_expectations_at_extreme_totals(total):
    p = Dirichlet(total * np.array([1.0, 2.0, 0.1]))
    np.testing.assert_allclose(from_expectation(p, expectation_parameters(p)).concentration, p.concentration, rtol=1e-7)


def test_no_alpha_geodesic_is_an_error_that_carries_the_state():
    """Rates of Exponential run evenly as rate^alpha: for alpha = -30 and far ends the curve is all at its end."""
    p, q = Exponential(1e-12), Exponential(1e12)
    with pytest.raises(ConvergenceError, match="alpha = -30") as caught:
        alpha_geodesic(p, q, 0.5, alpha=-30.0)
    assert isinstance(caught.value.result, collocation.AlphaGeodesic)
    assert not caught.value.result.converged


# ---------------------------------------------------------------------------------- the theorem of Pythagoras


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in LINES])
def test_pythagoras(name):
    """A right angle at r between the m-geodesic from p and the e-geodesic to q: KL(p, q) = KL(p, r) + KL(r, q)."""
    r, q = members(name, 2)
    g, eta = natural_fisher_information(r), expectation_parameters(r)
    along = natural_parameters(q) - natural_parameters(r)
    across = RNG(0).standard_normal(len(along)) @ np.linalg.cholesky(g).T
    across -= (across @ along) / (along @ g @ along) * (g @ along)  # a rate of eta with along . across = 0
    across *= 0.03 / np.sqrt(across @ np.linalg.solve(g, across))
    p = from_expectation(r, eta + across)
    # the angle, in the coordinates of the family, from the curves themselves
    h = 1e-5
    if name != "SharedCovarianceGaussian":
        out = (exponential_geodesic(r, q, h).coordinates() - r.coordinates()) / h
        back = (mixture_geodesic(r, p, h).coordinates() - r.coordinates()) / h
        size = np.sqrt(inner_product(r, out, out) * inner_product(r, back, back))
        assert abs(inner_product(r, out, back)) < 1e-4 * size
    whole, parts = kl_divergence(p, q), (kl_divergence(p, r), kl_divergence(r, q))
    assert min(parts) > 1e-4
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-8, atol=1e-12)
    # three points at another angle miss it by the inner product of the two straight steps
    moved = from_expectation(r, eta + across + 0.01 * g @ along)
    gap = kl_divergence(moved, r) + kl_divergence(r, q) - kl_divergence(moved, q)
    np.testing.assert_allclose(gap, 0.01 * along @ g @ along, rtol=1e-6)


# --------------------------------------------------------------------------------------------------- projections


def test_the_loaded_die_of_jaynes():
    """Mean 4.5: E. T. Jaynes, Where do we stand on maximum entropy?, 1978, section B."""
    die = Categorical.from_probs(np.full(6, 1 / 6))
    result = exponential_projection(die, [[-5, -4, -3, -2, -1]], [-1.5])
    published = [0.05435, 0.07877, 0.11416, 0.16545, 0.23977, 0.34749]
    np.testing.assert_allclose(result.point.probs, published, atol=6e-6)
    assert result.converged
    assert result.residual < 1e-8
    ratio = result.point.probs[1:] / result.point.probs[:-1]
    np.testing.assert_allclose(np.log(ratio), result.multipliers[0], rtol=1e-9)


@pytest.mark.parametrize("name", PLANES)
def test_projections_against_a_search(name):
    rng = RNG(1)
    p, r = members(name, 3)[:2], members(name, 3)[2]
    n = p.coordinate_size
    rows = rng.standard_normal((1, n))
    wanted = expectation_parameters(r) @ rows.T
    result = exponential_projection(p, rows, wanted)
    q = result.point
    np.testing.assert_allclose(expectation_parameters(q) @ rows.T, np.tile(wanted, (2, 1)), rtol=1e-7, atol=1e-8)
    moved = natural_parameters(q) - natural_parameters(p)
    np.testing.assert_allclose(moved, result.multipliers @ rows, rtol=1e-7, atol=1e-9)
    free = np.linalg.svd(rows)[2][1:]
    g = natural_fisher_information(q)
    for k in range(2):
        for step in 1e-3 * rng.standard_normal((5, n - 1)) @ free:
            other = from_expectation(p, expectation_parameters(q[k]) + np.sqrt(np.diag(g[k])).min() * step)
            assert float(kl_divergence(other, p[k])) > float(kl_divergence(q[k], p[k]))

    back = mixture_projection(p, r, rows)
    for k in range(2):
        for step in (-1e-3, 1e-3):
            other = from_natural(p, natural_parameters(back.point[k]) + step * rows[0])
            assert float(kl_divergence(p[k], other)) > float(kl_divergence(p[k], back.point[k]))
    whole = kl_divergence(p, r) - kl_divergence(p, back.point) - kl_divergence(back.point, r)
    np.testing.assert_allclose(whole, 0, atol=1e-7)


def test_the_nearest_independent_normal_has_the_variances():
    p = members("Gaussian", 3)
    rows = np.delete(np.eye(5), 3, axis=0)
    point = mixture_projection(p, Gaussian(np.zeros(2), np.eye(2)), rows).point
    np.testing.assert_allclose(point.mean, p.mean, atol=1e-9)
    np.testing.assert_allclose(point.cov, p.cov * np.eye(2), atol=1e-9)


def test_projections_refuse_what_they_cannot_do():
    p = Categorical.from_probs([0.2, 0.3, 0.5])
    with pytest.raises(ShapeError, match=r"directions: .*\(k, 2\)"):
        exponential_projection(p, [1.0, 2.0], [0.5])
    with pytest.raises(DomainError, match="rank 1"):
        exponential_projection(p, [[1.0, 2.0], [2.0, 4.0]], [0.5, 1.0])
    with pytest.raises(ShapeError, match="values"):
        exponential_projection(p, [[1.0, 2.0]], [0.5, 1.0])
    with pytest.raises(ShapeError, match="broadcast"):
        exponential_projection(p[None][[0, 0]], [[1.0, 2.0]], np.full((3, 1), 0.5))
    with pytest.raises(DomainError, match="tol: found"):
        exponential_projection(p, [[1.0, 2.0]], [0.5], tol=0.0)
    with pytest.raises(ConvergenceError, match="border") as caught:
        exponential_projection(p, [[1.0, 0.0]], [1.5])  # a probability above one
    assert not caught.value.result.converged
    with pytest.raises(DomainError, match="border"):
        exponential_projection(Categorical.from_probs([0.0, 0.5, 0.5]), [[1.0, 0.0]], [0.5])
    with pytest.raises(UnsupportedFamilyError, match="one family"):
        mixture_projection(p, Poisson(1.0), [[1.0, 0.0]])


# ------------------------------------------------------------------------------------------------------ refusals

ONE = (
    natural_parameters, expectation_parameters, log_partition, dual_potential, natural_fisher_information, cubic_tensor,
)  # fmt: skip


@pytest.mark.parametrize("function", ONE)
def test_families_that_are_not_exponential(function):
    with pytest.raises(UnsupportedFamilyError, match=rf"{function.__name__} .*Weibull: its density .*Exponential"):
        function(Weibull(2.0, 1.0))
    with pytest.raises(UnsupportedFamilyError, match=r"curved part .*to_full"):
        function(LowRankGaussian([0.0, 0.0], [[1.0], [1.0]], [1.0, 1.0]))
    with pytest.raises(UnsupportedFamilyError, match="no density"):
        function(PointMass([1.0]))
    with pytest.raises(UnsupportedFamilyError, match="takes distributions"):
        function([1.0])


@pytest.mark.parametrize("function", [f for f in ONE if f is not expectation_parameters])
@pytest.mark.parametrize("p", [Categorical.from_probs([0.0, 1.0]), Bernoulli(1.0)], ids=["Categorical", "Bernoulli"])
def test_the_border_of_a_family(function, p):
    with pytest.raises(DomainError, match=rf"{function.__name__}: .*border"):
        function(p)
    assert np.isfinite(expectation_parameters(p)).all()


OUTSIDE = [
    (DiagonalGaussian([0.0], [1.0]), [0.0, 1.0], [2.0, 3.9]),
    (Gaussian([0.0], [[1.0]]), [0.0, 1.0], [2.0, 3.9]),
    (CenteredGaussian(np.eye(2)), [-1.0, 3.0, -1.0], [1.0, 2.0, 1.0]),
    (LogNormal(0.0, 1.0), [0.0, 0.0], [2.0, 3.9]),
    (Poisson(1.0), [800.0], [0.0]),
    (Exponential(1.0), [0.5], [-1.0]),
    (Gamma(1.0, 1.0), [1.0, 1.0], [0.0, 0.5]),
    (Gamma(1.0, 1.0), [-1.0, -1.0], [0.0, -0.5]),
    (Beta(1.0, 1.0), [1.0, 0.0], [-0.5, -0.5]),
    (Dirichlet([1.0, 1.0]), [1.0, -1.0], [-0.1, -0.1]),
    (InverseGaussian(1.0, 1.0), [-1.0, 1.0], [2.0, 0.4]),
]


@pytest.mark.parametrize(("p", "theta", "eta"), OUTSIDE, ids=lambda x: "" if isinstance(x, list) else type(x).__name__)
def test_what_lies_outside_the_domains(p, theta, eta):
    name = type(p).__name__
    with pytest.raises(DomainError, match=rf"theta: .*{name}, wanted"):
        from_natural(p, theta)
    with pytest.raises(DomainError, match=rf"eta: .*{name}, wanted"):
        from_expectation(p, eta)


@pytest.mark.parametrize("eta", [[0.6, 0.6], [-0.1, 0.5]])
def test_expectations_that_are_no_probabilities(eta):
    with pytest.raises(DomainError, match=r"eta: .*Categorical"):
        from_expectation(Categorical.from_probs([0.2, 0.3, 0.5]), eta)
    with pytest.raises(DomainError, match=r"eta: .*VonMisesFisher"):
        from_expectation(VonMisesFisher([1.0, 0.0], 1.0), [0.8, 0.6])


def test_arguments_of_wrong_shape():
    p, q = members("Gamma", 2)
    with pytest.raises(ShapeError, match=r"theta: found shape \(3,\), wanted \(..., 2\)"):
        from_natural(p, [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="eta"):
        from_expectation(p, np.zeros((0, 2)))
    with pytest.raises(DomainError, match="finite"):
        from_natural(p, [np.nan, -1.0])
    with pytest.raises(DomainError, match="0 to 1"):
        exponential_geodesic(p, q, 1.5)
    with pytest.raises(ShapeError, match="no times"):
        mixture_geodesic(p, q, [])
    with pytest.raises(ArgumentError, match="alpha"):
        alpha_geodesic(p, q, 0.5, alpha=[0.0, 1.0])  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="alpha"):
        alpha_connection(p, alpha=np.inf)
    with pytest.raises(UnsupportedFamilyError, match="one family"):
        alpha_geodesic(p, Poisson(1.0), 0.5, alpha=0.0)
    with pytest.raises(ShapeError, match="broadcast"):
        bregman_divergence(members("Gamma", 2), members("Gamma", 3))


def test_gradients_are_refused_and_plain_tensors_read():
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'infogeo[transformers]'")
    mean, var = torch.tensor([1.0]), torch.tensor([2.0])
    np.testing.assert_allclose(natural_parameters(DiagonalGaussian(mean, var)), [0.5, -0.25])
    with pytest.raises(DomainError, match="detached"):
        natural_parameters(DiagonalGaussian(mean.requires_grad_(), var))


def test_the_functions_take_the_place_of_a_measure_in_a_plain_loop():
    """Bregman divergence of all pairs, the transpose of pairwise KL."""
    p = members("Gaussian", 3)
    np.testing.assert_allclose(
        bregman_divergence(p[:, None], p[None]), np.asarray(pairwise(kl_divergence, p)).T, rtol=1e-9, atol=1e-12
    )
    assert infogeo.bregman_divergence is bregman_divergence
