"""What the commands of the command line print: progress and notes on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
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
    return load_model(options["model"], allow_pickle=options["allow_pickle"])


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
