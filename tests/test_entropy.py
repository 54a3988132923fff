"""Shannon entropy of probabilities, log-probabilities and logits."""

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
from infogeo import Categorical, DiagonalGaussian
from infogeo.entropy import entropy_of_log_probs, entropy_of_logits, shannon_entropy
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError

logit_arrays = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.floats(-700, 700, allow_subnormal=False)
)


def exact_entropy_of_logits(logits: list[float]) -> float:
    with mpmath.workdps(400):
        weights = [mpmath.exp(mpmath.mpf(z)) if z != -math.inf else mpmath.mpf(0) for z in logits]
        total = mpmath.fsum(weights)
        return float(-mpmath.fsum(w / total * mpmath.log(w / total) for w in weights if w))


def test_it_is_a_public_name() -> None:
    assert infogeo.shannon_entropy is shannon_entropy


@pytest.mark.parametrize(
    ("probs", "expected"),
    [
        ([1.0], 0.0),
        ([1.0, 0.0, 0.0], 0.0),
        ([0.5, 0.5], math.log(2)),
        ([0.5, 0.25, 0.125, 0.125], 1.75 * math.log(2)),
        ([1 / 3] * 3, math.log(3)),
    ],
)
def test_known_values(probs: list[float], expected: float) -> None:
    assert float(shannon_entropy(probs)) == pytest.approx(expected, rel=1e-15)
    assert float(shannon_entropy(Categorical.from_probs(probs))) == pytest.approx(expected, rel=1e-14)
    with np.errstate(divide="ignore"):
        logs = np.log(probs)
    assert float(entropy_of_log_probs(logs)) == pytest.approx(expected, rel=1e-14)
    assert float(entropy_of_logits(logs + 5)) == pytest.approx(expected, rel=1e-13)


def test_zero_entropy_is_plain_zero() -> None:
    for found in (shannon_entropy([1.0, 0.0]), entropy_of_log_probs([0.0, -np.inf]), entropy_of_logits([0.0, -np.inf])):
        assert str(float(found)) == "0.0"  # not -0.0


@given(logit_arrays)
@settings(max_examples=60, deadline=None)
def test_logits_agree_with_arbitrary_precision(logits: np.ndarray) -> None:
    expected = [exact_entropy_of_logits(row) for row in logits.tolist()]
    np.testing.assert_allclose(entropy_of_logits(logits), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("gap", [1.0, 30.0, 40.0, 300.0, 700.0])
def test_a_nearly_certain_outcome_keeps_its_tiny_entropy(gap: float) -> None:
    # through probabilities 1 - p rounds to 1 and the larger part of this entropy, p itself, is lost
    assert float(entropy_of_logits([gap, 0.0])) == pytest.approx(exact_entropy_of_logits([gap, 0.0]), rel=1e-13)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 7)), elements=st.floats(-20, 20)))
@settings(max_examples=60, deadline=None)
def test_the_three_ways_agree_with_each_other_and_with_scipy(logits: np.ndarray) -> None:
    p = Categorical.from_logits(logits)
    found = entropy_of_logits(logits)
    np.testing.assert_allclose(entropy_of_log_probs(p.log_probs), found, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(shannon_entropy(p.probs), found, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(shannon_entropy(p), found, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scipy.stats.entropy(p.probs, axis=-1), found, rtol=1e-12, atol=1e-14)


@given(logit_arrays, st.floats(-1e4, 1e4))
@settings(max_examples=40, deadline=None)
def test_bounds_shift_and_permutation(logits: np.ndarray, shift: float) -> None:
    found = entropy_of_logits(logits)
    assert (found >= 0).all()
    assert (found <= math.log(logits.shape[1]) * (1 + 1e-14)).all()
    np.testing.assert_allclose(entropy_of_logits(logits[:, ::-1]), found, rtol=1e-12)
    np.testing.assert_allclose(entropy_of_logits(logits + shift), found, rtol=1e-6, atol=1e-6)


@given(
    arrays(np.float64, (2, 5), elements=st.floats(-5, 5)), st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_entropy_is_concave(logits: np.ndarray, weight: float) -> None:
    p = Categorical.from_logits(logits).probs
    mixture = weight * p[0] + (1 - weight) * p[1]
    h = shannon_entropy(p)
    assert float(shannon_entropy(mixture)) >= weight * h[0] + (1 - weight) * h[1] - 1e-12


def test_entropy_of_independent_pairs_adds() -> None:
    p, q = np.asarray([0.2, 0.8]), np.asarray([0.1, 0.3, 0.6])
    joint = np.outer(p, q).reshape(-1)
    assert float(shannon_entropy(joint)) == pytest.approx(float(shannon_entropy(p) + shannon_entropy(q)), rel=1e-14)


def test_axis_batch_equals_loop() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)) * 3
    for axis in (0, 1, 2, -1, -3):
        moved = np.moveaxis(logits, axis, -1)
        probs = np.exp(moved) / np.exp(moved).sum(axis=-1, keepdims=True)
        loop = np.asarray([[shannon_entropy(row) for row in block] for block in probs])
        back = np.moveaxis(probs, -1, axis)
        np.testing.assert_allclose(shannon_entropy(back, axis=axis), loop, rtol=1e-13)
        np.testing.assert_allclose(entropy_of_log_probs(np.log(back), axis=axis), loop, rtol=1e-13)
        np.testing.assert_allclose(entropy_of_logits(logits, axis=axis), loop, rtol=1e-12)


def test_single_precision_sums_as_closely_as_it_can() -> None:
    probs = np.full(3000, 1 / 3000, dtype=np.float32)
    assert float(shannon_entropy(probs)) == pytest.approx(math.log(3000), rel=1e-6)
    with pytest.raises(DomainError, match="sum to"):
        shannon_entropy(probs.astype(np.float64))


@pytest.mark.parametrize("function", [shannon_entropy, entropy_of_log_probs])
def test_what_does_not_sum_to_one_is_refused_and_not_renormalized(function: object) -> None:
    values = np.asarray([[0.5, 0.5], [0.5, 0.4]])
    given_values = values if function is shannon_entropy else np.log(values)
    with pytest.raises(DomainError, match=r"sum to 0\.9, wanted 1 within 1e-09; .*from_counts .*entropy_of_logits"):
        function(given_values)  # type: ignore[operator]


def test_guards() -> None:
    with pytest.raises(DomainError, match=r"entry \(1,\) is -0.5; a probability is not negative"):
        shannon_entropy([1.5, -0.5])
    for function in (shannon_entropy, entropy_of_log_probs, entropy_of_logits):
        with pytest.raises(DomainError, match=r"entry \(1,\) is nan"):
            function([0.0, np.nan])
        with pytest.raises(DomainError, match=r"entry \(0,\) is inf"):
            function([np.inf, 0.0])
        with pytest.raises(ShapeError, match="single number"):
            function(1.0)
        with pytest.raises(ShapeError, match=r"found shape \(2, 0\), wanted at least one outcome"):
            function(np.zeros((2, 0)))
        for axis in (1, -2):
            with pytest.raises(ArgumentError, match=rf"axis {axis} does not exist: \w+ has shape \(1,\)"):
                function([1.0], axis=axis)
        with pytest.raises(DomainError, match="wanted real numbers"):
            function(["a"])  # type: ignore[list-item]
    with pytest.raises(DomainError, match="is -inf"):
        shannon_entropy([-np.inf, 1.0])
    with pytest.raises(DomainError, match="all outcomes of a distribution are minus infinity"):
        entropy_of_logits([[0.0, 1.0], [-np.inf, -np.inf]])
    with pytest.raises(ArgumentError, match="a Categorical has its outcomes in the last place"):
        shannon_entropy(Categorical.from_probs([[0.5, 0.5]]), axis=0)
    with pytest.raises(UnsupportedFamilyError, match=r"found DiagonalGaussian, .*use its method entropy\(\)"):
        shannon_entropy(DiagonalGaussian(np.zeros(2), np.ones(2)))  # type: ignore[arg-type]


def test_arguments_are_left_as_they_were() -> None:
    logits = np.asarray([0.0, -np.inf, 3.0])
    kept = logits.copy()
    entropy_of_logits(logits)
    np.testing.assert_array_equal(logits, kept)
