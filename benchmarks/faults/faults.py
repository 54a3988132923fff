"""The faults: what each does to a training run, and which findings name it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from faults.models import PARTS, blocks_of, part, replace_part
from faults.training import Batch, Training

Place = Literal["model", "block", "head"]


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    title: str
    rules: tuple[str, ...]
    """Findings that count as a hit."""
    inject: Callable[[Training, int, int], tuple[int, ...]]
    """Given the block and the head (from 1), changes the run; returns the blocks that a finding may name."""
    place: Place = "block"
    late: bool = True
    """Whether it can also come in the middle of a run."""
    half: bool = False
    """Whether the run is in float16."""
    architectures: tuple[str, ...] = ("gpt2", "llama", "bert")


def _block(run: Training, number: int) -> Any:
    return blocks_of(run.model, run.architecture)[number - 1]


def _named(run: Training, number: int, name: str) -> Any:
    return part(_block(run, number), name)


def _scaled_start(factor: float) -> Callable[[Training, int, int], tuple[int, ...]]:
    def inject(run: Training, block: int, head: int) -> tuple[int, ...]:
        with torch.no_grad():
            for weights in run.model.parameters():
                if weights.ndim > 1:
                    weights.mul_(factor)
        return ()

    return inject


def _wrap(module: Any, act: Callable[..., Any]) -> None:
    """Let ``act(inner, ...)`` take the place of the computation of a module, as if its class were written so.

    The class is changed and not the module, so that copies of the module compute with their own weights.
    """
    usual = type(module)

    def forward(self: Any, *given: Any, **named: Any) -> Any:
        return act(functools.partial(usual.forward, self), *given, **named)

    module.__class__ = type(usual.__name__, (usual,), {"forward": forward, "__module__": usual.__module__})


def _cut_residual(run: Training, number: int) -> None:
    """The block puts out what its feed-forward part makes of what its attention makes of the input, and no more."""
    block, parts = _block(run, number), PARTS[run.architecture]
    if run.architecture == "bert":
        for name in ("attention.output", "output"):
            _wrap(part(block, name), lambda inner, states, residual: inner(states, torch.zeros_like(residual)))
        return
    kept: dict[str, torch.Tensor] = {}

    def attend(inner: Callable[..., Any], *given: Any, **named: Any) -> Any:
        found = inner(*given, **named)
        kept["added"] = found[0]
        return found

    def whole(inner: Callable[..., Any], hidden_states: torch.Tensor, *given: Any, **named: Any) -> Any:
        return inner(hidden_states, *given, **named) - (hidden_states + kept["added"])

    _wrap(part(block, parts.attention), attend)
    _wrap(part(block, parts.norms[1]), lambda inner, _: inner(kept["added"]))
    _wrap(block, whole)


def _no_residual(run: Training, block: int, head: int) -> tuple[int, ...]:
    _cut_residual(run, block)
    return (block,)


def _no_residual_anywhere(run: Training, block: int, head: int) -> tuple[int, ...]:
    for number in range(1, len(blocks_of(run.model, run.architecture)) + 1):
        _cut_residual(run, number)
    return ()


def _remove_norms(run: Training, number: int) -> None:
    """Take normalizations out; in the middle of a run they are passed by, so that the model keeps its parameters."""
    for name in PARTS[run.architecture].norms:
        if run.step:
            _wrap(_named(run, number, name), lambda inner, states: states)
        else:
            replace_part(_block(run, number), name, torch.nn.Identity())


def _norm_removed(run: Training, block: int, head: int) -> tuple[int, ...]:
    _remove_norms(run, block)
    return (block,)


def _norms_removed(run: Training, block: int, head: int) -> tuple[int, ...]:
    for number in range(1, len(blocks_of(run.model, run.architecture)) + 1):
        _remove_norms(run, number)
    return ()


def _freeze(module: torch.nn.Module) -> None:
    for weights in module.parameters():
        weights.requires_grad_(False)
        weights.grad = None


def _norm_frozen(run: Training, block: int, head: int) -> tuple[int, ...]:
    for name in PARTS[run.architecture].norms:
        _freeze(_named(run, block, name))
    return (block,)


def _frozen_block(run: Training, block: int, head: int) -> tuple[int, ...]:
    _freeze(_block(run, block))
    return (block,)


def _rate(factor: float) -> Callable[[Training, int, int], tuple[int, ...]]:
    def inject(run: Training, block: int, head: int) -> tuple[int, ...]:
        run.rate_factor = factor
        return ()

    return inject


SHARP = 0.5
"""Deviation of the weights of queries and keys, where it should be 0.02."""


def _sharp_attention(run: Training, block: int, head: int) -> tuple[int, ...]:
    run.warmup = 0
    for which in (0, 1):
        (weights, *_), start = projection(run, block, which)
        outputs = weights.detach().T if run.architecture == "gpt2" else weights.detach()
        chosen = outputs[start: start + run.model.config.hidden_size]
        chosen.mul_(SHARP / chosen.square().mean().sqrt())
    return (block,)


def _kept(run: Training, act: Callable[[], None]) -> None:
    """Do something now and after every step."""
    act()
    run.after_step.append(act)


def _pin(run: Training, weights: torch.nn.Parameter, rows: slice | None = None) -> None:
    """Make weights zero, all of them or those of some outputs, and let no step move them again."""
    def part_of(tensor: torch.Tensor) -> torch.Tensor:
        if rows is None:
            return tensor
        return tensor[..., rows] if run.architecture == "gpt2" else tensor[rows]  # GPT-2 keeps outputs last

    def still(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        part_of(gradient).zero_()
        return gradient

    part_of(weights.detach()).zero_()
    weights.register_hook(still)
    if run.step:
        part_of(run.optimizer.state[weights]["exp_avg"]).zero_()


def projection(run: Training, number: int, which: int) -> tuple[list[torch.nn.Parameter], int]:
    """Parameters with queries (0), keys (1) or values (2) of a block, and from which output on these are."""
    attention = _named(run, number, PARTS[run.architecture].attention)
    if run.architecture == "gpt2":
        return [attention.c_attn.weight, attention.c_attn.bias], which * attention.c_attn.weight.shape[0]
    names = ("query", "key", "value") if run.architecture == "bert" else ("q_proj", "k_proj", "v_proj")
    return list(getattr(attention, names[which]).parameters()), 0


def _zeroed_head(run: Training, block: int, head: int) -> tuple[int, ...]:
    size = run.model.config.hidden_size // run.model.config.num_attention_heads
    values, start = projection(run, block, 2)
    for value in values:
        _pin(run, value, slice(start + (head - 1) * size, start + head * size))
    return (block,)


def _uniform_attention(run: Training, block: int, head: int) -> tuple[int, ...]:
    queries, start = projection(run, block, 0)
    for query in queries:
        _pin(run, query, slice(start, start + run.model.config.hidden_size))
    return (block,)


def _dead_block(run: Training, block: int, head: int) -> tuple[int, ...]:
    parts = PARTS[run.architecture]
    for name in (parts.heads_out, parts.feed_out):
        for weights in _named(run, block, name).parameters():
            _pin(run, weights)
    return (block,)


def _shuffled_targets(run: Training, block: int, head: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(run.seed)

    def change(batch: Batch) -> Batch:
        labels = batch["labels"].clone()
        there = labels != -100
        found = labels[there]
        labels[there] = found[torch.randperm(len(found), generator=generator)]
        return {**batch, "labels": labels}

    run.changes.append(change)
    return ()


def _constant_data(run: Training, block: int, head: int) -> tuple[int, ...]:
    kept: list[Batch] = []

    def change(batch: Batch) -> Batch:
        kept.append(batch)
        del kept[1:]
        return kept[0]

    run.changes.append(change)
    return ()


def _label_leak(run: Training, block: int, head: int) -> tuple[int, ...]:
    """What is to be predicted is what is shown: labels moved the wrong way, or tokens that were not masked."""

    def change(batch: Batch) -> Batch:
        ids, labels = batch["input_ids"], batch["labels"]
        if run.architecture == "bert":
            return {"input_ids": torch.where(labels == -100, ids, labels), "labels": labels}
        return {"input_ids": ids, "labels": torch.cat([ids[:, :1], ids[:, :-1]], dim=1)}

    run.changes.append(change)
    return ()


def _sees_future(run: Training, block: int, head: int) -> tuple[int, ...]:
    def unmasked(inner: Callable[..., Any], hidden_states: torch.Tensor, *given: Any, **named: Any) -> Any:
        texts, tokens = hidden_states.shape[:2]
        named["attention_mask"] = hidden_states.new_zeros((texts, 1, tokens, tokens))
        return inner(hidden_states, *given, **named)

    _wrap(_named(run, block, PARTS[run.architecture].attention), unmasked)
    return (block,)


class _NoPositions(torch.nn.Module):
    """In the place of an embedding of positions: zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(width), persistent=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """(..., width) zeros."""
        return self.zeros.expand(*positions.shape, -1)


def _missing_positions(run: Training, block: int, head: int) -> tuple[int, ...]:
    name = PARTS[run.architecture].positions
    if run.architecture == "llama":
        def still(inner: Callable[..., Any], *given: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
            cosine, sine = inner(*given, **named)
            return torch.ones_like(cosine), torch.zeros_like(sine)

        _wrap(part(run.model, name), still)
    elif run.step:
        _wrap(part(run.model, name), lambda inner, positions: torch.zeros_like(inner(positions)))
    else:
        dtype = part(run.model, name).weight.dtype
        replace_part(run.model, name, _NoPositions(run.model.config.hidden_size).to(dtype))
    return ()


def _dead_units(run: Training, block: int, head: int) -> tuple[int, ...]:
    with torch.no_grad():
        _named(run, block, PARTS[run.architecture].hidden).bias.fill_(-50.0)
    return (block,)


LOUD = 1000.0


def _loud_block(run: Training, block: int, head: int) -> tuple[int, ...]:
    _wrap(_named(run, block, PARTS[run.architecture].feed_out), lambda inner, states: inner(states) * LOUD)
    return (block,)


GROWTH = 1.5


def _half_overflow(run: Training, block: int, head: int) -> tuple[int, ...]:
    """What the feed-forward part adds grows by half with every step, in a run in float16."""
    since = run.step
    _wrap(
        _named(run, block, PARTS[run.architecture].feed_out),
        lambda inner, states: inner(states) * GROWTH ** min(run.step - since, 100),
    )
    return (block,)


def _half_optimizer(run: Training, block: int, head: int) -> tuple[int, ...]:
    run.epsilon = 1e-8  # rounds to zero in float16: zero over zero where a gradient is zero
    return ()


def _duplicated_layer(run: Training, block: int, head: int) -> tuple[int, ...]:
    blocks = blocks_of(run.model, run.architecture)
    other = block % len(blocks) + 1
    _kept(run, lambda: blocks[other - 1].load_state_dict(blocks[block - 1].state_dict()) and None)
    return (block, other)


def _cut_gradient(run: Training, block: int, head: int) -> tuple[int, ...]:
    number = max(block, 2)

    def cut(inner: Callable[..., Any], hidden_states: torch.Tensor, *given: Any, **named: Any) -> Any:
        return inner(hidden_states.detach(), *given, **named)

    _wrap(_block(run, number), cut)
    return tuple(range(1, number))


CAUSAL = ("gpt2", "llama")

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (
    Fault("init_large", "initial weights 10 times too large", ("initialization_scale",), _scaled_start(10.0),
          "model", late=False),
    Fault("init_small", "initial weights 100 times too small", ("initialization_scale",), _scaled_start(0.01),
          "model", late=False),
    Fault("no_residual", "no residual in one block", ("no_residual",), _no_residual),
    Fault("no_residual_anywhere", "no residual in any block", ("no_residual",), _no_residual_anywhere, "model"),
    Fault("norm_removed", "no normalization in one block", ("no_normalization",), _norm_removed),
    Fault("norms_removed", "no normalization in any block", ("no_normalization",), _norms_removed, "model"),
    Fault("norm_frozen", "normalization of one block frozen", ("untrained_layer",), _norm_frozen),
    Fault("rate_high", "learning rate 30 times too high", ("learning_rate_too_high",), _rate(30.0), "model"),
    Fault("rate_low", "learning rate 100 times too low", ("learning_rate_too_low",), _rate(0.01), "model", late=False),
    Fault("sharp_attention", "queries and keys of one block 25 times their initial scale, no warm-up",
          ("attention_entropy_collapse", "initialization_scale"), _sharp_attention),
    Fault("frozen_block", "one block frozen", ("untrained_layer",), _frozen_block),
    Fault("zeroed_head", "one head writes nothing", ("dead_head",), _zeroed_head, "head"),
    Fault("shuffled_targets", "targets shuffled", ("shuffled_targets",), _shuffled_targets, "model"),
    Fault("constant_data", "the same batch at every step", ("constant_data",), _constant_data, "model"),
    Fault("sees_future", "one block sees later tokens", ("sees_the_future",), _sees_future, architectures=CAUSAL),
    Fault("missing_positions", "no position information", ("no_position_information",), _missing_positions, "model"),
    Fault("dead_units", "feed-forward units of one block off", ("dead_units",), _dead_units),
    Fault("half_overflow", "one block grows until float16 overflows", ("number_format", "not_finite"), _half_overflow,
          half=True),
    Fault("half_optimizer", "Adam's epsilon rounds to zero in float16", ("not_finite",), _half_optimizer, "model",
          late=False, half=True),
    Fault("duplicated_layer", "two blocks are one", ("duplicated_layer",), _duplicated_layer),
    Fault("label_leak", "the answer is in the input", ("label_leak",), _label_leak, "model"),
    Fault("uniform_attention", "queries of one block stay zero", ("uniform_attention",), _uniform_attention),
    Fault("cut_gradient", "no gradient passes below one block", ("vanishing_gradient", "untrained_layer"),
          _cut_gradient),
    Fault("dead_block", "one block adds nothing", ("dead_block",), _dead_block),
    Fault("loud_block", "feed-forward part of one block 1000 times too loud", ("exploding_signal",), _loud_block),
)}
"""All faults by name."""
