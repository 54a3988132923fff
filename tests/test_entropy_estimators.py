"""Entropies estimated from counts and from samples, and the orders of Rényi and Tsallis."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import infogeo
from infogeo import (
    Categorical,
    EstimateWarning,
    entropy_of_labels,
    entropy_standard_error,
    estimate_entropy,
    gaussian_entropy,
    kozachenko_leonenko_entropy,
    nearest_neighbor_renyi_entropy,
    renyi_entropy,
    shannon_entropy,
    tsallis_entropy,
)
from infogeo.differential_entropy import _neighbor_distances
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError

METHODS = ("plug_in", "miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "james_stein", "nsb")
few_warnings = pytest.mark.filterwarnings("ignore::infogeo.EstimateWarning")

count_rows = arrays(np.int64, st.integers(1, 8), elements=st.integers(0, 40)).filter(lambda row: row.sum() > 0)


def uniform_counts(n: int) -> np.ndarray:
    """The sample of the comparison with other libraries: n draws of 100 equally likely symbols."""
    return np.bincount(np.random.default_rng(0).integers(100, size=n), minlength=100)


def twin(counts: list[int], method: str) -> float:
    """The formulas as their papers write them, in a hundred digits."""
    with mpmath.workdps(100):
        n, size = sum(counts), len(counts)
        seen = [mpmath.mpf(c) for c in counts if c]
        once, twice = counts.count(1), counts.count(2)
        log = mpmath.log
        plain = -mpmath.fsum(c / n * log(c / n) for c in seen)
        if method == "plug_in":
            value = plain
        elif method == "miller_madow":
            value = plain + mpmath.mpf(len(seen) - 1) / (2 * n)
        elif method == "grassberger":
            # the recursion of the paper, which the digamma functions solve
            g = {1: -mpmath.euler - log(2), 2: 2 - mpmath.euler - log(2)}
            for m in range(3, max(counts) + 1):
                g[m] = g[m - 1] if m % 2 else g[m - 2] + mpmath.mpf(2) / (m - 1)
            value = log(n) - mpmath.fsum(c * g[int(c)] for c in seen) / n
        elif method == "chao_shen":
            coverage = 1 - mpmath.mpf(once if once < n else n - 1) / n
            value = -mpmath.fsum(
                coverage * c / n * log(coverage * c / n) / (1 - (1 - coverage * c / n) ** n) for c in seen
            )
        elif method == "chao_wang_jost":
            value = mpmath.fsum(c / n * mpmath.fsum(mpmath.mpf(1) / r for r in range(int(c), n)) for c in seen)
            if twice:
                rate = mpmath.mpf(2 * twice) / ((n - 1) * once + 2 * twice)
            else:
                rate = mpmath.mpf(2) / ((n - 1) * max(once - 1, 0) + 2)
            if once and rate < 1:
                rest = -log(rate) - mpmath.fsum((1 - rate) ** r / r for r in range(1, n))
                value += mpmath.mpf(once) / n * (1 - rate) ** (1 - n) * rest
        elif method == "james_stein":
            target = mpmath.mpf(1) / size
            spread = (n - 1) * mpmath.fsum((target - mpmath.mpf(c) / n) ** 2 for c in counts)
            error = 1 - mpmath.fsum((c / n) ** 2 for c in seen)
            share = min(mpmath.mpf(1), error / spread) if spread else mpmath.mpf(1)
            probs = [share * target + (1 - share) * mpmath.mpf(c) / n for c in counts]
            value = -mpmath.fsum(p * log(p) for p in probs if p)
        else:
            raise AssertionError(method)
        return float(value)


def exact_nsb(counts: list[int]) -> float:
    """The posterior mean by a trapezoidal rule in 60 digits over all concentrations from e^-40 to e^40."""
    with mpmath.workdps(60):
        n, size, step = sum(counts), len(counts), mpmath.mpf(1) / 4
        kinds = {c: counts.count(c) for c in counts}
        above = below = mpmath.mpf(0)
        for i in range(-160, 160):
            beta = mpmath.exp(step * i)
            whole = size * beta
            log = mpmath.loggamma(whole) - mpmath.loggamma(n + whole)
            log += sum(m * (mpmath.loggamma(c + beta) - mpmath.loggamma(beta)) for c, m in kinds.items())
            weight = beta * mpmath.exp(log) * (size * mpmath.psi(1, whole + 1) - mpmath.psi(1, beta + 1))
            inner = sum(m * (c + beta) / (n + whole) * mpmath.digamma(c + beta + 1) for c, m in kinds.items())
            above += weight * (mpmath.digamma(n + whole + 1) - inner)
            below += weight
        return float(above / below)


# counts


SAMPLES = [[4, 2, 1, 1, 0, 0], [5, 0, 0], [1, 1, 1, 1], [1, 2], [7], [3, 3, 3], [1] + [2] * 30, [40, 1, 1, 2, 9, 0, 17]]


@few_warnings
@pytest.mark.parametrize("counts", SAMPLES, ids=str)
@pytest.mark.parametrize("method", METHODS[:-1])
def test_formulas_against_their_papers_in_a_hundred_digits(counts: list[int], method: str) -> None:
    assert estimate_entropy(counts, method=method) == pytest.approx(twin(counts, method), rel=1e-13, abs=1e-15)


@few_warnings
@pytest.mark.parametrize("counts", [[4, 2, 1, 1, 0, 0], [5, 0, 0], [1, 1, 1, 1], [100, 100], [0, 0, 0, 1]], ids=str)
def test_nsb_against_sixty_digits(counts: list[int]) -> None:
    assert estimate_entropy(counts, method="nsb") == pytest.approx(exact_nsb(counts), rel=1e-13)


@few_warnings
def test_nsb_gives_the_numbers_that_another_implementation_publishes() -> None:
    # the package ndd (Fortran), descriptions of its versions 1.4.1 and 1.6.1
    counts = [7, 3, 5, 8, 9, 1, 3, 3, 1, 0, 2, 5, 2, 11, 4, 23, 5, 0, 8, 0]
    assert estimate_entropy(counts, method="nsb") == pytest.approx(2.623634344888532, abs=1e-9)
    counts = [12, 4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2] + [0] * 80
    assert estimate_entropy(counts, method="nsb") == pytest.approx(2.840012048914245, abs=1e-9)


def test_uniform_over_a_hundred_symbols() -> None:
    # the peers' numbers on the same draws: infomeasure 0.6.3 but for the last three
    found = {method: estimate_entropy(uniform_counts(100), method=method) for method in METHODS}
    assert found == pytest.approx({
        "plug_in": 4.0365, "miller_madow": 4.3415, "chao_shen": 4.6481, "chao_wang_jost": 4.5293,
        "grassberger": 4.5155,  # 4.4557 there: the formula of 1988
        "james_stein": math.log(100),  # 4.1271 there: shrunk towards the symbols seen, not the 100
        "nsb": 4.5456,  # 4.0358 there: counts multiply the logarithms of the likelihood a second time
    }, abs=5e-5)  # fmt: skip
    seen = uniform_counts(100)
    assert estimate_entropy(seen[seen > 0], method="james_stein") == pytest.approx(4.1271, abs=5e-5)


def test_nsb_is_a_number_where_another_library_has_none() -> None:
    found = estimate_entropy(uniform_counts(1000), method="nsb")
    assert found == pytest.approx(math.log(100), abs=0.02)


def test_chao_wang_jost_keeps_its_digits_when_few_are_seen_once() -> None:
    # by the formula as printed 21151 nats in float64: all digits of a difference are lost, then divided by 1e-17
    found = estimate_entropy([1] * 2 + [2] * 60, method="chao_wang_jost")
    assert found == pytest.approx(twin([1] * 2 + [2] * 60, "chao_wang_jost"), rel=1e-13)
    assert found < 4.4


@pytest.mark.parametrize("method", METHODS)
def test_large_samples_give_the_entropy(method: str) -> None:
    p = np.array([0.5, 0.25, 0.125, 0.1, 0.025])
    counts = (p * 10**9).astype(int)
    assert estimate_entropy(counts, method=method) == pytest.approx(float(shannon_entropy(p)), abs=1e-8)


@few_warnings
def test_corrections_take_the_bias_off() -> None:
    p = 0.9 ** np.arange(60)
    p /= p.sum()
    counts = np.random.default_rng(1).multinomial(100, p, size=400)
    bias = {m: np.mean(estimate_entropy(counts, method=m)) - float(shannon_entropy(p)) for m in METHODS[:-2]}
    assert bias["plug_in"] == pytest.approx(-0.22, abs=0.03)
    assert abs(bias["miller_madow"]) < 0.5 * abs(bias["plug_in"])
    assert max(abs(bias[m]) for m in ("grassberger", "chao_shen", "chao_wang_jost")) < 0.25 * abs(bias["plug_in"])


@few_warnings
@given(count_rows)
@settings(max_examples=25, deadline=None)
def test_properties_of_estimates_from_counts(counts: np.ndarray) -> None:
    plain = estimate_entropy(counts, method="plug_in")
    assert -1e-15 <= plain <= math.log(len(counts)) + 1e-14
    assert plain == pytest.approx(float(shannon_entropy(counts / counts.sum())), abs=1e-14)
    for method in METHODS:
        found = estimate_entropy(counts, method=method)
        assert found == pytest.approx(estimate_entropy(counts[::-1], method=method), rel=1e-12, abs=1e-14)
        assert found / math.log(2) == pytest.approx(estimate_entropy(counts, method=method, unit="bits"), abs=1e-12)
        longer = estimate_entropy([*counts, 0, 0], method=method)
        if method not in ("james_stein", "nsb"):
            assert longer == pytest.approx(found, rel=1e-13, abs=1e-14)
    for method in ("miller_madow", "chao_shen", "chao_wang_jost", "james_stein"):
        assert estimate_entropy(counts, method=method) >= plain - 1e-12
    assert 0 <= estimate_entropy(counts, method="nsb") <= math.log(len(counts)) + 1e-12


@few_warnings
def test_estimates_may_leave_the_range_of_entropies() -> None:
    # what is not claimed: corrected estimates are raw, and not below log V
    assert estimate_entropy([1, 1, 1, 1], method="chao_wang_jost") > math.log(4)
    assert estimate_entropy([1, 1], method="grassberger") > math.log(2)
    assert estimate_entropy([4, 1], method="james_stein") != estimate_entropy([4, 1, 0], method="james_stein")


@few_warnings
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_the_loop(method: str) -> None:
    batch = np.random.default_rng(2).integers(0, 6, size=(3, 4, 5))
    batch[..., 0] += 1
    found = estimate_entropy(batch, method=method)
    assert isinstance(found, np.ndarray)
    expected = [[estimate_entropy(row, method=method) for row in block] for block in batch]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert isinstance(estimate_entropy(batch[0, 0], method=method), float)
    assert np.shape(estimate_entropy(batch[:0], method="plug_in")) == (0, 4)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_repeats_are_warned_of(method: str) -> None:
    with pytest.warns(EstimateWarning, match="counts: 3 of 5 samples are of outcomes seen once, so") as caught:
        estimate_entropy([2, 1, 1, 1, 0], method=method)
    assert caught[0].filename == __file__
    with pytest.warns(EstimateWarning, match="1 of 1 samples are"):
        assert estimate_entropy([1, 0], method="plug_in") == 0
    with pytest.warns(EstimateWarning, match=r"2 of 2 samples in row \(0, 1\) are of outcomes seen once \(3 rows"):
        estimate_entropy([[[2, 2], [1, 1]], [[1, 1], [0, 1]]], method=method)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_said_when_half_of_the_samples_repeat(method: str) -> None:
    estimate_entropy([2, 1, 1], method=method)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([0.5, 0.5], DomainError, "found dtype float64, wanted whole numbers"),
        ([2.0, 3.0], DomainError, r"counts.astype\(int\)"),
        ([2, np.nan], DomainError, "wanted whole numbers"),
        ([np.inf, 1], DomainError, "wanted whole numbers"),
        ([True, False], DomainError, "found dtype bool"),
        (["a", "b"], DomainError, "wanted whole numbers"),
        ([3, -1], DomainError, r"entry \(1,\) is -1; a count is not negative"),
        ([2**62, 2**62], DomainError, "more than int64 can count"),
        ([2**62] * 4, DomainError, "more than int64 can count"),
        ([0, 0], DomainError, "the row has no sample"),
        ([[1, 2], [0, 0]], DomainError, "row 1 has no sample"),
        (np.zeros((2, 2, 3), dtype=int), DomainError, r"row \(0, 0\) has no sample"),
        ([], ShapeError, r"found shape \(0,\)"),
        (np.zeros((3, 0), dtype=int), ShapeError, "at least one outcome"),
        (5, ShapeError, r"found shape \(\)"),
        ([[1, 2], [3]], ShapeError, "different lengths"),
    ],
    ids=str,
)
def test_bad_counts_are_refused(counts: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_entropy(counts)  # type: ignore[arg-type]


def test_bad_arguments_of_counts_are_refused() -> None:
    with pytest.raises(ArgumentError, match="method: found 'mm', wanted one of plug_in, miller_madow"):
        estimate_entropy([2, 2], method="mm")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="method: found None"):
        estimate_entropy([2, 2], method=None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="unit"):
        estimate_entropy([2, 2], unit="hartleys")  # type: ignore[arg-type]


@few_warnings
@pytest.mark.parametrize("method", METHODS)
def test_the_jackknife_leaves_each_sample_out(method: str) -> None:
    counts = np.array([3, 1, 0, 2, 1, 3])
    without = [counts - np.eye(6, dtype=int)[i] for i in np.repeat(np.arange(6), counts)]
    estimates = estimate_entropy(without, method=method)
    expected = math.sqrt(9 / 10 * ((estimates - estimates.mean()) ** 2).sum())
    assert entropy_standard_error(counts, method=method) == pytest.approx(expected, rel=1e-12)
    bits = entropy_standard_error([counts, counts + 1], method=method, unit="bits")
    assert bits[0] == pytest.approx(expected / math.log(2), rel=1e-12)
    assert bits[1] == pytest.approx(entropy_standard_error(counts + 1, method=method) / math.log(2), rel=1e-12)


@few_warnings
@pytest.mark.parametrize("method", METHODS[:-1])
def test_the_standard_error_is_the_spread_over_samples(method: str) -> None:
    p = 1 / np.arange(1, 101)
    counts = np.random.default_rng(8).multinomial(400, p / p.sum(), size=300)
    spread = np.std(estimate_entropy(counts, method=method))
    found = np.sqrt(np.mean(entropy_standard_error(counts[:100], method=method) ** 2))
    # the terms of Grassberger's estimator jump between odd and even counts, which the jackknife takes for noise
    low, high = (1.2, 1.45) if method == "grassberger" else (0.88, 1.2)
    assert low < found / spread < high


def test_a_standard_error_needs_two_samples() -> None:
    with pytest.raises(DomainError, match="row 1 has one sample"):
        entropy_standard_error([[2, 2], [1, 0]])
    with pytest.raises(ArgumentError, match="method: found 'ml'"):
        entropy_standard_error([2, 2], method="ml")  # type: ignore[arg-type]


def test_labels_are_counted() -> None:
    labels = ["b", "a", "b", "c", "b", "a"]
    assert entropy_of_labels(labels, method="miller_madow") == estimate_entropy([2, 3, 1], method="miller_madow")
    assert entropy_of_labels([5, 5, -1, 5]) == estimate_entropy([1, 3])
    assert entropy_of_labels([True, True, False, True], unit="bits") == estimate_entropy([1, 3], unit="bits")
    assert entropy_of_labels([0, 0, 1, 1], n_outcomes=4, method="nsb") == estimate_entropy([2, 2, 0, 0], method="nsb")


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        ([0.1, 0.2], {}, DomainError, "use kozachenko_leonenko_entropy"),
        ([None, 1], {}, DomainError, "found dtype object"),
        ([], {}, ShapeError, "at least one sample"),
        ([[1, 2]], {}, ShapeError, "wanted one axis"),
        ([1, 2, 3], {"n_outcomes": 2}, ArgumentError, "the labels have 3 different values"),
        ([1, 1], {"n_outcomes": 2.5}, ArgumentError, "wanted a whole number"),
    ],
    ids=str,
)
def test_bad_labels_are_refused(labels: object, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        entropy_of_labels(labels, **options)  # type: ignore[arg-type]


# orders


def exact_power_sum(p: list[float], order: float) -> mpmath.mpf:
    return mpmath.fsum(mpmath.mpf(x) ** mpmath.mpf(order) for x in p if x)


probability_rows = arrays(np.float64, st.integers(2, 7), elements=st.floats(0, 1)).filter(lambda w: w.sum() > 0.1)


@pytest.mark.parametrize(
    ("order", "renyi", "tsallis"),
    [
        (0, math.log(3), 2.0),
        (1, 1.5 * math.log(2), 1.5 * math.log(2)),
        (2, -math.log(0.375), 0.625),
        (math.inf, math.log(2), 0.0),
        (0.5, 2 * math.log(math.sqrt(0.5) + 1), 2 * math.sqrt(0.5)),
    ],
)
def test_known_values_of_orders(order: float, renyi: float, tsallis: float) -> None:
    for p in ([0.5, 0.25, 0.25, 0.0], Categorical.from_probs([0.5, 0.25, 0.25, 0.0])):
        assert renyi_entropy(p, alpha=order) == pytest.approx(renyi, rel=1e-14)
        assert renyi_entropy(p, alpha=order, unit="bits") == pytest.approx(renyi / math.log(2), rel=1e-14)
        assert tsallis_entropy(p, q=order) == pytest.approx(tsallis, rel=1e-14)


@pytest.mark.parametrize("gap", [0.5, 1e-2, 1e-5, 1e-8, 1e-12, 2.3e-16, -1e-8, -1e-5, -0.3, 7.0, 200.0])
def test_orders_near_one_lose_no_digit(gap: float) -> None:
    p = [0.6, 0.3, 0.1 - 1e-9, 1e-9]
    total = math.fsum(p)
    order = 1 + gap
    with mpmath.workdps(60):
        exact = exact_power_sum(p, order)
        if gap < 1:  # the doubles sum to one only but for 1e-17
            exact += 1 - exact_power_sum(p, 1)
        renyi = float(mpmath.log(exact) / (1 - mpmath.mpf(order)))
        tsallis = float((1 - exact) / (mpmath.mpf(order) - 1))
    assert total == 1.0
    assert renyi_entropy(p, alpha=order) == pytest.approx(renyi, rel=2e-15, abs=0)
    assert tsallis_entropy(p, q=order) == pytest.approx(tsallis, rel=2e-15, abs=0)


@given(probability_rows, st.floats(0, 30), st.floats(0, 30))
@settings(max_examples=50, deadline=None)
def test_relations_between_orders(weights: np.ndarray, first: float, second: float) -> None:
    p = weights / weights.sum()
    low, high = sorted((first, second))
    bounds = renyi_entropy(p, alpha=[0, low, high, np.inf])
    assert (np.diff(bounds) <= 1e-12).all()
    assert 0 <= bounds[3] <= math.log(len(p)) + 1e-12
    assert bounds[0] <= math.log(len(p)) + 1e-12
    for order in (low, high):
        h, s = renyi_entropy(p, alpha=order), tsallis_entropy(p, q=order)
        assert s == pytest.approx(h if order == 1 else -math.expm1((1 - order) * h) / (order - 1), rel=1e-9, abs=1e-12)
    if high > 1.001:  # 1/a + 1/b = 2 bounds: H_inf >= (a - 1) / a times H_a
        assert bounds[3] >= (high - 1) / high * bounds[2] - 1e-12


@given(probability_rows, probability_rows, st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_entropies_of_independent_variables(first: np.ndarray, second: np.ndarray, order: float) -> None:
    p, q = first / first.sum(), second / second.sum()
    p, q = np.where(p < 1e-140, 0, p), np.where(q < 1e-140, 0, q)
    joint = np.outer(p, q).ravel()
    add = renyi_entropy(p, alpha=order) + renyi_entropy(q, alpha=order)
    assert renyi_entropy(joint, alpha=order) == pytest.approx(add, rel=1e-9, abs=1e-9)
    a, b = tsallis_entropy(p, q=order), tsallis_entropy(q, q=order)
    assert tsallis_entropy(joint, q=order) == pytest.approx(a + b + (1 - order) * a * b, rel=1e-9, abs=1e-9)


def test_tiny_probabilities_count_in_the_log_domain() -> None:
    p = Categorical(np.array([-1e-300, -5000.0]))  # the second is below the range of float64
    assert renyi_entropy(p, alpha=1e-4) == pytest.approx(math.log1p(math.exp(-0.5)) / (1 - 1e-4), rel=1e-12)
    assert renyi_entropy(p, alpha=0) == pytest.approx(math.log(2))
    assert tsallis_entropy(p, q=1e-4) == pytest.approx(math.exp(-0.5) / (1 - 1e-4), rel=1e-12)
    assert renyi_entropy([1 - 1e-300, 1e-300], alpha=0.01) == pytest.approx(1e-3 / 0.99, rel=1e-3)
    assert renyi_entropy([0.75, 0.25], alpha=1e300) == pytest.approx(-math.log(0.75), rel=1e-12)


def test_certain_outcomes_have_plain_zero_entropy() -> None:
    for order in (0, 0.5, 1, 2, math.inf):
        assert str(renyi_entropy([1.0, 0.0], alpha=order)) == "0.0"
        assert str(tsallis_entropy([1.0, 0.0], q=order)) == "0.0"


def test_orders_broadcast_against_distributions() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(5), size=4)
    orders = np.array([0, 0.7, 1, 3, np.inf])
    found = renyi_entropy(p, alpha=orders[:, None])
    expected = [[renyi_entropy(row, alpha=order) for row in p] for order in orders]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(tsallis_entropy(p, q=[1, 1, 2, 2]), [tsallis_entropy(r, q=o) for r, o in
                                                                     zip(p, (1, 1, 2, 2), strict=True)], rtol=1e-14)
    np.testing.assert_allclose(renyi_entropy(p, alpha=1), shannon_entropy(p), rtol=1e-13)


@pytest.mark.parametrize("entropy", [lambda p, a: renyi_entropy(p, alpha=a), lambda p, q: tsallis_entropy(p, q=q)])
@pytest.mark.parametrize(
    ("p", "order", "error", "message"),
    [
        ([0.5, 0.6], 2, DomainError, "sum to 1.1, wanted 1"),
        ([[0.5, 0.5], [0.5, 0.4]], 2, DomainError, "row 1 sum to 0.9"),
        ([1.5, -0.5], 2, DomainError, r"entry \(1,\) is -0.5"),
        ([np.nan, 1.0], 2, DomainError, "must be finite"),
        ([], 2, ShapeError, "at least one outcome"),
        (1.0, 2, ShapeError, "at least one outcome"),
        ([0.5, 0.5], -1, DomainError, "found -1.0, wanted orders from 0"),
        ([0.5, 0.5], np.nan, DomainError, "found nan"),
        ([[0.5, 0.5]] * 3, [1, 2], ShapeError, "does not broadcast"),
        (infogeo.Poisson([2.0]), 2, UnsupportedFamilyError, "found Poisson"),
    ],
    ids=str,
)
def test_bad_orders_and_probabilities_are_refused(entropy, p, order, error, message) -> None:
    with pytest.raises(error, match=message):
        entropy(p, order)


# nearest neighbors


def normal_entropy(d: int) -> float:
    return d / 2 * math.log(2 * math.pi * math.e)


def normal_samples(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@few_warnings
@pytest.mark.parametrize("norm", ["euclidean", "max"])
@pytest.mark.parametrize("d", [1, 3, 11])
def test_nearest_neighbors_against_all_pairs(d: int, norm: str) -> None:
    # 11 dimensions are searched among all pairs in blocks, fewer by a tree
    x, k = normal_samples(200, d), 4
    gaps = np.abs(x[:, None, :] - x[None, :, :])
    distance = np.sqrt((gaps**2).sum(-1)) if norm == "euclidean" else gaps.max(-1)
    np.fill_diagonal(distance, np.inf)
    radius = np.sort(distance, axis=1)[:, k - 1]
    with mpmath.workdps(30):
        ball = mpmath.pi ** (mpmath.mpf(d) / 2) / mpmath.gamma(mpmath.mpf(d) / 2 + 1) if norm == "euclidean" else 2**d
        expected = float(mpmath.digamma(200) - mpmath.digamma(k) + mpmath.log(ball) + d * np.log(radius).mean())
    assert kozachenko_leonenko_entropy(x, k=k, norm=norm) == pytest.approx(expected, rel=1e-13)
    nearest, found = _neighbor_distances(x, k, norm)
    np.testing.assert_allclose(found, radius, rtol=1e-13)
    np.testing.assert_allclose(nearest, distance.min(axis=1), rtol=1e-13)


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        (scipy.stats.norm(3, 2), normal_entropy(1) + math.log(2)),
        (scipy.stats.expon(), 1.0),
        (scipy.stats.uniform(0, 0.1), math.log(0.1)),
        (scipy.stats.laplace(), 1 + math.log(2)),
        (scipy.stats.cauchy(), math.log(4 * math.pi)),
    ],
    ids=["normal", "exponential", "uniform", "laplace", "cauchy"],
)
def test_entropies_of_known_densities(law, exact: float) -> None:
    found = [kozachenko_leonenko_entropy(law.rvs(2000, random_state=seed)) for seed in range(5)]
    assert np.mean(found) == pytest.approx(exact, abs=0.04)


@few_warnings
def test_errors_of_normal_samples_by_dimension() -> None:
    # what the libraries that are compared have too (they say nothing): -0.015, -0.071, +1.86, one seed
    error = {
        (d, norm): np.mean([kozachenko_leonenko_entropy(normal_samples(1000, d, seed), norm=norm)
                            for seed in range(3)]) - normal_entropy(d)
        for d in (1, 5, 20) for norm in ("max", "euclidean")
    }  # fmt: skip
    assert error[1, "max"] == pytest.approx(0, abs=0.04)
    assert error[5, "max"] == pytest.approx(-0.07, abs=0.04)
    assert error[20, "max"] == pytest.approx(1.88, abs=0.12)
    assert error[20, "euclidean"] == pytest.approx(1.2, abs=0.12)


def test_too_few_samples_for_the_dimension_are_warned_of() -> None:
    with pytest.warns(EstimateWarning, match=r"1000 samples are few for d = 20 dimensions .* at least 1.049e\+06") as w:
        kozachenko_leonenko_entropy(normal_samples(1000, 20))
    assert w[0].filename == __file__
    with pytest.warns(EstimateWarning, match="few for d = 1 "):
        kozachenko_leonenko_entropy(normal_samples(14, 1))
    with pytest.warns(EstimateWarning, match="wanted at least 3072"):
        kozachenko_leonenko_entropy(normal_samples(1100, 10), norm="max")
    kozachenko_leonenko_entropy(normal_samples(1100, 10))  # 2**10 in the Euclidean norm
    kozachenko_leonenko_entropy(normal_samples(15, 1))


@few_warnings
@pytest.mark.parametrize("transform", [None, "standardize", "whiten"])
@pytest.mark.parametrize("factor", [1e-9, 1e9, 1e-200, 1e200, 0.3, -7.0])
def test_scaling_adds_its_logarithm(factor: float, transform: str | None) -> None:
    x = normal_samples(300, 3)
    gain = 3 * math.log(abs(factor))
    for entropy in (
        lambda z: kozachenko_leonenko_entropy(z, transform=transform),
        lambda z: kozachenko_leonenko_entropy(z, transform=transform, norm="max"),
        lambda z: nearest_neighbor_renyi_entropy(z, alpha=2, transform=transform),
        gaussian_entropy,
    ):
        assert entropy(factor * x) == pytest.approx(entropy(x) + gain, rel=1e-12, abs=1e-11)
        assert entropy(x + 1000) == pytest.approx(entropy(x), abs=1e-9)


@few_warnings
def test_whitening_and_rotations() -> None:
    x = normal_samples(400, 3)
    mix = np.array([[3.0, 0.2, 0.0], [0.0, 0.01, 0.3], [1.0, 0.0, 20.0]])
    gain = np.linalg.slogdet(mix)[1]
    for norm in ("euclidean",):
        found = kozachenko_leonenko_entropy(x @ mix, transform="whiten", norm=norm)
        assert found == pytest.approx(kozachenko_leonenko_entropy(x, transform="whiten", norm=norm) + gain, abs=1e-10)
    scales = np.array([1e-4, 1.0, 1e4])
    found = kozachenko_leonenko_entropy(x * scales, transform="standardize")
    assert found == pytest.approx(kozachenko_leonenko_entropy(x, transform="standardize"), abs=1e-10)
    turn = np.linalg.qr(mix)[0]
    assert kozachenko_leonenko_entropy(x @ turn) == pytest.approx(kozachenko_leonenko_entropy(x), abs=1e-12)
    # what is not claimed: without the transform, components of different units are far off
    assert abs(kozachenko_leonenko_entropy(x * scales) - normal_entropy(3)) > 1
    assert abs(kozachenko_leonenko_entropy(x * scales, transform="whiten") - normal_entropy(3)) < 0.2


def test_unequal_directions_are_warned_of() -> None:
    x = normal_samples(300, 2)
    correlated = np.stack([x[:, 0], x[:, 0] + 0.05 * x[:, 1]], axis=1)
    with pytest.warns(EstimateWarning, match="differ by a factor of"):
        kozachenko_leonenko_entropy(x * [1, 100])
    with pytest.warns(EstimateWarning, match="transform='whiten'"):
        kozachenko_leonenko_entropy(correlated, transform="standardize")
    kozachenko_leonenko_entropy(x * [1, 100], transform="standardize")
    kozachenko_leonenko_entropy(correlated, transform="whiten")


def test_ties_are_refused_or_said_or_jittered_but_never_silent() -> None:
    x = normal_samples(500, 1)
    rounded = np.round(x * 2) / 2
    with pytest.raises(DomainError, match=r"of 500 samples \(the first is row 0\) have 3 or more others equal"):
        kozachenko_leonenko_entropy(rounded)
    with pytest.raises(DomainError, match="jitter="):
        nearest_neighbor_renyi_entropy(rounded, alpha=2)
    some = x.copy()
    some[:10] = some[10:20]
    with pytest.warns(EstimateWarning, match="20 of 500 samples are equal to another one"):
        kozachenko_leonenko_entropy(some)
    x = normal_samples(4000, 1)
    fine = np.round(x, 2)
    found = kozachenko_leonenko_entropy(fine, jitter=0.005, rng=1)
    assert found == pytest.approx(kozachenko_leonenko_entropy(x), abs=0.05)
    assert found == kozachenko_leonenko_entropy(fine, jitter=0.005, rng=1)
    assert found != kozachenko_leonenko_entropy(fine, jitter=0.005, rng=2)
    assert kozachenko_leonenko_entropy(fine * 1e6, jitter=0.005, rng=1) == pytest.approx(found + 6 * math.log(10))


@pytest.mark.parametrize(("alpha", "exact"), [(0.5, 1.612), (2, 1.266), (3, 1.194), (1, 1.419)])
def test_renyi_entropies_of_the_normal_density(alpha: float, exact: float) -> None:
    if alpha != 1:
        assert exact == pytest.approx(0.5 * math.log(2 * math.pi) + math.log(alpha) / (2 * (alpha - 1)), abs=6e-4)
    found = [nearest_neighbor_renyi_entropy(normal_samples(2000, 1, seed), alpha=alpha, k=4) for seed in range(8)]
    # orders below 1 live on the tails, which 2000 samples end before
    assert np.mean(found) == pytest.approx(exact, abs=0.03 if alpha >= 1 else 0.045)


def test_renyi_orders_of_samples_are_continuous_and_fall() -> None:
    x = normal_samples(500, 2)
    at_one = nearest_neighbor_renyi_entropy(x, alpha=1)
    shannon = kozachenko_leonenko_entropy(x)
    assert at_one == pytest.approx(shannon + math.log(499) - float(mpmath.digamma(500)), abs=1e-13)
    for gap in (1e-12, 1e-9, 1e-6):
        for sign in (-1, 1):
            assert nearest_neighbor_renyi_entropy(x, alpha=1 + sign * gap) == pytest.approx(at_one, abs=3 * gap + 1e-14)
    below, above = (nearest_neighbor_renyi_entropy(x, alpha=1 + s * 1.0001e-3) for s in (-1, 1))
    inside = nearest_neighbor_renyi_entropy(x, alpha=1 + 0.9999e-3)
    assert below > at_one > above
    assert inside - above == pytest.approx((at_one - above) * 2e-4 / 1.0001, rel=0.02)
    orders = [nearest_neighbor_renyi_entropy(x, alpha=a) for a in (0.3, 0.7, 1, 1.5, 2, 3.5)]
    assert (np.diff(orders) < 0).all()


def test_renyi_of_samples_in_exact_arithmetic() -> None:
    x = normal_samples(60, 1)[:, 0]
    radius = np.sort(np.abs(x[:, None] - x[None, :]), axis=1)[:, 3]
    for q in (0.4, 2.0, 3.5):
        with mpmath.workdps(30):
            c = (mpmath.gamma(3) / mpmath.gamma(4 - mpmath.mpf(q))) ** (1 / (1 - mpmath.mpf(q)))
            mean = mpmath.fsum((59 * c * 2 * mpmath.mpf(r)) ** (1 - mpmath.mpf(q)) for r in radius) / 60
            exact = float(mpmath.log(mean) / (1 - mpmath.mpf(q)))
        assert nearest_neighbor_renyi_entropy(x, alpha=q) == pytest.approx(exact, rel=1e-12)


SAMPLES_REFUSED = [
    ([1.0, np.nan, 2.0, 3.0, 4.0], DomainError, "must be finite"),
    ([1.0, np.inf, 2.0, 3.0, 4.0], DomainError, "must be finite"),
    ([], ShapeError, "holds no sample"),
    (np.zeros((5, 0)), ShapeError, "holds no sample"),
    (np.zeros((3, 3, 3)), ShapeError, r"found shape \(3, 3, 3\)"),
    (2.0, ShapeError, r"found shape \(\)"),
    ([1.0], DomainError, "found one sample"),
    ([[1.0, 2.0]], DomainError, "found one sample"),
    (np.full(50, 5.1), DomainError, r"component 0 is constant \(5.1\)"),
    (np.stack([np.arange(50.0) ** 2, np.ones(50)], axis=1), DomainError, "component 1 is constant"),
    (np.outer(np.arange(50.0) ** 2, [1, -3]), DomainError, "linear combination"),
    (["a", "b", "c", "d"], DomainError, "wanted real numbers"),
    ([[1.0, 2.0], [3.0]], ShapeError, "different lengths"),
]


@pytest.mark.parametrize(("x", "error", "message"), SAMPLES_REFUSED, ids=str)
@pytest.mark.parametrize(
    "entropy",
    [kozachenko_leonenko_entropy, gaussian_entropy, lambda x: nearest_neighbor_renyi_entropy(x, alpha=2)],
    ids=["shannon", "normal", "renyi"],
)
def test_bad_samples_are_refused(entropy, x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        entropy(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: found 0, wanted at least 1"),
        ({"k": 2.0}, "wanted a whole number"),
        ({"k": 30}, "k: found 30 with 30 samples"),
        ({"norm": "l1"}, "norm: found 'l1'"),
        ({"transform": "pca"}, "transform: found 'pca'"),
        ({"jitter": 0}, "jitter: found 0"),
        ({"jitter": 1.5}, "jitter: found 1.5"),
        ({"jitter": 0.1, "rng": "seed"}, "rng: found 'seed'"),
        ({"unit": "dits"}, "unit: found 'dits'"),
    ],
    ids=str,
)
def test_bad_options_of_samples_are_refused(options: dict, message: str) -> None:
    x = np.round(normal_samples(30, 1), 1) if "rng" in options else normal_samples(30, 1)
    for entropy in (kozachenko_leonenko_entropy, lambda x, **o: nearest_neighbor_renyi_entropy(x, alpha=0.5, **o)):
        with pytest.raises(ArgumentError, match=message):
            entropy(x, **options)


def test_bad_orders_of_samples_and_too_few_to_whiten_are_refused() -> None:
    x = normal_samples(30, 1)
    for alpha, message in ((0, "above 0"), (-1, "above 0"), (np.inf, "finite"), (4, "below k"), (np.nan, "NaN")):
        with pytest.raises(ArgumentError, match=message):
            nearest_neighbor_renyi_entropy(x, alpha=alpha)
    with pytest.raises(ArgumentError, match="found 10 samples of 10"):
        kozachenko_leonenko_entropy(normal_samples(10, 10), transform="whiten")
    with pytest.warns(EstimateWarning, match="few for d = 10"):
        assert math.isfinite(kozachenko_leonenko_entropy(normal_samples(10, 10)))


def test_tensors_that_record_gradients_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'infogeo[transformers]'")
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert gaussian_entropy(x) == gaussian_entropy(x.numpy())
    x.requires_grad_()
    for entropy in (gaussian_entropy, kozachenko_leonenko_entropy, lambda z: renyi_entropy(z.softmax(-1), alpha=2)):
        with pytest.raises(DomainError, match="records a gradient"):
            entropy(x)
    assert estimate_entropy(torch.tensor([3, 2, 1])) == estimate_entropy([3, 2, 1])


# normal


@pytest.mark.parametrize(("n", "d"), [(5, 1), (12, 4), (60, 20)])
@few_warnings
def test_the_gaussian_correction_takes_all_of_the_bias_off(n: int, d: int) -> None:
    rng = np.random.default_rng(4)
    mix = rng.standard_normal((d, d))
    exact = normal_entropy(d) + np.linalg.slogdet(mix)[1]
    samples = rng.standard_normal((2000, n, d)) @ mix + 5
    found = np.array([gaussian_entropy(x) for x in samples[:: 1 if d < 20 else 4]])
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - exact) < 3.5 * error
    plain = np.mean([gaussian_entropy(x, bias_correction=False) for x in samples[:300]])
    assert plain < exact - 5 * error
    # the standard error that the warning states
    stated = 0.5 * math.sqrt(float(mpmath.fsum(mpmath.psi(1, mpmath.mpf(n - j) / 2) for j in range(1, d + 1))))
    assert found.std() == pytest.approx(stated, rel=0.1)


def test_gaussian_entropy_in_closed_form() -> None:
    x = normal_samples(50, 3) @ np.array([[2.0, 0.3, 0.0], [0.0, 1.0, -0.4], [0.0, 0.0, 0.1]])
    plain = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(x.T))[1]
    with mpmath.workdps(30):
        terms = [mpmath.digamma(mpmath.mpf(50 - j) / 2) + mpmath.log(2) - mpmath.log(49) for j in (1, 2, 3)]
        b = float(mpmath.fsum(terms))
    assert gaussian_entropy(x, bias_correction=False) == pytest.approx(plain, rel=1e-13)
    assert gaussian_entropy(x) == pytest.approx(plain - b / 2, rel=1e-13)
    assert gaussian_entropy(x, unit="bits") == pytest.approx((plain - b / 2) / math.log(2), rel=1e-13)
    assert gaussian_entropy(x[:, 0]) == gaussian_entropy(x[:, :1])


def test_gaussian_entropy_with_few_samples() -> None:
    with pytest.raises(DomainError, match="found 5 samples of 5 components, wanted more samples"):
        gaussian_entropy(normal_samples(5, 5))
    with pytest.warns(EstimateWarning, match="6 samples are few for 5 components") as caught:
        gaussian_entropy(normal_samples(6, 5))
    assert caught[0].filename == __file__
    gaussian_entropy(normal_samples(20, 5))


def test_the_entropies_agree_on_normal_samples() -> None:
    x = normal_samples(3000, 2) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    assert gaussian_entropy(x) == pytest.approx(normal_entropy(2), abs=0.05)
    assert kozachenko_leonenko_entropy(x) == pytest.approx(gaussian_entropy(x), abs=0.08)
    assert kozachenko_leonenko_entropy(x, unit="bits") == pytest.approx(kozachenko_leonenko_entropy(x) / math.log(2))
    order = np.random.default_rng(5).permutation(3000)
    assert kozachenko_leonenko_entropy(x[order]) == pytest.approx(kozachenko_leonenko_entropy(x), abs=1e-12)
    # for any other density with the same covariance the normal one is above
    uniform = np.random.default_rng(6).random(3000)
    assert kozachenko_leonenko_entropy(uniform) < gaussian_entropy(uniform) - 0.1
