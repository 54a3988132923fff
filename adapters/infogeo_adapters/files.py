"""Word graphs in files: GraphML, GEXF, node-link JSON, DOT and CSV.

Every format holds everything of a :class:`~infogeo.graphs.WordGraph`, words without edges and the source included,
and gives it back exactly: ``read_graph(write_graph(graph, path))`` has the same words, edges, numbers and attributes.
What a format cannot hold is refused by name before anything is written:

======= ======================= ==================================================================================
format  suffix                  characters refused
======= ======================= ==================================================================================
graphml ``.graphml``            control characters but tab and line breaks, U+FFFE, U+FFFF (XML 1.0 has no form for
                                them)
gexf    ``.gexf``               the same
json    ``.json``               none
dot     ``.dot``, ``.gv``       none
csv     ``.csv``                control characters but tab and line breaks
======= ======================= ==================================================================================

Halves of surrogate pairs are refused everywhere: they are no Unicode text.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogeo.errors import ArgumentError, FormatError, OutputError
from infogeo.graphs import WordGraph
from infogeo_adapters import _graph_text as text_formats
from infogeo_adapters import _graph_xml as xml_formats

SURROGATE = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: Python strings can hold them, UTF-8 cannot."""


@dataclass(frozen=True)
class _Format:
    suffixes: tuple[str, ...]
    forbidden: re.Pattern[str] | None
    write: Callable[[WordGraph], str]
    read: Callable[[bytes], WordGraph]


def _of_text(read: Callable[[str], WordGraph]) -> Callable[[bytes], WordGraph]:
    def read_bytes(data: bytes) -> WordGraph:
        try:
            return read(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise FormatError(f"not UTF-8 text (byte {error.start} is {data[error.start]:#04x})") from error

    return read_bytes


FORMATS: Mapping[str, _Format] = {
    "graphml": _Format((".graphml",), xml_formats.FORBIDDEN, xml_formats.write_graphml, xml_formats.read_graphml),
    "gexf": _Format((".gexf",), xml_formats.FORBIDDEN, xml_formats.write_gexf, xml_formats.read_gexf),
    "json": _Format((".json",), None, text_formats.write_json, _of_text(text_formats.read_json)),
    "dot": _Format((".dot", ".gv"), None, text_formats.write_dot, _of_text(text_formats.read_dot)),
    "csv": _Format((".csv",), text_formats.CONTROL, text_formats.write_csv, _of_text(text_formats.read_csv)),
}


def write_graph(graph: WordGraph, path: str | os.PathLike[str], *, format: str | None = None) -> Path:  # noqa: A002
    r"""Write a word graph to a file, completely or not at all.

    Parameters
    ----------
    graph : WordGraph
    path : path
        The file; one that exists is replaced, in one step.
    format : {"graphml", "gexf", "json", "dot", "csv"}, optional
        Taken from the suffix if not given.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ArgumentError
        If the format is unknown.
    FormatError
        If a word, the construction or the measure holds a character that the format cannot; nothing is written.
    OutputError
        If the file cannot be written; a file that was there is left as it was.

    See Also
    --------
    read_graph : the inverse.

    Notes
    -----
    ``graphml`` and ``json`` are opened by networkx with the attributes of
    :func:`~infogeo_adapters.networkx.to_networkx`; ``gexf`` too, except for what concerns the whole graph, which
    networkx does not read (it is in the description). ``json`` is node-link data with the key ``edges`` (for D3
    rename it to ``links``). ``dot`` is for Graphviz; its ``label`` is for display, its ``word`` is exact.

    ``csv`` is one table with a row for each edge, ``kind`` being ``edge``; rows of kind ``word`` keep the words
    without edges, rows of kind ``graph`` the attributes (name and value in ``from_word`` and ``to_word``). So that no
    spreadsheet runs a word as a formula, a text starting with ``=``, ``+``, ``-``, ``@``, a tab or a line break has
    an apostrophe in front of it, and one that starts with an apostrophe has another; :func:`read_graph` takes it
    away. With pandas: ``pandas.read_csv(path, keep_default_na=False).query("kind == 'edge'")``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from infogeo.graphs import minimum_spanning_tree
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1.], [0., 1.])), words=("<b>", "=1+1"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_graph(minimum_spanning_tree(d), folder + "/graph.csv")
    ...     read_graph(path).words
    ...     path.read_text().splitlines()[1]
    ('<b>', '=1+1')
    '"edge",0,1,"<b>","\'=1+1",1.0,0.5'
    """
    target = Path(path)
    name = format_of(target, format, _suffixes(FORMATS))
    kind = FORMATS[name]
    check_characters(name, _texts(graph), kind.forbidden)
    return write_atomically(target, kind.write(graph).encode("utf-8"))


def check_graph_file(path: str | os.PathLike[str], *, format: str | None = None) -> str:  # noqa: A002
    """The format that :func:`write_graph` would write to a path, or its error before there is a graph.

    Parameters
    ----------
    path : path
    format : {"graphml", "gexf", "json", "dot", "csv"}, optional
        Taken from the suffix if not given.

    Returns
    -------
    str
        The format.

    Raises
    ------
    ArgumentError
        If the format is unknown.
    OutputError
        If no file can be written there. To find out, an empty file is made beside the place and taken away again.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_graph_file(folder + "/graph.gv")
    'dot'
    """
    name = format_of(Path(path), format, _suffixes(FORMATS))
    check_place(path)
    return name


def check_path(name: str, value: Any) -> Path:
    """A path that is no empty one, or an ArgumentError that names the argument."""
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(found, str) or not found or "\0" in found:
        raise ArgumentError(f"{name}: found {value!r}, wanted a path")
    return Path(found)


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise an OutputError if :func:`write_atomically` could write no file to a path.

    To find out, an empty file is made beside the place and taken away again.
    """
    target = Path(path)
    try:
        place, _ = _place_of(target)
        folder = os.path.dirname(place)
        if not os.path.isdir(folder):
            raise OutputError(
                f"cannot write {str(target)!r}: there is no folder {folder}; make it (mkdir -p) or give another path"
            )
        probe = os.path.join(folder, f".infogeo-{secrets.token_hex(8)}.tmp")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {str(target)!r}: {_reason(error)}; give another path") from error


def read_graph(path: str | os.PathLike[str], *, format: str | None = None) -> WordGraph:  # noqa: A002
    """Read a word graph that :func:`write_graph` has written.

    GraphML, and JSON as node-link data, may also have gone through networkx.

    Parameters
    ----------
    path : path
    format : {"graphml", "gexf", "json", "dot", "csv"}, optional
        Taken from the suffix if not given.

    Returns
    -------
    WordGraph

    Raises
    ------
    ArgumentError
        If the format is unknown, or there is no such file, or it cannot be opened.
    FormatError
        If the file is malformed or was not written by infogeo. XML with a document type declaration is refused, so no
        entity is expanded and no other file is opened.

    See Also
    --------
    write_graph : the inverse.
    """
    target = Path(path)
    name = format_of(target, format, _suffixes(FORMATS))
    kind = FORMATS[name]
    try:
        data = target.read_bytes()
    except (OSError, ValueError) as error:
        raise ArgumentError(f"cannot read {str(target)!r}: {_reason(error)}; give the path of a file") from error
    try:
        graph = kind.read(data)
        check_characters(name, _texts(graph), None)
    except FormatError as error:
        raise FormatError(f"{target.name}: {error}") from error
    return graph


def write_atomically(path: str | os.PathLike[str], data: bytes, *, temporary: str | None = None) -> Path:
    """Write a file beside its place and move it there, so that nobody ever sees half of it.

    Parameters
    ----------
    path : path
        A file that may exist, in a folder that must; a symbolic link is followed. The mode of an existing file is kept.
    data : bytes
    temporary : str, optional
        Name of the file beside it, for work that is written again and again: what a killed process left of it is
        overwritten the next time. By default a new name each time, so that several processes may write.

    Returns
    -------
    Path
        The path as given.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing new is left behind.
    """
    target = Path(path)
    left: str | None = None
    try:
        place, mode = _place_of(target)
        name = os.path.join(os.path.dirname(place), temporary or f".infogeo-{secrets.token_hex(8)}.tmp")
        left = name  # before there is such a file, so that no interruption comes in between
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if temporary else os.O_EXCL)
        with open(os.open(name, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(name, stat.S_IMODE(mode))
        os.replace(name, place)
        left = None
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {str(target)!r}: {_reason(error)}") from error
    finally:
        if left is not None:
            with contextlib.suppress(OSError):
                os.unlink(left)
    return target


def _place_of(target: Path) -> tuple[str, int | None]:
    """Where a file is written, links followed, and the mode of the file that is there."""
    place = os.path.realpath(target)
    mode = os.stat(place).st_mode if os.path.lexists(place) else None
    if mode is not None and not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(f"cannot write {str(target)!r}: it is {kind}; give the path of a file")
    if mode is not None and not os.access(place, os.W_OK):
        raise OutputError(f"cannot write {str(target)!r}: the file there is read-only")
    return place, mode


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _suffixes(formats: Mapping[str, _Format]) -> dict[str, tuple[str, ...]]:
    return {name: kind.suffixes for name, kind in formats.items()}


def format_of(path: Path, name: str | None, suffixes: Mapping[str, tuple[str, ...]]) -> str:
    """The format named, else the one that a path's suffix belongs to, or an ArgumentError that lists them."""
    known = ", ".join(f"{n} ({' '.join(endings)})" for n, endings in suffixes.items())
    if name is not None:
        if name not in suffixes:
            raise ArgumentError(f"format {name!r} does not exist; choose one of {known}")
        return name
    for candidate, endings in suffixes.items():
        if path.suffix.lower() in endings:
            return candidate
    raise ArgumentError(
        f"no format belongs to the suffix {path.suffix!r} of {path.name!r}; choose one of {known}, or pass format="
    )


def _texts(graph: WordGraph) -> list[tuple[str, str]]:
    """What a file holds as plain text, and what to call it; the source is escaped."""
    texts = [(f"word {i}", word) for i, word in enumerate(graph.words)]
    texts += [("construction", graph.construction), ("measure", graph.measure)]
    return texts + ([] if graph.source.model is None else [("model of the source", graph.source.model)])


def check_characters(name: str, texts: list[tuple[str, Any]], forbidden: re.Pattern[str] | None) -> None:
    """Raise a FormatError that names the first text that a format cannot hold."""
    for what, text in texts:
        half = SURROGATE.search(text)
        if half:
            raise FormatError(
                f"{what} ({text!r}) holds U+{ord(half[0]):04X}, half a surrogate pair: it is no Unicode text, "
                f"and {name} cannot hold it (nor can any other format); repair the text"
            )
        bad = forbidden.search(text) if forbidden else None
        if bad:
            raise FormatError(
                f"{what} ({text!r}) holds the character U+{ord(bad[0]):04X}, which {name} cannot hold; "
                "write json instead, which can"
            )
