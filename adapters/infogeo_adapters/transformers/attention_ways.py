"""Ways to get at the attention of a stack while it runs, each map with the block it belongs to.

Which block a map belongs to is told by hooks on the blocks: in a hybrid stack only some of them attend, and where
blocks share their modules one module attends many times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.attention_function import EAGER, SDPA, Call, listeners, register_functions
from infogeo_adapters.transformers.eager import attention_implementation, attention_layers, implementation_of
from infogeo_adapters.transformers.stack import Stack, of_this_thread, runner

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OnMap = Callable[[int, str, "torch.Tensor", Call | None], None]
"""Called with the block (from 1), the name of the attention module inside the list of blocks (of the kind of map where
only the model's output has it), the map (B, H, Tq, Tk), and the call of the attention function if there was one."""

OUTPUTS = {"self": "attentions", "cross": "cross_attentions"}
"""Where transformers puts the maps of each kind in a model's output."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to get at the attention of a stack."""

    implementation: str | None
    """What the model is set to meanwhile; None leaves it as it is."""
    force: bool = False
    """Whether this is set also where transformers does not offer the switch."""
    ask: bool = False
    """Whether the model must be asked for its attention."""
    places: dict[str, int] = field(default_factory=dict)
    """Modules, by name inside the list of blocks, that return a map, and its place in the tuple they return."""

    @property
    def by_function(self) -> bool:
        """Whether our attention function is called."""
        return self.implementation in (SDPA, EAGER)

    @property
    def by_output(self) -> bool:
        """Whether only the model's output holds the maps, those of all blocks at once."""
        return not self.by_function and not self.places

    @property
    def label(self) -> str:
        """What the model computes attention with meanwhile."""
        return "sdpa" if self.implementation == SDPA else "eager"


class Recorder:
    """Hears of each map of a stack in turn; made by :func:`recording`."""

    def __init__(self, model: PreTrainedModel, stack: Stack, way: Way, on_map: OnMap, blocks: frozenset[int] | None):
        self.model, self.stack, self.way = model, stack, way
        self.part = runner(model, stack.side)
        self.blocks = self.part.get_submodule(stack.path)
        self.names = {id(module): name for name, module in self.blocks.named_modules()}
        self._on_map, self._wanted = on_map, blocks
        self._ran = 0
        self._running = 0
        self.started: Callable[[], None] = lambda: None

    def hears(self, module: torch.nn.Module) -> bool:
        """Whether a block that is wanted is running, and the module is a part of the stack."""
        return self._is_wanted(self._running) and id(module) in self.names

    def take(self, module: torch.nn.Module, call: Call) -> None:
        """A call of the attention function."""
        self._on_map(self._running, self.names[id(module)], call.maps(), call)

    def from_output(self, output: Any) -> None:
        """The maps that a model's output holds, where there is no other way to them."""
        for kind, name in OUTPUTS.items() if self.way.by_output else ():
            maps = getattr(output, name, None) or ()
            blocks = attention_layers(self.model, self.stack, len(maps)) if maps else ()
            for block, one in zip(blocks, maps, strict=True):
                if one is not None and self._is_wanted(block):
                    self._on_map(block, kind, one.detach(), None)

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Hooks on the part that runs, its blocks and, where these return maps, its attention modules."""
        handles = [self.part.register_forward_pre_hook(of_this_thread(self._begin), with_kwargs=True)]
        try:
            for block in dict.fromkeys(self.blocks.children()):
                handles.append(block.register_forward_pre_hook(of_this_thread(self._enter)))
                handles.append(block.register_forward_hook(of_this_thread(self._leave)))
            for name, place in self.way.places.items():
                returned = of_this_thread(self._returned(name, place))
                handles.append(self.blocks.get_submodule(name).register_forward_hook(returned))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _is_wanted(self, block: int) -> bool:
        return block > 0 and (self._wanted is None or block in self._wanted)

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._ran = self._running = 0
        self.started()
        return (args, {**kwargs, "output_attentions": True}) if self.way.ask else None

    def _enter(self, module: Any, args: Any) -> None:
        self._ran += 1
        self._running = self._ran

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        self._running = 0

    def _returned(self, name: str, place: int) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            maps = output[place] if isinstance(output, tuple) and place < len(output) else None
            if maps is None:
                return None
            if self._is_wanted(self._running):
                self._on_map(self._running, name, maps.detach(), None)
            return (*output[:place], maps.new_empty((0,) * maps.ndim), *output[place + 1 :])

        return hook


@contextlib.contextmanager
def recording(
    model: PreTrainedModel, stack: Stack, way: Way, on_map: OnMap, *, blocks: frozenset[int] | None = None
) -> Iterator[Recorder]:
    """A model set so that ``on_map`` is called with each attention map of a stack as soon as it exists.

    Hold the model's lock around it. Where modules return their maps, the model itself gets an empty tensor instead, so
    that it cannot keep them. Of blocks that are not wanted no map is made beside the model's own computation.

    Raises
    ------
    ModelError
        The stack is being recorded already, or the model does not let itself be set so.
    """
    recorder = Recorder(model, stack, way, on_map, blocks)
    if any(isinstance(other, Recorder) and other.blocks is recorder.blocks for other in listeners()):
        raise ModelError(
            f"the attention of {type(model).__name__} is being recorded already; leave that recording before another "
            "one is opened"
        )
    if way.by_function:
        register_functions()
    with attention_implementation(model, way.implementation, force=way.force), recorder.hooks():
        if way.by_function and implementation_of(model, stack.side) != way.implementation:
            raise ModelError(f"{type(model).__name__} does not let its attention implementation be set")
        listeners().append(recorder)
        try:
            yield recorder
        finally:
            listeners().remove(recorder)
