"""What the rules look through: the series of a history, what persists in them, and findings made of that."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infogeo._checks import FloatArray
from infogeo._diagnosis_result import Finding, Rule, Severity
from infogeo._diagnosis_thresholds import Thresholds
from infogeo.training import TrainingHistory

BoolArray = NDArray[np.bool_]
HALF_PRECISION = ("float16", "bfloat16", "half")


class NotCheckedError(Exception):
    """A rule says why it cannot be checked; never leaves the diagnosis."""


@dataclass(frozen=True)
class Streak:
    """From which record to which something was seen, and whether it still is."""

    first: int
    last: int
    present: bool


class View:
    """A history as a rule sees it."""

    def __init__(self, history: TrainingHistory, thresholds: Thresholds) -> None:
        self.history = history
        self.facts = history.facts
        self.thresholds = thresholds
        self.steps = history.steps
        self.single = self.facts.every == 0 and len(self.steps) == 1
        self.patience = 1 if self.single else math.ceil(thresholds.persistence)
        self._series: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def series(self, name: str) -> FloatArray:
        """(R, ...) of a quantity."""
        if name not in self._series:
            self._series[name] = self.history.series(name)
        return self._series[name]

    def loss(self) -> FloatArray:
        """(R) live loss, or that of the probe batch where there is none."""
        live = self.series("loss")
        return live if np.isfinite(live).any() else self.series("probe_loss")

    def update_ratio(self) -> FloatArray:
        """(R) median over the blocks that move at all."""
        ratios = self.series("update_ratio")
        return median_over(np.where(ratios > 0, ratios, np.nan))

    def block_of(self, name: str) -> int | None:
        """The block that a module or tensor belongs to by its name."""
        return block_of(name, self.facts.depth, causal=self.facts.causal)

    def adapted(self) -> BoolArray:
        """(R) where steps leave so many tensors of every block as they are that it looks meant: adapters."""
        return np.asarray((self.series("unmoved") > self.thresholds.frozen_on_purpose).all(axis=1))

    def frozen_below(self) -> BoolArray:
        """(R, L) blocks that no record saw move, nor the embedding or any block before them, while later ones did.

        So are the lower layers of a trained body that were frozen on purpose.
        """
        moved, left, records = self.series("update_ratio"), self.series("unmoved"), self.history.records
        known = np.isfinite(left)
        embedded = [any(self.block_of(name) == 0 for name in record.unmoved) for record in records]
        still = (~known | (left == 1)).all(axis=0) & known.any(axis=0)
        first = next((k for k in range(self.facts.depth) if not still[k]), 0)
        seen = known.any(axis=1)
        below = bool(seen.any()) and bool(np.array(embedded)[seen].all())
        found = (np.arange(self.facts.depth) < first) & below & bool((moved > 0).any())
        return np.broadcast_to(found, left.shape)

    def streak(self, bad: ArrayLike, known: ArrayLike, patience: int | None = None) -> Streak | None:
        """The first to the last record of what was bad for long enough among the records where it is known.

        Parameters
        ----------
        bad, known : array_like, shape (R,)
            Records where it was seen, and where it was measured; others are passed over.
        patience : int, optional
            Records in a row; those of the thresholds if left out.
        """
        wanted = self.patience if patience is None else patience
        seen, measured = np.asarray(bad, np.bool_), np.asarray(known, np.bool_)
        if not (seen & measured).any():
            return None
        first = last = start = -1
        length, present = 0, False
        for at in np.flatnonzero(measured):
            length = length + 1 if seen[at] else 0
            start = int(at) if length == 1 else start
            present = length >= wanted
            if present:
                first, last = (start if first < 0 else first), int(at)
        return None if first < 0 else Streak(first, last, present)

    def lasting(self, streak: Streak) -> bool:
        """Whether a streak is as long as the steps between two regular records, since early ones stand close together.

        Models that learn well pass through states that look collapsed, while they learn what all tokens have in common.
        """
        return self.single or self.steps[streak.last] - self.steps[streak.first] >= self.facts.every

    def places(self, bad: BoolArray, known: BoolArray, patience: int | None = None) -> Iterator[tuple[int, Streak]]:
        """Streaks by the place along the second axis, in order."""
        for place in range(bad.shape[1]):
            found = self.streak(bad[:, place], known[:, place], patience)
            if found is not None:
                yield place, found

    def groups(
        self, bad: BoolArray, known: BoolArray, patience: int | None = None
    ) -> Iterator[tuple[int, int, Streak]]:
        """Neighboring places with streaks, together: the first, the last, and the streak over all of them."""
        found = dict(self.places(bad, known, patience))
        for place in found:
            if place - 1 in found:
                continue
            end = place
            while end + 1 in found:
                end += 1
            members = [found[k] for k in range(place, end + 1)]
            here = found[place]
            yield place, end, Streak(min(m.first for m in members), here.last, here.present)

    def finding(
        self, rule: Rule, streak: Streak, *, block: int | None, quantity: str, value: float, threshold: float,
        evidence: str, head: int | None = None, severity: Severity = "fault", explanation: str = "", advice: str = "",
    ) -> Finding:
        """A finding of a rule; what is no longer seen is a warning."""
        last = self.steps[streak.last]
        if not streak.present:
            severity = "warning"
            evidence = f"{evidence}; not seen after step {last}"
        return Finding(
            rule=rule.name, title=rule.title, block=block, head=head, first_step=self.steps[streak.first],
            last_step=last, severity=severity, value=float(value), threshold=float(threshold), quantity=quantity,
            evidence=f"{evidence}.", explanation=explanation or rule.explanation, advice=advice or rule.advice,
        )


Check = Callable[[View, Rule], Iterable[Finding]]
"""Looks for what one rule describes."""


def median_over(values: FloatArray) -> FloatArray:
    """(R) medians of the finite values in each row, NaN where there is none."""
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in values])


def mean_over_heads(values: FloatArray) -> FloatArray:
    """(R, L) means over the heads of each block, NaN where there are none."""
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    sums = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(counts, sums / np.maximum(counts, 1), np.nan))


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Quotient, NaN where it is none."""
    usable = np.isfinite(above) & np.isfinite(below) & (below > 0)
    return np.asarray(np.where(usable, above / np.where(usable, below, 1.0), np.nan))


def growth_by_block(norms: FloatArray) -> FloatArray:
    """(R, L) norm of the states after each block over that before it."""
    return ratio(norms[:, 1:], norms[:, :-1])


def growth_limits(view: View) -> FloatArray:
    """(L) factors of the norm of states across each block above which the signal explodes."""
    limits = np.full(view.facts.depth, view.thresholds.signal_growth)
    limits[0] = view.thresholds.signal_growth_first
    return limits


def collapsed(view: View) -> BoolArray:
    """(R, L) where the attention of a block sits on single tokens, with large logits if these are known."""
    limits = view.thresholds
    values, logits = (mean_over_heads(view.series(name)) for name in ("attention_entropy", "attention_logits"))
    sharp = ~np.isfinite(logits) | (logits > limits.attention_logits)
    return np.asarray((values < limits.collapsed_attention) & sharp)


def block_of(name: str, depth: int, *, causal: bool = True) -> int | None:
    """The block that a module or tensor belongs to by its name: 1 to depth, 0 for an embedding, None if unknown.

    What is measured of two stacks is the encoder, so that the decoder beside a model that is not causal has none.
    """
    parts = name.split(".")
    if not causal and "decoder" in parts and any(part.isdigit() for part in parts):
        return None
    for part in parts:
        if part.isdigit() and int(part) < depth:
            return int(part) + 1
    return 0 if re.search(r"emb|wte|wpe", name) else None


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def layer_words(first: int, last: int) -> str:
    """One layer or several in a row, in words."""
    if first == last:
        return f"layer {first}" if first else "the embedding"
    return f"layers {first} to {last}"


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
