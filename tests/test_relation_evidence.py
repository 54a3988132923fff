"""Evidence that words are related: the formula by slow loops, what it does not change with, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infogeo import (
    DistanceProfile,
    distance_profile,
    relation_evidence,
    row_ratios,
    row_shares,
    standardized_influence,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.evidence import PRIOR_EXPONENT, log_offsets


def influence(n: int, count: int = 2, *, seed: int = 0) -> Any:
    values = np.random.default_rng([n, seed]).gamma(2.0, size=(count, n, n))
    return values * ~np.eye(n, dtype=bool)


def profile(count: int = 2, reach: int = 3) -> DistanceProfile:
    rng = np.random.default_rng(reach)
    return DistanceProfile(
        mean=rng.normal(size=(count, reach)), deviation=rng.uniform(0.5, 2.0, size=(count, reach)),
        counts=np.full((count, reach), 30),
    )


def slow_evidence(values: Any, known: DistanceProfile, exponent: float) -> Any:
    """The formula, number by number."""
    count, n, _ = values.shape
    z = np.zeros((count, n, n))
    for r in range(count):
        for i in range(n):
            mean = sum(values[r, i, k] for k in range(n) if k != i) / (n - 1)
            for j in range(n):
                at = min(abs(i - j), known.mean.shape[1]) - 1
                if i == j:
                    continue
                if values[r, i, j] > 0:
                    z[r, i, j] = (math.log(values[r, i, j] / mean) - known.mean[r, at]) / known.deviation[r, at]
                else:
                    z[r, i, j] = math.inf
        least = min((x for x in z[r][~np.eye(n, dtype=bool)] if x < math.inf), default=0.0)
        z[r][np.isinf(z[r])] = least
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                both = [z[r, i, j] + z[r, j, i] for r in range(count)]
                found[i, j] = sum(both) / count - exponent * math.log(abs(i - j))
    return found


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("exponent", [0.0, 0.7, PRIOR_EXPONENT])
def test_evidence_is_the_formula(n: int, exponent: float) -> None:
    values, known = influence(n), profile()
    values[1, 0] = 0.0  # a word that nothing moves
    values[0, -1, 0] = 0.0
    found = relation_evidence(standardized_influence(values, known), prior_exponent=exponent)
    assert np.allclose(found, slow_evidence(values, known, exponent), rtol=1e-10, atol=1e-12)
    assert np.array_equal(found, found.T)
    if n > 2:
        assert len(np.unique(found)) > 2


def test_the_default_exponent_is_the_constant() -> None:
    s = standardized_influence(influence(5), profile())
    assert np.array_equal(relation_evidence(s), relation_evidence(s, prior_exponent=PRIOR_EXPONENT))
    assert not np.allclose(relation_evidence(s), relation_evidence(s, prior_exponent=0.0))


def test_measurements_count_the_same() -> None:
    s = standardized_influence(influence(5, 4), profile(4))
    one = [relation_evidence(s[r : r + 1], prior_exponent=1.0) for r in range(4)]
    assert np.allclose(relation_evidence(s, prior_exponent=1.0), np.mean(one, axis=0))


def test_ratios_are_shares_times_the_other_words() -> None:
    values = influence(4, 3)
    values[2, 1] = 0.0
    found = row_ratios(values)
    assert np.allclose(found, 3 * row_shares(values))
    for r, i in ((0, 0), (1, 3)):
        assert np.delete(found[r, i], i).mean() == pytest.approx(1.0)
    assert not found[2, 1].any()


@pytest.mark.parametrize("n", [1, 2])
def test_one_word_and_two(n: int) -> None:
    values = influence(n)
    found = standardized_influence(values, profile())
    evidence = relation_evidence(found)
    assert found.shape == (2, n, n)
    assert evidence.shape == (n, n)
    assert np.isfinite(evidence).all()
    if n == 2:  # each row has one other word, whose ratio is one
        known = profile()
        expected = np.mean([-2 * known.mean[r, 0] / known.deviation[r, 0] for r in range(2)])
        assert evidence[0, 1] == evidence[1, 0] == pytest.approx(expected)


def test_where_nothing_moves_anything_all_pairs_are_alike() -> None:
    values = influence(4)
    values[1] = 0.0
    found = standardized_influence(values, profile())
    assert not found[1].any()
    assert found[0].any()
    assert not standardized_influence(np.zeros((2, 3, 3)), profile()).any()


def test_no_influence_is_taken_for_the_least_of_the_text() -> None:
    values, known = influence(4, 1), profile(1)
    lower = np.tril(values)  # a causal model: no earlier word is moved
    z = known.standardized(row_ratios(lower))[0]
    least = z[np.isfinite(z)].min()
    found = standardized_influence(lower, known)[0]
    for i in range(4):
        for j in range(i):
            assert found[i, j] == pytest.approx(z[i, j] + least)


def test_the_profile_is_that_of_other_sentences() -> None:
    others = [row_ratios(influence(n, seed=n)) for n in range(4, 14)]
    known = distance_profile(others)
    assert known.mean.shape[1] >= 3
    text = influence(6, seed=99)
    found = standardized_influence(text, known)
    assert np.allclose(found, slow_z(text, known))
    z = np.concatenate([
        (np.log(o[0][at]) - known.mean[0, 0]) / known.deviation[0, 0]
        for o in others for at in [np.abs(np.subtract.outer(*[np.arange(o.shape[-1])] * 2)) == 1]
    ])
    assert z.mean() == pytest.approx(0.0, abs=1e-9)
    assert z.std() == pytest.approx(1.0)


def slow_z(values: Any, known: DistanceProfile) -> Any:
    n = values.shape[-1]
    both = slow_evidence(values[:1], DistanceProfile(
        mean=known.mean[:1], deviation=known.deviation[:1], counts=known.counts[:1]
    ), 0.0)
    other = slow_evidence(values[1:], DistanceProfile(
        mean=known.mean[1:], deviation=known.deviation[1:], counts=known.counts[1:]
    ), 0.0)
    assert both.shape == (n, n)
    return np.stack([both, other])


POSITIVE = st.floats(1e-6, 1e6)


@given(
    st.integers(2, 6).flatmap(lambda n: st.tuples(
        hnp.arrays(np.float64, (2, n, n), elements=st.one_of(st.just(0.0), POSITIVE)),
        hnp.arrays(np.float64, (2, n, 1), elements=POSITIVE),
    ))
)
def test_scale_of_a_row_does_not_count(case: tuple[Any, Any]) -> None:
    values, scale = case
    values = values * ~np.eye(values.shape[-1], dtype=bool)
    known = profile()
    found, scaled = (standardized_influence(v, known) for v in (values, scale * values))
    assert np.allclose(found, scaled, rtol=1e-9, atol=1e-8)
    assert np.array_equal(found, np.swapaxes(found, 1, 2))
    assert np.isfinite(found).all()
    assert not np.diagonal(found, axis1=1, axis2=2).any()


@given(st.integers(2, 7), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_larger_exponent_costs_far_pairs_more(n: int, one: float, other: float) -> None:
    s = standardized_influence(influence(n), profile())
    low, high = (relation_evidence(s, prior_exponent=e) for e in sorted((one, other)))
    assert np.allclose(low - high, abs(one - other) * log_offsets(n), atol=1e-9)
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    assert np.array_equal(low[near], high[near])


def test_offsets_by_hand() -> None:
    assert np.allclose(log_offsets(3), np.log([[1, 1, 2], [1, 1, 1], [2, 1, 1]]))
    assert log_offsets(1).tolist() == [[0.0]]


def test_order_of_pairs_is_that_of_odds() -> None:
    # z of related pairs normal with mean m, of others with mean 0: the log-likelihood ratio is linear in z
    z = np.array([-1.0, 0.3, 2.5])
    ratio = -((z - 1.2) ** 2) / 2 + z**2 / 2
    assert np.allclose(np.diff(ratio), 1.2 * np.diff(z))


@pytest.mark.parametrize("function", [row_ratios, lambda v: standardized_influence(v, profile())])
@pytest.mark.parametrize(("values", "error", "message"), [
    (np.ones((2, 2, 3)), ShapeError, "n, n"), (np.ones((2, 3, 3)), DomainError, "diagonal"),
    (-influence(3), DomainError, "not negative"), (np.full((2, 3, 3), np.nan), DomainError, "finite"),
])
def test_what_is_no_influence_is_refused(function: Any, values: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        function(values)


def test_a_profile_of_other_measurements_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"wanted \(2, n, n\)"):
        standardized_influence(influence(4, 3), profile())
    with pytest.raises(ShapeError, match=r"wanted \(2, n, n\)"):
        standardized_influence(influence(4)[0], profile())


@pytest.mark.parametrize(("standardized", "more", "error", "message"), [
    (np.zeros((3, 3)), {}, ShapeError, "R, n, n"), (np.zeros((0, 3, 3)), {}, ShapeError, "at least 1"),
    (np.zeros((1, 3, 2)), {}, ShapeError, "R, n, n"), (np.tri(3)[None], {}, DomainError, "not symmetric"),
    (np.zeros((1, 3, 3)), {"prior_exponent": -0.1}, ArgumentError, "at least 0"),
    (np.zeros((1, 3, 3)), {"prior_exponent": np.inf}, ArgumentError, "finite"),
    (np.zeros((1, 3, 3)), {"prior_exponent": np.nan}, ArgumentError, "NaN"),
    (np.zeros((1, 3, 3)), {"prior_exponent": "1"}, ArgumentError, "a number"),
    (np.full((1, 3, 3), np.nan), {}, DomainError, "standardized"),
])
def test_what_is_not_standardized_is_refused(standardized: Any, more: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        relation_evidence(standardized, **more)
