"""Running a model once and noting what happens after its last block, so that it can be replayed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.stack import Stack, of_this_thread, run_model, runner

if TYPE_CHECKING:
    import torch

Scaling = Callable[["torch.Tensor"], "torch.Tensor"]

OWN = "readout=, a function from states (T, d) to logits (T, V)"
"""What a caller can do when a model cannot be read out as it is."""


@dataclass
class Call:
    """One call of a module after the last block."""

    name: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any = None


@dataclass(frozen=True)
class Step:
    """A call to replay: the same arguments but for the one that carries the stream."""

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    place: int | str
    factor: float = 1.0
    """What the stream is multiplied by before the call, as T5 does before its head."""


@dataclass
class Run:
    """What one forward pass showed of the way from the last block to the logits."""

    raw: torch.Tensor
    """Output of the last block as the model holds it; only its place in memory is looked at."""
    states: torch.Tensor
    """Copy of it, (T, d)."""
    calls: list[Call]
    logits: torch.Tensor
    """(T, V)"""


def ordinary_ids(model: LanguageModel) -> torch.Tensor:
    """Five different tokens that are not special, (1, 5)."""
    import torch

    rows: Any = model.model.get_input_embeddings().num_embeddings
    config = model.model.config.get_text_config()
    special = {*model.tokenizer.all_special_ids, getattr(config, "pad_token_id", None)}
    ids = [i for i in range(rows) if i not in special]
    if len(ids) < 5:
        raise ModelError(f"{model.name} knows {len(ids)} ordinary tokens; reading out needs at least 5")
    return torch.tensor([ids[:: len(ids) // 5][:5]], device=model.model.device)


def run_noted(model: LanguageModel, stack: Stack, ids: torch.Tensor) -> Run:
    """Run the whole model; note the last block's output and every outermost call that begins after it.

    Of two stacks the decoder is noted, which reads the same tokens backwards as its source.
    """
    import torch

    net = model.model
    blocks = list(dict.fromkeys(runner(net, stack.side).get_submodule(stack.path).children()))
    inside = {module for block in blocks for module in block.modules()}
    raw: list[torch.Tensor] = []
    states: list[torch.Tensor] = []
    calls: list[Call] = []
    running: list[Call] = []

    def block_left(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        raw.append(first_tensor(output))
        if len(raw) == stack.depth:
            states.append(raw[-1].detach().clone())

    def enter(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if len(raw) == stack.depth and not running:
                running.append(Call(name, module, args, kwargs))

        return hook

    def leave(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if running and running[0].module is module:
            running[0].output = first_tensor(output)
            calls.append(running.pop())

    handles = [block.register_forward_hook(of_this_thread(block_left)) for block in blocks]
    try:
        for name, module in net.named_modules():
            if module not in inside:
                handles.append(module.register_forward_pre_hook(of_this_thread(enter(name)), with_kwargs=True))
                handles.append(module.register_forward_hook(of_this_thread(leave)))
        more = {"decoder_input_ids": ids} if stack.side == "decoder" else {}
        output = run_model(net, ids.flip(1) if more else ids, torch.ones_like(ids), **more)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(_no_head(model, stack, f"it does not run on ordinary tokens ({first_line(error)})")) from error
    finally:
        for handle in handles:
            handle.remove()
    logits = getattr(output, "logits", None)
    known = max(model.tokenizer.get_vocab().values()) + 1
    if logits is None:
        raise ModelError(_no_head(model, stack, "it returns no logits"))
    # a head for token classification gives a row for each token too, but a short one
    if logits.ndim != 3 or logits.shape[:2] != ids.shape or logits.shape[2] < known:
        raise ModelError(_no_head(
            model, stack,
            f"for five tokens its logits have shape {tuple(logits.shape)}, not (1, 5, V) with one for each of the "
            f"{len(model.tokenizer)} tokens it knows",
        ))
    if not states:
        raise ModelError(
            f"{model.name} ({type(net).__name__}) ran {len(raw)} blocks, not the {stack.depth} found before; "
            f"pass {OWN}"
        )
    flat = states[0].transpose(0, 1)[0] if stack.time_major else states[0][0]
    return Run(raw[-1], flat, calls, logits[0])


def find_path(model: LanguageModel, run: Run) -> tuple[Step, ...]:
    """The calls that lead from the last block to the logits, found backwards from the logits."""
    ends = [i for i, c in enumerate(run.calls) if c.output is not None and c.output.numel() == run.logits.numel()]
    if not ends:
        called = ", ".join(c.name for c in run.calls) or "none"
        raise ModelError(
            f"{model.name} ({type(model.model).__name__}) does not make its logits with a module of its own (modules "
            f"called after the last block: {called}); pass {OWN}"
        )
    steps: list[Step] = []
    at: int | None = ends[-1]
    while at is not None:
        call = run.calls[at]
        given = [(k, v) for k, v in (*enumerate(call.args), *call.kwargs.items()) if _is_tensor(v)]
        earlier = {i: run.calls[i].output for i in range(at) if run.calls[i].output is not None}
        place, at, factor = _origin(given, earlier, run)
        if place is None:
            raise ModelError(
                f"{model.name} ({type(model.model).__name__}): what {call.name} is given comes neither from the last "
                f"block nor from a module after it; pass {OWN}"
            )
        # whatever else the call was given is kept, the tensor that is replaced is not
        args = tuple(None if place == i else value for i, value in enumerate(call.args))
        kwargs = {k: v for k, v in call.kwargs.items() if k != place}
        steps.append(Step(call.name, call.module, args, kwargs, place, factor))
    return tuple(reversed(steps))


def _origin(
    given: list[tuple[Any, torch.Tensor]], earlier: dict[int, torch.Tensor], run: Run
) -> tuple[Any, int | None, float]:
    """Which argument carries the stream, the number of the earlier call it comes from (None: the last block), and the
    factor between the two.
    """
    for place, tensor in given:
        for i in reversed(earlier):
            if _same_memory(tensor, earlier[i]):
                return place, i, 1.0
        if _same_memory(tensor, run.raw):
            return place, None, 1.0
    # an operation without a module lies between: a factor is measured, all else is for the self-check to find
    for place, tensor in given:
        for i in reversed(earlier):
            if tensor.shape == earlier[i].shape:
                return place, i, _factor(tensor, earlier[i])
        if tensor.shape == run.raw.shape:
            return place, None, _factor(tensor, run.raw)
    return None, None, 1.0


def _factor(tensor: torch.Tensor, origin: torch.Tensor) -> float:
    """The number that one tensor is of another; 1 if it is no multiple."""
    import torch

    a, b = tensor.detach().double(), origin.detach().double()
    size = float((b * b).sum())
    factor = float((a * b).sum()) / size if size > 0 else 1.0
    unit = torch.finfo(tensor.dtype).eps
    if float((a - factor * b).abs().max()) > 4 * unit * float(a.abs().max()):
        return 1.0
    # rounding blurs the measured number, which then is the root of the width or one by it, as a rule
    root = float(tensor.shape[-1]) ** 0.5
    return next((r for r in (root, 1 / root) if abs(factor / r - 1) <= unit), factor)


def find_scalings(config: Any) -> list[dict[str, Scaling]]:
    """What configs say is done to the logits after the unembedding, by name, in the order it is done.

    Several readings of one config, the most usual first: some models name a scaling that they do not apply, or that a
    module of theirs applies, and one name is a divisor in most families and a factor in HyperCLOVA X.
    """
    kinds: dict[str, tuple[Callable[[float], Scaling], ...]] = {
        "logit_scale": (_times,),
        "logits_scaling": (_divided, _times),
        "lm_head_multiplier": (_times,),
        "output_multiplier": (_times,),
        "final_logit_softcapping": (_capped,),
        "logits_soft_cap": (_capped,),
        "output_logit_soft_cap": (_capped,),
    }
    values = {name: getattr(config, name, None) for name in kinds}
    given = {name: float(v) for name, v in values.items() if isinstance(v, int | float) and v not in (0, 1)}
    readings = [{name: kinds[name][which](v) for name, v in given.items()} for which in (0, -1)]
    return [*(readings if "logits_scaling" in given else readings[:1]), {}]


def _times(c: float) -> Scaling:
    return lambda z: z * c


def _divided(c: float) -> Scaling:
    return lambda z: z / c


def _capped(c: float) -> Scaling:
    return lambda z: c * (z / c).tanh()


def find_bias(model: LanguageModel, replayed: torch.Tensor, logits: torch.Tensor) -> dict[str, Scaling]:
    """A tensor of the model that the logits have more than the replay (``final_logits_bias`` of BART), if any."""
    import torch

    if replayed.shape != logits.shape:
        return {}
    missing = (logits - replayed).double()
    unit = torch.finfo(logits.dtype).eps * max(1.0, float(logits.abs().max()))
    for name, held in (*model.model.named_buffers(), *model.model.named_parameters()):
        if held.numel() == logits.shape[-1] and held.is_floating_point():
            given = held.detach().double().reshape(-1).to(missing.device)
            if bool((given != 0).any()) and float((missing - given).abs().max()) <= 8 * unit:
                return {name: functools.partial(_add, model.model, name)}
    return {}


def _add(net: torch.nn.Module, name: str, logits: torch.Tensor) -> torch.Tensor:
    """Logits with a tensor of the model, as it is now, added."""
    owner, _, attribute = name.rpartition(".")
    held: torch.Tensor = getattr(net.get_submodule(owner), attribute)
    return logits + held.reshape(-1).to(logits)


def replay(
    steps: tuple[Step, ...], scalings: tuple[Scaling, ...], states: torch.Tensor,
    weights: list[dict[str, torch.Tensor] | None] | None,
) -> torch.Tensor:
    """Logits (T, V) of states (T, d)."""
    import torch

    stream: Any = states[None]
    for i, step in enumerate(steps):
        wide = weights[i] if weights is not None else None
        if wide is None and isinstance(step.call, torch.nn.Module):
            # a stream kept wider than the weights is narrowed before them, as the model itself does
            held = (p.dtype for p in step.call.parameters() if p.is_floating_point())
            stream = stream.to(next(held, stream.dtype))
        if step.factor != 1.0:
            stream = stream * step.factor
        args = tuple(stream if step.place == j else value for j, value in enumerate(step.args))
        kwargs = {**step.kwargs, step.place: stream} if isinstance(step.place, str) else dict(step.kwargs)
        if wide is None:
            output = step.call(*args, **kwargs)
        else:
            output = torch.func.functional_call(step.call, wide, args, kwargs)  # type: ignore[arg-type]
        stream = first_tensor(output)
    for scaling in scalings:
        stream = scaling(stream)
    logits: torch.Tensor = stream.reshape(-1, stream.shape[-1])
    return logits


def _no_head(model: LanguageModel, stack: Stack, what: str) -> str:
    from transformers.models.auto import modeling_auto

    net = model.model
    kinds = [
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    ]
    # the head that fits what the model is comes first: T5 has one of the last kind only, BERT of the first two
    fitting = kinds[::-1] if stack.encoder_decoder else kinds if stack.causal else [kinds[1], kinds[0], kinds[2]]
    named = next((names[net.config.model_type] for names in fitting if net.config.model_type in names), None)
    remedy = f"load it as {named} if its checkpoint has that head, " if named else ""
    return (
        f"{model.name} ({type(net).__name__}) predicts no tokens, so there is nothing to read out: {what} (models that "
        f"classify, and sentence encoders such as MiniLM, come without the head that does); {remedy}use a language "
        f"model such as load_model(), or pass {OWN}"
    )


def first_tensor(output: Any) -> Any:
    """The output itself, or its first part, if that is a tensor; else None."""
    found = output[0] if isinstance(output, tuple) else output
    return found if _is_tensor(found) else None


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.numel() == b.numel()
