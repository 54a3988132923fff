"""Tables of results in files: CSV, JSON and Parquet."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infogeo.errors import ArgumentError, FormatError
from infogeo.results import Result, to_plain
from infogeo_adapters._graph_text import CONTROL, csv_text
from infogeo_adapters._require import require
from infogeo_adapters.files import check_characters, check_path, check_place, format_of, write_atomically

Columns = Sequence[str]
Rows = Sequence[tuple[Any, ...]]


def write_table(result: Result, path: str | os.PathLike[str], *, format: str | None = None) -> Path:  # noqa: A002
    """Write the table of a result to a file, completely or not at all.

    Parameters
    ----------
    result : Result
        Any result that is a table, such as a DistanceMatrix, an EntropyProfile or Comparisons.
    path : path
        The file; one that exists is replaced, in one step.
    format : {"csv", "json", "parquet"}, optional
        Taken from the suffix if not given.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ArgumentError
        If the format is unknown, the result is not a table, or path is no path.
    FormatError
        If a text holds what no file can (half a surrogate pair), or a CSV file not (control characters but tab and
        line breaks), or two columns of a Parquet file would have one name.
    OutputError
        If the file cannot be written: no such folder, no permission, a full disk. A file that was there is left as it
        was.
    MissingDependencyError
        If pyarrow is not installed, for Parquet.

    Notes
    -----
    ``csv`` has the column names in the first row; texts are kept from being formulas as in
    :func:`~infogeo_adapters.write_graph`, and None is an empty cell. ``json`` is ``{"columns": [...], "data": [[...],
    ...]}``, which ``pandas.read_json(path, orient="split")`` reads; NaN and infinity are written as texts. ``parquet``
    keeps numbers to the last digit, NaN apart from None, and in its metadata the summary and the source of the result
    (``infogeo.summary``, ``infogeo.source``); it needs the extra ``parquet``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer([0., 1.], [0., 1.])), words=("a", "b"),
    ...                    measure="euclidean_distance", symmetric=True, metric=True, source=Source())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(write_table(d, folder + "/distances.csv").read_text())
    "from","a","b"
    "a",0.0,1.0
    "b",1.0,0.0
    """
    target = check_path("path", path)
    name = format_of(target, format, SUFFIXES)
    try:
        columns, rows = result.rows()
    except (TypeError, AttributeError) as error:
        raise ArgumentError(f"cannot write {type(result).__name__} as a table: {error}") from error
    table = [tuple(columns), *rows]
    cells = [(f"row {i}", cell) for i, row in enumerate(table) for cell in row if isinstance(cell, str)]
    check_characters(name, cells, FORMATS[name].forbidden)
    return write_atomically(target, FORMATS[name].data(result, columns, rows))


def check_table_file(path: str | os.PathLike[str], *, format: str | None = None) -> str:  # noqa: A002
    """The format that :func:`write_table` would write to a path, or its error before there is a result.

    Parameters
    ----------
    path : path
    format : {"csv", "json", "parquet"}, optional
        Taken from the suffix if not given.

    Returns
    -------
    str
        The format.

    Raises
    ------
    ArgumentError, OutputError, MissingDependencyError
        As :func:`write_table`. To find out, an empty file is made beside the place and taken away again.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_table_file(folder + "/lens.csv")
    'csv'
    """
    name = format_of(Path(path), format, SUFFIXES)
    check_place(path)
    if name == "parquet":
        require("pyarrow", extra="parquet", caller="write_table")
    return name


def _csv(result: Result, columns: Columns, rows: Rows) -> bytes:
    return csv_text([tuple(columns), *rows]).encode("utf-8")


def _json(result: Result, columns: Columns, rows: Rows) -> bytes:
    plain = {"columns": list(columns), "data": to_plain(rows)}
    return (json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _parquet(result: Result, columns: Columns, rows: Rows) -> bytes:
    arrow = require("pyarrow", extra="parquet", caller="write_table")
    from pyarrow import parquet

    twice = sorted({name for name in columns if list(columns).count(name) > 1})
    if twice:
        raise FormatError(f"two columns are called {twice[0]!r}, and Parquet knows columns by name; write csv or json")
    arrays = []
    for place, name in enumerate(columns):
        values = [_native(row[place]) for row in rows]
        try:
            arrays.append(arrow.array(values))
        except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError) as error:
            raise FormatError(
                f"column {name!r} holds values of several kinds ({error}), and Parquet wants one; write csv or json"
            ) from error
    source = to_plain(getattr(result, "source", None))
    said = {"infogeo.summary": result.summary(), "infogeo.source": json.dumps(source, ensure_ascii=False)}
    table = arrow.Table.from_arrays(arrays, names=list(columns)).replace_schema_metadata(said)
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def _native(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class _Format:
    suffix: str
    forbidden: re.Pattern[str] | None
    data: Callable[[Result, Columns, Rows], bytes]


FORMATS: Mapping[str, _Format] = {
    "csv": _Format(".csv", CONTROL, _csv), "json": _Format(".json", None, _json),
    "parquet": _Format(".parquet", None, _parquet),
}
SUFFIXES = {name: (kind.suffix,) for name, kind in FORMATS.items()}
"""Which suffix means which format."""
