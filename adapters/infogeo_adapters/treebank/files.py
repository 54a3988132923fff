"""Treebanks in CoNLL-U files, read with the conllu package.

Only the basic trees are read: empty nodes (numbers such as 8.1) and enhanced dependencies are left aside. Where the
words stand in the text is found by the forms in ``# text``, white space between them counting nothing; without that
line the text is made of the forms and ``SpaceAfter=No``. The words of a multiword token (``don't``: ``do`` and ``n't``)
share its characters, which they can only where their forms, one after the other, are its form; a sentence with another
(French ``au``: ``à`` and ``le``) is left out, since a word without characters cannot be found among the tokens of a
model.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from infogeo._checks import IntArray
from infogeo.errors import ArgumentError, FormatError
from infogeo.results import Source
from infogeo.syntax import DependencyTree, SkippedSentence, Treebank
from infogeo_adapters._require import require

OnError = Literal["skip", "raise"]
COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
LONGEST_SHOWN = 40
"""Most characters of the file that a message repeats."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SAMPLE = "sample.conllu"
NO_TEXT = {
    b"\x1f\x8b": "compressed with gzip; unpack it", b"PK\x03\x04": "a ZIP archive; unpack it",
    b"BZh": "compressed with bzip2; unpack it", b"\xfd7zXZ": "compressed with xz; unpack it",
    b"\xff\xfe": "in UTF-16; save it in UTF-8", b"\xfe\xff": "in UTF-16; save it in UTF-8",
}
"""How files begin that are often given in place of a text in UTF-8, and what to do with them."""


@dataclass(frozen=True)
class _Block:
    """The lines of a sentence, as bytes, and where the first of them stands in the file, counted from 1."""

    line: int
    lines: Sequence[bytes]

    def comments(self) -> Iterator[bytes]:
        return (line for line in self.lines if line.startswith(b"#"))


@dataclass(frozen=True)
class _Word:
    line: int
    form: str
    tag: str
    head: int
    """Number of its head, from 1; 0 for the root."""
    relation: str


@dataclass(frozen=True)
class _Piece:
    """What stands in the text as one piece: a word, or a multiword token with the numbers of its words, from 1."""

    line: int
    form: str
    first: int
    last: int
    space_after: bool


class _BadSentence(Exception):
    """A sentence cannot be used; the message says why, and the line is the one at fault where it is known."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line

    def reason(self, begin: int) -> str:
        """Why, with the line at fault if it is not the one in which the sentence begins, which is told with it."""
        return str(self) if self.line in (None, begin) else f"line {self.line}: {self}"


def read_treebank(path: str | os.PathLike[str], *, on_error: OnError = "skip") -> Treebank:
    r"""Read the sentences of a CoNLL-U file with their basic dependency trees.

    Parameters
    ----------
    path : path
        A text in UTF-8, sentences with an empty line after each.
    on_error : {"skip", "raise"}
        What to do with a sentence that cannot be used: list it with its line and the reason in ``skipped`` of the
        result, or raise. Reasons are a malformed line, text that is not UTF-8, numbers that are not 1, 2, 3, ..., a
        head that does not exist, no root or several, a cycle, forms that are not those of ``# text``, and a multiword
        token whose words are no pieces of it.

    Returns
    -------
    Treebank
        Sentences in the order of the file. A sentence is named by its ``sent_id``, or ``sentence K``, counted from 1.

    Raises
    ------
    ArgumentError
        If there is no such file or it cannot be read, or ``on_error`` is something else.
    FormatError
        If no sentence of the file can be used, the file is compressed or in UTF-16, or it has other columns than
        CoNLL-U; with ``on_error="raise"`` if any sentence cannot be used. The message names the line.
    MissingDependencyError
        If conllu is not installed.

    See Also
    --------
    sample_treebank : a small treebank to try things on.

    References
    ----------
    .. [1] de Marneffe, Manning, Nivre and Zeman, "Universal Dependencies", Computational Linguistics 47, 2021.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> lines = ["1 Dogs dog NOUN _ _ 2 nsubj _ _", "2 bark bark VERB _ _ 0 root _ SpaceAfter=No",
    ...          "3 . . PUNCT _ _ 2 punct _ _", "", "1 Cats cat NOUN _ _ 1 nsubj _ _", ""]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "two.conllu")
    ...     _ = file.write_text("\n".join(line.replace(" ", "\t") for line in lines), encoding="utf-8")
    ...     treebank = read_treebank(file)
    >>> treebank.trees[0].text, treebank.trees[0].heads.tolist()
    ('Dogs bark.', [1, -1, 1])
    >>> treebank.skipped[0].reason
    'no root: no word has head 0'
    """
    if on_error not in ("skip", "raise"):
        raise ArgumentError(f"on_error: found {on_error!r}, wanted 'skip' or 'raise'")
    parser = require("conllu.parser", extra="treebank", caller="read_treebank")
    target = Path(path)
    try:
        data = target.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"cannot read {str(target)!r}: {reason}; give the path of a CoNLL-U file") from error
    for beginning, what in NO_TEXT.items():
        if data.startswith(beginning):
            raise FormatError(f"{target.name}: wanted CoNLL-U, a text in UTF-8, and the file is {what}")
    trees: list[DependencyTree] = []
    skipped: list[SkippedSentence] = []
    for block in _blocks(data):
        comments = _comments(block, parser, target.name)
        if len(list(block.comments())) == len(block.lines) and not {"sent_id", "text"} & set(comments):
            continue  # a licence, say
        name = comments.get("sent_id") or f"sentence {len(trees) + len(skipped) + 1}"
        try:
            trees.append(_tree(block, comments, name, parser))
        except _BadSentence as error:
            reason = error.reason(block.line)
            if on_error == "raise":
                raise FormatError(f"{target.name}, {name}, which begins in line {block.line}: {reason}") from error
            skipped.append(SkippedSentence(name=name, line=block.line, reason=reason))
    if not trees:
        found = f"none of {len(skipped)} can be used; {skipped[0].summary()}" if skipped else "found none"
        raise FormatError(f"{target.name}: wanted sentences in CoNLL-U, {found}")
    source = Source(text_hash=hashlib.sha256(data).hexdigest(), options={"treebank": target.name})
    return Treebank(trees=tuple(trees), skipped=tuple(skipped), source=source)


def sample_treebank() -> Treebank:
    """The small treebank of English that comes with infogeo, written and parsed by hand for trying things out.

    Returns
    -------
    Treebank

    Raises
    ------
    MissingDependencyError
        If conllu is not installed.

    See Also
    --------
    read_treebank : the same for a file of your own.

    Examples
    --------
    >>> len(sample_treebank()) >= 60
    True
    """
    return read_treebank(Path(__file__).with_name(SAMPLE), on_error="raise")


def _blocks(data: bytes) -> Iterator[_Block]:
    start, lines = 0, list[bytes]()
    for number, line in enumerate([*re.split(rb"\r\n|\r|\n", data.removeprefix(BYTE_ORDER_MARK)), b""], start=1):
        if line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            yield _Block(start, lines)
            lines = []


def _comments(block: _Block, parser: ModuleType, file: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in block.comments():
        for key, value in parser.parse_comment_line(line.decode("utf-8", "replace")):
            if value is not None:
                found.setdefault(key, value)
    columns = found.get("global.columns", " ".join(COLUMNS)).upper().split()
    if tuple(columns) != COLUMNS:
        raise FormatError(
            f"{file}: found the columns {' '.join(columns)}, wanted those of CoNLL-U: {' '.join(COLUMNS)}"
        )
    return found


def _tree(block: _Block, comments: Mapping[str, str], name: str, parser: ModuleType) -> DependencyTree:
    words, pieces = _words_and_pieces(block, parser)
    if not words:
        raise _BadSentence("the sentence has no words")
    _check_heads(words)
    text = comments.get("text")
    if text is None:
        text = "".join(piece.form + " " * piece.space_after for piece in pieces).rstrip(" ")
    return DependencyTree(
        words=tuple(word.form for word in words), heads=np.array([word.head - 1 for word in words]),
        relations=tuple(word.relation for word in words), tags=tuple(word.tag for word in words), text=text,
        spans=_spans(words, pieces, text), name=name, line=block.line,
    )


def _words_and_pieces(block: _Block, parser: ModuleType) -> tuple[list[_Word], list[_Piece]]:
    words: list[_Word] = []
    pieces: list[_Piece] = []
    for number, raw in enumerate(block.lines, start=block.line):
        line = _decoded(raw, number)
        if line.startswith("#"):
            continue
        columns = _columns(line, number)
        identifier = _parsed(columns, "ID", number, parser.parse_id_value, parser)
        if isinstance(identifier, tuple) and identifier[1] == ".":
            continue  # an empty node
        first, last = (identifier[0], identifier[2]) if isinstance(identifier, tuple) else (identifier, identifier)
        inside = bool(pieces) and len(words) < pieces[-1].last
        if first != len(words) + 1 or (inside and isinstance(identifier, tuple)):
            raise _BadSentence(
                f"found number {columns['ID']}, wanted {len(words) + 1}; words are numbered 1, 2, 3, ..., and a "
                "sentence ends with an empty line", number,
            )
        if isinstance(identifier, int):
            head = _parsed(columns, "HEAD", number, parser.parse_int_value, parser)
            words.append(_Word(number, columns["FORM"], columns["UPOS"], head, columns["DEPREL"]))
        if not inside:
            misc = parser.parse_dict_value(columns["MISC"]) or {}
            pieces.append(_Piece(number, columns["FORM"], first, last, misc.get("SpaceAfter") != "No"))
    if pieces and pieces[-1].last > len(words):
        raise _BadSentence(
            f"the multiword token {pieces[-1].form!r} goes to word {pieces[-1].last}, and the sentence has "
            f"{len(words)} words", pieces[-1].line,
        )
    return words, pieces


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadSentence(
            f"not UTF-8 text (byte {error.start + 1} of the line is {line[error.start]:#04x})", number
        ) from error


def _columns(line: str, number: int) -> dict[str, str]:
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise _BadSentence(
            f"found {len(cells)} column{'' if len(cells) == 1 else 's'}, wanted {len(COLUMNS)}, with a tab between "
            "each two", number,
        )
    columns = dict(zip(COLUMNS, cells, strict=True))
    for name in ("FORM", "DEPREL"):
        if not columns[name]:
            raise _BadSentence(f"the column {name} is empty", number)
    return columns


def _parsed(columns: dict[str, str], name: str, number: int, parse: Callable[[str], Any], parser: ModuleType) -> Any:
    """What conllu makes of a cell that must be given."""
    try:
        value = parse(columns[name])
    except (parser.ParseException, ValueError) as error:  # Python reads no number of thousands of digits
        found = columns[name] if len(columns[name]) <= LONGEST_SHOWN else columns[name][:LONGEST_SHOWN] + "..."
        raise _BadSentence(f"found {found!r} in the column {name}, wanted a number", number) from error
    if value is None:
        raise _BadSentence(f"the column {name} is empty", number)
    return value


def _check_heads(words: Sequence[_Word]) -> None:
    for word in words:
        if not 0 <= word.head <= len(words):
            raise _BadSentence(f"{word.form!r} has head {word.head}, wanted 0 to {len(words)}", word.line)
    roots = [number for number, word in enumerate(words, start=1) if word.head == 0]
    if not roots:
        raise _BadSentence("no root: no word has head 0")
    if len(roots) > 1:
        raise _BadSentence(f"{len(roots)} roots: words {_listed(roots, ', ')} have head 0, wanted one")
    to_root = {0}
    for number in range(1, len(words) + 1):
        path: dict[int, None] = {}  # in the order of the steps, and quick to search where a sentence is long
        while number not in to_root and number not in path:
            path[number] = None
            number = words[number - 1].head
        if number in path:
            steps = list(path)
            circle = [*steps[steps.index(number):], number]
            raise _BadSentence(f"a cycle: the heads lead from word {_listed(circle, ' -> ')}")
        to_root.update(path)


def _listed(numbers: Sequence[int], between: str) -> str:
    """All numbers, or the first ones and the last where they are many."""
    shown = [*map(str, numbers)]
    return between.join(shown if len(shown) <= 10 else [*shown[:8], "...", shown[-1]])


def _spans(words: Sequence[_Word], pieces: Sequence[_Piece], text: str) -> IntArray:
    """(n, 2) characters of each word, found piece after piece; white space may stand before and between the pieces."""
    spans = np.zeros((len(words), 2), dtype=np.int64)
    place = 0
    for piece in pieces:
        forms = [word.form for word in words[piece.first - 1 : piece.last]]
        if "".join(forms) != piece.form:
            raise _BadSentence(
                f"the words of the multiword token {piece.form!r}, {', '.join(map(repr, forms))}, are no pieces of "
                "it, so that it is unknown where each stands in the text", piece.line,
            )
        while not text.startswith(piece.form, place) and text[place : place + 1].isspace():
            place += 1  # one by one, since white space can be a word
        if not text.startswith(piece.form, place):
            found = text[place : place + len(piece.form)]
            raise _BadSentence(
                f"found {found!r} at character {place} of '# text', wanted {piece.form!r}"
                f"{_same_but_for_code_points(piece.form, text[place:])}", piece.line,
            )
        for number, form in enumerate(forms, start=piece.first - 1):
            spans[number] = place, place + len(form)
            place += len(form)
    if rest := text[place:].strip():
        raise _BadSentence(f"'# text' goes on after the last word, with {rest[:LONGEST_SHOWN]!r}")
    return spans


def _same_but_for_code_points(form: str, text: str) -> str:
    """What to say of a form that looks like what stands in the text, and is written with other code points."""
    composed = [unicodedata.normalize("NFC", characters) for characters in (form, text)]
    if composed[1].startswith(composed[0]):
        return ", the same characters in another Unicode normal form; write the whole file in NFC"
    return ""
