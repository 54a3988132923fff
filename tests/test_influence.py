"""How far distributions move when words are taken away: against slow loops, and distances that stand elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infogeo import (
    AffinityMatrix,
    Categorical,
    DistanceProfile,
    EffectsBackground,
    Influence,
    SharedCovarianceGaussian,
    WordEffects,
    distance_profile,
    fisher_rao_distance,
    mahalanobis_distance,
    minimum_spanning_tree,
    product_ratios,
    row_entropies,
    row_shares,
    symmetric_shares,
    symmetrized_influence,
)
from infogeo.errors import ArgumentError, DomainError, ModelError, ShapeError
from infogeo.influence import (
    NORMALIZATIONS,
    EffectMoments,
    as_they_are,
    influence_matrix,
    normal_lengths,
    whitened_lengths,
    whitening_factors,
)
from infogeo.results import Source

RNG = np.random.default_rng(0)
EXTRA = "needs the extra: pip install 'infogeo[transformers]'"


def some_influence(n: int = 5, layers: int = 2) -> Any:
    values = np.random.default_rng(n).gamma(2.0, size=(layers, n, n))
    values[:, np.arange(n), np.arange(n)] = 0
    return values


def some_covariance(d: int = 4, layers: int = 2) -> Any:
    roots = np.random.default_rng(d).normal(size=(layers, d, d))
    return roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)


def result(values: Any, **more: Any) -> Influence:
    given: dict[str, Any] = {
        "values": values, "words": tuple("abcde"[: values.shape[-1]]), "layers": tuple(range(3, 3 + len(values))),
        "removal": "hide", "distribution": "states", "causal": False, "source": Source(model="m"),
    }
    return Influence(**{**given, **more})


# Distances


def test_lengths_are_those_of_normals_with_one_covariance() -> None:
    covariance = some_covariance()
    x, y = RNG.normal(size=(2, 3, 5, 4)), 3 * RNG.normal(size=(2, 3, 5, 4))
    m = whitened_lengths(y - x, whitening_factors(covariance))
    for r in range(2):
        p, q = (SharedCovarianceGaussian(v[r], covariance[r]) for v in (x, y))
        assert np.allclose(normal_lengths(m[r], "fixed covariance"), mahalanobis_distance(p, q), rtol=1e-10)
        assert np.allclose(normal_lengths(m[r]), fisher_rao_distance(p, q), rtol=1e-10)
        precision = np.linalg.inv(covariance[r])
        slow = [[(y - x)[r, a, b] @ precision @ (y - x)[r, a, b] for b in range(5)] for a in range(3)]
        assert np.allclose(m[r] ** 2, slow)
    with_nan = np.where(np.arange(4) < 9, np.nan, x)
    assert np.isnan(whitened_lengths(with_nan, whitening_factors(covariance))).all()
    assert normal_lengths(1e-9) == pytest.approx(1e-9, rel=1e-12)


def test_bad_covariances_and_manifolds_are_refused() -> None:
    with pytest.raises(ShapeError, match="R, d, d"):
        whitening_factors(np.eye(3))
    with pytest.raises(DomainError, match="not positive definite"):
        whitening_factors([[[1.0, 2.0], [2.0, 1.0]]])
    with pytest.raises(ShapeError, match="differences"):
        whitened_lengths(np.zeros((2, 5, 3)), np.eye(4)[None])
    with pytest.raises(ArgumentError, match="all normals"):
        normal_lengths([1.0], "half plane")  # type: ignore[arg-type]


def test_distances_by_reading_become_a_matrix() -> None:
    moved, removed = RNG.gamma(2.0, size=(2, 7, 4)), np.array([3, 0, 1, 1, 2, 3, 1])
    found = influence_matrix(moved, removed, causal=False)
    for r in range(2):
        for i in range(4):
            for j in range(4):
                mine = [moved[r, v, i] for v in range(7) if removed[v] == j]
                assert found[r, i, j] == pytest.approx(0.0 if i == j else sum(mine) / len(mine))
    assert np.array_equal(influence_matrix(moved, removed, causal=True), np.tril(found))


@pytest.mark.parametrize(("moved", "removed", "error", "message"), [
    (np.ones((2, 3)), [0, 1, 2], ShapeError, "R, m, n"),
    (np.ones((1, 2, 3)), [0, 1], DomainError, "each of 0 to 2"),
    (np.ones((1, 3, 2)), [0, 1, 2], DomainError, "each of 0 to 1"),
    (-np.ones((1, 2, 2)), [0, 1], DomainError, "not negative"),
    (np.full((1, 2, 2), np.nan), [0, 1], DomainError, "finite"),
])
def test_distances_that_do_not_fit_are_refused(moved: Any, removed: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        influence_matrix(moved, removed, causal=False)


# Normalizations


def test_normalizations_by_loops() -> None:
    values = some_influence()
    values[1, 2] = 0
    for r in range(2):
        a = values[r]
        for i in range(5):
            for j in range(5):
                row, column = a[i].sum(), a[:, j].sum()
                share = a[i, j] / row if row else 0.0
                assert row_shares(values)[r, i, j] == pytest.approx(share)
                both, ratio = (np.sqrt(row * column), row * column / a.sum()) if row else (1.0, 1.0)
                assert symmetric_shares(values)[r, i, j] == pytest.approx(a[i, j] / both)
                assert product_ratios(values)[r, i, j] == pytest.approx(a[i, j] / ratio)
    assert np.array_equal(as_they_are(values), values)
    both = values[0] + values[0].T
    root = np.diag(both.sum(axis=1) ** -0.5)
    assert np.allclose(symmetric_shares(both), root @ both @ root)
    rank_one = np.outer([1.0, 2, 3, 4], [2.0, 5, 1, 1])
    rank_one[np.arange(4), np.arange(4)] = 0
    assert list(NORMALIZATIONS) == ["none", "rows", "symmetric", "product"]
    for normalize in NORMALIZATIONS.values():
        found = normalize(rank_one)
        assert np.array_equal(found > 0, rank_one > 0)
    assert np.allclose(product_ratios(3 * rank_one), product_ratios(rank_one))


@pytest.mark.parametrize("function", [*NORMALIZATIONS.values(), symmetrized_influence, row_entropies])
def test_what_is_no_influence_is_refused(function: Any) -> None:
    with pytest.raises(ShapeError, match="n, n"):
        function(np.ones((2, 3)))
    with pytest.raises(DomainError, match="not negative"):
        function([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(DomainError, match="finite"):
        function([[0.0, np.inf], [1.0, 0.0]])
    with pytest.raises(DomainError, match="diagonal"):
        function([[1.0, 1.0], [1.0, 0.0]])


def test_both_directions_become_one() -> None:
    p = row_shares(some_influence())
    beside = ~np.eye(5, dtype=bool)
    back = p.transpose(0, 2, 1)
    logs = np.log(p[:, beside]) + np.log(back[:, beside])
    assert np.allclose(2 * np.log(symmetrized_influence(p)[:, beside]), logs)
    assert np.allclose(symmetrized_influence(p, "sum"), p + back)
    assert np.array_equal(symmetrized_influence(p, "max"), np.where(p > back, p, back))
    for way in ("log-sum", "sum", "max"):
        found = symmetrized_influence(p, way)  # type: ignore[arg-type]
        assert np.array_equal(found, found.transpose(0, 2, 1))
        causal = symmetrized_influence(np.tril(p), way, causal=True)  # type: ignore[arg-type]
        assert np.allclose(causal, np.tril(p) + np.tril(p).transpose(0, 2, 1))
    assert not symmetrized_influence(np.tril(p)).any()
    with pytest.raises(ArgumentError, match="later words"):
        symmetrized_influence(p, causal=True)
    with pytest.raises(ArgumentError, match="does not exist"):
        symmetrized_influence(p, "mean")  # type: ignore[arg-type]


def test_entropies_of_rows() -> None:
    values = some_influence(4, 1)
    values[0, 1] = 0
    values[0, 2] = [0, 0, 0, 3.0]
    found = row_entropies(values)[0]
    p = values[0, 0, 1:] / values[0, 0].sum()
    assert found[0] == pytest.approx(-sum(x * np.log(x) for x in p))
    assert np.isnan(found[1])
    assert found[2] == 0
    assert row_entropies(1 - np.eye(6)) == pytest.approx(np.log(5))


# Distance


def test_the_profile_by_distance_by_loops() -> None:
    texts = [some_influence(n) for n in (3, 5, 4, 5)]
    texts[0][0, 0, 1] = 0
    found = distance_profile(texts, least=4)
    assert isinstance(found, DistanceProfile)
    for r in range(2):
        for offset in range(1, found.mean.shape[1] + 1):
            logs = [
                np.log(a[r, i, j]) for a in texts for i in range(len(a[0])) for j in range(len(a[0]))
                if abs(i - j) == offset and a[r, i, j] > 0
            ]
            assert found.counts[r, offset - 1] == len(logs)
            assert found.mean[r, offset - 1] == pytest.approx(np.mean(logs))
            assert found.deviation[r, offset - 1] == pytest.approx(np.std(logs))
    assert found.mean.shape[1] == 4
    assert distance_profile(texts, least=5).mean.shape[1] == 3
    standard = found.standardized(texts[0])
    assert np.isneginf(standard[:, [0, 1, 2], [0, 1, 2]]).all()
    assert standard[1, 0, 2] == pytest.approx((np.log(texts[0][1, 0, 2]) - found.mean[1, 1]) / found.deviation[1, 1])
    assert found.standardized(some_influence(9)).shape == (2, 9, 9)
    assert len(found.rows()[1]) == 8
    assert "offsets 1 to 4" in found.summary()


def test_the_deviation_of_a_profile_is_no_rounding_error() -> None:
    values = (1 - np.eye(5))[None] * np.exp(-500 + 1e-5 * RNG.normal(size=(5, 5)))
    found = distance_profile([values], least=2)
    logs = np.log(np.concatenate([np.diag(values[0], 1), np.diag(values[0], -1)]))
    assert found.deviation[0, 0] == pytest.approx(logs.std(), rel=1e-6)
    assert found.standardized(values)[0, 0, 1] == pytest.approx((logs[0] - logs.mean()) / logs.std(), rel=1e-5)
    with pytest.raises(DomainError, match="no deviation"):
        distance_profile([0.1 * (1 - np.eye(4))[None], 0.1 * (1 - np.eye(5))[None]], least=2)


def test_profiles_that_say_nothing_are_refused() -> None:
    with pytest.raises(DomainError, match="more sentences"):
        distance_profile([some_influence(3)], least=9)
    with pytest.raises(DomainError, match="no deviation"):
        distance_profile([(1 - np.eye(4))[None]], least=2)
    with pytest.raises(ShapeError, match="R the same"):
        distance_profile([some_influence(3), some_influence(3, 1)])
    with pytest.raises(ShapeError, match="R the same"):
        distance_profile([])
    with pytest.raises(ArgumentError, match="least"):
        distance_profile([some_influence(3)], least=1)
    with pytest.raises(ShapeError, match="2, n, n"):
        distance_profile([some_influence(5)], least=2).standardized(some_influence(5, 1))


# Results


def test_influence_becomes_an_affinity() -> None:
    found = result(some_influence())
    assert np.array_equal(found.at(4), found.values[1])
    for normalization, function in NORMALIZATIONS.items():
        directed = found.affinity(4, normalization=normalization, symmetrized=None)  # type: ignore[arg-type]
        assert isinstance(directed, AffinityMatrix)
        assert directed.directed
        assert np.allclose(directed.values, function(found.values[1]))
        both = found.affinity(4, normalization=normalization, symmetrized="sum")  # type: ignore[arg-type]
        assert np.allclose(both.values, directed.values + directed.values.T)
        assert not both.directed
    default = found.affinity(3)
    assert np.allclose(default.values, symmetrized_influence(row_shares(found.values[0])))
    assert default.source.options["normalization"] == "rows"
    assert "layer 3" in default.name
    assert minimum_spanning_tree(default).n_edges == 4
    assert result(some_influence(3, 1)).affinity().words == ("a", "b", "c")
    assert np.allclose(found.entropies(), row_entropies(found.values))
    assert len(found.rows()[1]) == 2 * 20
    assert found.rows()[1][0][:5] == (3, 0, 1, "a", "b")
    assert "5 words at layers 3, 4" in found.summary()
    assert found.to_dict()["causal"] is False
    with pytest.raises(ValueError, match="read-only"):
        found.values[0, 0, 1] = 1


def test_influence_of_a_causal_model_keeps_its_zeros() -> None:
    values = np.tril(some_influence())
    found = result(values, causal=True)
    p = row_shares(values[0])
    for way in ("log-sum", "sum", "max"):
        assert np.allclose(found.affinity(3, symmetrized=way).values, p + p.T)  # type: ignore[arg-type]
    assert np.isnan(found.entropies()[:, 0]).all()
    with pytest.raises(DomainError, match="later word"):
        result(some_influence(), causal=True)


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"words": ("a",)}, ShapeError, "values"),
    ({"layers": (1,)}, ShapeError, "values"),
    ({"causal": "no"}, ArgumentError, "True or False"),
])
def test_influence_that_does_not_fit_is_refused(given: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        result(some_influence(), **given)
    with pytest.raises(DomainError, match="not negative"):
        result(-some_influence())
    with pytest.raises(DomainError, match="diagonal"):
        result(some_influence() + 1)


def test_layers_and_names_that_do_not_exist_are_refused() -> None:
    found = result(some_influence())
    with pytest.raises(ArgumentError, match="one of 3, 4"):
        found.affinity()
    with pytest.raises(ArgumentError, match="found 9, wanted one of 3, 4"):
        found.at(9)
    with pytest.raises(ArgumentError, match="choose none, rows"):
        found.affinity(3, normalization="columns")  # type: ignore[arg-type]


def effects(**more: Any) -> WordEffects:
    given: dict[str, Any] = {
        "words": ("a", "b", "c"), "whole": RNG.normal(size=(1, 3, 2)), "without": RNG.normal(size=(1, 3, 3, 2)),
        "removed": [0, 1, 2], "layers": (4,), "removal": "hide", "causal": False, "source": Source(model="m"),
    }
    return WordEffects(**{**given, **more})


def test_effects_are_of_the_words_that_can_be_moved() -> None:
    found = effects()
    expected = [found.without[0, j, i] - found.whole[0, i] for j in range(3) for i in range(3) if i != j]
    assert np.allclose(found.effects()[0], expected)
    causal = effects(whole=found.whole.copy(), without=found.without.copy(), causal=True)
    expected = [found.without[0, j, i] - found.whole[0, i] for j in range(3) for i in range(3) if i > j]
    assert np.allclose(causal.effects()[0], expected)
    assert found.differences().shape == (1, 3, 3, 2)
    assert len(found.rows()[1]) == 9
    assert "3 words in 3 readings" in found.summary()


def test_effects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="without"):
        effects(removed=[0, 1])
    with pytest.raises(DomainError, match="0 to 2"):
        effects(removed=[0, 1, 3])
    with pytest.raises(DomainError, match="NaN"):
        effects(whole=np.full((1, 3, 2), np.nan))


def test_moments_are_those_of_all_effects_together() -> None:
    parts = [RNG.normal(size=(2, k, 3)) @ RNG.normal(size=(3, 3)) + 2 for k in (4, 0, 7)]
    moments = EffectMoments([1, 5])
    for part in parts:
        moments.add(part)
    found = moments.background(removal="mask", source=Source(model="m"))
    every = np.concatenate(parts, axis=1)
    for r in range(2):
        centered = every[r] - every[r].mean(axis=0)
        assert np.allclose(found.mean[r], every[r].mean(axis=0))
        assert np.allclose(found.covariance[r], centered.T @ centered / 11)
        assert found.fourth_moment[r] == pytest.approx(((centered**2).sum(axis=1) ** 2).mean())
    assert found.n_effects == 11
    covariance, intensity = found.shrunk_covariance(5, shrinkage=0.25)
    assert np.allclose(covariance, 0.75 * found.covariance[1] + 0.25 * np.trace(found.covariance[1]) / 3 * np.eye(3))
    assert intensity == 0.25
    assert 0 < found.shrunk_covariance(1)[1] < 1
    assert found.rows()[0] == ("layer", "norm_of_mean", "mean_variance")
    assert "11 effects at layers 1, 5" in found.summary()
    for given, error, message in (
        ({"layer": 2}, ArgumentError, "one of 1, 5"), ({"layer": 1, "shrinkage": 2.0}, DomainError, "from 0 to 1"),
        ({"layer": 1, "shrinkage": "much"}, ArgumentError, "ledoit_wolf"),
    ):
        with pytest.raises(error, match=message):
            found.shrunk_covariance(**given)  # type: ignore[arg-type]


def test_moments_of_too_little_are_refused() -> None:
    moments = EffectMoments([1])
    moments.add(np.zeros((1, 1, 2)))
    with pytest.raises(DomainError, match="two words"):
        moments.background(removal="hide", source=Source())
    moments.add(np.zeros((1, 1, 2)))
    with pytest.raises(ShapeError, match="width"):
        moments.add(np.zeros((1, 1, 3)))
    still = moments.background(removal="hide", source=Source())
    with pytest.raises(DomainError, match="moves nothing at layer 1"):
        still.shrunk_covariance(1)
    moments.add(np.ones((1, 1, 2)))
    with pytest.raises(DomainError, match="longer background"):
        EffectsBackground(
            mean=np.zeros((1, 3)), covariance=np.eye(3)[None], fourth_moment=[1.0], n_effects=2, layers=(1,),
            removal="hide", source=Source(),
        ).shrunk_covariance(1, shrinkage=0.0)
    with pytest.raises(DomainError, match="at least 2"):
        EffectsBackground(
            mean=np.zeros((1, 3)), covariance=np.eye(3)[None], fourth_moment=[1.0], n_effects=1, layers=(1,),
            removal="hide", source=Source(),
        )


# With models

TEXT = "The old man sells unbelievable shells"
SENTENCES = ["The old man sells sea shells", "It was raining and the dog ran home", "She sells it by the well"]


@pytest.fixture(scope="module")
def adapters() -> Any:
    return pytest.importorskip("infogeo_adapters.transformers.influence", reason=EXTRA)


@pytest.fixture(params=["bert", "llama"])
def model(request: pytest.FixtureRequest, tiny: Any, adapters: Any) -> Any:
    return tiny(request.param)


def test_the_effects_background_by_hand(model: Any, adapters: Any) -> None:
    found = adapters.effects_background(model, SENTENCES, removal="mean")
    changes = []
    for text in SENTENCES:
        one = adapters.word_effects(model, text, removal="mean", layers=[1, 2, 3])
        for j in range(len(one.words)):
            for i in range(len(one.words)):
                if i > j or (i < j and model.kind == "encoder"):
                    changes.append(one.without[:, j, i].astype(float) - one.whole[:, i])
    assert found.n_effects == len(changes)
    for r in range(3):
        layer = np.array(changes)[:, r]
        assert np.allclose(found.covariance[r], np.cov(layer.T, bias=True), atol=1e-6 * np.abs(layer).max() ** 2)
    assert (found.layers, found.removal) == ((1, 2, 3), "mean")
    assert found.source.options["background"] == "given"


@pytest.mark.parametrize("distribution", ["states", "effects"])
@pytest.mark.parametrize("manifold", ["all normals", "fixed covariance"])
def test_influence_is_the_distance_between_normals(
    model: Any, adapters: Any, distribution: str, manifold: Any
) -> None:
    from infogeo_adapters import capture_background

    background: Any = capture_background(model, SENTENCES) if distribution == "states" else None
    background = background or adapters.effects_background(model, SENTENCES)
    found = adapters.measure_influence(
        model, TEXT, distribution=distribution, background=background, shrinkage=0.3, manifold=manifold, layers=[3, 1],
    )
    one = adapters.word_effects(model, TEXT)
    measure = fisher_rao_distance if manifold == "all normals" else mahalanobis_distance
    for r, layer in enumerate((3, 1)):
        covariance, _ = background.shrunk_covariance(layer, shrinkage=0.3)
        for i in range(len(one.words)):
            for j in range(len(one.words)):
                expected = 0.0
                if i > j or (i < j and model.kind == "encoder"):
                    p, q = (
                        SharedCovarianceGaussian(h.astype(float), covariance)
                        for h in (one.whole[layer, i], one.without[layer, j, i])
                    )
                    expected = float(measure(p, q))
                assert found.values[r, i, j] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert (found.layers, found.distribution, found.causal) == ((3, 1), distribution, model.kind == "decoder")
    assert found.source.options["shrinkage"] == "0.3,0.3"
    assert found.source.options["removal"] == "hide"


def test_influence_on_predictions_is_the_distance_between_them(tiny: Any, adapters: Any) -> None:
    from infogeo_adapters import capture_activations, read_out

    model, text, layer = tiny("bert"), "the old unbelievable well", 2
    found = adapters.measure_influence(model, text, removal="mask", distribution="readout", layers=layer)
    whole = capture_activations(model, text, attention=False)
    assert (np.bincount(np.array(whole.token_words)[1:-1]) > 1).any()
    p = np.exp(read_out(model, whole, layer))
    for j in range(4):
        ids = np.where(np.array(whole.token_words) == j, model.tokenizer.mask_token_id, whole.token_ids)
        other = capture_activations(model, with_ids(model, whole, ids), attention=False)
        assert other.token_ids.tolist() == ids.tolist()
        q = np.exp(read_out(model, other, layer))
        moved = fisher_rao_distance(Categorical.from_counts(p), Categorical.from_counts(q))
        for i in range(4):
            expected = 0.0 if i == j else np.mean([moved[t] for t in range(len(ids)) if whole.token_words[t] == i])
            assert found.values[0, i, j] == pytest.approx(expected, rel=1e-4)
    assert found.source.options["predicts"] == "itself"


def with_ids(model: Any, whole: Any, ids: Any) -> str:
    """A text that the tokenizer turns into these tokens."""
    pieces = model.tokenizer.convert_ids_to_tokens(ids[1:-1].tolist())
    return " ".join(pieces).replace(" ##", "")


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_predictions_where_a_word_is_deleted(tiny: Any, adapters: Any, family: str) -> None:
    from infogeo_adapters import capture_activations, find_readout

    model, text = tiny(family), "the old unbelievable well"
    found = adapters.measure_influence(model, text, removal="delete", distribution="readout", layers=[1, 3])
    head = find_readout(model)
    acts = capture_activations(model, text, attention=False)
    assert (np.bincount(np.array(acts.token_words)[acts.token_words >= 0]) > 1).any()
    for j in range(4):
        left = np.array(acts.token_words) != j
        states = states_of_ids(model, np.array(acts.token_ids)[left])
        for r, layer in enumerate((1, 3)):
            p, q = (
                Categorical.from_logits(np.concatenate([logits for _, logits in head.chunks(h)]))
                for h in (acts.hidden_states[layer][left], states[layer])
            )
            moved = fisher_rao_distance(p, q)
            for i in range(4):
                mine = np.flatnonzero(np.array(acts.token_words)[left] == i)
                expected = np.mean([moved[t] for t in mine]) if i != j else 0.0
                expected = 0.0 if i < j and family == "gpt2" else expected
                assert found.values[r, i, j] == pytest.approx(expected, rel=1e-3, abs=1e-6)


def states_of_ids(model: Any, ids: Any) -> Any:
    """Layers 0 to L of these tokens, (L + 1, T, d)."""
    import torch

    with torch.no_grad():
        blocks = model.model.transformer.h if model.kind == "decoder" else model.model.bert.encoder.layer
        kept: list[Any] = []

        def enter(module: Any, args: Any) -> None:
            kept.append(args[0])

        def leave(module: Any, args: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handles = [blocks[0].register_forward_pre_hook(enter), *(b.register_forward_hook(leave) for b in blocks)]
        try:
            model.model(torch.tensor(ids)[None])
        finally:
            for handle in handles:
                handle.remove()
    return np.stack([h.reshape(len(ids), -1).numpy() for h in kept])


def test_predictions_are_read_out_in_chunks(tiny: Any) -> None:
    from infogeo_adapters import find_readout
    from infogeo_adapters.transformers._removal_readout import moved_predictions

    model = tiny("bert")
    width = model.model.config.hidden_size
    whole, without = RNG.normal(size=(2, 5, width)), RNG.normal(size=(2, 3, 5, width))
    without[:, 1, 2] = np.nan
    found = moved_predictions(find_readout(model), whole, without)
    beside = ~np.isnan(found)
    assert np.array_equal(np.argwhere(~beside), [[0, 1, 2], [1, 1, 2]])
    vocabulary = model.model.config.vocab_size
    for memory in (1.0, 64.0 * vocabulary, 200.0 * vocabulary):
        again = moved_predictions(find_readout(model), whole, without, memory=memory)
        assert np.allclose(again[beside], found[beside], rtol=1e-5)
    assert moved_predictions(find_readout(model), whole, without[:, :0]).shape == (2, 0, 5)


def test_influence_in_a_causal_model_goes_forward(bundled: Any, adapters: Any) -> None:
    from infogeo_adapters import capture_background

    background = capture_background(bundled, "The sun rose over the hill. The birds began to sing.")
    for given in ({"distribution": "states", "background": background}, {"distribution": "readout"}):
        found = adapters.measure_influence(bundled, "The cat sat on the mat.", layers=[2, 6], **given)
        assert not np.triu(found.values).any()
        assert (found.values[:, *np.tril_indices(7, -1)] > 0).all()
        if given["distribution"] == "readout":
            assert found.values.max() <= np.pi


@pytest.mark.parametrize("removal", ["hide", "delete", "mean", "resample"])
def test_many_texts_are_as_each_alone(tiny: Any, adapters: Any, removal: str) -> None:
    model = tiny("gpt2")
    background = adapters.effects_background(model, SENTENCES, removal=removal)
    given: dict[str, Any] = {"removal": removal, "distribution": "effects", "background": background}
    many = adapters.measure_influence(model, SENTENCES, batch_tokens=64, **given)
    for text, found in zip(SENTENCES, many, strict=True):
        alone = adapters.measure_influence(model, text, **given)
        assert found.words == alone.words
        assert np.allclose(found.values, alone.values, rtol=1e-3, atol=1e-3 * alone.values.max())
        assert found.source.text_hash == alone.source.text_hash


def test_draws_are_averaged_as_distances(tiny: Any, adapters: Any) -> None:
    from infogeo_adapters import ResampleWord

    model = tiny("bert")
    way = ResampleWord(samples=3)
    background = adapters.effects_background(model, SENTENCES)
    with pytest.raises(ArgumentError, match="effects of removal 'hide'"):
        adapters.measure_influence(model, TEXT, removal=way, distribution="effects", background=background)
    background = adapters.effects_background(model, SENTENCES, removal=way)
    found = adapters.measure_influence(
        model, TEXT, removal=way, distribution="effects", background=background, layers=2
    )
    one = adapters.word_effects(model, TEXT, removal=way, layers=2)
    factors = whitening_factors(background.shrunk_covariance(2)[0][None])
    moved = normal_lengths(whitened_lengths(one.differences(), factors))
    assert np.allclose(found.values[0, 0, 1:], moved[0, 3:, 0].reshape(-1, 3).mean(axis=1), rtol=1e-4)
    assert found.source.options["removal_samples"] == 3


def test_backgrounds_of_the_packaged_text_are_kept(make_tiny: Any, adapters: Any) -> None:
    import torch

    from infogeo_adapters import load_model

    net, tokenizer = make_tiny("bert")
    model = load_model(net, tokenizer=tokenizer)
    made = adapters.effects_background(model, sentences=3)
    assert made is adapters.effects_background(model, sentences=3)
    assert made.source.options["background"] == "packaged"
    assert adapters.effects_background(model, sentences=3, blocks=[1]) is not made
    with torch.no_grad():
        net.bert.encoder.layer[0].attention.output.dense.weight.mul_(2.0)
    changed = adapters.effects_background(model, sentences=3)
    assert not np.allclose(changed.covariance, made.covariance)


def test_one_background_of_states_serves_all(make_tiny: Any, adapters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from infogeo_adapters import load_model, local_influence
    from infogeo_adapters.transformers import backgrounds

    given: list[dict[str, Any]] = []

    def few(model: Any, **more: Any) -> Any:
        given.append(more)
        return own(model, SENTENCES, **more)

    own = backgrounds.capture_background
    monkeypatch.setattr(backgrounds, "capture_background", few)
    net, tokenizer = make_tiny("bert")
    model = load_model(net, tokenizer=tokenizer)
    for _ in range(2):
        adapters.measure_influence(model, TEXT, layers=2, batch_tokens=50)
        local_influence(model, TEXT, layers=2, direction="embedding")
    assert given == [{"pooling": "mean", "batch_tokens": 50}]
    local_influence(model, TEXT, layers=2, direction="embedding", pooling="last")
    assert len(given) == 2


def test_a_seed_that_decides_nothing_makes_no_other_background(tiny: Any, adapters: Any) -> None:
    model = tiny("bert")
    made = adapters.effects_background(model, sentences=2, removal="mask")
    assert made is adapters.effects_background(model, sentences=2, removal="mask", rng=4)
    made = adapters.effects_background(model, sentences=2, removal="resample")
    assert made is adapters.effects_background(model, sentences=2, removal="resample", rng=np.int64(0))
    assert made is not adapters.effects_background(model, sentences=2, removal="resample", rng=4)
    with pytest.raises(ArgumentError, match="rng"):
        adapters.effects_background(model, sentences=2, rng=None)


def test_effects_are_summed_batch_by_batch(model: Any, adapters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    own = EffectMoments.add

    def noted(self: Any, effects: Any) -> None:
        sizes.append(effects.shape[1])
        own(self, effects)

    monkeypatch.setattr(EffectMoments, "add", noted)
    whole = adapters.effects_background(model, SENTENCES)
    sizes.clear()
    found = adapters.effects_background(model, SENTENCES, batch_tokens=20)
    assert max(sizes) <= 20
    assert found.n_effects == whole.n_effects == sum(sizes)
    assert np.allclose(found.covariance, whole.covariance, rtol=1e-3, atol=1e-5 * whole.covariance.max())
    assert np.allclose(found.fourth_moment, whole.fourth_moment, rtol=1e-3)


@pytest.mark.parametrize("distribution", ["states", "readout"])
@pytest.mark.parametrize("removal", ["hide", "delete"])
def test_influence_is_measured_batch_by_batch(
    tiny: Any, adapters: Any, monkeypatch: pytest.MonkeyPatch, distribution: Any, removal: str
) -> None:
    from infogeo_adapters import capture_background
    from infogeo_adapters.transformers import _removal_readout

    rows: list[int] = []
    own = {"states": adapters.whitened_lengths, "readout": _removal_readout.moved_predictions}[distribution]

    def noted(*given: Any) -> Any:
        rows.append(given[0 if distribution == "states" else 2].shape[1])
        return own(*given)

    model, text = tiny("bert"), "The old man sells unbelievable sea shells by the well"
    background = capture_background(model, SENTENCES) if distribution == "states" else None
    given: dict[str, Any] = {"removal": removal, "distribution": distribution, "background": background}
    once = adapters.measure_influence(model, text, **given)
    monkeypatch.setattr(adapters, "whitened_lengths", noted)
    monkeypatch.setattr(_removal_readout, "moved_predictions", noted)
    found = adapters.measure_influence(model, text, batch_tokens=60, **given)
    assert max(rows) <= 4
    assert sum(rows) == 10
    assert np.allclose(found.values, once.values, rtol=1e-3, atol=1e-4)


def test_a_text_as_background_is_cut_into_sentences(tiny: Any, adapters: Any) -> None:
    text = 'Stop! "The old man sells sea shells." It was raining and the dog ran home.\n\nShe sells it by the well.'
    found = adapters.effects_background(tiny("bert"), text, sentences=2)
    assert found.source.options["sentences"] == 2
    whole = adapters.effects_background(tiny("bert"), "The dog ran", sentences=2)
    assert whole.n_effects == 6


def test_defaults_measure_at_every_block(minilm: Any, adapters: Any) -> None:
    background = adapters.effects_background(minilm, SENTENCES)
    found = adapters.measure_influence(minilm, "The cat sat on the mat.", distribution="effects", background=background)
    assert found.layers == (1, 2, 3, 4, 5, 6)
    assert (found.values[:, ~np.eye(7, dtype=bool)] > 0).all()


@pytest.mark.parametrize(("given", "message"), [
    ({"distribution": "occurrences"}, "choose 'states'"),
    ({"manifold": "sphere"}, "does not exist"),
    ({"background": 3}, "wanted a Background"),
    ({"distribution": "effects", "background": 3}, "wanted a EffectsBackground|wanted an EffectsBackground"),
    ({"distribution": "readout", "background": 3}, "only for distribution"),
])
def test_wrong_arguments_are_refused(tiny: Any, adapters: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        adapters.measure_influence(tiny("bert"), TEXT, **given)
    with pytest.raises(ArgumentError, match="load_model"):
        adapters.measure_influence("bert", TEXT)
    with pytest.raises(ArgumentError, match="load_model"):
        adapters.effects_background("bert")


@pytest.mark.parametrize(("family", "given", "error", "message"), [
    ("gpt2", {"removal": "mask"}, ModelError, "no mask token"),
    ("bert", {"blocks": [9]}, ArgumentError, "from 1 to 3"),
    ("bert", {"shrinkage": "much"}, ArgumentError, "ledoit_wolf"),
    ("bert", {"shrinkage": 2.0}, DomainError, "from 0 to 1"),
    ("bert", {"manifold": "sphere"}, ArgumentError, "does not exist"),
    ("bert", {"manifold": "sphere", "distribution": "readout"}, ArgumentError, "does not exist"),
    ("bert", {"distribution": "effects", "layers": [0, 1]}, ArgumentError, "layers 1 to 3"),
])
def test_what_cannot_be_is_refused_before_any_work(
    tiny: Any, adapters: Any, monkeypatch: pytest.MonkeyPatch, family: str, given: Any, error: Any, message: str
) -> None:
    from infogeo_adapters.transformers import _removal_rows, backgrounds

    def work(*given: Any, **more: Any) -> Any:
        raise AssertionError("work was done")

    monkeypatch.setattr(backgrounds, "capture_background", work)
    monkeypatch.setattr(_removal_rows, "run_model", work)
    with pytest.raises(error, match=message):
        adapters.measure_influence(tiny(family), TEXT, **given)


def test_backgrounds_made_otherwise_are_refused(tiny: Any, adapters: Any) -> None:
    from infogeo_adapters import MeanEmbedding, capture_background

    model = tiny("llama")
    first = capture_background(model, SENTENCES, pooling="first")
    with pytest.raises(ArgumentError, match="pooling 'first'"):
        adapters.measure_influence(model, TEXT, background=first)
    plain = adapters.effects_background(model, SENTENCES)
    for given in ({"blocks": [2]}, {"reading": "twice"}):
        made = adapters.effects_background(model, SENTENCES, **given)
        for background, more in ((plain, given), (made, {})):
            with pytest.raises(ArgumentError, match="found effects of words taken away with"):
                adapters.measure_influence(model, TEXT, distribution="effects", background=background, **more)
        fits = adapters.measure_influence(
            model, TEXT, distribution="effects", background=made, layers=[2, 3], **given
        )
        assert fits.values.any()
    with pytest.raises(ArgumentError, match="'removal_mean_over': 'vocabulary'"):
        adapters.measure_influence(
            model, TEXT, distribution="effects", removal=MeanEmbedding(background=SENTENCES[0]),
            background=adapters.effects_background(model, SENTENCES, removal="mean"),
        )


def test_what_does_not_fit_the_model_is_refused(tiny: Any, minilm: Any, adapters: Any) -> None:
    with pytest.raises(ModelError, match="predicts no tokens"):
        adapters.measure_influence(minilm, TEXT, distribution="readout")
    with pytest.raises(ModelError, match="encoder reads"):
        adapters.measure_influence(tiny("t5"), TEXT, distribution="readout")
    other = adapters.effects_background(tiny("gpt2"), SENTENCES)
    with pytest.raises(DomainError, match="two models"):
        adapters.measure_influence(tiny("bert"), TEXT, distribution="effects", background=other)
