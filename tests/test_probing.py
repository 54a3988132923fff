"""Probing bounds: known information, groups, and what makes a bound none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_softmax
from scipy.stats import norm, t

from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.estimates import EstimateWarning
from infogeo.probing import probing_information

TORCH = "needs the extra: pip install 'infogeo[transformers]'"


def two_normals(distance):
    """Information, in nats, between a fair bit and a normal of variance one whose mean it moves by a distance."""

    def loss(x):
        return norm.pdf(x, distance / 2) * np.logaddexp(0, -distance * x)

    return math.log(2) - quad(loss, -12, 12 + distance)[0]


def draw(n, distance, d=4, seed=0):
    """Labels and vectors whose first component alone, hidden by a rotation, says anything about them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.normal(size=(n, d))
    x[:, 0] += distance * labels
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return x @ rotation * np.array([1, 10, 100, 0.01])[:d] + 5, labels


# The bound from predictions


def test_exact_predictions_reach_the_information():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    x = rng.normal(size=20_000) + 2 * labels
    log_probs = log_softmax(np.c_[np.zeros(20_000), 2 * x - 2], axis=1)
    bound = probing_information(labels, log_probs)
    assert bound.value == pytest.approx(two_normals(2.0), abs=3 * bound.standard_error)
    assert bound.interval[0] < two_normals(2.0) < bound.interval[1]
    assert bound.standard_error < 0.005
    assert bound.details["accuracy"] == pytest.approx(norm.cdf(1), abs=0.01)
    assert bound.quantity == "I(T; Y)"
    assert "held out" in bound.method
    bits = probing_information(labels, log_probs, unit="bits")
    for name in ("label_entropy", "cross_entropy"):
        assert bits.details[name] == pytest.approx(bound.details[name] / math.log(2))
    assert bits.value == pytest.approx(bound.value / math.log(2))
    assert bits.interval[1] == pytest.approx(bound.interval[1] / math.log(2))


def test_by_hand_with_groups_and_a_known_law():
    labels, groups = [0, 1, 1, 0, 2, 1], ["a", "a", "b", "b", "b", "c"]
    log_probs = log_softmax(np.random.default_rng(1).normal(size=(6, 3)), axis=1)
    said = log_probs[np.arange(6), labels]
    frequencies = np.array([2, 3, 1]) / 6
    with pytest.warns(EstimateWarning, match="only 3 independent groups"):
        bound = probing_information(labels, log_probs, groups=groups, level=0.9)
    entropy = -(frequencies * np.log(frequencies)).sum()
    assert bound.value == pytest.approx(entropy + said.mean(), rel=1e-14)
    scores = said - np.log(frequencies[labels])
    sums = [(scores - scores.mean())[rows].sum() for rows in ([0, 1], [2, 3, 4], [5])]
    error = math.sqrt(3 / 2 * np.square(sums).sum()) / 6
    assert bound.standard_error == pytest.approx(error, rel=1e-12)
    reach = t.ppf(0.95, 2) * error
    assert bound.interval == pytest.approx((bound.value - reach, bound.value + reach), rel=1e-9)
    assert bound.level == 0.9
    assert bound.warnings

    law = np.array([0.5, 0.25, 0.25])
    with pytest.warns(EstimateWarning):
        known = probing_information(labels, log_probs, label_probs=law)
    assert known.value == pytest.approx(1.5 * math.log(2) + said.mean(), rel=1e-14)
    assert known.standard_error == pytest.approx(said.std(ddof=1) / math.sqrt(6), rel=1e-12)


def test_interval_covers_the_mean_of_the_bound():
    rng, covered = np.random.default_rng(5), 0
    exact = two_normals(1.0)
    for _ in range(300):
        labels = rng.integers(0, 2, 200)
        x = rng.normal(size=200) + labels
        bound = probing_information(labels, log_softmax(np.c_[np.zeros(200), x - 0.5], axis=1))
        covered += bound.interval[0] < exact < bound.interval[1]
    assert 0.91 < covered / 300 < 0.98


def test_a_value_below_zero_is_given_as_it_is():
    rng = np.random.default_rng(0)
    labels, wrong = rng.integers(0, 2, (2, 500))
    log_probs = np.log(np.where(wrong[:, None] == [0, 1], 0.95, 0.05))
    bound = probing_information(labels, log_probs)
    assert bound.value < -0.5
    assert bound.interval[1] < 0


def test_labels_that_are_all_alike_and_one_group():
    log_probs = np.log(np.full((9, 2), 0.5))
    with pytest.warns(EstimateWarning, match="all labels are alike"):
        assert probing_information(np.ones(9, dtype=int), log_probs).details["label_entropy"] == 0
    with pytest.warns(EstimateWarning, match="only 1 independent group:"):
        alone = probing_information([0, 1] * 4 + [0], log_probs, groups=[7] * 9)
    assert alone.standard_error is None
    assert alone.interval is None
    assert alone.level is None


HALF = np.log(np.full((10, 2), 0.5))
LABELS = np.tile([0, 1], 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"log_probs": HALF + 0.1}, DomainError, r"probabilities of row 0 sum to 1.105.*logsumexp"),
        ({"log_probs": np.where(np.arange(20).reshape(10, 2) == 7, np.nan, HALF)}, DomainError, r"\(3, 1\) is nan"),
        ({"log_probs": HALF[0]}, ShapeError, r"wanted \(n, V\)"),
        ({"log_probs": HALF[:0], "labels": []}, ShapeError, "at least one row"),
        ({"labels": LABELS[:5]}, ShapeError, r"wanted \(10,\), one label"),
        ({"labels": LABELS + 1}, DomainError, "labels: row 1 is 2, wanted a column of log_probs, 0 to 1"),
        ({"labels": LABELS - 1}, DomainError, "labels: row 0 is -1"),
        ({"labels": LABELS + 0.0}, DomainError, "whole numbers"),
        ({"groups": [1, 2]}, ShapeError, "one for each sample"),
        ({"groups": [math.nan] * 10}, DomainError, "nan, which names no group"),
        ({"groups": [None] * 10}, DomainError, "found dtype object, wanted whole numbers or strings"),
        ({"level": 1.0}, ArgumentError, "between 0 and 1"),
        ({"unit": "nat"}, ArgumentError, "unit"),
        ({"label_probs": [0.5]}, ShapeError, r"label_probs: found shape \(1,\)"),
        ({"label_probs": [0.5, 0.6]}, DomainError, "the sum is 1.1"),
        ({"label_probs": [1.0, 0.0]}, DomainError, "has probability zero"),
        ({"log_probs": np.array([[0.0, -np.inf]] * 10)}, DomainError, "row 1 gives probability zero to its label 1"),
    ],
)
def test_what_gives_no_bound_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        probing_information(**{"labels": LABELS, "log_probs": HALF, **arguments})


def test_single_precision_is_accepted_and_gradients_are_not():
    assert probing_information(LABELS, HALF.astype(np.float32)).value == pytest.approx(0, abs=1e-6)
    torch = pytest.importorskip("torch", reason=TORCH)
    with pytest.raises(DomainError, match="records a gradient"):
        probing_information(LABELS, torch.tensor(HALF, requires_grad=True))


# The linear probe


@pytest.fixture(scope="module")
def probe():
    pytest.importorskip("torch", reason=TORCH)
    from infogeo_adapters.probing import probe_information

    return probe_information


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_probe_finds_the_information_of_two_normals(probe, distance):
    x, labels = draw(3000, distance)
    bound = probe(x, labels, rng=0)
    exact = two_normals(distance)
    assert bound.value < exact + 2.5 * bound.standard_error
    assert bound.value > exact - 0.005 - 2.5 * bound.standard_error
    assert bound.standard_error < 0.015
    assert bound.dimensions == (4, 0)
    assert bound.n == 3000


def test_probe_finds_the_information_of_four_classes(probe):
    rng = np.random.default_rng(2)
    corners = 1.5 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    labels = rng.integers(0, 4, 3000)
    bound = probe(corners[labels] + rng.normal(size=(3000, 2)), np.array(list("abcd"))[labels], rng=0)
    assert bound.value == pytest.approx(2 * two_normals(3.0), abs=0.01 + 2.5 * bound.standard_error)
    assert bound.details["labels"] == ("a", "b", "c", "d")


def test_probe_is_only_a_lower_bound(probe):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    labels = (x[:, 0] * x[:, 1] > 0).astype(int)  # known from x without doubt, but not by a plane
    bound = probe(x, labels, rng=0)
    assert bound.value < 0.01
    assert bound.details["label_entropy"] > 0.69


def test_more_components_than_rows_do_not_pretend(probe):
    x, labels = np.random.default_rng(0).normal(size=(60, 300)), np.tile([0, 1], 30)
    bound = probe(x, labels, rng=0)
    assert bound.value < 2 * bound.standard_error + 0.02
    assert bound.value > -0.1  # the penalty is chosen inside the training rows


def test_groups_stay_together(probe):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels = np.repeat(rng.integers(0, 2, 60), 10)  # one label for each group, about which x says nothing
    x = np.repeat(rng.normal(size=(60, 80)), 10, axis=0) + 0.01 * rng.normal(size=(600, 80))
    apart = probe(x, labels, rng=0)
    together = probe(x, labels, groups=groups, rng=0)
    assert apart.value > 0.5  # the group is recognized, and gives its label away
    assert together.value < 0.05 + 2 * together.standard_error
    assert together.standard_error > 2 * apart.standard_error
    assert together.details["groups"] == 60


def test_scale_and_constant_columns_do_not_matter(probe):
    x, labels = draw(400, 2.0)
    bound = probe(x, labels, rng=3, folds=3)
    other = probe(np.c_[1e6 * x - 3, np.full(400, 0.1)], labels, rng=3, folds=3)
    assert other.value == pytest.approx(bound.value, abs=1e-5)
    assert other.dimensions == (5, 0)
    for size in (1e300, 1e-300, 1e-312):  # whose squares leave the range of float64
        assert probe(size * x, labels, rng=3, folds=3, penalties=(0.01,)).value == pytest.approx(
            probe(x, labels, rng=3, folds=3, penalties=(0.01,)).value, abs=1e-5
        )
    assert probe(x, labels, rng=3, folds=3).value == bound.value
    assert bound.source.seed == 3


def test_a_fit_sees_no_row_but_its_training_rows(probe, monkeypatch):
    torch = pytest.importorskip("torch", reason=TORCH)
    from infogeo_adapters import probing as module

    x, labels = draw(90, 2.0)
    other, turned = x.copy(), labels.copy()
    other[60:], turned[60:] = 1e3 * x[:30], 1 - labels[60:]
    rows = np.arange(60)
    first, second = (module._fit(torch.tensor(a), b, rows, 2, 0.1, 100)[0] for a, b in ((x, labels), (other, turned)))
    assert np.array_equal(first.parameters, second.parameters)
    assert np.array_equal(first(rows), second(rows))

    # and whatever is done for a fold, the choice of the penalty included, is done without that fold
    fit, split, seen, folds = module._fit, module._splits, [], []

    def spied_fit(x, labels, training, *rest):
        seen.append(set(training.tolist()))
        return fit(x, labels, training, *rest)

    def spied_splits(members, n_folds, rng):
        for training, held_out in split(members, n_folds, rng):
            if len(members) == 90:  # an outer fold
                folds.append((len(seen), set(held_out.tolist())))
            else:  # a fold within: what it judges is no row of the outer one, either
                assert len(members) == 90 - len(folds[-1][1])
            yield training, held_out

    monkeypatch.setattr(module, "_fit", spied_fit)
    monkeypatch.setattr(module, "_splits", spied_splits)
    probe(x, labels, rng=3, folds=3, penalties=(1.0, 0.1))
    assert len(folds) == 3
    for start, end, held_out in zip(
        [f[0] for f in folds], [*(f[0] for f in folds[1:]), len(seen)], [f[1] for f in folds], strict=True
    ):
        assert end - start == 2 * module.INNER_FOLDS + 1
        assert all(not rows & held_out for rows in seen[start:end])


def test_tensors_labels_in_words_and_rare_labels(probe):
    torch = pytest.importorskip("torch", reason=TORCH)
    x, labels = draw(300, 2.0)
    bound = probe(x, labels, rng=0, folds=3)
    assert probe(torch.tensor(x, requires_grad=True), labels, rng=0, folds=3).value == pytest.approx(bound.value)
    assert probe(x, np.array(["no", "yes"])[labels], rng=0, folds=3).value == bound.value
    assert probe(x, labels.astype(bool), rng=0, folds=3).value == bound.value
    rare = np.where(np.arange(300) == 7, 9, labels)  # in one fold, so that its training rows never saw it
    assert probe(x, rare, rng=0, folds=3).value > bound.value - 0.1


def test_few_groups_and_early_stops_are_said_once(probe):
    x, labels = draw(120, 2.0)
    with pytest.warns(EstimateWarning) as caught:
        bound = probe(x, labels, groups=np.arange(120) // 30, folds=2, rng=0, max_iter=1, penalties=[1e-4])
    messages = [str(w.message) for w in caught]
    assert len(messages) == len(bound.warnings) == 2
    assert "only 4 independent groups" in messages[0]
    assert "2 of 2 fits stopped early" in messages[1]
    assert all(w.filename == __file__ for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe(x, labels, folds=2, rng=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros(6)}, ShapeError, "one row for each sample"),
        ({"x": np.full((6, 2), np.nan)}, DomainError, r"x: entry \(0, 0\) is nan"),
        ({"labels": [0, 1]}, ShapeError, r"labels: found shape \(2,\), wanted \(6,\)"),
        ({"labels": [0.5] * 6}, DomainError, "whole numbers"),
        ({"groups": [0, 1]}, ShapeError, "groups: found shape"),
        ({"groups": [0, 0, 0, 1, 1, 1], "folds": 3}, DomainError, "found 2, wanted at least 3, one for each fold"),
        ({"folds": 1}, ArgumentError, "folds: found 1, wanted at least 2"),
        ({"penalties": [0.0]}, ArgumentError, "wanted positive numbers"),
        ({"penalties": []}, ArgumentError, "wanted positive numbers"),
        ({"max_iter": 0}, ArgumentError, "max_iter"),
        ({"rng": "x"}, ArgumentError, "rng: found 'x'"),
    ],
)
def test_what_cannot_be_probed_is_refused(probe, arguments, error, message):
    given = {"x": np.arange(12.0).reshape(6, 2), "labels": [0, 1, 0, 1, 0, 1], "folds": 2, **arguments}
    x, labels = given.pop("x"), given.pop("labels")
    with pytest.raises(error, match=message):
        probe(x, labels, **given)
