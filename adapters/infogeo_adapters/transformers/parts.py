"""Where the parts of a block are: found by running it and looking at what depends on what, not by names.

In one pass over a few tokens the output of every affine map inside a block is replaced by random numbers that record
gradients. Then the derivatives say all there is to know: the output projection of attention is the one map whose input
depends on other tokens, that of cross attention the one whose input depends on tokens of the source text; a channel
before it that matters to its own token alone is of a query, one that reaches other tokens with every component of a
head is of a key, one that reaches them with its own component alone is of a value. So fused projections are taken
apart whatever the order they are packed in, and key-value heads that several query heads share are seen as what they
are.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo.capacity.results import Part
from infogeo.errors import ModelError
from infogeo_adapters.transformers._stage_heads import NOTHING, PROJECTIONS, Leaf, Projection, find_projections
from infogeo_adapters.transformers._stage_search import for_search
from infogeo_adapters.transformers._stage_watch import (
    Call,
    Watch,
    affine_modules,
    gradients,
    matrix_of,
    plain_attention,
    watched,
)
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    PROBE,
    Side,
    Stack,
    encoded,
    evaluating,
    find_stack,
    padded_probe,
    run_model,
    runner,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = [
    "PARTS", "PROJECTIONS", "BlockParts", "Call", "Projection", "Watch", "affine_modules", "find_parts", "gradients",
    "matrix_of", "plain_attention", "watched",
]

PARTS: tuple[Part, ...] = ("block", "attention", "query", "key", "value", "feed_forward")
NO_CROSS = "the model has no cross attention"


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """The parts of one block, and why others were not found."""

    block: int
    """Counted from 1."""
    projections: Mapping[str, Projection]
    output: Call | None
    """The output projection of attention, or the last map of what else mixes tokens."""
    first: tuple[Call, ...]
    """The maps that the feed-forward begins with; a gated one has two."""
    hidden: tuple[Call, ...]
    """All maps of the feed-forward in the order they run, the last one among them."""
    reasons: Mapping[str, str]
    """What is wrong, for each part that was not found."""
    seen: tuple[str, ...]
    """The affine maps that ran in the block."""
    input: Call | None = None
    """A map that reads what attention begins with; None where its maps begin with different tensors."""
    attends: bool = False
    """Whether tokens are mixed by attention: something works as queries, as keys and as values; else perhaps by a
    convolution or a recurrence."""
    cross: Mapping[str, Projection] = field(default_factory=dict)
    """Queries, keys and values of cross attention."""
    cross_output: Call | None = None
    """The output projection of cross attention, in the decoder of an encoder-decoder model."""
    cross_reasons: Mapping[str, str] = field(default_factory=dict)
    """What is wrong, for "attention", "query", "key" and "value" of cross attention."""

    def check(self, part: str, model: str) -> None:
        """Raise a ModelError that names part, block and the modules seen, unless the part was found."""
        if part in self.reasons:
            raise ModelError(
                f"{model}: the part {part!r} of block {self.block} was not found: {self.reasons[part]} (affine maps "
                f"that ran in the block: {', '.join(self.seen) or 'none'}); leave this part out"
            )


_found: weakref.WeakKeyDictionary[PreTrainedModel, dict[Side | None, tuple[BlockParts, ...]]] = (
    weakref.WeakKeyDictionary()
)


def find_parts(model: PreTrainedModel, side: Side | None = None) -> tuple[BlockParts, ...]:
    """The parts of each block of a model; the answer is kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left in the mode it was in.
    side : {"encoder", "decoder"}, optional
        Which stack of an encoder-decoder model, by default its encoder; of other models there is one.

    Returns
    -------
    tuple of BlockParts

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = find_parts(load_model().model)[0]
    >>> found.projections["key"].call.path, found.projections["key"].heads, found.output.path
    ('layers.0.self_attn.k_proj', 5, 'layers.0.self_attn.o_proj')
    """
    with lock_of(model):
        stack = find_stack(model, side)
        known = _found.setdefault(model, {})
        if stack.side not in known:
            net, tolerance = for_search(model, stack)
            with evaluating(net):
                known[stack.side] = _probe(net, stack, tolerance)
        return known[stack.side]


def _probe(model: PreTrainedModel, stack: Stack, tolerance: float) -> tuple[BlockParts, ...]:
    import torch

    part = runner(model, stack.side)
    ids = padded_probe(model)[0][1:]
    tokens, others = ids.shape[1], PROBE
    config = part.config if stack.encoder_decoder else model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    if stack.side == "decoder":  # BART and its kin name the heads of both stacks
        heads = getattr(config, "decoder_attention_heads", heads)
    leaves: list[Leaf] = []
    found: list[BlockParts] = []
    generator = torch.Generator().manual_seed(0)

    def enter(block: int, x: torch.Tensor) -> torch.Tensor:
        return x.detach().requires_grad_().clone()  # what belongs to the block before can go

    def call(block: int, call: Call, module: Any, x: torch.Tensor, y: Any) -> torch.Tensor | None:
        if not isinstance(y, torch.Tensor) or block > stack.depth:
            return None
        rows = y.numel() // y.shape[-1]
        if rows not in ({tokens, others} if stack.side == "decoder" else {tokens}):
            return None
        if x.shape[:-1] != y.shape[:-1] or matrix_of(module, x, y, tolerance) is None:
            return None
        noise = torch.randn((rows, y.shape[-1]), generator=generator) * 0.5
        put = noise.to(y.device, y.dtype).requires_grad_()
        leaves.append(Leaf(call, x, x.reshape(rows, -1), put, source=rows == others))
        return put.clone().reshape(y.shape)

    def leave(block: int, y: torch.Tensor) -> None:
        if block <= stack.depth:
            per_block = heads[block - 1] if isinstance(heads, list | tuple) else heads
            count = per_block if isinstance(per_block, int) else None
            found.append(_parts_of(block, leaves.copy(), count, y, tolerance))
        leaves.clear()

    more = encoded(model, ids[:, :others], torch.ones_like(ids[:, :others])) if stack.side == "decoder" else {}
    watch = Watch(enter=enter, call=call, leave=leave)
    with watched(part, stack, list(affine_modules(part, stack)), watch), torch.enable_grad(), plain_attention():
        run_model(part, ids, torch.ones_like(ids), **more)
    return tuple(found)


def _parts_of(number: int, leaves: list[Leaf], heads: int | None, end: torch.Tensor, tolerance: float) -> BlockParts:
    own, across = _mixing(leaves)
    reasons: dict[str, str] = {}
    projections: dict[str, Projection] = {}
    output: Leaf | None = None
    inside: set[int] = set()
    first_call: Call | None = None
    if len(own) != 1:
        why = f"{len(own)} affine maps read what depends on other tokens, wanted exactly one, the output projection"
        reasons |= dict.fromkeys(("attention", *PROJECTIONS), why)
        if own and all(any(leaves[j] is leaf for j in own[-1][1]) for leaf, _ in own[:-1]):
            output, sources = own[-1]  # one after the other, as in Mamba; what they make leaves by the last
            inside = _closure(leaves, sources, outputs=[out for out, _ in across])[0]
    else:
        output, sources = own[0]
        projections, why_not = find_projections(output, leaves, sources, heads)
        reasons |= why_not
        if not _same([leaves[j] for j in sources]):
            reasons["attention"] = "queries, keys and values are made from different inputs"
        for part in why_not:
            reasons.setdefault("attention", f"its {part} was not found: {why_not[part]}")
        inside, first_call = _closure(leaves, sources, outputs=[out for out, _ in across])
    cross: dict[str, Projection] = {}
    cross_reasons = dict.fromkeys(("attention", *PROJECTIONS), NO_CROSS)
    if across:
        if len(across) > 1:
            why = f"{len(across)} affine maps read what depends on the source text, wanted one, the output projection"
            cross_reasons = dict.fromkeys(("attention", *PROJECTIONS), why)
        else:
            cross, cross_reasons = find_projections(across[0][0], leaves, across[0][1], heads)
        for _, sources in across:
            inside |= _closure(leaves, sources, outputs=[out for out, _ in own])[0]
    outputs = [id(leaf) for leaf, _ in own + across]
    rest = [leaf for j, leaf in enumerate(leaves) if j not in inside and id(leaf) not in outputs]
    first, hidden, why = _feed_forward(rest, end, tolerance) if own else ((), (), "attention was not found either")
    if output is None and own:
        first, hidden, why = (), (), "attention was not found either"
    if why:
        reasons["feed_forward"] = why
    return BlockParts(
        block=number, projections=projections, output=None if output is None else output.call, first=first,
        hidden=hidden, reasons=reasons, seen=tuple(leaf.call.path for leaf in leaves), input=first_call, cross=cross,
        attends=bool(projections) and NOTHING not in reasons.values(),
        cross_output=across[0][0].call if len(across) == 1 else None, cross_reasons=cross_reasons,
    )


def _mixing(leaves: list[Leaf]) -> tuple[list[tuple[Leaf, list[int]]], list[tuple[Leaf, list[int]]]]:
    """Maps that read what depends on other tokens of the text, or on those of the source, with what these depend on."""
    import torch

    own, across = [], []
    for i, leaf in enumerate(leaves):
        if leaf.source:
            continue
        seed = torch.zeros_like(leaf.given)
        seed[-1] = torch.linspace(0.5, 1.5, seed.shape[1])
        found = gradients(leaf.given, seed, [before.put for before in leaves[:i]])
        sources = [j for j, g in enumerate(found) if bool((g != 0).any())]
        if any(leaves[j].source for j in sources):
            across.append((leaf, sources))
        elif any(bool((found[j][:-1] != 0).any()) for j in sources):
            own.append((leaf, sources))
    return own, across


def _same(leaves: Sequence[Leaf]) -> bool:
    """Whether maps read one and the same input."""
    import torch

    first = leaves[0].given
    return all(leaf.given.shape == first.shape and torch.equal(leaf.given, first) for leaf in leaves[1:])


def _closure(leaves: list[Leaf], sources: list[int], outputs: list[Leaf]) -> tuple[set[int], Call | None]:
    """All maps that lead to some, up to the outputs of other attention, and one of those they begin with."""
    import torch

    inside, queue, begin = set(sources), list(sources), []
    while queue:
        i = queue.pop()
        got = gradients(leaves[i].given, torch.ones_like(leaves[i].given), [leaf.put for leaf in leaves[:i]])
        before = [j for j, g in enumerate(got) if bool((g != 0).any()) and not any(leaves[j] is o for o in outputs)]
        queue += [j for j in before if j not in inside]
        inside |= set(before)
        if not before:
            begin.append(leaves[i])
    begin.sort(key=leaves.index)
    return inside, begin[0].call if _same(begin) else None


def _feed_forward(
    rest: list[Leaf], end: torch.Tensor, tolerance: float
) -> tuple[tuple[Call, ...], tuple[Call, ...], str]:
    """First maps and all maps of the feed-forward, or what is wrong."""
    import torch

    if len(rest) < 2:
        return (), (), f"{len(rest)} affine maps run beside those of attention, wanted at least two"
    needs: list[set[int]] = []
    for i, leaf in enumerate(rest):
        got = gradients(leaf.given, torch.ones_like(leaf.given), [before.put for before in rest[:i]])
        needs.append({j for j, g in enumerate(got) if bool((g != 0).any())})
    ends = set(range(len(rest))) - set().union(*needs)
    first = [leaf for leaf, needed in zip(rest, needs, strict=True) if not needed]
    if len(ends) != 1 or any(not torch.equal(leaf.given, first[0].given) for leaf in first):
        paths = ", ".join(leaf.call.path for leaf in rest)
        return (), (), f"the maps beside those of attention ({paths}) do not lead from one input to one output"
    last = rest[ends.pop()]
    seed = torch.randn(end.shape, generator=torch.Generator().manual_seed(1)).to(end)
    begin, after = gradients(end, seed, [first[0].read, last.put])
    # the input may be the stream itself, to which the output is added: then both have one derivative, or the input that
    # of the sum, to a factor; if the input is more than that, something else reads it too
    if not any(near(begin, one, 10 * tolerance, scaled=True) for one in (torch.zeros_like(begin), after, seed)):
        paths = ", ".join(leaf.call.path for leaf in rest)
        return (), (), f"something leads past the affine maps beside those of attention ({paths}), such as experts"
    return tuple(leaf.call for leaf in first), tuple(leaf.call for leaf in rest), ""


def near(one: torch.Tensor | None, other: torch.Tensor, tolerance: float, *, scaled: bool = False) -> bool:
    """Whether two derivatives are equal, to rounding; with ``scaled`` to a positive or negative factor."""
    if one is None or one.numel() != other.numel():
        return False
    a, b = one.double().reshape(-1), other.double().reshape(-1)
    if scaled:
        b = b * (a @ b / (b @ b).clamp_min(1e-300))
    return float((a - b).norm()) <= tolerance * max(float(a.norm()), float(b.norm()))
