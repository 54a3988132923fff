"""Where inside a block each stage can be read off: at which argument or return value of which module.

A stage of the residual stream is a cut of the computation: all that the block does with its input passes through it.
That is seen by derivatives. Let v be a random vector, x the block's input, y its output and c a tensor between them.
The derivative of <v, y> by x equals that of <g, c> by x with g the derivative of <v, y> by c, if c is a cut, and lacks
what leads past c if it is not. The output of the feed-forward is a cut of what is added to the stream: without it the
derivative of <v, y> by the stream is that of a sum.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo_adapters.transformers._stage_search import for_search
from infogeo_adapters.transformers._stage_watch import Call, Watch, plain_attention, watched
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.parts import PROJECTIONS, BlockParts, Projection, find_parts, near
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

PARALLEL = "attention and {what} run side by side on the block's input, so there is no stream between them"
MIXED = "its heads cannot be told apart, since a norm over all of them mixes them"
COARSE = 1e-2
BLURRED = "its numbers are too coarse to tell the stream by derivatives; load the model with dtype='float32'"
NO_ATTENTION = "tokens are mixed by no attention in this block: nothing in it works as queries, as keys and as values"


@dataclass(frozen=True, kw_only=True)
class Place:
    """An argument or a return value of a module while a block runs."""

    call: Call
    made: bool
    """True for what the module returned, False for what it was given."""
    key: int | str | None = None
    """Position or name of the argument; number in a returned tuple, None if one tensor was returned."""


@dataclass(frozen=True, kw_only=True)
class BlockPlaces:
    """Where the stages of one block are, and why others are not there."""

    places: Mapping[str, Place]
    projections: Mapping[str, Projection]
    """How queries, keys and values fall into heads, for the stages of this kind."""
    reasons: Mapping[str, str]


_found: weakref.WeakKeyDictionary[PreTrainedModel, dict[Side | None, tuple[BlockPlaces, ...]]] = (
    weakref.WeakKeyDictionary()
)


def find_places(model: PreTrainedModel, side: Side | None = None) -> tuple[BlockPlaces, ...]:
    """The places of the stages of each block; the answer is kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left in the mode it was in.
    side : {"encoder", "decoder"}, optional
        Which stack of an encoder-decoder model, by default its encoder; of other models there is one.

    Returns
    -------
    tuple of BlockPlaces

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> found = find_places(load_model().model)[0]
    >>> found.places["resid_mid"].call.path, found.places["resid_mid"].made
    ('layers.0.post_attention_layernorm', False)
    """
    with lock_of(model):
        stack = find_stack(model, side)
        known = _found.setdefault(model, {})
        if stack.side not in known:
            parts = find_parts(model, side)
            net, tolerance = for_search(model, stack)
            with evaluating(net):
                known[stack.side] = tuple(_trace(net, stack, parts, 10 * tolerance))
        return known[stack.side]


def tensors_in(given: Any) -> Iterator[tuple[int | str | None, torch.Tensor]]:
    """The tensors among arguments or return values, with their keys."""
    import torch

    if isinstance(given, torch.Tensor):
        yield None, given
    elif isinstance(given, tuple | list):
        yield from ((i, value) for i, value in enumerate(given) if isinstance(value, torch.Tensor))
    elif isinstance(given, dict):
        yield from ((name, value) for name, value in given.items() if isinstance(value, torch.Tensor))


@dataclass
class _Seen:
    """A tensor inside a block, with all places where it shows."""

    tensor: torch.Tensor
    version: int
    places: list[Place] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """False if it was overwritten after it was seen."""
        return self.tensor._version == self.version


@dataclass
class _Pass:
    """One block as it ran."""

    x: torch.Tensor
    seen: dict[tuple[int, int], _Seen] = field(default_factory=dict)

    def note(self, place: Place, tensor: torch.Tensor) -> None:
        if tensor.numel() == self.x.numel() and tensor.shape[-1] == self.x.shape[-1] and tensor.requires_grad:
            version = tensor._version
            self.seen.setdefault((id(tensor), version), _Seen(tensor, version)).places.append(place)

    def at(self, place: Place) -> torch.Tensor | None:
        """The tensor seen at a place."""
        return next((s.tensor for s in self.seen.values() if place in s.places), None)


def _trace(
    model: PreTrainedModel, stack: Stack, parts: Sequence[BlockParts], tolerance: float
) -> list[BlockPlaces]:
    """Run a few tokens, each block cut off from the one before, and look at each block as it ends."""
    import torch

    part = runner(model, stack.side)
    ids = padded_probe(model)[0][1:]
    found: list[BlockPlaces] = []
    running: list[_Pass] = []
    matrices = _with_matrices(part, stack.path)

    def enter(block: int, x: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().requires_grad_()
        running.append(_Pass(leaf))
        return leaf.clone()  # some models go on computing in place

    def given(block: int, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for key, tensor in (*tensors_in(args), *tensors_in(kwargs)):
            running[-1].note(Place(call=call, made=False, key=key), tensor)

    def made(block: int, call: Call, output: Any) -> None:
        for key, tensor in tensors_in(output):
            running[-1].note(Place(call=call, made=True, key=key), tensor)

    def leave(block: int, y: torch.Tensor) -> None:
        if block <= stack.depth:
            found.append(_Block(running.pop(), y, parts[block - 1], matrices, tolerance).places())

    blocks = {f"{stack.path}.{name}" for name, _ in part.get_submodule(stack.path).named_children()}
    paths = [name for name, _ in part.get_submodule(stack.path).named_modules(prefix=stack.path)]
    inner = [name for name in paths if name != stack.path and name not in blocks]
    more = encoded(model, ids[:, :PROBE], torch.ones_like(ids[:, :PROBE])) if stack.side == "decoder" else {}
    watch = Watch(enter=enter, leave=leave, given=given, made=made)
    with watched(part, stack, inner, watch), torch.enable_grad(), plain_attention():
        run_model(part, ids, torch.ones_like(ids), **more)
    return found


def _with_matrices(part: torch.nn.Module, path: str) -> frozenset[str]:
    """Modules inside the blocks that hold a matrix, themselves or inside them."""
    return frozenset(
        name for name, module in part.get_submodule(path).named_modules(prefix=path)
        if any(p.ndim >= 2 for p in module.parameters())
    )


class _Block:
    """The search for the stages of one block that has just run."""

    def __init__(
        self, run: _Pass, y: torch.Tensor, parts: BlockParts, matrices: frozenset[str], tolerance: float
    ) -> None:
        import torch

        self.run, self.y, self.parts, self.matrices, self.tolerance = run, y, parts, matrices, tolerance
        self.seen = [seen for seen in run.seen.values() if seen.whole]
        self.v = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
        by = _pull(y, self.v, [run.x, *(seen.tensor for seen in self.seen)])
        self.whole, self.by = by[0], by[1:]

    def places(self) -> BlockPlaces:
        """All stages but those that are the block's own input and output."""
        parts = self.parts
        places: dict[str, Place] = {}
        reasons: dict[str, str] = {}
        projections: dict[str, Projection] = {}
        sides = (("", parts.projections, parts.output, parts.reasons),
                 ("cross_", parts.cross, parts.cross_output, parts.cross_reasons))
        for prefix, found, output, why in sides:
            for name in PROJECTIONS:
                if name in found and (found[name].heads or found[name].normed) is not None:
                    projections[prefix + name] = found[name]
                    places[prefix + name] = Place(call=found[name].call, made=True)
                else:
                    reasons[prefix + name] = MIXED if name in found else why[name]
            if output is not None:
                places[f"{prefix}attention_output"] = Place(call=output, made=True)
            else:
                reasons[f"{prefix}attention_output"] = why["attention"]
        if parts.input is not None:
            places["attention_input"] = Place(call=parts.input, made=False, key=0)
        else:
            reasons["attention_input"] = parts.reasons.get("attention", "its maps read different inputs")
        self._stream(places, reasons)
        if parts.output is not None and not parts.attends:
            for stage in ("attention_input", *PROJECTIONS, "attention_output"):
                places.pop(stage, None)
                projections.pop(stage, None)
                reasons[stage] = NO_ATTENTION if parts.projections else parts.reasons["attention"]
        return BlockPlaces(places=places, projections=projections, reasons=reasons)

    def _stream(self, places: dict[str, Place], reasons: dict[str, str]) -> None:
        """The stream between attention and feed-forward, and the ends of the feed-forward."""
        parts = self.parts
        if self.tolerance > COARSE:
            reasons |= dict.fromkeys(("resid_mid", "resid_cross", "feed_forward_input", "feed_forward_output"), BLURRED)
            return
        mixing, crossing = (None if call is None else self.run.at(Place(call=call, made=True))
                            for call in (parts.output, parts.cross_output))
        last, stage = (mixing, "resid_mid") if crossing is None else (crossing, "resid_cross")
        if crossing is None:
            reasons["resid_cross"] = parts.cross_reasons["attention"]
        else:
            query = parts.cross.get("query")
            target = None if query is None else self.run.at(Place(call=query.call, made=False, key=0))
            found = self._cut(mixing, target, "cross attention")
            _put(places, reasons, "resid_mid", found.places[0] if isinstance(found, _Seen) else found)
        ends = ("feed_forward_input", "feed_forward_output")
        if parts.first:
            begin = Place(call=parts.first[0], made=False, key=0)
            end = Place(call=parts.hidden[-1], made=True)
            cut = self._cut(last, self.run.at(begin), "the feed-forward")
            if isinstance(cut, str) or self._is_branch(cut, end):
                places |= dict(zip(ends, (begin, end), strict=True))
                _put(places, reasons, stage, cut.places[0] if isinstance(cut, _Seen) else cut)
                return
        found_mixture = None if last is None else self._mixture(last)
        if found_mixture is not None:
            places |= dict(zip((stage, *ends), found_mixture, strict=True))
            return
        why = parts.reasons.get("feed_forward", "what its maps return is not all that is added to the stream")
        reasons |= dict.fromkeys(ends, why)
        reasons[stage] = (
            f"attention was not found: {parts.reasons['attention']}" if last is None
            else f"the feed-forward was not found ({why}), so it is not known what comes before it"
        )

    def _cut(self, source: torch.Tensor | None, target: torch.Tensor | None, what: str) -> _Seen | str:
        """The last cut before a target that depends on a source; or the reason why there is none."""
        if source is None:
            return f"attention was not found: {self.parts.reasons.get('attention', 'its output is overwritten')}"
        if target is None:
            return f"what {what} reads was not found"
        first, *before = _pull(target, target.detach(), [source, *(seen.tensor for seen in self.seen)])
        if first is None:
            return PARALLEL.format(what=what)
        for seen, needed, by in reversed(list(zip(self.seen, before, self.by, strict=True))):
            if needed is not None and self._is_cut(seen, by) and _depends(seen.tensor, source):
                return seen
        return f"between attention and {what} no module is given or returns a tensor on which all that follows depends"

    def _is_cut(self, seen: _Seen, by: torch.Tensor | None) -> bool:
        """Whether all that the block does with its input passes through a tensor."""
        if by is None or self.whole is None:
            return False
        return near(_pull(seen.tensor, by, [self.run.x])[0], self.whole, self.tolerance)

    def _is_branch(self, cut: _Seen, end: Place) -> bool:
        """Whether all that is added to the stream after a cut passes through a place."""
        tensor = self.run.at(end)
        return tensor is not None and self._added(cut, tensor) is not None

    def _added(self, cut: _Seen, tensor: torch.Tensor) -> torch.Tensor | None:
        """The derivative by a cut through a tensor, if without it the stream is passed on as it is, to a factor."""
        by = _pull(self.y, self.v, [tensor])[0]
        through = None if by is None else _pull(tensor, by, [cut.tensor])[0]
        whole = _pull(self.y, self.v, [cut.tensor])[0]
        if through is None or whole is None or tensor is cut.tensor:
            return None
        left = whole.double() - through.double().reshape(whole.shape)
        if float(left.norm()) <= self.tolerance * float(whole.double().norm()):
            return None
        later = [self.v] + [
            by for seen, by in zip(self.seen, self.by, strict=True)
            if by is not None and seen is not cut and self._is_cut(seen, by) and _depends(seen.tensor, cut.tensor)
        ]
        return through if any(near(left, one, self.tolerance, scaled=True) for one in later) else None

    def _mixture(self, source: torch.Tensor) -> tuple[Place, Place, Place] | None:
        """Stream, input and output of the outermost module with matrices that makes all that is added after a cut."""
        for cut, by in reversed(list(zip(self.seen, self.by, strict=True))):
            if not self._is_cut(cut, by) or not _depends(cut.tensor, source):
                continue
            made = [(place, seen.tensor) for seen in self.seen for place in seen.places
                    if place.made and place.call.path in self.matrices]
            for place, tensor in sorted(made, key=lambda entry: entry[0].call.path.count(".")):
                through = self._added(cut, tensor)
                if through is None:
                    continue
                for seen in self.seen:
                    begin = next((p for p in seen.places if p.call == place.call and not p.made), None)
                    if begin is not None and (seen is cut or near(self._through(cut, seen), through, self.tolerance)):
                        return cut.places[0], begin, place
        return None

    def _through(self, cut: _Seen, seen: _Seen) -> torch.Tensor | None:
        by = _pull(self.y, self.v, [seen.tensor])[0]
        return None if by is None else _pull(seen.tensor, by, [cut.tensor])[0]


def _pull(target: torch.Tensor, weights: torch.Tensor, by: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
    """Derivatives of a weighted sum of a tensor; None for what it does not depend on."""
    import torch

    if not target.requires_grad:
        return [None] * len(by)
    return list(torch.autograd.grad(target, list(by), weights, retain_graph=True, allow_unused=True))


def _depends(target: torch.Tensor, on: torch.Tensor) -> bool:
    """Whether a tensor was computed from another one."""
    import torch

    return _pull(target, torch.ones_like(target), [on])[0] is not None


def _put(places: dict[str, Place], reasons: dict[str, str], stage: str, found: Place | str) -> None:
    if isinstance(found, Place):
        places[stage] = found
    else:
        reasons[stage] = found
