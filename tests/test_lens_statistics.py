"""The statistics of a lens against the library's own measures in float64, and laws of known entropy."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo import Categorical, fisher_rao_distance, kl_divergence, renyi_entropy, shannon_entropy  # noqa: E402
from infogeo_adapters.transformers import lens_statistics as module  # noqa: E402
from infogeo_adapters.transformers.lens_statistics import Wanted, statistics_of  # noqa: E402

ORDERS = (0.0, 1e-3, 0.5, 0.95, 0.999999, 1.0, 1.0000001, 1.05, 2.0, 5.0, 50.0, 1e6, math.inf)


def logits_of(n: int, rows: int, outcomes: int, *, scale: float = 3.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(n, rows, outcomes)).cumsum(axis=1) * scale + rng.normal(size=(n, rows, 1)) * 20
    return np.asarray(walk)


def plain_renyi(log_p: np.ndarray, order: float) -> np.ndarray:
    """Rényi entropies of laws with the given logarithms, minus infinity among them."""
    possible = log_p > -np.inf
    if order == 0:
        return np.log(possible.sum(axis=-1))
    if order == math.inf:
        return -log_p.max(axis=-1)
    known = np.where(possible, log_p, 0.0)
    p = np.where(possible, np.exp(known), 0.0)
    if abs(order - 1) < 1e-3:  # e^(a log p) = p + p (e^((a - 1) log p) - 1)
        more = (p * np.expm1((order - 1) * known)).sum(axis=-1)
        return -(p * known).sum(axis=-1) if order == 1 else np.log1p(more) / (1 - order)
    return logsumexp(np.where(possible, order * known, -np.inf), axis=-1) / (1 - order)


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> float:
    """The sum of p (log p - log q) over all that p does not rule out."""
    there = log_p > -np.inf
    return float((np.exp(log_p[there]) * (log_p[there] - log_q[there])).sum())


def test_the_twin_has_the_librarys_renyi_entropies() -> None:
    log_p = log_softmax(logits_of(1, 1, 50)[0, 0])
    for order in (0.5, 0.95, 1.0, 2.0, 50.0):
        assert plain_renyi(log_p, order) == pytest.approx(float(renyi_entropy(np.exp(log_p), alpha=order)), rel=1e-10)


def twin(z: np.ndarray, targets: list[int], states: int, top_p: float) -> dict[str, Any]:
    """Each statistic by the library's own measure, or in the most obvious way."""
    n, rows, _ = z.shape
    log_p = log_softmax(z, axis=-1)
    law = [[Categorical(log_p[t, r]) for t in range(n)] for r in range(rows)]
    nan = np.full((rows, n), np.nan)
    found: dict[str, Any] = {
        "entropy": np.array([[float(shannon_entropy(q)) for q in row] for row in law]),
        "kl_to_final": np.array([[float(kl_divergence(row[t], law[states - 1][t])) for t in range(n)] for row in law]),
        "kl_to_next": nan.copy(), "step_length": nan.copy(), "cross_entropy": nan.copy(),
        "rank": np.zeros((rows, n), dtype=int), "set_size": np.zeros((rows, n), dtype=int),
        "geodesic_length": np.array([float(fisher_rao_distance(law[0][t], law[states - 1][t])) for t in range(n)]),
        "renyi": {a: plain_renyi(log_p, a).T for a in ORDERS},
    }
    for t in range(n):
        for r in range(rows):
            p = np.exp(log_p[t, r])
            if r < states - 1:
                found["kl_to_next"][r, t] = float(kl_divergence(law[r][t], law[r + 1][t]))
            if 0 < r < states:
                found["step_length"][r, t] = float(fisher_rao_distance(law[r - 1][t], law[r][t]))
            if targets[t] >= 0:
                found["cross_entropy"][r, t] = -log_p[t, r, targets[t]]
                found["rank"][r, t] = 1 + int((p > p[targets[t]]).sum())
            found["set_size"][r, t] = 1 + int((np.cumsum(np.sort(p)[::-1]) < top_p).sum())
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("rows", "states", "outcomes", "tile"),
    [(5, 5, 1000, 2**18), (5, 3, 1000, 512), (4, 4, 193, 2048), (3, 1, 70, 64), (1, 1, 40, 2**18), (2, 2, 3, 1)],
)
def test_every_statistic_is_what_the_library_says(
    dtype: Any, rows: int, states: int, outcomes: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    z = torch.as_tensor(logits_of(7, rows, outcomes)).to(dtype)
    targets = [0, 2, -1, 1, outcomes - 1, 2, -1]
    wanted = Wanted(states=states, renyi=ORDERS, top_p=0.8, top_k=min(5, outcomes))
    found = statistics_of(z, targets, wanted)
    expected = twin(z.double().numpy(), targets, states, 0.8)
    tight = {"atol": 2e-12, "rtol": 1e-11} if dtype == torch.float64 else {"atol": 5e-6, "rtol": 2e-6}
    for name in ("entropy", "kl_to_final", "kl_to_next", "cross_entropy", "step_length", "geodesic_length"):
        np.testing.assert_allclose(getattr(found, name), expected[name], err_msg=name, **tight)
    for order in ORDERS:
        np.testing.assert_allclose(found.renyi[order], expected["renyi"][order], err_msg=str(order), **tight)
    np.testing.assert_array_equal(found.rank, expected["rank"])
    np.testing.assert_array_equal(found.set_size, expected["set_size"])
    assert found.finite.all()
    best = np.argsort(-z.double().numpy(), axis=-1, kind="stable")[..., : wanted.top_k].swapaxes(0, 1)
    np.testing.assert_array_equal(found.top_ids, best)
    p = np.exp(log_softmax(z.double().numpy(), axis=-1)).swapaxes(0, 1)
    np.testing.assert_allclose(found.top_probabilities, np.take_along_axis(p, best, -1), rtol=1e-5)


@pytest.mark.parametrize("alpha", ORDERS)
def test_the_uniform_law_over_a_large_vocabulary(alpha: float) -> None:
    found = statistics_of(torch.full((1, 1, 256_000), 3.7), [5], Wanted(states=1, renyi=(alpha,)))
    np.testing.assert_allclose(found.renyi[alpha], math.log(256_000), rtol=1e-7)
    np.testing.assert_allclose(found.entropy, math.log(256_000), rtol=1e-7)
    assert found.rank.item() == 1  # nothing is more probable


@pytest.mark.parametrize("alpha", ORDERS)
def test_a_large_vocabulary_in_single_precision(alpha: float) -> None:
    z = torch.randn((2, 2, 256_000), generator=torch.Generator().manual_seed(0)) * 4
    found = statistics_of(z, [0, 1], Wanted(states=2, renyi=(alpha,)))
    wide = statistics_of(z.double(), [0, 1], Wanted(states=2, renyi=(alpha,)))
    np.testing.assert_allclose(found.renyi[alpha], wide.renyi[alpha], atol=2e-6)
    for name in ("entropy", "kl_to_final", "kl_to_next", "step_length", "geodesic_length", "cross_entropy"):
        np.testing.assert_allclose(getattr(found, name), getattr(wide, name), atol=4e-6, err_msg=name)


def test_predictions_that_are_nearly_equal_keep_their_distance() -> None:
    z = np.repeat(logits_of(3, 1, 500), 2, axis=1)
    for step in (1e-2, 1e-3, 1e-4):
        z[:, 1] = z[:, 0] + step * np.random.default_rng(1).normal(size=(3, 500))
        wide = statistics_of(torch.as_tensor(z), [-1] * 3, Wanted(states=2))
        expected = [float(fisher_rao_distance(*(Categorical.from_logits(row) for row in token))) for token in z]
        np.testing.assert_allclose(wide.step_length[1], expected, rtol=1e-9)
        narrow = statistics_of(torch.as_tensor(z).float(), [-1] * 3, Wanted(states=2))
        rounding = 40 * np.abs(z).max() * 6e-8  # of the logits themselves
        np.testing.assert_allclose(narrow.step_length[1], expected, atol=rounding)


def test_certain_and_opposite_predictions() -> None:
    z = torch.full((1, 2, 300), -4000.0)
    z[0, 0, 7], z[0, 1, 250] = 4000.0, 4000.0
    found = statistics_of(z, [250], Wanted(states=2, renyi=ORDERS[2:], top_p=0.5))
    assert found.entropy.tolist() == [[0.0], [0.0]]
    assert found.step_length[1].item() == pytest.approx(math.pi, abs=1e-6)  # the largest there is
    assert found.kl_to_final[0].item() == pytest.approx(8000.0)
    assert found.rank.ravel().tolist() == [2, 1]
    assert found.set_size.ravel().tolist() == [1, 1]
    assert all(np.abs(h).max() == 0 for h in found.renyi.values())


def test_without_comparisons_only_they_are_missing() -> None:
    z = torch.as_tensor(logits_of(4, 3, 90))
    every = statistics_of(z, [1] * 4, Wanted(states=3))
    some = statistics_of(z, [1] * 4, Wanted(states=3, compare=False))
    for name in ("entropy", "cross_entropy", "rank", "top_ids", "top_probabilities"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name))
    for name in ("kl_to_final", "kl_to_next", "step_length", "geodesic_length"):
        assert np.isnan(getattr(some, name)).all()


def test_what_is_not_finite_is_pointed_at() -> None:
    z = torch.as_tensor(logits_of(3, 2, 50))
    z[1, 0, 3], z[2, 1, 0], z[0, 1] = math.nan, math.inf, -math.inf
    found = statistics_of(z, [0] * 3, Wanted(states=2))
    assert found.finite.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("outcomes", "tile"), [(5, 2**18), (300, 2**18), (300, 64)])
def test_outcomes_that_are_ruled_out_have_probability_zero(
    dtype: Any, outcomes: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    z = logits_of(4, 3, outcomes)
    gone = np.random.default_rng(0).random(z.shape) < 0.3
    gone[0], gone[1], gone[..., 0] = False, gone[1, :1], False
    z[gone] = -math.inf
    narrow = torch.as_tensor(z).to(dtype)
    found = statistics_of(narrow, [0, 1, 2, 3], Wanted(states=3, renyi=ORDERS, top_p=1.0, top_k=outcomes))
    tight = {"atol": 2e-12, "rtol": 1e-11} if dtype == torch.float64 else {"atol": 5e-6, "rtol": 2e-6}
    log_p = log_softmax(narrow.double().numpy(), axis=-1).swapaxes(0, 1)
    p = np.exp(log_p)
    for r in range(3):
        for t in range(4):
            np.testing.assert_allclose(found.entropy[r, t], -divergence(log_p[r, t], np.zeros(outcomes)), **tight)
            np.testing.assert_allclose(found.kl_to_final[r, t], divergence(log_p[r, t], log_p[2, t]), **tight)
            if r:
                step = np.linalg.norm(np.sqrt(p[r, t]) - np.sqrt(p[r - 1, t]))
                np.testing.assert_allclose(found.step_length[r, t], 4 * np.arcsin(step / 2), **tight)
                following = divergence(log_p[r - 1, t], log_p[r, t])
                np.testing.assert_allclose(found.kl_to_next[r - 1, t], following, **tight)
    for order in ORDERS:
        np.testing.assert_allclose(found.renyi[order], plain_renyi(log_p, order), err_msg=str(order), **tight)
    np.testing.assert_array_equal(found.set_size, (p > 0).sum(axis=-1))
    own = np.stack([log_p[:, t, t] for t in range(4)], axis=1)
    np.testing.assert_allclose(found.cross_entropy, -own, **tight)
    assert found.finite.all()
    assert np.isinf(found.kl_to_final).any()
    assert np.isfinite(found.kl_to_final[:, :2]).all()


@pytest.mark.parametrize("offset", [1e2, 1e3, 1e4])
def test_what_is_added_to_all_logits_moves_no_prediction(offset: float) -> None:
    z = np.random.default_rng(0).normal(size=(3, 3, 1000)) * 3
    z[:, 1] += offset
    z[:, 2] -= 0.7 * offset
    narrow = torch.as_tensor(z).float()
    found, wide = (statistics_of(x, [1] * 3, Wanted(states=3)) for x in (narrow, narrow.double()))
    for name in ("entropy", "kl_to_final", "kl_to_next", "step_length", "geodesic_length"):
        np.testing.assert_allclose(getattr(found, name), getattr(wide, name), atol=5e-6, err_msg=name)


@given(
    st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 150), st.sampled_from([0.01, 1.0, 30.0, 1e4]),
    st.sampled_from([0.0, 0.5]), st.sampled_from([2**17, 64]),
)
def test_laws_that_hold_for_all_predictions(
    seed: int, rows: int, outcomes: int, scale: float, share: float, tile: int
) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, rows, outcomes)) * scale + rng.normal(size=(2, rows, 1)) * 100
    z[..., 1:][rng.random((2, rows, outcomes - 1)) < share] = -math.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", tile)
        found = statistics_of(torch.as_tensor(z).float(), [0, -1], Wanted(states=rows, renyi=ORDERS, top_k=outcomes))
    possible = (z > -math.inf).sum(axis=-1).T
    assert found.finite.all()
    assert (found.entropy >= -1e-6).all()
    assert (found.entropy <= np.log(possible) + 5e-6).all()
    for lower, higher in itertools.pairwise(ORDERS):
        assert (found.renyi[higher] <= found.renyi[lower] + 5e-6).all(), (lower, higher)
    assert np.nanmin(found.kl_to_final) >= -1e-5
    assert (np.nansum(found.step_length, axis=0) >= found.geodesic_length - 1e-5).all()
    assert (found.rank[:, 0] <= possible[:, 0]).all()
    np.testing.assert_allclose(found.top_probabilities.sum(axis=-1), 1, atol=2e-6)


def test_whole_sets_and_ties() -> None:
    z = torch.zeros((1, 1, 130), dtype=torch.float64)
    z[0, 0, :3] = 1.0
    found = statistics_of(z, [1], Wanted(states=1, top_p=1.0, top_k=3))
    assert set(found.top_ids.ravel().tolist()) == {0, 1, 2}
    assert found.rank.item() == 1
    assert found.set_size.item() == 130  # all that is possible, however little
