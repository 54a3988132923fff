"""The benchmark of the geometry core runs, and its own references agree with the library."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from infogeo import Gaussian, fisher_rao_distance

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "geometry_speed.py"


@pytest.fixture(scope="module")
def benchmark():
    if not SCRIPT.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    spec = importlib.util.spec_from_file_location("geometry_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_tiny_sizes_run(benchmark, capsys):
    assert benchmark.main(["--tiny", "--runs", "1", "--threads", "2"]) == 0
    printed = capsys.readouterr().out
    for part in ("univariate", "diagonal", "one covariance", "categorical", "exact full normals", "X @ X.T", "np.log"):
        assert part in printed
    assert printed.count("relative error") == 4


def test_tensors_run_too(benchmark, capsys):
    pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    assert benchmark.main(["--tiny", "--runs", "1", "--device", "cpu", "--only", "products"]) == 0
    assert "infogeo on cpu" in capsys.readouterr().out


def test_a_wrong_result_ends_the_benchmark(benchmark):
    x = benchmark.diagonal_batch(30, 2, np.random.default_rng(0))
    values = benchmark.pairwise(fisher_rao_distance, x)
    assert "relative error" in benchmark.accuracy(values, x, benchmark.exact_diagonal)
    with pytest.raises(SystemExit, match="the fast result is wrong"):
        benchmark.accuracy(values * (1 + 1e-6), x, benchmark.exact_diagonal)


def test_a_missed_target_is_the_exit_code(benchmark, capsys):
    slow = benchmark.Case("x", {"a": lambda: sum(range(10_000)), "b": lambda: None}, "a", {"b": ("b", 1.5)})
    assert not benchmark.report(slow, 3)
    slow.limits["b"] = ("b", None)
    assert benchmark.report(slow, 3)
    capsys.readouterr()


def test_shooting_finds_the_closed_forms(benchmark):
    """Two univariate normals (Atkinson and Mitchell 1981), and two of one mean (Skovgaard 1984)."""
    p, q = Gaussian([0.0], [[1.0]]), Gaussian([1.0], [[4.0]])
    assert benchmark.shoot(p, q) == pytest.approx(8**0.5 * np.arcsinh((1.5 / 8) ** 0.5), rel=1e-8)
    p, q = Gaussian([1.0, 2.0], np.eye(2)), Gaussian([1.0, 2.0], np.diag([2.0, 0.5]))
    assert benchmark.shoot(p, q) == pytest.approx(np.log(2.0), rel=1e-8)
