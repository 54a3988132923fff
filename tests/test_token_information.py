"""Information between the vectors of tokens: public estimators, known correlations, the model's own parts, pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import infogeo
from infogeo.capacity.results import ChannelSamples
from infogeo.errors import ArgumentError, DomainError, ShapeError, TextError
from infogeo.information_planes import InformationPath, information_plane
from infogeo.results import Source
from infogeo_adapters import token_information as module
from infogeo_adapters.token_divergences import DIVERGENCES, information_scatter
from infogeo_adapters.token_information import (
    DimensionInformation,
    TokenInformation,
    dimension_information,
    token_mutual_information,
)

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
TEXT = "The old woman gave the hungry dog a bone."


def by_hand(a: np.ndarray, b: np.ndarray, **changes: Any) -> TokenInformation:
    values, _, described, null = module._map(a, b, "gaussian", 20, np.random.default_rng(0), itself=False)
    fields: dict[str, Any] = {
        "values": values, "tokens": tuple("abcdefgh"[: len(a)]), "sides": ("query", "key"), "block": 1, "head": None,
        "vectors": (a, b), "attention": np.full((len(a), len(a)), 1 / len(a)), "causal": True, "estimator": described,
        "n": a.shape[1], "null": null, "unit": "nats", "source": Source(),
    }
    return TokenInformation(**{**fields, **changes})


def test_maps_are_those_of_the_public_estimators_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 200)), rng.standard_t(5, size=(4, 200)).cumsum(axis=0)
    for name, public in (("gaussian", infogeo.gaussian_mutual_information),
                         ("copula", infogeo.gaussian_copula_mutual_information),
                         ("ksg", infogeo.ksg_mutual_information)):
        values = module._map(a, b, name, 0, rng, itself=False)[0]
        assert values == pytest.approx(np.array([[public(p, q) for q in b] for p in a]), abs=1e-9)


def test_information_of_a_known_correlation_and_of_none() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 20_000))
    y = np.concatenate([0.8 * x + 0.6 * rng.normal(size=x.shape), -0.8 * x + 0.6 * rng.normal(size=x.shape),
                        rng.normal(size=x.shape)])
    values, _, _, null = module._map(x, y, "copula", 50, rng, itself=False)
    truth = -0.5 * np.log(1 - 0.64)
    assert values[0] == pytest.approx([truth, truth, 0.0], abs=0.02)
    assert null is not None
    assert null < 0.001
    assert values[0, 2] < 0 or values[0, 2] < 3 * null  # raw: it may be negative


def test_the_null_is_what_19_of_20_independent_pairs_stay_below() -> None:
    a, b = np.random.default_rng(8).normal(size=(2, 40, 64))
    for estimator in ("copula", "gaussian"):
        values, _, _, null = module._map(a, b, estimator, 50, np.random.default_rng(9), itself=False)
        assert null is not None
        assert (values < null).mean() == pytest.approx(0.95, abs=0.02)


def test_the_bias_is_off_and_nothing_is_clipped() -> None:
    rng = np.random.default_rng(2)
    values = module._map(rng.normal(size=(60, 30)), rng.normal(size=(60, 30)), "gaussian", 0, rng, itself=False)[0]
    assert values.min() < 0
    assert abs(values.mean()) < 0.002


def test_a_vector_has_infinite_information_with_itself_and_a_constant_one_none() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(2, 30))
    assert np.isinf(module._map(a, 2 * a + 1, "gaussian", 0, rng, itself=False)[0].diagonal()).all()
    assert np.isnan(module._map(a, a, "copula", 0, rng, itself=True)[0].diagonal()).all()
    constant = module._map(a, np.ones((2, 30)), "copula", 0, rng, itself=False)[0]
    assert (abs(constant) < 0.05).all()


def test_vectors_are_those_of_the_model_and_attention_is_beside(bundled: Any) -> None:
    from infogeo_adapters import capture_activations, capture_channels

    found = token_mutual_information(bundled, TEXT, block=2, head=3, rng=0, unit="bits")
    query, key = capture_channels(bundled, [TEXT], parts=["query", "key"], blocks=[2])
    assert np.array_equal(found.vectors[0], query.y[:, 64:96].astype(np.float64))
    assert np.array_equal(found.vectors[1], key.y[:, 64:96].astype(np.float64))
    acts = capture_activations(bundled, TEXT)
    ordinary = ~acts.special
    assert acts.attention is not None
    assert found.attention == pytest.approx(acts.attention[1, 2][np.ix_(ordinary, ordinary)])
    assert found.tokens == tuple(t for t, s in zip(acts.tokens, acts.special, strict=True) if not s)
    i, j = 3, 5
    assert found.values[i, j] == pytest.approx(
        infogeo.gaussian_copula_mutual_information(query.y[i, 64:96], key.y[j, 64:96], unit="bits"), abs=1e-9
    )
    whole = token_mutual_information(bundled, TEXT, block=2, rng=0)
    assert whole.n == 160
    mean = acts.attention[1].astype(np.float64).mean(axis=0)
    assert whole.attention == pytest.approx(mean[np.ix_(ordinary, ordinary)])
    again = token_mutual_information(bundled, TEXT, block=2, head=3, rng=0, unit="bits")
    assert again.null == found.null
    json.loads(found.to_json())


def test_what_goes_into_feed_forward_against_what_comes_out(bundled: Any) -> None:
    sides = ("feed_forward input", "feed_forward")
    found = token_mutual_information(bundled, TEXT, block=1, sides=sides, permutations=0)
    assert found.null is None
    assert np.isfinite(found.values).all()
    values = token_mutual_information(bundled, TEXT, block=1, sides=("value", "value"), permutations=0)
    assert np.isnan(values.values.diagonal()).all()
    assert values.values == pytest.approx(values.values.T, nan_ok=True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "bart"])
def test_other_families(tiny: Any, family: str) -> None:
    """The tiny Llama has half as many key heads as query heads: only a head's own vectors can be paired."""
    model = tiny(family)
    found = token_mutual_information(model, TEXT, block=2, head=3, rng=0)
    assert found.n == 8
    assert found.attention is not None
    assert found.values.shape == found.attention.shape == (len(found.tokens),) * 2
    assert found.causal is (family in ("gpt2", "llama"))
    if family == "llama":
        with pytest.raises(ShapeError, match="query has 32 components and key 16"):
            token_mutual_information(model, TEXT, block=2)


def test_a_head_reads_the_keys_that_it_shares() -> None:
    y = np.arange(12.0).reshape(1, 12)
    samples = ChannelSamples(part="key", block=1, x=y, y=y, texts=np.zeros(1, int), positions=np.zeros(1, int),
                             token_ids=np.zeros(1, int), heads=2)
    assert [module._vectors(samples, "key", h, 4)[0, 0] for h in (1, 2, 3, 4)] == [0.0, 0.0, 6.0, 6.0]


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"sides": ("query", "keys")}, ArgumentError, "found 'keys'"),
    ({"sides": ("query input", "key")}, ArgumentError, "found 'query input'"),
    ({"sides": "query"}, ArgumentError, "wanted two"),
    ({"head": 6}, ArgumentError, "has 5 heads"), ({"head": 0}, ArgumentError, "at least 1"),
    ({"head": 1, "sides": ("block", "block")}, ArgumentError, "block has no heads"),
    ({"block": 7}, ArgumentError, "1 to 6"), ({"estimator": "mine"}, ArgumentError, "wanted 'copula'"),
    ({"permutations": -1}, ArgumentError, "at least 0"), ({"unit": "dits"}, ArgumentError, "'nats' or 'bits'"),
])
def test_bad_input(bundled: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        token_mutual_information(bundled, TEXT, **{"block": 1, **options})


def test_too_few_components_are_refused() -> None:
    with pytest.raises(DomainError, match="3 components"):
        module._map(np.ones((2, 3)), np.ones((2, 3)), "copula", 0, np.random.default_rng(0), itself=False)


# components through training


def test_components_against_the_public_estimator(bundled: Any) -> None:
    from infogeo_adapters import capture_channels, load_model

    models = {"untrained": load_model("bundled@0"), "trained": bundled}
    texts = [TEXT, "The dog carried the bone to the river and slept."]
    found = dimension_information(models, texts, block=2, unit="bits")
    assert isinstance(found, DimensionInformation)
    assert found.values.shape == (2, 160)
    (samples,) = capture_channels(bundled, texts, parts=["feed_forward"], blocks=[2])
    assert found.n == len(samples.x)
    for c in (0, 77):
        public = infogeo.gaussian_copula_mutual_information(samples.x[:, c], samples.y[:, c], unit="bits")
        assert found.values[1, c] == pytest.approx(public, abs=1e-9)
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"models": {}}, ArgumentError, "models: found {}"), ({"part": "mlp"}, ArgumentError, "part: found 'mlp'"),
        ({"part": "block input"}, ArgumentError, "part: found 'block input'"),
        ({"texts": TEXT}, TextError, "texts: found str, wanted a list"),
        ({"texts": ["The"]}, DomainError, "texts: found 1 tokens, wanted at least 4"),
    ]
    for options, error, words in bad:
        with pytest.raises(error, match=words):
            dimension_information(**{"models": models, "texts": texts, "block": 1, **options})


# divergences


def test_divergences_and_correlations_are_those_of_the_plain_formulas() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 6, 12))
    found = information_scatter(by_hand(a, b), permutations=99, rng=0)
    assert len(found.pairs) == 36
    p, q = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (a, b))
    m = found.pairs.index((2, 4))
    overlap = np.sqrt(p[2] * q[4]).sum()
    middle = (p[2] + q[4]) / 2
    js = 0.5 * (p[2] * np.log(p[2] / middle) + q[4] * np.log(q[4] / middle)).sum()
    from scipy.stats import spearmanr, wasserstein_distance

    expected = {"Jensen–Shannon": np.sqrt(js), "Bhattacharyya": -np.log(overlap),
                "Fisher–Rao": 2 * np.arccos(overlap), "Wasserstein-1": wasserstein_distance(p[2], q[4])}
    for name in DIVERGENCES:
        assert found.divergences[name][m] == pytest.approx(expected[name], abs=1e-9)
        assert found.correlation[name] == pytest.approx(
            spearmanr(found.information, found.divergences[name]).statistic, abs=1e-9
        )
        assert 0 < found.p_value[name] <= 1
    # of monotone maps of each other, ranks are the same
    assert found.correlation["Bhattacharyya"] == pytest.approx(found.correlation["Fisher–Rao"])


def test_p_values_are_the_share_of_names_that_fit_as_well() -> None:
    from itertools import permutations

    from scipy.stats import spearmanr

    rng = np.random.default_rng(4)
    groups = 3.0 * rng.normal(size=(2, 12))[[0, 0, 0, 1, 1]]  # of two kinds, in which all of them are alike
    a, b = groups + rng.normal(size=(2, 5, 12))
    tokens = by_hand(a, b, tokens=tuple("abcde"))
    found = information_scatter(tokens, permutations=2000, rng=0)
    orders = [np.array(order) for order in permutations(range(5))]
    for name, values in found.divergences.items():
        fits = [abs(spearmanr(tokens.values[np.ix_(order, order)].ravel(), values)[0]) for order in orders]
        exact = np.mean(np.array(fits) >= abs(found.correlation[name]) - 1e-12)
        assert found.p_value[name] == pytest.approx(exact, abs=0.04)


def test_what_distance_in_the_text_explains_is_taken_off() -> None:
    """Vectors that differ by place alone: the rank correlation is that of the lag, and nothing is left of it."""
    t = 6
    a = np.random.default_rng(0).normal(size=(t, 12))
    lag = np.abs(np.subtract.outer(np.arange(t), np.arange(t))).astype(float)
    found = information_scatter(by_hand(a, a, values=-lag), permutations=9, rng=0)
    assert all(np.isnan(v) for v in found.given_place.values())
    assert found.correlation["Fisher–Rao"] < 0


def test_scatter_of_a_side_with_itself_takes_each_pair_once() -> None:
    a = np.random.default_rng(0).normal(size=(5, 12))
    found = information_scatter(by_hand(a, a, sides=("value", "value")), permutations=9, rng=1)
    assert len(found.pairs) == 10
    assert np.isfinite(found.information).all()
    assert found.p_value == information_scatter(by_hand(a, a, sides=("value", "value")), permutations=9, rng=1).p_value


def test_bad_scatters() -> None:
    a = np.random.default_rng(0).normal(size=(3, 12))
    with pytest.raises(DomainError, match="at least 4"):
        information_scatter(by_hand(a, a))
    with pytest.raises(ArgumentError, match="what token_mutual_information returns"):
        information_scatter(a)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="attention"):
        by_hand(a, a, attention=np.ones((2, 2)))


# pictures


def figures() -> dict[str, Any]:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    from dataclasses import replace

    from infogeo_adapters import plots
    from infogeo_adapters.information_plane import WordsOnPlane

    rng = np.random.default_rng(0)
    t = np.repeat(np.eye(4), 20, axis=0) + 0.01 * rng.normal(size=(80, 4))
    kind = np.repeat(np.arange(4), 20)
    plane = information_plane([t, t], kind, kind // 2, clusters=4, rng=0, names=("<b>kind</b>", "half"))
    alone = information_plane([t, t], kind, clusters=4, rng=0)
    path = InformationPath(planes=tuple(replace(plane, name=f"<i>{i}</i>") for i in range(4)))
    surprise = rng.random((3, 2))
    surprise[:, 1] = np.nan
    words = WordsOnPlane(words=("<script>", "%{x}"), entropy=rng.random((3, 2)), surprisal=surprise,
                         information=rng.random((3, 2)), geodesic=rng.random((3, 2)), path=rng.random((3, 2)),
                         unit="nats")
    tokens = by_hand(*rng.normal(size=(2, 4, 12)), tokens=("<b>", "%{x}", "a\0b", "&lt;"))
    dims = DimensionInformation(values=rng.random((2, 5)), names=("<b>", "two"), part="feed_forward", block=1,
                                estimator="copula", n=9, unit="nats")
    return {
        "plane": plots.information_plane_figure(plane), "alone": plots.information_plane_figure(alone),
        "path": plots.information_plane_figure(path), "words": plots.words_plane_figure(words),
        "surprise": plots.words_plane_figure(words, x="entropy", y="surprisal", layers=(1, 2)),
        "tokens": plots.token_information_figure(tokens),
        "one map": plots.token_information_figure(replace(tokens, attention=None)),
        "dims": plots.dimension_information_figure(dims),
        "scatter": plots.information_scatter_figure(information_scatter(tokens, permutations=9, rng=0)),
    }


def test_figures_show_what_was_given_and_no_name_is_markup() -> None:
    drawn = figures()
    for figure in drawn.values():
        plain = json.loads(figure.to_json())
        plain["layout"].pop("meta")
        rest = json.dumps(plain, ensure_ascii=False)
        for tag in ("<b>", "</b>", "<br>", "<extra>", "</extra>"):
            rest = rest.replace(tag, "")
        assert "<" not in rest
        assert all("%{x}" not in str(t.get("hovertemplate", "")) or "4g" in t["hovertemplate"] or "component" in
                   t["hovertemplate"] for t in plain["data"])
        meta = figure.layout.meta
        assert meta["min_width"] <= meta["max_width"]
        assert figure.layout.height >= 150
    markers = drawn["plane"].data[1]
    assert list(markers.x) == pytest.approx([np.log(4)] * 2, abs=0.05)
    assert list(markers.error_x.array) == pytest.approx([0.0, 0.0], abs=0.2)
    assert [s.type for s in drawn["plane"].layout.shapes] == ["line", "line"]
    assert len(set(markers.textposition)) == 2  # two layers at the same place, their numbers apart
    assert drawn["tokens"].layout.xaxis.title.text == "key of token"
    assert drawn["tokens"].layout.yaxis2.title.text == "from token"
    assert drawn["scatter"].layout.xaxis3.title.text == "Fisher–Rao distance (radians)"
    assert len(drawn["path"].data) == 8
    assert "half" not in drawn["alone"].layout.xaxis.title.text
    assert list(drawn["alone"].data[1].x) == [0, 1]
    assert len(drawn["tokens"].data) == 2
    assert len(drawn["one map"].data) == 1
    assert sum(v is not None for v in drawn["surprise"].data[1].x) == 4


def test_figures_refuse_other_things() -> None:
    from infogeo_adapters import plots

    for draw in (plots.information_plane_figure, plots.words_plane_figure, plots.token_information_figure,
                 plots.dimension_information_figure, plots.information_scatter_figure):
        with pytest.raises(ArgumentError, match="found int, wanted"):
            draw(3)  # type: ignore[operator]


def test_names_of_words_at_one_place_stand_apart() -> None:
    pytest.importorskip("plotly", reason="needs the extra: pip install 'infogeo[plots]'")
    from infogeo_adapters.plots import information as drawing

    x, y = np.array([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]), np.array([[4.0, 4.0, 0.0], [2.0, 2.0, 2.0]])
    (_, names), _, (low, high) = drawing._named_ends(("one", "two", "three"), x, y)
    pixels = np.sort(np.array(names.y)) / (4.0 / (drawing.HEIGHT - 60))
    assert (np.diff(pixels) >= 13).all()
    assert low < min(names.y)
    assert max(names.y) < high
