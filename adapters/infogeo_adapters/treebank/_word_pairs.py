"""Pairs of words with scores of their similarity, from files with commas or tabs."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infogeo._checks import check_count
from infogeo.errors import ArgumentError, FormatError
from infogeo.results import Source
from infogeo.word_similarity import WordPairs


def read_word_pairs(path: str | os.PathLike[str], *, columns: tuple[int, int, int] = (0, 1, 2)) -> WordPairs:
    r"""Read pairs of words with scores of their similarity from a file with commas or tabs.

    A file whose first line holds a tab is separated by tabs, any other by commas, where a text may stand in double
    quotes. Empty lines and lines that begin with ``#`` are left aside. The first line is taken for a header if the
    field of the score is a word: it has a letter and no digit, and is neither ``nan`` nor an infinity.

    Parameters
    ----------
    path : path
        A text in UTF-8, a pair a line, in each as many fields.
    columns : (int, int, int)
        Which fields hold the first word, the second word and the score, counted from 0; other fields are not read.

    Returns
    -------
    WordPairs
        In the order of the file; a pair that is there twice stays twice.

    Raises
    ------
    ArgumentError
        If there is no such file or it cannot be read, or ``columns`` are not three different fields.
    FormatError
        If lines cannot be used (too few or too many fields, an empty word, a score that is no finite number), which
        are named by their numbers, or there is no pair.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "pairs.csv")
    ...     _ = file.write_text("word1,word2,score\ntiger,cat,7.35\ntiger,car,1\n", encoding="utf-8")
    ...     pairs = read_word_pairs(file)
    >>> pairs.rows()[1]
    [('tiger', 'cat', 7.35), ('tiger', 'car', 1.0)]
    """
    places = _places(columns)
    target = Path(path)
    try:
        data = target.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(f"cannot read {str(target)!r}: {reason}; give the path of a file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{target.name}: line {line} is not UTF-8; write the file again in that encoding") from error
    found, bad = _parse(text, places)
    if bad:
        more = f" (and {len(bad) - 5} more lines)" if len(bad) > 5 else ""
        raise FormatError(f"{target.name}: {'; '.join(bad[:5])}{more}; correct the file, or leave these lines out")
    if not found:
        raise FormatError(f"{target.name}: no pairs of words; wanted lines such as: tiger,cat,7.35")
    first, second, scores = zip(*found, strict=True)
    source = Source(text_hash=hashlib.sha256(data).hexdigest(), options={"pairs": target.name})
    return WordPairs(first=first, second=second, scores=np.array(scores), source=source)


def _places(columns: Sequence[int]) -> tuple[int, int, int]:
    given = tuple(columns) if isinstance(columns, Sequence) and not isinstance(columns, str) else ()
    if len(given) != 3 or len(set(given)) != 3:
        raise ArgumentError(f"columns: found {columns!r}, wanted three different fields, such as (0, 1, 2)")
    first, second, score = (check_count("columns", place, 0) for place in given)
    return first, second, score


def _parse(text: str, places: tuple[int, int, int]) -> tuple[list[tuple[str, str, float]], list[str]]:
    """The pairs, and what is wrong with which line."""
    lines = [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not lines:
        return [], []
    tabs = "\t" in lines[0][1]
    found: list[tuple[str, str, float]] = []
    bad = []
    fields = 0
    for position, (number, line) in enumerate(lines):
        try:
            cells = line.split("\t") if tabs else next(csv.reader([line], skipinitialspace=True))
        except csv.Error as error:
            bad.append(f"line {number}: {error}")
            continue
        cells = [cell.strip() for cell in cells]
        fields = fields or len(cells)
        if len(cells) != fields or len(cells) <= max(places):
            wanted = f"{fields}, as in line {lines[0][0]}" if len(cells) != fields else f"at least {max(places) + 1}"
            bad.append(f"line {number} has {len(cells)} field{'' if len(cells) == 1 else 's'}, wanted {wanted}")
            continue
        first, second, score = (cells[place] for place in places)
        if position == 0 and _is_title(score):
            continue  # the header
        if not first or not second:
            bad.append(f"line {number} has an empty word")
            continue
        value = _number(score)
        if value is None:
            bad.append(f"line {number}: found score {score!r}, wanted a finite number")
            continue
        found.append((first, second, value))
    return found, bad


def _is_title(text: str) -> bool:
    """Whether a score is the name of a column."""
    unbounded = text.lower().lstrip("+-") in ("nan", "inf", "infinity")
    return not unbounded and any(c.isalpha() for c in text) and not any(c.isdigit() for c in text)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None  # Python reads 1_0 as ten
