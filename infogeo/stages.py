"""What each step inside the blocks of a transformer made of one text: the stages between layer and layer.

Block ``l``, counted from 1, leads from layer ``l - 1`` to layer ``l``. A stage is one tensor on this way, such as the
keys or what attention adds to the residual stream.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, as_array, as_int_array, check_shape, sealed
from infogeo.activations import LayerActivations, check_activations
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo.results import Result

EMBEDDING_STAGES = ("token_embedding", "position_embedding", "embedding")
"""Stages before the first block; they are kept under block 0."""

STAGES = (
    *EMBEDDING_STAGES,
    "resid_pre", "attention_input", "query", "key", "value", "rotated_query", "rotated_key", "attention_output",
    "resid_mid",
    "cross_query", "cross_key", "cross_value", "cross_attention_output", "resid_cross",
    "feed_forward_input", "feed_forward_output", "resid_post",
)  # fmt: skip
"""All stages in the order in which a model passes through them."""

CROSS_STAGES = ("cross_query", "cross_key", "cross_value", "cross_attention_output", "resid_cross")
"""Stages of cross attention, in the decoder of an encoder-decoder model only."""

HEAD_STAGES = (
    "query", "key", "value", "rotated_query", "rotated_key", "cross_query", "cross_key", "cross_value",
)  # fmt: skip
"""Stages with one vector for each token and head, (T, H, head); the others have one for each token, (T, d)."""

SOURCE_STAGES = ("cross_key", "cross_value")
"""Stages with a row for each token of the source text, not of the target."""

STREAM_STAGES = ("embedding", "resid_pre", "resid_mid", "resid_cross", "resid_post")
"""Stages that are the residual stream itself, on which all that comes later depends through them alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StageActivations(Result):
    """Stages of one text, by name and block, and why others are not there.

    The arrays are read-only. Those of ``embedding``, ``resid_pre`` and ``resid_post`` are layers of
    ``activations.hidden_states`` and take no memory of their own.
    """

    activations: LayerActivations
    """Tokens, words and residual stream of the same pass; of the decoder where a target text was given."""
    values: Mapping[str, Mapping[int, NDArray[np.floating[Any]]]]
    """Stage, then block (0 for the embedding stages), to (T, d), or (T, H, head) for what falls into heads.
    T is that of the source text for ``cross_key`` and ``cross_value``."""
    absent: Mapping[str, Mapping[int, str]]
    """Stage, then block, to the reason why this model has it not."""
    target_ids: IntArray | None = None
    """(T,) label that the decoder predicts at each position, where a target text was given."""

    def __post_init__(self) -> None:
        check_activations(self.activations)
        if self.target_ids is not None:
            labels = as_int_array("target_ids", self.target_ids)
            check_shape("target_ids", labels, (len(self.activations.tokens),))
            object.__setattr__(self, "target_ids", sealed(labels))
        for field in ("values", "absent"):
            for stage in getattr(self, field):
                check_stage(stage)
        depth = self.activations.n_layers
        values: dict[str, dict[int, NDArray[np.floating[Any]]]] = {}
        for stage in (name for name in STAGES if name in self.values):
            values[stage] = {}
            for block, value in sorted(self.values[stage].items()):
                _check_place(stage, block, depth)
                values[stage][block] = self._checked(stage, block, value)
        absent: dict[str, dict[int, str]] = {}
        for stage in (name for name in STAGES if name in self.absent):
            absent[stage] = dict(sorted(self.absent[stage].items()))
            for block in absent[stage]:
                _check_place(stage, block, depth)
                if block in values.get(stage, {}):
                    raise ArgumentError(f"absent: {stage} of block {block} is among the values too; give it once")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "absent", absent)

    def _checked(self, stage: str, block: int, value: Any) -> NDArray[np.floating[Any]]:
        name = f"{stage} of block {block}"
        array = as_array(name, value)
        if array.dtype.kind != "f":
            raise DomainError(f"{name}: found dtype {array.dtype}, wanted floating point numbers")
        tokens = None if stage in SOURCE_STAGES else len(self.activations.tokens)
        check_shape(name, array, (tokens, None, None) if stage in HEAD_STAGES else (tokens, None))
        if not np.isfinite(array).all():
            raise DomainError(
                f"{name} holds NaN or infinity; the model's weights or its number format (float16 overflows in some "
                "models) are at fault, load it with dtype float32"
            )
        return sealed(array.copy()) if array.flags.writeable else array

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that are there in at least one block, in the order of the model."""
        return tuple(stage for stage, blocks in self.values.items() if blocks)

    def blocks(self, stage: str) -> tuple[int, ...]:
        """The blocks that have a stage, counted from 1; 0 for the embedding stages.

        Raises
        ------
        ArgumentError
            There is no stage of this name.
        """
        return tuple(self.values.get(check_stage(stage), {}))

    def at(self, stage: str, block: SupportsIndex = 0) -> NDArray[np.floating[Any]]:
        """One stage of one block.

        Parameters
        ----------
        stage : str
            One of :data:`STAGES`.
        block : int
            Counted from 1; negative ones count from the last. 0 for the embedding stages.

        Returns
        -------
        ndarray
            (T, d), or (T, H, head) for queries, keys and values; read-only.

        Raises
        ------
        ArgumentError
            There is no such stage or block, or it was not captured.
        ModelError
            The model has no such stage in this block; the message gives the reason.

        Examples
        --------
        >>> from infogeo_adapters import capture_stages, load_model
        >>> stages = capture_stages(load_model(), "The cat sat.", stages=["resid_mid", "key"], blocks=[2])
        >>> stages.at("resid_mid", 2).shape, stages.at("key", 2).shape
        ((5, 160), (5, 5, 32))
        """
        depth = self.activations.n_layers
        check_stage(stage)
        if isinstance(block, bool):
            raise ArgumentError(f"block: found {block!r}, wanted a whole number")
        try:
            number = operator.index(block)
        except TypeError as error:
            raise ArgumentError(f"block: found {block!r}, wanted a whole number") from error
        number = number + depth + 1 if number < 0 else number
        _check_place(stage, number, depth)
        if number in self.values.get(stage, {}):
            return self.values[stage][number]
        if number in self.absent.get(stage, {}):
            raise ModelError(
                f"{self.activations.source.model}: there is no {stage} in block {number}: "
                f"{self.absent[stage][number]}; there are {', '.join(self.stages)}"
            )
        kept = ", ".join(f"{name} {list(blocks)}" for name, blocks in self.values.items())
        raise ArgumentError(
            f"{stage} of block {number} was not captured (captured: {kept or 'nothing'}); ask for it with "
            "capture_stages(..., stages=..., blocks=...)"
        )

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        table: list[tuple[Any, ...]] = []
        for stage in STAGES:
            for block, value in self.values.get(stage, {}).items():
                table.append((stage, block, "x".join(map(str, value.shape)), ""))
            for block, reason in self.absent.get(stage, {}).items():
                table.append((stage, block, "", reason))
        return ("stage", "block", "shape", "absent because"), table

    def summary(self) -> str:
        acts = self.activations
        return (
            f"StageActivations of {len(acts.tokens)} tokens: {len(self.stages)} stages of {acts.n_layers} blocks "
            f"({acts.source.model})"
        )


def check_stage(stage: object) -> str:
    """The name of a stage, or an ArgumentError that lists those there are."""
    if not isinstance(stage, str) or stage not in STAGES:
        raise ArgumentError(f"stage {stage!r} does not exist; choose from {', '.join(STAGES)}")
    return stage


def check_stages(stages: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of stages without repetition, in the order of the model; all of them for None."""
    if stages is None:
        return STAGES
    if not isinstance(stages, str | Sequence):
        raise ArgumentError(f"stages: found {type(stages).__name__}, wanted a name or a list of names")
    given = {check_stage(stage) for stage in ([stages] if isinstance(stages, str) else stages)}
    if not given:
        raise ArgumentError(f"stages: found none, wanted one or more of {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in given)


def _check_place(stage: str, block: int, depth: int) -> None:
    if stage in EMBEDDING_STAGES and block != 0:
        raise ArgumentError(f"{stage} is not inside a block: found block {block}, wanted 0")
    if stage not in EMBEDDING_STAGES and not 1 <= block <= depth:
        raise ArgumentError(f"block {block} does not exist: {stage} is of blocks 1 to {depth}")
