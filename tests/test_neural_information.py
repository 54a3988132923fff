"""Neural bounds on mutual information: held out, between a lower and an upper number, seeded, robust, refusing."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest

from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo_adapters import _neural_bounds as networks
from infogeo_adapters import neural_information as module
from infogeo_adapters import neural_mutual_information

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

SMALL: dict[str, Any] = {"hidden": (16,), "steps": 150, "learning_rate": 1e-2}


def pair(n: int, rho: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def quietly(*args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        return neural_mutual_information(*args, **options)


def test_correlated_normals_lie_between_the_two_numbers():
    x, y = pair(1200, 0.9)
    truth = -0.5 * math.log(1 - 0.81)
    found = quietly(x, y, **SMALL)
    assert [b.name for b in found.bounds] == ["infonce", "nwj", "dv", "smile", "leave_one_out"]
    for bound in found.bounds:
        assert abs(bound.value - truth) < 0.2, bound.name
        assert 0 < bound.standard_error < 0.1
    assert found.chosen in ("infonce", "nwj")
    assert found.lower < truth + 0.1
    assert found.lower == next(b.value for b in found.bounds if b.name == found.chosen)
    assert found.lower_interval[0] < found.lower < found.lower_interval[1]
    assert found.n_evaluated == 300


def test_independent_samples_give_nothing_though_training_values_do():
    rng = np.random.default_rng(1)
    found = quietly(rng.normal(size=(400, 5)), rng.normal(size=(400, 5)), bounds=("nwj",), hidden=(64,), steps=200,
                    learning_rate=3e-3)
    nwj = found.bounds[0]
    assert abs(nwj.value) < 0.15
    assert nwj.training_value > nwj.value - 0.05


def test_heavy_tails_do_no_harm():
    rng = np.random.default_rng(2)
    x, y = pair(2000, 0.8, 3)
    scale = 1 / np.sqrt(rng.chisquare(1, size=2000))
    found = quietly(x * scale, y * scale, bounds=("infonce",), **SMALL)
    assert 0.2 < found.lower < 1.0
    assert math.isfinite(found.upper)


def test_scale_and_shift_change_nothing():
    x, y = pair(400, 0.7)
    options: dict[str, Any] = {"bounds": ("infonce",), "hidden": (8,), "steps": 60}
    plain = quietly(x, y, **options)
    moved = quietly(x * 2.0**30 + 1, -(y * 2.0**-30), **options)
    assert moved.lower == pytest.approx(quietly(x, -y, **options).lower, abs=1e-6)
    options["transform"] = "standardize"
    far = quietly(x * 2.0**1000, y * 2.0**-1000, **options)  # whose squares leave the range of float64
    assert far.lower == quietly(x, y, **options).lower
    assert plain.lower != 0


def test_a_seed_decides_everything_and_leaves_torch_alone():
    x, y = pair(300, 0.5)
    options: dict[str, Any] = {"bounds": ("smile",), "hidden": (8,), "steps": 60}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = quietly(x, y, **options), quietly(x, y, **options), quietly(x, y, rng=1, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.lower == second.lower
    assert first.upper == second.upper
    assert first.lower != other.lower
    assert [b.name for b in first.bounds] == ["infonce", "smile", "leave_one_out"]  # one true bound is always there


def test_units_and_table():
    x, y = pair(300, 0.5)
    options: dict[str, Any] = {"bounds": ("nwj",), "hidden": (8,), "steps": 60}
    nats, bits = quietly(x, y, **options), quietly(x, y, unit="bits", **options)
    assert bits.lower * math.log(2) == pytest.approx(nats.lower)
    assert bits.upper_interval[1] * math.log(2) == pytest.approx(nats.upper_interval[1])
    columns, rows = bits.rows()
    assert columns[0] == "bound"
    assert rows[0][1] == bits.lower
    assert json.loads(bits.to_json())["unit"] == "bits"
    assert "held out" in bits.summary()


def test_groups_stay_together():
    member = np.repeat(np.arange(20), 10)
    parts = module._parts(member, np.random.default_rng(0))
    kinds = [set(member[p]) for p in parts]
    assert not kinds[0] & kinds[1]
    assert not kinds[0] & kinds[2]
    assert not kinds[1] & kinds[2]
    assert sum(map(len, parts)) == 200
    assert 80 <= len(parts[0]) <= 120
    # batches are taken in order, and must not pair samples of one text with each other only
    assert all((np.diff(member[p]) == 0).mean() < 0.5 for p in parts)
    # what is the same within a group is no information about the pairing of held-out samples
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=(20, 3)), 10, axis=0) + 0.01 * rng.normal(size=(200, 3))
    y = np.repeat(rng.normal(size=(20, 3)), 10, axis=0) + 0.01 * rng.normal(size=(200, 3))
    found = quietly(x, y, groups=member, bounds=("nwj",), hidden=(16,), steps=200)
    assert found.lower < 0.5
    assert any("5 independent groups evaluated" in message for message in found.warnings)


def test_groups_count_once_in_the_error():
    rng = np.random.default_rng(6)
    member = np.repeat(np.arange(50), 20)
    by_group = rng.normal(size=50)
    each = torch.tensor(by_group[member])
    assert networks.standard_error(each, member) == pytest.approx(by_group.std(ddof=1) / math.sqrt(50), rel=1e-12)
    alone = torch.tensor(rng.normal(size=300))
    plain = float(alone.std()) / math.sqrt(300)
    assert networks.standard_error(alone, np.arange(300)) == pytest.approx(plain, rel=1e-12)
    assert networks.standard_error(alone, np.zeros(300, dtype=int)) == math.inf


@pytest.mark.parametrize("name", ["nwj", "dv", "smile", "infonce"])
def test_the_error_is_the_spread_over_samples(name):
    # a poor score, so that x and y of a sample matter apart
    values, errors = [], []
    for seed in range(60):
        x, y = (torch.tensor(a[:, None]) for a in pair(256, 0.8, seed))
        value, each = networks.evaluated(name, lambda a, b: 0.6 * b * a.T + 0.3 * a.T, x, y, 64)
        values.append(value)
        errors.append(networks.standard_error(each, np.arange(256)))
    assert 0.6 * np.std(values, ddof=1) < np.mean(errors) < 2.5 * np.std(values, ddof=1)


@pytest.mark.parametrize(("n", "batch"), [(100, 64), (64, 64), (50, 64), (130, 64)])
def test_every_sample_is_evaluated_once(n, batch):
    seen = [np.arange(n)[here][new] for here, new, _ in networks.batches(n, batch)]
    assert np.concatenate(seen).tolist() == list(range(n))
    x = torch.arange(float(n))[:, None] / 100
    value, each = networks.evaluated("nwj", lambda a, b: torch.ones(len(a), len(a)) * b, x, x, batch)
    assert len(each) == n
    assert value == pytest.approx(float(each.mean()))


def test_known_values_of_the_bounds():
    """With the true log ratio as score every bound is met; a network is not needed to see it."""
    rho, n = 0.8, 20_000
    x, y = (torch.tensor(a[:, None]) for a in pair(n, rho, 7))
    truth = -0.5 * math.log(1 - rho**2)

    def ratio(a: Any, b: Any) -> Any:
        u, v = a.T, b
        q = (u**2 - 2 * rho * u * v + v**2) / (1 - rho**2)
        return truth - 0.5 * q + 0.5 * (u**2 + v**2)

    def shifted(a: Any, b: Any) -> Any:
        return ratio(a, b) + 1

    for name, score in (("nwj", shifted), ("dv", ratio), ("smile", ratio)):
        value, each = networks.evaluated(name, score, x, y, 100)
        error = networks.standard_error(each, np.arange(n))
        assert abs(value - truth) < 5 * error + 0.005, name
    value, each = networks.evaluated("infonce", ratio, x, y, 100)
    error = networks.standard_error(each, np.arange(n))
    assert truth - 0.05 < value < truth + 5 * error
    zero = networks.evaluated("infonce", lambda a, b: torch.zeros(len(a), len(a)), x, y, 100)
    assert zero[0] == pytest.approx(0, abs=1e-12)
    assert networks.evaluated("nwj", lambda a, b: torch.ones(len(a), len(a)), x, y, 100)[0] == pytest.approx(0)


def test_values_by_hand():
    table = torch.tensor([[9.0, -9.0, 2.0], [8.0, 9.0, 1.0], [-7.0, 3.0, 9.0]])
    x = torch.zeros(3, 1)

    def given(a: Any, b: Any) -> Any:
        return table

    apart = np.array([-9.0, 2.0, 8.0, 1.0, -7.0, 3.0])
    clipped = networks.evaluated("smile", given, x, x, 8)[0]
    assert clipped == pytest.approx(9 - math.log(np.exp(apart.clip(-5, 5)).mean()), rel=1e-12)
    assert networks.evaluated("dv", given, x, x, 8)[0] == pytest.approx(9 - math.log(np.exp(apart).mean()), rel=1e-12)
    assert networks.evaluated("nwj", given, x, x, 8)[0] == pytest.approx(9 - np.exp(apart - 1).mean(), rel=1e-12)
    rows = np.exp(table.double().numpy())
    least = np.mean([9 - math.log(row.mean()) for row in rows])
    assert networks.evaluated("infonce", given, x, x, 8)[0] == pytest.approx(least, rel=1e-12)
    most = np.mean([9 - math.log((row.sum() - np.exp(9.0)) / 2) for row in rows])
    assert networks.leave_one_out(given, x, x, 8)[0] == pytest.approx(most, rel=1e-12)


def test_the_weights_kept_are_those_that_did_best_on_the_validation_part():
    rng = np.random.default_rng(1)
    found = quietly(rng.normal(size=(200, 10)), rng.normal(size=(200, 10)), bounds=("nwj",), hidden=(64,), steps=300,
                    learning_rate=1e-2)
    assert found.lower > -1  # the last weights, which know the training samples by heart, are far below
    assert found.bounds[0].steps <= 150


def test_validation_samples_choose_between_the_bounds(monkeypatch):
    def made_up(name: Any, tensors: Any, members: Any, plan: Any) -> Any:
        value, validation = {"infonce": (2.0, 0.1), "nwj": (1.0, 0.5)}[name]
        return networks.NeuralBound(
            name=name, value=value, standard_error=0.1, training_value=value, steps=1, bounds="below"
        ), validation

    monkeypatch.setattr(module, "lower_bound", made_up)
    found = quietly(X, Y, bounds=("infonce", "nwj"), hidden=(8,), steps=1)
    assert (found.chosen, found.lower) == ("nwj", 1.0)


def test_warnings_are_given_and_kept():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 10))
    with pytest.warns(EstimateWarning, match="by heart"):
        found = neural_mutual_information(x, rng.normal(size=(200, 10)), bounds=("nwj",), hidden=(128,), steps=50,
                                          learning_rate=1e-2)
    assert any("by heart" in message for message in found.warnings)
    z = rng.normal(size=800)
    with pytest.warns(EstimateWarning, match="near its ceiling log 8"):
        neural_mutual_information(z, z + 1e-3 * rng.normal(size=800), bounds=("infonce",), batch=8, hidden=(32,),
                                  steps=600, learning_rate=1e-2)


def test_training_that_diverges_is_an_error():
    x, y = pair(200, 0.5)
    with pytest.raises(ConvergenceError, match="diverged"):
        quietly(x, y, bounds=("nwj",), steps=50, learning_rate=1e30)


X, Y = pair(100, 0.5)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (X, Y[:50], {}, ShapeError, "x has 100 samples and y 50"),
        (X[:10], Y[:10], {}, ShapeError, "found 10 samples, wanted at least 64"),
        (X[None, None], Y, {}, ShapeError, r"x: found shape \(1, 1, 100\)"),
        (np.zeros((0, 1)), np.zeros((0, 1)), {}, ShapeError, r"x: found shape \(0, 1\)"),
        (np.where(np.arange(100) == 3, np.nan, X), Y, {}, DomainError, r"x: entry \(3,\) is nan"),
        (X, np.where(np.arange(100) == 3, np.inf, Y), {}, DomainError, r"y: entry \(3,\) is inf"),
        (np.ones(100), Y, {}, DomainError, "x: column 0 is constant"),
        (X, Y, {"bounds": ("mine",)}, ArgumentError, "infonce, nwj, dv, smile"),
        (X, Y, {"bounds": "nwj"}, ArgumentError, "a tuple of"),
        (X, Y, {"transform": "ranks"}, ArgumentError, "'normal_scores' or 'standardize'"),
        (X, Y, {"bounds": None}, ArgumentError, "a tuple of"),
        (X, Y, {"hidden": None}, ArgumentError, "a tuple of widths"),
        (X, Y, {"hidden": 32}, ArgumentError, "a tuple of widths"),
        (X, Y, {"hidden": ()}, ArgumentError, "a tuple of widths"),
        (X, Y, {"hidden": (0,)}, ArgumentError, "at least 1"),
        (X, Y, {"batch": 4}, ArgumentError, "at least 8"),
        (X, Y, {"steps": 0}, ArgumentError, "at least 1"),
        (X, Y, {"learning_rate": -1.0}, ArgumentError, "positive"),
        (X, Y, {"level": 1.0}, ArgumentError, "between 0 and 1"),
        (X, Y, {"unit": "bans"}, ArgumentError, "'nats' or 'bits'"),
        (X, Y, {"rng": "seed"}, ArgumentError, "rng"),
        (X, Y, {"groups": np.zeros(99)}, ShapeError, r"wanted \(100,\)"),
        (X, Y, {"groups": np.full(100, np.nan)}, DomainError, "nan, which names no group"),
        (X, Y, {"groups": np.zeros(100)}, ShapeError, "found 1 groups, wanted at least 4"),
        (X, Y, {"groups": [0] * 97 + [1, 2, 3]}, ShapeError, "at least 8 each"),
    ],
)
def test_bad_input(x, y, options, error, message):
    with pytest.raises(error, match=message):
        neural_mutual_information(x, y, **options)
