"""Dependency trees and treebanks."""

from __future__ import annotations

import json

import networkx
import numpy as np
import pytest

from infogeo import DependencyTree, SkippedSentence, Treebank
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo.results import Source

WORDS = ("She", "does", "n't", "read", "books", ".")
HEADS = [3, 3, 3, -1, 3, 3]
RELATIONS = ("nsubj", "aux", "advmod", "root", "obj", "punct")
TAGS = ("PRON", "AUX", "PART", "VERB", "NOUN", "PUNCT")
TEXT = "She doesn't read books."
SPANS = [[0, 3], [4, 8], [8, 11], [12, 16], [17, 22], [22, 23]]


def make_tree(**changes):
    fields = {
        "words": WORDS, "heads": HEADS, "relations": RELATIONS, "tags": TAGS, "text": TEXT, "spans": SPANS,
        "name": "s1", "line": 4, **changes,
    }  # fmt: skip
    return DependencyTree(**fields)


def make_treebank(n, *, skipped=(), lines=None):
    lines = lines or [5 * k + 1 for k in range(n)]
    trees = [DependencyTree.from_words(("dogs", "bark"), [1, -1], name=f"s{k}", line=line)
             for k, line in enumerate(lines, start=1)]
    return Treebank(trees=trees, skipped=skipped, source=Source(options={"treebank": "dogs.conllu"}))


def names(treebank):
    return [tree.name for tree in treebank]


def test_a_tree_has_edges_distances_and_a_root():
    tree = make_tree()
    assert len(tree) == 6
    assert tree.root == 3
    assert tree.edges().tolist() == [[0, 3], [1, 3], [2, 3], [4, 3], [5, 3]]
    graph = networkx.Graph(tree.edges().tolist())
    known = dict(networkx.all_pairs_shortest_path_length(graph))
    assert tree.distances().tolist() == [[known[i][j] for j in range(6)] for i in range(6)]
    assert tree.summary() == "DependencyTree of 6 words: s1, line 4"
    columns, rows = tree.rows()
    assert dict(zip(columns, rows[2], strict=True)) == {
        "index": 2, "word": "n't", "tag": "PART", "head": 3, "head_word": "read", "relation": "advmod",
    }  # fmt: skip
    assert rows[3][3:5] == (-1, None)


def test_a_chain_of_heads_gives_long_distances():
    tree = DependencyTree.from_words(list("abcdefg"), [1, 2, 3, 4, 5, 6, -1])
    assert tree.distances()[0].tolist() == list(range(7))
    assert tree.text == "a b c d e f g"
    assert tree.spans.tolist() == [[2 * i, 2 * i + 1] for i in range(7)]
    assert tree.relations == ("dep",) * 6 + ("root",)
    assert tree.tags == ("_",) * 7


def test_one_word_is_a_tree():
    tree = DependencyTree.from_words(["Yes"], [-1])
    assert tree.edges().shape == (0, 2)
    assert tree.distances().tolist() == [[0]]


def test_arrays_of_a_tree_are_its_own_and_read_only():
    heads = np.array(HEADS)
    tree = make_tree(heads=heads)
    heads[0] = 1
    assert tree.heads[0] == 3
    for array in (tree.heads, tree.spans):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_punctuation_is_the_tag_or_the_relation_where_there_is_no_tag():
    assert make_tree().punctuation.tolist() == [False] * 5 + [True]
    by_relation = make_tree(tags=("_", "", "_", "_", "_", "_"))
    assert by_relation.punctuation.tolist() == [False] * 5 + [True]
    assert make_tree(tags=("",) * 6).punctuation.tolist() == [False] * 5 + [True]
    symbol = make_tree(tags=("PUNCT", "AUX", "PART", "VERB", "NOUN", "SYM"))
    assert symbol.punctuation.tolist() == [True] + [False] * 5
    subtype = make_tree(tags=("_",) * 6, relations=(*RELATIONS[:5], "punct:end"))
    assert subtype.punctuation.tolist() == [False] * 5 + [True]


def test_json_of_a_treebank_holds_everything():
    treebank = make_treebank(2, skipped=[SkippedSentence(name="bad", line=3, reason="no root")])
    plain = json.loads(treebank.to_json())
    assert plain["trees"][1]["words"] == ["dogs", "bark"]
    assert plain["trees"][1]["heads"] == [1, -1]
    assert plain["skipped"] == [{"name": "bad", "line": 3, "reason": "no root"}]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"heads": [3, 3, 3, -1, 3, 6]}, DomainError, r"word 5 \('\.'\) has head 6, wanted 0 to 5"),
        ({"heads": [3, 3, 3, -1, 3, -2]}, DomainError, "has head -2"),
        ({"heads": [3, 3, -1, -1, 3, 3]}, DomainError, r"2 roots: words 2 \(\"n't\"\), 3 \('read'\)"),
        ({"heads": [3, 3, 3, 0, 3, 3]}, DomainError, "no root"),
        ({"heads": [3, 2, 1, -1, 3, 3]}, DomainError, r"cycle: 1 \('does'\) -> 2 \(\"n't\"\) -> 1 \('does'\)"),
        ({"heads": [3, 1, 1, -1, 3, 3]}, DomainError, r"cycle: 1 \('does'\) -> 1 \('does'\)"),
        ({"heads": [1, 2, 1, -1, 3, 3]}, DomainError, r"cycle: 1 \('does'\) -> 2"),
        ({"heads": [3, 3, 3, -1, 3]}, ShapeError, "heads"),
        ({"heads": [3.0, 3, 3, -1, 3, 3]}, DomainError, "whole numbers"),
        ({"relations": RELATIONS[:5]}, ShapeError, "relations: found 5, wanted 6"),
        ({"tags": TAGS[:5]}, ShapeError, "tags: found 5, wanted 6"),
        ({"spans": SPANS[:5]}, ShapeError, "spans"),
        ({"spans": [*SPANS[:5], [22, 24]]}, DomainError, r"spans: word 5 \('\.'\)"),
        ({"spans": [[0, 3], [4, 8], [7, 11], *SPANS[3:]]}, DomainError, "from 8 on"),
        ({"spans": [*SPANS[:5], [23, 23]]}, DomainError, "at least one character"),
        ({"text": "She does,'t read books."}, DomainError, r"found \",'t\" at characters 8 to 11, wanted word 2"),
        ({"line": 0}, ArgumentError, "line: found 0"),
    ],
)
def test_what_is_no_tree_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make_tree(**changes)


def test_no_words_are_refused():
    with pytest.raises(ShapeError, match="words: found none"):
        DependencyTree.from_words([], [])


def test_long_cycles_and_long_chains_are_told_apart():
    n = 200
    chain = [*range(1, n), -1]
    assert DependencyTree.from_words(["w"] * n, chain).distances().max() == n - 1
    circle = [*range(1, n - 1), 0, -1]
    with pytest.raises(DomainError, match="cycle"):
        DependencyTree.from_words(["w"] * n, circle)


def test_a_treebank_lists_its_sentences_in_the_order_of_the_file():
    treebank = make_treebank(3, skipped=[SkippedSentence(name="y", line=14, reason="b"),
                                         SkippedSentence(name="x", line=2, reason="a")])
    assert len(treebank) == 3
    assert [s.name for s in treebank.skipped] == ["x", "y"]
    assert [row[0] for row in treebank.rows()[1]] == ["s1", "x", "s2", "s3", "y"]
    assert treebank.summary() == "Treebank of 3 sentences and 6 words, 2 sentences skipped"
    assert treebank.skipped[0].summary() == "x (line 2) skipped: a"
    assert treebank.skipped[0].rows()[1] == [("x", 2, "a")]


@pytest.mark.parametrize(("n", "first"), [(2, 1), (3, 1), (4, 2), (9, 4)])
def test_halves_cut_in_the_middle(n, first):
    one, two = make_treebank(n).halves()
    assert names(one) == [f"s{k}" for k in range(1, first + 1)]
    assert names(two) == [f"s{k}" for k in range(first + 1, n + 1)]
    assert (one.source.options["half"], two.source.options["half"]) == ("first", "second")
    assert one.source.options["treebank"] == "dogs.conllu"


def test_halves_do_not_depend_on_what_was_skipped():
    treebank = make_treebank(10)
    one, two = treebank.halves()
    fewer = treebank.with_skipped([tree.skipped("too long") for tree in treebank.trees[:4]])
    less, rest = fewer.halves()
    assert names(less) == ["s5"]
    assert set(names(less)) <= set(names(one))
    assert names(rest) == names(two)
    assert [s.name for s in less.skipped] == ["s1", "s2", "s3", "s4"]
    assert rest.skipped == ()


def test_halves_of_halves_say_so():
    parts = [half for part in make_treebank(8).halves() for half in part.halves()]
    assert [names(part) for part in parts] == [["s1", "s2"], ["s3", "s4"], ["s5", "s6"], ["s7", "s8"]]
    assert parts[2].source.options["half"] == "first of second"


def test_with_skipped_adds_to_what_is_skipped_already():
    treebank = make_treebank(3, skipped=[SkippedSentence(name="x", line=2, reason="no root")])
    later = treebank.with_skipped([treebank.trees[1].skipped("a word without a token")])
    assert names(later) == ["s1", "s3"]
    assert [(s.name, s.reason) for s in later.skipped] == [("x", "no root"), ("s2", "a word without a token")]
    assert names(treebank) == ["s1", "s2", "s3"]
    assert names(treebank.with_skipped([])) == names(treebank)


def test_treebanks_that_are_none_are_refused():
    with pytest.raises(DomainError, match="found none, with 0 sentences skipped"):
        Treebank(trees=(), source=Source())
    with pytest.raises(DomainError, match="wanted rising lines"):
        make_treebank(2, lines=[3, 3])
    with pytest.raises(DomainError, match="s2 at line 1 comes after s1 at line 3"):
        make_treebank(2, lines=[3, 1])
    with pytest.raises(DomainError, match="line 6"):
        make_treebank(3, skipped=[SkippedSentence(name="x", line=6, reason="no root")])
    treebank = make_treebank(2)
    with pytest.raises(ArgumentError, match="found y at line 9"):
        treebank.with_skipped([SkippedSentence(name="y", line=9, reason="?")])
    with pytest.raises(DomainError, match=r"2 sentences skipped; s1 \(line 1\) skipped: too long"):
        treebank.with_skipped([tree.skipped("too long") for tree in treebank])
    with pytest.raises(DomainError, match="the first half of 1 sentence, with 1 skipped, is empty"):
        treebank.with_skipped([treebank.trees[0].skipped("too long")]).halves()
    with pytest.raises(DomainError, match="needs at least four"):
        make_treebank(1).halves()
