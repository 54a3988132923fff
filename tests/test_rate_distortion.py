"""The rate-distortion function and the information bottleneck: closed forms, bounds, slow twins, guards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import brentq, minimize
from scipy.special import entr

from infogeo import information_bottleneck, rate_distortion, rate_distortion_curve
from infogeo.capacity import _mixture
from infogeo.errors import ArgumentError, ConvergenceError, DomainError, ShapeError

HAMMING = 1 - np.eye(2)


def entropy(p):
    return float(entr(p) + entr(1 - p))


def information(p, channel):
    q = p @ channel
    terms = channel * (np.log(np.where(channel > 0, channel, 1)) - np.log(np.where(q > 0, q, 1)))
    return float(p @ terms.sum(axis=1))


def check_point(found, p, d, *, unit=1.0):
    """What a result claims, computed again from its test channel."""
    assert_allclose(found.test_channel.sum(axis=1), 1, rtol=1e-12)
    assert (found.test_channel >= 0).all()
    assert_allclose(found.distortion, p @ (found.test_channel * d).sum(axis=1), rtol=1e-12, atol=1e-15)
    assert_allclose(found.upper, unit * information(p, found.test_channel), rtol=1e-9, atol=1e-12)
    assert_allclose(found.output_probs, p @ found.test_channel, rtol=1e-12, atol=1e-15)
    assert 0 <= found.lower <= found.upper
    assert found.rate == found.upper


# ---------------------------------------------------------------------------------------------- rate and distortion


@pytest.mark.parametrize("p", [0.5, 0.3, 0.01])
@pytest.mark.parametrize("part", [0.0, 1e-4, 0.1, 0.5, 0.99, 1.0, 1.7])
def test_binary_source(p, part):
    """R = H(p) - H(D) below D = p; Cover and Thomas, theorem 10.3.1."""
    source, allowed = np.array([1 - p, p]), part * p
    found = rate_distortion(source, HAMMING, budget=allowed, tol=1e-11)
    exact = max(entropy(p) - entropy(allowed), 0.0) if part < 1 else 0.0
    assert found.converged
    assert found.lower - 1e-14 <= exact <= found.upper + 1e-14
    assert found.upper - found.lower <= 1e-11
    assert found.distortion <= allowed + 1e-15
    check_point(found, source, HAMMING)
    if 0 < part < 1:
        assert_allclose(found.multiplier, np.log((1 - allowed) / allowed), rtol=0.01)


@pytest.mark.parametrize("allowed", [0.0, 0.1, 0.6, 0.94, 0.95, 1.0])
def test_uniform_source(allowed):
    """R = log V - H(D) - D log(V - 1) up to 1 - 1/V, in bits."""
    size = 20
    found = rate_distortion(np.full(size, 1 / size), 1 - np.eye(size), budget=allowed, unit="bits")
    exact = np.log2(size) - (entropy(allowed) + allowed * np.log(size - 1)) / np.log(2) if allowed < 0.95 else 0.0
    assert_allclose(found.rate, exact, atol=1e-9)
    assert_allclose(found.lower, exact, atol=1e-9)
    check_point(found, np.full(size, 1 / size), 1 - np.eye(size), unit=1 / np.log(2))


def test_slope_of_the_binary_source():
    """At slope s the distortion is 1 / (1 + e^s); the slope is in the unit of the rate."""
    for unit, base in (("nats", np.e), ("bits", 2.0)):
        found = rate_distortion([0.5, 0.5], HAMMING, multiplier=3.0, unit=unit)
        assert_allclose(found.distortion, 1 / (1 + base**3), rtol=1e-12)
        assert_allclose(found.rate, (np.log(2) - entropy(found.distortion)) / np.log(base), rtol=1e-12)
        assert found.multiplier == pytest.approx(3.0)


def test_erasures_as_reproductions():
    """A reproduction "don't know" at distortion 1, errors infinitely bad but for rounding: R = log 2 (1 - D)."""
    d = np.array([[0.0, 1e6, 1.0], [1e6, 0.0, 1.0]])
    for allowed in (0.2, 0.7):
        found = rate_distortion([0.5, 0.5], d, budget=allowed)
        assert_allclose(found.rate, np.log(2) * (1 - allowed), atol=2e-5)
        check_point(found, np.array([0.5, 0.5]), d)


def test_straight_part_of_the_curve():
    """Two reproductions joined by a line, where the distortion jumps with the slope: no single slope gives D = 0.29."""
    d = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.3]])
    p = np.array([0.5, 0.5])
    found = rate_distortion(p, d, budget=0.29, tol=1e-10)
    assert found.converged
    assert_allclose(found.distortion, 0.29, rtol=1e-12)
    check_point(found, p, d)
    # the line from (0.3, 0) touches the curve log 2 - H(D) of the binary source
    touch = brentq(lambda t: np.log((1 - t) / t) * (0.3 - t) - (np.log(2) - entropy(t)), 0.01, 0.29)
    assert_allclose(found.rate, np.log((1 - touch) / touch) * 0.01, rtol=1e-8)


def test_discretized_gaussian():
    """About half the logarithm of variance over distortion, while the grid is fine and wide beside both."""
    x = np.linspace(-5, 5, 101)
    p = np.exp(-(x**2) / 2)
    p /= p.sum()
    d = (x[:, None] - x) ** 2
    for allowed in (0.2, 0.5, 0.9):
        found = rate_distortion(p, d, budget=allowed)
        assert_allclose(found.rate, -0.5 * np.log(allowed), atol=2e-5)
        assert found.upper - found.lower <= 1e-9


def test_general_optimizer_finds_the_same():
    rng = np.random.default_rng(0)
    p, d, s = rng.dirichlet(np.ones(4)), rng.exponential(size=(4, 3)), 2.0
    found = rate_distortion(p, d, multiplier=s)

    def loss(x):
        q = np.exp(x - x.max())
        return -float(p @ np.log(np.exp(-s * d) @ (q / q.sum())))

    slow = min(minimize(loss, rng.normal(size=3), tol=1e-14).fun for _ in range(3))
    assert_allclose(found.rate + s * found.distortion, slow, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.floats(-3, 3))
def test_plain_and_newton_bracket_the_same_curve(seed, n, m, power):
    rng = np.random.default_rng(seed)
    p, d = rng.dirichlet(np.ones(n)), rng.exponential(size=(n, m))
    s = 10.0**power
    fast = rate_distortion(p, d, multiplier=s)
    plain = rate_distortion(p, d, multiplier=s, solver="plain", max_iter=300, strict=False)
    check_point(fast, p, d)
    check_point(plain, p, d)
    # both bound the same supporting line, the value of R + s D, unless the bound is that no rate is negative
    for lower, upper in itertools.product((fast, plain), repeat=2):
        assert lower.lower == 0 or (
            lower.lower + s * lower.distortion <= upper.upper + s * upper.distortion + 1e-12 * (1 + s)
        )
    # at the distortion of the plain one, by budget
    again = rate_distortion(p, d, budget=plain.distortion)
    assert again.lower <= plain.upper + 1e-9
    assert again.upper >= plain.lower - 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 6))
def test_the_curve_falls_and_is_convex(seed, n, m):
    rng = np.random.default_rng(seed)
    p, d = rng.dirichlet(np.ones(n)), rng.exponential(size=(n, m))
    least, most = float(p @ d.min(axis=1)), float((p @ d).min())
    budgets = np.linspace(least, most * 1.1 + 1e-3, 7)
    rates = np.array([rate_distortion(p, d, budget=b).rate for b in budgets])
    assert (np.diff(rates) <= 1e-9).all()
    assert (np.diff(rates, 2) >= -3e-9).all()
    assert rates[-1] == 0.0
    assert rates[0] <= entr(p).sum() + 1e-9


def test_letters_may_be_permuted_split_and_missing():
    rng = np.random.default_rng(1)
    p, d = rng.dirichlet(np.ones(4)), rng.exponential(size=(4, 5))
    rate = rate_distortion(p, d, budget=0.4).rate
    rows, columns = rng.permutation(4), rng.permutation(5)
    assert_allclose(rate_distortion(p[rows], d[rows][:, columns], budget=0.4).rate, rate, atol=2e-9)
    split = rate_distortion([*p[:3], p[3] / 2, p[3] / 2], d[[0, 1, 2, 3, 3]], budget=0.4)
    assert_allclose(split.rate, rate, atol=2e-9)
    # a letter that never occurs, whatever its distortions
    missing = rate_distortion([*p, 0.0], np.vstack([d, 1e3 + np.arange(5.0)]), budget=0.4)
    assert_allclose(missing.rate, rate, atol=2e-9)
    assert_allclose(missing.test_channel.sum(axis=1), 1.0)
    silent = rate_distortion([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], multiplier=np.inf)
    assert_allclose(silent.test_channel.sum(axis=1), 1.0)


def test_ends_of_the_curve():
    p, d = np.array([0.25, 0.75]), np.array([[0.5, 2.0], [1.0, 0.1]])
    right = rate_distortion(p, d, multiplier=0)
    assert (right.rate, right.lower) == (0.0, 0.0)
    assert_allclose(right.distortion, min(p @ d))
    left = rate_distortion(p, d, multiplier=np.inf)
    assert_allclose(left.rate, entropy(0.25), rtol=1e-12)
    assert_allclose(left.distortion, 0.25 * 0.5 + 0.75 * 0.1)
    same = rate_distortion(p, d, budget=left.distortion)
    assert_allclose(same.rate, left.rate, rtol=1e-9)
    assert same.multiplier == np.inf
    single = rate_distortion([1.0], [[3.0, 2.0]], budget=2.0)
    assert single.rate == 0.0
    assert single.test_channel.tolist() == [[0.0, 1.0]]


def test_curve_is_its_points():
    p, d = [0.2, 0.3, 0.5], np.abs(np.subtract.outer(np.arange(3.0), np.arange(3.0)))
    curve = rate_distortion_curve(p, d, [0.0, 1.0, np.inf], unit="bits")
    assert len(curve) == 3
    for one in (1.0, np.array(1.0)):
        with pytest.raises(ArgumentError, match="wanted several slopes"):
            rate_distortion_curve(p, d, one)
    assert rate_distortion_curve(p, d, (s for s in [1.0]))[0].multiplier == 1.0
    one = rate_distortion(p, d, multiplier=1.0, unit="bits")
    assert (curve[1].rate, curve[1].distortion) == (one.rate, one.distortion)
    assert curve[0].rate < curve[1].rate < curve[2].rate


def test_large_problem_is_certified():
    rng = np.random.default_rng(2)
    p, d = rng.dirichlet(np.ones(150)), rng.exponential(size=(150, 200))
    found = rate_distortion(p, d, multiplier=5.0, tol=1e-12)
    assert found.iterations < 40
    plain = rate_distortion(p, d, multiplier=5.0, solver="plain", max_iter=500, strict=False)
    assert not plain.converged
    assert plain.upper - plain.lower > 1e-9  # Blahut's iterations crawl, and say so
    assert plain.lower + 5 * plain.distortion <= found.upper + 5 * found.distortion


@pytest.mark.parametrize("s", [0.3, 30.0, np.inf])
def test_probabilities_over_tens_of_orders_of_magnitude(s):
    """Letters of probability 1e-60 beside likely ones once left the interior-point method far from its tolerance."""
    rng = np.random.default_rng(11)
    for _ in range(4):
        p = rng.dirichlet(0.05 * np.ones(40))
        assert p.min() < 1e-20
        for d in (rng.integers(0, 3, size=(40, 80)).astype(float), 10 ** rng.uniform(-6, 6, size=(40, 80))):
            found = rate_distortion(p, d, multiplier=s)
            assert found.converged
            check_point(found, p, d)


def test_bound_holds_at_any_mixture():
    """The bracket belongs to the point, not to the optimum: at random mixtures no better one breaks it."""
    rng = np.random.default_rng(3)
    p, a = rng.dirichlet(np.ones(5)), np.exp(-rng.exponential(size=(5, 4)))
    best = _mixture.newton(p, a, tol=1e-13, max_iter=100)
    for q in rng.dirichlet(0.3 * np.ones(4), size=50):
        found = _mixture._measured(p, a, q, 0)
        assert found.value <= best.value + 1e-13 <= found.value + found.gap + 2e-13


def test_not_converged_says_so():
    rng = np.random.default_rng(4)
    p, d = rng.dirichlet(np.ones(20)), rng.exponential(size=(20, 20))
    with pytest.raises(ConvergenceError, match=r"bounds are .* apart") as caught:
        rate_distortion(p, d, multiplier=3.0, max_iter=2)
    result = caught.value.result
    assert not result.converged
    loose = rate_distortion(p, d, multiplier=3.0, max_iter=2, strict=False)
    assert loose.lower == result.lower
    exact = rate_distortion(p, d, budget=loose.distortion)
    assert loose.lower <= exact.upper
    assert exact.lower <= loose.upper
    assert "not converged" in loose.summary()
    with pytest.raises(ConvergenceError):
        rate_distortion(p, d, budget=0.3, max_iter=1)


def test_units_and_tables():
    nats = rate_distortion([0.3, 0.7], HAMMING, budget=0.1)
    bits = rate_distortion([0.3, 0.7], HAMMING, budget=0.1, unit="bits")
    assert_allclose(bits.rate, nats.rate / np.log(2), rtol=1e-8)
    columns, rows = bits.rows()
    assert dict(zip(columns, rows[0], strict=True))["unit"] == "bits"
    assert bits.summary().startswith("R(0.1) = 0.412295 bits")
    assert '"converged": true' in bits.to_json()


@pytest.mark.parametrize(
    ("source", "distortion", "options", "error", "words"),
    [
        ([0.5, 0.6], HAMMING, {"budget": 0.1}, DomainError, r"sum to 1.1"),
        ([0.5, 0.4], HAMMING, {"budget": 0.1}, DomainError, r"sum to 0.9"),
        ([1.5, -0.5], HAMMING, {"budget": 0.1}, DomainError, r"source: entry \(1,\) is -0.5"),
        ([np.nan, 1.0], HAMMING, {"budget": 0.1}, DomainError, r"source: entry \(0,\) is nan"),
        ([], HAMMING, {"budget": 0.1}, ShapeError, "at least one letter"),
        ([[0.5, 0.5]], HAMMING, {"budget": 0.1}, ShapeError, "source: found shape"),
        ([0.5, 0.5], np.ones((3, 2)), {"budget": 0.1}, ShapeError, "looks transposed"),
        ([0.5, 0.5], np.ones((3, 3)), {"budget": 0.1}, ShapeError, "a row for each letter"),
        ([0.5, 0.5], np.ones((2, 0)), {"budget": 0.1}, ShapeError, "distortion"),
        ([0.5, 0.5], -HAMMING, {"budget": 0.1}, DomainError, "a distortion is not negative"),
        ([0.5, 0.5], [[0.0, np.inf], [1.0, 0.0]], {"budget": 0.1}, DomainError, "must be finite"),
        ([0.5, 0.5], 1 + HAMMING, {"budget": 0.9}, DomainError, "least mean distortion of this source is 1"),
        ([0.5, 0.5], HAMMING, {}, ArgumentError, "found neither"),
        ([0.5, 0.5], HAMMING, {"budget": 0.1, "multiplier": 1.0}, ArgumentError, "found both"),
        ([0.5, 0.5], HAMMING, {"multiplier": -1.0}, DomainError, "below zero"),
        ([0.5, 0.5], HAMMING, {"multiplier": np.nan}, ArgumentError, "NaN"),
        ([0.5, 0.5], HAMMING, {"budget": 0.1, "tol": 0.0}, ArgumentError, "tol"),
        ([0.5, 0.5], HAMMING, {"budget": 0.1, "max_iter": 0}, ArgumentError, "max_iter"),
        ([0.5, 0.5], HAMMING, {"budget": 0.1, "solver": "gradient"}, ArgumentError, "'newton', 'plain'"),
        ([0.5, 0.5], HAMMING, {"budget": 0.1, "unit": "bit"}, ArgumentError, "unit"),
        (torch.tensor([0.5, 0.5], requires_grad=True), HAMMING, {"budget": 0.1}, DomainError, "records a gradient"),
    ],
)
def test_bad_arguments_of_rate_distortion(source, distortion, options, error, words):
    with pytest.raises(error, match=words):
        rate_distortion(source, distortion, **options)


# ---------------------------------------------------------------------------------------------- bottleneck


def check_encoder(found, joint, factor=1.0):
    """Informations again from the encoder, and what data processing demands of them."""
    px, py = joint.sum(axis=1), joint.sum(axis=0)
    assert_allclose(found.encoder.sum(axis=1), 1.0, rtol=1e-12)
    pairs = joint.T @ found.encoder  # (m, k)
    channel = pairs / np.where(py > 0, py, 1.0)[:, None]
    assert_allclose(found.compression, factor * information(px, found.encoder), atol=1e-10)
    assert_allclose(found.relevance, factor * information(py, channel), atol=1e-10)
    given_x = joint / np.where(px > 0, px, 1.0)[:, None]
    assert_allclose(found.joint_information, factor * information(px, given_x), atol=1e-12)
    assert found.relevance <= min(found.compression, found.joint_information) + 1e-12
    assert_allclose(found.lagrangian, found.compression - found.beta * found.relevance, rtol=1e-9, atol=1e-12)
    assert_allclose(found.cluster_probs @ found.decoder, py, atol=1e-12)
    assert found.lagrangian <= found.lagrangians.min() + 1e-9 * max(1, abs(found.lagrangian))


def binary_point(alpha, beta):
    """Best symmetric encoder of a fair bit seen through a symmetric channel (Witsenhausen and Wyner 1975)."""
    def through(q):
        return q * (1 - alpha) + (1 - q) * alpha

    def slope(u):
        q = np.exp(u)
        return np.log((1 - q) / q) - beta * (1 - 2 * alpha) * np.log((1 - through(q)) / through(q))

    q = np.exp(brentq(slope, -500, np.log(0.5 - 1e-7)))
    return np.log(2) - entropy(q), np.log(2) - entropy(through(q))


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("times", [1.05, 1.5, 4.0, 30.0])
def test_doubly_symmetric_binary_source(alpha, times):
    """The curve of Mrs. Gerber's lemma, above the beta at which anything is worth keeping."""
    joint = np.array([[1 - alpha, alpha], [alpha, 1 - alpha]]) / 2
    beta = times / (1 - 2 * alpha) ** 2
    found = information_bottleneck(joint, beta, rng=0)
    compression, relevance = binary_point(alpha, beta)
    assert_allclose([found.compression, found.relevance], [compression, relevance], atol=1e-8)
    check_encoder(found, joint)
    assert not found.optimal
    below = information_bottleneck(joint, 0.95 / (1 - 2 * alpha) ** 2, rng=0)
    assert max(below.compression, below.relevance) < 1e-9


def test_more_clusters_than_needed_change_nothing():
    joint = np.array([[0.45, 0.05], [0.05, 0.45]])
    two, five = (information_bottleneck(joint, 3.0, n_clusters=k, rng=0) for k in (2, 5))
    assert_allclose(five.lagrangian, two.lagrangian, atol=1e-12)
    one = information_bottleneck(joint, 3.0, n_clusters=1, rng=0)
    assert one.compression == one.relevance == 0.0


def test_ends_of_beta():
    joint = np.random.default_rng(5).dirichlet(0.3 * np.ones(24)).reshape(6, 4)
    for beta in (0.0, 0.5, 1.0):
        nothing = information_bottleneck(joint, beta)
        assert (nothing.compression, nothing.relevance, nothing.lagrangian) == (0.0, 0.0, 0.0)
        assert nothing.optimal
        assert nothing.clusters_used == 1
        check_encoder(nothing, joint)
    everything = information_bottleneck(joint, 1e5, rng=0)
    assert_allclose(everything.relevance, everything.joint_information, rtol=1e-8)
    check_encoder(everything, joint)


def test_inputs_that_tell_the_same_are_merged():
    """A minimal sufficient statistic: rows 0 and 2 have the same law of y, and so do 1 and 3."""
    rows = np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.2, 0.8]])
    px = np.array([0.1, 0.2, 0.3, 0.4])
    found = information_bottleneck(px[:, None] * rows, 500.0, n_clusters=2, rng=0)
    assert_allclose(found.compression, entropy(0.4), rtol=1e-6)
    assert_allclose(found.relevance, found.joint_information, rtol=1e-6)
    assert found.encoder.argmax(axis=1)[0] == found.encoder.argmax(axis=1)[2]


def test_independent_inputs_are_not_worth_a_nat():
    joint = np.outer([0.3, 0.7], [0.2, 0.3, 0.5])
    found = information_bottleneck(joint, 100.0, rng=0)
    assert_allclose([found.compression, found.relevance, found.joint_information], 0.0, atol=1e-9)


def test_no_encoder_nearby_is_better():
    rng = np.random.default_rng(6)
    joint = rng.dirichlet(0.4 * np.ones(20)).reshape(5, 4)
    found = information_bottleneck(joint, 4.0, rng=0, tol=1e-10)
    px, py = joint.sum(axis=1), joint.sum(axis=0)
    for scale in (1e-3, 1e-2, 0.1):
        for _ in range(50):
            other = found.encoder + scale * rng.dirichlet(np.ones(5), size=5)
            other /= other.sum(axis=1, keepdims=True)
            value = information(px, other) - 4.0 * information(py, joint.T @ other / py[:, None])
            assert value >= found.lagrangian - 1e-10


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 5), st.integers(1, 6), st.floats(0, 3))
def test_data_processing_and_plain_steps(seed, n, m, k, power):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(0.5 * np.ones(n * m)).reshape(n, m)
    found = information_bottleneck(joint, 10.0**power, n_clusters=k, restarts=3, rng=seed, strict=False)
    check_encoder(found, joint)
    if found.converged and found.beta > 1:  # the equations of Tishby, Pereira and Bialek, written out
        px = joint.sum(axis=1)
        safe = np.maximum(px, 1e-300)[:, None]
        ratio = np.log(np.maximum(joint / safe, 1e-300))[:, None, :] - np.log(np.maximum(found.decoder, 1e-300))
        divergence = ((joint / safe)[:, None, :] * ratio).sum(axis=-1)
        logits = np.log(np.maximum(found.cluster_probs, 1e-300)) - found.beta * divergence
        step = np.exp(logits - logits.max(axis=1, keepdims=True))
        step /= step.sum(axis=1, keepdims=True)
        assert np.abs(step - found.encoder)[px > 0].sum(axis=-1).max(initial=0) / 2 <= 1e-6


def test_relevance_grows_with_beta():
    joint = np.random.default_rng(7).dirichlet(0.4 * np.ones(20)).reshape(5, 4)
    found = [information_bottleneck(joint, beta, rng=0, restarts=20) for beta in (1.5, 3.0, 6.0, 12.0, 50.0)]
    assert (np.diff([f.relevance for f in found]) >= -1e-8).all()
    assert (np.diff([f.compression for f in found]) >= -1e-8).all()


def test_seeds_units_and_missing_rows():
    joint = np.random.default_rng(8).dirichlet(np.ones(12)).reshape(4, 3)
    one, same = (information_bottleneck(joint, 30.0, n_clusters=2, rng=3) for _ in range(2))
    assert (one.encoder == same.encoder).all()
    bits = information_bottleneck(joint, 30.0, n_clusters=2, rng=3, unit="bits")
    assert_allclose(bits.relevance, one.relevance / np.log(2), rtol=1e-12)
    check_encoder(bits, joint, factor=1 / np.log(2))
    holed = information_bottleneck(np.vstack([joint, np.zeros(3)]), 30.0, rng=0)
    assert_allclose(holed.encoder.sum(axis=1), 1.0)
    assert_allclose(holed.relevance, information_bottleneck(joint, 30.0, rng=0).relevance, atol=1e-6)
    assert one.summary().startswith("I(X; T) = ")
    assert one.rows()[0][0] == "beta"
    assert one.lagrangians.shape == (10,)


def test_bottleneck_that_did_not_converge_says_so():
    joint = np.array([[0.45, 0.05], [0.05, 0.45]])
    with pytest.raises(ConvergenceError, match="still changes a row") as caught:
        information_bottleneck(joint, 1.57, max_iter=3, rng=0)
    assert not caught.value.result.converged
    assert "not converged" in information_bottleneck(joint, 1.57, max_iter=3, rng=0, strict=False).summary()


@pytest.mark.parametrize(
    ("joint", "options", "error", "words"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], {}, DomainError, r"multiply the channel p\(y \| x\) by the probabilities of x"),
        ([[3.0, 1.0], [2.0, 5.0]], {}, DomainError, "sum to 11.*divide counts"),
        ([[0.5, -0.1], [0.3, 0.3]], {}, DomainError, "entry"),
        ([[0.5, np.nan], [0.3, 0.2]], {}, DomainError, "nan"),
        ([0.5, 0.5], {}, ShapeError, "wanted a matrix"),
        (np.ones((2, 0)), {}, ShapeError, "wanted a matrix"),
        ([[0.5, 0.5]], {"beta": -1.0}, ArgumentError, "beta"),
        ([[0.5, 0.5]], {"beta": np.inf}, ArgumentError, "beta"),
        ([[0.5, 0.5]], {"n_clusters": 0}, ArgumentError, "n_clusters"),
        ([[0.5, 0.5]], {"restarts": 0}, ArgumentError, "restarts"),
        ([[0.5, 0.5]], {"tol": 0}, ArgumentError, "tol"),
        ([[0.5, 0.5]], {"max_iter": 0}, ArgumentError, "max_iter"),
        ([[0.5, 0.5]], {"rng": "x"}, ArgumentError, "rng"),
        ([[0.5, 0.5]], {"unit": "x"}, ArgumentError, "unit"),
        (torch.tensor([[0.5, 0.5]], requires_grad=True), {}, DomainError, "records a gradient"),
    ],
)
def test_bad_arguments_of_the_bottleneck(joint, options, error, words):
    with pytest.raises(error, match=words):
        information_bottleneck(joint, **{"beta": 2.0, **options})
