"""One pass of a model over the probe batch, with all that is looked at in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.training._measure_structure import Structure, call_model, logits_of
from infogeo_adapters.transformers.stack import of_this_thread

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.attention_function import Call
    from infogeo_adapters.transformers.attention_ways import Recorder, Way
    from infogeo_adapters.transformers.stack import Stack

OnMaps = Callable[[int, "torch.Tensor", "Call | None"], None]
"""Called with the block (from 1), a map (B, H, Tq, Tk), and the call of the attention function if there was one."""


@dataclass(eq=False)
class BlockCall:
    """One block as it ran."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    x: torch.Tensor
    y: torch.Tensor
    output: Any
    """All that it returned."""

    def again(self, x: torch.Tensor) -> torch.Tensor:
        """What the block returns for another input, all else as it was."""
        name = _name_of_input(self.args, self.kwargs)
        if name is None:
            output = self.module(x, *self.args[1:], **self.kwargs)
        else:
            output = self.module(*self.args, **{**self.kwargs, name: x})
        return _first(output)

    def returning(self, y: torch.Tensor) -> Any:
        """What it returned, with another state."""
        return (y, *self.output[1:]) if isinstance(self.output, tuple) else y


@dataclass(eq=False)
class Passed:
    """What a pass showed."""

    calls: list[BlockCall] = field(default_factory=list)
    logits: torch.Tensor | None = None
    broken_at: str | None = None
    """The first module without modules inside whose output at a token that is no padding was not finite."""
    largest: dict[int, float] = field(default_factory=dict)
    """Largest absolute number that a module put out at such a token, by block; 0 before the first. NaN if one was NaN.
    """
    normalized: torch.Tensor | None = None
    """What the last normalization before the first block put out."""
    mixed: dict[int, torch.Tensor] = field(default_factory=dict)
    """Input of the output projection of attention, by block."""
    units: dict[int, torch.Tensor] = field(default_factory=dict)
    """Activations of the hidden units of the feed-forward, by block."""

    def states(self, time_major: bool) -> list[torch.Tensor]:
        """Layers 0 to L, each (texts, tokens, d)."""
        found = [self.calls[0].x, *(call.y for call in self.calls)]
        return [s.transpose(0, 1) for s in found] if time_major else found


def _name_of_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Name of the argument that is the stream; None if it is the first by position."""
    import torch

    if args:
        return None
    if "hidden_states" in kwargs:
        return "hidden_states"
    return next((k for k, v in kwargs.items() if isinstance(v, torch.Tensor) and v.is_floating_point()), None)


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple | list) else output  # type: ignore[no-any-return]  # blocks are such


def run_watched(
    structure: Structure, ids: torch.Tensor, mask: torch.Tensor, *, on_maps: OnMaps | None = None,
    leaves: bool = False, parts: bool = False,
) -> Passed:
    """One pass; hooks are gone afterwards whatever happens. The caller has set the mode of the model.

    Parameters
    ----------
    structure : Structure
    ids, mask : torch.Tensor, shape (B, T)
    on_maps : callable, optional
        Given each map of self attention.
    leaves : bool
        Whether to look at the output of each module for its size, and for NaN.
    parts : bool
        Whether to keep what goes into output projections of attention and feed-forward.
    """
    passed = Passed()
    with contextlib.ExitStack() as scope:
        recorder = None
        if on_maps is not None and structure.way is not None and structure.stack is not None:
            recorder = scope.enter_context(_attention(structure.net, structure.stack, structure.way, on_maps))
        scope.enter_context(_hooks(structure, passed, mask.bool(), leaves=leaves, parts=parts))
        output = call_model(structure, ids, mask)
        if recorder is not None:
            recorder.from_output(output)
    if not passed.calls:
        raise ModelError(f"no block of {type(structure.net).__name__} ran in its forward pass; check blocks=")
    texts, tokens = ids.shape
    passed.logits = logits_of(output, (texts, tokens))
    return passed


@contextlib.contextmanager
def _attention(net: Any, stack: Stack, way: Way, on_maps: OnMaps) -> Iterator[Recorder]:
    from infogeo_adapters.transformers.attention_ways import recording

    def take(block: int, name: str, maps: torch.Tensor, call: Call | None) -> None:
        if maps.shape[2] == maps.shape[3]:
            on_maps(block, maps, call)

    with recording(net, stack, way, take) as recorder:
        yield recorder


@contextlib.contextmanager
def _hooks(structure: Structure, passed: Passed, real: torch.Tensor, *, leaves: bool, parts: bool) -> Iterator[None]:
    """Hooks on blocks and what is in them."""
    running: dict[str, Any] = {"block": 0, "inside": False, "args": (), "kwargs": {}, "x": None, "turns": {}}

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = _name_of_input(args, kwargs)
        x = args[0] if name is None and args else kwargs.get(name or "")
        running.update(block=running["block"] + 1, inside=True, args=args, kwargs=kwargs, x=_copy(x), turns={})

    def leave(module: Any, args: tuple[Any, ...], output: Any) -> None:
        y = _copy(_first(output))
        if y is None or running["x"] is None or y.ndim != 3 or y.shape != running["x"].shape:
            raise ModelError(
                f"{type(module).__name__} is no block: it got {_shape(running['x'])} and returned {_shape(y)}, wanted "
                "one state for each token, (texts, tokens, d), of the same shape; check blocks="
            )
        passed.calls.append(BlockCall(module, running["args"], running["kwargs"], running["x"], y, output))
        running["inside"] = False

    handles = []
    try:
        for block in structure.blocks:
            handles.append(block.register_forward_pre_hook(of_this_thread(enter), with_kwargs=True))
            handles.append(block.register_forward_hook(of_this_thread(leave)))
        if leaves:
            handles += _leaf_hooks(structure, passed, running, real)
        if parts:
            handles += _part_hooks(structure, passed, running)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaf_hooks(structure: Structure, passed: Passed, running: dict[str, Any], real: torch.Tensor) -> list[Any]:
    import torch

    def look(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            found = _first(output) if output is not None else None
            if not isinstance(found, torch.Tensor) or not found.is_floating_point() or not found.numel():
                return
            if not running["block"] and is_norm(module):
                passed.normalized = found.detach()
            size = float(without_padding(found.detach(), real).abs().max())
            if passed.broken_at is None and not size < float("inf"):
                passed.broken_at = name
            if running["inside"] or not running["block"]:
                passed.largest[running["block"]] = _larger(passed.largest.get(running["block"], 0.0), size)

        return hook

    return [
        module.register_forward_hook(of_this_thread(look(name)))
        for name, module in structure.net.named_modules() if next(module.children(), None) is None
    ]


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalizes, by the name of its class."""
    return "norm" in type(module).__name__.lower()


def without_padding(values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """What a module put out at tokens that are no padding; all of it where it is not clear which tokens it is of.

    Parameters
    ----------
    values : torch.Tensor, shape (B, T, ...), (T, B, ...) or (B * T, ...)
    real : torch.Tensor of bool, shape (B, T)
    """
    if values.shape[:2] == real.shape:
        return values[real]
    if values.shape[:2] == real.T.shape:
        return values[real.T]
    return values[real.reshape(-1)] if values.shape[:1] == real.reshape(-1).shape else values


def _larger(one: float, other: float) -> float:
    """The larger number; NaN if one of them is."""
    return other if other != other or other > one else one


def _part_hooks(structure: Structure, passed: Passed, running: dict[str, Any]) -> list[Any]:
    places: dict[Any, list[tuple[int, int, dict[int, torch.Tensor]]]] = {}
    for kept, wanted in ((passed.mixed, structure.outputs), (passed.units, structure.lasts)):
        for block, (module, turn) in wanted.items():
            places.setdefault(module, []).append((block, turn, kept))

    def before(module: Any, args: tuple[Any, ...]) -> None:
        if not running["inside"] or not args:
            return
        turn = running["turns"].get(id(module), 0)
        running["turns"][id(module)] = turn + 1
        for block, when, kept in places[module]:
            if block == running["block"] and turn == when:
                kept[block] = _copy(args[0])

    return [module.register_forward_pre_hook(of_this_thread(before)) for module in places]


@contextlib.contextmanager
def blocks_returning(structure: Structure, passed: Passed, state: Callable[[], torch.Tensor]) -> Iterator[None]:
    """Blocks that compute nothing and return a state that is given, so that what comes after them reads it out.

    Hooks that others put on the blocks are asleep meanwhile.
    """
    from collections import OrderedDict

    names = ("_forward_hooks", "_forward_pre_hooks")
    before: list[tuple[Any, dict[str, Any], Any]] = []
    try:
        for call in {id(call.module): call for call in passed.calls}.values():
            module = call.module
            before.append((module, {n: module.__dict__[n] for n in names}, module.__dict__.get("forward")))
            for name in names:
                module.__dict__[name] = OrderedDict()
            module.__dict__["forward"] = _stub(call, state)
        yield
    finally:
        for module, hooks, forward in before:
            module.__dict__.update(hooks)
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def _stub(call: BlockCall, state: Callable[[], torch.Tensor]) -> Callable[..., Any]:
    return lambda *args, **kwargs: call.returning(state())


def _copy(value: Any) -> Any:
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else None


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if value is not None else "no tensor"
