"""Words and tokens: the default splitter, spans given by the caller, and the table that joins both by characters."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infogeo.errors import ModelError, TextError
from infogeo_adapters.transformers.alignment import (
    Tokens,
    check_coverage,
    check_text,
    encode,
    join_words,
    split_words,
    token_table,
    word_spans,
    written_specials,
)

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"

HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940 \u0939\u0948"
HEBREW_AND_ARABIC = "\u05e9\u05dc\u05d5\u05dd \u0639\u0644\u064a\u0643\u0645"
PLAIN = st.lists(st.sampled_from(["cat", "don't", "x-y", "3.14"]), min_size=1, max_size=6)


def cut(text: str, **options: Any) -> list[str]:
    return [text[i:j] for i, j in split_words(text, **options)]


# The default splitter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat sat.", ["The", "cat", "sat", "."]),
        ("Don't, he said", ["Don't", ",", "he", "said"]),
        ('"Stop!" (now)', ['"', "Stop", '!"', "(", "now", ")"]),
        ("a well-known 3.14 and 1,000", ["a", "well-known", "3.14", "and", "1,000"]),
        ("wait--what...no", ["wait", "--", "what", "...", "no"]),
        ("wait\u2014what\u2026no", ["wait", "\u2014", "what", "\u2026", "no"]),
        ("AT&T and/or C++ $5 50%", ["AT&T", "and/or", "C", "++", "$", "5", "50", "%"]),
        ("so\U0001f44dgood \u2764\ufe0f!", ["so", "\U0001f44d", "good", "\u2764\ufe0f!"]),
        (FAMILY, [FAMILY]),
        ("cafe\u0301 na\u00efve", ["cafe\u0301", "na\u00efve"]),
        (HINDI + "\u0964", [*HINDI.split(), "\u0964"]),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", ["\u4f60\u597d", "\uff0c", "\u4e16\u754c", "\u3002"]),
        (HEBREW_AND_ARABIC, HEBREW_AND_ARABIC.split()),
        ("one\u00a0two\tthree\r\nfour\u3000five", ["one", "two", "three", "four", "five"]),
        ("-", ["-"]),
        ("rock'n'roll dogs' 'tis", ["rock'n'roll", "dogs", "'", "'", "tis"]),
        ("a.b.c-d--e", ["a.b.c-d", "--", "e"]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_split(text, words):
    assert cut(text) == words


@given(st.text(max_size=60))
@example("a\u0301 \u0301b")
@example("'\u200d'x")
@settings(max_examples=300)
def test_split_is_a_partition_of_all_but_white_space(text):
    spans = split_words(text)
    inside = [k for i, j in spans for k in range(i, j)]
    assert inside == [k for k, c in enumerate(text) if not c.isspace()]
    assert all(i < j for i, j in spans)


@given(PLAIN, st.sampled_from([" ", "\n", "\t "]))
def test_plain_words_come_back(words, space):
    assert cut(space.join(words)) == words


@given(st.text(alphabet="ab'.-!\u2014\U0001f44d ", max_size=30))
def test_no_word_begins_or_ends_with_punctuation_beside_letters(text):
    for word in cut(text):
        kinds = [unicodedata.category(c)[0] for c in word]
        assert kinds[0] == kinds[-1] == "L" or "L" not in kinds


def test_whole_spans_stay_words_of_their_own():
    text = "Paris is in [MASK], now."
    assert cut(text) == ["Paris", "is", "in", "[", "MASK", "],", "now", "."]
    assert cut(text, whole=[(12, 18)]) == ["Paris", "is", "in", "[MASK]", ",", "now", "."]


# Texts and words given by the caller


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty text"),
        (" \n\t\u00a0", "only white space"),
        (b"bytes", "found bytes.*decode"),
        (None, "found NoneType"),
        (7, "found int"),
        (["a"], "found list"),
        ("ab\x00c", "character 2 is NUL"),
        ("a\ud83d", "character 1 is half a surrogate pair .U.D83D"),
        ("\udc80", "character 0 is half"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(TextError, match=message):
        check_text(text)


def test_good_text_comes_back():
    assert check_text(" \U0001f44d\u200b\x01") == " \U0001f44d\u200b\x01"


TEXT = "New York is big"


@pytest.mark.parametrize(
    "words",
    [
        [(0, 8), (9, 11), (12, 15)],
        ["New York", "is", "big"],
        ["New York", (9, 11), "big"],
        lambda text: iter([(0, 8), (9, 11), (12, len(text))]),
        np.array([[0, 8], [9, 11], [12, 15]]),
    ],
)
def test_words_given(words):
    assert word_spans(TEXT, words) == [(0, 8), (9, 11), (12, 15)]


def test_repeated_words_are_found_in_order():
    assert word_spans("a b a b", ["a", "a", "b"]) == [(0, 1), (4, 5), (6, 7)]


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("The old woman gave a dog a b.", ["a", "b"], [(19, 20), (27, 28)]),
        ("about a b", ["a", "b"], [(6, 7), (8, 9)]),
        ("cat concat cat2 cat", ["cat", "cat"], [(0, 3), (16, 19)]),
        ("don't stop", ["do", "n't", "stop"], [(0, 2), (2, 5), (6, 10)]),
        ("don't stop", ["don", "stop"], [(0, 3), (6, 10)]),
        ("(yes)", ["yes"], [(1, 4)]),
        ("he said 'x'", ["'", "x"], [(8, 9), (9, 10)]),
        ("cafe\u0301 cafe", ["cafe"], [(6, 10)]),
        ("\u6211\u7231\u5317\u4eac", ["\u7231", "\u5317\u4eac"], [(1, 2), (2, 4)]),
        ("a do do n't", ["do", (5, 7), "n't"], [(2, 4), (5, 7), (8, 11)]),
    ],
)
def test_words_are_not_found_inside_words(text, words, found):
    assert word_spans(text, words) == found


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("The old woman gave.", ["a", "b"], "word 0 .'a'. does not follow .* only inside other words; give spans"),
        ("The old woman", ["old", "man"], "word 1 .'man'. does not follow in the text after character 7 as a word"),
        ("don't", ["do"], "word 0 .'do'. does not"),
        (HINDI, [HINDI[:2]], "only inside other words"),
    ],
)
def test_parts_of_words_are_refused(text, words, message):
    with pytest.raises(TextError, match=message):
        word_spans(text, words)


@given(PLAIN)
def test_words_given_in_order_are_found_where_they_stand(words):
    text = " ".join(words)
    assert [text[i:j] for i, j in word_spans(text, words)] == words
    assert word_spans(text, words) == [(i, j) for i, j in split_words(text)]


@pytest.mark.parametrize("words", [5, 0.5, True, object(), "New York", b"New", np.array(5), lambda text: 5])
def test_words_that_are_no_list(words):
    with pytest.raises(TextError, match="wanted a list of words"):
        word_spans(TEXT, words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found none"),
        (lambda text: [], "found none"),
        (["New", "Old"], "word 1 .'Old'. does not follow"),
        (["is", "New"], "word 1 .'New'. does not follow in the text after character 11"),
        ([""], "word 0 .''. does not follow"),
        ([(0, 3), (2, 5)], "word 1 has the span .2, 5. after one that ends at 3"),
        ([(4, 8), (0, 3)], "must be in order"),
        ([(3, 3)], "not empty"),
        ([(0, 99)], "in a text of 15 characters"),
        ([(-3, 2)], "word 0"),
        ([(3, 4)], "only white space"),
        ([(0, 1, 2)], r"word 0 is \(0, 1, 2\), wanted"),
        ([3], "word 0 is 3, wanted"),
        ([(0.5, 3)], r"word 0 is \(0.5, 3\), wanted"),
        ([None], "word 0 is None"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(TextError, match=message):
        word_spans(TEXT, words)


# The table


def tokens(*spans: tuple[int, int], special: tuple[int, ...] = ()) -> Tokens:
    n = len(spans)
    return Tokens(
        ids=np.arange(n), spans=np.array(spans).reshape(-1, 2), special=np.isin(np.arange(n), special),
        types=np.zeros(n, dtype=np.int64),
    )


def slow_table(text: str, found: Tokens, spans: list[tuple[int, int]]) -> list[int]:
    """Each character of a token votes for the word it stands in."""
    table = []
    for k, (i, j) in enumerate(found.spans.tolist()):
        votes = [sum(a <= c < b and not text[c].isspace() for c in range(i, j)) for a, b in spans]
        table.append(votes.index(max(votes)) if max(votes) and not found.special[k] else -1)
    return table


@given(st.data())
@settings(max_examples=200)
def test_table_equals_the_vote_of_characters(data):
    text = data.draw(st.text(alphabet="abc", min_size=1, max_size=12))
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=2)))
    spans = list(pairwise(edges))
    inner = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=8)))
    found = tokens(*pairwise(inner), special=tuple(data.draw(st.sets(st.integers(0, 3)))))
    assert token_table(text, found, spans).tolist() == slow_table(text, found, spans)


def test_majority_and_ties_to_the_left():
    spans = [(0, 3), (3, 6), (6, 7)]
    found = tokens((0, 2), (2, 5), (1, 3), (2, 4), (5, 7), (0, 7), (7, 7))
    assert token_table("abcdefg", found, spans).tolist() == [0, 1, 0, 0, 1, 0, -1]


def test_tokens_of_spaces_and_gaps_belong_to_no_word():
    assert token_table("a  b,", tokens((0, 1), (1, 3), (3, 4), (4, 5)), [(0, 1), (3, 4)]).tolist() == [0, -1, 1, -1]


def test_join_words_only_where_a_word_would_be_left_without_a_token():
    text = "'really Mr. X"
    spans = split_words(text)
    assert [text[i:j] for i, j in spans] == ["'", "really", "Mr", ".", "X"]
    found = tokens((0, 3), (3, 7), (8, 11), (12, 13))  # "'re" reaches over the quote, "Mr." over the point
    joined = join_words(text, found, spans)
    assert [text[i:j] for i, j in joined] == ["'really", "Mr.", "X"]
    assert set(token_table(text, found, joined).tolist()) == {0, 1, 2}
    fine = tokens((0, 1), (1, 7), (8, 10), (10, 11), (12, 13))
    assert join_words(text, fine, spans) == spans


def test_join_words_over_a_space():
    assert join_words("of the sea", tokens((0, 6), (7, 10)), [(0, 2), (3, 6), (7, 10)]) == [(0, 6), (7, 10)]


def test_a_word_that_no_token_touches_is_not_joined_but_named():
    spans = [(0, 1), (2, 3)]
    found = tokens((0, 1))
    assert join_words("a b", found, spans) == spans
    named = SimpleNamespace(name_or_path="some/tokenizer")
    with pytest.raises(TextError, match=r"word 1 \('b', characters 2 to 3\).*some/tokenizer"):
        check_coverage("a b", named, token_table("a b", found, spans), spans)


# Real and tiny tokenizers


def test_every_word_has_tokens_and_every_visible_character_is_covered(any_model):
    text = 'The quick (old) fox doesn\'t "believe," \U0001f44d 3.14 miles!'
    found = encode(any_model.tokenizer, text)
    spans = split_words(text)
    table = token_table(text, found, join_words(text, found, spans))
    assert set(table[~found.special].tolist()) - {-1} == set(range(len(spans)))
    covered = {c for i, j in found.spans.tolist() for c in range(i, j)}
    assert covered >= {c for c, letter in enumerate(text) if not letter.isspace()}
    assert (found.spans[found.special] == 0).all()
    for i, j in found.spans[~found.special].tolist():
        assert i == j or not text[i:j].strip() or text[i:j] == text[i:j].strip()


def test_special_tokens_are_those_the_tokenizer_added(tiny):
    for family, before, after in (("gpt2", 0, 0), ("llama", 1, 0), ("bert", 1, 1), ("t5", 0, 1), ("bart", 1, 1)):
        special = encode(tiny(family).tokenizer, "old man").special
        n = len(special)
        assert np.flatnonzero(special).tolist() == [*range(before), *range(n - after, n)], family


@pytest.mark.parametrize("family", ["gpt2", "bart", "llama"])
def test_the_bytes_of_an_emoji_go_to_one_word(tiny, family):
    text = "he \U0001f44d ran"
    found = encode(tiny(family).tokenizer, text)
    table = token_table(text, found, split_words(text))
    assert (table == 1).sum() >= 4
    assert {tuple(s) for s in found.spans[table == 1].tolist()} == {(3, 4)}


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_lone_space_mark_belongs_to_no_word(tiny, family):
    tokenizer = tiny(family).tokenizer
    text = "zq zq"
    found = encode(tokenizer, text)
    lone = np.array([t == "\u2581" for t in tokenizer.convert_ids_to_tokens(found.ids.tolist())])
    assert lone.sum() == 2, "the test needs a tokenizer that writes a mark by itself"
    table = token_table(text, found, split_words(text))
    assert (table[lone] == -1).all()
    assert set(table.tolist()) == {-1, 0, 1}


def test_a_space_mark_written_in_the_text_is_a_word(tiny):
    text = "old \u2581 man"
    found = encode(tiny("t5").tokenizer, text)
    assert set(token_table(text, found, split_words(text)).tolist()) >= {0, 1, 2}


def test_specials_written_in_the_text(tiny):
    tokenizer = tiny("bert").tokenizer
    text = "the [MASK] ran (ßß)"
    found = encode(tokenizer, text)
    assert written_specials(tokenizer, text, found) == [(4, 10)]
    assert "[UNK]" in tokenizer.convert_ids_to_tokens(found.ids.tolist()), "unknown words are not special"
    assert found.special.sum() == 2


def test_the_bundled_tokenizer_takes_its_own_special_tokens_as_text(bundled):
    text = "a <|begin|> b"
    found = encode(bundled.tokenizer, text)
    assert written_specials(bundled.tokenizer, text, found) == []
    assert found.special.tolist() == [True] + [False] * (len(found.ids) - 1)


class Liar:
    """A tokenizer with wrong offsets."""

    all_special_ids: tuple[int, ...] = ()

    def __init__(self, offsets: list[tuple[int, int]]) -> None:
        self.offsets = offsets

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        n = len(self.offsets)
        return {"input_ids": list(range(n)), "offset_mapping": self.offsets, "special_tokens_mask": [0] * n}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [str(i) for i in ids]


@pytest.mark.parametrize("offsets", [[(0, 9)], [(2, 1)], [(-1, 1)], [(2, 3), (0, 1)]])
def test_offsets_that_do_not_fit_the_text(offsets):
    with pytest.raises(ModelError, match="Liar gives character offsets that do not fit"):
        encode(Liar(offsets), "abc")


def test_offsets_of_the_liar_are_taken_when_they_fit():
    assert encode(Liar([(0, 1), (1, 3)]), "abc").spans.tolist() == [[0, 1], [1, 3]]
