"""The automatic choice between estimators of mutual information, permutation tests, and intervals from parts."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from infogeo import (
    EstimateWarning,
    InformationEstimate,
    estimate_mutual_information,
    gaussian_mutual_information,
    ksg_mutual_information,
    permutation_test,
    subsample_interval,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.mutual_information._choice import normal_error
from infogeo.mutual_information._normal_dependence import margins_look_normal, normal_dependence

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "mutual_information.py"


def normals(n, columns=1, rho=0.8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, columns))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((n, columns))


def quietly(*args, **options) -> InformationEstimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimateWarning)
        return estimate_mutual_information(*args, **options)


@pytest.fixture(scope="module")
def benchmark():
    if not SCRIPT.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    spec = importlib.util.spec_from_file_location("mutual_information_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


# The choice


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("binormal-0.999", "gaussian"),
        ("independent-10x10", "gaussian"),
        ("dense-25x25", "gaussian"),
        ("halfcube-2pair-5x5", "copula"),
        ("student-1x1-df1", "ksg (normal scores)"),
        ("swissroll-binormal-0.75", "ksg (standardized)"),
        ("discrete-uniform-m5", "mixed (Ross)"),
    ],
)
def test_known_truths_without_a_warning(benchmark, name, method):
    task = {task.name: task for task in benchmark.tasks()}[name]
    found = estimate_mutual_information(*task.sample(1000, 3))  # a warning would be an error here
    assert found.method == method
    assert found.warnings == ()
    assert found.interval[0] <= task.truth <= found.interval[1]
    assert found.interval[0] < found.value < found.interval[1]


@pytest.mark.parametrize(
    ("name", "method", "short"),
    [
        ("student-2x2-df1", "ksg (normal scores)", 0.02),
        ("spiral-2pair-3x3", "ksg (standardized)", 0.2),
        ("student-5x5-df2", "linear part + neighbors", 0.1),
        ("spiral-2pair-25x25", "linear part", 0.1),
    ],
)
def test_what_cannot_be_known_is_said(benchmark, name, method, short):
    task = {task.name: task for task in benchmark.tasks()}[name]
    with pytest.warns(EstimateWarning):
        found = estimate_mutual_information(*task.sample(1000, 3))
    assert found.method == method
    assert found.warnings
    assert found.value < task.truth - short
    assert found.interval[0] <= task.truth <= found.interval[1]


def test_the_interval_of_normals_covers_as_often_as_it_says():
    truth = -0.5 * 3 * np.log(1 - 0.8**2)
    inside = 0
    for seed in range(120):
        x, y = normals(300, 3, seed=seed)
        found = estimate_mutual_information(x, y, method="gaussian", level=0.9)
        inside += found.interval[0] <= truth <= found.interval[1]
    assert 98 <= inside <= 117  # 108 expected, standard deviation 3.3


def test_the_standard_error_of_normals_is_that_of_monte_carlo():
    rng = np.random.default_rng(5)
    for p, q in ((1, 1), (4, 9)):
        drawn = [
            gaussian_mutual_information(rng.standard_normal((60, p)), rng.standard_normal((60, q))) for _ in range(1500)
        ]
        assert normal_error(60, p, q, np.zeros(1)) == pytest.approx(np.std(drawn), rel=0.15)


def test_normality_is_rarely_denied_and_the_rest_seen(benchmark):
    denied = 0
    for seed in range(20):
        x, y = normals(300, 2, seed=seed)
        denied += normal_dependence(x, y, spread=1.0, rng=np.random.default_rng(0)).p_value < 0.05
        denied += margins_look_normal(x) < 0.01
    assert denied <= 4
    rng = np.random.default_rng(1)
    assert margins_look_normal(rng.uniform(size=(400, 1))) < 1e-6
    assert margins_look_normal(rng.standard_t(2, size=(400, 1))) < 1e-6
    wave = rng.standard_normal((800, 1))
    high = np.sin(9 * wave) + 0.1 * rng.standard_normal((800, 1))  # uncorrelated with low powers: neighbors see it
    assert normal_dependence(wave, high, spread=1.0, rng=rng).p_value < 1e-4


def test_labels_of_any_kind():
    rng = np.random.default_rng(0)
    words = rng.choice(["calm", "storm", "gale"], 1500)
    y = rng.uniform(size=1500) + 2 * (words == "storm")
    found = estimate_mutual_information(y, words)
    truth = np.log(3) - 2 / 3 * np.log(2)
    assert (found.method, found.dimensions) == ("mixed (Ross)", (1, 0))
    assert found.interval[0] <= truth <= found.interval[1]
    both = estimate_mutual_information(words, (words == "storm").tolist())
    assert both.method == "discrete (Miller-Madow)"
    assert both.value == pytest.approx(truth, abs=0.03)
    assert both.interval[0] <= truth <= both.interval[1]
    numbers = estimate_mutual_information(np.round(y), rng.integers(0, 4, 1500).astype(float))
    assert numbers.method == "discrete (Miller-Madow)"
    assert abs(numbers.value) < 0.01


def test_discrete_intervals_cover_at_independence_and_beyond():
    inside = np.zeros(2)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 4, 400)
        noise = rng.integers(0, 4, 400)
        y = np.where(rng.uniform(size=400) < 0.5, x, noise)
        p = 0.5 + 0.5 / 4
        truth = np.log(4) + p * np.log(p) + 3 * (1 - p) / 3 * np.log((1 - p) / 3)
        for i, (other, value) in enumerate(((noise, 0.0), (y, truth))):
            low, high = estimate_mutual_information(x, other).interval
            inside[i] += low <= value <= high
    assert (inside >= 51).all()


def test_units_scale_and_linear_maps():
    x, y = normals(500, 2)
    found = estimate_mutual_information(x, y)
    bits = estimate_mutual_information(x, y, unit="bits")
    assert bits.value == pytest.approx(found.value / np.log(2))
    assert np.array(bits.interval) == pytest.approx(np.array(found.interval) / np.log(2))
    mapped = estimate_mutual_information(1e9 * x @ np.array([[1.0, 2.0], [0.0, 1.0]]) + 5, 1e-9 * y)
    assert mapped.value == pytest.approx(found.value, abs=1e-9)


def test_swapping_x_and_y_changes_nothing_for_normals():
    x, y = normals(500, 2)
    assert estimate_mutual_information(y, x).value == pytest.approx(estimate_mutual_information(x, y).value, abs=1e-9)


def test_the_same_seed_gives_the_same_result_and_samples_stay_as_they_are():
    rng = np.random.default_rng(0)
    x = rng.standard_cauchy((300, 1))
    y = x**2 + rng.standard_cauchy((300, 1))
    before = x.copy()
    first, second = quietly(x, y, rng=4), quietly(x, y, rng=4)
    assert first.interval == second.interval
    assert (x == before).all()
    assert first.to_json()


@pytest.mark.parametrize("method", ["gaussian", "copula", "ksg"])
def test_a_method_that_is_asked_for(method):
    x, y = normals(400)
    found = quietly(x, y, method=method)
    assert found.method.startswith(method)
    assert found.value == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.12)
    assert found.reason == "asked for"


def test_permutations_come_with_the_estimate():
    x, y = normals(120)
    assert estimate_mutual_information(x, y, permutations=39).p_value == 1 / 40
    independent = estimate_mutual_information(x, np.random.default_rng(9).standard_normal(120), permutations=39)
    assert independent.p_value > 1 / 40
    assert independent.permutations == 39
    labels = (x[:, 0] > 0).astype(int)
    assert estimate_mutual_information(y, labels, permutations=19).p_value == 0.05


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    u = rng.standard_normal((40, 1))[groups]
    v = 0.8 * u + 0.6 * rng.standard_normal((40, 1))[groups]
    x, y = (z + 0.1 * rng.standard_normal((400, 1)) for z in (u, v))
    alone, grouped = quietly(x, y, method="gaussian"), quietly(x, y, method="gaussian", groups=groups)
    assert grouped.standard_error > 2 * alone.standard_error
    assert 25 < grouped.details["worth_independent_samples"] < 120  # 40 groups of almost equal samples
    assert grouped.value < alone.value  # more bias is taken off
    for method in ("auto", "ksg"):
        assert quietly(x, y, method=method, groups=groups).interval is not None
    few = quietly(x, y, method="ksg", groups=np.repeat([0, 1, 2], [100, 100, 200]))
    assert few.interval is None
    assert any("3 groups" in doubt for doubt in few.warnings)


# What is bad


def test_hopelessly_few_samples_for_the_columns():
    x, y = normals(30, 20)
    with pytest.warns(EstimateWarning, match="hopelessly few"):
        found = estimate_mutual_information(x, y)
    assert found.interval is None
    with pytest.raises(DomainError, match="wanted at least 43"):
        estimate_mutual_information(x, y, method="gaussian")
    with pytest.warns(EstimateWarning, match="too few to see"):
        estimate_mutual_information(*normals(60, 10))


def test_infinite_information():
    x, _ = normals(300, 2)
    found = quietly(x, x @ np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert "infinite" in found.warnings[0]
    assert found.interval[1] == np.inf
    assert found.value > 2
    with pytest.raises(DomainError, match="infinite"):
        estimate_mutual_information(x, 2 * x, method="gaussian")


def test_constants_and_collinear_columns():
    x, y = normals(300, 2)
    with pytest.warns(EstimateWarning, match="constant"):
        assert estimate_mutual_information(np.ones(300), y).value == 0
    with pytest.warns(EstimateWarning, match="constant"):
        assert estimate_mutual_information(["a"] * 300, y).value == 0
    plain = estimate_mutual_information(x, y)
    wider = estimate_mutual_information(np.column_stack([x, x.sum(axis=1), np.full(300, 7.0)]), y)
    assert wider.value == pytest.approx(plain.value, abs=1e-6)


def test_mixtures_of_columns_are_said():
    x, y = normals(400, 1)
    with pytest.warns(EstimateWarning, match="few values"):
        estimate_mutual_information(np.column_stack([x[:, 0], x[:, 0] > 0]), y)


def test_small_samples_have_no_interval():
    rng = np.random.default_rng(0)
    x = rng.standard_cauchy(40)
    found = quietly(x, x**2, method="ksg")
    assert found.interval is None
    assert any("too few for an interval" in doubt for doubt in found.warnings)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "said"),
    [
        (np.zeros(3), np.zeros(4), {}, ShapeError, "x 3, y 4"),
        ([], [], {}, ShapeError, "no sample"),
        ([1.0], [2.0], {}, ArgumentError, "samples"),
        ([1.0, np.nan, 2.0, 5.0], np.arange(4.0), {}, DomainError, "nan"),
        ([1.0, np.inf, 2.0, 5.0], np.arange(4.0), {}, DomainError, "inf"),
        (np.zeros((4, 2, 2)), np.zeros(4), {}, ShapeError, "shape"),
        (np.arange(50.0), np.arange(50.0), {"method": "nearest"}, ArgumentError, "'auto'"),
        (np.arange(50.0), np.arange(50.0), {"level": 1.0}, ArgumentError, "level"),
        (np.arange(50.0), np.arange(50.0), {"k": 50}, ArgumentError, "k"),
        (np.arange(50.0), np.arange(50.0), {"permutations": -1}, ArgumentError, "permutations"),
        (np.arange(50.0), np.arange(50.0), {"unit": "dits"}, ArgumentError, "unit"),
        (np.arange(50.0), np.arange(50.0), {"groups": [1, 2]}, ShapeError, "groups"),
        (np.arange(50.0), np.arange(50.0), {"method": "mixed"}, ArgumentError, "many values"),
        (["a", "b"] * 25, ["c", "d"] * 25, {"method": "ksg"}, ArgumentError, "'discrete'"),
        (["a", "b"] * 25, np.arange(50.0), {"method": "copula"}, ArgumentError, "'mixed'"),
    ],
)
def test_guards(x, y, options, error, said):
    with pytest.raises(error, match=said):
        estimate_mutual_information(x, y, **options)


def test_tensors():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    x, y = normals(200)
    found = estimate_mutual_information(torch.tensor(x), torch.tensor(y))
    assert found.value == estimate_mutual_information(x, y).value
    with pytest.raises(DomainError, match="gradient"):
        estimate_mutual_information(torch.tensor(x, requires_grad=True), y)


# Permutation tests


def correlation(x, y):
    return float(abs(np.corrcoef(x, y)[0, 1]))


def test_p_values_are_uniform_under_independence():
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_exponential((2, 20))
        p_values.append(permutation_test(x, y, estimator=correlation, permutations=19, rng=rng).p_value)
    counts = np.bincount(np.round(np.array(p_values) * 20).astype(int), minlength=21)[1:]
    assert ((counts - 10) ** 2 / 10).sum() < 43.8  # the 0.999 quantile of chi-squared with 19 degrees


def test_p_values_of_dependent_groups_are_uniform_only_by_groups():
    by_groups, by_samples = [], []
    groups = np.repeat(np.arange(12), 8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = (rng.standard_normal(12)[groups] + 0.1 * rng.standard_normal(96) for _ in range(2))
        by_groups.append(permutation_test(x, y, estimator=correlation, permutations=19, groups=groups).p_value)
        by_samples.append(permutation_test(x, y, estimator=correlation, permutations=19).p_value)
    assert np.mean(np.array(by_groups) <= 0.05) <= 0.15
    assert np.mean(np.array(by_samples) <= 0.05) >= 0.3


def test_within_shuffles_inside_only():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)[rng.permutation(120)]
    x, y = 5.0 * labels + rng.standard_normal(120), 5.0 * labels + rng.standard_normal(120)
    assert permutation_test(x, y, estimator=correlation, permutations=39).p_value == 1 / 40
    assert permutation_test(x, y, estimator=correlation, permutations=39, within=labels).p_value > 1 / 40
    seen = []
    permutation_test(labels, labels, estimator=lambda a, b: float(seen.append((a == b).all()) or 0.0), permutations=5,
                     within=labels)  # fmt: skip
    assert all(seen)


def test_whole_groups_keep_their_order():
    groups = np.array([2, 0, 1, 0, 2, 1, 0, 1, 2])
    place = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    seen = []

    def look(a, b):
        seen.append((a, b))
        return 0.0

    with pytest.warns(EstimateWarning, match="6 orders"):
        permutation_test(
            np.column_stack([groups, place]), np.column_stack([groups, place]), estimator=look, permutations=10,
            groups=groups,
        )  # fmt: skip
    for a, b in seen[1:]:
        assert (a[:, 1] == b[:, 1]).all()  # the same place within the group
        pairs = {(int(g), int(h)) for g, h in zip(a[:, 0], b[:, 0], strict=True)}
        assert len(pairs) == 3  # each group of x beside one group of y


def test_ties_count_against_the_test_and_a_constant_statistic_gives_one():
    x = np.arange(10.0)
    assert permutation_test(x, x, estimator=lambda a, b: 1.0, permutations=9).p_value == 1.0


def test_progress_and_interruption():
    x, y = normals(30)
    told = []
    done = permutation_test(x, y, estimator=lambda a, b: 0.0, permutations=5, progress=lambda *at: told.append(at))
    assert told == [(i, 5) for i in range(1, 6)]
    assert done.complete
    calls = []

    def interrupted(a, b):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return float(len(calls) == 1)

    with pytest.warns(EstimateWarning, match="interrupted after 3 of 100"):
        found = permutation_test(x, y, estimator=interrupted, permutations=100)
    assert (len(found.null), found.p_value, found.complete) == (3, 0.25, False)
    assert "3 of 100" in found.summary()
    assert found.excess == 1.0

    def at_once(a, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        permutation_test(x, y, estimator=at_once, permutations=3)


# Intervals from parts


def test_intervals_from_parts_cover():
    truth = -0.5 * np.log(1 - 0.8**2)
    inside = 0
    for seed in range(60):
        x, y = normals(640, seed=seed)
        found = subsample_interval(x, y, estimator=gaussian_mutual_information, parts=16, rng=seed)
        inside += found.interval[0] <= truth <= found.interval[1]
    assert inside >= 52
    assert found.part_size == 40
    assert found.standard_error == pytest.approx(0.8 / np.sqrt(640), rel=0.6)
    assert len(found.rows()[1][0]) == len(found.rows()[0])
    assert "16 parts" in found.summary()


def test_whole_groups_are_dealt():
    groups = np.repeat(np.arange(20), np.arange(1, 21))
    x = groups.astype(float)
    seen = []

    def look(a, b):
        seen.append(set(a.tolist()))
        return float(len(a))

    found = subsample_interval(x, x, estimator=look, parts=4, groups=groups)
    assert all(a.isdisjoint(b) for i, a in enumerate(seen[1:]) for b in seen[2 + i :])
    assert found.parts.sum() == len(x)
    assert found.parts.max() - found.parts.min() <= 20


@pytest.mark.parametrize(
    ("run", "error", "said"),
    [
        (lambda x: permutation_test(x, x, estimator=3), ArgumentError, "function"),
        (lambda x: permutation_test(x, x, estimator=correlation, progress=3), ArgumentError, "progress"),
        (lambda x: permutation_test(x, x, estimator=correlation, permutations=0), ArgumentError, "permutations"),
        (lambda x: permutation_test(x, x[1:], estimator=correlation), ShapeError, "x 12, y 11"),
        (lambda x: permutation_test(x[:1], x[:1], estimator=correlation), ShapeError, "1 samples"),
        (lambda x: permutation_test(1.0, 2.0, estimator=correlation), ShapeError, "one number"),
        (lambda x: permutation_test(x, x, estimator=lambda a, b: np.nan), ArgumentError, "NaN"),
        (lambda x: permutation_test(x, x, estimator=correlation, groups=x * 0), DomainError, "one label"),
        (lambda x: permutation_test(x, x, estimator=correlation, within=x), DomainError, "once"),
        (lambda x: permutation_test(x, x, estimator=correlation, groups=x, within=x), ArgumentError, "both"),
        (lambda x: permutation_test(x, x, estimator=correlation, groups=x[:3]), ShapeError, "3 labels"),
        (lambda x: subsample_interval(x, x, estimator=correlation, parts=7), ArgumentError, "at most 6"),
        (lambda x: subsample_interval(x, x, estimator=correlation, parts=1), ArgumentError, "parts"),
        (lambda x: subsample_interval(x, x, estimator=correlation, parts=3, level=95), ArgumentError, "coverage"),
        (lambda x: subsample_interval(x, x, estimator=correlation, parts=2, rng="a"), ArgumentError, "rng"),
    ],
)
def test_guards_of_significance(run, error, said):
    with pytest.raises(error, match=said):
        run(np.arange(12.0))


# The benchmark


def test_the_benchmark_runs_and_counts(benchmark, capsys):
    assert benchmark.main(["--sizes", "300:7", "--tasks", "binormal-0.5", "--peers", ""]) in (0, 1)
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "binormal-0.5" in printed
    with pytest.raises(SystemExit, match="no task"):
        benchmark.main(["--tasks", "nothing"])


def test_a_missed_task_is_the_exit_code(benchmark, capsys, monkeypatch):
    wrong = estimate_mutual_information(*normals(300, rho=0.1))
    monkeypatch.setattr(benchmark, "estimate_mutual_information", lambda x, y, level: wrong)
    assert benchmark.main(["--sizes", "50:0", "--tasks", "binormal-0.99", "--peers", ""]) == 1
    assert "MISSED (none of the three)        2" in capsys.readouterr().out


def test_the_tasks_are_those_of_the_reference(benchmark, capsys):
    folder = os.environ.get("INFOGEO_REFERENCE")
    if folder is None:
        pytest.skip("set INFOGEO_REFERENCE to a folder with mi_tasks.json")
    benchmark.check_reference(Path(folder), benchmark.tasks())
    assert "all 31 tasks" in capsys.readouterr().out


def test_neighbors_and_the_automatic_choice_agree_where_it_uses_them():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=800)
    y = x + rng.uniform(-0.1, 0.1, 800)
    found = quietly(x, y)
    assert found.method == "ksg (standardized)"
    assert found.details["with_fewest_neighbors"] == pytest.approx(ksg_mutual_information(x, y))
    wide = ksg_mutual_information(x, y, k=12)
    assert found.details["with_most_neighbors"] == pytest.approx(wide)
    assert "not normal dependence" in found.reason


# What a user found


@pytest.mark.parametrize("kinds", [10, 20])
def test_rare_pairs_of_labels_are_said_and_the_interval_reaches_down(kinds):
    n, missed, warned = 25 * kinds, 0, 0
    for seed in range(10):
        rng = np.random.default_rng(100 + seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = estimate_mutual_information(rng.integers(0, kinds, n), rng.integers(0, kinds, n))
        missed += not found.interval[0] <= 0 <= found.interval[1]
        warned += any("in random order show" in str(w.message) for w in caught)
    assert missed <= 1
    assert warned >= 9
    rng = np.random.default_rng(0)
    assert not estimate_mutual_information(rng.integers(0, 3, 500), rng.integers(0, 3, 500)).warnings


@pytest.mark.parametrize(
    ("columns", "function"),
    [(60, lambda x: x[:, 0] ** 2), (5, lambda x: np.cos(3 * x[:, 0])), (5, lambda x: np.sin(4 * x[:, 0]))],
)
def test_dependence_of_one_column_among_many_is_seen(columns, function):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1000, columns))
    with pytest.warns(EstimateWarning):
        found = estimate_mutual_information(x, function(x) + 0.1 * rng.standard_normal(1000))
    assert "counted in the columns" in found.reason
    assert found.method.startswith("ksg" if columns == 5 else "linear part")


def test_normal_columns_pass_when_they_are_looked_at_one_by_one():
    denied = 0
    for seed in range(20):
        rng = np.random.default_rng(200 + seed)
        x = rng.standard_normal((400, 12))
        found = estimate_mutual_information(x, 0.5 * x[:, :6] + rng.standard_normal((400, 6)))
        denied += found.method not in ("gaussian", "copula")
    assert denied == 0


def test_copies_of_samples_are_said():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(300)
    y = x + rng.standard_normal(300)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found = estimate_mutual_information(np.repeat(x, 2), np.repeat(y, 2))
    assert any("of 600 rows of x and y together 300 differ" in said for said in found.warnings)
