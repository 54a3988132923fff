"""Gaussian channels: water-filling, vector channels, rates, and water-filling in reverse."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import infogeo
from infogeo import (
    gaussian_mimo_capacity,
    gaussian_rate,
    gaussian_rate_distortion,
    reverse_water_filling,
    water_filling,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError

EPS = np.finfo(float).eps


def slow_powers(gains, power, noise):
    """Bisection of the level until no number lies between the ends."""
    floors = [n / g if g > 0 else np.inf for g, n in zip(gains, noise, strict=True)]
    low, high = min(floors), min(floors) + power
    for _ in range(2000):
        level = (low + high) / 2
        if level in (low, high):
            break
        if sum(max(level - f, 0.0) for f in floors) > power:
            high = level
        else:
            low = level
    return np.array([max(low - f, 0.0) for f in floors]), low


def random_covariance(rng, d, *, complex_numbers=False):
    root = rng.normal(size=(d, d))
    if complex_numbers:
        root = root + 1j * rng.normal(size=(d, d))
    return root @ root.conj().T + 0.1 * np.eye(d)


# ---------------------------------------------------------------------------------------------- water-filling


def test_two_channels_of_the_reference():
    """The line about water-filling in the reference file of capacities."""
    found = water_filling([4.0, 1.0], 1.0, complex=True, unit="bits")
    assert_array_equal(found.powers, [0.875, 0.125])
    assert float(found.level) == 1.125
    assert abs(float(found.capacity) - 2.339850003) < 5e-10
    assert float(found.capacity) == 2 * float(water_filling([4.0, 1.0], 1.0, unit="bits").capacity)
    assert_allclose(found.rate_equal_power, np.log2(3.0) + np.log2(1.5), rtol=4 * EPS)
    assert float(found.residual) <= 4 * EPS


def test_closed_forms():
    one = water_filling([3.0], 2.0, noise=0.5)
    assert_allclose(one.capacity, 0.5 * np.log(13.0), rtol=4 * EPS)
    alike = water_filling(np.full(7, 2.0), 3.5)
    assert_allclose(alike.powers, 0.5, rtol=4 * EPS)
    assert_allclose(alike.capacity, alike.rate_equal_power, rtol=4 * EPS)
    assert_allclose(alike.capacity, 3.5 * np.log(2.0), rtol=4 * EPS)
    # only the best one at low power: its floor is 1/4, the next 1
    assert_array_equal(water_filling([1.0, 4.0], 0.75).powers, [0.0, 0.75])
    assert water_filling([1.0, 4.0], 0.76).powers[0] > 0


@pytest.mark.filterwarnings("error")
def test_no_power_over_floors_below_the_range_of_float64():
    found = water_filling([2.7e40, 6.9e-88], 0.0, noise=[9.4e-284, 7.7e-97])
    assert (float(found.capacity), float(found.residual), found.powers.tolist()) == (0.0, 0.0, [0.0, 0.0])


def test_no_power_and_no_gain():
    nothing = water_filling([4.0, 1.0], 0.0)
    assert_array_equal(nothing.powers, [0.0, 0.0])
    assert (float(nothing.capacity), float(nothing.level), float(nothing.residual)) == (0.0, 0.25, 0.0)
    dark = water_filling([0.0, 2.0, 0.0], 3.0)
    assert_array_equal(dark.powers, [0.0, 3.0, 0.0])
    assert_allclose(dark.rate_equal_power, 0.5 * np.log(3.0))
    closed = water_filling([0.0, 0.0], 3.0)
    assert_array_equal(closed.powers, [0.0, 0.0])
    assert float(closed.capacity) == 0.0
    assert np.isinf(closed.level)
    # no noise where nothing passes anyway
    assert_array_equal(water_filling([0.0, 1.0], 2.0, noise=[0.0, 1.0]).powers, [0.0, 2.0])


@pytest.mark.parametrize("power", [1e-300, 1e-9, 1.0, 1e9, 1e300])
def test_gains_of_any_size_side_by_side(power):
    gains = np.array([1e300, 1e-300, 1.0, 1e150, 1e-150, 0.0])
    found = water_filling(gains, power)
    assert abs(found.powers.sum() / power - 1) <= 4 * EPS
    assert np.isfinite(found.capacity)
    assert float(found.residual) <= 1e-14
    used = found.powers > 0
    exact = sum(np.logaddexp(0.0, np.log(g) + np.log(p)) for g, p in zip(gains[used], found.powers[used], strict=True))
    assert_allclose(found.capacity, 0.5 * exact, rtol=1e-14)


def test_a_power_far_below_the_floors_still_tells_them_apart():
    """The level cannot hold the digits: 1e10 + 1e-8 is 1e10."""
    gains = 1 / np.array([1e10, 1e10, np.nextafter(1e10, 2e10)])
    found = water_filling(gains, 1e-8)
    assert_array_equal(found.powers, [5e-9, 5e-9, 0.0])


def test_all_gains_tiny():
    found = water_filling([1e-300, 1e-300], 1e-300)
    assert_array_equal(found.powers, [5e-301, 5e-301])
    assert float(water_filling([1e-300], 1e290).capacity) == pytest.approx(5e-11)


VALUES = st.floats(-6, 6).map(lambda x: 10.0**x)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES | st.just(0.0), VALUES), min_size=1, max_size=8), VALUES)
def test_bisection_finds_the_same(pairs, power):
    gains, noise = np.array(pairs).T
    found = water_filling(gains, power, noise=noise)
    if not gains.any():
        assert float(found.capacity) == 0
        return
    assert (found.powers >= 0).all()
    assert abs(found.powers.sum() - power) <= 8 * EPS * power
    assert float(found.residual) <= 1e-13
    slow, level = slow_powers(gains, power, noise)
    scale = max(float(level), power)
    assert_allclose(found.powers, slow, rtol=1e-9, atol=64 * EPS * scale)
    assert_allclose(found.level, level, rtol=1e-12)
    # the conditions of Karush, Kuhn and Tucker, from the result alone
    floors = np.divide(noise, gains, out=np.full(len(gains), np.inf), where=gains > 0)
    wet = found.powers > 0
    assert_allclose(floors[wet] + found.powers[wet], found.level, rtol=1e-12)
    assert (floors[~wet] >= found.level * (1 - 1e-12)).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=6), VALUES, st.randoms(use_true_random=False))
def test_properties_of_the_capacity(gains, power, random):
    gains = np.array(gains)
    found = water_filling(gains, power)
    order = np.array(random.sample(range(len(gains)), len(gains)))
    turned = water_filling(gains[order], power)
    assert_allclose(turned.capacity, found.capacity, rtol=1e-12)
    assert_allclose(turned.powers, found.powers[order], rtol=1e-9, atol=1e-12 * power)
    capacity = float(found.capacity)
    assert capacity >= float(found.rate_equal_power) * (1 - 1e-14)
    # monotone in each gain, concave in the power, and no other split does better
    better = gains.copy()
    better[0] *= 2
    assert float(water_filling(better, power).capacity) >= capacity * (1 - 1e-13)
    low, high = (float(water_filling(gains, power * f).capacity) for f in (0.5, 1.5))
    assert low <= capacity <= high
    assert capacity >= (low + high) / 2 * (1 - 1e-13)
    split = np.random.default_rng(random.randrange(2**31)).dirichlet(np.ones(len(gains))) * power
    rate = 0.5 * np.log1p(gains * split).sum()
    assert rate <= capacity * (1 + 1e-13)


def test_residual_is_measured_not_assumed(monkeypatch):
    """With powers that are not the best the certificate says so, and by how much at most."""
    from infogeo.capacity import _vector_channel

    white, power = np.diag([2.0, 1.0]), np.array(1.0)
    best = 0.5 * np.log1p([4 * 0.875, 0.125]).sum()
    for share in (0.0, 0.3, 0.6, 0.8, 1.0):
        rate = 0.5 * np.log1p([4 * share, 1 - share]).sum()
        bound = float(_vector_channel.excess(white, np.diag([share, 1 - share]), power)) / 2
        assert best - rate <= bound * (1 + 1e-12)
        assert bound > 1e-3
    assert _vector_channel.excess(white, np.diag([0.875, 0.125]), power) < 1e-15


def test_batch_equals_loop():
    rng = np.random.default_rng(0)
    gains, power, noise = rng.exponential(size=(3, 1, 5)), rng.exponential(size=(4,)), rng.exponential(size=(4, 5))
    gains[1, 0, 2] = 0
    found = water_filling(gains, power, noise=noise)
    assert found.powers.shape == (3, 4, 5)
    assert found.capacity.shape == found.level.shape == found.residual.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            one = water_filling(gains[i, 0], power[j], noise=noise[j])
            for name in ("powers", "level", "capacity", "rate_equal_power"):
                assert_allclose(getattr(found, name)[i, j], getattr(one, name), rtol=1e-14)


def test_ten_thousand_channels_take_milliseconds():
    gains = np.random.default_rng(0).exponential(size=10_000)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        found = water_filling(gains, 300.0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
    assert abs(found.powers.sum() - 300) < 1e-12 * 300


def test_result_as_table_and_json():
    found = water_filling([4.0, 1.0, 0.0], 1.0, unit="bits")
    assert found.summary() == "capacity = 1.17 bits, 2 of 3 sub-channels used"
    columns, rows = found.rows()
    assert dict(zip(columns, rows[0], strict=True))["level"] == 1.125
    assert '"powers": [0.875, 0.125, 0.0]' in found.to_json()
    assert "2 channels" in water_filling(np.ones((2, 3)), 1.0).summary()
    assert len(water_filling(np.ones((2, 3)), 1.0).rows()[1]) == 2
    tensors = water_filling(torch.tensor([4.0, 1.0], requires_grad=True), 1.0)
    assert tensors.to_dict()["powers"] == [0.875, 0.125]
    vector = gaussian_mimo_capacity([[1.0, 1.0j]], 1.0, 2.0).to_dict()
    assert_allclose(vector["input_cov"]["imaginary"], [[0.0, 1.0], [-1.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (([1.0, -2.0], 1.0), {}, DomainError, r"gains: entry \(1,\) is -2.0"),
        (([1.0, np.nan], 1.0), {}, DomainError, r"gains: entry \(1,\) is nan"),
        (([1.0, np.inf], 1.0), {}, DomainError, "must be finite"),
        (([1.0], -1.0), {}, DomainError, "power: found -1.0"),
        (([1.0], np.nan), {}, DomainError, "power"),
        (([1.0, 2.0], 1.0), {"noise": [0.0, 1.0]}, DomainError, "its capacity is infinite"),
        (([1.0, 2.0], 1.0), {"noise": [1.0, -1.0]}, DomainError, "noise"),
        (([1.0, 2.0], 1.0), {"noise": [1.0, 1.0, 1.0]}, ShapeError, "do not broadcast"),
        (([1.0], 1.0), {"noise": [1.0, 1.0, 1.0]}, ShapeError, "found 1 sub-channels"),
        ((np.ones((2, 3)), np.ones(3)), {}, ShapeError, "do not broadcast"),
        (([], 1.0), {}, ShapeError, "at least one sub-channel"),
        ((3.0, 1.0), {}, ShapeError, "at least one sub-channel"),
        (([1.0], 1.0), {"unit": "bit"}, ArgumentError, "'nats' or 'bits'"),
        (([1.0 + 1j], 1.0), {}, DomainError, "wanted real numbers"),
        ((["a"], 1.0), {}, DomainError, "dtype"),
        (([[1.0], [1.0, 2.0]], 1.0), {}, ShapeError, "different lengths"),
    ],
)
def test_bad_arguments_of_water_filling(arguments, options, error, words):
    with pytest.raises(error, match=words):
        water_filling(*arguments, **options)


# ---------------------------------------------------------------------------------------------- vector channels


def test_diagonal_channel_is_water_filling():
    scalars = water_filling([4.0, 1.0, 0.25], 2.0, noise=[1.0, 2.0, 0.5])
    found = gaussian_mimo_capacity(np.diag([2.0, 1.0, 0.5]), [1.0, 2.0, 0.5], 2.0)
    assert_allclose(found.capacity, scalars.capacity, rtol=1e-14)
    assert_allclose(np.diagonal(found.input_cov), scalars.powers, atol=1e-15)
    assert_allclose(found.level, scalars.level, rtol=1e-14)
    assert_allclose(found.rate_equal_power, scalars.rate_equal_power, rtol=1e-14)


def test_closed_forms_of_vector_channels():
    """One input: maximal-ratio combining. One output: the power goes along h. Rank one in general."""
    h = np.array([1.0, -2.0, 0.5])
    column = gaussian_mimo_capacity(h[:, None], 0.5, 3.0)
    row = gaussian_mimo_capacity(h[None], 0.5, 3.0)
    assert_allclose([column.capacity, row.capacity], 0.5 * np.log1p(5.25 * 3 / 0.5), rtol=1e-14)
    assert_allclose(row.input_cov, 3 * np.outer(h, h) / 5.25, atol=1e-14)
    assert_allclose(row.rate_equal_power, 0.5 * np.log1p(5.25 / 0.5), rtol=1e-14)
    assert_allclose(column.rate_equal_power, column.capacity, rtol=1e-14)
    orthogonal = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert_allclose(gaussian_mimo_capacity(orthogonal, 2.0, 8.0, unit="bits").capacity, 2.0, rtol=1e-13)


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_no_input_does_better(shape, complex_numbers):
    rng = np.random.default_rng(3)
    h = rng.normal(size=shape) + (1j * rng.normal(size=shape) if complex_numbers else 0)
    noise = random_covariance(rng, shape[0], complex_numbers=complex_numbers)
    found = gaussian_mimo_capacity(h, noise, 1.5)
    assert found.input_cov.dtype == h.dtype
    assert_allclose(np.trace(found.input_cov).real, 1.5, rtol=1e-13)
    assert np.linalg.eigvalsh(found.input_cov).min() > -1e-14
    rate = gaussian_rate(h, noise, found.input_cov)
    assert_allclose(rate, found.capacity, rtol=1e-12)
    factor = 1.0 if complex_numbers else 0.5
    whole = np.linalg.slogdet(noise + h @ found.input_cov @ h.conj().T)[1] - np.linalg.slogdet(noise)[1]
    assert_allclose(rate, factor * whole, rtol=1e-12)
    assert_allclose(found.rate_equal_power, gaussian_rate(h, noise, 1.5 / shape[1]), rtol=1e-12)
    assert float(found.residual) < 1e-13
    for _ in range(50):
        other = random_covariance(rng, shape[1], complex_numbers=complex_numbers)
        other *= 1.5 / np.trace(other).real
        assert gaussian_rate(h, noise, other) <= found.capacity


def test_optimizer_finds_the_same():
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    h, noise = rng.normal(size=(3, 3)), random_covariance(rng, 3)

    def loss(x):
        root = x.reshape(3, 3)
        q = root @ root.T * 2.0 / (root**2).sum()
        return -0.5 * (np.linalg.slogdet(noise + h @ q @ h.T)[1] - np.linalg.slogdet(noise)[1])

    best = min(minimize(loss, rng.normal(size=9), tol=1e-14).fun for _ in range(3))
    assert_allclose(gaussian_mimo_capacity(h, noise, 2.0).capacity, -best, rtol=1e-9)


def test_invariances():
    rng = np.random.default_rng(7)
    h, noise = rng.normal(size=(4, 3)), random_covariance(rng, 4)
    capacity = gaussian_mimo_capacity(h, noise, 2.0).capacity
    u, v = (np.linalg.qr(rng.normal(size=(d, d)))[0] for d in (4, 3))
    assert_allclose(gaussian_mimo_capacity(u @ h @ v, u @ noise @ u.T, 2.0).capacity, capacity, rtol=1e-12)
    a = rng.normal(size=(4, 4))  # any invertible map of the output
    assert_allclose(gaussian_mimo_capacity(a @ h, a @ noise @ a.T, 2.0).capacity, capacity, rtol=1e-10)
    assert_allclose(gaussian_mimo_capacity(3 * h, 9 * noise, 2.0).capacity, capacity, rtol=1e-12)
    complex_h = h * np.exp(0.7j)
    assert_allclose(gaussian_mimo_capacity(complex_h, noise, 2.0).capacity, 2 * capacity, rtol=1e-12)
    assert_allclose(gaussian_mimo_capacity(h, noise, 2.0, complex=True).capacity, 2 * capacity, rtol=1e-12)
    assert gaussian_mimo_capacity(h, noise, 2.0, complex=True).input_cov.dtype == np.float64


def test_three_forms_of_noise_agree():
    h = np.random.default_rng(8).normal(size=(3, 2))
    number = gaussian_mimo_capacity(h, 0.3, 1.0)
    for noise in (np.full(3, 0.3), 0.3 * np.eye(3)):
        assert_allclose(gaussian_mimo_capacity(h, noise, 1.0).capacity, number.capacity, rtol=1e-13)
    assert_allclose(gaussian_rate(h, 0.3, 0.5), gaussian_rate(h, 0.3 * np.eye(3), 0.5 * np.eye(2)), rtol=1e-13)


def test_variances_of_very_different_size():
    """Scaled to correlations first, so that no variance is lost beside another."""
    h = np.diag([1e-8, 1e8])
    for noise in (np.array([1e-16, 1e16]), np.diag([1e-16, 1e16])):
        assert_allclose(gaussian_mimo_capacity(h, noise, 2.0).capacity, np.log(2.0), rtol=1e-12)


def test_singular_noise_that_the_channel_reaches():
    for noise in ([1.0, 0.0], np.diag([1.0, 0.0]), np.ones((2, 2)), 0.0):
        with pytest.raises(DomainError, match="direction of the output in which there is no noise"):
            gaussian_mimo_capacity(np.eye(2), noise, 1.0)
        with pytest.raises(DomainError, match="add the noise that limits it"):
            gaussian_rate(np.eye(2), noise, 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_noise_estimated_from_fewer_samples_than_outputs_is_singular(seed):
    # its eigenvalues that are zero come out as rounding of either sign, which is no noise
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 3))
    with pytest.raises(DomainError, match="direction of the output in which there is no noise"):
        gaussian_mimo_capacity(rng.normal(size=(6, 2)), root @ root.T, 1.0)
    assert gaussian_mimo_capacity(root[:, :2], root @ root.T, 1.0).capacity < 10


def test_singular_noise_that_the_channel_does_not_reach():
    h = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    noise = np.zeros((3, 3))
    noise[:2, :2] = 1.0  # both outputs see the same noise, the third sees none and no signal
    found = gaussian_mimo_capacity(h, noise, 3.0)
    assert_allclose(found.capacity, 0.5 * np.log1p(5.0 * 3), rtol=1e-12)
    # the rate is that of the limit of a little noise in the silent directions
    nearly = gaussian_mimo_capacity(h, noise + 1e-9 * np.eye(3), 3.0)
    assert_allclose(found.capacity, nearly.capacity, rtol=1e-7)
    # an input that stays away from the silent direction
    assert_allclose(gaussian_rate(np.eye(2), [1.0, 0.0], [2.0, 0.0]), 0.5 * np.log(3.0), rtol=1e-14)
    assert_allclose(gaussian_rate(np.eye(2), np.ones((2, 2)), np.ones((2, 2))), 0.5 * np.log(2.0), rtol=1e-12)


def test_no_signal():
    for h in (np.zeros((2, 3)), np.zeros((1, 1))):
        found = gaussian_mimo_capacity(h, 1.0, 1.0)
        assert float(found.capacity) == float(found.residual) == 0.0
        assert float(gaussian_rate(h, 1.0, 1.0)) == 0.0
    assert float(gaussian_mimo_capacity(np.eye(2), 1.0, 0.0).capacity) == 0.0
    assert float(gaussian_rate(np.eye(2), 1.0, 0.0)) == 0.0


def test_small_rates_keep_their_digits():
    assert_allclose(gaussian_rate([[1e-10]], 1.0, 1.0), 0.5e-20, rtol=1e-14)
    assert_allclose(gaussian_mimo_capacity([[1e-10]], 1.0, 1.0).capacity, 0.5e-20, rtol=1e-14)
    assert_allclose(gaussian_rate([[1e100]], 1.0, 1.0), 100 * np.log(10), rtol=1e-14)


def test_batches_of_vector_channels_equal_loops():
    rng = np.random.default_rng(9)
    h, power = rng.normal(size=(2, 1, 3, 4)), np.array([0.5, 2.0, 0.0])
    noise = np.stack([random_covariance(rng, 3) for _ in range(3)])
    inputs = np.stack([random_covariance(rng, 4) for _ in range(3)])
    found, rates = gaussian_mimo_capacity(h, noise, power), gaussian_rate(h, noise, inputs)
    assert found.capacity.shape == rates.shape == (2, 3)
    assert found.input_cov.shape == (2, 3, 4, 4)
    for i in range(2):
        for j in range(3):
            one = gaussian_mimo_capacity(h[i, 0], noise[j], power[j])
            for name in ("capacity", "level", "rate_equal_power", "powers", "gains", "input_cov"):
                assert_allclose(getattr(found, name)[i, j], getattr(one, name), rtol=1e-12, atol=1e-14)
            assert_allclose(rates[i, j], gaussian_rate(h[i, 0], noise[j], inputs[j]), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((np.eye(2), 1.0, -1.0), {}, DomainError, "power"),
        ((np.eye(2), [1.0, -1.0], 1.0), {}, DomainError, "noise_cov: entry"),
        ((np.eye(2), [[1.0, 0.5], [0.4, 1.0]], 1.0), {}, DomainError, "its mirror"),
        ((np.eye(2), [[1.0, 2.0], [2.0, 1.0]], 1.0), {}, DomainError, "no covariance is that large"),
        ((np.eye(3), [[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]], 1.0), {}, DomainError, "eigenvalue is negative"),
        ((np.eye(2), [[1.0, 0.0], [0.0, -1.0]], 1.0), {}, DomainError, "diagonal"),
        ((np.eye(2), np.ones(3), 1.0), {}, ShapeError, "found 3 variances, wanted 2, one for each output"),
        ((np.ones((2, 3)), np.eye(3), 1.0), {}, ShapeError, "is the channel transposed"),
        ((np.ones(3), 1.0, 1.0), {}, ShapeError, "outputs as rows"),
        ((np.ones((0, 3)), 1.0, 1.0), {}, ShapeError, "at least one of each"),
        ((np.ones((4, 2, 2)), 1.0, np.ones(3)), {}, ShapeError, "do not broadcast"),
        (([[np.nan]], 1.0, 1.0), {}, DomainError, "channel: entry"),
        (([[np.inf]], 1.0, 1.0), {}, DomainError, "must be finite"),
        (([[1e200]], 1e-200, 1.0), {}, DomainError, "out of the range"),
        (([[1e100]], 1.0, 1e300), {}, DomainError, "power times gain over noise is out of the range"),
        (([[1j]], 1.0, 1.0), {"complex": False}, ArgumentError, "complex"),
        (([[1.0]], 1.0, 1.0), {"unit": "shannon"}, ArgumentError, "unit"),
        (([["x"]], 1.0, 1.0), {}, DomainError, "dtype"),
    ],
)
def test_bad_arguments_of_vector_channels(arguments, options, error, words):
    with pytest.raises(error, match=words):
        gaussian_mimo_capacity(*arguments, **options)


def test_bad_input_covariances():
    with pytest.raises(ShapeError, match="one for each input"):
        gaussian_rate(np.ones((2, 3)), 1.0, np.ones(2))
    with pytest.raises(DomainError, match="input_cov"):
        gaussian_rate(np.eye(2), 1.0, -np.eye(2))
    with pytest.raises(DomainError, match="out of the range"):
        gaussian_rate([[1e300]], 1e-300, 1e300)


# ---------------------------------------------------------------------------------------------- tensors


def gradients(function, *values):
    tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    return torch.autograd.grad(function(*tensors), tensors)


def differences(function, values, which, step=1e-6):
    slope = np.zeros_like(values[which])
    for place in np.ndindex(*slope.shape):
        ends = []
        for sign in (1, -1):
            moved = [v.copy() for v in values]
            moved[which][place] += sign * step
            ends.append(float(function(*moved)))
        slope[place] = (ends[0] - ends[1]) / (2 * step)
    return slope


def test_gradients_of_water_filling():
    values = [np.array([4.0, 1.0, 0.01]), np.array(1.3), np.array([1.0, 0.8, 2.0])]

    def capacity(gains, power, noise):
        return water_filling(gains, power, noise=noise, unit="bits").capacity

    found = gradients(capacity, *values)
    for which in range(3):
        assert_allclose(found[which], differences(capacity, values, which), rtol=1e-6, atol=1e-8)
    number = gradients(lambda n: water_filling(values[0], 1.3, noise=n).capacity, np.array(1.1))[0]
    expected = differences(lambda n: water_filling(values[0], 1.3, noise=n).capacity, [np.array(1.1)], 0)
    assert_allclose(number, expected, rtol=1e-6)


def test_gradients_of_vector_channels():
    rng = np.random.default_rng(11)
    # symmetric changes of the noise and of the input: through their roots
    values = [rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), np.array(0.7)]

    def capacity(h, root, power):
        return gaussian_mimo_capacity(h, root @ root.T, power).capacity

    found = gradients(capacity, *values)
    for which in range(3):
        assert_allclose(found[which], differences(capacity, values, which), rtol=2e-5, atol=1e-7)

    def rate(h, root, inputs):
        return gaussian_rate(h, root @ root.T, inputs @ inputs.T, unit="bits")

    values[2] = rng.normal(size=(2, 2))
    found = gradients(rate, *values)
    for which in range(3):
        assert_allclose(found[which], differences(rate, values, which), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("noise", [np.array(0.4), np.array([0.4, 0.3, 0.2])])
def test_gradients_to_a_number_and_to_variances(noise):
    h = np.random.default_rng(12).normal(size=(4, 3, 2))
    values = [h, noise, np.array([0.5, 1.0])]

    def rate(h, noise, inputs):
        return gaussian_rate(h, noise, inputs).sum()

    found = gradients(rate, *values)
    for which in range(3):
        assert_allclose(found[which], differences(rate, values, which), rtol=1e-5, atol=1e-8)


def test_gradients_of_batches():
    rng = np.random.default_rng(13)
    values = [rng.exponential(size=(3, 4)), np.array([0.5, 1.0, 2.0])]

    def total(gains, power):
        return water_filling(gains, power).capacity.sum()

    found = gradients(total, *values)
    for which in range(2):
        assert_allclose(found[which], differences(total, values, which), rtol=1e-5, atol=1e-8)


def test_complex_tensors_are_taken_and_gradients_go_to_real_ones_only():
    channel = np.array([[1.0 + 1j, 0.2], [0.3j, 0.7]])
    noise = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = gaussian_mimo_capacity(torch.tensor(channel), noise, 2.0)
    assert_allclose(found.capacity.item(), float(gaussian_mimo_capacity(channel, [1.0, 2.0], 2.0).capacity), rtol=1e-14)
    assert found.input_cov.dtype == torch.complex128
    found.capacity.backward()
    step = 1e-6
    for i, slope in enumerate(noise.grad.tolist()):
        ends = [np.array([1.0, 2.0]) + sign * step * np.eye(2)[i] for sign in (1, -1)]
        up, down = (float(gaussian_mimo_capacity(channel, n, 2.0).capacity) for n in ends)
        assert slope == pytest.approx((up - down) / (2 * step), rel=1e-6)
    with pytest.raises(DomainError, match="channel: found a complex tensor that records a gradient"):
        gaussian_mimo_capacity(torch.tensor(channel, requires_grad=True), 1.0, 2.0)
    with pytest.raises(DomainError, match="power: found inf; all"):
        gaussian_mimo_capacity(channel, 1.0, np.inf)


def test_tensors_in_tensors_out():
    found = water_filling(torch.tensor([4.0, 1.0]), 1.0)
    assert isinstance(found.powers, torch.Tensor)
    assert found.powers.dtype == torch.float64
    assert found.powers.tolist() == [0.875, 0.125]
    assert not found.capacity.requires_grad
    assert found.summary().startswith("capacity = 0.8109 nats")
    half = torch.tensor([4.0, 1.0], dtype=torch.float32, requires_grad=True)
    water_filling(half, 1.0).capacity.backward()
    assert half.grad.dtype == torch.float32
    x = torch.tensor([4.0, 1.0], dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(water_filling(x, 1.0).capacity, x, create_graph=True)[0]
    with pytest.raises(DomainError, match="second derivative"):
        slope.sum().backward()
    with pytest.raises(DomainError, match="sparse"):
        water_filling(torch.eye(2).to_sparse(), 1.0)
    vector = gaussian_mimo_capacity(torch.eye(2), 1.0, 2.0)
    assert torch.allclose(vector.input_cov, torch.eye(2, dtype=torch.float64))


# ---------------------------------------------------------------------------------------------- in reverse


def slow_distortions(variances, distortion):
    low, high = 0.0, float(np.max(variances))
    for _ in range(2000):
        level = (low + high) / 2
        if level in (low, high):
            break
        if np.minimum(level, variances).sum() > distortion:
            high = level
        else:
            low = level
    return np.minimum(high, variances)


def test_textbook_examples_in_reverse():
    one = reverse_water_filling([4.0], 1.0, unit="bits")
    assert float(one.rate) == 1.0  # each bit halves the standard deviation
    found = reverse_water_filling([4.0, 1.0, 0.25], 1.25, unit="bits")
    assert_array_equal(found.distortions, [0.5, 0.5, 0.25])
    assert float(found.rate) == 2.0
    assert float(found.level) == 0.5
    free = reverse_water_filling([4.0, 1.0], 5.0)
    assert_array_equal(free.distortions, [4.0, 1.0])
    assert float(free.rate) == float(free.residual) == 0.0
    assert_array_equal(reverse_water_filling([4.0, 1.0], 50.0).distortions, [4.0, 1.0])
    assert float(reverse_water_filling([0.0, 0.0], 0.0).rate) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES | st.just(0.0), min_size=1, max_size=8), st.floats(1e-6, 1.2))
def test_bisection_finds_the_same_in_reverse(variances, part):
    variances = np.array(variances)
    if not variances.any():
        return
    allowed = part * variances.sum()
    found = reverse_water_filling(variances, allowed)
    assert_allclose(found.distortions, slow_distortions(variances, allowed), rtol=1e-10)
    assert_allclose(found.distortions.sum(), min(allowed, variances.sum()), rtol=1e-13)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.where(variances > 0, 0.5 * np.log(variances / found.distortions), 0.0).sum()
    assert_allclose(found.rate, exact, rtol=1e-12, atol=1e-14)
    assert float(found.residual) <= 1e-12
    # convex and falling in the distortion
    low, high = (float(reverse_water_filling(variances, allowed * f).rate) for f in (0.8, 1.2))
    assert low >= float(found.rate) >= high
    assert (low + high) / 2 >= float(found.rate) * (1 - 1e-12)


def test_sizes_far_apart_in_reverse():
    found = reverse_water_filling([1e300, 1.0, 1e-300], 3e-300, unit="nats")
    assert_allclose(found.distortions.sum(), 3e-300, rtol=1e-14)
    assert_allclose(found.rate, 0.5 * (np.log(1e300) + 300 * np.log(10)) + 0.5 * 300 * np.log(10), rtol=1e-12)


def test_rates_near_zero_keep_their_digits_in_reverse():
    part = 2.0**-40
    assert_allclose(reverse_water_filling([3.0], 3 * (1 - part)).rate, -np.log1p(-part) / 2, rtol=1e-13)


def test_the_smallest_distortion_there_is():
    assert_allclose(reverse_water_filling([1e308, 5e-324], 5e-324).rate, 0.5 * np.log(1e308) - 0.5 * np.log(5e-324),
                    rtol=1e-2)
    assert float(reverse_water_filling([[1.0, 2.0], [0.0, 0.0]], [3.0, 0.0]).rate[1]) == 0.0


def test_vector_source():
    rng = np.random.default_rng(14)
    cov = random_covariance(rng, 4)
    found = gaussian_rate_distortion(cov, 1.0)
    axes = reverse_water_filling(np.linalg.eigvalsh(cov)[::-1], 1.0)
    assert_allclose(found.rate, axes.rate, rtol=1e-12)
    assert_allclose(found.distortions, axes.distortions, rtol=1e-11)
    assert_allclose(np.trace(found.error_cov), 1.0, rtol=1e-13)
    # the forward channel: the error is independent of the reproduction, whose covariance is the rest
    rest = cov - found.error_cov
    assert np.linalg.eigvalsh(rest).min() > -1e-12
    assert_allclose(found.rate, 0.5 * (np.linalg.slogdet(cov)[1] - np.linalg.slogdet(found.error_cov)[1]), rtol=1e-11)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert_allclose(gaussian_rate_distortion(turn @ cov @ turn.T, 1.0).rate, found.rate, rtol=1e-11)
    batch = gaussian_rate_distortion(np.stack([cov, 2 * cov]), np.array([1.0, 2.0]))
    assert_allclose(batch.rate, found.rate, rtol=1e-11)
    assert "2 sources" in batch.summary()
    assert len(batch.rows()[1]) == 2
    singular = gaussian_rate_distortion(np.ones((2, 2)), 0.5)
    assert_allclose(singular.rate, 0.5 * np.log(4.0), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1.0], 0.0), DomainError, "infinite rate"),
        (([1.0], -1.0), DomainError, "distortion"),
        (([-1.0], 1.0), DomainError, "variances"),
        (([np.nan], 1.0), DomainError, "variances"),
        (([], 1.0), ShapeError, "at least one source"),
        ((np.ones((2, 3)), np.ones(3)), ShapeError, "do not broadcast"),
    ],
)
def test_bad_arguments_in_reverse(arguments, error, words):
    with pytest.raises(error, match=words):
        reverse_water_filling(*arguments)


def test_a_complex_source_has_no_half():
    # a circular complex number is two real ones of half the variance, each with half the error
    covariance = np.array([[2.0, 0.6 + 0.8j], [0.6 - 0.8j, 1.0]])
    halves = np.block([[covariance.real, -covariance.imag], [covariance.imag, covariance.real]]) / 2
    found, wanted = gaussian_rate_distortion(covariance, 0.7), gaussian_rate_distortion(halves, 0.7)
    assert_allclose(found.rate, wanted.rate, rtol=1e-12)
    assert_allclose(np.trace(found.error_cov).real, 0.7, rtol=1e-12)


def test_bad_covariances_of_sources():
    with pytest.raises(ShapeError, match="use reverse_water_filling"):
        gaussian_rate_distortion([1.0, 2.0], 1.0)
    with pytest.raises(ShapeError, match="components"):
        gaussian_rate_distortion(np.ones((2, 3)), 1.0)
    with pytest.raises(DomainError, match="mirror"):
        gaussian_rate_distortion([[1.0, 0.5], [0.4, 1.0]], 1.0)
    with pytest.raises(DomainError, match="records a gradient"):
        gaussian_rate_distortion(torch.eye(2, requires_grad=True), 1.0)
    with pytest.raises(DomainError, match="records a gradient"):
        reverse_water_filling(torch.ones(2, requires_grad=True), 1.0)


def test_source_and_channel_are_dual():
    """A Gaussian source sent uncoded over a Gaussian channel: rate at the error reached equals the capacity."""
    snr = 3.0
    error = 1 / (1 + snr)
    assert_allclose(reverse_water_filling([1.0], error).rate, infogeo.water_filling([1.0], snr).capacity, rtol=1e-14)
