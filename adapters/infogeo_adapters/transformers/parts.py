"""Where the parts of a block are: found by running it and looking at what depends on what, not by names.

In one pass over a few tokens the output of every affine map inside a block is replaced by random numbers that record
gradients. Then the derivatives say all there is to know: the output projection of attention is the one map whose input
depends on other tokens; a channel before it that matters to its own token alone is of a query, one that reaches other
tokens with every component of a head is of a key, one that reaches them with its own component alone is of a value.
So fused projections are taken apart whatever the order they are packed in, and key-value heads that several query
heads share are seen as what they are.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo.capacity.results import Part
from infogeo.errors import ModelError
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    Stack,
    evaluating,
    find_stack,
    padded_probe,
    rounding,
    run_model,
    runner,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PARTS: tuple[Part, ...] = ("block", "attention", "query", "key", "value", "feed_forward")
PROJECTIONS = ("query", "key", "value")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One application of an affine map while a block runs."""

    path: str
    """Name of the module inside what :func:`~infogeo_adapters.transformers.stack.runner` gives."""
    turn: int
    """How often the module had run in this block before."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Queries, keys or values: some outputs of an affine map."""

    call: Call
    columns: tuple[int, ...] | None
    """Which outputs, head by head; None for all in their order."""
    heads: int | None
    """Heads that they fall into; None where these cannot be told apart."""


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """The parts of one block, and why others were not found."""

    block: int
    """Counted from 1."""
    projections: Mapping[str, Projection]
    output: Call | None
    """The output projection of attention."""
    first: tuple[Call, ...]
    """The maps that the feed-forward begins with; a gated one has two."""
    hidden: tuple[Call, ...]
    """All maps of the feed-forward in the order they run, the last one among them."""
    reasons: Mapping[str, str]
    """What is wrong, for each part that was not found."""
    seen: tuple[str, ...]
    """The affine maps that ran in the block."""

    def check(self, part: str, model: str) -> None:
        """Raise a ModelError that names part, block and the modules seen, unless the part was found."""
        if part in self.reasons:
            raise ModelError(
                f"{model}: the part {part!r} of block {self.block} was not found: {self.reasons[part]} (affine maps "
                f"that ran in the block: {', '.join(self.seen) or 'none'}); leave this part out"
            )


_found: weakref.WeakKeyDictionary[PreTrainedModel, tuple[BlockParts, ...]] = weakref.WeakKeyDictionary()


def find_parts(model: PreTrainedModel) -> tuple[BlockParts, ...]:
    """The parts of each block of a model; the answer is kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left in the mode it was in.

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
        if model not in _found:
            stack = find_stack(model)
            with evaluating(model):
                _found[model] = _probe(model, stack)
        return _found[model]


# Watching a pass


@dataclass(kw_only=True)
class Watch:
    """What to do while a model runs; a function that returns a tensor puts it in the place of the one it was given."""

    enter: Callable[[int, torch.Tensor], torch.Tensor | None] = lambda block, x: None
    """(block from 1, what goes in)"""
    call: Callable[[int, Call, torch.nn.Module, torch.Tensor, torch.Tensor], torch.Tensor | None] = (
        lambda block, call, module, x, y: None
    )
    """(block, call, module, its input, its output)"""
    leave: Callable[[int, torch.Tensor], None] = lambda block, y: None
    """(block, what comes out)"""


@dataclass
class _State:
    block: int = 0
    inside: bool = False
    turns: dict[str, int] = field(default_factory=dict)


def affine_modules(part: torch.nn.Module, stack: Stack) -> dict[str, torch.nn.Module]:
    """Modules inside the blocks that have a matrix and nothing inside them: candidates for affine maps."""
    import torch

    blocks = part.get_submodule(stack.path)
    found = {}
    for name, module in blocks.named_modules(prefix=stack.path):
        weight = getattr(module, "weight", None)
        leaf = next(module.children(), None) is None and not isinstance(module, torch.nn.Embedding)
        if leaf and isinstance(weight, torch.Tensor) and weight.ndim == 2 and weight.is_floating_point():
            found[name] = module
    return found


@contextlib.contextmanager
def watched(part: torch.nn.Module, stack: Stack, paths: Sequence[str], watch: Watch) -> Iterator[None]:
    """Hooks on the blocks and on the modules named while the body runs, gone afterwards whatever happens."""
    state = _State()

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state.block, state.inside, state.turns = state.block + 1, True, {}
        given = watch.enter(state.block, args[0] if args else kwargs["hidden_states"])
        if given is None:
            return None
        return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": given})

    def leave(module: Any, args: tuple[Any, ...], output: Any) -> None:
        state.inside = False
        watch.leave(state.block, output[0] if isinstance(output, tuple) else output)

    def called(path: str) -> Callable[..., Any]:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> Any:
            if not state.inside or not args:
                return None
            call = Call(path=path, turn=state.turns.get(path, 0))
            state.turns[path] = call.turn + 1
            return watch.call(state.block, call, module, args[0], output)

        return hook

    handles = []
    try:
        for block in dict.fromkeys(part.get_submodule(stack.path).children()):
            handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(block.register_forward_hook(leave))
        for path in dict.fromkeys(paths):
            handles.append(part.get_submodule(path).register_forward_hook(called(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def matrix_of(module: Any, x: torch.Tensor, y: torch.Tensor, tolerance: float) -> torch.Tensor | None:
    """The matrix (out, in) with y = x Wᵀ + b, checked on the input and output; None if there is none.

    Linear layers keep it this way round, the Conv1D of GPT-2 the other.
    """
    bias = getattr(module, "bias", None)
    flat = x.detach().reshape(-1, x.shape[-1])
    for matrix in (module.weight, module.weight.T):
        if tuple(matrix.shape) == (y.shape[-1], x.shape[-1]):
            again = flat @ matrix.detach().T.to(flat.dtype)
            if bias is not None:
                again = again + bias.detach()
            target = y.detach().reshape(-1, y.shape[-1])
            if again.shape == target.shape:
                scale = float(target.abs().max().clamp_min(1e-30))
                if float((again - target).abs().max()) <= tolerance * scale:
                    found: torch.Tensor = matrix.detach()
                    return found
    return None


# Finding


@dataclass
class _Leaf:
    """An affine map that ran: what went in, with its history, and the random numbers put in the place of its output."""

    call: Call
    given: torch.Tensor
    """(T, in)"""
    put: torch.Tensor
    """(T, out)"""


def _probe(model: PreTrainedModel, stack: Stack) -> tuple[BlockParts, ...]:
    import torch

    part = runner(model)
    ids = padded_probe(model)[0][1:]
    tokens = ids.shape[1]
    leaves: list[list[_Leaf]] = [[] for _ in range(stack.depth)]
    generator = torch.Generator().manual_seed(0)

    def call(block: int, call: Call, module: Any, x: torch.Tensor, y: Any) -> torch.Tensor | None:
        if not isinstance(y, torch.Tensor) or block > stack.depth or y.numel() != tokens * y.shape[-1]:
            return None
        if x.shape[:-1] != y.shape[:-1] or matrix_of(module, x, y, rounding(model)) is None:
            return None
        noise = torch.randn((tokens, y.shape[-1]), generator=generator) * 0.5
        put = noise.to(y.device, y.dtype).requires_grad_()
        leaves[block - 1].append(_Leaf(call, x.reshape(tokens, -1), put))
        return put.clone().reshape(y.shape)

    watch = Watch(call=call)
    with watched(part, stack, list(affine_modules(part, stack)), watch), torch.enable_grad(), plain_attention():
        run_model(part, ids, torch.ones_like(ids))
    heads = getattr(model.config.get_text_config() if not stack.encoder_decoder else part.config,
                    "num_attention_heads", None)
    found = []
    for number, block in enumerate(leaves, start=1):
        per_block = heads[number - 1] if isinstance(heads, list | tuple) else heads
        found.append(_parts_of(number, block, per_block if isinstance(per_block, int) else None))
    return tuple(found)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by plain products, which have all derivatives, in batches too."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.MATH]):
        yield


def gradients(target: torch.Tensor, weights: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Derivative of the weighted sum of a tensor by each leaf; zeros where nothing depends on it."""
    import torch

    if not target.requires_grad or not leaves:
        return [torch.zeros_like(leaf) for leaf in leaves]
    got = torch.autograd.grad(target, leaves, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(got, leaves, strict=True)]


def _parts_of(number: int, leaves: list[_Leaf], heads: int | None) -> BlockParts:
    import torch

    reasons: dict[str, str] = {}
    projections: dict[str, Projection] = {}
    output: _Leaf | None = None
    sources: set[int] = set()
    mixing = []
    for i, leaf in enumerate(leaves):
        seed = torch.zeros_like(leaf.given)
        seed[-1] = torch.linspace(0.5, 1.5, seed.shape[1])
        found = gradients(leaf.given, seed, [before.put for before in leaves[:i]])
        reach = {j for j, g in enumerate(found) if bool((g[:-1] != 0).any())}
        if reach:
            mixing.append((leaf, reach, found))
    if len(mixing) != 1:
        why = (
            f"{len(mixing)} affine maps read what depends on other tokens, wanted exactly one, the output projection"
        )
        reasons |= dict.fromkeys(("attention", *PROJECTIONS), why)
    else:
        output, _, found = mixing[0]
        sources = {j for j, g in enumerate(found) if bool((g != 0).any())}
        projections, why_not = _projections(output, leaves, sorted(sources), heads)
        reasons |= why_not
        inputs = [leaves[j].given for j in sources]
        if any(x.shape != inputs[0].shape or not torch.equal(x, inputs[0]) for x in inputs[1:]):
            reasons["attention"] = "queries, keys and values are made from different inputs"
        for part in why_not:
            reasons.setdefault("attention", f"its {part} was not found: {why_not[part]}")
    rest = [leaf for j, leaf in enumerate(leaves) if j not in sources and leaf is not output]
    first, hidden, why = _feed_forward(rest) if output is not None else ((), (), "attention was not found either")
    if why:
        reasons["feed_forward"] = why
    return BlockParts(
        block=number, projections=projections, output=None if output is None else output.call, first=first,
        hidden=hidden, reasons=reasons, seen=tuple(leaf.call.path for leaf in leaves),
    )


def _projections(
    output: _Leaf, leaves: list[_Leaf], sources: list[int], heads: int | None
) -> tuple[dict[str, Projection], dict[str, str]]:
    """Queries, keys and values among the maps that attention reads, and what is wrong with those not found."""
    import torch

    width = output.given.shape[1]
    if heads is None or width % heads:
        return {}, dict.fromkeys(PROJECTIONS, f"the config says {heads} heads, which do not divide {width} components")
    size = width // heads
    puts = [leaves[j].put for j in sources]

    def reached(seed: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each source, which channels matter at the own token, and which at others."""
        weights = torch.zeros_like(output.given)
        weights[-1] = seed.reshape(-1).to(weights)
        got = gradients(output.given, weights, puts)
        return [g[-1] != 0 for g in got], [(g[:-1] != 0).any(0) for g in got]

    component = torch.zeros(2, heads, size)
    component[0, :, 0] = component[1, :, 1 % size] = 1.0
    zeroth, oneth = (reached(c)[1] for c in component)
    owns: list[list[torch.Tensor]] = []
    others: list[list[torch.Tensor]] = []
    for head in range(heads):
        seed = torch.zeros(heads, size)
        seed[head] = torch.linspace(0.5, 1.5, size)
        own, other = reached(seed)
        owns.append(own)
        others.append(other)
    channels: dict[str, list[tuple[int, int, tuple[int, ...]]]] = {part: [] for part in PROJECTIONS}
    for s in range(len(sources)):
        at_own, at_others = (torch.stack([one[s] for one in many]) for many in (owns, others))
        for c in torch.nonzero((at_own | at_others).any(0)).flatten().tolist():
            if not bool(at_others[:, c].any()):
                part, by = "query", at_own
            else:
                part, by = ("key" if bool(zeroth[s][c] & oneth[s][c]) else "value"), at_others
            channels[part].append((s, c, tuple(torch.nonzero(by[:, c]).flatten().tolist())))
    projections, reasons, mixed = {}, {}, False
    for part, found in channels.items():
        which = sorted({s for s, _, _ in found})
        if len(which) != 1:
            paths = ", ".join(leaves[sources[s]].call.path for s in which) or "no affine map"
            reasons[part] = f"it comes from {paths}, wanted from one map"
            continue
        leaf = leaves[sources[which[0]]]
        groups = sorted({group for _, _, group in found})
        apart = sum(map(len, groups)) == heads and len({h for g in groups for h in g}) == heads
        if part == "query":  # one head each, or a norm over all heads mixes them, and those of keys as well
            mixed = len(groups) != heads
        apart = apart and not (mixed and part != "value")
        sizes = {sum(g == group for _, _, g in found) for group in groups}
        order = sorted(found, key=lambda entry: (entry[2], entry[1])) if apart and len(sizes) == 1 else found
        columns = tuple(c for _, c, _ in order)
        whole = columns == tuple(range(leaf.put.shape[1]))
        projections[part] = Projection(
            call=leaf.call, columns=None if whole else columns, heads=len(groups) if order is not found else None
        )
    return projections, reasons


def _feed_forward(rest: list[_Leaf]) -> tuple[tuple[Call, ...], tuple[Call, ...], str]:
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
    return tuple(leaf.call for leaf in first), tuple(leaf.call for leaf in rest), ""
