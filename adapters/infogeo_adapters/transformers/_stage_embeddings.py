"""Which modules before the first block give the token embedding and the position embedding: found by running.

A position embedding is what a module returns that differs from position to position, is the same whatever the tokens,
and on which layer 0 depends.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    Side,
    Stack,
    encoded,
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

NO_POSITIONS = "nothing is added for the position: positions are rotary, relative or biases, and act in attention only"
NOT_APART = "the embedding depends on the position, but no module returns a position embedding of its own"


@dataclass(frozen=True, kw_only=True)
class EmbeddingPlaces:
    """Names of modules inside the part that runs, by stage, and why others are not there."""

    paths: Mapping[str, str]
    reasons: Mapping[str, str]


_found: weakref.WeakKeyDictionary[PreTrainedModel, dict[Side | None, EmbeddingPlaces]] = weakref.WeakKeyDictionary()

Output = Callable[[str, Any], Any]


def find_embeddings(model: PreTrainedModel, side: Side | None = None) -> EmbeddingPlaces:
    """Where token and position embedding of a stack are; the answer is kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left in the mode it was in.
    side : {"encoder", "decoder"}, optional
        Which stack of an encoder-decoder model, by default its encoder; of other models there is one.

    Returns
    -------
    EmbeddingPlaces

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> find_embeddings(load_model().model).paths
    {'token_embedding': 'embed_tokens'}
    """
    with lock_of(model):
        stack = find_stack(model, side)
        known = _found.setdefault(model, {})
        if stack.side not in known:
            with evaluating(model):
                known[stack.side] = _probe(model, stack)
        return known[stack.side]


@contextlib.contextmanager
def before_blocks(part: torch.nn.Module, stack: Stack, paths: list[str], take: Output) -> Iterator[dict[str, Any]]:
    """Hooks on modules as long as the first block has not begun; the dictionary gets what went into it as "embedding".

    Of a module that both stacks of a model share, the last output before the first block is that of this stack.
    """
    entered: dict[str, Any] = {}
    handles: list[Any] = []

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not entered:
            entered["embedding"] = args[0] if args else kwargs["hidden_states"]

    def hook(path: str) -> Callable[..., Any]:
        return lambda module, args, output: None if entered else take(path, output)

    try:
        first = next(part.get_submodule(stack.path).children())
        handles.append(first.register_forward_pre_hook(enter, with_kwargs=True))
        for path in paths:
            handles.append(part.get_submodule(path).register_forward_hook(hook(path)))
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def _probe(model: PreTrainedModel, stack: Stack) -> EmbeddingPlaces:
    part = runner(model, stack.side)
    names = [name for name, _ in part.named_modules() if name and not name.startswith(stack.path)]
    embedding = part.get_input_embeddings()
    tokens = next((name for name in names if part.get_submodule(name) is embedding), None)
    paths = {} if tokens is None else {"token_embedding": tokens}
    reasons = {} if paths else {"token_embedding": "its module is not inside the part that runs"}
    ids = padded_probe(model)[0][1:]
    one, _ = _run(model, stack, names, ids)
    other, _ = _run(model, stack, names, ids.roll(1, dims=1))
    same = [name for name, value in one.items() if _by_position(value, other.get(name), ids.shape[1])]
    leaves, layer = _run(model, stack, same, ids, leaves=True)
    used = [name for name in same if name in leaves and _depends(layer, leaves[name])]
    outer = [name for name in used if not any(name.startswith(f"{above}.") for above in used)]
    if len(outer) == 1:
        paths["position_embedding"] = outer[0]
        return EmbeddingPlaces(paths=paths, reasons=reasons)
    alike = _run(model, stack, [], ids[:, :1].expand_as(ids))[1].double()
    rows = alike.reshape(-1, alike.shape[-1])
    moved = float((rows - rows[:1]).abs().max()) > rounding(model) * float(rows.abs().max())
    reasons["position_embedding"] = NOT_APART if moved else NO_POSITIONS
    return EmbeddingPlaces(paths=paths, reasons=reasons)


def _run(
    model: PreTrainedModel, stack: Stack, names: list[str], ids: torch.Tensor, *, leaves: bool = False
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Outputs of modules, if they are one tensor, and what goes into the first block; with history if asked for."""
    import torch

    part = runner(model, stack.side)
    seen: dict[str, torch.Tensor] = {}

    def take(path: str, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return None
        seen[path] = output.detach().clone()
        return seen[path].requires_grad_().clone() if leaves else None

    more = encoded(model, ids, torch.ones_like(ids)) if stack.side == "decoder" else {}
    with before_blocks(part, stack, names, take) as entered, torch.set_grad_enabled(leaves):
        run_model(part, ids, torch.ones_like(ids), **more)
    return seen, entered["embedding"]


def _by_position(one: torch.Tensor, other: torch.Tensor | None, tokens: int) -> bool:
    """Whether two outputs are equal, have a row for each token, and rows that differ."""
    import torch

    if other is None or one.ndim not in (2, 3) or one.shape[-2] != tokens or one.shape != other.shape:
        return False
    rows = one.reshape(-1, one.shape[-1])
    return torch.equal(one, other) and not torch.equal(rows, rows[:1].expand_as(rows))


def _depends(layer: torch.Tensor, leaf: torch.Tensor) -> bool:
    import torch

    if not layer.requires_grad:
        return False
    return torch.autograd.grad(layer, leaf, torch.ones_like(layer), retain_graph=True, allow_unused=True)[0] is not None
