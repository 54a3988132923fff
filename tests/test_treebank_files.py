"""CoNLL-U files: what is read, what is left out and named, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import sys
import time

import pytest

from infogeo.errors import ArgumentError, FormatError, MissingDependencyError
from infogeo_adapters import read_treebank, sample_treebank

GOOD = """\
# sent_id = good
# text = Dogs bark.
1 Dogs dog NOUN NNS Number=Plur 2 nsubj 2:nsubj _
2 bark bark VERB VBP _ 0 root 0:root SpaceAfter=No
3 . . PUNCT . _ 2 punct 2:punct _
"""


def conllu(*sentences):
    """Sentences with an empty line after each; columns are given with a space between, comments as they are."""
    lines = [line for sentence in sentences for line in [*sentence.rstrip("\n").split("\n"), ""]]
    return "".join(line + "\n" if line.startswith("#") else line.replace(" ", "\t") + "\n" for line in lines)


def bare(*words):
    """Lines of a sentence of (number, form, head) or (number, form, head, misc)."""
    cells = [(*word, "_")[:4] for word in words]
    return "".join(f"{i} {form} _ _ _ _ {head} dep _ {misc}\n" for i, form, head, misc in cells)


@pytest.fixture
def read(tmp_path):
    def read_text(text, *, encoding="utf-8", **options):
        file = tmp_path / "some.conllu"
        file.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_treebank(file, **options)

    return read_text


@pytest.fixture
def reason(read):
    """Reads a bad sentence between two good ones, both ways, and gives why it was left out."""

    def find_reason(bad, *, line=7):
        first, last = conllu(GOOD), conllu(GOOD.replace("good", "also good"))
        if isinstance(bad, bytes):
            text = first.encode() + bad + b"\n" + last.encode()
        else:
            text = first + conllu(bad) + last
        treebank = read(text)
        assert [tree.name for tree in treebank] == ["good", "also good"]
        (skipped,) = treebank.skipped
        assert skipped.line == line
        with pytest.raises(FormatError) as raised:
            read(text, on_error="raise")
        assert str(raised.value) == f"some.conllu, {skipped.name}, which begins in line {line}: {skipped.reason}"
        return skipped.reason

    return find_reason


def test_a_sentence_is_read_with_everything(read):
    text = conllu(GOOD)
    treebank = read("# a license\n\n" + text + "\n# the end\n")
    (tree,) = treebank.trees
    assert tree.words == ("Dogs", "bark", ".")
    assert tree.heads.tolist() == [1, -1, 1]
    assert tree.relations == ("nsubj", "root", "punct")
    assert tree.tags == ("NOUN", "VERB", "PUNCT")
    assert tree.text == "Dogs bark."
    assert tree.spans.tolist() == [[0, 4], [5, 9], [9, 10]]
    assert (tree.name, tree.line) == ("good", 3)
    assert treebank.skipped == ()
    assert treebank.source.options["treebank"] == "some.conllu"
    digest = hashlib.sha256(("# a license\n\n" + text + "\n# the end\n").encode()).hexdigest()
    assert treebank.source.text_hash == digest


def test_multiword_tokens_empty_nodes_and_enhanced_dependencies(read):
    treebank = read(conllu("""\
# text = They don't  and won't.
1 They they PRON _ _ 3 nsubj 3:nsubj|5.1:nsubj _
2-3 don't _ _ _ _ _ _ _ _
2 do do AUX _ _ 3 aux 3:aux _
3 n't not PART _ _ 0 root 0:root _
4 and and CCONJ _ _ 3 cc 5.1:cc _
5-6 won't _ _ _ _ _ _ _ SpaceAfter=No
5 wo will AUX _ _ 3 conj 5.1:aux _
5.1 do do VERB _ _ _ _ 3:conj:and CopyOf=3
6 n't not PART _ _ 5 advmod 5.1:advmod _
7 . . PUNCT _ _ 3 punct 3:punct _
"""))  # fmt: skip
    (tree,) = treebank.trees
    assert tree.words == ("They", "do", "n't", "and", "wo", "n't", ".")
    assert tree.heads.tolist() == [2, 2, -1, 2, 2, 4, 2]
    assert [tree.text[a:b] for a, b in tree.spans] == list(tree.words)
    assert tree.spans.tolist() == [[0, 4], [5, 7], [7, 10], [12, 15], [16, 18], [18, 21], [21, 22]]


def test_an_empty_node_may_stand_first(read):
    (tree,) = read(conllu("0.1 it it PRON _ _ _ _ 1:nsubj _\n" + bare((1, "Rains", 0)))).trees
    assert tree.words == ("Rains",)


def test_without_a_text_it_is_made_of_the_forms(read):
    sentence = """\
1 ( ( PUNCT _ _ 3 punct _ Gloss=a|SpaceAfter=No
2-3 don't _ _ _ _ _ _ _ SpaceAfter=No
2 do _ _ _ _ 3 aux _ _
3 n't _ _ _ _ 0 root _ SpaceAfter=No
4 ) ) PUNCT _ _ 3 punct _ SpaceAfter=Yes
5 ! ! PUNCT _ _ 3 punct _ _
"""
    (tree,) = read(conllu(sentence)).trees
    assert tree.text == "(don't) !"
    assert tree.spans.tolist() == [[0, 1], [1, 3], [3, 6], [6, 7], [8, 9]]
    assert tree.tags == ("PUNCT", "_", "_", "PUNCT", "PUNCT")
    assert tree.punctuation.tolist() == [True, False, False, True, True]


def test_the_text_says_where_spaces_are(read):
    """SpaceAfter is left aside where there is a text: the forms alone say where each word stands."""
    sentence = bare((1, "a", 0, "SpaceAfter=No"), (2, "b", 1), (3, "c", 1), (4, "d", 1))
    (tree,) = read(conllu("# text =  a  b\u00a0c d \n" + sentence)).trees
    assert tree.text == "a  b\u00a0c d"
    assert tree.spans.tolist() == [[0, 1], [3, 4], [5, 6], [7, 8]]


def test_words_with_spaces_and_odd_characters(read):
    """Two spaces in a cell are no border between columns, and line separators of Unicode end no line."""
    cells = [("10 000", 2), ("a  b", 0), ("\u3000", 2), ("x\u2028y\x85", 2), ("_", 2), ("#", 2), ("👩\u200d🚀", 2)]
    lines = [f"{i}\t{form}\t_\t_\t_\t_\t{head}\tdep\t_\tGloss=c  d" for i, (form, head) in enumerate(cells, start=1)]
    (tree,) = read("\n".join(lines)).trees
    assert tree.words == tuple(form for form, _ in cells)
    assert tree.text == " ".join(form for form, _ in cells)
    (same,) = read(f"# text = {tree.text}\n" + "\n".join(lines)).trees
    assert same.spans.tolist() == tree.spans.tolist()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n \t \n\n"])
def test_line_endings_byte_order_marks_and_the_end_of_the_file(read, ending, mark, last):
    text = (mark + conllu(GOOD).strip() + "\n\n\n" + conllu(GOOD).strip() + last).replace("\n", ending)
    treebank = read(text)
    assert [(tree.name, tree.line, tree.text) for tree in treebank] == [
        ("good", 1, "Dogs bark."), ("good", 8, "Dogs bark.")
    ]  # fmt: skip
    assert treebank.skipped == ()


def test_sentences_without_a_name_are_counted_with_those_left_out(read):
    third = "# sent_id = three\n" + bare((1, "c", 0))
    treebank = read(conllu(bare((1, "a", 0)), bare((1, "b", 7)), third, bare((1, "d", 0))))
    assert [tree.name for tree in treebank] == ["sentence 1", "three", "sentence 4"]
    assert [(s.name, s.line) for s in treebank.skipped] == [("sentence 2", 3)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("1 a _ _ _ _ 0 root _", "found 9 columns, wanted 10, with a tab between each two"),
        ("1 a _ _ _ _ 0 root _ _ _", "found 11 columns"),
        ("just_prose", "found 1 column,"),
        (bare((1, "a", 0)) + "word", "line 8: found 1 column,"),
        (bare(("x", "a", 0)), "found 'x' in the column ID, wanted a number"),
        (bare(("_", "a", 0)), "the column ID is empty"),
        (bare(("2-1", "a", 0)), "found '2-1' in the column ID"),
        (bare((1, "", 0)), "the column FORM is empty"),
        ("1 a _ _ _ _ 0  _ _", "the column DEPREL is empty"),
        (bare((1, "a", "two")), "found 'two' in the column HEAD, wanted a number"),
        (bare((1, "a", "1.5")), "found '1.5' in the column HEAD"),
        (bare((1, "a", "+0")), "found '+0' in the column HEAD, wanted a number"),
        (bare((1, "a", "9" * 5000)), f"found '{'9' * 40}...' in the column HEAD, wanted a number"),
        (bare(("9" * 5000, "a", 0)), f"found '{'9' * 40}...' in the column ID, wanted a number"),
        (bare((1, "a", "9" * 300)), f"'a' has head {'9' * 300}, wanted 0 to 1"),
        (bare((1, "a", "_")), "the column HEAD is empty"),
        (bare((1, "a", 0), (2, "b", 3)), "line 8: 'b' has head 3, wanted 0 to 2"),
        (bare((1, "a", 0), (2, "b", -1)), "line 8: 'b' has head -1, wanted 0 to 2"),
        (bare((1, "a", 0), (3, "b", 1)), "line 8: found number 3, wanted 2"),
        (bare((1, "a", 0), (1, "b", 1)), "line 8: found number 1, wanted 2"),
        (bare((2, "a", 0)), "found number 2, wanted 1"),
        (bare((0, "a", 0)), "found number 0, wanted 1"),
        (bare((1, "a", 0)) + "# sent_id = glued\n" + bare((1, "b", 0)), "a sentence ends with an empty line"),
        (bare((1, "a", 2), (2, "b", 1)), "no root: no word has head 0"),
        (bare((1, "a", 0), (2, "b", 0), (3, "c", 0)), "3 roots: words 1, 2, 3 have head 0, wanted one"),
        (bare((1, "a", 0), (2, "b", 3), (3, "c", 2)), "a cycle: the heads lead from word 2 -> 3 -> 2"),
        (bare((1, "a", 0), (2, "b", 2)), "a cycle: the heads lead from word 2 -> 2"),
        (bare((1, "a", 0), (2, "b", 3), (3, "c", 4), (4, "d", 3)), "from word 3 -> 4 -> 3"),
        (bare(*((k, "a", 0) for k in range(1, 31))), "30 roots: words 1, 2, 3, 4, 5, 6, 7, 8, ..., 30 have head 0"),
        (bare((1, "a", 0), *((k, "a", k + 1 if k < 40 else 2) for k in range(2, 41))),
         "from word 2 -> 3 -> 4 -> 5 -> 6 -> 7 -> 8 -> 9 -> ... -> 2"),
        ("1-2 ab _ _ _ _ _ _ _ _\n" + bare((1, "a", 0)), "the multiword token 'ab' goes to word 2"),
        ("1-2 ab _ _ _ _ _ _ _ _\n" + bare((1, "a", 0), ("2-3", "bc", "_"), (2, "b", 1)), "line 9: found number 2-3"),
        (bare((1, "a", 0)) + "1-2 ab _ _ _ _ _ _ _ _\n", "line 8: found number 1-2, wanted 2"),
        ("1-2 au _ _ _ _ _ _ _ _\n" + bare((1, "à", 0), (2, "le", 1)),
         "the words of the multiword token 'au', 'à', 'le', are no pieces of it"),
        ("# text = a c\n" + bare((1, "a", 0), (2, "b", 1)), "line 9: found 'c' at character 2 of '# text', wanted 'b'"),
        ("# text = a\n" + bare((1, "a", 0), (2, "b", 1)), "line 9: found '' at character 1 of '# text', wanted 'b'"),
        ("# text = a b c\n" + bare((1, "a", 0), (2, "b", 1)), "'# text' goes on after the last word, with 'c'"),
        ("# text = Dogs\u200b bark\n" + bare((1, "Dogs", 0), (2, "bark", 1)),
         "line 9: found '\\u200b ba' at character 4 of '# text', wanted 'bark'"),
        ("# text = caf\u00e9s\n" + bare((1, "cafe\u0301s", 0)),
         "wanted 'cafe\u0301s', the same characters in another Unicode normal form; write the whole file in NFC"),
        ("# text = cafe\u0301s\n" + bare((1, "caf\u00e9s", 0)), "the same characters in another Unicode normal form"),
        ("# text = no words here", "the sentence has no words"),
        ("1.1 a _ _ _ _ _ _ 0:root _", "the sentence has no words"),
        (b"1\tcaf\xe9\t_\t_\t_\t_\t0\troot\t_\t_\n", "not UTF-8 text (byte 6 of the line is 0xe9)"),
        (b"# text = caf\xe9\n1\tcaf\t_\t_\t_\t_\t0\troot\t_\t_\n", "not UTF-8 text (byte 13"),
    ],
)  # fmt: skip
def test_a_sentence_that_cannot_be_used_is_named_with_line_and_reason(reason, bad, message):
    found = reason(bad)
    assert message in found
    assert "line 7" not in found  # the sentence begins there, which is said with its name


def test_a_bad_sentence_keeps_its_name(read):
    treebank = read(conllu(GOOD, GOOD.replace("good", "bad one").replace(" 0 root", " 1 root")))
    assert treebank.skipped[0].summary() == "bad one (line 7) skipped: no root: no word has head 0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "some.conllu: wanted sentences in CoNLL-U, found none"),
        (b"\n \n\t\n", "found none"),
        (b"# only a comment\n", "found none"),
        (b"Dogs bark.\nCats do not.\n\nNobody knows why.\n",
         r"none of 2 can be used; sentence 1 \(line 1\) skipped: found 1 column, wanted 10"),
        ("1\tcafé\t_\t_\t_\t_\t0\troot\t_\t_\n".encode("utf-16-be"), r"none of \d+ can be used; .* not UTF-8 text"),
        (bytes(range(256)) * 4, r"none of \d+ can be used"),
        (b"# global.columns = ID FORM TAG\n1\ta\tX\n", "found the columns ID FORM TAG, wanted those of CoNLL-U: ID"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_file_without_any_usable_sentence_is_refused(read, content, message, on_error):
    if on_error == "raise" and "none of" in message:
        message = "some.conllu, sentence 1, which begins in line 1: (found [12] columns?|not UTF-8)"
    with pytest.raises(FormatError, match=message):
        read(content, on_error=on_error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(conllu(GOOD).encode()), "compressed with gzip; unpack it"),
        (bz2.compress(conllu(GOOD).encode()), "compressed with bzip2"),
        (lzma.compress(conllu(GOOD).encode()), "compressed with xz"),
        (b"PK\x03\x04" + conllu(GOOD).encode(), "a ZIP archive"),
        (conllu(GOOD).encode("utf-16"), "in UTF-16; save it in UTF-8"),
        (b"\xfe\xff" + conllu(GOOD).encode("utf-16-be"), "in UTF-16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_files_that_are_no_text_in_utf_8_are_told_what_they_are(read, content, message, on_error):
    with pytest.raises(FormatError, match=f"^some.conllu: wanted CoNLL-U, a text in UTF-8, and the file is {message}"):
        read(content, on_error=on_error)


def test_a_sentence_of_very_many_words_takes_time_in_proportion(read):
    """Where each head is the next word, the steps to the root are followed once, not searched at every step."""
    n = 30_000
    text = conllu(bare(*((k, "a", k + 1 if k < n else 0) for k in range(1, n + 1))))
    start = time.process_time()
    assert read(text).trees[0].root == n - 1
    assert time.process_time() - start < 4.0  # searched at every step, 450 million comparisons take twice that


def test_the_columns_of_conllu_may_be_named(read):
    columns = "# global.columns = ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC\n"
    assert len(read(columns + conllu(GOOD))) == 1


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(ArgumentError, match="No such file"):
        read_treebank(tmp_path / "absent.conllu")
    with pytest.raises(ArgumentError, match="give the path of a CoNLL-U file"):
        read_treebank(tmp_path)
    with pytest.raises(ArgumentError, match="null"):
        read_treebank("some\0name")


def test_unknown_ways_to_go_on_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="on_error: found 'ignore', wanted 'skip' or 'raise'"):
        read_treebank(tmp_path / "absent.conllu", on_error="ignore")


def test_without_conllu_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "conllu"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "conllu", None)
    with pytest.raises(MissingDependencyError, match=r'read_treebank needs .*pip install "infogeo\[treebank\]"'):
        sample_treebank()


def test_the_sample_is_read_whole():
    treebank = sample_treebank()
    assert treebank.skipped == ()
    assert len(treebank) >= 60
    assert treebank.source.options["treebank"] == "sample.conllu"


def test_a_treebank_of_your_own():
    """Reads every sentence of a file of Universal Dependencies for English, without needless skips."""
    file = os.environ.get("INFOGEO_TREEBANK")
    if not file:
        pytest.skip("set INFOGEO_TREEBANK to the path of an English CoNLL-U file to run this test")
    treebank = read_treebank(file)
    assert len(treebank.skipped) <= 0.01 * len(treebank)
