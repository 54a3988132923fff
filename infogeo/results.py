"""What all results share: where they come from, and how they turn into JSON, tables and HTML."""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas

PACKAGES = ("infogeo", "numpy", "scipy", "torch", "transformers", "networkx")


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, as far as they are installed."""
    return dict(_versions())


@functools.cache  # it reads files, which takes longer than many a result
def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a result comes from, in enough detail to make it again."""

    model: str | None = None
    """Name or folder of the model."""
    content_hash: str | None = None
    """SHA-256 of the weights, hexadecimal."""
    architecture: str | None = None
    """Class of the model, for example LlamaForCausalLM."""
    dtype: str | None = None
    """Number format the model computed in."""
    text_hash: str | None = None
    """SHA-256 of the text, hexadecimal."""
    seed: int | None = None
    options: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Choices made on the way, by name."""
    versions: Mapping[str, str] = field(default_factory=installed_versions)

    def with_options(self, **options: str | int | float | bool | None) -> Source:
        """The same source with further choices recorded."""
        return dataclasses.replace(self, options={**self.options, **options})


def to_plain(value: Any) -> Any:
    """Turn results, arrays, tuples and mappings into what JSON knows; NaN and infinity become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
    if isinstance(value, Sequence):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


class Result:
    """Mixin of all results: a plain dict, JSON, a data frame, and a table in notebooks.

    A subclass is a frozen dataclass and gives its table with :meth:`rows`.
    """

    __slots__ = ()

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and rows of the result as a table."""
        raise TypeError(f"{type(self).__name__} is not a table; use to_dict()")

    def summary(self) -> str:
        """One line that says what this is."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain Python values, ready for JSON."""
        plain: dict[str, Any] = {"type": type(self).__name__, **to_plain(self)}
        return plain

    def to_json(self, *, indent: int | None = None) -> str:
        """All fields as a JSON text (strict: NaN and infinity are written as strings)."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)

    def to_frame(self) -> pandas.DataFrame:
        """The table of :meth:`rows` as a pandas data frame."""
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError(
                'to_frame needs pandas; install it with: pip install "infogeo[graphs]"'
            ) from error
        columns, rows = self.rows()
        return pandas.DataFrame(rows, columns=list(columns))

    def _repr_html_(self) -> str:
        shown = 20
        columns, rows = self.rows()
        head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(v))}</td>" for v in row) + "</tr>" for row in rows[:shown]
        )
        more = f"<p>and {len(rows) - shown} more rows</p>" if len(rows) > shown else ""
        return (
            f"<p><b>{html.escape(self.summary())}</b></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
