"""Derivatives of a token's own output by its own input, for the parts of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, check_count, random_generator
from infogeo.capacity.results import Part
from infogeo.errors import ArgumentError, DomainError, InfogeoError, ModelError
from infogeo_adapters.transformers.alignment import Tokens
from infogeo_adapters.transformers.channels import check_blocks, check_parts, needed_calls
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.parts import (
    PROJECTIONS,
    BlockParts,
    Call,
    Watch,
    find_parts,
    matrix_of,
    plain_attention,
    watched,
)
from infogeo_adapters.transformers.stack import Stack, evaluating, find_stack, rounding, runner
from infogeo_adapters.transformers.token_rows import run_rows, states_of, token_rows

if TYPE_CHECKING:
    import torch

MEMORY = 256e6
"""Bytes that the derivatives of one batch may take beside the result."""


REFUSALS = ("is not implemented", "not implemented for", "batching rule", "vmap", "functorch", "setup_context")
"""What the messages of torch say where an operation has not the derivative that was asked for."""


class PartJacobians(NamedTuple):
    """Jacobians of one part at sampled tokens, where they were taken, and what went in and came out there."""

    jacobians: NDArray[np.floating[Any]]
    """(n, q, p)"""
    inputs: NDArray[np.floating[Any]]
    """(n, p)"""
    outputs: NDArray[np.floating[Any]]
    """(n, q)"""
    texts: IntArray
    """(n,) number of the text"""
    positions: IntArray
    """(n,) place of the token in it"""


def part_jacobians(
    model: LanguageModel,
    texts: str | Sequence[str],
    *,
    part: Part,
    block: int,
    tokens: int = 32,
    rng: int | np.random.Generator | None = None,
    memory: float = MEMORY,
) -> PartJacobians:
    r"""Jacobians of a part of a block at sampled tokens: of a token's own output by its own input.

    .. math:: J_t = \frac{\partial y_t}{\partial x_t}

    with the inputs of all other tokens held fixed, x and y as in
    :func:`~infogeo_adapters.transformers.channels.capture_channels`. For attention and the whole block it holds the
    way through the token's own query, key and value. For queries, keys and values it is their weight matrix, the same
    at each token.

    The chain rule is applied by hand to what the block is made of: the weights are multiplied as they stand, and
    reverse differentiation is needed only for what lies between (norms, activations, the softmax of attention), which
    is cheap. So it is exact to the rounding of the model's number format, and no quotient of differences.

    Parameters
    ----------
    model : LanguageModel
    texts : str or sequence of str
    part : str
        ``block``, ``attention``, ``query``, ``key``, ``value`` or ``feed_forward``.
    block : int
        Counted from 1.
    tokens : int
        Tokens to sample, without replacement, special ones left out; all if there are fewer.
    rng : None, int or numpy.random.Generator
        For the sampling.
    memory : float
        Bytes that the derivatives of one batch may take beside the result, by which the batches are cut.

    Returns
    -------
    PartJacobians
        A named tuple of the Jacobians (n, q, p), inputs (n, p), outputs (n, q), and the numbers of the texts and the
        places (n,), in the order of the texts. The result takes n q p numbers in the model's format; for queries, keys
        and values it is a read-only view of one matrix.

    Raises
    ------
    ModelError
        The part was not found, or needs a derivative that torch does not have.
    TextError
        There is no text, or one is empty or longer than the context.
    ArgumentError
        An argument has no such value.
    DomainError
        The model computes NaN or infinity.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = part_jacobians(load_model(), "The cat sat.", part="feed_forward", block=1, tokens=2, rng=0)
    >>> found.jacobians.shape, found.inputs.shape
    ((2, 160, 160), (2, 160))
    """
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    check_parts([part])
    (number,) = check_blocks(model, [block])
    count = check_count("tokens", tokens, 1)
    generator = random_generator(rng)
    return jacobians_of_rows(
        model, token_rows(model, texts), part=part, block=number, tokens=count, rng=generator, memory=memory
    )


def jacobians_of_rows(
    model: LanguageModel, rows: Sequence[Tokens], *, part: Part, block: int, tokens: int, rng: np.random.Generator,
    memory: float = MEMORY,
) -> PartJacobians:
    """As :func:`part_jacobians`, of rows of tokens."""
    stack = find_stack(model.model)
    found = find_parts(model.model)[block - 1]
    if part == "block" and "attention" in found.reasons:
        found.check("attention", model.name)
    needed_calls(found, [part], model.name)
    places = [(i, int(t)) for i, row in enumerate(rows) for t in np.flatnonzero(~row.special)]
    chosen = sorted(rng.choice(len(places), size=min(tokens, len(places)), replace=False).tolist())
    sampled = [places[i] for i in chosen]
    # one row for each sampled token, rows of one length together where padding is not exact
    sampled.sort(key=lambda at: (len(rows[at[0]].ids), at))
    pieces = []
    for group in _groups(sampled, rows, stack, model, memory):
        of_group, at = [rows[i] for i, _ in group], [t for _, t in group]
        try:
            pieces.append(_one_batch(model, stack, found, part, of_group, at, memory))
        except (NotImplementedError, RuntimeError) as error:
            if isinstance(error, InfogeoError) or not any(words in str(error) for words in REFUSALS):
                raise
            raise ModelError(
                f"{model.name}: {part} of block {block} has an operation without the derivative that its Jacobian "
                f"needs ({str(error).splitlines()[0]}); load the model with another implementation of that operation "
                "(attn_implementation='eager' for attention)"
            ) from error
    jacobians = _joined([p[0] for p in pieces], part)
    inputs, outputs = (np.concatenate([p[k] for p in pieces]) for k in (1, 2))
    if not (np.isfinite(jacobians).all() and np.isfinite(outputs).all()):
        raise DomainError(
            f"{model.name}: the Jacobian of {part} of block {block} holds NaN or infinity; the weights or the number "
            "format are at fault, load it with dtype='float32'"
        )
    order = sorted(range(len(sampled)), key=lambda k: sampled[k])
    texts, positions = np.array([sampled[k] for k in order], dtype=np.int64).T
    if part not in PROJECTIONS:
        jacobians = jacobians[order]
    return PartJacobians(jacobians, inputs[order], outputs[order], texts.copy(), positions.copy())


def _joined(pieces: list[NDArray[Any]], part: Part) -> NDArray[Any]:
    if part not in PROJECTIONS:
        return np.concatenate(pieces)
    total = sum(len(piece) for piece in pieces)
    return np.broadcast_to(pieces[0][0], (total, *pieces[0].shape[1:]))


def _groups(
    sampled: list[tuple[int, int]], rows: Sequence[Tokens], stack: Stack, model: LanguageModel, memory: float
) -> Iterator[list[tuple[int, int]]]:
    """Sampled tokens that run together: about a third of the memory for the widest chain of matrices they need."""
    width = int(model.model.config.get_text_config().hidden_size)
    each = 4.0 * 12 * width * width * model.model.dtype.itemsize / 4
    group: list[tuple[int, int]] = []
    for at in sampled:
        length = len(rows[at[0]].ids)
        uneven = group and not stack.pads_exactly and length != len(rows[group[0][0]].ids)
        if group and (uneven or (len(group) + 1) * each > memory / 3):
            yield group
            group = []
        group.append(at)
    yield group


@dataclass
class _Node:
    """An affine map of the block in one pass."""

    matrix: torch.Tensor
    given: torch.Tensor
    """(B, in) its input at the sampled tokens, with its history."""
    put: torch.Tensor
    """(B, out) its output there: a leaf of that history."""


@dataclass
class _Pass:
    """What a pass through one block showed, at the sampled tokens."""

    length: int
    """Tokens of the longest row."""
    start: torch.Tensor | None = None
    """(B, d) what went into the block, a leaf."""
    nodes: dict[Call, _Node] = field(default_factory=dict)
    end: torch.Tensor | None = None
    """(B, d) what came out, with its history."""


class _Done(Exception):
    """The block has run; what comes after it is not needed. It ends a pass early and is no error."""


def _one_batch(
    model: LanguageModel, stack: Stack, found: BlockParts, part: Part, rows: list[Tokens], at: list[int], memory: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Jacobians, inputs and outputs at one token of each row."""
    import torch

    seen = _run(model, stack, found, rows, at)
    if seen.start is None or seen.end is None:
        raise ModelError(f"{model.name}: block {found.block} did not run; load the model again")
    if part in PROJECTIONS:
        projection = found.projections[part]
        node = seen.nodes[projection.call]
        columns = slice(None) if projection.columns is None else list(projection.columns)
        jacobian = node.matrix[columns].expand(len(rows), -1, -1)
        x, y = node.given, node.put[:, columns]
    elif part == "feed_forward":
        jacobian = _chain(seen, found.first, found.hidden, found.hidden[-1], memory)
        x, y = seen.nodes[found.first[0]].given, seen.nodes[found.hidden[-1]].put
    elif part == "attention" and found.output is not None:
        calls = tuple(dict.fromkeys(p.call for p in found.projections.values()))
        jacobian = _chain(seen, calls, (*calls, found.output), found.output, memory)
        x, y = seen.nodes[calls[0]].given, seen.nodes[found.output].put
    else:
        jacobian = _chain(seen, (), tuple(seen.nodes), None, memory)
        x, y = seen.start, seen.end
    wide = torch.float32 if jacobian.dtype.itemsize < 4 else jacobian.dtype
    arrays = [value.detach().to(wide).cpu().numpy() for value in (jacobian, x, y)]
    return arrays[0], arrays[1], arrays[2]


def _run(model: LanguageModel, stack: Stack, found: BlockParts, rows: list[Tokens], at: list[int]) -> _Pass:
    """One pass up to the end of the block, cut at each affine map: its output at the sampled tokens is a leaf."""
    import torch

    shape = (len(rows), max(len(row.ids) for row in rows))
    seen = _Pass(length=shape[1])
    lines, places = torch.arange(len(rows)), torch.tensor(at)
    taped = contextlib.ExitStack()

    def leaf(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tensor with a leaf in the place of its values at the sampled tokens, and the leaf."""
        flat = states_of(stack, value.detach(), shape)
        new = flat[lines, places].clone().requires_grad_()
        put = flat.clone()
        put[lines, places] = new
        if tuple(value.shape[:2]) == shape:
            return put, new
        turned = stack.time_major and tuple(value.shape[:2]) == shape[::-1]
        return put.transpose(0, 1) if turned else put.reshape(value.shape), new

    def enter(block: int, x: torch.Tensor) -> torch.Tensor | None:
        if block != found.block:
            return None
        taped.enter_context(torch.enable_grad())
        put, seen.start = leaf(x)
        return put

    def call(block: int, call: Call, module: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
        if block != found.block or y.numel() != shape[0] * shape[1] * y.shape[-1]:
            return None
        matrix = matrix_of(module, x, y, rounding(model.model))
        if matrix is None:
            return None
        put, new = leaf(y)
        seen.nodes[call] = _Node(matrix, states_of(stack, x, shape)[lines, places], new)
        return put

    def leave(block: int, y: torch.Tensor) -> None:
        if block == found.block:
            seen.end = states_of(stack, y, shape)[lines, places]
            raise _Done

    with contextlib.ExitStack() as scope:
        scope.enter_context(lock_of(model.model))
        scope.enter_context(evaluating(model.model))
        scope.enter_context(plain_attention())
        scope.enter_context(taped)
        watch = Watch(enter=enter, call=call, leave=leave)
        scope.enter_context(watched(runner(model.model), stack, found.seen, watch))
        scope.enter_context(contextlib.suppress(_Done))
        run_rows(model, rows)
    return seen


def _chain(
    seen: _Pass, first: tuple[Call, ...], calls: tuple[Call, ...], last: Call | None, memory: float
) -> torch.Tensor:
    """Derivative (B, q, p) of the output of the last map by the common input of the first ones.

    With no first and no last map: of the end of the block by its start.
    """
    known: list[tuple[torch.Tensor, torch.Tensor]] = []
    if not first and seen.start is not None:
        known.append((seen.start, _identity(seen.start)))
    for call in calls:
        node = seen.nodes[call]
        if call in first:
            onward = node.matrix.expand(len(node.put), -1, -1)
        else:
            inner = _through(node.given, known, seen.length, memory)
            if inner is None:
                continue
            onward = node.matrix @ inner
        known.append((node.put, onward))
        if call == last:
            return onward
    end = None if seen.end is None else _through(seen.end, known, seen.length, memory)
    if end is None:
        raise ModelError("the output of the block does not depend on its input; load the model again")
    return end


def _identity(value: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.eye(value.shape[1], dtype=value.dtype, device=value.device).expand(len(value), -1, -1)


def _through(
    target: torch.Tensor, known: Sequence[tuple[torch.Tensor, torch.Tensor]], length: int, memory: float
) -> torch.Tensor | None:
    """Sum over the leaves of the derivative of the target by each, times what is known of that leaf."""
    import torch

    if not target.requires_grad:
        return None
    leaves = [leaf for leaf, _ in known]
    batch, width = target.shape

    def pull(weights: torch.Tensor) -> list[torch.Tensor | None]:
        got = torch.autograd.grad(
            target, leaves, weights, retain_graph=True, allow_unused=True, is_grads_batched=weights.ndim == 3
        )
        return list(got)

    # where each output depends on its own component of the leaf alone, two products tell the whole matrix
    once = pull(torch.ones_like(target))
    signs = torch.randn(width, generator=torch.Generator().manual_seed(0)).to(target).expand_as(target)
    again = pull(signs)
    total: torch.Tensor | None = None
    full: list[int] = []
    for i, (leaf, through) in enumerate(known):
        one, two = once[i], again[i]
        if one is None or two is None:
            continue
        if leaf.shape == target.shape and _diagonal(one, two, signs):
            part = one[:, :, None] * through
            total = part if total is None else total + part
        else:
            full.append(i)
    if not full:
        return total
    rows: list[torch.Tensor] = []
    widest = max(width, *(leaves[i].shape[1] for i in full))
    chunk = max(1, int(memory / (8 * target.dtype.itemsize * batch * length * widest)))
    for start in range(0, width, chunk):
        size = min(chunk, width - start)
        seed = torch.zeros((size, batch, width), dtype=target.dtype, device=target.device)
        seed[torch.arange(size), :, start + torch.arange(size)] = 1
        got = pull(seed)
        products = [g.transpose(0, 1) @ known[i][1] for i in full if (g := got[i]) is not None]
        rows.append(torch.stack(products).sum(0))
    dense = torch.cat(rows, dim=1)
    return dense if total is None else total + dense


def _diagonal(one: torch.Tensor, two: torch.Tensor, signs: torch.Tensor) -> bool:
    """Whether the products with ones and with different numbers are those of a diagonal matrix, to rounding."""
    import torch

    scale = (one.abs().amax() * signs.abs().amax()).clamp_min(1e-30)
    return bool(((two - one * signs).abs() <= 32 * torch.finfo(one.dtype).eps * scale).all())
