"""The half-plane of univariate normals and the simplex: five functions each, and how they hang together."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import categorical_distance, categorical_length, half_plane_length

from infogeo import Categorical, DiagonalGaussian, fisher_rao_distance
from infogeo.errors import DomainError, ShapeError
from infogeo.manifolds import half_plane, simplex

RNG = np.random.default_rng

means = st.floats(-20, 20)
stds = st.floats(-3, 3).map(lambda x: float(np.exp(x)))
points = st.tuples(means, stds).map(np.array)
weights = st.lists(st.floats(-4, 4), min_size=5, max_size=5).map(lambda x: np.exp(x) / np.exp(x).sum())


def directional_derivative(curve, t: float, h: float = 1e-5) -> np.ndarray:
    return (curve(t + h) - curve(t - h)) / (2 * h)


# ------------------------------------------------------------------------------------------------------ half-plane


@given(points, points)
@settings(max_examples=60, deadline=None)
def test_half_plane_distance_is_the_family_s_and_the_length_of_the_arc(x, y):
    d = float(half_plane.distance(x, y))
    p, q = (DiagonalGaussian(a[:1], a[1:] ** 2) for a in (x, y))
    assert d == pytest.approx(float(fisher_rao_distance(p, q)), rel=1e-12, abs=1e-15)
    if abs(x[0] - y[0]) > 1e-3:
        assert d == pytest.approx(half_plane_length(*x, *y), rel=1e-9)


@given(points, points)
@settings(max_examples=60, deadline=None)
def test_half_plane_log_points_at_the_other_end_with_the_distance_as_its_norm(x, y):
    velocity = half_plane.log(x, y)
    d = float(half_plane.distance(x, y))
    assert float(half_plane.norm(x, velocity)) == pytest.approx(d, rel=1e-12, abs=1e-15)
    end = half_plane.exp(x, velocity)
    # a rounding error of the direction grows by exp(d / sqrt 2) on the way
    assert float(half_plane.distance(end, y)) < 1e-13 * np.exp(d / 2**0.5) + 1e-13


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e-2])
def test_half_plane_log_keeps_its_digits_for_near_points(scale):
    x = np.array([3.0, 0.7])
    y = x + scale * np.array([0.3, -0.4])
    with mp.workdps(60):
        m1, s1, m2, s2 = (mp.mpf(float(v)) for v in (*x, *y))
        u, v = (m2 - m1) / (mp.sqrt(2) * s1), s2 / s1
        r = mp.acosh(1 + (u**2 + (v - 1) ** 2) / (2 * v))
        across, up = u / v / mp.sinh(r), (u**2 + v**2 - 1) / (2 * v) / mp.sinh(r)
        truth = [float(mp.sqrt(2) * s1 * r * across), float(s1 * r * up)]
    np.testing.assert_allclose(half_plane.log(x, y), truth, rtol=1e-13)


@given(points, points, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_half_plane_geodesic_has_constant_speed_and_shortest_length(x, y, t):
    d = float(half_plane.distance(x, y))
    z = half_plane.geodesic(x, y, t)
    assert float(half_plane.distance(x, z)) == pytest.approx(t * d, abs=1e-9 * (1 + d))
    assert float(half_plane.distance(z, y)) == pytest.approx((1 - t) * d, abs=1e-9 * (1 + d))


def test_half_plane_geodesics_lie_on_half_ellipses_around_the_axis():
    x, y = np.array([-1.0, 0.5]), np.array([4.0, 2.0])
    arc = half_plane.geodesic(x, y, np.linspace(0, 1, 50))
    u, s = arc[:, 0] / 2**0.5, arc[:, 1]
    center = (u[-1] ** 2 + s[-1] ** 2 - u[0] ** 2 - s[0] ** 2) / (2 * (u[-1] - u[0]))
    radius = np.hypot(u - center, s)
    np.testing.assert_allclose(radius, radius[0], rtol=1e-13)


def test_half_plane_geodesic_solves_the_geodesic_equation():
    """m'' = 2 m' s' / s and s'' = (s'^2 - m'^2 / 2) / s, from the Christoffel symbols of the metric."""
    x, y, h = np.array([0.0, 1.0]), np.array([2.0, 0.4]), 1e-4
    for t in (0.1, 0.5, 0.9):
        before, here, after = half_plane.geodesic(x, y, [t - h, t, t + h])
        (dm, ds), (ddm, dds), s = (after - before) / (2 * h), (after - 2 * here + before) / h**2, here[1]
        assert ddm == pytest.approx(2 * dm * ds / s, abs=1e-5)
        assert dds == pytest.approx((ds**2 - dm**2 / 2) / s, abs=1e-5)


@pytest.mark.parametrize("std", [1e-3, 1.0, 5.0])
def test_half_plane_vertical_geodesics(std):
    x, y = np.array([2.0, 1.0]), np.array([2.0, std])
    arc = half_plane.geodesic(x, y, np.linspace(-0.5, 1.5, 9))
    assert (arc[:, 0] == 2.0).all()
    np.testing.assert_allclose(arc[:, 1], std ** np.linspace(-0.5, 1.5, 9), rtol=1e-13)
    np.testing.assert_allclose(half_plane.log(x, y), [0.0, np.log(std)], atol=1e-15, rtol=1e-13)
    assert float(half_plane.distance(x, y)) == pytest.approx(2**0.5 * abs(np.log(std)), abs=1e-15)


def test_half_plane_nearly_vertical_geodesics_bend_the_right_way():
    x, y = np.array([0.0, 1.0]), np.array([1e-12, 1e6])
    arc = half_plane.geodesic(x, y, np.linspace(0, 1, 5))
    assert (np.diff(arc[:, 0]) >= 0).all()
    np.testing.assert_allclose(arc[:, 1], 1e6 ** np.linspace(0, 1, 5), rtol=1e-9)
    np.testing.assert_allclose(arc[[0, -1]], [x, y], rtol=1e-15)


def test_half_plane_geodesics_meet_both_ends_far_out():
    x, y = np.array([0.0, 1e-8]), np.array([1.0, 1e-8])  # distance 51
    arc = half_plane.geodesic(x, y, np.linspace(0, 1, 11))
    np.testing.assert_allclose(arc[[0, -1]], [x, y], rtol=1e-12)
    d = half_plane.distance(arc[:-1], arc[1:])
    np.testing.assert_allclose(d, half_plane.distance(x, y) / 10, rtol=1e-6)
    np.testing.assert_allclose(arc[5], [0.5, 0.5 / 2**0.5], rtol=1e-6)


def test_half_plane_starting_velocity_is_the_log():
    x, y = np.array([1.0, 0.5]), np.array([-2.0, 3.0])
    derivative = directional_derivative(lambda t: half_plane.geodesic(x, y, t), 0.0)
    np.testing.assert_allclose(derivative, half_plane.log(x, y), rtol=1e-7)


def test_half_plane_isometries():
    """Shifts and common scalings of mean and standard deviation."""
    rng = RNG(0)
    x, y = (np.stack([rng.standard_normal(20), np.exp(rng.standard_normal(20))], -1) for _ in range(2))
    shift, scale = np.array([7.0, 0.0]), 3.0
    a, b = scale * x + shift, scale * y + shift
    np.testing.assert_allclose(half_plane.distance(a, b), half_plane.distance(x, y), rtol=1e-12)
    np.testing.assert_allclose(half_plane.log(a, b), scale * half_plane.log(x, y), rtol=1e-9)


def test_half_plane_shapes():
    x = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 0.5]])
    assert half_plane.distance(x[:, None], x[None]).shape == (3, 3)
    assert half_plane.geodesic(x, x[::-1], 0.5).shape == (3, 2)
    assert half_plane.geodesic(x, x[::-1], np.linspace(0, 1, 7)).shape == (3, 7, 2)
    assert half_plane.geodesic(x[0], x[1], [0.5]).shape == (1, 2)
    assert half_plane.log(x[:, None], x[None]).shape == (3, 3, 2)
    np.testing.assert_array_equal(half_plane.log(x, x), 0)
    np.testing.assert_array_equal(half_plane.exp(x, np.zeros((3, 2))), x)
    np.testing.assert_array_equal(half_plane.geodesic(x, x, 0.3), x)


def test_half_plane_guards():
    with pytest.raises(DomainError, match=r"y: found standard deviation 0\.0; standard deviations must be positive"):
        half_plane.distance([0.0, 1.0], [0.0, 0.0])
    with pytest.raises(ShapeError, match=r"x: found shape \(3,\), wanted \(..., 2\)"):
        half_plane.log([0.0, 1.0, 2.0], [0.0, 1.0])
    with pytest.raises(ShapeError, match="do not broadcast"):
        half_plane.distance(np.ones((2, 2)), np.ones((3, 2)))
    with pytest.raises(ShapeError, match="do not broadcast"):
        half_plane.norm(np.ones((2, 2)), np.ones((3, 2)))
    with pytest.raises(DomainError, match=r"velocity: entry \(0,\) is nan"):
        half_plane.exp([0.0, 1.0], [np.nan, 0.0])
    with pytest.raises(DomainError, match="leaves the range of float64"):
        half_plane.exp([0.0, 1.0], [0.0, 1000.0])
    with pytest.raises(DomainError, match="leaves the range of float64"):
        half_plane.exp([0.0, 1.0], [0.0, -1000.0])
    with pytest.raises(ShapeError, match=r"t: found shape \(1, 1\)"):
        half_plane.geodesic([0.0, 1.0], [1.0, 1.0], [[0.5]])


# --------------------------------------------------------------------------------------------------------- simplex


@given(weights, weights)
@settings(max_examples=60, deadline=None)
def test_simplex_distance_is_the_family_s_and_the_length_of_the_arc(p, q):
    d = float(simplex.distance(p, q))
    expected = float(fisher_rao_distance(Categorical.from_probs(p), Categorical.from_probs(q)))
    assert d == pytest.approx(expected, rel=1e-7, abs=1e-14)
    if d > 0.01:
        assert d == pytest.approx(categorical_length(p, q), rel=1e-8)


def test_simplex_log_of_points_that_differ_by_rounding_is_a_velocity():
    p = np.full(5, 0.2)
    q = np.array([1, 1, 1, 1, 1 + 2e-15]) / 5
    velocity = simplex.log(p, q)
    assert velocity.any()
    np.testing.assert_allclose(simplex.exp(p, velocity), q, atol=1e-14)
    np.testing.assert_allclose(simplex.exp(p, [-5e-324, 0.0, 0.0, 0.0, 0.0]), p, rtol=1e-15)


def test_half_plane_distance_holds_at_the_ends_of_float64():
    x, y = np.array([0.0, 1e-300]), np.array([1e200, 1e-300])
    with mp.workdps(60):
        truth = 2 * mp.sqrt(2) * mp.asinh(mp.mpf(1e200) / mp.mpf(1e-300) / mp.sqrt(8))
    assert float(half_plane.distance(x, y)) == pytest.approx(float(truth), rel=1e-14)
    assert float(half_plane.distance([-1.7e308, 1e300], [1.7e308, 1e300])) == pytest.approx(
        float(2 * mp.sqrt(2) * mp.asinh(2 * mp.mpf(1.7e308) / mp.mpf(1e300) / mp.sqrt(8))), rel=1e-14
    )


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e-2])
def test_simplex_distance_keeps_its_digits_for_near_points(scale):
    p = np.array([0.25, 0.5, 0.25])
    q = p + scale * np.array([0.5, -1.0, 0.5])
    truth = categorical_distance(Categorical.from_probs(p), Categorical.from_probs(q))
    assert float(simplex.distance(p, q)) == pytest.approx(float(truth), rel=1e-7)
    with mp.workdps(60):
        a, b = ([mp.mpf(float(v)) for v in x] for x in (p, q))
        cosine = mp.fsum(mp.sqrt(s * t) for s, t in zip(a, b, strict=True)) / mp.sqrt(mp.fsum(a) * mp.fsum(b))
        exact = 2 * mp.acos(cosine)
    assert float(simplex.distance(p, q)) == pytest.approx(float(exact), rel=1e-12)


@given(weights, weights)
@settings(max_examples=60, deadline=None)
def test_simplex_log_and_exp_are_inverse(p, q):
    velocity = simplex.log(p, q)
    assert abs(velocity.sum()) < 1e-14
    assert float(simplex.norm(p, velocity)) == pytest.approx(float(simplex.distance(p, q)), rel=1e-9, abs=1e-15)
    np.testing.assert_allclose(simplex.exp(p, velocity), q, atol=1e-14)


@given(weights, weights, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_simplex_geodesic_has_constant_speed_and_shortest_length(p, q, t):
    d = float(simplex.distance(p, q))
    z = simplex.geodesic(p, q, t)
    assert z.sum() == pytest.approx(1.0, abs=1e-14)
    assert float(simplex.distance(p, z)) == pytest.approx(t * d, abs=1e-12)
    assert float(simplex.distance(z, q)) == pytest.approx((1 - t) * d, abs=1e-12)
    np.testing.assert_allclose(simplex.exp(p, t * simplex.log(p, q)), z, atol=1e-13)


def test_simplex_geodesic_crosses_between_corners():
    corners = np.eye(3)
    arc = simplex.geodesic(corners[0], corners[1], np.linspace(0, 1, 5))
    angles = np.linspace(0, np.pi / 2, 5)
    np.testing.assert_allclose(arc, np.stack([np.cos(angles) ** 2, np.sin(angles) ** 2, 0 * angles], -1), atol=1e-15)
    assert float(simplex.distance(corners[0], corners[1])) == pytest.approx(np.pi, rel=1e-15)


def test_simplex_starting_velocity_is_the_log():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    derivative = (simplex.geodesic(p, q, 1e-6) - p) / 1e-6
    np.testing.assert_allclose(derivative, simplex.log(p, q), atol=1e-5)


def test_simplex_shapes():
    p = RNG(0).dirichlet(np.ones(4), size=3)
    assert simplex.distance(p[:, None], p[None]).shape == (3, 3)
    assert simplex.geodesic(p, p[::-1], 0.5).shape == (3, 4)
    assert simplex.geodesic(p, p[::-1], np.linspace(0, 1, 7)).shape == (3, 7, 4)
    assert simplex.log(p[:, None], p[None]).shape == (3, 3, 4)
    np.testing.assert_array_equal(simplex.log(p, p), 0)
    np.testing.assert_allclose(simplex.exp(p, np.zeros((3, 4))), p, rtol=1e-15)
    np.testing.assert_allclose(simplex.geodesic(p, p, 0.3), p, rtol=1e-15)


def test_simplex_exp_stops_at_the_border():
    p = np.array([0.5, 0.5])
    toward_corner = simplex.log(p, np.array([1.0, 0.0]))
    np.testing.assert_allclose(simplex.exp(p, toward_corner), [1.0, 0.0], atol=1e-15)
    for factor in (1.01, 3.0, 8.0):
        with pytest.raises(DomainError, match="meets the border of the simplex"):
            simplex.exp(p, factor * toward_corner)


def test_simplex_guards():
    p = [0.5, 0.5]
    with pytest.raises(DomainError, match=r"q: a row sums to 0\.9, wanted 1 within 1e-09"):
        simplex.distance(p, [0.4, 0.5])
    with pytest.raises(DomainError, match=r"p: found probability -0\.5"):
        simplex.distance([1.5, -0.5], p)
    with pytest.raises(DomainError, match="at the border of the simplex the metric is infinite"):
        simplex.log([1.0, 0.0], p)
    with pytest.raises(DomainError, match="at the border"):
        simplex.norm([1.0, 0.0], [0.0, 0.0])
    with pytest.raises(DomainError, match=r"velocity: found rates with sum 0.5, wanted sum 0"):
        simplex.exp(p, [0.5, 0.0])
    with pytest.raises(DomainError, match="between 0 and 1"):
        simplex.geodesic(p, p, 1.5)
    with pytest.raises(ShapeError, match="numbers of outcomes differ"):
        simplex.distance(p, [0.2, 0.3, 0.5])
    with pytest.raises(ShapeError, match="do not broadcast"):
        simplex.distance([p] * 2, [p] * 3)
    with pytest.raises(ShapeError, match="at least one outcome"):
        simplex.distance(1.0, 1.0)
    with pytest.raises(ShapeError, match=r"t: found shape \(1, 1\)"):
        simplex.geodesic(p, p, [[0.5]])
