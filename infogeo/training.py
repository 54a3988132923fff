"""What is measured of a model while it trains: quantities, the record of one step, and the history of a run."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from infogeo._checks import FloatArray, as_float_array, check_count, check_shape, sealed
from infogeo.errors import ArgumentError, ShapeError
from infogeo.results import Result, Source

Scope = Literal["model", "state", "block", "head"]
"""Of what there is one value: the model, each state (layers 0 to L), each block (1 to L), each head of each block."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Something that is measured at each recorded step."""

    name: str
    scope: Scope
    unit: str
    """``nats``, ``share`` (0 to 1), ``ratio``, ``length``, ``dimensions``, or a plain word."""
    live: bool
    """Whether it is of the batches the model trains on; else of the probe batch."""
    meaning: str
    """One sentence, with the formula."""


def _listed(*rows: tuple[str, Scope, str, bool, str]) -> Mapping[str, Quantity]:
    return {
        name: Quantity(name=name, scope=scope, unit=unit, live=live, meaning=meaning)
        for name, scope, unit, live, meaning in rows
    }


QUANTITIES: Mapping[str, Quantity] = _listed(
    # of the model
    ("loss", "model", "nats", True, "mean loss of the steps since the last record"),
    ("loss_lowest", "model", "nats", True, "lowest loss of a step since the last record"),
    ("loss_highest", "model", "nats", True, "highest loss of a step since the last record"),
    ("probe_loss", "model", "nats", False, "mean cross-entropy of the targets of the probe batch"),
    ("learning_rate", "model", "ratio", True, "largest learning rate among the groups of the optimizers"),
    ("gradient_norm", "model", "ratio", True, "Euclidean norm of the gradient that the optimizer got"),
    ("target_entropy", "model", "nats", True, "entropy of the targets of live batches so far, one token at a time"),
    ("batch_repetition", "model", "share", True, "share of live batches that are among the eight before them"),
    ("answer_shown", "model", "share", True, "share of live targets that stand in the input in their own place"),
    ("gradient_carryover", "model", "share", True, "share of steps begun with gradients of the step before"),
    # of each state, layer 0 (the embedding) to L
    ("state_norm", "state", "ratio", False, "root mean square of the components of token vectors"),
    ("headroom", "state", "ratio", False, "largest number of the format over the largest absolute component"),
    ("nonfinite", "state", "share", False, "share of components that are NaN or infinite"),
    ("mean_cosine", "state", "ratio", False, "mean cosine between tokens of different places and texts"),
    ("token_similarity", "state", "ratio", False, "mean cosine between tokens of one text, centered over the batch"),
    ("anisotropy", "state", "share", False, "share of the variance along the first principal component"),
    ("effective_rank", "state", "dimensions", False, "exponential of the entropy of the spectrum of centered states"),
    ("matrix_entropy", "state", "nats", False, "matrix-based entropy of the Gram matrix of tokens, order 1"),
    ("differential_entropy", "state", "nats", False, "of normals with the covariance of the states, per dimension"),
    ("input_information", "state", "nats", False, "matrix-based mutual information with the embedded input"),
    ("target_information", "state", "nats", False, "matrix-based mutual information with the targets"),
    ("lens_entropy", "state", "nats", False, "mean entropy of the prediction read out at the layer"),
    ("lens_loss", "state", "nats", False, "mean cross-entropy of the targets, read out at the layer"),
    ("future_sensitivity", "state", "ratio", False, "relative change of states before exchanged tokens"),
    ("order_sensitivity", "state", "ratio", False, "relative change of a state when earlier tokens change places"),
    # of each block
    ("capacity", "block", "nats", False, "capacity of the block as a linear channel with normal noise"),
    ("rate", "block", "nats", False, "information that passes that channel with the actual input"),
    ("utilization", "block", "ratio", False, "rate over capacity, as estimated"),
    ("path_length", "block", "length", False, "mean Fisher-Rao length from the prediction before to that after"),
    ("contribution", "block", "ratio", False, "mean norm of what the block adds over that of its input"),
    ("carry", "block", "ratio", False, "regression slope of the output of the block on its input"),
    ("large_carry", "block", "ratio", False, "the same slope for an input a thousand times as large"),
    ("muted_carry", "block", "ratio", False, "correlation of output and input with attention and feed-forward mute"),
    ("scale_response", "block", "ratio", False, "relative change of what a block adds when its input is doubled"),
    ("dead_units", "block", "share", False, "share of hidden feed-forward units that are off on all tokens"),
    ("saturated_units", "block", "share", False, "share of unit activations at a bound of their activation function"),
    ("gradient_norm_block", "block", "ratio", True, "Euclidean norm of the gradient of the weights of the block"),
    ("weight_norm", "block", "ratio", True, "Euclidean norm of the weights of the block"),
    ("update_ratio", "block", "ratio", True, "norm of the change of weights in a step over their norm"),
    ("unmoved", "block", "share", True, "share of the parameter tensors of the block that one step left unchanged"),
    ("fisher_trace", "block", "nats", False, "trace of the empirical Fisher matrix over groups of the probe batch"),
    ("gradient_snr", "block", "ratio", False, "squared norm of the mean gradient over the variance of group gradients"),
    ("twin", "block", "ratio", False, "largest cosine between the weights of the block and those of another one"),
    # of each head
    ("attention_entropy", "head", "share", False, "mean entropy of attention over the log of the tokens in sight"),
    ("attention_logits", "head", "ratio", False, "largest absolute logit of attention, mean over queries"),
    ("attention_capacity", "head", "nats", False, "capacity of the head as a channel from queries to tokens"),
    ("head_output", "head", "ratio", False, "norm of what the head adds over the mean of the heads of its block"),
)
"""All quantities by name. Of each record those are there that could be measured."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunFacts(Result):
    """What does not change in a run: which model, what it is shown, and what was asked for."""

    run: str
    """Names the run: a random number in hexadecimal, drawn when it begins."""
    model: str
    architecture: str
    depth: int
    heads: tuple[int, ...]
    """Heads of each block; 0 for a block without attention."""
    width: int
    vocabulary: int
    n_parameters: int
    causal: bool
    """True if a token may not see later ones."""
    objective: Literal["next token", "masked token", "other", "none"]
    dtype: str
    probe: str
    """SHA-256 of the probe batch, hexadecimal."""
    probe_shape: tuple[int, int]
    """Texts and tokens of the probe batch."""
    every: int
    """Steps between records; 0 for a single checkpoint."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Quantities that cannot be measured of this model, and why."""
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        check_count("depth", self.depth, 1)
        if len(self.heads) != self.depth:
            raise ShapeError(f"heads: found {len(self.heads)} numbers, wanted {self.depth}, one for each block")

    def shape_of(self, scope: Scope) -> tuple[int, ...]:
        """Shape of the values of a scope: (), (L + 1), (L) or (L, most heads of a block)."""
        shapes: dict[Scope, tuple[int, ...]] = {
            "model": (), "state": (self.depth + 1,), "block": (self.depth,), "head": (self.depth, max(self.heads)),
        }
        return shapes[scope]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingRecord(Result):
    """What was measured at one step; NaN stands where a value could not be measured or is none."""

    step: int
    """Steps of the optimizer done before the measurement of weights and states."""
    values: Mapping[str, FloatArray]
    """By name of the quantity: (), (L + 1), (L) or (L, H)."""
    broken_at: str | None = None
    """The first module, in the order of computation, whose output was NaN or infinite on a live or the probe batch."""
    broken_pass: Literal["forward", "backward"] | None = None
    twins: tuple[int, ...] = ()
    """Of each block the other block (counted from 1) whose weights are most alike; empty if there is none."""
    unmoved: tuple[str, ...] = ()
    """Names of parameter tensors that the last step left unchanged, though the optimizer holds them or not."""
    broken_weights: tuple[str, ...] = ()
    """Names of tensors of weights with NaN or infinity, of a checkpoint; while training, outputs show them."""
    seconds: float = 0.0
    """What the measurement took."""

    def __post_init__(self) -> None:
        check_count("step", self.step, 0)
        unknown = sorted(set(self.values) - set(QUANTITIES))
        if unknown:
            raise ArgumentError(f"values: found the quantity {unknown[0]!r}, wanted some of {', '.join(QUANTITIES)}")
        arrays = {
            name: sealed(as_float_array(name, value, finite=False)) for name, value in self.values.items()
        }
        object.__setattr__(self, "values", arrays)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        found = []
        for name, array in self.values.items():
            scope = QUANTITIES[name].scope
            for place in np.ndindex(array.shape):
                layer = None if scope == "model" else place[0] + (scope != "state")
                head = place[1] + 1 if scope == "head" else None
                found.append((self.step, name, layer, head, float(array[place])))
        return ("step", "quantity", "layer", "head", "value"), found


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingHistory(Result):
    """The records of one run, in the order of steps."""

    facts: RunFacts
    records: tuple[TrainingRecord, ...]
    losses: FloatArray = field(default_factory=lambda: np.empty((0, 2)))
    """(S, 2) step and loss of every training step that was seen."""
    notes: tuple[str, ...] = ()
    """What happened to the monitor itself: gaps, resumptions, where it stepped aside."""
    name: str = ""
    """How the run is called in tables; a folder, or what the user says."""

    def __post_init__(self) -> None:
        steps = [record.step for record in self.records]
        if any(b <= a for a, b in itertools.pairwise(steps)):
            raise ArgumentError(f"records: found the steps {steps}, wanted each one after the one before")
        losses = as_float_array("losses", self.losses, finite=False)
        check_shape("losses", losses, (None, 2))
        object.__setattr__(self, "losses", sealed(losses))
        for record in self.records:
            for name, array in record.values.items():
                wanted = self.facts.shape_of(QUANTITIES[name].scope)
                if array.shape != wanted:
                    raise ShapeError(f"{name} at step {record.step}: found shape {array.shape}, wanted {wanted}")

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the records."""
        return tuple(record.step for record in self.records)

    def has(self, *names: str) -> bool:
        """Whether some record has a finite value of each of these quantities."""
        return all(
            any(name in record.values and np.isfinite(record.values[name]).any() for record in self.records)
            for name in names
        )

    def series(self, name: str) -> FloatArray:
        """(R, ...) a quantity over the records; NaN where a record has none.

        Raises
        ------
        ArgumentError
            There is no such quantity.
        """
        if name not in QUANTITIES:
            raise ArgumentError(f"series: found {name!r}, wanted one of {', '.join(QUANTITIES)}")
        shape = self.facts.shape_of(QUANTITIES[name].scope)
        empty = np.full(shape, np.nan)
        return np.array([record.values.get(name, empty) for record in self.records]).reshape(len(self.records), *shape)

    def until(self, step: int) -> TrainingHistory:
        """The history as it stood after a step: what could be told then."""
        return dataclasses.replace(
            self, records=tuple(r for r in self.records if r.step <= step),
            losses=self.losses[self.losses[:, 0] <= step],
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        tables = [record.rows() for record in self.records]
        return ("step", "quantity", "layer", "head", "value"), [row for _, rows in tables for row in rows]

    def summary(self) -> str:
        many = len(self.records)
        last = f" up to step {self.records[-1].step}" if many else ""
        return f"TrainingHistory of {self.facts.model}: {many} record{'' if many == 1 else 's'}{last}"


def names_of(scope: Scope) -> Sequence[str]:
    """Names of the quantities of a scope."""
    return [name for name, quantity in QUANTITIES.items() if quantity.scope == scope]
