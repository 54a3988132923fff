"""Tokens hidden from the attention of a stack, block by block, without a change of their places.

A two-dimensional attention mask does more than hide: models that count positions by it (OPT, BLOOM) move the words
after a hidden one. So the mask is closed where attention is computed: in an attention function of our own, or, in a
model with attention code of its own, in the mask that each block is given. Which way a model takes is measured: hidden
tokens are exchanged for others, and no other token's state may change in any layer.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from infogeo.errors import ModelError
from infogeo_adapters.transformers.attention_function import _eager_function as eager_function
from infogeo_adapters.transformers.eager import attention_implementation, implementation_of
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    PROBE,
    Side,
    Stack,
    evaluating,
    of_this_thread,
    padded_probe,
    rounding,
    run_model,
    run_probe,
    runner,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SDPA, EAGER = "infogeo_hide", "infogeo_hide_eager"
"""Names under which our attention functions are known to transformers."""

Way = Literal["function", "block", "block, inverted", "mask"]
"""Where tokens are hidden: in our attention function, in the mask that each block gets (inverted where True closes), or
in the two-dimensional mask that the model gets."""

_registering = threading.Lock()
_here = threading.local()


@dataclass(frozen=True, kw_only=True)
class Hideout:
    """How tokens are hidden in a stack."""

    way: Way
    implementation: str | None
    """What the model is set to meanwhile; None leaves it as it is."""


class Curtain:
    """Closes the columns of hidden tokens while a stack runs; made by :func:`curtain`.

    Call :meth:`draw` before each pass.
    """

    def __init__(self, model: PreTrainedModel, stack: Stack, hideout: Hideout, blocks: frozenset[int] | None) -> None:
        self.model, self.stack, self.hideout = model, stack, hideout
        self.part = runner(model, stack.side)
        self.members = self.part.get_submodule(stack.path)
        self._inside = {id(module) for module in self.members.modules()}
        self._wanted = blocks
        self._hidden: torch.Tensor | None = None
        self._ran = self._running = 0
        self._closed: dict[tuple[int, int, int, bool], tuple[Any, torch.Tensor]] = {}

    def draw(self, hidden: torch.Tensor | None) -> None:
        """Which tokens (texts, T) of the passes to come are hidden; None hides none."""
        self._hidden = hidden if hidden is not None and bool(hidden.any()) else None
        self._closed.clear()

    def visible(self, mask: torch.Tensor) -> torch.Tensor:
        """The two-dimensional mask that the model gets."""
        if self.hideout.way != "mask" or self._hidden is None:
            return mask
        return mask.masked_fill(self._hidden, 0)

    def hides_in(self, module: torch.nn.Module) -> bool:
        """Whether a call of the attention function by this module is to be changed."""
        return self._active() and id(module) in self._inside

    def closed(
        self, mask: torch.Tensor | None, looking: int, looked_at: int, *, causal: bool, dtype: torch.dtype | None
    ) -> torch.Tensor | None:
        """The mask with the columns of hidden tokens closed; a token left with nothing to look at sees itself.

        Only hidden tokens can be left so, at the beginning of a causal text or in a narrow window. Nobody sees them,
        but their states must stay finite. Blocks mostly share one mask, so the last answers are kept for a pass.
        """
        if self._hidden is None:
            return mask
        key = (id(mask), looking, looked_at, causal)
        if key not in self._closed:
            self._closed[key] = (mask, self._close(self._hidden, mask, looking, looked_at, causal, dtype))
        return self._closed[key][1]

    def _active(self) -> bool:
        if self._hidden is None or not self._running:
            return False
        return self._wanted is None or self._running in self._wanted

    def _close(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, looking: int, looked_at: int, causal: bool,
        dtype: torch.dtype | None,
    ) -> torch.Tensor:
        import torch

        inverted = self.hideout.way == "block, inverted"
        every = torch.ones(looking, looked_at, dtype=torch.bool, device=hidden.device)
        if mask is None:
            seen = (every.tril() if causal else every)[None, None]
        else:
            mask = mask[..., :looked_at]
            if mask.dtype.is_floating_point:
                seen = mask > torch.finfo(mask.dtype).min / 2
            else:
                seen = mask.bool() != inverted
        seen = seen & ~hidden[:, None, None, :looked_at]
        itself = torch.eye(looking, looked_at, dtype=torch.bool, device=hidden.device)
        seen = seen | (~seen.any(dim=-1, keepdim=True) & itself)
        if mask is not None and mask.dtype.is_floating_point:
            return torch.where(seen, mask.clamp(min=torch.finfo(mask.dtype).min / 4), torch.finfo(mask.dtype).min)
        if mask is None and dtype is not None:
            return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return (seen != inverted).to(torch.bool if mask is None else mask.dtype)

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Hooks that tell which block runs and, where need be, change the mask it is given."""
        handles = [self.part.register_forward_pre_hook(of_this_thread(self._begin))]
        try:
            for block in dict.fromkeys(self.members.children()):
                handles.append(block.register_forward_pre_hook(of_this_thread(self._enter), with_kwargs=True))
                handles.append(block.register_forward_hook(of_this_thread(self._leave)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: Any, args: Any) -> None:
        self._ran = self._running = 0
        self._closed.clear()

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        self._running = 0

    def _enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._ran += 1
        self._running = self._ran
        if self._hidden is None or not self.hideout.way.startswith("block") or not self._active():
            return None
        signature = inspect.signature(module.forward)
        given = signature.bind_partial(*args, **kwargs).arguments
        tokens = self._hidden.shape[1]
        # attention code of one's own mostly adds masks to scores, and gets none where nothing is padded
        dtype = self.model.dtype
        closed = self.closed(given.get("attention_mask"), tokens, tokens, causal=self.stack.causal, dtype=dtype)
        place = list(signature.parameters).index("attention_mask")
        if place < len(args):
            return (*args[:place], closed, *args[place + 1 :]), kwargs
        return args, {**kwargs, "attention_mask": closed}


@contextlib.contextmanager
def curtain(
    model: PreTrainedModel, stack: Stack, *, blocks: frozenset[int] | None = None, hideout: Hideout | None = None
) -> Iterator[Curtain]:
    """A model set so that tokens can be hidden from its attention; afterwards it is as it was.

    Hold the model's lock and evaluation mode around it.

    Parameters
    ----------
    model : PreTrainedModel
    stack : Stack
    blocks : frozenset of int, optional
        Blocks, counted from 1, in which tokens are hidden; all by default.
    hideout : Hideout, optional
        By default that of :func:`find_hideout`.

    Yields
    ------
    Curtain

    Raises
    ------
    ModelError
        Tokens of this model cannot be hidden, or not in some blocks only.
    """
    hideout = hideout or find_hideout(model, stack)
    check_blocks(model, stack, hideout, blocks)
    made = Curtain(model, stack, hideout, blocks)
    if hideout.way == "function":
        _register()
    with attention_implementation(model, hideout.implementation), made.hooks():
        if hideout.implementation and implementation_of(model, stack.side) != hideout.implementation:
            raise ModelError(f"{type(model).__name__} does not let its attention implementation be set")
        _curtains().append(made)
        try:
            yield made
        finally:
            _curtains().remove(made)


def check_blocks(model: PreTrainedModel, stack: Stack, hideout: Hideout, blocks: frozenset[int] | None) -> None:
    """Raise a ModelError if tokens of this model can be hidden in all blocks only, and some are wanted."""
    if hideout.way == "mask" and blocks is not None and blocks != frozenset(range(1, stack.depth + 1)):
        raise ModelError(
            f"{type(model).__name__} makes its attention masks inside its blocks, so words can be hidden in all blocks "
            "or in none; leave blocks= away"
        )


# The attention functions


def _curtains() -> list[Curtain]:
    """Those of this thread."""
    if not hasattr(_here, "curtains"):
        _here.curtains = []
    found: list[Curtain] = _here.curtains
    return found


def _register() -> None:
    with _registering:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as masks
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions

        made: Mapping[str, tuple[str, Callable[..., Any]]] = {SDPA: ("sdpa", _by_sdpa), EAGER: ("eager", _by_eager)}
        for name, (mask, function) in made.items():
            if name not in functions:
                AttentionInterface.register(name, function)
                AttentionMaskInterface.register(name, masks[mask])


def _by_sdpa(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **more: Any) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions

    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    attention_mask = _edited(module, query, key, attention_mask, bool(causal), None)
    return functions["sdpa"](module, query, key, value, attention_mask, **more)


def _by_eager(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **more: Any) -> Any:
    # without a mask the eager functions look everywhere
    attention_mask = _edited(module, query, key, attention_mask, False, query.dtype)
    return eager_function(module)(module, query, key, value, attention_mask, **more)


def _edited(module: Any, query: Any, key: Any, mask: Any, causal: bool, dtype: torch.dtype | None) -> Any:
    for one in _curtains():
        if one.hides_in(module):
            mask = one.closed(mask, query.shape[2], key.shape[2], causal=causal, dtype=dtype)
    return mask


# Which way a model takes

_found: weakref.WeakKeyDictionary[PreTrainedModel, dict[tuple[Side | None, str | None], Hideout | str]]
_found = weakref.WeakKeyDictionary()


def find_hideout(model: PreTrainedModel, stack: Stack) -> Hideout:
    """How tokens of a model are hidden, by measurement; kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it was.
    stack : Stack

    Returns
    -------
    Hideout

    Raises
    ------
    ModelError
        No way hides them: the model has no attention, or tokens reach each other on other ways too.
    """
    with lock_of(model):
        known = _found.setdefault(model, {})
        key = (stack.side, implementation_of(model, stack.side))
        if key not in known:
            with evaluating(model):
                known[key] = _measured(model, stack)
        found = known[key]
    if isinstance(found, str):
        raise ModelError(found)
    return found


def _measured(model: PreTrainedModel, stack: Stack) -> Hideout | str:
    name = type(model).__name__
    if not stack.pads_exactly:
        return f"{name} cannot mask tokens, so that no word can be hidden; take words away by 'delete' or 'mean'"
    own, _ = run_probe(model, stack, *padded_probe(model))
    eager = implementation_of(model, stack.side) in ("eager", None)
    tries = [Hideout(way="function", implementation=i) for i in ((EAGER,) if eager else (SDPA, EAGER))]
    ways: tuple[Way, ...] = ("block", "block, inverted", "mask")
    tries += [Hideout(way=way, implementation=None) for way in ways]
    for hideout in tries:
        if _hides(model, stack, hideout, own):
            return hideout
    return (
        f"words cannot be hidden in {name}: no mask keeps them from the other words (a model without attention, or in "
        "which words also reach each other by convolution or recurrence); take words away by 'delete', 'mean' or 'mask'"
    )


def _hides(model: PreTrainedModel, stack: Stack, hideout: Hideout, own: torch.Tensor) -> bool:
    """Whether nothing changes while nothing is hidden, and what is hidden changes nothing else."""
    ids, mask = padded_probe(model)
    try:
        with curtain(model, stack, hideout=hideout) as drawn:
            # most models are given other masks, or none, where nothing is padded
            return all(
                _hides_in(model, stack, drawn, *batch, own[:, rows])
                for batch, rows in (((ids, mask), slice(0, 2)), ((ids[1:], mask[1:]), slice(1, 2)))
            )
    except Exception:  # whatever a model objects to, another way may be open
        return False


def _hides_in(
    model: PreTrainedModel, stack: Stack, drawn: Curtain, ids: torch.Tensor, mask: torch.Tensor, own: torch.Tensor
) -> bool:
    """As :func:`_hides`, in one batch, whose states are ``own`` while nothing is hidden."""
    import torch

    real = mask.bool().cpu()
    scale, exact = float(own.abs().max()), 1e-6 if model.dtype.itemsize >= 4 else 1e-3
    same = _passed(model, stack, drawn, ids, mask, None)
    if not float((same - own)[:, real].abs().max()) <= rounding(model) * scale:
        return False
    for place in (2, 0, PROBE - 1):
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        hidden[0, place], hidden[-1, place : place + 2] = True, True
        others = real & ~hidden.cpu()
        states = _passed(model, stack, drawn, ids, mask, hidden)
        again = _passed(model, stack, drawn, torch.where(hidden, ids.roll(3, dims=1), ids), mask, hidden)
        if not states.isfinite().all() or not float((states - again)[:, others].abs().max()) <= exact * scale:
            return False
        if drawn.hideout.way == "mask" and not _keeps_places(model, stack, drawn, ids, mask, hidden, own):
            return False
    return True


def _passed(
    model: PreTrainedModel, stack: Stack, drawn: Curtain, ids: torch.Tensor, mask: torch.Tensor,
    hidden: torch.Tensor | None,
) -> torch.Tensor:
    drawn.draw(hidden)
    return run_probe(model, stack, ids, drawn.visible(mask))[0]


def _keeps_places(
    model: PreTrainedModel, stack: Stack, drawn: Curtain, ids: torch.Tensor, mask: torch.Tensor, hidden: torch.Tensor,
    own: torch.Tensor,
) -> bool:
    """Whether the other tokens look at each other in the first block as before, in the same proportions.

    With the states that go into a block unchanged, hiding token h turns the probability :math:`p_{ik}` into
    :math:`p_{ik} / (1 - p_{ih})`; positions that moved would change the proportions.
    """
    import torch

    part = runner(model, stack.side)
    maps = []
    for given in (mask, drawn.visible(mask)):
        output: Any = run_model(part, ids, given, output_attentions=True)
        if not getattr(output, "attentions", None):
            return False
        maps.append(output.attentions[0].double())
    states = run_probe(model, stack, ids, drawn.visible(mask))[0]
    others = mask.bool() & ~hidden
    same = float((states[0] - own[0])[others.cpu()].abs().max()) <= rounding(model) * float(own.abs().max())
    left = maps[0].masked_fill(hidden[:, None, None, :], 0)
    left = left / left.sum(dim=-1, keepdim=True)
    wrong = (left - maps[1]).abs().transpose(1, 2)[others]
    return same and bool(torch.isfinite(wrong).all()) and float(wrong.max()) <= rounding(model)
