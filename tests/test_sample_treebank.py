"""The treebank that ships: read here by a few lines of its own, and held to the guidelines rule by rule."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import infogeo_adapters

FOLDER = Path(infogeo_adapters.__file__).parent / "treebank"
FILE, NOTE = FOLDER / "sample.conllu", FOLDER / "SAMPLE.md"

UNIVERSAL = {
    "acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "clf", "compound", "conj", "cop", "csubj",
    "dep", "det", "discourse", "dislocated", "expl", "fixed", "flat", "goeswith", "iobj", "list", "mark", "nmod",
    "nsubj", "nummod", "obj", "obl", "orphan", "parataxis", "punct", "reparandum", "root", "vocative", "xcomp",
}
SUBTYPES = {
    "acl:relcl", "advcl:relcl", "aux:pass", "cc:preconj", "compound:prt", "det:predet", "nmod:desc", "nmod:poss",
    "nmod:unmarked", "nsubj:pass", "obl:agent", "obl:unmarked",
}
TAGS_OF = {  # universal part of speech: parts of speech of the Penn treebank
    "ADJ": "JJ JJR JJS", "ADP": "IN RP", "ADV": "RB RBR RBS WRB", "AUX": "MD VB VBD VBG VBN VBP VBZ", "CCONJ": "CC",
    "DET": "DT PDT WDT", "INTJ": "UH", "NOUN": "NN NNS", "NUM": "CD", "PART": "RB TO POS",
    "PRON": "PRP PRP$ WP WP$ WDT EX NN", "PROPN": "NNP", "PUNCT": ". , `` '' -LRB- -RRB-", "SCONJ": "IN",
    "VERB": "VB VBD VBG VBN VBP VBZ",
}
PARTS_OF = {  # relation, without subtype: parts of speech that may bear it
    "punct": "PUNCT", "det": "DET", "nummod": "NUM", "cop": "AUX", "aux": "AUX", "expl": "PRON", "cc": "CCONJ ADV",
    "mark": "SCONJ PART", "case": "ADP PART VERB", "advmod": "ADV PART", "amod": "ADJ VERB", "discourse": "INTJ",
    "vocative": "PROPN", "flat": "PROPN", "compound": "NOUN PROPN ADP", "iobj": "NOUN PRON PROPN",
    "nsubj": "NOUN PRON PROPN DET NUM", "nmod": "NOUN PRON PROPN", "xcomp": "VERB ADJ", "csubj": "VERB",
}
UNDER_A_LEAF = {  # what may depend on a word of function; nothing else may
    "punct": set(), "det": set(), "aux": set(), "cop": set(), "fixed": set(), "mark": set(), "flat": set(),
    "case": {"fixed"}, "cc": {"fixed"},
}
NOT_PROJECTIVE = {"question-05", "syntax-04", "syntax-12"}
"""A preposition left behind, a relative clause moved to the end, a question word far from its verb."""


@dataclass
class Row:
    number: int
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: dict[str, str]
    head: int
    relation: str
    deps: str
    misc: str

    @property
    def plain(self) -> str:
        return self.relation.split(":")[0]


@dataclass
class Parsed:
    name: str = ""
    text: str = ""
    rows: list[Row] = field(default_factory=list)
    ranges: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    """First and last word of a multiword token: its form and last column."""
    empty: dict[str, list[str]] = field(default_factory=dict)

    def children(self, number: int) -> list[Row]:
        return [row for row in self.rows if row.head == number]

    def length(self) -> int:
        """Words as a reader counts them: no punctuation, and a multiword token once."""
        hidden = {n for first, last in self.ranges for n in range(first + 1, last + 1)}
        return sum(row.upos != "PUNCT" and row.number not in hidden for row in self.rows)


def parse() -> list[Parsed]:
    sentences = []
    for block in FILE.read_text(encoding="utf-8").strip().split("\n\n"):
        one = Parsed()
        for line in block.split("\n"):
            if line.startswith("# sent_id = "):
                one.name = line.removeprefix("# sent_id = ")
            elif line.startswith("# text = "):
                one.text = line.removeprefix("# text = ")
            else:
                columns = line.split("\t")
                assert len(columns) == 10, line
                assert all(c and c == c.strip() for c in columns), line
                if "-" in columns[0]:
                    first, last = map(int, columns[0].split("-"))
                    assert columns[2:9] == ["_"] * 7
                    one.ranges[first, last] = columns[1], columns[9]
                elif "." in columns[0]:
                    one.empty[columns[0]] = columns
                else:
                    pairs = [] if columns[5] == "_" else columns[5].split("|")
                    assert pairs == sorted(pairs, key=str.lower), line
                    feats = dict(pair.split("=") for pair in pairs)
                    form, lemma, upos, xpos = columns[1:5]
                    relation, deps, misc = columns[7:]
                    one.rows.append(
                        Row(int(columns[0]), form, lemma, upos, xpos, feats, int(columns[6]), relation, deps, misc)
                    )
        sentences.append(one)
    return sentences


SENTENCES = parse()


def each_row() -> Iterator[tuple[Parsed, Row]]:
    for sentence in SENTENCES:
        for row in sentence.rows:
            yield sentence, row


def where(sentence: Parsed, row: Row) -> str:
    return f"{sentence.name}: word {row.number} ({row.form!r}, {row.relation} of {row.head})"


def chain(sentence: Parsed, number: int) -> list[int]:
    """The word and all above it, ending in 0."""
    seen = [number]
    while seen[-1]:
        above = sentence.rows[seen[-1] - 1].head
        assert above not in seen, f"{sentence.name}: a circle at word {above}"
        seen.append(above)
    return seen


def crossing(sentence: Parsed) -> list[Row]:
    """Words whose arc passes over a word that is not below its head."""
    bad = []
    for row in sentence.rows:
        inside = range(min(row.number, row.head) + 1, max(row.number, row.head))
        if row.head and any(row.head not in chain(sentence, between) for between in inside):
            bad.append(row)
    return bad


def test_size_lengths_and_names() -> None:
    assert len(SENTENCES) >= 72
    assert len({s.name for s in SENTENCES}) == len({s.text.lower() for s in SENTENCES}) == len(SENTENCES)
    assert all(re.fullmatch(r"[a-z]+-\d\d", s.name) for s in SENTENCES)
    assert {s.name: s.length() for s in SENTENCES if not 5 <= s.length() <= 22} == {}


def test_no_two_sentences_are_nearly_the_same() -> None:
    bags = [Counter(w.lemma for w in s.rows if w.upos in ("NOUN", "VERB", "ADJ", "PROPN")) for s in SENTENCES]
    for i, first in enumerate(bags):
        for j in range(i):
            shared = (first & bags[j]).total()
            assert shared < 0.5 * min(first.total(), bags[j].total()), (SENTENCES[i].text, SENTENCES[j].text)


def test_every_sentence_is_a_tree_with_numbers_in_order() -> None:
    for s in SENTENCES:
        assert [row.number for row in s.rows] == list(range(1, len(s.rows) + 1)), s.name
        assert [row.relation for row in s.rows if row.head == 0] == ["root"], s.name
        assert sum(row.relation == "root" for row in s.rows) == 1, s.name
        for row in s.rows:
            assert 0 <= row.head <= len(s.rows), where(s, row)
            assert row.head != row.number, where(s, row)
            chain(s, row.number)


def test_forms_and_spaces_make_the_text() -> None:
    for s in SENTENCES:
        built, inside = "", {n: r for r in s.ranges for n in range(r[0], r[1] + 1)}
        for row in s.rows:
            if row.number in inside:
                first, last = inside[row.number]
                form, misc = s.ranges[first, last]
                assert row.misc == "_", where(s, row)  # spaces are those of the whole token
                assert form == "".join(s.rows[n - 1].form for n in range(first, last + 1)), s.name
                if row.number > first:
                    continue
            else:
                form, misc = row.form, row.misc
            assert misc in ("_", "SpaceAfter=No")
            built += form + ("" if misc == "SpaceAfter=No" else " ")
        assert built.rstrip() == s.text, s.name


def test_tags_and_relations_are_of_the_lists() -> None:
    for s, row in each_row():
        assert row.plain in UNIVERSAL, where(s, row)
        assert ":" not in row.relation or row.relation in SUBTYPES, where(s, row)
        assert row.xpos in TAGS_OF[row.upos].split(), f"{where(s, row)} {row.upos} {row.xpos}"
        if row.plain in PARTS_OF:
            assert row.upos in PARTS_OF[row.plain].split(), f"{where(s, row)} {row.upos}"
    assert {row.relation for _, row in each_row() if ":" in row.relation} == SUBTYPES  # none is listed in vain


def test_words_of_function_are_leaves() -> None:
    for s, row in each_row():
        allowed = UNDER_A_LEAF.get(row.plain)
        if allowed is not None:
            assert {child.relation for child in s.children(row.number)} <= allowed, where(s, row)


def test_parts_of_speech_that_belong_to_one_relation() -> None:
    for s, row in each_row():
        assert (row.upos == "PUNCT") == (row.plain == "punct"), where(s, row)
        if row.upos == "AUX":  # but where it stands for the verb that is left out
            assert row.plain in ("aux", "cop") or (s.name, row.form) == ("story-19", "could"), where(s, row)
        if row.upos in ("ADP", "SCONJ"):
            assert row.relation in ("case", "mark", "fixed", "compound:prt"), where(s, row)
        if row.upos == "PART":
            assert (row.form.lower(), row.relation) in {
                ("to", "mark"), ("'s", "case"), ("not", "advmod"), ("n't", "advmod")
            }, where(s, row)


def test_numbers_that_modify_count_something() -> None:
    """The day of a date and a year are no ``nummod``: nothing is there so many times."""
    counted = {row.head for _, row in each_row() if row.plain == "nummod"}
    assert counted
    for s, row in each_row():
        if row.plain == "nummod":
            assert s.rows[row.head - 1].upos == "NOUN", where(s, row)


def test_order_of_what_is_headed_by_its_first_word() -> None:
    for s, row in each_row():
        if row.plain in ("conj", "flat", "fixed", "appos"):
            assert row.head < row.number, where(s, row)
        if row.relation == "case" and row.upos == "ADP" and s.name != "question-05":
            assert row.number < row.head, where(s, row)
        if row.plain == "cc":  # on the conjunct that follows; what announces the first, on the first
            assert row.number < row.head, where(s, row)
            first = row.relation == "cc:preconj"
            assert first or s.rows[row.head - 1].plain == "conj", where(s, row)
        if row.plain in ("det", "amod", "nummod") and row.upos != "NUM":
            assert row.number < row.head, where(s, row)


def test_no_verb_has_two_subjects_or_objects() -> None:
    for s, row in each_row():
        plain = Counter(child.plain for child in s.children(row.number))
        assert plain["nsubj"] + plain["csubj"] <= 1, where(s, row)
        assert max(plain[relation] for relation in ("obj", "iobj", "cop", "expl")) <= 1, where(s, row)
        if plain["iobj"]:
            assert plain["obj"] + plain["ccomp"] == 1, where(s, row)


def test_passives_have_their_auxiliary_and_their_features() -> None:
    for s, row in each_row():
        relations = {child.relation for child in s.children(row.number)}
        if "nsubj:pass" in relations or "obl:agent" in relations:
            assert "aux:pass" in relations, where(s, row)
        if "aux:pass" in relations:
            assert (row.xpos, row.feats["Voice"]) == ("VBN", "Pass"), where(s, row)
            assert "nsubj" not in relations, where(s, row)
        if row.xpos == "VBN" and row.upos == "VERB" and row.relation not in ("acl", "amod"):
            assert relations & {"aux", "aux:pass"}, where(s, row)


def test_features_follow_the_tags() -> None:
    for s, row in each_row():
        wanted = {
            "NN": {"Number": "Sing"}, "NNP": {"Number": "Sing"}, "NNS": {"Number": "Plur"}, "JJR": {"Degree": "Cmp"},
            "JJS": {"Degree": "Sup"}, "VBD": {"Tense": "Past", "VerbForm": "Fin"}, "VBN": {"VerbForm": "Part"},
            "VBZ": {"Person": "3", "Number": "Sing", "Tense": "Pres"}, "MD": {"VerbForm": "Fin"},
            "PRP$": {"Poss": "Yes"},
        }.get(row.xpos, {})
        assert wanted.items() <= row.feats.items(), f"{where(s, row)} {row.feats}"
        if row.xpos == "VB":  # an infinitive has something before it, an order has not
            below = {c.relation for c in s.children(row.number)}
            order = row.feats.get("Mood") == "Imp"
            assert row.feats["VerbForm"] == ("Fin" if order else "Inf"), where(s, row)
            assert not (order and below & {"nsubj", "mark"}), where(s, row)
        if row.xpos in ("WP", "WDT", "WP$"):
            above = chain(s, row.number)[:-1]
            kinds = [s.rows[n - 1].relation for n in above]
            relative = any(k.endswith("relcl") for k in kinds) or any(
                c.relation == "acl:relcl" for c in s.children(row.number)
            )
            assert (row.feats["PronType"] == "Rel") == relative, where(s, row)


def test_lemmas_are_lower_case_but_for_names() -> None:
    for s, row in each_row():
        if row.upos == "PROPN" or row.lemma in ("I", "Swiss"):
            assert row.lemma[0].isupper(), where(s, row)
        else:
            assert row.lemma == row.lemma.lower(), where(s, row)
    plural = {row.form.lower(): row.lemma for _, row in each_row() if row.xpos == "NNS"}
    assert {f for f, lemma in plural.items() if f == lemma} == {"people", "police"}
    past = {row.form.lower(): row.lemma for _, row in each_row() if row.xpos in ("VBD", "VBN", "VBZ", "VBG")}
    assert {f for f, lemma in past.items() if f == lemma} == {"put", "hurt", "run", "read"}


def test_one_lemma_for_a_form_and_its_tag() -> None:
    seen: dict[tuple[str, str], set[str]] = {}
    for _, row in each_row():
        seen.setdefault((row.form.lower(), row.xpos), set()).add(row.lemma)
    several = {key: lemmas for key, lemmas in seen.items() if len(lemmas) > 1}
    assert several == {("'s", "VBZ"): {"be", "have"}}


def test_only_the_listed_sentences_are_not_projective() -> None:
    found = {s.name for s in SENTENCES if crossing(s)}
    assert found == NOT_PROJECTIVE
    for s in SENTENCES:
        assert not [row.form for row in crossing(s) if row.upos == "PUNCT"], s.name


def test_quotes_and_brackets_come_in_pairs_under_one_word() -> None:
    for s in SENTENCES:
        opened = [row.head for row in s.rows if row.xpos in ("``", "-LRB-")]
        closed = [row.head for row in s.rows if row.xpos in ("''", "-RRB-")]
        assert opened == closed, s.name
        assert s.text.count('"') == sum(row.form == '"' for row in s.rows), s.name
        assert s.rows[-1].upos == "PUNCT", s.name


def test_multiword_tokens_and_empty_nodes() -> None:
    forms = Counter(form.lower() for s in SENTENCES for form, _ in s.ranges.values())
    assert len(forms) >= 10
    assert {"don't", "she's", "it's", "can't", "won't", "we've", "i'll", "let's", "king's"} <= set(forms)
    for s in SENTENCES:
        apostrophes = {n for n, row in enumerate(s.rows, 1) if row.form in ("'s", "n't", "'ve", "'ll")}
        assert apostrophes == {last for _, last in s.ranges}, s.name
    with_empty = [s for s in SENTENCES if s.empty]
    assert {s.name for s in with_empty} == {"syntax-05", "syntax-07"}
    for s in SENTENCES:
        assert all((row.deps == "_") == (not s.empty) for row in s.rows), s.name
        assert bool(s.empty) == any(row.plain == "orphan" for row in s.rows), s.name


def test_enhanced_graphs_reach_every_word_from_the_root() -> None:
    for s in (s for s in SENTENCES if s.empty):
        edges = {str(row.number): row.deps for row in s.rows} | {n: columns[8] for n, columns in s.empty.items()}
        heads = {n: [d.split(":")[0] for d in deps.split("|")] for n, deps in edges.items()}
        for n, above in heads.items():
            assert all(h == "0" or h in heads for h in above), (s.name, n)
        for n in heads:
            seen, place = [n], n
            while place != "0":
                place = heads[place][0]
                assert place not in seen, (s.name, seen)
                seen.append(place)
        for n, columns in s.empty.items():
            original = s.rows[int(columns[9].removeprefix("CopyOf=")) - 1]
            assert columns[1:5] == [original.form, original.lemma, original.upos, original.xpos]
            assert {deps.split(":")[1] for deps in edges.values() if deps.startswith(f"{n}:")} >= {"nsubj", "obj"}


def test_relations_are_long_and_varied_in_both_halves() -> None:
    middle = len(SENTENCES) // 2
    for half in (SENTENCES[:middle], SENTENCES[middle:]):
        arcs = [row for s in half for row in s.rows if row.head and row.upos != "PUNCT"]
        far = [row for row in arcs if abs(row.number - row.head) > 3]
        assert len(arcs) >= 350
        assert len(far) >= 60
        assert {row.relation for row in far} >= {"nsubj", "obl", "conj", "advcl"}
        assert {s.name.split("-")[0] for s in half} == {"story", "news", "letter", "question", "order", "syntax"}
    often = Counter(row.relation for _, row in each_row())
    wanted = ("acl:relcl", "advcl", "xcomp", "ccomp", "conj", "nmod", "obl", "cop", "compound", "aux:pass")
    assert {relation: often[relation] for relation in wanted if often[relation] < 8} == {}


def counts() -> dict[str, int]:
    """What SAMPLE.md says of the file, counted."""
    rows = [row for _, row in each_row()]
    joined = [row for row in rows if row.head and row.upos != "PUNCT"]
    return {
        "sentences": len(SENTENCES),
        "words": len(rows),
        "words that are not punctuation": sum(row.upos != "PUNCT" for row in rows),
        "multiword tokens": sum(len(s.ranges) for s in SENTENCES),
        "empty nodes": sum(len(s.empty) for s in SENTENCES),
        "relations between words that are not punctuation": len(joined),
        "of them over more than three words": sum(abs(row.head - row.number) > 3 for row in joined),
        "kinds of relations, subtypes counted": len({row.relation for row in rows}),
        "sentences that are not projective": sum(bool(crossing(s)) for s in SENTENCES),
    }


def test_the_note_has_the_counts_of_the_file() -> None:
    note = NOTE.read_text(encoding="utf-8")
    for what, number in counts().items():
        assert f"| {what} | {number:,} |" in note, f"| {what} | {number:,} |"
    assert "Apache-2.0" in note


def test_the_reader_gives_the_same_trees() -> None:
    pytest.importorskip("conllu", reason="needs the extra: pip install 'infogeo[treebank]'")
    from infogeo_adapters.treebank.files import sample_treebank

    treebank = sample_treebank()
    assert not treebank.skipped
    assert len(treebank.trees) == len(SENTENCES)
    for tree, s in zip(treebank.trees, SENTENCES, strict=True):
        assert (tree.name, tree.text) == (s.name, s.text)
        assert tree.words == tuple(row.form for row in s.rows)
        assert (tree.heads + 1).tolist() == [row.head for row in s.rows]
        assert tree.relations == tuple(row.relation for row in s.rows)
        assert tree.tags == tuple(row.upos for row in s.rows)
        assert [s.text[a:b] for a, b in tree.spans.tolist()] == list(tree.words)


if __name__ == "__main__":
    sys.stdout.writelines(f"| {what} | {number:,} |\n" for what, number in counts().items())
