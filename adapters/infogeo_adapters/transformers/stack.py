"""Where the residual stream of a model is: found by running it, not by the names of its modules.

A stack is the ``ModuleList`` whose members all ran, each on what the one before returned. What goes into the first
is layer 0, what comes out of the l-th is layer l: the stream before any final norm, in every family, while
``hidden_states[-1]`` of transformers is normed in some models and raw in others.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from logging import CRITICAL
from typing import TYPE_CHECKING, Any, Literal, cast

from infogeo.errors import ModelError
from infogeo_adapters.transformers.locks import lock_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Side = Literal["encoder", "decoder"]

PROBE, PADDED = 5, 8
"""Tokens of the probing text, and its length with padding."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What a few forward passes showed about a model."""

    path: str
    """Name of the ``ModuleList`` inside the module that :func:`runner` gives."""
    depth: int
    """Blocks run in one pass; more than there are modules where these are shared, as in ALBERT."""
    time_major: bool
    """True if the blocks hold states as (token, text, d) instead of (text, token, d), as in XLNet."""
    causal: bool
    """True if no token's state depends on a later token."""
    pads_exactly: bool
    """True if masked padding on the right changes nothing; False for FNet, which mixes all positions."""
    encoder_decoder: bool
    side: Side | None = None
    """Which of the two stacks of an encoder-decoder model; None if there is one stack only."""


_found: weakref.WeakKeyDictionary[PreTrainedModel, dict[Side | None, Stack]] = weakref.WeakKeyDictionary()


def find_stack(model: PreTrainedModel, side: Side | None = None) -> Stack:
    """Run a few tokens through a model and find its stack of blocks; the answer is kept for the model's lifetime.

    Parameters
    ----------
    model : PreTrainedModel
        Left in the mode it was in.
    side : {"encoder", "decoder"}, optional
        Which stack of an encoder-decoder model, by default its encoder; of other models there is one.

    Returns
    -------
    Stack

    Raises
    ------
    ModelError
        The model does not run on tokens alone or computes NaN, or no list of its modules passes on a stream with one
        vector for each token.
    """
    wanted: Side | None = (side or "encoder") if model.config.is_encoder_decoder else None
    with lock_of(model):
        known = _found.setdefault(model, {})
        if wanted not in known:
            with evaluating(model):
                known[wanted] = _probe(model, wanted)
        return known[wanted]


def runner(model: PreTrainedModel, side: Side | None = None) -> PreTrainedModel:
    """The part of a model that is run to capture it: one of two stacks (the encoder), else the model without its head.

    The decoder of two stacks is run with what :func:`encoded` gives of the source text.
    """
    part: Any = model.base_model
    if model.config.is_encoder_decoder and side == "decoder":
        part = model.get_decoder()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    elif model.config.is_encoder_decoder:
        part = model.get_encoder()
    return cast("PreTrainedModel", part)


def encoded(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the decoder of two stacks is given beside its own tokens: the encoder's output on the source, and its mask.

    Hold the model's lock and evaluation mode around it, as around each pass.
    """
    output = run_model(runner(model, "encoder"), ids, mask)
    return {"encoder_hidden_states": output[0], "encoder_attention_mask": mask}


def run_model(part: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, **more: Any) -> Any:
    """One forward pass without cache. Of the mask and ``more`` it gets what its signature names.

    ``output_attentions`` and ``return_dict`` (a config may ask for tuples) are also passed where the signature ends in
    ``**kwargs``, as transformers 5 wants it.
    """
    parameters = inspect.signature(part.forward).parameters
    rest = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    wanted = {"attention_mask": mask, "use_cache": False, "return_dict": True, **more}
    by_rest = ("output_attentions", "return_dict") if rest else ()
    given = {k: v for k, v in wanted.items() if k in parameters or k in by_rest}
    with quiet():  # Mamba and its kin report at their first pass that faster code is not installed
        return part(input_ids=ids, **given)


@dataclass
class _Quiet:
    """How many threads want silence now, and what was set before the first of them came."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0
    verbosity: int = 0
    bars: bool = True


_quiet = _Quiet()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports of transformers meanwhile; what they would say becomes an error of ours.

    These settings belong to the whole process: the first thread to enter saves them, the last to leave restores them.
    """
    from transformers.utils import logging

    with _quiet.lock:
        if not _quiet.count:
            _quiet.verbosity, _quiet.bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity(CRITICAL)
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        _quiet.count += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.count -= 1
            if not _quiet.count:
                logging.set_verbosity(_quiet.verbosity)
                if _quiet.bars:
                    logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without gradients and autocast; afterwards each module is in the mode it was in.

    Under a caller's autocast the model would compute in another number format than its weights say.
    As with all that is set on a model for a while (hooks, eager attention), hold its lock around it:
    :func:`~infogeo_adapters.transformers.locks.lock_of`.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad(), contextlib.ExitStack() as scope:
            for kind in {p.device.type for p in model.parameters()}:
                if torch.amp.is_autocast_available(kind):
                    scope.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, deaf to passes of the model by other threads than the one that makes it.

    Such passes come from outside infogeo, where nobody waits for the model's lock.
    """
    mine = threading.get_ident()

    def heard(*given: Any) -> Any:
        return hook(*given) if threading.get_ident() == mine else None

    return heard


@dataclass
class Firings:
    """What the members of one ModuleList were given and returned, in the order they ran."""

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    modules: set[int] = field(default_factory=set)


@contextlib.contextmanager
def hooked(lists: dict[str, torch.nn.Module], *, all_inputs: bool) -> Iterator[dict[str, Firings]]:
    """Hooks on the members of module lists while the body runs, gone afterwards whatever happens.

    They see passes of the calling thread only. Tensors are copied at once, since some models go on computing in place.
    """
    firings = {path: Firings() for path in lists}
    handles = []

    def watch(block: torch.nn.Module, seen: Firings) -> None:
        def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if all_inputs or not seen.inputs:
                seen.inputs.append(_copy(args[0] if args else kwargs.get("hidden_states")))

        def leave(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen.outputs.append(_copy(output[0] if isinstance(output, tuple) else output))
            seen.modules.add(id(module))

        handles.append(block.register_forward_pre_hook(of_this_thread(enter), with_kwargs=True))
        handles.append(block.register_forward_hook(of_this_thread(leave)))

    try:
        for path, blocks in lists.items():
            for block in dict.fromkeys(blocks.children()):
                watch(block, firings[path])
        yield firings
    finally:
        for handle in handles:
            handle.remove()


def residual_stream(stack: Stack, seen: Firings) -> list[torch.Tensor]:
    """Layers 0 to L of a recorded pass, each (texts, tokens, d)."""
    if len(seen.outputs) != stack.depth:
        raise ModelError(
            f"{len(seen.outputs)} blocks ran, {stack.depth} did at loading; if the model was changed, load it again"
        )
    states = [*seen.inputs[:1], *seen.outputs]
    return [s.transpose(0, 1) for s in states] if stack.time_major else states


def _copy(value: Any) -> Any:
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else None


# Finding it


def _probe(model: PreTrainedModel, side: Side | None) -> Stack:
    import torch

    part = runner(model, side)
    ids = _probe_ids(model)
    ones = torch.ones_like(ids)
    lists: dict[str, torch.nn.Module] = {
        n: m for n, m in part.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m)
    }
    try:
        with hooked(lists, all_inputs=True) as firings:
            run_model(part, ids, ones, **_probe_source(model, side, 1))
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} does not run on token ids alone ({type(error).__name__}: {error}); "
            "infogeo reads language models"
        ) from error
    path = _choose(model, lists, firings)
    found = Stack(
        path=path, depth=len(firings[path].outputs), time_major=tuple(firings[path].outputs[0].shape[:2]) == (PROBE, 1),
        causal=False, pads_exactly=False, encoder_decoder=bool(model.config.is_encoder_decoder), side=side,
    )

    alone = run_probe(model, found, ids, ones)[0]
    scale = float(alone.abs().max())
    if not alone.isfinite().all():
        raise ModelError(
            f"{type(model).__name__} computes NaN or infinity on ordinary tokens in {model.dtype}; its weights are "
            "damaged or the number format is too narrow (try dtype='float32')"
        )
    changed = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
    causal = float((run_probe(model, found, changed, ones)[0] - alone)[:, :, :-1].abs().max()) <= 1e-6 * scale
    padded = run_probe(model, found, *padded_probe(model))[0][:, :1, :PROBE]
    exact = float((padded - alone).abs().max()) <= rounding(model) * scale
    return replace(found, causal=causal, pads_exactly=exact)


def run_probe(
    model: PreTrainedModel, stack: Stack, ids: torch.Tensor, mask: torch.Tensor, **more: Any
) -> tuple[torch.Tensor, Any]:
    """Residual stream of a probe, (L + 1, texts, tokens, d) in float64, and what the model returned."""
    import torch

    part = runner(model, stack.side)
    source = _probe_source(model, stack.side, len(ids))
    with hooked({stack.path: part.get_submodule(stack.path)}, all_inputs=False) as firings:
        output = run_model(part, ids, mask, **source, **more)
    return torch.stack([s.double().cpu() for s in residual_stream(stack, firings[stack.path])]), output


def _probe_source(model: PreTrainedModel, side: Side | None, texts: int) -> dict[str, torch.Tensor]:
    """What a decoder of two stacks is told of a source text in a probe; that of the first of two texts is padded."""
    import torch

    if side != "decoder":
        return {}
    ids = _probe_ids(model).flip(1)
    if texts == 1:
        return encoded(model, ids, torch.ones_like(ids))
    batch = torch.cat([ids, ids[:, : PADDED - PROBE]], dim=1).repeat(texts, 1)
    mask = torch.ones_like(batch)
    mask[0, PROBE:] = 0
    return encoded(model, batch, mask)


def padded_probe(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The probe with padding, and beside it a text that needs none: ids and mask, (2, PADDED)."""
    import torch

    ids = _probe_ids(model)
    batch = torch.cat([ids, ids.flip(1)[:, : PADDED - PROBE]], dim=1).repeat(2, 1)
    mask = torch.ones_like(batch)
    mask[0, PROBE:] = 0
    return batch, mask


def rounding(model: PreTrainedModel) -> float:
    """Relative difference that rounding may make."""
    return 5e-2 if model.dtype.itemsize < 4 else 1e-4


def embedding_rows(model: PreTrainedModel) -> int:
    """Number of token embeddings."""
    try:
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except (AttributeError, NotImplementedError):
        rows = None
    if not isinstance(rows, int):
        raise ModelError(f"{type(model).__name__} has no token embedding; infogeo reads language models")
    return rows


def _probe_ids(model: PreTrainedModel) -> torch.Tensor:
    """A few different ordinary tokens, (1, PROBE)."""
    import torch

    rows = embedding_rows(model)
    config = model.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")} - {None}
    ordinary = [i for i in range(rows) if i not in special]
    step = max(1, len(ordinary) // (PROBE + 1))
    return torch.tensor([ordinary[step : step * PROBE + 1 : step]], device=model.device)


def _choose(model: PreTrainedModel, lists: dict[str, Any], firings: dict[str, Firings]) -> str:
    """Path of the list that carries the residual stream."""
    ran = {p: f for p, f in firings.items() if f.modules == {id(m) for m in lists[p].children()}}
    stacks = {p: f for p, f in ran.items() if _is_stream(f) and _is_chain(f)}
    outer = [p for p in stacks if not any(p.startswith(q + ".") for q in stacks)]
    if len(outer) == 1:
        return outer[0]
    if outer:
        raise ModelError(
            f"{type(model).__name__} runs several stacks of blocks one after the other ({', '.join(outer)}), so that "
            "layers cannot be numbered in one row; pass the part to look at as a model of its own"
        )
    shapes = sorted({f"{p}: {tuple(f.outputs[0].shape)}" for p, f in ran.items() if f.outputs[0] is not None})
    raise ModelError(
        f"the residual stream of {type(model).__name__} cannot be found: no list of its modules passes on one vector "
        f"for each token from member to member (shapes seen for {PROBE} tokens: {'; '.join(shapes[:4]) or 'none'})"
    )


def _is_stream(seen: Firings) -> bool:
    shapes = {None if t is None else tuple(t.shape) for t in [*seen.inputs, *seen.outputs]}
    only = shapes.pop() if len(shapes) == 1 else None
    return only is not None and len(only) == 3 and only[:2] in ((1, PROBE), (PROBE, 1))


def _is_chain(seen: Firings) -> bool:
    import torch

    pairs = zip(seen.outputs, seen.inputs[1:], strict=False)
    return all(torch.allclose(a, b.to(a.dtype), rtol=0, atol=0, equal_nan=True) for a, b in pairs)
