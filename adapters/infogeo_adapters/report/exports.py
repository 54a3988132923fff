"""The data beside the page: graphs, matrices, tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from infogeo.errors import FormatError
from infogeo.results import Result
from infogeo_adapters.analysis import SentenceAnalysis
from infogeo_adapters.files import write_graph
from infogeo_adapters.plots.style import visible
from infogeo_adapters.plots.tokens import byte_level, readable_token
from infogeo_adapters.tables import write_table

GRAPH_FORMATS = (("graphml", "GraphML"), ("gexf", "GEXF, for Gephi"), ("json", "node-link JSON"))


@dataclass(frozen=True)
class Exported:
    """A file beside the page, or the reason why it is missing."""

    name: str
    what: str
    written: bool = True


@dataclass(frozen=True, eq=False)
class ReadableTokens(Result):
    """The table of a result with a column of text behind each column of tokens as the tokenizer spells them."""

    result: Result
    columns: tuple[str, ...]
    """Names of the columns of tokens; the new ones are called like them with ``_text``."""
    in_bytes: bool

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The table; control characters in the new columns are signs one can see."""
        names, table = self.result.rows()
        found = tuple(chain(*((n, f"{n}_text") if n in self.columns else (n,) for n in names)))
        return found, [
            tuple(chain(*(
                (cell, visible(readable_token(cell, in_bytes=self.in_bytes))) if name in self.columns else (cell,)
                for name, cell in zip(names, row, strict=True)
            )))
            for row in table
        ]

    def summary(self) -> str:
        return self.result.summary()

    @property
    def source(self) -> Any:
        """That of the result."""
        return getattr(self.result, "source", None)


def write_exports(analysis: SentenceAnalysis, folder: Path) -> list[Exported]:
    """Write all data files into a folder that exists.

    A file whose format cannot hold a word (XML and CSV know no escape character) is left out, and the list says so.

    Returns
    -------
    list of Exported
    """
    done: list[Exported] = []
    for graph, stem, name in (
        (analysis.graph, "graph", "influence graph" if analysis.by_influence else "geodesic graph"),
        (analysis.attention_graph, "attention_graph", "attention graph"),
    ):
        for suffix, kind in GRAPH_FORMATS:
            done.append(export(write_graph, graph, folder / f"{stem}.{suffix}", f"{name} as {kind}"))
    lens, raw = analysis.lens, analysis.activations.tokens
    in_bytes = byte_level(raw if lens is None else chain(raw, *lens.top_tokens))
    tables: list[tuple[str, str, Any]] = [
        ("distances.csv", f"distances between all words{' in the influence graph' if analysis.by_influence else ''}",
         analysis.distances),
        ("attention.csv", "attention between all words", analysis.attention),
        ("relations.csv", "all pairs of words, closest first", analysis),
        ("tokens.csv", "tokens and the words they belong to",
         ReadableTokens(analysis.activations, ("token",), in_bytes)),
    ]
    if analysis.standing is not None:
        tables.append(("standing_distances.csv", "Fisher–Rao distances between the words as they stand",
                       analysis.standing))
    if analysis.normals is not None:
        tables.append(("normals.csv", "mean and variance of each word vector's components", analysis.normals))
    if analysis.distributions is not None:
        tables.append(("distributions.csv", "a short view of each word's distribution", analysis.distributions))
    if analysis.comparisons is not None:
        tables.append(("comparisons.csv", "agreement statistics with p-values", analysis.comparisons))
    if analysis.agreement is not None:
        tables.append(("agreement.csv", "rank correlation by layer, block and head", analysis.agreement))
    if lens is not None:
        shown = ReadableTokens(lens, ("token", "top_token"), in_bytes)
        tables.append(("lens.csv", "entropy (nats) and top prediction by layer and token", shown))
    done += [export(write_table, result, folder / file_name, what) for file_name, what, result in tables]
    text = json.dumps(analysis.to_dict(), ensure_ascii=False, allow_nan=False)
    (folder / "analysis.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    done.append(Exported("analysis.json", "everything above in one file, with its provenance"))
    return done


def export(write: Callable[[Any, Path], Path], result: Any, path: Path, what: str) -> Exported:
    """Write a file, or say why its format cannot hold the result."""
    try:
        write(result, path)
    except FormatError as error:
        return Exported(path.name, f"not written: {error}", written=False)
    return Exported(path.name, what)
