"""Findings of the doctor in words."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from infogeo.activations import AttentionKind
from infogeo_adapters.doctor import joined


def kinds_in_words(kinds: tuple[AttentionKind, ...]) -> str:
    """Attention maps in words, those of one kind together."""

    def say(kind: AttentionKind) -> str:
        shared = "" if kind.key_value_heads == kind.query_heads else f" on {kind.key_value_heads} key-value heads"
        window = "" if kind.window is None else f", window of {kind.window} tokens"
        sight = "causal" if kind.causal else "both ways"
        sink = ", part goes to a sink" if kind.sink else ""
        return f"{kind.query_heads} heads{shared}, {sight}{window}{sink} ({kind.implementation})"

    groups: dict[str, list[int]] = {}
    for kind in kinds:
        groups.setdefault(say(kind), []).append(kind.block)
    return joined([f"blocks {numbers_in_words(numbers)}: {words}" for words, numbers in groups.items()])


def numbers_in_words(numbers: list[int]) -> str:
    """Numbers with runs of neighbors shortened, such as 1-3, 5."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def sums_in_words(low: float, high: float) -> str:
    """Between which numbers sums lie, as a distance from one where they are near."""
    return f"1 within {max(1 - low, high - 1, 0):.1g}" if low > 0.99 else f"{low:.2g} to {high:.3g}"


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names that have one reason, together."""
    found: dict[str, list[str]] = {}
    for reason, name in pairs:
        found.setdefault(reason, []).append(name)
    return {reason: ", ".join(names) for reason, names in found.items()}
