"""The properties that measures claim, on every family of tests/family_cases.py that they know."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from family_cases import CASES, FamilyCase

from infogeo import (
    MEASURES,
    Measure,
    bhattacharyya_distance,
    fisher_rao_distance,
    geodesic,
    hellinger_distance,
    jeffreys_divergence,
    kl_divergence,
    pairwise,
)

RNG = np.random.default_rng
KNOWN = [(m, case) for m in MEASURES.values() for case in CASES if case.family in m.families]


def rows(*, symmetric: bool | None = None, metric: bool | None = None, name: str | None = None) -> list[Any]:
    """The known pairs of measure and family, with those flags."""
    return [
        pytest.param(m, case, id=f"{m.name}-{case.family.__name__}")
        for m, case in KNOWN
        if symmetric in (None, m.symmetric) and metric in (None, m.is_metric(case.family)) and name in (None, m.name)
    ]


def noise(case: FamilyCase) -> float:
    """Relative error that values of a measure may have."""
    return max(1e-9, case.accuracy)


def test_the_table_of_cases_is_not_empty() -> None:
    assert len(KNOWN) > 30
    assert len({case.family for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("m", "case"), rows())
def test_values_are_not_negative_and_zero_for_equals(m: Measure, case: FamilyCase) -> None:
    p, q = case.pairs(6, 20)
    assert m(p, q).shape == (6,)
    assert m(p, q).dtype == np.float64
    assert (m(p, q) > 0).all()
    np.testing.assert_allclose(m(p, p), 0.0, atol=1e-12)


@pytest.mark.parametrize(("m", "case"), rows(symmetric=True))
def test_symmetry(m: Measure, case: FamilyCase) -> None:
    p, q = case.pairs(6, 21)
    np.testing.assert_allclose(m(p, q), m(q, p), rtol=noise(case))


@pytest.mark.parametrize(("m", "case"), rows(symmetric=False))
def test_what_is_not_called_symmetric_is_not(m: Measure, case: FamilyCase) -> None:
    p, q = case.pairs(6, 21)
    assert (np.abs(m(p, q) / m(q, p) - 1) > 1e-3).any()


@pytest.mark.parametrize("spread", [1e-3, None, 2.0])
@pytest.mark.parametrize(("m", "case"), rows(metric=True))
def test_triangle_inequality(m: Measure, case: FamilyCase, spread: float | None) -> None:
    n = 10 if case.closed else 4
    x = case.random(n, RNG(22), min(case.spread if spread is None else spread, 2.0 if case.closed else case.spread))
    d = m(x[:, None], x[None])
    assert (d[:, :, None] <= (d[:, None, :] + d.T[None]) * (1 + noise(case)) + 1e-12).all()


@pytest.mark.parametrize(("m", "case"), rows(metric=False))
def test_what_is_not_called_a_metric_breaks_the_triangle_inequality(m: Measure, case: FamilyCase) -> None:
    """In the middle between two members a squared distance is a quarter of that between the ends."""
    p, q = case.pairs(4, 23, spread=0.1)
    middle = geodesic(p, q, 0.5)
    assert (m(p, q) > (m(p, middle) + m(middle, q)) * (1 + 1e-6)).any()


@pytest.mark.parametrize("case", [pytest.param(c, id=c.family.__name__) for c in CASES])
def test_all_measures_of_densities_have_the_fisher_metric_as_their_limit(case: FamilyCase) -> None:
    """d^2 = 2 KL = Jeffreys = 8 Bhattacharyya = 8 Hellinger^2, to first order in d; see test_family_geometry.py."""
    p, q = case.pairs(5, 24, spread=1e-5)
    d = fisher_rao_distance(p, q)
    others = {kl_divergence: 2.0, jeffreys_divergence: 1.0, bhattacharyya_distance: 8.0, hellinger_distance: 8.0}
    for m, factor in others.items():
        if case.family in m.families:
            square = m(p, q) ** (2 if m is hellinger_distance else 1)
            assert (np.abs(factor * square / d**2 - 1) < 10 * d + 1e-8).all(), m.name


@pytest.mark.parametrize(("m", "case"), rows(name="jeffreys_divergence"))
def test_the_root_of_jeffreys_is_no_less_than_the_distance(m: Measure, case: FamilyCase) -> None:
    p, q = case.pairs(10 if case.closed else 3, 25)
    assert (m(p, q) >= fisher_rao_distance(p, q) ** 2 * (1 - noise(case))).all()


@pytest.mark.parametrize(("m", "case"), rows(name="bhattacharyya_distance"))
def test_bhattacharyya_and_hellinger_are_the_mean_of_the_root_of_the_ratio(m: Measure, case: FamilyCase) -> None:
    p, q = (side[0] for side in case.pairs(1, 26))
    x = p.sample(RNG(26), shape=(20_000,))
    root = np.exp((q.log_prob(x) - p.log_prob(x)) / 2)
    error = root.std() / np.sqrt(len(root))
    assert abs(root.mean() - np.exp(-m(p, q))) < 5 * error + 1e-9
    np.testing.assert_allclose(hellinger_distance(p, q) ** 2, -np.expm1(-m(p, q)), rtol=1e-9)


@pytest.mark.parametrize(("m", "case"), rows())
def test_pairwise_is_the_double_loop(m: Measure, case: FamilyCase) -> None:
    x = case.random(4 if case.closed else 3, RNG(27), case.spread)
    loop = np.array([[float(m(a, b)) for b in x] for a in x])
    for memory in (2e4, 256e6):  # some pairs at a time, or all at once
        np.testing.assert_allclose(pairwise(m, x, memory=memory), loop, rtol=noise(case), atol=1e-9)


@pytest.mark.parametrize(("m", "case"), [row for row in rows() if row.values[1].closed])
def test_kernels_keep_to_the_temporaries_they_state(m: Measure, case: FamilyCase) -> None:
    """What pairwise counts on: at most ``scratch`` times the size of a member for each pair, measured at its peak.

    Iterations work on a fixed number of pairs at a time, whatever the size of the block.
    """
    n = 150
    x = case.random(n, RNG(28), 0.3)
    registration = m.registration(case.family)
    rows_, columns = x[:, None], x[None]
    registration.kernel(rows_[:2], columns[:, :2])  # imports what it imports only once
    tracemalloc.start()
    registration.kernel(rows_, columns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 8 * n * n * x.member_size * registration.scratch + 100_000
