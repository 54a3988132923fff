"""What a model is made of, found once: its blocks, heads, and the maps inside each block whose input is looked at."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo.errors import ArgumentError, InfogeoError, ModelError
from infogeo_adapters.training.probe import class_objective, is_transformers

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.attention_ways import Way
    from infogeo_adapters.transformers.parts import BlockParts
    from infogeo_adapters.transformers.stack import Stack

SPREAD = 0.05
"""Standard deviation of the weights of the copy in which parts are looked for where the model's own weights hide
them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Structure:
    """Modules of a model by block. The weights may change afterwards."""

    net: torch.nn.Module
    part: torch.nn.Module
    """What is run to get at the states: the whole model, or the encoder of two stacks."""
    blocks: tuple[torch.nn.Module, ...]
    """The modules that are blocks, each once, though a model may run one many times."""
    stack: Stack | None
    """None of a module that is none of transformers."""
    way: Way | None
    """How to get at attention; None if there is none."""
    heads: dict[int, int]
    """Heads of the blocks with self attention, by block from 1."""
    outputs: dict[int, tuple[torch.nn.Module, int]]
    """The output projection of attention of each block, and how often it runs in the block before it is that."""
    firsts: dict[int, tuple[torch.nn.Module, int]]
    """The first map of each feed-forward that has one first map."""
    lasts: dict[int, tuple[torch.nn.Module, int]]
    """The last map of each feed-forward, whose input are the hidden units."""
    causal: bool
    """Whether a token is meant not to see later ones; by the class of the model where that says it."""
    why_not: dict[str, str] = field(default_factory=dict)
    """Why attention, heads or units are missing: by "attention", "heads", "units"."""


def find_structure(net: torch.nn.Module, blocks: Any) -> Structure:
    """Look for the blocks of a model and what is in them.

    Parameters
    ----------
    net : torch.nn.Module
    blocks : None, str, or sequence of modules
        A dotted name, or the modules themselves; needed of a module that is none of transformers.

    Raises
    ------
    ModelError
        No blocks were found.
    ArgumentError
        There is no such module.
    """
    if blocks is not None:
        return _given(net, blocks)
    if not is_transformers(net):
        lists = [n for n, m in net.named_modules() if n and _is_list(m)]
        raise ModelError(
            f"{type(net).__name__} is no model of transformers, so infogeo does not know which modules are its blocks; "
            f"give blocks= as a dotted name{' such as ' + repr(lists[0]) if lists else ''} or as a list of modules"
        )
    return _found(net)


def _is_list(module: torch.nn.Module) -> bool:
    import torch

    return isinstance(module, torch.nn.ModuleList | torch.nn.Sequential) and len(module) > 0


def _given(net: torch.nn.Module, blocks: Any) -> Structure:
    import torch

    if isinstance(blocks, str):
        try:
            holder = net.get_submodule(blocks)
        except AttributeError as error:
            lists = ", ".join(n for n, m in net.named_modules() if n and _is_list(m)) or "none"
            raise ArgumentError(
                f"blocks: {type(net).__name__} has no module {blocks!r}; lists of modules in it: {lists}"
            ) from error
        members: list[Any] = list(holder.children())
    else:
        if not isinstance(blocks, Iterable):
            raise ArgumentError(f"blocks: found {type(blocks).__name__}, wanted a dotted name or a list of modules")
        members = list(blocks)
    own = {id(m) for m in net.modules()}
    strange = [b for b in members if not isinstance(b, torch.nn.Module) or id(b) not in own]
    if strange or not members:
        found = type(strange[0]).__name__ if strange else "no module"
        raise ArgumentError(f"blocks: found {found}, wanted modules that are part of {type(net).__name__}")
    why = "the blocks were given, and nothing is known of what is in them"
    return Structure(
        net=net, part=net, blocks=tuple(dict.fromkeys(members)), stack=None, way=None, heads={}, outputs={}, firsts={},
        lasts={}, causal=class_objective(net) == "next token",
        why_not={"attention": why, "heads": why, "units": why},
    )


def _found(net: Any) -> Structure:
    from infogeo_adapters.transformers.stack import find_stack, runner

    stand_in: Any = None
    try:
        stack = find_stack(net)
    except ModelError as error:
        stand_in = _healthy_copy(net, error)
        stack = find_stack(stand_in)
    why_not: dict[str, str] = {}
    part = runner(net, stack.side)
    blocks = tuple(dict.fromkeys(part.get_submodule(stack.path).children()))
    way: Way | None = None
    heads: dict[int, int] = {}
    try:
        way, heads = _attention(net if stand_in is None else stand_in, stack)
    except InfogeoError as error:
        try:
            stand_in = stand_in or _healthy_copy(net, error)
            way, heads = _attention(stand_in, stack)
        except InfogeoError:
            why_not["attention"] = str(error)
    if way is not None and not heads:
        why_not["attention"] = "the model has no attention between the tokens of a text"
    parts, stand_in = _parts(net, stand_in, stack, why_not)
    outputs: dict[int, tuple[Any, int]] = {}
    firsts: dict[int, tuple[Any, int]] = {}
    lasts: dict[int, tuple[Any, int]] = {}
    for found in parts:
        if found.output is not None and found.block in heads:
            outputs[found.block] = part.get_submodule(found.output.path), found.output.turn
        if found.hidden:
            lasts[found.block] = part.get_submodule(found.hidden[-1].path), found.hidden[-1].turn
        if len(found.first) == 1 and len(found.hidden) == 2:
            firsts[found.block] = part.get_submodule(found.first[0].path), found.first[0].turn
    if not outputs:
        why_not.setdefault("heads", why_not.get("attention") or _reason(parts, "attention"))
    if not lasts:
        why_not.setdefault("units", _reason(parts, "feed_forward"))
    known = class_objective(net)
    return Structure(
        net=net, part=net if stack.side is None else part, blocks=blocks, stack=stack, way=way, heads=heads,
        outputs=outputs, firsts=firsts, lasts=lasts, why_not=why_not,
        causal=stack.causal if known is None or stack.side is not None else known == "next token",
    )


def _attention(net: Any, stack: Stack) -> tuple[Way, dict[int, int]]:
    from infogeo_adapters.transformers.attention_access import attention_access

    access = attention_access(net, stack)
    return access.way, {k.block: k.query_heads for k in access.kinds if k.kind == "self"}


def _parts(
    net: Any, stand_in: Any, stack: Stack, why_not: dict[str, str]
) -> tuple[tuple[BlockParts, ...], Any]:
    """The parts of each block, of the model itself, or of a copy with ordinary weights where these hide them."""
    from infogeo_adapters.transformers.parts import find_parts

    def incomplete(found: Sequence[BlockParts]) -> bool:
        return any(one.output is None or not one.hidden for one in found)

    found: tuple[BlockParts, ...] = ()
    try:
        found = find_parts(net if stand_in is None else stand_in, stack.side)
        if stand_in is not None or not incomplete(found):
            return found, stand_in
        reason = ModelError(_reason(found, "feed_forward") or _reason(found, "attention"))
    except InfogeoError as error:
        reason = ModelError(str(error))
    try:
        stand_in = stand_in or _healthy_copy(net, reason)
        again = find_parts(stand_in, stack.side)
        return (again if not found or not incomplete(again) else found), stand_in
    except InfogeoError:
        why_not.setdefault("heads", str(reason))
        why_not.setdefault("units", str(reason))
        return found, stand_in


def _reason(parts: Iterable[BlockParts], name: str) -> str:
    return next((p.reasons[name] for p in parts if name in p.reasons), "it was not found in the blocks")


def _healthy_copy(net: Any, error: InfogeoError) -> Any:
    """The same modules with small random weights, for looking at what depends on what."""
    import torch

    try:
        twin = copy.deepcopy(net)
    except Exception as reason:  # whatever cannot be copied
        raise ModelError(f"{error} (and the model cannot be copied to look for its parts: {reason})") from error
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator) * SPREAD + (parameter.ndim == 1) * 0.5
                parameter.copy_(noise.to(parameter))
    return twin


def call_model(structure: Structure, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """One pass of a model of transformers, or of any module that takes token ids first."""
    from infogeo_adapters.transformers.stack import run_model

    if structure.stack is not None or is_transformers(structure.part):
        return run_model(structure.part, ids, mask)  # type: ignore[arg-type]  # it is a PreTrainedModel
    known = inspect.signature(structure.part.forward).parameters
    more = {"attention_mask": mask} if "attention_mask" in known else {}
    return structure.part(ids, **more)


def logits_of(output: Any, shape: tuple[int, int]) -> torch.Tensor | None:
    """The logits (texts, tokens, V) among what a model returned; None if there are none."""
    import torch

    if isinstance(output, torch.Tensor):
        found: Any = output
    elif hasattr(output, "keys"):
        found = output["logits"] if "logits" in output.keys() else None  # noqa: SIM118  # outputs of transformers
    elif isinstance(output, tuple):
        found = next((o for o in output if isinstance(o, torch.Tensor) and o.ndim == 3), None)
    else:
        found = getattr(output, "logits", None)
    if not isinstance(found, torch.Tensor) or found.ndim != 3 or tuple(found.shape[:2]) != shape:
        return None
    return found
