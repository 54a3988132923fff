"""What the experiments of ``entropy_lens.py`` are given and what they return: settings, and tables of scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _entropy_lens_scores import Score

from infogeo_adapters import LanguageModel, load_model


@dataclass(frozen=True)
class Settings:
    """Sizes and seeds; the defaults are the paper's where a small model can follow it."""

    seed: int = 0
    resamples: int = 300
    """Draws of groups for an interval, and of family labels for a p-value."""
    samples: int = 64
    """Continuations of each model in the experiment on families."""
    sample_tokens: int = 32
    temperature: float = 0.7
    neighbors: int = 29
    folds: int = 10
    stories: int = 40
    task_tokens: int = 8
    topics: int = 40
    format_tokens: int = 64
    format_windows: int = 8
    texts: int = 160
    """Passages for correctness; a fourth of them for expansion, orders and held-out losses."""
    positions: int = 12
    """Places of a passage at which a word begins, for correctness."""


@dataclass(frozen=True)
class Entry:
    """A model by name or folder, and the family it is counted to (None: it is only looked at)."""

    name: str
    family: str | None = None

    def load(self) -> LanguageModel:
        """The model in evaluation mode."""
        return load_model(self.name)

    @property
    def shown(self) -> str:
        """Short name for a table."""
        return Path(self.name).name


@dataclass
class Table:
    """One table of an experiment."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As Markdown."""
        yield f"### {self.title}"
        yield ""
        columns = list(dict.fromkeys(c for row in self.rows for c in row))
        if columns:
            yield f"| {' | '.join(columns)} |"
            yield f"|{'---|' * len(columns)}"
        for row in self.rows:
            yield f"| {' | '.join(_shown(row.get(c)) for c in columns)} |"
        yield ""
        for note in self.notes:
            yield note
            yield ""

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        rows = [{k: v.record() if isinstance(v, Score) else v for k, v in row.items()} for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def say(message: str) -> None:
    """Progress on standard error."""
    print(message, file=sys.stderr, flush=True)
