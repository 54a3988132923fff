"""Hooks on the blocks of a stack and on modules inside them, and derivatives of what they saw."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo_adapters.transformers.stack import Stack, of_this_thread

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Call:
    """One application of a module while a block runs."""

    path: str
    """Name of the module inside what :func:`~infogeo_adapters.transformers.stack.runner` gives."""
    turn: int
    """How often the module had run in this block before."""


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
    given: Callable[[int, Call, tuple[Any, ...], dict[str, Any]], None] | None = None
    """(block, call, arguments by position, arguments by name), before a module runs"""
    made: Callable[[int, Call, Any], None] | None = None
    """(block, call, all that a module returned)"""


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

    def before(path: str) -> Callable[..., Any]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if state.inside and watch.given is not None:
                watch.given(state.block, Call(path=path, turn=state.turns.get(path, 0)), args, kwargs)

        return hook

    def called(path: str) -> Callable[..., Any]:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> Any:
            if not state.inside:
                return None
            call = Call(path=path, turn=state.turns.get(path, 0))
            state.turns[path] = call.turn + 1
            if watch.made is not None:
                watch.made(state.block, call, output)
            return watch.call(state.block, call, module, args[0], output) if args else None

        return hook

    handles = []
    try:
        for block in dict.fromkeys(part.get_submodule(stack.path).children()):
            handles.append(block.register_forward_pre_hook(of_this_thread(enter), with_kwargs=True))
            handles.append(block.register_forward_hook(of_this_thread(leave)))
        for path in dict.fromkeys(paths):
            module = part.get_submodule(path)
            if watch.given is not None:
                handles.append(module.register_forward_pre_hook(of_this_thread(before(path)), with_kwargs=True))
            handles.append(module.register_forward_hook(of_this_thread(called(path))))
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
