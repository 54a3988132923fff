"""Capacities of discrete channels: closed forms, reference values, bounds, costs, batches, gradients, errors."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infogeo import blahut_arimoto, channel_information
from infogeo.capacity import _newton
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError

TOL = 1e-10


def binary_entropy(p: float) -> float:
    return 0.0 if p in (0.0, 1.0) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def symmetric(p: float) -> np.ndarray:
    return np.array([[1 - p, p], [p, 1 - p]])


def erasure(p: float) -> np.ndarray:
    return np.array([[1 - p, p, 0.0], [0.0, p, 1 - p]])


def z_channel(p: float) -> np.ndarray:
    return np.array([[1.0, 0.0], [p, 1 - p]])


def z_capacity(p: float) -> float:
    return math.log2(1 + (1 - p) * p ** (p / (1 - p)))


def typewriter(n: int) -> np.ndarray:
    return (np.eye(n) + np.roll(np.eye(n), 1, axis=1)) / 2


def random_channel(rng: np.random.Generator, n: int, m: int, spread: float = 1.0) -> np.ndarray:
    weights = rng.gamma(spread, size=(n, m)) + 1e-300
    return weights / weights.sum(axis=1, keepdims=True)


def amplitude_limited() -> np.ndarray:
    x, y = np.linspace(-3, 3, 201), np.linspace(-5, 5, 401)
    w = np.exp(-((y - x[:, None]) ** 2) / (2 * 0.5**2))
    return np.asarray(w / w.sum(axis=1, keepdims=True))


TEXTBOOK = [
    *((symmetric(p), 1 - binary_entropy(p)) for p in (0.0, 1e-9, 1e-6, 0.11, 0.499, 0.5)),
    *((erasure(p), 1 - p) for p in (0.0, 0.1, 0.5, 0.999, 1.0)),
    *((z_channel(p), z_capacity(p)) for p in (1e-6, 0.1, 0.5, 0.9, 0.99)),
    (np.eye(64), 6.0),
    (np.eye(7)[np.random.default_rng(0).permutation(7)], math.log2(7)),
    (typewriter(26), math.log2(13)),
    (np.full((5, 9), 1 / 9), 0.0),
    (np.ones((4, 1)), 0.0),
    (np.array([[0.3, 0.7]]), 0.0),
    # noise added modulo 5: log of the alphabet less the entropy of the noise
    (np.array([np.roll([0.6, 0.2, 0.1, 0.05, 0.05], i) for i in range(5)]),
     math.log2(5) + float(np.sum([p * math.log2(p) for p in (0.6, 0.2, 0.1, 0.05, 0.05)]))),
]


@pytest.mark.parametrize("solver", ["newton", "blahut_arimoto", "accelerated"])
@pytest.mark.parametrize(("channel", "bits"), TEXTBOOK)
def test_textbook_channels(channel, bits, solver):
    found = blahut_arimoto(channel, unit="bits", tol=1e-9, solver=solver)
    assert found.converged
    assert 0 <= found.upper - found.lower + 1e-15 <= 1e-9
    assert found.lower == pytest.approx(bits, abs=1e-9)
    assert found.lower <= bits + 1e-13
    assert found.upper >= bits - 1e-13


REFERENCE = [
    ("dirichlet", 8, 8, 1.0, 0.49813180100201737), ("dirichlet", 64, 64, 1.0, 0.6867028925122705),
    ("dirichlet", 256, 256, 1.0, 0.6752616050494754), ("dirichlet", 64, 64, 0.1, 2.7903190781334386),
]


@pytest.mark.parametrize(("kind", "n", "m", "spread", "bits"), REFERENCE)
def test_certified_reference_values(kind, n, m, spread, bits):
    channel = np.random.default_rng(n).dirichlet(spread * np.ones(m), size=n)
    found = blahut_arimoto(channel, unit="bits", tol=1e-12)
    assert found.lower == pytest.approx(bits, abs=2e-12)
    assert found.iterations <= 15


def test_the_amplitude_limited_channel():
    found = blahut_arimoto(amplitude_limited(), unit="bits", tol=1e-12)
    assert found.lower == pytest.approx(1.9512495649917594, abs=2e-12)
    peaks = found.input_probs > 1e-6
    assert peaks.sum() <= 20  # finitely many amplitudes (Smith 1971)


def test_all_reference_channels():
    folder = os.environ.get("INFOGEO_REFERENCE")
    if not folder:
        pytest.skip("the reference channels are not part of the project; name their folder in INFOGEO_REFERENCE")
    entries = json.loads((Path(folder) / "capacity.json").read_text(encoding="utf-8"))["channels"]
    made = 0
    for entry in entries:
        if "cost" in entry["generator"] or entry["generator"].startswith("x="):
            continue
        channel = eval(entry["generator"], {"numpy": np})  # the file's own recipe
        found = blahut_arimoto(channel, unit="bits", tol=1e-12)
        assert found.lower == pytest.approx(entry["capacity_bits"], abs=2e-12), entry["id"]
        made += 1
    assert made >= 14


def test_the_plain_iteration_and_newton_agree_where_both_are_done():
    rng = np.random.default_rng(1)
    for n, m in ((3, 5), (5, 3), (6, 6)):
        channel = random_channel(rng, n, m)
        values = [
            blahut_arimoto(channel, solver=solver, tol=1e-8).lower
            for solver in ("newton", "blahut_arimoto", "accelerated")
        ]
        assert np.ptp(values) < 1e-8


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12), m=st.integers(1, 12), spread=st.sampled_from([1e-3, 0.05, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_bracket_holds_and_is_narrow(n, m, spread, seed):
    rng = np.random.default_rng(seed)
    channel = random_channel(rng, n, m, spread)
    found = blahut_arimoto(channel)
    assert found.upper - found.lower <= TOL
    assert -1e-12 <= found.lower <= min(math.log(n), math.log(m)) + 1e-9
    p = found.input_probs
    assert p.min() >= 0
    assert p.sum() == pytest.approx(1, abs=1e-14)
    assert np.allclose(p @ channel, found.output_probs, atol=1e-15)
    assert found.lower == pytest.approx(slow_information(channel, p), abs=1e-12)
    for law in (*np.eye(n)[:3], *rng.dirichlet(np.ones(n), size=5)):
        assert slow_information(channel, law) <= found.upper + 1e-12


def slow_information(channel: np.ndarray, p: np.ndarray) -> float:
    q = p @ channel
    total = 0.0
    for x in range(channel.shape[0]):
        for y in range(channel.shape[1]):
            if p[x] > 0 and channel[x, y] > 0:
                total += p[x] * channel[x, y] * math.log(channel[x, y] / q[y])
    return total


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_properties_of_the_capacity(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 9, size=2)
    a, b = random_channel(rng, n, m), random_channel(rng, m, 6)
    c = blahut_arimoto(a).lower
    # the order of letters means nothing
    shuffled = a[rng.permutation(n)][:, rng.permutation(m)]
    assert blahut_arimoto(shuffled).lower == pytest.approx(c, abs=2e-10)
    # a second channel after the first loses information
    assert blahut_arimoto(a @ b).lower <= min(c, blahut_arimoto(b).lower) + 2e-10
    # side by side capacities add up; one or the other adds exponentials
    d = random_channel(rng, 3, 4)
    e = blahut_arimoto(d).lower
    assert blahut_arimoto(np.kron(a, d)).lower == pytest.approx(c + e, abs=3e-10)
    either = np.zeros((n + 3, m + 4))
    either[:n, :m], either[n:, m:] = a, d
    assert blahut_arimoto(either).lower == pytest.approx(np.logaddexp(c, e), abs=3e-10)
    # a further input cannot harm, a copy of one changes nothing
    assert blahut_arimoto(np.vstack([a, a[:1]])).lower == pytest.approx(c, abs=2e-10)
    # convex in the channel
    other = random_channel(rng, n, m)
    mixed = blahut_arimoto((a + other) / 2).lower
    assert mixed <= (c + blahut_arimoto(other).lower) / 2 + 2e-10


# Many inputs, few outputs: the step is solved through the outputs


def test_many_more_inputs_than_outputs():
    rng = np.random.default_rng(3)
    channel = random_channel(rng, 2000, 6)
    assert channel.shape[0] > _newton.DIRECT
    found = blahut_arimoto(channel)
    assert found.upper - found.lower <= TOL
    subset = blahut_arimoto(channel[found.input_probs > 1e-9])
    assert subset.lower == pytest.approx(found.lower, abs=1e-9)


@pytest.mark.parametrize("kind", ["waves", "amplitudes"])
def test_smooth_channels_of_many_inputs_reach_tight_gaps(kind):
    # without refinement of the steps these stall at 3e-11
    if kind == "waves":
        w = np.exp(3 * np.sin(np.linspace(0, 9, 681)[:, None] * np.arange(1, 10)))
    else:
        w = np.exp(-((np.linspace(-4, 4, 9) - np.linspace(-3, 3, 681)[:, None]) ** 2) / 2)
    channel = w / w.sum(axis=1, keepdims=True)
    assert blahut_arimoto(channel, tol=2e-12).converged


def test_batches_larger_than_a_chunk(monkeypatch):
    channels = random_channel(np.random.default_rng(4), 60, 5).reshape(12, 5, 5)
    whole = blahut_arimoto(channels)
    monkeypatch.setattr(_newton, "CHUNK", 1)
    parts = blahut_arimoto(channels)
    assert np.array_equal(parts.iterations, whole.iterations)
    assert np.abs(parts.lower - whole.lower).max() < 1e-10


def test_batch_equals_loop():
    rng = np.random.default_rng(5)
    channels = np.stack([random_channel(rng, 6, 4, s) for s in (0.01, 0.1, 1.0, 10.0, 100.0, 1.0)]).reshape(2, 3, 6, 4)
    found = blahut_arimoto(channels)
    assert found.lower.shape == found.converged.shape == found.iterations.shape == (2, 3)
    assert found.input_probs.shape == (2, 3, 6)
    for i in range(2):
        for j in range(3):
            one = blahut_arimoto(channels[i, j])
            assert one.lower == pytest.approx(found.lower[i, j], abs=2e-10)
            assert one.iterations == found.iterations[i, j]


# Cost


COST_POINTS = [
    (0.0, 0.5310044064107188, 0.5), (0.2, 0.5198207990615835, 0.42227937389279613),
    (0.5, 0.46385662884624074, 0.31080641916748486), (1.0, 0.2960717250843367, 0.15337517353180244),
    (1.5, 0.09651634813199773, 0.04120530024765537),
]


@pytest.mark.parametrize(("s", "bits", "spent"), COST_POINTS)
def test_reference_points_of_the_capacity_cost_function(s, bits, spent):
    by_price = blahut_arimoto(symmetric(0.1), cost=[0, 1], multiplier=s / math.log(2), unit="bits", tol=1e-12)
    assert by_price.lower == pytest.approx(bits, abs=1e-6)
    assert by_price.cost == pytest.approx(spent, abs=1e-6)
    by_budget = blahut_arimoto(symmetric(0.1), cost=[0, 1], budget=spent, unit="bits", tol=1e-11)
    assert by_budget.lower == pytest.approx(bits, abs=2e-11)
    assert by_budget.multiplier * math.log(2) == pytest.approx(s, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([1e-4, 0.01, 0.2, 0.5, 0.9, 1.0, 3.0]))
def test_budgets_are_kept_and_the_bracket_holds(seed, share):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 10, size=2)
    channel, cost = random_channel(rng, n, m), rng.normal(size=n) * 10.0 ** rng.integers(-3, 4)
    budget = cost.min() + share * np.ptp(cost)
    found = blahut_arimoto(channel, cost=cost, budget=budget)
    assert found.cost <= budget + 1e-12 * np.abs(cost).max()
    assert found.cost == pytest.approx(found.input_probs @ cost, rel=1e-12, abs=1e-12 * np.abs(cost).max())
    assert 0 <= found.upper - found.lower + 1e-14 <= TOL
    assert found.multiplier >= 0
    free = blahut_arimoto(channel)
    assert found.lower <= free.upper + 1e-12
    if share >= 1:
        assert found.lower == pytest.approx(free.lower, abs=2e-10)
    for law in rng.dirichlet(np.ones(n), size=20):
        if law @ cost <= budget:
            assert slow_information(channel, law) <= found.upper + 1e-12


def test_the_capacity_cost_function_is_concave_with_the_multiplier_as_slope():
    rng = np.random.default_rng(8)
    channel, cost = random_channel(rng, 7, 7, 0.3), rng.uniform(size=7)
    budgets = np.linspace(cost.min(), cost.max(), 41)
    curve = blahut_arimoto(channel, cost=cost, budget=budgets, tol=1e-12)
    assert (np.diff(curve.lower) >= -1e-11).all()
    assert (np.diff(curve.lower, 2) <= 1e-11).all()
    step = 1e-5
    ends = blahut_arimoto(channel, cost=cost, budget=np.stack([budgets + step, budgets - step])[:, 5:25], tol=1e-13)
    slope = (ends.lower[0] - ends.lower[1]) / (2 * step)
    assert np.allclose(slope, curve.multiplier[5:25], atol=1e-4)


@pytest.mark.parametrize("solver", ["newton", "blahut_arimoto", "accelerated"])
def test_a_budget_for_the_cheapest_inputs_only(solver):
    channel = random_channel(np.random.default_rng(9), 5, 4)
    cost = np.array([3.0, 1.0, 2.0, 1.0, 1.0])
    found = blahut_arimoto(channel, cost=cost, budget=[1.0, 2.5], solver=solver, tol=1e-6)
    assert found.input_probs[0, [0, 2]].tolist() == [0.0, 0.0]
    assert found.lower[0] == pytest.approx(blahut_arimoto(channel[[1, 3, 4]]).lower, abs=2e-6)
    assert found.lower[1] > found.lower[0]


def test_the_multiplier_at_the_least_budget_is_the_slope_there():
    # with one cheapest input the slope is the capacity per unit of cost, max D(W_x | W_0) / (b_x - b_0) (Verdu 1990)
    channel = random_channel(np.random.default_rng(15), 4, 5)
    cost = np.array([-7.0, -4.0, -5.0, 0.0])
    divergence = (channel * np.log(channel / channel[0])).sum(axis=1)[1:]
    at_the_end = blahut_arimoto(channel, cost=cost, budget=-7.0)
    assert at_the_end.lower == pytest.approx(0, abs=1e-15)
    assert at_the_end.multiplier == pytest.approx((divergence / (cost[1:] + 7)).max(), rel=1e-12)
    # with several, the right-hand slope: checked by a difference, and the upper bound holds with it
    cost = np.array([0.0, 0.0, 1.0, 3.0])
    ends = blahut_arimoto(channel, cost=cost, budget=[0.0, 1e-5], tol=1e-13)
    assert np.diff(ends.lower)[0] / 1e-5 == pytest.approx(ends.multiplier[0], rel=1e-3)
    slopes = (channel * np.log(channel / ends.output_probs[0])).sum(axis=1)
    assert (slopes - ends.multiplier[0] * cost).max() <= ends.upper[0] + 1e-15
    # an input that reaches new outputs is worth any price at first
    assert blahut_arimoto(np.eye(2), cost=[0, 1], budget=0).multiplier == math.inf
    assert blahut_arimoto(np.eye(2), cost=[5, 5], budget=5).multiplier == 0


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_costs_of_any_size(size):
    channel = random_channel(np.random.default_rng(16), 4, 5)
    cost = np.array([1.0, 2.0, 3.0, 0.0])
    budgets = np.array([0.0, 1e-12, 0.3, 1.0, 9.0])
    plain = blahut_arimoto(channel, cost=cost, budget=budgets)
    found = blahut_arimoto(channel, cost=size * cost, budget=size * budgets)
    assert np.allclose(found.lower, plain.lower, rtol=0, atol=1e-13)
    assert np.allclose(found.multiplier * size, plain.multiplier, rtol=1e-9, atol=1e-9)


def test_costs_far_apart_never_let_a_costly_input_in():
    channel = random_channel(np.random.default_rng(17), 4, 4)
    found = blahut_arimoto(channel, cost=[1e300, 0, 1e-300, 1.0], budget=0)
    assert found.input_probs.tolist() == [0, 1, 0, 0]


def test_large_multipliers_leave_the_information_its_digits():
    channel = random_channel(np.random.default_rng(18), 4, 5)
    for price in (1e3, 1e8):
        found = blahut_arimoto(channel, cost=[1e6, 1e6 + 1, 1e6 + 2, 1e6 + 1], multiplier=price)
        assert found.lower == pytest.approx(slow_information(channel, found.input_probs), rel=1e-6, abs=1e-15)
        assert found.lower <= found.upper + 1e-15


@pytest.mark.parametrize("solver", ["blahut_arimoto", "accelerated"])
def test_slower_solvers_with_a_budget(solver):
    channel, cost = random_channel(np.random.default_rng(10), 6, 6, 0.3), np.arange(6.0)
    found = blahut_arimoto(channel, cost=cost, budget=1.5, solver=solver, tol=1e-7)
    assert found.lower == pytest.approx(blahut_arimoto(channel, cost=cost, budget=1.5).lower, abs=2e-7)
    assert found.cost <= 1.5 + 1e-12


def test_where_the_direct_method_stalls_prices_take_over(monkeypatch):
    rng = np.random.default_rng(14)
    channels = np.stack([random_channel(rng, 6, 5, 0.3) for _ in range(8)])
    cost = rng.uniform(size=(8, 6))
    cost[3] = np.repeat([0.0, 1.0], 3)  # prices of ties: the cost of the optimal law jumps
    budget = cost.min(axis=1) + np.array([1e-6, 0.01, 0.1, 0.2, 0.3, 0.5, 0.9, 2.0]) * np.ptp(cost, axis=1)
    direct = blahut_arimoto(channels, cost=cost, budget=budget)
    newton = _newton.solve

    def stalls_under_a_budget(program: Any, **options: Any) -> Any:
        return newton(program, **{**options, "max_iter": 1 if program.cost is not None else 200})

    monkeypatch.setattr(_newton, "solve", stalls_under_a_budget)
    found = blahut_arimoto(channels, cost=cost, budget=budget)
    assert found.converged.all()
    assert (found.iterations > direct.iterations).any()
    assert np.abs(found.lower - direct.lower).max() < 2e-10
    assert (found.cost <= budget + 1e-12).all()
    assert np.allclose(found.multiplier[1:], direct.multiplier[1:], atol=2e-4)


# Results


def test_units():
    nats, bits = (blahut_arimoto(z_channel(0.5), unit=unit) for unit in ("nats", "bits"))
    assert bits.lower * math.log(2) == pytest.approx(nats.lower, rel=1e-9)
    assert (nats.unit, bits.unit) == ("nats", "bits")


def test_the_result_as_table_and_json():
    found = blahut_arimoto(np.stack([symmetric(0.1), z_channel(0.5)]), cost=[0, 1], budget=0.3)
    columns, rows = found.rows()
    assert columns == ("channel", "lower", "upper", "unit", "iterations", "converged", "cost", "multiplier")
    assert [row[0] for row in rows] == [0, 1]
    assert rows[0][1] == found.lower[0]
    assert json.loads(found.to_json())["lower"] == found.lower.tolist()
    assert "2 channels" in found.summary()
    assert "certified within" in blahut_arimoto(symmetric(0.1)).summary()


@pytest.mark.parametrize("solver", ["newton", "blahut_arimoto", "accelerated"])
def test_no_channels(solver):
    found = blahut_arimoto(np.zeros((2, 0, 3, 4)), cost=[0, 1, 2], budget=1.0, solver=solver)
    assert found.lower.shape == found.converged.shape == found.iterations.shape == (2, 0)
    assert found.input_probs.shape == (2, 0, 3)
    assert found.rows()[1] == []
    assert found.summary() == "capacities of no channels"
    assert channel_information(np.zeros((0, 3, 2))).shape == (0,)


def test_too_few_iterations_raise_and_carry_the_bounds():
    channel = np.random.default_rng(64).dirichlet(np.ones(64), size=64)
    with pytest.raises(ConvergenceError, match="1 of 1 channels have a gap above") as caught:
        blahut_arimoto(channel, solver="blahut_arimoto", max_iter=50)
    result = caught.value.result
    true = 0.6867028925122705 * math.log(2)
    assert not result.converged
    assert result.iterations == 50
    assert result.lower <= true <= result.upper
    assert result.upper - result.lower > result.tol
    loose = blahut_arimoto(channel, max_iter=2, strict=False)
    assert not loose.converged
    assert loose.lower <= true <= loose.upper
    for unit in ("nats", "bits"):  # tol is in the unit asked for
        gap = np.subtract(*(getattr(blahut_arimoto(channel, max_iter=2, strict=False, unit=unit), end)
                            for end in ("upper", "lower")))
        for share, met in ((0.9, False), (1.1, True)):
            again = blahut_arimoto(channel, max_iter=2, strict=False, unit=unit, tol=share * gap)
            assert again.converged is met
    both = np.stack([channel, np.full((64, 64), 1 / 64)])
    assert blahut_arimoto(both, max_iter=1, strict=False).converged.tolist() == [False, True]


def test_information_at_a_law():
    rng = np.random.default_rng(11)
    channel, p = random_channel(rng, 5, 7, 0.2), rng.dirichlet(np.ones(5))
    channel[0] = np.eye(7)[0]
    assert channel_information(channel, p) == pytest.approx(slow_information(channel, p), abs=1e-14)
    uniform = np.full(5, 0.2)
    assert channel_information(channel) == pytest.approx(slow_information(channel, uniform), abs=1e-14)
    assert channel_information(channel, np.eye(5)[0]) == 0
    batch = channel_information(np.stack([channel, channel[::-1]]), p, unit="bits")
    assert batch[1] == pytest.approx(slow_information(channel[::-1], p) / math.log(2), abs=1e-14)


# torch


def test_tensors_give_the_same_numbers():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(12)
    channels = np.stack([random_channel(rng, 5, 4, s) for s in (0.05, 1.0, 20.0)])
    numpy_ = blahut_arimoto(channels, cost=[0, 1, 2, 3, 4], budget=1.0)
    tensors = blahut_arimoto(torch.tensor(channels), cost=[0, 1, 2, 3, 4], budget=1.0)
    for name in ("lower", "upper", "input_probs", "output_probs", "cost", "multiplier"):
        assert isinstance(getattr(tensors, name), torch.Tensor)
        assert np.allclose(getattr(tensors, name).numpy(), getattr(numpy_, name), atol=1e-8), name
    assert len(tensors.rows()[1]) == 3
    assert json.loads(tensors.to_json())["converged"] == [True] * 3


def test_a_law_as_tensor_beside_a_channel_as_array():
    torch = pytest.importorskip("torch")
    law = torch.tensor([0.4, 0.6], dtype=torch.float64, requires_grad=True)
    found = channel_information(symmetric(0.1), law)
    assert float(found.detach()) == pytest.approx(slow_information(symmetric(0.1), np.array([0.4, 0.6])), abs=1e-15)
    found.backward()
    assert law.grad.abs().max() > 0.1


def test_the_gradient_is_that_of_the_envelope_theorem():
    torch = pytest.importorskip("torch")
    channel = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64, requires_grad=True)
    blahut_arimoto(channel).capacity.backward()
    assert channel.grad.numpy().round(4).tolist() == [[0.1995, -0.7094], [-0.3402, 0.2844]]


def test_gradients_through_a_softmax_with_cost_and_budget():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    cost = torch.rand(3, dtype=torch.float64, generator=generator, requires_grad=True)
    budget = (0.7 * cost.min() + 0.3 * cost.max()).detach().requires_grad_()

    def capacity(*args: Any) -> Any:
        more = {} if len(args) == 1 else {"cost": args[1], "budget": args[2]}
        return blahut_arimoto(args[0].softmax(-1), tol=1e-13, **more).capacity

    assert torch.autograd.gradcheck(capacity, (scores[0],), eps=1e-5, atol=1e-5)
    assert torch.autograd.gradcheck(capacity, (scores, cost, budget), eps=1e-5, atol=1e-5)


def test_gradients_at_a_multiplier_and_at_the_least_budget():
    torch = pytest.importorskip("torch")
    channel = torch.tensor(symmetric(0.1), requires_grad=True)
    cost = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(DomainError, match=r"records a gradient.*give a budget"):
        blahut_arimoto(channel, cost=cost, multiplier=0.3)
    with pytest.raises(DomainError, match="records a gradient"):
        blahut_arimoto(channel, cost=[0.0, 1.0], multiplier=torch.tensor(0.3, requires_grad=True))
    budget = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    blahut_arimoto(torch.eye(2), cost=cost, budget=budget).capacity.backward()
    assert budget.grad == math.inf
    assert cost.grad[1] == 0
    # at a multiplier: that of the capacity at the mean cost it leads to
    by_price = blahut_arimoto(channel, cost=[0.0, 1.0], multiplier=0.3, tol=1e-13)
    by_budget = blahut_arimoto(channel, cost=[0.0, 1.0], budget=by_price.cost.detach(), tol=1e-13)
    slopes = [torch.autograd.grad(found.capacity, channel)[0] for found in (by_price, by_budget)]
    assert torch.allclose(*slopes, atol=1e-5)


def test_the_gradient_through_a_mask_is_finite():
    torch = pytest.importorskip("torch")
    scores = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    masked = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -math.inf)
    blahut_arimoto(masked.softmax(-1)).capacity.backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad.triu(1) == 0).all()
    assert scores.grad.abs().max() > 0.01


# Bad input


@pytest.mark.parametrize(
    ("channel", "error", "message"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], DomainError, r"row 0 sum to 1\.1"),
        ([[0.5, 0.5], [0.2, 0.3]], DomainError, r"row 1 sum to 0\.5"),
        ([[0.9, 0.5], [0.1, 0.5]], DomainError, "give the transpose"),
        ([[1.0, 0.0], [math.nan, 1.0]], DomainError, r"entry \(1, 0\) is nan"),
        ([[1.0, 0.0], [math.inf, 1.0]], DomainError, r"entry \(1, 0\) is inf"),
        ([[1.5, -0.5], [0.0, 1.0]], DomainError, r"entry \(0, 1\) is -0.5"),
        ([[1.0, 0.0], [0.0, 0.0]], DomainError, "row 1 sum to 0"),
        ([[[1.0, 0.0]], [[0.5, 0.4]]], DomainError, r"row \(1, 0\) sum to 0\.9"),
        (np.zeros((0, 2)), ShapeError, r"shape \(0, 2\)"),
        (np.zeros((2, 0)), ShapeError, r"shape \(2, 0\)"),
        ([0.5, 0.5], ShapeError, "wanted a matrix"),
        ([[1.0, 0.0], [1.0]], ShapeError, "different lengths"),
        ([[1j, 0], [0, 1]], DomainError, "dtype complex128"),
        ([["a", "b"]], DomainError, "wanted real numbers"),
    ],
)
def test_bad_channels(channel, error, message):
    with pytest.raises(error, match=message):
        blahut_arimoto(channel)
    with pytest.raises(error, match=message):
        channel_information(channel)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "simplex"}, ArgumentError, "newton, blahut_arimoto, accelerated"),
        ({"unit": "hartleys"}, ArgumentError, "'nats' or 'bits'"),
        ({"tol": 0}, ArgumentError, "above zero"),
        ({"tol": math.nan}, ArgumentError, "NaN"),
        ({"max_iter": 0}, ArgumentError, "at least 1"),
        ({"budget": 1.0}, ArgumentError, "budget: found one, but no cost"),
        ({"multiplier": 1.0}, ArgumentError, "multiplier: found one, but no cost"),
        ({"cost": [0, 1]}, ArgumentError, "found neither"),
        ({"cost": [0, 1], "budget": 1, "multiplier": 1}, ArgumentError, "found both"),
        ({"cost": [0, 1, 2], "budget": 1}, ShapeError, r"wanted \(\.\.\., 2\)"),
        ({"cost": 1.0, "budget": 1}, ShapeError, r"wanted \(\.\.\., 2\)"),
        ({"cost": [0, math.inf], "budget": 1}, DomainError, r"cost: entry \(1,\) is inf"),
        ({"cost": [1, 2], "budget": 0.5}, DomainError, r"found 0\.5, but the cheapest input costs 1"),
        ({"cost": [1, 2], "budget": [1.5, 0.5]}, DomainError, r"found 0\.5, but the cheapest"),
        ({"cost": [1, 2], "multiplier": -1}, DomainError, "multiplier: found -1"),
        ({"cost": np.zeros((3, 2)), "budget": [1, 2]}, ShapeError, "do not broadcast"),
        ({"solver": ["newton"]}, ArgumentError, "wanted one of newton"),
        ({"cost": [-1e308, 1e308], "budget": 0}, DomainError, "differ by more than float64 holds"),
        ({"cost": [0, 1e200], "multiplier": 1e200}, DomainError, "times the multiplier, differ by more"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        blahut_arimoto(symmetric(0.1), **arguments)


@pytest.mark.parametrize(
    ("law", "error", "message"),
    [
        ([0.5, 0.6], DomainError, r"the row sum to 1\.1"), ([1.5, -0.5], DomainError, "not negative"),
        ([1.0], ShapeError, "one for each input"), (1.0, ShapeError, "one for each input"),
        ([[1.0, 0.0]] * 3, ShapeError, r"channel \(2,\), input_probs \(3,\)"),
    ],
)
def test_bad_laws(law, error, message):
    channel = symmetric(0.1) if np.ndim(law) < 2 else np.stack([symmetric(0.1)] * 2)
    with pytest.raises(error, match=message):
        channel_information(channel, law)


def test_single_precision_rows_pass_and_coarser_ones_do_not():
    single = random_channel(np.random.default_rng(13), 6, 5).astype(np.float32)
    found = blahut_arimoto(single, tol=1e-9)
    assert found.lower == pytest.approx(
        blahut_arimoto(single / single.astype(np.float64).sum(1, keepdims=True)).lower, abs=1e-6
    )
    with pytest.raises(DomainError, match="sum to"):
        blahut_arimoto(single.astype(np.float64).round(3))


def test_the_arguments_stay_as_they_were():
    channel, cost = symmetric(0.2), np.array([0.0, 1.0])
    before = channel.copy(), cost.copy()
    blahut_arimoto(channel, cost=cost, budget=0.2)
    assert np.array_equal(channel, before[0])
    assert np.array_equal(cost, before[1])


# The benchmark


def test_the_benchmark_knows_its_channels_and_stops_slow_peers():
    script = Path(__file__).parents[1] / "benchmarks" / "channel_capacity.py"
    if not script.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    spec = importlib.util.spec_from_file_location("channel_capacity", script)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    closed = {name: (w, bits) for name, (w, bits) in benchmark.channels().items() if bits is not None}
    assert len(closed) >= 4
    for w, bits in closed.values():
        assert blahut_arimoto(w, unit="bits", tol=1e-12).lower == pytest.approx(bits, abs=1e-12)

    def endless(w: np.ndarray) -> float:
        while True:
            w = w @ w

    def failing(w: np.ndarray) -> float:
        raise ValueError(w.shape)

    assert benchmark.timed(endless, np.eye(2), runs=1, seconds=0.05)[0] == "> 0 s"
    assert benchmark.timed(failing, np.eye(2), runs=1, seconds=1)[0] == "ValueError"
    value, seconds = benchmark.timed(lambda w: 1.5, np.eye(2), runs=3, seconds=1)
    assert value == 1.5
    assert 0 <= seconds < 1
