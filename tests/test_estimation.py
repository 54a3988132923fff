"""Constructions of word distributions, the background covariance, and shrinkage."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from oracles import make_activations, random_covariance

from infogeo import (
    Background,
    Categorical,
    DiagonalGaussian,
    PointMass,
    SharedCovarianceGaussian,
    component_normals,
    estimate_background,
    fisher_rao_distance,
    ledoit_wolf,
    occurrence_normals,
    oracle_approximating,
    pairwise,
    point_masses,
    readout_categoricals,
    shared_covariance_normals,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError

RNG = np.random.default_rng
NOTHING = make_activations([])


def corpus(n_texts: int = 20, *, d: int = 8, offset: float = 0.0, n_layers: int = 2, **options):
    """Texts of two to five words, of one to three tokens, with correlated states of another scale in each layer."""
    rng = RNG(0)
    mixing = [np.linalg.cholesky(random_covariance(d, rng)) * 2.0**layer for layer in range(n_layers + 1)]
    texts = []
    for i in range(n_texts):
        words = [f"w{rng.integers(4)}" for _ in range(2 + i % 4)]
        tokens = [int(rng.integers(1, 4)) for _ in words]
        noise = rng.standard_normal((n_layers + 1, 1 + sum(tokens), d))
        states = offset + np.stack([noise[layer] @ mixing[layer].T for layer in range(n_layers + 1)])
        texts.append(make_activations(words, tokens_per_word=tokens, hidden_states=states, **options))
    return texts


def stacked(texts, layer, pooling="mean"):
    return np.concatenate([text.word_vectors(layer, pooling=pooling) for text in texts])


# ------------------------------------------------------------------------------------------------ component normals


def test_component_normals_are_mean_and_variance_of_the_components():
    activations = make_activations(["the", "cat"], tokens_per_word=[1, 2])
    words = component_normals(activations, -1)
    vectors = activations.word_vectors(2)
    assert type(words.distribution) is DiagonalGaussian
    np.testing.assert_allclose(words.distribution.mean[:, 0], vectors.mean(axis=1), rtol=1e-15)
    np.testing.assert_allclose(words.distribution.var[:, 0], ((vectors.T - vectors.mean(1)) ** 2).mean(0), rtol=1e-14)
    assert words.observations.tolist() == [8, 8]
    assert (words.level, words.layer, words.construction) == ("occurrence", 2, "component_normals")
    assert words.details == {"pooling": "mean"}
    assert words.source is activations.source


def test_component_normals_forget_the_order_of_the_components():
    activations = make_activations(["the", "cat"])
    shuffled = make_activations(["the", "cat"], hidden_states=activations.hidden_states[:, :, RNG(1).permutation(8)])
    a, b = (component_normals(x, 1).distribution for x in (activations, shuffled))
    np.testing.assert_allclose(fisher_rao_distance(a, b), 0, atol=1e-14)


def test_component_normals_of_a_constant_vector_are_refused_by_word():
    states = RNG(0).standard_normal((1, 3, 8))
    states[0, 2] = 0.25
    with pytest.raises(DomainError, match=r"all 8 components of the vector of word 1 \('cat'\) are equal at layer 0"):
        component_normals(make_activations(["the", "cat"], hidden_states=states), 0)


@pytest.mark.parametrize("make", [component_normals, point_masses])
def test_constructions_refuse_a_text_without_words_and_a_layer_that_does_not_exist(make):
    with pytest.raises(ShapeError, match="no words"):
        make(NOTHING, 0)
    with pytest.raises(ArgumentError, match="layer 3 does not exist"):
        make(make_activations(["a"]), 3)
    with pytest.raises(ArgumentError, match="pooling 'max' does not exist"):
        make(make_activations(["a"]), 0, pooling="max")


def test_point_masses_are_the_word_vectors():
    activations = make_activations(["the", "cat"], tokens_per_word=[2, 3])
    for pooling in ("mean", "first", "last"):
        words = point_masses(activations, 1, pooling=pooling)
        assert type(words.distribution) is PointMass
        np.testing.assert_array_equal(words.distribution.location, activations.word_vectors(1, pooling=pooling))
        assert words.details["pooling"] == pooling


def test_float16_states_become_float64_distributions():
    states = RNG(0).standard_normal((2, 3, 8)).astype(np.float16)
    words = component_normals(make_activations(["the", "cat"], hidden_states=states), 1)
    assert words.distribution.mean.dtype == np.float64


# ------------------------------------------------------------------------------------------------------- background


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_background_is_mean_and_covariance_of_all_words(pooling, offset):
    texts = corpus(offset=offset)
    background = estimate_background(iter(texts), pooling=pooling)
    assert (background.n_layers, background.dimension, background.n_words) == (2, 8, sum(len(t.words) for t in texts))
    for layer in range(3):
        vectors = stacked(texts, layer, pooling)
        np.testing.assert_allclose(background.mean[layer], vectors.mean(axis=0), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(background.covariance[layer], np.cov(vectors.T, bias=True), rtol=1e-9, atol=1e-10)
        fourth = (((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1) ** 2).mean()
        assert background.fourth_moment[layer] == pytest.approx(fourth, rel=1e-9)


def test_background_takes_texts_one_at_a_time():
    """The builder keeps no text: each is garbage when the next is asked for."""
    import gc
    import weakref

    alive: list[weakref.ref] = []

    def stream():
        for i in range(5):
            text = make_activations(["a", "b"], seed=i)
            alive.append(weakref.ref(text))
            yield text
            del text
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1

    assert estimate_background(stream()).n_words == 10


def test_background_skips_texts_without_words_and_refuses_fewer_than_two():
    empty = make_activations([], d=8)
    assert estimate_background([empty, make_activations(["a", "b"]), empty]).n_words == 2
    for texts in ([], [empty], [make_activations(["a"])]):
        with pytest.raises(DomainError, match="wanted at least 2 to estimate a covariance"):
            estimate_background(texts)


def test_background_of_two_models_is_refused():
    a = make_activations(["a", "b"], model="one", content_hash="1")
    with pytest.raises(DomainError, match="found two models, 'one' and 'other'"):
        estimate_background([a, make_activations(["a", "b"], model="other", content_hash="2")])
    with pytest.raises(DomainError, match="two models"):
        estimate_background([make_activations(["a"], model="one"), make_activations(["a"], model="other")])
    with pytest.raises(ShapeError, match="2 blocks of width 4 after texts with 2 blocks of width 8"):
        estimate_background([a, make_activations(["a", "b"], d=4, model="one", content_hash="1")])
    renamed = make_activations(["a", "b"], model="copy of one", content_hash="1")
    assert estimate_background([a, renamed]).n_words == 4


def test_background_knows_its_texts_and_turns_into_json():
    texts = corpus()
    background = estimate_background(texts)
    assert background.source.text_hash != estimate_background(texts[1:]).source.text_hash
    assert background.source.text_hash == estimate_background(texts).source.text_hash
    plain = json.loads(background.to_json())
    assert plain["n_words"] == background.n_words
    columns, rows = background.rows()
    assert columns == ("layer", "norm_of_mean", "mean_variance")
    assert len(rows) == 3
    assert "width 8" in background.summary()


def test_background_checks_its_fields():
    good = estimate_background(corpus())
    with pytest.raises(ShapeError, match=r"covariance: found shape \(2, 8, 8\), wanted \(3, 8, 8\)"):
        dataclasses.replace(good, covariance=good.covariance[:2])
    with pytest.raises(DomainError, match="n_words: found 1"):
        dataclasses.replace(good, n_words=1)
    with pytest.raises(DomainError, match="mean: entry"):
        dataclasses.replace(good, mean=np.full((3, 8), np.nan))
    with pytest.raises(ValueError, match="read-only"):
        good.mean[0, 0] = 0.0


# -------------------------------------------------------------------------------------------------------- shrinkage


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("n_texts", [2, 10, 60])
def test_ledoit_wolf_is_that_of_sklearn(n_texts, offset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn comes with infogeo[geomstats]")
    texts = corpus(n_texts, offset=offset)
    background = estimate_background(texts)
    for layer in range(3):
        expected, intensity = covariance.ledoit_wolf(stacked(texts, layer))
        shrunk, used = background.shrunk_covariance(layer, shrinkage=ledoit_wolf)
        assert used == pytest.approx(intensity, rel=1e-7)
        np.testing.assert_allclose(shrunk, expected, rtol=1e-7, atol=1e-9)


def test_ledoit_wolf_equals_its_definition_as_a_double_sum():
    """Lemma 3.4 of Ledoit and Wolf 2004: b^2 is the mean over the vectors of |x x' - S|^2 / n."""
    x = RNG(3).standard_normal((12, 5)) @ np.diag([1, 2, 3, 4, 5])
    x -= x.mean(axis=0)
    s = x.T @ x / 12
    d2 = ((s - np.trace(s) / 5 * np.eye(5)) ** 2).sum()
    b2 = sum(((np.outer(v, v) - s) ** 2).sum() for v in x) / 12**2
    fourth = float(((x**2).sum(1) ** 2).mean())
    assert 0 < b2 < d2
    assert ledoit_wolf(s, n=12, fourth_moment=fourth) == pytest.approx(b2 / d2, rel=1e-12)


@pytest.mark.parametrize(("rule", "slack"), [(ledoit_wolf, 0.06), (oracle_approximating, 0.06)])
def test_shrinkage_rules_come_near_the_best_intensity(rule, slack):
    """On normal vectors of known covariance, the loss is little more than that of the best fixed intensity."""
    rng = RNG(4)
    d, n = 20, 40
    truth = np.diag(np.linspace(0.5, 2.0, d))
    losses, best = [], []
    for _ in range(30):
        x = rng.standard_normal((n, d)) @ np.sqrt(truth)
        s = x.T @ x / n
        target = np.trace(s) / d * np.eye(d)
        intensity = rule(s, n=n, fourth_moment=float(((x**2).sum(1) ** 2).mean()))
        losses.append((((1 - intensity) * s + intensity * target - truth) ** 2).sum())
        best.append(min((((1 - a) * s + a * target - truth) ** 2).sum() for a in np.linspace(0, 1, 101)))
    assert np.mean(losses) < (1 + slack) * np.mean(best)


def test_oracle_approximating_equals_the_formula_and_its_limits():
    s = random_covariance(4, RNG(5))
    tr2, sq = np.trace(s) ** 2, np.trace(s @ s)
    expected = ((1 - 2 / 4) * sq + tr2) / ((100 + 1 - 2 / 4) * (sq - tr2 / 4))
    assert 0 < expected < 1
    assert oracle_approximating(s, n=100) == pytest.approx(expected, rel=1e-12)
    assert oracle_approximating(s, n=1) == 1.0
    assert oracle_approximating(np.eye(3), n=100) == 1.0
    assert oracle_approximating(s, n=10**9) < 1e-6
    assert ledoit_wolf(np.eye(3), n=100, fourth_moment=15.0) == 0.0  # nothing to gain, the covariance is the target


def test_shrinkage_moves_the_covariance_toward_its_mean_variance():
    background = estimate_background(corpus(40))
    plain, used = background.shrunk_covariance(1, shrinkage=0.0)
    assert used == 0.0
    np.testing.assert_array_equal(plain, background.covariance[1])
    half, used = background.shrunk_covariance(-2, shrinkage=0.5)
    assert used == 0.5
    np.testing.assert_allclose(np.trace(half), np.trace(plain))
    np.testing.assert_allclose(half - np.diag(np.diag(half)), 0.5 * (plain - np.diag(np.diag(plain))))
    np.testing.assert_allclose(background.shrunk_covariance(1, shrinkage=1.0)[0], np.trace(plain) / 8 * np.eye(8))


def test_covariance_from_fewer_words_than_dimensions_needs_shrinkage():
    background = estimate_background([make_activations(["a", "b", "c", "d", "e", "f", "g", "h"])])
    assert background.n_words == background.dimension == 8
    with pytest.raises(DomainError, match=r"8 background words do not determine a covariance in 8 dimensions.*longer"):
        background.shrunk_covariance(0, shrinkage=0.0)
    words = shared_covariance_normals(make_activations(["x", "y"]), 0, background)
    assert 0 < words.details["shrinkage"] <= 1


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, lambda covariance, *, n, fourth_moment: 2.0])
def test_intensity_outside_its_range_is_refused(bad):
    with pytest.raises(DomainError, match="shrinkage: found intensity"):
        estimate_background(corpus()).shrunk_covariance(0, shrinkage=bad)


def test_background_without_variance_is_refused():
    states = np.ones((1, 11, 8))
    background = estimate_background([make_activations([f"w{i}" for i in range(10)], hidden_states=states)])
    with pytest.raises(DomainError, match="all background words have the same vector at layer 0"):
        background.shrunk_covariance(0)


def test_singular_background_without_shrinkage_is_refused():
    rng = RNG(0)
    states = rng.standard_normal((1, 41, 8))
    states[..., 7] = states[..., 0] + states[..., 1]
    background = estimate_background([make_activations([f"w{i}" for i in range(40)], hidden_states=states)])
    with pytest.raises(DomainError, match="not positive definite"):
        shared_covariance_normals(make_activations(["x"], n_layers=0), 0, background, shrinkage=0.0)
    shared_covariance_normals(make_activations(["x"], n_layers=0), 0, background, shrinkage=0.01)


# -------------------------------------------------------------------------------------------- shared covariance


def test_shared_covariance_normals_have_the_words_as_means_and_the_shrunk_background():
    activations, background = make_activations(["the", "cat"], tokens_per_word=[2, 1]), estimate_background(corpus(40))
    words = shared_covariance_normals(activations, -1, background, shrinkage=0.25)
    assert type(words.distribution) is SharedCovarianceGaussian
    np.testing.assert_array_equal(words.distribution.mean, activations.word_vectors(2))
    np.testing.assert_allclose(words.distribution.cov, background.shrunk_covariance(2, shrinkage=0.25)[0], rtol=1e-14)
    assert words.observations.tolist() == [1, 1]
    assert (words.layer, words.construction) == (2, "shared_covariance_normals")
    assert words.details == {
        "pooling": "mean", "shrinkage": 0.25, "shrinkage_rule": "fixed", "background_words": background.n_words,
        "background_hash": background.source.text_hash,
    }  # fmt: skip
    matrix = pairwise(fisher_rao_distance, words)
    difference = activations.word_vectors(2)[0] - activations.word_vectors(2)[1]
    delta2 = difference @ np.linalg.solve(words.distribution.cov, difference)
    assert matrix.values[0, 1] == pytest.approx(2**0.5 * np.arccosh(1 + delta2 / 4), rel=1e-12)


@pytest.mark.parametrize("rule", [ledoit_wolf, oracle_approximating])
def test_the_shrinkage_that_was_used_is_in_the_details(rule):
    background = estimate_background(corpus())
    words = shared_covariance_normals(make_activations(["a", "b"]), 1, background, shrinkage=rule)
    assert words.details["shrinkage"] == background.shrunk_covariance(1, shrinkage=rule)[1]
    assert 0 < words.details["shrinkage"] < 1
    assert words.details["shrinkage_rule"] == rule.__name__


def test_background_of_another_model_or_pooling_is_refused():
    background = estimate_background(corpus(content_hash="1"))
    with pytest.raises(ShapeError, match="found 2 blocks of width 8, wanted 3 of width 8"):
        shared_covariance_normals(make_activations(["a"], n_layers=3), 1, background)
    with pytest.raises(ShapeError, match="wanted 2 of width 4"):
        shared_covariance_normals(make_activations(["a"], d=4), 1, background)
    with pytest.raises(DomainError, match="background: found two models"):
        shared_covariance_normals(make_activations(["a"], content_hash="2"), 1, background)
    with pytest.raises(DomainError, match="found pooling 'mean', wanted 'last'"):
        shared_covariance_normals(make_activations(["a"]), 1, background, pooling="last")
    with pytest.raises(ShapeError, match="no words"):
        shared_covariance_normals(NOTHING, 1, background)


# -------------------------------------------------------------------------------------------------------- read-out


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def test_readout_is_the_prediction_at_the_last_token_of_each_word():
    activations = make_activations(["the", "cat"], tokens_per_word=[1, 3])
    log_probs = log_softmax(RNG(0).standard_normal((5, 11)))
    words = readout_categoricals(activations, -1, log_probs)
    assert type(words.distribution) is Categorical
    np.testing.assert_allclose(words.distribution.log_probs, log_probs[[1, 4]], rtol=1e-13)
    assert words.observations.tolist() == [1, 1]
    assert 0 <= words.details["largest_correction"] < 1e-14
    assert (words.layer, words.construction, words.details) == (
        2, "readout_categoricals", {"outcomes": 11, "largest_correction": words.details["largest_correction"]},
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_readout_takes_any_precision_and_normalizes_in_float64(dtype):
    activations = make_activations(["the", "cat"])
    log_probs = log_softmax(3 * RNG(0).standard_normal((3, 4096))).astype(dtype)
    words = readout_categoricals(activations, 1, log_probs)
    np.testing.assert_allclose(words.distribution.probs.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(words.distribution.log_probs, log_probs[1:].astype(np.float64), atol=0.01)
    off = np.abs(np.exp(log_probs[1:].astype(np.float64)).sum(axis=1) - 1).max()
    assert words.details["largest_correction"] == pytest.approx(off, rel=1e-6, abs=1e-15)


def test_readout_of_masked_outcomes():
    log_probs = np.array([[0.0, -np.inf], [np.log(0.5), np.log(0.5)], [-np.inf, 0.0]])
    words = readout_categoricals(make_activations(["the", "cat"]), 1, log_probs)
    assert words.distribution.probs.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_readout_guards():
    activations = make_activations(["the", "cat"])
    good = log_softmax(RNG(0).standard_normal((3, 11)))
    with pytest.raises(ShapeError, match=r"log_probs: found shape \(2, 11\), wanted \(3, any\)"):
        readout_categoricals(activations, 1, good[:2])
    with pytest.raises(DomainError, match=r"at word 0 \('the'\) sum to .*not probabilities or scores"):
        readout_categoricals(activations, 1, np.exp(good))
    with pytest.raises(DomainError, match=r"at word 1 \('cat'\) sum to .*, wanted 1"):
        readout_categoricals(activations, 1, good + np.array([[0.0], [0.0], [0.5]]))
    for dtype, off in ((np.float64, 1e-8), (np.float32, 1e-5), (np.float16, 0.02)):  # more than rounding
        with pytest.raises(DomainError, match=r"sum to .*, wanted 1"):
            readout_categoricals(activations, 1, (good + off).astype(dtype))
    with pytest.raises(ArgumentError, match="layer 7 does not exist"):
        readout_categoricals(activations, 7, good)
    with pytest.raises(DomainError, match="nan"):
        readout_categoricals(activations, 1, np.full((3, 11), np.nan))
    with pytest.raises(ShapeError, match="no words"):
        readout_categoricals(NOTHING, 1, good[:1])


# ------------------------------------------------------------------------------------------------- word types


def test_occurrence_normals_are_means_and_shrunk_variances_of_types():
    texts = corpus()
    words = occurrence_normals(texts, -1, shrinkage=0.3)
    names = [w for text in texts for w in text.words]
    vectors = stacked(texts, 2)
    order = list(dict.fromkeys(names))
    groups = [vectors[[i for i, w in enumerate(names) if w == name]] for name in order]
    pooled = sum(((g - g.mean(0)) ** 2).sum(0) for g in groups) / sum(len(g) - 1 for g in groups)
    assert words.words == tuple(order)
    assert (words.level, words.layer, words.construction) == ("type", 2, "occurrence_normals")
    assert words.observations.tolist() == [len(g) for g in groups]
    np.testing.assert_allclose(words.distribution.mean, [g.mean(0) for g in groups], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        words.distribution.var, [0.7 * g.var(0, ddof=1) + 0.3 * pooled for g in groups], rtol=1e-12
    )
    assert words.details == {
        "pooling": "mean", "shrinkage": 0.3, "min_count": 2, "key": "as written", "dropped_types": 0,
        "dropped_occurrences": 0, "pooled_degrees_of_freedom": len(names) - len(order),
    }  # fmt: skip


def test_occurrence_normals_hold_with_a_large_common_offset():
    far = occurrence_normals(corpus(offset=1e6), 1)
    near = occurrence_normals(corpus(), 1)
    np.testing.assert_allclose(far.distribution.var, near.distribution.var, rtol=1e-8)


def test_key_decides_what_is_one_type():
    texts = [make_activations(["The", "the", "THE", "cat", "Cat"], seed=i) for i in range(2)]
    assert occurrence_normals(texts, 1).words == ("The", "the", "THE", "cat", "Cat")
    lowered = occurrence_normals(texts, 1, key=str.lower)
    assert lowered.words == ("the", "cat")
    assert lowered.observations.tolist() == [6, 4]
    assert lowered.details["key"] == "lower"


def test_rare_types_are_named_or_dropped_and_counted():
    texts = [make_activations(["a", "b", "a", "c", "a", "b"])]
    with pytest.raises(DomainError, match=r"2 of 3 word types occur fewer than 3 times \('b', 'c'\).*rare='drop'"):
        occurrence_normals(texts, 1, min_count=3)
    words = occurrence_normals(texts, 1, min_count=2, rare="drop")
    assert words.words == ("a", "b")
    assert (words.details["dropped_types"], words.details["dropped_occurrences"]) == (1, 1)
    assert words.details["pooled_degrees_of_freedom"] == 3
    with pytest.raises(DomainError, match="no word type occurs at least 4 times"):
        occurrence_normals(texts, 1, min_count=4, rare="drop")
    many = [make_activations([f"w{i}" for i in range(9)])]
    with pytest.raises(DomainError, match=r"'w0', 'w1', 'w2', 'w3', 'w4', \.\.\.\)"):
        occurrence_normals(many, 1)


def test_single_occurrences_are_allowed_with_the_pooled_variance_alone():
    texts = [make_activations(["a", "b", "a"])]
    words = occurrence_normals(texts, 1, min_count=1, shrinkage=1.0)
    np.testing.assert_array_equal(words.distribution.var[0], words.distribution.var[1])
    with pytest.raises(ArgumentError, match="min_count: found 1, wanted at least 2"):
        occurrence_normals(texts, 1, min_count=1, shrinkage=0.99)
    with pytest.raises(DomainError, match="every word type occurs once"):
        occurrence_normals([make_activations(["a", "b"])], 1, min_count=1, shrinkage=1.0)


def test_occurrences_without_variance_are_refused_by_word():
    states = RNG(0).standard_normal((2, 4, 8))
    states[0, 1:] = 1.0
    with pytest.raises(DomainError, match=r"coordinate 0 of 'a' has variance zero at layer 0"):
        occurrence_normals([make_activations(["a", "a", "a"], hidden_states=states)], 0)


def test_occurrence_guards():
    texts = [make_activations(["a", "a"])]
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(ArgumentError, match="shrinkage: found"):
            occurrence_normals(texts, 1, shrinkage=bad)
    with pytest.raises(ArgumentError, match="rare: found 'ignore'"):
        occurrence_normals(texts, 1, rare="ignore")
    with pytest.raises(ArgumentError, match="min_count: found 0"):
        occurrence_normals(texts, 1, shrinkage=1.0, min_count=0)
    for empty in ([], [NOTHING]):
        with pytest.raises(ShapeError, match="no words were given"):
            occurrence_normals(empty, 1)
    with pytest.raises(ShapeError, match="wanted those of one model"):
        occurrence_normals([*texts, make_activations(["a"], d=4)], 1)
    with pytest.raises(DomainError, match="two models"):
        occurrence_normals([*texts, make_activations(["a"], model="other")], 1)
    with pytest.raises(ArgumentError, match="layer 9"):
        occurrence_normals(texts, 9)


def test_source_of_several_texts_says_how_many():
    texts = corpus(5)
    source = occurrence_normals(texts, 1).source
    assert source.options["texts"] == 5
    assert source.text_hash == occurrence_normals(texts, 2).source.text_hash
    assert source.text_hash != occurrence_normals(texts[::-1], 1).source.text_hash
    assert occurrence_normals([make_activations(["a", "a"])], 1).source.options == {}


def test_occurrences_of_one_type_recover_its_distribution():
    """Monte Carlo: 400 occurrences of two types with known means and variances."""
    rng = RNG(1)
    mean, std = rng.standard_normal((2, 6)), np.exp(0.5 * rng.standard_normal((2, 6)))
    member = np.arange(800) % 2
    vectors = mean[member] + std[member] * rng.standard_normal((800, 6))
    states = np.concatenate([np.zeros((1, 6)), vectors])[None]
    words = occurrence_normals(
        [make_activations([f"w{m}" for m in member], hidden_states=states)], 0, shrinkage=0.0
    )
    np.testing.assert_allclose(words.distribution.mean, mean, atol=0.3)
    np.testing.assert_allclose(words.distribution.var, std**2, rtol=0.3)
    assert isinstance(estimate_background([make_activations(["a", "b"])]), Background)


# ------------------------------------------------------------------------------------------------ natural mistakes


@pytest.mark.parametrize("layer", [1.5, 1.0, "1", None, True, np.True_, [0, 1]], ids=repr)
@pytest.mark.parametrize(
    "use",
    [
        lambda layer: component_normals(make_activations(["the", "cat"]), layer),
        lambda layer: point_masses(make_activations(["the", "cat"]), layer),
        lambda layer: shared_covariance_normals(make_activations(["the"]), layer, estimate_background(corpus())),
        lambda layer: readout_categoricals(make_activations(["the"]), layer, np.log(np.full((2, 2), 0.5))),
        lambda layer: occurrence_normals([make_activations(["a", "a"])], layer),
        lambda layer: estimate_background(corpus()).shrunk_covariance(layer),
    ],
    ids=["component", "point", "shared", "readout", "occurrence", "background"],
)
def test_a_layer_is_a_whole_number(use, layer):
    with pytest.raises(ArgumentError, match=r"layer: found .*, wanted a whole number.* 0 \(embedding\) to 2 \(last"):
        use(layer)


def test_a_layer_may_be_a_numpy_integer_and_is_recorded_as_a_plain_one():
    words = component_normals(make_activations(["the", "cat"]), np.int64(-1))
    assert words.layer == 2
    assert type(words.layer) is int
    background = estimate_background(corpus())
    for layer in (3, -4):
        with pytest.raises(ArgumentError, match=f"layer {layer} does not exist: this background has layers 0"):
            background.shrunk_covariance(layer)
    np.testing.assert_array_equal(background.shrunk_covariance(-1)[0], background.shrunk_covariance(2)[0])


@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", "0.5", None, True, np.True_, 1j, [0.5]], ids=repr)
def test_shrinkage_is_a_number_or_a_function(shrinkage):
    background = estimate_background(corpus())
    with pytest.raises(ArgumentError, match=r"shrinkage: found .*wanted a number from 0 to 1, or a function such as "
                                            r"infogeo\.ledoit_wolf"):
        shared_covariance_normals(make_activations(["the"]), 1, background, shrinkage=shrinkage)
    with pytest.raises(ArgumentError, match=r"shrinkage: found .*wanted a number from 0 to 1$"):
        occurrence_normals([make_activations(["a", "a"])], 1, shrinkage=shrinkage)


def test_shrinkage_of_types_is_no_rule_and_its_message_names_the_function():
    with pytest.raises(ArgumentError, match="shrinkage: found ledoit_wolf, wanted a number"):
        occurrence_normals([make_activations(["a", "a"])], 1, shrinkage=ledoit_wolf)


NO_BACKGROUNDS = [make_activations(["the"]), "some text", None, corpus(2)]


@pytest.mark.parametrize("background", NO_BACKGROUNDS, ids=lambda b: type(b).__name__)
def test_what_is_no_background_is_refused_with_what_makes_one(background):
    with pytest.raises(ArgumentError, match=rf"background: found {type(background).__name__}, wanted a Background .*"
                                            r"capture_background\(model, text\).*estimate_background"):
        shared_covariance_normals(make_activations(["the"]), 1, background)


def test_a_single_text_needs_no_list_around_it():
    text = corpus(4)[3]
    assert estimate_background(text).to_json() == estimate_background([text]).to_json()
    text = make_activations(["a", "b", "a", "b"])
    assert occurrence_normals(text, 1).to_json() == occurrence_normals([text], 1).to_json()


@pytest.mark.parametrize("wrong", ["a text", None, 3, ["a text"], [[make_activations(["a"])]]], ids=repr)
@pytest.mark.parametrize("use", [lambda x: occurrence_normals(x, 1), estimate_background], ids=["types", "background"])
def test_what_holds_no_activations_is_refused(use, wrong):
    with pytest.raises(ArgumentError, match=r"activations: found (str|NoneType|int|list), wanted LayerActivations"):
        use(wrong)


@pytest.mark.parametrize(
    "use",
    [
        lambda x: component_normals(x, 1),
        lambda x: point_masses(x, 1),
        lambda x: readout_categoricals(x, 1, np.log(np.full((2, 2), 0.5))),
        lambda x: shared_covariance_normals(x, 1, estimate_background(corpus())),
    ],
    ids=["component", "point", "readout", "shared"],
)
def test_occurrences_are_of_one_text(use):
    with pytest.raises(ArgumentError, match="activations: found list, wanted LayerActivations; call this once for"):
        use([make_activations(["the"])])
    with pytest.raises(ArgumentError, match=r"found str, wanted LayerActivations; make them with capture_activations"):
        use("the cat")


@pytest.mark.parametrize("options", [{"key": "lower"}, {"min_count": "2"}, {"min_count": 2.5}], ids=str)
def test_options_of_types_have_their_kind(options):
    with pytest.raises(ArgumentError, match=f"{next(iter(options))}: found .*, wanted"):
        occurrence_normals([make_activations(["a", "a"])], 1, **options)
