"""Ensembles chosen with labels, and local influence as a family: planted answers, slow twins, both kinds of models."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

from conftest import few_sentences
from model_zoo import VOCABULARY, make_specimen, make_tokenizer
from test_treebank_comparison import QUICK, make_bank, same

from infogeo import DependencyTree, score_closeness
from infogeo.errors import ArgumentError, ModelError, ShapeError
from infogeo_adapters import capture_activations, compare_with_treebank, load_model, local_influence
from infogeo_adapters.treebank import _greedy
from infogeo_adapters.treebank._facts import facts_of
from infogeo_adapters.treebank._greedy import choose_members
from infogeo_adapters.treebank._variants import EXPONENTS, JOINT_EXPONENTS, joint_choices, layer_sets
from infogeo_adapters.treebank.combined import InfluenceWithAttention, JointInfluence
from infogeo_adapters.treebank.ensembles import RelativeEnsembles
from infogeo_adapters.treebank.families import SentenceReading
from infogeo_adapters.treebank.influence import EdgeInfluenceGraphs, RelativeInfluence
from infogeo_adapters.treebank.local import LocalInfluenceGraphs
from infogeo_adapters.treebank.relative_attention import RelativeAttention

pytestmark = pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")

SENTENCES = ("She sells sea shells.", "The old man and his children ran home.", "It is cold outside today.")
TREES = make_bank(30, seed=5, longest=12).trees


def symmetric(values):
    return values + np.swapaxes(values, -1, -2)


def logs(n):
    return np.array([[np.log(max(abs(i - j), 1)) for j in range(n)] for i in range(n)])


def gold_of(tree, pick=lambda place: True):
    """(n, n) one where a relation joins two words, those that are picked only."""
    found = np.zeros((len(tree), len(tree)))
    for place, (d, h) in enumerate(tree.edges().tolist()):
        if pick(place):
            found[d, h] = found[h, d] = 1.0
    return found


def noise(count, seed=0):
    rng = np.random.default_rng(seed)
    return [symmetric(rng.normal(size=(count, len(t), len(t)))) for t in TREES]


def share(closeness, trees):
    scores = [score_closeness(c[None], t) for c, t in zip(closeness, trees, strict=True)]
    return sum(int(s.hits_without_punctuation.sum()) for s in scores) / sum(int(s.kept.sum()) for s in scores)


def slow(features, trees, most, exponents):
    """The rule word by word: every measurement with every exponent, scored by the public function."""
    chosen, scores, kept = [], [], 0.0
    while len(chosen) < min(most, len(features[0])):
        best = (-1.0, 0, 0.0)
        for exponent in (None,) if exponents is None else exponents:
            for k in range(len(features[0])):
                if k in chosen:
                    continue
                means = [f[[*chosen, k]].astype(float).mean(axis=0) for f in features]
                found = share([m - (exponent or 0) * logs(len(m)) for m in means], trees)
                if found > best[0] + 1e-12:
                    best = (found, k, exponent or 0.0)
        if scores and best[0] <= scores[-1] + 1e-12:
            break
        scores.append(best[0])
        chosen.append(best[1])
        kept = best[2]
    return tuple(chosen), kept, scores


# The rule


def test_two_halves_of_the_relations_are_found_and_nothing_is_added_to_them():
    features = noise(7)
    for maps, tree in zip(features, TREES, strict=True):
        maps[5] = gold_of(tree, lambda place: place % 2 == 0) + 1e-3 * maps[5]
        maps[2] = gold_of(tree, lambda place: place % 2 == 1) + 1e-3 * maps[2]
    found = choose_members(features, TREES, most=4)
    assert set(found.members) == {2, 5}
    assert len(found.scores) == 2
    assert found.scores[0] < found.scores[1] == 1.0
    assert found.exponent == 0.0
    assert len(choose_members(features, TREES, most=1).members) == 1


@pytest.mark.parametrize("planted", EXPONENTS)
def test_the_exponent_that_the_relations_ask_for_is_chosen(planted):
    features = noise(5)
    for maps, tree in zip(features, TREES, strict=True):
        maps[3] = planted * logs(len(tree)) + 0.05 * gold_of(tree)
    found = choose_members(features, TREES, most=1, exponents=EXPONENTS)
    assert (found.members, found.exponent, found.scores) == ((3,), planted, (1.0,))


def test_measurements_that_are_all_alike_are_taken_once():
    features = [np.repeat(maps, 6, axis=0) for maps in noise(1)]
    found = choose_members(features, TREES, most=4)
    assert found.members == (0,)
    assert choose_members(features, TREES, most=4, exponents=(1.0, 1.0)).members == (0,)


def test_relations_of_punctuation_do_not_count():
    features = noise(3)
    assert any(tree.punctuation.any() for tree in TREES)
    for maps, tree in zip(features, TREES, strict=True):
        dots = tree.punctuation[:, None] | tree.punctuation
        maps[1] = np.where(dots, 0.0, gold_of(tree))
        maps[2] = np.where(dots, 9.0 * gold_of(tree), maps[2])
    found = choose_members(features, TREES, most=4)
    assert (found.members, found.scores) == ((1,), (1.0,))


@pytest.mark.parametrize("memory", [32e6, 1.0])
@pytest.mark.parametrize("exponents", [None, (0.5, 1.5)])
def test_members_are_those_of_a_slow_loop(exponents, memory, monkeypatch):
    monkeypatch.setattr(_greedy, "MEMORY", memory)
    trees = TREES[:10]
    features = noise(5, seed=3)[:10]
    for k, (maps, tree) in enumerate(zip(features, trees, strict=True)):
        maps[:4] += 1.5 * np.random.default_rng(k).uniform(size=(4, 1, 1)) * gold_of(tree)
    features = [maps.astype(np.float32) for maps in features]
    found = choose_members(features, trees, most=3, exponents=exponents)
    members, exponent, scores = slow(features, trees, 3, exponents)
    assert len(members) > 1
    assert (found.members, found.exponent) == (members, exponent)
    assert found.scores == pytest.approx(scores)


def test_sentences_without_a_relation_that_counts_change_nothing():
    features = noise(4, seed=1)
    dot = DependencyTree.from_words(["word", "."], [-1, 0], tags=["NOUN", "PUNCT"])
    more = [*features, np.zeros((4, 2, 2))]
    one, other = choose_members(features, TREES, most=2), choose_members(more, [*TREES, dot], most=2)
    assert (one.members, one.scores) == (other.members, other.scores)
    with pytest.raises(ArgumentError, match="found no relation between words that are no punctuation"):
        choose_members([np.zeros((4, 2, 2))], [dot], most=2)
    with pytest.raises(ShapeError, match="found 30 arrays for 31 trees"):
        choose_members(features, [*TREES, dot], most=2)
    with pytest.raises(ShapeError, match=r"features of 's0': found shape"):
        choose_members([f[:, :-1] for f in features], TREES, most=2)


# Models


@pytest.fixture(scope="module")
def encoder():
    return load_model(make_specimen("bert"), tokenizer=make_tokenizer())


@pytest.fixture(scope="module")
def causal():
    return load_model(make_specimen("gpt2"), tokenizer=make_tokenizer(model_max_length=120))


@pytest.fixture(params=["encoder", "causal"])
def any_kind(request):
    with few_sentences():
        yield request.getfixturevalue(request.param)


def read(model):
    found = capture_activations(model, list(SENTENCES))
    trees = [DependencyTree.from_words(a.words, [-1, *range(len(a.words) - 1)]) for a in found]
    return [SentenceReading(tree=tree, activations=a) for tree, a in zip(trees, found, strict=True)]


@pytest.mark.parametrize("of", ["influence", "attention"])
def test_an_ensemble_names_what_it_chose_and_is_its_mean_less_the_prior(any_kind, of):
    readings = read(any_kind)
    family = RelativeEnsembles(any_kind, of=of)
    family.prepare(any_kind, [])
    features = family.features(any_kind, readings)
    trees = [r.tree for r in readings]
    fitted = family.fit(features, trees)
    assert family.kind == "supervised"
    assert (fitted.members, fitted.exponent) == slow(features, trees, 4, EXPONENTS)[:2]
    assert fitted.label == f"{'; '.join(fitted.names)}; prior {fitted.exponent}"
    singles = singles_of(any_kind, readings, of)
    assert len(features[0]) == len(singles)
    for values, own, tree, s in zip(fitted.closeness(features), features, trees, range(len(trees)), strict=True):
        n = len(tree)
        assert values.shape == (1, n, n)
        assert np.isfinite(values).all()
        assert np.array_equal(values, values.swapaxes(1, 2))
        for k, name in enumerate(singles):
            np.testing.assert_allclose(own[k], singles[name][s], rtol=1e-5, atol=1e-5)
        mean = np.mean([singles[name][s] for name in fitted.names], axis=0)
        np.testing.assert_allclose(values[0], mean - fitted.exponent * logs(n), rtol=1e-5, atol=1e-5)


def singles_of(model, readings, of):
    """Each measurement without prior, as the families of single measurements have it, by the name it has there."""
    families = [RelativeAttention(model)]
    if of == "influence":
        families = [RelativeInfluence(model), EdgeInfluenceGraphs(model, relative=True)]
    found = {}
    for family in families:
        family.prepare(model, [])
        closeness = family.closeness(model, readings)
        for k, variant in enumerate(family.variants):
            name, _, prior = variant.partition(", prior ")
            if float(prior) == 1.0 and not name.startswith("layers"):
                found[name] = [c[k] + logs(c.shape[-1]) for c in closeness]
    return found


def test_ensembles_refuse_what_they_cannot_do(encoder):
    with pytest.raises(ArgumentError, match="most"):
        RelativeEnsembles(encoder, most=0)
    with pytest.raises(ArgumentError, match="of: found 'heads', wanted 'influence' or 'attention'"):
        RelativeEnsembles(encoder, of="heads")
    mamba = load_model(make_specimen("mamba"), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match="no attention"):
        RelativeEnsembles(mamba)


def test_ensembles_and_local_influence_go_on_where_they_were_cut_off(any_kind, tmp_path):
    families = [
        "influence, ensemble", "attention, head ensemble", "attention, head ensemble, relative to distance",
        "local influence",
    ]
    bank = make_bank(10, longest=6)
    before = compare_with_treebank(any_kind, bank, families=families, folder=tmp_path, **QUICK)
    for path in list(tmp_path.glob("batch-*"))[::2]:
        path.unlink()
    after = compare_with_treebank(any_kind, bank, families=families[::-1], folder=tmp_path, **QUICK)
    assert not same(before, after)  # families stand in another order
    assert same(before, compare_with_treebank(any_kind, bank, families=families, folder=tmp_path, **QUICK))
    for name in families:
        assert after.estimate(name).value == before.estimate(name).value


# Many variants


def test_fewer_layers_and_exponents_are_tried_where_there_are_many_heads():
    parts = 24 * 16 + 24
    upper = [s for s in layer_sets(24) if s[0] > 12 and len(s) < 3]
    assert len(upper) * parts * len(JOINT_EXPONENTS) > 15_000
    assert joint_choices(24, parts, 100_000) == (tuple(upper), JOINT_EXPONENTS)
    single = tuple((layer,) for layer in range(13, 25))
    assert joint_choices(24, parts, 12 * parts * len(JOINT_EXPONENTS)) == (single, JOINT_EXPONENTS)
    assert joint_choices(24, parts, 12 * parts * len(JOINT_EXPONENTS) - 1) == (single, (1.5,))
    assert joint_choices(24, parts, 5_000) == (single, (1.5,))
    (one,), exponents = joint_choices(24, parts, 12 * parts - 1)
    assert exponents == (1.5,)
    assert set(one) <= set(range(13, 25))
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=24, num_attention_heads=16, hidden_size=32, intermediate_size=8
    )
    large = load_model(BertForMaskedLM(config).eval(), tokenizer=tokenizer)
    assert len(JointInfluence(large).variants) == 12 * parts
    assert len(InfluenceWithAttention(large).variants) == 12 * 24 * 16


@pytest.mark.parametrize("family", [JointInfluence, InfluenceWithAttention])
def test_what_is_left_of_the_variants_is_what_it_was_among_all(any_kind, family):
    readings = read(any_kind)[:2]
    whole = family(any_kind)
    whole.prepare(any_kind, [])
    full = whole.closeness(any_kind, readings)
    counts = [len(whole.variants)]
    for least in (1, 2):
        most = counts[-1] - 1
        part = family(any_kind, most_variants=most)
        part.prepare(any_kind, [])
        counts.append(len(part.variants))
        assert counts[-1] <= most or least == 2
        found = part.closeness(any_kind, readings)
        for values, all_values in zip(found, full, strict=True):
            assert len(values) == len(part.variants)
            for name, one in zip(part.variants, values, strict=True):
                if name in whole.variants:
                    np.testing.assert_allclose(one, all_values[whole.variants.index(name)], rtol=1e-6, atol=1e-6)
        assert facts_of(part).keys() == facts_of(whole).keys()
        assert facts_of(part)["variants"] != facts_of(whole)["variants"]
    assert counts[0] > counts[1]
    assert not any("most_variants" in name for name in facts_of(whole))
    with pytest.raises(ArgumentError, match="most_variants"):
        family(any_kind, most_variants=0)


def test_a_choice_that_there_is_not_is_refused(encoder):
    with pytest.raises(ArgumentError, match="choice: found 'entropy', wanted 'labels' or 'none'"):
        JointInfluence(encoder, choice="entropy")


# Local influence


def test_local_influence_is_that_of_single_calls_in_both_directions(any_kind):
    family = LocalInfluenceGraphs(any_kind)
    assert family.variants == (
        "layer 1 to 2", "layer 1 to 3", "layer 2 to 3", "layer 1 to 2 and 2 to 3",
    )
    readings = read(any_kind)
    family.prepare(any_kind, [])
    for values, reading in zip(family.closeness(any_kind, readings), readings, strict=True):
        n = len(reading.tree)
        wanted = []
        for at, layer in ((1, 2), (1, 3), (2, 3)):
            alone = local_influence(
                any_kind, reading.activations.text, words=[tuple(map(int, s)) for s in reading.activations.word_spans],
                layers=layer, at=at, direction="deviation", distribution="unit",
            )
            one = np.zeros((n, n))
            for i in range(n):
                for j in range(i):
                    rows = [alone.values[0][i, j] / alone.values[0][i].sum()]
                    if not alone.causal:
                        rows.append(alone.values[0][j, i] / alone.values[0][j].sum())
                    one[i, j] = one[j, i] = np.mean(np.log(rows))
            wanted.append(one)
        wanted.append(wanted[0] + wanted[2])
        off = ~np.eye(n, dtype=bool)
        assert values.shape == (4, n, n)
        assert np.isfinite(values).all()
        assert np.array_equal(values, values.swapaxes(1, 2))
        np.testing.assert_allclose(values[:, off], np.stack(wanted)[:, off], rtol=1e-4, atol=1e-4)


def test_local_influence_needs_two_blocks():
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = make_tokenizer()
    config = GPT2Config(
        vocab_size=VOCABULARY, n_layer=1, n_head=2, n_embd=16, n_positions=40, bos_token_id=None, eos_token_id=None
    )
    model = load_model(GPT2LMHeadModel(config).eval(), tokenizer=tokenizer)
    with pytest.raises(ModelError, match="has 1 blocks, too few to move one layer and read another"):
        LocalInfluenceGraphs(model)
