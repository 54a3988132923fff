"""Normals with low-rank covariances: the same as full normals, in many dimensions at the cost of few."""

from __future__ import annotations

import numpy as np
import pytest

from infogeo import (
    Gaussian,
    LowRankGaussian,
    bhattacharyya_distance,
    bures_wasserstein_distance,
    calvo_oller_distance,
    fisher_information,
    fisher_rao_bounds,
    fisher_rao_distance,
    geodesic,
    hellinger_distance,
    jeffreys_divergence,
    kl_divergence,
    normal_geodesic,
    pairwise,
)
from infogeo.dispatch import low_rank as dispatch
from infogeo.errors import DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng
MEASURES = (
    fisher_rao_distance, kl_divergence, jeffreys_divergence, bhattacharyya_distance, hellinger_distance,
    calvo_oller_distance,
)  # fmt: skip


def batch(rng, n, d, r, diagonal=None, spread=1.0):
    diagonal = np.exp(rng.normal(size=d)) if diagonal is None else diagonal
    return LowRankGaussian(spread * rng.normal(size=(n, d)), spread * rng.normal(size=(n, d, r)), diagonal)


@pytest.mark.parametrize(("d", "r"), [(1, 1), (4, 1), (4, 3), (12, 2)])
def test_density_entropy_and_samples_are_those_of_the_full_normals(d, r):
    rng = RNG(0)
    p = batch(rng, 3, d, r)
    full = p.to_full()
    x = p.sample(1, shape=(5,))
    assert x.shape == (5, 3, d)
    np.testing.assert_allclose(p.log_prob(x), full.log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), full.entropy(), rtol=1e-12)
    drawn = p[0].sample(2, shape=(200_000,))
    np.testing.assert_allclose(np.cov(drawn.T).reshape(d, d), full.cov[0], atol=0.03 * np.abs(full.cov[0]).max())
    columns, rows = p.parameter_rows()
    assert columns == ("dimension", "norm_of_mean", "rank", "mean_variance")
    np.testing.assert_allclose(rows[1][3], np.trace(full.cov[1]) / d)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
@pytest.mark.parametrize(("d", "r"), [(1, 1), (3, 2), (12, 2)])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 5.0])
def test_measures_are_those_of_the_full_normals(measure, d, r, spread):
    rng = RNG(1)
    x = batch(rng, 5, d, r, spread=spread)
    p, q = x[:, None], x[None]
    np.testing.assert_allclose(measure(p, q), measure(p.to_full(), q.to_full()), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(pairwise(measure, x), measure(p, q), rtol=1e-10, atol=1e-13)


def test_the_cost_is_that_of_the_ranks():
    rng = RNG(2)
    p, q = batch(rng, 2, 768, 3, np.ones(768))
    (reduced,) = dispatch.reductions("test", p, q)
    assert reduced.frame.shape == (1, 768, 7)
    small = normal_geodesic(reduced.p, reduced.q)
    assert int(small.reduced_dimension[0]) <= 7
    whole = normal_geodesic(p.to_full(), p.to_full())
    assert float(whole.distance) == 0
    np.testing.assert_allclose(float(fisher_rao_distance(p, q)), small.distance[0])


def test_the_exact_distance_in_many_dimensions_lies_between_its_bounds():
    rng = RNG(3)
    p, q = batch(rng, 2, 96, 2, spread=0.5)
    bounds = fisher_rao_bounds(p.to_full(), q.to_full())
    distance = float(fisher_rao_distance(p, q))
    assert float(bounds.lower) <= distance <= float(bounds.upper)
    assert distance == pytest.approx(float(fisher_rao_distance(p.to_full(), q.to_full())), rel=1e-10)


def test_the_certificate_of_low_ranks_is_that_of_the_full_normals():
    x = batch(RNG(8), 4, 7, 2)
    p, q = x[:, None], x[None, :3]
    found, full = normal_geodesic(p, q), normal_geodesic(p.to_full(), q.to_full())
    assert found.distance.shape == (4, 3)
    for name in ("distance", "lower", "upper"):
        np.testing.assert_allclose(getattr(found, name), getattr(full, name), rtol=1e-10, atol=1e-14)


def test_bounds_of_low_ranks_with_one_diagonal_and_with_different_ones():
    rng = RNG(9)
    x = batch(rng, 4, 6, 2)
    other = LowRankGaussian(x.mean, x.factor, np.exp(rng.normal(size=(4, 6))))
    for y in (x, other):
        p, q = y[:, None], y[None, :3]
        found, full = fisher_rao_bounds(p, q), fisher_rao_bounds(p.to_full(), q.to_full())
        distance = fisher_rao_distance(p.to_full(), q.to_full())
        assert found.lower.shape == (4, 3)
        assert (found.lower <= distance * (1 + 1e-9) + 1e-12).all()
        assert (found.upper >= distance * (1 - 1e-9)).all()
        np.testing.assert_allclose(found.upper, full.upper, rtol=0.05, atol=1e-9)


def test_portions_equal_the_whole(monkeypatch):
    x = batch(RNG(4), 4, 9, 2)
    whole = fisher_rao_distance(x[:, None], x[None])
    monkeypatch.setattr(dispatch, "CHUNK_BYTES", 1.0)
    np.testing.assert_allclose(fisher_rao_distance(x[:, None], x[None]), whole, rtol=1e-13)
    assert (np.diagonal(whole) == 0).all()
    assert fisher_rao_distance(x[0], x[1]).shape == ()


def test_members_of_different_rank_and_close_members():
    rng = RNG(7)
    p, q = batch(rng, 1, 8, 3, np.ones(8))[0], batch(rng, 1, 8, 1, np.ones(8))[0]
    for a, b in ((p, q), (q, p)):
        np.testing.assert_allclose(fisher_rao_distance(a, b), fisher_rao_distance(a.to_full(), b.to_full()), rtol=1e-11)
    close = LowRankGaussian(p.mean + 1e-9 * rng.normal(size=8), p.factor + 1e-9 * rng.normal(size=(8, 3)), p.diagonal)
    found = float(fisher_rao_distance(p, close))
    assert found == pytest.approx(float(np.sqrt(2 * kl_divergence(p, close))), rel=1e-6)
    assert found == pytest.approx(float(np.sqrt(2 * kl_divergence(p.to_full(), close.to_full()))), rel=1e-5)


def test_factors_beyond_the_digits_of_the_diagonal_are_refused():
    rng = RNG(8)
    one = LowRankGaussian(np.zeros((1, 6)), rng.normal(size=(1, 6, 2)), np.ones(6))
    large = LowRankGaussian(one.mean, 1e6 * rng.normal(size=(1, 6, 2)), one.diagonal)
    with pytest.raises(DomainError, match="standard deviations of the diagonal"):
        fisher_rao_distance(one, large)
    fitting = LowRankGaussian(one.mean, 1e3 * rng.normal(size=(1, 6, 2)), one.diagonal)
    assert (fisher_rao_distance(one, fitting) > 1).all()


def test_a_rank_above_the_dimension_takes_no_more_than_the_dimension():
    p, q = batch(RNG(9), 2, 3, 5)
    known = float(fisher_rao_distance(p.to_full(), q.to_full()))
    assert float(fisher_rao_distance(p, q)) == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_gradients_of_all_parameters(measure):
    torch = pytest.importorskip("torch", reason="tensors need torch: pip install 'infogeo[transformers]'")
    rng = RNG(5)
    p, q = batch(rng, 2, 6, 2, np.ones(6)), batch(rng, 2, 6, 2, np.ones(6))
    leaves = [torch.tensor(x, requires_grad=True) for x in (p.mean, p.factor, q.mean, q.factor, np.full(6, 1.3))]

    def distance(a, f, b, g, v):
        return measure(LowRankGaussian(a, f, v), LowRankGaussian(b, g, v))

    assert torch.autograd.gradcheck(distance, leaves)
    x = rng.normal(size=(2, 6))
    assert torch.autograd.gradcheck(lambda f, v: LowRankGaussian(leaves[0], f, v).log_prob(x), (leaves[1], leaves[4]))


def test_what_the_family_and_its_measures_refuse():
    rng = RNG(6)
    mean, factor = np.zeros((2, 3)), rng.normal(size=(2, 3, 1))
    with pytest.raises(ShapeError, match=r"factor: found shape \(2, 4, 1\)"):
        LowRankGaussian(mean, rng.normal(size=(2, 4, 1)), np.ones(3))
    with pytest.raises(ShapeError, match="no columns"):
        LowRankGaussian(mean, np.zeros((2, 3, 0)), np.ones(3))
    with pytest.raises(ShapeError, match="diagonal"):
        LowRankGaussian(mean, factor, np.ones((2, 4)))
    with pytest.raises(ShapeError, match="diagonal"):
        LowRankGaussian(mean, factor, np.ones(4))
    with pytest.raises(DomainError, match=r"diagonal: entry \(0, 1\) is 0.0; variances must be positive"):
        LowRankGaussian(mean, factor, [1.0, 0.0, 1.0])
    with pytest.raises(DomainError, match=r"factor: entry \(0, 1, 0\) is nan"):
        LowRankGaussian(mean, [[[1.0], [np.nan], [0.0]]] * 2, np.ones(3))
    x = LowRankGaussian(mean, factor, [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    with pytest.raises(DomainError, match=r"pair \(1,\) has two different diagonals.*to_full\(\)"):
        fisher_rao_distance(x, x[0])
    for refused in (fisher_information, lambda p: geodesic(p, p, 0.5)):
        with pytest.raises(UnsupportedFamilyError, match="up to a rotation"):
            refused(x)
    with pytest.raises(UnsupportedFamilyError, match=r"use to_full\(\)"):
        bures_wasserstein_distance(x, x)
    assert isinstance(x.to_full(), Gaussian)
