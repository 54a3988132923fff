"""What the commands of the command line print: progress and notes on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel


def teller(quiet: bool) -> Callable[[str], None]:
    """A function that says on stderr what is being done, or nothing."""

    def say(message: str) -> None:
        if not quiet:
            click.echo(f"infogeo: {message}", err=True)

    return say


def tell(note: str | None) -> None:
    """A note on stderr, also with --quiet; None is no note."""
    if note is not None:
        click.echo(f"infogeo: {note}", err=True)


def open_model(options: dict[str, Any], say: Callable[[str], None]) -> LanguageModel:
    """The model that --model names."""
    from infogeo_adapters.transformers.loading import load_model

    say(f"loading the model {options['model'] or 'bundled'}")
    return load_model(
        options["model"], allow_pickle=options["allow_pickle"], dtype=options.get("dtype"), device=options.get("device")
    )


def print_json(value: Any) -> None:
    """A value as strict JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2))


def print_table(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for people and for cut and awk: columns parted by tabs, control characters made visible."""
    from infogeo_adapters.plots.style import visible

    click.echo("\t".join(columns))
    for row in rows:
        cells = ("" if v is None else f"{v:.6g}" if isinstance(v, float) else visible(str(v)) for v in row)
        click.echo("\t".join(cells))


def print_aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, names: int = 1) -> None:
    """A table for people: the first columns are names and stand to the left, the others to the right.

    No cell holds white space, and None is a dash. What is wanted for a program is in a file or in JSON.
    """
    from infogeo_adapters.plots.style import visible

    def cell(value: Any) -> str:
        shown = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else visible(str(value))
        return "".join("␣" if c.isspace() else c for c in shown)

    table = [list(map(cell, columns)), *([cell(v) for v in row] for row in rows)]
    widths = [max(map(_columns, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (
            c + " " * (w - _columns(c)) if i < names else " " * (w - _columns(c)) + c
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def _columns(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
