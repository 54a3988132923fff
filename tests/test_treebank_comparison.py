"""Word graphs of a model against a treebank: reading, guards, stores that survive, twins, families with labels."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

from conftest import few_sentences
from model_zoo import make_specimen, make_tokenizer

from infogeo import AffinityMatrix, DependencyTree, Treebank, minimum_spanning_tree
from infogeo.errors import (
    ArgumentError,
    DomainError,
    FormatError,
    ModelError,
    OutputError,
    ShapeError,
)
from infogeo.results import Source
from infogeo_adapters import capture_activations, compare_with_treebank, family_names, load_model, untrained_twin
from infogeo_adapters.treebank import influence as families_of_influence
from infogeo_adapters.treebank import relative_attention, runner, store
from infogeo_adapters.treebank._facts import facts_of
from infogeo_adapters.treebank.attention import AttentionHeads
from infogeo_adapters.treebank.families import SentenceReading
from infogeo_adapters.treebank.registry import FAMILIES, ON_REQUEST, make_families
from infogeo_adapters.treebank.runner import plan_sentences

pytestmark = pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")

ROOT = Path(__file__).resolve().parents[1]
BATCH = 40
"""Tokens: few, so that a small treebank has many batches."""
BATCHES_OF_THE_FORMAT = [(64, 4, 4735), (33, 19, 2489), (19, 29, 1464), (15, 34, 861), (14, 37, 1308), (5, 40, 318)]
"""Sentences, words of the shortest, and sum of the places, by batch."""
QUICK: dict[str, Any] = {"resamples": 50, "untrained": False, "batch_tokens": BATCH, "reference": None}


def make_bank(count: int = 24, seed: int = 0, *, longest: int = 9) -> Treebank:
    """Random trees over random words, half of them with a period."""
    rng = np.random.default_rng(seed)
    trees = []
    for k in range(count):
        n = int(rng.integers(4, longest + 1))
        order = rng.permutation(n)
        heads = np.full(n, -1)
        for place in range(1, n):
            heads[order[place]] = order[rng.integers(place)]
        words = [f"word{int(i)}" for i in rng.integers(40, size=n)]
        tags = ["NOUN"] * n
        if k % 2 and (heads != n - 1).all() and heads[-1] >= 0:
            words[-1], tags[-1] = ".", "PUNCT"
        trees.append(DependencyTree.from_words(words, heads, tags=tags, name=f"s{k}", line=1 + 10 * k))
    return Treebank(trees=tuple(trees), source=Source())


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(make_specimen("bert"), tokenizer=make_tokenizer())


@pytest.fixture(scope="module")
def bank() -> Treebank:
    return make_bank()


@dataclass
class Toy:
    """Closeness from the states of a layer, in two variants; it can fail or wait on the way."""

    name: str = "toy"
    kind: str = "vectors"
    scale: float = 1.0
    variants: tuple[str, ...] = field(default=("inner product", "minus it"), init=False)

    def __post_init__(self) -> None:
        self.calls: list[list[str]] = []
        self.prepared = 0
        self.spoil: Any = None

    def prepare(self, model: Any, texts: Any) -> None:
        self.prepared += 1

    def closeness(self, model: Any, readings: Any) -> list[Any]:
        self.calls.append([r.tree.name for r in readings])
        found = []
        for r in readings:
            v = r.activations.word_vectors(2)
            found.append(np.stack([v @ v.T, -(v @ v.T)]) * self.scale)
        return found if self.spoil is None else self.spoil(found, readings)


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, but for the times."""
    tables = one.scores.to_arrays(), other.scores.to_arrays()
    for name, values in tables[0].items():
        if not np.array_equal(values, tables[1][name], equal_nan=values.dtype.kind == "f"):
            return False
    plain = [dict(found.to_dict()) for found in (one, other)]
    for entry in plain:
        entry.pop("seconds")
        entry.pop("shared_seconds")
    return bool(json.dumps(plain[0]) == json.dumps(plain[1]))


# Numbers


def test_scores_are_those_of_a_slow_loop_over_sentences_each_captured_alone(model, bank):
    found = compare_with_treebank(model, bank, families=["attention head", Toy()], **QUICK)
    heads = AttentionHeads(model)
    hits = {variant: np.zeros(len(bank)) for variant in (*heads.variants, "inner product")}
    total = np.zeros(len(bank))
    for s, tree in enumerate(bank.trees):
        spans = [tuple(map(int, span)) for span in tree.spans]
        acts = capture_activations(model, tree.text, words=spans)
        words = np.flatnonzero(~tree.punctuation)
        gold = {frozenset((int(d), int(h))) for d, h in tree.edges() if {int(d), int(h)} <= set(words.tolist())}
        total[s] = len(gold)
        maps = acts.word_attention()
        matrices = {f"block {b + 1}, head {h + 1}": maps[b, h] for b in range(3) for h in range(2)}
        vectors = acts.word_vectors(2)
        inner = vectors @ vectors.T
        matrices["inner product"] = np.exp(inner / np.abs(inner).max())  # an affinity is not negative
        for variant, matrix in matrices.items():
            both = ((matrix + matrix.T) / 2)[np.ix_(words, words)]
            affinity = AffinityMatrix(
                values=both, words=tuple(tree.words[w] for w in words), directed=False, name="x", source=Source()
            )
            graph = minimum_spanning_tree(affinity)
            pairs = {frozenset(words[list(edge)].tolist()) for edge in graph.edges.tolist()}
            hits[variant][s] = len(gold & pairs)
    counts = found.scores.counts("all")
    assert found.scores.totals("all").tolist() == total.tolist()
    columns = [*(f"attention head: {v}" for v in heads.variants), "toy: inner product"]
    names = [f"{f.name}: {v}" for f in found.scores.families for v in f.variants]
    for column in columns:
        assert counts[:, names.index(column)].tolist() == hits[column.partition(": ")[2]].tolist(), column


def test_sentences_in_batches_get_the_scores_they_get_alone(model, bank):
    together, alone = (
        compare_with_treebank(model, bank, families=["attention head", "cosine", Toy()], **{**QUICK, "batch_tokens": n})
        for n in (4096, 1)
    )
    np.testing.assert_array_equal(together.scores.hits, alone.scores.hits)
    np.testing.assert_allclose(together.scores.correlations, alone.scores.correlations, atol=1e-12)


def test_scores_stand_in_the_order_of_the_treebank_and_halves_are_its_halves(model):
    bank = make_bank(21)
    short = [tree.skipped("read badly") for tree in bank.trees[:4]]
    found = compare_with_treebank(model, bank.with_skipped(short), families=[Toy()], **QUICK)
    assert found.scores.sentences == tuple(f"s{k}" for k in range(4, 21))
    # 21 sentences are cut after the tenth, the four skipped ones counted
    assert [c.n_sentences for c in found.choices] == [11, 6]
    assert [s.reason for s in found.skipped] == ["read badly"] * 4


def test_one_capture_serves_all_families(model, bank, monkeypatch):
    captured = []

    def counting(model, texts, **options):
        captured.append((len(texts), options["attention"]))
        return capture_activations(model, texts, **options)

    monkeypatch.setattr(runner, "capture_activations", counting)
    toy = Toy()
    compare_with_treebank(model, bank, families=[toy, "attention head", "cosine"], **QUICK)
    plan = plan_sentences(model, bank, batch_tokens=BATCH)
    assert len(plan.batches) > 3
    assert captured == [(len(batch), True) for batch in plan.batches]
    assert toy.calls == [[bank.trees[i].name for i in batch] for batch in plan.batches]
    lengths = [len(bank.trees[i]) for batch in plan.batches for i in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("name", [name for name in family_names() if name.startswith("influence")])
def test_measurements_that_influence_families_share_are_those_of_the_very_sentences(tiny, name):
    model, bank = tiny("bert"), make_bank(6, longest=5)
    try:
        make_families(model, [name])
    except ModelError:
        pytest.skip(f"a masked model has no {name}; the comparison of all families on gpt2 has it")
    with few_sentences():
        one, other = (
            compare_with_treebank(model, bank, families=[name], **{**QUICK, "batch_tokens": n}) for n in (4096, 1)
        )
    np.testing.assert_allclose(one.scores.correlations, other.scores.correlations, atol=0.05)


def test_no_batch_has_more_sentences_than_an_interruption_may_cost(model):
    bank = make_bank(runner.BATCH_SENTENCES + 6, longest=4)
    plan = plan_sentences(model, bank, batch_tokens=100_000)
    assert sorted(len(batch) for batch in plan.batches) == [6, runner.BATCH_SENTENCES]


def test_no_batch_has_more_pairs_of_words_than_memory_may_be_taken_for(model, monkeypatch):
    bank = make_bank(12)
    monkeypatch.setattr(runner, "BATCH_PAIRS", 100)
    plan = plan_sentences(model, bank, batch_tokens=100_000)
    pairs = [[len(bank.trees[i]) ** 2 for i in batch] for batch in plan.batches]
    assert sorted(i for batch in plan.batches for i in batch) == list(range(12))
    assert all(sum(some) <= 100 for some in pairs)
    assert all(sum(some) + after[0] > 100 for some, after in itertools.pairwise(pairs))


def test_both_decoders_are_scored_side_by_side(model, bank):
    both = compare_with_treebank(model, bank, families=[Toy()], decoder=["spanning", "projective"], **QUICK)
    one = compare_with_treebank(model, bank, families=[Toy()], decoder="projective", **QUICK)
    assert both.decoders == ("spanning", "projective")
    assert both.estimate("toy", decoder="projective").value == one.estimate("toy").value
    assert both.estimate("toy", decoder="spanning").value != one.estimate("toy").value


def test_large_closeness_is_scored_in_parts_that_add_up(model, bank, monkeypatch):
    from infogeo_adapters.treebank import _scoring

    families = [Toy(name=f"toy {k}", scale=k + 1.0) for k in range(3)]
    whole = compare_with_treebank(model, bank, families=families, **QUICK)
    monkeypatch.setattr(_scoring, "HELD", 1.0)
    assert same(compare_with_treebank(model, bank, families=families, **QUICK), whole)


def test_progress_counts_sentences_of_both_treebanks(model, bank):
    shown: list[tuple[int, int]] = []
    other = make_bank(6, seed=5)
    compare_with_treebank(
        model, bank, choose=other, families=[Toy()], progress=lambda done, total: shown.append((done, total)), **QUICK
    )
    done = [d for d, _ in shown]
    assert done == sorted(set(done))
    assert shown[-1] == (30, 30)
    assert 24 in done


def test_each_family_has_its_own_time(model, bank):
    slow = Toy(name="slow")

    def wait(found, readings):
        time.sleep(0.02)
        return found

    slow.spoil = wait
    found = compare_with_treebank(model, bank, families=[Toy(), slow], **QUICK)
    assert found.seconds["slow"] >= 0.02 * len(slow.calls)
    assert found.seconds["slow"] > found.seconds["toy"] > 0
    assert found.shared_seconds.keys() == {"capture", "scoring"}
    columns, rows = found.rows()
    assert columns[-1] == "seconds"
    assert [row[-1] for row in rows] == [found.seconds["toy"], found.seconds["slow"]]


def test_the_model_is_left_as_it_was(bank, restored):
    net = make_specimen("bert").train()
    restored(net)
    toy = Toy()
    toy.spoil = lambda found, readings: 1 / 0
    with pytest.raises(ZeroDivisionError):
        compare_with_treebank(load_model(net, tokenizer=make_tokenizer()), bank, families=[toy], **QUICK)


# Sentences that cannot be used


def tree_of(text: str, spans: list[tuple[int, int]], name: str, line: int) -> DependencyTree:
    n = len(spans)
    return DependencyTree(
        words=tuple(text[i:j] for i, j in spans), heads=np.arange(-1, n - 1), relations=("root", *["dep"] * (n - 1)),
        tags=("NOUN",) * n, text=text, spans=np.array(spans), name=name, line=line,
    )


def test_sentences_that_cannot_be_used_are_named_and_counted_with_a_reason(model):
    good = make_bank(8)
    bad = [
        tree_of("the cats sat down", [(0, 3), (4, 7), (7, 8), (9, 12), (13, 17)], "clitic", 1001),
        DependencyTree.from_words(["word1"] * 31, [-1, *[0] * 30], name="long", line=1002),
        DependencyTree.from_words(["a", "b", ".", "!"], [-1, 0, 0, 0], tags=["X", "X", "PUNCT", "PUNCT"], name="two",
                                  line=1003),
        DependencyTree.from_words(["\x00", "b", "c"], [-1, 0, 0], name="nul", line=1004),
        DependencyTree.from_words(["word1"] * 11, [-1, *[0] * 10], name="wordy", line=1005),
    ]
    bank = Treebank(trees=(*good.trees, *bad), source=Source())
    found = compare_with_treebank(model, bank, families=[Toy()], lengths=(3, 10), **QUICK)
    reasons = {s.name: s.reason for s in found.skipped}
    assert reasons.keys() == {"clitic", "long", "two", "nul", "wordy"}
    assert "word 2 ('s', characters 7 to 8) has no token of its own" in reasons["clitic"]
    assert "31 of its 31 words" in reasons["long"]  # too long for the limit before it is for the context
    assert "2 of its 4 words are no punctuation, wanted 3 to 10" in reasons["two"]
    assert "NUL" in reasons["nul"]
    assert "11 of its 11 words" in reasons["wordy"]
    assert found.n_sentences == 8
    assert "5 sentences skipped" in found.summary()
    assert found.skipped_rows()[1][0] == ("clitic", 1001, reasons["clitic"])
    with_long = compare_with_treebank(model, bank, families=[Toy()], **QUICK)
    reasons = {s.name: s.reason for s in with_long.skipped}
    assert "32 tokens" in reasons["long"]
    assert "the context of" in reasons["long"]
    assert "wordy" not in reasons


def test_a_sentence_that_a_family_reads_twice_must_fit_the_context_twice(bank):
    model = load_model(make_specimen("gpt2"), tokenizer=make_tokenizer())
    long = DependencyTree.from_words(["word1"] * 20, [-1, *[0] * 19], name="long", line=1001)
    bank = Treebank(trees=(*bank.trees, long), source=Source())
    once = compare_with_treebank(model, bank, families=[Toy()], **QUICK)
    assert once.skipped == ()
    toy = Toy()
    toy.reading = "twice"
    (skipped,) = compare_with_treebank(model, bank, families=["adjacent words", toy], **QUICK).skipped
    assert skipped.name == "long"
    assert "twice in a row" in skipped.reason
    assert "41 tokens" in skipped.reason


def test_only_the_first_sentences_are_read_if_so_many_are_wanted(model, bank):
    cut = bank.with_skipped([bank.trees[k].skipped("bad") for k in (2, 20)])
    found = compare_with_treebank(model, cut, families=[Toy()], sentences=10, **QUICK)
    assert found.scores.sentences == ("s0", "s1", *(f"s{k}" for k in range(3, 11)))
    assert [s.name for s in found.skipped] == ["s2"]


def test_a_treebank_of_which_no_sentence_can_be_used_is_refused(model, bank):
    with pytest.raises(DomainError, match=r"24 sentences skipped; s0 .*wanted at least 30"):
        compare_with_treebank(model, bank, families=[Toy()], lengths=(30, None), **QUICK)


# Families that give what is no closeness


def spoiled(change: Any) -> Toy:
    toy = Toy()
    toy.spoil = lambda found, readings: change(found)
    return toy


def set_entry(i: int, j: int, value: float) -> Any:
    def change(found: list[Any]) -> list[Any]:
        found[-1][1, i, j] = value
        return found

    return change


@pytest.mark.parametrize(("change", "error", "said"), [
    (set_entry(0, 1, np.nan), DomainError, "family 'toy', variant 'minus it', sentence '.*nan for words 0 .* and 1 "),
    (set_entry(2, 0, -np.inf), DomainError, "variant 'minus it'.*-inf"),
    (set_entry(0, 1, 1e9), DomainError, "variant 'minus it', sentence 's.*differs from its transpose by 1e"),
    (lambda f: f[:-1], ShapeError, "family 'toy': found . results for . sentences"),
    (lambda f: f[0], ShapeError, "family 'toy': found ndarray"),
    (lambda f: [x[:1] for x in f], ShapeError, r"family 'toy', sentence 's.*shape \(1, 4, 4\), wanted .*\(2, 4, 4\)"),
    (lambda f: [x[:, 1:] for x in f], ShapeError, r"shape \(2, 3, 4\)"),
    (lambda f: [x.astype(complex) for x in f], ShapeError, "complex128"),
])
def test_a_family_that_gives_no_closeness_is_named(model, bank, change, error, said):
    with pytest.raises(error, match=said):
        compare_with_treebank(model, bank, families=[Toy(name="fine"), spoiled(change)], **QUICK)


def test_the_diagonal_means_nothing_and_rounding_is_let_pass(model, bank):
    def harmless(found: list[Any]) -> list[Any]:
        for x in found:
            x[:, np.arange(x.shape[1]), np.arange(x.shape[1])] = np.nan
            x[0, 0, 1] *= 1 + 1e-14
        return found

    found, plain = (compare_with_treebank(model, bank, families=[toy], **QUICK) for toy in (spoiled(harmless), Toy()))
    np.testing.assert_array_equal(found.scores.hits, plain.scores.hits)


def test_an_error_inside_a_family_says_which_family_and_sentence(model, bank):
    toy = Toy()

    def refuse(found, readings):
        if any(r.tree.name == "s7" for r in readings):
            raise DomainError("the vector of word 0 is zero")
        return found

    toy.spoil = refuse
    with pytest.raises(DomainError, match=r"family 'toy', sentence 's7' \(line 71\): the vector of word 0 is zero"):
        compare_with_treebank(model, bank, families=[toy], **QUICK)


def test_a_model_that_computes_nan_of_one_sentence_is_named_with_it(bank):
    import torch

    net = make_specimen("bert")
    bad = DependencyTree.from_words(["cat", "sat", "on", "mat"], [-1, 0, 0, 0], name="bad", line=999)
    lonely = Treebank(trees=(*bank.trees, bad), source=Source())
    model = load_model(net, tokenizer=make_tokenizer())
    with torch.no_grad():
        net.get_input_embeddings().weight[model.tokenizer.convert_tokens_to_ids("cat")] = torch.inf
    with pytest.raises(ModelError, match=r"sentence 'bad' \(line 999\): the attention .* nan"):
        compare_with_treebank(model, lonely, families=[Toy()], **QUICK)


# Which families


def test_every_family_bears_the_name_it_is_asked_for_by(tiny):
    model = tiny("gpt2")
    assert family_names() == tuple(FAMILIES)
    found, refused = make_families(model)
    assert refused == {}
    assert tuple(f.name for f in found) == tuple(name for name in FAMILIES if name not in ON_REQUEST)
    for name in ON_REQUEST:
        assert [f.name for f in make_families(model, [name])[0]] == [name]


@pytest.mark.parametrize(("families", "said"), [
    (["attention head", "no such"], r"'no such' is no family; family_names\(\) lists all"),
    (["Cosine"], "'Cosine' is no family; closest: 'cosine'"),
    (["cosine", "cosine"], "found 'cosine' twice"),
    ("cosine", "found the text 'cosine'"),
    ([], "found none"),
    ([Toy], "found the class Toy"),
    ([object()], "found object without name, kind, prepare, variants, closeness"),
])
def test_families_that_are_none_are_refused(model, bank, families, said):
    with pytest.raises(ArgumentError, match=said):
        compare_with_treebank(model, bank, families=families, **QUICK)


def test_a_model_without_attention_is_compared_without_it_and_says_why(bank, monkeypatch):
    for slow in ("structural probe", "Fisher-Rao, shared covariance"):
        monkeypatch.delitem(FAMILIES, slow)
    model = load_model(make_specimen("fnet"), tokenizer=make_tokenizer())
    options = {name: value for name, value in QUICK.items() if name != "reference"}
    found = compare_with_treebank(model, bank, **options)
    names = {family.name for family in found.families}
    assert {"cosine", "adjacent words"} <= names
    assert not any("attention" in name for name in names)
    assert "gives no attention" in found.left_out["attention head"]
    assert found.reference == "adjacent words"
    assert "left out: " in found.summary()
    with pytest.raises(ModelError, match=r"family 'attention head': .*gives no attention"):
        compare_with_treebank(model, bank, families=["attention head"], **QUICK)


def test_a_default_family_that_refuses_to_prepare_is_left_out_and_a_named_one_raises(model, bank, monkeypatch):
    class Refusing(Toy):
        def prepare(self, model, texts):
            raise ModelError("it would take a year")

    monkeypatch.setattr("infogeo_adapters.treebank.registry.FAMILIES", {
        "toy": lambda model: Toy(), "slow": lambda model: Refusing(name="slow"),
    })
    found = compare_with_treebank(model, bank, **QUICK)
    assert found.left_out == {"slow": "it would take a year"}
    assert [f.name for f in found.families] == ["toy"]
    with pytest.raises(ModelError, match="family 'slow': it would take a year"):
        compare_with_treebank(model, bank, families=["slow"], **QUICK)


def test_a_default_family_that_cannot_do_a_sentence_is_left_out_and_a_named_one_raises(
    model, bank, tmp_path, monkeypatch,
):
    def refuse(found: Any, readings: Any) -> Any:
        if any(r.tree.name == "s7" for r in readings):
            raise DomainError("no direction")
        return found

    toy = Toy()
    toy.spoil = refuse
    some = {"toy": lambda model: toy, "cosine": FAMILIES["cosine"], "adjacent words": FAMILIES["adjacent words"]}
    monkeypatch.setattr("infogeo_adapters.treebank.registry.FAMILIES", some)
    quick = {**QUICK, "reference": "cosine", "folder": tmp_path}
    found = compare_with_treebank(model, bank, **quick)
    assert [family.name for family in found.families] == ["cosine", "adjacent words"]
    assert found.left_out["toy"].startswith("family 'toy', sentence 's7' (line 71): no direction")
    assert found.seconds.keys() == {"cosine", "adjacent words"}
    batch = next(b for b in plan_sentences(model, bank, batch_tokens=BATCH).batches if 7 in b)
    assert toy.calls[-1] == ["s7"]
    assert sorted(toy.calls[-2]) == sorted(f"s{i}" for i in batch) or toy.calls[-2] != ["s7"]
    alone = compare_with_treebank(model, bank, **{**quick, "folder": None, "families": ["cosine", "adjacent words"]})
    assert np.array_equal(alone.scores.counts(), found.scores.counts())
    again = compare_with_treebank(model, bank, **quick)
    assert again.left_out == found.left_out
    with pytest.raises(DomainError, match=r"family 'toy', sentence 's7' \(line 71\): no direction"):
        compare_with_treebank(model, bank, **{**quick, "families": [toy, "cosine"], "folder": None})
    with pytest.raises(ModelError, match=r"reference: 'toy', which others are compared with, was left out \(family"):
        compare_with_treebank(model, bank, **{**quick, "reference": "toy", "folder": None})
    toy.spoil = None
    whole = compare_with_treebank(model, bank, **quick)  # once it can, its sentences are added to those that are there
    assert same(whole, compare_with_treebank(model, bank, **{**quick, "folder": None}))


def test_a_default_family_that_cannot_learn_is_left_out_and_a_named_one_raises(model, bank, monkeypatch):
    class Unable(Learner):
        def fit(self, features, trees):
            raise ArgumentError("too few trees")

    monkeypatch.setattr("infogeo_adapters.treebank.registry.FAMILIES", {
        "toy": lambda model: Toy(), "learner": lambda model: Unable(),
    })
    found = compare_with_treebank(model, bank, **QUICK)
    assert found.left_out == {"learner": "too few trees"}
    assert found.seconds.keys() == {"toy"}
    with pytest.raises(ArgumentError, match="family 'learner': too few trees"):
        compare_with_treebank(model, bank, families=["learner"], **QUICK)


@pytest.mark.parametrize(("options", "said"), [
    ({"treebank": "file.conllu"}, "treebank: found str"),
    ({"choose": []}, "choose: found list"),
    ({"choose": make_bank()}, r"choose: found 2. sentences that are reported on \(s0, s1, s"),
    ({"level": 95}, "level: found 95"),
    ({"resamples": 0}, "resamples: found 0"),
    ({"split": "thirds"}, "split: found 'thirds'"),
    ({"decoder": "eisner"}, "decoder: found 'eisner'"),
    ({"decoder": []}, "decoder: found"),
    ({"lengths": 5}, "lengths: found 5"),
    ({"lengths": (2, None)}, r"lengths\[0\]: found 2, wanted at least 3"),
    ({"lengths": (5, 4)}, r"lengths\[1\]: found 4"),
    ({"sentences": 1}, "sentences: found 1"),
    ({"batch_tokens": 0}, "batch_tokens: found 0"),
    ({"reference": "attention head"}, "reference: found 'attention head', wanted one of the families toy"),
    ({"folder": 7}, "folder: found 7"),
    ({"untrained": "yes"}, "untrained"),
])
def test_arguments_without_meaning_are_refused_before_anything_is_read(model, bank, options, said, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the model was run")

    monkeypatch.setattr(runner, "capture_activations", never)
    given = {"treebank": bank, **QUICK, **options}
    with pytest.raises(ArgumentError, match=said):
        compare_with_treebank(model, given.pop("treebank"), families=[Toy()], **given)


# The untrained twin


def test_the_untrained_twin_has_the_shape_of_the_model_and_other_weights(model):
    import torch

    before = torch.get_rng_state()
    twin, again, other = (untrained_twin(model, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    hashes = [m.current_source().content_hash for m in (model, twin, again, other)]
    assert hashes[1] == hashes[2]
    assert len(set(hashes)) == 3
    assert twin.model.config.to_dict() == model.model.config.to_dict()
    assert twin.name == f"{model.name}, untrained"
    assert not twin.model.training
    with pytest.raises(ArgumentError, match="seed"):
        untrained_twin(model, seed=-1)


def test_heads_of_the_untrained_twin_are_baselines_beside_those_of_the_model(model, bank):
    options = {**QUICK, "untrained": True, "reference": "attention head"}
    found = compare_with_treebank(model, bank, families=["attention head", "adjacent words"], **options)
    assert [(f.name, f.kind) for f in found.families] == [
        ("attention head", "attention"), ("adjacent words", "baseline"), ("untrained: attention head", "baseline"),
    ]
    alone = compare_with_treebank(untrained_twin(model), bank, families=["attention head"], **QUICK)
    np.testing.assert_array_equal(found.scores.counts()[:, 7:], alone.scores.counts())
    assert found.shared_seconds.keys() == {
        "capture", "scoring", "untrained: capture", "untrained: scoring",
    }


# Families with labels


@dataclass
class Learner:
    """It learns which sentences it was shown, and then joins words as the text runs or from the first word."""

    name: str = "learner"
    kind: str = "supervised"

    def __post_init__(self) -> None:
        self.shown: list[tuple[str, ...]] = []

    def prepare(self, model: Any, texts: Any) -> None:
        pass

    def features(self, model: Any, readings: Any) -> list[Any]:
        return [np.arange(len(r.tree), dtype=np.float32) for r in readings]

    def fit(self, features: Any, trees: Any) -> Any:
        assert [len(f) for f in features] == [len(t) for t in trees]
        self.shown.append(tuple(t.name for t in trees))
        return Learned("chain" if "s0" in self.shown[-1] else "star")


@dataclass
class Learned:
    label: str

    def closeness(self, features: Any) -> list[Any]:
        if self.label == "chain":
            return [-np.abs(np.subtract.outer(f, f))[None].astype(float) for f in features]
        return [-(f[:, None] * f[None]).astype(float)[None] for f in features]


def star_hits(tree: DependencyTree) -> int:
    return sum(0 in edge for edge in tree.edges().tolist())


def chain_hits(tree: DependencyTree) -> int:
    return sum(abs(d - h) == 1 for d, h in tree.edges().tolist())


def test_a_family_with_labels_is_scored_on_a_half_by_what_it_learned_on_the_other(model):
    bank = make_bank(11)
    learner = Learner()
    found = compare_with_treebank(model, bank, families=[learner], **QUICK)
    names = [tree.name for tree in bank.trees]
    assert learner.shown == [tuple(names[:5]), tuple(names[5:])]
    counts = found.scores.counts(punctuation=True)[:, 0]
    assert counts.tolist() == [
        star_hits(tree) if s < 5 else chain_hits(tree) for s, tree in enumerate(bank.trees)
    ]
    (family,) = found.families
    assert family.variants == ("chain (fitted on the first half) / star (fitted on the second half)",)
    half = compare_with_treebank(model, bank, families=[Learner()], split="half", **QUICK)
    assert half.scores.counts(punctuation=True)[:, 0].tolist() == [chain_hits(tree) for tree in bank.trees]
    assert half.families[0].variants == ("chain",)


def test_other_sentences_choose_variants_and_teach_families_with_labels(model, bank):
    other = Treebank(
        trees=tuple(dataclasses.replace(t, name=f"other {t.name}") for t in make_bank(9, seed=3).trees), source=Source()
    )
    learner, toy = Learner(), Toy()
    found = compare_with_treebank(model, bank, choose=other, families=[toy, learner], **QUICK)
    assert learner.shown == [tuple(tree.name for tree in other.trees)]
    assert found.n_sentences == len(bank)
    assert found.scores.sentences == tuple(tree.name for tree in bank.trees)
    assert found.scores.counts(punctuation=True)[:, 2].tolist() == [star_hits(tree) for tree in bank.trees]
    there = compare_with_treebank(model, other, families=[Toy()], **QUICK).scores.counts().sum(axis=0)
    assert found.chosen("toy")[0].variant == toy.variants[int(np.argmax(there))]
    assert toy.prepared == 1


# Labels stay where they belong


def relabeled(tree: DependencyTree, seed: int = 0) -> DependencyTree:
    """The same words with another tree, other relations and other tags."""
    rng = np.random.default_rng(seed)
    n = len(tree)
    order = rng.permutation(n)
    heads = np.full(n, -1)
    for place in range(1, n):
        heads[order[place]] = order[rng.integers(place)]
    return dataclasses.replace(
        tree, heads=heads, relations=tuple("root" if h < 0 else "other" for h in heads), tags=("VERB",) * n
    )


def all_families(model: Any) -> list[Any]:
    return [family for name in family_names() for family in made_if_it_can_be(model, name)]


def made_if_it_can_be(model: Any, name: str) -> list[Any]:
    try:
        return list(make_families(model, [name])[0])
    except ModelError:
        return []


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_no_family_looks_at_the_labels_of_a_sentence(name, monkeypatch):
    model = load_model(make_specimen(name), tokenizer=make_tokenizer(model_max_length=100))
    chosen = families_of_influence.background_sentences
    for module in (families_of_influence, relative_attention):
        monkeypatch.setattr(module, "background_sentences", lambda text, _: chosen(text, 8))
    trees = make_bank(3, longest=6).trees
    spans = [[tuple(map(int, span)) for span in tree.spans] for tree in trees]
    captured = capture_activations(model, [tree.text for tree in trees], words=spans)
    with few_sentences():
        for family in all_families(model):
            family.prepare(model, [tree.text for tree in trees])
            ask = family.features if hasattr(family, "fit") else family.closeness
            found = []
            for some in (trees, map(relabeled, trees)):
                found.append(ask(model, [
                    SentenceReading(tree=t, activations=a) for t, a in zip(some, captured, strict=True)
                ]))
            for one, other in zip(*found, strict=True):
                assert np.array_equal(one, other), family.name


@pytest.mark.parametrize("split", ["half", "cross"])
def test_labels_of_the_second_half_change_nothing_that_the_first_half_decides(tiny, split):
    model = tiny("bert")
    bank = make_bank(16, longest=7)
    other = dataclasses.replace(
        bank, trees=(*bank.trees[:8], *(relabeled(tree, s) for s, tree in enumerate(bank.trees[8:])))
    )
    families = [
        "attention head", "random edges of gold lengths", "attention, head ensemble", "structural probe",
        "attention, head ensemble, relative to distance",
    ]
    with few_sentences():
        one, two = (
            compare_with_treebank(model, b, families=families, split=split, **{**QUICK, "batch_tokens": 4096})
            for b in (bank, other)
        )
    for name in families:
        first, second = (
            next(choice.variant for choice in found.chosen(name) if choice.chosen_on == "first half")
            for found in (one, two)
        )
        # of a family with labels what was fitted to the first half stands first
        first, second = (variant.partition(" / ")[0].partition(" (fitted")[0] for variant in (first, second))
        assert first == second, name
    assert one.estimate("structural probe").value != two.estimate("structural probe").value


# Stores


def run(model: Any, bank: Treebank, folder: Path | None, families: Any, **options: Any) -> Any:
    return compare_with_treebank(model, bank, families=families, folder=folder, **{**QUICK, **options})


def everything() -> list[Any]:
    """Families of all sorts, and last one that a test can stop."""
    return [
        "adjacent words", "random tree", "random edges of gold lengths", "attention head", "attention rollout",
        "centered cosine", "value-weighted attention", "structural probe", Learner(), Toy(),
    ]


class Stop(BaseException):
    """Like a key that interrupts."""


def test_an_interrupted_run_goes_on_and_gives_the_same_numbers_to_the_last_bit(model, bank, tmp_path):
    options = {"untrained": True}
    whole = run(model, bank, tmp_path / "whole", everything(), **options)
    assert same(whole, run(model, bank, None, everything(), **options))
    families = everything()
    toy = families[-1]

    def stop(found: Any, readings: Any) -> Any:
        if len(toy.calls) == 4:
            raise Stop
        return found

    toy.spoil = stop
    with pytest.raises(Stop):
        run(model, bank, tmp_path / "cut", families, **options)
    done = [name for call in toy.calls[:3] for name in call]
    families = everything()
    again = run(model, bank, tmp_path / "cut", families, **options)
    assert same(again, whole)
    called = [name for call in families[-1].calls for name in call]
    assert not set(called) & set(done)
    assert sorted(called + done) == sorted(tree.name for tree in bank.trees)
    third = everything()
    assert same(run(model, bank, tmp_path / "cut", third, **options), whole)
    assert third[-1].calls == []
    assert third[-1].prepared == 0
    assert third[-2].shown == []
    assert same(whole, run(model, bank, tmp_path / "whole", everything(), **options))


SCRIPT = """
import os, signal, sys, warnings
sys.path[:0] = {path!r}
warnings.simplefilter("ignore")
import test_treebank_comparison as t
from infogeo_adapters import load_model
toy = t.Toy()
def kill(found, readings):
    if len(toy.calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
toy.spoil = kill
model = load_model(t.make_specimen("bert"), tokenizer=t.make_tokenizer())
t.run(model, t.make_bank(), {folder!r}, ["attention head", t.Learner(), toy])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL; run it elsewhere")
def test_a_killed_process_costs_one_batch_and_changes_no_number(model, bank, tmp_path):
    path = [str(ROOT), str(ROOT / "adapters"), str(ROOT / "tests")]
    script = SCRIPT.format(path=path, folder=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / store.LOCK).exists()
    toy = Toy()
    again = run(model, bank, tmp_path / "killed", ["attention head", Learner(), toy])
    plan = plan_sentences(model, bank, batch_tokens=BATCH)
    assert len(toy.calls) == len(plan.batches) - 2
    assert same(again, run(model, bank, None, ["attention head", Learner(), Toy()]))


def test_what_was_half_written_is_thrown_away(model, bank, tmp_path):
    whole = run(model, bank, tmp_path, [Toy()])
    first = min(tmp_path.glob("batch-*.safetensors"))
    half = first.with_name(first.name + ".partial")
    half.write_bytes(first.read_bytes()[:100])
    first.unlink()
    toy = Toy()
    assert same(run(model, bank, tmp_path, [toy]), whole)
    assert len(toy.calls) == 1
    assert not half.exists()


def test_a_family_that_is_added_is_the_only_one_that_is_computed(model, bank, tmp_path):
    before = run(model, bank, tmp_path, [Toy(), "cosine"])
    old, new = Toy(), Toy(name="new", scale=-1.0)
    both = run(model, bank, tmp_path, [new, old, Learner()])
    assert old.calls == []
    assert old.prepared == 0
    assert len(new.calls) == len(plan_sentences(model, bank, batch_tokens=BATCH).batches)
    assert same(both, run(model, bank, None, [new, Toy(), Learner()]))
    assert both.seconds["toy"] == before.seconds["toy"]
    assert both.shared_seconds == before.shared_seconds


def test_a_family_of_which_nothing_was_kept_may_change(model, bank, tmp_path):
    class Broken(Toy):
        def closeness(self, model, readings):
            raise DomainError("not yet")

    with pytest.raises(DomainError, match="not yet"):
        run(model, bank, tmp_path, [Broken()])
    assert not list(tmp_path.glob("batch-*"))
    mended = run(model, bank, tmp_path, [Toy()])
    assert same(mended, run(model, bank, None, [Toy()]))
    with pytest.raises(ArgumentError, match="of the family 'toy' class was"):
        run(model, bank, tmp_path, [Broken()])


def test_each_file_is_read_once_for_the_table(model, bank, tmp_path, monkeypatch):
    names = ["cosine", "Euclidean", "layer-0 cosine", "attention head"]
    for some in (names[:1], names[:3], names):  # three files for each batch
        found = run(model, bank, tmp_path, some)
    read, unpack = [], store._unpacked

    def counted(path: Path, *, header_only: bool = False) -> Any:
        if not header_only:
            read.append(path.name)
        return unpack(path, header_only=header_only)

    monkeypatch.setattr(store, "_unpacked", counted)
    assert same(run(model, bank, tmp_path, names), found)
    assert sorted(read) == sorted(path.name for path in tmp_path.glob("batch-*"))


def test_a_family_is_fitted_with_what_is_kept_of_its_own_half_only(model, bank, monkeypatch):
    asked, get = [], store.MemoryStore.get

    def noted(self: Any, batch: int, name: str) -> Any:
        asked.append((batch, name))
        return get(self, batch, name)

    monkeypatch.setattr(store.MemoryStore, "get", noted)
    late = make_bank(6)
    late = dataclasses.replace(late, trees=(*late.trees, *(
        DependencyTree.from_words(("word1",) * 20, [-1, *range(19)], name=f"long{k}", line=1000 + k) for k in range(6)
    )))
    run(model, late, None, [Learner()], split="half")
    plan = plan_sentences(model, late, batch_tokens=BATCH)
    first = [b for b, batch in enumerate(plan.batches) if min(batch) < 6]
    assert len(first) < len(plan.batches)
    assert [b for b, name in asked[: len(first)]] == first
    assert asked[len(first)][0] == 0


@pytest.mark.parametrize(("change", "said"), [
    ({"model": "other"}, r"the model's weights \(SHA-256\) was [0-9a-f]{12}\.\.\. and is now"),
    ({"bank": make_bank(23)}, "the sentences"),
    ({"families": [Toy(scale=2.0)]}, "of the family 'toy' option scale was 1.0 and is now 2.0"),
    ({"batch_tokens": 41}, "batch_tokens was 40 and is now 41"),
    ({"decoder": "projective"}, r"decoder was \[\"spanning\"\] and is now \[\"projective\"\]"),
    ({"lengths": (3, 9)}, r"lengths was \[3, null\] and is now \[3, 9\]"),
])
def test_scores_of_another_run_are_refused_with_what_differs(model, bank, tmp_path, change, said):
    run(model, bank, tmp_path, [Toy()])
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    given = {"model": model, "bank": bank, "folder": tmp_path, "families": [Toy()], **change}
    if given["model"] == "other":
        given["model"] = load_model(make_specimen("bert", seed=1), tokenizer=make_tokenizer())
    with pytest.raises(ArgumentError, match=f"holds scores of another run: .*{said}"):
        run(**given)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_another_version_of_a_package_is_refused(model, bank, tmp_path):
    run(model, bank, tmp_path, [Toy()])
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    content["run"]["version of torch"] = "1.0"
    path.write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match=r"version of torch was 1\.0 and is now"):
        run(model, bank, tmp_path, [Toy()])


@pytest.mark.parametrize("harm", ["cut", "flip", "header", "empty"])
def test_a_damaged_file_is_named_and_computed_again_once_it_is_deleted(model, bank, tmp_path, harm):
    whole = run(model, bank, tmp_path, [Toy()])
    path = max(tmp_path.glob("batch-*.safetensors"))
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-3] ^= 1
    elif harm == "header":
        content[12] ^= 0x80
    path.write_bytes(bytes(content[: {"cut": len(content) - 5, "empty": 0}.get(harm, len(content))]))
    with pytest.raises(FormatError, match=f"{path.name} is damaged.*delete {path.name} and call again"):
        run(model, bank, tmp_path, [Toy()])
    path.unlink()
    toy = Toy()
    assert same(run(model, bank, tmp_path, [toy]), whole)
    assert len(toy.calls) == 1


def test_a_file_of_another_run_is_refused(model, bank, tmp_path):
    run(model, bank, tmp_path / "one", [Toy()])
    run(model, make_bank(23), tmp_path / "two", [Toy()])
    path = min((tmp_path / "two").glob("batch-*"))
    (tmp_path / "one" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FormatError, match="belongs to another run"):
        run(model, bank, tmp_path / "one", [Toy()])


def test_a_folder_that_is_none_of_ours_is_left_alone(model, bank, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"holds other files \(thesis.txt\)"):
        run(model, bank, tmp_path, [Toy()])
    with pytest.raises(ArgumentError, match="is a file; give a folder"):
        run(model, bank, tmp_path / "thesis.txt", [Toy()])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "manifest.json").write_text('{"format": "something else"}')
    with pytest.raises(ArgumentError, match="is not the manifest of a run over a treebank"):
        run(model, bank, tmp_path, [Toy()])
    (tmp_path / "manifest.json").write_text('{"format"')
    with pytest.raises(FormatError, match=r"manifest.json is damaged"):
        run(model, bank, tmp_path, [Toy()])


def test_a_folder_is_for_one_process_at_a_time(model, bank, tmp_path):
    with store.open_folder(tmp_path, {}, {}), pytest.raises(OutputError, match="is being written by"):
        run(model, bank, tmp_path, [Toy()])


def test_a_full_disk_says_what_is_kept_and_how_to_go_on(model, bank, tmp_path, monkeypatch):
    import errno

    whole = run(model, bank, None, [Toy()])
    write = store.write_whole
    written = []

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith("batch"):
            written.append(path)
        if len(written) > 2:
            raise store.WriteError(path, OSError(errno.ENOSPC, "No space left on device"))
        write(path, content)

    monkeypatch.setattr(store, "write_whole", full)
    with pytest.raises(OutputError, match=r"No space left on device; 2 batches are kept in .*free some space"):
        run(model, bank, tmp_path, [Toy()])
    monkeypatch.setattr(store, "write_whole", write)
    toy = Toy()
    assert same(run(model, bank, tmp_path, [toy]), whole)
    assert sorted(call[0] for call in toy.calls).count("s0") <= 1
    assert len(toy.calls) == len(plan_sentences(model, bank, batch_tokens=BATCH).batches) - 2


def test_sentences_to_choose_on_are_kept_beside_the_others(model, bank, tmp_path):
    other = make_bank(9, seed=3)
    other = Treebank(trees=tuple(dataclasses.replace(t, name=f"o{t.name}") for t in other.trees), source=Source())
    whole = run(model, bank, tmp_path, [Toy(), Learner()], choose=other)
    assert (tmp_path / "choose" / "manifest.json").exists()
    toy, learner = Toy(), Learner()
    assert same(run(model, bank, tmp_path, [toy, learner], choose=other), whole)
    assert toy.calls == []
    assert learner.shown == []
    with pytest.raises(ArgumentError, match="the sentences"):
        run(model, bank, tmp_path, [Toy()], choose=make_bank(9, seed=4))


def test_skipped_sentences_tell_which_treebank_they_are_of(model, bank):
    other = make_bank(9, seed=3)
    other = Treebank(trees=tuple(dataclasses.replace(t, name=f"o{t.name}") for t in other.trees), source=Source())
    found = run(
        model, bank.with_skipped([bank.trees[2].skipped("bad")]), None, [Toy()],
        choose=other.with_skipped([other.trees[3].skipped("worse")]),
    )
    assert [(s.name, s.reason) for s in found.skipped] == [
        ("s2", "bad"), ("os3", "among the sentences to choose on: worse"),
    ]


class Plain:
    """A family that says nothing about its options."""

    name, kind, variants = "plain", "vectors", ("one",)

    def prepare(self, model: Any, texts: Any) -> None:
        pass

    def closeness(self, model: Any, readings: Any) -> list[Any]:
        return [np.zeros((1, len(r.tree), len(r.tree))) for r in readings]


def test_options_that_cannot_be_compared_are_refused_for_a_folder(model, bank, tmp_path):
    run(model, bank, None, [Plain()])
    with pytest.raises(ArgumentError, match="family 'plain': Plain does not say what its options are"):
        run(model, bank, tmp_path, [Plain()])
    with pytest.raises(ArgumentError, match="family 'toy': its option scale is <function"):
        run(model, bank, tmp_path, [Toy(scale=lambda: 1.0)])
    told = Plain()
    told.options = {"power": 2, "weights": np.arange(3.0), "of": {"a": (1, None)}}
    run(model, bank, tmp_path, [told])
    told.options = {**told.options, "weights": np.arange(4.0)}
    with pytest.raises(ArgumentError, match="option weights was array"):
        run(model, bank, tmp_path, [told])


CODE = """
from dataclasses import dataclass
import numpy as np

@dataclass
class Own:
    '''One of a user.'''
    name: str = "own"
    kind: str = "vectors"
    variants = ("one",)

    def prepare(self, model, texts):
        pass

    def closeness(self, model, readings):  # of neighbors
        return [-np.abs(np.subtract.outer(*[np.arange(len(r.tree))] * 2))[None] * 1.0 for r in readings]
"""


def test_a_family_whose_code_has_changed_is_refused(model, bank, tmp_path):
    def own(folder: str, change: tuple[str, str] = ("", ""), **more: Any) -> Any:
        path = tmp_path / f"{folder}.py"
        path.write_text(CODE.replace(*change))
        spec = importlib.util.spec_from_file_location("own_families", path)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "own_families", module)
            spec.loader.exec_module(module)
            family = module.Own(**{"name": "own", **more.get("options", {})})
            if "revision" in more:
                family.revision = more["revision"]
            return run(model, bank, tmp_path / "kept", [family, "cosine"])

    first = own("a")
    assert same(own("b"), first)
    assert same(own("c", ("One of a user.", "Its docstring says more.")), first)
    assert same(own("d", ("  # of neighbors", "")), first)
    for change, more in ((("-np.abs", "+np.abs"), {}), (("", ""), {"revision": 2})):
        said = "source of its class" if not more else "revision was null and is now 2"
        with pytest.raises(ArgumentError, match=f"of the family 'own' {said}.*give a family that has changed another"):
            own("e", change, **more)
    renamed = own("f", ("-np.abs", "+np.abs"), options={"name": "own, other"})
    assert renamed.estimate("cosine") == first.estimate("cosine")


def test_families_of_infogeo_are_known_by_their_revision_and_not_by_their_source(model):
    family = AttentionHeads(model)
    plain = facts_of(family)
    assert not {"revision", "source of its class (SHA-256)"} & plain.keys()
    family.revision = 3
    assert facts_of(family) == {**plain, "revision": 3}


def test_sentences_stand_in_the_batches_that_a_folder_of_this_format_has():
    model = load_model(make_specimen("bert"), tokenizer=make_tokenizer(model_max_length=200))
    bank = make_bank(150, seed=1, longest=40)
    plan = plan_sentences(model, bank, batch_tokens=100_000)
    lengths = [len(tree) for tree in plan.treebank.trees]
    assert store.VERSION == 1, "with other batches the version of the format is raised, and this test follows"
    assert [(len(b), lengths[b[0]], sum(b)) for b in plan.batches] == BATCHES_OF_THE_FORMAT


# The result


def test_the_result_is_a_comparison_that_can_be_written_as_json(model, bank):
    found = compare_with_treebank(model, bank, families=["attention head", Toy()], **{**QUICK, "reference": "toy"})
    plain = json.loads(found.to_json())
    assert plain["type"] == "ModelTreebankComparison"
    assert "scores" not in plain
    assert plain["seconds"].keys() == {"attention head", "toy"}
    assert found.source.content_hash == model.current_source().content_hash
    assert found.source.options["n_skipped"] == 0
    assert found.difference("attention head").reference == "toy"


def test_all_default_families_are_compared_on_the_sample(monkeypatch):
    from infogeo_adapters import sample_treebank

    monkeypatch.setattr("infogeo_adapters.treebank.registry.FLOW_SECONDS", 1e-6)
    chosen = relative_attention.background_sentences
    monkeypatch.setattr(relative_attention, "background_sentences", lambda text, _: chosen(text, 8))
    model = load_model(make_specimen("gpt2"), tokenizer=make_tokenizer(model_max_length=200))
    with few_sentences():
        found = compare_with_treebank(model, sample_treebank(), sentences=12, resamples=50)
    assert found.left_out.keys() == {"attention flow"}
    assert "would take about" in found.left_out["attention flow"]
    names = [family.name for family in found.families]
    twin = ["untrained: attention head", "untrained: influence, word hidden"]
    assert names == [*(n for n in family_names() if n not in ("attention flow", *ON_REQUEST)), *twin]
    assert all(row[4] is not None and 0 <= row[4] <= 1 for row in found.rows()[1])
    assert found.reference == "attention head"


@pytest.mark.skipif("INFOGEO_TREEBANK" not in os.environ, reason="give the path of a CoNLL-U file in INFOGEO_TREEBANK")
def test_neighbors_in_a_real_treebank_are_joined_as_often_as_a_loop_counts(minilm):
    from infogeo_adapters import read_treebank

    half = read_treebank(os.environ["INFOGEO_TREEBANK"]).halves()[0]
    found = compare_with_treebank(minilm, half, families=["adjacent words"], sentences=100, untrained=False,
                                  reference=None, resamples=50)
    gone = {s.name for s in found.skipped}
    hits = total = 0
    for tree in half.trees[:100]:
        if tree.name not in gone:
            words = np.flatnonzero(~tree.punctuation).tolist()
            for d, h in tree.edges().tolist():
                if d in words and h in words:
                    total += 1
                    hits += abs(words.index(d) - words.index(h)) == 1
    assert found.estimate("adjacent words").value == pytest.approx(hits / total)


def test_families_on_request_are_made_only_if_they_are_named(bundled: Any) -> None:
    from infogeo_adapters.treebank.registry import FAMILIES, ON_REQUEST, make_families

    by_default = {family.name for family in make_families(bundled)[0]}
    with_more = [family.name for family in make_families(bundled, ["defaults", *ON_REQUEST])[0]]
    assert not by_default & set(ON_REQUEST)
    assert set(with_more) == by_default | set(ON_REQUEST) <= set(FAMILIES)
