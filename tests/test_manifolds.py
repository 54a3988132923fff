"""Half-plane, half-space, positive definite matrices and simplex: five functions each, and how they hang together."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import categorical_distance, categorical_length, exact, half_plane_length, random_covariance

from infogeo import Categorical, DiagonalGaussian, fisher_rao_distance
from infogeo.errors import DomainError, ShapeError
from infogeo.manifolds import half_plane, half_space, simplex, spd

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


# ------------------------------------------------------------------------------------------------------ half-space


spaces = st.tuples(means, means, means, stds).map(np.array)


def half_space_truth(x: np.ndarray, y: np.ndarray):
    """Distance in 60 digits, from the hyperbolic one."""
    with mp.workdps(60):
        d = len(x) - 1
        gap = mp.fsum((a - b) ** 2 for a, b in zip(exact(x[:-1]), exact(y[:-1]), strict=True))
        s1, s2 = exact([x[-1], y[-1]])
        return 2 * mp.sqrt(2 * d) * mp.asinh(mp.sqrt((gap / (2 * d) + (s1 - s2) ** 2) / (4 * s1 * s2)))


@given(spaces, spaces)
@settings(max_examples=40, deadline=None)
def test_half_space_distance_in_60_digits(x, y):
    assert float(half_space.distance(x, y)) == pytest.approx(float(half_space_truth(x, y)), rel=1e-13, abs=1e-300)
    assert float(half_space.distance(x, y)) == pytest.approx(float(half_space.distance(y, x)), rel=1e-15)


@given(points, points)
@settings(max_examples=30, deadline=None)
def test_half_space_of_one_mean_is_the_half_plane(x, y):
    assert float(half_space.distance(x, y)) == pytest.approx(float(half_plane.distance(x, y)), rel=1e-14, abs=1e-300)
    np.testing.assert_allclose(half_space.log(x, y), half_plane.log(x, y), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(half_space.geodesic(x, y, 0.3), half_plane.geodesic(x, y, 0.3), rtol=1e-9, atol=1e-12)
    assert float(half_space.norm(x, y)) == pytest.approx(float(half_plane.norm(x, y)), rel=1e-14)


@given(spaces, spaces)
@settings(max_examples=40, deadline=None)
def test_half_space_log_and_exp_are_inverse(x, y):
    velocity, d = half_space.log(x, y), float(half_space.distance(x, y))
    assert float(half_space.norm(x, velocity)) == pytest.approx(d, rel=1e-12, abs=1e-15)
    # a rounding error of the direction grows by exp(d / sqrt 2d) on the way
    assert float(half_space.distance(half_space.exp(x, velocity), y)) < 1e-13 * np.exp(d / 6**0.5) + 1e-13


@given(spaces, spaces, st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_half_space_geodesic_has_constant_speed_and_meets_its_ends(x, y, t):
    d, z = float(half_space.distance(x, y)), half_space.geodesic(x, y, t)
    assert float(half_space.distance(x, z)) == pytest.approx(t * d, abs=1e-9 * (1 + d))
    assert float(half_space.distance(z, y)) == pytest.approx((1 - t) * d, abs=1e-9 * (1 + d))
    np.testing.assert_allclose(half_space.geodesic(x, y, [0.0, 1.0]), [x, y], rtol=1e-13, atol=1e-13)


def test_half_space_geodesic_solves_the_geodesic_equation():
    """m'' = 2 m' s' / s and s'' = (s'^2 - |m'|^2 / 2d) / s, from the Christoffel symbols of the metric."""
    x, y, h = np.array([0.0, 1.0, -1.0, 1.0]), np.array([2.0, 0.0, 1.0, 0.4]), 1e-4
    for t in (0.1, 0.5, 0.9):
        before, here, after = half_space.geodesic(x, y, [t - h, t, t + h])
        rate, change, s = (after - before) / (2 * h), (after - 2 * here + before) / h**2, here[-1]
        np.testing.assert_allclose(change[:-1], 2 * rate[:-1] * rate[-1] / s, atol=1e-5)
        assert change[-1] == pytest.approx((rate[-1] ** 2 - rate[:-1] @ rate[:-1] / 6) / s, abs=1e-5)


def test_half_space_isometries():
    """Shifts and rotations of the means, common scalings of means and standard deviation."""
    rng = RNG(1)
    x, y = (np.concatenate([rng.standard_normal((20, 3)), np.exp(rng.standard_normal((20, 1)))], -1) for _ in range(2))
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    a, b = (5.0 * z @ turn + [7.0, -1.0, 2.0, 0.0] for z in (x, y))
    np.testing.assert_allclose(half_space.distance(a, b), half_space.distance(x, y), rtol=1e-12)
    np.testing.assert_allclose(half_space.log(a, b), 5.0 * half_space.log(x, y) @ turn, rtol=1e-9, atol=1e-9)


def test_half_space_holds_at_the_ends_of_float64():
    for x, y in (([0.0, 1e200, 1e-100], [1e200, 0.0, 1e100]), ([1.7e308, 0.0, 1e300], [-1.7e308, 0.0, 1e300])):
        truth = half_space_truth(np.array(x), np.array(y))
        assert float(half_space.distance(x, y)) == pytest.approx(float(truth), rel=1e-14)
    x, y = np.array([1e200, 1e200, 1.0]), np.array([0.0, 0.0, 1.0])
    assert float(half_space.norm(x, half_space.log(x, y))) == pytest.approx(float(half_space.distance(x, y)), rel=1e-13)
    with pytest.raises(DomainError, match="difference is too large for float64"):
        half_space.log([1.7e308, 0.0, 1e300], [-1.7e308, 0.0, 1e300])
    with pytest.raises(DomainError, match="difference is too large for float64"):
        half_plane.geodesic([1.7e308, 1e300], [-1.7e308, 1e300], 0.5)
    with pytest.raises(DomainError, match="more than 1e300 standard deviations apart"):
        half_space.log([1e300, 0.0, 1e-300], [0.0, 0.0, 1e-300])


def test_half_space_shapes():
    x = np.array([[0.0, 1.0, 1.0], [1.0, 2.0, 2.0], [2.0, -3.0, 0.5]])
    assert half_space.distance(x[:, None], x[None]).shape == (3, 3)
    assert half_space.geodesic(x, x[::-1], 0.5).shape == (3, 3)
    assert half_space.geodesic(x, x[::-1], np.linspace(0, 1, 7)).shape == (3, 7, 3)
    assert half_space.geodesic(x[0], x, [0.5]).shape == (3, 1, 3)
    assert half_space.log(x[:, None], x[None]).shape == (3, 3, 3)
    assert half_space.exp(x[0], x).shape == (3, 3)
    np.testing.assert_array_equal(half_space.log(x, x), 0)
    np.testing.assert_array_equal(half_space.exp(x, np.zeros((3, 3))), x)
    np.testing.assert_array_equal(half_space.geodesic(x, x, 0.3), x)
    loop = [[half_space.distance(a, b) for b in x] for a in x]
    np.testing.assert_allclose(half_space.distance(x[:, None], x[None]), loop, rtol=1e-14)


def test_half_space_guards():
    with pytest.raises(DomainError, match=r"y: found standard deviation 0\.0; standard deviations must be positive"):
        half_space.distance([0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    with pytest.raises(ShapeError, match=r"x: found shape \(1,\), wanted \(..., d \+ 1\)"):
        half_space.log([1.0], [0.0, 1.0])
    with pytest.raises(ShapeError, match=r"dimensions differ: x \(3,\), y \(2,\)"):
        half_space.distance([0.0, 0.0, 1.0], [0.0, 1.0])
    with pytest.raises(ShapeError, match="do not broadcast"):
        half_space.norm(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(DomainError, match=r"velocity: entry \(0,\) is nan"):
        half_space.exp([0.0, 1.0], [np.nan, 0.0])
    with pytest.raises(DomainError, match="leaves the range of float64"):
        half_space.exp([0.0, 0.0, 1.0], [0.0, 0.0, 1000.0])
    with pytest.raises(ShapeError, match=r"t: found shape \(1, 1\)"):
        half_space.geodesic([0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [[0.5]])


# -------------------------------------------------------------------------------------- positive definite matrices


def spd_truth(x: np.ndarray, y: np.ndarray):
    """Root of half the sum of squared logarithms of the eigenvalues of S^-1 T, in 90 digits."""
    with mp.workdps(90):
        a, b = (mp.matrix([exact(row) for row in z]) for z in (x, y))
        whitening = mp.cholesky(a) ** -1
        whitened = whitening * b * whitening.T
        values = mp.eigsy((whitened + whitened.T) / 2, eigvals_only=True)
        return mp.sqrt(mp.fsum(mp.log(v) ** 2 for v in values) / 2)


def conditioned(condition: float, d: int, rng: np.random.Generator) -> np.ndarray:
    """A covariance in random directions, with eigenvalues from condition^-1/2 to condition^1/2."""
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    exponents = np.concatenate([[-0.5, 0.5], rng.uniform(-0.5, 0.5, d - 2)])
    cov = basis * condition**exponents @ basis.T
    return (cov + cov.T) / 2


def nearby(x: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A covariance about ``scale`` from x."""
    low, step = np.linalg.cholesky(x), rng.standard_normal(x.shape)
    change = low @ (step + step.T) @ low.T / 2
    return x + scale * (change + change.T) / 2


SPD_LIMITS = [(1.0, 1e-14), (1e2, 2e-13), (1e4, 2e-12), (1e8, 2e-12), (1e12, 1e-10)]
"""Condition numbers, and the relative error of the distance allowed for them."""


@pytest.mark.parametrize(("condition", "limit"), SPD_LIMITS)
@pytest.mark.parametrize("scale", [1e-9, 1e-5, 0.1])
def test_spd_distance_of_close_matrices_in_90_digits(condition, limit, scale):
    rng = RNG(2)
    for d in (2, 4):
        x = conditioned(condition, d, rng)
        y = nearby(x, scale, rng)
        truth = spd_truth(x, y)
        assert truth < 10 * scale + 1e-3
        for d in (spd.distance(x, y), spd.distance(y, x)):
            assert float(abs(mp.mpf(float(d)) - truth) / truth) < limit


@pytest.mark.parametrize(("condition", "limit"), SPD_LIMITS)
def test_spd_distance_of_far_matrices_in_90_digits(condition, limit):
    """Also with quite other sizes, and with scales of the components that differ by the condition."""
    rng = RNG(3)
    for d in (2, 4):
        x, y = (conditioned(condition, d, rng) for _ in range(2))
        graded = np.exp(rng.uniform(-0.25, 0.25, (2, d)) * np.log(condition))
        moderate = conditioned(10.0, d, rng), conditioned(1e5, d, rng)
        bent = [z * g[:, None] * g for z, g in zip(moderate, graded, strict=True)]
        for a, b in ((x, y), (x, 1e9 * y), tuple(bent)):
            truth = spd_truth(a, b)
            allowed = limit if a is x else max(limit, 1e-11)
            for found in (spd.distance(a, b), spd.distance(b, a)):
                assert float(abs(mp.mpf(float(found)) - truth) / truth) < allowed


def test_spd_distances_to_forty():
    """Along a geodesic, whose length is known."""
    rng = RNG(4)
    x, velocity = random_covariance(3, rng), random_covariance(3, rng)
    velocity /= spd.norm(x, velocity)
    for length in (1e-9, 1e-3, 1.0, 10.0):
        found = float(spd.distance(x, spd.exp(x, length * velocity)))
        assert found == pytest.approx(length, rel=1e-10, abs=1e-14)
    for length in (20.0, 40.0):
        expected = spd_truth(np.eye(2), np.diag([np.exp(length), np.exp(-length)]))
        found = spd.distance(np.eye(2), np.diag([np.exp(length), np.exp(-length)]))
        assert float(found) == pytest.approx(float(expected), rel=1e-14)
        assert float(found) == pytest.approx(length, rel=1e-14)


def test_spd_distance_holds_at_the_ends_of_float64():
    eye = np.eye(2)
    for x, y, expected in (
        (1e-300 * eye, 1e300 * eye, np.log(1e300) * 2),
        (np.diag([1e-300, 1e300]), np.diag([1e300, 1e-300]), np.log(1e300) * 2),
        (np.diag([1e-300, 1e300]), eye, np.log(1e300)),
        (1e300 * eye, 1.7e308 * eye, np.log(1.7e8)),
    ):
        assert float(spd.distance(x, y)) == pytest.approx(expected, rel=1e-13)
        assert float(spd.distance(y, x)) == pytest.approx(expected, rel=1e-13)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-2, 1.0, 3.0]))
@settings(max_examples=30, deadline=None)
def test_spd_log_and_exp_are_inverse_and_geodesics_run_at_constant_speed(seed, scale):
    rng = RNG(seed)
    x = random_covariance(3, rng)
    step = rng.standard_normal((3, 3))
    low, (values, basis) = np.linalg.cholesky(x), np.linalg.eigh(step + step.T)
    y = low @ (basis * np.exp(scale * values) @ basis.T) @ low.T
    y = (y + y.T) / 2
    assume(np.linalg.cond(y) < 1e14)  # from some 1e15 on a matrix is refused as singular
    d, velocity = float(spd.distance(x, y)), spd.log(x, y)
    np.testing.assert_allclose(velocity, velocity.T, atol=1e-14 * np.abs(velocity).max())
    rounding = 1e-13 * np.linalg.cond(x) * max(1.0, np.linalg.cond(y))
    assert float(spd.norm(x, velocity)) == pytest.approx(d, rel=1e-12 * np.linalg.cond(x))
    assert float(spd.distance(spd.exp(x, velocity), y)) < rounding
    assert float(spd.norm(x, spd.log(x, spd.exp(x, velocity)) - velocity)) < rounding
    arc = spd.geodesic(x, y, [0.0, 0.3, 0.5, 1.0])
    np.testing.assert_allclose(arc[[0, -1]], [x, y], rtol=1e-11, atol=1e-13)
    for t, z in ((0.3, arc[1]), (0.5, arc[2])):
        assert float(spd.distance(x, z)) == pytest.approx(t * d, abs=rounding)
        assert float(spd.distance(z, y)) == pytest.approx((1 - t) * d, abs=rounding)


def test_spd_geodesic_solves_the_geodesic_equation():
    """S'' = S' S^-1 S'; it starts with the velocity of the logarithm."""
    rng = RNG(5)
    x, y, h = random_covariance(3, rng), random_covariance(3, rng), 1e-3
    for t in (0.2, 0.5, 0.8):
        before, here, after = spd.geodesic(x, y, [t - h, t, t + h])
        rate, change = (after - before) / (2 * h), (after - 2 * here + before) / h**2
        np.testing.assert_allclose(change, rate @ np.linalg.solve(here, rate), atol=1e-3 * np.abs(change).max())
    derivative = directional_derivative(lambda t: spd.geodesic(x, y, t), 0.0, h=1e-4)
    np.testing.assert_allclose(derivative, spd.log(x, y), rtol=1e-5, atol=1e-6)


def test_spd_of_diagonal_matrices_are_logarithms():
    x, y = np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 1.0, 3.0])
    logs = np.log([4.0, 0.5, 1.0])
    assert float(spd.distance(x, y)) == pytest.approx(np.sqrt((logs**2).sum() / 2), rel=1e-15)
    np.testing.assert_allclose(spd.log(x, y), np.diag([1.0, 2.0, 3.0] * logs), atol=1e-15)
    np.testing.assert_allclose(spd.geodesic(x, y, 0.25), np.diag([1.0, 2.0, 3.0] * np.exp(logs / 4)), rtol=1e-14)
    np.testing.assert_allclose(spd.exp(x, x), np.e * x, rtol=1e-15)
    assert float(spd.norm(x, np.diag([1.0, 2.0, 3.0]))) == pytest.approx(1.5**0.5, rel=1e-15)


def test_spd_is_invariant_under_congruence_and_inversion():
    rng = RNG(6)
    x, y = (np.stack([random_covariance(3, rng) for _ in range(5)]) for _ in range(2))
    a = rng.standard_normal((3, 3)) + 2 * np.eye(3)

    def moved(z):
        return a @ z @ a.T

    np.testing.assert_allclose(spd.distance(moved(x), moved(y)), spd.distance(x, y), rtol=1e-10)
    np.testing.assert_allclose(spd.distance(np.linalg.inv(x), np.linalg.inv(y)), spd.distance(x, y), rtol=1e-10)
    np.testing.assert_allclose(spd.log(moved(x), moved(y)), moved(spd.log(x, y)), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(spd.exp(moved(x), moved(y)), moved(spd.exp(x, y)), rtol=1e-8)
    np.testing.assert_allclose(spd.geodesic(moved(x), moved(y), 0.7), moved(spd.geodesic(x, y, 0.7)), rtol=1e-10)
    np.testing.assert_allclose(spd.norm(moved(x), moved(y)), spd.norm(x, y), rtol=1e-10)


def test_spd_shapes():
    rng = RNG(7)
    x = np.stack([random_covariance(2, rng) for _ in range(3)])
    assert spd.distance(x[:, None], x[None]).shape == (3, 3)
    assert spd.geodesic(x, x[::-1], 0.5).shape == (3, 2, 2)
    assert spd.geodesic(x, x[::-1], np.linspace(0, 1, 7)).shape == (3, 7, 2, 2)
    assert spd.log(x[:, None], x[None]).shape == (3, 3, 2, 2)
    assert spd.exp(x[0], x).shape == (3, 2, 2)
    assert spd.norm(x[0], x).shape == (3,)
    np.testing.assert_array_equal(spd.distance(x, x), 0)
    np.testing.assert_array_equal(spd.log(x, x), 0)
    np.testing.assert_allclose(spd.exp(x, np.zeros((3, 2, 2))), x, rtol=1e-14)
    loop = [[float(spd.distance(a, b)) for b in x] for a in x]
    np.testing.assert_allclose(spd.distance(x[:, None], x[None]), loop, rtol=1e-13)
    # members that need the finer arithmetic do not change the others
    mixed = np.concatenate([x, conditioned(1e10, 2, rng)[None]])
    np.testing.assert_allclose(spd.distance(mixed[:, None], mixed[None])[:3, :3], loop, rtol=1e-13)


def test_spd_guards():
    eye = np.eye(2)
    with pytest.raises(ShapeError, match=r"y: found shape \(2, 3\), wanted \(..., d, d\)"):
        spd.distance(eye, np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"x: found shape \(\)"):
        spd.distance(1.0, eye)
    with pytest.raises(ShapeError, match=r"sizes of the matrices differ: x \(2, 2\), y \(3, 3\)"):
        spd.log(eye, np.eye(3))
    with pytest.raises(ShapeError, match="do not broadcast"):
        spd.distance(np.stack([eye] * 2), np.stack([eye] * 3))
    with pytest.raises(DomainError, match="y: not symmetric"):
        spd.distance(eye, [[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(DomainError, match="x: not positive definite"):
        spd.distance(np.ones((2, 2)), eye)
    with pytest.raises(DomainError, match=r"x: entry \(0, 0\) is nan"):
        spd.norm([[np.nan, 0.0], [0.0, 1.0]], eye)
    with pytest.raises(DomainError, match="velocity: not symmetric, mirror entries differ by up to 1"):
        spd.exp(eye, [[0.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ShapeError, match="sizes of the matrices differ"):
        spd.norm(eye, np.eye(3))
    with pytest.raises(DomainError, match=r"length up to 565\.7 leaves the range of float64"):
        spd.exp(eye, np.diag([800.0, 0.0]))
    with pytest.raises(DomainError, match="leaves the range of float64"):
        spd.exp(eye, np.diag([-800.0, 0.0]))
    with pytest.raises(ShapeError, match=r"t: found shape \(1, 1\)"):
        spd.geodesic(eye, eye, [[0.5]])


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
