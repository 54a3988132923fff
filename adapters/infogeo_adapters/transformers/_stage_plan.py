"""Which stages are read off where in a model, and why others are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infogeo.errors import ArgumentError, ModelError
from infogeo.stages import CROSS_STAGES, EMBEDDING_STAGES, HEAD_STAGES
from infogeo_adapters.transformers._stage_embeddings import find_embeddings
from infogeo_adapters.transformers._stage_places import Place, find_places
from infogeo_adapters.transformers.attention_access import attention_access
from infogeo_adapters.transformers.channels import blocks_of
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import Side, Stack, evaluating, find_stack

Key = tuple[str, int]
"""Stage and block."""

ROTATED = {"rotated_query": "query", "rotated_key": "key"}
ENDS = ("embedding", "resid_pre", "resid_post")
"""Stages that are layers of the hidden states."""

OWN_CODE = (
    "{name} computes attention by code of its own, which gives out no queries and keys as they are multiplied; without "
    "rotary positions and norms of queries and keys they are those of the stages query and key"
)
ENCODER = "the encoder has no cross attention; give the decoder a text with target="


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to read off where."""

    stack: Stack
    stages: tuple[str, ...]
    blocks: tuple[int, ...]
    places: Mapping[tuple[int, Place], tuple[str, ...]]
    """Block and place to the stages that are read off there."""
    columns: Mapping[Key, tuple[tuple[int, ...] | None, int]]
    """Of queries, keys and values: which outputs of the projection, and how many heads."""
    embeddings: Mapping[str, str]
    """Module to stage, before the first block."""
    rotated: tuple[int, ...]
    """Blocks whose queries and keys are taken from the attention function."""
    absent: Mapping[str, Mapping[int, str]]


def make_plan(
    model: LanguageModel, stages: tuple[str, ...], blocks: Sequence[int] | None, *, decoder: bool, strict: bool
) -> Plan:
    """The plan of a capture; ``strict`` if a stage that no block has is an error.

    Raises
    ------
    ArgumentError
        There is no such block, or a decoder is asked for where there is one stack.
    ModelError
        With ``strict``, if no block has a stage.
    """
    net = model.model
    two = model.kind == "encoder-decoder"
    if decoder and not two:
        raise ArgumentError(f"target: {model.name} is one stack ({model.kind}), which reads one text; leave target out")
    side: Side | None = ("decoder" if decoder else "encoder") if two else None
    stack = find_stack(net, side)
    numbers = blocks_of(stack.depth, blocks)
    found = {block: places for block, places in enumerate(find_places(net, side), start=1) if block in numbers}
    embeddings = find_embeddings(net, side)
    rotated, why_not = _attended(model, stack) if set(stages) & set(ROTATED) else (frozenset(), "")
    absent: dict[str, dict[int, str]] = {}
    places: dict[tuple[int, Place], tuple[str, ...]] = {}
    columns: dict[Key, tuple[tuple[int, ...] | None, int]] = {}
    for stage in stages:
        lacking: dict[int, str] = {}
        if stage in EMBEDDING_STAGES:
            lacking = {0: embeddings.reasons[stage]} if stage in embeddings.reasons else {}
        elif stage in ROTATED:
            lacking = {b: why_not or "tokens are mixed by no attention in this block" for b in numbers
                       if b not in rotated}
        elif stage not in ENDS:
            for block, of_block in found.items():
                if stage not in of_block.places:
                    lacking[block] = ENCODER if side == "encoder" and stage in CROSS_STAGES else of_block.reasons[stage]
                    continue
                at = (block, of_block.places[stage])
                places[at] = (*places.get(at, ()), stage)
                if stage in HEAD_STAGES:
                    projection = of_block.projections[stage]
                    columns[stage, block] = projection.columns, int(projection.heads or projection.normed or 1)
        if lacking:
            absent[stage] = lacking
        if strict and len(lacking) == (1 if stage in EMBEDDING_STAGES else len(numbers)):
            raise ModelError(f"{model.name} has no {stage}: {next(iter(lacking.values()))}; leave this stage out")
    return Plan(
        stack=stack, stages=stages, blocks=numbers, places=places, columns=columns, absent=absent,
        embeddings={path: stage for stage, path in embeddings.paths.items() if stage in stages},
        rotated=tuple(b for b in numbers if b in rotated),
    )


def _attended(model: LanguageModel, stack: Stack) -> tuple[frozenset[int], str]:
    """Blocks whose attention function can be listened to, and if there are none why."""
    net = model.model
    try:
        with lock_of(net), evaluating(net):
            access = attention_access(net, stack)
    except ModelError as error:
        return frozenset(), str(error)
    if not access.way.by_function:
        name = type(net).__name__
        return frozenset(), OWN_CODE.format(name=name)
    return frozenset(kind.block for kind in access.kinds if kind.kind == "self"), ""
