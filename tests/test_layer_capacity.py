"""The views of a layer as a channel: closed forms, Monte Carlo, stability under doubling, every guard."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infogeo import (
    EstimateWarning,
    InformationEstimate,
    LayerCapacity,
    attention_capacity,
    blahut_arimoto,
    channel_information,
    data_processing_check,
    deb2025_capacity,
    gaussian_mimo_capacity,
    gaussian_rate,
    jacobian_capacity,
    layer_capacity,
    linear_gaussian_capacity,
    number_format_noise,
    readout_capacity,
)
from infogeo.capacity import _linear_fit, deb2025, jacobian
from infogeo.errors import ArgumentError, DomainError, ShapeError

BITS = 1 / np.log(2)


def channel(d, seed, *, snr=1.0, rank=None, decay=1.0):
    """A random map, input covariance with variances k^-decay, white noise."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    sx = basis * np.arange(1.0, d + 1) ** -decay @ basis.T
    a = rng.normal(size=(d, d)) / np.sqrt(d)
    if rank is not None:
        a = a @ (basis * (np.arange(d) < rank)) @ basis.T
    sn = np.eye(d) * np.trace(a @ sx @ a.T) / d / snr
    return a, sx, sn


def draw(a, sx, sn, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(sx))) @ np.linalg.cholesky(sx).T
    return x, x @ a.T + rng.normal(size=(n, len(a))) @ np.linalg.cholesky(sn).T


def truth(a, sx, sn, power=None):
    power = np.trace(sx) if power is None else power
    return float(gaussian_mimo_capacity(a, sn, power).capacity), float(gaussian_rate(a, sn, sx))


def covers(found, capacity, rate):
    low, high = found.capacity_interval
    below, above = found.rate_interval
    return low < capacity < high and below < rate < above


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def hushed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        yield


# --------------------------------------------------------------------------------------------- linear-Gaussian


class TestLinear:
    @pytest.mark.parametrize("unit", ["nats", "bits"])
    def test_scalar_channel_with_white_gaussian_noise(self, unit, no_warning):
        rng = np.random.default_rng(1)
        x = 2 * rng.normal(size=20_000)
        y = 3 * x + rng.normal(size=20_000)
        found = linear_gaussian_capacity(x, y, unit=unit)
        closed = 0.5 * np.log(1 + 36) * (BITS if unit == "bits" else 1)
        assert abs(found.capacity - closed) < 0.03
        assert found.capacity_interval[0] < closed < found.capacity_interval[1]
        assert found.utilization == pytest.approx(1, abs=1e-3)  # one component: nothing to choose
        assert found.unit == unit

    @pytest.mark.parametrize(
        ("seed", "options"), [(0, {"snr": 10}), (1, {"snr": 0.5}), (2, {"snr": 20, "decay": 2}), (3, {"rank": 5})]
    )
    def test_known_channel_is_covered_and_stable_under_doubling(self, seed, options, no_warning):
        d = 40
        known = channel(d, seed, **options)
        capacity, rate = truth(*known)
        found = [linear_gaussian_capacity(*draw(*known, n, seed), level=0.99) for n in (1200, 2400)]
        for each in found:
            assert covers(each, capacity, rate)
            assert each.details["plug_in_rate"] > each.rate + 0.8 * d * d / 2 / each.n  # what plugging in costs
        low, high = found[0].capacity_interval
        assert low < found[1].capacity < high
        assert abs(found[1].capacity - found[0].capacity) < 0.05 * capacity
        off = abs(found[0].details["plug_in_capacity"] - capacity)
        assert abs(found[0].capacity - capacity) < max(0.5 * off, 0.01 * capacity)

    def test_rate_is_unbiased_where_plugging_in_is_far_off(self, hushed):
        known = channel(30, 5)
        _, rate = truth(*known)
        found = [linear_gaussian_capacity(*draw(*known, 150, s)) for s in range(30)]
        rates = np.array([f.rate for f in found])
        assert abs(rates.mean() - rate) < 3.5 * rates.std() / np.sqrt(30)
        assert np.mean([f.details["plug_in_rate"] for f in found]) > rate + 3
        inside = [f.rate_interval[0] < rate < f.rate_interval[1] for f in found]
        assert np.mean(inside) > 0.8

    def test_independent_output_has_rate_zero_and_small_capacity(self, hushed):
        rng = np.random.default_rng(8)
        x, y = rng.normal(size=(1500, 12)), rng.normal(size=(1500, 9))
        found = linear_gaussian_capacity(x, y, permutations=39, rng=3)
        assert found.rate_interval[0] < 0 < found.rate_interval[1]
        assert abs(found.null) < 0.02
        assert found.p_value > 0.05
        assert found.capacity < 0.07 < 0.12 < found.details["plug_in_capacity"]

    def test_permutations_tell_dependence(self):
        known = channel(6, 8, snr=0.2)
        found = linear_gaussian_capacity(*draw(*known, 600, 0), permutations=39)
        assert found.p_value == 1 / 40
        assert abs(found.null) < 0.1 * found.rate

    def test_stated_noise_replaces_the_residual(self):
        rng = np.random.default_rng(2)
        a, sx, _ = channel(8, 2)
        x = rng.normal(size=(4000, 8)) @ np.linalg.cholesky(sx).T
        sn = np.diag(np.linspace(0.1, 1, 8)) + 0.02
        capacity, rate = truth(a, sx, sn)
        found = linear_gaussian_capacity(x, x @ a.T, noise=sn)
        assert covers(found, capacity, rate)
        one = linear_gaussian_capacity(x, x @ a.T, noise=0.3)
        many = linear_gaussian_capacity(x, x @ a.T, noise=np.full(8, 0.3))
        assert one.capacity == pytest.approx(many.capacity, rel=1e-12)
        assert "0.3" in one.noise

    def test_power_is_an_argument_and_comes_back(self):
        known = channel(5, 4)
        x, y = draw(*known, 4000, 1)
        found = linear_gaussian_capacity(x, y, power=50.0)
        capacity, _ = truth(*known, power=50.0)
        assert found.capacity_interval[0] < capacity < found.capacity_interval[1]
        assert "50" in found.constraint
        measured = linear_gaussian_capacity(x, y)
        scarce = linear_gaussian_capacity(x, y, power=0.1 * np.trace(known[1]))
        assert scarce.rate == pytest.approx(measured.rate)
        assert scarce.capacity < scarce.rate  # as it should be, and no reason to doubt
        assert not any("below the rate" in warning for warning in scarce.warnings)
        assert measured.details["power"] == pytest.approx(x.var(axis=0, ddof=1).sum())

    def test_affine_changes_of_the_output_change_nothing(self):
        known = channel(5, 6)
        x, y = draw(*known, 500, 1)
        turned = y @ np.random.default_rng(0).normal(size=(5, 5)) + 100
        one, other = (linear_gaussian_capacity(x, out) for out in (y, turned))
        assert other.rate == pytest.approx(one.rate, rel=1e-8)
        assert other.capacity == pytest.approx(one.capacity, rel=1e-8)

    def test_groups_widen_the_interval_of_repeated_tokens(self):
        known = channel(4, 9)
        x, y = draw(*known, 200, 1)
        rng = np.random.default_rng(0)
        texts = np.repeat(np.arange(200), 10)
        x10, y10 = (np.repeat(v, 10, axis=0) + 1e-6 * rng.normal(size=(2000, 4)) for v in (x, y))
        grouped, blind = (linear_gaussian_capacity(x10, y10, groups=g) for g in (texts, None))
        width = [np.ptp(f.rate_interval) for f in (grouped, blind)]
        assert width[0] > 1.5 * width[1]
        _, rate = truth(*known)
        assert grouped.rate_interval[0] < rate < grouped.rate_interval[1]

    def test_text_names_are_groups_too(self):
        known = channel(3, 9)
        x, y = draw(*known, 400, 1)
        numbers = np.arange(400) // 20
        named = linear_gaussian_capacity(x, y, groups=[f"t{i:02}" for i in numbers])
        assert named.capacity == linear_gaussian_capacity(x, y, groups=numbers).capacity
        assert named.details["groups"] == 20

    def test_directions_that_do_not_vary_are_left_out_and_said(self):
        known = channel(4, 3)
        x, y = draw(*known, 800, 1)
        wide = np.column_stack([x, np.full(800, 7.0), x[:, 0] + x[:, 1]])
        tall = np.column_stack([y, np.zeros(800), y[:, 0]])
        found = linear_gaussian_capacity(wide, tall)
        assert (found.details["input_rank"], found.details["output_rank"]) == (4, 4)
        assert "2 others stay" in found.constraint
        assert found.rate == pytest.approx(linear_gaussian_capacity(x, y).rate, rel=1e-6)

    def test_components_are_a_lower_bound_of_the_rate(self):
        known = channel(20, 3)
        x, y = draw(*known, 2000, 1)
        whole, part = linear_gaussian_capacity(x, y), linear_gaussian_capacity(x, y, components=5)
        assert part.rate < whole.rate
        assert part.details["input_rank"] == 5
        assert 0 < part.details["input_variance_kept"] < 1

    def test_without_shrinkage_a_low_rank_map_comes_out_far_too_high(self, hushed):
        known = channel(40, 1, snr=1, rank=4, decay=2)
        capacity, _ = truth(*known)
        x, y = draw(*known, 1000, 0)
        raw, shrunk = (linear_gaussian_capacity(x, y, shrinkage=s).capacity for s in (None, "james_stein"))
        assert raw > 1.5 * capacity
        assert abs(shrunk - capacity) < 0.15 * capacity

    def test_exact_map_has_no_residual_noise(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(300, 6)).astype(np.float32)
        weights = rng.normal(size=(6, 4)).astype(np.float32)
        with pytest.raises(DomainError, match=r"exact in 4 of 4 directions.*state the noise"):
            linear_gaussian_capacity(x, x @ weights)
        mixed = np.column_stack([x @ weights, rng.normal(size=300)])
        with pytest.raises(DomainError, match="exact in 4 of 5"):
            linear_gaussian_capacity(x, mixed)
        y = (x @ weights).astype(np.float64)
        found = linear_gaussian_capacity(x, y, noise=number_format_noise(y, "float16"))
        assert found.capacity > found.rate > 20

    def test_too_few_samples_are_an_error_and_few_a_warning(self):
        known = channel(30, 1, snr=0.3, rank=3, decay=2)
        with pytest.raises(DomainError, match=r"63 for 30 input and 30 output.*components="):
            linear_gaussian_capacity(*draw(*known, 60, 0))
        with pytest.warns(EstimateWarning) as caught:
            found = linear_gaussian_capacity(*draw(*known, 120, 0))
        assert found.warnings == tuple(str(each.message) for each in caught)
        assert any("too few samples" in message for message in found.warnings)
        assert any("anywhere up to" in message for message in found.warnings)

    def test_fewer_samples_than_components_are_an_error(self):
        rng = np.random.default_rng(0)
        with pytest.raises(DomainError, match="19 input and 2 output"):
            linear_gaussian_capacity(rng.normal(size=(20, 50)), rng.normal(size=(20, 2)))

    def test_direction_that_varies_in_one_text_only(self, hushed):
        known = channel(3, 9)
        x, y = draw(*known, 400, 1)
        texts = np.arange(400) // 40
        spike = np.zeros(400)
        spike[3] = 5.0
        found = linear_gaussian_capacity(np.column_stack([x, spike]), y, groups=texts)
        assert found.details["input_rank"] == 4
        assert np.isfinite(found.capacity)
        assert found.rate == pytest.approx(linear_gaussian_capacity(x, y, groups=texts).rate, abs=0.05)
        with pytest.raises(DomainError, match=r"one fold is out.*components="):
            linear_gaussian_capacity(x, np.column_stack([y, spike]), groups=texts)

    def test_few_groups_are_warned_of(self):
        known = channel(3, 9)
        x, y = draw(*known, 300, 1)
        with pytest.warns(EstimateWarning, match="one group only"):
            linear_gaussian_capacity(x, y, groups=np.zeros(300, dtype=int))
        with pytest.warns(EstimateWarning, match="3 groups only"):
            found = linear_gaussian_capacity(x, y, groups=np.arange(300) % 3)
        assert found.details["folds"] == 3

    def test_warnings_point_at_the_caller(self):
        x, y = draw(*channel(3, 9), 300, 1)
        with pytest.warns(EstimateWarning) as caught:
            linear_gaussian_capacity(x, y, groups=np.zeros(300, dtype=int))
        assert caught[0].filename == __file__

    def test_jackknife_takes_off_a_first_order_bias_and_knows_the_error_of_a_mean(self):
        values = np.random.default_rng(0).normal(size=40)
        k = len(values)
        leave = (values.sum() - values) / (k - 1)
        found = _linear_fit.jackknife(float(values.mean() + 3 / k), leave + 3 / (k - 1))
        assert found.value == pytest.approx(values.mean())
        assert found.correction == pytest.approx(3 / k)
        assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(k))

    def test_leaving_a_fold_out_of_the_moments_is_the_fit_to_the_others(self):
        x, y = draw(*channel(4, 0), 90, 0)
        folds = np.arange(90) % 3
        _, parts = _linear_fit.fits_by_fold(x, y, folds, None, None, shrink=True)
        slow = _linear_fit.fit(_linear_fit.moments(x[folds != 1], y[folds != 1]), None, None, shrink=True)
        np.testing.assert_allclose(parts[1], slow, rtol=1e-9)

    def test_plug_in_capacity_is_the_library_s_own(self):
        x, y = draw(*channel(4, 0), 200, 0)
        found = linear_gaussian_capacity(x, y)
        xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
        a = np.linalg.lstsq(xc, yc, rcond=None)[0].T
        residual = yc - xc @ a.T
        sn = residual.T @ residual / (199 - 4)
        power = xc.var(axis=0, ddof=1).sum()
        assert found.details["plug_in_capacity"] == pytest.approx(gaussian_mimo_capacity(a, sn, power).capacity)

    def test_upper_end_reaches_to_the_estimate_that_keeps_unseen_directions(self, hushed):
        known = channel(16, 2, snr=1.0, decay=2.5)
        found = linear_gaussian_capacity(*draw(*known, 150, 5))
        capacity, _ = truth(*known)
        unshrunk = found.details["unshrunk_capacity"]
        low, high = found.capacity_interval
        assert low < capacity < high
        assert high > unshrunk
        assert high - found.capacity > 1.2 * (found.capacity - low)

    @pytest.mark.parametrize("options", [{"rank": 4}, {"rank": 12}])
    def test_interval_adds_what_the_method_leaves_to_the_error_of_the_jackknife(self, options, hushed):
        from scipy.stats import t

        found = linear_gaussian_capacity(*draw(*channel(20, 2, snr=1.0, **options), 300, 1))
        error = (found.capacity - found.capacity_interval[0]) / t.ppf(0.975, 9)
        known = found.details
        rest = error**2 - known["capacity_standard_error"] ** 2
        rest -= (known["capacity_jackknife_correction"] / 2) ** 2 + (known["difference_of_shrunk_estimates"] / 2) ** 2
        assert rest == pytest.approx((0.04 * (found.capacity - found.rate)) ** 2, rel=0.3)

    def test_stated_covariance_is_projected_with_the_output(self, hushed):
        a, sx, _ = channel(5, 3)
        noise = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
        x, y = draw(a, sx, noise, 200, 0)
        turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
        one = linear_gaussian_capacity(x, y, noise=noise, components=3)
        two = linear_gaussian_capacity(x, y @ turn.T, noise=turn @ noise @ turn.T, components=3)
        assert two.capacity == pytest.approx(one.capacity)
        assert two.rate_interval == pytest.approx(one.rate_interval)

    def test_rotations_keep_slow_drifts_from_passing_for_information(self, hushed):
        def drift(seed):
            return np.cumsum(np.random.default_rng(seed).normal(size=300))

        groups = np.arange(300) // 10
        p_values = [
            linear_gaussian_capacity(drift(s), drift(100 + s), groups=groups, permutations=19).p_value
            for s in range(12)
        ]
        assert np.mean(np.array(p_values) <= 0.05) < 0.4

    def test_shrunk_capacity_is_the_recipe_written_out(self):
        """The slow twin: both shrunk maps as matrices, with means over Wishart matrices drawn for it."""
        p, q, n = 6, 5, 40
        known = channel(p, 8, snr=2.0)
        x, y = draw(known[0], known[1], known[2], n, 3)
        y = y[:, :q]
        found = _linear_fit.fit(_linear_fit.moments(x, y), None, 4.0, shrink=True)
        xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
        left = n - 1 - p
        map_ = np.linalg.lstsq(xc, yc, rcond=None)[0].T
        residual = yc - xc @ map_.T
        variances, basis = np.linalg.eigh(np.cov(xc.T))
        snr = np.linalg.solve(np.linalg.cholesky(residual.T @ residual / left), map_ @ basis) * np.sqrt(variances)
        noise = np.random.default_rng(0).normal(size=(20000, left, q))
        wishart = noise.transpose(0, 2, 1) @ noise / left
        inverse = q / np.trace(np.linalg.inv(wishart), axis1=1, axis2=2).mean()
        logarithm = np.exp(np.linalg.slogdet(wishart)[1].mean() / q)
        chance = q / (n - 1)
        weight = np.maximum(1 - chance / (logarithm * (snr**2).sum(axis=0)), 0)
        _, s, right = np.linalg.svd(snr, full_matrices=False)
        expected = np.sqrt(np.maximum(inverse * s**2 - chance, 0))[:, None] * right

        def gap(matrix):
            best = gaussian_mimo_capacity(matrix / np.sqrt(variances), np.eye(len(matrix)), 4.0).capacity
            return best - gaussian_rate(matrix, np.eye(len(matrix)), np.eye(p))

        first, second = gap(np.sqrt(logarithm) * snr * weight), gap(expected * weight)
        assert found.capacity - found.rate == pytest.approx((first + second) / 2, rel=2e-3)
        assert found.spread == pytest.approx(first - second, abs=2e-3 * abs(first))
        assert found.unshrunk - found.rate == pytest.approx(gap(expected), rel=2e-3)
        assert min(abs(first - second), abs(gap(expected) - second)) > 0.01 * abs(first)
        assert 0.5 < inverse < logarithm < 0.99

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"x": np.zeros((0, 3))}, ShapeError, "0 samples"),
            ({"x": np.ones((50, 3))}, DomainError, "constant"),
            ({"y": np.ones((50, 3))}, DomainError, "constant"),
            ({"y": np.ones((40, 3))}, ShapeError, "50 and 40"),
            ({"x": np.full((50, 3), np.nan)}, DomainError, "nan"),
            ({"y": np.full((50, 3), np.inf)}, DomainError, "inf"),
            ({"x": 1e200 * np.arange(150.0).reshape(50, 3) ** 2}, DomainError, "rescale"),
            ({"y": 1e-200 * np.arange(150.0).reshape(50, 3) ** 2, "noise": 1.0}, DomainError, "rescale"),
            ({"x": np.ones((5, 3, 2))}, ShapeError, "samples, components"),
            ({"x": np.ones((1, 3)), "y": np.ones((1, 3))}, ShapeError, "1 samples"),
            ({"groups": [1, 2]}, ShapeError, "one for each"),
            ({"groups": np.linspace(0, 1, 50)}, DomainError, "whole numbers"),
            ({"noise": "none"}, ArgumentError, "'residual'"),
            ({"noise": 0.0}, DomainError, "infinite"),
            ({"noise": [1.0, 2.0]}, ShapeError, r"\(3,\)"),
            ({"noise": -np.eye(3)}, DomainError, "positive definite"),
            ({"noise": np.triu(np.ones((3, 3)))}, DomainError, "symmetric"),
            ({"power": 0.0}, DomainError, "above zero"),
            ({"power": np.inf}, DomainError, "finite"),
            ({"shrinkage": "ridge"}, ArgumentError, "james_stein"),
            ({"components": 0}, ArgumentError, "at least 1"),
            ({"components": 4}, ArgumentError, "has 3"),
            ({"folds": 1}, ArgumentError, "at least 2"),
            ({"permutations": -1}, ArgumentError, "at least 0"),
            ({"level": 1.0}, ArgumentError, "level"),
            ({"rng": "x"}, ArgumentError, "rng"),
            ({"unit": "bans"}, ArgumentError, "nats"),
        ],
    )
    def test_guards(self, change, error, match):
        x, y = draw(*channel(3, 0), 50, 0)
        arguments = {"x": x, "y": y, **change}
        with pytest.raises(error, match=match):
            linear_gaussian_capacity(arguments.pop("x"), arguments.pop("y"), **arguments)

    def test_one_huge_group_leaves_nothing_to_rotate(self):
        x, y = draw(*channel(3, 0), 100, 0)
        groups = np.where(np.arange(100) < 60, 0, np.arange(100))
        with pytest.raises(ArgumentError, match="half the samples"):
            linear_gaussian_capacity(x, y, groups=groups, permutations=5)

    def test_tensors_that_record_gradients_are_refused(self):
        torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
        x, y = draw(*channel(3, 0), 50, 0)
        with pytest.raises(DomainError, match="records a gradient"):
            linear_gaussian_capacity(torch.tensor(x, requires_grad=True), y)
        assert linear_gaussian_capacity(torch.tensor(x), y).capacity == linear_gaussian_capacity(x, y).capacity


# --------------------------------------------------------------------------------------------- Jacobians


class TestJacobian:
    def test_diagonal_map_is_water_filled_by_hand(self):
        found = jacobian_capacity(np.diag([2.0, 1.0, 0.1])[None].repeat(2, axis=0), noise_cov=1.0, power=1.0)
        level = (1 + 1 / 4 + 1) / 2  # the third floor, 100, stays dry
        assert found.capacity == pytest.approx(0.5 * np.log(level * 4 * level * 1))
        assert found.capacity_interval == pytest.approx((found.capacity, found.capacity))
        assert found.rate is None

    @pytest.mark.parametrize("kind", ["number", "variances", "covariance", "per point"])
    def test_batch_is_the_mean_of_single_channels(self, kind):
        rng = np.random.default_rng(0)
        j = rng.normal(size=(7, 3, 5))
        root = rng.normal(size=(3, 3))
        noise = {"number": 0.5, "variances": np.array([0.1, 1, 2]), "covariance": root @ root.T + np.eye(3),
                 "per point": rng.uniform(0.1, 1, size=(7, 3))}[kind]  # fmt: skip
        sx = np.diag([1.0, 2, 3, 0, 0])
        found = jacobian_capacity(j, noise_cov=noise, input_cov=sx, unit="bits")
        full = [np.diag(noise[i]) if kind == "per point" else noise for i in range(7)]
        slow = [gaussian_mimo_capacity(m, s, 6.0, unit="bits").capacity for m, s in zip(j, full, strict=True)]
        rates = [gaussian_rate(m, s, sx, unit="bits") for m, s in zip(j, full, strict=True)]
        np.testing.assert_allclose(found.details["capacities"], slow, rtol=1e-10)
        np.testing.assert_allclose(found.details["rates"], rates, rtol=1e-10)
        assert found.capacity == pytest.approx(np.mean(slow))
        error = np.std(slow, ddof=1) / np.sqrt(7)
        assert found.capacity_interval[1] - found.capacity == pytest.approx(2.4469 * error, rel=1e-4)  # t of 6
        assert 0 < found.utilization < 1

    def test_portions_change_nothing(self, monkeypatch):
        rng = np.random.default_rng(4)
        jacobians, noise = rng.normal(size=(7, 3, 2)), rng.uniform(0.5, 2, size=(7, 3))
        options = {"noise_cov": noise, "power": 2.0, "input_cov": np.diag([1.0, 0.5])}
        whole = jacobian_capacity(jacobians, **options)
        monkeypatch.setattr(jacobian, "MEMORY", 2 * 8 * 6)
        parts = jacobian_capacity(jacobians, **options)
        assert np.allclose(parts.details["capacities"], whole.details["capacities"])
        assert np.allclose(parts.details["rates"], whole.details["rates"])

    def test_interval_is_robust_to_repeated_points(self):
        slopes = np.random.default_rng(0).uniform(1, 3, size=30)
        alone = jacobian_capacity(slopes[:, None, None], noise_cov=1.0, power=1.0)
        again = jacobian_capacity(
            slopes.repeat(5)[:, None, None], noise_cov=1.0, power=1.0, groups=np.arange(30).repeat(5)
        )
        assert again.capacity_interval == pytest.approx(alone.capacity_interval)
        blind = jacobian_capacity(slopes.repeat(5)[:, None, None], noise_cov=1.0, power=1.0)
        assert np.ptp(blind.capacity_interval) < 0.6 * np.ptp(alone.capacity_interval)

    def test_at_high_signal_the_rate_is_the_volume_in_the_fisher_metric(self):
        j = np.random.default_rng(0).normal(size=(4, 3, 3))
        sigma = 1e-4
        found = jacobian_capacity(j, noise_cov=sigma**2, input_cov=np.eye(3), groups=[0, 0, 1, 1])
        fisher = np.swapaxes(j, 1, 2) @ j / sigma**2
        np.testing.assert_allclose(found.details["rates"], np.linalg.slogdet(fisher)[1] / 2, rtol=1e-6)

    def test_linear_layer_agrees_with_the_fit_to_its_samples(self):
        a, sx, sn = channel(5, 1)
        x, y = draw(a, sx, sn, 5000, 0)
        fitted = linear_gaussian_capacity(x, y)
        with pytest.warns(EstimateWarning, match="no interval"):
            local = jacobian_capacity(a, noise_cov=sn, input_cov=sx)
        assert local.capacity_interval is None
        assert covers(fitted, local.capacity, local.rate)

    def test_zero_jacobian_has_no_capacity(self):
        found = jacobian_capacity(np.zeros((3, 2, 2)), noise_cov=1.0, power=1.0)
        assert found.capacity == 0

    @pytest.mark.parametrize(
        ("arguments", "error", "match"),
        [
            ({"jacobians": np.zeros((0, 2, 2))}, ShapeError, "empty"),
            ({"jacobians": np.zeros(3)}, ShapeError, "points"),
            ({"jacobians": np.full((2, 2, 2), np.nan)}, DomainError, "nan"),
            ({"noise_cov": 0.0}, DomainError, "infinite"),
            ({"noise_cov": np.array([[1.0, -1], [1, 1], [1, 1]])}, DomainError, "above zero"),
            ({"noise_cov": np.ones(3)}, ShapeError, r"\(3, 2\)"),
            ({"noise_cov": "residual"}, ArgumentError, "wanted a variance"),
            ({"noise_cov": np.ones((2, 2))}, DomainError, "positive definite"),
            ({"power": None}, ArgumentError, "input constraint"),
            ({"power": -1.0}, DomainError, "above zero"),
            ({"input_cov": np.eye(3)}, ShapeError, r"\(2, 2\)"),
            ({"input_cov": -np.eye(2)}, DomainError, "covariance"),
            ({"input_cov": np.array([[1.0, 0.5], [0, 1]])}, DomainError, "symmetric"),
            ({"groups": [1]}, ShapeError, "one for each"),
            ({"level": 0}, ArgumentError, "level"),
        ],
    )
    def test_guards(self, arguments, error, match):
        given = {"jacobians": np.ones((3, 2, 2)), "noise_cov": 1.0, "power": 1.0, **arguments}
        with pytest.raises(error, match=match):
            jacobian_capacity(given.pop("jacobians"), **given)

    @pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
    def test_number_format_noise_is_the_error_of_rounding(self, name):
        torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
        y = np.random.default_rng(0).normal(size=(40_000, 2)) * [1.0, 30.0]
        rounded = torch.tensor(y).to(getattr(torch, name)).double().numpy()
        measured = ((rounded - y) ** 2).mean(axis=0)
        np.testing.assert_allclose(number_format_noise(y, name), measured, rtol=0.06)
        np.testing.assert_array_equal(number_format_noise(y, f"torch.{name}"), number_format_noise(y, name))

    def test_number_format_noise_of_powers_of_two_and_zero(self):
        found = number_format_noise([[1.0, 2.0, 0.0, 1.99]], "float16")
        ulp = np.array([2.0**-10, 2.0**-9, 2.0**-24, 2.0**-10])
        np.testing.assert_array_equal(found, ulp**2 / 12)

    def test_number_format_noise_guards(self):
        with pytest.raises(ArgumentError, match="float64"):
            number_format_noise([[1.0]], "float64")
        with pytest.raises(DomainError, match="cannot hold"):
            number_format_noise([[1e5]], "float16")


# --------------------------------------------------------------------------------------------- heads


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class TestHeads:
    def test_permutation_and_equal_rows_are_the_ends(self):
        ends = [np.stack([np.eye(5)[[2, 0, 1, 4, 3]], np.full((5, 5), 0.2)])] * 2
        best, worst = attention_capacity(ends, causal=False, unit="bits")
        assert best.capacity == pytest.approx(np.log2(5))
        assert best.capacity == pytest.approx(best.ceiling)
        assert worst.capacity == pytest.approx(0, abs=1e-9)
        assert best.name == "head 1"
        assert worst.name == "head 2"

    def test_batch_is_the_loop_over_heads_and_texts_of_several_lengths(self):
        rng = np.random.default_rng(0)
        maps = [softmax(3 * rng.normal(size=(2, 3, t, k))) for t, k in ((4, 6), (7, 5), (4, 6))]
        found = attention_capacity(maps, causal=False)
        assert [f.name for f in found[:4]] == ["head 1, 1", "head 1, 2", "head 1, 3", "head 2, 1"]
        for each, place in zip(found, np.ndindex(2, 3), strict=True):
            slow = [float(blahut_arimoto(m[place]).capacity) for m in maps]
            even = [float(channel_information(m[place])) for m in maps]
            np.testing.assert_allclose(each.details["capacities"], slow, atol=1e-8)
            np.testing.assert_allclose(each.details["rates"], even, atol=1e-12)
            assert each.rate <= each.capacity + 1e-9
            assert each.ceiling == pytest.approx(np.mean(np.log([4, 5, 4])))
            assert each.capacity_interval[0] < each.capacity < each.capacity_interval[1]

    def test_causal_mask_alone_carries_information(self):
        t = 6
        uniform = np.tril(np.ones((t, t))) / np.arange(1, t + 1)[:, None]
        found = attention_capacity([uniform, uniform], causal=True)
        assert found.capacity > 0.3
        assert found.details["uniform_capacity"] == pytest.approx(found.capacity)
        assert found.details["uniform_rate"] == pytest.approx(found.rate)
        assert found.details["log_visible"] == pytest.approx(np.log(np.arange(1, t + 1)).mean())
        assert found.ceiling == pytest.approx(np.log(t))

    def test_causal_with_earlier_keys_in_a_cache(self):
        m = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
        found = attention_capacity([m, m], causal=True)
        assert found.details["log_visible"] == pytest.approx(np.log([2, 3]).mean())

    def test_rows_that_lost_a_sink_are_refused_or_completed(self):
        whole = softmax(np.random.default_rng(0).normal(size=(4, 5)))
        cut = whole[:, 1:]
        with pytest.raises(DomainError, match=r"row 0 sums to 0\.\d+.*outside=True"):
            attention_capacity([cut, cut], causal=False)
        found = attention_capacity([cut, cut], causal=False, outside=True)
        assert found.capacity == pytest.approx(float(blahut_arimoto(whole).capacity), abs=1e-8)

    def test_rounding_of_float32_passes_and_more_does_not(self):
        m = softmax(np.random.default_rng(0).normal(size=(9, 9))).astype(np.float32)
        attention_capacity([m, m], causal=False)
        bad = m.copy()
        bad[3] *= 1.01
        with pytest.raises(DomainError, match=r"row 3 sums to 1\.0[01]"):
            attention_capacity([bad, bad], causal=False)

    def test_half_precision_tensors_are_read_with_their_own_rounding(self):
        torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
        m = softmax(2 * np.random.default_rng(0).normal(size=(9, 9)))
        half = torch.tensor(m).to(torch.bfloat16)
        found = attention_capacity([half, half], causal=False)
        assert found.capacity == pytest.approx(attention_capacity([m, m], causal=False).capacity, rel=0.02)
        logs = torch.tensor(np.log(m)).to(torch.float16)
        assert readout_capacity(logs, contexts=3).capacity == pytest.approx(
            readout_capacity(np.log(m), contexts=3).capacity, rel=0.02
        )

    def test_whole_rows_lose_nothing_to_the_outside(self):
        rng = np.random.default_rng(5)
        maps = [m.astype(np.float32) for m in rng.dirichlet(np.ones(7), size=(6, 7))]  # sums above and below one
        outside = attention_capacity(maps, causal=False, outside=True)
        inside = attention_capacity(maps, causal=False)
        assert outside.details["capacities"] == pytest.approx(inside.details["capacities"], abs=1e-6)

    def test_ceiling_counts_the_outside_as_a_key(self):
        rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.5, 0.5]])
        found = attention_capacity([rows, rows], causal=False, outside=True)
        assert found.ceiling == pytest.approx(np.log(3))
        assert found.capacity == pytest.approx(np.log(3))

    def test_interval_is_robust_to_repeated_texts(self):
        maps = list(np.random.default_rng(6).dirichlet(np.ones(5), size=(6, 5)))
        once = attention_capacity(maps, causal=False)
        thrice = attention_capacity([m for m in maps for _ in range(3)], causal=False, groups=np.arange(18) // 3)
        assert thrice.capacity_interval == pytest.approx(once.capacity_interval)
        assert thrice.rate_interval == pytest.approx(once.rate_interval)

    def test_one_text_has_no_interval(self):
        with pytest.warns(EstimateWarning, match="one text only"):
            found = attention_capacity([np.eye(3)], causal=True)
        assert found.capacity_interval is None

    @pytest.mark.parametrize(
        ("maps", "options", "error", "match"),
        [
            ([], {}, ShapeError, "no text"),
            ([np.ones(3) / 3], {}, ShapeError, "queries, keys"),
            ([np.zeros((0, 3))], {}, ShapeError, "empty"),
            ([np.eye(3), np.eye(3)[None]], {}, ShapeError, "text 1 has heads"),
            ([[[1.5, -0.5], [0, 1]]], {}, DomainError, "not negative"),
            ([[[np.nan, 0.5], [0, 1]]], {}, DomainError, "nan"),
            ([[[0.5, 0.5], [0, 1]]], {"causal": True}, DomainError, "no later key"),
            ([np.ones((3, 2)) / 2], {"causal": True}, ShapeError, "at least as many keys"),
            ([np.eye(2)], {"causal": 1}, ArgumentError, "True or False"),
            ([np.eye(2)], {"outside": None}, ArgumentError, "True or False"),
            ([np.eye(2)], {"groups": [1, 2]}, ShapeError, "one for each"),
            ([[[0.9, 0.2], [0, 1]]], {"outside": True}, DomainError, "at most 1"),
        ],
    )
    def test_guards(self, maps, options, error, match):
        with pytest.raises(error, match=match):
            attention_capacity(maps, **{"causal": False, **options})


# --------------------------------------------------------------------------------------------- read-out


class TestReadout:
    def test_channels_of_stated_size_do_not_grow_with_the_sample(self, no_warning):
        rng = np.random.default_rng(0)
        logits = 3 * rng.normal(size=(800, 50))
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        small, large = (readout_capacity(log_probs[:n], contexts=16, level=0.99) for n in (200, 800))
        assert small.capacity_interval[0] < large.capacity < small.capacity_interval[1]
        assert np.ptp(large.capacity_interval) < np.ptp(small.capacity_interval)
        more = readout_capacity(log_probs, contexts=64)
        assert more.capacity > large.capacity_interval[1]  # what grows with contexts, as the page says

    def test_against_one_channel_by_hand(self):
        p = np.random.default_rng(1).dirichlet(np.ones(6), size=5)
        with pytest.warns(EstimateWarning, match="one channel"):
            found = readout_capacity(np.log(p), contexts=5, unit="bits")
        assert found.capacity == pytest.approx(float(blahut_arimoto(p, unit="bits").capacity), abs=1e-7)
        assert found.rate == pytest.approx(float(channel_information(p, unit="bits")))
        assert found.ceiling == pytest.approx(np.log2(5))
        assert found.details["curve"][-1] == (5, pytest.approx(found.rate))

    def test_curve_is_the_mean_over_blocks(self):
        p = np.random.default_rng(1).dirichlet(np.ones(6), size=8)
        found = readout_capacity(np.log(p), contexts=4, rng=3)
        order = np.random.default_rng(3).permutation(8)
        for size, value in found.details["curve"]:
            slow = np.mean([float(channel_information(p[order[i : i + size]])) for i in range(0, 8, size)])
            assert value == pytest.approx(slow)
        assert [size for size, _ in found.details["curve"]] == [2, 4, 8]

    def test_information_of_the_population_is_less_biased_than_that_of_the_sample(self):
        kinds = np.random.default_rng(2).dirichlet(np.full(40, 0.3), size=3000)
        exact = float(channel_information(kinds))
        rng = np.random.default_rng(0)
        found = [readout_capacity(np.log(kinds[rng.integers(3000, size=100)] + 0.0), contexts=10).details
                 for _ in range(20)]  # fmt: skip
        raw, corrected = (np.mean([f[k] for f in found]) for k in ("information_of_sample", "information"))
        assert abs(corrected - exact) < 0.3 * abs(raw - exact)
        inside = [f["information_interval"][0] < exact < f["information_interval"][1] for f in found]
        assert np.mean(inside) >= 0.8

    def test_portions_change_nothing(self, monkeypatch):
        p = np.random.default_rng(1).dirichlet(np.ones(7), size=33)
        whole = readout_capacity(np.log(p), contexts=8)
        monkeypatch.setattr("infogeo.capacity.readout.MEMORY", 8 * 7 * 2)
        parts = readout_capacity(np.log(p), contexts=8)
        assert parts.capacity == whole.capacity
        assert parts.details["information"] == pytest.approx(whole.details["information"], rel=1e-12)

    def test_interval_of_the_information_is_robust_to_repeated_contexts(self):
        log_probs = np.log(np.random.default_rng(7).dirichlet(np.ones(6), size=40))
        once = readout_capacity(log_probs, contexts=8)
        thrice = readout_capacity(np.repeat(log_probs, 3, axis=0), contexts=8, groups=np.arange(120) // 3)
        assert thrice.details["information"] == pytest.approx(once.details["information"])
        assert thrice.details["information_interval"] == pytest.approx(once.details["information_interval"])

    def test_few_contexts_are_warned_of(self):
        p = np.random.default_rng(1).dirichlet(np.ones(7), size=5)
        with pytest.warns(EstimateWarning, match="fewer than contexts=64"):
            found = readout_capacity(np.log(p))
        assert found.details["contexts"] == 5

    def test_equal_contexts_carry_nothing_and_minus_infinity_is_no_probability(self):
        with np.errstate(divide="ignore"):
            same = np.log(np.tile([0.5, 0.5, 0.0], (8, 1)))
        found = readout_capacity(same, contexts=4)
        assert found.capacity == pytest.approx(0, abs=1e-8)
        assert found.details["information"] == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        ("log_probs", "options", "error", "match"),
        [
            (np.zeros((4, 2)), {}, DomainError, r"row \d sum to 2"),
            (np.full((4, 2), np.nan), {}, DomainError, "nan"),
            (np.full((4, 2), 1000.0), {}, DomainError, "sum to inf"),
            (np.zeros(3), {}, ShapeError, "contexts, tokens"),
            (np.zeros((1, 1)), {}, ShapeError, "1 contexts"),
            (np.zeros((4, 1), dtype=int), {}, DomainError, "real numbers"),
            (np.zeros((4, 1)), {"contexts": 1}, ArgumentError, "at least 2"),
            (np.zeros((4, 1)), {"tol": 0}, ArgumentError, "above zero"),
        ],
    )
    def test_guards(self, log_probs, options, error, match):
        with pytest.raises(error, match=match):
            readout_capacity(log_probs, **{"contexts": 2, **options})


# --------------------------------------------------------------------------------------------- deb2025


class TestDeb2025:
    def test_it_measures_the_sample_size(self, hushed):
        rng = np.random.default_rng(0)
        found = [deb2025_capacity(x, x) for x in (rng.normal(size=n) for n in (100, 400, 1600))]
        capacities = [f.capacity for f in found]
        assert capacities[0] + 0.5 < capacities[1] < capacities[2] - 0.5
        widths = [f.details["bandwidth"] for f in found]
        assert widths[0] >= widths[1] > widths[2]

    def test_it_always_warns_and_returns_its_choices(self):
        x = np.random.default_rng(0).normal(size=(10, 5))
        with pytest.warns(EstimateWarning, match="measures the bandwidth"):
            found = deb2025_capacity(x, np.tanh(x), bandwidth=0.2, grid=30, unit="nats")
        assert found.details["bandwidth"] == 0.2
        assert not found.details["cross_validated"]
        assert found.details["grid"] == 30
        assert found.details["x_range"] == (x.min(), x.max())
        assert found.ceiling == pytest.approx(np.log(30))
        assert "0.2" in found.noise

    def test_bandwidth_is_that_of_trying_all(self):
        rng = np.random.default_rng(3)
        for n, noise in ((43, 0.0), (60, 0.5), (30, 0.05)):
            x = rng.normal(size=n)
            y = np.tanh(x) + noise * rng.normal(size=n)
            pairs = np.stack([x, y], axis=1)
            scores = []
            for h in deb2025.BANDWIDTHS:
                score = 0.0
                for fold in np.array_split(np.arange(n), 5):
                    train = np.delete(pairs, fold, axis=0)
                    d2 = ((pairs[fold][:, None] - train) ** 2).sum(axis=-1) / (2 * h * h)
                    peak = d2.min(axis=1)
                    density = np.log(np.exp(peak[:, None] - d2).mean(axis=1)) - peak - np.log(2 * np.pi * h * h)
                    score += density.sum()
                scores.append(score)
            assert deb2025.cross_validated_bandwidth(x, y) == deb2025.BANDWIDTHS[int(np.argmax(scores))]

    def test_rows_are_inputs(self, hushed):
        rng = np.random.default_rng(0)
        x = rng.normal(size=300)
        y = np.maximum(x, 0)
        found = deb2025_capacity(x, y, bandwidth=0.2, unit="nats")
        joint = np.zeros((100, 100))
        a, b = np.linspace(x.min(), x.max(), 100), np.linspace(y.min(), y.max(), 100)
        for xi, yi in zip(x, y, strict=True):
            joint += np.outer(np.exp(-((a - xi) ** 2) / 0.08), np.exp(-((b - yi) ** 2) / 0.08))
        forward = joint / joint.sum(axis=1, keepdims=True)
        backward = (joint / joint.sum(axis=0)).T
        assert found.capacity == pytest.approx(float(blahut_arimoto(forward).capacity), abs=1e-8)
        assert abs(found.capacity - float(blahut_arimoto(backward).capacity)) > 0.01
        prior = joint.sum(axis=1) / joint.sum()
        assert found.rate == pytest.approx(float(channel_information(forward, prior)))

    def test_grid_points_out_of_reach_are_dropped_and_counted(self, hushed):
        x = np.concatenate([np.linspace(0, 1, 50), [100.0]])
        found = deb2025_capacity(x, x, bandwidth=0.05, grid=50)
        left = found.details["grid_rows_without_samples"]
        assert left > 30
        assert f"one of {50 - left} values" in found.constraint
        assert any(f"{left} of 50 grid points" in warning for warning in found.warnings)

    @pytest.mark.parametrize(("scale", "which"), [(50.0, "largest"), (1.0, None), (1e-4, "smallest")])
    def test_a_bandwidth_at_the_end_of_the_published_ones_is_said(self, scale, which, hushed):
        x, y = np.random.default_rng(0).normal(size=(2, 60)) * scale
        said = [w for w in deb2025_capacity(x, y).warnings if "cross-validation chose" in w]
        assert len(said) == (which is not None)
        assert which is None or f"chose the {which} bandwidth" in said[0]

    @pytest.mark.parametrize(
        ("x", "y", "options", "error", "match"),
        [
            (np.arange(20.0), np.arange(21.0), {}, ShapeError, "20 and 21"),
            (np.arange(5.0), np.arange(5.0), {}, ShapeError, "at least 10"),
            (np.ones(20), np.arange(20.0), {}, DomainError, "constant"),
            (np.arange(20.0), np.ones(20), {}, DomainError, "constant"),
            (np.full(20, np.nan), np.arange(20.0), {}, DomainError, "nan"),
            (np.arange(20.0), np.arange(20.0), {"bandwidth": 0.0}, ArgumentError, "above zero"),
            (np.arange(20.0), np.arange(20.0), {"bandwidth": np.inf}, ArgumentError, "finite"),
            (np.arange(12.0), np.r_[3.0, np.arange(10), 3], {"bandwidth": 1e-3, "grid": 3}, DomainError, "too small"),
            (1e4 * np.arange(12.0), 1e4 * np.r_[3.0, np.arange(10), 3], {"grid": 3}, DomainError, "rescale x and y"),
            (np.arange(20.0), np.arange(20.0), {"grid": 1}, ArgumentError, "at least 2"),
            (np.arange(20.0), np.arange(20.0), {"tol": -1}, ArgumentError, "above zero"),
            (np.arange(20.0), np.arange(20.0), {"unit": "bit"}, ArgumentError, "bits"),
        ],
    )
    def test_guards(self, x, y, options, error, match, hushed):
        with pytest.raises(error, match=match):
            deb2025_capacity(x, y, **options)


# --------------------------------------------------------------------------------------------- the door, the check


class TestLayerCapacity:
    def test_it_passes_on_to_each_view(self, hushed):
        x, y = draw(*channel(3, 0), 100, 0)
        log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(4), size=20))
        calls = {
            "linear_gaussian": ((x, y), {"folds": 5}, linear_gaussian_capacity),
            "jacobian": ((np.ones((3, 2, 2)),), {"noise_cov": 1.0, "power": 2.0}, jacobian_capacity),
            "attention": (([np.eye(3)],), {"causal": True}, attention_capacity),
            "readout": ((log_probs,), {"contexts": 5}, readout_capacity),
            "deb2025": ((x, y), {"bandwidth": 0.3}, deb2025_capacity),
        }
        for view, (arrays, options, function) in calls.items():
            found = layer_capacity(*arrays, view=view, **options)
            assert found.view == view
            assert found.capacity == function(*arrays, **options).capacity

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"view": "linear"}, "linear_gaussian, jacobian, attention, readout, deb2025"),
            ({"view": "linear_gaussian"}, "needs the outputs"),
            ({"view": "jacobian", "power": 1.0}, "needs noise_cov"),
            ({"view": "attention", "causal": True, "y": 1}, "leave y out"),
            ({"view": "deb2025", "y": np.eye(3), "sigma": 1}, "no option sigma; it takes bandwidth"),
        ],
    )
    def test_guards(self, arguments, match):
        with pytest.raises(ArgumentError, match=match):
            layer_capacity(np.eye(3), **arguments)


def stochastic(rng, n, m):
    return rng.dirichlet(np.full(m, 0.5), size=n)


class TestDataProcessing:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), n=st.integers(2, 6), k=st.integers(2, 6), m=st.integers(2, 6))
    def test_composed_discrete_channels_obey(self, seed, n, k, m):
        rng = np.random.default_rng(seed)
        first, second = stochastic(rng, n, k), stochastic(rng, k, m)
        stages = [attention_capacity([w, w], causal=False) for w in (first, first @ second)]
        for quantity in ("capacity", "rate"):
            assert data_processing_check(stages, quantity=quantity, tolerance=1e-8).obeyed

    def test_composed_linear_channels_obey_and_the_reverse_order_does_not(self):
        rng = np.random.default_rng(0)
        a, sx, sn = channel(6, 1, snr=5)
        x, t1 = draw(a, sx, sn, 4000, 0)
        t2 = t1 @ rng.normal(size=(6, 6)) + 2 * rng.normal(size=(4000, 6))
        stages = [linear_gaussian_capacity(x, t) for t in (t1, t2)]
        for quantity in ("rate", "capacity"):
            found = data_processing_check(stages, quantity=quantity)
            assert found.obeyed
            assert found.above == ()
        wrong = data_processing_check(stages[::-1])
        assert wrong.violations == (1,)
        assert not wrong.obeyed
        assert "violation" in wrong.rows()[1][1][-1]
        assert "violated at stage 1" in wrong.summary()

    def test_rises_within_the_intervals_are_told_from_others(self):
        def stage(value, half, unit="nats"):
            return InformationEstimate(
                quantity="I(X; T)", value=value, unit=unit, method="m", n=9, dimensions=(1, 1),
                interval=None if half is None else (value - half, value + half),
            )  # fmt: skip

        found = data_processing_check([stage(1.0, 0.2), stage(1.1, 0.2), stage(1.6, 0.2), stage(0.5, None)])
        assert found.above == (1, 2)
        assert found.violations == (2,)
        assert found.excesses[1:] == pytest.approx((0.1, 0.6, -0.5))
        assert found.quantity == "I(X; T)"
        mixed = data_processing_check([stage(1.0, None), stage(1.4, None, "bits")])
        assert mixed.obeyed  # 0.97 nats
        assert mixed.values[1] == pytest.approx(1.4 * np.log(2))
        slow_rise = data_processing_check([stage(1.0, None), stage(1.0 + 1e-12, None)])
        assert slow_rise.obeyed

    def test_guards(self):
        stage = LayerCapacity(view="jacobian", capacity=1.0, unit="nats", noise="", constraint="", n=1)
        estimate = InformationEstimate(quantity="I", value=1.0, unit="nats", method="", n=1, dimensions=(1,))
        nan = InformationEstimate(quantity="I", value=np.nan, unit="nats", method="", n=1, dimensions=(1,))
        with pytest.raises(ShapeError, match="at least two"):
            data_processing_check([stage])
        with pytest.raises(ArgumentError, match="all of one kind"):
            data_processing_check([stage, estimate])
        with pytest.raises(ArgumentError, match="no rate"):
            data_processing_check([stage, stage])
        with pytest.raises(ArgumentError, match="quantity"):
            data_processing_check([stage, stage], quantity="value")
        with pytest.raises(DomainError, match="NaN"):
            data_processing_check([estimate, nan])


def script(name):
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    if not path.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_benchmarks_run_and_show_the_growth(capsys):
    assert script("deb2025").main(["--sizes", "100", "1600"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 6
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        assert float(large[4]) > float(small[4]) + 0.3  # deb2025
    assert rows[0][6] == rows[1][6]  # y = x under stated noise does not grow
    assert script("linear_channels").main(["--components", "8", "--sizes", "200", "--draws", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_results_become_json_and_tables(hushed):
    x, y = draw(*channel(3, 0), 100, 0)
    for found in (
        linear_gaussian_capacity(x, y),
        jacobian_capacity(np.ones((3, 2, 2)), noise_cov=1.0, power=2.0),
        attention_capacity([np.eye(3)], causal=True),
        deb2025_capacity(x, y, bandwidth=0.3),
    ):
        assert found.view in found.to_json()
        columns, rows = found.rows()
        assert len(columns) == len(rows[0])
        assert found.noise in found.summary()


def test_an_array_whose_axes_could_mean_anything_is_refused():
    maps = np.full((2, 3, 4, 4), 0.25)  # blocks and heads of one text
    with pytest.raises(ShapeError, match="for one text give"):
        attention_capacity(maps, causal=False)
    with pytest.warns(EstimateWarning, match="one text only"):
        assert len(attention_capacity([maps], causal=False)) == 6
