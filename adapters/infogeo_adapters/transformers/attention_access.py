"""Which way leads to the attention of a model, and what each of its maps is: measured once, then kept.

A way is taken only if on a padded probe the hidden states are the model's own, if the values weighted by each map are
what the attention function returned, and if the maps are those of eager attention where the model offers that.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from infogeo.activations import AttentionKind
from infogeo.errors import ModelError
from infogeo_adapters.transformers.attention_function import EAGER, SDPA, Call, weighted_values
from infogeo_adapters.transformers.attention_ways import OUTPUTS, Recorder, Way, recording
from infogeo_adapters.transformers.eager import (
    config_of,
    eager_attention,
    implementation_of,
    must_force,
    row_sum_tolerance,
)
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.stack import (
    PADDED,
    PROBE,
    Side,
    Stack,
    encoded,
    evaluating,
    hooked,
    of_this_thread,
    padded_probe,
    residual_stream,
    rounding,
    run_model,
    runner,
)
from infogeo_adapters.transformers.tokenizing import stated_positions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SOURCE = PROBE + 2
"""Tokens of the source text that a decoder is probed with; not as many as its own, so that cross attention shows."""

WINDOWS = ("sliding_window", "sliding_window_size", "local_attention", "window_size", "attention_chunk_size")
"""Where configurations say how far a token looks."""

LONGEST, NARROW = 512, 4
"""A window up to the first is measured on a longer text; a wider one is narrowed to the second while it is measured."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to get at the attention of a stack, and what there is."""

    way: Way
    kinds: tuple[AttentionKind, ...]
    """One for each map, by block, self before cross attention."""
    cross: frozenset[str]
    """Names of the modules that compute cross attention."""


@dataclass(frozen=True, eq=False)
class _Heard:
    """One map of a probe."""

    block: int
    name: str
    maps: torch.Tensor
    call: Call | None

    @property
    def kind(self) -> Literal["self", "cross"]:
        """Told by the number of keys: a probed decoder reads a source of another length than its own text."""
        return "cross" if self.maps.shape[-1] == SOURCE else "self"


_known: weakref.WeakKeyDictionary[PreTrainedModel, dict[tuple[Side | None, str | None], Access]]
_known = weakref.WeakKeyDictionary()


def attention_access(model: PreTrainedModel, stack: Stack) -> Access:
    """How to get at the attention of a stack; kept for the model's lifetime, or until its implementation is set anew.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it was.
    stack : Stack

    Returns
    -------
    Access

    Raises
    ------
    ModelError
        No way gives attention, or each changes what the model computes.
    """
    with lock_of(model):
        known = _known.setdefault(model, {})
        key = (stack.side, _own_implementation(model, stack.side))
        if key not in known:
            with evaluating(model):
                known[key] = _measured(model, stack)
        return known[key]


def _own_implementation(model: PreTrainedModel, side: Side | None) -> str | None:
    """What a stack computes attention by, also while the other stack of the model is recorded."""
    found = implementation_of(model, side)
    return {SDPA: "sdpa", EAGER: "eager"}.get(found or "", found)


def _measured(model: PreTrainedModel, stack: Stack) -> Access:
    probe = padded_probe(model)
    own, _ = _run(model, stack, *probe)
    refusal = None
    reference: dict[str, list[torch.Tensor]] = {}
    try:
        force = must_force(model, stack)
        with eager_attention(model, force=force, side=stack.side):
            _, output = _run(model, stack, *probe, output_attentions=True)
        reference = {kind: [m for m in getattr(output, n, None) or () if m is not None] for kind, n in OUTPUTS.items()}
    except ModelError as error:
        refusal = error
    is_eager = _own_implementation(model, stack.side) in ("eager", None)
    for name in (EAGER,) if is_eager else (SDPA, EAGER):
        found = _try(model, stack, Way(implementation=name), own, reference)
        if found:
            return found
    if refusal is not None:
        raise refusal
    switched = Way(implementation=None if is_eager else "eager", force=force)
    for ask in (False, True):
        places = _places(model, stack, replace(switched, ask=ask), reference)
        if places:
            found = _try(model, stack, replace(switched, ask=ask, places=places), own, reference)
        if found:
            return found
    found = _try(model, stack, replace(switched, ask=True), own, reference)
    if found:
        return found
    raise ModelError(
        f"the attention of {type(model).__name__} cannot be told block by block; capture it with attention=False"
    )


def _run(
    model: PreTrainedModel, stack: Stack, ids: torch.Tensor, mask: torch.Tensor, **more: Any
) -> tuple[torch.Tensor, Any]:
    """Residual stream of the real tokens of a probe (L + 1, tokens, d), and what the model returned."""
    import torch

    part = runner(model, stack.side)
    with hooked({stack.path: part.get_submodule(stack.path)}, all_inputs=False) as firings:
        output = run_model(part, ids, mask, **_source(model, stack.side, len(ids)), **more)
    states = torch.stack([s.double().cpu() for s in residual_stream(stack, firings[stack.path])])
    return states[:, mask.bool().cpu()], output


def _source(model: PreTrainedModel, side: Side | None, texts: int) -> dict[str, torch.Tensor]:
    """The source text of a probed decoder, SOURCE tokens, the first text's padded."""
    if side != "decoder":
        return {}
    ids, mask = padded_probe(model)
    return encoded(model, ids[:texts, :SOURCE].flip(1), mask[:texts, :SOURCE])


def _listen(
    model: PreTrainedModel, stack: Stack, way: Way, ids: torch.Tensor, mask: torch.Tensor
) -> tuple[list[_Heard], torch.Tensor]:
    """All maps of a probe in order, and its states."""
    heard: list[_Heard] = []

    def take(block: int, name: str, maps: torch.Tensor, call: Call | None) -> None:
        heard.append(_Heard(block, name, maps, call))

    with recording(model, stack, way, take) as recorder:
        states, output = _run(model, stack, ids, mask)
        recorder.from_output(output)
    return sorted(heard, key=lambda h: (h.block, h.kind == "cross")), states


def _try(
    model: PreTrainedModel, stack: Stack, way: Way, own: torch.Tensor, reference: dict[str, list[torch.Tensor]]
) -> Access | None:
    """The way with what it gives, or None if it is closed or gives something else than the model computes."""
    ids, mask = padded_probe(model)
    try:
        heard, states = _listen(model, stack, way, ids, mask)
    except Exception:  # whatever a model objects to, another way may be open
        return None
    real, tolerance = mask.bool(), rounding(model)
    if len({(h.block, h.kind) for h in heard}) != len(heard) or not heard:
        return None
    if not float((states - own).abs().max()) <= tolerance * float(own.abs().max()):
        return None
    for h in heard:
        square = h.maps.ndim == 4 and h.maps.shape[2] == PADDED and h.maps.shape[3] in (PADDED, SOURCE)
        if not square or (h.call and not _close(weighted_values(h.call, h.maps)[real], h.call.output[real], tolerance)):
            return None
    for kind, maps in reference.items():
        mine = [h.maps for h in heard if h.kind == kind]
        if maps and len(mine) != len(maps):
            return None
        pairs = zip(mine, maps, strict=False)
        if not all(_close(_of(a, real), _of(b, real), tolerance) for a, b in pairs):
            return None
    return Access(
        way=way, kinds=_kinds(model, stack, way, heard, real),
        cross=frozenset(h.name for h in heard if h.kind == "cross"),
    )


def _of(maps: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The rows of real queries, (queries, H, Tk)."""
    return maps.transpose(1, 2)[real]


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    difference = float((a.double() - b.double()).abs().max())
    return difference <= tolerance * max(float(b.double().abs().max()), 1e-30)


def _places(
    model: PreTrainedModel, stack: Stack, way: Way, reference: dict[str, list[torch.Tensor]]
) -> dict[str, int]:
    """The innermost modules of the blocks that return the maps the model gives out, and where; none if one is amiss."""
    import torch

    recorder = Recorder(model, stack, way, lambda *_: None, None)
    seen: list[tuple[str, int, torch.Tensor]] = []

    def watch(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            for place, value in enumerate(output if isinstance(output, tuple) else ()):
                if isinstance(value, torch.Tensor) and value.ndim == 4:
                    seen.append((name, place, value.detach().clone()))

        return hook

    with contextlib.ExitStack() as scope:
        scope.enter_context(eager_attention(model, force=way.force, side=stack.side))
        for name, module in recorder.blocks.named_modules():
            scope.callback(module.register_forward_hook(of_this_thread(watch(name))).remove)
        scope.enter_context(recorder.hooks())
        _run(model, stack, *padded_probe(model))
    found: dict[str, int] = {}
    for maps in (m for kind in reference.values() for m in kind):
        same = [(n, p) for n, p, value in seen if value.shape == maps.shape and torch.equal(value, maps)]
        if not same:
            return {}
        found.setdefault(*same[0])
    return found


# What each map is


def _kinds(
    model: PreTrainedModel, stack: Stack, way: Way, heard: list[_Heard], real: torch.Tensor
) -> tuple[AttentionKind, ...]:
    recorder = Recorder(model, stack, way, lambda *_: None, None)
    tolerance = row_sum_tolerance(model)
    windows = _windows(model, stack, way)
    kinds = []
    for h in heard:
        heads = int(h.maps.shape[1])
        kinds.append(AttentionKind(
            block=h.block, side=stack.side, kind=h.kind, query_heads=heads,
            key_value_heads=int(h.call.key.shape[1]) if h.call else _shared_heads(recorder, h.name, heads),
            causal=h.kind == "self" and _reach(h, real)[1] == 0,
            window=windows.get(h.block) if h.kind == "self" else None,
            sink=float(_of(h.maps, real).double().sum(dim=-1).min()) < 1 - tolerance, implementation=way.label,
        ))
    return tuple(kinds)


def _shared_heads(recorder: Recorder, name: str, heads: int) -> int:
    """Heads of keys and values as the module says, else the configuration; as many as queries if neither does."""
    owners: list[Any] = [config_of(recorder.model, recorder.stack.side)]
    with contextlib.suppress(AttributeError):
        owners.insert(0, recorder.blocks.get_submodule(name))
    for owner in owners:
        for attribute in ("num_key_value_heads", "num_kv_heads"):
            value = getattr(owner, attribute, None)
            if isinstance(value, int) and 0 < value <= heads and heads % value == 0:
                return value
    return heads


def _reach(heard: _Heard, real: torch.Tensor) -> tuple[int, int]:
    """How far queries look back and ahead, in tokens: by the mask where there is one, else by where weight is."""
    import torch

    seen = heard.call.visible() if heard.call else heard.maps > 0
    texts, (looking, looked_at) = len(real), heard.maps.shape[2:]
    seen = seen.expand(texts, -1, looking, looked_at).any(dim=1) & real[:, :, None]
    if looking == looked_at:
        seen = seen & real[:, None, :]
    _, query, key = torch.nonzero(seen, as_tuple=True)
    return int((query - key).max()), int((key - query).max())


def _windows(model: PreTrainedModel, stack: Stack, way: Way) -> dict[int, int]:
    """The most tokens that one token looks at, by block, for blocks in which these are fewer than all.

    What the configuration says is confirmed by running the model: on a text that is longer than the window, or, where
    that would be a long one, with the window narrowed for a moment.
    """
    config = config_of(model, stack.side)
    said = {name: getattr(config, name, None) for name in WINDOWS}
    found: dict[int, int] = {}
    for name, width in said.items():
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            continue
        if width <= LONGEST and width + 3 <= (stated_positions(config) or LONGEST + 3):
            found |= _looked_at(model, stack, way, width + 3, width)
        else:
            with _narrowed(config, name) as done:
                narrow = _looked_at(model, stack, way, PADDED, NARROW) if done else {}
            # back only, or to both sides: a half of it, all of it without or with the token itself
            full = {
                NARROW: width, NARROW + 1: width // 2 * 2 + 1, 2 * NARROW - 1: 2 * width - 1,
                2 * NARROW + 1: 2 * width + 1,
            }
            found |= {block: full[most] for block, most in narrow.items() if most in full}
    return found


def _looked_at(model: PreTrainedModel, stack: Stack, way: Way, tokens: int, width: int) -> dict[int, int]:
    """The most tokens that one looks at in each block, by the farthest offsets, where these lie within a width."""
    import torch

    ids, _ = padded_probe(model)
    ids = ids[1:].repeat(1, -(-tokens // PADDED))[:, :tokens]
    real = torch.ones_like(ids)
    reaches: dict[int, tuple[int, int]] = {}

    def take(block: int, name: str, maps: torch.Tensor, call: Call | None) -> None:
        if maps.shape[2] == maps.shape[3] == tokens:
            reaches[block] = _reach(_Heard(block, name, maps, call), real.bool())

    with recording(model, stack, way, take) as recorder:
        output = run_model(recorder.part, ids, real, **_source(model, stack.side, 1))
        recorder.from_output(output)
    return {block: back + 1 + ahead for block, (back, ahead) in reaches.items() if max(back, ahead) <= width}


@contextlib.contextmanager
def _narrowed(config: Any, name: str) -> Iterator[bool]:
    """The configuration with a narrow window, if it can be set."""
    before = getattr(config, name)
    done = True
    try:
        setattr(config, name, NARROW)
    except (AttributeError, TypeError, ValueError):
        done = False
    try:
        yield done
    finally:
        if done:
            setattr(config, name, before)
