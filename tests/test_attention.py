"""Attention as affinities between words: heads, head average, rollout, flow."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from infogeo.activations import LayerActivations
from infogeo.errors import ArgumentError, ConvergenceError, DomainError
from infogeo.results import Source
from infogeo_adapters.transformers import attention as module
from infogeo_adapters.transformers import position
from infogeo_adapters.transformers.attention import attention_flow, attention_rollout, head_average, single_head
from infogeo_adapters.transformers.position import relative_to_totals

RELATIVE = ", relative to uniform attention with the same totals"


def make_acts(
    attention: np.ndarray | None, token_words: list[int], *, causal: bool = False,
    layers: tuple[int, ...] | None = None, n_layers: int | None = None,
) -> LayerActivations:
    """Activations with the given attention (L, H, T, T); hidden states do not matter here."""
    t = len(token_words)
    n = max(token_words) + 1
    captured = layers if layers is not None else () if attention is None else tuple(range(1, len(attention) + 1))
    blocks = n_layers if n_layers is not None else max(len(captured), 1)
    words = tuple(f"w{i}" for i in range(n))
    return LayerActivations(
        text=" ".join(words), words=words, word_spans=np.zeros((n, 2), dtype=np.int64),
        tokens=tuple(f"t{i}" for i in range(t)), token_ids=np.arange(t), token_spans=np.zeros((t, 2), dtype=np.int64),
        token_words=np.asarray(token_words), special=np.asarray(token_words) < 0,
        hidden_states=np.zeros((blocks + 1, t, 2)), attention=attention, attention_layers=captured,
        causal=causal, source=Source(model="by hand"),
    )


def random_attention(seed: int, blocks: int, heads: int, t: int, *, causal: bool = False) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=2.0, size=(blocks, heads, t, t))
    if causal:
        logits = np.where(np.tril(np.ones((t, t), dtype=bool)), logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def uniform_causal(blocks: int, heads: int, t: int, window: int | None = None) -> np.ndarray:
    seen = np.tril(np.ones((t, t)))
    if window is not None:
        seen = seen - np.tril(np.ones((t, t)), -window)
    return np.broadcast_to(seen / seen.sum(axis=1, keepdims=True), (blocks, heads, t, t)).copy()


WORDS = [-1, 0, 1, 1, 2, -1]  # begin, one token, two tokens, one token, end


def pool_by_loop(token_map: np.ndarray, token_words: list[int]) -> tuple[np.ndarray, np.ndarray]:
    n = max(token_words) + 1
    values, outside = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        own = [s for s, w in enumerate(token_words) if w == i]
        for s in own:
            for t, w in enumerate(token_words):
                if w >= 0:
                    values[i, w] += token_map[s, t] / len(own)
                else:
                    outside[i] += token_map[s, t] / len(own)
    return values, outside


# --- heads ---------------------------------------------------------------------------------------------------------


def test_a_head_is_counted_from_one_and_pooled_mean_over_rows_sum_over_columns() -> None:
    maps = random_attention(0, 3, 2, 6)
    acts = make_acts(maps, WORDS)
    found = single_head(acts, 3, 2)
    values, outside = pool_by_loop(maps[2, 1], WORDS)
    np.testing.assert_allclose(found.values, values, rtol=1e-14)
    np.testing.assert_allclose(found.outside, outside, rtol=1e-14)
    assert (found.layer, found.head, found.directed) == (3, 2, True)
    assert found.name == "attention of block 3, head 2"
    np.testing.assert_allclose(found.values, acts.word_attention()[2, 1], rtol=1e-14)


def test_weight_on_special_tokens_is_left_out_and_not_renormalized() -> None:
    maps = np.zeros((1, 1, 3, 3))
    maps[0, 0] = [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.5, 0.0, 0.5]]
    found = single_head(make_acts(maps, [-1, 0, 1]), 1, 1)
    np.testing.assert_array_equal(found.values, [[0.25, 0.0], [0.0, 0.5]])
    np.testing.assert_array_equal(found.outside, [0.75, 0.5])


def test_a_sink_that_takes_part_of_a_row_shows_in_neither_values_nor_outside() -> None:
    maps = random_attention(1, 1, 1, 6) * 0.25
    found = single_head(make_acts(maps, WORDS), 1, 1)
    np.testing.assert_allclose(found.values.sum(axis=1) + found.outside, 0.25, rtol=1e-12)


def test_head_average_of_a_block_and_of_all() -> None:
    maps = random_attention(2, 3, 4, 6)
    acts = make_acts(maps, WORDS)
    one, every = head_average(acts, 2), head_average(acts)
    np.testing.assert_allclose(one.values, pool_by_loop(maps[1].mean(axis=0), WORDS)[0], rtol=1e-13)
    np.testing.assert_allclose(every.values, pool_by_loop(maps.mean(axis=(0, 1)), WORDS)[0], rtol=1e-13)
    assert (one.name, one.layer, every.name, every.layer) == (
        "head average of block 2", 2, "head average of all 3 blocks", None,
    )
    assert every.head is None


def test_blocks_without_attention_are_told_from_blocks_that_do_not_exist() -> None:
    acts = make_acts(random_attention(3, 2, 2, 6), WORDS, layers=(2, 4), n_layers=4)
    np.testing.assert_allclose(
        head_average(acts, 4).values, pool_by_loop(acts.attention[1].mean(axis=0), WORDS)[0], rtol=1e-13
    )
    with pytest.raises(ArgumentError, match=r"block 1 has no attention map here; blocks with one: \[2, 4\]"):
        head_average(acts, 1)
    for block in (0, -1, 5):
        with pytest.raises(ArgumentError, match=f"block {block} does not exist: this model has blocks 1 to 4"):
            head_average(acts, block)
    for head in (0, 3, -1):
        with pytest.raises(ArgumentError, match=f"head {head} does not exist: block 2 has heads 1 to 2"):
            single_head(acts, 2, head)
    for follow in (attention_rollout, attention_flow):
        with pytest.raises(ArgumentError, match=r"only through every block; of blocks 1 to 4 there is .* \[2, 4\]"):
            follow(acts)


def test_without_attention_every_function_refuses() -> None:
    acts = make_acts(None, WORDS)
    for call in (lambda: single_head(acts, 1, 1), lambda: head_average(acts), lambda: attention_rollout(acts),
                 lambda: attention_flow(acts)):
        with pytest.raises(ArgumentError, match="attention was not captured; capture it with attention=True"):
            call()


@pytest.mark.parametrize("broken", [np.nan, -0.1, 3.0])
def test_attention_that_is_no_probability_is_refused(broken: float) -> None:
    maps = random_attention(4, 2, 2, 6)
    maps[1, 0, 2, 3] = broken  # 3.0: a log-sum-exp in place of a probability
    with pytest.raises(DomainError, match="rows must be probabilities"):
        head_average(make_acts(maps, WORDS), 1)


def test_a_block_of_zeros_is_refused() -> None:
    maps = random_attention(4, 3, 2, 6)
    maps[1] = 0.0
    with pytest.raises(DomainError, match="block 2 holds no weight at all"):
        attention_rollout(make_acts(maps, WORDS))


def test_symmetrized_affinity_keeps_the_weight_left_out() -> None:
    found = head_average(make_acts(random_attention(5, 1, 2, 6), WORDS)).symmetrized()
    np.testing.assert_array_equal(found.values, found.values.T)
    assert found.outside is not None


# --- rollout -------------------------------------------------------------------------------------------------------


def rollout_by_loop(maps: np.ndarray, residual: float) -> np.ndarray:
    """Sum over all paths, one block at a time, with plain loops."""
    blocks, heads, t, _ = maps.shape
    total = [[float(i == j) for j in range(t)] for i in range(t)]
    for block in range(blocks):
        new = [[0.0] * t for _ in range(t)]
        for i in range(t):
            for k in range(t):
                step = (1 - residual) * sum(maps[block, h, i, k] for h in range(heads)) / heads
                step += residual * (i == k)
                for j in range(t):
                    new[i][j] += step * total[k][j]
        total = new
    return np.asarray(total)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("residual", [0.5, 0.0, 0.9])
def test_rollout_equals_a_plain_loop(causal: bool, residual: float) -> None:
    maps = random_attention(6, 4, 3, 6, causal=causal)
    found = attention_rollout(make_acts(maps, WORDS, causal=causal), residual=residual, relative_to_uniform=False)
    values, outside = pool_by_loop(rollout_by_loop(maps, residual), WORDS)
    np.testing.assert_allclose(found.values, values, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.outside, outside, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.values.sum(axis=1) + found.outside, 1.0, rtol=1e-12)
    assert found.source.options["residual"] == residual


def test_rollout_multiplies_the_last_block_first() -> None:
    swap = np.asarray([[0.0, 1.0], [1.0, 0.0]])
    first = np.asarray([[1.0, 0.0], [1.0, 0.0]])  # everybody looks at token 0
    maps = np.stack([first, swap])[:, None]
    found = attention_rollout(make_acts(maps, [0, 1]), residual=0.0, relative_to_uniform=False)
    np.testing.assert_array_equal(found.values, [[1.0, 0.0], [1.0, 0.0]])
    reverse = attention_rollout(make_acts(maps[::-1].copy(), [0, 1]), residual=0.0, relative_to_uniform=False)
    np.testing.assert_array_equal(reverse.values, [[0.0, 1.0], [0.0, 1.0]])


def test_rollout_of_uniform_attention_has_its_closed_form() -> None:
    t, blocks, residual = 5, 7, 0.5
    maps = np.full((blocks, 2, t, t), 1 / t)
    found = attention_rollout(make_acts(maps, list(range(t))), residual=residual)
    stays = residual**blocks
    np.testing.assert_allclose(found.values, stays * np.eye(t) + (1 - stays) / t, rtol=1e-13)
    assert found.name == "attention rollout"


@pytest.mark.parametrize("blocks", [1, 4, 12])
def test_rollout_of_uniform_causal_attention_has_its_closed_form(blocks: int) -> None:
    # uniform causal attention is the Cesaro mean, a Hausdorff matrix; a power of it is one with the moments below
    t, residual = 8, 0.5
    moment = [(residual + (1 - residual) / (k + 1)) ** blocks for k in range(t)]
    expected = np.zeros((t, t))
    for i in range(t):
        for j in range(i + 1):
            expected[i, j] = sum(
                (-1) ** k * comb(i, j) * comb(i - j, k) * moment[j + k] for k in range(i - j + 1)
            )
    acts = make_acts(uniform_causal(blocks, 2, t), list(range(t)), causal=True)
    found = attention_rollout(acts, relative_to_uniform=False)
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-13)
    if blocks > 1:
        assert found.values[-1, 0] > found.values[-1, 1] > found.values[-1, 2]  # the artefact of position
    assert found.name == "attention rollout"


@given(
    seed=st.integers(0, 10**6), blocks=st.integers(1, 8), residual=st.sampled_from([0.0, 0.3, 0.5, 0.95]),
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=6), window=st.none() | st.integers(2, 5),
)
@settings(max_examples=40, deadline=None)
def test_uniform_attention_is_one_everywhere_relative_to_itself(
    seed: int, blocks: int, residual: float, lengths: list[int], window: int | None
) -> None:
    token_words = [-1] + [w for w, length in enumerate(lengths) for _ in range(length)]
    t, n = len(token_words), len(lengths)
    acts = make_acts(uniform_causal(blocks, 1, t, window), token_words, causal=True)
    for found in (attention_rollout(acts, residual=residual), attention_flow(acts, residual=residual)):
        reached = found.values[found.values > 0]
        np.testing.assert_allclose(reached, 1.0, rtol=1e-9)
        assert not np.triu(found.values).any()
        if window is None:
            assert len(reached) == n * (n - 1) // 2
        assert found.outside is None
        assert found.name.endswith(RELATIVE)


def scaled_to_totals(values: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Factors by minimizing the Poisson deviance of log-linear margins, an independent way to the same fit."""
    from scipy.optimize import minimize

    n = len(values)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j and values[i, j] > 0]
    v, u = (np.asarray([m[p] for p in pairs]) for m in (values, uniform))
    design = np.asarray([[k == i for k in range(n)] + [k == j for k in range(n)] for i, j in pairs], dtype=float)

    def deviance(x: np.ndarray) -> tuple[float, np.ndarray]:
        fitted = u * np.exp(design @ x)
        return float(fitted.sum() - v @ (design @ x)), design.T @ (fitted - v)

    best = minimize(deviance, np.zeros(2 * n), jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 5000})
    expected = np.zeros((n, n))
    for (i, j), value, fitted in zip(pairs, v, u * np.exp(design @ best.x), strict=True):
        expected[i, j] = value / fitted
    return expected


@pytest.mark.parametrize("causal", [False, True])
def test_relative_to_uniform_attention_with_the_same_totals(causal: bool) -> None:
    words = [-1, 0, 1, 1, 2, 3, 4]
    maps = random_attention(7, 3, 2, 7, causal=causal)
    acts = make_acts(maps, words, causal=causal)
    base = uniform_causal(3, 1, 7) if causal else np.full((3, 1, 7, 7), 1 / 7)
    uniform = make_acts(base, words, causal=causal)
    for follow in (attention_rollout, attention_flow):
        raw, even = (follow(a, relative_to_uniform=False).values for a in (acts, uniform))
        found = follow(acts, relative_to_uniform=True)
        np.testing.assert_allclose(found.values, scaled_to_totals(raw, even), rtol=1e-5)
        assert found.source.options["relative_to_uniform"] is True
        assert found.outside is None
        # the totals that the ratio is relative to are those of the values
        fitted = np.where(found.values > 0, raw / np.where(found.values > 0, found.values, 1), 0)
        apart = ~np.eye(5, dtype=bool) & (raw > 0)
        for axis in (0, 1):
            np.testing.assert_allclose(fitted.sum(axis), np.where(apart, raw, 0).sum(axis), rtol=1e-8)


def test_what_a_word_gives_and_gets_in_total_under_uniform_attention_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    values, uniform = np.tril(rng.uniform(0.1, 1, (6, 6))), np.tril(rng.uniform(0.1, 1, (6, 6)))
    shares = np.outer(rng.uniform(0.1, 9, 6), rng.uniform(0.1, 9, 6))
    np.testing.assert_allclose(
        relative_to_totals(values, uniform * shares), relative_to_totals(values, uniform), rtol=1e-7
    )
    np.testing.assert_allclose(relative_to_totals(uniform * shares, uniform), np.tri(6, k=-1), rtol=1e-7)


def test_weights_of_zero_stay_zero_and_hinder_nothing() -> None:
    values = np.tril(np.random.default_rng(4).uniform(0.1, 1, (6, 6)))
    values[3], values[:, 2], values[5, 1] = 0, 0, 0
    found = relative_to_totals(values, np.tri(6))
    assert ((found > 0) == (np.tril(values, -1) > 0)).all()
    assert not relative_to_totals(np.ones((1, 1)), np.ones((1, 1))).any()


def test_totals_that_are_not_met_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(position, "MAX_SWEEPS", 1)
    with pytest.raises(ConvergenceError, match=r"after 1 rounds .* use relative_to_uniform=False") as caught:
        relative_to_totals(np.tril(np.random.default_rng(5).uniform(0.1, 1, (6, 6))), np.tri(6))
    assert caught.value.result.shape == (6, 6)


def test_what_is_left_of_position_is_reported() -> None:
    acts = make_acts(random_attention(14, 4, 2, 9, causal=True), [-1, 0, 1, 2, 3, 4, 4, 5, 6], causal=True)
    for follow in (attention_rollout, attention_flow):
        for relative in (False, True):
            found = follow(acts, relative_to_uniform=relative)
            symmetric = found.symmetrized().values
            first, second = np.triu_indices(7, 1)
            pairs = symmetric[first, second]
            options = found.source.options
            assert options["rank_correlation_with_distance"] == pytest.approx(
                spearmanr(pairs, second - first).statistic, abs=1e-4
            )
            assert options["rank_correlation_with_position"] == pytest.approx(
                spearmanr(pairs, np.minimum(first, second)).statistic, abs=1e-4
            )


@pytest.mark.parametrize("values", [np.zeros((1, 1)), np.eye(2), np.ones((5, 5))])
def test_a_correlation_that_is_not_defined_is_none(values: np.ndarray) -> None:
    assert set(position.position_correlations(values).values()) == {None}


def test_early_words_are_favored_by_raw_rollout_and_not_relative_to_uniform_attention(bundled: Any) -> None:
    from infogeo_adapters.models import background_text
    from infogeo_adapters.transformers.capture import capture_activations

    text = " ".join(background_text().split())
    sentences = [s.strip() + "." for s in text.split(". ") if 8 <= len(s.split()) <= 20]
    captured = capture_activations(bundled, sentences[:: len(sentences) // 12][:12])

    def mean_size(name: str, relative: bool) -> float:
        found = [attention_rollout(a, relative_to_uniform=relative).source.options[name] for a in captured]
        return float(np.mean(np.abs(np.asarray(found, dtype=float))))

    early = "rank_correlation_with_position"
    assert mean_size(early, False) > 0.3
    assert mean_size(early, True) < 0.15
    assert mean_size("rank_correlation_with_distance", True) < 0.35


def test_a_sliding_window_is_compared_with_uniform_attention_in_the_window() -> None:
    t, window = 9, 3
    acts = make_acts(uniform_causal(2, 2, t, window), list(range(t)), causal=True)
    found = attention_rollout(acts)
    offset = np.arange(t)[:, None] - np.arange(t)[None, :]
    expected = ((offset > 0) & (offset <= 2 * (window - 1))).astype(float)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


def test_an_encoder_is_relative_to_uniform_attention_only_if_asked() -> None:
    acts = make_acts(random_attention(8, 3, 2, 6), WORDS)
    assert attention_rollout(acts).name == "attention rollout"
    assert attention_rollout(acts).outside is not None
    asked = attention_rollout(acts, relative_to_uniform=True)
    assert asked.name == "attention rollout" + RELATIVE


@pytest.mark.parametrize("residual", [1.0, -0.1, 2.0, float("nan")])
def test_residual_outside_its_range_is_refused(residual: float) -> None:
    acts = make_acts(random_attention(9, 1, 1, 6), WORDS)
    for follow in (attention_rollout, attention_flow):
        with pytest.raises(ArgumentError, match="wanted a weight of at least 0 and below 1"):
            follow(acts, residual=residual)


# --- flow ----------------------------------------------------------------------------------------------------------


def flow_by_networkx(maps: np.ndarray, residual: float) -> np.ndarray:
    networkx = pytest.importorskip("networkx", reason="needs the extra: pip install 'infogeo[graphs]'")
    blocks, _, t, _ = maps.shape
    graph = networkx.DiGraph()
    for block in range(blocks):
        step = residual * np.eye(t) + (1 - residual) * maps[block].mean(axis=0)
        for i in range(t):
            for j in range(t):
                graph.add_edge((block + 1, i), (block, j), capacity=float(step[i, j]))
    return np.asarray(
        [[networkx.maximum_flow_value(graph, (blocks, i), (0, j)) for j in range(t)] for i in range(t)]
    )


@pytest.mark.parametrize(
    ("causal", "residual", "blocks"), [(False, 0.5, 3), (True, 0.5, 3), (False, 0.0, 2), (True, 0.2, 1)]
)
def test_flow_equals_networkx(causal: bool, residual: float, blocks: int) -> None:
    maps = random_attention(10, blocks, 2, 6, causal=causal)
    found = attention_flow(make_acts(maps, WORDS, causal=causal), residual=residual, relative_to_uniform=False)
    expected, _ = pool_by_loop(flow_by_networkx(maps, residual), WORDS)
    bound = found.source.options["rounding_error"]
    assert bound == pytest.approx(blocks * 36 / 2**30)
    difference = expected - found.values
    assert difference.max() <= 2 * bound  # a word has at most two tokens
    assert difference.min() >= -1e-12  # never too large
    assert found.outside is None
    assert found.name == "attention flow"


def test_flow_through_one_block_is_the_attention_itself() -> None:
    maps = random_attention(11, 1, 1, 5)
    found = attention_flow(make_acts(maps, list(range(5))), residual=0.0)
    np.testing.assert_allclose(found.values, maps[0, 0], atol=1e-8)


def test_flow_between_tokens_takes_the_narrowest_place_of_the_path() -> None:
    # token 1 reaches input token 0 over token 0 (0.4 then 1.0) and over itself (0.6 then 0.25): 0.4 + 0.25
    first = np.asarray([[1.0, 0.0], [0.25, 0.75]])
    second = np.asarray([[1.0, 0.0], [0.4, 0.6]])
    maps = np.stack([first, second])[:, None]
    acts = make_acts(maps, [0, 1], causal=True)
    flow = attention_flow(acts, residual=0.0, relative_to_uniform=False)
    assert flow.values[1, 0] == pytest.approx(0.65, abs=1e-8)
    rollout = attention_rollout(acts, residual=0.0, relative_to_uniform=False)
    assert rollout.values[1, 0] == pytest.approx(0.4 * 1.0 + 0.6 * 0.25)


@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 4), causal=st.booleans())
@settings(max_examples=15, deadline=None)
def test_flow_is_at_least_rollout_and_at_most_one(seed: int, blocks: int, causal: bool) -> None:
    # the rollout is itself a flow: what leaves the top splits in proportion and respects every capacity
    acts = make_acts(random_attention(seed, blocks, 1, 5, causal=causal), list(range(5)), causal=causal)
    flow = attention_flow(acts, relative_to_uniform=False)
    rollout = attention_rollout(acts, relative_to_uniform=False)
    assert (flow.values >= rollout.values - flow.source.options["rounding_error"]).all()
    assert (flow.values <= 1).all()


def test_flow_refuses_a_text_that_would_take_too_long() -> None:
    acts = make_acts(random_attention(12, 2, 1, 40), list(range(40)))
    with pytest.raises(ArgumentError, match=r"40 tokens through 2 blocks would take about 0.5 s, .*max_seconds=0.2"):
        attention_flow(acts, max_seconds=0.2)
    # a causal text has half the edges; uniform attention costs as much again
    acts = make_acts(random_attention(12, 2, 1, 40, causal=True), list(range(40)), causal=True)
    with pytest.raises(ArgumentError, match=r"about 0\.5 s"):
        attention_flow(acts, max_seconds=0.2)
    with pytest.raises(ArgumentError, match=r"about 0\.3 s"):
        attention_flow(acts, max_seconds=0.2, relative_to_uniform=False)


def test_flow_solves_one_problem_for_each_pair_of_tokens_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    token_words = [-1] + [w for w in range(8) for _ in range(1 + (w % 4 == 0))]
    t = len(token_words)
    acts = make_acts(random_attention(13, 3, 5, t, causal=True), token_words, causal=True)
    edges: list[int] = []
    real = module.maximum_flow

    def counted(graph: Any, *args: Any, **options: Any) -> Any:
        edges.append(graph.nnz)
        return real(graph, *args, **options)

    monkeypatch.setattr(module, "maximum_flow", counted)
    module._uniform_flow.cache_clear()
    attention_flow(acts)
    pairs = (t - 1) ** 2
    assert len(edges) == 2 * pairs  # the second half is uniform attention
    assert max(edges) <= 2 * t * (t + 1) // 2 + t, "blocks 2 and 3 between all tokens, block 1 to the token asked for"
    attention_flow(acts)
    assert len(edges) == 3 * pairs, "uniform attention is solved once for each shape of text"


# --- captured from models ------------------------------------------------------------------------------------------


def test_a_captured_encoder_and_decoder_follow_the_same_rules() -> None:
    pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
    from test_readout import TEXT, make_model

    from infogeo_adapters.transformers.capture import capture_activations

    for name, causal in (("bert", False), ("llama", True)):
        acts = capture_activations(make_model(name), TEXT)
        n = len(acts.words)
        head = single_head(acts, 2, 1)
        np.testing.assert_allclose(head.values.sum(axis=1) + head.outside, 1.0, atol=1e-5)
        assert (head.outside > 0).all()  # the begin token is looked at
        np.testing.assert_allclose(head.values, acts.word_attention()[1, 0], rtol=1e-12)
        raw = attention_rollout(acts, relative_to_uniform=False)
        np.testing.assert_allclose(raw.values.sum(axis=1) + raw.outside, 1.0, atol=1e-5)
        found = attention_rollout(acts)
        assert found.name.endswith(RELATIVE) is causal
        flow = attention_flow(acts)
        assert flow.values.shape == (n, n)
        later = np.triu(np.ones((n, n), dtype=bool), 1)
        for affinity in (head, raw, found, flow):
            assert bool(affinity.values[later].any()) is not causal
            assert affinity.words == acts.words
            assert affinity.source.model == acts.source.model


def test_the_sliding_window_of_a_captured_model_is_its_receptive_field() -> None:
    pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
    from test_readout import BASE, TEXT, make_net, make_tokenizer

    from infogeo_adapters.transformers.capture import capture_activations
    from infogeo_adapters.transformers.loading import load_model

    settings = {**BASE, "num_key_value_heads": 1, "sliding_window": 3, "num_hidden_layers": 2}
    net = make_net("MistralForCausalLM", "MistralConfig", settings)
    acts = capture_activations(load_model(net, tokenizer=make_tokenizer()), TEXT)
    assert module._bands(acts) == ((0, 2), (0, 2))
    reached = np.nonzero(attention_rollout(acts).values)
    assert (reached[0] - reached[1]).max() == 4
