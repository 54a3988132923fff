"""What goes into each part of a block and what comes out, token by token: the samples of a channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, check_count
from infogeo.capacity.results import ChannelSamples, Part
from infogeo.errors import ArgumentError, DomainError, ModelError
from infogeo.results import Source
from infogeo_adapters.transformers.alignment import Tokens
from infogeo_adapters.transformers.forward import batches_of
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.parts import PARTS, PROJECTIONS, BlockParts, Call, Watch, find_parts, watched
from infogeo_adapters.transformers.stack import evaluating, find_stack, runner
from infogeo_adapters.transformers.token_rows import run_rows, states_of, token_rows

if TYPE_CHECKING:
    import torch

End = tuple[int, Part, str]
"""Block, part, and 'x' or 'y'."""


def capture_channels(
    model: LanguageModel,
    texts: str | Sequence[str],
    *,
    parts: Sequence[Part] = PARTS,
    blocks: Sequence[int] | None = None,
    max_tokens: int | None = None,
    special_tokens: bool = False,
    batch_tokens: int = 4096,
) -> list[ChannelSamples]:
    r"""Inputs and outputs of the parts of each block, one row for each token.

    ================  =============================================  =============================================
    part              input x                                        output y
    ================  =============================================  =============================================
    ``block``         the residual stream before the block           the residual stream after it
    ``attention``     what queries, keys and values are made from    what the output projection returns
    ``query``         the same                                       the queries, head beside head
    ``key``           the same                                       the keys
    ``value``         the same                                       the values
    ``feed_forward``  what its first map reads                       what its last map returns
    ================  =============================================  =============================================

    Outputs of attention and feed-forward are those before they are added to the stream; in a model that norms before
    each part (GPT-2, Llama, T5) the inputs are those after the norm. Queries and keys are as their projection returns
    them, before any rotation or norm of their own.

    Which modules these are is found by running the model, see :mod:`infogeo_adapters.transformers.parts`: projections
    that are packed into one, in whatever order, and fewer key than query heads are taken apart. Of an encoder-decoder
    model the encoder is captured. Texts run in batches, padding is cut away, and a text gives the same numbers alone
    and in a batch, to rounding.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    texts : str or sequence of str
    parts : sequence of str
        Which parts, all by default.
    blocks : sequence of int, optional
        Which blocks, counted from 1; all by default.
    max_tokens : int, optional
        Most rows. Texts are taken whole and in order, as many as fit.
    special_tokens : bool
        Whether to keep the rows of tokens that the tokenizer added (begin, end, class). They are the same in each
        text, and some carry a norm a hundred times that of words.
    batch_tokens : int
        Most tokens in one batch, padding counted; a longer text runs alone.

    Returns
    -------
    list of ChannelSamples
        Block by block, in the order of ``parts``. Parts with the same input share the array.

    Raises
    ------
    ModelError
        A part was not found in a block (the message names both and the modules seen), as in a mixture of experts.
    TextError
        There is no text, or one is empty or longer than the context.
    ArgumentError
        There is no such part or block, or the first text alone has more than ``max_tokens`` tokens.
    DomainError
        The model computes NaN or infinity.

    Notes
    -----
    For n tokens, width d and w bytes a number (4 for float32) a block takes w n d (2 + 2 + 3 + 2) bytes with all its
    parts and as many key heads as query heads, 110 MB for MiniLM (d = 384) and 8,000 tokens, and twice that while it is
    captured. So take a few blocks at a time from a large model; a batch needs little beside.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = capture_channels(load_model(), "The cat sat on the mat.", parts=["block", "key"], blocks=[2])
    >>> [(s.part, s.block, s.y.shape[1], s.heads) for s in found]
    [('block', 2, 160, None), ('key', 2, 160, 5)]
    """
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    chosen = check_parts(parts)
    numbers = check_blocks(model, blocks)
    check_count("batch_tokens", batch_tokens, 1)
    rows = token_rows(model, texts)
    if max_tokens is not None:
        rows = _whole_texts(rows, check_count("max_tokens", max_tokens, 1), special_tokens)
    return capture_rows(
        model, rows, parts=chosen, blocks=numbers, special_tokens=special_tokens, batch_tokens=batch_tokens
    )


def check_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts, or an ArgumentError that lists those there are."""
    given: tuple[Any, ...] = (parts,) if isinstance(parts, str) else tuple(parts)
    wrong = [part for part in given if part not in PARTS]
    if wrong or not given:
        found = repr(wrong[0]) if wrong else "none"
        raise ArgumentError(f"parts: found {found}, wanted one or more of {', '.join(PARTS)}")
    return tuple(dict.fromkeys(given))


def check_blocks(model: LanguageModel, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of blocks from 1, all by default, or an ArgumentError."""
    return blocks_of(model.n_layers, blocks)


def blocks_of(depth: int, blocks: Sequence[int] | None) -> tuple[int, ...]:
    """As :func:`check_blocks`, of a stack of so many blocks."""
    if blocks is None:
        return tuple(range(1, depth + 1))
    given = tuple(blocks) if isinstance(blocks, Iterable) else (blocks,)
    for block in given:
        if isinstance(block, bool) or not 1 <= check_count("blocks", block) <= depth:
            raise ArgumentError(f"blocks: found {block!r}, wanted numbers from 1 to {depth}")
    if not given:
        raise ArgumentError("blocks: found none, wanted at least one")
    return tuple(sorted({int(block) for block in given}))


def _whole_texts(rows: list[Tokens], most: int, special_tokens: bool) -> list[Tokens]:
    """The first texts whose tokens are no more than so many."""
    counts = np.cumsum([len(row.ids) if special_tokens else int((~row.special).sum()) for row in rows])
    kept = int(np.searchsorted(counts, most, side="right"))
    if not kept:
        raise ArgumentError(
            f"max_tokens: found {most}, but the first text alone has {counts[0]} tokens; texts are taken whole: give "
            "shorter ones (split_into_windows) or a larger number"
        )
    return rows[:kept]


def needed_calls(found: BlockParts, parts: Iterable[Part], name: str) -> list[tuple[Part, str, Call]]:
    """Which end of which part is read off at which call; a ModelError if a part was not found."""
    ends: list[tuple[Part, str, Call]] = []
    for part in parts:
        if part == "block":
            continue
        found.check(part, name)
        if part in PROJECTIONS:
            call = found.projections[part].call
            alike = "attention" not in found.reasons  # the three read one tensor, which is copied once
            ends += [(part, "x", found.projections["query"].call if alike else call), (part, "y", call)]
        elif part == "attention" and found.output is not None:
            ends += [(part, "x", found.projections["query"].call), (part, "y", found.output)]
        else:
            ends += [(part, "x", found.first[0]), (part, "y", found.hidden[-1])]
    return ends


def capture_rows(
    model: LanguageModel, rows: Sequence[Tokens], *, parts: Sequence[Part], blocks: Sequence[int],
    special_tokens: bool = False, batch_tokens: int = 4096,
) -> list[ChannelSamples]:
    """As :func:`capture_channels`, of rows of tokens."""
    stack = find_stack(model.model)
    found = {b: p for b, p in enumerate(find_parts(model.model), start=1) if b in blocks}
    ends = {b: needed_calls(found[b], parts, model.name) for b in blocks}
    paths = [call.path for of_block in ends.values() for _, _, call in of_block]
    kept = [np.flatnonzero(~row.special) if not special_tokens else np.arange(len(row.ids)) for row in rows]
    pieces: dict[int, dict[End, NDArray[Any]]] = {}
    source = model.source
    for batch in batches_of([len(row.ids) for row in rows], batch_tokens, exact=stack.pads_exactly):
        seen: dict[tuple[int, Any, str], torch.Tensor] = {}
        with contextlib.ExitStack() as scope:
            scope.enter_context(lock_of(model.model))
            scope.enter_context(evaluating(model.model))
            scope.enter_context(watched(runner(model.model), stack, paths, _recorder(seen, ends, parts)))
            _, real = run_rows(model, [rows[i] for i in batch])
            source = model.current_source()
        arrays = {key: _array(states_of(stack, value, real.shape), model) for key, value in seen.items()}
        for place, i in enumerate(batch):
            mine: dict[Any, NDArray[Any]] = {}
            pieces[i] = {}
            for block in blocks:
                wanted: list[tuple[Part, str, Any]] = [(p, e, call) for p, e, call in ends[block]]
                if "block" in parts:
                    wanted += [("block", "x", None), ("block", "y", None)]
                for part, end, call in wanted:
                    key = (block, call, end)
                    if key not in arrays:
                        raise ModelError(f"{model.name}: {call} did not run in block {block}; load the model again")
                    if key not in mine:
                        mine[key] = arrays[key][place][kept[i]]
                    pieces[i][block, part, end] = mine[key]
    return _results(model, rows, kept, pieces, found, parts, source)


def _recorder(seen: dict[Any, Any], ends: dict[int, list[tuple[Part, str, Call]]], parts: Sequence[Part]) -> Watch:
    """What to copy during a pass; tensors are copied at once, since some models go on computing in place."""
    wanted = {(block, call, end) for block, of_block in ends.items() for _, end, call in of_block}

    def enter(block: int, x: torch.Tensor) -> None:
        if block in ends and "block" in parts:
            seen[block, None, "x"] = x.detach().clone()

    def call(block: int, call: Call, module: Any, x: torch.Tensor, y: torch.Tensor) -> None:
        for end, value in (("x", x), ("y", y)):
            if (block, call, end) in wanted:
                seen[block, call, end] = value.detach().clone()

    def leave(block: int, y: torch.Tensor) -> None:
        if block in ends and "block" in parts:
            seen[block, None, "y"] = y.detach().clone()

    return Watch(enter=enter, call=call, leave=leave)


def _array(tensor: torch.Tensor, model: LanguageModel) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.float() if tensor.dtype.itemsize < 4 else tensor).cpu().numpy()
    return array


def _results(
    model: LanguageModel, rows: Sequence[Tokens], kept: Sequence[IntArray], pieces: dict[int, dict[End, NDArray[Any]]],
    found: dict[int, BlockParts], parts: Sequence[Part], source: Source,
) -> list[ChannelSamples]:
    """The pieces of the texts in their order, one result for each block and part."""
    texts = np.repeat(np.arange(len(rows)), [len(k) for k in kept])
    positions = np.concatenate(list(kept))
    ids = np.concatenate([row.ids[k] for row, k in zip(rows, kept, strict=True)])
    results = []
    joined: dict[tuple[int, ...], NDArray[Any]] = {}
    for block, of_block in found.items():
        joined.clear()
        for part in parts:
            ends = {}
            for end in ("x", "y"):
                given = [pieces[i][block, part, end] for i in range(len(rows))]
                key = tuple(map(id, given))
                if key not in joined:
                    joined[key] = np.concatenate(given)
                    if not np.isfinite(joined[key]).all():
                        raise DomainError(
                            f"{model.name}: {part} of block {block} holds NaN or infinity; the weights or the number "
                            "format (float16 overflows in some models) are at fault, load it with dtype='float32'"
                        )
                ends[end] = joined[key]
            projection = of_block.projections.get(part)
            y = ends["y"]
            if projection is not None and projection.columns is not None:
                y = y[:, list(projection.columns)]
            results.append(ChannelSamples(
                part=part, block=block, x=ends["x"], y=y, texts=texts, positions=positions, token_ids=ids,
                heads=None if projection is None else projection.heads, source=source,
            ))
    return results
