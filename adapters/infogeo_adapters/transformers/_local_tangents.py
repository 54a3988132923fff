"""Where the states of later layers go when those of an earlier layer are moved: products of Jacobians with vectors.

Each row of a batch is a text with a direction of its own, so that one pass gives as many products as it has rows, and
each of them at all tokens and all layers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from infogeo.errors import ModelError
from infogeo_adapters.transformers._stage_watch import Watch, plain_attention, watched
from infogeo_adapters.transformers.alignment import Tokens
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import Stack, evaluating, quiet, runner
from infogeo_adapters.transformers.token_rows import run_rows, states_of

if TYPE_CHECKING:
    import torch

Differentiation = Literal["forward", "double_backward"]

REFUSALS = (
    "forward AD", "is not implemented", "not implemented for", "setup_context", "functorch", "does not require grad",
    "forward mode", "jvp",
)
"""What the messages of torch say where an operation has not the derivative that was asked for."""


class _Done(Exception):
    """The last layer that is asked for has been reached. It ends a pass early and is no error."""


@dataclass
class _Pass:
    """What a pass showed; layers by number, each (B, T, d)."""

    start: list[torch.Tensor] = field(default_factory=list)
    """Where derivatives are taken backward: the leaf."""
    states: dict[int, torch.Tensor] = field(default_factory=dict)
    moved: dict[int, torch.Tensor] = field(default_factory=dict)


class MissingDerivativeError(ModelError):
    """An operation of the model has not the derivative that was asked for."""


def push_forward(
    model: LanguageModel, stack: Stack, rows: Sequence[Tokens], directions: torch.Tensor, *, at: int,
    layers: Sequence[int], differentiation: Differentiation,
) -> torch.Tensor:
    """Products of the Jacobians of later layers by the states of layer ``at`` with a direction for each row.

    Parameters
    ----------
    model : LanguageModel
    stack : Stack
    rows : sequence of Tokens
        B texts, of one length if padding is not exact.
    directions : torch.Tensor, shape (B, T, d)
        Zero at padding.
    at : int
        The layer whose states move.
    layers : sequence of int
        Later layers (R).
    differentiation : {'forward', 'double_backward'}

    Returns
    -------
    torch.Tensor, shape (R, B, T, d)

    Raises
    ------
    MissingDerivativeError
        An operation has not the derivative.
    ModelError
        The model runs other blocks than before.
    """
    import torch

    dual: Any = torch.autograd.forward_ad
    seen, last = _Pass(), max(layers)
    shape = (len(rows), max(len(row.ids) for row in rows))
    forward = differentiation == "forward"
    with contextlib.ExitStack() as scope:
        scope.enter_context(differentiable(model, differentiation))

        def enter(block: int, x: torch.Tensor) -> torch.Tensor | None:
            if block != at + 1:
                return None
            start = states_of(stack, x.detach(), shape)
            if forward:
                put = dual.make_dual(start, directions.to(start))
            else:
                scope.enter_context(torch.enable_grad())
                put = start.clone().requires_grad_()
                seen.start.append(put)
            moving: torch.Tensor = put.transpose(0, 1) if stack.time_major else put
            return moving

        def leave(block: int, y: torch.Tensor) -> None:
            if block in layers:
                state = states_of(stack, y, shape)
                seen.states[block] = state
                if forward:
                    tangent = dual.unpack_dual(state).tangent
                    seen.moved[block] = torch.zeros_like(state) if tangent is None else tangent.clone()
            if block == last:
                raise _Done

        watch = Watch(enter=enter, leave=leave)
        scope.enter_context(watched(runner(model.model), stack, (), watch))
        if forward:
            scope.enter_context(dual.dual_level())
        with contextlib.suppress(_Done):
            run_rows(model, rows)
        if set(seen.states) != set(layers):
            raise ModelError(f"{model.name}: block {last} did not run; if the model was changed, load it again")
        if not forward:
            outputs = [seen.states[layer] for layer in layers]
            seen.moved = dict(zip(layers, transposed_twice(outputs, seen.start[0], directions), strict=True))
        return torch.stack([seen.moved[layer].detach() for layer in layers])


def transposed_twice(
    outputs: Sequence[torch.Tensor], leaf: torch.Tensor, direction: torch.Tensor
) -> list[torch.Tensor]:
    """Derivative of each output along a direction of a leaf: the map w to J^T w is linear, and its transpose is J."""
    import torch

    weights = [torch.zeros_like(y, requires_grad=True) for y in outputs]
    (pulled,) = torch.autograd.grad(outputs, [leaf], weights, create_graph=True)
    found = torch.autograd.grad(pulled, weights, direction.to(leaf), allow_unused=True)
    return [torch.zeros_like(y) if f is None else f.detach() for y, f in zip(outputs, found, strict=True)]


@contextlib.contextmanager
def differentiable(model: LanguageModel, differentiation: Differentiation) -> Iterator[None]:
    """The model as a derivative needs it, and as it was afterwards; what torch cannot do is said clearly."""
    import torch

    net = model.model
    fast = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as scope:
        for one in (lock_of(net), evaluating(net), plain_attention(), quiet(), warnings.catch_warnings()):
            scope.enter_context(one)
        warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
        torch.backends.mha.set_fastpath_enabled(False)  # it has no derivative
        scope.callback(torch.backends.mha.set_fastpath_enabled, fast)
        try:
            yield
        except (NotImplementedError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error, ModelError) else error  # a read-out says what torch said
            said = str(cause)
            if cause is None or not any(words in said for words in REFUSALS):
                raise
            raise MissingDerivativeError(
                f"{model.name} has an operation without the derivative that {differentiation} differentiation needs "
                f"({said.splitlines()[0]}); load it with another implementation of that operation "
                "(attn_implementation='eager' for attention)"
            ) from error
